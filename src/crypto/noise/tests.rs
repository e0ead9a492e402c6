//! Handshakes with `snow`, and with peers that break the rules. Published vectors: `tests/vectors.rs`.

use super::keys::{DecapsulationKey, EncapsulationKey, LOW_ORDER};
use super::symmetric::Symmetric;
use super::*;
use crate::OsEntropy;
use crate::crypto::hex;
use Dh::{Ee, Es, Se};
use Token::{Dh as D, E, Psk, S};

static NN: Pattern = Pattern::new("Noise_NN_25519_ChaChaPoly_SHA256", &[&[E], &[E, D(Ee)]]);
static NNPSK0: Pattern = Pattern::new(
    "Noise_NNpsk0_25519_ChaChaPoly_SHA256",
    &[&[Psk, E], &[E, D(Ee)]],
);
static XX: Pattern = Pattern::new(
    "Noise_XX_25519_ChaChaPoly_SHA256",
    &[&[E], &[E, D(Ee), S, D(Es)], &[S, D(Se)]],
);
static XXPSK0: Pattern = Pattern::new(
    "Noise_XXpsk0_25519_ChaChaPoly_SHA256",
    &[&[Psk, E], &[E, D(Ee), S, D(Es)], &[S, D(Se)]],
);
static XXPSK3: Pattern = Pattern::new(
    "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
    &[&[E], &[E, D(Ee), S, D(Es)], &[S, D(Se), Psk]],
);

static XXPSK0_PSK3: Pattern = Pattern::new(
    "Noise_XXpsk0+psk3_25519_ChaChaPoly_SHA256",
    &[&[Psk, E], &[E, D(Ee), S, D(Es)], &[S, D(Se), Psk]],
);
static IX: Pattern = Pattern::new(
    "Noise_IX_25519_ChaChaPoly_SHA256",
    &[&[E, S], &[E, D(Ee), D(Se), S, D(Es)]],
);

/// What `snow` speaks too.
const INTEROP: [&Pattern; 7] = [&NN, &NNPSK0, &XX, &XXPSK0, &XXPSK3, &XXPSK0_PSK3, &IX];

const PROLOGUE: &[u8] = b"prologue";

/// Zero, one of order 8, and one whose encoding is not reduced: all of them are tried beside the key itself.
fn low_order() -> [[u8; 32]; 3] {
    [LOW_ORDER[0], LOW_ORDER[3], LOW_ORDER[6]].map(hex)
}

/// What a side brings, all of it, whether or not the pattern needs it.
struct Party {
    key: StaticKey,
    psks: [Secret; 2],
}

impl Party {
    fn new() -> Self {
        Self {
            key: StaticKey::generate(&mut OsEntropy),
            psks: [[7; 32], [8; 32]].map(Secret::new),
        }
    }

    fn initiate(&self, pattern: &'static Pattern) -> Writer {
        self.with_setup(pattern, PROLOGUE, initiate)
    }

    fn respond(&self, pattern: &'static Pattern) -> Reader {
        self.with_setup(pattern, PROLOGUE, respond)
    }

    fn with_setup<T>(
        &self,
        pattern: &'static Pattern,
        prologue: &[u8],
        start: fn(Setup<'_>) -> T,
    ) -> T {
        start(Setup {
            pattern,
            prologue,
            local_static: Some(&self.key),
            psks: &[&self.psks[0], &self.psks[1]][..pattern.psks()],
        })
    }
}

impl Writer {
    fn wrote(self, payload: &[u8]) -> (Vec<u8>, Reader) {
        match self.write(payload, &mut OsEntropy).unwrap() {
            (message, Written::Reader(reader)) => (message, reader),
            (_, Written::Done(_)) => panic!("done too early"),
        }
    }

    fn wrote_last(self, payload: &[u8]) -> (Vec<u8>, Finished) {
        match self.write(payload, &mut OsEntropy).unwrap() {
            (message, Written::Done(finished)) => (message, finished),
            (_, Written::Reader(_)) => panic!("not done"),
        }
    }

    /// The message, last or not.
    fn wrote_any(self) -> Vec<u8> {
        self.write(b"", &mut OsEntropy).unwrap().0
    }

    fn fails(self) -> NoiseError {
        self.write(b"", &mut OsEntropy).unwrap_err()
    }
}

impl Reader {
    fn has_read(self, message: &[u8]) -> Writer {
        match self.read(message).unwrap().1 {
            ReadDone::Writer(writer) => writer,
            ReadDone::Done(_) => panic!("done too early"),
        }
    }

