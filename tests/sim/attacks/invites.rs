//! Single use of an invite: everybody here holds its secret. Who claims it, who tries again, who comes too late.

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity, PeerId,
    error::{Evidence, HandshakeStage, RefusalCode},
    protocol::{Event, Input, LinkId, Meeting, Mode, Output, PayloadKind},
};

use crate::{
    mallory::{Mallory, Peer, READY, READY_BODY, READY_OK, Terms},
    victim::{Victim, answered, blobs, one_blob, opened},
    world::{EPOCH_MS, Seeded, invite, parse},
};

const USED: [u8; 2] = [5, 3];
const EXPIRED: [u8; 2] = [5, 4];

/// An inviter in the middle of the endpoint ids, and the terms of those who hold its invite.
fn inviter(seed: u64, expires_in: u32) -> (Victim, Terms) {
    let identity = Identity::generate_from(&mut Seeded::new(seed));
    let expires = if expires_in == 0 {
        0
    } else {
        (EPOCH_MS / 1_000) as u32 + expires_in
    };
    let text = invite(&identity, expires, seed);
    (
        Victim::new(0x80, seed, identity, Meeting::Invite(parse(&text))),
        Terms::invite(&text),
    )
}

/// Somebody who holds the invite: the same key for the same seed.
fn holder(terms: &Terms, endpoint: u8, seed: u64) -> Mallory {
    Mallory::new(endpoint, seed, terms.clone())
}

/// A holder's handshake up to the message that shows its key to the inviter: what came of that.
fn show_key(victim: &mut Victim, holder: &mut Mallory) -> (Vec<Output>, Option<Peer>) {
    if victim.endpoint < holder.endpoint {
        let mut out = victim.sees(holder.endpoint);
        if let Some(link) = opened(&out).first() {
            out = victim.describe(*link, "actpass");
        }
        let payload = holder.payload(PayloadKind::Hs2(Mode::Paired));
        let (hs2, _) = holder
            .hs2(victim.endpoint, &one_blob(&out), &payload)
            .expect("an honest HS1");
        (victim.blob(holder.endpoint, &hs2), None)
    } else {
        let (hs1, hands) = holder.hs1(victim.endpoint, &holder.payload(PayloadKind::Hs1));
        let link = opened(&victim.blob(holder.endpoint, &hs1))[0];
        let hs2 = one_blob(&victim.describe(link, "active"));
        let (hs3, peer) = hands
            .hs3(&hs2, &holder.payload(PayloadKind::Hs3(Mode::Paired)))
            .expect("an honest HS2");
        (victim.blob(holder.endpoint, &hs3), Some(peer))
    }
}

fn contested(victim: &Victim) -> Vec<(PeerId, PeerId)> {
    let pair = |event: &Event| match event {
        Event::InviteContested { first, second } => Some((*first, *second)),
        _ => None,
    };
    victim.events.iter().filter_map(pair).collect()
}

fn already_used(victim: &Victim) -> usize {
    victim
        .events
        .iter()
        .filter(|event| matches!(event, Event::InviteAlreadyUsed))
        .count()
}

fn joins(out: &[Output]) -> usize {
    out.iter()
        .filter(|output| matches!(output, Output::Join { .. }))
        .count()
}

#[track_caller]
fn bring_up(victim: &mut Victim, holder: &Mallory, peer: &mut Peer, link: LinkId) {
    victim.open_link(link, holder.fingerprint);
    victim.exchange_ready(peer, link);
}

/// Endpoint bytes of two holders, in every combination of roles.
const ROLES: [(u8, u8); 4] = [(0x10, 0x20), (0x10, 0xe0), (0xe0, 0x10), (0xe0, 0xf0)];

