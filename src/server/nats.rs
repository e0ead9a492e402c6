//! NATS core publish/subscribe as the engine between servers, by `async-nats`.
//!
//! The client reconnects and subscribes again by itself. While it does so nothing is handed to it, for it would keep
//! that and send it later, when it is no longer true; what was lost then is made up for by presence.rs.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber, connection::State};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use futures_util::{FutureExt as _, Stream as _};
use tokio::{task::unconstrained, time::Duration};
use zeroize::Zeroizing;

use super::{
    backplane::{Backplane, Destination, Inbox, NodeId, Pending, QUEUE},
    options::ConfigError,
};

/// How long one address may take.
const CONNECT: Duration = Duration::from_secs(2);

/// Silence after which the server is pinged; after two without an answer the connection is lost.
const PING: Duration = Duration::from_secs(5);

/// The longest pause between attempts to reconnect.
const RECONNECT: Duration = Duration::from_secs(1);

/// A NATS server or cluster.
///
/// Subjects are `<prefix>.all` and `<prefix>.node.<id>`. Rooms travel as hashes, so whoever subscribes there learns no
/// room id; it sees blobs, which are opaque, and names, and it can disturb. Keep it in a network of its own.
pub struct Nats {
    servers: Vec<ServerAddr>,
    login: Option<Login>,
    root_certificates: Option<PathBuf>,
    prefix: String,
    client: Mutex<Option<Client>>,
}

/// Who this server is to NATS.
#[derive(PartialEq, Eq)]
enum Login {
    Token(Zeroizing<String>),
    User(Zeroizing<String>, Zeroizing<String>),
}

impl std::fmt::Debug for Nats {
    /// Without the login.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts = self.servers.iter().map(ServerAddr::host);
        f.debug_list().entries(hosts).finish()
    }
}

impl Nats {
    /// The servers at `url`, tried in turn: `nats://[user:password@|token@]host[:port]`, or `tls://` for TLS that NATS
    /// does not ask for itself; several separated by commas, with one login for all. And what the subjects begin with:
    /// letters, digits, `-`, `_` and `.`. Nothing is contacted yet.
    ///
    /// # Errors
    /// [`ConfigError`] says which of them cannot be.
    pub fn new(url: &str, prefix: &str) -> Result<Self, ConfigError> {
        let wrong = |reason| ConfigError::new("nats_url", reason);
        let mut servers = Vec::new();
        let mut login = None;
        for url in url.split(',') {
            let form = "nats:// or tls://[user:password@|token@]host[:port]";
            let (server, own) = address(url.trim()).ok_or_else(|| wrong(form))?;
            if servers.is_empty() {
                login = own;
            } else if own.is_some() && own != login {
                return Err(wrong("one login for all servers, in the first address"));
            }
            servers.push(server);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_subject = prefix.split('.').all(|word| !word.is_empty());
        if !is_subject || prefix.len() > 64 || !prefix.bytes().all(is_plain) {
            let reason = "words of letters, digits, '-' and '_' with '.' between them, at most 64";
            return Err(ConfigError::new("nats_prefix", reason));
        }
        Ok(Self {
            servers,
            login,
            root_certificates: None,
            prefix: prefix.to_owned(),
            client: Mutex::new(None),
        })
    }

    /// Whom TLS trusts besides the system's authorities: a file of certificates (PEM). It is read at each connection.
    #[must_use]
    pub fn root_certificates(mut self, file: PathBuf) -> Self {
        self.root_certificates = Some(file);
        self
    }

    fn subject(&self, to: Destination) -> String {
        match to {
            Destination::All => format!("{}.all", self.prefix),
            Destination::Node(NodeId(id)) => {
                let id = Base64UrlUnpadded::encode_string(&id.to_be_bytes());
                format!("{}.node.{id}", self.prefix)
            }
        }
    }

    fn options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .name("sealwire-server")
            .no_echo()
            .retain_servers_order()
            .connection_timeout(CONNECT)
            .ping_interval(PING)
            .client_capacity(QUEUE)
            .subscription_capacity(QUEUE)
            .reconnect_delay_callback(|attempt| {
                (Duration::from_millis(10) * attempt.min(1_000) as u32).min(RECONNECT)
            })
            .event_callback(|event| async move { tell(&event) });
        match &self.login {
            Some(Login::Token(token)) => options = options.token(token.as_str().to_owned()),
            Some(Login::User(user, password)) => {
                let (user, password) = (user.as_str().to_owned(), password.as_str().to_owned());
                options = options.user_and_password(user, password);
            }
            None => {}
        }
        match &self.root_certificates {
            Some(file) => options.add_root_certificates(file.clone()),
            None => options,
        }
    }

