//! Two peers that echo messages, end-to-end encrypted over a real WebRTC data channel.
//!
//! ```text
//! cargo run --release --example echo_peer                    # all in one process, with figures
//! cargo run --release --example echo_peer -- listen [--server ws://127.0.0.1:8080]
//! cargo run --release --example echo_peer -- dial INVITE
//! ```
//! `--raw`: bodies are the bytes themselves, for a peer of another implementation. `--json`: one JSON object a line.
//! `listen` without `--server` starts a server of its own on this machine. The exit code is 0 only after a graceful
//! close by both sides.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a program for the terminal, which measures"
)]

use std::{
    error::Error,
    io::{BufRead as _, IsTerminal as _, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use sealwire::{
    Content, Identity, Invite,
    protocol::Event,
    server::Server,
    session::{Bodies, Session},
};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUND_TRIPS: usize = 1_000;
const BULK_MESSAGES: usize = 2_000;
const BULK_SIZE: usize = 64 << 10;
const LAST_ECHO: Duration = Duration::from_secs(5);

struct Args {
    role: Role,
    bodies: Bodies,
    json: bool,
}

enum Role {
    Both,
    Listen { server: Option<String> },
    Dial { invite: String },
}

const USAGE: &str = "usage: echo_peer [listen [--server URL] | dial INVITE] [--raw] [--json]";

fn parse_args() -> Outcome<Args> {
    let mut args = Args {
        role: Role::Both,
        bodies: Bodies::Messages,
        json: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match (word.as_str(), &mut args.role) {
            ("--raw", _) => args.bodies = Bodies::Raw,
            ("--json", _) => args.json = true,
            ("listen", Role::Both) => args.role = Role::Listen { server: None },
            ("--server", Role::Listen { server }) => *server = Some(words.next().ok_or(USAGE)?),
            ("dial", Role::Both) => {
                args.role = Role::Dial {
                    invite: words.next().ok_or(USAGE)?,
                }
            }
            _ => return Err(USAGE.into()),
        }
    }
    Ok(args)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match parse_args() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let outcome = match &args.role {
        Role::Both => both(&args).await,
        Role::Listen { server } => listen(&args, server.as_deref()).await,
        Role::Dial { invite } => dial(&args, invite).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(
                &args,
                json!({ "event": "error", "text": error.to_string() }),
                &format!("error: {error}"),
            );
            ExitCode::FAILURE
        }
    }
}

/// One line for people or one for programs.
fn say(args: &Args, json: serde_json::Value, text: &str) {
    let mut out = std::io::stdout().lock();
    let line = if args.json {
        json.to_string()
    } else {
        text.to_owned()
    };
    // Whoever reads this may be gone; the exit code still tells.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A server of this process, for as long as the process lives.
async fn start_server() -> Outcome<String> {
    let server = Server::bind("127.0.0.1:0").await?;
    let url = format!("ws://{}", server.local_addr()?);
    tokio::spawn(server.serve(std::future::pending()));
    Ok(url)
}

/// Everything in one process: a server, two peers, and how fast it went.
async fn both(args: &Args) -> Outcome {
    let url = start_server().await?;
    let alice = Identity::generate();
    let invite = Invite::new(&alice, &url)?;
    let text = invite.to_string();
    say(
        args,
        json!({ "event": "invite", "text": text }),
        &format!("invite          {text}"),
    );

    let begun = Instant::now();
    let (listener, dialer) = tokio::join!(
        Session::builder(alice)
            .invite(invite)
            .bodies(args.bodies)
            .connect(),
        Session::builder(Identity::generate())
            .redeem(text.parse()?)
            .bodies(args.bodies)
            .connect(),
    );
    let (listener, dialer) = (listener?, dialer?);
    let connect = begun.elapsed();
    announce(args, &dialer);

    let echo = tokio::spawn(async move { serve_echo(&listener).await.map(|_| listener) });
    let (p50, p99) = round_trips(&dialer).await?;
    let throughput = bulk(&dialer).await?;
    say(
        args,
        json!({
            "event": "figures", "connect_ms": ms(connect), "round_trip_p50_us": us(p50), "round_trip_p99_us": us(p99),
            "echo_mb_per_s": throughput,
        }),
        &format!(
            "connect         {:.1} ms, server and both peers in this process\n\
             round trip      p50 {:.0} us, p99 {:.0} us, {ROUND_TRIPS} messages of 64 bytes\n\
             throughput      {throughput:.0} MB/s each way, {BULK_MESSAGES} messages of 64 KiB echoed",
            ms(connect),
            us(p50),
            us(p99),
        ),
    );
    dialer.close().await?;
    let _listener = echo.await??;
    say(
        args,
        json!({ "event": "closed", "code": 0 }),
        "closed          by both sides, nothing lost",
    );
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn announce(args: &Args, session: &Session) {
    let number = session.safety_number();
    let json = json!({
        "event": "established", "peer": session.peer().to_string(), "safety_number": number.to_string(),
    });
    let security = session
        .security()
        .to_string()
        .replace('\n', "\n                ");
    say(
        args,
        json,
        &format!("safety number   {number}\nsecurity        {security}"),
    );
}

/// Sends back whatever comes, until the peer closes. The number of messages.
async fn serve_echo(session: &Session) -> Outcome<u64> {
    let mut echoed = 0;
    while let Some(event) = session.next().await {
        match event {
            Event::Message(message) => {
                session.send(message.content).await?;
                echoed += 1;
            }
            Event::Failed { error } => return Err(error.into()),
            _ => {}
        }
    }
    Ok(echoed)
}

async fn next_message(session: &Session) -> Outcome<Content> {
    while let Some(event) = session.next().await {
        match event {
            Event::Message(message) => return Ok(message.content),
            Event::Failed { error } => return Err(error.into()),
            _ => {}
        }
    }
    Err("the session ended early".into())
}

/// One message at a time: the median and the 99th percentile of its way there and back.
async fn round_trips(session: &Session) -> Outcome<(Duration, Duration)> {
    let body = [7_u8; 64];
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let begun = Instant::now();
        session.send(body.as_slice()).await?;
        next_message(session).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok((times[ROUND_TRIPS / 2], times[ROUND_TRIPS * 99 / 100]))
}

/// As much as fits, both ways at once: megabytes a second in each direction.
async fn bulk(session: &Session) -> Outcome<f64> {
    let body = bytes::Bytes::from(vec![7; BULK_SIZE]);
    let begun = Instant::now();
    let sending = async {
        for _ in 0..BULK_MESSAGES {
            session.send(body.clone()).await?;
        }
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    };
    let receiving = async {
        for _ in 0..BULK_MESSAGES {
            next_message(session).await?;
        }
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    };
    tokio::try_join!(sending, receiving)?;
    Ok((BULK_MESSAGES * BULK_SIZE) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}

async fn listen(args: &Args, server: Option<&str>) -> Outcome {
    let url = match server {
        Some(server) => server.to_owned(),
        None => start_server().await?,
    };
    let me = Identity::generate();
    let invite = Invite::new(&me, &url)?;
    let text = invite.to_string();
    say(
        args,
        json!({ "event": "invite", "text": text }),
        &format!("in another terminal:\n  cargo run --release --example echo_peer -- dial {text}"),
    );
    let session = Session::builder(me)
        .invite(invite)
        .bodies(args.bodies)
        .connect()
        .await?;
    announce(args, &session);
    let mut outcome = Err("the session ended without a close".into());
    while let Some(event) = session.next().await {
        match event {
            Event::Message(message) => {
                if !args.json && args.bodies == Bodies::Messages {
                    say(args, json!(null), &message.to_string());
                }
                let bytes = message.content.as_bytes().map_or(0, <[u8]>::len);
                if args.json {
                    say(
                        args,
                        json!({ "event": "message", "bytes": bytes, "id": message.id.to_string() }),
                        "",
                    );
                }
                session.send(message.content).await?;
            }
            Event::Closed {
                code,
                reason,
                unacked,
            } => {
                say(
                    args,
                    json!({ "event": "closed", "code": code.to_wire(), "reason": reason, "unacked": unacked }),
                    &format!("closed: {code}, {unacked} messages unconfirmed"),
                );
                outcome = if unacked == 0 {
                    Ok(())
                } else {
                    Err("messages were not confirmed".into())
                };
            }
            Event::Failed { error } => outcome = Err(error.into()),
            _ => {}
        }
    }
    outcome
}

async fn dial(args: &Args, invite: &str) -> Outcome {
    let invite: Invite = invite.parse()?;
    let session = Session::builder(Identity::generate())
        .redeem(invite)
        .bodies(args.bodies)
        .connect()
        .await?;
    announce(args, &session);
    let mut lines = read_lines(args);
    let mut owed = 0_u32;
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    session.send(line).await?.delivered().await?;
                    owed += 1;
                }
                None => break,
            },
            event = session.next() => match event {
                Some(Event::Message(message)) => {
                    print_message(args, &message.content);
                    owed = owed.saturating_sub(1);
                }
                Some(Event::Failed { error }) => return Err(error.into()),
                Some(Event::Closed { .. }) | None => return Ok(()),
                Some(_) => {}
            },
        }
    }
    // The last echoes are still on their way; a peer of another implementation may send none.
    while owed > 0
        && let Ok(Ok(content)) = tokio::time::timeout(LAST_ECHO, next_message(&session)).await
    {
        print_message(args, &content);
        owed -= 1;
    }
    session.close().await?;
    say(args, json!({ "event": "closed", "code": 0 }), "closed");
    Ok(())
}

fn print_message(args: &Args, content: &Content) {
    let text = match content {
        Content::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => other.as_text().unwrap_or_default().to_owned(),
    };
    say(
        args,
        json!({ "event": "message", "text": text }),
        &format!("echo: {text}"),
    );
}

/// Lines of standard input; three greetings when there is nobody to type.
fn read_lines(args: &Args) -> tokio::sync::mpsc::Receiver<String> {
    let (tx, rx) = tokio::sync::mpsc::channel(16);
    let quiet = args.json || !std::io::stdin().is_terminal();
    if !quiet {
        println!("type lines; an end of file (ctrl-d) closes the session");
    }
    std::thread::spawn(move || {
        let mut any = false;
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            any = true;
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
        if !any {
            for greeting in ["hello", "from another process", "goodbye"] {
                let _ = tx.blocking_send(greeting.to_owned());
            }
        }
    });
    rx
}
