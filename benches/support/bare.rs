//! A data channel of the `webrtc` crate without this crate around it, in one process over 127.0.0.1: what our numbers
//! are compared with. Shared by benches through `#[path]`; nothing here is measured on its own.
//!
//! `Setup::Defaults` is what the crate's examples do. `Setup::Tuned` is the best known bare setup: socket buffers of
//! 4 MiB, one current-thread runtime for driver and user, a send-buffer limit of 256 KiB, a negotiated channel.

use std::{future::Future, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc};
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit},
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceCandidateInit,
        RTCPeerConnectionIceEvent,
    },
    runtime::{
        AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime,
        TokioRuntime,
    },
};

const SOCKET_BUFFER: usize = 4 << 20;
const SEND_BUFFER: usize = 256 << 10;

/// How the bare peer connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// As in the crate's examples.
    Defaults,
    /// Everything that was found to help.
    Tuned,
}

/// One end: the channel, open, and the connection that it needs.
pub struct End {
    pub channel: Arc<dyn DataChannel>,
    connection: Arc<dyn PeerConnection>,
}

impl End {
    pub async fn close(self) {
        self.connection.close().await.expect("close");
    }

    /// The length of the next message; panics at the end of the channel.
    pub async fn receive(&self) -> usize {
        loop {
            let event = self.channel.poll().await.expect("the channel is open");
            if let DataChannelEvent::OnMessage(message) = event {
                return message.data.len();
            }
        }
    }
}

/// What the other end is told of a candidate, if anything.
pub type Told = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Two ends that are connected, on the runtime of the caller.
pub async fn pair(setup: Setup) -> (End, End) {
    let all = || -> Told { Box::new(|candidate| Some(candidate.to_owned())) };
    pair_told(setup, all(), all()).await
}

/// [`pair`], with what is told of the offerer's candidates and of the answerer's.
pub async fn pair_told(setup: Setup, of_offerer: Told, of_answerer: Told) -> (End, End) {
    let (offerer, answerer) = (connection(setup).await, connection(setup).await);
    introduce(setup, (offerer, of_offerer), (answerer, of_answerer)).await
}

/// Two ends with a runtime each, on which they are to be used, too.
pub async fn pair_apart(setup: Setup, near: &Handle, far: &Handle) -> (End, End) {
    let offerer = near.spawn(connection(setup)).await.expect("a runtime");
    let answerer = far.spawn(connection(setup)).await.expect("a runtime");
    let all = || -> Told { Box::new(|candidate| Some(candidate.to_owned())) };
    introduce(setup, (offerer, all()), (answerer, all())).await
}

type Connection = (Arc<dyn PeerConnection>, Events);

async fn introduce(
    setup: Setup,
    ((offerer, offerer_candidates), of_offerer): (Connection, Told),
    ((answerer, answerer_candidates), of_answerer): (Connection, Told),
) -> (End, End) {
    let near = channel(&offerer, setup).await;
    // In-band channels come from the offerer alone; a negotiated one is made by both.
    let far = match setup {
        Setup::Tuned => Some(channel(&answerer, setup).await),
        Setup::Defaults => None,
    };

    let offer = offerer.create_offer(None).await.expect("offer");
    offerer
        .set_local_description(offer.clone())
        .await
        .expect("local offer");
    answerer
        .set_remote_description(offer)
        .await
        .expect("remote offer");
    let answer = answerer.create_answer(None).await.expect("answer");
    answerer
        .set_local_description(answer.clone())
        .await
        .expect("local answer");
    offerer
        .set_remote_description(answer)
        .await
        .expect("remote answer");

    let (candidates, mut accepted) = (answerer_candidates.candidates, answerer_candidates.channels);
    let offered = offerer_candidates.candidates;
    tokio::spawn(trickle(offered, of_offerer, answerer.clone()));
    tokio::spawn(trickle(candidates, of_answerer, offerer.clone()));
    let far = match far {
        Some(channel) => channel,
        None => accepted.recv().await.expect("a channel"),
    };
    opened(&near).await;
    opened(&far).await;
    (
        End {
            channel: near,
            connection: offerer,
        },
        End {
            channel: far,
            connection: answerer,
        },
    )
}

async fn opened(channel: &Arc<dyn DataChannel>) {
    while !matches!(channel.poll().await, Some(DataChannelEvent::OnOpen)) {}
}

async fn trickle(
    mut candidates: mpsc::UnboundedReceiver<RTCIceCandidateInit>,
    told: Told,
    to: Arc<dyn PeerConnection>,
) {
    while let Some(init) = candidates.recv().await {
        if let Some(candidate) = told(&init.candidate) {
            let _ = to
                .add_ice_candidate(RTCIceCandidateInit { candidate, ..init })
                .await;
        }
    }
}

struct Events {
    candidates: mpsc::UnboundedReceiver<RTCIceCandidateInit>,
    channels: mpsc::UnboundedReceiver<Arc<dyn DataChannel>>,
}

struct Handler {
    candidates: mpsc::UnboundedSender<RTCIceCandidateInit>,
    channels: mpsc::UnboundedSender<Arc<dyn DataChannel>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json() {
            let _ = self.candidates.send(init);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.channels.send(channel);
    }
}

async fn connection(setup: Setup) -> Connection {
    let (candidates_tx, candidates) = mpsc::unbounded_channel();
    let (channels_tx, channels) = mpsc::unbounded_channel();
    let handler = Handler {
        candidates: candidates_tx,
        channels: channels_tx,
    };
    let builder = PeerConnectionBuilder::new()
        .with_handler(Arc::new(handler))
        .with_udp_addrs(vec!["127.0.0.1:0"]);
    let builder = match setup {
        Setup::Defaults => builder,
        Setup::Tuned => builder
            .with_runtime(Arc::new(TunedRuntime))
            .with_data_channel_send_buffer_limit(SEND_BUFFER),
    };
    (
        Arc::new(builder.build().await.expect("peer connection")),
        Events {
            candidates,
            channels,
        },
    )
}

async fn channel(connection: &Arc<dyn PeerConnection>, setup: Setup) -> Arc<dyn DataChannel> {
    let init = match setup {
        Setup::Defaults => None,
        Setup::Tuned => Some(RTCDataChannelInit {
            ordered: true,
            negotiated: Some(0),
            ..Default::default()
        }),
    };
    connection
        .create_data_channel("", init)
        .await
        .expect("data channel")
}

/// The crate's tokio runtime with large socket buffers, and with the driver on the current thread.
#[derive(Debug)]
struct TunedRuntime;

impl Runtime for TunedRuntime {
    fn spawn(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(SOCKET_BUFFER)?;
        options.set_send_buffer_size(SOCKET_BUFFER)?;
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(
        &self,
        listener: std::net::TcpListener,
    ) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(
        &'a self,
        remote: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Arc<dyn AsyncTcpStream>>> + Send + 'a>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(
        &'a self,
        host: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Pin<Box<dyn Future<Output = ()> + Send + 'static>> {
        TokioRuntime.yield_now()
    }
}
