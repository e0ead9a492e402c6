//! Two programs with a file between them, one of which is killed on the way.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    files::folder_with,
    process::{Program, example},
    support::{Running, soon},
};

const SIZE: usize = 64 << 20;

struct Setting {
    example: PathBuf,
    server: Running,
    source: PathBuf,
    folder: tempfile::TempDir,
    _source: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Option<Self> {
        let example = example("send_file")?;
        let (_source, source) = folder_with("film.bin", SIZE, 11);
        Some(Self {
            example,
            server: Running::start().await,
            source,
            folder: tempfile::tempdir().unwrap(),
            _source,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn listen(&self) -> Program {
        let (vault, downloads) = (self.path("bob.vault"), self.path("downloads"));
        fs::create_dir_all(&downloads).unwrap();
        let [vault, downloads] = [&vault, &downloads].map(|path| path.to_str().unwrap());
        let url = self.server.url();
        let args = [
            "listen", downloads, "--vault", vault, "--server", &url, "--json",
        ];
        Program::start(&self.example, &args)
    }

    fn dial(&self, how: [&str; 2]) -> Program {
        let vault = self.path("alice.vault");
        let [vault, source] = [&vault, &self.source].map(|path| path.to_str().unwrap());
        let args = [&["dial", source, "--vault", vault, "--json"], &how[..]].concat();
        Program::start(&self.example, &args)
    }

    /// Both programs, the first time they meet.
    async fn start(&self) -> (Program, Program) {
        let mut listener = self.listen();
        let invite = listener.json().await;
        let dialer = self.dial(["--invite", invite["text"].as_str().unwrap()]);
        (listener, dialer)
    }

    fn check(&self, sent: &Value, received: &Value) {
        let arrived = fs::read(self.path("downloads/film.bin")).unwrap();
        assert!(arrived == fs::read(&self.source).unwrap());
        assert_eq!(sent["sha256"], received["sha256"]);
        assert_eq!(sent["resumed_from"], received["resumed_from"]);
        let resumed = sent["resumed_from"].as_u64().unwrap();
        assert!(resumed >= SIZE as u64 / 4, "{resumed} bytes were there");
        let left = fs::read_dir(self.path("downloads")).unwrap().count();
        assert_eq!(left, 1, "the file and nothing else");
    }
}

/// Waits until a program says that it is at half.
async fn half(program: &mut Program) {
    loop {
        let line = program.json().await;
        if line["event"] == "progress" && line["bytes"].as_u64().unwrap() >= SIZE as u64 / 2 {
            return;
        }
        assert_ne!(line["event"], "sent", "killed too late");
        assert_ne!(line["event"], "received", "killed too late");
    }
}

fn last<'a>(lines: &'a [Value], event: &str) -> &'a Value {
    let mut found = lines.iter().filter(|line| line["event"] == event);
    found
        .next_back()
        .unwrap_or_else(|| panic!("no {event} in {lines:?}"))
}

#[tokio::test]
async fn a_receiver_that_is_killed_at_half_goes_on_from_there() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let (mut listener, dialer) = setting.start().await;
    half(&mut listener).await;
    soon(listener.child.kill()).await.unwrap();
    assert!(part(&setting.path("downloads")) >= SIZE as u64 / 2);
    let listener = setting.listen();
    let (sent, received) = tokio::join!(dialer.rest(), listener.rest());
    setting.check(last(&sent, "sent"), last(&received, "received"));
}

#[tokio::test]
async fn a_sender_that_is_killed_at_half_goes_on_from_there() {
    let Some(setting) = Setting::new().await else {
        return;
    };
    let (listener, mut dialer) = setting.start().await;
    half(&mut dialer).await;
    soon(dialer.child.kill()).await.unwrap();
    let url = setting.server.url();
    let dialer = setting.dial(["--server", &url]);
    let (sent, received) = tokio::join!(dialer.rest(), listener.rest());
    last(&received, "interrupted");
    setting.check(last(&sent, "sent"), last(&received, "received"));
}

/// Bytes of the file that is on its way.
fn part(folder: &Path) -> u64 {
    fs::metadata(folder.join("film.bin.part")).unwrap().len()
}
