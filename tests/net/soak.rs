//! Two peers for half an hour on a network that does everything networks do: transports cut on either side, partitions,
//! loss, delay, a signaling server that restarts. Messages on four channels and files flow both ways all the time.
//!
//! ```sh
//! cargo test --all-features --test net -- --ignored --nocapture soak
//! SEALWIRE_SOAK_SECONDS=600 SEALWIRE_SOAK_SEED=7 cargo test --all-features --test net -- --ignored --nocapture soak
//! ```

#[path = "soak/chaos.rs"]
mod chaos;
#[path = "soak/files.rs"]
mod files;
#[path = "soak/held.rs"]
mod held;
#[path = "soak/traffic.rs"]
mod traffic;

use std::{str::FromStr, sync::Arc, time::Duration};

use sealwire::{
    Config, Identity, Invite,
    session::{Builder, ChannelKind, Session},
};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use self::{
    chaos::{Chance, Signaling, chaos},
    files::{Files, send_files, take_files},
    held::sample,
    traffic::{Sent, Taken, send_all, take_all},
};
use super::{
    lossy_relay::{Conditions, LossyRelay, Side},
    lossy_transport::LossyTransport,
};

const SECONDS: u64 = 1_800;
const SEED: u64 = 1;

/// How long everything may take to arrive once the network is well again, and to close.
const SETTLE: Duration = Duration::from_secs(120);
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
        .channel("cursor", ChannelKind::Lossy)
        .streams();
    (builder, transport)
}

/// Two peers, and what goes from one to the other in each direction.
struct Peers {
    one: Session,
    other: Session,
    to_one: Taken,
    to_other: Taken,
    files_to_one: Files,
    files_to_other: Files,
}

impl Peers {
    async fn connect(inviting: Builder, redeeming: Builder) -> Self {
        let (one, other) = tokio::try_join!(inviting.connect(), redeeming.connect()).unwrap();
        Self {
            one,
            other,
            to_one: Taken::default(),
            to_other: Taken::default(),
            files_to_one: Files::default(),
            files_to_other: Files::default(),
        }
    }

    /// Everything that both send until they are told to stop, and all of it confirmed: what one sent, and the other.
    async fn send(&self, seed: u64, stop: &watch::Receiver<bool>) -> (Sent, Sent) {
        let (from_one, from_other) = (Chance(seed + 1), Chance(seed + 2));
        let (sent, back, (), ()) = tokio::join!(
            send_all(&self.one, stop),
            send_all(&self.other, stop),
            send_files(&self.one, from_one, &self.files_to_other, stop),
            send_files(&self.other, from_other, &self.files_to_one, stop),
        );
        (sent, back)
    }

    /// Everything that comes, until the session is over.
    async fn take(&self) {
        tokio::join!(
            take_all(&self.one, &self.to_one),
            take_all(&self.other, &self.to_other),
            take_files(&self.one, &self.files_to_one),
            take_files(&self.other, &self.files_to_other),
        );
    }

    fn check(&self, sent: Sent, back: Sent) {
        for (sent, taken, files) in [
            (sent, &self.to_other, &self.files_to_other),
            (back, &self.to_one, &self.files_to_one),
        ] {
            eprintln!("sent {sent:?}, taken {taken:?}");
            eprintln!("files: {}, {} MB", files.arrived.get(), files.megabytes());
            let reliable = (taken.main.get(), taken.bulk.get(), taken.chat.get());
            assert_eq!(reliable, (sent.main, sent.bulk, sent.chat));
            assert!(taken.cursor.get() <= sent.cursor);
            assert_eq!(files.arrived.get(), files.sent());
        }
    }
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
    let peers = Peers::connect(inviting, redeeming).await;

    let begun = Instant::now();
    let (stop, stopped) = watch::channel(false);
    let chaos = async {
        let until = begun + length;
        let done = chaos(Chance(seed), until, &relay, [&near, &far], &mut signaling).await;
        stop.send_replace(true);
        done
    };
    let sending = async {
        let ends = tokio::join!(peers.send(seed, &stopped), chaos);
        let closed = timeout(SETTLE, peers.one.close()).await;
        closed.expect("it closes").unwrap();
        ends
    };
    let both = async { tokio::join!(sending, peers.take()).0 };
    let whole = async { timeout(length + 2 * SETTLE, both).await };
    let (ends, halves) = tokio::join!(whole, sample(begun, length));
    let ((sent, back), done) = ends.expect("all arrives once the network is well again");

    peers.check(sent, back);
    report(done, relay.counts());
    check_memory(halves);
}

fn report([cuts, partitions, restarts, changes]: [u32; 4], (passed, lost): (u64, u64)) {
    eprintln!(
        "{cuts} cuts, {partitions} partitions, {restarts} restarts of the server, {changes} changes of loss and delay; \
         {lost} of {} datagrams lost",
        passed + lost
    );
}

fn check_memory([first, second]: [(u64, u64); 2]) {
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
