//! Tests of killed processes: at any event, with calls that survive and calls that do not.

use crate::engine::tests::random::invariants::check_invariants;
use crate::engine::tests::random::plans::{random_plan, random_task};
use crate::engine::tests::random::simulation::{PendingEffect, complete_effect, seeded_choices, simulate};
use crate::engine::tests::*;
use crate::model::{AmbiguityResolution, Elicitation, Form, Origin, QuestionId, RequestId};

impl Driver {
    /// Resumes the run in another process that finds the first `events` events and the checkpoints of some calls.
    pub(crate) fn restart_after(&self, events: usize, has_checkpoint: &dyn Fn(&AttemptId) -> bool) -> Self {
        let records = self.records[..events].to_vec();
        let run = Run::fold(&records).expect("a history");
        let last_event_at = records.last().expect("a first event").at;
        let now = self.now.after(Duration::from_secs(60));
        let checkpoints = run.in_flight().filter(has_checkpoint).map(|attempt| (attempt, json!({}))).collect();
        let resumption = Resumption { run, last_event_at, checkpoints, accepts_changes: false, inputs: Vec::new() };
        let (run, step) = Run::resume(resumption, now);
        let mut driver = Self { run, records, commands: Vec::new(), now };
        driver.apply_step(step);
        driver
    }

    pub(crate) fn restart(&self) -> Self {
        self.restart_after(self.records.len(), &|_| false)
    }

    fn drain_reattached(&mut self) -> Vec<String> {
        self.drain_commands(|order| match order {
            Command::Reattach { call, .. } => Some(call.attempt.to_string()),
            _ => None,
        })
    }

    pub(crate) fn questions(&mut self) -> Vec<Arc<crate::model::Question>> {
        self.drain_commands(|order| match order {
            Command::AskPerson { question } => Some(Arc::clone(question)),
            _ => None,
        })
    }

    fn agent_of(&self, attempt: &AttemptId) -> AgentId {
        let agent = self.records.iter().find_map(|record| match &record.event {
            Event::AttemptStarted { attempt: started, agent, .. } if started == attempt => Some(agent.clone()),
            _ => None,
        });
        agent.expect("it was started")
    }

    pub(crate) fn resolve_ambiguity(&mut self, question: &QuestionId, settlement: AmbiguityResolution) {
        let answer = Answer::Accept { content: Some(json!({"outcome": settlement})) };
        self.send_input(Input::QuestionAnswered { question: question.clone(), answer, by: "p".into() });
    }
}

fn with_effect(effect: Effect, task: Task) -> Task {
    Task { effect: Some(effect), ..task }
}

#[test]
fn repeated_call_does_not_count_as_attempt() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::Idempotent, task("t", &[]))]));
    for number in 1..5 {
        assert_eq!(driver.drain_call_names(), [format!("t#{number}@a")]);
        driver = driver.restart();
        driver.connect_all();
    }
    driver.end("t", 5, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn at_most_once_call_asks_a_person_after_crash() {
    let begin = || {
        let mut driver =
            Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[])), task("u", &["t"])]));
        assert_eq!(driver.drain_call_names(), ["t#1@a"]);
        let mut driver = driver.restart();
        let question = driver.questions().pop().expect("a question");
        assert_eq!(question.asker, Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } });
        assert_eq!(driver.drain_call_names(), [""; 0], "nothing is called before the answer");
        (driver, question)
    };
    let (mut driver, question) = begin();
    driver.resolve_ambiguity(&question.id, AmbiguityResolution::Repeat);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);

    let (mut driver, question) = begin();
    driver.resolve_ambiguity(&question.id, AmbiguityResolution::Done);
    driver.connect_all();
    assert_eq!(driver.outcome("t"), Some(Outcome::Succeeded(Arc::new(ToolOutput::default()))));
    assert_eq!(driver.drain_call_names(), ["u#1@a"]);

    let (mut driver, question) = begin();
    driver.resolve_ambiguity(&question.id, AmbiguityResolution::Failed);
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")));

    let (mut driver, question) = begin();
    driver.send_input(Input::QuestionDeferred { question: question.id.clone(), reason: "no person".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
    let mut driver = driver.restart();
    assert_eq!(driver.questions(), [question], "a paused run asks again when it is resumed");
}

#[test]
fn call_with_checkpoint_is_reattached() {
    let tasks = vec![with_effect(Effect::AtMostOnce, task("t", &[])), task("u", &[])];
    let mut driver = Driver::connected(&plan(tasks));
    assert_eq!(driver.drain_call_names(), ["t#1@a", "u#1@a"]);
    let has_checkpoint = |attempt: &AttemptId| attempt.task.as_str() == "t";
    let mut driver = driver.restart_after(driver.records.len(), &has_checkpoint);
    assert_eq!(driver.drain_reattached(), ["t#1"]);
    assert_eq!(driver.questions().len(), 1, "`u` has no note");
    // A rejected request says nothing about a call that was made long ago.
    driver.fail("t", 1, FailureKind::AgentUnavailable);
    driver.connect_all();
    assert_eq!(driver.drain_call_names(), [""; 0]);
    let asked = driver.questions();
    assert_eq!(
        asked.iter().map(|question| &question.asker).collect::<Vec<_>>(),
        [&Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } }]
    );
}

