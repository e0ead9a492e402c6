//! A whole session over 127.0.0.1 beside a bare data channel of the `webrtc` crate, with its defaults and with the best
//! known tuning: throughput by message size, the time to connect, and the time to go on over another transport.
//!
//! Not criterion: cases that are compared take turns, round by round, so that the machine's drift hits all of them
//! alike. Only the ratios mean anything.
//!
//! ```text
//! cargo bench --bench session             # everything
//! cargo bench --bench session -- resume   # reconnection only
//! cargo bench --bench session -- files 1024   # files of so many MiB only (default 256), in $TMPDIR
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
#[path = "../tests/net/session/cutting.rs"]
#[allow(clippy::wildcard_enum_match_arm)]
mod cutting;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sealwire::{
    Identity, Invite,
    protocol::Event,
    server::Server,
    session::{IncomingOffer, Session},
};
use tokio::runtime::{Handle, Runtime};

/// Message size, how many make a round of a session, and how many of a bare channel: about a second each.
const CASES: [(usize, usize, usize); 4] = [
    (64, 400_000, 80_000),
    (1 << 10, 60_000, 30_000),
    (16 << 10, 6_000, 3_000),
    (64 << 10, 1_600, 1_600),
];
const ROUNDS: usize = 5;
const CONNECTS: usize = 20;
const RESUMES: usize = 20;
const FILE_MEBIBYTES: usize = 256;

fn main() {
    // `cargo test --benches` asks for a quick look only.
    let quick = std::env::args().any(|argument| argument == "--test");
    let resume_only = std::env::args().any(|argument| argument == "resume");
    let mut after_files = std::env::args().skip_while(|argument| argument != "files");
    let files_only = after_files.next().is_some();
    let mebibytes = after_files.next().and_then(|size| size.parse().ok());
    let mebibytes = mebibytes.unwrap_or(if quick { 4 } else { FILE_MEBIBYTES });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let url = runtime.block_on(start_server());
    runtime.block_on(async {
        if files_only {
            return;
        }
        resume_times(&url, if quick { 2 } else { RESUMES }).await;
        if resume_only {
            return;
        }
        connect_times(&url, if quick { 1 } else { CONNECTS }).await;
        throughput(
            &url,
            if quick { 1 } else { ROUNDS },
            if quick { 20 } else { 1 },
        )
        .await;
    });
    if !resume_only {
        file_throughput(&runtime, mebibytes, if quick { 1 } else { ROUNDS });
    }
}

async fn start_server() -> String {
    let server = Server::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("ws://{}", server.local_addr().expect("a bound socket"));
    tokio::spawn(server.serve(std::future::pending()));
    url
}

async fn sessions(url: &str) -> (Session, Session) {
    let me = Identity::generate();
    let invite = Invite::new(&me, url).expect("a loopback address");
    let redeemed: Invite = invite.to_string().parse().expect("its own text");
    let (inviting, redeeming) = tokio::join!(
        Session::builder(me).invite(invite).streams().connect(),
        Session::builder(Identity::generate())
            .redeem(redeemed)
            .streams()
            .connect(),
    );
    (inviting.expect("a session"), redeeming.expect("a session"))
}

/// One side's path is cut; the other's stack learns it from its peer's. From `Disconnected` to `Resumed` on each side,
/// beside the time that new sessions take in the same rounds.
async fn resume_times(url: &str, count: usize) {
    let cutter = cutting::Cutting::new();
    let me = Identity::generate();
    let invite = Invite::new(&me, url).expect("a loopback address");
    let redeemed: Invite = invite.to_string().parse().expect("its own text");
    let (near, far) = tokio::join!(
        Session::builder(me)
            .invite(invite)
            .transport(cutter.clone())
            .connect(),
        Session::builder(Identity::generate())
            .redeem(redeemed)
            .connect(),
    );
    let (near, far) = (near.expect("a session"), far.expect("a session"));
    let (mut cut, mut told, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        cutter.cut();
        let (at_near, at_far) = tokio::join!(outage(&near), outage(&far));
        cut.push(at_near);
        told.push(at_far);
        let begun = Instant::now();
        let (one, other) = sessions(url).await;
        fresh.push(begun.elapsed());
        let _ = tokio::join!(one.close(), other.close());
    }
    let _ = tokio::join!(near.close(), far.close());
    println!("resume, median of {count} and the longest: from Disconnected to Resumed");
    for (side, times) in [
        ("the side whose path was cut ", &mut cut),
        ("the side told by its stack  ", &mut told),
        ("a new session, for comparison", &mut fresh),
    ] {
        let middle = ms(median(times));
        let longest = times.last().map_or(0.0, |longest| ms(*longest));
        println!("  {side:<30} {middle:>8.1} ms {longest:>8.1} ms");
    }
    println!();
}

