//! From an address to an open WebSocket: names, TCP, TLS, HTTP, and what each of them can go wrong with.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Duration, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Error, error::ProtocolError, http::StatusCode},
};

use super::{
    SignalingError,
    envelope::printable,
    socket::{Socket, bounded},
};
use crate::relay_url::{RelayScheme, RelayUrl, is_loopback};

/// Bytes of the read buffer.
const READ_BUFFER: usize = 4 << 10;

/// How long one address may be tried before the next is tried beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// What runs below the WebSocket.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + std::fmt::Debug> Wire for T {}

/// Opens the WebSocket of `url`. Dropping the future closes what it opened.
pub(super) async fn dial(
    url: &RelayUrl,
    tls: &Arc<ClientConfig>,
) -> Result<Socket<Box<dyn Wire>>, SignalingError> {
    let unreachable = |reason| SignalingError::Unreachable {
        server: url.describe(),
        reason,
    };
    let tcp = async { connect(resolve(url).await?).await };
    let tcp = tcp.await.map_err(|error| unreachable(error.to_string()))?;
    let wire: Box<dyn Wire> = match url.scheme {
        RelayScheme::Plain => Box::new(tcp),
        RelayScheme::Tls => {
            let name = ServerName::try_from(url.host.clone())
                .map_err(|error| unreachable(error.to_string()))?;
            let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
            Box::new(stream.map_err(|error| unreachable(format!("TLS: {error}")))?)
        }
    };
    let config = Some(bounded(READ_BUFFER));
    match client_async_with_config(url.endpoint(), wire, config).await {
        Ok((stream, _)) => Ok(Socket::new(stream)),
        Err(error) => Err(handshake_error(url.describe(), error)),
    }
}

/// Connects to the first address that answers. The next one is tried when an attempt fails or takes long, so a network
/// that swallows the packets of one IP version does not stop the other.
async fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last_error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let patience = match addresses.next() {
            Some(address) => {
                attempts.spawn(attempt(address));
                NEXT_ADDRESS
            }
            None => Duration::MAX,
        };
        match timeout(patience, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => last_error = error,
            Ok(Some(Err(failed))) => last_error = io::Error::other(failed),
            Ok(None) => return Err(last_error),
            Err(_) => {}
        }
    }
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The addresses of a host. Without TLS, a name for this machine must not lead elsewhere, whatever a resolver says.
async fn resolve(url: &RelayUrl) -> io::Result<Vec<SocketAddr>> {
    let here_only = url.scheme == RelayScheme::Plain && is_loopback(&url.host);
    let addresses = lookup_host((url.host.as_str(), url.port)).await?;
    Ok(addresses
        .filter(|address| !here_only || address.ip().is_loopback())
        .take(MAX_ADDRESSES)
        .collect())
}

/// Why no WebSocket was opened.
fn handshake_error(server: String, error: Error) -> SignalingError {
    match error {
        Error::Http(response) => refused_by_http(server, response.status()),
        Error::Io(error) => SignalingError::Unreachable {
            server,
            reason: error.to_string(),
        },
        Error::ConnectionClosed | Error::Protocol(ProtocolError::HandshakeIncomplete) => {
            let reason = "it closed the connection during the handshake".to_owned();
            SignalingError::Unreachable { server, reason }
        }
        Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            let reason = "it answered with a subprotocol that nobody asked for".to_owned();
            SignalingError::Garbage { server, reason }
        }
        Error::AlreadyClosed
        | Error::AttackAttempt
        | Error::Capacity(_)
        | Error::HttpFormat(_)
        | Error::Protocol(_)
        | Error::Tls(_)
        | Error::Url(_)
        | Error::Utf8(_)
        | Error::WriteBufferFull(_) => SignalingError::Garbage {
            server,
            reason: printable(&error.to_string()),
        },
    }
}

fn refused_by_http(server: String, status: StatusCode) -> SignalingError {
    let answer = format!("it answered HTTP {status}");
    match status.as_u16() {
        401 | 403 | 429 => SignalingError::Refused {
            code: format!("http_{}", status.as_u16()),
            message: answer,
        },
        500..=599 => SignalingError::Unreachable {
            server,
            reason: answer,
        },
        _ => {
            let reason =
                format!("{answer} where a WebSocket was expected; is the address complete?");
            SignalingError::Garbage { server, reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::PlainSignaling;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn the_first_address_that_answers_is_taken() {
        let (_, refused) = listener().await;
        // TEST-NET-1: packets to it vanish, or are refused by a host without a route.
        let swallowed = "192.0.2.1:9".parse().unwrap();
        let (_listening, open) = listener().await;
        let connecting = connect(vec![swallowed, refused, swallowed, open]);
        let stream = timeout(Duration::from_secs(20), connecting)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(stream.nodelay().unwrap());
    }

    #[tokio::test]
    async fn without_an_address_that_answers_the_last_reason_is_told() {
        let (_, refused) = listener().await;
        let error = connect(vec![refused, refused]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            connect(vec![]).await.unwrap_err().kind(),
            io::ErrorKind::AddrNotAvailable
        );
    }

    #[tokio::test]
    async fn localhost_leads_to_this_machine() {
        let url = RelayUrl::parse("ws://localhost:1", PlainSignaling::LoopbackOnly).unwrap();
        let addresses = resolve(&url).await.unwrap();
        assert!(
            !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback())
        );
    }
}
