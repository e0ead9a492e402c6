//! Who is in which room on other nodes, as far as this one knows. Pure: time and bytes in, bytes and changes out.
//!
//! Each node tells all others what changes, with a number that grows by one, and beats: its number and a digest of all
//! its members. Whoever misses a number or computes another digest asks that node for its whole list. A node that is not
//! heard for three beats is gone with all its members. So what is lost between nodes is made up for within a beat, and
//! nothing is true for longer than three beats after it ended. A message carries the number too: it waits until the
//! changes that were told before it are known, for an engine keeps the order of each destination only.
//!
//! Rooms travel as hashes: their ids are secrets of those who meet there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::backplane::{Destination, NodeId};
use crate::room::{EndpointId, RoomId};

/// Beats without a word after which a node is gone.
const MISSED: u32 = 3;

/// How often in a beat the silence of nodes is to be looked at.
pub(super) const LOOKS: u32 = 4;

/// Nodes that are known at once.
const MAX_NODES: usize = 256;

/// Members in one part of a list: less than half a megabyte.
const PART: usize = 10_000;

/// Messages of one node that wait for a change; more are lost.
const HELD: usize = 256;

/// Bytes of a member: the hash of its room, and its name.
const ENTRY: usize = 32 + 16;

/// Somebody in a room, which is named by its hash.
pub(super) type Entry = (RoomId, EndpointId);

/// Bytes for other nodes.
pub(super) type Outgoing = (Destination, Vec<u8>);

/// What changed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Somebody is on this node.
    Came(NodeId, Entry),
    /// Somebody is not on this node any more.
    Went(NodeId, Entry),
}

/// A message for a member here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Relayed {
    pub(super) room: RoomId,
    pub(super) to: EndpointId,
    /// The envelope as text.
    pub(super) text: String,
}

/// What follows from what another node published: first the changes, then the messages.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) changes: Vec<Change>,
    pub(super) relayed: Vec<Relayed>,
    pub(super) out: Vec<Outgoing>,
}

/// What this node tells, and what it was told.
#[derive(Debug)]
pub(super) struct Presence {
    me: NodeId,
    beat: Duration,
    members: Members,
    nodes: BTreeMap<NodeId, Node>,
    looked_at: Option<Instant>,
}

/// The members of one node.
#[derive(Debug, Default)]
struct Members {
    /// The number of the last change.
    number: u64,
    digest: u64,
    entries: BTreeSet<Entry>,
}

/// Another node.
#[derive(Debug)]
struct Node {
    heard_at: Instant,
    members: Members,
    /// Whether its list came.
    is_complete: bool,
    asked_at: Option<Instant>,
    /// Parts of a list that is coming.
    parts: Vec<Entry>,
    next_part: u32,
    /// Messages that came before the change of this number.
    held: VecDeque<(u64, Relayed)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Join = 1,
    Leave = 2,
    Beat = 3,
    Ask = 4,
    List = 5,
    Bye = 6,
    Relay = 7,
}

impl Presence {
    pub(super) fn new(me: NodeId, beat: Duration) -> Self {
        Self {
            me,
            beat,
            members: Members::default(),
            nodes: BTreeMap::new(),
            looked_at: None,
        }
    }

    /// Somebody came here.
    pub(super) fn joined(&mut self, entry: Entry) -> Outgoing {
        self.members.add(entry);
        self.changed(Kind::Join, entry)
    }

    /// Somebody left here.
    pub(super) fn left(&mut self, entry: Entry) -> Outgoing {
        self.members.remove(entry);
        self.changed(Kind::Leave, entry)
    }

    /// A message of a member here for one on another node.
    pub(super) fn relay(&self, node: NodeId, (room, to): Entry, text: &str) -> Outgoing {
        let mut frame = self.frame(Kind::Relay);
        frame.extend_from_slice(&self.members.number.to_be_bytes());
        frame.extend_from_slice(&room.0);
        frame.extend_from_slice(&to.0);
        frame.extend_from_slice(text.as_bytes());
        (Destination::Node(node), frame)
    }

    /// The beat, for all or for one.
    pub(super) fn beat(&self, to: Destination) -> Outgoing {
        let mut frame = self.frame(Kind::Beat);
        frame.extend_from_slice(&self.members.number.to_be_bytes());
        frame.extend_from_slice(&self.members.digest.to_be_bytes());
        (to, frame)
    }

    /// This node stops.
    pub(super) fn bye(&self) -> Outgoing {
        (Destination::All, self.frame(Kind::Bye))
    }

