//! Files from disk to disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealwire::{
    CloseCode, Identity, Invite,
    protocol::Event,
    session::{
        Builder, FileOffer, FileTransfer, IncomingOffer, Session, StreamError, StreamLimits,
    },
    stream::Reason,
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::{
    cutting::Cutting,
    reconnect::{acquainted, disconnected, resumed, until},
    support::{Running, assert_works, connect, copy, invited, pair, soon},
};

const LARGE: usize = 16 << 20;

/// A folder with a file in it that no other looks like.
pub(super) fn folder_with(name: &str, len: usize, seed: u8) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content(len, seed)).unwrap();
    (folder, path)
}

fn content(len: usize, seed: u8) -> Vec<u8> {
    let mut block = Sha256::digest([seed]);
    let mut content = Vec::with_capacity(len + 32);
    while content.len() < len {
        content.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    content.truncate(len);
    content
}

pub(super) async fn stream_pair(server: &Running) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    connect(inviter.streams(), redeemer.streams()).await
}

/// The next offer, which is a file.
pub(super) async fn offered(session: &Session) -> FileOffer {
    match soon(session.next_offer()).await {
        Some(IncomingOffer::File(offer)) => offer,
        other => panic!("{other:?}"),
    }
}

/// A file on its way: the sender's and the receiver's handle.
async fn under_way(
    from: &Session,
    path: &Path,
    to: &Session,
    target: &Path,
) -> (FileTransfer, FileTransfer) {
    let sending = soon(from.send_file(path)).await.unwrap();
    let offer = offered(to).await;
    let receiving = soon(to.accept_file(&offer, target)).await.unwrap();
    (sending, receiving)
}

/// Waits until so many bytes are here.
async fn reaches(transfer: &mut FileTransfer, bytes: u64) {
    while transfer.progress().bytes < bytes {
        let progress = soon(transfer.next_progress()).await;
        assert!(progress.is_some(), "{:?}", soon(transfer.finished()).await);
    }
}

async fn outcomes(
    (sending, receiving): (FileTransfer, FileTransfer),
) -> (Result<u64, StreamError>, Result<u64, StreamError>) {
    let (sent, received) = tokio::join!(soon(sending.finished()), soon(receiving.finished()));
    if let (Ok(sent), Ok(received)) = (&sent, &received) {
        assert_eq!(sent.sha256, received.sha256);
        assert_eq!(
            sent.sha256,
            *Sha256::digest(fs::read(&received.path).unwrap())
        );
    }
    let resumed = |outcome: Result<sealwire::session::FileReport, _>| {
        outcome.map(|report| report.resumed_from)
    };
    (resumed(sent), resumed(received))
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn large_files_go_both_ways_at_once_and_stop_no_message() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (_source, path) = folder_with("one.bin", LARGE, 1);
    let (_other_source, other_path) = folder_with("two.bin", LARGE, 2);
    let target = tempfile::tempdir().unwrap();
    let to_other = under_way(&one, &path, &other, &target.path().join("1")).await;
    let to_one = under_way(&other, &other_path, &one, &target.path().join("2")).await;
    let talk = async {
        for _ in 0..50 {
            assert_works(&one, &other).await;
        }
    };
    let (to_other, to_one, ()) = tokio::join!(outcomes(to_other), outcomes(to_one), talk);
    assert_eq!((to_other, to_one), ((Ok(0), Ok(0)), (Ok(0), Ok(0))));
    assert_eq!(names(&target), ["1", "2"]);
    assert!(fs::read(target.path().join("2")).unwrap() == content(LARGE, 2));
}

#[tokio::test]
async fn small_and_empty_files_arrive_and_progress_ends_at_the_size() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let target = tempfile::tempdir().unwrap();
    for (n, len) in [0, 1, 65_506, 65_507, 300_000].into_iter().enumerate() {
        let (_source, path) = folder_with("file", len, 3);
        let target = target.path().join(n.to_string());
        let transfers = under_way(&one, &path, &other, &target).await;
        let (sending, receiving) = (transfers.0.progress(), transfers.1.progress());
        assert_eq!((sending.total, receiving.total), (len as u64, len as u64));
        assert_eq!(outcomes(transfers).await, (Ok(0), Ok(0)));
        assert_eq!(fs::read(target).unwrap(), content(len, 3));
    }
}

