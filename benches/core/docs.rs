//! Puts what a bench printed into `docs/`.

use std::{fs, path::PathBuf};

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(file)
}

/// Writes a file of `docs/`.
pub fn write(file: &str, text: &str) {
    fs::write(path(file), text).expect("docs/ is writable");
}

/// Replaces what stands between `<!-- name -->` and `<!-- /name -->` in a file of `docs/`.
pub fn replace(file: &str, name: &str, text: &str) {
    let file = path(file);
    let old = fs::read_to_string(&file).expect("a file of docs/");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let at = old.find(&begin).expect("the begin mark") + begin.len();
    let to = old.find(&end).expect("the end mark");
    fs::write(file, format!("{}{text}{}", &old[..at], &old[to..])).expect("docs/ is writable");
}
