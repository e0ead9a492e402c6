//! One machine alone: the test is its server, its wire and its peer, and sees every output.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sealwire::{
    Config, EndpointId, Error, Identity, MinTrust, RoomId,
    crypto::epoch::Role,
    protocol::{
        ChannelOffer, Event, HistoryUse, Input, LinkId, Machine, Meeting, Mode, Now, Output,
        PayloadKind, Setup, SigSender,
    },
};

use super::{
    laws::Laws,
    mallory::{Hands, Key, Mallory, Peer, READY, READY_BODY, READY_OK, Terms, candidate},
    world::{EPOCH_MS, Rigged, Seeded, description, invite, parse},
};

/// Where a machine sits when it is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seat {
    /// In an open room.
    Open,
    /// It made the invite; the attacker holds it.
    Inviter,
    /// It redeems an invite that the attacker made.
    Redeemer,
}

/// Every seat in every role: whether the machine initiates.
pub const SCENES: [(Seat, bool); 6] = [
    (Seat::Open, true),
    (Seat::Open, false),
    (Seat::Inviter, true),
    (Seat::Inviter, false),
    (Seat::Redeemer, true),
    (Seat::Redeemer, false),
];

/// A machine and what came out of it.
pub struct Victim {
    pub machine: Machine,
    pub identity: Identity,
    pub now: Duration,
    pub endpoint: EndpointId,
    pub room: RoomId,
    /// Whether it is in the room.
    pub joined: bool,
    pub events: Vec<Event>,
    pub delivered: Vec<(u8, u64, Bytes)>,
    pub laws: Laws,
    pub fingerprint: [u8; 32],
    /// What its stack gathers for a description.
    pub candidates: Vec<String>,
    /// Candidates of the peer that were given to its stack.
    pub given: usize,
}

/// What most hosts ask for, in an open room.
pub fn lobby(identity: Identity) -> Setup {
    Setup {
        config: Config::default(),
        identity,
        meeting: Meeting::Open {
            room: "lobby".into(),
            pinned: None,
        },
        required: MinTrust::Unknown,
        channels: vec![ChannelOffer::main()],
        history: HistoryUse::Off,
    }
}

/// An HS1 of a member to a victim, and what followed.
#[track_caller]
pub fn knock(victim: &mut Victim, member: &mut Mallory) -> (Vec<Output>, Hands) {
    let payload = member.payload(PayloadKind::Hs1);
    let (hs1, hands) = member.hs1(victim.endpoint, &payload);
    (victim.blob(member.endpoint, &hs1), hands)
}

/// The attacker's endpoint stands in the middle.
const MALLORY: u8 = 0x80;

impl Victim {
    /// A machine that has joined an empty room under an endpoint id of this byte.
    pub fn new(endpoint: u8, seed: u64, identity: Identity, meeting: Meeting) -> Self {
        let setup = Setup {
            meeting,
            ..lobby(identity)
        };
        Self::set_up(endpoint, seed, setup)
    }

    /// The same with whatever a host may ask for.
    pub fn set_up(endpoint: u8, seed: u64, setup: Setup) -> Self {
        let identity = setup.identity.clone();
        let machine = Machine::new(setup, Box::new(Rigged::new(Some(endpoint), seed)))
            .expect("a valid setup");
        let mut victim = Self {
            machine,
            identity,
            now: Duration::from_secs(1),
            endpoint: EndpointId([0; 16]),
            room: RoomId([0; 32]),
            joined: false,
            events: Vec::new(),
            delivered: Vec::new(),
            laws: Laws::default(),
            fingerprint: [0x11; 32],
            candidates: vec![candidate(7)],
            given: 0,
        };
        victim.give(Input::Start);
        victim.give(Input::Welcome { peers: Vec::new() });
        victim
    }

