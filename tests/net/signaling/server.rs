//! The server, as strangers find it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use futures_util::StreamExt as _;
use sealwire::server::ServerLimits;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use super::support::{
    Client, Running, ep_text, exchange, join_frame, message_frame, room, send_frame, soon, text,
};

const MILLISECONDS_50: Duration = Duration::from_millis(50);

/// The defaults with changes.
fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerLimits {
    let mut limits = ServerLimits::default();
    change(&mut limits);
    limits
}

/// As many messages as anybody likes.
fn unmetered(limits: &mut ServerLimits) {
    limits.messages_per_second = u32::MAX;
    limits.message_burst = u32::MAX;
    limits.bytes_per_second = u32::MAX;
    limits.byte_burst = u32::MAX;
}

/// Whether two strangers can still meet and talk.
pub(super) async fn assert_works(address: SocketAddr) {
    let (mut a, _) = Client::join(address, 200, 1).await;
    let (mut b, peers) = Client::join(address, 200, 2).await;
    assert_eq!(peers, [ep_text(1)]);
    assert_eq!(a.next().await, json!({"type": "joined", "ep": ep_text(2)}));
    b.send(send_frame(1, b"works")).await;
    assert_eq!(a.next().await, message_frame(2, b"works"));
    b.send(json!({"type": "leave"})).await;
    assert_eq!(a.next().await, json!({"type": "left", "ep": ep_text(2)}));
}

/// R-40, R-41, R-43.
#[tokio::test]
async fn endpoints_meet_talk_and_part() {
    let server = Running::start().await;
    assert_works(server.address).await;
}

/// R-41.
#[tokio::test]
async fn a_blob_of_any_size_arrives_as_it_was_sent() {
    let server = Running::start().await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    for bytes in [0, 1, 2, 3, 1_215, 5_000, 16_383, 16_384] {
        let blob: Vec<u8> = (0..bytes).map(|n| (n * 7) as u8).collect();
        b.send(send_frame(1, &blob)).await;
        if bytes == 0 {
            assert_eq!(a.next().await["type"], "joined");
        }
        assert_eq!(a.next().await, message_frame(2, &blob), "{bytes}");
    }
}

