//! Asks STUN and TURN servers, from sockets of its own, what they would do for a peer connection.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UdpSocket, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use super::{
    stun::{self, Answer, Credentials, Method, TransactionId},
    turn_tcp::{self, Stream},
};
use crate::{
    config::IceServer,
    entropy::{OsEntropy, random},
    ice_url::{IceUrl, IceWay},
};

/// How long a server may take to answer; names, TCP and TLS included.
const ANSWER: Duration = Duration::from_secs(3);

/// When a datagram that was not answered is sent again.
const AGAIN: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// Addresses of a name that are asked.
const MAX_ADDRESSES: usize = 4;

/// The longest datagram that is looked at, in bytes.
const MAX_DATAGRAM: usize = 1_500;

/// What a TURN server did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Relay {
    /// It gave this address, which was given back at once.
    Works(SocketAddr),
    /// It refused with this code.
    Refused(u16),
    /// It did not answer.
    Silent,
    /// What the network, TLS, or the lack of sense in its answer said.
    Failed(String),
}

/// What asking STUN over UDP brought. TURN servers on UDP answer as well.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mapping {
    /// Addresses that were asked.
    pub(crate) asked: usize,
    /// Where each that answered saw the one socket.
    pub(crate) seen: Vec<SocketAddr>,
    /// The socket's own addresses.
    pub(crate) own: Vec<IpAddr>,
}

impl Mapping {
    /// Whether the NAT uses another port, or address, for another destination: nobody can be told where to send to.
    pub(crate) fn is_symmetric(&self) -> bool {
        let family = |is_v4: bool| {
            let seen = self.seen.iter().filter(move |seen| seen.is_ipv4() == is_v4);
            seen.collect::<std::collections::HashSet<_>>().len() > 1
        };
        family(true) || family(false)
    }
}

