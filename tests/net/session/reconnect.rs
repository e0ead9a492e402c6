//! Transports that go while the session stays.

use std::{process::Stdio, time::Duration};

use sealwire::{
    Config, Error, Identity, Invite,
    contact::Contact,
    protocol::Event,
    session::{ChannelKind, Delivery, Path, Session, State},
};
use tokio::{process::Command, sync::watch, time::Instant};

use super::{
    cutting::Cutting,
    support::{
        Running, assert_works, connect, copy, event, give_up_after, invited, message, pair,
        pair_with, soon, text,
    },
};

/// Transports that are killed.
const KILLS: u64 = 50;
/// Messages that are sent before the sender waits for the last of them.
const BURST: usize = 20;

/// The next of these events, whatever else happens before.
async fn until(session: &Session, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = event(session).await;
        if wanted(&event) {
            return event;
        }
        if let Event::Closed { .. } | Event::Failed { .. } = event {
            panic!("it ended: {event:?}");
        }
    }
}

async fn disconnected(session: &Session) -> Error {
    let lost = until(session, |event| matches!(event, Event::Disconnected { .. })).await;
    let Event::Disconnected { error } = lost else {
        panic!("another event")
    };
    error
}

async fn resumed(session: &Session) {
    until(session, |event| matches!(event, Event::Resumed)).await;
}

/// The inviter's session and the redeemer's, over links that can be cut.
async fn cuttable(server: &Running, config: &Config) -> ((Session, Cutting), (Session, Cutting)) {
    let (inviter, redeemer) = invited(server);
    let (near, far) = (Cutting::new(), Cutting::new());
    let both = |builder: sealwire::session::Builder, transport: &Cutting| {
        let builder = builder.config(config.clone()).transport(transport.clone());
        builder.channel("bulk", ChannelKind::Reliable)
    };
    let (one, other) = connect(both(inviter, &near), both(redeemer, &far)).await;
    ((one, near), (other, far))
}

/// Numbers that no test needs to be random, and every run has the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// Message `n`: its number first, and now and then longer than a frame.
fn body(n: u32) -> Vec<u8> {
    let mut body = n.to_be_bytes().to_vec();
    body.resize(
        if n % 40 == 7 {
            150_000
        } else {
            4 + (n % 900) as usize
        },
        0xa5,
    );
    body
}

fn number(body: &[u8]) -> u32 {
    let n = u32::from_be_bytes(body[..4].try_into().unwrap());
    assert!(body == super::reconnect::body(n), "message {n} came whole");
    n
}

/// Sends until told to stop. Every message must be confirmed. How many there were.
async fn send_all<F>(send: impl Fn(Vec<u8>) -> F, stop: watch::Receiver<bool>) -> u32
where
    F: Future<Output = sealwire::Result<Delivery>>,
{
    let mut next = 0;
    while !*stop.borrow() {
        let mut burst = Vec::new();
        for _ in 0..BURST {
            burst.push(send(body(next)).await.unwrap());
            next += 1;
        }
        for delivery in burst {
            delivery.delivered().await.unwrap();
        }
    }
    next
}

/// What one side saw.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    /// On the main channel: all up to here, in order.
    messages: u32,
    /// On the other one.
    bulk: u32,
    resumed: u64,
}

/// Takes everything, and checks that each message comes once and in order, until the session is closed.
async fn take_all(session: &Session, seen: &watch::Sender<Seen>) {
    let (_, mut bulk) = session.channel("bulk").unwrap();
    let main = async {
        while let Some(event) = session.next().await {
            match event {
                Event::Message(message) => seen.send_modify(|seen| {
                    assert_eq!(number(message.content.as_bytes().unwrap()), seen.messages);
                    assert_eq!(message.id.number(), u64::from(seen.messages));
                    seen.messages += 1;
                }),
                Event::Resumed => seen.send_modify(|seen| seen.resumed += 1),
                Event::Failed { error } => panic!("{error}"),
                _ => {}
            }
        }
    };
    let bulk = async {
        while let Some(message) = bulk.recv().await {
            let message = message.unwrap();
            seen.send_modify(|seen| {
                assert_eq!(number(message.content.as_bytes().unwrap()), seen.bulk);
                seen.bulk += 1;
            });
        }
    };
    tokio::join!(main, bulk);
}

