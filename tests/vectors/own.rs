//! Conformance vectors: every JSON file of `tests/vectors`, and of the folder that SEALWIRE_VECTORS names.
//!
//! Three forms of file, told apart by their keys: sealwire's own (sections of `SECTIONS`), one post-quantum Noise run
//! (`noise-xxhfs.json`), and a list of classical Noise runs (`vectors`, as the Noise community exchanges them).

use std::path::Path;

use sealwire::crypto::chain::{FRAMES_PER_CHAIN, RecvChain, SendChain};
use sealwire::crypto::epoch::{self, Epoch, Role};
use sealwire::crypto::kdf::{self, Label, PairingKind};
use sealwire::crypto::noise::{
    self, Dh, Finished, Pattern, ReadDone, Setup, StaticKey, Token, Written,
};
use sealwire::crypto::secret::Secret;
use serde_json::Value;

use crate::support::{Script, bytes, hex, list};

/// Checks one section, given the file and the section.
type Check = fn(&Value, &Value);

/// The sections of a sealwire file and what checks each.
const SECTIONS: &[(&str, Check)] = &[
    ("invite", invite),
    ("contact", contact),
    ("resume", resume),
    ("open", session),
    ("paired", session),
    ("safety_number", safety_number),
    ("padme", padme),
];

/// Sections of what this crate does not do yet.
const ELSEWHERE: &[&str] = &["history"];

const POST_QUANTUM: &[&Pattern] = &[
    &noise::XXHFS,
    &noise::XXHFS_PSK0,
    &noise::NNHFS,
    &noise::NNHFS_PSK0,
];

#[test]
fn published_and_own_vectors_are_reproduced() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    assert!(folder(&own) >= 2, "the vectors are in {}", own.display());
}

#[test]
fn vectors_of_the_named_folder_are_reproduced() {
    if let Some(path) = std::env::var_os("SEALWIRE_VECTORS") {
        let path = Path::new(&path);
        assert!(folder(path) > 0, "no vectors in {}", path.display());
    }
}

/// Checks every JSON file of a folder, and says how many were vectors.
fn folder(path: &Path) -> usize {
    let entries = path.read_dir().expect("the folder can be read");
    let files = entries.map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|end| end == "json") && self::file(file))
        .count()
}

/// Checks one file, unless it is of no known form.
fn file(path: &Path) -> bool {
    println!("{}", path.display());
    let text = std::fs::read_to_string(path).expect("the file can be read");
    let file: Value = serde_json::from_str(&text).expect("the file is JSON");
    if let Some(vectors) = file["vectors"].as_array() {
        vectors.iter().for_each(classical);
        return true;
    }
    if file.get("m1").is_some() {
        post_quantum(&file);
        return true;
    }
    let mut known = false;
    for (name, section) in file.as_object().into_iter().flatten() {
        if let Some((_, check)) = SECTIONS.iter().find(|(key, _)| key == name) {
            println!("  {name}");
            check(&file, section);
            known = true;
        }
    }
    known
}

#[test]
fn every_section_of_the_own_vectors_is_known() {
    let file: Value = serde_json::from_str(include_str!("sealwire-1.json")).unwrap();
    for name in file.as_object().unwrap().keys() {
        let known = SECTIONS.iter().map(|(key, _)| key).chain(ELSEWHERE);
        assert!(known.into_iter().any(|key| key == name), "{name}");
    }
}

///
fn invite(_: &Value, section: &Value) {
    let context = bytes(&section["inviter_pk"]);
    pairing(PairingKind::Invite, section, &context);
    let Some(text) = section["text"].as_str() else {
        return;
    };
    let invite: sealwire::Invite = text.parse().unwrap();
    same(
        invite.inviter().as_bytes(),
        &section["inviter_pk"],
        "inviter",
    );
    assert_eq!(invite.server(), section["relay_url"]);
    assert_eq!(
        invite.expires_at().map(u64::from),
        section["expiry_unix"].as_u64()
    );
    assert_eq!(invite.to_string(), text);
}

