//! The transport over the `webrtc` crate: the only place that names its peer connection.
//!
//! ```text
//!  Link ══ requests ══> peer.rs ── jobs ──> channel.rs write ──> stack ──> UDP
//!       <══ events ═══      ^ notes └─────── channel.rs read <── stack <── UDP
//!                       handler.rs <── callbacks of the stack
//! ```
//! All of it runs on the thread of the caller's runtime (see `runtime.rs`). What was learned the hard way about the
//! crate is written where it is dealt with.

mod channel;
mod channels;
mod facts;
mod handler;
mod peer;
mod setup;
mod stall;

use tokio::runtime::Handle;

use super::{Link, LinkOptions, LinkRole, Transport, TransportError, check_channels};

/// Peer connections of the `webrtc` crate.
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
        let runtime = Handle::try_current()
            .map_err(|_| TransportError::Setup("there is no tokio runtime here".to_owned()))?;
        let (link, port) = Link::pair(options.buffer);
        runtime.spawn(peer::run(options, role, port));
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::sdp::{self, SdpKind},
        transport::{ChannelSpec, LinkEvent, Reliability},
    };

    async fn described(link: &mut Link) -> String {
        match link.next().await {
            Some(LinkEvent::Described { sdp, .. }) => sdp,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_descriptions_of_the_stack_are_those_that_the_protocol_accepts() {
        let open = |role| {
            WebRtcTransport::new()
                .open(LinkOptions::default(), role)
                .unwrap()
        };
        let offer = described(&mut open(LinkRole::Offerer)).await;
        let answer = described(&mut open(LinkRole::Answerer {
            offer: offer.clone(),
        }))
        .await;
        for (sdp, kind) in [(offer, SdpKind::Offer), (answer, SdpKind::Answer)] {
            let description = sdp::parse(&sdp, kind).unwrap();
            assert_eq!(description.max_message_size, Some(65_536));
            assert_eq!(sdp::strip_candidates(&sdp), sdp);
        }
    }

    #[tokio::test]
    async fn channels_that_the_protocol_does_not_have_are_refused() {
        for ids in [&[][..], &[1, 1], &[16]] {
            let channel = |id| ChannelSpec {
                id,
                reliability: Reliability::Reliable,
            };
            let channels = ids.iter().copied().map(channel).collect();
            let options = LinkOptions {
                channels,
                ..LinkOptions::default()
            };
            let refused = WebRtcTransport::new()
                .open(options, LinkRole::Offerer)
                .unwrap_err();
            assert!(matches!(refused, TransportError::Setup(_)), "{ids:?}");
        }
    }

    #[test]
    fn outside_of_a_runtime_nothing_starts() {
        let refused = WebRtcTransport::new().open(LinkOptions::default(), LinkRole::Offerer);
        assert!(matches!(refused, Err(TransportError::Setup(_))));
    }
}
