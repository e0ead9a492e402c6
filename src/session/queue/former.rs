//! What a host has not taken of a session when another takes its place.

use super::{Item, MESSAGE_COST, Shared, lock};

impl Shared {
    /// Another session takes the place of this one. What the host has not taken stays for it: it comes no more, and
    /// counts for nothing. How much memory that is.
    pub(in crate::session) fn keep_former(&self) -> usize {
        let owner = self.facts().map(|facts| (facts.session, facts.direction));
        let mut incoming = lock(&self.incoming);
        let mut cost = 0;
        for item in &mut incoming.queue {
            if let Item::Message { former, body, .. } = item {
                *former = former.or(owner);
                cost += body.len() + MESSAGE_COST;
            }
        }
        for lane in &mut incoming.lanes {
            cost += lane.keep_former();
        }
        cost
    }
}
