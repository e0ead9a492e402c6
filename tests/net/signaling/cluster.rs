//! Several servers that act as one: in this process, and as programs with NATS between them.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use sealwire::server::{
    Backplane, Destination, Inbox, MemoryBackplane, NodeId, Pending, ServerLimits, ServerOptions,
};
use serde_json::{Value, json};

use super::support::{Client, Running, ep_text, join_frame, message_frame, send_frame, soon};

const BEAT: Duration = Duration::from_millis(100);

/// Counts the messages of clients, and loses some of what is for all.
#[derive(Debug, Default)]
struct Watched {
    engine: MemoryBackplane,
    messages: AtomicUsize,
    published: AtomicUsize,
    /// Of so many messages for all, one is lost; 0 loses none.
    loses_one_of: usize,
}

impl Backplane for Watched {
    fn subscribe(&self, node: NodeId) -> Pending<'_, Box<dyn Inbox>> {
        self.engine.subscribe(node)
    }

    fn publish(&self, to: Destination, payload: bytes::Bytes) -> io::Result<()> {
        if to == Destination::All {
            let count = self.published.fetch_add(1, SeqCst);
            if self.loses_one_of > 0 && count.is_multiple_of(self.loses_one_of) {
                return Ok(());
            }
        }
        if String::from_utf8_lossy(&payload).contains("message") {
            self.messages.fetch_add(1, SeqCst);
        }
        self.engine.publish(to, payload)
    }
}

async fn start(engine: &Arc<Watched>) -> Running {
    let (mut limits, mut options) = (ServerLimits::default(), ServerOptions::default());
    (limits.messages_per_second, limits.message_burst) = (u32::MAX, u32::MAX);
    options.backplane = Some(Arc::clone(engine) as Arc<dyn Backplane>);
    options.node_beat = BEAT;
    Running::with(limits, options).await
}

/// Waits for an event, whatever comes before it.
async fn wait_for(client: &mut Client, event: Value) {
    while client.next().await != event {}
}

fn joined(n: u8) -> Value {
    json!({"type": "joined", "ep": ep_text(n)})
}

fn left(n: u8) -> Value {
    json!({"type": "left", "ep": ep_text(n)})
}

/// Joins, and waits until it knows these others.
async fn join_those(address: SocketAddr, n: u8, others: &[u8]) -> Client {
    let (mut client, known) = Client::join(address, 1, n).await;
    let unknown = others.iter().copied();
    hear_of(
        &mut client,
        unknown.filter(|n| !known.contains(&ep_text(*n))),
    )
    .await;
    client
}

/// Waits until it was told that these joined, in whichever order.
async fn hear_of(client: &mut Client, others: impl IntoIterator<Item = u8>) {
    let mut unknown: Vec<Value> = others.into_iter().map(joined).collect();
    while !unknown.is_empty() {
        let event = client.next().await;
        assert_eq!(event["type"], "joined");
        unknown.retain(|other| *other != event);
    }
}

/// Both see each other.
async fn pair(one: &Running, other: &Running) -> (Client, Client) {
    let mut a = join_those(one.address, 1, &[]).await;
    let b = join_those(other.address, 2, &[1]).await;
    wait_for(&mut a, joined(2)).await;
    (a, b)
}

#[tokio::test]
async fn a_room_spans_servers_and_messages_of_a_pair_stay_in_order() {
    let engine = Arc::default();
    let (one, other) = (start(&engine).await, start(&engine).await);
    let (mut a, mut b) = pair(&one, &other).await;
    for n in 0..200 {
        a.send(send_frame(2, &[n])).await;
        b.send(send_frame(1, &[n])).await;
    }
    for n in 0..200 {
        assert_eq!(b.next().await, message_frame(1, &[n]));
        assert_eq!(a.next().await, message_frame(2, &[n]));
    }
    let mut double = Client::open(one.address).await;
    double.send(join_frame(1, 2)).await;
    assert_eq!(double.next_error().await, "duplicate_ep");
    b.send(json!({"type": "leave"})).await;
    wait_for(&mut a, left(2)).await;
    a.send(send_frame(2, b"x")).await;
    assert_eq!(a.next_error().await, "unknown_peer");
    drop(a);
    one.emptied().await;
    other.emptied().await;
}

#[tokio::test]
async fn a_server_that_starts_later_learns_who_is_there_and_one_that_stops_is_forgotten() {
    let engine = Arc::default();
    let one = start(&engine).await;
    let mut a = join_those(one.address, 1, &[]).await;
    let other = start(&engine).await;
    let mut b = join_those(other.address, 2, &[1]).await;
    wait_for(&mut a, joined(2)).await;
    let stopping = other.stop();
    assert_eq!(b.close_code().await, 1001);
    drop(b);
    wait_for(&mut a, left(2)).await;
    soon(stopping).await.unwrap();
}

