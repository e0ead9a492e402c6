//! Two peers for half an hour on a network that does everything networks do: transports cut on either side, partitions,
//! loss, delay, a signaling server that restarts. Traffic flows both ways on four channels all the time.
//!
//! ```sh
//! cargo test --all-features --test net -- --ignored --nocapture soak
//! SEALWIRE_SOAK_SECONDS=600 SEALWIRE_SOAK_SEED=7 cargo test --all-features --test net -- --ignored --nocapture soak
//! ```

use std::{
    cell::Cell, collections::HashSet, net::SocketAddr, str::FromStr, sync::Arc, time::Duration,
};

use sealwire::{
    Config, Identity, Invite,
    protocol::Event,
    server::Server,
    session::{Builder, ChannelKind, Session},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    lossy_relay::{Conditions, LossyRelay, Side},
    lossy_transport::LossyTransport,
};

const SECONDS: u64 = 1_800;
const SEED: u64 = 1;

/// How long everything may take to arrive once the network is well again, and to close.
const SETTLE: Duration = Duration::from_secs(120);
/// Between two bursts of one sender: the peers have a machine to share.
const PAUSE: Duration = Duration::from_millis(40);
const BURST: u32 = 20;
/// Numbers of the lossy channel that are remembered, to see whether one comes twice.
const REMEMBERED: u32 = 65_536;
const SAMPLING: Duration = Duration::from_secs(2);
/// Of the first half: in which nothing counts, for buffers grow to what they need.
const WARM_UP: f64 = 0.2;
/// What the second half of the run may need more than the first. A leak of one connection per reconnection (0.5 MB and
/// a few sockets) would be many times that.
const MORE_MEMORY: u64 = 24 << 20;
const MORE_FILES: u64 = 12;

fn setting<T: FromStr>(name: &str, default: T) -> T {
    let value = std::env::var(name).ok();
    value.map_or(default, |value| {
        value.parse().ok().expect("a setting is a number")
    })
}

/// The same every run, for one seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// A signaling server that restarts on its port.
struct Signaling {
    address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Signaling {
    async fn start() -> Self {
        let mut signaling = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            running: None,
        };
        signaling.go_on().await;
        signaling
    }

    async fn go_on(&mut self) {
        let server = Server::bind(self.address).await.unwrap();
        self.address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        self.running = Some((stop, task));
    }

    async fn stop(&mut self) {
        if let Some((stop, task)) = self.running.take() {
            stop.send(()).unwrap();
            task.await.unwrap();
        }
    }
}

/// Message `n`: its number first, and now and then longer than a frame.
fn body(n: u32) -> Vec<u8> {
    let length = if n % 200 == 7 {
        150_000
    } else {
        4 + n as usize % 900
    };
    let mut body = n.to_be_bytes().to_vec();
    body.resize(length, 0xa5);
    body
}

fn number(bytes: &[u8]) -> u32 {
    let n = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes == body(n), "message {n} came whole");
    n
}

/// What one side has taken.
#[derive(Debug, Default)]
struct Taken {
    main: Cell<u32>,
    bulk: Cell<u32>,
    chat: Cell<u32>,
    cursor: Cell<u32>,
    resumed: Cell<u32>,
}

/// The next of an ordered channel, which must be the one after the last.
fn take_next(taken: &Cell<u32>, bytes: &[u8]) {
    assert_eq!(number(bytes), taken.get(), "each once and in order");
    taken.set(taken.get() + 1);
}

