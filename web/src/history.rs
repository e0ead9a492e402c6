//! The history: records of the crate, kept by an object of JavaScript.

use js_sys::{Array, Promise, Uint8Array};
use sealwire::{
    PeerId, Timestamp,
    history::{
        Answer, Archive as Inner, Author, Change, Durability, Entry, EntryState, Head, History,
        HistoryError, Page, Pair, Place, Record, State,
    },
};
use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;

use crate::{
    error::{from_history, misuse},
    identity::{Identity, peer_id},
    values::{content, digits, field, number, object, spoken},
};

#[wasm_bindgen]
extern "C" {
    /// Where records are kept: `IndexedDbHistory`, or whatever a page brings.
    #[wasm_bindgen(typescript_type = "HistoryStore")]
    #[derive(Debug, Clone)]
    pub type HistoryStore;

    #[wasm_bindgen(method, catch)]
    fn state(this: &HistoryStore, pair: &str) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn states(this: &HistoryStore) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn read(this: &HistoryStore, pair: &str, from: f64, until: f64) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn write(this: &HistoryStore, pair: &str, change: &JsValue) -> Result<Promise, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// An `Archive` as a value among others, which stays whole when it is used.
    pub(crate) type ArchiveValue;

    #[wasm_bindgen(method, catch)]
    pub(crate) fn share(this: &ArchiveValue) -> Result<Archive, JsValue>;
}

#[derive(Debug)]
struct Kept(HistoryStore);

/// Exact integers of JavaScript end here.
const MAX_SAFE: u64 = (1 << 53) - 1;

fn name(pair: Pair) -> String {
    format!("{}{}", pair.me, pair.peer)
}

fn position(at: u64) -> f64 {
    at.min(MAX_SAFE) as f64
}

/// A failure of the store, as one of the crate.
fn failed(action: &'static str) -> impl Fn(JsValue) -> HistoryError {
    move |error| {
        let reason = field(&error, "message").and_then(|message| message.as_string());
        let reason = reason.unwrap_or_else(|| "the store gave no reason".to_owned());
        HistoryError::Storage { action, reason }
    }
}

/// Asks at once, and answers later.
fn ask<T: 'static>(
    action: &'static str,
    asked: Result<Promise, JsValue>,
    read: impl FnOnce(JsValue) -> Result<T, HistoryError> + 'static,
) -> Answer<T> {
    Box::pin(async move {
        let answer = JsFuture::from(asked.map_err(failed(action))?).await;
        read(answer.map_err(failed(action))?)
    })
}

fn decode_state(bytes: &JsValue) -> Result<(Pair, State), HistoryError> {
    let bytes = bytes.dyn_ref::<Uint8Array>().map(Uint8Array::to_vec);
    let state = bytes.and_then(|bytes| State::decode(&bytes));
    state.ok_or(HistoryError::WrongKeyOrDamaged)
}

fn decode_records(records: JsValue) -> Result<Vec<(u64, Record)>, HistoryError> {
    let records = records.dyn_into::<Array>().unwrap_or_default();
    let mut all = Vec::with_capacity(records.length() as usize);
    for entry in records.iter() {
        let entry = entry.dyn_into::<Array>().unwrap_or_default();
        let position = entry.get(0).as_f64().unwrap_or_default() as u64;
        let bytes = entry.get(1).dyn_into::<Uint8Array>().ok();
        let record = bytes.and_then(|bytes| Record::decode(&bytes.to_vec().into()));
        let record = record.ok_or(HistoryError::Damaged {
            position,
            reason: "it is no record",
        })?;
        all.push((position, record));
    }
    Ok(all)
}

impl History for Kept {
    fn state(&self, pair: Pair) -> Answer<Option<State>> {
        ask("read", self.0.state(&name(pair)), move |state| {
            if state.is_undefined() {
                return Ok(None);
            }
            match decode_state(&state)? {
                (whose, state) if whose == pair => Ok(Some(state)),
                _ => Err(HistoryError::WrongKeyOrDamaged),
            }
        })
    }

    fn read(&self, pair: Pair, from: Place, until: u64) -> Answer<Vec<(u64, Record)>> {
        let (from, until) = (position(from.position), position(until));
        ask(
            "read",
            self.0.read(&name(pair), from, until),
            decode_records,
        )
    }

    fn write(&self, pair: Pair, change: Change) -> Answer<()> {
        let state = change.state.map(|state| state.encode(&pair));
        let remove = change.remove.into_iter().map(|range| {
            let ends = [position(range.start), position(range.end)];
            JsValue::from(ends.map(JsValue::from_f64).into_iter().collect::<Array>())
        });
        let put = change.put.into_iter().map(|(at, _, record)| {
            let mut bytes = Vec::with_capacity(64 + record.len());
            record.encode(&mut bytes);
            JsValue::from(Array::of2(&number(at), &Uint8Array::from(&bytes[..])))
        });
        let change = object([
            (
                "state",
                state.map_or(JsValue::UNDEFINED, |state| {
                    Uint8Array::from(&state[..]).into()
                }),
            ),
            ("remove", remove.collect::<Array>().into()),
            ("put", put.collect::<Array>().into()),
            ("durable", (change.durability == Durability::Now).into()),
        ]);
        ask("written", self.0.write(&name(pair), &change), |_| Ok(()))
    }

    fn peers(&self, me: PeerId) -> Answer<Vec<PeerId>> {
        ask("read", self.0.states(), move |states| {
            let states = states.dyn_into::<Array>().unwrap_or_default();
            let pairs = states.iter().map(|state| Ok(decode_state(&state)?.0));
            let pairs = pairs.collect::<Result<Vec<Pair>, HistoryError>>()?;
            let mine = pairs.into_iter().filter(|pair| pair.me == me);
            Ok(mine.map(|pair| pair.peer).collect())
        })
    }
}

