//! Nodes that hear each other, or not.

use proptest::prelude::*;

use super::*;

const BEAT: Duration = Duration::from_secs(3);

fn entry(room: u8, n: u8) -> Entry {
    (RoomId([room; 32]), EndpointId([n; 16]))
}

/// Nodes that hear each other, and what each believes of the others.
struct World {
    now: Instant,
    nodes: Vec<(Presence, BTreeSet<(u64, Entry)>)>,
}

impl World {
    fn new(count: u64) -> Self {
        let node = |id| (Presence::new(NodeId(id), BEAT), BTreeSet::new());
        let mut world = Self {
            now: crate::server::now(),
            nodes: (0..count).map(node).collect(),
        };
        world.beat();
        world
    }

    fn publish(&mut self, outgoing: Outgoing) {
        let mut queue = vec![outgoing];
        while !queue.is_empty() {
            let (to, frame) = queue.remove(0);
            for at in 0..self.nodes.len() {
                let (presence, believed) = &mut self.nodes[at];
                if to == Destination::All || to == Destination::Node(presence.me) {
                    let effects = presence.receive(self.now, &frame);
                    queue.extend(effects.out);
                    believe(believed, effects.changes);
                }
            }
        }
    }

    fn beat(&mut self) {
        self.now += BEAT;
        for at in 0..self.nodes.len() {
            let beat = self.nodes[at].0.beat(Destination::All);
            self.publish(beat);
            let (presence, believed) = &mut self.nodes[at];
            believe(believed, presence.expire(self.now));
        }
    }

    /// Whether everybody believes what is true.
    fn agrees(&self) -> bool {
        self.nodes.iter().all(|(presence, believed)| {
            let others = self
                .nodes
                .iter()
                .filter(|(other, _)| other.me != presence.me);
            let truth = others.flat_map(|(other, _)| {
                other
                    .members
                    .entries
                    .iter()
                    .map(|entry| (other.me.0, *entry))
            });
            truth.collect::<BTreeSet<_>>() == *believed
        })
    }
}

fn believe(believed: &mut BTreeSet<(u64, Entry)>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Came(node, entry) => assert!(believed.insert((node.0, entry))),
            Change::Went(node, entry) => assert!(believed.remove(&(node.0, entry))),
        }
    }
}

#[test]
fn what_happens_on_one_node_is_known_to_all() {
    let mut world = World::new(3);
    for n in 0..10 {
        let joined = world.nodes[0].0.joined(entry(1, n));
        world.publish(joined);
    }
    assert!(world.agrees() && world.nodes[2].1.len() == 10);
    let left = world.nodes[0].0.left(entry(1, 5));
    world.publish(left);
    assert!(world.agrees() && world.nodes[1].1.len() == 9);
}

#[test]
fn a_node_that_is_silent_for_three_beats_is_gone_and_one_that_says_bye_at_once() {
    let mut world = World::new(3);
    for at in 1..3 {
        let joined = world.nodes[at].0.joined(entry(1, at as u8));
        world.publish(joined);
    }
    let bye = world.nodes[2].0.bye();
    world.nodes.truncate(2);
    world.publish(bye);
    assert!(world.agrees());
    world.nodes.truncate(1);
    world.beat();
    world.beat();
    assert_eq!(world.nodes[0].1.len(), 1);
    world.beat();
    assert!(world.agrees() && world.nodes[0].0.nodes.is_empty());
}

#[test]
fn a_node_that_dies_is_gone_within_three_beats_and_none_for_what_this_one_slept() {
    let mut world = World::new(2);
    let joined = world.nodes[1].0.joined(entry(1, 1));
    world.publish(joined);
    world.nodes.truncate(1);
    let (presence, _) = &mut world.nodes[0];
    let mut now = world.now;
    for _ in 0..MISSED * LOOKS - 2 {
        now += BEAT / LOOKS;
        assert_eq!(presence.expire(now), []);
    }
    let went = Change::Went(NodeId(1), entry(1, 1));
    assert_eq!(presence.expire(now + BEAT / LOOKS), [went]);

    let mut world = World::new(2);
    let joined = world.nodes[1].0.joined(entry(1, 1));
    world.publish(joined);
    let (presence, _) = &mut world.nodes[0];
    // Of a hundred beats it slept through, one counts.
    assert_eq!(presence.expire(world.now + 100 * BEAT), []);
    assert_eq!(presence.expire(world.now + 101 * BEAT), []);
    assert_eq!(presence.expire(world.now + 102 * BEAT).len(), 1);
}

