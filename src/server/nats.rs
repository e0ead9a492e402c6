//! NATS core publish/subscribe as the engine between servers (docs.nats.io, "NATS Protocol"): six verbs over TCP.
//!
//! One connection; when it is lost the server subscribes again. Delivery is at most once, in order for each publisher
//! and subject, which is what a [`Backplane`] promises.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Duration, Instant, timeout, timeout_at},
};
use zeroize::Zeroizing;

use super::{
    backplane::{Backplane, Destination, NodeId, Pending, QUEUE},
    options::ConfigError,
};

/// The longest line: what a server tells of itself and of its cluster.
const MAX_LINE: usize = 64 << 10;

/// The largest payload; the servers' own limit is 1 MiB unless configured.
const MAX_PAYLOAD: usize = 8 << 20;

/// How long one address may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Silence after which the server is pinged, and after another one the connection is lost.
const SILENCE: Duration = Duration::from_secs(10);

/// A NATS server or cluster, without TLS.
///
/// Subjects are `<prefix>.all` and `<prefix>.node.<id>`. Rooms travel as hashes, so whoever subscribes there learns no
/// room id; it sees blobs, which are opaque, and names, and it can disturb. Keep it in a network of its own.
#[derive(Debug)]
pub struct Nats {
    servers: Vec<Address>,
    prefix: String,
    outgoing: Mutex<Option<mpsc::Sender<Bytes>>>,
}

struct Address {
    host: String,
    user: Option<Zeroizing<String>>,
    password: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)
    }
}

/// What comes from a server.
#[derive(Debug, PartialEq, Eq)]
enum Verb {
    Info,
    Message(Bytes),
    Ping,
    Pong,
    Ok,
    Error(String),
}

impl Nats {
    /// The servers at `url`, tried in turn: `nats://[user:password@|token@]host[:port]`, several separated by commas;
    /// and what the subjects begin with: letters, digits, `-`, `_` and `.`. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ConfigError`] says which of them cannot be.
    pub fn new(url: &str, prefix: &str) -> Result<Self, ConfigError> {
        let servers = url.split(',').map(|url| address(url.trim()));
        let servers: Option<Vec<_>> = servers.collect();
        let servers = servers
            .ok_or_else(|| ConfigError::new("nats_url", "nats://[user:password@]host[:port]"))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(is_plain) {
            let reason = "letters, digits, '-', '_' and '.', at most 64";
            return Err(ConfigError::new("nats_prefix", reason));
        }
        Ok(Self {
            servers,
            prefix: prefix.to_owned(),
            outgoing: Mutex::new(None),
        })
    }

    fn subject(&self, to: Destination) -> String {
        match to {
            Destination::All => format!("{}.all", self.prefix),
            Destination::Node(NodeId(id)) => {
                let id = Base64UrlUnpadded::encode_string(&id.to_be_bytes());
                format!("{}.node.{id}", self.prefix)
            }
        }
    }

