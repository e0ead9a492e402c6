//! The client, with a good server and with bad ones.

use std::{net::SocketAddr, sync::Arc};

use futures_util::{SinkExt as _, StreamExt as _};
use sealwire::{
    PlainSignaling,
    signaling::{
        Membership, Outgoing, Signaling as _, SignalingError, SignalingEvent, WebSocketSignaling,
    },
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{
        Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

use super::support::{Client, Running, ep, ep_text, join_frame, message_frame, room, soon, text};

fn signaling(url: &str) -> WebSocketSignaling {
    WebSocketSignaling::new(url, PlainSignaling::LoopbackOnly).unwrap()
}

async fn join(server: &Running, n: u8) -> Membership {
    soon(signaling(&server.url()).join(room(1), ep(n)))
        .await
        .unwrap()
}

async fn next(membership: &mut Membership) -> SignalingEvent {
    soon(membership.next())
        .await
        .expect("the membership has not ended")
}

fn welcome(peers: &[u8]) -> SignalingEvent {
    SignalingEvent::Welcome {
        peers: peers.iter().map(|&n| ep(n)).collect(),
    }
}

fn message(from: u8, blob: &[u8]) -> SignalingEvent {
    SignalingEvent::Message {
        from: ep(from),
        blob: blob.to_vec(),
    }
}

fn blob(to: u8, blob: &[u8]) -> Outgoing {
    Outgoing {
        to: ep(to),
        blob: blob.to_vec(),
    }
}

#[tokio::test]
async fn two_endpoints_meet_over_a_server() {
    let server = Running::start().await;
    let mut a = join(&server, 1).await;
    assert_eq!(next(&mut a).await, welcome(&[]));
    let mut b = join(&server, 2).await;
    assert_eq!(next(&mut b).await, welcome(&[1]));
    assert_eq!(next(&mut a).await, SignalingEvent::Joined(ep(2)));
    for bytes in [0, 1, 3_000, 16_384] {
        let bytes = vec![5; bytes];
        a.send(blob(2, &bytes)).unwrap();
        b.send(blob(1, &bytes)).unwrap();
        assert_eq!(next(&mut b).await, message(1, &bytes));
        assert_eq!(next(&mut a).await, message(2, &bytes));
    }
}

#[tokio::test]
async fn what_was_sent_before_a_membership_is_dropped_arrives_before_it_left() {
    let server = Running::start().await;
    let mut a = join(&server, 1).await;
    let b = join(&server, 2).await;
    for n in 0..40 {
        b.send(blob(1, &[n; 1_000])).unwrap();
    }
    drop(b);
    assert_eq!(next(&mut a).await, welcome(&[]));
    assert_eq!(next(&mut a).await, SignalingEvent::Joined(ep(2)));
    for n in 0..40 {
        assert_eq!(next(&mut a).await, message(2, &[n; 1_000]));
    }
    assert_eq!(next(&mut a).await, SignalingEvent::Left(ep(2)));
    drop(a);
    server.emptied().await;
}

#[tokio::test]
async fn a_session_may_send_more_at_once_than_the_server_allows() {
    let server = Running::start().await;
    let a = join(&server, 1).await;
    let mut b = join(&server, 2).await;
    assert_eq!(next(&mut b).await, welcome(&[1]));
    for n in 0..80 {
        a.send(blob(2, &[n])).unwrap();
    }
    for n in 0..80 {
        assert_eq!(next(&mut b).await, message(1, &[n]));
    }
}

#[tokio::test]
async fn refusals_and_errors_carry_the_code_of_the_server() {
    let server = Running::start().await;
    let mut a = join(&server, 1).await;
    let again = soon(signaling(&server.url()).join(room(1), ep(1))).await;
    assert!(matches!(again, Err(SignalingError::Refused { code, .. }) if code == "duplicate_ep"));
    assert_eq!(next(&mut a).await, welcome(&[]));
    for (outgoing, expected) in [
        (blob(9, b"x"), "unknown_peer"),
        (blob(9, &[0; 16_385]), "too_large"),
    ] {
        a.send(outgoing).unwrap();
        let event = next(&mut a).await;
        assert!(
            matches!(&event, SignalingEvent::Error { code, .. } if code == expected),
            "{event:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_stops_is_lost_and_not_a_refusal() {
    let server = Running::start().await;
    let mut a = join(&server, 1).await;
    assert_eq!(next(&mut a).await, welcome(&[]));
    let stopping = server.stop();
    let event = next(&mut a).await;
    assert!(
        matches!(&event, SignalingEvent::Lost(SignalingError::Lost { reason }) if reason.contains("1001")),
        "{event:?}"
    );
    assert_eq!(soon(a.next()).await, None);
    assert!(a.send(blob(2, b"x")).is_err());
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn addresses_that_may_not_be_used_are_refused_before_anything_is_contacted() {
    for url in [
        "ws://example.org",
        "https://example.org",
        "wss://a@example.org",
        "wss://example.org#x",
        "",
    ] {
        let refused = WebSocketSignaling::new(url, PlainSignaling::LoopbackOnly);
        assert!(
            matches!(refused, Err(SignalingError::InvalidUrl { url: told, .. }) if told == url)
        );
    }
    let signaling = WebSocketSignaling::new(
        "wss://example.org/x/?token=secret",
        PlainSignaling::LoopbackOnly,
    )
    .unwrap();
    assert_eq!(signaling.describe(), "wss://example.org/x");
    assert!(!format!("{signaling:?}").contains("secret"));
    let refused = signaling.with_root_certificate(b"not a certificate");
    assert!(matches!(
        refused,
        Err(SignalingError::InvalidCertificate { .. })
    ));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    for url in [
        format!("ws://{free}"),
        format!("wss://{free}"),
        "wss://nowhere.invalid".to_owned(),
    ] {
        let error = soon(signaling(&url).join(room(1), ep(1)))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SignalingError::Unreachable { server, .. } if *server == url),
            "{error}"
        );
    }
}

/// A server for one connection.
async fn serve_once<F: Future<Output = ()> + Send>(
    behave: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> WebSocketSignaling {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let signaling = signaling(&format!("ws://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        behave(stream).await;
    });
    signaling
}

/// Why a join fails at a server that answers the HTTP request with `answer`.
async fn join_with_answer(answer: &'static [u8]) -> SignalingError {
    let signaling = serve_once(move |mut stream| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut request).await;
    })
    .await;
    soon(signaling.join(room(1), ep(1))).await.unwrap_err()
}

#[tokio::test]
async fn http_answers_are_told_apart() {
    for (answer, expected) in [
        (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], "does not speak this protocol: it answered HTTP 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "does not speak this protocol: it answered HTTP 200"),
        (b"HTTP/1.1 301 Moved Permanently\r\nLocation: x\r\n\r\n", "does not speak this protocol: it answered HTTP 301"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "refused: http_403"),
        (b"HTTP/1.1 429 Too Many Requests\r\n\r\n", "refused: http_429"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "cannot be reached: it answered HTTP 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "does not speak this protocol"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            "does not speak this protocol",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "does not speak this protocol"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not speak this protocol"),
        (b"", "cannot be reached"),
    ] {
        let error = join_with_answer(answer).await.to_string();
        assert!(error.contains(expected), "{error:?} instead of {expected:?}");
    }
}

#[tokio::test]
async fn a_subprotocol_that_nobody_asked_for_is_named() {
    let signaling = serve_once(|stream| async {
        use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

        #[expect(clippy::result_large_err, reason = "the library chose the type")]
        let add_protocol = |_: &Request, mut response: Response| {
            response
                .headers_mut()
                .insert("Sec-WebSocket-Protocol", "chat".parse().unwrap());
            Ok(response)
        };
        let _ = tokio_tungstenite::accept_hdr_async(stream, add_protocol).await;
    })
    .await;
    let error = soon(signaling.join(room(1), ep(1))).await.unwrap_err();
    assert!(
        matches!(&error, SignalingError::Garbage { reason, .. } if reason.contains("subprotocol")),
        "{error}"
    );
}

type FakeSocket = WebSocketStream<TcpStream>;

/// A server that takes a join and then sends `frames`; it stays until the client goes.
async fn server_that_sends(frames: Vec<Message>) -> WebSocketSignaling {
    serve_once(|stream| async {
        let mut socket = accept_async(stream).await.unwrap();
        let join = socket.next().await.unwrap().unwrap().into_text().unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&join).unwrap(),
            join_frame(1, 1)
        );
        for frame in frames {
            if socket.send(frame).await.is_err() {
                return;
            }
        }
        read_all(&mut socket).await;
    })
    .await
}

