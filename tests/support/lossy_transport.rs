//! Real WebRTC whose datagrams pass a [`LossyRelay`](super::lossy_relay), and whose links can be cut. For tests and
//! benches, included by `#[path]` beside the relay.

use std::sync::Arc;

use sealwire::transport::{
    Link, LinkEvent, LinkOptions, LinkPort, LinkRequest, LinkRole, Transport, TransportError,
    WebRtcTransport,
};
use tokio::sync::watch;

use super::lossy_relay::{LossyRelay, Side};

/// One peer's transport. Clones share their links' fate.
#[derive(Debug, Clone)]
pub struct LossyTransport {
    relay: Arc<LossyRelay>,
    side: Side,
    cuts: Arc<watch::Sender<u64>>,
}

impl LossyTransport {
    /// The transport of `side`. One session at a time: of two links of one side the later one gets the datagrams.
    pub fn new(relay: Arc<LossyRelay>, side: Side) -> Self {
        Self {
            relay,
            side,
            cuts: Arc::default(),
        }
    }

    /// Ends every link that is there now: this side is told that the path is gone, and the peer's stack that the
    /// connection is.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Transport for LossyTransport {
    fn open(&self, options: LinkOptions, role: LinkRole) -> Result<Link, TransportError> {
        let (link, port) = Link::pair(options.buffer);
        let inner = WebRtcTransport::new().open(options, role)?;
        tokio::spawn(self.clone().carry(inner, port, self.cuts.subscribe()));
        Ok(link)
    }
}

impl LossyTransport {
    /// Passes everything on until the link ends or is cut.
    async fn carry(self, mut inner: Link, mut port: LinkPort, mut cuts: watch::Receiver<u64>) {
        let events = port.events();
        let mut unsent = 0;
        loop {
            tokio::select! {
                // The transport may be gone, which cuts nothing.
                Ok(()) = cuts.changed() => {
                    return events.tell(LinkEvent::Closed(Err(TransportError::NoPath)));
                }
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
                    LinkEvent::Described { sdp, candidates } => {
                        let told = |candidate: String| self.relay.stand_in(self.side, &candidate);
                        let candidates = candidates.into_iter().filter_map(told).collect();
                        events.tell(LinkEvent::Described { sdp, candidates });
                    }
                    LinkEvent::Candidate(candidate) => {
                        if let Some(told) = self.relay.stand_in(self.side, &candidate) {
                            events.tell(LinkEvent::Candidate(told));
                        }
                    }
                    LinkEvent::Closed(ended) => return events.tell(LinkEvent::Closed(ended)),
                    event => events.tell(event),
                },
            }
        }
    }
}
