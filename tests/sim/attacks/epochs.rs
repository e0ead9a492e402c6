//! Rekeying under attack: B10 (healing) and B11 (the epoch model's violations).

use std::time::Duration;

use sealwire::{
    CloseCode, Error,
    error::ProtocolViolation,
    protocol::{ChannelEntry, ChannelOffer, Delivery, Input, LinkId, Output},
};

use crate::{
    mallory::{CLOSE, DATA, DUMMY, PING, PONG, Peer},
    victim::{Seat, Victim, frames},
};

const REKEY_REQ: u8 = 0x15;
const REKEY1: u8 = 0x16;
const REKEY2: u8 = 0x17;
const EPOCH: u8 = 0x18;

fn violation(victim: &Victim) -> Option<ProtocolViolation> {
    match victim.failure() {
        Some(Error::Protocol(violation)) => Some(*violation),
        _ => None,
    }
}

/// The frames among outputs, opened.
#[track_caller]
fn all(peer: &mut Peer, out: &[Output]) -> Vec<(u8, u8, Vec<u8>)> {
    let open = |(channel, frame): (u8, Vec<u8>)| {
        let (kind, body) = peer.open(channel, &frame);
        (channel, kind, body)
    };
    frames(out).into_iter().map(open).collect()
}

/// The only frame among outputs, opened.
#[track_caller]
fn only(peer: &mut Peer, out: &[Output]) -> (u8, Vec<u8>) {
    let frames = frames(out);
    let [(0, frame)] = &frames[..] else {
        panic!("one control frame, not {out:?}");
    };
    peer.open(0, frame)
}

/// A responding victim whose peer rekeyed once: both send under epoch 1.
///
#[track_caller]
fn rekeyed(seed: u64) -> (Victim, Peer, LinkId) {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, seed);
    let (message, reader) = peer.rekey1(seed);
    let frame = peer.frame(0, REKEY1, &message);
    let out = victim.frame(link, 0, &frame);
    let (kind, answer) = only(&mut peer, &out);
    assert_eq!(kind, REKEY2);
    let next = peer.rekeyed(reader, &answer).expect("an honest answer");
    peer.adopt(next);
    let epochs: Vec<Output> = [0, 1]
        .into_iter()
        .flat_map(|channel| {
            let frame = peer.frame(channel, EPOCH, b"");
            victim.frame(link, channel, &frame)
        })
        .collect();
    assert_eq!(frames(&epochs).len(), 2, "EPOCH on both channels, once");
    assert_eq!(peer.open(0, &frames(&epochs)[0].1).0, EPOCH);
    assert_eq!(peer.open(1, &frames(&epochs)[1].1).0, EPOCH);
    (victim, peer, link)
}

#[test]
fn b10_who_has_all_of_an_epoch_and_then_listens_reads_nothing_of_the_next() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 1);
    let (message, reader) = peer.rekey1(2);
    let frame = peer.frame(0, REKEY1, &message);
    let out = victim.frame(link, 0, &frame);
    let (_, answer) = only(&mut peer, &out);
    // The thief has the whole state of epoch 0 and both messages. The best that it can make of them is an answer of
    // its own to REKEY1, or a REKEY1 of its own for REKEY2: neither gives the keys in use.
    let (_, own) = peer.rekey2(3, &message).expect("the stolen psk opens it");
    assert!(peer.rekeyed(peer.rekey1(4).1, &answer).is_none());
    let next = peer.rekeyed(reader, &answer).expect("an honest answer");
    let mut thief = Vec::from([(own.recv, own.send)]);
    peer.adopt(next);
    let frame = peer.frame(0, EPOCH, b"");
    let out = victim.frame(link, 0, &frame);
    for (channel, frame) in frames(&out) {
        for (recv, _) in &mut thief {
            let mut forged = frame.clone();
            let key = recv[usize::from(channel)].key().expect("a fresh chain");
            assert!(sealwire::protocol::open_frame(key, &mut forged).is_err());
        }
        peer.open(channel, &frame);
    }
}

