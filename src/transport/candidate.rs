//! Candidates on their way out and in: which are told to the peer, which of the peer's are tried.

use std::net::IpAddr;

use super::LinkRole;
use crate::config::CandidatePolicy;

/// The longest candidate that is looked at; real ones have less than 200 bytes.
const MAX_CANDIDATE: usize = 512;

/// Candidates of the peer that are tried. The protocol allows as many.
const MAX_CANDIDATES: usize = 64;

/// The first byte of IPv4 addresses that were never given out (240.0.0.0/4).
#[cfg(any(feature = "client", test))]
const FIRST_UNASSIGNED: u8 = 240;

/// A local candidate as the peer may see it, or `None` if it is of no use to the peer or none of its business.
pub(super) fn told(candidate: &str, policy: CandidatePolicy) -> Option<String> {
    let parsed = Parsed::new(candidate)?;
    if parsed
        .address
        .parse()
        .is_ok_and(|address: IpAddr| address.is_unspecified())
    {
        return None;
    }
    match policy {
        CandidatePolicy::All => Some(candidate.to_owned()),
        CandidatePolicy::RelayOnly if parsed.kind == "relay" => Some(without_related(candidate)),
        CandidatePolicy::RelayOnly => None,
    }
}

/// Whether a candidate of the peer is given to the stack. TCP ones are not: the stack would connect to whatever
/// address they name, before anything is authenticated. Names are not, such as the `.local` ones of browsers: they would
/// have to be resolved, and a browser is found without them, as it checks our addresses. Nor are addresses that no host
/// has: the ends of tunnels to TURN servers are among them.
#[cfg(any(feature = "client", test))]
pub(super) fn is_usable(candidate: &str) -> bool {
    let address = udp_address(candidate).and_then(|address| address.parse::<IpAddr>().ok());
    address.is_some_and(|address| match address {
        IpAddr::V4(address) => address.octets()[0] < FIRST_UNASSIGNED,
        IpAddr::V6(_) => true,
    })
}

/// [`is_usable`] for browsers, which hide their addresses from each other behind multicast names and resolve those
/// themselves. Other names are not for them either.
#[cfg(any(all(feature = "web", target_arch = "wasm32"), test))]
pub(super) fn is_usable_in_browsers(candidate: &str) -> bool {
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let is_multicast = |address: &str| {
        let name = address.strip_suffix(".local");
        name.is_some_and(|name| !name.is_empty() && name.bytes().all(is_label))
    };
    udp_address(candidate)
        .is_some_and(|address| address.parse::<IpAddr>().is_ok() || is_multicast(address))
}

/// What came from the peer.
#[derive(Debug, Default)]
pub(super) struct Remote {
    is_described: bool,
    /// Candidates that came before the description: a stack would refuse them.
    early: Vec<String>,
    candidates: usize,
}

impl Remote {
    /// The peer of this role, whose offer the stack has.
    pub(super) fn of(role: &LinkRole) -> Self {
        Self {
            is_described: matches!(role, LinkRole::Answerer { .. }),
            ..Self::default()
        }
    }

    /// The peer's description came. Whether it is the first, and the stack is to have it.
    pub(super) fn describe(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.is_described, true);
        if !is_first {
            tracing::debug!("a second description of the peer is ignored");
        }
        is_first
    }

    /// What waited for the description, which the stack has now.
    pub(super) fn take_early(&mut self) -> Vec<String> {
        std::mem::take(&mut self.early)
    }

    /// A candidate came: it is to be tried now, unless it waits or is one too many.
    pub(super) fn admit(
        &mut self,
        candidate: String,
        is_usable: impl FnOnce(&str) -> bool,
    ) -> Option<String> {
        if self.candidates == MAX_CANDIDATES || !is_usable(&candidate) {
            tracing::debug!("a candidate of the peer is ignored");
            return None;
        }
        self.candidates += 1;
        if self.is_described {
            return Some(candidate);
        }
        self.early.push(candidate);
        None
    }
}

