//! The interpreter: one message at a time, token by token (Noise §5.3).

use std::fmt;

use super::keys::{
    CIPHERTEXT_LEN, DH_LEN, DecapsulationKey, ENCAPSULATION_KEY_LEN, EncapsulationKey, StaticKey,
};
use super::pattern::{Dh, Pattern, Role, Token};
use super::symmetric::Symmetric;
use super::{Finished, MAX_MESSAGE, NoiseError, ReadDone, Reader, Setup, Writer, Written};
use crate::crypto::aead::TAG_LEN;
use crate::crypto::secret::Secret;
use crate::entropy::Entropy;

/// Room for the keys of any message of ours, and their tags: most are in the first, `e` and `e1`.
const KEYS_LEN: usize = 1_232;

/// The state between messages; on the heap, so that handing it on copies no secret.
pub(super) struct Handshake {
    pattern: &'static Pattern,
    role: Role,
    /// Messages already processed.
    step: usize,
    symmetric: Symmetric,
    /// PSKs not used yet, the next one last.
    psks: Vec<Secret>,
    local_static: Option<StaticKey>,
    local_ephemeral: Option<StaticKey>,
    pub(super) remote_static: Option<[u8; DH_LEN]>,
    remote_ephemeral: Option<[u8; DH_LEN]>,
    decapsulation: Option<DecapsulationKey>,
    encapsulation: Option<EncapsulationKey>,
}

impl Handshake {
    #[inline(never)]
    pub(super) fn new(setup: Setup<'_>, role: Role) -> Box<Self> {
        let Setup {
            pattern,
            prologue,
            local_static,
            psks,
        } = setup;
        assert_eq!(
            psks.len(),
            pattern.psks(),
            "one key for each psk token of {}",
            pattern.name()
        );
        assert!(
            local_static.is_some() || !pattern.sends_static(role),
            "{} needs a static key",
            pattern.name()
        );
        let mut symmetric = Symmetric::new(pattern.name());
        symmetric.mix_hash(prologue);
        Box::new(Self {
            pattern,
            role,
            step: 0,
            symmetric,
            psks: psks.iter().rev().map(|psk| psk.duplicate()).collect(),
            local_static: local_static.map(StaticKey::duplicate),
            local_ephemeral: None,
            remote_static: None,
            remote_ephemeral: None,
            decapsulation: None,
            encapsulation: None,
        })
    }

    #[inline(never)]
    pub(super) fn write(
        mut self: Box<Self>,
        payload: &[u8],
        entropy: &mut dyn Entropy,
    ) -> Result<(Vec<u8>, Written), NoiseError> {
        let mut message = Vec::with_capacity(KEYS_LEN + payload.len() + TAG_LEN);
        for token in self.pattern.message(self.step) {
            self.write_token(*token, &mut message, entropy)?;
        }
        self.symmetric.encrypt_and_hash(payload, &mut message);
        if message.len() > MAX_MESSAGE {
            return Err(NoiseError::Length);
        }
        self.step += 1;
        let next = match self.is_finished() {
            true => Written::Done(self.finish()),
            false => Written::Reader(Reader(self)),
        };
        Ok((message, next))
    }

    #[inline(never)]
    pub(super) fn read(
        mut self: Box<Self>,
        message: &[u8],
    ) -> Result<(Vec<u8>, ReadDone), NoiseError> {
        if message.len() > MAX_MESSAGE {
            return Err(NoiseError::Length);
        }
        let mut rest = message;
        for token in self.pattern.message(self.step) {
            self.read_token(*token, &mut rest)?;
        }
        let payload = self.symmetric.decrypt_and_hash(rest)?;
        self.step += 1;
        let next = match self.is_finished() {
            true => ReadDone::Done(self.finish()),
            false => ReadDone::Writer(Writer(self)),
        };
        Ok((payload, next))
    }

