//! What several servers need to act as one: a way to publish to each other. Which rooms and members there are is
//! presence.rs; the task between both is cluster.rs.

use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::sync::mpsc;

/// One run of one server: random, so that a server that comes back is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

/// To whom something is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// All nodes; the one that publishes may get it too.
    All,
    /// One of them.
    Node(NodeId),
}

/// A future of a [`Backplane`].
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// An engine that carries bytes between the servers that act as one.
///
/// Each message arrives at most once, and what one node publishes to one destination arrives in that order. What is lost
/// is noticed and made up for by the servers. Who can publish here is trusted by all of them.
pub trait Backplane: fmt::Debug + Send + Sync + 'static {
    /// What is published to all or to `node` from now on. It gives the future up after some seconds.
    fn subscribe(&self, node: NodeId) -> Pending<'_, Box<dyn Inbox>>;

    /// Takes something to publish, at once or not at all: whoever calls it may hold locks.
    ///
    /// # Errors
    /// The engine is away, or has no room.
    fn publish(&self, to: Destination, payload: Bytes) -> io::Result<()>;

    /// Waits until what was taken has left this process: the last words of a server that stops. It gives the future up
    /// after a second.
    fn flush(&self) -> Pending<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What arrives from a [`Backplane`].
pub trait Inbox: Send {
    /// The next message, as a stream would give it; `None` when the engine is lost for good. The server then subscribes
    /// again.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>>;
}

impl Inbox for mpsc::Receiver<Bytes> {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_recv(context)
    }
}

/// Servers in one process, for tests and for hosts that embed several.
#[derive(Debug, Clone, Default)]
pub struct MemoryBackplane(Arc<Mutex<BTreeMap<NodeId, mpsc::Sender<Bytes>>>>);

/// Messages that may wait for one node.
pub(super) const QUEUE: usize = 8 << 10;

impl MemoryBackplane {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backplane for MemoryBackplane {
    fn subscribe(&self, node: NodeId) -> Pending<'_, Box<dyn Inbox>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.nodes().insert(node, sender);
        Box::pin(async { Ok(Box::new(receiver) as Box<dyn Inbox>) })
    }

    fn publish(&self, to: Destination, payload: Bytes) -> io::Result<()> {
        let mut nodes = self.nodes();
        nodes.retain(|_, sender| !sender.is_closed());
        for (node, sender) in &*nodes {
            if to == Destination::All || to == Destination::Node(*node) {
                // A node that is too far behind loses it, and will notice.
                let _ = sender.try_send(payload.clone());
            }
        }
        Ok(())
    }
}
