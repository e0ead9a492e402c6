//! What all connections share: the rooms, and what is counted and allowed.
//!
//! Everything that changes a room is told its members under the lock of that room, so a welcome reaches its client
//! before anybody else can find that client, and everybody hears of changes in the order in which they happened.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use sha2::{Digest as _, Sha256};

use super::{
    backplane::NodeId,
    cluster::Cluster,
    farewell::Farewell,
    guests::{Guests, Lease, RoomLimit, Visit},
    limits::ServerLimits,
    line::{Line, Pushed},
    metrics::Metrics,
    options::ServerOptions,
    presence::Relayed,
    registry::Registry,
    rooms::{Member, NotLetIn, Rooms},
    websocket::{self, Kind, MAX_SERVER_HEADER},
};
use crate::{
    config::IceServer,
    entropy::{self, OsEntropy},
    room::{EndpointId, RoomId},
    signaling::envelope::{Blob, ErrorCode, MAX_MEMBERS, ServerEnvelope},
};

/// Parts of the rooms with a lock each. A power of 2.
const SHARDS: usize = 64;

/// Members of a legacy room: three such clients destroy each other's connections.
const LEGACY_MEMBERS: usize = 2;

/// What the id of a room is hashed with before other servers see it.
const CLUSTER_DOMAIN: &[u8] = b"sealwire cluster room\0";

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) limits: ServerLimits,
    pub(super) options: ServerOptions,
    pub(super) guests: Arc<Guests>,
    pub(super) registry: Registry,
    pub(super) metrics: Metrics,
    pub(super) is_stopping: AtomicBool,
    rooms: Shards,
    /// The other servers that act as one with this one.
    pub(super) cluster: Option<Cluster>,
    /// Of another kind than the others: their members speak no envelopes.
    legacy_rooms: Shards,
    /// The next name for a member of a legacy room, which has none of its own.
    next_legacy: AtomicU64,
}

/// Where a member is.
#[derive(Debug, Clone)]
enum Mailbox {
    Here(Arc<Line>),
    There(NodeId),
}

/// A room that somebody on another node made is counted there.
type Members = Rooms<Mailbox, Option<Lease>>;

type Shards = Vec<Mutex<Members>>;

/// A client's place in a room, by the name that the room has in here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seat {
    pub(super) room: RoomId,
    pub(super) ep: EndpointId,
}

/// Why a client is not in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotJoined {
    /// It may try again.
    Error(ErrorCode),
    /// It has to go.
    End(Farewell),
}

