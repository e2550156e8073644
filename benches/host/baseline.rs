//! The baseline: a loop written by hand over the graph, at the least cost that is possible with rmcp. It has no
//! retries, reports, or checks.
#![allow(deprecated, reason = "sampling is deprecated since 2026-07-28, and is part of what is measured")]

use std::collections::VecDeque;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig, ContentBlock,
    CreateMessageRequestParams, CreateMessageResult, JsonObject, ProgressNotificationParam, ProtocolVersion,
    SamplingMessage,
};
use rmcp::service::{NotificationContext, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient};
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::BenchResult;
use crate::graph::{Argument, Graph, MAX_PARALLEL, Task};

/// A revision of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[value(rename_all = "lower")]
pub(crate) enum Era {
    /// 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// A job for the baseline.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BaselineJob {
    /// The graph of calls.
    pub(crate) graph: Graph,
    /// The address of each agent, in the order of [`Agent::ALL`](crate::graph::Agent::ALL).
    pub(crate) agents: Vec<AgentAddress>,
    /// The revision of the protocol.
    pub(crate) era: Era,
    /// The base address of the language model.
    pub(crate) llm: Option<String>,
    /// The path of the durable journal, if there is one.
    pub(crate) journal: Option<PathBuf>,
}

/// The address of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AgentAddress {
    /// A command, reached over its stdin and stdout.
    Command(Vec<String>),
    /// A URL.
    Url(String),
}

/// The outcome of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BaselineReport {
    /// The digest of all outputs.
    pub(crate) digest: String,
    /// The number of progress notifications.
    pub(crate) notifications: usize,
}

/// Runs the job in the file at `path`.
///
/// # Errors
/// Fails on any error, since the baseline does not recover.
pub(crate) async fn run(path: &Path) -> BenchResult<BaselineReport> {
    let job: BaselineJob = serde_json::from_reader(BufReader::new(std::fs::File::open(path)?))?;
    let client = BenchClient {
        http: reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?,
        llm: job.llm.map(|base| format!("{base}/chat/completions").into()),
        notifications: Arc::default(),
    };
    let mut journal = job.journal.as_deref().map(Journal::open).transpose()?;
    let connecting = job.agents.iter().map(|reach| AgentConnection::open(reach, client.clone(), job.era));
    let links = futures::future::try_join_all(connecting).await?;
    let outputs = execute_graph(&job.graph, &links, journal.as_mut()).await?;
    let digest = job.graph.digest(|task| &outputs[task]);
    for link in links {
        link.close().await?;
    }
    Ok(BaselineReport { digest, notifications: client.notifications.load(Ordering::Relaxed) })
}

/// Executes the graph, and returns the output of each task.
async fn execute_graph(
    graph: &Graph,
    links: &[AgentConnection],
    mut journal: Option<&mut Journal>,
) -> BenchResult<Vec<String>> {
    let mut waits_for: Vec<usize> = graph.tasks.iter().map(|task| task.needs().len()).collect();
    let mut dependents = vec![Vec::new(); graph.tasks.len()];
    for (index, task) in graph.tasks.iter().enumerate() {
        for &need in task.needs() {
            dependents[need].push(index);
        }
    }
    let mut outputs = vec![String::new(); graph.tasks.len()];
    let mut ready: VecDeque<usize> = (0..graph.tasks.len()).filter(|&task| waits_for[task] == 0).collect();
    let mut calls = FuturesUnordered::new();
    let mut ended = Vec::new();
    loop {
        let mut begun = Vec::new();
        while calls.len() < MAX_PARALLEL
            && let Some(index) = ready.pop_front()
        {
            let task = &graph.tasks[index];
            let call = links[task.agent as usize].call(task, &outputs);
            begun.push(index);
            calls.push(async move { (index, call.await) });
        }
        // The calls are sent when they are polled, which is after this.
        if let Some(journal) = journal.as_deref_mut().filter(|_| !begun.is_empty()) {
            journal.append(begun.iter().map(|&task| (graph.tasks[task].id.as_str(), "started", "")))?;
        }
        let Some(first) = calls.next().await else { return Ok(outputs) };
        ended.push(first);
        // All other results that are available are committed together with it.
        while let Poll::Ready(Some(next)) = futures::poll!(calls.next()) {
            ended.push(next);
        }
        for (index, output) in &mut ended {
            outputs[*index] = std::mem::replace(output, Ok(String::new()))?;
        }
        if let Some(journal) = journal.as_deref_mut() {
            let rows = ended.iter().map(|(task, _)| (graph.tasks[*task].id.as_str(), "ended", outputs[*task].as_str()));
            journal.append(rows)?;
        }
        for (index, _) in ended.drain(..) {
            for &dependent in &dependents[index] {
                waits_for[dependent] -= 1;
                if waits_for[dependent] == 0 {
                    ready.push_back(dependent);
                }
            }
        }
    }
}

/// A connection to one agent.
struct AgentConnection {
    service: RunningService<RoleClient, BenchClient>,
    child: Option<tokio::process::Child>,
}

