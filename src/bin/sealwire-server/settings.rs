//! Every setting of the program: one table for flags, environment, files and help.

use std::{fmt, fs, net::SocketAddr, path::PathBuf, time::Duration};

#[cfg(feature = "nats")]
use std::sync::Arc;

#[cfg(feature = "nats")]
use sealwire::server::Nats;
use sealwire::server::{
    LegacyRooms, Network, Pages, ServerLimits, ServerOptions, Tls, TokenKey, Turn,
};

/// What the program was told.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) listen: SocketAddr,
    pub(super) threads: Option<usize>,
    pub(super) log: String,
    pub(super) log_format: LogFormat,
    pub(super) limits: ServerLimits,
    /// What is to be said once there is a log.
    pub(super) warnings: Vec<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    origins: Vec<String>,
    trusted_proxies: Vec<Network>,
    metrics_from: Option<Vec<Network>>,
    token_key: Option<Hidden>,
    token_key_file: Option<PathBuf>,
    turn_urls: Vec<String>,
    turn_secret: Option<Hidden>,
    turn_secret_file: Option<PathBuf>,
    turn_ttl: Duration,
    legacy: LegacyRooms,
    serve: Option<PathBuf>,
    #[cfg(feature = "nats")]
    nats_url: Option<Hidden>,
    #[cfg(feature = "nats")]
    nats_ca: Option<PathBuf>,
    #[cfg(feature = "nats")]
    nats_prefix: String,
    node_beat: Duration,
}

/// A secret, which no log shows.
pub(super) struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(..)")
    }
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// How a setting may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// One value.
    Value,
    /// Values separated by commas; the flag may come several times, in TOML it is an array.
    List,
    /// The flag alone means true.
    Switch,
    /// No flag: others on the machine can read those.
    Secret,
}

/// One setting.
pub(super) struct Key {
    /// As a flag; with underscores in TOML; in capitals after `SEALWIRE_` in the environment.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What its value is called.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
}

const fn key(
    name: &'static str,
    kind: Kind,
    value: &'static str,
    help: &'static str,
    set: fn(&mut Settings, &str) -> Result<(), String>,
) -> Key {
    Key {
        name,
        kind,
        value,
        help,
        set,
    }
}

/// Assigns what a parser makes of the text.
macro_rules! put {
    ($($field:ident).+, $parse:expr) => {
        |settings, text| {
            settings.$($field).+ = $parse(text)?;
            Ok(())
        }
    };
}

