//! Real WebRTC whose links can be cut at any moment, as a network does it.

use std::sync::Arc;

use sealwire::transport::{
    Link, LinkEvent, LinkOptions, LinkPort, LinkRequest, LinkRole, Transport, TransportError,
    WebRtcTransport,
};
use tokio::sync::watch;

/// A transport of links that can be cut together. Clones cut the same links.
#[derive(Debug, Clone)]
pub(crate) struct Cutting {
    stack: WebRtcTransport,
    cuts: Arc<watch::Sender<u64>>,
    silences: Arc<watch::Sender<u64>>,
}

impl Cutting {
    pub(crate) fn new() -> Self {
        Self {
            stack: WebRtcTransport::new(),
            cuts: Arc::default(),
            silences: Arc::default(),
        }
    }

    /// Ends every link that is there now: this side is told that the path is gone, and the peer's stack that the
    /// connection is.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// From now on nothing passes any link that is there now, and neither side is told.
    #[allow(dead_code, reason = "the bench only cuts")]
    pub(crate) fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }
}

impl Transport for Cutting {
    fn open(&self, options: LinkOptions, role: LinkRole) -> Result<Link, TransportError> {
        let (link, port) = Link::pair(options.buffer);
        let inner = self.stack.open(options, role)?;
        let signals = (self.cuts.subscribe(), self.silences.subscribe());
        tokio::spawn(carry(inner, port, signals));
        Ok(link)
    }
}

/// Passes everything on until the link ends or is cut.
async fn carry(
    mut inner: Link,
    mut port: LinkPort,
    (mut cuts, mut silences): (watch::Receiver<u64>, watch::Receiver<u64>),
) {
    let events = port.events();
    let mut unsent = 0;
    loop {
        tokio::select! {
            // The transport may be gone, which cuts nothing.
            Ok(()) = cuts.changed() => {
                return events.tell(LinkEvent::Closed(Err(TransportError::NoPath)));
            }
            Ok(()) = silences.changed() => return events.dropped().await,
            () = events.dropped() => return,
            Some(request) = port.next() => match request {
                LinkRequest::Answer(sdp) => inner.set_answer(sdp),
                LinkRequest::Candidate(candidate) => inner.add_candidate(candidate),
                LinkRequest::Frame { channel, frame } => {
                    unsent += frame.len();
                    inner.send(channel, frame);
                }
                LinkRequest::Close => inner.close(),
                _ => {}
            },
            () = inner.writable(), if unsent > 0 => port.sent(std::mem::take(&mut unsent)),
            Some(event) = inner.next() => match event {
                LinkEvent::Frame { channel, frame } => {
                    let _ = events.frame(channel, frame).await;
                }
                LinkEvent::Closed(ended) => return events.tell(LinkEvent::Closed(ended)),
                event => events.tell(event),
            },
        }
    }
}
