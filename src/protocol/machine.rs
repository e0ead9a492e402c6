//! The machine: it owns the layers and gives each input to the one it concerns.
//!
//! ```text
//!            join ──► attempts ──commit──► secure: opening ──READY, READY_OK──► established ──CLOSE──► closed
//!              ▲                              │
//!              └────── fresh endpoint id ◄────┘ a committed attempt that fails before READY
//! ```
//! What stands in which file: `join.rs` membership, roles and who wins; `secure.rs` what follows the handshake.

use std::time::Duration;

use bytes::Bytes;

use super::{
    blob::Mode,
    channel::{LOSSY, RELIABLE},
    claim::Claim,
    conversation::Conversation,
    handshake::{Keys, Terms},
    io::{CloseHow, Delivery, Event, HistoryUse, Input, LinkId, Now, Output, Reason},
    join::Join,
    lossy::LossyOutbox,
    record::ChannelEntry,
    reset::Visit,
    resume::Suspended,
    secure::Secure,
    watch::Watch,
};
use crate::{
    config::Config,
    crypto::kdf::{self, Pairing},
    entropy::{Entropy, random},
    error::Error,
    identity::{Identity, PeerId},
    invite::Invite,
    message::MessageDirection,
    room::{EndpointId, RoomId},
    trust::{MinTrust, PeerTrust},
};

/// Committed attempts that may fail in a row before the host is told that it does not work.
const MAX_FAILURES: u32 = 3;

/// What a machine is made of.
#[derive(Debug)]
pub struct Setup {
    /// Limits and timeouts.
    pub config: Config,
    /// Who we are.
    pub identity: Identity,
    /// Where and whom to meet.
    pub meeting: Meeting,
    /// The trust below which nothing is sent or delivered.
    pub required: MinTrust,
    /// The channels that this side offers; those which both sides offer alike live. Numbers 1 to 15, ascending.
    pub channels: Vec<ChannelOffer>,
    /// Whether a history is kept of the lowest live reliable channel.
    pub history: HistoryUse,
}

/// A channel as both sides have to name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOffer {
    /// Its number: 1 to 15.
    pub id: u8,
    /// What it promises.
    pub delivery: Delivery,
    /// Its name: at most 64 bytes. Whoever knows the name of an open room can read it.
    pub label: String,
}

impl ChannelOffer {
    /// Channel 1, reliable, named `main`: what a session has when nothing else is said.
    #[must_use]
    pub fn main() -> Self {
        Self {
            id: 1,
            delivery: Delivery::Reliable,
            label: "main".to_owned(),
        }
    }
}

/// Where and whom to meet.
#[derive(Debug)]
#[non_exhaustive]
pub enum Meeting {
    /// Anybody in a room with a guessable name.
    Open {
        /// The name: 1 to 256 bytes.
        room: String,
        /// The only key accepted, if one is known from before.
        pinned: Option<PeerId>,
    },
    /// Whoever redeems our invite first.
    Invite(Invite),
    /// The maker of this invite.
    Redeem(Invite),
    /// A contact.
    Contact {
        /// The only key accepted.
        peer: PeerId,
        /// How well it is known.
        trust: PeerTrust,
        /// What both sides keep to meet by.
        #[doc(hidden)]
        pairing: Pairing,
    },
}

impl Meeting {
    /// The room where it takes place.
    ///
    /// # Errors
    /// As those of [`Machine::new`].
    pub fn room(self) -> Result<RoomId, Error> {
        meet(self).map(|(terms, _)| terms.room)
    }
}

/// What this side knows of the other beforehand.
#[derive(Debug)]
pub(super) enum Side {
    Open {
        pinned: Option<PeerId>,
    },
    Inviter {
        claim: Claim,
        claim_until: Option<Duration>,
        expires_at: u32,
        listen_until: Option<Duration>,
    },
    Redeemer {
        inviter: PeerId,
        expires_at: u32,
    },
    Contact {
        peer: PeerId,
        trust: PeerTrust,
    },
    /// The session was established: only its own peer can continue it.
    Continued,
}

