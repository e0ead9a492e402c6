//! What it costs a message that its two ends are on different servers with NATS between them.
//!
//! Two servers and one `nats-server`; a pair of clients on one server, another pair across both, and a pair that speaks
//! to NATS itself: what no server that uses it can be faster than. They take turns: each sends a message when the last
//! one arrived.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    engine::{Engine, Subscriber},
    process::Process,
    protocol::{MESSAGE, Protocol},
    servers,
    wire::{self, TEXT},
};

/// Rounds, and messages there and back of each pair in a round.
const ROUNDS: usize = 200;
const MESSAGES: usize = 50;

/// How long a client may wait for anything.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a message takes, round by round: the median of each round.
#[derive(Debug, Default)]
pub struct Times {
    within: Vec<Duration>,
    across: Vec<Duration>,
    engine: Vec<Duration>,
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let added = self.across.iter().zip(&self.within);
        let added = added.map(|(across, within)| across.saturating_sub(*within));
        for (what, times) in [
            ("within a server", self.within.clone()),
            ("across two servers by NATS", self.across.clone()),
            ("by NATS alone", self.engine.clone()),
            ("across more than within", added.collect()),
        ] {
            let [low, median, high] = quartiles(times).map(|time| time.as_micros());
            writeln!(f, "{what}: {median} us ({low} to {high})")?;
        }
        write!(
            f,
            "(medians of the rounds' medians, and the middle half of them)"
        )
    }
}

/// Measures all three, with the servers and NATS on one core.
pub fn measure(core: usize, directory: &Path) -> io::Result<Times> {
    let engine = Engine::start(core)?;
    let server = || {
        let mut program = servers::ours(directory).program;
        program.extend(["--nats-url".to_owned(), engine.url()]);
        Process::start(core, &program, directory)
    };
    let (one, other) = (server()?, server()?);
    let mut within = pair([one.address(), one.address()], 0)?;
    let mut across = pair([one.address(), other.address()], 2)?;
    let payload = "q".repeat(MESSAGE);
    let mut bare = [
        Subscriber::connect(&engine, "a", "b", &payload)?,
        Subscriber::connect(&engine, "b", "a", &payload)?,
    ];
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        times.within.push(round(|| exchange(&mut within))?);
        times.across.push(round(|| exchange(&mut across))?);
        times.engine.push(round(|| exchange_bare(&mut bare))?);
    }
    Ok(times)
}

/// The median time of a message; half of a round trip is the time of one.
fn round(mut exchange: impl FnMut() -> io::Result<()>) -> io::Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..MESSAGES {
        let start = Instant::now();
        exchange()?;
        times.push(start.elapsed() / 2);
    }
    Ok(quartiles(times)[1])
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

/// A message there and back.
fn exchange([one, other]: &mut [(Client, String); 2]) -> io::Result<()> {
    one.0.send(&one.1)?;
    other.0.wait_for("message")?;
    other.0.send(&other.1)?;
    one.0.wait_for("message")
}

fn exchange_bare([one, other]: &mut [Subscriber; 2]) -> io::Result<()> {
    one.publish()?;
    other.receive()?;
    other.publish()?;
    one.receive()
}

/// The first quartile, the median, and the third quartile.
fn quartiles(mut times: Vec<Duration>) -> [Duration; 3] {
    times.sort_unstable();
    [1, 2, 3].map(|quarter| times[times.len() * quarter / 4])
}
