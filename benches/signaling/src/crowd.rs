//! Many clients in one thread. It must cost less than any server, so it allocates nothing for a message: each client
//! sends the same prepared frame again and again, and all read into one buffer.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use crate::{
    protocol::Protocol,
    wire::{self, CLOSE, PING, PONG, TEXT},
};

/// Clients that connect at the same time: fewer than any server's queue of pending connections.
const CONNECTING: usize = 64;

/// Source addresses that clients are spread over.
const SOURCES: usize = 2_000;

/// Longest wait for a server that should have something to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// Clients of one server.
#[derive(Debug)]
pub struct Crowd {
    protocol: Protocol,
    server: SocketAddr,
    poll: Poll,
    clients: Vec<Client>,
    buffer: Vec<u8>,
    opened: usize,
    greetings: usize,
    exchange: Exchange,
}

/// What was relayed in a time.
#[derive(Debug, Default)]
pub struct Relayed {
    pub messages: usize,
    /// From the call that sent a message to the one that received it.
    pub latencies: Vec<Duration>,
}

impl Relayed {
    /// The latency that one message in a hundred exceeds.
    pub fn p99(&mut self) -> Option<Duration> {
        let rank = self.latencies.len() * 99 / 100;
        (!self.latencies.is_empty()).then(|| *self.latencies.select_nth_unstable(rank).1)
    }
}

/// Begins a connection to `server`, told of as `token`; which number it has decides its source address.
pub fn connect(
    poll: &Poll,
    server: SocketAddr,
    token: usize,
    number: usize,
) -> io::Result<TcpStream> {
    let source = number % SOURCES;
    let source = Ipv4Addr::new(127, 1, (source / 250) as u8, (source % 250) as u8 + 1);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())?;
    // EINPROGRESS is no failure; a real one is told by the first write.
    let _ = socket.connect(&server.into());
    let mut stream = TcpStream::from_std(socket.into());
    let interests = Interest::READABLE | Interest::WRITABLE;
    poll.registry()
        .register(&mut stream, Token(token), interests)?;
    Ok(stream)
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    is_open: bool,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    /// What the system did not take.
    unsent: Vec<u8>,
    message: Vec<u8>,
    sent_at: Instant,
}

/// What clients do with a message from their pair.
#[derive(Debug)]
enum Exchange {
    /// Nothing: there should be none.
    None,
    /// Count it and answer.
    Answer(Relayed),
}