///
fn safety_number(_: &Value, section: &Value) {
    let [a, b] = ["pk_a", "pk_b"].map(|key| {
        let key: [u8; 32] = bytes(&section[key]).try_into().unwrap();
        sealwire::PeerId::from_bytes(key)
    });
    assert_eq!(
        sealwire::SafetyNumber::between(a, b).digits(),
        section["digits"]
    );
}

///
fn padme(_: &Value, section: &Value) {
    for (length, padded) in section.as_object().unwrap() {
        let length: usize = length.parse().unwrap();
        assert_eq!(
            Some(sealwire::protocol::padme(length) as u64),
            padded.as_u64()
        );
    }
}

fn contact(file: &Value, section: &Value) {
    let mut keys = [
        bytes(&file["safety_number"]["pk_a"]),
        bytes(&file["safety_number"]["pk_b"]),
    ];
    keys.sort();
    pairing(PairingKind::Contact, section, &keys.concat());
}

fn resume(_: &Value, section: &Value) {
    let context = bytes(&section["session_id"]);
    pairing(PairingKind::Resume, section, &context);
}

///
fn pairing(kind: PairingKind, section: &Value, context: &[u8]) {
    let pairing = kdf::pairing(kind, &secret(&section["secret"]), context);
    same(pairing.psk.expose(), &section["psk"], "psk");
    same(&pairing.psk_id, &section["psk_id"], "psk_id");
    match pairing.room {
        Some(room) => same(&room, &section["room"], "room"),
        None => assert!(section.get("room").is_none()),
    }
}

/// A whole session: handshake, epoch 0, frames, a rekey, SAS.
///
fn session(_: &Value, section: &Value) {
    let inputs = &section["inputs"];
    let prologue = prologue(inputs);
    same(&prologue, &section["prologue"], "prologue");
    let statics = ["initiator_static_secret", "responder_static_secret"]
        .map(|name| Some(StaticKey::new(secret(&inputs[name]))));
    let [initiator, responder] = post_quantum_run(section, inputs, &prologue, &statics);
    let publics = statics.map(|key| *key.unwrap().public());
    assert_eq!(initiator.remote_static, Some(publics[1]));
    assert_eq!(responder.remote_static, Some(publics[0]));

    let x = initiator.exporter.duplicate();
    same(x.expose(), &section["x"], "x");
    session_secrets(section, &x, &initiator.hash, &publics);
    roots(&section["epoch0"], &x, &initiator.hash);
    let hash = initiator.hash;
    let sender = epoch::derive(initiator.exporter, hash, Role::Initiator);
    let receiver = epoch::derive(responder.exporter, hash, Role::Responder);
    for epoch in [&sender, &receiver] {
        same(
            epoch.rekey_psk.expose(),
            &section["epoch0"]["rekey_psk"],
            "rekey_psk",
        );
        same(
            epoch.resume.expose(),
            &section["resume_secret"],
            "resume_secret",
        );
    }
    rekey(&section["rekey1"], &hash, &sender.rekey_psk);
    frames(section, sender, receiver);
}

/// §1.4: `P || mode || room || ep_initiator || ep_responder || psk_id`.
///
fn prologue(inputs: &Value) -> Vec<u8> {
    let mode = u8::from(!bytes(&inputs["psk"]).is_empty());
    let mut prologue = [kdf::PROTOCOL, &[mode]].concat();
    for field in ["room", "ep_initiator", "ep_responder", "psk_id"] {
        prologue.extend(bytes(&inputs[field]));
    }
    assert_eq!(prologue.len(), 91);
    prologue
}

///
fn session_secrets(section: &Value, x: &Secret, hash: &[u8; 32], publics: &[[u8; 32]; 2]) {
    let secrets = epoch::session_secrets(x, hash);
    same(&secrets.session_id, &section["session_id"], "session_id");
    same(&secrets.resume_room, &section["resume_room"], "resume_room");
    same(
        secrets.contact.expose(),
        &section["contact_secret"],
        "contact_secret",
    );
    same(secrets.sas_key.expose(), &section["sas_key"], "sas_key");
    let sas = &section["sas"];
    let nonces: [[u8; 32]; 2] =
        ["nonce_initiator", "nonce_responder"].map(|name| array(&sas[name]));
    same(&kdf::sas_commit(hash, &nonces[1]), &sas["commit"], "commit");
    let code = kdf::sas_code(
        &secrets.sas_key,
        &nonces[0],
        &nonces[1],
        &publics[0],
        &publics[1],
    );
    assert_eq!(serde_json::json!(code), sas["code"], "sas code");
}

