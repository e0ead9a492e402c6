//! Every limit: what a client meets at it, and that it is counted.

use futures_util::StreamExt as _;
use sealwire::server::{Network, ServerLimits, ServerOptions};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    client::IntoClientRequest as _,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use super::support::{Client, Running, exchange, join_frame, send_frame, soon};

async fn start(change: impl FnOnce(&mut ServerLimits)) -> Running {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    Running::with_limits(limits).await
}

/// The value of a sample.
async fn metric(server: &Running, name: &str) -> f64 {
    let text = exchange(server.address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .unwrap_or_else(|| panic!("{name} in {text}"))
        .parse()
        .unwrap()
}

/// How many connections were closed for a reason.
async fn closed(server: &Running, reason: &str) -> f64 {
    metric(
        server,
        &format!("sealwire_closed_total{{reason=\"{reason}\"}}"),
    )
    .await
}

#[tokio::test]
async fn bytes_beyond_the_bucket_close_with_4012() {
    let server = start(|limits| (limits.bytes_per_second, limits.byte_burst) = (100, 10_000)).await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    b.send(send_frame(1, &[0; 5_000])).await;
    assert_eq!(a.next().await["type"], "joined");
    assert_eq!(a.next().await["type"], "message");
    let _ = b.send_raw(Message::text(" ".repeat(9_000))).await;
    assert_eq!(b.close_code().await, 4012);
    assert_eq!(closed(&server, "bytes").await, 1.0);
}

#[tokio::test]
async fn fragments_beyond_the_limit_close_with_4013() {
    let server = start(|limits| limits.fragments = 3).await;
    let fragment =
        |opcode, is_final| Message::Frame(Frame::message(" ", OpCode::Data(opcode), is_final));
    let mut client = Client::open(server.address).await;
    for message in [
        fragment(Data::Text, false),
        fragment(Data::Continue, false),
        fragment(Data::Continue, true),
    ] {
        client.send_raw(message).await.unwrap();
    }
    assert_eq!(client.next_error().await, "bad_frame");
    client.send_raw(fragment(Data::Text, false)).await.unwrap();
    for _ in 0..3 {
        let _ = client.send_raw(fragment(Data::Continue, false)).await;
    }
    assert_eq!(client.close_code().await, 4013);
    assert_eq!(closed(&server, "fragments").await, 1.0);
}

#[tokio::test]
async fn joins_beyond_the_bucket_of_an_address_close_with_4014() {
    let server = start(|limits| (limits.joins_per_second, limits.join_burst) = (1, 2)).await;
    for n in 1..3 {
        let (mut client, _) = Client::join(server.address, 1, n).await;
        client.send(json!({"type": "leave"})).await;
        assert_eq!(client.close_code().await, 1000);
    }
    // One more a second may join, however slow this test is.
    let mut refused = Client::open(server.address).await;
    refused.send(join_frame(1, 3)).await;
    while !matches!(soon(refused.0.next()).await, Some(Ok(Message::Close(_)))) {
        refused = Client::open(server.address).await;
        refused.send(join_frame(1, 3)).await;
    }
    assert_eq!(closed(&server, "joins").await, 1.0);
}

#[tokio::test]
async fn rooms_beyond_the_limits_close_with_4015_and_4016_and_other_rooms_go_on() {
    for (change, code, reason) in [
        (
            (|limits| limits.rooms = 2) as fn(&mut ServerLimits),
            4015,
            "rooms",
        ),
        (
            |limits| limits.rooms_per_address = 2,
            4016,
            "rooms_per_address",
        ),
    ] {
        let server = start(change).await;
        let (_one, _) = Client::join(server.address, 1, 1).await;
        let (mut two, _) = Client::join(server.address, 2, 1).await;
        let mut three = Client::open(server.address).await;
        three.send(join_frame(3, 1)).await;
        assert_eq!(three.close_code().await, code);
        let (_in_one, peers) = Client::join(server.address, 1, 2).await;
        assert_eq!(peers.len(), 1);
        two.send(json!({"type": "leave"})).await;
        assert_eq!(two.close_code().await, 1000);
        let (_three, _) = Client::join(server.address, 3, 1).await;
        assert_eq!(server.stats.rooms(), 2);
        assert_eq!(closed(&server, reason).await, 1.0);
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_of_an_address_are_closed_at_once() {
    let server = start(|limits| limits.connections_per_address = 2).await;
    let (_one, _) = Client::join(server.address, 1, 1).await;
    let (mut two, _) = Client::join(server.address, 1, 2).await;
    let mut three = soon(TcpStream::connect(server.address)).await.unwrap();
    assert!(soon(three.read_u8()).await.is_err());
    two.send(json!({"type": "leave"})).await;
    assert_eq!(two.close_code().await, 1000);
    drop(two);
    soon(async {
        while server.stats.connections() > 1 {
            tokio::task::yield_now().await
        }
    })
    .await;
    let refused = "sealwire_refused_total{reason=\"connections_per_address\"}";
    assert_eq!(metric(&server, refused).await, 1.0);
}

#[tokio::test]
async fn behind_a_proxy_the_address_in_its_header_counts() {
    let (mut limits, mut options) = (ServerLimits::default(), ServerOptions::default());
    limits.connections_per_address = 1;
    options.trusted_proxies = vec!["127.0.0.0/8".parse::<Network>().unwrap()];
    let server = Running::with(limits, options).await;
    let connect = async |from: &str| {
        let request = format!("ws://{}/v1", server.address).into_client_request();
        let mut request = request.unwrap();
        let headers = request.headers_mut();
        headers.insert("x-forwarded-for", from.parse().unwrap());
        Client::try_open(server.address, request).await
    };
    let _one = connect("192.0.2.1").await.unwrap();
    assert_eq!(connect("203.0.113.5, 192.0.2.1").await.err(), Some(429));
    assert_eq!(connect("192.0.2.1, 127.0.0.9").await.err(), Some(429));
    let _two = connect("192.0.2.1, 192.0.2.2").await.unwrap();
    let mut again = soon(TcpStream::connect(server.address)).await.unwrap();
    again
        .write_all(b"GET /metrics HTTP/1.1\r\nX-Forwarded-For: 192.0.2.3\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    soon(again.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[tokio::test]
async fn handshakes_beyond_the_limit_are_closed_at_once() {
    let server = start(|limits| limits.handshakes = 2).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = soon(TcpStream::connect(server.address)).await.unwrap();
        stream.write_all(b"GET ").await.unwrap();
        slow.push(stream);
    }
    let mut third = soon(TcpStream::connect(server.address)).await.unwrap();
    assert!(soon(third.read_u8()).await.is_err());
    drop(slow);
    soon(async {
        while server.stats.connections() > 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    let (_client, _) = Client::join(server.address, 1, 1).await;
    assert_eq!(
        metric(&server, "sealwire_refused_total{reason=\"handshakes\"}").await,
        1.0
    );
}

#[tokio::test]
async fn what_happens_is_counted() {
    let server = start(|_| {}).await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    for _ in 0..3 {
        b.send(send_frame(1, &[0; 300])).await;
    }
    assert_eq!(a.next().await["type"], "joined");
    for _ in 0..3 {
        assert_eq!(a.next().await["type"], "message");
    }
    b.send(json!({"type": "dance"})).await;
    assert_eq!(b.next_error().await, "unknown_type");
    for (name, expected) in [
        ("sealwire_connections", 3.0),
        ("sealwire_rooms", 1.0),
        ("sealwire_addresses", 1.0),
        ("sealwire_opened_total", 2.0),
        ("sealwire_joins_total", 2.0),
        ("sealwire_relayed_total", 3.0),
        ("sealwire_relay_seconds_count", 3.0),
        ("sealwire_errors_total", 1.0),
        ("sealwire_queued_total", 0.0),
    ] {
        assert_eq!(metric(&server, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn one_byte_at_a_time_is_a_message_too() {
    let server = start(|_| {}).await;
    let mut client = Client::open(server.address).await;
    let join = join_frame(1, 1).to_string();
    let mut frame = vec![0x81, 0x80 | u8::try_from(join.len()).unwrap(), 0, 0, 0, 0];
    frame.extend(join.as_bytes());
    for byte in frame {
        soon(client.0.get_mut().write_all(&[byte])).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.next().await["type"], "welcome");
}
