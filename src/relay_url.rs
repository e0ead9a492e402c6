//! The address of a signaling server: which ones may be used, and what is requested of them (§1.1, §1.2).
//!
//! Pure: nothing is resolved or contacted here. It reads addresses with the parser that the WebSocket library uses,
//! so what was checked in an invite is what is connected to later.

use std::net::{Ipv4Addr, Ipv6Addr};

use http::Uri;

use crate::config::PlainSignaling;

/// The longest address accepted, in bytes: room for a join token in the query.
const MAX_URL: usize = 2_048;

/// Whether `url` may be used as a signaling address: `wss://`, or `ws://` as far as `plain` allows; a host; no
/// user name, no password, no fragment.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn validate_relay_url(url: &str, plain: PlainSignaling) -> Result<(), &'static str> {
    RelayUrl::parse(url, plain).map(|_| ())
}

/// A signaling address that may be used.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RelayUrl {
    pub(crate) scheme: RelayScheme,
    /// A name or an address, IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Host and port as they were written.
    authority: String,
    /// Without slashes at its end; empty for the root.
    path: String,
    query: Option<String>,
}

impl std::fmt::Debug for RelayUrl {
    /// Without the query, which may hold a token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            scheme,
            authority,
            path,
            query: _,
            host: _,
            port: _,
        } = self;
        write!(f, "RelayUrl({scheme:?} {authority}{path})")
    }
}

/// What runs below the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RelayScheme {
    /// `wss`: TLS.
    Tls,
    /// `ws`: TCP alone.
    Plain,
}

impl RelayUrl {
    /// # Errors
    /// What is wrong with `url`, as the end of a sentence.
    pub(crate) fn parse(url: &str, plain: PlainSignaling) -> Result<Self, &'static str> {
        if url.len() > MAX_URL {
            return Err("it is longer than 2048 bytes");
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it contains characters that must be percent-encoded");
        }
        if url.contains('#') {
            return Err("a fragment has no meaning here");
        }
        let uri: Uri = url.parse().map_err(|_| "it is not a URL")?;
        let scheme = scheme(&uri)?;
        let authority = uri.authority().ok_or("it names no host")?.as_str();
        if authority.contains('@') {
            return Err("it must not contain a user name or password");
        }
        let host = host(&uri)?;
        if scheme == RelayScheme::Plain
            && plain == PlainSignaling::LoopbackOnly
            && !is_loopback(&host)
        {
            return Err("ws:// may only lead to this machine; use wss://");
        }
        Ok(Self {
            scheme,
            port: port(&uri, scheme)?,
            authority: authority.to_owned(),
            path: uri.path().trim_end_matches('/').to_owned(),
            query: uri.query().map(str::to_owned),
            host,
        })
    }
}

#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
impl RelayUrl {
    /// What the WebSocket connects to: `/v1` below the path, the query kept.
    pub(crate) fn endpoint(&self) -> String {
        let Self {
            scheme,
            authority,
            path,
            query,
            host: _,
            port: _,
        } = self;
        let scheme = scheme.name();
        match query {
            Some(query) => format!("{scheme}://{authority}{path}/v1?{query}"),
            None => format!("{scheme}://{authority}{path}/v1"),
        }
    }

    /// For people: without the query, which may hold a token.
    pub(crate) fn describe(&self) -> String {
        let Self {
            scheme,
            authority,
            path,
            query: _,
            host: _,
            port: _,
        } = self;
        format!("{}://{authority}{path}", scheme.name())
    }
}

#[cfg(any(feature = "client", all(feature = "web", target_arch = "wasm32")))]
impl RelayScheme {
    fn name(self) -> &'static str {
        match self {
            Self::Tls => "wss",
            Self::Plain => "ws",
        }
    }
}

/// Whether a host is this machine by its name alone.
pub(crate) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || host
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.is_loopback())
}

fn scheme(uri: &Uri) -> Result<RelayScheme, &'static str> {
    match uri.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("wss") => Ok(RelayScheme::Tls),
        Some(scheme) if scheme.eq_ignore_ascii_case("ws") => Ok(RelayScheme::Plain),
        _ => Err("it must start with wss:// or ws://"),
    }
}

fn host(uri: &Uri) -> Result<String, &'static str> {
    let host = uri.host().unwrap_or_default();
    if let Some(bracketed) = host.strip_prefix('[') {
        let address = bracketed.strip_suffix(']').unwrap_or_default();
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok(address.to_owned()),
            Err(_) => Err("its host is not an IPv6 address"),
        };
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err("its host is not a name or an address");
    }
    Ok(host.to_owned())
}

