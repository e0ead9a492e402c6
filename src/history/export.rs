//! An exported history, written and checked: JSON with one record a line (docs/history.md).
//!
//! ```text
//! {"format":"sealwire-history","version":1,"me":"..","peer":"..","confirmed":N,"floor":{..},"records":[
//! {"position":0,"kind":"chained","author":"me","n":0,"seen":0,"ts_ms":..,"body":"<base64>","text":"hello"},
//! ...
//! ],"sent":{"n":..,"hash":".."},"received":{"n":..,"hash":".."}}
//! ```

use std::{collections::BTreeMap, fmt, io::Write};

use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Author, Body, Head, HistoryError, Pair, Place, Record, State};
use crate::{
    hex,
    identity::PeerId,
    message::{Content, codec},
};

type Result<T> = std::result::Result<T, HistoryError>;

const FORMAT: &str = "sealwire-history";
const VERSION: u8 = 1;

/// An exported history, as it was read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Export {
    format: String,
    version: u8,
    me: PeerId,
    peer: PeerId,
    confirmed: u64,
    floor: Floor,
    records: Vec<Line>,
    sent: Told,
    received: Told,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Floor {
    position: u64,
    sent: Told,
    received: Told,
}

/// A head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    n: u64,
    hash: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    position: u64,
    kind: String,
    author: String,
    ts_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// For people; the body decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// The first record that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// Its position; `None` where it is no record but what stands around them.
    pub position: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

/// What an export holds, when all of it fits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Whose copy it is, and with whom.
    pub pair: Pair,
    /// This side's chain.
    pub sent: Head,
    /// The peer's chain.
    pub received: Head,
    /// Records in the file.
    pub records: usize,
    /// Places where the host went on although the histories differed.
    pub breaks: usize,
}

/// What comparing two exports showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages that both copies hold alike, of both directions.
    pub alike: u64,
    /// Messages that their author has and the other side never confirmed.
    pub undelivered: u64,
}

fn told(head: &Head) -> Told {
    Told {
        n: head.n,
        hash: digits(&head.hash),
    }
}

fn digits(hash: &[u8; 32]) -> String {
    struct Hex<'a>(&'a [u8]);
    impl fmt::Display for Hex<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            hex::write(f, self.0)
        }
    }
    Hex(hash).to_string()
}

/// Writes an export, record by record.
pub(super) struct Writer<'w, W: Write + ?Sized> {
    out: &'w mut W,
    first: bool,
}

impl<'w, W: Write + ?Sized> Writer<'w, W> {
    pub(super) fn begin(pair: Pair, state: &State, out: &'w mut W) -> Result<Self> {
        let floor = Floor {
            position: state.floor.position,
            sent: told(&state.floor.sent.head),
            received: told(&state.floor.received.head),
        };
        let head = serde_json::json!({
            "format": FORMAT,
            "version": VERSION,
            "me": pair.me,
            "peer": pair.peer,
            "confirmed": state.confirmed,
            "floor": floor,
        });
        let head = head.to_string();
        let mut writer = Self { out, first: true };
        writer.write(&head[..head.len() - 1])?;
        writer.write(",\"records\":[\n")?;
        Ok(writer)
    }

    pub(super) fn record(&mut self, position: u64, record: &Record) -> Result<()> {
        if !std::mem::replace(&mut self.first, false) {
            self.write(",\n")?;
        }
        let line = serde_json::to_string(&line(position, record));
        let line = line.map_err(|error| failed(&error.to_string()))?;
        self.write(&line)
    }

    pub(super) fn end(mut self, end: &Place) -> Result<()> {
        let line = |head: &Head| serde_json::json!(told(head)).to_string();
        let (sent, received) = (line(&end.sent.head), line(&end.received.head));
        let text = format!("\n],\"sent\":{sent},\"received\":{received}}}\n");
        self.write(&text)?;
        self.out.flush().map_err(|error| failed(&error.to_string()))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        let written = self.out.write_all(text.as_bytes());
        written.map_err(|error| failed(&error.to_string()))
    }
}

fn failed(reason: &str) -> HistoryError {
    HistoryError::Storage {
        action: "exported",
        reason: reason.to_owned(),
    }
}

