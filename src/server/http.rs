//! The head of an HTTP request, and what it is answered: a WebSocket, a page, or a refusal. Pure: bytes in.
//!
//! No extension and no subprotocol is ever accepted, whatever a client offers.

use std::net::IpAddr;

use base64ct::{Base64, Encoding as _};
use sha1::{Digest as _, Sha1};

/// Header lines of a request.
const MAX_HEADERS: usize = 64;

/// Bytes of the name of a legacy room, as it stands in the path.
const MAX_LEGACY_NAME: usize = 128;

/// Addresses of an `X-Forwarded-For` that are looked at, from the last one on.
const MAX_FORWARDED: usize = 16;

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A WebSocket.
    WebSocket(Box<Upgrade>),
    /// Something to read.
    Page {
        /// What.
        page: Page,
        /// As in [`Upgrade::forwarded`].
        forwarded: Vec<IpAddr>,
    },
}

/// A request for a WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    /// The `Sec-WebSocket-Accept` of the answer: the proof that the request was understood.
    pub(super) accept: String,
    /// Where.
    pub(super) path: Path,
    /// The `token` of the query, as it stands there.
    pub(super) token: Option<String>,
    /// The `Origin`, which browsers send and scripts in them cannot change.
    pub(super) origin: Option<String>,
    /// The addresses of `X-Forwarded-For`, the nearest first.
    pub(super) forwarded: Vec<IpAddr>,
}

/// The paths of WebSockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    /// The protocol of this crate.
    V1,
    /// A legacy room of this name; the root has the empty one.
    Legacy(String),
}

/// What can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Page {
    /// Whether the server is alive.
    Health,
    /// Whether it takes new connections.
    Ready,
    /// What it counts.
    Metrics,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP/1.1, or a WebSocket handshake that is none.
    BadRequest,
    /// Nothing is there.
    NotFound,
    /// Something is there that can only be read.
    MethodNotAllowed,
    /// Only a WebSocket of version 13 is there.
    UpgradeRequired,
    /// The head is too long.
    HeadTooLong,
    /// The origin is not allowed.
    Forbidden,
    /// The token is missing, wrong or expired.
    Unauthorized,
    /// As many connections as this address may have.
    TooManyRequests,
}

/// Whether a head may begin like this. TLS, which finds its way to plain ports often, does not.
pub(super) fn may_be_head(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(u8::is_ascii_uppercase)
}

/// Where the head in `bytes` ends, searched for from `from` on.
pub(super) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(3);
    let found = bytes
        .get(from..)?
        .windows(4)
        .position(|window| window == b"\r\n\r\n")?;
    Some(from + found + 4)
}

/// Whether the paths of legacy rooms are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Legacy {
    /// `/` and `/legacy/<room>`.
    On,
    /// None of them.
    Off,
}

/// Reads a complete head.
///
/// # Errors
/// [`Refusal`], which is to be answered.
pub(super) fn read_head(head: &[u8], legacy: Legacy) -> Result<Request, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => route(&request, legacy),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLong),
        Ok(httparse::Status::Partial) | Err(_) => Err(Refusal::BadRequest),
    }
}

/// The path of a request that only wants to read.
pub(super) fn path_to_read(head: &[u8]) -> Option<String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?;
    let target = request.path.filter(|_| request.method == Some("GET"))?;
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    Some(path.to_owned())
}

