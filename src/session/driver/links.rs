//! Links: opened, fed and closed as the machine says, and what they tell it.

use bytes::BytesMut;

use super::{Driver, relays::Found};
use crate::{
    error::{Addresses, Error},
    protocol::{CloseHow, Delivery, Input, LinkId},
    transport::{ChannelSpec, Link, LinkEvent, LinkOptions, LinkRole, Reliability, TransportError},
};

/// Events of links taken in one go before the host and the timers are looked at again.
const LINK_BURST: usize = 64;

impl Driver {
    pub(super) fn open_link(
        &mut self,
        id: LinkId,
        offer: Option<String>,
        channels: &[(u8, Delivery)],
    ) {
        let spec = |&(id, delivery): &(u8, Delivery)| ChannelSpec {
            id,
            reliability: match delivery {
                Delivery::Reliable => Reliability::Reliable,
                Delivery::Lossy => Reliability::Lossy,
            },
        };
        let options = LinkOptions {
            channels: channels.iter().map(spec).collect(),
            ice_servers: self.ice_servers(),
            candidates: self.config.candidates,
            gather: self.config.timeouts.gather,
            buffer: self.config.limits.transport_buffer,
            lost_after: self.config.timeouts.path_lost,
        };
        let role = match offer {
            None => LinkRole::Offerer,
            Some(offer) => LinkRole::Answerer { offer },
        };
        match self.transport.open(options, role) {
            Ok(link) => self.state.links.push((id, link)),
            Err(error) => {
                let reason = Some(from_transport(error));
                self.state
                    .pending
                    .push_back(Input::LinkClosed { link: id, reason });
            }
        }
    }

    pub(super) fn with_link(&self, id: LinkId, act: impl FnOnce(&Link)) {
        if let Some((_, link)) = self.state.links.iter().find(|(open, _)| *open == id) {
            act(link);
        }
    }

    /// Sends a frame. A peer that sends and does not read what it is answered must not fill memory: its link is lost.
    pub(super) fn send_frame(&mut self, id: LinkId, channel: u8, frame: Vec<u8>) {
        let Some((_, link)) = self.state.links.iter().find(|(open, _)| *open == id) else {
            return;
        };
        link.send(channel, frame);
        if link.is_stuffed() {
            self.forget_found(id);
            let reason = Error::Transport("the peer takes nothing".into());
            let lost = self.forget_link(id, Some(reason));
            self.state.pending.push_back(lost);
        }
    }

    pub(super) fn close_link(&mut self, id: LinkId, how: CloseHow) {
        let Some(at) = self.state.links.iter().position(|(open, _)| *open == id) else {
            return;
        };
        let (_, link) = self.state.links.swap_remove(at);
        self.forget_found(id);
        match how {
            CloseHow::Abrupt => drop(link),
            CloseHow::Graceful => {
                link.close();
                self.state.leaving.push(link);
            }
        }
    }

    pub(super) fn on_link(&mut self, id: LinkId, event: Option<LinkEvent>) {
        self.on_link_event(id, event);
        for _ in 1..LINK_BURST {
            let Some((_, link)) = self.state.links.iter_mut().find(|(open, _)| *open == id) else {
                return;
            };
            let Some(event) = link.try_next() else { return };
            self.on_link_event(id, Some(event));
        }
    }

    fn on_link_event(&mut self, link: LinkId, event: Option<LinkEvent>) {
        let input = match event {
            Some(LinkEvent::Described { sdp, candidates }) => {
                for candidate in &candidates {
                    self.note_own(link, candidate);
                }
                Input::LinkDescribed {
                    link,
                    sdp,
                    candidates,
                }
            }
            Some(LinkEvent::Candidate(candidate)) => {
                self.note_own(link, &candidate);
                Input::LinkCandidate { link, candidate }
            }
            Some(LinkEvent::Open {
                fingerprint,
                relayed,
            }) => {
                (self.state.relayed, self.state.fingerprint_checked) =
                    (relayed, fingerprint.is_some());
                Input::LinkOpen { link, fingerprint }
            }
            Some(LinkEvent::Frame { channel, frame }) => Input::LinkFrame {
                link,
                channel,
                frame: BytesMut::from(frame),
            },
            Some(LinkEvent::Foreign(_)) => Input::LinkForeign(link),
            Some(LinkEvent::Closed(Err(error))) => {
                let found = self.forget_found(link);
                let error = match (error, found) {
                    (TransportError::NoPath, Some(Found { own, peer, .. })) => {
                        Error::NoPath { own, peer }
                    }
                    (error, _) => from_transport(error),
                };
                self.forget_link(link, Some(error))
            }
            Some(LinkEvent::Closed(Ok(()))) | None => {
                self.forget_found(link);
                self.forget_link(link, None)
            }
        };
        self.input(input);
    }

    fn forget_link(&mut self, link: LinkId, reason: Option<Error>) -> Input {
        self.state.links.retain(|(open, _)| *open != link);
        Input::LinkClosed { link, reason }
    }
}

fn from_transport(error: TransportError) -> Error {
    match error {
        TransportError::IceServer { url, reason } => Error::InvalidIceServer { url, reason },
        TransportError::NoPath => Error::NoPath {
            own: Addresses::default(),
            peer: Addresses::default(),
        },
        TransportError::Setup(_) | TransportError::Description(_) | TransportError::Failed(_) => {
            Error::Transport(error.to_string())
        }
    }
}
