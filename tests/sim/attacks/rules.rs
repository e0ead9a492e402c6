//! Rules of the protocol that no attack shows: what comes first, what waits how long, and what is not said.

use std::time::Duration;

use sealwire::{
    CloseCode, EndpointId, Error, MinTrust, PeerTrust,
    error::HandshakeStage,
    protocol::{Event, Input, LinkId, Meeting, Mode, Output, PayloadKind, SigSender},
};

use crate::{
    mallory::{ACK, CLOSE, DATA, DUMMY, Mallory, PING, PONG, Peer, READY, READY_BODY, READY_OK},
    victim::{SCENES, Seat, Victim, answered, blobs, frames, one_blob, opened},
    world::{Case, Honest, Packet, Wire, World},
};

const REKEY_REQ: u8 = 0x15;
const REKEY1: u8 = 0x16;

/// Where the first output of a sort stands among outputs.
fn place(out: &[Output], wanted: impl Fn(&Output) -> bool) -> Option<usize> {
    out.iter().position(wanted)
}

fn blob_place(out: &[Output], kind: u8) -> Option<usize> {
    place(
        out,
        |output| matches!(output, Output::SendBlob { blob, .. } if blob[0] == kind),
    )
}

fn candidate_place(out: &[Output]) -> Option<usize> {
    place(out, |output| matches!(output, Output::LinkCandidate { .. }))
}

/// The frames of channel 0 among outputs, opened.
#[track_caller]
fn said(peer: &mut Peer, out: &[Output]) -> Vec<(u8, Vec<u8>)> {
    let control = frames(out).into_iter().filter(|(channel, _)| *channel == 0);
    control.map(|(_, frame)| peer.open(0, &frame)).collect()
}

fn joins(out: &[Output]) -> usize {
    let join = |output: &&Output| matches!(output, Output::Join { .. });
    out.iter().filter(join).count()
}

/// HS1 and HS3 of a peer to a victim that answers: what followed each message, and each description.
fn answer_all(victim: &mut Victim, mallory: &mut Mallory) -> [Vec<Output>; 4] {
    let mode = mallory.terms.mode;
    let payload = mallory.payload(PayloadKind::Hs1);
    let (hs1, hands) = mallory.hs1(victim.endpoint, &payload);
    let first = victim.blob(mallory.endpoint, &hs1);
    let described = match opened(&first).first() {
        Some(link) => victim.describe(*link, "active"),
        None => Vec::new(),
    };
    let hs2 = [blobs(&first), blobs(&described)].concat().remove(0);
    let payload = mallory.payload(PayloadKind::Hs3(mode));
    let (hs3, _) = hands.hs3(&hs2, &payload).expect("an honest HS2");
    let third = victim.blob(mallory.endpoint, &hs3);
    let last = match opened(&third).first() {
        Some(link) => victim.describe(*link, "active"),
        None => Vec::new(),
    };
    [first, described, third, last]
}

///
#[test]
fn a_responder_gives_candidates_to_its_stack_after_hs3_and_after_its_open_answer() {
    for seat in [Seat::Inviter, Seat::Redeemer, Seat::Open] {
        let (mut victim, mut mallory) = Victim::against(seat, false, 400);
        let [first, described, third, last] = answer_all(&mut victim, &mut mallory);
        for early in [&first, &described] {
            assert_eq!(candidate_place(early), None, "{seat:?}: before HS3");
        }
        if mallory.terms.mode == Mode::Paired {
            assert!(candidate_place(&third).is_some(), "{seat:?}");
        } else {
            assert_eq!(candidate_place(&third), None, "before the answer");
            let answer = blob_place(&last, 4).expect("the answer");
            assert!(candidate_place(&last).is_some_and(|at| at > answer));
        }
    }
}

