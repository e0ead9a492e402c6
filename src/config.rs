//! Every number that decides something, with its default and its reason.

use std::time::Duration;

/// What one side of a session may be told from outside. Start from `Config::default()`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Config {
    /// Sizes and counts: nothing grows past them.
    pub limits: Limits,
    /// How long each wait lasts.
    pub timeouts: Timeouts,
    /// When a session changes its keys.
    pub rekeying: Rekeying,
    /// STUN and TURN servers, tried beside the direct path. Empty by default: only local addresses are found.
    pub ice_servers: Vec<IceServer>,
    /// Whether the signaling server may offer TURN servers. No by default.
    pub server_relays: ServerRelays,
    /// Which addresses may be used and told to the peer.
    pub candidates: CandidatePolicy,
    /// Whether frames are padded so that their lengths tell less.
    pub padding: Padding,
    /// Whether `ws://` may lead elsewhere than to this machine.
    pub plain_signaling: PlainSignaling,
}

/// Whether frames of reliable channels are padded (Padmé: at most 11.6 % longer from 32 bytes on).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Padding {
    /// Lengths are rounded up to a bucket.
    #[default]
    Padme,
    /// Lengths are exact: 25 bytes a frame, and the length of every message is visible on the wire.
    Off,
}

/// Whether TURN servers that the signaling server offers are used, with the credentials that it made for this join. They
/// end after hours, and every join, so every reconnection, brings new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerRelays {
    /// Only [`Config::ice_servers`] are.
    #[default]
    Ignored,
    /// They are used beside them. The signaling server then chooses where this device sends packets, and a relay that it
    /// chose sees when and how much two peers talk, if nothing better connects them; content stays encrypted. For servers
    /// that you run yourself.
    Used,
}

/// Which addresses may be used and told to the peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CandidatePolicy {
    /// Every address found: local, server-reflexive and relayed.
    #[default]
    All,
    /// Only addresses of TURN servers: the peer does not learn where this device is.
    RelayOnly,
}

/// Whether a `ws://` signaling server elsewhere than on this machine is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlainSignaling {
    /// `ws://` leads to loopback only; everywhere else it must be `wss://`.
    #[default]
    LoopbackOnly,
    /// `ws://` may lead anywhere. Messages stay end-to-end encrypted; who talks to whom becomes visible on the path.
    Anywhere,
}

/// A STUN or TURN server.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceServer {
    /// `stun:host:port` (over UDP), `turn:host:port`, `turn:host:port?transport=tcp` or `turns:host:port` (TLS over TCP).
    /// Without a port: 3478, and 5349 for `turns:`.
    pub url: String,
    /// The user name of a TURN server; empty for STUN.
    pub username: String,
    /// The password of a TURN server; empty for STUN.
    pub credential: String,
    /// Certificates (X.509, DER) that `turns:` trusts beside those that Mozilla trusts.
    pub root_certificates: Vec<Vec<u8>>,
}

impl IceServer {
    /// A STUN server, which tells a device its public address.
    pub fn stun(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            username: String::new(),
            credential: String::new(),
            root_certificates: Vec::new(),
        }
    }

    /// A TURN server, which relays (still encrypted) when no direct path exists.
    pub fn turn(
        url: impl Into<String>,
        username: impl Into<String>,
        credential: impl Into<String>,
    ) -> Self {
        Self {
            url: url.into(),
            username: username.into(),
            credential: credential.into(),
            root_certificates: Vec::new(),
        }
    }

    /// Also trusts a `turns:` server whose certificate is `der` (X.509), or was issued by it: for those who run their own
    /// authority.
    #[must_use]
    pub fn with_root_certificate(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.root_certificates.push(der.into());
        self
    }
}

impl std::fmt::Debug for IceServer {
    /// Credentials stay out of logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            url,
            username: _,
            credential: _,
            root_certificates: _,
        } = self;
        f.debug_struct("IceServer")
            .field("url", url)
            .finish_non_exhaustive()
    }
}

/// When a session changes its keys. Whoever reads all of a device's memory at one moment and then only listens can read
/// no further than the next change.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rekeying {
    /// Age of keys under which a message travelled. Default 120 s, as WireGuard has it.
    pub after: Duration,
    /// Frames of one channel in one direction. Default 2^20.
    pub frames: u64,
    /// Bytes of one channel in one direction. Default 1 GiB.
    pub bytes: u64,
}

impl Default for Rekeying {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(120),
            frames: 1 << 20,
            bytes: 1 << 30,
        }
    }
}

/// Sizes and counts: nothing grows past them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The largest frame accepted, in bytes: 1 280 to 65 536. Default 65 536, what every WebRTC stack takes.
    pub max_frame: u32,
    /// The largest message accepted, in bytes: 65 536 to `window` - 64. Default 4 MiB.
    pub max_message: u32,
    /// Unacknowledged bytes (each message costs its length + 64) accepted per channel: from 262 144. Default 8 MiB.
    pub window: u32,
    /// Bytes handed to the transport and not yet sent, above which messages wait (and are batched). Default 256 KiB.
    pub transport_buffer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: 65_536,
            max_message: 4 << 20,
            window: 8 << 20,
            transport_buffer: 256 << 10,
        }
    }
}

/// How long each wait lasts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Timeouts {
    /// From sending a handshake message until the peer's next. Default 10 s.
    pub handshake_step: Duration,
    /// From the first handshake message until the last. Default 30 s.
    pub handshake: Duration,
    /// From the end of the handshake until the peer's READY arrives over the data channel. Default 30 s.
    pub ready: Duration,
    /// How long candidates are gathered before the message that carries the session description. Default 250 ms.
    pub gather: Duration,
    /// How long `connect()` tries to reach the signaling server. Default 10 s.
    pub signaling: Duration,
    /// How long a redeemer waits in the room for the inviter. Default 60 s. An inviter waits without limit.
    pub peer: Duration,
    /// Silence of the network path, on which the stack asks for a sign of life every second, after which the transport
    /// counts as lost: 500 ms to 25 s. Default 6 s, in which a device can change its access point.
    pub path_lost: Duration,
    /// Silence of the peer itself, whatever its stack says, after which a PING is sent. Default 5 s.
    pub ping_after: Duration,
    /// Silence of the peer itself after which the transport counts as lost. Default 15 s.
    pub lost_after: Duration,
    /// How long `close()` waits for outstanding acknowledgements. Default 5 s.
    pub close: Duration,
    /// How long a session without a transport looks for another before it ends. Default 300 s; zero: a lost transport
    /// ends the session.
    pub resume: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake_step: Duration::from_secs(10),
            handshake: Duration::from_secs(30),
            ready: Duration::from_secs(30),
            gather: Duration::from_millis(250),
            signaling: Duration::from_secs(10),
            peer: Duration::from_secs(60),
            path_lost: Duration::from_secs(6),
            ping_after: Duration::from_secs(5),
            lost_after: Duration::from_secs(15),
            close: Duration::from_secs(5),
            resume: Duration::from_secs(300),
        }
    }
}
