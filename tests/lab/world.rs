//! Namespaces, servers and peers of one scenario. Everything ends with the values that stand for it.

use std::{
    fs,
    path::PathBuf,
    process::{Command as Blocking, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::peer::{Peer, ROLE, Role};

/// Longer than anything takes that works; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(170);

pub(crate) const SERVER: &str = "ws://203.0.113.1:8080";
pub(crate) const STUN: &str = "stun:203.0.113.1:3478";
pub(crate) const SECOND_STUN: &str = "stun:203.0.113.2:3478";
pub(crate) const TURN_UDP: &str = "turn:203.0.113.1:3478 u p";
pub(crate) const TURN_TCP: &str = "turn:203.0.113.1:3478?transport=tcp u p";
pub(crate) const TURN_TLS: &str = "turns:203.0.113.1:5349 u p";

/// A small internet with two peers behind their NATs.
pub(crate) struct Net {
    prefix: String,
}

impl Net {
    /// See `tests/lab/net` for the kinds of NATs.
    pub(crate) async fn up(prefix: &str, one: &str, other: &str) -> Self {
        let net = Self {
            prefix: prefix.to_owned(),
        };
        let mut up = Command::new(script());
        succeed(up.args(["up", prefix, one, other])).await;
        net
    }

    fn command(&self, namespace: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        let namespace = format!("{}-{namespace}", self.prefix);
        command.args(["netns", "exec", &namespace, program]);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs `ip` with these words in a namespace.
    pub(crate) async fn ip(&self, namespace: &str, words: &str) {
        let mut ip = self.command(namespace, "ip");
        succeed(ip.args(words.split(' '))).await;
    }

    /// A signaling server on 203.0.113.1.
    pub(crate) async fn signaling(&self, options: &[&str]) -> Program {
        let mut server = self.command("pub", env!("CARGO_BIN_EXE_sealwire-server"));
        server.args(["--listen", "203.0.113.1:8080"]).args(options);
        server.stderr(Stdio::null());
        let mut server = Program::start("server", server);
        while !server.line().await.contains("listening on") {}
        server
    }

    /// A STUN and TURN server on 203.0.113.1 and .2: user `u`, password `p`, or a secret that it shares with the
    /// signaling server.
    pub(crate) async fn turn(&self, credentials: &[&str]) -> Program {
        let folder = std::env::temp_dir();
        let mut turn = self.command("pub", "turnserver");
        turn.args([
            "-n",
            "--listening-ip=203.0.113.1",
            "--listening-ip=203.0.113.2",
        ]);
        turn.args([
            "--relay-ip=203.0.113.1",
            "--min-port=50000",
            "--max-port=50999",
        ]);
        turn.args([
            "--realm=lab",
            "--fingerprint",
            "--no-cli",
            "--no-dtls",
            "--no-stdout-log",
            "--log-file=/dev/null",
        ]);
        turn.arg(format!("--pidfile={}", folder.join(&self.prefix).display()));
        turn.args(credentials).stderr(Stdio::null());
        let turn = Program::start("coturn", turn);
        self.wait_for_port(3478).await;
        turn
    }

    async fn wait_for_port(&self, port: u16) {
        let mut connect = self.command("pub", "bash");
        let look =
            format!("until (exec 3<>/dev/tcp/203.0.113.1/{port}) 2>/dev/null; do sleep 0.05; done");
        succeed(connect.args(["-c", &look])).await;
    }

    /// This program in another role.
    pub(crate) fn start(&self, namespace: &str, role: &Role) -> Program {
        let me = std::env::current_exe().unwrap();
        let mut command = self.command(namespace, me.to_str().unwrap());
        command.env(ROLE, serde_json::to_string(role).unwrap());
        command.stdin(Stdio::piped());
        Program::start(namespace, command)
    }

    pub(crate) fn peer(&self, namespace: &str, peer: &Peer) -> Program {
        self.start(namespace, &Role::Peer(peer.clone()))
    }

    /// What `diagnose()` finds there.
    pub(crate) async fn diagnose(&self, namespace: &str, peer: &Peer) -> Value {
        let mut program = self.start(namespace, &Role::Diagnose(peer.clone()));
        program.event("diagnosis").await
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = Blocking::new(script())
            .args(["down", &self.prefix])
            .status();
        let _ = fs::remove_file(std::env::temp_dir().join(&self.prefix));
    }
}

fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab/net")
}

async fn succeed(command: &mut Command) {
    let output = timeout(DEADLINE, command.stdin(Stdio::null()).output()).await;
    let output = output.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// A running program, whose output is read line by line; killed when dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// For a failure: what it said.
    said: Vec<String>,
}

impl Program {
    fn start(name: &str, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        Self {
            name: name.to_owned(),
            input: child.stdin.take(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            said: Vec::new(),
        }
    }

    async fn line(&mut self) -> String {
        let line = timeout(DEADLINE, self.lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => {
                self.said.push(line.clone());
                line
            }
            other => panic!("{}: {other:?} after {:#?}", self.name, self.said),
        }
    }

    /// The next line that tells this event. Those before it are passed over, but nothing may be told that must not
    /// happen in any scenario.
    pub(crate) async fn event(&mut self, event: &str) -> Value {
        self.any_event(&[event]).await
    }

    async fn any_event(&mut self, events: &[&str]) -> Value {
        loop {
            let Ok(line) = serde_json::from_str::<Value>(&self.line().await) else {
                continue;
            };
            assert_ne!(line["event"], "disorder", "{}: {:#?}", self.name, self.said);
            assert_ne!(line["ok"], false, "{}: {:#?}", self.name, self.said);
            if events.iter().any(|event| line["event"] == *event) {
                return line;
            }
            let is_end = line["event"] == "failed"
                || (line["event"] == "over" && !events.contains(&"ended"));
            assert!(
                !is_end,
                "{}: {:#?} instead of {events:?}",
                self.name, self.said
            );
        }
    }

    /// All of these events, in whichever order.
    async fn all(&mut self, events: &[&str]) {
        let mut left = events.to_vec();
        while !left.is_empty() {
            let told = self.any_event(&left).await["event"].clone();
            left.retain(|event| told != *event);
        }
    }

    /// That, and why, it could not connect.
    pub(crate) async fn failure(&mut self) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line().await).unwrap_or_default();
            if line["event"] == "failed" {
                return line;
            }
        }
    }

    /// Whether it ever told this event up to now.
    pub(crate) fn told(&self, event: &str) -> bool {
        let event = format!("\"event\":\"{event}\"");
        self.said.iter().any(|line| line.contains(&event))
    }

    pub(crate) async fn tell(&mut self, command: &str) {
        let input = self.input.as_mut().unwrap();
        input
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
    }

    /// As `kill -9` does; it is gone when this returns.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Both peers in the room; how long the second took to connect.
pub(crate) async fn connected(one: &mut Program, other: &mut Program) -> Duration {
    let begun = Instant::now();
    one.event("connected").await;
    other.event("connected").await;
    begun.elapsed()
}

/// Numbered messages both ways, up to this number, arrive, each once and in order.
pub(crate) async fn exchange(
    one: &mut Program,
    other: &mut Program,
    upto: u64,
    bytes: u64,
) -> Duration {
    let begun = Instant::now();
    for peer in [&mut *one, &mut *other] {
        peer.tell(&format!("expect {upto}")).await;
    }
    for peer in [&mut *one, &mut *other] {
        peer.tell(&format!("send {upto} {bytes}")).await;
    }
    for peer in [one, other] {
        peer.all(&["complete", "delivered"]).await;
    }
    begun.elapsed()
}