    /// A machine in a seat, and an attacker who knows all that a peer of it may know.
    pub fn against(seat: Seat, initiates: bool, seed: u64) -> (Self, Mallory) {
        let endpoint = if initiates {
            MALLORY - 0x40
        } else {
            MALLORY + 0x40
        };
        let [own, other] = [seed, seed + 1_000]
            .map(|seed| Identity::generate_from(&mut Seeded::new(seed ^ 0x5eed)));
        let open = Meeting::Open {
            room: "lobby".into(),
            pinned: None,
        };
        let (meeting, terms, key) = match seat {
            Seat::Open => (open, Terms::open("lobby"), Key::of(&other)),
            Seat::Inviter => {
                let text = invite(&own, 0, seed);
                (
                    Meeting::Invite(parse(&text)),
                    Terms::invite(&text),
                    Key::of(&other),
                )
            }
            Seat::Redeemer => {
                let text = invite(&other, 0, seed);
                (
                    Meeting::Redeem(parse(&text)),
                    Terms::invite(&text),
                    Key::of(&other),
                )
            }
        };
        let victim = Self::new(endpoint, seed, own, meeting);
        (
            victim,
            Mallory::new(MALLORY, seed + 2_000, terms).with_key(key),
        )
    }

    /// Both, with a session between them.
    pub fn established(seat: Seat, initiates: bool, seed: u64) -> (Self, Peer, LinkId) {
        let (mut victim, mut mallory) = Self::against(seat, initiates, seed);
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        (victim, peer, link)
    }

    /// The same in an open room, whatever both want of it.
    #[track_caller]
    pub fn established_with(
        endpoint: u8,
        seed: u64,
        change: impl FnOnce(&mut Setup, &mut Mallory),
    ) -> (Self, Peer, LinkId) {
        let mut setup = lobby(Identity::generate_from(&mut Seeded::new(seed)));
        let mut mallory = Mallory::new(MALLORY, seed + 1, Terms::open("lobby"));
        change(&mut setup, &mut mallory);
        let mut victim = Self::set_up(endpoint, seed, setup);
        let (mut peer, link) = victim.shake(&mut mallory);
        victim.open_link(link, mallory.fingerprint);
        victim.exchange_ready(&mut peer, link);
        (victim, peer, link)
    }

    pub fn clock(&self) -> Now {
        Now {
            monotonic: self.now,
            unix_ms: EPOCH_MS + self.now.as_millis() as u64,
        }
    }

