//! Sessions over a path that loses, delays and reorders datagrams. Nothing here is about how long it takes.

use std::{sync::Arc, time::Duration};

use sealwire::{
    Config, Identity, Invite,
    protocol::Event,
    server::Server,
    session::{ChannelKind, Session},
};
use tokio::time::timeout;

use super::{
    lossy_relay::{Conditions, LossyRelay, Side},
    lossy_transport::LossyTransport,
};

/// Longer than anything takes that works, on the slowest machine; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(300);

const MESSAGES: u32 = 400;
const CONNECTS: u64 = 6;

async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("it comes before the deadline")
}

/// Both ends of a session through the relay, with a second channel.
async fn pair(relay: &Arc<LossyRelay>) -> (Session, Session) {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", server.local_addr().unwrap());
    tokio::spawn(server.serve(std::future::pending()));
    let me = Identity::generate();
    let invite = Invite::new(&me, &url).unwrap();
    let redeemed = invite.to_string().parse().unwrap();
    // However long it takes: DTLS sends a lost flight again after a second, then after two.
    let mut config = Config::default();
    config.timeouts.handshake_step = DEADLINE;
    config.timeouts.handshake = DEADLINE;
    config.timeouts.ready = DEADLINE;
    let over = |builder: sealwire::session::Builder, side| {
        builder
            .config(config.clone())
            .transport(LossyTransport::new(Arc::clone(relay), side))
            .channel("bulk", ChannelKind::Reliable)
    };
    let inviting = over(Session::builder(me).invite(invite), Side::Near);
    let redeeming = Session::builder(Identity::generate()).redeem(redeemed);
    let redeeming = over(redeeming, Side::Far);
    soon(async { tokio::try_join!(inviting.connect(), redeeming.connect()) })
        .await
        .unwrap()
}

/// Message `n`: its number first, and now and then longer than a frame.
fn body(n: u32) -> Vec<u8> {
    let length = if n % 50 == 7 { 100_000 } else { 4 + n as usize };
    let mut body = n.to_be_bytes().to_vec();
    body.resize(length, 0xa5);
    body
}

/// Sends all messages on both channels, every one of which must be confirmed.
async fn send_all(session: &Session) {
    let (bulk, _) = session.channel("bulk").unwrap();
    let mut deliveries = Vec::new();
    for n in 0..MESSAGES {
        deliveries.push(soon(session.send(body(n))).await.unwrap());
        deliveries.push(soon(bulk.send(body(n))).await.unwrap());
    }
    for delivery in deliveries {
        soon(delivery.delivered()).await.unwrap();
    }
}

/// Takes as many as were sent, each once and in order.
async fn take_all(session: &Session) {
    let (_, mut bulk) = session.channel("bulk").unwrap();
    let main = async {
        let mut expected = 0;
        while expected < MESSAGES {
            match soon(session.next()).await.unwrap() {
                Event::Message(message) => {
                    assert!(message.content.as_bytes().unwrap() == body(expected));
                    expected += 1;
                }
                Event::Failed { error } => panic!("{error}"),
                Event::Closed { .. } => panic!("it was closed"),
                _ => {}
            }
        }
    };
    let other = async {
        for expected in 0..MESSAGES {
            let message = soon(bulk.recv()).await.unwrap().unwrap();
            assert!(message.content.as_bytes().unwrap() == body(expected));
        }
    };
    tokio::join!(main, other);
}

async fn everything_arrives_under(seed: u64, conditions: Conditions) {
    let relay = Arc::new(LossyRelay::start(seed, Conditions::PERFECT).unwrap());
    let (one, other) = pair(&relay).await;
    relay.set_conditions(conditions);
    tokio::join!(
        send_all(&one),
        send_all(&other),
        take_all(&one),
        take_all(&other)
    );
    // The peer's last acknowledgement may be lost with the peer.
    soon(one.close()).await.unwrap();
    let (_, lost) = relay.counts();
    assert_eq!(lost > 0, conditions.loss_percent > 0.0);
}

#[tokio::test]
async fn at_one_percent_loss_each_message_arrives_once_and_in_order() {
    everything_arrives_under(1, Conditions::new(1.0, Duration::ZERO)).await;
}

#[tokio::test]
async fn at_five_percent_loss_and_some_delay_each_message_arrives_once_and_in_order() {
    everything_arrives_under(5, Conditions::new(5.0, Duration::from_millis(10))).await;
}

#[tokio::test]
async fn datagrams_that_overtake_each_other_change_nothing() {
    let conditions = Conditions {
        jitter: Duration::from_millis(20),
        ..Conditions::new(0.0, Duration::from_millis(5))
    };
    everything_arrives_under(9, conditions).await;
}

/// Nothing may be lost for good that comes before the last packet of connecting, which may be lost itself.
#[tokio::test]
async fn sessions_connect_and_work_where_datagrams_are_lost_from_the_beginning() {
    for seed in 0..CONNECTS {
        let conditions = Conditions {
            jitter: Duration::from_millis(3),
            ..Conditions::new(8.0, Duration::from_millis(1))
        };
        let relay = Arc::new(LossyRelay::start(seed, conditions).unwrap());
        let (one, other) = pair(&relay).await;
        for (from, to) in [(&one, &other), (&other, &one)] {
            let delivery = soon(from.send("first")).await.unwrap();
            loop {
                match soon(to.next()).await.unwrap() {
                    Event::Message(message) => {
                        break assert_eq!(message.content.as_text(), Some("first"));
                    }
                    Event::Failed { error } => panic!("seed {seed}: {error}"),
                    _ => {}
                }
            }
            soon(delivery.delivered()).await.unwrap();
        }
    }
}
