//! A session frame (header, a key of its own per frame, AEAD, in place) beside the bare AEADs and beside what other
//! libraries make of a message: time to seal and to open, as ratios.
//!
//! ```text
//! cargo bench --manifest-path benches/core/Cargo.toml --bench frames            # prints the tables
//! cargo bench --manifest-path benches/core/Cargo.toml --bench frames -- --write # and puts them into docs/
//! ```

#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::panic)]

mod sealers;

use std::{fmt::Write as _, hint::black_box};

use sealers::*;
use sealwire_benches::{Case, Figure, Spent, asked, compare, docs, plot};

const SIZES: [(usize, &str); 3] = [(64, "64 B"), (1 << 10, "1 KiB"), (16 << 10, "16 KiB")];
const ROUNDS: usize = 301;
/// A batch stays within the second-level cache.
const BATCH_BYTES: usize = 128 << 10;

/// A library's frames, batch by batch: all are sealed, then all are opened.
fn case<S: Sealer + Default>(name: &'static str, size: usize) -> Case<2> {
    let message: Vec<u8> = (0..size).map(|at| at as u8 | 1).collect();
    let mut sealer = S::default();
    let mut frames: Vec<S::Frame> = Vec::new();
    Case::new(name, BATCH_BYTES / (size + 192), move |count| {
        frames.resize_with(count.max(frames.len()), || S::frame(size));
        let frames = &mut frames[..count];
        frames.iter_mut().for_each(|frame| S::fill(frame, &message));
        let mut spent = [Spent::default(); 2];
        spent[0].measure(|| {
            frames
                .iter_mut()
                .for_each(|frame| sealer.seal(black_box(frame)))
        });
        spent[1].measure(|| {
            frames
                .iter_mut()
                .for_each(|frame| sealer.open(black_box(frame)))
        });
        assert!(
            frames.iter().all(|frame| S::opened(frame) == message),
            "{name}"
        );
        spent
    })
}

/// As [`case`], but each frame is opened before the next is sealed.
fn alternating<S: Sealer + Default>(name: &'static str, size: usize) -> Case<2> {
    let message: Vec<u8> = (0..size).map(|at| at as u8 | 1).collect();
    let mut sealer = S::default();
    Case::new(name, 64, move |count| {
        let mut spent = [Spent::default(); 2];
        for _ in 0..count {
            let mut frame = S::frame(size);
            S::fill(&mut frame, &message);
            spent[0].measure(|| sealer.seal(black_box(&mut frame)));
            spent[1].measure(|| sealer.open(black_box(&mut frame)));
            assert!(S::opened(&frame) == message, "{name}");
        }
        spent
    })
}

fn cases(size: usize) -> Vec<Case<2>> {
    vec![
        case::<Ours<false>>("sealwire", size),
        case::<Ours<true>>("sealwire, padded", size),
        case::<SecretStream>("dryoc secretstream", size),
        case::<Snow<true>>("snow, ring", size),
        case::<Snow<false>>("snow", size),
        case::<Clatter>("clatter", size),
        case::<Olm>("vodozemac Olm, one way", size),
        alternating::<OlmPingPong>("vodozemac Olm, ping-pong", size),
        case::<Sframe>("sframe (AES-GCM)", size),
        case::<BareRing>("bare ring", size),
        case::<BoundRing>("bare ring, key bound per frame", size),
        case::<Erased>("bare choice, bound and erased", size),
        case::<BareAwsLc>("bare aws-lc-rs", size),
        case::<BareDryoc>("bare dryoc", size),
        case::<BareGraviola>("bare graviola", size),
        case::<BareRustCrypto>("bare chacha20poly1305", size),
        case::<BareLibcrux>("bare libcrux", size),
    ]
}

fn main() {
    let rounds = if asked("--test") { 1 } else { ROUNDS };
    let mut names = Vec::new();
    let figures = SIZES.map(|(size, _)| {
        let mut cases = cases(size);
        names = cases.iter().map(|case| case.name).collect();
        compare(&mut cases, rounds)
    });
    let (table, bare) = (table(&names, &figures), bare(&names, &figures));
    println!("{table}\n{bare}");
    absolute(&names, &figures);
    if asked("--write") {
        docs::replace("benchmarks.md", "frames", &table);
        docs::replace("aead.md", "aead", &bare);
        docs::write(
            "frames.svg",
            &plot::frames(&names, &SIZES.map(|(_, size)| size), &figures),
        );
    }
}

/// Ours in units of each of the others: seal / open, and allocations per frame.
fn table(names: &[&str], figures: &[Vec<[Figure; 2]>; 3]) -> String {
    let mut text = String::from("| sealwire's time in units of | ");
    SIZES
        .iter()
        .for_each(|(_, size)| write!(text, "{size}: seal, open | ").expect("a string"));
    text.push_str("allocations per frame: seal, open |\n|---|---|---|---|---|\n");
    for (row, name) in names.iter().enumerate().skip(1) {
        write!(text, "| {name} |").expect("a string");
        for figures in figures {
            let [seal, open] = figures[row].map(|figure| 1.0 / figure.ratio);
            write!(text, " {}, {} |", short(seal), short(open)).expect("a string");
        }
        let [seal, open] = figures[0][row].map(|figure| figure.allocations);
        writeln!(text, " {seal:.0}, {open:.0} |").expect("a string");
    }
    text
}

/// Two digits that tell something.
fn short(ratio: f64) -> String {
    let digits = if ratio < 0.095 { 3 } else { 2 };
    format!("{ratio:.digits$}")
}

/// The bare AEADs in units of ring's: seal, open.
fn bare(names: &[&str], figures: &[Vec<[Figure; 2]>; 3]) -> String {
    let mut text = String::from("| time in units of bare ring's |");
    SIZES
        .iter()
        .for_each(|(_, size)| write!(text, " {size}: seal, open |").expect("a string"));
    text.push_str("\n|---|---|---|---|\n");
    let ring = names
        .iter()
        .position(|name| *name == "bare ring")
        .expect("a case");
    for (row, name) in names.iter().enumerate() {
        let Some(name) = name.strip_prefix("bare ") else {
            continue;
        };
        write!(text, "| {name} |").expect("a string");
        for figures in figures {
            let [seal, open] =
                [0, 1].map(|step| figures[row][step].ratio / figures[ring][step].ratio);
            write!(text, " {seal:.2}, {open:.2} |").expect("a string");
        }
        text.push('\n');
    }
    text
}

fn absolute(names: &[&str], figures: &[Vec<[Figure; 2]>; 3]) {
    println!("nanoseconds per frame, for orientation only: seal, open");
    for (row, name) in names.iter().enumerate() {
        print!("  {name:<26}");
        for figures in figures {
            let [seal, open] = figures[row].map(|figure| figure.nanoseconds);
            print!(" {seal:>9.0} {open:>9.0}  ");
        }
        println!();
    }
}
