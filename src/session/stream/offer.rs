//! What the peer offers.

use std::sync::Arc;

use super::{StreamError, StreamReader, end::Taker};
use crate::{
    session::Session,
    stream::{Kind, Offer, displayed, file_name},
};

/// A stream or a file that the peer offers. Nothing of it is sent before it is accepted; dropped, it is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum IncomingOffer {
    /// A file.
    File(FileOffer),
    /// A stream of bytes.
    Stream(StreamOffer),
}

impl IncomingOffer {
    pub(super) fn new(taker: Taker, offer: Offer, session: Session) -> Self {
        match offer.kind {
            Kind::File => Self::File(FileOffer {
                taker: Arc::new(taker),
                offer,
                session,
            }),
            Kind::Bytes => Self::Stream(StreamOffer {
                taker,
                offer,
                session,
            }),
        }
    }
}

/// A stream of bytes that the peer offers.
#[derive(Debug)]
pub struct StreamOffer {
    taker: Taker,
    offer: Offer,
    session: Session,
}

impl StreamOffer {
    /// Its name, as the peer chose it, with `_` in the place of characters that could steer a terminal or deceive.
    #[must_use]
    pub fn name(&self) -> String {
        displayed(&self.offer.name)
    }

    /// Takes it.
    ///
    /// # Errors
    /// [`StreamError::Ended`] when the peer took it back, and the reason of the end of the session.
    pub fn accept(self) -> Result<StreamReader, StreamError> {
        self.taker.accept((0, [0; 32]))?;
        Ok(StreamReader::new(self.taker, self.session))
    }

    /// Refuses it; the peer gets [`StreamError::Refused`]. Dropping it does the same.
    pub fn reject(self) {
        drop(self);
    }
}

/// A file that the peer offers.
///
/// On native platforms `accept` writes it to disk; elsewhere, or to put it in another place, [`read`](Self::read) it.
#[derive(Debug)]
pub struct FileOffer {
    pub(in crate::session) taker: Arc<Taker>,
    pub(in crate::session) offer: Offer,
    pub(in crate::session) session: Session,
}

impl FileOffer {
    /// A name that is safe to use in any folder on any system: made from the peer's, one path component of at most 200
    /// bytes, without separators, devices, control or direction characters, and never hidden.
    #[must_use]
    pub fn name(&self) -> String {
        file_name(&self.offer.name)
    }

    /// Bytes in all. More never come, and fewer are an error.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.offer.size.unwrap_or_default()
    }

    /// Takes it as a stream of bytes, from its first byte on, to keep it elsewhere than on disk.
    ///
    /// # Errors
    /// As [`StreamOffer::accept`], and [`StreamError::Answered`].
    pub fn read(self) -> Result<StreamReader, StreamError> {
        let Self { taker, session, .. } = self;
        taker.accept((0, [0; 32]))?;
        // Nobody else holds it: it was not accepted before.
        let taker = Arc::try_unwrap(taker).map_err(|_| StreamError::Answered)?;
        Ok(StreamReader::new(taker, session))
    }

    /// Refuses it; the peer gets [`StreamError::Refused`]. Dropping it does the same.
    pub fn reject(self) {
        drop(self);
    }
}
