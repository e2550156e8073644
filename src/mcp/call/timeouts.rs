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

/// The remaining time of a limit, which can be paused.
#[derive(Debug)]
struct Stopwatch {
    limit: Duration,
    /// The time that remained when the stopwatch was last started or paused.
    remaining: Duration,
    /// The last start, unless the stopwatch is paused.
    running_since: Option<Instant>,
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
    pub(crate) fn update_waiting(&mut self, pending: PendingAnswers, now: Instant) {
        if pending.people > 0 || pending.host > 0 {
            self.idle.restart(now);
            self.idle.pause(now);
        } else {
            self.idle.resume(now);
        }
        if let Some(total) = &mut self.total {
            if pending.people > 0 { total.pause(now) } else { total.resume(now) }
        }
    }

    /// Returns the limit that `now` has reached, if any.
    ///
    /// A limit that is detected late means that the host itself was stopped by a signal or starved. Messages of the
    /// agent may then be unread, so both limits end no sooner than [`DRAIN_GRACE`] from now.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<TimeoutKind> {
        if self.next_deadline().is_some_and(|deadline| now.saturating_duration_since(deadline) > MAX_TIMER_SLIP) {
            self.idle.extend_to(now + DRAIN_GRACE);
            if let Some(total) = &mut self.total {
                total.extend_to(now + DRAIN_GRACE);
            }
        }
        let is_over = |watch: &Stopwatch| watch.deadline().is_some_and(|deadline| deadline <= now);
        match &self.total {
            Some(total) if is_over(total) => Some(TimeoutKind::Total(total.limit)),
            _ => is_over(&self.idle).then_some(TimeoutKind::Idle(self.idle.limit)),
        }
    }

    /// Returns the time of the next check, if no event comes first.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let total = self.total.as_ref().and_then(Stopwatch::deadline);
        self.idle.deadline().into_iter().chain(total).min()
    }
}

impl Stopwatch {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, remaining: limit, running_since: Some(now) }
    }

    fn restart(&mut self, now: Instant) {
        self.remaining = self.limit;
        self.running_since = self.running_since.map(|_| now);
    }

    fn pause(&mut self, now: Instant) {
        if let Some(deadline) = self.deadline() {
            self.remaining = deadline.saturating_duration_since(now);
            self.running_since = None;
        }
    }

    fn resume(&mut self, now: Instant) {
        self.running_since.get_or_insert(now);
    }

    /// Moves the deadline to `moment`, unless it is later already or the stopwatch is paused.
    fn extend_to(&mut self, moment: Instant) {
        if let Some(since) = self.running_since {
            self.remaining = self.remaining.max(moment.saturating_duration_since(since));
        }
    }

    /// Returns the end of the running time, at most a year ahead to avoid an overflow.
    fn deadline(&self) -> Option<Instant> {
        const MAX_DELAY: Duration = Duration::from_secs(60 * 60 * 24 * 365);
        self.running_since.map(|since| since + self.remaining.min(MAX_DELAY))
    }
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
        let mut timeouts = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        assert_eq!(timeouts.next_deadline(), Some(start + seconds(10)));
        timeouts.record_activity(start + seconds(9));
        assert_eq!(timeouts.expired(start + seconds(18)), None);
        assert_eq!(timeouts.expired(start + seconds(19)), Some(TimeoutKind::Idle(seconds(10))));
        timeouts.record_activity(start + seconds(18));
        assert_eq!(timeouts.expired(start + seconds(25)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn both_timeouts_pause_during_a_question() {
        let start = Instant::now();
        let mut timeouts = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        timeouts.update_waiting(PERSON, start + seconds(5));
        assert_eq!((timeouts.next_deadline(), timeouts.expired(start + seconds(9_999))), (None, None));
        timeouts.update_waiting(NO_ANSWERS, start + seconds(1_000));
        assert_eq!(timeouts.next_deadline(), Some(start + seconds(1_010)));
        timeouts.record_activity(start + seconds(1_010));
        timeouts.record_activity(start + seconds(1_020));
        assert_eq!(timeouts.expired(start + seconds(1_020)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn idle_timeout_pauses_during_sampling() {
        let start = Instant::now();
        let mut timeouts = CallTimeouts::new(seconds(10), Some(seconds(25)), start);
        timeouts.update_waiting(MODEL, start + seconds(5));
        assert_eq!(timeouts.next_deadline(), Some(start + seconds(25)));
        assert_eq!(timeouts.expired(start + seconds(25)), Some(TimeoutKind::Total(seconds(25))));
    }

    #[test]
    fn timeouts_wait_for_unread_messages_after_a_stall() {
        let start = Instant::now();
        let mut timeouts = CallTimeouts::new(seconds(10), Some(seconds(15)), start);
        assert_eq!(timeouts.expired(start + seconds(600)), None);
        assert_eq!(timeouts.next_deadline(), Some(start + seconds(601)));
        let mut silent = CallTimeouts::new(seconds(10), None, start);
        assert_eq!(silent.expired(start + seconds(600)), None);
        assert_eq!(silent.expired(start + seconds(601)), Some(TimeoutKind::Idle(seconds(10))));
        timeouts.record_activity(start + seconds(601));
        assert_eq!(timeouts.expired(start + seconds(601)), Some(TimeoutKind::Total(seconds(15))));
    }

    #[test]
    fn huge_timeouts_do_not_overflow() {
        let start = Instant::now();
        assert_eq!(CallTimeouts::new(Duration::MAX, None, start).expired(start + seconds(86_400)), None);
    }
}
