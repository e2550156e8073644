//! Simulations of random plans: effects complete with random results in random order.

use super::invariants::check_invariants;
use super::plans::{random_patch, random_plan, random_task};
use crate::engine::tests::*;

/// An effect in progress.
#[derive(Debug, Clone)]
pub(crate) enum PendingEffect {
    Connect(AgentId),
    Call(AttemptId),
    ModelRequest(AttemptId),
    Question(crate::model::QuestionId),
    /// A watch of a task, and whether the state before a change is known.
    Watch(TaskId, bool),
    Replan(Box<ReplanRequest>),
}

const FAILURE_KINDS: [FailureKind; 8] = [
    FailureKind::ToolError,
    FailureKind::ConnectionLost,
    FailureKind::IdleTimeout,
    FailureKind::SessionLost,
    FailureKind::UnknownTool,
    FailureKind::InvalidResult,
    FailureKind::RateLimited,
    FailureKind::Cancelled,
];

/// Completes an effect. Returns the inputs before its end and the input that ends it, as `choose` decides.
pub(crate) fn complete_effect(effect: PendingEffect, choose: &mut impl FnMut(usize) -> usize) -> (Vec<Input>, Input) {
    let mut before = Vec::new();
    let end = match effect {
        PendingEffect::Connect(agent) if choose(5) == 0 => {
            Input::AgentUnavailable { agent, failure: Failure::new(FailureKind::AgentUnavailable, "down") }
        }
        PendingEffect::Connect(agent) => Input::AgentConnected { agent, info: info() },
        PendingEffect::Question(question) => match choose(4) {
            0 => Input::QuestionDeferred { question, reason: "no person".into() },
            1 => Input::QuestionAnswered { question, answer: Answer::Decline, by: "p".into() },
            2 => Input::RestApproved { question, by: "p".into() },
            _ => {
                let content = (choose(3) == 0).then(|| json!({"changed": true}));
                Input::QuestionAnswered { question, answer: Answer::Accept { content }, by: "p".into() }
            }
        },
        PendingEffect::Watch(task, has_baseline) => {
            if !has_baseline && choose(3) > 0 {
                before.push(Input::WatchBaselineObserved { task: task.clone(), fingerprint: choose(9).to_string() });
            }
            let result = match choose(5) {
                0 => Err(Failure::new(FailureKind::InvalidArguments, "not readable")),
                _ => Ok(text("changed")),
            };
            Input::WatchEnded { task, result }
        }
        PendingEffect::Replan(request) => {
            // A process after a kill numbers its requests differently.
            let sampling = crate::model::RequestId::from(format!("planner/{}/{}", request.number, choose(usize::MAX)));
            let origin = SamplingOrigin::Planner { replan: request.number };
            before.push(Input::SamplingRequested { request: sampling.clone(), origin, chat: Arc::default() });
            before.push(Input::SamplingFinished { request: sampling, result: reply_using(choose(60) as u64) });
            let result = match choose(3) {
                0 => Err(Failure::new(FailureKind::ModelFailed, "nonsense")),
                _ => Ok(Arc::new(random_patch(&request, choose))),
            };
            Input::Replanned { number: request.number, result }
        }
        PendingEffect::ModelRequest(attempt) => {
            let result = match choose(6) {
                0 => Err(ChatError::Endpoint { message: "down".into(), status: None }),
                1 => Err(ChatError::Unsupported { message: "no".into() }),
                2 => Err(ChatError::Unavailable { message: "busy".into(), status: None, retry_after: None }),
                3 => reply_text("done"),
                _ => tool_use_reply(&[("c1", "agent0.work"), ("c2", "agent1.work"), ("c3", "unknown.work")]),
            };
            let usage = Usage { input_tokens: choose(60) as u64, output_tokens: choose(30) as u64 };
            let result = result.map(|reply| ChatReply { usage: Some(usage), cost_usd: Some(0.1), ..reply });
            Input::ModelReplied { attempt, result }
        }
        PendingEffect::Call(attempt) => {
            let result = match choose(2) {
                0 => Err(Failure::new(FAILURE_KINDS[choose(FAILURE_KINDS.len())], "broke")),
                // The result of a prompt of an agent must have messages.
                _ => Ok(prompt_messages("done")),
            };
            Input::AttemptEnded { attempt, result }
        }
    };
    (before, end)
}

/// Returns a deterministic pseudorandom choice function for a seed.
pub(crate) fn seeded_choices(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |sides| {
        // Xorshift (Marsaglia, 2003) is random enough here.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % sides.max(1) as u64) as usize
    }
}

