//! Runs whose process is killed: at any event, with calls that outlive it and calls that do not.

use super::{
    rules::check,
    simulation::{Effectful, dice_of, end_of, simulate},
    sketches::{random_plan, sketch},
    *,
};
use crate::{
    engine::Recovery,
    model::{Elicitation, Form, Origin, QuestionId, RequestId, Settlement},
};

impl Driver {
    /// The same run in another process, which finds the first `events` events and these calls.
    pub(super) fn killed_at(&self, events: usize, noted: &dyn Fn(&AttemptId) -> bool) -> Self {
        let records = self.records[..events].to_vec();
        let mut run = Run::fold(&records).expect("a history");
        let last = records.last().expect("a first event").at;
        let now = self.now.after(Duration::from_secs(60));
        let step = run.recover(Recovery { now, last, noted, accepts_changes: false, requests: &[] });
        let mut driver = Self { run, records, orders: Vec::new(), now };
        driver.take(step);
        driver
    }

    pub(super) fn killed(&self) -> Self {
        self.killed_at(self.records.len(), &|_| false)
    }

    fn taken_up(&mut self) -> Vec<String> {
        self.take_orders(|order| match order {
            Command::TakeUp(call) => Some(call.attempt.to_string()),
            _ => None,
        })
    }

    pub(super) fn questions(&mut self) -> Vec<Arc<crate::model::Question>> {
        self.take_orders(|order| match order {
            Command::Ask { question } => Some(Arc::clone(question)),
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

    pub(super) fn settle(&mut self, question: &QuestionId, settlement: Settlement) {
        let answer = Answer::Accept { content: Some(json!({"outcome": settlement})) };
        self.feed(Input::QuestionAnswered { question: question.clone(), answer, by: "p".into() });
    }
}

fn effect(effect: Effect, task: Task) -> Task {
    Task { effect: Some(effect), ..task }
}

#[test]
fn a_call_that_may_be_repeated_is_repeated_without_counting_as_a_try() {
    let mut driver = Driver::connected(&plan(vec![effect(Effect::Idempotent, task("t", &[]))]));
    for number in 1..5 {
        assert_eq!(driver.names(), [format!("t#{number}@a")]);
        driver = driver.killed();
        driver.connect_all();
    }
    driver.end("t", 5, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn of_a_call_that_must_not_be_repeated_a_person_says_what_became_of_it() {
    let begin = || {
        let mut driver = Driver::connected(&plan(vec![effect(Effect::AtMostOnce, task("t", &[])), task("u", &["t"])]));
        assert_eq!(driver.names(), ["t#1@a"]);
        let mut driver = driver.killed();
        let question = driver.questions().pop().expect("a question");
        assert_eq!(question.asker, Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } });
        assert_eq!(driver.names(), [""; 0], "nothing is called before the answer");
        (driver, question)
    };
    let (mut driver, question) = begin();
    driver.settle(&question.id, Settlement::Repeat);
    driver.connect_all();
    assert_eq!(driver.names(), ["t#2@a"]);

    let (mut driver, question) = begin();
    driver.settle(&question.id, Settlement::Done);
    driver.connect_all();
    assert_eq!(driver.outcome("t"), Some(Outcome::Succeeded(Arc::new(ToolOutput::default()))));
    assert_eq!(driver.names(), ["u#1@a"]);

    let (mut driver, question) = begin();
    driver.settle(&question.id, Settlement::Failed);
    let Some(Outcome::Failed(failure)) = driver.outcome("t") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(failure.help.is_some_and(|help| help.contains("effect: idempotent")));

    let (mut driver, question) = begin();
    driver.feed(Input::QuestionLeftOpen { question: question.id.clone(), reason: "nobody".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
    let mut driver = driver.killed();
    assert_eq!(driver.questions(), [question], "a paused run asks again when it is resumed");
}

#[test]
fn a_call_with_a_note_is_taken_up_and_never_made_again() {
    let tasks = vec![effect(Effect::AtMostOnce, task("t", &[])), task("u", &[])];
    let mut driver = Driver::connected(&plan(tasks));
    assert_eq!(driver.names(), ["t#1@a", "u#1@a"]);
    let noted = |attempt: &AttemptId| attempt.task.as_str() == "t";
    let mut driver = driver.killed_at(driver.records.len(), &noted);
    assert_eq!(driver.taken_up(), ["t#1"]);
    assert_eq!(driver.questions().len(), 1, "`u` has no note");
    // What keeps a request from being taken says nothing about a call that was made long ago.
    driver.fail("t", 1, FailureKind::AgentUnavailable);
    driver.connect_all();
    assert_eq!(driver.names(), [""; 0]);
    let asked = driver.questions();
    assert_eq!(
        asked.iter().map(|question| &question.asker).collect::<Vec<_>>(),
        [&Asker::Host { attempt: AttemptId { task: "t".into(), number: 1 } }]
    );
}

#[test]
fn an_agent_that_asks_again_gets_the_answer_that_was_given_or_the_question_that_is_open() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[])]));
    driver.orders.clear();
    let attempt = AttemptId { task: "t".into(), number: 1 };
    let origin = |key: &str| Origin { agent: "a".into(), attempt: Some(attempt.clone()), key: Some(key.to_owned()) };
    let elicitation = || Elicitation { message: "sure?".into(), form: Form::Approval };
    let ask = |driver: &mut Driver, request: &str, key: &str| {
        driver.feed(Input::ElicitationRequested {
            request: request.into(),
            origin: origin(key),
            elicitation: elicitation(),
        });
    };
    ask(&mut driver, "a/1", "first");
    ask(&mut driver, "a/2", "second");
    driver.orders.clear();
    let yes = Answer::Accept { content: None };
    driver.feed(Input::QuestionAnswered { question: "q1".into(), answer: yes.clone(), by: "p".into() });
    let chat = Arc::new(ChatRequest { max_tokens: 10, ..ChatRequest::default() });
    driver.feed(Input::SamplingRequested {
        request: "a/3".into(),
        origin: Sampler::Agent(origin("third")),
        chat: Arc::clone(&chat),
    });
    driver.feed(Input::SamplingEnded { request: "a/3".into(), result: says_text("hello") });

