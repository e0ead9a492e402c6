//! What all suites need: hexadecimal digits, files of `tests/data`, scripted randomness, counts of cases.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use sealwire::Entropy;
use serde_json::Value;

/// Randomness that was written down before.
pub struct Script(pub VecDeque<u8>);

impl Entropy for Script {
    fn fill(&mut self, out: &mut [u8]) {
        assert!(
            out.len() <= self.0.len(),
            "more is drawn than the vector has"
        );
        out.fill_with(|| self.0.pop_front().expect("the length was checked"));
    }
}

/// The text of a file of `tests/data`.
pub fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every case of a file in Wycheproof's or ACVP's form, with its group.
pub fn cases(file: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    list(&file["testGroups"]).flat_map(|group| list(&group["tests"]).map(move |case| (group, case)))
}

/// How many cases had each outcome: a file that lost cases must not pass.
#[derive(Default)]
pub struct Count(BTreeMap<&'static str, usize>);

impl Count {
    pub fn add(&mut self, outcome: &'static str) {
        *self.0.entry(outcome).or_default() += 1;
    }

    #[track_caller]
    pub fn check(self, suite: &str, expected: &[(&'static str, usize)]) {
        println!("{suite}: {:?}", self.0);
        assert_eq!(self.0, expected.iter().copied().collect(), "{suite}");
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

pub fn bytes(value: &Value) -> Vec<u8> {
    let digits = value.as_str().expect("hex").as_bytes();
    assert!(digits.len().is_multiple_of(2));
    let digit = |c: u8| char::from(c).to_digit(16).expect("hex") as u8;
    digits
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Bytes of a length that the form of the file fixes.
#[track_caller]
pub fn fixed<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("the length is fixed")
}

/// Bytes of hexadecimal digits in the source.
pub fn unhex<const N: usize>(digits: &str) -> [u8; N] {
    fixed(&Value::from(digits))
}