/// Cuts one transport or the other again and again, at points that differ in how much came through before.
async fn kill_transports(cutters: [&Cutting; 2], seen: [&watch::Sender<Seen>; 2]) {
    let mut chance = Chance(7);
    let [mut one, mut other] = seen.map(watch::Sender::subscribe);
    for kill in 1..=KILLS {
        let (some, side) = (chance.below(60), chance.below(2) as usize);
        let target = u64::from(one.borrow().messages) + some;
        let far_enough = |seen: &Seen| u64::from(seen.messages) >= target;
        soon(one.wait_for(far_enough)).await.unwrap();
        cutters[side].cut();
        for side in [&mut one, &mut other] {
            soon(side.wait_for(|seen| seen.resumed >= kill))
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn fifty_transports_killed_under_traffic_both_ways_lose_and_double_nothing() {
    let server = Running::start().await;
    let ((one, near), (other, far)) = cuttable(&server, &Config::default()).await;
    let seen = [watch::Sender::default(), watch::Sender::default()];
    let (stop, stopped) = watch::channel(false);
    let sending = async |session: &Session| {
        let (bulk, _) = session.channel("bulk").unwrap();
        tokio::join!(
            send_all(|body| session.send(body), stopped.clone()),
            send_all(|body| bulk.send(body), stopped.clone()),
        )
    };
    let killing = async {
        kill_transports([&near, &far], [&seen[0], &seen[1]]).await;
        stop.send_replace(true);
    };
    let traffic = async {
        let (sent, back, ()) = tokio::join!(sending(&one), sending(&other), killing);
        one.close().await.unwrap();
        (sent, back)
    };
    let taking = async { tokio::join!(take_all(&one, &seen[0]), take_all(&other, &seen[1])) };
    let ((sent, back), _) = tokio::join!(traffic, taking);
    let [at_one, at_other] = seen.map(|seen| *seen.borrow());
    assert_eq!((at_other.messages, at_other.bulk), sent);
    assert_eq!((at_one.messages, at_one.bulk), back);
    assert!(at_one.resumed >= KILLS && sent.0 > 500, "{at_one:?}");
}

#[tokio::test]
async fn a_transport_that_falls_silent_is_noticed_by_ping_and_replaced() {
    let server = Running::start().await;
    let mut config = Config::default();
    config.timeouts.ping_after = Duration::from_millis(300);
    config.timeouts.lost_after = Duration::from_millis(1_500);
    let ((one, near), (other, _)) = cuttable(&server, &config).await;
    assert_works(&one, &other).await;
    near.silence();
    let delivery = soon(one.send("into the void")).await.unwrap();
    for session in [&one, &other] {
        disconnected(session).await;
        assert_ne!(session.state(), State::Ended);
    }
    assert_eq!(text(&other).await, "into the void");
    soon(delivery.delivered()).await.unwrap();
    resumed(&one).await;
    assert_works(&one, &other).await;
    assert_eq!(
        (one.state(), other.state()),
        (State::Connected, State::Connected)
    );
    for session in [&one, &other] {
        let security = session.security();
        assert!(security.path == Path::Direct && security.fingerprint_checked);
    }
}

/// The invite that the process to be killed redeems.
const REDEEM: &str = "SEALWIRE_TEST_REDEEM";

#[tokio::test]
async fn a_peer_whose_process_is_killed_is_noticed_by_the_silence_of_its_path() {
    if let Ok(invite) = std::env::var(REDEEM) {
        let redeeming = Session::builder(Identity::generate()).redeem(invite.parse().unwrap());
        let session = soon(redeeming.connect()).await.unwrap();
        session.send("alive").await.unwrap();
        return std::future::pending().await;
    }
    let name = "session::reconnect::\
                a_peer_whose_process_is_killed_is_noticed_by_the_silence_of_its_path";
    let server = Running::start().await;
    let me = Identity::generate();
    let invite = Invite::new(&me, &server.url()).unwrap();
    let mut peer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(REDEEM, invite.to_string())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut config = Config::default();
    // Nothing but the path can tell; the default of six seconds would do as well, and later.
    config.timeouts.path_lost = Duration::from_millis(1_500);
    (config.timeouts.ping_after, config.timeouts.lost_after) =
        (Duration::from_secs(3_600), Duration::from_secs(7_200));
    if std::env::var_os("SEALWIRE_TEST_DEFAULTS").is_some() {
        config = Config::default();
    }
    let inviting = Session::builder(me).invite(copy(&invite)).config(config);
    let session = soon(inviting.connect()).await.unwrap();
    assert_eq!(text(&session).await, "alive");
    soon(peer.kill()).await.unwrap();
    let killed = Instant::now();
    disconnected(&session).await;
    eprintln!("noticed after {:?}", killed.elapsed());
    assert_eq!(session.state(), State::Reconnecting);
    let delivery = soon(session.send("nobody is there")).await.unwrap();
    assert_eq!(
        soon(session.close()).await,
        Err(Error::Disconnected { unacked: 1 })
    );
    assert!(soon(delivery.delivered()).await.is_err());
}

#[tokio::test]
async fn a_suspended_session_keeps_messages_of_both_sides_until_it_is_resumed() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    assert_works(&one, &other).await;
    soon(one.suspend()).await.unwrap();
    assert_eq!(one.state(), State::Suspended);
    let error = disconnected(&other).await;
    assert_eq!(error, Error::Disconnected { unacked: 0 });
    assert_eq!(other.state(), State::Reconnecting);
    let mut deliveries = Vec::new();
    for n in 0..50 {
        deliveries.push(soon(one.send(n.to_string())).await.unwrap());
        deliveries.push(soon(other.send(n.to_string())).await.unwrap());
    }
    // New keys come with the new transport.
    let mut rekeying = Box::pin(one.rekey());
    assert!(give_up_after(20, rekeying.as_mut()).await.is_none());
    // Twice is no more than once.
    soon(one.suspend()).await.unwrap();
    assert_eq!(one.state(), State::Suspended);
    assert!(give_up_after(20, deliveries[0].delivered()).await.is_none());

    soon(one.resume()).await.unwrap();
    soon(rekeying).await.unwrap();
    assert_eq!(one.state(), State::Connected);
    for n in 0..50 {
        assert_eq!(text(&one).await, n.to_string());
        assert_eq!(text(&other).await, n.to_string());
    }
    for delivery in deliveries {
        soon(delivery.delivered()).await.unwrap();
    }
    // Without a suspension there is nothing to wait for.
    soon(one.resume()).await.unwrap();
    assert_works(&one, &other).await;
}

///
#[tokio::test]
async fn while_suspended_send_queues_within_the_window_and_then_waits() {
    let server = Running::start().await;
    let mut config = Config::default();
    config.limits.window = 262_144;
    config.limits.max_message = 65_536;
    let (one, other) = pair_with(&server, &config).await;
    soon(one.suspend()).await.unwrap();
    for n in 0..4 {
        soon(one.send(vec![n; 60_000])).await.unwrap();
    }
    let mut waiting = Box::pin(one.send(vec![4; 60_000]));
    assert!(give_up_after(200, waiting.as_mut()).await.is_none());
    soon(one.resume()).await.unwrap();
    assert_eq!(message(&other).await.content.as_bytes().unwrap()[0], 0);
    let last = soon(waiting).await.unwrap();
    for n in 1..5 {
        assert_eq!(message(&other).await.content.as_bytes().unwrap()[0], n);
    }
    soon(last.delivered()).await.unwrap();
}

#[tokio::test]
async fn a_session_outlives_its_server_and_resumes_by_the_next_one_there() {
    let server = Running::start().await;
    let ((one, near), (other, _)) = cuttable(&server, &Config::default()).await;
    let address = server.address;
    server.stop().await;
    for _ in 0..5 {
        assert_works(&one, &other).await;
    }
    // Where the two would meet again, and the invite's room.
    let server = Running::start_at(address).await;
    server.has_rooms(2).await;
    near.cut();
    soon(async { tokio::join!(resumed(&one), resumed(&other)) }).await;
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn the_loss_of_the_server_is_told_once_and_not_for_each_attempt() {
    let server = Running::start().await;
    let ((one, near), (other, _)) = cuttable(&server, &Config::default()).await;
    let address = server.address;
    server.has_rooms(2).await;
    server.stop().await;
    until(&one, |event| matches!(event, Event::SignalingLost)).await;
    // It comes and goes.
    for _ in 0..3 {
        let server = Running::start_at(address).await;
        server.has_rooms(2).await;
        server.stop().await;
    }
    let _server = Running::start_at(address).await;
    near.cut();
    let told = until(&one, |event| {
        matches!(event, Event::SignalingLost | Event::Resumed)
    });
    assert!(matches!(told.await, Event::Resumed));
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn a_transport_lost_while_the_server_is_away_is_replaced_when_it_is_back() {
    let server = Running::start().await;
    let ((one, near), (other, _)) = cuttable(&server, &Config::default()).await;
    let address = server.address;
    server.stop().await;
    near.cut();
    disconnected(&one).await;
    disconnected(&other).await;
    let delivery = soon(one.send("later")).await.unwrap();
    let _server = Running::start_at(address).await;
    assert_eq!(text(&other).await, "later");
    soon(delivery.delivered()).await.unwrap();
    assert_works(&one, &other).await;
}

///
#[tokio::test]
async fn keys_change_at_the_wish_of_either_side_with_messages_on_their_way() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    let rekeying = async {
        for _ in 0..2 {
            soon(one.rekey()).await.unwrap();
            soon(other.rekey()).await.unwrap();
        }
        // Asked for at the same time, and by somebody who does not wait.
        assert!(give_up_after(2, one.rekey()).await.is_none());
        let (near, far) = tokio::join!(soon(one.rekey()), soon(other.rekey()));
        near.and(far).unwrap();
    };
    let (stop, stopped) = watch::channel(false);
    let sending = send_all(|body| one.send(body), stopped);
    let taking = async {
        let mut next = 0;
        loop {
            tokio::select! {
                message = message(&other) => {
                    assert_eq!(number(message.content.as_bytes().unwrap()), next);
                    next += 1;
                }
                () = stop.closed() => return next,
            }
        }
    };
    let (sent, taken, ()) = tokio::join!(sending, taking, async {
        rekeying.await;
        stop.send_replace(true);
    });
    assert_eq!(sent, taken);
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn wishes_that_cannot_be_fulfilled_end_with_the_session() {
    let server = Running::start().await;
    let (one, other) = pair(&server).await;
    soon(other.suspend()).await.unwrap();
    disconnected(&one).await;
    let (mut rekeying, mut resuming) = (Box::pin(one.rekey()), Box::pin(one.resume()));
    assert!(give_up_after(20, rekeying.as_mut()).await.is_none());
    assert!(give_up_after(20, resuming.as_mut()).await.is_none());
    soon(one.close()).await.unwrap();
    for result in [
        soon(rekeying).await,
        soon(resuming).await,
        one.rekey().await,
    ] {
        assert!(matches!(result, Err(Error::Closed { .. })), "{result:?}");
    }
    assert_eq!(one.state(), State::Ended);
}

#[tokio::test]
async fn a_lost_transport_ends_a_session_that_may_not_resume() {
    let server = Running::start().await;
    let mut config = Config::default();
    config.timeouts.resume = Duration::ZERO;
    let ((one, near), (other, _)) = cuttable(&server, &config).await;
    near.cut();
    for session in [&one, &other] {
        let failed = loop {
            if let Event::Failed { error } = event(session).await {
                break error;
            }
        };
        assert_eq!(failed, Error::Disconnected { unacked: 0 });
    }
}

/// Two sessions that met by an invite, and what each keeps of the other.
async fn acquainted(server: &Running, ids: [&Identity; 2]) -> [Contact; 2] {
    let invite = Invite::new(ids[0], &server.url()).unwrap();
    let redeeming = Session::builder(ids[1].clone()).redeem(copy(&invite));
    let inviting = Session::builder(ids[0].clone()).invite(invite);
    let (one, other) = connect(inviting, redeeming).await;
    let mut contacts = Vec::new();
    for session in [&one, &other] {
        session.make_contact();
    }
    for session in [&one, &other] {
        until(session, |event| matches!(event, Event::ContactMade)).await;
        contacts.push(session.contact("the other").unwrap());
    }
    soon(one.close()).await.unwrap();
    contacts.try_into().unwrap()
}

#[tokio::test]
async fn a_peer_that_was_restarted_gets_a_new_session_and_what_it_never_took_is_told() {
    let server = Running::start().await;
    let (me, peer) = (Identity::generate(), Identity::generate());
    let [of_peer, of_me] = acquainted(&server, [&me, &peer]).await;
    let meeting =
        |id: &Identity, contact| Session::builder(id.clone()).contact(contact, server.url());
    let (one, old) = connect(meeting(&me, &of_peer), meeting(&peer, &of_me)).await;
    assert_works(&one, &old).await;
    // For the other side that is no different from a process that is gone.
    soon(old.suspend()).await.unwrap();
    disconnected(&one).await;
    let lost = soon(one.send("never taken")).await.unwrap();
    let reset = until(&one, |event| matches!(event, Event::SessionReset { .. }));
    let (again, reset) = tokio::join!(soon(meeting(&peer, &of_me).connect()), reset);
    let again = again.unwrap();
    assert!(
        matches!(reset, Event::SessionReset { unacked: 1 }),
        "{reset:?}"
    );
    let error = soon(lost.delivered()).await.unwrap_err();
    assert_eq!(error, Error::SessionReset { unacked: 1 });

    let new = soon(one.send("new")).await.unwrap();
    assert_eq!((new.id().number(), lost.id().number()), (0, 1));
    let message = message(&again).await;
    assert_eq!(
        (message.content.as_text(), message.id),
        (Some("new"), new.id())
    );
    soon(new.delivered()).await.unwrap();
    assert_works(&one, &again).await;
    assert_eq!(one.state(), State::Connected);
}
