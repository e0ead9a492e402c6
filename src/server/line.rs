//! The way out to one client: straight into its socket, and into a bounded queue only while the socket takes no more.
//!
//! Whoever has something for the client writes it here, from any thread; the connection's own task writes only what had
//! to wait. Nothing ever waits for a slow reader, and nothing is dropped silently: a queue that would grow beyond its
//! limit closes the connection. An idle line has no buffer.

use std::{
    io,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Instant,
};

use tokio::{io::AsyncWrite, net::tcp::OwnedWriteHalf};

use super::{
    deadlines::{Deadlines, Due},
    farewell::Farewell,
    limits::ServerLimits,
    websocket::{self, Kind},
};

/// The way out to one client.
#[derive(Debug)]
pub(super) struct Line {
    /// Where the registry keeps it.
    pub(super) place: AtomicUsize,
    state: Mutex<State>,
}

/// Where frames go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// Into the socket.
    Socket(OwnedWriteHalf),
    /// To the connection's task, which encrypts them.
    Task,
}

#[derive(Debug)]
struct State {
    outlet: Outlet,
    /// What the socket did not take, of which so many bytes are written by now.
    pending: Vec<u8>,
    written: usize,
    limit: usize,
    closing: Option<(Farewell, Instant)>,
    has_failed: bool,
    waker: Option<Waker>,
    deadlines: Deadlines,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// The system has it.
    Written,
    /// It waits, and with it so many bytes.
    Queued(usize),
    /// The connection is ending.
    Ended,
}

/// What the connection's task finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    /// Why the connection is to end.
    pub(super) closing: Option<Farewell>,
    /// Whether nothing waits to be written.
    pub(super) is_flushed: bool,
    /// Whether the connection is broken, or has had its time.
    pub(super) has_failed: bool,
}

impl Line {
    pub(super) fn new(outlet: Outlet, now: Instant, limits: &ServerLimits) -> Self {
        Self {
            place: AtomicUsize::new(0),
            state: Mutex::new(State {
                outlet,
                pending: Vec::new(),
                written: 0,
                limit: limits.queue,
                closing: None,
                has_failed: false,
                waker: None,
                deadlines: Deadlines::new(now, limits),
            }),
        }
    }

    /// Sends a whole frame.
    pub(super) fn push(&self, frame: &[u8]) -> Pushed {
        let mut state = self.state();
        if state.closing.is_some() || state.has_failed {
            return Pushed::Ended;
        }
        let waiting = state.waiting();
        let taken = state.try_write(frame);
        if taken == frame.len() {
            return Pushed::Written;
        }
        if state.has_failed {
            state.wake();
            return Pushed::Ended;
        }
        if waiting + frame.len() - taken > state.limit {
            // The part of a frame that the socket took needs its rest, or the close frame could not be read.
            if taken > 0 {
                state.queue(&frame[taken..]);
            }
            state.close(Farewell::TooSlow);
            return Pushed::Ended;
        }
        state.queue(&frame[taken..]);
        state.wake();
        Pushed::Queued(state.waiting())
    }

    /// Sends the close frame, after everything that was sent before it. The first reason counts.
    pub(super) fn close(&self, farewell: Farewell) {
        let mut state = self.state();
        if state.closing.is_none() && !state.has_failed {
            state.close(farewell);
        }
    }

    /// Ends the connection at once.
    pub(super) fn abort(&self) {
        let mut state = self.state();
        state.has_failed = true;
        state.wake();
    }

    /// Something came from the client.
    pub(super) fn heard(&self, now: Instant) {
        self.state().deadlines.heard(now);
    }

    /// The client is in a room.
    pub(super) fn joined(&self) {
        self.state().deadlines.joined();
    }

    /// Does what is due.
    pub(super) fn check(&self, now: Instant, limits: &ServerLimits) {
        let mut state = self.state();
        if let Some((_, since)) = state.closing {
            if now.saturating_duration_since(since) >= limits.close {
                state.has_failed = true;
                state.wake();
            }
            return;
        }
        let due = state.deadlines.check(now, limits);
        drop(state);
        match due {
            Due::Nothing => {}
            Due::End(farewell) => self.close(farewell),
            Due::Ping => {
                let (header, start) = websocket::header(Kind::Ping, 0);
                self.push(&header[start..]);
            }
        }
    }