///
#[test]
fn another_key_is_refused_while_the_invite_is_claimed_and_both_keys_are_reported() {
    for (first_at, second_at) in ROLES {
        let (mut victim, terms) = inviter(200, 0);
        let mut first = holder(&terms, first_at, 201);
        let mut second = holder(&terms, second_at, 202);
        let (mut peer, link) = victim.shake(&mut first);
        let (out, refused) = show_key(&mut victim, &mut second);
        assert_eq!(
            contested(&victim),
            [(first.key.peer_id(), second.key.peer_id())]
        );
        let said = blobs(&out);
        match refused {
            // A responder says so under its keys first, and hints after.
            Some(refused) => {
                assert_eq!(said.len(), 2);
                let bye = refused
                    .read_sig(Mode::Paired, &said[0])
                    .expect("authenticated")
                    .bye
                    .expect("a BYE");
                assert_eq!(
                    (bye.0, &said[1][..]),
                    (RefusalCode::Used.to_wire(), &USED[..])
                );
            }
            // An initiator sends no HS3.
            None => assert_eq!(said, [USED]),
        }
        assert!(
            answered(&out).is_none(),
            "the second key's description reaches no stack"
        );
        bring_up(&mut victim, &first, &mut peer, link);
        assert!(victim.failure().is_none());
    }
}

#[test]
fn a_refused_key_may_show_itself_again_from_elsewhere_and_is_refused_again() {
    let (mut victim, terms) = inviter(203, 0);
    victim.shake(&mut holder(&terms, 0x10, 204));
    for endpoint in [0x20, 0xe0, 0x21, 0xe1] {
        show_key(&mut victim, &mut holder(&terms, endpoint, 205));
    }
    assert_eq!(contested(&victim).len(), 4);
}

///
#[test]
fn the_claimed_key_may_try_again_from_elsewhere_and_its_new_attempt_ends_the_old_one() {
    for (first_at, second_at) in [(0x10, 0x20), (0x10, 0xe0), (0xe0, 0x10)] {
        let (mut victim, terms) = inviter(206, 0);
        let mut first = holder(&terms, first_at, 207);
        let (mut old, old_link) = victim.shake(&mut first);
        let mut again = holder(&terms, second_at, 207);
        let (mut peer, link) = victim.shake(&mut again);
        assert_ne!(link, old_link);
        assert!(
            !victim.laws.open_links().contains(&old_link),
            "{first_at:#x}, {second_at:#x}"
        );
        // What is left of the old one is nothing.
        let ready = old.frame(0, READY, READY_BODY);
        assert!(victim.frame(old_link, 0, &ready).is_empty());
        assert!(victim.open_link(old_link, first.fingerprint).is_empty());
        assert!(
            victim
                .give(Input::LinkClosed {
                    link: old_link,
                    reason: None
                })
                .is_empty()
        );
        bring_up(&mut victim, &again, &mut peer, link);
        assert_eq!(contested(&victim), []);
    }
}

///
#[test]
fn an_initiator_whose_offer_is_used_comes_again_at_once_and_keeps_the_claim() {
    let (mut victim, terms) = inviter(208, 0);
    let (_, old_link) = victim.shake(&mut holder(&terms, 0xe0, 209));
    let before = victim.endpoint;
    let (out, _) = show_key(&mut victim, &mut holder(&terms, 0xf0, 209));
    assert!(blobs(&out).is_empty(), "no HS3");
    assert_eq!(joins(&out), 1);
    assert_ne!(victim.endpoint, before);
    assert!(!victim.laws.open_links().contains(&old_link));
    victim.give(Input::Welcome { peers: Vec::new() });
    // The claim is still the first key's.
    let low = EndpointId([0; 16]);
    let mut other = holder(&terms, 0x00, 210);
    assert!(victim.endpoint > low);
    show_key(&mut victim, &mut other);
    assert_eq!(contested(&victim).len(), 1);
    let mut again = holder(&terms, 0x01, 209);
    let (mut peer, link) = victim.shake(&mut again);
    bring_up(&mut victim, &again, &mut peer, link);
}

