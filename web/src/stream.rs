//! Streams of bytes, and what the peer offers.

use std::{cell::Cell, rc::Rc};

use js_sys::Uint8Array;
use sealwire::session::{
    IncomingOffer as Incoming, StreamReader as Reader, StreamWriter as Writer,
};
use tokio::sync::{Mutex, Notify};
use wasm_bindgen::prelude::*;

use crate::{
    error::{from_stream, misuse},
    values::{digits, number},
};

/// The writing end of a stream of bytes. Given up before `finish`, the reader gets an error and not an end.
#[wasm_bindgen]
pub struct StreamWriter(Rc<Held<Writer>>);

/// The reading end of a stream of bytes or of a file. An end is only told once all bytes came and their hash is the
/// writer's.
#[wasm_bindgen]
pub struct StreamReader {
    held: Rc<Held<Reader>>,
    sha256: Rc<Cell<Option<[u8; 32]>>>,
}

/// A stream or a file that the peer offers. Nothing of it is sent before it is accepted.
#[wasm_bindgen]
pub struct IncomingOffer {
    kind: &'static str,
    name: String,
    size: Option<u64>,
    offer: Option<Incoming>,
}

/// Something that one call after the other uses, until it is given up.
struct Held<T> {
    inner: Mutex<Option<T>>,
    given_up: Notify,
    is_given_up: Cell<bool>,
}

impl<T> Held<T> {
    fn new(inner: T) -> Rc<Self> {
        Rc::new(Self {
            inner: Mutex::new(Some(inner)),
            given_up: Notify::new(),
            is_given_up: Cell::new(false),
        })
    }

    /// What `work` gives, unless it is given up before; what is held is dropped then.
    async fn with<R>(&self, work: impl AsyncFnOnce(&mut T) -> R) -> Option<R> {
        let mut inner = self.inner.lock().await;
        let given_up = self.given_up.notified();
        if self.is_given_up.get() {
            *inner = None;
        }
        let held = inner.as_mut()?;
        tokio::select! {
            done = work(held) => Some(done),
            () = given_up => {
                *inner = None;
                None
            }
        }
    }

    fn give_up(&self) {
        self.is_given_up.set(true);
        self.given_up.notify_waiters();
        // Where a call has it, that one drops it.
        if let Ok(mut inner) = self.inner.try_lock() {
            *inner = None;
        }
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn ended() -> JsValue {
    misuse("the stream was finished or given up")
}

#[wasm_bindgen]
impl StreamWriter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self(Held::new(writer))
    }

    /// Sends all these bytes; waits while the reader has not taken what came before.
    pub async fn write(&self, bytes: Uint8Array) -> Result<(), JsValue> {
        let (held, bytes) = (Rc::clone(&self.0), bytes.to_vec());
        let written = held.with(async |writer| writer.write(&bytes).await).await;
        written.ok_or_else(ended)?.map_err(from_stream)
    }

    /// Ends the stream; resolves once the reader has taken all of it and found its hash right.
    pub async fn finish(&self) -> Result<(), JsValue> {
        let held = Rc::clone(&self.0);
        let writer = held.inner.lock().await.take().ok_or_else(ended)?;
        writer.finish().await.map_err(from_stream)
    }

    /// Gives the stream up: the reader gets an error.
    pub fn abort(&self) {
        self.0.give_up();
    }
}

#[wasm_bindgen]
impl StreamReader {
    fn new(reader: Reader) -> Self {
        Self {
            held: Held::new(reader),
            sha256: Rc::default(),
        }
    }

    /// The next bytes, as many as came together; `undefined` behind the last. `for await (const chunk of reader)` does the
    /// same.
    #[wasm_bindgen(unchecked_return_type = "Uint8Array | undefined")]
    pub async fn read(&self) -> Result<JsValue, JsValue> {
        let (held, sha256) = (Rc::clone(&self.held), Rc::clone(&self.sha256));
        let read = held.with(async |reader| {
            let chunk = reader.read_chunk().await;
            if matches!(chunk, Ok(None)) {
                sha256.set(Some(reader.sha256()));
            }
            chunk
        });
        let chunk = read.await.ok_or_else(ended)?.map_err(from_stream)?;
        Ok(chunk.map_or(JsValue::UNDEFINED, |chunk| {
            Uint8Array::from(&chunk[..]).into()
        }))
    }

    /// SHA-256 of the whole, which is the writer's: 64 hexadecimal digits, `undefined` before the end.
    #[wasm_bindgen(getter)]
    pub fn sha256(&self) -> Option<String> {
        self.sha256.get().map(|hash| digits(&hash))
    }

    /// Wants no more of it: the writer gets an error.
    pub fn cancel(&self) {
        self.held.give_up();
    }
}

#[wasm_bindgen]
impl IncomingOffer {
    pub(crate) fn new(offer: Incoming) -> Self {
        let (kind, name, size) = match &offer {
            Incoming::File(file) => ("file", file.name(), Some(file.size())),
            Incoming::Stream(stream) => ("stream", stream.name(), None),
            // What a later version of the crate knows: it can be refused.
            _ => ("other", String::new(), None),
        };
        Self {
            kind,
            name,
            size,
            offer: Some(offer),
        }
    }

    /// A file, whose size is known, or a stream of bytes.
    #[wasm_bindgen(getter, unchecked_return_type = "\"file\" | \"stream\" | \"other\"")]
    pub fn kind(&self) -> String {
        self.kind.to_owned()
    }

    /// Its name: of a file one that is safe to save it under, of a stream one that is safe to show.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Bytes in all of a file. More never come, and fewer are an error.
    #[wasm_bindgen(getter, unchecked_return_type = "number | undefined")]
    pub fn size(&self) -> JsValue {
        self.size.map_or(JsValue::UNDEFINED, number)
    }

    /// Takes it.
    pub fn accept(&mut self) -> Result<StreamReader, JsValue> {
        let offer = self.offer.take();
        let reader = match offer.ok_or_else(|| misuse("the offer was answered before"))? {
            Incoming::File(file) => file.read(),
            Incoming::Stream(stream) => stream.accept(),
            _ => return Err(misuse("this version cannot take it")),
        };
        reader.map(StreamReader::new).map_err(from_stream)
    }

    /// Refuses it.
    pub fn reject(&mut self) {
        self.offer = None;
    }
}
