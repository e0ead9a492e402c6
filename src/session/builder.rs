//! From an identity and a place to meet to a session.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{
    Guard, Session,
    channel::{self, ChannelKind, Declared},
    clock,
    driver::Driver,
    network,
    queue::Shared,
};
use crate::{
    config::{Config, IceServer, PlainSignaling},
    contact::Contact,
    entropy::OsEntropy,
    error::{Error, Result},
    identity::{Identity, PeerId},
    invite::{Invite, InviteError},
    protocol::{Machine, Meeting, Setup},
    shell,
    signaling::Signaling,
    transport::Transport,
    trust::{MinTrust, PeerTrust},
};

/// How long an [`Invite::new`] can be redeemed.
const INVITE_LIFETIME_SECONDS: u64 = 24 * 60 * 60;

/// What message bodies are on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Bodies {
    /// Messages of this crate: content with its kind and a time.
    #[default]
    Messages,
    /// The bytes as given, for peers with a format of their own. Both sides must agree on it.
    Raw,
}

/// Describes a session; [`connect`](Builder::connect) makes it.
#[derive(Debug)]
#[must_use = "nothing happens until connect() is awaited"]
pub struct Builder {
    me: Identity,
    config: Config,
    meeting: Option<Meeting>,
    pinned: Option<PeerId>,
    server: Option<String>,
    min_trust: Option<MinTrust>,
    accepts_unknown: bool,
    bodies: Bodies,
    declared: Vec<Declared>,
    /// Why the contact cannot be met.
    refused: Option<&'static str>,
    signaling: Option<Arc<dyn Signaling>>,
    transport: Option<Arc<dyn Transport>>,
}

impl Builder {
    pub(super) fn new(me: Identity) -> Self {
        Self {
            me,
            config: Config::default(),
            meeting: None,
            pinned: None,
            server: None,
            min_trust: None,
            accepts_unknown: false,
            bodies: Bodies::Messages,
            declared: Vec::new(),
            refused: None,
            signaling: None,
            transport: None,
        }
    }

    /// Waits for whoever redeems this invite of ours first.
    pub fn invite(mut self, invite: Invite) -> Self {
        self.server = Some(invite.server().to_owned());
        self.meeting = Some(Meeting::Invite(invite));
        self
    }

    /// Redeems somebody's invite. Look at [`Invite::server`] before: that server learns this device's address.
    pub fn redeem(mut self, invite: Invite) -> Self {
        self.server = Some(invite.server().to_owned());
        self.meeting = Some(Meeting::Redeem(invite));
        self
    }

    /// Meets a contact, which makes the same call with its own. Neither needs an invite, and nobody else can come.
    pub fn contact(mut self, contact: &Contact, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self.meeting = contact
            .pairing(self.me.peer_id())
            .map(|pairing| Meeting::Contact {
                peer: contact.peer(),
                trust: contact.trust(),
                pairing,
            });
        self.refused = match (contact.trust(), &self.meeting) {
            (PeerTrust::Blocked, _) => Some("this contact is blocked"),
            (_, None) => Some("this contact is a mere pin: meet it in a room, with pinned()"),
            (_, Some(_)) => None,
        };
        self
    }

    /// Meets the first comer in a room of this name (1 to 256 bytes) at a server. Guessable names are guessed:
    /// [`accept_unknown`](Self::accept_unknown) must be called too, and safety numbers compared.
    pub fn room(mut self, name: impl Into<String>, server: impl Into<String>) -> Self {
        self.server = Some(server.into());
        self.meeting = Some(Meeting::Open {
            room: name.into(),
            pinned: None,
        });
        self
    }

    /// In an open room: accepts only this key, known from before.
    pub fn pinned(mut self, peer: PeerId) -> Self {
        self.pinned = Some(peer);
        self
    }

    /// In an open room: accepts whoever comes first, whoever that is.
    pub fn accept_unknown(mut self) -> Self {
        self.accepts_unknown = true;
        self
    }

    /// The trust below which nothing is sent or delivered. Default: [`MinTrust::Invited`] for invites,
    /// [`MinTrust::Pinned`] with a pin, [`MinTrust::Unknown`] after [`accept_unknown`](Self::accept_unknown).
    pub fn min_trust(mut self, required: MinTrust) -> Self {
        self.min_trust = Some(required);
        self
    }

    /// Replaces limits, timeouts, ICE servers and policies.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Adds a STUN or TURN server.
    pub fn ice_server(mut self, server: IceServer) -> Self {
        self.config.ice_servers.push(server);
        self
    }

    /// What message bodies are on the wire.
    pub fn bodies(mut self, bodies: Bodies) -> Self {
        self.bodies = bodies;
        self
    }

    /// Declares a channel beside the main one: at most 14, with labels of 1 to 64 bytes. Both sides must declare the same
    /// labels and kinds in the same order; what one side lacks is not there ([`Session::channel`]).
    ///
    /// Labels are metadata, not secrets: whoever takes part in a handshake in an open room reads them. Each reliable
    /// channel may hold a window (8 MiB by default) in memory in each direction.
    pub fn channel(mut self, label: impl Into<String>, kind: ChannelKind) -> Self {
        self.declared.push(Declared {
            id: channel::next_id(&self.declared),
            label: label.into(),
            kind,
        });
        self
    }

