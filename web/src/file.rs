//! Files that a page sends.

use std::{io, rc::Rc};

use js_sys::{Reflect, Uint8Array};
use sealwire::session::{FileSource, FileTransfer as Transfer, Progress};
use tokio::sync::Mutex;
use wasm_bindgen::{JsCast as _, prelude::*};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, File};

use crate::{
    error::from_stream,
    values::{digits, number, object},
};

/// A `Blob`, or a `File`, which has a time of change.
#[derive(Debug)]
pub(crate) struct BlobSource(pub(crate) Blob);

#[async_trait::async_trait(?Send)]
impl FileSource for BlobSource {
    fn size(&self) -> u64 {
        // Sizes are whole numbers below 2^53.
        self.0.size() as u64
    }

    fn version(&self) -> Option<u64> {
        let file = self.0.dyn_ref::<File>()?;
        Some(file.last_modified() as u64)
    }

    async fn read(&self, at: u64, len: usize) -> io::Result<bytes::Bytes> {
        let end = at as f64 + len as f64;
        let slice = self.0.slice_with_f64_and_f64(at as f64, end);
        let slice = slice.map_err(|error| failed(&error))?;
        let read = JsFuture::from(slice.array_buffer()).await;
        let read = read.map_err(|error| failed(&error))?;
        Ok(Uint8Array::new(&read).to_vec().into())
    }
}

fn failed(error: &JsValue) -> io::Error {
    let text = |name: &str| {
        let field = Reflect::get(error, &JsValue::from_str(name)).ok();
        field.and_then(|field| field.as_string())
    };
    // What browsers say of a file that was changed after it was chosen.
    let kind = match text("name").as_deref() {
        Some("NotReadableError") => io::ErrorKind::InvalidData,
        Some("NotFoundError") => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, text("message").unwrap_or_default())
}

/// A file on its way to the peer. It goes on by itself, also when nobody looks.
#[wasm_bindgen]
pub struct FileTransfer {
    transfer: Transfer,
    /// Of those who wait for progress, one after the other.
    watched: Rc<Mutex<Transfer>>,
}

#[wasm_bindgen]
impl FileTransfer {
    pub(crate) fn new(transfer: Transfer) -> Self {
        Self {
            watched: Rc::new(Mutex::new(transfer.clone())),
            transfer,
        }
    }

    /// How far it is.
    #[wasm_bindgen(getter, unchecked_return_type = "Progress")]
    pub fn progress(&self) -> JsValue {
        progress(self.transfer.progress())
    }

    /// Waits until it is further: how far. `undefined` once it is over. `for await (const progress of transfer)` does the
    /// same.
    #[wasm_bindgen(js_name = nextProgress, unchecked_return_type = "Progress | undefined")]
    pub async fn next_progress(&self) -> JsValue {
        let watched = Rc::clone(&self.watched);
        let next = watched.lock().await.next_progress().await;
        next.map_or(JsValue::UNDEFINED, progress)
    }

    /// Waits for the end: whole at the peer, with the same hash.
    #[wasm_bindgen(unchecked_return_type = "FileReport")]
    pub async fn finished(&self) -> Result<JsValue, JsValue> {
        let transfer = self.transfer.clone();
        let report = transfer.finished().await.map_err(from_stream)?;
        Ok(object([
            ("bytes", number(report.bytes)),
            ("resumedFrom", number(report.resumed_from)),
            ("sha256", JsValue::from_str(&digits(&report.sha256))),
        ]))
    }

    /// Gives it up; the peer is told.
    pub fn cancel(&self) {
        self.transfer.cancel();
    }
}

fn progress(Progress { bytes, total }: Progress) -> JsValue {
    object([("bytes", number(bytes)), ("total", number(total))])
}
