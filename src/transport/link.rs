//! One peer connection, as two halves of a pipe: the session holds the [`Link`], the stack behind it the [`LinkPort`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::{
    Notify,
    mpsc::{self, error::TryRecvError},
};

use super::TransportError;

/// Bytes of frames that may wait for the session before the stack is made to wait. It must not happen in ordinary
/// operation: the `webrtc` stack answers a slow reader by dropping what exceeds its window, and resumes after a second.
const INCOMING: usize = 8 << 20;

/// What a waiting frame costs beside its bytes.
const FRAME_COST: usize = 128;

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

/// Bytes beyond the limit that may wait: a frame of each channel, and control frames for as long as a peer may take to
/// read again.
const MAX_BEYOND: usize = 4 << 20;

/// The session's half. Dropping it closes the connection at once and frees its sockets.
#[derive(Debug)]
pub struct Link {
    requests: mpsc::UnboundedSender<LinkRequest>,
    events: mpsc::UnboundedReceiver<LinkEvent>,
    ended: bool,
    outgoing: Arc<Gauge>,
    incoming: Arc<Gauge>,
}

/// The stack's half, for implementations of [`Transport`](super::Transport). Dropping it ends the link: where no
/// [`LinkEvent::Closed`] was sent, the session is told that the connection failed.
#[derive(Debug)]
pub struct LinkPort {
    requests: mpsc::UnboundedReceiver<LinkRequest>,
    events: EventSender,
    outgoing: Arc<Gauge>,
}

/// Where the tasks of a stack report what happens. From [`LinkPort::events`].
#[derive(Debug, Clone)]
pub struct EventSender {
    events: mpsc::UnboundedSender<LinkEvent>,
    incoming: Arc<Gauge>,
}

/// Where the tasks of a stack report the frames that they took. From [`LinkPort::progress`].
#[derive(Debug, Clone)]
pub struct Progress {
    outgoing: Arc<Gauge>,
}

/// The session dropped its [`Link`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link was dropped")]
pub struct LinkDropped;

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The session dropped its [`Link`].
    #[error("the link was dropped")]
    Dropped,
    /// More is unread than may wait.
    #[error("more than 8 MiB of frames are unread")]
    Full,
}

/// Bytes that wait in one direction.
#[derive(Debug)]
struct Gauge {
    bytes: AtomicUsize,
    high: usize,
    drained: Notify,
}

impl Link {
    /// Both halves; `high` is the number of unsent bytes from which [`Link::is_writable`] is false.
    #[must_use]
    pub fn pair(high: usize) -> (Self, LinkPort) {
        let (request_tx, requests) = mpsc::unbounded_channel();
        let (event_tx, events) = mpsc::unbounded_channel();
        let (outgoing, incoming) = (Gauge::new(high), Gauge::new(INCOMING));
        let sender = EventSender {
            events: event_tx,
            incoming: Arc::clone(&incoming),
        };
        let link = Self {
            requests: request_tx,
            events,
            ended: false,
            outgoing: Arc::clone(&outgoing),
            incoming,
        };
        (
            link,
            LinkPort {
                requests,
                events: sender,
                outgoing,
            },
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
        self.outgoing.add(frame.len());
        self.request(LinkRequest::Frame { channel, frame });
    }

    /// Sends what is queued, then closes; [`LinkEvent::Closed`] follows.
    pub fn close(&self) {
        self.request(LinkRequest::Close);
    }

    /// Bytes queued and not yet taken by the stack.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.outgoing.bytes()
    }

    /// Bytes that may still be queued before the limit.
    #[must_use]
    pub fn writable_bytes(&self) -> usize {
        self.outgoing.high.saturating_sub(self.buffered())
    }

    /// Whether so much waits beyond the limit that the peer takes nothing: only control frames go beyond it, and few of
    /// them are ever on their way to a peer that reads.
    #[must_use]
    pub fn is_stuffed(&self) -> bool {
        self.buffered() > self.outgoing.high.saturating_add(MAX_BEYOND)
    }

