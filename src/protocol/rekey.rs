//! New keys within a transport (R-172 to R-183): when they are due, the two messages that make them, and when the old
//! ones go. Not: the chains themselves (channel.rs).
//!
//! ```text
//! initiator  -- REKEY1 (under i) -->  responder   which holds it until it has retired i-1
//!            <-- REKEY2 (under i) --              derives i+1, goes on sending under i
//!            == EPOCH, ... (under i+1) ==>        first frame under i+1: switches as well
//!            <== EPOCH, ... (under i+1) ==
//! ```

use std::time::Duration;

use super::{
    channel::Channels,
    control::Control,
    frame::frame_buffer,
    io::{Output, Reason},
    machine::Machine,
    secure::Secure,
};
use crate::{
    config::Rekeying,
    crypto::{
        epoch::{self, Epoch, Role},
        kdf,
        noise::{self, Finished, NNHFS_PSK0, ReadDone, Reader, Written},
        secret::Secret,
    },
    error::{CloseCode, ProtocolViolation},
};

/// From one REKEY1 to the next, at least (R-175).
const GAP: Duration = Duration::from_secs(1);
/// How long lossy channels can still open frames of the epoch before (R-180).
const LOSSY_RETIRE: Duration = Duration::from_secs(10);
/// Without new keys for this long after they were due, the session closes (R-183).
const OVERDUE: Duration = Duration::from_secs(600);
/// ... if the peer was heard within this time: otherwise the transport is what is wrong.
const HEARD: Duration = Duration::from_secs(30);
/// Epoch numbers are two bytes on the wire: long before they end, the session gets a new transport (R-183).
pub(super) const LAST_EPOCH: u16 = 65_000;

/// Where this side of a transport stands with its next keys.
pub(super) struct Rekey {
    role: Role,
    /// Handshake hash of the newest epoch, and the secret that authenticates its rekey: erased when mixed in.
    hash: [u8; 32],
    psk: Option<Secret>,
    /// Initiator: REKEY1 is on its way.
    pending: Option<Reader>,
    /// Responder: a REKEY1 that waits for the epoch before to be retired.
    held: Option<Vec<u8>>,
    /// When this side began to send in its epoch.
    began: Duration,
    /// Whether a message travelled in this epoch.
    used: bool,
    /// Since when the next epoch is due.
    due_since: Option<Duration>,
    /// The last REKEY1.
    started: Option<Duration>,
    /// The host, or the peer, wants new keys.
    wish: bool,
    /// Responder: REKEY_REQ was sent in this epoch.
    requested: bool,
    /// When lossy channels forget the epoch before.
    retire_at: Option<Duration>,
    /// The newest epoch in which a frame of the peer came.
    confirmed: u16,
}

impl Rekey {
    pub(super) fn new(role: Role, hash: [u8; 32], psk: Secret, now: Duration) -> Self {
        Self {
            role,
            hash,
            psk: Some(psk),
            pending: None,
            held: None,
            began: now,
            used: false,
            due_since: None,
            started: None,
            wish: false,
            requested: false,
            retire_at: None,
            confirmed: 0,
        }
    }

    /// A message was sent or received.
    pub(super) fn note_use(&mut self) {
        self.used = true;
    }

    /// As [`Channels::grow_old`].
    #[cfg(test)]
    pub(super) fn grow_old(&mut self, epochs: u16) {
        self.confirmed = epochs;
    }

    /// The end of the session came first (R-160).
    pub(super) fn abandon(&mut self) {
        self.pending = None;
        self.held = None;
        self.wish = false;
        self.due_since = None;
    }

    /// The epoch that answers a wish for new keys made now: keys under way do not (R-182).
    pub(super) fn goal(&self, channels: &Channels) -> u16 {
        let more = 1 + u16::from(self.pending.is_some());
        channels.newest().saturating_add(more)
    }

    // R-174
    fn is_due(&self, channels: &Channels, limits: &Rekeying, now: Duration) -> bool {
        self.used
            && (self.began + limits.after <= now || channels.is_worn(limits.frames, limits.bytes))
    }

    /// Whether the initiator may send REKEY1: the epoch before is retired everywhere.
    fn may_start(&self, channels: &Channels) -> bool {
        self.role == Role::Initiator && self.pending.is_none() && !channels.holds_old_keys()
    }

    fn is_confirmed(&self, channels: &Channels) -> bool {
        self.confirmed == channels.newest()
    }

    /// When something is to be done, if nothing else comes.
    pub(super) fn next_timeout(
        &self,
        channels: &Channels,
        limits: &Rekeying,
        heard: Duration,
    ) -> Option<(Duration, Reason)> {
        let due = (self.used && self.due_since.is_none()).then_some(self.began + limits.after);
        let gap = self.started.map(|started| started + GAP);
        let wish = gap.filter(|_| self.wish && self.may_start(channels));
        // If the peer is not heard for long by then, its next frame is when to look again.
        let overdue = self.due_since.map(|since| since + OVERDUE);
        let overdue = overdue.filter(|at| heard + HEARD > *at);
        [due, wish, overdue, self.retire_at]
            .into_iter()
            .flatten()
            .min()
            .map(|at| (at, Reason::Rekey))
    }

