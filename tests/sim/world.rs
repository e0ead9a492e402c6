//! Machines, the server between them, and the links they open: all imagined, all driven by one queue of events.
//!
//! A test says what the server and the wire do to each piece of traffic by a [`Hostile`]; the default is honest.

use std::{
    cell::{Cell, RefCell},
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sealwire::{
    CloseCode, Config, EndpointId, Entropy, Error, Identity, Invite, MinTrust, PeerId, PeerTrust,
    RoomId,
    crypto::{
        kdf::{self, PairingKind},
        secret::Secret,
    },
    history::{Archive, Author, HistoryError, Pair},
    protocol::{
        ChannelOffer, CloseHow, Delivery, Event, HistoryInput, HistoryOutput, HistoryUse, Input,
        LinkId, Machine, Meeting, Now, Output, Setup,
    },
};

use super::laws::Laws;

/// Unix time at the start of every world, in milliseconds.
pub const EPOCH_MS: u64 = 1_790_000_000_000;
/// One way through the server.
const RELAY_DELAY: Duration = Duration::from_millis(5);
/// One way over a link.
const WIRE_DELAY: Duration = Duration::from_millis(1);
/// From `OpenLink` to its description.
const GATHER_DELAY: Duration = Duration::from_millis(2);
/// What the server calls a node where it only watches a room: its number and this.
const WATCHER: usize = 1 << 16;
/// From what is to be stored to its being durable.
const DISK_DELAY: Duration = Duration::from_millis(3);
/// Bytes that a link takes at a time.
const WRITABLE: usize = 256 << 10;

thread_local! {
    /// Everything that was drawn in this thread, while [`draws`] listens.
    static DRAWN: RefCell<Option<Vec<Vec<u8>>>> = const { RefCell::new(None) };
    /// Whether a machine is at work in this thread, and not the test around it.
    static AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives, and every piece of randomness that was drawn for it: all secrets come from these.
pub fn draws<T>(work: impl FnOnce() -> T) -> (T, Vec<Vec<u8>>) {
    DRAWN.set(Some(Vec::new()));
    let result = work();
    (result, DRAWN.take().unwrap_or_default())
}

/// As much of the stack as tests use.
const STACK: usize = 64 << 10;

/// Runs a machine's own code. What the test left on the stack goes first: it could end up in what a machine frees, in
/// places that are never written.
pub fn at_work<T>(work: impl FnOnce() -> T) -> T {
    zeroize::zeroize_stack::<STACK>();
    AT_WORK.set(true);
    let result = work();
    AT_WORK.set(false);
    result
}

/// Whether a machine's own code runs. Allocates nothing.
pub fn is_at_work() -> bool {
    AT_WORK.get()
}

/// Randomness from a seed.
#[derive(Debug)]
pub struct Seeded(ChaCha8Rng);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
}

impl Drop for Seeded {
    /// Its buffer holds secrets of machines; the system's source has none.
    fn drop(&mut self) {
        self.0 = ChaCha8Rng::seed_from_u64(0);
        std::hint::black_box(&self.0);
    }
}

impl Entropy for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
        let at_work = AT_WORK.replace(false);
        DRAWN.with_borrow_mut(|drawn| drawn.as_mut().map(|drawn| drawn.push(out.to_vec())));
        zeroize::zeroize_stack::<STACK>();
        AT_WORK.set(at_work);
    }
}

/// Randomness from a seed whose first draw, a machine's first endpoint id, is chosen: the smaller id initiates.
#[derive(Debug)]
pub struct Rigged(Option<u8>, Seeded);

impl Rigged {
    pub fn new(endpoint: Option<u8>, seed: u64) -> Self {
        Self(endpoint, Seeded::new(seed))
    }
}

impl Entropy for Rigged {
    fn fill(&mut self, out: &mut [u8]) {
        match self.0.take() {
            Some(endpoint) => out.fill(endpoint),
            None => self.1.fill(out),
        }
    }
}

/// Who meets how: nodes 0 and 1. In each, node [`Case::initiator`] initiates at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Two strangers in an open room.
    Open,
    /// Node 0 made an invite and initiates.
    InviterInitiates,
    /// Node 0 made an invite, and node 1 initiates.
    RedeemerInitiates,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Open, Self::InviterInitiates, Self::RedeemerInitiates];
    pub const PAIRED: [Self; 2] = [Self::InviterInitiates, Self::RedeemerInitiates];

    pub fn initiator(self) -> usize {
        usize::from(self == Self::RedeemerInitiates)
    }

    pub fn responder(self) -> usize {
        1 - self.initiator()
    }

    /// The first bytes of the endpoint ids of nodes 0 and 1. There is room below, between and above.
    fn endpoints(self) -> [u8; 2] {
        if self.initiator() == 0 {
            [0x40, 0xc0]
        } else {
            [0xc0, 0x40]
        }
    }
}

