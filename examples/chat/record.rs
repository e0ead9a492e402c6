//! The conversation in the archive: reading, searching, exporting and deleting it, and messages for a peer that is away.

use std::{
    fs::{File, OpenOptions},
    io::BufWriter,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::{Zoned, tz::TimeZone};
use sealwire::{
    Timestamp,
    history::{self, Archive, Author, EntryState, HistoryError, Page, Pair},
};

use crate::{
    Outcome,
    app::{Entry, Mark, Question},
    search::Query,
    talk::{Talk, Told},
};

/// Messages that are read at once.
const PAGE: usize = 100;
/// Found messages that are shown.
const MAX_FOUND: usize = 100;

/// What a question is about.
pub enum Asked {
    Deletion,
    Passphrase(PathBuf),
    PassphraseAgain(PathBuf, String),
}

/// Reading.
impl Talk {
    fn pair(&self) -> Option<Pair> {
        let (me, peer) = (self.keep.identity().peer_id(), self.peer?);
        Some(Pair { me, peer })
    }

    /// Puts another page in front. Whether there was one.
    pub async fn load_earlier(&mut self) -> Outcome<bool> {
        let (Some(pair), Some(before)) = (self.pair(), self.app.earlier) else {
            return Ok(false);
        };
        let page = Page::newest(PAGE).before(before);
        let page = self.keep.archive().page(pair, &page).await?;
        let earlier = page.last().filter(|_| page.len() == PAGE);
        let earlier = earlier.map(|last| last.position);
        let entries: Vec<Entry> = page.iter().rev().map(shown).collect();
        if self.session.is_some() && before == u64::MAX {
            let theirs = entries.iter().filter_map(|entry| match entry {
                Entry::Theirs { text, at } => Some((text.clone(), *at)),
                _ => None,
            });
            self.read_before = theirs.collect();
        }
        self.app.push_earlier(entries, earlier);
        Ok(true)
    }

    /// Asks what became of own messages. Whether anything is new.
    pub async fn settle(&mut self) -> Outcome<bool> {
        let (open, Some(pair)) = (self.app.unsettled(), self.pair()) else {
            return Ok(false);
        };
        let (mut stored, mut before) = (Vec::new(), u64::MAX);
        while stored.len() < open {
            let page = Page::newest(PAGE).before(before);
            let page = self.keep.archive().page(pair, &page).await?;
            let Some(last) = page.last() else { break };
            before = last.position;
            let mine = page.iter().filter(|entry| entry.author == Author::Me);
            stored.extend(mine.map(|entry| (text(entry).unwrap_or_default(), mark(entry.state))));
        }
        Ok(self.app.settle(stored))
    }

    /// Looks through all of it, beside the conversation.
    pub fn search(&mut self, text: &str) {
        let Some(pair) = self.pair() else {
            return self.app.warn("nothing was said yet");
        };
        let query = Query::parse(text, Zoned::now().date(), &TimeZone::system());
        let (archive, told, text) = (
            self.keep.archive().clone(),
            self.told.clone(),
            text.to_owned(),
        );
        tokio::spawn(async move {
            let _ = match find(&archive, pair, &query).await {
                Ok((found, all)) => {
                    let shown = found.len();
                    let _ = told.send(Told::Found(found));
                    told.send(Told::Notice(match all {
                        0 => format!("Nothing is found for: {text}"),
                        all if all > shown => {
                            format!("{all} found for: {text}; the newest {shown} are shown.")
                        }
                        all => format!("{all} found for: {text}"),
                    }))
                }
                Err(error) => told.send(Told::Warning(error.to_string())),
            };
        });
    }
}

/// The newest of what fits, the oldest first, and how many fit.
async fn find(
    archive: &Archive,
    pair: Pair,
    query: &Query,
) -> Result<(Vec<Entry>, usize), HistoryError> {
    let (mut found, mut all, mut before) = (Vec::new(), 0, u64::MAX);
    loop {
        let page = Page::newest(PAGE).before(before);
        let page = archive
            .page(pair, &page.between(query.from..=query.until))
            .await?;
        let Some(last) = page.last() else { break };
        before = last.position;
        for entry in &page {
            let Some(text) = text(entry).filter(|text| query.fits(text)) else {
                continue;
            };
            all += 1;
            if found.len() < MAX_FOUND {
                found.push(Entry::Found {
                    text,
                    at: entry.timestamp,
                    is_mine: entry.author == Author::Me,
                });
            }
        }
    }
    found.reverse();
    Ok((found, all))
}

/// For a peer that is away.
impl Talk {
    /// Gives lines to the session or, while there is none, to the archive.
    pub async fn flush(&mut self) -> Outcome {
        while let Some(line) = self.unsent.first().cloned() {
            let is_taken = match (&self.session, self.pair()) {
                (Some(_), _) => self.send(&line),
                (None, Some(pair)) => self.queue(pair, &line).await?,
                (None, None) => false,
            };
            if !is_taken {
                return Ok(());
            }
            self.unsent.remove(0);
        }
        Ok(())
    }

    /// Whether it is kept. It is not while a session is about to begin, or has just ended.
    async fn queue(&mut self, pair: Pair, line: &str) -> Outcome<bool> {
        let at = now();
        match self.keep.archive().queue(pair, line, at).await {
            Ok(()) => {
                self.app.push(Entry::Mine {
                    text: line.to_owned(),
                    at,
                    mark: Mark::Waiting,
                    id: None,
                });
                Ok(true)
            }
            Err(HistoryError::InUse(_)) => Ok(false),
            Err(error @ HistoryError::QueueFull) => {
                self.app.warn(format!("{error}: it is not kept"));
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What is asked before.
impl Talk {
    fn ask(&mut self, asked: Asked, text: &str, is_secret: bool) {
        let text = text.to_owned();
        self.app.question = Some(Question { text, is_secret });
        self.asked = Some(asked);
    }

    /// Esc: the question is not answered.
    pub fn take_back(&mut self) {
        self.asked = None;
        self.app.take_answer();
        self.app.notice("Nothing was done.");
    }

    pub fn delete(&mut self) {
        if self.pair().is_none() {
            return self.app.warn("nothing was said yet");
        }
        self.app.notice(
            "All that was said here is deleted, on this side only, with what still waits. The other side keeps its own.",
        );
        self.ask(Asked::Deletion, "yes to delete, Esc to keep", false);
    }

    pub fn export(&mut self, path: PathBuf) {
        if self.pair().is_none() {
            return self.app.warn("nothing was said yet");
        }
        if path.exists() {
            return self
                .app
                .warn(format!("{} is there already", path.display()));
        }
        if path.extension().is_some_and(|kind| kind == "age") {
            return self.ask(Asked::Passphrase(path), "a passphrase for the file", true);
        }
        self.write(path, None);
    }

    pub async fn on_answer(&mut self, asked: Asked, answer: String) {
        match asked {
            Asked::Deletion if answer.trim() == "yes" => self.delete_now().await,
            Asked::Deletion => self.app.notice("Nothing was done."),
            Asked::Passphrase(_) if answer.is_empty() => self.app.notice("Nothing was done."),
            Asked::Passphrase(path) => {
                self.ask(Asked::PassphraseAgain(path, answer), "once more", true);
            }
            Asked::PassphraseAgain(path, first) if first == answer => {
                self.write(path, Some(answer));
            }
            Asked::PassphraseAgain(..) => self.app.warn("The two differ: nothing was written."),
        }
    }

    async fn delete_now(&mut self) {
        let Some(pair) = self.pair() else { return };
        match self.keep.archive().delete(pair).await {
            Ok(()) => {
                self.app.entries.clear();
                self.app.earlier = None;
                self.app
                    .notice("Deleted here. Copies elsewhere, and on the other side, are not.");
            }
            Err(error) => self.app.warn(error.to_string()),
        }
    }

    /// Writes it to a file, beside the conversation.
    fn write(&mut self, path: PathBuf, passphrase: Option<String>) {
        let Some(pair) = self.pair() else { return };
        let (archive, told) = (self.keep.archive().clone(), self.told.clone());
        let runtime = tokio::runtime::Handle::current();
        self.app.notice(format!("Writing {} ...", path.display()));
        // Making the key of an encrypted file takes a second in which nothing else would happen.
        tokio::task::spawn_blocking(move || {
            let work = written(&archive, pair, &path, passphrase.as_deref());
            let _ = told.send(match runtime.block_on(work) {
                Ok(()) if passphrase.is_some() => {
                    Told::Notice(format!("{} is written. age -d opens it.", path.display()))
                }
                Ok(()) => Told::Notice(format!(
                    "{} is written, readable for whoever has it. sealwire-history verify checks it.",
                    path.display()
                )),
                Err(error) => Told::Warning(format!("{}: {error}", path.display())),
            });
        });
    }
}

/// A new file, which is gone again where it cannot be finished.
async fn written(archive: &Archive, pair: Pair, path: &Path, passphrase: Option<&str>) -> Outcome {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    let outcome = fill(archive, pair, file, passphrase).await;
    if outcome.is_err() {
        let _ = std::fs::remove_file(path);
    }
    outcome
}

async fn fill(archive: &Archive, pair: Pair, file: File, passphrase: Option<&str>) -> Outcome {
    let mut out = BufWriter::new(file);
    match passphrase {
        Some(passphrase) => archive.export_age(pair, passphrase, &mut out).await?,
        None => archive.export_json(pair, &mut out).await?,
    }
    out.into_inner()?.sync_all()?;
    Ok(())
}

fn shown(entry: &history::Entry) -> Entry {
    let at = entry.timestamp;
    match (text(entry), entry.author) {
        (None, _) => Entry::Erased { at },
        (Some(text), Author::Peer) => Entry::Theirs { text, at },
        (Some(text), Author::Me) => Entry::Mine {
            text,
            at,
            mark: mark(entry.state),
            id: None,
        },
    }
}

/// What it says; `None`: it was deleted here.
fn text(entry: &history::Entry) -> Option<String> {
    let content = entry.content()?;
    let text = content.as_ref().ok().and_then(|content| content.as_text());
    Some(text.unwrap_or(NO_TEXT).to_owned())
}

/// What is shown of a message that is none of this program's.
pub const NO_TEXT: &str = "(something that is no text)";

fn mark(state: EntryState) -> Mark {
    match state {
        EntryState::Queued => Mark::Waiting,
        EntryState::Delivered => Mark::Delivered,
        _ => Mark::Sent,
    }
}

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    Timestamp::from_unix_ms(u64::try_from(ms).unwrap_or(u64::MAX))
}
