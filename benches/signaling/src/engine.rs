//! A `nats-server` of its own, and as little of its protocol as it takes to see how long the engine itself needs.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// How long the engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A NATS server, killed when dropped.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    address: SocketAddr,
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Engine {
    /// Starts one on `core` and waits until it serves.
    pub fn start(core: usize) -> io::Result<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = free.local_addr()?;
        drop(free);
        let child = Command::new("taskset")
            .args(["-c", &core.to_string(), "nats-server"])
            .args(["-a", "127.0.0.1", "-p", &address.port().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::other(format!("nats-server: {error}")))?;
        let mut engine = Self { child, address };
        let log = engine.child.stderr.take().expect("it is piped");
        for line in BufReader::new(log).lines() {
            if line?.contains("Server is ready") {
                return Ok(engine);
            }
        }
        Err(io::Error::other("nats-server does not start"))
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

/// A client of NATS that subscribes to one subject and publishes to another.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    held: Vec<u8>,
    message: Vec<u8>,
}

impl Subscriber {
    /// Subscribes to `own`; what it will publish to `other` is `payload`.
    pub fn connect(engine: &Engine, own: &str, other: &str, payload: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(engine.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let length = payload.len();
        let mut subscriber = Self {
            stream,
            held: Vec::new(),
            message: format!("PUB {other} {length}\r\n{payload}\r\n").into_bytes(),
        };
        let greeting = format!("CONNECT {{\"verbose\":false}}\r\nSUB {own} 1\r\nPING\r\n");
        subscriber.stream.write_all(greeting.as_bytes())?;
        subscriber.wait_for(b"PONG\r\n")?;
        Ok(subscriber)
    }

    pub fn publish(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.message)
    }

    /// Waits until what the other one publishes is here: it ends like the own message.
    pub fn receive(&mut self) -> io::Result<()> {
        let payload = self.message.len() - 1 - position(&self.message, b"\n").unwrap_or(0);
        let end = self.message[self.message.len() - payload..].to_vec();
        self.wait_for(&end)
    }

    fn wait_for(&mut self, end: &[u8]) -> io::Result<()> {
        loop {
            if let Some(at) = position(&self.held, end) {
                self.held.drain(..at + end.len());
                return Ok(());
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.held.extend_from_slice(&buffer[..read]),
            }
        }
    }
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
