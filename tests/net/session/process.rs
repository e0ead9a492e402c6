//! Two programs that talk to each other, and what sessions leave behind in a process.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

use super::support::soon;

/// A program whose standard output is read line by line; killed when dropped.
pub(super) struct Program {
    pub(super) child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(super) fn start(path: impl Into<PathBuf>, args: &[&str]) -> Self {
        let mut child = Command::new(path.into())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(super) async fn line(&mut self) -> Option<String> {
        soon(self.lines.next_line()).await.unwrap()
    }

    pub(super) async fn json(&mut self) -> Value {
        serde_json::from_str(&self.line().await.expect("a line")).unwrap()
    }

    /// What it still says, after which it must succeed.
    pub(super) async fn rest(mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(serde_json::from_str(&line).unwrap());
        }
        let status = soon(self.child.wait()).await.unwrap();
        assert!(status.success(), "{status} after {rest:?}");
        rest
    }
}

/// An example, next to this test: `cargo test` builds both, `cargo test --test net` does not.
pub(super) fn example(name: &str) -> Option<PathBuf> {
    let test = std::env::current_exe().unwrap();
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    let example = test.parent()?.parent()?.join("examples").join(file);
    if !example.exists() {
        eprintln!(
            "skipped: there is no {}; run `cargo build --example {name} --all-features`",
            example.display()
        );
        return None;
    }
    Some(example)
}

fn of<'a>(lines: &'a [Value], event: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == event).collect()
}

#[tokio::test]
async fn two_programs_and_a_server_of_its_own_echo_messages_and_all_end_well() {
    let Some(example) = example("echo_peer") else {
        return;
    };
    let mut server = Program::start(
        env!("CARGO_BIN_EXE_sealwire-server"),
        &["--listen", "127.0.0.1:0"],
    );
    let listening = server.line().await.unwrap();
    let url = format!("ws://{}", listening.strip_prefix("listening on ").unwrap());
    for raw in [&[][..], &["--raw"][..]] {
        let args = [&["listen", "--server", &url, "--json"], raw].concat();
        let mut listener = Program::start(&example, &args);
        let invite = listener.json().await;
        assert_eq!(invite["event"], "invite");
        let text = invite["text"].as_str().unwrap();
        assert!(text.starts_with("sealwire1:"));

        let dialer = Program::start(&example, &[&["dial", text, "--json"], raw].concat());
        let (dialed, listened) = tokio::join!(dialer.rest(), listener.rest());
        for lines in [&dialed, &listened] {
            assert_eq!(lines.first().unwrap()["event"], "established");
            assert_eq!(lines.last().unwrap()["event"], "closed");
            assert_eq!(lines.last().unwrap()["code"], 0);
            assert_eq!(of(lines, "message").len(), 3, "{lines:?}");
        }
        assert_eq!(dialed[0]["safety_number"], listened[0]["safety_number"]);
        let echoes: Vec<_> = of(&dialed, "message")
            .iter()
            .map(|line| line["text"].clone())
            .collect();
        assert_eq!(echoes, ["hello", "from another process", "goodbye"]);
        assert_eq!(listened.last().unwrap()["unacked"], 0);
    }
}

#[tokio::test]
async fn the_program_fails_with_a_sentence_and_its_exit_code() {
    let Some(example) = example("echo_peer") else {
        return;
    };
    let mut dialer = Program::start(&example, &["dial", "sealwire1:AaGh", "--json"]);
    let error = dialer.json().await;
    assert_eq!(error["event"], "error");
    assert!(error["text"].as_str().unwrap().contains("damaged"));
    assert_eq!(soon(dialer.child.wait()).await.unwrap().code(), Some(1));
}

/// Set in the process that counts its own descriptors: the tests beside it would change the number.
#[cfg(target_os = "linux")]
const ALONE: &str = "SEALWIRE_TEST_ALONE";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn twenty_sessions_one_after_another_leave_no_descriptor_behind() {
    if std::env::var_os(ALONE).is_some() {
        return count_descriptors().await;
    }
    let name = "session::process::twenty_sessions_one_after_another_leave_no_descriptor_behind";
    let run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .kill_on_drop(true)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = soon(run).await.unwrap();
    let said = String::from_utf8_lossy(&stdout) + String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.contains("1 passed"), "{said}");
}

#[cfg(target_os = "linux")]
async fn count_descriptors() {
    use std::time::Duration;

    use super::support::{Running, assert_works, eventually, pair, texts_until_closed};

    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let server = Running::start().await;
    // The crate's threads, of which there are at most 8, and what they poll with come with the first sessions.
    for _ in 0..8 {
        let (one, other) = pair(&server).await;
        soon(one.close()).await.unwrap();
        assert!(texts_until_closed(&other).await.is_empty());
    }
    server.has_rooms(0).await;
    let mut least = descriptors();
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(2)).await;
        least = least.min(descriptors());
    }
    for n in 0..20 {
        let (one, other) = pair(&server).await;
        assert_works(&one, &other).await;
        // In good order, by dropping both, and by dropping one.
        match n % 3 {
            0 => soon(one.close()).await.unwrap(),
            1 => {}
            _ => drop(other),
        }
    }
    eventually(|| descriptors() <= least).await;
}
