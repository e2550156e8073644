//! Tests of the dispatcher with scripted agents, a scripted person, and a journal that can be slow or broken.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{RunClock, RuntimeError, RuntimeHost, Services, run};
use crate::engine::{NewRun, Run};
use crate::journal::{JournalError, JournalWriter};
use crate::llm::{Llm, OnDelta};
use crate::mcp::{Agents, CallContext, CallFuture, ClientHost, ResourceWatch};
use crate::model::{
    AgentId, AgentInfo, Answer, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, Event, Failure,
    FailureKind, Form, Input, JsonObject, Origin, Plan, Progress, Question, Record, RunId, RunStatus, Secrets, TaskId,
    Template, ToolCall, ToolOutput, TraceContext, Work,
};
use crate::ui::human::{Human, HumanResponse};
use crate::ui::reporters::{Reporter, Reporters};
use crate::view::{RunView, samples};

/// A journal that is slow, but keeps its records durably.
#[derive(Default)]
struct SlowJournal {
    durable: Arc<Mutex<Vec<Record>>>,
    rejects: RejectedWrites,
}

/// The writes that a broken journal rejects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum RejectedWrites {
    #[default]
    Nothing,
    Records,
    Checkpoints,
}

impl JournalWriter for SlowJournal {
    fn append(&self, _: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>> {
        let (durable, refuses) = (Arc::clone(&self.durable), self.rejects);
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if refuses == RejectedWrites::Records {
                return Err(JournalError::Closed);
            }
            durable.lock().expect("no panic").extend(records.iter().cloned());
            Ok(())
        }
        .boxed()
    }

    fn save_checkpoint(&self, _: &RunId, _: CheckpointKey, _: Value) -> BoxFuture<'static, Result<(), JournalError>> {
        let saved = if self.rejects == RejectedWrites::Checkpoints { Err(JournalError::Closed) } else { Ok(()) };
        std::future::ready(saved).boxed()
    }
}

/// Agents whose behavior is determined by the name of the tool.
struct ScriptedAgents {
    host: Arc<RuntimeHost>,
    durable: Arc<Mutex<Vec<Record>>>,
    closed: AtomicBool,
    /// Set when a call was reattached by its checkpoint.
    reattached: AtomicBool,
}