/// How long the next outage lasts.
async fn outage(session: &Session) -> Duration {
    let mut begun = None;
    loop {
        match session.next().await {
            Some(Event::Disconnected { .. }) => begun = Some(Instant::now()),
            Some(Event::Resumed) => return begun.expect("it was lost before").elapsed(),
            Some(_) => {}
            None => panic!("the session ended"),
        }
    }
}

async fn connect_times(url: &str, count: usize) {
    let (mut ours, mut defaults, mut tuned) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let begun = Instant::now();
        let (near, far) = sessions(url).await;
        ours.push(begun.elapsed());
        let _ = tokio::join!(near.close(), far.close());
        for (setup, times) in [
            (bare::Setup::Defaults, &mut defaults),
            (bare::Setup::Tuned, &mut tuned),
        ] {
            let begun = Instant::now();
            let (near, far) = bare::pair(setup).await;
            times.push(begun.elapsed());
            near.close().await;
            far.close().await;
        }
    }
    println!("connect, median of {count}: both peers and the signaling server in one process");
    println!(
        "  sealwire, from connect() to Established   {:>8.1} ms",
        ms(median(&mut ours))
    );
    println!(
        "  bare data channel, tuned, no signaling    {:>8.1} ms",
        ms(median(&mut tuned))
    );
    println!(
        "  bare data channel, defaults, no signaling {:>8.1} ms\n",
        ms(median(&mut defaults))
    );
}

async fn throughput(url: &str, rounds: usize, shrink: usize) {
    println!(
        "throughput one way, medians of {rounds} interleaved rounds; ratios of messages a second"
    );
    println!(
        "  {:>8} {:>14} {:>14} {:>14} {:>9} {:>11}",
        "bytes", "sealwire /s", "tuned /s", "defaults /s", "/ tuned", "/ defaults"
    );
    for (size, count, bare_count) in CASES {
        let (count, bare_count) = (count / shrink, bare_count / shrink);
        let (mut ours, mut tuned, mut defaults) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(session_round(url, size, count).await);
            tuned.push(bare_round(bare::Setup::Tuned, size, bare_count).await);
            defaults.push(bare_round(bare::Setup::Defaults, size, bare_count / 4).await);
        }
        let rate =
            |count: usize, times: &mut Vec<Duration>| count as f64 / median(times).as_secs_f64();
        let (ours, tuned) = (rate(count, &mut ours), rate(bare_count, &mut tuned));
        let defaults = rate(bare_count / 4, &mut defaults);
        println!(
            "  {size:>8} {ours:>14.0} {tuned:>14.0} {defaults:>14.0} {:>9.2} {:>11.2}",
            ours / tuned,
            ours / defaults
        );
    }
}

async fn session_round(url: &str, size: usize, count: usize) -> Duration {
    let (near, far) = sessions(url).await;
    let body = Bytes::from(vec![7; size]);
    let begun = Instant::now();
    let sending = async {
        for _ in 0..count {
            near.send(body.clone()).await.expect("a live session");
        }
    };
    let receiving = async {
        let mut received = 0;
        while received < count {
            match far.next().await {
                Some(Event::Message(_)) => received += 1,
                Some(_) => {}
                None => panic!("the session ended early"),
            }
        }
    };
    tokio::join!(sending, receiving);
    let spent = begun.elapsed();
    let _ = tokio::join!(near.close(), far.close());
    spent
}

async fn bare_round(setup: bare::Setup, size: usize, count: usize) -> Duration {
    let (near, far) = bare::pair(setup).await;
    let body = vec![7; size];
    let begun = Instant::now();
    let sending = async {
        for _ in 0..count {
            near.channel
                .send(BytesMut::from(body.as_slice()))
                .await
                .expect("an open channel");
        }
    };
    let receiving = async {
        for _ in 0..count {
            far.receive().await;
        }
    };
    tokio::join!(sending, receiving);
    let spent = begun.elapsed();
    near.close().await;
    far.close().await;
    spent
}

/// The same with a thread for each end, as a session has.
async fn bare_round_apart([near, far]: &[Handle; 2], size: usize, count: usize) -> Duration {
    let (one, other) = bare::pair_apart(bare::Setup::Tuned, near, far).await;
    let body = vec![7; size];
    let begun = Instant::now();
    let sending = near.spawn(async move {
        for _ in 0..count {
            let message = BytesMut::from(body.as_slice());
            one.channel.send(message).await.expect("an open channel");
        }
        one
    });
    let receiving = far.spawn(async move {
        for _ in 0..count {
            other.receive().await;
        }
        other
    });
    let (one, other) = tokio::join!(sending, receiving);
    let spent = begun.elapsed();
    one.expect("an end").close().await;
    other.expect("an end").close().await;
    spent
}

