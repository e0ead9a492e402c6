//! The task behind one link: it owns the peer connection from its start until it is closed, and says how it ended.

use std::{rc::Rc, time::Duration};

use tokio::sync::mpsc;
use wasm_bindgen_futures::JsFuture;
use web_sys::RtcIceCandidateInit;

use super::{
    super::candidate::{self, Remote},
    callbacks::{Inbox, Note},
    channel::Channel,
    facts::{self, Facts},
    setup::{self, Connection, Stack},
};
use crate::{
    config::CandidatePolicy,
    shell::{self, Clock},
    transport::{
        EventSender, LinkEvent, LinkOptions, LinkPort, LinkRequest, LinkRole, TransportError,
    },
};

/// How long closing waits for the peer's stack to confirm what was sent.
const FLUSH: Duration = Duration::from_secs(2);

/// Requests that are handled before anything else is looked at again.
const BATCH: usize = 1_024;

/// Silence after which browsers report a path silent; it may then recover for the rest of the time given.
const SILENT_AFTER: Duration = Duration::from_millis(2_500);

/// The least time for a silent path to recover.
const MIN_GRACE: Duration = Duration::from_millis(500);

/// Runs a link from start to end.
pub(super) async fn run(options: LinkOptions, role: LinkRole, port: LinkPort) {
    let events = port.events();
    let (noting, notes) = mpsc::unbounded_channel();
    let inbox = Inbox::new(events.clone(), noting);
    let ended = tokio::select! {
        () = events.dropped() => return,
        stack = Stack::start(&options, &role, &inbox) => match stack {
            Ok(stack) => Peer::new(stack, (inbox, notes), &options, &role, port).run().await,
            Err(error) => Err(error),
        },
    };
    events.tell(LinkEvent::Closed(ended));
}

/// Why a link ends.
enum End {
    /// The session dropped the link, asked for the end, or the peer closed.
    Closed,
    /// It was lost.
    Lost(TransportError),
}

struct Peer {
    // Silenced before the connection is closed.
    channels: Vec<Channel>,
    connection: Connection,
    inbox: Rc<Inbox>,
    notes: mpsc::UnboundedReceiver<Note>,
    port: LinkPort,
    events: EventSender,
    policy: CandidatePolicy,
    clock: Clock,
    gathering: Option<Gathering>,
    remote: Remote,
    opened: usize,
    closed: usize,
    /// How long a silent path may recover.
    grace: Duration,
    lost_at: Option<Duration>,
}

/// The description that is not told yet, and what was found for it.
struct Gathering {
    sdp: String,
    candidates: Vec<String>,
    until: Duration,
}

impl Peer {
    fn new(
        stack: Stack,
        (inbox, notes): (Rc<Inbox>, mpsc::UnboundedReceiver<Note>),
        options: &LinkOptions,
        role: &LinkRole,
        port: LinkPort,
    ) -> Self {
        let channels = stack.channels.into_iter();
        let channels =
            channels.map(|(id, stack)| Channel::new(id, stack, options.buffer, port.progress()));
        Self {
            channels: channels.collect(),
            connection: stack.connection,
            inbox,
            notes,
            events: port.events(),
            port,
            policy: options.candidates,
            clock: Clock::start(),
            gathering: Some(Gathering {
                sdp: stack.sdp,
                candidates: Vec::new(),
                until: options.gather,
            }),
            remote: Remote::of(role),
            opened: 0,
            closed: 0,
            grace: options
                .lost_after
                .saturating_sub(SILENT_AFTER)
                .max(MIN_GRACE),
            lost_at: None,
        }
    }

