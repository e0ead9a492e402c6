//! What hosts hold of a history: an archive, which reads, searches, exports and deletes, and into which sessions record.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;

#[cfg(feature = "session")]
use std::task::{Poll, Waker};

use super::{
    Answer, Change, Durability, Entry, Head, History, HistoryError, MemoryHistory, Page, Pair,
    Place, Record, Standing, State, book::Book, export,
};
#[cfg(feature = "store")]
use crate::entropy::OsEntropy;
use crate::{
    identity::PeerId,
    message::{Content, Timestamp, codec},
};

type Result<T> = std::result::Result<T, HistoryError>;

/// A history of any number of conversations. Cheap to clone; all clones are the same.
///
/// Opening a pair reads all its records once, which verifies them; it takes a few microseconds a record.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<dyn History>,
    books: Arc<Mutex<BTreeMap<Pair, Slot>>>,
}

#[derive(Debug, Default)]
struct Slot {
    book: Option<Book>,
    claimed: bool,
    /// Sessions that wait for the one that has it.
    #[cfg(feature = "session")]
    waiting: Vec<Waker>,
}

impl<H: History> From<H> for Archive {
    fn from(store: H) -> Self {
        Self::new(store)
    }
}

impl From<&Archive> for Archive {
    fn from(archive: &Archive) -> Self {
        archive.clone()
    }
}

impl Archive {
    /// An archive of what is kept there. Nothing else may write there while it lives.
    pub fn new(store: impl History) -> Self {
        Self {
            store: Arc::new(store),
            books: Arc::default(),
        }
    }

