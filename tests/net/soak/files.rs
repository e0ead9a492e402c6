//! Files, one after another, from one peer to the other.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::Path,
    time::Duration,
};

use sealwire::session::{IncomingOffer, Session};
use sha2::{Digest as _, Sha256};
use tokio::{sync::watch, time::sleep};

use super::chaos::Chance;

/// Between two files.
const PAUSE: Duration = Duration::from_millis(500);
/// Most files are shorter than this, and every eighth is eight times as long at most.
const SHORT: u64 = 1 << 20;

/// The files of one direction: what each side says of them.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Hashes of what was sent, by number.
    sent: RefCell<Vec<[u8; 32]>>,
    /// How many of them arrived, each whole and in turn.
    pub(super) arrived: Cell<usize>,
    bytes: Cell<u64>,
}

impl Files {
    pub(super) fn sent(&self) -> usize {
        self.sent.borrow().len()
    }

    pub(super) fn megabytes(&self) -> u64 {
        self.bytes.get() / 1_000_000
    }
}

/// Something that no other file looks like.
fn content(chance: &mut Chance, n: usize) -> Vec<u8> {
    let most = if n % 8 == 7 { 8 * SHORT } else { SHORT };
    let length = chance.below(most) as usize;
    let mut content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    for block in content.chunks_mut(1 << 10) {
        block[0] = chance.below(256) as u8;
    }
    content
}

/// Sends one file after another until it is told to stop and the last one arrived.
pub(super) async fn send_files(
    session: &Session,
    mut chance: Chance,
    files: &Files,
    stop: &watch::Receiver<bool>,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    while !*stop.borrow() {
        let content = content(&mut chance, files.sent());
        let hash: [u8; 32] = Sha256::digest(&content).into();
        fs::write(&path, content).unwrap();
        files.sent.borrow_mut().push(hash);
        let transfer = session.send_file(&path).await.unwrap();
        let report = transfer.finished().await.unwrap();
        assert_eq!((report.sha256, report.resumed_from), (hash, 0));
        files.bytes.set(files.bytes.get() + report.bytes);
        sleep(PAUSE).await;
    }
}

/// Takes what comes until the session is over.
pub(super) async fn take_files(session: &Session, files: &Files) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    while let Some(offer) = session.next_offer().await {
        let IncomingOffer::File(offer) = offer else {
            panic!("a stream was offered")
        };
        let transfer = offer.accept(&path).await.unwrap();
        let report = transfer.finished().await.unwrap();
        let expected = files.sent.borrow()[files.arrived.get()];
        assert_eq!(report.sha256, expected, "what was sent, and in turn");
        assert_eq!(hash_of(&path), expected, "whole on the disk");
        files.arrived.set(files.arrived.get() + 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

fn hash_of(path: &Path) -> [u8; 32] {
    Sha256::digest(fs::read(path).unwrap()).into()
}
