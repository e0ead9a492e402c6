//! A history that lives as long as the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Answer, Change, History, Pair, Place, Record, State};
use crate::identity::PeerId;

/// A history in memory: for tests, and for hosts that want chains without a file. Cheap to clone; all clones are the
/// same.
#[derive(Debug, Clone, Default)]
pub struct MemoryHistory {
    pairs: Arc<Mutex<BTreeMap<Pair, Kept>>>,
}

#[derive(Debug, Clone)]
struct Kept {
    state: State,
    records: BTreeMap<u64, Record>,
}

/// Records given at a time.
const CHUNK: usize = 64;

impl MemoryHistory {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<Pair, Kept>) -> T) -> T {
        // What a panicking holder left is whole: every change is applied by infallible steps.
        work(&mut self.pairs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the stored records behind the back of everybody, as an attacker would.
    #[doc(hidden)]
    pub fn tamper(&self, pair: Pair, work: impl FnOnce(&mut BTreeMap<u64, Record>)) {
        self.with(|pairs| {
            if let Some(kept) = pairs.get_mut(&pair) {
                work(&mut kept.records);
            }
        });
    }
}

fn answer<T: Send + 'static>(value: T) -> Answer<T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl History for MemoryHistory {
    fn state(&self, pair: Pair) -> Answer<Option<State>> {
        answer(self.with(|pairs| pairs.get(&pair).map(|kept| kept.state.clone())))
    }

    fn read(&self, pair: Pair, from: Place, until: u64) -> Answer<Vec<(u64, Record)>> {
        if from.position >= until {
            return answer(Vec::new());
        }
        answer(self.with(|pairs| {
            let records = pairs.get(&pair).map(|kept| &kept.records);
            let found = records.into_iter().flat_map(|records| {
                let range = records.range(from.position..until);
                range.map(|(position, record)| (*position, record.clone()))
            });
            found.take(CHUNK).collect()
        }))
    }

    fn write(&self, pair: Pair, change: Change) -> Answer<()> {
        self.with(|pairs| {
            let Some(state) = change.state else {
                pairs.remove(&pair);
                return;
            };
            let kept = pairs.entry(pair).or_insert_with(|| Kept {
                state: state.clone(),
                records: BTreeMap::new(),
            });
            kept.state = state;
            for range in change.remove {
                let gone: Vec<u64> = kept.records.range(range).map(|(at, _)| *at).collect();
                for position in gone {
                    kept.records.remove(&position);
                }
            }
            let put = change.put.into_iter();
            kept.records
                .extend(put.map(|(position, _, record)| (position, record)));
        });
        answer(())
    }

    fn peers(&self, me: PeerId) -> Answer<Vec<PeerId>> {
        answer(self.with(|pairs| {
            let pairs = pairs.keys().filter(|pair| pair.me == me);
            pairs.map(|pair| pair.peer).collect()
        }))
    }
}