/// R-46.
#[tokio::test]
async fn each_mistake_has_its_code_and_the_connection_goes_on() {
    let server = Running::start().await;
    let mut client = Client::open(server.address).await;
    let unjoined = [
        (json!({"type": "dance"}), "unknown_type"),
        (json!({}), "bad_frame"),
        (json!([]), "bad_frame"),
        (
            json!({"type": "send", "to": ep_text(1), "blob": ""}),
            "not_joined",
        ),
        (json!({"type": "leave"}), "not_joined"),
        (
            json!({"type": "join", "room": "AAAA", "ep": ep_text(1)}),
            "bad_field",
        ),
        (
            json!({"type": "join", "room": text(&room(1).0), "ep": 7}),
            "bad_field",
        ),
    ];
    let joined = [
        (join_frame(1, 1), "already_joined"),
        (join_frame(2, 2), "already_joined"),
        (send_frame(9, b"x"), "unknown_peer"),
        (send_frame(1, b"x"), "unknown_peer"),
        (send_frame(9, &[0; 16_385]), "too_large"),
        (
            json!({"type": "send", "to": ep_text(1), "blob": "AA=="}),
            "bad_field",
        ),
        (
            json!({"type": "send", "to": ep_text(1), "blob": "AB"}),
            "bad_field",
        ),
        (
            json!({"type": "message", "from": ep_text(1), "blob": ""}),
            "unknown_type",
        ),
    ];
    for (frame, code) in unjoined {
        client.send(frame.clone()).await;
        assert_eq!(client.next_error().await, code, "{frame}");
    }
    client.send(join_frame(1, 1)).await;
    assert_eq!(client.next().await, json!({"type": "welcome", "peers": []}));
    for (frame, code) in joined {
        client.send(frame.clone()).await;
        assert_eq!(client.next_error().await, code, "{frame}");
    }
    for message in [
        Message::text("{"),
        Message::text(""),
        Message::binary(vec![0; 9]),
    ] {
        client.send_raw(message).await.unwrap();
        assert_eq!(client.next_error().await, "bad_frame");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_room_that_is_full_let_the_client_try_again() {
    let server = Running::with_limits(limits(|limits| limits.members = 2)).await;
    let (_a, _) = Client::join(server.address, 1, 1).await;
    let mut late = Client::open(server.address).await;
    late.send(join_frame(1, 1)).await;
    assert_eq!(late.next_error().await, "duplicate_ep");
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    late.send(join_frame(1, 3)).await;
    assert_eq!(late.next_error().await, "room_full");
    b.send(json!({"type": "leave"})).await;
    assert_eq!(b.close_code().await, 1000);
    late.send(join_frame(1, 3)).await;
    assert_eq!(
        late.next().await,
        json!({"type": "welcome", "peers": [ep_text(1)]})
    );
}

/// R-44.
#[tokio::test]
async fn a_room_has_32_members_by_default() {
    let server = Running::start().await;
    let mut members = Vec::new();
    for n in 0..32 {
        let (client, peers) = Client::join(server.address, 1, n).await;
        assert_eq!(peers.len(), usize::from(n));
        members.push(client);
    }
    let mut late = Client::open(server.address).await;
    late.send(join_frame(1, 32)).await;
    assert_eq!(late.next_error().await, "room_full");
}

#[tokio::test]
async fn rooms_know_nothing_of_each_other() {
    let server = Running::start().await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, peers) = Client::join(server.address, 2, 2).await;
    assert_eq!(peers, [""; 0]);
    let (mut c, peers) = Client::join(server.address, 2, 1).await;
    assert_eq!(peers, [ep_text(2)]);
    assert_eq!(b.next().await, json!({"type": "joined", "ep": ep_text(1)}));
    a.send(send_frame(2, b"across")).await;
    assert_eq!(a.next_error().await, "unknown_peer");
    b.send(send_frame(1, b"within")).await;
    assert_eq!(c.next().await, message_frame(2, b"within"));
}

/// R-43.
#[tokio::test]
async fn who_leaves_is_told_1000_and_the_others_that_it_left_once() {
    let server = Running::start().await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    let (c, _) = Client::join(server.address, 1, 3).await;
    for n in [2, 3] {
        assert_eq!(a.next().await, json!({"type": "joined", "ep": ep_text(n)}));
    }
    b.send(send_frame(1, b"last words")).await;
    b.send(send_frame(9, b"to nobody")).await;
    b.send(json!({"type": "leave"})).await;
    b.send(send_frame(1, b"too late")).await;
    assert_eq!(a.next().await, message_frame(2, b"last words"));
    assert_eq!(a.next().await, json!({"type": "left", "ep": ep_text(2)}));
    while b.next().await != json!({"type": "joined", "ep": ep_text(3)}) {}
    assert_eq!(b.next_error().await, "unknown_peer");
    assert_eq!(b.close_code().await, 1000);
    drop(c);
    assert_eq!(a.next().await, json!({"type": "left", "ep": ep_text(3)}));
    let (_, peers) = Client::join(server.address, 1, 2).await;
    assert_eq!(peers, [ep_text(1)]);
}

/// R-47.
#[tokio::test]
async fn state_is_freed_with_the_last_member_however_it_goes() {
    let server = Running::start().await;
    for round in 0..50 {
        let (mut polite, _) = Client::join(server.address, round, 1).await;
        let (mut closing, _) = Client::join(server.address, round, 2).await;
        let (rude, _) = Client::join(server.address, round, 3).await;
        polite.send(json!({"type": "leave"})).await;
        closing.0.close(None).await.unwrap();
        drop(rude);
    }
    server.emptied().await;
    assert_works(server.address).await;
}

/// R-45.
#[tokio::test]
async fn a_flood_ends_with_4008_and_harms_nobody_else() {
    // So low a rate that a test that is slow gains little by it.
    let server = Running::with_limits(limits(|limits| limits.messages_per_second = 1)).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    for flood in [
        Message::text(send_frame(2, b"x").to_string()),
        Message::text("{"),
        Message::Ping(vec![1].into()),
    ] {
        let (mut a, _) = Client::join(server.address, 1, 1).await;
        for _ in 0..100 {
            if a.send_raw(flood.clone()).await.is_err() {
                break;
            }
        }
        assert_eq!(a.close_code().await, 4008);
    }
    let mut seen = BTreeMap::new();
    while seen.get("left").copied().unwrap_or_default() < 3 {
        let kind = b.next().await["type"].as_str().unwrap().to_owned();
        *seen.entry(kind).or_insert(0) += 1;
    }
    // The bucket holds 64, the join took one, and some time may have passed.
    assert!((63..75).contains(&seen["message"]), "{seen:?}");
    assert_works(server.address).await;
}

#[tokio::test]
async fn within_its_rate_a_client_is_never_refused() {
    let server = Running::start().await;
    let (mut a, _) = Client::join(server.address, 1, 1).await;
    let (mut b, _) = Client::join(server.address, 1, 2).await;
    assert_eq!(a.next().await["type"], "joined");
    for n in 0..63 {
        b.send(send_frame(1, &[n])).await;
    }
    for n in 0..63 {
        assert_eq!(a.next().await, message_frame(2, &[n]));
    }
}

/// A frame header of a client, with a mask of zeros.
pub(super) fn header(first: u8, length: u64) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..126 => frame.push(0x80 | length as u8),
        126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame
}

pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [header(first, payload.len() as u64), payload.to_vec()].concat()
}

#[tokio::test]
async fn what_breaks_websocket_ends_one_connection_with_the_right_code() {
    let server = Running::start().await;
    let (mut witness, _) = Client::join(server.address, 1, 1).await;
    let long = vec![b' '; 24_577];
    let cases = [
        (1009, header(0x81, 14 << 20)),
        (1009, header(0x81, u64::MAX >> 1)),
        (1009, frame(0x81, &long)),
        (
            1009,
            [frame(0x01, &long[..20_000]), frame(0x80, &long[..5_000])].concat(),
        ),
        (1007, frame(0x81, b"{\"type\":\"\xff\"}")),
        (
            1007,
            [frame(0x01, b"\xe2\x82"), frame(0x80, b"\x41")].concat(),
        ),
        (1007, frame(0x88, b"\x03\xe8\xff\xff")),
        (1002, vec![0x81, 2, b'{', b'}']),
        (1002, frame(0xc1, b"{}")),
        (1002, frame(0x83, b"")),
        (1002, frame(0x8b, b"")),
        (1002, frame(0x80, b"")),
        (1002, frame(0x09, b"")),
        (1002, frame(0x89, &[0; 126])),
        (1002, [frame(0x01, b"{"), frame(0x81, b"}")].concat()),
        (1002, frame(0x88, b"\x03")),
    ];
    for (code, bytes) in cases {
        let (mut client, _) = Client::join(server.address, 1, 2).await;
        assert_eq!(witness.next().await["type"], "joined");
        soon(client.0.get_mut().write_all(&bytes)).await.unwrap();
        assert_eq!(
            client.close_code().await,
            code,
            "{:x?}",
            &bytes[..bytes.len().min(16)]
        );
        assert_eq!(witness.next().await["type"], "left");
    }
}

#[tokio::test]
async fn the_largest_frame_is_accepted_and_fragments_are_joined() {
    let server = Running::start().await;
    let mut client = Client::open(server.address).await;
    let join = join_frame(1, 1).to_string();
    let padded = format!("{join:24576}");
    let (head, tail) = padded.as_bytes().split_at(9);
    let bytes = [
        frame(0x01, head),
        frame(0x89, b"ping"),
        frame(0x00, b""),
        frame(0x80, tail),
    ]
    .concat();
    soon(client.0.get_mut().write_all(&bytes)).await.unwrap();
    assert_eq!(client.next().await["type"], "welcome");
}

#[tokio::test]
async fn random_bytes_never_stop_the_server() {
    let server = Running::start().await;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|_| random()).collect();
        let mut client = Client::open(server.address).await;
        let _ = soon(client.0.get_mut().write_all(&bytes)).await;
        let mut raw = soon(TcpStream::connect(server.address)).await.unwrap();
        let _ = soon(raw.write_all(&bytes)).await;
    }
    assert_works(server.address).await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_with_4009_and_holds_nobody_up() {
    let server = Running::with_limits(limits(unmetered)).await;
    let (mut fast, _) = Client::join(server.address, 1, 1).await;
    let (mut slow, _) = Client::join(server.address, 1, 2).await;
    assert_eq!(fast.next().await["type"], "joined");
    let frame = Message::text(send_frame(2, &[7; 16_384]).to_string());
    // The system buffers some megabytes for both ends before the server's own queue fills.
    let left = loop {
        fast.send_raw(frame.clone()).await.unwrap();
        tokio::select! {
            biased;
            event = fast.0.next() => break event.unwrap().unwrap().into_text().unwrap(),
            () = std::future::ready(()) => {}
        }
    };
    let left: Value = serde_json::from_str(&left).unwrap();
    assert_eq!(left, json!({"type": "left", "ep": ep_text(2)}));
    assert_eq!(slow.close_code().await, 4009);
    assert_works(server.address).await;
}

/// R-40, R-42.
#[tokio::test]
async fn welcome_comes_first_and_messages_of_a_pair_stay_in_order() {
    const MEMBERS: u8 = 16;
    const EACH: u8 = 20;
    let server = Running::with_limits(limits(unmetered)).await;
    let members = (0..MEMBERS).map(|n| {
        let address = server.address;
        tokio::spawn(async move {
            let mut client = Client::open(address).await;
            client.send(join_frame(1, n)).await;
            let mut welcomed = false;
            let mut next_of = BTreeMap::new();
            while next_of.values().filter(|next| **next == EACH).count() < usize::from(MEMBERS) - 1
            {
                let frame = client.next().await;
                let new = match frame["type"].as_str().unwrap() {
                    "welcome" => frame["peers"].as_array().unwrap().clone(),
                    "joined" => vec![frame["ep"].clone()],
                    "message" => {
                        let next = next_of.entry(frame["from"].to_string()).or_insert(0);
                        assert_eq!(frame["blob"], text(&[*next]));
                        *next += 1;
                        vec![]
                    }
                    _ => panic!("{frame}"),
                };
                assert_eq!(frame["type"] == "welcome", !welcomed);
                welcomed = true;
                for to in new {
                    for blob in 0..EACH {
                        client
                            .send(json!({"type": "send", "to": to, "blob": text(&[blob])}))
                            .await;
                    }
                }
            }
            client
        })
    });
    let mut done = Vec::new();
    for member in members.collect::<Vec<_>>() {
        done.push(soon(member).await.unwrap());
    }
}

