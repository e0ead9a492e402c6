//! Who may connect: origins, tokens, TLS; and what members are told of TURN.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use sealwire::{
    PlainSignaling,
    server::{LegacyRooms, Pages, Tls, TokenKey, Turn, legacy_room},
    signaling::{Signaling as _, SignalingEvent, WebSocketSignaling},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName},
    },
};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::support::{Client, Running, ep, exchange, join_frame, room, soon};

const KEY: &[u8] = b"a key of at least sixteen bytes";

fn in_an_hour() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tokens expire by the calendar")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600
}

/// The status of the answer, if there is no WebSocket.
async fn open(server: &Running, path: &str, origin: Option<&str>) -> Result<Client, u16> {
    let request = format!("ws://{}{path}", server.address).into_client_request();
    let mut request = request.unwrap();
    if let Some(origin) = origin {
        request
            .headers_mut()
            .insert("origin", origin.parse().unwrap());
    }
    Client::try_open(server.address, request).await
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_403() {
    let server = Running::with_options(|options| {
        options.origins = vec!["https://app.example".to_owned()];
    })
    .await;
    assert!(open(&server, "/v1", None).await.is_ok());
    assert!(
        open(&server, "/v1", Some("https://app.example"))
            .await
            .is_ok()
    );
    let refused = open(&server, "/v1", Some("https://evil.example")).await;
    assert_eq!(refused.err(), Some(403));
}

#[tokio::test]
async fn where_tokens_are_asked_for_nobody_comes_in_without() {
    let key = TokenKey::new(KEY).unwrap();
    let server = Running::with_options(|options| {
        options.token_key = Some(TokenKey::new(KEY).unwrap());
        options.legacy = LegacyRooms::On;
    })
    .await;
    let other = TokenKey::new(b"another key of sixteen bytes").unwrap();
    for path in [
        "/v1".to_owned(),
        "/".to_owned(),
        "/v1?token=".to_owned(),
        format!("/v1?token={}", other.mint(in_an_hour(), None)),
        format!("/v1?token={}", key.mint(1_000, None)),
    ] {
        assert_eq!(open(&server, &path, None).await.err(), Some(401), "{path}");
    }
    let any = key.mint(in_an_hour(), None);
    let mut client = open(&server, &format!("/v1?token={any}"), None)
        .await
        .unwrap();
    client.send(join_frame(1, 1)).await;
    assert_eq!(client.next().await["type"], "welcome");

    let bound = key.mint(in_an_hour(), Some(room(2)));
    let mut client = open(&server, &format!("/v1?x=y&token={bound}"), None)
        .await
        .unwrap();
    client.send(join_frame(1, 2)).await;
    assert_eq!(client.close_code().await, 4017);
    let mut client = open(&server, &format!("/v1?token={bound}"), None)
        .await
        .unwrap();
    client.send(join_frame(2, 1)).await;
    assert_eq!(client.next().await["type"], "welcome");

    let legacy = key.mint(in_an_hour(), Some(legacy_room("a")));
    let _a = open(&server, &format!("/legacy/a?token={legacy}"), None)
        .await
        .unwrap();
    let mut b = open(&server, &format!("/legacy/b?token={legacy}"), None)
        .await
        .unwrap();
    assert_eq!(b.close_code().await, 4017);
}

#[tokio::test]
async fn a_session_brings_its_token_in_the_address_and_learns_of_turn_servers() {
    let server = Running::with_options(|options| {
        options.token_key = Some(TokenKey::new(KEY).unwrap());
        let urls = vec!["turn:turn.example.org:3478".to_owned()];
        options.turn = Some(Turn::new(urls, "north", 600).unwrap());
    })
    .await;
    let token = TokenKey::new(KEY).unwrap().mint(in_an_hour(), None);
    let url = format!("{}/?token={token}", server.url());
    let signaling = WebSocketSignaling::new(&url, PlainSignaling::LoopbackOnly).unwrap();
    let mut membership = soon(signaling.join(room(1), ep(0xab))).await.unwrap();
    match soon(membership.next()).await {
        Some(SignalingEvent::IceServers(servers)) => {
            assert_eq!(servers[0].url, "turn:turn.example.org:3478");
            assert!(servers[0].username.ends_with(":abababab"));
            assert!(!servers[0].credential.is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        soon(membership.next()).await,
        Some(SignalingEvent::Welcome { peers: vec![] })
    );
    let url = format!("{}/?token=x", server.url());
    let signaling = WebSocketSignaling::new(&url, PlainSignaling::LoopbackOnly).unwrap();
    let refused = soon(signaling.join(room(1), ep(1))).await.unwrap_err();
    assert!(refused.to_string().contains("http_401"), "{refused}");
}

/// Writes a new certificate; returns it as DER.
pub(super) fn certify(folder: &Path) -> Vec<u8> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    made.cert.der().to_vec()
}

/// Whether a client that trusts `root` alone shakes hands.
pub(super) async fn shakes_hands(server: SocketAddr, root: &[u8]) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(root.to_vec())).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = soon(TcpStream::connect(server)).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, stream))
        .await
        .is_ok()
}

