//! Every number that bounds what clients can make the server do, with its default and its reason.

use std::time::Duration;

use super::{quota::Rate, websocket::Bounds};
use crate::signaling::envelope;

/// What the server allows. Start from `ServerLimits::default()`.
///
/// Two sizes are the protocol's and not for choice: a blob of at most 16 384 bytes in a frame of at most 24 KiB.
/// What ends a connection at each limit is in `docs/signaling-server.md`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections in all, those in the handshake included; one beyond it is closed at once. Default 50 000: 50 MB and
    /// as many file descriptors.
    pub connections: usize,
    /// Connections of one address (of one /64 with IPv6). One beyond it is closed at once; behind a proxy, where its
    /// address comes with the request, it is answered HTTP 429. Default 1 000: a school behind one address fits.
    pub connections_per_address: usize,
    /// Connections that have not finished their TLS and HTTP handshake, or wait for the client to read an HTTP answer;
    /// one beyond it is closed at once. Default 4 096: they cost some kilobytes each, 30 KiB with TLS.
    pub handshakes: usize,
    /// Rooms in all. Default 50 000: no more than connections.
    pub rooms: usize,
    /// Rooms that one address made and that still have members. Default 1 000.
    pub rooms_per_address: usize,
    /// Joins a second of one address in the long run. Default 50.
    pub joins_per_second: u32,
    /// Joins of one address at once. Default 1 000: everybody comes back after a restart.
    pub join_burst: u32,
    /// Members of a room, at most 32. Default 32: entries of a `welcome` beyond that are ignored by clients.
    pub members: usize,
    /// Messages a second that a client may send in the long run. Default 32.
    pub messages_per_second: u32,
    /// Messages that a client may send at once. Default 64: a handshake with everybody in a full room, twice.
    pub message_burst: u32,
    /// Bytes a second that a client may send in the long run, everything counted. Default 256 KiB: 15 of the largest
    /// blobs.
    pub bytes_per_second: u32,
    /// Bytes that a client may send at once. Default 1 536 KiB: a message burst of the largest frames.
    pub byte_burst: u32,
    /// Frames that one message may come in. Default 64.
    pub fragments: u32,
    /// Bytes that may wait for one client; from 32 KiB, the largest frame. Default 256 KiB.
    pub queue: usize,
    /// Bytes of the head of an HTTP request, at most 64 headers. Default 8 KiB.
    pub head: usize,
    /// From the TCP connection until the WebSocket is open, TLS included. Default 10 s.
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
    /// Clients of a server that stops are told to come back after a time between 0 and this one, each another. Default
    /// 5 s.
    pub reconnect: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 50_000,
            connections_per_address: 1_000,
            handshakes: 4_096,
            rooms: 50_000,
            rooms_per_address: 1_000,
            joins_per_second: 50,
            join_burst: 1_000,
            members: envelope::MAX_MEMBERS,
            messages_per_second: 32,
            message_burst: 64,
            bytes_per_second: 256 << 10,
            byte_burst: 1_536 << 10,
            fragments: 64,
            queue: 256 << 10,
            head: 8 << 10,
            handshake: Duration::from_secs(10),
            join: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            write: Duration::from_secs(15),
            close: Duration::from_secs(5),
            reconnect: Duration::from_secs(5),
        }
    }
}

impl ServerLimits {
    pub(super) fn message_rate(&self) -> Rate {
        Rate {
            per_second: self.messages_per_second,
            burst: self.message_burst,
        }
    }

    pub(super) fn byte_rate(&self) -> Rate {
        Rate {
            per_second: self.bytes_per_second,
            burst: self.byte_burst,
        }
    }

    pub(super) fn join_rate(&self) -> Rate {
        Rate {
            per_second: self.joins_per_second,
            burst: self.join_burst,
        }
    }

    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            message: envelope::MAX_FRAME,
            fragments: self.fragments,
        }
    }

    /// How often the clocks of all connections are looked at: an eighth of the shortest deadline, so that none is
    /// missed by more, and at most a second.
    pub(super) fn sweep(&self) -> Duration {
        let shortest = [self.join, self.ping, self.write, self.close];
        let shortest = shortest.into_iter().min().unwrap_or_default();
        (shortest / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}
