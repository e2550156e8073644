//! Shares one back-off among all requests to an endpoint, so that parallel requests do not exhaust each other's
//! retries.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pause after the first rate limit without a delay. Each further one doubles it.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Limits the delay that other requests share. A longer delay applies only to the request that received it.
pub(super) const MAX_SHARED_WAIT: Duration = Duration::from_secs(15 * 60);

/// The concurrency limit at which requests are no longer limited.
const MAX_LIMIT: usize = 32;

/// The rate limiter of an endpoint. Requests start in order, and after a rate limit one at a time.
#[derive(Debug, Default)]
pub(super) struct RateLimiter {
    /// Held by the request that starts next. The mutex of tokio is fair, which keeps the order.
    queue: tokio::sync::Mutex<()>,
    /// Changed by every request, and never held across an await.
    state: Mutex<LimiterState>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct LimiterState {
    blocked_until: Option<Instant>,
    /// The maximum number of requests without a response, or `None` if no rate limit applies.
    limit: Option<usize>,
    in_flight: usize,
    pauses: u32,
    /// The number of times that requests were blocked.
    generation: u64,
}

/// A request whose response has not begun.
#[derive(Debug)]
pub(super) struct RequestPermit {
    limiter: Arc<RateLimiter>,
    /// The generation of the limiter when the permit was acquired.
    generation: u64,
}

impl RateLimiter {
    fn state(&self) -> MutexGuard<'_, LimiterState> {
        self.state.lock()
    }

    /// Waits until the next request may start.
    pub(super) async fn acquire(self: &Arc<Self>) -> RequestPermit {
        let _turn = self.queue.lock().await;
        loop {
            let changed = self.changed.notified();
            let opens_at = {
                let mut state = self.state();
                let opens_at = state.blocked_until.filter(|opens_at| *opens_at > Instant::now());
                if opens_at.is_none() && state.limit.is_none_or(|limit| state.in_flight < limit) {
                    state.in_flight += 1;
                    return RequestPermit { limiter: Arc::clone(self), generation: state.generation };
                }
                opens_at
            };
            match opens_at {
                Some(opens_at) => tokio::time::sleep_until(opens_at).await,
                None => changed.await,
            }
        }
    }

    /// Blocks further requests for the delay that the endpoint named, or else for an exponential pause.
    fn block(&self, closings: u64, wait: Option<Duration>) {
        let mut state = self.state();
        // Rate limits of parallel requests count as one.
        let is_first = closings == state.generation;
        let wait = match wait {
            Some(wait) => Some(wait),
            None if is_first => {
                let pause = INITIAL_PAUSE.saturating_mul(2_u32.saturating_pow(state.pauses)).min(MAX_PAUSE);
                state.pauses += 1;
                Some(pause)
            }
            None => None,
        };
        state.generation += u64::from(is_first);
        state.limit = Some(1);
        if let Some(wait) = wait.filter(|wait| *wait <= MAX_SHARED_WAIT) {
            state.blocked_until = state.blocked_until.max(Some(Instant::now() + wait));
        }
    }
}

impl RequestPermit {
    /// Lets the next request start, because the response has begun. The returned permit can still report a rate limit.
    pub(super) fn answered(self) -> AnsweredPermit {
        let mut state = self.limiter.state();
        if self.generation == state.generation {
            state.pauses = 0;
            state.limit = state.limit.map(|limit| limit + 1).filter(|limit| *limit < MAX_LIMIT);
        }
        drop(state);
        AnsweredPermit { limiter: Arc::clone(&self.limiter), generation: self.generation }
    }

    /// Reports a rate limit of the endpoint and blocks further requests.
    pub(super) fn limited(self, wait: Option<Duration>) {
        self.limiter.block(self.generation, wait);
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        drop(state);
        self.limiter.changed.notify_one();
    }
}

/// A request whose response has begun.
#[derive(Debug)]
pub(super) struct AnsweredPermit {
    limiter: Arc<RateLimiter>,
    generation: u64,
}

impl AnsweredPermit {
    /// Reports a rate limit within the response and blocks further requests.
    pub(super) fn limited(&self, wait: Option<Duration>) {
        self.limiter.block(self.generation, wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns the seconds until the next request may start, and completes that request.
    async fn seconds_until_permit(gate: &Arc<RateLimiter>) -> u64 {
        let start = Instant::now();
        drop(gate.acquire().await.answered());
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_applies_to_all_requests() {
        let gate = Arc::new(RateLimiter::default());
        assert_eq!(seconds_until_permit(&gate).await, 0);
        gate.acquire().await.limited(Some(seconds(90)));
        assert_eq!((seconds_until_permit(&gate).await, seconds_until_permit(&gate).await), (90, 0));
        gate.acquire().await.limited(Some(MAX_SHARED_WAIT + seconds(1)));
        assert_eq!(seconds_until_permit(&gate).await, 0, "a long wait delays only the request that received it");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_until_a_request_is_answered() {
        let gate = Arc::new(RateLimiter::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            gate.acquire().await.limited(None);
            waits.push(start.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(seconds_until_permit(&gate).await, 60);
        gate.acquire().await.limited(None);
        assert_eq!(seconds_until_permit(&gate).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_limits_count_once() {
        let gate = Arc::new(RateLimiter::default());
        let permits = [gate.acquire().await, gate.acquire().await, gate.acquire().await];
        for permit in permits {
            permit.limited(None);
        }
        assert_eq!(seconds_until_permit(&gate).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_recovers_after_a_limit() {
        let gate = Arc::new(RateLimiter::default());
        gate.acquire().await.limited(Some(seconds(1)));
        let first = gate.acquire().await;
        let enters = || tokio::time::timeout(seconds(5), gate.acquire());
        assert!(enters().await.is_err(), "the first request has no response yet");
        let begun = first.answered();
        let (second, third) = (enters().await.expect("room"), enters().await.expect("room"));
        assert!(enters().await.is_err(), "two requests are in flight");
        drop((second, third));
        begun.limited(Some(seconds(7)));
        assert_eq!(seconds_until_permit(&gate).await, 7);
    }
}
