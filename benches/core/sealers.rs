//! What is compared: this crate's frames, bare AEADs, and what other libraries make of a message of a session.

use aws_lc_rs::aead as aws;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use clatter::{
    HybridHandshake, HybridHandshakeParams,
    crypto::{cipher::ChaChaPoly, dh::X25519, hash::Sha256, kem::pqclean_ml_kem::MlKem768},
    handshakepattern::noise_hybrid_nn,
    traits::Handshaker as _,
};
use dryoc::classic::{
    crypto_aead_chacha20poly1305_ietf as dryoc_aead,
    crypto_secretstream_xchacha20poly1305 as dryoc_stream,
};
use ring::aead as ring_aead;
use sealwire::{
    crypto::{
        aead,
        chain::{RecvChain, SendChain},
        secret::Secret,
    },
    protocol::{open_frame, padme, seal_frame},
};
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};

const KEY: [u8; 32] = [9; 32];
const NONCE: [u8; 12] = [3; 12];
const TAG: usize = 16;

/// What seals and opens messages of one direction, in order.
pub trait Sealer: 'static {
    /// A message with the memory that it needs on its way.
    type Frame: 'static;

    /// Memory for a message of `len` bytes.
    fn frame(len: usize) -> Self::Frame;
    /// Puts a message into a frame, anew. Not measured.
    fn fill(frame: &mut Self::Frame, message: &[u8]);
    fn seal(&mut self, frame: &mut Self::Frame);
    fn open(&mut self, frame: &mut Self::Frame);
    /// What was opened.
    fn opened(frame: &Self::Frame) -> &[u8];
}

/// One buffer, for those that work in place: the message stands between `head` and `tail` bytes of overhead.
pub struct InPlace {
    buffer: Vec<u8>,
    message: std::ops::Range<usize>,
}

impl InPlace {
    fn new(len: usize, head: usize, tail: usize) -> Self {
        Self {
            buffer: Vec::with_capacity(head + len + tail),
            message: head..head + len,
        }
    }

    fn fill(&mut self, message: &[u8]) {
        self.buffer.clear();
        self.buffer.resize(self.message.start, 0);
        self.buffer.extend_from_slice(message);
    }

    fn opened(&self) -> &[u8] {
        &self.buffer[self.message.clone()]
    }
}

/// Two buffers, for those that write elsewhere.
pub struct Apart {
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl Apart {
    fn new(len: usize, overhead: usize) -> Self {
        Self {
            plain: vec![0; len],
            sealed: vec![0; len + overhead],
        }
    }
}

macro_rules! in_place {
    ($head:expr, $tail:expr) => {
        type Frame = InPlace;

        fn frame(len: usize) -> InPlace {
            InPlace::new(len, $head, $tail + len / 8)
        }

        fn fill(frame: &mut InPlace, message: &[u8]) {
            frame.fill(message);
        }

        fn opened(frame: &InPlace) -> &[u8] {
            frame.opened()
        }
    };
}

macro_rules! apart {
    ($overhead:expr) => {
        type Frame = Apart;

        fn frame(len: usize) -> Apart {
            Apart::new(len, $overhead)
        }

        fn fill(frame: &mut Apart, message: &[u8]) {
            frame.plain.copy_from_slice(message);
        }

        fn opened(frame: &Apart) -> &[u8] {
            &frame.plain
        }
    };
}

/// This crate's session frame: header, a key of its own per frame, AEAD.
pub struct Ours<const PADDED: bool> {
    send: SendChain,
    receive: RecvChain,
}

impl<const PADDED: bool> Default for Ours<PADDED> {
    fn default() -> Self {
        Self {
            send: SendChain::new(Secret::new(KEY)),
            receive: RecvChain::new(Secret::new(KEY)),
        }
    }
}

const HEADER: usize = 8;
/// Kind and tag; padding takes an eighth at most.
const ROOM: usize = 1 + TAG + 16;

impl<const PADDED: bool> Sealer for Ours<PADDED> {
    in_place!(HEADER, ROOM);

    fn seal(&mut self, frame: &mut InPlace) {
        let (seq, key) = self.send.next().expect("fewer than 2^32 frames");
        let len = frame.message.len() + 1;
        let plaintext = if PADDED { padme(len.max(32)) } else { len };
        let buffer = std::mem::take(&mut frame.buffer);
        frame.buffer = seal_frame(key, 0, seq, 1, buffer, plaintext);
    }