///
#[test]
fn a_left_of_the_claimant_ends_its_attempt_at_once_while_no_channel_is_open() {
    for endpoint in [0x10, 0xe0] {
        let (mut victim, terms) = inviter(211, 0);
        let mut first = holder(&terms, endpoint, 212);
        let (_, link) = victim.shake(&mut first);
        victim.give(Input::PeerLeft(first.endpoint));
        assert!(!victim.laws.open_links().contains(&link));
        let out = victim.wait(Duration::from_secs(8));
        assert_eq!(joins(&out), 1, "it rejoins within 8 s");
        let (mut victim, terms) = inviter(211, 0);
        let mut first = holder(&terms, endpoint, 212);
        let (mut peer, link) = victim.shake(&mut first);
        victim.open_link(link, first.fingerprint);
        assert!(victim.give(Input::PeerLeft(first.endpoint)).is_empty());
        victim.exchange_ready(&mut peer, link);
    }
}

///
#[test]
fn a_peer_that_leaves_after_long_tries_gave_up_on_the_connection() {
    let stage = HandshakeStage::Connect;
    for (after, error) in [
        (Duration::ZERO, Error::HandshakeFailed { stage }),
        (Duration::from_secs(29), Error::Timeout { stage }),
    ] {
        let (mut victim, terms) = inviter(220, 0);
        let mut first = holder(&terms, 0x10, 221);
        victim.shake(&mut first);
        victim.wait(after);
        victim.give(Input::PeerLeft(first.endpoint));
        let told =
            |event: &Event| matches!(event, Event::Retrying { error: told } if *told == error);
        assert!(victim.events.iter().any(told));
    }
}

///
#[test]
fn a_claim_without_ready_is_open_again_after_30_seconds() {
    for (first_at, second_at) in ROLES {
        for left_early in [false, true] {
            let (mut victim, terms) = inviter(213, 0);
            let mut first = holder(&terms, first_at, 214);
            victim.shake(&mut first);
            if left_early {
                victim.give(Input::PeerLeft(first.endpoint));
            }
            victim.wait(Duration::from_millis(29_999));
            if left_early {
                show_key(&mut victim, &mut holder(&terms, second_at, 215));
                assert_eq!(contested(&victim).len(), 1, "29 s");
            }
            // Until both the claim is over and it has joined again.
            victim.wait(Duration::from_millis(1));
            victim.wait_until_joined();
            let mut second = holder(&terms, second_at ^ 1, 216);
            let (mut peer, link) = victim.shake(&mut second);
            bring_up(&mut victim, &second, &mut peer, link);
            assert_eq!(contested(&victim).len(), usize::from(left_early));
        }
    }
}

///
#[test]
fn a_claimant_that_tries_again_and_again_holds_the_invite_no_longer_than_30_seconds() {
    let (mut victim, terms) = inviter(217, 0);
    victim.shake(&mut holder(&terms, 0x10, 218));
    for endpoint in 0x11..0x16 {
        victim.wait(Duration::from_secs(5));
        show_key(&mut victim, &mut holder(&terms, endpoint, 218));
    }
    victim.wait(Duration::from_secs(5));
    victim.wait_until_joined();
    let mut honest = holder(&terms, 0x00, 219);
    let (mut peer, link) = victim.shake(&mut honest);
    bring_up(&mut victim, &honest, &mut peer, link);
    assert_eq!(contested(&victim), []);
}

