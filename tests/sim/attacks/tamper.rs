//! Handshake messages changed on their way (A4), and made by a peer to break something (A11, A12, A18).

use std::time::Duration;

use ml_kem::{KeyExport, ml_kem_768};
use sealwire::{
    Error,
    crypto::{
        noise::{self, NNHFS_PSK0, NoiseError, ReadDone, Setup, Written},
        secret::Secret,
    },
    error::{HandshakeStage, RefusalCode},
    protocol::{
        Blob, Bye, Caps, ChannelEntry, Event, Mode, Output, Payload, PayloadKind, SigSender,
    },
};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{
    mallory::{Key, Mallory, Symmetric, candidate, caps, channels},
    victim::{SCENES, Seat, Victim, answered, blobs, frames, one_blob, opened},
    world::{Case, Letter, Relay, Seeded, Told, World},
};

/// Runs a case until somebody joins again or the first attempt is over, with one bit of the first blob of a kind flipped.
/// Returns the blob's length.
#[track_caller]
fn flip(case: Case, kind: u8, at: usize, bit: u8) -> usize {
    let mut len = 0;
    {
        let mut world = World::of(
            case,
            70,
            Relay(|mut letter: Letter| {
                if let Told::Blob { blob, .. } = &mut letter.told
                    && blob[0] == kind
                    && len == 0
                {
                    len = blob.len();
                    if let Some(byte) = blob.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
                vec![letter]
            }),
        );
        world.run_until(|world| {
            let again = world.nodes.iter().any(|node| node.joins.len() > 1);
            let late = world.now > Duration::from_secs(10);
            for node in 0..2 {
                assert!(
                    !world.is_established(node),
                    "{case:?}, blob {kind}, bit {bit} of byte {at}"
                );
            }
            again || late
        });
    }
    len
}

/// One bit at every byte; of `e`, which begins HS2 and follows the header of HS1, each bit of the last byte as well.
#[track_caller]
fn flip_everywhere(case: Case, kind: u8, stride: usize) {
    let mut at = 0;
    loop {
        let len = flip(case, kind, at, (at % 8) as u8);
        assert!(len > 0, "no such blob");
        at += stride;
        if at >= len {
            break;
        }
    }
    let last_of_e = match kind {
        1 => Some(19 + 31),
        2 => Some(1 + 31),
        _ => None,
    };
    for at in last_of_e {
        for bit in 0..8 {
            flip(case, kind, at, bit);
        }
    }
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs1_never_establishes() {
    flip_everywhere(Case::Open, 1, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs2_never_establishes() {
    flip_everywhere(Case::Open, 2, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_open_hs3_never_establishes() {
    flip_everywhere(Case::Open, 3, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_the_open_answer_never_establishes() {
    flip_everywhere(Case::Open, 4, 1);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs1_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 1, 1);
    flip_everywhere(Case::RedeemerInitiates, 1, 13);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs2_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 2, 1);
    flip_everywhere(Case::RedeemerInitiates, 2, 13);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_paired_hs3_never_establishes() {
    flip_everywhere(Case::InviterInitiates, 3, 1);
    flip_everywhere(Case::RedeemerInitiates, 3, 13);
}

#[test]
fn a4_one_flipped_bit_at_any_byte_of_a_sig_makes_it_nothing_and_the_true_one_still_counts() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 71);
        let (mut peer, _) = victim.shake(&mut mallory);
        let payload = Payload {
            candidates: vec![candidate(99)],
            ..Payload::default()
        };
        let sig = peer.sig(&payload.encode(PayloadKind::Sig(SigSender::Other)).0);
        // The kind alone makes another blob of it, which is no better.
        for at in 0..sig.len() {
            let mut changed = sig.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(
                victim.blob(mallory.endpoint, &changed).is_empty(),
                "byte {at}"
            );
        }
        let given = |out: &[Output]| matches!(out, [Output::LinkCandidate { .. }]);
        assert!(given(&victim.blob(mallory.endpoint, &sig)));
        assert!(
            victim.blob(mallory.endpoint, &sig).is_empty(),
            "and counts once"
        );
    }
}

/// Every kind of payload, and what a peer sends to a victim in it: the outputs that followed.
#[track_caller]
fn say(
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
fn places() -> Vec<(Seat, bool, PayloadKind)> {
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
#[track_caller]
fn assert_aborted(victim: &Victim, out: &[Output], what: &str) {
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

#[test]
fn a11_another_version_is_answered_by_reject_and_never_spoken() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        for version in [0, 2, 0xff] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 76);
            let payload = mallory.payload(PayloadKind::Hs1);
            let (mut hs1, _) = mallory.hs1(victim.endpoint, &payload);
            hs1[1] = version;
            let out = victim.blob(mallory.endpoint, &hs1);
            assert_eq!(one_blob(&out), [5, RefusalCode::Version.to_wire()]);
            assert!(opened(&out).is_empty());
            assert!(!victim.machine.is_ended());
        }
    }
}

#[test]
fn a11_the_mode_byte_leads_to_no_other_mode() {
    for (seat, initiates) in SCENES.into_iter().filter(|(_, initiates)| !initiates) {
        // As the other mode, with the psk_id of either; and an open handshake made in earnest in the paired room.
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 77);
        let payload = mallory.payload(PayloadKind::Hs1);
        let (hs1, _) = mallory.hs1(victim.endpoint, &payload);
        let mut blobs: Vec<Vec<u8>> = Vec::new();
        for psk_id in [mallory.terms.psk_id, [0; 16], [0x77; 16]] {
            let mut changed = hs1.clone();
            changed[2] ^= 1;
            changed[3..19].copy_from_slice(&psk_id);
            blobs.push(changed);
        }
        let mut open = mallory.terms.clone();
        (open.mode, open.psk, open.psk_id) = (Mode::Open, None, [0; 16]);
        if seat != Seat::Open {
            let (hs1, _) = Mallory::new(0x80, 78, open).hs1(victim.endpoint, &[]);
            blobs.push(hs1);
        }
        for blob in blobs {
            let out = victim.blob(mallory.endpoint, &blob);
            assert_eq!(one_blob(&out), [5, RefusalCode::UnknownPsk.to_wire()]);
            assert!(opened(&out).is_empty());
        }
        let mut unknown = hs1;
        unknown[2] = 2;
        assert!(
            victim.blob(mallory.endpoint, &unknown).is_empty(),
            "a mode that does not exist"
        );
    }
}

#[test]
fn a11_a_forged_reject_leads_to_no_open_handshake_and_stops_no_honest_one() {
    for case in Case::PAIRED {
        for code in 0..=7_u8 {
            let mut world = World::of(
                case,
                79,
                Relay(move |letter: Letter| {
                    // In front of every blob and every newcomer, from whom it concerns.
                    let from = match &letter.told {
                        Told::Blob { from, .. } | Told::Joined(from) => *from,
                        Told::Welcome(peers) if !peers.is_empty() => peers[0],
                        _ => return vec![letter],
                    };
                    let reject = Told::Blob {
                        from,
                        blob: Blob::Reject(code).encode(),
                    };
                    let after = Letter {
                        to: letter.to,
                        told: reject.clone(),
                        delay: letter.delay,
                    };
                    vec![
                        Letter {
                            to: letter.to,
                            told: reject,
                            delay: letter.delay,
                        },
                        letter,
                        after,
                    ]
                }),
            );
            world.establish();
            let modes = world
                .seen_by_server
                .iter()
                .filter(|(.., blob)| blob[0] == 1)
                .map(|(.., blob)| blob[2]);
            assert_eq!(modes.collect::<Vec<_>>(), [1], "one HS1, and paired");
        }
    }
}

#[test]
fn a11_a_forged_reject_makes_a_redeemer_give_up_with_a_hint_and_never_fall_back() {
    let (mut victim, mallory) = Victim::against(Seat::Redeemer, true, 80);
    victim.blob(mallory.endpoint, &[5, RefusalCode::UnknownPsk.to_wire()]);
    let out = victim.wait(Duration::from_secs(60));
    assert!(blobs(&out).is_empty());
    let hint = sealwire::error::Evidence::Hint;
    assert_eq!(
        victim.failure(),
        Some(&Error::Refused {
            code: RefusalCode::UnknownPsk,
            evidence: hint
        })
    );
}

#[test]
fn a11_a_max_version_below_ours_is_a_downgrade_and_one_above_is_not() {
    for (seat, initiates, kind) in places() {
        let (_, mallory) = Victim::against(seat, initiates, 81);
        let Some(honest) = mallory
            .records(kind)
            .caps
            .filter(|_| !matches!(kind, PayloadKind::Sig(_)))
        else {
            continue;
        };
        for (max_version, downgrade) in [(0, true), (1, false), (2, false), (255, false)] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 81);
            let records = Payload {
                caps: Some(Caps {
                    max_version,
                    ..honest
                }),
                ..mallory.records(kind)
            };
            say(&mut victim, &mut mallory, kind, &records.encode(kind).0);
            let seen = victim
                .retried()
                .iter()
                .any(|error| matches!(error, Error::Downgrade { used: 1, .. }));
            assert_eq!(
                seen, downgrade,
                "{kind:?}, max_version {max_version}: {:?}",
                victim.events
            );
        }
    }
}

