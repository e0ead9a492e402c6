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

/// Events that may wait for the session before the stack is made to wait: 8 MiB of the largest frames.
const EVENTS: usize = 128;

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
    ended: bool,
    buffered: Arc<Buffered>,
}

/// The stack's half, for implementations of [`Transport`](super::Transport). Dropping it ends the link: where no
/// [`LinkEvent::Closed`] was sent, the session is told that the connection failed.
#[derive(Debug)]
pub struct LinkPort {
    requests: mpsc::UnboundedReceiver<LinkRequest>,
    events: mpsc::Sender<LinkEvent>,
    buffered: Arc<Buffered>,
}

/// Where tasks of the stack report the frames that they took. From [`LinkPort::progress`].
#[derive(Debug, Clone)]
pub struct Progress {
    buffered: Arc<Buffered>,
}

impl Link {
    /// Both halves; `high` is the number of unsent bytes from which [`Link::is_writable`] is false.
    #[must_use]
    pub fn pair(high: usize) -> (Self, LinkPort) {
        let (request_tx, request_rx) = mpsc::unbounded_channel();
        let (event_tx, event_rx) = mpsc::channel(EVENTS);
        let buffered = Arc::new(Buffered {
            bytes: AtomicUsize::new(0),
            high,
            drained: Notify::new(),
        });
        (
            Self {
                requests: request_tx,
                events: event_rx,
                ended: false,
                buffered: Arc::clone(&buffered),
            },
            LinkPort {
                requests: request_rx,
                events: event_tx,
                buffered,
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
        self.buffered
            .bytes
            .fetch_add(frame.len(), Ordering::Relaxed);
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

    /// The next event; `None` after [`LinkEvent::Closed`], which always comes. Cancel-safe.
    pub async fn next(&mut self) -> Option<LinkEvent> {
        if self.ended {
            return None;
        }
        let event = self.events.recv().await;
        Some(self.note_end(event.unwrap_or_else(abandoned)))
    }

    /// [`Link::next`] for a caller that polls several links.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(cx));
        Poll::Ready(Some(self.note_end(event.unwrap_or_else(abandoned))))
    }

    /// An event that is there already.
    pub fn try_next(&mut self) -> Option<LinkEvent> {
        if self.ended {
            return None;
        }
        match self.events.try_recv() {
            Ok(event) => Some(self.note_end(event)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(self.note_end(abandoned())),
        }
    }

    /// Waits until [`Link::is_writable`]. The future does not borrow the link, so that [`Link::next`] can be waited for
    /// beside it. Cancel-safe.
    pub fn writable(&self) -> impl Future<Output = ()> + Send + use<> {
        let buffered = Arc::clone(&self.buffered);
        async move {
            loop {
                let drained = buffered.drained.notified();
                if buffered.bytes.load(Ordering::Relaxed) < buffered.high {
                    return;
                }
                drained.await;
            }
        }
    }

    fn note_end(&mut self, event: LinkEvent) -> LinkEvent {
        self.ended = matches!(event, LinkEvent::Closed(_));
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
        self.buffered.release(bytes);
    }

    /// [`LinkPort::sent`] for other tasks.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress {
            buffered: Arc::clone(&self.buffered),
        }
    }

    /// The sender of events, for the tasks of the stack: waiting on it is what slows a fast peer down, and
    /// [`Sender::closed`](mpsc::Sender::closed) tells that the session dropped the link.
    #[must_use]
    pub fn events(&self) -> mpsc::Sender<LinkEvent> {
        self.events.clone()
    }
}

impl Progress {
    /// A frame of `bytes` bytes is in the stack's hands.
    pub fn sent(&self, bytes: usize) {
        self.buffered.release(bytes);
    }
}

impl Buffered {
    fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before.saturating_sub(bytes) < self.high {
            self.drained.notify_waiters();
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
            port.events().try_send(LinkEvent::Closed(Ok(()))).unwrap();
        }
        drop(port);
        assert_eq!(link.next().await, Some(LinkEvent::Closed(Ok(()))));
        assert_eq!((link.try_next(), link.next().await), (None, None));
    }

    #[tokio::test]
    async fn a_link_is_writable_again_when_enough_was_taken() {
        let (link, mut port) = Link::pair(10);
        link.send(0, vec![0; 8]);
        assert_eq!(link.writable_bytes(), 2);
        link.send(0, vec![0; 8]);
        assert!(!link.is_writable());
        let writable = tokio::spawn(async move {
            link.writable().await;
            link
        });
        while let Some(LinkRequest::Frame { frame, .. }) = port.try_next() {
            port.progress().sent(frame.len());
        }
        assert_eq!(writable.await.unwrap().buffered(), 0);
    }
}
