//! What travels over the link: READY both ways, messages, acknowledgements, PING.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    channel::{self, Opened},
    control::{Control, DATA, EPOCH, Ready},
    conversation::Lane,
    delivery::{BadAck, DeliveryError},
    frame::frame_buffer,
    io::{Event, LinkId, Output},
    ledger::Ledger,
    machine::{Machine, Side},
    secure::Secure,
};
use crate::error::{CloseCode, Error, HandshakeStage, ProtocolViolation};

/// An acknowledgement waits this long for more to acknowledge. The protocol allows 200 ms.
const ACK_DELAY: Duration = Duration::from_millis(5);

/// The link.
impl Machine {
    pub(super) fn secure_link_open(&mut self, fingerprint: Option<[u8; 32]>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.progress.link_open {
            return;
        }
        let Some(description) = &secure.description else {
            return self.fatal(Error::Protocol(ProtocolViolation::BeforeReady {
                channel: 0,
            }));
        };
        match fingerprint {
            //
            Some(seen) if seen != description.fingerprint => {
                return self.fatal(Error::FingerprintMismatch);
            }
            Some(_) => {}
            //
            None => self.event(Event::NoFingerprintCheck),
        }
        if let Some(secure) = &mut self.secure {
            secure.progress.link_open = true;
        }
        self.send_ready();
    }

    /// Once the link is open, and what the history holds is known.
    pub(super) fn send_ready(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let loading = secure.talk.history.as_ref().is_some_and(Ledger::is_loading);
        if !secure.progress.link_open || secure.progress.ready_sent || loading {
            return;
        }
        //
        secure.progress.ready_sent = true;
        secure.talk.note_ready_sent();
        let lanes = secure.talk.lanes.iter_mut();
        let taken = lanes
            .map(|lane| (lane.channel, lane.inbox.state()))
            .collect();
        let history = secure.talk.history.as_ref().and_then(Ledger::ready);
        self.send_control(&Control::Ready(Ready { taken, history }));
        self.send_ready_ok();
    }

    pub(super) fn secure_link_closed(&mut self, reason: Option<Error>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        // The peer's CLOSE is answered when it comes: there is none without ours.
        if secure.closing.sent.is_some() {
            return self.finish_close();
        }
        //
        if !secure.progress.established {
            let failed = Error::HandshakeFailed {
                stage: HandshakeStage::Connect,
            };
            return self.fail_attempt(reason.unwrap_or(failed));
        }
        self.suspend(reason);
    }

    pub(super) fn secure_frame(&mut self, channel: u8, frame: BytesMut) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.liveness.heard = self.now.monotonic;
        secure.liveness.probe_until = None;
        //
        if channel == 0 && secure.closing.received.is_some() {
            return self.fatal(Error::Protocol(ProtocolViolation::AfterClose));
        }
        let opened = match secure.channels.open(channel, frame) {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            //
            Err(violation @ ProtocolViolation::OutOfOrder { channel: 0, .. })
                if !secure.progress.ready_received =>
            {
                return self.fail_attempt(violation.into());
            }
            Err(violation) => return self.fatal(violation.into()),
        };
        let reliable = secure.talk.lane(channel).is_some() || channel == 0;
        let Opened {
            kind,
            body,
            epoch,
            first,
        } = opened;
        // EPOCH is the first frame of every epoch but the first.
        if reliable && (kind == EPOCH) != first {
            return self.fatal(ProtocolViolation::MisplacedEpoch { channel }.into());
        }
        self.note_epoch(channel, epoch, first);
        match channel {
            _ if kind == EPOCH && reliable => {}
            0 => self.on_control(kind, &body, epoch),
            _ => self.on_message_frame(channel, kind, body),
        }
    }

    fn on_message_frame(&mut self, channel: u8, kind: u8, body: Bytes) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        //
        if !secure.progress.ready_received {
            return self.fatal(ProtocolViolation::BeforeReady { channel }.into());
        }
        if channel::is_dummy(kind) {
            return;
        }
        secure.rekey.note_use();
        if secure.talk.lane(channel).is_some() {
            self.on_application(channel, kind, body);
        } else if kind == DATA {
            self.on_datagram(channel, body);
        } else {
            self.fatal(ProtocolViolation::MisplacedKind { kind, channel }.into());
        }
    }

    /// A message of a lossy channel: neither numbered nor acknowledged.
    fn on_datagram(&mut self, channel: u8, body: Bytes) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let datagram = Output::Datagram { channel, body };
        if secure.progress.established {
            self.out.push(datagram);
        }
    }

    pub(super) fn on_application(&mut self, channel: u8, kind: u8, body: Bytes) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.talk.overrun {
            return;
        }
        let len = body.len();
        let bounds = secure.talk.bounds();
        let ledger = secure.talk.history.as_ref();
        let recorded = ledger.is_some_and(|ledger| ledger.covers(channel));
        let Some(lane) = secure.talk.lane(channel) else {
            return;
        };
        let inbox = &mut lane.inbox;
        let mut arrived = Vec::new();
        let out = if secure.progress.established {
            &mut self.out
        } else {
            &mut secure.early
        };
        let result = inbox.accept(kind, body, bounds, |number, body| {
            if recorded {
                return arrived.push((number, body));
            }
            out.push(Output::Deliver {
                channel,
                number,
                body,
            })
        });
        match result {
            Ok(()) => self.record_received(kind, arrived),
            //
            Err(DeliveryError::Window) => {
                secure.talk.overrun = true;
                self.close_overrun();
            }
            Err(DeliveryError::TooLong) => {
                self.fatal(Error::Protocol(ProtocolViolation::MessageTooLong {
                    max: bounds.max_message,
                }))
            }
            Err(DeliveryError::EmptyPart) => {
                self.fatal(Error::Protocol(ProtocolViolation::EmptyPart { channel }))
            }
            Err(DeliveryError::Interleaved) => {
                self.fatal(Error::Protocol(ProtocolViolation::Interleaved { channel }))
            }
            Err(DeliveryError::Kind) => {
                self.fatal(Error::Protocol(ProtocolViolation::MisplacedKind {
                    kind,
                    channel,
                }))
            }
            Err(DeliveryError::Batch) => {
                self.fatal(Error::Protocol(ProtocolViolation::MalformedBody {
                    kind,
                    len,
                }))
            }
        }
    }
}

