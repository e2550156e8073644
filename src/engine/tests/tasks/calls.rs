//! Tests of calls: start order, routes, and failures.

use crate::engine::tests::*;

#[test]
fn task_starts_after_its_dependencies() {
    let mut driver = Driver::connected(&plan(vec![task("a", &[]), task("b", &[]), task("c", &["a"])]));
    assert_eq!(driver.drain_call_names(), ["a#1@a", "b#1@a"]);
    driver.end("a", 1, Ok(text("x")));
    assert_eq!(driver.drain_call_names(), ["c#1@a"], "`b` still runs, and `c` does not wait for it");
    driver.end("b", 1, Ok(text("x")));
    driver.end("c", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn dependent_receives_referenced_output() {
    let second = with_arguments(json!({"text": "${{ tasks.a.output }}!"}), task("b", &["a"]));
    let mut driver = Driver::connected(&plan(vec![task("a", &[]), second]));
    driver.commands.clear();
    driver.end("a", 1, Ok(text("hello")));
    let Some(Command::StartAttempt(call)) = driver.commands.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"text": "hello!"}));
}

#[test]
fn reroutes_when_agent_is_unavailable() {
    let only = with_routes(vec![route("a", 0), route("b", 1)], task("t", &[]));
    let mut driver = Driver::start(&plan(vec![only]));
    assert_eq!(
        driver.commands,
        [Command::ConnectAgent { agent: "a".into() }],
        "a fallback is connected only when it is needed"
    );
    driver.commands.clear();
    let failure = Failure::new(FailureKind::AgentUnavailable, "not there");
    driver.send_input(Input::AgentUnavailable { agent: "a".into(), failure });
    assert_eq!(driver.commands, [Command::ConnectAgent { agent: "b".into() }]);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#1@b"]);
}

#[test]
fn task_without_agents_fails_with_all_reasons() {
    let mut driver = Driver::start(&plan(vec![task("t", &[]), task("u", &["t"])]));
    let failure = Failure::new(FailureKind::AgentUnavailable, "`nope` was not found");
    driver.send_input(Input::AgentUnavailable { agent: "a".into(), failure });
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert_eq!(failure.message, "agent `a` is unavailable: `nope` was not found");
    assert_eq!(driver.outcome("u"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "t".into() })));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn unavailable_required_agent_ends_the_run() {
    let other = with_routes(vec![route("b", 0)], task("u", &[]));
    let mut required = (*plan(vec![task("t", &[]), other])).clone();
    required.agents[&AgentId::from("a")].required = true;
    let mut driver = Driver::start(&Arc::new(required));
    driver.send_input(Input::AgentConnected { agent: "b".into(), info: info() });
    let failure = Failure::new(FailureKind::AgentUnavailable, "gone");
    driver.send_input(Input::AgentUnavailable { agent: "a".into(), failure });
    let attempt = AttemptId { task: "u".into(), number: 1 };
    assert!(driver.commands.contains(&Command::CancelAttempt { attempt }), "{:?}", driver.commands);
    driver.fail("u", 1, FailureKind::Cancelled);
    let cause = EndCause::RequiredAgentUnavailable { agent: "a".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Failed, Some(cause))));
}

#[test]
fn ambiguous_call_is_repeated_only_if_effect_allows() {
    for (effect, calls) in [(None, 0), (Some(Effect::AtMostOnce), 0), (Some(Effect::Idempotent), 1)] {
        let mut only = with_routes(vec![route("a", 0), route("b", 1)], task("t", &[]));
        only.effect = effect;
        only.retry.max_attempts = 3;
        let mut driver = Driver::connected(&plan(vec![only]));
        driver.drain_calls();
        driver.fail("t", 1, FailureKind::ConnectionLost);
        if calls > 0 {
            driver.sleep();
        }
        assert_eq!(driver.drain_calls().len(), calls, "{effect:?}");
    }
}

#[test]
fn ambiguous_failure_suggests_effect_key() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.fail("t", 1, FailureKind::IdleTimeout);
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")));
}

