//! The reference agent: an MCP server with the least overhead that is possible with rmcp.
#![allow(deprecated, reason = "sampling is deprecated since 2026-07-28, and is what `think` measures")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::serve::ListenerExt as _;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
    CreateMessageRequestParams, InputRequest, InputRequests, InputRequiredResult, JsonObject, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProtocolVersion, SamplingMessage, ServerCapabilities,
    ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use crate::BenchResult;
use crate::graph::Digest;

/// A transport of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AgentTransport {
    /// Standard input and output.
    Stdio,
    /// HTTP at an address that the agent prints. The agent ends when its standard input closes.
    Http,
}

/// Serves until the client disconnects. Writes to `stamp` the times of the first call and of the end of the last sleep,
/// in nanoseconds since 1970.
///
/// # Errors
/// Fails if the transport is not available.
pub(crate) async fn serve(over: AgentTransport, stamp: Option<PathBuf>) -> BenchResult<()> {
    let agent = ReferenceAgent { stamp: stamp.map(|path| Arc::new(CallTimestamps::new(path))) };
    match over {
        AgentTransport::Stdio => {
            agent.serve(rmcp::transport::stdio_pipes()).await?.waiting().await?;
        }
        AgentTransport::Http => {
            let config = StreamableHttpServerConfig::default().with_sse_retry(None);
            let sessions = Arc::new(LocalSessionManager::default());
            let service = StreamableHttpService::new(move || Ok(agent.clone()), sessions, config);
            serve_http(axum::Router::new().nest_service("/mcp", service), "/mcp").await?;
        }
    }
    Ok(())
}

/// Serves `router` on a free port, and prints the address of `path`. Ends when standard input closes, so the server
/// never outlives its parent.
///
/// # Errors
/// Fails if no port is available or the address cannot be printed.
pub(crate) async fn serve_http(router: axum::Router, path: &str) -> BenchResult<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("http://{}{path}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stdin_closed = async { tokio::io::stdin().read_to_end(&mut Vec::new()).await };
    tokio::select! {
        served = axum::serve(listener, router) => served?,
        _ = stdin_closed => {}
    }
    Ok(())
}

#[derive(Clone)]
struct ReferenceAgent {
    stamp: Option<Arc<CallTimestamps>>,
}

/// The times of the first call and the last sleep.
struct CallTimestamps {
    path: PathBuf,
    first_call: OnceLock<u128>,
    sleepers: AtomicUsize,
}

impl CallTimestamps {
    fn new(path: PathBuf) -> Self {
        Self { path, first_call: OnceLock::new(), sleepers: AtomicUsize::new(0) }
    }

    fn record_first_call(&self) {
        self.first_call.get_or_init(|| {
            let now = unix_nanos();
            self.write(&now.to_string());
            now
        });
    }

    /// Sleeps. The last concurrent sleeper records the end.
    async fn sleep(&self, time: Duration) {
        self.sleepers.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(time).await;
        if self.sleepers.fetch_sub(1, Ordering::Relaxed) == 1 {
            let first = self.first_call.get().copied().unwrap_or_default();
            self.write(&format!("{first} {}", unix_nanos()));
        }
    }

    fn write(&self, text: &str) {
        // Errors are ignored: the reader of the file fails if it is missing.
        let _ = std::fs::write(&self.path, text);
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with the times of another process")]
fn unix_nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

impl ServerHandler for ReferenceAgent {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = [
            tool("echo", "Gives a text back", "text", "string"),
            tool("mix", "Gives the digest of a text", "text", "string"),
            tool("sleep_ms", "Sleeps for milliseconds", "ms", "number"),
            tool("work", "Gives a text of some bytes", "bytes", "integer"),
            tool("think", "Asks the host's model once", "prompt", "string"),
            tool("progress", "Reports progress several times", "n", "integer"),
        ];
        Ok(ListToolsResult::with_all_items(tools.into()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if let Some(stamp) = &self.stamp {
            stamp.record_first_call();
        }
        let mut arguments = request.arguments.unwrap_or_default();
        match request.name.as_ref() {
            "echo" => Ok(text_result(text_argument(&mut arguments, "text"))),
            "mix" => Ok(text_result(Digest::of(&text_argument(&mut arguments, "text")).to_string())),
            "sleep_ms" => {
                let time = Duration::from_millis(number_argument(&arguments, "ms"));
                match &self.stamp {
                    Some(stamp) => stamp.sleep(time).await,
                    None => tokio::time::sleep(time).await,
                }
                Ok(text_result("slept".to_owned()))
            }
            "work" => Ok(text_result("x".repeat(number_argument(&arguments, "bytes") as usize))),
            "progress" => {
                let count = number_argument(&arguments, "n");
                send_progress(count, &context).await;
                Ok(text_result(count.to_string()))
            }
            "think" => think(text_argument(&mut arguments, "prompt"), request.input_responses.as_ref(), &context).await,
            other => Err(ErrorData::invalid_params(format!("unknown tool `{other}`"), None)),
        }
    }
}

fn tool(name: &'static str, description: &'static str, argument: &str, kind: &str) -> Tool {
    let properties = json!({ argument: { "type": kind } });
    let schema = [("type", json!("object")), ("properties", properties), ("required", json!([argument]))];
    let schema: JsonObject = schema.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Tool::new(name, description, Arc::new(schema))
}

fn text_result(text: String) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

fn text_argument(arguments: &mut JsonObject, name: &str) -> String {
    match arguments.remove(name) {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn number_argument(arguments: &JsonObject, name: &str) -> u64 {
    arguments.get(name).and_then(Value::as_u64).unwrap_or_default()
}

async fn send_progress(count: u64, context: &RequestContext<RoleServer>) {
    let Some(token) = context.meta.get_progress_token() else { return };
    for step in 1..=count {
        let progress = ProgressNotificationParam::new(token.clone(), step as f64).with_total(count as f64);
        // Errors are ignored, since the client may have disconnected.
        let _ = context.peer.notify_progress(progress).await;
    }
}

/// Makes one sampling request: during the call up to 2025-11-25, as a round of input since 2026-07-28.
async fn think(
    prompt: String,
    given: Option<&rmcp::model::InputResponses>,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    const NAME: &str = "model";
    let request = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(prompt)], 64);
    let modern = context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
    if !modern {
        let reply = context.peer.create_message(request).await;
        let reply = reply.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        return Ok(text_result(sampling_text(&json!(reply))));
    }
    if let Some(reply) = given.and_then(|given| given.get(NAME)) {
        return Ok(text_result(sampling_text(reply)));
    }
    let request = InputRequest::CreateMessage(CreateMessageRequest::new(request));
    let requests = InputRequests::from_iter([(NAME.to_owned(), request)]);
    Ok(InputRequiredResult::new(Some(requests), Some("asked".to_owned())).into())
}

/// Returns the text of a sampling result, whose content is one block or several.
fn sampling_text(reply: &Value) -> String {
    let content = &reply["content"];
    content["text"].as_str().or_else(|| content[0]["text"].as_str()).unwrap_or_default().to_owned()
}
