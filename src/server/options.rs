//! Who may connect and how, besides how much ([`ServerLimits`](super::ServerLimits)).

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use super::{Backplane, Pages, TokenError, TokenKey, Turn, http, tls::Tls};
use crate::room::RoomId;

/// What a server asks of its clients and offers them. Start from `ServerOptions::default()`: plain HTTP, everybody may
/// connect.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Web pages that may connect, as browsers write them: `https://app.example.org`. With an empty list all may. What
    /// sends no `Origin` is no browser and is not asked for one: it could send any.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed; a connection of theirs counts for the address in it.
    pub trusted_proxies: Vec<Network>,
    /// The key of the join tokens that are asked of everybody; `None` asks for none.
    pub token_key: Option<TokenKey>,
    /// TURN servers that members are told of with their welcome.
    pub turn: Option<Turn>,
    /// Rooms for clients that know nothing of this crate.
    pub legacy: LegacyRooms,
    /// Files that are served beside the WebSocket, for anybody to read; `None` serves none.
    pub pages: Option<Pages>,
    /// Who may read `/metrics`; others are told that nothing is there. Default: this machine.
    pub metrics_from: Vec<Network>,
    /// What carries between this server and others that act as one with it; `None` for a server alone.
    pub backplane: Option<Arc<dyn Backplane>>,
    /// How often such servers say that they are there: one that is silent for three times this long is gone with all its
    /// members. The same for all of them; default 3 s.
    pub node_beat: Duration,
    /// TLS on the server's own port; `None` leaves it to a proxy.
    pub tls: Option<Tls>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            token_key: None,
            turn: None,
            legacy: LegacyRooms::Off,
            pages: None,
            metrics_from: vec![Network::LOOPBACK_4, Network::LOOPBACK_6],
            backplane: None,
            node_beat: Duration::from_secs(3),
            tls: None,
        }
    }
}

/// Whether `/` and `/legacy/<room>` hand raw messages between the two members of a room.
///
/// For clients such as simple-peer over a broadcasting relay. The messages are unauthenticated and readable by the
/// server; nothing that this crate promises holds for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LegacyRooms {
    /// They are not there.
    #[default]
    Off,
    /// They are there.
    On,
}

/// Addresses with a common prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// As IPv6, IPv4 addresses mapped.
    first: u128,
    /// Bits that count.
    prefix: u32,
}

/// An option that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct ConfigError {
    option: &'static str,
    reason: String,
}

impl ConfigError {
    pub(super) fn new(option: &'static str, reason: impl Into<String>) -> Self {
        Self {
            option,
            reason: reason.into(),
        }
    }
}

impl FromStr for Network {
    type Err = ConfigError;

    /// An address, or an address and the length of a prefix: `10.0.0.0/8`, `::1`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ConfigError::new("network", format!("{text:?} is no address or prefix"));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Self {
            first: to_bits(address),
            prefix: 128 - bits + prefix,
        })
    }
}

impl Network {
    const LOOPBACK_4: Self = Self {
        first: Ipv4Addr::LOCALHOST.to_ipv6_mapped().to_bits(),
        prefix: 128 - 32 + 8,
    };
    const LOOPBACK_6: Self = Self {
        first: Ipv6Addr::LOCALHOST.to_bits(),
        prefix: 128,
    };

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = to_bits(address) ^ self.first;
        differing.leading_zeros() >= self.prefix
    }
}

impl ServerOptions {
    /// The address that counts for a connection from `peer`, unless its request has to say it.
    pub(super) fn address_of(&self, peer: IpAddr) -> Option<IpAddr> {
        (!self.is_proxy(peer)).then_some(peer)
    }

    /// The address behind the proxy `peer`: the nearest one that is no proxy of ours. What is further away was written
    /// by whoever is there, and may be a lie.
    pub(super) fn client_of(&self, peer: IpAddr, forwarded: &[IpAddr]) -> IpAddr {
        let mut chain = forwarded.iter().copied();
        chain
            .find(|&address| !self.is_proxy(address))
            .unwrap_or(peer)
    }

