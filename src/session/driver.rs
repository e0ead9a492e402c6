//! The one task of a session: it carries inputs to the machine and its outputs to signaling, links and the host.
//!
//! Everything that waits, waits in the one `select!` of [`Driver::run`].

use std::{collections::VecDeque, future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::sync::oneshot;

use super::{
    clock::Clock,
    joining::{join, random},
    queue::{Facts, Item, Shared},
};
use crate::{
    config::Config,
    error::{CloseCode, Error},
    protocol::{CloseHow, Delivery, Event, Input, LinkId, Machine, Output, Reason},
    room::{EndpointId, RoomId},
    signaling::{Backoff, Membership, Outgoing, Signaling, SignalingError, SignalingEvent},
    transport::{
        ChannelSpec, Link, LinkEvent, LinkOptions, LinkRole, Reliability, Transport, TransportError,
    },
};

/// The first and the longest pause after a membership that ended. Short, for the protocol gives a join up after 10 s.
const BACKOFF_AFTER_LOSS: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(8));
/// A membership that lasted this long was a good one: the next is tried soon.
const GOOD_MEMBERSHIP: Duration = Duration::from_secs(30);
/// How long links may take to flush once the session is over.
const FAREWELL: Duration = Duration::from_secs(5);
/// Events of links taken in one go before the host and the timers are looked at again.
const LINK_BURST: usize = 64;

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
    losses: Backoff,
    state: State,
}

/// What is under way.
#[derive(Default)]
struct State {
    out: Vec<Output>,
    pending: VecDeque<Input>,
    bodies: Vec<Bytes>,
    items: Vec<Item>,
    membership: Option<Membership>,
    joining: Option<Joining>,
    /// The second room, that of a used invite, and the way there.
    watch: Option<Membership>,
    joining_watch: Option<Joining>,
    joined_once: bool,
    /// When the membership began, by the monotonic clock.
    joined_at: Duration,
    /// How long the next join waits first.
    pause: Duration,
    links: Vec<(LinkId, Link)>,
    leaving: Vec<Link>,
    closing: bool,
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
    Timer,
}

impl Driver {
    pub(super) fn new(
        machine: Machine,
        config: Config,
        (signaling, transport): (Arc<dyn Signaling>, Arc<dyn Transport>),
        shared: Arc<Shared>,
        started: Started,
    ) -> Self {
        let (started, clock) = (Some(started), Clock::start());
        let losses = Backoff::new(BACKOFF_AFTER_LOSS.0, BACKOFF_AFTER_LOSS.1);
        Self {
            machine,
            config,
            signaling,
            transport,
            shared,
            started,
            clock,
            losses,
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
            self.react(woken);
        }
        self.say_farewell().await;
        self.shared.finish();
    }

    /// What the host asked for since the last time, and what a writable link takes.
    fn pump(&mut self) {
        let mut bodies = std::mem::take(&mut self.state.bodies);
        let (close, trust) = self.shared.collect(&mut bodies);
        for body in bodies.drain(..) {
            self.input(Input::Send { channel: 1, body });
        }
        self.state.bodies = bodies;
        if let Some(trust) = trust {
            self.input(Input::Trust(trust));
        }
        self.report_taken();
        if let Some((code, reason)) =
            close.filter(|_| !std::mem::replace(&mut self.state.closing, true))
        {
            self.input(Input::Close { code, reason });
        }
        self.write();
        self.shared.deliver(&mut self.state.items);
        if !self.machine.acknowledges_soon() {
            self.shared.rearm_taken();
        }
    }

    fn report_taken(&mut self) {
        let messages = self.shared.collect_taken();
        if messages > 0 {
            self.input(Input::Taken {
                channel: 1,
                messages,
            });
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
            () = sleep(clock, timeout) => Woken::Timer,
        }
    }

