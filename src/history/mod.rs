//! What is kept of conversations: every message of both sides, in chains whose heads the two compare (protocol.md §16).
//!
//! [`History`] is a place to keep records in; [`MemoryHistory`] is one that forgets, `store::DiskHistory` an encrypted
//! file. An [`Archive`] is what hosts hold: it reads, searches, exports and deletes, and sessions record into it
//! ([`Builder::history`](crate::session::Builder::history)).
//!
//! # Promise
//!
//! Any edit, deletion, insertion, reorder or truncation of your stored copy is detected when you next compare with the
//! peer, or with a head that you kept elsewhere. Two colluding ends, or one end before the first comparison, can
//! rewrite; and neither can prove anything to a third party.

mod archive;
mod book;
pub mod chain;
mod entry;
mod error;
pub mod export;
mod memory;
pub mod record;
mod state;

use std::{fmt::Debug, future::Future, ops::Range, pin::Pin};

pub use archive::Archive;
#[cfg(feature = "session")]
pub(crate) use archive::Claim;
#[cfg(all(feature = "store", any(unix, windows)))]
pub(crate) use book::hash_before;
pub use chain::{Author, Chain, Head, Pair, Standing};
pub use entry::{Entry, EntryState, Page};
pub use error::HistoryError;
pub use export::{Fault, Report, Summary};
pub use memory::MemoryHistory;
pub use record::{Body, Place, Record};
pub use state::State;

use crate::identity::PeerId;

/// What a [`History`] answers, later. In browsers it is not `Send`: nothing there is.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>> + Send>>;
/// What a [`History`] answers, later. In browsers it is not `Send`: nothing there is.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HistoryError>>>>;

/// `Send` and `Sync` wherever there are threads; everything in browsers.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
pub trait Portable: Send + Sync {}
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
impl<T: Send + Sync> Portable for T {}
/// `Send` and `Sync` wherever there are threads; everything in browsers.
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
pub trait Portable {}
#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
impl<T> Portable for T {}

/// A place to keep records in: of each pair a sequence of records by ascending positions, and a [`State`]. It decides
/// nothing and verifies nothing but its own encryption; [`Archive`] does.
///
/// An implementation takes a change over **when the method is called**, not when the answer is polled: changes of a pair
/// apply in the order of the calls, each whole or not at all, also after a crash.
pub trait History: Debug + Portable + 'static {
    /// What was kept of this pair; `None` when it is new.
    fn state(&self, pair: Pair) -> Answer<Option<State>>;

    /// Records from `from.position` up to before `until`, ascending: at least one if there is any, at most 64, and no
    /// more after about 1 MiB. All before `from.position` is summed up by the chains of `from`.
    fn read(&self, pair: Pair, from: Place, until: u64) -> Answer<Vec<(u64, Record)>>;

    /// Applies a change. With [`Durability::Now`] it survives a crash of the machine once this is answered.
    fn write(&self, pair: Pair, change: Change) -> Answer<()>;

    /// The peers of which something is kept for `me`.
    fn peers(&self, me: PeerId) -> Answer<Vec<PeerId>>;
}

/// What is to be changed at once.
#[derive(Debug, Clone)]
pub struct Change {
    /// The state from now on; `None`: the pair is forgotten.
    pub state: Option<State>,
    /// Positions whose records go, before any is put.
    pub remove: Vec<Range<u64>>,
    /// Records to put, each with the hash of its author's chain before it; outside of the chains, with that of the
    /// chain's start. Ascending by position.
    pub put: Vec<(u64, [u8; 32], Record)>,
    /// When it has to survive a crash.
    pub durability: Durability,
}

/// When a change has to survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is answered.
    Now,
    /// With the next one that has to, or about a second later.
    Soon,
}
