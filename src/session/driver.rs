//! The one task of a session: it carries inputs to the machine and its outputs to signaling, links and the host.
//!
//! Everything that waits, waits in the one `select!` of [`Driver::run`].

mod history;
mod links;
pub(super) mod relays;
mod signaling;
mod wishes;

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    clock::Clock,
    joining::Stays,
    queue::{Collected, Facts, Item, Shared},
};
use crate::{
    config::Config,
    error::{CloseCode, Error},
    history::HistoryError,
    protocol::{Event, Input, LinkId, Machine, Output},
    shell,
    signaling::{Membership, Outgoing, Signaling, SignalingError, SignalingEvent},
    transport::{Link, LinkEvent, Transport},
};
use history::Done;
pub(super) use history::Recording;
use relays::{Found, Relays};
use wishes::Wishes;

/// How long links may take to flush once the session is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where `connect()` waits for the first result.
pub(super) type Started = oneshot::Sender<Result<(), Error>>;

type Joining = Pin<Box<dyn Future<Output = Result<Membership, SignalingError>> + Send>>;

/// What the driver drives.
pub(super) struct Driver {
    pub(super) machine: Machine,
    pub(super) config: Config,
    pub(super) signaling: Arc<dyn Signaling>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) shared: Arc<Shared>,
    pub(super) started: Option<Started>,
    pub(super) clock: Clock,
    recording: Recording,
    state: State,
}

/// What is under way.
#[derive(Default)]
struct State {
    out: Vec<Output>,
    pending: VecDeque<Input>,
    collected: Collected,
    items: Vec<Item>,
    membership: Option<Membership>,
    joining: Option<Joining>,
    stays: Stays,
    /// The second room, that of a used invite, and the way there.
    watch: Option<Membership>,
    joining_watch: Option<Joining>,
    watch_stays: Stays,
    joined_once: bool,
    links: Vec<(LinkId, Link)>,
    leaving: Vec<Link>,
    relays: Relays,
    /// By link.
    found: Vec<Found>,
    /// Of the link that ended last.
    last_found: Option<Found>,
    closing: bool,
    /// The host knows that the server is away.
    loss_told: bool,
    wishes: Wishes,
    relayed: Option<bool>,
    fingerprint_checked: bool,
}

/// What woke the task.
enum Woken {
    Host,
    Joined(Result<Membership, SignalingError>),
    Signaling(Option<SignalingEvent>),
    WatchJoined(Result<Membership, SignalingError>),
    Watched(Option<SignalingEvent>),
    Link(LinkId, Option<LinkEvent>),
    Left,
    Writable,
    Recorded(Result<Done, HistoryError>),
    StaleRelays,
    Timer,
}

impl Driver {
    pub(super) fn new(
        machine: Machine,
        config: Config,
        (signaling, transport): (Arc<dyn Signaling>, Arc<dyn Transport>),
        shared: Arc<Shared>,
        (started, recording): (Started, Recording),
    ) -> Self {
        let (started, clock) = (Some(started), Clock::start());
        Self {
            machine,
            config,
            signaling,
            transport,
            shared,
            started,
            clock,
            recording,
            state: State::default(),
        }
    }

    /// Runs until the session is over and its links are flushed.
    pub(super) async fn run(mut self) {
        self.input(Input::Start);
        while !self.machine.is_ended() {
            self.pump();
            if self.machine.is_ended() {
                break;
            }
            let woken = self.wait().await;
            if matches!(woken, Woken::Host) {
                shell::end_of_turn().await;
            }
            self.react(woken);
        }
        self.say_farewell().await;
        self.shared.finish();
    }

    /// What the host asked for since the last time, and what a writable link takes.
    fn pump(&mut self) {
        let mut collected = std::mem::take(&mut self.state.collected);
        self.shared
            .collect(&mut collected, !self.machine.is_replacing());
        for (channel, bodies) in (0_u8..).zip(&mut collected.bodies) {
            for body in bodies.drain(..) {
                self.input(Input::Send { channel, body });
            }
        }
        if let Some(trust) = collected.trust.take() {
            self.input(Input::Trust(trust));
        }
        self.report_taken();
        self.grant(&mut collected.wishes);
        for overture in collected.overtures.drain(..) {
            self.input(overture.into());
        }
        if let Some((code, reason)) = collected
            .close
            .take()
            .filter(|_| !std::mem::replace(&mut self.state.closing, true))
        {
            self.input(Input::Close { code, reason });
        }
        self.state.collected = collected;
        self.record();
        self.write();
        self.tell_state();
        self.shared.deliver(&mut self.state.items);
        if !self.machine.acknowledges_soon() {
            self.shared.rearm_taken();
        }
    }

    fn report_taken(&mut self) {
        let taken = self.shared.collect_taken();
        for (channel, messages) in (0_u8..).zip(taken).filter(|(_, messages)| *messages > 0) {
            self.input(Input::Taken { channel, messages });
        }
    }

