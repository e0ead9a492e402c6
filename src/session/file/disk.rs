//! From disk to disk.

use std::{path::Path, sync::Arc};

use super::{
    feed::Feed,
    partial::{Existing, Place},
    reading::Reading,
    receive, send,
    source::Source,
    transfer::{self, FileTransfer},
};
use crate::{
    session::{Session, StreamError, stream::FileOffer},
    shell,
};

/// Files.
impl Session {
    /// Offers a file to the peer under its own name, and returns once it is open; the rest goes on by itself, also
    /// when the handle is dropped. The peer's host decides whether to take it.
    ///
    /// Interrupted by a lost transport it goes on by itself, as messages do. After a restart of either process, offer
    /// it again (a peer's restart during the call's own life is offered again by itself): the receiver keeps what arrived,
    /// and only the rest is sent. The whole is hashed on both sides, with SHA-256, and compared at the end.
    ///
    /// ```no_run
    /// use sealwire::session::{IncomingOffer, Session};
    ///
    /// # async fn example(session: Session, peer: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// // The peer:
    /// tokio::spawn(async move {
    ///     while let Some(offer) = peer.next_offer().await {
    ///         if let IncomingOffer::File(offer) = offer {
    ///             let path = std::path::Path::new("downloads").join(offer.name());
    ///             peer.accept_file(&offer, path).await?.finished().await?;
    ///         }
    ///     }
    ///     Ok::<(), sealwire::session::StreamError>(())
    /// });
    ///
    /// let mut transfer = session.send_file("photo.jpg").await?;
    /// while let Some(progress) = transfer.next_progress().await {
    ///     println!("{} of {} bytes", progress.bytes, progress.total);
    /// }
    /// transfer.finished().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StreamError::NotAFile`] and [`StreamError::Io`] for what cannot be sent; [`StreamError::NotDeclared`],
    /// [`StreamError::NotSupported`], and the reason of the end of the session. What happens later is told by
    /// [`FileTransfer::finished`].
    ///
    /// # Cancel safety
    /// Dropped, nothing is sent.
    pub async fn send_file(&self, path: impl AsRef<Path>) -> Result<FileTransfer, StreamError> {
        let hub = Arc::clone(self.hub()?);
        hub.check()?;
        let path = path.as_ref().to_owned();
        let source = on_disk(move || Source::open(path)).await?;
        let (transfer, running) = transfer::start(self.clone(), source.size());
        let feed = Feed::Disk(Reading::new(source));
        let carrier = Arc::clone(&hub);
        carrier.spawn(send::send(hub, feed, running));
        Ok(transfer)
    }

    /// Takes a file that the peer offers and writes it to this path: [`FileOffer::accept`].
    ///
    /// # Errors
    /// As [`FileOffer::accept`].
    pub async fn accept_file(
        &self,
        offer: &FileOffer,
        path: impl AsRef<Path>,
    ) -> Result<FileTransfer, StreamError> {
        offer.accept(path).await
    }
}

/// On disk.
impl FileOffer {
    /// Takes the file and writes it to this path, which must be free: nothing is ever overwritten. Join a folder of the
    /// host's choice with [`name`](Self::name) to use the peer's name for it.
    ///
    /// While it arrives it is `<path>.part`, with a note beside it (`<path>.part.sealwire`) of whose it is. Both stay when
    /// the transfer is interrupted, and the same file, offered again by the same peer and accepted at the same path, goes
    /// on from there. When it is whole, its hash was compared and the disk has it, it is renamed.
    ///
    /// The transfer goes on by itself, also when the handle is dropped.
    ///
    /// # Errors
    /// [`StreamError::AlreadyExists`], [`StreamError::InUse`], [`StreamError::Io`]: the offer stands, and can be accepted
    /// at another path. [`StreamError::Answered`], [`StreamError::Ended`] and the reason of the end of the session.
    ///
    /// # Cancel safety
    /// Dropped, the offer stands.
    pub async fn accept(&self, path: impl AsRef<Path>) -> Result<FileTransfer, StreamError> {
        self.accept_at(path.as_ref(), Existing::Keep).await
    }

    /// [`accept`](Self::accept), except that a file that is there is replaced once the new one is whole.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), except for the file that is replaced.
    ///
    /// # Cancel safety
    /// As [`accept`](Self::accept).
    pub async fn accept_replacing(
        &self,
        path: impl AsRef<Path>,
    ) -> Result<FileTransfer, StreamError> {
        self.accept_at(path.as_ref(), Existing::Replace).await
    }

    async fn accept_at(
        &self,
        path: &Path,
        existing: Existing,
    ) -> Result<FileTransfer, StreamError> {
        let hub = self.session.hub()?;
        let place = Place {
            target: path.to_owned(),
            existing,
            peer: self.session.peer(),
            size: self.size(),
            content: self.offer.content,
        };
        let partial = on_disk(move || place.open()).await?;
        self.taker.accept(partial.here())?;
        let (transfer, running) = transfer::start(self.session.clone(), self.size());
        let taker = Arc::clone(&self.taker);
        hub.spawn(receive::receive(taker, partial, running));
        Ok(transfer)
    }
}

/// Runs what waits for a disk where nothing else has to wait for it.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StreamError> + Send + 'static,
) -> Result<T, StreamError> {
    let (done, result) = tokio::sync::oneshot::channel();
    // The host need not run on tokio; the crate's own threads do.
    shell::spawn(async move {
        let worked = tokio::task::spawn_blocking(work).await;
        // Whoever asked may have given up.
        let _ = done.send(worked);
    });
    match result.await {
        Ok(Ok(worked)) => worked,
        Ok(Err(_)) | Err(_) => Err(StreamError::Cancelled),
    }
}
