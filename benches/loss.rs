//! Bulk over a path that loses and delays datagrams: a session beside a bare data channel of the `webrtc` crate with the
//! best known tuning, both through the same seeded relay on 127.0.0.1.
//!
//! Not criterion: the two take turns, round by round, so that the machine's drift hits both alike. Only the ratios mean
//! anything.
//!
//! ```text
//! cargo bench --bench loss               # the table
//! cargo bench --bench loss -- 25 1       # one cell: one-way delay in milliseconds, loss in percent
//! cargo bench --bench loss -- 25 1 31    # the same with more rounds
//! cargo bench --bench loss -- transfer   # 16 MB under 5 % loss, 50 ms there and 50 ms back
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic,
    missing_docs,
    reason = "figures need a clock; nobody reads the docs of a binary"
)]

#[path = "support/bare.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations
)]
mod bare;
#[path = "../tests/support/lossy_relay.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod lossy_relay;
#[path = "../tests/support/lossy_transport.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::wildcard_enum_match_arm
)]
mod lossy_transport;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use lossy_relay::{Conditions, LossyRelay, Side};
use lossy_transport::LossyTransport;
use sealwire::{Identity, Invite, protocol::Event, server::Server, session::Session};
use tokio::time::timeout;

const MESSAGE: usize = 16 << 10;
/// One-way, in milliseconds.
const DELAYS: [u64; 2] = [0, 25];
/// In percent.
const LOSSES: [f64; 4] = [0.0, 1.0, 5.0, 20.0];
/// An odd number, for the median. Each has a seed of its own, which both see.
const ROUNDS: u64 = 3;
/// How long each sends in a round.
const WINDOW: Duration = Duration::from_secs(10);

const TRANSFER: usize = 16_000_000;

fn main() {
    // `cargo test --benches` asks for a quick look only.
    let quick = std::env::args().any(|argument| argument == "--test");
    let (rounds, window) = if quick {
        (1, Duration::from_millis(300))
    } else {
        (ROUNDS, WINDOW)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let url = start_server().await;
        if std::env::args().any(|argument| argument == "transfer") {
            return transfer(&url).await;
        }
        let numbers: Vec<f64> = std::env::args()
            .filter_map(|argument| argument.parse().ok())
            .collect();
        let cells = match numbers[..] {
            [delay, loss, ..] => vec![(delay as u64, loss)],
            _ => DELAYS
                .iter()
                .flat_map(|delay| LOSSES.map(|loss| (*delay, loss)))
                .collect(),
        };
        let rounds = numbers.get(2).map_or(rounds, |rounds| *rounds as u64);
        table(&url, &cells, rounds, window).await;
    });
}

async fn start_server() -> String {
    let server = Server::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", server.local_addr().expect("a bound socket"));
    tokio::spawn(server.serve(std::future::pending()));
    url
}

async fn table(url: &str, cells: &[(u64, f64)], rounds: u64, window: Duration) {
    println!(
        "messages of 16 KiB one way, MB/s: medians of {rounds} interleaved rounds of {window:?}"
    );
    println!(
        "  {:>9} {:>6} {:>10} {:>10} {:>8} {:>8}   each round",
        "one way", "loss", "sealwire", "bare tuned", "ratio", "of sums"
    );
    for (delay, loss) in cells {
        let conditions = Conditions::new(*loss, Duration::from_millis(*delay));
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for seed in 1..=rounds {
            ours.push(session_rate(url, seed, conditions, window).await);
            bare.push(bare_rate(seed, conditions, window).await);
        }
        let each: Vec<String> = ours
            .iter()
            .zip(&bare)
            .map(|(ours, bare)| format!("{ours:.2}/{bare:.2}"))
            .collect();
        // Of rounds side by side: the machine's speed differs more between rounds than within one.
        let mut ratios: Vec<f64> = ours
            .iter()
            .zip(&bare)
            .map(|(ours, bare)| ours / bare)
            .collect();
        let of_sums = ours.iter().sum::<f64>() / bare.iter().sum::<f64>();
        let (ours, bare, ratio) = (median(&mut ours), median(&mut bare), median(&mut ratios));
        println!(
            "  {delay:>6} ms {loss:>4} % {ours:>10.2} {bare:>10.2} {ratio:>8.2} {of_sums:>8.2}   {}",
            each.join(" ")
        );
    }
}

