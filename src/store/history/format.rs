//! What is in the file, and how it is sealed (R-214, R-238).
//!
//! ```text
//! table "history"   "header" -> "sealwire history" 16 | version 1 | file id 16 | nonce 24 | tag 16
//! table "pairs"     name 16 -> nonce 24 | sealed state | tag 16
//! table "records"   name 16 | position u64 -> nonce 24 | sealed record | tag 16
//!
//! name    Exp(key, "history contact", me || peer, 16): it tells nobody whose it is
//! state   me 32 | peer 32 | confirmed u64 | next u64 | floor u64 | sent | received, each n u64 | seen u64 | hash 32
//! AD      of the header's tag: what stands before the nonce; of a state: file id | name;
//!         of a record: file id | position u64 | hash of its author's chain before it
//! ```
//! All are XChaCha20-Poly1305 under the one key, with random nonces.

use bytes::Bytes;
use redb::{Database, ReadableTable as _, TableDefinition};

use super::worker::storage;
use crate::{
    crypto::{
        aead::TAG_LEN,
        at_rest::{self, NONCE_LEN},
        kdf::{self, Label},
        secret::Secret,
    },
    entropy::{self, Entropy},
    history::{HistoryError, Pair, Place, Record, State},
};

pub(super) const HEADER: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("history");
pub(super) const PAIRS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("pairs");
pub(super) const RECORDS: TableDefinition<'_, [u8; 24], &[u8]> = TableDefinition::new("records");

const MAGIC: &[u8; 16] = b"sealwire history";
const VERSION: u8 = 1;
/// Bytes of the header before its nonce.
const PLAIN: usize = 16 + 1 + 16;

type Result<T> = std::result::Result<T, HistoryError>;

/// The key and what binds values to their file.
#[derive(Debug)]
pub(super) struct Seal {
    key: Box<Secret>,
    file_id: [u8; 16],
}

impl Seal {
    /// Of an existing file, whose key is checked, or of a new one.
    pub(super) fn open(
        database: &Database,
        key: Box<Secret>,
        is_there: bool,
        entropy: &mut dyn Entropy,
    ) -> Result<Self> {
        let transaction = database.begin_write().map_err(storage("opened"))?;
        let header = {
            let table = transaction.open_table(HEADER).map_err(storage("opened"))?;
            let header = table.get("header").map_err(storage("opened"))?;
            header.map(|header| header.value().to_vec())
        };
        if let Some(header) = header {
            transaction.abort().map_err(storage("opened"))?;
            return Self::read(&header, key);
        }
        if is_there {
            let tables = transaction.list_tables().map_err(storage("opened"))?;
            if tables.count() > 1 {
                return Err(HistoryError::NotAHistory("it has no header"));
            }
        }
        let seal = Self {
            key,
            file_id: entropy::random(entropy),
        };
        {
            let mut table = transaction.open_table(HEADER).map_err(storage("opened"))?;
            let header = seal.header(entropy);
            table
                .insert("header", header.as_slice())
                .map_err(storage("opened"))?;
            transaction.open_table(PAIRS).map_err(storage("opened"))?;
            transaction.open_table(RECORDS).map_err(storage("opened"))?;
        }
        transaction.commit().map_err(storage("opened"))?;
        Ok(seal)
    }

    fn header(&self, entropy: &mut dyn Entropy) -> Vec<u8> {
        let mut header = [&MAGIC[..], &[VERSION], &self.file_id].concat();
        let nonce: [u8; NONCE_LEN] = entropy::random(entropy);
        let tag = at_rest::seal(&self.key, &nonce, &header, &mut []);
        header.extend_from_slice(&nonce);
        header.extend_from_slice(&tag);
        header
    }

