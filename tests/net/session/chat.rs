//! The chat of `examples/chat`, in two terminals of its own: keys in, and what a person then sees.

use std::{
    io::{Read as _, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::{process::example, support::Running};

/// How often a screen is looked at, and after how many looks it is clear that nothing comes: a minute and more.
const LOOK: Duration = Duration::from_millis(20);
const LOOKS: usize = 3_000;

const SIZE: PtySize = PtySize {
    rows: 40,
    cols: 100,
    pixel_width: 0,
    pixel_height: 0,
};

/// A program in a terminal, killed when dropped.
struct Screen {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Screen {
    fn start(program: &Path, args: &[&str]) -> Self {
        let pty = native_pty_system().openpty(SIZE).unwrap();
        let mut command = CommandBuilder::new(program);
        command.args(args);
        command.env("TERM", "xterm-256color");
        command.env("SEALWIRE_PASSPHRASE", "correct horse battery staple");
        let child = pty.slave.spawn_command(command).unwrap();
        let mut output = pty.master.try_clone_reader().unwrap();
        let keys = pty.master.take_writer().unwrap();
        let parser = Arc::new(Mutex::new(vt100::Parser::new(SIZE.rows, SIZE.cols, 0)));
        let seen = Arc::clone(&parser);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap().process(&buffer[..read]);
            }
        });
        Self {
            child,
            master: pty.master,
            keys,
            parser,
        }
    }

    fn contents(&self) -> String {
        self.parser.lock().unwrap().screen().contents()
    }

    /// The screen, once it shows this.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        for _ in 0..LOOKS {
            let contents = self.contents();
            if contents.contains(text) {
                return contents;
            }
            std::thread::sleep(LOOK);
        }
        panic!("no {text:?} in:\n{}", self.contents());
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn line(&mut self, text: &str) {
        self.press(&format!("{text}\r"));
    }

    fn resize(&self, rows: u16, cols: u16) {
        self.parser
            .lock()
            .unwrap()
            .screen_mut()
            .set_size(rows, cols);
        let size = PtySize { rows, cols, ..SIZE };
        self.master.resize(size).unwrap();
    }

    #[track_caller]
    fn ended(&mut self) {
        for _ in 0..LOOKS {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", self.contents());
                return;
            }
            std::thread::sleep(LOOK);
        }
        panic!("it goes on:\n{}", self.contents());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// The invite on a screen, which may take several lines of it.
fn invite(screen: &Screen) -> String {
    let contents = screen.wait_for("sealwire1:");
    let start = contents.find("sealwire1:").unwrap();
    let lines = contents[start..]
        .lines()
        .take_while(|line| !line.is_empty());
    lines.map(str::trim_end).collect()
}

/// The three numbers below the note that asks to compare them.
fn code(screen: &Screen) -> String {
    let contents = screen.wait_for("by voice, then: /code");
    let is_code = |line: &&str| {
        let groups: Vec<&str> = line.split_whitespace().collect();
        groups.len() >= 3
            && groups[groups.len() - 3..]
                .iter()
                .all(|group| group.parse::<u16>().is_ok_and(|n| n >= 1_000))
    };
    let line = contents.lines().rev().find(is_code).unwrap();
    let groups: Vec<&str> = line.split_whitespace().collect();
    groups[groups.len() - 3..].join(" ")
}

/// Two people with a vault each, and a server.
#[cfg(feature = "store")]
struct Pals {
    program: std::path::PathBuf,
    url: String,
    folder: tempfile::TempDir,
}

#[cfg(feature = "store")]
impl Pals {
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn meet(&self, me: &str, peer: &str) -> Screen {
        let vault = self.path(&format!("{me}.vault"));
        let args = ["meet", peer, "--server", &self.url, "--vault", &vault];
        Screen::start(&self.program, &args)
    }

