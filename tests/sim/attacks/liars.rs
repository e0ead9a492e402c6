//! A peer that keeps a history and says of it what is not so.

use sealwire::{
    Error, Identity,
    error::ProtocolViolation,
    history::{
        Author, Pair, Standing,
        chain::{Head, body_hash},
    },
    protocol::{
        ChannelEntry, ChannelOffer, Delivery, Event, HistoryInput, HistoryOutput, HistoryUse,
        Input, LinkId, Output, Setup,
    },
};

use crate::{
    mallory::{ACK, DATA, Key, Mallory, Peer, READY, READY_OK, Terms},
    victim::{Victim, frames, lobby},
    world::Seeded,
};

/// A machine with a history, and its peer, who says to have one.
struct Keeper {
    victim: Victim,
    peer: Peer,
    link: LinkId,
    pair: Pair,
}

impl Keeper {
    /// Two with a session of channels 1 and 2, both reliable. The history is that of channel 1.
    #[track_caller]
    fn new(seed: u64) -> Self {
        let [own, other] =
            [seed, seed + 1].map(|seed| Identity::generate_from(&mut Seeded::new(seed)));
        let pair = Pair {
            me: own.peer_id(),
            peer: other.peer_id(),
        };
        let offer = |(id, label): (u8, &str)| ChannelOffer {
            id,
            delivery: Delivery::Reliable,
            label: label.to_owned(),
        };
        let offers: Vec<ChannelOffer> = [(1, "main"), (2, "second")].map(offer).into();
        let setup = Setup {
            channels: offers.clone(),
            history: HistoryUse::Kept,
            ..lobby(own)
        };
        let mut victim = Victim::set_up(0x40, seed, setup);
        let mut mallory = Mallory::new(0x80, seed + 2, Terms::open("lobby"));
        mallory.key = Key::of(&other);
        let entry = |ChannelOffer { id, label, .. }| ChannelEntry {
            channel: id,
            kind: 1,
            label,
        };
        mallory.channels = offers.into_iter().map(entry).collect();
        let (peer, link) = victim.shake(&mut mallory);
        let mut keeper = Self {
            victim,
            peer,
            link,
            pair,
        };
        keeper.begin(mallory.fingerprint);
        keeper
    }

    /// READY and READY_OK both ways, of two that never exchanged a message.
    #[track_caller]
    fn begin(&mut self, fingerprint: [u8; 32]) {
        let (link, standing) = (self.link, Box::new(Standing::new(&self.pair)));
        let loaded = HistoryInput::Loaded {
            ledger: link,
            standing,
        };
        self.give(Input::History(loaded));
        let ready = self.give(Input::LinkOpen {
            link,
            fingerprint: Some(fingerprint),
        });
        self.peer.open(0, &frames(&ready)[0].1);
        let [own, peer] = [Author::Me, Author::Peer].map(|author| self.pair.start(author).head);
        let stated = |head: Head| [&head.n.to_be_bytes()[..], &head.hash].concat();
        let taken = b"\x02\x01\0\0\0\0\0\0\x02\0\0\0\0\0\0\x01\x01";
        let ready = [&taken[..], &stated(peer), &stated(own)].concat();
        let ok = self.frame(0, READY, &ready);
        assert_eq!(self.peer.open(0, &frames(&ok)[0].1).0, READY_OK);
        self.frame(0, READY_OK, b"");
        assert!(self.victim.is_established(), "{:?}", self.victim.events);
    }

