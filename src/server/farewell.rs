//! Why the server ends a connection: every close code, in one table.

use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The reason for the end of a connection, and what the client is told.
///
/// | code | meaning |
/// |---|---|
/// | 1000 | the client left its room |
/// | 1001 | the server is shutting down |
/// | 1002, 1007, 1009 | a frame breaks the WebSocket protocol, is not UTF-8, is longer than 24 KiB |
/// | 4008 | more messages than the token bucket allows |
/// | 4009 | the client reads too slowly: its queue is full, or a write took too long |
/// | 4010 | no room was joined in time |
/// | 4011 | no answer to two pings |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// The client left.
    Left,
    /// The server stops.
    GoingAway,
    /// The client broke the WebSocket protocol.
    Broken(CloseCode),
    /// Over the token bucket.
    TooManyMessages,
    /// The queue of outgoing frames is full, or the network takes none.
    TooSlow,
    /// No join in time.
    NotJoined,
    /// No sign of life.
    Silent,
}

impl Farewell {
    /// The close code.
    pub(super) fn code(self) -> CloseCode {
        match self {
            Self::Left => CloseCode::Normal,
            Self::GoingAway => CloseCode::Away,
            Self::Broken(code) => code,
            Self::TooManyMessages => CloseCode::Library(4008),
            Self::TooSlow => CloseCode::Library(4009),
            Self::NotJoined => CloseCode::Library(4010),
            Self::Silent => CloseCode::Library(4011),
        }
    }

    /// The reason in the close frame, at most 123 bytes.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Left => "",
            Self::GoingAway => "the server is shutting down",
            Self::Broken(CloseCode::Size) => "a frame was longer than 24576 bytes",
            Self::Broken(CloseCode::Invalid) => "a text frame was not UTF-8",
            Self::Broken(_) => "a frame broke the WebSocket protocol",
            Self::TooManyMessages => "too many messages",
            Self::TooSlow => "too slow to read",
            Self::NotJoined => "no room was joined in time",
            Self::Silent => "no answer to two pings",
        }
    }
}
