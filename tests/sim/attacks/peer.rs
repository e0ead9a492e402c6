//! A peer that has a session and misbehaves in it: what it says is impossible, too much, or not of this version.

use std::time::Duration;

use sealwire::{
    CloseCode, Error,
    error::ProtocolViolation,
    protocol::{Event, Input, Mode, Output, PayloadKind, SigSender},
};

use crate::{
    mallory::{
        ACK, CLOSE, DATA, DATA_BATCH, DATA_PART, DUMMY, PING, PONG, READY, READY_BODY, READY_OK,
    },
    victim::{SCENES, Seat, Victim, blobs, frames, one_blob, opened},
};

/// Gives one frame to an established session.
fn after(channel: u8, kind: u8, body: &[u8]) -> (Victim, Vec<Output>) {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 30);
    let frame = peer.frame(channel, kind, body);
    let out = victim.frame(link, channel, &frame);
    (victim, out)
}

///
#[test]
fn frames_that_no_honest_peer_sends_are_fatal() {
    let cases: &[(u8, u8, &[u8])] = &[
        (0, DATA, b"x"),
        (0, DATA_PART, b"x"),
        (0, DATA_BATCH, b"\0\x01a\0\x01b"),
        (1, READY, READY_BODY),
        (1, READY_OK, b""),
        (1, ACK, b"\x01\0\0\0\0\0\0"),
        (1, PING, b"12345678"),
        (1, CLOSE, b"\0"),
        (1, DATA_PART, b""),
        (1, DATA_BATCH, b""),
        (1, DATA_BATCH, b"\0\x01a"),
        (1, DATA_BATCH, b"\0\x01a\0\x01"),
        (1, DATA_BATCH, b"\0\x01a\0\x01bb"),
        (1, DATA_BATCH, b"\0\x01a\xff\xffb"),
        (0, READY, READY_BODY),
        (0, READY_OK, b""),
        (0, ACK, b""),
        (0, ACK, b"\x01\0\0\0\0\0"),
        (0, ACK, b"\x01\0\0\0\0\0\x01"),
        (0, ACK, b"\x01\xff\xff\xff\xff\xff\xff"),
        (0, ACK, b"\0\0\0\0\0\0\0"),
        (0, ACK, b"\x02\0\0\0\0\0\0"),
        (0, ACK, b"\xff\0\0\0\0\0\0"),
        (0, PING, b""),
        (0, PING, b"1234567"),
        (0, PONG, b"123456789"),
        (0, CLOSE, b""),
        (0, CLOSE, b"\0\xff"),
        (0, 0x04, b""),
        (1, 0x04, b""),
        (0, 0xff, b""),
    ];
    for &(channel, kind, body) in cases {
        let (victim, out) = after(channel, kind, body);
        assert!(
            matches!(victim.failure(), Some(Error::Protocol(_))),
            "{kind:#x} on {channel}: {:?}",
            victim.events
        );
        assert!(frames(&out).is_empty() && victim.machine.is_ended());
    }
    let reason = [&[0][..], &[b'a'; 129]].concat();
    assert!(matches!(
        after(0, CLOSE, &reason).0.failure(),
        Some(Error::Protocol(_))
    ));
}

///
#[test]
fn a_plaintext_of_zeros_is_fatal() {
    for channel in [0, 1] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 31);
        let frame = peer.padded(channel, 0, &[0; 31], 32);
        victim.frame(link, channel, &frame);
        assert_eq!(
            victim.failure(),
            Some(&Error::Protocol(ProtocolViolation::NoKind))
        );
    }
}

