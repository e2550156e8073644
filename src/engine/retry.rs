//! Decides what follows from a failed attempt, and computes the delays between tries. Has no clock and no random
//! numbers: the seed is part of the run.
//!
//! | failure | did the agent execute the call? | same agent again | another agent |
//! |---|---|---|---|
//! | `agent_unavailable`, `not_sent`, `session_lost` | no | yes, and at least once | yes |
//! | `rate_limited` | no | yes | yes |
//! | `unknown_tool`, `invalid_arguments`, `unauthorized`, `refused` | no | no: it would be rejected again | yes |
//! | `expression` | no | no: no agent is at fault | no |
//! | `tool_error`, `server_error` | yes, and it reported a failure | yes | yes |
//! | `era_refused` | up to a request that its library refuses in this era | yes, and at least once unless `at_most_once` | yes |
//! | `invalid_result`, `result_too_large` | yes, but its result is unusable | no | unless `at_most_once` |
//! | `interrupted` | unknown | yes, for any number of tries; if `at_most_once`, a person is asked | same |
//! | `connection_lost`, `idle_timeout`, `deadline_exceeded` | unknown | unless `at_most_once` | unless `at_most_once` |
//! | `denied`, `cancelled`, `items_failed`, `model_failed`, `budget_spent` | | no | no |
//!
//! "Yes" is always limited to `retry.max_attempts` tries on each route. A delay is never shorter than the server
//! requests (`Retry-After`). If that is longer than the task's `deadline`, the same agent is not tried again. "At least
//! once": a session or connection that is lost before the request is accepted says nothing about the task. Such a task
//! is tried twice even if the plan asks for no retry. A retry uses any equal agent that has capacity when it starts.
//!
//! A condition (`retry.when`) only narrows the table: if it is false, neither a retry nor a reroute follows a failure.

use std::time::Duration;

use serde_json::json;

use super::state::run_state::State;
use crate::expression::{self, ExpressionError};
use crate::model::{Backoff, Effect, FNV_OFFSET, Failure, FailureKind, HumanDuration, NodeIndex, Retry, TaskId, fnv1a};

/// Limits the delay that a server or an endpoint may request for a task without a `deadline`.
pub(super) const MAX_RETRY_AFTER_DELAY: Duration = Duration::from_secs(60 * 60);

/// What follows from a failed attempt on its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Retry on the same route, after a delay.
    Retry,
    /// Stop using this route; another one may be tried at once.
    Reroute,
    /// Ask a person: the process that made the call has ended, and the call must not be made twice.
    AskPerson,
    /// Fail the task.
    Fail,
}

/// The reason why `retry.when` forbids another attempt.
#[derive(Debug)]
pub(super) enum RetryRefusal {
    /// The condition is false.
    ConditionFalse,
    /// The condition cannot be evaluated.
    ConditionFailed(ExpressionError),
}

impl RetryRefusal {
    /// Adds the reason to the failure that was not retried.
    pub(super) fn explain(self, failure: Failure) -> Failure {
        match self {
            Self::ConditionFalse => failure.with_additional_help("not retried: `retry.when` is false for this failure"),
            Self::ConditionFailed(error) => {
                let message = format!("{}; `retry.when`: {error}", failure.message);
                Failure { message, ..failure }
            }
        }
    }
}

/// The delivery of a request and its result, as far as the failure shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DeliveryState {
    /// Not accepted; the same agent may accept it a moment later.
    NotDelivered,
    /// Not accepted for now.
    Throttled,
    /// Not accepted, and the same agent never will.
    Rejected,
    /// Accepted and answered with an error.
    ReturnedError,
    /// Accepted and answered with an error that another connection avoids.
    RefusedEra,
    /// Accepted and executed, but the result is unusable.
    UnusableResult,
    /// Unknown, because the host's own process ended.
    Interrupted,
    /// Unknown.
    Unknown,
    /// Failed without a fault of an agent.
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
        FailureKind::EraRefused => DeliveryState::RefusedEra,
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

/// Decides according to the table what follows from `failure` after `tries` tries on its route.
pub fn retry_decision(failure: FailureKind, effect: Effect, retry: &Retry, tries: u32) -> RetryDecision {
    let retry_below = |max_tries: u32| if tries < max_tries { RetryDecision::Retry } else { RetryDecision::Reroute };
    let safe = effect != Effect::AtMostOnce;
    match delivery_state(failure) {
        DeliveryState::NotDelivered => retry_below(retry.max_attempts.max(2)),
        DeliveryState::RefusedEra if safe => retry_below(retry.max_attempts.max(2)),
        DeliveryState::Throttled | DeliveryState::ReturnedError | DeliveryState::RefusedEra => {
            retry_below(retry.max_attempts)
        }
        // The try does not count: neither the agent nor the plan is at fault.
        DeliveryState::Interrupted if safe => RetryDecision::Retry,
        DeliveryState::Interrupted => RetryDecision::AskPerson,
        DeliveryState::Unknown if safe => retry_below(retry.max_attempts),
        DeliveryState::Rejected => RetryDecision::Reroute,
        DeliveryState::UnusableResult if safe => RetryDecision::Reroute,
        DeliveryState::Unknown | DeliveryState::UnusableResult | DeliveryState::NotAgentRelated => RetryDecision::Fail,
    }
}

