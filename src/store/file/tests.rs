//! The file: who may open it, what is left when something goes wrong, and what a kill at any moment leaves.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;
use crate::contact::Contact;
use crate::identity::PeerId;
use crate::message::Timestamp;
use crate::store::{Argon2Cost, KeyStoreError, MemoryKeyStore, Passphrase};
use crate::trust::PeerTrust;

const NOW: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

/// A directory that goes with the test, and the path of a vault in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("me.vault");
    (folder, path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap().to_str().unwrap();
    path.with_file_name(format!("{name}{suffix}"))
}

fn key() -> StoreKey {
    StoreKey::from_secret_bytes([0x77; 32])
}

fn passphrase(text: &str) -> Passphrase {
    let cost = Argon2Cost::new(64, 1, 1).unwrap();
    Passphrase::new(text).unwrap().with_cost(cost)
}

fn identity() -> Identity {
    Identity::from_secret_bytes([0x11; 32])
}

fn meet(store: &mut IdentityStore, label: &str) {
    let peer = PeerId::from_bytes([0x22; 32]);
    let met = store
        .contacts_mut()
        .met(label, peer, PeerTrust::Invited, NOW);
    assert_eq!(met, Ok(PeerTrust::Invited));
}

fn labels(store: &IdentityStore) -> Vec<&str> {
    store.contacts().iter().map(Contact::label).collect()
}

#[track_caller]
fn open(path: &Path) -> IdentityStore {
    IdentityStore::open(path, &key()).unwrap()
}

#[track_caller]
fn refused(path: &Path) -> StoreError {
    IdentityStore::open(path, &key()).unwrap_err()
}

#[test]
fn what_was_saved_is_found_and_what_was_not_is_not() {
    let (_folder, path) = folder();
    let mut store = IdentityStore::create(&path, &key(), identity()).unwrap();
    assert_eq!(store.path(), path);
    meet(&mut store, "Ann");
    store.save().unwrap();
    meet(&mut store, "Bob");
    drop(store);
    let store = open(&path);
    assert_eq!(store.identity().peer_id(), identity().peer_id());
    assert_eq!(labels(&store), ["Ann"]);
}

#[test]
fn only_the_first_start_makes_an_identity() {
    let (_folder, path) = folder();
    let not_found = StoreError::NotFound { path: path.clone() };
    assert_eq!(refused(&path), not_found);
    let start = || IdentityStore::open_or_create(&path, &key(), Identity::generate).unwrap();
    let first = start().identity().peer_id();
    assert_eq!(start().identity().peer_id(), first);
    let exists = StoreError::AlreadyExists { path: path.clone() };
    let created = IdentityStore::create(&path, &key(), identity());
    assert_eq!(created.unwrap_err(), exists);
    assert_eq!(open(&path).identity().peer_id(), first);
}

///
#[test]
fn a_store_has_its_file_alone_until_it_is_dropped() {
    let (_folder, path) = folder();
    let store = IdentityStore::create(&path, &key(), identity()).unwrap();
    let in_use = StoreError::InUse { path: path.clone() };
    assert_eq!(refused(&path), in_use);
    let other = IdentityStore::open_or_create(&path, &key(), identity);
    assert_eq!(other.unwrap_err(), in_use);
    drop(store);
    open(&path);
}