/// The protocol's state machine for one session.
pub struct Machine {
    pub(super) config: Config,
    pub(super) identity: Identity,
    pub(super) entropy: Box<dyn Entropy>,
    pub(super) terms: Terms,
    pub(super) side: Side,
    pub(super) required: MinTrust,
    pub(super) channels: Vec<ChannelEntry>,
    pub(super) history: HistoryUse,
    pub(super) now: Now,
    pub(super) out: Vec<Output>,
    pub(super) join: Option<Join>,
    pub(super) rejoin_at: Option<Duration>,
    pub(super) peer_deadline: Option<Duration>,
    pub(super) secure: Option<Secure>,
    /// The session, while it has no transport.
    pub(super) suspended: Option<Suspended>,
    /// Another room that is looked at: that of our used invite, or where a restarted peer would come.
    pub(super) watch: Option<Watch>,
    /// Where a restarted peer would come.
    pub(super) home: Option<Terms>,
    pub(super) visit: Option<Visit>,
    /// The host wants the peer as a contact, and there is no answer yet.
    pub(super) wants_contact: bool,
    pub(super) failures: u32,
    /// The newest failure of an attempt, which explains a wait in vain better than that nobody came.
    pub(super) last_fault: Option<Error>,
    next_link: u64,
    ended: bool,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine")
            .field("terms", &self.terms)
            .field("side", &self.side)
            .field("join", &self.join)
            .field("secure", &self.secure)
            .field("suspended", &self.suspended)
            .field("watch", &self.watch)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that waits for [`Input::Start`].
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for limits outside the protocol's or a room name of another length than 1 to 256
    /// bytes.
    pub fn new(setup: Setup, entropy: Box<dyn Entropy>) -> Result<Self, Error> {
        let Setup {
            config,
            identity,
            meeting,
            required,
            channels,
            history,
        } = setup;
        if !super::handshake::own_caps(&config.limits).in_range() {
            return Err(Error::InvalidConfig(
                "max_frame, max_message or window is outside the protocol's range",
            ));
        }
        let (terms, side) = meet(meeting)?;
        Ok(Self {
            config,
            identity,
            entropy,
            terms,
            side,
            required,
            channels: entries(channels)?,
            history,
            now: Now::default(),
            out: Vec::new(),
            join: None,
            rejoin_at: None,
            peer_deadline: None,
            secure: None,
            suspended: None,
            watch: None,
            home: None,
            visit: None,
            wants_contact: false,
            failures: 0,
            last_fault: None,
            next_link: 0,
            ended: false,
        })
    }

