//! The program `sealwire-server`: how it starts, stops, and what a connection costs it.

use std::{net::SocketAddr, process::Stdio};

use futures_util::StreamExt as _;
#[cfg(unix)]
use sealwire::{Identity, Invite, protocol::Event, session::Session};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

use tokio_tungstenite::tungstenite::Message;

use super::{
    access::{certify, shakes_hands},
    support::{Client, ep_text, exchange, room, send_frame, soon, text},
};

/// The server in a process of its own, killed when dropped.
pub(super) struct Process {
    pub(super) child: Child,
    pub(super) address: SocketAddr,
}

impl Process {
    async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// With further arguments, and with nothing logged that nobody reads.
    pub(super) async fn quiet(args: &[&str]) -> Self {
        Self::start_with(args, &[("SEALWIRE_LOG", "off")]).await
    }

    pub(super) async fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealwire-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
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

    #[cfg(unix)]
    async fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.id()]).status();
        assert!(soon(killed).await.unwrap().success());
    }

    /// Asks it to stop; what it logged.
    #[cfg(unix)]
    pub(super) async fn stop(mut self) -> String {
        self.signal("-TERM").await;
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        soon(stderr.read_to_string(&mut log)).await.unwrap();
        assert!(soon(self.child.wait()).await.unwrap().success(), "{log}");
        log
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_program_tells_its_address_and_stops_politely_when_asked() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start().await;
        let (mut client, _) = Client::join(process.address, 1, 1).await;
        process.signal(signal).await;
        assert_eq!(client.close_code().await, 1001);
        drop(client);
        assert!(soon(process.child.wait()).await.unwrap().success());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_hang_up_ends_no_program() {
    let process = Process::start().await;
    process.signal("-HUP").await;
    let (mut client, _) = Client::join(process.address, 1, 1).await;
    let log = process.stop().await;
    assert_eq!(client.close_code().await, 1001);
    assert!(log.contains("no certificate to reload"), "{log}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_certificate_is_taken_at_a_hang_up_and_when_its_files_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut certificate = certify(folder.path());
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let files = [cert.to_str().unwrap(), key.to_str().unwrap()];
    let process = Process::quiet(&["--tls-cert", files[0], "--tls-key", files[1]]).await;
    assert!(shakes_hands(process.address, &certificate).await);
    for is_told in [true, false] {
        let old = std::mem::replace(&mut certificate, certify(folder.path()));
        if is_told {
            process.signal("-HUP").await;
        }
        let renewed = async {
            while !shakes_hands(process.address, &certificate).await {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        soon(renewed).await;
        assert!(!shakes_hands(process.address, &old).await);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn every_client_of_a_stopping_program_is_told_1001_and_when_to_come_back() {
    let mut process = Process::start_with(&["--reconnect-within", "7s"], &[]).await;
    let mut clients = Vec::new();
    for n in 0..100 {
        clients.push(Client::join(process.address, n / 4, n).await.0);
    }
    process.signal("-TERM").await;
    let mut times = Vec::new();
    for client in &mut clients {
        let reason = loop {
            if let Message::Close(frame) = soon(client.0.next()).await.unwrap().unwrap() {
                break frame.unwrap();
            }
        };
        assert_eq!(u16::from(reason.code), 1001);
        let words: Vec<&str> = reason.reason.split(' ').collect();
        let time: u32 = words[words.len() - 2].parse().unwrap();
        times.push(time);
    }
    drop(clients);
    assert!(soon(process.child.wait()).await.unwrap().success());
    times.sort_unstable();
    assert!(times.iter().all(|time| *time < 7_000));
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest < Some(500), "spread over the 7 s: {times:?}");
}

/// Sends until it is told to stop, and takes what comes; the code that it was closed with.
#[cfg(unix)]
async fn chatter(mut client: Client, to: u8, talking: tokio::sync::mpsc::Sender<()>) -> u16 {
    let mut count = 0_u32;
    loop {
        // What a server that is going does not take any more is no matter.
        let envelope = Message::text(send_frame(to, &count.to_be_bytes()).to_string());
        let _ = client.send_raw(envelope).await;
        match soon(client.0.next()).await {
            Some(Ok(Message::Close(frame))) => return frame.unwrap().code.into(),
            Some(Ok(_)) => {}
            other => panic!("{other:?} instead of a close"),
        }
        count += 1;
        if count == 20 {
            talking.send(()).await.unwrap();
        }
    }
}

/// Two sessions that met at the program.
#[cfg(unix)]
async fn sessions(address: SocketAddr) -> [Session; 2] {
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &format!("ws://{address}")).unwrap();
    let copy = invite.to_string().parse().unwrap();
    let inviter = Session::builder(inviter).invite(invite).connect();
    let redeemer = Session::builder(Identity::generate()).redeem(copy);
    let pair = soon(async { tokio::try_join!(inviter, redeemer.connect()) });
    pair.await.unwrap().into()
}

/// Whether what one session sends reaches the other, whatever they are told besides.
#[cfg(unix)]
async fn assert_talk(sessions: &[Session; 2], text: &str) {
    for [from, to] in [[0, 1], [1, 0]].map(|places| places.map(|place| &sessions[place])) {
        let delivery = soon(from.send(text)).await.unwrap();
        loop {
            match soon(to.next()).await.expect("the session goes on") {
                Event::Message(message) => {
                    assert_eq!(message.content.as_text(), Some(text));
                    break;
                }
                event @ (Event::Disconnected { .. }
                | Event::Closed { .. }
                | Event::Failed { .. }) => panic!("{event:?}"),
                _ => {}
            }
        }
        soon(delivery.delivered()).await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_stopped_under_load_tells_everybody_ends_in_time_and_harms_no_session() {
    let unmetered = [
        "--messages-per-second=1000000",
        "--message-burst=1000000",
        "--bytes-per-second=1000m",
        "--byte-burst=1000m",
    ];
    let mut process = Process::quiet(&unmetered).await;
    let sessions = sessions(process.address).await;
    assert_talk(&sessions, "before").await;
    let (talking, mut talked) = tokio::sync::mpsc::channel(200);
    let mut clients = Vec::new();
    for n in 0..50 {
        let (a, _) = Client::join(process.address, n, 1).await;
        let (b, _) = Client::join(process.address, n, 2).await;
        for (client, to) in [(a, 2), (b, 1)] {
            clients.push(tokio::spawn(chatter(client, to, talking.clone())));
        }
    }
    // One that never reads and never closes: it has its time, and no more.
    let (_deaf, _) = Client::join(process.address, 200, 1).await;
    for _ in 0..clients.len() {
        soon(talked.recv()).await.unwrap();
    }
    process.signal("-TERM").await;
    let stopped = tokio::time::Instant::now();
    assert_talk(&sessions, "meanwhile").await;
    for client in clients {
        assert_eq!(soon(client).await.unwrap(), 1001);
    }
    let status = soon(process.child.wait()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    // 5 s to close and one to exit; the rest is for a machine that is busy.
    let took = stopped.elapsed();
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
    for n in 0..10 {
        assert_talk(&sessions, &format!("after {n}")).await;
    }
}

///
#[cfg(unix)]
#[tokio::test]
async fn the_log_tells_no_addresses_rooms_names_or_blobs() {
    for (format, level) in [("text", "info"), ("json", "debug")] {
        let args = ["--log-format", format, "--max-connections-per-address", "4"];
        let process = Process::start_with(&args, &[("SEALWIRE_LOG", level)]).await;
        let (mut a, _) = Client::join(process.address, 77, 1).await;
        let (mut b, _) = Client::join(process.address, 77, 2).await;
        let blob = b"a blob that stays between the two";
        a.send(send_frame(2, blob)).await;
        while b.next().await["type"] != "message" {}
        for _ in 0..100 {
            let _ = a.send_raw(Message::text("{")).await;
        }
        assert_eq!(a.close_code().await, 4008);
        exchange(process.address, b"GET /../etc HTTP/1.1\r\n\r\n").await;
        let held: Vec<_> = (0..6)
            .map(|_| std::net::TcpStream::connect(process.address).unwrap())
            .collect();
        let address = process.address.to_string();
        drop((b, held));
        let log = process.stop().await;
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines.len() >= 2, "{log}");
        let is_json = |line: &&str| serde_json::from_str::<serde_json::Value>(line).is_ok();
        assert_eq!(lines.iter().all(is_json), format == "json", "{log}");
        let hidden = [
            text(&room(77).0),
            ep_text(1),
            ep_text(2),
            text(blob),
            address,
            "127.0.0.1".to_owned(),
            "etc".to_owned(),
        ];
        for hidden in hidden {
            assert!(!log.contains(&hidden), "{hidden} in {log}");
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn settings_come_from_files_and_a_token_of_the_program_opens_its_door() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sealwire.toml");
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let text = format!(
        "legacy = true\ntoken_key_file = {:?}\n",
        key_file.to_str().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let args = ["--config", file.to_str().unwrap()];
    let process = Process::start_with(&args, &[]).await;
    let mint = Command::new(env!("CARGO_BIN_EXE_sealwire-server"))
        .args(["token", "--expires-in", "1m", "--legacy-room", "a"])
        .args(args)
        .output();
    let minted = soon(mint).await.unwrap();
    assert!(minted.status.success());
    let token = String::from_utf8(minted.stdout).unwrap();
    let _in = Client::open_at(
        process.address,
        &format!("/legacy/a?token={}", token.trim()),
    )
    .await;
    let closed = exchange(process.address, b"GET /readyz HTTP/1.1\r\n\r\n").await;
    assert!(closed.ends_with("ready"), "{closed}");

    std::fs::write(&file, "max_roms = 7").unwrap();
    let wrong = Command::new(env!("CARGO_BIN_EXE_sealwire-server"))
        .args(args)
        .output();
    let wrong = soon(wrong).await.unwrap();
    assert!(!wrong.status.success());
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(told.contains("max_roms is no setting"), "{told}");
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

/// Clients in `rooms`, four in each.
#[cfg(target_os = "linux")]
async fn crowd(process: &Process, rooms: std::ops::Range<u8>) -> Vec<Client> {
    let mut clients = Vec::new();
    for room in rooms {
        for n in 0..4 {
            clients.push(Client::join(process.address, room, n).await.0);
        }
    }
    clients
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_idle_connection_costs_a_few_kilobytes_and_churn_nothing() {
    let process = Process::start_with(&["--join-burst", "1000000"], &[]).await;
    let warm = crowd(&process, 0..20).await;
    let before = resident(&process);
    let idle = crowd(&process, 20..220).await;
    let each = (resident(&process) - before) / 800;
    assert!(
        (300..3_000).contains(&each),
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

/// Minutes of connecting: `cargo test --release --all-features --test net a_million -- --ignored`.
#[cfg(target_os = "linux")]
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_million_joins_and_leaves_return_memory_to_its_base() {
    let process = Process::start_with(&["--join-burst", "4000000000"], &[]).await;
    let mut base = 0;
    for round in 0..1_250 {
        for mut client in crowd(&process, 0..200).await {
            client.send(json!({"type": "leave"})).await;
            assert_eq!(client.close_code().await, 1000);
        }
        if round == 10 {
            base = resident(&process);
        }
    }
    let grown = resident(&process).saturating_sub(base);
    assert!(grown < 1 << 20, "{grown} bytes over {base}");
}

#[tokio::test]
async fn the_program_asks_a_running_one_whether_it_works() {
    let mut process = Process::start().await;
    let address = process.address.to_string();
    let ask = || {
        Command::new(env!("CARGO_BIN_EXE_sealwire-server"))
            .arg("health")
            .env("SEALWIRE_LISTEN", &address)
            .stderr(Stdio::null())
            .status()
    };
    assert!(soon(ask()).await.unwrap().success());
    soon(process.child.kill()).await.unwrap();
    assert!(!soon(ask()).await.unwrap().success());
}
