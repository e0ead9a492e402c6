//! One peer connection, as two halves of a pipe: the session holds the [`Link`], the stack behind it the [`LinkPort`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::TransportError;

/// Events that may wait for the session before the stack is made to wait.
const EVENTS: usize = 512;

/// What happens on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// The local description is made, and what was gathered within the time given.
    Described {
        /// The session description, without candidate lines.
        sdp: String,
        /// `candidate:...` lines.
        candidates: Vec<String>,
    },
    /// A candidate found later.
    Candidate(String),
    /// Every channel is open.
    Open {
        /// SHA-256 of the certificate (DER) that the peer showed in DTLS; `None` where the stack does not tell.
        fingerprint: Option<[u8; 32]>,
        /// Whether the path runs through a TURN server; `None` where the stack does not tell.
        relayed: Option<bool>,
    },
    /// A binary message on a channel.
    Frame {
        /// The channel.
        channel: u8,
        /// The message.
        frame: Bytes,
    },
    /// Something that no honest peer does: a text message, a channel of its own, a media section.
    Foreign(&'static str),
    /// The link ended: the last event. `Ok` after a close by either side, `Err` when it was lost.
    Closed(Result<(), TransportError>),
}

/// What the session asks of the stack.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkRequest {
    /// The peer's answer, for an offerer.
    Answer(String),
    /// A candidate of the peer, `candidate:...`; those that come before the description are kept by the stack.
    Candidate(String),
    /// A frame to send. Counted in [`Link::buffered`] until [`LinkPort::sent`].
    Frame {
        /// The channel.
        channel: u8,
        /// The bytes.
        frame: Vec<u8>,
    },
    /// Send what is queued, wait until the peer's stack acknowledged it (at most 2 s), then close.
    Close,
}

#[derive(Debug)]
struct Buffered {
    bytes: AtomicUsize,
    high: usize,
    drained: Notify,
}

/// The session's half. Dropping it closes the connection at once and frees its sockets.
#[derive(Debug)]
pub struct Link {
    requests: mpsc::UnboundedSender<LinkRequest>,
    events: mpsc::Receiver<LinkEvent>,
    buffered: Arc<Buffered>,
}

/// Waits for room on a link.
#[derive(Debug, Clone)]
pub struct Writability(Arc<Buffered>);

impl Writability {
    /// Waits until fewer bytes wait than the limit. Cancel-safe.
    pub async fn wait(&self) {
        loop {
            let drained = self.0.drained.notified();
            if self.0.bytes.load(Ordering::Relaxed) < self.0.high {
                return;
            }
            drained.await;
        }
    }
}

/// The stack's half, for implementations of [`Transport`](super::Transport).
#[derive(Debug)]
pub struct LinkPort {
    requests: mpsc::UnboundedReceiver<LinkRequest>,
    events: mpsc::Sender<LinkEvent>,
    buffered: Arc<Buffered>,
}

impl Link {
    /// Both halves; `high` is the number of unsent bytes from which [`Link::is_writable`] is false.
    #[must_use]
    pub fn pair(high: usize) -> (Self, LinkPort) {
        let (request_tx, request_rx) = mpsc::unbounded_channel();
        let (event_tx, event_rx) = mpsc::channel(EVENTS);
        let buffered = Arc::new(Buffered { bytes: AtomicUsize::new(0), high, drained: Notify::new() });
        (
            Self { requests: request_tx, events: event_rx, buffered: Arc::clone(&buffered) },
            LinkPort { requests: request_rx, events: event_tx, buffered },
        )
    }

    /// Gives an offerer the peer's answer.
    pub fn set_answer(&self, sdp: String) {
        self.request(LinkRequest::Answer(sdp));
    }

    /// Gives the stack a candidate of the peer.
    pub fn add_candidate(&self, candidate: String) {
        self.request(LinkRequest::Candidate(candidate));
    }

    /// Queues a frame. It never waits: look at [`Link::is_writable`] first, except for control frames.
    pub fn send(&self, channel: u8, frame: Vec<u8>) {
        self.buffered.bytes.fetch_add(frame.len(), Ordering::Relaxed);
        self.request(LinkRequest::Frame { channel, frame });
    }

    /// Sends what is queued, then closes; [`LinkEvent::Closed`] follows.
    pub fn close(&self) {
        self.request(LinkRequest::Close);
    }

    /// Bytes queued and not yet taken by the stack.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffered.bytes.load(Ordering::Relaxed)
    }

    /// Bytes that may still be queued before the limit.
    #[must_use]
    pub fn writable_bytes(&self) -> usize {
        self.buffered.high.saturating_sub(self.buffered())
    }

    /// Whether fewer bytes wait than the limit.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable_bytes() > 0
    }

    /// The next event; `None` after the last. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }

    /// [`Link::next`] for a caller that polls several links.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        self.events.poll_recv(cx)
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<LinkEvent> {
        self.events.try_recv().ok()
    }

    /// A handle that waits until [`Link::is_writable`], without borrowing the link.
    #[must_use]
    pub fn writability(&self) -> Writability {
        Writability(Arc::clone(&self.buffered))
    }

    fn request(&self, request: LinkRequest) {
        // A stack that ended says so by its last event; requests after that lead nowhere.
        let _ = self.requests.send(request);
    }
}

impl LinkPort {
    /// The next request; `None` when the session dropped the link. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkRequest> {
        self.requests.recv().await
    }

    /// A request that is there already.
    pub fn try_next(&mut self) -> Option<LinkRequest> {
        self.requests.try_recv().ok()
    }

    /// A frame of `bytes` bytes is in the stack's hands.
    pub fn sent(&self, bytes: usize) {
        self.buffered.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.buffered.bytes.load(Ordering::Relaxed) < self.buffered.high {
            self.buffered.drained.notify_waiters();
        }
    }

    /// The sender of events, for the tasks of the stack: waiting on it is what slows a fast peer down.
    #[must_use]
    pub fn events(&self) -> mpsc::Sender<LinkEvent> {
        self.events.clone()
    }
}