#[test]
fn an_attempt_that_began_before_its_claim_ran_out_goes_on_until_another_key_comes() {
    for overtaken in [false, true] {
        let (mut victim, terms) = inviter(217, 0);
        victim.shake(&mut holder(&terms, 0x10, 218));
        victim.wait(Duration::from_secs(25));
        let mut again = holder(&terms, 0x11, 218);
        let (mut peer, link) = victim.shake(&mut again);
        victim.wait(Duration::from_secs(10));
        if overtaken {
            let mut other = holder(&terms, 0x12, 219);
            let (mut other_peer, other_link) = victim.shake(&mut other);
            assert!(!victim.laws.open_links().contains(&link));
            assert_eq!(contested(&victim), []);
            show_key(&mut victim, &mut holder(&terms, 0x13, 218));
            assert_eq!(
                contested(&victim),
                [(other.key.peer_id(), again.key.peer_id())]
            );
            bring_up(&mut victim, &other, &mut other_peer, other_link);
        } else {
            bring_up(&mut victim, &again, &mut peer, link);
        }
    }
}

///
#[test]
fn a20_after_ready_the_invite_is_used_and_whoever_comes_is_told_once() {
    for own in [0x10, 0xe0] {
        let (mut victim, terms) = inviter(220, 0);
        let mut first = holder(&terms, own, 221);
        let (mut peer, link) = victim.shake(&mut first);
        bring_up(&mut victim, &first, &mut peer, link);
        for (count, endpoint) in [0x20, 0x21, 0xf0].into_iter().enumerate() {
            let late = holder(&terms, endpoint, 222);
            assert_eq!(told(&victim.watches(late.endpoint)), [USED]);
            assert_eq!(already_used(&victim), count + 1);
            assert!(victim.watches(late.endpoint).is_empty(), "once");
        }
        assert!(
            victim.watches(first.endpoint).is_empty(),
            "the session's own peer is not told"
        );
        assert!(victim.failure().is_none());
    }
}

#[test]
fn attempts_under_way_when_the_invite_is_used_are_told_and_their_links_closed() {
    let (mut victim, terms) = inviter(223, 0);
    let mut first = holder(&terms, 0x10, 224);
    let (mut peer, link) = victim.shake(&mut first);
    // One that answers us, one that we answer, one that has no link yet.
    let offer = opened(&victim.sees(EndpointId([0xf0; 16])))[0];
    victim.describe(offer, "actpass");
    for endpoint in [0x20, 0x21] {
        let mut other = holder(&terms, endpoint, 225);
        let payload = other.payload(PayloadKind::Hs1);
        let (hs1, _) = other.hs1(victim.endpoint, &payload);
        victim.blob(other.endpoint, &hs1);
    }
    victim.open_link(link, first.fingerprint);
    let ready = peer.frame(0, READY, READY_BODY);
    let out = victim.frame(link, 0, &ready);
    assert_eq!(blobs(&out), [USED; 3]);
    assert!(
        opened(&out).is_empty(),
        "no link is made for those who lost"
    );
    let ok = peer.frame(0, READY_OK, b"");
    victim.frame(link, 0, &ok);
    assert!(victim.is_established());
    let open: Vec<LinkId> = victim.laws.open_links().iter().copied().collect();
    assert_eq!(open, [link], "only the session's link is left");
}

///
#[test]
fn a_session_that_is_lost_between_ready_and_established_ends_for_its_secret_is_gone() {
    for how in 0..3 {
        let (mut victim, terms) = inviter(226, 0);
        let mut first = holder(&terms, 0x10, 227);
        let (mut peer, link) = victim.shake(&mut first);
        victim.open_link(link, first.fingerprint);
        let ready = peer.frame(0, READY, READY_BODY);
        victim.frame(link, 0, &ready);
        match how {
            0 => drop(victim.give(Input::LinkClosed { link, reason: None })),
            1 => drop(victim.wait(Duration::from_secs(31))),
            // A signaling record that opens and is none.
            _ => drop(victim.blob(first.endpoint, &peer.sig(&[1; 256]))),
        }
        assert!(victim.failure().is_some(), "{how}: {:?}", victim.events);
        assert!(victim.machine.is_ended());
    }
}

