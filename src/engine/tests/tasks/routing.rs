//! Tests of routing among equal agents in virtual time, when some of them fail.

use std::collections::BTreeMap;

use crate::engine::tests::*;

/// The behavior of an agent: returns the duration of an attempt in milliseconds and its result, given its start time.
type Behavior = Box<dyn FnMut(u64) -> (u64, Result<(), FailureKind>)>;

fn succeeds_after(millis: u64) -> Behavior {
    Box::new(move |_| (millis, Ok(())))
}

fn fails_after(millis: u64, kind: FailureKind) -> Behavior {
    Box::new(move |_| (millis, Err(kind)))
}

/// Returns an agent that works for a part of every cycle and loses connections for the rest of it.
fn flaps(up: u64, down: u64, millis: u64) -> Behavior {
    Box::new(move |now| if now % (up + down) < up { (millis, Ok(())) } else { (1, Err(FailureKind::ConnectionLost)) })
}

/// An attempt, its agent, and its future result.
type RunningAttempt = (AttemptId, String, Result<(), FailureKind>);

/// The outcomes of attempts on one agent.
#[derive(Debug, Default, Clone, PartialEq)]
struct AgentShare {
    completed: usize,
    failed: usize,
}

struct SimulationResult {
    shares: BTreeMap<String, AgentShare>,
    /// The duration of the run in milliseconds.
    duration_ms: u64,
    status: RunStatus,
    /// The end times of successful attempts, in milliseconds from the start.
    end_times_ms: Vec<u64>,
    /// The maximum number of attempts of one task.
    max_attempts: u32,
}

impl SimulationResult {
    fn of(&self, agent: &str) -> AgentShare {
        self.shares.get(agent).cloned().unwrap_or_default()
    }
}

/// Returns a plan with a `foreach` task that any of the agents can run, with four calls at once on each.
fn shared_by(agents: &[&str], items: usize, retry: Retry) -> Arc<Plan> {
    let routes = agents.iter().map(|agent| route(agent, 0)).collect();
    let each = Task {
        retry,
        effect: Some(Effect::ReadOnly),
        on_failure: OnFailure::Continue,
        ..foreach_task(json!((0..items).collect::<Vec<_>>()), None)
    };
    let mut plan = (*plan(vec![with_routes(routes, each)])).clone();
    plan.agents.values_mut().for_each(|agent| agent.max_concurrency = 4);
    plan.max_parallel = 64;
    Arc::new(plan)
}

fn retry(max_attempts: u32) -> Retry {
    let backoff = Backoff {
        initial: HumanDuration(Duration::from_millis(50)),
        max: HumanDuration(Duration::from_millis(500)),
        ..Backoff::default()
    };
    Retry { max_attempts, backoff, when: None }
}

/// Drives a plan to its end in virtual time.
fn simulate_routing(plan: &Arc<Plan>, mut agents: Vec<(&str, Behavior)>) -> SimulationResult {
    let mut driver = Driver::start(plan);
    let started_at = driver.now.0;
    driver.connect_all();
    let mut in_flight: BTreeMap<(u64, usize), RunningAttempt> = BTreeMap::new();
    let mut shares: BTreeMap<String, AgentShare> = BTreeMap::new();
    let (mut ends, mut order, mut max_attempts) = (Vec::new(), 0, 0);
    while !driver.run.has_ended() {
        for (attempt, agent) in driver.drain_calls() {
            let (_, behavior) = agents.iter_mut().find(|(name, _)| *name == agent.as_str()).expect("an agent");
            let (duration, result) = behavior(driver.now.0 - started_at);
            order += 1;
            max_attempts = max_attempts.max(attempt.number);
            in_flight.insert((driver.now.0 + duration, order), (attempt, agent.to_string(), result));
        }
        let end = in_flight.keys().next().map(|(at, _)| *at);
        let wake = driver.run.next_wakeup().map(|at| at.0);
        let next = end.into_iter().chain(wake).min().expect("something happens next");
        assert!(end.is_some() || next > driver.now.0, "the run wakes up for nothing");
        driver.now = Timestamp(next.max(driver.now.0));
        if end == Some(next) {
            let (_, (attempt, agent, result)) = in_flight.pop_first().expect("it was looked at");
            let share = shares.entry(agent).or_default();
            match result {
                Ok(()) => {
                    share.completed += 1;
                    ends.push(next - started_at);
                }
                Err(_) => share.failed += 1,
            }
            let result = result.map(|()| text("done")).map_err(|kind| Failure::new(kind, "broke"));
            driver.send_input(Input::AttemptEnded { attempt, result });
        } else {
            driver.send_input(Input::TimeReached);
        }
    }
    assert!(Run::fold(&driver.records).expect("a run") == driver.run, "fold(events) differs from the live run");
    let (status, _) = driver.ended().expect("it ended");
    SimulationResult { shares, duration_ms: driver.now.0 - started_at, status, end_times_ms: ends, max_attempts }
}

