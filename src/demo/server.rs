//! Implements rmcp's server handler for the demo agents, with their tools, resources, and prompts.

#![expect(deprecated, reason = "logging is deprecated since 2026-07-28 and still in use everywhere")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult,
    GetPromptRequestParams, GetPromptResponse, GetTaskParams, GetTaskResult, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ResourceContents, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, Tool,
};
use rmcp::service::RequestContext;
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio_util::sync::CancellationToken;

use super::agents::documents::{DocumentError, Documents};
use super::agents::jobs::Jobs;
use super::agents::{archive, bindery, concierge, research, travel};
use super::call::{DemoCall, ToolStop, into_response};
use super::effects::EffectLog;
use super::{DemoAgent, DemoSettings};

/// A demo agent that serves one client.
#[derive(Clone)]
pub(super) struct DemoServer {
    pub(super) agent: DemoAgent,
    tools: Arc<Vec<Tool>>,
    effects: EffectLog,
    documents: Documents,
    jobs: Jobs,
    tasks: TaskManager,
    /// Cancelled when the transport is about to end. It ends all waiting calls.
    pub(super) closing: CancellationToken,
    /// The minimum level of log messages on a legacy connection. Initially, all messages are sent.
    log_level: Arc<AtomicU8>,
}

impl DemoServer {
    pub(super) fn new(agent: DemoAgent, settings: DemoSettings) -> Self {
        let tools = match agent {
            DemoAgent::Travel => travel::tools(),
            DemoAgent::Research => research::tools(),
            DemoAgent::Archive => archive::tools(),
            DemoAgent::Bindery => bindery::tools(),
            DemoAgent::Concierge => concierge::tools(),
        };
        let documents = Documents::new(settings.directory);
        Self {
            agent,
            tools: Arc::new(tools),
            effects: EffectLog::new(agent.name(), settings.effects),
            jobs: Jobs::new(documents.directory().to_owned()),
            tasks: TaskManager::new(),
            documents,
            closing: CancellationToken::new(),
            log_level: Arc::default(),
        }
    }

    /// Returns the same agent for another client, with its own log level.
    pub(super) fn for_new_session(&self) -> Self {
        Self { log_level: Arc::default(), ..self.clone() }
    }
}

impl ServerHandler for DemoServer {
    fn get_info(&self) -> ServerConfig {
        let builder = ServerCapabilities::builder().enable_tools();
        let capabilities = match self.agent {
            DemoAgent::Travel => builder.build(),
            DemoAgent::Research | DemoAgent::Concierge => builder.enable_logging().build(),
            DemoAgent::Archive => builder.enable_resources().enable_prompts().enable_completions().build(),
            DemoAgent::Bindery => builder.enable_resources().enable_tasks().build(),
        };
        let name = format!("kapell-demo-{}", self.agent.name());
        ServerConfig::new(capabilities).with_server_info(Implementation::new(name, env!("CARGO_PKG_VERSION")))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = DemoCall::new(request, context, self.closing.clone(), self.log_level.load(Ordering::Relaxed));
        if (self.agent, call.tool()) == (DemoAgent::Bindery, "count_documents") && call.supports_tasks() {
            let started = bindery::count_as_task(&call, &self.documents, &self.effects, &self.tasks).await;
            return started.or_else(|stop| into_response(Err(stop)));
        }
        into_response(match (self.agent, call.tool()) {
            (DemoAgent::Travel, "book_trip") => travel::book_trip(&call, &self.effects).await,
            (DemoAgent::Research, "research") => research::research(&call, &self.effects).await,
            (DemoAgent::Archive, "store_document") => archive::store(&call, &self.documents, &self.effects).await,
            (DemoAgent::Archive, "fetch_document") => archive::fetch(&call, &self.documents).await,
            (DemoAgent::Bindery, "bind_documents") => bindery::bind(&call, &self.jobs, &self.effects).await,
            (DemoAgent::Bindery, "count_documents") => bindery::count(&call, &self.documents, &self.effects).await,
            (DemoAgent::Concierge, "travel_agent") => Box::pin(concierge::travel(&call, &self.effects)).await,
            (DemoAgent::Concierge, "research_agent") => Box::pin(concierge::research(&call, &self.effects)).await,
            (DemoAgent::Concierge, "long_running_agent") => Box::pin(concierge::work(&call, &self.effects)).await,
            (agent, tool) => {
                let message = format!("the demo agent `{}` has no tool `{tool}`", agent.name());
                Err(ToolStop::Refused(ErrorData::invalid_params(message, None)))
            }
        })
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let documents = match self.agent {
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Bindery | DemoAgent::Concierge => Vec::new(),
            DemoAgent::Archive => self.documents.list().await.map_err(DocumentError::into_rpc_error)?,
        };
        Ok(ListResourcesResult::with_all_items(documents.iter().map(archive::resource).collect()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let (text, media_type) = match self.agent {
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Concierge => {
                return Err(DocumentError::Unknown { uri: request.uri }.into_rpc_error());
            }
            DemoAgent::Archive => {
                let (document, text) =
                    self.documents.read(&request.uri).await.map_err(DocumentError::into_rpc_error)?;
                (text, document.format.media_type())
            }
            DemoAgent::Bindery => {
                let progress = self.jobs.progress(&request.uri).await.map_err(DocumentError::into_rpc_error)?;
                (serde_json::json!(progress).to_string(), "application/json")
            }
        };
        let contents = ResourceContents::text(text, request.uri).with_mime_type(media_type);
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let templates = match self.agent {
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Bindery | DemoAgent::Concierge => Vec::new(),
            DemoAgent::Archive => vec![archive::resource_template()],
        };
        Ok(ListResourceTemplatesResult::with_all_items(templates))
    }

    async fn list_prompts(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompts = match self.agent {
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Bindery | DemoAgent::Concierge => Vec::new(),
            DemoAgent::Archive => archive::prompts(),
        };
        Ok(ListPromptsResult::with_all_items(prompts))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        match self.agent {
            DemoAgent::Archive => Ok(archive::prompt(&request, &self.documents).await?.into()),
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Bindery | DemoAgent::Concierge => {
                let message = format!("the demo agent `{}` has no prompt `{}`", self.agent.name(), request.name);
                Err(ErrorData::invalid_params(message, None))
            }
        }
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let argument = &request.argument;
        Ok(match self.agent {
            DemoAgent::Archive => {
                CompleteResult::new(archive::complete(&argument.name, &argument.value, &self.documents).await?)
            }
            DemoAgent::Travel | DemoAgent::Research | DemoAgent::Bindery | DemoAgent::Concierge => {
                CompleteResult::default()
            }
        })
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.log_level.store(request.level as u8, Ordering::Relaxed);
        Ok(())
    }
}