#[test]
fn repeated_question_gets_earlier_answer() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.commands.clear();
    let attempt = AttemptId { task: "t".into(), number: 1 };
    let origin = |key: &str| Origin { agent: "a".into(), attempt: Some(attempt.clone()), key: Some(key.to_owned()) };
    let elicitation = || Elicitation { message: "sure?".into(), form: Form::Approval };
    let ask = |driver: &mut Driver, request: &str, key: &str| {
        driver.send_input(Input::ElicitationRequested {
            request: request.into(),
            origin: origin(key),
            elicitation: elicitation(),
        });
    };
    ask(&mut driver, "a/1", "first");
    ask(&mut driver, "a/2", "second");
    driver.commands.clear();
    let yes = Answer::Accept { content: None };
    driver.send_input(Input::QuestionAnswered { question: "q1".into(), answer: yes.clone(), by: "p".into() });
    let chat = Arc::new(ChatRequest { max_tokens: 10, ..ChatRequest::default() });
    driver.send_input(Input::SamplingRequested {
        request: "a/3".into(),
        origin: SamplingOrigin::Agent(origin("third")),
        chat: Arc::clone(&chat),
    });
    driver.send_input(Input::SamplingFinished { request: "a/3".into(), result: reply_text("hello") });

    let mut driver = driver.restart_after(driver.records.len(), &|_| true);
    driver.commands.clear();
    ask(&mut driver, "a/10", "first");
    assert_eq!(driver.commands, [Command::AnswerElicitation { request: "a/10".into(), answer: yes }]);
    driver.commands.clear();
    ask(&mut driver, "a/11", "second");
    assert_eq!(driver.questions().iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["q2"]);
    driver.send_input(Input::QuestionAnswered { question: "q2".into(), answer: Answer::Decline, by: "p".into() });
    assert_eq!(driver.commands, [Command::AnswerElicitation { request: "a/11".into(), answer: Answer::Decline }]);
    driver.commands.clear();
    driver.send_input(Input::SamplingRequested {
        request: "a/12".into(),
        origin: SamplingOrigin::Agent(origin("third")),
        chat,
    });
    assert_eq!(driver.commands, [Command::AnswerSampling { request: "a/12".into(), result: reply_text("hello") }]);
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn questions_of_interrupted_calls_are_closed() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::ReadOnly, task("t", &[]))]));
    let attempt = Some(AttemptId { task: "t".into(), number: 1 });
    driver.send_input(Input::ElicitationRequested {
        request: RequestId::from("a/1"),
        origin: Origin { agent: "a".into(), attempt, key: None },
        elicitation: Elicitation { message: "sure?".into(), form: Form::Approval },
    });
    let mut driver = driver.restart();
    assert_eq!(driver.questions(), []);
    let closed = driver.records.iter().any(|record| {
        matches!(&record.event, Event::QuestionAnswered { answer: Answer::Cancel, by, .. } if by.starts_with("no one"))
    });
    assert!(closed);
}

