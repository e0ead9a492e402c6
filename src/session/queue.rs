//! What the handles of a session and its task share: bounded queues, and what is known of the peer.
//!
//! A lock is held for a few instructions and never across an await. Messages are numbered here, in the order in which
//! they are queued; the machine counts them in the same order.

mod acquaintance;
mod former;
mod streams;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::{
    acquaintance::Overture,
    diagnosis::Fault,
    lanes::{CHANNELS, InLane, MAIN, MESSAGE_COST, OutLane},
    lifecycle::{Asked, State, Wish},
};
use crate::{
    crypto::secret::Secret,
    error::{CloseCode, Error},
    identity::PeerId,
    message::{MessageDirection, MessageId},
    protocol::Event,
    trust::PeerTrust,
    verify::ShortCode,
};

/// Events that wait for the host; beyond, the least important go.
const MAX_EVENTS: usize = 1_024;
/// Sessions before a reset of which is known what the peer took.
const MAX_FORMER: usize = 16;
/// Messages taken are reported to the task at once when they cost this much.
const TAKEN_BURST: usize = 256 << 10;

/// What is known of an established session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    pub(super) session: [u8; 16],
    pub(super) direction: MessageDirection,
    pub(super) max_message: usize,
    pub(super) max_datagram: usize,
    /// The channels that both sides declared alike: bit `n` for channel `n`.
    pub(super) live: u16,
    pub(super) relayed: Option<bool>,
    pub(super) fingerprint_checked: bool,
}

/// Whose messages they are, and which direction is ours.
pub(super) type Owner = ([u8; 16], MessageDirection);

/// What became of a session that the peer forgot when it was restarted.
#[derive(Debug)]
struct Former {
    /// As message ids name it.
    session: [u8; 8],
    /// The messages that the peer took, by channel number.
    acked: [u64; CHANNELS],
    unacked: u64,
}

/// From the host to the task.
#[derive(Debug, Default)]
struct Outgoing {
    /// Whose messages these are, once known.
    session: Option<([u8; 16], MessageDirection)>,
    former: VecDeque<Former>,
    /// By channel number.
    lanes: [OutLane; CHANNELS],
    /// What the cost of one lane may reach.
    window: usize,
    close: Option<(CloseCode, String)>,
    trust: Option<PeerTrust>,
    wishes: Vec<Asked>,
    overtures: Vec<Overture>,
    /// The code that was shown last.
    short_code: Option<ShortCode>,
    /// What both sides agreed to meet by.
    contact: Option<Secret>,
    /// What the history kept for the session that begins.
    first: Vec<Bytes>,
    state: State,
    /// Set at the end: what further calls return.
    ended: Option<Error>,
}

/// What the task found when it looked. It is reused, so that the queues keep their memory.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// By channel number.
    pub(super) bodies: [VecDeque<Bytes>; CHANNELS],
    pub(super) close: Option<(CloseCode, String)>,
    pub(super) trust: Option<PeerTrust>,
    pub(super) wishes: Vec<Asked>,
    pub(super) overtures: Vec<Overture>,
}

/// Something for the host.
#[derive(Debug)]
pub(super) enum Item {
    Event(Event),
    Message {
        channel: u8,
        number: u64,
        body: Bytes,
        /// The session that it came in, if another has taken its place.
        former: Option<Owner>,
    },
    Datagram {
        channel: u8,
        body: Bytes,
    },
}

/// From the task to the host.
#[derive(Debug, Default)]
struct Incoming {
    /// Events, and the messages of the main channel among them.
    queue: VecDeque<Item>,
    /// How many of them are events.
    events: usize,
    /// By channel number.
    lanes: [InLane; CHANNELS],
    taken_cost: usize,
    /// Whether the task was woken for messages taken.
    told: bool,
    finished: bool,
}

/// Both queues and the signals between their ends.
#[derive(Debug, Default)]
pub(super) struct Shared {
    outgoing: Mutex<Outgoing>,
    incoming: Mutex<Incoming>,
    facts: Mutex<Option<Facts>>,
    pub(super) fault: Fault,
    /// The task has something to do.
    pub(super) wake: Notify,
    /// Messages were acknowledged, or the session ended: room in the window.
    pub(super) acked: Notify,
    /// Something waits for the host, by channel number.
    arrived: [Notify; CHANNELS],
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

