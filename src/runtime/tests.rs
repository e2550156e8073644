//! The dispatcher with scripted agents, a scripted person and a journal that can be slow or broken.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use indexmap::IndexMap;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Agents, Called, Clock, Hub, RuntimeError, Services, Start, run};
use crate::{
    human::{Human, Reply},
    journal::{Journal, JournalError},
    llm::{Hear, Llm},
    mcp::Host,
    model::{
        AgentId, AgentInfo, AgentPolicy, Answer, Budget, Call, ChatError, ChatReply, ChatRequest, Elicitation, Event,
        Failure, FailureKind, Form, Input, JsonObject, NoteKey, OnFailure, Origin, Plan, Progress, Question, Record,
        Retry, Route, RunId, RunStatus, Secrets, Span, StartAttempt, Task, TaskId, Template, ToolOutput, Work,
    },
    report::Reporter,
};

/// Takes its time; what it has kept is durable.
#[derive(Default)]
struct SlowJournal {
    durable: Arc<Mutex<Vec<Record>>>,
    refuses: Refuses,
}

/// What a broken journal does not keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Refuses {
    #[default]
    Nothing,
    Records,
    Notes,
}

impl Journal for SlowJournal {
    fn append(&self, _: &RunId, records: Arc<[Record]>) -> BoxFuture<'static, Result<(), JournalError>> {
        let (durable, refuses) = (Arc::clone(&self.durable), self.refuses);
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if refuses == Refuses::Records {
                return Err(JournalError::Closed);
            }
            durable.lock().expect("no panic").extend(records.iter().cloned());
            Ok(())
        }
        .boxed()
    }

    fn note(&self, _: &RunId, _: NoteKey, _: Value) -> BoxFuture<'static, Result<(), JournalError>> {
        let kept = if self.refuses == Refuses::Notes { Err(JournalError::Closed) } else { Ok(()) };
        std::future::ready(kept).boxed()
    }
}

/// Does what the tool's name says.
struct Scripted {
    hub: Arc<Hub>,
    durable: Arc<Mutex<Vec<Record>>>,
    closed: AtomicBool,
    /// Whether a call went on after its note.
    noted: AtomicBool,
}

