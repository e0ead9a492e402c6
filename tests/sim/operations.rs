//! Two machines driven by a list of bytes: what is sent, what breaks, what the server and the wire do. The fuzzer writes
//! the list; the tests replay those worth keeping.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use sealwire::{
    MinTrust,
    protocol::{ChannelOffer, Delivery, Input, Meeting},
};

use super::world::{Hostile, Letter, Packet, Told, World, parse};

/// Operations of one list, at most: beyond, a run says nothing new.
const MAX_OPERATIONS: usize = 200;
/// A channel that may lose frames.
const LOSSY: u8 = 3;

/// What happens to the next piece of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Drop,
    Double,
    Flip(u8),
    Delay(u8),
}

#[derive(Debug, Default)]
struct Plan {
    wire: Option<Fate>,
    relay: Option<Fate>,
}

/// A server and a wire that do as planned, once each.
struct Planned(Rc<RefCell<Plan>>);

impl Hostile for Planned {
    fn relay(&mut self, mut letter: Letter) -> Vec<Letter> {
        match self.0.borrow_mut().relay.take() {
            None => vec![letter],
            Some(Fate::Drop) => Vec::new(),
            Some(Fate::Double) => vec![letter.clone(), letter],
            Some(Fate::Flip(at)) => {
                if let Told::Blob { blob, .. } = &mut letter.told {
                    flip(blob, at);
                }
                vec![letter]
            }
            Some(Fate::Delay(by)) => {
                letter.delay += Duration::from_millis(u64::from(by) * 40);
                vec![letter]
            }
        }
    }

    fn wire(&mut self, mut packet: Packet) -> Vec<Packet> {
        match self.0.borrow_mut().wire.take() {
            None => vec![packet],
            Some(Fate::Drop) => Vec::new(),
            Some(Fate::Double) => vec![packet.clone(), packet],
            Some(Fate::Flip(at)) => {
                flip(&mut packet.frame, at);
                vec![packet]
            }
            Some(Fate::Delay(by)) => {
                packet.delay += Duration::from_millis(u64::from(by));
                vec![packet]
            }
        }
    }
}

fn flip(bytes: &mut [u8], at: u8) {
    let at = usize::from(at) * 37 % bytes.len().max(1);
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << (at % 8);
    }
}

/// What was sent, and whether everything has to arrive.
#[derive(Debug, Default)]
struct Sent {
    reliable: [u32; 4],
    lossy: [u32; 2],
    /// Nothing happens that ends a session: everything has to arrive.
    gentle: bool,
    /// The wire broke the order of a reliable channel, or somebody closed: the session may end early.
    broken: bool,
}

/// Runs the operations and checks what must hold whatever they are.
pub fn run(data: &[u8]) {
    let Some((&seed, data)) = data.split_first() else {
        return;
    };
    let plan = Rc::new(RefCell::new(Plan::default()));
    let mut world = World::with(u64::from(seed), Planned(Rc::clone(&plan)));
    begin(&mut world, seed);
    let mut sent = Sent {
        gentle: seed & 2 == 0,
        ..Sent::default()
    };
    for operation in data.chunks_exact(2).take(MAX_OPERATIONS) {
        operate(&mut world, &plan, &mut sent, (operation[0], operation[1]));
    }
    plan.replace(Plan::default());
    for node in 0..2 {
        world.nodes[node].takes = true;
        world.give(node, Input::Resume);
        drain(&mut world, node);
    }
    world.run(Duration::from_secs(120));
    for node in 0..2 {
        drain(&mut world, node);
    }
    world.run(Duration::from_secs(5));
    check(&world, &sent);
}

fn begin(world: &mut World<'_>, seed: u8) {
    let more = |id, delivery, label: &str| ChannelOffer {
        id,
        delivery,
        label: label.into(),
    };
    world.channels.extend([
        more(2, Delivery::Reliable, "second"),
        more(LOSSY, Delivery::Lossy, "lossy"),
    ]);
    if seed & 1 == 0 {
        world.add_open("lobby");
        world.add_open("lobby");
    } else {
        let (inviter, redeemer) = (world.identity(), world.identity());
        let text = world.invite(&inviter);
        world.add(inviter, Meeting::Invite(parse(&text)), MinTrust::Invited);
        world.add(redeemer, Meeting::Redeem(parse(&text)), MinTrust::Invited);
    }
    world.establish();
}

