//! One endpoint of the crate for `tests/interop/`: the machine behind standard input and output, without network or clock.
//!
//! One JSON object a line comes in ([`Command`]), and one JSON list a line of what came of it goes out ([`Endpoint`]
//! says which objects there are). Bytes are hexadecimal. Descriptions have a fixed text; links and time are whatever
//! the other side of the pipe says.

#![allow(
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a program that talks over standard output"
)]

use std::{
    error::Error,
    io::{BufRead as _, Write as _},
    time::Duration,
};

use bytes::BytesMut;
use sealwire::{
    CloseCode, Config, EndpointId, Identity, Invite, MinTrust, OsEntropy, PlainSignaling,
    protocol::{
        ChannelOffer, Event, HistoryUse, Input, LinkId, Machine, Meeting, Now, Output, Setup,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Unix time at the start, in milliseconds.
const START_MS: u64 = 1_790_000_000_000;
/// Bytes that the link takes at a time.
const WRITABLE: usize = 1 << 20;

/// What may come in.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Command {
    /// The first line: which meeting, and what this side's stack would say of itself.
    Start {
        #[serde(flatten)]
        at: Place,
        fingerprint: String,
        candidates: Vec<String>,
    },
    /// `ep` is in the room.
    Meet { ep: String },
    /// A blob came through the server.
    Blob { from: String, blob: String },
    /// The link found another candidate.
    Candidate { candidate: String },
    /// All channels of the link are open.
    Open { fingerprint: String },
    /// A frame came over the link.
    Frame { ch: u8, frame: String },
    /// The link was ended by the other side.
    Lost,
    /// The host sends these messages at once.
    Send { ch: u8, bodies: Vec<String> },
    /// The host asks for new keys.
    Rekey,
    /// The host closes.
    Close { code: u8 },
    /// Time goes on.
    Pass { ms: u64 },
}

/// Where to meet whom.
#[derive(Debug, Deserialize)]
#[serde(tag = "meeting", rename_all = "snake_case")]
enum Place {
    /// Anybody, in the room of this name.
    Open { room: String },
    /// Whoever redeems an invite, which the first answer holds.
    Invite { server: String },
    /// The maker of this invite.
    Redeem { invite: String },
}

fn main() -> Outcome {
    let mut lines = std::io::stdin().lock().lines();
    let first = lines.next().ok_or("no command to start with")??;
    let Command::Start {
        at,
        fingerprint,
        candidates,
    } = serde_json::from_str(&first)?
    else {
        return Err("the first command is `start`".into());
    };
    let (mut endpoint, answer) = Endpoint::start(at, fingerprint, candidates)?;
    print(&answer)?;
    for line in lines {
        let command = serde_json::from_str(&line?)?;
        let answer = endpoint.obey(command)?;
        print(&answer)?;
    }
    Ok(())
}

fn print(answer: &[Value]) -> Outcome {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// The machine, and a link that exists in words only.
struct Endpoint {
    machine: Machine,
    now: Duration,
    link: Option<LinkId>,
    is_open: bool,
    /// What came before the link was open: it waits, as in the crate's transports.
    early: Vec<(u8, BytesMut)>,
    fingerprint: String,
    candidates: Vec<String>,
}

impl Endpoint {
    /// The endpoint in its room, and the first answer: its key, the invite if it made one, and the room.
    fn start(
        at: Place,
        fingerprint: String,
        candidates: Vec<String>,
    ) -> Outcome<(Self, Vec<Value>)> {
        let identity = Identity::generate();
        let mut answer = vec![json!({ "key": identity.peer_id() })];
        let (meeting, required) = match at {
            Place::Open { room } => (Meeting::Open { room, pinned: None }, MinTrust::Unknown),
            Place::Invite { server } => {
                let invite = invite(&identity, &server)?;
                answer.push(json!({ "invite": invite.to_string() }));
                (Meeting::Invite(invite), MinTrust::Invited)
            }
            Place::Redeem { invite } => (Meeting::Redeem(invite.parse()?), MinTrust::Invited),
        };
        let setup = Setup {
            config: Config::default(),
            identity,
            meeting,
            required,
            channels: vec![ChannelOffer::main()],
            history: HistoryUse::Off,
        };
        let mut endpoint = Self {
            machine: Machine::new(setup, Box::new(OsEntropy))?,
            now: Duration::from_secs(1),
            link: None,
            is_open: false,
            early: Vec::new(),
            fingerprint,
            candidates,
        };
        endpoint.give(Input::Start, &mut answer);
        Ok((endpoint, answer))
    }

    fn obey(&mut self, command: Command) -> Outcome<Vec<Value>> {
        let mut answer = Vec::new();
        match command {
            Command::Start { .. } => return Err("already started".into()),
            Command::Meet { ep } => {
                let peers = vec![EndpointId(array(&ep)?)];
                self.give(Input::Welcome { peers }, &mut answer);
            }
            Command::Blob { from, blob } => {
                let (from, blob) = (EndpointId(array(&from)?), bytes(&blob)?);
                self.give(Input::Blob { from, blob }, &mut answer);
            }
            Command::Candidate { candidate } => {
                let link = self.link()?;
                self.give(Input::LinkCandidate { link, candidate }, &mut answer);
            }
            Command::Open { fingerprint } => {
                let (link, digest) = (self.link()?, array(&fingerprint.replace(':', ""))?);
                let fingerprint = Some(digest);
                self.give(Input::LinkOpen { link, fingerprint }, &mut answer);
                self.is_open = true;
                for (channel, frame) in std::mem::take(&mut self.early) {
                    self.frame(channel, frame, &mut answer)?;
                }
            }
            Command::Frame { ch, frame } => {
                let frame = BytesMut::from(bytes(&frame)?.as_slice());
                if self.is_open {
                    self.frame(ch, frame, &mut answer)?;
                } else {
                    self.early.push((ch, frame));
                }
            }
            Command::Lost => {
                let link = self.link()?;
                self.give(Input::LinkClosed { link, reason: None }, &mut answer);
            }
            Command::Send {
                ch: channel,
                bodies,
            } => {
                for body in bodies {
                    let body = bytes(&body)?.into();
                    self.give(Input::Send { channel, body }, &mut answer);
                }
            }
            Command::Rekey => self.give(Input::Rekey, &mut answer),
            Command::Close { code } => {
                let (code, reason) = (CloseCode::from_wire(code), "done".into());
                self.give(Input::Close { code, reason }, &mut answer);
            }
            Command::Pass { ms } => self.pass(Duration::from_millis(ms), &mut answer),
        }
        self.write(&mut answer);
        Ok(answer)
    }

    fn frame(&mut self, channel: u8, frame: BytesMut, answer: &mut Vec<Value>) -> Outcome {
        let link = self.link()?;
        let input = Input::LinkFrame {
            link,
            channel,
            frame,
        };
        self.give(input, answer);
        Ok(())
    }

    fn link(&self) -> Outcome<LinkId> {
        Ok(self.link.ok_or("there is no link")?)
    }

    /// Calls the machine at each of its times.
    fn pass(&mut self, span: Duration, answer: &mut Vec<Value>) {
        let end = self.now + span;
        while let Some((at, _)) = self.machine.next_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Tick, answer);
            self.write(answer);
        }
        self.now = end;
    }

    /// Lets out what waits, as many messages a frame as fit.
    fn write(&mut self, answer: &mut Vec<Value>) {
        while self.machine.wants_write() {
            let Some(link) = self.machine.link() else {
                return;
            };
            let bytes = WRITABLE;
            self.give(Input::LinkWritable { link, bytes }, answer);
        }
    }

    fn give(&mut self, input: Input, answer: &mut Vec<Value>) {
        let now = Now {
            monotonic: self.now,
            unix_ms: START_MS + u64::try_from(self.now.as_millis()).unwrap_or(u64::MAX),
        };
        let mut outputs = Vec::new();
        self.machine.handle(now, input, &mut outputs);
        for output in outputs {
            self.carry_out(output, answer);
        }
    }

    fn carry_out(&mut self, output: Output, answer: &mut Vec<Value>) {
        match output {
            Output::Join { room, endpoint } => {
                answer.push(json!({ "room": hex(&room.0), "ep": hex(&endpoint.0) }));
            }
            Output::SendBlob { to, blob } => {
                answer.push(json!({ "to": hex(&to.0), "blob": hex(&blob) }));
            }
            Output::OpenLink { link, offer, .. } => self.describe(link, offer, answer),
            Output::LinkAnswer { sdp, .. } => answer.push(json!({ "described": sdp })),
            Output::LinkCandidate { candidate, .. } => {
                answer.push(json!({ "candidate": candidate }));
            }
            Output::LinkFrame { channel, frame, .. } => {
                answer.push(json!({ "ch": channel, "frame": hex(&frame) }));
            }
            Output::CloseLink { .. } => answer.push(json!({ "closeLink": true })),
            Output::Deliver { channel, body, .. } => {
                answer.push(json!({ "event": "message", "ch": channel, "body": hex(&body) }));
                let messages = 1;
                self.give(Input::Taken { channel, messages }, answer);
            }
            Output::Acknowledged { channel, next } => {
                answer.push(json!({ "event": "acked", "ch": channel, "next": next }));
            }
            Output::Rekeyed { epoch } => {
                answer.push(json!({ "event": "rekeyed", "epoch": epoch }));
            }
            Output::Discard => self.give(Input::Discarded, answer),
            Output::Event(event) => answer.push(report(&event)),
            // What else there is concerns the server, and a second transport: neither is here.
            _ => {}
        }
    }

    /// Makes the link's description at once, which names the one channel that the machine asks for nowhere else.
    fn describe(&mut self, link: LinkId, offer: Option<String>, answer: &mut Vec<Value>) {
        self.link = Some(link);
        let setup = if offer.is_some() { "active" } else { "actpass" };
        answer.extend(offer.map(|offer| json!({ "described": offer })));
        let input = Input::LinkDescribed {
            link,
            sdp: description(setup, &self.fingerprint),
            candidates: self.candidates.clone(),
        };
        self.give(input, answer);
    }
}

