//! Candidates: which message carries which of them, and how many there may be.

use std::{collections::BTreeSet, ops::Range};

use sealwire::{
    Error,
    error::HandshakeStage,
    protocol::{Blob, Input, LinkId, Mode, Output, Payload, PayloadKind, SigSender},
};

use crate::{
    mallory::{Mallory, Peer, candidate},
    victim::{SCENES, Seat, Victim, blobs, knock, one_blob, opened},
};

/// The most that one side tells.
const MOST: usize = 64;

fn candidates_of(kind: PayloadKind, payload: &[u8]) -> Vec<String> {
    Payload::decode(kind, payload).map_or_else(|_| Vec::new(), |payload| payload.candidates)
}

fn find(
    victim: &mut Victim,
    link: LinkId,
    candidates: impl IntoIterator<Item = String>,
) -> Vec<Output> {
    let mut out = Vec::new();
    for candidate in candidates {
        out.extend(victim.give(Input::LinkCandidate { link, candidate }));
    }
    out
}

/// A victim's handshake, in which its stack finds candidates before its description, and, of these ports, before its
/// next message and after the last: all that it tells.
#[track_caller]
fn told(
    victim: &mut Victim,
    mallory: &mut Mallory,
    next: Range<u16>,
    last: Range<u16>,
) -> Vec<String> {
    let (link, mut out, peer, mut told) = if victim.endpoint < mallory.endpoint {
        initiate(victim, mallory, next)
    } else {
        respond(victim, mallory, next)
    };
    out.extend(find(victim, link, last.map(candidate)));
    for sig in blobs(&out).iter().filter(|blob| blob[0] == 4) {
        let sig = peer.read_sig(mallory.terms.mode, sig);
        told.extend(sig.expect("an honest SIG").candidates);
    }
    told
}

/// What there is when a victim sent or read HS3, and what it told until then.
type Shaken = (LinkId, Vec<Output>, Peer, Vec<String>);

#[track_caller]
fn initiate(victim: &mut Victim, mallory: &mut Mallory, next: Range<u16>) -> Shaken {
    let mode = mallory.terms.mode;
    let mut out = victim.sees(mallory.endpoint);
    let mut link = opened(&out).first().copied();
    if let Some(link) = link {
        out = victim.describe(link, "actpass");
        find(victim, link, next.map(candidate));
    }
    let payload = mallory.payload(PayloadKind::Hs2(mode));
    let (hs2, hands) = mallory
        .hs2(victim.endpoint, &one_blob(&out), &payload)
        .expect("an honest HS1");
    let mut told = candidates_of(PayloadKind::Hs1, &hands.payload);
    let mut out = victim.blob(mallory.endpoint, &hs2);
    if let Some(opened) = opened(&out).first() {
        link = Some(*opened);
        out = victim.describe(*opened, "actpass");
    }
    let peer = hands.end(&blobs(&out)[0]).expect("an honest HS3");
    told.extend(candidates_of(PayloadKind::Hs3(mode), &peer.payload));
    (link.expect("committed"), out, peer, told)
}

#[track_caller]
fn respond(victim: &mut Victim, mallory: &mut Mallory, next: Range<u16>) -> Shaken {
    let mode = mallory.terms.mode;
    let (mut out, hands) = knock(victim, mallory);
    let link = opened(&out).first().copied();
    if let Some(link) = link {
        out = victim.describe(link, "active");
        find(victim, link, next.map(candidate));
    }
    let payload = mallory.payload(PayloadKind::Hs3(mode));
    let (hs3, peer) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
    let told = candidates_of(PayloadKind::Hs2(mode), &peer.payload);
    let mut out = victim.blob(mallory.endpoint, &hs3);
    let link = link.unwrap_or_else(|| opened(&out)[0]);
    if mode == Mode::Open {
        out = victim.describe(link, "active");
    }
    (link, out, peer, told)
}

///
#[test]
fn no_more_than_64_candidates_are_sent_whenever_they_are_found() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 326);
        victim.candidates = (0..40).map(candidate).collect();
        let told = told(&mut victim, &mut mallory, 40..60, 60..200);
        assert_eq!(told.len(), MOST, "{seat:?}, initiates: {initiates}");
        assert_eq!(told[..40], victim.candidates, "those known at first");
    }
}

///
#[test]
fn candidates_that_one_message_has_no_room_for_go_by_the_next_ones() {
    let long = |port| format!("{} {}", candidate(port), "x".repeat(950));
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 340);
        victim.candidates = (0..MOST as u16).map(long).collect();
        let told = told(&mut victim, &mut mallory, 0..0, 0..0);
        assert_eq!(told.len(), MOST, "{seat:?}, initiates: {initiates}");
        let found: BTreeSet<&String> = victim.candidates.iter().collect();
        assert_eq!(told.iter().collect::<BTreeSet<_>>(), found, "each once");
    }
}

