//! Notices that acknowledgements fail to come, and has the stack send again before its second is over.
//!
//! SCTP sends a lost packet again when three acknowledgements of later ones showed it missing. Where no three come
//! (the last packets before a pause, a packet lost twice, a small window), only its timer helps, which rtc-sctp never
//! lets run for less than a second, whatever the round trip. So the acknowledged bytes are watched here: when they stand
//! still for longer than two round trips, the stack's clock leaps to that timer.
//!
//! The stack gives up a timer that goes off six times in a row, for good. So leaps get rarer: two at once, then none
//! before the timer would have gone off by itself, and only while the peer is heard; never more than four.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ::webrtc::data_channel::DataChannel;
use tokio::{sync::Notify, time::sleep};

use super::super::{clock::real_now, runtime::Pace};

/// What a path needs beside its round trips: the peer's processor, and ours.
const SLACK: Duration = Duration::from_millis(20);

/// A peer may keep the acknowledgement of a single packet back for so long.
const DELAYED_ACK: Duration = Duration::from_millis(200);

/// Not more than this is one packet.
const ONE_PACKET: u64 = 1_200;

/// What the stack's timer runs for at least. It doubles each time.
const TIMER: Duration = Duration::from_secs(1);

/// Leaps of [`TIMER`] that are made at once when nothing comes of the first.
const LEAPS: u32 = 4;

/// How long the stack needs to send something after a leap.
const REACTION: Duration = Duration::from_millis(2);

/// How long after the standstill began the third leap and the fourth may come: not before the stack's timer itself.
const LATER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];

/// A standstill that lasts this long is not loss.
const HOPELESS: Duration = Duration::from_secs(10);

/// The stack's clock goes at most this much ahead between two signs of the peer.
pub(super) const MOST_AHEAD: Duration = Duration::from_secs(2 * TIMER.as_secs() * LEAPS as u64);

/// A path whose delay changes is waited for at most this many times longer.
const MOST_CAUTION: u32 = 8;

/// A look that comes so much too late tells of a busy processor.
const LATE: Duration = Duration::from_millis(4);

/// Between two looks at a standstill: from, to.
const LOOKS: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// What was given to the stack on all channels.
#[derive(Debug, Default)]
pub(super) struct Given {
    bytes: AtomicU64,
    more: Notify,
}

impl Given {
    pub(super) fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.more.notify_one();
    }
}

/// Watches until it is dropped.
pub(super) async fn watch(channels: Vec<Arc<dyn DataChannel>>, given: Arc<Given>, pace: Arc<Pace>) {
    let mut stall = Stall::new(real_now());
    loop {
        let outstanding = outstanding(&channels).await;
        if outstanding == 0 {
            given.more.notified().await;
            stall.begin(real_now());
            continue;
        }
        let given = given.bytes.load(Ordering::Relaxed);
        let view = View {
            outstanding,
            released: given.saturating_sub(outstanding),
            heard: pace.path().heard(),
            round_trip: pace.path().round_trip(),
            answers_within: pace.path().answers_within(),
        };
        match stall.look(real_now(), &view) {
            Next::Wait(time) => sleep(time).await,
            Next::SendAgain { twice } => send_again(&channels, &pace, twice).await,
        }
    }
}

async fn outstanding(channels: &[Arc<dyn DataChannel>]) -> u64 {
    let mut sum = 0;
    for channel in channels {
        sum += channel.outstanding_bytes().await.unwrap_or_default() as u64;
    }
    sum
}

/// Brings the stack's timer forward.
async fn send_again(channels: &[Arc<dyn DataChannel>], pace: &Pace, twice: bool) {
    let sent = pace.path().sent();
    if twice {
        pace.path().double_next();
    }
    for _ in 0..LEAPS {
        pace.clock().leap(TIMER);
        if let Some(channel) = channels.first() {
            // Any setter wakes the driver, and this value is the default.
            let _ = channel.set_buffered_amount_high_threshold(u32::MAX).await;
        }
        sleep(REACTION).await;
        if pace.path().sent() != sent {
            return;
        }
    }
}

