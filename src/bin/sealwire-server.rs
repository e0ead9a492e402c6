//! The signaling server as a program: arguments only; what it does is `sealwire::server`.

use std::{io, net::SocketAddr};

use clap::Parser;
use io::Write as _;
use sealwire::server::Server;
use tokio::signal;
use tracing_subscriber::EnvFilter;

/// The sealwire signaling server: introduces devices to each other and is trusted with nothing.
///
/// It speaks plain HTTP: put a TLS proxy before it that forwards WebSockets. Clients connect to /v1; /healthz answers
/// ok. The log goes to the standard error; RUST_LOG chooses how much of it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The address and port to listen on. Reachable from this machine only unless told otherwise, because there is no
    /// TLS; a container needs 0.0.0.0:8080.
    #[arg(
        long,
        env = "SEALWIRE_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:8080"
    )]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let Arguments { listen } = Arguments::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let server = Server::bind(listen).await?;
    let stop = stop_signal()?;
    announce(server.local_addr()?)?;
    server.serve(stop).await;
    Ok(())
}

/// One line for scripts that wait until the server is there.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}

/// Completes at an interrupt or a request to terminate. Both are caught from the call on, not from the first poll.
#[cfg(unix)]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use signal::unix::{SignalKind, signal};

    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Completes at Ctrl-C.
#[cfg(not(unix))]
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a way to be told, the server runs until it is killed.
        if signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
