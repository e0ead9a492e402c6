//! After the handshake: signaling records, READY both ways, messages, acknowledgements, PING and CLOSE.
//! Not: how the keys came about (join.rs), how frames are sealed (channel.rs).

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    blob::{Blob, Mode},
    channel::{self, Channels},
    control::{Control, Ready},
    delivery::{BadAck, Bounds, DeliveryError, Inbox, Outbox},
    frame::frame_buffer,
    handshake::Description,
    io::{CloseHow, Event, LinkId, Output, Reason},
    machine::{Machine, Side},
    record::{Caps, MAX_CANDIDATES, Payload, PayloadKind, SigSender},
};
use crate::{
    config::Config,
    crypto::{
        epoch::{Role, SessionSecrets},
        noise,
        secret::Secret,
    },
    error::{CloseCode, Error, Evidence, HandshakeStage, ProtocolViolation, RefusalCode},
    identity::PeerId,
    message::MessageDirection,
    room::EndpointId,
    trust::PeerTrust,
};

/// SIG blobs of one attempt, in each direction.
const MAX_SIG: u64 = 64;
/// An acknowledgement waits this long for more to acknowledge. The protocol allows 200 ms.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// At most one PING is sent or answered in this time.
const PING_GAP: Duration = Duration::from_secs(1);
/// How long a CLOSE waits for its answer, and an answerer for the other end to close the link.
const CLOSE_ANSWER: Duration = Duration::from_secs(2);
/// How long the side that closed first leaves the link to the other.
const CLOSE_LINGER: Duration = Duration::from_millis(300);

/// The encrypted signaling channel, from the end of the handshake until `Established`.
pub(super) struct Sig {
    pub(super) send: Secret,
    pub(super) receive: Secret,
    pub(super) sent: u64,
    pub(super) next: u64,
    pub(super) received: u64,
    /// Candidates of the peer so far, in every kind of payload.
    pub(super) candidates: usize,
    /// Candidates of ours so far, likewise.
    pub(super) told: usize,
}

/// How far a transport has come to carrying messages.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) link_open: bool,
    ready_sent: bool,
    ready_received: bool,
    ready_ok_received: bool,
    established: bool,
}

/// The end, step by step.
#[derive(Debug, Default)]
struct Closing {
    /// The host wants it: no later than this.
    wanted: Option<(CloseCode, String, Duration)>,
    sent: Option<Duration>,
    received: Option<Duration>,
    /// What the host is told.
    report: Option<(CloseCode, String)>,
    reported: bool,
}

/// PING and PONG, both at most once a second.
#[derive(Debug, Default)]
struct Liveness {
    heard: Duration,
    ping_sent: Option<Duration>,
    ping_answered: Option<Duration>,
    owed: Option<[u8; 8]>,
}

/// A completed handshake and the transport that it protects.
pub(super) struct Secure {
    pub(super) peer_endpoint: EndpointId,
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    /// Whether the trust suffices for messages to flow.
    pub(super) trusted: bool,
    pub(super) link: LinkId,
    pub(super) role: Role,
    pub(super) sig: Option<Sig>,
    /// The responder of an open handshake owes its answer.
    pub(super) owes_answer: Option<Vec<String>>,
    /// The peer's description; the initiator of an open handshake waits for it.
    pub(super) description: Option<Description>,
    pub(super) channels: Channels,
    pub(super) secrets: SessionSecrets,
    pub(super) own_caps: Caps,
    pub(super) peer_caps: Caps,
    pub(super) progress: Progress,
    pub(super) ready_by: Duration,
    boxes: Vec<(u8, Outbox, Inbox)>,
    /// The peer sent more than the window: a message was refused, and none may follow the gap.
    overrun: bool,
    /// Messages that overtook READY_OK: the host sees them once the session is established.
    early: Vec<Output>,
    ack_at: Option<Duration>,
    liveness: Liveness,
    closing: Closing,
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure")
            .field("peer", &self.peer)
            .field("trust", &self.trust)
            .field("link", &self.link)
            .field("channels", &self.channels)
            .field("progress", &self.progress)
            .field("closing", &self.closing)
            .finish_non_exhaustive()
    }
}

