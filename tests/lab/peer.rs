//! What runs in the namespaces: this program again, told by its environment what to be, with one JSON object a line on
//! its output and one command a line on its input.

use std::{
    io::Write as _,
    net::SocketAddr,
    time::{Duration, Instant},
};

use sealwire::{
    CandidatePolicy, Config, Content, IceServer, Identity, PlainSignaling, ServerRelays,
    protocol::Event,
    session::{Builder, Diagnosis, Finding, Session},
    transport::{LinkEvent, LinkOptions, LinkRole, Transport as _, WebRtcTransport},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

use crate::lossy_relay::Lossy;

/// The variable that says what to be.
pub(crate) const ROLE: &str = "SEALWIRE_LAB_ROLE";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Role {
    /// A session in a room; then commands.
    Peer(Peer),
    /// The candidates that a link tells the peer.
    Candidates(Peer),
    /// What stands in the way.
    Diagnose(Peer),
    /// A UDP relay that loses and delays.
    Lossy {
        listen: SocketAddr,
        server: SocketAddr,
        loss_per_mille: u64,
        delay_ms: u64,
        seed: u64,
    },
    /// A TCP relay that cuts everything off once, for a while, when clients have sent so many bytes.
    Cut {
        listen: SocketAddr,
        server: SocketAddr,
        after_bytes: usize,
        pause_ms: u64,
    },
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Peer {
    pub(crate) server: String,
    /// The same number is the same identity.
    pub(crate) identity: u8,
    /// The only identity that is accepted: a session with it outlives its restart.
    pub(crate) pinned: Option<u8>,
    /// `url user password`, separated by spaces.
    pub(crate) ice: Vec<String>,
    /// Whom `turns:` trusts, in DER.
    pub(crate) root: Vec<u8>,
    pub(crate) relay_only: bool,
    pub(crate) server_relays: bool,
    pub(crate) path_lost_ms: Option<u64>,
    pub(crate) ready_ms: Option<u64>,
}

impl Peer {
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.plain_signaling = PlainSignaling::Anywhere;
        config.ice_servers = self.ice.iter().map(|line| self.ice_server(line)).collect();
        if self.relay_only {
            config.candidates = CandidatePolicy::RelayOnly;
        }
        if self.server_relays {
            config.server_relays = ServerRelays::Used;
        }
        let timeouts = &mut config.timeouts;
        for (wanted, timeout) in [
            (self.path_lost_ms, &mut timeouts.path_lost),
            (self.ready_ms, &mut timeouts.ready),
        ] {
            if let Some(wanted) = wanted {
                *timeout = Duration::from_millis(wanted);
            }
        }
        config
    }

    fn ice_server(&self, line: &str) -> IceServer {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let server = IceServer::turn(word(), word(), word());
        if self.root.is_empty() {
            return server;
        }
        server.with_root_certificate(self.root.clone())
    }

    fn builder(&self) -> Builder {
        let me = Identity::from_secret_bytes([self.identity; 32]);
        let room = Session::builder(me).room("lab", &self.server);
        let room = match self.pinned {
            Some(peer) => room.pinned(Identity::from_secret_bytes([peer; 32]).peer_id()),
            None => room.accept_unknown(),
        };
        room.config(self.config())
    }
}

/// Does what the environment says; false if it says nothing.
pub(crate) fn run() -> bool {
    let Ok(role) = std::env::var(ROLE) else {
        return false;
    };
    let role = serde_json::from_str(&role).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        match role {
            Role::Peer(peer) => session(peer).await,
            Role::Candidates(peer) => candidates(&peer).await,
            Role::Diagnose(peer) => say(report(&peer.builder().diagnose().await)),
            Role::Lossy {
                listen,
                server,
                loss_per_mille,
                delay_ms,
                seed,
            } => {
                let socket = UdpSocket::bind(listen).await.unwrap();
                say(json!({"event": "ready"}));
                let delay = Duration::from_millis(delay_ms);
                let lossy = Lossy {
                    loss_per_mille,
                    delay,
                    seed,
                };
                lossy.run(socket, server).await.unwrap();
            }
            Role::Cut {
                listen,
                server,
                after_bytes,
                pause_ms,
            } => cut(listen, server, after_bytes, Duration::from_millis(pause_ms)).await,
        }
    });
    true
}

fn say(line: Value) {
    let mut out = std::io::stdout().lock();
    // Whoever reads this may be gone.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn report(diagnosis: &Diagnosis) -> Value {
    let names = diagnosis.findings.iter();
    let names: Vec<String> = names.map(|finding| format!("{finding:?}")).collect();
    json!({
        "event": "diagnosis",
        "findings": names,
        "text": diagnosis.to_string(),
        "peer": diagnosis.peer_present,
        "public": diagnosis.public_addresses.len(),
        "relays": diagnosis.relays,
        "path": diagnosis.path.map(|path| format!("{path:?}")),
    })
}

