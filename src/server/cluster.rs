//! This server's part of several that act as one: the task between the rooms here and the engine that carries bytes.
//!
//! Nothing waits for the engine: what it does not take at once is dropped, and the others notice by the next beat
//! (presence.rs). While it is away the members of other nodes are gone, and everything here goes on.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Duration, interval, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    backplane::{Backplane, Destination, NodeId, QUEUE},
    hub::Hub,
    presence::{Change, Entry, Outgoing, Presence},
};

/// How long the engine may take to subscribe.
const SUBSCRIBE: Duration = Duration::from_secs(5);

/// How long it may take to publish.
const PUBLISH: Duration = Duration::from_secs(1);

/// How long to wait before it is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What the rooms need of the other nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    presence: Mutex<Presence>,
    outgoing: mpsc::Sender<Outgoing>,
    /// Taken by the task.
    queue: Mutex<Option<mpsc::Receiver<Outgoing>>>,
    engine: Arc<dyn Backplane>,
    me: NodeId,
    beat: Duration,
}

impl Cluster {
    pub(super) fn new(engine: Arc<dyn Backplane>, me: NodeId, beat: Duration) -> Self {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        Self {
            presence: Mutex::new(Presence::new(me, beat)),
            outgoing,
            queue: Mutex::new(Some(queue)),
            engine,
            me,
            beat,
        }
    }

    /// Somebody came here.
    pub(super) fn joined(&self, entry: Entry) {
        let mut presence = self.presence();
        // Under the lock: the numbers go out in their order.
        self.publish(presence.joined(entry));
    }

    /// Somebody left here.
    pub(super) fn left(&self, entry: Entry) {
        let mut presence = self.presence();
        self.publish(presence.left(entry));
    }

    /// Hands the text of an envelope to the node of its receiver. Whether it is on its way.
    pub(super) fn relay(&self, node: NodeId, to: Entry, text: &str) -> bool {
        let outgoing = self.presence().relay(node, to, text);
        self.publish(outgoing)
    }

    fn publish(&self, outgoing: Outgoing) -> bool {
        self.outgoing.try_send(outgoing).is_ok()
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, (to, frame): Outgoing) -> io::Result<()> {
        let published = timeout(PUBLISH, self.engine.publish(to, Bytes::from(frame)));
        published
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// What the engine brings.
    fn receive(&self, hub: &Hub, now: Instant, frame: &[u8]) {
        let effects = self.presence().receive(now, frame);
        apply(hub, effects.changes);
        for outgoing in effects.out {
            self.publish(outgoing);
        }
        for message in effects.relayed {
            hub.deliver(&message, now);
        }
    }
}

fn apply(hub: &Hub, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Came(node, (room, ep)) => hub.came(node, room, ep),
            Change::Went(node, (room, ep)) => hub.went(node, room, ep),
        }
    }
}

/// Runs until it is dropped; without other nodes, for ever and for nothing.
pub(super) async fn run(hub: &Hub) -> std::convert::Infallible {
    let Some(cluster) = &hub.cluster else {
        return std::future::pending().await;
    };
    let queue = cluster
        .queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(mut queue) = queue else {
        return std::future::pending().await;
    };
    loop {
        let subscribed = timeout(SUBSCRIBE, cluster.engine.subscribe(cluster.me)).await;
        match subscribed.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(inbox) => {
                info!("other nodes can be reached");
                exchange(hub, cluster, inbox, &mut queue).await;
            }
            Err(error) => warn!(%error, "other nodes cannot be reached"),
        }
        apply(hub, cluster.presence().expire(super::now()));
        sleep(RETRY).await;
    }
}

/// Carries until the engine is lost.
async fn exchange(
    hub: &Hub,
    cluster: &Cluster,
    mut inbox: mpsc::Receiver<Bytes>,
    queue: &mut mpsc::Receiver<Outgoing>,
) {
    let mut beats = interval(cluster.beat);
    let mut is_away = false;
    loop {
        let outgoing = tokio::select! {
            frame = inbox.recv() => match frame {
                Some(frame) => {
                    cluster.receive(hub, super::now(), &frame);
                    continue;
                }
                None => return,
            },
            outgoing = queue.recv() => outgoing,
            _ = beats.tick() => {
                let mut presence = cluster.presence();
                let gone = presence.expire(super::now());
                let beat = presence.beat(Destination::All);
                drop(presence);
                apply(hub, gone);
                is_away = false;
                Some(beat)
            }
        };
        let Some(outgoing) = outgoing else { return };
        // An engine that did not take the last one is asked again at the next beat.
        if !is_away && let Err(error) = cluster.send(outgoing).await {
            is_away = true;
            warn!(%error, "other nodes cannot be reached");
        }
    }
}

/// Tells the other nodes that this one stops.
pub(super) async fn say_bye(hub: &Hub) {
    if let Some(cluster) = &hub.cluster {
        let bye = cluster.presence().bye();
        let _ = cluster.send(bye).await;
    }
}
