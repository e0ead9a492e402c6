//! Rooms for clients that know nothing of this crate, spoken to as they speak: raw WebSocket, JSON, no hello.

use std::net::SocketAddr;

use futures_util::StreamExt as _;
use sealwire::server::{LegacyRooms, ServerLimits, ServerOptions};
use serde_json::json;
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};

use super::support::{Client, Running, soon};

async fn start(change: impl FnOnce(&mut ServerLimits)) -> Running {
    let (mut limits, mut options) = (ServerLimits::default(), ServerOptions::default());
    options.legacy = LegacyRooms::On;
    change(&mut limits);
    Running::with(limits, options).await
}

async fn pair(address: SocketAddr, path: &str) -> (Client, Client) {
    let a = Client::open_at(address, path).await;
    (a, Client::open_at(address, path).await)
}

async fn next_text(client: &mut Client) -> Utf8Bytes {
    match soon(client.0.next()).await {
        Some(Ok(Message::Text(text))) => text,
        other => panic!("{other:?} instead of text"),
    }
}

#[tokio::test]
async fn what_one_sends_the_other_gets_unchanged_as_text_and_nothing_else() {
    let server = start(|_| {}).await;
    for path in ["/", "/legacy/chat", "/legacy/other"] {
        let (mut a, mut b) = pair(server.address, path).await;
        let texts = [
            r#"{"type":"offer","sdp":"v=0\r\n"}"#,
            r#"{ "type":"candidate", "candidate":{"candidate":"x","sdpMLineIndex":0,"sdpMid":"0"} }"#,
            r#"{"type":"ice-candidate","candidate":{}}"#,
            r#"{"type":"signal","payload":{"renegotiate":true}}"#,
            "[1.50, 1e3]",
        ];
        for text in texts {
            a.send_raw(Message::text(text)).await.unwrap();
            assert_eq!(next_text(&mut b).await, text);
            b.send_raw(Message::Binary(Bytes::from_static(text.as_bytes())))
                .await
                .unwrap();
            assert_eq!(
                next_text(&mut a).await,
                text,
                "binary frames arrive as text"
            );
        }
    }
}

#[tokio::test]
async fn a_third_is_refused_without_harm_and_may_come_when_one_has_left() {
    let server = start(|_| {}).await;
    let (mut a, mut b) = pair(server.address, "/legacy/two").await;
    let mut third = Client::open_at(server.address, "/legacy/two").await;
    assert_eq!(third.close_code().await, 4018);
    a.send_raw(Message::text("{}")).await.unwrap();
    assert_eq!(next_text(&mut b).await, "{}");
    drop((a, third));
    soon(async {
        while server.stats.connections() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut fourth = Client::open_at(server.address, "/legacy/two").await;
    fourth.send_raw(Message::text("4")).await.unwrap();
    assert_eq!(next_text(&mut b).await, "4");
}

#[tokio::test]
async fn what_is_sent_to_nobody_is_not_kept() {
    let server = start(|_| {}).await;
    let mut a = Client::open_at(server.address, "/").await;
    a.send_raw(Message::text("\"early\"")).await.unwrap();
    a.send_raw(Message::Ping(Bytes::new())).await.unwrap();
    assert!(matches!(soon(a.0.next()).await, Some(Ok(Message::Pong(_)))));
    let mut b = Client::open_at(server.address, "/").await;
    // The answer to its ping shows that b is in the room.
    b.send_raw(Message::Ping(Bytes::new())).await.unwrap();
    assert!(matches!(soon(b.0.next()).await, Some(Ok(Message::Pong(_)))));
    a.send_raw(Message::text("\"late\"")).await.unwrap();
    assert_eq!(next_text(&mut b).await, "\"late\"");
}

#[tokio::test]
async fn one_bad_message_ends_one_connection_and_not_the_server() {
    let server = start(|_| {}).await;
    for (message, code) in [
        (Message::text("{"), 1007),
        (Message::text("hello"), 1007),
        (Message::Binary(Bytes::from_static(b"\xff")), 1007),
        (Message::text(format!("\"{}\"", "x".repeat(24_576))), 1009),
    ] {
        let (mut a, mut b) = pair(server.address, "/legacy/bad").await;
        a.send_raw(message).await.unwrap();
        assert_eq!(a.close_code().await, code);
        b.0.close(None).await.unwrap();
        while soon(b.0.next())
            .await
            .is_some_and(|message| message.is_ok())
        {}
        server.emptied().await;
    }
}

#[tokio::test]
async fn the_limits_hold_here_too() {
    let server = start(|limits| (limits.messages_per_second, limits.message_burst) = (1, 5)).await;
    let (mut a, mut b) = pair(server.address, "/legacy/x").await;
    for n in 0..40 {
        let _ = a.send_raw(Message::text(n.to_string())).await;
    }
    assert_eq!(a.close_code().await, 4008);
    for n in 0..5 {
        assert_eq!(next_text(&mut b).await, n.to_string());
    }
}

#[tokio::test]
async fn rooms_of_both_kinds_do_not_meet_and_without_the_option_there_are_none() {
    let server = start(|_| {}).await;
    let (mut legacy, _) = pair(server.address, "/").await;
    let (mut member, peers) = Client::join(server.address, 1, 1).await;
    assert_eq!(peers, [""; 0]);
    legacy
        .send_raw(Message::text(r#"{"type":"leave"}"#))
        .await
        .unwrap();
    member.send(json!({"type": "leave"})).await;
    assert_eq!(member.close_code().await, 1000);
    let server = Running::start().await;
    for path in ["/", "/legacy/x"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = super::support::exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    }
}
