//! Pools of agents, and a host that records their requests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use indexmap::IndexMap;
use kapell::mcp::{ClientHost, LoginPolicy, Options, Pool, SamplingSupport, UnreachablePolicy};
use kapell::model::{
    AgentId, AgentPolicy, AgentSpec, Answer, AttemptId, ChatError, ChatPart, ChatReply, ChatRequest, CheckpointKey,
    Checkpoints, ChildProcess, Elicitation, HumanDuration, JsonObject, LogMessage, NetworkSettings, Operation, Origin,
    Progress, Protocol, SamplingPolicy, Secrets, ToolCall, Transport,
};
use rmcp::model::{ElicitRequest, ElicitRequestParams, InputRequest, ListToolsResult, Tool};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// A host that answers as configured and records everything.
pub(crate) struct RecordingHost {
    directory: tempfile::TempDir,
    answer: Answer,
    record: Mutex<HostRecord>,
    withdrawn: Notify,
}

#[derive(Default)]
struct HostRecord {
    delay: Duration,
    reply: Option<Result<ChatReply, ChatError>>,
    elicited: Vec<(Origin, Elicitation)>,
    sampled: Vec<(Origin, ChatRequest)>,
    rounds: Vec<(u32, Option<String>, Value)>,
    progress: Vec<Progress>,
    completed_pages: Vec<String>,
    logged: Vec<(Origin, LogMessage)>,
    checkpoints: Vec<(CheckpointKey, Value)>,
}

impl RecordingHost {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_answer(Answer::Decline)
    }

    pub(crate) fn with_answer(answer: Answer) -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        Arc::new(Self { directory, answer, record: Mutex::default(), withdrawn: Notify::new() })
    }

    /// Returns the saved checkpoints, oldest first.
    pub(crate) fn checkpoints(&self) -> Vec<(CheckpointKey, Value)> {
        self.record.lock().unwrap().checkpoints.clone()
    }

    /// Returns the checkpoints that a later process finds.
    pub(crate) fn saved_checkpoints(&self) -> Checkpoints {
        let mut saved = Checkpoints::default();
        for (key, checkpoint) in self.checkpoints() {
            saved.insert(key, checkpoint);
        }
        saved
    }

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.record.lock().unwrap().delay = delay;
    }

    pub(crate) fn set_reply(&self, reply: Result<ChatReply, ChatError>) {
        self.record.lock().unwrap().reply = Some(reply);
    }

    pub(crate) fn log_directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn elicited(&self) -> Vec<(Origin, Elicitation)> {
        self.record.lock().unwrap().elicited.clone()
    }

    /// Returns the agents' IDs of the pages that they reported as completed.
    pub(crate) fn completed_pages(&self) -> Vec<String> {
        self.record.lock().unwrap().completed_pages.clone()
    }

    pub(crate) fn sampled(&self) -> Vec<(Origin, ChatRequest)> {
        self.record.lock().unwrap().sampled.clone()
    }

    pub(crate) fn rounds(&self) -> Vec<(u32, Option<String>, Value)> {
        self.record.lock().unwrap().rounds.clone()
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.record.lock().unwrap().progress.clone()
    }

    pub(crate) fn logged(&self) -> Vec<(Origin, LogMessage)> {
        self.record.lock().unwrap().logged.clone()
    }

    /// Waits until a question was withdrawn.
    pub(crate) async fn withdrawn(&self) {
        self.withdrawn.notified().await;
    }
}

struct NotifyOnDrop<'a>(Option<&'a Notify>);

impl Drop for NotifyOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(notify) = self.0 {
            notify.notify_one();
        }
    }
}

#[async_trait::async_trait]
impl ClientHost for RecordingHost {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        let delay = {
            let mut record = self.record.lock().unwrap();
            record.elicited.push((origin, elicitation));
            record.delay
        };
        let mut dropped = NotifyOnDrop(Some(&self.withdrawn));
        tokio::time::sleep(delay).await;
        dropped.0 = None;
        self.answer.clone()
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        let (delay, reply) = {
            let mut record = self.record.lock().unwrap();
            record.sampled.push((origin, chat));
            (record.delay, record.reply.clone())
        };
        tokio::time::sleep(delay).await;
        reply.unwrap()
    }

    async fn on_input_required(&self, _: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        self.record.lock().unwrap().rounds.push((round, request_state, requests));
    }

    fn checkpoint(&self, key: CheckpointKey, checkpoint: Value) -> BoxFuture<'static, ()> {
        self.record.lock().unwrap().checkpoints.push((key, checkpoint));
        Box::pin(std::future::ready(()))
    }

    fn on_progress(&self, _: &AttemptId, progress: Progress) {
        self.record.lock().unwrap().progress.push(progress);
    }

    fn on_page_completed(&self, _: &AgentId, id: &str) {
        self.record.lock().unwrap().completed_pages.push(id.to_owned());
    }

    fn on_log(&self, origin: Origin, message: LogMessage) {
        self.record.lock().unwrap().logged.push((origin, message));
    }
}

