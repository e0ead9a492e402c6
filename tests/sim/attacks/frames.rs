//! Attacks on frames (B1 to B8, B14, B16, C10): by whoever sits on the path, who changes what two honest machines send, and by the
//! peer itself.

use std::time::Duration;

use sealwire::{
    Error,
    error::ProtocolViolation,
    protocol::{CloseHow, Event, Input, LinkId, Output},
};

use crate::{
    mallory::{
        ACK, CLOSE, DATA, DATA_BATCH, DATA_PART, DUMMY, PING, PONG, Peer, READY, READY_BODY,
        READY_OK,
    },
    victim::{SCENES, Seat, Victim, frames},
    world::{Case, Honest, Hostile, Packet, Relay, Wire, World},
};

/// A frame was fatal: nothing is sent, nothing delivered, the link is closed, the session failed with a violation.
/// R-10, R-52.
#[track_caller]
fn assert_fatal(victim: &Victim, out: &[Output]) -> ProtocolViolation {
    let said_nothing = out.iter().all(|output| {
        matches!(
            output,
            Output::Event(_)
                | Output::CloseLink {
                    how: CloseHow::Abrupt,
                    ..
                }
                | Output::Leave
                | Output::Unwatch
        )
    });
    assert!(said_nothing, "{out:?}");
    assert!(victim.machine.is_ended());
    match victim.failure() {
        Some(Error::Protocol(violation)) => *violation,
        other => panic!("failed with {other:?}"),
    }
}

/// Fatal at a machine of a world, of which messages were delivered before.
#[track_caller]
fn assert_failed(world: &World<'_>, node: usize, delivered: &[&str]) {
    assert!(
        matches!(world.failure(node), Some(Error::Protocol(_))),
        "{:?}",
        world.nodes[node].events
    );
    assert_eq!(world.bodies(node), delivered);
    let closed = |event: &Event| matches!(event, Event::Closed { .. });
    assert!(
        !world.nodes[node].events.iter().any(closed),
        "never closed in good order"
    );
}

/// Frames of every kind that an honest peer sends in a session, with the channel of each.
const KINDS: [(u8, u8, &[u8]); 7] = [
    (1, DATA, b"a message"),
    (1, DATA_PART, b"a part of one"),
    (1, DATA_BATCH, b"\0\x03one\0\x03two"),
    (0, ACK, b"\x01\0\0\0\0\0\0"),
    (0, PING, b"12345678"),
    (0, CLOSE, b"\0bye"),
    (0, DUMMY, b"cover"),
];

/// R-128.
#[test]
fn b1_one_flipped_bit_at_any_byte_of_any_frame_is_fatal() {
    for (channel, kind, body) in KINDS {
        let mut at = 0;
        loop {
            let (mut victim, mut peer, link) = Victim::established(Seat::Open, at % 2 == 0, 1);
            let mut frame = peer.padded(channel, kind, body, 32);
            let Some(byte) = frame.get_mut(at) else { break };
            *byte ^= 1 << (at % 8);
            let out = victim.frame(link, channel, &frame);
            let violation = assert_fatal(&victim, &out);
            let expected = if at < 8 {
                matches!(
                    violation,
                    ProtocolViolation::OutOfOrder { .. } | ProtocolViolation::UnknownEpoch { .. }
                )
            } else {
                violation == ProtocolViolation::FrameRejected
            };
            assert!(expected, "{violation:?} for kind {kind:#x} at {at}");
            at += 1;
        }
        assert_eq!(at, 56);
    }
}

