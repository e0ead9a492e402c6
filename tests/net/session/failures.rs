//! What each thing that goes wrong is called, and what it says to people.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use sealwire::{
    Config, Error, Identity, Invite, InviteError, OsEntropy, PlainSignaling,
    error::Evidence,
    protocol::Event,
    session::{Builder, Session},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{accept_async, tungstenite::Message as Frame};

use super::support::{
    Running, assert_works, connect, copy, event, invited, pair, soon, texts_until_closed,
};

fn names(error: &Error, cause: &str) {
    assert!(error.to_string().contains(cause), "{error}");
}

async fn refused(builder: Builder) -> Error {
    soon(builder.connect()).await.unwrap_err()
}

#[test]
fn a_damaged_invite_says_how_to_copy_it() {
    let invite = Invite::new(&Identity::generate(), "ws://127.0.0.1:1").unwrap();
    let text = invite.to_string();
    let error = Error::from(text[..40].parse::<Invite>().unwrap_err());
    assert_eq!(error, Error::Invite(InviteError::Damaged));
    names(&error, "copy all of it again");
    let error = Error::from("hello".parse::<Invite>().unwrap_err());
    assert_eq!(error, Error::Invite(InviteError::NotAnInvite));
    names(&error, "sealwire1:");
}

#[tokio::test]
async fn an_invite_that_expired_ends_both_sides_at_once() {
    let server = Running::start().await;
    let inviter = Identity::generate();
    let long_ago = 1_000_000_000;
    let invite = Invite::expiring_at(
        &inviter,
        &server.url(),
        long_ago,
        PlainSignaling::LoopbackOnly,
        &mut OsEntropy,
    )
    .unwrap();
    let redeeming = Session::builder(Identity::generate()).redeem(copy(&invite));
    for builder in [redeeming, Session::builder(inviter).invite(invite)] {
        let error = refused(builder).await;
        let evidence = Evidence::Authenticated;
        assert_eq!(error, Error::InviteExpired { evidence });
        names(&error, "expired");
    }
    server.has_rooms(0).await;
}

#[tokio::test]
async fn a20_a_used_invite_is_refused_to_the_second_and_the_inviter_is_told() {
    let server = Running::start().await;
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &server.url()).unwrap();
    let redeeming = || Session::builder(Identity::generate()).redeem(copy(&invite));
    let (first, late) = (redeeming(), redeeming());
    let (inviter, first) = connect(Session::builder(inviter).invite(invite), first).await;
    let error = refused(late).await;
    assert!(matches!(error, Error::InviteUsed { .. }), "{error:?}");
    assert!(error.is_suspicious());
    names(&error, "used before");
    assert!(matches!(event(&inviter).await, Event::Established { .. }));
    let told = event(&inviter).await;
    assert!(matches!(told, Event::InviteAlreadyUsed), "{told:?}");
    assert_works(&inviter, &first).await;
}

#[tokio::test]
async fn an_invite_that_nobody_waits_for_ends_after_the_time_given() {
    let server = Running::start().await;
    let (_, redeemer) = invited(&server);
    let mut config = Config::default();
    config.timeouts.peer = Duration::from_millis(300);
    let error = refused(redeemer.config(config)).await;
    let waited = Duration::from_millis(300);
    assert_eq!(error, Error::PeerAbsent { waited });
    assert!(error.is_retryable());
    names(&error, "nobody came within 300ms");
    server.has_rooms(0).await;
}

#[tokio::test]
async fn an_invite_of_somebody_else_cannot_be_waited_for_and_ones_own_not_redeemed() {
    let server = Running::start().await;
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &server.url()).unwrap();
    let error = refused(Session::builder(Identity::generate()).invite(copy(&invite))).await;
    assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    names(&error, "redeem()");
    let error = refused(Session::builder(inviter).redeem(invite)).await;
    assert_eq!(error, Error::Selfie);
    names(&error, "own key");
}

/// A redeemer's attempt by way of `url`, with little patience for a server that does not answer.
async fn redeem_at(url: &str) -> Error {
    let invite = Invite::new(&Identity::generate(), url).unwrap();
    let mut config = Config::default();
    config.timeouts.signaling = Duration::from_millis(500);
    let redeeming = Session::builder(Identity::generate()).redeem(invite);
    refused(redeeming.config(config)).await
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    (listener, url)
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let (_, url) = listener().await;
    let error = redeem_at(&url).await;
    let Error::ServerUnreachable { server, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        url.contains(server.as_str()) || server.contains(&url),
        "{server}"
    );
    assert!(error.is_retryable());
    names(&error, "cannot be reached");
    names(&error, "refused");
}

#[tokio::test]
async fn a_server_that_never_answers_is_unreachable() {
    let (listener, url) = listener().await;
    let error = redeem_at(&url).await;
    assert!(
        matches!(error, Error::ServerUnreachable { .. }),
        "{error:?}"
    );
    names(&error, "no answer in time");
    drop(listener);
}

#[tokio::test]
async fn an_address_that_may_not_be_used_says_why() {
    let url = "ws://192.0.2.1:8080";
    let room = Session::builder(Identity::generate()).room("lobby", url);
    let error = refused(room.accept_unknown()).await;
    assert!(matches!(error, Error::InvalidUrl { .. }), "{error:?}");
    names(&error, url);
}

/// Answers the first frame of every WebSocket with `answer`.
async fn answer_frames(listener: TcpListener, answer: Frame) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut socket = accept_async(stream).await.unwrap();
            socket.next().await.unwrap().unwrap();
            let _ = socket.send(answer).await;
            while let Some(Ok(_)) = socket.next().await {}
        });
    }
}