    /// Queues a message if the channel's window has room for it: its id.
    pub(super) fn push(&self, channel: u8, body: &Bytes) -> Result<Option<MessageId>, Error> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.check_open()?;
        let window = outgoing.window;
        let Some((session, direction)) = outgoing.session else {
            return Ok(None);
        };
        let lane = outgoing.lane(channel);
        let first = lane.queue.is_empty();
        let Some(number) = lane.push(body, window) else {
            return Ok(None);
        };
        drop(outgoing);
        if first {
            self.wake.notify_one();
        }
        Ok(Some(MessageId::new(&session, direction, channel, number)))
    }

    /// Queues a message of a lossy channel. Without a transport it is lost at once.
    pub(super) fn push_datagram(&self, channel: u8, body: Bytes) -> Result<(), Error> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.check_open()?;
        if outgoing.state != State::Connected {
            return Ok(());
        }
        let lane = outgoing.lane(channel);
        let first = lane.queue.is_empty();
        lane.push_datagram(body);
        drop(outgoing);
        if first {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Whether the peer took the message; an error once it never will have.
    pub(super) fn is_delivered(&self, id: MessageId) -> Result<bool, Error> {
        let mut outgoing = lock(&self.outgoing);
        let (channel, number) = (id.channel(), id.number());
        if !outgoing.is_of_this_session(id) {
            let former = outgoing.former.iter();
            let former = former.rev().find(|former| former.session == id.session());
            let taken = former.is_some_and(|former| number < former.acked[index(channel)]);
            let unacked = former.map_or(0, |former| former.unacked);
            return taken.then_some(true).ok_or(Error::SessionReset { unacked });
        }
        if outgoing.lane(channel).is_delivered(number) {
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
        self.notify_arrived(u16::MAX);
    }

    /// Asks the task for something; what is returned resolves when it is done, and fails when the session ends first.
    pub(super) fn ask(&self, wish: Wish) -> Result<oneshot::Receiver<()>, Error> {
        let mut outgoing = lock(&self.outgoing);
        outgoing.check_open()?;
        let (done, answer) = oneshot::channel();
        outgoing.wishes.push(Asked { wish, done });
        drop(outgoing);
        self.wake.notify_one();
        Ok(answer)
    }

    pub(super) fn state(&self) -> State {
        let outgoing = lock(&self.outgoing);
        match &outgoing.ended {
            Some(_) => State::Ended,
            None => outgoing.state,
        }
    }

    /// Something for the host may have come on this channel.
    pub(super) fn arrived(&self, channel: u8) -> &Notify {
        &self.arrived[index(channel)]
    }

    /// The next item of the main channel; messages only where they may be seen. The second value: the session is over
    /// and all is taken.
    pub(super) fn take(&self, messages: bool) -> (Option<Item>, bool) {
        let mut incoming = lock(&self.incoming);
        let at = incoming
            .queue
            .iter()
            .position(|item| messages || matches!(item, Item::Event(_)));
        let Some(item) = at.and_then(|at| incoming.queue.remove(at)) else {
            return (None, incoming.finished);
        };
        let Item::Message {
            channel,
            body,
            former,
            ..
        } = &item
        else {
            incoming.events -= 1;
            return (Some(item), false);
        };
        if former.is_none() && incoming.note_taken(*channel, body.len()) {
            drop(incoming);
            self.wake.notify_one();
        }
        (Some(item), false)
    }

    /// The next message of another reliable channel, with its number. The second value as in [`Shared::take`].
    pub(super) fn take_from(&self, channel: u8) -> (Option<(u64, Bytes)>, bool) {
        let mut incoming = lock(&self.incoming);
        let is_former = incoming.lane(channel).is_former();
        let Some((number, body)) = incoming.lane(channel).pop() else {
            return (None, incoming.finished);
        };
        if !is_former && incoming.note_taken(channel, body.len()) {
            drop(incoming);
            self.wake.notify_one();
        }
        (Some((number, body)), false)
    }

    /// The next message of a lossy channel. The second value as in [`Shared::take`].
    pub(super) fn take_datagram(&self, channel: u8) -> (Option<Bytes>, bool) {
        let mut incoming = lock(&self.incoming);
        match incoming.lane(channel).pop_datagram() {
            Some(body) => (Some(body), false),
            None => (None, incoming.finished),
        }
    }

    pub(super) fn ended(&self) -> Option<Error> {
        lock(&self.outgoing).ended.clone()
    }

    /// Messages that the peer did not confirm.
    pub(super) fn unacked(&self) -> u64 {
        lock(&self.outgoing)
            .lanes
            .iter()
            .map(OutLane::unacked)
            .sum()
    }

    pub(super) fn is_finished(&self) -> bool {
        lock(&self.incoming).finished
    }
}

/// The task's side.
impl Shared {
    /// The session is established, for the first time or anew: what was on its way before is not any more.
    /// With a history, what the task had not seen of it goes over to the new session.
    pub(super) fn set_facts(&self, facts: Facts, window: usize, keeps: bool) {
        *lock(&self.facts) = Some(facts);
        let mut outgoing = lock(&self.outgoing);
        let session = (facts.session, facts.direction);
        let mut first = std::mem::take(&mut outgoing.first);
        if let Some((former, _)) = outgoing.session.filter(|former| *former != session) {
            let unseen = outgoing.reset(former);
            first.extend(unseen.into_iter().filter(|_| keeps));
        }
        (outgoing.session, outgoing.window) = (Some(session), window);
        for body in &first {
            outgoing.lane(MAIN).push(body, usize::MAX);
        }
        drop(outgoing);
        if !first.is_empty() {
            self.wake.notify_one();
        }
        self.acked.notify_waiters();
    }

    /// What the history kept for the session that is about to begin: it goes before all that the host sends in it.
    pub(super) fn send_first(&self, bodies: Vec<Bytes>) {
        lock(&self.outgoing).first = bodies;
    }

    /// The session goes on over another transport.
    pub(super) fn set_path(&self, relayed: Option<bool>, fingerprint_checked: bool) {
        if let Some(facts) = lock(&self.facts).as_mut() {
            (facts.relayed, facts.fingerprint_checked) = (relayed, fingerprint_checked);
        }
    }

    pub(super) fn set_state(&self, state: State) {
        lock(&self.outgoing).state = state;
    }

    /// What the host asked for since the last time, with or without messages. A close is told again and again.
    pub(super) fn collect(&self, collected: &mut Collected, messages: bool) {
        let mut outgoing = lock(&self.outgoing);
        let lanes = outgoing.lanes.iter_mut().zip(&mut collected.bodies);
        for (lane, bodies) in lanes.filter(|(lane, _)| messages && !lane.queue.is_empty()) {
            lane.swap(bodies);
        }
        collected.close.clone_from(&outgoing.close);
        collected.trust = outgoing.trust.take();
        collected.wishes.append(&mut outgoing.wishes);
        collected.overtures.append(&mut outgoing.overtures);
    }

    /// Messages of each channel taken since the last time, by channel number.
    pub(super) fn collect_taken(&self) -> [u64; CHANNELS] {
        lock(&self.incoming).collect_taken()
    }

    /// Drops the messages that the host has not taken; they come again. Those taken since the last time are counted, by
    /// channel number.
    pub(super) fn discard(&self) -> [u64; CHANNELS] {
        let mut incoming = lock(&self.incoming);
        let stays = |item: &Item| match item {
            Item::Event(_) => true,
            Item::Message { former, .. } => former.is_some(),
            Item::Datagram { .. } => false,
        };
        incoming.queue.retain(stays);
        incoming.lanes.iter_mut().for_each(InLane::clear);
        incoming.collect_taken()
    }

    /// No acknowledgement is due: the next message taken wakes the task, as does one that was taken meanwhile.
    pub(super) fn rearm_taken(&self) {
        let mut incoming = lock(&self.incoming);
        incoming.told = incoming.lanes.iter().any(|lane| lane.taken > 0);
        if incoming.told {
            self.wake.notify_one();
        }
    }

    pub(super) fn acknowledge(&self, channel: u8, next: u64) {
        lock(&self.outgoing).lane(channel).acknowledge(next);
        self.acked.notify_waiters();
    }

    pub(super) fn deliver(&self, items: &mut Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut touched = 0;
        let mut incoming = lock(&self.incoming);
        for item in items.drain(..) {
            touched |= 1 << incoming.push(item);
        }
        incoming.shed();
        drop(incoming);
        self.notify_arrived(touched);
    }

    /// Calls fail from here on; what was delivered can still be taken.
    pub(super) fn end(&self, error: Error) {
        let mut outgoing = lock(&self.outgoing);
        outgoing.ended.get_or_insert(error);
        // Whoever waits for one learns it from being dropped.
        outgoing.wishes.clear();
        drop(outgoing);
        self.acked.notify_waiters();
    }

    /// The task is gone.
    pub(super) fn finish(&self) {
        lock(&self.incoming).finished = true;
        self.notify_arrived(u16::MAX);
        self.acked.notify_waiters();
    }

    /// Wakes those who wait on these channels.
    fn notify_arrived(&self, channels: u16) {
        for (channel, arrived) in self.arrived.iter().enumerate() {
            if channels & (1 << channel) != 0 {
                arrived.notify_waiters();
            }
        }
    }
}

impl Outgoing {
    fn lane(&mut self, channel: u8) -> &mut OutLane {
        &mut self.lanes[index(channel)]
    }

    fn is_of_this_session(&self, id: MessageId) -> bool {
        self.session
            .is_some_and(|(session, _)| session.starts_with(&id.session()))
    }

    /// The peer knows nothing of the session before, and the messages of this one are counted from 0. Gives the messages
    /// of the main channel that the task has not seen.
    fn reset(&mut self, former: [u8; 16]) -> VecDeque<Bytes> {
        let mut lanes = std::mem::take(&mut self.lanes);
        let unseen = std::mem::take(&mut lanes[index(MAIN)].queue);
        let unacked = lanes.iter().map(OutLane::unacked).sum();
        let [a, b, c, d, e, f, g, h, ..] = former;
        if self.former.len() >= MAX_FORMER {
            self.former.pop_front();
        }
        self.former.push_back(Former {
            session: [a, b, c, d, e, f, g, h],
            acked: lanes.map(|lane| lane.acked()),
            unacked,
        });
        unseen
    }

    fn check_open(&self) -> Result<(), Error> {
        match (&self.ended, &self.close) {
            (Some(error), _) => Err(error.clone()),
            (None, Some(_)) => Err(Error::Closed {
                code: CloseCode::NORMAL,
                reason: "this side closed the session".into(),
            }),
            (None, None) => Ok(()),
        }
    }
}

impl Incoming {
    fn lane(&mut self, channel: u8) -> &mut InLane {
        &mut self.lanes[index(channel)]
    }

    /// Puts an item where the host takes it: the channel.
    fn push(&mut self, item: Item) -> usize {
        match item {
            Item::Message {
                channel,
                number,
                body,
                former: _,
            } if channel != MAIN => {
                self.lane(channel).push(number, body);
                index(channel)
            }
            Item::Datagram { channel, body } => {
                self.lane(channel).push_datagram(body);
                index(channel)
            }
            Item::Event(_) | Item::Message { .. } => {
                self.events += usize::from(matches!(item, Item::Event(_)));
                self.queue.push_back(item);
                index(MAIN)
            }
        }
    }

    /// The host took a message of this length. Whether the task is to be woken: it acknowledges a few milliseconds
    /// later whatever was taken until then; a large amount at once.
    fn note_taken(&mut self, channel: u8, len: usize) -> bool {
        self.lane(channel).taken += 1;
        self.taken_cost += len + MESSAGE_COST;
        let told = std::mem::replace(&mut self.told, true);
        !told || self.taken_cost > TAKEN_BURST
    }

    fn collect_taken(&mut self) -> [u64; CHANNELS] {
        self.taken_cost = 0;
        let mut taken = [0; CHANNELS];
        for (lane, taken) in self.lanes.iter_mut().zip(&mut taken) {
            *taken = std::mem::take(&mut lane.taken);
        }
        taken
    }

    /// Too many events wait: those that a host can do without go first, then outages that are over, both ends at once.
    fn shed(&mut self) {
        while self.events > MAX_EVENTS {
            if let Some(at) = self.find_event(0, is_chatter) {
                self.drop_event(at);
                continue;
            }
            let lost = self.find_event(0, |event| matches!(event, Event::Disconnected { .. }));
            let Some((lost, back)) = lost.and_then(|lost| {
                let back = self.find_event(lost, |event| matches!(event, Event::Resumed));
                back.map(|back| (lost, back))
            }) else {
                return;
            };
            self.drop_event(back);
            self.drop_event(lost);
        }
    }

    fn find_event(&self, from: usize, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
        let items = self.queue.iter().enumerate().skip(from);
        let mut events = items.filter_map(|(at, item)| match item {
            Item::Event(event) => Some((at, event)),
            Item::Message { .. } | Item::Datagram { .. } => None,
        });
        let (at, _) = events.find(|(_, event)| wanted(event))?;
        Some(at)
    }

    fn drop_event(&mut self, at: usize) {
        self.events -= usize::from(self.queue.remove(at).is_some());
    }
}

/// Where a channel's things are. The machine has no other numbers; one that it had would share the last place.
fn index(channel: u8) -> usize {
    usize::from(channel).min(CHANNELS - 1)
}

/// What a host can do without when it has not looked for a thousand events. What nobody thought of here is kept.
fn is_chatter(event: &Event) -> bool {
    matches!(
        event,
        Event::Retrying { .. }
            | Event::Reconnecting
            | Event::InviteAlreadyUsed
            | Event::Flood
            | Event::NoFingerprintCheck
            | Event::SignalingLost
            // A peer can bring these about again and again; the newest code is the one that counts.
            | Event::ShortCode { .. }
            | Event::ShortCodeFailed
            | Event::ContactRequested
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliver(shared: &Shared, events: impl IntoIterator<Item = Event>) {
        shared.deliver(&mut events.into_iter().map(Item::Event).collect());
    }

    fn rest(shared: &Shared) -> Vec<Event> {
        let mut events = Vec::new();
        while let (Some(Item::Event(event)), _) = shared.take(true) {
            events.push(event);
        }
        events
    }

    fn establish(shared: &Shared, session: u8) {
        let facts = Facts {
            peer: PeerId::from_bytes([1; 32]),
            trust: PeerTrust::Unknown,
            session: [session; 16],
            direction: MessageDirection::FromInitiator,
            max_message: 100,
            max_datagram: 100,
            live: 0b110,
            relayed: None,
            fingerprint_checked: true,
        };
        shared.set_facts(facts, 150, false);
    }

    fn lost() -> Event {
        Event::Disconnected {
            error: Error::Disconnected { unacked: 0 },
        }
    }

    #[test]
    fn a_host_that_never_looks_loses_chatter_and_nothing_that_matters() {
        let shared = Shared::default();
        let first = PeerId::from_bytes([1; 32]);
        let contested = Event::InviteContested {
            first,
            second: first,
        };
        deliver(&shared, [contested, lost(), Event::Resumed]);
        for _ in 0..3 * MAX_EVENTS {
            deliver(&shared, [Event::Flood]);
        }
        let failed = Error::Disconnected { unacked: 0 };
        deliver(&shared, [lost(), Event::Failed { error: failed }]);
        let events = rest(&shared);
        assert_eq!(events.len(), MAX_EVENTS);
        assert!(matches!(
            events[..3],
            [
                Event::InviteContested { .. },
                Event::Disconnected { .. },
                Event::Resumed
            ]
        ));
        assert!(matches!(
            events[MAX_EVENTS - 2..],
            [Event::Disconnected { .. }, Event::Failed { .. }]
        ));
    }

    #[test]
    fn outages_that_are_over_go_whole_and_the_last_state_stays() {
        let shared = Shared::default();
        for _ in 0..2 * MAX_EVENTS {
            deliver(&shared, [lost(), Event::Reconnecting, Event::Resumed]);
        }
        deliver(&shared, [lost()]);
        let events = rest(&shared);
        assert!(events.len() <= MAX_EVENTS);
        for (at, event) in events.iter().enumerate() {
            match at % 2 {
                0 => assert!(matches!(event, Event::Disconnected { .. })),
                _ => assert!(matches!(event, Event::Resumed)),
            }
        }
        assert!(matches!(events.last(), Some(Event::Disconnected { .. })));
    }

    #[test]
    fn what_is_taken_and_discarded_is_counted_for_each_channel() {
        let shared = Shared::default();
        let message = |channel, number| Item::Message {
            channel,
            number,
            body: Bytes::from_static(b"body"),
            former: None,
        };
        let mut items = vec![message(1, 0), message(2, 0), message(2, 1), message(1, 1)];
        items.push(Item::Event(Event::Flood));
        shared.deliver(&mut items);
        assert!(matches!(
            shared.take(true),
            (Some(Item::Message { .. }), false)
        ));
        assert!(matches!(shared.take_from(2), (Some((0, _)), false)));
        let taken = shared.discard();
        assert_eq!(taken[..4], [0, 1, 1, 0]);
        assert!(matches!(shared.take_from(2), (None, false)));
        assert!(matches!(shared.take(true), (Some(Item::Event(_)), false)));
        assert_eq!(shared.collect_taken(), [0; CHANNELS]);
    }

    #[test]
    fn what_is_left_of_a_replaced_session_stays_and_is_not_counted_in_the_new_one() {
        let shared = Shared::default();
        establish(&shared, 1);
        let message = |channel, number| Item::Message {
            channel,
            number,
            body: Bytes::from_static(b"body"),
            former: None,
        };
        shared.deliver(&mut vec![message(1, 0), message(1, 1), message(2, 0)]);
        assert!(shared.take(true).0.is_some());
        assert_eq!(shared.keep_former(), 2 * (4 + MESSAGE_COST));
        establish(&shared, 2);
        shared.deliver(&mut vec![message(1, 0), message(2, 0)]);
        assert_eq!(shared.collect_taken(), [0; CHANNELS]);
        let (old, new) = (shared.take(true).0, shared.take(true).0);
        let Some(Item::Message { former, number, .. }) = old else {
            panic!("a message");
        };
        let owner = ([1; 16], MessageDirection::FromInitiator);
        assert_eq!((former, number), (Some(owner), 1));
        assert!(matches!(new, Some(Item::Message { former: None, .. })));
        shared.deliver(&mut vec![message(1, 1)]);
        assert_eq!(shared.discard()[..3], [0, 1, 0], "only the new one counts");
        assert!(shared.take(true).0.is_none(), "it comes again");
        assert!(shared.take_from(2).0.is_some(), "it does not");
        assert!(shared.take_from(2).0.is_none());
        assert_eq!(shared.collect_taken(), [0; CHANNELS]);
    }

    #[test]
    fn a_full_channel_does_not_stop_another() {
        let shared = Shared::default();
        establish(&shared, 1);
        let body = Bytes::from_static(&[0; 36]);
        let slow = shared.push(1, &body).unwrap().unwrap();
        assert_eq!(shared.push(1, &body), Ok(None));
        let fast = shared.push(2, &body).unwrap().unwrap();
        shared.acknowledge(2, 1);
        assert_eq!(shared.push(1, &body), Ok(None));
        assert_eq!(shared.is_delivered(fast), Ok(true));
        assert_eq!(shared.is_delivered(slow), Ok(false));
        assert_eq!(shared.unacked(), 1);
    }

    #[test]
    fn after_a_reset_old_messages_are_told_apart_from_new_ones_of_the_same_number() {
        let shared = Shared::default();
        let body = Bytes::from_static(b"body");
        establish(&shared, 1);
        let taken = shared.push(1, &body).unwrap().unwrap();
        shared.acknowledge(1, 1);
        let lost = shared.push(1, &body).unwrap().unwrap();
        establish(&shared, 2);
        let new = shared.push(1, &body).unwrap().unwrap();
        assert_eq!((new.number(), lost.number()), (0, 1));
        assert_eq!(shared.is_delivered(taken), Ok(true));
        let reset = Error::SessionReset { unacked: 1 };
        assert_eq!(shared.is_delivered(lost), Err(reset));
        assert_eq!(shared.is_delivered(new), Ok(false));
        shared.acknowledge(1, 1);
        assert_eq!(shared.is_delivered(new), Ok(true));
        // The same session over another transport is no reset.
        establish(&shared, 2);
        assert_eq!(shared.is_delivered(new), Ok(true));
    }
}
