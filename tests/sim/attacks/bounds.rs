//! How much a machine holds and does for whoever floods it (A17, K19, R-64 to R-69), and who wins among several.

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity,
    protocol::{Event, Input, LinkId, Meeting, Mode, Output, Payload, PayloadKind, SigSender},
};

use crate::{
    mallory::{Key, Mallory, Terms, candidate},
    victim::{SCENES, Seat, Victim, blobs, frames, knock, one_blob, opened},
    world::{Case, Honest, Seeded, World},
};

const BUSY: [u8; 2] = [5, 5];

pub fn floods(victim: &Victim) -> usize {
    victim
        .events
        .iter()
        .filter(|event| matches!(event, Event::Flood))
        .count()
}

/// Another member of the same room, who knows what the first knows.
fn another(mallory: &Mallory, endpoint: u8, seed: u64) -> Mallory {
    Mallory::new(endpoint, seed, mallory.terms.clone())
}

/// What a machine holds, measured by what it shows of itself.
fn size(victim: &Victim) -> usize {
    format!("{:?}", victim.machine).len()
}

///
#[test]
fn a17_at_most_8_attempts_are_pending_and_2_have_links() {
    let (mut victim, mallory) = Victim::against(Seat::Inviter, false, 300);
    let mut links = Vec::new();
    for endpoint in 1..=20 {
        let (out, _) = knock(&mut victim, &mut another(&mallory, endpoint, 301));
        links.extend(opened(&out));
        assert!(victim.laws.open_links().len() <= 2);
        assert_eq!(
            floods(&victim),
            usize::from(endpoint > 8),
            "reported once a join"
        );
    }
    // The ninth takes the place of the first, and its link; and so on.
    assert_eq!(victim.machine.link(), None);
    victim.wait(Duration::from_millis(10_100));
    assert!(victim.laws.open_links().is_empty(), "all timed out");
    assert!(!victim.machine.is_ended());
}

///
#[test]
fn k19_an_evicted_attempt_may_come_again_and_its_old_state_is_gone() {
    let (mut victim, mallory) = Victim::against(Seat::Open, false, 302);
    let mut honest = another(&mallory, 0x70, 303);
    let (out, hands) = knock(&mut victim, &mut honest);
    let hs2 = one_blob(&out);
    for endpoint in 1..=8 {
        victim.wait(Duration::from_millis(300));
        knock(&mut victim, &mut another(&mallory, endpoint, 304));
    }
    let (hs3, _) = hands
        .hs3(&hs2, &honest.payload(PayloadKind::Hs3(Mode::Open)))
        .expect("an honest HS2");
    assert!(victim.blob(honest.endpoint, &hs3).is_empty(), "evicted");
    victim.wait(Duration::from_secs(1));
    let losers: Vec<EndpointId> = (2..=8).map(|byte| EndpointId([byte; 16])).collect();
    let (_, link) = victim.shake_with_losers(&mut honest, &losers);
    assert_eq!(victim.machine.link(), Some(link));
}

#[test]
fn a17_what_is_no_hs1_evicts_nobody() {
    // The server knows psk_id, and nothing that a paired HS1 is made with.
    let (mut victim, mallory) = Victim::against(Seat::Inviter, false, 305);
    let mut honest = another(&mallory, 0x70, 306);
    let (out, hands) = knock(&mut victim, &mut honest);
    let link = opened(&out)[0];
    for endpoint in 1..=7 {
        knock(&mut victim, &mut another(&mallory, endpoint, 307));
    }
    let mut forger = another(&mallory, 0x60, 308);
    forger.terms = forger.terms.without_secret();
    for endpoint in 0x30..0x60 {
        forger.endpoint = EndpointId([endpoint; 16]);
        let (out, _) = knock(&mut victim, &mut forger);
        assert!(blobs(&out).is_empty() && opened(&out).is_empty());
    }
    assert!(victim.laws.open_links().contains(&link));
    let hs2 = one_blob(&victim.describe(link, "active"));
    let (hs3, _) = hands
        .hs3(&hs2, &honest.payload(PayloadKind::Hs3(Mode::Paired)))
        .expect("an honest HS2");
    victim.blob(honest.endpoint, &hs3);
    assert_eq!(victim.machine.link(), Some(link));
}

///
#[test]
fn a17_an_open_room_answers_4_hs1_a_second_and_who_came_too_fast_may_come_again() {
    let (mut victim, mallory) = Victim::against(Seat::Open, false, 309);
    let mut answered = 0;
    for endpoint in 1..=7 {
        let (out, _) = knock(&mut victim, &mut another(&mallory, endpoint, 310));
        answered += blobs(&out).len();
    }
    assert_eq!((answered, floods(&victim)), (4, 1));
    victim.wait(Duration::from_secs(1));
    let (out, _) = knock(&mut victim, &mut another(&mallory, 7, 311));
    assert_eq!(blobs(&out).len(), 1);
}

