//! An attacker that speaks the protocol by hand: handshake, signaling records and frames, and obeys no rule of it.
//!
//! The handshake is written out once more here, token by token, so that any field can be what it must not be: a key
//! of low order, a payload that is none, a KEM key that nobody has.

use base64ct::{Base64UrlUnpadded, Encoding};
use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use ml_kem::{Decapsulate, KeyExport, ml_kem_768};
use sealwire::{
    EndpointId, Entropy, Identity, PeerId, RoomId,
    crypto::{
        aead,
        epoch::{self, Epoch, Role},
        kdf::{self, PROTOCOL, PairingKind},
        noise::{self, XXHFS, XXHFS_PSK0},
        secret::Secret,
    },
    protocol::{
        Blob, Caps, ChannelEntry, Mode, Payload, PayloadKind, SigSender, open_frame, seal_frame,
    },
};
use x25519_dalek::{PublicKey, StaticSecret};

use super::world::{Seeded, description};

/// Kinds of frames, as they stand on the wire.
pub const DATA: u8 = 0x01;
pub const DATA_PART: u8 = 0x02;
pub const DATA_BATCH: u8 = 0x03;
pub const READY: u8 = 0x10;
pub const READY_OK: u8 = 0x11;
pub const ACK: u8 = 0x12;
pub const PING: u8 = 0x13;
pub const PONG: u8 = 0x14;
pub const CLOSE: u8 = 0x19;
pub const DUMMY: u8 = 0x7f;
/// READY of the default channel list, with nothing taken.
pub const READY_BODY: &[u8] = b"\x01\x01\0\0\0\0\0\0\0";

/// What a handshake is about. A man in the middle changes it per side.
#[derive(Debug, Clone)]
pub struct Terms {
    pub mode: Mode,
    pub room: RoomId,
    pub psk_id: [u8; 16],
    pub psk: Option<[u8; 32]>,
}

impl Terms {
    pub fn open(room: &str) -> Self {
        Self {
            mode: Mode::Open,
            room: RoomId(kdf::open_room(room)),
            psk_id: [0; 16],
            psk: None,
        }
    }

    /// Of whoever holds the text of an invite.
    pub fn invite(text: &str) -> Self {
        let encoded = text.strip_prefix("sealwire1:").expect("an invite");
        let bytes = Base64UrlUnpadded::decode_vec(encoded).expect("an invite");
        let (secret, inviter) = (bytes[1..33].try_into().expect("32 bytes"), &bytes[33..65]);
        let pairing = kdf::pairing(PairingKind::Invite, &Secret::new(secret), inviter);
        let room = RoomId(pairing.room.expect("an invite has a room"));
        Self {
            mode: Mode::Paired,
            room,
            psk_id: pairing.psk_id,
            psk: Some(*pairing.psk.expose()),
        }
    }

    /// As the server knows it: the room and psk_id, and a psk of its own.
    pub fn without_secret(mut self) -> Self {
        self.psk = self.psk.map(|_| [0x66; 32]);
        self
    }

    pub fn prologue(&self, initiator: EndpointId, responder: EndpointId) -> Vec<u8> {
        [
            PROTOCOL,
            &[self.mode.to_byte()],
            &self.room.0,
            &initiator.0,
            &responder.0,
            &self.psk_id,
        ]
        .concat()
    }
}

/// A key pair, or a public key whose Diffie-Hellman with anything is zero.
#[derive(Clone)]
pub enum Key {
    Pair([u8; 32]),
    Point([u8; 32]),
    /// Another, with the bit set that no Diffie-Hellman looks at.
    Disguised(Box<Key>),
    /// A public key of somebody else, used with a key of one's own.
    Shown([u8; 32], Box<Key>),
    /// A public key of somebody else, and a guess of what its Diffie-Hellman is.
    Guessed([u8; 32], [u8; 32]),
}

impl Key {
    pub fn of(identity: &Identity) -> Self {
        Self::Pair(*identity.secret_bytes())
    }

