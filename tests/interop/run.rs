//! The protocol between this crate and its second reader, `tests/interop/`, in JavaScript.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What is missing is a failure where this is set, as in CI; elsewhere the test says that it was skipped.
const REQUIRE_TOOLS: &str = "SEALWIRE_REQUIRE_TOOLS";

/// The oldest major version that the packages support.
const OLDEST_NODE: u32 = 20;

#[test]
fn a_second_implementation_speaks_with_this_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let example = example();
    if let Some(missing) = missing(&folder, &example) {
        assert!(
            std::env::var_os(REQUIRE_TOOLS).is_none(),
            "{REQUIRE_TOOLS} is set, and {missing}"
        );
        println!("skipped: {missing}");
        return;
    }
    let output = Command::new("node")
        .arg(folder.join("run.mjs"))
        .arg(&example)
        .output()
        .expect("node runs");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "tests/interop/run.mjs: {}",
        output.status
    );
}

/// The example, which `cargo test` builds beside the folder of this test, but not where it is told to build this test
/// alone.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test is in <profile>/deps");
    let name = format!("interop_stdio{}", std::env::consts::EXE_SUFFIX);
    profile.join("examples").join(name)
}

fn missing(folder: &Path, example: &Path) -> Option<String> {
    if modified(example) < newest_source() {
        return Some("the example is not built: `cargo build --example interop_stdio`".into());
    }
    if node_version() < Some(OLDEST_NODE) {
        return Some("there is no `node`, version 20 or newer".into());
    }
    if !folder.join("node_modules").exists() {
        return Some("the packages are missing: `npm ci` in tests/interop".into());
    }
    None
}

fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version
        .trim()
        .strip_prefix('v')?
        .split('.')
        .next()?
        .parse()
        .ok()
}

/// `None` for what does not exist.
fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|about| about.modified()).ok()
}

fn newest_source() -> Option<SystemTime> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut newest = modified(&root.join("examples/interop_stdio.rs"));
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                newest = newest.max(modified(&path));
            }
        }
    }
    newest
}
