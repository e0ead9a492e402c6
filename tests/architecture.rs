//! Holds the crate to its layout (`docs/architecture.md`, §3): who may import whom, where the core must not wait, how
//! long a file may be, which compiler the dependencies need, and where the protocol's rules are followed and tested.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Modules without decisions of their own, or that everything may speak of.
const FOR_ALL: &[&str] = &["config", "entropy", "error", "hex", "relay_url", "room"];

/// What each module may import besides itself and [`FOR_ALL`]; `a::b` allows only that part of `a`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("bin", &[]),
    ("config", &[]),
    ("contact", &["crypto", "identity", "message", "trust"]),
    ("entropy", &[]),
    ("error", &["identity", "invite", "message", "trust"]),
    ("hex", &[]),
    ("relay_url", &[]),
    ("room", &[]),
    ("crypto", &[]),
    ("identity", &["crypto"]),
    ("invite", &["crypto", "identity"]),
    ("message", &["identity"]),
    ("trust", &["identity", "message"]),
    ("verify", &["crypto", "identity"]),
    (
        "protocol",
        &["crypto", "identity", "invite", "message", "trust", "verify"],
    ),
    (
        "fuzzing",
        &[
            "crypto",
            "invite",
            "message",
            "protocol",
            "server::websocket",
            "signaling::envelope",
            "store",
            "verify",
        ],
    ),
    (
        "store",
        &["contact", "crypto", "identity", "message", "trust"],
    ),
    ("shell", &["transport"]),
    ("signaling", &["shell"]),
    ("transport", &["protocol::sdp", "shell"]),
    (
        "session",
        &[
            "contact",
            "crypto",
            "identity",
            "invite",
            "message",
            "protocol",
            "shell",
            "signaling",
            "transport",
            "trust",
            "verify",
        ],
    ),
    ("server", &["signaling::envelope"]),
];

/// Where waiting is allowed.
const SHELL: &[&str] = &[
    "bin",
    "server",
    "session",
    "shell",
    "signaling",
    "transport",
];

const MAX_LINES: usize = 600;

/// Rules that no test would see broken, and why.
const UNTESTED: &[(u32, &str)] = &[
    (106, "the policy answers at once: nothing has to be held"),
    (123, "loopback loses nothing: frames sent again do not show"),
];

