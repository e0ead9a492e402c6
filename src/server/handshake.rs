//! From a TCP connection to an open WebSocket, or to an answer that says why not.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, timeout},
};

use super::{
    connection::{Connection, Pass, Wire},
    guests::Visit,
    http::{self, Page, Path, Refusal, Request, Upgrade},
    hub::Hub,
    legacy,
    metrics::Refused,
};

/// Bytes of a head read at once.
const READ_BUFFER: usize = 1 << 10;

/// How long a client may take to read a file; it holds one of the places of handshakes for that long.
const READ_FILE: Duration = Duration::from_secs(60);

/// Why there is no WebSocket.
pub(super) enum Failure {
    /// There is no use in an answer.
    Refused(Refused),
    /// There was one.
    Answered(Answered),
}

/// A connection that got the head of its answer. It is still counted.
pub(super) struct Answered {
    stream: Box<dyn Stream>,
    /// What it is still to get.
    body: Bytes,
    _visit: Visit,
}

/// TCP, or TLS over it.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl From<Refused> for Failure {
    fn from(why: Refused) -> Self {
        Self::Refused(why)
    }
}

impl From<io::Error> for Failure {
    fn from(_: io::Error) -> Self {
        Self::Refused(Refused::HandshakeFailed)
    }
}

/// Brings a new connection as far as it goes.
pub(super) async fn shake_hands(
    stream: TcpStream,
    peer: SocketAddr,
    visit: Visit,
    hub: &Arc<Hub>,
) -> Result<Connection, Failure> {
    stream.set_nodelay(true)?;
    match &hub.options.tls {
        Some(tls) => {
            let stream = tls.acceptor().accept(stream).await?;
            open(stream, peer, visit, hub).await
        }
        None => open(stream, peer, visit, hub).await,
    }
}

async fn open<S: Stream + Wire + 'static>(
    mut stream: S,
    peer: SocketAddr,
    mut visit: Visit,
    hub: &Arc<Hub>,
) -> Result<Connection, Failure> {
    let mut bytes = Vec::with_capacity(READ_BUFFER);
    let head = read_head(&mut stream, &mut bytes, hub.limits.head).await?;
    let response = head.and_then(|end| {
        let head = &bytes[..end];
        match respond(head, peer, &mut visit, hub) {
            Ok((answer, pass)) => Ok((answer, Bytes::new(), pass.map(|pass| (pass, end)))),
            Err(refusal) => {
                let (answer, body) = file(head, refusal, hub).ok_or(refusal)?;
                Ok((answer, body, None))
            }
        }
    });
    let (answer, body, opened) = response.unwrap_or_else(|refusal| {
        hub.metrics.refuse(refusal.into());
        (refusal.answer(), Bytes::new(), None)
    });
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    match opened {
        Some((pass, end)) => {
            let opened = Connection::new(stream, Arc::clone(hub), visit, pass);
            Ok(opened.with_early(&mut bytes[end..]))
        }
        None => Err(Failure::Answered(Answered {
            stream: Box::new(stream),
            body,
            _visit: visit,
        })),
    }
}

/// The answer to a request, and what a WebSocket may do if it opens one.
fn respond(
    head: &[u8],
    peer: SocketAddr,
    visit: &mut Visit,
    hub: &Hub,
) -> Result<(String, Option<Pass>), Refusal> {
    match http::read_head(head, hub.options.legacy_paths())? {
        Request::Page { page, forwarded } => {
            let is_hidden =
                page == Page::Metrics && !hub.options.shows_metrics(peer.ip(), &forwarded);
            if is_hidden {
                return Err(Refusal::NotFound);
            }
            Ok((page_of(page, hub), None))
        }
        Request::WebSocket(upgrade) => {
            let pass = admit(&upgrade, peer, visit, hub)?;
            Ok((http::switching_protocols(&upgrade.accept), Some(pass)))
        }
    }
}

/// The file that a request without another meaning asks for.
fn file(head: &[u8], refusal: Refusal, hub: &Hub) -> Option<(String, Bytes)> {
    let pages = hub.options.pages.as_ref()?;
    if !matches!(refusal, Refusal::NotFound | Refusal::UpgradeRequired) {
        return None;
    }
    pages.answer(&http::path_to_read(head)?)
}

/// Whether the client may have the WebSocket that it asks for.
fn admit(
    upgrade: &Upgrade,
    peer: SocketAddr,
    visit: &mut Visit,
    hub: &Hub,
) -> Result<Pass, Refusal> {
    let Hub {
        options, limits, ..
    } = hub;
    if options.address_of(peer.ip()).is_none() {
        let client = options.client_of(peer.ip(), &upgrade.forwarded);
        let identified = visit.identify(client, limits);
        identified.map_err(|_| Refusal::TooManyRequests)?;
    }
    if !options.allows_origin(upgrade.origin.as_deref()) {
        return Err(Refusal::Forbidden);
    }
    let checked = options.check_token(upgrade.token.as_deref(), super::unix_now());
    Ok(Pass {
        only: checked.map_err(|_| Refusal::Unauthorized)?,
        legacy: match &upgrade.path {
            Path::V1 => None,
            Path::Legacy(name) => Some(legacy::room(name)),
        },
    })
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::HeadTooLong => Self::HeadTooLong,
            Refusal::Forbidden => Self::Origin,
            Refusal::Unauthorized => Self::Token,
            Refusal::TooManyRequests => Self::ConnectionsPerAddress,
            Refusal::BadRequest
            | Refusal::NotFound
            | Refusal::MethodNotAllowed
            | Refusal::UpgradeRequired => Self::Http,
        }
    }
}

fn page_of(page: Page, hub: &Hub) -> String {
    match page {
        Page::Health => http::page("ok"),
        Page::Ready if hub.is_stopping.load(Relaxed) => http::stopping(),
        Page::Ready => http::page("ready"),
        Page::Metrics => http::page(&hub.metrics.render(&hub.guests)),
    }
}

/// Reads until the head is complete and returns its length, or why it need not be waited for.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
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

impl Answered {
    /// Writes the rest and waits until the client has read it, at most `within` more: bytes left unread when a socket is
    /// dropped would reset the connection.
    pub(super) async fn linger(mut self, within: Duration) {
        let written = timeout(READ_FILE, self.stream.write_all(&self.body)).await;
        if !matches!(written, Ok(Ok(()))) {
            return;
        }
        let _ = timeout(within, async {
            self.stream.shutdown().await?;
            let mut discarded = vec![0; READ_BUFFER];
            while self.stream.read(&mut discarded).await? > 0 {}
            io::Result::Ok(())
        })
        .await;
    }
}
