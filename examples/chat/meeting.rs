//! How the two find each other: by an invite, once, or as contacts, again and again.

use std::{pin::Pin, time::Duration};

use sealwire::{
    Contact, IceServer, Invite,
    session::{Builder, Session},
};

use crate::{
    Outcome,
    args::{Action, Args},
    keep::Keep,
};

/// After a failure, before it is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// A session to come.
pub type Connecting = Pin<Box<dyn Future<Output = sealwire::Result<Session>> + Send>>;

/// Whom to meet, and where.
pub struct Meeting {
    pub server: String,
    /// What the peer is called, if it is a contact.
    pub label: Option<String>,
    invite: Option<(Invite, bool)>,
    turn: Option<IceServer>,
}

impl Meeting {
    /// What the command line asks for.
    pub fn new(args: &Args, keep: &Keep) -> Outcome<Self> {
        let (server, label, invite) = match &args.action {
            Action::Invite { server } => {
                let invite = Invite::new(keep.identity(), server)?;
                (server.clone(), None, Some((invite, true)))
            }
            Action::Join { invite } => {
                // Copied from a screen, it may have been broken into lines.
                let invite: Invite = invite.split_whitespace().collect::<String>().parse()?;
                (invite.server().to_owned(), None, Some((invite, false)))
            }
            Action::Meet { label, server } => (server.clone(), Some(label.clone()), None),
            Action::Contacts => return Err("contacts are listed without a chat".into()),
        };
        let turn = match (&args.turn, &args.turn_user, &args.turn_password) {
            (Some(url), Some(user), Some(password)) => Some(IceServer::turn(url, user, password)),
            _ => None,
        };
        let meeting = Self {
            server,
            label,
            invite,
            turn,
        };
        if let Some(label) = &meeting.label
            && meeting.contact(keep).is_none()
        {
            return Err(unknown(label, keep).into());
        }
        Ok(meeting)
    }

    /// The text of an invite of ours.
    pub fn invite(&self) -> Option<String> {
        let (invite, _) = self.invite.as_ref().filter(|(_, is_ours)| *is_ours)?;
        Some(invite.to_string())
    }

    pub fn contact<'k>(&self, keep: &'k Keep) -> Option<&'k Contact> {
        keep.contacts().get(self.label.as_deref()?)
    }

    /// Whether the two can meet once more, without an invite.
    pub fn is_repeatable(&self, keep: &Keep) -> bool {
        keep.lasts() && self.contact(keep).is_some_and(Contact::is_paired)
    }

    /// The first meeting, which uses up an invite.
    pub fn begin(&mut self, keep: &Keep) -> Connecting {
        let builder = Session::builder(keep.identity().clone());
        let builder = match self.invite.take() {
            Some((invite, true)) => builder.invite(invite),
            Some((invite, false)) => builder.redeem(invite),
            None => return self.again(keep, Duration::ZERO),
        };
        Box::pin(self.finish(builder, keep).connect())
    }

    /// Another, as contacts, after something went wrong.
    pub fn retry(&self, keep: &Keep) -> Connecting {
        self.again(keep, PAUSE)
    }

    /// Another, as contacts.
    pub fn again(&self, keep: &Keep, pause: Duration) -> Connecting {
        let mut builder = Session::builder(keep.identity().clone());
        if let Some(contact) = self.contact(keep) {
            builder = builder.contact(contact, &self.server);
        }
        let builder = self.finish(builder, keep);
        Box::pin(async move {
            tokio::time::sleep(pause).await;
            builder.connect().await
        })
    }

    fn finish(&self, builder: Builder, keep: &Keep) -> Builder {
        let builder = builder.streams().history(keep.archive());
        match &self.turn {
            Some(turn) => builder.ice_server(turn.clone()),
            None => builder,
        }
    }
}

fn unknown(label: &str, keep: &Keep) -> String {
    let known: Vec<&str> = keep.contacts().iter().map(Contact::label).collect();
    match known[..] {
        _ if !keep.lasts() => format!("to meet {label:?} again, name the vault: --vault FILE"),
        [] => format!("there is no contact {label:?} in the vault, nor any other"),
        _ => format!(
            "there is no contact {label:?} in the vault, but {}",
            known.join(", ")
        ),
    }
}
