//! Messages a second into a history on disk, with an fsync for each group of what waits (docs/history.md).
//!
//! `cargo bench --bench history --features store [-- FOLDER]`; the folder says which disk.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a measurement"
)]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sealwire::{
    PeerId,
    history::{Archive, Author, Body, Page, Pair, Record},
    store::{DiskHistory, StoreKey},
};

const MESSAGES: u64 = 50_000;
const BODY: usize = 200;
/// Messages on their way to the disk at once: what a session has in flight.
const WAITING: [usize; 4] = [1, 16, 256, 4_096];

fn main() {
    let folder = std::env::args().nth(1).filter(|one| !one.starts_with("--"));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder).expect("a folder to write to");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    println!("messages of {BODY} bytes, all durable; beside it, an fsync of a bare file");
    for waiting in WAITING {
        let path = folder.path().join(format!("history-{waiting}"));
        let messages = MESSAGES.min(waiting as u64 * 400);
        let spent = runtime.block_on(append(&path, messages, waiting));
        let bare = fsync(&folder.path().join("bare"));
        println!(
            "{waiting:>5} waiting: {:>8.0} messages/s, {:>6.2} bare fsyncs of 4 KiB per group",
            messages as f64 / spent.as_secs_f64(),
            spent.as_secs_f64() / (messages as f64 / waiting as f64) / bare.as_secs_f64(),
        );
    }
    let path = folder.path().join(format!("history-{}", WAITING[2]));
    let begun = Instant::now();
    let archive = open(&path);
    let standing = runtime
        .block_on(archive.standing(pair()))
        .expect("it reads");
    let (n, spent) = (standing.sent.head.n, begun.elapsed());
    println!(
        "opened and verified: {:.0} messages/s",
        n as f64 / spent.as_secs_f64()
    );
    let begun = Instant::now();
    let page = runtime.block_on(archive.page(pair(), &Page::newest(50).before(n / 2)));
    assert_eq!(page.expect("it reads").len(), 50);
    println!("a page of 50 from the middle: {:?}", begun.elapsed());
}

fn pair() -> Pair {
    Pair {
        me: PeerId::from_bytes([1; 32]),
        peer: PeerId::from_bytes([2; 32]),
    }
}

fn open(path: &Path) -> Archive {
    let key = StoreKey::from_secret_bytes([3; 32]);
    Archive::new(DiskHistory::open(path, &key).expect("it opens"))
}

async fn append(path: &Path, messages: u64, waiting: usize) -> Duration {
    let archive = open(path);
    archive.standing(pair()).await.expect("it reads");
    let begun = Instant::now();
    let mut flight = std::collections::VecDeque::new();
    for n in 0..messages {
        let record = Record::Chained {
            author: Author::Me,
            n,
            seen: 0,
            ts_ms: n,
            body: Body::Whole(vec![7; BODY].into()),
        };
        let stored = archive.append(pair(), vec![record], &[]).expect("it fits");
        flight.push_back(stored);
        while flight.len() >= waiting
            && let Some(oldest) = flight.pop_front()
        {
            oldest.await.expect("it is durable");
        }
    }
    for one in flight {
        one.await.expect("it is durable");
    }
    begun.elapsed()
}

/// What one fsync costs here.
fn fsync(path: &Path) -> Duration {
    use std::io::Write as _;

    const COUNT: u32 = 50;
    let mut file = std::fs::File::create(path).expect("a file");
    let begun = Instant::now();
    for _ in 0..COUNT {
        file.write_all(&[7; 4_096]).expect("it writes");
        file.sync_data().expect("it syncs");
    }
    begun.elapsed() / COUNT
}