    async fn run(mut self) -> Result<(), TransportError> {
        match self.serve().await {
            End::Closed => Ok(()),
            End::Lost(error) => Err(error),
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            let told_at = self.gathering.as_ref().map(|gathering| gathering.until);
            let end = tokio::select! {
                () = self.events.dropped() => Some(End::Closed),
                Some(note) = self.notes.recv() => self.handle_note(note).await,
                Some(request) = self.port.next() => self.handle_requests(request).await,
                () = at(self.clock, told_at) => self.tell_description(),
                () = at(self.clock, self.lost_at) => Some(End::Lost(TransportError::NoPath)),
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
                self.lost_at = Some(self.clock.elapsed() + self.grace);
                None
            }
            Note::Opened => self.handle_opened().await,
            Note::Writable(id) => self.handle_writable(id),
            Note::Foreign(what) => {
                self.events.tell(LinkEvent::Foreign(what));
                None
            }
            Note::ChannelClosed | Note::Closed => Some(End::Closed),
            Note::ConnectionFailed => Some(End::Lost(facts::failure(&self.connection.stack))),
            Note::Flooded => {
                let reason = "the peer sends more than this page can hold".to_owned();
                Some(End::Lost(TransportError::Failed(reason)))
            }
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
        self.opened += 1;
        if self.opened != self.channels.len() {
            return None;
        }
        let Facts {
            fingerprint,
            relayed,
        } = Facts::ask(&self.connection.stack).await;
        self.events.tell(LinkEvent::Open {
            fingerprint,
            relayed,
        });
        self.inbox.release();
        None
    }

    fn handle_writable(&mut self, id: u8) -> Option<End> {
        let channel = self.channels.iter_mut().find(|channel| channel.id == id)?;
        channel.write().err().map(End::Lost)
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

    fn handle_frame(&mut self, id: u8, frame: Vec<u8>) -> Option<End> {
        match self.channels.iter_mut().find(|channel| channel.id == id) {
            Some(channel) => channel.send(frame).err().map(End::Lost),
            None => {
                let reason = format!("there is no channel {id}");
                Some(End::Lost(TransportError::Failed(reason)))
            }
        }
    }

    async fn handle_answer(&mut self, answer: &str) -> Option<End> {
        if !self.remote.describe() {
            return None;
        }
        if let Err(error) = setup::accept_answer(&self.connection.stack, answer).await {
            return Some(End::Lost(error));
        }
        for candidate in self.remote.take_early() {
            self.try_candidate(&candidate).await;
        }
        None
    }

    async fn handle_candidate(&mut self, candidate: String) -> Option<End> {
        let is_usable = candidate::is_usable_in_browsers;
        if let Some(candidate) = self.remote.admit(candidate, is_usable) {
            self.try_candidate(&candidate).await;
        }
        None
    }

    async fn try_candidate(&self, candidate: &str) {
        let init = RtcIceCandidateInit::new(candidate);
        // Not by mid: candidates of other stacks have none.
        init.set_sdp_m_line_index(Some(0));
        let connection = &self.connection.stack;
        let added = connection.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&init));
        if let Err(error) = JsFuture::from(added).await {
            tracing::debug!(error = %shell::words(&error), "a candidate of the peer is refused");
        }
    }

    /// Waits until everything sent is confirmed by the peer's stack, or nobody cares.
    async fn flush(&mut self) -> End {
        if self.opened < self.channels.len() {
            return End::Closed;
        }
        let events = self.events.clone();
        tokio::select! {
            () = events.dropped() => End::Closed,
            // Whoever takes longer is left.
            _ = shell::timeout(FLUSH, self.close_channels()) => End::Closed,
        }
    }

    async fn close_channels(&mut self) {
        while !self.channels.iter().all(Channel::is_written) {
            match self.notes.recv().await {
                Some(Note::Writable(id)) if self.handle_writable(id).is_none() => {}
                Some(Note::Writable(_) | Note::ChannelClosed | Note::ConnectionFailed) | None => {
                    return;
                }
                Some(_) => {}
            }
        }
        self.channels.iter().for_each(Channel::close);
        while self.closed < self.channels.len() {
            match self.notes.recv().await {
                Some(Note::ChannelClosed) => self.closed += 1,
                Some(Note::ConnectionFailed | Note::Closed) | None => return,
                Some(_) => {}
            }
        }
    }
}

async fn at(clock: Clock, time: Option<Duration>) {
    match time {
        Some(time) => clock.sleep_until(time).await,
        None => std::future::pending().await,
    }
}