    /// The members of nodes that have not been heard for three beats: less one look, so that a node that dies is gone
    /// three beats later at the latest. To be called [`LOOKS`] times a beat; when this process did nothing for longer
    /// than a beat, that is nobody's silence.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let since = self.looked_at.replace(now);
        let since = since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let asleep = since.saturating_sub(self.beat);
        let patience = self.beat * (MISSED * LOOKS - 1) / LOOKS;
        let is_gone = |node: &mut Node| {
            node.heard_at = now.min(node.heard_at + asleep);
            now.saturating_duration_since(node.heard_at) >= patience
        };
        let gone: Vec<NodeId> = self
            .nodes
            .iter_mut()
            .filter_map(|(id, node)| is_gone(node).then_some(*id))
            .collect();
        gone.into_iter().flat_map(|id| self.forget(id)).collect()
    }

    /// Reads what another node published. What is malformed is ignored: the digest tells if something is missing.
    pub(super) fn receive(&mut self, now: Instant, frame: &[u8]) -> Effects {
        let mut effects = Effects::default();
        let head = frame.split_first_chunk::<9>();
        if let Some(([kind, from @ ..], body)) = head {
            let from = NodeId(u64::from_be_bytes(*from));
            if from != self.me {
                self.read(now, from, (*kind, body), &mut effects);
            }
        }
        effects
    }

    fn read(&mut self, now: Instant, from: NodeId, (kind, body): (u8, &[u8]), to: &mut Effects) {
        if kind == Kind::Bye as u8 {
            to.changes.extend(self.forget(from));
            return;
        }
        let ask = self.frame(Kind::Ask);
        if !self.nodes.contains_key(&from) {
            if self.nodes.len() >= MAX_NODES {
                return;
            }
            self.nodes.insert(from, Node::new(now));
            to.out.push(self.beat(Destination::Node(from)));
        }
        let Some(node) = self.nodes.get_mut(&from) else {
            return;
        };
        node.heard_at = now;
        let is_known = match kind {
            kind if kind == Kind::Join as u8 || kind == Kind::Leave as u8 => {
                node.change(from, kind == Kind::Join as u8, body, &mut to.changes)
            }
            kind if kind == Kind::Beat as u8 => node.agrees(body),
            kind if kind == Kind::List as u8 => {
                node.list(from, body, &mut to.changes);
                true
            }
            kind if kind == Kind::Relay as u8 => {
                node.hold(body);
                true
            }
            _ => true,
        };
        node.release(&mut to.relayed);
        // Once a beat: the list may be on its way.
        if !is_known && node.may_ask(now, self.beat) {
            to.out.push((Destination::Node(from), ask));
        }
        if kind == Kind::Ask as u8 {
            to.out.extend(self.lists(from));
        }
    }

    fn changed(&self, kind: Kind, (room, ep): Entry) -> Outgoing {
        let mut frame = self.frame(kind);
        frame.extend_from_slice(&self.members.number.to_be_bytes());
        frame.extend_from_slice(&room.0);
        frame.extend_from_slice(&ep.0);
        (Destination::All, frame)
    }

    /// All members here, for `to`.
    fn lists(&self, to: NodeId) -> Vec<Outgoing> {
        let entries: Vec<Entry> = self.members.entries.iter().copied().collect();
        let parts = entries.len().div_ceil(PART).max(1);
        let part = |at: usize| {
            let mut frame = self.frame(Kind::List);
            frame.extend_from_slice(&self.members.number.to_be_bytes());
            frame.extend_from_slice(&(at as u32).to_be_bytes());
            frame.extend_from_slice(&(parts as u32).to_be_bytes());
            for (room, ep) in entries.iter().skip(at * PART).take(PART) {
                frame.extend_from_slice(&room.0);
                frame.extend_from_slice(&ep.0);
            }
            (Destination::Node(to), frame)
        };
        (0..parts).map(part).collect()
    }

    fn forget(&mut self, id: NodeId) -> Vec<Change> {
        let node = self.nodes.remove(&id);
        let entries = node.into_iter().flat_map(|node| node.members.entries);
        entries.map(|entry| Change::Went(id, entry)).collect()
    }

    fn frame(&self, kind: Kind) -> Vec<u8> {
        let mut frame = vec![kind as u8];
        frame.extend_from_slice(&self.me.0.to_be_bytes());
        frame
    }
}

impl Members {
    fn add(&mut self, entry: Entry) {
        self.number += 1;
        if self.entries.insert(entry) {
            self.digest ^= digest(&entry);
        }
    }

