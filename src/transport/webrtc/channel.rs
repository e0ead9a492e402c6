//! One data channel: a task that reads it and one that writes it, so that neither direction nor any other channel
//! waits for this one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    error::Error,
};
use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    super::{
        clock::real_now,
        link::{EventSender, Progress},
        runtime::Pace,
    },
    handler::Note,
    stall::Given,
};

/// How soon a writer looks by itself whether the stack took more.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a channel's writer is given.
pub(super) enum Job {
    /// Send this frame.
    Frame(Vec<u8>),
    /// Answer when every frame before this is in the stack's hands.
    Flush(oneshot::Sender<()>),
}

/// Where a channel's reader puts what it reads.
pub(super) struct Inbox {
    pub(super) channel: u8,
    pub(super) notes: mpsc::UnboundedSender<Note>,
    /// Frames wait for [`LinkEvent::Open`], which tells the session whom they come from.
    pub(super) open: watch::Receiver<bool>,
    pub(super) events: EventSender,
    pub(super) window: Arc<Window>,
}

impl Inbox {
    fn note(&self, note: Note) {
        // The link's task ended: nobody is left to tell.
        let _ = self.notes.send(note);
    }
}

/// Where a channel's writer gets its frames.
pub(super) struct Outbox {
    pub(super) jobs: mpsc::UnboundedReceiver<Job>,
    pub(super) progress: Progress,
    pub(super) given: Arc<Given>,
    pub(super) notes: mpsc::UnboundedSender<Note>,
    pub(super) window: Arc<Window>,
}

/// How much may be outstanding in the stack, unsent or unacknowledged.
///
/// The stack has such a limit of its own, but lets the sender go on as soon as one byte is free: frame by frame, each
/// with a round of all tasks and a burst of packets as short as the frame. Going on when half is free costs half the
/// processor time per byte at 16 KiB.
///
/// So at its lowest it is half full, and over a long path that half is all that is on its way: there it is larger.
/// Where such a share is taken in no time the two ends would mostly wait for each other, so there it grows further: what
/// is outstanding delays whatever is sent behind it, on any channel, so it does so only while that is hardly any time.
pub(super) struct Window {
    limits: Limits,
    /// How often the limit is doubled.
    doublings: AtomicU32,
    /// The limit that the stack was last told.
    told: AtomicUsize,
    pace: Arc<Pace>,
    drained: Notify,
}

/// Bytes that may be outstanding.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) near: usize,
    /// Over a path whose answers take [`FAR`] or longer.
    pub(super) far: usize,
    /// While what a writer waits for is taken within [`QUICK`].
    pub(super) quick: usize,
}

/// In less time half of any window is refilled.
const FAR: Duration = Duration::from_millis(5);

/// A writer that waits no longer for room may have a larger window.
const QUICK: Duration = Duration::from_millis(5);

/// A writer that waits so long has too large a window, or has lost something.
const SLOW: Duration = Duration::from_millis(20);

/// Why a reader ended.
pub(super) enum Ended {
    /// The peer closed the channel or the connection.
    Closed,
    /// The connection was closed here, or the stack stopped.
    Cut,
    /// The session is gone.
    Dropped,
}

/// Reads until the channel closes or the session is gone.
pub(super) async fn read(source: Arc<dyn DataChannel>, mut inbox: Inbox) -> Ended {
    let mut told_text = false;
    while let Some(event) = source.poll().await {
        match event {
            DataChannelEvent::OnMessage(message) if message.is_string => {
                // Said once: a peer that does it once may do it a million times.
                if !std::mem::replace(&mut told_text, true) {
                    inbox.note(Note::Foreign("a text message"));
                }
            }
            DataChannelEvent::OnMessage(message) => {
                let is_open = inbox.open.wait_for(|open| *open).await.is_ok();
                let frame = message.data.freeze();
                if !is_open || inbox.events.frame(inbox.channel, frame).await.is_err() {
                    return Ended::Dropped;
                }
            }
            DataChannelEvent::OnOpen => inbox.note(Note::Opened),
            DataChannelEvent::OnBufferedAmountLow => inbox.window.drained.notify_one(),
            DataChannelEvent::OnClose => return Ended::Closed,
            DataChannelEvent::OnError
            | DataChannelEvent::OnClosing
            | DataChannelEvent::OnBufferedAmountHigh
            | _ => {}
        }
    }
    Ended::Cut
}

