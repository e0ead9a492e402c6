//! One end of one stream, which tells the peer when it is dropped early.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    StreamError,
    hub::{Hub, Key},
};
use crate::stream::{GivenId, Offer, Reason, TakenId};

/// A stream that this side gives.
#[derive(Debug)]
pub(in crate::session) struct Giver {
    hub: Arc<Hub>,
    key: Key<GivenId>,
}

impl Giver {
    pub(in crate::session) fn offer(hub: &Arc<Hub>, offer: Offer) -> Result<Self, StreamError> {
        let key = hub.offer(offer)?;
        let hub = Arc::clone(hub);
        Ok(Self { hub, key })
    }

    /// How many bytes the peer has, and their hash.
    pub(in crate::session) async fn accepted(&self) -> Result<(u64, [u8; 32]), StreamError> {
        poll_fn(|cx| self.hub.poll_accepted(self.key, cx)).await
    }

    pub(in crate::session) fn begin(&self, offset: u64) -> Result<(), StreamError> {
        self.hub.begin(self.key, offset)
    }

    pub(super) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize, StreamError>> {
        self.hub.poll_write(self.key, cx, bytes)
    }

    /// Sends some of these bytes: how many.
    pub(in crate::session) async fn write(&self, bytes: &[u8]) -> Result<usize, StreamError> {
        poll_fn(|cx| self.poll_write(cx, bytes)).await
    }

    /// Bytes that fill one frame.
    pub(in crate::session) fn frame_content(&self) -> usize {
        self.hub.frame_content()
    }

    pub(in crate::session) fn end(&self, hash: [u8; 32]) -> Result<(), StreamError> {
        self.hub.end(self.key, hash)
    }

    pub(super) fn poll_done(&self, cx: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
        self.hub.poll_done(self.key, cx)
    }

    /// The peer has all of it, and its hash is right.
    pub(in crate::session) async fn done(&self) -> Result<(), StreamError> {
        poll_fn(|cx| self.poll_done(cx)).await
    }

    pub(in crate::session) fn abort(&self, reason: Reason) {
        self.hub.abort(self.key, reason);
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        self.hub.drop_given(self.key);
    }
}

/// A stream that this side takes, or has been offered.
#[derive(Debug)]
pub(in crate::session) struct Taker {
    hub: Arc<Hub>,
    key: Key<TakenId>,
}

impl Taker {
    pub(super) fn new(hub: Arc<Hub>, key: Key<TakenId>) -> Self {
        Self { hub, key }
    }

    /// Takes it, but for what is here: so many bytes with this hash.
    pub(in crate::session) fn accept(&self, here: (u64, [u8; 32])) -> Result<(), StreamError> {
        self.hub.accept(self.key, here)
    }

    /// The offset at which the content starts.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "files need it"))]
    pub(in crate::session) async fn began(&self) -> Result<u64, StreamError> {
        poll_fn(|cx| self.hub.poll_began(self.key, cx)).await
    }

    pub(super) fn poll_chunk(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<Bytes, [u8; 32]>, StreamError>> {
        self.hub.poll_chunk(self.key, cx)
    }

    /// The next bytes, or the hash of the whole behind the last of them.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "files need it"))]
    pub(in crate::session) async fn chunk(&self) -> Result<Result<Bytes, [u8; 32]>, StreamError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    pub(in crate::session) fn done(&self) -> Result<(), StreamError> {
        self.hub.done(self.key)
    }

    pub(in crate::session) fn stop(&self, reason: Reason) {
        self.hub.stop(self.key, reason);
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.hub.drop_taken(self.key);
    }
}