async fn take_all(session: &Session, taken: &Taken) {
    let main = async {
        while let Some(event) = session.next().await {
            match event {
                Event::Message(message) => {
                    take_next(&taken.main, message.content.as_bytes().unwrap());
                }
                Event::Resumed => taken.resumed.set(taken.resumed.get() + 1),
                Event::Failed { error } => panic!("{error}"),
                _ => {}
            }
        }
    };
    let reliable = async |label: &str, taken: &Cell<u32>| {
        let (_, mut receiver) = session.channel(label).unwrap();
        while let Some(message) = receiver.recv().await {
            take_next(taken, message.unwrap().content.as_bytes().unwrap());
        }
    };
    let lossy = async {
        let (_, mut receiver) = session.lossy_channel("cursor").unwrap();
        let (mut seen, mut highest) = (HashSet::new(), 0);
        while let Some(bytes) = receiver.recv().await {
            let n = number(&bytes);
            assert!(seen.insert(n), "{n} came twice");
            highest = highest.max(n);
            if seen.len() > 2 * REMEMBERED as usize {
                seen.retain(|n| n + REMEMBERED > highest);
            }
            taken.cursor.set(taken.cursor.get() + 1);
        }
    };
    tokio::join!(
        main,
        reliable("bulk", &taken.bulk),
        reliable("chat", &taken.chat),
        lossy
    );
}

/// How many were sent on each channel.
#[derive(Debug, Clone, Copy)]
struct Sent {
    main: u32,
    bulk: u32,
    chat: u32,
    cursor: u32,
}

/// Everything one side sends, until it is told to stop and everything was confirmed. Another kind of traffic, a file
/// for example, is one more future here and one more in [`take_all`].
async fn send_all(session: &Session, stop: &watch::Receiver<bool>) -> Sent {
    let reliable = async |label: Option<&str>| {
        let channel = label.map(|label| session.channel(label).unwrap().0);
        let mut next = 0;
        while !*stop.borrow() {
            let mut burst = Vec::new();
            for n in next..next + BURST {
                burst.push(match &channel {
                    Some(channel) => channel.send(body(n)).await.unwrap(),
                    None => session.send(body(n)).await.unwrap(),
                });
            }
            next += BURST;
            for delivery in burst {
                delivery.delivered().await.unwrap();
            }
            sleep(PAUSE).await;
        }
        next
    };
    let lossy = async {
        let (sender, _) = session.lossy_channel("cursor").unwrap();
        let mut next = 0;
        while !*stop.borrow() {
            sender.send(body(next)).unwrap();
            // Messages longer than a frame are not for this channel.
            next += if next % 200 == 6 { 2 } else { 1 };
            sleep(PAUSE / 8).await;
        }
        next
    };
    let (main, bulk, chat, cursor) = tokio::join!(
        reliable(None),
        reliable(Some("bulk")),
        reliable(Some("chat")),
        lossy
    );
    Sent {
        main,
        bulk,
        chat,
        cursor,
    }
}

/// What is done to the network, until the time is over. It ends well again.
async fn chaos(
    mut chance: Chance,
    until: Instant,
    relay: &LossyRelay,
    sides: [&LossyTransport; 2],
    signaling: &mut Signaling,
) -> [u32; 4] {
    let mut done = [0; 4];
    while Instant::now() < until {
        let kind = chance.below(6) as usize;
        match kind {
            0 => sides[chance.below(2) as usize].cut(),
            1 => {
                relay.set_conditions(Conditions::PARTITION);
                sleep(chance.millis(100, 6_000)).await;
                relay.set_conditions(Conditions::PERFECT);
            }
            2 => {
                signaling.stop().await;
                sleep(chance.millis(0, 3_000)).await;
                // Half of the time somebody needs it just then.
                if chance.below(2) == 0 {
                    sides[chance.below(2) as usize].cut();
                }
                sleep(chance.millis(0, 1_000)).await;
                signaling.go_on().await;
            }
            _ => {
                let loss_percent = [0.0, 1.0, 5.0, 20.0][chance.below(4) as usize];
                relay.set_conditions(Conditions {
                    loss_percent,
                    delay: chance.millis(0, 40),
                    jitter: chance.millis(0, 5),
                });
            }
        }
        done[kind.min(3)] += 1;
        sleep(chance.millis(500, 8_000)).await;
    }
    relay.set_conditions(Conditions::PERFECT);
    done
}

/// What this process holds: bytes of memory, and files. Only Linux tells.
fn held() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kilobytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let files = std::fs::read_dir("/proc/self/fd").ok()?.count();
    Some((kilobytes << 10, files as u64))
}

