//! The keys of one transport's channels, epoch by epoch: frames sealed, and opened in order or in any. Not: what the
//! frames say, nor when keys change (rekey.rs).

use bytes::{Bytes, BytesMut};

use super::{
    control::DUMMY,
    frame::{self, FRAME_OVERHEAD, FrameError},
    record::{Caps, ChannelEntry},
};
use crate::{
    config::Padding,
    crypto::{
        chain::{FRAMES_PER_CHAIN, MessageKey, RecvChain, SendChain},
        epoch::Epoch,
        window::{MAX_JUMP, RecvWindow, WindowError},
    },
    error::ProtocolViolation,
};

/// Kind 1 of a CHANNELS entry: every frame arrives, in order.
pub(super) const RELIABLE: u8 = 1;
/// Kind 2 of a CHANNELS entry: frames may be lost, and come in any order.
pub(super) const LOSSY: u8 = 2;

/// A channel that both sides listed byte for byte the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) id: u8,
    pub(super) lossy: bool,
}

/// The channels that live, ascending, without control.
pub(super) fn live_channels(own: &[ChannelEntry], peer: &[ChannelEntry]) -> Vec<Live> {
    own.iter()
        .filter(|entry| peer.contains(entry))
        .map(|entry| Live {
            id: entry.channel,
            lossy: entry.kind == LOSSY,
        })
        .collect()
}

/// A counter is used up: CLOSE(2), never a wrap. On a lossy channel frames are dropped until the next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// What came out of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) kind: u8,
    pub(super) body: Bytes,
    pub(super) epoch: u16,
    /// The first frame of its epoch on this channel, of an epoch newer than the channel had.
    pub(super) first: bool,
}

/// The sealed channels of one transport.
pub(super) struct Channels {
    /// Control first, then the live ones, ascending.
    lanes: Vec<Lane>,
    /// The epoch of what is sent.
    sending: u16,
    /// The newest epoch whose keys exist.
    newest: u16,
    /// The largest frame that the peer and its stack accept.
    max_send: usize,
    /// The largest frame that was promised to be accepted.
    max_receive: usize,
    padding: Padding,
    /// Frames of lossy channels that came too late, twice, or could not be sent.
    dropped: u64,
}

/// One channel's keys in both directions.
struct Lane {
    live: Live,
    send: SendChain,
    /// Of the next epoch, until it is switched to.
    next_send: Option<SendChain>,
    receive: Receive,
    /// Bytes of the frames of an epoch, sent and received.
    sent: u64,
    received: u64,
}

enum Receive {
    Reliable {
        epoch: u16,
        chain: RecvChain,
        next: Option<RecvChain>,
    },
    /// By epoch, ascending: one or two.
    Lossy(Vec<(u16, RecvWindow)>),
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            lanes: _,
            sending,
            newest,
            max_send,
            max_receive,
            padding,
            dropped,
        } = self;
        f.debug_struct("Channels")
            .field("sending", sending)
            .field("newest", newest)
            .field("max_send", max_send)
            .field("max_receive", max_receive)
            .field("padding", padding)
            .field("dropped", dropped)
            .finish_non_exhaustive()
    }
}

impl Channels {
    /// The channels of a new transport, under the keys of its handshake.
    pub(super) fn new(keys: Epoch, live: &[Live], own: Caps, peer: Caps, padding: Padding) -> Self {
        let control = Live {
            id: 0,
            lossy: false,
        };
        let mut chains: Vec<_> = keys.send.into_iter().zip(keys.recv).map(Some).collect();
        let lanes = std::iter::once(control).chain(live.iter().copied());
        let lane = |live: Live| {
            let (send, receive) = chains[usize::from(live.id)].take()?;
            Some(Lane::new(live, send, receive))
        };
        Self {
            lanes: lanes.filter_map(lane).collect(),
            sending: 0,
            newest: 0,
            max_send: peer.max_frame as usize,
            max_receive: own.max_frame as usize,
            padding,
            dropped: 0,
        }
    }

    /// The peer's stack takes no messages longer than this (`a=max-message-size`; 0: no limit of its own; R-117).
    pub(super) fn cap_send(&mut self, max_message_size: u32) {
        if max_message_size > 0 {
            self.max_send = self.max_send.min(max_message_size as usize);
        }
    }