    fn setup<'a>(&self, prologue: &'a [u8], psks: &'a [&'a Secret]) -> noise::Setup<'a> {
        noise::Setup {
            pattern: &NNHFS_PSK0,
            prologue,
            local_static: None,
            psks,
        }
    }

    /// The keys that a finished rekey gives, of which only these are used.
    fn derive(&mut self, finished: Finished) -> (Epoch, Secret) {
        let keys = epoch::derive(finished.exporter, finished.hash, self.role);
        self.hash = keys.hash;
        self.psk = Some(keys.rekey_psk.duplicate());
        let resume = keys.resume.duplicate();
        (keys, resume)
    }
}

/// What the host and the clock ask for.
impl Machine {
    /// The host wants new keys.
    pub(super) fn on_rekey(&mut self) {
        if let Some(secure) = self.live_secure() {
            secure.rekey.wish = true;
            self.run_rekey();
        }
    }

    /// The epoch that will satisfy a wish for new keys made now; `None` without an established transport.
    #[must_use]
    pub fn rekey_goal(&self) -> Option<u16> {
        let secure = self.secure.as_ref()?;
        let goal = secure.rekey.goal(&secure.channels);
        secure.is_established().then_some(goal)
    }

    /// Does what is due.
    pub(super) fn run_rekey(&mut self) {
        let now = self.now.monotonic;
        let limits = self.config.rekeying.clone();
        let Some(secure) = self.live_secure() else {
            return;
        };
        let Secure {
            rekey, channels, ..
        } = secure;
        if rekey.retire_at.is_some_and(|at| at <= now) {
            rekey.retire_at = None;
            channels.retire_windows();
        }
        if rekey.wish || rekey.is_due(channels, &limits, now) {
            rekey.due_since.get_or_insert(now);
        }
        let heard = secure.liveness.heard;
        if rekey.due_since.is_some_and(|at| at + OVERDUE <= now) && heard + HEARD > now {
            return self.close_at_once(CloseCode::REKEY_TIMEOUT, "new keys could not be agreed on");
        }
        match rekey.role {
            Role::Initiator => self.start_rekey(now),
            Role::Responder => self.answer_or_request(),
        }
    }

    fn start_rekey(&mut self, now: Duration) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        let rekey = &mut secure.rekey;
        let too_soon = rekey.started.is_some_and(|at| at + GAP > now);
        if rekey.due_since.is_none() || too_soon || !rekey.may_start(&secure.channels) {
            return;
        }
        if secure.channels.newest() >= LAST_EPOCH {
            return self.end_epochs();
        }
        let Some(psk) = rekey.psk.take() else { return };
        let prologue = kdf::rekey_prologue(secure.channels.newest() + 1, &rekey.hash);
        let psks = [&psk];
        let writer = noise::initiate(rekey.setup(&prologue, &psks));
        rekey.started = Some(now);
        rekey.wish = false;
        match writer.write(&[], self.entropy.as_mut()) {
            Ok((message, Written::Reader(reader))) => {
                if let Some(secure) = &mut self.secure {
                    secure.rekey.pending = Some(reader);
                }
                self.send_control(&Control::Rekey1(message));
            }
            Ok((_, Written::Done(_))) | Err(_) => {
                self.fatal(ProtocolViolation::RekeyRejected.into())
            }
        }
    }

    /// A new transport begins with new keys, at epoch 0. Where none is wanted, this one ends in good order.
    fn end_epochs(&mut self) {
        if self.config.timeouts.resume.is_zero() {
            return self.close_at_once(CloseCode::EXHAUSTED, "the epochs are used up");
        }
        self.suspend(None);
    }

    fn answer_or_request(&mut self) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        let Secure {
            rekey, channels, ..
        } = secure;
        // R-176
        if !channels.holds_old_keys()
            && let Some(message) = rekey.held.take()
        {
            return self.answer_rekey(&message);
        }
        let rekey = &mut secure.rekey;
        let settled = rekey.is_confirmed(&secure.channels) && rekey.held.is_none();
        // R-173
        if rekey.wish && settled && !std::mem::replace(&mut rekey.requested, true) {
            rekey.wish = false;
            self.send_control(&Control::RekeyRequest);
        }
    }
}

