//! The signaling server as a program: settings, logs and signals; what it does is `sealwire::server`.

mod health;
mod settings;
mod sources;
mod token;

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    process::ExitCode,
};

use sealwire::server::{Server, Tls};
use settings::{LogFormat, Settings};
use sources::Task;
use tokio::{runtime, signal};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "sealwire-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (settings, task) = sources::load(std::env::args_os())?;
    match task {
        Task::Serve => {}
        Task::Health => return health::check(&settings),
        Task::Token(request) => {
            let minted = token::mint(&settings, &request)?;
            return writeln!(io::stdout(), "{minted}").map_err(|error| error.to_string());
        }
    }
    start_log(&settings)?;
    let threads = settings.threads.unwrap_or_else(cores);
    let mut runtime = runtime(threads);
    let runtime = runtime.enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    runtime.block_on(serve(settings))
}

/// What a saturated server owes its clients is that none waits much longer than another. A thread of tokio's serves its
/// own queue before the one that this overflows into, unless it is told to look there each time; one thread alone
/// needs only one queue, and is cheaper so.
fn runtime(threads: usize) -> runtime::Builder {
    if threads == 1 {
        return runtime::Builder::new_current_thread();
    }
    let mut builder = runtime::Builder::new_multi_thread();
    builder.worker_threads(threads).global_queue_interval(1);
    builder
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

async fn serve(settings: Settings) -> Result<(), String> {
    let listen = settings.listen;
    let options = settings.options()?;
    let tls = options.tls.clone();
    let server = Server::bind(listen).await;
    let server = server
        .map_err(|error| format!("cannot listen on {listen}: {error}"))?
        .with_limits(settings.limits)
        .with_options(options);
    let about_signals = |error| format!("cannot wait for signals: {error}");
    let stop = stop_signal().map_err(about_signals)?;
    reload_when_told(tls).map_err(about_signals)?;
    let announced = server.local_addr().and_then(announce);
    announced.map_err(|error| error.to_string())?;
    info!("serving");
    server.serve(stop).await;
    info!("stopped");
    Ok(())
}

/// One line for scripts that wait until the server is there.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}

fn start_log(settings: &Settings) -> Result<(), String> {
    let filter = EnvFilter::try_new(&settings.log);
    let filter = filter.map_err(|error| format!("log: {error}"))?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    Ok(())
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

/// Reloads the certificate at each SIGHUP. Without one there is nothing to do, and nothing ends.
#[cfg(unix)]
fn reload_when_told(tls: Option<Tls>) -> io::Result<()> {
    use signal::unix::{SignalKind, signal};

    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            match tls.as_ref().map(Tls::reload) {
                Some(Ok(())) => info!("the certificate was reloaded"),
                Some(Err(error)) => warn!(%error, "the old certificate stays in use"),
                None => info!("there is no certificate to reload"),
            }
        }
    });
    Ok(())
}

/// Nobody tells; changes of the files are seen all the same.
#[cfg(not(unix))]
fn reload_when_told(_: Option<Tls>) -> io::Result<()> {
    Ok(())
}
