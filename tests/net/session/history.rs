//! Histories of whole sessions: stored, compared, sent again.

use sealwire::{
    CloseCode, Error, Identity, Message,
    history::{Archive, EntryState, HistoryError, MemoryHistory, Page, Pair, Record},
    protocol::Event,
    session::{Builder, Session},
};

use super::support::{Running, assert_works, connect, event, eventually, message, soon, text};

/// Two who know each other's keys, with a history each.
struct Pals {
    server: Running,
    identities: [Identity; 2],
    archives: [Archive; 2],
}

impl Pals {
    async fn new(archives: [Archive; 2]) -> Self {
        Self {
            server: Running::start().await,
            identities: [Identity::generate(), Identity::generate()],
            archives,
        }
    }

    fn pair(&self, side: usize) -> Pair {
        Pair {
            me: self.identities[side].peer_id(),
            peer: self.identities[1 - side].peer_id(),
        }
    }

    /// Without a history.
    fn bare(&self, side: usize) -> Builder {
        Session::builder(self.identities[side].clone())
            .room("pals", self.server.url())
            .pinned(self.identities[1 - side].peer_id())
    }

    fn builder(&self, side: usize) -> Builder {
        self.bare(side).history(&self.archives[side])
    }

    async fn meet(&self) -> (Session, Session) {
        connect(self.builder(0), self.builder(1)).await
    }

    async fn states(&self, side: usize) -> Vec<EntryState> {
        let newest = Page::newest(100);
        let page = self.archives[side].page(self.pair(side), &newest);
        let page = soon(page).await.unwrap();
        page.into_iter().map(|entry| entry.state).collect()
    }
}

fn in_memory() -> [Archive; 2] {
    [Archive::in_memory(), Archive::in_memory()]
}

async fn ended(session: &Session) {
    while soon(session.next()).await.is_some() {}
}

async fn until(session: &Session, wanted: impl Fn(&Event) -> bool) {
    while !wanted(&event(session).await) {}
}

#[tokio::test]
async fn what_was_said_is_there_in_the_next_session_and_the_heads_agree() {
    let pals = Pals::new(in_memory()).await;
    let (one, other) = pals.meet().await;
    assert_works(&one, &other).await;
    let (own, theirs) = (one.history().unwrap(), other.history().unwrap());
    eventually_same(&own, &theirs).await;
    soon(one.close()).await.unwrap();
    ended(&other).await;
    drop((one, other));
    let (one, other) = pals.meet().await;
    let page = one.history().unwrap().page(&Page::default()).await.unwrap();
    assert_eq!(page.len(), 2);
    assert_works(&one, &other).await;
    eventually_same(&own, &theirs).await;
}

async fn eventually_same(
    one: &sealwire::session::SessionHistory,
    other: &sealwire::session::SessionHistory,
) {
    let same = async {
        loop {
            let (sent, received) = one.heads().await.unwrap();
            if (received, sent) == other.heads().await.unwrap() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    soon(same).await;
}

#[tokio::test]
async fn what_waits_is_sent_once_and_before_all_else() {
    let pals = Pals::new(in_memory()).await;
    let time = sealwire::Timestamp::from_unix_ms(1);
    for waiting in ["first", "second"] {
        let kept = pals.archives[0].queue(pals.pair(0), waiting, time);
        soon(kept).await.unwrap();
    }
    let (one, other) = pals.meet().await;
    soon(one.send("third")).await.unwrap();
    for expected in ["first", "second", "third"] {
        assert_eq!(text(&other).await, expected);
    }
    // The peer rests: what is sent now does not arrive before the session ends.
    soon(other.suspend()).await.unwrap();
    soon(one.send("fourth")).await.unwrap();
    let stored = async {
        while pals.states(0).await.first() != Some(&EntryState::Sent) {
            tokio::task::yield_now().await;
        }
    };
    soon(stored).await;
    let _ = soon(one.close_with(CloseCode::GOING_AWAY, "")).await;
    let _ = soon(other.close_with(CloseCode::GOING_AWAY, "")).await;
    drop((one, other));
    let (one, other) = pals.meet().await;
    until(&one, |event| {
        matches!(event, Event::Undelivered { messages: 1 })
    })
    .await;
    assert_eq!(text(&other).await, "fourth");
    assert_works(&one, &other).await;
    eventually_delivered(&pals).await;
}

/// It would lie there until the next session: the host is told to send it in this one.
#[tokio::test]
async fn nothing_is_queued_beside_a_session_that_would_not_send_it() {
    let pals = Pals::new(in_memory()).await;
    let queue = || {
        let time = sealwire::Timestamp::from_unix_ms(1);
        soon(pals.archives[0].queue(pals.pair(0), "late", time))
    };
    let (one, other) = pals.meet().await;
    let refused = queue().await.unwrap_err();
    assert!(matches!(refused, HistoryError::InUse(_)), "{refused}");
    soon(one.send("in it")).await.unwrap();
    assert_eq!(text(&other).await, "in it");
    soon(one.close()).await.unwrap();
    ended(&other).await;
    drop((one, other));
    while queue().await.is_err() {
        tokio::task::yield_now().await;
    }
    let (_one, other) = pals.meet().await;
    assert_eq!(text(&other).await, "late");
}

async fn eventually_delivered(pals: &Pals) {
    let delivered = async {
        let done =
            |state: &EntryState| matches!(state, EntryState::Delivered | EntryState::Received);
        while !pals.states(0).await.iter().all(done) {
            tokio::task::yield_now().await;
        }
    };
    soon(delivered).await;
}

#[tokio::test]
async fn a_long_message_and_many_short_ones_pass_through_a_history() {
    let pals = Pals::new(in_memory()).await;
    let (one, other) = pals.meet().await;
    let long = vec![7; 1 << 20];
    let sending = async {
        soon(one.send(long.clone())).await.unwrap();
        for n in 0..500_u32 {
            soon(one.send(n.to_string())).await.unwrap();
        }
    };
    let receiving = async {
        let first: Message = message(&other).await;
        assert_eq!(first.content.as_bytes(), Some(&long[..]));
        for n in 0..500_u32 {
            assert_eq!(text(&other).await, n.to_string());
        }
    };
    tokio::join!(sending, receiving);
    soon(one.close()).await.unwrap();
}

#[tokio::test]
async fn a_peer_without_a_history_is_talked_to_unless_one_is_required() {
    let pals = Pals::new(in_memory()).await;
    let (one, other) = connect(pals.builder(0), pals.bare(1)).await;
    assert_works(&one, &other).await;
    assert_eq!(pals.states(0).await.len(), 2);
    soon(one.close()).await.unwrap();
    ended(&other).await;
    drop((one, other));
    let (one, other) = connect(pals.builder(0).require_history(), pals.bare(1)).await;
    for session in [&one, &other] {
        let left = |event: &Event| matches!(event, Event::Closed { code, .. } if *code == CloseCode::HISTORY_DIVERGED);
        until(session, left).await;
    }
    let error = soon(pals.bare(0).require_history().connect())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::InvalidConfig(_)), "{error}");
}

