//! How sessions come about, and what both sides know then.

use bytes::Bytes;
use sealwire::{
    Content, Error, Identity, MinTrust, PeerTrust, SafetyNumber,
    protocol::Event,
    session::{Builder, Path, Session},
};
use serde::{Deserialize, Serialize};

use super::support::{
    Running, assert_works, connect, event, invited, message, pair, soon, text, texts_until_closed,
};

/// Often enough that what goes wrong in one of some dozen connections is seen.
const TIMES: usize = 30;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Move {
    piece: String,
    to: (u8, u8),
}

///
#[tokio::test]
async fn text_bytes_and_values_arrive_both_ways_with_the_senders_key_and_the_same_id() {
    let server = Running::start().await;
    let (inviter, redeemer) = pair(&server).await;
    let moved = Move {
        piece: "knight".into(),
        to: (3, 4),
    };
    let contents = [
        Content::from("gr\u{fc}n"),
        Content::from(Bytes::from_static(&[0, 255, 7])),
        Content::value(&moved).unwrap(),
    ];
    for (from, to) in [(&inviter, &redeemer), (&redeemer, &inviter)] {
        for content in contents.clone() {
            let delivery = soon(from.send(content.clone())).await.unwrap();
            let message = message(to).await;
            assert_eq!(message.content, content);
            assert_eq!(message.sender, to.peer());
            assert_eq!(message.id, delivery.id());
            soon(delivery.delivered()).await.unwrap();
            if let Content::Value(_) = &content {
                assert_eq!(message.content.parse::<Move>().unwrap(), moved);
            }
        }
    }
}

