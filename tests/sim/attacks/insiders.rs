//! Several members of a room who hold its secret and follow the protocol, each as far as it likes, in any order, at one
//! machine: the laws hold, and what is delivered is what the peer of the session sent.

use std::time::Duration;

use bytes::Bytes;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use sealwire::{
    CloseCode, EndpointId, Identity, PeerId,
    protocol::{Bye, Event, Input, LinkId, Mode, Output, Payload, PayloadKind, SigSender},
};

use crate::{
    mallory::{
        ACK, CLOSE, DATA, DATA_BATCH, DATA_PART, DUMMY, Hands, Key, Mallory, PING, Peer, READY,
        READY_BODY, READY_OK, candidate,
    },
    victim::{SCENES, Seat, Victim},
    world::Seeded,
};

/// The most that a machine shows of itself.
const MAX_SHOWN: usize = 20_000;
const FINGERPRINT: [u8; 32] = [0xab; 32];

struct Insider {
    mallory: Mallory,
    /// Blobs for it that it has not looked at.
    mail: Vec<Vec<u8>>,
    hands: Option<Hands>,
    peer: Option<Peer>,
    /// The link that its handshake was completed for.
    link: Option<LinkId>,
    /// Messages that it sent.
    sent: Vec<Bytes>,
    /// It sent message frames of any content as well.
    wild: bool,
}

struct Room {
    victim: Victim,
    template: Mallory,
    insiders: Vec<Insider>,
    /// Links that have no description yet: the way it is made.
    links: Vec<(LinkId, &'static str)>,
    rng: ChaCha8Rng,
    seed: u64,
}

impl Room {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (seat, initiates) = SCENES[(rng.next_u64() % 6) as usize];
        let (victim, template) = Victim::against(seat, initiates, seed % 97);
        let mut room = Self {
            victim,
            template,
            insiders: Vec::new(),
            links: Vec::new(),
            rng,
            seed,
        };
        if seat == Seat::Inviter {
            // It may take part of a claim's 30 s before anybody comes.
            let wait = room.below(3);
            room.victim.wait(Duration::from_secs(wait));
        }
        room
    }