    fn random(rng: &mut Seeded) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        Self::Pair(secret)
    }

    pub fn public(&self) -> [u8; 32] {
        match self {
            Self::Pair(secret) => PublicKey::from(&StaticSecret::from(*secret)).to_bytes(),
            Self::Point(public) | Self::Shown(public, _) | Self::Guessed(public, _) => *public,
            Self::Disguised(key) => {
                let mut public = key.public();
                public[31] |= 0x80;
                public
            }
        }
    }

    pub fn dh(&self, remote: &[u8; 32]) -> [u8; 32] {
        match self {
            Self::Pair(secret) => StaticSecret::from(*secret)
                .diffie_hellman(&PublicKey::from(*remote))
                .to_bytes(),
            Self::Point(_) => [0; 32],
            Self::Disguised(key) | Self::Shown(_, key) => key.dh(remote),
            Self::Guessed(_, shared) => *shared,
        }
    }

    pub fn peer_id(&self) -> PeerId {
        PeerId::from_bytes(self.public())
    }
}

/// The attacker: a key, a place in the room, and what it knows of the meeting.
pub struct Mallory {
    pub key: Key,
    pub endpoint: EndpointId,
    pub terms: Terms,
    /// What it shows in DTLS.
    pub fingerprint: [u8; 32],
    /// The channels that it offers.
    pub channels: Vec<ChannelEntry>,
    /// The ephemeral key of the next message that has one, when it is chosen.
    pub ephemeral: Option<Key>,
    /// What it does to its ML-KEM keys and ciphertexts before they are encrypted.
    pub kem: Option<Tamper>,
    rng: Seeded,
}

/// Changes bytes in place.
pub type Tamper = fn(&mut Vec<u8>);

/// Records of an honest hello.
pub fn caps() -> Caps {
    Caps {
        max_version: 1,
        max_frame: 65_536,
        max_message: 4 << 20,
        window: 8 << 20,
    }
}

pub fn channels() -> Vec<ChannelEntry> {
    vec![ChannelEntry {
        channel: 1,
        kind: 1,
        label: "main".into(),
    }]
}

pub fn candidate(port: u16) -> String {
    format!("candidate:1 1 udp 1 127.0.0.1 {port} typ host")
}

impl Mallory {
    pub fn new(endpoint: u8, seed: u64, terms: Terms) -> Self {
        let mut rng = Seeded::new(seed);
        let key = Key::random(&mut rng);
        let endpoint = EndpointId([endpoint; 16]);
        Self {
            key,
            endpoint,
            terms,
            fingerprint: [0xab; 32],
            channels: channels(),
            ephemeral: None,
            kem: None,
            rng,
        }
    }

    pub fn with_key(mut self, key: Key) -> Self {
        self.key = key;
        self
    }

    pub fn offer(&self) -> String {
        description(0xabad_1dea, self.fingerprint, "actpass")
    }

    pub fn answer(&self) -> String {
        description(0xabad_1dea, self.fingerprint, "active")
    }

    /// What an honest peer says in a payload; SIG: the open answer.
    pub fn records(&self, kind: PayloadKind) -> Payload {
        let hello = Payload {
            caps: Some(caps()),
            channels: Some(self.channels.clone()),
            ..Payload::default()
        };
        let candidates = vec![candidate(9)];
        match kind {
            PayloadKind::Hs1 | PayloadKind::Hs3(Mode::Open) => Payload {
                sdp: Some(self.offer()),
                candidates,
                ..hello
            },
            PayloadKind::Hs2(Mode::Paired) => Payload {
                sdp: Some(self.answer()),
                candidates,
                ..hello
            },
            PayloadKind::Hs2(Mode::Open) => hello,
            PayloadKind::Hs3(Mode::Paired) => Payload {
                candidates,
                ..Payload::default()
            },
            PayloadKind::Sig(_) => Payload {
                sdp: Some(self.answer()),
                candidates,
                ..Payload::default()
            },
        }
    }

    /// The bytes of [`Self::records`].
    pub fn payload(&self, kind: PayloadKind) -> Vec<u8> {
        match (kind, self.terms.mode) {
            (PayloadKind::Hs1, Mode::Open) => Vec::new(),
            _ => self.records(kind).encode(kind).0,
        }
    }

