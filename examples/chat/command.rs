//! What a line of the person at the keyboard means.

use std::path::PathBuf;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Say(String),
    Send(PathBuf),
    Accept(Option<PathBuf>),
    Refuse,
    Number,
    NumberIs(String),
    Code,
    CodeIs([u16; 3]),
    Contact(String),
    Search(String),
    Export(PathBuf),
    Delete,
    AcceptHistory,
    Security,
    Rekey,
    Rest,
    Wake,
    Help,
    Quit,
}

/// One line each, for `/help`.
pub const HELP: &[&str] = &[
    "/send FILE               offer a file",
    "/accept [PATH], /refuse  answer an offer",
    "/code [N N N]            three numbers to compare; what you were told",
    "/number [DIGITS]         60 digits to compare; what you were told",
    "/contact NAME            meet again without an invite, if both say so",
    "/search [WHEN] [WORDS]   WHEN: today, 2026-11-28, 2026-11, or A..B",
    "/export FILE             what was said, as JSON; FILE.age is encrypted",
    "/delete                  what was said, on this side only",
    "/accept-history          go on although the histories differ",
    "/security, /rekey        what protects this chat; new keys now",
    "/rest, /wake             leave the network and come back",
    "Up, Down, PageUp, PageDown   scroll, also into earlier days",
    "/quit, Ctrl-C            say goodbye",
    "✓ delivered, · sent, … waits.  //text begins with a slash.",
];

impl Command {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for the person who wrote it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let Some(rest) = line.strip_prefix('/') else {
            return Ok(Self::Say(line.to_owned()));
        };
        // A message may begin with a slash: write two.
        if rest.starts_with('/') {
            return Ok(Self::Say(rest.to_owned()));
        }
        let (word, argument) = rest.split_once(' ').unwrap_or((rest, ""));
        let argument = argument.trim();
        let needs = |what: &str| format!("/{word} {what}");
        Ok(match (word, argument) {
            ("send", "") => return Err(needs("FILE")),
            ("send", path) => Self::Send(path.into()),
            ("accept", "") => Self::Accept(None),
            ("accept", path) => Self::Accept(Some(path.into())),
            ("refuse", _) => Self::Refuse,
            ("number", "") => Self::Number,
            ("number", digits) => {
                Self::NumberIs(digits.chars().filter(char::is_ascii_digit).collect())
            }
            ("code", "") => Self::Code,
            ("code", groups) => {
                let groups = groups.split_whitespace().map(|group| group.parse().ok());
                let groups: Option<Vec<u16>> = groups.collect();
                let groups = groups.and_then(|groups| groups.try_into().ok());
                Self::CodeIs(groups.ok_or_else(|| needs("N N N"))?)
            }
            ("contact", "") => return Err(needs("NAME")),
            ("contact", name) => Self::Contact(name.to_owned()),
            ("search", "") => return Err(needs("[WHEN] [WORDS]")),
            ("search", query) => Self::Search(query.to_owned()),
            ("export", "") => return Err(needs("FILE")),
            ("export", path) => Self::Export(path.into()),
            ("delete", _) => Self::Delete,
            ("accept-history", _) => Self::AcceptHistory,
            ("security", _) => Self::Security,
            ("rekey", _) => Self::Rekey,
            ("rest", _) => Self::Rest,
            ("wake", _) => Self::Wake,
            ("help", _) => Self::Help,
            ("quit", _) => Self::Quit,
            _ => return Err(format!("/{word} is not known; /help lists what is")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_unless_they_begin_with_one_slash() {
        let say = |text: &str| Ok(Command::Say(text.to_owned()));
        assert_eq!(Command::parse("hello /quit"), say("hello /quit"));
        assert_eq!(Command::parse("//quit"), say("/quit"));
        assert_eq!(Command::parse("/quit"), Ok(Command::Quit));
    }

    #[test]
    fn arguments_are_read_and_missing_ones_told() {
        let parse = Command::parse;
        assert_eq!(parse("/send a b.txt"), Ok(Command::Send("a b.txt".into())));
        assert_eq!(parse("/search a  b"), Ok(Command::Search("a  b".into())));
        assert_eq!(parse("/accept"), Ok(Command::Accept(None)));
        assert_eq!(
            parse("/code 1000 2000 9191"),
            Ok(Command::CodeIs([1000, 2000, 9191]))
        );
        assert_eq!(
            parse("/number 123 45-6"),
            Ok(Command::NumberIs("123456".into()))
        );
        for (line, told) in [
            ("/send", "/send FILE"),
            ("/export", "/export FILE"),
            ("/search ", "/search [WHEN] [WORDS]"),
            ("/code 1 2", "/code N N N"),
            ("/x", "/help"),
        ] {
            assert!(parse(line).unwrap_err().contains(told), "{line}");
        }
    }
}
