//! Names that a peer chose, made fit to be shown and to be a file's (S-29).

use super::wire::MAX_NAME;

/// Bytes of a file name: room for what is added while it is received, within the 255 bytes of common file systems.
const MAX_FILE_NAME: usize = 200;
/// Bytes of an extension that survives the shortening of a long name.
const MAX_EXTENSION: usize = 16;
/// Names that stand for a name with nothing usable in it.
const NAMELESS: &str = "file";
/// What the name of a note ends with, by which a part is known to be ours: no peer may leave one.
pub const NOTE_SUFFIX: &str = ".part.sealwire";
/// Names of devices on Windows, with any extension and in any case.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
/// Those that a digit follows.
const NUMBERED_DEVICES: [&str; 2] = ["com", "lpt"];

/// A name as it can be shown: what could steer a terminal, or make a text read differently from what it says, is `_`.
#[must_use]
pub fn displayed(name: &str) -> String {
    let shown = name.chars().take(MAX_NAME);
    shown
        .map(|c| if is_deceptive(c) { '_' } else { c })
        .collect()
}

/// A name that a file can have on every common system, whatever the peer wrote: one path component without separators,
/// devices, control or direction characters, at most 200 bytes, and never hidden.
#[must_use]
pub fn file_name(name: &str) -> String {
    let replaced: String = displayed(name)
        .chars()
        .map(|c| if is_forbidden(c) { '_' } else { c })
        .collect();
    // A leading dot hides a file, and trailing dots and spaces are dropped by Windows.
    let trimmed = replaced.trim_start_matches(['.', ' ']);
    let short = shorten(trimmed.trim_end_matches(['.', ' ']));
    if short.is_empty() {
        return NAMELESS.into();
    }
    if is_device(&short) {
        return format!("_{short}");
    }
    if is_note(&short) {
        return format!("{short}_");
    }
    short
}

/// Whether a file of this name would pass for a note.
#[must_use]
pub fn is_note(name: &str) -> bool {
    name.to_lowercase().ends_with(NOTE_SUFFIX)
}

fn is_forbidden(c: char) -> bool {
    matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Control characters, what sets the direction of text, what is not seen, and what ends a line.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Cuts a long name before its extension.
fn shorten(name: &str) -> String {
    if name.len() <= MAX_FILE_NAME {
        return name.to_owned();
    }
    let (stem, extension) = match name.rfind('.') {
        Some(dot) if name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    };
    let mut end = stem.len().min(MAX_FILE_NAME - extension.len());
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{extension}", stem[..end].trim_end_matches(['.', ' ']))
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    let stem = stem.trim_end().to_lowercase();
    let numbered = |device: &str| {
        let digit = stem.strip_prefix(device).unwrap_or_default();
        matches!(
            digit,
            "0" | "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
        )
    };
    DEVICES.contains(&stem.as_str()) || NUMBERED_DEVICES.iter().any(|device| numbered(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_good_people_stay_as_they_are() {
        for name in [
            "a.txt",
            "Übung 3.tar.gz",
            "写真.jpg",
            "com",
            "command.txt",
            "a..b",
            "-",
            "~",
        ] {
            assert_eq!(file_name(name), name);
            assert_eq!(displayed(name), name);
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_one_component() {
        for (name, safe) in [
            ("../../etc/passwd", "_.._etc_passwd"),
            ("..", "file"),
            (".", "file"),
            ("", "file"),
            (" . . ", "file"),
            ("/etc/shadow", "_etc_shadow"),
            (r"C:\Windows\x", "C__Windows_x"),
            ("a\0b\n", "a_b_"),
            (".ssh", "ssh"),
            ("x. ", "x"),
            ("report\u{202e}fdp.exe", "report_fdp.exe"),
            ("zero\u{200b}width", "zero_width"),
            ("file.txt:stream", "file.txt_stream"),
            ("CON", "_CON"),
            ("nul.txt", "_nul.txt"),
            ("Com1 .log", "_Com1 .log"),
            ("lpt².x", "_lpt².x"),
            ("x.part.sealwire", "x.part.sealwire_"),
            ("x.PART.Sealwire. .", "x.PART.Sealwire_"),
        ] {
            assert_eq!(file_name(name), safe, "{name:?}");
        }
    }

    #[test]
    fn long_names_keep_their_extension_and_their_characters_whole() {
        let long = file_name(&format!("{}.jpeg", "é".repeat(125)));
        assert!(
            long.len() <= MAX_FILE_NAME && long.ends_with("é.jpeg"),
            "{long}"
        );
        assert_eq!(file_name(&"x".repeat(255)).len(), MAX_FILE_NAME);
        let dots = file_name(&format!("{}.{}", "x".repeat(100), "y".repeat(150)));
        assert_eq!(dots.len(), MAX_FILE_NAME);
    }
}
