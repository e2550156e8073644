//! The engine against a driver that is allowed to be unlucky: random plans, random ends, random order.

mod replan;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Value, json};

mod recover;
mod rerun;

use super::{Beginning, Run, Step};
use crate::model::{
    AgentId, AgentInfo, AgentPolicy, Answer, Asker, AttemptId, Backoff, Budget, Call, ChatError, ChatPart, ChatReply,
    ChatRequest, Command, Consent, DefaultAnswer, Effect, EndCause, Event, Expression, Failure, FailureKind, Foreach,
    GoalPlanning, Input, OnFailure, Origin, Outcome, Plan, PlannerTurn, Prompt, PromptTool, QuestionPolicy, Record,
    Remainder, ReplanPolicy, ReplanRequest, Retry, Route, RunStatus, Sampler, SkipReason, Span, Task, TaskId, Template,
    Timestamp, ToolChoice, ToolInfo, ToolOutput, Usage, Work,
};

fn agent_policy() -> AgentPolicy {
    AgentPolicy {
        required: false,
        max_concurrency: 2,
        tool_timeout: Span(Duration::from_secs(60)),
        effect: None,
        fingerprint: String::new(),
    }
}

fn route(agent: &str, rank: u32) -> Route {
    Route { agent: agent.into(), tool: "work".into(), rank }
}

fn call(routes: Vec<Route>, arguments: Value) -> Work {
    Work::Call(Call { routes, arguments: Template(arguments), awaits: None })
}

/// The same task on other routes.
fn on(routes: Vec<Route>, task: Task) -> Task {
    Task { work: call(routes, json!({})), ..task }
}

/// The same task with other arguments.
fn with(arguments: Value, task: Task) -> Task {
    Task { work: call(vec![route("a", 0)], arguments), ..task }
}

fn task(id: &str, needs: &[&str]) -> Task {
    Task {
        id: id.into(),
        title: None,
        needs: needs.iter().map(|&id| TaskId::from(id)).collect(),
        condition: None,
        foreach: None,
        approve: None,
        questions: None,
        work: call(vec![route("a", 0)], json!({})),
        retry: Retry::default(),
        effect: None,
        timeout: None,
        deadline: None,
        on_failure: OnFailure::Fail,
        budget: Budget::default(),
    }
}

fn plan(tasks: Vec<Task>) -> Arc<Plan> {
    let routed = tasks.iter().flat_map(Task::routes).map(|route| route.agent.clone());
    let prompted = tasks.iter().filter_map(Task::prompt).flat_map(|prompt| &prompt.tools);
    let agents = routed.chain(prompted.map(|tool| tool.agent.clone())).map(|agent| (agent, agent_policy()));
    Arc::new(Plan {
        name: "test".into(),
        description: None,
        inputs: IndexMap::new(),
        max_parallel: 8,
        budget: Budget::default(),
        replan: None,
        agents: agents.collect(),
        tasks: tasks.into_iter().map(Arc::new).collect(),
        outputs: None,
    })
}

fn info() -> Arc<AgentInfo> {
    let tool = ToolInfo {
        name: "work".into(),
        title: None,
        description: None,
        input_schema: serde_json::Map::new(),
        output_schema: None,
        effect: None,
    };
    Arc::new(AgentInfo { protocol: "2025-11-25".into(), server: None, tools: vec![tool] })
}

fn text(text: &str) -> Arc<ToolOutput> {
    Arc::new(ToolOutput { content: vec![json!({"type": "text", "text": text})], structured: None })
}

/// Holds a run, all it recorded, and the orders that nobody has carried out.
struct Driver {
    run: Run,
    records: Vec<Record>,
    orders: Vec<Command>,
    now: Timestamp,
}

impl Driver {
    fn start(plan: &Arc<Plan>) -> Self {
        Self::planned(plan, None)
    }

    /// Starts a run whose plan was made like this.
    fn planned(plan: &Arc<Plan>, planning: Option<&GoalPlanning>) -> Self {
        let now = Timestamp(1_000);
        let beginning = Beginning { plan, inputs: &Arc::new(json!({})), seed: 7, planning, source: None };
        let (run, step) = Run::start(beginning, now).expect("a graph");
        let mut driver = Self { run, records: Vec::new(), orders: Vec::new(), now };
        driver.take(step);
        driver
    }

    /// Starts, with every agent connected.
    fn connected(plan: &Arc<Plan>) -> Self {
        let mut driver = Self::start(plan);
        driver.connect_all();
        driver
    }

    fn connect_all(&mut self) {
        for agent in self.take_orders(|order| match order {
            Command::ConnectAgent { agent } => Some(agent.clone()),
            _ => None,
        }) {
            self.feed(Input::AgentConnected { agent, info: info() });
        }
    }

    fn take(&mut self, step: Step) {
        self.records.extend(step.records);
        self.orders.extend(step.commands);
    }

    fn feed(&mut self, input: Input) {
        let step = self.run.handle([input], self.now);
        self.take(step);
    }

    fn take_orders<T>(&mut self, pick: impl Fn(&Command) -> Option<T>) -> Vec<T> {
        let mut picked = Vec::new();
        self.orders.retain(|order| match pick(order) {
            Some(found) => {
                picked.push(found);
                false
            }
            None => true,
        });
        picked
    }

    /// The calls that were ordered since last asked.
    fn calls(&mut self) -> Vec<(AttemptId, AgentId)> {
        self.take_orders(|order| match order {
            Command::StartAttempt(call) => Some((call.attempt.clone(), call.agent.clone())),
            _ => None,
        })
    }

    fn names(&mut self) -> Vec<String> {
        self.calls().into_iter().map(|(attempt, agent)| format!("{attempt}@{agent}")).collect()
    }

    fn end(&mut self, task: &str, number: u32, result: Result<Arc<ToolOutput>, Failure>) {
        self.feed(Input::AttemptEnded { attempt: AttemptId { task: task.into(), number }, result });
    }

    fn fail(&mut self, task: &str, number: u32, kind: FailureKind) {
        self.end(task, number, Err(Failure::new(kind, "broke")));
    }

    fn sleep(&mut self) {
        self.now = self.run.next_wake().expect("a pause");
        self.feed(Input::TimeReached);
    }

    fn outcome(&self, task: &str) -> Option<Outcome> {
        self.records.iter().find_map(|record| match &record.event {
            Event::TaskEnded { task: ended, outcome } if ended.as_str() == task => Some(outcome.clone()),
            Event::AttemptSucceeded { attempt, output } if attempt.task.as_str() == task => {
                Some(Outcome::Succeeded(Arc::clone(output)))
            }
            _ => None,
        })
    }