/// What a completed handshake hands over.
pub(super) struct Completed {
    pub(super) peer_endpoint: EndpointId,
    pub(super) peer: PeerId,
    pub(super) trust: PeerTrust,
    pub(super) trusted: bool,
    pub(super) link: LinkId,
    pub(super) role: Role,
    pub(super) sig: Sig,
    pub(super) owes_answer: Option<Vec<String>>,
    pub(super) description: Option<Description>,
    pub(super) channels: Channels,
    pub(super) secrets: SessionSecrets,
    pub(super) own_caps: Caps,
    pub(super) peer_caps: Caps,
}

impl Secure {
    pub(super) fn new(completed: Completed, now: Duration, config: &Config) -> Self {
        let boxes = completed.channels.live.iter().map(|&channel| (channel, Outbox::default(), Inbox::default()));
        let mut secure = Self {
            boxes: boxes.collect(),
            overrun: false,
            early: Vec::new(),
            peer_endpoint: completed.peer_endpoint,
            peer: completed.peer,
            trust: completed.trust,
            trusted: completed.trusted,
            link: completed.link,
            role: completed.role,
            sig: Some(completed.sig),
            owes_answer: completed.owes_answer,
            description: None,
            channels: completed.channels,
            secrets: completed.secrets,
            own_caps: completed.own_caps,
            peer_caps: completed.peer_caps,
            progress: Progress::default(),
            ready_by: now + config.timeouts.ready,
            ack_at: None,
            liveness: Liveness { heard: now, ..Liveness::default() },
            closing: Closing::default(),
        };
        if let Some(description) = completed.description {
            secure.describe(description);
        }
        secure
    }

    fn describe(&mut self, description: Description) {
        self.channels.cap_send(description.max_message_size);
        self.description = Some(description);
    }

    pub(super) fn send(&mut self, channel: u8, body: Bytes) {
        if let Some((_, outbox, _)) = self.boxes.iter_mut().find(|(live, ..)| *live == channel) {
            outbox.push(body);
        }
    }

    /// Whether the host was told of the end, at the peer's CLOSE.
    pub(super) fn is_reported(&self) -> bool {
        self.closing.reported
    }

    pub(super) fn is_established(&self) -> bool {
        self.progress.established
    }

    pub(super) fn wants_write(&self) -> bool {
        self.may_send_messages() && self.boxes.iter().any(|(_, outbox, _)| outbox.is_sendable(self.window()))
    }

    pub(super) fn acknowledges_soon(&self) -> bool {
        self.ack_at.is_some()
    }

    fn may_send_messages(&self) -> bool {
        self.progress.established && self.trusted && self.closing.sent.is_none()
    }

    fn window(&self) -> usize {
        self.peer_caps.window as usize
    }

    fn unacked(&self) -> u64 {
        self.boxes.iter().map(|(_, outbox, _)| outbox.unacked()).sum()
    }

    pub(super) fn session(&self) -> ([u8; 16], MessageDirection) {
        let direction = match self.role {
            Role::Initiator => MessageDirection::FromInitiator,
            Role::Responder => MessageDirection::FromResponder,
        };
        (self.secrets.session_id, direction)
    }

    pub(super) fn agreed(&self) -> (usize, usize) {
        (self.own_caps.max_message.min(self.peer_caps.max_message) as usize, self.window())
    }

    fn bounds(&self) -> Bounds {
        Bounds { max_message: self.agreed().0, window: self.own_caps.window as usize }
    }

