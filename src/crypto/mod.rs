//! Cryptography: bytes in, bytes out; no clock, no randomness of its own, no knowledge of the protocol's headers.