#[test]
fn c8_a_wrong_passphrase_and_a_damaged_file_are_refused_and_left_as_they_are() {
    let (_folder, path) = folder();
    drop(IdentityStore::create(&path, &passphrase("one"), identity()).unwrap());
    let good = fs::read(&path).unwrap();
    let opened = IdentityStore::open(&path, &passphrase("two"));
    assert_eq!(opened.unwrap_err(), StoreError::WrongKeyOrDamaged);
    let damaged = [&good[..100], &[!good[100]], &good[101..]].concat();
    for (bytes, expected) in [
        (&good[..20], StoreError::BadLength { len: 20 }),
        (&[], StoreError::NotAVault),
        (&damaged, StoreError::WrongKeyOrDamaged),
    ] {
        fs::write(&path, bytes).unwrap();
        for opened in [
            IdentityStore::open(&path, &passphrase("one")),
            IdentityStore::open_or_create(&path, &passphrase("one"), identity),
        ] {
            assert_eq!(opened.unwrap_err(), expected);
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_file_of_any_length_is_not_read_beyond_the_longest_vault() {
    let (_folder, path) = folder();
    let len = 1 << 40;
    fs::File::create(&path).unwrap().set_len(len).unwrap();
    let max = MAX_VAULT as u64;
    assert_eq!(refused(&path), StoreError::TooLong { len, max });
}

#[test]
fn a_changed_lock_opens_with_the_new_one_only() {
    let (_folder, path) = folder();
    let mut store = IdentityStore::create(&path, &passphrase("one"), identity()).unwrap();
    store.change_lock(&passphrase("two")).unwrap();
    drop(store);
    let opened = IdentityStore::open(&path, &passphrase("one"));
    assert_eq!(opened.unwrap_err(), StoreError::WrongKeyOrDamaged);
    let mut store = IdentityStore::open(&path, &passphrase("two")).unwrap();
    store.change_lock(&key()).unwrap();
    drop(store);
    assert_eq!(open(&path).identity().peer_id(), identity().peer_id());
}

#[test]
fn a_failed_save_keeps_the_old_state_and_may_be_repeated() {
    let (_folder, path) = folder();
    let mut store = IdentityStore::create(&path, &key(), identity()).unwrap();
    let before = fs::read(&path).unwrap();
    meet(&mut store, "Ann");
    let obstacle = beside(&path, ".tmp");
    fs::create_dir(&obstacle).unwrap();
    let failed = store.save().unwrap_err();
    assert!(matches!(failed, StoreError::Io { .. }), "{failed}");
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_dir(&obstacle).unwrap();
    store.save().unwrap();
    drop(store);
    assert_eq!(labels(&open(&path)), ["Ann"]);
}

#[test]
fn what_a_killed_writer_left_beside_the_file_is_removed() {
    let (_folder, path) = folder();
    drop(IdentityStore::create(&path, &key(), identity()).unwrap());
    let left = beside(&path, ".tmp");
    fs::write(&left, b"half a vault").unwrap();
    drop(open(&path));
    assert!(!left.exists());
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_what_is_written() {
    use std::os::unix::fs::PermissionsExt as _;

    let (_folder, path) = folder();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let mut store = IdentityStore::create(&path, &key(), identity()).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&beside(&path, ".lock")), 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    store.save().unwrap();
    assert_eq!(mode(&path), 0o600);
}

#[cfg(unix)]
#[test]
fn symbolic_links_are_neither_read_nor_written_through() {
    use std::os::unix::fs::symlink;

    let (_folder, path) = folder();
    let victim = beside(&path, ".victim");
    let untouched = |what: &str| assert_eq!(fs::read(&victim).unwrap(), b"mine", "{what}");
    fs::write(&victim, b"mine").unwrap();

    for target in [&victim, &beside(&path, ".nowhere")] {
        symlink(target, &path).unwrap();
        let not_a_file = StoreError::NotAFile { path: path.clone() };
        assert_eq!(refused(&path), not_a_file);
        let created = IdentityStore::create(&path, &key(), identity());
        assert_eq!(created.unwrap_err(), not_a_file);
        assert!(!beside(&path, ".nowhere").exists());
        untouched("the vault");
        fs::remove_file(&path).unwrap();
    }

    let lock = beside(&path, ".lock");
    fs::remove_file(&lock).unwrap();
    symlink(&victim, &lock).unwrap();
    let not_a_file = StoreError::NotAFile { path: lock.clone() };
    assert_eq!(refused(&path), not_a_file);
    untouched("the lock");
    fs::remove_file(&lock).unwrap();

    let mut store = IdentityStore::create(&path, &key(), identity()).unwrap();
    symlink(&victim, beside(&path, ".tmp")).unwrap();
    store.save().unwrap();
    untouched("the temporary file");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());

    // A link put in the vault's place while it is open is replaced, not followed.
    fs::remove_file(&path).unwrap();
    symlink(&victim, &path).unwrap();
    store.save().unwrap();
    untouched("the vault, replaced");
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}

#[test]
fn directories_are_no_vaults() {
    let (folder, path) = folder();
    fs::create_dir(&path).unwrap();
    let not_a_file = StoreError::NotAFile { path: path.clone() };
    assert_eq!(refused(&path), not_a_file);
    let root = folder.path().ancestors().last().unwrap().to_owned();
    assert_eq!(refused(&root), StoreError::NotAFile { path: root.clone() });
}

/// Opening a pipe waits for its other end, which never comes.
#[cfg(target_os = "linux")]
#[test]
fn pipes_are_no_vaults_and_are_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let (_folder, path) = folder();
    for pipe in [path.clone(), beside(&path, ".lock")] {
        let _ = fs::remove_file(&pipe);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(refused(&path), StoreError::NotAFile { path: pipe });
    }
}

#[test]
fn a_key_store_keeps_the_key_and_the_file_the_rest() {
    let (_folder, path) = folder();
    let keys = MemoryKeyStore::new();
    let start = || IdentityStore::open_or_create_with(&path, &keys, "me", identity);
    let mut store = start().unwrap();
    meet(&mut store, "Ann");
    store.save().unwrap();
    drop(store);
    assert_eq!(labels(&start().unwrap()), ["Ann"]);

    let before = fs::read(&path).unwrap();
    let key = keys.load("me").unwrap().unwrap();
    keys.delete("me").unwrap();
    let missing = StoreError::KeyMissing { name: "me".into() };
    assert_eq!(start().unwrap_err(), missing);
    assert!(keys.load("me").unwrap().is_none(), "none was made");
    keys.store("me", &StoreKey::generate()).unwrap();
    assert_eq!(start().unwrap_err(), StoreError::WrongKeyOrDamaged);
    assert_eq!(fs::read(&path).unwrap(), before);
    keys.store("me", &key).unwrap();
    start().unwrap();
}

#[test]
fn a_key_left_by_a_start_that_was_killed_is_used() {
    let (_folder, path) = folder();
    let keys = MemoryKeyStore::new();
    keys.store("me", &key()).unwrap();
    drop(IdentityStore::open_or_create_with(&path, &keys, "me", identity).unwrap());
    open(&path);
}

#[test]
fn a_vault_with_a_passphrase_does_not_ask_the_key_store_to_replace_it() {
    let (_folder, path) = folder();
    drop(IdentityStore::create(&path, &passphrase("one"), identity()).unwrap());
    let keys = MemoryKeyStore::new();
    for _ in 0..2 {
        let opened = IdentityStore::open_or_create_with(&path, &keys, "me", identity);
        assert_eq!(opened.unwrap_err(), StoreError::NeedsPassphrase);
        keys.store("me", &key()).unwrap();
    }
}

#[test]
fn a_key_store_that_fails_makes_no_vault() {
    #[derive(Debug)]
    struct Locked;
    impl KeyStore for Locked {
        fn load(&self, _: &str) -> Result<Option<StoreKey>, KeyStoreError> {
            Err(KeyStoreError::new("the user refused"))
        }
        fn store(&self, _: &str, _: &StoreKey) -> Result<(), KeyStoreError> {
            panic!("a key that may exist must not be replaced");
        }
        fn delete(&self, _: &str) -> Result<(), KeyStoreError> {
            panic!("nobody asked");
        }
    }
    let (_folder, path) = folder();
    let opened = IdentityStore::open_or_create_with(&path, &Locked, "me", identity);
    let error = opened.unwrap_err();
    assert_eq!(error.to_string(), "the key store failed: the user refused");
    assert!(!path.exists());
}

/// Where the process that is to be killed writes.
const WRITER: &str = "SEALWIRE_TEST_VAULT";

/// Kills show the order of the writes to other processes; what a power failure leaves rests on fsync, and is not
/// tested here.
#[test]
fn a_writer_killed_at_any_moment_leaves_the_old_or_the_new_state() {
    const KILLS: u64 = 60;

    if let Some(path) = std::env::var_os(WRITER) {
        write_until_killed(Path::new(&path));
    }
    let (folder, path) = folder();
    drop(IdentityStore::create(&path, &key(), identity()).unwrap());
    let (mut known, mut within) = (0, 0);
    for round in 0..KILLS {
        let (saving, saved) = kill_writer(&path, round);
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert!(files <= 3, "the vault, its lock, and half a new vault");
        let found = state(&open(&path));
        let (least, most) = (saved.unwrap_or(known), saving.unwrap_or(known));
        assert!(
            (least..=most).contains(&found),
            "round {round}: {found} instead of {least} to {most}"
        );
        known = found;
        within += u64::from(saving > saved);
    }
    println!("{within} of {KILLS} kills came during a save, the last state is {known}");
}

/// Starts a writer and kills it after some saves and up to 3 ms more: the last states that it began to save, and that
/// it saved.
fn kill_writer(path: &Path, round: u64) -> (Option<u64>, Option<u64>) {
    let mut writer = start_writer(path);
    let mut lines = BufReader::new(writer.stderr.take().unwrap()).lines();
    let (mut saving, mut saved) = (None, None);
    let mut read = |line: String| {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["saving", n] => saving = Some(n.parse().unwrap()),
            ["saved", n] => saved = Some(n.parse().unwrap()),
            _ => {}
        }
        saved.is_some()
    };
    // Every eighth is killed while it starts.
    if !round.is_multiple_of(8) {
        let mut enough = 1 + round % 5;
        while enough > 0 {
            let line = lines.next().expect("the writer goes on").unwrap();
            enough -= u64::from(read(line));
        }
    }
    // Not to wait for something, but to hit another moment each time.
    std::thread::sleep(Duration::from_micros(round * 7_919 % 3_000));
    writer.kill().unwrap();
    writer.wait().unwrap();
    for line in lines {
        read(line.unwrap());
    }
    (saving, saved)
}

