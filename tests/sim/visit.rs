//! A suspended session looks for its peer where the two first met. Whatever comes of that look, nothing stays behind.

use std::time::Duration;

use sealwire::{
    EndpointId, Error, Identity, PeerTrust, RoomId,
    crypto::{
        kdf::{self, PairingKind},
        secret::Secret,
    },
    protocol::{ChannelOffer, Delivery, Event, Input, LinkId, Meeting, Mode, Output, PayloadKind},
};

use super::{
    mallory::{Key, Mallory, Peer, Terms},
    victim::{Victim, one_blob, opened},
    world::{Seeded, World},
};

const SECRET: [u8; 32] = [5; 32];

/// Two that know each other: one in an open room with a pin, or a contact.
pub fn acquaintances(open: bool, seed: u64) -> (Victim, Mallory) {
    let [own, other] =
        [seed, seed + 1].map(|seed| Identity::generate_from(&mut Seeded::new(seed ^ 0xacc)));
    let peer = other.peer_id();
    let (meeting, terms) = if open {
        let room = "lobby".to_owned();
        let pinned = Some(peer);
        (Meeting::Open { room, pinned }, Terms::open("lobby"))
    } else {
        let mut keys = [*own.peer_id().as_bytes(), *peer.as_bytes()];
        keys.sort_unstable();
        let pairing = || {
            let secret = Secret::new(SECRET);
            kdf::pairing(PairingKind::Contact, &secret, keys.as_flattened())
        };
        let known = pairing();
        let terms = Terms {
            mode: Mode::Paired,
            room: RoomId(known.room.expect("a contact has a room")),
            psk_id: known.psk_id,
            psk: Some(*known.psk.expose()),
        };
        let meeting = Meeting::Contact {
            peer,
            trust: PeerTrust::Invited,
            pairing: pairing(),
        };
        (meeting, terms)
    };
    let victim = Victim::new(0x40, seed, own, meeting);
    let mallory = Mallory::new(0x80, seed + 2, terms).with_key(Key::of(&other));
    (victim, mallory)
}

/// The same after a session, whose transport is gone.
pub fn suspended(open: bool, seed: u64) -> (Victim, Mallory, Peer) {
    let (mut victim, mut mallory) = acquaintances(open, seed);
    let (mut peer, link) = victim.shake(&mut mallory);
    victim.open_link(link, mallory.fingerprint);
    victim.exchange_ready(&mut peer, link);
    lose(&mut victim, link);
    victim.give(Input::Discarded);
    (victim, mallory, peer)
}

pub fn lose(victim: &mut Victim, link: LinkId) -> Vec<Output> {
    let reason = Some(Error::Transport("no".into()));
    victim.give(Input::LinkClosed { link, reason })
}

/// What the two resume by, where the session waits.
pub fn resume_terms(victim: &Victim, peer: &Peer) -> Terms {
    let (session, _) = victim.machine.session().expect("a session");
    let pairing = kdf::pairing(PairingKind::Resume, &peer.epoch.resume, &session);
    Terms {
        mode: Mode::Paired,
        room: victim.room,
        psk_id: pairing.psk_id,
        psk: Some(*pairing.psk.expose()),
    }
}

/// Somebody comes to where the two first met, and the session looks there.
#[track_caller]
fn look(victim: &mut Victim, home: RoomId, newcomer: u8) {
    victim.watches(EndpointId([newcomer; 16]));
    victim.wait(Duration::from_secs(3));
    assert_eq!((victim.room, victim.joined), (home, true));
}

fn is_reset(victim: &Victim) -> bool {
    let reset = |event: &Event| matches!(event, Event::SessionReset { .. });
    victim.events.iter().any(reset)
}

/// The peer begins a handshake there, which ends in one of several ways.
#[track_caller]
fn fail(victim: &mut Victim, mallory: &mut Mallory, how: usize) {
    let mode = mallory.terms.mode;
    let link = if how < 4 {
        // The session initiates. In an open room it has made its choice, and its own offer is to come.
        mallory.endpoint = EndpointId([0xff; 16]);
        let mut out = victim.sees(mallory.endpoint);
        let mut link = opened(&out).first().copied();
        if let Some(link) = link {
            out = victim.describe(link, "actpass");
        }
        let payload = mallory.payload(PayloadKind::Hs2(mode));
        let hs2 = mallory.hs2(victim.endpoint, &one_blob(&out), &payload);
        let out = victim.blob(mallory.endpoint, &hs2.expect("an honest HS1").0);
        link = opened(&out).first().copied().or(link);
        link.expect("it has a link")
    } else {
        mallory.endpoint = EndpointId([0; 16]);
        victim.shake(mallory).1
    };
    match how % 4 {
        0 => drop(lose(victim, link)),
        1 => drop(victim.give(Input::PeerLeft(mallory.endpoint))),
        2 => drop(victim.wait(Duration::from_secs(31))),
        _ => drop(victim.give(Input::LinkForeign(link))),
    }
}