    fn ended(&self) -> Option<(RunStatus, Option<EndCause>)> {
        self.records.iter().find_map(|record| match &record.event {
            Event::RunEnded { status, cause, .. } => Some((*status, cause.clone())),
            _ => None,
        })
    }
}

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

fn over(items: Value, max_parallel: Option<usize>) -> Task {
    Task {
        foreach: Some(Foreach { items: Template(items), binding: "item".into(), max_parallel }),
        work: call(vec![route("a", 0)], json!({"value": "${{ item }}"})),
        ..task("each", &[])
    }
}

#[test]
fn foreach_runs_once_for_each_item_within_its_own_limit() {
    let last = with(json!({"all": "${{ tasks.each.outputs }}"}), task("z", &["each"]));
    let mut driver = Driver::connected(&plan(vec![over(json!([1, 2, 3]), Some(1)), last]));
    assert_eq!(driver.names(), ["each[0]#1@a"]);
    driver.end("each[0]", 1, Ok(text("p")));
    assert_eq!(driver.names(), ["each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("q")));
    assert_eq!(driver.names(), ["each[2]#1@a"]);
    driver.end("each[2]", 1, Ok(text("r")));
    let Some(Command::StartAttempt(call)) = driver.orders.pop() else { panic!("no call") };
    assert_eq!(Value::Object(call.arguments), json!({"all": ["p", "q", "r"]}));
}

#[test]
fn foreach_over_nothing_succeeds_and_over_no_list_fails() {
    let driver = Driver::connected(&plan(vec![over(json!([]), None)]));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
    let driver = Driver::connected(&plan(vec![over(json!({"a": 1}), None)]));
    let Some(Outcome::Failed(failure)) = driver.outcome("each") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::Expression);
}

#[test]
fn a_condition_about_the_item_is_asked_for_each_item() {
    let each = Task { condition: Some(Expression("item > 1".into())), ..over(json!([1, 2]), None) };
    let mut driver = Driver::connected(&plan(vec![each]));
    assert_eq!(driver.names(), ["each[1]#1@a"]);
    driver.end("each[1]", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

#[test]
fn an_item_that_never_starts_does_not_keep_the_others_waiting() {
    let each = with(json!({"v": "${{ item.name }}"}), over(json!([1, 2, {"name": "n"}]), Some(1)));
    let mut driver = Driver::connected(&plan(vec![each]));
    assert_eq!(driver.names(), ["each[2]#1@a"]);
}

#[test]
fn an_approval_is_asked_first_and_a_no_is_a_denial() {
    let asked = Task { approve: Some(Template(json!("Do it?"))), ..task("t", &[]) };
    for (answer, calls, ended) in [
        (Answer::Accept { content: None }, 1, None),
        (Answer::Decline, 0, Some((RunStatus::Failed, Some(EndCause::Denied)))),
    ] {
        let mut driver = Driver::connected(&plan(vec![asked.clone()]));
        assert_eq!(driver.calls(), []);
        driver.feed(Input::QuestionAnswered { question: "q1".into(), answer, by: "person".into() });
        assert_eq!((driver.calls().len(), driver.ended()), (calls, ended));
    }
}

#[test]
fn a_question_that_nobody_can_answer_pauses_the_run_when_all_else_is_done() {
    let asked = Task { approve: Some(Template(json!("Do it?"))), ..task("t", &[]) };
    let mut driver = Driver::connected(&plan(vec![asked, task("u", &[]), task("v", &["t"])]));
    driver.feed(Input::QuestionLeftOpen { question: "q1".into(), reason: "no terminal".into() });
    assert_eq!(driver.ended(), None);
    driver.end("u", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Paused, None)));
}

#[test]
fn cancelling_stops_what_runs_and_starts_nothing_more() {
    let mut driver = Driver::connected(&plan(vec![task("t", &[]), task("u", &["t"]), over(json!([1, 2, 3]), Some(1))]));
    driver.calls();
    driver.feed(Input::CancelRequested);
    let cancelled = driver.take_orders(|order| matches!(order, Command::CancelAttempt { .. }).then_some(()));
    assert_eq!(cancelled.len(), 2);
    driver.end("t", 1, Ok(text("it was faster")));
    driver.fail("each[0]", 1, FailureKind::Cancelled);
    assert_eq!(driver.calls(), []);
    assert_eq!(driver.ended(), Some((RunStatus::Cancelled, None)));
    assert_eq!(driver.outcome("u"), Some(Outcome::Cancelled));
    assert_eq!(driver.outcome("each"), Some(Outcome::Cancelled));
}

#[test]
fn outputs_are_evaluated_at_the_end_and_a_missing_one_is_named() {
    let mut with_outputs = (*plan(vec![task("t", &[])])).clone();
    with_outputs.outputs = Some(IndexMap::from([
        ("good".to_owned(), Template(json!("${{ tasks.t.output }}"))),
        ("bad".to_owned(), Template(json!("${{ tasks.t.output.missing }}"))),
    ]));
    let mut driver = Driver::connected(&Arc::new(with_outputs));
    driver.end("t", 1, Ok(text("x")));
    let Some(Event::RunEnded { status, outputs: Some(outputs), output_errors, .. }) =
        driver.records.last().map(|record| &record.event)
    else {
        panic!("not ended")
    };
    assert_eq!(*status, RunStatus::Partial);
    assert_eq!(outputs["good"], json!("x"));
    assert_eq!(outputs["bad"], Value::Null);
    assert!(output_errors.contains_key("bad"));
}

fn prompt(id: &str, tools: &[&str], output_schema: Option<Value>) -> Task {
    let tools = tools.iter().map(|&agent| PromptTool { agent: agent.into(), tool: None }).collect();
    let prompt = Template(json!("Why ${{ inputs.what }}?"));
    let asked = Prompt { model: None, system: None, prompt, output_schema, tools, max_turns: 3, max_tokens: 100 };
    Task { work: Work::Prompt(Box::new(asked)), ..task(id, &[]) }
}

fn says(parts: Vec<ChatPart>) -> Result<ChatReply, ChatError> {
    Ok(ChatReply { parts, model: "m".into(), stop_reason: "endTurn".into(), usage: None, cost_usd: None })
}

fn says_text(text: &str) -> Result<ChatReply, ChatError> {
    says(vec![ChatPart::Text { text: text.into() }])
}

fn asks_for(calls: &[(&str, &str)]) -> Result<ChatReply, ChatError> {
    let call = |(id, name): &(&str, &str)| {
        let input = json!({"text": "${{ inputs.secret }}"});
        let Value::Object(input) = input else { unreachable!("an object") };
        ChatPart::ToolUse { id: (*id).into(), name: (*name).into(), input }
    };
    says(calls.iter().map(call).collect())
}

impl Driver {
    /// The turns that were ordered since last asked.
    fn turns(&mut self) -> Vec<(String, ChatRequest)> {
        self.take_orders(|order| match order {
            Command::AskModel { attempt, chat } => Some((attempt.to_string(), (**chat).clone())),
            _ => None,
        })
    }

    fn reply(&mut self, task: &str, number: u32, result: Result<ChatReply, ChatError>) {
        self.feed(Input::ModelReplied { attempt: AttemptId { task: task.into(), number }, result });
    }
}

fn answered_by(task: Task) -> Driver {
    let mut driver = Driver { now: Timestamp(1_000), ..Driver::start(&plan(vec![task])) };
    driver.connect_all();
    driver
}

#[test]
fn a_prompt_is_answered_in_text() {
    let mut asked = prompt("p", &[], None);
    if let Work::Prompt(prompt) = &mut asked.work {
        prompt.prompt = Template(json!("Why?"));
    }
    let mut driver = answered_by(asked);
    let turns = driver.turns();
    assert_eq!(turns.iter().map(|(turn, _)| turn.as_str()).collect::<Vec<_>>(), ["p#1"]);
    assert_eq!(turns[0].1.messages[0].all_text(), "Why?");
    driver.reply("p", 1, says_text("Because."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Because."))));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

fn plain(task: Task) -> Task {
    let mut task = task;
    if let Work::Prompt(prompt) = &mut task.work {
        prompt.prompt = Template(json!("Why?"));
    }
    task
}

#[test]
fn the_calls_that_a_model_asks_for_are_attempts_like_any_other() {
    let mut driver = answered_by(plain(prompt("p", &["a"], None)));
    let offered = driver.turns().remove(0).1.tools;
    assert_eq!(offered.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["a.work"]);
    driver.reply("p", 1, asks_for(&[("c1", "a.work"), ("c2", "a.none"), ("c3", "a.work")]));
    let calls = driver.take_orders(|order| match order {
        Command::StartAttempt(call) => Some((call.attempt.to_string(), Value::Object(call.arguments.clone()))),
        _ => None,
    });
    // What a model says is data: it is never evaluated.
    let said = json!({"text": "${{ inputs.secret }}"});
    assert_eq!(calls, [("p/1#1".to_owned(), said.clone()), ("p/2#1".to_owned(), said)]);
    driver.end("p/1", 1, Ok(text("found")));
    assert_eq!(driver.turns(), [], "the model hears of all its calls at once");
    driver.fail("p/2", 1, FailureKind::ToolError);
    let turns = driver.turns();
    let results = ChatPart::ToolResult { id: "c1".into(), text: "found".into(), is_error: false };
    let missing =
        ChatPart::ToolResult { id: "c2".into(), text: "there is no tool `a.none` here".into(), is_error: true };
    let broken = ChatPart::ToolResult { id: "c3".into(), text: "broke".into(), is_error: true };
    assert_eq!(turns[0].1.messages.last().map(|message| message.parts.clone()), Some(vec![results, missing, broken]));
    driver.reply("p", 2, says_text("Done."));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)), "a failed call of the loop is the model's affair");
}

#[test]
fn a_model_is_told_which_of_its_calls_could_not_be_read() {
    let mut driver = answered_by(plain(prompt("p", &["a"], None)));
    driver.turns();
    let unreadable = |id: &str| ChatPart::UnreadableToolUse {
        id: id.into(),
        name: "a.work".into(),
        problem: "are no object: [1]".into(),
    };
    let told = |id: &str| ChatPart::ToolResult {
        id: id.into(),
        text: "`a.work` was not called: its arguments are no object: [1]; give one JSON object".into(),
        is_error: true,
    };
    let results = |driver: &mut Driver| driver.turns()[0].1.messages.last().map(|message| message.parts.clone());
    driver.reply("p", 1, says(vec![unreadable("c1")]));
    assert_eq!(results(&mut driver), Some(vec![told("c1")]));
    let Ok(ChatReply { parts, .. }) = asks_for(&[("c2", "a.work")]) else { unreachable!("a reply") };
    driver.reply("p", 2, says([parts, vec![unreadable("c3")]].concat()));
    driver.end("p/1", 1, Ok(text("found")));
    let found = ChatPart::ToolResult { id: "c2".into(), text: "found".into(), is_error: false };
    assert_eq!(results(&mut driver), Some(vec![found, told("c3")]));
    driver.reply("p", 3, says_text("Done."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Done."))));
}

#[test]
fn the_last_turn_has_no_tools_and_its_text_is_the_answer() {
    let mut driver = answered_by(plain(prompt("p", &["a"], None)));
    for turn in 1..3 {
        assert_eq!(driver.turns()[0].1.tool_choice, ToolChoice::Auto);
        driver.reply("p", turn, asks_for(&[("c", "a.none")]));
    }
    assert_eq!(driver.turns()[0].1.tool_choice, ToolChoice::None);
    driver.reply("p", 3, says_text("Enough."));
    assert_eq!(driver.outcome("p"), Some(Outcome::Succeeded(text("Enough."))));
}

#[test]
fn an_answer_that_breaks_its_schema_is_repaired_once_and_then_fails() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    for (second, ends_well) in [("```json\n{\"n\": 2}\n```", true), ("{\"n\": \"two\"}", false)] {
        let mut driver = answered_by(plain(prompt("p", &[], Some(schema.clone()))));
        driver.turns();
        driver.reply("p", 1, says_text("{\"n\": 1.5}"));
        let turns = driver.turns();
        assert!(turns[0].1.messages[2].all_text().contains("at `/n`"), "{turns:?}");
        driver.reply("p", 2, says_text(second));
        match driver.outcome("p") {
            Some(Outcome::Succeeded(output)) if ends_well => assert_eq!(output.structured, Some(json!({"n": 2}))),
            Some(Outcome::Failed(failure)) if !ends_well => assert_eq!(failure.kind, FailureKind::ModelFailed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_model_that_fails_or_says_nothing_fails_the_task() {
    for reply in [Err(ChatError::Endpoint { message: "down".into(), status: None }), says_text(" ")] {
        let mut driver = answered_by(plain(prompt("p", &[], None)));
        driver.reply("p", 1, reply);
        let Some(Outcome::Failed(failure)) = driver.outcome("p") else { panic!("not failed") };
        assert_eq!(failure.kind, FailureKind::ModelFailed);
    }
}

#[test]
fn cancelling_ends_a_turn_too() {
    let mut driver = answered_by(plain(prompt("p", &[], None)));
    driver.feed(Input::CancelRequested);
    let attempt = AttemptId { task: "p".into(), number: 1 };
    assert!(driver.orders.contains(&Command::CancelAttempt { attempt }));
    driver.reply("p", 1, Err(ChatError::Endpoint { message: "cancelled".into(), status: None }));
    assert_eq!((driver.outcome("p"), driver.ended()), (Some(Outcome::Cancelled), Some((RunStatus::Cancelled, None))));
}

fn synthesis(output_schema: Option<Value>, sources: &[&str]) -> Task {
    let Work::Prompt(asked) = plain(prompt("p", &[], output_schema)).work else { unreachable!("a prompt") };
    let on_failure = OnFailure::Continue;
    Task { work: Work::Synthesis(asked), on_failure, ..task("answer", sources) }
}

fn synthesized(ends: [bool; 2]) -> Driver {
    let tasks = vec![
        Task { title: Some("The first".into()), ..task("a", &[]) },
        Task { on_failure: OnFailure::SkipDependents, ..task("b", &[]) },
        task("c", &["b"]),
        synthesis(None, &["a", "b", "c"]),
    ];
    let mut driver = Driver::connected(&plan(tasks));
    for (id, ends_well) in ["a", "b"].into_iter().zip(ends) {
        driver.end(
            id,
            1,
            if ends_well { Ok(text("it is green")) } else { Err(Failure::new(FailureKind::ToolError, "away")) },
        );
    }
    driver
}

#[test]
fn a_synthesis_sees_every_result_as_quoted_data_and_its_citations_are_checked() {
    let mut driver = synthesized([true, false]);
    let question = driver.turns().remove(0).1.messages[0].all_text();
    let shown = "<result task=\"a\" title=\"The first\" status=\"succeeded\">\nit is green\n</result>";
    assert!(question.starts_with("Why?\n") && question.contains(shown), "{question}");
    assert!(question.contains("<result task=\"c\" status=\"has no result\">\nskipped: it needs `b`"), "{question}");
    driver.reply("answer", 1, says_text("It is green [z]; b failed, so c was skipped."));
    let again = driver.turns().remove(0).1.messages.pop().expect("a message").all_text();
    assert!(again.contains("it cites [z], and there is no such task"), "{again}");
    driver.reply("answer", 2, says_text("It is green [a]; b failed, so c was skipped."));
    let written = text("It is green [a]; b failed, so c was skipped.");
    assert_eq!(driver.outcome("answer"), Some(Outcome::Succeeded(written)));
    assert_eq!(driver.ended(), Some((RunStatus::Partial, None)));
}

#[test]
fn an_answer_that_still_does_not_keep_to_the_results_says_so() {
    let mut driver = synthesized([true, false]);
    driver.reply("answer", 1, says_text("It is red."));
    driver.reply("answer", 2, says_text("It is red [a]."));
    let Some(Outcome::Succeeded(output)) = driver.outcome("answer") else { panic!("not answered") };
    assert!(output.text().contains("(Not verified: it does not name the task `b`"), "{}", output.text());
}

#[test]
fn without_any_result_there_is_nothing_to_synthesize() {
    let mut driver = synthesized([false, false]);
    assert_eq!(driver.turns(), []);
    assert_eq!(driver.outcome("answer"), Some(Outcome::Skipped(SkipReason::NeedFailed { task: "a".into() })));
}

fn bounded(budget: Budget, tasks: Vec<Task>) -> Arc<Plan> {
    Arc::new(Plan { budget, ..(*plan(tasks)).clone() })
}

fn used(tokens: u64) -> Result<ChatReply, ChatError> {
    let usage = crate::model::Usage { input_tokens: tokens, output_tokens: 0 };
    says_text("done").map(|reply| ChatReply { usage: Some(usage), cost_usd: Some(0.01), ..reply })
}

#[test]
fn a_budget_of_tokens_is_reserved_before_and_settled_after_each_call() {
    let prompts: Vec<Task> = (0..64).map(|number| plain(prompt(&format!("p{number}"), &[], None))).collect();
    let budget = Budget { tokens: Some(500), ..Budget::default() };
    let mut driver = Driver::start(&Arc::new(Plan { max_parallel: 64, ..(*bounded(budget, prompts)).clone() }));
    // Each may use 101 tokens: 100 of the reply, and 4 bytes of question.
    assert_eq!(driver.turns().len(), 5, "the fifth reservation is the one that goes over");
    for number in 0..5 {
        driver.reply(&format!("p{number}"), 1, used(50));
    }
    let cause = EndCause::BudgetSpent { what: "tokens (505 of 500)".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Partial, Some(cause))));
    assert_eq!(driver.outcome("p4"), Some(Outcome::Succeeded(text("done"))), "what was done is kept");
    assert_eq!(driver.outcome("p63"), Some(Outcome::Cancelled));
}

#[test]
fn each_kind_of_budget_ends_the_run_when_it_is_spent() {
    let one = |budget: Budget, task: fn(&str) -> Task| {
        let (first, second) = (task("t0"), Task { needs: vec!["t0".into()], ..task("t1") });
        Driver::connected(&bounded(budget, vec![first, second]))
    };
    let ask: fn(&str) -> Task = |id| plain(prompt(id, &[], None));
    let work: fn(&str) -> Task = |id| task(id, &[]);
    let unlimited = Budget::default();
    for (budget, task, what) in [
        (Budget { llm_calls: Some(1), ..unlimited }, ask, "calls of the language model (1 of 1)"),
        (Budget { cost_usd: Some(0.01), ..unlimited }, ask, "cost (0.0100 of 0.01 US dollars)"),
        (Budget { tool_calls: Some(1), ..unlimited }, work, "tool calls (1 of 1)"),
    ] {
        let mut driver = one(budget, task);
        driver.reply("t0", 1, used(1));
        driver.end("t0", 1, Ok(text("x")));
        let cause = EndCause::BudgetSpent { what: what.into() };
        assert_eq!(driver.ended(), Some((RunStatus::Partial, Some(cause))), "{budget:?}");
    }
}

#[test]
fn the_time_of_a_run_is_bounded_and_what_runs_then_is_cancelled() {
    let budget = Budget { time: Some(Span(Duration::from_secs(9))), ..Budget::default() };
    let mut driver = Driver::connected(&bounded(budget, vec![task("t", &[])]));
    assert_eq!(driver.run.next_wake(), Some(Timestamp(10_000)));
    driver.sleep();
    let attempt = AttemptId { task: "t".into(), number: 1 };
    assert!(driver.orders.contains(&Command::CancelAttempt { attempt }));
    assert_eq!(driver.run.next_wake(), None, "there is nothing more to wake up for");
    driver.fail("t", 1, FailureKind::Cancelled);
    let cause = EndCause::BudgetSpent { what: "time (9s)".into() };
    assert_eq!(driver.ended(), Some((RunStatus::Failed, Some(cause))));
}

#[test]
fn the_budget_of_a_task_is_shared_by_its_items_and_ends_only_the_task() {
    let each = Task { budget: Budget { tool_calls: Some(2), ..Budget::default() }, ..over(json!([1, 2, 3]), Some(1)) };
    let mut driver = Driver::connected(&plan(vec![each, task("other", &[])]));
    driver.end("each[0]", 1, Ok(text("x")));
    driver.end("each[1]", 1, Ok(text("x")));
    let Some(Outcome::Failed(failure)) = driver.outcome("each[2]") else { panic!("not failed") };
    assert_eq!(failure.kind, FailureKind::BudgetSpent);
    driver.end("other", 1, Ok(text("x")));
    assert_eq!(driver.ended(), Some((RunStatus::Failed, None)));
}

#[test]
fn sampling_is_refused_when_the_budget_is_spent_and_counts_for_nothing() {
    let budget = Budget { llm_calls: Some(0), ..Budget::default() };
    let mut driver = Driver::connected(&bounded(budget, vec![task("t", &[])]));
    let attempt = Some(AttemptId { task: "t".into(), number: 1 });
    let origin = Sampler::Agent(Origin { agent: "a".into(), attempt, key: None });
    driver.feed(Input::SamplingRequested { request: "a/1".into(), origin, chat: Arc::default() });
    let refused = driver.take_orders(|order| match order {
        Command::AnswerSampling { result: Err(error), .. } => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(refused, ["the budget is spent: calls of the language model (0 of 0)"]);
    assert_eq!(driver.run.spent(), (0, 1, 0, 0.0));
    driver.end("t", 1, Ok(text("done without")));
    assert_eq!(driver.ended(), Some((RunStatus::Succeeded, None)));
}

/// A planning of so many turns, each with this usage and a cent.
fn planning(turns: usize, usage: Option<Usage>) -> GoalPlanning {
    let turn =
        PlannerTurn { model: "m".into(), stop_reason: "endTurn".into(), usage, most_tokens: 90, cost_usd: Some(0.01) };
    GoalPlanning { goal: "Go".into(), turns: vec![turn; turns] }
}

#[test]
fn what_planning_took_is_the_runs_to_pay() {
    let usage = Usage { input_tokens: 30, output_tokens: 20 };
    let unlimited = Budget::default();
    for (budget, planning, what) in [
        (Budget { llm_calls: Some(2), ..unlimited }, planning(2, None), "calls of the language model (2 of 2)"),
        (Budget { tokens: Some(100), ..unlimited }, planning(2, Some(usage)), "tokens (100 of 100)"),
        (Budget { tokens: Some(100), ..unlimited }, planning(2, None), "tokens (180 of 100)"),
        (Budget { cost_usd: Some(0.02), ..unlimited }, planning(2, None), "cost (0.0200 of 0.02 US dollars)"),
    ] {
        let plan = bounded(budget, vec![plain(prompt("p", &[], None))]);
        let mut driver = Driver::planned(&plan, Some(&planning));
        assert_eq!(driver.records[1].event, Event::GoalPlanned(planning.clone()));
        let cause = EndCause::BudgetSpent { what: what.into() };
        assert_eq!((driver.turns().len(), driver.ended()), (0, Some((RunStatus::Failed, Some(cause)))), "{budget:?}");
    }
    let plan = bounded(Budget { llm_calls: Some(3), ..unlimited }, vec![plain(prompt("p", &[], None))]);
    assert_eq!(Driver::planned(&plan, Some(&planning(2, None))).turns().len(), 1, "one call is left");
}

#[test]
fn a_replay_of_any_part_of_a_run_has_spent_what_the_run_had() {
    let asked = plain(prompt("p", &["a"], None));
    let budget = Budget { tokens: Some(10_000), tool_calls: Some(9), ..Budget::default() };
    let bounded_task = Task { budget: Budget { tokens: Some(500), ..Budget::default() }, ..asked };
    let plan = bounded(budget, vec![bounded_task, task("t", &[])]);
    let planned = planning(3, Some(Usage { input_tokens: 7, output_tokens: 2 }));
    let mut driver = Driver::planned(&plan, Some(&planned));
    let mut accounts = vec![(driver.records.len(), driver.run.accounts.clone())];
    let mut note = |driver: &Driver| accounts.push((driver.records.len(), driver.run.accounts.clone()));
    driver.connect_all();
    note(&driver);
    driver.reply("p", 1, asks_for(&[("c1", "a.work")]));
    note(&driver);
    let attempt = Some(AttemptId { task: "p/1".into(), number: 1 });
    let origin = Sampler::Agent(Origin { agent: "a".into(), attempt, key: None });
    let chat = Arc::new(ChatRequest { max_tokens: 40, ..ChatRequest::default() });
    driver.feed(Input::SamplingRequested { request: "a/1".into(), origin, chat });
    note(&driver);
    driver.feed(Input::SamplingEnded { request: "a/1".into(), result: used(12) });
    note(&driver);
    driver.end("p/1", 1, Ok(text("x")));
    note(&driver);
    driver.reply("p", 2, used(30));
    note(&driver);
    for (until, accounts) in accounts {
        let folded = Run::fold(&driver.records[..until]).expect("a run");
        assert_eq!(folded.accounts, accounts, "after {until} events");
    }
    // The first turn did not tell its usage, so it is taken to have used all of its reservation.
    let spent = driver.run.spent();
    let first = 104;
    assert_eq!(spent, (6, 2, 27 + first + 12 + 30, 0.05));
}

/// A task of a random plan; numbers are taken modulo what there is.
#[derive(Debug, Clone)]
struct Sketch {
    needs: Vec<usize>,
    routes: Vec<(u8, u32)>,
    max_attempts: u32,
    effect: Option<Effect>,
    on_failure: OnFailure,
    items: Option<(usize, Option<usize>)>,
    approve: bool,
    condition: Option<u8>,
    /// Whether it is a prompt, with the agents of its routes as tools.
    prompt: bool,
}

fn sketch() -> impl Strategy<Value = Sketch> {
    let effect = prop_oneof![
        Just(None),
        Just(Some(Effect::ReadOnly)),
        Just(Some(Effect::Idempotent)),
        Just(Some(Effect::AtMostOnce))
    ];
    let on_failure = prop_oneof![
        Just(OnFailure::Fail),
        Just(OnFailure::Continue),
        Just(OnFailure::SkipDependents),
        Just(OnFailure::Replan)
    ];
    (
        prop::collection::vec(0_usize..64, 0..4),
        prop::collection::vec((0_u8..4, 0_u32..3), 1..4),
        1_u32..4,
        effect,
        on_failure,
        prop::option::weighted(0.3, (0_usize..5, prop::option::of(1_usize..3))),
        prop::bool::weighted(0.15),
        prop::option::weighted(0.2, 0_u8..3),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(needs, routes, max_attempts, effect, on_failure, items, approve, condition, prompt)| Sketch {
            needs,
            routes,
            max_attempts,
            effect,
            on_failure,
            items,
            approve,
            condition,
            prompt,
        })
}

fn random_plan(sketches: &[Sketch], max_parallel: usize, budget: Budget) -> Arc<Plan> {
    let tasks = sketches.iter().enumerate().map(|(index, sketch)| {
        let mut needs: Vec<String> =
            sketch.needs.iter().filter(|_| index > 0).map(|need| format!("t{}", need % index)).collect();
        needs.sort();
        needs.dedup();
        let condition = sketch.condition.map(|kind| match (kind, needs.first()) {
            (0, _) | (_, None) => "true".to_owned(),
            (1, _) => "false".to_owned(),
            (_, Some(need)) => format!("tasks.{need}.status == 'failed'"),
        });
        let mut routes: Vec<Route> = Vec::new();
        for (agent, rank) in &sketch.routes {
            let route = route(&format!("agent{agent}"), *rank);
            if !routes.iter().any(|known| known.agent == route.agent) {
                routes.push(route);
            }
        }
        let mut built = task(&format!("t{index}"), &needs.iter().map(String::as_str).collect::<Vec<_>>());
        built.work = match sketch.prompt {
            false => call(routes, json!({})),
            true => {
                let tools: Vec<&str> = routes.iter().map(|route| route.agent.as_str()).collect();
                plain(prompt("p", &tools, None)).work
            }
        };
        built.retry.max_attempts = sketch.max_attempts;
        built.effect = sketch.effect;
        built.on_failure = sketch.on_failure;
        built.condition = condition.map(Expression);
        built.approve = sketch.approve.then(|| Template(json!("ok?")));
        built.foreach = sketch.items.map(|(count, max_parallel)| Foreach {
            items: Template(json!((0..count).collect::<Vec<_>>())),
            binding: "item".into(),
            max_parallel,
        });
        built
    });
    let mut built = (*plan(tasks.collect())).clone();
    built.max_parallel = max_parallel;
    built.budget = budget;
    Arc::new(built)
}

/// What the driver holds of a call, an approval or a connection that is under way.
#[derive(Debug, Clone)]
enum Effectful {
    Connect(AgentId),
    Call(AttemptId),
    Turn(AttemptId),
    Ask(crate::model::QuestionId),
    Replan(Box<ReplanRequest>),
}

/// Some of what has not started goes, and something comes that needs what there is.
fn random_remainder(request: &ReplanRequest, dice: &mut impl FnMut(usize) -> usize) -> Remainder {
    let open: Vec<&TaskId> =
        request.tasks.iter().filter(|so_far| so_far.standing.is_open()).map(|so_far| &so_far.task.id).collect();
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for id in open {
        if dice(2) == 0 { &mut kept } else { &mut removed }.push(id.clone());
    }
    let usable = request.tasks.iter().filter(|so_far| so_far.standing.has_result() || kept.contains(&so_far.task.id));
    let mut usable: Vec<String> = usable.map(|so_far| so_far.task.id.to_string()).collect();
    let mut added = Vec::new();
    for index in 0..dice(4) {
        let mut needs: Vec<&str> = usable.iter().filter(|_| dice(3) == 0).map(String::as_str).collect();
        needs.sort_unstable();
        let id = format!("r{}x{index}", request.number);
        let agent = format!("agent{}", dice(6));
        let new = Task { on_failure: OnFailure::Replan, ..on(vec![route(&agent, 0)], task(&id, &needs)) };
        usable.push(id);
        added.push(Arc::new(new));
    }
    let agents = added.iter().flat_map(|task| task.routes()).map(|route| (route.agent.clone(), agent_policy()));
    Remainder { kept, removed, agents: agents.collect(), added }
}

const ENDS: [FailureKind; 8] = [
    FailureKind::ToolError,
    FailureKind::ConnectionLost,
    FailureKind::IdleTimeout,
    FailureKind::SessionLost,
    FailureKind::UnknownTool,
    FailureKind::InvalidResult,
    FailureKind::RateLimited,
    FailureKind::Cancelled,
];

/// How something that was under way ends, and what comes before that; `dice` decides.
fn end_of(under_way: Effectful, dice: &mut impl FnMut(usize) -> usize) -> (Vec<Input>, Input) {
    let mut before = Vec::new();
    let end = match under_way {
        Effectful::Connect(agent) if dice(5) == 0 => {
            Input::AgentUnavailable { agent, failure: Failure::new(FailureKind::AgentUnavailable, "down") }
        }
        Effectful::Connect(agent) => Input::AgentConnected { agent, info: info() },
        Effectful::Ask(question) => match dice(3) {
            0 => Input::QuestionLeftOpen { question, reason: "nobody".into() },
            1 => Input::QuestionAnswered { question, answer: Answer::Decline, by: "p".into() },
            _ => Input::QuestionAnswered { question, answer: Answer::Accept { content: None }, by: "p".into() },
        },
        Effectful::Replan(request) => {
            // A process after a kill counts its requests from another number.
            let turn = crate::model::RequestId::from(format!("planner/{}/{}", request.number, dice(usize::MAX)));
            let origin = Sampler::Planner { replan: request.number };
            before.push(Input::SamplingRequested { request: turn.clone(), origin, chat: Arc::default() });
            before.push(Input::SamplingEnded { request: turn, result: used(dice(60) as u64) });
            let result = match dice(3) {
                0 => Err(Failure::new(FailureKind::ModelFailed, "nonsense")),
                _ => Ok(Arc::new(random_remainder(&request, dice))),
            };
            Input::Replanned { number: request.number, result }
        }
        Effectful::Turn(attempt) => {
            let result = match dice(5) {
                0 => Err(ChatError::Endpoint { message: "down".into(), status: None }),
                1 => Err(ChatError::Unsupported { message: "no".into() }),
                2 => says_text("done"),
                _ => asks_for(&[("c1", "agent0.work"), ("c2", "agent1.work"), ("c3", "nobody.work")]),
            };
            let usage = Usage { input_tokens: dice(60) as u64, output_tokens: dice(30) as u64 };
            let result = result.map(|reply| ChatReply { usage: Some(usage), cost_usd: Some(0.25), ..reply });
            Input::ModelReplied { attempt, result }
        }
        Effectful::Call(attempt) => {
            let result = match dice(2) {
                0 => Err(Failure::new(ENDS[dice(ENDS.len())], "broke")),
                _ => Ok(text("done")),
            };
            Input::AttemptEnded { attempt, result }
        }
    };
    (before, end)
}

/// Dice that fall the same way for the same seed.
fn dice_of(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |sides| {
        // Xorshift (Marsaglia, 2003): enough for dice.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % sides.max(1) as u64) as usize
    }
}

/// Drives a plan to its end; `dice` decides every end and every order.
fn simulate(
    plan: &Arc<Plan>,
    planning: Option<&GoalPlanning>,
    mut dice: impl FnMut(usize) -> usize,
) -> Result<Vec<Record>, TestCaseError> {
    let mut driver = Driver::planned(plan, planning);
    let mut under_way: Vec<Effectful> = Vec::new();
    for _ in 0..20_000 {
        let folded = Run::fold(&driver.records).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(folded == driver.run, "fold(events) differs from the live run");
        for order in std::mem::take(&mut driver.orders) {
            match order {
                Command::ConnectAgent { agent } => under_way.push(Effectful::Connect(agent)),
                Command::StartAttempt(call) => under_way.push(Effectful::Call(call.attempt)),
                Command::AskModel { attempt, .. } => under_way.push(Effectful::Turn(attempt)),
                Command::Ask { question } => under_way.push(Effectful::Ask(question.id.clone())),
                Command::Replan(request) => under_way.push(Effectful::Replan(request)),
                Command::EndRun => {
                    let told = crate::synthesizer::merge(&"r".into(), &driver.records).spent;
                    let tokens = told.input_tokens + told.output_tokens;
                    let shown = (told.llm_calls, told.tool_calls, tokens, told.cost_usd);
                    prop_assert_eq!(shown, driver.run.spent(), "what is shown differs from what budgets count");
                    return Ok(driver.records);
                }
                _ => {}
            }
        }
        if under_way.is_empty() {
            prop_assert!(driver.run.next_wake().is_some(), "nothing is under way and the run has not ended");
            driver.sleep();
            continue;
        }
        if dice(200) == 0 {
            driver.feed(Input::CancelRequested);
        }
        let next = under_way.swap_remove(dice(under_way.len()));
        let (before, input) = end_of(next.clone(), &mut dice);
        before.into_iter().for_each(|input| driver.feed(input));
        driver.feed(input.clone());
        if dice(4) == 0 {
            let before = driver.records.len();
            driver.feed(input);
            prop_assert_eq!(driver.records.len(), before, "a repeated input changed the run: {:?}", next);
        }
    }
    Err(TestCaseError::fail("the run does not end"))
}

/// Checks what must hold of every history, whatever happened.
fn check(plan: &Plan, records: &[Record]) -> Result<(), TestCaseError> {
    let base = |id: &TaskId| id.as_str().split(['[', '/']).next().unwrap_or_default().to_owned();
    let mut tasks: HashMap<String, &Arc<Task>> = plan.tasks.iter().map(|task| (task.id.to_string(), task)).collect();
    let mut agents = plan.agents.clone();
    let mut replanning = false;
    let mut replans = 0;
    let mut begun: HashSet<String> = HashSet::new();
    let mut ended: HashSet<String> = HashSet::new();
    let mut expected: HashSet<String> = tasks.keys().cloned().collect();
    let mut running: HashMap<AttemptId, AgentId> = HashMap::new();
    let mut tries: HashMap<(String, AgentId), u32> = HashMap::new();
    let mut done_for: HashSet<String> = HashSet::new();
    let mut calls = 0;
    for record in records {
        match &record.event {
            Event::TasksAdded { parent, items } => {
                prop_assert!(!replanning || items.is_empty(), "`{parent}` began during a replan");
                begun.insert(parent.to_string());
                expected.extend((0..items.len()).map(|index| parent.item(index).to_string()));
            }
            Event::ReplanStarted { number, .. } => {
                replans += 1;
                prop_assert!(!replanning && *number == replans, "replan {number} is out of turn");
                prop_assert!(plan.replan.is_some_and(|policy| replans <= policy.most), "too many replans");
                replanning = true;
            }
            Event::Replanned { result, .. } => {
                prop_assert!(std::mem::take(&mut replanning), "a replan ended that had not begun");
                let Ok(remainder) = result else { continue };
                for id in &remainder.removed {
                    prop_assert!(!begun.contains(id.as_str()), "`{id}` was left out after it had started");
                }
                for task in &remainder.added {
                    prop_assert!(tasks.insert(task.id.to_string(), task).is_none(), "`{}` was there already", task.id);
                    expected.insert(task.id.to_string());
                }
                agents.extend(remainder.agents.clone());
            }
            Event::QuestionAsked { question, .. } => {
                if let Asker::Plan { task } = &question.asker {
                    begun.insert(base(task));
                }
            }
            Event::ToolCallsAdded { parent, calls } => {
                let earlier = expected.iter().filter(|id| id.starts_with(&format!("{parent}/"))).count();
                expected.extend((0..calls.len()).map(|index| parent.call(earlier + index + 1).to_string()));
            }
            Event::ModelAsked { attempt, .. } => {
                let is_new = begun.insert(base(&attempt.task));
                prop_assert!(!replanning || !is_new, "`{}` began during a replan", attempt.task);
                let prompt = AgentId::from("the model");
                prop_assert!(!ended.contains(attempt.task.as_str()), "`{}` was asked after its end", attempt.task);
                prop_assert!(attempt.number <= 4, "{attempt}: too many turns");
                prop_assert!(running.insert(attempt.clone(), prompt).is_none(), "{attempt} was asked twice");
                prop_assert!(running.len() <= plan.max_parallel, "more in flight than `max_parallel`");
            }
            Event::ModelReplied { attempt, .. } => {
                prop_assert!(running.remove(attempt).is_some(), "{attempt} was answered without having been asked");
            }
            Event::AttemptStarted { attempt, agent, .. } => {
                let task = tasks[&base(&attempt.task)];
                let is_new = begun.insert(base(&attempt.task));
                prop_assert!(!replanning || !is_new, "`{}` began during a replan", attempt.task);
                for need in &task.needs {
                    prop_assert!(ended.contains(need.as_str()), "`{}` started before `{need}` ended", attempt.task);
                }
                prop_assert!(!ended.contains(attempt.task.as_str()), "`{}` ran twice", attempt.task);
                prop_assert!(!done_for.contains(attempt.task.as_str()), "`{}` was repeated", attempt.task);
                prop_assert!(!running.keys().any(|other| other.task == attempt.task), "two attempts at once");
                prop_assert!(running.insert(attempt.clone(), agent.clone()).is_none(), "{attempt} started twice");
                let count = tries.entry((attempt.task.to_string(), agent.clone())).or_default();
                *count += 1;
                calls += 1;
                prop_assert!(*count <= task.retry.max_attempts.max(2), "{attempt}: too many tries");
                prop_assert!(running.len() <= plan.max_parallel, "more in flight than `max_parallel`");
                let on_agent = running.values().filter(|other| *other == agent).count();
                prop_assert!(on_agent <= agents[agent].max_concurrency, "agent `{agent}` is over its limit");
                if let Some(most) = task.foreach.as_ref().and_then(|foreach| foreach.max_parallel) {
                    let of_a_prompt = matches!(task.work, Work::Prompt(_));
                    let siblings = running.keys().filter(|other| base(&other.task) == base(&attempt.task)).count();
                    prop_assert!(of_a_prompt || siblings <= most, "`foreach` is over its limit");
                }
            }
            Event::AttemptSucceeded { attempt, .. } => {
                prop_assert!(running.remove(attempt).is_some(), "{attempt} ended without having started");
                prop_assert!(ended.insert(attempt.task.to_string()), "`{}` ended twice", attempt.task);
            }
            Event::AttemptFailed { attempt, failure } => {
                let agent = running.remove(attempt);
                prop_assert!(agent.is_some(), "{attempt} ended without having started");
                if failure.kind == FailureKind::Interrupted {
                    let count = tries.get_mut(&(attempt.task.to_string(), agent.expect("looked at before")));
                    *count.expect("it was started") -= 1;
                }
                let effect = tasks[&base(&attempt.task)].effect.unwrap_or(Effect::AtMostOnce);
                let ambiguous = matches!(
                    failure.kind,
                    FailureKind::ConnectionLost | FailureKind::IdleTimeout | FailureKind::InvalidResult
                );
                if (ambiguous && effect == Effect::AtMostOnce) || failure.kind == FailureKind::Cancelled {
                    done_for.insert(attempt.task.to_string());
                }
            }
            Event::TaskEnded { task, .. } => {
                prop_assert!(ended.insert(task.to_string()), "`{task}` ended twice");
            }
            _ => {}
        }
    }
    prop_assert!(plan.budget.tool_calls.is_none_or(|most| calls <= most), "{calls} calls are over the budget");
    prop_assert!(running.is_empty(), "attempts without an end: {running:?}");
    let Some(Event::RunEnded { status, .. }) = records.last().map(|record| &record.event) else {
        return Err(TestCaseError::fail("the last event is not the end of the run"));
    };
    if *status != RunStatus::Paused {
        prop_assert_eq!(ended, expected, "tasks were lost");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_rules(
        sketches in prop::collection::vec(sketch(), 1..14),
        max_parallel in 1_usize..6,
        tokens in prop::option::weighted(0.2, 1_u64..1_000),
        tool_calls in prop::option::weighted(0.2, 0_u64..12),
        planned in prop::option::weighted(0.3, 0_usize..4),
        most in 0_u32..4,
        consent in prop_oneof![Just(Consent::Allow), Just(Consent::Ask)],
        seed in any::<u64>(),
    ) {
        let mut plan = random_plan(&sketches, max_parallel, Budget { tokens, tool_calls, ..Budget::default() });
        if most > 0 {
            Arc::make_mut(&mut plan).replan = Some(ReplanPolicy { most, consent });
        }
        let usage = Usage { input_tokens: 40, output_tokens: 10 };
        let planning = planned.map(|turns| GoalPlanning {
            turns: vec![PlannerTurn { cost_usd: Some(0.25), ..planning(1, Some(usage)).turns.remove(0) }; turns],
            ..planning(0, None)
        });
        let records = simulate(&plan, planning.as_ref(), dice_of(seed))?;
        check(&plan, &records)?;
        let json = records.iter().map(|record| serde_json::to_string(record).expect("records are JSON"));
        let again: Vec<Record> = json.map(|line| serde_json::from_str(&line).expect("and come back")).collect();
        prop_assert_eq!(again, records);
    }
}

#[test]
fn an_approval_belongs_to_its_task() {
    let asked = Task { approve: Some(Template(json!("Send to ${{ inputs.who }}?"))), ..task("t", &[]) };
    let plan = plan(vec![asked]);
    let inputs = Arc::new(json!({"who": "Ada"}));
    let beginning = Beginning { plan: &plan, inputs: &inputs, seed: 7, planning: None, source: None };
    let (_, step) = Run::start(beginning, Timestamp(0)).expect("a graph");
    let question = step.commands.iter().find_map(|order| match order {
        Command::Ask { question } => Some(question),
        _ => None,
    });
    let question = question.expect("a question");
    assert_eq!(question.asker, Asker::Plan { task: "t".into() });
    assert_eq!(question.message, "Send to Ada?");
}

#[test]
fn a_question_that_nobody_answers_in_time_gets_its_default() {
    let asking = |default, message: &str| Task {
        approve: Some(Template(json!(message))),
        questions: Some(QuestionPolicy { timeout: Span(Duration::from_secs(60)), default }),
        ..task(message, &[])
    };
    let tasks = vec![asking(DefaultAnswer::Accept, "yes"), asking(DefaultAnswer::Decline, "no")];
    let mut driver = Driver::connected(&plan(tasks));
    driver.feed(Input::QuestionLeftOpen { question: "q1".into(), reason: "nobody".into() });
    driver.feed(Input::QuestionLeftOpen { question: "q2".into(), reason: "nobody".into() });
    assert_eq!(driver.ended(), None, "the deadline will answer");
    driver.sleep();
    assert_eq!(driver.now, Timestamp(61_000));
    assert_eq!(driver.names(), ["yes#1@a"]);
    let Some(Outcome::Failed(failure)) = driver.outcome("no") else { panic!("not failed") };
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Denied, "not approved (answered by its deadline)"));
    assert!(Run::fold(&driver.records).expect("a history") == driver.run);
}