    fn react(&mut self, woken: Woken) {
        match woken {
            Woken::Host | Woken::Writable | Woken::Left => {}
            Woken::Joined(joined) => self.on_joined(joined),
            Woken::Signaling(event) => self.on_signaling(event),
            Woken::WatchJoined(joined) => {
                self.state.joining_watch = None;
                self.state.watch = joined.ok();
            }
            Woken::Watched(event) => self.on_watched(event),
            Woken::Link(link, event) => self.on_link(link, event),
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
                self.with_link(link, |link| link.add_candidate(candidate))
            }
            Output::LinkFrame {
                link,
                channel,
                frame,
            } => self.with_link(link, |link| link.send(channel, frame)),
            Output::CloseLink { link, how } => self.close_link(link, how),
            Output::Deliver { number, body, .. } => {
                self.state.items.push(Item::Message { number, body })
            }
            Output::Datagram { .. } | Output::Rekeyed { .. } | Output::Contact { .. } => {}
            Output::Discard => self.discard(),
            Output::Acknowledged { next, .. } => self.shared.acknowledge(next),
            Output::Event(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: Event) {
        match &event {
            Event::Established { .. } => self.on_established(&event),
            Event::NoFingerprintCheck => self.state.fingerprint_checked = false,
            Event::Failed { error } => self.on_end(error.clone()),
            Event::Closed { code, reason, .. } => self.on_end(Error::Closed {
                code: *code,
                reason: reason.clone(),
            }),
            Event::Message(_)
            | Event::Unreadable { .. }
            | Event::Retrying { .. }
            | Event::Disconnected { .. }
            | Event::Reconnecting
            | Event::Resumed
            | Event::SessionReset { .. }
            | Event::ShortCode { .. }
            | Event::ShortCodeFailed
            | Event::ContactRequested
            | Event::InviteContested { .. }
            | Event::InviteAlreadyUsed
            | Event::Flood
            | Event::SignalingLost => {}
        }
        self.state.items.push(Item::Event(event));
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
            relayed: self.state.relayed,
            fingerprint_checked: self.state.fingerprint_checked,
        };
        self.shared.set_facts(facts, window);
        if let Some(started) = self.started.take() {
            // A host that gave up dropped its handle as well: the close follows.
            let _ = started.send(Ok(()));
        }
    }

    fn on_end(&mut self, error: Error) {
        self.shared.end(error.clone());
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }
}

/// Signaling.
impl Driver {
    fn join(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave();
        let limit = (!self.state.joined_once).then_some(self.config.timeouts.signaling);
        let pause = std::mem::take(&mut self.state.pause);
        let joining = join(Arc::clone(&self.signaling), room, endpoint, limit);
        self.state.joining = Some(Box::pin(async move {
            tokio::time::sleep(pause).await;
            joining.await
        }));
    }

    fn leave(&mut self) {
        self.state.joining = None;
        self.state.membership = None;
    }

    /// The membership ended by itself. A server that welcomes and hangs up must not be asked in a loop.
    fn lose_membership(&mut self) -> Input {
        self.leave();
        if self
            .clock
            .now()
            .monotonic
            .saturating_sub(self.state.joined_at)
            >= GOOD_MEMBERSHIP
        {
            self.losses.reset();
        }
        self.state.pause = self.losses.next(random());
        Input::SignalingLost
    }

    fn on_joined(&mut self, joined: Result<Membership, SignalingError>) {
        self.state.joining = None;
        match joined {
            Ok(membership) => {
                self.state.joined_once = true;
                self.state.joined_at = self.clock.now().monotonic;
                self.state.membership = Some(membership);
            }
            Err(error) => {
                self.on_event(Event::Failed {
                    error: super::joining::from_signaling(error),
                });
                self.input(Input::Close {
                    code: CloseCode::GOING_AWAY,
                    reason: String::new(),
                });
            }
        }
    }

    fn on_signaling(&mut self, event: Option<SignalingEvent>) {
        let input = match event {
            Some(SignalingEvent::Welcome { peers }) => Input::Welcome { peers },
            Some(SignalingEvent::Joined(peer)) => Input::PeerJoined(peer),
            Some(SignalingEvent::Left(peer)) => Input::PeerLeft(peer),
            Some(SignalingEvent::Message { from, blob }) => Input::Blob { from, blob },
            // Which relays a session may use is the host's choice, not an untrusted server's.
            Some(SignalingEvent::IceServers(_)) => return,
            Some(SignalingEvent::Error { code, .. }) => {
                return tracing::debug!(%code, "the server answered an error");
            }
            Some(SignalingEvent::Lost(_)) | None => self.lose_membership(),
        };
        self.input(input);
    }

    fn join_watch(&mut self, room: RoomId, endpoint: EndpointId) {
        self.leave_watch();
        let joining = join(Arc::clone(&self.signaling), room, endpoint, None);
        self.state.joining_watch = Some(Box::pin(joining));
    }

    fn leave_watch(&mut self) {
        self.state.joining_watch = None;
        self.state.watch = None;
    }

    fn on_watched(&mut self, event: Option<SignalingEvent>) {
        match event {
            Some(SignalingEvent::Welcome { peers }) => {
                for peer in peers {
                    self.input(Input::Watched(peer));
                }
            }
            Some(SignalingEvent::Joined(peer)) => self.input(Input::Watched(peer)),
            Some(SignalingEvent::Message { from, .. }) => self.input(Input::Watched(from)),
            Some(
                SignalingEvent::Left(_)
                | SignalingEvent::IceServers(_)
                | SignalingEvent::Error { .. },
            ) => {}
            Some(SignalingEvent::Lost(_)) | None => {
                self.leave_watch();
                self.input(Input::WatchLost);
            }
        }
    }

