//! What `diagnose()` finds on this machine, with STUN and TURN servers that say what a test wants. The real ones are in
//! `tests/lab/`.

use std::net::SocketAddr;

use sealwire::{
    Config, Error, IceServer, Identity,
    session::{Builder, Diagnosis, Finding, Session},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
};

use super::support::{Running, soon};

fn room(server: &str) -> Builder {
    let room = Session::builder(Identity::generate()).room("diagnosed", server);
    room.accept_unknown()
}

async fn diagnosed(server: &str, servers: &[IceServer]) -> Diagnosis {
    let mut config = Config::default();
    config.ice_servers = servers.to_vec();
    soon(room(server).config(config).diagnose()).await
}

/// The answer to a request, of this kind and with these attributes.
fn answer(request: &[u8], kind: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len()).unwrap();
    let head = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    [&head, &request[4..20], attributes].concat()
}

/// Says of every packet that it came from this port of 192.0.2.1.
async fn stun_server(port: u16) -> IceServer {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("stun:{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut request = [0; 1_500];
        while let Ok((_, from)) = socket.recv_from(&mut request).await {
            let [p0, p1] = (port ^ 0x2112).to_be_bytes();
            let masked = [192 ^ 0x21, 0x12, 2 ^ 0xa4, 1 ^ 0x42];
            let mapped = [&[0, 0x20, 0, 8, 0, 1, p0, p1][..], &masked].concat();
            // What is no answer to the request is passed over.
            let _ = socket.send_to(&[0xff; 30], from).await;
            let _ = socket
                .send_to(&answer(&[0; 20], 0x0101, &mapped), from)
                .await;
            let _ = socket
                .send_to(&answer(&request, 0x0101, &mapped), from)
                .await;
        }
    });
    IceServer::stun(url)
}

/// Refuses whatever it is asked with 401, over TCP.
async fn refusing_turn_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 20];
                while stream.read_exact(&mut head).await.is_ok() {
                    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]]))];
                    stream.read_exact(&mut rest).await.unwrap();
                    let refusal = [
                        &[0, 9, 0, 4, 0, 0, 4, 1, 0, 0x14, 0, 4][..],
                        b"test",
                        &[0, 0x15, 0, 1, b'n', 0, 0, 0],
                    ];
                    let refusal = answer(&head, 0x0113, &refusal.concat());
                    stream.write_all(&refusal).await.unwrap();
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_room_with_and_without_somebody_and_a_server_that_is_away() {
    let server = Running::start().await;
    let alone = diagnosed(&server.url(), &[]).await;
    assert_eq!(alone.findings, [Finding::PeerAbsent, Finding::NoIceServers]);
    assert_eq!(alone.peer_present, Some(false));

    // Who asked has left.
    server.has_rooms(0).await;
    let waiting = tokio::spawn(room(&server.url()).connect());
    server.has_rooms(1).await;
    let found = diagnosed(&server.url(), &[]).await;
    assert_eq!(found.peer_present, Some(true));
    assert_eq!(found.findings, [Finding::NoIceServers]);

    // Nothing was used up: whoever waits is met.
    let other = soon(room(&server.url()).connect()).await.unwrap();
    let session = soon(waiting).await.unwrap().unwrap();
    let live = soon(session.diagnose()).await;
    assert_eq!(live.findings, [Finding::NoIceServers]);
    assert_eq!(live.path, Some(sealwire::session::Path::Direct));
    soon(other.close()).await.unwrap();

    let url = server.url();
    server.stop().await;
    let away = diagnosed(&url, &[]).await;
    let is_unreachable = |found: &Finding| matches!(found, Finding::ServerUnreachable { .. });
    assert!(is_unreachable(&away.findings[0]), "{away}");
    assert_eq!(away.peer_present, None);
}

#[tokio::test]
async fn ports_that_differ_are_a_symmetric_nat_and_equal_ones_are_not() {
    let server = Running::start().await;
    let two = [stun_server(1_000).await, stun_server(2_000).await];
    let found = diagnosed(&server.url(), &two).await;
    let expected = [Finding::PeerAbsent, Finding::SymmetricNat, Finding::NoRelay];
    assert_eq!(found.findings, expected);
    assert_eq!(found.public_addresses.len(), 2);

    let two = [stun_server(1_000).await, stun_server(1_000).await];
    let found = diagnosed(&server.url(), &two).await;
    assert_eq!(found.findings, [Finding::PeerAbsent, Finding::NoRelay]);
}

#[tokio::test]
async fn refused_credentials_are_told_from_those_that_expired() {
    let server = Running::start().await;
    let url = format!("turn:{}?transport=tcp", refusing_turn_server().await);
    for (username, expired) in [
        ("user", false),
        ("1700000000:user", true),
        ("9999999999:user", false),
    ] {
        let relay = IceServer::turn(&url, username, "password");
        let found = diagnosed(&server.url(), &[relay]).await;
        let refused = Finding::RelayRefused {
            url: url.clone(),
            code: 401,
            expired,
        };
        assert_eq!(found.findings, [Finding::PeerAbsent, refused]);
        assert_eq!(found.relays, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_turn_server_that_is_something_else_is_said_to_be() {
    let server = Running::start().await;
    // The signaling server's own port.
    let url = format!("turn:{}?transport=tcp", server.address);
    let found = diagnosed(&server.url(), &[IceServer::turn(&url, "u", "p")]).await;
    let is_unreachable = |found: &Finding| matches!(found, Finding::RelayUnreachable { .. });
    assert!(found.findings.iter().any(is_unreachable), "{found}");
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_named_before_anything_is_tried() {
    let builder = room("ws://127.0.0.1:9").ice_server(IceServer::stun("stuns:example.org"));
    let error = soon(builder.connect()).await.unwrap_err();
    let Error::InvalidIceServer { url, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(url, "stuns:example.org");
    assert!(!error.is_retryable());
}