///
#[test]
fn a17_ten_thousand_hs1_leave_memory_and_links_bounded_and_a_pair_still_meets() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 312);
        let payload = mallory.payload(PayloadKind::Hs1);
        let (true_one, _) = another(&mallory, 0x01, 313).hs1(victim.endpoint, &payload);
        let small = size(&victim);
        let (mut most, mut said) = (0, 0);
        for number in 0..10_000_u32 {
            // From 100 endpoints, then from ever new ones, some of which the server announces.
            let mut name = [0x01; 16];
            let distinct = if number < 5_000 { number % 100 } else { number };
            name[12..].copy_from_slice(&distinct.to_be_bytes());
            if number % 3 == 0 {
                name[0] = 0xf0;
                said += blobs(&victim.sees(EndpointId(name))).len();
            }
            let out = victim.blob(EndpointId(name), &true_one);
            said += blobs(&out).len();
            most = most.max(size(&victim));
            if number % 50 == 0 {
                victim.wait(Duration::from_millis(10));
            }
        }
        assert!(
            most < small + 150_000,
            "{seat:?} {initiates}: {most} bytes of {small}"
        );
        assert!(said < 2_000, "{said} blobs in answer");
        assert!(!victim.machine.is_ended());
        assert!(
            victim.events.len() < 3_000,
            "{} events",
            victim.events.len()
        );
        // The flood ends; what it left is tried in vain, and the next join starts anew.
        // (A redeemer's minute may be over by then.)
        if seat == Seat::Redeemer {
            continue;
        }
        let flooded = victim.endpoint;
        victim.wait(Duration::from_secs(65));
        victim.wait_until_joined();
        assert_ne!(victim.endpoint, flooded);
        mallory.endpoint = if initiates {
            EndpointId([0xff; 16])
        } else {
            EndpointId([0x00; 16])
        };
        let (_, link) = victim.shake(&mut mallory);
        assert_eq!(victim.machine.link(), Some(link));
    }
}

#[test]
fn a17_ten_thousand_members_that_the_server_invents_cost_no_more_than_a_few_attempts() {
    for (seat, initiates) in SCENES {
        let (mut victim, _) = Victim::against(seat, initiates, 314);
        let small = size(&victim);
        let mut said = 0;
        for number in 0..10_000_u32 {
            let mut name = [if number % 2 == 0 { 0x01 } else { 0xf0 }; 16];
            name[12..].copy_from_slice(&number.to_be_bytes());
            let mut out = victim.sees(EndpointId(name));
            if let Some(link) = opened(&out).first() {
                out = victim.describe(*link, "actpass");
            }
            said += blobs(&out).len();
        }
        assert_eq!(said, 8, "{seat:?}");
        assert!(size(&victim) < small + 150_000);
        victim.give(Input::Welcome {
            peers: (0..u16::MAX).map(|n| EndpointId([n as u8; 16])).collect(),
        });
        assert!(size(&victim) < small + 150_000);
    }
}

///
#[test]
fn a17_a_flood_of_one_room_leaves_a_pair_in_another_alone() {
    let mut world = World::of(Case::InviterInitiates, 315, Honest);
    let flooded = world.add_open("square");
    world.run(Duration::from_millis(10));
    let mut mallory = Mallory::new(0x01, 316, Terms::open("square"));
    let to = world.nodes[flooded].endpoint.expect("joined");
    for number in 0..1_000_u32 {
        mallory.endpoint.0[12..].copy_from_slice(&number.to_be_bytes());
        let (blob, _) = mallory.hs1(to, &[]);
        world.give(
            flooded,
            Input::Blob {
                from: mallory.endpoint,
                blob,
            },
        );
    }
    world.establish();
    assert_eq!(world.nodes[flooded].opened, 0, "no socket in an open room");
}

///
#[test]
fn an_attempt_that_fails_gives_its_link_to_the_next_in_line() {
    // Two holders of the secret fill both places with keys of low order, which fail where HS2 is written.
    let (mut victim, mallory) = Victim::against(Seat::Inviter, false, 317);
    let mut bad = Vec::new();
    for endpoint in [1, 2] {
        let mut member = another(&mallory, endpoint, 318);
        member.ephemeral = Some(Key::Point([0; 32]));
        bad.extend(opened(&knock(&mut victim, &mut member).0));
    }
    let mut honest = another(&mallory, 3, 319);
    let (out, hands) = knock(&mut victim, &mut honest);
    assert!(opened(&out).is_empty(), "it waits");
    let out = victim.describe(bad[0], "active");
    let link = *opened(&out).first().expect("its turn");
    let hs2 = one_blob(&victim.describe(link, "active"));
    let (hs3, _) = hands
        .hs3(&hs2, &honest.payload(PayloadKind::Hs3(Mode::Paired)))
        .expect("an honest HS2");
    victim.blob(honest.endpoint, &hs3);
    assert_eq!(victim.machine.link(), Some(link));
}