fn udp_address(candidate: &str) -> Option<&str> {
    let parsed = Parsed::new(candidate).filter(|_| candidate.len() <= MAX_CANDIDATE)?;
    let is_udp = parsed.transport.eq_ignore_ascii_case("udp");
    is_udp.then_some(parsed.address)
}

/// RFC 8839 §5.1: `candidate:foundation component transport priority address port typ kind ...`.
struct Parsed<'a> {
    transport: &'a str,
    address: &'a str,
    kind: &'a str,
}

impl<'a> Parsed<'a> {
    fn new(candidate: &'a str) -> Option<Self> {
        let mut words = candidate.strip_prefix("candidate:")?.split(' ');
        let transport = words.nth(2)?;
        let address = words.nth(1)?;
        let typ = words.nth(1)?;
        let kind = words.next()?;
        (typ == "typ").then_some(Self {
            transport,
            address,
            kind,
        })
    }
}

/// The related address of a relayed candidate is where this device is: what [`CandidatePolicy::RelayOnly`] hides.
fn without_related(candidate: &str) -> String {
    let mut words: Vec<&str> = candidate.split(' ').collect();
    for index in 1..words.len() {
        match words[index - 1] {
            "raddr" => words[index] = "0.0.0.0",
            "rport" => words[index] = "0",
            _ => {}
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host";
    const RELAY: &str =
        "candidate:2 1 udp 16777215 198.51.100.1 6000 typ relay raddr 192.0.2.7 rport 5000";

    #[test]
    fn every_address_is_told_unless_it_is_none() {
        assert_eq!(told(HOST, CandidatePolicy::All).as_deref(), Some(HOST));
        assert_eq!(told(RELAY, CandidatePolicy::All).as_deref(), Some(RELAY));
        assert_eq!(
            told(&HOST.replace("192.0.2.7", "0.0.0.0"), CandidatePolicy::All),
            None
        );
        assert_eq!(
            told(&HOST.replace("192.0.2.7", "::"), CandidatePolicy::All),
            None
        );
        assert_eq!(told("", CandidatePolicy::All), None);
    }

    #[test]
    fn relay_only_tells_nothing_of_this_device() {
        assert_eq!(told(HOST, CandidatePolicy::RelayOnly), None);
        let relay = told(RELAY, CandidatePolicy::RelayOnly).unwrap();
        assert!(
            relay.contains("198.51.100.1 6000 typ relay raddr 0.0.0.0 rport 0"),
            "{relay}"
        );
    }

    #[test]
    fn only_udp_candidates_with_an_address_are_used() {
        assert!(is_usable(HOST));
        assert!(is_usable(
            &HOST
                .replace("udp", "UDP")
                .replace("192.0.2.7", "2001:db8::1")
        ));
        assert!(!is_usable(&HOST.replace("udp", "tcp")));
        assert!(!is_usable(&HOST.replace("192.0.2.7", "d7b6.local")));
        assert!(!is_usable(&HOST.replace("192.0.2.7", "240.0.0.1")));
        assert!(is_usable_in_browsers(HOST));
        assert!(is_usable_in_browsers(
            &HOST.replace("192.0.2.7", "d7b6-4a.local")
        ));
        for name in [
            ".local",
            "d7b6",
            "d7b6.example.com",
            "a.b.local",
            "d7b6.local.",
        ] {
            assert!(!is_usable_in_browsers(&HOST.replace("192.0.2.7", name)));
        }
        assert!(!is_usable_in_browsers(&HOST.replace("udp", "tcp")));
        assert!(!is_usable(&HOST.replace("candidate:", "")));
        assert!(!is_usable(&HOST.replace("typ", "type")));
        assert!(!is_usable(&format!(
            "{HOST} ufrag {}",
            "x".repeat(MAX_CANDIDATE)
        )));
        for end in 0..HOST.len() {
            let _ = (
                is_usable(&HOST[..end]),
                told(&HOST[..end], CandidatePolicy::RelayOnly),
            );
        }
    }
}
