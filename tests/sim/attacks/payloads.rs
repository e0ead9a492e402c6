//! Payloads that no honest peer makes, and blobs that are none (A18).

use sealwire::{
    Error,
    protocol::{Caps, ChannelEntry, Mode, Output, Payload, PayloadKind, SigSender},
};

use crate::{
    mallory::{Mallory, candidate, caps, channels},
    victim::{SCENES, Seat, Victim, answered, blobs, frames, one_blob, opened},
    world::Seeded,
};

/// Every kind of payload, and what a peer sends to a victim in it: the outputs that followed.
#[track_caller]
pub(super) fn say(
    victim: &mut Victim,
    mallory: &mut Mallory,
    kind: PayloadKind,
    payload: &[u8],
) -> Vec<Output> {
    let (mode, to, own) = (mallory.terms.mode, victim.endpoint, mallory.endpoint);
    match kind {
        PayloadKind::Hs1 => {
            let (hs1, _) = mallory.hs1(to, payload);
            victim.blob(own, &hs1)
        }
        PayloadKind::Hs2(_) => {
            let mut out = victim.sees(own);
            if let Some(link) = opened(&out).first() {
                out = victim.describe(*link, "actpass");
            }
            let (hs2, _) = mallory
                .hs2(to, &one_blob(&out), payload)
                .expect("an honest HS1");
            victim.blob(own, &hs2)
        }
        PayloadKind::Hs3(_) => {
            let hello = mallory.payload(PayloadKind::Hs1);
            let (hs1, hands) = mallory.hs1(to, &hello);
            let mut out = victim.blob(own, &hs1);
            if let Some(link) = opened(&out).first() {
                out = victim.describe(*link, "active");
            }
            let (hs3, _) = hands.hs3(&one_blob(&out), payload).expect("an honest HS2");
            victim.blob(own, &hs3)
        }
        PayloadKind::Sig(_) if to < own && mode == Mode::Open => {
            let out = victim.sees(own);
            let hello = mallory.payload(PayloadKind::Hs2(mode));
            let (hs2, hands) = mallory
                .hs2(to, &one_blob(&out), &hello)
                .expect("an honest HS1");
            let link = opened(&victim.blob(own, &hs2))[0];
            let mut peer = hands
                .end(&one_blob(&victim.describe(link, "actpass")))
                .expect("an honest HS3");
            victim.blob(own, &peer.sig(payload))
        }
        PayloadKind::Sig(_) => {
            let (mut peer, _) = victim.shake(mallory);
            victim.blob(own, &peer.sig(payload))
        }
    }
}

/// Every payload that a victim reads, with its seat and role.
pub(super) fn places() -> Vec<(Seat, bool, PayloadKind)> {
    let mut all = Vec::new();
    for (seat, initiates) in SCENES {
        let mode = if seat == Seat::Open {
            Mode::Open
        } else {
            Mode::Paired
        };
        if initiates {
            all.push((seat, true, PayloadKind::Hs2(mode)));
        } else {
            if mode == Mode::Paired {
                all.push((seat, false, PayloadKind::Hs1));
            }
            all.push((seat, false, PayloadKind::Hs3(mode)));
        }
        let open_answer = seat == Seat::Open && initiates;
        let sender = if open_answer {
            SigSender::OpenResponder
        } else {
            SigSender::Other
        };
        all.push((seat, initiates, PayloadKind::Sig(sender)));
    }
    all
}

/// The attempt failed, nothing went to the peer or its description to a stack, and the machine goes on.
///
#[track_caller]
pub(super) fn assert_aborted(victim: &Victim, out: &[Output], what: &str) {
    assert!(
        blobs(out).is_empty() && frames(out).is_empty(),
        "{what}: {out:?}"
    );
    assert!(
        answered(out).is_none() && opened(out).is_empty(),
        "{what}: {out:?}"
    );
    let failed = victim.retried();
    assert!(
        matches!(failed[..], [Error::HandshakeFailed { .. }]),
        "{what}: {:?}",
        victim.events
    );
    assert!(
        !victim.is_established() && !victim.machine.is_ended(),
        "{what}"
    );
}

