//! Looks at memory as it is freed, and at what is in use: no secret that is over may still be in it. A binary of its own: the allocator is the
//! whole process's.
//!
//! Every secret is known before the session that is looked at: its randomness is seeded, and another run of it was
//! recorded and opened with all keys. Only memory that the machines' own code frees is looked at; what tests hold is
//! theirs. The heap only, and in `erasure/stack.rs` the stack below one call: registers, and what the operating system
//! swaps out, cannot be seen from here.

#![allow(
    unsafe_code,
    reason = "an allocator is an unsafe trait, and freed memory is read as bytes"
)]
#![allow(
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    dead_code,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a test that goes wrong panics, and asks only for what it looks at"
)]

#[path = "sim/laws.rs"]
mod laws;
#[path = "sim/mallory.rs"]
mod mallory;
#[path = "erasure/stack.rs"]
mod stack;
#[path = "sim/thief.rs"]
mod thief;
#[path = "sim/world.rs"]
mod world;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

#[cfg(feature = "store")]
use sealwire::crypto::at_rest;
use sealwire::crypto::{
    chain::{RecvChain, SendChain},
    secret::Secret,
};
use world::{Case, Hostile, Letter, Relay, Told, World, at_work, is_at_work};

const SLOTS: usize = 1 << 16;
/// Eight bytes of a secret in each slot that is not zero, found by their hash.
static NEEDLES: [AtomicU64; SLOTS] = [const { AtomicU64::new(0) }; SLOTS];
/// Bytes looked at, and needles found in them.
static LOOKED_AT: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);
/// Where the first was: its block's size, and its place in it.
static FIRST: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Blocks that machines hold: where each begins, and its size. A place that was freed has the size 0.
static LIVE: [[AtomicUsize; 2]; BLOCKS] = [const { [const { AtomicUsize::new(0) }; 2] }; BLOCKS];
const BLOCKS: usize = 1 << 14;

struct Watching;

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed: what an earlier owner left in a block is not this one's.
        // SAFETY: the caller's promise is handed on.
        let block = unsafe { System.alloc_zeroed(layout) };
        if is_at_work() {
            note_live(block as usize, layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note_freed(pointer as usize);
        if is_at_work() {
            // SAFETY: the block is the caller's until the next line, and all of it was written when it was made.
            look(unsafe { std::slice::from_raw_parts(pointer, layout.size()) });
        }
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn places(block: usize) -> impl Iterator<Item = &'static [AtomicUsize; 2]> {
    let start = (block >> 4).wrapping_mul(0x9e37_79b9) >> 7;
    (start..start + BLOCKS).map(|place| &LIVE[place % BLOCKS])
}

/// Lock-free, for other threads allocate too. Allocates nothing.
fn note_live(block: usize, size: usize) {
    let place = places(block).find(|[at, _]| {
        let taken = at.compare_exchange(0, block, Relaxed, Relaxed);
        taken.is_ok() || at.load(Relaxed) == block
    });
    if let Some([_, length]) = place {
        length.store(size, Relaxed);
    }
}

fn note_freed(block: usize) {
    let mut taken = places(block).take_while(|[at, _]| at.load(Relaxed) != 0);
    if let Some([_, size]) = taken.find(|[at, _]| at.load(Relaxed) == block) {
        size.store(0, Relaxed);
    }
}

/// Looks at everything that machines hold; only while this thread alone has some.
fn look_at_live() {
    for [block, size] in &LIVE {
        let size = size.load(Relaxed);
        if size > 0 {
            let block = block.load(Relaxed) as *const u8;
            // SAFETY: the block was allocated, zeroed at first, and is not freed while this test has its turn.
            look(unsafe { std::slice::from_raw_parts(block, size) });
        }
    }
}

fn slots(needle: u64) -> impl Iterator<Item = &'static AtomicU64> {
    let start = (needle.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize;
    (start..start + SLOTS).map(|slot| &NEEDLES[slot % SLOTS])
}

fn is_needle(word: u64) -> bool {
    let mut filled = slots(word)
        .map(|slot| slot.load(Relaxed))
        .take_while(|found| *found != 0);
    filled.any(|found| found == word)
}

/// Looks for needles at every place of a block. Allocates nothing.
fn look(block: &[u8]) {
    LOOKED_AT.fetch_add(block.len(), Relaxed);
    for (at, word) in block.windows(8).enumerate() {
        let word = u64::from_ne_bytes(word.try_into().expect("eight bytes"));
        if word != 0 && is_needle(word) && FOUND.fetch_add(1, Relaxed) == 0 {
            FIRST[0].store(block.len(), Relaxed);
            FIRST[1].store(at, Relaxed);
        }
    }
}

/// One test at a time: needles and counts are the process's.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch_for<'a>(secrets: impl IntoIterator<Item = &'a [u8; 32]>) {
    NEEDLES.iter().for_each(|slot| slot.store(0, Relaxed));
    let pieces = secrets
        .into_iter()
        .flat_map(|secret| secret.as_chunks::<8>().0);
    for needle in pieces.map(|piece| u64::from_ne_bytes(*piece)) {
        if needle != 0 && !is_needle(needle) {
            let free = slots(needle).find(|slot| slot.load(Relaxed) == 0);
            free.expect("a free slot").store(needle, Relaxed);
        }
    }
    FOUND.store(0, Relaxed);
    LOOKED_AT.store(0, Relaxed);
}

