//! What happened, in words.

use std::time::Duration;

use sealwire::{CloseCode, message::Message, protocol::Event, session::IncomingOffer};

use crate::{
    app::{Entry, printable},
    record::NO_TEXT,
    talk::{Talk, Told},
    ui,
};

/// A message that was read from the archive comes once more as an event where it was stored, and not yet given out. Its
/// two times differ by what lay between writing and storing it.
const SAME_MS: u64 = 5_000;

impl Talk {
    pub fn on_next(&mut self, event: Option<Event>) {
        match event {
            Some(event) => self.on_event(event),
            None => self.session = None,
        }
    }

    pub fn on_told(&mut self, told: Told) {
        match told {
            Told::Delivered(id) => self.app.delivered(id),
            Told::LostSightOf(id) => {
                self.app.lost_sight_of(id);
                self.look_soon();
            }
            Told::Moved(number, moving) => {
                self.app.moving.insert(number, moving);
            }
            Told::Arrived(number, text) => {
                self.app.moving.remove(&number);
                self.app.notice(text);
            }
            Told::Failed(number, text) => {
                self.app.moving.remove(&number);
                self.app.warn(text);
            }
            Told::Found(found) => found.into_iter().for_each(|entry| self.app.push(entry)),
            Told::Notice(text) => self.app.notice(text),
            Told::Warning(text) => self.app.warn(text),
        }
    }

    pub fn on_offer(&mut self, offer: IncomingOffer) {
        match offer {
            IncomingOffer::File(offer) if self.offer.is_none() => {
                let (name, size) = (offer.name(), ui::size(offer.size()));
                self.app.notice(format!(
                    "{name}, {size}, is offered: /accept [PATH] or /refuse"
                ));
                self.offer = Some(offer);
            }
            // One at a time; dropped, it is refused.
            _ => self
                .app
                .notice("Another offer was refused: answer the first one."),
        }
    }

    fn on_event(&mut self, event: Event) {
        self.look_soon();
        match event {
            Event::Message(message) => self.on_message(&message),
            Event::Unreadable { error } => self.app.warn(error.to_string()),
            Event::Disconnected { .. } => {
                self.app.notice("The connection was lost; messages wait.")
            }
            Event::Resumed => self.app.notice("Connected again; nothing was lost."),
            Event::SessionReset { unacked } => {
                self.diverged = false;
                self.app.notice("The other side was started anew.");
                self.tell_unconfirmed(unacked);
            }
            Event::Undelivered { messages: 1 } => {
                self.app
                    .notice("One message of before had not arrived. It is sent again.");
            }
            Event::Undelivered { messages } => self.app.notice(format!(
                "{messages} messages of before had not arrived. They are sent again."
            )),
            Event::HistoryDiverged {
                here,
                there,
                author,
            } => self.on_difference((here, there), author),
            Event::ShortCode { code } => {
                self.app.code = Some(code);
                self.app.notice(format!(
                    "{code}\nAsk the other side for theirs, by voice, then: /code N N N"
                ));
            }
            Event::ShortCodeFailed => self.app.warn("No code came of it; try again in a while."),
            Event::ContactRequested if self.wanted.is_none() => {
                self.app
                    .notice("The other side wants to meet again without an invite: /contact NAME");
            }
            Event::ContactMade => {
                if let Some(label) = self.wanted.take() {
                    self.keep_contact(&label);
                    self.meeting.label = Some(label);
                }
            }
            Event::InviteContested { .. } | Event::InviteAlreadyUsed => {
                self.app
                    .warn("Somebody else has the invite's text. It got nobody in, but ask who.");
            }
            Event::Closed {
                code,
                reason,
                unacked,
            } => {
                let reason = if reason.is_empty() {
                    "The chat is over.".to_owned()
                } else {
                    printable(&reason)
                };
                self.app.notice(reason);
                self.on_end(
                    unacked,
                    matches!(code, CloseCode::NORMAL | CloseCode::GOING_AWAY),
                );
            }
            Event::Failed { error } => {
                self.app.warn(error.to_string());
                self.on_end(0, error.is_retryable());
            }
            // The rest is for programs.
            _ => {}
        }
    }

    fn on_difference(&mut self, (here, there): (u64, u64), author: sealwire::history::Author) {
        self.diverged = true;
        let whose = match author {
            sealwire::history::Author::Me => "your messages",
            sealwire::history::Author::Peer => "their messages",
        };
        self.app.warn(format!(
            "The two histories differ: of {whose} you hold {here}, they hold {there}. One was changed, or comes from a \
             backup. No message travels until you decide: /accept-history goes on, /quit stops. To find out what \
             differs, /export on both sides and compare with sealwire-history verify --peer."
        ));
    }

    fn on_message(&mut self, message: &Message) {
        let text = message.content.as_text().unwrap_or(NO_TEXT).to_owned();
        let at = message.timestamp;
        let is_same = |(seen, when): &(String, sealwire::Timestamp)| {
            *seen == text && when.as_unix_ms().abs_diff(at.as_unix_ms()) < SAME_MS
        };
        if let Some(seen) = self.read_before.iter().position(is_same) {
            self.read_before.remove(seen);
            return;
        }
        self.app.push(Entry::Theirs { text, at });
    }

    /// The session is over. A contact is waited for once more, unless something is wrong.
    fn on_end(&mut self, unacked: u64, may_return: bool) {
        self.offer = None;
        self.diverged = false;
        self.tell_unconfirmed(unacked);
        if let Some(label) = self
            .meeting
            .label
            .clone()
            .filter(|_| may_return && self.meeting.is_repeatable(&self.keep))
        {
            self.app.notice(format!(
                "{label} is away. What you write now is kept, and sent once when you meet again."
            ));
            self.connecting = Some(self.meeting.again(&self.keep, Duration::ZERO));
            self.session = None;
            return;
        }
        self.app.is_over = true;
    }

    fn tell_unconfirmed(&mut self, unacked: u64) {
        if unacked > 0 {
            self.app.warn(format!(
                "{unacked} of your messages were not confirmed. Where both sides keep a history they are sent again; \
                 else what has no ✓ may not have arrived."
            ));
        }
    }
}