    fn open(&mut self, frame: &mut InPlace) {
        let key = self.receive.key().expect("fewer than 2^32 frames");
        open_frame(key, &mut frame.buffer).expect("what was sealed opens");
        self.receive.commit();
    }
}

pub struct BareRing(ring_aead::LessSafeKey);

impl Default for BareRing {
    fn default() -> Self {
        let key = ring_aead::UnboundKey::new(&ring_aead::CHACHA20_POLY1305, &KEY);
        Self(ring_aead::LessSafeKey::new(key.expect("32 bytes")))
    }
}

impl Sealer for BareRing {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let nonce = ring_aead::Nonce::assume_unique_for_key(NONCE);
        let sealed =
            self.0
                .seal_in_place_append_tag(nonce, ring_aead::Aad::empty(), &mut frame.buffer);
        sealed.expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut InPlace) {
        let nonce = ring_aead::Nonce::assume_unique_for_key(NONCE);
        let opened = self
            .0
            .open_in_place(nonce, ring_aead::Aad::empty(), &mut frame.buffer);
        opened.expect("what was sealed opens");
    }
}

/// ring, with the key bound anew for each frame, as a key of its own needs it.
#[derive(Default)]
pub struct BoundRing;

impl Sealer for BoundRing {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        BareRing::default().seal(frame);
    }

    fn open(&mut self, frame: &mut InPlace) {
        BareRing::default().open(frame);
    }
}

/// What this crate makes of ring: bound for each frame, and what that left on the stack erased.
#[derive(Default)]
pub struct ErasedRing;

impl Sealer for ErasedRing {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let tag = aead::seal(&KEY, &NONCE, &[], &mut frame.buffer);
        frame.buffer.extend_from_slice(&tag);
    }

    fn open(&mut self, frame: &mut InPlace) {
        aead::open(&KEY, &NONCE, &[], &mut frame.buffer).expect("what was sealed opens");
    }
}

pub struct BareAwsLc(aws::LessSafeKey);

impl Default for BareAwsLc {
    fn default() -> Self {
        let key = aws::UnboundKey::new(&aws::CHACHA20_POLY1305, &KEY);
        Self(aws::LessSafeKey::new(key.expect("32 bytes")))
    }
}

impl Sealer for BareAwsLc {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let nonce = aws::Nonce::assume_unique_for_key(NONCE);
        let sealed = self
            .0
            .seal_in_place_append_tag(nonce, aws::Aad::empty(), &mut frame.buffer);
        sealed.expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut InPlace) {
        let nonce = aws::Nonce::assume_unique_for_key(NONCE);
        let opened = self
            .0
            .open_in_place(nonce, aws::Aad::empty(), &mut frame.buffer);
        opened.expect("what was sealed opens");
    }
}

pub struct BareRustCrypto(ChaCha20Poly1305);

impl Default for BareRustCrypto {
    fn default() -> Self {
        Self(ChaCha20Poly1305::new(&KEY.into()))
    }
}

impl Sealer for BareRustCrypto {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let text = InOutBuf::from(frame.buffer.as_mut_slice());
        let tag = self.0.encrypt_inout_detached(&NONCE.into(), &[], text);
        frame
            .buffer
            .extend_from_slice(&tag.expect("sealing does not fail"));
    }

    fn open(&mut self, frame: &mut InPlace) {
        let (text, tag) = frame.buffer.split_last_chunk_mut::<TAG>().expect("a tag");
        let text = InOutBuf::from(text);
        let opened = self
            .0
            .decrypt_inout_detached(&NONCE.into(), &[], text, (&*tag).into());
        opened.expect("what was sealed opens");
    }
}

#[derive(Default)]
pub struct BareDryoc;

impl Sealer for BareDryoc {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let mut tag = [0; TAG];
        let text = frame.buffer.as_mut_slice();
        let sealed = dryoc_aead::crypto_aead_chacha20poly1305_ietf_encrypt_detached_inplace(
            text, &mut tag, None, &NONCE, &KEY,
        );
        sealed.expect("sealing does not fail");
        frame.buffer.extend_from_slice(&tag);
    }

    fn open(&mut self, frame: &mut InPlace) {
        let (text, tag) = frame.buffer.split_last_chunk_mut::<TAG>().expect("a tag");
        let opened = dryoc_aead::crypto_aead_chacha20poly1305_ietf_decrypt_detached_inplace(
            text, tag, None, &NONCE, &KEY,
        );
        opened.expect("what was sealed opens");
    }
}

pub struct BareGraviola(graviola::aead::ChaCha20Poly1305);

impl Default for BareGraviola {
    fn default() -> Self {
        Self(graviola::aead::ChaCha20Poly1305::new(KEY))
    }
}

impl Sealer for BareGraviola {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let mut tag = [0; TAG];
        self.0.encrypt(&NONCE, &[], &mut frame.buffer, &mut tag);
        frame.buffer.extend_from_slice(&tag);
    }

    fn open(&mut self, frame: &mut InPlace) {
        let (text, tag) = frame.buffer.split_last_chunk_mut::<TAG>().expect("a tag");
        self.0
            .decrypt(&NONCE, &[], text, tag)
            .expect("what was sealed opens");
    }
}

