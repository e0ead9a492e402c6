//! New keys, rest and return, at the host's wish.

use tokio::sync::oneshot;

use super::Session;
use crate::error::{Error, Result};

/// Whether messages can travel now. A session lives on without a transport, for 300 s
/// ([`Timeouts::resume`](crate::Timeouts::resume)) unless configured otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum State {
    /// There is a transport, over which both sides proved their keys.
    Connected,
    /// The transport was lost and another is being looked for. Messages wait.
    #[default]
    Reconnecting,
    /// This side wants none: [`Session::suspend`] was called. Messages wait.
    Suspended,
    /// The session is over.
    Ended,
}

/// What the host asks of the task and waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wish {
    Rekey,
    Suspend,
    Resume,
}

/// A wish, and where to say that it is fulfilled.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) done: oneshot::Sender<()>,
}

impl Session {
    /// Whether messages can travel now. It changes before the event that tells of it is returned.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Changes all keys, and returns once the peer sends under the new ones: whoever copied this device's memory before
    /// the call, and only listens since, cannot read what either side sends after it. Keys also change by themselves
    /// ([`Rekeying`](crate::Config::rekeying)).
    ///
    /// Calls closer together than a second wait for each other. Without a transport it waits for the next one, whose
    /// keys are new.
    ///
    /// # Errors
    /// The reason of the end, when the session is over or ends before.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends: the keys change all the same.
    ///
    /// ```no_run
    /// # async fn example(session: sealwire::session::Session) -> sealwire::Result<()> {
    /// session.rekey().await?;
    /// session.send("only under keys that are younger than this call").await?;
    /// # Ok(()) }
    /// ```
    pub async fn rekey(&self) -> Result<()> {
        self.ask(Wish::Rekey).await
    }

    /// Gives the transport up without ending the session, and returns when it has: for a device that goes to sleep or an
    /// app that is sent to the background. Messages wait on both sides until
    /// [`resume`](Self::resume); a session that rests for longer than [`Timeouts::resume`](crate::Timeouts::resume)
    /// (300 s) ends with [`Error::Disconnected`], and so does the peer's.
    ///
    /// The peer sees [`Event::Disconnected`](crate::protocol::Event::Disconnected), and waits.
    ///
    /// # Errors
    /// The reason of the end, when the session is over.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends: the session rests all the same.
    ///
    /// ```no_run
    /// # async fn example(session: sealwire::session::Session) -> sealwire::Result<()> {
    /// session.suspend().await?; // the app goes to the background
    /// session.send("this waits").await?;
    /// session.resume().await?; // and comes back
    /// # Ok(()) }
    /// ```
    pub async fn suspend(&self) -> Result<()> {
        self.ask(Wish::Suspend).await
    }

    /// Ends [`suspend`](Self::suspend), and returns once the session is connected, be it that it never was otherwise.
    ///
    /// # Errors
    /// The reason of the end, when the session is over or the peer is not found in time.
    ///
    /// # Cancel safety
    /// Dropped, only the waiting ends: the session goes on looking for its peer.
    pub async fn resume(&self) -> Result<()> {
        self.ask(Wish::Resume).await
    }

    async fn ask(&self, wish: Wish) -> Result<()> {
        let done = self.shared.ask(wish)?;
        done.await.map_err(|_| {
            let stopped = || Error::Transport("the task of the session ended".into());
            self.shared.ended().unwrap_or_else(stopped)
        })
    }
}