    fn has_read_last(self, message: &[u8]) -> Finished {
        match self.read(message).unwrap().1 {
            ReadDone::Done(finished) => finished,
            ReadDone::Writer(_) => panic!("not done"),
        }
    }

    fn fails(self, message: &[u8]) -> NoiseError {
        self.read(message).unwrap_err()
    }
}

/// The other implementation, in the same role as its handshake.
struct Snow(snow::HandshakeState);

impl Snow {
    fn new(pattern: &Pattern, party: &Party, role: Role) -> Self {
        let mut builder = snow::Builder::new(pattern.name().parse().unwrap())
            .prologue(PROLOGUE)
            .unwrap();
        if pattern.sends_static(role) {
            builder = builder
                .local_private_key(party.key.secret().expose())
                .unwrap();
        }
        let handshake = pattern.name().split('_').nth(1).unwrap();
        for (place, psk) in handshake.split("psk").skip(1).zip(&party.psks) {
            let place = place.trim_end_matches('+').parse().unwrap();
            builder = builder.psk(place, psk.expose()).unwrap();
        }
        Self(match role {
            Role::Initiator => builder.build_initiator().unwrap(),
            Role::Responder => builder.build_responder().unwrap(),
        })
    }

    fn write(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut message = vec![0; MAX_MESSAGE];
        let len = self.0.write_message(payload, &mut message).unwrap();
        message.truncate(len);
        message
    }

    fn read(&mut self, message: &[u8]) -> Vec<u8> {
        let mut payload = vec![0; MAX_MESSAGE];
        let len = self.0.read_message(message, &mut payload).unwrap();
        payload.truncate(len);
        payload
    }