    fn write(&mut self) {
        while self.machine.wants_write() {
            let Some(bytes) = self
                .main_link()
                .map(Link::writable_bytes)
                .filter(|bytes| *bytes > 0)
            else {
                return;
            };
            let Some(link) = self.machine.link() else {
                return;
            };
            self.input(Input::LinkWritable { link, bytes });
        }
    }

    fn main_link(&self) -> Option<&Link> {
        let main = self.machine.link()?;
        self.state
            .links
            .iter()
            .find(|(id, _)| *id == main)
            .map(|(_, link)| link)
    }

    async fn wait(&mut self) -> Woken {
        let timeout = self.machine.next_timeout();
        let blocked = self
            .main_link()
            .filter(|_| self.machine.wants_write())
            .map(Link::writable);
        let clock = self.clock;
        let stale = self.state.relays.stale_at();
        let State {
            membership,
            joining,
            watch,
            joining_watch,
            links,
            leaving,
            ..
        } = &mut self.state;
        tokio::select! {
            () = self.shared.wake.notified() => Woken::Host,
            joined = or_never(joining.as_mut()) => Woken::Joined(joined),
            event = poll_membership(membership) => Woken::Signaling(event),
            joined = or_never(joining_watch.as_mut()) => Woken::WatchJoined(joined),
            event = poll_membership(watch) => Woken::Watched(event),
            (link, event) = next_of(links) => Woken::Link(link, event),
            () = or_never(blocked) => Woken::Writable,
            () = poll_leaving(leaving) => Woken::Left,
            done = or_never(self.recording.running.as_mut()) => Woken::Recorded(done),
            () = sleep(clock, timeout.map(|(at, _)| at)) => Woken::Timer,
            () = sleep(clock, stale) => Woken::StaleRelays,
        }
    }

    fn react(&mut self, woken: Woken) {
        match woken {
            Woken::Host | Woken::Writable | Woken::Left => {}
            Woken::Joined(joined) => self.on_joined(joined),
            Woken::Signaling(event) => self.on_signaling(event),
            Woken::WatchJoined(joined) => self.on_watch_joined(joined),
            Woken::Watched(event) => self.on_watched(event),
            Woken::Link(link, event) => self.on_link(link, event),
            Woken::Recorded(done) => self.on_recorded(done),
            Woken::StaleRelays => self.on_stale_relays(),
            Woken::Timer => {
                self.report_taken();
                self.input(Input::Tick);
            }
        }
    }