    async fn open(&self, node: NodeId) -> io::Result<mpsc::Receiver<Bytes>> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for server in &self.servers {
            let connected = timeout(CONNECT, self.connect(server, node)).await;
            match connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
                Ok((reader, writer)) => return Ok(self.start(reader, writer)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects and subscribes; once the server answers the ping behind it, both are in effect.
    async fn connect(
        &self,
        server: &Address,
        node: NodeId,
    ) -> io::Result<(Reader, OwnedWriteHalf)> {
        let stream = TcpStream::connect(&server.host).await?;
        stream.set_nodelay(true)?;
        let (read, mut write) = stream.into_split();
        let mut reader = Reader {
            read,
            bytes: BytesMut::new(),
        };
        while reader.next().await? != Verb::Info {}
        let (all, own) = (Destination::All, Destination::Node(node));
        let hello = format!(
            "CONNECT {}\r\nSUB {} 1\r\nSUB {} 2\r\nPING\r\n",
            server.hello(),
            self.subject(all),
            self.subject(own)
        );
        write.write_all(hello.as_bytes()).await?;
        loop {
            match reader.next().await? {
                Verb::Pong => return Ok((reader, write)),
                Verb::Error(error) => return Err(io::Error::other(error)),
                Verb::Info | Verb::Message(_) | Verb::Ping | Verb::Ok => {}
            }
        }
    }

    fn start(&self, reader: Reader, writer: OwnedWriteHalf) -> mpsc::Receiver<Bytes> {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (inbox, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(write_all(writer, queue));
        tokio::spawn(read_all(reader, inbox, outgoing.downgrade()));
        *self.outgoing.lock().unwrap_or_else(PoisonError::into_inner) = Some(outgoing);
        receiver
    }
}

impl Backplane for Nats {
    fn subscribe(&self, node: NodeId) -> Pending<'_, mpsc::Receiver<Bytes>> {
        Box::pin(self.open(node))
    }

    fn publish(&self, to: Destination, payload: Bytes) -> Pending<'_, ()> {
        let mut frame = BytesMut::with_capacity(payload.len() + 64);
        let head = format!("PUB {} {}\r\n", self.subject(to), payload.len());
        frame.extend_from_slice(head.as_bytes());
        frame.extend_from_slice(&payload);
        frame.extend_from_slice(b"\r\n");
        let outgoing = self.outgoing.lock().unwrap_or_else(PoisonError::into_inner);
        let outgoing = outgoing.clone();
        Box::pin(async move {
            let outgoing = outgoing.ok_or(io::ErrorKind::NotConnected)?;
            let sent = outgoing.send(frame.freeze()).await;
            sent.map_err(|_| io::ErrorKind::NotConnected.into())
        })
    }
}

impl Address {
    fn hello(&self) -> serde_json::Value {
        let mut hello = json!({
            "verbose": false, "pedantic": false, "echo": false, "protocol": 1, "lang": "rust",
            "name": "sealwire-server", "version": env!("CARGO_PKG_VERSION"),
        });
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                hello["user"] = user.as_str().into();
                hello["pass"] = password.as_str().into();
            }
            (Some(token), None) => hello["auth_token"] = token.as_str().into(),
            (None, _) => {}
        }
        hello
    }
}

/// What a server sends, one verb after the other.
struct Reader {
    read: OwnedReadHalf,
    bytes: BytesMut,
}

impl Reader {
    /// Cancel-safe.
    async fn next(&mut self) -> io::Result<Verb> {
        loop {
            if let Some(verb) = parse(&mut self.bytes)? {
                return Ok(verb);
            }
            if self.read.read_buf(&mut self.bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Hands messages on until the connection is lost, which ends the channel.
async fn read_all(
    mut reader: Reader,
    inbox: mpsc::Sender<Bytes>,
    outgoing: mpsc::WeakSender<Bytes>,
) {
    let (mut heard_at, mut is_pinged) = (Instant::now(), false);
    loop {
        let verb = match timeout_at(heard_at + SILENCE, reader.next()).await {
            Ok(Ok(verb)) => verb,
            Ok(Err(_)) => return,
            Err(_) if is_pinged => return,
            Err(_) => {
                (heard_at, is_pinged) = (Instant::now(), true);
                answer(&outgoing, b"PING\r\n");
                continue;
            }
        };
        (heard_at, is_pinged) = (Instant::now(), false);
        match verb {
            // A node that is too far behind loses it, and will notice.
            Verb::Message(payload) => match inbox.try_send(payload) {
                Err(mpsc::error::TrySendError::Closed(_)) => return,
                Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
            },
            Verb::Ping => answer(&outgoing, b"PONG\r\n"),
            Verb::Error(error) => {
                tracing::warn!(%error, "NATS");
                return;
            }
            Verb::Info | Verb::Pong | Verb::Ok => {}
        }
    }
}

fn answer(outgoing: &mpsc::WeakSender<Bytes>, frame: &'static [u8]) {
    if let Some(outgoing) = outgoing.upgrade() {
        let _ = outgoing.try_send(Bytes::from_static(frame));
    }
}

/// Writes what is published, everything that waits in one go.
async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    const AT_ONCE: usize = 64;
    let mut frames = Vec::new();
    while queue.recv_many(&mut frames, AT_ONCE).await > 0 {
        let written = match &frames[..] {
            [one] => writer.write_all(one).await,
            many => writer.write_all(&many.concat()).await,
        };
        if written.is_err() {
            return;
        }
        frames.clear();
    }
}

/// Takes the next verb out of `bytes`, if it is complete.
fn parse(bytes: &mut BytesMut) -> io::Result<Option<Verb>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() > MAX_LINE {
            Err(invalid())
        } else {
            Ok(None)
        };
    };
    let line = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid())?;
    let mut words = line.split_ascii_whitespace();
    let verb = match words.next().unwrap_or_default() {
        "MSG" => {
            let length = words
                .next_back()
                .and_then(|word| word.parse::<usize>().ok());
            let length = length.filter(|length| *length <= MAX_PAYLOAD);
            let length = length.ok_or_else(invalid)?;
            let start = end + 2;
            if bytes.len() < start + length + 2 {
                return Ok(None);
            }
            bytes.advance(start);
            let payload = bytes.split_to(length).freeze();
            bytes.advance(2);
            return Ok(Some(Verb::Message(payload)));
        }
        "INFO" => Verb::Info,
        "PING" => Verb::Ping,
        "PONG" => Verb::Pong,
        "+OK" => Verb::Ok,
        "-ERR" => Verb::Error(line.chars().filter(|char| !char.is_control()).collect()),
        _ => return Err(invalid()),
    };
    bytes.advance(end + 2);
    Ok(Some(verb))
}