#[async_trait::async_trait]
impl Agents for ScriptedAgents {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        assert!(agent.as_str() != "broken", "a defect");
        Ok(Arc::new(AgentInfo {
            protocol: "2025-11-25".into(),
            server: None,
            tools: Vec::new(),
            ..AgentInfo::default()
        }))
    }

    fn call(&self, call: ToolCall, context: CallContext) -> CallFuture<'_> {
        Box::pin(async move {
            let CallContext { meta, cancel, checkpoint } = context;
            if checkpoint.is_some() {
                return Err(Failure::new(FailureKind::Interrupted, format!("{} is not here any more", call.attempt)));
            }
            let intent = |record: &Record| matches!(&record.event, Event::AttemptStarted { attempt, .. } if *attempt == call.attempt);
            assert!(self.durable.lock().expect("no panic").iter().any(intent), "{} started too early", call.attempt);
            let origin = Origin { agent: call.agent.clone(), attempt: Some(call.attempt.clone()), key: None };
            let structured = match &*call.tool {
                "echo" => Value::Object(call.arguments),
                "key" => Value::Object(meta),
                "panic" => panic!("a defect"),
                "progress" => {
                    for step in 0..500 {
                        let progress = Progress { progress: f64::from(step), total: Some(499.0), message: None };
                        self.host.on_progress(&call.attempt, progress);
                    }
                    Value::Null
                }
                "ask" => {
                    let elicitation =
                        Elicitation { message: "really?".into(), form: Form::Fields { schema: JsonObject::new() } };
                    json!(self.host.elicit(origin, elicitation).await)
                }
                "think" => {
                    json!(self.host.sample(origin, ChatRequest::default()).await.map_err(|error| error.to_string()))
                }
                "round" => {
                    self.host.on_input_required(call.attempt.clone(), 1, Some("state".into()), json!({})).await;
                    let elicitation =
                        Elicitation { message: "which?".into(), form: Form::Fields { schema: JsonObject::new() } };
                    json!(self.host.elicit(origin, elicitation).await)
                }
                "checkpoint" => {
                    self.host.checkpoint(CheckpointKey::Call(call.attempt.clone()), json!("under way")).await;
                    self.reattached.store(true, Ordering::Relaxed);
                    Value::Null
                }
                "wait" => {
                    cancel.cancelled().await;
                    return Err(Failure::new(FailureKind::Cancelled, "cancelled"));
                }
                other => panic!("no tool `{other}`"),
            };
            Ok(Arc::new(ToolOutput { structured: Some(structured), ..ToolOutput::default() }))
        })
    }

    fn watch_resource(&self, watch: ResourceWatch) -> CallFuture<'_> {
        Box::pin(async move {
            let output = ToolOutput { structured: Some(json!(watch.baseline)), ..ToolOutput::default() };
            // Without a receiver, the task has ended.
            let _ = watch.observed.send("first".into());
            Ok(Arc::new(output))
        })
    }

    async fn suspend(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// A person who never answers. The flag is set when the question is withdrawn.
struct NeverAnswers(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Human for NeverAnswers {
    async fn ask(&self, _: &Question) -> HumanResponse {
        struct Withdrawn(Arc<AtomicBool>);
        impl Drop for Withdrawn {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _withdrawn = Withdrawn(Arc::clone(&self.0));
        std::future::pending().await
    }
}

/// A person and a model that panic on every request.
struct PanickingService;

#[async_trait::async_trait]
impl Human for PanickingService {
    async fn ask(&self, _: &Question) -> HumanResponse {
        panic!("a defect")
    }
}

#[async_trait::async_trait]
impl Llm for PanickingService {
    async fn chat_stream(&self, _: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        panic!("a defect")
    }
}

struct AcceptsQuestions;

#[async_trait::async_trait]
impl Human for AcceptsQuestions {
    async fn ask(&self, _: &Question) -> HumanResponse {
        HumanResponse::Answered {
            answer: Answer::Accept { content: Some(json!({"ok": true})) },
            answered_by: "person".into(),
        }
    }
}

/// A person who approves a question if it was reported before.
struct AcceptsReportedQuestions(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Human for AcceptsReportedQuestions {
    async fn ask(&self, question: &Question) -> HumanResponse {
        match self.0.load(Ordering::Relaxed) {
            true => AcceptsQuestions.ask(question).await,
            false => HumanResponse::Deferred { reason: "no person was asked".into() },
        }
    }
}

#[derive(Default)]
struct RecordingReporter {
    events: Vec<Event>,
    /// The number of events of each step.
    steps: Vec<usize>,
    /// Set when a question was reported.
    question_reported: Arc<AtomicBool>,
}

impl Reporter for RecordingReporter {
    fn report(&mut self, _: &RunView, record: &Record) {
        self.events.push(record.event.clone());
        self.question_reported.fetch_or(matches!(record.event, Event::QuestionAsked { .. }), Ordering::Relaxed);
    }

    fn flush(&mut self) {
        self.steps.push(self.events.len() - self.steps.iter().sum::<usize>());
    }
}

impl RecordingReporter {
    fn output(&self, task: &str) -> Option<Value> {
        self.events.iter().find_map(|event| match event {
            Event::AttemptSucceeded { attempt, output } if attempt.task.as_str() == task => output.structured.clone(),
            _ => None,
        })
    }

    fn status(&self) -> Option<RunStatus> {
        self.events.iter().find_map(|event| match event {
            Event::RunEnded { status, .. } => Some(*status),
            _ => None,
        })
    }
}

/// Returns the agent of a tool. The agent `broken` has one tool.
fn agent_of(tool: &str) -> AgentId {
    if tool == "unreachable" { "broken".into() } else { "a".into() }
}

fn plan(tasks: &[(&str, &str, &[&str])]) -> Arc<Plan> {
    let task = |(id, tool, needs): &(&str, &str, &[&str])| {
        let mut task = samples::call_task(id, agent_of(tool).as_str(), tool);
        task.needs = needs.iter().map(|&need| TaskId::from(need)).collect();
        if let (Work::Call(call), Some(need)) = (&mut task.work, needs.first()) {
            call.arguments = Template(json!({"got": format!("${{{{ tasks.{need}.output }}}}")}));
        }
        Arc::new(task)
    };
    samples::plan_of("test", tasks.iter().map(task).collect(), &["a", "broken"])
}

/// The setup of a run.
struct Scenario {
    rejects: RejectedWrites,
    human: Arc<dyn Human>,
    llm: Option<Arc<dyn Llm>>,
    /// An input that arrives after one second.
    late_input: Option<Input>,
    /// Set when a question was reported.
    question_reported: Arc<AtomicBool>,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            rejects: RejectedWrites::Nothing,
            human: Arc::new(AcceptsQuestions),
            llm: None,
            late_input: None,
            question_reported: Arc::default(),
        }
    }
}

struct ScenarioResult {
    reporter: RecordingReporter,
    closed: bool,
    reattached: bool,
    end: Result<(), RuntimeError>,
}

async fn run_scenario(tasks: &[(&str, &str, &[&str])], scenario: Scenario) -> ScenarioResult {
    let journal = Arc::new(SlowJournal { rejects: scenario.rejects, ..SlowJournal::default() });
    let (host, receiver) = RuntimeHost::new("r".into(), Arc::clone(&journal) as Arc<dyn JournalWriter>, 1);
    let durable = Arc::clone(&journal.durable);
    let (closed, reattached) = (AtomicBool::new(false), AtomicBool::new(false));
    let agents = Arc::new(ScriptedAgents { host: Arc::clone(&host), durable, closed, reattached });
    let services = Services {
        journal,
        agents: Arc::clone(&agents) as Arc<dyn Agents>,
        llm: scenario.llm,
        replanner: None,
        human: scenario.human,
        secrets: Secrets::default(),
        clock: RunClock::start(),
        trace: TraceContext::of_run(&RunId::from("r")),
        content: None,
        cache: None,
        directory: PathBuf::default(),
    };
    if let Some(input) = scenario.late_input {
        let host = Arc::clone(&host);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            host.send(input).await;
        });
    }
    let new_run =
        NewRun { plan: plan(tasks), inputs: Arc::new(json!({})), seed: 1, planning: None, source: None, id: None };
    let mut reporter =
        RecordingReporter { question_reported: scenario.question_reported, ..RecordingReporter::default() };
    let begun = Run::start(new_run, services.clock.now()).expect("a valid plan");
    let id = RunId::from("r");
    let end = run(&id, begun, services, (host, receiver), &mut Reporters::new(&id, vec![&mut reporter])).await;
    let (closed, reattached) = (agents.closed.load(Ordering::Relaxed), agents.reattached.load(Ordering::Relaxed));
    ScenarioResult { reporter, closed, reattached, end }
}