/// R-246: with another number it is another frame, as if READY had been lost.
#[test]
fn b1_one_flipped_bit_at_any_byte_of_ready_ends_the_link() {
    for (seat, initiates) in SCENES {
        for at in (0..READY_BODY.len() + 25).rev() {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 2);
            let (mut peer, link) = victim.shake(&mut mallory);
            victim.open_link(link, mallory.fingerprint);
            let mut ready = peer.frame(0, READY, READY_BODY);
            ready[at] ^= 0x80;
            let out = victim.frame(link, 0, &ready);
            assert!(!victim.is_established());
            assert!(!victim.laws.open_links().contains(&link));
            if (2..8).contains(&at) {
                assert!(frames(&out).is_empty() && !victim.machine.is_ended());
            } else {
                assert_fatal(&victim, &out);
            }
        }
    }
}

/// R-116.
#[test]
fn b1_a_frame_cut_or_extended_is_fatal() {
    for len in (0..56).chain(57..60).chain([65_537]) {
        let (mut victim, mut peer, link) = Victim::established(Seat::Inviter, false, 3);
        let mut frame = peer.padded(1, DATA, b"a message", 32);
        frame.resize(len, 0);
        let out = victim.frame(link, 1, &frame);
        assert_fatal(&victim, &out);
    }
}

/// Node 0 sends three messages, one frame each, while the path does something to what reaches node 1 on channel 1.
fn through<'h>(case: Case, mut path: impl FnMut(usize, Packet) -> Vec<Packet> + 'h) -> World<'h> {
    let mut world = World::of(case, 4, Honest);
    world.establish();
    let mut count = 0;
    world.set_hostile(Wire(move |packet: Packet| {
        if (packet.to, packet.channel) != (1, 1) {
            return vec![packet];
        }
        count += 1;
        path(count, packet)
    }));
    for body in ["one", "two", "three"] {
        world.send(0, body);
    }
    world.run(Duration::from_secs(330));
    world
}

/// R-128.
#[test]
fn b2_a_replayed_frame_is_fatal() {
    for case in Case::ALL {
        let world = through(case, |count, packet| {
            vec![packet; if count == 2 { 2 } else { 1 }]
        });
        assert_failed(&world, 1, &["one", "two"]);
        assert_eq!(
            world.failure(0),
            Some(&Error::Disconnected { unacked: 3 }),
            "{case:?}"
        );
    }
}

#[test]
fn b2_a_replayed_control_frame_is_fatal() {
    for (kind, body) in [
        (READY, READY_BODY),
        (READY_OK, b""),
        (PING, b"12345678"),
        (DUMMY, b""),
    ] {
        let (mut victim, mut mallory) = Victim::against(Seat::Inviter, true, 5);
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        for (sent, sent_body) in [
            (READY, READY_BODY),
            (READY_OK, b""),
            (PING, b"12345678"),
            (DUMMY, b""),
        ] {
            let frame = peer.frame(0, sent, sent_body);
            victim.frame(link, 0, &frame);
            if (sent, sent_body) == (kind, body) {
                let out = victim.frame(link, 0, &frame);
                let violation = assert_fatal(&victim, &out);
                assert!(matches!(violation, ProtocolViolation::OutOfOrder { .. }));
                break;
            }
        }
    }
}

/// R-246.
#[test]
fn a_link_that_loses_the_first_frame_is_a_failed_attempt() {
    let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, true, 6);
    let (mut peer, link) = victim.shake(&mut mallory);
    victim.open_link(link, mallory.fingerprint);
    peer.frame(0, READY, READY_BODY);
    let second = peer.frame(0, READY_OK, b"");
    victim.frame(link, 0, &second);
    let retries = |event: &Event| {
        let lost = ProtocolViolation::OutOfOrder {
            channel: 0,
            epoch: 0,
            seq: 1,
        };
        matches!(event, Event::Retrying { error: Error::Protocol(violation) } if *violation == lost)
    };
    assert!(victim.events.iter().any(retries), "{:?}", victim.events);
    assert!(!victim.laws.open_links().contains(&link));
    assert!(!victim.machine.is_ended());
}

/// R-128.
#[test]
fn b3_reordered_frames_are_fatal() {
    for case in Case::ALL {
        let mut held = None;
        let world = through(case, |count, packet| match count {
            2 => {
                held = Some(packet);
                Vec::new()
            }
            _ => std::iter::once(packet).chain(held.take()).collect(),
        });
        assert_failed(&world, 1, &["one"]);
    }
}