/// Returns a host that answers everything.
pub(crate) fn answering_host() -> Arc<RecordingHost> {
    let host = RecordingHost::with_answer(Answer::Accept { content: Some(json!({"name": "Ada"})) });
    host.set_reply(Ok(ChatReply {
        parts: vec![ChatPart::Text { text: "in short".to_owned() }],
        cost_usd: None,
        warning: None,
        model: "small".to_owned(),
        stop_reason: "endTurn".to_owned(),
        usage: None,
    }));
    host
}

/// Returns a pool with the given agents.
pub(crate) fn pool(specs: Vec<AgentSpec>, host: &Arc<RecordingHost>) -> Pool {
    Pool::new(specs, options(host.log_directory()), host.clone())
}

/// Returns the options of a pool that stores only logs, in `log_dir`.
pub(crate) fn options(log_dir: &Path) -> Options {
    Options {
        log_dir: log_dir.to_owned(),
        server_cache: None,
        login_dir: None,
        offers_dir: None,
        login: LoginPolicy::default(),
        secrets: Secrets::default(),
        unreachable: UnreachablePolicy::Retry,
        sampling: SamplingSupport::WithTools,
        trace: None,
    }
}

/// Returns a question for a name.
pub(crate) fn name_question() -> InputRequest {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "who?".to_owned(),
        requested_schema: serde_json::from_value(schema).unwrap(),
    }))
}

/// Returns an agent with the simplest settings.
pub(crate) fn spec(id: &str, transport: Transport) -> AgentSpec {
    AgentSpec {
        id: id.into(),
        transport,
        network: NetworkSettings::default(),
        roots: Vec::new(),
        protocol: Protocol::Auto,
        startup_timeout: Duration::from_secs(20),
        installation_timeout: Duration::ZERO,
        max_processes: 1,
        max_message_bytes: 64 * 1024 * 1024,
        log_level: kapell::model::LogLevel::Info,
        sampling: SamplingPolicy::default(),
        check_arguments: kapell::model::SchemaChecks::Strict,
        check_results: kapell::model::SchemaChecks::Strict,
        policy: AgentPolicy {
            required: false,
            max_concurrency: 4,
            tool_timeout: HumanDuration(Duration::from_secs(20)),
            effect: None,
            fingerprint: String::new(),
        },
        enabled_tools: None,
        disabled_tools: Vec::new(),
        capabilities: IndexMap::new(),
        unset_variables: Vec::new(),
    }
}

/// Returns a child process with this command.
pub(crate) fn process(command: &str, args: &[&str]) -> ChildProcess {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ChildProcess { command: command.to_owned(), args, env: IndexMap::new(), cwd: None }
}

/// Returns the agent `odd`, which misbehaves as `mode` says.
pub(crate) fn odd_agent(mode: &str) -> AgentSpec {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/agents/odd.py");
    spec("odd", Transport::Stdio(process("python3", &[script.to_str().unwrap(), mode])))
}

/// Returns an attempt at a tool of the agent `odd`.
pub(crate) fn attempt(tool: &str, arguments: Value) -> ToolCall {
    ToolCall {
        operation: Operation::CallTool,
        attempt: AttemptId { task: "t".into(), number: 1 },
        agent: "odd".into(),
        tool: tool.into(),
        arguments: object(arguments),
        timeout: Duration::from_secs(20),
        deadline: None,
        awaits: None,
        cache: None,
        save: None,
    }
}

/// Returns a list of tools with these names, which accept any object.
pub(crate) fn tools_result(names: &[&'static str]) -> ListToolsResult {
    let schema = Arc::new(object(json!({"type": "object"})));
    ListToolsResult::with_all_items(names.iter().map(|&name| Tool::new(name, name, schema.clone())).collect())
}

/// Returns the object in a value.
pub(crate) fn object(value: Value) -> JsonObject {
    value.as_object().cloned().unwrap()
}

/// Waits until the condition holds.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), polling).await.expect("the condition is not met");
}

/// Lets `time` pass on the runtime's clock at once. Timers fire in order, and the clock then continues.
pub(crate) async fn let_time_pass(time: Duration) {
    struct PausedClock;
    impl Drop for PausedClock {
        fn drop(&mut self) {
            tokio::time::resume();
        }
    }
    tokio::time::pause();
    let _paused = PausedClock;
    tokio::time::sleep(time).await;
}

/// Returns whether a process exists and is not a zombie.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// Waits until all of the processes have ended.
pub(crate) async fn wait_until_gone(pids: &[u32]) {
    let have_ended = async {
        while pids.iter().any(|pid| is_running(*pid)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), have_ended).await.expect("a process is left");
}
