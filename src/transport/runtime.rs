//! The threads that this crate owns, and the `webrtc` crate's view of them.
//!
//! Every session lives on one thread: its driver, its peer connection and all tasks of both are on one
//! single-threaded runtime, so a frame passes from the session to the socket without waking another thread.
//! Measured against a multi-threaded runtime: up to 7 times as many small messages.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    num::NonZero,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use ::webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime,
    TokioRuntime, Transmit,
};
use socket2::SockRef;
use tokio::runtime::{Builder, Handle};

use super::{
    clock::{Clock, real_now},
    gate::Gate,
    path::{self, Path},
    turn_tcp::Tunnels,
};

/// More threads than this are not worth their memory: a session is bound by its peer's network long before.
const MAX_THREADS: usize = 8;

/// What is asked of the kernel for each direction of a UDP socket. With the usual 208 KiB a burst of one congestion
/// window overflows the receiver, and SCTP then waits its fixed second before it sends again.
const SOCKET_BUFFER: usize = 4 << 20;

/// The kernel's buffer counts whole packets with its own bookkeeping, and holds more than one burst: outstanding bytes
/// up to an eighth of it were never lost on loopback, at half of it throughput fell to a tenth.
const OUTSTANDING_SHARE: usize = 8;

/// Below this a single frame of 64 KiB would take several round trips.
const MIN_OUTSTANDING: usize = 16 << 10;

/// How long a STUN or TURN name may take to resolve: gathering of everything else waits for it.
const RESOLVE: Duration = Duration::from_secs(2);

/// A change leads to events, these to output, and a timer may be needed in between.
const SKIPS_PER_CHANGE: usize = 4;

/// What was relayed to us is taken in after the driver wrote, so it needs another round.
const SKIPS_PER_PACKET: usize = 2;

/// A sleep of this length waits for the stack's timer for the acknowledgement of a single packet, just started: 200 ms.
/// (Its wait for its driver to stop is 100 ms, and stays.)
const DELAYED_ACK: RangeInclusive<Duration> =
    Duration::from_millis(101)..=Duration::from_millis(200);

/// What that timer is cut to on a path that loses datagrams: there a single packet is often one that was sent again,
/// and nothing else is sent before its acknowledgement.
const QUICK_ACK: Duration = Duration::from_millis(10);

/// Runs `future` on one of the crate's threads, chosen in turn. Tasks that it spawns stay on that thread.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(Pool::new).spawn(future);
}

struct Pool {
    threads: Box<[OnceLock<Option<Handle>>]>,
    next: AtomicUsize,
}

impl Pool {
    fn new() -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let threads = (0..cores.min(MAX_THREADS)).map(|_| OnceLock::new());
        Self {
            threads: threads.collect(),
            next: AtomicUsize::new(0),
        }
    }

    fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len();
        match self.threads[index].get_or_init(|| start_thread(index)) {
            Some(handle) => handle.spawn(future),
            // No thread to be had: the host's runtime is slower, but it is there.
            None => tokio::spawn(future),
        };
    }
}

/// A thread that drives a single-threaded runtime for as long as the process lives.
fn start_thread(index: usize) -> Option<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime
        .inspect_err(|error| tracing::error!(%error, "no runtime"))
        .ok()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name(format!("sealwire-{index}"))
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .inspect_err(|error| tracing::error!(%error, "no thread"))
        .ok()?;
    Some(handle)
}

/// When the `webrtc` driver of one peer connection may sleep.
///
/// Its loop writes, handles events, takes in what a TURN server relayed, and then sleeps until its next timer, up to
/// 200 ms away. What the events and the relayed packets produced waits until then: 600 ms to connect on loopback, and
/// 200 ms for every answer over TURN. Three remedies were measured on loopback:
/// - sleep at most 1 ms while connecting: 9 ms, but a thousand wake-ups per second for as long as no answer comes;
/// - wake the driver from the state callbacks: 200 ms, because DTLS gives out its first flight only when a *timer* is
///   handled;
/// - skip the next sleeps after a change of state, and after a received packet while connecting or relayed: 6 ms, and
///   nothing polls. That is this.
#[derive(Debug)]
pub(super) struct Pace {
    /// Sleeps still to be skipped. One is enough if the driver then takes its timer; it picks at random.
    skips: AtomicUsize,
    is_direct: AtomicBool,
    is_settled: AtomicBool,
    clock: Clock,
    path: Path,
}

