//! Resources, prompts, and completion of an agent that has nothing else, in both eras.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use indexmap::IndexMap;
use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{
    AgentOffers, AgentSpec, Completion, CompletionRequest, CompletionTarget, ContentBlock as Block, Failure,
    FailureKind, OAuthSpec, Operation, Protocol, ToolCall, ToolOutput, Transport,
};
use rmcp::model::{
    CompleteRequestParams, CompleteResult, CompletionInfo, GetPromptRequestParams, GetPromptResponse, GetPromptResult,
    InputRequests, InputRequiredResult, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, Prompt, PromptArgument, PromptMessage, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, Reference, Resource, ResourceContents, ResourceTemplate, Role,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};

use crate::support::pools::{answering_host, attempt, name_question, object, pool, spec};

/// An agent with two pages of resources, a template, and prompts. It refuses to list the prompts if it is set up so.
#[derive(Clone, Default)]
struct Library {
    refuses_prompts: bool,
    /// The number of requests for tools.
    tools_listed: Arc<AtomicUsize>,
}

impl ServerHandler for Library {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_resources().enable_prompts().enable_completions();
        ServerConfig::new(capabilities.build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.tools_listed.fetch_add(1, Ordering::SeqCst);
        Err(ErrorData::internal_error("there are no tools", None))
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let is_first = page.and_then(|page| page.cursor).is_none();
        let number = if is_first { 1 } else { 2 };
        let resource = Resource::new(format!("note://{number}"), format!("note {number}")).with_mime_type("text/plain");
        let mut result = ListResourcesResult::with_all_items(vec![resource]);
        result.next_cursor = is_first.then(|| "2".to_owned());
        Ok(result)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(vec![ResourceTemplate::new("note://{number}", "a note")]))
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        if self.refuses_prompts {
            return Err(ErrorData::internal_error("not today", None));
        }
        let argument = PromptArgument::new("of").with_required(true);
        Ok(ListPromptsResult::with_all_items(vec![Prompt::new("sum", None::<&str>, Some(vec![argument]))]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let text = |text: &str| ResourceContents::text(text, request.uri.clone());
        Ok(match &*request.uri {
            "note://1" => ReadResourceResult::new(vec![text("milk").with_mime_type("text/plain")]).into(),
            "note://2" => ReadResourceResult::new(vec![text("[1, 2]").with_mime_type("application/json")]).into(),
            "note://all" => {
                ReadResourceResult::new(vec![text("milk"), ResourceContents::blob("AAA=", "note://image")]).into()
            }
            // Modern agents can request input for a resource, too.
            "note://asks" if context.protocol_version().is_some_and(|version| !version.has_initialize()) => {
                match request.input_responses {
                    Some(answers) => ReadResourceResult::new(vec![text(&json!(answers).to_string())]).into(),
                    None => {
                        let requests = InputRequests::from([("who".to_owned(), name_question())]);
                        InputRequiredResult::new(Some(requests), Some("first".to_owned())).into()
                    }
                }
            }
            uri => return Err(ErrorData::resource_not_found(format!("`{uri}` does not exist"), None)),
        })
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let Some(of) = arguments.get("of").and_then(Value::as_str).filter(|_| request.name == "sum") else {
            return Err(ErrorData::invalid_params("`of` is missing", None));
        };
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, format!("Sum up {of}"))]).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let (name, value) = (request.argument.name, request.argument.value);
        let context = request.context.map(|context| json!(context)["arguments"].to_string()).unwrap_or_default();
        let target = match request.r#ref {
            Reference::Resource(template) => template.uri,
            Reference::Prompt(prompt) => prompt.name,
            _ => String::new(),
        };
        let values = vec![target, name, value, context];
        Ok(CompleteResult::new(CompletionInfo::with_pagination(values, Some(7), true).unwrap()))
    }
}

/// Serves the agent over HTTP, and returns its specification for both eras.
async fn serve(library: &Library) -> [AgentSpec; 2] {
    let library = library.clone();
    let config = StreamableHttpServerConfig::default();
    let service =
        StreamableHttpService::new(move || Ok(library.clone()), Arc::<LocalSessionManager>::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().nest_service("/mcp", service)).await });
    let transport =
        Transport::Http { url, headers: Vec::new(), bearer_token: None, oauth: OAuthSpec::default(), server: None };
    [Protocol::Legacy, Protocol::Modern].map(|protocol| AgentSpec { protocol, ..spec("odd", transport.clone()) })
}

fn read(uri: &str) -> ToolCall {
    let operation = Operation::ReadResource;
    ToolCall { operation, ..attempt(operation.method(), json!({"uri": uri})) }
}

fn get_prompt(parameters: Value) -> ToolCall {
    let operation = Operation::GetPrompt;
    ToolCall { operation, arguments: object(parameters), ..attempt(operation.method(), json!({})) }
}