/// The two roots of an epoch, which `derive` does not show.
///
fn roots(section: &Value, x: &Secret, hash: &[u8; 32]) {
    let i2r: Secret = kdf::expand(x, Label::EpochInitiatorToResponder, hash);
    same(i2r.expose(), &section["i2r"], "i2r");
    let r2i: Secret = kdf::expand(x, Label::EpochResponderToInitiator, hash);
    same(r2i.expose(), &section["r2i"], "r2i");
}

/// Channel 1, initiator to responder: message keys, and the frames sealed with the first and the sixteenth.
///
fn frames(section: &Value, sender: Epoch, receiver: Epoch) {
    let [_, mut send, ..] = sender.send;
    let [_, mut recv, ..] = receiver.recv;
    let keys = section["ch1_i2r_mk"].as_object().unwrap();
    let last: u64 = keys.keys().map(|n| n.parse().unwrap()).max().unwrap();
    for n in 0..=last {
        let frame = match n {
            0 => section.get("frame_ch1_seq0").map(|frame| (frame, 32)),
            15 => section.get("frame_ch1_seq15_nopad").map(|frame| (frame, 6)),
            _ => None,
        };
        message_key(&mut send, &mut recv, n, keys.get(&n.to_string()), frame);
    }
}

fn message_key(
    send: &mut SendChain,
    recv: &mut RecvChain,
    n: u64,
    expected: Option<&Value>,
    frame: Option<(&Value, usize)>,
) {
    let (seq, key) = send.next().unwrap();
    assert_eq!(seq, n);
    assert_eq!(recv.key().unwrap().expose(), key.expose());
    if let Some(expected) = expected {
        same(key.expose(), expected, "message key");
    }
    if let Some((frame, padded)) = frame {
        let frame = bytes(frame);
        let (header, rest) = frame.split_at(8);
        assert_eq!(header, n.to_be_bytes(), "epoch 0");
        let nonce = [&[0; 4], header].concat().try_into().unwrap();
        let mut text = b"hello\x01".to_vec();
        text.resize(padded, 0);
        let mut sealed = text.clone();
        let tag = key.seal(&nonce, &mut sealed);
        assert_eq!([&sealed[..], &tag].concat(), rest);
        let mut received = rest.to_vec();
        assert_eq!(
            recv.key().unwrap().open(&nonce, &mut received).unwrap(),
            text
        );
    }
    recv.commit();
    assert!(seq < FRAMES_PER_CHAIN);
}

/// The rekey to epoch 1 (§1.9).
///
fn rekey(section: &Value, hash: &[u8; 32], psk: &Secret) {
    let inputs = &section["inputs"];
    let prologue = kdf::rekey_prologue(1, hash);
    same(&prologue, &section["prologue"], "rekey prologue");
    let pattern = post_quantum_pattern(section);
    let run = Run {
        pattern,
        prologue: &prologue,
        statics: &[None, None],
        psks: vec![psk.duplicate()],
        draws: draws(inputs),
        payloads: vec![vec![]; 2],
    };
    let (messages, [initiator, responder]) = run.play();
    for (message, name) in messages.iter().zip(["r1", "r2"]) {
        same(message, &section[name], name);
    }
    for side in [&initiator, &responder] {
        same(&side.hash, &section["h"], "rekey h");
        same(side.exporter.expose(), &section["x"], "rekey x");
        roots(section, &side.exporter, &side.hash);
    }
}

/// One run of a post-quantum pattern without anything after it.
fn post_quantum(file: &Value) {
    let prologue = bytes(&file["prologue"]);
    let statics = ["initiator_static_secret", "responder_static_secret"]
        .map(|name| file.get(name).map(|key| StaticKey::new(secret(key))));
    post_quantum_run(file, file, &prologue, &statics);
}

