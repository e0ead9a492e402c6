//! One data channel: a task that reads it and one that writes it, so that neither direction nor any other channel
//! waits for this one.

use std::sync::Arc;

use ::webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    error::Error,
};
use bytes::{Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    super::link::{EventSender, Progress},
    handler::Note,
};

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
    pub(super) notes: mpsc::UnboundedSender<Note>,
}

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
            DataChannelEvent::OnClose => return Ended::Closed,
            DataChannelEvent::OnError
            | DataChannelEvent::OnClosing
            | DataChannelEvent::OnBufferedAmountLow
            | DataChannelEvent::OnBufferedAmountHigh
            | _ => {}
        }
    }
    Ended::Cut
}

/// Writes until the channel closes or the link's task is gone. The stack makes it wait while too much is outstanding.
pub(super) async fn write(sink: Arc<dyn DataChannel>, mut outbox: Outbox) {
    while let Some(job) = outbox.jobs.recv().await {
        match job {
            Job::Frame(frame) => {
                let length = frame.len();
                // Neither conversion copies.
                match sink.send(BytesMut::from(Bytes::from(frame))).await {
                    Ok(()) => outbox.progress.sent(length),
                    // The reader learns it as well, and in order.
                    Err(Error::ErrDataChannelClosed) => return,
                    Err(error) => {
                        let _ = outbox.notes.send(Note::Failed(error.to_string()));
                        return;
                    }
                }
            }
            Job::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}