///
#[test]
fn a_paired_initiator_gives_the_answer_to_its_stack_before_hs3_leaves() {
    for seat in [Seat::Inviter, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, true, 401);
        let link = opened(&victim.sees(mallory.endpoint))[0];
        let hs1 = one_blob(&victim.describe(link, "actpass"));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
        let (hs2, _) = mallory
            .hs2(victim.endpoint, &hs1, &payload)
            .expect("an honest HS1");
        let out = victim.blob(mallory.endpoint, &hs2);
        let answer = place(&out, |output| matches!(output, Output::LinkAnswer { .. }));
        let answer = answer.expect("the answer reaches the stack");
        assert!(blob_place(&out, 3).is_some_and(|at| at > answer));
    }
}

/// All that a host can ask for: the frames that went out for it.
fn ask_for_everything(victim: &mut Victim, link: LinkId) -> usize {
    let bytes = 1 << 20;
    let inputs = [
        Input::Send {
            channel: 1,
            body: "early".into(),
        },
        Input::LinkWritable { link, bytes },
        Input::Rekey,
        Input::Compare,
        Input::Pair,
    ];
    let sent = |input| frames(&victim.give(input)).len();
    inputs.into_iter().map(sent).sum()
}

///
#[test]
fn before_the_peers_ready_ok_nothing_is_sent_but_ready_and_ready_ok() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 402);
        let (mut peer, link) = victim.shake(&mut mallory);
        assert_eq!(
            frames(&victim.open_link(link, mallory.fingerprint)).len(),
            1
        );
        assert_eq!(ask_for_everything(&mut victim, link), 0, "before READY");
        let ready = peer.frame(0, READY, READY_BODY);
        assert_eq!(frames(&victim.frame(link, 0, &ready)).len(), 1, "READY_OK");
        assert_eq!(ask_for_everything(&mut victim, link), 0, "before READY_OK");
        assert!(frames(&victim.wait(Duration::from_secs(8))).is_empty());
        let ok = peer.frame(0, READY_OK, b"");
        victim.frame(link, 0, &ok);
        assert!(ask_for_everything(&mut victim, link) > 0);
    }
}

///
#[test]
fn who_comes_or_goes_is_answered_by_one_ping_a_second_and_silence_by_the_end_of_the_transport() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 403);
    victim.give(Input::Welcome { peers: Vec::new() });
    let other = EndpointId([0x77; 16]);
    let out = victim.sees(other);
    let heard = said(&mut peer, &out);
    let [(PING, body)] = &heard[..] else {
        panic!("one PING, not {out:?}");
    };
    let pong = peer.frame(0, PONG, body);
    victim.frame(link, 0, &pong);
    victim.wait(Duration::from_millis(500));
    assert!(frames(&victim.give(Input::PeerLeft(other))).is_empty());
    assert!(frames(&victim.wait(Duration::from_millis(499))).is_empty());
    let out = victim.wait(Duration::from_millis(1));
    assert_eq!(said(&mut peer, &out).len(), 1, "a second after the first");
    let is_lost = |victim: &Victim| {
        let lost = |event: &Event| matches!(event, Event::Disconnected { .. });
        victim.events.iter().any(lost)
    };
    victim.wait(Duration::from_millis(2_499));
    assert!(!is_lost(&victim));
    victim.wait(Duration::from_millis(1));
    assert!(is_lost(&victim), "3 s after it was asked");
}

///
#[test]
fn a_ping_that_somebodys_coming_brought_is_not_repeated_while_its_answer_may_come() {
    let (mut victim, mut peer, _) = Victim::established(Seat::Open, true, 412);
    victim.give(Input::Welcome { peers: Vec::new() });
    let out = victim.sees(EndpointId([0x77; 16]));
    assert_eq!(said(&mut peer, &out).len(), 1);
    assert!(frames(&victim.wait(Duration::from_millis(2_999))).is_empty());
}

///
#[test]
fn who_listens_for_a_peer_that_resumes_answers_nobody() {
    for seat in [Seat::Open, Seat::Redeemer] {
        let (mut victim, mut mallory) = Victim::against(seat, false, 413);
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        victim.give(Input::Welcome { peers: Vec::new() });
        let payload = mallory.payload(PayloadKind::Hs1);
        mallory.endpoint = EndpointId([0; 16]);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        for blob in [hs1, vec![1, 9], vec![5, 5]] {
            assert!(victim.blob(mallory.endpoint, &blob).is_empty(), "{seat:?}");
        }
    }
}