impl Pace {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            skips: AtomicUsize::new(0),
            is_direct: AtomicBool::new(false),
            is_settled: AtomicBool::new(false),
            clock: Clock::default(),
            path: Path::new(real_now()),
        })
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Something changed that the driver has not acted on.
    pub(super) fn note_change(&self) {
        self.skips.store(SKIPS_PER_CHANGE, Ordering::Relaxed);
    }

    /// The path is open and no TURN server is in it: from here on received packets are handled within one round.
    pub(super) fn note_direct(&self) {
        self.is_direct.store(true, Ordering::Relaxed);
    }

    /// All channels are open: datagrams may be read in bursts from here on. See [`StackSocket`].
    pub(super) fn note_settled(&self) {
        self.is_settled.store(true, Ordering::Relaxed);
    }

    fn is_settled(&self) -> bool {
        self.is_settled.load(Ordering::Relaxed)
    }

    fn note_packet(&self) {
        if !self.is_direct.load(Ordering::Relaxed) {
            self.skips.fetch_max(SKIPS_PER_PACKET, Ordering::Relaxed);
        }
    }

    fn take_skip(&self) -> bool {
        let one_less = |skips: usize| skips.checked_sub(1);
        self.skips
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

/// The runtime of one peer connection: tokio's, on the current thread, with large socket buffers and short sleeps.
#[derive(Debug)]
pub(super) struct StackRuntime {
    pace: Arc<Pace>,
    tunnels: Arc<Tunnels>,
    is_answerer: bool,
}

impl StackRuntime {
    pub(super) fn new(pace: Arc<Pace>, tunnels: Arc<Tunnels>, is_answerer: bool) -> Self {
        Self {
            pace,
            tunnels,
            is_answerer,
        }
    }
}

/// A socket that tells when something came, and gives one datagram at a time until the channels are open.
///
/// The `webrtc` driver reads datagrams in bursts and handles their events after the burst. The datagram that completes
/// the SCTP handshake and the first message of a peer that was ready before can be in one burst: the message then meets
/// a negotiated channel that is not dialed yet, and is dropped for good (rtc 0.21.1, `handler/datachannel.rs`,
/// `ErrDataChannelNotExisted`). With one datagram at a time the driver handles the events between the two. Where the
/// message comes first, the [`Gate`] keeps it.
///
/// After a gap in what came it is one at a time again for a while: each then gets an acknowledgement of its own, of which
/// SCTP needs three to send the missing one again.
#[derive(Debug)]
struct StackSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    pace: Arc<Pace>,
    /// Whether the next poll ends a burst.
    paused: AtomicBool,
    gate: Mutex<Gate<(Vec<u8>, RecvMeta)>>,
    /// Whether anything may wait in the gate.
    is_gated: AtomicBool,
}

impl StackSocket {
    fn is_gated(&self) -> bool {
        self.is_gated.load(Ordering::Relaxed)
    }

    /// One datagram, from the gate or from the socket.
    fn poll_recv_one(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if self.is_gated() && self.take_waiting(buffers, meta) {
            return Poll::Ready(Ok(1));
        }
        loop {
            let received = self.socket.poll_recv(context, buffers, meta);
            self.note(&received, buffers, meta);
            let is_kept = matches!(received, Poll::Ready(Ok(1..)))
                && self.is_gated()
                && self.keeps(&buffers[0], &meta[0]);
            if !is_kept {
                return received;
            }
        }
    }

