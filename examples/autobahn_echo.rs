//! The server's WebSocket codec behind an echo, for the Autobahn test suite: `scripts/autobahn`.
//!
//! The server itself echoes nothing and takes messages of 24 KiB at most; here the same code reads and writes frames,
//! with bounds wide enough for what the suite sends. One thread for each connection.

#![allow(
    clippy::print_stdout,
    reason = "a program for the terminal: the suite reads where it listens"
)]

use std::{
    error::Error,
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use base64ct::{Base64, Encoding as _};
use sealwire::server::websocket::{Bounds, Decoder, Frame, Kind, Violation, encode, encode_close};
use sha1::{Digest as _, Sha1};

/// The suite's largest messages have 16 MiB.
const BOUNDS: Bounds = Bounds {
    message: 16 << 20,
    fragments: u32::MAX,
};

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        // The suite breaks connections on purpose.
        thread::spawn(move || serve(stream).unwrap_or_default());
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut held = handshake(&mut stream)?;
    let (mut decoder, mut out) = (Decoder::new(BOUNDS), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let mut at = 0;
        let mut is_open = true;
        while is_open {
            match decoder.decode(&mut held[at..]) {
                Ok(None) => break,
                Ok(Some((size, frame))) => {
                    is_open = answer(&frame, &mut out);
                    at += size;
                }
                Err(violation) => {
                    encode_close(code(violation), &violation.to_string(), &mut out);
                    is_open = false;
                }
            }
        }
        stream.write_all(&out)?;
        out.clear();
        held.drain(..at);
        if !is_open {
            return linger(&mut stream, &mut buffer);
        }
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => held.extend_from_slice(&buffer[..read]),
        }
    }
}

/// Returns what came after the request.
fn handshake(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let end = loop {
        let mut buffer = [0; 1_024];
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..read]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
        .ok_or(ErrorKind::InvalidData)?;
    let proof = [key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let accept = Base64::encode_string(&Sha1::digest(proof));
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    Ok(head.split_off(end))
}

/// Appends the answer. Returns whether the connection goes on.
fn answer(frame: &Frame<'_>, out: &mut Vec<u8>) -> bool {
    match frame {
        Frame::Text(text) => encode(Kind::Text, text.as_bytes(), out),
        Frame::Binary(bytes) => encode(Kind::Binary, bytes, out),
        Frame::Ping(payload) => encode(Kind::Pong, payload, out),
        Frame::Fragment | Frame::Pong => {}
        Frame::Close(Some(code)) => encode_close(*code, "", out),
        Frame::Close(None) => encode(Kind::Close, b"", out),
    }
    !matches!(frame, Frame::Close(_))
}

fn code(violation: Violation) -> u16 {
    match violation {
        Violation::Protocol => 1002,
        Violation::NotUtf8 => 1007,
        Violation::TooLong => 1009,
        Violation::TooManyFragments => 4013,
    }
}

/// Waits until the client closes too: bytes left unread would reset the connection.
fn linger(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    while stream.read(buffer)? > 0 {}
    Ok(())
}
