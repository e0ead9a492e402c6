//! STUN and TURN servers of a session: those of the host, and those that the signaling server offers if the host wants
//! them. And which kinds of addresses each side found, which explains why there is no path.

use std::time::Duration;

use super::Driver;
use crate::{
    config::{IceServer, ServerRelays},
    error::{Addresses, Error, HandshakeStage},
    ice_url::IceUrl,
    protocol::LinkId,
};

/// Servers of an offer that are used.
const MAX_OFFERED: usize = 8;

/// How long before their end offered credentials are replaced, at most.
const MARGIN: Duration = Duration::from_secs(60);
/// How soon after they came, at the earliest.
const SOONEST: Duration = Duration::from_secs(5);

/// What the signaling server offered with the membership.
#[derive(Debug, Default)]
pub(super) struct Relays {
    offered: Vec<IceServer>,
    /// When the membership must be a new one, by the monotonic clock, for its credentials to be good.
    stale_at: Option<Duration>,
    /// The membership is being replaced for that, which is no loss.
    pub(super) refreshing: bool,
}

/// What both sides told each other for a link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub(super) link: LinkId,
    pub(super) own: Addresses,
    pub(super) peer: Addresses,
}

impl Relays {
    /// The membership ended, and with it what came with it. What it offered is kept until there is another offer.
    pub(super) fn leave(&mut self) {
        self.stale_at = None;
    }

    pub(super) fn stale_at(&self) -> Option<Duration> {
        self.stale_at
    }
}

impl Driver {
    /// Which relays a session may use is the host's choice, not an untrusted server's.
    pub(super) fn on_offered(&mut self, servers: Vec<IceServer>) {
        if self.config.server_relays == ServerRelays::Ignored {
            return;
        }
        let now = self.clock.now();
        let lives = servers
            .iter()
            .filter_map(|server| expiry(&server.username))
            .min()
            .and_then(|at| at.checked_sub(now.unix_ms / 1_000))
            .map(Duration::from_secs);
        self.state.relays.stale_at = lives.map(|lives| now.monotonic + refresh_after(lives));
        self.state.relays.offered = usable(servers);
    }

    pub(super) fn ice_servers(&self) -> Vec<IceServer> {
        let own = self.config.ice_servers.iter();
        own.chain(&self.state.relays.offered).cloned().collect()
    }

    /// Offered credentials are about to end. A transport that is there or being made has its own; whoever still waits
    /// for a peer joins again, for new ones.
    pub(super) fn on_stale_relays(&mut self) {
        let is_waiting = self.state.links.is_empty() && !self.machine.is_connected();
        self.state.relays.stale_at = None;
        if is_waiting && self.state.membership.is_some() {
            self.state.relays.refreshing = true;
            let lost = self.lose_membership();
            self.state.stays.hurry();
            self.input(lost);
        } else if is_waiting || !self.machine.is_connected() {
            self.state.relays.stale_at = Some(self.clock.now().monotonic + SOONEST);
        }
    }

    pub(super) fn note_own(&mut self, link: LinkId, candidate: &str) {
        self.found(link).own.count(candidate);
    }

    pub(super) fn note_peers(&mut self, link: LinkId, candidate: &str) {
        if self.state.links.iter().any(|(open, _)| *open == link) {
            self.found(link).peer.count(candidate);
        }
    }

    pub(super) fn forget_found(&mut self, link: LinkId) -> Option<Found> {
        let at = self
            .state
            .found
            .iter()
            .position(|found| found.link == link)?;
        let found = self.state.found.swap_remove(at);
        self.state.last_found = Some(found);
        Some(found)
    }

    /// The machine knows that no connection came up in time; which addresses were tried is known here.
    pub(super) fn explain(&self, error: &mut Error) {
        let stage = HandshakeStage::Connect;
        if let (true, Some(Found { own, peer, .. })) =
            (*error == Error::Timeout { stage }, self.state.last_found)
        {
            *error = Error::NoPath { own, peer };
        }
    }

    fn found(&mut self, link: LinkId) -> &mut Found {
        let found = &mut self.state.found;
        let at = found.iter().position(|found| found.link == link);
        let at = at.unwrap_or_else(|| {
            let (own, peer) = (Addresses::default(), Addresses::default());
            found.push(Found { link, own, peer });
            found.len() - 1
        });
        &mut found[at]
    }

    pub(super) fn is_refreshing(&mut self) -> bool {
        std::mem::take(&mut self.state.relays.refreshing)
    }
}

/// Of an offer, what can be used.
pub(in crate::session) fn usable(servers: Vec<IceServer>) -> Vec<IceServer> {
    let can_be_used = |server: &IceServer| IceUrl::parse(&server.url).is_ok();
    let usable = servers.into_iter().filter(can_be_used);
    usable.take(MAX_OFFERED).collect()
}

/// When credentials end, in seconds of Unix time, if their user name says so: `1700000000:anything`
/// (draft-uberti-behave-turn-rest).
pub(in crate::session) fn expiry(username: &str) -> Option<u64> {
    let time = username.split(':').next()?;
    let is_time = time.len() == 10 && time.bytes().all(|byte| byte.is_ascii_digit());
    is_time.then(|| time.parse().ok())?
}

/// How long credentials that live so long are used.
fn refresh_after(lives: Duration) -> Duration {
    (lives - MARGIN.min(lives / 2)).max(SOONEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_replaced_before_they_end() {
        assert_eq!(expiry("1700000000:abc"), Some(1_700_000_000));
        assert_eq!(expiry("1700000000"), Some(1_700_000_000));
        for username in [
            "",
            "user",
            "17",
            "17000000000:a",
            "170000000x:a",
            "+170000000:a",
        ] {
            assert_eq!(expiry(username), None, "{username}");
        }
        let seconds = |lives| refresh_after(Duration::from_secs(lives)).as_secs();
        assert_eq!(
            [seconds(43_200), seconds(100), seconds(20), seconds(0)],
            [43_140, 50, 10, 5]
        );
    }

    #[test]
    fn of_an_offer_only_what_can_be_used_is_kept() {
        let server = |url: &str| IceServer::turn(url, "u", "p");
        let offer = [
            "turn:a",
            "http://b",
            "stuns:c",
            "turns:d",
            "turn:e?transport=tcp",
        ];
        let urls: Vec<String> = usable(offer.map(server).to_vec())
            .into_iter()
            .map(|server| server.url)
            .collect();
        assert_eq!(urls, ["turn:a", "turns:d", "turn:e?transport=tcp"]);
        assert_eq!(usable(vec![server("turn:a"); 100]).len(), MAX_OFFERED);
    }
}
