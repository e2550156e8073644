//! Shares one back-off among all requests to an endpoint, so that parallel requests do not exhaust each other's
//! retries.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
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

/// A permit for one request. Until the response begins, it counts towards the concurrency limit.
#[derive(Debug)]
pub(super) struct RequestPermit {
    limiter: Arc<RateLimiter>,
    /// The generation of the limiter when the permit was acquired.
    generation: u64,
    is_answered: bool,
}

impl RateLimiter {
    /// Waits until the next request may start.
    pub(super) async fn acquire(self: &Arc<Self>) -> RequestPermit {
        let _front = self.queue.lock().await;
        loop {
            let changed = self.changed.notified();
            let blocked_until = {
                let mut state = self.state.lock();
                let blocked_until = state.blocked_until.filter(|until| *until > Instant::now());
                if blocked_until.is_none() && state.limit.is_none_or(|limit| state.in_flight < limit) {
                    state.in_flight += 1;
                    let (limiter, generation) = (Arc::clone(self), state.generation);
                    return RequestPermit { limiter, generation, is_answered: false };
                }
                blocked_until
            };
            match blocked_until {
                Some(blocked_until) => tokio::time::sleep_until(blocked_until).await,
                None => changed.await,
            }
        }
    }

    /// Blocks further requests for the delay that the endpoint named, or else for an exponential pause.
    fn block(&self, generation: u64, wait: Option<Duration>) {
        let mut state = self.state.lock();
        // Rate limits of parallel requests count as one.
        let is_first = generation == state.generation;
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
    /// Lets the next request start, because the response has begun.
    pub(super) fn mark_answered(&mut self) {
        let mut state = self.limiter.state.lock();
        if self.generation == state.generation {
            state.pauses = 0;
            state.limit = state.limit.map(|limit| limit + 1).filter(|limit| *limit < MAX_LIMIT);
        }
        drop(state);
        self.release();
    }

    /// Reports a rate limit of the endpoint, even within the response, and blocks further requests.
    pub(super) fn report_limit(&self, wait: Option<Duration>) {
        self.limiter.block(self.generation, wait);
    }

    fn release(&mut self) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.limiter.state.lock().in_flight -= 1;
            self.limiter.changed.notify_one();
        }
    }
}

impl Drop for RequestPermit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Returns the seconds until the next request may start, and completes that request.
    async fn seconds_until_permit(limiter: &Arc<RateLimiter>) -> u64 {
        let start = Instant::now();
        limiter.acquire().await.mark_answered();
        start.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_applies_to_all_requests() {
        let limiter = Arc::new(RateLimiter::default());
        assert_eq!(seconds_until_permit(&limiter).await, 0);
        limiter.acquire().await.report_limit(Some(seconds(90)));
        assert_eq!((seconds_until_permit(&limiter).await, seconds_until_permit(&limiter).await), (90, 0));
        limiter.acquire().await.report_limit(Some(MAX_SHARED_WAIT + seconds(1)));
        assert_eq!(seconds_until_permit(&limiter).await, 0, "a long wait delays only the request that received it");
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_until_a_request_is_answered() {
        let limiter = Arc::new(RateLimiter::default());
        let mut waits = Vec::new();
        for _ in 0..8 {
            let start = Instant::now();
            limiter.acquire().await.report_limit(None);
            waits.push(start.elapsed().as_secs());
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60]);
        assert_eq!(seconds_until_permit(&limiter).await, 60);
        limiter.acquire().await.report_limit(None);
        assert_eq!(seconds_until_permit(&limiter).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_limits_count_once() {
        let limiter = Arc::new(RateLimiter::default());
        let permits = [limiter.acquire().await, limiter.acquire().await, limiter.acquire().await];
        for permit in permits {
            permit.report_limit(None);
        }
        assert_eq!(seconds_until_permit(&limiter).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn concurrency_recovers_after_a_limit() {
        let limiter = Arc::new(RateLimiter::default());
        limiter.acquire().await.report_limit(Some(seconds(1)));
        let mut first = limiter.acquire().await;
        let enters = || tokio::time::timeout(seconds(5), limiter.acquire());
        assert!(enters().await.is_err(), "the first request has no response yet");
        first.mark_answered();
        let (second, third) = (enters().await.expect("room"), enters().await.expect("room"));
        assert!(enters().await.is_err(), "two requests are in flight");
        drop((second, third));
        first.report_limit(Some(seconds(7)));
        assert_eq!(seconds_until_permit(&limiter).await, 7);
    }
}
