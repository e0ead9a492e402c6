//! What other libraries make of a message of a session.

use clatter::{
    HybridHandshake, HybridHandshakeParams,
    crypto::{cipher::ChaChaPoly, dh::X25519, hash::Sha256, kem::pqclean_ml_kem::MlKem768},
    handshakepattern::noise_hybrid_nn,
    traits::Handshaker as _,
};
use dryoc::classic::crypto_secretstream_xchacha20poly1305 as dryoc_stream;
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};

use super::{Apart, InPlace, KEY, Sealer, TAG};

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
