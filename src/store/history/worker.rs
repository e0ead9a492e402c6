//! The thread that has the file: all that waits becomes one transaction, durable before any of it is answered.

use std::{
    collections::BTreeMap,
    fs::File,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use redb::{Database, Durability as Fsync, ReadableTable as _};

use super::{
    checked::Checked,
    format::{PAIRS, RECORDS, Seal},
    reply::Reply,
};
use crate::{
    entropy::OsEntropy,
    history::{Change, Durability, HistoryError, Pair, Place, Record, State},
    identity::PeerId,
};

type Result<T> = std::result::Result<T, HistoryError>;

/// Changes of one transaction, and bytes of bodies after which it is closed.
const MAX_BATCH: usize = 4_096;
const MAX_BATCH_BYTES: usize = 8 << 20;
/// Records, and bytes of bodies, of one answer.
const MAX_READ: usize = 64;
const MAX_READ_BYTES: usize = 1 << 20;
/// How long a change that is not urgent waits for one that is.
const SOON: Duration = Duration::from_secs(1);
/// What the database may keep of the file in memory.
const CACHE: usize = 16 << 20;

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Job {
    State {
        pair: Pair,
        reply: Reply<Option<State>>,
    },
    Read {
        pair: Pair,
        from: Place,
        until: u64,
        reply: Reply<Vec<(u64, Record)>>,
    },
    Write {
        pair: Pair,
        change: Change,
        reply: Reply<()>,
    },
    Peers {
        me: PeerId,
        reply: Reply<Vec<PeerId>>,
    },
}

#[derive(Debug)]
pub(super) struct Worker {
    database: Database,
    seal: Seal,
    jobs: Receiver<Job>,
    /// Something was written that is not durable.
    owes: bool,
}

/// A database in a file, of which every page was checked; repaired when the last process was killed.
pub(super) fn database(file: File) -> Result<Database> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    // What later versions of the database read as well.
    builder.create_with_file_format_v3(true);
    let failed = |error| {
        if matches!(error, redb::DatabaseError::DatabaseAlreadyOpen) {
            return HistoryError::InUse("it is open elsewhere");
        }
        storage("opened")(error)
    };
    let file = Checked::new(file).map_err(failed)?;
    builder.create_with_backend(file).map_err(failed)
}

/// What failed, in the database's words.
pub(super) fn storage<E: std::fmt::Display>(action: &'static str) -> impl Fn(E) -> HistoryError {
    move |error| HistoryError::Storage {
        action,
        reason: error.to_string(),
    }
}