    pub(super) fn next_timeout(&self, config: &Config) -> Option<(Duration, Reason)> {
        if let Some(at) = self.close_deadline() {
            return Some((at, Reason::Close));
        }
        if !self.progress.established {
            return Some((self.ready_by, Reason::Ready));
        }
        let ack = self.ack_at.map(|at| (at, Reason::Ack));
        let wanted = self.closing.wanted.as_ref().map(|(_, _, by)| (*by, Reason::Close));
        let pong = self.pong_due().map(|at| (at, Reason::Ping));
        let ping = (self.ping_due(config), Reason::Ping);
        let lost = (self.liveness.heard + config.timeouts.lost_after, Reason::Lost);
        [ack, wanted, pong, Some(ping), Some(lost)].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn ping_due(&self, config: &Config) -> Duration {
        let silence = self.liveness.heard + config.timeouts.ping_after;
        self.liveness.ping_sent.map_or(silence, |sent| silence.max(sent + config.timeouts.ping_after.max(PING_GAP)))
    }

    fn pong_due(&self) -> Option<Duration> {
        self.liveness.owed?;
        Some(self.liveness.ping_answered.map_or(Duration::ZERO, |answered| answered + PING_GAP))
    }

    /// When the link is closed at the latest, once CLOSE was sent.
    fn close_deadline(&self) -> Option<Duration> {
        match (self.closing.sent?, self.closing.received) {
            (sent, None) => Some(sent + CLOSE_ANSWER),
            (sent, Some(received)) if sent < received => Some(received + CLOSE_LINGER),
            (_, Some(received)) => Some(received + CLOSE_ANSWER),
        }
    }
}

/// Signaling records.
impl Machine {
    /// Seals records for the peer and sends them through the server, while that channel lives. Candidates that did not
    /// fit are returned.
    pub(super) fn send_sig(&mut self, payload: Payload) -> Vec<String> {
        let Some(secure) = &mut self.secure else { return Vec::new() };
        let kind = sig_kind(self.terms.mode, secure.role);
        let Some((blob, left)) = secure.sig.as_mut().and_then(|sig| seal_sig(sig, kind, payload)) else {
            return Vec::new();
        };
        self.out.push(Output::SendBlob { to: secure.peer_endpoint, blob });
        left
    }

    pub(super) fn on_sig(&mut self, from: EndpointId, n: u64, ciphertext: &[u8]) {
        let Some(secure) = &mut self.secure else { return };
        let mode = self.terms.mode;
        let kind = sig_kind(mode, other(secure.role));
        let Some(sig) = &mut secure.sig else { return };
        if from != secure.peer_endpoint || n < sig.next || n >> 32 != 0 || sig.received >= MAX_SIG {
            return;
        }
        // A changed SIG is never acted on: the state stays as it is until one verifies.
        let Ok(plaintext) = noise::transport_open(&sig.receive, n, ciphertext) else { return };
        sig.next = n + 1;
        sig.received += 1;
        match Payload::decode(kind, &plaintext) {
            Ok(payload) if sig.candidates + payload.candidates.len() <= MAX_CANDIDATES => {
                sig.candidates += payload.candidates.len();
                self.on_sig_payload(payload);
            }
            _ => self.fail_attempt(Error::HandshakeFailed { stage: HandshakeStage::Signal }),
        }
    }

    fn on_sig_payload(&mut self, payload: Payload) {
        if let Some(bye) = payload.bye {
            return self.on_refused(bye.0);
        }
        let Some(secure) = &mut self.secure else { return };
        let link = secure.link;
        if let Some(sdp) = payload.sdp {
            let answer = Description::check(&sdp, super::sdp::SdpKind::Answer);
            match answer {
                Ok(answer) if secure.description.is_none() => {
                    self.out.push(Output::LinkAnswer { link, sdp: answer.sdp.clone() });
                    secure.describe(answer);
                }
                _ => return self.fail_attempt(Error::HandshakeFailed { stage: HandshakeStage::Signal }),
            }
        }
        self.add_candidates(link, payload.candidates);
    }

    pub(super) fn add_candidates(&mut self, link: LinkId, candidates: Vec<String>) {
        self.out.extend(candidates.into_iter().map(|candidate| Output::LinkCandidate { link, candidate }));
    }