/// Writes until the channel closes or the link's task is gone.
pub(super) async fn write(sink: Arc<dyn DataChannel>, mut outbox: Outbox) {
    let mut room = 0;
    while let Some(job) = outbox.jobs.recv().await {
        let sent = match job {
            Job::Frame(frame) => outbox.send(&*sink, frame, &mut room).await,
            Job::Flush(done) => {
                let _ = done.send(());
                Ok(())
            }
        };
        match sent {
            Ok(()) => {}
            // The reader learns it as well, and in order.
            Err(Error::ErrDataChannelClosed) => return,
            Err(error) => {
                let _ = outbox.notes.send(Note::ChannelFailed(error.to_string()));
                return;
            }
        }
    }
}

impl Outbox {
    async fn send(
        &self,
        sink: &dyn DataChannel,
        frame: Vec<u8>,
        room: &mut usize,
    ) -> Result<(), Error> {
        if *room == 0 {
            *room = self.window.room(sink).await?;
        }
        let length = frame.len();
        // Neither conversion copies.
        sink.send(BytesMut::from(Bytes::from(frame))).await?;
        *room = room.saturating_sub(length);
        self.given.add(length);
        self.progress.sent(length);
        Ok(())
    }
}

impl Window {
    pub(super) fn new(limits: Limits, pace: Arc<Pace>) -> Self {
        Self {
            limits,
            doublings: AtomicU32::new(0),
            told: AtomicUsize::new(0),
            pace,
            drained: Notify::new(),
        }
    }

    fn limit(&self) -> usize {
        let is_far = self.pace.path().round_trip() >= Some(FAR);
        let limit = if is_far {
            self.limits.far
        } else {
            self.limits.near
        };
        let doubled = limit << self.doublings.load(Ordering::Relaxed);
        doubled.min(self.limits.quick).max(limit)
    }

    /// So long a writer waited for room.
    fn learn(&self, waited: Duration) {
        let doublings = self.doublings.load(Ordering::Relaxed);
        let doublings = if waited >= SLOW {
            doublings.saturating_sub(1)
        } else if waited <= QUICK && self.limit() < self.limits.quick {
            doublings + 1
        } else {
            doublings
        };
        self.doublings.store(doublings, Ordering::Relaxed);
    }

    /// Bytes that may be sent now; waits while less is free than half of the limit, or of the smallest limit all.
    async fn room(&self, sink: &dyn DataChannel) -> Result<usize, Error> {
        let mut since = None;
        loop {
            let limit = self.limit();
            // However large it is, bursts need not be longer.
            let low = (limit / 2).max(limit.saturating_sub(self.limits.near));
            if self.told.swap(limit, Ordering::Relaxed) != limit {
                let low = u32::try_from(low).unwrap_or(u32::MAX);
                sink.set_buffered_amount_low_threshold(low).await?;
            }
            let outstanding = sink.outstanding_bytes().await?;
            if outstanding <= low {
                if let Some(since) = since {
                    self.learn(real_now().saturating_duration_since(since));
                }
                return Ok(limit - outstanding);
            }
            since.get_or_insert_with(real_now);
            // The reader tells, but it may be waiting for the session.
            let _ = timeout(LOOK_AGAIN, self.drained.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(quick: usize) -> Window {
        let limits = Limits {
            near: 256,
            far: 512,
            quick,
        };
        Window::new(limits, Pace::new())
    }

    #[test]
    fn a_window_grows_while_it_is_taken_at_once_and_shrinks_where_it_delays() {
        let window = window(1_024);
        let after = |millis| {
            window.learn(Duration::from_millis(millis));
            window.limit()
        };
        let waits = [10, 1, 1, 1, 1, 10, 30, 10, 30, 30, 30, 1];
        let limits = [
            256, 512, 1_024, 1_024, 1_024, 1_024, 512, 512, 256, 256, 256, 512,
        ];
        assert_eq!(waits.map(after), limits);
    }

    #[test]
    fn a_window_does_not_grow_beyond_what_the_sockets_hold() {
        let window = window(53);
        for _ in 0..100 {
            window.learn(Duration::ZERO);
            assert_eq!(window.limit(), 256);
        }
    }
}