    /// Frames of lossy channels that came too late or twice, or for which the epoch had no number left.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The longest body of one frame.
    pub(super) fn max_body(&self) -> usize {
        self.max_send - FRAME_OVERHEAD
    }

    /// Reliable channels, control first.
    pub(super) fn reliable(&self) -> impl Iterator<Item = u8> {
        let reliable = self.lanes.iter().filter(|lane| !lane.live.lossy);
        reliable.map(|lane| lane.live.id)
    }

    /// Whether the epoch has one number left on the control channel: it is CLOSE's.
    pub(super) fn is_control_worn_out(&self) -> bool {
        let control = self.lanes.first();
        control.is_some_and(|lane| lane.send.seq() + 1 >= FRAMES_PER_CHAIN)
    }

    /// Seals a buffer from [`frame::frame_buffer`] as the channel's next frame.
    pub(super) fn seal(
        &mut self,
        channel: u8,
        kind: u8,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>, Exhausted> {
        let lane = self.lanes.iter_mut().find(|lane| lane.live.id == channel);
        let lane = lane.ok_or(Exhausted)?;
        //
        if lane.live.lossy && lane.send.seq() >= MAX_JUMP {
            self.dropped += 1;
            return Err(Exhausted);
        }
        let (seq, key) = lane.send.next().map_err(|_| Exhausted)?;
        let body = buffer.len() - frame::HEADER;
        let plaintext = match self.padding {
            Padding::Padme if !lane.live.lossy => frame::padded_len(body, self.max_send),
            Padding::Padme | Padding::Off => body + 1,
        };
        let frame = frame::seal(key, self.sending, seq, kind, buffer, plaintext);
        lane.sent += frame.len() as u64;
        Ok(frame)
    }

    /// Opens a frame; the state moves on only after the tag was verified. `None`: a lossy channel's, too late or for
    /// the second time. Every error is fatal.
    pub(super) fn open(
        &mut self,
        channel: u8,
        sealed: BytesMut,
    ) -> Result<Option<Opened>, ProtocolViolation> {
        let lane = self.lanes.iter_mut().find(|lane| lane.live.id == channel);
        //
        let lane = lane.ok_or(ProtocolViolation::DeadChannel { channel })?;
        let len = sealed.len();
        //
        if len > self.max_receive {
            let max = self.max_receive;
            return Err(ProtocolViolation::FrameTooLong { len, max });
        }
        let short = ProtocolViolation::FrameTooShort { len };
        let (epoch, seq) = frame::read_header(&sealed).map_err(|_| short)?;
        if epoch > self.newest {
            return Err(ProtocolViolation::UnknownEpoch { epoch });
        }
        let opened = match &mut lane.receive {
            Receive::Reliable {
                epoch: current,
                chain,
                next,
            } => open_reliable(channel, (epoch, seq), sealed, (current, chain, next))?,
            Receive::Lossy(windows) => match open_lossy(channel, (epoch, seq), sealed, windows)? {
                Some(opened) => opened,
                None => {
                    self.dropped += 1;
                    return Ok(None);
                }
            },
        };
        lane.received = if opened.first { 0 } else { lane.received } + len as u64;
        Ok(Some(opened))
    }
}

/// Epochs.
impl Channels {
    /// The epoch of what is sent.
    pub(super) fn sending(&self) -> u16 {
        self.sending
    }

    /// The newest epoch whose keys exist.
    pub(super) fn newest(&self) -> u16 {
        self.newest
    }

    /// Adds the keys of the next epoch: frames under it open from here on.
    pub(super) fn add_epoch(&mut self, keys: Epoch) {
        self.newest += 1;
        let mut chains: Vec<_> = keys.send.into_iter().zip(keys.recv).map(Some).collect();
        for lane in &mut self.lanes {
            let Some((send, receive)) = chains[usize::from(lane.live.id)].take() else {
                continue;
            };
            lane.next_send = Some(send);
            match &mut lane.receive {
                Receive::Reliable { next, .. } => *next = Some(receive),
                Receive::Lossy(windows) => windows.push((self.newest, receive.into_window())),
            }
        }
    }

    /// Sends under the newest epoch from here on; the keys of the one before are gone.
    pub(super) fn switch_sending(&mut self) {
        self.sending = self.newest;
        for lane in &mut self.lanes {
            if let Some(next) = lane.next_send.take() {
                lane.send = next;
                lane.sent = 0;
            }
        }
    }

