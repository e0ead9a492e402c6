//! Attacks on frames (B1 to B8).

use crate::victim::{SCENES, Victim};

#[test]
fn a_peer_made_by_hand_gets_a_session_in_every_seat_and_role() {
    for (seat, initiates) in SCENES {
        let (victim, ..) = Victim::established(seat, initiates, 1);
        assert!(victim.is_established());
    }
}
