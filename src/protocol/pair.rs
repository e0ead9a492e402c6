//! Contacts by mutual consent: both hosts agree, and both keep a secret by which the two meet again without
//! an invite. Not: where it is kept.

use super::{
    control::Control,
    io::{Event, Output},
    machine::Machine,
};
use crate::crypto::secret::Secret;

/// Where the consent of both sides stands on one transport.
pub(super) struct Pairing {
    /// The secret that belongs to this transport.
    secret: Secret,
    /// This side asked.
    asked: bool,
    /// The peer asked, and has no answer yet.
    owed: bool,
    /// PAIR_OK was sent.
    answered: bool,
    /// The secret was given to the host.
    stored: bool,
}

impl Pairing {
    pub(super) fn new(secret: Secret) -> Self {
        Self {
            secret,
            asked: false,
            owed: false,
            answered: false,
            stored: false,
        }
    }
}

impl Machine {
    /// The host wants the peer as a contact. Said before the transport is up, it is asked then.
    pub(super) fn on_pair(&mut self) {
        self.wants_contact = true;
        self.ask_contact();
    }

    /// On every transport until there is an answer.
    pub(super) fn ask_contact(&mut self) {
        let wants = self.wants_contact;
        let Some(secure) = self.live_secure().filter(|_| wants) else {
            return;
        };
        let pairing = &mut secure.pairing;
        if std::mem::replace(&mut pairing.asked, true) {
            return;
        }
        if std::mem::take(&mut pairing.owed) {
            return self.agree_contact();
        }
        self.send_control(&Control::PairRequest);
    }

    pub(super) fn on_pair_request(&mut self) {
        let Some(secure) = self.live_secure() else {
            return;
        };
        // Our own question is consent to theirs.
        if secure.pairing.asked {
            return self.agree_contact();
        }
        if !std::mem::replace(&mut secure.pairing.owed, true) {
            self.event(Event::ContactRequested);
        }
    }

    /// Once: whoever asks again has the answer, or gets it on the next transport.
    fn agree_contact(&mut self) {
        let Some(secure) = &mut self.secure else {
            return;
        };
        if std::mem::replace(&mut secure.pairing.answered, true) {
            return;
        }
        self.send_control(&Control::PairOk);
        self.store_contact();
    }

    /// The peer agreed to what this side asked; what was not asked is nothing to agree to.
    pub(super) fn on_pair_ok(&mut self) {
        if self
            .live_secure()
            .is_some_and(|secure| secure.pairing.asked)
        {
            self.store_contact();
        }
    }

    fn store_contact(&mut self) {
        self.wants_contact = false;
        let Some(secure) = &mut self.secure else {
            return;
        };
        if !std::mem::replace(&mut secure.pairing.stored, true) {
            let secret = secure.pairing.secret.duplicate();
            let peer = secure.talk.peer;
            self.out.push(Output::Contact { peer, secret });
        }
    }
}
