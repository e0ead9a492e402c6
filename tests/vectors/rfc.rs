//! Vectors of RFC 5869, RFC 7748 and RFC 8439, transcribed from their text.

use sealwire::crypto::aead::{self, TAG_LEN};
use sealwire::crypto::kdf;
use sealwire::crypto::noise::StaticKey;
use sealwire::crypto::secret::Secret;

use crate::support::unhex;

fn x25519(scalar: [u8; 32], point: [u8; 32]) -> [u8; 32] {
    let key = StaticKey::new(Secret::new(scalar));
    *key.diffie_hellman(&point).unwrap().expose()
}

#[test]
fn rfc_7748_section_5_2() {
    let cases = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ];
    for (scalar, point, result) in cases {
        assert_eq!(x25519(unhex(scalar), unhex(point)), unhex(result));
    }
}

/// The loop of section 5.2: the result is the next scalar, the scalar the next point.
fn iterated(rounds: usize) -> [u8; 32] {
    let mut scalar = [0; 32];
    scalar[0] = 9;
    let mut point = scalar;
    for _ in 0..rounds {
        (scalar, point) = (x25519(scalar, point), scalar);
    }
    scalar
}

#[test]
fn rfc_7748_section_5_2_iterated() {
    let once = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
    let thousand = "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51";
    assert_eq!(iterated(1), unhex(once));
    assert_eq!(iterated(1_000), unhex(thousand));
}

#[test]
#[ignore = "takes minutes"]
fn rfc_7748_section_5_2_iterated_a_million_times() {
    let million = "7c3911e0ab2586fd864497297e575e6f3bc601c0883c30df5f4dd2d24f665424";
    assert_eq!(iterated(1_000_000), unhex(million));
}

#[test]
fn rfc_7748_section_6_1() {
    let key = |digits| StaticKey::new(Secret::new(unhex(digits)));
    let alice = key("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = key("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice_public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    let bob_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
    let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
    assert_eq!(alice.public(), &unhex(alice_public));
    assert_eq!(bob.public(), &unhex(bob_public));
    for (key, other) in [(&alice, bob_public), (&bob, alice_public)] {
        let found = key.diffie_hellman(&unhex(other)).unwrap();
        assert_eq!(found.expose(), &unhex(shared));
    }
}

const SUNSCREEN: &[u8; 114] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";

#[test]
fn rfc_8439_section_2_4_2() {
    // The example starts at block counter 1; fast key erasure at 0.
    let key = Secret::new(std::array::from_fn(|i| i as u8));
    let mut stream = [0; 512];
    kdf::fke(&key, &unhex("000000000000004a00000000"), &mut stream);
    let sealed = std::array::from_fn(|i| SUNSCREEN[i] ^ stream[64 + i]);
    let expected: [u8; 114] = unhex(
        "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0b\
         f91b65c5524733ab8f593dabcd62b3571639d624e65152ab8f530c359f0861d8\
         07ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736\
         5af90bbf74a35be6b40b8eedf2785e42874d",
    );
    assert_eq!(sealed, expected);
}

#[test]
fn rfc_8439_section_2_8_2() {
    let key = std::array::from_fn(|i| 0x80 + i as u8);
    let nonce = unhex("070000004041424344454647");
    let ad: [u8; 12] = unhex("50515253c0c1c2c3c4c5c6c7");
    let sealed: [u8; 114 + TAG_LEN] = unhex(
        "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
         3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
         92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
         3ff4def08e4b7a9de576d26586cec64b6116\
         1ae10b594f09e26a7e902ecbd0600691",
    );
    let mut ours = SUNSCREEN.to_vec();
    let tag = aead::seal(&key, &nonce, &ad, &mut ours);
    ours.extend(tag);
    assert_eq!(ours, sealed);
    assert_eq!(aead::open(&key, &nonce, &ad, &mut ours).unwrap(), SUNSCREEN);
}

#[test]
fn rfc_5869_appendix_a() {
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<_>>();
    let cases = [
        (
            (vec![0x0b; 22], range(0, 0x0c), range(0xf0, 0xf9)),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
        ),
        (
            (range(0, 0x4f), range(0x60, 0xaf), range(0xb0, 0xff)),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c",
        ),
        (
            (vec![0x0b; 22], vec![], vec![]),
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d",
        ),
    ];
    for ((input, salt, info), prk, first_block) in cases {
        let found = kdf::hmac_sha256(&salt, &[&input]);
        assert_eq!(found.expose(), &unhex(prk));
        let okm: Secret = kdf::expand_info(found.expose(), &[&info]);
        assert_eq!(okm.expose(), &unhex(first_block));
    }
}