fn address(url: &str) -> Option<Address> {
    let rest = url.strip_prefix("nats://")?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return None;
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let (user, password) = match login.map(|login| login.split_once(':').ok_or(login)) {
        None => (None, None),
        Some(Ok((user, password))) => (Some(user), Some(password)),
        Some(Err(token)) => (Some(token), None),
    };
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    Some(Address {
        host: if has_port {
            host.to_owned()
        } else {
            format!("{host}:4222")
        },
        user: user.map(secret),
        password: password.map(secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_read_from_pieces_of_any_size() {
        let stream = b"INFO {\"x\":1}\r\nMSG a.b 1 5\r\nhe\r\no\r\nPING\r\nMSG a 2 reply 0\r\n\r\n+OK\r\n-ERR 'no'\r\nPONG\r\n";
        let expected = [
            Verb::Info,
            Verb::Message(Bytes::from_static(b"he\r\no")),
            Verb::Ping,
            Verb::Message(Bytes::new()),
            Verb::Ok,
            Verb::Error("-ERR 'no'".to_owned()),
            Verb::Pong,
        ];
        for size in [1, 2, 7, 1_000] {
            let (mut bytes, mut seen) = (BytesMut::new(), Vec::new());
            for piece in stream.chunks(size) {
                bytes.extend_from_slice(piece);
                while let Some(verb) = parse(&mut bytes).unwrap() {
                    seen.push(verb);
                }
            }
            assert_eq!(seen, expected);
        }
        for wrong in [
            "HELLO\r\n",
            "MSG a 1 x\r\n",
            "MSG a 1 99999999999\r\n",
            "\r\n",
        ] {
            assert!(parse(&mut BytesMut::from(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_have_a_port_and_perhaps_a_login() {
        for (url, host) in [
            ("nats://a", "a:4222"),
            ("nats://a:1/", "a:1"),
            ("nats://u:p@a:1", "a:1"),
            ("nats://[::1]", "[::1]:4222"),
            ("nats://[::1]:7", "[::1]:7"),
        ] {
            assert_eq!(address(url).unwrap().host, host);
        }
        let hello = |url| address(url).unwrap().hello();
        assert_eq!(hello("nats://u:p@a")["pass"], "p");
        assert_eq!(hello("nats://token@a")["auth_token"], "token");
        assert!(hello("nats://a").get("user").is_none());
        for (url, prefix) in [
            ("http://a", "x"),
            ("nats://", "x"),
            ("nats://a", "x y"),
            ("", "x"),
            ("nats://a", ""),
        ] {
            assert!(Nats::new(url, prefix).is_err(), "{url} {prefix}");
        }
        let shown = format!("{:?}", Nats::new("nats://u:secret@a", "x").unwrap());
        assert!(!shown.contains("secret"));
    }
}
