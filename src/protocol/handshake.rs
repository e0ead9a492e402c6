//! The three handshake messages: Noise with our prologue, and what each payload must hold. Not: which attempt wins.

use super::{
    VERSION,
    blob::{Blob, Mode},
    record::{Caps, ChannelEntry, MIN_FRAME, Payload, PayloadKind},
    sdp::{self, SdpKind},
};
use crate::{
    config::Limits,
    crypto::{
        kdf::PROTOCOL,
        noise::{self, Finished, ReadDone, Reader, Writer, Written},
        secret::Secret,
    },
    entropy::Entropy,
    error::{Error, HandshakeStage},
    identity::{Identity, PeerId},
    room::{EndpointId, RoomId},
};

/// What both sides of a meeting agree on before they talk: it decides the pattern and goes into the prologue.
pub(super) struct Terms {
    pub(super) mode: Mode,
    pub(super) room: RoomId,
    pub(super) keys: Keys,
}

/// The pairing secrets of a meeting, by psk id: one until the session is established, the session's own after that,
/// and none in open mode. The first is the one to initiate with.
pub(super) struct Keys(Vec<([u8; 16], Secret)>);

impl Keys {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }

    pub(super) fn of(keys: impl IntoIterator<Item = ([u8; 16], Secret)>) -> Self {
        Self(keys.into_iter().collect())
    }

    fn first(&self) -> ([u8; 16], Option<&Secret>) {
        let first = self.0.first();
        first.map_or(([0; 16], None), |(id, psk)| (*id, Some(psk)))
    }

    /// Whether an HS1 with this psk id can be answered; all zeros where there are no keys.
    fn find(&self, psk_id: [u8; 16]) -> Option<Option<&Secret>> {
        if self.0.is_empty() {
            return (psk_id == [0; 16]).then_some(None);
        }
        let found = self.0.iter().find(|(id, _)| *id == psk_id);
        found.map(|(_, psk)| Some(psk))
    }
}

impl std::fmt::Debug for Terms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            mode,
            room,
            keys: _,
        } = self;
        f.debug_struct("Terms")
            .field("mode", mode)
            .field("room", room)
            .finish_non_exhaustive()
    }
}

impl Terms {
    /// The same terms for another stay.
    pub(super) fn duplicate(&self) -> Self {
        let key = |(id, psk): &([u8; 16], Secret)| (*id, psk.duplicate());
        Self {
            mode: self.mode,
            room: self.room,
            keys: Keys::of(self.keys.0.iter().map(key)),
        }
    }

    /// Whether an HS1 of this mode and psk id is for us. Where a secret was and is erased, none is.
    pub(super) fn admits(&self, mode: Mode, psk_id: [u8; 16]) -> bool {
        let has_secret = mode == Mode::Open || !self.keys.0.is_empty();
        mode == self.mode && has_secret && self.keys.find(psk_id).is_some()
    }

    //
    fn prologue(&self, psk_id: &[u8; 16], initiator: EndpointId, responder: EndpointId) -> Vec<u8> {
        [
            PROTOCOL,
            &[self.mode.to_byte()],
            self.room.0.as_slice(),
            &initiator.0,
            &responder.0,
            psk_id,
        ]
        .concat()
    }

    fn setup<'a>(
        &self,
        identity: &'a Identity,
        psks: &'a [&'a Secret],
        prologue: &'a [u8],
    ) -> noise::Setup<'a> {
        let pattern = match self.mode {
            Mode::Open => &noise::XXHFS,
            Mode::Paired => &noise::XXHFS_PSK0,
        };
        noise::Setup {
            pattern,
            prologue,
            local_static: Some(identity.static_key()),
            psks,
        }
    }

    /// The initiator's first message, as a blob, and the state that waits for the second.
    pub(super) fn write_hs1(
        &self,
        identity: &Identity,
        (own, peer): (EndpointId, EndpointId),
        payload: &[u8],
        entropy: &mut dyn Entropy,
    ) -> (Vec<u8>, Reader) {
        let (psk_id, psk) = self.keys.first();
        let psks: Vec<&Secret> = psk.into_iter().collect();
        let prologue = self.prologue(&psk_id, own, peer);
        let writer = noise::initiate(self.setup(identity, &psks, &prologue));
        let (message, reader) =
            write(writer, payload, entropy).expect("the first message meets no key of the peer");
        let blob = Blob::Hs1 {
            mode: self.mode,
            psk_id,
            noise: &message,
        };
        (blob.encode(), reader)
    }

    /// The responder reads the first message.
    pub(super) fn read_hs1(
        &self,
        identity: &Identity,
        (own, peer): (EndpointId, EndpointId),
        psk_id: [u8; 16],
        message: &[u8],
    ) -> Result<(Vec<u8>, Writer), HandshakeFault> {
        let psk = self.keys.find(psk_id).ok_or(HandshakeFault::Noise)?;
        let psks: Vec<&Secret> = psk.into_iter().collect();
        let prologue = self.prologue(&psk_id, peer, own);
        let reader = noise::respond(self.setup(identity, &psks, &prologue));
        read(reader, message)
    }
}

/// Why an attempt fails here. The peer is told nothing, the host only the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandshakeFault {
    /// The Noise message does not verify, has another length, or holds a degenerate key.
    Noise,
    /// The payload's records are not what belongs there.
    Records,
    /// The session description is not one that is given to a stack.
    Description,
    /// The peer claims a version that does not fit the one in use.
    Downgrade {
        /// What it claims.
        claimed: u8,
    },
    /// No channel is in both lists, or others than the session has.
    Channels,
    /// The peer has our own key.
    OwnKey,
}

