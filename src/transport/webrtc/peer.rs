//! The task behind one link: it owns the peer connection from its start until it is closed, and says how it ended.

use std::{sync::Arc, time::Duration};

use ::webrtc::peer_connection::{PeerConnection, RTCIceCandidateInit};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    super::{
        candidate::{self, Remote},
        runtime::{Pace, outstanding_limit},
    },
    channel::{Ended, Limits},
    channels::Channels,
    facts,
    handler::Note,
    setup::{self, Stack, Watch},
};
use crate::{
    config::CandidatePolicy,
    transport::{
        EventSender, LinkEvent, LinkOptions, LinkPort, LinkRequest, LinkRole, TransportError,
    },
};

/// How long closing waits for the peer's stack to acknowledge what was sent.
const FLUSH: Duration = Duration::from_secs(2);

/// How long what the peer sent before it closed may take from the stack to the session's queue.
const DRAIN: Duration = Duration::from_secs(2);

/// How long a goodbye over a TURN server may take to be written.
const GOODBYE: Duration = Duration::from_millis(20);

/// Requests that are handled before anything else is looked at again.
const BATCH: usize = 1_024;

/// Runs a link from start to end.
pub(super) async fn run(options: LinkOptions, role: LinkRole, port: LinkPort) {
    let events = port.events();
    let ended = tokio::select! {
        () = events.dropped() => return,
        stack = Stack::start(&options, &role) => match stack {
            Ok(stack) => Peer::new(stack, &options, &role, port).run().await,
            Err(error) => Err(error),
        },
    };
    events.tell(LinkEvent::Closed(ended));
}

/// Why a link ends.
enum End {
    /// The session dropped the link.
    Dropped,
    /// The session asked for it, and what it had sent is acknowledged.
    Closed,
    /// The peer closed.
    PeerClosed,
    /// It was lost.
    Lost(TransportError),
}

struct Peer {
    connection: Arc<dyn PeerConnection>,
    channels: Channels,
    port: LinkPort,
    notes: mpsc::UnboundedReceiver<Note>,
    events: EventSender,
    told_foreign: bool,
    is_relayed: bool,
    pace: Arc<Pace>,
    policy: CandidatePolicy,
    gathering: Option<Gathering>,
    remote: Remote,
    /// Silence after which the link is lost.
    lost_after: Duration,
    lost_at: Option<Instant>,
}

/// The description that is not told yet, and what was found for it.
struct Gathering {
    sdp: String,
    candidates: Vec<String>,
    until: Instant,
}

impl Peer {
    fn new(stack: Stack, options: &LinkOptions, role: &LinkRole, port: LinkPort) -> Self {
        let near = outstanding_limit(options.buffer);
        let far = outstanding_limit(2 * near);
        let quick = outstanding_limit(4 * near);
        let limits = Limits { near, far, quick };
        let pace = Arc::clone(&stack.pace);
        let channels = Channels::start(stack.channels, &stack.noting, &port, limits, pace);
        let until = Instant::now() + options.gather;
        Self {
            connection: stack.connection,
            channels,
            events: port.events(),
            port,
            notes: stack.notes,
            told_foreign: false,
            is_relayed: false,
            pace: stack.pace,
            policy: options.candidates,
            gathering: Some(Gathering {
                sdp: stack.sdp,
                candidates: Vec::new(),
                until,
            }),
            remote: Remote::of(role),
            lost_after: Watch::new(options.lost_after).lost_after,
            lost_at: None,
        }
    }

    async fn run(mut self) -> Result<(), TransportError> {
        let end = self.serve().await;
        if matches!(end, End::PeerClosed) {
            // What the peer sent before is still on its way through the stack, and closing would lose it.
            let _ = timeout(DRAIN, self.channels.read_out()).await;
        }
        if self.is_relayed {
            self.close_channels().await;
        }
        if let Err(error) = self.connection.close().await {
            tracing::debug!(%error, "closing the peer connection");
        }
        // The stack gives nothing more: the readers end when the session took what they hold, or if it never will.
        self.channels.abandon_frames();
        self.channels.read_out().await;
        match end {
            End::Dropped | End::Closed | End::PeerClosed => Ok(()),
            End::Lost(error) => Err(error),
        }
    }

    /// Closing the connection gives the TURN server back before what it still had to relay, the goodbye above all.
    async fn close_channels(&self) {
        self.channels.close().await;
        self.pace.note_change();
        self.channels.wake_driver().await;
        sleep(GOODBYE).await;
    }