/// The answer to a WebSocket handshake.
pub(super) fn switching_protocols(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The answer to a request for a page.
pub(super) fn page(body: &str) -> String {
    answer("200 OK", "Cache-Control: no-store\r\n", body)
}

/// The answer of a server that stops to whether it is ready.
pub(super) fn stopping() -> String {
    answer("503 Service Unavailable", "", "stopping")
}

impl Refusal {
    /// The answer.
    pub(super) fn answer(self) -> String {
        match self {
            Self::BadRequest => answer(
                "400 Bad Request",
                "",
                "not a request that this server understands",
            ),
            Self::NotFound => answer(
                "404 Not Found",
                "",
                "a sealwire signaling server; the WebSocket is at /v1",
            ),
            Self::MethodNotAllowed => {
                answer("405 Method Not Allowed", "Allow: GET\r\n", "only GET")
            }
            Self::UpgradeRequired => answer(
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
                "this is a WebSocket",
            ),
            Self::HeadTooLong => answer(
                "431 Request Header Fields Too Large",
                "",
                "the head of the request is too long",
            ),
            Self::Forbidden => answer("403 Forbidden", "", "this origin is not allowed"),
            Self::Unauthorized => answer(
                "401 Unauthorized",
                "",
                "the join token is missing, wrong or expired",
            ),
            Self::TooManyRequests => answer(
                "429 Too Many Requests",
                "",
                "too many connections from this address",
            ),
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn route(request: &httparse::Request<'_, '_>, legacy: Legacy) -> Result<Request, Refusal> {
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let page = match path {
        "/healthz" => Some(Page::Health),
        "/readyz" => Some(Page::Ready),
        "/metrics" => Some(Page::Metrics),
        _ => None,
    };
    let websocket = match path {
        "/v1" => Some(Path::V1),
        _ if page.is_some() || legacy == Legacy::Off => None,
        _ => legacy_room(path).map(|name| Path::Legacy(name.to_owned())),
    };
    if request.method != Some("GET") && (page.is_some() || websocket.is_some()) {
        return Err(Refusal::MethodNotAllowed);
    }
    match (page, websocket) {
        (Some(page), _) => Ok(Request::Page {
            page,
            forwarded: forwarded(request),
        }),
        (None, Some(path)) => upgrade(request, path, query),
        (None, None) => Err(Refusal::NotFound),
    }
}

fn legacy_room(path: &str) -> Option<&str> {
    match path.strip_prefix("/legacy/") {
        Some(name) => {
            let is_name = !name.is_empty() && name.len() <= MAX_LEGACY_NAME && !name.contains('/');
            is_name.then_some(name)
        }
        None => path.strip_prefix('/').filter(|rest| rest.is_empty()),
    }
}

/// RFC 6455, section 4.2.1.
fn upgrade(
    request: &httparse::Request<'_, '_>,
    path: Path,
    query: &str,
) -> Result<Request, Refusal> {
    if !has_token(request, "Upgrade", "websocket") || !has_token(request, "Connection", "Upgrade") {
        return Err(Refusal::UpgradeRequired);
    }
    if request.version != Some(1) || header(request, "Host").is_none() {
        return Err(Refusal::BadRequest);
    }
    if header(request, "Sec-WebSocket-Version") != Some(b"13") {
        return Err(Refusal::UpgradeRequired);
    }
    let key = header(request, "Sec-WebSocket-Key")
        .filter(|key| is_key(key))
        .ok_or(Refusal::BadRequest)?;
    let mut parameters = query.split('&');
    let token = parameters.find_map(|parameter| parameter.strip_prefix("token="));
    let origin = request
        .headers
        .iter()
        .find(|header| is_named(header, "Origin"));
    Ok(Request::WebSocket(Box::new(Upgrade {
        accept: accept(key),
        path,
        token: token.map(str::to_owned),
        // Two origins are no origin of a browser: together they match nothing.
        origin: origin.map(|_| {
            String::from_utf8_lossy(header(request, "Origin").unwrap_or_default()).into_owned()
        }),
        forwarded: forwarded(request),
    })))
}

/// RFC 6455, section 4.2.2, point 5.4.
fn accept(key: &[u8]) -> String {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    Base64::encode_string(&digest)
}

/// The addresses of `X-Forwarded-For`, the nearest first, up to the first that is none.
fn forwarded(request: &httparse::Request<'_, '_>) -> Vec<IpAddr> {
    let lines = request.headers.iter().rev();
    let lines = lines.filter(|header| is_named(header, "X-Forwarded-For"));
    let entries = lines.flat_map(|header| header.value.rsplit(|&byte| byte == b','));
    entries
        .take(MAX_FORWARDED)
        .map_while(|entry| std::str::from_utf8(entry.trim_ascii()).ok()?.parse().ok())
        .collect()
}

fn is_named(header: &httparse::Header<'_>, name: &str) -> bool {
    header.name.eq_ignore_ascii_case(name)
}

/// A header that comes exactly once.
fn header<'a>(request: &httparse::Request<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let value = values.next()?.value;
    values.next().is_none().then_some(value)
}

/// Whether a header, in one line or several, lists a token.
fn has_token(request: &httparse::Request<'_, '_>, name: &str, token: &str) -> bool {
    let values = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    let mut tokens = values.flat_map(|header| header.value.split(|&byte| byte == b','));
    tokens.any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Whether it is the base64 of 16 bytes.
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    matches!(key.strip_suffix(b"=="), Some(digits) if digits.len() == 22 && digits.iter().all(is_digit))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 6455, section 1.3, with lines replaced or added.
    fn handshake(changes: &[(&str, &str)]) -> String {
        let mut lines = vec![
            ("GET ".to_owned(), "/v1 HTTP/1.1".to_owned()),
            ("Host: ".to_owned(), "server.example.com".to_owned()),
            ("Upgrade: ".to_owned(), "websocket".to_owned()),
            ("Connection: ".to_owned(), "Upgrade".to_owned()),
            (
                "Sec-WebSocket-Key: ".to_owned(),
                "dGhlIHNhbXBsZSBub25jZQ==".to_owned(),
            ),
            ("Sec-WebSocket-Version: ".to_owned(), "13".to_owned()),
        ];
        for (name, value) in changes {
            match lines.iter_mut().find(|line| line.0 == *name) {
                Some(line) => line.1 = (*value).to_owned(),
                None => lines.push(((*name).to_owned(), (*value).to_owned())),
            }
        }
        lines
            .iter()
            .map(|(name, value)| format!("{name}{value}\r\n"))
            .collect::<String>()
            + "\r\n"
    }

    fn read(changes: &[(&str, &str)]) -> Result<Request, Refusal> {
        read_head(handshake(changes).as_bytes(), Legacy::Off)
    }

    fn upgrade_of(changes: &[(&str, &str)]) -> Upgrade {
        match read_head(handshake(changes).as_bytes(), Legacy::On) {
            Ok(Request::WebSocket(upgrade)) => *upgrade,
            other => panic!("{other:?} to {changes:?}"),
        }
    }

    #[test]
    fn the_handshake_of_the_rfc_is_accepted_in_all_its_spellings() {
        for changes in [
            &[][..],
            &[("GET ", "/v1?token=abc HTTP/1.1")],
            &[("Connection: ", "keep-alive, upgrade")],
            &[("Upgrade: ", "WebSocket")],
            &[("upgrade: ", "h2c"), ("connection: ", "close")],
            &[
                ("Sec-WebSocket-Extensions: ", "permessage-deflate"),
                ("Sec-WebSocket-Protocol: ", "x"),
            ],
        ] {
            let upgrade = upgrade_of(changes);
            assert_eq!(upgrade.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
            assert_eq!(upgrade.path, Path::V1, "{changes:?}");
        }
        let answer = switching_protocols("accept");
        assert!(!answer.contains("Extensions") && !answer.contains("Protocol:"));
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for (changes, refusal) in [
            (&[("GET ", "/ HTTP/1.1")][..], Refusal::NotFound),
            (&[("GET ", "/v1/ HTTP/1.1")], Refusal::NotFound),
            (&[("GET ", "/V1 HTTP/1.1")], Refusal::NotFound),
            (&[("GET ", "/v2 HTTP/1.1")], Refusal::NotFound),
            (&[("GET ", "//v1 HTTP/1.1")], Refusal::NotFound),
            (&[("GET ", "/v1 HTTP/1.0")], Refusal::BadRequest),
            (&[("GET ", "/v1 HTTP/2.0")], Refusal::BadRequest),
            (&[("GET ", "/v1")], Refusal::BadRequest),
            (&[("Upgrade: ", "h2c")], Refusal::UpgradeRequired),
            (&[("Connection: ", "close")], Refusal::UpgradeRequired),
            (
                &[("Sec-WebSocket-Version: ", "8")],
                Refusal::UpgradeRequired,
            ),
            (&[("Sec-WebSocket-Key: ", "x")], Refusal::BadRequest),
            (
                &[("Sec-WebSocket-Key: ", "dGhlIHNhbXBsZSBub25jZQ=!")],
                Refusal::BadRequest,
            ),
            (
                &[("sec-websocket-key: ", "dGhlIHNhbXBsZSBub25jZQ==")],
                Refusal::BadRequest,
            ),
            (&[("host: ", "other.example.com")], Refusal::BadRequest),
            (&[("Bad Name: ", "x")], Refusal::BadRequest),
        ] {
            assert_eq!(read(changes), Err(refusal), "{changes:?}");
        }
        let many: Vec<_> = (0..70).map(|n| (format!("X-{n}: "), "x")).collect();
        let many: Vec<_> = many
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        assert_eq!(read(&many), Err(Refusal::HeadTooLong));
    }

    #[test]
    fn only_gets_are_answered() {
        for (request, expected) in [
            ("GET /healthz HTTP/1.1", Ok(Page::Health)),
            ("GET /healthz?x HTTP/1.0", Ok(Page::Health)),
            ("GET /readyz HTTP/1.1", Ok(Page::Ready)),
            ("GET /metrics HTTP/1.1", Ok(Page::Metrics)),
            ("POST /healthz HTTP/1.1", Err(Refusal::MethodNotAllowed)),
            ("DELETE /v1 HTTP/1.1", Err(Refusal::MethodNotAllowed)),
            ("POST /x HTTP/1.1", Err(Refusal::NotFound)),
        ] {
            let read = read_head(format!("{request}\r\n\r\n").as_bytes(), Legacy::Off);
            let expected = expected.map(|page| Request::Page {
                page,
                forwarded: vec![],
            });
            assert_eq!(read, expected, "{request}");
        }
    }

    #[test]
    fn legacy_rooms_are_there_when_they_are_wanted() {
        let longest = format!("/legacy/{}", "x".repeat(128));
        for (path, name) in [
            ("/", Some("")),
            ("/?x", Some("")),
            ("/legacy/a%20b", Some("a%20b")),
            (longest.as_str(), Some(&longest[8..])),
            ("/legacy/", None),
            ("/legacy", None),
            ("/legacy/a/b", None),
            ("//", None),
        ] {
            let line = format!("{path} HTTP/1.1");
            let changes = [("GET ", line.as_str())];
            assert_eq!(read(&changes), Err(Refusal::NotFound));
            let read = read_head(handshake(&changes).as_bytes(), Legacy::On);
            match (read, name) {
                (Ok(Request::WebSocket(upgrade)), Some(name)) => {
                    assert_eq!(upgrade.path, Path::Legacy(name.to_owned()));
                }
                (Err(Refusal::NotFound), None) => {}
                other => panic!("{other:?} to {path}"),
            }
        }
        let too_long = format!("{longest}x HTTP/1.1");
        let read = read_head(handshake(&[("GET ", &too_long)]).as_bytes(), Legacy::On);
        assert_eq!(read, Err(Refusal::NotFound));
    }

    #[test]
    fn tokens_origins_and_forwarded_addresses_are_found() {
        let upgrade = upgrade_of(&[
            ("GET ", "/v1?x=1&token=1.2.3&token=4 HTTP/1.1"),
            ("Origin: ", "https://app.example"),
            ("X-Forwarded-For: ", "junk, 192.0.2.1,198.51.100.7"),
            ("x-forwarded-for: ", "2001:db8::1"),
        ]);
        assert_eq!(upgrade.token.as_deref(), Some("1.2.3"));
        assert_eq!(upgrade.origin.as_deref(), Some("https://app.example"));
        let forwarded = ["2001:db8::1", "198.51.100.7", "192.0.2.1"];
        assert_eq!(
            upgrade.forwarded,
            forwarded.map(|ip| ip.parse::<IpAddr>().unwrap())
        );
        let twice = [
            ("Origin: ", "https://a.example"),
            ("origin: ", "https://b.example"),
        ];
        assert_eq!(upgrade_of(&twice).origin.as_deref(), Some(""));
        assert_eq!(upgrade_of(&[]).origin, None);
    }

    #[test]
    fn the_end_of_a_head_is_found_across_reads() {
        let bytes = b"GET / HTTP/1.1\r\n\r\nrest";
        for from in 0..18 {
            assert_eq!(head_end(bytes, from), Some(18), "{from}");
        }
        assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r", 0), None);
        assert_eq!(head_end(b"", 0), None);
        assert_eq!(head_end(b"x", 9), None);
    }

    proptest! {
        #[test]
        fn any_head_is_answered_without_a_panic(head: Vec<u8>, at: prop::sample::Index, byte: u8) {
            let _ = read_head(&head, Legacy::On);
            let mut mutated = handshake(&[]).into_bytes();
            *at.get_mut(&mut mutated) = byte;
            let _ = read_head(&mutated, Legacy::On);
        }
    }
}
