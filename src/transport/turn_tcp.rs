//! TURN over TCP and TLS for a stack that speaks TURN over UDP only.
//!
//! The stack is given an address that no network has, as if a TURN server were there on UDP. Datagrams to it are
//! carried over a stream to the real server instead, and what the server answers seems to come from it:
//! ```text
//!  stack ── datagram to 240.0.0.1:n ──> TunnelSocket ══ TCP or TLS ══> TURN server ── UDP ──> peer
//!        ── every other datagram ─────> UDP socket
//! ```
//! The allocation itself is for UDP, as with browsers: the peer needs nothing of this.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use ::webrtc::runtime::{AsyncUdpSocket, RecvMeta, Transmit};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::TcpStream,
    sync::{Notify, mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};

use super::turn_frame;
use crate::ice_url::{IceUrl, IceWay};

/// Of the class that was never given out: no packet leads here, and no candidate of a peer may name it
/// (`candidate.rs`).
const TUNNEL: Ipv4Addr = Ipv4Addr::new(240, 0, 0, 1);

/// How long the name, TCP and TLS of a server may take together.
const CONNECT: Duration = Duration::from_secs(10);

/// How long the last messages may take to be written once the link is gone: they give the allocation back.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that wait in each direction. Outgoing ones beyond are lost, as they would be with UDP, and incoming ones wait
/// at the server.
const QUEUE: usize = 1 << 20;

/// What a datagram costs in such a queue beside its length.
const DATAGRAM_COST: usize = 64;

/// Bytes written at once.
const BATCH: usize = 64 << 10;

/// What runs to the server.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// The servers of one link that are reached over streams.
#[derive(Debug, Default)]
pub(super) struct Tunnels {
    all: Vec<Tunnel>,
}

#[derive(Debug)]
struct Tunnel {
    /// Where the stack believes the server to be.
    address: SocketAddr,
    server: IceUrl,
    roots: Vec<Vec<u8>>,
    /// One socket of the link is enough: each would make an allocation of its own.
    claimed: AtomicBool,
}

impl Tunnels {
    /// Adds a server, and tells under which address the stack knows it.
    pub(super) fn add(&mut self, server: IceUrl, roots: Vec<Vec<u8>>) -> SocketAddr {
        let port = u16::try_from(self.all.len() + 1).unwrap_or(u16::MAX);
        let address = SocketAddr::from((TUNNEL, port));
        self.all.push(Tunnel {
            address,
            server,
            roots,
            claimed: AtomicBool::new(false),
        });
        address
    }

    /// A socket of the stack that also reaches these servers.
    pub(super) fn attach(
        self: &Arc<Self>,
        socket: Arc<dyn AsyncUdpSocket>,
    ) -> Arc<dyn AsyncUdpSocket> {
        if self.all.is_empty() {
            return socket;
        }
        Arc::new(TunnelSocket {
            socket,
            tunnels: Arc::clone(self),
            open: Mutex::new(Vec::new()),
            inbox: Arc::new(Inbox::default()),
            inbox_first: AtomicBool::new(false),
        })
    }

    fn at(&self, address: SocketAddr) -> Option<&Tunnel> {
        self.all.iter().find(|tunnel| tunnel.address == address)
    }
}

#[derive(Debug)]
struct TunnelSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    tunnels: Arc<Tunnels>,
    /// The tunnels that this socket uses.
    open: Mutex<Vec<Open>>,
    inbox: Arc<Inbox>,
    /// Neither source can starve the other.
    inbox_first: AtomicBool,
}

/// This end of a tunnel. Dropped, the other end writes what is left and ends.
#[derive(Debug)]
struct Open {
    address: SocketAddr,
    datagrams: mpsc::UnboundedSender<Vec<u8>>,
    queued: Arc<AtomicUsize>,
    _alive: oneshot::Sender<()>,
}

/// What came over tunnels and was not read.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    drained: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<(SocketAddr, Bytes)>,
    bytes: usize,
    reader: Option<Waker>,
}

