//! Lists of operations (operations.rs): random ones, and those that the fuzzer kept.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::operations;

#[test]
fn whatever_is_done_to_a_pair_messages_arrive_once_in_order_or_the_session_ends() {
    for seed in 0..150 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut data = vec![0; 1 + (rng.next_u64() % 120) as usize];
        rng.fill_bytes(&mut data);
        let caught = std::panic::catch_unwind(|| operations::run(&data));
        assert!(caught.is_ok(), "seed {seed}: {data:?}");
    }
}

#[test]
fn the_corpus_of_the_fuzzer_holds() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/operations");
    let Ok(entries) = std::fs::read_dir(corpus) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        operations::run(&std::fs::read(path).expect("a seed"));
    }
}
