//! Files for the `age` tool (<https://age-encryption.org/v1>): one passphrase, one stream of chunks. Writing only.
//!
//! ```text
//! age-encryption.org/v1
//! -> scrypt <salt> <log2 N>          wrap = scrypt(passphrase, "age-encryption.org/v1/scrypt" || salt, N, r 8, p 1)
//! <ChaCha20-Poly1305(wrap, nonce 0, file key)>
//! --- <HMAC-SHA256(HKDF(file key, "", "header"), all up to "---")>
//! nonce 16 || chunk ...              each 64 KiB under HKDF(file key, nonce, "payload"); its nonce: counter 11 || last 0/1
//! ```

use std::io::{self, Write};

use base64ct::{Base64Unpadded, Encoding as _};
use zeroize::Zeroizing;

use super::aead::{self, TAG_LEN};
use super::kdf;
use super::secret::Secret;
use crate::entropy::{self, Entropy};

/// Bytes of a chunk before it is sealed.
const CHUNK: usize = 64 << 10;
/// log2 N of scrypt: about a second, and 256 MiB, as the tool itself has it.
pub const WORK_FACTOR: u8 = 18;

/// Encrypts what is written to it. Without [`finish`](Self::finish) the file is cut, and does not open.
pub struct Writer<W: Write> {
    out: W,
    key: Secret,
    counter: u64,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> Writer<W> {
    /// Writes the header. It takes the time and memory of scrypt with N = 2^`work_factor`.
    ///
    /// # Errors
    /// Those of `out`, and `OutOfMemory` or `InvalidInput` where scrypt fails.
    pub fn begin(
        mut out: W,
        passphrase: &[u8],
        work_factor: u8,
        entropy: &mut dyn Entropy,
    ) -> io::Result<Self> {
        let file_key: Secret<16> = Secret::random(entropy);
        let salt: [u8; 16] = entropy::random(entropy);
        let nonce: [u8; 16] = entropy::random(entropy);
        let stanza = stanza(&file_key, passphrase, &salt, work_factor)?;
        let header = format!("age-encryption.org/v1\n{stanza}\n---");
        let mac_key: Secret = hkdf(&file_key, &[], b"header");
        let mac = kdf::hmac_sha256(mac_key.expose(), &[header.as_bytes()]);
        let mac = Base64Unpadded::encode_string(mac.expose());
        out.write_all(format!("{header} {mac}\n").as_bytes())?;
        out.write_all(&nonce)?;
        Ok(Self {
            out,
            key: hkdf(&file_key, &nonce, b"payload"),
            counter: 0,
            chunk: Zeroizing::new(Vec::with_capacity(CHUNK + TAG_LEN)),
        })
    }

    /// Writes what is left, and says that it is the last.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(1)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, last: u8) -> io::Result<()> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&self.counter.to_be_bytes());
        nonce[11] = last;
        self.counter += 1;
        let tag = aead::seal(self.key.expose(), &nonce, &[], &mut self.chunk);
        self.out.write_all(&self.chunk)?;
        self.out.write_all(&tag)?;
        self.chunk.clear();
        Ok(())
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits: it may be the last.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.seal(0)?;
        }
        let count = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            out: _,
            key: _,
            counter,
            chunk: _,
        } = self;
        f.debug_struct("Writer")
            .field("counter", counter)
            .finish_non_exhaustive()
    }
}

fn stanza(
    file_key: &Secret<16>,
    passphrase: &[u8],
    salt: &[u8; 16],
    work_factor: u8,
) -> io::Result<String> {
    let params = scrypt::Params::new(work_factor, 8, 1).map_err(io::Error::other)?;
    let label = [b"age-encryption.org/v1/scrypt".as_slice(), salt].concat();
    let mut wrap = Secret::<32>::zeroed();
    scrypt::scrypt(passphrase, &label, &params, wrap.bytes_mut()).map_err(io::Error::other)?;
    let mut body = Zeroizing::new(file_key.expose().to_vec());
    let tag = aead::seal(wrap.expose(), &[0; 12], &[], &mut body);
    body.extend_from_slice(&tag);
    let (salt, body) = (
        Base64Unpadded::encode_string(salt),
        Base64Unpadded::encode_string(&body),
    );
    Ok(format!("-> scrypt {salt} {work_factor}\n{body}"))
}