/// Points whose Diffie-Hellman with anything is zero, in every encoding of 255 bits (RFC 7748 §5 ignores the last).
fn low_order_points() -> Vec<[u8; 32]> {
    let near_p = |low: u8| {
        let mut point = [0xff; 32];
        (point[0], point[31]) = (low, 0x7f);
        point
    };
    let small = |low: u8| {
        let mut point = [0; 32];
        point[0] = low;
        point
    };
    let order_8 = [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ]
    .map(|hex| {
        std::array::from_fn(|at| {
            u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal")
        })
    });
    let mut points = vec![small(0), small(1), near_p(0xec), near_p(0xed), near_p(0xee)];
    points.extend(order_8);
    let high = points.clone().into_iter().map(|mut point| {
        point[31] |= 0x80;
        point
    });
    points.extend(high);
    points
}

#[test]
fn a12_the_points_are_of_low_order() {
    let secret = StaticSecret::from([0x42; 32]);
    for point in low_order_points() {
        assert_eq!(
            secret.diffie_hellman(&PublicKey::from(point)).to_bytes(),
            [0; 32]
        );
    }
}

#[test]
fn a12_a_low_order_point_as_ephemeral_key_aborts_in_every_role() {
    for (seat, initiates) in SCENES {
        for point in low_order_points() {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 82);
            mallory.ephemeral = Some(Key::Point(point));
            let mode = mallory.terms.mode;
            let kind = if initiates {
                PayloadKind::Hs2(mode)
            } else {
                PayloadKind::Hs1
            };
            let payload = mallory.payload(kind);
            let mut out = say(&mut victim, &mut mallory, kind, &payload);
            if !initiates && let Some(link) = opened(&out).first().copied() {
                // The responder meets the key when it writes HS2.
                out = victim.describe(link, "active");
            }
            assert_aborted(&victim, &out, "e");
            assert_eq!(
                victim.laws.open_links().len(),
                usize::from(initiates && mode == Mode::Paired),
                "the offer"
            );
        }
    }
}