    /// An archive that lives as long as the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(MemoryHistory::new())
    }

    /// The peers with whom there is a history.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn peers(&self, me: PeerId) -> Result<Vec<PeerId>> {
        self.store.peers(me).await
    }

    /// A page of a conversation, the newest first. With [`Page::between`] it is a search by time.
    ///
    /// # Errors
    /// [`HistoryError`]; [`HistoryError::Damaged`] where something was changed outside of this crate.
    pub async fn page(&self, pair: Pair, page: &Page) -> Result<Vec<Entry>> {
        self.open(pair).await?;
        let (from_ms, until_ms) = (
            page.between.start().as_unix_ms(),
            page.between.end().as_unix_ms(),
        );
        let blocks = self.with(pair, |book| {
            let blocks = book.blocks_before(page.before);
            let blocks =
                blocks.filter(|(block, _)| block.from_ms <= until_ms && block.until_ms >= from_ms);
            blocks
                .map(|(block, end)| (block.start, end))
                .collect::<Vec<_>>()
        })?;
        let confirmed = self.with(pair, |book| book.state().confirmed)?;
        let mut entries = Vec::new();
        for (start, end) in blocks {
            let records = self.read(pair, start, end).await?;
            let records = records.into_iter().rev();
            let fits = |(position, record): &(u64, Record)| {
                *position < page.before && (from_ms..=until_ms).contains(&record.ts_ms())
            };
            entries.extend(
                records
                    .filter(fits)
                    .filter_map(|(position, record)| Entry::new(position, record, confirmed)),
            );
            if entries.len() >= page.limit {
                break;
            }
        }
        entries.truncate(page.limit);
        Ok(entries)
    }

    /// Writes a conversation as JSON (docs/history.md), a block of records at a time, and flushes: what
    /// `sealwire-history verify` reads.
    ///
    /// # Errors
    /// [`HistoryError`]; [`HistoryError::Storage`] where `out` fails.
    pub async fn export_json(&self, pair: Pair, out: &mut (impl Write + ?Sized)) -> Result<()> {
        self.open(pair).await?;
        let (state, end) = self.with(pair, |book| (book.state().clone(), book.end()))?;
        let mut writer = export::Writer::begin(pair, &state, out)?;
        let mut at = state.floor;
        while at.position < end.position {
            let records = self.store.read(pair, at, end.position).await?;
            let Some((last, _)) = records.last() else {
                break;
            };
            let last = *last;
            for (position, record) in &records {
                at = follow(at, *position, record)?;
                writer.record(*position, record)?;
            }
            at.position = last + 1;
        }
        writer.end(&end)
    }

    /// As [`export_json`](Self::export_json), encrypted to a passphrase (a strong one: the file can be guessed at offline)
    /// in the format of the `age` tool. Making the key takes about a second and 256 MiB, during which this blocks.
    ///
    /// # Errors
    /// As there.
    #[cfg(feature = "store")]
    pub async fn export_age(
        &self,
        pair: Pair,
        passphrase: &str,
        out: &mut (impl Write + ?Sized),
    ) -> Result<()> {
        use crate::crypto::age::{WORK_FACTOR, Writer};

        let failed = |error: std::io::Error| HistoryError::Storage {
            action: "exported",
            reason: error.to_string(),
        };
        let begun = Writer::begin(out, passphrase.as_bytes(), WORK_FACTOR, &mut OsEntropy);
        let mut sealed = begun.map_err(failed)?;
        self.export_json(pair, &mut sealed).await?;
        sealed.finish().map_err(failed)?;
        Ok(())
    }

    /// Deletes all that was said with a peer, on this side only: bodies, times, and messages that waited. What stays are
    /// the numbers and heads of both chains, and the hashes of messages that the peer has not confirmed: the next
    /// session goes on without a difference.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn delete(&self, pair: Pair) -> Result<()> {
        self.open(pair).await?;
        let first = self.with(pair, |book| book.unconfirmed_from(book.state().confirmed))?;
        let records = match first {
            Some(first) => self.read_from(pair, first).await?,
            None => Vec::new(),
        };
        self.change(pair, |book| Ok(book.delete(&records)))?.await
    }

    /// Forgets a peer as if there had never been anything, heads included. A peer that keeps its history sees
    /// [`Event::HistoryDiverged`](crate::protocol::Event::HistoryDiverged) at the next session, and so does this side.
    ///
    /// # Errors
    /// [`HistoryError::InUse`] while a session records into it.
    pub async fn forget(&self, pair: Pair) -> Result<()> {
        let answer = {
            let mut books = self.lock();
            if books.get(&pair).is_some_and(|slot| slot.claimed) {
                return Err(HistoryError::InUse("a session records into it"));
            }
            books.remove(&pair);
            let change = Change {
                state: None,
                remove: Vec::new(),
                put: Vec::new(),
                durability: Durability::Now,
            };
            self.store.write(pair, change)
        };
        answer.await
    }

    /// Both heads, to compare with the peer's by other means, or to keep elsewhere: whoever keeps one learns by it
    /// whether anything before was changed.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub async fn heads(&self, pair: Pair) -> Result<(Head, Head)> {
        let standing = self.standing(pair).await?;
        Ok((standing.sent.head, standing.received.head))
    }

    /// Keeps a message for a peer to whom there is no session; the next session with it sends it, before all others.
    /// It is durable when this returns.
    ///
    /// # Errors
    /// [`HistoryError::InUse`] where a session with this peer has begun: [`Session::send`](crate::session::Session::send)
    /// is what sends in it. [`HistoryError::QueueFull`]; [`HistoryError::Storage`] also for content that has no encoding.
    ///
    /// # Cancel safety
    /// Dropped while it waits, the message may be kept or not.
    pub async fn queue(
        &self,
        pair: Pair,
        content: impl Into<Content>,
        now: Timestamp,
    ) -> Result<()> {
        let body = codec::encode(&content.into(), now).map_err(|error| HistoryError::Storage {
            action: "written",
            reason: error.to_string(),
        })?;
        self.open(pair).await?;
        self.enqueue(pair, vec![(now.as_unix_ms(), body)])?.await
    }
}

