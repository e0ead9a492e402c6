//! Links within one process, for tests: everything of a transport except the network.
//!
//! The descriptions have the shape of real ones. The `ice-pwd` of an offer finds the offerer, as real ICE would by
//! address; the fingerprint that [`LinkEvent::Open`] reports is the one that the other link really made, whatever the
//! description said on its way. Delivery is ordered and reliable on every channel.

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
};

use super::{
    EventSender, Link, LinkEvent, LinkOptions, LinkPort, LinkRequest, LinkRole, Transport,
    TransportError,
};

/// Frames on their way; a sender waits beyond that.
const IN_FLIGHT: usize = 64;

/// Offerers that wait for an answer, by the secret in their offer.
static WAITING: LazyLock<Mutex<HashMap<String, Waiting>>> = LazyLock::new(Mutex::default);

/// Links within one process. Any two of them connect, whichever value made them.
#[derive(Debug, Clone)]
pub struct MemoryTransport {
    cuts: Arc<watch::Sender<u64>>,
}

impl MemoryTransport {
    /// A transport whose links can be [cut](Self::cut) together.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cuts: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Breaks every link that this transport or a clone of it made until now: both of its ends see
    /// [`TransportError::NoPath`].
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for MemoryTransport {
    fn open(&self, options: LinkOptions, role: LinkRole) -> Result<Link, TransportError> {
        let runtime = Handle::try_current()
            .map_err(|_| TransportError::Setup("there is no tokio runtime here".to_owned()))?;
        let (link, port) = Link::pair(options.buffer);
        // The task keeps the sender alive: a dropped transport cuts nothing.
        let cutter = Arc::clone(&self.cuts);
        let mut cuts = cutter.subscribe();
        runtime.spawn(async move {
            let _cutter = cutter;
            let events = port.events();
            let ended = tokio::select! {
                () = events.dropped() => return,
                _ = cuts.changed() => Err(TransportError::NoPath),
                ended = run(role, port) => ended,
            };
            events.tell(LinkEvent::Closed(ended));
        });
        Ok(link)
    }
}

/// What identifies one end.
#[derive(Debug, Clone)]
struct Name {
    secret: String,
    fingerprint: [u8; 32],
}

/// One end's half of the wire.
#[derive(Debug)]
struct Wire {
    outgoing: mpsc::Sender<Parcel>,
    incoming: mpsc::Receiver<Parcel>,
}

#[derive(Debug)]
enum Parcel {
    Frame(u8, Bytes),
    /// Said before a link closes; a wire that ends without it was cut.
    Goodbye,
}

/// What an offerer leaves for whoever answers.
#[derive(Debug)]
struct Waiting {
    offerer: Name,
    wire: Wire,
    answerer: oneshot::Sender<Name>,
    answered: oneshot::Receiver<()>,
}

async fn run(role: LinkRole, mut port: LinkPort) -> Result<(), TransportError> {
    let me = Name::new();
    let (peer, wire) = match role {
        LinkRole::Offerer => offer(&me, &mut port).await?,
        LinkRole::Answerer { offer } => answer(&me, &offer, &port).await?,
    };
    let open = LinkEvent::Open {
        fingerprint: Some(peer.fingerprint),
        relayed: Some(false),
    };
    let events = port.events();
    events.tell(open);
    tokio::select! {
        ended = carry_out(&mut port, wire.outgoing) => ended,
        ended = carry_in(wire.incoming, &events) => ended,
    }
}

async fn offer(me: &Name, port: &mut LinkPort) -> Result<(Name, Wire), TransportError> {
    let (to_answerer, at_answerer) = mpsc::channel(IN_FLIGHT);
    let (to_offerer, at_offerer) = mpsc::channel(IN_FLIGHT);
    let (answerer, mut answering) = oneshot::channel();
    let (go, answered) = oneshot::channel();
    let wire = Wire {
        outgoing: to_offerer,
        incoming: at_answerer,
    };
    let waiting = Waiting {
        offerer: me.clone(),
        wire,
        answerer,
        answered,
    };
    waiting_offerers().insert(me.secret.clone(), waiting);
    let _removed = RemoveOnDrop(&me.secret);

    describe(me, "actpass", port);
    let answer = loop {
        match port.next().await {
            Some(LinkRequest::Answer(answer)) => break answer,
            Some(LinkRequest::Close) | None => return Err(TransportError::NoPath),
            Some(LinkRequest::Candidate(_) | LinkRequest::Frame { .. }) => {}
        }
    };
    let peer: Name = answering.try_recv().map_err(|_| TransportError::NoPath)?;
    if secret(&answer) != Some(&peer.secret) || go.send(()).is_err() {
        return Err(TransportError::NoPath);
    }
    Ok((
        peer,
        Wire {
            outgoing: to_answerer,
            incoming: at_offerer,
        },
    ))
}

async fn answer(me: &Name, offer: &str, port: &LinkPort) -> Result<(Name, Wire), TransportError> {
    let waiting = secret(offer).and_then(|secret| waiting_offerers().remove(secret));
    let Some(Waiting {
        offerer,
        wire,
        answerer,
        answered,
    }) = waiting
    else {
        return Err(TransportError::Description(
            "nobody made this offer".to_owned(),
        ));
    };
    let _ = answerer.send(me.clone());
    describe(me, "active", port);
    answered.await.map_err(|_| TransportError::NoPath)?;
    Ok((offerer, wire))
}

fn describe(me: &Name, setup: &str, port: &LinkPort) {
    let candidates = vec!["candidate:1 1 udp 2130706431 127.0.0.1 9 typ host".to_owned()];
    port.events().tell(LinkEvent::Described {
        sdp: me.description(setup),
        candidates,
    });
}

async fn carry_out(port: &mut LinkPort, wire: mpsc::Sender<Parcel>) -> Result<(), TransportError> {
    while let Some(request) = port.next().await {
        match request {
            LinkRequest::Frame { channel, frame } => {
                let length = frame.len();
                let parcel = Parcel::Frame(channel, frame.into());
                if wire.send(parcel).await.is_err() {
                    // The peer is gone; what it said before is still to be read.
                    std::future::pending::<()>().await;
                }
                port.sent(length);
            }
            LinkRequest::Close => {
                let _ = wire.send(Parcel::Goodbye).await;
                return Ok(());
            }
            LinkRequest::Answer(_) | LinkRequest::Candidate(_) => {}
        }
    }
    Ok(())
}

async fn carry_in(
    mut wire: mpsc::Receiver<Parcel>,
    events: &EventSender,
) -> Result<(), TransportError> {
    while let Some(parcel) = wire.recv().await {
        match parcel {
            Parcel::Frame(channel, frame) => {
                let _ = events.frame(channel, frame).await;
            }
            Parcel::Goodbye => return Ok(()),
        }
    }
    Err(TransportError::NoPath)
}

impl Name {
    /// Unlike any other of this process.
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let fingerprint: [u8; 32] = Sha256::digest(count.to_be_bytes()).into();
        Self {
            secret: format!("memory{count:020}"),
            fingerprint,
        }
    }

