//! The short authentication string (R-199 to R-202): two nonces, one of them committed to before the other is known, so
//! that somebody in the middle has a single guess at a code of 39 bits.
//!
//! ```text
//! initiator --SAS_START--> responder                    (or the responder starts, and commits at once)
//!           <-SAS_COMMIT--  H(P " sas commit" h_0 nR)
//!           --SAS_NONCE-->  nI
//!           <--SAS_OPEN---  nR                           both now have the code
//! ```

use std::time::Duration;

use super::{
    control::Control,
    io::{Event, Reason},
    machine::Machine,
    secure::Secure,
};
use crate::{
    crypto::{epoch::Role, kdf, secret::Secret},
    identity::PeerId,
    verify::ShortCode,
};

/// After a run that failed, none begins for this long.
const PAUSE: Duration = Duration::from_secs(10);
/// Runs of the peer that are answered at once; after that one each [`PAUSE`] (R-241).
const RUNS: u32 = 4;
/// From one message of a run to the next.
const STEP: Duration = Duration::from_secs(30);

/// The runs of one transport.
pub(super) struct Sas {
    key: Secret,
    /// The hash of the transport's handshake.
    hash: [u8; 32],
    stage: Stage,
    /// When the run is given up, or, when there is none, when the next may begin.
    until: Option<Duration>,
    /// Runs that the peer may start, and since when there are fewer than all of them.
    granted: (u32, Duration),
    /// A START was ignored: what belongs to its run is, too.
    ignoring: bool,
}

enum Stage {
    Idle,
    /// Initiator: SAS_COMMIT is to come.
    AwaitsCommit,
    /// Initiator: SAS_OPEN is to come.
    AwaitsOpen {
        commitment: [u8; 32],
        nonce: [u8; 32],
    },
    /// Responder: SAS_NONCE is to come.
    AwaitsNonce {
        nonce: [u8; 32],
    },
}

impl Sas {
    pub(super) fn new(key: Secret, hash: [u8; 32]) -> Self {
        Self {
            key,
            hash,
            stage: Stage::Idle,
            until: None,
            granted: (RUNS, Duration::ZERO),
            ignoring: false,
        }
    }

    pub(super) fn next_timeout(&self) -> Option<(Duration, Reason)> {
        let running = !matches!(self.stage, Stage::Idle);
        self.until
            .filter(|_| running)
            .map(|at| (at, Reason::ShortCode))
    }

    fn may_begin(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Idle) && self.until.is_none_or(|until| until <= now)
    }

    /// Whether a run that the peer starts is answered.
    fn grant(&mut self, now: Duration) -> bool {
        let (left, since) = &mut self.granted;
        while *left < RUNS && *since + PAUSE <= now {
            *left += 1;
            *since += PAUSE;
        }
        if *left == RUNS {
            *since = now;
        }
        let granted = *left > 0;
        *left = left.saturating_sub(1);
        granted
    }

    /// Whether what belongs to no run is not even told to the host.
    fn is_deaf(&self, now: Duration) -> bool {
        let idle = matches!(self.stage, Stage::Idle);
        idle && (self.ignoring || self.until.is_some_and(|until| until > now))
    }

    fn advance(&mut self, stage: Stage, now: Duration) {
        self.ignoring = false;
        self.stage = stage;
        self.until = Some(now + STEP);
    }

    /// The code: the run is over.
    fn finish(&mut self, nonces: ([u8; 32], [u8; 32]), keys: (PeerId, PeerId)) -> ShortCode {
        self.stage = Stage::Idle;
        self.until = None;
        let (initiator, responder) = keys;
        ShortCode::new(kdf::sas_code(
            &self.key,
            &nonces.0,
            &nonces.1,
            initiator.as_bytes(),
            responder.as_bytes(),
        ))
    }
}

/// Both roles.
impl Machine {
    /// The host wants to compare a code.
    pub(super) fn on_compare(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = self.live_secure() else {
            return self.event(Event::ShortCodeFailed);
        };
        if !secure.sas.may_begin(now) {
            if matches!(secure.sas.stage, Stage::Idle) {
                self.event(Event::ShortCodeFailed);
            }
            // Otherwise a run is under way, and brings its code.
            return;
        }
        let role = secure.role;
        secure.sas.advance(Stage::AwaitsCommit, now);
        self.send_control(&Control::SasStart);
        if role == Role::Responder {
            self.commit_sas();
        }
    }