fn post_quantum_run(
    expected: &Value,
    inputs: &Value,
    prologue: &[u8],
    statics: &[Option<StaticKey>; 2],
) -> [Finished; 2] {
    let psk = inputs.get("psk").map(bytes).filter(|psk| !psk.is_empty());
    let payloads = match inputs.get("payloads_utf8") {
        Some(texts) => list(texts)
            .map(|text| text.as_str().unwrap().into())
            .collect(),
        None => list(&inputs["payloads"]).map(bytes).collect(),
    };
    let run = Run {
        pattern: post_quantum_pattern(expected),
        prologue,
        statics,
        psks: psk
            .into_iter()
            .map(|psk| Secret::new(psk.try_into().unwrap()))
            .collect(),
        draws: draws(inputs),
        payloads,
    };
    let (messages, finished) = run.play();
    for (i, message) in messages.iter().enumerate() {
        let name = format!("m{}", i + 1);
        same(message, &expected[&name], &name);
    }
    for side in &finished {
        same(&side.hash, &expected["h"], "h");
        same(side.k1.expose(), &expected["k1"], "k1");
        same(side.k2.expose(), &expected["k2"], "k2");
    }
    finished
}

fn post_quantum_pattern(section: &Value) -> &'static Pattern {
    let name = section["name"].as_str().unwrap();
    POST_QUANTUM
        .iter()
        .find(|pattern| pattern.name() == name)
        .unwrap_or_else(|| panic!("{name}"))
}

/// What each side draws: its ephemeral key first, then its half of the KEM.
fn draws(inputs: &Value) -> [Vec<u8>; 2] {
    [
        ["initiator_ephemeral_secret", "mlkem_keygen_seed_d_z"],
        ["responder_ephemeral_secret", "mlkem_encaps_m"],
    ]
    .map(|names| names.map(|name| bytes(&inputs[name])).concat())
}

/// One run of a classical pattern, and the transport messages that follow.
fn classical(vector: &Value) {
    let name = vector["protocol_name"].as_str().unwrap();
    let Some(pattern) = classical_pattern(name) else {
        return println!("  {name}: not a fundamental pattern without pre-messages");
    };
    println!("  {name}");
    let prologue = bytes(&vector["init_prologue"]);
    let statics = ["init_static", "resp_static"]
        .map(|key| vector.get(key).map(|key| StaticKey::new(secret(key))));
    let messages: Vec<&Value> = list(&vector["messages"]).collect();
    let run = Run {
        pattern,
        prologue: &prologue,
        statics: &statics,
        psks: vector
            .get("init_psks")
            .map_or(vec![], |psks| list(psks).map(secret).collect()),
        draws: ["init_ephemeral", "resp_ephemeral"]
            .map(|key| vector.get(key).map(bytes).unwrap_or_default()),
        payloads: messages
            .iter()
            .map(|message| bytes(&message["payload"]))
            .collect(),
    };
    let (handshake, finished) = run.play();
    for (ours, message) in handshake.iter().zip(&messages) {
        same(ours, &message["ciphertext"], "handshake message");
    }
    if let Some(hash) = vector.get("handshake_hash") {
        finished
            .iter()
            .for_each(|side| same(&side.hash, hash, "handshake_hash"));
    }
    transport(&finished, &messages, handshake.len());
}

fn transport([initiator, responder]: &[Finished; 2], messages: &[&Value], from: usize) {
    let mut next = [0; 2];
    for (i, message) in messages.iter().enumerate().skip(from) {
        let (sender, receiver) = match i % 2 {
            0 => (&initiator.k1, &responder.k1),
            _ => (&responder.k2, &initiator.k2),
        };
        let n = next[i % 2];
        next[i % 2] += 1;
        let payload = bytes(&message["payload"]);
        let sealed = noise::transport_seal(sender, n, &payload);
        same(&sealed, &message["ciphertext"], "transport message");
        assert_eq!(noise::transport_open(receiver, n, &sealed), Ok(payload));
    }
}

