//! Reattaches to calls of a host that was killed, from its checkpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::{Router, middleware};
use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{
    AgentSpec, AttemptId, Await, CheckpointKey, Expression, Failure, FailureKind, OAuthSpec, Protocol, ToolCall,
    ToolOutput, Transport,
};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, ContentBlock, CreateTaskResult,
    GetTaskParams, GetTaskResult, InputRequests, InputRequiredResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ServerCapabilities, ServerConfig, SubscribeRequestParams, SubscriptionFilter, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::support::pools::{
    RecordingHost, answering_host, attempt, name_question, pool, spec, tools_result, wait_until,
};

/// An agent of the modern era. Its tool `job` is a task, and its tool `ask` needs a round of input.
#[derive(Clone, Default)]
struct Agent {
    tasks: TaskManager,
    calls: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
    /// Allows the tasks to end.
    released: Arc<Notify>,
    /// The contents of the resource `job://1`, or `None` if it does not exist.
    job: Arc<watch::Sender<Option<String>>>,
    /// The number of subscriptions to it.
    subscribed: Arc<AtomicUsize>,
    /// How often it was read while it did not exist.
    missed: Arc<AtomicUsize>,
    /// How often the status of a task was returned.
    polled: Arc<AtomicUsize>,
    /// The HTTP status with which every request is refused; 0 for none.
    refusal_status: Arc<AtomicU16>,
    /// The number of refused requests.
    refused: Arc<AtomicUsize>,
}

fn text(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text.into())])
}

/// Waits until the counter exceeds its present value.
async fn wait_for_next(counter: &AtomicUsize) {
    let before = counter.load(Ordering::SeqCst);
    wait_until(|| counter.load(Ordering::SeqCst) > before).await;
}