async fn run_plan(tasks: &[(&str, &str, &[&str])]) -> ScenarioResult {
    run_scenario(tasks, Scenario::default()).await
}

#[tokio::test(start_paused = true)]
async fn calls_start_only_after_their_event_is_durable() {
    let world =
        run_plan(&[("a", "echo", &[]), ("b", "echo", &["a"]), ("c", "echo", &["a"]), ("d", "echo", &["b", "c"])]).await;
    assert!(world.end.is_ok());
    assert_eq!(world.reporter.output("d"), Some(json!({"got": {"got": {}}})));
    assert_eq!(world.reporter.status(), Some(RunStatus::Succeeded));
    assert!(world.closed, "agents are closed at the end");
}

#[tokio::test(start_paused = true)]
async fn simultaneous_results_are_committed_together() {
    let world =
        run_plan(&[("a", "echo", &[]), ("b", "echo", &[]), ("c", "echo", &[]), ("d", "echo", &["a", "b", "c"])]);
    // The run and the connection; three starts; three ends and the start that follows; the last end and the run's.
    assert_eq!(world.await.reporter.steps, [2, 4, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn question_is_reported_before_it_is_asked() {
    let question = Arc::new(AtomicBool::new(false));
    let human = Arc::new(AcceptsReportedQuestions(Arc::clone(&question)));
    let world =
        run_scenario(&[("a", "ask", &[])], Scenario { human, question_reported: question, ..Scenario::default() })
            .await;
    assert_eq!(world.reporter.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn calls_carry_idempotency_keys() {
    let world = run_plan(&[("a", "key", &[])]).await;
    let mut meta = JsonObject::from_iter([("kapell/idempotency-key".to_owned(), json!("r/a/1"))]);
    TraceContext::of_run(&RunId::from("r")).add_to(&mut meta, &["r/a/1"]);
    assert_eq!(world.reporter.output("a"), Some(meta.into()));
}

#[tokio::test(start_paused = true)]
async fn answers_reach_the_agent() {
    let world = run_plan(&[("a", "ask", &[])]).await;
    assert_eq!(world.reporter.output("a"), Some(json!({"action": "accept", "content": {"ok": true}})));
}

#[tokio::test(start_paused = true)]
async fn question_answered_elsewhere_is_withdrawn() {
    let withdrawn = Arc::new(AtomicBool::new(false));
    let answer = Answer::Accept { content: Some(json!({"ok": "elsewhere"})) };
    let later = Input::QuestionAnswered { question: "q1".into(), answer: answer.clone(), by: "`kapell answer`".into() };
    let scenario = Scenario {
        human: Arc::new(NeverAnswers(Arc::clone(&withdrawn))),
        late_input: Some(later),
        ..Scenario::default()
    };
    let world = run_scenario(&[("a", "ask", &[])], scenario).await;
    assert_eq!(world.reporter.output("a"), Some(json!(answer)));
    let answers: Vec<&Event> =
        world.reporter.events.iter().filter(|event| matches!(event, Event::QuestionAnswered { .. })).collect();
    assert_eq!(answers, [&Event::QuestionAnswered { question: "q1".into(), answer, by: "`kapell answer`".into() }]);
    assert!(withdrawn.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn sampling_without_model_fails() {
    let world = run_plan(&[("a", "think", &[])]).await;
    assert_eq!(world.reporter.output("a"), Some(json!({"Err": "no language model is configured"})));
}

#[tokio::test(start_paused = true)]
async fn input_required_precedes_its_questions() {
    let world = run_plan(&[("a", "round", &[])]).await;
    let place =
        |predicate: fn(&Event) -> bool| world.reporter.events.iter().position(predicate).expect("it is reported");
    let round = place(|event| matches!(event, Event::InputRequired { .. }));
    assert!(round < place(|event| matches!(event, Event::QuestionAsked { .. })));
}

#[tokio::test(start_paused = true)]
async fn progress_is_coalesced() {
    let world = run_plan(&[("a", "progress", &[])]).await;
    let progress = world.reporter.events.iter().filter_map(|event| match event {
        Event::AttemptProgressed { progress, .. } => Some(progress.progress),
        _ => None,
    });
    let progress: Vec<f64> = progress.collect();
    assert_eq!(progress, [499.0]);
}

#[tokio::test(start_paused = true)]
async fn panicking_call_fails_only_its_task() {
    let world = run_plan(&[("a", "panic", &[]), ("b", "echo", &[])]).await;
    assert_eq!(world.reporter.output("b"), Some(json!({})));
    assert_eq!(world.reporter.status(), Some(RunStatus::Failed));
}

#[tokio::test(start_paused = true)]
async fn panic_while_connecting_makes_agent_unavailable() {
    let world = run_plan(&[("a", "unreachable", &[]), ("b", "echo", &[])]).await;
    assert_eq!(world.reporter.output("b"), Some(json!({})));
    assert_eq!(world.reporter.status(), Some(RunStatus::Failed));
    let unavailable = world.reporter.events.iter().any(|event| {
        matches!(event, Event::AgentUnavailable { agent, failure }
            if agent.as_str() == "broken" && failure.kind == FailureKind::AgentUnavailable)
    });
    assert!(unavailable, "{:?}", world.reporter.events);
}

#[tokio::test(start_paused = true)]
async fn panic_in_model_request_becomes_an_error() {
    let scenario = Scenario { llm: Some(Arc::new(PanickingService)), ..Scenario::default() };
    let world = run_scenario(&[("a", "think", &[]), ("b", "echo", &["a"])], scenario).await;
    let error = world.reporter.output("a").expect("an output");
    assert!(error["Err"].as_str().is_some_and(|error| error.contains("a bug in kapell")), "{error}");
    assert_eq!(world.reporter.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn panic_while_asking_cancels_the_question() {
    let world =
        run_scenario(&[("a", "ask", &[])], Scenario { human: Arc::new(PanickingService), ..Scenario::default() }).await;
    assert_eq!(world.reporter.output("a"), Some(json!({"action": "cancel"})));
    assert_eq!(world.reporter.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn cancellation_ends_the_run() {
    let world = run_scenario(
        &[("a", "wait", &[]), ("b", "echo", &["a"])],
        Scenario { late_input: Some(Input::CancelRequested { by: "p".into() }), ..Scenario::default() },
    )
    .await;
    assert_eq!(world.reporter.status(), Some(RunStatus::Cancelled));
    assert!(world.closed);
}

#[tokio::test(start_paused = true)]
async fn interrupted_run_is_resumable() {
    let world = run_scenario(
        &[("a", "wait", &[]), ("b", "echo", &["a"])],
        Scenario { late_input: Some(Input::InterruptRequested), ..Scenario::default() },
    )
    .await;
    assert_eq!(world.reporter.status(), Some(RunStatus::Interrupted));
    let interrupted = world.reporter.events.iter().filter_map(|event| match event {
        Event::AttemptFailed { attempt, failure } => Some((attempt.to_string(), failure.kind)),
        Event::TaskEnded { task, .. } => panic!("{task} ended"),
        _ => None,
    });
    assert_eq!(interrupted.collect::<Vec<_>>(), [("a#1".to_owned(), FailureKind::Interrupted)]);
}

#[tokio::test(start_paused = true)]
async fn journal_failure_ends_the_run_before_effects() {
    let world =
        run_scenario(&[("a", "echo", &[])], Scenario { rejects: RejectedWrites::Records, ..Scenario::default() }).await;
    assert!(matches!(world.end, Err(RuntimeError::Journal { .. })));
    assert_eq!(world.reporter.events, []);
    assert!(world.closed);
}

#[tokio::test(start_paused = true)]
async fn failed_checkpoint_ends_the_run() {
    let tasks: &[(&str, &str, &[&str])] = &[("a", "checkpoint", &[])];
    let world = run_plan(tasks).await;
    assert!(world.reattached && world.end.is_ok());
    let world = run_scenario(tasks, Scenario { rejects: RejectedWrites::Checkpoints, ..Scenario::default() }).await;
    assert!(matches!(world.end, Err(RuntimeError::Journal { .. })));
    assert!(!world.reattached);
}