    fn ephemeral(&mut self) -> Key {
        self.ephemeral
            .take()
            .unwrap_or_else(|| Key::random(&mut self.rng))
    }

    /// HS1 to an endpoint, with any payload.
    pub fn hs1(&mut self, to: EndpointId, payload: &[u8]) -> (Vec<u8>, Hands) {
        let mut hands = Hands::new(self, (self.endpoint, to), Role::Initiator);
        let mut seed = ml_kem::Seed::default();
        self.rng.fill(&mut seed);
        let decapsulation = ml_kem_768::DecapsulationKey::from_seed(seed);
        let ephemeral = self.ephemeral();
        let noise = hands.write_first(ephemeral, decapsulation, payload);
        let Terms { mode, psk_id, .. } = self.terms;
        (
            Blob::Hs1 {
                mode,
                psk_id,
                noise: &noise,
            }
            .encode(),
            hands,
        )
    }

    /// HS2 in answer to an HS1, with any payload; `None` when it cannot be read.
    pub fn hs2(
        &mut self,
        from: EndpointId,
        hs1: &[u8],
        payload: &[u8],
    ) -> Option<(Vec<u8>, Hands)> {
        // One of another pairing, such as that of a resumption, is not for her.
        let Ok(Blob::Hs1 { noise, psk_id, .. }) = Blob::decode(hs1) else {
            return None;
        };
        if psk_id != self.terms.psk_id {
            return None;
        }
        let mut hands = Hands::new(self, (from, self.endpoint), Role::Responder);
        hands.read_first(noise)?;
        let ephemeral = self.ephemeral();
        let mut m = [0; 32];
        self.rng.fill(&mut m);
        let noise = hands.write_second(ephemeral, &m, payload);
        Some((Blob::Hs2(&noise).encode(), hands))
    }
}

/// A handshake under way.
#[derive(Clone)]
pub struct Hands {
    symmetric: Symmetric,
    role: Role,
    paired: bool,
    key: Key,
    ephemeral: Key,
    kem: Option<Tamper>,
    decapsulation: Option<ml_kem_768::DecapsulationKey>,
    encapsulation: Vec<u8>,
    remote_ephemeral: [u8; 32],
    /// The static key of the other side, once it is known.
    pub remote: [u8; 32],
    /// The payload that was read last.
    pub payload: Vec<u8>,
}

impl Hands {
    fn new(
        mallory: &Mallory,
        (initiator, responder): (EndpointId, EndpointId),
        role: Role,
    ) -> Self {
        let Mallory { terms, key, .. } = mallory;
        let pattern = if terms.psk.is_some() {
            &XXHFS_PSK0
        } else {
            &XXHFS
        };
        let mut symmetric = Symmetric::new(pattern.name());
        symmetric.mix_hash(&terms.prologue(initiator, responder));
        if let Some(psk) = &terms.psk {
            symmetric.mix_key_and_hash(psk);
        }
        Self {
            symmetric,
            role,
            paired: terms.psk.is_some(),
            key: key.clone(),
            ephemeral: Key::Point([0; 32]),
            kem: mallory.kem,
            decapsulation: None,
            encapsulation: Vec::new(),
            remote_ephemeral: [0; 32],
            remote: [0; 32],
            payload: Vec::new(),
        }
    }

