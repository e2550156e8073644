//! What may follow a failed attempt: the table, and the pauses between tries.
//! Never reads a clock or draws a random number; the seed is the run's.
//!
//! | failure | did the agent run it? | same agent again | another agent |
//! |---|---|---|---|
//! | `agent_unavailable`, `not_sent`, `session_lost` | no | yes, and at least once | yes |
//! | `rate_limited` | no | yes | yes |
//! | `unknown_tool`, `invalid_arguments`, `unauthorized`, `refused` | no | no: it would be refused again | yes |
//! | `expression` | no | no: no agent is at fault | no |
//! | `tool_error`, `server_error` | yes, and it said that it failed | yes | yes |
//! | `invalid_result`, `result_too_large` | yes, but its answer is of no use | no | unless `at_most_once` |
//! | `interrupted` | unknown | yes, whatever the number of tries, unless `at_most_once`: then a person is asked | as the same one |
//! | `connection_lost`, `idle_timeout`, `deadline_exceeded` | unknown | unless `at_most_once` | unless `at_most_once` |
//! | `denied`, `cancelled`, `items_failed`, `model_failed`, `budget_spent` | | no | no |
//!
//! "Yes" is always bounded by `retry.max_attempts` tries on each route. A pause is never shorter than what the server
//! asks for (`Retry-After`); where that is longer than the task's `deadline`, the same agent is not tried again.
//! "At least once": losing a session or a connection before the request was taken says nothing about the task, so such a task is tried twice even where
//! the plan asks for no retry. A retry goes to whichever of the equal agents has room when it starts.

use std::time::Duration;

use crate::model::{Backoff, Effect, Failure, FailureKind, HumanDuration, Retry, TaskId};

/// Limits the wait that a server may ask for where the task has no `deadline`.
const MAX_RETRY_AFTER_DELAY: Duration = Duration::from_secs(60 * 60);

/// What may follow a failed attempt on its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Try the same route again, after a pause.
    Retry,
    /// This route is used up or of no use; another may be tried at once.
    Reroute,
    /// Only a person can say: the process that made the call is gone, and the call must not be made twice.
    AskPerson,
    /// Neither: the task fails.
    Fail,
}

/// What is known of the request and of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryState {
    /// Never taken, and the same agent may take it a moment later.
    NotDelivered,
    /// Never taken, for now.
    Throttled,
    /// Never taken, and the same agent never will.
    Rejected,
    /// Taken, and answered with an error.
    ReturnedError,
    /// Taken and done, but the answer is of no use.
    UnusableResult,
    /// Nobody knows, and only the end of the host's own process is to blame.
    Interrupted,
    /// Nobody knows.
    Unknown,
    /// No agent is at fault.
    NotAgentRelated,
}

fn delivery_state(kind: FailureKind) -> DeliveryState {
    match kind {
        FailureKind::AgentUnavailable | FailureKind::NotSent | FailureKind::SessionLost => DeliveryState::NotDelivered,
        FailureKind::RateLimited => DeliveryState::Throttled,
        FailureKind::UnknownTool | FailureKind::InvalidArguments | FailureKind::Unauthorized | FailureKind::Refused => {
            DeliveryState::Rejected
        }
        FailureKind::ToolError | FailureKind::ServerError => DeliveryState::ReturnedError,
        FailureKind::InvalidResult | FailureKind::ResultTooLarge => DeliveryState::UnusableResult,
        FailureKind::Interrupted => DeliveryState::Interrupted,
        FailureKind::ConnectionLost | FailureKind::IdleTimeout | FailureKind::DeadlineExceeded => {
            DeliveryState::Unknown
        }
        FailureKind::Expression
        | FailureKind::Denied
        | FailureKind::Cancelled
        | FailureKind::ItemsFailed
        | FailureKind::BudgetSpent
        | FailureKind::ModelFailed => DeliveryState::NotAgentRelated,
    }
}

/// Reads the table: what may follow `failure` after `tries` tries on its route.
pub fn retry_decision(failure: FailureKind, effect: Effect, retry: &Retry, tries: u32) -> RetryDecision {
    let again = |most: u32| if tries < most { RetryDecision::Retry } else { RetryDecision::Reroute };
    let safe = effect != Effect::AtMostOnce;
    match delivery_state(failure) {
        DeliveryState::NotDelivered => again(retry.max_attempts.max(2)),
        DeliveryState::Throttled | DeliveryState::ReturnedError => again(retry.max_attempts),
        // The try does not count: neither the agent nor the plan is at fault.
        DeliveryState::Interrupted if safe => RetryDecision::Retry,
        DeliveryState::Interrupted => RetryDecision::AskPerson,
        DeliveryState::Unknown if safe => again(retry.max_attempts),
        DeliveryState::Rejected => RetryDecision::Reroute,
        DeliveryState::UnusableResult if safe => RetryDecision::Reroute,
        DeliveryState::Unknown | DeliveryState::UnusableResult | DeliveryState::NotAgentRelated => RetryDecision::Fail,
    }
}

