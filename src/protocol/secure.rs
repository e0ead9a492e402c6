//! A completed handshake and the transport that it protects: what a session holds from then on, and what it waits
//! for. What happens in it stands in sig.rs, traffic.rs and closing.rs.

use std::time::Duration;

use super::{
    channel::Channels,
    conversation::Conversation,
    handshake::Description,
    io::{LinkId, Output, Reason},
    ledger::Ledger,
    pair::Pairing,
    rekey::Rekey,
    sas::Sas,
};
use crate::{
    config::Config,
    crypto::{epoch::Role, secret::Secret},
    error::CloseCode,
    room::EndpointId,
};

/// At most one PING is sent or answered in this time.
const PING_GAP: Duration = Duration::from_secs(1);
/// How long the peer may stay silent after the server said that it came back.
pub(super) const PROBE: Duration = Duration::from_secs(3);
/// How long a CLOSE waits for its answer, and an answerer for the other end to close the link.
const CLOSE_ANSWER: Duration = Duration::from_secs(2);
/// How long the side that closed first leaves the link to the other.
const CLOSE_LINGER: Duration = Duration::from_millis(300);

/// The encrypted signaling channel, from the end of the handshake until `Established`.
pub(super) struct Sig {
    pub(super) send: Secret,
    pub(super) receive: Secret,
    pub(super) sent: u64,
    pub(super) next: u64,
    pub(super) received: u64,
    /// Candidates of the peer so far, in every kind of payload.
    pub(super) candidates: usize,
    /// Candidates of ours so far, likewise.
    pub(super) told: usize,
}

/// How far a transport has come to carrying messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) link_open: bool,
    pub(super) ready_sent: bool,
    pub(super) ready_received: bool,
    pub(super) ready_ok_sent: bool,
    pub(super) ready_ok_received: bool,
    pub(super) established: bool,
}

/// The end, step by step.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// The host wants it: no later than this.
    pub(super) wanted: Option<(CloseCode, String, Duration)>,
    pub(super) sent: Option<Duration>,
    pub(super) received: Option<Duration>,
    /// What the host is told.
    pub(super) report: Option<(CloseCode, String)>,
    pub(super) reported: bool,
}

/// PING and PONG, both at most once a second.
#[derive(Debug, Default)]
pub(super) struct Liveness {
    pub(super) heard: Duration,
    pub(super) ping_sent: Option<Duration>,
    pub(super) ping_answered: Option<Duration>,
    /// The server says that the peer came back: without a sign of life until then the transport is lost.
    pub(super) probe_until: Option<Duration>,
    pub(super) owed: Option<[u8; 8]>,
}

/// A completed handshake and the transport that it protects.
pub(super) struct Secure {
    pub(super) peer_endpoint: EndpointId,
    /// The session that this transport carries.
    pub(super) talk: Conversation,
    pub(super) link: LinkId,
    pub(super) role: Role,
    pub(super) sig: Option<Sig>,
    /// The responder of an open handshake owes its answer.
    pub(super) owes_answer: Option<Vec<String>>,
    /// The peer's description; the initiator of an open handshake waits for it.
    pub(super) description: Option<Description>,
    pub(super) channels: Channels,
    pub(super) rekey: Rekey,
    pub(super) sas: Sas,
    pub(super) pairing: Pairing,
    pub(super) progress: Progress,
    pub(super) ready_by: Duration,
    /// Messages that overtook READY_OK: the host sees them once the session is established.
    pub(super) early: Vec<Output>,
    pub(super) ack_at: Option<Duration>,
    pub(super) liveness: Liveness,
    pub(super) closing: Closing,
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure")
            .field("talk", &self.talk)
            .field("link", &self.link)
            .field("channels", &self.channels)
            .field("progress", &self.progress)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// What a completed handshake hands over.
pub(super) struct Completed {
    pub(super) peer_endpoint: EndpointId,
    pub(super) talk: Conversation,
    pub(super) link: LinkId,
    pub(super) role: Role,
    pub(super) sig: Sig,
    pub(super) owes_answer: Option<Vec<String>>,
    pub(super) description: Option<Description>,
    pub(super) channels: Channels,
    pub(super) rekey: Rekey,
    pub(super) sas: Sas,
    pub(super) pairing: Pairing,
}

impl Secure {
    pub(super) fn new(completed: Completed, now: Duration, config: &Config) -> Self {
        let mut secure = Self {
            early: Vec::new(),
            peer_endpoint: completed.peer_endpoint,
            talk: completed.talk,
            link: completed.link,
            role: completed.role,
            sig: Some(completed.sig),
            owes_answer: completed.owes_answer,
            description: None,
            channels: completed.channels,
            rekey: completed.rekey,
            sas: completed.sas,
            pairing: completed.pairing,
            progress: Progress::default(),
            ready_by: now + config.timeouts.ready,
            ack_at: None,
            liveness: Liveness {
                heard: now,
                ..Liveness::default()
            },
            closing: Closing::default(),
        };
        if let Some(description) = completed.description {
            secure.describe(description);
        }
        secure
    }