async fn session(peer: Peer) {
    let begun = Instant::now();
    let session = match peer.builder().connect().await {
        Ok(session) => session,
        Err(error) => {
            return say(json!({
                "event": "failed",
                "error": error.to_string(),
                "finding": Finding::of(&error).map(|finding| format!("{finding:?}")),
                "text": Finding::of(&error).map(|finding| finding.to_string()),
            }));
        }
    };
    let ms = begun.elapsed().as_millis() as u64;
    say(json!({"event": "connected", "path": path(&session), "ms": ms}));
    let (counter, counted) = watch::channel(0_u64);
    tokio::spawn(watch_events(session.clone(), counter));
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    let mut sent = 0;
    while let Ok(Some(command)) = commands.next_line().await {
        let words: Vec<&str> = command.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match words[0] {
            // send TOTAL BYTES PAUSE_MS: all up to this number, of so many bytes each.
            "send" => {
                let (bytes, pause) = (number(2).unwrap_or(0), number(3).unwrap_or(0));
                let numbers = sent..number(1).unwrap();
                sent = numbers.end;
                tokio::spawn(send(session.clone(), numbers, bytes as usize, pause));
            }
            "expect" => {
                let (mut counted, wanted) = (counted.clone(), number(1).unwrap());
                tokio::spawn(async move {
                    let _ = counted.wait_for(|next| *next >= wanted).await;
                    say(json!({"event": "complete", "next": *counted.borrow()}));
                });
            }
            "path" => say(json!({"event": "path", "path": path(&session)})),
            "diagnose" => say(report(&session.diagnose().await)),
            "close" => {
                let closed = session.close().await;
                say(json!({"event": "ended", "ok": closed.is_ok()}));
                return;
            }
            other => panic!("what is {other:?}?"),
        }
    }
}

fn path(session: &Session) -> String {
    format!("{:?}", session.security().path)
}

async fn send(session: Session, numbers: std::ops::Range<u64>, bytes: usize, pause_ms: u64) {
    let end = numbers.end;
    let mut last = None;
    for number in numbers {
        let text = format!("{number} {}", "x".repeat(bytes));
        match session.send(text).await {
            Ok(delivery) => last = Some(delivery),
            Err(error) => return say(json!({"event": "unsent", "error": error.to_string()})),
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    if let Some(last) = last {
        let delivered = last.delivered().await;
        let error = delivered.as_ref().err().map(ToString::to_string);
        say(json!({"event": "delivered", "n": end, "ok": delivered.is_ok(), "error": error}));
    }
}

/// Messages are numbered from 0; any other order is told. Everything else is told as it comes.
async fn watch_events(session: Session, counter: watch::Sender<u64>) {
    let mut next = 0;
    while let Some(event) = session.next().await {
        let told = match &event {
            Event::Message(message) => {
                let number = match &message.content {
                    Content::Text(text) => text.split(' ').next().and_then(|n| n.parse().ok()),
                    _ => None,
                };
                if number != Some(next) {
                    say(json!({"event": "disorder", "expected": next, "found": number}));
                }
                next = number.unwrap_or(next) + 1;
                counter.send_replace(next);
                continue;
            }
            Event::Disconnected { error } => ("disconnected", error.to_string()),
            Event::Reconnecting => ("reconnecting", String::new()),
            Event::Resumed => ("resumed", path(&session)),
            Event::SessionReset { unacked } => {
                next = 0;
                counter.send_replace(0);
                ("reset", unacked.to_string())
            }
            Event::Retrying { error } => ("retrying", error.to_string()),
            Event::SignalingLost => ("signaling_lost", String::new()),
            Event::Closed { code, .. } => ("closed", code.to_string()),
            Event::Failed { error } => ("failed", error.to_string()),
            _ => continue,
        };
        say(json!({"event": told.0, "detail": told.1}));
    }
    say(json!({"event": "over"}));
}

/// What leaves the device in descriptions and candidates.
async fn candidates(peer: &Peer) {
    let config = peer.config();
    let mut options = LinkOptions::default();
    options.ice_servers = config.ice_servers;
    options.candidates = config.candidates;
    let mut link = WebRtcTransport::new()
        .open(options, LinkRole::Offerer)
        .unwrap();
    let mut told = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(3);
    while let Ok(Some(event)) = tokio::time::timeout_at(until, link.next()).await {
        match event {
            LinkEvent::Described { sdp, candidates } => {
                told.push(sdp);
                told.extend(candidates);
            }
            LinkEvent::Candidate(candidate) => told.push(candidate),
            LinkEvent::Closed(closed) => told.push(format!("{closed:?}")),
            _ => {}
        }
    }
    say(json!({"event": "candidates", "told": told}));
}

async fn cut(listen: SocketAddr, server: SocketAddr, after: usize, pause: Duration) {
    let mut left = Some(after);
    loop {
        let listener = TcpListener::bind(listen).await.unwrap();
        say(json!({"event": "ready"}));
        let (counter, mut counted) = watch::channel(0_usize);
        let mut carrying = tokio::task::JoinSet::new();
        let accepting = async {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                carrying.spawn(carry(client, server, counter.clone()));
            }
        };
        tokio::select! {
            () = accepting => {}
            _ = async { counted.wait_for(|bytes| left.is_some_and(|left| *bytes >= left)).await } => {}
        }
        drop(carrying);
        drop(listener);
        left = None;
        say(json!({"event": "cut"}));
        tokio::time::sleep(pause).await;
    }
}

async fn carry(client: TcpStream, server: SocketAddr, counter: watch::Sender<usize>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 4_096];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            counter.send_modify(|bytes| *bytes += length);
            if to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}