    /// Another way to the signaling server than a WebSocket.
    pub fn signaling(mut self, signaling: impl Signaling) -> Self {
        self.signaling = Some(Arc::new(signaling));
        self
    }

    /// Another transport than the platform's: the `webrtc` crate, or the browser.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Meets the peer and connects. It returns once both sides have proved their keys over the data channel.
    ///
    /// An inviter, and anybody in an open room, waits for the other without limit; a redeemer for
    /// [`Timeouts::peer`](crate::config::Timeouts::peer).
    ///
    /// # Errors
    /// Why there is no session: see [`Error`]. Failures that a new attempt may mend are retried before.
    ///
    /// # Cancel safety
    /// Dropped, the attempt is given up and leaves nothing behind. An invite that it used up stays used.
    pub async fn connect(mut self) -> Result<Session> {
        let me = self.me.peer_id();
        if let Some(reason) = self.refused {
            return Err(Error::InvalidConfig(reason));
        }
        let meeting = self.take_meeting()?;
        let (required, bodies) = (self.required(&meeting)?, self.bodies);
        let signaling = self.make_signaling()?;
        let transport = self.transport.take().map_or_else(network::transport, Ok)?;
        let setup = Setup {
            config: self.config.clone(),
            identity: self.me,
            meeting,
            required,
            channels: channel::offers(&self.declared)?,
        };
        let machine = Machine::new(setup, Box::new(OsEntropy))?;
        let shared = Arc::new(Shared::default());
        let guard = Arc::new(Guard(Arc::clone(&shared)));
        let (started, result) = oneshot::channel();
        let driver = Driver::new(
            machine,
            self.config,
            (signaling, transport),
            Arc::clone(&shared),
            started,
        );
        shell::spawn(driver.run());
        result
            .await
            .map_err(|_| Error::Transport("the task of the session ended".into()))??;
        let facts = shared
            .facts()
            .ok_or(Error::Transport("the session ended at once".into()))?;
        Ok(Session {
            shared,
            me,
            peer: facts.peer,
            max_message: facts.max_message,
            required,
            bodies,
            declared: self.declared.into(),
            _guard: guard,
        })
    }

    /// Where to meet, with the pin, in whichever order they were given. Mix-ups that could only end in a wait are told.
    fn take_meeting(&mut self) -> Result<Meeting> {
        let mut meeting = self.meeting.take().ok_or(Error::InvalidConfig(
            "call invite(), redeem(), contact() or room() first",
        ))?;
        let me = self.me.peer_id();
        match &mut meeting {
            Meeting::Open { pinned, .. } => *pinned = self.pinned,
            Meeting::Invite(_) | Meeting::Redeem(_) | Meeting::Contact { .. }
                if self.pinned.is_some() =>
            {
                return Err(Error::InvalidConfig(
                    "pinned() is for open rooms: an invite names its maker itself",
                ));
            }
            Meeting::Invite(invite) if invite.inviter() != me => {
                return Err(Error::InvalidConfig(
                    "another identity made this invite: call redeem() for it",
                ));
            }
            Meeting::Redeem(invite) if invite.inviter() == me => return Err(Error::Selfie),
            Meeting::Invite(_) | Meeting::Redeem(_) | Meeting::Contact { .. } => {}
        }
        Ok(meeting)
    }

    fn required(&self, meeting: &Meeting) -> Result<MinTrust> {
        let default = match meeting {
            Meeting::Open {
                pinned: Some(_), ..
            } => MinTrust::Pinned,
            Meeting::Open { pinned: None, .. } if self.accepts_unknown => MinTrust::Unknown,
            Meeting::Open { pinned: None, .. } => {
                let open = "an open room is open to anybody: call accept_unknown() or pinned()";
                return Err(Error::InvalidConfig(open));
            }
            Meeting::Invite(_) | Meeting::Redeem(_) | Meeting::Contact { .. } => MinTrust::Invited,
        };
        Ok(self.min_trust.unwrap_or(default))
    }

    fn make_signaling(&self) -> Result<Arc<dyn Signaling>> {
        if let Some(signaling) = &self.signaling {
            return Ok(Arc::clone(signaling));
        }
        let server = self.server.as_deref().unwrap_or_default();
        network::signaling(server, self.config.plain_signaling)
    }
}

impl Invite {
    /// A single-use invite of this identity by way of a server (`wss://`, or `ws://` to this machine), good for
    /// 24 hours. Whoever holds its text can redeem it: send it over a channel that you trust.
    ///
    /// # Errors
    /// [`InviteError`] for an address that may not be used.
    pub fn new(me: &Identity, server: &str) -> Result<Self, InviteError> {
        let expires = clock::unix_ms() / 1_000 + INVITE_LIFETIME_SECONDS;
        let expires = u32::try_from(expires).unwrap_or(u32::MAX);
        Self::expiring_at(
            me,
            server,
            expires,
            PlainSignaling::LoopbackOnly,
            &mut OsEntropy,
        )
    }
}
