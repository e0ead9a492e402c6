//! A session that loses its transport, or has none: who may continue it, when it looks elsewhere, and how it ends.

use std::time::Duration;

use sealwire::{
    CloseCode, Config, EndpointId, Error, Identity,
    protocol::{Event, Input, LinkId, Mode, Output, PayloadKind},
};

use super::{
    mallory::{Key, Mallory},
    victim::{Seat, Victim, answered, blobs, frames, knock, one_blob, opened},
    visit::{acquaintances, lose, resume_terms, suspended},
    world::Seeded,
};

/// A member who knows what the two meet by shows its key.
#[track_caller]
fn show_key(victim: &mut Victim, mallory: &mut Mallory) -> Vec<Output> {
    if victim.endpoint < mallory.endpoint {
        let link = opened(&victim.sees(mallory.endpoint))[0];
        let hs1 = one_blob(&victim.describe(link, "actpass"));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
        let hs2 = mallory.hs2(victim.endpoint, &hs1, &payload);
        return victim.blob(mallory.endpoint, &hs2.expect("an honest HS1").0);
    }
    let (out, hands) = knock(victim, mallory);
    let link = opened(&out)[0];
    let hs2 = one_blob(&victim.describe(link, "active"));
    let payload = mallory.payload(PayloadKind::Hs3(Mode::Paired));
    let (hs3, _) = hands.hs3(&hs2, &payload).expect("an honest HS2");
    victim.blob(mallory.endpoint, &hs3)
}

/// A stranger who knows it shows a key of its own from this endpoint, and nothing follows: the error that it is.
#[track_caller]
fn steal(victim: &mut Victim, mallory: &mut Mallory, endpoint: u8, seed: u64) -> Error {
    let expected = mallory.key.peer_id();
    mallory.key = Key::of(&Identity::generate_from(&mut Seeded::new(seed)));
    mallory.endpoint = EndpointId([endpoint; 16]);
    let found = mallory.key.peer_id();
    let out = show_key(victim, mallory);
    assert_eq!((blobs(&out).len(), answered(&out)), (0, None));
    Error::KeyChanged { expected, found }
}

///
#[test]
fn who_stole_the_secret_of_two_contacts_is_not_taken_for_one_of_them() {
    for endpoint in [0x10, 0xf0] {
        let (mut victim, mut mallory) = acquaintances(false, 600);
        let changed = steal(&mut victim, &mut mallory, endpoint, 601);
        assert_eq!(victim.failure(), Some(&changed));
    }
}

///
#[test]
fn c2_who_stole_the_secret_of_a_session_does_not_continue_it() {
    for endpoint in [0x00, 0xff] {
        let (mut victim, mut mallory, peer) = suspended(false, 602);
        mallory.terms = resume_terms(&victim, &peer);
        let rightful = mallory.key.clone();
        let changed = steal(&mut victim, &mut mallory, endpoint, 603);
        assert_eq!(victim.machine.link(), None);
        assert_eq!(victim.retried(), [&changed]);
        // The session waits on, and for its peer.
        mallory.key = rightful;
        mallory.endpoint.0[15] ^= 1;
        let (_, link) = victim.shake(&mut mallory);
        assert_eq!(victim.machine.link(), Some(link));
    }
}

///
#[test]
fn a_session_waits_2_seconds_and_15_while_somebody_is_where_it_would_resume() {
    for (accompanied, patience) in [(false, 2), (true, 15)] {
        let (mut victim, mallory, _) = suspended(false, 604);
        let (home, resume_room) = (mallory.terms.room, victim.room);
        if accompanied {
            victim.sees(EndpointId([0; 16]));
        }
        victim.watches(EndpointId([0x21; 16]));
        victim.wait(Duration::from_millis(patience * 1_000 - 1));
        assert_eq!(victim.room, resume_room, "before {patience} s");
        victim.wait(Duration::from_millis(1));
        assert_eq!(victim.room, home, "{patience} s");
    }
}

#[test]
fn a_host_can_end_a_session_that_has_no_transport() {
    let (mut victim, ..) = suspended(false, 605);
    let body = "never sent".into();
    victim.give(Input::Send { channel: 1, body });
    let (code, reason) = (CloseCode::NORMAL, "done".to_owned());
    victim.give(Input::Close { code, reason });
    let closed = |event: &Event| matches!(event, Event::Closed { code: CloseCode::NORMAL, reason, unacked: 1 } if reason == "done");
    assert!(victim.events.iter().any(closed), "{:?}", victim.events);
    assert!(victim.machine.is_ended());
}

/// A session in an open room, and a message on its way that the peer does not acknowledge.
fn unacknowledged(config: Config, seed: u64) -> (Victim, LinkId) {
    let (mut victim, _, link) =
        Victim::established_with(0x40, seed, |setup, _| setup.config = config);
    let body = "not acknowledged".into();
    victim.give(Input::Send { channel: 1, body });
    let bytes = 1 << 20;
    victim.give(Input::LinkWritable { link, bytes });
    (victim, link)
}

///
#[test]
fn a_lost_transport_ends_a_session_whose_host_wants_no_other() {
    for closes in [false, true] {
        let mut config = Config::default();
        if !closes {
            config.timeouts.resume = Duration::ZERO;
        }
        let (mut victim, link) = unacknowledged(config, 606);
        if closes {
            let (code, reason) = (CloseCode::NORMAL, String::new());
            let out = victim.give(Input::Close { code, reason });
            assert!(frames(&out).is_empty(), "not before it is acknowledged");
        }
        lose(&mut victim, link);
        let lost = Error::Disconnected { unacked: 1 };
        assert_eq!(victim.failure(), Some(&lost), "{closes}");
        assert!(victim.machine.is_ended());
    }
    let (mut victim, link) = unacknowledged(Config::default(), 608);
    lose(&mut victim, link);
    assert_eq!(victim.failure(), None, "others wait for the next");
}

///
#[test]
fn after_close_nobody_who_comes_or_goes_where_it_would_resume_is_a_reason_to_ping() {
    let (mut victim, _, _) = Victim::established(Seat::Open, true, 609);
    let (code, reason) = (CloseCode::NORMAL, String::new());
    let out = victim.give(Input::Close { code, reason });
    assert_eq!(frames(&out).len(), 1, "CLOSE");
    let newcomer = EndpointId([0x21; 16]);
    assert!(frames(&victim.sees(newcomer)).is_empty());
    assert!(frames(&victim.give(Input::PeerLeft(newcomer))).is_empty());
}

///
#[test]
fn the_server_cannot_put_off_the_end_of_a_silent_transport_by_more_newcomers() {
    let (mut victim, _, _) = Victim::established(Seat::Open, true, 610);
    assert_eq!(frames(&victim.sees(EndpointId([0x21; 16]))).len(), 1);
    for newcomer in 0x22..0x28 {
        victim.wait(Duration::from_millis(499));
        victim.sees(EndpointId([newcomer; 16]));
    }
    let disconnected = |event: &Event| matches!(event, Event::Disconnected { .. });
    assert!(!victim.events.iter().any(disconnected));
    victim.wait(Duration::from_millis(6));
    assert!(victim.events.iter().any(disconnected));
}