#[tokio::test]
async fn both_sides_of_an_invite_know_each_other_and_see_one_safety_number() {
    let server = Running::start().await;
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let keys = (alice.peer_id(), bob.peer_id());
    let invite = sealwire::Invite::new(&alice, &server.url()).unwrap();
    let redeemed = super::support::copy(&invite);
    let (alice, bob) = connect(
        Session::builder(alice).invite(invite),
        Session::builder(bob).redeem(redeemed),
    )
    .await;
    assert_eq!((bob.peer(), alice.peer()), keys);
    assert_eq!(alice.safety_number(), bob.safety_number());
    assert_eq!(alice.safety_number(), SafetyNumber::between(keys.0, keys.1));
    for session in [&alice, &bob] {
        assert_eq!(session.trust(), PeerTrust::Invited);
        let security = session.security();
        assert_eq!(
            (security.trust, security.path),
            (PeerTrust::Invited, Path::Direct)
        );
        assert!(security.fingerprint_checked);
        let shown = security.to_string();
        assert!(
            shown.contains("invited") && shown.contains("directly"),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_close_right_after_500_messages_loses_none_and_ends_both_sides() {
    let server = Running::start().await;
    for closer_is_inviter in [true, false] {
        let (inviter, redeemer) = pair(&server).await;
        let (closer, other) = if closer_is_inviter {
            (inviter, redeemer)
        } else {
            (redeemer, inviter)
        };
        let sending = async {
            for n in 0..500 {
                closer.send(n.to_string()).await.unwrap();
            }
            closer.close().await.unwrap();
            texts_until_closed(&closer).await
        };
        let (echo, texts) = soon(async { tokio::join!(sending, texts_until_closed(&other)) }).await;
        assert!(echo.is_empty());
        let expected: Vec<String> = (0..500).map(|n: u32| n.to_string()).collect();
        assert_eq!(texts, expected);
    }
}

#[tokio::test]
async fn the_code_and_reason_of_a_close_reach_the_peer() {
    let server = Running::start().await;
    let (inviter, redeemer) = pair(&server).await;
    let code = sealwire::CloseCode::application(0x41).unwrap();
    soon(inviter.close_with(code, "see you")).await.unwrap();
    let closed = loop {
        match event(&redeemer).await {
            Event::Closed { code, reason, .. } => break (code, reason),
            Event::Failed { error } => panic!("{error}"),
            _ => {}
        }
    };
    assert_eq!(closed, (code, "see you".to_owned()));
}

fn open_room(server: &Running, room: &str) -> Builder {
    Session::builder(Identity::generate()).room(room, server.url())
}

#[tokio::test]
async fn an_open_room_connects_strangers_who_accept_that() {
    let server = Running::start().await;
    let stranger = || open_room(&server, "lobby").accept_unknown();
    let (one, other) = connect(stranger(), stranger()).await;
    assert_eq!(one.trust(), PeerTrust::Unknown);
    assert_eq!(one.safety_number(), other.safety_number());
    assert_works(&one, &other).await;
}

///
#[tokio::test]
async fn an_open_room_without_consent_is_refused_before_anything_is_sent() {
    let server = Running::start().await;
    let builders = [
        open_room(&server, "lobby"),
        open_room(&server, "lobby").min_trust(MinTrust::Unknown),
        open_room(&server, "").accept_unknown(),
        Session::builder(Identity::generate()),
    ];
    for (builder, cause) in
        builders
            .into_iter()
            .zip(["accept_unknown()", "accept_unknown()", "256", "room()"])
    {
        let error = soon(builder.connect()).await.unwrap_err();
        assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
        assert!(error.to_string().contains(cause), "{error}");
    }
    assert_eq!(server.stats.rooms(), 0);
}

#[tokio::test]
async fn a_pinned_key_is_accepted_in_an_open_room() {
    let server = Running::start().await;
    let (alice, bob) = (Identity::generate(), Identity::generate());
    let (to_alice, to_bob) = (alice.peer_id(), bob.peer_id());
    let (alice, bob) = connect(
        Session::builder(alice)
            .room("home", server.url())
            .pinned(to_bob),
        Session::builder(bob)
            .room("home", server.url())
            .pinned(to_alice),
    )
    .await;
    assert_eq!(
        (alice.trust(), bob.trust()),
        (PeerTrust::Pinned, PeerTrust::Pinned)
    );
    assert_works(&alice, &bob).await;
}

#[tokio::test]
async fn a_pin_holds_whatever_the_order_of_the_builders_calls() {
    let server = Running::start().await;
    let expected = Identity::generate().peer_id();
    let pinning = Session::builder(Identity::generate())
        .pinned(expected)
        .accept_unknown()
        .room("home", server.url());
    let other = open_room(&server, "home").accept_unknown();
    assert_key_changed(pinning, other, expected).await;
}

#[tokio::test]
async fn c4_a_peer_with_another_key_than_the_pinned_one_is_told_from_a_failure() {
    let server = Running::start().await;
    // Who starts the handshake is a matter of chance: both ways must do.
    for _ in 0..6 {
        let expected = Identity::generate().peer_id();
        let pinning = open_room(&server, "home").pinned(expected);
        let other = open_room(&server, "home").accept_unknown();
        assert_key_changed(pinning, other, expected).await;
        server.has_rooms(0).await;
    }
}

async fn assert_key_changed(pinning: Builder, other: Builder, expected: sealwire::PeerId) {
    let error = tokio::select! {
        result = soon(pinning.connect()) => result.unwrap_err(),
        result = other.connect() => panic!("{result:?}"),
    };
    match &error {
        Error::KeyChanged {
            expected: pinned,
            found,
        } => assert!(*pinned == expected && *found != expected),
        other => panic!("{other:?}"),
    }
    assert!(error.is_suspicious());
    assert!(error.to_string().contains("key changed"), "{error}");
}

///
#[tokio::test]
async fn c5_below_the_required_trust_nothing_is_sent_or_delivered_until_people_compared() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let (careful, other) = connect(inviter.min_trust(MinTrust::Verified), redeemer).await;

    let error = soon(careful.send("hello")).await.unwrap_err();
    assert_eq!(
        error,
        Error::Untrusted {
            trust: PeerTrust::Invited,
            required: MinTrust::Verified
        }
    );
    assert!(error.to_string().contains("verify the peer"), "{error}");

    let delivery = soon(other.send("can you read this?")).await.unwrap();
    assert!(matches!(event(&careful).await, Event::Established { .. }));
    let strangers = [
        Identity::generate().peer_id(),
        Identity::generate().peer_id(),
    ];
    let wrong = SafetyNumber::between(strangers[0], strangers[1]);
    let error = careful.confirm(&wrong).unwrap_err();
    assert_eq!(error, Error::SafetyNumberDiffers);
    assert!(
        error.to_string().contains("safety numbers differ"),
        "{error}"
    );
    assert_eq!(careful.trust(), PeerTrust::Invited);

    // Another session between the same two threads: what it carries came later than the message above.
    let (one, two) = pair(&server).await;
    for _ in 0..20 {
        assert_works(&one, &two).await;
        let given_up = super::support::give_up_after(1, careful.next()).await;
        assert!(given_up.is_none(), "{given_up:?}");
    }

    careful.confirm(&other.safety_number()).unwrap();
    assert!(matches!(careful.trust(), PeerTrust::Verified { .. }));
    assert_eq!(text(&careful).await, "can you read this?");
    soon(delivery.delivered()).await.unwrap();
    assert_works(&careful, &other).await;
}

#[tokio::test]
async fn a_message_waits_that_was_to_be_verified_while_it_was_awaited() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let (careful, other) = connect(inviter.min_trust(MinTrust::Verified), redeemer).await;
    assert!(matches!(event(&careful).await, Event::Established { .. }));
    soon(other.send("now")).await.unwrap();
    let number = other.safety_number();
    let confirm = async {
        tokio::task::yield_now().await;
        careful.confirm(&number).unwrap();
    };
    let (read, ()) = soon(async { tokio::join!(text(&careful), confirm) }).await;
    assert_eq!(read, "now");
}

/// Nothing was retried: the first event is the one that both wait for.
async fn assert_first_attempt(sessions: [&Session; 2]) {
    for session in sessions {
        let first = event(session).await;
        assert!(matches!(first, Event::Established { .. }), "{first:?}");
    }
}

#[tokio::test]
async fn invites_connect_at_the_first_attempt_30_times_in_a_row() {
    let server = Running::start().await;
    for _ in 0..TIMES {
        let (inviter, redeemer) = pair(&server).await;
        assert_first_attempt([&inviter, &redeemer]).await;
        soon(redeemer.close()).await.unwrap();
    }
    server.has_rooms(0).await;
}

#[tokio::test]
async fn open_rooms_connect_at_the_first_attempt_30_times_in_a_row() {
    let server = Running::start().await;
    for n in 0..TIMES {
        let room = format!("room {n}");
        let stranger = || open_room(&server, &room).accept_unknown();
        let (one, other) = connect(stranger(), stranger()).await;
        assert_first_attempt([&one, &other]).await;
        soon(one.close()).await.unwrap();
    }
    server.has_rooms(0).await;
}
