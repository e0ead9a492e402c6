//! The two addresses that a signaling server knows: where endpoints meet, and who is there. Plain bytes to it.

use std::fmt;

/// Where two endpoints meet at the server: 32 bytes, derived from a pairing secret or a public name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(pub [u8; 32]);

/// One endpoint's name in a room: 16 random bytes, fresh for every join. The smaller of two initiates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub [u8; 16]);

impl fmt::Debug for RoomId {
    /// Room ids are secrets of those who meet there: the bytes stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoomId(..)")
    }
}

impl fmt::Debug for EndpointId {
    /// The first four bytes, in hexadecimal: enough to tell endpoints apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "EndpointId({a:02x}{b:02x}{c:02x}{d:02x})")
    }
}
