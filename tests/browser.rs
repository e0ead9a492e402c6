//! The browser package and the chat page in a real Chromium: `tests/browser/`. A binary of its own, for those run one
//! after another: a browser beside dozens of other tests is slow enough to be taken for a broken one.

#![allow(clippy::print_stderr, reason = "what the scenarios print is shown")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is missing is a failure where this is set, as in CI; elsewhere the test says that it was skipped.
const REQUIRE_TOOLS: &str = "SEALWIRE_REQUIRE_TOOLS";

const BROWSERS: [&str; 3] = [
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];

#[test]
fn pages_chat_with_each_other_and_with_native_peers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (server, peer) = (
        PathBuf::from(env!("CARGO_BIN_EXE_sealwire-server")),
        example("echo_peer"),
    );
    if let Some(missing) = missing(root, &peer) {
        assert!(
            std::env::var_os(REQUIRE_TOOLS).is_none(),
            "{REQUIRE_TOOLS} is set, and {missing}"
        );
        eprintln!("skipped: {missing}");
        return;
    }
    let output = Command::new("node")
        .arg(root.join("tests/browser/run.mjs"))
        .args([&server, &peer])
        .output()
        .expect("node runs");
    eprintln!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "tests/browser/run.mjs: {}",
        output.status
    );
}

/// An example, which `cargo test` builds beside the folder of this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test is in <profile>/deps");
    let name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    profile.join("examples").join(name)
}

fn missing(root: &Path, peer: &Path) -> Option<&'static str> {
    if !peer.exists() || !example("send_file").exists() {
        return Some(
            "examples are not built: `cargo build --example echo_peer --example send_file`",
        );
    }
    if !root.join("tests/browser/node_modules").exists() {
        return Some("the packages are missing: `npm ci` in tests/browser");
    }
    if !root.join("examples/chat_web/pkg/sealwire_bg.wasm").exists() {
        return Some("the package is not built: `web/build`");
    }
    let node = Command::new("node").arg("--version").output();
    if !node.is_ok_and(|node| node.status.success()) {
        return Some("there is no `node`");
    }
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let mut browsers = BROWSERS.iter().map(PathBuf::from).chain(named);
    if !browsers.any(|browser| browser.exists()) {
        return Some("there is no Chromium");
    }
    None
}