fn line(position: u64, record: &Record) -> Line {
    let author = match record.author() {
        Author::Me => "me",
        Author::Peer => "peer",
    };
    let mut line = Line {
        position,
        author: author.to_owned(),
        ts_ms: record.ts_ms(),
        ..Line::default()
    };
    let (kind, body) = match record {
        Record::Chained { n, seen, body, .. } => {
            (line.n, line.seen) = (Some(*n), Some(*seen));
            let whole = match body {
                Body::Whole(body) => Some(body),
                Body::Erased(hash) => {
                    line.hash = Some(digits(hash));
                    None
                }
            };
            ("chained", whole)
        }
        Record::Loose { body, .. } => ("loose", Some(body)),
        Record::Queued { body, .. } => ("queued", Some(body)),
        Record::Break { head, .. } => {
            line.n = Some(head.n);
            line.hash = Some(digits(&head.hash));
            ("break", None)
        }
    };
    line.kind = kind.to_owned();
    line.text = body.and_then(text);
    line.body = body.map(|body| Base64::encode_string(body));
    line
}

fn text(body: &Bytes) -> Option<String> {
    match codec::decode(body) {
        Ok((Content::Text(text), _)) => Some(text),
        Ok((Content::Bytes(_) | Content::Value(_), _)) | Err(_) => None,
    }
}

impl Line {
    fn read(&self) -> std::result::Result<Record, &'static str> {
        let author = match self.author.as_str() {
            "me" => Author::Me,
            "peer" => Author::Peer,
            _ => return Err("its author is neither me nor peer"),
        };
        let hash = || {
            let hash = self.hash.as_deref().and_then(hex::parse::<32>);
            hash.ok_or("it has no hash")
        };
        let body = || {
            let body = self.body.as_deref().ok_or("it has no body")?;
            let body = Base64::decode_vec(body).map_err(|_| "its body is not base64")?;
            Ok::<_, &'static str>(Bytes::from(body))
        };
        let (ts_ms, n) = (self.ts_ms, self.n.ok_or("it has no number"));
        let record = match self.kind.as_str() {
            "chained" => Record::Chained {
                author,
                n: n?,
                seen: self
                    .seen
                    .ok_or("it does not say what its author had seen")?,
                ts_ms,
                body: match self.hash {
                    Some(_) => Body::Erased(hash()?),
                    None => Body::Whole(body()?),
                },
            },
            "loose" => Record::Loose {
                author,
                ts_ms,
                body: body()?,
            },
            "queued" => Record::Queued {
                ts_ms,
                body: body()?,
            },
            "break" => Record::Break {
                ts_ms,
                head: Head {
                    n: n?,
                    hash: hash()?,
                },
            },
            _ => return Err("its kind is not known"),
        };
        let again = line(self.position, &record);
        if again.text != self.text {
            return Err("its text is not what its body says");
        }
        if (&again.body, &again.hash, again.n, again.seen, &again.author)
            != (&self.body, &self.hash, self.n, self.seen, &self.author)
        {
            return Err("it says more than its kind does");
        }
        Ok(record)
    }
}

/// The hashes of an export's chains, by number.
type Hashes = BTreeMap<u64, ([u8; 32], u64)>;

