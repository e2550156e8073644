//! A server of the modern era over rmcp's task manager, with a slow task and a question. This executable starts itself
//! again as the server, which ends when it is killed.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use libtest_mimic::Failed;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ContentBlock, CreateTaskResult,
    ElicitRequest, ElicitRequestParams, GetTaskParams, GetTaskResult, InputRequest, JsonObject, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, UpdateTaskParams,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::support::pools::tools_result;

/// The variable that makes this executable the server, on the port that it contains.
const PORT_VARIABLE: &str = "KAPELL_INTEROP_TASK_MANAGER";

/// Returns the command that starts the server on that port.
pub(crate) fn command(port: u16) -> Result<Command, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PORT_VARIABLE, port.to_string());
    Ok(command)
}

/// Serves forever if this process is the server. Returns the reason if that fails, and `None` if it is not the server.
pub(crate) fn serve_if_requested() -> Option<Failed> {
    let port = std::env::var(PORT_VARIABLE).ok()?;
    serve(&port).err()
}

fn serve(port: &str) -> Result<(), Failed> {
    let port: u16 = port.parse()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let server = TaskServer::default();
        let service = StreamableHttpService::new(
            move || Ok(server.clone()),
            Arc::<LocalSessionManager>::default(),
            StreamableHttpServerConfig::default(),
        );
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        Ok(axum::serve(listener, Router::new().nest_service("/mcp", service)).await?)
    })
}

#[derive(Clone, Default)]
struct TaskServer {
    tasks: TaskManager,
}

fn text_result(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

async fn long_task(arguments: JsonObject, task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let number = |name: &str| arguments.get(name).and_then(Value::as_u64).filter(|number| *number > 0).unwrap_or(1);
    let (seconds, steps) = (number("seconds"), number("steps"));
    for step in 1..=steps {
        task.set_status_message(format!("step {step} of {steps}"));
        tokio::time::sleep(Duration::from_millis(1_000 * seconds / steps)).await;
    }
    Ok(text_result("done"))
}

async fn asking_task(task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
    let question = InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "who?".to_owned(),
        requested_schema: serde_json::from_value(schema).expect("a form"),
    }));
    Ok(text_result(task.request_input("who", question).await?.to_string()))
}

impl ServerHandler for TaskServer {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_tasks().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(tools_result(&["work", "ask"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let options = TaskOptions::new().with_poll_interval_ms(100).with_ttl_ms(Some(60_000));
        let arguments = request.arguments.unwrap_or_default();
        let task = match &*request.name {
            "work" => self.tasks.spawn(options, |task| Box::pin(long_task(arguments, task))),
            "ask" => self.tasks.spawn(options, |task| Box::pin(asking_task(task))),
            other => return Err(ErrorData::invalid_params(format!("no tool `{other}`"), None)),
        };
        Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}
