//! Checks exported histories: `sealwire-history verify FILE [--peer FILE]`.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the command line"
)]

use std::{path::Path, process::ExitCode};

use sealwire::history::export::Export;

const HELP: &str = "\
Checks an exported history of sealwire, and names the first record that does not fit.

Usage: sealwire-history verify FILE [--peer FILE]

Arguments:
  FILE         an export, as Archive::export_json writes it; - reads standard input

Options:
  --peer FILE  the other side's export: both are checked, and compared message by message
  -h, --help   this text
  -V, --version

A copy that was changed as a whole, its last line included, fits by itself: only the other
side's copy, or a head kept elsewhere, shows that. The heads are printed for that.

Exit codes:
  0  everything fits
  1  a record does not fit, or the two copies differ
  2  the arguments are wrong, or a file cannot be read or is no export
";

/// Why nothing could be checked, or what does not fit.
enum Problem {
    Usage(String),
    Unreadable(String),
    Fault(String),
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(Problem::Fault(text)) => {
            println!("{text}");
            ExitCode::from(1)
        }
        Err(Problem::Unreadable(text)) => {
            eprintln!("sealwire-history: {text}");
            ExitCode::from(2)
        }
        Err(Problem::Usage(text)) => {
            eprintln!("sealwire-history: {text}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, Problem> {
    match arguments {
        ["-h" | "--help"] | ["verify", "-h" | "--help"] => Ok(HELP.trim_end().to_owned()),
        ["-V" | "--version"] => Ok(format!("sealwire-history {}", env!("CARGO_PKG_VERSION"))),
        ["verify", file] if is_file(file) => verify(file, None),
        ["verify", file, "--peer", peer] | ["verify", "--peer", peer, file]
            if is_file(file) && is_file(peer) =>
        {
            verify(file, Some(peer))
        }
        ["verify", ..] => Err(Problem::Usage(
            "verify takes one file, and one of the peer".into(),
        )),
        [other, ..] => Err(Problem::Usage(format!("there is no command {other:?}"))),
        [] => Err(Problem::Usage("say what to do".into())),
    }
}

fn is_file(argument: &str) -> bool {
    argument == "-" || !argument.starts_with('-')
}

fn verify(file: &str, peer: Option<&str>) -> Result<String, Problem> {
    let export = read(file)?;
    let summary = export
        .verify()
        .map_err(|fault| Problem::Fault(format!("{file}: {fault}")))?;
    let mut text = format!(
        "{file}: {} records fit\n  with     {}\n  sent     {} {}\n  received {} {}",
        summary.records,
        summary.pair.peer,
        summary.sent.n,
        hex(&summary.sent.hash),
        summary.received.n,
        hex(&summary.received.hash),
    );
    if summary.breaks > 0 {
        text += &format!(
            "\n  {} times this side went on although the histories differed",
            summary.breaks
        );
    }
    if let Some(peer) = peer {
        let report = export
            .compare(&read(peer)?)
            .map_err(|fault| Problem::Fault(format!("{file} and {peer}: {fault}")))?;
        text += &format!(
            "\n{peer}: {} messages are the same on both sides, {} did not arrive",
            report.alike, report.undelivered
        );
    }
    Ok(text)
}

fn read(file: &str) -> Result<Export, Problem> {
    let unreadable = |reason: String| Problem::Unreadable(format!("{file}: {reason}"));
    let bytes = if file == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(Path::new(file))
    };
    let bytes = bytes.map_err(|error| unreadable(error.to_string()))?;
    Export::parse(&bytes).map_err(|error| unreadable(error.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