    fn both(&self) -> (Screen, Screen) {
        let both = (self.meet("Alice", "Bob"), self.meet("Bob", "Alice"));
        both.0.wait_for("Connected, end-to-end encrypted");
        both.1.wait_for("Connected, end-to-end encrypted");
        both
    }

    /// By an invite, after which they are contacts and have talked.
    fn become_contacts(&self) {
        let vaults = [self.path("Alice.vault"), self.path("Bob.vault")];
        let args = ["invite", "--server", &self.url, "--vault", &vaults[0]];
        let mut alice = Screen::start(&self.program, &args);
        let invite = invite(&alice);
        let mut bob = Screen::start(&self.program, &["join", &invite, "--vault", &vaults[1]]);
        alice.wait_for("Connected, end-to-end encrypted");
        bob.wait_for("Connected, end-to-end encrypted");
        alice.line("/contact Bob");
        bob.wait_for("/contact NAME");
        bob.line("/contact Alice");
        alice.wait_for("Bob is in the vault");
        bob.wait_for("Alice is in the vault");
        alice.line("hello from alice");
        bob.wait_for("hello from alice");
        bob.line("hello from bob");
        alice.wait_for("hello from bob");
        bob.wait_for("✓ hello from bob");
        leave([alice, bob]);
    }
}

#[cfg(feature = "store")]
fn leave(screens: impl IntoIterator<Item = Screen>) {
    for mut screen in screens {
        screen.line("/quit");
        screen.ended();
    }
}