/// R-128.
#[test]
fn b4_a_dropped_frame_is_fatal_at_the_next() {
    for case in Case::ALL {
        for dropped in 1..=2 {
            let world = through(case, |count, packet| {
                if count == dropped {
                    Vec::new()
                } else {
                    vec![packet]
                }
            });
            assert_failed(&world, 1, &["one", "two"][..dropped - 1]);
        }
    }
}

#[test]
fn b4_a_dropped_ack_is_fatal_at_the_next_control_frame() {
    let mut world = World::of(Case::Open, 6, Honest);
    world.establish();
    let mut dropped = false;
    world.set_hostile(Wire(move |packet: Packet| {
        let drop = (packet.to, packet.channel) == (0, 0) && !std::mem::replace(&mut dropped, true);
        if drop { Vec::new() } else { vec![packet] }
    }));
    world.send(0, "one");
    world.run(Duration::from_secs(20));
    assert_failed(&world, 0, &[]);
    assert_eq!(
        world.nodes[0].acknowledged.get(&1),
        None,
        "what was not acknowledged is not said to be"
    );
}

/// R-125.
#[test]
fn b6_a_frame_on_another_channel_is_fatal() {
    for (from, to) in [(0, 1), (1, 0), (1, 2), (1, 15), (0, 15), (1, 16), (1, 255)] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Redeemer, true, 7);
        // The same number on both channels: only the key tells them apart.
        let (kind, body): (u8, &[u8]) = if from == 0 {
            (PING, b"12345678")
        } else {
            (DATA, b"a message")
        };
        while peer.epoch.send[1].seq() < 2 {
            let frame = peer.frame(1, DATA, b"before");
            victim.frame(link, 1, &frame);
        }
        let before = victim.delivered.len();
        let frame = peer.padded(from, kind, body, 32);
        let out = victim.frame(link, to, &frame);
        assert_fatal(&victim, &out);
        assert_eq!(victim.delivered.len(), before);
    }
}

/// R-110, R-146.
#[test]
fn b6_a_frame_of_the_other_direction_is_fatal() {
    for (seat, initiates) in SCENES {
        for (channel, bytes) in [(0_u8, 0), (1, 1 << 20)] {
            let (mut victim, mut peer, link) = Victim::established(seat, initiates, 8);
            let own = match channel {
                0 => victim.wait(Duration::from_secs(5)),
                _ => {
                    victim.give(Input::Send {
                        channel,
                        body: "mine".into(),
                    });
                    victim.give(Input::LinkWritable { link, bytes })
                }
            };
            let [(on, own)] = frames(&own).try_into().expect("one frame");
            assert_eq!(on, channel);
            // It is the next of its channel in the other direction as well.
            while peer.epoch.send[usize::from(channel)].seq() < u64::from(own[7]) {
                let frame = peer.frame(channel, DUMMY, b"");
                victim.frame(link, channel, &frame);
            }
            let out = victim.frame(link, channel, &own);
            assert_eq!(
                assert_fatal(&victim, &out),
                ProtocolViolation::FrameRejected
            );
        }
    }
}

#[test]
fn b6_a_frame_of_another_session_of_the_same_peers_is_fatal() {
    for (seat, initiates) in SCENES {
        let (_, mut earlier, _) = Victim::established(seat, initiates, 9);
        let (mut victim, _, link) = {
            // The same machine and the same attacker; another ephemeral key of either.
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 9);
            let _ = mallory.hs1(victim.endpoint, &[]);
            let (mut peer, link) = victim.shake(&mut mallory);
            victim.open_link(link, mallory.fingerprint);
            victim.exchange_ready(&mut peer, link);
            (victim, peer, link)
        };
        let frame = earlier.frame(1, DATA, b"from before");
        let out = victim.frame(link, 1, &frame);
        assert_eq!(
            assert_fatal(&victim, &out),
            ProtocolViolation::FrameRejected
        );
    }
}