#[tokio::test]
async fn a_transfer_goes_on_over_the_next_transport() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let cutter = Cutting::new();
    let inviter = inviter.transport(cutter.clone()).streams();
    let (one, other) = connect(inviter, redeemer.streams()).await;
    let (_source, path) = folder_with("cut.bin", LARGE, 4);
    let target = tempfile::tempdir().unwrap();
    let mut transfers = under_way(&one, &path, &other, &target.path().join("cut")).await;
    for part in 1..=3 {
        reaches(&mut transfers.1, part * (LARGE as u64) / 4).await;
        cutter.cut();
        tokio::join!(resumed(&one), resumed(&other));
    }
    assert_eq!(outcomes(transfers).await, (Ok(0), Ok(0)));
    assert_eq!(names(&target), ["cut"]);
}

/// Sessions of the same two identities, one after another.
async fn meet(server: &Running, ids: &[Identity; 2]) -> (Session, Session) {
    let invite = Invite::new(&ids[0], &server.url()).unwrap();
    let redeemer = Session::builder(ids[1].clone()).redeem(copy(&invite));
    let inviter = Session::builder(ids[0].clone()).invite(invite);
    connect(inviter.streams(), redeemer.streams()).await
}

#[tokio::test]
async fn a_new_session_goes_on_where_the_last_one_was_and_a_changed_file_begins_anew() {
    let server = Running::start().await;
    let ids = [Identity::generate(), Identity::generate()];
    let (_source, path) = folder_with("file.bin", LARGE, 5);
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("file.bin");

    let (one, other) = meet(&server, &ids).await;
    let mut transfers = under_way(&one, &path, &other, &to).await;
    reaches(&mut transfers.1, LARGE as u64 / 4).await;
    interrupt((one, other), transfers).await;
    assert_eq!(names(&target), ["file.bin.part", "file.bin.part.sealwire"]);

    let (one, other) = meet(&server, &ids).await;
    let mut transfers = under_way(&one, &path, &other, &to).await;
    reaches(&mut transfers.1, LARGE as u64 / 2).await;
    interrupt((one, other), transfers).await;
    let part = fs::metadata(target.path().join("file.bin.part"))
        .unwrap()
        .len();
    assert!(part >= LARGE as u64 / 2 && part <= LARGE as u64);

    let (one, other) = meet(&server, &ids).await;
    let transfers = under_way(&one, &path, &other, &to).await;
    assert_eq!(outcomes(transfers).await, (Ok(part), Ok(part)));
    assert_eq!(names(&target), ["file.bin"]);
    assert!(fs::read(&to).unwrap() == content(LARGE, 5));

    // A part that is not of this file's beginning, whatever its note says: all of it is sent.
    fs::remove_file(&to).unwrap();
    let mut transfers = under_way(&one, &path, &other, &to).await;
    reaches(&mut transfers.1, LARGE as u64 / 4).await;
    interrupt((one, other), transfers).await;
    let part = target.path().join("file.bin.part");
    let mut bytes = fs::read(&part).unwrap();
    bytes[17] ^= 1;
    fs::write(&part, bytes).unwrap();
    let (one, other) = meet(&server, &ids).await;
    let transfers = under_way(&one, &path, &other, &to).await;
    assert_eq!(outcomes(transfers).await, (Ok(0), Ok(0)));
    assert!(fs::read(&to).unwrap() == content(LARGE, 5));
}