    fn write_token(
        &mut self,
        token: Token,
        message: &mut Vec<u8>,
        entropy: &mut dyn Entropy,
    ) -> Result<(), NoiseError> {
        match token {
            Token::E => {
                let key = StaticKey::generate(entropy);
                message.extend_from_slice(key.public());
                self.mix_ephemeral(key.public());
                self.local_ephemeral = Some(key);
            }
            Token::S => {
                let key = self
                    .local_static
                    .as_ref()
                    .expect("checked when the handshake began");
                self.symmetric.encrypt_and_hash(key.public(), message);
            }
            Token::E1 => {
                let key = self
                    .decapsulation
                    .insert(DecapsulationKey::generate(entropy));
                self.symmetric
                    .encrypt_and_hash(&key.encapsulation_key(), message);
            }
            Token::Ekem1 => {
                let key = self
                    .encapsulation
                    .take()
                    .expect("a pattern has e1 before ekem1");
                let (ciphertext, shared) = key.encapsulate(&Secret::random(entropy));
                //
                self.symmetric.encrypt_and_hash(&ciphertext, message);
                self.symmetric.mix_key(shared.expose());
            }
            Token::Dh(dh) => self.mix_dh(dh)?,
            Token::Psk => self.mix_psk(),
        }
        Ok(())
    }

    fn read_token(&mut self, token: Token, rest: &mut &[u8]) -> Result<(), NoiseError> {
        match token {
            Token::E => {
                let public = take(rest, DH_LEN)?
                    .try_into()
                    .map_err(|_| NoiseError::Length)?;
                self.remote_ephemeral = Some(public);
                self.mix_ephemeral(&public);
            }
            Token::S => {
                let public = self.read_encrypted(rest, DH_LEN)?;
                self.remote_static = Some(public.try_into().map_err(|_| NoiseError::Length)?);
            }
            Token::E1 => {
                let key = self.read_encrypted(rest, ENCAPSULATION_KEY_LEN)?;
                self.encapsulation = Some(EncapsulationKey::new(&key)?);
            }
            Token::Ekem1 => {
                let ciphertext = self.read_encrypted(rest, CIPHERTEXT_LEN)?;
                let key = self
                    .decapsulation
                    .take()
                    .expect("a pattern has e1 before ekem1");
                let shared = key.decapsulate(&ciphertext)?;
                self.symmetric.mix_key(shared.expose());
            }
            Token::Dh(dh) => self.mix_dh(dh)?,
            Token::Psk => self.mix_psk(),
        }
        Ok(())
    }

    fn mix_dh(&mut self, dh: Dh) -> Result<(), NoiseError> {
        let (local, remote) = match (dh, self.role) {
            (Dh::Ee, _) => (&self.local_ephemeral, &self.remote_ephemeral),
            (Dh::Es, Role::Initiator) | (Dh::Se, Role::Responder) => {
                (&self.local_ephemeral, &self.remote_static)
            }
            (Dh::Es, Role::Responder) | (Dh::Se, Role::Initiator) => {
                (&self.local_static, &self.remote_ephemeral)
            }
        };
        let local = local
            .as_ref()
            .expect("a pattern brings a key before it uses it");
        let remote = remote
            .as_ref()
            .expect("a pattern brings a key before it uses it");
        let shared = local.diffie_hellman(remote)?;
        self.symmetric.mix_key(shared.expose());
        Ok(())
    }

    fn mix_psk(&mut self) {
        let psk = self.psks.last().expect("counted when the handshake began");
        self.symmetric.mix_key_and_hash(psk.expose());
        // Not `pop()`, which would move the key out and leave its bytes behind.
        self.psks.truncate(self.psks.len() - 1);
    }

    /// Takes an encrypted field of `len` bytes (and its tag, once there is a key) off `rest`.
    fn read_encrypted(&mut self, rest: &mut &[u8], len: usize) -> Result<Vec<u8>, NoiseError> {
        let field = take(rest, len + self.symmetric.tag_len())?;
        self.symmetric.decrypt_and_hash(field)
    }

    /// A public ephemeral key is hashed; with PSKs it is a key input too, so that no two handshakes share keys
    /// (Noise §9.2; R-74).
    fn mix_ephemeral(&mut self, public: &[u8; DH_LEN]) {
        self.symmetric.mix_hash(public);
        if self.pattern.psks() > 0 {
            self.symmetric.mix_key(public);
        }
    }

    fn is_finished(&self) -> bool {
        self.step == self.pattern.len()
    }

    fn finish(self: Box<Self>) -> Finished {
        let (hash, [k1, k2, exporter]) = self.symmetric.split();
        Finished {
            hash,
            k1,
            k2,
            exporter,
            remote_static: self.remote_static,
        }
    }
}

/// Cuts `len` bytes off the front.
fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], NoiseError> {
    rest.split_off(..len).ok_or(NoiseError::Length)
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pattern,
            role,
            step,
            ..
        } = self;
        write!(f, "{} as {role:?} at message {step}", pattern.name())
    }
}
