//! Clocks, timers and tasks by the browser.
//!
//! Futures hold no objects of JavaScript, which may not leave their thread: all timers share one `setTimeout`, and a
//! [`Sleep`] knows only its place among them.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use js_sys::{Function, Reflect};
use wasm_bindgen::{JsCast as _, JsValue, closure::Closure};
use web_sys::{MessageChannel, Performance, Window};

/// The longest time that `setTimeout` understands.
const MAX_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::new(Timers::new());
}

/// Runs a future on the page's own thread.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(future);
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    // Beyond its ends, the conversion gives the nearest number there is.
    js_sys::Date::now() as u64
}

/// What an exception of JavaScript says.
pub(crate) fn words(error: &JsValue) -> String {
    let message = Reflect::get(error, &JsValue::from_str("message"));
    let message = message.ok().and_then(|message| message.as_string());
    message.unwrap_or_else(|| "the browser gave no reason".to_owned())
}

/// A monotonic clock that reads zero when it is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: Duration,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now().saturating_sub(self.start)
    }

    /// Waits until [`Clock::elapsed`] is this. Cancel-safe.
    pub(crate) fn sleep_until(&self, elapsed: Duration) -> Sleep {
        Sleep::new(self.start.saturating_add(elapsed))
    }
}

/// Lets a host that has more to ask go on before it is answered: what a page does in one turn of its event loop becomes
/// one piece of work, so that small messages share a frame. Cancel-safe.
pub(crate) fn end_of_turn() -> Turn {
    Turn { number: None }
}

pub(super) fn sleep(duration: Duration) -> Sleep {
    Sleep::new(now().saturating_add(duration))
}

/// The time since the page was opened.
fn now() -> Duration {
    TIMERS.with_borrow(Timers::now)
}

/// Waits for a time.
pub(crate) struct Sleep {
    at: Duration,
    /// Its place, once it waits.
    number: Option<u64>,
}

impl Sleep {
    fn new(at: Duration) -> Self {
        Self { at, number: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        TIMERS.with_borrow_mut(|timers| {
            if timers.now() >= self.at {
                return Poll::Ready(());
            }
            let number = *self.number.get_or_insert_with(|| timers.next_number());
            timers.wait((self.at, number), context.waker());
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // The browser's timer stays: it fires once for nothing, which costs less than stopping it each time.
            TIMERS.with_borrow_mut(|timers| timers.waiting.remove(&(self.at, number)));
        }
    }
}

/// Waits for the page's next turn.
pub(crate) struct Turn {
    number: Option<u64>,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        TIMERS.with_borrow_mut(|timers| {
            let number = match self.number {
                Some(number) if !timers.turns.contains_key(&number) => return Poll::Ready(()),
                Some(number) => number,
                None => timers.next_number(),
            };
            if timers.turns.is_empty() && !timers.ask_for_turn() {
                return Poll::Ready(());
            }
            self.number = Some(number);
            timers.turns.insert(number, context.waker().clone());
            Poll::Pending
        })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            TIMERS.with_borrow_mut(|timers| timers.turns.remove(&number));
        }
    }
}

/// Everything that waits for a time on this thread.
struct Timers {
    window: Option<Window>,
    performance: Option<Performance>,
    waiting: BTreeMap<(Duration, u64), Waker>,
    /// Those that wait for the next turn.
    turns: BTreeMap<u64, Waker>,
    /// A message to oneself is the soonest next turn: `setTimeout` waits 4 ms.
    ring: Option<MessageChannel>,
    _rung: Closure<dyn FnMut()>,
    last: u64,
    /// The browser's timer: for when, and its handle.
    armed: Option<(Duration, i32)>,
    fire: Closure<dyn FnMut()>,
}

impl Timers {
    fn new() -> Self {
        let window = web_sys::window();
        let ring = MessageChannel::new().ok();
        let rung = Closure::<dyn FnMut()>::new(turn);
        if let Some(ring) = &ring {
            let rung: &Function = rung.as_ref().unchecked_ref();
            ring.port1().set_onmessage(Some(rung));
        }
        Self {
            performance: window.as_ref().and_then(Window::performance),
            window,
            waiting: BTreeMap::new(),
            turns: BTreeMap::new(),
            ring,
            _rung: rung,
            last: 0,
            armed: None,
            fire: Closure::new(fire),
        }
    }

    /// Where there is no such clock, the calendar's stands in.
    fn now(&self) -> Duration {
        let milliseconds = match &self.performance {
            Some(performance) => performance.now(),
            None => js_sys::Date::now(),
        };
        Duration::try_from_secs_f64(milliseconds / 1_000.0).unwrap_or_default()
    }

    fn next_number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether there will be one.
    fn ask_for_turn(&self) -> bool {
        let ring = self.ring.as_ref().map(MessageChannel::port2);
        ring.is_some_and(|ring| ring.post_message(&JsValue::NULL).is_ok())
    }

    fn wait(&mut self, place: (Duration, u64), waker: &Waker) {
        self.waiting
            .entry(place)
            .and_modify(|waiting| waiting.clone_from(waker))
            .or_insert_with(|| waker.clone());
        self.arm();
    }

    /// Sees to it that the browser calls in time for the first that waits.
    fn arm(&mut self) {
        let Some((&(at, _), _)) = self.waiting.first_key_value() else {
            return;
        };
        if self.armed.is_some_and(|(armed, _)| armed <= at) {
            return;
        }
        let Some(window) = &self.window else { return };
        if let Some((_, handle)) = self.armed.take() {
            window.clear_timeout_with_handle(handle);
        }
        let wait = at.saturating_sub(self.now()).min(MAX_TIMEOUT);
        // Rounded up, for a timer that comes early has to be set again.
        let wait = i32::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(i32::MAX);
        let fire: &Function = self.fire.as_ref().unchecked_ref();
        let handle = window.set_timeout_with_callback_and_timeout_and_arguments_0(fire, wait);
        self.armed = handle.ok().map(|handle| (at, handle));
    }

    /// Those whose time has come.
    fn take_due(&mut self) -> Vec<Waker> {
        let now = self.now();
        let later = self.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut self.waiting, later);
        due.into_values().collect()
    }
}

/// What the browser calls.
fn fire() {
    let due = TIMERS.with_borrow_mut(|timers| {
        timers.armed = None;
        let due = timers.take_due();
        timers.arm();
        due
    });
    due.into_iter().for_each(Waker::wake);
}

/// What the browser calls at the next turn.
fn turn() {
    let turns = TIMERS.with_borrow_mut(|timers| std::mem::take(&mut timers.turns));
    turns.into_values().for_each(Waker::wake);
}