    pub(super) fn on_sas_start(&mut self) {
        let now = self.now.monotonic;
        let Some(secure) = self.live_secure() else {
            return;
        };
        let sas = &mut secure.sas;
        if matches!(sas.stage, Stage::Idle) && !(sas.may_begin(now) && sas.grant(now)) {
            sas.ignoring = true;
            return;
        }
        match (secure.role, &secure.sas.stage) {
            // Crossing, or behind our own COMMIT: the run that is under way counts.
            (Role::Initiator, Stage::AwaitsCommit)
            | (Role::Responder, Stage::AwaitsNonce { .. }) => {}
            (Role::Initiator, Stage::Idle) => secure.sas.advance(Stage::AwaitsCommit, now),
            (Role::Responder, Stage::Idle) => self.commit_sas(),
            _ => self.fail_sas(),
        }
    }

    /// The responder's nonce is chosen, and cannot be changed any more.
    fn commit_sas(&mut self) {
        let now = self.now.monotonic;
        let nonce: [u8; 32] = self.random();
        let Some(secure) = &mut self.secure else {
            return;
        };
        secure.sas.advance(Stage::AwaitsNonce { nonce }, now);
        let commitment = kdf::sas_commit(&secure.sas.hash, &nonce);
        self.send_control(&Control::SasCommit(commitment));
    }

    pub(super) fn on_sas_commit(&mut self, commitment: [u8; 32]) {
        let now = self.now.monotonic;
        let nonce: [u8; 32] = self.random();
        let Some(secure) = self.live_secure() else {
            return;
        };
        if !matches!(secure.sas.stage, Stage::AwaitsCommit) {
            return self.stray_sas();
        }
        secure
            .sas
            .advance(Stage::AwaitsOpen { commitment, nonce }, now);
        self.send_control(&Control::SasNonce(nonce));
    }

    pub(super) fn on_sas_nonce(&mut self, theirs: [u8; 32]) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        let Stage::AwaitsNonce { nonce } = secure.sas.stage else {
            return self.stray_sas();
        };
        self.send_control(&Control::SasOpen(nonce));
        self.show_code((theirs, nonce));
    }

    pub(super) fn on_sas_open(&mut self, theirs: [u8; 32]) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        match secure.sas.stage {
            Stage::AwaitsOpen { commitment, nonce }
                if kdf::sas_commit(&secure.sas.hash, &theirs) == commitment =>
            {
                self.show_code((nonce, theirs));
            }
            Stage::Idle
            | Stage::AwaitsCommit
            | Stage::AwaitsNonce { .. }
            | Stage::AwaitsOpen { .. } => self.stray_sas(),
        }
    }

    fn show_code(&mut self, nonces: ([u8; 32], [u8; 32])) {
        let own = self.identity.peer_id();
        let Some(secure) = &mut self.secure else {
            return;
        };
        let Secure {
            talk, role, sas, ..
        } = secure;
        let keys = match role {
            Role::Initiator => (own, talk.peer),
            Role::Responder => (talk.peer, own),
        };
        let code = sas.finish(nonces, keys);
        self.event(Event::ShortCode { code });
    }

    /// It belongs to no step of a run: the run fails, if there can be one.
    fn stray_sas(&mut self) {
        let now = self.now.monotonic;
        let deaf = |secure: &Secure| secure.sas.is_deaf(now);
        if !self.secure.as_ref().is_some_and(deaf) {
            self.fail_sas();
        }
    }

    /// Out of order, opened to something else, or too slow: only the run fails.
    pub(super) fn fail_sas(&mut self) {
        let now = self.now.monotonic;
        if let Some(secure) = &mut self.secure {
            secure.sas.stage = Stage::Idle;
            secure.sas.until = Some(now + PAUSE);
        }
        self.event(Event::ShortCodeFailed);
    }

    pub(super) fn run_sas_timer(&mut self) {
        let now = self.now.monotonic;
        let late = |secure: &Secure| secure.sas.next_timeout().is_some_and(|(at, _)| at <= now);
        if self.secure.as_ref().is_some_and(late) {
            self.fail_sas();
        }
    }
}