fn hkdf(file_key: &Secret<16>, salt: &[u8], info: &[u8]) -> Secret {
    let prk = kdf::hmac_sha256(salt, &[file_key.expose()]);
    kdf::expand_info(prk.expose(), &[info])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::OsEntropy;

    /// The tool itself opens what is written here, where it is installed; it reads a passphrase from a terminal only, so
    /// the file key is unwrapped as it does.
    #[test]
    fn every_length_is_read_back_chunk_by_chunk() {
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let text: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut writer = Writer::begin(Vec::new(), b"passphrase", 4, &mut OsEntropy).unwrap();
            for piece in text.chunks(1_000) {
                writer.write_all(piece).unwrap();
            }
            let file = writer.finish().unwrap();
            assert_eq!(open(&file, b"passphrase"), Some(text));
            assert_eq!(open(&file, b"another"), None);
            assert_eq!(open(&file[..file.len() - 1], b"passphrase"), None);
        }
    }

    /// The steps of a reader, from the specification.
    fn open(file: &[u8], passphrase: &[u8]) -> Option<Vec<u8>> {
        let end = file.windows(5).position(|bytes| bytes == b"\n--- ")?;
        let header = std::str::from_utf8(&file[..end + 4]).ok()?;
        let mut lines = header.lines();
        assert_eq!(lines.next(), Some("age-encryption.org/v1"));
        let arguments: Vec<&str> = lines.next()?.split(' ').collect();
        let ["->", "scrypt", salt, work] = arguments[..] else {
            return None;
        };
        let salt = Base64Unpadded::decode_vec(salt).ok()?;
        let mut wrapped = Base64Unpadded::decode_vec(lines.next()?).ok()?;
        let params = scrypt::Params::new(work.parse().ok()?, 8, 1).ok()?;
        let label = [b"age-encryption.org/v1/scrypt".as_slice(), &salt].concat();
        let mut wrap = [0; 32];
        scrypt::scrypt(passphrase, &label, &params, &mut wrap).ok()?;
        let key = aead::open(&wrap, &[0; 12], &[], &mut wrapped).ok()?;
        let key = Secret::<16>::new((&*key).try_into().ok()?);
        let rest = &file[end + 5..];
        let line = rest.iter().position(|byte| *byte == b'\n')?;
        let mac_key = hkdf(&key, &[], b"header");
        let mac = kdf::hmac_sha256(mac_key.expose(), &[header.as_bytes()]);
        assert_eq!(
            rest[..line],
            *Base64Unpadded::encode_string(mac.expose()).as_bytes()
        );
        let (nonce, payload) = rest[line + 1..].split_first_chunk::<16>()?;
        let key = hkdf(&key, nonce, b"payload");
        let mut text = Vec::new();
        let chunks: Vec<&[u8]> = payload.chunks(CHUNK + TAG_LEN).collect();
        for (at, chunk) in chunks.iter().enumerate() {
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&(at as u64).to_be_bytes());
            nonce[11] = u8::from(at + 1 == chunks.len());
            let mut chunk = chunk.to_vec();
            text.extend_from_slice(aead::open(key.expose(), &nonce, &[], &mut chunk).ok()?);
        }
        Some(text)
    }

    #[test]
    fn a_flush_reaches_what_is_written_to() {
        struct Flushed(bool);
        impl Write for Flushed {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                self.0 = true;
                Ok(())
            }
        }
        let mut writer = Writer::begin(Flushed(false), b"passphrase", 4, &mut OsEntropy).unwrap();
        assert!(!writer.out.0);
        writer.flush().unwrap();
        assert!(writer.out.0);
        assert_eq!(format!("{writer:?}"), "Writer { counter: 0, .. }");
    }
}