    #[track_caller]
    pub fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.laws.note(&input);
        self.machine.handle(self.clock(), input, &mut out);
        self.laws.check(self.now, &self.machine, &out);
        for output in &out {
            match output {
                Output::Join { room, endpoint } => {
                    (self.room, self.endpoint, self.joined) = (*room, *endpoint, true)
                }
                Output::Leave => self.joined = false,
                Output::LinkCandidate { .. } => self.given += 1,
                Output::Event(event) => self.events.push(event.clone()),
                Output::Deliver {
                    channel,
                    number,
                    body,
                } => self.delivered.push((*channel, *number, body.clone())),
                _ => {}
            }
        }
        out
    }

    #[track_caller]
    pub fn blob(&mut self, from: EndpointId, blob: &[u8]) -> Vec<Output> {
        self.give(Input::Blob {
            from,
            blob: blob.to_vec(),
        })
    }

    #[track_caller]
    pub fn sees(&mut self, peer: EndpointId) -> Vec<Output> {
        self.give(Input::PeerJoined(peer))
    }

    /// Somebody is in the room of its used invite.
    #[track_caller]
    pub fn watches(&mut self, peer: EndpointId) -> Vec<Output> {
        self.give(Input::Watched(peer))
    }

    #[track_caller]
    pub fn frame(&mut self, link: LinkId, channel: u8, frame: &[u8]) -> Vec<Output> {
        self.give(Input::LinkFrame {
            link,
            channel,
            frame: BytesMut::from(frame),
        })
    }

    /// Lets time pass, timer by timer; the server welcomes every join to an empty room.
    #[track_caller]
    pub fn wait(&mut self, span: Duration) -> Vec<Output> {
        let end = self.now + span;
        let mut all = Vec::new();
        while let Some((at, _)) = self.machine.next_timeout().filter(|(at, _)| *at <= end) {
            self.now = at;
            let out = self.give(Input::Tick);
            let joined = out
                .iter()
                .any(|output| matches!(output, Output::Join { .. }));
            all.extend(out);
            if joined {
                all.extend(self.give(Input::Welcome { peers: Vec::new() }));
            }
        }
        self.now = end;
        all
    }

    /// Lets time pass until the machine is in the room, at most a minute.
    #[track_caller]
    pub fn wait_until_joined(&mut self) {
        for _ in 0..600 {
            if self.joined {
                return;
            }
            self.wait(Duration::from_millis(100));
        }
        panic!("it does not join: {:?}", self.events);
    }

    /// The stack made a link's description.
    #[track_caller]
    pub fn describe(&mut self, link: LinkId, setup: &str) -> Vec<Output> {
        let sdp = description(link.0, self.fingerprint, setup);
        let candidates = self.candidates.clone();
        self.give(Input::LinkDescribed {
            link,
            sdp,
            candidates,
        })
    }

    #[track_caller]
    pub fn open_link(&mut self, link: LinkId, fingerprint: [u8; 32]) -> Vec<Output> {
        self.give(Input::LinkOpen {
            link,
            fingerprint: Some(fingerprint),
        })
    }

    /// An honest handshake to its end, whoever initiates, and the link that it made.
    #[track_caller]
    pub fn shake(&mut self, mallory: &mut Mallory) -> (Peer, LinkId) {
        self.shake_with_losers(mallory, &[])
    }

    /// The same beside attempts with others, who are told that this one won.
    #[track_caller]
    pub fn shake_with_losers(
        &mut self,
        mallory: &mut Mallory,
        losers: &[EndpointId],
    ) -> (Peer, LinkId) {
        if self.endpoint < mallory.endpoint {
            self.shake_as_initiator(mallory, losers)
        } else {
            self.shake_as_responder(mallory, losers)
        }
    }

    #[track_caller]
    fn shake_as_initiator(
        &mut self,
        mallory: &mut Mallory,
        losers: &[EndpointId],
    ) -> (Peer, LinkId) {
        let mode = mallory.terms.mode;
        let out = self.sees(mallory.endpoint);
        let out = match opened(&out).first() {
            Some(link) => self.describe(*link, "actpass"),
            None => out,
        };
        let (hs2, hands) = answer(mallory, self.endpoint, &out);
        let mut out = self.blob(mallory.endpoint, &hs2);
        take_busy(&mut out, losers);
        let mut link = answered(&out);
        if let Some(opened) = opened(&out).first() {
            link = Some(*opened);
            out = self.describe(*opened, "actpass");
        }
        let mut peer = hands.end(&one_blob(&out)).expect("an honest HS3");
        if mode == Mode::Open {
            let sig = peer.sig(&mallory.payload(PayloadKind::Sig(SigSender::OpenResponder)));
            let out = self.blob(mallory.endpoint, &sig);
            assert!(answered(&out).is_some(), "the answer reaches the stack");
        }
        (peer, link.expect("a committed initiator has a link"))
    }

    #[track_caller]
    fn shake_as_responder(
        &mut self,
        mallory: &mut Mallory,
        losers: &[EndpointId],
    ) -> (Peer, LinkId) {
        let mode = mallory.terms.mode;
        let (mut out, hands) = knock(self, mallory);
        let mut link = opened(&out).first().copied();
        if let Some(link) = link {
            out = self.describe(link, "active");
        }
        let payload = mallory.payload(PayloadKind::Hs3(mode));
        let (hs3, peer) = hands.hs3(&one_blob(&out), &payload).expect("an honest HS2");
        let mut out = self.blob(mallory.endpoint, &hs3);
        take_busy(&mut out, losers);
        if mode == Mode::Open {
            let opened = opened(&out)[0];
            link = Some(opened);
            let out = self.describe(opened, "active");
            let records = peer.read_sig(mode, &one_blob(&out)).expect("the answer");
            assert!(records.sdp.is_some());
        }
        (peer, link.expect("a committed responder has a link"))
    }

    /// READY and READY_OK both ways, on a link that is open.
    #[track_caller]
    pub fn exchange_ready(&mut self, peer: &mut Peer, link: LinkId) {
        let ready = peer.frame(0, READY, READY_BODY);
        let out = self.frame(link, 0, &ready);
        assert_eq!(frames(&out).len(), 1, "READY_OK answers READY: {out:?}");
        let ok = peer.frame(0, READY_OK, b"");
        self.frame(link, 0, &ok);
        assert!(self.is_established(), "{:?}", self.events);
        // Its READY and READY_OK.
        for _ in 0..2 {
            let chain = &mut peer.epoch.recv[0];
            chain.key().expect("a fresh chain");
            chain.commit();
        }
    }

    pub fn is_established(&self) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, Event::Established { .. }))
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.events.iter().find_map(|event| match event {
            Event::Failed { error } => Some(error),
            _ => None,
        })
    }

    /// Why attempts failed.
    pub fn retried(&self) -> Vec<&Error> {
        let mut errors = Vec::new();
        for event in &self.events {
            if let Event::Retrying { error } = event {
                errors.push(error);
            }
        }
        errors
    }
}

