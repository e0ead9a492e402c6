//! Entry points of the fuzzer (`fuzz/`): each takes any bytes, and panics when a rule is broken. Not part of the public
//! API. The committed corpus is replayed through them by the tests below.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::crypto::chain::{MessageKey, SendChain};
use crate::crypto::secret::Secret;
use crate::history::{Record, export::Export};
use crate::invite::Invite;
use crate::message::codec;
use crate::protocol::sdp::{self, SdpKind};
use crate::protocol::{
    Blob, Control, FRAME_OVERHEAD, Mode, Payload, PayloadKind, SigSender, open_frame, padme,
    seal_frame,
};
use crate::stream;
use crate::verify::QrPayload;

/// A message body from the network: what is read can be written and read again, and nothing is lost.
pub fn message(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok((content, timestamp)) = codec::decode(&body) else {
        return;
    };
    let again = codec::encode(&content, timestamp).expect("what was read is within the limits");
    assert_eq!(codec::decode(&again), Ok((content, timestamp)));
    let is_json = data.get(1) == Some(&3);
    assert!(is_json || again == body, "text and bytes have one encoding");
}

/// The text of an invite, as pasted: it has one form.
pub fn invite(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(invite) = text.parse::<Invite>() {
        assert_eq!(invite.to_string(), text.trim_ascii());
    }
}

/// The text of a scanned verification code: it has one form.
pub fn qr_code(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(payload) = text.parse::<QrPayload>() {
        assert_eq!(payload.to_string(), text);
    }
}

/// A blob from the server: it has one form.
pub fn blob(data: &[u8]) {
    if let Ok(blob) = Blob::decode(data) {
        assert_eq!(blob.encode(), data);
    }
}

/// The payload of a handshake message. The first byte says which; zeros fill the last block.
pub fn payload(data: &[u8]) {
    let Some((&place, records)) = data.split_first() else {
        return;
    };
    let (kind, block) = match place % 7 {
        0 => (PayloadKind::Hs1, 512),
        1 => (PayloadKind::Hs2(Mode::Open), 512),
        2 => (PayloadKind::Hs2(Mode::Paired), 512),
        3 => (PayloadKind::Hs3(Mode::Open), 512),
        4 => (PayloadKind::Hs3(Mode::Paired), 512),
        5 => (PayloadKind::Sig(SigSender::OpenResponder), 256),
        _ => (PayloadKind::Sig(SigSender::Other), 256),
    };
    let mut padded = records.to_vec();
    padded.resize(records.len().next_multiple_of(block), 0);
    if let Ok(payload) = Payload::decode(kind, &padded) {
        let (again, left) = payload.clone().encode(kind);
        assert!(
            again.len() <= padded.len() && left.is_empty(),
            "what fitted still fits"
        );
        assert_eq!(Payload::decode(kind, &again), Ok(payload));
    }
}

/// A frame of channel 0 after it was opened: its kind, then its body.
pub fn control(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else {
        return;
    };
    if let Ok(control) = Control::decode(kind, body) {
        let mut again = Vec::new();
        control.encode(&mut again);
        assert_eq!(Control::decode(control.kind(), &again), Ok(control));
    }
}

/// Messages of the streams channel, each behind its length in two bytes: a message has one form, and whatever a peer
/// says, what this side must keep of it stays within what it granted.
pub fn streams(data: &[u8]) {
    const WINDOW: u64 = 1_000;
    let mut machine = stream::Machine::default();
    for n in 0..3_u8 {
        let offer = stream::Offer {
            kind: stream::Kind::Bytes,
            name: "given".into(),
            size: (n == 1).then_some(10),
            content: [n; 32],
        };
        machine.offer(offer).expect("room for three");
    }
    let (mut rest, mut kept, mut events) = (data, BTreeMap::<_, u64>::new(), Vec::new());
    while let Some((len, after)) = rest.split_first_chunk() {
        let (message, after) =
            after.split_at(usize::from(u16::from_be_bytes(*len)).min(after.len()));
        let message = Bytes::copy_from_slice(message);
        if let Ok(decoded) = stream::Message::decode(&message) {
            assert_eq!(decoded.encode(), message);
        }
        let _ = machine.receive(&message, &mut events);
        for event in events.drain(..) {
            if let stream::Event::Data(id, bytes) = &event {
                *kept.entry(*id).or_default() += bytes.len() as u64;
                assert!(kept[id] <= WINDOW, "{} bytes", kept[id]);
            }
            answer_stream(&mut machine, event, WINDOW);
        }
        if message.len().is_multiple_of(2) {
            let mut sent = 0;
            while machine.next_message().is_some() {
                sent += 1;
            }
            assert!(sent <= 8 * stream::MAX_STREAMS, "{sent} messages waited");
        }
        rest = after;
    }
}