/// A runtime on a thread of its own, for as long as this process lives.
fn start_thread() -> Handle {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

/// A file from disk to disk, and the same bytes by a stream and by the bare channel from memory to nowhere. Each in the
/// runtime that suits it best: the bare channel is driven by one thread (or by two, for comparison), the hosts of a
/// session are what apps are.
fn file_throughput(bare: &Runtime, mebibytes: usize, rounds: usize) {
    let hosts = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let url = hosts.block_on(start_server());
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    let block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    let mut file = std::fs::File::create(&source).expect("a file");
    for _ in 0..mebibytes {
        std::io::Write::write_all(&mut file, &block).expect("room on the disk");
    }
    file.sync_all().expect("a disk");
    let messages = mebibytes * 16;
    let threads = [start_thread(), start_thread()];
    let [mut files, mut streams, mut tuned, mut apart] = [const { Vec::new() }; 4];
    for _ in 0..rounds {
        let target = folder.path().join("target");
        files.push(hosts.block_on(file_round(&url, &source, &target)));
        streams.push(hosts.block_on(stream_round(&url, &block, mebibytes)));
        tuned.push(bare.block_on(bare_round(bare::Setup::Tuned, 64 << 10, messages)));
        apart.push(bare.block_on(bare_round_apart(&threads, 64 << 10, messages)));
    }
    println!(
        "a file of {mebibytes} MiB, medians of {rounds} interleaved rounds, both peers in this process"
    );
    println!(
        "  {:<42} {:>7} {:>9} {:>12}",
        "", "MB/s", "/ tuned", "/ two threads"
    );
    for (what, times) in [
        ("bare data channel, tuned, 64 KiB messages", &tuned),
        ("the same with a thread for each end", &apart),
        ("a stream, hashed on both sides", &streams),
        ("a file, hashed and synced to disk", &files),
    ] {
        let rate = (mebibytes << 20) as f64 / 1e6 / median(&mut times.clone()).as_secs_f64();
        let (by_tuned, by_apart) = (speed_ratio(times, &tuned), speed_ratio(times, &apart));
        println!("  {what:<42} {rate:>7.0} {by_tuned:>9.2} {by_apart:>12.2}");
    }
    println!("  peak memory of this process: {:.0} MB\n", peak_memory());
}

async fn file_round(url: &str, source: &std::path::Path, target: &std::path::Path) -> Duration {
    let (near, far) = sessions(url).await;
    let begun = Instant::now();
    let sending = near.send_file(source).await.expect("a file");
    let Some(IncomingOffer::File(offer)) = far.next_offer().await else {
        panic!("no file was offered")
    };
    let receiving = offer.accept(target).await.expect("a free name");
    let (sent, received) = tokio::join!(sending.finished(), receiving.finished());
    sent.expect("a peer that takes it");
    received.expect("a peer that sends it");
    let spent = begun.elapsed();
    std::fs::remove_file(target).expect("what was received");
    let _ = tokio::join!(near.close(), far.close());
    spent
}

async fn stream_round(url: &str, block: &[u8], blocks: usize) -> Duration {
    let (near, far) = sessions(url).await;
    let begun = Instant::now();
    let writing = async {
        let mut writer = near
            .open_stream("bench")
            .await
            .expect("a peer that takes it");
        for _ in 0..blocks {
            writer.write(block).await.expect("a live session");
        }
        writer.finish().await.expect("a peer that takes it");
    };
    // The two hosts share nothing but the network.
    let host = far.clone();
    let reading = tokio::spawn(async move {
        let Some(IncomingOffer::Stream(offer)) = host.next_offer().await else {
            panic!("no stream was offered")
        };
        let mut reader = offer.accept().expect("it stands");
        while reader.read_chunk().await.expect("a live session").is_some() {}
    });
    writing.await;
    reading.await.expect("a host");
    let spent = begun.elapsed();
    let _ = tokio::join!(near.close(), far.close());
    spent
}

/// Megabytes of memory that this process had at most; 0 where the system does not tell.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0.0) * 1_024.0 / 1e6
}

/// How much faster the first is in the middle one of the rounds: the machine's speed differs more between rounds than
/// within one.
fn speed_ratio(times: &[Duration], others: &[Duration]) -> f64 {
    let ratio = |(time, other): (&Duration, &Duration)| other.as_secs_f64() / time.as_secs_f64();
    let mut ratios: Vec<f64> = times.iter().zip(others).map(ratio).collect();
    median(&mut ratios)
}

fn median<T: PartialOrd + Copy>(values: &mut [T]) -> T {
    values.sort_unstable_by(|one, other| one.partial_cmp(other).expect("numbers"));
    values[values.len() / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