///
#[test]
fn a_control_frame_of_the_wrong_length_or_from_the_wrong_role_is_fatal() {
    // (kind, length, from the responder, from the initiator)
    let kinds = [
        (0x15_u8, 0, true, false),
        (0x20, 0, true, true),
        (0x21, 32, true, false),
        (0x22, 32, false, true),
        (0x23, 32, true, false),
        (0x28, 0, true, true),
        (0x29, 0, true, true),
    ];
    for initiates in [true, false] {
        for (kind, len, by_responder, by_initiator) in kinds {
            for (len, fits) in [(len, true), (len + 1, false)] {
                let (mut victim, mut peer, link) = Victim::established(Seat::Open, initiates, 32);
                let frame = peer.frame(0, kind, &vec![7; len]);
                victim.frame(link, 0, &frame);
                let from_this_role = if initiates {
                    by_responder
                } else {
                    by_initiator
                };
                assert_eq!(
                    victim.failure().is_none(),
                    fits && from_this_role,
                    "{kind:#x}, {len} bytes, to initiator: {initiates}"
                );
            }
        }
        for (kind, len) in [(0x16, 1_248), (0x17, 1_152), (0x18, 0)] {
            let (mut victim, mut peer, link) = Victim::established(Seat::Open, initiates, 33);
            let frame = peer.frame(0, kind, &vec![7; len]);
            victim.frame(link, 0, &frame);
            assert!(
                matches!(victim.failure(), Some(Error::Protocol(_))),
                "{kind:#x}"
            );
        }
    }
}

///
#[test]
fn every_ready_but_the_expected_one_is_fatal() {
    let bad: &[&[u8]] = &[
        b"",
        b"\0\0",
        b"\x01\x01\0\0\0\0\0\x01\0",
        b"\x01\x02\0\0\0\0\0\0\0",
        b"\x02\x01\0\0\0\0\0\0\x01\0\0\0\0\0\0\0",
        b"\x02\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\0",
        b"\x01\x01\0\0\0\0\0\0\x02",
        b"\x01\x01\0\0\0\0\0\0",
        b"\x01\x01\0\0\0\0\0\0\0\0",
        b"\xff",
    ];
    for (seat, initiates) in SCENES {
        for body in bad {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 34);
            let (mut peer, link) = victim.shake(&mut mallory);
            victim.open_link(link, mallory.fingerprint);
            let frame = peer.frame(0, READY, body);
            victim.frame(link, 0, &frame);
            assert!(
                matches!(victim.failure(), Some(Error::Protocol(_))),
                "{body:?}"
            );
        }
    }
}

#[test]
fn a_ready_that_offers_a_history_is_accepted() {
    let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 49);
    let (mut peer, link) = victim.shake(&mut mallory);
    victim.open_link(link, mallory.fingerprint);
    let body = [&READY_BODY[..8], &[1, 1], &[0; 80]].concat();
    let ready = peer.frame(0, READY, &body);
    assert_eq!(frames(&victim.frame(link, 0, &ready)).len(), 1);
    let ok = peer.frame(0, READY_OK, b"");
    victim.frame(link, 0, &ok);
    assert!(victim.is_established());
}

///
#[test]
fn k9_a_message_longer_than_agreed_is_fatal_as_soon_as_its_parts_show_it() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 35);
    let part = vec![1; 65_511];
    let mut sent = 0;
    while victim.failure().is_none() {
        let frame = peer.frame(1, DATA_PART, &part);
        victim.frame(link, 1, &frame);
        sent += part.len();
    }
    assert_eq!(
        victim.failure(),
        Some(&Error::Protocol(ProtocolViolation::MessageTooLong {
            max: 4 << 20
        }))
    );
    assert!(sent <= (4 << 20) + part.len() && victim.delivered.is_empty());
}

///
#[test]
fn k9_a_peer_that_overruns_the_window_gets_close_6_and_nothing_more_is_delivered() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 36);
    let message = vec![1; 65_511];
    let mut said = Vec::new();
    let fit = (8 << 20) / (65_511 + 64);
    for _ in 0..fit + 20 {
        let frame = peer.frame(1, DATA, &message);
        said.extend(frames(&victim.frame(link, 1, &frame)));
    }
    assert_eq!(victim.delivered.len(), fit);
    assert_eq!(said.len(), 1, "one CLOSE");
    let (kind, body) = peer.open(0, &said[0].1);
    assert_eq!((kind, body[0]), (CLOSE, CloseCode::LIMIT.to_wire()));
    // What was refused leaves a gap: nothing may follow it, though there is room again.
    victim.give(Input::Taken {
        channel: 1,
        messages: 100,
    });
    let frame = peer.frame(1, DATA, b"after the gap");
    victim.frame(link, 1, &frame);
    assert_eq!(victim.delivered.len(), fit);
}

