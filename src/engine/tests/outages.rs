//! Agents that cannot be reached, and servers that ask to wait.

use super::*;
use crate::engine::Recovery;

fn retrying(max_attempts: u32, task: Task) -> Task {
    let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
    Task { retry: Retry { max_attempts, backoff }, ..task }
}

fn unavailable(driver: &mut Driver, agent: &str) {
    let connecting = Command::ConnectAgent { agent: agent.into() };
    assert!(driver.orders.contains(&connecting), "{:?}", driver.orders);
    driver.orders.retain(|order| *order != connecting);
    let failure = Failure::new(FailureKind::AgentUnavailable, "refused");
    driver.feed(Input::AgentUnavailable { agent: agent.into(), failure });
}

fn failure(driver: &Driver, task: &str) -> Failure {
    match driver.outcome(task) {
        Some(Outcome::Failed(failure)) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn the_retry_of_a_task_has_its_agent_connected_again() {
    let mut driver = Driver::start(&plan(vec![retrying(3, task("t", &[]))]));
    unavailable(&mut driver, "a");
    assert_eq!(driver.run.next_wake(), Some(Timestamp(2_000)));
    driver.sleep();
    unavailable(&mut driver, "a");
    assert_eq!(driver.run.next_wake(), Some(Timestamp(4_000)));
    assert_eq!(Run::fold(&driver.records).expect("a run"), driver.run);
    driver.sleep();
    driver.connect_all();
    assert_eq!(driver.names(), ["t#1@a"]);
}

#[test]
fn a_task_gives_up_an_agent_after_its_tries() {
    let mut driver = Driver::start(&plan(vec![retrying(2, task("t", &[]))]));
    unavailable(&mut driver, "a");
    driver.sleep();
    unavailable(&mut driver, "a");
    assert_eq!(failure(&driver, "t").message, "agent `a` is unavailable: refused");
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn a_fallback_is_taken_before_an_agent_is_waited_for() {
    let only = retrying(3, on(vec![route("a", 0), route("b", 1)], task("t", &[])));
    let mut driver = Driver::start(&plan(vec![only]));
    unavailable(&mut driver, "a");
    driver.connect_all();
    assert_eq!(driver.names(), ["t#1@b"]);
}

#[test]
fn a_task_that_comes_later_has_the_agent_connected_again_without_any_retry() {
    let first = Task { on_failure: OnFailure::Continue, ..task("t", &[]) };
    let clock = on(vec![route("b", 0)], task("clock", &[]));
    let mut driver = Driver::start(&plan(vec![first, clock, task("later", &["clock"])]));
    unavailable(&mut driver, "a");
    failure(&driver, "t");
    driver.connect_all();
    assert_eq!(driver.names(), ["clock#1@b"]);
    driver.now = Timestamp(10_000);
    driver.end("clock", 1, Ok(text("x")));
    driver.connect_all();
    assert_eq!(driver.names(), ["later#1@a"]);
}

#[test]
fn a_thousand_tasks_share_one_try_to_connect() {
    let items: Vec<u32> = (0..1_000).collect();
    let mut driver = Driver::start(&plan(vec![over(json!(items), None)]));
    unavailable(&mut driver, "a");
    assert_eq!(driver.orders.iter().filter(|order| matches!(order, Command::ConnectAgent { .. })).count(), 0);
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn a_pause_is_as_long_as_the_server_asks_for() {
    let asks_for = |seconds| {
        let wait = Some(Span(Duration::from_secs(seconds)));
        Failure { retry_after: wait, ..Failure::new(FailureKind::RateLimited, "slow down") }
    };
    let limited = Task { deadline: Some(Span(Duration::from_secs(60))), ..retrying(3, task("t", &[])) };
    for (task, wait, wakes) in [
        (limited.clone(), 30, Some(31_000)),
        (limited, 61, None),
        (retrying(3, task("t", &[])), 0, Some(2_000)),
        (retrying(3, task("t", &[])), 3_600, Some(3_601_000)),
        (retrying(3, task("t", &[])), 3_601, None),
    ] {
        let mut driver = Driver::connected(&plan(vec![task]));
        driver.end("t", 1, Err(asks_for(wait)));
        assert_eq!(driver.run.next_wake(), wakes.map(Timestamp), "{wait}");
        assert_eq!(driver.ended().is_some(), wakes.is_none());
    }
}

#[test]
fn an_agent_that_is_gone_after_an_interruption_is_named() {
    let reading = Task { effect: Some(Effect::ReadOnly), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![reading]));
    assert_eq!(driver.names(), ["t#1@a"]);
    let mut run = Run::fold(&driver.records).expect("a run");
    let now = Timestamp(5_000);
    let step = run.recover(Recovery { now, last: now, noted: &|_| false, accepts_changes: true, requests: &[] });
    (driver.run, driver.now) = (run, now);
    driver.take(step);
    unavailable(&mut driver, "a");
    let failure = failure(&driver, "t");
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    assert!(failure.message.contains("agent `a` is unavailable: refused"), "{failure}");
    assert!(failure.message.contains("the host ended"), "{failure}");
}
