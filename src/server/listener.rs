//! Accepting connections: TCP, the HTTP handshake with its deadline, and the end of everything at a shutdown.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tracing::{debug, error, warn};

use super::{
    connection::Connection,
    http::{self, Refusal, Request},
    hub::Hub,
};
use crate::signaling::socket::{Socket, bounded};

/// Bytes of a head read at once, and of each connection's read buffer afterwards.
const READ_BUFFER: usize = 1 << 10;

/// How long to wait when no connection can be accepted, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection's view of whether the server stops.
#[derive(Debug, Clone)]
pub(super) struct Shutdown(watch::Receiver<()>);

impl Shutdown {
    /// Waits until it does.
    pub(super) async fn wait(&mut self) {
        // The sender tells nothing but that it is gone.
        while self.0.changed().await.is_ok() {}
    }
}

/// Serves clients until `shutdown` completes, then closes their connections. Dropping the future ends them at once.
pub(super) async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let (running, stops) = watch::channel(());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            stream = accept(&listener) => {
                if connections.len() >= hub.limits.connections {
                    debug!("too many connections");
                    continue;
                }
                connections.spawn(handle(stream, Arc::clone(&hub), Shutdown(stops.clone())));
            }
            Some(ended) = connections.join_next() => report(ended),
        }
    }
    drop((listener, running));
    let deadline = hub.limits.close.saturating_add(Duration::from_secs(1));
    let _ = timeout(deadline, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    })
    .await;
}

/// The next connection. Cancel-safe.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a connection's task failed");
    }
}

/// A connection's whole life.
async fn handle(mut stream: TcpStream, hub: Arc<Hub>, mut shutdown: Shutdown) {
    let opened = tokio::select! {
        opened = timeout(hub.limits.handshake, handshake(&mut stream, hub.limits.head)) => opened,
        () = shutdown.wait() => return,
    };
    match opened {
        Ok(Ok(Some(early))) => {
            let config = bounded(READ_BUFFER);
            let stream =
                WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config))
                    .await;
            Box::new(Connection::new(Socket::new(stream), hub))
                .run(shutdown)
                .await;
        }
        Ok(Ok(None)) => linger(stream, hub.limits.close).await,
        Ok(Err(error)) => debug!(%error, "handshake failed"),
        Err(_) => debug!("handshake took too long"),
    }
}

/// Answers the request. Returns what came after a WebSocket handshake; `None` when it was something else.
async fn handshake(stream: &mut TcpStream, limit: usize) -> io::Result<Option<Vec<u8>>> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(READ_BUFFER);
    let head = read_head(stream, &mut bytes, limit).await?;
    let request = head.and_then(|end| http::read_head(&bytes[..end]).map(|request| (request, end)));
    let (answer, early) = match request {
        Ok((Request::WebSocket { accept }, end)) => (
            http::switching_protocols(&accept),
            Some(bytes.split_off(end)),
        ),
        Ok((Request::Health, _)) => (http::healthy(), None),
        Err(refusal) => (refusal.answer(), None),
    };
    stream.write_all(answer.as_bytes()).await?;
    Ok(early)
}

/// Reads until the head is complete and returns its length, or why it need not be waited for.
async fn read_head(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Result<usize, Refusal>> {
    loop {
        let before = bytes.len();
        if before >= limit {
            return Ok(Err(Refusal::HeadTooLong));
        }
        let room = (limit - before).min(READ_BUFFER);
        if (&mut *stream).take(room as u64).read_buf(bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !http::may_be_head(bytes) {
            return Ok(Err(Refusal::BadRequest));
        }
        if let Some(end) = http::head_end(bytes, before) {
            return Ok(Ok(end));
        }
    }
}

/// Waits until the client has read the answer: bytes left unread when a socket is dropped would reset the connection.
async fn linger(mut stream: TcpStream, within: Duration) {
    let _ = timeout(within, async {
        stream.shutdown().await?;
        let mut discarded = vec![0; READ_BUFFER];
        while stream.read(&mut discarded).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}