///
#[test]
fn candidates_of_both_messages_of_a_paired_initiator_count() {
    for (later, fits) in [(32, true), (33, false)] {
        let (mut victim, mut mallory) = Victim::against(Seat::Inviter, false, 341);
        let with = |kind, candidates| Payload {
            candidates: vec![candidate(9); candidates],
            ..mallory.records(kind)
        };
        let kind = PayloadKind::Hs3(Mode::Paired);
        let first = with(PayloadKind::Hs1, 32).encode(PayloadKind::Hs1).0;
        let last = with(kind, later).encode(kind).0;
        let (hs1, hands) = mallory.hs1(victim.endpoint, &first);
        let link = opened(&victim.blob(mallory.endpoint, &hs1))[0];
        let hs2 = one_blob(&victim.describe(link, "active"));
        let (hs3, _) = hands.hs3(&hs2, &last).expect("an honest HS2");
        victim.blob(mallory.endpoint, &hs3);
        assert_eq!(victim.machine.link(), fits.then_some(link));
        assert_eq!(victim.given, if fits { MOST } else { 0 });
        let stage = HandshakeStage::Proof;
        let failed = Error::HandshakeFailed { stage };
        assert_eq!(victim.retried().contains(&&failed), !fits);
    }
}

///
#[test]
fn a_candidate_that_was_found_after_hs1_left_travels_in_hs3() {
    let (mut victim, mut mallory) = Victim::against(Seat::Inviter, true, 415);
    let link = opened(&victim.sees(mallory.endpoint))[0];
    let hs1 = one_blob(&victim.describe(link, "actpass"));
    let late = candidate(99);
    let candidate = late.clone();
    victim.give(Input::LinkCandidate { link, candidate });
    let payload = mallory.payload(PayloadKind::Hs2(Mode::Paired));
    let (hs2, hands) = mallory
        .hs2(victim.endpoint, &hs1, &payload)
        .expect("an honest HS1");
    let out = victim.blob(mallory.endpoint, &hs2);
    let peer = hands.end(&one_blob(&out)).expect("an honest HS3");
    let said = Payload::decode(PayloadKind::Hs3(Mode::Paired), &peer.payload);
    assert_eq!(said.expect("records").candidates, [late]);
}

/// The signaling records of an open responder whose stack finds so many candidates of such a length, some of them before
/// its answer is made: the number and the count of candidates of each.
fn open_answer(early: u16, found: u16, len: usize) -> Vec<(u64, usize)> {
    let (mut victim, mut mallory) = Victim::against(Seat::Open, false, 336);
    let long = |port| format!("{:x<len$}", candidate(port));
    let (out, hands) = knock(&mut victim, &mut mallory);
    let payload = mallory.payload(PayloadKind::Hs3(Mode::Open));
    let (hs3, peer) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
    let link = opened(&victim.blob(mallory.endpoint, &hs3))[0];
    let mut out = find(&mut victim, link, (0..early).map(long));
    victim.candidates = (early..found).map(long).collect();
    out.extend(victim.describe(link, "active"));
    let read = |blob: Vec<u8>| {
        let Ok(Blob::Sig { n, .. }) = Blob::decode(&blob) else {
            panic!("it has nothing else to say");
        };
        let records = peer.read_sig(Mode::Open, &blob).expect("an honest SIG");
        (n, records.candidates.len())
    };
    blobs(&out).into_iter().map(read).collect()
}

///
#[test]
fn candidates_around_an_open_answer_are_64_at_most_and_those_too_long_for_one_record_follow_in_more()
 {
    for (early, found, len) in [(0, 64, 0), (5, 100, 0), (0, 64, 500), (5, 100, 500)] {
        let records = open_answer(early, found, len);
        let numbers = records.iter().map(|(number, _)| *number);
        assert!(numbers.eq(0..records.len() as u64), "{records:?}");
        let candidates: usize = records.iter().map(|(_, candidates)| candidates).sum();
        assert_eq!(candidates, 64, "{records:?}");
    }
}

///
#[test]
fn a_65th_candidate_in_whatever_message_fails_the_attempt() {
    for (seat, initiates) in SCENES {
        let (mut victim, mut mallory) = Victim::against(seat, initiates, 327);
        let (mut peer, link) = victim.shake(&mut mallory);
        // One came with the handshake, one with the open answer; paired initiators sent one more in HS3.
        let mut given = victim.given;
        assert!(given > 0);
        while victim.machine.link() == Some(link) && given < 100 {
            let payload = Payload {
                candidates: vec![candidate(9); 3],
                ..Payload::default()
            };
            let sig = peer.sig(&payload.encode(PayloadKind::Sig(SigSender::Other)).0);
            let out = victim.blob(mallory.endpoint, &sig);
            given += out
                .iter()
                .filter(|output| matches!(output, Output::LinkCandidate { .. }))
                .count();
        }
        assert!((62..=64).contains(&given), "{seat:?} {initiates}: {given}");
        assert!(matches!(
            victim.retried()[..],
            [Error::HandshakeFailed { .. }]
        ));
    }
}
