//! The servers: ours first, because the others are told as multiples of it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::protocol::Protocol;

/// A server that can be started.
#[derive(Debug)]
pub struct Server {
    pub name: &'static str,
    pub protocol: Protocol,
    pub program: Vec<String>,
    /// Why it cannot be started.
    pub missing: Option<String>,
}

/// All of them; `directory` is that of this package.
pub fn all(directory: &Path) -> Vec<Server> {
    vec![
        ours(directory),
        bare(),
        node(
            directory,
            "ws with rooms",
            Protocol::Rooms,
            "ws",
            "rooms.mjs",
        ),
        node(
            directory,
            "peerjs-server",
            Protocol::PeerJs,
            "peer",
            "peerjs.mjs",
        ),
        node(
            directory,
            "broadcast relay",
            Protocol::Broadcast,
            "ws",
            "broadcast.mjs",
        ),
    ]
}

/// Its defaults, but for the rate of messages, which is lower than what is measured.
const OPTIONS: [&str; 5] = [
    "--listen=127.0.0.1:0",
    "--messages-per-second=4294967295",
    "--message-burst=4294967295",
    "--bytes-per-second=4294967295",
    "--byte-burst=4294967295",
];

/// `SEALWIRE_SERVER` names another build of it.
pub fn ours(directory: &Path) -> Server {
    let built = directory.join("../../target/release/sealwire-server");
    let binary = std::env::var_os("SEALWIRE_SERVER").map_or(built, PathBuf::from);
    let missing = (!binary.exists()).then(|| format!("there is no {}", binary.display()));
    let mut program = vec![text(&binary)];
    program.extend(OPTIONS.map(str::to_owned));
    Server {
        name: "sealwire-server",
        protocol: Protocol::Sealwire,
        program,
        missing,
    }
}

fn bare() -> Server {
    let this = std::env::current_exe().unwrap_or_default();
    let program = this.with_file_name("bare-relay");
    Server {
        name: "bare epoll relay",
        protocol: Protocol::Bare,
        missing: (!program.exists()).then(|| format!("there is no {}", program.display())),
        program: vec![text(&program)],
    }
}

fn node(
    directory: &Path,
    name: &'static str,
    protocol: Protocol,
    package: &str,
    script: &str,
) -> Server {
    let peers = directory.join("peers");
    let is_installed = peers.join("node_modules").join(package).is_dir();
    let missing = if !has_node() {
        Some("node is not installed".to_owned())
    } else {
        (!is_installed).then(|| format!("the package {package} is not installed in peers/"))
    };
    let script = text(&peers.join(script));
    Server {
        name,
        protocol,
        program: vec!["node".to_owned(), "--expose-gc".to_owned(), script],
        missing,
    }
}

fn has_node() -> bool {
    let version = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
