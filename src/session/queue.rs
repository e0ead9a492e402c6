//! What the handles of a session and its task share: two bounded queues, and what is known of the peer.
//!
//! A lock is held for a few instructions and never across an await. Messages are numbered here, in the order in which
//! they are queued; the machine counts them in the same order.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::{
    error::{CloseCode, Error},
    identity::PeerId,
    message::MessageDirection,
    protocol::Event,
    trust::PeerTrust,
};

/// What a message costs beside its length, in the window's account (protocol rule R-166).
const MESSAGE_COST: usize = 64;
/// Events that wait for the host; the oldest that are not messages go when it never looks.
const MAX_EVENTS: usize = 1_024;

/// What is known of an established session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    pub(super) session: [u8; 16],
    pub(super) direction: MessageDirection,
    pub(super) max_message: usize,
    pub(super) relayed: Option<bool>,
    pub(super) fingerprint_checked: bool,
}

/// From the host to the task.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub(super) queue: Vec<Bytes>,
    /// Number of the next message.
    next: u64,
    /// All below were taken by the peer.
    acked: u64,
    /// Costs of messages that the peer has not taken.
    costs: VecDeque<usize>,
    cost: usize,
    /// What `cost` may reach.
    pub(super) window: usize,
    pub(super) close: Option<(CloseCode, String)>,
    pub(super) trust: Option<PeerTrust>,
    /// Set at the end: what further calls return.
    ended: Option<Error>,
}

/// Something for the host.
#[derive(Debug)]
pub(super) enum Item {
    Event(Event),
    Message { number: u64, body: Bytes },
}

/// From the task to the host.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    queue: VecDeque<Item>,
    /// How many of them are events.
    events: usize,
    /// Messages taken that the task does not know of.
    taken: u64,
    taken_cost: usize,
    /// Whether the task was woken for those.
    told: bool,
    finished: bool,
}

/// Both queues and the signals between their ends.
#[derive(Debug, Default)]
pub(super) struct Shared {
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    facts: Mutex<Option<Facts>>,
    /// The task has something to do.
    pub(super) wake: Notify,
    /// Messages were acknowledged, or the session ended: room in the window.
    pub(super) acked: Notify,
    /// Something waits for the host.
    pub(super) arrived: Notify,
}

/// The state behind a lock is valid whatever the holder was doing when it panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host's side.
impl Shared {
    pub(super) fn facts(&self) -> Option<Facts> {
        *lock(&self.facts)
    }

    /// Queues a message if the window has room for it: its number.
    pub(super) fn push(&self, body: &Bytes) -> Result<Option<u64>, Error> {
        let mut outgoing = lock(&self.outgoing);
        if let Some(error) = &outgoing.ended {
            return Err(error.clone());
        }
        if outgoing.close.is_some() {
            return Err(Error::Closed {
                code: CloseCode::NORMAL,
                reason: "this side closed the session".into(),
            });
        }
        let cost = body.len() + MESSAGE_COST;
        if outgoing.cost + cost > outgoing.window {
            return Ok(None);
        }
        let number = outgoing.next;
        outgoing.next += 1;
        outgoing.cost += cost;
        outgoing.costs.push_back(cost);
        let first = outgoing.queue.is_empty();
        outgoing.queue.push(body.clone());
        drop(outgoing);
        if first {
            self.wake.notify_one();
        }
        Ok(Some(number))
    }

    /// Whether the peer took the message; an error once it never will have.
    pub(super) fn is_delivered(&self, number: u64) -> Result<bool, Error> {
        let outgoing = lock(&self.outgoing);
        if number < outgoing.acked {
            return Ok(true);
        }
        match &outgoing.ended {
            Some(error) => Err(error.clone()),
            None => Ok(false),
        }
    }

    pub(super) fn close(&self, code: CloseCode, reason: String) {
        lock(&self.outgoing).close.get_or_insert((code, reason));
        self.wake.notify_one();
    }

    pub(super) fn set_trust(&self, trust: PeerTrust) {
        if let Some(facts) = lock(&self.facts).as_mut() {
            facts.trust = trust;
        }
        lock(&self.outgoing).trust = Some(trust);
        self.wake.notify_one();
        self.arrived.notify_waiters();
    }

