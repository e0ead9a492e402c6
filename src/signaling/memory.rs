//! A signaling server inside this process, for tests: all duties of a relay (§1.2), no network.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    Carrier, Membership, Outgoing, Signaling, SignalingError, SignalingEvent,
    envelope::{ErrorCode, MAX_BLOB, MAX_MEMBERS},
};
use crate::room::{EndpointId, RoomId};

/// Events that may wait for a member; one that falls further behind is put out of the room.
const INBOX: usize = 256;

/// Rooms in this process. Clones share them: give one to each session that is to meet the others.
///
/// Memberships are carried by tasks, so `join` must be called within a tokio runtime.
#[derive(Clone, Default)]
pub struct MemorySignaling {
    rooms: Arc<Mutex<Rooms>>,
}

impl MemorySignaling {
    /// A server without rooms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for MemorySignaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rooms } = self;
        let rooms = lock(rooms).0.len();
        f.debug_struct("MemorySignaling")
            .field("rooms", &rooms)
            .finish()
    }
}

#[async_trait::async_trait]
impl Signaling for MemorySignaling {
    async fn join(&self, room: RoomId, endpoint: EndpointId) -> Result<Membership, SignalingError> {
        let (membership, carrier) = Membership::pair();
        let (inbox, events) = lock(&self.rooms).enter(room, endpoint)?;
        let seat = Seat {
            rooms: Arc::clone(&self.rooms),
            room,
            endpoint,
            inbox,
        };
        tokio::spawn(carry(seat, events, carrier));
        Ok(membership)
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

/// Moves blobs and events until the session leaves or falls too far behind.
async fn carry(seat: Seat, mut events: mpsc::Receiver<SignalingEvent>, mut carrier: Carrier) {
    loop {
        let event = tokio::select! {
            outgoing = carrier.next() => match outgoing.map(|outgoing| seat.send(outgoing)) {
                Some(Ok(())) => continue,
                Some(Err(code)) => error_event(code),
                None => return,
            },
            event = events.recv() => match event {
                Some(event) => event,
                None => break,
            },
        };
        // When the session left, `carrier.next()` ends the loop after what was sent before.
        carrier.deliver(event).await;
    }
    let reason = "too many events waited for the session".to_owned();
    carrier
        .deliver(SignalingEvent::Lost(SignalingError::Lost { reason }))
        .await;
}

/// A member's place in its room; dropping it gives the place up.
struct Seat {
    rooms: Arc<Mutex<Rooms>>,
    room: RoomId,
    endpoint: EndpointId,
    inbox: mpsc::WeakSender<SignalingEvent>,
}

impl Seat {
    fn send(&self, Outgoing { to, blob }: Outgoing) -> Result<(), ErrorCode> {
        if blob.len() > MAX_BLOB {
            return Err(ErrorCode::TooLarge);
        }
        if to == self.endpoint {
            return Err(ErrorCode::UnknownPeer);
        }
        lock(&self.rooms).tell(
            self.room,
            to,
            SignalingEvent::Message {
                from: self.endpoint,
                blob,
            },
        )
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut rooms = lock(&self.rooms);
        // Only the room holds the inbox: without it the member was put out, and its name may be another's.
        if self.inbox.upgrade().is_some() {
            rooms.remove(self.room, self.endpoint);
        }
    }
}

/// Both ends of a member's queue; the room holds the end that keeps it open.
type Inbox = (
    mpsc::WeakSender<SignalingEvent>,
    mpsc::Receiver<SignalingEvent>,
);

#[derive(Default)]
struct Rooms(BTreeMap<RoomId, BTreeMap<EndpointId, mpsc::Sender<SignalingEvent>>>);

impl Rooms {
    fn enter(&mut self, room: RoomId, endpoint: EndpointId) -> Result<Inbox, SignalingError> {
        let members = self.0.entry(room).or_default();
        if members.contains_key(&endpoint) {
            return Err(refused(ErrorCode::DuplicateEp));
        }
        if members.len() >= MAX_MEMBERS {
            return Err(refused(ErrorCode::RoomFull));
        }
        let peers: Vec<_> = members.keys().copied().collect();
        let (inbox, events) = mpsc::channel(INBOX);
        inbox
            .try_send(SignalingEvent::Welcome {
                peers: peers.clone(),
            })
            .expect("a new queue has room");
        let weak = inbox.downgrade();
        members.insert(endpoint, inbox);
        for peer in peers {
            let _ = self.tell(room, peer, SignalingEvent::Joined(endpoint));
        }
        Ok((weak, events))
    }

    /// Gives a member an event, or puts it out when it is too far behind to take it.
    fn tell(
        &mut self,
        room: RoomId,
        to: EndpointId,
        event: SignalingEvent,
    ) -> Result<(), ErrorCode> {
        let inbox = self.0.get(&room).and_then(|members| members.get(&to));
        match inbox.ok_or(ErrorCode::UnknownPeer)?.try_send(event) {
            Ok(()) => Ok(()),
            Err(_) => {
                self.remove(room, to);
                Err(ErrorCode::UnknownPeer)
            }
        }
    }

    fn remove(&mut self, room: RoomId, endpoint: EndpointId) {
        let Some(members) = self.0.get_mut(&room) else {
            return;
        };
        if members.remove(&endpoint).is_none() {
            return;
        }
        let peers: Vec<_> = members.keys().copied().collect();
        if peers.is_empty() {
            self.0.remove(&room);
        }
        for peer in peers {
            let _ = self.tell(room, peer, SignalingEvent::Left(endpoint));
        }
    }
}

/// A panic in another test's thread must not spread through the lock: no change to the rooms can be half done.
fn lock(rooms: &Mutex<Rooms>) -> MutexGuard<'_, Rooms> {
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refused(code: ErrorCode) -> SignalingError {
    SignalingError::Refused {
        code: code.as_str().to_owned(),
        message: code.message().to_owned(),
    }
}

fn error_event(code: ErrorCode) -> SignalingEvent {
    SignalingEvent::Error {
        code: code.as_str().to_owned(),
        message: code.message().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: RoomId = RoomId([1; 32]);

    fn ep(n: u8) -> EndpointId {
        EndpointId([n; 16])
    }

    fn blob(to: u8, blob: &[u8]) -> Outgoing {
        Outgoing {
            to: ep(to),
            blob: blob.to_vec(),
        }
    }

    fn message(from: u8, blob: &[u8]) -> Option<SignalingEvent> {
        Some(SignalingEvent::Message {
            from: ep(from),
            blob: blob.to_vec(),
        })
    }

    fn welcome(peers: &[u8]) -> Option<SignalingEvent> {
        Some(SignalingEvent::Welcome {
            peers: peers.iter().map(|&n| ep(n)).collect(),
        })
    }

    async fn join(hub: &MemorySignaling, n: u8) -> Membership {
        hub.join(ROOM, ep(n)).await.unwrap()
    }

    fn code(event: Option<SignalingEvent>) -> String {
        match event {
            Some(SignalingEvent::Error { code, .. }) => code,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn members_meet_talk_and_part() {
        let hub = MemorySignaling::new();
        let mut a = join(&hub, 1).await;
        let mut b = join(&hub.clone(), 2).await;
        a.send(blob(2, b"one")).unwrap();
        a.send(blob(2, b"two")).unwrap();
        assert_eq!(a.next().await, welcome(&[]));
        assert_eq!(a.next().await, Some(SignalingEvent::Joined(ep(2))));
        assert_eq!(b.next().await, welcome(&[1]));
        assert_eq!(b.next().await, message(1, b"one"));
        a.send(blob(2, b"three")).unwrap();
        drop(a);
        assert_eq!(b.next().await, message(1, b"two"));
        assert_eq!(b.next().await, message(1, b"three"));
        assert_eq!(b.next().await, Some(SignalingEvent::Left(ep(1))));
        drop(b);
        while !lock(&hub.rooms).0.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_relay_refuses_is_refused() {
        let hub = MemorySignaling::new();
        let mut a = join(&hub, 1).await;
        assert_eq!(a.next().await, welcome(&[]));
        let taken = hub.join(ROOM, ep(1)).await;
        assert!(
            matches!(taken, Err(SignalingError::Refused { code, .. }) if code == "duplicate_ep")
        );
        let elsewhere = hub.join(RoomId([2; 32]), ep(1)).await;
        assert_eq!(elsewhere.unwrap().next().await, welcome(&[]));
        for (to, bytes, expected) in [
            (9, 1, "unknown_peer"),
            (1, 1, "unknown_peer"),
            (9, MAX_BLOB + 1, "too_large"),
        ] {
            a.send(blob(to, &vec![0; bytes])).unwrap();
            assert_eq!(code(a.next().await), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_has_32_members() {
        let hub = MemorySignaling::new();
        let mut members = Vec::new();
        for n in 0..32 {
            members.push(join(&hub, n).await);
        }
        let full = hub.join(ROOM, ep(32)).await;
        assert!(matches!(full, Err(SignalingError::Refused { code, .. }) if code == "room_full"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_never_reads_is_lost_and_bounded() {
        let hub = MemorySignaling::new();
        let mut slow = join(&hub, 1).await;
        let mut fast = join(&hub, 2).await;
        assert_eq!(fast.next().await, welcome(&[1]));
        let gone = loop {
            while fast.send(blob(1, b"x")).is_ok() {}
            tokio::task::yield_now().await;
            let event = tokio::time::timeout(std::time::Duration::ZERO, fast.next()).await;
            if let Ok(Some(event)) = event {
                break event;
            }
        };
        assert!(matches!(
            gone,
            SignalingEvent::Left(_) | SignalingEvent::Error { .. }
        ));
        let mut events = Vec::new();
        while let Some(event) = slow.next().await {
            events.push(event);
        }
        assert!(matches!(events.last(), Some(SignalingEvent::Lost(_))));
        assert!(events.len() < 600);
    }
}