    fn tampered(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(tamper) = self.kem {
            tamper(&mut bytes);
        }
        bytes
    }

    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.symmetric.mix_hash(public);
        if self.paired {
            self.symmetric.mix_key(public);
        }
    }

    fn write_first(
        &mut self,
        ephemeral: Key,
        decapsulation: ml_kem_768::DecapsulationKey,
        payload: &[u8],
    ) -> Vec<u8> {
        let public = ephemeral.public();
        self.mix_ephemeral(&public);
        let e1 = self.tampered(&decapsulation.encapsulation_key().to_bytes());
        let e1 = self.symmetric.encrypt(&e1);
        let payload = self.symmetric.encrypt(payload);
        (self.ephemeral, self.decapsulation) = (ephemeral, Some(decapsulation));
        [public.as_slice(), &e1, &payload].concat()
    }

    fn read_first(&mut self, noise: &[u8]) -> Option<()> {
        let (public, rest) = noise.split_first_chunk::<32>()?;
        let (e1, payload) = rest.split_at_checked(1_184 + self.symmetric.tag())?;
        self.mix_ephemeral(public);
        self.remote_ephemeral = *public;
        self.encapsulation = self.symmetric.decrypt(e1)?;
        self.payload = self.symmetric.decrypt(payload)?;
        Some(())
    }

    fn write_second(&mut self, ephemeral: Key, m: &[u8; 32], payload: &[u8]) -> Vec<u8> {
        let public = ephemeral.public();
        self.mix_ephemeral(&public);
        self.symmetric
            .mix_key(&ephemeral.dh(&self.remote_ephemeral));
        let key = self
            .encapsulation
            .as_slice()
            .try_into()
            .expect("1 184 bytes");
        let key = ml_kem_768::EncapsulationKey::new(key).expect("an honest key");
        let (ciphertext, shared) = key.encapsulate_deterministic(&(*m).into());
        let ciphertext = self.tampered(&ciphertext);
        let ekem1 = self.symmetric.encrypt(&ciphertext);
        self.symmetric.mix_key(&shared);
        let s = self.symmetric.encrypt(&self.key.public());
        self.symmetric.mix_key(&self.key.dh(&self.remote_ephemeral));
        let payload = self.symmetric.encrypt(payload);
        self.ephemeral = ephemeral;
        [public.as_slice(), &ekem1, &s, &payload].concat()
    }

    fn read_second(&mut self, noise: &[u8]) -> Option<()> {
        let (public, rest) = noise.split_first_chunk::<32>()?;
        let (ekem1, rest) = rest.split_at_checked(1_088 + 16)?;
        let (s, payload) = rest.split_at_checked(48)?;
        self.mix_ephemeral(public);
        self.remote_ephemeral = *public;
        self.symmetric.mix_key(&self.ephemeral.dh(public));
        let ciphertext = self.symmetric.decrypt(ekem1)?;
        let shared = self
            .decapsulation
            .as_ref()?
            .decapsulate(ciphertext.as_slice().try_into().ok()?);
        self.symmetric.mix_key(&shared);
        self.remote = self.symmetric.decrypt(s)?.try_into().ok()?;
        self.symmetric.mix_key(&self.ephemeral.dh(&self.remote));
        self.payload = self.symmetric.decrypt(payload)?;
        Some(())
    }

    /// HS3 in answer to an HS2; `None` when it cannot be read.
    pub fn hs3(mut self, hs2: &[u8], payload: &[u8]) -> Option<(Vec<u8>, Peer)> {
        let Ok(Blob::Hs2(noise)) = Blob::decode(hs2) else {
            return None;
        };
        self.read_second(noise)?;
        let s = self.symmetric.encrypt(&self.key.public());
        self.symmetric.mix_key(&self.key.dh(&self.remote_ephemeral));
        let payload = self.symmetric.encrypt(payload);
        Some((Blob::Hs3(&[s, payload].concat()).encode(), Peer::new(self)))
    }

    /// Reads HS3.
    pub fn end(mut self, hs3: &[u8]) -> Option<Peer> {
        let Ok(Blob::Hs3(noise)) = Blob::decode(hs3) else {
            return None;
        };
        let (s, payload) = noise.split_at_checked(48)?;
        self.remote = self.symmetric.decrypt(s)?.try_into().ok()?;
        self.symmetric.mix_key(&self.ephemeral.dh(&self.remote));
        self.payload = self.symmetric.decrypt(payload)?;
        Some(Peer::new(self))
    }
}