thread_local! {
    /// Where frames are made.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Hub {
    pub(super) fn new(limits: ServerLimits, options: ServerOptions) -> Self {
        let capacity = limits.members.min(MAX_MEMBERS);
        let engine = options.backplane.clone();
        let beat = options.node_beat;
        Self {
            cluster: engine.map(|engine| Cluster::new(engine, random_node(), beat)),
            rooms: shards(capacity),
            legacy_rooms: shards(LEGACY_MEMBERS),
            next_legacy: AtomicU64::new(0),
            limits,
            options,
            guests: Arc::default(),
            registry: Registry::default(),
            metrics: Metrics::default(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Lets a client into a room, with a welcome for it and a word to the others.
    ///
    /// # Errors
    /// [`ErrorCode::DuplicateEp`], [`ErrorCode::RoomFull`], or the limit that is reached.
    pub(super) fn join(
        &self,
        room: RoomId,
        ep: EndpointId,
        line: &Arc<Line>,
        visit: &Visit,
    ) -> Result<Seat, NotJoined> {
        let room = self.key(room);
        let mut rooms = lock(&self.rooms, room);
        let own = || visit.lease(&self.limits).map(Some);
        let others = rooms.join(room, ep, Mailbox::Here(Arc::clone(line)), own)?;
        let peers = others.iter().map(|member| member.ep).collect();
        let ice = self.ice_servers(ep);
        with_frame(&ServerEnvelope::Welcome { peers, ice }, |frame| {
            self.push(line, frame);
        });
        self.tell(others, &ServerEnvelope::Joined { ep });
        if let Some(cluster) = &self.cluster {
            cluster.joined((room, ep));
        }
        self.metrics.joins.fetch_add(1, Relaxed);
        Ok(Seat { room, ep })
    }

    /// Gives a place up and tells the others.
    pub(super) fn leave(&self, Seat { room, ep }: Seat) {
        let mut rooms = lock(&self.rooms, room);
        let others = rooms.leave(room, ep);
        self.tell(others, &ServerEnvelope::Left { ep });
        if let Some(cluster) = &self.cluster {
            cluster.left((room, ep));
        }
    }

    /// Hands a blob that was read at `read_at` to another member.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownPeer`].
    pub(super) fn send(
        &self,
        Seat { room, ep }: Seat,
        to: EndpointId,
        blob: Blob<'_>,
        read_at: Instant,
    ) -> Result<(), ErrorCode> {
        let mailbox = lock(&self.rooms, room).route(room, ep, to)?.clone();
        let message = ServerEnvelope::Message { from: ep, blob };
        let relayed = |bytes| {
            let after = super::now().saturating_duration_since(read_at);
            self.metrics.relayed(bytes, after);
        };
        match mailbox {
            Mailbox::Here(line) => with_frame(&message, |frame| {
                self.push(&line, frame);
                relayed(frame.len());
            }),
            Mailbox::There(node) => {
                let text = message.encode();
                let cluster = self.cluster.as_ref().ok_or(ErrorCode::UnknownPeer)?;
                // What cannot be sent on now is not dropped silently.
                if !cluster.relay(node, (room, to), &text) {
                    return Err(ErrorCode::UnknownPeer);
                }
                relayed(text.len());
            }
        }
        Ok(())
    }

    /// Somebody came on another node.
    pub(super) fn came(&self, node: NodeId, room: RoomId, ep: EndpointId) {
        let mut rooms = lock(&self.rooms, room);
        let own = || Ok::<_, RoomLimit>(None);
        // One name on two nodes at once: each knows its own.
        if let Ok(others) = rooms.join(room, ep, Mailbox::There(node), own) {
            self.tell(others, &ServerEnvelope::Joined { ep });
        }
    }

    /// Somebody left on another node.
    pub(super) fn went(&self, node: NodeId, room: RoomId, ep: EndpointId) {
        let mut rooms = lock(&self.rooms, room);
        let mut members = rooms.members(room).iter();
        let is_there =
            |mailbox: &Mailbox| matches!(mailbox, Mailbox::There(other) if *other == node);
        if members.any(|member| member.ep == ep && is_there(&member.mailbox)) {
            let others = rooms.leave(room, ep);
            self.tell(others, &ServerEnvelope::Left { ep });
        }
    }

    /// Hands on what another node sent for somebody here.
    pub(super) fn deliver(&self, message: &Relayed, read_at: Instant) {
        let Relayed { room, to, text } = message;
        let Ok(ServerEnvelope::Message { .. }) = ServerEnvelope::decode(text) else {
            return;
        };
        let rooms = lock(&self.rooms, *room);
        let mut members = rooms.members(*room).iter();
        let receiver = members.find(|member| member.ep == *to);
        let Some(Mailbox::Here(line)) = receiver.map(|member| member.mailbox.clone()) else {
            return;
        };
        drop(rooms);
        with_text(
            |out| out.extend_from_slice(text.as_bytes()),
            |frame| {
                self.push(&line, frame);
                let after = super::now().saturating_duration_since(read_at);
                self.metrics.relayed(frame.len(), after);
            },
        );
    }

    /// Tells a client something about its own request.
    pub(super) fn answer(&self, line: &Line, envelope: &ServerEnvelope<'_>) {
        with_frame(envelope, |frame| self.push(line, frame));
    }

    /// Sends a frame.
    pub(super) fn push(&self, line: &Line, frame: &[u8]) {
        if let Pushed::Queued(bytes) = line.push(frame) {
            self.metrics.queued(bytes);
        }
    }

    fn ice_servers(&self, ep: EndpointId) -> Vec<IceServer> {
        let [a, b, c, d, ..] = ep.0;
        let name = format!("{:08x}", u32::from_be_bytes([a, b, c, d]));
        let turn = self.options.turn.as_ref();
        turn.map_or_else(Vec::new, |turn| turn.credentials(super::unix_now(), &name))
    }

    /// Tells the members that are here.
    fn tell(&self, members: &[Member<Mailbox>], envelope: &ServerEnvelope<'_>) {
        if members.is_empty() {
            return;
        }
        with_frame(envelope, |frame| {
            for member in members {
                if let Mailbox::Here(line) = &member.mailbox {
                    self.push(line, frame);
                }
            }
        });
    }

    /// What a room is called in here: among several servers its hash, since its id is a secret of its members.
    fn key(&self, room: RoomId) -> RoomId {
        match self.cluster {
            Some(_) => RoomId(Sha256::digest([CLUSTER_DOMAIN, &room.0].concat()).into()),
            None => room,
        }
    }

    /// Lets a client into a legacy room, of which nobody is told.
    ///
    /// # Errors
    /// [`Farewell::LegacyFull`], or the limit that is reached.
    pub(super) fn join_legacy(
        &self,
        room: RoomId,
        line: &Arc<Line>,
        visit: &Visit,
    ) -> Result<Seat, Farewell> {
        let mut name = [0; 16];
        let number = self.next_legacy.fetch_add(1, Relaxed);
        name[8..].copy_from_slice(&number.to_be_bytes());
        let ep = EndpointId(name);
        let own = || visit.lease(&self.limits).map(Some);
        let mut rooms = lock(&self.legacy_rooms, room);
        match rooms
            .join(room, ep, Mailbox::Here(Arc::clone(line)), own)
            .map(|_| ())
        {
            Ok(()) => {
                self.metrics.joins.fetch_add(1, Relaxed);
                Ok(Seat { room, ep })
            }
            Err(refused) => Err(match NotJoined::from(refused) {
                NotJoined::Error(_) => Farewell::LegacyFull,
                NotJoined::End(farewell) => farewell,
            }),
        }
    }

    /// Gives a place in a legacy room up.
    pub(super) fn leave_legacy(&self, Seat { room, ep }: Seat) {
        lock(&self.legacy_rooms, room).leave(room, ep);
    }

    /// Hands a text to the other member of a legacy room, if there is one.
    pub(super) fn relay_legacy(&self, Seat { room, ep }: Seat, text: &str, read_at: Instant) {
        let rooms = lock(&self.legacy_rooms, room);
        let mut members = rooms.members(room).iter();
        let other = members.find(|member| member.ep != ep);
        let Some(Mailbox::Here(line)) = other.map(|other| other.mailbox.clone()) else {
            return;
        };
        drop(rooms);
        let write = |out: &mut Vec<u8>| out.extend_from_slice(text.as_bytes());
        with_text(write, |frame| {
            self.push(&line, frame);
            let after = super::now().saturating_duration_since(read_at);
            self.metrics.relayed(frame.len(), after);
        });
    }
}

fn random_node() -> NodeId {
    NodeId(u64::from_be_bytes(entropy::random(&mut OsEntropy)))
}

fn shards(capacity: usize) -> Shards {
    let rooms = (0..SHARDS).map(|_| Mutex::new(Rooms::new(capacity)));
    rooms.collect()
}

/// Nothing that can panic runs half way through a change, so a poisoned lock would still guard sound rooms.
fn lock(shards: &Shards, room: RoomId) -> MutexGuard<'_, Members> {
    let rooms = &shards[usize::from(room.0[0]) % SHARDS];
    rooms.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<NotLetIn<RoomLimit>> for NotJoined {
    fn from(refused: NotLetIn<RoomLimit>) -> Self {
        match refused {
            NotLetIn::Code(code) => Self::Error(code),
            NotLetIn::NoRoom(RoomLimit::All) => Self::End(Farewell::TooManyRooms),
            NotLetIn::NoRoom(RoomLimit::Address) => Self::End(Farewell::TooManyRoomsOfAddress),
        }
    }
}

/// Makes the text frame of an envelope.
fn with_frame<R>(envelope: &ServerEnvelope<'_>, send: impl FnOnce(&[u8]) -> R) -> R {
    with_text(|out| envelope.encode_to(out), send)
}

/// Makes a text frame, header and all, in memory that the thread keeps: sending it is one call of the system.
fn with_text<R>(write: impl FnOnce(&mut Vec<u8>), send: impl FnOnce(&[u8]) -> R) -> R {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.resize(MAX_SERVER_HEADER, 0);
        write(scratch);
        let (header, start) = websocket::header(Kind::Text, scratch.len() - MAX_SERVER_HEADER);
        scratch[start..MAX_SERVER_HEADER].copy_from_slice(&header[start..]);
        send(&scratch[start..])
    })
}
