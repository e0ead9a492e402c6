//! What it costs a message that its two ends are on different servers with NATS between them.
//!
//! Two servers and one `nats-server`, a pair of clients on one server and another pair across both, which take turns:
//! each sends a message when the last one arrived.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    process::Process,
    protocol::Protocol,
    servers,
    wire::{self, TEXT},
};

/// Batches of each pair, and messages of a batch.
const BATCHES: usize = 200;
const BATCH: usize = 50;

/// How long a client may wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// The medians of a message's time: within one server, and across two.
pub fn measure(core: usize, directory: &Path) -> io::Result<(Duration, Duration)> {
    let (_engine, url) = start_nats()?;
    let server = || {
        let mut program = servers::ours(directory).program;
        program.extend(["--nats-url".to_owned(), url.clone()]);
        Process::start(core, &program, directory)
    };
    let (one, other) = (server()?, server()?);
    let mut within = pair([one.address(), one.address()], 0)?;
    let mut across = pair([one.address(), other.address()], 2)?;
    let (mut short, mut long) = (Vec::new(), Vec::new());
    for _ in 0..BATCHES {
        exchange(&mut within, &mut short)?;
        exchange(&mut across, &mut long)?;
    }
    Ok((median(short), median(long)))
}

struct Engine(Child);

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A NATS server of its own, and its address.
fn start_nats() -> io::Result<(Engine, String)> {
    let free = TcpListener::bind("127.0.0.1:0")?;
    let port = free.local_addr()?.port().to_string();
    drop(free);
    let child = Command::new("nats-server")
        .args(["-a", "127.0.0.1", "-p", &port])
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("nats-server: {error}")))?;
    let mut engine = Engine(child);
    let log = engine.0.stderr.take().expect("it is piped");
    for line in BufReader::new(log).lines() {
        if line?.contains("Server is ready") {
            return Ok((engine, format!("nats://127.0.0.1:{port}")));
        }
    }
    Err(io::Error::other("nats-server does not start"))
}

struct Client {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Client {
    fn join(server: SocketAddr, n: usize) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut client = Self {
            stream,
            held: Vec::new(),
        };
        let request = wire::request(&Protocol::Sealwire.path(n));
        client.stream.write_all(&request)?;
        let end = loop {
            match wire::head_end(&client.held) {
                Some(end) => break end,
                None => client.read()?,
            }
        };
        client.held.drain(..end);
        client.send(&Protocol::Sealwire.join(n).unwrap_or_default())?;
        client.wait_for("welcome")?;
        Ok(client)
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        let frame = wire::client_frame(TEXT, text.as_bytes());
        self.stream.write_all(&frame)
    }

    /// The next envelope of this type.
    fn wait_for(&mut self, kind: &str) -> io::Result<()> {
        let start = format!(r#"{{"type":"{kind}""#);
        loop {
            while let Some((opcode, payload)) = wire::server_frame(&self.held) {
                let is_it =
                    opcode == TEXT && self.held[payload.clone()].starts_with(start.as_bytes());
                self.held.drain(..payload.end);
                if is_it {
                    return Ok(());
                }
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.held.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}

/// Clients `n` and `n + 1`, who know of each other.
fn pair([one, other]: [SocketAddr; 2], n: usize) -> io::Result<[(Client, String); 2]> {
    let mut first = Client::join(one, n)?;
    let second = Client::join(other, n + 1)?;
    first.wait_for("joined")?;
    // The other server may hear of the first one a beat later.
    std::thread::sleep(Duration::from_secs(4));
    Ok([
        (first, Protocol::Sealwire.message(n)),
        (second, Protocol::Sealwire.message(n + 1)),
    ])
}

/// Messages there and back; half of a round trip is the time of one.
fn exchange([one, other]: &mut [(Client, String); 2], times: &mut Vec<Duration>) -> io::Result<()> {
    for _ in 0..BATCH {
        let start = Instant::now();
        one.0.send(&one.1)?;
        other.0.wait_for("message")?;
        other.0.send(&other.1)?;
        one.0.wait_for("message")?;
        times.push(start.elapsed() / 2);
    }
    Ok(())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