///
#[test]
fn a_look_for_a_restarted_peer_that_fails_leaves_nothing_behind() {
    for open in [true, false] {
        for how in 0..8 {
            // What no honest peer does on a link ends the session, once the handshake is complete.
            if how == 7 || (how == 3 && !open) {
                continue;
            }
            let (mut victim, mut mallory, _) = suspended(open, 500);
            let home = mallory.terms.room;
            let resume_room = victim.room;
            assert_ne!(home, resume_room);
            look(&mut victim, home, 0x21);
            fail(&mut victim, &mut mallory, how);
            victim.give(Input::Discarded);
            assert!(victim.laws.open_links().is_empty(), "{open} {how}");
            victim.wait(Duration::from_secs(20));
            assert_eq!(victim.room, resume_room, "{open} {how}");
            assert!(victim.joined && victim.failure().is_none());
            // The next look is a good one.
            look(&mut victim, home, 0x22);
            mallory.endpoint = EndpointId([0xfe; 16]);
            let (mut peer, link) = victim.shake(&mut mallory);
            victim.give(Input::Discarded);
            assert!(!is_reset(&victim), "not before it is established");
            victim.open_link(link, mallory.fingerprint);
            victim.exchange_ready(&mut peer, link);
            assert!(is_reset(&victim), "{open} {how}: {:?}", victim.events);
        }
    }
}

///
#[test]
fn somebody_who_came_while_the_session_tried_to_resume_is_looked_for_after_it_failed() {
    let (mut victim, mut mallory, peer) = suspended(false, 510);
    let home = mallory.terms.room;
    mallory.terms = resume_terms(&victim, &peer);
    mallory.endpoint = EndpointId([0xff; 16]);
    let (_, link) = victim.shake(&mut mallory);
    victim.watches(EndpointId([0x21; 16]));
    victim.wait(Duration::from_secs(3));
    lose(&mut victim, link);
    victim.give(Input::Discarded);
    let out = victim.wait(Duration::from_secs(30));
    let looked = |output: &Output| matches!(output, Output::Join { room, .. } if *room == home);
    assert!(out.iter().any(looked), "{:?}", victim.events);
}

///
#[test]
fn a_peer_that_was_restarted_with_other_channels_is_met_again() {
    let mut world = World::new(520);
    let second = ChannelOffer {
        id: 2,
        delivery: Delivery::Reliable,
        label: "second".into(),
    };
    world.channels.push(second);
    let identities = [world.identity(), world.identity()];
    for (identity, peer) in identities.iter().zip(identities.iter().rev()) {
        world.add_contact(identity.clone(), peer.peer_id(), SECRET);
    }
    world.establish();
    world.kill(1);
    world.channels.pop();
    let again = world.add_contact(identities[1].clone(), identities[0].peer_id(), SECRET);
    assert!(!world.nodes[0].machine.is_replacing());
    assert!(world.run_until(|world| world.nodes[0].machine.is_replacing()));
    assert!(
        world.run_until(|world| world.is_established(again)),
        "{:?}",
        world.nodes[0].events
    );
    world.run(Duration::from_secs(1));
    assert!(!world.nodes[0].machine.is_replacing());
    world.send(0, "to you");
    world.send(again, "to me");
    world.run(Duration::from_secs(2));
    assert_eq!(
        (world.bodies(0), world.bodies(again)),
        (vec!["to me".into()], vec!["to you".into()])
    );
}

///
#[test]
fn a_session_that_resumed_leaves_where_the_two_first_met() {
    let mut world = World::new(530);
    let identities = [world.identity(), world.identity()];
    for (identity, peer) in identities.iter().zip(identities.iter().rev()) {
        world.add_contact(identity.clone(), peer.peer_id(), SECRET);
    }
    world.establish();
    world.cut(0);
    world.run(Duration::from_millis(5));
    assert!(world.nodes[0].watching.is_some());
    let connected = |world: &World<'_>| world.nodes.iter().all(|node| node.machine.is_connected());
    assert!(world.run_until(connected));
    world.run(Duration::from_millis(100));
    assert_eq!([0, 1].map(|node| world.nodes[node].watching), [None; 2]);
}
