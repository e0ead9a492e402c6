//! Futures that are dropped before they are done.

use sealwire::{Config, Identity, Invite, protocol::Event, session::Session};

use super::support::{
    Running, assert_works, connect, copy, give_up_after, invited, message, pair, pair_with, soon,
};

#[tokio::test]
async fn next_given_up_again_and_again_loses_nothing() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let sending = async {
        for n in 0_u32..300 {
            one.send(n.to_be_bytes().as_slice()).await.unwrap();
        }
    };
    let taking = async {
        let mut next = 0_u32;
        let mut polls = 1;
        while next < 300 {
            polls = polls % 5 + 1;
            match give_up_after(polls, other.next()).await {
                Some(Some(Event::Message(message))) => {
                    assert_eq!(message.content.as_bytes().unwrap(), next.to_be_bytes());
                    next += 1;
                }
                Some(None) => panic!("it ended"),
                Some(Some(_)) => {}
                None => tokio::task::yield_now().await,
            }
        }
    };
    soon(async { tokio::join!(sending, taking) }).await;
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn send_given_up_again_and_again_sends_each_message_once_or_not_at_all() {
    let mut config = Config::default();
    config.limits.window = 262_144;
    config.limits.max_message = 65_536;
    let server = Running::start().await;
    let (one, other) = pair_with(&server, &config).await;
    let body = |n: u8| vec![n; 60_000];
    let sending = async {
        let (mut n, mut given_up) = (0, 0_u32);
        while n < 40 {
            match give_up_after(1 + usize::from(n % 3), one.send(body(n))).await {
                Some(sent) => {
                    sent.unwrap();
                    n += 1;
                }
                None => {
                    given_up += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        given_up
    };
    let taking = async {
        for n in 0..40 {
            assert_eq!(message(&other).await.content.as_bytes().unwrap()[0], n);
        }
    };
    let (given_up, ()) = soon(async { tokio::join!(sending, taking) }).await;
    assert!(given_up > 0, "the window was never full");
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn delivered_given_up_can_be_asked_again() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let delivery = soon(one.send("hello")).await.unwrap();
    for polls in 1..20 {
        let early = give_up_after(polls, delivery.delivered()).await;
        assert!(early.is_none(), "nobody took it: {early:?}");
    }
    message(&other).await;
    soon(delivery.delivered()).await.unwrap();
    soon(delivery.delivered()).await.unwrap();
}

#[tokio::test]
async fn close_given_up_closes_all_the_same() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let early = give_up_after(1, one.close()).await;
    assert!(early.is_none());
    assert!(super::support::texts_until_closed(&other).await.is_empty());
}

#[tokio::test]
async fn connect_given_up_in_the_room_leaves_it() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    for builder in [inviter, redeemer] {
        tokio::select! {
            result = soon(builder.connect()) => panic!("{result:?}"),
            () = server.has_rooms(1) => {}
        }
        server.has_rooms(0).await;
    }
}

#[tokio::test]
async fn connect_given_up_at_any_moment_leaves_no_room_behind() {
    let server = Running::start().await;
    for polls in [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000] {
        let (inviter, redeemer) = invited(&server);
        let both = async { tokio::join!(inviter.connect(), redeemer.connect()) };
        drop(give_up_after(polls, both).await);
        server.has_rooms(0).await;
    }
    let (one, other) = pair(&server).await;
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn an_invite_still_works_after_attempts_at_it_were_given_up() {
    let server = Running::start().await;
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &server.url()).unwrap();
    let redeemer = Identity::generate();
    for _ in 0..3 {
        let redeeming = Session::builder(redeemer.clone()).redeem(copy(&invite));
        tokio::select! {
            result = soon(redeeming.connect()) => panic!("{result:?}"),
            () = server.has_rooms(1) => {}
        }
        server.has_rooms(0).await;
    }
    let redeeming = Session::builder(redeemer).redeem(copy(&invite));
    let (one, other) = connect(Session::builder(inviter).invite(invite), redeeming).await;
    assert_works(&one, &other).await;
}