/// A failure to take up a call that an earlier process began. What keeps a request from being taken says nothing
/// about the call itself, which may have taken effect long ago.
pub fn reattach_failure(failure: Failure) -> Failure {
    match delivery_state(failure.kind) {
        DeliveryState::NotDelivered | DeliveryState::Throttled | DeliveryState::Rejected => {
            Failure { kind: FailureKind::Interrupted, ..failure }
        }
        _ => failure,
    }
}

/// A failure of a call that was cancelled because the process is asked to stop. An error may be the agent's answer to
/// the cancellation, so it says nothing about the call.
pub fn interrupted_failure(failure: Failure) -> Failure {
    match (failure.kind, delivery_state(failure.kind)) {
        (FailureKind::Cancelled, _) => {
            let message = "the call was cancelled when the run was interrupted";
            Failure::new(FailureKind::Interrupted, message)
        }
        (_, DeliveryState::ReturnedError | DeliveryState::Unknown) => {
            let message = format!("the call was cancelled when the run was interrupted: {failure}");
            Failure { kind: FailureKind::Interrupted, message, ..failure }
        }
        _ => failure,
    }
}

/// Whether a call that failed so may have taken effect.
pub fn may_have_taken_effect(failure: FailureKind) -> bool {
    failure == FailureKind::Cancelled
        || matches!(
            delivery_state(failure),
            DeliveryState::Interrupted | DeliveryState::Unknown | DeliveryState::UnusableResult
        )
}

/// Whether a failure says something about the agent, so that an equal agent is to be taken rather than it.
pub fn is_agent_failure(kind: FailureKind) -> bool {
    !matches!(delivery_state(kind), DeliveryState::NotAgentRelated | DeliveryState::Interrupted)
}

/// The failure as the task ends with it: where only the effect forbade another try, it says so, and which key
/// would allow one.
pub fn explain_failure(failure: Failure, effect: Effect, task: &TaskId) -> Failure {
    let outcome = match delivery_state(failure.kind) {
        DeliveryState::Unknown | DeliveryState::Interrupted => "it is unknown whether the call took effect",
        DeliveryState::UnusableResult => "the call was answered and may have taken effect",
        _ => return failure,
    };
    if effect != Effect::AtMostOnce {
        return failure;
    }
    let advice = format!(
        "{outcome}, so it was not repeated; if repeating it is safe, say `effect: idempotent` (or `read_only`) \
         on task `{task}`, under `defaults`, or in the agent's section"
    );
    failure.with_additional_help(advice)
}

/// Says whether a wait that a server asks for is longer than a task may take for it: its `deadline`, or `MAX_RETRY_AFTER_DELAY`.
pub fn is_too_long(wait: Duration, deadline: Option<HumanDuration>) -> bool {
    wait > deadline.map_or(MAX_RETRY_AFTER_DELAY, |deadline| deadline.0)
}

/// The pause before the try after number `tries` on a route. The same seed, task and number give the same pause.
pub fn retry_delay(backoff: &Backoff, tries: u32, seed: u64, task: &TaskId) -> Duration {
    let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
    let full = (backoff.initial.0.as_secs_f64() * backoff.factor.powi(exponent)).min(backoff.max.0.as_secs_f64());
    let drawn = full * (1.0 - backoff.jitter * jitter_fraction(seed, task, tries));
    Duration::try_from_secs_f64(drawn.max(0.0)).unwrap_or(backoff.max.0)
}