/// A history of any number of conversations.
#[wasm_bindgen]
pub struct Archive(pub(crate) Inner);

#[wasm_bindgen]
impl Archive {
    /// An archive of what is kept there. Nothing else may write there while it lives.
    #[wasm_bindgen(constructor)]
    pub fn new(store: HistoryStore) -> Self {
        Self(Inner::new(Kept(store)))
    }

    /// An archive that lives as long as the page.
    #[wasm_bindgen(js_name = inMemory)]
    pub fn in_memory() -> Self {
        Self(Inner::in_memory())
    }

    /// The same archive once more.
    #[wasm_bindgen(skip_typescript)]
    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// The keys of the peers with whom there is a history.
    #[wasm_bindgen(unchecked_return_type = "string[]")]
    pub async fn peers(&self, me: &Identity) -> Result<Array, JsValue> {
        let peers = self.0.peers(me.0.peer_id()).await.map_err(from_history)?;
        let peers = peers.iter().map(|peer| JsValue::from(peer.to_string()));
        Ok(peers.collect())
    }

    /// What was said with one of them.
    pub fn conversation(&self, me: &Identity, peer: &str) -> Result<Conversation, JsValue> {
        let pair = Pair {
            me: me.0.peer_id(),
            peer: peer_id(peer)?,
        };
        Ok(Conversation {
            archive: self.0.clone(),
            pair,
        })
    }
}

/// What was said with one peer, in all sessions.
#[wasm_bindgen]
pub struct Conversation {
    pub(crate) archive: Inner,
    pub(crate) pair: Pair,
}

#[wasm_bindgen]
impl Conversation {
    /// A page of it, the newest first.
    #[wasm_bindgen(unchecked_return_type = "Entry[]")]
    pub async fn page(
        &self,
        #[wasm_bindgen(unchecked_optional_param_type = "PageOptions")] options: JsValue,
    ) -> Result<Array, JsValue> {
        let wanted = wanted(&options);
        let page = self.archive.page(self.pair, &wanted).await;
        Ok(page.map_err(from_history)?.iter().map(entry).collect())
    }

    /// All of it as JSON, which `sealwire-history verify` checks.
    #[wasm_bindgen(js_name = exportJson)]
    pub async fn export_json(&self) -> Result<String, JsValue> {
        let mut out = Vec::new();
        let written = self.archive.export_json(self.pair, &mut out).await;
        written.map_err(from_history)?;
        String::from_utf8(out).map_err(|_| misuse("the export is no text"))
    }

    /// Deletes all that was said, on this side only. The next session goes on without a difference.
    pub async fn delete(&self) -> Result<(), JsValue> {
        self.archive.delete(self.pair).await.map_err(from_history)
    }

    /// Forgets the peer as if there had never been anything: the next session finds a difference.
    pub async fn forget(&self) -> Result<(), JsValue> {
        self.archive.forget(self.pair).await.map_err(from_history)
    }

    /// Keeps a message for the next session, which sends it before all others. While there is a session use its `send`.
    pub async fn queue(
        &self,
        #[wasm_bindgen(unchecked_param_type = "Content")] value: JsValue,
    ) -> Result<(), JsValue> {
        let now = Timestamp::from_unix_ms(js_sys::Date::now() as u64);
        let queued = self.archive.queue(self.pair, content(&value)?, now).await;
        queued.map_err(from_history)
    }

    /// The heads of both chains: kept elsewhere, they show any later change of what is stored.
    #[wasm_bindgen(unchecked_return_type = "{ sent: Head; received: Head }")]
    pub async fn heads(&self) -> Result<JsValue, JsValue> {
        let (sent, received) = self.archive.heads(self.pair).await.map_err(from_history)?;
        Ok(object([
            ("sent", head(&sent)),
            ("received", head(&received)),
        ]))
    }
}

fn wanted(options: &JsValue) -> Page {
    let whole = |name: &str| {
        let field = field(options, name)?.as_f64()?;
        Some(field.max(0.0) as u64)
    };
    let mut page = Page::default();
    page.before = whole("before").unwrap_or(page.before);
    page.limit = whole("limit").map_or(page.limit, |limit| limit as usize);
    let (from, until) = (whole("from"), whole("until"));
    page.between = Timestamp::from_unix_ms(from.unwrap_or_default())
        ..=Timestamp::from_unix_ms(until.unwrap_or(u64::MAX));
    page
}

fn entry(entry: &Entry) -> JsValue {
    let state = match entry.state {
        EntryState::Queued => "queued",
        EntryState::Sent => "sent",
        EntryState::Delivered => "delivered",
        EntryState::Received => "received",
        _ => "unknown",
    };
    let author = match entry.author {
        Author::Me => "me",
        Author::Peer => "peer",
    };
    let (kind, content) = match entry.content() {
        None => ("deleted", JsValue::UNDEFINED),
        Some(Err(_)) => ("unknown", JsValue::UNDEFINED),
        Some(Ok(content)) => spoken(&content),
    };
    object([
        ("position", number(entry.position)),
        ("author", JsValue::from_str(author)),
        ("timestamp", number(entry.timestamp.as_unix_ms())),
        ("state", JsValue::from_str(state)),
        ("kind", JsValue::from_str(kind)),
        ("content", content),
    ])
}

fn head(head: &Head) -> JsValue {
    object([
        ("n", number(head.n)),
        ("hash", JsValue::from_str(&digits(&head.hash))),
    ])
}