#[derive(Default)]
pub struct BareLibcrux;

impl Sealer for BareLibcrux {
    apart!(TAG);

    fn seal(&mut self, frame: &mut Apart) {
        libcrux_chacha20poly1305::encrypt(&KEY, &frame.plain, &mut frame.sealed, &[], &NONCE)
            .expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut Apart) {
        libcrux_chacha20poly1305::decrypt(&KEY, &mut frame.plain, &frame.sealed, &[], &NONCE)
            .expect("what was sealed opens");
    }
}

/// `Noise_NN_25519_ChaChaPoly_SHA256` after its handshake.
pub struct Snow<const RING: bool> {
    send: snow::TransportState,
    receive: snow::TransportState,
}

impl<const RING: bool> Default for Snow<RING> {
    fn default() -> Self {
        let builder = || {
            let params = "Noise_NN_25519_ChaChaPoly_SHA256"
                .parse()
                .expect("a known name");
            if RING {
                let resolver = snow::resolvers::FallbackResolver::new(
                    Box::new(snow::resolvers::RingResolver),
                    Box::new(snow::resolvers::DefaultResolver),
                );
                snow::Builder::with_resolver(params, Box::new(resolver))
            } else {
                let resolver = Box::new(snow::resolvers::DefaultResolver);
                snow::Builder::with_resolver(params, resolver)
            }
        };
        let mut initiator = builder().build_initiator().expect("a state");
        let mut responder = builder().build_responder().expect("a state");
        let (mut message, mut payload) = ([0; 256], [0; 256]);
        let len = initiator
            .write_message(&[], &mut message)
            .expect("a message");
        responder
            .read_message(&message[..len], &mut payload)
            .expect("it verifies");
        let len = responder
            .write_message(&[], &mut message)
            .expect("a message");
        initiator
            .read_message(&message[..len], &mut payload)
            .expect("it verifies");
        Self {
            send: initiator
                .into_transport_mode()
                .expect("a finished handshake"),
            receive: responder
                .into_transport_mode()
                .expect("a finished handshake"),
        }
    }
}

impl<const RING: bool> Sealer for Snow<RING> {
    apart!(TAG);

    fn seal(&mut self, frame: &mut Apart) {
        let sealed = self.send.write_message(&frame.plain, &mut frame.sealed);
        sealed.expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut Apart) {
        let opened = self.receive.read_message(&frame.sealed, &mut frame.plain);
        opened.expect("what was sealed opens");
    }
}

type ClatterTransport = clatter::transportstate::TransportState<ChaChaPoly, Sha256>;

/// clatter's hybrid NN after its handshake.
pub struct Clatter {
    send: ClatterTransport,
    receive: ClatterTransport,
}

impl Default for Clatter {
    fn default() -> Self {
        type Hybrid = HybridHandshake<X25519, MlKem768, MlKem768, ChaChaPoly, Sha256>;
        let state = |initiator| {
            Hybrid::new(HybridHandshakeParams::new(noise_hybrid_nn(), initiator)).expect("a state")
        };
        let (mut initiator, mut responder) = (state(true), state(false));
        let (mut message, mut payload) = ([0; 4_096], [0; 4_096]);
        let len = initiator
            .write_message(&[], &mut message)
            .expect("a message");
        responder
            .read_message(&message[..len], &mut payload)
            .expect("it verifies");
        let len = responder
            .write_message(&[], &mut message)
            .expect("a message");
        initiator
            .read_message(&message[..len], &mut payload)
            .expect("it verifies");
        Self {
            send: initiator.finalize().expect("a finished handshake"),
            receive: responder.finalize().expect("a finished handshake"),
        }
    }
}

impl Sealer for Clatter {
    in_place!(0, TAG);

    fn seal(&mut self, frame: &mut InPlace) {
        let len = frame.buffer.len();
        frame.buffer.resize(len + TAG, 0);
        self.send
            .send_in_place(&mut frame.buffer, len)
            .expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut InPlace) {
        let len = frame.buffer.len();
        self.receive
            .receive_in_place(&mut frame.buffer, len)
            .expect("what was sealed opens");
    }
}

/// libsodium's secretstream, by dryoc.
pub struct SecretStream {
    send: dryoc_stream::State,
    receive: dryoc_stream::State,
}

impl Default for SecretStream {
    fn default() -> Self {
        let (mut send, mut receive) = (dryoc_stream::State::new(), dryoc_stream::State::new());
        let mut header = [0; 24];
        dryoc_stream::crypto_secretstream_xchacha20poly1305_init_push(&mut send, &mut header, &KEY);
        dryoc_stream::crypto_secretstream_xchacha20poly1305_init_pull(&mut receive, &header, &KEY);
        Self { send, receive }
    }
}

