//! The WebRTC transport over real sockets on this machine: what a session relies on.

use std::{collections::HashSet, future::Future, net::UdpSocket, sync::Arc, time::Duration};

use bytes::Bytes;
use sealwire::{
    CandidatePolicy, IceServer,
    transport::{
        ChannelSpec, Link, LinkEvent, LinkOptions, LinkRole, Reliability, Transport,
        TransportError, WebRtcTransport,
    },
};
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    task::yield_now,
    time::timeout,
};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
        RTCIceGatheringState, RTCPeerConnectionIceEvent, RTCSessionDescription,
    },
};

/// Far beyond what anything here needs; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("the deadline passed")
}

fn reliable(id: u8) -> ChannelSpec {
    ChannelSpec {
        id,
        reliability: Reliability::Reliable,
    }
}

fn open(options: &LinkOptions, role: LinkRole) -> Link {
    WebRtcTransport::new().open(options.clone(), role).unwrap()
}

async fn described(link: &mut Link) -> (String, Vec<String>) {
    match within(link.next()).await {
        Some(LinkEvent::Described { sdp, candidates }) => (sdp, candidates),
        other => panic!("expected the description, got {other:?}"),
    }
}

fn fingerprint_line(sdp: &str) -> String {
    let line = sdp
        .lines()
        .find_map(|line| line.strip_prefix("a=fingerprint:sha-256 "));
    line.expect("a fingerprint").to_ascii_lowercase()
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// Feeds trickled candidates to the other side until this one is open, and checks who the peer is.
async fn opened(link: &mut Link, other: &Link, peer_sdp: &str) {
    loop {
        match within(link.next()).await {
            Some(LinkEvent::Candidate(candidate)) => other.add_candidate(candidate),
            Some(LinkEvent::Open {
                fingerprint,
                relayed,
            }) => {
                assert_eq!(
                    hex(fingerprint.expect("a fingerprint")),
                    fingerprint_line(peer_sdp)
                );
                assert_eq!(relayed, Some(false));
                return;
            }
            other => panic!("expected to open, got {other:?}"),
        }
    }
}

async fn connect(options: &LinkOptions) -> (Link, Link) {
    let mut offerer = open(options, LinkRole::Offerer);
    let (offer, candidates) = described(&mut offerer).await;
    let mut answerer = open(
        options,
        LinkRole::Answerer {
            offer: offer.clone(),
        },
    );
    candidates
        .into_iter()
        .for_each(|candidate| answerer.add_candidate(candidate));
    let (answer, candidates) = described(&mut answerer).await;
    // Before the answer on purpose: they must wait for it.
    candidates
        .into_iter()
        .for_each(|candidate| offerer.add_candidate(candidate));
    offerer.set_answer(answer.clone());
    // One after the other would do as well, but candidates of both must flow meanwhile.
    let (mut first, mut second) = (None, None);
    while first.is_none() || second.is_none() {
        tokio::select! {
            event = within(offerer.next()), if first.is_none() => match event {
                Some(LinkEvent::Candidate(candidate)) => answerer.add_candidate(candidate),
                Some(LinkEvent::Open { fingerprint, relayed }) => first = Some((fingerprint, relayed)),
                other => panic!("expected to open, got {other:?}"),
            },
            event = within(answerer.next()), if second.is_none() => match event {
                Some(LinkEvent::Candidate(candidate)) => offerer.add_candidate(candidate),
                Some(LinkEvent::Open { fingerprint, relayed }) => second = Some((fingerprint, relayed)),
                other => panic!("expected to open, got {other:?}"),
            },
        }
    }
    for (seen, sdp) in [(first, answer), (second, offer)] {
        let (fingerprint, relayed) = seen.unwrap();
        assert_eq!(
            hex(fingerprint.expect("a fingerprint")),
            fingerprint_line(&sdp)
        );
        assert_eq!(relayed, Some(false));
    }
    (offerer, answerer)
}

async fn frame(link: &mut Link) -> (u8, Bytes) {
    loop {
        match within(link.next()).await {
            Some(LinkEvent::Frame { channel, frame }) => return (channel, frame),
            Some(LinkEvent::Candidate(_)) => {}
            other => panic!("expected a frame, got {other:?}"),
        }
    }
}

async fn closed(link: &mut Link) -> Result<(), TransportError> {
    let closed = loop {
        match within(link.next()).await {
            Some(LinkEvent::Closed(closed)) => break closed,
            Some(_) => {}
            None => panic!("the link ended without Closed"),
        }
    };
    assert_eq!(within(link.next()).await, None, "nothing follows Closed");
    closed
}

/// Sizes from 1 byte to the maximum, in no order.
fn sizes() -> impl Iterator<Item = usize> {
    (0..500).map(|index| match index % 5 {
        0 => 65_536 - index,
        1 => 1 + index,
        2 => 16_384 + index,
        3 => 1_180 + index,
        _ => 65_536,
    })
}

/// A frame that tells its place and is different everywhere.
fn body(index: usize, size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at.wrapping_mul(31) ^ index) as u8)
        .collect()
}