    let mut driver = driver.killed_at(driver.records.len(), &|_| true);
    driver.orders.clear();
    ask(&mut driver, "a/10", "first");
    assert_eq!(driver.orders, [Command::AnswerElicitation { request: "a/10".into(), answer: yes }]);
    driver.orders.clear();
    ask(&mut driver, "a/11", "second");
    assert_eq!(driver.questions().iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["q2"]);
    driver.feed(Input::QuestionAnswered { question: "q2".into(), answer: Answer::Decline, by: "p".into() });
    assert_eq!(driver.orders, [Command::AnswerElicitation { request: "a/11".into(), answer: Answer::Decline }]);
    driver.orders.clear();
    driver.feed(Input::SamplingRequested { request: "a/12".into(), origin: Sampler::Agent(origin("third")), chat });
    assert_eq!(driver.orders, [Command::AnswerSampling { request: "a/12".into(), result: says_text("hello") }]);
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}

#[test]
fn questions_of_agents_whose_calls_are_gone_are_closed() {
    let mut driver = Driver::connected(&plan(vec![effect(Effect::ReadOnly, task("t", &[]))]));
    let attempt = Some(AttemptId { task: "t".into(), number: 1 });
    driver.feed(Input::ElicitationRequested {
        request: RequestId::from("a/1"),
        origin: Origin { agent: "a".into(), attempt, key: None },
        elicitation: Elicitation { message: "sure?".into(), form: Form::Approval },
    });
    let mut driver = driver.killed();
    assert_eq!(driver.questions(), []);
    let closed = driver.records.iter().any(|record| {
        matches!(&record.event, Event::QuestionAnswered { answer: Answer::Cancel, by, .. } if by.starts_with("nobody"))
    });
    assert!(closed);
}

