//! Messages on four channels, three of them reliable and one lossy.

use std::{cell::Cell, collections::HashSet, time::Duration};

use sealwire::{protocol::Event, session::Session};
use tokio::{sync::watch, time::sleep};

/// Between two bursts of one sender: the peers have a machine to share.
const PAUSE: Duration = Duration::from_millis(40);
const BURST: u32 = 20;
/// Numbers of the lossy channel that are remembered, to see whether one comes twice.
const REMEMBERED: u32 = 65_536;

/// Message `n`: its number first, and now and then longer than a frame.
fn body(n: u32) -> Vec<u8> {
    let length = if n % 200 == 7 {
        150_000
    } else {
        4 + n as usize % 900
    };
    let mut body = n.to_be_bytes().to_vec();
    body.resize(length, 0xa5);
    body
}

fn number(bytes: &[u8]) -> u32 {
    let n = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    assert!(bytes == body(n), "message {n} came whole");
    n
}

/// What one side has taken.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) main: Cell<u32>,
    pub(super) bulk: Cell<u32>,
    pub(super) chat: Cell<u32>,
    pub(super) cursor: Cell<u32>,
    pub(super) resumed: Cell<u32>,
}

/// The next of an ordered channel, which must be the one after the last.
fn take_next(taken: &Cell<u32>, bytes: &[u8]) {
    assert_eq!(number(bytes), taken.get(), "each once and in order");
    taken.set(taken.get() + 1);
}

pub(super) async fn take_all(session: &Session, taken: &Taken) {
    let main = async {
        while let Some(event) = session.next().await {
            match event {
                Event::Message(message) => {
                    take_next(&taken.main, message.content.as_bytes().unwrap());
                }
                Event::Resumed => taken.resumed.set(taken.resumed.get() + 1),
                Event::Failed { error } => panic!("{error}"),
                _ => {}
            }
        }
    };
    let reliable = async |label: &str, taken: &Cell<u32>| {
        let (_, mut receiver) = session.channel(label).unwrap();
        while let Some(message) = receiver.recv().await {
            take_next(taken, message.unwrap().content.as_bytes().unwrap());
        }
    };
    let lossy = async {
        let (_, mut receiver) = session.lossy_channel("cursor").unwrap();
        let (mut seen, mut highest) = (HashSet::new(), 0);
        while let Some(bytes) = receiver.recv().await {
            let n = number(&bytes);
            assert!(seen.insert(n), "{n} came twice");
            highest = highest.max(n);
            if seen.len() > 2 * REMEMBERED as usize {
                seen.retain(|n| n + REMEMBERED > highest);
            }
            taken.cursor.set(taken.cursor.get() + 1);
        }
    };
    tokio::join!(
        main,
        reliable("bulk", &taken.bulk),
        reliable("chat", &taken.chat),
        lossy
    );
}

/// How many were sent on each channel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) main: u32,
    pub(super) bulk: u32,
    pub(super) chat: u32,
    pub(super) cursor: u32,
}

/// All messages of one side, until it is told to stop and everything was confirmed.
pub(super) async fn send_all(session: &Session, stop: &watch::Receiver<bool>) -> Sent {
    let reliable = async |label: Option<&str>| {
        let channel = label.map(|label| session.channel(label).unwrap().0);
        let mut next = 0;
        while !*stop.borrow() {
            let mut burst = Vec::new();
            for n in next..next + BURST {
                burst.push(match &channel {
                    Some(channel) => channel.send(body(n)).await.unwrap(),
                    None => session.send(body(n)).await.unwrap(),
                });
            }
            next += BURST;
            for delivery in burst {
                delivery.delivered().await.unwrap();
            }
            sleep(PAUSE).await;
        }
        next
    };
    let lossy = async {
        let (sender, _) = session.lossy_channel("cursor").unwrap();
        let mut next = 0;
        while !*stop.borrow() {
            sender.send(body(next)).unwrap();
            // Messages longer than a frame are not for this channel.
            next += if next % 200 == 6 { 2 } else { 1 };
            sleep(PAUSE / 8).await;
        }
        next
    };
    let (main, bulk, chat, cursor) = tokio::join!(
        reliable(None),
        reliable(Some("bulk")),
        reliable(Some("chat")),
        lossy
    );
    Sent {
        main,
        bulk,
        chat,
        cursor,
    }
}
