//! The signaling server: introduces endpoints to each other and is trusted with nothing.
//!
//! It hands opaque blobs from one member of a room to another, and keeps none. What it guarantees is that it stays up,
//! cheap and fair: whatever a client sends ends at most that client's connection, nothing grows without a bound
//! ([`ServerLimits`]), and what belongs to a connection is freed with it.
//!
//! It speaks plain HTTP: `/v1` is the WebSocket, `/healthz` answers `ok`. TLS is a proxy's work.
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
//! The way of a message: listener.rs accepts, connection.rs reads and checks, hub.rs asks rooms.rs where it goes and
//! puts it into that client's mailbox.rs, whose own connection writes it.

mod connection;
mod deadlines;
mod farewell;
mod http;
mod hub;
mod limits;
mod listener;
mod mailbox;
mod rooms;

pub use limits::ServerLimits;

use std::{io, net::SocketAddr, sync::Arc};

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
            hub: Arc::new(Hub::new(ServerLimits::default())),
        })
    }

    /// Replaces the default limits.
    #[must_use]
    pub fn with_limits(self, limits: ServerLimits) -> Self {
        Self {
            hub: Arc::new(Hub::new(limits)),
            ..self
        }
    }

    /// A look at it that outlives the call of [`Server::serve`]. Take it after [`Server::with_limits`].
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
    /// How many rooms have members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.hub.room_count()
    }
}
