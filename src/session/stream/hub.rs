//! What all streams of a session share: the machine, what waits for the host, and the loop that carries messages
//! between the machine and the channel.
//!
//! The lock is held for a few instructions and never across an await. The loop runs in the session's own task, so that
//! the channel does not change while it looks; handles run anywhere.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    StreamError, StreamLimits,
    waiting::{Given, Taken},
};
#[cfg(not(target_arch = "wasm32"))]
use crate::shell::Home;
use crate::{
    session::{lanes::STREAMS, queue::Shared},
    stream::{DATA_OVERHEAD, Event, GivenId, Kind, MAX_STREAMS, Machine, Offer, Reason, TakenId},
    trust::MinTrust,
};

/// A stream, and in which of the sessions that followed each other: after the peer was restarted its number means
/// another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<T> {
    pub(super) id: T,
    era: u64,
}

/// The streams of a session.
#[derive(Debug)]
pub(in crate::session) struct Hub {
    shared: Arc<Shared>,
    required: MinTrust,
    limits: StreamLimits,
    inner: Mutex<Inner>,
    /// An offer waits, or there will be none.
    offered: Notify,
    /// Where the session's task runs.
    #[cfg(not(target_arch = "wasm32"))]
    home: std::sync::OnceLock<Home>,
}

#[derive(Debug, Default)]
struct Inner {
    machine: Machine,
    /// Of which session the machine's streams are.
    session: Option<[u8; 16]>,
    era: u64,
    /// What the channel had no room for.
    unsent: Option<Bytes>,
    offers: VecDeque<(TakenId, Offer)>,
    given: BTreeMap<GivenId, Given>,
    taken: BTreeMap<TakenId, Taken>,
    /// Why there are no streams any more.
    over: Option<StreamError>,
    /// Whoever is to be woken once the lock is free.
    wakers: Vec<Waker>,
}

impl Hub {
    pub(in crate::session) fn new(
        shared: Arc<Shared>,
        required: MinTrust,
        limits: StreamLimits,
    ) -> Self {
        Self {
            shared,
            required,
            limits,
            inner: Mutex::default(),
            offered: Notify::new(),
            #[cfg(not(target_arch = "wasm32"))]
            home: std::sync::OnceLock::new(),
        }
    }

    /// Carries messages until the session is over.
    pub(in crate::session) async fn run(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        self.home.get_or_init(Home::here);
        loop {
            let arrived = self.shared.arrived(STREAMS).notified();
            let acked = self.shared.acked.notified();
            let finished = self.shared.is_finished();
            self.turn();
            if finished {
                let mut inner = self.lock();
                let over = self.session_error();
                inner.over.get_or_insert(over);
                self.offered.notify_waiters();
                return self.release(inner, true);
            }
            tokio::select! {
                () = arrived => {}
                () = acked => {}
            }
        }
    }

