//! The program `sealwire-server`: how it starts, stops, and what a connection costs it.

use std::{net::SocketAddr, process::Stdio};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::support::{Client, soon};

/// The server in a process of its own, killed when dropped.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) address: SocketAddr,
}

impl Process {
    async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With further arguments.
    pub(super) async fn with(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealwire-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        soon(stdout.read_line(&mut line)).await.unwrap();
        let address = line
            .trim_end()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();
        Self { child, address }
    }

    fn id(&self) -> String {
        self.child.id().unwrap().to_string()
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_tells_its_address_and_stops_politely_when_asked() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start().await;
        let (mut client, _) = Client::join(process.address, 1, 1).await;
        let killed = Command::new("kill").args([signal, &process.id()]).status();
        assert!(soon(killed).await.unwrap().success());
        assert_eq!(client.close_code().await, 1001);
        drop(client);
        assert!(soon(process.child.wait()).await.unwrap().success());
    }
}

/// Resident memory of the process, in bytes.
#[cfg(target_os = "linux")]
pub(super) fn resident(process: &Process) -> u64 {
    memory(process, "VmRSS:")
}

/// What resident memory was at its peak, in bytes.
#[cfg(target_os = "linux")]
pub(super) fn peak(process: &Process) -> u64 {
    memory(process, "VmHWM:")
}

#[cfg(target_os = "linux")]
fn memory(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1_024
}

/// Clients in `rooms`, five in each.
#[cfg(target_os = "linux")]
async fn crowd(process: &Process, rooms: std::ops::Range<u8>) -> Vec<Client> {
    let mut clients = Vec::new();
    for room in rooms {
        for n in 0..5 {
            clients.push(Client::join(process.address, room, n).await.0);
        }
    }
    clients
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_connection_costs_a_few_kilobytes_and_churn_nothing() {
    let process = Process::start().await;
    let warm = crowd(&process, 0..20).await;
    let before = resident(&process);
    let idle = crowd(&process, 20..220).await;
    let each = (resident(&process) - before) / 1_000;
    assert!(
        (1_000..8_000).contains(&each),
        "{each} bytes per idle connection"
    );
    drop((warm, idle));
    let mut after_round = Vec::new();
    for _ in 0..5 {
        for mut client in crowd(&process, 0..50).await {
            client.send(json!({"type": "leave"})).await;
            assert_eq!(client.close_code().await, 1000);
        }
        after_round.push(resident(&process));
    }
    let grown = after_round[4].saturating_sub(after_round[1]);
    assert!(grown < 1 << 20, "{after_round:?}");
}