#[test]
fn long_lists_come_in_parts() {
    let mut world = World::new(1);
    for n in 0..25_000_u32 {
        let mut ep = [0; 16];
        ep[..4].copy_from_slice(&n.to_be_bytes());
        world.nodes[0].0.joined((RoomId([1; 32]), EndpointId(ep)));
    }
    world
        .nodes
        .push((Presence::new(NodeId(1), BEAT), BTreeSet::new()));
    world.beat();
    assert!(world.agrees());
}

/// What `presence` hands on of these frames, one after the other.
fn texts(presence: &mut Presence, frames: &[&[u8]]) -> Vec<String> {
    let now = crate::server::now();
    let effects = frames.iter().map(|frame| presence.receive(now, frame));
    effects
        .flat_map(|effects| effects.relayed)
        .inspect(|message| assert_eq!((message.room, message.to), entry(3, 4)))
        .map(|message| message.text)
        .collect()
}

#[test]
fn relayed_texts_arrive_whole_and_damaged_ones_not_at_all() {
    let (one, mut other) = (
        Presence::new(NodeId(1), BEAT),
        Presence::new(NodeId(2), BEAT),
    );
    let (_, list) = one.lists(NodeId(2)).remove(0);
    let (to, frame) = one.relay(NodeId(2), entry(3, 4), "text");
    assert_eq!(to, Destination::Node(NodeId(2)));
    assert_eq!(texts(&mut other, &[&list, &frame]), ["text"]);
    for end in 0..1 + 8 + 8 + ENTRY {
        assert!(texts(&mut other, &[&frame[..end]]).is_empty());
    }
}

#[test]
fn a_message_that_overtakes_changes_waits_for_them_and_those_behind_it_too() {
    let (mut one, mut other) = (
        Presence::new(NodeId(1), BEAT),
        Presence::new(NodeId(2), BEAT),
    );
    let (_, list) = one.lists(NodeId(2)).remove(0);
    let (_, before) = one.relay(NodeId(2), entry(3, 4), "before");
    let (_, joined) = one.joined(entry(3, 5));
    let (_, first) = one.relay(NodeId(2), entry(3, 4), "first");
    let (_, second) = one.relay(NodeId(2), entry(3, 4), "second");
    let held = texts(&mut other, &[&before, &first, &second]);
    assert!(held.is_empty(), "nothing is known of that node");
    assert_eq!(texts(&mut other, &[&list]), ["before"]);
    assert_eq!(texts(&mut other, &[&joined]), ["first", "second"]);
    let flood = vec![&first[..]; HELD + 10];
    let mut stranger = Presence::new(NodeId(3), BEAT);
    assert!(texts(&mut stranger, &flood).is_empty());
    let (_, whole) = one.lists(NodeId(3)).remove(0);
    assert_eq!(texts(&mut stranger, &[&whole]).len(), HELD);
}

proptest! {
    #[test]
    fn whatever_is_lost_two_beats_make_it_up(
        ops in prop::collection::vec((0_usize..3, any::<bool>(), 0_u8..4, 0_u8..8, any::<bool>()), 0..100)
    ) {
        let mut world = World::new(3);
        for (at, comes, room, n, is_lost) in ops {
            let presence = &mut world.nodes[at].0;
            let entry = entry(room, n);
            if presence.members.entries.contains(&entry) == comes {
                continue;
            }
            let outgoing = if comes { presence.joined(entry) } else { presence.left(entry) };
            if !is_lost {
                world.publish(outgoing);
            }
        }
        world.beat();
        world.beat();
        prop_assert!(world.agrees());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(frames: Vec<Vec<u8>>) {
        let mut presence = Presence::new(NodeId(1), BEAT);
        for frame in frames {
            presence.receive(crate::server::now(), &frame);
        }
    }
}
