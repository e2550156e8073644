//! `retries.md`: what follows from each failure, computed by the engine itself.

use kapell::engine::retry::{RetryDecision, may_have_had_effect, retry_decision};
use kapell::model::{Effect, FailureKind, Retry};
use serde_json::Value;

use super::page::{check_page, table};
use super::rust_items::{doc_of, enum_of, snake_case};

const HEAD: &str = "# Retry table

What follows when an attempt fails, by the kind of its failure (`error.kind` in JSON) and the `effect` of the call. *Retry*
means the same route again, while it has had fewer tries than `retry.max_attempts`; then, and after *reroute*, the next
route of the task is tried: an equal agent of a capability, or a `fallback`. Without another route, the task fails.

A delay between two tries grows by `retry.backoff`, and is at least what the server requests with `Retry-After`. If that
is longer than the `deadline` of the task (one hour without one), the route is not tried again.

`retry.when` only narrows the table: if it is false, the task fails instead of being retried or rerouted.

";

const TAIL: &str = "
\\* Retried at least once, even with `max_attempts: 1`: the failure says nothing about the task.

The column *executed* says whether the agent may have executed the call. The effect of a call is the `effect` of the task,
otherwise that of `defaults`, of the agent's section, or of the tool's annotations; without any, it is `at_most_once`.
Reading a resource or requesting a prompt is always `read_only`.
";

#[test]
fn retry_table_is_up_to_date() {
    let kinds = enum_of("src/model/outcome.rs", "FailureKind");
    let rows = kinds.variants.iter().map(|variant| {
        let name = snake_case(&variant.ident.to_string());
        let kind: FailureKind = serde_json::from_value(Value::String(name.clone())).expect("a kind of failure");
        let executed = if may_have_had_effect(kind) { "possibly" } else { "" };
        let [safe, once] = [Effect::Idempotent, Effect::AtMostOnce].map(|effect| decision(kind, effect));
        vec![format!("`{name}`"), doc_of(&variant.attrs), executed.to_owned(), safe, once]
    });
    let head = ["failure", "cause", "executed", "`read_only`, `idempotent`", "`at_most_once`"];
    check_page("retries.md", &(HEAD.to_owned() + &table(&head, rows) + TAIL));
}

/// Describes what follows on the first try of three, and marks what is retried without a policy too.
fn decision(kind: FailureKind, effect: Effect) -> String {
    let decide = |max_attempts, tries| retry_decision(kind, effect, &Retry { max_attempts, ..Retry::default() }, tries);
    let words = match decide(3, 1) {
        RetryDecision::Retry if decide(3, 1_000) == RetryDecision::Retry => "retry, without a limit",
        RetryDecision::Retry if decide(1, 1) == RetryDecision::Retry => "retry \\*",
        RetryDecision::Retry => "retry",
        RetryDecision::Reroute => "reroute",
        RetryDecision::AskPerson => "a person is asked",
        RetryDecision::Fail => "the task fails",
    };
    words.to_owned()
}
