//! Clients that come, join a room, leave it and are gone, a great many of them: what is left of them in the server?

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    time::Duration,
};

use mio::{Events, Poll, Token, net::TcpStream};

use crate::{
    crowd,
    process::Process,
    protocol::Protocol,
    wire::{self, CLOSE, TEXT},
};

/// Clients that are there at the same time.
const AT_ONCE: usize = 64;

/// How long all of them may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// The code of a connection whose client left.
const LEFT: [u8; 2] = 1000_u16.to_be_bytes();

#[derive(Debug)]
struct Visitor {
    stream: TcpStream,
    number: usize,
    /// What came and is not understood yet.
    held: Vec<u8>,
    step: Step,
}

/// What a visitor waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connecting,
    Upgrade,
    Welcome,
    End,
}

/// Lets `visits` clients come and go.
pub fn churn(process: &Process, visits: usize) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(AT_ONCE);
    let mut arriving = 0..visits;
    let mut visitors = Vec::new();
    for number in arriving.by_ref().take(AT_ONCE) {
        visitors.push(visitor(&poll, process, visitors.len(), number)?);
    }
    let mut gone = 0;
    while gone < visits {
        match poll.poll(&mut events, Some(PATIENCE)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            Ok(()) if events.is_empty() => {
                return Err(io::Error::other(format!("no progress after {gone} visits")));
            }
            _ => {}
        }
        for event in &events {
            let Token(place) = event.token();
            if visitors[place].advance()? {
                gone += 1;
                if let Some(number) = arriving.next() {
                    visitors[place] = visitor(&poll, process, place, number)?;
                } else {
                    poll.registry().deregister(&mut visitors[place].stream)?;
                }
            }
        }
    }
    Ok(())
}

fn visitor(poll: &Poll, process: &Process, place: usize, number: usize) -> io::Result<Visitor> {
    let stream = crowd::connect(poll, process.address(), place, number)?;
    Ok(Visitor {
        stream,
        number,
        held: Vec::new(),
        step: Step::Connecting,
    })
}

impl Visitor {
    /// Does what can be done. Returns whether its visit is over.
    fn advance(&mut self) -> io::Result<bool> {
        if self.step == Step::Connecting {
            match self.say(&wire::request(&Protocol::Sealwire.path(self.number))) {
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
                said => said?,
            }
            self.step = Step::Upgrade;
        }
        let mut buffer = [0; 2_048];
        let has_ended = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break true,
                Ok(read) => self.held.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
                Err(error) => return Err(error),
            }
        };
        if self.step == Step::Upgrade && !self.join()? {
            return Ok(false);
        }
        while let Some((opcode, payload)) = wire::server_frame(&self.held) {
            let end = payload.end;
            let text = &self.held[payload];
            match (opcode, self.step) {
                (CLOSE, Step::End) if text.starts_with(&LEFT) => return Ok(true),
                (TEXT, Step::Welcome) if text.starts_with(br#"{"type":"welcome""#) => {
                    self.say(&wire::client_frame(TEXT, br#"{"type":"leave"}"#))?;
                    self.step = Step::End;
                }
                // Others come and go in its room.
                (TEXT, Step::End) => {}
                _ => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    return Err(self.surprise(&text));
                }
            }
            self.held.drain(..end);
        }
        if has_ended {
            return Err(self.surprise("its connection ended"));
        }
        Ok(false)
    }

    /// Joins once the WebSocket is open.
    fn join(&mut self) -> io::Result<bool> {
        let Some(end) = wire::head_end(&self.held) else {
            return Ok(false);
        };
        if !self.held.starts_with(b"HTTP/1.1 101 ") {
            return Err(self.surprise("it was refused"));
        }
        self.held.drain(..end);
        let join = Protocol::Sealwire.join(self.number).unwrap_or_default();
        self.say(&wire::client_frame(TEXT, join.as_bytes()))?;
        self.step = Step::Welcome;
        Ok(true)
    }

    /// A new connection takes a few hundred bytes at once.
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.stream.write(bytes)? {
            written if written == bytes.len() => Ok(()),
            _ => Err(self.surprise("it cannot write")),
        }
    }

    fn surprise(&self, what: &str) -> io::Error {
        io::Error::other(format!("visitor {}: {what}", self.number))
    }
}