#[track_caller]
fn assert_clean(what: &str) {
    let [size, at] = [0, 1].map(|which| FIRST[which].load(Relaxed));
    let found = FOUND.load(Relaxed);
    assert_eq!(
        found, 0,
        "{what}: pieces of secrets in freed memory, the first at {at} of {size} bytes"
    );
}

/// Drops the machines of a world, and what they hold, as a host does.
fn drop_machines(mut world: World<'_>) {
    for node in std::mem::take(&mut world.nodes) {
        let world::Node { machine, .. } = node;
        at_work(|| drop(machine));
    }
}

#[test]
fn what_is_not_erased_would_be_found() {
    let _turn = turn();
    let secret: [u8; 32] = std::array::from_fn(|i| 200 - i as u8);
    watch_for([&secret]);
    let boxed = Box::new(Secret::new(secret));
    at_work(|| drop(boxed));
    assert_clean("an erased box");
    assert_eq!(LOOKED_AT.load(Relaxed), 32);
    let mut longer = vec![0; 1_001];
    longer[969..].copy_from_slice(&secret);
    at_work(|| drop(longer));
    assert_eq!(FOUND.load(Relaxed), 4);
    // A buffer that grows leaves its first block behind.
    let mut grows = Vec::with_capacity(32);
    grows.extend_from_slice(&secret);
    at_work(|| grows.reserve_exact(1 << 20));
    assert_eq!(FOUND.load(Relaxed), 8);
}

///
#[test]
fn a_whole_session_frees_no_secret() {
    let _turn = turn();
    for case in Case::ALL {
        let (recording, drawn) = thief::record(case);
        let secrets = thief::secrets(case, &recording, &drawn);
        watch_for(&secrets);
        let mut world = World::of(case, 95, world::Honest);
        world.establish();
        assert_clean("the handshake");
        for text in ["a word", "another word"] {
            world.send(0, text);
            world.send(1, text);
        }
        world.run(Duration::from_secs(1));
        assert_clean("frames");
        world.close(0);
        world.run(Duration::from_secs(10));
        assert_clean("the end");
        drop_machines(world);
        assert_clean("the machines");
        let bytes = LOOKED_AT.load(Relaxed);
        assert!(bytes > 50_000, "there was much to see: {bytes}");
    }
}

///
#[test]
fn a_session_that_changes_keys_and_transport_frees_no_secret() {
    let _turn = turn();
    for case in Case::ALL {
        let secrets = thief::secrets_of_a_life(case);
        watch_for(&secrets);
        let mut world = World::of(case, 95, world::Honest);
        thief::live_on(&mut world, case);
        assert_clean("a life");
        drop_machines(world);
        assert_clean("its end");
    }
}

#[test]
fn a_session_that_is_dropped_at_any_step_frees_no_secret() {
    let _turn = turn();
    for case in Case::ALL {
        let (recording, drawn) = thief::record(case);
        let secrets = thief::secrets(case, &recording, &drawn);
        watch_for(&secrets);
        let mut steps = 0;
        loop {
            let mut world = World::of(case, 95, world::Honest);
            let end = world.now + Duration::from_secs(60);
            for _ in 0..steps {
                world.step(end);
            }
            let done = world.both_established();
            drop_machines(world);
            assert_clean("after some steps");
            if done {
                break;
            }
            steps += 1;
        }
        assert!(steps > 10, "{steps}");
    }
}

/// Before a machine joins again: from there on it draws what was a secret of the recorded session for other uses.
const SOON: Duration = Duration::from_millis(400);