impl AgentConnection {
    async fn open(reach: &AgentAddress, client: BenchClient, era: Era) -> BenchResult<Self> {
        let era = match era {
            Era::Legacy => ClientLifecycleMode::Initialize,
            Era::Modern => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
        };
        match reach {
            AgentAddress::Command(command) => {
                let [program, arguments @ ..] = command.as_slice() else {
                    return Err("an agent has no command".into());
                };
                let mut child = tokio::process::Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()?;
                let pipes = child.stdout.take().zip(child.stdin.take()).ok_or("an agent has no pipes")?;
                Ok(Self { service: client.serve_with_lifecycle(pipes, era).await?, child: Some(child) })
            }
            AgentAddress::Url(url) => {
                // rmcp's own client opens a connection for each request, and at most 16 at once.
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.clone())
                    .max_concurrent_requests(16 * MAX_PARALLEL);
                config.channel_buffer_capacity = 16 * MAX_PARALLEL;
                let transport = StreamableHttpClientTransport::with_client(client.http.clone(), config);
                Ok(Self { service: client.serve_with_lifecycle(transport, era).await?, child: None })
            }
        }
    }

    /// Calls `task` with the outputs of the tasks that it needs. Returns the text of the result.
    fn call(&self, task: &Task, outputs: &[String]) -> impl Future<Output = BenchResult<String>> + use<'_> {
        let (name, argument) = &task.argument;
        let value = match argument {
            Argument::Text(text) => json!(text),
            Argument::Number(number) => json!(number),
            Argument::Outputs(tasks) => {
                Value::String(tasks.iter().map(|&task| outputs[task].as_str()).collect::<Vec<_>>().join("|"))
            }
        };
        let arguments = JsonObject::from_iter([(name.clone(), value)]);
        let request = CallToolRequestParams::new(task.tool.clone()).with_arguments(arguments);
        let asks_back = task.tool == "think";
        async move {
            if asks_back {
                return result_text(self.service.call_tool(request).await?);
            }
            match self.service.call_tool_once(request).await? {
                CallToolResponse::Complete(result) => result_text(result),
                _ => Err("only `think` asks for input".into()),
            }
        }
    }

    async fn close(self) -> BenchResult<()> {
        self.service.cancel().await?;
        if let Some(mut child) = self.child {
            child.wait().await?;
        }
        Ok(())
    }
}

fn result_text(result: CallToolResult) -> BenchResult<String> {
    let failed = result.is_error == Some(true);
    let text = result.content.into_iter().filter_map(|block| match block {
        ContentBlock::Text(text) => Some(text.text),
        _ => None,
    });
    let text: String = text.collect();
    if failed { Err(text.into()) } else { Ok(text) }
}

/// The client handler, which answers the requests of agents.
#[derive(Clone)]
struct BenchClient {
    http: reqwest::Client,
    llm: Option<Arc<str>>,
    notifications: Arc<AtomicUsize>,
}

impl ClientHandler for BenchClient {
    fn get_info(&self) -> ClientConfig {
        let mut config = ClientConfig::default();
        config.capabilities = ClientCapabilities::builder().enable_sampling().build();
        config
    }

    async fn on_progress(&self, _progress: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let llm = self.llm.as_deref().ok_or_else(|| ErrorData::internal_error("no model is configured", None))?;
        let failed = |error: reqwest::Error| ErrorData::internal_error(error.to_string(), None);
        let messages: Vec<Value> = request.messages.iter().map(chat_message).collect();
        let body = json!({ "model": "scripted", "messages": messages, "max_tokens": request.max_tokens });
        let reply = self.http.post(llm).json(&body).send().await.map_err(failed)?;
        let reply: Value = reply.json().await.map_err(failed)?;
        let text = reply["choices"][0]["message"]["content"].as_str().unwrap_or_default();
        let result = CreateMessageResult::new(SamplingMessage::assistant_text(text), "scripted".into());
        Ok(result.with_stop_reason(CreateMessageResult::STOP_REASON_END_TURN))
    }
}

/// Returns a message in the format of the endpoint.
fn chat_message(message: &SamplingMessage) -> Value {
    let message = json!(message);
    let content = &message["content"];
    let text = content["text"].as_str().or_else(|| content[0]["text"].as_str());
    json!({ "role": message["role"], "content": text.unwrap_or_default() })
}

/// The minimum of a durable journal: a row for each call before it is sent, and one for each result before dependent
/// calls start. Rows that are known at the same time share a commit.
struct Journal(Connection);

impl Journal {
    fn open(path: &Path) -> BenchResult<Self> {
        let database = Connection::open(path)?;
        database.pragma_update(None, "journal_mode", "WAL")?;
        database.pragma_update(None, "synchronous", "FULL")?;
        database.execute_batch("CREATE TABLE events (seq INTEGER PRIMARY KEY, task TEXT, kind TEXT, body TEXT)")?;
        Ok(Self(database))
    }

    /// Appends rows of a task, its state, and its output.
    fn append<'r>(&mut self, rows: impl Iterator<Item = (&'r str, &'static str, &'r str)>) -> BenchResult<()> {
        let commit = self.0.transaction()?;
        {
            let mut insert = commit.prepare_cached("INSERT INTO events (task, kind, body) VALUES (?1, ?2, ?3)")?;
            for row in rows {
                insert.execute(row)?;
            }
        }
        Ok(commit.commit()?)
    }
}