///
#[tokio::test]
async fn links_connect_when_every_candidate_is_trickled() {
    let mut options = LinkOptions::default();
    options.gather = Duration::ZERO;
    let (mut offerer, mut answerer) = connect(&options).await;
    offerer.send(0, b"ping".to_vec());
    assert_eq!(frame(&mut answerer).await, (0, Bytes::from_static(b"ping")));
    answerer.send(0, b"pong".to_vec());
    assert_eq!(frame(&mut offerer).await, (0, Bytes::from_static(b"pong")));
}

#[tokio::test]
async fn five_hundred_frames_of_mixed_sizes_arrive_whole_and_in_order_both_ways() {
    let (mut offerer, mut answerer) = connect(&LinkOptions::default()).await;
    async fn exchange(link: &mut Link) {
        let mut sent = sizes().enumerate().peekable();
        let mut expected = sizes().enumerate().peekable();
        while sent.peek().is_some() || expected.peek().is_some() {
            tokio::select! {
                () = link.writable(), if sent.peek().is_some() => {
                    let (index, size) = sent.next().unwrap();
                    link.send(0, body(index, size));
                }
                event = link.next(), if expected.peek().is_some() => match event {
                    Some(LinkEvent::Frame { frame, .. }) => {
                        let (index, size) = expected.next().unwrap();
                        assert!(frame == body(index, size), "frame {index} of {size} bytes");
                    }
                    Some(LinkEvent::Candidate(_)) => {}
                    other => panic!("expected a frame, got {other:?}"),
                },
            }
        }
    }
    within(async { tokio::join!(exchange(&mut offerer), exchange(&mut answerer)) }).await;
    assert_eq!(offerer.buffered(), 0);
}

///
#[tokio::test]
async fn three_channels_are_open_at_once_and_carry_their_own_frames() {
    let lossy = ChannelSpec {
        id: 9,
        reliability: Reliability::Lossy,
    };
    let mut options = LinkOptions::default();
    options.channels = vec![reliable(0), reliable(1), lossy];
    let (offerer, mut answerer) = connect(&options).await;
    for id in [9, 1, 0] {
        offerer.send(id, vec![id; 100]);
    }
    let mut seen = HashSet::new();
    while seen.len() < 3 {
        let (channel, frame) = frame(&mut answerer).await;
        assert_eq!(frame, vec![channel; 100]);
        seen.insert(channel);
    }
    assert_eq!(seen, HashSet::from([0, 1, 9]));
}

#[tokio::test]
async fn closing_loses_nothing_that_was_sent() {
    let (mut offerer, mut answerer) = connect(&LinkOptions::default()).await;
    let receive = async {
        for index in 0..500 {
            assert!(
                frame(&mut answerer).await.1 == body(index, 4_000),
                "frame {index}"
            );
        }
        closed(&mut answerer).await
    };
    let send = async {
        (0..500).for_each(|index| offerer.send(0, body(index, 4_000)));
        offerer.close();
        closed(&mut offerer).await
    };
    assert_eq!(tokio::join!(send, receive), (Ok(()), Ok(())));
}

#[tokio::test]
async fn closing_loses_nothing_when_the_peer_reads_later() {
    let (mut offerer, mut answerer) = connect(&LinkOptions::default()).await;
    (0..500).for_each(|index| offerer.send(0, body(index, 4_000)));
    offerer.close();
    assert_eq!(closed(&mut offerer).await, Ok(()));
    for index in 0..500 {
        assert!(
            frame(&mut answerer).await.1 == body(index, 4_000),
            "frame {index}"
        );
    }
    assert_eq!(closed(&mut answerer).await, Ok(()));
}