/// R-128, R-129.
#[test]
fn b6_a_frame_of_another_epoch_is_fatal() {
    for epoch in [1_u16, 2, u16::MAX] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 10);
        let mut frame = peer.frame(1, DATA, b"a message");
        frame[..2].copy_from_slice(&epoch.to_be_bytes());
        let out = victim.frame(link, 1, &frame);
        assert_eq!(
            assert_fatal(&victim, &out),
            ProtocolViolation::UnknownEpoch { epoch }
        );
    }
}

/// R-151, R-152.
#[test]
fn b7_a_link_cut_without_close_is_disconnected_and_says_what_was_not_confirmed() {
    for case in Case::ALL {
        let mut world = World::of(case, 11, Honest);
        world.establish();
        world.nodes[1].takes = false;
        world.send(0, "never taken");
        world.run(Duration::from_millis(10));
        world.cut_signaling(0);
        world.cut(0);
        world.run(Duration::from_millis(5));
        assert!(world.is_disconnected(0) && world.is_disconnected(1));
        world.set_hostile(Relay(|_| Vec::new()));
        world.run(Duration::from_secs(301));
        assert_eq!(world.failure(0), Some(&Error::Disconnected { unacked: 1 }));
        assert_eq!(world.failure(1), Some(&Error::Disconnected { unacked: 0 }));
    }
}

/// R-151.
#[test]
fn b7_a_peer_that_falls_silent_is_disconnected_after_15_seconds() {
    let mut world = World::of(Case::Open, 12, Honest);
    world.establish();
    // Both see the other join to listen, and ask for a sign of life.
    world.run(Duration::from_secs(1));
    world.set_hostile(Wire(|_| Vec::new()));
    world.run(Duration::from_millis(13_900));
    assert!(!world.is_disconnected(0));
    world.run(Duration::from_millis(1_200));
    assert!(world.is_disconnected(0) && world.is_disconnected(1));
}

/// R-152, R-156, R-160.
#[test]
fn b7_a_close_that_the_peer_never_answers_is_disconnected() {
    for silent in [true, false] {
        let (mut victim, _, link) = Victim::established(Seat::Open, true, 13);
        victim.give(Input::Close {
            code: sealwire::CloseCode::NORMAL,
            reason: String::new(),
        });
        if silent {
            victim.wait(Duration::from_secs(3));
        } else {
            victim.give(Input::LinkClosed { link, reason: None });
        }
        assert_eq!(
            victim.failure(),
            Some(&Error::Disconnected { unacked: 0 }),
            "silent: {silent}"
        );
    }
}

/// R-157.
#[test]
fn b7_a_link_that_ends_after_the_peers_close_is_closed() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 14);
    let close = peer.frame(0, CLOSE, b"\0bye");
    let out = victim.frame(link, 0, &close);
    assert_eq!(
        peer.open(0, &frames(&out)[0].1),
        (CLOSE, vec![0]),
        "it answers with the same code"
    );
    victim.give(Input::LinkClosed {
        link,
        reason: Some(Error::Transport("reset".into())),
    });
    assert!(matches!(victim.events.last(), Some(Event::Closed { reason, .. }) if reason == "bye"));
}

/// Everything that may be put on a data channel by whoever holds no key.
fn plaintexts() -> Vec<Vec<u8>> {
    let header = [0; 8];
    let mut all: Vec<Vec<u8>> = [0, 1, 7, 8, 24, 25, 100].map(|len| vec![0; len]).into();
    all.extend([
        b"a message".to_vec(),
        br#"{"type":"message","text":"hello from nobody"}"#.to_vec(),
    ]);
    // With an honest header, as frames whose sealing was forgotten.
    all.push([header.as_slice(), b"a message", &[DATA], &[0; 16]].concat());
    all.push([header.as_slice(), READY_BODY, &[READY], &[0; 16]].concat());
    all
}

