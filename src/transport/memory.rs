//! stub
/// stub
#[derive(Debug)]
pub struct MemoryTransport;
