//! The signaling server: introduces endpoints to each other and is trusted with nothing.
//!
//! It hands opaque blobs from one member of a room to another, and keeps none. What it guarantees is that it stays up,
//! cheap and fair: whatever a client sends ends at most that client's connection, nothing grows without a bound
//! ([`ServerLimits`]), and what belongs to a connection is freed with it.
//!
//! `/v1` is the WebSocket; `/healthz`, `/readyz` and `/metrics` can be read. It speaks plain HTTP unless
//! [`ServerOptions`] say otherwise.
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! use sealwire::server::Server;
//!
//! let server = Server::bind("127.0.0.1:8080").await?;
//! println!("listening on {}", server.local_addr()?);
//! server.serve(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```
//!
//! The way of a message: listener.rs accepts and handshake.rs opens the WebSocket; connection.rs reads, websocket.rs
//! decodes, hub.rs asks rooms.rs where it goes and writes it straight to that client's line.rs, which queues only what
//! the socket does not take.

mod backplane;
mod cluster;
mod connection;
mod deadlines;
mod farewell;
mod guests;
mod handshake;
mod http;
mod hub;
mod legacy;
mod limits;
mod line;
mod listener;
mod metrics;
#[cfg(feature = "nats")]
mod nats;
mod options;
mod pages;
mod presence;
mod quota;
mod registry;
mod rooms;
mod tls;
mod token;
mod turn;
#[doc(hidden)]
pub mod websocket;

pub use backplane::{Backplane, Destination, Inbox, MemoryBackplane, NodeId, Pending};
pub use legacy::room as legacy_room;
pub use limits::ServerLimits;
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use options::{ConfigError, LegacyRooms, Network, ServerOptions};
pub use pages::Pages;
pub use tls::Tls;
pub use token::{TokenError, TokenKey};
pub use turn::Turn;

use std::{io, net::SocketAddr, sync::Arc, time::Instant};

use tokio::net::{TcpListener, ToSocketAddrs};

use hub::Hub;

/// A signaling server that is bound to its address and serves once [`Server::serve`] is awaited.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    hub: Arc<Hub>,
}

/// A look at a server, before and while it serves.
#[derive(Debug, Clone)]
pub struct ServerStats {
    hub: Arc<Hub>,
}

impl Server {
    /// Binds to `address`; port 0 takes a free one. Connections wait in the kernel until [`Server::serve`].
    ///
    /// # Errors
    /// What the system says when the address cannot be bound.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            listener,
            hub: Arc::new(Hub::new(ServerLimits::default(), ServerOptions::default())),
        })
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(self, limits: ServerLimits) -> Self {
        let options = self.hub.options.clone();
        Self {
            hub: Arc::new(Hub::new(limits, options)),
            ..self
        }
    }

    /// Replaces the default options.
    #[must_use]
    pub fn with_options(self, options: ServerOptions) -> Self {
        let limits = self.hub.limits.clone();
        Self {
            hub: Arc::new(Hub::new(limits, options)),
            ..self
        }
    }

    /// A look at it that outlives the call of [`Server::serve`]. Take it after [`Server::with_limits`] and
    /// [`Server::with_options`].
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            hub: Arc::clone(&self.hub),
        }
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` completes; then accepts nothing more, closes every connection with 1001 and returns
    /// when they are closed, after [`ServerLimits::close`] and a second at the latest.
    ///
    /// # Cancel safety
    /// Dropping the future ends all connections at once, without a word.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        listener::serve(self.listener, self.hub, shutdown).await;
    }
}

impl ServerStats {
    /// How many connections there are, those in the handshake included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.hub.guests.connections()
    }

    /// How many rooms have members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.hub.guests.rooms()
    }
}

/// Where time enters: a runtime's clock, so that tests can move it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Seconds of Unix time, for what expires.
#[expect(
    clippy::disallowed_methods,
    reason = "tokens expire by the calendar, not by a runtime's clock"
)]
fn unix_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