    /// Connects and subscribes; both are in effect once it is done.
    async fn open(&self, node: NodeId) -> io::Result<Box<dyn Inbox>> {
        let connecting = self.options().connect(self.servers.clone());
        let client = connecting.await.map_err(io::Error::other)?;
        let own = client.subscribe(self.subject(Destination::Node(node)));
        let own = own.await.map_err(io::Error::other)?;
        let all = client.subscribe(self.subject(Destination::All));
        let all = all.await.map_err(io::Error::other)?;
        client.flush().await.map_err(io::Error::other)?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client);
        Ok(Box::new(Subscriptions { own, all }))
    }
}

impl Backplane for Nats {
    fn subscribe(&self, node: NodeId) -> Pending<'_, Box<dyn Inbox>> {
        Box::pin(self.open(node))
    }

    fn publish(&self, to: Destination, payload: Bytes) -> io::Result<()> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client
            .as_ref()
            .filter(|client| client.connection_state() == State::Connected)
            .ok_or(io::ErrorKind::NotConnected)?;
        // It waits for nothing but room in the client's queue, and for that nobody here may wait. What tokio lets a task
        // do in one go is no reason to lose it.
        let publishing = client.publish(self.subject(to), payload);
        let published = unconstrained(publishing).now_or_never();
        published
            .ok_or(io::ErrorKind::WouldBlock)?
            .map_err(io::Error::other)
    }

    fn flush(&self) -> Pending<'_, ()> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client.clone();
        Box::pin(async move {
            let client = client.ok_or(io::ErrorKind::NotConnected)?;
            client.flush().await.map_err(io::Error::other)
        })
    }
}

/// What NATS brings. What is for this node goes first: a message that a member sent before it left is then delivered
/// before the news of its leaving. A node that is too far behind loses some, and will notice.
struct Subscriptions {
    own: Subscriber,
    all: Subscriber,
}

impl Inbox for Subscriptions {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let mut next = Pin::new(&mut self.own).poll_next(context);
        if next.is_pending() {
            next = Pin::new(&mut self.all).poll_next(context);
        }
        next.map(|message| message.map(|message| message.payload))
    }
}

/// An engine that goes and comes is told once by cluster.rs too; this says why.
fn tell(event: &Event) {
    match event {
        Event::Connected | Event::LameDuckMode | Event::Draining => tracing::info!("NATS: {event}"),
        Event::Disconnected
        | Event::Closed
        | Event::SlowConsumer(_)
        | Event::ServerError(_)
        | Event::ClientError(_) => tracing::warn!("NATS: {event}"),
    }
}

fn address(url: &str) -> Option<(ServerAddr, Option<Login>)> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "nats" | "tls") {
        return None;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, host) = match rest.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, rest),
    };
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return None;
    }
    let secret = |text: &str| Zeroizing::new(text.to_owned());
    let login = login.map(|login| match login.split_once(':') {
        Some((user, password)) => Login::User(secret(user), secret(password)),
        None => Login::Token(secret(login)),
    });
    Some((format!("{scheme}://{host}").parse().ok()?, login))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_port_and_perhaps_a_login() {
        for (url, host, port) in [
            ("nats://a", "a", 4222),
            ("nats://a:1/", "a", 1),
            ("tls://u:p@a:1", "a", 1),
            ("nats://[::1]", "::1", 4222),
            ("nats://[::1]:7", "::1", 7),
        ] {
            let (server, _) = address(url).unwrap();
            assert_eq!((server.host(), server.port()), (host, port), "{url}");
        }
        let login = |url| Nats::new(url, "x").unwrap().login;
        let secret = |text: &str| Zeroizing::new(text.to_owned());
        let user = Login::User(secret("u"), secret("p:@"));
        assert!(login("nats://u:p:@@a, nats://b") == Some(user));
        assert!(login("nats://token@a") == Some(Login::Token(secret("token"))));
        assert!(login("nats://a").is_none());
    }

    #[test]
    fn what_cannot_be_is_refused_and_no_password_is_shown() {
        for (url, prefix) in [
            ("http://a", "x"),
            ("nats://", "x"),
            ("nats://a/b", "x"),
            ("nats://u:p@a,nats://u:q@b", "x"),
            ("nats://a", "x y"),
            ("nats://a", "x..y"),
            ("", "x"),
            ("nats://a", ""),
        ] {
            let error = Nats::new(url, prefix).unwrap_err();
            assert!(!error.to_string().contains("u:"), "{url} {prefix}");
        }
        let shown = format!("{:?}", Nats::new("nats://u:secret@a", "x").unwrap());
        assert!(shown.contains('a') && !shown.contains("secret"), "{shown}");
    }
}