#[test]
fn b10_who_acts_with_a_stolen_epoch_takes_over_which_is_the_documented_loss() {
    // Whoever holds rekey_psk can stand in the middle of the rekey, as the documents say: the victim cannot tell.
    let (mut victim, mut thief, link) = Victim::established(Seat::Open, false, 5);
    let (message, reader) = thief.rekey1(6);
    let frame = thief.frame(0, REKEY1, &message);
    let out = victim.frame(link, 0, &frame);
    let (_, answer) = only(&mut thief, &out);
    assert!(thief.rekeyed(reader, &answer).is_some());
}

///
#[test]
fn b11_messages_flow_on_under_the_new_keys_and_not_under_the_old() {
    let (mut victim, mut peer, link) = rekeyed(10);
    let frame = peer.frame(1, DATA, b"new");
    victim.frame(link, 1, &frame);
    assert_eq!(victim.delivered.len(), 1);
    let mut old = peer.frame(1, DATA, b"old");
    old[..2].copy_from_slice(&[0, 0]);
    victim.frame(link, 1, &old);
    assert!(matches!(
        violation(&victim),
        Some(ProtocolViolation::OutOfOrder { .. })
    ));
}

///
#[test]
fn b11_a_second_rekey1_is_fatal_while_one_is_held_and_after_it_was_answered() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 11);
    for _ in 0..2 {
        let (message, _) = peer.rekey1(12);
        let frame = peer.frame(0, REKEY1, &message);
        victim.frame(link, 0, &frame);
    }
    let expected = ProtocolViolation::UnexpectedRekey { kind: REKEY1 };
    assert_eq!(violation(&victim), Some(expected));
}

///
#[test]
fn b11_a_rekey1_that_comes_before_the_old_epoch_is_retired_is_held() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 13);
    let (message, reader) = peer.rekey1(14);
    let frame = peer.frame(0, REKEY1, &message);
    let out = victim.frame(link, 0, &frame);
    let (_, answer) = only(&mut peer, &out);
    let next = peer.rekeyed(reader, &answer).expect("an honest answer");
    peer.adopt(next);
    let frame = peer.frame(0, EPOCH, b"");
    let out = victim.frame(link, 0, &frame);
    peer.open(0, &frames(&out)[0].1);
    // Channel 1 has not seen the new epoch yet.
    let (message, reader) = peer.rekey1(15);
    let frame = peer.frame(0, REKEY1, &message);
    assert!(frames(&victim.frame(link, 0, &frame)).is_empty());
    let frame = peer.frame(1, EPOCH, b"");
    let out = victim.frame(link, 1, &frame);
    let (kind, answer) = only(&mut peer, &out);
    assert_eq!(kind, REKEY2);
    assert!(peer.rekeyed(reader, &answer).is_some());
    assert!(victim.failure().is_none());
}

///
#[test]
fn b11_rekey2_without_a_question_or_a_second_time_is_fatal() {
    let expected = ProtocolViolation::UnexpectedRekey { kind: REKEY2 };
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 16);
    let frame = peer.frame(0, REKEY2, &[7; 1_152]);
    victim.frame(link, 0, &frame);
    assert_eq!(violation(&victim), Some(expected));
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 17);
    let out = victim.give(Input::Rekey);
    let (kind, message) = only(&mut peer, &out);
    assert_eq!(kind, REKEY1);
    let (answer, next) = peer.rekey2(18, &message).expect("an honest question");
    for _ in 0..2 {
        let frame = peer.frame(0, REKEY2, &answer);
        victim.frame(link, 0, &frame);
    }
    assert_eq!(violation(&victim), Some(expected));
    drop(next);
}

///
#[test]
fn b11_a_changed_rekey_message_is_fatal_at_every_byte_looked_at() {
    for at in (0..1_248).step_by(97) {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 19);
        let (mut message, _) = peer.rekey1(20);
        message[at] ^= 1;
        let frame = peer.frame(0, REKEY1, &message);
        victim.frame(link, 0, &frame);
        assert_eq!(
            violation(&victim),
            Some(ProtocolViolation::RekeyRejected),
            "byte {at}"
        );
    }
    for at in (0..1_152).step_by(97) {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 21);
        let out = victim.give(Input::Rekey);
        let (_, message) = only(&mut peer, &out);
        let (mut answer, _) = peer.rekey2(22, &message).expect("an honest question");
        answer[at] ^= 1;
        let frame = peer.frame(0, REKEY2, &answer);
        victim.frame(link, 0, &frame);
        assert_eq!(
            violation(&victim),
            Some(ProtocolViolation::RekeyRejected),
            "byte {at}"
        );
    }
}

