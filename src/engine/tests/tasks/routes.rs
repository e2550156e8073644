//! Tests of two routes of one task to different tools of the same agent: they are distinguished everywhere.

use crate::engine::tests::*;

/// Returns a task with two routes on one agent: the second tool is used if the first fails.
fn two_tools() -> Task {
    let by = |tool: &str, rank| Route { tool: tool.into(), ..route("a", rank) };
    with_routes(vec![by("first", 0), by("second", 1)], task("t", &[]))
}

/// Returns an agent with two tools. The first is read-only, and the effect of the second is not declared.
fn tools() -> Arc<AgentInfo> {
    let tool = |name: &str, effect| ToolInfo { name: name.into(), effect, ..info().tools[0].clone() };
    let tools = vec![tool("first", Some(Effect::ReadOnly)), tool("second", None)];
    Arc::new(AgentInfo { tools, ..(*info()).clone() })
}

fn fail_over_to_second(task: Task) -> Driver {
    let mut plan = (*plan(vec![task])).clone();
    plan.replan = Some(ReplanPolicy { max_replans: 3, consent: Consent::Allow });
    let mut driver = Driver::start(&Arc::new(plan));
    driver.commands.clear();
    driver.send_input(Input::AgentConnected { agent: "a".into(), info: tools() });
    driver.fail("t", 1, FailureKind::UnknownTool);
    let tools = driver.drain_commands(|order| match order {
        Command::StartAttempt(call) => Some(call.tool.to_string()),
        _ => None,
    });
    assert_eq!(tools, ["first", "second"]);
    driver
}

#[test]
fn failure_is_explained_by_effect_of_its_tool() {
    let mut driver = fail_over_to_second(two_tools());
    driver.fail("t", 2, FailureKind::ConnectionLost);
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert!(failure.help.is_some_and(|help| help.contains("unknown whether the call took effect")));
}

#[test]
fn interruption_uses_effect_of_running_tool() {
    let driver = fail_over_to_second(two_tools());
    let (_, step) = resume(&driver.records, driver.now, driver.now);
    let asked = step.records.iter().find_map(|record| match &record.event {
        Event::QuestionAsked { question, .. } => question.tool.clone(),
        _ => None,
    });
    assert_eq!(asked.as_deref(), Some("second"), "the call may have taken effect, so a person is asked");
}

#[test]
fn ambiguity_after_interrupt_uses_last_route() {
    // The process ended after it had recorded the failure and before it decided what follows.
    let driver = fail_over_to_second(two_tools());
    let failed = Event::AttemptFailed {
        attempt: AttemptId { task: "t".into(), number: 2 },
        failure: Failure::new(FailureKind::ConnectionLost, "lost"),
    };
    let mut records = driver.records.clone();
    records.push(Record { seq: records.len() as u64, at: driver.now, event: failed });
    let (_, step) = resume(&records, driver.now, driver.now);
    let outcome = step.records.iter().find_map(|record| match &record.event {
        Event::TaskEnded { outcome: Outcome::Failed(failure), .. } => Some(failure.kind),
        _ => None,
    });
    assert_eq!(outcome, Some(FailureKind::ConnectionLost), "it is not repeated: the second tool may have an effect");
}

#[test]
fn failures_of_different_tools_are_distinct_causes() {
    // `t` fails in its second tool; an added task fails in the first tool with the same message.
    let mut driver = fail_over_to_second(Task { on_failure: OnFailure::Replan, ..two_tools() });
    driver.fail("t", 2, FailureKind::InvalidArguments);
    let first = Route { tool: "first".into(), ..route("a", 0) };
    let added = Task { on_failure: OnFailure::Replan, ..with_routes(vec![first], task("u", &[])) };
    let patch = PlanPatch {
        kept: Vec::new(),
        removed: Vec::new(),
        agents: IndexMap::new(),
        added: vec![added.into()],
        missing: None,
    };
    driver.send_input(Input::Replanned { number: 1, result: Ok(Arc::new(patch)) });
    driver.fail("u", 1, FailureKind::InvalidArguments);
    let replans = driver.records.iter().filter(|record| matches!(record.event, Event::ReplanStarted { .. })).count();
    assert_eq!(replans, 2);
}
