//! Which kinds of addresses a side found: what explains that there is no path.

use std::fmt;

/// How many addresses of each kind one side told the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Addresses {
    /// Of its own interfaces.
    pub local: u8,
    /// As the world sees it, told by a STUN or TURN server.
    pub reflexive: u8,
    /// Of TURN servers that relay for it.
    pub relayed: u8,
}

impl Addresses {
    /// Counts an ICE candidate (RFC 8839, §5.1).
    #[cfg(feature = "session")]
    pub(crate) fn count(&mut self, candidate: &str) {
        let mut words = candidate.split(' ').skip_while(|word| *word != "typ");
        let count = match words.nth(1) {
            Some("host") => &mut self.local,
            Some("srflx" | "prflx") => &mut self.reflexive,
            Some("relay") => &mut self.relayed,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            local,
            reflexive,
            relayed,
        } = self;
        write!(f, "{local} local, {reflexive} public, {relayed} relayed")
    }
}

#[cfg(all(test, feature = "session"))]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_counted_by_kind() {
        let mut addresses = Addresses::default();
        for candidate in [
            "candidate:1 1 udp 2130706431 192.0.2.7 5000 typ host",
            "candidate:2 1 udp 16777215 198.51.100.1 6000 typ relay raddr 0.0.0.0 rport 0",
            "candidate:3 1 udp 1 198.51.100.2 6000 typ srflx raddr 192.0.2.7 rport 5000",
            "candidate:3 1 udp 1 198.51.100.2 6000 typ",
            "candidate:3 1 udp 1 198.51.100.2 6000 typ other",
            "",
        ] {
            addresses.count(candidate);
        }
        assert_eq!(addresses.to_string(), "1 local, 1 public, 1 relayed");
    }
}