#[cfg(feature = "store")]
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_outlives_both_and_what_was_written_meanwhile_arrives_once() {
    let Some(program) = example("chat") else {
        return;
    };
    let server = Running::start().await;
    let folder = tempfile::tempdir().unwrap();
    let url = server.url();
    let pals = Pals {
        program,
        url,
        folder,
    };
    let talk = move || {
        pals.become_contacts();
        let mut alice = pals.meet("Alice", "Bob");
        alice.wait_for("✓ hello from alice");
        alice.wait_for("› hello from bob");
        alice.line("written while bob is away");
        alice.wait_for("… written while bob is away");
        alice.press("\u{3}");
        alice.ended();
        let (alice, mut bob) = pals.both();
        bob.wait_for("› written while bob is away");
        alice.wait_for("✓ written while bob is away");

        // The other side leaves and comes back: a contact is waited for, and written to.
        bob.line("/quit");
        bob.ended();
        let mut alice = alice;
        alice.wait_for("Bob is away");
        alice.line("and once more");
        alice.wait_for("… and once more");
        let bob = pals.meet("Bob", "Alice");
        bob.wait_for("› and once more");
        alice.wait_for("✓ and once more");
        leave([alice, bob]);

        let (alice, mut bob) = pals.both();
        for text in [
            "written while bob is away",
            "and once more",
            "hello from alice",
        ] {
            assert_eq!(
                bob.contents().matches(text).count(),
                1,
                "{}",
                bob.contents()
            );
        }
        look_for_export_and_delete(&pals, &mut bob);
        leave([bob, alice]);
        let bob = pals.meet("Bob", "Alice");
        assert!(
            !bob.wait_for("Waiting for Alice").contains("hello"),
            "{}",
            bob.contents()
        );
        leave([bob]);
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}

#[cfg(feature = "store")]
fn look_for_export_and_delete(pals: &Pals, bob: &mut Screen) {
    bob.line("/search 2020-01.. AWAY");
    bob.wait_for("? written while bob is away");
    bob.wait_for("1 found for: 2020-01.. AWAY");
    bob.line("/search nonsense");
    bob.wait_for("Nothing is found for: nonsense");
    let (json, age) = (pals.path("bob.json"), pals.path("bob.age"));
    bob.line(&format!("/export {json}"));
    bob.wait_for("bob.json is written");
    let tool = env!("CARGO_BIN_EXE_sealwire-history");
    let verify = std::process::Command::new(tool)
        .args(["verify", &json])
        .output();
    let verify = verify.unwrap();
    assert!(verify.status.success(), "{verify:?}");
    bob.line(&format!("/export {age}"));
    bob.wait_for("a passphrase for the file");
    bob.line("hunter2");
    bob.wait_for("once more");
    assert!(!bob.contents().contains("hunter2"));
    bob.line("hunter2");
    bob.wait_for("bob.age is written");
    assert!(
        std::fs::read(&age)
            .unwrap()
            .starts_with(b"age-encryption.org/v1\n")
    );
    bob.line("/delete");
    bob.wait_for("yes to delete");
    bob.press("\u{1b}");
    bob.wait_for("Nothing was done");
    bob.line("/delete");
    bob.wait_for("yes to delete");
    bob.line("yes");
    bob.wait_for("Deleted here");
    assert!(!bob.contents().contains("hello"), "{}", bob.contents());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_talk_compare_send_a_file_and_meet_again() {
    let Some(program) = example("chat") else {
        return;
    };
    let server = Running::start().await;
    let url = server.url();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::create_dir(path("in")).unwrap();
    std::fs::write(path("notes.txt"), "x".repeat(300_000)).unwrap();
    let (vault_a, vault_b, downloads) = (path("a.vault"), path("b.vault"), path("in"));
    let (file, arrived) = (path("notes.txt"), folder.path().join("in/notes.txt"));
    let talk = move || {
        let mut alice = Screen::start(&program, &["invite", "--server", &url, "--vault", &vault_a]);
        let invite = invite(&alice);
        let join = [
            "join",
            &invite,
            "--vault",
            &vault_b,
            "--downloads",
            &downloads,
        ];
        let mut bob = Screen::start(&program, &join);
        alice.wait_for("Connected, end-to-end encrypted");
        bob.wait_for("Connected, end-to-end encrypted");

        alice.line("hello from alice");
        bob.wait_for("hello from alice");
        alice.wait_for("✓ hello from alice");
        bob.line("hello from bob");
        alice.wait_for("hello from bob");
        bob.resize(12, 40);
        alice.line("a long line of many words that has to be wrapped in a narrow window");
        bob.wait_for("in a narrow");
        bob.resize(40, 100);

        alice.line("/code");
        let [one, other] = [code(&alice), code(&bob)];
        assert_eq!(one, other);
        alice.line("/code 1000 1000 1000");
        alice.wait_for("Somebody may be in between");
        bob.line(&format!("/code {one}"));
        bob.wait_for("Verified: nobody is in between");

        alice.line(&format!("/send {file}"));
        bob.wait_for("notes.txt, 292.97 KiB, is offered");
        bob.line("/accept");
        alice.wait_for("notes.txt was delivered");
        assert_eq!(std::fs::read(&arrived).unwrap().len(), 300_000);

        alice.line("/contact Bob");
        bob.wait_for("/contact NAME");
        bob.line("/contact Alice");
        alice.wait_for("Bob is in the vault");
        bob.wait_for("Alice is in the vault");
        bob.line("/quit");
        bob.ended();
        alice.wait_for("The chat is over");
        alice.press("\u{3}");
        alice.ended();

        let mut alice = Screen::start(
            &program,
            &["meet", "Bob", "--server", &url, "--vault", &vault_a],
        );
        let mut bob = Screen::start(
            &program,
            &["meet", "Alice", "--server", &url, "--vault", &vault_b],
        );
        alice.wait_for("Connected, end-to-end encrypted");
        bob.wait_for("Connected, end-to-end encrypted");
        bob.line("here again");
        alice.wait_for("here again");
        alice.line("/nonsense");
        alice.wait_for("/nonsense is not known");
        alice.line("/quit");
        alice.ended();
        bob.wait_for("The chat is over");
        bob.press("\u{4}");
        bob.ended();
    };
    tokio::task::spawn_blocking(talk).await.unwrap();
}