///
#[test]
fn a_used_inviter_listens_for_a_day_and_comes_back_when_the_server_lost_it() {
    let (mut victim, terms) = inviter(228, 0);
    let mut first = holder(&terms, 0x10, 229);
    let (mut peer, link) = victim.shake(&mut first);
    bring_up(&mut victim, &first, &mut peer, link);
    let watches = |out: &[Output]| {
        out.iter()
            .any(|output| matches!(output, Output::Watch { .. }))
    };
    assert!(watches(&victim.give(Input::WatchLost)));
    let left = |out: &[Output]| out.iter().any(|output| matches!(output, Output::Unwatch));
    keep_alive(
        &mut victim,
        &mut peer,
        link,
        Duration::from_secs(24 * 60 * 60 - 60),
    );
    assert_eq!(told(&victim.watches(EndpointId([0x77; 16]))), [USED]);
    let out = keep_alive(&mut victim, &mut peer, link, Duration::from_secs(120));
    assert!(left(&out), "the day is over");
    assert!(!victim.machine.is_ended(), "and the session goes on");
}

/// Lets time pass while the peer says something every ten seconds.
fn keep_alive(victim: &mut Victim, peer: &mut Peer, link: LinkId, span: Duration) -> Vec<Output> {
    let mut all = Vec::new();
    let end = victim.now + span;
    while victim.now < end {
        all.extend(victim.wait(Duration::from_secs(10)));
        let frame = peer.frame(0, crate::mallory::DUMMY, b"");
        all.extend(victim.frame(link, 0, &frame));
    }
    all
}

#[test]
fn an_inviter_that_lost_the_server_while_connecting_listens_afterwards() {
    let (mut victim, terms) = inviter(230, 0);
    let mut first = holder(&terms, 0x10, 231);
    let (mut peer, link) = victim.shake(&mut first);
    assert_eq!(
        joins(&victim.give(Input::SignalingLost)),
        0,
        "the handshake is complete: it may come up without"
    );
    victim.open_link(link, first.fingerprint);
    let ready = peer.frame(0, READY, READY_BODY);
    let mut out = victim.frame(link, 0, &ready);
    let ok = peer.frame(0, READY_OK, b"");
    out.extend(victim.frame(link, 0, &ok));
    assert_eq!(joins(&out), 1, "where the session would resume");
    assert_eq!(told(&victim.watches(EndpointId([0x77; 16]))), [USED]);
}

/// What was said in the room of a used invite.
fn told(out: &[Output]) -> Vec<Vec<u8>> {
    out.iter()
        .filter_map(|output| match output {
            Output::WatchBlob { blob, .. } => Some(blob.clone()),
            _ => None,
        })
        .collect()
}

///
#[test]
fn an_invite_that_expires_unclaimed_ends_the_wait() {
    let (mut victim, terms) = inviter(232, 100);
    // Even with an attempt under way.
    victim.wait(Duration::from_secs(95));
    let mut late = holder(&terms, 0x10, 233);
    let payload = late.payload(PayloadKind::Hs1);
    let (hs1, _) = late.hs1(victim.endpoint, &payload);
    victim.blob(late.endpoint, &hs1);
    victim.wait(Duration::from_millis(3_999));
    assert_eq!(victim.failure(), None);
    victim.wait(Duration::from_millis(1));
    assert_eq!(
        victim.failure(),
        Some(&Error::InviteExpired {
            evidence: Evidence::Authenticated
        })
    );
    assert!(victim.machine.is_ended());
}

