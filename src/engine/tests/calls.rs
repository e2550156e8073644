//! Calls: when they start, where they go, and what follows when they fail.

use super::*;

#[test]
fn a_task_starts_when_its_own_needs_are_done() {
    let mut driver = Driver::connected(&plan(vec![task("a", &[]), task("b", &[]), task("c", &["a"])]));
    assert_eq!(driver.names(), ["a#1@a", "b#1@a"]);
    driver.end("a", 1, Ok(text("x")));
    assert_eq!(driver.names(), ["c#1@a"], "`b` still runs, and `c` does not wait for it");
    driver.end("b", 1, Ok(text("x")));
    driver.end("c", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn a_dependent_is_called_with_the_output_it_refers_to() {
    let second = with(json!({"text": "${{ tasks.a.output }}!"}), task("b", &["a"]));
    let mut driver = Driver::connected(&plan(vec![task("a", &[]), second]));
    driver.orders.clear();
    driver.end("a", 1, Ok(text("hello")));
    let Some(Command::StartAttempt(call)) = driver.orders.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"text": "hello!"}));
}

#[test]
fn reroutes_when_the_agent_cannot_be_reached_and_prefers_nothing_else() {
    let only = on(vec![route("a", 0), route("b", 1)], task("t", &[]));
    let mut driver = Driver::start(&plan(vec![only]));
    assert_eq!(
        driver.orders,
        [Command::ConnectAgent { agent: "a".into() }],
        "a fallback is connected only when it is needed"
    );
    driver.orders.clear();
    let failure = Failure::new(FailureKind::AgentUnavailable, "not there");
    driver.feed(Input::AgentUnavailable { agent: "a".into(), failure });
    assert_eq!(driver.orders, [Command::ConnectAgent { agent: "b".into() }]);
    driver.connect_all();
    assert_eq!(driver.names(), ["t#1@b"]);
}

#[test]
fn a_task_without_any_agent_left_fails_with_each_reason() {
    let mut driver = Driver::start(&plan(vec![task("t", &[]), task("u", &["t"])]));
    let failure = Failure::new(FailureKind::AgentUnavailable, "`nope` was not found");
    driver.feed(Input::AgentUnavailable { agent: "a".into(), failure });
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert_eq!(failure.message, "agent `a` is unavailable: `nope` was not found");
    assert_eq!(driver.outcome("u"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "t".into() })));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn a_required_agent_that_is_unavailable_ends_the_run() {
    let other = on(vec![route("b", 0)], task("u", &[]));
    let mut required = (*plan(vec![task("t", &[]), other])).clone();
    required.agents[&AgentId::from("a")].required = true;
    let mut driver = Driver::start(&Arc::new(required));
    driver.feed(Input::AgentConnected { agent: "b".into(), info: info() });
    let failure = Failure::new(FailureKind::AgentUnavailable, "gone");
    driver.feed(Input::AgentUnavailable { agent: "a".into(), failure });
    let attempt = AttemptId { task: "u".into(), number: 1 };
    assert!(driver.orders.contains(&Command::CancelAttempt { attempt }), "{:?}", driver.orders);
    driver.fail("u", 1, FailureKind::Cancelled);
    let cause = EndCause::RequiredAgentUnavailable { agent: "a".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Failed, Some(cause))));
}

#[test]
fn an_ambiguous_call_is_never_repeated_unless_its_effect_allows_it() {
    for (effect, calls) in [(None, 0), (Some(Effect::AtMostOnce), 0), (Some(Effect::Idempotent), 1)] {
        let mut only = on(vec![route("a", 0), route("b", 1)], task("t", &[]));
        only.effect = effect;
        only.retry.max_attempts = 3;
        let mut driver = Driver::connected(&plan(vec![only]));
        driver.calls();
        driver.fail("t", 1, FailureKind::ConnectionLost);
        if calls > 0 {
            driver.sleep();
        }
        assert_eq!(driver.calls().len(), calls, "{effect:?}");
    }
}

#[test]
fn an_ambiguous_end_says_which_key_would_allow_a_repetition() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.fail("t", 1, FailureKind::IdleTimeout);
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")));
}