impl Agent {
    async fn work(self, kind: String, task: TaskContext) -> Result<CallToolResult, TaskExit> {
        task.set_status_message("began");
        match kind.as_str() {
            "asks" => {
                let answers =
                    tokio::join!(task.request_input("a", name_question()), task.request_input("b", name_question()));
                Ok(text(format!("{} {}", answers.0?, answers.1?)))
            }
            "fails" => Err(TaskExit::Error(ErrorData::invalid_params("no such city", None))),
            "tool-error" => Ok(CallToolResult::error(vec![ContentBlock::text("no such tool")])),
            "endless" => {
                task.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                Err(TaskExit::Cancelled)
            }
            _ => {
                self.released.notified().await;
                task.set_status_message("nearly done");
                Ok(text("done"))
            }
        }
    }
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tasks().enable_resources();
        ServerConfig::new(capabilities.enable_resources_subscribe().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(tools_result(&["job", "ask", "leave", "idle"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match &*request.name {
            "leave" => {
                self.job.send_replace(Some(json!({"status": "working", "done": 0}).to_string()));
                let mut result = text("left");
                result.content.push(ContentBlock::resource_link(Resource::new("job://1", "job")));
                return Ok(result.into());
            }
            "idle" => return Ok(text("nothing").into()),
            _ => {}
        }
        if request.name == "ask" {
            return Ok(match (request.request_state.as_deref(), request.input_responses) {
                (Some("second"), Some(answers)) => text(serde_json::to_string(&answers).unwrap()).into(),
                (state, _) => {
                    let next = if state.is_none() { "first" } else { "second" };
                    let requests = InputRequests::from([("who".to_owned(), name_question())]);
                    InputRequiredResult::new(Some(requests), Some(next.to_owned())).into()
                }
            });
        }
        let kind = request.arguments.unwrap_or_default().get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        let ttl = if kind == "expires" { Some(300) } else { Some(60_000) };
        let options = TaskOptions::new().with_poll_interval_ms(50).with_ttl_ms(ttl);
        let agent = self.clone();
        let task = self.tasks.spawn(options, |context| Box::pin(agent.work(kind, context)));
        Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        match self.job.borrow().clone() {
            Some(job) => Ok(ReadResourceResult::new(vec![ResourceContents::text(job, request.uri)]).into()),
            None => {
                self.missed.fetch_add(1, Ordering::SeqCst);
                Err(ErrorData::resource_not_found("no such job", None))
            }
        }
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn subscribe(&self, _: SubscribeRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.subscribed.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.subscribed.fetch_add(1, Ordering::SeqCst);
        let mut job = self.job.subscribe();
        while job.changed().await.is_ok() {
            if context.sink().notify_resource_updated("job://1").await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.polled.fetch_add(1, Ordering::SeqCst);
        self.tasks.get_task(&request.task_id).map(GetTaskResult::new)
    }

    async fn update_task(&self, request: UpdateTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(&self, request: CancelTaskParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }
}

async fn serve(agent: &Agent) -> AgentSpec {
    let (agent, refusing) = (agent.clone(), agent.clone());
    let config = StreamableHttpServerConfig::default();
    let service = StreamableHttpService::new(move || Ok(agent.clone()), Arc::<LocalSessionManager>::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(
        move |request: Request<Body>, next: middleware::Next| {
            let status = StatusCode::from_u16(refusing.refusal_status.load(Ordering::SeqCst));
            if status.is_ok() {
                refusing.refused.fetch_add(1, Ordering::SeqCst);
            }
            async move {
                match status {
                    Ok(status) => status.into_response(),
                    Err(_) => next.run(request).await,
                }
            }
        },
    ));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let transport =
        Transport::Http { url, headers: Vec::new(), bearer_token: None, oauth: OAuthSpec::default(), server: None };
    AgentSpec { protocol: Protocol::Modern, ..spec("odd", transport) }
}

fn job(kind: &str) -> ToolCall {
    attempt("job", json!({"kind": kind}))
}

type Outcome = Result<Arc<ToolOutput>, Failure>;

fn text_of(outcome: Outcome) -> Result<String, FailureKind> {
    outcome.map(|output| output.text().into_owned()).map_err(|failure| failure.kind)
}

async fn call(pool: &Pool, call: ToolCall) -> Outcome {
    pool.call(call, CallContext::default()).await
}

/// Makes a call in a host that is killed as soon as `there` holds. Returns the last checkpoint of the call.
async fn run_until_killed(
    agent: &AgentSpec,
    tool_call: ToolCall,
    host: &Arc<RecordingHost>,
    there: impl Fn(&RecordingHost) -> bool,
) -> Value {
    let pool = Arc::new(pool(vec![agent.clone()], host));
    let calling = tokio::spawn({
        let pool = pool.clone();
        async move { call(&pool, tool_call).await }
    });
    wait_until(|| there(host)).await;
    calling.abort();
    // Without its destructor, it cannot close anything cleanly.
    std::mem::forget(pool);
    last_checkpoint(host)
}

fn last_checkpoint(host: &RecordingHost) -> Value {
    let (key, checkpoint) = host.checkpoints().pop().unwrap();
    assert_eq!(key, CheckpointKey::Call(AttemptId { task: "t".into(), number: 1 }));
    checkpoint
}

async fn reattach_after_kill(
    agent: &AgentSpec,
    tool_call: ToolCall,
    checkpoint: Value,
    host: &Arc<RecordingHost>,
) -> Outcome {
    let pool = pool(vec![agent.clone()], host);
    let resumed_call = pool.call(tool_call, CallContext { checkpoint: Some(checkpoint), ..CallContext::default() });
    let outcome = tokio::time::timeout(Duration::from_secs(20), resumed_call).await.expect("the call did not end");
    pool.close().await;
    outcome
}

#[tokio::test]
async fn remote_tasks_are_watched_until_their_result() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let pool = pool(vec![spec], &host);
    agent.released.notify_one();
    assert_eq!(text_of(call(&pool, job("")).await), Ok("done".to_owned()));
    let checkpoints = host.checkpoints();
    assert_eq!((checkpoints.len(), &checkpoints[0].1["kind"]), (1, &json!("remote_task")));
    assert_eq!(text_of(call(&pool, job("asks")).await), {
        let answer = json!({"action": "accept", "content": {"name": "Ada"}});
        Ok(format!("{answer} {answer}"))
    });
    let mut keys: Vec<_> = host.elicited().into_iter().map(|(origin, _)| origin.key.unwrap()).collect();
    keys.sort();
    assert_eq!(keys, ["task/a", "task/b"]);
    assert_eq!(host.progress().first().unwrap().message.as_deref(), Some("began"));
    let failure = call(&pool, job("fails")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ServerError);
    assert_eq!(failure.message, "the task of `job` of agent `odd` failed: no such city");
    assert_eq!(text_of(call(&pool, job("tool-error")).await), Err(FailureKind::ToolError));
    pool.close().await;
}

#[tokio::test]
async fn remote_tasks_survive_a_restart() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let checkpoint = run_until_killed(&spec, job(""), &host, |host| !host.progress().is_empty()).await;
    let later_host = answering_host();
    let releasing = async {
        wait_for_next(&agent.polled).await;
        agent.released.notify_one();
    };
    let (outcome, ()) = tokio::join!(reattach_after_kill(&spec, job(""), checkpoint.clone(), &later_host), releasing);
    assert_eq!(text_of(outcome), Ok("done".to_owned()));
    // The task has ended, and its result is still available.
    assert_eq!(
        text_of(reattach_after_kill(&spec, job(""), checkpoint, &answering_host()).await),
        Ok("done".to_owned())
    );
    assert_eq!((agent.calls.load(Ordering::SeqCst), later_host.checkpoints()), (1, Vec::new()));
}

#[tokio::test]
async fn task_questions_survive_a_restart() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    host.set_delay(Duration::from_secs(3_600));
    let checkpoint = run_until_killed(&spec, job("asks"), &host, |host| host.elicited().len() == 2).await;
    let later_host = answering_host();
    let answer = json!({"action": "accept", "content": {"name": "Ada"}});
    assert_eq!(
        text_of(reattach_after_kill(&spec, job("asks"), checkpoint, &later_host).await),
        Ok(format!("{answer} {answer}"))
    );
    let keys = |host: &RecordingHost| {
        let mut keys: Vec<_> = host.elicited().into_iter().map(|(origin, _)| origin.key.unwrap()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&host), keys(&later_host));
    assert_eq!(agent.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn unknown_tasks_are_interrupted() {
    let spec = serve(&Agent::default()).await;
    let checkpoint = json!({"kind": "remote_task", "id": "gone", "dialect": "extension"});
    let failure = reattach_after_kill(&spec, job(""), checkpoint, &answering_host()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    let expected = "the host stopped during the call of `job`, and agent `odd` no longer has the call";
    assert_eq!(failure.message, expected);
    assert_eq!(
        text_of(reattach_after_kill(&spec, job(""), json!({"kind": "dream"}), &answering_host()).await),
        Err(FailureKind::Interrupted)
    );
}

#[tokio::test]
async fn canceling_ends_the_remote_task() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let pool = pool(vec![spec], &host);
    let cancel = CancellationToken::new();
    let calling = pool.call(job("endless"), CallContext { cancel: cancel.clone(), ..CallContext::default() });
    let cancelling = async {
        wait_until(|| !host.progress().is_empty()).await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(calling, cancelling);
    assert_eq!(text_of(outcome), Err(FailureKind::Cancelled));
    wait_until(|| agent.cancelled.load(Ordering::SeqCst) > 0).await;
    pool.close().await;
}

#[tokio::test]
async fn polled_tasks_are_not_idle_but_have_a_deadline() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let pool = pool(vec![spec], &answering_host());
    let tool_call =
        ToolCall { timeout: Duration::from_secs(2), deadline: Some(Duration::from_secs(3)), ..job("endless") };
    assert_eq!(text_of(call(&pool, tool_call).await), Err(FailureKind::DeadlineExceeded));
    let failure = call(&pool, job("expires")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ServerError);
    assert!(failure.message.contains("TTL elapsed"), "{}", failure.message);
    pool.close().await;
}

#[tokio::test]
async fn input_rounds_survive_a_restart() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let tool_call = || attempt("ask", json!({}));
    host.set_delay(Duration::from_millis(300));
    let checkpoint = run_until_killed(&spec, tool_call(), &host, |host| host.elicited().len() == 2).await;
    assert_eq!((&checkpoint["number"], &checkpoint["state"]), (&json!(2), &json!("second")));
    let later_host = answering_host();
    let answer = json!({"who": {"action": "accept", "content": {"name": "Ada"}}});
    assert_eq!(text_of(reattach_after_kill(&spec, tool_call(), checkpoint, &later_host).await), Ok(answer.to_string()));
    let keys =
        |host: &RecordingHost| host.elicited().into_iter().map(|(origin, _)| origin.key.unwrap()).collect::<Vec<_>>();
    assert_eq!(
        (keys(&host), keys(&later_host)),
        (vec!["round/1/who".to_owned(), "round/2/who".to_owned()], vec!["round/2/who".to_owned()],)
    );
    assert_eq!(agent.calls.load(Ordering::SeqCst), 3);
}

/// Returns a call that creates a resource, whose contents are its output.
fn leave_resource() -> ToolCall {
    let expression = |text: &str| Expression(text.to_owned());
    let awaits = Await {
        resource: expression("status == 'completed'"),
        failed: Some(expression("status == 'failed' or resource.error is defined")),
    };
    ToolCall { awaits: Some(awaits), ..attempt("leave", json!({})) }
}

fn progress_messages(host: &RecordingHost) -> Vec<String> {
    host.progress().into_iter().filter_map(|progress| progress.message).collect()
}

#[tokio::test]
async fn awaited_resources_are_read_until_final() {
    for protocol in [Protocol::Modern, Protocol::Legacy] {
        let agent = Agent::default();
        let spec = AgentSpec { protocol, ..serve(&agent).await };
        let host = answering_host();
        let pool = pool(vec![spec], &host);
        let working = async {
            for done in 1..3 {
                wait_until(|| progress_messages(&host).len() >= done).await;
                let status = if done == 2 { "completed" } else { "working" };
                agent.job.send_replace(Some(json!({"status": status, "done": done}).to_string()));
            }
        };
        let (outcome, ()) = tokio::join!(call(&pool, leave_resource()), working);
        let output = outcome.unwrap();
        assert_eq!(output.structured, Some(json!({"status": "completed", "done": 2})));
        assert_eq!(output.content[0], json!({"type": "resource_link", "uri": "job://1", "name": "job"}).into());
        assert_eq!(
            progress_messages(&host),
            [json!({"status": "working", "done": 0}).to_string(), json!({"status": "working", "done": 1}).to_string()]
        );
        assert_eq!(agent.subscribed.load(Ordering::SeqCst), 1, "{protocol:?}");
        pool.close().await;
    }
}

#[tokio::test]
async fn failed_resources_fail_the_call() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let pool = pool(vec![spec], &host);
    let failing = async {
        wait_until(|| !progress_messages(&host).is_empty()).await;
        agent.job.send_replace(Some(json!({"error": "no paper"}).to_string()));
    };
    let (outcome, ()) = tokio::join!(call(&pool, leave_resource()), failing);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ToolError);
    let expected = r#"the resource `job://1` of agent `odd` reports a failure: {"error":"no paper"}"#;
    assert_eq!(failure.message, expected);
    let idle = ToolCall { tool: "idle".into(), ..leave_resource() };
    assert_eq!(text_of(call(&pool, idle).await), Err(FailureKind::InvalidResult));
    pool.close().await;
}

#[tokio::test]
async fn awaited_resources_survive_restarts_of_host_and_agent() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let checkpoint = run_until_killed(&spec, leave_resource(), &host, |host| !progress_messages(host).is_empty()).await;
    assert_eq!((&checkpoint["kind"], &checkpoint["uri"]), (&json!("resource"), &json!("job://1")));
    // The agent returns without the resource at first, after an interruption.
    agent.job.send_replace(None);
    let later_host = answering_host();
    let working = async {
        wait_for_next(&agent.missed).await;
        agent.job.send_replace(Some(json!({"status": "working", "done": 1}).to_string()));
        wait_until(|| !progress_messages(&later_host).is_empty()).await;
        agent.refusal_status.store(503, Ordering::SeqCst);
        agent.job.send_replace(Some(json!({"status": "completed"}).to_string()));
        wait_for_next(&agent.refused).await;
        agent.refusal_status.store(0, Ordering::SeqCst);
    };
    let (outcome, ()) =
        tokio::join!(reattach_after_kill(&spec, leave_resource(), checkpoint.clone(), &later_host), working);
    assert_eq!(outcome.unwrap().structured, Some(json!({"status": "completed"})));
    assert_eq!(agent.calls.load(Ordering::SeqCst), 1);
    // With a changed plan, the call no longer waits for the resource.
    let changed = ToolCall { awaits: None, ..leave_resource() };
    assert_eq!(
        text_of(reattach_after_kill(&spec, changed, checkpoint, &answering_host()).await),
        Err(FailureKind::Interrupted)
    );
}

#[tokio::test]
async fn unreachable_agents_keep_their_task() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let host = answering_host();
    let pool = pool(vec![spec], &host);
    let interrupting = async {
        for status in [503, 429, 408] {
            wait_until(|| !host.progress().is_empty()).await;
            agent.refusal_status.store(status, Ordering::SeqCst);
            wait_for_next(&agent.refused).await;
            agent.refusal_status.store(0, Ordering::SeqCst);
            wait_for_next(&agent.polled).await;
        }
        agent.released.notify_one();
    };
    let (outcome, ()) = tokio::join!(call(&pool, job("")), interrupting);
    assert_eq!((text_of(outcome), agent.calls.load(Ordering::SeqCst)), (Ok("done".to_owned()), 1));
    let refusals = async {
        wait_until(|| agent.calls.load(Ordering::SeqCst) == 2).await;
        wait_for_next(&agent.polled).await;
        agent.refusal_status.store(503, Ordering::SeqCst);
    };
    // Only the refusals may exhaust it, however slow the machine is.
    let limited = ToolCall { timeout: Duration::from_secs(4), ..job("") };
    let (outcome, ()) = tokio::join!(call(&pool, limited), refusals);
    let failure = outcome.unwrap_err();
    assert_eq!(failure.kind, FailureKind::IdleTimeout);
    assert!(failure.message.contains("polling then failed") && failure.message.contains("HTTP 503"), "{failure}");
    pool.close().await;
}

#[tokio::test]
async fn resume_waits_for_an_unreachable_agent() {
    let agent = Agent::default();
    let spec = serve(&agent).await;
    let checkpoint = run_until_killed(&spec, job(""), &answering_host(), |host| !host.progress().is_empty()).await;
    agent.refusal_status.store(503, Ordering::SeqCst);
    let recovering = async {
        wait_for_next(&agent.refused).await;
        agent.refusal_status.store(0, Ordering::SeqCst);
        agent.released.notify_one();
    };
    let later_host = answering_host();
    let (outcome, ()) = tokio::join!(reattach_after_kill(&spec, job(""), checkpoint.clone(), &later_host), recovering);
    assert_eq!((text_of(outcome), agent.calls.load(Ordering::SeqCst)), (Ok("done".to_owned()), 1));
    agent.refusal_status.store(503, Ordering::SeqCst);
    let limited = ToolCall { timeout: Duration::from_millis(500), ..job("") };
    let failure = reattach_after_kill(&spec, limited, checkpoint, &answering_host()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::IdleTimeout);
    assert!(failure.message.contains("polling then failed"), "{failure}");
}