#[test]
fn retries_then_reroutes_then_fails() {
    let mut only = with_routes(vec![route("a", 0), route("b", 1)], task("t", &[]));
    only.retry = Retry { max_attempts: 2, backoff: Backoff { jitter: 0.0, ..Backoff::default() }, when: None };
    let mut driver = Driver::connected(&plan(vec![only]));
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
    driver.fail("t", 1, FailureKind::ToolError);
    assert_eq!((driver.drain_call_names(), driver.run.next_wakeup()), (vec![], Some(Timestamp(2_000))));
    driver.sleep();
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);
    driver.fail("t", 2, FailureKind::ToolError);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#3@b"], "a reroute does not wait");
    driver.fail("t", 3, FailureKind::UnknownTool);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn equal_agents_share_work_by_load() {
    let tasks = ["t", "u", "v", "w"].map(|id| with_routes(vec![route("a", 0), route("b", 0)], task(id, &[])));
    let mut driver = Driver::connected(&plan(tasks.to_vec()));
    driver.send_input(Input::TimeReached);
    let mut agents: Vec<_> = driver.drain_calls().into_iter().map(|(_, agent)| agent.to_string()).collect();
    agents.sort();
    assert_eq!(agents, ["a", "a", "b", "b"]);
}

#[test]
fn on_failure_applies_to_dependents_and_run() {
    for (policy, dependent_runs, status) in [
        (OnFailure::Fail, false, RunStatus::Failed),
        (OnFailure::SkipDependents, false, RunStatus::Partial),
        (OnFailure::Continue, true, RunStatus::Partial),
    ] {
        let first = Task { on_failure: policy, ..task("t", &[]) };
        let mut driver = Driver::connected(&plan(vec![first, task("u", &["t"]), task("v", &[])]));
        driver.fail("t", 1, FailureKind::ToolError);
        driver.end("v", 1, Ok(text("x")));
        let runs = driver.drain_call_names().iter().any(|name| name.starts_with("u#"));
        assert_eq!(runs, dependent_runs, "{policy:?}");
        if runs {
            driver.end("u", 1, Ok(text("x")));
        }
        assert_eq!(driver.ended(), Some((status, None)), "{policy:?}");
    }
}

#[test]
fn outcome_condition_overrides_failed_dependency() {
    let first = Task { on_failure: OnFailure::SkipDependents, ..task("t", &[]) };
    let repair = Task { condition: Some(Expression("tasks.t.status == 'failed'".into())), ..task("u", &["t"]) };
    let plain = Task { condition: Some(Expression("true".into())), ..task("v", &["t"]) };
    let mut driver = Driver::connected(&plan(vec![first, repair, plain]));
    driver.drain_calls();
    driver.fail("t", 1, FailureKind::ToolError);
    assert_eq!(driver.drain_call_names(), ["u#1@a"]);
    assert_eq!(driver.outcome("v"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "t".into() })));
}

#[test]
fn sent_calls_reconstruct_arguments() {
    let first = with_arguments(json!({"who": "all"}), task("first", &[]));
    let second = with_arguments(json!({"text": "${{ tasks.first.output }}"}), task("second", &["first"]));
    let retried = Task { retry: Retry { max_attempts: 2, ..Retry::default() }, ..second };
    let retried = Task { effect: Some(Effect::ReadOnly), ..retried };
    let mut driver = Driver::connected(&plan(vec![first, retried]));
    driver.end("first", 1, Ok(text("found")));
    driver.fail("second", 1, FailureKind::ConnectionLost);
    driver.sleep();
    let ordered = driver.commands.iter().filter_map(|order| match order {
        Command::StartAttempt(call) => Some((call.attempt.clone(), Value::Object(call.arguments.clone()))),
        _ => None,
    });
    let ordered: Vec<_> = ordered.collect();
    let calls = sent_calls(&driver.records).expect("a history");
    assert_eq!(calls.into_iter().map(|call| (call.attempt, call.arguments)).collect::<Vec<_>>(), ordered);
    assert_eq!(ordered.len(), 3);
    assert_eq!(ordered[2].1, json!({"text": "found"}));
}
