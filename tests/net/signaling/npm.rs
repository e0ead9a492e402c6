//! Clients that know nothing of this crate, as they come from npm: `tests/legacy`.

use std::{path::PathBuf, process::Stdio};

use sealwire::{Error, Identity, session::Session};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::{process::Process, support::soon};

/// The directory of the clients; `None`, and a word why, when they cannot run here.
async fn clients() -> Option<PathBuf> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/legacy");
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let missing = if !node.await.is_ok_and(|status| status.success()) {
        "node is not installed"
    } else if !directory.join("node_modules/@roamhq/wrtc").is_dir() {
        "`npm ci` has not been run in tests/legacy"
    } else {
        return Some(directory);
    };
    assert!(
        std::env::var_os("SEALWIRE_REQUIRE_TOOLS").is_none(),
        "{missing}"
    );
    eprintln!("skipped: {missing}");
    None
}

/// Two chat at `path`, in this form, while a third is refused.
async fn chat(path: &str, form: &str) {
    let Some(directory) = clients().await else {
        return;
    };
    let process = Process::quiet(&["--legacy"]).await;
    let output = Command::new("node")
        .arg("chat.mjs")
        .args([&format!("ws://{}{path}", process.address), form])
        .current_dir(directory)
        .kill_on_drop(true)
        .output();
    let output = soon(output).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        told, "chatted\na third was closed with 4018\ndone\n",
        "{error}"
    );
}

#[tokio::test]
async fn two_simple_peers_chat_in_a_legacy_room_and_a_third_harms_neither() {
    chat("/legacy/some-room", "bare").await;
}

#[tokio::test]
async fn peers_that_wrap_their_signals_chat_at_the_root() {
    chat("/", "wrapped").await;
}

/// Runs a script of the directory until it is dropped.
fn node(directory: &PathBuf, args: &[&str]) -> Child {
    Command::new("node")
        .args(args)
        .current_dir(directory)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Why a session at `server` does not come about.
async fn refused(server: &str) -> Error {
    let builder = Session::builder(Identity::generate()).room("chat", server);
    let connected = soon(builder.accept_unknown().connect()).await;
    connected.expect_err("nobody there speaks this protocol")
}

#[tokio::test]
async fn a_session_that_meets_a_simple_peer_refuses_and_says_why() {
    let Some(directory) = clients().await else {
        return;
    };
    let mut relay = node(&directory, &["relay.mjs"]);
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let port = soon(lines.next_line()).await.unwrap().unwrap();
    let relay_url = format!("ws://127.0.0.1:{port}");
    let _peer = node(&directory, &["peer.mjs", &relay_url]);
    let process = Process::quiet(&["--legacy"]).await;
    let room_url = format!("ws://{}/legacy", process.address);
    // Where a session asks when it is sent to a legacy room: /v1 below the path.
    let _other = node(&directory, &["peer.mjs", &format!("{room_url}/v1")]);
    for url in [relay_url, room_url] {
        let error = refused(&url).await;
        assert!(matches!(error, Error::ServerGarbage { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("simple-peer") && !error.is_retryable(),
            "{text}"
        );
    }
}