#[tokio::test]
async fn who_does_not_join_or_does_not_even_shake_hands_is_closed() {
    let server = Running::with_limits(limits(|limits| limits.join = MILLISECONDS_50)).await;
    let mut idle = Client::open(server.address).await;
    assert_eq!(idle.close_code().await, 4010);
    let mut erring = Client::open(server.address).await;
    let _ = erring.send_raw(Message::text(r#"{"type":"dance"}"#)).await;
    assert_eq!(erring.close_code().await, 4010);
    let server = Running::with_limits(limits(|limits| limits.handshake = MILLISECONDS_50)).await;
    assert_eq!(exchange(server.address, b"GET /v1 HTT").await, "");
    assert_eq!(exchange(server.address, b"").await, "");
}

#[tokio::test]
async fn a_silent_client_is_pinged_twice_and_then_closed() {
    let server = Running::with_limits(limits(|limits| limits.ping = MILLISECONDS_50)).await;
    let (witness, _) = Client::join(server.address, 1, 1).await;
    let mut witness = witness.0;
    let (mut silent, _) = Client::join(server.address, 1, 2).await;
    // The witness answers pings because it is read from; the silent one is read from only after its end.
    let left = soon(async {
        loop {
            if let Message::Text(text) = witness.next().await.unwrap().unwrap()
                && text.contains("left")
            {
                return text;
            }
        }
    });
    assert!(left.await.contains(&ep_text(2)));
    let mut pings = 0;
    loop {
        match soon(silent.0.next()).await.unwrap().unwrap() {
            Message::Ping(_) => pings += 1,
            Message::Close(frame) => {
                assert_eq!((u16::from(frame.unwrap().code), pings), (4011, 2));
                break;
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn http_is_answered_as_http() {
    let server = Running::start().await;
    let long = format!("GET /v1 HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9_000));
    for (request, status) in [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        ("GET /v1/ HTTP/1.1\r\nHost: x\r\n\r\n", "404 Not Found"),
        (
            "POST /v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
            "405 Method Not Allowed",
        ),
        (
            "GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n",
            "426 Upgrade Required",
        ),
        ("NOT HTTP\r\n\r\n", "400 Bad Request"),
        ("\x16\x03\x01 as TLS begins", "400 Bad Request"),
        (long.as_str(), "431 Request Header Fields Too Large"),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert_eq!(answer.ends_with("\r\n\r\nok"), status == "200 OK");
    }
}

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_not_lost() {
    let server = Running::start().await;
    let mut stream = soon(TcpStream::connect(server.address)).await.unwrap();
    let handshake = "GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let join = frame(0x81, join_frame(1, 1).to_string().as_bytes());
    stream
        .write_all(&[handshake.as_bytes(), &join].concat())
        .await
        .unwrap();
    let mut seen = Vec::new();
    soon(async {
        while !seen.ends_with(b"{\"type\":\"welcome\",\"peers\":[]}") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
    })
    .await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_until_there_is_room() {
    let server = Running::with_limits(limits(|limits| limits.connections = 1)).await;
    let (mut first, _) = Client::join(server.address, 1, 1).await;
    let mut second = soon(TcpStream::connect(server.address)).await.unwrap();
    assert_eq!(
        soon(second.read_u8()).await.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::UnexpectedEof)
    );
    first.send(json!({"type": "leave"})).await;
    assert_eq!(first.close_code().await, 1000);
    drop(first);
    soon(async {
        let handshake = b"GET /healthz HTTP/1.1\r\n\r\n";
        while !exchange(server.address, handshake).await.ends_with("ok") {}
    })
    .await;
}

#[tokio::test]
async fn a_stopping_server_says_1001_and_then_is_gone() {
    let server = Running::start().await;
    let address = server.address;
    let (mut joined, _) = Client::join(address, 1, 1).await;
    let mut idle = Client::open(address).await;
    let _shaking_hands = soon(TcpStream::connect(address)).await.unwrap();
    let stopping = server.stop();
    assert_eq!(joined.close_code().await, 1001);
    assert_eq!(idle.close_code().await, 1001);
    drop((joined, idle));
    soon(stopping).await.unwrap();
    assert!(soon(TcpStream::connect(address)).await.is_err());
}