/// Large messages at once: together less than what the server keeps for a reader that is slow, as it is beside other tests.
const LARGE: u8 = 8;

#[tokio::test]
async fn sessions_meet_over_tls_and_a_new_certificate_needs_no_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    assert!(Tls::from_pem_files(&cert, &key).is_err());
    let first = certify(folder.path());
    let tls = Tls::from_pem_files(&cert, &key).unwrap();
    let server = Running::with_options(|options| options.tls = Some(tls.clone())).await;
    let url = format!("wss://localhost:{}", server.address.port());
    let signaling = WebSocketSignaling::new(&url, PlainSignaling::LoopbackOnly).unwrap();
    let signaling = signaling.with_root_certificate(&first).unwrap();
    let mut a = soon(signaling.join(room(1), ep(1))).await.unwrap();
    let b = soon(signaling.join(room(1), ep(2))).await.unwrap();
    for n in 0..LARGE {
        let blob = vec![n; 16_000];
        b.send(sealwire::signaling::Outgoing { to: ep(1), blob })
            .unwrap();
    }
    assert_eq!(
        soon(a.next()).await,
        Some(SignalingEvent::Welcome { peers: vec![] })
    );
    assert_eq!(soon(a.next()).await, Some(SignalingEvent::Joined(ep(2))));
    for n in 0..LARGE {
        let message = SignalingEvent::Message {
            from: ep(2),
            blob: vec![n; 16_000],
        };
        assert_eq!(soon(a.next()).await, Some(message));
    }

    std::fs::write(&key, "no key").unwrap();
    assert!(tls.reload().is_err());
    assert!(
        shakes_hands(server.address, &first).await,
        "the old certificate stays in use"
    );
    let second = certify(folder.path());
    tls.reload().unwrap();
    assert!(shakes_hands(server.address, &second).await);
    assert!(!shakes_hands(server.address, &first).await);
    drop(b);
    assert_eq!(soon(a.next()).await, Some(SignalingEvent::Left(ep(2))));
    let plain = exchange(server.address, b"GET /healthz HTTP/1.1\r\n\r\n").await;
    assert!(!plain.contains("200"), "{plain}");
}

#[tokio::test]
async fn a_folder_is_served_beside_the_websocket_and_nothing_outside_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site");
    std::fs::create_dir(&site).unwrap();
    std::fs::write(folder.path().join("secret.txt"), "secret").unwrap();
    std::fs::write(site.join("index.html"), "<p>hello").unwrap();
    // More than a socket takes at once.
    let large = "x".repeat(4 << 20);
    std::fs::write(site.join("large.txt"), &large).unwrap();
    std::fs::write(site.join("v1"), "not a page").unwrap();
    let pages = Pages::read(&site).unwrap();
    let server = Running::with_options(|options| {
        options.pages = Some(pages);
        options.legacy = LegacyRooms::On;
    })
    .await;
    let get = async |path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        exchange(server.address, request.as_bytes()).await
    };
    for path in ["/", "/index.html", "/?invite=1"] {
        let answer = get(path).await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{path}: {answer}"
        );
        assert!(answer.contains("script-src 'self'") && answer.ends_with("<p>hello"));
    }
    assert!(get("/large.txt").await.ends_with(&large));
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "//secret.txt",
        "/none",
        "/v2",
    ] {
        let answer = get(path).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{path}: {answer}");
    }
    assert!(get("/v1").await.starts_with("HTTP/1.1 426 "));
    assert!(get("/healthz").await.ends_with("ok"));
    assert!(open(&server, "/v1", None).await.is_ok());
    assert!(open(&server, "/", None).await.is_ok());
}
