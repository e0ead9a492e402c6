//! What travels over the link: READY both ways, messages, acknowledgements, PING.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{
    channel::{self},
    control::{Control, Ready},
    delivery::{BadAck, DeliveryError},
    frame::frame_buffer,
    io::{Event, LinkId, Output},
    machine::{Machine, Side},
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
            Some(seen) if seen != description.fingerprint => {
                return self.fatal(Error::FingerprintMismatch);
            }
            Some(_) => {}
            None => self.event(Event::NoFingerprintCheck),
        }
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.progress.link_open = true;
        secure.progress.ready_sent = true;
        let taken = secure
            .boxes
            .iter()
            .map(|(channel, _, inbox)| (*channel, inbox.taken()))
            .collect();
        self.send_control(&Control::Ready(Ready {
            taken,
            history: None,
        }));
    }

    pub(super) fn secure_link_closed(&mut self, reason: Option<Error>) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if secure.closing.received.is_some() || secure.closing.sent.is_some() {
            return self.finish_close();
        }
        if !secure.progress.established {
            let failed = Error::HandshakeFailed {
                stage: HandshakeStage::Connect,
            };
            return self.fail_attempt(reason.unwrap_or(failed));
        }
        let unacked = secure.unacked();
        self.fail(Error::Disconnected { unacked });
    }

    pub(super) fn secure_frame(&mut self, channel: u8, frame: BytesMut) {
        let Some(secure) = &mut self.secure else {
            return;
        };
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

    pub(super) fn on_application(&mut self, channel: u8, kind: u8, body: Bytes) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if !secure.progress.ready_received {
            return self.fatal(Error::Protocol(ProtocolViolation::BeforeReady { channel }));
        }
        if secure.overrun {
            return;
        }
        let len = body.len();
        let bounds = secure.bounds();
        let Some((_, _, inbox)) = secure.boxes.iter_mut().find(|(live, ..)| *live == channel)
        else {
            return;
        };
        let out = if secure.progress.established {
            &mut self.out
        } else {
            &mut secure.early
        };
        let result = inbox.accept(kind, body, bounds, |number, body| {
            out.push(Output::Deliver {
                channel,
                number,
                body,
            })
        });
        match result {
            Ok(()) => {}
            Err(DeliveryError::Window) => {
                secure.overrun = true;
                self.close_at_once(CloseCode::LIMIT, "the receive window was exceeded");
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
        let mut buffer = frame_buffer(128);
        control.encode(&mut buffer);
        match secure.channels.seal(0, control.kind(), buffer) {
            Ok(frame) => self.out.push(Output::LinkFrame {
                link: secure.link,
                channel: 0,
                frame,
            }),
            Err(channel::Exhausted) => {
                let unacked = secure.unacked();
                let reason = "the sequence numbers of channel 0 are used up".into();
                self.finish(Event::Closed {
                    code: CloseCode::EXHAUSTED,
                    reason,
                    unacked,
                });
            }
        }
    }

    pub(super) fn on_control(&mut self, kind: u8, body: &[u8]) {
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
            Control::Ready(_) | Control::ReadyOk => {
                self.fatal(Error::Protocol(ProtocolViolation::UnexpectedReady))
            }
            _ if !progress.ready_ok_received => {
                self.fatal(Error::Protocol(ProtocolViolation::BeforeReady {
                    channel: 0,
                }))
            }
            Control::Ack { channel, next } => self.on_ack(channel, next),
            Control::Close { code, reason } => self.on_peer_close(code, reason),
            Control::Ping(opaque) => self.on_ping(opaque),
            Control::Later(kind, Some(from)) if from == secure.role => {
                self.fatal(Error::Protocol(ProtocolViolation::MisplacedKind {
                    kind,
                    channel: 0,
                }));
            }
            Control::Pong(_) | Control::Dummy | Control::Later(..) => {}
        }
    }

    pub(super) fn on_ready(&mut self, ready: &Ready) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        // The first transport of a session: nothing was sent, so nothing was taken.
        let expected: Vec<(u8, u64)> = secure
            .boxes
            .iter()
            .map(|(channel, ..)| (*channel, 0))
            .collect();
        if ready.taken != expected {
            return self.fatal(Error::Protocol(ProtocolViolation::ReadyChannels));
        }
        secure.progress.ready_received = true;
        if let Side::Inviter { .. } = self.side {
            self.redeem_invite();
        }
        self.send_control(&Control::ReadyOk);
    }

    pub(super) fn on_ready_ok(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
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

    pub(super) fn on_ack(&mut self, channel: u8, next: u64) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let outbox = secure
            .boxes
            .iter_mut()
            .find(|(live, ..)| *live == channel)
            .map(|(_, outbox, _)| outbox);
        match outbox.map(|outbox| outbox.acknowledge(next)) {
            Some(Ok(true)) => self.out.push(Output::Acknowledged { channel, next }),
            Some(Ok(false)) => {}
            Some(Err(BadAck { low, high })) => {
                let violation = ProtocolViolation::ImpossibleAck {
                    channel,
                    next,
                    low,
                    high,
                };
                return self.fatal(Error::Protocol(violation));
            }
            None => return self.fatal(Error::Protocol(ProtocolViolation::DeadChannel { channel })),
        }
        self.continue_close();
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
        let Some(secure) = &mut self.secure else {
            return;
        };
        let window = secure.own_caps.window as usize;
        let Some((_, _, inbox)) = secure.boxes.iter_mut().find(|(live, ..)| *live == channel)
        else {
            return;
        };
        inbox.take(messages);
        if inbox.is_ack_urgent(window) {
            self.send_acks();
        } else if inbox.is_ack_due() {
            secure.ack_at.get_or_insert(now + ACK_DELAY);
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
        let due = secure
            .boxes
            .iter_mut()
            .filter(|(.., inbox)| inbox.is_ack_due());
        let acks: Vec<Control> = due
            .map(|(channel, _, inbox)| Control::Ack {
                channel: *channel,
                next: inbox.acknowledge(),
            })
            .collect();
        for ack in acks {
            self.send_control(&ack);
        }
    }

    /// Sends waiting messages, up to about `bytes` bytes.
    pub(super) fn on_link_writable(&mut self, link: LinkId, mut bytes: usize) {
        let Some(secure) = self.secure.as_mut().filter(|secure| secure.link == link) else {
            return;
        };
        if !secure.may_send_messages() {
            return;
        }
        let (window, max) = (secure.window(), secure.channels.max_body());
        for (channel, outbox, _) in &mut secure.boxes {
            while bytes > 0 && outbox.is_sendable(window) {
                let mut buffer = frame_buffer(outbox.next_len(max));
                let Some(filled) = outbox.fill(max, window, &mut buffer) else {
                    break;
                };
                match secure.channels.seal(*channel, filled.kind, buffer) {
                    Ok(frame) => {
                        bytes = bytes.saturating_sub(frame.len());
                        self.out.push(Output::LinkFrame {
                            link,
                            channel: *channel,
                            frame,
                        });
                    }
                    Err(channel::Exhausted) => {
                        return self
                            .close_at_once(CloseCode::EXHAUSTED, "a sequence number is used up");
                    }
                }
            }
        }
    }
}