    /// Whether fewer bytes wait than the limit.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.writable_bytes() > 0
    }

    /// The next event; `None` after [`LinkEvent::Closed`], which always comes. Events that are there already come
    /// without a pause for other tasks. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        if let Some(event) = self.try_next() {
            return Some(event);
        }
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.take(event.unwrap_or_else(abandoned)))
    }

    /// [`Link::next`] for a caller that polls several links.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(cx));
        Poll::Ready(Some(self.take(event.unwrap_or_else(abandoned))))
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<LinkEvent> {
        if self.ended {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.take(event)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.take(abandoned())),
        }
    }

    /// Waits until [`Link::is_writable`], and if it is not, until half of the limit is free. The future does not borrow
    /// the link, so that [`Link::next`] can be waited for beside it. Cancel-safe.
    pub fn writable(&self) -> impl Future<Output = ()> + Send + use<> {
        let outgoing = Arc::clone(&self.outgoing);
        async move { outgoing.has_room().await }
    }

    fn take(&mut self, event: LinkEvent) -> LinkEvent {
        match &event {
            LinkEvent::Frame { frame, .. } => self.incoming.release(frame.len() + FRAME_COST),
            LinkEvent::Closed(_) => self.ended = true,
            LinkEvent::Described { .. }
            | LinkEvent::Candidate(_)
            | LinkEvent::Open { .. }
            | LinkEvent::Foreign(_) => {}
        }
        event
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
        self.outgoing.release(bytes);
    }

    /// [`LinkPort::sent`] for other tasks.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            outgoing: Arc::clone(&self.outgoing),
        }
    }

    /// The sender of events, for all tasks of the stack.
    #[must_use]
    pub fn events(&self) -> EventSender {
        self.events.clone()
    }
}

impl EventSender {
    /// Reports anything but a frame, which happens a few times on a link. It never waits.
    pub fn tell(&self, event: LinkEvent) {
        // Nobody is there to be told once the link was dropped.
        let _ = self.events.send(event);
    }

    /// Reports a frame. It waits while too much is unread, which is what slows a fast peer down.
    ///
    /// # Errors
    /// When the session dropped the link.
    ///
    /// # Cancel safety
    /// The frame is lost when the future is dropped.
    pub async fn frame(&self, channel: u8, frame: Bytes) -> Result<(), LinkDropped> {
        if !self.incoming.is_below() {
            tokio::select! {
                () = self.incoming.has_room() => {}
                () = self.dropped() => return Err(LinkDropped),
            }
        }
        self.incoming.add(frame.len() + FRAME_COST);
        self.events
            .send(LinkEvent::Frame { channel, frame })
            .map_err(|_| LinkDropped)
    }

    /// [`EventSender::frame`] for stacks that cannot be made to wait: what they do not wait for is to end the link.
    ///
    /// # Errors
    /// When the session dropped the link, or too much is unread.
    pub fn try_frame(&self, channel: u8, frame: Bytes) -> Result<(), NotTaken> {
        if !self.incoming.is_below() {
            return Err(NotTaken::Full);
        }
        self.incoming.add(frame.len() + FRAME_COST);
        self.events
            .send(LinkEvent::Frame { channel, frame })
            .map_err(|_| NotTaken::Dropped)
    }

    /// Waits until the session drops the link. Cancel-safe.
    pub async fn dropped(&self) {
        self.events.closed().await;
    }
}

impl Progress {
    /// A frame of `bytes` bytes is in the stack's hands.
    pub fn sent(&self, bytes: usize) {
        self.outgoing.release(bytes);
    }
}