    /// Agrees with `ours` on everything, and talks in both directions.
    fn agrees(self, ours: &Finished, role: Role, peer: &Party) {
        assert_eq!(self.0.get_handshake_hash(), ours.hash);
        if let Some(key) = ours.remote_static {
            assert_eq!(&key, peer.key.public());
        }
        let (send, recv) = match role {
            Role::Initiator => (&ours.k1, &ours.k2),
            Role::Responder => (&ours.k2, &ours.k1),
        };
        let mut transport = self.0.into_transport_mode().unwrap();
        let mut buffer = [0; 100];
        for n in 0..3 {
            let len = transport
                .read_message(&transport_seal(send, n, b"to"), &mut buffer)
                .unwrap();
            assert_eq!(&buffer[..len], b"to");
            let len = transport.write_message(b"from", &mut buffer).unwrap();
            assert_eq!(transport_open(recv, n, &buffer[..len]).unwrap(), b"from");
        }
    }
}

///
#[test]
fn snow_responds_to_us() {
    for pattern in INTEROP {
        let (we, they) = (Party::new(), Party::new());
        let mut snow = Snow::new(pattern, &they, Role::Responder);
        let mut writer = we.initiate(pattern);
        let finished = loop {
            let (message, written) = writer.write(b"ours", &mut OsEntropy).unwrap();
            assert_eq!(snow.read(&message), b"ours", "{}", pattern.name());
            let reader = match written {
                Written::Reader(reader) => reader,
                Written::Done(finished) => break finished,
            };
            let (payload, done) = reader.read(&snow.write(b"theirs")).unwrap();
            assert_eq!(payload, b"theirs");
            writer = match done {
                ReadDone::Writer(writer) => writer,
                ReadDone::Done(finished) => break finished,
            };
        };
        snow.agrees(&finished, Role::Initiator, &they);
    }
}

///
#[test]
fn snow_initiates_to_us() {
    for pattern in INTEROP {
        let (we, they) = (Party::new(), Party::new());
        let mut snow = Snow::new(pattern, &they, Role::Initiator);
        let mut reader = we.respond(pattern);
        let finished = loop {
            let (payload, done) = reader.read(&snow.write(b"theirs")).unwrap();
            assert_eq!(payload, b"theirs", "{}", pattern.name());
            let writer = match done {
                ReadDone::Writer(writer) => writer,
                ReadDone::Done(finished) => break finished,
            };
            let (message, written) = writer.write(b"ours", &mut OsEntropy).unwrap();
            assert_eq!(snow.read(&message), b"ours");
            reader = match written {
                Written::Reader(reader) => reader,
                Written::Done(finished) => break finished,
            };
        };
        snow.agrees(&finished, Role::Responder, &they);
    }
}

#[test]
fn both_sides_of_a_hybrid_handshake_agree() {
    for pattern in [&XXHFS, &XXHFS_PSK0] {
        let (alice, bob) = (Party::new(), Party::new());
        let (m1, reader) = alice.initiate(pattern).wrote(b"");
        let (m2, responder) = bob.respond(pattern).has_read(&m1).wrote(b"two");
        let writer = reader.has_read(&m2);
        assert_eq!(writer.remote_static(), Some(*bob.key.public()));
        let (m3, ours) = writer.wrote_last(b"three");
        let theirs = responder.has_read_last(&m3);
        assert_eq!(ours.hash, theirs.hash);
        assert!(ours.k1.ct_eq(&theirs.k1) && ours.k2.ct_eq(&theirs.k2));
        assert!(ours.exporter.ct_eq(&theirs.exporter) && !ours.k1.ct_eq(&ours.k2));
        assert_eq!(theirs.remote_static, Some(*alice.key.public()));
        let tags = if pattern.psks() == 0 { 0 } else { 32 };
        assert_eq!(
            [m1.len(), m2.len(), m3.len()],
            [1216 + tags, 1200 + 3, 64 + 5]
        );
    }
}

#[test]
fn an_ephemeral_key_of_low_order_ends_the_handshake() {
    for point in low_order() {
        for pattern in [&NN, &XX, &NNHFS, &XXHFS] {
            let party = Party::new();
            let (mut m1, reader) = party.initiate(pattern).wrote(b"");
            let mut m2 = party.respond(pattern).has_read(&m1).wrote_any();
            m2[..32].copy_from_slice(&point);
            assert_eq!(
                reader.fails(&m2),
                NoiseError::Degenerate,
                "{}",
                pattern.name()
            );
            m1[..32].copy_from_slice(&point);
            let responder = party.respond(pattern).has_read(&m1);
            assert_eq!(
                responder.fails(),
                NoiseError::Degenerate,
                "{}",
                pattern.name()
            );
        }
    }
}

#[test]
fn a_static_key_of_low_order_ends_the_handshake() {
    for point in low_order() {
        for pattern in [&XX, &XXHFS, &XXHFS_PSK0] {
            let honest = Party::new();
            let broken = Party {
                key: StaticKey::with_public(Secret::new([1; 32]), point),
                psks: [[7; 32], [8; 32]].map(Secret::new),
            };
            let (m1, reader) = honest.initiate(pattern).wrote(b"");
            let (m2, _) = broken.respond(pattern).has_read(&m1).wrote(b"");
            assert_eq!(reader.fails(&m2), NoiseError::Degenerate);
            let (m1, reader) = broken.initiate(pattern).wrote(b"");
            let (m2, responder) = honest.respond(pattern).has_read(&m1).wrote(b"");
            let (m3, _) = reader.has_read(&m2).wrote_last(b"");
            assert_eq!(responder.fails(&m3), NoiseError::Degenerate);
        }
    }
}

/// The first message of a rekey by someone who has the PSK and chooses `e` and `e1` freely.
fn forged_rekey(e: &[u8; 32], e1: &[u8], psk: &Secret) -> Vec<u8> {
    let mut symmetric = Symmetric::new(NNHFS_PSK0.name());
    symmetric.mix_hash(PROLOGUE);
    symmetric.mix_key_and_hash(psk.expose());
    symmetric.mix_hash(e);
    symmetric.mix_key(e);
    let mut message = e.to_vec();
    symmetric.encrypt_and_hash(e1, &mut message);
    symmetric.encrypt_and_hash(b"", &mut message);
    message
}

#[test]
fn bad_keys_from_a_holder_of_the_psk_end_a_rekey() {
    let party = Party::new();
    let good = *StaticKey::generate(&mut OsEntropy).public();
    let e1 = DecapsulationKey::generate(&mut OsEntropy).encapsulation_key();
    let rekey = |e: &[u8; 32], e1: &[u8]| {
        let message = forged_rekey(e, e1, &party.psks[0]);
        party
            .respond(&NNHFS_PSK0)
            .read(&message)
            .map(|(_, done)| done)
    };
    assert!(rekey(&good, &e1).is_ok());
    for point in low_order() {
        let Ok(ReadDone::Writer(writer)) = rekey(&point, &e1) else {
            panic!("the key is used in the answer only");
        };
        assert_eq!(writer.fails(), NoiseError::Degenerate);
    }
    let mut broken = e1;
    set_coefficient(&mut broken, 0, 3329);
    assert_eq!(rekey(&good, &broken).unwrap_err(), NoiseError::KemKey);
    assert_eq!(rekey(&good, &e1[1..]).unwrap_err(), NoiseError::Decrypt);
}

/// Sets one 12-bit coefficient of an encoded encapsulation key.
fn set_coefficient(key: &mut [u8], index: usize, value: u16) {
    let [low, high] = value.to_le_bytes();
    let at = index / 2 * 3;
    if index.is_multiple_of(2) {
        key[at] = low;
        key[at + 1] = key[at + 1] & 0xf0 | high;
    } else {
        key[at + 1] = key[at + 1] & 0x0f | low << 4;
        key[at + 2] = low >> 4 | high << 4;
    }
}

///
#[test]
fn an_encapsulation_key_that_fails_the_modulus_check_ends_the_handshake() {
    let party = Party::new();
    let (m1, _) = party.initiate(&XXHFS).wrote(b"");
    for index in [0, 1, 383, 766, 767] {
        for (value, accepted) in [(3328, true), (3329, false), (3330, false), (4095, false)] {
            let mut m1 = m1.clone();
            set_coefficient(&mut m1[32..], index, value);
            let read = party.respond(&XXHFS).read(&m1);
            let expected = if accepted {
                None
            } else {
                Some(NoiseError::KemKey)
            };
            assert_eq!(read.err(), expected, "coefficient {index} = {value}");
        }
    }
}

///
#[test]
fn a_ciphertext_for_another_key_is_noticed_one_field_later() {
    let party = Party::new();
    let (m1, reader) = party.initiate(&NNHFS).wrote(b"");
    let ours = StaticKey::generate(&mut OsEntropy);
    let mut symmetric = Symmetric::new(NNHFS.name());
    for hashed in [PROLOGUE, &m1[..32], &m1[32..], b"", ours.public()] {
        symmetric.mix_hash(hashed);
    }
    let shared = ours.diffie_hellman(m1[..32].try_into().unwrap()).unwrap();
    symmetric.mix_key(shared.expose());
    let mut m2 = ours.public().to_vec();
    symmetric.encrypt_and_hash(&[3; 1088], &mut m2);
    symmetric.mix_key(&[4; 32]);
    symmetric.encrypt_and_hash(b"", &mut m2);
    assert_eq!(reader.fails(&m2), NoiseError::Decrypt);
}

#[test]
fn wrong_lengths_end_the_handshake() {
    let party = Party::new();
    let m1 = party.initiate(&XXHFS_PSK0).wrote(b"").0;
    for len in [0, 1, 31, 32, 33, 1231, 1232, 1233, 1247] {
        let error = party.respond(&XXHFS_PSK0).fails(&m1[..len]);
        assert_eq!(error, NoiseError::Length, "{len}");
    }
    let longer = [&m1[..], &[0]].concat();
    assert_eq!(
        party.respond(&XXHFS_PSK0).fails(&longer),
        NoiseError::Decrypt
    );
    let too_long = vec![0; MAX_MESSAGE + 1];
    assert_eq!(party.respond(&XXHFS).fails(&too_long), NoiseError::Length);

    for len in [0, 31, 32, 1135, 1136, 1183, 1184, 1199, 1201] {
        let (m1, reader) = party.initiate(&XXHFS).wrote(b"");
        let (mut m2, _) = party.respond(&XXHFS).has_read(&m1).wrote(b"");
        m2.resize(len, 0);
        let expected = if len < 1200 {
            NoiseError::Length
        } else {
            NoiseError::Decrypt
        };
        assert_eq!(reader.fails(&m2), expected, "{len}");
    }
    let longest = MAX_MESSAGE - 1216;
    let write = |len| party.initiate(&XXHFS).write(&vec![0; len], &mut OsEntropy);
    let (message, _) = write(longest).unwrap();
    assert_eq!(message.len(), MAX_MESSAGE);
    let _ = party.respond(&XXHFS).has_read(&message);
    for len in [longest + 1, MAX_MESSAGE + 1] {
        assert_eq!(write(len).unwrap_err(), NoiseError::Length);
    }
}

#[test]
fn a_changed_byte_ends_the_handshake_at_the_latest_with_the_next_message() {
    let party = Party::new();
    for at in (0..1248).step_by(41).chain([31, 32, 1231, 1232, 1247]) {
        let mut m1 = party.initiate(&XXHFS_PSK0).wrote(b"").0;
        m1[at] ^= 0x80;
        assert_eq!(
            party.respond(&XXHFS_PSK0).fails(&m1),
            NoiseError::Decrypt,
            "{at}"
        );
    }
    for at in (0..1200)
        .step_by(41)
        .chain([31, 32, 1135, 1136, 1183, 1184, 1199])
    {
        let (m1, reader) = party.initiate(&XXHFS).wrote(b"");
        let mut m2 = party.respond(&XXHFS).has_read(&m1).wrote(b"").0;
        m2[at] ^= 0x80;
        assert_eq!(reader.fails(&m2), NoiseError::Decrypt, "{at}");
    }
    for at in 0..64 {
        let (m1, reader) = party.initiate(&XX).wrote(b"");
        let (m2, responder) = party.respond(&XX).has_read(&m1).wrote(b"");
        let (mut m3, _) = reader.has_read(&m2).wrote_last(b"");
        m3[at] ^= 0x80;
        assert_eq!(responder.fails(&m3), NoiseError::Decrypt, "{at}");
    }
}

#[test]
fn another_prologue_or_psk_ends_the_handshake_at_the_first_encrypted_field() {
    let party = Party::new();
    let other = Party {
        psks: [[8; 32], [7; 32]].map(Secret::new),
        ..Party::new()
    };
    let m1 = party.initiate(&XXHFS_PSK0).wrote(b"").0;
    assert_eq!(other.respond(&XXHFS_PSK0).fails(&m1), NoiseError::Decrypt);
    let elsewhere = party.with_setup(&XXHFS_PSK0, b"another", respond);
    assert_eq!(elsewhere.fails(&m1), NoiseError::Decrypt);

    let (m1, reader) = party.initiate(&XXHFS).wrote(b"");
    let elsewhere = party.with_setup(&XXHFS, b"another", respond).has_read(&m1);
    assert_eq!(reader.fails(&elsewhere.wrote(b"").0), NoiseError::Decrypt);
}

#[test]
fn a_message_of_our_own_is_not_accepted() {
    let party = Party::new();
    for pattern in [&XXHFS, &XXHFS_PSK0, &NNHFS_PSK0] {
        let (m1, reader) = party.initiate(pattern).wrote(b"");
        assert!(reader.read(&m1).is_err(), "{}", pattern.name());
    }
}

///
#[test]
fn transport_messages_are_bound_to_key_and_nonce() {
    let (key, other) = (Secret::new([1; 32]), Secret::new([2; 32]));
    let sealed = transport_seal(&key, 5, b"text");
    assert_eq!(sealed.len(), 20);
    assert_eq!(transport_open(&key, 5, &sealed).unwrap(), b"text");
    assert_eq!(transport_open(&key, 6, &sealed), Err(NoiseError::Decrypt));
    assert_eq!(transport_open(&other, 5, &sealed), Err(NoiseError::Decrypt));
    assert_eq!(
        transport_open(&key, 5, &sealed[..15]),
        Err(NoiseError::Decrypt)
    );
    assert_eq!(
        transport_open(&key, u64::MAX, &sealed),
        Err(NoiseError::Exhausted)
    );
}

#[test]
#[should_panic(expected = "one key for each psk token")]
fn a_setup_without_the_psk_is_a_bug_of_the_caller() {
    let key = StaticKey::generate(&mut OsEntropy);
    let _ = initiate(Setup {
        pattern: &XXHFS_PSK0,
        prologue: b"",
        local_static: Some(&key),
        psks: &[],
    });
}

#[test]
#[should_panic(expected = "needs a static key")]
fn a_setup_without_the_static_key_is_a_bug_of_the_caller() {
    let _ = respond(Setup {
        pattern: &XXHFS,
        prologue: b"",
        local_static: None,
        psks: &[],
    });
}

#[test]
fn debug_output_holds_no_key() {
    let party = Party::new();
    let writer = party.initiate(&NN);
    assert_eq!(
        format!("{writer:?}"),
        "Writer(Noise_NN_25519_ChaChaPoly_SHA256 as Initiator at message 0)"
    );
    let (m1, reader) = writer.wrote(b"");
    assert_eq!(
        format!("{reader:?}"),
        "Reader(Noise_NN_25519_ChaChaPoly_SHA256 as Initiator at message 1)"
    );
    let (_, finished) = party.respond(&NN).has_read(&m1).wrote_last(b"");
    assert_eq!(
        format!("{finished:?} {:?}", party.key),
        "Finished(..) StaticKey(..)"
    );
    let setup = Setup {
        pattern: &NN,
        prologue: PROLOGUE,
        local_static: Some(&party.key),
        psks: &[],
    };
    assert_eq!(
        format!("{setup:?}"),
        "Setup(Noise_NN_25519_ChaChaPoly_SHA256, ..)"
    );
    let decapsulation = DecapsulationKey::generate(&mut OsEntropy);
    let encapsulation = EncapsulationKey::new(&decapsulation.encapsulation_key()).unwrap();
    assert_eq!(
        format!("{decapsulation:?} {encapsulation:?}"),
        "DecapsulationKey(..) EncapsulationKey(..)"
    );
}