    /// Writes what waits, and wakes the task of `context` when there is more to do. `task` writes what goes out through
    /// the task; a call with no bytes flushes it.
    pub(super) fn poll(
        &self,
        context: &mut Context<'_>,
        task: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> View {
        let mut state = self.state();
        if !matches!(&state.waker, Some(waker) if waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        let is_flushed = match state.poll_flush(context, task) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => {
                state.has_failed = true;
                false
            }
            Poll::Pending => false,
        };
        View {
            closing: state.closing.map(|(farewell, _)| farewell),
            is_flushed,
            has_failed: state.has_failed,
        }
    }

    /// Tells the client that nothing more comes.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state().outlet {
            Outlet::Socket(socket) => Pin::new(socket).poll_shutdown(context),
            Outlet::Task => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn place(&self) -> usize {
        self.place.load(Relaxed)
    }

    /// Nothing that can panic runs half way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Bytes that wait.
    fn waiting(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Writes what the socket takes at once; how much that is.
    fn try_write(&mut self, frame: &[u8]) -> usize {
        let Outlet::Socket(socket) = &self.outlet else {
            return 0;
        };
        if self.waiting() > 0 {
            return 0;
        }
        match socket.try_write(frame) {
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.has_failed = true;
                0
            }
        }
    }

    fn queue(&mut self, bytes: &[u8]) {
        if self.pending.is_empty() {
            self.deadlines.writing(super::now());
        }
        if self.written > self.pending.len() / 2 {
            self.pending.drain(..self.written);
            self.written = 0;
        }
        self.pending.extend_from_slice(bytes);
    }

    fn close(&mut self, farewell: Farewell) {
        let mut frame = Vec::new();
        match farewell.code() {
            Some(code) => websocket::encode_close(code, &farewell.reason(), &mut frame),
            None => websocket::encode(Kind::Close, b"", &mut frame),
        }
        self.closing = Some((farewell, super::now()));
        let taken = self.try_write(&frame);
        if taken < frame.len() {
            self.queue(&frame[taken..]);
        }
        self.wake();
    }

    fn poll_flush(
        &mut self,
        context: &mut Context<'_>,
        mut task: impl FnMut(&mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let rest = &self.pending[self.written..];
            let written = match &mut self.outlet {
                Outlet::Socket(socket) => Pin::new(socket).poll_write(context, rest),
                Outlet::Task => task(context, rest),
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.written += written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.pending.capacity() > 0 {
            if let Outlet::Task = self.outlet {
                // What is encrypted may still have to reach the socket.
                std::task::ready!(task(context, b""))?;
            }
            (self.pending, self.written) = (Vec::new(), 0);
            self.deadlines.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn line(limit: usize) -> Line {
        let limits = ServerLimits {
            queue: limit,
            ..ServerLimits::default()
        };
        Line::new(Outlet::Task, crate::server::now(), &limits)
    }

    /// Everything that waits, written in steps of at most 7 bytes.
    fn drain(line: &Line) -> (Vec<u8>, View) {
        let mut written = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let view = line.poll(&mut context, |_, bytes| {
            let taken = bytes.len().min(7);
            written.extend_from_slice(&bytes[..taken]);
            Poll::Ready(Ok(taken))
        });
        (written, view)
    }

    ///
    #[test]
    fn frames_leave_in_the_order_they_came() {
        let line = line(1_000);
        for (frame, waiting) in [("one", 3), ("two", 6), ("three", 11)] {
            assert_eq!(line.push(frame.as_bytes()), Pushed::Queued(waiting));
        }
        let (written, view) = drain(&line);
        assert_eq!(written, b"onetwothree");
        assert!(view.is_flushed && view.closing.is_none() && !view.has_failed);
    }

    #[test]
    fn the_limit_is_exact_and_beyond_it_the_line_closes_after_what_was_taken() {
        let line = line(20);
        for _ in 0..100 {
            assert_eq!(line.push(&[7; 20]), Pushed::Queued(20));
            assert_eq!(drain(&line).0.len(), 20);
        }
        assert_eq!(line.push(&[7; 20]), Pushed::Queued(20));
        assert_eq!(line.push(&[8]), Pushed::Ended);
        assert_eq!(line.push(&[9]), Pushed::Ended);
        let (written, view) = drain(&line);
        assert_eq!(view.closing, Some(Farewell::TooSlow));
        assert_eq!(written[..20], [7; 20]);
        assert_eq!(written[20..24], [0x88, 18, 0x0f, 0xa9]);
    }

    #[test]
    fn an_idle_line_has_no_buffer_and_memory_of_a_burst_is_given_back() {
        let line = line(1 << 20);
        for _ in 0..1_000 {
            line.push(&[1; 100]);
        }
        drain(&line);
        assert_eq!(line.state().pending.capacity(), 0);
        assert!(size_of::<Line>() <= 192, "{}", size_of::<Line>());
    }

    #[test]
    fn what_is_partly_written_is_not_written_twice() {
        let line = line(1_000);
        let mut context = Context::from_waker(Waker::noop());
        let mut sent = Vec::new();
        for n in 0..50_u8 {
            line.push(&[n; 13]);
            let mut left = 9;
            line.poll(&mut context, |_, bytes| {
                let taken = bytes.len().min(left);
                if taken == 0 {
                    return Poll::Pending;
                }
                left -= taken;
                sent.extend_from_slice(&bytes[..taken]);
                Poll::Ready(Ok(taken))
            });
        }
        sent.extend(drain(&line).0);
        let expected: Vec<u8> = (0..50_u8).flat_map(|n| [n; 13]).collect();
        assert_eq!(sent, expected);
    }

    #[test]
    fn the_first_reason_counts_and_the_close_deadline_ends_it() {
        let limits = ServerLimits::default();
        let line = Arc::new(line(1_000));
        line.close(Farewell::GoingAway(7));
        line.close(Farewell::Silent);
        let now = crate::server::now();
        line.check(now, &limits);
        let (_, view) = drain(&line);
        assert_eq!(view.closing, Some(Farewell::GoingAway(7)));
        assert!(!view.has_failed);
        line.check(now + 2 * limits.close, &limits);
        assert!(drain(&line).1.has_failed);
    }
}