    /// Gives the machine an input, carries out what follows, and what follows from that.
    fn input(&mut self, input: Input) {
        self.state.pending.push_back(input);
        while let Some(input) = self.state.pending.pop_front() {
            let mut out = std::mem::take(&mut self.state.out);
            self.machine.handle(self.clock.now(), input, &mut out);
            for output in out.drain(..) {
                self.carry_out(output);
            }
            self.state.out = out;
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Join { room, endpoint } => self.join(room, endpoint),
            Output::Leave => self.leave(),
            Output::SendBlob { to, blob } => self.send_blob(to, blob),
            Output::Watch { room, endpoint } => self.join_watch(room, endpoint),
            Output::Unwatch => self.leave_watch(),
            Output::WatchBlob { to, blob } => {
                if let Some(watch) = &self.state.watch {
                    // Lost with the server: whoever comes again is told again.
                    let _ = watch.send(Outgoing { to, blob });
                }
            }
            Output::OpenLink {
                link,
                offer,
                channels,
            } => self.open_link(link, offer, &channels),
            Output::LinkAnswer { link, sdp } => self.with_link(link, |link| link.set_answer(sdp)),
            Output::LinkCandidate { link, candidate } => {
                self.note_peers(link, &candidate);
                self.with_link(link, |link| link.add_candidate(candidate))
            }
            Output::LinkFrame {
                link,
                channel,
                frame,
            } => self.send_frame(link, channel, frame),
            Output::CloseLink { link, how } => self.close_link(link, how),
            Output::Deliver {
                channel,
                number,
                body,
            } => self.deliver(channel, number, body),
            Output::Datagram { channel, body } => {
                self.state.items.push(Item::Datagram { channel, body })
            }
            Output::Rekeyed { epoch } => self.on_rekeyed(epoch),
            Output::Contact { secret, .. } => {
                self.shared.keep_contact(secret);
                self.on_event(Event::ContactMade);
            }
            Output::History(asked) => self.recording.ask(asked),
            Output::Discard => self.discard(),
            Output::Acknowledged { channel, next } => self.shared.acknowledge(channel, next),
            Output::Event(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, mut event: Event) {
        if self.recording.has_failed() && matches!(event, Event::Closed { .. }) {
            return;
        }
        if let Event::Retrying { error } | Event::Disconnected { error } | Event::Failed { error } =
            &mut event
        {
            self.explain(error);
            self.shared.fault.note(error);
        }
        match &mut event {
            // What waits here goes as well.
            Event::SessionReset { unacked } => {
                *unacked = self.shared.unacked();
                self.replace_session();
            }
            Event::Established { .. } => self.on_established(&event),
            Event::NoFingerprintCheck => self.state.fingerprint_checked = false,
            Event::Failed { error } => self.on_end(error.clone()),
            Event::Closed { code, reason, .. } => self.on_end(Error::Closed {
                code: *code,
                reason: reason.clone(),
            }),
            Event::Resumed => self.on_resumed(),
            Event::ShortCode { code } => self.shared.show(*code),
            Event::SignalingLost if self.is_refreshing() => return,
            Event::SignalingLost if std::mem::replace(&mut self.state.loss_told, true) => return,
            Event::Message(_)
            | Event::HistoryDiverged { .. }
            | Event::Undelivered { .. }
            | Event::Unreadable { .. }
            | Event::Retrying { .. }
            | Event::Disconnected { .. }
            | Event::Reconnecting
            | Event::ShortCodeFailed
            | Event::ContactMade
            | Event::ContactRequested
            | Event::InviteContested { .. }
            | Event::InviteAlreadyUsed
            | Event::Flood
            | Event::SignalingLost => {}
        }
        self.state.items.push(Item::Event(event));
    }

    /// What cannot be stored any more is not acknowledged either: it is not for the host.
    fn deliver(&mut self, channel: u8, number: u64, body: Bytes) {
        if !self.recording.has_failed() {
            self.state.items.push(Item::Message {
                channel,
                number,
                body,
                former: None,
            });
        }
    }

    /// What the host has not taken of the session so far stays. A host that never looks is not filled, session after
    /// session.
    fn replace_session(&mut self) {
        self.shared.deliver(&mut self.state.items);
        if self.shared.keep_former() > self.config.limits.window as usize {
            self.state.pending.push_back(Input::Close {
                code: CloseCode::LIMIT,
                reason: "messages of earlier sessions were not taken".into(),
            });
        }
    }

    fn on_established(&mut self, event: &Event) {
        let Event::Established { peer, trust } = event else {
            return;
        };
        let (Some((session, direction)), Some((max_message, window))) =
            (self.machine.session(), self.machine.agreed())
        else {
            return;
        };
        let facts = Facts {
            peer: *peer,
            trust: *trust,
            session,
            direction,
            max_message,
            max_datagram: self.machine.max_datagram().unwrap_or_default(),
            live: bits(&self.machine.live_channels()),
            relayed: self.state.relayed,
            fingerprint_checked: self.state.fingerprint_checked,
        };
        let keeps = self.recording.is_kept();
        self.shared.set_facts(facts, window, keeps);
        self.on_connected();
        if let Some(started) = self.started.take() {
            // A host that gave up dropped its handle as well: the close follows.
            let _ = started.send(Ok(()));
        }
    }

    fn on_end(&mut self, error: Error) {
        self.state.wishes = Wishes::default();
        self.shared.end(error.clone());
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }

    /// The machine takes back what the host has not taken.
    fn discard(&mut self) {
        self.state
            .items
            .retain(|item| matches!(item, Item::Event(_)));
        let taken = (0_u8..).zip(self.shared.discard());
        let taken = taken.filter(|(_, messages)| *messages > 0);
        let pending = &mut self.state.pending;
        pending.extend(taken.map(|(channel, messages)| Input::Taken { channel, messages }));
        pending.push_back(Input::Discarded);
    }

    /// Waits until what was queued has left, so that the peer hears our CLOSE.
    async fn say_farewell(&mut self) {
        self.shared.deliver(&mut self.state.items);
        // Bounded: storage that never answers is given up.
        let _ = shell::timeout(FAREWELL, self.finish_recording()).await;
        self.leave();
        self.leave_watch();
        self.state.links.clear();
        let leaving = std::mem::take(&mut self.state.leaving);
        let flushed = async {
            for mut link in leaving {
                while link.next().await.is_some() {}
            }
        };
        // A link that takes longer is closed by being dropped.
        let _ = shell::timeout(FAREWELL, flushed).await;
    }
}

/// Channel `n` as bit `n`.
fn bits(channels: &[u8]) -> u16 {
    let bit = |channel: &u8| 1_u16.checked_shl(u32::from(*channel)).unwrap_or_default();
    channels.iter().map(bit).fold(0, |all, bit| all | bit)
}

/// The next event of any link.
async fn next_of(links: &mut [(LinkId, Link)]) -> (LinkId, Option<LinkEvent>) {
    std::future::poll_fn(|cx| {
        for (id, link) in links.iter_mut() {
            if let Poll::Ready(event) = link.poll_next(cx) {
                return Poll::Ready((*id, event));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for a future that may not be there.
async fn or_never<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn poll_membership(membership: &mut Option<Membership>) -> Option<SignalingEvent> {
    match membership {
        Some(membership) => membership.next().await,
        None => std::future::pending().await,
    }
}

/// Links that are being flushed go when they are done.
async fn poll_leaving(leaving: &mut Vec<Link>) {
    let Some(link) = leaving.last_mut() else {
        return std::future::pending().await;
    };
    while link.next().await.is_some() {}
    leaving.pop();
}

async fn sleep(clock: Clock, at: Option<Duration>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