async fn read_all(socket: &mut FakeSocket) {
    while socket.next().await.is_some_and(|message| message.is_ok()) {}
}

fn json_frame(value: serde_json::Value) -> Message {
    Message::text(value.to_string())
}

fn welcome_frame() -> Message {
    json_frame(json!({"type": "welcome", "peers": [ep_text(2)]}))
}

fn close_frame(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    }))
}

/// What a server can end a connection with, and what the client makes of it.
fn endings() -> Vec<(Message, &'static str)> {
    vec![
        (
            Message::binary(b"x".to_vec()),
            "does not speak this protocol: a binary message",
        ),
        (
            Message::text("{"),
            "does not speak this protocol: not a JSON object",
        ),
        (
            Message::text("<html>"),
            "does not speak this protocol: not a JSON object",
        ),
        (
            Message::text(" ".repeat(24_577)),
            "does not speak this protocol",
        ),
        (
            close_frame(4008, "too\u{7} many"),
            "refused: close_4008 (too many)",
        ),
        (close_frame(1008, ""), "refused: close_1008"),
        (
            close_frame(1001, "bye"),
            "lost: the server closed: 1001 bye",
        ),
        (Message::Close(None), "lost: the server closed"),
    ]
}

#[tokio::test]
async fn a_server_that_answers_a_join_with_garbage_is_told_so() {
    for (frame, expected) in endings() {
        let signaling = server_that_sends(vec![frame]).await;
        let error = soon(signaling.join(room(1), ep(1)))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected),
            "{error:?} instead of {expected:?}"
        );
    }
    let early = json_frame(json!({"type": "joined", "ep": ep_text(2)}));
    let error = soon(server_that_sends(vec![early]).await.join(room(1), ep(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, SignalingError::Garbage { .. }));
}

