//! A server in this process, pairs of peers, and waits that end.

use std::{net::SocketAddr, time::Duration};

use sealwire::{
    Config, Identity, Invite, Message,
    protocol::Event,
    server::{Server, ServerStats},
    session::{Builder, Session},
};
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};

/// Longer than anything takes that works, on the slowest machine; only a hang gets there.
const DEADLINE: Duration = Duration::from_secs(120);

/// The result of `future`, which must come before the deadline.
pub(super) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future)
        .await
        .expect("it comes before the deadline")
}

/// Waits until `condition` holds.
pub(super) async fn eventually(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Polls a future `polls` times, with turns of everything else between, and drops it.
pub(super) async fn give_up_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let turns = async {
        for _ in 1..polls {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        value = future => Some(value),
        () = turns => None,
    }
}

/// A server that runs until it is stopped, or its test ends.
pub(super) struct Running {
    pub(super) stats: ServerStats,
    pub(super) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Where another ran before.
    pub(super) async fn start_at(address: SocketAddr) -> Self {
        let server = Server::bind(address).await.unwrap();
        let (address, stats) = (server.local_addr().unwrap(), server.stats());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self {
            stats,
            address,
            stop,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Returns once nothing of it is left.
    pub(super) async fn stop(self) {
        self.stop.send(()).unwrap();
        soon(self.task).await.unwrap();
    }

    /// Waits until `rooms` rooms have members.
    pub(super) async fn has_rooms(&self, rooms: usize) {
        eventually(|| self.stats.rooms() == rooms).await;
    }
}

/// An invite has no `Clone`: whoever redeems it reads its text.
pub(super) fn copy(invite: &Invite) -> Invite {
    invite.to_string().parse().unwrap()
}

/// The inviter's builder and the redeemer's.
pub(super) fn invited(server: &Running) -> (Builder, Builder) {
    let inviter = Identity::generate();
    let invite = Invite::new(&inviter, &server.url()).unwrap();
    let redeemer = Session::builder(Identity::generate()).redeem(copy(&invite));
    (Session::builder(inviter).invite(invite), redeemer)
}

/// Both sessions of two builders.
pub(super) async fn connect(one: Builder, other: Builder) -> (Session, Session) {
    soon(async { tokio::try_join!(one.connect(), other.connect()) })
        .await
        .unwrap()
}

/// The inviter's session and the redeemer's.
pub(super) async fn pair(server: &Running) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    connect(inviter, redeemer).await
}

/// [`pair`], with the same configuration on both sides.
pub(super) async fn pair_with(server: &Running, config: &Config) -> (Session, Session) {
    let (inviter, redeemer) = invited(server);
    connect(
        inviter.config(config.clone()),
        redeemer.config(config.clone()),
    )
    .await
}

/// The next event, which must come.
pub(super) async fn event(session: &Session) -> Event {
    soon(session.next()).await.expect("the session goes on")
}

/// The next message, whatever else happens before.
pub(super) async fn message(session: &Session) -> Message {
    loop {
        match event(session).await {
            Event::Message(message) => return message,
            Event::Closed { .. } | Event::Failed { .. } | Event::Unreadable { .. } => {
                panic!("it ended instead of a message")
            }
            _ => {}
        }
    }
}

/// The text of the next message.
pub(super) async fn text(session: &Session) -> String {
    message(session).await.content.as_text().unwrap().to_owned()
}

/// All texts until the session was closed in good order, after which nothing may come.
pub(super) async fn texts_until_closed(session: &Session) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match event(session).await {
            Event::Message(message) => texts.push(message.content.as_text().unwrap().to_owned()),
            Event::Closed { unacked, .. } => {
                assert_eq!(unacked, 0);
                assert!(soon(session.next()).await.is_none(), "nothing after Closed");
                return texts;
            }
            Event::Failed { error } => panic!("{error}"),
            _ => {}
        }
    }
}

/// Messages flow both ways.
pub(super) async fn assert_works(one: &Session, other: &Session) {
    for (from, to) in [(one, other), (other, one)] {
        let delivery = soon(from.send("still there?")).await.unwrap();
        assert_eq!(text(to).await, "still there?");
        soon(delivery.delivered()).await.unwrap();
    }
}