#[rustfmt::skip] // one line for each, as the table it is
pub(super) const KEYS: &[Key] = &[
    key("listen", Kind::Value, "ADDR:PORT", "The address and port to listen on; a container needs 0.0.0.0:8080 [default: 127.0.0.1:8080]", put!(listen, parse)),
    key("threads", Kind::Value, "N", "Threads that serve clients [default: one for each core]", put!(threads, threads)),
    key("log", Kind::Value, "FILTER", "How much to log: error, warn, info, debug, or a filter as of tracing; RUST_LOG is honoured too. Addresses are never logged above debug, rooms and messages never [default: info]", put!(log, text)),
    key("log-format", Kind::Value, "text|json", "How lines of the log look; they go to the standard error [default: text]", put!(log_format, log_format)),
    key("tls-cert", Kind::Value, "FILE", "The certificate chain (PEM) for TLS on this port, read again at SIGHUP and when it changes; without it a proxy has to do TLS", put!(tls_cert, path)),
    key("tls-key", Kind::Value, "FILE", "The private key (PEM) of the certificate", put!(tls_key, path)),
    key("origins", Kind::List, "URL", "Web pages that may connect, as https://app.example.org; others are answered 403 [default: all]", put!(origins, list)),
    key("trusted-proxies", Kind::List, "ADDR[/BITS]", "Proxies whose X-Forwarded-For is believed [default: none]", put!(trusted_proxies, list)),
    key("metrics-from", Kind::List, "ADDR[/BITS]", "Who may read /metrics [default: this machine]", put!(metrics_from, |text| list(text).map(Some))),
    key("token-key", Kind::Secret, "TEXT", "The key that signs join tokens, at least 16 bytes; with it, whoever has no valid token is answered 401", put!(token_key, hidden)),
    key("token-key-file", Kind::Value, "FILE", "A file with that key; white space around it is left out", put!(token_key_file, path)),
    key("turn-urls", Kind::List, "URL", "TURN servers that members are told of, as turn:turn.example.org:3478", put!(turn_urls, list)),
    key("turn-secret", Kind::Secret, "TEXT", "The static-auth-secret of these TURN servers", put!(turn_secret, hidden)),
    key("turn-secret-file", Kind::Value, "FILE", "A file with that secret", put!(turn_secret_file, path)),
    key("turn-ttl", Kind::Value, "TIME", "How long TURN credentials are good for [default: 12h]", put!(turn_ttl, duration)),
    key("legacy", Kind::Switch, "BOOL", "Also serve rooms of two at / and /legacy/<room> for clients such as simple-peer, unauthenticated and readable by this server [default: false]", put!(legacy, legacy)),
    key("serve", Kind::Value, "DIR", "Also serve the files of this folder over HTTP, as the chat page of examples/chat_web; they are read once, at the start", put!(serve, path)),
    #[cfg(feature = "nats")]
    key("nats-url", Kind::Value, "URL", "NATS servers through which several of these servers act as one, as nats://host:4222,tls://other; give one with a password by the environment", put!(nats_url, hidden)),
    #[cfg(feature = "nats")]
    key("nats-ca", Kind::Value, "FILE", "Certificates (PEM) that TLS to NATS trusts besides the system's", put!(nats_ca, path)),
    #[cfg(feature = "nats")]
    key("nats-prefix", Kind::Value, "WORD", "What the subjects in NATS begin with; the same for servers that act as one [default: sealwire]", put!(nats_prefix, text)),
    key("node-beat", Kind::Value, "TIME", "How often servers that act as one say that they are there; after three times this long one is gone [default: 3s]", put!(node_beat, duration)),
    key("max-connections", Kind::Value, "N", "Connections in all; more are closed at once [default: 50000]", put!(limits.connections, number)),
    key("max-connections-per-address", Kind::Value, "N", "Connections of one IPv4 address or IPv6 /64; more are closed at once, or answered 429 behind a proxy [default: 1000]", put!(limits.connections_per_address, number)),
    key("max-handshakes", Kind::Value, "N", "Connections that have not finished their handshake; more are closed at once [default: 4096]", put!(limits.handshakes, number)),
    key("max-rooms", Kind::Value, "N", "Rooms in all; who makes another is closed with 4015 [default: 50000]", put!(limits.rooms, number)),
    key("max-rooms-per-address", Kind::Value, "N", "Rooms made by one address; who makes another is closed with 4016 [default: 1000]", put!(limits.rooms_per_address, number)),
    key("joins-per-second", Kind::Value, "N", "Joins of one address a second in the long run; more are closed with 4014 [default: 50]", put!(limits.joins_per_second, number)),
    key("join-burst", Kind::Value, "N", "Joins of one address at once [default: 1000]", put!(limits.join_burst, number)),
    key("max-members", Kind::Value, "N", "Members of a room, at most 32; one more is answered room_full [default: 32]", put!(limits.members, number)),
    key("messages-per-second", Kind::Value, "N", "Messages of a client a second in the long run; more are closed with 4008 [default: 32]", put!(limits.messages_per_second, number)),
    key("message-burst", Kind::Value, "N", "Messages of a client at once [default: 64]", put!(limits.message_burst, number)),
    key("bytes-per-second", Kind::Value, "SIZE", "Bytes of a client a second in the long run; more are closed with 4012 [default: 256k]", put!(limits.bytes_per_second, size)),
    key("byte-burst", Kind::Value, "SIZE", "Bytes of a client at once [default: 1536k]", put!(limits.byte_burst, size)),
    key("max-fragments", Kind::Value, "N", "Frames that a message may come in; more are closed with 4013 [default: 64]", put!(limits.fragments, number)),
    key("max-queue", Kind::Value, "SIZE", "Bytes that may wait for a slow client, from 32k; then it is closed with 4009 [default: 256k]", put!(limits.queue, size)),
    key("max-head", Kind::Value, "SIZE", "Bytes of the head of a request; more are answered 431 [default: 8k]", put!(limits.head, size)),
    key("handshake-timeout", Kind::Value, "TIME", "From the TCP connection to the open WebSocket [default: 10s]", put!(limits.handshake, duration)),
    key("join-timeout", Kind::Value, "TIME", "From the open WebSocket to the join; then it is closed with 4010 [default: 10s]", put!(limits.join, duration)),
    key("ping-interval", Kind::Value, "TIME", "Silence before a ping; after two without an answer a client is closed with 4011 [default: 30s]", put!(limits.ping, duration)),
    key("write-timeout", Kind::Value, "TIME", "How long a client may take to read what was sent; then it is closed with 4009 [default: 15s]", put!(limits.write, duration)),
    key("close-timeout", Kind::Value, "TIME", "How long a connection may take to close, and with a second more the server to stop [default: 5s]", put!(limits.close, duration)),
    key("reconnect-within", Kind::Value, "TIME", "Clients of a stopping server are told to come back at different times within this one [default: 5s]", put!(limits.reconnect, duration)),
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            threads: None,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            limits: ServerLimits::default(),
            warnings: Vec::new(),
            tls_cert: None,
            tls_key: None,
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            metrics_from: None,
            token_key: None,
            token_key_file: None,
            turn_urls: Vec::new(),
            turn_secret: None,
            turn_secret_file: None,
            turn_ttl: Duration::from_secs(12 * 3_600),
            legacy: LegacyRooms::Off,
            serve: None,
            #[cfg(feature = "nats")]
            nats_url: None,
            #[cfg(feature = "nats")]
            nats_ca: None,
            #[cfg(feature = "nats")]
            nats_prefix: "sealwire".to_owned(),
            node_beat: Duration::from_secs(3),
        }
    }
}