    /// Runs what only carries bytes beside the session's task.
    #[cfg(not(target_arch = "wasm32"))]
    pub(in crate::session) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match self.home.get() {
            Some(home) => home.spawn(future),
            None => crate::shell::spawn(future),
        }
    }

    /// Takes in what came, sends what waits, and wakes whoever can go on.
    fn turn(&self) {
        let mut inner = self.lock();
        self.follow_session(&mut inner);
        if self.is_trusted() {
            while let (Some((_, body)), _) = self.shared.take_from(STREAMS) {
                self.receive(&mut inner, &body);
            }
        }
        self.flush(&mut inner);
        let room = inner.unsent.is_none() && self.has_room(self.max_message());
        let ended = self.shared.ended().is_some();
        let Inner {
            given,
            machine,
            wakers,
            ..
        } = &mut *inner;
        for (id, given) in given {
            if room && given.waker.is_some() && machine.sendable(*id) > 0 {
                wakers.extend(given.waker.take());
            }
        }
        self.release(inner, ended);
    }

    /// After the peer was restarted all streams begin anew (S-28).
    fn follow_session(&self, inner: &mut Inner) {
        let Some(facts) = self.shared.facts() else {
            return;
        };
        if inner.session == Some(facts.session) {
            return;
        }
        if inner.session.replace(facts.session).is_some() {
            inner.era += 1;
            inner.wake_all();
            inner.machine = Machine::default();
            inner.unsent = None;
            inner.over = None;
            inner.offers.clear();
            inner.given.clear();
            inner.taken.clear();
        }
        if facts.live & (1 << STREAMS) == 0 {
            inner.over = Some(StreamError::NotSupported);
            self.offered.notify_waiters();
        }
    }

    fn receive(&self, inner: &mut Inner, body: &Bytes) {
        let mut events = Vec::new();
        if let Err(violation) = inner.machine.receive(body, &mut events) {
            tracing::warn!(%violation, "the peer broke a rule of streams");
            inner.over = Some(violation.into());
            inner.wake_all();
            self.offered.notify_waiters();
        }
        for event in events {
            self.on_event(inner, event);
        }
    }

    fn on_event(&self, inner: &mut Inner, event: Event) {
        match event {
            Event::Offered(id, offer) => {
                let size = offer.size.unwrap_or_default();
                if offer.kind == Kind::File && size > self.limits.max_file {
                    return inner.machine.stop(id, Reason::TooLarge);
                }
                inner.taken.insert(id, Taken::default());
                inner.offers.push_back((id, offer));
                self.offered.notify_waiters();
            }
            Event::Accepted { id, offset, prefix } => {
                inner.tell_giver(id, |given| given.accepted = Some((offset, prefix)));
            }
            Event::Credit(id) => inner.tell_giver(id, |_| {}),
            Event::Stopped(id, reason) => inner.tell_giver(id, |given| {
                given.outcome = Some(Err(StreamError::stopped(reason)));
            }),
            Event::Done(id) => inner.tell_giver(id, |given| given.outcome = Some(Ok(()))),
            Event::Began(id, offset) => inner.tell_taker(id, |taken| taken.began = Some(offset)),
            Event::Data(id, bytes) => inner.tell_taker(id, |taken| taken.push(bytes)),
            Event::Ended(id, hash) => inner.tell_taker(id, |taken| taken.ended = Some(hash)),
            Event::Aborted(id, reason) => {
                if let Some(at) = inner.offers.iter().position(|(offer, _)| *offer == id) {
                    inner.offers.remove(at);
                    inner.taken.remove(&id);
                }
                inner.tell_taker(id, |taken| {
                    taken.failed = Some(StreamError::Ended(reason));
                });
            }
            Event::Faulted => {
                inner.over = Some(StreamError::Faulted);
                inner.wake_all();
                self.offered.notify_waiters();
            }
        }
    }

    /// Hands over what the machine says, as far as the channel has room.
    fn flush(&self, inner: &mut Inner) {
        let Some(session) = inner.session.filter(|_| self.is_trusted()) else {
            return;
        };
        while let Some(message) = inner.unsent.take().or_else(|| inner.machine.next_message()) {
            if !self.shared.push_in(&session, STREAMS, &message) {
                inner.unsent = Some(message);
                return;
            }
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.shared.has_room(STREAMS, bytes)
    }

    /// Bytes of content that fill one frame.
    pub(super) fn frame_content(&self) -> usize {
        self.max_message().saturating_sub(DATA_OVERHEAD)
    }

    /// What one frame carries: a longer message would be split.
    fn max_message(&self) -> usize {
        self.shared.facts().map_or(0, |facts| facts.max_datagram)
    }

    fn is_trusted(&self) -> bool {
        let facts = self.shared.facts();
        facts.is_some_and(|facts| facts.trust.meets(self.required))
    }

    fn session_error(&self) -> StreamError {
        let ended = self.shared.ended();
        ended.map_or(StreamError::Cancelled, StreamError::Session)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back, and wakes whoever waits for what was done under it.
    fn release(&self, mut inner: MutexGuard<'_, Inner>, all: bool) {
        if all {
            inner.wake_all();
        }
        let wakers = std::mem::take(&mut inner.wakers);
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// What hosts give.
impl Hub {
    /// Why nothing can be offered.
    pub(in crate::session) fn check(&self) -> Result<(), StreamError> {
        let mut inner = self.lock();
        self.follow_session(&mut inner);
        self.check_session(&inner)
    }

    pub(super) fn offer(&self, offer: Offer) -> Result<Key<GivenId>, StreamError> {
        if !offer.is_valid() {
            return Err(StreamError::InvalidOffer);
        }
        let mut inner = self.lock();
        self.follow_session(&mut inner);
        self.check_session(&inner)?;
        let id = inner
            .machine
            .offer(offer)
            .map_err(|_| StreamError::TooMany { max: MAX_STREAMS })?;
        inner.given.insert(id, Given::default());
        self.flush(&mut inner);
        Ok(Key { id, era: inner.era })
    }

    /// Waits until the peer takes the stream: how many bytes it has, and their hash.
    pub(super) fn poll_accepted(
        &self,
        key: Key<GivenId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(u64, [u8; 32]), StreamError>> {
        self.poll_given(key, cx, |given| given.accepted.take())
    }

    /// Waits until the peer has all of the stream.
    pub(super) fn poll_done(
        &self,
        key: Key<GivenId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamError>> {
        self.poll_given(key, cx, |given| {
            matches!(given.outcome, Some(Ok(()))).then_some(())
        })
    }

    fn poll_given<T>(
        &self,
        key: Key<GivenId>,
        cx: &mut Context<'_>,
        look: impl FnOnce(&mut Given) -> Option<T>,
    ) -> Poll<Result<T, StreamError>> {
        let mut inner = self.lock();
        let given = match inner.given(key) {
            Ok(given) => given,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(found) = look(given) {
            return Poll::Ready(Ok(found));
        }
        if let Some(Err(error)) = &given.outcome {
            return Poll::Ready(Err(error.clone()));
        }
        given.waker = Some(cx.waker().clone());
        match self.check_session(&inner) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    pub(super) fn begin(&self, key: Key<GivenId>, offset: u64) -> Result<(), StreamError> {
        self.with_given(key, |machine| machine.begin(key.id, offset))
    }

    pub(super) fn end(&self, key: Key<GivenId>, hash: [u8; 32]) -> Result<(), StreamError> {
        self.with_given(key, |machine| machine.end(key.id, hash))
    }

    /// Does what may not be possible any more: the peer turned away meanwhile.
    fn with_given(
        &self,
        key: Key<GivenId>,
        act: impl FnOnce(&mut Machine) -> bool,
    ) -> Result<(), StreamError> {
        let mut inner = self.lock();
        let given = inner.given(key)?;
        if let Some(Err(error)) = &given.outcome {
            return Err(error.clone());
        }
        self.check_session(&inner)?;
        if !act(&mut inner.machine) {
            return Err(StreamError::Cancelled);
        }
        self.flush(&mut inner);
        Ok(())
    }

    /// Sends the first of these bytes, as many as fit one message: how many.
    pub(super) fn poll_write(
        &self,
        key: Key<GivenId>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        let mut inner = self.lock();
        if let Some(Err(error)) = &inner.given(key)?.outcome {
            return Poll::Ready(Err(error.clone()));
        }
        self.check_session(&inner)?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.flush(&mut inner);
        let max = self.max_message();
        let room = inner.unsent.is_none() && self.is_trusted() && self.has_room(max);
        if room && let Some((message, len)) = inner.machine.data(key.id, bytes, max) {
            // It goes out next, if not now.
            inner.unsent = Some(message);
            self.flush(&mut inner);
            return Poll::Ready(Ok(len));
        }
        inner.given(key)?.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Gives the stream up, unless it is past its end.
    pub(super) fn abort(&self, key: Key<GivenId>, reason: Reason) {
        let mut inner = self.lock();
        if inner.era == key.era {
            inner.machine.abort(key.id, reason);
            self.flush(&mut inner);
        }
    }

    /// The host is done with a stream: what is not at its end is given up.
    pub(super) fn drop_given(&self, key: Key<GivenId>) {
        self.abort(key, Reason::Cancelled);
        let mut inner = self.lock();
        if inner.era == key.era {
            inner.given.remove(&key.id);
        }
    }
}

/// What hosts take.
impl Hub {
    /// The next offer; `None` once there will be none.
    pub(super) async fn next_offer(&self) -> Option<(Key<TakenId>, Offer)> {
        loop {
            let offered = self.offered.notified();
            {
                let mut inner = self.lock();
                self.follow_session(&mut inner);
                let era = inner.era;
                if let Some((id, offer)) = inner.offers.pop_front() {
                    return Some((Key { id, era }, offer));
                }
                if self.check_session(&inner).is_err() {
                    return None;
                }
            }
            offered.await;
        }
    }

    /// Takes a stream of which so many bytes with this hash are here.
    pub(super) fn accept(
        &self,
        key: Key<TakenId>,
        here: (u64, [u8; 32]),
    ) -> Result<(), StreamError> {
        let mut inner = self.lock();
        if let Some(error) = &inner.taken(key)?.failed {
            return Err(error.clone());
        }
        self.check_session(&inner)?;
        let window = u64::from(self.limits.window);
        if !inner.machine.accept(key.id, here, window) {
            return Err(StreamError::Answered);
        }
        inner.taken(key)?.accepted = true;
        self.flush(&mut inner);
        Ok(())
    }

    /// Waits for the offset at which the content starts.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "files need it"))]
    pub(super) fn poll_began(
        &self,
        key: Key<TakenId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<u64, StreamError>> {
        self.poll_taken(key, cx, |taken| taken.began.take())
    }

    /// Waits for the next bytes; `Err` holds the hash of the whole at the end. What is returned counts as taken.
    pub(super) fn poll_chunk(
        &self,
        key: Key<TakenId>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Bytes, [u8; 32]>, StreamError>> {
        let polled = self.poll_taken(key, cx, Taken::pop);
        if let Poll::Ready(Ok(Ok(chunk))) = &polled {
            let mut inner = self.lock();
            if inner.era == key.era {
                inner.machine.consume(key.id, chunk.len() as u64);
                self.flush(&mut inner);
            }
        }
        polled
    }

    fn poll_taken<T>(
        &self,
        key: Key<TakenId>,
        cx: &mut Context<'_>,
        look: impl FnOnce(&mut Taken) -> Option<T>,
    ) -> Poll<Result<T, StreamError>> {
        let mut inner = self.lock();
        let taken = match inner.taken(key) {
            Ok(taken) => taken,
            Err(error) => return Poll::Ready(Err(error)),
        };
        if let Some(found) = look(taken) {
            return Poll::Ready(Ok(found));
        }
        if let Some(error) = &taken.failed {
            return Poll::Ready(Err(error.clone()));
        }
        taken.waker = Some(cx.waker().clone());
        match self.check_session(&inner) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Says that all of it is here.
    pub(super) fn done(&self, key: Key<TakenId>) -> Result<(), StreamError> {
        let mut inner = self.lock();
        inner.taken(key)?;
        self.check_session(&inner)?;
        if !inner.machine.done(key.id) {
            return Err(StreamError::Cancelled);
        }
        self.flush(&mut inner);
        Ok(())
    }

    /// Wants no more of it, unless all of it is here.
    pub(super) fn stop(&self, key: Key<TakenId>, reason: Reason) {
        let mut inner = self.lock();
        if inner.era == key.era {
            inner.machine.stop(key.id, reason);
            self.flush(&mut inner);
        }
    }

    /// The host is done with a stream: what is not whole is not wanted any more, or never was.
    pub(super) fn drop_taken(&self, key: Key<TakenId>) {
        let mut inner = self.lock();
        if inner.era == key.era
            && let Some(taken) = inner.taken.remove(&key.id)
        {
            let reason = match taken.accepted {
                true => Reason::Cancelled,
                false => Reason::Refused,
            };
            inner.machine.stop(key.id, reason);
            self.flush(&mut inner);
        }
    }

    /// Why nothing can be done with streams now.
    fn check_session(&self, inner: &Inner) -> Result<(), StreamError> {
        match (&inner.over, self.shared.ended()) {
            (Some(over), _) => Err(over.clone()),
            (None, Some(error)) => Err(StreamError::Session(error)),
            (None, None) => Ok(()),
        }
    }
}

impl Inner {
    fn given(&mut self, key: Key<GivenId>) -> Result<&mut Given, StreamError> {
        let given = self.given.get_mut(&key.id).filter(|_| key.era == self.era);
        given.ok_or(StreamError::Reset)
    }

    fn taken(&mut self, key: Key<TakenId>) -> Result<&mut Taken, StreamError> {
        let taken = self.taken.get_mut(&key.id).filter(|_| key.era == self.era);
        taken.ok_or(StreamError::Reset)
    }

    fn tell_giver(&mut self, id: GivenId, tell: impl FnOnce(&mut Given)) {
        if let Some(given) = self.given.get_mut(&id) {
            tell(given);
            self.wakers.extend(given.waker.take());
        }
    }

    fn tell_taker(&mut self, id: TakenId, tell: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.taken.get_mut(&id) {
            tell(taken);
            self.wakers.extend(taken.waker.take());
        }
    }

    fn wake_all(&mut self) {
        let given = self.given.values_mut().filter_map(|one| one.waker.take());
        let taken = self.taken.values_mut().filter_map(|one| one.waker.take());
        self.wakers.extend(given.chain(taken));
    }
}