    /// Whether `/metrics` is there for whoever asks. A proxy that is not trusted speaks for somebody unknown.
    pub(super) fn shows_metrics(&self, peer: IpAddr, forwarded: &[IpAddr]) -> bool {
        let client = match (self.is_proxy(peer), forwarded) {
            (true, forwarded) => self.client_of(peer, forwarded),
            (false, []) => peer,
            (false, _) => return false,
        };
        let mut networks = self.metrics_from.iter();
        networks.any(|network| network.contains(client))
    }

    pub(super) fn allows_origin(&self, origin: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let mut allowed = self.origins.iter();
        self.origins.is_empty() || allowed.any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }

    /// The room that a token binds its bearer to.
    pub(super) fn check_token(
        &self,
        token: Option<&str>,
        now: u64,
    ) -> Result<Option<RoomId>, TokenError> {
        match &self.token_key {
            Some(key) => key.verify(token.unwrap_or_default(), now),
            None => Ok(None),
        }
    }

    pub(super) fn legacy_paths(&self) -> http::Legacy {
        match self.legacy {
            LegacyRooms::On => http::Legacy::On,
            LegacyRooms::Off => http::Legacy::Off,
        }
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let mut proxies = self.trusted_proxies.iter();
        proxies.any(|proxy| proxy.contains(address))
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_what_their_prefix_says() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "10.0.0.0", "::1"),
        ] {
            assert!(network(text).contains(ip(inside)), "{text}");
            assert!(!network(text).contains(ip(outside)), "{text}");
        }
        assert!(network("0.0.0.0/0").contains(ip("192.0.2.1")));
        assert!(!network("0.0.0.0/0").contains(ip("2001:db8::1")));
        for wrong in [
            "",
            "10.0.0.0/33",
            "::/129",
            "10/8",
            "host",
            "10.0.0.1/-1",
            "10.0.0.1/",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_our_own_proxies_say_is_believed() {
        let options = ServerOptions {
            trusted_proxies: vec![network("10.0.0.0/8")],
            ..ServerOptions::default()
        };
        let stranger = ip("192.0.2.1");
        assert_eq!(options.address_of(stranger), Some(stranger));
        let proxy = ip("10.0.0.1");
        assert_eq!(options.address_of(proxy), None);
        for (forwarded, client) in [
            (&["198.51.100.7"][..], "198.51.100.7"),
            (&["10.0.0.2", "198.51.100.7", "203.0.113.9"], "198.51.100.7"),
            (&[], "10.0.0.1"),
            (&["10.0.0.2"], "10.0.0.1"),
        ] {
            let forwarded: Vec<_> = forwarded.iter().map(|text| ip(text)).collect();
            assert_eq!(options.client_of(proxy, &forwarded), ip(client));
        }
    }

    #[test]
    fn metrics_are_for_this_machine_unless_told_otherwise() {
        let mut options = ServerOptions::default();
        let stranger = ip("192.0.2.1");
        assert!(options.shows_metrics(ip("127.0.0.9"), &[]));
        assert!(options.shows_metrics(ip("::1"), &[]));
        assert!(!options.shows_metrics(stranger, &[]));
        assert!(!options.shows_metrics(ip("127.0.0.1"), &[stranger]));
        options.trusted_proxies = vec![network("127.0.0.1")];
        assert!(!options.shows_metrics(ip("127.0.0.1"), &[stranger]));
        options.metrics_from.push(network("192.0.2.0/24"));
        assert!(options.shows_metrics(ip("127.0.0.1"), &[stranger]));
    }

    #[test]
    fn origins_are_asked_of_browsers_only() {
        let mut options = ServerOptions::default();
        assert!(options.allows_origin(Some("https://evil.example")));
        options.origins = vec!["https://app.example".to_owned()];
        for (origin, is_allowed) in [
            (None, true),
            (Some("https://APP.example"), true),
            (Some("https://app.example.evil.example"), false),
            (Some("http://app.example"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            assert_eq!(options.allows_origin(origin), is_allowed, "{origin:?}");
        }
    }
}