/// Control frames.
impl Machine {
    /// Seals and sends a control frame; it never waits.
    pub(super) fn send_control(&mut self, control: &Control) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.channels.is_control_worn_out() && !matches!(control, Control::Close { .. }) {
            if secure.closing.wanted.is_none() {
                self.close_at_once(CloseCode::EXHAUSTED, "a sequence number is used up");
            }
            return;
        }
        let mut buffer = frame_buffer(128);
        control.encode(&mut buffer);
        match secure.channels.seal(0, control.kind(), buffer) {
            Ok(frame) => self.out.push(Output::LinkFrame {
                link: secure.link,
                channel: 0,
                frame,
            }),
            Err(channel::Exhausted) => {
                let unacked = secure.talk.unacked();
                let reason = "the sequence numbers of channel 0 are used up".into();
                self.finish(Event::Closed {
                    code: CloseCode::EXHAUSTED,
                    reason,
                    unacked,
                });
            }
        }
    }

    pub(super) fn on_control(&mut self, kind: u8, body: &[u8], epoch: u16) {
        let control = match Control::decode(kind, body) {
            Ok(control) => control,
            Err(violation) => return self.fatal(Error::Protocol(violation)),
        };
        let Some(secure) = &mut self.secure else {
            return;
        };
        let progress = &secure.progress;
        match control {
            Control::Ready(ready) if !progress.ready_received => self.on_ready(&ready),
            Control::ReadyOk
                if progress.ready_received
                    && progress.ready_sent
                    && !progress.ready_ok_received =>
            {
                self.on_ready_ok();
            }
            //
            Control::Ready(_) | Control::ReadyOk => {
                self.fatal(Error::Protocol(ProtocolViolation::UnexpectedReady))
            }
            // An honest peer sends nothing else before our READY_OK, which may wait for the history.
            _ if !progress.established => {
                self.fatal(Error::Protocol(ProtocolViolation::BeforeReady {
                    channel: 0,
                }))
            }
            _ if control.only_from() == Some(secure.role) => {
                self.fatal(ProtocolViolation::MisplacedKind { kind, channel: 0 }.into());
            }
            Control::Ack {
                channel,
                next,
                head,
            } => self.on_ack(channel, next, head),
            Control::Close { code, reason } => self.on_peer_close(code, reason),
            Control::Ping(opaque) => self.on_ping(opaque),
            Control::RekeyRequest => self.on_rekey_request(),
            Control::Rekey1(message) => self.on_rekey1(message, (kind, epoch)),
            Control::Rekey2(message) => self.on_rekey2(&message, kind),
            Control::SasStart => self.on_sas_start(),
            Control::SasCommit(commitment) => self.on_sas_commit(commitment),
            Control::SasNonce(nonce) => self.on_sas_nonce(nonce),
            Control::SasOpen(nonce) => self.on_sas_open(nonce),
            Control::PairRequest => self.on_pair_request(),
            Control::PairOk => self.on_pair_ok(),
            //
            Control::Pong(_) | Control::Dummy | Control::Epoch => {}
        }
    }

    pub(super) fn on_ready(&mut self, ready: &Ready) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let channels = secure.talk.lanes.iter().map(|lane| lane.channel);
        //
        if !channels.eq(ready.taken.iter().map(|(channel, _)| *channel)) {
            return self.fatal(ProtocolViolation::ReadyChannels.into());
        }
        // On the first transport nothing was ever sent, so nothing can have been taken.
        for (lane, &(channel, next)) in secure.talk.lanes.iter_mut().zip(&ready.taken) {
            match lane.outbox.resume(next) {
                Ok(true) => self.out.push(Output::Acknowledged { channel, next }),
                Ok(false) => {}
                Err(bad) => return self.fatal(impossible(channel, next, bad)),
            }
        }
        secure.talk.note_ready_received();
        secure.progress.ready_received = true;
        if let Side::Inviter { .. } = self.side {
            self.redeem_invite();
        }
        if self.note_peer_history(ready) {
            self.send_ready_ok();
        }
    }

    /// Behind our own READY, which waits for the link to be open here as well, and once the histories were compared:
    /// the peer sends nothing before.
    pub(super) fn send_ready_ok(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let (progress, ledger) = (&mut secure.progress, secure.talk.history.as_ref());
        let both = progress.ready_sent && progress.ready_received;
        if !both || progress.ready_ok_sent || ledger.is_some_and(|ledger| !ledger.has_begun()) {
            return;
        }
        progress.ready_ok_sent = true;
        self.send_control(&Control::ReadyOk);
        self.try_establish();
    }

    pub(super) fn on_ready_ok(&mut self) {
        if let Some(secure) = &mut self.secure {
            secure.progress.ready_ok_received = true;
        }
        self.try_establish();
    }

    ///
    fn try_establish(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let progress = &mut secure.progress;
        if !progress.ready_ok_sent || !progress.ready_ok_received {
            return;
        }
        progress.established = true;
        secure.sig = None;
        secure.liveness.heard = self.now.monotonic;
        let resumed = secure.talk.established;
        secure.talk.note_established();
        let (peer, trust) = (secure.talk.peer, secure.talk.trust);
        let mut early = std::mem::take(&mut secure.early);
        self.failures = 0;
        self.finish_visit();
        self.settle_join();
        self.event(if resumed {
            Event::Resumed
        } else {
            Event::Established { peer, trust }
        });
        self.out.append(&mut early);
        self.report_history();
        self.record_waiting();
        self.ask_contact();
        self.close_overrun();
    }

    /// The peer sent more than was promised to it; it is told once that may be.
    fn close_overrun(&mut self) {
        let overrun = |secure: &Secure| secure.progress.established && secure.talk.overrun;
        if self.secure.as_ref().is_some_and(overrun) {
            self.close_at_once(CloseCode::LIMIT, "the receive window was exceeded");
        }
    }

    pub(super) fn on_ack(&mut self, channel: u8, next: u64, head: Option<[u8; 32]>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let lane = secure.talk.lane(channel);
        match lane.map(|lane| lane.outbox.acknowledge(next)) {
            Some(Ok(true)) => self.out.push(Output::Acknowledged { channel, next }),
            Some(Ok(false)) => {}
            Some(Err(bad)) => return self.fatal(impossible(channel, next, bad)),
            None => return self.fatal(ProtocolViolation::DeadChannel { channel }.into()),
        }
        // A CLOSE that waited for it leaves with the timers, which run after each input.
        self.note_confirmed(channel, next, head);
    }

    pub(super) fn on_ping(&mut self, opaque: [u8; 8]) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.closing.sent.is_some() {
            return;
        }
        secure.liveness.owed = Some(opaque);
        self.answer_ping();
    }

    pub(super) fn answer_ping(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.pong_due().is_some_and(|due| due <= now)
            && let Some(opaque) = secure.liveness.owed.take()
        {
            secure.liveness.ping_answered = Some(now);
            self.send_control(&Control::Pong(opaque));
        }
    }

    pub(super) fn on_taken(&mut self, channel: u8, messages: u64) {
        let now = self.now.monotonic;
        let Some(talk) = self.talk_mut() else { return };
        let window = talk.own_window();
        let Some(lane) = talk.lane(channel) else {
            return;
        };
        lane.inbox.take(messages);
        let (urgent, due) = (lane.inbox.is_ack_urgent(window), lane.inbox.is_ack_due());
        let taken = lane.inbox.taken();
        if let Some(ledger) = talk.history.as_mut().filter(|one| one.covers(channel)) {
            ledger.note_taken(taken);
        }
        let Some(secure) = &mut self.secure else {
            return;
        };
        // Before READY_OK nothing but READY may be sent, and READY tells what was taken.
        if !secure.progress.established {
            return;
        }
        if urgent {
            self.send_acks();
        } else if due {
            secure.ack_at.get_or_insert(now + ACK_DELAY);
        }
    }

    /// The host gave back what it had not taken when the transport went.
    pub(super) fn on_discarded(&mut self) {
        if let Some(talk) = self.talk_mut() {
            for lane in &mut talk.lanes {
                lane.inbox.discard();
            }
            if let Some(ledger) = &mut talk.history {
                ledger.discard();
            }
        }
    }

    pub(super) fn send_acks(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.ack_at = None;
        if secure.closing.sent.is_some() {
            return;
        }
        let ledger = secure.talk.history.as_ref();
        let lanes = secure.talk.lanes.iter_mut();
        let acks: Vec<Control> = lanes
            .filter(|lane| lane.inbox.is_ack_due())
            .map(|lane| Control::Ack {
                channel: lane.channel,
                next: lane.inbox.acknowledge(),
                head: ledger.and_then(|ledger| ledger.taken_head(lane.channel)),
            })
            .collect();
        for ack in acks {
            self.send_control(&ack);
        }
    }

    /// Sends waiting messages, up to about `bytes` bytes: one frame of each channel in turn.
    pub(super) fn on_link_writable(&mut self, link: LinkId, mut bytes: usize) {
        let ours = |secure: &&mut Secure| secure.link == link && secure.may_send_messages();
        let Some(secure) = self.secure.as_mut().filter(ours) else {
            return;
        };
        let mut written = true;
        while written && bytes > 0 {
            written = false;
            for at in 0..secure.talk.lanes.len() {
                match secure.next_frame(at) {
                    Ok(Some((channel, frame))) => {
                        written = true;
                        bytes = bytes.saturating_sub(frame.len());
                        self.out.push(Output::LinkFrame {
                            link,
                            channel,
                            frame,
                        });
                    }
                    Ok(None) => {}
                    Err(channel::Exhausted) => {
                        return self
                            .close_at_once(CloseCode::EXHAUSTED, "a sequence number is used up");
                    }
                }
            }
            for at in 0..secure.talk.lossy.len() {
                if let Some((channel, frame)) = secure.next_datagram(at) {
                    written = true;
                    bytes = bytes.saturating_sub(frame.len());
                    self.out.push(Output::LinkFrame {
                        link,
                        channel,
                        frame,
                    });
                }
            }
        }
    }
}