#[test]
fn messages_that_nobody_takes_hold_no_more_memory_than_their_window() {
    // Padding is outside the window's account, and a message shares its frame's memory.
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 37);
    let mut held = 0;
    for body in [&b"x"[..], &[1; 1_000], &[1; 30_000]] {
        for (kind, body) in [
            (DATA, body.to_vec()),
            (DATA_BATCH, [b"\0\0\0\x01", &body[..1]].concat()),
        ] {
            let frame = peer.padded(1, kind, &body, 65_512);
            victim.frame(link, 1, &frame);
            let all = std::mem::take(&mut victim.delivered);
            let cost: usize = all.iter().map(|(.., body)| body.len() + 64).sum();
            let memory: usize = all
                .into_iter()
                .filter(|(.., body)| !body.is_empty())
                .map(|(.., body)| {
                    body.try_into_mut()
                        .expect("nobody else holds it")
                        .capacity()
                })
                .sum();
            assert!(
                memory <= 3 * cost,
                "{memory} bytes for messages that cost {cost}"
            );
            held += memory;
        }
    }
    assert!(held > 0);
}

///
#[test]
fn pings_are_answered_once_a_second_and_only_the_newest() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 38);
    let mut pongs = Vec::new();
    for number in 0..1_000_u64 {
        let frame = peer.frame(0, PING, &number.to_be_bytes());
        pongs.extend(frames(&victim.frame(link, 0, &frame)));
        pongs.extend(frames(&victim.wait(Duration::from_millis(5))));
    }
    pongs.extend(frames(&victim.wait(Duration::from_secs(2))));
    let pongs: Vec<u64> = pongs
        .iter()
        .map(|(channel, frame)| peer.open(*channel, frame))
        .filter(|(kind, _)| *kind == PONG)
        .map(|(_, body)| u64::from_be_bytes(body.try_into().expect("8 bytes")))
        .collect();
    assert!((5..=7).contains(&pongs.len()), "{pongs:?}");
    assert_eq!(pongs.last(), Some(&999));
}

///
#[test]
fn a_link_that_opens_twice_says_ready_once() {
    let (mut victim, mut mallory) = Victim::against(Seat::Open, true, 48);
    let (mut peer, link) = victim.shake(&mut mallory);
    assert_eq!(
        frames(&victim.open_link(link, mallory.fingerprint)).len(),
        1
    );
    assert!(victim.open_link(link, mallory.fingerprint).is_empty());
    victim.exchange_ready(&mut peer, link);
    assert!(victim.open_link(link, [0; 32]).is_empty());
}

///
#[test]
fn pongs_that_nobody_asked_for_are_ignored() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 39);
    for number in 0..100_u64 {
        let frame = peer.frame(0, PONG, &number.to_be_bytes());
        assert!(victim.frame(link, 0, &frame).is_empty());
    }
    assert_eq!(victim.failure(), None);
}

///
#[test]
fn cover_traffic_is_ignored_on_every_channel() {
    for channel in [0, 1] {
        for body in [&b""[..], b"whatever", &[0; 500]] {
            let (victim, out) = after(channel, DUMMY, body);
            assert!(out.is_empty() && victim.delivered.is_empty());
            assert_eq!(victim.failure(), None);
        }
    }
}

///
#[test]
fn k18_close_is_answered_once_by_its_code_after_the_acks_that_are_due() {
    for (code, answered) in [
        (0_u8, 0_u8),
        (6, 6),
        (0x40, 0x40),
        (0x7f, 0x7f),
        (0x3f, 1),
        (0xff, 1),
    ] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 40);
        let frame = peer.frame(1, DATA, b"a message");
        victim.frame(link, 1, &frame);
        victim.give(Input::Taken {
            channel: 1,
            messages: 1,
        });
        let frame = peer.frame(0, CLOSE, &[code]);
        let out = victim.frame(link, 0, &frame);
        let said: Vec<(u8, Vec<u8>)> = frames(&out)
            .iter()
            .map(|(channel, frame)| peer.open(*channel, frame))
            .collect();
        assert_eq!(
            said,
            [
                (ACK, b"\x01\0\0\0\0\0\x01".to_vec()),
                (CLOSE, vec![answered])
            ]
        );
        let later = victim.wait(Duration::from_millis(1_999));
        assert!(frames(&later).is_empty() && !victim.machine.is_ended());
        victim.wait(Duration::from_millis(1));
        assert!(victim.machine.is_ended());
    }
}

