//! The file: what it keeps over a kill at any moment, and what is seen of a change in it.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, Stdio},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

use bytes::Bytes;
use redb::ReadableTable as _;

use super::{
    DiskHistory,
    format::{PAIRS, RECORDS},
    worker,
};
use crate::{
    history::{Archive, Author, Body, HistoryError, Page, Pair, Record, export::Export},
    identity::PeerId,
    message::Timestamp,
    store::StoreKey,
};

const PAIR: Pair = Pair {
    me: PeerId::from_bytes([1; 32]),
    peer: PeerId::from_bytes([2; 32]),
};

/// Runs a future on this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        std::thread::park();
    }
}

fn key() -> StoreKey {
    StoreKey::from_secret_bytes([3; 32])
}

fn open(path: &Path) -> Archive {
    Archive::new(DiskHistory::open(path, &key()).unwrap())
}

fn body(n: u64) -> Bytes {
    let mut body = n.to_be_bytes().to_vec();
    body.resize(8 + usize::try_from(n * 7 % 300).unwrap(), b'x');
    body.into()
}

fn record(author: Author, n: u64) -> Record {
    Record::Chained {
        author,
        n,
        seen: n,
        ts_ms: 1_000 + n,
        body: Body::Whole(body(n)),
    }
}

/// Appends the next message of each side.
fn append(archive: &Archive, n: u64) {
    for author in [Author::Me, Author::Peer] {
        wait(archive.append(PAIR, vec![record(author, n)], &[]).unwrap()).unwrap();
    }
}

fn filled(folder: &Path, count: u64) -> PathBuf {
    let path = folder.join("history");
    let archive = open(&path);
    wait(archive.standing(PAIR)).unwrap();
    for n in 0..count {
        append(&archive, n);
    }
    path
}

fn bodies(archive: &Archive, page: &Page) -> Vec<Bytes> {
    let entries = wait(archive.page(PAIR, page)).unwrap();
    entries.into_iter().filter_map(|entry| entry.body).collect()
}

#[test]
fn what_was_appended_is_there_after_reopening_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path(), 150);
    let archive = open(&path);
    let standing = wait(archive.standing(PAIR)).unwrap();
    assert_eq!((standing.sent.head.n, standing.received.head.n), (150, 150));
    let (mut before, mut seen) = (u64::MAX, Vec::new());
    loop {
        let page = wait(archive.page(PAIR, &Page::newest(33).before(before))).unwrap();
        let Some(last) = page.last() else { break };
        before = last.position;
        seen.extend(page.into_iter().map(|entry| entry.body.unwrap()));
    }
    let expected: Vec<Bytes> = (0..150).rev().flat_map(|n| [body(n), body(n)]).collect();
    assert_eq!(seen, expected);
    let at = Timestamp::from_unix_ms;
    let found = bodies(&archive, &Page::newest(100).between(at(1_010)..=at(1_011)));
    assert_eq!(found, [body(11), body(11), body(10), body(10)]);
}

#[test]
fn another_key_opens_nothing_and_two_cannot_have_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path(), 1);
    let other = StoreKey::from_secret_bytes([4; 32]);
    let refused = DiskHistory::open(&path, &other).unwrap_err();
    assert_eq!(refused, HistoryError::WrongKeyOrDamaged);
    let first = open(&path);
    let refused = DiskHistory::open(&path, &key()).unwrap_err();
    assert!(matches!(refused, HistoryError::InUse(_)), "{refused}");
    drop(first);
    open(&path);
}

///
#[test]
fn nothing_readable_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let archive = open(&path);
    let text = "a sentence that nobody else reads";
    wait(archive.queue(PAIR, text, Timestamp::from_unix_ms(1))).unwrap();
    drop(archive);
    let bytes = std::fs::read(&path).unwrap();
    for secret in [text.as_bytes(), PAIR.peer.as_bytes(), &[3; 32]] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
}

/// A change of the stored records: what one does who has the file, and not the key.
type Tamper = fn(&mut Vec<([u8; 24], Vec<u8>)>);