#[test]
fn a_question_that_was_not_asked_again_before_its_call_ended_keeps_no_run_waiting() {
    let mut driver = Driver::connected(&plan(vec![effect(Effect::AtMostOnce, task("t", &[]))]));
    let attempt = AttemptId { task: "t".into(), number: 1 };
    driver.feed(Input::ElicitationRequested {
        request: RequestId::from("a/1"),
        origin: Origin { agent: "a".into(), attempt: Some(attempt), key: Some("first".to_owned()) },
        elicitation: Elicitation { message: "sure?".into(), form: Form::Approval },
    });
    let mut driver = driver.killed_at(driver.records.len(), &|_| true);
    driver.fail("t", 1, FailureKind::Interrupted);
    let asked = driver.questions();
    assert_eq!(asked.iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["q2"]);
    driver.feed(Input::QuestionLeftOpen { question: "q2".into(), reason: "nobody".into() });
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
}

#[test]
fn the_time_that_nobody_drove_a_run_is_not_charged_to_its_budget() {
    let mut short = (*plan(vec![effect(Effect::ReadOnly, task("t", &[]))])).clone();
    short.budget.time = Some(Span(Duration::from_secs(10)));
    let driver = Driver::connected(&Arc::new(short));
    let left = driver.run.next_wake().expect("a deadline").since(driver.now);
    let driver = driver.killed();
    let deadline = driver.run.deadline.expect("a deadline");
    assert_eq!((left, deadline.since(driver.now)), (Duration::from_secs(10), Duration::from_secs(10)));
}

#[test]
fn tokens_of_a_reply_that_was_lost_stay_spent_and_the_prompt_is_put_again() {
    let mut driver = Driver::start(&plan(vec![plain(prompt("p", &[], None))]));
    let asked = |driver: &mut Driver| {
        driver.take_orders(|order| match order {
            Command::AskModel { attempt, chat } => Some((attempt.clone(), chat.clone())),
            _ => None,
        })
    };
    let before = asked(&mut driver);
    let mut driver = driver.killed();
    assert_eq!(asked(&mut driver), before);
    let mut once = driver.run.accounts.clone();
    let driver = driver.killed();
    assert_ne!(driver.run.accounts, once, "each lost reply may have used its reservation");
    once = driver.run.accounts.clone();
    assert_eq!(Run::fold(&driver.records).expect("a history").accounts, once);
}

#[test]
fn an_agent_whose_tools_changed_pauses_the_run_until_a_person_accepts_that() {
    let mut driver = Driver::connected(&plan(vec![effect(Effect::ReadOnly, task("t", &[]))])).killed();
    let mut other = (*info()).clone();
    other.tools[0].input_schema.insert("type".into(), "object".into());
    let other = Arc::new(other);
    driver.feed(Input::AgentConnected { agent: "a".into(), info: Arc::clone(&other) });
    let cause = EndCause::AgentChanged { agent: "a".into(), tools: vec!["work".to_owned()] };
    assert_eq!(driver.ended(), Some((RunStatus::Paused, Some(cause))));

    let mut run = Run::fold(&driver.records).expect("a history");
    let recovery =
        Recovery { now: driver.now, last: driver.now, noted: &|_| false, accepts_changes: true, requests: &[] };
    let step = run.recover(recovery);
    let mut driver = Driver { run, records: driver.records, orders: Vec::new(), now: driver.now };
    driver.take(step);
    driver.feed(Input::AgentConnected { agent: "a".into(), info: other });
    assert_eq!(driver.names(), ["t#2@a"]);
}

/// What agents know of calls, whoever makes them.
#[derive(Default)]
struct World {
    /// Calls that reached an agent and of whose end the journal does not know.
    open: HashSet<AttemptId>,
    /// Tasks of which nobody knows whether they took effect.
    unsure: HashSet<TaskId>,
}

