//! This server's part of several that act as one: the task between the rooms here and the engine that carries bytes.
//!
//! Nothing waits for the engine: what it does not take at once is dropped, and the others notice by the next beat
//! (presence.rs). While it is away the members of other nodes are gone, and everything here goes on.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use bytes::Bytes;
use tokio::time::{Duration, MissedTickBehavior, interval, sleep, timeout};
use tracing::{info, warn};

use super::{
    backplane::{Backplane, Destination, Inbox, NodeId},
    hub::Hub,
    presence::{Change, Entry, LOOKS, Outgoing, Presence},
};

/// How long the engine may take to subscribe.
const SUBSCRIBE: Duration = Duration::from_secs(5);

/// How long it may take to send the last words.
const FLUSH: Duration = Duration::from_secs(1);

/// Beats so short that this would be less are for nobody.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);

/// How long to wait before it is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// What the rooms need of the other nodes.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Whatever is published is published under its lock: the numbers in it go out in their order.
    presence: Mutex<Presence>,
    engine: Arc<dyn Backplane>,
    me: NodeId,
    beat: Duration,
    /// It was said that the engine takes nothing.
    is_away: AtomicBool,
}

impl Cluster {
    pub(super) fn new(engine: Arc<dyn Backplane>, me: NodeId, beat: Duration) -> Self {
        Self {
            presence: Mutex::new(Presence::new(me, beat)),
            engine,
            me,
            beat,
            is_away: AtomicBool::new(false),
        }
    }

    /// Somebody came here.
    pub(super) fn joined(&self, entry: Entry) {
        let mut presence = self.presence();
        self.publish(presence.joined(entry));
    }

    /// Somebody left here.
    pub(super) fn left(&self, entry: Entry) {
        let mut presence = self.presence();
        self.publish(presence.left(entry));
    }

    /// Hands the text of an envelope to the node of its receiver. Whether it is on its way.
    pub(super) fn relay(&self, node: NodeId, to: Entry, text: &str) -> bool {
        let presence = self.presence();
        self.publish(presence.relay(node, to, text))
    }

    /// Tells the others that this node is there, and how many are here.
    fn beat(&self) {
        let presence = self.presence();
        if self.publish(presence.beat(Destination::All)) {
            self.is_away.store(false, Relaxed);
        }
    }

    fn publish(&self, (to, frame): Outgoing) -> bool {
        let published = self.engine.publish(to, Bytes::from(frame));
        if let Err(error) = &published
            && !self.is_away.swap(true, Relaxed)
        {
            warn!(%error, "other nodes cannot be reached");
        }
        published.is_ok()
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the engine brings.
    fn receive(&self, hub: &Hub, now: Instant, frame: &[u8]) {
        let mut presence = self.presence();
        let effects = presence.receive(now, frame);
        for outgoing in effects.out {
            self.publish(outgoing);
        }
        drop(presence);
        apply(hub, effects.changes);
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
    loop {
        let subscribed = timeout(SUBSCRIBE, cluster.engine.subscribe(cluster.me)).await;
        match subscribed.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
            Ok(inbox) => {
                info!("other nodes can be reached");
                exchange(hub, cluster, inbox).await;
            }
            Err(error) => warn!(%error, "other nodes cannot be reached"),
        }
        apply(hub, cluster.presence().expire(super::now()));
        sleep(RETRY).await;
    }
}

/// Takes in what comes, beats, and looks more often who has not, until the engine is lost.
async fn exchange(hub: &Hub, cluster: &Cluster, mut inbox: Box<dyn Inbox>) {
    let mut looks = interval((cluster.beat / LOOKS).max(SHORTEST_LOOK));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut beats = (0..LOOKS).map(|look| look == 0).cycle();
    loop {
        tokio::select! {
            frame = poll_fn(|context| inbox.poll_next(context)) => match frame {
                Some(frame) => cluster.receive(hub, super::now(), &frame),
                None => return,
            },
            _ = looks.tick() => {
                if beats.next() == Some(true) {
                    cluster.beat();
                }
                apply(hub, cluster.presence().expire(super::now()));
            }
        }
    }
}

/// Tells the other nodes that this one stops.
pub(super) async fn say_bye(hub: &Hub) {
    if let Some(cluster) = &hub.cluster {
        let bye = cluster.presence().bye();
        cluster.publish(bye);
        let _ = timeout(FLUSH, cluster.engine.flush()).await;
    }
}
