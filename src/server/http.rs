//! The head of an HTTP request, and what it is answered: a WebSocket, a health check, or a refusal. Pure: bytes in.
//!
//! No extension and no subprotocol is ever accepted, whatever a client offers.

use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Header lines of a request.
const MAX_HEADERS: usize = 64;

/// What a client wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A WebSocket at `/v1`; this is the `Sec-WebSocket-Accept` of the answer.
    WebSocket {
        /// The proof that the request was understood.
        accept: String,
    },
    /// To know whether the server works.
    Health,
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

/// Reads a complete head.
///
/// # Errors
/// [`Refusal`], which is to be answered.
pub(super) fn read_head(head: &[u8]) -> Result<Request, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(_)) => route(&request),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::HeadTooLong),
        Ok(httparse::Status::Partial) | Err(_) => Err(Refusal::BadRequest),
    }
}

/// The answer to a WebSocket handshake.
pub(super) fn switching_protocols(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

/// The answer to a health check.
pub(super) fn healthy() -> String {
    answer("200 OK", "", "ok")
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
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn route(request: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let target = request.path.unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let is_get = request.method == Some("GET");
    match path {
        "/v1" | "/healthz" if !is_get => Err(Refusal::MethodNotAllowed),
        "/v1" => upgrade(request),
        "/healthz" => Ok(Request::Health),
        _ => Err(Refusal::NotFound),
    }
}

/// RFC 6455, section 4.2.1.
fn upgrade(request: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
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
    Ok(Request::WebSocket {
        accept: derive_accept_key(key),
    })
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
        read_head(handshake(changes).as_bytes())
    }

    fn websocket() -> Result<Request, Refusal> {
        Ok(Request::WebSocket {
            accept: "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
        })
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
            assert_eq!(read(changes), websocket(), "{changes:?}");
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
        assert_eq!(
            read_head(b"GET /healthz HTTP/1.1\r\n\r\n"),
            Ok(Request::Health)
        );
        assert_eq!(
            read_head(b"GET /healthz?x HTTP/1.0\r\n\r\n"),
            Ok(Request::Health)
        );
        assert_eq!(
            read_head(b"POST /healthz HTTP/1.1\r\n\r\n"),
            Err(Refusal::MethodNotAllowed)
        );
        assert_eq!(
            read_head(b"DELETE /v1 HTTP/1.1\r\n\r\n"),
            Err(Refusal::MethodNotAllowed)
        );
        assert_eq!(
            read_head(b"POST /x HTTP/1.1\r\n\r\n"),
            Err(Refusal::NotFound)
        );
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
            let _ = read_head(&head);
            let mut mutated = handshake(&[]).into_bytes();
            *at.get_mut(&mut mutated) = byte;
            let _ = read_head(&mutated);
        }
    }
}