/// What a host does that takes everything, and looks at none of it.
fn answer_stream(machine: &mut stream::Machine, event: stream::Event, window: u64) {
    match event {
        stream::Event::Offered(id, offer) => {
            assert!(offer.is_valid());
            let name = stream::file_name(&offer.name);
            assert!((1..=201).contains(&name.len()) && !name.contains(['/', '\\', '\0']));
            assert!(machine.accept(id, (0, [0; 32]), window));
        }
        stream::Event::Accepted { id, offset, .. } => assert!(machine.begin(id, offset)),
        stream::Event::Ended(id, _) => assert!(machine.done(id)),
        stream::Event::Data(..)
        | stream::Event::Credit(_)
        | stream::Event::Stopped(..)
        | stream::Event::Done(_)
        | stream::Event::Began(..)
        | stream::Event::Aborted(..)
        | stream::Event::Faulted => {}
    }
}

/// A record of a history, as it was stored: it has one form. The same bytes as an export: reading and checking them ends.
pub fn history(data: &[u8]) {
    if let Some(record) = Record::decode(&Bytes::copy_from_slice(data)) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, data);
    }
    if let Ok(export) = Export::parse(data) {
        // Neither panics, whatever the numbers in it.
        let _ = export.verify();
        let _ = export.compare(&export);
    }
}

/// A frame from the network; and the same bytes as a body, which comes back from a sealed frame and from no other.
pub fn frame(data: &[u8]) {
    assert!(
        open_frame(&message_key(), &mut data.to_vec()).is_err(),
        "a forgery"
    );
    let Some((&kind, body)) = data.split_first().filter(|(kind, _)| **kind != 0) else {
        return;
    };
    let buffer = [&[0; 8], body].concat();
    let mut sealed = seal_frame(message_key(), 1, 2, kind, buffer, padme(body.len() + 1));
    assert!(sealed.len() >= body.len() + FRAME_OVERHEAD);

    let mut damaged = sealed.clone();
    let at = (body.len() * 31 + usize::from(kind)) % damaged.len();
    damaged[at] ^= 1 << (kind % 8);
    assert!(
        open_frame(&message_key(), &mut damaged).is_err(),
        "one bit at {at}"
    );

    let (found, range) = open_frame(&message_key(), &mut sealed).expect("sealed with this key");
    assert_eq!((found, &sealed[range]), (kind, body));
}

/// The same key for every frame here; elsewhere none is used twice.
fn message_key() -> MessageKey {
    let (_, key) = SendChain::new(Secret::new([7; 32]))
        .next()
        .expect("a chain begins with a key");
    key
}

/// A session description of a peer: what is read from it does not depend on the candidates in it.
pub fn sdp(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for kind in [SdpKind::Offer, SdpKind::Answer] {
        if let Ok(description) = sdp::parse(text, kind) {
            let stripped = sdp::strip_candidates(text);
            assert!(!stripped.contains("\na=candidate:"));
            assert_eq!(sdp::parse(&stripped, kind), Ok(description));
        }
    }
}

/// What a TURN server sends over a stream: whole messages, one behind the other, and answers to a probe among them.
#[cfg(feature = "client")]
pub fn turn_stream(data: &[u8]) {
    use crate::transport::{stun, turn_frame};

    let mut rest = data;
    while let Ok(Some(piece)) = turn_frame::first(rest) {
        assert!((4..=rest.len()).contains(&piece.padded));
        assert_eq!(piece.length.next_multiple_of(4), piece.padded);
        for method in [stun::Method::Binding, stun::Method::Allocate] {
            if let Some(answer) = stun::answer(method, &rest[..piece.length]) {
                assert!(answer.error.is_none_or(|code| code < 800));
            }
        }
        rest = &rest[piece.padded..];
    }
}

/// A frame of a client, at the signaling server.
#[cfg(any(feature = "session", feature = "server"))]
pub fn client_envelope(data: &[u8]) {
    use crate::signaling::envelope::{ClientEnvelope, MAX_FRAME};

    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(envelope) = ClientEnvelope::decode(text) {
        let again = envelope.encode();
        assert!(again.len() <= MAX_FRAME);
        assert_eq!(ClientEnvelope::decode(&again), Ok(envelope));
    }
}

/// A frame of the signaling server, at a client.
#[cfg(any(feature = "session", feature = "server"))]
pub fn server_envelope(data: &[u8]) {
    use crate::signaling::envelope::{MAX_FRAME, ServerEnvelope};

    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(envelope) = ServerEnvelope::decode(text) {
        let again = envelope.encode();
        assert!(again.len() <= MAX_FRAME);
        assert_eq!(ServerEnvelope::decode(&again), Ok(envelope));
    }
}