///
#[test]
fn b11_a_rekey_after_close_is_fatal() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 23);
    let frame = peer.frame(0, CLOSE, b"\0");
    victim.frame(link, 0, &frame);
    let (message, _) = peer.rekey1(24);
    let frame = peer.frame(0, REKEY1, &message);
    victim.frame(link, 0, &frame);
    assert!(victim.machine.is_ended());
    assert!(victim.machine.link() != Some(link));
}

///
#[test]
fn b11_a_new_epoch_starts_with_epoch_and_epoch_stands_nowhere_else() {
    for (channel, kind) in [(0, PING), (1, DATA)] {
        let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 25);
        let (message, reader) = peer.rekey1(26);
        let frame = peer.frame(0, REKEY1, &message);
        let out = victim.frame(link, 0, &frame);
        let (_, answer) = only(&mut peer, &out);
        let next = peer.rekeyed(reader, &answer).expect("an honest answer");
        peer.adopt(next);
        let frame = peer.frame(channel, kind, &[1; 8]);
        victim.frame(link, channel, &frame);
        assert_eq!(
            violation(&victim),
            Some(ProtocolViolation::MisplacedEpoch { channel })
        );
    }
    for channel in [0, 1] {
        let (mut victim, mut peer, link) = rekeyed(27);
        let frame = peer.frame(channel, EPOCH, b"");
        victim.frame(link, channel, &frame);
        assert_eq!(
            violation(&victim),
            Some(ProtocolViolation::MisplacedEpoch { channel })
        );
    }
}

///
#[test]
fn b11_many_requests_are_one_rekey_and_rekeys_are_a_second_apart() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, true, 28);
    let mut rekeys = 0;
    for _ in 0..100 {
        let frame = peer.frame(0, REKEY_REQ, b"");
        let out = victim.frame(link, 0, &frame);
        for (channel, frame) in frames(&out) {
            let (kind, body) = peer.open(channel, &frame);
            if kind == REKEY1 {
                rekeys += 1;
                let (answer, next) = peer.rekey2(29, &body).expect("an honest question");
                let frame = peer.frame(0, REKEY2, &answer);
                let out = victim.frame(link, 0, &frame);
                peer.adopt(next);
                for (channel, frame) in frames(&out) {
                    assert_eq!(peer.open(channel, &frame).0, EPOCH);
                    let frame = peer.frame(channel, EPOCH, b"");
                    victim.frame(link, channel, &frame);
                }
            }
        }
    }
    assert_eq!(rekeys, 1, "within no time");
    let out = victim.wait(Duration::from_secs(2));
    let asked = frames(&out)
        .iter()
        .filter(|(channel, frame)| peer.open(*channel, frame).0 == REKEY1)
        .count();
    assert_eq!(asked, 1, "the wish waited its second");
    let _ = PONG;
}

/// The peer's REKEY1 is answered, and it sends under the new keys from here on.
#[track_caller]
fn rekey(victim: &mut Victim, peer: &mut Peer, link: LinkId, seed: u64) {
    let (message, reader) = peer.rekey1(seed);
    let frame = peer.frame(0, REKEY1, &message);
    let (kind, answer) = only(peer, &victim.frame(link, 0, &frame));
    assert_eq!(kind, REKEY2);
    let next = peer.rekeyed(reader, &answer).expect("an honest answer");
    peer.adopt(next);
}

///
#[test]
fn b11_a_wish_made_while_new_keys_are_under_way_is_for_those_behind_them() {
    let (mut victim, _, _) = Victim::established(Seat::Open, true, 30);
    assert_eq!(victim.machine.rekey_goal(), Some(1));
    victim.give(Input::Rekey);
    assert_eq!(victim.machine.rekey_goal(), Some(2));
}