/// The state behind a lock is valid whatever the holder was doing when it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl AsyncUdpSocket for TunnelSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(tunnel) = self.tunnels.at(transmit.destination) else {
            return self.socket.poll_send(context, transmit);
        };
        let length = transmit.contents.len();
        let size = transmit.segment_size.unwrap_or(length).max(1);
        for datagram in transmit.contents.chunks(size) {
            self.send(tunnel, datagram)?;
        }
        Poll::Ready(Ok(length))
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.inbox_first.fetch_xor(true, Ordering::Relaxed) {
            if self.inbox.poll(context, buffers, meta).is_ready() {
                return Poll::Ready(Ok(1));
            }
            return self.socket.poll_recv(context, buffers, meta);
        }
        let received = self.socket.poll_recv(context, buffers, meta);
        if received.is_pending() && self.inbox.poll(context, buffers, meta).is_ready() {
            return Poll::Ready(Ok(1));
        }
        received
    }

    fn max_gso_segments(&self) -> usize {
        self.socket.max_gso_segments()
    }

    fn max_gro_segments(&self) -> usize {
        self.socket.max_gro_segments()
    }
}

impl TunnelSocket {
    /// Sends by the tunnel, which the first socket that asks for it opens. To the others it is not there.
    fn send(&self, tunnel: &Tunnel, datagram: &[u8]) -> io::Result<()> {
        let mut open = lock(&self.open);
        let known = open.iter().position(|open| open.address == tunnel.address);
        let at = match known {
            Some(at) => at,
            None if tunnel.claimed.swap(true, Ordering::Relaxed) => {
                return Err(io::ErrorKind::AddrNotAvailable.into());
            }
            None => {
                open.push(start(tunnel, &self.inbox));
                open.len() - 1
            }
        };
        open[at].send(datagram)
    }
}

impl Open {
    fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let cost = cost(datagram);
        if self.queued.load(Ordering::Relaxed) + cost > QUEUE {
            return Ok(());
        }
        self.queued.fetch_add(cost, Ordering::Relaxed);
        let sent = self.datagrams.send(datagram.to_vec());
        sent.map_err(|_| io::ErrorKind::ConnectionReset.into())
    }
}

