//! A signaling server that attacks the people who use it, over real WebSockets: it reads, changes, replays and forges
//! what they send through it, and stands in the middle itself. It prints what it saw and what came of it.
//!
//! ```text
//! cargo run --release --example attacker_server
//! ```
//! The exit code is 0 if every attack failed, or was shown to the people it was aimed at.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

use std::{
    collections::HashMap,
    error::Error,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use sealwire::{
    Config, EndpointId, Identity, Invite, RoomId,
    protocol::{Blob, Event},
    session::Session,
    signaling::envelope::{self, ClientEnvelope, ServerEnvelope},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message as Frame;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// What the server does to every blob that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// Looks for session descriptions, addresses and keys, and changes nothing.
    Read,
    /// Puts its own key in the place of the ephemeral keys of HS1 and HS2.
    SwapKeys,
    /// Flips one bit somewhere in everything.
    Flip,
    /// Delivers every blob twice.
    Replay,
    /// Sends everything back to where it came from, as if the other had sent it.
    Reflect,
    /// Answers every first message with a forged refusal, and drops it.
    Refuse,
}

const SECRETS: [&[u8]; 5] = [
    b"v=0",
    b"a=fingerprint",
    b"candidate:",
    b"a=ice-pwd",
    b"127.0.0.1",
];

#[derive(Default)]
struct Seen {
    blobs: usize,
    bytes: usize,
    readable: usize,
    sizes: Vec<usize>,
}

struct Attacker {
    attack: Attack,
    members: Mutex<HashMap<(RoomId, EndpointId), mpsc::UnboundedSender<String>>>,
    seen: Mutex<Seen>,
}

/// Nobody panics while holding these.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Attacker {
    async fn start(attack: Attack) -> Outcome<(Arc<Self>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        let attacker = Arc::new(Self {
            attack,
            members: Mutex::default(),
            seen: Mutex::default(),
        });
        let server = Arc::clone(&attacker);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        Ok((attacker, url))
    }

    async fn serve(&self, stream: TcpStream) {
        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
            return;
        };
        let (mut sink, mut source) = socket.split();
        let (tx, mut rx) = mpsc::unbounded_channel::<String>();
        tokio::spawn(async move {
            while let Some(text) = rx.recv().await {
                if sink.send(Frame::text(text)).await.is_err() {
                    return;
                }
            }
        });
        let mut me = None;
        while let Some(Ok(frame)) = source.next().await {
            let Ok(text) = frame.to_text() else { continue };
            match ClientEnvelope::decode(text) {
                Ok(ClientEnvelope::Join { room, ep }) => me = Some(self.join(room, ep, tx.clone())),
                Ok(ClientEnvelope::Send { to, blob }) => {
                    if let Some((room, from)) = me {
                        self.relay(room, from, to, blob.to_vec());
                    }
                }
                Ok(_) | Err(_) => {}
            }
        }
        if let Some((room, ep)) = me {
            lock(&self.members).remove(&(room, ep));
            self.tell_others(room, ep, &ServerEnvelope::Left { ep });
        }
    }

    fn join(
        &self,
        room: RoomId,
        ep: EndpointId,
        tx: mpsc::UnboundedSender<String>,
    ) -> (RoomId, EndpointId) {
        let mut members = lock(&self.members);
        let peers = members
            .keys()
            .filter(|(other, _)| *other == room)
            .map(|(_, ep)| *ep)
            .collect();
        let _ = tx.send(
            ServerEnvelope::Welcome {
                peers,
                ice: Vec::new(),
            }
            .encode(),
        );
        members.insert((room, ep), tx);
        drop(members);
        self.tell_others(room, ep, &ServerEnvelope::Joined { ep });
        (room, ep)
    }

    fn tell_others(&self, room: RoomId, ep: EndpointId, envelope: &ServerEnvelope<'_>) {
        for ((other_room, other), tx) in lock(&self.members).iter() {
            if *other_room == room && *other != ep {
                let _ = tx.send(envelope.encode());
            }
        }
    }

    fn deliver(&self, room: RoomId, to: EndpointId, from: EndpointId, blob: &[u8]) {
        let Ok(blob) = envelope::Blob::new(blob) else {
            return;
        };
        if let Some(tx) = lock(&self.members).get(&(room, to)) {
            let _ = tx.send(ServerEnvelope::Message { from, blob }.encode());
        }
    }

    fn relay(&self, room: RoomId, from: EndpointId, to: EndpointId, mut blob: Vec<u8>) {
        self.look_at(&blob);
        let is_hs1 = matches!(Blob::decode(&blob), Ok(Blob::Hs1 { .. }));
        match self.attack {
            Attack::Read => self.deliver(room, to, from, &blob),
            Attack::SwapKeys => {
                let at = if is_hs1 { 19 } else { 1 };
                if let Some(key) = blob.get_mut(at..at + 32) {
                    key.copy_from_slice(Identity::generate().peer_id().as_bytes());
                }
                self.deliver(room, to, from, &blob);
            }
            Attack::Flip => {
                let at = blob.len() / 2;
                blob[at] ^= 1;
                self.deliver(room, to, from, &blob);
            }
            Attack::Replay => {
                self.deliver(room, to, from, &blob);
                self.deliver(room, to, from, &blob);
            }
            Attack::Reflect => self.deliver(room, from, to, &blob),
            Attack::Refuse if is_hs1 => self.deliver(room, from, to, &Blob::Reject(2).encode()),
            Attack::Refuse => self.deliver(room, to, from, &blob),
        }
    }

    fn look_at(&self, blob: &[u8]) {
        let mut seen = lock(&self.seen);
        seen.blobs += 1;
        seen.bytes += blob.len();
        seen.sizes.push(blob.len());
        let holds = |secret: &&[u8]| blob.windows(secret.len()).any(|window| window == *secret);
        seen.readable += SECRETS.iter().filter(|secret| holds(secret)).count();
    }
}