///
#[test]
fn b11_a_wish_of_the_responder_waits_from_rekey1_until_the_new_keys_are_in_use() {
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 31);
    rekey(&mut victim, &mut peer, link, 32);
    assert!(frames(&victim.give(Input::Rekey)).is_empty());
    let frame = peer.frame(0, EPOCH, b"");
    let said = all(&mut peer, &victim.frame(link, 0, &frame));
    let kinds: Vec<(u8, u8)> = said.iter().map(|said| (said.0, said.1)).collect();
    assert_eq!(kinds, [(0, EPOCH), (1, EPOCH), (0, REKEY_REQ)]);
    // The same while REKEY1 is held.
    let (mut victim, mut peer, link) = Victim::established(Seat::Open, false, 33);
    rekey(&mut victim, &mut peer, link, 34);
    let frame = peer.frame(0, EPOCH, b"");
    victim.frame(link, 0, &frame);
    let (message, _) = peer.rekey1(35);
    let frame = peer.frame(0, REKEY1, &message);
    assert!(frames(&victim.frame(link, 0, &frame)).is_empty());
    assert!(frames(&victim.give(Input::Rekey)).is_empty());
}

///
#[test]
fn b11_old_keys_of_lossy_channels_go_10_seconds_after_the_new_epoch_came_on_channel_0() {
    let (mut victim, mut peer, link) = Victim::established_with(0xc0, 36, |setup, mallory| {
        setup.channels.push(ChannelOffer {
            id: 5,
            delivery: Delivery::Lossy,
            label: "positions".to_owned(),
        });
        mallory.channels.push(ChannelEntry {
            channel: 5,
            kind: 2,
            label: "positions".to_owned(),
        });
    });
    rekey(&mut victim, &mut peer, link, 37);
    let frame = peer.frame(0, EPOCH, b"");
    let out = victim.frame(link, 0, &frame);
    assert_eq!(all(&mut peer, &out).len(), 2, "EPOCH on both");
    victim.wait(Duration::from_secs(3));
    let frame = peer.frame(1, EPOCH, b"");
    victim.frame(link, 1, &frame);
    victim.wait(Duration::from_secs(2));
    let frame = peer.frame(0, PING, &[7; 8]);
    assert_eq!(only(&mut peer, &victim.frame(link, 0, &frame)).0, PONG);
    victim.wait(Duration::from_secs(1));
    let (message, _) = peer.rekey1(38);
    let frame = peer.frame(0, REKEY1, &message);
    assert!(frames(&victim.frame(link, 0, &frame)).is_empty(), "held");
    let out = victim.wait(Duration::from_millis(3_999));
    assert!(frames(&out).is_empty());
    let out = victim.wait(Duration::from_millis(1));
    assert_eq!(only(&mut peer, &out).0, REKEY2);
}

///
#[test]
fn b11_without_new_keys_for_600_seconds_the_session_closes_if_the_peer_was_heard_in_the_last_30() {
    for silence in [29, 30, 45] {
        let (mut victim, mut peer, link) = Victim::established_with(0x40, 40, |setup, _| {
            setup.config.timeouts.lost_after = Duration::from_secs(60);
        });
        let out = victim.give(Input::Rekey);
        assert_eq!(only(&mut peer, &out).0, REKEY1);
        let speak = |victim: &mut Victim, peer: &mut Peer, after: u64| {
            let mut out = victim.wait(Duration::from_secs(after));
            let frame = peer.frame(0, DUMMY, b"");
            out.extend(victim.frame(link, 0, &frame));
            all(peer, &out)
        };
        let closes = |said: &[(u8, u8, Vec<u8>)]| {
            let close = |said: &&(u8, u8, Vec<u8>)| (said.0, said.1) == (0, CLOSE);
            said.iter().find(close).map(|(.., body)| body[0])
        };
        let expected = Some(CloseCode::REKEY_TIMEOUT.to_wire());
        for _ in 0..55 {
            assert_eq!(closes(&speak(&mut victim, &mut peer, 10)), None);
        }
        assert_eq!(closes(&speak(&mut victim, &mut peer, 50 - silence)), None);
        let out = victim.wait(Duration::from_secs(silence));
        let closed = closes(&all(&mut peer, &out));
        if silence < 30 {
            assert_eq!(closed, expected, "600 s");
            continue;
        }
        // Silence may be the path's: the peer has to be heard again.
        assert_eq!(closed, None, "{silence}");
        assert_eq!(closes(&speak(&mut victim, &mut peer, 5)), expected);
    }
}
