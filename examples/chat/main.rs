//! A chat between two terminals, end-to-end encrypted from device to device.
//!
//! ```text
//! cargo run --release --example chat -- invite --server ws://127.0.0.1:8080
//! cargo run --release --example chat -- join INVITE
//! cargo run --release --example chat -- meet Bob --vault me.vault     a contact, without an invite
//! cargo run --release --example chat -- contacts --vault me.vault
//! ```
//! The server's address may also stand in `.env` or the environment, as `SEALWIRE_SERVER`. With `--vault` the identity
//! and the contacts are kept in a file, under a passphrase, and what is said in another beside it (`--history`), with a key
//! from the vault; without it everything is new each time. What is written while a contact is away waits in the history,
//! and is sent once. Within the chat, `/help` lists what there is.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    missing_debug_implementations,
    missing_docs,
    unreachable_pub,
    reason = "a program for the terminal"
)]

mod app;
mod args;
mod command;
mod events;
mod keep;
mod meeting;
mod obey;
mod record;
mod search;
mod talk;
mod ui;

use std::{error::Error, process::ExitCode};

use args::Args;
use clap::Parser as _;
use keep::Keep;
use sealwire::history::HistoryError;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    // A missing .env is no error, and one that cannot be read shows when a setting is missing.
    let _ = dotenvy::dotenv();
    let args = Args::parse();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chat: {error}{}", advice(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// What to do about a history that is not what was written.
fn advice(error: &(dyn Error + 'static)) -> &'static str {
    let history = error.downcast_ref::<HistoryError>();
    let in_session = match error.downcast_ref::<sealwire::Error>() {
        Some(sealwire::Error::History(error)) => Some(error),
        _ => None,
    };
    match history.or(in_session) {
        Some(HistoryError::Damaged { .. }) => {
            ".\nPut a backup of the file in its place; or move it away and begin anew, which the other side will see as a difference."
        }
        _ => "",
    }
}

async fn run(args: Args) -> Outcome {
    let keep = Keep::open(&args)?;
    if let args::Action::Contacts = args.action {
        if !keep.lasts() {
            return Err("contacts are kept in a vault: --vault FILE".into());
        }
        if keep.contacts().is_empty() {
            eprintln!("none yet: /contact NAME in a chat makes one, when both sides say so");
        }
        for contact in keep.contacts().iter() {
            println!("{:<24} {}", contact.label(), contact.trust());
        }
        return Ok(());
    }
    talk::run(args, keep).await
}
