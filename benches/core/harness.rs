//! How cases are compared: they take turns, batch by batch, in one process, so that the machine's drift hits all of them
//! alike; each batch of a case is set against the reference's batch of the same round, and the median is what counts.

#![allow(
    missing_docs,
    unsafe_code,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::panic
)]

pub mod docs;
pub mod plot;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant},
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a batch took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    pub time: Duration,
    pub allocations: u64,
}

impl Spent {
    /// Measures `work` and adds it.
    pub fn measure(&mut self, work: impl FnOnce()) {
        let allocations = ALLOCATIONS.with(Cell::get);
        let begun = Instant::now();
        work();
        self.time += begun.elapsed();
        self.allocations += ALLOCATIONS.with(Cell::get) - allocations;
    }
}

/// A case: runs a batch of so many items and tells what each of its `STEPS` took.
pub struct Case<const STEPS: usize> {
    pub name: &'static str,
    run: Box<dyn FnMut(usize) -> [Spent; STEPS]>,
    batch: usize,
}

impl<const STEPS: usize> Case<STEPS> {
    pub fn new(
        name: &'static str,
        most: usize,
        mut run: impl FnMut(usize) -> [Spent; STEPS] + 'static,
    ) -> Self {
        let batch = batch(most, &mut run);
        Self {
            name,
            run: Box::new(run),
            batch,
        }
    }
}

/// How many items take about half a millisecond, at most `most`.
fn batch<const STEPS: usize>(most: usize, run: &mut impl FnMut(usize) -> [Spent; STEPS]) -> usize {
    run(4);
    let time: Duration = run(4).iter().map(|spent| spent.time).sum();
    let item = time.as_nanos().max(4) / 4;
    usize::try_from(500_000 / item)
        .unwrap_or(most)
        .clamp(1, most)
}

/// What a case's step took, per item.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figure {
    /// Median nanoseconds.
    pub nanoseconds: f64,
    /// Median ratio of its time to the first case's in the same round.
    pub ratio: f64,
    /// Allocations.
    pub allocations: f64,
}

/// All cases take turns, `rounds` times; figures by case and step.
pub fn compare<const STEPS: usize>(
    cases: &mut [Case<STEPS>],
    rounds: usize,
) -> Vec<[Figure; STEPS]> {
    let mut rows = vec![[const { Vec::new() }; STEPS]; cases.len()];
    let mut allocations = vec![[0.0; STEPS]; cases.len()];
    for _ in 0..rounds {
        for (index, case) in cases.iter_mut().enumerate() {
            // The first batch after the others ran warms the caches up again.
            (case.run)(case.batch.min(16));
            let spent = (case.run)(case.batch);
            for step in 0..STEPS {
                rows[index][step].push(spent[step].time.as_nanos() as f64 / case.batch as f64);
                allocations[index][step] = spent[step].allocations as f64 / case.batch as f64;
            }
        }
    }
    let reference = rows[0].clone();
    let figure = |row: &[f64], reference: &[f64], allocations: f64| Figure {
        nanoseconds: median(row.to_vec()),
        ratio: median(row.iter().zip(reference).map(|(a, b)| a / b).collect()),
        allocations,
    };
    let figures = rows.iter().zip(allocations).map(|(steps, allocations)| {
        std::array::from_fn(|step| figure(&steps[step], &reference[step], allocations[step]))
    });
    figures.collect()
}

/// Whether only a quick look was asked for (`cargo test --benches`), and whether the docs are to be rewritten.
#[must_use]
pub fn asked(argument: &str) -> bool {
    std::env::args().any(|given| given == argument)
}

#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