impl Crowd {
    /// Nobody yet.
    pub fn new(protocol: Protocol, server: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            protocol,
            server,
            poll: Poll::new()?,
            clients: Vec::new(),
            buffer: vec![0; 64 << 10],
            opened: 0,
            greetings: 0,
            exchange: Exchange::None,
        })
    }

    /// Connects until there are `count` clients, an even number, who may talk.
    pub fn grow(&mut self, count: usize) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let mut progress = (0, Instant::now());
        while self.opened < count || self.greetings < count / 2 * self.protocol.greetings() {
            while self.clients.len() < count && self.clients.len() - self.opened < CONNECTING {
                self.connect()?;
            }
            self.turn(&mut events, Duration::from_millis(100))?;
            if progress.0 != self.opened + self.greetings {
                progress = (self.opened + self.greetings, Instant::now());
            } else if progress.1.elapsed() > PATIENCE {
                let (opened, greetings) = (self.opened, self.greetings);
                return Err(io::Error::other(format!(
                    "no progress at {opened} connections, {greetings} greetings"
                )));
            }
        }
        Ok(())
    }

    /// Lets the first `pairs` pairs begin: each client sends, and again whenever what it sent has arrived.
    pub fn start(&mut self, pairs: usize) -> io::Result<()> {
        self.exchange = Exchange::Answer(Relayed::default());
        (0..2 * pairs).try_for_each(|n| self.send(n))
    }

    /// Lets them talk for `time` and returns what was relayed in it.
    pub fn talk(&mut self, time: Duration) -> io::Result<Relayed> {
        self.exchange = Exchange::Answer(Relayed::default());
        let mut events = Events::with_capacity(1_024);
        let end = Instant::now() + time;
        while let left = end.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.turn(&mut events, left)?;
        }
        match std::mem::replace(&mut self.exchange, Exchange::Answer(Relayed::default())) {
            Exchange::Answer(relayed) if relayed.messages > 0 => Ok(relayed),
            _ => Err(io::Error::other("it relayed nothing")),
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let n = self.clients.len();
        let stream = connect(&self.poll, self.server, n, n / 2)?;
        self.clients.push(Client {
            stream,
            is_open: false,
            partial: Vec::new(),
            unsent: wire::request(&self.protocol.path(n)),
            message: Vec::new(),
            sent_at: Instant::now(),
        });
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, wait: Duration) -> io::Result<()> {
        match self.poll.poll(events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            let Token(n) = event.token();
            if event.is_writable() && !self.clients[n].unsent.is_empty() {
                self.clients[n].flush()?;
            }
            if event.is_readable() {
                self.read(n)?;
            }
        }
        Ok(())
    }

    /// Reads what is there. A read that does not fill the buffer has emptied the socket.
    fn read(&mut self, n: usize) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let kept = self.clients[n].partial.len();
            buffer[..kept].copy_from_slice(&self.clients[n].partial);
            let read = match self.clients[n].stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(io::Error::other(format!("client {n} lost its connection"))),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            let bytes = &buffer[..kept + read];
            let consumed = self.receive(n, bytes)?;
            let partial = &mut self.clients[n].partial;
            partial.clear();
            partial.extend_from_slice(&bytes[consumed..]);
            if kept + read < buffer.len() {
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    /// Takes what is complete; returns how much that was.
    fn receive(&mut self, n: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut at = 0;
        if !self.clients[n].is_open {
            match wire::head_end(bytes) {
                None => return Ok(0),
                Some(end) if bytes.starts_with(b"HTTP/1.1 101 ") => at = end,
                Some(_) => {
                    let line = bytes
                        .split(|&byte| byte == b'\r')
                        .next()
                        .unwrap_or_default();
                    let line = String::from_utf8_lossy(line);
                    return Err(io::Error::other(format!("client {n} was refused: {line}")));
                }
            }
            self.open(n)?;
        }
        while let Some((opcode, payload)) = wire::server_frame(&bytes[at..]) {
            let end = at + payload.end;
            self.handle(n, opcode, &bytes[at + payload.start..end])?;
            at = end;
        }
        Ok(at)
    }

    fn open(&mut self, n: usize) -> io::Result<()> {
        self.opened += 1;
        let client = &mut self.clients[n];
        client.is_open = true;
        client.unsent = Vec::new();
        client.message = wire::client_frame(TEXT, self.protocol.message(n).as_bytes());
        match self.protocol.join(n) {
            Some(join) => client.write(&wire::client_frame(TEXT, join.as_bytes())),
            None => Ok(()),
        }
    }

    fn handle(&mut self, n: usize, opcode: u8, payload: &[u8]) -> io::Result<()> {
        match opcode {
            PING => self.clients[n].write(&wire::client_frame(PONG, payload)),
            CLOSE => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                Err(io::Error::other(format!("client {n} was closed: {code:?}")))
            }
            TEXT => self.hear(n, payload),
            _ => Ok(()),
        }
    }

    fn hear(&mut self, n: usize, text: &[u8]) -> io::Result<()> {
        let protocol = self.protocol;
        match &mut self.exchange {
            Exchange::None => self.greetings += 1,
            Exchange::Answer(relayed) if protocol.is_for(n, text) => {
                relayed.messages += 1;
                relayed
                    .latencies
                    .push(self.clients[n ^ 1].sent_at.elapsed());
                return self.send(n ^ 1);
            }
            Exchange::Answer(_) if protocol == Protocol::Broadcast => {}
            Exchange::Answer(_) => {
                let text = String::from_utf8_lossy(text);
                return Err(io::Error::other(format!("client {n} was told {text}")));
            }
        }
        Ok(())
    }

    fn send(&mut self, n: usize) -> io::Result<()> {
        let client = &mut self.clients[n];
        client.sent_at = Instant::now();
        let message = std::mem::take(&mut client.message);
        let sent = client.write(&message);
        client.message = message;
        sent
    }
}

impl Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        match self.stream.write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(written) => {
                self.unsent.extend_from_slice(&bytes[written..]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.unsent.extend_from_slice(bytes);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        self.write(&unsent)
    }
}