/// A file that should be a vault: without its key nothing opens, and a header has one form. The same bytes as what a vault
/// held when it was decrypted, filled with zeros to a page: they have one form too.
#[cfg(feature = "store")]
pub fn vault(data: &[u8]) {
    use crate::store::{self, StoreKey, Vault};

    if let Ok(header) = store::Header::decode(data) {
        assert_eq!(header.encode()[..], data[..store::HEADER_LEN]);
    }
    let key = StoreKey::from_secret_bytes([7; 32]);
    assert!(Vault::open(data, &key).is_err(), "a forgery");

    let mut contents = data.to_vec();
    contents.resize(data.len().next_multiple_of(4_096), 0);
    if let Ok((identity, history, contacts)) = store::decode_contents(&contents) {
        let again = store::encode_contents(&identity, history.as_ref(), &contacts, (0, 0));
        assert_eq!(again[..], contents);
    }
}

/// What a client sends over a WebSocket, in pieces as long as the first byte says: it is read as if it came at once,
/// and nothing is kept that was read.
#[cfg(feature = "server")]
pub fn websocket(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else {
        return;
    };
    let whole = decode_pieces(&[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(step) + 1).collect();
    assert_eq!(decode_pieces(&pieces), whole);
}

/// The frames of a WebSocket as text, and the error that ends them.
#[cfg(feature = "server")]
fn decode_pieces(pieces: &[&[u8]]) -> Vec<String> {
    use crate::server::websocket::{Bounds, Decoder, Frame, MAX_CLIENT_HEADER};

    const MESSAGE: usize = 300;
    let mut decoder = Decoder::new(Bounds {
        message: MESSAGE,
        fragments: 5,
    });
    let (mut held, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let (size, is_last) = match decoder.decode(&mut held) {
                Ok(None) => break,
                Ok(Some((size, frame))) => {
                    seen.push(format!("{frame:?}"));
                    (size, matches!(frame, Frame::Close(_)))
                }
                Err(violation) => {
                    seen.push(violation.to_string());
                    return seen;
                }
            };
            held.drain(..size);
            if is_last {
                return seen;
            }
        }
        assert!(
            held.len() <= MESSAGE + MAX_CLIENT_HEADER,
            "more than a frame"
        );
    }
    seen
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    type Entry = (&'static str, fn(&[u8]));

    /// Every target of `fuzz/fuzz_targets/` and what it calls.
    const TARGETS: &[Entry] = &[
        ("decode_blob", super::blob),
        ("decode_control", super::control),
        ("decode_history", super::history),
        ("decode_invite", super::invite),
        ("decode_message", super::message),
        ("decode_payload", super::payload),
        ("decode_qr_code", super::qr_code),
        ("decode_sdp", super::sdp),
        ("decode_stream", super::streams),
        ("open_frame", super::frame),
        #[cfg(feature = "store")]
        ("open_vault", super::vault),
        #[cfg(any(feature = "session", feature = "server"))]
        ("decode_client_envelope", super::client_envelope),
        #[cfg(any(feature = "session", feature = "server"))]
        ("decode_server_envelope", super::server_envelope),
        #[cfg(feature = "client")]
        ("decode_turn_stream", super::turn_stream),
        #[cfg(feature = "server")]
        ("decode_websocket", super::websocket),
    ];

    /// Targets of features, which the core alone is built without.
    const NEED_FEATURES: &[&str] = &[
        "decode_client_envelope",
        "decode_server_envelope",
        "decode_turn_stream",
        "decode_websocket",
        "open_vault",
    ];

    /// Replayed by the simulator, of which it is made (`tests/sim/replayed.rs`).
    const BY_THE_SIMULATOR: &[&str] = &["operations"];

    fn files(folder: &str) -> Vec<PathBuf> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz")
            .join(folder);
        let entries =
            fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn every_committed_input_of_every_target_breaks_no_rule() {
        for (target, entry) in TARGETS {
            let inputs = files(&format!("corpus/{target}"));
            assert!(!inputs.is_empty(), "{target} has seeds");
            inputs
                .iter()
                .for_each(|input| entry(&fs::read(input).unwrap()));
        }
    }

    #[test]
    fn every_target_is_replayed() {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let written: BTreeSet<String> = files("fuzz_targets").iter().map(stem).collect();
        let replayed = TARGETS
            .iter()
            .map(|(target, _)| *target)
            .chain(NEED_FEATURES.iter().copied())
            .chain(BY_THE_SIMULATOR.iter().copied());
        assert_eq!(written, replayed.map(str::to_owned).collect());
    }
}