impl HandshakeFault {
    pub(super) fn into_error(self, stage: HandshakeStage) -> Error {
        match self {
            Self::Downgrade { claimed } => Error::Downgrade {
                used: VERSION,
                possible: claimed,
            },
            Self::OwnKey => Error::Selfie,
            Self::Noise | Self::Records | Self::Description | Self::Channels => {
                Error::HandshakeFailed { stage }
            }
        }
    }
}

/// Reads a message after which it is our turn to write.
pub(super) fn read(reader: Reader, message: &[u8]) -> Result<(Vec<u8>, Writer), HandshakeFault> {
    match reader.read(message) {
        Ok((payload, ReadDone::Writer(writer))) => Ok((payload, writer)),
        Ok((_, ReadDone::Done(_))) => Err(HandshakeFault::Noise),
        Err(_) => Err(HandshakeFault::Noise),
    }
}

/// Reads the last message.
pub(super) fn read_last(
    reader: Reader,
    message: &[u8],
) -> Result<(Vec<u8>, Finished), HandshakeFault> {
    match reader.read(message) {
        Ok((payload, ReadDone::Done(finished))) => Ok((payload, finished)),
        Ok((_, ReadDone::Writer(_))) => Err(HandshakeFault::Noise),
        Err(_) => Err(HandshakeFault::Noise),
    }
}

/// Writes a message after which it is our turn to read. It fails when the peer's keys are degenerate.
pub(super) fn write(
    writer: Writer,
    payload: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Reader), HandshakeFault> {
    match writer.write(payload, entropy) {
        Ok((message, Written::Reader(reader))) => Ok((message, reader)),
        Ok((_, Written::Done(_))) | Err(_) => Err(HandshakeFault::Noise),
    }
}

/// Writes the last message.
pub(super) fn write_last(
    writer: Writer,
    payload: &[u8],
    entropy: &mut dyn Entropy,
) -> Result<(Vec<u8>, Finished), HandshakeFault> {
    match writer.write(payload, entropy) {
        Ok((message, Written::Done(finished))) => Ok((message, finished)),
        Ok((_, Written::Reader(_))) | Err(_) => Err(HandshakeFault::Noise),
    }
}

/// What a peer told of itself and its link, checked.
pub(super) struct Hello {
    pub(super) caps: Caps,
    pub(super) channels: Vec<ChannelEntry>,
    pub(super) description: Option<Description>,
    pub(super) candidates: Vec<String>,
}

/// A peer's session description, checked, without candidates.
#[derive(Clone)]
pub(super) struct Description {
    pub(super) sdp: String,
    pub(super) fingerprint: [u8; 32],
    /// As given; absent means 65 536, 0 no limit.
    pub(super) max_message_size: u32,
}

impl Description {
    pub(super) fn check(sdp: &str, kind: SdpKind) -> Result<Self, HandshakeFault> {
        let parsed = sdp::parse(sdp, kind).map_err(|_| HandshakeFault::Description)?;
        let max_message_size = parsed.max_message_size.unwrap_or(65_536);
        // obeyed as a limit of our frames, and below the least of CAPS not even control frames would fit.
        if (1..MIN_FRAME).contains(&max_message_size) {
            return Err(HandshakeFault::Description);
        }
        Ok(Self {
            sdp: sdp::strip_candidates(sdp),
            fingerprint: parsed.fingerprint,
            max_message_size,
        })
    }
}

/// Which payload holds which description.
fn description_kind(kind: PayloadKind) -> SdpKind {
    match kind {
        PayloadKind::Hs1 | PayloadKind::Hs3(_) => SdpKind::Offer,
        PayloadKind::Hs2(_) | PayloadKind::Sig(_) => SdpKind::Answer,
    }
}

impl Hello {
    /// Reads a payload that carries CAPS and CHANNELS.
    pub(super) fn read(
        kind: PayloadKind,
        payload: &[u8],
        own: &[ChannelEntry],
    ) -> Result<Self, HandshakeFault> {
        let payload = Payload::decode(kind, payload).map_err(|_| HandshakeFault::Records)?;
        let (Some(caps), Some(channels)) = (payload.caps, payload.channels) else {
            return Err(HandshakeFault::Records);
        };
        // One suite per version: a peer that speaks a newer one with us was talked down, one that claims less lies.
        //
        if caps.max_version.min(VERSION) != VERSION {
            return Err(HandshakeFault::Downgrade {
                claimed: caps.max_version,
            });
        }
        if super::channel::live_channels(own, &channels).is_empty() {
            return Err(HandshakeFault::Channels);
        }
        let description = payload
            .sdp
            .map(|sdp| Description::check(&sdp, description_kind(kind)))
            .transpose()?;
        Ok(Self {
            caps,
            channels,
            description,
            candidates: payload.candidates,
        })
    }
}

/// The key a peer proved, if it is another than ours.
pub(super) fn proven_key(
    identity: &Identity,
    remote: Option<[u8; 32]>,
) -> Result<PeerId, HandshakeFault> {
    let key = PeerId::from_bytes(remote.ok_or(HandshakeFault::Noise)?);
    if key == identity.peer_id() {
        Err(HandshakeFault::OwnKey)
    } else {
        Ok(key)
    }
}

/// What we tell of ourselves.
pub(super) fn own_caps(limits: &Limits) -> Caps {
    Caps {
        max_version: VERSION,
        max_frame: limits.max_frame,
        max_message: limits.max_message,
        window: limits.window,
    }
}