///
#[test]
fn k18_other_codes_than_0_are_sent_at_once_and_what_was_not_confirmed_is_reported() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 41);
    victim.give(Input::Send {
        channel: 1,
        body: "never confirmed".into(),
    });
    victim.give(Input::LinkWritable {
        link,
        bytes: 1 << 20,
    });
    let out = victim.give(Input::Close {
        code: CloseCode::GOING_AWAY,
        reason: "now".into(),
    });
    assert_eq!(
        peer.open(0, &frames(&out)[0].1),
        (CLOSE, b"\x01now".to_vec())
    );
    let frame = peer.frame(0, CLOSE, &[1]);
    victim.frame(link, 0, &frame);
    let closed = |event: &Event| {
        matches!(
            event,
            Event::Closed {
                code: CloseCode::GOING_AWAY,
                unacked: 1,
                ..
            }
        )
    };
    assert!(victim.events.iter().any(closed), "{:?}", victim.events);
}

///
#[test]
fn a_graceful_close_waits_for_acknowledgements_no_longer_than_5_seconds() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 42);
    victim.give(Input::Send {
        channel: 1,
        body: "never confirmed".into(),
    });
    victim.give(Input::LinkWritable {
        link,
        bytes: 1 << 20,
    });
    let out = victim.give(Input::Close {
        code: CloseCode::NORMAL,
        reason: String::new(),
    });
    assert!(frames(&out).is_empty());
    assert!(frames(&victim.wait(Duration::from_millis(4_999))).is_empty());
    let out = victim.wait(Duration::from_millis(1));
    let said: Vec<u8> = frames(&out)
        .iter()
        .map(|(channel, frame)| peer.open(*channel, frame).0)
        .collect();
    assert_eq!(said.last(), Some(&CLOSE));
    victim.wait(Duration::from_secs(2));
    assert!(victim.machine.is_ended());
}

///
#[test]
fn a_control_frame_after_close_is_fatal_and_the_host_is_told_of_one_end() {
    for (kind, body) in [(PING, &b"12345678"[..]), (CLOSE, b"\0"), (DUMMY, b"")] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 43);
        let frame = peer.frame(0, CLOSE, b"\0");
        victim.frame(link, 0, &frame);
        let frame = peer.frame(0, kind, body);
        let out = victim.frame(link, 0, &frame);
        assert!(victim.machine.is_ended() && frames(&out).is_empty());
    }
}

///
#[test]
fn messages_of_another_channel_are_delivered_until_the_link_ends_after_close() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 44);
    let close = peer.frame(0, CLOSE, b"\0");
    victim.frame(link, 0, &close);
    let late = peer.frame(1, DATA, b"sent before, came after");
    victim.frame(link, 1, &late);
    assert_eq!(victim.delivered.len(), 1);
}

///
#[test]
fn after_our_close_ack_and_data_act_and_the_rest_is_ignored() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 45);
    victim.give(Input::Send {
        channel: 1,
        body: "confirmed late".into(),
    });
    victim.give(Input::LinkWritable {
        link,
        bytes: 1 << 20,
    });
    victim.give(Input::Close {
        code: CloseCode::GOING_AWAY,
        reason: String::new(),
    });
    for (channel, kind, body) in [
        (0, PING, &b"12345678"[..]),
        (1, DATA, b"late"),
        (0, ACK, b"\x01\0\0\0\0\0\x01"),
    ] {
        let frame = peer.frame(channel, kind, body);
        let out = victim.frame(link, channel, &frame);
        assert!(frames(&out).is_empty(), "CLOSE was the last frame");
    }
    victim.give(Input::Taken {
        channel: 1,
        messages: 1,
    });
    assert!(
        frames(&victim.wait(Duration::from_secs(1))).is_empty(),
        "CLOSE was the last frame"
    );
    assert_eq!(victim.delivered.len(), 1);
    let frame = peer.frame(0, CLOSE, &[1]);
    victim.frame(link, 0, &frame);
    assert!(
        victim
            .events
            .iter()
            .any(|event| matches!(event, Event::Closed { unacked: 0, .. }))
    );
}

