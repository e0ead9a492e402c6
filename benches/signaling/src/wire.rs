//! As little of WebSocket as a load needs: a request, masked frames out, plain frames in.

use std::ops::Range;

/// Text.
pub const TEXT: u8 = 1;
/// Close, with a code.
pub const CLOSE: u8 = 8;
/// Ping.
pub const PING: u8 = 9;
/// Pong.
pub const PONG: u8 = 10;

/// Any mask will do: servers undo what they are told.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The request for a WebSocket.
pub fn request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// Where the head of an HTTP message ends.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(end + 4)
}

/// A final frame of a client; `payload` is at most 65 535 bytes.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            let length = u16::try_from(length).expect("a load sends small frames");
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masked = payload.iter().zip(MASK.iter().cycle());
    frame.extend(masked.map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame of a server: its opcode and where its payload is. `None` while it is incomplete.
pub fn server_frame(bytes: &[u8]) -> Option<(u8, Range<usize>)> {
    let (opcode, short) = (*bytes.first()? & 0x0f, *bytes.get(1)? & 0x7f);
    let (start, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(field(bytes)?))),
        127 => (10, u64::from_be_bytes(field(bytes)?) as usize),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= start + length).then_some((opcode, start..start + length))
}

fn field<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(2..2 + N)?.try_into().ok()
}