    fn remove(&mut self, entry: Entry) {
        self.number += 1;
        if self.entries.remove(&entry) {
            self.digest ^= digest(&entry);
        }
    }
}

impl Node {
    fn new(now: Instant) -> Self {
        Self {
            heard_at: now,
            members: Members::default(),
            is_complete: false,
            asked_at: None,
            parts: Vec::new(),
            next_part: 0,
            held: VecDeque::new(),
        }
    }

    fn hold(&mut self, body: &[u8]) {
        if self.held.len() < HELD
            && let Some(message) = relayed(body)
        {
            self.held.push_back(message);
        }
    }

    /// The messages whose senders' changes are known, in their order.
    fn release(&mut self, ready: &mut Vec<Relayed>) {
        let known = self.is_complete.then_some(self.members.number);
        while self
            .held
            .front()
            .is_some_and(|(number, _)| Some(*number) <= known)
        {
            ready.extend(self.held.pop_front().map(|(_, message)| message));
        }
    }

    /// Takes a change in. Whether nothing is missing.
    fn change(&mut self, id: NodeId, comes: bool, body: &[u8], changes: &mut Vec<Change>) -> bool {
        let Some((number, entry)) = body.split_first_chunk::<8>() else {
            return true;
        };
        let (number, Some(entry)) = (u64::from_be_bytes(*number), read_entry(entry)) else {
            return true;
        };
        if !self.is_complete || number > self.members.number + 1 {
            return false;
        }
        if number <= self.members.number {
            return true;
        }
        let was_there = self.members.entries.contains(&entry);
        if comes {
            self.members.add(entry);
        } else {
            self.members.remove(entry);
        }
        match (was_there, comes) {
            (false, true) => changes.push(Change::Came(id, entry)),
            (true, false) => changes.push(Change::Went(id, entry)),
            _ => {}
        }
        true
    }

    /// Whether a beat tells of what is known here.
    fn agrees(&self, body: &[u8]) -> bool {
        let known = [
            self.members.number.to_be_bytes(),
            self.members.digest.to_be_bytes(),
        ];
        self.is_complete && body == known.concat()
    }

    /// Takes a part of a list in; the last one replaces what was known.
    fn list(&mut self, id: NodeId, body: &[u8], changes: &mut Vec<Change>) {
        let Some((head, entries)) = body.split_first_chunk::<16>() else {
            return;
        };
        let [number, place] = [0, 8].map(|at| {
            let digits = head[at..at + 8].iter();
            digits.fold(0_u64, |n, &byte| n << 8 | u64::from(byte))
        });
        let (part, parts) = ((place >> 32) as u32, place as u32);
        if part == 0 {
            (self.parts, self.next_part) = (Vec::new(), 0);
        }
        if part != self.next_part {
            return;
        }
        self.next_part += 1;
        self.parts
            .extend(entries.chunks_exact(ENTRY).filter_map(read_entry));
        if self.next_part < parts {
            return;
        }
        let entries: BTreeSet<Entry> = std::mem::take(&mut self.parts).into_iter().collect();
        let went = self.members.entries.difference(&entries);
        changes.extend(went.map(|entry| Change::Went(id, *entry)));
        let came = entries.difference(&self.members.entries);
        changes.extend(came.map(|entry| Change::Came(id, *entry)));
        self.members = Members {
            number,
            digest: entries.iter().map(digest).fold(0, |all, one| all ^ one),
            entries,
        };
        self.is_complete = true;
    }

    fn may_ask(&mut self, now: Instant, beat: Duration) -> bool {
        let is_early = |asked_at| now.saturating_duration_since(asked_at) < beat / 2;
        if self.asked_at.is_some_and(is_early) {
            return false;
        }
        self.asked_at = Some(now);
        true
    }
}

/// A message and the number of the last change before it.
fn relayed(body: &[u8]) -> Option<(u64, Relayed)> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    let (entry, text) = rest.split_at_checked(ENTRY)?;
    let (room, to) = read_entry(entry)?;
    let text = std::str::from_utf8(text).ok()?.to_owned();
    Some((u64::from_be_bytes(*number), Relayed { room, to, text }))
}

fn read_entry(bytes: &[u8]) -> Option<Entry> {
    let (room, ep) = bytes.split_first_chunk::<32>()?;
    Some((RoomId(*room), EndpointId(ep.try_into().ok()?)))
}

/// FNV-1a. No adversary makes entries: names are mixed with the hash of a room, and nodes trust each other.
fn digest((room, ep): &Entry) -> u64 {
    let bytes = room.0.iter().chain(&ep.0);
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
