//! Sample plans, questions, and runs as hand-written events, for tests.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde_json::json;

use crate::model::{
    AgentInfo, AgentPolicy, Answer, Asker, AttemptId, Budget, Call, ChatReply, ChatRequest, Event, Failure,
    FailureKind, Foreach, Form, HumanDuration, LogMessage, Operation, Origin, Outcome, Plan, PlanPatch, Progress,
    Question, Record, Route, RunStatus, SamplingOrigin, SkipReason, Task, TaskId, Template, Timestamp, ToolOutput,
    Usage, Work,
};

/// Creates numbered events with increasing times.
#[derive(Default)]
struct EventTape {
    now: u64,
    records: Vec<Record>,
}

impl EventTape {
    fn push_after(&mut self, millis: u64, event: Event) -> &mut Self {
        self.now += millis;
        let seq = self.records.len() as u64;
        self.records.push(Record { seq, at: Timestamp(self.now), event });
        self
    }
}

/// Returns a task that calls a tool of an agent.
pub(crate) fn call_task(id: &str, agent: &str, tool: &str) -> Task {
    let call = Call {
        operation: Operation::CallTool,
        routes: vec![Route { agent: agent.into(), tool: tool.into(), rank: 0 }],
        arguments: Template(json!({})),
        awaits: None,
    };
    Task::new(id.into(), Work::Call(call))
}

/// Returns the policy of an optional agent.
pub(crate) fn agent_policy() -> AgentPolicy {
    AgentPolicy {
        required: false,
        max_concurrency: 8,
        tool_timeout: HumanDuration(Duration::from_secs(9)),
        effect: None,
        fingerprint: String::new(),
    }
}

/// Returns a plan with these tasks.
pub(crate) fn plan_of(name: &str, tasks: Vec<Arc<Task>>, agents: &[&str]) -> Arc<Plan> {
    Arc::new(Plan {
        name: name.to_owned(),
        description: None,
        missing: None,
        check_goal: false,
        schedule: None,
        inputs: IndexMap::new(),
        env: IndexMap::new(),
        replan: None,
        budget: Budget::default(),
        max_parallel: 8,
        tasks,
        outputs: None,
        agents: agents.iter().map(|&agent| (agent.into(), agent_policy())).collect(),
    })
}

/// Returns a question that an agent asks during the first attempt of a task.
pub(crate) fn agent_question(message: &str, form: Form) -> Question {
    Question {
        id: "q1".into(),
        asker: Asker::Agent(origin("travel", Some("book"))),
        item: None,
        tool: None,
        message: message.to_owned(),
        form,
        call: None,
        deadline: None,
    }
}

fn plan(ids: &[&str]) -> Arc<Plan> {
    let tasks = ids.iter().map(|id| Arc::new(call_task(id, "research", "search"))).collect();
    plan_of("brief", tasks, &["research"])
}

fn run_started(ids: &[&str]) -> Event {
    Event::RunStarted { plan: plan(ids), inputs: Arc::new(json!({})), seed: 1, source: None, id: None }
}

fn attempt(task: &str, number: u32) -> AttemptId {
    AttemptId { task: task.into(), number }
}

fn started(task: &str, number: u32, route: (&str, &str)) -> Event {
    Event::AttemptStarted { attempt: attempt(task, number), agent: route.0.into(), tool: route.1.into() }
}

fn progressed(task: &str, progress: f64, message: &str) -> Event {
    let progress = Progress { progress, total: Some(100.0), message: Some(message.to_owned()) };
    Event::AttemptProgressed { attempt: attempt(task, 1), progress }
}

fn succeeded(task: &str, number: u32) -> Event {
    Event::AttemptSucceeded { attempt: attempt(task, number), output: Arc::new(ToolOutput::default()) }
}

fn origin(agent: &str, task: Option<&str>) -> Origin {
    Origin { agent: agent.into(), attempt: task.map(|task| attempt(task, 1)), key: None }
}

fn question(id: &str, asker: Asker, message: &str) -> Event {
    let question = Question { id: id.into(), asker, ..agent_question(message, Form::Approval) };
    Event::QuestionAsked { question: Arc::new(question), request: None }
}

/// Returns progress of the task `find`: pairs of a time in milliseconds and the step (of 1,000) that was reached.
pub(crate) fn progress_events(steps: impl Iterator<Item = (u64, u64)>) -> Vec<Record> {
    let mut tape = EventTape::default();
    tape.push_after(0, run_started(&["find"])).push_after(0, started("find", 1, ("research", "search")));
    for (at, step) in steps {
        tape.now = at;
        tape.push_after(0, progressed("find", step as f64 / 10.0, &format!("step {step}")));
    }
    tape.records
}