#[test]
fn b8_plaintext_never_reaches_the_application() {
    for (seat, initiates) in SCENES {
        for plaintext in plaintexts() {
            for channel in [0, 1] {
                let (mut victim, _, link) = Victim::established(seat, initiates, 15);
                let out = victim.frame(link, channel, &plaintext);
                assert_fatal(&victim, &out);
                assert!(victim.delivered.is_empty());
            }
        }
    }
}

#[test]
fn b8_plaintext_before_ready_is_fatal() {
    for (seat, initiates) in SCENES {
        for plaintext in plaintexts() {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 16);
            let (_, link) = victim.shake(&mut mallory);
            victim.open_link(link, mallory.fingerprint);
            let out = victim.frame(link, 0, &plaintext);
            assert_fatal(&victim, &out);
        }
    }
}

/// R-126.
#[test]
fn b8_a_text_message_or_a_foreign_channel_is_fatal() {
    for (seat, initiates) in SCENES {
        let (mut victim, _, link) = Victim::established(seat, initiates, 17);
        let out = victim.give(Input::LinkForeign(link));
        assert_fatal(&victim, &out);
    }
}

/// A victim that has completed the handshake, and whose link is open or not.
fn before_ready(seat: Seat, initiates: bool, open: bool) -> (Victim, Peer, LinkId) {
    let (mut victim, mut mallory) = Victim::against(seat, initiates, 18);
    let (peer, link) = victim.shake(&mut mallory);
    if open {
        victim.open_link(link, mallory.fingerprint);
    }
    (victim, peer, link)
}

/// R-140, R-141.
#[test]
fn b16_nothing_but_ready_comes_before_ready() {
    for (seat, initiates) in SCENES {
        for (channel, kind, body) in KINDS
            .into_iter()
            .chain([(0, READY_OK, &b""[..]), (0, PONG, b"12345678")])
        {
            let (mut victim, mut peer, link) = before_ready(seat, initiates, true);
            let frame = peer.frame(channel, kind, body);
            let out = victim.frame(link, channel, &frame);
            assert_fatal(&victim, &out);
            assert!(victim.delivered.is_empty() && !victim.is_established());
        }
    }
}

/// R-140.
#[test]
fn b8_control_before_ready_ok_is_fatal() {
    for (channel, kind, body) in KINDS.into_iter().filter(|(channel, ..)| *channel == 0) {
        let (mut victim, mut peer, link) = before_ready(Seat::Open, true, true);
        let ready = peer.frame(0, READY, READY_BODY);
        victim.frame(link, 0, &ready);
        let frame = peer.frame(channel, kind, body);
        let out = victim.frame(link, channel, &frame);
        assert_fatal(&victim, &out);
    }
}

/// R-141.
#[test]
fn b16_a_message_that_overtakes_ready_ok_is_delivered_only_once_established() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut peer, link) = before_ready(seat, initiates, true);
        let ready = peer.frame(0, READY, READY_BODY);
        victim.frame(link, 0, &ready);
        let early = peer.frame(1, DATA, b"early");
        victim.frame(link, 1, &early);
        assert!(victim.delivered.is_empty(), "not established");
        let ok = peer.frame(0, READY_OK, b"");
        victim.frame(link, 0, &ok);
        assert_eq!(victim.delivered, [(1, 0, "early".into())]);
    }
}

