//! What the screen shows, and how keys and events change it. No terminal, no network.

use std::collections::BTreeMap;

use sealwire::{MessageId, PeerTrust, ShortCode, Timestamp};
use tui_input::Input;

/// Entries that are kept for scrolling back.
const MAX_ENTRIES: usize = 10_000;

/// One thing in the conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Mine {
        text: String,
        at: Timestamp,
        mark: Mark,
        /// By which its delivery is told; without one the archive is asked.
        id: Option<MessageId>,
    },
    Theirs {
        text: String,
        at: Timestamp,
    },
    /// It was deleted here.
    Erased {
        at: Timestamp,
    },
    /// What a search found.
    Found {
        text: String,
        at: Timestamp,
        is_mine: bool,
    },
    /// What this program has to say.
    Notice(String),
    /// What went wrong, or may be an attack.
    Warning(String),
}

impl Entry {
    /// When it was said, if it is part of the conversation.
    pub fn at(&self) -> Option<Timestamp> {
        match self {
            Self::Mine { at, .. }
            | Self::Theirs { at, .. }
            | Self::Erased { at }
            | Self::Found { at, .. } => Some(*at),
            Self::Notice(_) | Self::Warning(_) => None,
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// For the other side to come.
    Waiting,
    Sent,
    Delivered,
}

/// What is asked before something is done, instead of a line to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub text: String,
    /// Whether the answer is not to be seen.
    pub is_secret: bool,
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
    pub trust: Option<PeerTrust>,
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
    pub question: Option<Question>,
    /// Lines from the end that the window was moved up by.
    pub scroll: usize,
    /// Lines of the conversation that were seen at once.
    pub height: usize,
    /// Whether the window reaches above what is loaded.
    pub lacks: bool,
    /// The position in the archive before which there is more.
    pub earlier: Option<u64>,
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
            // What goes before is no longer what comes before.
            self.earlier = None;
        }
    }

    /// Puts what was said before in front, the oldest first. `earlier`: the position before which there is more.
    pub fn push_earlier(&mut self, mut entries: Vec<Entry>, earlier: Option<u64>) {
        entries.append(&mut self.entries);
        self.entries = entries;
        self.earlier = earlier.filter(|_| self.entries.len() < MAX_ENTRIES);
    }

    /// The peer's host took a message.
    pub fn delivered(&mut self, message: MessageId) {
        if let Some((mark, _)) = self.mine(message) {
            *mark = Mark::Delivered;
        }
    }

    /// The session ended before that is known of a message: the archive knows, or will.
    pub fn lost_sight_of(&mut self, message: MessageId) {
        if let Some((_, id)) = self.mine(message) {
            *id = None;
        }
    }

    fn mine(&mut self, message: MessageId) -> Option<(&mut Mark, &mut Option<MessageId>)> {
        let mut entries = self.entries.iter_mut().rev();
        entries.find_map(|entry| match entry {
            Entry::Mine { mark, id, .. } if *id == Some(message) => Some((mark, id)),
            _ => None,
        })
    }

    /// Own messages of which the archive is asked what became of them: how far back, in messages of mine.
    pub fn unsettled(&self) -> usize {
        let mine = |entry: &&Entry| matches!(entry, Entry::Mine { .. });
        let open = |entry: &Entry| matches!(entry, Entry::Mine { mark, id: None, .. } if *mark != Mark::Delivered);
        match self.entries.iter().position(open) {
            Some(oldest) => self.entries[oldest..].iter().filter(mine).count(),
            None => 0,
        }
    }

    /// What the archive says of own messages, the newest first: each is that of the newest entry of the same text.
    /// Whether anything changed.
    pub fn settle(&mut self, mut stored: Vec<(String, Mark)>) -> bool {
        let mut changed = false;
        for entry in self.entries.iter_mut().rev() {
            let Entry::Mine { text, mark, id, .. } = entry else {
                continue;
            };
            let Some(at) = stored.iter().position(|(stored, _)| stored == text) else {
                continue;
            };
            let (_, found) = stored.remove(at);
            if id.is_none() && *mark != Mark::Delivered && *mark != found {
                *mark = found;
                changed = true;
            }
        }
        changed
    }

    /// The line that was typed, which is empty from here on.
    pub fn take_line(&mut self) -> Option<String> {
        let line = self.input.value().trim().to_owned();
        self.input.reset();
        self.scroll = 0;
        (!line.is_empty()).then_some(line)
    }

    /// The answer to the question, which is answered by it.
    pub fn take_answer(&mut self) -> String {
        self.question = None;
        let answer = self.input.value().to_owned();
        self.input.reset();
        answer
    }

    pub fn scroll_by(&mut self, lines: isize) {
        self.scroll = self.scroll.saturating_add_signed(lines);
    }

    /// Nearly all of what is seen, so that the eye finds its place.
    pub fn page(&self) -> isize {
        isize::try_from(self.height.saturating_sub(2).max(1)).unwrap_or(1)
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
    fn the_archive_settles_the_newest_of_equal_texts_first() {
        let mine = |text: &str, mark| Entry::Mine {
            text: text.to_owned(),
            at: Timestamp::from_unix_ms(1),
            mark,
            id: None,
        };
        let mut app = App::default();
        for (text, mark) in [
            ("ok", Mark::Delivered),
            ("ok", Mark::Waiting),
            ("no", Mark::Waiting),
        ] {
            app.push(mine(text, mark));
        }
        assert_eq!(app.unsettled(), 2);
        let stored = |text: &str, mark| (text.to_owned(), mark);
        assert!(app.settle(vec![
            stored("no", Mark::Sent),
            stored("ok", Mark::Delivered),
            stored("ok", Mark::Delivered),
        ]));
        assert_eq!(app.entries[1], mine("ok", Mark::Delivered));
        assert_eq!(app.entries[2], mine("no", Mark::Sent));
        assert_eq!(app.unsettled(), 1);
        assert!(!app.settle(vec![stored("no", Mark::Sent)]));
    }

    #[test]
    fn earlier_entries_go_in_front_until_there_are_too_many() {
        let mut app = App::default();
        app.notice("now");
        app.push_earlier(vec![Entry::Notice("before".into())], Some(7));
        assert_eq!(app.entries[0], Entry::Notice("before".into()));
        assert_eq!(app.earlier, Some(7));
        app.push_earlier(vec![Entry::Notice("long ago".into()); MAX_ENTRIES], Some(3));
        assert_eq!(app.earlier, None);
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