impl World {
    /// Checks an order and does it.
    fn carry_out(&mut self, order: Command, driver: &Driver) -> Result<Option<Effectful>, TestCaseError> {
        Ok(Some(match order {
            Command::ConnectAgent { agent } => Effectful::Connect(agent),
            Command::StartAttempt(call) => {
                let task = &call.attempt.task;
                let graph = &driver.run.graph;
                let planned = &graph[graph.find(task.as_str()).expect("an order for a task of the run")].task;
                prop_assert!(driver.outcome(task.as_str()).is_none(), "`{task}` is run again after its end");
                let once = planned.effect.unwrap_or(Effect::AtMostOnce) == Effect::AtMostOnce;
                prop_assert!(!once || !self.unsure.contains(task), "`{task}` may be done twice");
                prop_assert!(self.open.insert(call.attempt.clone()), "{} was made twice", call.attempt);
                Effectful::Call(call.attempt)
            }
            Command::TakeUp(call) => {
                prop_assert!(self.open.contains(&call.attempt), "{} was never made", call.attempt);
                Effectful::Call(call.attempt)
            }
            Command::AskModel { attempt, .. } => Effectful::Turn(attempt),
            Command::Replan(request) => Effectful::Replan(request),
            Command::Ask { question } => Effectful::Ask(question.id.clone()),
            _ => return Ok(None),
        }))
    }

    /// Learns what has become durable.
    fn learn(&mut self, records: &[Record]) {
        for record in records {
            if let Event::AttemptSucceeded { attempt, .. } | Event::AttemptFailed { attempt, .. } = &record.event {
                self.open.remove(attempt);
            }
            if let Event::AttemptFailed { attempt, failure } = &record.event
                && failure.kind == FailureKind::Interrupted
                && failure.message.contains("was cancelled when")
            {
                self.unsure.insert(attempt.task.clone());
            }
        }
    }
}

/// Drives a plan to its end through processes that are killed; `dice` decides when, and what outlives them.
fn simulate_with_kills(plan: &Arc<Plan>, mut dice: impl FnMut(usize) -> usize) -> Result<Vec<Record>, TestCaseError> {
    let mut driver = Driver::start(plan);
    let mut world = World::default();
    let mut under_way: Vec<Effectful> = Vec::new();
    // Calls whose agents have asked a person something of this process.
    let mut asking: HashSet<AttemptId> = HashSet::new();
    let mut known = 0;
    let mut kills = 0;
    for request in 0..20_000 {
        let ended = matches!(driver.records.last().map(|record| &record.event), Some(Event::RunEnded { .. }));
        if dice(12) == 0 && kills < 40 {
            kills += 1;
            // What was decided in the last step may not have become durable, and was not carried out then.
            let events = known.max(1) + dice(driver.records.len() - known.max(1) + 1);
            world.learn(&driver.records[known.min(events)..events]);
            let noted: HashSet<AttemptId> = world.open.iter().filter(|_| dice(2) == 0).cloned().collect();
            let lost = world.open.iter().filter(|attempt| !noted.contains(*attempt));
            world.unsure.extend(lost.map(|attempt| attempt.task.clone()));
            world.open.retain(|attempt| noted.contains(attempt));
            driver = driver.killed_at(events, &|attempt| noted.contains(attempt));
            known = events;
            under_way.clear();
            asking.clear();
            continue;
        }
        world.learn(&driver.records[known..]);
        known = driver.records.len();
        let folded = Run::fold(&driver.records).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(folded == driver.run, "fold(events) differs from the live run");
        for order in std::mem::take(&mut driver.orders) {
            under_way.extend(world.carry_out(order, &driver)?);
        }
        if ended && driver.run.status() == RunStatus::Interrupted {
            driver = driver.killed();
            under_way.clear();
            asking.clear();
            continue;
        }
        if ended {
            return Ok(driver.records);
        }
        if under_way.is_empty() {
            prop_assert!(driver.run.next_wake().is_some(), "nothing is under way and the run has not ended");
            driver.sleep();
            continue;
        }
        if dice(300) == 0 {
            driver.feed(Input::CancelRequested { by: "p".into() });
        }
        if dice(60) == 0 {
            driver.feed(Input::InterruptRequested);
            // It may have ended the run.
            continue;
        }
        let next = under_way.swap_remove(dice(under_way.len()));
        let input = match next {
            Effectful::Call(attempt) if dice(3) == 0 && asking.insert(attempt.clone()) => {
                // The agent goes on whether it is answered or not.
                under_way.push(Effectful::Call(attempt.clone()));
                let agent = driver.agent_of(&attempt);
                let origin = Origin { agent, attempt: Some(attempt), key: Some("first".to_owned()) };
                let elicitation = Elicitation { message: "sure?".into(), form: Form::Approval };
                let request = RequestId::from(request.to_string());
                Input::ElicitationRequested { request, origin, elicitation }
            }
            Effectful::Ask(question) if dice(2) == 0 => {
                // What a person says of a call that may have taken effect; a plain yes to anything else.
                let entry = driver.run.questions.get(&question).expect("it was asked");
                if let Asker::Host { attempt } = &entry.question.asker {
                    world.unsure.remove(&attempt.task);
                }
                let answer = Answer::Accept { content: Some(json!({"outcome": "repeat"})) };
                Input::QuestionAnswered { question, answer, by: "p".into() }
            }
            other => {
                let (before, input) = end_of(other, &mut dice);
                before.into_iter().for_each(|input| driver.feed(input));
                input
            }
        };
        driver.feed(input);
    }
    Err(TestCaseError::fail("the run does not end"))
}