fn block(kind: PayloadKind) -> usize {
    if matches!(kind, PayloadKind::Sig(_)) {
        256
    } else {
        512
    }
}

/// A payload without its padding, and then records or bytes more, padded.
fn with(base: &Payload, kind: PayloadKind, more: &[u8]) -> Vec<u8> {
    let (mut bytes, _) = base.clone().encode(kind);
    let end = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes.extend_from_slice(more);
    bytes.resize(bytes.len().max(1).next_multiple_of(block(kind)), 0);
    bytes
}

fn record(kind: u8, value: &[u8]) -> Vec<u8> {
    [
        &[kind],
        u16::try_from(value.len())
            .expect("short")
            .to_be_bytes()
            .as_slice(),
        value,
    ]
    .concat()
}

///
#[test]
fn a18_payloads_that_no_honest_peer_makes_abort_the_attempt() {
    for (seat, initiates, kind) in places() {
        let (_, mallory) = Victim::against(seat, initiates, 72);
        let honest = match kind {
            PayloadKind::Sig(SigSender::Other) => Payload {
                candidates: vec![candidate(9)],
                ..Payload::default()
            },
            _ => mallory.records(kind),
        };
        let mut bad: Vec<(String, Vec<u8>)> = Vec::new();
        let mut case =
            |what: &str, bytes: Vec<u8>| bad.push((format!("{what} in {kind:?}"), bytes));
        // Sizes and padding.
        case("nothing", Vec::new());
        case("no block", vec![0; block(kind) - 1]);
        for at in [1, 2, 100] {
            let mut bytes = with(&honest, kind, &[0; 200]);
            let end = bytes.len();
            bytes[end - at] = 1;
            case("padding that is not zero", bytes);
        }
        // Records cut, unknown and critical, twice, elsewhere.
        let mut cut = with(&honest, kind, b"\x7f\xff\xff");
        case("a record cut by the end", cut.clone());
        let end = cut.len();
        cut[end - 1] = 0x7f;
        case("a header cut by the end", cut);
        for critical in [0x80, 0xff] {
            case(
                "an unknown critical record",
                with(&honest, kind, &record(critical, b"x")),
            );
        }
        case(
            "BYE of two bytes",
            with(&honest, kind, &record(9, b"\x01\x01")),
        );
        case("BYE of none", with(&honest, kind, &record(9, b"")));
        case(
            "BYE twice",
            with(
                &honest,
                kind,
                &[record(9, b"\x01"), record(9, b"\x01")].concat(),
            ),
        );
        let (caps_record, channels_record) = (
            record(
                1,
                &[
                    &[1, 0, 0, 0, 0][..],
                    &65_536_u32.to_be_bytes(),
                    &(4_u32 << 20).to_be_bytes(),
                    &(8_u32 << 20).to_be_bytes(),
                ]
                .concat(),
            ),
            record(10, b"\x01\x01\x04main"),
        );
        case("CAPS twice or elsewhere", with(&honest, kind, &caps_record));
        case(
            "CHANNELS twice or elsewhere",
            with(&honest, kind, &channels_record),
        );
        let offer = record(
            2,
            crate::world::description(1, [5; 32], "actpass").as_bytes(),
        );
        let answer = record(
            3,
            crate::world::description(1, [5; 32], "active").as_bytes(),
        );
        case(
            "OFFER and ANSWER",
            with(&honest, kind, &[offer, answer].concat()),
        );
        // Candidates.
        if kind != PayloadKind::Hs2(Mode::Open) {
            case(
                "65 candidates",
                with(&honest, kind, &record(4, b"candidate:1").repeat(65)),
            );
            for candidate in [
                &b"candidate:1\r\na=fingerprint:x"[..],
                b"a=candidate:1",
                b"",
                b"candidate:\xff",
                b"candidate:\0",
            ] {
                case(
                    "a bad candidate",
                    with(&honest, kind, &record(4, candidate)),
                );
            }
        } else {
            case(
                "a candidate",
                with(&honest, kind, &record(4, b"candidate:1")),
            );
        }
        let required = honest.caps.is_some();
        if required {
            case(
                "no CAPS",
                with(
                    &Payload {
                        caps: None,
                        ..honest.clone()
                    },
                    kind,
                    &[],
                ),
            );
            case(
                "no CHANNELS",
                with(
                    &Payload {
                        channels: None,
                        ..honest.clone()
                    },
                    kind,
                    &[],
                ),
            );
            for bad in bad_caps() {
                case(
                    "CAPS out of range",
                    with(
                        &Payload {
                            caps: Some(bad),
                            ..honest.clone()
                        },
                        kind,
                        &[],
                    ),
                );
            }
            for value in [&caps_record[3..19], &[&caps_record[3..], &[0]].concat()] {
                case(
                    "CAPS of another length",
                    with(
                        &Payload {
                            caps: None,
                            ..honest.clone()
                        },
                        kind,
                        &record(1, value),
                    ),
                );
            }
            for bad in bad_channels() {
                let bytes = with(
                    &Payload {
                        channels: None,
                        ..honest.clone()
                    },
                    kind,
                    &record(10, bad),
                );
                case(&format!("CHANNELS {bad:?}"), bytes);
            }
            let other = ChannelEntry {
                label: "other".into(),
                ..channels().remove(0)
            };
            case(
                "no common channel",
                with(
                    &Payload {
                        channels: Some(vec![other]),
                        ..honest.clone()
                    },
                    kind,
                    &[],
                ),
            );
        }
        if let Some(sdp) = &honest.sdp {
            for (what, bad) in bad_descriptions(sdp) {
                case(
                    &what,
                    with(
                        &Payload {
                            sdp: Some(bad),
                            ..honest.clone()
                        },
                        kind,
                        &[],
                    ),
                );
            }
        }
        if required && honest.sdp.is_some() {
            case(
                "no description",
                with(
                    &Payload {
                        sdp: None,
                        ..honest.clone()
                    },
                    kind,
                    &[],
                ),
            );
        }
        for (what, payload) in bad {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 72);
            let out = say(&mut victim, &mut mallory, kind, &payload);
            assert_aborted(&victim, &out, &what);
        }
    }
}