#[test]
fn unrepeated_question_is_closed_with_its_call() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::AtMostOnce, task("t", &[]))]));
    let attempt = AttemptId { task: "t".into(), number: 1 };
    driver.send_input(Input::ElicitationRequested {
        request: RequestId::from("a/1"),
        origin: Origin { agent: "a".into(), attempt: Some(attempt), key: Some("first".to_owned()) },
        elicitation: Elicitation { message: "sure?".into(), form: Form::Approval },
    });
    let mut driver = driver.restart_after(driver.records.len(), &|_| true);
    driver.fail("t", 1, FailureKind::Interrupted);
    let asked = driver.questions();
    assert_eq!(asked.iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["q2"]);
    driver.send_input(Input::QuestionDeferred { question: "q2".into(), reason: "no person".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
}

#[test]
fn downtime_is_not_charged() {
    let mut short = (*plan(vec![with_effect(Effect::ReadOnly, task("t", &[]))])).clone();
    short.budget.time = Some(HumanDuration(Duration::from_secs(10)));
    let driver = Driver::connected(&Arc::new(short));
    let remaining = driver.run.next_wakeup().expect("a deadline").since(driver.now);
    let driver = driver.restart();
    let deadline = driver.run.deadline.expect("a deadline");
    assert_eq!((remaining, deadline.since(driver.now)), (Duration::from_secs(10), Duration::from_secs(10)));
}

#[test]
fn lost_reply_stays_charged_and_is_repeated() {
    let mut driver = Driver::start(&plan(vec![text_prompt(prompt("p", &[], None))]));
    let asked = |driver: &mut Driver| {
        driver.drain_commands(|order| match order {
            Command::RequestModel { attempt, chat } => Some((attempt.clone(), chat.clone())),
            _ => None,
        })
    };
    let before = asked(&mut driver);
    let mut driver = driver.restart();
    assert_eq!(asked(&mut driver), before);
    let mut ledger = driver.run.ledger.clone();
    let driver = driver.restart();
    assert_ne!(driver.run.ledger, ledger, "each lost reply may have used its reservation");
    ledger = driver.run.ledger.clone();
    assert_eq!(Run::fold(&driver.records).expect("a history").ledger, ledger);
}

#[test]
fn changed_tools_pause_the_run() {
    let mut driver = Driver::connected(&plan(vec![with_effect(Effect::ReadOnly, task("t", &[]))])).restart();
    let mut other = (*info()).clone();
    other.tools[0].input_schema.insert("type".into(), "object".into());
    let other = Arc::new(other);
    driver.send_input(Input::AgentConnected { agent: "a".into(), info: Arc::clone(&other) });
    let cause = EndCause::AgentChanged { agent: "a".into(), tools: vec!["work".to_owned()] };
    assert_eq!(driver.ended(), Some((RunStatus::Paused, Some(cause))));

    let resumption = Resumption {
        run: Run::fold(&driver.records).expect("a history"),
        last_event_at: driver.now,
        checkpoints: HashMap::new(),
        accepts_changes: true,
        inputs: Vec::new(),
    };
    let (run, step) = Run::resume(resumption, driver.now);
    let mut driver = Driver { run, records: driver.records, commands: Vec::new(), now: driver.now };
    driver.apply_step(step);
    driver.send_input(Input::AgentConnected { agent: "a".into(), info: other });
    assert_eq!(driver.drain_call_names(), ["t#2@a"]);
}

/// The calls as the agents know them, across all processes of the host.
#[derive(Default)]
struct AgentModel {
    /// Calls that reached an agent and whose end is not in the journal.
    running_calls: HashSet<AttemptId>,
    /// Tasks for which it is unknown whether they took effect.
    ambiguous_tasks: HashSet<TaskId>,
}

impl AgentModel {
    /// Checks a command and starts its effect.
    fn execute(&mut self, command: Command, driver: &Driver) -> Result<Option<PendingEffect>, TestCaseError> {
        Ok(Some(match command {
            Command::ConnectAgent { agent } => PendingEffect::Connect(agent),
            Command::StartAttempt(call) => {
                let task = &call.attempt.task;
                let graph = &driver.run.graph;
                let planned = &graph[graph.node_index(task.as_str()).expect("an order for a task of the run")].task;
                prop_assert!(driver.outcome(task.as_str()).is_none(), "`{task}` is run again after its end");
                let is_at_most_once = call.operation == Operation::CallTool
                    && planned.effect.unwrap_or(Effect::AtMostOnce) == Effect::AtMostOnce;
                prop_assert!(!is_at_most_once || !self.ambiguous_tasks.contains(task), "`{task}` may be done twice");
                prop_assert!(self.running_calls.insert(call.attempt.clone()), "{} was made twice", call.attempt);
                PendingEffect::Call(call.attempt)
            }
            Command::Reattach { call, .. } => {
                prop_assert!(self.running_calls.contains(&call.attempt), "{} was never made", call.attempt);
                PendingEffect::Call(call.attempt)
            }
            Command::RequestModel { attempt, .. } => PendingEffect::ModelRequest(attempt),
            Command::Replan(request) => PendingEffect::Replan(request),
            Command::AskPerson { question } => PendingEffect::Question(question.id.clone()),
            Command::Watch(watch) => PendingEffect::Watch(watch.task, watch.baseline.is_some()),
            _ => return Ok(None),
        }))
    }

    /// Updates the model from records that have become durable.
    fn apply_records(&mut self, records: &[Record]) {
        for record in records {
            if let Event::AttemptSucceeded { attempt, .. } | Event::AttemptFailed { attempt, .. } = &record.event {
                self.running_calls.remove(attempt);
            }
            if let Event::AttemptFailed { attempt, failure } = &record.event
                && failure.kind == FailureKind::Interrupted
                && failure.message.contains("was cancelled when")
            {
                self.ambiguous_tasks.insert(attempt.task.clone());
            }
        }
    }
}

/// Drives a plan to its end through killed processes. `choose` decides when they are killed and which calls survive.
fn simulate_with_crashes(
    plan: &Arc<Plan>,
    mut choose: impl FnMut(usize) -> usize,
) -> Result<Vec<Record>, TestCaseError> {
    let mut driver = Driver::start(plan);
    let mut world = AgentModel::default();
    let mut under_way: Vec<PendingEffect> = Vec::new();
    // Calls whose agents have asked a question in this process.
    let mut asking: HashSet<AttemptId> = HashSet::new();
    let mut known = 0;
    let mut kills = 0;
    for request in 0..20_000 {
        let ended = matches!(driver.records.last().map(|record| &record.event), Some(Event::RunEnded { .. }));
        if choose(12) == 0 && kills < 40 {
            kills += 1;
            // The events of the last step may not be durable, and then its commands were not executed.
            let events = known.max(1) + choose(driver.records.len() - known.max(1) + 1);
            world.apply_records(&driver.records[known.min(events)..events]);
            let checkpointed: HashSet<AttemptId> =
                world.running_calls.iter().filter(|_| choose(2) == 0).cloned().collect();
            let interrupted = world.running_calls.iter().filter(|attempt| !checkpointed.contains(*attempt));
            world.ambiguous_tasks.extend(interrupted.map(|attempt| attempt.task.clone()));
            world.running_calls.retain(|attempt| checkpointed.contains(attempt));
            driver = driver.restart_after(events, &|attempt| checkpointed.contains(attempt));
            known = events;
            under_way.clear();
            asking.clear();
            continue;
        }
        world.apply_records(&driver.records[known..]);
        known = driver.records.len();
        let folded = Run::fold(&driver.records).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(folded == driver.run, "fold(events) differs from the live run");
        for order in std::mem::take(&mut driver.commands) {
            under_way.extend(world.execute(order, &driver)?);
        }
        if ended && driver.run.status() == RunStatus::Interrupted {
            driver = driver.restart();
            under_way.clear();
            asking.clear();
            continue;
        }
        if ended {
            return Ok(driver.records);
        }
        if under_way.is_empty() {
            driver.wait_or_signal()?;
            continue;
        }
        if choose(300) == 0 {
            driver.send_input(Input::CancelRequested { by: "p".into() });
        }
        if choose(60) == 0 {
            driver.send_input(Input::InterruptRequested);
            // The input may have ended the run.
            continue;
        }
        let next = under_way.swap_remove(choose(under_way.len()));
        let input = match next {
            PendingEffect::Call(attempt) if choose(3) == 0 && asking.insert(attempt.clone()) => {
                // The agent continues with or without an answer.
                under_way.push(PendingEffect::Call(attempt.clone()));
                let agent = driver.agent_of(&attempt);
                let origin = Origin { agent, attempt: Some(attempt), key: Some("first".to_owned()) };
                let elicitation = Elicitation { message: "sure?".into(), form: Form::Approval };
                let request = RequestId::from(request.to_string());
                Input::ElicitationRequested { request, origin, elicitation }
            }
            PendingEffect::Question(question) if choose(2) == 0 => {
                // The answer repeats ambiguous calls and accepts everything else.
                let entry = driver.run.questions.get(&question).expect("it was asked");
                if let Asker::Host { attempt } = &entry.question.asker {
                    world.ambiguous_tasks.remove(&attempt.task);
                }
                let answer = Answer::Accept { content: Some(json!({"outcome": "repeat"})) };
                Input::QuestionAnswered { question, answer, by: "p".into() }
            }
            other => {
                let (before, input) = complete_effect(other, &mut choose);
                before.into_iter().for_each(|input| driver.send_input(input));
                input
            }
        };
        driver.send_input(input);
    }
    Err(TestCaseError::fail("the run does not end"))
}

proptest! {
    #![proptest_config(schedules("histories with kills", 2_000))]

    #[test]
    fn crashes_lose_no_result_and_double_no_effect(
        sketches in prop::collection::vec(random_task(), 1..12),
        max_parallel in 1_usize..6,
        tokens in prop::option::weighted(0.2, 1_u64..1_000),
        max_replans in 0_u32..4,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget { tokens, ..Budget::default() });
        if max_replans > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { max_replans, consent });
        }
        let records = simulate_with_crashes(&plan, seeded_choices(seed))?;
        check_invariants(&plan, &records)?;
        let json = records.iter().map(|record| serde_json::to_string(record).expect("records are JSON"));
        let parsed: Vec<Record> = json.map(|line| serde_json::from_str(&line).expect("and come back")).collect();
        prop_assert_eq!(parsed, records);
    }
}