#[test]
fn a_description_that_allows_no_frame_aborts_the_attempt() {
    // a sender obeys a=max-message-size, and below the smallest frame size of CAPS nothing could be sent.
    for limit in ["1", "24", "25", "26", "40", "1279"] {
        for (seat, initiates) in SCENES {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 46);
            let bad = |sdp: String| {
                sdp.replace(
                    "a=max-message-size:65536",
                    &format!("a=max-message-size:{limit}"),
                )
            };
            let mode = mallory.terms.mode;
            let with_sdp = |kind: PayloadKind| {
                let mut payload = mallory.records(kind);
                payload.sdp = payload.sdp.map(bad);
                payload.encode(kind).0
            };
            let sent = match (mode, initiates) {
                (Mode::Paired, false) => {
                    let payload = with_sdp(PayloadKind::Hs1);
                    let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
                    victim.blob(mallory.endpoint, &hs1)
                }
                (Mode::Paired, true) => {
                    let payload = with_sdp(PayloadKind::Hs2(mode));
                    let link = opened(&victim.sees(mallory.endpoint))[0];
                    let out = victim.describe(link, "actpass");
                    let (hs2, _) = mallory
                        .hs2(victim.endpoint, &one_blob(&out), &payload)
                        .expect("an honest HS1");
                    victim.blob(mallory.endpoint, &hs2)
                }
                (Mode::Open, false) => {
                    let payload = with_sdp(PayloadKind::Hs3(mode));
                    let (hs1, hands) = mallory.hs1(victim.endpoint, &[]);
                    let out = victim.blob(mallory.endpoint, &hs1);
                    let (hs3, _) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
                    victim.blob(mallory.endpoint, &hs3)
                }
                (Mode::Open, true) => {
                    let payload = with_sdp(PayloadKind::Sig(SigSender::OpenResponder));
                    let out = victim.sees(mallory.endpoint);
                    let hello = mallory.payload(PayloadKind::Hs2(mode));
                    let (hs2, hands) = mallory
                        .hs2(victim.endpoint, &one_blob(&out), &hello)
                        .expect("an honest HS1");
                    let link = opened(&victim.blob(mallory.endpoint, &hs2))[0];
                    let out = victim.describe(link, "actpass");
                    let mut peer = hands.end(&one_blob(&out)).expect("an honest HS3");
                    victim.blob(mallory.endpoint, &peer.sig(&payload))
                }
            };
            assert!(blobs(&sent).is_empty(), "{limit}: {sent:?}");
            assert!(opened(&sent).is_empty());
            let aborted = victim
                .retried()
                .iter()
                .any(|error| matches!(error, Error::HandshakeFailed { .. }));
            assert!(aborted, "{limit}: {:?}", victim.events);
        }
    }
}

///
#[test]
fn the_smallest_frames_allowed_carry_messages_of_every_size() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 47);
    let mut payload = mallory.records(PayloadKind::Hs1);
    payload.sdp = payload.sdp.map(|sdp| sdp.replace("65536", "1280"));
    let (hs1, hands) = mallory.hs1(victim.endpoint, &payload.encode(PayloadKind::Hs1).0);
    let link = opened(&victim.blob(mallory.endpoint, &hs1))[0];
    let out = victim.describe(link, "active");
    let payload = mallory.payload(PayloadKind::Hs3(Mode::Paired));
    let (hs3, mut peer) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
    victim.blob(mallory.endpoint, &hs3);
    victim.open_link(link, mallory.fingerprint);
    victim.exchange_ready(&mut peer, link);
    for size in [0, 1, 1_254, 1_255, 1_256, 5_000] {
        victim.give(Input::Send {
            channel: 1,
            body: vec![7; size].into(),
        });
    }
    while victim.machine.wants_write() {
        let out = victim.give(Input::LinkWritable {
            link,
            bytes: 1 << 20,
        });
        for (channel, frame) in frames(&out) {
            assert!(frame.len() <= 1_280);
            peer.open(channel, &frame);
        }
    }
}