impl Export {
    /// Reads an export.
    ///
    /// # Errors
    /// [`HistoryError::NotAnExport`], with the line where it breaks off being one.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let export: Self = serde_json::from_slice(bytes)
            .map_err(|error| HistoryError::NotAnExport(error.to_string()))?;
        if export.format != FORMAT || export.version != VERSION {
            let reason = "its format or version is another".to_owned();
            return Err(HistoryError::NotAnExport(reason));
        }
        Ok(export)
    }

    /// Checks that every record follows the one before, and that the chains end at the heads that are written down.
    ///
    /// # Errors
    /// The first record that does not fit.
    pub fn verify(&self) -> std::result::Result<Summary, Fault> {
        self.walk().map(|(summary, _)| summary)
    }

    /// Checks this copy and the peer's, and compares them.
    ///
    /// # Errors
    /// The first record of this copy that does not fit, or is not what the peer holds.
    pub fn compare(&self, peer: &Self) -> std::result::Result<Report, Fault> {
        let (own, [sent, received]) = self.walk()?;
        let (other, [their_sent, their_received]) = peer.walk().map_err(|fault| Fault {
            reason: format!("in the peer's copy: {}", fault.reason),
            ..fault
        })?;
        if (own.pair.me, own.pair.peer) != (other.pair.peer, other.pair.me) {
            return Err(around(
                "the other file is not the peer's copy of this history",
            ));
        }
        let mut report = Report {
            alike: 0,
            undelivered: 0,
        };
        let ends = (own.sent.n, other.received.n);
        compare_chain(&sent, &their_received, ends, &mut report, false)?;
        let ends = (other.sent.n, own.received.n);
        compare_chain(&their_sent, &received, ends, &mut report, true)?;
        Ok(report)
    }

    fn walk(&self) -> std::result::Result<(Summary, [Hashes; 2]), Fault> {
        let pair = Pair {
            me: self.me,
            peer: self.peer,
        };
        let mut place = self.floor(&pair)?;
        let mut hashes = [place.sent, place.received]
            .map(|chain| Hashes::from([(chain.head.n, (chain.head.hash, place.position))]));
        let mut breaks = 0;
        for line in &self.records {
            let fault = |reason: &str| Fault {
                position: Some(line.position),
                reason: reason.to_owned(),
            };
            let record = line.read().map_err(fault)?;
            let next = place.after(line.position, &record);
            place = next.ok_or_else(|| fault("it does not follow the one before"))?;
            breaks += usize::from(matches!(record, Record::Break { .. }));
            match (&record, record.author()) {
                (Record::Chained { .. } | Record::Break { .. }, Author::Me) => {
                    let Head { n, hash } = place.sent.head;
                    hashes[0].insert(n, (hash, line.position));
                }
                (Record::Chained { .. }, Author::Peer) => {
                    let Head { n, hash } = place.received.head;
                    hashes[1].insert(n, (hash, line.position));
                }
                _ => {}
            }
        }
        if told(&place.sent.head) != self.sent || told(&place.received.head) != self.received {
            let text = "the records do not lead to the heads at its end: one was changed, or the last ones are missing";
            return Err(around(text));
        }
        if self.confirmed > place.sent.head.n {
            return Err(around(
                "the peer confirmed more messages than there are: the last ones are missing",
            ));
        }
        let summary = Summary {
            pair,
            sent: place.sent.head,
            received: place.received.head,
            records: self.records.len(),
            breaks,
        };
        Ok((summary, hashes))
    }

    fn floor(&self, pair: &Pair) -> std::result::Result<Place, Fault> {
        let mut place = State::new(pair).floor;
        place.position = self.floor.position;
        for (chain, told) in [
            (&mut place.sent, &self.floor.sent),
            (&mut place.received, &self.floor.received),
        ] {
            let hash = hex::parse::<32>(&told.hash).ok_or_else(|| around("a head is no hash"))?;
            let head = Head { n: told.n, hash };
            if head.n == 0 && head != chain.head {
                return Err(around("a chain does not begin where these two begin"));
            }
            chain.head = head;
        }
        Ok(place)
    }
}

/// The author's chain against the copy that the other side holds. `ours`: the copy is in this file.
fn compare_chain(
    author: &Hashes,
    copy: &Hashes,
    (author_n, copy_n): (u64, u64),
    report: &mut Report,
    ours: bool,
) -> std::result::Result<(), Fault> {
    for (n, (hash, at)) in copy {
        let Some((other, other_at)) = author.get(n) else {
            continue;
        };
        if hash != other {
            let position = if ours { *at } else { *other_at };
            let whose = if ours { "the peer's" } else { "this side's" };
            return Err(Fault {
                position: Some(position),
                reason: format!(
                    "the two copies of {whose} message {} differ",
                    n.saturating_sub(1)
                ),
            });
        }
        report.alike += u64::from(*n > 0);
    }
    if copy_n > author_n {
        let whose = if ours { "the peer" } else { "this side" };
        return Err(around(&format!(
            "{whose} wrote {copy_n} messages by the other's copy, and holds {author_n}"
        )));
    }
    report.undelivered += author_n - copy_n;
    Ok(())
}

fn around(reason: &str) -> Fault {
    Fault {
        position: None,
        reason: reason.to_owned(),
    }
}

impl fmt::Debug for Export {
    /// Whose it is and how long: what people write stays out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("me", &self.me)
            .field("peer", &self.peer)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "record {position}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}