    fn below(&mut self, n: u64) -> u64 {
        self.rng.next_u64() % n
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn index(&mut self) -> Option<usize> {
        let len = self.insiders.len() as u64;
        (len > 0).then(|| self.below(len) as usize)
    }

    fn give(&mut self, input: Input) {
        let out = self.victim.give(input);
        self.look_at(out);
    }

    fn look_at(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::SendBlob { to, blob } => {
                    if let Some(insider) = self
                        .insiders
                        .iter_mut()
                        .find(|insider| insider.mallory.endpoint == to)
                    {
                        insider.mail.push(blob);
                    }
                }
                Output::OpenLink { link, offer, .. } => {
                    self.links
                        .push((link, if offer.is_some() { "active" } else { "actpass" }));
                }
                _ => {}
            }
        }
    }

    fn blob(&mut self, from: EndpointId, blob: Vec<u8>) {
        self.give(Input::Blob { from, blob });
    }

    /// Somebody comes: one of three keys, the first of which is the one that the machine expects.
    fn arrive(&mut self) {
        let mut name = [0; 16];
        self.rng.fill_bytes(&mut name);
        let key = match self.below(3) {
            0 => self.template.key.clone(),
            other => Key::of(&Identity::generate_from(&mut Seeded::new(other))),
        };
        let seed = self.rng.next_u64();
        let mut mallory = Mallory::new(0, seed, self.template.terms.clone()).with_key(key);
        mallory.endpoint = EndpointId(name);
        let insider = Insider {
            mallory,
            mail: Vec::new(),
            hands: None,
            peer: None,
            link: None,
            sent: Vec::new(),
            wild: false,
        };
        self.insiders.push(insider);
        if self.once_in(2) {
            self.give(Input::PeerJoined(EndpointId(name)));
        }
    }

    /// An insider does the next step of its handshake, mostly as it should.
    fn step(&mut self) {
        let Some(at) = self.index() else { return };
        let to = self.victim.endpoint;
        let spoil = self.once_in(12);
        let Insider {
            mallory,
            mail,
            hands,
            peer,
            ..
        } = &mut self.insiders[at];
        let (own, mode) = (mallory.endpoint, mallory.terms.mode);
        let payload = |mallory: &Mallory, kind| {
            let mut payload = mallory.payload(kind);
            if spoil && !payload.is_empty() {
                payload[0] ^= 0x40;
            }
            payload
        };
        if mail.is_empty() {
            if own < to {
                let (hs1, new) = mallory.hs1(to, &payload(mallory, PayloadKind::Hs1));
                *hands = Some(new);
                self.blob(own, hs1);
            }
            return;
        }
        let blob = mail.remove(0);
        match blob[0] {
            1 => {
                let Some((hs2, new)) =
                    mallory.hs2(to, &blob, &payload(mallory, PayloadKind::Hs2(mode)))
                else {
                    return;
                };
                *hands = Some(new);
                self.blob(own, hs2);
            }
            2 => {
                let Some(hands) = hands.take() else { return };
                let Some((hs3, new)) = hands.hs3(&blob, &payload(mallory, PayloadKind::Hs3(mode)))
                else {
                    return;
                };
                *peer = Some(new);
                self.blob(own, hs3);
                self.note_link(at);
            }
            3 => {
                let Some(new) = hands.take().and_then(|hands| hands.end(&blob)) else {
                    return;
                };
                *peer = Some(new);
                self.note_link(at);
                if mode == Mode::Open {
                    self.signal(at, true);
                }
            }
            _ => {}
        }
    }

    /// The handshake of an insider is complete: the machine's link, if it has a new one, is for it.
    fn note_link(&mut self, at: usize) {
        let link = self.victim.machine.link();
        let taken = self.insiders.iter().any(|insider| insider.link == link);
        if link.is_some() && !taken {
            self.insiders[at].link = link;
        }
    }

    fn signal(&mut self, at: usize, answer: bool) {
        let choice = self.below(8);
        let Insider {
            mallory,
            peer: Some(peer),
            ..
        } = &mut self.insiders[at]
        else {
            return;
        };
        let kind = PayloadKind::Sig(SigSender::OpenResponder);
        let records = match choice {
            _ if answer => mallory.records(kind),
            0 => Payload {
                bye: Some(Bye(3)),
                ..Payload::default()
            },
            1 => mallory.records(kind),
            2 => Payload {
                candidates: vec![candidate(1); 40],
                ..Payload::default()
            },
            _ => Payload {
                candidates: vec![candidate(1)],
                ..Payload::default()
            },
        };
        let (sig, own) = (peer.sig(&records.encode(kind).0), mallory.endpoint);
        self.blob(own, sig);
    }

    fn describe(&mut self) {
        if self.links.is_empty() {
            return;
        }
        let at = self.below(self.links.len() as u64) as usize;
        let (link, setup) = self.links.remove(at);
        let out = self.victim.describe(link, setup);
        self.look_at(out);
    }

    /// The insider whose handshake the machine's link is for.
    fn committed(&self) -> Option<usize> {
        let link = self.victim.machine.link()?;
        self.insiders
            .iter()
            .position(|insider| insider.link == Some(link) && insider.peer.is_some())
    }

    /// The peer brings the session up and uses it, mostly as it should.
    fn talk(&mut self) {
        let Some(at) = self.committed() else { return };
        let (dice, wild) = (self.below(12), self.once_in(25));
        let number = self.insiders[at].sent.len();
        let Insider {
            peer: Some(peer),
            link: Some(link),
            sent,
            wild: is_wild,
            ..
        } = &mut self.insiders[at]
        else {
            return;
        };
        let link = *link;
        *is_wild |= wild;
        let kinds = [
            DATA, DATA_PART, DATA_BATCH, READY, READY_OK, ACK, PING, CLOSE, DUMMY, 0x20, 0x77,
        ];
        let (channel, frame) = match peer.epoch.send[0].seq() {
            _ if wild => {
                let channel = (dice % 3) as u8;
                (
                    channel,
                    peer.frame(
                        channel,
                        kinds[number % kinds.len()],
                        &[7; 9][..(dice % 9) as usize],
                    ),
                )
            }
            0 => (0, peer.frame(0, READY, READY_BODY)),
            1 => (0, peer.frame(0, READY_OK, b"")),
            _ => match dice {
                0 => (0, peer.frame(0, PING, b"12345678")),
                1 => (0, peer.frame(0, CLOSE, b"\0")),
                2 => (0, peer.frame(0, DUMMY, b"")),
                _ => {
                    let body = Bytes::from(format!("{number} of {link:?}"));
                    sent.push(body.clone());
                    (1, peer.padded(1, DATA, &body, 100 + 10 * dice as usize))
                }
            },
        };
        let out = self.victim.frame(link, channel, &frame);
        self.look_at(out);
    }

    fn open(&mut self) {
        let Some(link) = self.victim.machine.link() else {
            return;
        };
        let fingerprint = match self.below(20) {
            0 => None,
            1 => Some([9; 32]),
            _ => Some(FINGERPRINT),
        };
        self.give(Input::LinkOpen { link, fingerprint });
    }

    fn disturb(&mut self) {
        let Some(at) = self.index() else { return };
        let peer = self.insiders[at].mallory.endpoint;
        let link = self
            .victim
            .machine
            .link()
            .filter(|_| self.seed.is_multiple_of(2))
            .unwrap_or(LinkId(1 + self.seed % 6));
        let code = self.below(8) as u8;
        match self.below(9) {
            0 => self.give(Input::PeerLeft(peer)),
            1 => self.give(Input::PeerJoined(peer)),
            2 => self.blob(peer, vec![5, code]),
            3 => {
                self.give(Input::SignalingLost);
                self.give(Input::Welcome { peers: vec![peer] });
            }
            4 => self.give(Input::LinkClosed { link, reason: None }),
            5 => self.signal(at, false),
            6 => self.give(Input::LinkCandidate {
                link,
                candidate: candidate(5),
            }),
            7 => {
                let early = self.insiders[at]
                    .peer
                    .as_mut()
                    .map(|peer| peer.frame(0, READY, READY_BODY));
                if let Some(frame) = early {
                    let out = self.victim.frame(link, 0, &frame);
                    self.look_at(out);
                }
            }
            _ => self.give(Input::Welcome {
                peers: vec![peer; 3],
            }),
        }
    }

    fn host(&mut self) {
        match self.below(20) {
            0 => self.give(Input::Close {
                code: CloseCode::NORMAL,
                reason: "enough".into(),
            }),
            1..=8 => self.give(Input::Send {
                channel: 1,
                body: "from the host".into(),
            }),
            9..=14 => {
                if let Some(link) = self.victim.machine.link() {
                    self.give(Input::LinkWritable {
                        link,
                        bytes: 10_000,
                    });
                }
            }
            _ => self.give(Input::Taken {
                channel: 1,
                messages: 1,
            }),
        }
    }

    fn pass_time(&mut self) {
        let millis = [1, 10, 100, 1_000, 5_000, 12_000, 31_000][self.below(7) as usize];
        let out = self.victim.wait(Duration::from_millis(millis));
        self.look_at(out);
    }

    fn act(&mut self) {
        match self.below(24) {
            0..=1 if self.insiders.len() < 40 => self.arrive(),
            2..=9 => self.step(),
            10..=13 => self.describe(),
            14..=15 => self.open(),
            16..=20 => self.talk(),
            21 => self.disturb(),
            22 => self.host(),
            _ => self.pass_time(),
        }
    }

    /// What was delivered is what the established peer sent, and its key is the one reported.
    fn check(&self) {
        let established = self.victim.events.iter().find_map(|event| match event {
            Event::Established { peer, .. } => Some(*peer),
            _ => None,
        });
        let delivered: Vec<&Bytes> = self
            .victim
            .delivered
            .iter()
            .map(|(.., body)| body)
            .collect();
        let fits = |insider: &Insider| {
            let key: PeerId = insider.mallory.key.peer_id();
            let as_sent = insider
                .sent
                .iter()
                .take(delivered.len())
                .eq(delivered.iter().copied());
            Some(key) == established && (as_sent || insider.wild)
        };
        assert!(
            delivered.is_empty() || self.insiders.iter().any(fits),
            "{delivered:?}"
        );
        let shown = format!("{:?}", self.victim.machine).len();
        assert!(shown < MAX_SHOWN, "{shown}");
    }
}

/// Whether it came to a session.
fn run(seed: u64) -> bool {
    let mut room = Room::new(seed);
    for _ in 0..300 {
        if room.victim.machine.is_ended() {
            break;
        }
        room.act();
        room.check();
    }
    room.give(Input::Close {
        code: CloseCode::GOING_AWAY,
        reason: String::new(),
    });
    room.victim.wait(Duration::from_secs(10));
    assert!(room.victim.machine.is_ended());
    room.victim.is_established()
}

struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("insiders: seed {}", self.0);
        }
    }
}

#[test]
fn whatever_insiders_do_the_laws_hold() {
    let seeds = std::env::var("SIM_SEEDS")
        .ok()
        .and_then(|seeds| seeds.parse().ok())
        .unwrap_or(500);
    let mut established = 0;
    for seed in 0..seeds {
        let _told = Told(seed);
        established += u64::from(run(seed));
    }
    assert!(
        established > seeds / 10,
        "{established} of {seeds} came to a session: the others test little"
    );
}
