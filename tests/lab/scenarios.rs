//! The scenarios: what is done to the network, and what hosts must see.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;

use crate::{
    peer::{Peer, Role},
    world::{
        Net, Program, SECOND_STUN, SERVER, STUN, TURN_TCP, TURN_TLS, TURN_UDP, connected, exchange,
    },
};

/// What is printed of a scenario.
type Seen = Vec<String>;

type Running = Pin<Box<dyn Future<Output = Seen> + Send>>;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn Fn(String) -> Running + Send + Sync>,
}

/// Long ones first.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = vec![
        scenario("TURN credentials refused", turn_refused),
        scenario("interface down for 20 s", interface_down),
        scenario("credentials that expire", expiring_credentials),
        scenario("kill -9 of a peer", kill_of_a_peer),
    ];
    for (name, loss, delay) in [
        ("20 % loss, 25 ms each way", 200, 25),
        ("20 % loss", 200, 0),
        ("5 % loss, 25 ms each way", 50, 25),
        ("5 % loss", 50, 0),
        ("1 % loss, 25 ms each way", 10, 25),
        ("1 % loss", 10, 0),
    ] {
        all.push(scenario(name, move |prefix| lossy(prefix, loss, delay)));
    }
    all.extend([
        scenario("address changed", address_changed),
        scenario("server killed and restarted", server_restarted),
        scenario("server gone during the handshake", server_gone_in_handshake),
        scenario("easy and easy", direct),
        scenario("symmetric and symmetric", relayed),
        scenario("no UDP", no_udp),
        scenario("relay only", relay_only),
    ]);
    all
}

fn scenario<F>(name: &'static str, run: impl Fn(String) -> F + Send + Sync + 'static) -> Scenario
where
    F: Future<Output = Seen> + Send + 'static,
{
    Scenario {
        name,
        run: Box::new(move |prefix| Box::pin(run(prefix))),
    }
}

const USER: &[&str] = &["--lt-cred-mech", "--user=u:p", "--no-tls"];

fn peer(identity: u8, ice: &[&str]) -> Peer {
    Peer {
        server: SERVER.to_owned(),
        identity,
        ice: ice.iter().map(|line| (*line).to_owned()).collect(),
        ..Peer::default()
    }
}

async fn pair(net: &Net, one: &Peer, other: &Peer) -> (Program, Program, Duration) {
    let (mut one, mut other) = (net.peer("peerA", one), net.peer("peerB", other));
    let took = connected(&mut one, &mut other).await;
    (one, other, took)
}

async fn path(peer: &mut Program) -> Value {
    peer.tell("path").await;
    peer.event("path").await["path"].clone()
}

/// Says goodbye; the other side must see it.
async fn close(one: &mut Program, other: &mut Program) {
    one.tell("close").await;
    one.event("ended").await;
    other.event("closed").await;
}

/// The findings, each of which must be one of `expected`, and all of those must be there.
fn check(diagnosis: &Value, expected: &[&str]) -> String {
    let findings: Vec<&str> = diagnosis["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding.as_str().unwrap())
        .collect();
    let fits = |found: &&str, name: &&str| found.starts_with(*name);
    let known = findings
        .iter()
        .all(|found| expected.iter().any(|name| fits(found, name)));
    let all = expected
        .iter()
        .all(|name| findings.iter().any(|found| fits(found, name)));
    assert!(known && all, "{findings:#?} instead of {expected:?}");
    let text = diagnosis["text"].as_str().unwrap();
    format!("diagnose(): {}", text.replace('\n', "\n      "))
}

async fn direct(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let _turn = net.turn(USER).await;
    let everything = peer(1, &[STUN, SECOND_STUN, TURN_UDP, TURN_TCP]);
    let away = net.diagnose("peerA", &everything).await;
    let mut seen = vec![check(&away, &["ServerUnreachable"])];
    let _server = net.signaling(&[]).await;
    let alone = net.diagnose("peerA", &everything).await;
    seen.push(check(&alone, &["PeerAbsent"]));
    assert_eq!(alone["relays"].as_array().unwrap().len(), 2);
    let bare = net.diagnose("peerA", &peer(1, &[])).await;
    seen.push(check(&bare, &["PeerAbsent", "NoIceServers"]));

    let (mut a, mut b, took) = pair(&net, &peer(1, &[STUN]), &peer(2, &[STUN])).await;
    assert_eq!(
        (path(&mut a).await, path(&mut b).await),
        ("Direct".into(), "Direct".into())
    );
    exchange(&mut a, &mut b, 100, 1_000).await;
    a.tell("diagnose").await;
    let live = a.event("diagnosis").await;
    assert_eq!(live["path"], "Direct");
    seen.push(check(&live, &["NoRelay"]));
    close(&mut a, &mut b).await;
    seen.push(format!("connected directly in {took:.1?}"));
    seen
}

async fn relayed(prefix: String) -> Seen {
    let net = Net::up(&prefix, "sym", "sym").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let ice = [STUN, SECOND_STUN, TURN_UDP];
    let (mut a, mut b, took) = pair(&net, &peer(1, &ice), &peer(2, &ice)).await;
    assert_eq!(
        (path(&mut a).await, path(&mut b).await),
        ("Relayed".into(), "Relayed".into())
    );
    exchange(&mut a, &mut b, 100, 1_000).await;
    let found = net.diagnose("peerA", &peer(3, &ice)).await;
    close(&mut a, &mut b).await;
    vec![
        format!("connected by TURN in {took:.1?}"),
        check(&found, &["SymmetricNat", "PeerAbsent"]),
    ]
}

/// Certificate and key files of coturn, and what peers trust.
fn certificate(prefix: &str) -> (tempfile::TempDir, Vec<u8>, [String; 2]) {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["203.0.113.1".to_owned()]).unwrap();
    let (cert, key) = (
        folder.path().join("cert.pem"),
        folder.path().join("key.pem"),
    );
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let options = [
        format!("--cert={}", cert.display()),
        format!("--pkey={}", key.display()),
    ];
    (folder, made.cert.der().to_vec(), options)
}