    /// Takes an input at a time, and appends what is to be done to `out`. Inputs that no longer concern anything are
    /// ignored; none of them panics.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.now = now;
        std::mem::swap(&mut self.out, out);
        if !self.ended {
            self.dispatch(input);
            self.run_timers();
        }
        std::mem::swap(&mut self.out, out);
    }

    fn dispatch(&mut self, input: Input) {
        match input {
            Input::Start => self.start(),
            Input::Tick => {}
            Input::Welcome { peers } => self.on_welcome(&peers),
            Input::PeerJoined(peer) => self.on_peer_joined(peer),
            Input::PeerLeft(peer) => self.on_peer_left(peer),
            Input::Blob { from, blob } => self.on_blob(from, &blob),
            Input::SignalingLost => self.on_signaling_lost(),
            Input::LinkDescribed {
                link,
                sdp,
                candidates,
            } => self.on_link_described(link, &sdp, candidates),
            Input::LinkCandidate { link, candidate } => self.on_link_candidate(link, candidate),
            Input::LinkOpen { link, fingerprint } => self.on_link_open(link, fingerprint),
            Input::LinkFrame {
                link,
                channel,
                frame,
            } => self.on_link_frame(link, channel, frame),
            Input::LinkForeign(link) => self.on_link_foreign(link),
            Input::LinkWritable { link, bytes } => self.on_link_writable(link, bytes),
            Input::LinkClosed { link, reason } => self.on_link_closed(link, reason),
            Input::Send { channel, body } => self.on_send(channel, body),
            Input::History(input) => self.on_history(input),
            Input::Taken { channel, messages } => self.on_taken(channel, messages),
            Input::Discarded => self.on_discarded(),
            Input::Rekey => self.on_rekey(),
            Input::Suspend => self.on_suspend(),
            Input::Resume => self.on_resume(),
            Input::Compare => self.on_compare(),
            Input::Pair => self.on_pair(),
            Input::Watched(peer) => self.on_watched(peer),
            Input::WatchLost => self.on_watch_lost(),
            Input::Trust(trust) => self.on_trust(trust),
            Input::Close { code, reason } => self.on_close(code, reason),
        }
    }

    /// When to call [`Machine::handle`] with [`Input::Tick`] at the latest, and why.
    #[must_use]
    pub fn next_timeout(&self) -> Option<(Duration, Reason)> {
        if self.ended {
            return None;
        }
        let join = self.join_timeout();
        let secure = self
            .secure
            .as_ref()
            .and_then(|secure| secure.next_timeout(&self.config));
        join.into_iter().chain(secure).min_by_key(|(at, _)| *at)
    }

    fn run_timers(&mut self) {
        if !self.ended {
            self.run_join_timers();
        }
        if !self.ended {
            self.run_secure_timers();
        }
    }

    /// Whether the session is over: nothing comes out any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether there is an established transport: messages flow now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.is_listening()
    }

    /// Whether messages wait that a writable link could take.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.secure.as_ref().is_some_and(Secure::wants_write)
    }

    /// Whether messages taken will be acknowledged within milliseconds without another input than [`Input::Tick`].
    #[must_use]
    pub fn acknowledges_soon(&self) -> bool {
        self.secure.as_ref().is_some_and(Secure::acknowledges_soon)
    }

    /// The link on which messages flow, once there is one.
    #[must_use]
    pub fn link(&self) -> Option<LinkId> {
        self.secure.as_ref().map(|secure| secure.link)
    }

    /// The session's id, and which direction is ours, once known.
    #[must_use]
    pub fn session(&self) -> Option<([u8; 16], MessageDirection)> {
        self.talk().map(Conversation::session)
    }

    /// Messages of lossy channels that were dropped here: too late, received twice, or never sent.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let frames = self.secure.as_ref().map(|secure| secure.channels.dropped());
        let lossy = self.talk().into_iter().flat_map(|talk| &talk.lossy);
        frames.unwrap_or_default() + lossy.map(LossyOutbox::dropped).sum::<u64>()
    }

    /// The longest message and the window of unacknowledged bytes, both in bytes, once known.
    #[must_use]
    pub fn agreed(&self) -> Option<(usize, usize)> {
        let agreed = self.talk().map(Conversation::agreed)?;
        Some(self.stamped(agreed))
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    pub(super) fn new_link(&mut self, offer: Option<String>) -> LinkId {
        self.next_link += 1;
        let link = LinkId(self.next_link);
        let delivery = |entry: &ChannelEntry| match entry.kind {
            LOSSY => (entry.channel, Delivery::Lossy),
            _ => (entry.channel, Delivery::Reliable),
        };
        // R-122
        let channels = std::iter::once((0, Delivery::Reliable))
            .chain(self.channels.iter().map(delivery))
            .collect();
        self.out.push(Output::OpenLink {
            link,
            offer,
            channels,
        });
        link
    }

    pub(super) fn close_link(&mut self, link: LinkId, how: CloseHow) {
        self.out.push(Output::CloseLink { link, how });
    }

    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        random(self.entropy.as_mut())
    }

    /// The end: every key goes with the state.
    pub(super) fn finish(&mut self, event: Event) {
        let told = self.secure.as_ref().is_some_and(Secure::is_reported);
        if !told {
            self.deliver_left();
        }
        self.drop_secure(CloseHow::Abrupt);
        if !told {
            self.event(event);
        }
        self.end();
    }

    /// Nothing comes out any more.
    pub(super) fn end(&mut self) {
        self.drop_join();
        self.end_watch();
        self.suspended = None;
        self.visit = None;
        self.home = None;
        self.rejoin_at = None;
        self.terms.keys = Keys::none();
        self.ended = true;
    }

    pub(super) fn drop_secure(&mut self, how: CloseHow) {
        if let Some(secure) = self.secure.take() {
            self.close_link(secure.link, how);
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.finish(Event::Failed { error });
    }

    /// A committed attempt failed before it was established: try again under a fresh endpoint id, or give up. After
    /// the peer's READY an inviter has no secret left to try with (R-60).
    pub(super) fn fail_attempt(&mut self, error: Error) {
        if let Side::Continued = self.side {
            return self.resume_failed(error);
        }
        self.drop_secure(CloseHow::Abrupt);
        self.failures += 1;
        if self.failures >= MAX_FAILURES || self.invite_is_used() {
            return self.fail(error);
        }
        self.retrying(error);
        // The inviter was there: the wait for it begins anew.
        self.peer_deadline = self
            .peer_deadline
            .map(|_| self.now.monotonic + self.config.timeouts.peer);
        self.rejoin_jittered();
    }

    /// Something failed and is tried again.
    pub(super) fn retrying(&mut self, error: Error) {
        self.last_fault = Some(error.clone());
        self.event(Event::Retrying { error });
    }

    /// Everything ends without a CLOSE: the peer broke the protocol, or keys do not fit. Nothing is said to it (R-10).
    pub(super) fn fatal(&mut self, error: Error) {
        tracing::debug!(%error, "fatal");
        self.fail(error);
    }

    fn on_trust(&mut self, trust: PeerTrust) {
        let required = self.required;
        if let Some(talk) = self.talk_mut() {
            talk.trust = trust;
            talk.trusted = trust.meets(required);
        }
    }

    /// Queues a message; it leaves with [`Input::LinkWritable`].
    fn on_send(&mut self, channel: u8, body: Bytes) {
        if let Some(body) = self.record_sent(channel, body)
            && let Some(talk) = self.talk_mut()
        {
            talk.send(channel, body);
        }
    }

    pub(super) fn unix_seconds(&self) -> u64 {
        self.now.unix_ms / 1_000
    }

    /// A fresh endpoint id (R-36).
    pub(super) fn fresh_endpoint(&mut self) -> EndpointId {
        EndpointId(self.random())
    }
}

