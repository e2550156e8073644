//! Tests of unavailable agents, and of servers that request a delay.

use crate::engine::tests::*;

fn with_retry(max_attempts: u32, task: Task) -> Task {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    Task { retry: Retry { max_attempts, backoff, when: None }, ..task }
}

fn make_unavailable(driver: &mut Driver, agent: &str) {
    let connecting = Command::ConnectAgent { agent: agent.into() };
    assert!(driver.commands.contains(&connecting), "{:?}", driver.commands);
    driver.commands.retain(|order| *order != connecting);
    let failure = Failure::new(FailureKind::AgentUnavailable, "refused");
    driver.send_input(Input::AgentUnavailable { agent: agent.into(), failure });
}

fn failure(driver: &Driver, task: &str) -> Failure {
    match driver.outcome(task) {
        Some(Outcome::Failed(failure)) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn task_retry_reconnects_agent() {
    let mut driver = Driver::start(&plan(vec![with_retry(3, task("t", &[]))]));
    make_unavailable(&mut driver, "a");
    assert_eq!(driver.run.next_wakeup(), Some(Timestamp(2_000)));
    driver.sleep();
    make_unavailable(&mut driver, "a");
    assert_eq!(driver.run.next_wakeup(), Some(Timestamp(4_000)));
    assert_eq!(Run::fold(&driver.records).expect("a run"), driver.run);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
}

#[test]
fn task_gives_up_agent_after_max_attempts() {
    let mut driver = Driver::start(&plan(vec![with_retry(2, task("t", &[]))]));
    make_unavailable(&mut driver, "a");
    driver.sleep();
    make_unavailable(&mut driver, "a");
    assert_eq!(failure(&driver, "t").message, "agent `a` is unavailable: refused");
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn fallback_is_preferred_over_waiting() {
    let only = with_retry(3, with_routes(vec![route("a", 0), route("b", 1)], task("t", &[])));
    let mut driver = Driver::start(&plan(vec![only]));
    make_unavailable(&mut driver, "a");
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#1@b"]);
}

#[test]
fn later_task_reconnects_agent_without_retry() {
    let first = Task { on_failure: OnFailure::Continue, ..task("t", &[]) };
    let clock = with_routes(vec![route("b", 0)], task("clock", &[]));
    let mut driver = Driver::start(&plan(vec![first, clock, task("later", &["clock"])]));
    make_unavailable(&mut driver, "a");
    failure(&driver, "t");
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["clock#1@b"]);
    driver.now = Timestamp(10_000);
    driver.end("clock", 1, Ok(text("x")));
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["later#1@a"]);
}

#[test]
fn tasks_share_one_connection_attempt() {
    let items: Vec<u32> = (0..1_000).collect();
    let mut driver = Driver::start(&plan(vec![foreach_task(json!(items), None)]));
    make_unavailable(&mut driver, "a");
    assert_eq!(driver.commands.iter().filter(|order| matches!(order, Command::ConnectAgent { .. })).count(), 0);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn retry_delay_honors_retry_after() {
    let retry_after = |seconds| {
        let wait = Some(HumanDuration(Duration::from_secs(seconds)));
        Failure { retry_after: wait, ..Failure::new(FailureKind::RateLimited, "slow down") }
    };
    let limited = Task { deadline: Some(HumanDuration(Duration::from_secs(60))), ..with_retry(3, task("t", &[])) };
    for (task, wait, wakes) in [
        (limited.clone(), 30, Some(31_000)),
        (limited, 61, None),
        (with_retry(3, task("t", &[])), 0, Some(2_000)),
        (with_retry(3, task("t", &[])), 3_600, Some(3_601_000)),
        (with_retry(3, task("t", &[])), 3_601, None),
    ] {
        let mut driver = Driver::connected(&plan(vec![task]));
        driver.end("t", 1, Err(retry_after(wait)));
        assert_eq!(driver.run.next_wakeup(), wakes.map(Timestamp), "{wait}");
        assert_eq!(driver.ended().is_some(), wakes.is_none());
    }
}

#[test]
fn missing_agent_after_resume_is_reported() {
    let reading = Task { effect: Some(Effect::ReadOnly), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![reading]));
    assert_eq!(driver.drain_call_names(), ["t#1@a"]);
    let now = Timestamp(5_000);
    let (run, step) = resume(&driver.records, now, now);
    (driver.run, driver.now) = (run, now);
    driver.apply_step(step);
    make_unavailable(&mut driver, "a");
    let failure = failure(&driver, "t");
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    assert!(failure.message.contains("agent `a` is unavailable: refused"), "{failure}");
    assert!(failure.message.contains("the host ended"), "{failure}");
}
