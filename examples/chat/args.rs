//! What the command line says.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Chat with one person, end-to-end encrypted, directly between your devices.
#[derive(Debug, Parser)]
#[command(name = "chat", version)]
pub struct Args {
    #[command(subcommand)]
    pub action: Action,

    /// Keeps the identity and the contacts in this file, under a passphrase
    #[arg(long, global = true, env = "SEALWIRE_VAULT", value_name = "FILE")]
    pub vault: Option<PathBuf>,

    /// Keeps what is said in this file, encrypted [default: beside the vault, as me.history for me.vault]
    #[arg(long, global = true, env = "SEALWIRE_HISTORY", value_name = "FILE")]
    pub history: Option<PathBuf>,

    /// Where files are saved that you accept
    #[arg(long, global = true, default_value = ".", value_name = "FOLDER")]
    pub downloads: PathBuf,

    /// A TURN server for networks that let nothing else through, as turn:host:3478
    #[arg(long, global = true, value_name = "URL", requires_all = ["turn_user", "turn_password"])]
    pub turn: Option<String>,

    /// The user there
    #[arg(long, global = true, env = "SEALWIRE_TURN_USER", value_name = "NAME")]
    pub turn_user: Option<String>,

    /// The password there
    #[arg(
        long,
        global = true,
        env = "SEALWIRE_TURN_PASSWORD",
        value_name = "TEXT",
        hide_env_values = true
    )]
    pub turn_password: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Make an invite, show it as text and as a QR code, and wait for whoever redeems it
    Invite {
        /// The signaling server, as wss://signal.example.org
        #[arg(long, env = "SEALWIRE_SERVER", value_name = "URL")]
        server: String,
    },
    /// Redeem an invite
    Join {
        /// Its text: sealwire1:...
        invite: String,
    },
    /// Meet a contact, which does the same
    Meet {
        /// What you call it
        label: String,
        /// The signaling server where both meet
        #[arg(long, env = "SEALWIRE_SERVER", value_name = "URL")]
        server: String,
    },
    /// List the contacts in the vault
    Contacts,
}