/// Returns whether both shares are between 40 and 60% of their sum.
fn is_even(one: usize, other: usize) -> bool {
    let percent = one * 100 / (one + other).max(1);
    (40..=60).contains(&percent)
}

#[test]
fn healthy_agents_share_work_of_failing_agent() {
    for position in 0..3 {
        let names = ["w1", "w2", "w3"];
        let agents = names.iter().enumerate().map(|(index, name)| match index == position {
            true => (*name, fails_after(1, FailureKind::ConnectionLost)),
            false => (*name, succeeds_after(100)),
        });
        let outcomes = simulate_routing(&shared_by(&names, 300, retry(4)), agents.collect());
        let living: Vec<AgentShare> = names
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != position)
            .map(|(_, name)| outcomes.of(name))
            .collect();
        assert_eq!(outcomes.status, RunStatus::Succeeded);
        assert!(is_even(living[0].completed, living[1].completed), "{:?}", outcomes.shares);
        assert!(outcomes.of(names[position]).failed <= 15, "{:?}", outcomes.shares);
        // 300 tasks of 100 ms with a concurrency of eight take 3.8 s.
        assert!(outcomes.duration_ms <= 4_500, "{} ms", outcomes.duration_ms);
    }
}

#[test]
fn failed_task_moves_to_equal_with_capacity() {
    let any = |id: &str| Task {
        retry: Retry { max_attempts: 2, backoff: Backoff { jitter: 0.0, ..Backoff::default() }, when: None },
        ..with_routes(vec![route("a", 0), route("b", 0), route("c", 0)], task(id, &[]))
    };
    let mut plan = (*plan(["s", "t", "u"].map(any).to_vec())).clone();
    plan.agents.values_mut().for_each(|agent| agent.max_concurrency = 1);
    let mut driver = Driver::connected(&Arc::new(plan));
    let calls = driver.drain_calls();
    let on = |agent: &str| {
        let (attempt, _) = calls.iter().find(|(_, called)| called.as_str() == agent).expect("a call").clone();
        attempt.task
    };
    // All agents are busy when `a` fails. Later `b` has capacity while `a` is still busy.
    let (failed, done) = (on("a"), on("b"));
    driver.fail(failed.as_str(), 1, FailureKind::ToolError);
    let scheduled = driver.records.iter().find_map(|record| match &record.event {
        Event::RetryScheduled { agent, .. } => Some(agent.clone()),
        _ => None,
    });
    assert_eq!(scheduled, Some(None), "no agent is promised while several would do");
    driver.end(done.as_str(), 1, Ok(text("x")));
    driver.sleep();
    assert_eq!(driver.drain_call_names(), [format!("{failed}#2@b")]);
}

#[test]
fn failing_agent_gets_few_calls() {
    for kind in [
        FailureKind::UnknownTool,
        FailureKind::Unauthorized,
        FailureKind::NotSent,
        FailureKind::SessionLost,
        FailureKind::ToolError,
        FailureKind::RateLimited,
        FailureKind::InvalidResult,
    ] {
        let agents = vec![("w1", succeeds_after(60)), ("w2", fails_after(1, kind)), ("w3", succeeds_after(60))];
        let outcomes = simulate_routing(&shared_by(&["w1", "w2", "w3"], 1_000, retry(2)), agents);
        assert_eq!(outcomes.status, RunStatus::Succeeded, "{kind:?}");
        let [first, bad, last] = ["w1", "w2", "w3"].map(|name| outcomes.of(name));
        assert!(bad.failed <= 20, "{kind:?}: {:?}", outcomes.shares);
        assert!(is_even(first.completed, last.completed), "{kind:?}: {:?}", outcomes.shares);
    }
}

#[test]
fn flapping_agent_does_not_slow_the_run() {
    for (up, down) in [(1_000, 400), (500, 500), (400, 300), (3_000, 3_000)] {
        let names = ["w1", "w2", "w3"];
        let without = simulate_routing(
            &shared_by(&["w1", "w3"], 1_000, retry(4)),
            vec![("w1", succeeds_after(60)), ("w3", succeeds_after(60))],
        );
        let agents = vec![("w1", succeeds_after(60)), ("w2", flaps(up, down, 60)), ("w3", succeeds_after(60))];
        let outcomes = simulate_routing(&shared_by(&names, 1_000, retry(4)), agents);
        let [first, flapping, last] = names.map(|name| outcomes.of(name));
        assert_eq!(outcomes.status, RunStatus::Succeeded);
        assert!(
            outcomes.duration_ms <= without.duration_ms,
            "{} ms with it, {} ms without it",
            outcomes.duration_ms,
            without.duration_ms
        );
        assert!(flapping.failed < flapping.completed, "{up}/{down}: {:?}", outcomes.shares);
        assert!(flapping.completed > 100, "it is used again: {:?}", outcomes.shares);
        assert!(is_even(first.completed, last.completed), "{up}/{down}: {:?}", outcomes.shares);
    }
}