async fn no_udp(prefix: String) -> Seen {
    let net = Net::up(&prefix, "noudp", "easy").await;
    let (_folder, root, [cert, key]) = certificate(&prefix);
    let options = ["--lt-cred-mech", "--user=u:p", &cert, &key];
    let (_turn, _server) = (net.turn(&options).await, net.signaling(&[]).await);
    let over_udp = net.diagnose("peerA", &peer(3, &[STUN, TURN_UDP])).await;
    let mut seen = vec![check(
        &over_udp,
        &["PeerAbsent", "UdpBlocked", "RelayOverTcpOnly"],
    )];
    for (ice, how) in [(TURN_TCP, "TCP"), (TURN_TLS, "TLS")] {
        let mut inside = peer(1, &[ice]);
        inside.root.clone_from(&root);
        let over_tcp = net.diagnose("peerA", &inside).await;
        check(&over_tcp, &["PeerAbsent"]);
        let (mut a, mut b, took) = pair(&net, &inside, &peer(2, &[STUN])).await;
        assert_eq!(path(&mut a).await, "Relayed");
        exchange(&mut a, &mut b, 200, 10_000).await;
        close(&mut a, &mut b).await;
        seen.push(format!("connected by TURN over {how} in {took:.1?}"));
    }
    seen
}

async fn turn_refused(prefix: String) -> Seen {
    let net = Net::up(&prefix, "sym", "sym").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let ice = [STUN, SECOND_STUN, "turn:203.0.113.1:3478 u wrong"];
    let refused = net.diagnose("peerA", &peer(3, &ice)).await;
    let mut seen = vec![check(
        &refused,
        &["PeerAbsent", "SymmetricNat", "RelayRefused"],
    )];
    let old = ["turn:203.0.113.1:3478?transport=tcp 1700000000:u p"];
    let expired = net.diagnose("peerA", &peer(3, &old)).await;
    seen.push(check(&expired, &["PeerAbsent", "RelayRefused"]));
    assert!(
        expired["text"].as_str().unwrap().contains("expired"),
        "{expired}"
    );

    let begun = Instant::now();
    let impatient = |identity| {
        let mut peer = peer(identity, &ice);
        peer.ready_ms = Some(8_000);
        net.peer(if identity == 1 { "peerA" } else { "peerB" }, &peer)
    };
    let (mut a, mut b) = (impatient(1), impatient(2));
    for peer in [&mut a, &mut b] {
        let failed = peer.failure().await;
        let finding = failed["finding"].as_str().unwrap();
        assert!(finding.starts_with("NoPath"), "{failed}");
        seen.push(format!(
            "connect(): {} ({:.1?})",
            failed["text"],
            begun.elapsed()
        ));
    }
    seen
}

