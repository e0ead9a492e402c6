//! What the host asked for and waits for: new keys, rest, and an end of it.

use tokio::sync::oneshot;

use super::{
    super::lifecycle::{Asked, State, Wish},
    Driver,
};
use crate::protocol::Input;

/// Who waits for what. Dropped, those who wait learn that the session ended.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// With the epoch that satisfies each; `None`: the next transport does.
    rekeys: Vec<(Option<u16>, oneshot::Sender<()>)>,
    rests: Vec<oneshot::Sender<()>>,
    resumptions: Vec<oneshot::Sender<()>>,
    /// The host wants no transport.
    rest: bool,
    /// What the host was told last.
    told: State,
}

impl Driver {
    pub(super) fn grant(&mut self, wishes: &mut Vec<Asked>) {
        for Asked { wish, done } in wishes.drain(..) {
            match wish {
                Wish::Rekey => self.grant_rekey(done),
                Wish::Suspend => {
                    self.state.wishes.rest = true;
                    add(&mut self.state.wishes.rests, done);
                }
                Wish::Resume => self.grant_resume(done),
            }
        }
        if self.state.wishes.rest {
            self.grant_rest();
        }
    }

    fn grant_rekey(&mut self, done: oneshot::Sender<()>) {
        let goal = self.machine.rekey_goal();
        let rekeys = &mut self.state.wishes.rekeys;
        // Those who gave up waiting leave nothing behind.
        rekeys.retain(|(_, waiting)| !waiting.is_closed());
        rekeys.push((goal, done));
        if goal.is_some() {
            self.input(Input::Rekey);
        }
    }

    /// Told until it rests, should a new transport come in between.
    fn grant_rest(&mut self) {
        if !self.machine.is_parked() {
            self.input(Input::Suspend);
        }
        if self.machine.is_parked() {
            self.tell_state();
            answer(&mut self.state.wishes.rests);
        }
    }

    fn grant_resume(&mut self, done: oneshot::Sender<()>) {
        let wishes = &mut self.state.wishes;
        wishes.rest = false;
        // Whoever wanted rest is overruled and need not wait for it.
        answer(&mut wishes.rests);
        add(&mut wishes.resumptions, done);
        self.input(Input::Resume);
        if self.machine.is_connected() {
            answer(&mut self.state.wishes.resumptions);
        }
    }

    /// The keys of an epoch are confirmed.
    pub(super) fn on_rekeyed(&mut self, epoch: u16) {
        let satisfied = |(goal, _): &mut (Option<u16>, _)| goal.is_some_and(|goal| goal <= epoch);
        let done = self.state.wishes.rekeys.extract_if(.., satisfied);
        answer_all(done.map(|(_, done)| done));
    }

    /// The session goes on over another transport.
    pub(super) fn on_resumed(&mut self) {
        self.shared
            .set_path(self.state.relayed, self.state.fingerprint_checked);
        self.on_connected();
    }

    /// A new transport: its keys are new as well.
    pub(super) fn on_connected(&mut self) {
        self.shared.fault.forget();
        self.tell_state();
        let wishes = &mut self.state.wishes;
        answer_all(wishes.rekeys.drain(..).map(|(_, done)| done));
        answer(&mut wishes.resumptions);
    }

    /// Keeps what `Session::state` says in step with events and answers: it comes before them.
    pub(super) fn tell_state(&mut self) {
        let state = if self.machine.is_connected() {
            State::Connected
        } else if self.machine.is_parked() {
            State::Suspended
        } else {
            State::Reconnecting
        };
        if std::mem::replace(&mut self.state.wishes.told, state) != state {
            self.shared.set_state(state);
        }
    }
}

fn add(waiting: &mut Vec<oneshot::Sender<()>>, done: oneshot::Sender<()>) {
    // Those who gave up waiting leave nothing behind.
    waiting.retain(|waiting| !waiting.is_closed());
    waiting.push(done);
}

fn answer(waiting: &mut Vec<oneshot::Sender<()>>) {
    answer_all(waiting.drain(..));
}

fn answer_all(waiting: impl Iterator<Item = oneshot::Sender<()>>) {
    for done in waiting {
        // Nobody waits any more: nothing is lost.
        let _ = done.send(());
    }
}
