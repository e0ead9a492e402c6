//! What waits to be written to one client: a queue bounded in bytes, which costs nothing while it is empty.
//!
//! Filling it never waits, so one slow reader holds nobody else up. A full queue is never thinned out silently: it
//! closes, and the connection with it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio_tungstenite::tungstenite::Utf8Bytes;

/// What each frame counts besides its bytes.
const FRAME_COST: usize = 64;

/// Frames up to which the queue's memory is kept for the next burst.
const KEPT: usize = 4;

/// The queue of one client: filled by everybody in its room, emptied by its own connection.
#[derive(Debug)]
pub(super) struct Mailbox {
    limit: usize,
    state: Mutex<State>,
}

/// The queue was filled beyond its limit. What was in it is gone, and so must the connection be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Utf8Bytes>,
    bytes: usize,
    overflowed: bool,
    /// The connection that waits.
    waker: Option<Waker>,
}

impl Mailbox {
    /// An empty queue for `limit` bytes, 64 counted for each frame besides its own.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            state: Mutex::default(),
        }
    }

    /// Adds a frame, or closes the queue when it does not fit.
    pub(super) fn push(&self, frame: Utf8Bytes) {
        let mut state = self.state();
        if state.overflowed {
            return;
        }
        let bytes = state.bytes + frame.len() + FRAME_COST;
        if bytes > self.limit {
            *state = State {
                overflowed: true,
                waker: state.waker.take(),
                ..State::default()
            };
        } else {
            state.bytes = bytes;
            state.frames.push_back(frame);
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The next frame. Cancel-safe; for one waiter at a time, [`Mailbox::overflow`] included.
    pub(super) async fn next(&self) -> Result<Utf8Bytes, Overflow> {
        poll_fn(|context| {
            let mut state = self.state();
            match state.take() {
                Some(frame) => Poll::Ready(Ok(frame)),
                None => state.wait(context).map(Err),
            }
        })
        .await
    }

    /// A frame that is there already.
    pub(super) fn try_next(&self) -> Option<Utf8Bytes> {
        self.state().take()
    }

    /// Waits until the queue is filled beyond its limit. Cancel-safe.
    pub(super) async fn overflow(&self) -> Overflow {
        poll_fn(|context| self.state().wait(context)).await
    }

    /// Nothing that can panic runs while the lock is held; a poisoned one would be sound all the same.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Utf8Bytes> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + FRAME_COST;
        if self.frames.is_empty() && self.frames.capacity() > KEPT {
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<Overflow> {
        if self.overflowed {
            return Poll::Ready(Overflow);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::timeout;

    use super::*;

    fn frame(bytes: usize) -> Utf8Bytes {
        "x".repeat(bytes).into()
    }

    #[tokio::test]
    async fn frames_leave_in_the_order_they_came() {
        let mailbox = Mailbox::new(1_000);
        for text in ["a", "b", "c"] {
            mailbox.push(Utf8Bytes::from_static(text));
        }
        assert_eq!(mailbox.next().await.as_deref(), Ok("a"));
        assert_eq!(mailbox.try_next().as_deref(), Some("b"));
        assert_eq!(mailbox.next().await.as_deref(), Ok("c"));
        assert_eq!(mailbox.try_next(), None);
    }

    #[tokio::test]
    async fn the_limit_is_exact_and_what_left_no_longer_counts() {
        let mailbox = Mailbox::new(2 * (10 + FRAME_COST));
        for _ in 0..100 {
            mailbox.push(frame(10));
            mailbox.push(frame(10));
            assert!(mailbox.next().await.is_ok() && mailbox.next().await.is_ok());
        }
        mailbox.push(frame(10));
        mailbox.push(frame(11));
        assert_eq!(mailbox.next().await, Err(Overflow));
        assert_eq!(mailbox.overflow().await, Overflow);
    }

    #[tokio::test]
    async fn an_overflowed_mailbox_holds_nothing_and_takes_nothing() {
        let mailbox = Mailbox::new(100);
        mailbox.push(frame(10));
        mailbox.push(frame(1_000));
        mailbox.push(frame(1));
        assert_eq!(mailbox.try_next(), None);
        assert_eq!(mailbox.state().frames.capacity(), 0);
    }

    #[tokio::test]
    async fn memory_of_a_burst_is_given_back() {
        let mailbox = Mailbox::new(1 << 20);
        (0..1_000).for_each(|_| mailbox.push(frame(1)));
        while mailbox.try_next().is_some() {}
        let state = mailbox.state();
        assert_eq!((state.frames.capacity(), state.bytes), (0, 0));
    }

    #[tokio::test]
    async fn a_waiter_wakes_for_a_frame_and_for_an_overflow() {
        let mailbox = Arc::new(Mailbox::new(100));
        let other = Arc::clone(&mailbox);
        let waiter = tokio::spawn(async move { (other.next().await, other.overflow().await) });
        tokio::task::yield_now().await;
        mailbox.push(frame(3));
        tokio::task::yield_now().await;
        mailbox.push(frame(100));
        let woken = timeout(Duration::from_secs(10), waiter)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(woken, (Ok("xxx".into()), Overflow));
    }
}