    /// The peer proved its keys and refuses: authenticated by the encryption of SIG.
    fn on_refused(&mut self, code: u8) {
        let Some(code) = RefusalCode::from_wire(code) else { return };
        match self.side {
            Side::Redeemer { .. } => self.fail(Error::Refused { code, evidence: Evidence::Authenticated }),
            Side::Open { .. } | Side::Inviter { .. } => self.fail_attempt(Error::Refused { code, evidence: Evidence::Authenticated }),
        }
    }

    /// The responder of an open handshake answers here; what it found and what it was told follows.
    pub(super) fn answer_by_sig(&mut self, sdp: &str, candidates: Vec<String>) {
        let Some(secure) = &mut self.secure else { return };
        let Some(remote) = secure.owes_answer.take() else { return };
        let link = secure.link;
        let sdp = Some(super::sdp::strip_candidates(sdp));
        let left = self.send_sig(Payload { sdp, candidates, ..Payload::default() });
        self.send_candidates(left);
        self.add_candidates(link, remote);
    }
}

/// The link.
impl Machine {
    pub(super) fn secure_link_open(&mut self, fingerprint: Option<[u8; 32]>) {
        let Some(secure) = &mut self.secure else { return };
        if secure.progress.link_open {
            return;
        }
        let Some(description) = &secure.description else {
            return self.fatal(Error::Protocol(ProtocolViolation::BeforeReady { channel: 0 }));
        };
        match fingerprint {
            Some(seen) if seen != description.fingerprint => return self.fatal(Error::FingerprintMismatch),
            Some(_) => {}
            None => self.event(Event::NoFingerprintCheck),
        }
        let Some(secure) = &mut self.secure else { return };
        secure.progress.link_open = true;
        secure.progress.ready_sent = true;
        let taken = secure.boxes.iter().map(|(channel, _, inbox)| (*channel, inbox.taken())).collect();
        self.send_control(&Control::Ready(Ready { taken, history: None }));
    }

    pub(super) fn secure_link_closed(&mut self, reason: Option<Error>) {
        let Some(secure) = &mut self.secure else { return };
        if secure.closing.received.is_some() || secure.closing.sent.is_some() {
            return self.finish_close();
        }
        if !secure.progress.established {
            let failed = Error::HandshakeFailed { stage: HandshakeStage::Connect };
            return self.fail_attempt(reason.unwrap_or(failed));
        }
        let unacked = secure.unacked();
        self.fail(Error::Disconnected { unacked });
    }

    pub(super) fn secure_frame(&mut self, channel: u8, frame: BytesMut) {
        let Some(secure) = &mut self.secure else { return };
        secure.liveness.heard = self.now.monotonic;
        if channel == 0 && secure.closing.received.is_some() {
            return self.fatal(Error::Protocol(ProtocolViolation::AfterClose));
        }
        let opened = match secure.channels.open(channel, frame) {
            Ok(opened) => opened,
            Err(violation) => return self.fatal(Error::Protocol(violation)),
        };
        match (channel, opened) {
            (0, (kind, body)) => self.on_control(kind, &body),
            (_, (kind, _)) if channel::is_dummy(kind) && secure.progress.ready_received => {}
            (_, (kind, body)) => self.on_application(channel, kind, body),
        }
    }