/// What sessions do.
impl Archive {
    /// Reserves a pair for one session, once the one before has recorded all.
    #[cfg(feature = "session")]
    pub(crate) async fn claim(&self, pair: Pair) -> Claim {
        std::future::poll_fn(|cx| {
            let mut books = self.lock();
            let slot = books.entry(pair).or_default();
            if std::mem::replace(&mut slot.claimed, true) {
                slot.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Claim {
            archive: self.clone(),
            pair,
        }
    }

    /// Where both chains stand, after all was read and verified.
    ///
    /// # Errors
    /// [`HistoryError`].
    #[doc(hidden)]
    pub async fn standing(&self, pair: Pair) -> Result<Standing> {
        self.open(pair).await?;
        self.with(pair, Book::standing)
    }

    /// A session begins in which the peer confirmed `agreed` messages: what is beyond waits again. Gives what waits.
    ///
    /// # Errors
    /// [`HistoryError`].
    #[doc(hidden)]
    pub async fn begin(&self, pair: Pair, agreed: Option<u64>) -> Result<Vec<(u64, Bytes)>> {
        self.open(pair).await?;
        if let Some(n) = agreed {
            self.cut(pair, n).await?;
            self.confirm(pair, n)?.await?;
        }
        self.waiting(pair).await
    }

    /// Stores records; `settled` are positions of waiting messages that are among them.
    ///
    /// # Errors
    /// [`HistoryError`], at once when the records do not fit.
    #[doc(hidden)]
    pub fn append(&self, pair: Pair, records: Vec<Record>, settled: &[u64]) -> Result<Answer<()>> {
        self.change(pair, |book| book.add(records, settled))
    }

    /// The peer confirmed this many messages of this side's chain.
    ///
    /// # Errors
    /// [`HistoryError`].
    #[doc(hidden)]
    pub fn confirm(&self, pair: Pair, n: u64) -> Result<Answer<()>> {
        self.change(pair, |book| Ok(book.confirm(n)))
    }

    /// This side's chain goes on from a head of the peer's choice: cut back, where the head is known.
    ///
    /// # Errors
    /// [`HistoryError`].
    #[doc(hidden)]
    pub async fn rebase(&self, pair: Pair, head: Head, ts_ms: u64) -> Result<()> {
        let standing = self.standing(pair).await?;
        let at = head.n.checked_sub(standing.confirmed);
        let known = at.and_then(|at| standing.tail.get(usize::try_from(at).ok()?));
        if known == Some(&head.hash) {
            self.cut(pair, head.n).await?;
            return self.confirm(pair, head.n)?.await;
        }
        self.change(pair, |book| book.rebase(head, ts_ms))?.await
    }

    /// Keeps messages for the next session.
    pub(crate) fn enqueue(&self, pair: Pair, messages: Vec<(u64, Bytes)>) -> Result<Answer<()>> {
        self.change(pair, |book| {
            for (_, body) in &messages {
                book.check_queue(body.len())?;
            }
            let queued = |(ts_ms, body)| Record::Queued { ts_ms, body };
            book.add(messages.into_iter().map(queued).collect(), &[])
        })
    }

    async fn cut(&self, pair: Pair, n: u64) -> Result<()> {
        let first = self.with(pair, |book| book.unconfirmed_from(n))?;
        let Some(first) = first else { return Ok(()) };
        let records = self.read_from(pair, first).await?;
        let mut nothing = false;
        let change = self.change(pair, |book| {
            let change = book.cut(n, &records);
            nothing = change.is_none();
            Ok(change.unwrap_or_else(|| book.confirm(0)))
        })?;
        change.await
    }

    async fn waiting(&self, pair: Pair) -> Result<Vec<(u64, Bytes)>> {
        let positions = self.take_queued(pair)?;
        let mut waiting: Vec<(u64, Bytes)> = Vec::with_capacity(positions.len());
        let mut next = 0;
        for position in positions {
            if position < next {
                continue;
            }
            let (from, end) = self.with(pair, |book| (book.place_of(position), book.end()))?;
            let records = self.store.read(pair, from, end.position).await?;
            next = records.last().map_or(position, |(last, _)| *last) + 1;
            waiting.extend(records.into_iter().filter_map(|(at, record)| match record {
                Record::Queued { body, .. } if at >= position => Some((at, body)),
                Record::Queued { .. }
                | Record::Chained { .. }
                | Record::Loose { .. }
                | Record::Break { .. } => None,
            }));
        }
        Ok(waiting)
    }
}

/// Books.
impl Archive {
    /// Positions of what waits. A session that takes it is told of nothing that is queued later: from here on nothing is.
    fn take_queued(&self, pair: Pair) -> Result<Vec<u64>> {
        #[cfg(feature = "session")]
        if let Some(slot) = self.lock().get_mut(&pair)
            && let Some(book) = &mut slot.book
        {
            book.set_taken(slot.claimed);
            return Ok(book.queued());
        }
        self.with(pair, Book::queued)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Pair, Slot>> {
        // A book is changed as a whole or dropped.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a pair's history through, unless it is known.
    async fn open(&self, pair: Pair) -> Result<()> {
        if self
            .lock()
            .get(&pair)
            .is_some_and(|slot| slot.book.is_some())
        {
            return Ok(());
        }
        let state = self.store.state(pair).await?;
        let state = state.unwrap_or_else(|| State::new(&pair));
        let until = u64::MAX;
        let mut book = Book::new(pair, state);
        loop {
            let records = self.store.read(pair, book.end(), until).await?;
            if records.is_empty() {
                break;
            }
            for (position, record) in &records {
                book.note(*position, record)?;
            }
        }
        let mut books = self.lock();
        let slot = books.entry(pair).or_default();
        // Somebody may have been faster, and have changed it since.
        slot.book.get_or_insert(book);
        Ok(())
    }

    fn with<T>(&self, pair: Pair, look: impl FnOnce(&Book) -> T) -> Result<T> {
        let books = self.lock();
        let book = books.get(&pair).and_then(|slot| slot.book.as_ref());
        book.map(look)
            .ok_or(HistoryError::InUse("it is being forgotten"))
    }

    /// Changes a book, and hands the change over in the same order as others of the pair.
    fn change(
        &self,
        pair: Pair,
        work: impl FnOnce(&mut Book) -> Result<Change>,
    ) -> Result<Answer<()>> {
        let mut books = self.lock();
        let slot = books.get_mut(&pair);
        let slot = slot.filter(|slot| slot.book.is_some());
        let slot = slot.ok_or(HistoryError::InUse("it is being forgotten"))?;
        let Some(book) = &mut slot.book else {
            return Err(HistoryError::InUse("it is being forgotten"));
        };
        match work(book) {
            Ok(change) => {
                let answer = self.store.write(pair, change);
                let archive = self.clone();
                Ok(Box::pin(async move {
                    let done = answer.await;
                    if done.is_err() {
                        // What is stored is not what the book says: it is read again.
                        archive.drop_book(pair);
                    }
                    done
                }))
            }
            // Refused before anything was changed.
            Err(error @ (HistoryError::QueueFull | HistoryError::InUse(_))) => Err(error),
            Err(error) => {
                slot.book = None;
                Err(error)
            }
        }
    }

    fn drop_book(&self, pair: Pair) {
        if let Some(slot) = self.lock().get_mut(&pair) {
            slot.book = None;
        }
    }

    /// All records from `start` up to before `end`, which are one block.
    async fn read(&self, pair: Pair, start: Place, end: u64) -> Result<Vec<(u64, Record)>> {
        let (mut at, mut all) = (start, Vec::new());
        while at.position < end {
            let records = self.store.read(pair, at, end).await?;
            if records.is_empty() {
                break;
            }
            for (position, record) in &records {
                at = follow(at, *position, record)?;
            }
            all.extend(records);
        }
        Ok(all)
    }

    /// All records from this position on, and perhaps some before it.
    async fn read_from(&self, pair: Pair, position: u64) -> Result<Vec<(u64, Record)>> {
        let (from, end) = self.with(pair, |book| (book.place_of(position), book.end()))?;
        self.read(pair, from, end.position).await
    }
}

fn follow(at: Place, position: u64, record: &Record) -> Result<Place> {
    at.after(position, record).ok_or(HistoryError::Damaged {
        position,
        reason: "it does not follow the one before",
    })
}

/// A pair that is reserved for one session.
#[cfg(feature = "session")]
#[derive(Debug)]
pub(crate) struct Claim {
    archive: Archive,
    pair: Pair,
}

#[cfg(feature = "session")]
impl Drop for Claim {
    fn drop(&mut self) {
        let mut books = self.archive.lock();
        let Some(slot) = books.get_mut(&self.pair) else {
            return;
        };
        slot.claimed = false;
        if let Some(book) = &mut slot.book {
            book.set_taken(false);
        }
        let waiting = std::mem::take(&mut slot.waiting);
        drop(books);
        waiting.into_iter().for_each(Waker::wake);
    }
}