///
#[test]
fn the_first_to_commit_wins_and_the_others_are_told_that_we_are_busy() {
    for (seat, initiates) in SCENES
        .into_iter()
        .filter(|(seat, _)| *seat != Seat::Inviter)
    {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 320);
        // Two more attempts: one to us, one of ours.
        let mut low = another(&mallory, 0x01, 321);
        let high = EndpointId([0xfe; 16]);
        let (out, hands) = knock(&mut victim, &mut low);
        let low_link = opened(&out).first().copied();
        let out = match low_link {
            Some(link) => victim.describe(link, "active"),
            None => out,
        };
        let hs2 = one_blob(&out);
        let out = victim.sees(high);
        if let Some(link) = opened(&out).first() {
            victim.describe(*link, "actpass");
        }
        let (_, link) = victim.shake_with_losers(&mut mallory, &[low.endpoint, high]);
        // It is too late for both, and for whoever comes now.
        let (hs3, _) = hands
            .hs3(&hs2, &low.payload(PayloadKind::Hs3(low.terms.mode)))
            .expect("an honest HS2");
        assert!(victim.blob(low.endpoint, &hs3).is_empty());
        let (out, _) = knock(&mut victim, &mut another(&mallory, 0x02, 322));
        assert!(blobs(&out) == [BUSY]);
        assert!(victim.sees(EndpointId([0xfd; 16])).is_empty());
        assert_eq!(victim.machine.link(), Some(link));
        assert!(low_link.is_none_or(|link| !victim.laws.open_links().contains(&link)));
    }
}

///
#[test]
fn nobody_takes_the_place_of_a_committed_peer_while_the_offer_for_it_is_made() {
    // An open initiator commits at HS2; its offer takes up to 250 ms more.
    let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 323);
    let hs1 = one_blob(&victim.sees(mallory.endpoint));
    let payload = mallory.payload(PayloadKind::Hs2(Mode::Open));
    let (hs2, hands) = mallory
        .hs2(victim.endpoint, &hs1, &payload)
        .expect("an honest HS1");
    let link = opened(&victim.blob(mallory.endpoint, &hs2))[0];
    let (out, _) = knock(&mut victim, &mut another(&mallory, 0x01, 324));
    assert!(blobs(&out) == [BUSY]);
    assert!(victim.sees(EndpointId([0xf0; 16])).is_empty());
    let hs3 = one_blob(&victim.describe(link, "actpass"));
    assert!(hands.end(&hs3).is_some());
    assert_eq!(victim.machine.link(), Some(link));
}

///
#[test]
fn a_committed_open_initiator_whose_link_fails_tries_again_and_leaks_nothing() {
    for how in 0..4 {
        let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 325);
        let hs1 = one_blob(&victim.sees(mallory.endpoint));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Open));
        let (hs2, _) = mallory
            .hs2(victim.endpoint, &hs1, &payload)
            .expect("an honest HS1");
        let link = opened(&victim.blob(mallory.endpoint, &hs2))[0];
        match how {
            0 => drop(victim.give(Input::LinkClosed {
                link,
                reason: Some(Error::Transport("no".into())),
            })),
            1 => drop(victim.give(Input::PeerLeft(mallory.endpoint))),
            2 => drop(victim.wait(Duration::from_secs(10))),
            _ => drop(victim.give(Input::LinkForeign(link))),
        }
        assert!(victim.laws.open_links().is_empty(), "{how}");
        victim.wait(Duration::from_millis(1));
        victim.wait_until_joined();
        mallory.endpoint = EndpointId([0xff; 16]);
        victim.shake(&mut mallory);
    }
}

///
#[test]
fn an_offer_and_an_answer_that_are_made_at_the_same_time_do_not_mix() {
    let (mut victim, mallory) = Victim::against(Seat::Inviter, true, 337);
    let mut low = another(&mallory, 0x01, 338);
    let answer = opened(&knock(&mut victim, &mut low).0)[0];
    let offer = opened(&victim.sees(mallory.endpoint))[0];
    for (link, setup, peer, kind) in [
        (answer, "active", low.endpoint, 2),
        (offer, "actpass", mallory.endpoint, 1),
    ] {
        let out = victim.describe(link, setup);
        let [Output::SendBlob { to, blob }] = &out[..] else {
            panic!("one blob, not {out:?}");
        };
        assert_eq!((*to, blob[0]), (peer, kind));
    }
}

