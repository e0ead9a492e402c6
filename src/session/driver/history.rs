//! What the session's history is asked for, one thing after the other; records that wait go together.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Driver;
use crate::{
    error::{CloseCode, Error},
    history::{Answer, Archive, Author, Claim, HistoryError, Pair, Record, Standing},
    identity::PeerId,
    protocol::{Event, HistoryInput, HistoryOutput, Input, LinkId},
};

/// Records, and bytes of their bodies, that are handed over together.
const MAX_BATCH: usize = 4_096;
const MAX_BATCH_BYTES: usize = 8 << 20;

/// The history of a session, and what it is doing.
#[derive(Default)]
pub(in crate::session) struct Recording {
    kept: Option<(Archive, PeerId)>,
    pair: Option<Pair>,
    claim: Option<Claim>,
    asked: VecDeque<HistoryOutput>,
    pub(super) running: Option<Answer<Done>>,
    /// What is running may wait for another session, and matters no more when this one is given up.
    loading: bool,
    /// It failed: the host was told, and is told of no other end.
    failed: bool,
    /// Positions of waiting messages that are this side's next ones.
    settling: VecDeque<u64>,
}

/// What is done.
pub(super) enum Done {
    Loaded(LinkId, Box<Standing>, Option<Claim>),
    /// With what waits to be sent.
    Begun(LinkId, Vec<(u64, Bytes)>),
    Recorded(LinkId, u64),
    Noted,
}

impl Recording {
    /// A session of this identity that records into `archive`.
    pub(in crate::session) fn new(archive: Option<Archive>, me: PeerId) -> Self {
        Self {
            kept: archive.map(|archive| (archive, me)),
            ..Self::default()
        }
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn ask(&mut self, asked: HistoryOutput) {
        if self.loading && matches!(asked, HistoryOutput::Load { .. }) {
            (self.running, self.loading) = (None, false);
        }
        self.asked.push_back(asked);
    }

    /// Begins the next thing, if none is under way.
    pub(super) fn begin_next(&mut self, now_ms: u64) -> Result<(), HistoryError> {
        if self.running.is_some() {
            return Ok(());
        }
        let (Some(asked), Some((archive, me))) = (self.asked.pop_front(), self.kept.clone()) else {
            return Ok(());
        };
        let is_claimed = match &asked {
            HistoryOutput::Load { peer, .. } => self.turn_to(Pair { me, peer: *peer }),
            HistoryOutput::Begin { .. }
            | HistoryOutput::Record { .. }
            | HistoryOutput::Confirmed { .. }
            | HistoryOutput::Rebase { .. } => true,
        };
        let Some(pair) = self.pair else { return Ok(()) };
        self.running = Some(match asked {
            HistoryOutput::Load { ledger, .. } => {
                self.loading = true;
                Box::pin(async move {
                    let claim = if is_claimed {
                        None
                    } else {
                        Some(archive.claim(pair).await)
                    };
                    let standing = archive.standing(pair).await?;
                    Ok(Done::Loaded(ledger, Box::new(standing), claim))
                })
            }
            HistoryOutput::Begin { ledger, agreed } => Box::pin(async move {
                let waiting = archive.begin(pair, agreed).await?;
                Ok(Done::Begun(ledger, waiting))
            }),
            HistoryOutput::Record { ledger, record } => {
                let (records, settled) = self.batch(ledger, record);
                let count = records.len() as u64;
                let stored = archive.append(pair, records, &settled)?;
                Box::pin(async move {
                    stored.await?;
                    Ok(Done::Recorded(ledger, count))
                })
            }
            HistoryOutput::Confirmed { n, .. } => {
                let noted = archive.confirm(pair, n)?;
                Box::pin(async move {
                    noted.await?;
                    Ok(Done::Noted)
                })
            }
            HistoryOutput::Rebase { head, .. } => Box::pin(async move {
                archive.rebase(pair, head, now_ms).await?;
                Ok(Done::Noted)
            }),
        });
        Ok(())
    }

    /// The next session is with this pair. Whether it is reserved already.
    fn turn_to(&mut self, pair: Pair) -> bool {
        if self.pair != Some(pair) {
            self.settling.clear();
            self.claim = None;
            self.pair = Some(pair);
        }
        self.claim.is_some()
    }

    /// This record and those behind it, and the waiting messages among them.
    fn batch(&mut self, of: LinkId, first: Record) -> (Vec<Record>, Vec<u64>) {
        let mut bytes = first.len();
        let mut records = vec![first];
        while records.len() < MAX_BATCH
            && bytes < MAX_BATCH_BYTES
            && let Some(HistoryOutput::Record { ledger, .. }) = self.asked.front()
            && *ledger == of
            && let Some(HistoryOutput::Record { record, .. }) = self.asked.pop_front()
        {
            bytes += record.len();
            records.push(record);
        }
        let own = records
            .iter()
            .filter(|record| record.author() == Author::Me);
        let settled = own.count().min(self.settling.len());
        let settled = self.settling.drain(..settled).collect();
        (records, settled)
    }
}

impl Driver {
    /// Lets the history go on with what it was asked for.
    pub(super) fn record(&mut self) {
        let now_ms = self.clock.now().unix_ms;
        if let Err(error) = self.recording.begin_next(now_ms) {
            self.on_history_failed(error);
        }
    }

    pub(super) fn on_recorded(&mut self, done: Result<Done, HistoryError>) {
        (self.recording.running, self.recording.loading) = (None, false);
        let answer = match done {
            Ok(Done::Loaded(ledger, standing, claim)) => {
                self.recording.claim = claim.or(self.recording.claim.take());
                HistoryInput::Loaded { ledger, standing }
            }
            Ok(Done::Begun(ledger, waiting)) => {
                let (positions, bodies) = waiting.into_iter().unzip();
                self.recording.settling = positions;
                // Known before the session is established: they go before all that the host sends in it.
                self.shared.send_first(bodies);
                HistoryInput::Begun { ledger }
            }
            Ok(Done::Recorded(ledger, records)) => HistoryInput::Recorded { ledger, records },
            Ok(Done::Noted) => return,
            Err(error) => return self.on_history_failed(error),
        };
        self.input(Input::History(answer));
    }

    /// What cannot be stored is neither sent nor acknowledged: the session is over.
    fn on_history_failed(&mut self, error: HistoryError) {
        self.recording.asked.clear();
        self.recording.failed = true;
        self.on_event(Event::Failed {
            error: Error::History(error),
        });
        self.input(Input::Close {
            code: CloseCode::GOING_AWAY,
            reason: String::new(),
        });
    }

    /// The session is over: what was to be stored still is.
    pub(super) async fn finish_recording(&mut self) {
        loop {
            self.record();
            let running = self.recording.running.take();
            let Some(running) = running.filter(|_| !self.recording.loading) else {
                // Whoever meets the peer next need not wait until all of this is gone.
                self.recording.claim = None;
                return;
            };
            if let Err(error) = running.await {
                return tracing::warn!(%error, "the end of a session was not recorded");
            }
        }
    }
}
