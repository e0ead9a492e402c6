//! Invites: what one person sends to another, by any way they trust, so that their devices find and recognise each
//! other (protocol.md §1.1). Not their life at the inviter (open, claimed, used): that is the protocol's.
//!
//! ```text
//! sealwire1:<base64url>     at most 1 024 bytes
//!            | version 1 | secret (32) | inviter's public key (32) | expiry (u32, unix seconds) | server's URL ... |
//! ```

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use zeroize::Zeroizing;

use crate::config::PlainSignaling;
use crate::crypto::kdf::{self, Pairing, PairingKind};
use crate::crypto::secret::Secret;
use crate::entropy::Entropy;
use crate::identity::{Identity, PeerId};
use crate::relay_url::validate_relay_url;

const PREFIX: &str = "sealwire1:";
const VERSION: u8 = 1;

/// Bytes of the longest text.
const MAX_TEXT: usize = 1_024;

/// Bytes before the URL.
const FIXED: usize = 1 + 32 + 32 + 4;

/// A single-use invite: where to meet, whom to expect, and the secret that proves both.
///
/// Its text ([`Display`](fmt::Display)) **is the secret**: whoever has it first can take the invited person's place.
/// Send it over a channel that only that person reads. It says who made it, so the one who redeems it needs no further
/// check; the inviter learns who redeemed it.
pub struct Invite {
    secret: Secret,
    inviter: PeerId,
    /// Unix seconds; 0: never.
    expiry: u32,
    server: String,
}

/// A text is no invite, or no invite can be made of these parts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The text is something else.
    #[error("this is not an invite: one starts with `{PREFIX}`")]
    NotAnInvite,
    /// Characters are missing, changed or added.
    #[error("the invite is damaged: copy all of it again, from `{PREFIX}` to its last character")]
    Damaged,
    /// It was made by a newer version.
    #[error("the invite has version {version}, and this side reads version {VERSION}: update it")]
    UnsupportedVersion {
        /// The invite's version.
        version: u8,
    },
    /// The text is too long.
    #[error(
        "an invite of {len} bytes is too long: at most {max} are possible, so use a shorter server address"
    )]
    TooLong {
        /// The length of the text, in bytes.
        len: usize,
        /// The longest text, in bytes.
        max: usize,
    },
    /// The address of its signaling server may not be used.
    #[error("the invite leads to {url:?}, which is not a usable signaling address: {reason}")]
    BadUrl {
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Invite {
    /// An invite by `inviter` to meet at `server`, good for one session until `unix_seconds` by the inviter's clock
    /// (0: until it is used).
    ///
    /// `entropy` gives the secret, and must be cryptographically secure outside tests.
    ///
    /// # Errors
    /// [`InviteError::BadUrl`] unless `server` is `wss://`, or `ws://` as far as `plain` allows; [`InviteError::TooLong`]
    /// when it has more than 691 bytes.
    pub fn expiring_at(
        inviter: &Identity,
        server: &str,
        unix_seconds: u32,
        plain: PlainSignaling,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, InviteError> {
        check_server(server, plain)?;
        let len = PREFIX.len() + (FIXED + server.len()).saturating_mul(4).div_ceil(3);
        check_length(len)?;
        Ok(Self {
            secret: Secret::random(entropy),
            inviter: inviter.peer_id(),
            expiry: unix_seconds,
            server: server.to_owned(),
        })
    }

    /// Who made it.
    #[must_use]
    pub fn inviter(&self) -> PeerId {
        self.inviter
    }

    /// The signaling server where both meet. It learns the address of everybody who connects: show it to people before
    /// they do (R-20).
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// When it stops being good, in unix seconds by the inviter's clock; `None` when it never does.
    #[must_use]
    pub fn expires_at(&self) -> Option<u32> {
        (self.expiry != 0).then_some(self.expiry)
    }

    /// Whether this side may connect to the server. Reading the text accepts `ws://` to anywhere, for whether that is
    /// allowed is a setting: it must be asked here before connecting.
    ///
    /// # Errors
    /// [`InviteError::BadUrl`] when `plain` does not allow it.
    pub fn check_server(&self, plain: PlainSignaling) -> Result<(), InviteError> {
        check_server(&self.server, plain)
    }

    /// What both sides derive from it: the psk, its id and the room.
    pub(crate) fn pairing(&self) -> Pairing {
        kdf::pairing(PairingKind::Invite, &self.secret, self.inviter.as_bytes())
    }

    /// The bytes below the base64.
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED + self.server.len()));
        bytes.push(VERSION);
        bytes.extend_from_slice(self.secret.expose());
        bytes.extend_from_slice(self.inviter.as_bytes());
        bytes.extend_from_slice(&self.expiry.to_be_bytes());
        bytes.extend_from_slice(self.server.as_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, InviteError> {
        let (&version, rest) = bytes.split_first().ok_or(InviteError::Damaged)?;
        if version != VERSION {
            return Err(InviteError::UnsupportedVersion { version });
        }
        let (secret, rest) = rest.split_first_chunk().ok_or(InviteError::Damaged)?;
        let (inviter, rest) = rest.split_first_chunk().ok_or(InviteError::Damaged)?;
        let (expiry, url) = rest.split_first_chunk().ok_or(InviteError::Damaged)?;
        let server = std::str::from_utf8(url).map_err(|_| InviteError::Damaged)?;
        check_server(server, PlainSignaling::Anywhere)?;
        Ok(Self {
            secret: Secret::new(*secret),
            inviter: PeerId::from_bytes(*inviter),
            expiry: u32::from_be_bytes(*expiry),
            server: server.to_owned(),
        })
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    /// Reads the text; white space around it is ignored. Nothing is connected to (R-18).
    ///
    /// # Errors
    /// [`InviteError`] for everything that is not exactly the text of an invite.
    fn from_str(text: &str) -> Result<Self, InviteError> {
        let text = text.trim_ascii();
        let encoded = text.strip_prefix(PREFIX).ok_or(InviteError::NotAnInvite)?;
        check_length(text.len())?;
        let bytes = Base64UrlUnpadded::decode_vec(encoded).map_err(|_| InviteError::Damaged)?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }
}

impl fmt::Display for Invite {
    /// The text to send. **It is the secret.**
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = Zeroizing::new(Base64UrlUnpadded::encode_string(&self.to_bytes()));
        write!(f, "{PREFIX}{}", encoded.as_str())
    }
}

impl fmt::Debug for Invite {
    /// Everything but the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            secret,
            inviter,
            expiry,
            server,
        } = self;
        f.debug_struct("Invite")
            .field("secret", secret)
            .field("inviter", inviter)
            .field("expiry", expiry)
            .field("server", server)
            .finish()
    }
}

