//! A server in this process, and a client that may do what it likes.

use std::{cell::Cell, net::SocketAddr, panic, sync::Once, time::Duration};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use futures_util::{SinkExt as _, StreamExt as _};
use sealwire::{
    EndpointId, RoomId,
    server::{Server, ServerLimits, ServerOptions, ServerStats},
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message, client::IntoClientRequest as _, handshake::client::Request,
        protocol::WebSocketConfig,
    },
};

/// Longer than anything takes that works; every wait of a test ends by it.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// The result of `future`, which must come before the deadline.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("it comes before the deadline")
}

pub(super) fn room(n: u8) -> RoomId {
    RoomId([n; 32])
}

pub(super) fn ep(n: u8) -> EndpointId {
    EndpointId([n; 16])
}

/// The text of binary fields.
pub(super) fn text(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub(super) fn ep_text(n: u8) -> String {
    text(&ep(n).0)
}

pub(super) fn join_frame(room_number: u8, n: u8) -> Value {
    json!({"type": "join", "room": text(&room(room_number).0), "ep": ep_text(n)})
}

pub(super) fn send_frame(to: u8, blob: &[u8]) -> Value {
    json!({"type": "send", "to": ep_text(to), "blob": text(blob)})
}

pub(super) fn message_frame(from: u8, blob: &[u8]) -> Value {
    json!({"type": "message", "from": ep_text(from), "blob": text(blob)})
}

thread_local! {
    /// Panics on this thread. Those of a server's tasks would otherwise end in its log only.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            print(info);
        }));
    });
}

/// A server that runs until it is stopped or dropped, on the thread of its test.
pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) stats: ServerStats,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || PANICS.get() == 0,
            "no task of the server panicked"
        );
    }
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::with_limits(ServerLimits::default()).await
    }

    pub(super) async fn with_limits(limits: ServerLimits) -> Self {
        Self::with(limits, ServerOptions::default()).await
    }

    pub(super) async fn with_options(change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = ServerOptions::default();
        change(&mut options);
        Self::with(ServerLimits::default(), options).await
    }

    pub(super) async fn with(limits: ServerLimits, options: ServerOptions) -> Self {
        count_panics();
        let server = Server::bind("127.0.0.1:0")
            .await
            .unwrap()
            .with_limits(limits)
            .with_options(options);
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, stats) = (server.local_addr().unwrap(), server.stats());
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stats,
            stop: Some(stop),
            task: Some(task),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Asks it to stop. The task ends when it has.
    pub(super) fn stop(mut self) -> JoinHandle<()> {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.take().unwrap()
    }

    /// Waits until it has no rooms.
    pub(super) async fn emptied(&self) {
        soon(async {
            while self.stats.rooms() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

/// A client that may do what it likes.
pub(super) struct Client(pub(super) WebSocketStream<TcpStream>);

impl Client {
    pub(super) async fn open(address: SocketAddr) -> Self {
        Self::open_at(address, "/v1").await
    }

    /// At another path.
    pub(super) async fn open_at(address: SocketAddr, path: &str) -> Self {
        let request = format!("ws://{address}{path}").into_client_request();
        Self::try_open(address, request.unwrap()).await.unwrap()
    }

    /// With any request; the error is the status of the answer.
    pub(super) async fn try_open(address: SocketAddr, request: Request) -> Result<Self, u16> {
        let stream = soon(TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let config = Some(WebSocketConfig::default().read_buffer_size(1 << 10));
        match soon(client_async_with_config(request, stream, config)).await {
            Ok((socket, response)) => {
                assert!(response.headers().get("sec-websocket-extensions").is_none());
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A client in a room, and the others it was told of.
    pub(super) async fn join(address: SocketAddr, room: u8, n: u8) -> (Self, Vec<String>) {
        let mut client = Self::open(address).await;
        client.send(join_frame(room, n)).await;
        let welcome = client.next().await;
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        let peers = welcome["peers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|peer| peer.as_str().unwrap().to_owned());
        let peers = peers.collect();
        (client, peers)
    }

    pub(super) async fn send(&mut self, frame: Value) {
        self.send_raw(Message::text(frame.to_string()))
            .await
            .unwrap();
    }

    pub(super) async fn send_raw(&mut self, message: Message) -> Result<(), Error> {
        soon(self.0.send(message)).await
    }

    /// The next text frame; pings are skipped, and answered.
    pub(super) async fn next(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("{other:?} instead of text"),
            }
        }
    }

    /// The code of the error that comes next.
    pub(super) async fn next_error(&mut self) -> String {
        let frame = self.next().await;
        assert_eq!(frame["type"], "error", "{frame}");
        assert!(frame["message"].is_string());
        frame["code"].as_str().unwrap().to_owned()
    }

    /// The code that the server closes with, whatever came before it.
    pub(super) async fn close_code(&mut self) -> u16 {
        loop {
            match soon(self.0.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Close(None))) | Some(Err(_)) | None => {
                    panic!("closed without a code")
                }
                Some(Ok(_)) => {}
            }
        }
    }
}

/// Sends `bytes` as they are and returns everything that comes back until the server closes.
pub(super) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    soon(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = Vec::new();
        // A server that wants nothing of it may reset the connection.
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
}