#[tokio::test]
async fn a_membership_ends_when_its_server_sends_garbage() {
    for (frame, expected) in endings() {
        let signaling = server_that_sends(vec![welcome_frame(), frame]).await;
        let mut membership = soon(signaling.join(room(1), ep(1))).await.unwrap();
        assert_eq!(next(&mut membership).await, welcome(&[2]));
        match next(&mut membership).await {
            SignalingEvent::Lost(error) => assert!(
                error.to_string().contains(expected),
                "{error} for {expected}"
            ),
            other => panic!("{other:?}"),
        }
        assert_eq!(soon(membership.next()).await, None);
    }
}

///
#[tokio::test]
async fn what_is_unknown_or_malformed_is_ignored() {
    let ignored = [
        json!({"type": "dance", "ep": 7}),
        json!({"type": "joined", "ep": "AAAA"}),
        json!({"type": "left"}),
        json!({"type": "message", "from": ep_text(2), "blob": "AB"}),
        json!({"type": "message", "from": ep_text(2), "blob": text(&[0; 16_385])}),
        json!({"type": "message", "from": "", "blob": ""}),
        json!({"type": "error"}),
        json!({"type": "welcome", "peers": 3}),
    ];
    let mut frames: Vec<_> = ignored.iter().cloned().map(json_frame).collect();
    let peers: Vec<_> = (0..40)
        .map(|n| if n == 1 { "AAAA".into() } else { ep_text(n) })
        .collect();
    frames.push(json_frame(json!({"type": "welcome", "peers": peers})));
    frames.extend(ignored.into_iter().map(json_frame));
    frames.push(welcome_frame());
    frames.push(Message::Ping(vec![1].into()));
    frames.push(json_frame(message_frame(2, b"hello")));
    let mut membership = soon(server_that_sends(frames).await.join(room(1), ep(1)))
        .await
        .unwrap();
    let listed: Vec<u8> = (0..32).filter(|n| *n != 1).collect();
    assert_eq!(next(&mut membership).await, welcome(&listed));
    assert_eq!(next(&mut membership).await, message(2, b"hello"));
}