/// Both processes are gone, as far as each other is concerned; what is on disk stays.
async fn interrupt((one, other): (Session, Session), transfers: (FileTransfer, FileTransfer)) {
    soon(one.suspend()).await.unwrap();
    for session in [&one, &other] {
        // Nobody is there to confirm it.
        let _ = soon(session.close_with(CloseCode::GOING_AWAY, "")).await;
    }
    let (sent, received) = outcomes(transfers).await;
    for outcome in [sent, received] {
        assert!(
            matches!(outcome, Err(StreamError::Session(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_sender_offers_again_when_its_peer_was_restarted() {
    let server = Running::start().await;
    let (me, peer) = (Identity::generate(), Identity::generate());
    let [of_peer, of_me] = acquainted(&server, [&me, &peer]).await;
    let meeting = |id: &Identity, contact| -> Builder {
        let builder = Session::builder(id.clone());
        builder.contact(contact, server.url()).streams()
    };
    let (one, old) = connect(meeting(&me, &of_peer), meeting(&peer, &of_me)).await;
    let (_source, path) = folder_with("again.bin", LARGE, 6);
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("again.bin");
    let (sending, mut receiving) = under_way(&one, &path, &old, &to).await;
    reaches(&mut receiving, LARGE as u64 / 4).await;
    // For the sender that is no different from a process that is gone. What it held back is its own to forget.
    soon(old.suspend()).await.unwrap();
    receiving_is_gone(receiving, &to).await;
    disconnected(&one).await;
    let reset = until(&one, |event| matches!(event, Event::SessionReset { .. }));
    let (again, _) = tokio::join!(soon(meeting(&peer, &of_me).connect()), reset);
    let again = again.unwrap();
    let offer = offered(&again).await;
    assert_eq!(
        (offer.name(), offer.size()),
        ("again.bin".into(), LARGE as u64)
    );
    let receiving = soon(offer.accept(target.path().join("copy")))
        .await
        .unwrap();
    assert_eq!(outcomes((sending, receiving)).await, (Ok(0), Ok(0)));
    drop(old);
}

async fn receiving_is_gone(receiving: FileTransfer, to: &Path) {
    receiving.cancel();
    let outcome = soon(receiving.finished()).await;
    assert_eq!(outcome.unwrap_err(), StreamError::Cancelled);
    assert!(!to.exists());
}

#[tokio::test]
async fn a_source_that_changes_while_it_is_sent_is_noticed_and_can_be_sent_anew() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (_source, path) = folder_with("changing.bin", LARGE, 7);
    let target = tempfile::tempdir().unwrap();
    let to = target.path().join("to");
    let mut transfers = under_way(&one, &path, &other, &to).await;
    reaches(&mut transfers.1, LARGE as u64 / 8).await;
    // While it stands still: what it read ahead is less than what is left.
    soon(one.suspend()).await.unwrap();
    fs::write(&path, content(LARGE, 8)).unwrap();
    soon(one.resume()).await.unwrap();
    let changed = StreamError::SourceChanged { path: path.clone() };
    let (sent, received) = outcomes(transfers).await;
    assert_eq!(sent, Err(changed));
    assert_eq!(received, Err(StreamError::Ended(Reason::Changed)));
    assert!(!to.exists());

    let transfers = under_way(&one, &path, &other, &to).await;
    assert_eq!(outcomes(transfers).await, (Ok(0), Ok(0)));
    assert!(fs::read(&to).unwrap() == content(LARGE, 8));
    assert_eq!(names(&target), ["to"]);
}

#[tokio::test]
async fn either_side_can_give_up_and_the_other_is_told() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (_source, path) = folder_with("unwanted.bin", LARGE, 9);
    let target = tempfile::tempdir().unwrap();
    for receiver_gives_up in [false, true] {
        let to = target.path().join("to");
        let mut transfers = under_way(&one, &path, &other, &to).await;
        reaches(&mut transfers.1, 1).await;
        soon(one.suspend()).await.unwrap();
        match receiver_gives_up {
            true => transfers.1.cancel(),
            false => transfers.0.cancel(),
        }
        soon(one.resume()).await.unwrap();
        let (mine, told) = (
            Err(StreamError::Cancelled),
            Err(StreamError::Ended(Reason::Cancelled)),
        );
        if receiver_gives_up {
            assert_eq!(outcomes(transfers).await, (told, mine));
            assert!(names(&target).is_empty(), "{:?}", names(&target));
        } else {
            assert_eq!(outcomes(transfers).await, (mine, told));
            assert_eq!(names(&target), ["to.part", "to.part.sealwire"]);
        }
    }
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn an_offer_can_be_refused_by_word_by_silence_and_by_size() {
    let server = Running::start().await;
    let (inviter, redeemer) = invited(&server);
    let mut limits = StreamLimits::default();
    limits.max_file = 1_000;
    let (one, other) = connect(inviter.streams(), redeemer.streams_within(limits)).await;
    let (_source, path) = folder_with("small", 1_000, 1);
    let (_large_source, large) = folder_with("large", 1_001, 1);
    for drops in [true, false] {
        let sending = soon(one.send_file(&path)).await.unwrap();
        let offer = offered(&other).await;
        match drops {
            true => drop(offer),
            false => offer.reject(),
        }
        let refused = soon(sending.finished()).await;
        assert_eq!(refused.unwrap_err(), StreamError::Refused);
    }
    let sending = soon(one.send_file(&large)).await.unwrap();
    let refused = soon(sending.finished()).await;
    assert_eq!(refused.unwrap_err(), StreamError::Ended(Reason::TooLarge));

    // Taken back before it was answered.
    let sending = soon(one.send_file(&path)).await.unwrap();
    let offer = offered(&other).await;
    sending.cancel();
    assert_eq!(soon(sending.finished()).await, Err(StreamError::Cancelled));
    assert_works(&one, &other).await;
    let target = tempfile::tempdir().unwrap();
    let late = soon(offer.accept(target.path().join("late"))).await;
    assert_eq!(late.unwrap_err(), StreamError::Ended(Reason::Cancelled));
}

#[tokio::test]
async fn nothing_that_is_there_is_overwritten_unless_it_was_asked_for() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (_source, path) = folder_with("new", 5_000, 1);
    let target = tempfile::tempdir().unwrap();
    let at = |name: &str| target.path().join(name);
    fs::write(at("taken"), "mine").unwrap();
    fs::write(at("free.part"), "also mine").unwrap();
    let sending = soon(one.send_file(&path)).await.unwrap();
    let offer = offered(&other).await;
    for (name, there) in [("taken", "taken"), ("free", "free.part")] {
        let refused = soon(offer.accept(at(name))).await.unwrap_err();
        assert_eq!(refused, StreamError::AlreadyExists { path: at(there) });
    }
    let nowhere = soon(offer.accept(at("no/folder"))).await.unwrap_err();
    assert!(matches!(nowhere, StreamError::Io { .. }), "{nowhere:?}");
    // The offer stands.
    let receiving = soon(offer.accept_replacing(at("taken"))).await.unwrap();
    let again = soon(offer.accept(at("other"))).await.unwrap_err();
    assert_eq!(again, StreamError::Answered);
    assert_eq!(outcomes((sending, receiving)).await, (Ok(0), Ok(0)));
    assert_eq!(fs::read(at("taken")).unwrap(), content(5_000, 1));
    assert_eq!(fs::read(at("free.part")).unwrap(), b"also mine");
}

#[tokio::test]
async fn only_regular_files_are_sent() {
    let server = Running::start().await;
    let (one, other) = stream_pair(&server).await;
    let (folder, path) = folder_with("file", 10, 1);
    let refused = soon(one.send_file(folder.path())).await.unwrap_err();
    assert!(matches!(refused, StreamError::NotAFile { .. }));
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let refused = soon(one.send_file(&link)).await.unwrap_err();
        assert!(matches!(refused, StreamError::NotAFile { .. }));
    }
    fs::remove_file(&path).unwrap();
    let refused = soon(one.send_file(&path)).await.unwrap_err();
    let missing = std::io::ErrorKind::NotFound;
    assert!(matches!(refused, StreamError::Io { kind, .. } if kind == missing));
    assert_works(&one, &other).await;
}

#[tokio::test]
async fn a_side_without_streams_is_an_error_at_once() {
    let server = Running::start().await;
    let (_source, path) = folder_with("file", 10, 1);
    let (one, other) = pair(&server).await;
    for session in [&one, &other] {
        let refused = soon(session.send_file(&path)).await.unwrap_err();
        assert_eq!(refused, StreamError::NotDeclared);
        assert!(soon(session.next_offer()).await.is_none());
    }
    let (inviter, redeemer) = invited(&server);
    let (one, _other) = connect(inviter.streams(), redeemer).await;
    let refused = soon(one.send_file(&path)).await.unwrap_err();
    assert_eq!(refused, StreamError::NotSupported);
    let refused = soon(one.open_stream("x")).await.unwrap_err();
    assert_eq!(refused, StreamError::NotSupported);
    assert!(soon(one.next_offer()).await.is_none());
}