/// What the server tells an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Welcome(Vec<EndpointId>),
    Joined(EndpointId),
    Left(EndpointId),
    Blob { from: EndpointId, blob: Vec<u8> },
}

/// One thing on its way from the server to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub to: usize,
    pub told: Told,
    pub delay: Duration,
}

/// One frame on its way over a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub to: usize,
    pub channel: u8,
    pub frame: Vec<u8>,
    pub delay: Duration,
}

/// What the server and the network make of the traffic. Every method may change, drop, or multiply.
pub trait Hostile {
    /// A letter from the server; what is returned is delivered instead.
    fn relay(&mut self, letter: Letter) -> Vec<Letter> {
        vec![letter]
    }

    /// A frame on the wire; what is returned is delivered instead, each in its own time but in order per channel.
    fn wire(&mut self, packet: Packet) -> Vec<Packet> {
        vec![packet]
    }

    /// To which node a blob goes, whatever the address on it; `None`: to that address in the same room, if it is there.
    fn route(&mut self, _from: usize, _to: EndpointId) -> Option<usize> {
        None
    }

    /// The fingerprint that a node's stack sees when a link opens.
    fn fingerprint(&mut self, _node: usize, honest: [u8; 32]) -> Option<[u8; 32]> {
        Some(honest)
    }
}

/// Everybody plays by the rules.
#[derive(Debug)]
pub struct Honest;

impl Hostile for Honest {}

/// A [`Hostile`] from a closure over letters.
pub struct Relay<F>(pub F);

impl<F: FnMut(Letter) -> Vec<Letter>> Hostile for Relay<F> {
    fn relay(&mut self, letter: Letter) -> Vec<Letter> {
        (self.0)(letter)
    }
}

/// A [`Hostile`] from a closure over packets.
pub struct Wire<F>(pub F);

impl<F: FnMut(Packet) -> Vec<Packet>> Hostile for Wire<F> {
    fn wire(&mut self, packet: Packet) -> Vec<Packet> {
        (self.0)(packet)
    }
}

/// One end of an imagined peer connection.
#[derive(Debug)]
pub struct LinkEnd {
    /// What identifies it in its description.
    token: u64,
    fingerprint: [u8; 32],
    /// The token in the description of the other end, once given.
    remote: Option<u64>,
    candidates: usize,
    open: bool,
    closed: bool,
    /// When the last frame of each channel arrives: order is kept.
    last: BTreeMap<u8, Duration>,
}

/// One machine and what came out of it.
pub struct Node {
    pub machine: Machine,
    pub identity: Identity,
    pub endpoint: Option<EndpointId>,
    pub room: Option<RoomId>,
    pub links: BTreeMap<LinkId, LinkEnd>,
    pub events: Vec<Event>,
    pub messages: Vec<(u8, u64, Bytes)>,
    /// Those of sessions that were replaced. The host has them, and the machine knows nothing of them any more.
    pub former: Vec<Bytes>,
    /// What came on lossy channels.
    pub datagrams: Vec<(u8, Bytes)>,
    /// Messages taken by the host, per channel.
    pub taken: BTreeMap<u8, u64>,
    /// Contact secrets that both sides agreed on.
    pub contacts: Vec<(PeerId, [u8; 32])>,
    /// Epochs whose keys were confirmed.
    pub epochs: Vec<u16>,
    pub acknowledged: BTreeMap<u8, u64>,
    /// The endpoint id in the room that is only watched.
    pub watching: Option<EndpointId>,
    /// Every join so far.
    pub joins: Vec<EndpointId>,
    /// Links opened so far.
    pub opened: usize,
    /// Every description and candidate given to the stack: what came from elsewhere would show here.
    pub given: Vec<String>,
    /// Every description and candidate that the stack made.
    pub described: Vec<String>,
    /// What must hold of it.
    pub laws: Laws,
    /// Whether messages are taken as soon as they are delivered.
    pub takes: bool,
    /// Where its history is.
    pub archive: Option<Archive>,
    pair: Option<Pair>,
    /// Positions of waiting messages that were given to the machine.
    settling: VecDeque<u64>,
    /// Why its history could not be used.
    pub history_errors: Vec<HistoryError>,
}

enum Action {
    Give(usize, Input),
    Relay(Letter),
    Joined {
        node: usize,
        room: RoomId,
        endpoint: EndpointId,
    },
    /// The history does what it was asked for.
    History(usize, HistoryOutput),
    /// The host takes a message, if there is one.
    Take {
        node: usize,
        channel: u8,
    },
}

