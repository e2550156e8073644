//! Tests the demo agents through clients of both eras over both transports.

#![expect(deprecated, reason = "sampling and logging are deprecated since 2026-07-28 and still in use everywhere")]

mod archive;
mod bindery;
mod concierge;
mod conversation;
mod research;
mod travel;

use std::sync::{Arc, Mutex};

use rmcp::model::*;
use rmcp::service::{NotificationContext, PeerRequestOptions, RequestContext, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient, ServiceError};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::server::DemoServer;
use super::transport::{http, stdio};
use super::{DemoAgent, DemoError, DemoSettings};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClientEra {
    Legacy,
    Modern,
}

#[derive(Debug, Clone, Copy)]
enum ClientTransport {
    Stdio,
    Http,
}

const ALL_CONNECTIONS: [(ClientEra, ClientTransport); 4] = [
    (ClientEra::Legacy, ClientTransport::Stdio),
    (ClientEra::Legacy, ClientTransport::Http),
    (ClientEra::Modern, ClientTransport::Stdio),
    (ClientEra::Modern, ClientTransport::Http),
];

/// A client that returns configured answers and records requests and notifications.
#[derive(Clone, Default)]
struct TestClient {
    answer: Option<ElicitResult>,
    model: Option<Result<&'static str, &'static str>>,
    /// Whether the client supports tasks.
    tasks: bool,
    record: Arc<Mutex<ClientRecord>>,
}

#[derive(Default)]
struct ClientRecord {
    questions: Vec<ElicitRequestParams>,
    prompts: Vec<CreateMessageRequestParams>,
    progress: Vec<(f64, Option<f64>, Option<String>)>,
    logs: Vec<Value>,
}

impl ClientHandler for TestClient {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation =
            self.answer.is_some().then(|| ElicitationCapability::new().with_form(FormElicitationCapability::new()));
        capabilities.sampling = self.model.is_some().then(SamplingCapability::default);
        let tasks = || ExtensionCapabilities::from([(TASKS_EXTENSION_ID.to_owned(), JsonObject::new())]);
        capabilities.extensions = self.tasks.then(tasks);
        ClientConfig::new(capabilities, Implementation::new("guest", "0"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.record.lock().expect("not poisoned").questions.push(request);
        Ok(self.answer.clone().expect("declared only with an answer"))
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        self.record.lock().expect("not poisoned").prompts.push(request);
        match self.model.expect("declared only with a model") {
            Ok(text) => Ok(CreateMessageResult::new(SamplingMessage::assistant_text(text), "guest-model".into())),
            Err(reason) => Err(ErrorData::internal_error(reason, None)),
        }
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.record.lock().expect("not poisoned").progress.push((params.progress, params.total, params.message));
    }

    async fn on_logging_message(
        &self,
        params: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.record.lock().expect("not poisoned").logs.push(params.data);
    }
}

/// A demo agent and the directory of its effects and data.
struct TestAgent {
    agent: DemoAgent,
    directory: TempDir,
}

impl TestAgent {
    fn new(agent: DemoAgent) -> Self {
        Self { agent, directory: tempfile::tempdir().expect("a temporary directory") }
    }

    fn server(&self) -> DemoServer {
        let effects = Some(self.directory.path().join("effects.jsonl"));
        DemoServer::new(self.agent, DemoSettings { effects, directory: Some(self.directory.path().join("archive")) })
    }

    /// Returns the recorded effects, one JSON object each.
    fn effects(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.directory.path().join("effects.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    async fn connect(
        &self,
        guest: TestClient,
        (era, wire): (ClientEra, ClientTransport),
    ) -> RunningService<RoleClient, TestClient> {
        let lifecycle = match era {
            ClientEra::Legacy => ClientLifecycleMode::Initialize,
            ClientEra::Modern => {
                ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
            }
        };
        match wire {
            ClientTransport::Stdio => {
                let (client_stream, server_stream) = tokio::io::duplex(64 * 1024);
                let (input, output) = tokio::io::split(server_stream);
                tokio::spawn(stdio::serve(self.server(), input, output));
                guest.serve_with_lifecycle(client_stream, lifecycle).await.expect("connected")
            }
            ClientTransport::Http => {
                let address = self.listen().await;
                let transport = StreamableHttpClientTransport::from_uri(format!("http://{address}/mcp"));
                guest.serve_with_lifecycle(transport, lifecycle).await.expect("connected")
            }
        }
    }

    async fn listen(&self) -> std::net::SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(http::serve_on(self.server(), listener));
        address
    }
}

fn call(tool: &'static str, arguments: Value) -> CallToolRequestParams {
    let Value::Object(arguments) = arguments else { panic!("arguments are an object") };
    CallToolRequestParams::new(tool).with_arguments(arguments)
}

fn text(result: &CallToolResult) -> String {
    result.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect()
}

fn accepted(content: Value) -> Option<ElicitResult> {
    Some(ElicitResult::new(ElicitationAction::Accept).with_content(content))
}

/// Checks the structured content of a result against the output schema of the tool.
async fn assert_matches_output_schema(
    client: &RunningService<RoleClient, TestClient>,
    tool: &str,
    result: &CallToolResult,
) {
    let tools = client.list_all_tools().await.expect("listed");
    let tool = tools.iter().find(|offered| offered.name == tool).expect("offered");
    let schema = Value::Object(tool.output_schema.as_deref().expect("has an output schema").clone());
    let structured = result.structured_content.as_ref().expect("has structured content");
    if let Err(error) = jsonschema::validate(&schema, structured) {
        panic!("{structured} breaks {schema}: {error}");
    }
}