    /// Whether a lossy channel can still open frames of the epoch before the newest.
    pub(super) fn holds_old_windows(&self) -> bool {
        let older =
            |lane: &Lane| matches!(&lane.receive, Receive::Lossy(windows) if windows.len() > 1);
        self.lanes.iter().any(older)
    }

    /// Lossy channels forget all epochs but the newest.
    pub(super) fn retire_windows(&mut self) {
        let newest = self.newest;
        for lane in &mut self.lanes {
            if let Receive::Lossy(windows) = &mut lane.receive {
                windows.retain(|(epoch, _)| *epoch == newest);
            }
        }
    }

    /// Whether keys to receive with are left of an epoch before the newest.
    pub(super) fn holds_old_keys(&self) -> bool {
        let newest = self.newest;
        self.lanes.iter().any(|lane| match &lane.receive {
            Receive::Reliable { epoch, .. } => *epoch < newest,
            Receive::Lossy(windows) => windows.len() > 1,
        })
    }

    /// Whether any chain in use has had so many frames or bytes.
    pub(super) fn is_worn(&self, frames: u64, bytes: u64) -> bool {
        self.lanes.iter().any(|lane| {
            lane.send.seq() >= frames
                || lane.received_frames() >= frames
                || lane.sent.max(lane.received) >= bytes
        })
    }
}

impl Lane {
    fn new(live: Live, send: SendChain, receive: RecvChain) -> Self {
        let receive = if live.lossy {
            Receive::Lossy(vec![(0, receive.into_window())])
        } else {
            Receive::Reliable {
                epoch: 0,
                chain: receive,
                next: None,
            }
        };
        Self {
            live,
            send,
            next_send: None,
            receive,
            sent: 0,
            received: 0,
        }
    }

    fn received_frames(&self) -> u64 {
        match &self.receive {
            Receive::Reliable { chain, .. } => chain.seq(),
            Receive::Lossy(windows) => windows.last().map_or(0, |(_, window)| window.next()),
        }
    }
}

/// Exactly the next frame: of the same epoch, or the first of the one after it.
fn open_reliable(
    channel: u8,
    (epoch, seq): (u16, u64),
    sealed: BytesMut,
    (current, chain, next): (&mut u16, &mut RecvChain, &mut Option<RecvChain>),
) -> Result<Opened, ProtocolViolation> {
    let out_of_order = ProtocolViolation::OutOfOrder {
        channel,
        epoch,
        seq,
    };
    let first = epoch != *current;
    let expected = match next {
        _ if !first => &mut *chain,
        Some(next) if epoch == *current + 1 => next,
        Some(_) | None => return Err(out_of_order),
    };
    if seq != expected.seq() {
        return Err(out_of_order);
    }
    let key = expected.key().map_err(|_| out_of_order)?;
    let (kind, body) = open_frame(key, sealed)?;
    expected.commit();
    if first && let Some(next) = next.take() {
        *chain = next;
        *current = epoch;
    }
    Ok(Opened {
        kind,
        body,
        epoch,
        first,
    })
}

/// Any frame whose key is left, once. `None`: it is not.
fn open_lossy(
    channel: u8,
    (epoch, seq): (u16, u64),
    sealed: BytesMut,
    windows: &mut [(u16, RecvWindow)],
) -> Result<Option<Opened>, ProtocolViolation> {
    let Some((_, window)) = windows.iter_mut().find(|(held, _)| *held == epoch) else {
        return Ok(None);
    };
    let first = epoch > 0 && window.next() == 0;
    match window.open(seq, |key| open_frame(key, sealed)) {
        Ok(opened) => opened.map(|(kind, body)| {
            Some(Opened {
                kind,
                body,
                epoch,
                first,
            })
        }),
        Err(WindowError::Old) => Ok(None),
        Err(WindowError::TooFar) => Err(ProtocolViolation::TooFarAhead { channel, seq }),
    }
}

fn open_frame(key: &MessageKey, sealed: BytesMut) -> Result<(u8, Bytes), ProtocolViolation> {
    let short = ProtocolViolation::FrameTooShort { len: sealed.len() };
    frame::open(key, sealed).map_err(|error| match error {
        FrameError::Short => short,
        FrameError::Decrypt => ProtocolViolation::FrameRejected,
        FrameError::Empty => ProtocolViolation::NoKind,
    })
}

/// Cover traffic is ignored wherever it comes.
pub(super) fn is_dummy(kind: u8) -> bool {
    kind == DUMMY
}

/// What takes years, or 2^32 frames, made to happen.
#[cfg(test)]
impl Channels {
    /// As if all frames of a reliable channel but the last one were sent and received, in both directions.
    pub(super) fn wear_out(&mut self, channel: u8) {
        for lane in &mut self.lanes {
            if let (true, Receive::Reliable { chain, .. }) =
                (lane.live.id == channel, &mut lane.receive)
            {
                lane.send.wear_out();
                chain.wear_out();
            }
        }
    }

