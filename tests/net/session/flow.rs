//! Windows: who does not take messages slows down who sends them.

use sealwire::Config;

use super::support::{Running, give_up_after, message, pair_with, soon};

/// Four of these fill the smallest window, five do not fit.
const BODY: usize = 60_000;

fn smallest_window() -> Config {
    let mut config = Config::default();
    config.limits.window = 262_144;
    config.limits.max_message = 65_536;
    config
}

#[tokio::test]
async fn a_peer_that_takes_nothing_makes_send_wait_and_each_message_taken_lets_one_go() {
    let server = Running::start().await;
    let (fast, slow) = pair_with(&server, &smallest_window()).await;
    for n in 0..4 {
        soon(fast.send(vec![n; BODY])).await.unwrap();
    }
    for n in 4..12 {
        let mut send = Box::pin(fast.send(vec![n; BODY]));
        let early = give_up_after(200, send.as_mut()).await;
        assert!(early.is_none(), "message {n} had no room");
        let taken = message(&slow).await;
        assert_eq!(taken.content.as_bytes().unwrap()[0], n - 4);
        soon(send).await.unwrap();
    }
    for n in 8..12 {
        assert_eq!(message(&slow).await.content.as_bytes().unwrap()[0], n);
    }
}

#[tokio::test]
async fn a_host_that_only_sends_can_still_be_sent_to() {
    let server = Running::start().await;
    let (one, other) = pair_with(&server, &smallest_window()).await;
    // Both windows are full: acknowledgements must not wait behind messages.
    for n in 0..4 {
        soon(one.send(vec![n; BODY])).await.unwrap();
        soon(other.send(vec![n; BODY])).await.unwrap();
    }
    for n in 0..4 {
        assert_eq!(message(&one).await.content.as_bytes().unwrap()[0], n);
        assert_eq!(message(&other).await.content.as_bytes().unwrap()[0], n);
    }
}

#[tokio::test]
async fn messages_of_every_size_up_to_the_limit_arrive_whole_and_in_order() {
    let server = Running::start().await;
    let (one, other) = pair_with(&server, &Config::default()).await;
    let sizes = [0, 1, 1_000, 65_000, 70_000, 0, 300_000, 4_000_000, 3];
    let bodies = sizes.map(|size| {
        (0..size)
            .map(|at| (at * 31 + size) as u8)
            .collect::<Vec<u8>>()
    });
    let sending = async {
        for body in &bodies {
            one.send(body.clone()).await.unwrap();
        }
    };
    let taking = async {
        for body in &bodies {
            assert!(message(&other).await.content.as_bytes().unwrap() == body.as_slice());
        }
    };
    soon(async { tokio::join!(sending, taking) }).await;
}