/// What is seen of the acknowledgements and of the path.
#[derive(Debug, Clone, Copy)]
struct View {
    /// Bytes that wait to be acknowledged, or to be sent.
    outstanding: u64,
    /// Bytes that do not any more.
    released: u64,
    heard: Instant,
    round_trip: Option<Duration>,
    answers_within: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Look again after this time.
    Wait(Duration),
    /// The timer is to go off now.
    SendAgain {
        /// What was sent again was lost as well.
        twice: bool,
    },
}

/// How long acknowledgements stand still, and what was done about it.
#[derive(Debug)]
struct Stall {
    released: u64,
    since: Instant,
    leaps: usize,
    leapt_at: Instant,
    /// How many times longer than it should it waits, after leaps that were for nothing.
    caution: u32,
    /// When the next look should be.
    next_look: Instant,
}

impl Stall {
    fn new(now: Instant) -> Self {
        Self {
            released: 0,
            since: now,
            leaps: 0,
            leapt_at: now,
            caution: 1,
            next_look: now,
        }
    }

    /// From here on something is outstanding.
    fn begin(&mut self, now: Instant) {
        self.since = now;
        self.leaps = 0;
        self.next_look = now;
    }

    fn look(&mut self, now: Instant, view: &View) -> Next {
        self.discount(now);
        let next = self.decide(now, view);
        self.next_look = match next {
            Next::Wait(time) => now + time,
            Next::SendAgain { .. } => now + LEAPS * REACTION,
        };
        next
    }