async fn sample(begun: Instant, length: Duration) -> [(u64, u64); 2] {
    let mut halves = [(0, 0); 2];
    loop {
        let at = begun.elapsed().as_secs_f64() / length.as_secs_f64();
        if at >= 1.0 {
            return halves;
        }
        if at >= WARM_UP / 2.0
            && let Some((memory, files)) = held()
        {
            let half = &mut halves[usize::from(at >= 0.5)];
            *half = (half.0.max(memory), half.1.max(files));
        }
        sleep(SAMPLING).await;
    }
}

fn builder(builder: Builder, relay: &Arc<LossyRelay>, side: Side) -> (Builder, LossyTransport) {
    let mut config = Config::default();
    // Sooner than by default, so that more happens in half an hour.
    config.timeouts.path_lost = Duration::from_secs(3);
    let transport = LossyTransport::new(Arc::clone(relay), side);
    let builder = builder
        .config(config)
        .transport(transport.clone())
        .channel("bulk", ChannelKind::Reliable)
        .channel("chat", ChannelKind::Reliable)
        .channel("cursor", ChannelKind::Lossy);
    (builder, transport)
}

#[tokio::test]
#[ignore = "half an hour"]
async fn soak() {
    let length = Duration::from_secs(setting("SEALWIRE_SOAK_SECONDS", SECONDS));
    let seed = setting("SEALWIRE_SOAK_SEED", SEED);
    let mut signaling = Signaling::start().await;
    let relay = Arc::new(LossyRelay::start(seed, Conditions::PERFECT).unwrap());
    let me = Identity::generate();
    let invite = Invite::new(&me, &format!("ws://{}", signaling.address)).unwrap();
    let redeemed = invite.to_string().parse().unwrap();
    let (inviting, near) = builder(Session::builder(me).invite(invite), &relay, Side::Near);
    let redeeming = Session::builder(Identity::generate()).redeem(redeemed);
    let (redeeming, far) = builder(redeeming, &relay, Side::Far);
    let (one, other) = tokio::try_join!(inviting.connect(), redeeming.connect()).unwrap();

    let begun = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let (at_one, at_other) = (Taken::default(), Taken::default());
    let chaos = async {
        let chance = Chance(seed);
        let until = begun + length;
        let done = chaos(chance, until, &relay, [&near, &far], &mut signaling).await;
        stop.send_replace(true);
        done
    };
    let sending = async {
        let ends = tokio::join!(send_all(&one, &stopped), send_all(&other, &stopped), chaos);
        timeout(SETTLE, one.close())
            .await
            .expect("it closes")
            .unwrap();
        ends
    };
    let taking = async { tokio::join!(take_all(&one, &at_one), take_all(&other, &at_other)) };
    let both = async { tokio::join!(sending, taking).0 };
    let whole = async { timeout(length + 2 * SETTLE, both).await };
    let (ends, halves) = tokio::join!(whole, sample(begun, length));
    let (sent, back, done) = ends.expect("all arrives once the network is well again");

    for (sent, taken) in [(sent, &at_other), (back, &at_one)] {
        let reliable = (taken.main.get(), taken.bulk.get(), taken.chat.get());
        assert_eq!(reliable, (sent.main, sent.bulk, sent.chat));
        assert!(taken.cursor.get() <= sent.cursor);
        eprintln!("sent {sent:?}, taken {taken:?}");
    }
    let [cuts, partitions, restarts, changes] = done;
    let (passed, lost) = relay.counts();
    eprintln!(
        "{cuts} cuts, {partitions} partitions, {restarts} restarts of the server, {changes} changes of loss and delay; \
         {lost} of {} datagrams lost",
        passed + lost
    );
    let [first, second] = halves;
    eprintln!(
        "most memory and files in the first half {} MB, {}; in the second {} MB, {}",
        first.0 / 1_000_000,
        first.1,
        second.0 / 1_000_000,
        second.1
    );
    assert!(second.0 <= first.0 + MORE_MEMORY, "memory grows");
    assert!(second.1 <= first.1 + MORE_FILES, "files grow");
}