///
#[test]
fn what_happens_to_the_link_of_an_attempt_ends_that_attempt_alone() {
    let foreign = |link| Input::LinkForeign(link);
    let closed = |link| Input::LinkClosed { link, reason: None };
    let happenings: [fn(LinkId) -> Input; 2] = [foreign, closed];
    for happening in happenings {
        let (mut victim, mallory) = Victim::against(Seat::Inviter, false, 339);
        let mut members = [1, 2].map(|endpoint| another(&mallory, endpoint, 340));
        let [(first, _), (second, hands)] = members.each_mut().map(|one| knock(&mut victim, one));
        let [bad, good] = [first, second].map(|out| opened(&out)[0]);
        let out = victim.give(happening(bad));
        assert!(
            matches!(out[..], [Output::CloseLink { link, .. }] if link == bad),
            "{out:?}"
        );
        let hs2 = one_blob(&victim.describe(good, "active"));
        let payload = mallory.payload(PayloadKind::Hs3(Mode::Paired));
        let (hs3, _) = hands.hs3(&hs2, &payload).expect("an honest HS2");
        victim.blob(members[1].endpoint, &hs3);
        assert_eq!(victim.machine.link(), Some(good));
    }
}

///
#[test]
fn no_more_than_64_signaling_records_act() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, true, 328);
    let (mut peer, link) = victim.shake(&mut mallory);
    for _ in 0..200 {
        let sig = peer.sig(&[0; 256]);
        assert!(victim.blob(mallory.endpoint, &sig).is_empty());
    }
    let late = Payload {
        candidates: vec![candidate(9)],
        ..Payload::default()
    };
    let sig = peer.sig(&late.encode(PayloadKind::Sig(SigSender::Other)).0);
    assert!(victim.blob(mallory.endpoint, &sig).is_empty());
    assert_eq!(victim.machine.link(), Some(link));
}

///
#[test]
fn no_signaling_record_acts_after_the_session_is_established() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 329);
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        for payload in [
            Payload {
                bye: Some(sealwire::protocol::Bye(3)),
                ..Payload::default()
            },
            Payload::default(),
        ] {
            let sig = peer.sig(&payload.encode(PayloadKind::Sig(SigSender::Other)).0);
            assert!(victim.blob(mallory.endpoint, &sig).is_empty());
        }
        let own = victim.give(Input::LinkCandidate {
            link,
            candidate: candidate(1),
        });
        assert!(own.is_empty());
    }
}

#[test]
fn nothing_secret_and_no_address_shows_in_debug_output() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 330);
        let mut shown = vec![format!("{:?}", victim.machine)];
        if initiates {
            let out = victim.sees(mallory.endpoint);
            if let Some(link) = opened(&out).first() {
                victim.describe(*link, "actpass");
                let offered = format!("{:?}", victim.machine);
                assert!(offered.contains("Offer { link: LinkId(1), described: true, used: false"));
                shown.push(offered);
            }
            (victim, mallory) = Victim::against(seat, initiates, 330);
        }
        victim.shake(&mut mallory);
        shown.push(format!("{:?}", victim.machine));
        for text in shown {
            for secret in ["ice-", "fingerprint", "127.0.0.1", "candidate:", "v=0"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

#[test]
fn the_same_input_after_the_end_says_nothing() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Inviter, true, 331);
    victim.give(Input::LinkForeign(link));
    assert!(victim.machine.is_ended());
    let frame = peer.frame(1, crate::mallory::DATA, b"x");
    assert!(frames(&victim.frame(link, 1, &frame)).is_empty());
    for input in [
        Input::Start,
        Input::Tick,
        Input::SignalingLost,
        Input::LinkWritable { link, bytes: 1 },
    ] {
        assert!(victim.give(input).is_empty());
    }
    assert_eq!(victim.machine.next_timeout(), None);
}

///
#[test]
fn a_pinned_key_in_an_open_room_is_met_in_every_role() {
    for initiates in [true, false] {
        let identities = [332, 333].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
        let pinned = Some(identities[1].peer_id());
        let meeting = Meeting::Open {
            room: "lobby".into(),
            pinned,
        };
        let own = if initiates { 0x40 } else { 0xc0 };
        let mut victim = Victim::new(own, 334, identities[0].clone(), meeting);
        let mut mallory =
            Mallory::new(0x80, 335, Terms::open("lobby")).with_key(Key::of(&identities[1]));
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
    }
}