impl Worker {
    pub(super) fn new(database: Database, seal: Seal, jobs: Receiver<Job>) -> Self {
        Self {
            database,
            seal,
            jobs,
            owes: false,
        }
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self) {
        loop {
            let job = if self.owes {
                self.jobs.recv_timeout(SOON)
            } else {
                self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match job {
                Ok(job) => self.serve(job),
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
    }

    /// Makes durable what is not.
    fn settle(&mut self) {
        if std::mem::take(&mut self.owes)
            && let Err(error) = self.apply(&[], Durability::Now)
        {
            tracing::warn!(%error, "the history was not made durable");
        }
    }

    fn serve(&mut self, job: Job) {
        match job {
            Job::Write {
                pair,
                change,
                reply,
            } => self.write(pair, change, reply),
            Job::State { pair, reply } => reply.say(self.state(&pair)),
            Job::Read {
                pair,
                from,
                until,
                reply,
            } => reply.say(self.read(&pair, from, until)),
            Job::Peers { me, reply } => reply.say(self.peers(me)),
        }
    }

    /// Applies a change and all that wait behind it.
    fn write(&mut self, pair: Pair, change: Change, reply: Reply<()>) {
        let size = |change: &Change| -> usize {
            let lens = change.put.iter().map(|(_, _, record)| record.len());
            lens.sum()
        };
        let mut bytes = size(&change);
        let (mut changes, mut replies, mut next) = (vec![(pair, change)], vec![reply], None);
        while changes.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.jobs.try_recv() {
                Ok(Job::Write {
                    pair,
                    change,
                    reply,
                }) => {
                    bytes += size(&change);
                    changes.push((pair, change));
                    replies.push(reply);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let urgent = |(_, change): &(Pair, Change)| change.durability == Durability::Now;
        let durability = if changes.iter().any(urgent) {
            Durability::Now
        } else {
            Durability::Soon
        };
        let done = self.apply(&changes, durability);
        self.owes = durability == Durability::Soon || (self.owes && done.is_err());
        for reply in replies {
            reply.say(done.clone());
        }
        if let Some(next) = next {
            self.serve(next);
        }
    }

    fn apply(&self, changes: &[(Pair, Change)], durability: Durability) -> Result<()> {
        let mut transaction = self.database.begin_write().map_err(storage("written"))?;
        transaction.set_durability(match durability {
            Durability::Now => Fsync::Immediate,
            Durability::Soon => Fsync::None,
        });
        {
            let mut pairs = transaction.open_table(PAIRS).map_err(storage("written"))?;
            let mut records = transaction
                .open_table(RECORDS)
                .map_err(storage("written"))?;
            let mut states = BTreeMap::new();
            for (pair, change) in changes {
                let name = self.seal.name(pair);
                for range in &change.remove {
                    let range = key(&name, range.start)..key(&name, range.end);
                    records
                        .retain_in(range, |_, _| false)
                        .map_err(storage("written"))?;
                }
                if change.state.is_none() {
                    let all = key(&name, 0)..=key(&name, u64::MAX);
                    records
                        .retain_in(all, |_, _| false)
                        .map_err(storage("written"))?;
                }
                for (position, before, record) in &change.put {
                    let seal = &self.seal;
                    let sealed = seal.seal_record(*position, before, record, &mut OsEntropy);
                    records
                        .insert(key(&name, *position), sealed.as_slice())
                        .map_err(storage("written"))?;
                }
                states.insert(name, (pair, &change.state));
            }
            for (name, (pair, state)) in states {
                match state {
                    Some(state) => {
                        let sealed = self.seal.seal_state(pair, state, &mut OsEntropy);
                        pairs
                            .insert(name, sealed.as_slice())
                            .map_err(storage("written"))?;
                    }
                    None => {
                        pairs.remove(name).map_err(storage("written"))?;
                    }
                }
            }
        }
        transaction.commit().map_err(storage("written"))
    }

    fn state(&self, pair: &Pair) -> Result<Option<State>> {
        let transaction = self.database.begin_read().map_err(storage("read"))?;
        let pairs = transaction.open_table(PAIRS).map_err(storage("read"))?;
        let name = self.seal.name(pair);
        let Some(sealed) = pairs.get(name).map_err(storage("read"))? else {
            return Ok(None);
        };
        let (whose, state) = self.seal.open_state(&name, sealed.value())?;
        if whose != *pair {
            return Err(HistoryError::WrongKeyOrDamaged);
        }
        Ok(Some(state))
    }

    fn read(&self, pair: &Pair, from: Place, until: u64) -> Result<Vec<(u64, Record)>> {
        let mut found = Vec::new();
        if from.position >= until {
            return Ok(found);
        }
        let transaction = self.database.begin_read().map_err(storage("read"))?;
        let records = transaction.open_table(RECORDS).map_err(storage("read"))?;
        let name = self.seal.name(pair);
        let range = key(&name, from.position)..key(&name, until);
        let (mut place, mut bytes) = (from, 0);
        for one in records.range(range).map_err(storage("read"))? {
            let (at, sealed) = one.map_err(storage("read"))?;
            let position = position_of(&at.value());
            let record = self
                .seal
                .open_record(pair, &place, position, sealed.value())?;
            place = place
                .after(position, &record)
                .ok_or(HistoryError::Damaged {
                    position,
                    reason: "it does not follow the one before",
                })?;
            bytes += record.len();
            found.push((position, record));
            if found.len() >= MAX_READ || bytes >= MAX_READ_BYTES {
                break;
            }
        }
        Ok(found)
    }

    fn peers(&self, me: PeerId) -> Result<Vec<PeerId>> {
        let transaction = self.database.begin_read().map_err(storage("read"))?;
        let pairs = transaction.open_table(PAIRS).map_err(storage("read"))?;
        let mut peers = Vec::new();
        for one in pairs.iter().map_err(storage("read"))? {
            let (name, sealed) = one.map_err(storage("read"))?;
            let (pair, _) = self.seal.open_state(&name.value(), sealed.value())?;
            if pair.me == me {
                peers.push(pair.peer);
            }
        }
        peers.sort_unstable();
        Ok(peers)
    }
}

fn key(name: &[u8; 16], position: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(name);
    key[16..].copy_from_slice(&position.to_be_bytes());
    key
}

fn position_of(key: &[u8; 24]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = *key;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
