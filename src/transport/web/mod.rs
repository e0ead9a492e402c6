//! The transport over the browser's own WebRTC.
//!
//! ```text
//!  Link ══ requests ══> peer.rs ── send ──> channel.rs ──> RTCDataChannel
//!       <══ events ═══     ^ notes
//!                     callbacks.rs <── the browser's events; frames go from here to the session at once
//! ```
//! All of it runs in one task on the page's thread, which alone may hold objects of JavaScript.

mod callbacks;
mod channel;
mod facts;
mod peer;
mod setup;

use super::{Link, LinkOptions, LinkRole, Transport, TransportError, check_channels};
use crate::shell;

/// Peer connections of the browser.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct WebRtcTransport;

impl WebRtcTransport {
    /// With the defaults, which are all there is: everything else is in [`LinkOptions`].
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Transport for WebRtcTransport {
    fn open(&self, options: LinkOptions, role: LinkRole) -> Result<Link, TransportError> {
        check_channels(&options)?;
        let (link, port) = Link::pair(options.buffer);
        shell::spawn(peer::run(options, role, port));
        Ok(link)
    }
}