impl Gauge {
    fn new(high: usize) -> Arc<Self> {
        Arc::new(Self {
            bytes: AtomicUsize::new(0),
            high,
            drained: Notify::new(),
        })
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn is_below(&self) -> bool {
        self.bytes() < self.high
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Wakes who waits only at half of the limit: room for one frame at a time would cost a round of all tasks for each,
    /// and the stack a packet for each.
    fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let low = self.high.div_ceil(2);
        if before >= low && before.saturating_sub(bytes) < low {
            self.drained.notify_waiters();
        }
    }

    async fn has_room(&self) {
        loop {
            // Made before the look, so that a release in between is not missed.
            let drained = self.drained.notified();
            if self.is_below() {
                return;
            }
            drained.await;
        }
    }
}

/// What a session is told when the stack went away without a word: its task was aborted, or it has a bug.
fn abandoned() -> LinkEvent {
    LinkEvent::Closed(Err(TransportError::Failed(
        "the transport stopped".to_owned(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn closed_comes_exactly_once_whatever_the_stack_does() {
        let (mut link, port) = Link::pair(1);
        drop(port);
        assert!(matches!(link.try_next(), Some(LinkEvent::Closed(Err(_)))));
        assert_eq!(link.next().await, None);

        let (mut link, port) = Link::pair(1);
        for _ in 0..2 {
            port.events().tell(LinkEvent::Closed(Ok(())));
        }
        drop(port);
        assert_eq!(link.next().await, Some(LinkEvent::Closed(Ok(()))));
        assert_eq!((link.try_next(), link.next().await), (None, None));
    }

    #[test]
    fn a_link_whose_peer_takes_nothing_is_stuffed_in_the_end() {
        let (link, port) = Link::pair(1 << 20);
        link.send(1, vec![0; 2 << 20]);
        assert!(!link.is_writable() && !link.is_stuffed());
        link.send(0, vec![0; 3 << 20]);
        assert!(!link.is_stuffed());
        link.send(0, vec![0; 57]);
        assert!(link.is_stuffed());
        port.progress().sent(57);
        assert!(!link.is_stuffed());
    }

    #[tokio::test]
    async fn a_link_is_writable_again_when_half_was_taken() {
        let (link, mut port) = Link::pair(10);
        link.send(0, vec![0; 8]);
        assert_eq!(link.writable_bytes(), 2);
        link.send(0, vec![0; 4]);
        assert!(!link.is_writable());
        let mut writable = std::pin::pin!(link.writable());
        let mut is_writable = async || {
            tokio::select! {
                biased;
                () = &mut writable => true,
                () = tokio::task::yield_now() => false,
            }
        };
        assert!(!is_writable().await);
        for (taken, expected) in [(3, false), (4, false), (1, true)] {
            port.progress().sent(taken);
            assert_eq!(is_writable().await, expected, "after {taken}");
        }
        assert!(matches!(port.try_next(), Some(LinkRequest::Frame { .. })));
        assert_eq!(link.buffered(), 4);
    }

    #[test]
    fn a_stack_that_cannot_wait_is_told_when_too_much_is_unread() {
        let (mut link, port) = Link::pair(1);
        let feed = || port.events().try_frame(0, Bytes::from(vec![0; 65_536]));
        let fed = std::iter::repeat_with(feed)
            .take_while(Result::is_ok)
            .count();
        assert_eq!(fed, INCOMING.div_ceil(65_536 + FRAME_COST));
        assert_eq!(feed(), Err(NotTaken::Full));
        assert!(link.try_next().is_some());
        assert_eq!(feed(), Ok(()));
        while link.try_next().is_some() {}
        drop(link);
        assert_eq!(feed(), Err(NotTaken::Dropped));
    }

    #[tokio::test]
    async fn a_stack_waits_while_too_much_is_unread_and_until_the_link_is_dropped() {
        let (mut link, port) = Link::pair(1);
        let events = port.events();
        let frame = Bytes::from(vec![0; 65_536]);
        let feeder = tokio::spawn(async move {
            let mut fed = 0;
            while events.frame(0, frame.clone()).await.is_ok() {
                fed += 1;
            }
            fed
        });
        let mut taken = 0;
        while link.incoming.is_below() {
            tokio::task::yield_now().await;
        }
        while link.try_next().is_some() {
            taken += 1;
        }
        assert_eq!(taken, INCOMING.div_ceil(65_536 + FRAME_COST));
        assert!(link.next().await.is_some());
        drop(link);
        assert!(feeder.await.unwrap() > taken);
    }
}
