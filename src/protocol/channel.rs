//! The keys of one transport's channels: frames sealed and opened in order. Not: what the frames say.

use bytes::{Bytes, BytesMut};

use super::{
    control::DUMMY,
    frame::{self, FRAME_OVERHEAD, FrameError},
    record::{Caps, ChannelEntry},
};
use crate::{config::Padding, crypto::epoch::Epoch, error::ProtocolViolation};

/// Kind 1 of a CHANNELS entry.
pub(super) const RELIABLE: u8 = 1;

/// The channels that live: those which both sides listed byte for byte the same.
pub(super) fn live_channels(own: &[ChannelEntry], peer: &[ChannelEntry]) -> Vec<u8> {
    own.iter()
        .filter(|entry| entry.kind == RELIABLE && peer.contains(entry))
        .map(|entry| entry.channel)
        .collect()
}

/// A counter is used up: CLOSE(2), never a wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exhausted;

/// The sealed channels of one transport.
pub(super) struct Channels {
    keys: Epoch,
    number: u16,
    /// Reliable channels from 1 on, ascending.
    pub(super) live: Vec<u8>,
    /// The largest frame that the peer and its stack accept.
    max_send: usize,
    /// The largest frame that was promised to be accepted.
    max_receive: usize,
    padding: Padding,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            keys: _,
            number,
            live,
            max_send,
            max_receive,
            padding,
        } = self;
        f.debug_struct("Channels")
            .field("epoch", number)
            .field("live", live)
            .field("max_send", max_send)
            .field("max_receive", max_receive)
            .field("padding", padding)
            .finish_non_exhaustive()
    }
}

impl Channels {
    pub(super) fn new(keys: Epoch, live: Vec<u8>, own: Caps, peer: Caps, padding: Padding) -> Self {
        Self {
            keys,
            number: 0,
            live,
            max_send: peer.max_frame as usize,
            max_receive: own.max_frame as usize,
            padding,
        }
    }

    /// The peer's stack takes no messages longer than this (`a=max-message-size`; 0: no limit of its own).
    pub(super) fn cap_send(&mut self, max_message_size: u32) {
        if max_message_size > 0 {
            self.max_send = self.max_send.min(max_message_size as usize);
        }
    }

    /// Whether the channel is control or lives.
    pub(super) fn is_live(&self, channel: u8) -> bool {
        channel == 0 || self.live.contains(&channel)
    }

    /// The longest body of one frame.
    pub(super) fn max_body(&self) -> usize {
        self.max_send - FRAME_OVERHEAD
    }

    /// Seals a buffer from [`frame::frame_buffer`] as the channel's next frame.
    pub(super) fn seal(
        &mut self,
        channel: u8,
        kind: u8,
        buffer: Vec<u8>,
    ) -> Result<Vec<u8>, Exhausted> {
        let (seq, key) = self.keys.send[usize::from(channel)]
            .next()
            .map_err(|_| Exhausted)?;
        let body = buffer.len() - frame::HEADER;
        let plaintext = match self.padding {
            Padding::Padme => frame::padded_len(body, self.max_send),
            Padding::Off => body + 1,
        };
        Ok(frame::seal(key, self.number, seq, kind, buffer, plaintext))
    }

    /// Opens the channel's next frame; the state moves on only after the tag was verified. Every error is fatal: the
    /// layer below guarantees order.
    pub(super) fn open(
        &mut self,
        channel: u8,
        sealed: BytesMut,
    ) -> Result<(u8, Bytes), ProtocolViolation> {
        if !self.is_live(channel) {
            return Err(ProtocolViolation::DeadChannel { channel });
        }
        if sealed.len() > self.max_receive {
            return Err(ProtocolViolation::FrameTooLong {
                len: sealed.len(),
                max: self.max_receive,
            });
        }
        let short = ProtocolViolation::FrameTooShort { len: sealed.len() };
        let (epoch, seq) = frame::read_header(&sealed).map_err(|_| short)?;
        let chain = &mut self.keys.recv[usize::from(channel)];
        if (epoch, seq) != (self.number, chain.seq()) {
            return Err(ProtocolViolation::OutOfOrder {
                channel,
                epoch,
                seq,
            });
        }
        let key = chain.key().map_err(|_| ProtocolViolation::OutOfOrder {
            channel,
            epoch,
            seq,
        })?;
        let opened = frame::open(key, sealed).map_err(|error| match error {
            FrameError::Short => short,
            FrameError::Decrypt => ProtocolViolation::FrameRejected,
            FrameError::Empty => ProtocolViolation::NoKind,
        })?;
        chain.commit();
        Ok(opened)
    }
}

/// Cover traffic is ignored wherever it comes.
pub(super) fn is_dummy(kind: u8) -> bool {
    kind == DUMMY
}