    /// The next item; messages only where they may be seen. The second value: the session is over and all is taken.
    pub(super) fn take(&self, messages: bool) -> (Option<Item>, bool) {
        let mut incoming = lock(&self.incoming);
        let at = incoming
            .queue
            .iter()
            .position(|item| messages || matches!(item, Item::Event(_)));
        let Some(item) = at.and_then(|at| incoming.queue.remove(at)) else {
            return (None, incoming.finished);
        };
        let Item::Message { body, .. } = &item else {
            incoming.events -= 1;
            return (Some(item), false);
        };
        incoming.taken += 1;
        incoming.taken_cost += body.len() + MESSAGE_COST;
        // The task acknowledges a few milliseconds later whatever was taken until then; a large amount at once.
        let wake = !incoming.told || incoming.taken_cost > 256 << 10;
        incoming.told = true;
        if wake {
            drop(incoming);
            self.wake.notify_one();
        }
        (Some(item), false)
    }

    pub(super) fn ended(&self) -> Option<Error> {
        lock(&self.outgoing).ended.clone()
    }

    /// Messages that the peer did not confirm.
    pub(super) fn unacked(&self) -> u64 {
        let outgoing = lock(&self.outgoing);
        outgoing.next - outgoing.acked
    }

    pub(super) fn is_finished(&self) -> bool {
        lock(&self.incoming).finished
    }
}

/// The task's side.
impl Shared {
    pub(super) fn set_facts(&self, facts: Facts, window: usize) {
        *lock(&self.facts) = Some(facts);
        lock(&self.outgoing).window = window;
    }

    /// What the host queued since the last time, into `bodies`; its close and its trust.
    pub(super) fn collect(
        &self,
        bodies: &mut Vec<Bytes>,
    ) -> (Option<(CloseCode, String)>, Option<PeerTrust>) {
        let mut outgoing = lock(&self.outgoing);
        std::mem::swap(&mut outgoing.queue, bodies);
        (outgoing.close.clone(), outgoing.trust.take())
    }

    /// Messages taken since the last time.
    pub(super) fn collect_taken(&self) -> u64 {
        let mut incoming = lock(&self.incoming);
        incoming.taken_cost = 0;
        std::mem::take(&mut incoming.taken)
    }

    /// Drops the messages that the host has not taken; they come again. Those taken since the last time are counted.
    pub(super) fn discard(&self) -> u64 {
        let mut incoming = lock(&self.incoming);
        incoming.queue.retain(|item| matches!(item, Item::Event(_)));
        incoming.taken_cost = 0;
        std::mem::take(&mut incoming.taken)
    }

    /// No acknowledgement is due: the next message taken wakes the task, as does one that was taken meanwhile.
    pub(super) fn rearm_taken(&self) {
        let mut incoming = lock(&self.incoming);
        incoming.told = incoming.taken > 0;
        if incoming.told {
            self.wake.notify_one();
        }
    }

    pub(super) fn acknowledge(&self, next: u64) {
        let mut outgoing = lock(&self.outgoing);
        let news = usize::try_from(next.saturating_sub(outgoing.acked)).unwrap_or(usize::MAX);
        let count = news.min(outgoing.costs.len());
        let cost: usize = outgoing.costs.drain(..count).sum();
        outgoing.cost -= cost;
        outgoing.acked = next;
        drop(outgoing);
        self.acked.notify_waiters();
    }

    pub(super) fn deliver(&self, items: &mut Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut incoming = lock(&self.incoming);
        incoming.events += items
            .iter()
            .filter(|item| matches!(item, Item::Event(_)))
            .count();
        incoming.queue.extend(items.drain(..));
        while incoming.events > MAX_EVENTS
            && let Some(oldest) = incoming
                .queue
                .iter()
                .position(|item| matches!(item, Item::Event(_)))
        {
            incoming.queue.remove(oldest);
            incoming.events -= 1;
        }
        drop(incoming);
        self.arrived.notify_waiters();
    }

    /// Calls fail from here on; what was delivered can still be taken.
    pub(super) fn end(&self, error: Error) {
        lock(&self.outgoing).ended.get_or_insert(error);
        self.acked.notify_waiters();
    }

    /// The task is gone.
    pub(super) fn finish(&self) {
        lock(&self.incoming).finished = true;
        self.arrived.notify_waiters();
        self.acked.notify_waiters();
    }
}