/// The records that offer the channels.
fn entries(offers: Vec<ChannelOffer>) -> Result<Vec<ChannelEntry>, Error> {
    let ascending = offers.is_sorted_by(|one, two| one.id < two.id);
    let in_range = |offer: &ChannelOffer| (1..=15).contains(&offer.id) && offer.label.len() <= 64;
    if offers.is_empty() || !ascending || !offers.iter().all(in_range) {
        let reason = "channels have ascending numbers from 1 to 15 and labels of at most 64 bytes";
        return Err(Error::InvalidConfig(reason));
    }
    let entry = |offer: ChannelOffer| ChannelEntry {
        channel: offer.id,
        kind: match offer.delivery {
            Delivery::Reliable => RELIABLE,
            Delivery::Lossy => LOSSY,
        },
        label: offer.label,
    };
    Ok(offers.into_iter().map(entry).collect())
}

fn meet(meeting: Meeting) -> Result<(Terms, Side), Error> {
    match meeting {
        Meeting::Open { room, pinned } => {
            // R-17
            if !(1..=256).contains(&room.len()) {
                return Err(Error::InvalidConfig("a room name has 1 to 256 bytes"));
            }
            let terms = Terms {
                mode: Mode::Open,
                room: RoomId(kdf::open_room(&room)),
                keys: Keys::none(),
            };
            Ok((terms, Side::Open { pinned }))
        }
        Meeting::Invite(invite) => {
            let side = Side::Inviter {
                claim: Claim::Open,
                claim_until: None,
                expires_at: invite.expires_at().unwrap_or(0),
                listen_until: None,
            };
            Ok((paired(invite.pairing())?, side))
        }
        Meeting::Contact {
            peer,
            trust,
            pairing,
        } => Ok((paired(pairing)?, Side::Contact { peer, trust })),
        Meeting::Redeem(invite) => {
            let side = Side::Redeemer {
                inviter: invite.inviter(),
                expires_at: invite.expires_at().unwrap_or(0),
            };
            Ok((paired(invite.pairing())?, side))
        }
    }
}

fn paired(pairing: Pairing) -> Result<Terms, Error> {
    let room = RoomId(
        pairing
            .room
            .ok_or(Error::InvalidConfig("a pairing names a room"))?,
    );
    Ok(Terms {
        mode: Mode::Paired,
        room,
        keys: Keys::of([(pairing.psk_id, pairing.psk)]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_ascend_from_1_to_15_under_labels_of_at_most_64_bytes() {
        let accepts = |offers: &[(u8, usize)]| {
            let offer = |&(id, label)| ChannelOffer {
                id,
                label: "l".repeat(label),
                ..ChannelOffer::main()
            };
            entries(offers.iter().map(offer).collect()).is_ok()
        };
        assert!(accepts(&[(1, 64), (2, 0), (15, 4)]));
        for refused in [
            &[][..],
            &[(0, 4)],
            &[(16, 4)],
            &[(1, 65)],
            &[(1, 4), (1, 4)],
            &[(2, 4), (1, 4)],
        ] {
            assert!(!accepts(refused), "{refused:?}");
        }
    }
}
