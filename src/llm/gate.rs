//! Shares one back-off among all requests to an endpoint, so that those that run in parallel do not exhaust each
//! other's tries.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// The pause after the first limit that names no wait; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Limits how long a wait that one request was given holds up the others.
pub(super) const MAX_SHARED_WAIT: Duration = Duration::from_secs(15 * 60);

/// So many requests in a row were let in that the endpoint limits nothing any more.
const UNLIMITED: usize = 32;

/// The entrance to an endpoint: requests enter in their order, and after a limit one by one.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Held by the request that enters next. Tokio's mutex keeps the order.
    queue: tokio::sync::Mutex<()>,
    /// Changed by every request, and never held across an await.
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    opens_at: Option<Instant>,
    /// Limits the requests without an answer; none where the endpoint has not limited anything lately.
    limit: Option<usize>,
    unanswered: usize,
    pauses: u32,
    /// Counts how often the gate was closed.
    closings: u64,
}

/// A request between its start and the head of its answer.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    /// How often the gate had been closed when it entered.
    closings: u64,
}

impl Gate {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the next request may start.
    pub(super) async fn enter(self: &Arc<Self>) -> Permit {
        let _turn = self.queue.lock().await;
        loop {
            let changed = self.changed.notified();
            let opens_at = {
                let mut state = self.state();
                let opens_at = state.opens_at.filter(|opens_at| *opens_at > Instant::now());
                if opens_at.is_none() && state.limit.is_none_or(|limit| state.unanswered < limit) {
                    state.unanswered += 1;
                    return Permit { gate: Arc::clone(self), closings: state.closings };
                }
                opens_at
            };
            match opens_at {
                Some(opens_at) => tokio::time::sleep_until(opens_at).await,
                None => changed.await,
            }
        }
    }

    /// Closes the gate for a wait that the endpoint named, else for a pause of its own.
    fn close(&self, closings: u64, wait: Option<Duration>) {
        let mut state = self.state();
        // Requests that ran in parallel are limited together, which is one limit.
        let is_first = closings == state.closings;
        let wait = match wait {
            Some(wait) => Some(wait),
            None if is_first => {
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(state.pauses)).min(MAX_PAUSE);
                state.pauses += 1;
                Some(pause)
            }
            None => None,
        };
        state.closings += u64::from(is_first);
        state.limit = Some(1);
        if let Some(wait) = wait.filter(|wait| *wait <= MAX_SHARED_WAIT) {
            state.opens_at = state.opens_at.max(Some(Instant::now() + wait));
        }
    }
}

impl Permit {
    /// Lets the next request in: the endpoint has begun to answer. Returns what closes the gate after all.
    pub(super) fn answered(self) -> Reopened {
        let mut state = self.gate.state();
        if self.closings == state.closings {
            state.pauses = 0;
            state.limit = state.limit.map(|limit| limit + 1).filter(|limit| *limit < UNLIMITED);
        }
        drop(state);
        Reopened { gate: Arc::clone(&self.gate), closings: self.closings }
    }

    /// Closes the gate: the endpoint limits how much may be asked.
    pub(super) fn limited(self, wait: Option<Duration>) {
        self.gate.close(self.closings, wait);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.unanswered = state.unanswered.saturating_sub(1);
        drop(state);
        self.gate.changed.notify_one();
    }
}

/// A request whose answer has begun.
#[derive(Debug)]
pub(super) struct Reopened {
    gate: Arc<Gate>,
    closings: u64,
}

impl Reopened {
    /// Closes the gate: the endpoint names a limit within its answer.
    pub(super) fn limited(&self, wait: Option<Duration>) {
        self.gate.close(self.closings, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Seconds until the next request may enter, which is then answered.
    async fn wait(gate: &Arc<Gate>) -> u64 {
        let start = Instant::now();
        drop(gate.enter().await.answered());
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_one_request_was_given_holds_for_all() {
        let gate = Arc::new(Gate::default());
        assert_eq!(wait(&gate).await, 0);
        gate.enter().await.limited(Some(seconds(90)));
        assert_eq!((wait(&gate).await, wait(&gate).await), (90, 0));
        gate.enter().await.limited(Some(MAX_SHARED_WAIT + seconds(1)));
        assert_eq!(wait(&gate).await, 0, "a wait of hours is that request's own affair");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_where_none_is_named_until_a_request_is_answered() {
        let gate = Arc::new(Gate::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            gate.enter().await.limited(None);
            waits.push(start.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(wait(&gate).await, 60);
        gate.enter().await.limited(None);
        assert_eq!(wait(&gate).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_limited_together_are_one_limit() {
        let gate = Arc::new(Gate::default());
        let permits = [gate.enter().await, gate.enter().await, gate.enter().await];
        for permit in permits {
            permit.limited(None);
        }
        assert_eq!(wait(&gate).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_limit_one_request_enters_until_it_is_answered_then_more() {
        let gate = Arc::new(Gate::default());
        gate.enter().await.limited(Some(seconds(1)));
        let first = gate.enter().await;
        let enters = || tokio::time::timeout(seconds(5), gate.enter());
        assert!(enters().await.is_err(), "the first has no answer yet");
        let begun = first.answered();
        let (second, third) = (enters().await.expect("room"), enters().await.expect("room"));
        assert!(enters().await.is_err(), "two are under way");
        drop((second, third));
        begun.limited(Some(seconds(7)));
        assert_eq!(wait(&gate).await, 7);
    }
}