    fn on_application(&mut self, channel: u8, kind: u8, body: Bytes) {
        let Some(secure) = &mut self.secure else { return };
        if !secure.progress.ready_received {
            return self.fatal(Error::Protocol(ProtocolViolation::BeforeReady { channel }));
        }
        if secure.overrun {
            return;
        }
        let len = body.len();
        let bounds = secure.bounds();
        let Some((_, _, inbox)) = secure.boxes.iter_mut().find(|(live, ..)| *live == channel) else { return };
        let out = if secure.progress.established { &mut self.out } else { &mut secure.early };
        let result = inbox.accept(kind, body, bounds, |number, body| out.push(Output::Deliver { channel, number, body }));
        match result {
            Ok(()) => {}
            Err(DeliveryError::Window) => {
                secure.overrun = true;
                self.close_at_once(CloseCode::LIMIT, "the receive window was exceeded");
            }
            Err(DeliveryError::TooLong) => self.fatal(Error::Protocol(ProtocolViolation::MessageTooLong { max: bounds.max_message })),
            Err(DeliveryError::EmptyPart) => self.fatal(Error::Protocol(ProtocolViolation::EmptyPart { channel })),
            Err(DeliveryError::Interleaved) => self.fatal(Error::Protocol(ProtocolViolation::Interleaved { channel })),
            Err(DeliveryError::Kind) => self.fatal(Error::Protocol(ProtocolViolation::MisplacedKind { kind, channel })),
            Err(DeliveryError::Batch) => self.fatal(Error::Protocol(ProtocolViolation::MalformedBody { kind, len })),
        }
    }
}

/// Control frames.
impl Machine {
    /// Seals and sends a control frame; it never waits.
    fn send_control(&mut self, control: &Control) {
        let Some(secure) = &mut self.secure else { return };
        let mut buffer = frame_buffer(128);
        control.encode(&mut buffer);
        match secure.channels.seal(0, control.kind(), buffer) {
            Ok(frame) => self.out.push(Output::LinkFrame { link: secure.link, channel: 0, frame }),
            Err(channel::Exhausted) => {
                let unacked = secure.unacked();
                let reason = "the sequence numbers of channel 0 are used up".into();
                self.finish(Event::Closed { code: CloseCode::EXHAUSTED, reason, unacked });
            }
        }
    }

    fn on_control(&mut self, kind: u8, body: &[u8]) {
        let control = match Control::decode(kind, body) {
            Ok(control) => control,
            Err(violation) => return self.fatal(Error::Protocol(violation)),
        };
        let Some(secure) = &mut self.secure else { return };
        let progress = &secure.progress;
        match control {
            Control::Ready(ready) if !progress.ready_received => self.on_ready(&ready),
            Control::ReadyOk if progress.ready_received && progress.ready_sent && !progress.ready_ok_received => {
                self.on_ready_ok();
            }
            Control::Ready(_) | Control::ReadyOk => self.fatal(Error::Protocol(ProtocolViolation::UnexpectedReady)),
            _ if !progress.ready_ok_received => self.fatal(Error::Protocol(ProtocolViolation::BeforeReady { channel: 0 })),
            Control::Ack { channel, next } => self.on_ack(channel, next),
            Control::Close { code, reason } => self.on_peer_close(code, reason),
            Control::Ping(opaque) => self.on_ping(opaque),
            Control::Later(kind, Some(from)) if from == secure.role => {
                self.fatal(Error::Protocol(ProtocolViolation::MisplacedKind { kind, channel: 0 }));
            }
            Control::Pong(_) | Control::Dummy | Control::Later(..) => {}
        }
    }

    fn on_ready(&mut self, ready: &Ready) {
        let Some(secure) = &mut self.secure else { return };
        // The first transport of a session: nothing was sent, so nothing was taken.
        let expected: Vec<(u8, u64)> = secure.boxes.iter().map(|(channel, ..)| (*channel, 0)).collect();
        if ready.taken != expected {
            return self.fatal(Error::Protocol(ProtocolViolation::ReadyChannels));
        }
        secure.progress.ready_received = true;
        if let Side::Inviter { .. } = self.side {
            self.redeem_invite();
        }
        self.send_control(&Control::ReadyOk);
    }

    fn on_ready_ok(&mut self) {
        let Some(secure) = &mut self.secure else { return };
        secure.progress.ready_ok_received = true;
        secure.progress.established = true;
        secure.sig = None;
        secure.liveness.heard = self.now.monotonic;
        let (peer, trust) = (secure.peer, secure.trust);
        let mut early = std::mem::take(&mut secure.early);
        self.failures = 0;
        self.settle_join();
        self.event(Event::Established { peer, trust });
        self.out.append(&mut early);
    }

