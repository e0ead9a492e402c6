//! Entry points of the fuzzer (`fuzz/`): each takes any bytes, and panics when a rule is broken. Not part of the public
//! API. The committed corpus is replayed through them by the tests below.

use bytes::Bytes;

use crate::invite::Invite;
use crate::message::codec;
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

/// A frame of a client, at the signaling server.
#[cfg(any(feature = "client", feature = "server"))]
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
#[cfg(any(feature = "client", feature = "server"))]
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    type Entry = (&'static str, fn(&[u8]));

    /// Every target of `fuzz/fuzz_targets/` and what it calls.
    const TARGETS: &[Entry] = &[
        ("decode_invite", super::invite),
        ("decode_message", super::message),
        ("decode_qr_code", super::qr_code),
        #[cfg(any(feature = "client", feature = "server"))]
        ("decode_client_envelope", super::client_envelope),
        #[cfg(any(feature = "client", feature = "server"))]
        ("decode_server_envelope", super::server_envelope),
    ];

    /// Targets of the network, which the core alone is built without.
    const NEED_NETWORK: &[&str] = &["decode_client_envelope", "decode_server_envelope"];

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
            .chain(NEED_NETWORK.iter().copied());
        assert_eq!(written, replayed.map(str::to_owned).collect());
    }
}
