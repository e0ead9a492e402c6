//! What the signaling server carries: `kind(1) || body`. Opaque to it; hostile to us.

use super::VERSION;

/// The largest blob, in bytes.
pub(super) const MAX_BLOB: usize = 16_384;

const HS1: u8 = 1;
const HS2: u8 = 2;
const HS3: u8 = 3;
const SIG: u8 = 4;
const REJECT: u8 = 5;

/// How two endpoints meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Anyone who knows the room's name.
    Open,
    /// Holders of a pairing secret: invite, contact, resumption.
    Paired,
}

impl Mode {
    /// The byte in HS1 and in the prologue.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Paired => 1,
        }
    }
}

/// A blob, decoded as far as anybody can.
#[derive(Debug, PartialEq, Eq)]
pub enum Blob<'a> {
    /// The first handshake message, from the initiator.
    Hs1 {
        /// How they meet.
        mode: Mode,
        /// Which pairing secret; zero in open mode.
        psk_id: [u8; 16],
        /// The Noise message.
        noise: &'a [u8],
    },
    /// The same in another version of the protocol, in whatever layout it has there.
    OtherVersion {
        /// Which.
        version: u8,
        /// The rest.
        body: &'a [u8],
    },
    /// The second, from the responder.
    Hs2(&'a [u8]),
    /// The third, from the initiator.
    Hs3(&'a [u8]),
    /// An encrypted signaling record after the handshake.
    Sig {
        /// Its number.
        n: u64,
        /// The ciphertext.
        ciphertext: &'a [u8],
    },
    /// An unauthenticated hint.
    Reject(u8),
}

/// A blob that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobError;

impl<'a> Blob<'a> {
    /// Reads a blob.
    ///
    /// # Errors
    /// [`BlobError`] for a length, kind, or mode that does not exist.
    pub fn decode(blob: &'a [u8]) -> Result<Self, BlobError> {
        if blob.len() > MAX_BLOB {
            return Err(BlobError);
        }
        let (&kind, body) = blob.split_first().ok_or(BlobError)?;
        match kind {
            HS1 => Self::decode_hs1(body),
            HS2 => Ok(Self::Hs2(body)),
            HS3 => Ok(Self::Hs3(body)),
            SIG => {
                let (n, ciphertext) = body.split_first_chunk::<8>().ok_or(BlobError)?;
                Ok(Self::Sig {
                    n: u64::from_be_bytes(*n),
                    ciphertext,
                })
            }
            REJECT => match body {
                [code] => Ok(Self::Reject(*code)),
                _ => Err(BlobError),
            },
            _ => Err(BlobError),
        }
    }

    fn decode_hs1(body: &'a [u8]) -> Result<Self, BlobError> {
        let (&version, body) = body.split_first().ok_or(BlobError)?;
        // before anything else, for another version may have another layout.
        if version != VERSION {
            return Ok(Self::OtherVersion { version, body });
        }
        let (mode, rest) = body.split_first().ok_or(BlobError)?;
        let (psk_id, noise) = rest.split_first_chunk::<16>().ok_or(BlobError)?;
        let mode = match mode {
            0 => Mode::Open,
            1 => Mode::Paired,
            _ => return Err(BlobError),
        };
        Ok(Self::Hs1 {
            mode,
            psk_id: *psk_id,
            noise,
        })
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hs1 {
                mode,
                psk_id,
                noise,
            } => [&[HS1, VERSION, mode.to_byte()], psk_id.as_slice(), noise].concat(),
            Self::OtherVersion { version, body } => [&[HS1, *version], *body].concat(),
            Self::Hs2(noise) => [&[HS2], *noise].concat(),
            Self::Hs3(noise) => [&[HS3], *noise].concat(),
            Self::Sig { n, ciphertext } => {
                [&[SIG], n.to_be_bytes().as_slice(), ciphertext].concat()
            }
            Self::Reject(code) => vec![REJECT, *code],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_reads_back_as_it_was_written() {
        let blobs = [
            Blob::Hs1 {
                mode: Mode::Paired,
                psk_id: [7; 16],
                noise: b"noise",
            },
            Blob::Hs1 {
                mode: Mode::Open,
                psk_id: [0; 16],
                noise: b"",
            },
            Blob::OtherVersion {
                version: 2,
                body: b"x",
            },
            Blob::Hs2(b"two"),
            Blob::Hs3(b"three"),
            Blob::Sig {
                n: 5,
                ciphertext: b"sealed",
            },
            Blob::Reject(3),
        ];
        for blob in blobs {
            assert_eq!(Blob::decode(&blob.encode()), Ok(blob));
        }
    }

    ///
    #[test]
    fn what_is_no_blob_is_refused() {
        let oversized = vec![HS2; MAX_BLOB + 1];
        let bad: [&[u8]; 8] = [
            b"",
            &[0],
            &[6],
            &[HS1, 1],
            &[HS1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[SIG, 1, 2],
            &[REJECT],
            &oversized,
        ];
        for blob in bad {
            assert_eq!(Blob::decode(blob), Err(BlobError));
        }
        assert_eq!(Blob::decode(&[REJECT, 1, 2]), Err(BlobError));
    }

    ///
    #[test]
    fn the_longest_blob_is_read() {
        let longest = vec![HS2; MAX_BLOB];
        assert_eq!(Blob::decode(&longest), Ok(Blob::Hs2(&longest[1..])));
    }
}