fn operate(world: &mut World<'_>, plan: &RefCell<Plan>, sent: &mut Sent, (what, how): (u8, u8)) {
    let node = usize::from(how & 1);
    let fate = match how >> 1 & 3 {
        0 => Fate::Drop,
        1 => Fate::Double,
        2 => Fate::Flip(how),
        _ => Fate::Delay(how),
    };
    match what % 16 {
        0..=3 => send_reliable(world, sent, how),
        4 | 5 => send_lossy(world, sent, node),
        6 => world.steps(u64::from(how)),
        7 => world.run(Duration::from_millis(u64::from(how) * 8)),
        8 => world.give(node, Input::Rekey),
        9 => world.cut(node),
        10 => world.cut_one(node),
        11 => {
            world.give(node, Input::Suspend);
            world.steps(u64::from(how));
            world.give(node, Input::Resume);
        }
        12 => {
            // A frame of a reliable channel that is lost, doubled or changed ends the session at its receiver.
            let fate = if sent.gentle { Fate::Delay(how) } else { fate };
            plan.borrow_mut().wire = Some(fate);
            sent.broken |= !matches!(fate, Fate::Delay(_));
        }
        13 => plan.borrow_mut().relay = Some(fate),
        14 => {
            world.nodes[node].takes = how & 2 == 0;
            drain(world, node);
        }
        _ => match how % 32 {
            0 if !sent.gentle => {
                world.close(node);
                sent.broken = true;
            }
            1..=10 => world.give(node, Input::Compare),
            11..=20 => world.give(node, Input::Pair),
            _ => world.cut_signaling(node),
        },
    }
}

fn send_reliable(world: &mut World<'_>, sent: &mut Sent, how: u8) {
    let lane = usize::from(how & 3);
    let (node, channel) = (lane % 2, 1 + (lane / 2) as u8);
    // Bounded, so that what waits stays within the window: a host would wait there.
    if sent.reliable[lane] >= 400 {
        return;
    }
    let mut body = sent.reliable[lane].to_be_bytes().to_vec();
    let len = match how >> 2 {
        63 => 150_000,
        small => usize::from(small) * 3,
    };
    body.resize(
        4 + len.min(if sent.reliable[lane] > 40 { 300 } else { len }),
        7,
    );
    sent.reliable[lane] += 1;
    world.give(
        node,
        Input::Send {
            channel,
            body: body.into(),
        },
    );
    world.flush(node);
}

fn send_lossy(world: &mut World<'_>, sent: &mut Sent, node: usize) {
    let body = sent.lossy[node].to_be_bytes().to_vec();
    sent.lossy[node] += 1;
    world.give(
        node,
        Input::Send {
            channel: LOSSY,
            body: body.into(),
        },
    );
    world.flush(node);
}

/// The host takes what waits for it.
fn drain(world: &mut World<'_>, node: usize) {
    for channel in [1, 2] {
        for _ in 0..world.nodes[node].messages.len() {
            world.take(node, channel);
        }
    }
    world.flush(node);
}

#[track_caller]
fn check(world: &World<'_>, sent: &Sent) {
    let number = |body: &[u8]| u32::from_be_bytes(body[..4].try_into().expect("a number"));
    for lane in 0..4 {
        let (node, channel) = (lane % 2, 1 + (lane / 2) as u8);
        let arrived: Vec<u32> = world.nodes[1 - node]
            .messages
            .iter()
            .filter(|(on, ..)| *on == channel)
            .map(|(.., body)| number(body))
            .collect();
        let expected: Vec<u32> = (0..arrived.len() as u32).collect();
        assert_eq!(arrived, expected, "each once and in order, on lane {lane}");
        assert!(arrived.len() as u32 <= sent.reliable[lane]);
        let ended = world.nodes.iter().any(|node| node.machine.is_ended());
        assert!(
            sent.broken || ended || arrived.len() as u32 == sent.reliable[lane],
            "{} of {} on lane {lane}",
            arrived.len(),
            sent.reliable[lane]
        );
        assert!(
            sent.broken || !ended,
            "nobody broke it: {:?} {:?}",
            world.failure(0),
            world.failure(1)
        );
    }
    for node in 0..2 {
        let datagrams = world.nodes[1 - node].datagrams.iter();
        let arrived: Vec<u32> = datagrams.map(|(_, body)| number(body)).collect();
        let once: BTreeSet<u32> = arrived.iter().copied().collect();
        assert_eq!(once.len(), arrived.len(), "each at most once");
        assert!(once.iter().all(|number| *number < sent.lossy[node]));
    }
}