impl Settings {
    /// What the server is to do, with the files that are named read.
    pub(super) fn options(&self) -> Result<ServerOptions, String> {
        let mut options = ServerOptions::default();
        options.origins.clone_from(&self.origins);
        options.trusted_proxies.clone_from(&self.trusted_proxies);
        if let Some(networks) = &self.metrics_from {
            options.metrics_from.clone_from(networks);
        }
        options.token_key = self.signing_key()?;
        options.turn = self.turn()?;
        options.legacy = self.legacy;
        let pages = self.serve.as_ref().map(Pages::read).transpose();
        options.pages = pages.map_err(|error| error.to_string())?;
        options.tls = self.tls()?;
        options.node_beat = self.node_beat;
        #[cfg(feature = "nats")]
        if let Some(Hidden(url)) = &self.nats_url {
            let mut nats = Nats::new(url, &self.nats_prefix).map_err(|error| error.to_string())?;
            if let Some(file) = &self.nats_ca {
                nats = nats.root_certificates(file.clone());
            }
            options.backplane = Some(Arc::new(nats));
        }
        Ok(options)
    }

    /// Whether TLS is spoken where it listens.
    pub(super) fn has_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// The key of join tokens, if there is one.
    pub(super) fn signing_key(&self) -> Result<Option<TokenKey>, String> {
        let key = secret("token_key", self.token_key.as_ref(), &self.token_key_file)?;
        key.map(|key| TokenKey::new(key.as_bytes()))
            .transpose()
            .map_err(|error| error.to_string())
    }

    fn turn(&self) -> Result<Option<Turn>, String> {
        let key = secret(
            "turn_secret",
            self.turn_secret.as_ref(),
            &self.turn_secret_file,
        )?;
        match (key, self.turn_urls.is_empty()) {
            (None, true) => Ok(None),
            (Some(key), false) => {
                let turn = Turn::new(self.turn_urls.clone(), &key, self.turn_ttl.as_secs());
                turn.map(Some).map_err(|error| error.to_string())
            }
            _ => Err("turn_urls and a turn_secret belong together".to_owned()),
        }
    }

    fn tls(&self) -> Result<Option<Tls>, String> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                let tls = Tls::from_pem_files(certificate, key);
                tls.map(Some).map_err(|error| error.to_string())
            }
            _ => Err("tls_cert and tls_key belong together".to_owned()),
        }
    }
}

