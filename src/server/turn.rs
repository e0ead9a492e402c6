//! Credentials for a TURN server that expire, made from a secret that it shares with this server: coturn's
//! `use-auth-secret` (draft-uberti-behave-turn-rest). Members get them with their welcome, so that no client holds a
//! password that works for ever.

use std::fmt;

use base64ct::{Base64, Encoding as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use zeroize::Zeroizing;

use super::options::ConfigError;
use crate::config::IceServer;

/// TURN servers of a welcome.
const MAX_URLS: usize = 8;

/// TURN servers, and the secret that they share with this server.
#[derive(Clone)]
pub struct Turn {
    urls: Vec<String>,
    secret: Zeroizing<String>,
    ttl: u64,
}

impl Turn {
    /// TURN servers at `urls` (`turn:host:3478?transport=udp`, `turns:...`), at most 8, whose `static-auth-secret` is
    /// `secret`. Credentials are good for `ttl` seconds: longer than a call lasts, as coturn checks them again when an
    /// allocation is refreshed.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no URL, one is not of TURN, or the secret is empty.
    pub fn new(urls: Vec<String>, secret: &str, ttl: u64) -> Result<Self, ConfigError> {
        let is_turn = |url: &String| url.starts_with("turn:") || url.starts_with("turns:");
        if urls.is_empty() || urls.len() > MAX_URLS || !urls.iter().all(is_turn) {
            return Err(ConfigError::new(
                "turn_urls",
                "1 to 8 addresses, turn:host:port or turns:host:port",
            ));
        }
        if secret.is_empty() {
            return Err(ConfigError::new("turn_secret", "may not be empty"));
        }
        Ok(Self {
            urls,
            secret: Zeroizing::new(secret.to_owned()),
            ttl,
        })
    }

    /// Credentials for somebody who joins at `now`, in seconds of Unix time. `name` tells members apart in the logs and
    /// quotas of the TURN server.
    #[must_use]
    pub fn credentials(&self, now: u64, name: &str) -> Vec<IceServer> {
        let username = format!("{}:{name}", now.saturating_add(self.ttl));
        let mac = Hmac::<Sha1>::new_from_slice(self.secret.as_bytes())
            .expect("HMAC takes keys of any length")
            .chain_update(&username)
            .finalize();
        let credential = Base64::encode_string(&mac.into_bytes());
        let server = |url: &String| IceServer::turn(url, &username, &credential);
        self.urls.iter().map(server).collect()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            urls,
            secret: _,
            ttl,
        } = self;
        f.debug_struct("Turn")
            .field("urls", urls)
            .field("ttl", ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The credential was computed by OpenSSL: `printf 1000600:ab | openssl dgst -sha1 -hmac north -binary | base64`
    #[test]
    fn credentials_are_what_coturn_expects() {
        let urls = [
            "turn:turn.example.org:3478",
            "turns:turn.example.org:5349?transport=tcp",
        ];
        let turn = Turn::new(urls.map(str::to_owned).to_vec(), "north", 600).unwrap();
        let servers = turn.credentials(1_000_000, "ab");
        assert_eq!(servers.len(), 2);
        for (server, url) in servers.iter().zip(urls) {
            assert_eq!(
                (server.url.as_str(), server.username.as_str()),
                (url, "1000600:ab")
            );
            assert_eq!(server.credential, "tF6BGL4Q9NM7YaHWAW++/KUHDBk=");
        }
        assert!(!format!("{turn:?}").contains("north"));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for (urls, secret) in [(&[][..], "x"), (&["stun:a"], "x"), (&["turn:a"], "")] {
            let urls = urls.iter().map(|url: &&str| (*url).to_owned()).collect();
            assert!(Turn::new(urls, secret, 1).is_err());
        }
    }
}
