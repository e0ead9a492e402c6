//! Streams of bytes beside the messages of a session, and the offers of files. No clock and no files, so that it works
//! wherever a session does.

mod end;
mod error;
mod hub;
mod offer;
mod reader;
mod waiting;
mod writer;

use std::sync::Arc;

pub use error::StreamError;
pub use offer::{FileOffer, IncomingOffer, StreamOffer};
pub use reader::StreamReader;
pub use writer::StreamWriter;

pub(super) use end::{Giver, Taker};
pub(super) use hub::Hub;

use super::Session;
use crate::stream::{Kind, Offer};

/// Least and most bytes of [`StreamLimits::window`].
const WINDOWS: (u32, u32) = (64 << 10, 1 << 30);

/// What streams and files may cost this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamLimits {
    /// Bytes of one incoming stream that may wait for this side's host, between 64 KiB and 1 GiB. At most 64 streams come
    /// at once. Default: 2 MiB.
    pub window: u32,
    /// Bytes of the largest file that is offered to this side's host at all; larger ones are refused by themselves.
    /// Default: 256 GiB.
    pub max_file: u64,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            window: 2 << 20,
            max_file: 256 << 30,
        }
    }
}

impl StreamLimits {
    /// Within what works.
    pub(super) fn checked(mut self) -> Self {
        self.window = self.window.clamp(WINDOWS.0, WINDOWS.1);
        self
    }
}

/// Streams.
impl Session {
    /// Offers a stream of bytes under a name (1 to 255 bytes), and waits until the peer's host takes it. Any number up to
    /// 64 of each side can be open at once, and none waits for another's reader.
    ///
    /// ```no_run
    /// use sealwire::session::{IncomingOffer, Session};
    ///
    /// # async fn example(session: Session, peer: Session) -> Result<(), Box<dyn std::error::Error>> {
    /// // The peer:
    /// tokio::spawn(async move {
    ///     while let Some(offer) = peer.next_offer().await {
    ///         if let IncomingOffer::Stream(offer) = offer {
    ///             let mut reader = offer.accept()?;
    ///             while let Some(bytes) = reader.read_chunk().await? {
    ///                 println!("{} bytes", bytes.len());
    ///             }
    ///         }
    ///     }
    ///     Ok::<(), sealwire::session::StreamError>(())
    /// });
    ///
    /// let mut writer = session.open_stream("log").await?;
    /// writer.write(b"line\n").await?;
    /// writer.finish().await?; // all of it was taken, and its hash is right
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`StreamError::NotDeclared`], [`StreamError::NotSupported`], [`StreamError::TooMany`] at once;
    /// [`StreamError::Refused`] and the reason of the end of the session while it waits.
    ///
    /// # Cancel safety
    /// Dropped, the offer is taken back.
    pub async fn open_stream(&self, name: &str) -> Result<StreamWriter, StreamError> {
        let offer = Offer {
            kind: Kind::Bytes,
            name: name.to_owned(),
            size: None,
            content: [0; 32],
        };
        let giver = Giver::offer(self.hub()?, offer)?;
        giver.accepted().await?;
        giver.begin(0)?;
        Ok(StreamWriter::new(giver, self.clone()))
    }

    /// The next stream or file that the peer offers, in order; `None` once there will be none, also where streams are
    /// not declared by both sides. Offers that nobody looks at wait, 64 at most.
    ///
    /// # Cancel safety
    /// Dropped while it waits, nothing was taken.
    pub async fn next_offer(&self) -> Option<IncomingOffer> {
        let hub = self.hub().ok()?;
        let (key, offer) = hub.next_offer().await?;
        let taker = Taker::new(Arc::clone(hub), key);
        Some(IncomingOffer::new(taker, offer, self.clone()))
    }

    pub(super) fn hub(&self) -> Result<&Arc<Hub>, StreamError> {
        self.hub.as_ref().ok_or(StreamError::NotDeclared)
    }
}
