//! Clients that mean harm, each kind against the program in a process of its own. Whatever they do, the process lives,
//! others are served, the offender is told why it is closed, and resident memory grows by at most 16 MiB at its peak.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use futures_util::StreamExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use super::{
    process::{Process, peak, resident},
    server::{assert_works, frame, header},
    support::{Client, ep_text, exchange, join_frame, message_frame, room, send_frame, soon, text},
};

/// What the program may grow by.
const MAY_GROW: u64 = 16 << 20;

/// The largest message, in bytes.
const LONGEST: usize = 24 << 10;

/// As many messages and bytes as anybody likes.
const UNMETERED: &[&str] = &[
    "--messages-per-second=4294967295",
    "--message-burst=4294967295",
    "--bytes-per-second=4294967295",
    "--byte-burst=4294967295",
];

/// The program, and what it needed before anybody was hostile.
struct Siege {
    process: Process,
    base: u64,
    /// Of the next offender.
    names: AtomicU8,
}

impl Siege {
    async fn begin() -> Self {
        Self::with(&[]).await
    }

    async fn with(arguments: &[&str]) -> Self {
        let process = Process::quiet(arguments).await;
        assert_works(process.address).await;
        let base = resident(&process);
        Self {
            process,
            base,
            names: AtomicU8::new(2),
        }
    }

    fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// A member of room 1, named 2.
    async fn offender(&self) -> Client {
        Client::join(self.address(), 1, 2).await.0
    }

    /// The code that a member is closed with who sends `bytes`.
    async fn code_for(&self, bytes: &[u8]) -> u16 {
        // Under a name of its own: the one before may not have left its room yet.
        let name = self.names.fetch_add(1, Ordering::Relaxed);
        let (mut offender, _) = Client::join(self.address(), 1, name).await;
        write(&mut offender, bytes).await;
        offender.close_code().await
    }

    /// It lives, serves others, and has not grown.
    async fn end(mut self) {
        assert_works(self.address()).await;
        assert_eq!(self.process.child.try_wait().unwrap(), None);
        let grown = peak(&self.process).saturating_sub(self.base);
        assert!(grown <= MAY_GROW, "grown by {} KiB", grown >> 10);
    }
}

/// Sends bytes below WebSocket. The server may close before it has taken all of them.
async fn write(client: &mut Client, bytes: &[u8]) {
    let _ = soon(client.0.get_mut().write_all(bytes)).await;
}

/// A connection from another address of this machine, as from another client's network.
async fn connect_from(n: u16, server: SocketAddr) -> TcpStream {
    let [high, low] = n.to_be_bytes();
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind((Ipv4Addr::new(127, 2, high, low), 0).into())
        .unwrap();
    soon(socket.connect(server)).await.unwrap()
}

/// Waits until the server ends the connection.
async fn ended(mut stream: TcpStream) {
    let mut discarded = [0; 1_024];
    while stream.read(&mut discarded).await.is_ok_and(|read| read > 0) {}
}

#[tokio::test]
async fn unfinished_frames_hold_no_more_than_a_frame_each() {
    let siege = Siege::begin().await;
    for announced in [14 << 20, u64::MAX >> 1, LONGEST as u64 + 1] {
        assert_eq!(siege.code_for(&header(0x81, announced)).await, 1009);
    }
    let mut unfinished = frame(0x81, &[b' '; LONGEST]);
    unfinished.pop();
    let mut holding = Vec::new();
    for n in 0..250 {
        let (mut client, _) = Client::join(siege.address(), 10 + n / 30, n % 30).await;
        write(&mut client, &unfinished).await;
        holding.push(client);
    }
    assert_works(siege.address()).await;
    // The last byte shows that it was all held: spaces are no envelope, and an error comes back.
    for client in &mut holding {
        write(client, b" ").await;
        while client.next().await["type"] != "error" {}
    }
    siege.end().await;
}

