//! Files from one peer to another, with a bar on both sides. Interrupted in any way, the same commands go on where it was.
//!
//! ```text
//! cargo run --release --example send_file -- [FILE]           # all in one process, with a file of its own
//!
//! cargo run --release --example send_file -- listen FOLDER --vault bob.vault --server ws://127.0.0.1:8080
//! cargo run --release --example send_file -- dial FILE --vault alice.vault --invite INVITE
//! ```
//! The first time the two meet by the invite that `listen` prints, and become contacts; from then on `dial` takes
//! `--server` in the place of `--invite`. `listen` without `--server` starts one, until it ends. `--json`: one JSON object
//! a line. The exit code is 0 only after a graceful close.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a program for the terminal, which measures"
)]

use std::{
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use indicatif::{ProgressBar, ProgressStyle};
use sealwire::{
    Contact, Identity, Invite,
    protocol::Event,
    server::Server,
    session::{FileReport, FileTransfer, IncomingOffer, Session, StreamError},
    store::{IdentityStore, Passphrase},
};
use serde_json::json;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Of the file that is made where none is named.
const DEMO_SIZE: usize = 256 << 20;
/// Under which each side keeps the other.
const LABEL: &str = "the other side";
const USAGE: &str = "usage: send_file [FILE] | listen FOLDER --vault FILE [--server URL] | \
                     dial FILE --vault FILE (--server URL | --invite INVITE)   [--json]";

#[derive(Default)]
struct Args {
    words: Vec<String>,
    vault: Option<PathBuf>,
    server: Option<String>,
    invite: Option<String>,
    json: bool,
}

fn parse_args() -> Outcome<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--json" => args.json = true,
            "--vault" => args.vault = Some(value()?.into()),
            "--server" => args.server = Some(value()?),
            "--invite" => args.invite = Some(value()?),
            option if option.starts_with("--") => return Err(USAGE.into()),
            _ => args.words.push(word),
        }
    }
    Ok(args)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match parse_args() {
        Ok(args) => run(&args).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Outcome {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match words[..] {
        [] => both(args, None).await,
        ["listen", folder] => listen(args, Path::new(folder)).await,
        ["dial", file] => dial(args, Path::new(file)).await,
        [file] => both(args, Some(Path::new(file))).await,
        _ => Err(USAGE.into()),
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

/// A server, two peers and a file, all in this process.
async fn both(args: &Args, file: Option<&Path>) -> Outcome {
    let folder = tempfile::tempdir()?;
    let made = folder.path().join("made here.bin");
    let file = match file {
        Some(file) => file,
        None => {
            let block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
            let mut out = std::fs::File::create(&made)?;
            for _ in 0..DEMO_SIZE / block.len() {
                out.write_all(&block)?;
            }
            &made
        }
    };
    let url = start_server().await?;
    let alice = Identity::generate();
    let invite = Invite::new(&alice, &url)?;
    let redeemed: Invite = invite.to_string().parse()?;
    let (sender, receiver) = tokio::try_join!(
        Session::builder(alice).invite(invite).streams().connect(),
        Session::builder(Identity::generate())
            .redeem(redeemed)
            .streams()
            .connect(),
    )?;
    let begun = Instant::now();
    let sending = sender.send_file(file).await?;
    let Some(IncomingOffer::File(offer)) = receiver.next_offer().await else {
        return Err("no file was offered".into());
    };
    let target = folder.path().join("received");
    let receiving = offer.accept(&target).await?;
    let (sent, _) = tokio::try_join!(watch(args, sending), watch_quietly(receiving))?;
    let rate = sent.bytes as f64 / 1e6 / begun.elapsed().as_secs_f64();
    say(
        args,
        json!({ "event": "figures", "mb_per_s": rate, "peak_memory_mb": peak_memory() }),
        &format!(
            "{} bytes at {rate:.0} MB/s from disk to disk, {:.0} MB of memory at most",
            sent.bytes,
            peak_memory()
        ),
    );
    sender.close().await?;
    Ok(())
}

/// Receives whatever files come, until the other side closes.
async fn listen(args: &Args, folder: &Path) -> Outcome {
    let server = match &args.server {
        Some(server) => server.clone(),
        None => start_server().await?,
    };
    let session = meet(args, &server).await?;
    loop {
        tokio::select! {
            offer = session.next_offer() => match offer {
                Some(IncomingOffer::File(offer)) => {
                    // The name is safe in any folder, whatever the other side sent.
                    let path = folder.join(offer.name());
                    match receive(args, session.accept_file(&offer, &path).await).await {
                        Ok(report) => done(args, "received", &report),
                        // What arrived stays, and goes on with the next offer.
                        Err(error @ (StreamError::Reset | StreamError::Ended(_))) => say(
                            args,
                            json!({ "event": "interrupted", "text": error.to_string() }),
                            &format!("interrupted: {error}"),
                        ),
                        Err(error) => return Err(error.into()),
                    }
                }
                Some(_) => {}
                None => break,
            },
            event = session.next() => match event {
                Some(event) => told(args, &event)?,
                None => return Ok(()),
            },
        }
    }
    while let Some(event) = session.next().await {
        told(args, &event)?;
    }
    Ok(())
}

async fn receive(
    args: &Args,
    accepted: Result<FileTransfer, StreamError>,
) -> Result<FileReport, StreamError> {
    watch(args, accepted?).await
}

/// Sends one file.
async fn dial(args: &Args, file: &Path) -> Outcome {
    let server = match (&args.server, &args.invite) {
        (Some(server), _) => server.clone(),
        (None, Some(invite)) => invite.parse::<Invite>()?.server().to_owned(),
        (None, None) => return Err(USAGE.into()),
    };
    let session = meet(args, &server).await?;
    let report = watch(args, session.send_file(file).await?).await?;
    done(args, "sent", &report);
    session.close().await?;
    Ok(())
}

/// A session with the contact in the vault, who is made one by an invite first.
async fn meet(args: &Args, server: &str) -> Outcome<Session> {
    let vault = args.vault.as_ref().ok_or(USAGE)?;
    // A program for people asks for it.
    let passphrase = Passphrase::new("example")?;
    let mut store = IdentityStore::open_or_create(vault, &passphrase, Identity::generate)?;
    if store.contacts().get(LABEL).is_none() {
        let contact = make_contact(args, store.identity(), server).await?;
        store.contacts_mut().add(contact)?;
        store.save()?;
    }
    let contact = store.contacts().get(LABEL).ok_or("it was just added")?;
    let session = Session::builder(store.identity().clone())
        .contact(contact, server)
        .streams()
        .connect()
        .await?;
    let number = session.safety_number();
    say(
        args,
        json!({ "event": "established", "safety_number": number.to_string() }),
        &format!("safety number {number}"),
    );
    Ok(session)
}

async fn make_contact(args: &Args, me: &Identity, server: &str) -> Outcome<Contact> {
    let session = match &args.invite {
        Some(invite) => {
            let builder = Session::builder(me.clone()).redeem(invite.parse()?);
            builder.connect().await?
        }
        None => {
            let invite = Invite::new(me, server)?;
            let text = invite.to_string();
            say(
                args,
                json!({ "event": "invite", "text": text }),
                &format!("on the other side: send_file dial FILE --vault VAULT --invite {text}"),
            );
            Session::builder(me.clone())
                .invite(invite)
                .connect()
                .await?
        }
    };
    session.make_contact();
    wait_for(&session, |event| matches!(event, Event::ContactMade)).await?;
    // Neither leaves before both know.
    let told = session.send("we know each other").await?;
    wait_for(&session, |event| matches!(event, Event::Message(_))).await?;
    told.delivered().await?;
    let contact = session.contact(LABEL)?;
    // Both do; whoever comes second finds it closed.
    let _ = session.close().await;
    Ok(contact)
}

async fn wait_for(session: &Session, wanted: impl Fn(&Event) -> bool) -> Outcome {
    while let Some(event) = session.next().await {
        if wanted(&event) {
            return Ok(());
        }
        if let Event::Failed { error } = event {
            return Err(error.into());
        }
    }
    Err("the session ended early".into())
}

/// Shows how far a transfer is until it is over.
async fn watch(args: &Args, mut transfer: FileTransfer) -> Result<FileReport, StreamError> {
    let total = transfer.progress().total;
    let bar = match args.json {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(total),
    };
    let template = "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    bar.set_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    let mut shown = 0;
    while let Some(progress) = transfer.next_progress().await {
        bar.set_position(progress.bytes);
        if args.json && progress.bytes.abs_diff(shown) >= total / 50 {
            shown = progress.bytes;
            say(
                args,
                json!({ "event": "progress", "bytes": shown, "total": total }),
                "",
            );
        }
    }
    bar.finish_and_clear();
    transfer.finished().await
}

async fn watch_quietly(transfer: FileTransfer) -> Result<FileReport, StreamError> {
    transfer.finished().await
}

fn done(args: &Args, event: &str, report: &FileReport) {
    let sha256: String = report
        .sha256
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = report.path.display().to_string();
    say(
        args,
        json!({
            "event": event, "path": path, "bytes": report.bytes, "resumed_from": report.resumed_from, "sha256": sha256,
            "peak_memory_mb": peak_memory(),
        }),
        &format!("{event} {path}\n{} bytes, SHA-256 {sha256}", report.bytes),
    );
}

/// What a host may tell its people.
fn told(args: &Args, event: &Event) -> Outcome {
    let (name, text) = match event {
        Event::Disconnected { .. } => (
            "disconnected",
            "connection lost, waiting for the other side",
        ),
        Event::Resumed => ("resumed", "connected again"),
        Event::SessionReset { .. } => ("reset", "the other side was restarted"),
        Event::Closed { .. } => ("closed", "closed by the other side"),
        Event::Failed { error } => return Err(error.clone().into()),
        _ => return Ok(()),
    };
    say(args, json!({ "event": name }), text);
    Ok(())
}

/// Megabytes of memory that this process had at most; 0 where the system does not tell.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0.0) * 1_024.0 / 1e6
}