async fn call(pool: &Pool, request: ToolCall) -> Result<Arc<ToolOutput>, Failure> {
    pool.call(request, CallContext::default()).await
}

#[tokio::test]
async fn resources_are_read_in_both_eras() {
    for spec in serve(&Library::default()).await {
        let protocol = spec.protocol;
        let pool = pool(vec![spec], &answering_host());
        let text = |text: &str| vec![json!({"type": "text", "text": text})];
        assert_eq!(*call(&pool, read("note://1")).await.unwrap(), ToolOutput::new(text("milk"), None));
        let numbers = ToolOutput::new(text("[1, 2]"), Some(json!([1, 2])));
        assert_eq!(*call(&pool, read("note://2")).await.unwrap(), numbers);
        let all = call(&pool, read("note://all")).await.unwrap();
        let image = json!({"type": "resource", "resource": {"uri": "note://image", "blob": "AAA="}});
        assert_eq!((all.text().as_ref(), all.content.last()), ("milk", Some(&Block::from(image))));
        let missing = call(&pool, read("note://none")).await.unwrap_err();
        assert_eq!(missing.kind, FailureKind::Refused, "{protocol:?}: {missing}");
        assert!(missing.message.contains("`note://none` does not exist"), "{missing}");
        pool.close().await;
    }
}

#[tokio::test]
async fn modern_resources_can_request_input() {
    let [_, modern] = serve(&Library::default()).await;
    let pool = pool(vec![modern], &answering_host());
    let output = call(&pool, read("note://asks")).await.unwrap();
    let answer: Value = serde_json::from_str(&output.text()).unwrap();
    assert_eq!(answer["who"]["content"], json!({"name": "Ada"}));
    pool.close().await;
}

#[tokio::test]
async fn prompts_are_returned_in_both_eras() {
    for spec in serve(&Library::default()).await {
        let pool = pool(vec![spec], &answering_host());
        let output = call(&pool, get_prompt(json!({"name": "sum", "arguments": {"of": "it"}}))).await.unwrap();
        let message = json!({"role": "user", "content": [{"type": "text", "text": "Sum up it"}]});
        assert_eq!(output.structured, Some(json!({"messages": [message]})));
        let refused = call(&pool, get_prompt(json!({"name": "sum"}))).await.unwrap_err();
        assert_eq!(refused.kind, FailureKind::Refused);
        // The result of one method is not that of another.
        let mixed = ToolCall { operation: Operation::CallTool, ..read("note://1") };
        assert_eq!(call(&pool, mixed).await.unwrap_err().kind, FailureKind::UnknownTool);
        pool.close().await;
    }
}

#[tokio::test]
async fn agents_without_tools_are_described_and_not_asked_for_tools() {
    for refuses_prompts in [false, true] {
        let library = Library { refuses_prompts, ..Library::default() };
        for spec in serve(&library).await {
            let pool = pool(vec![spec], &answering_host());
            let info = pool.describe(&"odd".into()).await.unwrap();
            let Some(AgentOffers { resources, resource_templates, prompts }) = info.offers.as_deref() else {
                panic!("{info:?}")
            };
            let uris: Vec<_> = resources.iter().flatten().map(|resource| resource.uri.as_str()).collect();
            assert_eq!(uris, ["note://1", "note://2"]);
            let templates: Vec<_> = resource_templates.iter().flatten().map(|known| &*known.uri_template).collect();
            assert_eq!(templates, ["note://{number}"]);
            match refuses_prompts {
                false => {
                    let [prompt] = prompts.as_deref().unwrap() else { panic!("{prompts:?}") };
                    assert_eq!((prompt.name.as_str(), prompt.arguments[0].required), ("sum", true));
                    assert_eq!(info.warnings, [""; 0]);
                }
                true => {
                    assert_eq!(*prompts, None);
                    let [warning] = info.warnings.as_slice() else { panic!("{info:?}") };
                    assert!(warning.contains("`prompts/list`") && warning.contains("not today"), "{warning}");
                }
            }
            assert_eq!((info.tools.len(), library.tools_listed.load(Ordering::SeqCst)), (0, 0));
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn arguments_are_completed_in_both_eras() {
    for spec in serve(&Library::default()).await {
        let pool = pool(vec![spec], &answering_host());
        for (target, name) in [
            (CompletionTarget::Prompt("sum".to_owned()), "sum"),
            (CompletionTarget::ResourceTemplate("note://{number}".to_owned()), "note://{number}"),
        ] {
            let context = IndexMap::from([("tone".to_owned(), "dry".to_owned())]);
            let request = CompletionRequest { target, argument: "of".to_owned(), value: "i".to_owned(), context };
            let completion = pool.complete(&"odd".into(), &request).await.unwrap();
            let values = [name, "of", "i", r#"{"tone":"dry"}"#].map(str::to_owned).to_vec();
            assert_eq!(completion, Completion { values, total: Some(7), has_more: true });
        }
        pool.close().await;
    }
}