fn invite(identity: &Identity, server: &str) -> Outcome<Invite> {
    let plain = PlainSignaling::LoopbackOnly;
    let invite = Invite::expiring_at(identity, server, 0, plain, &mut OsEntropy)?;
    Ok(invite)
}

/// The events that the scenarios look at; the others only by name.
fn report(event: &Event) -> Value {
    match event {
        Event::Established { peer, .. } => json!({ "event": "established", "peer": peer }),
        Event::Closed { code, reason, .. } => {
            json!({ "event": "closed", "code": code.to_wire(), "reason": reason })
        }
        Event::Failed { error } => json!({ "event": "failed", "reason": error.to_string() }),
        Event::Retrying { error } => json!({ "event": "retrying", "reason": error.to_string() }),
        other => json!({ "event": format!("{other:?}") }),
    }
}

fn description(setup: &str, fingerprint: &str) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
         a=ice-ufrag:core\r\na=ice-pwd:corecorecorecorecorecore\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:{setup}\r\na=sctp-port:5000\r\n\
         a=max-message-size:262144\r\n"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Outcome<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let bytes = pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    bytes.collect()
}

fn array<const N: usize>(hex: &str) -> Outcome<[u8; N]> {
    let bytes = bytes(hex)?;
    <[u8; N]>::try_from(bytes).map_err(|_| format!("{hex} is not {N} bytes").into())
}
