//! A file that is not on disk: the host reads it.

use std::{io, path::PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{BLOCK, content_id, failed, feed::Read};
use crate::{
    history::Portable,
    session::StreamError,
    stream::{Kind, MAX_CONTENT, Offer, file_name},
};

/// A file that is not on disk: a `Blob` of a browser, something in a database, bytes in memory
/// ([`Session::send_source`](crate::session::Session::send_source)). Its future need not be `Send` in browsers.
#[cfg_attr(not(target_arch = "wasm32"), async_trait::async_trait)]
#[cfg_attr(target_arch = "wasm32", async_trait::async_trait(?Send))]
pub trait FileSource: std::fmt::Debug + Portable + 'static {
    /// Bytes in all.
    fn size(&self) -> u64;

    /// A number that is another one when the content is, such as the time of its last change. By it a receiver that was
    /// interrupted knows what it has the beginning of; without one it begins anew.
    fn version(&self) -> Option<u64> {
        None
    }

    /// These bytes, all of them. They are asked for in ascending order, more than once where an interrupted transfer goes
    /// on.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where the content is not any more what it was when it was given, and whatever else
    /// stands in the way.
    async fn read(&self, at: u64, len: usize) -> io::Result<Bytes>;
}

/// A file that is read of a source.
#[derive(Debug)]
pub(super) struct Given {
    offer: Offer,
    size: u64,
    source: Box<dyn FileSource>,
    /// Of all before `at`.
    hash: Sha256,
    at: u64,
    /// Bytes that are read at once.
    block: usize,
}

impl Given {
    pub(super) fn new(name: &str, source: Box<dyn FileSource>) -> Result<Self, StreamError> {
        let (name, size) = (file_name(name), source.size());
        if size > MAX_CONTENT {
            return Err(StreamError::InvalidOffer);
        }
        let version = source.version();
        let content = version.map(|version| content_id(&name, size, version.into(), (0, 0)));
        let offer = Offer {
            kind: Kind::File,
            content: content.unwrap_or_default(),
            name,
            size: Some(size),
        };
        Ok(Self {
            offer,
            size,
            source,
            hash: Sha256::new(),
            at: 0,
            block: BLOCK,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(&self.offer.name)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn offer(&self) -> Offer {
        self.offer.clone()
    }

    pub(super) async fn start(
        &mut self,
        offset: u64,
        theirs: [u8; 32],
        block: usize,
    ) -> Result<u64, StreamError> {
        (self.hash, self.at, self.block) = (Sha256::new(), 0, block);
        while self.at < offset {
            self.read(offset).await?;
        }
        let ours: [u8; 32] = self.hash.clone().finalize().into();
        if ours != theirs {
            (self.hash, self.at) = (Sha256::new(), 0);
        }
        Ok(self.at)
    }

    pub(super) async fn next(&mut self) -> Result<Read, StreamError> {
        if self.at == self.size {
            return Ok(Read::End(self.hash.clone().finalize().into()));
        }
        self.read(self.size).await.map(Read::Block)
    }

    /// The next bytes, up to before `until`.
    async fn read(&mut self, until: u64) -> Result<Bytes, StreamError> {
        let left = until - self.at;
        let len = usize::try_from(left).unwrap_or(self.block).min(self.block);
        match self.source.read(self.at, len).await {
            Ok(block) if block.len() == len => {
                self.hash.update(&block);
                self.at += len as u64;
                Ok(block)
            }
            Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                Err(failed(&self.path(), &error))
            }
            Ok(_) | Err(_) => Err(StreamError::SourceChanged { path: self.path() }),
        }
    }
}
