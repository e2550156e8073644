//! Decides when a call reaches its idle timeout or its deadline. Has no clock: times are parameters.

use std::time::Duration;

use tokio::time::Instant;

use crate::mcp::requests::open_calls::PendingAnswers;

/// The longest delay of a timer on a busy machine. A limit that is detected later was not watched.
const MAX_TIMER_SLIP: Duration = Duration::from_millis(250);
/// The time to read the messages that arrived while the host was stopped.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// The idle timeout and the deadline of a call.
#[derive(Debug)]
pub(crate) struct CallTimeouts {
    /// Restarts with all activity; pauses while the agent waits for the host or a person.
    idle: Stopwatch,
    /// Pauses only while a person is asked.
    total: Option<Stopwatch>,
}

/// The limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    /// The call was silent for this duration.
    Idle(Duration),
    /// The call lasted for this duration.
    Total(Duration),
}

#[derive(Debug)]
struct Stopwatch {
    limit: Duration,
    state: StopwatchState,
}

#[derive(Debug, Clone, Copy)]
enum StopwatchState {
    Running { deadline: Instant },
    Paused { remaining: Duration },
}

impl CallTimeouts {
    /// Starts both limits at `now`.
    pub(crate) fn new(timeout: Duration, deadline: Option<Duration>, now: Instant) -> Self {
        Self { idle: Stopwatch::new(timeout, now), total: deadline.map(|limit| Stopwatch::new(limit, now)) }
    }

    /// Restarts the idle timeout because the agent showed activity.
    pub(crate) fn record_activity(&mut self, now: Instant) {
        self.idle.restart(now);
    }

    /// Pauses or resumes the limits for the answers that the agent waits for. A question counts as activity, too.
    pub(crate) fn update_waiting(&mut self, asking: PendingAnswers, now: Instant) {
        if asking.people > 0 || asking.host > 0 {
            self.idle.restart(now);
            self.idle.pause(now);
        } else {
            self.idle.resume(now);
        }
        if let Some(whole) = &mut self.total {
            if asking.people > 0 { whole.pause(now) } else { whole.resume(now) }
        }
    }

    /// Returns the limit that `now` has reached, if any.
    ///
    /// A limit that is detected late means that the host itself was stopped by a signal or starved. Messages of the
    /// agent may then be unread, so both limits end no sooner than [`DRAIN_GRACE`] from now.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<TimeoutKind> {
        if self.next_deadline().is_some_and(|ends| now.saturating_duration_since(ends) > MAX_TIMER_SLIP) {
            self.idle.extend_to(now + DRAIN_GRACE);
            if let Some(whole) = &mut self.total {
                whole.extend_to(now + DRAIN_GRACE);
            }
        }
        let over = |watch: &Stopwatch| watch.deadline().is_some_and(|ends| ends <= now);
        match &self.total {
            Some(whole) if over(whole) => Some(TimeoutKind::Total(whole.limit)),
            _ => over(&self.idle).then_some(TimeoutKind::Idle(self.idle.limit)),
        }
    }

    /// Returns the time of the next check, if no event comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let whole = self.total.as_ref().and_then(Stopwatch::deadline);
        self.idle.deadline().into_iter().chain(whole).min()
    }
}

impl Stopwatch {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, state: StopwatchState::Running { deadline: saturating_add(now, limit) } }
    }

    fn restart(&mut self, now: Instant) {
        self.state = match self.state {
            StopwatchState::Running { .. } => StopwatchState::Running { deadline: saturating_add(now, self.limit) },
            StopwatchState::Paused { .. } => StopwatchState::Paused { remaining: self.limit },
        };
    }

    fn pause(&mut self, now: Instant) {
        if let StopwatchState::Running { deadline: ends } = self.state {
            self.state = StopwatchState::Paused { remaining: ends.saturating_duration_since(now) };
        }
    }

    fn resume(&mut self, now: Instant) {
        if let StopwatchState::Paused { remaining: left } = self.state {
            self.state = StopwatchState::Running { deadline: saturating_add(now, left) };
        }
    }

    /// Moves the end to `moment`, unless it is later already or the stopwatch is paused.
    fn extend_to(&mut self, moment: Instant) {
        if let StopwatchState::Running { deadline: ends } = &mut self.state {
            *ends = moment.max(*ends);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            StopwatchState::Running { deadline: ends } => Some(ends),
            StopwatchState::Paused { .. } => None,
        }
    }
}

/// Returns `now + delay`, capped at a year to avoid an overflow.
fn saturating_add(now: Instant, delay: Duration) -> Instant {
    const MAX_DELAY: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    now + delay.min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ANSWERS: PendingAnswers = PendingAnswers { people: 0, host: 0 };
    const PERSON: PendingAnswers = PendingAnswers { people: 1, host: 0 };
    const MODEL: PendingAnswers = PendingAnswers { people: 0, host: 1 };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn progress_resets_the_idle_timeout_but_not_the_deadline() {
        let start = Instant::now();
        let mut patience = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        assert_eq!(patience.next_deadline(), Some(start + seconds(10)));
        patience.record_activity(start + seconds(9));
        assert_eq!(patience.expired(start + seconds(18)), None);
        assert_eq!(patience.expired(start + seconds(19)), Some(TimeoutKind::Idle(seconds(10))));
        patience.record_activity(start + seconds(18));
        assert_eq!(patience.expired(start + seconds(25)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn both_timeouts_pause_during_a_question() {
        let start = Instant::now();
        let mut patience = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        patience.update_waiting(PERSON, start + seconds(5));
        assert_eq!((patience.next_deadline(), patience.expired(start + seconds(9_999))), (None, None));
        patience.update_waiting(NO_ANSWERS, start + seconds(1_000));
        assert_eq!(patience.next_deadline(), Some(start + seconds(1_010)));
        patience.record_activity(start + seconds(1_010));
        patience.record_activity(start + seconds(1_020));
        assert_eq!(patience.expired(start + seconds(1_020)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn idle_timeout_pauses_during_sampling() {
        let start = Instant::now();
        let mut patience = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        patience.update_waiting(MODEL, start + seconds(5));
        assert_eq!(patience.next_deadline(), Some(start + seconds(25)));
        assert_eq!(patience.expired(start + seconds(25)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn timeouts_wait_for_unread_messages_after_a_stall() {
        let start = Instant::now();
        let mut patience = CallTimeouts::new(seconds(10), Some(seconds(15)), start);
        assert_eq!(patience.expired(start + seconds(600)), None);
        assert_eq!(patience.next_deadline(), Some(start + seconds(601)));
        let mut silent = CallTimeouts::new(seconds(10), None, start);
        assert_eq!(silent.expired(start + seconds(600)), None);
        assert_eq!(silent.expired(start + seconds(601)), Some(TimeoutKind::Idle(seconds(10))));
        patience.record_activity(start + seconds(601));
        assert_eq!(patience.expired(start + seconds(601)), Some(TimeoutKind::Total(seconds(15))));
    }

    #[test]
    fn huge_timeouts_do_not_overflow() {
        let start = Instant::now();
        assert_eq!(CallTimeouts::new(Duration::MAX, None, start).expired(start + seconds(86_400)), None);
    }
}