fn check_server(url: &str, plain: PlainSignaling) -> Result<(), InviteError> {
    validate_relay_url(url, plain).map_err(|reason| InviteError::BadUrl {
        url: url.to_owned(),
        reason,
    })
}

fn check_length(len: usize) -> Result<(), InviteError> {
    if len > MAX_TEXT {
        return Err(InviteError::TooLong { len, max: MAX_TEXT });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);

    impl Entropy for Fixed {
        fn fill(&mut self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    /// `invite` of tests/vectors/sealwire-1.json.
    const TEXT: &str = "sealwire1:AaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhBSpQdzrI2Rdz8tyWYuEvDe_pFeQVuKHI4gpaPWqyuENw29iAd3M6Ly8xMjcuMC4wLjE6ODA4MA";
    const EXPIRY: u32 = 1_893_456_000;
    const SERVER: &str = "ws://127.0.0.1:8080";

    /// The vectors' inviter.
    fn inviter() -> Identity {
        Identity::from_secret_bytes([0x12; 32])
    }

    fn invite(server: &str, plain: PlainSignaling) -> Result<Invite, InviteError> {
        Invite::expiring_at(&inviter(), server, EXPIRY, plain, &mut Fixed(0xa1))
    }

    fn text_of(bytes: &[u8]) -> String {
        format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(bytes))
    }

    /// The bytes of a good invite up to the URL.
    fn fixed_part() -> Vec<u8> {
        invite(SERVER, PlainSignaling::LoopbackOnly)
            .unwrap()
            .to_bytes()[..FIXED]
            .to_vec()
    }

    /// R-13, R-18, R-20.
    #[test]
    fn the_text_is_the_one_of_the_vectors() {
        assert_eq!(
            invite(SERVER, PlainSignaling::LoopbackOnly)
                .unwrap()
                .to_string(),
            TEXT
        );
        let read: Invite = format!(" {TEXT}\r\n").parse().unwrap();
        assert_eq!(read.secret.expose(), &[0xa1; 32]);
        assert_eq!(
            (read.inviter(), read.server()),
            (inviter().peer_id(), SERVER)
        );
        assert_eq!(read.expires_at(), Some(EXPIRY));
        assert_eq!(read.to_string(), TEXT);
    }

    #[test]
    fn both_sides_derive_the_room_of_the_vectors() {
        let pairing = TEXT.parse::<Invite>().unwrap().pairing();
        assert_eq!(
            pairing.psk_id,
            crate::hex::parse("958bc4d98b9e8ecdbd6a46bde698d706").unwrap()
        );
        let room =
            crate::hex::parse("273e2840321bcdc8d212ba522f135b58ff37ec269f96f2fd280e3b373666d03a");
        assert_eq!(pairing.room, room);
    }

    #[test]
    fn no_part_of_the_secret_appears_in_debug() {
        let shown = format!("{:?}", TEXT.parse::<Invite>().unwrap());
        assert!(
            shown.starts_with("Invite { secret: Secret(..), inviter: PeerId(052a5077)"),
            "{shown}"
        );
        assert!(
            !shown.contains("oaGh") && !shown.contains("a1a1") && !shown.contains("161"),
            "{shown}"
        );
    }

    /// R-31.
    #[test]
    fn expiry_zero_is_never() {
        let invite = Invite::expiring_at(
            &inviter(),
            SERVER,
            0,
            PlainSignaling::LoopbackOnly,
            &mut Fixed(1),
        )
        .unwrap();
        assert_eq!(invite.expires_at(), None);
    }

    /// R-18.
    #[test]
    fn what_is_not_an_invite_is_told_from_what_is_damaged() {
        for text in ["", "hello", "sealwire2:AaGh", "Sealwire1:AaGh", &TEXT[1..]] {
            assert_eq!(
                text.parse::<Invite>().map(drop),
                Err(InviteError::NotAnInvite),
                "{text}"
            );
        }
        let changed = TEXT.replace('_', "/");
        for text in [
            PREFIX,
            "sealwire1:A",
            &format!("{TEXT}="),
            &changed,
            &TEXT.replace("GhoaG", "Gh oaG"),
        ] {
            assert_eq!(
                text.parse::<Invite>().map(drop),
                Err(InviteError::Damaged),
                "{text}"
            );
        }
        for len in 1..FIXED {
            assert_eq!(
                text_of(&fixed_part()[..len]).parse::<Invite>().map(drop),
                Err(InviteError::Damaged)
            );
        }
    }

    /// R-6.
    #[test]
    fn base64_with_bits_behind_the_last_byte_is_refused() {
        let tail = TEXT.chars().next_back().unwrap();
        assert_eq!(tail, 'A', "`0` ends with four unused bits in the vectors");
        for last in ['B', 'C', 'E', 'I'] {
            let text = format!("{}{last}", &TEXT[..TEXT.len() - 1]);
            assert_eq!(
                text.parse::<Invite>().map(drop),
                Err(InviteError::Damaged),
                "{text}"
            );
        }
    }

    /// R-18.
    #[test]
    fn another_version_is_named() {
        for version in [0, 2, 255] {
            let mut bytes = fixed_part();
            bytes[0] = version;
            let error = InviteError::UnsupportedVersion { version };
            assert_eq!(text_of(&bytes).parse::<Invite>().map(drop), Err(error));
        }
    }

    /// R-18.
    #[test]
    fn a_text_of_1024_bytes_is_the_longest() {
        let server = |len: usize| format!("wss://relay.example.org/{}", "a".repeat(len - 24));
        let longest = invite(&server(691), PlainSignaling::LoopbackOnly)
            .unwrap()
            .to_string();
        assert_eq!(longest.len(), MAX_TEXT);
        assert!(longest.parse::<Invite>().is_ok());

        let error = Some(InviteError::TooLong {
            len: 1_025,
            max: MAX_TEXT,
        });
        assert_eq!(
            invite(&server(692), PlainSignaling::LoopbackOnly).err(),
            error
        );
        let forced = text_of(&[&fixed_part(), server(692).as_bytes()].concat());
        assert_eq!(forced.parse::<Invite>().err(), error);
    }

    /// R-19.
    #[test]
    fn plain_signaling_elsewhere_is_a_setting_and_other_addresses_are_refused() {
        let remote = "ws://192.0.2.1:8080";
        let refused = invite(remote, PlainSignaling::LoopbackOnly).unwrap_err();
        assert!(matches!(refused, InviteError::BadUrl { .. }), "{refused}");
        let read: Invite = invite(remote, PlainSignaling::Anywhere)
            .unwrap()
            .to_string()
            .parse()
            .unwrap();
        assert_eq!(read.check_server(PlainSignaling::Anywhere), Ok(()));
        assert_eq!(
            read.check_server(PlainSignaling::LoopbackOnly),
            Err(refused)
        );

        for url in [
            "",
            "http://relay.example.org",
            "wss://user@relay.example.org",
            "wss://relay.example.org/#x",
        ] {
            let text = text_of(&[&fixed_part(), url.as_bytes()].concat());
            assert!(
                matches!(text.parse::<Invite>(), Err(InviteError::BadUrl { .. })),
                "{url}"
            );
        }
        let text = text_of(&[&fixed_part()[..], b"wss://h/\xff"].concat());
        assert_eq!(text.parse::<Invite>().map(drop), Err(InviteError::Damaged));
    }
}