/// A number in [0, 1) that depends on nothing but its arguments: FNV-1a over them, mixed by SplitMix64's finaliser
/// (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn jitter_fraction(seed: u64, task: &TaskId, tries: u32) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ seed;
    for byte in task.as_str().bytes().chain(tries.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [FailureKind; 22] = [
        FailureKind::AgentUnavailable,
        FailureKind::NotSent,
        FailureKind::SessionLost,
        FailureKind::RateLimited,
        FailureKind::UnknownTool,
        FailureKind::InvalidArguments,
        FailureKind::Unauthorized,
        FailureKind::Refused,
        FailureKind::Expression,
        FailureKind::ToolError,
        FailureKind::ServerError,
        FailureKind::InvalidResult,
        FailureKind::ResultTooLarge,
        FailureKind::Interrupted,
        FailureKind::ConnectionLost,
        FailureKind::IdleTimeout,
        FailureKind::DeadlineExceeded,
        FailureKind::Denied,
        FailureKind::Cancelled,
        FailureKind::ItemsFailed,
        FailureKind::ModelFailed,
        FailureKind::BudgetSpent,
    ];

    fn retry(max_attempts: u32) -> Retry {
        Retry { max_attempts, ..Retry::default() }
    }

    #[test]
    fn retry_table_matches_documentation() {
        use RetryDecision::{AskPerson, Fail, Reroute, Retry};
        // Columns: at most once on the first of three tries, the same with an idempotent effect, and either on
        // the third.
        let rows = KINDS.map(|kind| {
            let of = |effect, tries| retry_decision(kind, effect, &retry(3), tries);
            (
                kind,
                of(Effect::AtMostOnce, 1),
                of(Effect::Idempotent, 1),
                of(Effect::AtMostOnce, 3),
                of(Effect::ReadOnly, 3),
            )
        });
        let expected = |kind| match kind {
            FailureKind::AgentUnavailable
            | FailureKind::NotSent
            | FailureKind::SessionLost
            | FailureKind::RateLimited
            | FailureKind::ToolError
            | FailureKind::ServerError => (Retry, Retry, Reroute, Reroute),
            FailureKind::UnknownTool
            | FailureKind::InvalidArguments
            | FailureKind::Unauthorized
            | FailureKind::Refused => (Reroute, Reroute, Reroute, Reroute),
            FailureKind::InvalidResult | FailureKind::ResultTooLarge => (Fail, Reroute, Fail, Reroute),
            FailureKind::Interrupted => (AskPerson, Retry, AskPerson, Retry),
            FailureKind::ConnectionLost | FailureKind::IdleTimeout | FailureKind::DeadlineExceeded => {
                (Fail, Retry, Fail, Reroute)
            }
            FailureKind::Expression
            | FailureKind::Denied
            | FailureKind::Cancelled
            | FailureKind::ItemsFailed
            | FailureKind::BudgetSpent
            | FailureKind::ModelFailed => (Fail, Fail, Fail, Fail),
        };
        for (kind, first, first_safe, last, last_safe) in rows {
            assert_eq!((first, first_safe, last, last_safe), expected(kind), "{kind:?}");
        }
    }

    #[test]
    fn undelivered_call_is_retried_once_without_policy() {
        assert_eq!(retry_decision(FailureKind::SessionLost, Effect::AtMostOnce, &retry(1), 1), RetryDecision::Retry);
        assert_eq!(retry_decision(FailureKind::SessionLost, Effect::AtMostOnce, &retry(1), 2), RetryDecision::Reroute);
        assert_eq!(retry_decision(FailureKind::ToolError, Effect::AtMostOnce, &retry(1), 1), RetryDecision::Reroute);
    }

    #[test]
    fn only_ambiguous_failures_suggest_effect_key() {
        let task = TaskId::from("book");
        for kind in KINDS {
            let explained = explain_failure(Failure::new(kind, "m"), Effect::AtMostOnce, &task);
            let says = explained.help.is_some_and(|help| help.contains("effect: idempotent"));
            let unsure = matches!(
                delivery_state(kind),
                DeliveryState::Unknown | DeliveryState::Interrupted | DeliveryState::UnusableResult
            );
            assert_eq!(says, unsure, "{kind:?}");
            assert_eq!(explain_failure(Failure::new(kind, "m"), Effect::ReadOnly, &task).help, None);
        }
    }

    #[test]
    fn reattach_failure_is_ambiguous() {
        let becomes_interrupted = |kind| reattach_failure(Failure::new(kind, "m")).kind == FailureKind::Interrupted;
        let unsure: Vec<FailureKind> = KINDS.into_iter().filter(|kind| becomes_interrupted(*kind)).collect();
        assert_eq!(
            unsure,
            [
                FailureKind::AgentUnavailable,
                FailureKind::NotSent,
                FailureKind::SessionLost,
                FailureKind::RateLimited,
                FailureKind::UnknownTool,
                FailureKind::InvalidArguments,
                FailureKind::Unauthorized,
                FailureKind::Refused,
                FailureKind::Interrupted,
            ]
        );
    }

    #[test]
    fn retry_delays_are_bounded_and_deterministic() {
        let span = |millis| HumanDuration(Duration::from_millis(millis));
        let plain = Backoff { initial: span(100), factor: 2.0, max: span(500), jitter: 0.0 };
        let task = TaskId::from("t");
        let pauses = [1, 2, 3, 4, 99].map(|tries| retry_delay(&plain, tries, 7, &task).as_millis());
        assert_eq!(pauses, [100, 200, 400, 500, 500]);
        let jittered = Backoff { jitter: 0.5, ..plain };
        for seed in 0..200 {
            let once = retry_delay(&jittered, 2, seed, &task);
            assert!((100..=200).contains(&once.as_millis()), "{once:?}");
            assert_eq!(once, retry_delay(&jittered, 2, seed, &task));
        }
        assert_ne!(retry_delay(&jittered, 2, 1, &task), retry_delay(&jittered, 2, 2, &task));
    }
}