/// Takes REJECT(busy) to each of these, and to nobody else, out of outputs.
#[track_caller]
fn take_busy(out: &mut Vec<Output>, losers: &[EndpointId]) {
    let mut told = Vec::new();
    out.retain(|output| match output {
        Output::SendBlob { to, blob } if blob[..] == [5, 5] => {
            told.push(*to);
            false
        }
        _ => true,
    });
    told.sort_unstable();
    assert_eq!(told, losers);
}

/// HS2 in answer to the HS1 among outputs.
#[track_caller]
fn answer(
    mallory: &mut Mallory,
    from: EndpointId,
    out: &[Output],
) -> (Vec<u8>, super::mallory::Hands) {
    let payload = mallory.payload(PayloadKind::Hs2(mallory.terms.mode));
    mallory
        .hs2(from, &one_blob(out), &payload)
        .expect("an honest HS1")
}

/// The blobs among outputs.
pub fn blobs(out: &[Output]) -> Vec<Vec<u8>> {
    let blob = |output: &Output| match output {
        Output::SendBlob { blob, .. } => Some(blob.clone()),
        _ => None,
    };
    out.iter().filter_map(blob).collect()
}

#[track_caller]
pub fn one_blob(out: &[Output]) -> Vec<u8> {
    let blobs = blobs(out);
    assert_eq!(blobs.len(), 1, "one blob: {out:?}");
    blobs.into_iter().next().unwrap_or_default()
}

/// The links opened among outputs.
pub fn opened(out: &[Output]) -> Vec<LinkId> {
    let link = |output: &Output| match output {
        Output::OpenLink { link, .. } => Some(*link),
        _ => None,
    };
    out.iter().filter_map(link).collect()
}

/// The link that got an answer.
pub fn answered(out: &[Output]) -> Option<LinkId> {
    out.iter().find_map(|output| match output {
        Output::LinkAnswer { link, .. } => Some(*link),
        _ => None,
    })
}

/// The frames among outputs.
pub fn frames(out: &[Output]) -> Vec<(u8, Vec<u8>)> {
    let frame = |output: &Output| match output {
        Output::LinkFrame { channel, frame, .. } => Some((*channel, frame.clone())),
        _ => None,
    };
    out.iter().filter_map(frame).collect()
}

/// The role of a handmade peer against a machine that initiates or not.
pub fn role_against(initiates: bool) -> Role {
    if initiates {
        Role::Responder
    } else {
        Role::Initiator
    }
}