impl Driver {
    /// Sleeps until the next timer, or sends the signal that a task waits for without timers.
    pub(crate) fn wait_or_signal(&mut self) -> Result<(), TestCaseError> {
        if self.run.next_wakeup().is_some() {
            self.sleep();
            return Ok(());
        }
        let before = self.records.len();
        self.send_input(Input::SignalReceived { name: "go".into(), data: json!(1), by: "p".into() });
        let ends = |record: &Record| matches!(record.event, Event::TaskEnded { .. });
        prop_assert!(self.records[before..].iter().any(ends), "nothing is under way and the run has not ended");
        Ok(())
    }
}

/// Drives a plan to its end. `dice` decides every result and every order.
pub(crate) fn simulate(
    plan: &Arc<Plan>,
    planning: Option<&GoalPlanning>,
    mut dice: impl FnMut(usize) -> usize,
) -> Result<Vec<Record>, TestCaseError> {
    let mut driver = Driver::start_planned(plan, planning);
    let mut under_way: Vec<PendingEffect> = Vec::new();
    for _ in 0..20_000 {
        let folded = Run::fold(&driver.records).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(folded == driver.run, "fold(events) differs from the live run");
        for order in std::mem::take(&mut driver.commands) {
            match order {
                Command::ConnectAgent { agent } => under_way.push(PendingEffect::Connect(agent)),
                Command::StartAttempt(call) => under_way.push(PendingEffect::Call(call.attempt)),
                Command::RequestModel { attempt, .. } => under_way.push(PendingEffect::ModelRequest(attempt)),
                Command::AskPerson { question } => under_way.push(PendingEffect::Question(question.id.clone())),
                Command::Replan(request) => under_way.push(PendingEffect::Replan(request)),
                Command::Watch(watch) => under_way.push(PendingEffect::Watch(watch.task, watch.baseline.is_some())),
                Command::EndRun => {
                    let spent = crate::view::run_result(&"r".into(), &driver.records).spent;
                    let tokens = spent.input_tokens + spent.output_tokens;
                    let shown = (spent.llm_calls, spent.tool_calls, tokens, spent.cost_usd);
                    prop_assert_eq!(shown, spent_totals(&driver.run), "what is shown differs from what budgets count");
                    return Ok(driver.records);
                }
                _ => {}
            }
        }
        if under_way.is_empty() {
            driver.wait_or_signal()?;
            continue;
        }
        if dice(200) == 0 {
            driver.send_input(Input::CancelRequested { by: "p".into() });
        }
        let next = under_way.swap_remove(dice(under_way.len()));
        let (before, input) = complete_effect(next.clone(), &mut dice);
        before.into_iter().for_each(|input| driver.send_input(input));
        driver.send_input(input.clone());
        if dice(4) == 0 {
            let before = driver.records.len();
            driver.send_input(input);
            prop_assert_eq!(driver.records.len(), before, "a repeated input changed the run: {:?}", next);
        }
    }
    Err(TestCaseError::fail("the run does not end"))
}

proptest! {
    #![proptest_config(schedules("histories", 1_500))]

    #[test]
    fn random_runs_satisfy_invariants(
        sketches in prop::collection::vec(random_task(), 1..14),
        max_parallel in 1_usize..6,
        tokens in prop::option::weighted(0.2, 1_u64..1_000),
        tool_calls in prop::option::weighted(0.2, 0_u64..12),
        planned in prop::option::weighted(0.3, 0_usize..4),
        max_replans in 0_u32..4,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget { tokens, tool_calls, ..Budget::default() });
        if max_replans > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { max_replans, consent });
        }
        let usage = Usage { input_tokens: 40, output_tokens: 10 };
        let planning = planned.map(|exchanges| GoalPlanning {
            exchanges: vec![PlannerExchange { cost_usd: Some(0.1), ..planning(1, Some(usage)).exchanges.remove(0) }; exchanges],
            discarded_calls: vec![discarded_call(); exchanges % 3],
            ..planning(0, None)
        });
        let records = simulate(&plan, planning.as_ref(), seeded_choices(seed))?;
        check_invariants(&plan, &records)?;
        let json = records.iter().map(|record| serde_json::to_string(record).expect("records are JSON"));
        let parsed: Vec<Record> = json.map(|line| serde_json::from_str(&line).expect("and come back")).collect();
        prop_assert_eq!(parsed, records);
    }
}