/// A complete handshake: signaling records and frames at will.
pub struct Peer {
    pub role: Role,
    pub epoch: Epoch,
    /// Its number.
    pub number: u16,
    pub remote: [u8; 32],
    /// The payload of the last handshake message read.
    pub payload: Vec<u8>,
    k1: [u8; 32],
    k2: [u8; 32],
    sig_sent: u64,
}

impl Peer {
    fn new(hands: Hands) -> Self {
        let [k1, k2, exporter] = hkdf(&hands.symmetric.ck, b"");
        let epoch = epoch::derive(Secret::new(exporter), hands.symmetric.h, hands.role);
        let Hands {
            role,
            remote,
            payload,
            ..
        } = hands;
        Self {
            role,
            epoch,
            number: 0,
            remote,
            payload,
            k1,
            k2,
            sig_sent: 0,
        }
    }

    fn sig_keys(&self) -> ([u8; 32], [u8; 32]) {
        match self.role {
            Role::Initiator => (self.k1, self.k2),
            Role::Responder => (self.k2, self.k1),
        }
    }

    /// What this side's rekey out of its epoch is made of.
    fn rekey_setup<'a>(&self, prologue: &'a [u8], psks: &'a [&'a Secret]) -> noise::Setup<'a> {
        noise::Setup {
            pattern: &noise::NNHFS_PSK0,
            prologue,
            local_static: None,
            psks,
        }
    }

    /// REKEY1 out of this epoch, and what waits for the answer.
    pub fn rekey1(&self, seed: u64) -> (Vec<u8>, noise::Reader) {
        let prologue = kdf::rekey_prologue(self.number + 1, &self.epoch.hash);
        let psks = [&self.epoch.rekey_psk];
        let writer = noise::initiate(self.rekey_setup(&prologue, &psks));
        match writer.write(&[], &mut Seeded::new(seed)) {
            Ok((message, noise::Written::Reader(reader))) => (message, reader),
            _ => panic!("a first message"),
        }
    }

    /// REKEY2 in answer to a REKEY1, and the epoch that it leads to.
    pub fn rekey2(&self, seed: u64, rekey1: &[u8]) -> Option<(Vec<u8>, Epoch)> {
        let prologue = kdf::rekey_prologue(self.number + 1, &self.epoch.hash);
        let psks = [&self.epoch.rekey_psk];
        let reader = noise::respond(self.rekey_setup(&prologue, &psks));
        let Ok((_, noise::ReadDone::Writer(writer))) = reader.read(rekey1) else {
            return None;
        };
        match writer.write(&[], &mut Seeded::new(seed)) {
            Ok((message, noise::Written::Done(done))) => {
                Some((message, epoch::derive(done.exporter, done.hash, self.role)))
            }
            _ => None,
        }
    }

    /// The epoch that the answer to our REKEY1 leads to.
    pub fn rekeyed(&self, reader: noise::Reader, rekey2: &[u8]) -> Option<Epoch> {
        match reader.read(rekey2) {
            Ok((_, noise::ReadDone::Done(done))) => {
                Some(epoch::derive(done.exporter, done.hash, self.role))
            }
            _ => None,
        }
    }

    /// Sends and receives under the next epoch from here on.
    pub fn adopt(&mut self, epoch: Epoch) {
        self.epoch = epoch;
        self.number += 1;
    }

    /// The next SIG.
    pub fn sig(&mut self, payload: &[u8]) -> Vec<u8> {
        let n = self.sig_sent;
        self.sig_sent += 1;
        self.sig_at(n, payload)
    }

    pub fn sig_at(&self, n: u64, payload: &[u8]) -> Vec<u8> {
        let mut sealed = payload.to_vec();
        let tag = aead::seal(&self.sig_keys().0, &nonce(n), &[], &mut sealed);
        sealed.extend_from_slice(&tag);
        Blob::Sig {
            n,
            ciphertext: &sealed,
        }
        .encode()
    }

    /// What the other side's SIG says.
    pub fn read_sig(&self, mode: Mode, blob: &[u8]) -> Option<Payload> {
        let Ok(Blob::Sig { n, ciphertext }) = Blob::decode(blob) else {
            return None;
        };
        let mut opened = ciphertext.to_vec();
        let len = aead::open(&self.sig_keys().1, &nonce(n), &[], &mut opened)
            .ok()?
            .len();
        let sender = match (mode, self.role) {
            (Mode::Open, Role::Initiator) => SigSender::OpenResponder,
            _ => SigSender::Other,
        };
        Payload::decode(PayloadKind::Sig(sender), &opened[..len]).ok()
    }

    /// The next frame of a channel, as short as it can be.
    pub fn frame(&mut self, channel: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        self.padded(channel, kind, body, body.len() + 1)
    }

    /// The next frame of a channel, with a plaintext of any length.
    pub fn padded(&mut self, channel: u8, kind: u8, body: &[u8], plaintext: usize) -> Vec<u8> {
        let (seq, key) = self.epoch.send[usize::from(channel)]
            .next()
            .expect("a fresh chain");
        seal_frame(
            key,
            self.number,
            seq,
            kind,
            [&[0; 8], body].concat(),
            plaintext,
        )
    }

    /// The next frame of a channel from the other side.
    #[track_caller]
    pub fn open(&mut self, channel: u8, frame: &[u8]) -> (u8, Vec<u8>) {
        let chain = &mut self.epoch.recv[usize::from(channel)];
        let mut frame = BytesMut::from(frame);
        let (kind, body) =
            open_frame(chain.key().expect("a fresh chain"), &mut frame).expect("a frame for us");
        chain.commit();
        (kind, frame[body].to_vec())
    }
}