    /// What comes late here comes late to the stack, which shares the thread: acknowledgements may be waiting.
    fn discount(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next_look);
        if late >= LATE {
            self.since += late;
            self.leapt_at += late;
        }
    }

    fn decide(&mut self, now: Instant, view: &View) -> Next {
        if view.released > self.released {
            self.released = view.released;
            self.learn(now, view);
            self.begin(now);
        }
        // Without a round trip to go by, the stack's own timer has to do.
        let Some(answers_within) = view.answers_within else {
            return Next::Wait(LOOKS.1);
        };
        let mut patience = self.caution * (SLACK + 2 * answers_within);
        if view.outstanding <= ONE_PACKET {
            patience += DELAYED_ACK;
        }
        if patience < TIMER && self.is_due(now, patience, view.heard) {
            self.leaps += 1;
            self.leapt_at = now;
            return Next::SendAgain {
                twice: self.leaps > 1,
            };
        }
        Next::Wait((patience / 4).clamp(LOOKS.0, LOOKS.1))
    }

    /// An acknowledgement that comes sooner after a leap than a round trip was on its way before.
    fn learn(&mut self, now: Instant, view: &View) {
        if self.leaps == 0 {
            return;
        }
        let took = now.saturating_duration_since(self.leapt_at);
        let is_early = view
            .round_trip
            .is_some_and(|round_trip| took < round_trip / 2);
        self.caution = if is_early {
            (2 * self.caution).min(MOST_CAUTION)
        } else {
            (self.caution / 2).max(1)
        };
    }

    fn is_due(&self, now: Instant, patience: Duration, heard: Instant) -> bool {
        let standing = now.saturating_duration_since(self.since);
        let after_leap = now.saturating_duration_since(self.leapt_at);
        let is_due = match self.leaps {
            0 => standing >= patience,
            1 => after_leap >= 3 * patience,
            leaps => {
                let earliest = LATER.get(leaps - 2);
                let is_late = earliest.is_some_and(|earliest| standing >= *earliest);
                is_late && after_leap >= 3 * patience && heard > self.leapt_at
            }
        };
        is_due && standing < HOPELESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(10);
    /// [`SLACK`] and two of them.
    const PATIENCE: Duration = Duration::from_millis(40);

    fn bulk(released: u64, heard: Instant) -> View {
        View {
            outstanding: 200_000,
            released,
            heard,
            round_trip: Some(ROUND_TRIP),
            answers_within: Some(ROUND_TRIP),
        }
    }

    /// When it has things sent again within a minute, in milliseconds, and whether twice.
    fn leaps(view: impl Fn(Instant) -> View) -> Vec<(u64, bool)> {
        let start = real_now();
        let mut stall = Stall::new(start);
        let mut leaps = Vec::new();
        for millis in 0..60_000 {
            let now = start + Duration::from_millis(millis);
            if let Next::SendAgain { twice } = stall.look(now, &view(now)) {
                leaps.push((millis, twice));
            }
        }
        leaps
    }

    #[test]
    fn a_standstill_has_things_sent_again_less_and_less_often() {
        let expected = [(40, false), (160, true), (1_000, true), (3_000, true)];
        assert_eq!(leaps(|now| bulk(0, now)), expected);
    }

    #[test]
    fn a_path_that_is_silent_altogether_gets_two() {
        let start = real_now();
        assert_eq!(leaps(|_| bulk(0, start)).len(), 2);
    }

    #[test]
    fn a_path_that_comes_back_is_used_at_once() {
        let start = real_now();
        let heard = |now: Instant| now.max(start + Duration::from_secs(7));
        let back = leaps(|now| match now < start + Duration::from_secs(7) {
            true => bulk(0, start),
            false => bulk(0, heard(now)),
        });
        let times: Vec<u64> = back.iter().map(|(millis, _)| millis / 100).collect();
        assert_eq!(times[..3], [0, 1, 70], "{back:?}");
    }

    #[test]
    fn time_in_which_the_thread_did_not_run_is_no_standstill() {
        let start = real_now();
        let mut stall = Stall::new(start);
        let mut look = |millis: u64| {
            let now = start + Duration::from_millis(millis);
            stall.look(now, &bulk(0, now))
        };
        assert_eq!(look(0), Next::Wait(PATIENCE / 4));
        for millis in [510, 520, 530] {
            assert_eq!(look(millis), Next::Wait(PATIENCE / 4));
        }
        assert_eq!(look(540), Next::SendAgain { twice: false });
    }

    #[test]
    fn nothing_is_sent_again_while_acknowledgements_come() {
        let start = real_now();
        let released = |now: Instant| (now - start).as_millis() as u64 / 30;
        assert!(leaps(|now| bulk(released(now), now)).is_empty());
    }

    #[test]
    fn who_was_too_early_waits_longer_and_less_long_again_after_a_real_loss() {
        let start = real_now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut stall = Stall::new(start);
        let mut first_leap = |from: u64, answered_after: u64, released: u64| {
            let now = (from..).find(|millis| {
                let view = bulk(released, at(*millis));
                matches!(stall.look(at(*millis), &view), Next::SendAgain { .. })
            });
            let now = now.unwrap();
            let answered = now + answered_after;
            stall.look(at(answered), &bulk(released + 1, at(answered)));
            (now - from, answered)
        };
        let (waited, now) = first_leap(0, 2, 1);
        assert_eq!(waited, 40);
        let (waited, now) = first_leap(now, 20, 2);
        assert_eq!(waited, 80);
        let (waited, _) = first_leap(now, 20, 3);
        assert_eq!(waited, 40);
    }

    #[test]
    fn a_single_packet_may_be_acknowledged_late() {
        let single = |now| View {
            outstanding: ONE_PACKET,
            ..bulk(0, now)
        };
        let first = leaps(single)[0].0;
        assert_eq!(u128::from(first), (PATIENCE + DELAYED_ACK).as_millis());
    }

    #[test]
    fn a_path_as_slow_as_the_timer_or_without_any_answer_is_left_to_it() {
        for answers_within in [None, Some(Duration::from_millis(490))] {
            let slow = |now| View {
                answers_within,
                ..bulk(0, now)
            };
            assert!(leaps(slow).is_empty());
        }
    }
}