///
#[test]
fn attempts_that_fail_free_no_secret() {
    let _turn = turn();
    for case in Case::ALL {
        let (recording, drawn) = thief::record(case);
        let secrets = thief::secrets(case, &recording, &drawn);
        watch_for(&secrets);
        for kind in 1..=4 {
            let mut world = World::of(case, 95, flip(kind));
            world.run(SOON);
            drop_machines(world);
            assert_clean("a blob was changed");
        }
        let mut world = World::of(case, 95, world::Honest);
        world.establish();
        world.cut(0);
        world.run(SOON);
        drop_machines(world);
        assert_clean("the link broke");
    }
}

/// Changes every blob of a kind.
fn flip(kind: u8) -> impl Hostile {
    Relay(move |mut letter: Letter| {
        if let Told::Blob { blob, .. } = &mut letter.told
            && blob[0] == kind
        {
            let last = blob.len() - 1;
            blob[last] ^= 1;
        }
        vec![letter]
    })
}

/// The machines of a world in a block of their own, and nowhere else.
fn move_machines(world: &mut World<'_>) -> Vec<sealwire::protocol::Machine> {
    let nodes = std::mem::take(&mut world.nodes).into_iter();
    let mut machines = at_work(|| Vec::with_capacity(nodes.len()));
    machines.extend(nodes.map(|world::Node { machine, .. }| machine));
    machines
}

///
#[test]
fn b9_what_machines_hold_after_a_frame_opens_none_before_it() {
    let _turn = turn();
    for case in Case::ALL {
        // On a stack of its own: what this leaves there must not get into what is looked at.
        let thief = std::thread::spawn(move || {
            let (recording, drawn) = thief::record(case);
            let past = thief::past(case, &recording, &drawn);
            (past, thief::secrets(case, &recording, &drawn))
        });
        let (past, all) = thief.join().expect("the thief's thread");
        assert!(past.len() > 100, "{}", past.len());
        watch_for(&past);
        let mut world = World::of(case, 95, world::Honest);
        world.establish();
        for text in ["a word", "another word"] {
            world.send(0, text);
            world.send(1, text);
        }
        world.run(Duration::from_secs(1));
        let machines = move_machines(&mut world);
        LOOKED_AT.store(0, Relaxed);
        look_at_live();
        assert_clean("live machines");
        let seen = LOOKED_AT.load(Relaxed);
        assert!(seen > 10_000, "there was much to see: {seen}");
        // What the next frames and keys need is there, so the search finds what there is.
        watch_for(&all);
        look_at_live();
        assert!(FOUND.load(Relaxed) > 4 * 10, "{}", FOUND.load(Relaxed));
        at_work(|| drop(machines));
    }
}

///
#[test]
fn keys_that_a_lossy_channel_kept_for_late_frames_are_erased_with_it() {
    let _turn = turn();
    let root = [9; 32];
    let mut sender = SendChain::new(Secret::new(root));
    let mut key = || *sender.next().expect("a fresh chain").1.expose();
    let keys: Vec<[u8; 32]> = (0..=40).map(|_| key()).collect();
    watch_for(&keys);
    let mut window = at_work(|| RecvChain::new(Secret::new(root)).into_window());
    let opened = at_work(|| window.open(40, |_| Ok::<(), ()>(())));
    assert_eq!(opened, Ok(Ok(())));
    assert_clean("a gap");
    look_at_live();
    let kept = FOUND.load(Relaxed);
    assert!(kept >= 4 * 40, "they are there: {kept}");
    watch_for(&keys);
    at_work(|| drop(window));
    assert_clean("a lossy channel");
}

///
#[cfg(feature = "store")]
#[test]
fn the_memory_that_made_a_key_of_a_passphrase_is_erased() {
    let _turn = turn();
    let (passphrase, salt, cost) = (b"a passphrase", [3; 16], (64, 1, 1));
    let params = argon2::Params::new(cost.0, cost.1, cost.2, Some(32)).expect("they exist");
    let mut memory = vec![argon2::Block::new(); params.block_count()];
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut key = [0; 32];
    let made = argon.hash_password_into_with_memory(passphrase, &salt, &mut key, &mut memory[..]);
    made.expect("a key");
    let words = memory.iter().flat_map(|block| block.as_ref().as_chunks().0);
    let bytes = |words: &[u64; 4]| {
        let mut bytes = [0; 32];
        for (to, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *to = word.to_ne_bytes();
        }
        bytes
    };
    let pieces: Vec<[u8; 32]> = words.map(bytes).collect();
    watch_for(&pieces);
    let made = at_work(|| at_rest::argon2id(passphrase, &salt, cost)).expect("a key");
    assert_eq!(made.expose(), &key, "the same was computed");
    assert_clean("Argon2id's memory");
    assert!(LOOKED_AT.load(Relaxed) >= 64 << 10);
}