#[async_trait::async_trait]
impl Agents for Scripted {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        assert!(agent.as_str() != "broken", "a defect");
        Ok(Arc::new(AgentInfo {
            protocol: "2025-11-25".into(),
            server: None,
            tools: Vec::new(),
            ..AgentInfo::default()
        }))
    }

    fn call(&self, call: StartAttempt, meta: JsonObject, cancel: CancellationToken) -> Called<'_> {
        Box::pin(async move {
            let intent = |record: &Record| matches!(&record.event, Event::AttemptStarted { attempt, .. } if *attempt == call.attempt);
            assert!(self.durable.lock().expect("no panic").iter().any(intent), "{} left too early", call.attempt);
            let origin = Origin { agent: call.agent.clone(), attempt: Some(call.attempt.clone()), key: None };
            let said = match &*call.tool {
                "echo" => Value::Object(call.arguments),
                "key" => Value::Object(meta),
                "panic" => panic!("a defect"),
                "progress" => {
                    for step in 0..500 {
                        let progress = Progress { progress: f64::from(step), total: Some(499.0), message: None };
                        self.hub.progressed(&call.attempt, progress);
                    }
                    Value::Null
                }
                "ask" => {
                    let elicitation =
                        Elicitation { message: "really?".into(), form: Form::Fields { schema: JsonObject::new() } };
                    json!(self.hub.elicit(origin, elicitation).await)
                }
                "think" => {
                    json!(self.hub.sample(origin, ChatRequest::default()).await.map_err(|error| error.to_string()))
                }
                "round" => {
                    self.hub.input_required(call.attempt.clone(), 1, Some("state".into()), json!({})).await;
                    let elicitation =
                        Elicitation { message: "which?".into(), form: Form::Fields { schema: JsonObject::new() } };
                    json!(self.hub.elicit(origin, elicitation).await)
                }
                "note" => {
                    self.hub.note(NoteKey::Call(call.attempt.clone()), json!("under way")).await;
                    self.noted.store(true, Ordering::Relaxed);
                    Value::Null
                }
                "wait" => {
                    cancel.cancelled().await;
                    return Err(Failure::new(FailureKind::Cancelled, "cancelled"));
                }
                other => panic!("no tool `{other}`"),
            };
            Ok(Arc::new(ToolOutput { content: Vec::new(), structured: Some(said), warning: None }))
        })
    }

    async fn take_up(
        &self,
        call: StartAttempt,
        _: Value,
        _: JsonObject,
        _: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure> {
        Err(Failure::new(FailureKind::Interrupted, format!("{} is not here any more", call.attempt)))
    }

    async fn leave(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Thinks for ever; says when it is not asked any more.
struct Ponders(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Human for Ponders {
    async fn ask(&self, _: &Question) -> Reply {
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

/// Panics whatever it is asked.
struct Broken;

#[async_trait::async_trait]
impl Human for Broken {
    async fn ask(&self, _: &Question) -> Reply {
        panic!("a defect")
    }
}

#[async_trait::async_trait]
impl Llm for Broken {
    async fn chat_aloud(&self, _: &ChatRequest, _: Hear<'_>) -> Result<ChatReply, ChatError> {
        panic!("a defect")
    }
}

struct Yes;

#[async_trait::async_trait]
impl Human for Yes {
    async fn ask(&self, _: &Question) -> Reply {
        Reply::Answered { answer: Answer::Accept { content: Some(json!({"ok": true})) }, by: "person".into() }
    }
}

/// Says yes, once the question that it is asked was told to everybody.
struct Watches(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Human for Watches {
    async fn ask(&self, question: &Question) -> Reply {
        match self.0.load(Ordering::Relaxed) {
            true => Yes.ask(question).await,
            false => Reply::LeftOpen { reason: "nobody was told of the question".into() },
        }
    }
}

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    /// How many events each step had.
    steps: Vec<usize>,
    /// Whether a question was among them.
    question: Arc<AtomicBool>,
}

impl Reporter for Seen {
    fn report(&mut self, records: &[Record]) {
        self.steps.push(records.len());
        self.events.extend(records.iter().map(|record| record.event.clone()));
        let is_question = |record: &Record| matches!(record.event, Event::QuestionAsked { .. });
        self.question.fetch_or(records.iter().any(is_question), Ordering::Relaxed);
    }
}

impl Seen {
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

/// The agent `broken` has one tool.
fn agent_of(tool: &str) -> AgentId {
    if tool == "unreachable" { "broken".into() } else { "a".into() }
}

fn plan(tasks: &[(&str, &str, &[&str])]) -> Arc<Plan> {
    let task = |(id, tool, needs): &(&str, &str, &[&str])| {
        Arc::new(Task {
            id: (*id).into(),
            title: None,
            needs: needs.iter().map(|&need| TaskId::from(need)).collect(),
            condition: None,
            foreach: None,
            approve: None,
            questions: None,
            work: Work::Call(Call {
                routes: vec![Route { agent: agent_of(tool), tool: (*tool).into(), rank: 0 }],
                arguments: Template(
                    needs.first().map_or(json!({}), |need| json!({"got": format!("${{{{ tasks.{need}.output }}}}")})),
                ),
                awaits: None,
            }),
            retry: Retry::default(),
            effect: None,
            timeout: None,
            deadline: None,
            on_failure: OnFailure::Fail,
            budget: Budget::default(),
        })
    };
    let policy = AgentPolicy {
        required: false,
        max_concurrency: 8,
        tool_timeout: Span(Duration::from_secs(9)),
        effect: None,
        fingerprint: String::new(),
    };
    Arc::new(Plan {
        name: "test".into(),
        description: None,
        inputs: IndexMap::new(),
        max_parallel: 8,
        replan: None,
        budget: Budget::default(),
        tasks: tasks.iter().map(task).collect(),
        outputs: None,
        agents: IndexMap::from([(AgentId::from("a"), policy.clone()), (AgentId::from("broken"), policy)]),
    })
}

/// What a run works with, and what becomes of it.
struct Play {
    refuses: Refuses,
    human: Arc<dyn Human>,
    llm: Option<Arc<dyn Llm>>,
    /// What somebody sends after a second.
    later: Option<Input>,
    /// Where it is said that a question was seen.
    question: Arc<AtomicBool>,
}

impl Default for Play {
    fn default() -> Self {
        Self { refuses: Refuses::Nothing, human: Arc::new(Yes), llm: None, later: None, question: Arc::default() }
    }
}

struct World {
    seen: Seen,
    closed: bool,
    noted: bool,
    end: Result<(), RuntimeError>,
}

async fn drive_with(tasks: &[(&str, &str, &[&str])], play: Play) -> World {
    let journal = Arc::new(SlowJournal { refuses: play.refuses, ..SlowJournal::default() });
    let (hub, inbox) = Hub::new("r".into(), Arc::clone(&journal) as Arc<dyn Journal>, 1);
    let durable = Arc::clone(&journal.durable);
    let (closed, noted) = (AtomicBool::new(false), AtomicBool::new(false));
    let agents = Arc::new(Scripted { hub: Arc::clone(&hub), durable, closed, noted });
    let services = Services {
        journal,
        agents: Arc::clone(&agents) as Arc<dyn Agents>,
        llm: play.llm,
        replanner: None,
        human: play.human,
        secrets: Secrets::default(),
        clock: Clock::start(),
    };
    if let Some(input) = play.later {
        let hub = Arc::clone(&hub);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            hub.send(input).await;
        });
    }
    let (id, plan, inputs) = (RunId::from("r"), plan(tasks), Arc::new(json!({})));
    let start = Start { run: &id, plan: &plan, inputs: &inputs, seed: 1, planning: None, source: None };
    let mut seen = Seen { question: play.question, ..Seen::default() };
    let end = run(start, services, (hub, inbox), &mut seen).await;
    let (closed, noted) = (agents.closed.load(Ordering::Relaxed), agents.noted.load(Ordering::Relaxed));
    World { seen, closed, noted, end }
}

async fn drive(tasks: &[(&str, &str, &[&str])]) -> World {
    drive_with(tasks, Play::default()).await
}

#[tokio::test(start_paused = true)]
async fn data_passes_along_the_graph_and_no_call_leaves_before_its_start_is_durable() {
    let world =
        drive(&[("a", "echo", &[]), ("b", "echo", &["a"]), ("c", "echo", &["a"]), ("d", "echo", &["b", "c"])]).await;
    assert!(world.end.is_ok());
    assert_eq!(world.seen.output("d"), Some(json!({"got": {"got": {}}})));
    assert_eq!(world.seen.status(), Some(RunStatus::Succeeded));
    assert!(world.closed, "agents are closed at the end");
}

#[tokio::test(start_paused = true)]
async fn calls_that_end_together_are_decided_and_kept_together_with_what_follows() {
    let world = drive(&[("a", "echo", &[]), ("b", "echo", &[]), ("c", "echo", &[]), ("d", "echo", &["a", "b", "c"])]);
    // The run and the connection; three starts; three ends and the start that follows; the last end and the run's.
    assert_eq!(world.await.seen.steps, [2, 4, 4, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_person_is_asked_only_after_everybody_was_told_of_the_question() {
    let question = Arc::new(AtomicBool::new(false));
    let human = Arc::new(Watches(Arc::clone(&question)));
    let world = drive_with(&[("a", "ask", &[])], Play { human, question, ..Play::default() }).await;
    assert_eq!(world.seen.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn every_call_carries_its_idempotency_key() {
    let world = drive(&[("a", "key", &[])]).await;
    assert_eq!(world.seen.output("a"), Some(json!({"kapell/idempotency-key": "r/a/1"})));
}

#[tokio::test(start_paused = true)]
async fn a_question_reaches_the_person_and_the_answer_reaches_the_agent() {
    let world = drive(&[("a", "ask", &[])]).await;
    assert_eq!(world.seen.output("a"), Some(json!({"action": "accept", "content": {"ok": true}})));
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_answered_elsewhere_is_not_asked_here_any_more() {
    let withdrawn = Arc::new(AtomicBool::new(false));
    let answer = Answer::Accept { content: Some(json!({"ok": "elsewhere"})) };
    let later =
        Input::QuestionAnswered { question: "q1".into(), answer: answer.clone(), by: "person elsewhere".into() };
    let play = Play { human: Arc::new(Ponders(Arc::clone(&withdrawn))), later: Some(later), ..Play::default() };
    let world = drive_with(&[("a", "ask", &[])], play).await;
    assert_eq!(world.seen.output("a"), Some(json!(answer)));
    let answers: Vec<&Event> =
        world.seen.events.iter().filter(|event| matches!(event, Event::QuestionAnswered { .. })).collect();
    assert_eq!(answers, [&Event::QuestionAnswered { question: "q1".into(), answer, by: "person elsewhere".into() }]);
    assert!(withdrawn.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn sampling_without_a_model_is_refused() {
    let world = drive(&[("a", "think", &[])]).await;
    assert_eq!(world.seen.output("a"), Some(json!({"Err": "no language model is configured"})));
}

#[tokio::test(start_paused = true)]
async fn what_a_round_asks_for_comes_after_it() {
    let world = drive(&[("a", "round", &[])]).await;
    let place = |wanted: fn(&Event) -> bool| world.seen.events.iter().position(wanted).expect("it is told");
    let round = place(|event| matches!(event, Event::InputRequired { .. }));
    assert!(round < place(|event| matches!(event, Event::QuestionAsked { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_progress_replaces_itself_and_its_last_word_is_kept() {
    let world = drive(&[("a", "progress", &[])]).await;
    let progress = world.seen.events.iter().filter_map(|event| match event {
        Event::AttemptProgressed { progress, .. } => Some(progress.progress),
        _ => None,
    });
    let progress: Vec<f64> = progress.collect();
    assert_eq!(progress, [499.0]);
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_one_call_fails_that_task_alone() {
    let world = drive(&[("a", "panic", &[]), ("b", "echo", &[])]).await;
    assert_eq!(world.seen.output("b"), Some(json!({})));
    assert_eq!(world.seen.status(), Some(RunStatus::Failed));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_connecting_makes_that_agent_unavailable() {
    let world = drive(&[("a", "unreachable", &[]), ("b", "echo", &[])]).await;
    assert_eq!(world.seen.output("b"), Some(json!({})));
    assert_eq!(world.seen.status(), Some(RunStatus::Failed));
    let unavailable = world.seen.events.iter().any(|event| {
        matches!(event, Event::AgentUnavailable { agent, failure }
            if agent.as_str() == "broken" && failure.kind == FailureKind::AgentUnavailable)
    });
    assert!(unavailable, "{:?}", world.seen.events);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_model_is_asked_becomes_an_error_for_who_asked() {
    let play = Play { llm: Some(Arc::new(Broken)), ..Play::default() };
    let world = drive_with(&[("a", "think", &[]), ("b", "echo", &["a"])], play).await;
    let error = world.seen.output("a").expect("an output");
    assert!(error["Err"].as_str().is_some_and(|error| error.contains("a bug in kapell")), "{error}");
    assert_eq!(world.seen.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_person_is_asked_cancels_the_question() {
    let world = drive_with(&[("a", "ask", &[])], Play { human: Arc::new(Broken), ..Play::default() }).await;
    assert_eq!(world.seen.output("a"), Some(json!({"action": "cancel"})));
    assert_eq!(world.seen.status(), Some(RunStatus::Succeeded));
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_cancels_what_runs_and_ends_the_run() {
    let world = drive_with(
        &[("a", "wait", &[]), ("b", "echo", &["a"])],
        Play { later: Some(Input::CancelRequested { by: "p".into() }), ..Play::default() },
    )
    .await;
    assert_eq!(world.seen.status(), Some(RunStatus::Cancelled));
    assert!(world.closed);
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_cancels_what_runs_and_leaves_the_run_resumable() {
    let world = drive_with(
        &[("a", "wait", &[]), ("b", "echo", &["a"])],
        Play { later: Some(Input::InterruptRequested), ..Play::default() },
    )
    .await;
    assert_eq!(world.seen.status(), Some(RunStatus::Interrupted));
    let interrupted = world.seen.events.iter().filter_map(|event| match event {
        Event::AttemptFailed { attempt, failure } => Some((attempt.to_string(), failure.kind)),
        Event::TaskEnded { task, .. } => panic!("{task} ended"),
        _ => None,
    });
    assert_eq!(interrupted.collect::<Vec<_>>(), [("a#1".to_owned(), FailureKind::Interrupted)]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_journal_ends_the_run_before_any_effect() {
    let world = drive_with(&[("a", "echo", &[])], Play { refuses: Refuses::Records, ..Play::default() }).await;
    assert!(matches!(world.end, Err(RuntimeError::Journal { .. })));
    assert_eq!(world.seen.events, []);
    assert!(world.closed);
}

#[tokio::test(start_paused = true)]
async fn a_note_that_is_not_kept_ends_the_run_before_anything_rests_on_it() {
    let tasks: &[(&str, &str, &[&str])] = &[("a", "note", &[])];
    let world = drive(tasks).await;
    assert!(world.noted && world.end.is_ok());
    let world = drive_with(tasks, Play { refuses: Refuses::Notes, ..Play::default() }).await;
    assert!(matches!(world.end, Err(RuntimeError::Journal { .. })));
    assert!(!world.noted);
}
