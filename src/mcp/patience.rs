//! Decides when a call has been silent or has lasted for too long. Pure: moments come in as data.
//! Never waits.

use std::time::Duration;

use tokio::time::Instant;

use super::calls::Asking;

/// A limit that shows later than this was not watched: a timer on a busy machine is late by a few milliseconds.
const LATE: Duration = Duration::from_millis(250);
/// How long it may take to read what came while nobody read.
const GRACE: Duration = Duration::from_secs(1);

/// The two limits of a call.
#[derive(Debug)]
pub(super) struct Patience {
    /// Starts again with every sign of life; stands still while the agent waits for the host.
    silence: Stopwatch,
    /// Stands still only while a person is asked.
    whole: Option<Stopwatch>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// The call was silent for this long.
    Silence(Duration),
    /// The call lasted for this long.
    Whole(Duration),
}

#[derive(Debug)]
struct Stopwatch {
    limit: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Running { ends: Instant },
    Still { left: Duration },
}

impl Patience {
    /// Both limits start at `now`.
    pub(super) fn new(timeout: Duration, deadline: Option<Duration>, now: Instant) -> Self {
        Self { silence: Stopwatch::new(timeout, now), whole: deadline.map(|limit| Stopwatch::new(limit, now)) }
    }

    /// The agent gave a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silence.restart(now);
    }

    /// What the agent waits for has changed. A question is a sign of life too.
    pub(super) fn asked(&mut self, asking: Asking, now: Instant) {
        if asking.people > 0 || asking.host > 0 {
            self.silence.restart(now);
            self.silence.stand_still(now);
        } else {
            self.silence.go_on(now);
        }
        if let Some(whole) = &mut self.whole {
            if asking.people > 0 { whole.stand_still(now) } else { whole.go_on(now) }
        }
    }

    /// The limit that `now` has reached, if any. When that shows late, the host itself stood still, stopped by a signal
    /// or starved, and whatever the agent said meanwhile waits to be read: both limits then end no sooner than [`GRACE`]
    /// from now.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Expired> {
        if self.ends().is_some_and(|ends| now.saturating_duration_since(ends) > LATE) {
            self.silence.go_on_until(now + GRACE);
            if let Some(whole) = &mut self.whole {
                whole.go_on_until(now + GRACE);
            }
        }
        let over = |watch: &Stopwatch| watch.ends().is_some_and(|ends| ends <= now);
        match &self.whole {
            Some(whole) if over(whole) => Some(Expired::Whole(whole.limit)),
            _ => over(&self.silence).then_some(Expired::Silence(self.silence.limit)),
        }
    }

    /// When to look again, unless something happens before.
    pub(super) fn ends(&self) -> Option<Instant> {
        let whole = self.whole.as_ref().and_then(Stopwatch::ends);
        self.silence.ends().into_iter().chain(whole).min()
    }
}

impl Stopwatch {
    fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, state: State::Running { ends: later(now, limit) } }
    }

    fn restart(&mut self, now: Instant) {
        self.state = match self.state {
            State::Running { .. } => State::Running { ends: later(now, self.limit) },
            State::Still { .. } => State::Still { left: self.limit },
        };
    }

    fn stand_still(&mut self, now: Instant) {
        if let State::Running { ends } = self.state {
            self.state = State::Still { left: ends.saturating_duration_since(now) };
        }
    }

    fn go_on(&mut self, now: Instant) {
        if let State::Still { left } = self.state {
            self.state = State::Running { ends: later(now, left) };
        }
    }

    /// Ends at `moment`, unless it ends later or stands still.
    fn go_on_until(&mut self, moment: Instant) {
        if let State::Running { ends } = &mut self.state {
            *ends = moment.max(*ends);
        }
    }

    fn ends(&self) -> Option<Instant> {
        match self.state {
            State::Running { ends } => Some(ends),
            State::Still { .. } => None,
        }
    }
}

/// `now + delay`, or a moment that no run lives to see.
fn later(now: Instant, delay: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);
    now + delay.min(FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Asking = Asking { people: 0, host: 0 };
    const PERSON: Asking = Asking { people: 1, host: 0 };
    const MODEL: Asking = Asking { people: 0, host: 1 };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn progress_starts_the_idle_timeout_again_but_not_the_deadline() {
        let start = Instant::now();
        let mut patience = Patience::new(seconds(10), Some(seconds(25)), start);
        assert_eq!(patience.ends(), Some(start + seconds(10)));
        patience.heard(start + seconds(9));
        assert_eq!(patience.expired(start + seconds(18)), None);
        assert_eq!(patience.expired(start + seconds(19)), Some(Expired::Silence(seconds(10))));
        patience.heard(start + seconds(18));
        assert_eq!(patience.expired(start + seconds(25)), Some(Expired::Whole(seconds(25))));
    }

    #[test]
    fn both_limits_stand_still_while_a_person_is_asked() {
        let start = Instant::now();
        let mut patience = Patience::new(seconds(10), Some(seconds(25)), start);
        patience.asked(PERSON, start + seconds(5));
        assert_eq!((patience.ends(), patience.expired(start + seconds(9_999))), (None, None));
        patience.asked(NOBODY, start + seconds(1_000));
        assert_eq!(patience.ends(), Some(start + seconds(1_010)));
        patience.heard(start + seconds(1_010));
        patience.heard(start + seconds(1_020));
        assert_eq!(patience.expired(start + seconds(1_020)), Some(Expired::Whole(seconds(25))));
    }

    #[test]
    fn only_the_idle_timeout_stands_still_while_the_model_is_asked() {
        let start = Instant::now();
        let mut patience = Patience::new(seconds(10), Some(seconds(25)), start);
        patience.asked(MODEL, start + seconds(5));
        assert_eq!(patience.ends(), Some(start + seconds(25)));
        assert_eq!(patience.expired(start + seconds(25)), Some(Expired::Whole(seconds(25))));
    }

    #[test]
    fn what_came_while_the_host_stood_still_is_read_before_a_limit_counts() {
        let start = Instant::now();
        let mut patience = Patience::new(seconds(10), Some(seconds(15)), start);
        assert_eq!(patience.expired(start + seconds(600)), None);
        assert_eq!(patience.ends(), Some(start + seconds(601)));
        let mut silent = Patience::new(seconds(10), None, start);
        assert_eq!(silent.expired(start + seconds(600)), None);
        assert_eq!(silent.expired(start + seconds(601)), Some(Expired::Silence(seconds(10))));
        patience.heard(start + seconds(601));
        assert_eq!(patience.expired(start + seconds(601)), Some(Expired::Whole(seconds(15))));
    }

    #[test]
    fn a_limit_beyond_all_bounds_is_no_mistake() {
        let start = Instant::now();
        assert_eq!(Patience::new(Duration::MAX, None, start).expired(start + seconds(86_400)), None);
    }
}