    pub(super) fn describe(&mut self, description: Description) {
        self.channels.cap_send(description.max_message_size);
        self.description = Some(description);
    }

    /// Whether the host was told of the end, at the peer's CLOSE.
    pub(super) fn is_reported(&self) -> bool {
        self.closing.reported
    }

    pub(super) fn is_established(&self) -> bool {
        self.progress.established
    }

    pub(super) fn wants_write(&self) -> bool {
        let window = self.talk.window();
        let mut lanes = self.talk.lanes.iter();
        self.may_send_messages()
            && (lanes.any(|lane| lane.outbox.is_sendable(window))
                || self.talk.lossy.iter().any(|lossy| !lossy.is_empty()))
    }

    pub(super) fn acknowledges_soon(&self) -> bool {
        self.ack_at.is_some()
    }

    pub(super) fn may_send_messages(&self) -> bool {
        let held = self.talk.history.as_ref().is_some_and(Ledger::is_held);
        //
        self.progress.established && self.talk.trusted && self.closing.sent.is_none() && !held
    }

    pub(super) fn next_timeout(&self, config: &Config) -> Option<(Duration, Reason)> {
        if let Some(at) = self.close_deadline() {
            return Some((at, Reason::Close));
        }
        if !self.progress.established {
            return Some((self.ready_by, Reason::Ready));
        }
        let ack = self.ack_at.map(|at| (at, Reason::Ack));
        let wanted = self
            .closing
            .wanted
            .as_ref()
            .map(|(_, _, by)| (*by, Reason::Close));
        let pong = self.pong_due().map(|at| (at, Reason::Ping));
        let ping = (self.ping_due(config), Reason::Ping);
        let lost = (
            self.liveness.heard + config.timeouts.lost_after,
            Reason::Lost,
        );
        let probe = self.liveness.probe_until.map(|at| (at, Reason::Lost));
        let heard = self.liveness.heard;
        let rekey = self
            .rekey
            .next_timeout(&self.channels, &config.rekeying, heard);
        let sas = self.sas.next_timeout();
        [ack, wanted, pong, Some(ping), Some(lost), probe, rekey, sas]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    pub(super) fn ping_due(&self, config: &Config) -> Duration {
        let Liveness {
            heard,
            ping_sent,
            probe_until,
            ..
        } = self.liveness;
        if let Some(asked) = probe_until.map(|until| until.saturating_sub(PROBE))
            && ping_sent.is_none_or(|sent| sent < asked)
        {
            return ping_sent.map_or(asked, |sent| asked.max(sent + PING_GAP));
        }
        let silence = heard + config.timeouts.ping_after;
        ping_sent.map_or(silence, |sent| {
            silence.max(sent + config.timeouts.ping_after.max(PING_GAP))
        })
    }

    pub(super) fn pong_due(&self) -> Option<Duration> {
        self.liveness.owed?;
        Some(
            self.liveness
                .ping_answered
                .map_or(Duration::ZERO, |answered| answered + PING_GAP),
        )
    }

    /// When the link is closed at the latest, once CLOSE was sent.
    pub(super) fn close_deadline(&self) -> Option<Duration> {
        match (self.closing.sent?, self.closing.received) {
            (sent, None) => Some(sent + CLOSE_ANSWER),
            (sent, Some(received)) if sent < received => Some(received + CLOSE_LINGER),
            (_, Some(received)) => Some(received + CLOSE_ANSWER),
        }
    }
}
