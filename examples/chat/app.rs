//! What the screen shows, and how keys and events change it. No terminal, no network.

use std::collections::BTreeMap;

use sealwire::{MessageId, ShortCode, Timestamp};
use tui_input::Input;

/// Entries that are kept for scrolling back.
const MAX_ENTRIES: usize = 10_000;

/// One thing in the conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Mine {
        text: String,
        at: Timestamp,
        id: MessageId,
        delivered: bool,
    },
    Theirs {
        text: String,
        at: Timestamp,
    },
    /// What this program has to say.
    Notice(String),
    /// What went wrong, or may be an attack.
    Warning(String),
}

/// A file on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    pub name: String,
    pub is_mine: bool,
    pub bytes: u64,
    pub total: u64,
}

/// The head of the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What the peer is called.
    pub peer: String,
    pub trust: String,
    /// Whether it can be called verified.
    pub is_verified: bool,
    pub state: String,
    pub is_connected: bool,
}

/// The whole.
#[derive(Debug, Default)]
pub struct App {
    pub status: Option<Status>,
    /// While nobody is there: what to hand to the other side.
    pub invite: Option<String>,
    pub entries: Vec<Entry>,
    pub moving: BTreeMap<u64, Moving>,
    pub input: Input,
    /// Lines from the end that the window was moved up by.
    pub scroll: usize,
    /// The code that is on the screen to be compared.
    pub code: Option<ShortCode>,
    pub is_over: bool,
}

impl App {
    pub fn notice(&mut self, text: impl Into<String>) {
        self.push(Entry::Notice(text.into()));
    }

    pub fn warn(&mut self, text: impl Into<String>) {
        self.push(Entry::Warning(text.into()));
    }

    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
        if self.entries.len() > MAX_ENTRIES {
            self.entries.drain(..MAX_ENTRIES / 10);
        }
    }

    /// The peer's host took a message.
    pub fn delivered(&mut self, message: MessageId) {
        for entry in self.entries.iter_mut().rev() {
            if let Entry::Mine { id, delivered, .. } = entry
                && *id == message
            {
                *delivered = true;
                return;
            }
        }
    }

    /// The line that was typed, which is empty from here on.
    pub fn take_line(&mut self) -> Option<String> {
        let line = self.input.value().trim().to_owned();
        self.input.reset();
        self.scroll = 0;
        (!line.is_empty()).then_some(line)
    }

    pub fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines);
    }
}

/// What a terminal may be shown of somebody else's text: no control characters, which could steer it, and none that
/// turn the direction of what follows.
pub fn printable(text: &str) -> String {
    let is_shown = |letter: &char| {
        *letter == '\n'
            || !(letter.is_control()
                || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    };
    text.replace('\t', "    ")
        .chars()
        .filter(is_shown)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_a_terminal_is_not_shown() {
        assert_eq!(printable("a\u{1b}[2Jb\u{7}c\r\nd\te"), "a[2Jbc\nd    e");
        assert_eq!(printable("abc\u{202e}fed\u{2066}"), "abcfed");
        assert_eq!(printable("שלום, 世界 🦀"), "שלום, 世界 🦀");
    }

    #[test]
    fn old_entries_make_room() {
        let mut app = App::default();
        for n in 0..=MAX_ENTRIES {
            app.notice(n.to_string());
        }
        assert!(app.entries.len() < MAX_ENTRIES);
        assert_eq!(
            app.entries.last(),
            Some(&Entry::Notice(MAX_ENTRIES.to_string()))
        );
    }

    #[test]
    fn a_line_is_taken_once_and_shows_the_newest_again() {
        let mut app = App {
            input: " hello ".into(),
            scroll: 7,
            ..App::default()
        };
        assert_eq!(app.take_line().as_deref(), Some("hello"));
        assert_eq!(app.take_line(), None);
        assert_eq!(app.scroll, 0);
    }
}