#[test]
fn retries_after_a_pause_then_reroutes_then_fails() {
    let mut only = on(vec![route("a", 0), route("b", 1)], task("t", &[]));
    only.retry = Retry { max_attempts: 2, backoff: Backoff { jitter: 0.0, ..Backoff::default() } };
    let mut driver = Driver::connected(&plan(vec![only]));
    assert_eq!(driver.names(), ["t#1@a"]);
    driver.fail("t", 1, FailureKind::ToolError);
    assert_eq!((driver.names(), driver.run.next_wake()), (vec![], Some(Timestamp(2_000))));
    driver.sleep();
    assert_eq!(driver.names(), ["t#2@a"]);
    driver.fail("t", 2, FailureKind::ToolError);
    driver.connect_all();
    assert_eq!(driver.names(), ["t#3@b"], "a reroute does not wait");
    driver.fail("t", 3, FailureKind::UnknownTool);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn members_of_a_capability_share_the_work_by_how_busy_they_are() {
    let tasks = ["t", "u", "v", "w"].map(|id| on(vec![route("a", 0), route("b", 0)], task(id, &[])));
    let mut driver = Driver::connected(&plan(tasks.to_vec()));
    driver.feed(Input::TimeReached);
    let mut agents: Vec<_> = driver.calls().into_iter().map(|(_, agent)| agent.to_string()).collect();
    agents.sort();
    assert_eq!(agents, ["a", "a", "b", "b"]);
}

#[test]
fn on_failure_decides_for_dependents_and_for_the_run() {
    for (policy, dependent_runs, status) in [
        (OnFailure::Fail, false, RunStatus::Failed),
        (OnFailure::SkipDependents, false, RunStatus::Partial),
        (OnFailure::Continue, true, RunStatus::Partial),
    ] {
        let first = Task { on_failure: policy, ..task("t", &[]) };
        let mut driver = Driver::connected(&plan(vec![first, task("u", &["t"]), task("v", &[])]));
        driver.fail("t", 1, FailureKind::ToolError);
        driver.end("v", 1, Ok(text("x")));
        let runs = driver.names().iter().any(|name| name.starts_with("u#"));
        assert_eq!(runs, dependent_runs, "{policy:?}");
        if runs {
            driver.end("u", 1, Ok(text("x")));
        }
        assert_eq!(driver.ended(), Some((status, None)), "{policy:?}");
    }
}

#[test]
fn a_condition_that_looks_at_how_a_task_ended_decides_alone() {
    let first = Task { on_failure: OnFailure::SkipDependents, ..task("t", &[]) };
    let repair = Task { condition: Some(Expression("tasks.t.status == 'failed'".into())), ..task("u", &["t"]) };
    let plain = Task { condition: Some(Expression("true".into())), ..task("v", &["t"]) };
    let mut driver = Driver::connected(&plan(vec![first, repair, plain]));
    driver.calls();
    driver.fail("t", 1, FailureKind::ToolError);
    assert_eq!(driver.names(), ["u#1@a"]);
    assert_eq!(driver.outcome("v"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "t".into() })));
}

#[test]
fn the_arguments_of_every_call_can_be_found_later() {
    let first = with(json!({"who": "all"}), task("first", &[]));
    let second = with(json!({"text": "${{ tasks.first.output }}"}), task("second", &["first"]));
    let retried = Task { retry: Retry { max_attempts: 2, ..Retry::default() }, ..second };
    let retried = Task { effect: Some(Effect::ReadOnly), ..retried };
    let mut driver = Driver::connected(&plan(vec![first, retried]));
    driver.end("first", 1, Ok(text("found")));
    driver.fail("second", 1, FailureKind::ConnectionLost);
    driver.sleep();
    let ordered = driver.orders.iter().filter_map(|order| match order {
        Command::StartAttempt(call) => Some((call.attempt.clone(), Value::Object(call.arguments.clone()))),
        _ => None,
    });
    let ordered: Vec<_> = ordered.collect();
    let calls = sent_calls(&driver.records).expect("a history");
    assert_eq!(calls.into_iter().map(|call| (call.attempt, call.arguments)).collect::<Vec<_>>(), ordered);
    assert_eq!(ordered.len(), 3);
    assert_eq!(ordered[2].1, json!({"text": "found"}));
}