proptest! {
    #![proptest_config(schedules("histories cut off after each event", 60))]

    #[test]
    fn run_resumes_after_any_prefix(
        sketches in prop::collection::vec(random_task(), 1..8),
        max_parallel in 1_usize..6,
        max_replans in 0_u32..3,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget::default());
        if max_replans > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { max_replans, consent });
        }
        let mut dice = seeded_choices(seed);
        let records = simulate(&plan, None, &mut dice)?;
        for events in 1..records.len() {
            let has_checkpoint = |attempt: &AttemptId| attempt.number.is_multiple_of(2);
            let complete = Driver {
                run: Run::fold(&records).expect("a history"),
                records: records.clone(),
                commands: Vec::new(),
                now: records[events].at,
            };
            let finished: Vec<TaskId> = records[..events].iter().filter_map(|record| match &record.event {
                Event::AttemptSucceeded { attempt, .. } => Some(attempt.task.clone()),
                Event::TaskEnded { task, .. } => Some(task.clone()),
                _ => None,
            }).collect();
            let mut driver = complete.restart_after(events, &has_checkpoint);
            let mut under_way: Vec<PendingEffect> = Vec::new();
            loop {
                for order in std::mem::take(&mut driver.commands) {
                    match order {
                        Command::ConnectAgent { agent } => under_way.push(PendingEffect::Connect(agent)),
                        Command::StartAttempt(call) => {
                            prop_assert!(!finished.contains(&call.attempt.task), "a finished task is run again");
                            under_way.push(PendingEffect::Call(call.attempt));
                        }
                        Command::Reattach { call, .. } => under_way.push(PendingEffect::Call(call.attempt)),
                        Command::RequestModel { attempt, .. } => under_way.push(PendingEffect::ModelRequest(attempt)),
                        Command::Replan(request) => under_way.push(PendingEffect::Replan(request)),
                        Command::AskPerson { question } => under_way.push(PendingEffect::Question(question.id.clone())),
                        Command::Watch(watch) => {
                            prop_assert!(!finished.contains(&watch.task), "a finished wait begins again");
                            under_way.push(PendingEffect::Watch(watch.task, watch.baseline.is_some()));
                        }
                        _ => {}
                    }
                }
                if driver.run.has_ended() {
                    break;
                }
                match under_way.pop() {
                    Some(next) => {
                        let (before, input) = complete_effect(next, &mut dice);
                        before.into_iter().chain([input]).for_each(|input| driver.send_input(input));
                    }
                    None => driver.wait_or_signal()?,
                }
            }
            check_invariants(&plan, &driver.records)?;
        }
    }
}