/// Converts a failure to reattach to a call of an earlier process. An agent that does not accept the request reports
/// nothing about the call itself, which may have taken effect.
pub fn reattach_failure(failure: Failure) -> Failure {
    match delivery_state(failure.kind) {
        DeliveryState::NotDelivered | DeliveryState::Throttled | DeliveryState::Rejected => {
            Failure { kind: FailureKind::Interrupted, ..failure }
        }
        _ => failure,
    }
}

/// Converts the failure of a call that was cancelled because the process stops. An error may be the agent's response to
/// the cancellation, so it says nothing about the call.
pub fn interrupted_failure(failure: Failure) -> Failure {
    match (failure.kind, delivery_state(failure.kind)) {
        (FailureKind::Cancelled, _) => {
            let message = "the call was cancelled when the run was interrupted";
            Failure::new(FailureKind::Interrupted, message)
        }
        (_, DeliveryState::ReturnedError | DeliveryState::RefusedEra | DeliveryState::Unknown) => {
            let message = format!("the call was cancelled when the run was interrupted: {failure}");
            Failure { kind: FailureKind::Interrupted, message, ..failure }
        }
        _ => failure,
    }
}

/// Returns whether a call with this failure may have taken effect.
pub fn may_have_had_effect(failure: FailureKind) -> bool {
    failure == FailureKind::Cancelled
        || matches!(
            delivery_state(failure),
            DeliveryState::Interrupted | DeliveryState::Unknown | DeliveryState::UnusableResult
        )
}

/// Returns whether a failure counts against the agent, so that equal agents are preferred.
pub fn is_agent_failure(kind: FailureKind) -> bool {
    !matches!(
        delivery_state(kind),
        DeliveryState::NotAgentRelated | DeliveryState::Interrupted | DeliveryState::RefusedEra
    )
}

/// Adds help to a final failure if only the effect of the call prevented a retry: it names the key that allows one.
pub fn explain_failure(failure: Failure, effect: Effect, task: &TaskId) -> Failure {
    let outcome = match delivery_state(failure.kind) {
        DeliveryState::Unknown | DeliveryState::Interrupted => "it is unknown whether the call took effect",
        DeliveryState::UnusableResult => "the call was answered and may have taken effect",
        DeliveryState::RefusedEra => "the call may have taken effect before its tool failed",
        _ => return failure,
    };
    if effect != Effect::AtMostOnce {
        return failure;
    }
    let advice = format!(
        "{outcome}, so it was not repeated; if repeating it is safe, set `effect: idempotent` (or `read_only`) for \
         task `{task}`, in `defaults`, or in the agent's section"
    );
    failure.with_additional_help(advice)
}

/// Returns whether a server requests a longer delay than the task accepts: its `deadline`, or `MAX_RETRY_AFTER_DELAY`.
pub fn is_too_long(wait: Duration, deadline: Option<HumanDuration>) -> bool {
    wait > deadline.map_or(MAX_RETRY_AFTER_DELAY, |deadline| deadline.0)
}

/// Returns the delay after try number `tries` on a route. The same seed, task, and number give the same delay.
fn retry_delay(backoff: &Backoff, tries: u32, seed: u64, task: &TaskId) -> Duration {
    let exponent = i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX);
    let full = (backoff.initial.0.as_secs_f64() * backoff.factor.powi(exponent)).min(backoff.max.0.as_secs_f64());
    let jittered = full * (1.0 - backoff.jitter * jitter_fraction(seed, task, tries));
    Duration::try_from_secs_f64(jittered.max(0.0)).unwrap_or(backoff.max.0)
}

