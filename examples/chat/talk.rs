//! From the command line to a session, and between session, screen and keyboard.

use std::{path::PathBuf, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event as Terminal, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use sealwire::{
    IceServer, Invite, MessageId, PeerTrust,
    message::Message,
    protocol::Event,
    session::{Builder, FileOffer, FileTransfer, IncomingOffer, Session, State},
};
use tokio::sync::mpsc;
use tui_input::backend::crossterm::EventHandler as _;

use crate::{
    Outcome,
    app::{App, Entry, Moving, Status, printable},
    args::{Action, Args},
    command::{Command, HELP},
    keep::Keep,
    ui,
};

/// What tasks beside the conversation have to tell.
enum Told {
    Delivered(MessageId),
    Moved(u64, Moving),
    Arrived(u64, String),
    Failed(u64, String),
    Notice(String),
    Warning(String),
}

/// A conversation.
struct Talk {
    session: Session,
    keep: Keep,
    app: App,
    /// What the peer is called, if it is a contact.
    label: Option<String>,
    /// What it is to be called once it agrees.
    wanted: Option<String>,
    offer: Option<FileOffer>,
    /// Whether the other side can offer files.
    has_offers: bool,
    downloads: PathBuf,
    transfers: u64,
    told: mpsc::UnboundedSender<Told>,
}

pub async fn run(args: Args, keep: Keep) -> Outcome {
    let mut app = App::default();
    let (builder, label) = describe(&args, &keep, &mut app)?;
    let mut terminal = ratatui::try_init()?;
    let outcome = async {
        let mut keys = keyboard();
        let Some(session) = connect(builder, &mut app, &mut terminal, &mut keys).await? else {
            return Ok(());
        };
        let (told, mut tidings) = mpsc::unbounded_channel();
        let (downloads, transfers) = (args.downloads.clone(), 0);
        let (wanted, offer) = (None, None);
        let mut talk = Talk {
            session,
            keep,
            app,
            label,
            wanted,
            offer,
            has_offers: true,
            downloads,
            transfers,
            told,
        };
        talk.greet();
        talk.run(&mut terminal, &mut keys, &mut tidings).await
    };
    let outcome = outcome.await;
    ratatui::try_restore()?;
    outcome
}

/// The session that the command line asks for, and what the peer is called.
fn describe(args: &Args, keep: &Keep, app: &mut App) -> Outcome<(Builder, Option<String>)> {
    let builder = Session::builder(keep.identity().clone());
    let (builder, label) = match &args.action {
        Action::Invite { server } => {
            let invite = Invite::new(keep.identity(), server)?;
            app.invite = Some(invite.to_string());
            (builder.invite(invite), None)
        }
        Action::Join { invite } => (builder.redeem(invite.parse()?), None),
        Action::Meet { label, server } => {
            let contact = keep.contacts().get(label);
            let contact =
                contact.ok_or_else(|| format!("there is no contact {label:?} in the vault"))?;
            app.notice(format!("Waiting for {label}, who has to do the same."));
            (builder.contact(contact, server), Some(label.clone()))
        }
        Action::Contacts => return Err("contacts are listed without a chat".into()),
    };
    let turn = (&args.turn, &args.turn_user, &args.turn_password);
    let builder = match turn {
        (Some(url), Some(user), Some(password)) => {
            builder.ice_server(IceServer::turn(url, user, password))
        }
        _ => builder,
    };
    Ok((builder.streams(), label))
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

/// Waits for the peer; `None` when the person gave up.
async fn connect(
    builder: Builder,
    app: &mut App,
    terminal: &mut DefaultTerminal,
    keys: &mut mpsc::Receiver<Terminal>,
) -> Outcome<Option<Session>> {
    let mut connecting = std::pin::pin!(builder.connect());
    loop {
        terminal.draw(|frame| ui::draw(frame, app))?;
        tokio::select! {
            session = &mut connecting => return Ok(Some(session?)),
            key = keys.recv() => match key {
                Some(Terminal::Key(key)) if is_quit(key) || key.code == KeyCode::Esc => return Ok(None),
                Some(_) => {}
                None => return Err("the terminal is gone".into()),
            },
        }
    }
}

fn is_quit(key: KeyEvent) -> bool {
    key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'))
}

impl Talk {
    fn greet(&mut self) {
        self.app.notice(
            "Connected, end-to-end encrypted from device to device. /help lists what there is.",
        );
        if !matches!(self.session.trust(), PeerTrust::Verified { .. }) {
            self.app
                .notice("To be sure who it is, compare /code or /number by voice.");
        }
    }

    async fn run(
        &mut self,
        terminal: &mut DefaultTerminal,
        keys: &mut mpsc::Receiver<Terminal>,
        tidings: &mut mpsc::UnboundedReceiver<Told>,
    ) -> Outcome {
        loop {
            self.app.status = Some(self.status());
            terminal.draw(|frame| ui::draw(frame, &mut self.app))?;
            tokio::select! {
                event = self.session.next(), if !self.app.is_over => match event {
                    Some(event) => self.on_event(event),
                    None => self.app.is_over = true,
                },
                offer = self.session.next_offer(), if self.has_offers => match offer {
                    Some(offer) => self.on_offer(offer),
                    None => self.has_offers = false,
                },
                told = tidings.recv() => {
                    if let Some(told) = told {
                        self.on_told(told);
                    }
                }
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

    fn status(&self) -> Status {
        let trust = self.session.trust();
        let (state, is_connected) = match self.session.state() {
            State::Connected => ("connected", true),
            State::Reconnecting => ("reconnecting, messages wait", false),
            State::Suspended => ("resting, messages wait; /wake", false),
            _ => ("over", false),
        };
        let short = || self.session.peer().to_string()[..8].to_owned();
        Status {
            peer: self.label.clone().unwrap_or_else(short),
            trust: trust.to_string(),
            is_verified: matches!(trust, PeerTrust::Verified { .. }),
            state: state.to_owned(),
            is_connected,
        }
    }

    /// Whether to go on.
    async fn on_key(&mut self, key: KeyEvent) -> Outcome<bool> {
        match key.code {
            _ if is_quit(key) => return Ok(false),
            KeyCode::PageUp => self.app.scroll_by(10),
            KeyCode::PageDown => self.app.scroll_by(-10),
            KeyCode::Enter => {
                let Some(line) = self.app.take_line() else {
                    return Ok(true);
                };
                match Command::parse(&line) {
                    Ok(Command::Quit) => return Ok(false),
                    Ok(command) => self.obey(command).await?,
                    Err(wrong) => self.app.warn(wrong),
                }
            }
            _ => {
                self.app.input.handle_event(&Terminal::Key(key));
            }
        }
        Ok(true)
    }

    async fn obey(&mut self, command: Command) -> Outcome {
        match command {
            Command::Say(text) => self.say(text),
            Command::Send(path) => match self.session.send_file(&path).await {
                Ok(transfer) => {
                    let name = path
                        .file_name()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned();
                    self.app.notice(format!("{name} is offered."));
                    self.follow(transfer, name, true);
                }
                Err(error) => self.app.warn(error.to_string()),
            },
            Command::Accept(path) => self.accept(path).await,
            Command::Refuse => match self.offer.take() {
                Some(offer) => offer.reject(),
                None => self.app.warn("nothing is offered"),
            },
            Command::Number => {
                let number = self.session.safety_number();
                self.app.notice(format!(
                    "{number}\nAsk the other side for theirs, then: /number DIGITS"
                ));
            }
            Command::NumberIs(digits) => {
                let own = self.session.safety_number();
                let is_same = own.digits() == digits && self.session.confirm(&own).is_ok();
                self.verified(is_same);
            }
            Command::Code => self.session.compare_code(),
            Command::CodeIs(groups) => {
                let shown = self.app.code.take();
                let same = shown.filter(|code| code.groups() == groups);
                let is_same = same.is_some_and(|code| self.session.confirm_code(code).is_ok());
                self.verified(is_same);
            }
            Command::Contact(label) => {
                self.wanted = Some(label);
                self.session.make_contact();
                self.app
                    .notice("Asked; it is made when the other side does the same.");
            }
            Command::Security => self.app.notice(self.session.security().to_string()),
            Command::Rekey => self.ask("New keys.", |session| async move { session.rekey().await }),
            Command::Rest => self.ask("Resting.", |session| async move { session.suspend().await }),
            Command::Wake => self.ask("Back.", |session| async move { session.resume().await }),
            Command::Help => self.app.notice(HELP.join("\n")),
            Command::Quit => {}
        }
        Ok(())
    }

    /// Sends a message. It may have to wait for room, so it has a task of its own; tasks begin in the order of lines.
    fn say(&mut self, text: String) {
        let waiting = self.session.send(text.clone());
        let delivery = futures_util::FutureExt::now_or_never(waiting);
        match delivery {
            Some(Ok(delivery)) => {
                let (id, at) = (delivery.id(), now());
                self.app.push(Entry::Mine {
                    text,
                    at,
                    id,
                    delivered: false,
                });
                let told = self.told.clone();
                tokio::spawn(async move {
                    let _ = match delivery.delivered().await {
                        Ok(()) => told.send(Told::Delivered(id)),
                        Err(_) => Ok(()),
                    };
                });
            }
            Some(Err(error)) => self.app.warn(error.to_string()),
            None => {
                self.app.input = text.into();
                self.app
                    .warn("Too much waits for the other side already: try again in a while.");
            }
        }
    }

    async fn accept(&mut self, path: Option<PathBuf>) {
        let Some(offer) = &self.offer else {
            return self.app.warn("nothing is offered");
        };
        let name = offer.name();
        let path = path.unwrap_or_else(|| self.downloads.join(&name));
        match self.session.accept_file(offer, &path).await {
            Ok(transfer) => {
                self.offer = None;
                self.follow(transfer, name, false);
            }
            Err(error) => self
                .app
                .warn(format!("{error}. The offer stands: /accept PATH")),
        }
    }

    /// Shows a transfer until it ends.
    fn follow(&mut self, mut transfer: FileTransfer, name: String, is_mine: bool) {
        self.transfers += 1;
        let (number, told) = (self.transfers, self.told.clone());
        tokio::spawn(async move {
            while let Some(progress) = transfer.next_progress().await {
                let (bytes, total) = (progress.bytes, progress.total);
                let moving = Moving {
                    name: name.clone(),
                    is_mine,
                    bytes,
                    total,
                };
                if told.send(Told::Moved(number, moving)).is_err() {
                    return;
                }
                // As often as an eye can follow.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let _ = told.send(match transfer.finished().await {
                Ok(report) if is_mine => Told::Arrived(
                    number,
                    format!("{name} was delivered, {}.", ui::size(report.bytes)),
                ),
                Ok(report) => Told::Arrived(
                    number,
                    format!(
                        "{} is here, {}.",
                        report.path.display(),
                        ui::size(report.bytes)
                    ),
                ),
                Err(error) => Told::Failed(number, format!("{name}: {error}")),
            });
        });
    }

    /// Something that takes its time.
    fn ask<F>(&self, done: &'static str, work: impl FnOnce(Session) -> F)
    where
        F: Future<Output = sealwire::Result<()>> + Send + 'static,
    {
        let (work, told) = (work(self.session.clone()), self.told.clone());
        tokio::spawn(async move {
            let _ = told.send(match work.await {
                Ok(()) => Told::Notice(done.to_owned()),
                Err(error) => Told::Warning(error.to_string()),
            });
        });
    }

    fn verified(&mut self, is_same: bool) {
        if !is_same {
            return self.app.warn(
                "That is not what is shown here. Somebody may be in between: ask again, by voice.",
            );
        }
        self.app
            .notice("Verified: nobody is in between, and this key is theirs.");
        if let Some(label) = self.label.clone() {
            self.keep_contact(&label);
        }
    }

    fn keep_contact(&mut self, label: &str) {
        let contact = self.session.contact(label).map_err(Into::into);
        match contact.and_then(|contact| self.keep.add(contact)) {
            Ok(()) if self.keep.lasts() => self.app.notice(format!(
                "{label} is in the vault. Next time: chat meet {label}"
            )),
            Ok(()) => self.app.notice(format!(
                "{label} is known for this run only; start with --vault FILE to keep contacts."
            )),
            Err(error) => self.app.warn(error.to_string()),
        }
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Delivered(id) => self.app.delivered(id),
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
            Told::Notice(text) => self.app.notice(text),
            Told::Warning(text) => self.app.warn(text),
        }
    }

    fn on_offer(&mut self, offer: IncomingOffer) {
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
        match event {
            Event::Message(message) => self.on_message(&message),
            Event::Unreadable { error } => self.app.warn(error.to_string()),
            Event::Disconnected { .. } => self.app.notice("The connection was lost; messages wait."),
            Event::Resumed => self.app.notice("Connected again; nothing was lost."),
            Event::SessionReset { unacked: 0 } => self.app.notice("The other side was started anew."),
            Event::SessionReset { unacked } => self.app.warn(format!(
                "The other side was started anew. {unacked} messages were not confirmed: send again what matters."
            )),
            Event::ShortCode { code } => {
                self.app.code = Some(code);
                self.app.notice(format!("{code}\nAsk the other side for theirs, by voice, then: /code N N N"));
            }
            Event::ShortCodeFailed => self.app.warn("No code came of it; try again in a while."),
            Event::ContactRequested if self.wanted.is_none() => {
                self.app.notice("The other side wants to meet again without an invite: /contact NAME");
            }
            Event::ContactMade => {
                if let Some(label) = self.wanted.take() {
                    self.keep_contact(&label);
                    self.label = Some(label);
                }
            }
            Event::InviteContested { .. } | Event::InviteAlreadyUsed => {
                self.app.warn("Somebody else has the invite's text. It got nobody in, but ask who.");
            }
            Event::Closed { reason, unacked, .. } => {
                self.app.is_over = true;
                let reason = if reason.is_empty() { "The chat is over.".to_owned() } else { reason };
                self.app.notice(printable(&reason));
                if unacked > 0 {
                    self.app.warn(format!("{unacked} messages were not confirmed."));
                }
            }
            Event::Failed { error } => {
                self.app.is_over = true;
                self.app.warn(error.to_string());
            }
            // The rest is for programs.
            _ => {}
        }
    }

    fn on_message(&mut self, message: &Message) {
        let text = match message.content.as_text() {
            Some(text) => text.to_owned(),
            None => "(something that is no text)".to_owned(),
        };
        self.app.push(Entry::Theirs {
            text,
            at: message.timestamp,
        });
    }

    /// Says goodbye, and waits until the peer has what was sent.
    async fn leave(&mut self, terminal: &mut DefaultTerminal) -> Outcome {
        if !self.app.is_over {
            self.app.notice("Saying goodbye ...");
            terminal.draw(|frame| ui::draw(frame, &mut self.app))?;
            self.session.close().await?;
        }
        Ok(())
    }
}

fn now() -> sealwire::Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ms = since.unwrap_or_default().as_millis();
    sealwire::Timestamp::from_unix_ms(u64::try_from(ms).unwrap_or(u64::MAX))
}
