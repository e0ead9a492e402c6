//! Getting to know the peer: what the host wants of it, and what came of that.

use super::{Shared, lock};
use crate::{crypto::secret::Secret, session::acquaintance::Overture, verify::ShortCode};

impl Shared {
    /// What the host wants of the peer; wanted twice, it is wanted once.
    pub(in crate::session) fn make(&self, overture: Overture) {
        let mut outgoing = lock(&self.outgoing);
        if !outgoing.overtures.contains(&overture) {
            outgoing.overtures.push(overture);
        }
        drop(outgoing);
        self.wake.notify_one();
    }

    pub(in crate::session) fn show(&self, code: ShortCode) {
        lock(&self.outgoing).short_code = Some(code);
    }

    pub(in crate::session) fn short_code(&self) -> Option<ShortCode> {
        lock(&self.outgoing).short_code
    }

    pub(in crate::session) fn keep_contact(&self, secret: Secret) {
        lock(&self.outgoing).contact = Some(secret);
    }

    pub(in crate::session) fn contact_secret(&self) -> Option<Secret> {
        lock(&self.outgoing).contact.as_ref().map(Secret::duplicate)
    }
}