/// Returns a number in [0, 1) that depends only on its arguments: FNV-1a, mixed by the finalizer of SplitMix64 (Steele,
/// Lea, and Flood, "Fast splittable pseudorandom number generators", 2014).
fn jitter_fraction(seed: u64, task: &TaskId, tries: u32) -> f64 {
    let mut hash = fnv1a(FNV_OFFSET ^ seed, task.as_str().bytes().chain(tries.to_le_bytes()));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

impl State {
    /// Returns the delay before the next try of `node`: its backoff, or the requested delay if that is longer.
    pub(super) fn next_delay(&self, node: NodeIndex, tries: u32, requested: Duration) -> Duration {
        let node = &self.graph[node];
        retry_delay(&node.task.retry.backoff, tries, self.seed, &node.id).max(requested)
    }

    /// Decides what follows from `failure` on `route`.
    pub(super) fn retry_decision(&self, node: NodeIndex, route: usize, failure: &Failure) -> RetryDecision {
        match self.unconditional_decision(node, route, failure) {
            RetryDecision::Retry | RetryDecision::Reroute if self.retry_refusal(node, failure).is_some() => {
                RetryDecision::Fail
            }
            decision => decision,
        }
    }

    /// Decides what follows from `failure` on `route`, regardless of `retry.when`.
    pub(super) fn unconditional_decision(&self, node: NodeIndex, route: usize, failure: &Failure) -> RetryDecision {
        let tries = self.tasks[node.index()].routes[route].tries;
        let task = &self.graph[node].task;
        match retry_decision(failure.kind, self.repetition_effect(node, route), &task.retry, tries) {
            // The server asks for a longer delay than the task can wait.
            RetryDecision::Retry if failure.retry_after.is_some_and(|wait| is_too_long(wait.0, task.deadline)) => {
                RetryDecision::Reroute
            }
            decision => decision,
        }
    }

    /// Returns the reason why `retry.when` forbids another attempt after `failure`, if it does. A call that an earlier
    /// process left unfinished did not fail, so the condition says nothing about it.
    pub(super) fn retry_refusal(&self, node: NodeIndex, failure: &Failure) -> Option<RetryRefusal> {
        let condition = self.graph[node].task.retry.when.as_ref()?;
        if failure.kind == FailureKind::Interrupted {
            return None;
        }
        let entry = &self.tasks[node.index()];
        let route = entry.last_route.and_then(|route| self.graph[node].task.routes().get(route));
        let error = json!({
            "kind": failure.kind,
            "message": failure.message,
            "agent": route.map(|route| &route.agent),
            "tool": route.map(|route| &route.tool),
            "attempt": entry.attempts,
        });
        match expression::evaluate_document_condition(condition, &json!({ "error": error })) {
            Ok(true) => None,
            Ok(false) => Some(RetryRefusal::ConditionFalse),
            Err(error) => Some(RetryRefusal::ConditionFailed(error)),
        }
    }

    /// Returns the effect of repeating a call on `route`. The plan and the agent's settings override the hint of the
    /// tool; the default is the most cautious effect. The protocol guarantees that other operations only read.
    pub(super) fn repetition_effect(&self, node: NodeIndex, route: usize) -> Effect {
        let task = &self.graph[node].task;
        if let Some(effect) = task.operation().guaranteed_effect() {
            return effect;
        }
        let route = &task.routes()[route];
        let agent = &self.agents[&route.agent];
        let claimed = || agent.last_info.as_ref()?.tool(&route.tool)?.effect;
        task.effect.or(agent.policy.effect).or_else(claimed).unwrap_or(Effect::AtMostOnce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [FailureKind; 23] = [
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
        FailureKind::EraRefused,
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
        // Columns: `at_most_once` and `idempotent` on the first of three tries, then `at_most_once` and `read_only` on
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
            | FailureKind::ServerError
            | FailureKind::EraRefused => (Retry, Retry, Reroute, Reroute),
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
    fn refused_era_is_retried_once_without_policy_if_repeating_is_safe() {
        let decide = |effect, tries| retry_decision(FailureKind::EraRefused, effect, &retry(1), tries);
        assert_eq!(decide(Effect::Idempotent, 1), RetryDecision::Retry);
        assert_eq!(decide(Effect::Idempotent, 2), RetryDecision::Reroute);
        assert_eq!(decide(Effect::AtMostOnce, 1), RetryDecision::Reroute);
    }

    #[test]
    fn only_ambiguous_failures_suggest_effect_key() {
        let task = TaskId::from("book");
        for kind in KINDS {
            let explained = explain_failure(Failure::new(kind, "m"), Effect::AtMostOnce, &task);
            let has_advice = explained.help.is_some_and(|help| help.contains("effect: idempotent"));
            let ambiguous = matches!(
                delivery_state(kind),
                DeliveryState::Unknown
                    | DeliveryState::Interrupted
                    | DeliveryState::UnusableResult
                    | DeliveryState::RefusedEra
            );
            assert_eq!(has_advice, ambiguous, "{kind:?}");
            assert_eq!(explain_failure(Failure::new(kind, "m"), Effect::ReadOnly, &task).help, None);
        }
    }

    #[test]
    fn reattach_failure_is_ambiguous() {
        let becomes_interrupted = |kind| reattach_failure(Failure::new(kind, "m")).kind == FailureKind::Interrupted;
        let ambiguous: Vec<FailureKind> = KINDS.into_iter().filter(|kind| becomes_interrupted(*kind)).collect();
        assert_eq!(
            ambiguous,
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
        let duration = |millis| HumanDuration(Duration::from_millis(millis));
        let plain = Backoff { initial: duration(100), factor: 2.0, max: duration(500), jitter: 0.0 };
        let task = TaskId::from("t");
        let delays = [1, 2, 3, 4, 99].map(|tries| retry_delay(&plain, tries, 7, &task).as_millis());
        assert_eq!(delays, [100, 200, 400, 500, 500]);
        let jittered = Backoff { jitter: 0.5, ..plain };
        for seed in 0..200 {
            let delay = retry_delay(&jittered, 2, seed, &task);
            assert!((100..=200).contains(&delay.as_millis()), "{delay:?}");
            assert_eq!(delay, retry_delay(&jittered, 2, seed, &task));
        }
        assert_ne!(retry_delay(&jittered, 2, 1, &task), retry_delay(&jittered, 2, 2, &task));
    }
}
