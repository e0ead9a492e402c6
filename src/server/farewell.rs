//! Why the server ends a connection: every close code, in one table.

use super::websocket::Violation;

/// The reason for the end of a connection, and what the client is told.
///
/// | code | word | meaning |
/// |---|---|---|
/// | 1000 | `left` | the client left its room |
/// | 1000 or the client's | `closed` | the client closed the connection |
/// | 1001 | `going_away` | the server is shutting down |
/// | 1002 | `protocol` | a frame breaks the WebSocket protocol |
/// | 1007 | `not_utf8` | a text is not UTF-8; on a legacy path also what is not JSON |
/// | 1009 | `too_long` | a message is longer than 24 KiB |
/// | 4008 | `messages` | more messages than the token bucket allows |
/// | 4009 | `slow` | the client reads too slowly: its queue is full, or a write took too long |
/// | 4010 | `not_joined` | no room was joined in time |
/// | 4011 | `silent` | no answer to two pings |
/// | 4012 | `bytes` | more bytes than the token bucket allows |
/// | 4013 | `fragments` | a message in too many fragments |
/// | 4014 | `joins` | too many joins from this address |
/// | 4015 | `rooms` | the server has as many rooms as it may |
/// | 4016 | `rooms_per_address` | this address has made as many rooms as it may |
/// | 4017 | `token` | the join token is for another room |
/// | 4018 | `legacy_full` | two members are in that legacy room |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The client left.
    Left,
    /// The client closed the connection, with this code.
    Closed(Option<u16>),
    /// The server stops. The client should come back after so many milliseconds.
    GoingAway(u32),
    /// The client broke the WebSocket protocol.
    Broken(Violation),
    /// What came on a legacy path is no JSON.
    NotJson,
    /// Over the token bucket of messages.
    TooManyMessages,
    /// Over the token bucket of bytes.
    TooManyBytes,
    /// The queue of outgoing frames is full, or the network takes none.
    TooSlow,
    /// No join in time.
    NotJoined,
    /// No sign of life.
    Silent,
    /// Over the token bucket of joins of its address.
    TooManyJoins,
    /// No room for another room.
    TooManyRooms,
    /// No more rooms for its address.
    TooManyRoomsOfAddress,
    /// The token does not allow this room.
    WrongRoom,
    /// A third member of a legacy room.
    LegacyFull,
}

impl Farewell {
    /// The words of all reasons, for the metrics: [`Farewell::place`] is an index into it.
    pub(super) const WORDS: [&'static str; 17] = [
        "left",
        "closed",
        "going_away",
        "protocol",
        "not_utf8",
        "too_long",
        "messages",
        "slow",
        "not_joined",
        "silent",
        "bytes",
        "fragments",
        "joins",
        "rooms",
        "rooms_per_address",
        "token",
        "legacy_full",
    ];

    /// The close code; `None` answers a close frame without one.
    pub(super) fn code(self) -> Option<u16> {
        Some(match self {
            Self::Left => 1000,
            Self::Closed(code) => return code,
            Self::GoingAway(_) => 1001,
            Self::Broken(Violation::Protocol) => 1002,
            Self::Broken(Violation::NotUtf8) | Self::NotJson => 1007,
            Self::Broken(Violation::TooLong) => 1009,
            Self::TooManyMessages => 4008,
            Self::TooSlow => 4009,
            Self::NotJoined => 4010,
            Self::Silent => 4011,
            Self::TooManyBytes => 4012,
            Self::Broken(Violation::TooManyFragments) => 4013,
            Self::TooManyJoins => 4014,
            Self::TooManyRooms => 4015,
            Self::TooManyRoomsOfAddress => 4016,
            Self::WrongRoom => 4017,
            Self::LegacyFull => 4018,
        })
    }

    /// Its place in [`Farewell::WORDS`].
    pub(super) fn place(self) -> usize {
        match self {
            Self::Left => 0,
            Self::Closed(_) => 1,
            Self::GoingAway(_) => 2,
            Self::Broken(Violation::Protocol) => 3,
            Self::Broken(Violation::NotUtf8) | Self::NotJson => 4,
            Self::Broken(Violation::TooLong) => 5,
            Self::TooManyMessages => 6,
            Self::TooSlow => 7,
            Self::NotJoined => 8,
            Self::Silent => 9,
            Self::TooManyBytes => 10,
            Self::Broken(Violation::TooManyFragments) => 11,
            Self::TooManyJoins => 12,
            Self::TooManyRooms => 13,
            Self::TooManyRoomsOfAddress => 14,
            Self::WrongRoom => 15,
            Self::LegacyFull => 16,
        }
    }

    /// The reason in the close frame, at most 123 bytes.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Left | Self::Closed(_) => "",
            Self::GoingAway(after) => {
                return format!("the server is shutting down; reconnect in {after} ms");
            }
            Self::Broken(Violation::TooLong) => "a message was longer than 24576 bytes",
            Self::Broken(Violation::NotUtf8) => "a text was not UTF-8",
            Self::Broken(Violation::Protocol) => "a frame broke the WebSocket protocol",
            Self::Broken(Violation::TooManyFragments) => "a message came in too many fragments",
            Self::NotJson => "a message was not JSON",
            Self::TooManyMessages => "too many messages",
            Self::TooManyBytes => "too many bytes",
            Self::TooSlow => "too slow to read",
            Self::NotJoined => "no room was joined in time",
            Self::Silent => "no answer to two pings",
            Self::TooManyJoins => "too many joins from this address",
            Self::TooManyRooms => "no more rooms",
            Self::TooManyRoomsOfAddress => "no more rooms for this address",
            Self::WrongRoom => "the token is for another room",
            Self::LegacyFull => "two members are in this room",
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_and_has_its_own_place() {
        let all = [
            Farewell::Left,
            Farewell::Closed(Some(4000)),
            Farewell::GoingAway(u32::MAX),
            Farewell::Broken(Violation::Protocol),
            Farewell::Broken(Violation::NotUtf8),
            Farewell::Broken(Violation::TooLong),
            Farewell::TooManyMessages,
            Farewell::TooSlow,
            Farewell::NotJoined,
            Farewell::Silent,
            Farewell::TooManyBytes,
            Farewell::Broken(Violation::TooManyFragments),
            Farewell::TooManyJoins,
            Farewell::TooManyRooms,
            Farewell::TooManyRoomsOfAddress,
            Farewell::WrongRoom,
            Farewell::LegacyFull,
        ];
        for (place, farewell) in all.into_iter().enumerate() {
            assert_eq!(farewell.place(), place);
            assert!(farewell.reason().len() <= 123);
        }
        let codes: std::collections::BTreeSet<_> = all.iter().map(|one| one.code()).collect();
        assert_eq!((codes.len(), Farewell::WORDS.len()), (all.len(), all.len()));
    }
}