fn start_writer(path: &Path) -> Child {
    let name = "store::file::tests::a_writer_killed_at_any_moment_leaves_the_old_or_the_new_state";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(WRITER, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn write_until_killed(path: &Path) -> ! {
    // In one piece, so that a kill leaves whole lines.
    let say = |line: String| io::stderr().write_all(line.as_bytes()).unwrap();
    let mut store = open(path);
    let mut n = state(&store);
    loop {
        n += 1;
        *store.contacts_mut() = contacts(n);
        say(format!("saving {n}\n"));
        store.save().unwrap();
        say(format!("saved {n}\n"));
    }
}

/// The contacts of state `n`: so many that a write takes several pages, and each has the number in it.
fn contacts(n: u64) -> Contacts {
    let mut contacts = Contacts::new();
    for at in 0..100 + n % 100 {
        let (label, peer) = (at.to_string(), PeerId::from_bytes([1; 32]));
        let added = Timestamp::from_unix_ms(n);
        contacts
            .add(Contact::new(label, peer, PeerTrust::Pinned, added).unwrap())
            .unwrap();
    }
    contacts
}

/// Which state a store holds, all of it; 0 for none yet.
fn state(store: &IdentityStore) -> u64 {
    let mut all = store.contacts().iter().map(|contact| contact.added());
    let Some(first) = all.next() else { return 0 };
    let n = first.as_unix_ms();
    assert!(all.all(|added| added == first));
    assert_eq!(store.contacts().len() as u64, 100 + n % 100);
    n
}

#[test]
fn a_store_may_go_to_the_threads_that_block() {
    fn may_go<T: Send + Sync + 'static>() {}
    may_go::<IdentityStore>();
    may_go::<Box<dyn KeyStore>>();
}