#[tokio::test]
async fn both_ends_may_close_at_once() {
    let (mut offerer, mut answerer) = connect(&LinkOptions::default()).await;
    for link in [&offerer, &answerer] {
        link.send(0, body(0, 65_536));
        link.close();
    }
    let ends = tokio::join!(closed(&mut offerer), closed(&mut answerer));
    assert_eq!(ends, (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_link_that_is_not_open_yet_closes_at_once() {
    let mut offerer = open(&LinkOptions::default(), LinkRole::Offerer);
    described(&mut offerer).await;
    offerer.close();
    assert_eq!(closed(&mut offerer).await, Ok(()));
}

#[tokio::test]
async fn a_frame_that_the_stack_refuses_ends_the_link() {
    let (mut offerer, _answerer) = connect(&LinkOptions::default()).await;
    offerer.send(0, vec![0; 65_537]);
    assert!(matches!(
        closed(&mut offerer).await,
        Err(TransportError::Failed(_))
    ));
}

#[tokio::test]
async fn a_stun_server_that_does_not_answer_holds_nothing_up() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut options = LinkOptions::default();
    let server = format!("stun:{}", nobody.local_addr().unwrap());
    options.ice_servers = vec![IceServer::stun(server)];
    let mut link = open(&options, LinkRole::Offerer);
    let (_, candidates) = described(&mut link).await;
    assert!(!candidates.is_empty());
}

#[tokio::test]
async fn relay_only_tells_no_address_of_this_device() {
    let mut options = LinkOptions::default();
    options.candidates = CandidatePolicy::RelayOnly;
    let mut refused = open(&options, LinkRole::Offerer);
    assert!(matches!(
        closed(&mut refused).await,
        Err(TransportError::Setup(_))
    ));

    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = format!("turn:{}", nobody.local_addr().unwrap());
    options.ice_servers = vec![IceServer::turn(server, "user", "password")];
    let mut link = open(&options, LinkRole::Offerer);
    let (sdp, candidates) = described(&mut link).await;
    assert_eq!(candidates, Vec::<String>::new());
    for line in sdp.lines().filter(|line| line.contains("IN IP")) {
        assert!(line.ends_with(" 0.0.0.0"), "{line}");
    }
}

#[tokio::test]
async fn a_session_that_does_not_read_makes_the_peer_wait_and_loses_nothing() {
    const BOUND: usize = 64 << 20;
    let (offerer, mut answerer) = connect(&LinkOptions::default()).await;
    let mut sent = 0;
    while timeout(Duration::from_secs(2), offerer.writable())
        .await
        .is_ok()
    {
        offerer.send(0, body(sent, 65_536));
        sent += 1;
        assert!(sent * 65_536 < BOUND, "nothing stops the sender");
    }
    for index in 0..sent {
        assert!(
            frame(&mut answerer).await.1 == body(index, 65_536),
            "frame {index}"
        );
    }
    within(offerer.writable()).await;
}

#[tokio::test]
async fn dropping_a_link_tells_the_peer_and_frees_sockets_and_tasks() {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..10 {
        let mut offerer = open(&LinkOptions::default(), LinkRole::Offerer);
        let (_, candidates) = described(&mut offerer).await;
        drop(offerer);
        within(freed(&candidates)).await;

        let (offerer, mut answerer) = connect(&LinkOptions::default()).await;
        drop(offerer);
        assert_eq!(closed(&mut answerer).await, Ok(()));
    }
    within(async {
        while tasks() > before {
            yield_now().await;
        }
    })
    .await;
}

/// Waits until the sockets that these candidates name are free again.
async fn freed(candidates: &[String]) {
    let ports = candidates
        .iter()
        .filter(|candidate| candidate.contains(" 127.0.0.1 "));
    let ports: Vec<u16> = ports
        .map(|c| c.split(' ').nth(5).unwrap().parse().unwrap())
        .collect();
    assert!(
        !ports.is_empty(),
        "loopback is among the candidates: {candidates:?}"
    );
    for port in ports {
        while UdpSocket::bind(("127.0.0.1", port)).is_err() {
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_vanishes_without_a_word_is_noticed() {
    let mut offerer = open(&LinkOptions::default(), LinkRole::Offerer);
    let (offer, candidates) = described(&mut offerer).await;
    let (answer_tx, answer) = oneshot::channel();
    let (vanish, vanished) = oneshot::channel::<()>();
    let peer = std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut answerer = open(&LinkOptions::default(), LinkRole::Answerer { offer });
            candidates
                .into_iter()
                .for_each(|candidate| answerer.add_candidate(candidate));
            answer_tx.send(described(&mut answerer).await).unwrap();
            vanished.await.unwrap();
            std::mem::forget(answerer);
        });
        // Its tasks stop where they are: as if the device lost its network.
    });
    let (answer, candidates) = within(answer).await.unwrap();
    offerer.set_answer(answer.clone());
    candidates
        .into_iter()
        .for_each(|candidate| offerer.add_candidate(candidate));
    let nobody = open(&LinkOptions::default(), LinkRole::Offerer);
    opened(&mut offerer, &nobody, &answer).await;
    vanish.send(()).unwrap();
    peer.join().unwrap();
    assert_eq!(closed(&mut offerer).await, Err(TransportError::NoPath));
}

#[tokio::test]
async fn a_description_that_the_stack_refuses_ends_the_link() {
    let offer = "v=0\r\nnonsense".to_owned();
    let mut answerer = open(&LinkOptions::default(), LinkRole::Answerer { offer });
    assert!(matches!(
        closed(&mut answerer).await,
        Err(TransportError::Description(_))
    ));
}

///
#[tokio::test]
async fn a_text_message_is_foreign() {
    let (mut link, peer) = with_raw_peer().await;
    peer.channel.send_text("hello").await.unwrap();
    let event = within(link.next()).await;
    assert_eq!(event, Some(LinkEvent::Foreign("a text message")));
    peer.connection.close().await.unwrap();
    assert_eq!(closed(&mut link).await, Ok(()));
}

///
#[tokio::test]
async fn a_channel_of_the_peers_own_is_foreign() {
    let (mut link, peer) = with_raw_peer().await;
    let own = peer.connection.create_data_channel("own", None).await;
    let event = within(link.next()).await;
    assert_eq!(event, Some(LinkEvent::Foreign("a data channel of its own")));
    drop((own, peer.channel));
    peer.connection.close().await.unwrap();
    assert_eq!(closed(&mut link).await, Ok(()));
}

/// A peer that is the bare stack, to misbehave.
struct RawPeer {
    connection: Arc<dyn PeerConnection>,
    channel: Arc<dyn DataChannel>,
}

struct Gatherer {
    candidates: mpsc::UnboundedSender<Option<String>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Gatherer {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let _ = self
            .candidates
            .send(Some(event.candidate.to_json().unwrap().candidate));
    }

    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.candidates.send(None);
        }
    }
}