fn bad_caps() -> Vec<Caps> {
    let good = caps();
    vec![
        Caps {
            max_frame: 1_279,
            ..good
        },
        Caps {
            max_frame: 65_537,
            ..good
        },
        Caps {
            max_frame: u32::MAX,
            ..good
        },
        Caps {
            max_message: 65_535,
            ..good
        },
        Caps {
            max_message: (8 << 20) - 63,
            ..good
        },
        Caps {
            max_message: u32::MAX,
            window: u32::MAX,
            ..good
        },
        Caps {
            max_message: 0,
            window: 0,
            ..good
        },
        Caps {
            max_message: 65_536,
            window: 262_143,
            ..good
        },
    ]
}

fn bad_channels() -> [&'static [u8]; 11] {
    [
        b"",
        b"\x01",
        b"\x01\x01",
        b"\x00\x01\x04main",
        b"\x10\x01\x04main",
        b"\x01\x00\x04main",
        b"\x01\x01\x04main\x02\x03\x01x",
        b"\x01\x01\x05main",
        b"\x01\x01\x04mai\xff",
        b"\x01\x01\x04main\x01\x01\x04main",
        b"\x02\x01\x01x\x01\x01\x04main",
    ]
}

fn bad_descriptions(sdp: &str) -> Vec<(String, String)> {
    let fingerprint = sdp
        .lines()
        .find(|line| line.starts_with("a=fingerprint"))
        .expect("an honest description");
    let other = fingerprint
        .replace("sha-256 ", "sha-256 00:")
        .rsplit_once(':')
        .map(|(start, _)| start.to_owned());
    let setup = sdp
        .lines()
        .find(|line| line.starts_with("a=setup"))
        .expect("an honest description");
    [
        ("empty", String::new()),
        ("too long", format!("{sdp}a={}\r\n", "x".repeat(8_192))),
        ("no fingerprint", sdp.replace(fingerprint, "a=x")),
        (
            "another fingerprint",
            format!("{sdp}{}\r\n", other.expect("a fingerprint has colons")),
        ),
        ("sha-1", sdp.replace("sha-256", "sha-1")),
        (
            "two sections",
            format!("{sdp}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
        ),
        ("audio", sdp.replace("m=application", "m=audio")),
        ("mid 1", sdp.replace("a=mid:0", "a=mid:1")),
        ("passive", sdp.replace(setup, "a=setup:passive")),
        ("holdconn", sdp.replace(setup, "a=setup:holdconn")),
        (
            "both setups",
            format!("{sdp}a=setup:actpass\r\na=setup:active\r\n"),
        ),
        ("no setup", sdp.replace(setup, "a=x")),
        (
            "a lone CR",
            sdp.replace("s=-\r\n", "s=-\ra=setup:passive\r\n"),
        ),
        ("no line", format!("{sdp}x")),
        ("two limits", format!("{sdp}a=max-message-size:1\r\n")),
    ]
    .into_iter()
    .map(|(what, bad)| (what.to_owned(), bad))
    .collect()
}

///
#[test]
fn a18_unknown_records_below_0x80_candidates_in_sdp_and_line_feeds_are_no_violation() {
    for (seat, initiates, kind) in places() {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 73);
        let base = match kind {
            PayloadKind::Sig(SigSender::Other) => Payload::default(),
            _ => mallory.records(kind),
        };
        let sdp = base
            .sdp
            .clone()
            .map(|sdp| sdp.replace("\r\n", "\n") + "a=candidate:9 1 udp 1 10.0.0.9 9 typ host\n");
        let payload = with(
            &Payload { sdp, ..base },
            kind,
            &[record(0x7f, b"whatever"), record(0x20, b"")].concat(),
        );
        let out = say(&mut victim, &mut mallory, kind, &payload);
        assert!(victim.retried().is_empty(), "{kind:?}: {:?}", victim.events);
        let given = out.iter().any(|output| match output {
            Output::LinkAnswer { sdp, .. }
            | Output::OpenLink {
                offer: Some(sdp), ..
            } => sdp.contains("candidate"),
            _ => false,
        });
        assert!(!given, "candidates travel as records only");
    }
}