///
#[test]
fn a_claim_after_expiry_is_refused_by_the_inviters_clock() {
    for endpoint in [0x10, 0xe0] {
        let (mut victim, terms) = inviter(234, 100);
        let mut late = holder(&terms, endpoint, 235);
        // The key shows in the very input in which the clock has passed: the timers did not run before it.
        let (message, hands) = if endpoint < 0x80 {
            let payload = late.payload(PayloadKind::Hs1);
            let (hs1, hands) = late.hs1(victim.endpoint, &payload);
            let link = opened(&victim.blob(late.endpoint, &hs1))[0];
            let hs2 = one_blob(&victim.describe(link, "active"));
            let payload = late.payload(PayloadKind::Hs3(Mode::Paired));
            let (hs3, peer) = hands.hs3(&hs2, &payload).expect("an honest HS2");
            (hs3, Some(peer))
        } else {
            let link = opened(&victim.sees(late.endpoint))[0];
            let hs1 = one_blob(&victim.describe(link, "actpass"));
            let payload = late.payload(PayloadKind::Hs2(Mode::Paired));
            (
                late.hs2(victim.endpoint, &hs1, &payload)
                    .expect("an honest HS1")
                    .0,
                None,
            )
        };
        victim.now += Duration::from_secs(100);
        let said = blobs(&victim.blob(late.endpoint, &message));
        match hands {
            Some(peer) => {
                let bye = peer
                    .read_sig(Mode::Paired, &said[0])
                    .expect("authenticated")
                    .bye
                    .expect("a BYE");
                assert_eq!(
                    (bye.0, &said[1][..]),
                    (RefusalCode::Expired.to_wire(), &EXPIRED[..])
                );
            }
            None => assert_eq!(said, [EXPIRED]),
        }
        assert!(!victim.is_established());
    }
}

///
#[test]
fn a_claim_before_expiry_may_come_up_after_it() {
    let (mut victim, terms) = inviter(236, 100);
    victim.wait(Duration::from_secs(90));
    let mut first = holder(&terms, 0x10, 237);
    let (mut peer, link) = victim.shake(&mut first);
    victim.wait(Duration::from_secs(20));
    bring_up(&mut victim, &first, &mut peer, link);
    assert!(!victim.machine.is_ended());
    victim.wait(Duration::from_secs(1));
    assert!(
        victim.watches(EndpointId([0x77; 16])).is_empty(),
        "nobody listens past expiry"
    );
}

#[test]
fn a_machine_that_slept_past_its_rejoin_and_its_invites_expiry_joins_nothing() {
    let (mut victim, terms) = inviter(238, 100);
    let mut first = holder(&terms, 0x10, 239);
    victim.shake(&mut first);
    victim.give(Input::PeerLeft(first.endpoint));
    victim.wait(Duration::from_millis(400));
    victim.now += Duration::from_secs(1_000);
    let out = victim.give(Input::Tick);
    assert_eq!(joins(&out), 0, "{out:?}");
    let out = victim.give(Input::Tick);
    assert_eq!(joins(&out), 0, "{out:?}");
}

///
#[test]
fn a_joiner_refuses_an_invite_only_300_seconds_after_its_expiry() {
    let identities = [240, 241].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
    let start = (EPOCH_MS / 1_000) as u32 + 1;
    for (expires, good) in [
        (start - 300, true),
        (start - 301, false),
        (1, false),
        (0, true),
        (start + 1, true),
    ] {
        let text = invite(&identities[0], expires, 242);
        let victim = Victim::new(
            0x80,
            243,
            identities[1].clone(),
            Meeting::Redeem(parse(&text)),
        );
        let expired = Error::InviteExpired {
            evidence: Evidence::Authenticated,
        };
        assert_eq!(victim.failure(), (!good).then_some(&expired));
    }
}

#[test]
fn a20_a_redeemer_that_is_told_so_under_keys_ends_and_one_that_is_hinted_only_waits_2_seconds() {
    for seed in 0..2 {
        let mut world = crate::world::World::new(244 + seed);
        let identities = [(); 3].map(|()| world.identity());
        let text = world.invite(&identities[0]);
        let [own, first, second] = identities;
        let trust = sealwire::MinTrust::Invited;
        world.add(own, Meeting::Invite(parse(&text)), trust);
        world.add(first, Meeting::Redeem(parse(&text)), trust);
        world.establish();
        world.add(second, Meeting::Redeem(parse(&text)), trust);
        world.run(Duration::from_secs(15));
        assert_eq!(
            world.failure(2),
            Some(&Error::InviteUsed {
                evidence: Evidence::Hint
            })
        );
        let told = world.nodes[0]
            .events
            .iter()
            .filter(|event| matches!(event, Event::InviteAlreadyUsed))
            .count();
        assert_eq!(told, 1);
        assert_eq!(world.failure(0), None);
    }
}