#[test]
fn a12_a_low_order_point_as_static_key_aborts_in_every_role() {
    for (seat, initiates) in SCENES {
        for point in low_order_points() {
            let (mut victim, mallory) = Victim::against(seat, initiates, 83);
            let mut mallory = mallory.with_key(Key::Point(point));
            let mode = mallory.terms.mode;
            let kind = if initiates {
                PayloadKind::Hs2(mode)
            } else {
                PayloadKind::Hs3(mode)
            };
            let payload = mallory.payload(kind);
            let out = say(&mut victim, &mut mallory, kind, &payload);
            assert_aborted(&victim, &out, "s");
        }
    }
}

/// An NN handshake with psk, as a rekey makes it.
fn rekey<'a>(psks: &'a [&'a Secret]) -> Setup<'a> {
    Setup {
        pattern: &NNHFS_PSK0,
        prologue: b"prologue",
        local_static: None,
        psks,
    }
}

fn symmetric(psk: &Secret) -> Symmetric {
    let mut symmetric = Symmetric::new(NNHFS_PSK0.name());
    symmetric.mix_hash(b"prologue");
    symmetric.mix_key_and_hash(psk.expose());
    symmetric
}

#[test]
fn a12_a_low_order_point_aborts_an_nn_handshake_at_either_side() {
    let psk = Secret::new([9; 32]);
    for point in low_order_points() {
        // As the initiator's e: the responder reads it, and fails where the key is used.
        let mut by_hand = symmetric(&psk);
        by_hand.mix_hash(&point);
        by_hand.mix_key(&point);
        let key = ml_kem_768::DecapsulationKey::from_seed(ml_kem::Seed::default());
        let e1 = by_hand.encrypt(&key.encapsulation_key().to_bytes());
        let payload = by_hand.encrypt(b"");
        let first = [point.as_slice(), &e1, &payload].concat();
        let Ok((_, ReadDone::Writer(writer))) = noise::respond(rekey(&[&psk])).read(&first) else {
            panic!("the message is well made");
        };
        assert!(matches!(
            writer.write(b"", &mut Seeded::new(1)),
            Err(NoiseError::Degenerate)
        ));

        // As the responder's e: everything after it is keyed with what its secret would give, zero.
        let Ok((first, Written::Reader(reader))) =
            noise::initiate(rekey(&[&psk])).write(b"", &mut Seeded::new(2))
        else {
            panic!("the first message meets no key");
        };
        let mut by_hand = symmetric(&psk);
        by_hand.mix_hash(&first[..32]);
        by_hand.mix_key(&first[..32]);
        let encapsulation = by_hand
            .decrypt(&first[32..32 + 1_184 + 16])
            .expect("an honest message");
        by_hand
            .decrypt(&first[32 + 1_184 + 16..])
            .expect("an honest message");
        by_hand.mix_hash(&point);
        by_hand.mix_key(&point);
        by_hand.mix_key(&[0; 32]);
        let key = ml_kem_768::EncapsulationKey::new(
            encapsulation.as_slice().try_into().expect("1 184 bytes"),
        );
        let (ciphertext, shared) = key
            .expect("an honest key")
            .encapsulate_deterministic(&[3; 32].into());
        let ekem1 = by_hand.encrypt(&ciphertext);
        by_hand.mix_key(&shared);
        let payload = by_hand.encrypt(b"");
        let second = [point.as_slice(), &ekem1, &payload].concat();
        assert!(matches!(reader.read(&second), Err(NoiseError::Degenerate)));
    }
}

#[test]
fn a12_a_static_key_in_another_encoding_is_another_key() {
    // The high bit changes no Diffie-Hellman: whoever holds a key can show it, and it must not pass for the first.
    let (mut victim, mut mallory) = Victim::against(Seat::Redeemer, true, 84);
    let own = mallory.key.peer_id();
    mallory.key = Key::Disguised(Box::new(mallory.key.clone()));
    let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
    say(
        &mut victim,
        &mut mallory,
        PayloadKind::Hs2(Mode::Paired),
        &payload,
    );
    let found = mallory.key.peer_id();
    assert_ne!(found, own);
    assert_eq!(victim.retried(), [&Error::NotInviter { found }]);
}

#[test]
fn a11_bye_is_authenticated_and_unknown_codes_of_it_are_ignored() {
    for (seat, initiates) in SCENES {
        for code in [0_u8, 1, 2, 3, 4, 5, 6, 7, 255] {
            let (mut victim, mut mallory) = Victim::against(seat, initiates, 85);
            let (mut peer, _) = victim.shake(&mut mallory);
            let bye = Payload {
                bye: Some(Bye(code)),
                ..Payload::default()
            };
            let sig = peer.sig(&bye.encode(PayloadKind::Sig(SigSender::Other)).0);
            victim.blob(mallory.endpoint, &sig);
            let refused = |error: &Error| matches!(error, Error::Refused { code: found, .. } if found.to_wire() == code);
            let told = victim.events.iter().any(|event| match event {
                Event::Retrying { error } | Event::Failed { error } => refused(error),
                _ => false,
            });
            assert_eq!(told, (1..=6).contains(&code), "{code}: {:?}", victim.events);
        }
    }
}

#[test]
fn a4_a_failure_says_the_stage_and_not_the_cause() {
    // A tag, a key and a KEM ciphertext that are wrong look the same.
    for at in [
        1 + 5,
        1 + 32 + 5,
        1 + 32 + 1_104 + 5,
        1 + 32 + 1_104 + 48 + 5,
    ] {
        let (mut victim, mut mallory) = Victim::against(Seat::Inviter, true, 86);
        let link = opened(&victim.sees(mallory.endpoint))[0];
        let hs1 = one_blob(&victim.describe(link, "actpass"));
        let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
        let (mut hs2, _) = mallory
            .hs2(victim.endpoint, &hs1, &payload)
            .expect("an honest HS1");
        hs2[at] ^= 1;
        victim.blob(mallory.endpoint, &hs2);
        assert_eq!(
            victim.retried(),
            [&Error::HandshakeFailed {
                stage: HandshakeStage::Answer
            }]
        );
    }
}
