//! Wycheproof against our use of X25519, the AEADs and HKDF. ML-KEM is in `kem.rs`.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use sealwire::crypto::aead::{self, AeadError, TAG_LEN};
use sealwire::crypto::kdf;
use sealwire::crypto::noise::{NoiseError, StaticKey};
use sealwire::crypto::secret::Secret;
use serde_json::Value;

use crate::support::{Count, bytes, cases, data, fixed, list};

fn file(name: &str) -> Value {
    serde_json::from_str(&data(&format!("wycheproof-{name}.json"))).unwrap()
}

fn has_flag(case: &Value, flag: &str) -> bool {
    list(&case["flags"]).any(|found| found == flag)
}

#[test]
fn x25519() {
    let file = file("x25519");
    let mut count = Count::default();
    for (_, case) in cases(&file) {
        let key = StaticKey::new(Secret::new(fixed(&case["private"])));
        let shared = key.diffie_hellman(&fixed(&case["public"]));
        let expected: [u8; 32] = fixed(&case["shared"]);
        // "Acceptable" leaves a choice; ours: every result but zero, for the reduction of a point is part of X25519.
        assert_eq!(expected == [0; 32], has_flag(case, "ZeroSharedSecret"));
        match shared {
            Err(error) => {
                assert_eq!(
                    (error, expected),
                    (NoiseError::Degenerate, [0; 32]),
                    "{case}"
                );
                count.add("refused: of low order");
            }
            Ok(shared) => {
                assert_eq!(shared.expose(), &expected, "{case}");
                count.add(match has_flag(case, "NonCanonicalPublic") {
                    true => "agreed: not reduced",
                    false => "agreed",
                });
            }
        }
    }
    count.check(
        "X25519",
        &[
            ("agreed", 474),
            ("agreed: not reduced", 13),
            ("refused: of low order", 31),
        ],
    );
}

type Seal = fn(&[u8; 32], &[u8; 12], &[u8], &mut [u8]) -> [u8; TAG_LEN];
type Open =
    for<'a> fn(&[u8; 32], &[u8; 12], &[u8], &'a mut [u8]) -> Result<&'a mut [u8], AeadError>;

/// The one in use, and each that it chooses from.
const AEADS: &[(Seal, Open)] = &[
    (aead::seal, aead::open),
    (aead::portable::seal, aead::portable::open),
    #[cfg(feature = "client")]
    (aead::native::seal, aead::native::open),
    #[cfg(all(feature = "avx512", target_arch = "x86_64"))]
    (aead::wide::seal, aead::wide::open),
];

#[test]
fn chacha20_poly1305() {
    let file = file("chacha20-poly1305");
    for (seal, open) in AEADS {
        let mut count = Count::default();
        for (_, case) in cases(&file) {
            let Ok(nonce) = bytes(&case["iv"]).try_into() else {
                assert!(has_flag(case, "InvalidNonceSize"));
                count.add("cannot be written down: nonce of another size");
                continue;
            };
            let [ad, text, ciphertext, tag] =
                ["aad", "msg", "ct", "tag"].map(|name| bytes(&case[name]));
            let key = fixed(&case["key"]);
            let sealed = [ciphertext, tag].concat();
            let mut received = sealed.clone();
            let opened = open(&key, &nonce, &ad, &mut received);
            if case["result"] == "valid" {
                assert_eq!(opened.unwrap(), text, "{case}");
                let mut ours = text;
                let tag = seal(&key, &nonce, &ad, &mut ours);
                ours.extend(tag);
                assert_eq!(ours, sealed, "{case}");
                count.add("sealed and opened");
            } else {
                assert_eq!(opened, Err(AeadError), "{case}");
                assert!(received.iter().all(|byte| *byte == 0), "{case}");
                count.add("refused");
            }
        }
        count.check(
            "ChaCha20-Poly1305",
            &[
                ("cannot be written down: nonce of another size", 9),
                ("refused", 60),
                ("sealed and opened", 256),
            ],
        );
    }
}

/// The primitive itself, as files at rest use it.
#[test]
fn xchacha20_poly1305() {
    let file = file("xchacha20-poly1305");
    let mut count = Count::default();
    for (_, case) in cases(&file) {
        let Ok(nonce) = <[u8; 24]>::try_from(bytes(&case["iv"])) else {
            assert!(has_flag(case, "InvalidNonceSize"));
            count.add("cannot be written down: nonce of another size");
            continue;
        };
        let cipher = XChaCha20Poly1305::new(&fixed::<32>(&case["key"]).into());
        let [ad, text, ciphertext] = ["aad", "msg", "ct"].map(|name| bytes(&case[name]));
        let tag = fixed::<TAG_LEN>(&case["tag"]);
        let mut received = ciphertext.clone();
        let opened = cipher.decrypt_inout_detached(
            &nonce.into(),
            &ad,
            received.as_mut_slice().into(),
            &tag.into(),
        );
        if case["result"] == "valid" {
            opened.unwrap();
            assert_eq!(received, text, "{case}");
            let mut ours = text;
            let made =
                cipher.encrypt_inout_detached(&nonce.into(), &ad, ours.as_mut_slice().into());
            assert_eq!((&ours, made.unwrap()), (&ciphertext, tag.into()), "{case}");
            count.add("sealed and opened");
        } else {
            opened.unwrap_err();
            count.add("refused");
        }
    }
    count.check(
        "XChaCha20-Poly1305",
        &[
            ("cannot be written down: nonce of another size", 9),
            ("refused", 60),
            ("sealed and opened", 246),
        ],
    );
}

/// Ours are two: one block with any info, and Noise's three blocks without one. A longer output starts with the
/// block that ours is.
#[test]
fn hkdf_sha256() {
    let file = file("hkdf-sha256");
    let mut count = Count::default();
    for (_, case) in cases(&file) {
        let [input, salt, info, okm] =
            ["ikm", "salt", "info", "okm"].map(|name| bytes(&case[name]));
        if case["result"] != "valid" {
            assert!(has_flag(case, "SizeTooLarge"));
            count.add("cannot be written down: too long");
            continue;
        }
        let prk = kdf::hmac_sha256(&salt, &[&input]);
        let (start, end) = info.split_at(info.len() / 2);
        let block: Secret = kdf::expand_info(prk.expose(), &[start, end]);
        let len = okm.len().min(32);
        assert_eq!(block.expose()[..len], okm[..len], "{case}");
        count.add("expanded");
        // Noise's chaining key has 32 bytes; a shorter salt is the same HMAC key as one that zeros fill up.
        if info.is_empty() && salt.len() <= 32 && okm.len() <= 96 {
            let mut chaining_key = [0; 32];
            chaining_key[..salt.len()].copy_from_slice(&salt);
            let blocks: [Secret; 3] = kdf::noise_hkdf(&Secret::new(chaining_key), &input);
            let blocks = blocks.map(|block| *block.expose()).concat();
            assert_eq!(blocks[..okm.len()], okm, "{case}");
            count.add("expanded as Noise does");
        }
    }
    count.check(
        "HKDF-SHA256",
        &[
            ("cannot be written down: too long", 3),
            ("expanded", 83),
            ("expanded as Noise does", 28),
        ],
    );
}
