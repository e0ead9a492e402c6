//! A relay for UDP between two peers that loses, delays and reorders datagrams by a seed, where the kernel has no netem.
//! For tests and benches, included by `#[path]`; it needs nothing but tokio and socket2.
//!
//! ```text
//!  peer Near                  relay                  peer Far
//!     │ ── sends to ──► address(Near) ~ loss, delay ~ ──► │
//!     │ ◄─────────────────────────── address(Far) ◄── sends to ──
//! ```
//!
//! Each peer is told the relay's address for it in place of the other's ([`LossyRelay::stand_in`]), and takes what
//! comes from there for the other's own. What anybody else sends to the relay is dropped.

use std::{
    collections::BinaryHeap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, sleep_until},
};

/// So that the relay itself loses nothing. (Linux grants as much as `net.core.rmem_max` allows.)
const SOCKET_BUFFER: usize = 4 << 20;

/// Datagrams on their way in one direction, above which the queue of a real router would long be full.
const QUEUE: usize = 16_384;

/// One of the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Near,
    Far,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// What happens to datagrams, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// Of a hundred datagrams this many are lost; 100 is a partition.
    pub loss_percent: f64,
    /// One way.
    pub delay: Duration,
    /// Up to this is added to the delay of each datagram, evenly, so that datagrams overtake each other.
    pub jitter: Duration,
}

impl Conditions {
    pub const PERFECT: Self = Self::new(0.0, Duration::ZERO);
    pub const PARTITION: Self = Self::new(100.0, Duration::ZERO);

    pub const fn new(loss_percent: f64, delay: Duration) -> Self {
        Self {
            loss_percent,
            delay,
            jitter: Duration::ZERO,
        }
    }
}

/// A relay between two peers, on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct LossyRelay {
    shared: Arc<Shared>,
    addresses: [SocketAddr; 2],
    /// Dropped, it ends the thread.
    _running: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    conditions: Mutex<Conditions>,
    peers: Mutex<[Option<SocketAddr>; 2]>,
    passed: AtomicU64,
    lost: AtomicU64,
}

impl LossyRelay {
    /// A relay on 127.0.0.1. The same seed loses the same datagrams, counted in each direction.
    pub fn start(seed: u64, conditions: Conditions) -> io::Result<Self> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self::start_on([loopback; 2], seed, conditions)
    }

    /// A relay with one socket for each peer, on these addresses of this machine: for `Near` first.
    pub fn start_on(on: [IpAddr; 2], seed: u64, conditions: Conditions) -> io::Result<Self> {
        let sockets = [bind(on[0])?, bind(on[1])?];
        let addresses = [sockets[0].local_addr()?, sockets[1].local_addr()?];
        let shared = Arc::new(Shared {
            conditions: Mutex::new(conditions),
            peers: Mutex::default(),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let (running, ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let for_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("lossy-relay".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Both ways end with an error only when the machine has no network any more.
                    let _ = run(&for_thread, sockets, seed, ended).await;
                });
            })?;
        Ok(Self {
            shared,
            addresses,
            _running: running,
        })
    }

    /// Where `side` sends what is meant for the other.
    pub fn address(&self, side: Side) -> SocketAddr {
        self.addresses[side as usize]
    }

    /// From now on `side` is here.
    pub fn set_peer(&self, side: Side, address: SocketAddr) {
        lock(&self.shared.peers)[side as usize] = Some(address);
    }

    /// Takes effect for what comes from now on.
    pub fn set_conditions(&self, conditions: Conditions) {
        *lock(&self.shared.conditions) = conditions;
    }

    /// Datagrams relayed and lost until now, both directions together.
    pub fn counts(&self) -> (u64, u64) {
        let Shared { passed, lost, .. } = &*self.shared;
        (passed.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }

    /// Takes note of a host candidate of `side` and makes of it what the other is told. Candidates on any other
    /// address than the relay's own are not told, so that no other path is found.
    pub fn stand_in(&self, side: Side, candidate: &str) -> Option<String> {
        // candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type> ...
        let mut parts: Vec<String> = candidate.split(' ').map(str::to_owned).collect();
        let address = parts.get(4)?.parse::<IpAddr>().ok()?;
        let port = parts.get(5)?.parse::<u16>().ok()?;
        let is_udp = parts.get(2)?.eq_ignore_ascii_case("udp");
        let is_host = parts.get(7)? == "host";
        if !is_udp || !is_host || address != self.address(side).ip() {
            return None;
        }
        self.set_peer(side, SocketAddr::new(address, port));
        let told = self.address(side.other());
        parts[4] = told.ip().to_string();
        parts[5] = told.port().to_string();
        Some(parts.join(" "))
    }
}

