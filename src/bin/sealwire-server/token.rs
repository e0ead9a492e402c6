//! `sealwire-server token`: mints a join token with the key of the settings.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use clap::{Arg, ArgMatches, Command};
use sealwire::{RoomId, server::legacy_room};

use super::settings::{self, Settings};

/// What a token is to allow.
#[derive(Debug)]
pub(super) struct Request {
    lifetime: Duration,
    room: Option<RoomId>,
}

pub(super) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("token")
        .about("Print a join token, signed with SEALWIRE_TOKEN_KEY or the key in --token-key-file")
        .arg(option("expires-in", "TIME", "How long it is good for").default_value("10m"))
        .arg(option(
            "room",
            "ROOM",
            "The only room that it is for: the 43 characters of a join",
        ))
        .arg(
            option(
                "legacy-room",
                "NAME",
                "The only legacy room that it is for, by its name",
            )
            .conflicts_with("room"),
        )
}

pub(super) fn read(matches: &ArgMatches) -> Result<Request, String> {
    let text = |name| matches.get_one::<String>(name).map(String::as_str);
    let room = match (text("room"), text("legacy-room")) {
        (Some(room), _) => Some(room_id(room)?),
        (None, Some(name)) => Some(legacy_room(name)),
        (None, None) => None,
    };
    let lifetime = settings::duration(text("expires-in").unwrap_or_default())?;
    Ok(Request { lifetime, room })
}

pub(super) fn mint(settings: &Settings, request: &Request) -> Result<String, String> {
    let key = settings.signing_key()?;
    let key = key.ok_or("there is no token_key to sign with")?;
    let since_1970 = now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expiry = since_1970.saturating_add(request.lifetime).as_secs();
    Ok(key.mint(expiry, request.room))
}

fn room_id(text: &str) -> Result<RoomId, String> {
    let mut room = [0; 32];
    match Base64UrlUnpadded::decode(text, &mut room).map(<[u8]>::len) {
        Ok(32) => Ok(RoomId(room)),
        _ => Err("a room is 43 characters of base64url".to_owned()),
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens expire by the calendar")]
fn now() -> SystemTime {
    SystemTime::now()
}
