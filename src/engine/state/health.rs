//! Tracks the outcomes of attempts on an agent, so that a failing agent does not receive the tasks of its equals.
//! Attempts without an alternative agent are not counted.
//!
//! A failing agent is in debt until it has completed as many attempts as failed. While its debt is larger than the debt
//! of an equal, the agent cools down after a failure. Then it gets one attempt, and later as many at once as it has
//! completed since. So even if all attempts in progress fail, they are no more than the completed ones. Only attempts
//! after a cooldown can add to the debt.
//!
//! A cooldown lasts until equals have completed a number of attempts or some time has passed, whichever comes first.
//! Each further cooldown doubles both limits, and each success halves them. Counting attempts keeps the share of wasted
//! calls small for tasks of any speed. The time limit keeps slow tasks from waiting for other slow tasks.

use std::time::Duration;

use crate::model::Timestamp;

/// Limits the consecutive cooldowns that increase the next cooldown.
const MAX_COOLDOWNS: u32 = 8;
/// The base of the cooldown, which doubles with each consecutive failure.
const BASE_COOLDOWN_DELAY: Duration = Duration::from_millis(100);

/// The outcomes of attempts on an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AgentHealth {
    /// Failures that are not compensated by later successes.
    debt: u32,
    /// Successes since the last failure.
    pub(crate) streak: u32,
    /// Consecutive cooldowns: each cooldown adds one, and each success subtracts one.
    cooldowns: u32,
    /// The number of attempts that equal agents must complete before the cooldown ends.
    pub(crate) cooldown_attempts: u32,
    /// The time at which the cooldown ends in any case.
    pub(crate) cooldown_until: Timestamp,
}

impl AgentHealth {
    /// Returns the debt for comparison with equal agents. Agents that only fail have the same debt.
    pub(crate) fn debt(&self) -> u32 {
        if self.cooldowns == MAX_COOLDOWNS { u32::MAX } else { self.debt }
    }

    pub(crate) fn is_cooling_down(&self, now: Timestamp) -> bool {
        self.cooldown_attempts > 0 && now < self.cooldown_until
    }

    /// Records a failure. A failure during a cooldown does not extend it.
    pub(crate) fn record_failure(&mut self, now: Timestamp) {
        self.debt = self.debt.saturating_add(1);
        self.streak = 0;
        if self.is_cooling_down(now) {
            return;
        }
        self.cooldowns = (self.cooldowns + 1).min(MAX_COOLDOWNS);
        self.cooldown_attempts = 1 << self.cooldowns;
        self.cooldown_until = now.after(BASE_COOLDOWN_DELAY * self.cooldown_attempts);
    }

    pub(crate) fn record_success(&mut self) {
        self.debt = self.debt.saturating_sub(1);
        self.streak = self.streak.saturating_add(1);
        self.cooldowns = self.cooldowns.saturating_sub(1);
        self.cooldown_attempts = 0;
    }
}