/// R-139, R-142.
#[test]
fn b8_a_responder_holds_one_frame_of_channel_0_before_hs3_and_no_second() {
    for seat in [Seat::Inviter, Seat::Redeemer] {
        for (channels, held) in [
            (&[0_u8][..], true),
            (&[0, 0], false),
            (&[1], false),
            (&[0, 1], false),
        ] {
            let (mut victim, mut mallory) = Victim::against(seat, false, 19);
            let payload = mallory.payload(sealwire::protocol::PayloadKind::Hs1);
            let (hs1, hands) = mallory.hs1(victim.endpoint, &payload);
            let out = victim.blob(mallory.endpoint, &hs1);
            let link = crate::victim::opened(&out)[0];
            let out = victim.describe(link, "active");
            let payload = mallory.payload(sealwire::protocol::PayloadKind::Hs3(mallory.terms.mode));
            let (hs3, mut peer) = hands
                .hs3(&crate::victim::one_blob(&out), &payload)
                .expect("an honest HS2");
            victim.open_link(link, mallory.fingerprint);
            for &channel in channels {
                let frame = peer.frame(channel, READY, READY_BODY);
                let out = victim.frame(link, channel, &frame);
                assert!(frames(&out).is_empty());
            }
            let out = victim.blob(mallory.endpoint, &hs3);
            // READY, and READY_OK at once.
            assert_eq!(frames(&out).len(), if held { 2 } else { 0 }, "{channels:?}");
            assert_eq!(victim.laws.open_links().len(), usize::from(held));
        }
    }
}

/// R-136, R-137.
#[test]
fn b14_a_link_that_leads_elsewhere_gets_no_ready() {
    for case in Case::ALL {
        for liar in 0..2 {
            let mut world = World::of(case, 20, Elsewhere(liar));
            world.run(Duration::from_secs(9));
            assert_eq!(world.failure(liar), Some(&Error::FingerprintMismatch));
            assert!(!world.is_established(0) && !world.is_established(1));
            let said = world
                .seen_on_wire
                .iter()
                .filter(|(to, ..)| *to != liar)
                .count();
            assert_eq!(said, 0, "not a byte goes to whoever is there");
        }
    }
}

/// One node's link ends at another certificate than the one announced (a DTLS man in the middle).
struct Elsewhere(usize);

impl Hostile for Elsewhere {
    fn fingerprint(&mut self, node: usize, honest: [u8; 32]) -> Option<[u8; 32]> {
        let mut seen = honest;
        if node == self.0 {
            seen[31] ^= 1;
        }
        Some(seen)
    }
}

/// A stack that does not tell.
struct Mute;

impl Hostile for Mute {
    fn fingerprint(&mut self, _node: usize, _honest: [u8; 32]) -> Option<[u8; 32]> {
        None
    }
}

/// R-138.
#[test]
fn b14_a_stack_that_does_not_show_the_certificate_is_reported() {
    let mut world = World::of(Case::Open, 21, Mute);
    world.establish();
    for node in 0..2 {
        assert!(
            world.nodes[node]
                .events
                .iter()
                .any(|event| matches!(event, Event::NoFingerprintCheck))
        );
    }
}

/// The lengths of everything that the server and the network saw, channel by channel.
fn lengths(label: &str, texts: [&str; 2]) -> (Vec<usize>, Vec<(u8, usize)>) {
    let mut world = World::new(9);
    world.channels[0].label = label.into();
    world.add_open("lobby");
    world.add_open("lobby");
    world.establish();
    for (node, text) in texts.into_iter().enumerate() {
        world.send(node, text.to_owned());
        world.run(Duration::from_secs(1));
    }
    let blobs = world.seen_by_server.iter().map(|(.., blob)| blob.len());
    let frames = world.seen_on_wire.iter();
    let frames = frames.map(|(_, channel, frame)| (*channel, frame.len()));
    (blobs.collect(), frames.collect())
}

/// R-80, R-118.
#[test]
fn c10_what_differs_within_a_padding_bucket_cannot_be_told_apart_by_its_length() {
    let short = lengths("a", ["no", &"x".repeat(130)]);
    let long = lengths("abcdef", ["a longer word", &"y".repeat(135)]);
    assert_eq!(short, long);
    let other = lengths("a", ["no", &"x".repeat(500)]);
    assert_ne!(short.1, other.1, "other buckets are told apart");
}