/// The table of `Noise_<base><modifiers>_25519_ChaChaPoly_SHA256`: psk modifiers put their token at the start of the
/// first message, or at the end of the n-th (Noise §9).
fn classical_pattern(name: &str) -> Option<&'static Pattern> {
    use Dh::{Ee, Es, Se};
    use Token::{Dh as D, E, Psk, S};
    let handshake = name
        .strip_prefix("Noise_")?
        .strip_suffix("_25519_ChaChaPoly_SHA256")?;
    let (base, modifiers) = handshake.split_at(handshake.find("psk").unwrap_or(handshake.len()));
    let mut messages: Vec<Vec<Token>> = match base {
        "NN" => vec![vec![E], vec![E, D(Ee)]],
        "NX" => vec![vec![E], vec![E, D(Ee), S, D(Es)]],
        "XN" => vec![vec![E], vec![E, D(Ee)], vec![S, D(Se)]],
        "XX" => vec![vec![E], vec![E, D(Ee), S, D(Es)], vec![S, D(Se)]],
        "IN" => vec![vec![E, S], vec![E, D(Ee), D(Se)]],
        "IX" => vec![vec![E, S], vec![E, D(Ee), D(Se), S, D(Es)]],
        _ => return None,
    };
    for modifier in modifiers.split('+').filter(|modifier| !modifier.is_empty()) {
        match modifier.strip_prefix("psk")?.parse().ok()? {
            0 => messages[0].insert(0, Psk),
            n => messages.get_mut(n - 1_usize)?.push(Psk),
        }
    }
    let messages = messages
        .into_iter()
        .map(|tokens| &*tokens.leak())
        .collect::<Vec<_>>()
        .leak();
    Some(Box::leak(Box::new(Pattern::new(
        String::from(name).leak(),
        messages,
    ))))
}

/// The inputs of a handshake between two of us.
struct Run<'a> {
    pattern: &'static Pattern,
    prologue: &'a [u8],
    statics: &'a [Option<StaticKey>; 2],
    psks: Vec<Secret>,
    draws: [Vec<u8>; 2],
    /// Those of transport messages may follow.
    payloads: Vec<Vec<u8>>,
}

impl Run<'_> {
    /// The messages, and what each side has in the end.
    fn play(self) -> (Vec<Vec<u8>>, [Finished; 2]) {
        let psks: Vec<&Secret> = self.psks.iter().collect();
        let setup = |side: usize| Setup {
            pattern: self.pattern,
            prologue: self.prologue,
            local_static: self.statics[side].as_ref(),
            psks: &psks,
        };
        let mut entropies = self.draws.map(|bytes| Script(bytes.into()));
        let mut writer = noise::initiate(setup(0));
        let mut reader = noise::respond(setup(1));
        let mut messages = vec![];
        for (i, payload) in self.payloads.iter().enumerate() {
            let (message, written) = writer.write(payload, &mut entropies[i % 2]).unwrap();
            let (read, done) = reader.read(&message).unwrap();
            assert_eq!(&read, payload);
            messages.push(message);
            (writer, reader) = match (written, done) {
                (Written::Reader(reader), ReadDone::Writer(writer)) => (writer, reader),
                (Written::Done(writer), ReadDone::Done(reader)) => {
                    assert!(
                        entropies.iter().all(|script| script.0.is_empty()),
                        "all drawn"
                    );
                    let finished = if i % 2 == 0 {
                        [writer, reader]
                    } else {
                        [reader, writer]
                    };
                    return (messages, finished);
                }
                _ => panic!("one side is done before the other"),
            };
        }
        panic!("the handshake has more messages than the vector");
    }
}

#[track_caller]
fn same(ours: &[u8], theirs: &Value, what: &str) {
    assert!(
        ours == bytes(theirs),
        "{what}: {} is not {theirs}",
        hex(ours)
    );
}

fn array(value: &Value) -> [u8; 32] {
    bytes(value).try_into().expect("32 bytes")
}

fn secret(value: &Value) -> Secret {
    Secret::new(array(value))
}