#[tokio::test]
async fn a_frame_may_come_byte_by_byte() {
    let siege = Siege::begin().await;
    let (mut witness, _) = Client::join(siege.address(), 1, 1).await;
    let mut slow = siege.offender().await;
    assert_eq!(witness.next().await["type"], "joined");
    for byte in frame(0x81, send_frame(1, b"slowly").to_string().as_bytes()) {
        write(&mut slow, &[byte]).await;
    }
    assert_eq!(witness.next().await, message_frame(2, b"slowly"));
    siege.end().await;
}

#[tokio::test]
async fn messages_in_too_many_fragments_are_given_up() {
    let endless = |fragment| {
        let further = frame(0x00, fragment).repeat(1_000);
        [frame(0x01, fragment), further].concat()
    };
    let generous = Siege::with(&["--message-burst=2000"]).await;
    for fragment in [&b""[..], b" "] {
        assert_eq!(generous.code_for(&endless(fragment)).await, 4013);
    }
    generous.end().await;
    // Each is a frame for the token bucket, and so is what comes between them.
    let siege = Siege::begin().await;
    assert_eq!(siege.code_for(&endless(b" ")).await, 4008);
    let pings = [frame(0x01, b" "), frame(0x89, b"").repeat(200)].concat();
    assert_eq!(siege.code_for(&pings).await, 4008);
    siege.end().await;
}