#[tokio::test]
async fn a_difference_is_told_and_nothing_flows_until_it_is_accepted() {
    let memory = MemoryHistory::new();
    let mut pals = Pals::new([Archive::new(memory.clone()), Archive::in_memory()]).await;
    let (one, other) = pals.meet().await;
    assert_works(&one, &other).await;
    soon(one.close()).await.unwrap();
    ended(&other).await;
    drop((one, other));
    memory.tamper(pals.pair(0), |records| {
        for record in records.values_mut() {
            if let Record::Chained { ts_ms, .. } = record {
                *ts_ms += 1;
            }
        }
    });
    pals.archives[0] = Archive::new(memory);
    let (one, other) = pals.meet().await;
    for session in [&one, &other] {
        until(session, |event| {
            matches!(event, Event::HistoryDiverged { .. })
        })
        .await;
    }
    let waits = soon(one.send("waits")).await.unwrap();
    one.accept_history();
    other.accept_history();
    assert_eq!(text(&other).await, "waits");
    soon(waits.delivered()).await.unwrap();
    assert_works(&one, &other).await;
    eventually(|| one.state() == sealwire::session::State::Connected).await;
}

#[cfg(feature = "store")]
mod on_disk {
    use std::{path::Path, process::Command};

    use sealwire::store::{DiskHistory, StoreKey};

    use super::{Archive, Page, Pals, assert_works, ended, soon};

    fn open(path: &Path) -> Archive {
        let key = StoreKey::from_secret_bytes([7; 32]);
        Archive::new(DiskHistory::open(path, &key).unwrap())
    }

    async fn export(pals: &Pals, side: usize, path: &Path) -> String {
        let mut out = Vec::new();
        let exported = pals.archives[side].export_json(pals.pair(side), &mut out);
        soon(exported).await.unwrap();
        std::fs::write(path, &out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn verify(arguments: &[&str]) -> (Option<i32>, String) {
        let tool = env!("CARGO_BIN_EXE_sealwire-history");
        let output = Command::new(tool).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }

    #[tokio::test]
    async fn a_conversation_on_disk_outlives_its_processes_and_is_verified() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["one", "other"].map(|name| folder.path().join(name));
        let files = ["one.json", "other.json"].map(|name| folder.path().join(name));
        let [one, other] = files.each_ref().map(|path| path.to_str().unwrap());
        let mut pals = Pals::new(paths.each_ref().map(|path| open(path))).await;
        for _ in 0..2 {
            let sessions = pals.meet().await;
            assert_works(&sessions.0, &sessions.1).await;
            soon(sessions.0.close()).await.unwrap();
            ended(&sessions.1).await;
            drop(sessions);
            pals.archives = super::in_memory();
            // The tasks of the sessions hold the files until they are gone.
            pals.archives = soon(reopen(&paths)).await;
        }
        let newest = Page::default();
        let page = pals.archives[0].page(pals.pair(0), &newest);
        assert_eq!(soon(page).await.unwrap().len(), 4);
        let text = export(&pals, 0, &files[0]).await;
        export(&pals, 1, &files[1]).await;
        let (code, said) = verify(&["verify", one, "--peer", other]);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("4 messages are the same on both sides"),
            "{said}"
        );

        let line = text.lines().nth(2).unwrap();
        std::fs::write(&files[0], text.replace(&format!("{line}\n"), "")).unwrap();
        let (code, said) = verify(&["verify", one]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("record "), "{said}");
        std::fs::write(&files[0], "{}").unwrap();
        assert_eq!(verify(&["verify", one]).0, Some(2));
        assert_eq!(verify(&["verify"]).0, Some(2));
        assert_eq!(verify(&["--help"]).0, Some(0));
    }

    async fn reopen(paths: &[std::path::PathBuf; 2]) -> [Archive; 2] {
        let key = StoreKey::from_secret_bytes([7; 32]);
        loop {
            let opened = paths.each_ref().map(|path| DiskHistory::open(path, &key));
            if let [Ok(one), Ok(other)] = opened {
                return [Archive::new(one), Archive::new(other)];
            }
            tokio::task::yield_now().await;
        }
    }
}