    async fn serve(&mut self) -> End {
        loop {
            let told_at = self.gathering.as_ref().map(|gathering| gathering.until);
            let end = tokio::select! {
                () = self.events.dropped() => Some(End::Dropped),
                Some(note) = self.notes.recv() => self.handle_note(note).await,
                Some(request) = self.port.next() => self.handle_requests(request).await,
                Some(ended) = self.channels.next_end() => Some(ended.into()),
                () = at(told_at) => self.tell_description(),
                () = at(self.lost_at) => Some(End::Lost(TransportError::NoPath)),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn handle_note(&mut self, note: Note) -> Option<End> {
        match note {
            Note::Candidate(candidate) => self.handle_local_candidate(&candidate),
            Note::Gathered => self.tell_description(),
            Note::PathFound => {
                self.lost_at = None;
                None
            }
            Note::PathSilent => {
                // By the real time, which the stack's clock may be ahead of.
                let heard = Instant::from_std(self.pace.path().heard());
                self.lost_at = Some(heard + self.lost_after);
                None
            }
            Note::Opened => self.handle_opened().await,
            Note::Foreign(what) => {
                // Said once: a peer that does it once may do it a million times.
                if !std::mem::replace(&mut self.told_foreign, true) {
                    self.events.tell(LinkEvent::Foreign(what));
                }
                None
            }
            Note::PeerClosed => Some(End::PeerClosed),
            Note::ConnectionFailed => Some(End::Lost(facts::failure(&*self.connection).await)),
            Note::ChannelFailed(reason) => Some(End::Lost(TransportError::Failed(reason))),
        }
    }

    fn handle_local_candidate(&mut self, candidate: &str) -> Option<End> {
        let candidate = candidate::told(candidate, self.policy)?;
        match &mut self.gathering {
            Some(gathering) => gathering.candidates.push(candidate),
            None => self.events.tell(LinkEvent::Candidate(candidate)),
        }
        None
    }

    fn tell_description(&mut self) -> Option<End> {
        let Gathering {
            sdp, candidates, ..
        } = self.gathering.take()?;
        self.events.tell(LinkEvent::Described { sdp, candidates });
        None
    }

    async fn handle_opened(&mut self) -> Option<End> {
        if !self.channels.note_opened() {
            return None;
        }
        self.pace.note_settled();
        let Some(fingerprint) = facts::fingerprint(&*self.connection).await else {
            let reason = "the stack does not show the peer's certificate".to_owned();
            return Some(End::Lost(TransportError::Failed(reason)));
        };
        let relayed = facts::is_relayed(&*self.connection).await;
        self.is_relayed = relayed.unwrap_or(true);
        if !self.is_relayed {
            self.pace.note_direct();
        }
        self.events.tell(LinkEvent::Open {
            fingerprint: Some(fingerprint),
            relayed,
        });
        self.channels.release_frames();
        None
    }

    async fn handle_requests(&mut self, first: LinkRequest) -> Option<End> {
        let mut next = Some(first);
        let mut left = BATCH;
        while let Some(request) = next {
            let end = self.handle_request(request).await;
            if end.is_some() {
                return end;
            }
            left -= 1;
            next = if left > 0 { self.port.try_next() } else { None };
        }
        None
    }

    async fn handle_request(&mut self, request: LinkRequest) -> Option<End> {
        match request {
            LinkRequest::Frame { channel, frame } => self.handle_frame(channel, frame),
            LinkRequest::Candidate(candidate) => self.handle_candidate(candidate).await,
            LinkRequest::Answer(answer) => self.handle_answer(&answer).await,
            LinkRequest::Close => Some(self.flush().await),
        }
    }

    fn handle_frame(&self, channel: u8, frame: Vec<u8>) -> Option<End> {
        if self.channels.send(channel, frame) {
            return None;
        }
        let reason = format!("there is no channel {channel}");
        Some(End::Lost(TransportError::Failed(reason)))
    }

    async fn handle_answer(&mut self, answer: &str) -> Option<End> {
        if !self.remote.describe() {
            return None;
        }
        if let Err(error) = setup::accept_answer(&*self.connection, answer).await {
            return Some(End::Lost(error));
        }
        for candidate in self.remote.take_early() {
            self.try_candidate(candidate).await;
        }
        None
    }

    async fn handle_candidate(&mut self, candidate: String) -> Option<End> {
        if let Some(candidate) = self.remote.admit(candidate, candidate::is_usable) {
            self.try_candidate(candidate).await;
        }
        None
    }

    async fn try_candidate(&self, candidate: String) {
        let init = RTCIceCandidateInit {
            candidate,
            // Not by mid: the stack's own candidates have none.
            sdp_mline_index: Some(0),
            ..RTCIceCandidateInit::default()
        };
        if let Err(error) = self.connection.add_ice_candidate(init).await {
            tracing::debug!(%error, "a candidate of the peer is refused");
        }
        // Adding it does not wake the stack.
        self.channels.wake_driver().await;
    }

    /// Waits until everything sent is acknowledged by the peer's stack, or nobody cares.
    async fn flush(&self) -> End {
        tokio::select! {
            () = self.events.dropped() => End::Dropped,
            _ = timeout(FLUSH, self.channels.flushed()) => End::Closed,
        }
    }
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed => Self::PeerClosed,
            Ended::Dropped => Self::Dropped,
            Ended::Cut => {
                let reason = "the stack stopped, or DTLS failed".to_owned();
                Self::Lost(TransportError::Failed(reason))
            }
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