/// Noise's SymmetricState.
#[derive(Clone)]
pub struct Symmetric {
    pub h: [u8; 32],
    pub ck: [u8; 32],
    k: Option<[u8; 32]>,
    n: u64,
    /// Every key input, chaining key and key so far.
    pub trail: Vec<[u8; 32]>,
}

impl Symmetric {
    pub fn new(name: &str) -> Self {
        let h = kdf::sha256(&[name.as_bytes()]);
        Self {
            h,
            ck: h,
            k: None,
            n: 0,
            trail: Vec::new(),
        }
    }

    pub fn mix_hash(&mut self, data: &[u8]) {
        self.h = kdf::sha256(&[&self.h, data]);
    }

    pub fn mix_key(&mut self, input: &[u8]) {
        let [ck, k, _] = hkdf(&self.ck, input);
        (self.ck, self.k, self.n) = (ck, Some(k), 0);
        self.trail.extend(<[u8; 32]>::try_from(input));
        self.trail.extend([ck, k]);
    }

    pub fn mix_key_and_hash(&mut self, input: &[u8]) {
        let [ck, hash, k] = hkdf(&self.ck, input);
        self.mix_hash(&hash);
        (self.ck, self.k, self.n) = (ck, Some(k), 0);
        self.trail.extend([ck, k]);
    }

    fn tag(&self) -> usize {
        if self.k.is_some() { 16 } else { 0 }
    }

    pub fn encrypt(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = plaintext.to_vec();
        if let Some(k) = &self.k {
            let tag = aead::seal(k, &nonce(self.n), &self.h, &mut out);
            out.extend_from_slice(&tag);
            self.n += 1;
        }
        self.mix_hash(&out);
        out
    }

    pub fn decrypt(&mut self, data: &[u8]) -> Option<Vec<u8>> {
        let mut out = data.to_vec();
        if let Some(k) = &self.k {
            let len = aead::open(k, &nonce(self.n), &self.h, &mut out).ok()?.len();
            out.truncate(len);
            self.n += 1;
        }
        self.mix_hash(data);
        Some(out)
    }
}

fn nonce(n: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&n.to_le_bytes());
    nonce
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).expect("any length is a key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Noise's HKDF with three outputs, of which the first two are those of two.
pub fn hkdf(ck: &[u8; 32], input: &[u8]) -> [[u8; 32]; 3] {
    let t = hmac(ck, &[input]);
    let first = hmac(&t, &[&[1]]);
    let second = hmac(&t, &[&first, &[2]]);
    [first, second, hmac(&t, &[&second, &[3]])]
}