    fn on_ack(&mut self, channel: u8, next: u64) {
        let Some(secure) = &mut self.secure else { return };
        let outbox = secure.boxes.iter_mut().find(|(live, ..)| *live == channel).map(|(_, outbox, _)| outbox);
        match outbox.map(|outbox| outbox.acknowledge(next)) {
            Some(Ok(true)) => self.out.push(Output::Acknowledged { channel, next }),
            Some(Ok(false)) => {}
            Some(Err(BadAck { low, high })) => {
                let violation = ProtocolViolation::ImpossibleAck { channel, next, low, high };
                return self.fatal(Error::Protocol(violation));
            }
            None => return self.fatal(Error::Protocol(ProtocolViolation::DeadChannel { channel })),
        }
        self.continue_close();
    }

    fn on_ping(&mut self, opaque: [u8; 8]) {
        let Some(secure) = &mut self.secure else { return };
        if secure.closing.sent.is_some() {
            return;
        }
        secure.liveness.owed = Some(opaque);
        self.answer_ping();
    }

    fn answer_ping(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else { return };
        if secure.pong_due().is_some_and(|due| due <= now)
            && let Some(opaque) = secure.liveness.owed.take()
        {
            secure.liveness.ping_answered = Some(now);
            self.send_control(&Control::Pong(opaque));
        }
    }

    pub(super) fn on_taken(&mut self, channel: u8, messages: u64) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else { return };
        let window = secure.own_caps.window as usize;
        let Some((_, _, inbox)) = secure.boxes.iter_mut().find(|(live, ..)| *live == channel) else { return };
        inbox.take(messages);
        if inbox.is_ack_urgent(window) {
            self.send_acks();
        } else if inbox.is_ack_due() {
            secure.ack_at.get_or_insert(now + ACK_DELAY);
        }
    }

    fn send_acks(&mut self) {
        let Some(secure) = &mut self.secure else { return };
        secure.ack_at = None;
        if secure.closing.sent.is_some() {
            return;
        }
        let due = secure.boxes.iter_mut().filter(|(.., inbox)| inbox.is_ack_due());
        let acks: Vec<Control> =
            due.map(|(channel, _, inbox)| Control::Ack { channel: *channel, next: inbox.acknowledge() }).collect();
        for ack in acks {
            self.send_control(&ack);
        }
    }

    /// Sends waiting messages, up to about `bytes` bytes.
    pub(super) fn on_link_writable(&mut self, link: LinkId, mut bytes: usize) {
        let Some(secure) = self.secure.as_mut().filter(|secure| secure.link == link) else { return };
        if !secure.may_send_messages() {
            return;
        }
        let (window, max) = (secure.window(), secure.channels.max_body());
        for (channel, outbox, _) in &mut secure.boxes {
            while bytes > 0 && outbox.is_sendable(window) {
                let mut buffer = frame_buffer(outbox.next_len(max));
                let Some(filled) = outbox.fill(max, window, &mut buffer) else { break };
                match secure.channels.seal(*channel, filled.kind, buffer) {
                    Ok(frame) => {
                        bytes = bytes.saturating_sub(frame.len());
                        self.out.push(Output::LinkFrame { link, channel: *channel, frame });
                    }
                    Err(channel::Exhausted) => {
                        return self.close_at_once(CloseCode::EXHAUSTED, "a sequence number is used up");
                    }
                }
            }
        }
    }
}

/// The end.
impl Machine {
    pub(super) fn on_close(&mut self, code: CloseCode, reason: String) {
        let now = self.now.monotonic;
        let graceful = now + self.config.timeouts.close;
        let Some(secure) = self.secure.as_mut().filter(|secure| secure.progress.established) else {
            return self.finish(Event::Closed { code, reason, unacked: 0 });
        };
        if secure.closing.wanted.is_none() {
            let by = if code == CloseCode::NORMAL { graceful } else { now };
            secure.closing.wanted = Some((code, reason, by));
        }
        self.continue_close();
    }

    fn close_at_once(&mut self, code: CloseCode, reason: &str) {
        let now = self.now.monotonic;
        if let Some(secure) = &mut self.secure {
            secure.closing.wanted = Some((code, reason.to_owned(), now));
        }
        self.continue_close();
    }

