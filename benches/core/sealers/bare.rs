//! AEADs alone, with one key; and the steps from there to a key of its own per frame.

use aws_lc_rs::aead as aws;
use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit as _,
    aead::{AeadInOut as _, inout::InOutBuf},
};
use dryoc::classic::crypto_aead_chacha20poly1305_ietf as dryoc_aead;
use ring::aead as ring_aead;
use sealwire::crypto::aead;

use super::{Apart, InPlace, KEY, NONCE, Sealer, TAG};

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

/// The implementation that this crate chooses, with a key for each frame, and what that left on the stack erased.
#[derive(Default)]
pub struct Erased;

impl Sealer for Erased {
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
