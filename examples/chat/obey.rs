//! What the person at the keyboard wants.

use std::{path::PathBuf, time::Duration};

use sealwire::session::{FileTransfer, Session};

use crate::{
    Outcome,
    app::{Entry, Mark, Moving},
    command::{Command, HELP},
    record::now,
    talk::{Talk, Told},
    ui,
};

/// As often as an eye can follow.
const FRAME: Duration = Duration::from_millis(100);

impl Talk {
    pub async fn obey(&mut self, command: Command) -> Outcome {
        match command {
            Command::Say(text) => self.say(text).await?,
            Command::Search(query) => self.search(&query),
            Command::Export(path) => self.export(path),
            Command::Delete => self.delete(),
            Command::Help => self.app.notice(HELP.join("\n")),
            Command::Quit => {}
            command => match self.session.clone() {
                Some(session) => self.obey_with(&session, command).await,
                None => self.app.warn("the other side is not there"),
            },
        }
        Ok(())
    }

    /// What needs the other side.
    async fn obey_with(&mut self, session: &Session, command: Command) {
        match command {
            Command::Send(path) => self.offer(session, path).await,
            Command::Accept(path) => self.accept(session, path).await,
            Command::Refuse => match self.offer.take() {
                Some(offer) => offer.reject(),
                None => self.app.warn("nothing is offered"),
            },
            Command::Number => {
                let number = session.safety_number();
                self.app.notice(format!(
                    "{number}\nAsk the other side for theirs, then: /number DIGITS"
                ));
            }
            Command::NumberIs(digits) => {
                let own = session.safety_number();
                let is_same = own.digits() == digits && session.confirm(&own).is_ok();
                self.verified(is_same);
            }
            Command::Code => session.compare_code(),
            Command::CodeIs(groups) => {
                let shown = self.app.code.take();
                let same = shown.filter(|code| code.groups() == groups);
                let is_same = same.is_some_and(|code| session.confirm_code(code).is_ok());
                self.verified(is_same);
            }
            Command::Contact(label) => {
                self.wanted = Some(label);
                session.make_contact();
                self.app
                    .notice("Asked; it is made when the other side does the same.");
            }
            Command::AcceptHistory if self.diverged => {
                session.accept_history();
                self.diverged = false;
                self.app
                    .notice("Going on from here. Messages flow once the other side does the same.");
            }
            Command::AcceptHistory => self.app.warn("the histories do not differ"),
            Command::Security => self.app.notice(session.security().to_string()),
            Command::Rekey => self.work("New keys.", session.clone(), |session| async move {
                session.rekey().await
            }),
            Command::Rest => self.work(
                "Resting; /wake comes back.",
                session.clone(),
                |session| async move { session.suspend().await },
            ),
            Command::Wake => self.work("Back.", session.clone(), |session| async move {
                session.resume().await
            }),
            _ => {}
        }
    }

    /// Something that takes its time.
    fn work<F>(&self, done: &'static str, session: Session, work: impl FnOnce(Session) -> F)
    where
        F: Future<Output = sealwire::Result<()>> + Send + 'static,
    {
        let (work, told) = (work(session), self.told.clone());
        tokio::spawn(async move {
            let _ = told.send(match work.await {
                Ok(()) => Told::Notice(done.to_owned()),
                Err(error) => Told::Warning(error.to_string()),
            });
        });
    }
}

/// Messages.
impl Talk {
    async fn say(&mut self, text: String) -> Outcome {
        if self.app.is_over {
            self.app.warn("the chat is over: nobody gets this");
        } else if self.peer.is_none() {
            self.app.warn("nobody is here yet");
        } else {
            self.unsent.push(text);
            self.flush().await?;
        }
        Ok(())
    }

    /// Whether the session takes it, or says why it never will.
    pub fn send(&mut self, text: &str) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        match futures_util::FutureExt::now_or_never(session.send(text)) {
            Some(Ok(delivery)) => {
                let id = delivery.id();
                self.app.push(Entry::Mine {
                    text: text.to_owned(),
                    at: now(),
                    mark: Mark::Sent,
                    id: Some(id),
                });
                let told = self.told.clone();
                tokio::spawn(async move {
                    let _ = told.send(match delivery.delivered().await {
                        Ok(()) => Told::Delivered(id),
                        Err(_) => Told::LostSightOf(id),
                    });
                });
                true
            }
            Some(Err(error)) => {
                self.app.input = text.into();
                self.app.warn(error.to_string());
                true
            }
            // Too much is on its way: it is tried again.
            None => false,
        }
    }
}

/// Files.
impl Talk {
    async fn offer(&mut self, session: &Session, path: PathBuf) {
        match session.send_file(&path).await {
            Ok(transfer) => {
                let name = path.file_name().unwrap_or_default();
                let name = name.to_string_lossy().into_owned();
                self.app.notice(format!("{name} is offered."));
                self.follow(transfer, name, true);
            }
            Err(error) => self.app.warn(format!("{}: {error}", path.display())),
        }
    }

    async fn accept(&mut self, session: &Session, path: Option<PathBuf>) {
        let Some(offer) = &self.offer else {
            return self.app.warn("nothing is offered");
        };
        let name = offer.name();
        let path = path.unwrap_or_else(|| self.downloads.join(&name));
        match session.accept_file(offer, &path).await {
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
                let moving = Moving {
                    name: name.clone(),
                    is_mine,
                    bytes: progress.bytes,
                    total: progress.total,
                };
                if told.send(Told::Moved(number, moving)).is_err() {
                    return;
                }
                tokio::time::sleep(FRAME).await;
            }
            let _ = told.send(match transfer.finished().await {
                Ok(report) => {
                    let size = ui::size(report.bytes);
                    let text = if is_mine {
                        format!("{name} was delivered, {size}.")
                    } else {
                        format!("{} is here, {size}.", report.path.display())
                    };
                    Told::Arrived(number, text)
                }
                Err(error) => Told::Failed(number, format!("{name}: {error}")),
            });
        });
    }
}

/// Knowing the peer.
impl Talk {
    fn verified(&mut self, is_same: bool) {
        if !is_same {
            return self.app.warn(
                "That is not what is shown here. Somebody may be in between: ask again, by voice.",
            );
        }
        self.app
            .notice("Verified: nobody is in between, and this key is theirs.");
        if let Some(label) = self.meeting.label.clone() {
            self.keep_contact(&label);
        }
    }

    pub fn keep_contact(&mut self, label: &str) {
        let Some(session) = &self.session else { return };
        let contact = session.contact(label).map_err(Into::into);
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
}