/// Returns the maximum number of failures of an agent beyond its completed attempts, in a run of a thousand tasks: the
/// attempts in progress before the first failure, and one for each cooldown. Each cooldown is twice as long as the one
/// before. An agent that fails at random with a probability of one half fails as often as it completes, whichever tasks
/// it gets, so some failures have to be allowed.
fn allowance(max_concurrency: usize) -> usize {
    max_concurrency + 12
}

#[test]
fn an_agent_that_fails_draws_no_more_tasks_than_it_completes() {
    for (max_concurrency, percent) in [1, 4, 16].into_iter().flat_map(|limit| [10, 40, 50, 60, 90].map(|p| (limit, p)))
    {
        for (seed, slow) in [(7, 1), (8, 90), (9, 1), (10, 90)] {
            let mut dice = crate::engine::tests::random::simulation::seeded_choices(seed);
            let unlucky: Behavior = Box::new(move |_| match dice(100) < percent {
                true => (slow, Err(FailureKind::ToolError)),
                false => (60, Ok(())),
            });
            let agents = vec![("w1", succeeds_after(60)), ("w2", unlucky), ("w3", succeeds_after(60))];
            let mut plan = (*shared_by(&["w1", "w2", "w3"], 1_000, retry(4))).clone();
            plan.agents.values_mut().for_each(|agent| agent.max_concurrency = max_concurrency);
            let outcomes = simulate_routing(&Arc::new(plan), agents);
            let share = outcomes.of("w2");
            assert_eq!(outcomes.status, RunStatus::Succeeded);
            let max_failed = share.completed + allowance(max_concurrency);
            assert!(share.failed <= max_failed, "{percent} % of {max_concurrency} at once: {:?}", outcomes.shares);
            assert!(percent > 10 || share.completed > 100, "it is used: {:?}", outcomes.shares);
        }
    }
}

#[test]
fn agent_with_simultaneous_failures_recovers_gradually() {
    // The agent works for a while and then loses all attempts in progress, at different intervals.
    for up in [70, 130, 250, 500, 2_000] {
        for max_concurrency in [4, 16, 64] {
            let crashes: Behavior = Box::new(move |now| match up - now % up {
                remaining if remaining > 60 => (60, Ok(())),
                remaining => (remaining, Err(FailureKind::ConnectionLost)),
            });
            let agents = vec![("w1", succeeds_after(60)), ("w2", crashes), ("w3", succeeds_after(60))];
            let mut plan = (*shared_by(&["w1", "w2", "w3"], 3_000, retry(20))).clone();
            plan.agents.values_mut().for_each(|agent| agent.max_concurrency = max_concurrency);
            plan.max_parallel = 3 * max_concurrency;
            let outcomes = simulate_routing(&Arc::new(plan), agents);
            let share = outcomes.of("w2");
            assert_eq!(outcomes.status, RunStatus::Succeeded);
            let max_failed = share.completed + allowance(max_concurrency);
            assert!(share.failed <= max_failed, "{up} ms, {max_concurrency} at once: {:?}", outcomes.shares);
        }
    }
}

#[test]
fn slow_agent_does_not_block_others() {
    let agents = vec![("w1", succeeds_after(50)), ("w2", succeeds_after(1_000)), ("w3", succeeds_after(50))];
    let outcomes = simulate_routing(&shared_by(&["w1", "w2", "w3"], 600, retry(1)), agents);
    let [first, slow, last] = ["w1", "w2", "w3"].map(|name| outcomes.of(name));
    assert!(slow.completed <= 20 && slow.completed >= 8, "{:?}", outcomes.shares);
    assert!(is_even(first.completed, last.completed), "{:?}", outcomes.shares);
    assert!(outcomes.duration_ms <= 5_000, "{} ms", outcomes.duration_ms);
}

#[test]
fn single_failure_idles_agent_briefly() {
    // The second attempt on `w2` works; its equals need a minute for each task.
    let mut first = true;
    let fails_once: Behavior =
        Box::new(
            move |_| if std::mem::take(&mut first) { (1, Err(FailureKind::ConnectionLost)) } else { (10, Ok(())) },
        );
    let agents = vec![("w1", succeeds_after(60_000)), ("w2", fails_once), ("w3", succeeds_after(60_000))];
    let outcomes = simulate_routing(&shared_by(&["w1", "w2", "w3"], 100, retry(4)), agents);
    assert_eq!(outcomes.of("w2"), AgentShare { completed: 92, failed: 1 });
    assert_eq!(outcomes.duration_ms, 60_000);
}