impl Secure {
    /// The next frame of a reliable channel's waiting messages, if the peer's window has room.
    fn next_frame(&mut self, at: usize) -> Result<Option<(u8, Vec<u8>)>, channel::Exhausted> {
        let (window, max) = (self.talk.window(), self.channels.max_body());
        let Lane {
            channel, outbox, ..
        } = &mut self.talk.lanes[at];
        if !outbox.is_sendable(window) {
            return Ok(None);
        }
        let mut buffer = frame_buffer(outbox.next_len(max));
        let Some(filled) = outbox.fill(max, window, &mut buffer) else {
            return Ok(None);
        };
        self.rekey.note_use();
        let frame = self.channels.seal(*channel, filled.kind, buffer)?;
        Ok(Some((*channel, frame)))
    }

    /// The next frame of a lossy channel. One that is too long, or for which the epoch has no number left, is dropped.
    fn next_datagram(&mut self, at: usize) -> Option<(u8, Vec<u8>)> {
        let max = self.channels.max_body();
        let lossy = &mut self.talk.lossy[at];
        loop {
            let body = lossy.pop()?;
            if body.len() > max {
                continue;
            }
            let mut buffer = frame_buffer(body.len());
            buffer.extend_from_slice(&body);
            self.rekey.note_use();
            if let Ok(frame) = self.channels.seal(lossy.channel, DATA, buffer) {
                return Some((lossy.channel, frame));
            }
        }
    }
}

fn impossible(channel: u8, next: u64, BadAck { low, high }: BadAck) -> Error {
    Error::Protocol(ProtocolViolation::ImpossibleAck {
        channel,
        next,
        low,
        high,
    })
}