struct Queued(Duration, u64, Action);

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The whole.
pub struct World<'h> {
    pub nodes: Vec<Node>,
    pub now: Duration,
    /// Every blob that reached the server: (from, to, blob).
    pub seen_by_server: Vec<(EndpointId, EndpointId, Vec<u8>)>,
    /// Every frame that went over a link: (to, channel, frame).
    pub seen_on_wire: Vec<(usize, u8, Vec<u8>)>,
    dead: BTreeSet<usize>,
    /// Channels on which the wire keeps no order.
    lossy: BTreeSet<u8>,
    hostile: Box<dyn Hostile + 'h>,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    members: Vec<(RoomId, EndpointId, usize)>,
    /// The first endpoint id of the next machine.
    rigged: Option<u8>,
    /// What machines added from here on offer.
    pub channels: Vec<ChannelOffer>,
    /// Whether machines added from here on keep a history, and where.
    pub history: HistoryUse,
    pub archive: Option<Archive>,
    rng: ChaCha8Rng,
    seed: u64,
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("world: seed {}", self.seed);
        }
    }
}

impl<'h> World<'h> {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Honest)
    }

    pub fn with(seed: u64, hostile: impl Hostile + 'h) -> Self {
        Self {
            nodes: Vec::new(),
            now: Duration::from_secs(1),
            seen_by_server: Vec::new(),
            seen_on_wire: Vec::new(),
            dead: BTreeSet::new(),
            lossy: BTreeSet::new(),
            hostile: Box::new(hostile),
            queue: BinaryHeap::new(),
            sequence: 0,
            members: Vec::new(),
            rigged: None,
            channels: vec![ChannelOffer::main()],
            history: HistoryUse::Off,
            archive: None,
            rng: ChaCha8Rng::seed_from_u64(seed),
            seed,
        }
    }

    /// Becomes honest, or hostile in another way, from here on.
    pub fn set_hostile(&mut self, hostile: impl Hostile + 'h) {
        self.hostile = Box::new(hostile);
    }

    pub fn identity(&mut self) -> Identity {
        Identity::generate_from(&mut Seeded::new(self.rng.next_u64()))
    }

    pub fn clock(&self) -> Now {
        Now {
            monotonic: self.now,
            unix_ms: EPOCH_MS + self.now.as_millis() as u64,
        }
    }

    pub fn invite(&mut self, identity: &Identity) -> String {
        invite(identity, 0, self.rng.next_u64())
    }

    /// Sixteen times this byte is the first endpoint id of the machine added next.
    pub fn rig(&mut self, endpoint: u8) {
        self.rigged = Some(endpoint);
    }

    /// Adds a machine and starts it.
    pub fn add(&mut self, identity: Identity, meeting: Meeting, required: MinTrust) -> usize {
        self.add_with(Config::default(), identity, meeting, required)
    }

    pub fn add_with(
        &mut self,
        config: Config,
        identity: Identity,
        meeting: Meeting,
        required: MinTrust,
    ) -> usize {
        let setup = Setup {
            config,
            identity: identity.clone(),
            meeting,
            required,
            channels: self.channels.clone(),
            history: self.history,
        };
        let entropy = Box::new(Rigged::new(self.rigged.take(), self.rng.next_u64()));
        let machine = at_work(|| Machine::new(setup, entropy));
        let machine = machine.expect("the setup of a test is valid");
        self.nodes.push(Node {
            machine,
            identity,
            endpoint: None,
            room: None,
            links: BTreeMap::new(),
            events: Vec::new(),
            messages: Vec::new(),
            former: Vec::new(),
            datagrams: Vec::new(),
            taken: BTreeMap::new(),
            contacts: Vec::new(),
            epochs: Vec::new(),
            acknowledged: BTreeMap::new(),
            watching: None,
            joins: Vec::new(),
            opened: 0,
            given: Vec::new(),
            described: Vec::new(),
            laws: Laws::default(),
            takes: true,
            archive: self.archive.clone(),
            pair: None,
            settling: VecDeque::new(),
            history_errors: Vec::new(),
        });
        let node = self.nodes.len() - 1;
        self.give(node, Input::Start);
        node
    }

    /// Adds a machine that looks for a contact.
    pub fn add_contact(&mut self, identity: Identity, peer: PeerId, secret: [u8; 32]) -> usize {
        let mut keys = [*identity.peer_id().as_bytes(), *peer.as_bytes()];
        keys.sort_unstable();
        let secret = Secret::new(secret);
        let pairing = kdf::pairing(PairingKind::Contact, &secret, keys.as_flattened());
        let meeting = Meeting::Contact {
            peer,
            trust: PeerTrust::Invited,
            pairing,
        };
        self.add(identity, meeting, MinTrust::Invited)
    }

    /// Two machines that meet in one of the ways there are, started: nodes 0 and 1. Identities, invite and first
    /// endpoint ids are the same for every seed: two worlds of a case are two sessions of the same pair.
    pub fn of(case: Case, seed: u64, hostile: impl Hostile + 'h) -> Self {
        let mut world = Self::with(seed, hostile);
        let identities = [1, 2].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
        let text = invite(&identities[0], 0, 3);
        for (node, (identity, endpoint)) in identities.into_iter().zip(case.endpoints()).enumerate()
        {
            let (meeting, required) = match (case, node) {
                (Case::Open, _) => (
                    Meeting::Open {
                        room: "lobby".into(),
                        pinned: None,
                    },
                    MinTrust::Unknown,
                ),
                (_, 0) => (Meeting::Invite(parse(&text)), MinTrust::Invited),
                _ => (Meeting::Redeem(parse(&text)), MinTrust::Invited),
            };
            world.rig(endpoint);
            world.add(identity, meeting, required);
        }
        world
    }

    /// An inviter and a redeemer, started: nodes 0 and 1.
    pub fn invited(seed: u64, hostile: impl Hostile + 'h) -> Self {
        let mut world = Self::with(seed, hostile);
        let (inviter, redeemer) = (world.identity(), world.identity());
        let text = world.invite(&inviter);
        world.add(inviter, Meeting::Invite(parse(&text)), MinTrust::Invited);
        world.add(redeemer, Meeting::Redeem(parse(&text)), MinTrust::Invited);
        world
    }

    /// Two strangers in an open room, started: nodes 0 and 1.
    pub fn open(seed: u64, hostile: impl Hostile + 'h) -> Self {
        let mut world = Self::with(seed, hostile);
        for _ in 0..2 {
            world.add_open("lobby");
        }
        world
    }

    pub fn add_open(&mut self, room: &str) -> usize {
        let identity = self.identity();
        self.add(
            identity,
            Meeting::Open {
                room: room.into(),
                pinned: None,
            },
            MinTrust::Unknown,
        )
    }

    /// Gives an input now and carries out what follows from it at once.
    pub fn give(&mut self, node: usize, input: Input) {
        if self.dead.contains(&node) {
            return;
        }
        let mut out = Vec::new();
        let clock = self.clock();
        let Node { machine, laws, .. } = &mut self.nodes[node];
        laws.note(&input);
        at_work(|| machine.handle(clock, input, &mut out));
        laws.check(clock.monotonic, machine, &out);
        for output in out {
            self.carry_out(node, output);
        }
    }

    pub fn send(&mut self, node: usize, body: impl Into<Bytes>) {
        self.give(
            node,
            Input::Send {
                channel: 1,
                body: body.into(),
            },
        );
        self.flush(node);
    }

    pub fn close(&mut self, node: usize) {
        self.give(
            node,
            Input::Close {
                code: CloseCode::NORMAL,
                reason: "done".into(),
            },
        );
    }

    /// Gives a link room while messages wait.
    pub fn flush(&mut self, node: usize) {
        while self.nodes[node].machine.wants_write() {
            let Some(link) = self.nodes[node].machine.link() else {
                return;
            };
            self.give(
                node,
                Input::LinkWritable {
                    link,
                    bytes: WRITABLE,
                },
            );
        }
    }

    fn later(&mut self, delay: Duration, action: Action) {
        self.sequence += 1;
        self.queue
            .push(Reverse(Queued(self.now + delay, self.sequence, action)));
    }

    /// Gives an input after a while.
    pub fn give_later(&mut self, delay: Duration, node: usize, input: Input) {
        self.later(delay, Action::Give(node, input));
    }

    /// Lets the server say something of its own.
    pub fn tell(&mut self, letter: Letter) {
        let delay = letter.delay;
        self.later(delay, Action::Relay(letter));
    }

    /// Runs until nothing is left to do before `span` has passed.
    pub fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most a virtual hour.
    pub fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(3_600);
        while !done(self) {
            if !self.step(end) {
                return false;
            }
        }
        true
    }

    /// The next so many events, as far as they happen within a second.
    pub fn steps(&mut self, count: u64) {
        let end = self.now + Duration::from_secs(1);
        for _ in 0..count {
            self.step(end);
        }
    }

    /// The next event, if it comes before `end`.
    pub fn step(&mut self, end: Duration) -> bool {
        let queued = self.queue.peek().map(|Reverse(Queued(at, ..))| *at);
        let timer = (0..self.nodes.len())
            .filter(|node| !self.dead.contains(node))
            .filter_map(|node| {
                self.nodes[node]
                    .machine
                    .next_timeout()
                    .map(|(at, _)| (at, node))
            })
            .min();
        match (queued, timer) {
            (queued, Some((at, node))) if queued.is_none_or(|queued| at < queued) => {
                if at > end {
                    return false;
                }
                self.now = self.now.max(at);
                self.give(node, Input::Tick);
                self.flush(node);
            }
            (Some(at), _) if at <= end => {
                let Some(Reverse(Queued(_, _, action))) = self.queue.pop() else {
                    return false;
                };
                self.now = self.now.max(at);
                self.act(action);
            }
            _ => return false,
        }
        true
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Give(node, input) => {
                self.give(node, input);
                self.flush(node);
            }
            Action::Joined {
                node,
                room,
                endpoint,
            } => self.join(node, room, endpoint),
            Action::History(node, asked) => {
                if !self.dead.contains(&node) {
                    self.keep(node, asked);
                    self.flush(node);
                }
            }
            Action::Take { node, channel } => {
                self.take(node, channel);
                self.flush(node);
            }
            Action::Relay(Letter { to, told, .. }) if to >= WATCHER => {
                self.give_watcher(to - WATCHER, told);
            }
            Action::Relay(Letter { to, told, .. }) => {
                let input = match told {
                    Told::Welcome(peers) => Input::Welcome { peers },
                    Told::Joined(peer) => Input::PeerJoined(peer),
                    Told::Left(peer) => Input::PeerLeft(peer),
                    Told::Blob { from, blob } => Input::Blob { from, blob },
                };
                self.give(to, input);
                self.flush(to);
            }
        }
    }

    fn post(&mut self, to: usize, told: Told) {
        for letter in self.hostile.relay(Letter {
            to,
            told,
            delay: RELAY_DELAY,
        }) {
            self.tell(letter);
        }
    }

    /// The host takes the next message of a channel that waits for it.
    pub fn take(&mut self, node: usize, channel: u8) {
        let it = &mut self.nodes[node];
        let taken = it.taken.entry(channel).or_default();
        let waits = it
            .messages
            .iter()
            .any(|(on, number, _)| (*on, *number) == (channel, *taken));
        if waits {
            *taken += 1;
            let messages = 1;
            self.give(node, Input::Taken { channel, messages });
        }
    }

    fn give_watcher(&mut self, node: usize, told: Told) {
        let seen = match told {
            Told::Welcome(peers) => peers,
            Told::Joined(peer) => vec![peer],
            Told::Blob { from, .. } => vec![from],
            Told::Left(_) => Vec::new(),
        };
        for peer in seen {
            self.give(node, Input::Watched(peer));
        }
    }

    fn join(&mut self, node: usize, room: RoomId, endpoint: EndpointId) {
        let current = match node.checked_sub(WATCHER) {
            Some(watcher) => self.nodes[watcher].watching,
            None => self.nodes[node].endpoint,
        };
        if current != Some(endpoint) {
            return;
        }
        let here: Vec<(EndpointId, usize)> = self
            .members
            .iter()
            .filter(|(r, ..)| *r == room)
            .map(|(_, endpoint, node)| (*endpoint, *node))
            .collect();
        self.members.push((room, endpoint, node));
        self.post(
            node,
            Told::Welcome(here.iter().map(|(endpoint, _)| *endpoint).collect()),
        );
        for (_, other) in here {
            self.post(other, Told::Joined(endpoint));
        }
    }

    fn leave(&mut self, node: usize) {
        match node.checked_sub(WATCHER) {
            Some(watcher) => self.nodes[watcher].watching = None,
            None => self.nodes[node].endpoint = None,
        }
        let Some(at) = self
            .members
            .iter()
            .position(|(_, _, member)| *member == node)
        else {
            return;
        };
        let (room, endpoint, _) = self.members.remove(at);
        let others: Vec<usize> = self
            .members
            .iter()
            .filter(|(r, ..)| *r == room)
            .map(|(.., node)| *node)
            .collect();
        for other in others {
            self.post(other, Told::Left(endpoint));
        }
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        match output {
            Output::Join { room, endpoint } => {
                self.leave(node);
                self.nodes[node].endpoint = Some(endpoint);
                self.nodes[node].room = Some(room);
                self.nodes[node].joins.push(endpoint);
                self.later(
                    RELAY_DELAY,
                    Action::Joined {
                        node,
                        room,
                        endpoint,
                    },
                );
            }
            Output::Leave => self.leave(node),
            Output::Watch { room, endpoint } => {
                self.leave(node + WATCHER);
                self.nodes[node].watching = Some(endpoint);
                let node = node + WATCHER;
                self.later(
                    RELAY_DELAY,
                    Action::Joined {
                        node,
                        room,
                        endpoint,
                    },
                );
            }
            Output::Unwatch => self.leave(node + WATCHER),
            Output::WatchBlob { to, blob } => self.send_blob(node + WATCHER, to, blob),
            Output::SendBlob { to, blob } => self.send_blob(node, to, blob),
            Output::OpenLink {
                link,
                offer,
                channels,
            } => {
                let lossy = |(channel, delivery)| (delivery == Delivery::Lossy).then_some(channel);
                self.lossy.extend(channels.into_iter().filter_map(lossy));
                self.open_link(node, link, offer);
            }
            Output::Discard => {
                let it = &mut self.nodes[node];
                let taken = &it.taken;
                let is_taken = |&(channel, number, _): &(u8, u64, Bytes)| {
                    taken.get(&channel).is_some_and(|taken| number < *taken)
                };
                let kept: Vec<_> = it
                    .messages
                    .iter()
                    .filter(|one| is_taken(one))
                    .cloned()
                    .collect();
                it.messages = kept;
                self.give(node, Input::Discarded);
            }
            Output::Datagram { channel, body } => {
                self.nodes[node].datagrams.push((channel, body));
            }
            Output::Contact { peer, secret } => {
                self.nodes[node].contacts.push((peer, *secret.expose()));
            }
            Output::Rekeyed { epoch } => self.nodes[node].epochs.push(epoch),
            Output::LinkAnswer { link, sdp } => {
                self.nodes[node].given.push(sdp.clone());
                if let Some(end) = self.nodes[node].links.get_mut(&link) {
                    end.remote = token_of(&sdp);
                }
                self.try_open(node, link);
            }
            Output::LinkCandidate { link, candidate } => {
                self.nodes[node].given.push(candidate);
                if let Some(end) = self.nodes[node].links.get_mut(&link) {
                    end.candidates += 1;
                }
                self.try_open(node, link);
            }
            Output::LinkFrame {
                link,
                channel,
                frame,
            } => self.send_frame(node, link, channel, frame),
            Output::CloseLink { link, how } => self.close_link(node, link, how),
            Output::Deliver {
                channel,
                number,
                body,
            } => {
                self.nodes[node].messages.push((channel, number, body));
                if self.nodes[node].takes {
                    self.later(Duration::ZERO, Action::Take { node, channel });
                }
            }
            Output::Acknowledged { channel, next } => {
                self.nodes[node].acknowledged.insert(channel, next);
            }
            Output::History(asked) => self.later(DISK_DELAY, Action::History(node, asked)),
            Output::Event(event) => {
                let it = &mut self.nodes[node];
                if matches!(event, Event::SessionReset { .. }) {
                    let bodies = it.messages.drain(..).map(|(.., body)| body);
                    it.former.extend(bodies);
                    it.taken.clear();
                }
                it.events.push(event);
            }
        }
    }

    /// The history does what it was asked for: durable at once, unless the node was killed before.
    fn keep(&mut self, node: usize, asked: HistoryOutput) {
        if let Err(error) = self.try_keep(node, asked) {
            self.nodes[node].history_errors.push(error);
        }
    }

    fn try_keep(&mut self, node: usize, asked: HistoryOutput) -> Result<(), HistoryError> {
        let now_ms = self.clock().unix_ms;
        let it = &mut self.nodes[node];
        let archive = it.archive.clone().expect("it keeps a history");
        if let HistoryOutput::Load { peer, .. } = asked {
            let me = it.identity.peer_id();
            it.pair = Some(Pair { me, peer });
            it.settling.clear();
        }
        let pair = it.pair.expect("the peer is known");
        match asked {
            HistoryOutput::Load { ledger, .. } => {
                let standing = Box::new(now(archive.standing(pair))?);
                self.give(
                    node,
                    Input::History(HistoryInput::Loaded { ledger, standing }),
                );
            }
            HistoryOutput::Begin { ledger, agreed } => {
                let waiting = now(archive.begin(pair, agreed))?;
                self.give(node, Input::History(HistoryInput::Begun { ledger }));
                for (position, body) in waiting {
                    self.nodes[node].settling.push_back(position);
                    self.give(node, Input::Send { channel: 1, body });
                }
            }
            HistoryOutput::Record { ledger, record } => {
                let own = record.author() == Author::Me;
                let settled = own.then(|| it.settling.pop_front()).flatten();
                let settled: Vec<u64> = settled.into_iter().collect();
                now(archive.append(pair, vec![record], &settled)?)?;
                let records = 1;
                self.give(
                    node,
                    Input::History(HistoryInput::Recorded { ledger, records }),
                );
            }
            HistoryOutput::Confirmed { n, .. } => now(archive.confirm(pair, n)?)?,
            HistoryOutput::Rebase { head, .. } => now(archive.rebase(pair, head, now_ms))?,
        }
        Ok(())
    }

    fn send_blob(&mut self, node: usize, to: EndpointId, blob: Vec<u8>) {
        let Some(&(room, from, _)) = self.members.iter().find(|(.., member)| *member == node)
        else {
            return;
        };
        self.seen_by_server.push((from, to, blob.clone()));
        let honest = self
            .members
            .iter()
            .find(|(r, endpoint, _)| *r == room && *endpoint == to)
            .map(|(.., node)| *node);
        let target = self.hostile.route(node, to).or(honest);
        if let Some(target) = target {
            self.post(target, Told::Blob { from, blob });
        }
    }

    fn open_link(&mut self, node: usize, link: LinkId, offer: Option<String>) {
        let token = self.rng.next_u64();
        let mut fingerprint = [0; 32];
        self.rng.fill_bytes(&mut fingerprint);
        let remote = offer.as_deref().and_then(token_of);
        let setup = if offer.is_some() { "active" } else { "actpass" };
        let end = LinkEnd {
            token,
            fingerprint,
            remote,
            candidates: 0,
            open: false,
            closed: false,
            last: BTreeMap::new(),
        };
        self.nodes[node].links.insert(link, end);
        let sdp = description(token, fingerprint, setup);
        let candidate = format!("candidate:1 1 udp 1 127.0.0.1 {} typ host", token % 60_000);
        let it = &mut self.nodes[node];
        it.opened += 1;
        it.given.extend(offer);
        it.described.extend([sdp.clone(), candidate.clone()]);
        self.give_later(
            GATHER_DELAY,
            node,
            Input::LinkDescribed {
                link,
                sdp,
                candidates: vec![candidate],
            },
        );
    }

    /// The other end of a link, if each was given the other's description.
    fn peer_of(&self, node: usize, link: LinkId) -> Option<(usize, LinkId)> {
        let end = self.nodes[node].links.get(&link)?;
        let remote = end.remote?;
        for (other, other_node) in self.nodes.iter().enumerate() {
            for (id, other_end) in &other_node.links {
                if other_end.token == remote && other_end.remote == Some(end.token) {
                    return Some((other, *id));
                }
            }
        }
        None
    }

    fn try_open(&mut self, node: usize, link: LinkId) {
        let Some((other, other_link)) = self.peer_of(node, link) else {
            return;
        };
        let ready = |world: &Self, node: usize, link| {
            world.nodes[node]
                .links
                .get(&link)
                .is_some_and(|end| !end.open && !end.closed)
        };
        let reachable = self.nodes[node].links[&link].candidates
            + self.nodes[other].links[&other_link].candidates
            > 0;
        if !reachable || !ready(self, node, link) || !ready(self, other, other_link) {
            return;
        }
        for (to, id, from, from_id) in [
            (node, link, other, other_link),
            (other, other_link, node, link),
        ] {
            let seen = self.nodes[from].links[&from_id].fingerprint;
            let fingerprint = self.hostile.fingerprint(to, seen);
            if let Some(end) = self.nodes[to].links.get_mut(&id) {
                end.open = true;
            }
            self.give_later(
                WIRE_DELAY,
                to,
                Input::LinkOpen {
                    link: id,
                    fingerprint,
                },
            );
        }
    }

    fn send_frame(&mut self, node: usize, link: LinkId, channel: u8, frame: Vec<u8>) {
        let Some((other, other_link)) = self.peer_of(node, link) else {
            return;
        };
        if !self.nodes[node]
            .links
            .get(&link)
            .is_some_and(|end| end.open && !end.closed)
        {
            return;
        }
        self.seen_on_wire.push((other, channel, frame.clone()));
        for packet in self.hostile.wire(Packet {
            to: other,
            channel,
            frame,
            delay: WIRE_DELAY,
        }) {
            let Some(end) = self.nodes[packet.to].links.get_mut(&other_link) else {
                continue;
            };
            let last = end.last.entry(packet.channel).or_default();
            let mut at = self.now + packet.delay;
            if !self.lossy.contains(&packet.channel) {
                at = at.max(*last);
                *last = at;
            }
            let input = Input::LinkFrame {
                link: other_link,
                channel: packet.channel,
                frame: BytesMut::from(packet.frame.as_slice()),
            };
            self.give_later(at - self.now, packet.to, input);
        }
    }

    fn close_link(&mut self, node: usize, link: LinkId, _how: CloseHow) {
        let peer = self.peer_of(node, link);
        if let Some(end) = self.nodes[node].links.get_mut(&link) {
            end.closed = true;
        }
        let Some((other, other_link)) = peer else {
            return;
        };
        let Some(end) = self.nodes[other].links.get_mut(&other_link) else {
            return;
        };
        if end.open && !end.closed {
            end.closed = true;
            // Frames sent before arrive before.
            let last = end
                .last
                .values()
                .max()
                .copied()
                .unwrap_or_default()
                .max(self.now + WIRE_DELAY);
            self.give_later(
                last - self.now,
                other,
                Input::LinkClosed {
                    link: other_link,
                    reason: None,
                },
            );
        }
    }

    /// The server throws a node out.
    pub fn cut_signaling(&mut self, node: usize) {
        self.leave(node);
        self.give(node, Input::SignalingLost);
    }

    /// The network between two nodes breaks: both links end without a word.
    pub fn cut(&mut self, node: usize) {
        let Some(link) = self.nodes[node].machine.link() else {
            return;
        };
        let peer = self.peer_of(node, link);
        for (node, link) in std::iter::once((node, link)).chain(peer) {
            if let Some(end) = self.nodes[node].links.get_mut(&link) {
                end.closed = true;
            }
            let reason = Some(Error::Transport("cut".into()));
            self.give_later(WIRE_DELAY, node, Input::LinkClosed { link, reason });
        }
    }

    /// A node is gone without a word, and its memberships with it.
    pub fn kill(&mut self, node: usize) {
        self.leave(node);
        self.leave(node + WATCHER);
        if let Some(link) = self.nodes[node].machine.link() {
            let peer = self.peer_of(node, link);
            for (node, link) in std::iter::once((node, link)).chain(peer) {
                if let Some(end) = self.nodes[node].links.get_mut(&link) {
                    end.closed = true;
                }
            }
        }
        self.dead.insert(node);
    }

    /// One side loses its link; the other hears nothing any more.
    pub fn cut_one(&mut self, node: usize) {
        let Some(link) = self.nodes[node].machine.link() else {
            return;
        };
        let peer = self.peer_of(node, link);
        for (node, link) in std::iter::once((node, link)).chain(peer) {
            if let Some(end) = self.nodes[node].links.get_mut(&link) {
                end.closed = true;
            }
        }
        let reason = Some(Error::Transport("cut".into()));
        self.give_later(WIRE_DELAY, node, Input::LinkClosed { link, reason });
    }

    pub fn is_established(&self, node: usize) -> bool {
        self.nodes[node]
            .events
            .iter()
            .any(|event| matches!(event, Event::Established { .. }))
    }

    pub fn is_disconnected(&self, node: usize) -> bool {
        let lost = |event: &Event| matches!(event, Event::Disconnected { .. });
        self.nodes[node].events.iter().any(lost)
    }

    pub fn both_established(&self) -> bool {
        self.is_established(0) && self.is_established(1)
    }

    /// Runs until nodes 0 and 1 have a session, and fails the test otherwise.
    #[track_caller]
    pub fn establish(&mut self) {
        let up = self.run_until(World::both_established);
        assert!(
            up,
            "no session: {:?} / {:?}",
            self.nodes[0].events, self.nodes[1].events
        );
    }

    /// What the host got, also in sessions that were replaced.
    pub fn bodies(&self, node: usize) -> Vec<Bytes> {
        let Node {
            former, messages, ..
        } = &self.nodes[node];
        let messages = messages.iter().map(|(.., body)| body);
        former.iter().chain(messages).cloned().collect()
    }

    /// Why a node's session failed, if it did.
    pub fn failure(&self, node: usize) -> Option<&Error> {
        self.nodes[node]
            .events
            .iter()
            .find_map(|event| match event {
                Event::Failed { error } => Some(error),
                _ => None,
            })
    }

    pub fn peer_id(&self, node: usize) -> PeerId {
        self.nodes[node].identity.peer_id()
    }
}

/// What a history in memory answers: it does so at once.
pub fn now<T>(answer: impl Future<Output = T>) -> T {
    let mut answer = pin!(answer);
    match answer
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("memory answers at once"),
    }
}

pub fn invite(identity: &Identity, expires_at: u32, seed: u64) -> String {
    let plain = sealwire::PlainSignaling::LoopbackOnly;
    Invite::expiring_at(
        identity,
        "ws://127.0.0.1:8080",
        expires_at,
        plain,
        &mut Seeded::new(seed),
    )
    .expect("a valid invite")
    .to_string()
}

pub fn parse(text: &str) -> Invite {
    text.parse().expect("a valid invite")
}

fn token_of(sdp: &str) -> Option<u64> {
    sdp.lines()
        .find_map(|line| line.strip_prefix("a=ice-ufrag:"))?
        .parse()
        .ok()
}

pub fn description(token: u64, fingerprint: [u8; 32], setup: &str) -> String {
    let fingerprint: Vec<String> = fingerprint
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    format!(
        "v=0\r\no=- {token} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {}\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:{token}\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:{setup}\r\na=sctp-port:5000\r\na=max-message-size:65536\r\n",
        fingerprint.join(":"),
    )
}