///
#[test]
fn a18_blobs_that_are_none_change_nothing() {
    let mut rng = Seeded::new(74);
    let mut random = |len: usize| {
        let mut bytes = vec![0; len];
        sealwire::Entropy::fill(&mut rng, &mut bytes);
        bytes
    };
    let lengths = [
        0, 1, 2, 3, 9, 18, 19, 20, 50, 281, 1_000, 1_248, 1_713, 1_779, 16_384, 16_385, 24_576,
        100_000,
    ];
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 75);
        // From somebody who has no attempt with us; the true one follows.
        let stranger = sealwire::EndpointId([0x01; 16]);
        for kind in (0..=8).chain([0x7f, 0xff]) {
            for len in lengths {
                let mut blob = random(len);
                if let Some(first) = blob.first_mut() {
                    *first = kind;
                }
                let out = victim.blob(stranger, &blob);
                assert!(opened(&out).is_empty() && frames(&out).is_empty());
                assert!(
                    blobs(&out).iter().all(|blob| blob[0] == 5),
                    "hints at most: {out:?}"
                );
                assert!(
                    victim.blob(victim.endpoint, &blob).is_empty(),
                    "nothing comes from ourselves"
                );
            }
        }
        let (peer, link) = victim.shake(&mut mallory);
        for len in lengths {
            for kind in 0..=8 {
                let mut blob = random(len);
                if let Some(first) = blob.first_mut() {
                    *first = kind;
                }
                assert!(victim.blob(mallory.endpoint, &blob).is_empty());
            }
        }
        drop(peer);
        assert_eq!(victim.machine.link(), Some(link));
    }
}
