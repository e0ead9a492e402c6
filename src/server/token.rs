//! Join tokens: a text that lets its bearer open a WebSocket for some time, signed by whoever runs the app.
//!
//! ```text
//! token = "1." expiry "." room "." mac
//! expiry  Unix time in seconds, decimal, without leading zeros; from then on the token is refused
//! room    base64url of the 32 bytes of the only room it is for, or empty for any room
//! mac     base64url(HMAC-SHA256(key, "sealwire join token" || 0x00 || "1." expiry "." room))
//! ```
//!
//! It is the `token` of the query: browsers cannot set headers on a WebSocket. Whoever sees it can use it until it
//! expires, so it should live for minutes. base64url is without padding. A token protects the server from strangers;
//! the messages of a session never depend on it.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::room::RoomId;

/// What the MAC covers before the token: a key that signs other things too is not fooled by them.
const DOMAIN: &[u8] = b"sealwire join token\0";

/// The shortest key, in bytes.
const MIN_KEY: usize = 16;

/// The longest token, in bytes.
const MAX_TOKEN: usize = 128;

/// The key that signs join tokens, shared by the server and the app's backend.
#[derive(Clone)]
pub struct TokenKey(Zeroizing<Vec<u8>>);

/// Why a token or a key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The key has fewer than 16 bytes.
    #[error("a token key has at least 16 bytes")]
    ShortKey,
    /// Not the text of a token, or not signed with this key.
    #[error("the token is not valid")]
    Invalid,
    /// It was valid.
    #[error("the token has expired")]
    Expired,
}

impl TokenKey {
    /// The key of these bytes, of which 32 random ones are best.
    ///
    /// # Errors
    /// [`TokenError::ShortKey`] below 16 bytes.
    pub fn new(key: &[u8]) -> Result<Self, TokenError> {
        if key.len() < MIN_KEY {
            return Err(TokenError::ShortKey);
        }
        Ok(Self(Zeroizing::new(key.to_vec())))
    }

    /// A token until `expiry`, in seconds of Unix time, for one room or for any.
    #[must_use]
    pub fn mint(&self, expiry: u64, room: Option<RoomId>) -> String {
        let room = room.map(|room| Base64UrlUnpadded::encode_string(&room.0));
        let text = format!("1.{expiry}.{}", room.unwrap_or_default());
        let mac = self.mac(&text).finalize().into_bytes();
        format!("{text}.{}", Base64UrlUnpadded::encode_string(&mac))
    }

    /// Checks a token at `now`, in seconds of Unix time. Returns the room that it is for; `None` is any.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Expired`].
    pub fn verify(&self, token: &str, now: u64) -> Result<Option<RoomId>, TokenError> {
        let (text, mac) = token.rsplit_once('.').ok_or(TokenError::Invalid)?;
        if token.len() > MAX_TOKEN {
            return Err(TokenError::Invalid);
        }
        let mac = decode::<32>(mac).ok_or(TokenError::Invalid)?;
        let checked = self.mac(text).verify_slice(&mac);
        checked.map_err(|_| TokenError::Invalid)?;
        let (expiry, room) = read(text).ok_or(TokenError::Invalid)?;
        if now >= expiry {
            return Err(TokenError::Expired);
        }
        Ok(room)
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(&self.0)
            .expect("HMAC takes keys of any length")
            .chain_update(DOMAIN)
            .chain_update(text)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

/// The expiry and the room of a text whose MAC is right.
fn read(text: &str) -> Option<(u64, Option<RoomId>)> {
    let (expiry, room) = text.strip_prefix("1.")?.split_once('.')?;
    let seconds: u64 = expiry.parse().ok()?;
    if seconds.to_string() != expiry {
        return None;
    }
    let room = match room {
        "" => None,
        room => Some(RoomId(decode(room)?)),
    };
    Some((seconds, room))
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    let decoded = Base64UrlUnpadded::decode(text, &mut out).ok()?;
    (decoded.len() == N).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([7; 32]);

    fn key() -> TokenKey {
        TokenKey::new(b"0123456789abcdef0123456789abcdef").unwrap()
    }

    #[test]
    fn a_token_is_valid_until_it_expires() {
        for room in [None, Some(ROOM)] {
            let token = key().mint(1_000, room);
            assert_eq!(key().verify(&token, 999), Ok(room), "{token}");
            assert_eq!(key().verify(&token, 1_000), Err(TokenError::Expired));
        }
    }

    /// The MAC was computed by OpenSSL:
    /// `printf 'sealwire join token\x001.2000000000.' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef`
    #[test]
    fn the_format_is_the_documented_one() {
        let token = key().mint(2_000_000_000, None);
        assert_eq!(
            token,
            "1.2000000000..B_mtxuDh8ndReSiHyBwWMA-snCZQlGhhgD9ohY39exU"
        );
    }

    #[test]
    fn whatever_is_changed_makes_it_invalid() {
        let token = key().mint(1_000, Some(ROOM));
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(changed) = String::from_utf8(bytes) else {
                continue;
            };
            assert_eq!(key().verify(&changed, 0), Err(TokenError::Invalid), "{at}");
        }
        let other = TokenKey::new(b"another key of enough bytes").unwrap();
        assert_eq!(other.verify(&token, 0), Err(TokenError::Invalid));
        for wrong in ["", ".", "1.1000..", &"x".repeat(500)] {
            assert_eq!(key().verify(wrong, 0), Err(TokenError::Invalid));
        }
    }

    #[test]
    fn texts_that_nobody_mints_are_invalid_even_when_they_are_signed() {
        for text in [
            "1.01000.",
            "1.+1.",
            "1.1000",
            "2.1000.",
            "1.1000.AAAA",
            "1.99999999999999999999.",
        ] {
            let mac = key().mac(text).finalize().into_bytes();
            let token = format!("{text}.{}", Base64UrlUnpadded::encode_string(&mac));
            assert_eq!(key().verify(&token, 0), Err(TokenError::Invalid), "{text}");
        }
    }

    #[test]
    fn keys_are_long_enough_and_stay_out_of_logs() {
        assert_eq!(TokenKey::new(b"short").unwrap_err(), TokenError::ShortKey);
        assert_eq!(format!("{:?}", key()), "TokenKey(..)");
    }
}
