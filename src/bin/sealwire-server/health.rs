//! `sealwire-server health`: asks the server of the same settings whether it works, for containers that hold nothing else
//! that could ask.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use clap::Command;

use super::settings::Settings;

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn command() -> Command {
    Command::new("health").about(
        "Ask the server that listens where these settings say whether it works; fails when it does not",
    )
}

pub(super) fn check(settings: &Settings) -> Result<(), String> {
    let address = reachable(settings.listen);
    let asked = if settings.has_tls() {
        // Its certificate is for its public name: that it accepts is what can be known here.
        TcpStream::connect_timeout(&address, PATIENCE).map(|_| true)
    } else {
        ask(address)
    };
    match asked {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{address} answers, but not that it works")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

fn ask(address: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(1_024).read_to_end(&mut answer)?;
    Ok(answer.starts_with(b"HTTP/1.1 200 "))
}

/// Where a server that listens everywhere is found.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}