#[tokio::test]
async fn a_reader_that_never_reads_ends_alone() {
    // Time for the deaf to hear why, once it listens.
    let siege = Siege::with(&[UNMETERED, &["--close-timeout=60s"]].concat()).await;
    let (mut sender, _) = Client::join(siege.address(), 1, 1).await;
    let frame = send_frame(2, &[7; 16_384]).to_string();
    let (mut sent, mut victims) = (0, 0);
    while sent < 380 << 20 {
        let mut deaf = siege.offender().await;
        victims += 1;
        // The system holds some megabytes for both ends before the server's own queue fills.
        let mut left = false;
        while !left {
            sender.send_raw(Message::text(frame.clone())).await.unwrap();
            sent += frame.len();
            tokio::select! {
                biased;
                event = sender.0.next() => {
                    let event = event.unwrap().unwrap().into_text().unwrap();
                    left = event.contains("\"left\"");
                }
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(deaf.close_code().await, 4009);
    }
    assert!(victims > 1);
    siege.end().await;
}

#[tokio::test]
async fn messages_to_nobody_are_answered_and_not_kept() {
    const FRAMES: usize = 5_000;
    let siege = Siege::with(UNMETERED).await;
    let frame = Message::text(send_frame(9, &[7; 16_384]).to_string());
    let mut reading = siege.offender().await;
    let mut errors = 0;
    for _ in 0..FRAMES {
        reading.send_raw(frame.clone()).await.unwrap();
        assert_eq!(reading.next_error().await, "unknown_peer");
        errors += 1;
    }
    assert_eq!(errors, FRAMES);
    // Who does not read its errors is closed for them.
    let mut deaf = Client::join(siege.address(), 1, 3).await.0;
    while deaf.send_raw(Message::text("{")).await.is_ok() {}
    siege.end().await;
}

#[tokio::test]
async fn rooms_that_come_and_go_leave_nothing() {
    let siege = Siege::begin().await;
    for n in 0..400_u16 {
        let [high, low] = n.to_be_bytes();
        let mut id = room(high).0;
        id[1] = low;
        let mut client = Client::open(siege.address()).await;
        client
            .send(json!({"type": "join", "room": text(&id), "ep": ep_text(1)}))
            .await;
        assert_eq!(client.next().await["type"], "welcome");
        if n % 2 == 0 {
            client.send(json!({"type": "leave"})).await;
            assert_eq!(client.close_code().await, 1000);
        }
    }
    siege.end().await;
}

#[tokio::test]
async fn slow_requests_are_given_up_at_the_handshake_deadline() {
    let siege = Siege::with(&["--handshake-timeout=5s"]).await;
    let mut slow = JoinSet::new();
    for n in 0..500 {
        let address = siege.address();
        slow.spawn(async move {
            let mut stream = connect_from(n, address).await;
            let _ = stream
                .write_all(b"GET /v1 HTTP/1.1\r\nHost: x\r\nX: ")
                .await;
            let mut byte = [0];
            // One more byte each time that the server has said nothing for a while.
            while timeout(Duration::from_millis(500), stream.read(&mut byte))
                .await
                .is_err()
                && stream.write_all(b"x").await.is_ok()
            {}
            ended(stream).await;
        });
    }
    assert_works(siege.address()).await;
    soon(slow.join_all()).await;
    siege.end().await;
}

#[tokio::test]
async fn connections_that_say_nothing_are_given_up_at_the_handshake_deadline() {
    let siege = Siege::with(&["--handshake-timeout=5s"]).await;
    let mut silent = JoinSet::new();
    for n in 0..500 {
        silent.spawn(ended(connect_from(n, siege.address()).await));
    }
    assert_works(siege.address()).await;
    soon(silent.join_all()).await;
    siege.end().await;
}

#[tokio::test]
async fn tls_that_is_begun_and_not_finished_is_given_up() {
    let files = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    std::fs::write(&chain, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let mut process = Process::quiet(&[
        "--handshake-timeout=5s",
        "--tls-cert",
        chain.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ])
    .await;
    let base = resident(&process);
    let mut halves = JoinSet::new();
    for n in 0..500 {
        let mut stream = connect_from(n, process.address).await;
        // No TLS, a record that says it is longer than what comes, and one that never ends.
        let bytes: &[u8] = match n % 3 {
            0 => b"GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n",
            1 => b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
            _ => b"\x16",
        };
        let _ = stream.write_all(bytes).await;
        halves.spawn(ended(stream));
    }
    soon(halves.join_all()).await;
    assert_eq!(process.child.try_wait().unwrap(), None);
    let grown = peak(&process).saturating_sub(base);
    assert!(grown <= MAY_GROW, "grown by {} KiB", grown >> 10);
}

#[tokio::test]
async fn floods_of_any_kind_end_at_the_token_bucket() {
    let siege = Siege::begin().await;
    let (mut witness, _) = Client::join(siege.address(), 1, 1).await;
    for flood in [
        frame(0x81, send_frame(1, b"x").to_string().as_bytes()),
        frame(0x81, join_frame(1, 2).to_string().as_bytes()),
        frame(0x81, b"{}"),
        frame(0x81, b""),
        frame(0x82, b"binary"),
        frame(0x89, b"ping"),
        frame(0x89, &[0; 125]),
        frame(0x8a, b"pong"),
    ] {
        let code = siege.code_for(&flood.repeat(1_000)).await;
        assert_eq!(code, 4008, "{:?}", &flood[..2]);
    }
    let (mut joined, mut left) = (0, 0);
    while left < 8 {
        match witness.next().await["type"].as_str().unwrap() {
            "joined" => joined += 1,
            "left" => left += 1,
            _ => {}
        }
    }
    assert_eq!(joined, 8);
    siege.end().await;
}

#[tokio::test]
async fn what_is_no_websocket_frame_is_told_by_its_code() {
    let siege = Siege::begin().await;
    let long = [b' '; LONGEST + 1];
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7f;
    let reserved_bits = [0x91, 0xa1, 0xc1].map(|first| (1002, frame(first, b"{}")));
    let reserved_codes =
        [0x83, 0x84, 0x87, 0x8b, 0x8c, 0x8f].map(|first| (1002, frame(first, b"")));
    let cases = [
        (1002, unmasked),
        (1002, frame(0x80, b"nothing to continue")),
        (1002, [frame(0x01, b"{"), frame(0x81, b"}")].concat()),
        (1002, frame(0x09, b"a ping in fragments")),
        (1002, frame(0x88, b"\x03")),
        (1002, frame(0x88, &1005_u16.to_be_bytes())),
        (1002, frame(0x88, &[0; 126])),
        (1002, frame(0x89, &[0; 126])),
        (1002, header(0x8a, 70_000)),
        (1007, frame(0x81, b"\xff")),
        (1007, frame(0x81, b"\xed\xa0\x80")),
        (1007, frame(0x81, b"\xf4\x90\x80\x80")),
        (1007, frame(0x81, b"cut short \xe2\x82")),
        (
            1007,
            [frame(0x01, b"\xe2\x82"), frame(0x80, b"\x41")].concat(),
        ),
        (1007, frame(0x88, b"\x03\xe8\xff")),
        (1009, frame(0x81, &long)),
        (1009, frame(0x82, &long)),
        (1009, [frame(0x01, &long[1..]), frame(0x80, b" ")].concat()),
    ];
    for (code, bytes) in cases.into_iter().chain(reserved_bits).chain(reserved_codes) {
        let told = siege.code_for(&bytes).await;
        assert_eq!(told, code, "{:x?}", &bytes[..bytes.len().min(16)]);
    }
    siege.end().await;
}

#[tokio::test]
async fn requests_that_are_none_are_refused_and_closed() {
    let siege = Siege::begin().await;
    let long_line = format!("GET /v1 HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let many_lines = format!("GET /v1 HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200));
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(100_000));
    // A TLS record that promises 16 KiB, and nothing of it.
    let hello = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03";
    for (request, statuses) in [
        (long_line.as_bytes(), "431"),
        (many_lines.as_bytes(), "431"),
        (long_path.as_bytes(), "431"),
        (hello, "400"),
        (&b"\0\0\0\0"[..], "400"),
        (b"\r\n\r\n", "400"),
        (b"GET /v1 HTTP/1.1\r\nHost: \xff\x00\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "4"),
    ] {
        for _ in 0..20 {
            let answer = exchange(siege.address(), request).await;
            // A server that does not read all of it resets the connection, and its answer may be lost with it.
            assert!(
                answer.is_empty() && request.len() > 8 << 10
                    || answer.starts_with(&format!("HTTP/1.1 {statuses}")),
                "{answer:?}"
            );
        }
    }
    siege.end().await;
}

#[tokio::test]
async fn who_is_closed_and_goes_on_sending_is_cut_off() {
    let siege = Siege::begin().await;
    let mut offenders = JoinSet::new();
    for n in 3..30 {
        let (mut offender, _) = Client::join(siege.address(), 1, n).await;
        offenders.spawn(async move {
            write(&mut offender, &frame(0x80, b"nothing to continue")).await;
            // It neither reads the close frame nor stops.
            let noise = frame(0x81, &[b' '; 16_000]);
            while offender.0.get_mut().write_all(&noise).await.is_ok() {}
        });
    }
    assert_works(siege.address()).await;
    soon(offenders.join_all()).await;
    siege.end().await;
}

#[tokio::test]
async fn who_vanishes_in_the_middle_of_anything_is_forgotten() {
    let siege = Siege::begin().await;
    let (mut witness, _) = Client::join(siege.address(), 1, 1).await;
    let request = "GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let join = frame(0x81, join_frame(1, 2).to_string().as_bytes());
    let send = frame(0x81, send_frame(1, b"x").to_string().as_bytes());
    let whole = [request.as_bytes(), &join, &send].concat();
    for end in (0..=whole.len()).step_by(7) {
        let mut stream = soon(TcpStream::connect(siege.address())).await.unwrap();
        stream.write_all(&whole[..end]).await.unwrap();
        // Some by a proper end, some by a reset.
        if end % 2 == 0 {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
    }
    soon(async {
        loop {
            let (mut newcomer, peers) = Client::join(siege.address(), 1, 3).await;
            newcomer.send(json!({"type": "leave"})).await;
            assert_eq!(newcomer.close_code().await, 1000);
            if peers == [ep_text(1)] {
                break;
            }
        }
    })
    .await;
    witness.send(send_frame(1, b"still here")).await;
    while witness.next().await["code"] != "unknown_peer" {}
    siege.end().await;
}