fn tamper(path: &Path, change: Tamper) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let database = worker::database(file).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(RECORDS).unwrap();
        let mut records: Vec<_> = table
            .iter()
            .unwrap()
            .map(|one| {
                let (key, value) = one.unwrap();
                (key.value(), value.value().to_vec())
            })
            .collect();
        table.retain(|_, _| false).unwrap();
        change(&mut records);
        for (key, value) in records {
            table.insert(key, value.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

///
#[test]
fn c7_every_change_of_the_file_is_detected_when_it_is_opened_or_compared_r214() {
    let ways: [(&str, Tamper); 6] = [
        ("edit", |records| records[5].1[30] ^= 1),
        ("deletion", |records| drop(records.remove(5))),
        ("insertion", |records| {
            let (mut key, value) = records[19].clone();
            key[23] += 1;
            records.push((key, value));
        }),
        ("reorder", |records| {
            let later = records[7].1.clone();
            records[7].1 = std::mem::replace(&mut records[5].1, later);
        }),
        ("deletion of the first", |records| drop(records.remove(0))),
        ("move", |records| records[19].0[23] += 1),
    ];
    for (name, change) in ways {
        let folder = tempfile::tempdir().unwrap();
        let path = filled(folder.path(), 10);
        tamper(&path, change);
        let error = wait(open(&path).standing(PAIR)).unwrap_err();
        assert!(
            matches!(error, HistoryError::Damaged { .. }),
            "{name}: {error}"
        );
    }
    // A cut at the end opens: only the peer knows of it, by the number of messages.
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path(), 10);
    tamper(&path, |records| records.truncate(17));
    let standing = wait(open(&path).standing(PAIR)).unwrap();
    assert_eq!((standing.sent.head.n, standing.received.head.n), (9, 8));
}

///
#[test]
fn an_older_state_beside_newer_records_is_detected_r214() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path(), 5);
    let state = |path: &Path, put: Option<(Vec<u8>, [u8; 16])>| {
        let file = std::fs::OpenOptions::new();
        let file = file.clone().read(true).write(true).open(path).unwrap();
        let database = worker::database(file).unwrap();
        let transaction = database.begin_write().unwrap();
        let found = {
            let mut table = transaction.open_table(PAIRS).unwrap();
            if let Some((value, name)) = put {
                table.insert(name, value.as_slice()).unwrap();
            }
            let (name, value) = table.first().unwrap().unwrap();
            (value.value().to_vec(), name.value())
        };
        transaction.commit().unwrap();
        found
    };
    let old = state(&path, None);
    let archive = open(&path);
    wait(archive.standing(PAIR)).unwrap();
    append(&archive, 5);
    drop(archive);
    state(&path, Some(old));
    let error = wait(open(&path).standing(PAIR)).unwrap_err();
    assert!(
        matches!(error, HistoryError::Damaged { position: 10, .. }),
        "{error}"
    );
}

#[test]
fn an_export_is_verified_and_names_the_first_bad_record() {
    let folder = tempfile::tempdir().unwrap();
    let archive = open(&filled(folder.path(), 10));
    let mut out = Vec::new();
    wait(archive.export_json(PAIR, &mut out)).unwrap();
    let text = String::from_utf8(out).unwrap();
    let summary = Export::parse(text.as_bytes()).unwrap().verify().unwrap();
    assert_eq!(summary.records, 20);
    let lines: Vec<&str> = text.lines().collect();
    let check = |text: String| {
        Export::parse(text.as_bytes())
            .unwrap()
            .verify()
            .unwrap_err()
    };
    for at in 1..lines.len() - 2 {
        let mut without = lines.clone();
        without.remove(at);
        let fault = check(without.join("\n"));
        // What follows in the same chain is the first that does not fit.
        let position = u64::try_from(at).unwrap() + 1;
        let expected = (position < 20).then_some(position);
        assert_eq!(fault.position, expected, "{fault}");
    }
    let changed = text.replacen("\"ts_ms\":1003", "\"ts_ms\":1004", 1);
    assert_eq!(
        check(changed).position,
        None,
        "only the head at the end tells"
    );
}

/// Where the process that is to be killed writes.
const KILLED: &str = "SEALWIRE_TEST_HISTORY";
const KILLS: u64 = 200;