/// A secret that was given as it is or in a file.
fn secret(
    name: &str,
    text: Option<&Hidden>,
    file: &Option<PathBuf>,
) -> Result<Option<String>, String> {
    match (text, file) {
        (Some(_), Some(_)) => Err(format!("{name} and {name}_file exclude each other")),
        (Some(Hidden(text)), None) => Ok(Some(text.clone())),
        (None, Some(file)) => match fs::read_to_string(file) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) => Err(format!("{name}_file {}: {error}", file.display())),
        },
        (None, None) => Ok(None),
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// Underscores may group digits.
fn number<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    parse(&text.replace('_', ""))
}

/// Bytes: a number, with k or m for multiples of 1024.
fn size<T: TryFrom<u64>>(text: &str) -> Result<T, String> {
    let (digits, unit) = match text.trim_end_matches(['k', 'K', 'm', 'M']) {
        digits if digits.len() + 1 < text.len() => return Err("not a size like 64k".to_owned()),
        digits if text.ends_with(['k', 'K']) => (digits, 1 << 10),
        digits if text.ends_with(['m', 'M']) => (digits, 1 << 20),
        digits => (digits, 1),
    };
    let bytes = number::<u64>(digits)?.checked_mul(unit);
    let bytes = bytes.and_then(|bytes| T::try_from(bytes).ok());
    bytes.ok_or_else(|| "too large".to_owned())
}

/// A time: a number of seconds, or one with ms, s, m or h.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let at = text.find(|next: char| !next.is_ascii_digit() && next != '_');
    let (digits, unit) = text.split_at(at.unwrap_or(text.len()));
    let count: u64 = number(digits)?;
    let milliseconds = match unit {
        "ms" => Some(count),
        "" | "s" => count.checked_mul(1_000),
        "m" => count.checked_mul(60_000),
        "h" => count.checked_mul(3_600_000),
        _ => return Err(format!("{unit:?} is no unit: ms, s, m, h")),
    };
    let milliseconds = milliseconds.ok_or_else(|| "too long".to_owned())?;
    Ok(Duration::from_millis(milliseconds))
}

fn list<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<Vec<T>, String> {
    let entries = text.split(',').map(str::trim);
    entries
        .filter(|entry| !entry.is_empty())
        .map(parse)
        .collect()
}

fn threads(text: &str) -> Result<Option<usize>, String> {
    number(text).map(|count: usize| Some(count.max(1)))
}

fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn hidden(text: &str) -> Result<Option<Hidden>, String> {
    Ok(Some(Hidden(text.to_owned())))
}

fn path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json".to_owned()),
    }
}

fn legacy(text: &str) -> Result<LegacyRooms, String> {
    match text {
        "true" | "1" | "on" => Ok(LegacyRooms::On),
        "false" | "0" | "off" => Ok(LegacyRooms::Off),
        _ => Err("true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        for (text, bytes) in [("7", 7), ("64k", 65_536), ("2M", 2 << 20), ("1_000", 1_000)] {
            assert_eq!(size::<u64>(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "k", "1kk", "1g", "-1", "99999999999999999999"] {
            assert!(size::<u64>(wrong).is_err(), "{wrong}");
        }
        assert!(size::<u32>("4096m").is_err());
        for (text, milliseconds) in [
            ("7", 7_000),
            ("50ms", 50),
            ("2m", 120_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)));
        }
        for wrong in ["", "s", "1d", "-1s", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_help_tells_the_defaults_as_they_are() {
        for key in KEYS {
            let Some((_, default)) = key.help.split_once("[default: ") else {
                continue;
            };
            let default = default.trim_end_matches(']');
            let is_value = default.starts_with(|first: char| first.is_ascii_digit());
            if is_value || ["info", "text", "false"].contains(&default) {
                let mut settings = Settings::default();
                (key.set)(&mut settings, default).unwrap();
                let before = format!("{:?}", Settings::default());
                assert_eq!(format!("{settings:?}"), before, "{}", key.name);
            }
        }
    }

    #[test]
    fn what_belongs_together_is_asked_for_together() {
        for (name, value) in [
            ("tls-cert", "x.pem"),
            ("turn-urls", "turn:x"),
            ("turn-secret", "x"),
            ("token-key", "short"),
            ("token-key-file", "/nowhere"),
            ("serve", "/nowhere"),
        ] {
            let mut settings = Settings::default();
            let key = KEYS.iter().find(|key| key.name == name).unwrap();
            (key.set)(&mut settings, value).unwrap();
            assert!(settings.options().is_err(), "{name}");
        }
    }
}
