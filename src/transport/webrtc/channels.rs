//! All data channels of a connection, with the tasks that read and write them.

use std::{sync::Arc, time::Duration};

use ::webrtc::data_channel::DataChannel;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::sleep,
};

use super::channel::{self, Ended, Inbox, Job, Outbox, Window};
use crate::transport::{LinkPort, webrtc::handler::Note};

/// The stack does not say when the last byte was acknowledged.
const FLUSH_POLL: Duration = Duration::from_millis(1);

/// The channels, made together and open together.
pub(super) struct Channels {
    all: Vec<Channel>,
    readers: JoinSet<Ended>,
    /// Aborted with the rest.
    _writers: JoinSet<()>,
    /// Frames are given to the session once this is true, and never when it is gone.
    open: Option<watch::Sender<bool>>,
    opened: usize,
}

struct Channel {
    id: u8,
    stack: Arc<dyn DataChannel>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Channels {
    /// Starts the tasks; at most `limit` bytes are outstanding per channel.
    pub(super) fn start(
        stack: Vec<(u8, Arc<dyn DataChannel>)>,
        notes: &mpsc::UnboundedSender<Note>,
        port: &LinkPort,
        limit: usize,
    ) -> Self {
        let open = watch::Sender::new(false);
        let (mut readers, mut writers) = (JoinSet::new(), JoinSet::new());
        let start = |(id, stack): (u8, Arc<dyn DataChannel>)| {
            let (jobs, outgoing) = mpsc::unbounded_channel();
            let window = Arc::new(Window::new(limit));
            let inbox = Inbox {
                channel: id,
                notes: notes.clone(),
                open: open.subscribe(),
                events: port.events(),
                window: Arc::clone(&window),
            };
            let outbox = Outbox {
                jobs: outgoing,
                progress: port.progress(),
                notes: notes.clone(),
                window,
            };
            readers.spawn(channel::read(Arc::clone(&stack), inbox));
            writers.spawn(channel::write(Arc::clone(&stack), outbox));
            Channel { id, stack, jobs }
        };
        let all = stack.into_iter().map(start).collect();
        Self {
            all,
            readers,
            _writers: writers,
            open: Some(open),
            opened: 0,
        }
    }

    /// One more is open. Whether that was the last.
    pub(super) fn note_opened(&mut self) -> bool {
        self.opened += 1;
        self.opened == self.all.len()
    }

    /// The session knows who the peer is: it may have frames.
    pub(super) fn release_frames(&self) {
        if let Some(open) = &self.open {
            open.send_replace(true);
        }
    }

    /// Frames that still wait to be released never will be.
    pub(super) fn abandon_frames(&mut self) {
        self.open = None;
    }

    /// Hands a frame to its writer; false when there is no such channel.
    pub(super) fn send(&self, id: u8, frame: Vec<u8>) -> bool {
        let Some(channel) = self.all.iter().find(|channel| channel.id == id) else {
            return false;
        };
        // Fails when the writer stopped, which it reported.
        let _ = channel.jobs.send(Job::Frame(frame));
        true
    }

    /// The end of the next reader that ends; `None` when all did. Cancel-safe.
    pub(super) async fn next_end(&mut self) -> Option<Ended> {
        let ended = self.readers.join_next().await?;
        Some(ended.unwrap_or(Ended::Cut))
    }

    /// Waits until the session took all that the readers hold, or is gone.
    pub(super) async fn read_out(&mut self) {
        while self.next_end().await.is_some() {}
    }

    /// Waits until everything sent so far is acknowledged by the peer's stack.
    pub(super) async fn flushed(&self) {
        for Channel { jobs, .. } in &self.all {
            let (done, flushed) = oneshot::channel();
            if jobs.send(Job::Flush(done)).is_ok() {
                let _ = flushed.await;
            }
        }
        for Channel { stack, .. } in &self.all {
            while stack.outstanding_bytes().await.is_ok_and(|bytes| bytes > 0) {
                sleep(FLUSH_POLL).await;
            }
        }
    }

    /// Resets every stream, which the peer sees as the end.
    pub(super) async fn close(&self) {
        for Channel { stack, .. } in &self.all {
            let _ = stack.close().await;
        }
    }

    /// Wakes the stack's driver, which may be asleep for 200 ms: any setter does, and this value is the default.
    pub(super) async fn wake_driver(&self) {
        if let Some(Channel { stack, .. }) = self.all.first() {
            let _ = stack.set_buffered_amount_high_threshold(u32::MAX).await;
        }
    }
}