/// The two messages.
impl Machine {
    /// REKEY_REQ came: R's wish is ours, unless keys are under way.
    pub(super) fn on_rekey_request(&mut self) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        if secure.rekey.pending.is_none() {
            secure.rekey.wish = true;
            self.run_rekey();
        }
    }

    pub(super) fn on_rekey1(&mut self, message: Vec<u8>, (kind, epoch): (u8, u16)) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        // R-181
        if secure.channels.newest() > epoch || secure.rekey.held.is_some() {
            return self.fatal(ProtocolViolation::UnexpectedRekey { kind }.into());
        }
        // R-245
        if epoch == u16::MAX {
            return self.close_at_once(CloseCode::EXHAUSTED, "the epochs are used up");
        }
        secure.rekey.held = Some(message);
        self.run_rekey();
    }

    fn answer_rekey(&mut self, message: &[u8]) {
        let rejected = ProtocolViolation::RekeyRejected;
        let Some(Secure {
            rekey, channels, ..
        }) = &mut self.secure
        else {
            return;
        };
        let Some(psk) = rekey.psk.take() else { return };
        let prologue = kdf::rekey_prologue(channels.newest() + 1, &rekey.hash);
        let psks = [&psk];
        let reader = noise::respond(rekey.setup(&prologue, &psks));
        let writer = match reader.read(message) {
            // Its length leaves no room for a payload (R-144).
            Ok((_, ReadDone::Writer(writer))) => writer,
            _ => return self.fatal(rejected.into()),
        };
        let Ok((answer, Written::Done(finished))) = writer.write(&[], self.entropy.as_mut()) else {
            return self.fatal(rejected.into());
        };
        // Under the old epoch, which this side goes on sending in until the peer shows that it has the new one.
        self.send_control(&Control::Rekey2(answer));
        self.add_epoch(finished);
    }

    pub(super) fn on_rekey2(&mut self, message: &[u8], kind: u8) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        let Some(reader) = secure.rekey.pending.take() else {
            return self.fatal(ProtocolViolation::UnexpectedRekey { kind }.into());
        };
        match reader.read(message) {
            // R-177
            Ok((_, ReadDone::Done(finished))) => {
                self.add_epoch(finished);
                self.switch_epoch();
            }
            _ => self.fatal(ProtocolViolation::RekeyRejected.into()),
        }
    }

    fn add_epoch(&mut self, finished: Finished) {
        if let Some(secure) = &mut self.secure {
            let (keys, resume) = secure.rekey.derive(finished);
            secure.channels.add_epoch(keys);
            let epoch = secure.channels.newest();
            secure.talk.keep_resumption(epoch, &resume);
        }
    }

    /// Sends under the newest keys from here on; EPOCH comes first on every reliable channel.
    fn switch_epoch(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.channels.switch_sending();
        secure.talk.note_sending(secure.channels.sending());
        let rekey = &mut secure.rekey;
        rekey.began = now;
        rekey.used = false;
        rekey.requested = false;
        // A wish that came meanwhile is one for the next epoch, and as old as this one.
        rekey.due_since = rekey.wish.then_some(now);
        let reliable: Vec<u8> = secure.channels.reliable().collect();
        for channel in reliable {
            self.send_epoch(channel);
        }
    }

    fn send_epoch(&mut self, channel: u8) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        let sealed = secure
            .channels
            .seal(channel, Control::Epoch.kind(), frame_buffer(0));
        // The first frame of a chain: there is a key for it.
        if let Ok(frame) = sealed {
            let link = secure.link;
            self.out.push(Output::LinkFrame {
                link,
                channel,
                frame,
            });
        }
    }

    /// A frame of the peer was opened: what its epoch tells.
    pub(super) fn note_epoch(&mut self, channel: u8, epoch: u16, first: bool) {
        let now = self.now.monotonic;
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Secure {
            rekey, channels, ..
        } = secure;
        if first && channel == 0 && channels.holds_old_windows() {
            rekey.retire_at = Some(now + LOSSY_RETIRE);
        }
        if epoch > rekey.confirmed {
            rekey.confirmed = epoch;
            let closing = secure.closing.sent.is_some();
            // R-179
            if secure.rekey.role == Role::Responder && !closing {
                self.switch_epoch();
            }
            self.out.push(Output::Rekeyed { epoch });
        }
        if first {
            self.run_rekey();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    /// R-160.
    #[test]
    fn what_was_to_become_new_keys_is_dropped_when_the_session_closes() {
        let psk = Secret::new([1; 32]);
        let mut rekey = Rekey::new(Role::Initiator, [2; 32], psk.duplicate(), Duration::ZERO);
        let writer = noise::initiate(rekey.setup(b"", &[&psk]));
        let Ok((message, Written::Reader(reader))) = writer.write(&[], &mut OsEntropy) else {
            panic!("a first message");
        };
        (rekey.pending, rekey.held) = (Some(reader), Some(message));
        (rekey.wish, rekey.due_since) = (true, Some(Duration::ZERO));
        rekey.abandon();
        assert!(rekey.pending.is_none() && rekey.held.is_none());
        assert!(!rekey.wish && rekey.due_since.is_none());
    }
}
