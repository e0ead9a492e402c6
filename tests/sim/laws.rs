//! What holds of every machine after every input, whatever came in: the simulator asks after each.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use sealwire::protocol::{Event, Input, LinkId, Machine, Output};

/// The largest blob that the server carries.
const MAX_BLOB: usize = 16_384;
/// Links at once: the one offer of a paired join, and two that answer.
const MAX_LINKS: usize = 3;

/// What was seen of one machine so far.
#[derive(Debug, Default)]
pub struct Laws {
    /// Links opened and not closed by either side.
    open: BTreeSet<LinkId>,
    /// Every link so far.
    opened: BTreeSet<LinkId>,
    /// The number of the next message per channel.
    delivered: BTreeMap<u8, u64>,
    /// How many of them the host took.
    taken: BTreeMap<u8, u64>,
    established: bool,
    /// The host was told that it is over.
    told: bool,
    /// It failed: not even a closing link is waited for.
    failed: bool,
    ended: bool,
}

impl Laws {
    /// Takes note of an input, before the machine gets it.
    pub fn note(&mut self, input: &Input) {
        if let Input::LinkClosed { link, .. } = input {
            self.open.remove(link);
        }
        if let Input::Taken { channel, messages } = input {
            *self.taken.entry(*channel).or_default() += messages;
        }
    }

    /// Checks what came of it.
    #[track_caller]
    pub fn check(&mut self, now: Duration, machine: &Machine, out: &[Output]) {
        assert!(
            !self.ended || out.is_empty(),
            "an ended machine says {out:?}"
        );
        for output in out {
            self.check_output(output);
        }
        self.ended = machine.is_ended();
        let timeout = machine.next_timeout();
        if self.ended {
            assert!(self.told, "the machine ended and told nobody");
            assert!(
                self.open.is_empty(),
                "the machine ended and left {:?} open",
                self.open
            );
            assert_eq!(timeout, None, "the machine ended and has a timer");
        } else if let Some((at, reason)) = timeout {
            assert!(
                at > now,
                "the timer {reason:?} is due at {at:?}, and it is {now:?}: the shell would spin"
            );
        }
    }

    #[track_caller]
    fn check_output(&mut self, output: &Output) {
        match output {
            Output::Event(event) => self.check_event(event),
            Output::OpenLink { link, .. } => {
                assert!(!self.told, "a link after the end");
                assert!(self.opened.insert(*link), "{link:?} is used twice");
                self.open.insert(*link);
                assert!(
                    self.open.len() <= MAX_LINKS,
                    "{:?} are open at once",
                    self.open
                );
            }
            Output::LinkAnswer { link, .. }
            | Output::LinkCandidate { link, .. }
            | Output::LinkFrame { link, .. } => {
                assert!(
                    self.open.contains(link),
                    "{output:?} for a link that is not open"
                );
            }
            Output::CloseLink { link, .. } => {
                assert!(
                    self.opened.contains(link),
                    "{link:?} is closed and was never opened"
                );
                self.open.remove(link);
            }
            Output::Deliver {
                channel, number, ..
            } => {
                assert!(
                    self.established,
                    "a message before the session is established"
                );
                let next = self.delivered.entry(*channel).or_default();
                assert_eq!(
                    number, next,
                    "messages of channel {channel} come each once, in order"
                );
                *next += 1;
            }
            Output::SendBlob { blob, .. } => {
                assert!(blob.len() <= MAX_BLOB, "a blob of {} bytes", blob.len());
                assert!(!self.failed, "a blob of kind {} after the end", blob[0]);
            }
            Output::Join { .. } => assert!(!self.failed, "a join after the end"),
            Output::Watch { .. } => assert!(!self.failed, "a join after the end"),
            Output::Discard => self.delivered.clone_from(&self.taken),
            Output::Leave
            | Output::Unwatch
            | Output::WatchBlob { .. }
            | Output::Acknowledged { .. }
            | Output::Datagram { .. }
            | Output::Contact { .. }
            | Output::History(_)
            | Output::Rekeyed { .. } => {}
        }
    }

    #[track_caller]
    fn check_event(&mut self, event: &Event) {
        match event {
            Event::Established { .. } => {
                assert!(!self.established, "established twice");
                self.established = true;
            }
            Event::SessionReset { .. } => {
                self.established = false;
                self.delivered.clear();
                self.taken.clear();
            }
            Event::Closed { .. } | Event::Failed { .. } => {
                assert!(!self.told, "the end is told twice: {event:?}");
                self.told = true;
                self.failed = matches!(event, Event::Failed { .. });
            }
            _ => {}
        }
    }

    /// Links that nobody closed.
    pub fn open_links(&self) -> &BTreeSet<LinkId> {
        &self.open
    }
}
