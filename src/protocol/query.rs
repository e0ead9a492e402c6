//! What the shell may ask of a machine at any time, without changing it.

use super::machine::Machine;

impl Machine {
    /// The channels that both sides listed alike, once known: numbers 1 to 15, ascending.
    #[must_use]
    pub fn live_channels(&self) -> Vec<u8> {
        let live = self.talk().into_iter().flat_map(|talk| &talk.live);
        live.map(|live| live.id).collect()
    }

    /// The longest message of a lossy channel on the present transport, in bytes: what fits one frame.
    #[must_use]
    pub fn max_datagram(&self) -> Option<usize> {
        self.secure
            .as_ref()
            .map(|secure| secure.channels.max_body())
    }

    /// Whether the session rests without a transport because the host wants it so.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.suspended.as_ref().is_some_and(|one| one.parked)
    }

    /// Whether a handshake with a restarted peer is about to replace the session: what the host sends now is of neither
    /// and has to wait.
    #[must_use]
    pub fn is_replacing(&self) -> bool {
        self.visit.as_ref().is_some_and(|visit| visit.old.is_some())
    }
}