    /// As if the keys had been changed so many times; those in use stay.
    pub(super) fn grow_old(&mut self, epochs: u16) {
        (self.sending, self.newest) = (epochs, epochs);
        for lane in &mut self.lanes {
            match &mut lane.receive {
                Receive::Reliable { epoch, .. } => *epoch = epochs,
                Receive::Lossy(windows) => {
                    windows.iter_mut().for_each(|(epoch, _)| *epoch = epochs);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::{
            epoch::{self, Role},
            secret::Secret,
        },
        protocol::control::DATA,
    };

    const MAIN: u8 = 1;
    const FAST: u8 = 4;
    const RELIABLE_ONLY: &[Live] = &[Live {
        id: MAIN,
        lossy: false,
    }];
    const BOTH: &[Live] = &[
        RELIABLE_ONLY[0],
        Live {
            id: FAST,
            lossy: true,
        },
    ];
    /// What frames or bytes never reach.
    const NEVER: u64 = u64::MAX;

    fn keys(epoch: u8, role: Role) -> Epoch {
        epoch::derive(Secret::new([epoch; 32]), [epoch; 32], role)
    }

    /// Both ends of a transport.
    fn pair(live: &[Live], padding: Padding) -> [Channels; 2] {
        let caps = Caps {
            max_version: 1,
            max_frame: 65_536,
            max_message: 65_536,
            window: 262_144,
        };
        let end = |role| Channels::new(keys(0, role), live, caps, caps, padding);
        [Role::Initiator, Role::Responder].map(end)
    }

    fn add_epoch(ends: &mut [Channels; 2], epoch: u8) {
        ends[0].add_epoch(keys(epoch, Role::Initiator));
        ends[1].add_epoch(keys(epoch, Role::Responder));
    }

    fn seal(end: &mut Channels, channel: u8, len: usize) -> Result<BytesMut, Exhausted> {
        let mut buffer = frame::frame_buffer(len);
        buffer.resize(buffer.len() + len, 7);
        let frame = end.seal(channel, DATA, buffer)?;
        Ok(BytesMut::from(&frame[..]))
    }

    /// Seals a frame of so many bytes, without padding, at one end, and opens it at the other.
    fn pass([from, to]: &mut [Channels; 2], channel: u8, len: usize) -> Option<Opened> {
        let frame = seal(from, channel, len - FRAME_OVERHEAD).expect("a key is left");
        assert_eq!(frame.len(), len);
        to.open(channel, frame).expect("our own frame")
    }

    ///
    #[test]
    fn frames_of_reliable_channels_are_padded_where_it_is_wanted_and_no_others() {
        for (channel, padding, expected) in [
            (MAIN, Padding::Padme, 104),
            (MAIN, Padding::Off, 101),
            (FAST, Padding::Padme, 101),
            (FAST, Padding::Off, 101),
        ] {
            let [mut end, _] = pair(BOTH, padding);
            let frame = seal(&mut end, channel, 100).expect("a key is left");
            assert_eq!(frame.len(), FRAME_OVERHEAD - 1 + expected, "{padding:?}");
        }
    }

    ///
    #[test]
    fn control_and_what_is_listed_as_reliable_keeps_an_order() {
        for live in [RELIABLE_ONLY, BOTH] {
            let [end, _] = pair(live, Padding::Off);
            assert!(end.reliable().eq([0, MAIN]));
        }
    }

    ///
    #[test]
    fn a_stack_that_takes_less_shortens_frames_and_one_without_a_limit_does_not() {
        let [mut end, _] = pair(BOTH, Padding::Off);
        for (limit, expected) in [(0, 65_536), (70_000, 65_536), (1_280, 1_280), (0, 1_280)] {
            end.cap_send(limit);
            assert_eq!(end.max_body() + FRAME_OVERHEAD, expected);
        }
    }

    ///
    #[test]
    fn messages_for_which_the_epoch_has_no_number_are_counted() {
        let [mut end, _] = pair(BOTH, Padding::Off);
        let fast = end.lanes.iter_mut().find(|lane| lane.live.lossy);
        fast.expect("it is live").send.wear_out();
        for count in 1..=2 {
            assert_eq!(seal(&mut end, FAST, 1), Err(Exhausted));
            assert_eq!(end.dropped(), count);
        }
    }

    ///
    #[test]
    fn frames_and_bytes_wear_a_chain_at_both_ends_and_a_new_epoch_begins_anew() {
        for channel in [MAIN, FAST] {
            let mut ends = pair(BOTH, Padding::Off);
            for epoch in 1..=2 {
                for _ in 0..3 {
                    pass(&mut ends, channel, 100).expect("a new frame");
                }
                for end in &ends {
                    let worn = |frames, bytes| end.is_worn(frames, bytes);
                    assert!(worn(3, NEVER) && worn(NEVER, 300), "{channel}");
                    assert!(!worn(4, 301), "{channel}");
                }
                add_epoch(&mut ends, epoch);
                ends[0].switch_sending();
            }
        }
    }

    #[test]
    fn only_the_first_frame_of_an_epoch_behind_another_is_its_first() {
        for channel in [MAIN, FAST] {
            let mut ends = pair(BOTH, Padding::Off);
            let mut firsts = Vec::new();
            for epoch in 1..=3 {
                for _ in 0..3 {
                    let opened = pass(&mut ends, channel, 50).expect("a new frame");
                    firsts.push((opened.epoch, opened.first));
                }
                add_epoch(&mut ends, epoch);
                ends[0].switch_sending();
            }
            let expected =
                [0, 1, 2].map(|epoch| [(epoch, epoch > 0), (epoch, false), (epoch, false)]);
            assert_eq!(firsts, expected.as_flattened(), "{channel}");
        }
    }

    #[test]
    fn the_epoch_that_is_sent_under_changes_at_the_switch() {
        let mut ends = pair(BOTH, Padding::Off);
        for epoch in 1..=3 {
            add_epoch(&mut ends, epoch);
            assert_eq!(ends[0].sending(), u16::from(epoch) - 1);
            ends[0].switch_sending();
            assert_eq!(ends[0].sending(), u16::from(epoch));
        }
    }

    ///
    #[test]
    fn the_first_frame_of_the_next_epoch_is_not_that_of_one_before() {
        let mut ends = pair(BOTH, Padding::Off);
        add_epoch(&mut ends, 1);
        ends[0].switch_sending();
        pass(&mut ends, MAIN, 50).expect("a new frame");
        add_epoch(&mut ends, 2);
        ends[0].switch_sending();
        let mut frame = seal(&mut ends[0], MAIN, 1).expect("a key is left");
        frame[..2].copy_from_slice(&[0, 0]);
        let expected = ProtocolViolation::OutOfOrder {
            channel: MAIN,
            epoch: 0,
            seq: 0,
        };
        assert_eq!(ends[1].open(MAIN, frame), Err(expected));
    }

    ///
    #[test]
    fn lossy_channels_open_frames_of_the_epoch_before_until_it_is_retired() {
        let mut ends = pair(BOTH, Padding::Off);
        let mut late = Vec::new();
        for _ in 0..2 {
            late.push(seal(&mut ends[0], FAST, 1).expect("a key is left"));
        }
        assert!(!ends[1].holds_old_windows());
        add_epoch(&mut ends, 1);
        ends[0].switch_sending();
        pass(&mut ends, FAST, 50).expect("a new frame");
        let [_, to] = &mut ends;
        assert!(to.holds_old_windows());
        let mut open = |to: &mut Channels| to.open(FAST, late.pop().expect("one is left"));
        assert!(matches!(open(to), Ok(Some(Opened { epoch: 0, .. }))));
        to.retire_windows();
        assert!(!to.holds_old_windows());
        assert_eq!((open(to), to.dropped()), (Ok(None), 1));
        pass(&mut ends, FAST, 50).expect("the newest is not retired");
    }

    ///
    #[test]
    fn there_is_nothing_to_retire_where_no_channel_is_lossy() {
        let mut ends = pair(RELIABLE_ONLY, Padding::Off);
        add_epoch(&mut ends, 1);
        assert!(!ends[1].holds_old_windows() && ends[1].holds_old_keys());
    }
}