#[test]
fn two_redeemers_at_once_one_wins_and_the_other_is_told() {
    for seed in 0..20 {
        let mut world = crate::world::World::new(250 + seed);
        let identities = [(); 3].map(|()| world.identity());
        let text = world.invite(&identities[0]);
        let [own, first, second] = identities;
        let trust = sealwire::MinTrust::Invited;
        world.add(own, Meeting::Invite(parse(&text)), trust);
        for identity in [first, second] {
            world.add(identity, Meeting::Redeem(parse(&text)), trust);
        }
        world.run(Duration::from_secs(60));
        let up: Vec<usize> = (1..3).filter(|&node| world.is_established(node)).collect();
        assert!(
            world.is_established(0) && up.len() == 1,
            "seed {seed}: {up:?}"
        );
        let loser = 3 - up[0];
        let told = matches!(
            world.failure(loser),
            Some(
                Error::InviteUsed { .. }
                    | Error::Refused {
                        code: RefusalCode::Used,
                        ..
                    }
            )
        );
        assert!(told, "seed {seed}: {:?}", world.nodes[loser].events);
        let reported = world.nodes[0].events.iter().any(|event| {
            matches!(
                event,
                Event::InviteContested { .. } | Event::InviteAlreadyUsed
            )
        });
        assert!(reported, "seed {seed}: {:?}", world.nodes[0].events);
    }
}

///
#[test]
fn a20_a_used_invite_is_watched_again_after_the_session_rested() {
    let mut world = crate::world::World::new(260);
    let identities = [(); 4].map(|()| world.identity());
    let text = world.invite(&identities[0]);
    let [own, first, second, third] = identities;
    let trust = sealwire::MinTrust::Invited;
    world.add(own, Meeting::Invite(parse(&text)), trust);
    world.add(first, Meeting::Redeem(parse(&text)), trust);
    world.establish();
    let told = |world: &crate::world::World<'_>| {
        let events = world.nodes[0].events.iter();
        events
            .filter(|event| matches!(event, Event::InviteAlreadyUsed))
            .count()
    };
    world.give(0, Input::Suspend);
    world.run(Duration::from_secs(5));
    assert_eq!(world.nodes[0].watching, None, "it rests");
    world.give(0, Input::WatchLost);
    assert_eq!(world.nodes[0].watching, None, "it still rests");
    // Somebody comes meanwhile, and somebody after it.
    world.add(second, Meeting::Redeem(parse(&text)), trust);
    world.run(Duration::from_secs(5));
    assert_eq!(told(&world), 0);
    world.give(0, Input::Resume);
    world.run(Duration::from_secs(30));
    let used = Error::InviteUsed {
        evidence: Evidence::Hint,
    };
    assert_eq!(world.failure(2), Some(&used));
    let before = told(&world);
    assert!(before >= 1);
    world.give(0, Input::WatchLost);
    world.add(third, Meeting::Redeem(parse(&text)), trust);
    world.run(Duration::from_secs(30));
    assert_eq!(world.failure(3), Some(&used));
    assert_eq!(told(&world), before + 1, "once an endpoint");
    assert_eq!(world.failure(0), None);
    // Also when the transport is lost without a rest.
    world.cut(0);
    world.run(Duration::from_secs(10));
    let late = EndpointId([0x77; 16]);
    world.give(0, Input::Watched(late));
    world.give(0, Input::Watched(late));
    assert_eq!(told(&world), before + 2);
}
