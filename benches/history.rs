//! The history on disk.
fn main() {}