///
#[test]
fn who_closed_first_leaves_the_link_to_the_other_for_300_ms() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 404);
    let code = CloseCode::NORMAL;
    let reason = String::new();
    victim.give(Input::Close { code, reason });
    victim.wait(Duration::from_millis(10));
    let close = peer.frame(0, CLOSE, b"\0");
    victim.frame(link, 0, &close);
    victim.wait(Duration::from_millis(299));
    assert!(!victim.machine.is_ended());
    victim.wait(Duration::from_millis(1));
    assert!(victim.machine.is_ended());
}

///
#[test]
fn a_message_is_acknowledged_200_ms_after_it_was_taken_at_the_latest_and_not_before() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 405);
    let frame = peer.frame(1, DATA, b"a message");
    victim.frame(link, 1, &frame);
    let out = victim.wait(Duration::from_secs(2));
    assert_eq!(said(&mut peer, &out), [], "nobody took it");
    assert!(!victim.machine.acknowledges_soon());
    let (channel, messages) = (1, 1);
    let mut out = victim.give(Input::Taken { channel, messages });
    assert!(victim.machine.acknowledges_soon());
    out.extend(victim.wait(Duration::from_millis(200)));
    let expected = (ACK, b"\x01\0\0\0\0\0\x01".to_vec());
    assert_eq!(said(&mut peer, &out), [expected]);
    assert!(!victim.machine.acknowledges_soon());
}

///
#[test]
fn a_responder_asks_for_new_keys_once_an_epoch() {
    let (mut victim, mut peer, _) = Victim::established(Seat::Open, false, 406);
    let out = victim.give(Input::Rekey);
    assert_eq!(said(&mut peer, &out), [(REKEY_REQ, Vec::new())]);
    let mut out = victim.give(Input::Rekey);
    out.extend(victim.wait(Duration::from_secs(4)));
    assert_eq!(said(&mut peer, &out), []);
}

///
#[test]
fn without_new_keys_for_600_s_the_session_closes_with_3() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 407);
    let out = victim.give(Input::Rekey);
    assert_eq!(said(&mut peer, &out)[0].0, REKEY1);
    let mut waited = 0;
    let closed = loop {
        let out = victim.wait(Duration::from_secs(10));
        waited += 10;
        let closed = said(&mut peer, &out)
            .into_iter()
            .find(|(kind, _)| *kind == CLOSE);
        if closed.is_some() || waited > 1_000 {
            break closed;
        }
        // A sign of life, and no answer.
        let frame = peer.frame(0, DUMMY, b"");
        let out = victim.frame(link, 0, &frame);
        assert_eq!(said(&mut peer, &out), []);
    };
    assert_eq!(waited, 600);
    let (_, body) = closed.expect("a CLOSE");
    assert_eq!(body[0], CloseCode::REKEY_TIMEOUT.to_wire());
}

///
#[test]
fn keys_that_change_again_and_again_at_the_responders_wish_close_no_session() {
    let case = Case::InviterInitiates;
    let mut world = World::of(case, 411, Honest);
    world.establish();
    for _ in 0..2_400 {
        world.give(case.responder(), Input::Rekey);
        world.run(Duration::from_millis(300));
    }
    for node in &world.nodes {
        assert!(node.epochs.last() > Some(&600), "{:?}", node.epochs.last());
        assert!(!node.machine.is_ended(), "{:?}", node.events.last());
    }
}

