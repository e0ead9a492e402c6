//! Accepting connections, the clock that all of them share, and the end of everything at a shutdown.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, error, info, warn};

use super::{
    cluster,
    handshake::{self, Failure},
    hub::Hub,
    metrics::Refused,
};

/// How long to wait when no connection can be accepted, for example because no file descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often it is looked whether addresses hold nothing any more, and whether the certificate has changed.
const PRUNE: Duration = Duration::from_secs(5);

/// Ends all connections when it is dropped: they run in tasks of their own.
struct Abort(Arc<Hub>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.is_stopping.store(true, Relaxed);
        self.0.registry.abort_all();
    }
}

/// Serves clients until `shutdown` completes, then closes their connections. Dropping the future ends them at once.
pub(super) async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    shutdown: impl Future<Output = ()>,
) {
    let _abort = Abort(Arc::clone(&hub));
    tokio::select! {
        never = sweep(&hub) => match never {},
        never = cluster::run(&hub) => match never {},
        () = serve_until(listener, &hub, shutdown) => {}
    }
}

async fn serve_until(listener: TcpListener, hub: &Arc<Hub>, shutdown: impl Future<Output = ()>) {
    accept_until(listener, hub, shutdown).await;
    info!(connections = hub.guests.connections(), "shutting down");
    let within = hub.limits.reconnect.as_millis();
    hub.registry
        .close_all(u32::try_from(within).unwrap_or(u32::MAX));
    let deadline = hub.limits.close.saturating_add(Duration::from_secs(1));
    if timeout(deadline, hub.guests.all_gone()).await.is_err() {
        debug!(
            connections = hub.guests.connections(),
            "some did not close in time"
        );
    }
    cluster::say_bye(hub).await;
}

/// Accepts until `shutdown` completes; then nobody is accepted any more, and no handshake goes on.
async fn accept_until(listener: TcpListener, hub: &Arc<Hub>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut handshakes = JoinSet::new();
    loop {
        // Handshakes that have ended are none that a new one is refused for.
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(ended) = handshakes.join_next() => {
                if let Err(error) = ended {
                    error!(%error, "a handshake's task failed");
                }
            }
            (stream, peer) = accept(&listener) => {
                if let Err(why) = admit(stream, peer, hub, &mut handshakes) {
                    hub.metrics.refuse(why);
                }
            }
        }
    }
    hub.is_stopping.store(true, Relaxed);
}

/// The next connection. Cancel-safe.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Begins the handshake of a connection that there is room for; others are closed at once.
fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    hub: &Arc<Hub>,
    handshakes: &mut JoinSet<()>,
) -> Result<(), Refused> {
    hub.metrics.accepted.fetch_add(1, Relaxed);
    if handshakes.len() >= hub.limits.handshakes {
        return Err(Refused::Handshakes);
    }
    let address = hub.options.address_of(peer.ip());
    let visit = hub.guests.enter(address, &hub.limits)?;
    let hub = Arc::clone(hub);
    handshakes.spawn(async move {
        let shaken = handshake::shake_hands(stream, peer, visit, &hub);
        let result = timeout(hub.limits.handshake, shaken).await;
        match result.unwrap_or(Err(Failure::Refused(Refused::HandshakeTimeout))) {
            Ok(connection) => {
                tokio::spawn(connection);
            }
            Err(Failure::Refused(why)) => {
                debug!(?why, "handshake failed");
                hub.metrics.refuse(why);
            }
            Err(Failure::Answered(answered)) => answered.linger(hub.limits.close).await,
        }
    });
    Ok(())
}

/// Looks at the clocks of all connections, for ever.
async fn sweep(hub: &Hub) -> std::convert::Infallible {
    let mut ticks = interval(hub.limits.sweep());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pruned_at = super::now();
    loop {
        ticks.tick().await;
        let now = super::now();
        hub.registry.sweep(now, &hub.limits);
        if now.saturating_duration_since(pruned_at) >= PRUNE {
            pruned_at = now;
            hub.guests.prune(now);
            if let Some(tls) = &hub.options.tls {
                tls.reload_if_changed();
            }
        }
    }
}
