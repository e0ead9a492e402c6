//! Real networks, in namespaces of this machine: NATs, TURN servers, networks that fail and come back. Root, iproute2,
//! nftables and coturn are needed; where they are missing it says so and is skipped, or fails if
//! `SEALWIRE_REQUIRE_TOOLS` is set. What hosts see in each scenario is printed; times are printed and never asserted.
//!
//! ```text
//! cargo test --all-features --test lab              # all; a word after -- selects those that have it in their name
//! ```

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that goes wrong panics, and this one prints"
)]

#[path = "lab/lossy_relay.rs"]
mod lossy_relay;
#[path = "lab/peer.rs"]
mod peer;
#[path = "lab/scenarios.rs"]
mod scenarios;
#[path = "lab/world.rs"]
mod world;

use std::{
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Instant,
};

use tokio::{sync::Semaphore, task::JoinSet};

/// What is missing is a failure where this is set, as in CI; elsewhere the lab says that it was skipped.
const REQUIRE_TOOLS: &str = "SEALWIRE_REQUIRE_TOOLS";

/// Scenarios that run at once: they mostly wait. On a busy machine peers may wait longer than they have patience for, so
/// that what failed is tried once more, one at a time, and said so; what is wrong fails twice.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    if peer::run() {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(missing) = missing() {
        println!("the lab is skipped: {missing}");
        return match std::env::var_os(REQUIRE_TOOLS) {
            Some(_) => ExitCode::FAILURE,
            None => ExitCode::SUCCESS,
        };
    }
    // A failure is told with its scenario; without a trace through the runtime.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let filters = words
        .into_iter()
        .filter(|word| !word.starts_with('-'))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(run(filters))
}

async fn run(filters: Vec<String>) -> ExitCode {
    let begun = Instant::now();
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let again = Arc::new(Semaphore::new(1));
    let mut running = JoinSet::new();
    let is_wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|word| name.contains(word));
    for (number, scenario) in scenarios::all().into_iter().enumerate() {
        if !is_wanted(scenario.name) {
            continue;
        }
        let (slots, again) = (Arc::clone(&slots), Arc::clone(&again));
        running.spawn(async move {
            let slot = slots.acquire_owned().await.unwrap();
            // Unique among runs at the same time; the kernel allows 15 bytes for devices and none are named by it.
            let prefix = format!("sw{}x{number}", std::process::id());
            let name = scenario.name;
            let mut outcome = tokio::spawn((scenario.run)(prefix.clone())).await;
            drop(slot);
            if let Err(error) = &outcome {
                println!("{name}: failed beside others, and is tried once more: {error}");
                let _one = again.acquire().await.unwrap();
                outcome = tokio::spawn((scenario.run)(format!("{prefix}b"))).await;
            }
            (name, outcome)
        });
    }
    let (mut passed, mut failed) = (0, Vec::new());
    while let Some(done) = running.join_next().await {
        match done.unwrap() {
            (name, Ok(seen)) => {
                passed += 1;
                println!("{name}");
                for line in seen {
                    println!("    {line}");
                }
            }
            (name, Err(error)) => {
                println!("{name}: FAILED: {error}");
                failed.push(name);
            }
        }
    }
    println!(
        "the lab: {passed} passed, {} failed {failed:?} in {:.1?}",
        failed.len(),
        begun.elapsed()
    );
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What the lab lacks here.
fn missing() -> Option<String> {
    for tool in ["ip", "nft", "turnserver", "bash"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let here = std::env::split_paths(&path).any(|folder| folder.join(tool).exists());
        if !here {
            return Some(format!(
                "there is no `{tool}`; it needs iproute2, nftables and coturn"
            ));
        }
    }
    // Root in a container may lack the right.
    let quietly = |words: &[&str]| {
        let mut ip = Command::new("ip");
        ip.args(words).stdout(Stdio::null()).stderr(Stdio::null());
        ip.status().is_ok_and(|status| status.success())
    };
    let name = format!("sw{}", std::process::id());
    let can = quietly(&["netns", "add", &name])
        && quietly(&["netns", "exec", &name, "nft", "add", "table", "ip", "x"]);
    quietly(&["netns", "delete", &name]);
    (!can).then(|| "network namespaces and nftables in them need root".to_owned())
}