async fn relay_only(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let mut hiding = peer(1, &[STUN, TURN_UDP, TURN_TCP]);
    hiding.relay_only = true;
    let mut link = net.start("peerA", &Role::Candidates(hiding.clone()));
    let told = link.event("candidates").await["told"].to_string();
    assert!(
        !told.contains("10.1.0.") && !told.contains("203.0.113.10"),
        "{told}"
    );
    assert_eq!(told.matches("typ relay").count(), 2, "{told}");
    assert_eq!(told.matches(" typ ").count(), 2, "{told}");
    let (mut a, mut b, took) = pair(&net, &hiding, &peer(2, &[STUN])).await;
    assert_eq!(path(&mut a).await, "Relayed");
    exchange(&mut a, &mut b, 50, 1_000).await;
    close(&mut a, &mut b).await;
    let mut refused = hiding.clone();
    refused.ice = vec!["turn:203.0.113.1:3478 u wrong".to_owned()];
    let nothing = net.diagnose("peerA", &refused).await;
    vec![
        format!("told: two relayed addresses and no other; connected in {took:.1?}"),
        check(&nothing, &["PeerAbsent", "RelayRefused", "NothingToTell"]),
    ]
}

async fn kill_of_a_peer(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let (mut one, mut other) = (peer(1, &[STUN]), peer(2, &[STUN]));
    (one.pinned, other.pinned) = (Some(2), Some(1));
    let (mut a, mut b, _) = pair(&net, &one, &other).await;
    exchange(&mut a, &mut b, 50, 100).await;
    b.kill().await;
    let begun = Instant::now();
    a.event("disconnected").await;
    let noticed = begun.elapsed();
    let begun = Instant::now();
    let mut b = net.peer("peerB", &other);
    b.event("connected").await;
    a.event("reset").await;
    let back = begun.elapsed();
    a.tell("expect 50").await;
    b.tell("send 50 100").await;
    a.event("complete").await;
    vec![
        format!("Disconnected after {noticed:.1?}"),
        format!("SessionReset {back:.1?} after the peer was started again; messages flow"),
    ]
}

async fn server_restarted(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, mut server) = (net.turn(USER).await, net.signaling(&[]).await);
    let (mut a, mut b, _) = pair(&net, &peer(1, &[STUN]), &peer(2, &[STUN])).await;
    exchange(&mut a, &mut b, 50, 100).await;
    server.kill().await;
    exchange(&mut a, &mut b, 100, 100).await;
    // Longer than a path or a peer may be silent.
    a.tell("send 150 100 150").await;
    b.tell("expect 150").await;
    b.event("complete").await;
    let _server = net.signaling(&[]).await;
    exchange(&mut a, &mut b, 200, 100).await;
    assert!(![&a, &b].iter().any(|peer| peer.told("disconnected")));
    // The server is needed again only now: for a new transport.
    net.ip("natA", "link set wan down").await;
    a.event("disconnected").await;
    net.ip("natA", "link set wan up").await;
    net.ip("natA", "route add default via 203.0.113.1").await;
    let begun = Instant::now();
    a.event("resumed").await;
    exchange(&mut a, &mut b, 250, 100).await;
    vec![
        "no event but SignalingLost; messages flow with and without it".to_owned(),
        format!(
            "a path lost later: Resumed by the new server {:.1?} after it is back",
            begun.elapsed()
        ),
    ]
}

/// Messages both ways while `outage` happens; all must arrive, once and in order.
async fn survive(
    a: &mut Program,
    b: &mut Program,
    outage: impl Future<Output = ()>,
) -> (Duration, Duration) {
    for peer in [&mut *a, &mut *b] {
        peer.tell("expect 300").await;
        peer.tell("send 300 200 20").await;
    }
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let noticing = async {
        a.event("disconnected").await;
        begun.elapsed()
    };
    let (noticed, ()) = tokio::join!(noticing, outage);
    let begun = Instant::now();
    a.event("resumed").await;
    let back = begun.elapsed();
    a.event("complete").await;
    b.event("complete").await;
    assert!(b.told("resumed"));
    (noticed, back)
}

async fn interface_down(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let (mut a, mut b, _) = pair(&net, &peer(1, &[STUN]), &peer(2, &[STUN])).await;
    let outage = async {
        net.ip("peerA", "link set eth0 down").await;
        sleep(Duration::from_secs(20)).await;
        net.ip("peerA", "link set eth0 up").await;
        net.ip("peerA", "route add default via 10.1.0.1").await;
    };
    let (noticed, back) = survive(&mut a, &mut b, outage).await;
    vec![format!(
        "Disconnected after {noticed:.1?}, Resumed {back:.1?} after it was back; 600 messages once and in order"
    )]
}

