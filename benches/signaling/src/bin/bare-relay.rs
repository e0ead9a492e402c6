//! The bound: what a relay costs that does nothing but relay. One thread, one epoll, no limits, no clocks, no errors told:
//! two clients with the same path are a pair, and each frame of one goes unmasked to the other.
//!
//! Not a server for anybody: it trusts its clients and gives up a connection at the first surprise.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read as _, Write as _},
};

use base64ct::{Base64, Encoding as _};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use sha1::{Digest as _, Sha1};

const LISTENER: Token = Token(usize::MAX);

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    /// Who its frames go to.
    partner: Option<usize>,
    is_open: bool,
    /// The beginning of a frame or a request whose rest has not come.
    partial: Vec<u8>,
    /// What the system did not take.
    unsent: Vec<u8>,
}

#[derive(Debug)]
struct Relay {
    poll: Poll,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// Who waits for a partner.
    waiting: HashMap<String, usize>,
    buffer: Vec<u8>,
}

fn main() -> io::Result<()> {
    let address = "127.0.0.1:0".parse().map_err(io::Error::other)?;
    let mut listener = TcpListener::bind(address)?;
    println!("listening on {}", listener.local_addr()?);
    let mut relay = Relay {
        poll: Poll::new()?,
        clients: Vec::new(),
        free: Vec::new(),
        waiting: HashMap::new(),
        buffer: vec![0; 64 << 10],
    };
    let registry = relay.poll.registry();
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1_024);
    loop {
        match relay.poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            match event.token() {
                LISTENER => relay.accept(&listener)?,
                Token(n) => relay.serve(n, event.is_readable(), event.is_writable()),
            }
        }
    }
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_nodelay(true)?;
            let n = self.free.pop().unwrap_or(self.clients.len());
            let interests = Interest::READABLE | Interest::WRITABLE;
            let registry = self.poll.registry();
            registry.register(&mut stream, Token(n), interests)?;
            let client = Some(Client {
                stream,
                partner: None,
                is_open: false,
                partial: Vec::new(),
                unsent: Vec::new(),
            });
            match self.clients.get_mut(n) {
                Some(place) => *place = client,
                None => self.clients.push(client),
            }
        }
        Ok(())
    }

    fn serve(&mut self, n: usize, is_readable: bool, is_writable: bool) {
        let Some(client) = self.clients.get_mut(n).and_then(Option::as_mut) else {
            return;
        };
        let flushed = if is_writable && !client.unsent.is_empty() {
            let unsent = std::mem::take(&mut client.unsent);
            client.write(&unsent)
        } else {
            Ok(())
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let served = if is_readable {
            flushed.and_then(|()| self.read(n, &mut buffer))
        } else {
            flushed
        };
        self.buffer = buffer;
        if served.is_err() {
            self.forget(n);
        }
    }

    /// A read that does not fill the buffer has emptied the socket.
    fn read(&mut self, n: usize, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            let Some(client) = self.clients[n].as_mut() else {
                return Ok(());
            };
            let kept = client.partial.len();
            buffer[..kept].copy_from_slice(&client.partial);
            let read = match client.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let is_open = client.is_open;
            let bytes = &mut buffer[..kept + read];
            let consumed = if is_open {
                self.relay(n, bytes)?
            } else {
                self.open(n, bytes)?
            };
            if let Some(client) = self.clients[n].as_mut() {
                client.partial.clear();
                client.partial.extend_from_slice(&bytes[consumed..]);
            }
            if kept + read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Answers the handshake and pairs the client with whoever waits at its path.
    fn open(&mut self, n: usize, bytes: &[u8]) -> io::Result<usize> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(0);
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(io::Error::other)?;
        let path = head.split(' ').nth(1).ok_or(ErrorKind::InvalidData)?;
        let mut lines = head.split("\r\n");
        let key = lines
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .ok_or(ErrorKind::InvalidData)?;
        let proof = [key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
        let accept = Base64::encode_string(&Sha1::digest(proof));
        let partner = self.waiting.remove(path);
        if partner.is_none() {
            self.waiting.insert(path.to_owned(), n);
        }
        if let Some(other) = partner.and_then(|other| self.clients[other].as_mut()) {
            other.partner = Some(n);
        }
        let client = self.clients[n].as_mut().ok_or(ErrorKind::NotFound)?;
        (client.partner, client.is_open) = (partner, true);
        client.write(
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n\r\n"
            )
            .as_bytes(),
        )?;
        Ok(end + 4)
    }

    /// Unmasks complete frames in place, each with a new header right before its payload, and writes them.
    fn relay(&mut self, n: usize, bytes: &mut [u8]) -> io::Result<usize> {
        let partner = self.clients[n].as_ref().and_then(|client| client.partner);
        let mut at = 0;
        while let [first, second, rest @ ..] = &bytes[at..] {
            let (first, start, length) = match second & 0x7f {
                126 if rest.len() < 2 => break,
                126 => (
                    *first,
                    8,
                    usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                ),
                127 => return Err(ErrorKind::InvalidData.into()),
                length => (*first, 6, usize::from(length)),
            };
            if bytes.len() < at + start + length {
                break;
            }
            if first != 0x81 {
                return Err(ErrorKind::InvalidData.into());
            }
            let payload = at + start;
            let (head, body) = bytes[at..payload + length].split_at_mut(start);
            let mask = &head[start - 4..];
            for (byte, mask) in body.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
            let header = payload - (start - 4);
            bytes.copy_within(at..at + start - 4, header);
            bytes[header + 1] &= 0x7f;
            if let Some(other) = partner.and_then(|other| self.clients[other].as_mut()) {
                // What the partner cannot take is the partner's end, and told by its own events.
                let _ = other.write(&bytes[header..payload + length]);
            }
            at = payload + length;
        }
        Ok(at)
    }

    fn forget(&mut self, n: usize) {
        let Some(client) = self.clients[n].take() else {
            return;
        };
        match client.partner {
            Some(other) => {
                if let Some(other) = self.clients[other].as_mut() {
                    other.partner = None;
                }
            }
            None => self.waiting.retain(|_, waiting| *waiting != n),
        }
        self.free.push(n);
    }
}

impl Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match self.stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            written => written?,
        };
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}