proptest! {
    #![proptest_config(schedules("histories with kills", 2_000))]

    #[test]
    fn no_kill_loses_a_result_or_doubles_an_effect(
        sketches in prop::collection::vec(sketch(), 1..12),
        max_parallel in 1_usize..6,
        tokens in prop::option::weighted(0.2, 1_u64..1_000),
        most in 0_u32..4,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget { tokens, ..Budget::default() });
        if most > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { most, consent });
        }
        let records = simulate_with_kills(&plan, dice_of(seed))?;
        check(&plan, &records)?;
        let json = records.iter().map(|record| serde_json::to_string(record).expect("records are JSON"));
        let again: Vec<Record> = json.map(|line| serde_json::from_str(&line).expect("and come back")).collect();
        prop_assert_eq!(again, records);
    }
}

proptest! {
    #![proptest_config(schedules("histories cut off after each event", 60))]

    #[test]
    fn a_run_cut_off_after_any_of_its_events_comes_to_an_end(
        sketches in prop::collection::vec(sketch(), 1..8),
        max_parallel in 1_usize..6,
        most in 0_u32..3,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget::default());
        if most > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { most, consent });
        }
        let mut dice = dice_of(seed);
        let records = simulate(&plan, None, &mut dice)?;
        for events in 1..records.len() {
            let noted = |attempt: &AttemptId| attempt.number.is_multiple_of(2);
            let whole = Driver {
                run: Run::fold(&records).expect("a history"),
                records: records.clone(),
                orders: Vec::new(),
                now: records[events].at,
            };
            let finished: Vec<TaskId> = records[..events].iter().filter_map(|record| match &record.event {
                Event::AttemptSucceeded { attempt, .. } => Some(attempt.task.clone()),
                Event::TaskEnded { task, .. } => Some(task.clone()),
                _ => None,
            }).collect();
            let mut driver = whole.killed_at(events, &noted);
            let mut under_way: Vec<Effectful> = Vec::new();
            loop {
                for order in std::mem::take(&mut driver.orders) {
                    match order {
                        Command::ConnectAgent { agent } => under_way.push(Effectful::Connect(agent)),
                        Command::StartAttempt(call) => {
                            prop_assert!(!finished.contains(&call.attempt.task), "a finished task is run again");
                            under_way.push(Effectful::Call(call.attempt));
                        }
                        Command::TakeUp(call) => under_way.push(Effectful::Call(call.attempt)),
                        Command::AskModel { attempt, .. } => under_way.push(Effectful::Turn(attempt)),
                        Command::Replan(request) => under_way.push(Effectful::Replan(request)),
                        Command::Ask { question } => under_way.push(Effectful::Ask(question.id.clone())),
                        _ => {}
                    }
                }
                if driver.run.is_over() {
                    break;
                }
                match under_way.pop() {
                    Some(next) => {
                        let (before, input) = end_of(next, &mut dice);
                        before.into_iter().chain([input]).for_each(|input| driver.feed(input));
                    }
                    None => driver.sleep(),
                }
            }
            check(&plan, &driver.records)?;
        }
    }
}
