//! A conversation: what it holds, and the loop between session, screen and keyboard.

use std::{path::PathBuf, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event as Terminal, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use sealwire::{
    CloseCode, MessageId, PeerId, PeerTrust, Timestamp,
    protocol::Event,
    session::{FileOffer, IncomingOffer, Session, State},
};
use tokio::sync::mpsc;
use tui_input::backend::crossterm::EventHandler as _;

use crate::{
    Outcome,
    app::{App, Entry, Moving, Status},
    args::Args,
    command::Command,
    keep::Keep,
    meeting::{Connecting, Meeting},
    record::Asked,
    ui,
};

/// How long the archive is left alone before it is asked again what became of messages.
const FIRST_LOOK: Duration = Duration::from_millis(250);
const LAST_LOOK: Duration = Duration::from_secs(30);

/// What tasks beside the conversation have to tell.
pub enum Told {
    Delivered(MessageId),
    /// The session ended before it was known.
    LostSightOf(MessageId),
    Moved(u64, Moving),
    Arrived(u64, String),
    Failed(u64, String),
    Found(Vec<Entry>),
    Notice(String),
    Warning(String),
}

/// A conversation.
pub struct Talk {
    /// While the peer is there.
    pub session: Option<Session>,
    /// While it is awaited.
    pub connecting: Option<Connecting>,
    pub meeting: Meeting,
    /// Whose conversation is on the screen.
    pub peer: Option<PeerId>,
    pub keep: Keep,
    pub app: App,
    /// What the peer is to be called once it agrees.
    pub wanted: Option<String>,
    pub offer: Option<FileOffer>,
    /// Whether the other side can offer files.
    pub has_offers: bool,
    /// Whether the histories differ, and nothing is sent.
    pub diverged: bool,
    pub asked: Option<Asked>,
    /// Lines that neither a session nor the archive has taken yet.
    pub unsent: Vec<String>,
    /// Messages of the peer that were read from the archive while a session began, and may come as events too.
    pub read_before: Vec<(String, Timestamp)>,
    pub next_look: Duration,
    pub downloads: PathBuf,
    pub transfers: u64,
    pub told: mpsc::UnboundedSender<Told>,
}

pub async fn run(args: Args, keep: Keep) -> Outcome {
    let (told, mut tidings) = mpsc::unbounded_channel();
    let mut talk = Talk::new(args, keep, told)?;
    let mut terminal = ratatui::try_init()?;
    let mut keys = keyboard();
    let outcome = talk.run(&mut terminal, &mut keys, &mut tidings).await;
    ratatui::try_restore()?;
    outcome
}

/// Keys as they are pressed. The thread ends with the program: reading them cannot be given up.
fn keyboard() -> mpsc::Receiver<Terminal> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

fn is_quit(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'))
}

async fn next_session(connecting: &mut Option<Connecting>) -> sealwire::Result<Session> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn next_event(session: Option<&Session>) -> Option<Event> {
    match session {
        Some(session) => session.next().await,
        None => std::future::pending().await,
    }
}

async fn next_offer(session: Option<&Session>) -> Option<IncomingOffer> {
    match session {
        Some(session) => session.next_offer().await,
        None => std::future::pending().await,
    }
}

impl Talk {
    fn new(args: Args, keep: Keep, told: mpsc::UnboundedSender<Told>) -> Outcome<Self> {
        let mut meeting = Meeting::new(&args, &keep)?;
        let mut app = App {
            invite: meeting.invite(),
            ..App::default()
        };
        let peer = meeting.contact(&keep).map(|contact| contact.peer());
        // All of it: the screen asks for as much as it shows.
        app.earlier = peer.map(|_| u64::MAX);
        if let Some(label) = &meeting.label {
            app.notice(format!(
                "Waiting for {label}, who has to do the same. What you write until then is kept, and sent once."
            ));
        }
        Ok(Self {
            session: None,
            connecting: Some(meeting.begin(&keep)),
            meeting,
            peer,
            keep,
            app,
            wanted: None,
            offer: None,
            has_offers: true,
            diverged: false,
            asked: None,
            unsent: Vec::new(),
            read_before: Vec::new(),
            next_look: FIRST_LOOK,
            downloads: args.downloads,
            transfers: 0,
            told,
        })
    }

    async fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        keys: &mut mpsc::Receiver<Terminal>,
        tidings: &mut mpsc::UnboundedReceiver<Told>,
    ) -> Outcome {
        loop {
            self.app.status = self.status();
            terminal.draw(|frame| ui::draw(frame, &mut self.app))?;
            if (self.app.lacks || self.app.earlier == Some(u64::MAX)) && self.load_earlier().await?
            {
                continue;
            }
            let looks = !self.unsent.is_empty() || self.app.unsettled() > 0;
            tokio::select! {
                session = next_session(&mut self.connecting) => self.on_connected(session)?,
                event = next_event(self.session.as_ref()) => self.on_next(event),
                offer = next_offer(self.session.as_ref()), if self.has_offers => match offer {
                    Some(offer) => self.on_offer(offer),
                    None => self.has_offers = false,
                },
                told = tidings.recv() => {
                    if let Some(told) = told {
                        self.on_told(told);
                    }
                }
                () = tokio::time::sleep(self.next_look), if looks => self.look().await?,
                key = keys.recv() => match key {
                    Some(Terminal::Key(key)) if key.kind != KeyEventKind::Release => {
                        if !self.on_key(key).await? {
                            return self.leave(terminal).await;
                        }
                    }
                    // Another size: it is drawn again.
                    Some(_) => {}
                    None => return Err("the terminal is gone".into()),
                },
            }
        }
    }

    /// Asks the archive what became of messages, and tries again to get rid of lines.
    async fn look(&mut self) -> Outcome {
        self.flush().await?;
        self.next_look = if self.settle().await? {
            FIRST_LOOK
        } else {
            (self.next_look * 2).min(LAST_LOOK)
        };
        Ok(())
    }

    /// Something happened after which the archive may know more.
    pub fn look_soon(&mut self) {
        self.next_look = FIRST_LOOK;
    }

    fn status(&self) -> Option<Status> {
        let label = self.meeting.label.clone();
        if self.app.is_over {
            return Some(Status {
                peer: label.unwrap_or_default(),
                trust: None,
                state: "over; /quit leaves".to_owned(),
                is_connected: false,
            });
        }
        let Some(session) = &self.session else {
            return label.map(|peer| Status {
                peer,
                trust: self.meeting.contact(&self.keep).map(|one| one.trust()),
                state: "away, messages wait".to_owned(),
                is_connected: false,
            });
        };
        let (state, is_connected) = match session.state() {
            State::Connected if self.diverged => ("histories differ, messages wait", false),
            State::Connected => ("connected", true),
            State::Reconnecting => ("reconnecting, messages wait", false),
            State::Suspended => ("resting, messages wait", false),
            _ => ("over", false),
        };
        Some(Status {
            peer: label.unwrap_or_else(|| session.peer().to_string()[..8].to_owned()),
            trust: Some(session.trust()),
            state: state.to_owned(),
            is_connected,
        })
    }

    /// Whether to go on.
    async fn on_key(&mut self, key: KeyEvent) -> Outcome<bool> {
        match key.code {
            _ if is_quit(key) => return Ok(false),
            KeyCode::Esc if self.asked.is_some() => self.take_back(),
            // As ever, before anybody came.
            KeyCode::Esc if self.session.is_none() && self.peer.is_none() => return Ok(false),
            KeyCode::PageUp => self.app.scroll_by(self.app.page()),
            KeyCode::PageDown => self.app.scroll_by(-self.app.page()),
            KeyCode::Up => self.app.scroll_by(1),
            KeyCode::Down => self.app.scroll_by(-1),
            KeyCode::Enter => return self.on_enter().await,
            _ => {
                self.app.input.handle_event(&Terminal::Key(key));
            }
        }
        Ok(true)
    }

    async fn on_enter(&mut self) -> Outcome<bool> {
        if let Some(asked) = self.asked.take() {
            let answer = self.app.take_answer();
            self.on_answer(asked, answer).await;
            return Ok(true);
        }
        let Some(line) = self.app.take_line() else {
            return Ok(true);
        };
        match Command::parse(&line) {
            Ok(Command::Quit) => return Ok(false),
            Ok(command) => self.obey(command).await?,
            Err(wrong) => self.app.warn(wrong),
        }
        Ok(true)
    }

    fn on_connected(&mut self, session: sealwire::Result<Session>) -> Outcome {
        self.connecting = None;
        let session = match session {
            Ok(session) => session,
            Err(error) if error.is_retryable() && self.meeting.is_repeatable(&self.keep) => {
                let text = format!("{error}. It is tried again.");
                if !self.app.entries.contains(&Entry::Warning(text.clone())) {
                    self.app.warn(text);
                }
                self.connecting = Some(self.meeting.retry(&self.keep));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.app.invite = None;
        self.has_offers = true;
        if self.peer.replace(session.peer()) != Some(session.peer()) {
            self.recognize(session.peer());
        }
        let is_verified = matches!(session.trust(), PeerTrust::Verified { .. });
        self.session = Some(session);
        self.look_soon();
        self.app.notice(
            "Connected, end-to-end encrypted from device to device. /help lists what there is.",
        );
        if !is_verified {
            self.app
                .notice("To be sure who it is, compare /code or /number by voice.");
        }
        Ok(())
    }

    /// Somebody came by an invite: perhaps not for the first time.
    fn recognize(&mut self, peer: PeerId) {
        self.app.earlier = Some(u64::MAX);
        let known = self.keep.contacts().of(peer).next();
        if let Some(contact) = known {
            self.meeting.label = Some(contact.label().to_owned());
        }
    }

    /// Says goodbye, and waits until the peer has what was sent.
    async fn leave(&mut self, terminal: &mut DefaultTerminal) -> Outcome {
        self.connecting = None;
        self.flush().await?;
        if !self.unsent.is_empty() {
            self.app.warn("What was written last may not be kept.");
        }
        if let Some(session) = self.session.take() {
            self.app.notice("Saying goodbye ...");
            terminal.draw(|frame| ui::draw(frame, &mut self.app))?;
            if self.diverged {
                let reason = "the histories differ";
                session
                    .close_with(CloseCode::HISTORY_DIVERGED, reason)
                    .await?;
            } else {
                session.close().await?;
            }
        }
        Ok(())
    }
}