    /// Sends CLOSE once everything was acknowledged, or the time is up.
    fn continue_close(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else { return };
        let Some((code, reason, by)) = secure.closing.wanted.clone() else { return };
        if secure.closing.sent.is_some() || (secure.unacked() > 0 && now < by) {
            return;
        }
        secure.closing.report.get_or_insert((code, reason.clone()));
        self.send_close(code, reason);
    }

    fn send_close(&mut self, code: CloseCode, reason: String) {
        self.send_acks();
        self.send_control(&Control::Close { code, reason });
        if let Some(secure) = &mut self.secure {
            secure.closing.sent = Some(self.now.monotonic);
        }
    }

    fn on_peer_close(&mut self, code: CloseCode, reason: String) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else { return };
        secure.closing.received = Some(now);
        secure.closing.report.get_or_insert((code, reason));
        if secure.closing.sent.is_none() {
            self.send_close(code, String::new());
        }
        self.report_closed();
    }

    fn report_closed(&mut self) {
        let Some(secure) = &mut self.secure else { return };
        if std::mem::replace(&mut secure.closing.reported, true) {
            return;
        }
        let unacked = secure.unacked();
        if let Some((code, reason)) = secure.closing.report.clone() {
            self.event(Event::Closed { code, reason, unacked });
        }
    }

    /// The link is gone or its time is up: the session ends, in good order only if the peer's CLOSE came.
    fn finish_close(&mut self) {
        let Some(secure) = &self.secure else { return };
        if secure.closing.received.is_some() {
            self.report_closed();
        } else {
            let error = Error::Disconnected { unacked: secure.unacked() };
            self.event(Event::Failed { error });
        }
        self.drop_secure(CloseHow::Graceful);
        self.end();
    }

    pub(super) fn run_secure_timers(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &self.secure else { return };
        if let Some(deadline) = secure.close_deadline() {
            if deadline <= now {
                self.finish_close();
            }
            return;
        }
        if !secure.progress.established {
            if secure.ready_by <= now {
                self.fail_attempt(Error::Timeout { stage: HandshakeStage::Ready });
            }
            return;
        }
        if secure.liveness.heard + self.config.timeouts.lost_after <= now {
            let unacked = secure.unacked();
            return self.fail(Error::Disconnected { unacked });
        }
        if secure.ack_at.is_some_and(|at| at <= now) {
            self.send_acks();
        }
        self.answer_ping();
        self.send_ping();
        self.continue_close();
    }

    fn send_ping(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else { return };
        if secure.ping_due(&self.config) <= now {
            secure.liveness.ping_sent = Some(now);
            let opaque = self.random();
            self.send_control(&Control::Ping(opaque));
        }
    }
}

/// Where a SIG stands, by who sent it.
fn sig_kind(mode: Mode, sender: Role) -> PayloadKind {
    match (mode, sender) {
        (Mode::Open, Role::Responder) => PayloadKind::Sig(SigSender::OpenResponder),
        (Mode::Open, Role::Initiator) | (Mode::Paired, _) => PayloadKind::Sig(SigSender::Other),
    }
}

fn other(role: Role) -> Role {
    match role {
        Role::Initiator => Role::Responder,
        Role::Responder => Role::Initiator,
    }
}

/// The next SIG blob, while the attempt has any left, with as many candidates as it has left; those that do not fit
/// into one blob are returned.
pub(super) fn seal_sig(sig: &mut Sig, kind: PayloadKind, mut payload: Payload) -> Option<(Vec<u8>, Vec<String>)> {
    if sig.sent >= MAX_SIG {
        return None;
    }
    payload.candidates.truncate(MAX_CANDIDATES - sig.told);
    sig.told += payload.candidates.len();
    let (plaintext, left) = payload.encode(kind);
    sig.told -= left.len();
    let ciphertext = noise::transport_seal(&sig.send, sig.sent, &plaintext);
    let blob = Blob::Sig { n: sig.sent, ciphertext: &ciphertext }.encode();
    sig.sent += 1;
    Some((blob, left))
}