    /// What follows an input, when all that is to be stored is durable at once.
    #[track_caller]
    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = self.victim.give(input);
        let mut at = 0;
        while let Some(output) = out.get(at) {
            let answer = match output {
                Output::History(HistoryOutput::Begin { ledger, .. }) => {
                    Some(HistoryInput::Begun { ledger: *ledger })
                }
                Output::History(HistoryOutput::Record { ledger, .. }) => {
                    Some(HistoryInput::Recorded {
                        ledger: *ledger,
                        records: 1,
                    })
                }
                _ => None,
            };
            if let Some(answer) = answer {
                out.extend(self.victim.give(Input::History(answer)));
            }
            at += 1;
        }
        out
    }

    #[track_caller]
    fn frame(&mut self, channel: u8, kind: u8, body: &[u8]) -> Vec<Output> {
        let frame = self.peer.frame(channel, kind, body);
        self.give(Input::LinkFrame {
            link: self.link,
            channel,
            frame: frame.as_slice().into(),
        })
    }

    /// The host sends a message: what goes over the wire for it.
    #[track_caller]
    fn send(&mut self, channel: u8, body: &'static str) -> Option<Vec<u8>> {
        let body = body.into();
        self.give(Input::Send { channel, body });
        let (link, bytes) = (self.link, 1 << 20);
        let out = self.give(Input::LinkWritable { link, bytes });
        let (_, frame) = frames(&out).pop()?;
        Some(self.peer.open(channel, &frame).1)
    }

    /// The peer says that it took this many messages of a channel.
    #[track_caller]
    fn acknowledge(&mut self, channel: u8, next: u8, head: Option<[u8; 32]>) -> Vec<Output> {
        let taken = [channel, 0, 0, 0, 0, 0, next];
        let body: Vec<u8> = taken
            .into_iter()
            .chain(head.into_iter().flatten())
            .collect();
        self.frame(0, ACK, &body)
    }

    /// The head of the victim's chain behind its first message, as this travelled.
    fn head(&self, message: &[u8]) -> Head {
        let (ts, rest) = message.split_at(8);
        let seen = [&[0, 0], &rest[..6]].concat();
        let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("8 bytes"));
        let start = self.pair.start(Author::Me);
        start
            .with(number(&seen), number(ts), &body_hash(&rest[6..]))
            .head
    }
}

fn differences(out: &[Output]) -> Vec<(Author, u64, u64)> {
    let difference = |output: &Output| match output {
        Output::Event(Event::HistoryDiverged {
            author,
            here,
            there,
        }) => Some((*author, *here, *there)),
        _ => None,
    };
    out.iter().filter_map(difference).collect()
}

///
#[test]
fn c7_a_head_that_differs_is_told_at_once_and_nothing_more_is_sent() {
    let mut keeper = Keeper::new(700);
    let message = keeper.send(1, "one").expect("it is sent");
    let head = keeper.head(&message);
    let out = keeper.acknowledge(1, 1, Some(head.hash));
    let confirmed = |output: &Output| {
        matches!(
            output,
            Output::History(HistoryOutput::Confirmed { n: 1, .. })
        )
    };
    assert!(out.iter().any(confirmed) && differences(&out).is_empty());
    keeper.send(1, "two").expect("it is sent");
    let out = keeper.acknowledge(1, 2, Some([7; 32]));
    assert_eq!(differences(&out), [(Author::Me, 2, 2)]);
    assert_eq!(keeper.send(1, "three"), None);
}

///
#[test]
fn c7_a_message_that_saw_more_than_was_sent_is_told_at_once_and_not_delivered() {
    let mut keeper = Keeper::new(703);
    let message = b"\0\0\0\0\0\0\0\x07\0\0\0\0\0\x01never answered";
    let out = keeper.frame(1, DATA, message);
    assert_eq!(differences(&out), [(Author::Me, 0, 1)]);
    assert!(keeper.victim.delivered.is_empty());
}

///
#[test]
fn only_acknowledgements_of_the_channel_with_a_history_have_a_head() {
    let mut keeper = Keeper::new(706);
    keeper.send(2, "beside the history").expect("it is sent");
    keeper.acknowledge(2, 1, None);
    assert_eq!(keeper.victim.failure(), None);
    let said = [
        (1, &b"\0\0\0\0\0\0\0\x07\0\0\0\0\0\0one"[..], 7 + 32),
        (2, b"two", 7),
    ];
    for (channel, message, len) in said {
        keeper.frame(channel, DATA, message);
        let messages = 1;
        keeper.give(Input::Taken { channel, messages });
        let out = keeper.victim.wait(std::time::Duration::from_millis(5));
        let (kind, body) = keeper.peer.open(0, &frames(&out)[0].1);
        assert_eq!((kind, body[0], body.len()), (ACK, channel, len));
    }
    for (channel, head) in [(1, None), (2, Some([7; 32]))] {
        let mut keeper = Keeper::new(709);
        keeper.send(channel, "one").expect("it is sent");
        keeper.acknowledge(channel, 1, head);
        let violation = ProtocolViolation::AckHead { channel };
        assert_eq!(keeper.victim.failure(), Some(&Error::Protocol(violation)));
    }
}