#[tokio::test]
async fn a_room_whose_members_are_all_here_makes_no_traffic_between_servers() {
    let engine: Arc<Watched> = Arc::default();
    let (one, other) = (start(&engine).await, start(&engine).await);
    let (mut far, mut away) = pair(&one, &other).await;
    away.send(send_frame(1, b"from there")).await;
    assert_eq!(far.next().await, message_frame(2, b"from there"));
    assert_eq!(engine.messages.load(SeqCst), 1);
    let (mut a, _) = Client::join(one.address, 9, 1).await;
    let (mut b, _) = Client::join(one.address, 9, 2).await;
    assert_eq!(a.next().await, joined(2));
    for n in 0..50 {
        b.send(send_frame(1, &[n])).await;
        assert_eq!(a.next().await, message_frame(2, &[n]));
    }
    assert_eq!(engine.messages.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_lost_between_servers_is_made_up_for() {
    let engine = Arc::new(Watched {
        loses_one_of: 2,
        ..Watched::default()
    });
    let (one, other) = (start(&engine).await, start(&engine).await);
    let (mut a, _) = Client::join(one.address, 1, 1).await;
    for n in 2..12 {
        let (mut b, _) = Client::join(other.address, 1, n).await;
        wait_for(&mut a, joined(n)).await;
        b.send(json!({"type": "leave"})).await;
        wait_for(&mut a, left(n)).await;
    }
}

#[cfg(all(feature = "nats", unix))]
mod nats {
    use std::process::Stdio;

    use tokio::{
        io::{AsyncBufReadExt as _, BufReader, Lines},
        process::{Child, ChildStderr, Command},
    };

    use super::{super::process::Process, *};

    struct Engine {
        child: Child,
        /// Kept, so that it can go on logging.
        _log: Lines<BufReader<ChildStderr>>,
    }

    /// Below those that the system gives to connections, or one of these could have it while NATS is away.
    fn free_port() -> u16 {
        static TRIED: AtomicUsize = AtomicUsize::new(0);
        let start = std::process::id() as usize;
        loop {
            let offset = (start * 16 + TRIED.fetch_add(1, SeqCst)) % 20_000;
            let port = 10_000 + offset as u16;
            if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    }

    /// Until it serves; `None`, and a word, when the program is missing.
    async fn start_nats(port: u16, args: &[&str]) -> Option<Engine> {
        let engine = try_start_nats(port, args).await;
        if engine.is_none() {
            let missing = "there is no nats-server; apt-get install nats-server";
            assert!(
                std::env::var_os("SEALWIRE_REQUIRE_TOOLS").is_none(),
                "{missing}"
            );
            eprintln!("skipped: {missing}");
        }
        engine
    }

    async fn try_start_nats(port: u16, args: &[&str]) -> Option<Engine> {
        let mut child = Command::new("nats-server")
            .args(["-a", "127.0.0.1", "-p", &port.to_string()])
            .args(args)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut log = BufReader::new(child.stderr.take()?).lines();
        while !soon(log.next_line())
            .await
            .unwrap()?
            .contains("Server is ready")
        {}
        Some(Engine { child, _log: log })
    }

    async fn server(port: u16) -> Process {
        let url = format!("nats://127.0.0.1:{port}");
        // Long enough that a busy machine takes none for dead that is not.
        let args = ["--nats-url", &url, "--node-beat", "1s"];
        Process::start_with(&args, &[]).await
    }

    #[tokio::test]
    async fn three_programs_act_as_one_whatever_is_killed() {
        let port = free_port();
        let Some(mut engine) = start_nats(port, &[]).await else {
            return;
        };
        let (one, two, mut three) = (server(port).await, server(port).await, server(port).await);
        let mut a = join_those(one.address, 1, &[]).await;
        let mut b = join_those(two.address, 2, &[1]).await;
        let _c = join_those(three.address, 3, &[1, 2]).await;
        hear_of(&mut a, [2, 3]).await;
        hear_of(&mut b, [3]).await;
        for n in 0..30 {
            b.send(send_frame(1, &[n])).await;
        }
        for n in 0..30 {
            assert_eq!(a.next().await, message_frame(2, &[n]));
        }

        three.child.start_kill().unwrap();
        wait_for(&mut a, left(3)).await;
        wait_for(&mut b, left(3)).await;

        engine.child.kill().await.unwrap();
        wait_for(&mut a, left(2)).await;
        wait_for(&mut b, left(1)).await;
        let (mut local, peers) = Client::join(one.address, 1, 4).await;
        assert_eq!(peers, [ep_text(1)]);
        assert_eq!(a.next().await, joined(4));
        local.send(send_frame(1, b"still here")).await;
        assert_eq!(a.next().await, message_frame(4, b"still here"));

        let _engine = start_nats(port, &[]).await.unwrap();
        wait_for(&mut a, joined(2)).await;
        hear_of(&mut b, [1, 4]).await;
        a.send(send_frame(2, b"again")).await;
        wait_for(&mut b, message_frame(1, b"again")).await;
    }

    #[tokio::test]
    async fn programs_meet_over_tls_with_a_login_and_not_with_a_wrong_one() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let key = file("key.pem", made.signing_key.serialize_pem());
        let certificate = file("cert.pem", made.cert.pem());
        let port = free_port();
        let tls = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
        let login = ["--user", "sealwire", "--pass", "secret"];
        let Some(_engine) = start_nats(port, &[tls.as_slice(), &login].concat()).await else {
            return;
        };
        let node = async |login: &str, ca: &str| {
            let url = format!("tls://{login}@localhost:{port}");
            let args = ["--nats-ca", ca, "--node-beat", "1s"];
            Process::start_with(&args, &[("SEALWIRE_NATS_URL", &url)]).await
        };
        let one = node("sealwire:secret", &certificate).await;
        let two = node("sealwire:secret", &certificate).await;
        let stranger = node("sealwire:guess", &certificate).await;
        let (mut c, _) = Client::join(stranger.address, 1, 3).await;
        let mut a = join_those(one.address, 1, &[]).await;
        let mut b = join_those(two.address, 2, &[1]).await;
        // Nothing else is seen: not the one whose server was not let in.
        assert_eq!(a.next().await, joined(2));
        b.send(send_frame(1, b"over TLS")).await;
        assert_eq!(a.next().await, message_frame(2, b"over TLS"));
        c.send(send_frame(1, b"x")).await;
        assert_eq!(c.next_error().await, "unknown_peer");
        let log = stranger.stop().await;
        assert!(log.contains("other nodes cannot be reached"), "{log}");
        assert!(!log.contains("guess"), "{log}");
    }
}