/// Both ends of a session whose datagrams pass the relay.
async fn sessions(url: &str, relay: &Arc<LossyRelay>) -> (Session, Session) {
    let me = Identity::generate();
    let invite = Invite::new(&me, url).expect("a loopback address");
    let redeemed: Invite = invite.to_string().parse().expect("its own text");
    let (near, far) = tokio::join!(
        Session::builder(me)
            .invite(invite)
            .transport(LossyTransport::new(Arc::clone(relay), Side::Near))
            .connect(),
        Session::builder(Identity::generate())
            .redeem(redeemed)
            .transport(LossyTransport::new(Arc::clone(relay), Side::Far))
            .connect(),
    );
    (near.expect("a session"), far.expect("a session"))
}

/// Megabytes a second that arrive within the window.
async fn session_rate(url: &str, seed: u64, conditions: Conditions, window: Duration) -> f64 {
    let relay = relay(seed, conditions.delay);
    let (near, far) = sessions(url, &relay).await;
    relay.set_conditions(conditions);
    let mut received = 0;
    let sending = async {
        let body = Bytes::from(vec![7; MESSAGE]);
        loop {
            near.send(body.clone()).await.expect("a live session");
        }
    };
    let receiving = async {
        loop {
            match far.next().await {
                Some(Event::Message(_)) => received += MESSAGE,
                Some(_) => {}
                None => panic!("the session ended early"),
            }
        }
    };
    let both = async { tokio::join!(sending, receiving) };
    let _ = timeout(window, both).await;
    relay.set_conditions(Conditions::PERFECT);
    drop((near, far));
    received as f64 / 1e6 / window.as_secs_f64()
}

async fn bare_rate(seed: u64, conditions: Conditions, window: Duration) -> f64 {
    let relay = relay(seed, conditions.delay);
    let told = |side| -> bare::Told {
        let relay = Arc::clone(&relay);
        Box::new(move |candidate| relay.stand_in(side, candidate))
    };
    let (near, far) = bare::pair_told(bare::Setup::Tuned, told(Side::Near), told(Side::Far)).await;
    relay.set_conditions(conditions);
    let mut received = 0;
    let sending = async {
        let body = vec![7; MESSAGE];
        loop {
            let message = BytesMut::from(body.as_slice());
            near.channel.send(message).await.expect("an open channel");
        }
    };
    let receiving = async {
        loop {
            received += far.receive().await;
        }
    };
    let both = async { tokio::join!(sending, receiving) };
    let _ = timeout(window, both).await;
    relay.set_conditions(Conditions::PERFECT);
    near.close().await;
    far.close().await;
    received as f64 / 1e6 / window.as_secs_f64()
}

/// Whether it ends at all is the question.
async fn transfer(url: &str) {
    let conditions = Conditions::new(5.0, Duration::from_millis(50));
    let relay = relay(1, conditions.delay);
    let (near, far) = sessions(url, &relay).await;
    relay.set_conditions(conditions);
    let count = TRANSFER.div_ceil(MESSAGE);
    let begun = Instant::now();
    let sending = async {
        let body = Bytes::from(vec![7; MESSAGE]);
        for _ in 0..count {
            near.send(body.clone()).await.expect("a live session");
        }
    };
    let receiving = async {
        let mut received = 0;
        while received < count {
            match far.next().await {
                Some(Event::Message(_)) => received += 1,
                Some(Event::Disconnected { error }) => println!("  disconnected: {error}"),
                Some(_) => {}
                None => panic!("the session ended early"),
            }
        }
    };
    tokio::join!(sending, receiving);
    let spent = begun.elapsed().as_secs_f64();
    let (passed, lost) = relay.counts();
    println!(
        "16 MB under 5 % loss, 50 ms each way: {spent:.0} s, {lost} of {} datagrams lost",
        passed + lost
    );
}

/// The delay is there from the beginning, as the stacks measure it; nothing is lost while they connect.
fn relay(seed: u64, delay: Duration) -> Arc<LossyRelay> {
    Arc::new(LossyRelay::start(seed, Conditions::new(0.0, delay)).expect("sockets"))
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}