///
#[test]
fn a_ninth_transport_after_eight_of_which_none_came_up_ends_the_session() {
    let mut world = World::of(Case::Open, 408, Honest);
    world.establish();
    let began = world.now;
    world.set_hostile(Wire(|_: Packet| Vec::new()));
    let readies = |world: &World<'_>| {
        let ready = |(_, channel, frame): &&(usize, u8, Vec<u8>)| {
            (*channel, &frame[..8]) == (0, [0; 8].as_slice())
        };
        world.seen_on_wire.iter().filter(ready).count()
    };
    for transport in 2..=8 {
        let before = readies(&world);
        world.cut(0);
        assert!(world.run_until(|world| readies(world) == before + 2));
        assert_eq!(world.failure(0), None, "transport {transport}");
    }
    world.cut(0);
    assert!(world.run_until(|world| (0..2).all(|node| world.failure(node).is_some())));
    for node in 0..2 {
        assert_eq!(
            world.failure(node),
            Some(&Error::Disconnected { unacked: 0 })
        );
    }
    let waited = world.now - began;
    assert!(waited < Duration::from_secs(300), "{waited:?}");
}

///
#[test]
fn who_has_nobody_left_to_try_comes_again_after_10_s_and_a_random_wait() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 409);
    let payload = mallory.payload(PayloadKind::Hs1);
    let (mut hs1, _) = mallory.hs1(victim.endpoint, &payload);
    hs1[100] ^= 1;
    victim.blob(mallory.endpoint, &hs1);
    assert_eq!(victim.retried().len(), 1);
    let endpoint = victim.endpoint;
    assert_eq!(joins(&victim.wait(Duration::from_millis(10_499))), 0);
    assert_eq!(joins(&victim.wait(Duration::from_millis(7_501))), 1);
    assert_ne!(victim.endpoint, endpoint);
}

///
#[test]
fn three_committed_attempts_in_a_row_that_fail_end_the_session() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 414);
        for failed in 1..=3 {
            let (_, link) = victim.shake(&mut mallory);
            assert_eq!(victim.failure(), None);
            let reason = Some(Error::Transport("no".into()));
            victim.give(Input::LinkClosed { link, reason });
            assert_eq!(victim.retried().len(), failed.min(2), "{seat:?}");
            if failed < 3 {
                victim.wait_until_joined();
                mallory.endpoint = EndpointId([if initiates { 0xff } else { 0 }; 16]);
            }
        }
        assert!(victim.failure().is_some());
    }
}

///
#[test]
fn a_second_open_answer_fails_the_attempt() {
    let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 416);
    let (mut peer, link) = victim.shake(&mut mallory);
    let payload = mallory.payload(PayloadKind::Sig(SigSender::OpenResponder));
    let out = victim.blob(mallory.endpoint, &peer.sig(&payload));
    assert_eq!(answered(&out), None);
    assert_eq!(
        victim.retried(),
        [&Error::HandshakeFailed {
            stage: HandshakeStage::Signal
        }]
    );
    assert_ne!(victim.machine.link(), Some(link));
}

///
#[test]
fn nothing_leaves_below_the_trust_that_is_required_and_all_that_waits_once_there_is_more() {
    let mut world = World::new(417);
    for required in [MinTrust::Invited, MinTrust::Unknown] {
        let identity = world.identity();
        let (room, pinned) = ("lobby".to_owned(), None);
        world.add(identity, Meeting::Open { room, pinned }, required);
    }
    world.establish();
    world.send(0, "one");
    world.run(Duration::from_secs(1));
    assert!(world.bodies(1).is_empty());
    world.give(0, Input::Trust(PeerTrust::Invited));
    world.flush(0);
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(1), ["one"]);
    world.give(0, Input::Trust(PeerTrust::Blocked));
    world.send(0, "two");
    world.run(Duration::from_secs(1));
    assert_eq!(world.bodies(1), ["one"]);
}

#[test]
fn a_link_gets_about_as_many_bytes_as_it_has_room_for() {
    let (mut victim, _, link) = Victim::established(Seat::Open, true, 418);
    for _ in 0..6 {
        let body = vec![7; 60_000].into();
        victim.give(Input::Send { channel: 1, body });
    }
    for (bytes, expected) in [(0, 0), (1, 1), (65_000, 2), (1 << 20, 3)] {
        let out = victim.give(Input::LinkWritable { link, bytes });
        assert_eq!(frames(&out).len(), expected, "{bytes} bytes");
    }
    assert!(!victim.machine.wants_write());
}