/// A link that is open to a bare peer.
async fn with_raw_peer() -> (Link, RawPeer) {
    let mut link = open(&LinkOptions::default(), LinkRole::Offerer);
    let (offer, to_peer) = described(&mut link).await;
    let (candidates_tx, mut candidates) = mpsc::unbounded_channel();
    let connection = PeerConnectionBuilder::new()
        .with_handler(Arc::new(Gatherer {
            candidates: candidates_tx,
        }))
        .with_udp_addrs(vec!["127.0.0.1:0"])
        .build()
        .await
        .unwrap();
    let init = RTCDataChannelInit {
        negotiated: Some(0),
        ordered: true,
        ..Default::default()
    };
    let channel = connection
        .create_data_channel("", Some(init))
        .await
        .unwrap();
    let offer = RTCSessionDescription::offer(offer).unwrap();
    connection.set_remote_description(offer).await.unwrap();
    let answer = connection.create_answer(None).await.unwrap();
    connection
        .set_local_description(answer.clone())
        .await
        .unwrap();
    link.set_answer(answer.sdp.clone());
    while let Some(candidate) = within(candidates.recv()).await.unwrap() {
        link.add_candidate(candidate);
    }
    for candidate in to_peer {
        let init = RTCIceCandidateInit {
            candidate,
            sdp_mline_index: Some(0),
            ..Default::default()
        };
        let _ = connection.add_ice_candidate(init).await;
    }
    let nobody = open(&LinkOptions::default(), LinkRole::Offerer);
    opened(&mut link, &nobody, &answer.sdp).await;
    while !matches!(within(channel.poll()).await, Some(DataChannelEvent::OnOpen)) {}
    (
        link,
        RawPeer {
            connection: Arc::new(connection),
            channel,
        },
    )
}