/// kill -9 at random moments, again and again on one file: it always opens, and what was acknowledged is in it.
#[test]
fn a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged() {
    if let Some(path) = std::env::var_os(KILLED) {
        return write_until_killed(Path::new(&path));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let (mut acknowledged, mut within) = (0, 0);
    for round in 0..KILLS {
        acknowledged = kill_writer(&path, round).max(acknowledged);
        let archive = open(&path);
        let standing = wait(archive.standing(PAIR)).unwrap();
        let found = standing.sent.head.n;
        assert!(
            found >= acknowledged,
            "{found} of {acknowledged}, round {round}"
        );
        within += u64::from(found > acknowledged);
        assert_eq!(
            wait(archive.page(PAIR, &Page::newest(1))).unwrap().len(),
            usize::from(found > 0)
        );
    }
    println!(
        "{KILLS} kills, {within} of them between writing and saying so, {acknowledged} messages"
    );
    assert!(acknowledged > KILLS, "the writer came to write");
}

/// Starts a writer and kills it some time after it began: how many messages it said are durable.
fn kill_writer(path: &Path, round: u64) -> u64 {
    use std::io::{BufRead as _, BufReader};

    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::history::tests::a_writer_killed_at_any_moment_loses_nothing_that_it_acknowledged", "--nocapture"])
        .env(KILLED, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let said = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
    let mut last = 0;
    // Some batches, then up to 8 ms of the next ones.
    for line in lines.by_ref().map_while(Result::ok) {
        if let Some(n) = said(&line).filter(|_| line.contains("durable")) {
            last = n;
            break;
        }
    }
    std::thread::sleep(Duration::from_micros(round * 7_919 % 8_000));
    writer.kill().unwrap();
    writer.wait().unwrap();
    for line in lines.map_while(Result::ok) {
        if let Some(n) = said(&line).filter(|_| line.contains("durable")) {
            last = n;
        }
    }
    last
}

fn write_until_killed(path: &Path) {
    let archive = open(path);
    let mut n = wait(archive.standing(PAIR)).unwrap().sent.head.n;
    loop {
        let batch: Vec<_> = (n..n + 1 + n % 5)
            .map(|n| {
                archive
                    .append(PAIR, vec![record(Author::Me, n)], &[])
                    .unwrap()
            })
            .collect();
        n += batch.len() as u64;
        for one in batch {
            wait(one).unwrap();
        }
        println!("durable {n}");
    }
}

/// Numbers from a seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ z >> 31) % bound as u64).unwrap()
    }
}

/// Opens a damaged file and reads all of it, if it opens. Whatever is wrong is an error, and nothing is made up.
fn look_into(path: &Path, count: usize) -> bool {
    let Ok(history) = DiskHistory::open(path, &key()) else {
        return false;
    };
    let archive = Archive::new(history);
    let page = Page::newest(usize::MAX);
    let opened = wait(archive.standing(PAIR)).is_ok();
    if let (true, Ok(entries)) = (opened, wait(archive.page(PAIR, &page))) {
        assert!(entries.len() <= count);
        for entry in &entries {
            let n = entry.body.as_deref().expect("nothing was erased")[..8].try_into();
            let n: [u8; 8] = n.unwrap();
            assert_eq!(entry.body, Some(self::body(u64::from_be_bytes(n))));
        }
    }
    // It can also be written to, or says why not.
    if let Ok(stored) = archive.append(PAIR, vec![record(Author::Me, 40)], &[]) {
        let _ = wait(stored);
    }
    opened
}

///
#[test]
fn c7_a_damaged_file_is_an_error_and_never_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let path = filled(folder.path(), 40);
    let whole = std::fs::read(&path).unwrap();
    let used: Vec<usize> = (320..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut numbers = Numbers(7);
    let mut damage: Vec<Vec<u8>> = Vec::new();
    // Every second byte of the header and its slots, and many of the pages in use: a bit, or all of it.
    let some: Vec<usize> = (0..120).map(|_| used[numbers.below(used.len())]).collect();
    for at in (0..320).step_by(2).chain(some) {
        let mut bytes = whole.clone();
        bytes[at] ^= if at % 3 == 0 {
            0xff
        } else {
            1 << numbers.below(8)
        };
        damage.push(bytes);
    }
    for _ in 0..15 {
        let mut bytes = whole.clone();
        bytes.truncate(numbers.below(whole.len()));
        damage.push(bytes);
        // A page in the place of another, or nothing.
        let mut bytes = whole.clone();
        let pages = whole.len() / 4_096;
        let (from, to) = (numbers.below(pages), numbers.below(pages));
        let page = bytes[from * 4_096..][..4_096].to_vec();
        bytes[to * 4_096..][..4_096].copy_from_slice(&page);
        damage.push(bytes);
        let mut bytes = whole.clone();
        let at = used[numbers.below(used.len())] / 4_096 * 4_096;
        bytes[at..at + 4_096].fill(0);
        damage.push(bytes);
        let mut bytes = whole.clone();
        bytes.extend(vec![0; numbers.below(20_000)]);
        damage.push(bytes);
    }
    let path = folder.path().join("damaged");
    let mut opened = 0;
    for bytes in damage {
        std::fs::write(&path, &bytes).unwrap();
        opened += usize::from(look_into(&path, 80));
    }
    std::fs::write(&path, &whole).unwrap();
    assert!(look_into(&path, 80), "what is whole opens");
    assert!(opened > 0, "what does not matter opens");
}
