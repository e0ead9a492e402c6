//! One answer from a thread to a task, whatever runs the task.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::history::HistoryError;

type Outcome<T> = Result<T, HistoryError>;

/// Where the thread says it.
#[derive(Debug)]
pub(super) struct Reply<T>(Arc<Mutex<Slot<T>>>);

/// Where the task waits for it.
#[derive(Debug)]
pub(super) struct Waiting<T>(Arc<Mutex<Slot<T>>>);

#[derive(Debug)]
struct Slot<T> {
    said: Option<Outcome<T>>,
    /// The thread will say nothing more.
    gone: bool,
    waker: Option<Waker>,
}

pub(super) fn channel<T>() -> (Reply<T>, Waiting<T>) {
    let slot = Arc::new(Mutex::new(Slot {
        said: None,
        gone: false,
        waker: None,
    }));
    (Reply(Arc::clone(&slot)), Waiting(slot))
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Reply<T> {
    pub(super) fn say(self, said: Outcome<T>) {
        lock(&self.0).said = Some(said);
        // Dropping wakes.
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        let mut slot = lock(&self.0);
        slot.gone = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Waiting<T> {
    type Output = Outcome<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<T>> {
        let mut slot = lock(&self.0);
        if let Some(said) = slot.said.take() {
            return Poll::Ready(said);
        }
        if slot.gone {
            return Poll::Ready(Err(HistoryError::Storage {
                action: "reached",
                reason: "its thread ended".into(),
            }));
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