#[tokio::test]
async fn a_connection_that_breaks_is_lost() {
    let signaling = serve_once(|stream| async {
        let mut socket = accept_async(stream).await.unwrap();
        socket.send(welcome_frame()).await.unwrap();
        let _ = socket.next().await;
    })
    .await;
    let mut membership = soon(signaling.join(room(1), ep(1))).await.unwrap();
    assert_eq!(next(&mut membership).await, welcome(&[2]));
    let event = next(&mut membership).await;
    assert!(
        matches!(event, SignalingEvent::Lost(SignalingError::Lost { .. })),
        "{event:?}"
    );
}

#[tokio::test]
async fn giving_a_join_up_closes_its_connection() {
    let (ended, end) = tokio::sync::oneshot::channel();
    let (asked, question) = tokio::sync::oneshot::channel();
    let signaling = serve_once(|stream| async {
        let mut socket = accept_async(stream).await.unwrap();
        asked.send(socket.next().await.unwrap().unwrap()).unwrap();
        read_all(&mut socket).await;
        ended.send(()).unwrap();
    })
    .await;
    let joining = tokio::spawn(async move { signaling.join(room(1), ep(1)).await.map(|_| ()) });
    soon(question).await.unwrap();
    joining.abort();
    soon(end).await.unwrap();
}

/// TLS before `upstream`, with a certificate for `localhost` that signs itself. Returns its port and certificate.
async fn tls_proxy(upstream: SocketAddr) -> (u16, Vec<u8>) {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) = (
        TlsAcceptor::from(Arc::new(config)),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut inner) = acceptor.accept(stream).await {
                    let mut outer = TcpStream::connect(upstream).await.unwrap();
                    let _ = copy_bidirectional(&mut inner, &mut outer).await;
                }
            });
        }
    });
    (port, certified.cert.der().to_vec())
}

#[tokio::test]
async fn tls_is_spoken_to_who_is_trusted_and_named_only() {
    let server = Running::start().await;
    let (port, certificate) = tls_proxy(server.address).await;
    let url = format!("wss://localhost:{port}");
    let trusting = signaling(&url).with_root_certificate(&certificate).unwrap();
    let mut a = soon(trusting.join(room(1), ep(1))).await.unwrap();
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    assert_eq!(next(&mut a).await, welcome(&[]));
    assert_eq!(next(&mut a).await, SignalingEvent::Joined(ep(2)));
    a.send(blob(2, &[7; 16_384])).unwrap();
    assert_eq!(b.next().await, message_frame(1, &[7; 16_384]));
    drop(a);
    assert_eq!(b.next().await, json!({"type": "left", "ep": ep_text(1)}));

    let elsewhere = signaling(&format!("wss://127.0.0.1:{port}"))
        .with_root_certificate(&certificate)
        .unwrap();
    for distrusting in [signaling(&url), elsewhere] {
        let error = soon(distrusting.join(room(1), ep(3))).await.unwrap_err();
        let is_about_tls =
            |reason: &String| reason.contains("TLS") && reason.contains("certificate");
        assert!(
            matches!(&error, SignalingError::Unreachable { reason, .. } if is_about_tls(reason)),
            "{error}"
        );
    }
    let plain = soon(signaling(&format!("ws://localhost:{port}")).join(room(1), ep(3)))
        .await
        .unwrap_err();
    assert!(
        matches!(
            plain,
            SignalingError::Garbage { .. } | SignalingError::Unreachable { .. }
        ),
        "{plain}"
    );
    let encrypted = soon(signaling(&format!("wss://{}", server.address)).join(room(1), ep(3)))
        .await
        .unwrap_err();
    assert!(encrypted.to_string().contains("TLS"), "{encrypted}");
}
