//! What one message costs above and below the frame, without a network: a text of 64 bytes is encoded, queued and
//! numbered, batched, framed and sealed by one [`Machine`], then opened, split, delivered and decoded by the other, and
//! acknowledged. Nanoseconds and allocations per message of each step, and messages a second each way on one core.
//!
//! ```text
//! cargo bench --manifest-path benches/core/Cargo.toml --bench messages            # prints the table
//! cargo bench --manifest-path benches/core/Cargo.toml --bench messages -- --write # and puts it into docs/
//! ```

#![allow(missing_docs, clippy::print_stdout, clippy::panic)]

use std::{fmt::Write as _, time::Duration};

use bytes::{Bytes, BytesMut};
use sealwire::{
    Config, EndpointId, Identity, MinTrust, OsEntropy,
    message::{Content, Timestamp, decode, encode},
    protocol::{
        ChannelOffer, Event, HistoryUse, Input, LinkId, Machine, Meeting, Now, Output, Setup,
    },
};
use sealwire_benches::{Case, Figure, Spent, asked, compare, docs};

const ROUNDS: usize = 301;
/// Messages that wait for a link at a time.
const WAITING: usize = 2_000;
const TEXT: &str = "sixty-four bytes of text, as people type them into a small box..";
const STEPS: [&str; 6] = [
    "encode",
    "queue and number",
    "batch, frame, seal",
    "open, split, deliver",
    "decode",
    "acknowledge, both sides",
];
/// Which steps are the sender's, and which the receiver's; the acknowledgement is set to both.
const SENDING: [usize; 4] = [0, 1, 2, 5];
const RECEIVING: [usize; 3] = [3, 4, 5];

fn main() {
    let rounds = if asked("--test") { 1 } else { ROUNDS };
    let mut cases = [
        Case::new(
            "waiting messages share frames",
            WAITING,
            pass(Pair::meet(), WAITING),
        ),
        Case::new(
            "each message has a frame of its own",
            WAITING,
            pass(Pair::meet(), 1),
        ),
    ];
    let figures = compare(&mut cases, rounds);
    let mut table = String::from(
        "| per message of 64 B | batched: ns | allocations | alone: ns | allocations |\n|---|---|---|---|---|\n",
    );
    for (step, name) in STEPS.iter().enumerate() {
        write!(table, "| {name} |").expect("a string");
        for figures in &figures {
            let Figure {
                nanoseconds,
                allocations,
                ..
            } = figures[step];
            write!(table, " {nanoseconds:.0} | {allocations:.2} |").expect("a string");
        }
        table.push('\n');
    }
    for (name, steps) in [("sending", &SENDING[..]), ("receiving", &RECEIVING[..])] {
        write!(table, "| **{name}, million messages a second** |").expect("a string");
        for figures in &figures {
            let nanoseconds: f64 = steps.iter().map(|step| figures[*step].nanoseconds).sum();
            write!(table, " **{:.2}** | |", 1e3 / nanoseconds).expect("a string");
        }
        table.push('\n');
    }
    println!("{table}");
    if asked("--write") {
        docs::replace("benchmarks.md", "messages", &table);
    }
}

/// Takes so many messages through all steps, `together` at a time.
fn pass(mut pair: Pair, together: usize) -> impl FnMut(usize) -> [Spent; 6] {
    let content = Content::from(TEXT);
    move |count| {
        let mut spent = [Spent::default(); 6];
        if together > 1 {
            pair.pass(&content, count, &mut spent);
        } else {
            (0..count).for_each(|_| pair.pass(&content, 1, &mut spent));
        }
        spent
    }
}

struct Node {
    machine: Machine,
    out: Vec<Output>,
}

/// Two machines with an established session; node 0 sends.
struct Pair {
    nodes: [Node; 2],
    now: Now,
    bodies: Vec<Bytes>,
    frames: Vec<BytesMut>,
    delivered: Vec<Bytes>,
    outputs: Vec<Output>,
}

impl Pair {
    fn pass(&mut self, content: &Content, count: usize, spent: &mut [Spent; 6]) {
        let (now, [near, far]) = (self.now, &mut self.nodes);
        let (Some(near_link), Some(far_link)) = (near.machine.link(), far.machine.link()) else {
            panic!("a session");
        };
        let timestamp = Timestamp::from_unix_ms(now.unix_ms);
        self.bodies.reserve(count);
        spent[0].measure(|| {
            let body = || encode(content, timestamp).expect("text");
            self.bodies.extend((0..count).map(|_| body()));
        });
        spent[1].measure(|| {
            for body in self.bodies.drain(..) {
                near.machine
                    .handle(now, Input::Send { channel: 1, body }, &mut near.out);
            }
        });
        spent[2].measure(|| {
            let input = Input::LinkWritable {
                link: near_link,
                bytes: usize::MAX,
            };
            near.machine.handle(now, input, &mut near.out);
        });
        self.frames.clear();
        near.out.retain(|output| {
            let Output::LinkFrame {
                channel: 1, frame, ..
            } = output
            else {
                return true;
            };
            self.frames.push(BytesMut::from(frame.as_slice()));
            false
        });
        spent[3].measure(|| {
            for frame in self.frames.drain(..) {
                let input = Input::LinkFrame {
                    link: far_link,
                    channel: 1,
                    frame,
                };
                far.machine.handle(now, input, &mut far.out);
            }
        });
        self.delivered.clear();
        far.out.retain(|output| {
            let Output::Deliver { body, .. } = output else {
                return true;
            };
            self.delivered.push(body.clone());
            false
        });
        assert_eq!(self.delivered.len(), count);
        spent[4].measure(|| {
            for body in self.delivered.drain(..) {
                let (content, _) = decode(&body).expect("what was encoded");
                std::hint::black_box(&content);
            }
        });
        self.now.monotonic += Duration::from_millis(5);
        let now = self.now;
        spent[5].measure(|| {
            let taken = Input::Taken {
                channel: 1,
                messages: count as u64,
            };
            far.machine.handle(now, taken, &mut far.out);
            let later = Now {
                monotonic: now.monotonic + Duration::from_millis(5),
                ..now
            };
            far.machine.handle(later, Input::Tick, &mut far.out);
            for output in far.out.drain(..) {
                if let Output::LinkFrame { channel, frame, .. } = output {
                    let frame = BytesMut::from(frame.as_slice());
                    let input = Input::LinkFrame {
                        link: near_link,
                        channel,
                        frame,
                    };
                    near.machine.handle(later, input, &mut near.out);
                }
            }
        });
        self.now.monotonic += Duration::from_millis(5);
        self.settle();
    }

