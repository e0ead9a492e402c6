//! How both sides name the same message without sending the name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hex;

/// The name of one message, the same on both sides, unique among a device's sessions. Shown as 32 hexadecimal digits.
///
/// ```text
///  0                     8           9         10             16
///  | start of session id | direction | channel | number (u48) |
/// ```
/// It never travels: both sides compute it. The number counts the messages of one channel and direction from 0, so ids
/// of one channel and direction are ordered as they were sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId([u8; 16]);

/// Which end of the session sent a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageDirection {
    /// The initiator of the session's first handshake.
    FromInitiator,
    /// The responder of the session's first handshake.
    FromResponder,
}

/// The text is not a [`MessageId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message id has 32 hexadecimal digits, the 17th and 18th being 00 or 01")]
pub struct InvalidMessageId;

impl MessageId {
    /// The id of message `number` (below 2^48) of a channel and direction.
    #[cfg_attr(
        not(feature = "session"),
        allow(dead_code, reason = "only sessions name messages")
    )]
    pub(crate) fn new(
        session_id: &[u8; 16],
        direction: MessageDirection,
        channel: u8,
        number: u64,
    ) -> Self {
        debug_assert!(number < 1 << 48, "message numbers are u48");
        let mut id = [0; 16];
        id[..8].copy_from_slice(&session_id[..8]);
        id[8] = match direction {
            MessageDirection::FromInitiator => 0,
            MessageDirection::FromResponder => 1,
        };
        id[9] = channel;
        id[10..].copy_from_slice(&number.to_be_bytes()[2..]);
        Self(id)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first eight bytes of the session's id.
    #[must_use]
    pub fn session(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// Which end sent it.
    #[must_use]
    pub const fn direction(&self) -> MessageDirection {
        match self.0[8] {
            0 => MessageDirection::FromInitiator,
            _ => MessageDirection::FromResponder,
        }
    }

    /// The channel it travelled on, 1 to 15.
    #[must_use]
    pub const fn channel(&self) -> u8 {
        self.0[9]
    }

    /// How many messages its sender had sent before on that channel.
    #[must_use]
    pub const fn number(&self) -> u64 {
        let [.., a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for MessageId {
    /// All 32 digits, lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, &self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

impl FromStr for MessageId {
    type Err = InvalidMessageId;

    /// Reads 32 digits of either case.
    ///
    /// # Errors
    /// [`InvalidMessageId`] for anything else, and where the direction is neither 0 nor 1.
    fn from_str(text: &str) -> Result<Self, InvalidMessageId> {
        let bytes: [u8; 16] = hex::parse(text).ok_or(InvalidMessageId)?;
        if bytes[8] > 1 {
            return Err(InvalidMessageId);
        }
        Ok(Self(bytes))
    }
}

impl Serialize for MessageId {
    /// As its 32 digits.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    /// From 32 digits.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = (1 << 48) - 1;

    #[test]
    fn an_id_names_session_direction_channel_and_number() {
        let session = std::array::from_fn(|at| at as u8);
        for direction in [
            MessageDirection::FromInitiator,
            MessageDirection::FromResponder,
        ] {
            for number in [0, 1, 0x0102_0304_0506, LAST] {
                let id = MessageId::new(&session, direction, 15, number);
                assert_eq!(id.session(), session[..8]);
                assert_eq!(
                    (id.direction(), id.channel(), id.number()),
                    (direction, 15, number)
                );
            }
        }
    }

    #[test]
    fn an_id_survives_text_and_serde() {
        let id = MessageId::new(&[0xab; 16], MessageDirection::FromResponder, 1, 7);
        assert_eq!(id.to_string(), "abababababababab0101000000000007");
        assert_eq!(id.to_string().parse(), Ok(id));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<MessageId>(&json).unwrap(), id);
    }

    #[test]
    fn other_texts_are_no_id() {
        for text in [
            "",
            "abababababababab010100000000000",
            "abababababababab0201000000000007",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(InvalidMessageId), "{text}");
        }
    }

    #[test]
    fn later_messages_of_a_channel_have_greater_ids() {
        let id = |number| MessageId::new(&[1; 16], MessageDirection::FromInitiator, 1, number);
        assert!(id(0) < id(1) && id(255) < id(256) && id(256) < id(LAST));
    }
}
