//! The address of a STUN or TURN server (RFC 7064, RFC 7065), and which of them can be used.
//!
//! Pure: nothing is resolved or contacted here.

use std::fmt;

/// The longest address accepted, in bytes.
const MAX_URL: usize = 512;

const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;

/// The address of a server that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IceUrl {
    pub(crate) way: IceWay,
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What is asked of the server, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum IceWay {
    /// STUN over UDP.
    Stun,
    /// TURN over UDP.
    TurnUdp,
    /// TURN over TCP.
    TurnTcp,
    /// TURN over TLS over TCP.
    TurnTls,
}

impl IceUrl {
    /// # Errors
    /// What is wrong with `url`, as the end of a sentence.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        if url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it is longer than 512 bytes or has characters that no address has");
        }
        let (scheme, rest) = url.split_once(':').ok_or("it has no scheme")?;
        let (authority, query) = match rest.split_once('?') {
            Some((authority, query)) => (authority, Some(query)),
            None => (rest, None),
        };
        let way = way(&scheme.to_ascii_lowercase(), transport(query)?)?;
        let (host, port) = host_and_port(authority)?;
        Ok(Self {
            way,
            host: host.to_owned(),
            port: port.unwrap_or(match way {
                IceWay::Stun | IceWay::TurnUdp | IceWay::TurnTcp => PORT,
                IceWay::TurnTls => TLS_PORT,
            }),
        })
    }
}

impl fmt::Display for IceUrl {
    /// In the form that the WebRTC stack takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { way, host, port } = self;
        let scheme = match way {
            IceWay::Stun => "stun",
            IceWay::TurnUdp | IceWay::TurnTcp => "turn",
            IceWay::TurnTls => "turns",
        };
        let query = match way {
            IceWay::Stun => "",
            IceWay::TurnUdp => "?transport=udp",
            IceWay::TurnTcp | IceWay::TurnTls => "?transport=tcp",
        };
        if host.contains(':') {
            write!(f, "{scheme}:[{host}]:{port}{query}")
        } else {
            write!(f, "{scheme}:{host}:{port}{query}")
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Udp,
    Tcp,
}

/// The one thing that a query may say.
fn transport(query: Option<&str>) -> Result<Option<Carrier>, &'static str> {
    match query.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => Ok(None),
        Some("transport=udp") => Ok(Some(Carrier::Udp)),
        Some("transport=tcp") => Ok(Some(Carrier::Tcp)),
        Some(_) => Err("its query may only be ?transport=udp or ?transport=tcp"),
    }
}

fn way(scheme: &str, carrier: Option<Carrier>) -> Result<IceWay, &'static str> {
    match (scheme, carrier) {
        // Browsers take `?transport=udp` here, so it is found in the wild.
        ("stun", None | Some(Carrier::Udp)) => Ok(IceWay::Stun),
        ("stun", Some(Carrier::Tcp)) | ("stuns", _) => {
            Err("STUN is spoken over UDP only: use stun:host:port")
        }
        ("turn", None | Some(Carrier::Udp)) => Ok(IceWay::TurnUdp),
        ("turn", Some(Carrier::Tcp)) => Ok(IceWay::TurnTcp),
        ("turns", None | Some(Carrier::Tcp)) => Ok(IceWay::TurnTls),
        ("turns", Some(Carrier::Udp)) => {
            Err("TURN over DTLS is not supported: leave ?transport=udp away")
        }
        _ => Err("it must begin with stun:, turn: or turns:"),
    }
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("a bracket is not closed")?;
            host.parse::<std::net::Ipv6Addr>()
                .map_err(|_| "there is no IPv6 address in its brackets")?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err("something follows its bracket"),
            }
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (check_name(host)?, Some(port)),
            None => (check_name(authority)?, None),
        },
    };
    Ok((host, port.map(parse_port).transpose()?))
}

fn check_name(host: &str) -> Result<&str, &'static str> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_fine) {
        return Err("it names no host; it has the form turn:host:port, without slashes or a user");
    }
    Ok(host)
}

fn parse_port(port: &str) -> Result<u16, &'static str> {
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse() {
        Ok(port) if is_number && port != 0 => Ok(port),
        Ok(_) | Err(_) => Err("its port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_the_standards_have_them() {
        for (url, way, host, port) in [
            ("stun:example.org", IceWay::Stun, "example.org", 3478),
            ("stun:192.0.2.1:9", IceWay::Stun, "192.0.2.1", 9),
            ("STUN:a?transport=udp", IceWay::Stun, "a", 3478),
            ("turn:a.b:1?transport=UDP", IceWay::TurnUdp, "a.b", 1),
            ("turn:a", IceWay::TurnUdp, "a", 3478),
            ("turn:a?transport=tcp", IceWay::TurnTcp, "a", 3478),
            ("turns:a", IceWay::TurnTls, "a", 5349),
            ("turns:a:443?transport=tcp", IceWay::TurnTls, "a", 443),
            ("turn:[2001:db8::1]:7", IceWay::TurnUdp, "2001:db8::1", 7),
            ("turn:[::1]", IceWay::TurnUdp, "::1", 3478),
        ] {
            let parsed = IceUrl::parse(url).unwrap();
            assert_eq!(
                (parsed.way, parsed.host.as_str(), parsed.port),
                (way, host, port),
                "{url}"
            );
            assert_eq!(IceUrl::parse(&parsed.to_string()).unwrap(), parsed, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (url, why) in [
            ("", "no scheme"),
            ("http:a", "must begin with"),
            ("stuns:a", "UDP only"),
            ("stun:a?transport=tcp", "UDP only"),
            ("turns:a?transport=udp", "DTLS"),
            ("turn:a?transport=sctp", "query"),
            ("turn:a?x=y", "query"),
            ("turn://a", "no host"),
            ("turn:user@a", "no host"),
            ("turn:", "no host"),
            ("turn::1", "no host"),
            ("turn:a:", "port"),
            ("turn:a:0", "port"),
            ("turn:a:65536", "port"),
            ("turn:a:+1", "port"),
            ("turn:[::1", "bracket"),
            ("turn:[a]", "IPv6"),
            ("turn:[::1]x", "bracket"),
            ("turn:a b", "characters"),
        ] {
            let reason = IceUrl::parse(url).unwrap_err();
            assert!(reason.contains(why), "{url}: {reason}");
        }
        assert!(IceUrl::parse(&format!("turn:{}", "a".repeat(MAX_URL))).is_err());
    }
}