    /// The machine takes back what the host has not taken.
    fn discard(&mut self) {
        self.state
            .items
            .retain(|item| matches!(item, Item::Event(_)));
        let messages = self.shared.discard();
        let pending = &mut self.state.pending;
        if messages > 0 {
            pending.push_back(Input::Taken {
                channel: 1,
                messages,
            });
        }
        pending.push_back(Input::Discarded);
    }

    fn send_blob(&mut self, to: EndpointId, blob: Vec<u8>) {
        let Some(membership) = &self.state.membership else {
            return;
        };
        if membership.send(Outgoing { to, blob }).is_err() {
            let lost = self.lose_membership();
            self.state.pending.push_back(lost);
        }
    }
}

/// Links.
impl Driver {
    fn open_link(&mut self, id: LinkId, offer: Option<String>, channels: &[(u8, Delivery)]) {
        let spec = |&(id, delivery): &(u8, Delivery)| ChannelSpec {
            id,
            reliability: match delivery {
                Delivery::Reliable => Reliability::Reliable,
                Delivery::Lossy => Reliability::Lossy,
            },
        };
        let options = LinkOptions {
            channels: channels.iter().map(spec).collect(),
            ice_servers: self.config.ice_servers.clone(),
            candidates: self.config.candidates,
            gather: self.config.timeouts.gather,
            buffer: self.config.limits.transport_buffer,
        };
        let role = match offer {
            None => LinkRole::Offerer,
            Some(offer) => LinkRole::Answerer { offer },
        };
        match self.transport.open(options, role) {
            Ok(link) => self.state.links.push((id, link)),
            Err(error) => {
                let reason = Some(from_transport(error));
                self.state
                    .pending
                    .push_back(Input::LinkClosed { link: id, reason });
            }
        }
    }

    fn with_link(&self, id: LinkId, act: impl FnOnce(&Link)) {
        if let Some((_, link)) = self.state.links.iter().find(|(open, _)| *open == id) {
            act(link);
        }
    }

    fn close_link(&mut self, id: LinkId, how: CloseHow) {
        let Some(at) = self.state.links.iter().position(|(open, _)| *open == id) else {
            return;
        };
        let (_, link) = self.state.links.swap_remove(at);
        match how {
            CloseHow::Abrupt => drop(link),
            CloseHow::Graceful => {
                link.close();
                self.state.leaving.push(link);
            }
        }
    }

    fn on_link(&mut self, id: LinkId, event: Option<LinkEvent>) {
        self.on_link_event(id, event);
        for _ in 1..LINK_BURST {
            let Some((_, link)) = self.state.links.iter_mut().find(|(open, _)| *open == id) else {
                return;
            };
            let Some(event) = link.try_next() else { return };
            self.on_link_event(id, Some(event));
        }
    }

    fn on_link_event(&mut self, link: LinkId, event: Option<LinkEvent>) {
        let input = match event {
            Some(LinkEvent::Described { sdp, candidates }) => Input::LinkDescribed {
                link,
                sdp,
                candidates,
            },
            Some(LinkEvent::Candidate(candidate)) => Input::LinkCandidate { link, candidate },
            Some(LinkEvent::Open {
                fingerprint,
                relayed,
            }) => {
                (self.state.relayed, self.state.fingerprint_checked) =
                    (relayed, fingerprint.is_some());
                Input::LinkOpen { link, fingerprint }
            }
            Some(LinkEvent::Frame { channel, frame }) => Input::LinkFrame {
                link,
                channel,
                frame: BytesMut::from(frame),
            },
            Some(LinkEvent::Foreign(_)) => Input::LinkForeign(link),
            Some(LinkEvent::Closed(Err(error))) => {
                self.forget_link(link, Some(from_transport(error)))
            }
            Some(LinkEvent::Closed(Ok(()))) | None => self.forget_link(link, None),
        };
        self.input(input);
    }

    fn forget_link(&mut self, link: LinkId, reason: Option<Error>) -> Input {
        self.state.links.retain(|(open, _)| *open != link);
        Input::LinkClosed { link, reason }
    }

    /// Waits until what was queued has left, so that the peer hears our CLOSE.
    async fn say_farewell(&mut self) {
        self.shared.deliver(&mut self.state.items);
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
        let _ = tokio::time::timeout(FAREWELL, flushed).await;
    }
}

fn from_transport(error: TransportError) -> Error {
    Error::Transport(error.to_string())
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

async fn sleep(clock: Clock, timeout: Option<(Duration, Reason)>) {
    match timeout {
        Some((at, _)) => tokio::time::sleep_until(clock.instant(at)).await,
        None => std::future::pending().await,
    }
}
