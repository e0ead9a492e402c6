//! What a session needs while it lives, and what is left of it afterwards.

use sealwire::{
    Error, Result,
    protocol::Event,
    session::{Builder, Delivery, Session},
};

use super::support::{Running, assert_works, event, pair, texts_until_closed};

fn is_send<T: Send + 'static>(_: &T) {}
fn is_shared<T: Send + Sync + 'static>() {}
fn is_send_future<T: Send>(_: &T) {}

#[test]
fn everything_can_be_sent_between_threads() {
    is_shared::<Session>();
    is_shared::<Event>();
    is_shared::<Error>();
    is_shared::<Delivery>();
    is_shared::<Result<Session>>();
    let builder: fn(Builder) = |builder| is_send(&builder.connect());
    let session: fn(&Session, &Delivery) = |session, delivery| {
        is_send_future(&session.send("text"));
        is_send_future(&session.next());
        is_send_future(&session.close());
        is_send_future(&delivery.delivered());
    };
    let _ = (builder, session);
}

#[tokio::test]
async fn a_session_goes_on_when_its_server_is_gone() {
    let server = Running::start().await;
    let (inviter, redeemer) = pair(&server).await;
    server.stop().await;
    for _ in 0..20 {
        assert_works(&inviter, &redeemer).await;
    }
    let closed = tokio::join!(inviter.close(), texts_until_closed(&redeemer));
    closed.0.unwrap();
}

#[tokio::test]
async fn who_has_a_session_is_told_that_the_server_is_gone() {
    let server = Running::start().await;
    let (inviter, redeemer) = pair(&server).await;
    // Whether they are on their way to the room where they would meet again, or there.
    server.stop().await;
    for session in [&inviter, &redeemer] {
        assert!(matches!(event(session).await, Event::Established { .. }));
        assert!(matches!(event(session).await, Event::SignalingLost));
    }
    assert_works(&inviter, &redeemer).await;
}

#[tokio::test]
async fn the_session_ends_for_the_peer_when_the_last_handle_is_dropped() {
    let server = Running::start().await;
    let (inviter, redeemer) = pair(&server).await;
    let clone = inviter.clone();
    drop(inviter);
    assert_works(&clone, &redeemer).await;
    drop(clone);
    assert!(texts_until_closed(&redeemer).await.is_empty());
    drop(redeemer);
    server.has_rooms(0).await;
}

#[tokio::test]
async fn handles_can_be_used_from_many_tasks_at_once() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let sending = (0..8).map(|task: u32| {
        let one = one.clone();
        tokio::spawn(async move {
            for n in 0..50_u32 {
                let delivery = one.send(format!("{task} {n}")).await.unwrap();
                delivery.delivered().await.unwrap();
            }
        })
    });
    let sending: Vec<_> = sending.collect();
    let mut next = [0; 8];
    for _ in 0..8 * 50 {
        let text = super::support::text(&other).await;
        let (task, n) = text.split_once(' ').unwrap();
        let expected = &mut next[task.parse::<usize>().unwrap()];
        assert_eq!(n.parse(), Ok(*expected));
        *expected += 1;
    }
    for task in sending {
        super::support::soon(task).await.unwrap();
    }
}