impl Inbox {
    /// One datagram into the first buffer. Those that do not fit are lost, as they would be with UDP.
    fn poll(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<()> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else {
            return Poll::Pending;
        };
        let mut waiting = lock(&self.waiting);
        while let Some((addr, datagram)) = waiting.datagrams.pop_front() {
            waiting.bytes -= cost(&datagram);
            if waiting.bytes < QUEUE / 2 {
                self.drained.notify_one();
            }
            if let Some(room) = buffer.get_mut(..datagram.len()) {
                room.copy_from_slice(&datagram);
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (addr, datagram.len(), datagram.len());
                return Poll::Ready(());
            }
        }
        waiting.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Waits while too much is unread.
    async fn push(&self, from: SocketAddr, datagram: Bytes) {
        while lock(&self.waiting).bytes >= QUEUE {
            self.drained.notified().await;
        }
        let mut waiting = lock(&self.waiting);
        waiting.bytes += cost(&datagram);
        waiting.datagrams.push_back((from, datagram));
        let reader = waiting.reader.take();
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

fn cost(datagram: &[u8]) -> usize {
    datagram.len() + DATAGRAM_COST
}

/// Starts the task behind a tunnel.
fn start(tunnel: &Tunnel, inbox: &Arc<Inbox>) -> Open {
    let (datagrams, outgoing) = mpsc::unbounded_channel();
    let (alive, gone) = oneshot::channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let (server, roots) = (tunnel.server.clone(), tunnel.roots.clone());
    let (inbox, address) = (Arc::clone(inbox), tunnel.address);
    let outbox = Outbox {
        datagrams: outgoing,
        queued: Arc::clone(&queued),
    };
    tokio::spawn(async move {
        let carried = async {
            let stream = timeout(CONNECT, connect(&server, &roots)).await??;
            carry(stream, address, outbox, &inbox).await
        };
        let ended = tokio::select! {
            ended = carried => ended,
            () = async { let _ = gone.await; sleep(LINGER).await } => Ok(()),
        };
        if let Err(error) = ended {
            // Without an address: which server it was stands in the configuration.
            tracing::debug!(%error, "the stream to a TURN server ended");
        }
    });
    Open {
        address,
        datagrams,
        queued,
        _alive: alive,
    }
}

struct Outbox {
    datagrams: mpsc::UnboundedReceiver<Vec<u8>>,
    queued: Arc<AtomicUsize>,
}

/// A stream to a TURN server.
///
/// # Errors
/// What the network or TLS said.
pub(super) async fn connect(server: &IceUrl, roots: &[Vec<u8>]) -> io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect((server.host.as_str(), server.port)).await?;
    tcp.set_nodelay(true)?;
    match server.way {
        IceWay::TurnTls => {
            let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
            let connector = TlsConnector::from(Arc::new(tls(roots)?));
            Ok(Box::new(connector.connect(name, tcp).await?))
        }
        IceWay::Stun | IceWay::TurnUdp | IceWay::TurnTcp => Ok(Box::new(tcp)),
    }
}

/// Trusts whom Mozilla trusts, and `roots`.
fn tls(roots: &[Vec<u8>]) -> io::Result<ClientConfig> {
    let mut store = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for root in roots {
        let added = store.add(CertificateDer::from(root.clone()));
        added.map_err(io::Error::other)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(store).with_no_client_auth())
}

/// Carries both ways until the server closes, sends garbage, or the socket of the stack is gone.
async fn carry(
    stream: Box<dyn Stream>,
    address: SocketAddr,
    outbox: Outbox,
    inbox: &Inbox,
) -> io::Result<()> {
    let (reader, writer) = tokio::io::split(stream);
    tokio::select! {
        ended = read(reader, address, inbox) => ended,
        ended = write(writer, outbox) => ended,
    }
}

async fn read(
    mut reader: ReadHalf<Box<dyn Stream>>,
    address: SocketAddr,
    inbox: &Inbox,
) -> io::Result<()> {
    let mut stream = BytesMut::new();
    loop {
        let datagram = next(&mut reader, &mut stream).await?;
        inbox.push(address, datagram).await;
    }
}

/// The next message of a stream. What was read beyond it stays in `stream`, which never holds more than one message and
/// one read.
pub(super) async fn next(
    reader: &mut (impl AsyncRead + Unpin),
    stream: &mut BytesMut,
) -> io::Result<Bytes> {
    loop {
        let garbage = |_| io::Error::new(io::ErrorKind::InvalidData, "it does not speak TURN");
        if let Some(piece) = turn_frame::first(stream).map_err(garbage)? {
            let mut message = stream.split_to(piece.padded);
            message.truncate(piece.length);
            return Ok(message.freeze());
        }
        stream.reserve(READ);
        if reader.read_buf(stream).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Room for one read, in bytes.
const READ: usize = 16 << 10;

async fn write(mut writer: WriteHalf<Box<dyn Stream>>, mut outbox: Outbox) -> io::Result<()> {
    let mut batch = Vec::new();
    while let Some(datagram) = outbox.datagrams.recv().await {
        batch.clear();
        let mut next = Some(datagram);
        while let Some(datagram) = next {
            outbox.queued.fetch_sub(cost(&datagram), Ordering::Relaxed);
            batch.extend_from_slice(&datagram);
            batch.extend_from_slice(turn_frame::padding(datagram.len()));
            if batch.len() >= BATCH {
                break;
            }
            next = outbox.datagrams.try_recv().ok();
        }
        writer.write_all(&batch).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use ::webrtc::runtime::{Runtime as _, TokioRuntime};
    use tokio::net::TcpListener;

    use super::{super::candidate::is_usable, *};

    const BINDING: [u8; 20] = [
        0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
    ];

    async fn tunnelled() -> (TcpListener, [Arc<dyn AsyncUdpSocket>; 2], SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("turn:{}?transport=tcp", listener.local_addr().unwrap());
        let mut tunnels = Tunnels::default();
        let address = tunnels.add(IceUrl::parse(&url).unwrap(), Vec::new());
        let tunnels = Arc::new(tunnels);
        let socket = || {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            tunnels.attach(TokioRuntime.wrap_udp_socket(socket).unwrap())
        };
        (listener, [socket(), socket()], address)
    }

    async fn send(socket: &dyn AsyncUdpSocket, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: None,
            contents: datagram,
            segment_size: None,
            src_ip: None,
        };
        poll_fn(|context| socket.poll_send(context, &transmit))
            .await
            .map(|_| ())
    }

    async fn receive(socket: &dyn AsyncUdpSocket) -> (SocketAddr, Vec<u8>) {
        let mut buffer = vec![0; 2_000];
        let mut meta = [RecvMeta::default()];
        let received = poll_fn(|context| {
            let mut buffers = [IoSliceMut::new(&mut buffer)];
            socket.poll_recv(context, &mut buffers, &mut meta)
        });
        assert_eq!(received.await.unwrap(), 1);
        buffer.truncate(meta[0].len);
        (meta[0].addr, buffer)
    }

    #[tokio::test]
    async fn datagrams_to_the_tunnel_travel_by_the_stream_and_all_others_by_udp() {
        let (listener, [socket, other], address) = tunnelled().await;
        let channel_data = [0x40, 0, 0, 5, 1, 2, 3, 4, 5];
        send(&*socket, address, &BINDING).await.unwrap();
        send(&*socket, address, &channel_data).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut came = [0; 20 + 12];
        server.read_exact(&mut came).await.unwrap();
        assert_eq!(came[..20], BINDING);
        assert_eq!(came[20..], [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0]);

        // In pieces, with one too long for the stack between.
        let mut answer = BINDING.to_vec();
        answer.extend([0x40, 0, 0x10, 0]);
        answer.resize(answer.len() + 0x1000, 0);
        answer.extend(came[20..].iter());
        for piece in answer.chunks(7) {
            server.write_all(piece).await.unwrap();
        }
        assert_eq!(receive(&*socket).await, (address, BINDING.to_vec()));
        assert_eq!(receive(&*socket).await, (address, channel_data.to_vec()));

        let to = socket.local_addr().unwrap();
        send(&*other, to, b"by udp").await.unwrap();
        let from = other.local_addr().unwrap();
        assert_eq!(receive(&*socket).await, (from, b"by udp".to_vec()));
    }

    #[tokio::test]
    async fn one_socket_has_the_tunnel_and_what_it_sent_last_is_written_after_its_end() {
        let (listener, [socket, other], address) = tunnelled().await;
        send(&*socket, address, &BINDING).await.unwrap();
        let refused = send(&*other, address, &BINDING).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrNotAvailable);
        let (mut server, _) = listener.accept().await.unwrap();
        send(&*socket, address, &BINDING).await.unwrap();
        drop(socket);
        let mut came = Vec::new();
        server.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), 2 * BINDING.len());
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_turn_is_left() {
        let (listener, [socket, _], address) = tunnelled().await;
        send(&*socket, address, &BINDING).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.write_all(&[0xff; 32]).await.unwrap();
        let mut rest = Vec::new();
        // It may be reset, with the request unread.
        let _ = server.read_to_end(&mut rest).await;
        let refused = loop {
            match send(&*socket, address, &BINDING).await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn nothing_grows_when_the_server_does_not_read() {
        let (_listener, [socket, _], address) = tunnelled().await;
        let datagram = [0x40; 1_200];
        for _ in 0..4 * QUEUE / datagram.len() {
            send(&*socket, address, &datagram).await.unwrap();
        }
        let mut tunnels = Tunnels::default();
        let url = IceUrl::parse("turn:127.0.0.1:9?transport=tcp").unwrap();
        let host = tunnels.add(url, Vec::new()).ip();
        let candidate = format!("candidate:1 1 udp 1 {host} 1 typ host");
        assert!(!is_usable(&candidate));
        let open = start(&tunnels.all[0], &Arc::new(Inbox::default()));
        for _ in 0..4 * QUEUE / datagram.len() {
            open.send(&datagram).unwrap();
        }
        assert!(open.queued.load(Ordering::Relaxed) <= QUEUE);
    }
}