fn port(uri: &Uri, scheme: RelayScheme) -> Result<u16, &'static str> {
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
        return Err("it names no host");
    };
    let Some(port) = authority
        .as_str()
        .strip_prefix(host)
        .filter(|rest| !rest.is_empty())
    else {
        return Ok(match scheme {
            RelayScheme::Tls => 443,
            RelayScheme::Plain => 80,
        });
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if is_number && port != 0 => Ok(port),
        _ => Err("its port is not a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback_only(url: &str) -> Result<RelayUrl, &'static str> {
        RelayUrl::parse(url, PlainSignaling::LoopbackOnly)
    }

    ///
    #[test]
    fn tls_may_lead_anywhere_and_plain_to_this_machine_only() {
        for url in [
            "wss://relay.example.org",
            "WSS://relay.example.org",
            "wss://relay.example.org:8443/x?token=a.b",
            "wss://192.0.2.1",
            "wss://[2001:db8::1]:8443",
            "ws://127.0.0.1:8080",
            "ws://127.8.9.10",
            "ws://localhost:1",
            "ws://LOCALHOST",
            "ws://[::1]:8080/",
        ] {
            assert!(
                validate_relay_url(url, PlainSignaling::LoopbackOnly).is_ok(),
                "{url}"
            );
        }
        for url in [
            "ws://relay.example.org",
            "ws://localhost.example.org",
            "ws://127.0.0.1.example.org",
            "ws://127.1",
            "ws://0x7f000001",
            "ws://2130706433",
            "ws://192.168.0.1",
            "ws://[::ffff:127.0.0.1]",
            "ws://0.0.0.0",
        ] {
            assert!(
                loopback_only(url).is_err_and(|reason| reason.contains("this machine")),
                "{url}"
            );
            assert!(
                validate_relay_url(url, PlainSignaling::Anywhere).is_ok(),
                "{url}"
            );
        }
    }

    ///
    #[test]
    fn what_is_no_plain_address_is_refused() {
        for url in [
            "",
            "/v1",
            "relay.example.org",
            "relay.example.org:443",
            "http://relay.example.org",
            "https://relay.example.org",
            "javascript:alert(1)",
            "wss:",
            "wss://",
            "wss:///v1",
            "wss://?x",
            "wss://user@relay.example.org",
            "wss://user:password@relay.example.org",
            "wss://127.0.0.1:80@relay.example.org",
            "wss://@relay.example.org",
            "wss://relay.example.org/#x",
            "wss://relay.example.org#",
            "wss://relay.example.org:",
            "wss://relay.example.org:0",
            "wss://relay.example.org:+80",
            "wss://relay.example.org:65536",
            "wss://relay.example.org:8a",
            "wss://relay.example.org\\@evil.example",
            "wss://relay.example.org /",
            "wss://relay.example.org/\r\nHost: x",
            "wss://rel%61y.example.org",
            "wss://r\u{e9}lay.example.org",
            "wss://relay.example.org/\u{e9}",
            "wss://[::1",
            "wss://[::1]x",
            "wss://[relay]",
            "wss://[127.0.0.1]",
            "wss://::1",
            "wss://a,b",
        ] {
            assert!(
                RelayUrl::parse(url, PlainSignaling::Anywhere).is_err(),
                "{url}"
            );
        }
        let long = format!("wss://relay.example.org/{}", "a".repeat(MAX_URL));
        assert!(RelayUrl::parse(&long, PlainSignaling::Anywhere).is_err());
    }

    ///
    #[cfg(feature = "client")]
    #[test]
    fn the_endpoint_is_v1_below_the_path_and_keeps_the_query() {
        for (url, endpoint, described) in [
            ("wss://h", "wss://h/v1", "wss://h"),
            ("wss://h/", "wss://h/v1", "wss://h"),
            ("WSS://h:9//", "wss://h:9/v1", "wss://h:9"),
            ("wss://h/x/y", "wss://h/x/y/v1", "wss://h/x/y"),
            ("wss://h/x/y//", "wss://h/x/y/v1", "wss://h/x/y"),
            ("wss://h?t=1/", "wss://h/v1?t=1/", "wss://h"),
            ("wss://h/x/?t=1&u=2", "wss://h/x/v1?t=1&u=2", "wss://h/x"),
            (
                "ws://[::1]:8080/v1",
                "ws://[::1]:8080/v1/v1",
                "ws://[::1]:8080/v1",
            ),
        ] {
            let parsed = loopback_only(url).unwrap();
            assert_eq!(parsed.endpoint(), endpoint, "{url}");
            assert_eq!(parsed.describe(), described, "{url}");
        }
    }

    #[test]
    fn host_and_port_are_what_is_connected_to() {
        for (url, host, port) in [
            ("wss://relay.example.org", "relay.example.org", 443),
            ("ws://localhost", "localhost", 80),
            ("wss://[2001:db8::1]:8443/x", "2001:db8::1", 8443),
        ] {
            let parsed = loopback_only(url).unwrap();
            assert_eq!((parsed.host.as_str(), parsed.port), (host, port));
        }
    }
}
