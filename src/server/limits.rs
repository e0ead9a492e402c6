//! Every number that bounds what clients can make the server do, with its default and its reason.

use std::time::Duration;

use crate::signaling::envelope;

/// What the server allows. Start from `ServerLimits::default()`.
///
/// Two sizes are the protocol's and not for choice: a blob of at most 16 384 bytes in a frame of at most 24 KiB.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections in all, those in the HTTP handshake included; one beyond it is closed at once. Default 50 000.
    /// Each also costs a file descriptor.
    pub connections: usize,
    /// Members of a room, at most 32. Default 32: entries of a `welcome` beyond that are ignored by clients.
    pub members: usize,
    /// Messages a second that a client may send in the long run. Default 32.
    pub messages_per_second: u32,
    /// Messages that a client may send at once. Default 64: a handshake with everybody in a full room, twice.
    pub message_burst: u32,
    /// Bytes that may wait for one client, frames and 64 bytes for each; from 32 KiB, the largest frame. Default 256 KiB.
    pub queue: usize,
    /// Bytes of the head of an HTTP request, at most 64 headers. Default 8 KiB.
    pub head: usize,
    /// From the TCP connection until the WebSocket is open. Default 10 s.
    pub handshake: Duration,
    /// From the open WebSocket until the client is in a room. Default 10 s.
    pub join: Duration,
    /// Silence after which a client is pinged; after two pings without an answer it is gone. Default 30 s: longer than
    /// the 25 s after which our client pings, shorter than what home routers forget a connection in.
    pub ping: Duration,
    /// How long a client may take to read what was written to it. Default 15 s.
    pub write: Duration,
    /// How long a closing connection may take to close, and the server to stop. Default 5 s.
    pub close: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            members: envelope::MAX_MEMBERS,
            messages_per_second: 32,
            message_burst: 64,
            queue: 256 << 10,
            head: 8 << 10,
            handshake: Duration::from_secs(10),
            join: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            write: Duration::from_secs(15),
            close: Duration::from_secs(5),
        }
    }
}
