//! What the tests of the MCP room share: a host that records what it is asked, and agents.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub(crate) mod lives;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::BoxFuture;
use indexmap::IndexMap;
use kapell::{
    mcp::{Host, Options, Pool, Sampling, Unreachable},
    model::{
        AgentPolicy, AgentSpec, Answer, AttemptId, ChatError, ChatPart, ChatReply, ChatRequest, ChildProcess,
        Elicitation, JsonObject, LogMessage, NoteKey, Notes, Origin, Progress, Protocol, SamplingPolicy, Span,
        StartAttempt, Transport,
    },
};
use rmcp::model::{ListToolsResult, Tool};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A host that answers as it is told and remembers everything.
pub(crate) struct Recorder {
    directory: tempfile::TempDir,
    answer: Answer,
    told: Mutex<Told>,
    withdrawn: Notify,
}

#[derive(Default)]
struct Told {
    thinking: Duration,
    reply: Option<Result<ChatReply, ChatError>>,
    elicited: Vec<(Origin, Elicitation)>,
    sampled: Vec<(Origin, ChatRequest)>,
    rounds: Vec<(u32, Option<String>, Value)>,
    progress: Vec<Progress>,
    logged: Vec<(Origin, LogMessage)>,
    notes: Vec<(NoteKey, Value)>,
}

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Self::answering(Answer::Decline)
    }

    pub(crate) fn answering(answer: Answer) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        Arc::new(Self { directory, answer, told: Mutex::default(), withdrawn: Notify::new() })
    }

    /// The notes that were kept, oldest first.
    pub(crate) fn notes(&self) -> Vec<(NoteKey, Value)> {
        self.told.lock().unwrap().notes.clone()
    }

    /// What a later process finds of them.
    pub(crate) fn left(&self) -> Notes {
        let mut notes = Notes::default();
        for (key, note) in self.notes() {
            notes.insert(key, note);
        }
        notes
    }

    pub(crate) fn think_for(&self, thinking: Duration) {
        self.told.lock().unwrap().thinking = thinking;
    }

    pub(crate) fn replies(&self, reply: Result<ChatReply, ChatError>) {
        self.told.lock().unwrap().reply = Some(reply);
    }

    pub(crate) fn logs(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn elicited(&self) -> Vec<(Origin, Elicitation)> {
        self.told.lock().unwrap().elicited.clone()
    }

    pub(crate) fn sampled(&self) -> Vec<(Origin, ChatRequest)> {
        self.told.lock().unwrap().sampled.clone()
    }

    pub(crate) fn rounds(&self) -> Vec<(u32, Option<String>, Value)> {
        self.told.lock().unwrap().rounds.clone()
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.told.lock().unwrap().progress.clone()
    }

    pub(crate) fn logged(&self) -> Vec<(Origin, LogMessage)> {
        self.told.lock().unwrap().logged.clone()
    }

    /// Waits until a question was taken back.
    pub(crate) async fn withdrawn(&self) {
        self.withdrawn.notified().await;
    }
}

struct OnDrop<'a>(Option<&'a Notify>);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.0 {
            notify.notify_one();
        }
    }
}

#[async_trait::async_trait]
impl Host for Recorder {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        let thinking = {
            let mut told = self.told.lock().unwrap();
            told.elicited.push((origin, elicitation));
            told.thinking
        };
        let mut dropped = OnDrop(Some(&self.withdrawn));
        tokio::time::sleep(thinking).await;
        dropped.0 = None;
        self.answer.clone()
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        let (thinking, reply) = {
            let mut told = self.told.lock().unwrap();
            told.sampled.push((origin, chat));
            (told.thinking, told.reply.clone())
        };
        tokio::time::sleep(thinking).await;
        reply.unwrap()
    }

    async fn input_required(&self, _: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        self.told.lock().unwrap().rounds.push((round, request_state, requests));
    }

    fn note(&self, key: NoteKey, note: Value) -> BoxFuture<'static, ()> {
        self.told.lock().unwrap().notes.push((key, note));
        Box::pin(std::future::ready(()))
    }

    fn progressed(&self, _: &AttemptId, progress: Progress) {
        self.told.lock().unwrap().progress.push(progress);
    }

    fn logged(&self, origin: Origin, message: LogMessage) {
        self.told.lock().unwrap().logged.push((origin, message));
    }
}

/// A host that answers everything.
pub(crate) fn helpful() -> Arc<Recorder> {
    let host = Recorder::answering(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    host.replies(Ok(ChatReply {
        parts: vec![ChatPart::Text { text: "in short".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "small".to_owned(),
        stop_reason: "endTurn".to_owned(),
        usage: None,
    }));
    host
}

/// A pool over the given agents.
pub(crate) fn pool(specs: Vec<AgentSpec>, host: &Arc<Recorder>) -> Pool {
    let options = Options {
        log_dir: host.logs().to_owned(),
        era_cache: None,
        unreachable: Unreachable::Retry,
        sampling: Sampling::WithTools,
        client_name: "test".to_owned(),
        client_version: "0".to_owned(),
    };
    Pool::new(specs, options, host.clone())
}

/// An agent with everything at its simplest.
pub(crate) fn spec(id: &str, transport: Transport) -> AgentSpec {
    AgentSpec {
        id: id.into(),
        transport,
        protocol: Protocol::Auto,
        startup_timeout: Duration::from_secs(20),
        max_processes: 1,
        sampling: SamplingPolicy::default(),
        check_results: kapell::model::ResultChecks::Strict,
        policy: AgentPolicy {
            required: false,
            max_concurrency: 4,
            tool_timeout: Span(Duration::from_secs(20)),
            effect: None,
            fingerprint: String::new(),
        },
        enabled_tools: None,
        disabled_tools: Vec::new(),
        capabilities: IndexMap::new(),
    }
}

/// A child process.
pub(crate) fn process(command: &str, args: &[&str]) -> ChildProcess {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ChildProcess { command: command.to_owned(), args, env: IndexMap::new(), cwd: None }
}

/// The agent `odd`, misbehaving as `mode` says.
pub(crate) fn odd(mode: &str) -> AgentSpec {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/agents/odd.py");
    spec("odd", Transport::Stdio(process("python3", &[script.to_str().unwrap(), mode])))
}

/// A call of the agent `odd`.
pub(crate) fn attempt(tool: &str, arguments: Value) -> StartAttempt {
    StartAttempt {
        attempt: AttemptId { task: "t".into(), number: 1 },
        agent: "odd".into(),
        tool: tool.into(),
        arguments: object(arguments),
        timeout: Duration::from_secs(20),
        deadline: None,
        awaits: None,
    }
}

/// What a server offers: tools of these names, which take any object.
pub(crate) fn offer(names: &[&'static str]) -> ListToolsResult {
    let schema = Arc::new(object(json!({"type": "object"})));
    ListToolsResult::with_all_items(names.iter().map(|&name| Tool::new(name, name, schema.clone())).collect())
}

/// The object in a value.
pub(crate) fn object(value: Value) -> JsonObject {
    value.as_object().cloned().unwrap()
}

/// Waits until it holds.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), holds).await.expect("it does not come to that");
}

/// Whether a process exists and is no zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Waits until none of the processes is left.
pub(crate) async fn until_gone(pids: &[u32]) {
    let gone = async {
        while pids.iter().any(|pid| is_running(*pid)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("a process is left");
}
