//! Tests of retries and their deadline.

use std::sync::atomic::AtomicU32;

use super::*;

#[tokio::test]
async fn reply_that_ends_during_reasoning_is_requested_again() {
    let reasoning = |key: &str| {
        let chunk = json!({"choices": [{"delta": {key: "Let me think"}}]});
        response("200 OK", &format!("data: {chunk}\n\n"))
    };
    let good =
        response("200 OK", "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n");
    for key in ["reasoning_content", "reasoning"] {
        let server = TestServer::start(vec![reasoning(key), good.clone()]).await;
        assert_eq!(
            streamed_reply(server.model()).await,
            (vec!["Hi".to_owned()], Ok(reply("Hi", "small", "endTurn", None)))
        );
        // A caller with its own retry policy requests a single attempt.
        let server = TestServer::start(vec![reasoning(key), good.clone()]).await;
        let request = ChatRequest { single_try: true, ..question() };
        let (_, status, is_transient) = failure_parts(server.model().chat(&request).await);
        assert_eq!((status, is_transient), (None, true));
    }
}

fn busy(hint: RetryHint) -> LlmError {
    LlmError { retry: hint, status: Some(503), ..LlmError::new("answered 503") }
}

/// Retries with the hint `again` until the deadline. Returns the failure, the number of attempts, and their duration.
async fn attempts(limits: RetryLimits, hint: RetryHint) -> (LlmError, u32, Duration) {
    let count = Arc::new(AtomicU32::new(0));
    let start = Instant::now();
    let failed = retry(limits, &Arc::default(), |permit| {
        count.fetch_add(1, Ordering::Relaxed);
        drop(permit);
        async move { Err::<ChatReply, _>(busy(hint)) }
    })
    .await
    .expect_err("a failure");
    (failed, count.load(Ordering::Relaxed), start.elapsed())
}

const UNLIMITED: RetryLimits = RetryLimits { deadline: None, single_try: false };

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_the_endpoint_requests_up_to_a_limit() {
    let (failed, count, time) = attempts(UNLIMITED, RetryHint::After(Duration::from_secs(90))).await;
    assert_eq!((failed.message.as_str(), count, time.as_secs()), ("answered 503", 4, 270));
    let (_, count, time) = attempts(UNLIMITED, RetryHint::After(MAX_SHARED_WAIT + Duration::from_secs(1))).await;
    assert_eq!((count, time), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn delays_increase_and_four_attempts_are_made() {
    let (_, count, time) = attempts(UNLIMITED, RetryHint::Backoff).await;
    assert_eq!(count, 4);
    assert!((3_500..=7_100).contains(&time.as_millis()), "{time:?}");
    let (_, count, _) = attempts(UNLIMITED, RetryHint::No).await;
    assert_eq!(count, 1);
    let (_, count, _) = attempts(RetryLimits { single_try: true, ..UNLIMITED }, RetryHint::Backoff).await;
    assert_eq!(count, 1);
}

#[tokio::test(start_paused = true)]
async fn deadline_covers_delays_and_attempts() {
    let limits = RetryLimits { deadline: Some(Duration::from_secs(10)), single_try: false };
    let (failed, count, time) = attempts(limits, RetryHint::After(Duration::from_secs(8))).await;
    assert_eq!((failed.message.as_str(), count, time.as_secs()), ("answered 503", 2, 8));

    let mut first = true;
    let failed = retry(limits, &Arc::default(), |permit| {
        drop(permit);
        let answers = std::mem::take(&mut first);
        async move {
            if answers {
                Err::<ChatReply, _>(busy(RetryHint::After(Duration::from_secs(1))))
            } else {
                std::future::pending().await
            }
        }
    })
    .await;
    let expected = LlmError::deadline_exceeded(Duration::from_secs(10), Some(busy(RetryHint::No)));
    assert_eq!(failed, Err(expected));
    insta::assert_snapshot!(failed.map(|_| ()).expect_err("a failure").message);
}

/// An endpoint that accepts at most `max_requests` in each window.
struct Limiter {
    max_requests: usize,
    window: Duration,
    names_wait: bool,
    began: Instant,
    used: usize,
}

impl Limiter {
    fn respond(&mut self, mut permit: RequestPermit) -> Result<(), LlmError> {
        if self.began.elapsed() >= self.window {
            (self.began, self.used) = (Instant::now(), 0);
        }
        self.used += 1;
        if self.used <= self.max_requests {
            permit.mark_answered();
            return Ok(());
        }
        let wait = Some(self.window.saturating_sub(self.began.elapsed())).filter(|_| self.names_wait);
        permit.report_limit(wait);
        Err(LlmError { is_limit: true, ..busy(wait.map_or(RetryHint::Backoff, RetryHint::After)) })
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_requests_succeed_at_an_endpoint_with_a_rate_limit() {
    let limiters = [(10, 20, true), (10, 20, false), (5, 10, true), (3, 5, true)];
    for (max_requests, seconds, names_wait) in limiters {
        let window = Duration::from_secs(seconds);
        let limiter = Limiter { max_requests, window, names_wait, began: Instant::now(), used: 0 };
        let (limiter, rate_limiter) = (std::sync::Mutex::new(limiter), Arc::default());
        let attempt = |permit| {
            let response = limiter.lock().expect("no panic").respond(permit);
            async move { response }
        };
        let limits = RetryLimits { deadline: None, single_try: false };
        let all = futures::future::join_all((0..20).map(|_| retry(limits, &rate_limiter, attempt))).await;
        assert_eq!(all, vec![Ok(()); 20], "{max_requests} in {seconds} s");
    }
}
