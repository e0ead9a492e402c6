//! What each server wants to hear: where a client connects, how it joins, and what a message looks like.
//!
//! Clients are numbered; 2n and 2n + 1 are a pair. A message is [`MESSAGE`] bytes of text on its way to the server,
//! whoever the server is.

use base64ct::{Base64UrlUnpadded, Encoding as _};

/// Bytes of a message as it is sent.
pub const MESSAGE: usize = 300;

/// The language of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Ours.
    Sealwire,
    /// `peers/rooms.mjs`.
    Rooms,
    /// `peers/peerjs.mjs`.
    PeerJs,
    /// `peers/broadcast.mjs`: everybody gets everything.
    Broadcast,
    /// `src/bin/bare-relay.rs`: a room of two, and text as it is.
    Bare,
}

impl Protocol {
    /// The path that client `n` connects to.
    pub fn path(self, n: usize) -> String {
        match self {
            Self::Sealwire => "/v1".to_owned(),
            Self::Rooms => format!("/{}/{n:07}", n / 2),
            Self::PeerJs => format!("/peerjs?key=peerjs&id={n:07}&token=t"),
            Self::Broadcast => "/".to_owned(),
            Self::Bare => format!("/{:07}", n / 2),
        }
    }

    /// What client `n` says first.
    pub fn join(self, n: usize) -> Option<String> {
        let room = Base64UrlUnpadded::encode_string(&bytes::<32>(n / 2));
        (self == Self::Sealwire).then(|| {
            format!(
                r#"{{"type":"join","room":"{room}","ep":"{}"}}"#,
                endpoint(n)
            )
        })
    }

    /// Texts that a pair hears before it may talk.
    pub fn greetings(self) -> usize {
        match self {
            // Two welcomes, and one word of the other that joined.
            Self::Sealwire => 3,
            Self::PeerJs => 2,
            Self::Rooms | Self::Broadcast | Self::Bare => 0,
        }
    }

    /// What client `n` sends to the other one of its pair.
    pub fn message(self, n: usize) -> String {
        let to = n ^ 1;
        let head = match self {
            Self::Sealwire => format!(r#"{{"type":"send","to":"{}","blob":""#, endpoint(to)),
            Self::Rooms => format!(r#"{{"to":"{to:07}","blob":""#),
            Self::PeerJs => format!(r#"{{"type":"OFFER","dst":"{to:07}","payload":""#),
            Self::Broadcast | Self::Bare => format!(r#"{{"type":"offer","to":"{to:07}","sdp":""#),
        };
        // A multiple of four base64 digits is canonical without padding.
        let body = (MESSAGE - head.len() - 2) / 4 * 4;
        format!("{head}{}\"}}", "q".repeat(body))
    }

    /// Whether a text that client `n` receives is what its pair sent.
    pub fn is_for(self, n: usize, text: &[u8]) -> bool {
        match self {
            Self::Sealwire => text.starts_with(br#"{"type":"message""#),
            Self::PeerJs => text.starts_with(br#"{"type":"OFFER""#),
            Self::Rooms | Self::Bare => true,
            Self::Broadcast => {
                let digits = text.get(22..29);
                let to = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                to == Some(n)
            }
        }
    }
}

fn endpoint(n: usize) -> String {
    Base64UrlUnpadded::encode_string(&bytes::<16>(n))
}

/// An id that is spread over its bytes, as real ones are.
fn bytes<const N: usize>(n: usize) -> [u8; N] {
    let mut state = n as u64 + 1;
    std::array::from_fn(|_| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 56) as u8
    })
}