/// Returns a run of `count` tasks that have all started.
pub(crate) fn many_started_tasks(count: usize) -> Vec<Record> {
    let ids: Vec<_> = (0..count).map(|n| format!("task-{n}")).collect();
    let mut tape = EventTape::default();
    tape.push_after(1_000, run_started(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
    for id in &ids {
        tape.push_after(0, started(id, 1, ("research", "search")));
    }
    tape.records
}

/// Returns a run with two replans: the first changes the plan, and the second fails.
pub(crate) fn replanned_run() -> Vec<Record> {
    let fail = |task: &str| Event::TaskEnded {
        task: task.into(),
        outcome: Outcome::Failed(Failure::new(FailureKind::ToolError, "no such page")),
    };
    let mut added = plan(&["t1"]).tasks.clone();
    Arc::make_mut(&mut added[0]).title = Some("Elsewhere\u{1b}[2J".to_owned());
    let patch = PlanPatch { kept: vec!["post".into()], removed: vec!["read".into()], added, ..PlanPatch::default() };
    let removed = Outcome::Skipped(SkipReason::Replanned);
    let mistakes = "the model returned no valid plan\n`keep` names `x`\u{7}, which is not a task";
    let mut tape = EventTape { now: 1_795_000_000_000, records: Vec::new() };
    tape.push_after(0, run_started(&["find", "read", "post"]))
        .push_after(0, started("find", 1, ("research", "search")))
        .push_after(
            10,
            Event::AttemptFailed {
                attempt: attempt("find", 1),
                failure: Failure::new(FailureKind::ToolError, "no such page"),
            },
        )
        .push_after(0, fail("find"))
        .push_after(0, Event::ReplanStarted { number: 1, failed: vec!["find".into()] })
        .push_after(900, Event::Replanned { number: 1, result: Ok(Arc::new(patch)) })
        .push_after(0, Event::TaskEnded { task: "read".into(), outcome: removed })
        .push_after(0, started("t1", 1, ("research", "search")))
        .push_after(10, fail("t1"))
        .push_after(0, Event::ReplanStarted { number: 2, failed: vec!["t1".into()] })
        .push_after(800, Event::Replanned { number: 2, result: Err(Failure::new(FailureKind::ModelFailed, mistakes)) })
        .push_after(0, started("post", 1, ("research", "search")))
        .push_after(10, succeeded("post", 1))
        .push_after(
            0,
            Event::RunEnded { status: RunStatus::Failed, cause: None, outputs: None, output_errors: IndexMap::new() },
        );
    tape.records
}

/// Returns a run with nearly every kind of event.
pub(crate) fn whole_run() -> Vec<Record> {
    let mut tape = EventTape { now: 1_795_000_000_000, records: Vec::new() };
    push_connect(&mut tape);
    push_find(&mut tape);
    push_book(&mut tape);
    push_read(&mut tape);
    let skipped = Outcome::Skipped(SkipReason::NeedFailed { task: "read".into() });
    tape.push_after(0, Event::TaskEnded { task: "publish".into(), outcome: skipped })
        .push_after(10, question("q2", Asker::Plan { task: "post".into() }, "Post it?"))
        .push_after(
            10,
            Event::QuestionDeferred { question: "q2".into(), reason: "standard input is closed".to_owned() },
        )
        .push_after(10, Event::CancelRequested { by: Some("person".to_owned()) })
        .push_after(10, Event::TaskEnded { task: "post".into(), outcome: Outcome::Cancelled })
        .push_after(
            0,
            Event::RunEnded {
                status: RunStatus::Failed,
                cause: Some(crate::model::EndCause::RequiredAgentUnavailable { agent: "archive".into() }),
                outputs: None,
                output_errors: [("brief".to_owned(), "`read` has no output".to_owned())].into_iter().collect(),
            },
        );
    tape.records
}

fn push_connect(tape: &mut EventTape) {
    let info = AgentInfo {
        protocol: "2025-11-25".to_owned(),
        server: Some("research-agent 1.0\x1b[31m".to_owned()),
        tools: Vec::new(),
        warnings: vec!["tool `now` is left out: its `inputSchema` is not an object".to_owned()],
        ..AgentInfo::default()
    };
    let failure = Failure::new(FailureKind::AgentUnavailable, "connection refused").with_help("is it running?");
    tape.push_after(0, run_started(&["find", "book", "read", "publish", "post"]))
        .push_after(0, Event::AgentConnecting { agent: "research".into() })
        .push_after(0, Event::AgentConnecting { agent: "archive".into() })
        .push_after(300, Event::AgentConnected { agent: "research".into(), info: Arc::new(info) })
        .push_after(100, Event::AgentUnavailable { agent: "archive".into(), failure });
}

fn push_find(tape: &mut EventTape) {
    let message = LogMessage { level: "info".to_owned(), logger: None, data: json!("index\nloaded") };
    let failure = Failure::new(FailureKind::ConnectionLost, "the connection was lost");
    let chat = ChatRequest { max_tokens: 100, ..ChatRequest::default() };
    let reply = ChatReply {
        parts: vec![crate::model::ChatPart::Text { text: "short".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "small".to_owned(),
        stop_reason: "endTurn".to_owned(),
        usage: Some(Usage { input_tokens: 80, output_tokens: 12 }),
    };
    let due = Timestamp(tape.now + 3_530);
    tape.push_after(10, started("find", 1, ("research", "search")))
        .push_after(500, progressed("find", 25.0, "fetching\x07 page 1"))
        .push_after(10, progressed("find", 10.0, "overtaken"))
        .push_after(10, Event::AgentLogged { origin: origin("research", Some("find")), message })
        .push_after(1_000, Event::AttemptFailed { attempt: attempt("find", 1), failure })
        .push_after(
            0,
            Event::RetryScheduled {
                task: "find".into(),
                ready_at: due,
                agent: Some("mirror".into()),
                reason: "the connection was lost".to_owned(),
            },
        )
        .push_after(2_000, started("find", 2, ("mirror", "search")))
        .push_after(
            10,
            Event::SamplingStarted {
                request: "r1".into(),
                origin: SamplingOrigin::Agent(origin("mirror", Some("find"))),
                chat: Arc::new(chat),
            },
        )
        .push_after(900, Event::SamplingFinished { request: "r1".into(), result: Ok(reply) })
        .push_after(90, succeeded("find", 2));
}

fn push_book(tape: &mut EventTape) {
    let answer = Answer::Accept { content: Some(json!({"confirm": true})) };
    let rounds = json!({"confirm": {"method": "elicitation/create"}});
    tape.push_after(10, started("book", 1, ("travel", "book")))
        .push_after(
            10,
            Event::InputRequired { attempt: attempt("book", 1), round: 1, request_state: None, requests: rounds },
        )
        .push_after(10, question("q1", Asker::Agent(origin("travel", Some("book"))), "Book for 120 EUR?"))
        .push_after(9_000, Event::QuestionAnswered { question: "q1".into(), answer, by: "person".to_owned() })
        .push_after(100, succeeded("book", 1));
}

fn push_read(tape: &mut EventTape) {
    let not_found = || Failure::new(FailureKind::ToolError, "404 not found").with_help("check the address");
    let items = Failure::new(FailureKind::ItemsFailed, "1 of 2 items failed");
    tape.push_after(10, Event::TasksAdded { parent: "read".into(), items: Arc::new(vec![json!("a"), json!("b")]) })
        .push_after(0, started("read[0]", 1, ("research", "fetch")))
        .push_after(0, started("read[1]", 1, ("research", "fetch")))
        .push_after(1_500, succeeded("read[0]", 1))
        .push_after(70_000, Event::AttemptFailed { attempt: attempt("read[1]", 1), failure: not_found() })
        .push_after(0, Event::TaskEnded { task: "read[1]".into(), outcome: Outcome::Failed(not_found()) })
        .push_after(0, Event::TaskEnded { task: "read".into(), outcome: Outcome::Failed(items) });
}

/// A task of a simulated run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimulatedTask {
    /// The time of each call.
    pub(crate) millis: u64,
    /// The number of items, for a `foreach` task.
    pub(crate) items: Option<usize>,
}

/// Returns a run of these tasks with at most `parallel` calls at once. A `foreach` task starts when the tasks before it
/// have ended, and the next one when its items have.
pub(crate) fn simulated_run(tasks: &[SimulatedTask], parallel: usize) -> Vec<Record> {
    let ids: Vec<String> = (0..tasks.len()).map(|n| format!("task-{n}")).collect();
    let mut planned: Vec<Task> = ids.iter().map(|id| call_task(id, "research", "search")).collect();
    for (task, simulated) in planned.iter_mut().zip(tasks) {
        let items = Template(json!([]));
        task.foreach = simulated
            .items
            .map(|_| Foreach { items, is_matrix: false, binding: "item".to_owned(), max_parallel: None }.into());
    }
    let plan = plan_of("simulated", planned.into_iter().map(Arc::new).collect(), &["research"]);
    let mut tape = EventTape { now: 1_000, records: Vec::new() };
    tape.push_after(0, Event::RunStarted { plan, inputs: Arc::new(json!({})), seed: 1, source: None, id: None });
    let stages = tasks.iter().zip(&ids).fold(Vec::<Vec<(String, u64)>>::new(), |mut stages, (task, id)| {
        match (task.items, stages.last_mut()) {
            (Some(items), _) => stages.push((0..items).map(|item| (format!("{id}[{item}]"), task.millis)).collect()),
            (None, Some(stage)) if !stage[0].0.ends_with(']') => stage.push((id.clone(), task.millis)),
            (None, _) => stages.push(vec![(id.clone(), task.millis)]),
        }
        stages
    });
    for stage in stages {
        let parent = stage[0].0.strip_suffix("[0]").map(TaskId::from);
        if let Some(parent) = &parent {
            let items = vec![json!(0); stage.len()].into();
            tape.push_after(0, Event::TasksAdded { parent: parent.clone(), items });
        }
        push_stage(&mut tape, stage, parallel);
        if let Some(task) = parent {
            let outcome = Outcome::Succeeded(Arc::default());
            tape.push_after(0, Event::TaskEnded { task, outcome });
        }
    }
    tape.records
}

/// Runs calls with the given times, at most `parallel` at once.
fn push_stage(tape: &mut EventTape, stage: Vec<(String, u64)>, parallel: usize) {
    let mut pending = stage.into_iter();
    let mut running: Vec<(u64, String)> = Vec::new();
    loop {
        for (id, millis) in pending.by_ref().take(parallel - running.len()) {
            tape.push_after(0, started(&id, 1, ("research", "search")));
            running.push((tape.now + millis, id));
        }
        let Some(next) = (0..running.len()).min_by_key(|&index| running[index].0) else { return };
        let (at, id) = running.remove(next);
        tape.now = at;
        tape.push_after(0, succeeded(&id, 1));
    }
}

/// Returns a run with two calls that report progress, one with a long title.
pub(crate) fn calls_with_progress() -> Vec<Record> {
    let mut tape = EventTape { now: 1_000, records: Vec::new() };
    let mut tasks = vec![call_task("find", "research", "search"), call_task("book", "travel", "book_trip")];
    tasks[0].title = Some("Find the twenty most cited articles about the history of Lisbon".to_owned());
    tasks.push(call_task("post", "archive", "store_document"));
    let plan = plan_of("brief", tasks.into_iter().map(Arc::new).collect(), &["research"]);
    tape.push_after(0, Event::RunStarted { plan, inputs: Arc::new(json!({})), seed: 1, source: None, id: None })
        .push_after(100, started("find", 1, ("research", "search")))
        .push_after(100, started("book", 2, ("travel", "book_trip")))
        .push_after(100, progressed("find", 40.0, "reading the second page of the results in the catalog"));
    tape.records
}

/// Returns a run of a `foreach` task with `count` items, `ended` of them ended with two failures, and others running.
pub(crate) fn items_in_progress(count: usize, ended: usize) -> Vec<Record> {
    let items = SimulatedTask { millis: 500, items: Some(count) };
    let mut records = simulated_run(&[items, SimulatedTask { millis: 500, items: None }], 20);
    let ends = records.iter().enumerate().filter(|(_, record)| matches!(record.event, Event::AttemptSucceeded { .. }));
    let cut = ends.map(|(index, _)| index).nth(ended - 1).expect("enough items") + 1;
    records.truncate(cut);
    let mut failures = 0;
    for record in &mut records {
        if let Event::AttemptSucceeded { attempt, .. } = &record.event
            && failures < 2
        {
            failures += 1;
            let outcome = Outcome::Failed(Failure::new(FailureKind::ToolError, "no such page"));
            record.event = Event::TaskEnded { task: attempt.task.clone(), outcome };
        }
    }
    records
}

/// Returns the end of a run after its last event.
pub(crate) fn run_ended(status: RunStatus, last: &Record) -> Record {
    let event = Event::RunEnded { status, cause: None, outputs: None, output_errors: IndexMap::new() };
    Record { seq: last.seq + 1, at: last.at, event }
}