    /// What the machines have to say beside messages, new keys for example, goes back and forth. Not measured.
    fn settle(&mut self) {
        let mut quiet = false;
        while !std::mem::replace(&mut quiet, true) {
            for node in [0, 1] {
                // Neither vector gives up its memory: the steps are not to pay for it.
                let mut outputs = std::mem::take(&mut self.outputs);
                std::mem::swap(&mut outputs, &mut self.nodes[node].out);
                for output in outputs.drain(..) {
                    if let Output::LinkFrame { channel, frame, .. } = output {
                        let Node { machine, out } = &mut self.nodes[1 - node];
                        let link = machine.link().expect("a session");
                        let frame = BytesMut::from(frame.as_slice());
                        let input = Input::LinkFrame {
                            link,
                            channel,
                            frame,
                        };
                        machine.handle(self.now, input, out);
                        quiet = false;
                    }
                }
                self.outputs = outputs;
            }
        }
    }

    /// Two strangers meet in an open room.
    fn meet() -> Self {
        let node = || {
            let setup = Setup {
                config: Config::default(),
                identity: Identity::generate(),
                meeting: Meeting::Open {
                    room: "bench".into(),
                    pinned: None,
                },
                required: MinTrust::Unknown,
                channels: vec![ChannelOffer::main()],
                history: HistoryUse::Off,
            };
            let machine = Machine::new(setup, Box::new(OsEntropy)).expect("a valid setup");
            Node {
                machine,
                out: Vec::new(),
            }
        };
        let mut pair = Self {
            nodes: [node(), node()],
            now: Now {
                monotonic: Duration::from_secs(1),
                unix_ms: 1_790_000_000_000,
            },
            bodies: Vec::new(),
            frames: Vec::new(),
            delivered: Vec::new(),
            outputs: Vec::new(),
        };
        Rendezvous::default().run(&mut pair);
        pair
    }
}

/// The server and the network while two machines meet.
#[derive(Default)]
struct Rendezvous {
    endpoints: [Option<EndpointId>; 2],
    links: [Option<LinkId>; 2],
    established: [bool; 2],
}

impl Rendezvous {
    fn run(mut self, pair: &mut Pair) {
        let mut inputs = vec![(0, Input::Start), (1, Input::Start)];
        while !inputs.is_empty() {
            for (node, input) in std::mem::take(&mut inputs) {
                let Node { machine, out } = &mut pair.nodes[node];
                machine.handle(pair.now, input, out);
                for output in std::mem::take(out) {
                    self.carry_out(node, output, &mut inputs);
                }
            }
        }
        assert_eq!(self.established, [true; 2]);
    }

    fn carry_out(&mut self, node: usize, output: Output, inputs: &mut Vec<(usize, Input)>) {
        let other = 1 - node;
        match output {
            Output::Join { endpoint, .. } => {
                self.endpoints[node] = Some(endpoint);
                let peers = self.endpoints[other].into_iter().collect();
                inputs.push((node, Input::Welcome { peers }));
                if self.endpoints[other].is_some() {
                    inputs.push((other, Input::PeerJoined(endpoint)));
                }
            }
            Output::SendBlob { blob, .. } => {
                let from = self.endpoints[node].expect("a member");
                inputs.push((other, Input::Blob { from, blob }));
            }
            Output::OpenLink { link, offer, .. } => {
                self.links[node] = Some(link);
                let sdp = description(node, offer.is_some());
                let candidates = vec![format!(
                    "candidate:1 1 udp 1 127.0.0.1 {} typ host",
                    1_000 + node
                )];
                inputs.push((
                    node,
                    Input::LinkDescribed {
                        link,
                        sdp,
                        candidates,
                    },
                ));
            }
            Output::LinkAnswer { .. } => {
                for node in [0, 1] {
                    let link = self.links[node].expect("described");
                    let fingerprint = Some([1 - node as u8; 32]);
                    inputs.push((node, Input::LinkOpen { link, fingerprint }));
                }
            }
            Output::LinkFrame { channel, frame, .. } => {
                let link = self.links[other].expect("open");
                let frame = BytesMut::from(frame.as_slice());
                inputs.push((
                    other,
                    Input::LinkFrame {
                        link,
                        channel,
                        frame,
                    },
                ));
            }
            Output::Event(Event::Established { .. }) => self.established[node] = true,
            Output::Event(event) => println!("{event:?}"),
            _ => {}
        }
    }
}

fn description(node: usize, answer: bool) -> String {
    let fingerprint = vec![format!("{node:02X}"); 32].join(":");
    let setup = if answer { "active" } else { "actpass" };
    format!(
        "v=0\r\no=- {node} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=ice-ufrag:node{node}\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:{setup}\r\na=sctp-port:5000\r\na=max-message-size:65536\r\n"
    )
}