/// A source file without its comments and unit tests.
struct Source {
    path: PathBuf,
    module: String,
    code: String,
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let allowed = table.get(source.module.as_str()).copied();
        let allowed = allowed.unwrap_or_else(|| panic!("{} is not in the table", source.module));
        let forbidden = imports(&source.code)
            .into_iter()
            .filter(|import| !may_import(&source.module, allowed, import));
        broken.extend(
            forbidden.map(|import| format!("{} imports crate::{import}", source.path.display())),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_shell_waits() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| !SHELL.contains(&source.module.as_str()))
    {
        let words = ["async fn", "async move", "async {", ".await"];
        let found = words
            .into_iter()
            .filter(|word| has_word(&source.code, word));
        broken.extend(found.map(|word| format!("{} has `{word}`", source.path.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// `Secret` has no `==`, and its bytes must not be compared by another way than its `ct_eq`.
///
#[test]
fn secrets_are_compared_in_constant_time_only() {
    let ways = [
        "==",
        "!=",
        ".cmp(",
        ".eq(",
        "contains(",
        "starts_with(",
        "ends_with(",
        "matches!",
    ];
    let compares =
        |line: &&str| line.contains("expose()") && ways.into_iter().any(|way| line.contains(way));
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.code.lines().filter(compares);
        broken.extend(lines.map(|line| format!("{}: {}", source.path.display(), line.trim())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_file_is_longer_than_a_newcomer_reads() {
    let lengths = sources()
        .into_iter()
        .map(|source| (source.code.lines().count(), source.path));
    let long: Vec<_> = lengths.filter(|(lines, _)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "split them: {long:#?}");
}

/// A rule that is dropped or moved shows here, and so does one that nobody looks after.
#[test]
fn every_rule_of_the_protocol_is_cited_by_code_and_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (rules, later) = rules(&root.join("docs/protocol.md"));
    let (mut code, mut tests, mut broken) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for path in [files(&root.join("src")), files(&root.join("tests"))].concat() {
        let is = |extension: &str| path.extension().is_some_and(|found| found == extension);
        let is_foreign = path.iter().any(|part| part == "node_modules");
        if is_foreign || !(is("rs") || is("mjs")) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("sources are UTF-8");
        let is_code = path.starts_with(root.join("src")) && !path.ends_with("tests.rs");
        let end = if is_code { unit_tests(&text) } else { 0 };
        let (own, test) = (cited(&text[..end]), cited(&text[end..]));
        let known = |rule: &&u32| rules.contains(rule) || later.contains(rule);
        let unknown = own.iter().chain(&test).filter(|rule| !known(rule));
        broken.extend(unknown.map(|rule| format!("{} cites R-{rule}: no rule", path.display())));
        code.extend(own);
        // The second implementation cites what it follows; that tests nothing.
        tests.extend(test.into_iter().filter(|_| is("rs")));
    }
    for rule in &rules {
        if !code.contains(rule) {
            broken.push(format!("R-{rule} is cited nowhere in src/"));
        }
        let is_untested = UNTESTED.iter().any(|(untested, _)| untested == rule);
        match (tests.contains(rule), is_untested) {
            (true, true) => broken.push(format!("R-{rule} is in UNTESTED and cited by a test")),
            (false, false) => broken.push(format!("R-{rule} is cited by no test")),
            _ => {}
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn citations_are_seen_alone_and_in_ranges() {
    let text = ["R", "-7 to R", "-9, (R", "-12), R", "- and XR", "-3"].concat();
    assert_eq!(cited(&text), BTreeSet::from([7, 8, 9, 12]));
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_the_manifest_says() {
    let metadata = metadata();
    let packages: BTreeMap<&str, &Value> = array(&metadata["packages"])
        .map(|package| (id(package), package))
        .collect();
    let root = metadata["resolve"]["root"]
        .as_str()
        .expect("this package is the root");
    let ours = rust_version(packages[root]).expect("the manifest has a rust-version");
    let above: Vec<String> = shipped(&metadata["resolve"], root)
        .into_iter()
        .filter(|dependency| rust_version(packages[dependency]) > Some(ours))
        .map(|dependency| {
            format!(
                "{dependency} needs {}",
                packages[dependency]["rust_version"]
            )
        })
        .collect();
    assert!(above.is_empty(), "raise rust-version: {above:#?}");
}

#[test]
fn grouped_imports_are_seen() {
    let code = "use crate::{a::{b, c::{d, e},}, f,\n};\nuse crate::g::h as i;\nlet x = crate::k();";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["a::b", "a::c::d", "a::c::e", "f", "g::h", "k"]);
}

/// The numbers of the rules that bind, and of those that will.
fn rules(protocol: &Path) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let text = fs::read_to_string(protocol).expect("the protocol is written down");
    let rules = text.lines().filter_map(|line| {
        let (number, rule) = line.strip_prefix("- **R-")?.split_once("**")?;
        (rule.trim() != "(retired)").then(|| (number.parse().expect("a number"), rule))
    });
    let (later, rules): (Vec<_>, Vec<_>) = rules.partition(|(_, rule)| rule.ends_with("(later)"));
    assert!(rules.len() > 200, "the rules were found");
    let numbers = |rules: Vec<(u32, &str)>| rules.into_iter().map(|(number, _)| number).collect();
    (numbers(rules), numbers(later))
}

/// The rules that a text cites, one by one or from one to another, in one line.
fn cited(text: &str) -> BTreeSet<u32> {
    let mut rules = BTreeSet::new();
    let mut last = None;
    for (at, _) in text.match_indices("R-") {
        let start = at + 2;
        let digits = text[start..].bytes().take_while(u8::is_ascii_digit);
        let end = start + digits.count();
        let Ok(rule) = text[start..end].parse::<u32>() else {
            continue;
        };
        if text[..at].ends_with(char::is_alphanumeric) {
            continue;
        }
        let first = match last {
            Some((first, before)) if &text[before..at] == " to " => first,
            _ => rule,
        };
        rules.extend(first..=rule);
        last = Some((rule, end));
    }
    rules
}

/// Whether a module whose row is `allowed` may name `crate::import`.
fn may_import(module: &str, allowed: &[&str], import: &str) -> bool {
    let top = import.split("::").next().unwrap_or_default();
    let fits =
        |rule: &&str| *rule == top || import == *rule || import.starts_with(&format!("{rule}::"));
    top == module || FOR_ALL.contains(&top) || allowed.iter().any(fits)
}

/// Whether `word` occurs and does not go on: `.await`, but not `.awaited()`.
fn has_word(code: &str, word: &str) -> bool {
    let mut after = code.split(word).skip(1);
    after.any(|after| !after.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
}

/// All of `src/`, unit tests in files of their own left out.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = files(&root)
        .into_iter()
        .filter(|path| path.to_string_lossy().ends_with(".rs") && !path.ends_with("tests.rs"));
    let sources: Vec<Source> = files.map(|path| read(&root, path)).collect();
    assert!(sources.len() > 10, "the sources were found");
    sources
}

fn read(root: &Path, path: PathBuf) -> Source {
    let relative = path.strip_prefix(root).expect("found below it");
    let first = relative.iter().next().expect("a file has a name");
    let module = first.to_string_lossy().trim_end_matches(".rs").to_owned();
    let text = fs::read_to_string(&path).expect("sources are UTF-8");
    let code = without_comments_and_tests(&text);
    Source { path, module, code }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a readable folder");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

/// Where the unit tests begin, which end every file of ours.
fn unit_tests(text: &str) -> usize {
    text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len())
}

/// Blank where comments were, and nothing from the unit tests on.
fn without_comments_and_tests(text: &str) -> String {
    let code = text[..unit_tests(text)]
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// Every path behind `crate::`.
fn imports(code: &str) -> BTreeSet<String> {
    code.split("crate::").skip(1).flat_map(leaves).collect()
}

/// What a tree of `use` names: `a::{b, c::{d, e}}` names `a::b`, `a::c::d` and `a::c::e`.
fn leaves(tree: &str) -> Vec<String> {
    let path = path(tree);
    let Some(group) = tree[path.len()..].strip_prefix('{') else {
        return vec![path.to_owned()];
    };
    let leaves = members(group).into_iter().flat_map(leaves);
    leaves.map(|leaf| format!("{path}{leaf}")).collect()
}

/// The members of a group, up to the brace that closes it.
fn members(group: &str) -> Vec<&str> {
    let (mut members, mut start, mut depth) = (Vec::new(), 0, 1);
    for (at, character) in group.char_indices() {
        depth += match character {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        if depth == 0 || (depth == 1 && character == ',') {
            members.push(group[start..at].trim());
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    members.retain(|member| !member.is_empty());
    members
}

/// The longest path at the start of `code`.
fn path(code: &str) -> &str {
    let end = code.find(|next: char| !(next.is_alphanumeric() || "_:".contains(next)));
    &code[..end.unwrap_or(code.len())]
}

/// Everything that ends up in a build of somebody who depends on us, with all features and for all platforms.
fn shipped<'a>(resolve: &'a Value, root: &'a str) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<&str, &Value> = array(&resolve["nodes"])
        .map(|node| (id(node), node))
        .collect();
    let (mut shipped, mut next) = (BTreeSet::new(), vec![root]);
    while let Some(package) = next.pop() {
        if shipped.insert(package) {
            let used = |dependency: &&Value| {
                array(&dependency["dep_kinds"]).any(|kind| kind["kind"] != "dev")
            };
            let used = array(&nodes[package]["deps"]).filter(used);
            next.extend(used.filter_map(|dependency| dependency["pkg"].as_str()));
        }
    }
    shipped
}

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "metadata",
        "--format-version",
        "1",
        "--all-features",
        "--locked",
    ]);
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo writes JSON")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn id(package: &Value) -> &str {
    package["id"].as_str().unwrap_or_default()
}

/// Major, minor, patch; `None` where the package does not say.
fn rust_version(package: &Value) -> Option<[u32; 3]> {
    let mut numbers = package["rust_version"]
        .as_str()?
        .split('.')
        .map(|number| number.parse().unwrap_or(0));
    Some(std::array::from_fn(|_| numbers.next().unwrap_or(0)))
}