    fn description(&self, setup: &str) -> String {
        let pairs: Vec<String> = self
            .fingerprint
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        format!(
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
             a=sctp-port:5000\r\na=max-message-size:65536\r\na=setup:{setup}\r\n\
             a=ice-ufrag:memory\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\n",
            self.secret,
            pairs.join(":"),
        )
    }
}

fn secret(description: &str) -> Option<&str> {
    description
        .lines()
        .find_map(|line| line.strip_prefix("a=ice-pwd:"))
}

fn waiting_offerers() -> MutexGuard<'static, HashMap<String, Waiting>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An offerer that stops waiting leaves nothing behind.
struct RemoveOnDrop<'a>(&'a str);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        waiting_offerers().remove(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sdp::{self, SdpKind};

    fn open(transport: &MemoryTransport, role: LinkRole) -> Link {
        transport.open(LinkOptions::default(), role).unwrap()
    }

    async fn described(link: &mut Link) -> String {
        match link.next().await {
            Some(LinkEvent::Described { sdp, .. }) => sdp,
            other => panic!("{other:?}"),
        }
    }

    async fn fingerprint(link: &mut Link) -> [u8; 32] {
        match link.next().await {
            Some(LinkEvent::Open { fingerprint, .. }) => fingerprint.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn connect(transport: &MemoryTransport) -> (Link, Link) {
        let mut offerer = open(transport, LinkRole::Offerer);
        let offer = described(&mut offerer).await;
        let offered = sdp::parse(&offer, SdpKind::Offer).unwrap();
        let mut answerer = open(transport, LinkRole::Answerer { offer });
        let answer = described(&mut answerer).await;
        let answered = sdp::parse(&answer, SdpKind::Answer).unwrap();
        offerer.set_answer(answer);
        assert_eq!(fingerprint(&mut offerer).await, answered.fingerprint);
        assert_eq!(fingerprint(&mut answerer).await, offered.fingerprint);
        assert_ne!(offered.fingerprint, answered.fingerprint);
        (offerer, answerer)
    }

    #[tokio::test]
    async fn frames_arrive_in_order_and_closing_loses_none() {
        let (mut offerer, mut answerer) = connect(&MemoryTransport::new()).await;
        for index in 0..1_000_u32 {
            offerer.send((index % 3) as u8, index.to_be_bytes().to_vec());
        }
        offerer.close();
        for index in 0..1_000_u32 {
            let frame = Bytes::copy_from_slice(&index.to_be_bytes());
            let expected = LinkEvent::Frame {
                channel: (index % 3) as u8,
                frame,
            };
            assert_eq!(answerer.next().await, Some(expected));
        }
        assert_eq!(answerer.next().await, Some(LinkEvent::Closed(Ok(()))));
        assert_eq!(offerer.next().await, Some(LinkEvent::Closed(Ok(()))));
        assert_eq!((answerer.next().await, offerer.buffered()), (None, 0));
    }

    #[tokio::test]
    async fn an_end_that_does_not_read_makes_the_other_wait() {
        let (offerer, answerer) = connect(&MemoryTransport::new()).await;
        let mut sent = 0;
        loop {
            tokio::select! {
                biased;
                () = offerer.writable() => offerer.send(0, vec![0; 65_536]),
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => break,
            }
            sent += 1;
            assert!(sent < 10_000, "nothing stops the sender");
        }
        drop(answerer);
    }

    #[tokio::test]
    async fn cut_links_end_on_both_sides() {
        let transport = MemoryTransport::new();
        let (mut offerer, mut answerer) = connect(&transport).await;
        transport.cut();
        let lost = Some(LinkEvent::Closed(Err(TransportError::NoPath)));
        assert_eq!(
            (offerer.next().await, answerer.next().await),
            (lost.clone(), lost)
        );
        connect(&transport).await;
    }

    #[tokio::test]
    async fn a_dropped_or_unanswered_end_leaves_nothing_behind() {
        let transport = MemoryTransport::new();
        let (offerer, mut answerer) = connect(&transport).await;
        drop(offerer);
        assert!(matches!(answerer.next().await, Some(LinkEvent::Closed(_))));

        let mut alone = open(&transport, LinkRole::Offerer);
        let offer = described(&mut alone).await;
        drop(alone);
        while waiting_offerers().contains_key(secret(&offer).unwrap()) {
            tokio::task::yield_now().await;
        }
        let mut late = open(&transport, LinkRole::Answerer { offer });
        let refused = late.next().await;
        assert!(matches!(
            refused,
            Some(LinkEvent::Closed(Err(TransportError::Description(_))))
        ));
    }

    #[tokio::test]
    async fn an_answer_of_somebody_else_leads_nowhere() {
        let transport = MemoryTransport::new();
        let mut offerer = open(&transport, LinkRole::Offerer);
        let offer = described(&mut offerer).await;
        let mut answerer = open(
            &transport,
            LinkRole::Answerer {
                offer: offer.clone(),
            },
        );
        described(&mut answerer).await;
        offerer.set_answer(offer);
        assert_eq!(
            offerer.next().await,
            Some(LinkEvent::Closed(Err(TransportError::NoPath)))
        );
        assert_eq!(
            answerer.next().await,
            Some(LinkEvent::Closed(Err(TransportError::NoPath)))
        );
    }
}