fn bind(on: IpAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind((on, 0))?;
    socket.set_nonblocking(true)?;
    let options = SockRef::from(&socket);
    let _ = options.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = options.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket)
}

async fn run(
    shared: &Shared,
    sockets: [std::net::UdpSocket; 2],
    seed: u64,
    mut ended: watch::Receiver<()>,
) -> io::Result<()> {
    let [near, far] = sockets;
    let (near, far) = (UdpSocket::from_std(near)?, UdpSocket::from_std(far)?);
    tokio::select! {
        _ = ended.changed() => Ok(()),
        result = Way::new(shared, Side::Near, &near, &far, seed).carry() => result,
        result = Way::new(shared, Side::Far, &far, &near, seed).carry() => result,
    }
}

/// One direction.
struct Way<'a> {
    shared: &'a Shared,
    from: Side,
    incoming: &'a UdpSocket,
    outgoing: &'a UdpSocket,
    random: SplitMix64,
    queue: BinaryHeap<Queued>,
    next_order: u64,
}

struct Queued {
    due: Instant,
    /// What came first goes first.
    order: u64,
    datagram: Vec<u8>,
}

impl<'a> Way<'a> {
    fn new(
        shared: &'a Shared,
        from: Side,
        incoming: &'a UdpSocket,
        outgoing: &'a UdpSocket,
        seed: u64,
    ) -> Self {
        Self {
            shared,
            from,
            incoming,
            outgoing,
            random: SplitMix64(seed ^ ((from as u64) << 63)),
            queue: BinaryHeap::new(),
            next_order: 0,
        }
    }

    async fn carry(mut self) -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let due = self.queue.peek().map(|queued| queued.due);
            tokio::select! {
                biased;
                () = at(due) => self.send_due().await,
                readable = self.incoming.readable() => {
                    readable?;
                    // A burst at a time, so that what is due does not wait for long.
                    for _ in 0..64 {
                        match self.incoming.try_recv_from(&mut buffer) {
                            Ok((length, source)) => self.take(&buffer[..length], source).await,
                            Err(_) => break,
                        }
                    }
                }
            }
        }
    }

    async fn take(&mut self, datagram: &[u8], source: SocketAddr) {
        if lock(&self.shared.peers)[self.from as usize] != Some(source) {
            return;
        }
        let conditions = *lock(&self.shared.conditions);
        let is_lost = self.random.below(100.0) < conditions.loss_percent;
        if is_lost || self.queue.len() == QUEUE {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let jitter = conditions.jitter.mul_f64(self.random.below(1.0));
        let delay = conditions.delay + jitter;
        if delay.is_zero() && self.queue.is_empty() {
            return self.send(datagram).await;
        }
        self.queue.push(Queued {
            due: Instant::now() + delay,
            order: self.next_order,
            datagram: datagram.to_vec(),
        });
        self.next_order += 1;
    }

    async fn send_due(&mut self) {
        let now = Instant::now();
        while self.queue.peek().is_some_and(|queued| queued.due <= now) {
            if let Some(Queued { datagram, .. }) = self.queue.pop() {
                self.send(&datagram).await;
            }
        }
    }

    async fn send(&self, datagram: &[u8]) {
        let Some(peer) = lock(&self.shared.peers)[self.from.other() as usize] else {
            return;
        };
        // A peer that is gone refuses datagrams, as on any network.
        if self.outgoing.send_to(datagram, peer).await.is_ok() {
            self.shared.passed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    /// What is due first is the greatest, as the heap gives the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.order).cmp(&(self.due, self.order))
    }
}

/// Vigna's SplitMix64: a number for each datagram is all that is needed.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, bound: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // 53 bits are what a double holds.
        (z >> 11) as f64 / (1_u64 << 53) as f64 * bound
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