impl Sealer for SecretStream {
    apart!(TAG + 1);

    fn seal(&mut self, frame: &mut Apart) {
        dryoc_stream::crypto_secretstream_xchacha20poly1305_push(
            &mut self.send,
            &mut frame.sealed,
            &frame.plain,
            None,
            0,
        )
        .expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut Apart) {
        dryoc_stream::crypto_secretstream_xchacha20poly1305_pull(
            &mut self.receive,
            &mut frame.plain,
            &mut 0,
            &frame.sealed,
            None,
        )
        .expect("what was sealed opens");
    }
}

/// RFC 9605, with ring's AES-128-GCM: another cipher, in hardware.
pub struct Sframe {
    seal: sframe::key::EncryptionKey,
    open: sframe::key::DecryptionKey,
    counter: sframe::frame::MonotonicCounter,
}

impl Default for Sframe {
    fn default() -> Self {
        let suite = sframe::CipherSuite::AesGcm128Sha256;
        Self {
            seal: sframe::key::EncryptionKey::derive_from(suite, 1_u64, KEY).expect("a key"),
            open: sframe::key::DecryptionKey::derive_from(suite, 1_u64, KEY).expect("a key"),
            counter: sframe::frame::MonotonicCounter::default(),
        }
    }
}

impl Sealer for Sframe {
    apart!(32);

    fn seal(&mut self, frame: &mut Apart) {
        frame.sealed.clear();
        let media = sframe::frame::MediaFrameView::try_new(&mut self.counter, &frame.plain);
        let sealed = media
            .expect("a counter")
            .encrypt_into(&self.seal, &mut frame.sealed);
        sealed.expect("sealing does not fail");
    }

    fn open(&mut self, frame: &mut Apart) {
        frame.plain.clear();
        let sealed = sframe::frame::EncryptedFrameView::try_new(&frame.sealed);
        let opened = sealed
            .expect("a frame")
            .decrypt_into(&self.open, &mut frame.plain);
        opened.expect("what was sealed opens");
    }
}

/// Olm's double ratchet. One way: the ratchet's symmetric half alone moves.
pub struct Olm {
    pub near: Session,
    pub far: Session,
}

impl Default for Olm {
    fn default() -> Self {
        let (near, mut far) = (Account::new(), Account::new());
        far.generate_one_time_keys(1);
        let key = *far.one_time_keys().values().next().expect("one key");
        let config = SessionConfig::version_1;
        let mut session = near
            .create_outbound_session(config(), far.curve25519_key(), key)
            .expect("a session");
        let OlmMessage::PreKey(first) = session.encrypt(b"first").expect("a message") else {
            panic!("the first message carries the keys");
        };
        let mut inbound = far
            .create_inbound_session(config(), near.curve25519_key(), &first)
            .expect("a session")
            .session;
        let reply = inbound.encrypt(b"reply").expect("a message");
        session.decrypt(&reply).expect("it verifies");
        Self {
            near: session,
            far: inbound,
        }
    }
}

/// A message in memory of its own each time: Olm hands out nothing else.
#[derive(Default)]
pub struct Owned {
    plain: Vec<u8>,
    sealed: Option<OlmMessage>,
}

macro_rules! owned {
    () => {
        type Frame = Owned;

        fn frame(_: usize) -> Owned {
            Owned::default()
        }

        fn fill(frame: &mut Owned, message: &[u8]) {
            frame.plain = message.to_vec();
            frame.sealed = None;
        }

        fn opened(frame: &Owned) -> &[u8] {
            &frame.plain
        }
    };
}

impl Sealer for Olm {
    owned!();

    fn seal(&mut self, frame: &mut Owned) {
        frame.sealed = Some(
            self.near
                .encrypt(&frame.plain)
                .expect("sealing does not fail"),
        );
    }

    fn open(&mut self, frame: &mut Owned) {
        let sealed = frame.sealed.as_ref().expect("a sealed message");
        frame.plain = self.far.decrypt(sealed).expect("what was sealed opens");
    }
}

/// Olm in conversation: every message turns the direction, so both ratchets move. Frames have to be sealed and opened
/// one by one.
#[derive(Default)]
pub struct OlmPingPong(Olm);

impl Sealer for OlmPingPong {
    owned!();

    fn seal(&mut self, frame: &mut Owned) {
        self.0.seal(frame);
    }

    fn open(&mut self, frame: &mut Owned) {
        self.0.open(frame);
        std::mem::swap(&mut self.0.near, &mut self.0.far);
    }
}