    fn read(header: &[u8], key: Box<Secret>) -> Result<Self> {
        let (plain, sealed) = header
            .split_first_chunk::<PLAIN>()
            .filter(|(plain, _)| plain.starts_with(MAGIC))
            .ok_or(HistoryError::NotAHistory("its header is of something else"))?;
        if plain[MAGIC.len()] != VERSION {
            return Err(HistoryError::NotAHistory("it is of a newer version"));
        }
        let mut sealed = sealed.to_vec();
        let (nonce, tag) = sealed
            .split_first_chunk_mut::<NONCE_LEN>()
            .filter(|(_, tag)| tag.len() == TAG_LEN)
            .ok_or(HistoryError::WrongKeyOrDamaged)?;
        at_rest::open(&key, nonce, plain, tag).map_err(|_| HistoryError::WrongKeyOrDamaged)?;
        let mut file_id = [0; 16];
        file_id.copy_from_slice(&plain[MAGIC.len() + 1..]);
        Ok(Self { key, file_id })
    }

    /// How a pair is called in the file.
    pub(super) fn name(&self, pair: &Pair) -> [u8; 16] {
        let context = [*pair.me.as_bytes(), *pair.peer.as_bytes()];
        let name: Secret<16> =
            kdf::expand(&self.key, Label::HistoryContact, context.as_flattened());
        *name.expose()
    }

    fn seal(&self, ad: &[u8], plain: &mut [u8], entropy: &mut dyn Entropy) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = entropy::random(entropy);
        let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + TAG_LEN);
        out.extend_from_slice(&nonce);
        let tag = at_rest::seal(&self.key, &nonce, ad, plain);
        out.extend_from_slice(plain);
        out.extend_from_slice(&tag);
        out
    }

    fn unseal(&self, ad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = sealed.to_vec();
        let (nonce, text) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let len = at_rest::open(&self.key, nonce, ad, text).ok()?.len();
        sealed.drain(..NONCE_LEN);
        sealed.truncate(len);
        Some(sealed)
    }

    fn state_ad(&self, name: &[u8; 16]) -> [u8; 32] {
        let mut ad = [0; 32];
        ad[..16].copy_from_slice(&self.file_id);
        ad[16..].copy_from_slice(name);
        ad
    }

    fn record_ad(&self, position: u64, before: &[u8; 32]) -> [u8; 56] {
        let mut ad = [0; 56];
        ad[..16].copy_from_slice(&self.file_id);
        ad[16..24].copy_from_slice(&position.to_be_bytes());
        ad[24..].copy_from_slice(before);
        ad
    }

    pub(super) fn seal_state(
        &self,
        pair: &Pair,
        state: &State,
        entropy: &mut dyn Entropy,
    ) -> Vec<u8> {
        let mut plain = state.encode(pair);
        self.seal(&self.state_ad(&self.name(pair)), &mut plain, entropy)
    }

    /// Whose state it is, and the state.
    pub(super) fn open_state(&self, name: &[u8; 16], sealed: &[u8]) -> Result<(Pair, State)> {
        let plain = self.unseal(&self.state_ad(name), sealed);
        let plain = plain.ok_or(HistoryError::WrongKeyOrDamaged)?;
        State::decode(&plain).ok_or(HistoryError::WrongKeyOrDamaged)
    }

    pub(super) fn seal_record(
        &self,
        position: u64,
        before: &[u8; 32],
        record: &Record,
        entropy: &mut dyn Entropy,
    ) -> Vec<u8> {
        let mut plain = Vec::with_capacity(64 + record.len());
        record.encode(&mut plain);
        self.seal(&self.record_ad(position, before), &mut plain, entropy)
    }

    /// The record at a position behind `place`. Which chain it follows is not written down: each is tried.
    pub(super) fn open_record(
        &self,
        pair: &Pair,
        place: &Place,
        position: u64,
        sealed: &[u8],
    ) -> Result<Record> {
        let starts = State::new(pair).floor;
        let chains = [place.sent, place.received, starts.sent, starts.received];
        for chain in chains {
            let before = chain.head.hash;
            let Some(plain) = self.unseal(&self.record_ad(position, &before), sealed) else {
                continue;
            };
            let record = Record::decode(&Bytes::from(plain));
            let fits = |record: &Record| crate::history::hash_before(pair, place, record) == before;
            return record.filter(fits).ok_or(HistoryError::Damaged {
                position,
                reason: "it is no record, or not in its place",
            });
        }
        Err(HistoryError::Damaged {
            position,
            reason: "it does not open here: it was changed, moved or follows another",
        })
    }
}