/// Asks every address of every server for where it sees one and the same socket.
pub(crate) async fn mapping(servers: &[IceUrl]) -> Mapping {
    let mut targets = Vec::new();
    for server in servers.iter().filter(|server| is_udp(server)) {
        targets.extend(resolve(server).await.unwrap_or_default());
    }
    targets.sort_unstable();
    targets.dedup();
    let (v4, v6): (Vec<_>, Vec<_>) = targets.into_iter().partition(SocketAddr::is_ipv4);
    let mut mapping = Mapping::default();
    for (targets, any) in [
        (v4, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        (v6, Ipv6Addr::UNSPECIFIED.into()),
    ] {
        mapping.asked += targets.len();
        if let (false, Ok(socket)) = (targets.is_empty(), UdpSocket::bind((any, 0)).await) {
            mapping.own.extend(own_address(&targets).await);
            mapping.seen.extend(ask_all(&socket, targets).await);
        }
    }
    mapping
}

/// The address that packets to the first of `targets` leave from.
async fn own_address(targets: &[SocketAddr]) -> Option<IpAddr> {
    let target = targets.first()?;
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn is_udp(server: &IceUrl) -> bool {
    matches!(server.way, IceWay::Stun | IceWay::TurnUdp)
}

async fn resolve(server: &IceUrl) -> io::Result<Vec<SocketAddr>> {
    let lookup = lookup_host((server.host.as_str(), server.port));
    Ok(timeout(ANSWER, lookup)
        .await??
        .take(MAX_ADDRESSES)
        .collect())
}

/// Binding requests to all, again to those that do not answer.
async fn ask_all(socket: &UdpSocket, targets: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut open: HashMap<TransactionId, SocketAddr> = targets
        .into_iter()
        .map(|target| (random(&mut OsEntropy), target))
        .collect();
    let mut seen = Vec::new();
    let deadline = Instant::now() + ANSWER;
    for pause in AGAIN {
        for (transaction, target) in &open {
            // A target that cannot be reached is one that does not answer.
            let _ = socket.send_to(&stun::binding(*transaction), target).await;
        }
        let until = deadline.min(Instant::now() + pause);
        while !open.is_empty() {
            let received = timeout_at(until, receive(socket, Method::Binding)).await;
            let Ok(Ok(answer)) = received else { break };
            if open.remove(&answer.transaction).is_some() {
                seen.extend(answer.mapped);
            }
        }
    }
    seen
}

/// The next answer to such a request; anything else that comes is not looked at.
async fn receive(socket: &UdpSocket, method: Method) -> io::Result<Answer> {
    let mut buffer = [0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => {
                if let Some(answer) = stun::answer(method, &buffer[..length]) {
                    return Ok(answer);
                }
            }
            // What ICMP said of an earlier datagram.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error),
        }
    }
}

/// Asks a TURN server for an allocation, and gives it back.
pub(crate) async fn relay(server: &IceServer, url: &IceUrl) -> Relay {
    match timeout(2 * ANSWER, ask_relay(server, url)).await {
        Ok(Ok(relay)) => relay,
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Relay::Silent,
        Ok(Err(error)) => Relay::Failed(error.to_string()),
        Err(_) => Relay::Silent,
    }
}

async fn ask_relay(server: &IceServer, url: &IceUrl) -> io::Result<Relay> {
    let mut wire = Wire::open(server, url).await?;
    let provider = rtc::crypto::default_provider().map_err(io::Error::other)?;
    let first = stun::allocate(random(&mut OsEntropy), None).map_err(io::Error::other)?;
    let mut challenge = wire.ask(Method::Allocate, &first).await?;
    // A nonce that is stale at once gets a second chance.
    for _ in 0..2 {
        if !matches!(challenge.error, Some(401 | 438)) || challenge.realm.is_empty() {
            break;
        }
        let user = (server.username.as_str(), server.credential.as_str());
        let credentials =
            Credentials::new(user, &challenge, &*provider).map_err(io::Error::other)?;
        let request = stun::allocate(random(&mut OsEntropy), Some(&credentials));
        let request = request.map_err(io::Error::other)?;
        let answer = wire.ask(Method::Allocate, &request).await?;
        if answer.error.is_none() {
            let release = stun::release(random(&mut OsEntropy), &credentials);
            // Not given back, it ends with its lifetime.
            let _ = wire.send(&release.map_err(io::Error::other)?).await;
            return Ok(outcome(&answer));
        }
        if answer.error != Some(438) {
            return Ok(outcome(&answer));
        }
        challenge = answer;
    }
    Ok(outcome(&challenge))
}

fn outcome(answer: &Answer) -> Relay {
    match (answer.error, answer.relayed) {
        (Some(code), _) => Relay::Refused(code),
        (None, Some(address)) => Relay::Works(address),
        (None, None) => Relay::Failed("its answer names no address".to_owned()),
    }
}

/// The way to a TURN server.
enum Wire {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>, BytesMut),
}

impl Wire {
    async fn open(server: &IceServer, url: &IceUrl) -> io::Result<Self> {
        if !is_udp(url) {
            let connecting = turn_tcp::connect(url, &server.root_certificates);
            let stream = timeout(ANSWER, connecting).await??;
            return Ok(Self::Stream(stream, BytesMut::new()));
        }
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for target in resolve(url).await? {
            let any: IpAddr = match target {
                SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).await?;
            match socket.connect(target).await {
                Ok(()) => return Ok(Self::Datagrams(socket)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(socket) => socket.send(request).await.map(|_| ()),
            Self::Stream(stream, _) => {
                stream.write_all(request).await?;
                stream.flush().await
            }
        }
    }

    /// The answer to a request, which names it by its transaction.
    async fn ask(&mut self, method: Method, request: &[u8]) -> io::Result<Answer> {
        let is_ours = |answer: &Answer| request.get(8..20) == Some(&answer.transaction[..]);
        let deadline = Instant::now() + ANSWER;
        for pause in AGAIN {
            self.send(request).await?;
            let again = match self {
                Self::Datagrams(_) => deadline.min(Instant::now() + pause),
                Self::Stream(..) => deadline,
            };
            while let Ok(answer) = timeout_at(again, self.next(method)).await {
                let answer = answer?;
                if is_ours(&answer) {
                    return Ok(answer);
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    async fn next(&mut self, method: Method) -> io::Result<Answer> {
        match self {
            Self::Datagrams(socket) => receive(socket, method).await,
            Self::Stream(stream, read) => loop {
                let message = turn_tcp::next(stream, read).await?;
                if let Some(answer) = stun::answer(method, &message) {
                    return Ok(answer);
                }
            },
        }
    }
}