/// What two people saw.
enum Seance {
    /// They talked.
    Talked,
    /// They did not, and know why.
    Refused(String),
}

/// Two people meet by an invite at this server, and one greets the other.
async fn meet(url: &str) -> Outcome<Seance> {
    let mut config = Config::default();
    config.timeouts.peer = Duration::from_secs(3);
    let alice = Identity::generate();
    let invite = Invite::new(&alice, url)?;
    let redeemed: Invite = invite.to_string().parse()?;
    let inviting = tokio::spawn(
        Session::builder(alice)
            .invite(invite)
            .config(config.clone())
            .connect(),
    );
    let dialing = Session::builder(Identity::generate())
        .redeem(redeemed)
        .config(config)
        .connect()
        .await;
    let bob = match dialing {
        Ok(bob) => bob,
        Err(error) => {
            inviting.abort();
            return Ok(Seance::Refused(error.to_string()));
        }
    };
    let alice = inviting.await??;
    bob.send("meet me at noon").await?;
    while let Some(event) = alice.next().await {
        if matches!(event, Event::Message(_)) {
            return Ok(Seance::Talked);
        }
    }
    Err("the session ended early".into())
}

/// Runs one attack: whether the people came out of it unharmed.
async fn attack(attack: Attack) -> Outcome<bool> {
    let (attacker, url) = Attacker::start(attack).await?;
    let seance = meet(&url).await?;
    let seen = lock(&attacker.seen);
    println!("\n{attack:?}");
    println!(
        "  the server saw  {} blobs, {} bytes, of sizes {:?}",
        seen.blobs, seen.bytes, seen.sizes
    );
    println!(
        "  it could read   {} session descriptions, addresses or keys",
        seen.readable
    );
    match &seance {
        Seance::Talked => println!("  the people      talked, and the server did not hear it"),
        Seance::Refused(error) => println!("  the people      did not connect: {error}"),
    }
    let harmless = matches!(attack, Attack::Read | Attack::Replay);
    Ok(seen.readable == 0 && matches!(seance, Seance::Talked) == harmless)
}

/// In an open room nothing but the room's name joins two people: a server can keep them apart and meet each of them
/// itself. It cannot make their safety numbers agree.
async fn stand_in_the_middle() -> Outcome<bool> {
    let (_left, left) = Attacker::start(Attack::Read).await?;
    let (_right, right) = Attacker::start(Attack::Read).await?;
    let join = |me, url: &str| {
        Session::builder(me)
            .room("lobby", url)
            .accept_unknown()
            .connect()
    };
    let mallory = Identity::generate();
    let (alice, bob, to_alice, to_bob) = tokio::try_join!(
        join(Identity::generate(), &left),
        join(Identity::generate(), &right),
        join(mallory.clone(), &left),
        join(mallory, &right),
    )?;
    println!("\nStandInTheMiddle of an open room, where people accept unknown peers");
    println!("  alice reads out {}", alice.safety_number());
    println!("  bob reads out   {}", bob.safety_number());
    println!("  the people      compare them, see that they differ, and confirm() refuses");
    let caught = alice.confirm(&bob.safety_number()).is_err();
    drop((to_alice, to_bob));
    Ok(caught && alice.safety_number() != bob.safety_number())
}

async fn run() -> Outcome<bool> {
    let mut unharmed = true;
    let attacks = [
        Attack::Read,
        Attack::SwapKeys,
        Attack::Flip,
        Attack::Replay,
        Attack::Reflect,
        Attack::Refuse,
    ];
    for kind in attacks {
        unharmed &= attack(kind).await?;
    }
    unharmed &= stand_in_the_middle().await?;
    println!(
        "\n{}",
        if unharmed {
            "every attack failed"
        } else {
            "AN ATTACK SUCCEEDED"
        }
    );
    Ok(unharmed)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