async fn address_changed(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let (mut a, mut b, _) = pair(&net, &peer(1, &[STUN]), &peer(2, &[STUN])).await;
    let outage = async {
        net.ip("peerA", "address flush dev eth0").await;
        net.ip("peerA", "address add 10.1.0.3/24 dev eth0").await;
        net.ip("peerA", "route add default via 10.1.0.1").await;
    };
    let (noticed, back) = survive(&mut a, &mut b, outage).await;
    vec![format!(
        "Disconnected after {noticed:.1?}, Resumed {back:.1?} later; 600 messages once and in order"
    )]
}

/// Both peers by TURN, one of them by a relay that loses and delays what it sends and what it gets.
async fn lossy(prefix: String, loss_per_mille: u64, delay_ms: u64) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    let role = Role::Lossy {
        listen: ([203, 0, 113, 2], 4_000).into(),
        server: ([203, 0, 113, 1], 3_478).into(),
        loss_per_mille,
        delay_ms,
        seed: 7,
    };
    let mut relay = net.start("pub", &role);
    relay.event("ready").await;
    let one = Peer {
        relay_only: true,
        ..peer(1, &["turn:203.0.113.2:4000 u p"])
    };
    let other = Peer {
        relay_only: true,
        ..peer(2, &[TURN_UDP])
    };
    let (mut a, mut b, took) = pair(&net, &one, &other).await;
    let took_messages = exchange(&mut a, &mut b, 100, 200).await;
    let outages = [&a, &b].iter().any(|peer| peer.told("disconnected"));
    // No goodbye: within the 5 s that it has, it may be lost as well.
    let resumed = if outages {
        "; it was Resumed in between"
    } else {
        ""
    };
    vec![format!(
        "connected in {took:.1?}, 100 messages of 200 bytes each way once and in order in {took_messages:.1?}{resumed}"
    )]
}

async fn server_gone_in_handshake(prefix: String) -> Seen {
    let net = Net::up(&prefix, "easy", "easy").await;
    let (_turn, _server) = (net.turn(USER).await, net.signaling(&[]).await);
    // Two requests and joins have less, with the first handshake message there are more.
    let role = Role::Cut {
        listen: ([203, 0, 113, 2], 8_081).into(),
        server: ([203, 0, 113, 1], 8_080).into(),
        after_bytes: 1_500,
        pause_ms: 2_000,
    };
    let mut proxy = net.start("pub", &role);
    proxy.event("ready").await;
    let by_proxy = |identity| Peer {
        server: "ws://203.0.113.2:8081".to_owned(),
        ..peer(identity, &[STUN])
    };
    let (mut a, mut b, took) = pair(&net, &by_proxy(1), &by_proxy(2)).await;
    proxy.event("cut").await;
    exchange(&mut a, &mut b, 50, 100).await;
    close(&mut a, &mut b).await;
    vec![format!(
        "away for 2 s; connected {took:.1?} after the start"
    )]
}

async fn expiring_credentials(prefix: String) -> Seen {
    let net = Net::up(&prefix, "sym", "sym").await;
    let _turn = net
        .turn(&[
            "--use-auth-secret",
            "--static-auth-secret=north",
            "--no-tls",
        ])
        .await;
    let urls = "turn:203.0.113.1:3478,turn:203.0.113.1:3478?transport=tcp";
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "north").unwrap();
    let file = secret.path().to_str().unwrap();
    let options = [
        "--turn-urls",
        urls,
        "--turn-ttl",
        "12s",
        "--turn-secret-file",
        file,
    ];
    let _server = net.signaling(&options).await;
    let with_offer = |identity| Peer {
        server_relays: true,
        path_lost_ms: Some(2_000),
        ..peer(identity, &[])
    };
    let mut a = net.peer("peerA", &with_offer(1));
    // Its first credentials end before anybody comes.
    sleep(Duration::from_secs(15)).await;
    let mut b = net.peer("peerB", &with_offer(2));
    let took = connected(&mut a, &mut b).await;
    exchange(&mut a, &mut b, 50, 100).await;
    a.tell("diagnose").await;
    let found = a.event("diagnosis").await;
    assert_eq!(found["relays"].as_array().unwrap().len(), 2, "{found}");
    sleep(Duration::from_secs(14)).await;
    net.ip("peerA", "link set eth0 down").await;
    a.event("disconnected").await;
    net.ip("peerA", "link set eth0 up").await;
    net.ip("peerA", "route add default via 10.1.0.1").await;
    let begun = Instant::now();
    a.event("resumed").await;
    exchange(&mut a, &mut b, 100, 100).await;
    assert_eq!(path(&mut a).await, "Relayed");
    vec![
        format!("good for 12 s; the first peer waited 15 s, then connected in {took:.1?}"),
        format!(
            "a path lost later: Resumed in {:.1?}, with new credentials",
            begun.elapsed()
        ),
    ]
}