#[test]
fn sequential_tasks_are_shared() {
    let mut plan = (*shared_by(&["w1", "w2", "w3"], 100, retry(4))).clone();
    plan.max_parallel = 1;
    let agents =
        vec![("w1", succeeds_after(10)), ("w2", fails_after(1, FailureKind::NotSent)), ("w3", succeeds_after(10))];
    let outcomes = simulate_routing(&Arc::new(plan), agents);
    assert!(is_even(outcomes.of("w1").completed, outcomes.of("w3").completed), "{:?}", outcomes.shares);
    assert!(outcomes.of("w2").failed <= 10, "{:?}", outcomes.shares);
}

#[test]
fn failing_agents_fail_tasks_after_max_attempts() {
    let failing = || fails_after(1, FailureKind::ConnectionLost);
    let agents = vec![("w1", failing()), ("w2", failing()), ("w3", failing())];
    let outcomes = simulate_routing(&shared_by(&["w1", "w2", "w3"], 50, retry(4)), agents);
    assert_eq!((outcomes.status, outcomes.max_attempts), (RunStatus::Partial, 12));
    assert_eq!(outcomes.shares.values().map(|share| share.failed).sum::<usize>(), 600);
}

#[test]
fn faults_do_not_reduce_long_run_throughput() {
    let mut dice = crate::engine::tests::random::simulation::seeded_choices(11);
    let mut faulty = move |up: u64, down: u64| -> Behavior {
        let mut dice = crate::engine::tests::random::simulation::seeded_choices(dice(usize::MAX) as u64);
        Box::new(move |now| match (now % (up + down) >= up, dice(100)) {
            (true, _) => (1, Err(FailureKind::NotSent)),
            (_, 0..5) => (5, Err(FailureKind::ToolError)),
            (_, 5) => (300, Err(FailureKind::IdleTimeout)),
            _ => (10 + dice(20) as u64, Ok(())),
        })
    };
    let names = ["s1", "s2", "s3", "s4", "s5", "s6"];
    let agents = names.iter().zip([700, 1_100, 1_300, 3_000, 5_000, 1_000_000]);
    let agents = agents.map(|(name, up)| (*name, faulty(up, up / 3))).collect();
    let mut plan = (*shared_by(&names, 6_000, retry(3))).clone();
    plan.max_parallel = 24;
    let outcomes = simulate_routing(&Arc::new(plan), agents);
    // The run is divided into ten equal periods, and none completes far fewer tasks than the mean.
    let mut tenths = [0_usize; 10];
    for end in &outcomes.end_times_ms {
        tenths[usize::try_from(end * 10 / (outcomes.duration_ms + 1)).expect("below ten")] += 1;
    }
    let mean = outcomes.end_times_ms.len() / 10;
    assert!(tenths.iter().take(9).all(|ended| *ended * 2 >= mean), "{tenths:?} in {} ms", outcomes.duration_ms);
    for (name, share) in &outcomes.shares {
        assert!(share.failed * 2 < share.completed, "{name}: {share:?}");
    }
}

proptest! {
    #![proptest_config(schedules("mixtures of agents", 40))]

    #[test]
    fn one_working_agent_completes_all_tasks(
        kinds in prop::collection::vec((0_u8..5, 1_u64..400), 1..5),
        position in 0_usize..5,
        items in 1_usize..120,
        max_parallel in 1_usize..30,
    ) {
        let names = ["w0", "w1", "w2", "w3", "w4"];
        let count = kinds.len() + 1;
        let mut behaviors: Vec<Behavior> = kinds
            .iter()
            .map(|&(kind, millis)| match kind {
                0 => succeeds_after(millis),
                1 => fails_after(millis, FailureKind::ConnectionLost),
                2 => fails_after(1, FailureKind::ToolError),
                3 => flaps(millis * 3, millis, 20),
                _ => fails_after(millis, FailureKind::UnknownTool),
            })
            .collect();
        behaviors.insert(position % count, succeeds_after(50));
        let mut plan = (*shared_by(&names[..count], items, retry(3))).clone();
        plan.max_parallel = max_parallel;
        let outcomes = simulate_routing(&Arc::new(plan), names.into_iter().zip(behaviors).collect());
        prop_assert_eq!(outcomes.status, RunStatus::Succeeded);
        prop_assert_eq!(outcomes.end_times_ms.len(), items);
        let failing = names.iter().enumerate().filter(|(index, _)| *index < count).map(|(_, name)| outcomes.of(name));
        for share in failing.filter(|share| share.completed == 0) {
            prop_assert!(share.failed <= items / 8 + 16, "{:?}", outcomes.shares);
        }
    }
}