#[tokio::test]
async fn a_server_that_answers_garbage_over_a_websocket_is_told_from_one_that_is_away() {
    let frames = [
        Frame::text("hello"),
        Frame::text("{\"peers\":[]}"),
        Frame::binary(vec![1, 2, 3]),
    ];
    for frame in frames {
        let (listener, url) = listener().await;
        let serving = tokio::spawn(answer_frames(listener, frame.clone()));
        let error = redeem_at(&url).await;
        serving.abort();
        let garbage = matches!(error, Error::ServerGarbage { .. });
        assert!(garbage, "{error:?} for {frame:?}");
        assert!(!error.is_retryable());
        names(&error, "does not speak this protocol");
    }
}

#[tokio::test]
async fn a_relay_of_another_application_is_told_from_a_server_and_says_what_it_is() {
    for kind in ["offer", "ice-candidate", "signal", "join"] {
        let (listener, url) = listener().await;
        let signal = Frame::text(format!("{{\"type\":\"{kind}\",\"sdp\":\"v=0\"}}"));
        let serving = tokio::spawn(answer_frames(listener, signal));
        let error = redeem_at(&url).await;
        serving.abort();
        assert!(matches!(error, Error::ServerGarbage { .. }), "{error:?}");
        assert!(!error.is_retryable());
        names(&error, kind);
        names(&error, "simple-peer");
    }
}

#[tokio::test]
async fn a_server_that_says_no_is_quoted() {
    let (listener, url) = listener().await;
    let no = Frame::text("{\"type\":\"error\",\"code\":\"room_full\",\"message\":\"too many\"}");
    let serving = tokio::spawn(answer_frames(listener, no));
    let error = redeem_at(&url).await;
    serving.abort();
    assert!(matches!(error, Error::ServerRefused { .. }), "{error:?}");
    names(&error, "room_full");
    names(&error, "too many");
}

#[tokio::test]
async fn a_server_that_welcomes_and_hangs_up_is_not_asked_in_a_loop() {
    let (listener, url) = listener().await;
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &url).unwrap();
    let welcoming = async {
        let mut joins = 0_u32;
        while let Ok((stream, _)) = listener.accept().await {
            let mut socket = accept_async(stream).await.unwrap();
            socket.next().await.unwrap().unwrap();
            let welcome = Frame::text("{\"type\":\"welcome\",\"peers\":[]}");
            socket.send(welcome).await.unwrap();
            let _ = socket.close(None).await;
            joins += 1;
            // Without a pause there are hundreds in this time; on a slow machine there are fewer, with and without.
            assert!(joins < 50, "the server is flooded");
        }
    };
    tokio::select! {
        result = Session::builder(inviter).invite(invite).connect() => panic!("{result:?}"),
        () = welcoming => panic!("no more connections"),
        () = tokio::time::sleep(Duration::from_secs(2)) => {}
    }
}

async fn answer_http(mut stream: TcpStream, status: &str) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nhi");
    let _ = stream.write_all(answer.as_bytes()).await;
}

#[tokio::test]
async fn a_web_server_that_is_no_signaling_server_is_named_with_its_status() {
    for status in [
        "200 OK",
        "404 Not Found",
        "403 Forbidden",
        "503 Service Unavailable",
    ] {
        let (listener, url) = listener().await;
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_http(stream, status));
            }
        });
        let error = redeem_at(&url).await;
        serving.abort();
        let fits = match status {
            "403 Forbidden" => {
                matches!(&error, Error::ServerRefused { code, .. } if code == "http_403")
            }
            "503 Service Unavailable" => matches!(error, Error::ServerUnreachable { .. }),
            _ => matches!(error, Error::ServerGarbage { .. }),
        };
        assert!(fits, "{error:?} for {status}");
        names(&error, status);
    }
}

///
#[tokio::test]
async fn a_message_over_the_limit_is_refused_before_anything_is_sent() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let mut small = Config::default();
    small.limits.max_message = 65_536;
    // The smaller limit of the two counts, for both.
    let (one, other) = connect(inviter.config(small), redeemer).await;
    for session in [&one, &other] {
        let error = soon(session.send(vec![7; 65_537])).await.unwrap_err();
        let Error::MessageTooLarge { len, max } = error else {
            panic!("{error:?}")
        };
        assert!(len > 65_536 && max == 65_536);
        names(&error, "65536");
    }
    soon(one.send("the first")).await.unwrap();
    let (closed, texts) =
        soon(async { tokio::join!(one.close(), texts_until_closed(&other)) }).await;
    closed.unwrap();
    assert_eq!(texts, ["the first"]);
}

#[tokio::test]
async fn a_closed_session_says_so_on_both_sides() {
    let server = Running::start().await;
    let (closer, other) = pair(&server).await;
    soon(closer.close()).await.unwrap();
    assert!(texts_until_closed(&other).await.is_empty());
    for session in [&closer, &other] {
        let error = soon(session.send("too late")).await.unwrap_err();
        assert!(matches!(error, Error::Closed { .. }), "{error:?}");
        assert!(!error.is_retryable());
        names(&error, "session was closed");
        // Closing again is no error.
        soon(session.close()).await.unwrap();
    }
}

#[tokio::test]
async fn a_close_that_leaves_messages_behind_tells_how_many() {
    let server = Running::start().await;
    let mut config = Config::default();
    config.timeouts.close = Duration::from_millis(300);
    let (inviter, redeemer) = invited(&server);
    let (closer, _other) = connect(inviter.config(config), redeemer).await;
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(soon(closer.send("nobody takes this")).await.unwrap());
    }
    let error = soon(closer.close()).await.unwrap_err();
    assert_eq!(error, Error::Disconnected { unacked: 3 });
    names(&error, "3 messages not confirmed");
    for delivery in deliveries {
        assert!(soon(delivery.delivered()).await.is_err());
    }
}