    /// Whether a datagram has waited that may go on now.
    fn take_waiting(&self, buffers: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> bool {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let is_settled = self.pace.is_settled();
        if is_settled {
            gate.open();
        }
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else {
            return false;
        };
        let Some((datagram, of)) = gate.next() else {
            self.is_gated.store(!is_settled, Ordering::Relaxed);
            return false;
        };
        // It came from a buffer of this size.
        let length = datagram.len().min(buffer.len());
        buffer[..length].copy_from_slice(&datagram[..length]);
        *meta = of;
        true
    }

    /// Whether the gate keeps what was received.
    fn keeps(&self, buffer: &[u8], meta: &RecvMeta) -> bool {
        let datagram = buffer.get(..meta.len).unwrap_or_default();
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = real_now();
        let is_kept = path::records(datagram).is_some_and(|records| !gate.passes(now, records));
        if is_kept {
            gate.keep(now, (datagram.to_vec(), *meta));
        }
        is_kept
    }

    fn note(
        &self,
        received: &Poll<io::Result<usize>>,
        buffers: &[IoSliceMut<'_>],
        meta: &[RecvMeta],
    ) {
        let Poll::Ready(Ok(count)) = received else {
            return;
        };
        self.pace.note_packet();
        let now = real_now();
        for (buffer, meta) in buffers.iter().zip(meta).take(*count) {
            let filled = buffer.get(..meta.len).unwrap_or_default();
            for datagram in filled.chunks(meta.stride.max(1)) {
                self.pace.path.note_received(now, datagram);
            }
        }
    }
}

impl AsyncUdpSocket for StackSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        transmit: &Transmit<'_>,
    ) -> Poll<io::Result<usize>> {
        let sent = self.socket.poll_send(context, transmit);
        if matches!(sent, Poll::Ready(Ok(_))) {
            let is_doubled = self.pace.path.note_sent(real_now(), transmit.contents);
            if is_doubled {
                let _ = self.socket.poll_send(context, transmit);
            }
        }
        sent
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let takes_bursts = self.pace.is_settled() && !self.is_gated();
        if takes_bursts && !self.pace.path.is_after_gap() {
            let received = self.socket.poll_recv(context, buffers, meta);
            self.note(&received, buffers, meta);
            return received;
        }
        if self.paused.swap(false, Ordering::Relaxed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let one = buffers.len().min(1);
        let received = self.poll_recv_one(context, &mut buffers[..one], &mut meta[..one]);
        if received.is_ready() {
            self.paused.store(true, Ordering::Relaxed);
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

/// The stack leaves the brackets of IPv6 addresses of TURN servers away.
fn bracketed(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => {
            format!("[{address}]:{port}")
        }
        _ => host.to_owned(),
    }
}

/// The unacknowledged bytes per channel that this machine's socket buffers can take, at most `wanted`.
pub(super) fn outstanding_limit(wanted: usize) -> usize {
    static GRANTED: OnceLock<usize> = OnceLock::new();
    let granted = *GRANTED.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:0");
        socket.map_or(0, |socket| enlarge_buffers(&socket))
    });
    share_of(granted, wanted)
}

fn share_of(granted: usize, wanted: usize) -> usize {
    wanted.min(granted / OUTSTANDING_SHARE).max(MIN_OUTSTANDING)
}

/// Asks for [`SOCKET_BUFFER`], or for as much less as the kernel refuses it, and tells what the receiver got. (Linux
/// grants what `net.core.rmem_max` allows without an error, and reports twice the number.)
fn enlarge_buffers(socket: &UdpSocket) -> usize {
    let socket = SockRef::from(socket);
    let sizes = || std::iter::successors(Some(SOCKET_BUFFER), |size| Some(size / 2)).take(5);
    let _ = sizes().find(|&size| socket.set_send_buffer_size(size).is_ok());
    let _ = sizes().find(|&size| socket.set_recv_buffer_size(size).is_ok());
    socket.recv_buffer_size().unwrap_or_default()
}

impl Runtime for StackRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        enlarge_buffers(&socket);
        let socket = self.tunnels.attach(TokioRuntime.wrap_udp_socket(socket)?);
        Ok(Arc::new(StackSocket {
            socket,
            pace: Arc::clone(&self.pace),
            paused: AtomicBool::new(false),
            gate: Mutex::new(Gate::new()),
            is_gated: AtomicBool::new(self.is_answerer),
        }))
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        Box::pin(async move {
            let lookup = tokio::net::lookup_host(bracketed(host));
            let addresses = tokio::time::timeout(RESOLVE, lookup).await;
            Ok(addresses.map_err(io::Error::from)??.collect())
        })
    }

    fn now(&self) -> Instant {
        self.pace.clock.now()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        if self.pace.take_skip() {
            return Box::pin(std::future::ready(()));
        }
        if DELAYED_ACK.contains(&duration) && self.pace.path.owes_soon(real_now()) {
            let pace = Arc::clone(&self.pace);
            return Box::pin(async move {
                tokio::time::sleep(QUICK_ACK).await;
                pace.path.note_answering();
                pace.clock.leap(duration - QUICK_ACK);
            });
        }
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "sealwire"
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_spawned_task_and_those_that_it_spawns_share_a_thread_of_the_crate() {
        let (outer_tx, outer_rx) = oneshot::channel();
        let (inner_tx, inner_rx) = oneshot::channel();
        spawn(async move {
            tokio::spawn(async move { inner_tx.send(thread::current().id()).unwrap() });
            let current = thread::current();
            outer_tx
                .send((current.id(), current.name().map(str::to_owned)))
                .unwrap();
        });
        let (outer, name) = outer_rx.await.unwrap();
        assert_eq!(inner_rx.await.unwrap(), outer);
        assert!(name.unwrap().starts_with("sealwire-"));
    }

    #[test]
    fn ipv6_addresses_get_their_brackets_back() {
        assert_eq!(bracketed("2001:db8::1:3478"), "[2001:db8::1]:3478");
        for host in ["[2001:db8::1]:3478", "192.0.2.1:3478", "example.org:3478"] {
            assert_eq!(bracketed(host), host);
        }
    }

    #[test]
    fn small_socket_buffers_lower_the_outstanding_bytes_below_64_kib() {
        let stock_linux = 2 * 212_992;
        assert!(share_of(stock_linux, 256 << 10) <= 64 << 10);
        assert_eq!(share_of(2 * SOCKET_BUFFER, 256 << 10), 256 << 10);
        assert_eq!(share_of(0, 256 << 10), MIN_OUTSTANDING);
    }

    #[test]
    fn a_change_skips_a_few_sleeps_and_a_packet_fewer_until_the_path_is_direct() {
        let pace = Pace::new();
        let skips = || {
            std::iter::from_fn(|| pace.take_skip().then_some(()))
                .take(100)
                .count()
        };
        assert_eq!(skips(), 0);
        pace.note_change();
        pace.note_packet();
        assert_eq!(skips(), SKIPS_PER_CHANGE);
        pace.note_packet();
        assert_eq!(skips(), SKIPS_PER_PACKET);
        pace.note_direct();
        pace.note_packet();
        assert_eq!(skips(), 0);
    }
}
