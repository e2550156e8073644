//! Sampling requests of agents with many concurrent calls: attribution to a call, permission, and limits.
#![allow(deprecated, reason = "rmcp deprecates what only legacy agents use")]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{self, Next};
use futures::future::{BoxFuture, join_all};
use kapell::mcp::{Agents as _, CallContext, ClientHost, Options, Pool, SamplingSupport};
use kapell::model::{
    AgentId, AgentSpec, Answer, AttemptId, ChatError, ChatPart, ChatReply, ChatRequest, CheckpointKey, Consent,
    Elicitation, Failure, FailureKind, Form, LogMessage, OAuthSpec, Origin, Progress, Protocol, SamplingPolicy,
    ToolCall, Transport, Usage,
};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
    CreateMessageRequestParams, InputRequest, InputRequests, InputRequiredResult, ListToolsResult,
    PaginatedRequestParams, SamplingMessage, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::support::pools::{attempt, let_time_pass, odd_agent, options, spec, tools_result, wait_until};

/// A host whose model repeats the prompt, so that each call can see whether it got its own reply.
struct EchoHost {
    directory: tempfile::TempDir,
    /// The answer of the person.
    answer: Answer,
    usage: Option<Usage>,
    /// The permits for replies; the model waits for one before each.
    replies: Semaphore,
    elicited: Mutex<Vec<Elicitation>>,
    sampled: Mutex<Vec<(Origin, String)>>,
}

impl EchoHost {
    fn new() -> Arc<Self> {
        Arc::new(Self::with_answer(Answer::Cancel))
    }

    fn with_answer(answer: Answer) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            answer,
            usage: None,
            replies: Semaphore::new(Semaphore::MAX_PERMITS),
            elicited: Mutex::default(),
            sampled: Mutex::default(),
        }
    }

    /// Returns a host whose model replies only when the test adds permits.
    fn paused() -> Arc<Self> {
        Arc::new(Self { replies: Semaphore::new(0), ..Self::with_answer(Answer::Cancel) })
    }

    fn pool(self: &Arc<Self>, spec: AgentSpec) -> Pool {
        let options = Options { sampling: SamplingSupport::Plain, ..options(self.directory.path()) };
        Pool::new([spec], options, self.clone())
    }

    fn sampled(&self) -> Vec<(Origin, String)> {
        self.sampled.lock().unwrap().clone()
    }

    async fn wait_until_sampled(&self, count: usize) {
        wait_until(|| self.sampled().len() >= count).await;
    }

    /// Returns each request with the task that it was charged to. A prompt is the name of the task that caused it.
    fn charged_requests(&self) -> Vec<(Option<String>, String)> {
        let task = |origin: Origin| origin.attempt.map(|attempt| attempt.task.to_string());
        self.sampled().into_iter().map(|(origin, prompt)| (task(origin), prompt)).collect()
    }

    fn assert_each_charged_to_its_task(&self, count: usize) {
        let charged = self.charged_requests();
        let prompts: BTreeSet<_> = charged.iter().map(|(_, prompt)| prompt).collect();
        assert_eq!((charged.len(), prompts.len()), (count, count));
        for (task, prompt) in &charged {
            assert_eq!(task.as_ref(), Some(prompt));
        }
    }
}

#[async_trait::async_trait]
impl ClientHost for EchoHost {
    async fn elicit(&self, _: Origin, elicitation: Elicitation) -> Answer {
        self.elicited.lock().unwrap().push(elicitation);
        self.answer.clone()
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        let prompt = chat.messages[0].text_content();
        // Replies come in a different order than requests.
        let delay = u64::try_from(prompt.len()).unwrap() * 7 % 5;
        self.sampled.lock().unwrap().push((origin, prompt.clone()));
        self.replies.acquire().await.unwrap().forget();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        Ok(ChatReply {
            parts: vec![ChatPart::Text { text: prompt }],
            cost_usd: None,
            warning: None,
            model: "echo".to_owned(),
            stop_reason: "endTurn".to_owned(),
            usage: self.usage,
        })
    }

    async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn checkpoint(&self, _: CheckpointKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn on_progress(&self, _: &AttemptId, _: Progress) {}

    fn on_page_completed(&self, _: &AgentId, _: &str) {}

    fn on_log(&self, _: Origin, _: LogMessage) {}
}

/// Returns a call of `work` by the task `task`.
fn work(task: &str, arguments: Value) -> ToolCall {
    ToolCall { attempt: AttemptId { task: task.into(), number: 1 }, ..attempt("work", arguments) }
}

/// Returns a call that sends one sampling request, with its own task as the prompt.
fn sampling_call(task: &str) -> ToolCall {
    work(task, json!({"marker": task}))
}

async fn call(pool: &Pool, call: ToolCall) -> Result<Value, Failure> {
    let output = pool.call(call, CallContext::default()).await?;
    Ok(serde_json::from_str(&output.text()).unwrap())
}

/// Makes a hundred concurrent calls that each send one sampling request, and returns their results.
async fn run_hundred_calls(pool: &Pool) -> Vec<Value> {
    let tasks: Vec<String> = (0..100).map(|n| format!("task-{n}")).collect();
    let outputs = join_all(tasks.iter().map(|task| call(pool, sampling_call(task)))).await;
    let outputs: Vec<Value> = outputs.into_iter().map(Result::unwrap).collect();
    for (task, output) in tasks.iter().zip(&outputs) {
        assert_eq!(output["answer"]["text"], json!(task), "{output}");
    }
    outputs
}

fn pids(results: &[Value]) -> BTreeSet<u64> {
    results.iter().map(|output| output["pid"].as_u64().unwrap()).collect()
}

/// Returns an agent over stdio that sends sampling requests, on up to `processes` processes.
fn sampling_agent(processes: usize) -> AgentSpec {
    AgentSpec { max_processes: processes, ..odd_agent("asks") }
}

#[tokio::test]
async fn stdio_interactive_agents_get_one_call_per_process() {
    for processes in [1, 4] {
        let host = EchoHost::new();
        let pool = host.pool(sampling_agent(processes));
        let outputs = run_hundred_calls(&pool).await;
        host.assert_each_charged_to_its_task(100);
        assert_eq!(pids(&outputs).len(), processes);
        assert!(outputs.iter().all(|output| output["together"] == 1), "{outputs:?}");
        pool.close().await;
    }
}

#[tokio::test]
async fn modern_stdio_calls_share_a_process() {
    let host = EchoHost::new();
    let pool = host.pool(AgentSpec { max_processes: 4, ..odd_agent("modern-asks") });
    let outputs = run_hundred_calls(&pool).await;
    host.assert_each_charged_to_its_task(100);
    assert_eq!(pids(&outputs).len(), 1);
    pool.close().await;
}

/// An agent over HTTP, in both eras, that sends sampling requests with the marker of the call.
#[derive(Clone, Default)]
struct SamplingAgent {
    /// True to send them on the common stream, which belongs to no call, instead of the stream of the call.
    uses_common_stream: Arc<AtomicBool>,
    /// The number of common streams that were opened.
    streams: Arc<AtomicUsize>,
}

impl ServerHandler for SamplingAgent {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(tools_result(&["work"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let marker = request.arguments.as_ref().unwrap()["marker"].as_str().unwrap();
        let prompt = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(marker)], 100);
        let answer = if context.protocol_version().is_some_and(|version| !version.has_initialize()) {
            let Some(answers) = request.input_responses else {
                let ask = InputRequest::CreateMessage(CreateMessageRequest::new(prompt));
                return Ok(InputRequiredResult::from_input_requests(InputRequests::from([("sum".into(), ask)])).into());
            };
            serde_json::to_value(answers).unwrap()["sum"].clone()
        } else {
            let peer = context.peer.clone();
            let sampling_request = async move { peer.create_message(prompt).await };
            let answer = if self.uses_common_stream.load(Ordering::SeqCst) {
                // Messages from a spawned task belong to no request.
                tokio::spawn(sampling_request).await.unwrap()
            } else {
                sampling_request.await
            };
            json!(answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?)
        };
        let outputs = json!({"answer": answer["content"]});
        Ok(CallToolResult::success(vec![ContentBlock::text(outputs.to_string())]).into())
    }
}

/// Serves the agent over HTTP for up to a hundred calls at once.
async fn serve(agent: &SamplingAgent, protocol: Protocol) -> AgentSpec {
    let (agent, streams) = (agent.clone(), agent.streams.clone());
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(true);
    let service = StreamableHttpService::new(move || Ok(agent.clone()), Arc::<LocalSessionManager>::default(), config);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let count_streams = move |request: Request, next: Next| {
        let streams = streams.clone();
        async move {
            let is_stream = request.method() == Method::GET;
            let response = next.run(request).await;
            if is_stream && response.status().is_success() {
                streams.fetch_add(1, Ordering::SeqCst);
            }
            response
        }
    };
    let router = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(count_streams));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let mut spec = spec(
        "odd",
        Transport::Http { url, headers: Vec::new(), bearer_token: None, oauth: OAuthSpec::default(), server: None },
    );
    spec.protocol = protocol;
    spec.policy.max_concurrency = 100;
    spec
}

#[tokio::test]
async fn http_requests_are_charged_to_their_task_in_both_eras() {
    for (protocol, version) in [(Protocol::Legacy, "2025-11-25"), (Protocol::Modern, "2026-07-28")] {
        let host = EchoHost::new();
        let pool = host.pool(serve(&SamplingAgent::default(), protocol).await);
        assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, version);
        run_hundred_calls(&pool).await;
        host.assert_each_charged_to_its_task(100);
        pool.close().await;
    }
}

#[tokio::test]
async fn common_stream_requests_are_charged_only_to_a_single_call() {
    let host = EchoHost::paused();
    let agent = SamplingAgent { uses_common_stream: Arc::new(AtomicBool::new(true)), ..SamplingAgent::default() };
    let pool = host.pool(serve(&agent, Protocol::Legacy).await);
    pool.connect(&"odd".into()).await.unwrap();
    // The stream is opened after the handshake, and the handshake does not wait for it.
    wait_until(|| agent.streams.load(Ordering::SeqCst) > 0).await;
    let together = async {
        let releasing = async {
            host.wait_until_sampled(2).await;
            host.replies.add_permits(3);
        };
        tokio::join!(call(&pool, sampling_call("a")), call(&pool, sampling_call("b")), releasing)
    };
    let (a, b, ()) = together.await;
    assert!(a.is_ok() && b.is_ok());
    call(&pool, sampling_call("c")).await.unwrap();
    let mut charged = host.charged_requests();
    charged[..2].sort();
    let expected = [(None, "a"), (None, "b"), (Some("c"), "c")];
    assert_eq!(charged, expected.map(|(task, prompt)| (task.map(str::to_owned), prompt.to_owned())));
    pool.close().await;
}

#[tokio::test]
async fn ambiguous_first_requests_are_charged_to_no_call() {
    let host = EchoHost::new();
    let pool = host.pool(sampling_agent(2));
    // This one requests nothing, and ends the period in which the first call runs alone.
    call(&pool, work("quiet", json!({}))).await.unwrap();
    let together = |task: &str| work(task, json!({"marker": task, "together": 2}));
    let outputs = join_all(["a", "b"].map(|task| call(&pool, together(task)))).await;
    let outputs: Vec<Value> = outputs.into_iter().map(Result::unwrap).collect();
    assert_eq!((pids(&outputs).len(), host.charged_requests()[0].0.as_ref()), (1, None));
    // Each reply still went to the call that requested it.
    assert_eq!((&outputs[0]["answer"]["text"], &outputs[1]["answer"]["text"]), (&json!("a"), &json!("b")));
    let outputs = join_all(["c", "d"].map(|task| call(&pool, sampling_call(task)))).await;
    let outputs: Vec<Value> = outputs.into_iter().map(Result::unwrap).collect();
    assert_eq!(pids(&outputs).len(), 2);
    let mut charged = host.charged_requests().split_off(2);
    charged.sort();
    assert_eq!(charged, ["c", "d"].map(|task| (Some(task.to_owned()), task.to_owned())));
    pool.close().await;
}

#[tokio::test]
async fn calls_of_noninteractive_agents_share_a_process() {
    let host = EchoHost::new();
    let pool = host.pool(sampling_agent(4));
    // The first runs alone for a moment. No call ends before all are in progress.
    let calls = (0..10).map(|n| call(&pool, work(&format!("t{n}"), json!({"together": 10}))));
    let outputs: Vec<Value> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(pids(&outputs).len(), 1);
    assert!(outputs.iter().all(|output| output["together"] == 10), "{outputs:?}");
    pool.close().await;
}

#[tokio::test]
async fn waiting_for_a_permit_does_not_time_out_and_can_be_canceled() {
    let host = EchoHost::paused();
    let pool = host.pool(sampling_agent(1));
    let cancel = CancellationToken::new();
    let first = call(&pool, sampling_call("first"));
    let cancelled =
        pool.call(sampling_call("cancelled"), CallContext { cancel: cancel.clone(), ..CallContext::default() });
    let limit = Duration::from_secs(60);
    let limited = call(&pool, ToolCall { timeout: limit, deadline: Some(limit), ..sampling_call("limited") });
    let driver = async {
        host.wait_until_sampled(1).await;
        cancel.cancel();
        // Longer than the timeouts, which do not include the wait for the permit.
        let_time_pass(limit * 2).await;
        host.replies.add_permits(2);
    };
    let (first, cancelled, limited, ()) = tokio::join!(first, cancelled, limited, driver);
    assert_eq!(first.unwrap()["answer"]["text"], "first");
    assert_eq!(limited.unwrap()["answer"]["text"], "limited");
    assert_eq!(cancelled.unwrap_err().kind, FailureKind::Cancelled);
    host.assert_each_charged_to_its_task(2);
    pool.close().await;
    let log = std::fs::read_to_string(host.directory.path().join("odd.log")).unwrap();
    assert!(!log.contains("cancelled: the run was cancelled"), "the call was not sent: {log}");
}

#[tokio::test]
async fn closing_ends_calls_that_wait_for_a_permit() {
    let host = EchoHost::paused();
    let pool = host.pool(sampling_agent(1));
    let closing = async {
        host.wait_until_sampled(1).await;
        pool.close().await;
    };
    let (first, second, ()) =
        tokio::join!(call(&pool, sampling_call("first")), call(&pool, sampling_call("second")), closing);
    assert_eq!(first.unwrap_err().kind, FailureKind::ConnectionLost);
    assert_eq!(second.unwrap_err().kind, FailureKind::AgentUnavailable);
}

#[tokio::test]
async fn dying_processes_fail_only_their_own_call() {
    let host = EchoHost::paused();
    let pool = host.pool(sampling_agent(3));
    host.replies.add_permits(1);
    call(&pool, sampling_call("before")).await.unwrap();
    let has_died = Notify::new();
    let driver = async {
        host.wait_until_sampled(3).await;
        has_died.notified().await;
        host.replies.add_permits(3);
    };
    let dying = async {
        let result = call(&pool, work("dying", json!({"dies": true, "after": 0.2}))).await;
        has_died.notify_one();
        result
    };
    let (a, dead, b, ()) =
        tokio::join!(call(&pool, sampling_call("a")), dying, call(&pool, sampling_call("b")), driver);
    assert_eq!(dead.unwrap_err().kind, FailureKind::ConnectionLost);
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_ne!(a["pid"], b["pid"]);
    call(&pool, sampling_call("after")).await.unwrap();
    host.assert_each_charged_to_its_task(4);
    pool.close().await;
}

#[tokio::test]
async fn processes_with_abandoned_calls_are_replaced() {
    let host = EchoHost::new();
    let pool = host.pool(sampling_agent(1));
    let before = call(&pool, sampling_call("before")).await.unwrap();
    let mut slow = work("slow", json!({"marker": "slow", "after": 1}));
    slow.timeout = Duration::from_millis(200);
    assert_eq!(call(&pool, slow).await.unwrap_err().kind, FailureKind::IdleTimeout);
    // The agent sends a request on behalf of the cancelled call while this one waits.
    let after = call(&pool, work("after", json!({"marker": "after", "after": 1.5}))).await.unwrap();
    assert_ne!(before["pid"], after["pid"]);
    host.assert_each_charged_to_its_task(2);
    pool.close().await;
}

#[tokio::test]
async fn failed_additional_processes_are_skipped() {
    let host = EchoHost::new();
    let mut agent = sampling_agent(3);
    let Transport::Stdio(process) = &mut agent.transport else { unreachable!() };
    process.args.push(host.directory.path().join("license").to_str().unwrap().to_owned());
    let pool = host.pool(agent);
    let outputs = run_hundred_calls(&pool).await;
    host.assert_each_charged_to_its_task(100);
    assert_eq!(pids(&outputs).len(), 1);
    pool.close().await;
}

fn agent_with_quota(consent: Consent, max_tokens: Option<u64>, max_requests: Option<u64>) -> AgentSpec {
    AgentSpec { sampling: SamplingPolicy { consent, max_tokens, max_requests }, ..sampling_agent(4) }
}

#[tokio::test]
async fn denied_agents_get_no_sampling_capability() {
    for (consent, offered) in [(Consent::Allow, true), (Consent::Deny, false)] {
        let host = EchoHost::new();
        let pool = host.pool(agent_with_quota(consent, None, None));
        let outputs = call(&pool, sampling_call("a")).await.unwrap();
        assert_eq!(
            (outputs["client"].get("sampling").is_some(), host.sampled().len()),
            (offered, usize::from(offered))
        );
        assert_eq!(outputs["answer"]["code"], if offered { Value::Null } else { json!(-32601) });
        pool.close().await;
    }
}

#[tokio::test]
async fn sampling_consent_is_requested_if_configured() {
    for (answer, sampled) in [(Answer::Accept { content: None }, 1), (Answer::Decline, 0), (Answer::Cancel, 0)] {
        let host = Arc::new(EchoHost::with_answer(answer));
        let pool = host.pool(agent_with_quota(Consent::Ask, None, Some(1)));
        let outputs = call(&pool, sampling_call("secret plans")).await.unwrap();
        let questions = host.elicited.lock().unwrap().clone();
        let message = "allow a request to the language model for up to 100 tokens? Prompt:\nsecret plans".to_owned();
        assert_eq!(questions, [Elicitation { message, form: Form::Approval }]);
        assert_eq!(host.sampled().len(), sampled);
        if sampled == 0 {
            let refused = json!({"code": -1, "message": "the request to the language model was not approved"});
            assert_eq!(outputs["answer"], refused);
            // A request that was not sent does not count: the user gets a new question.
            call(&pool, sampling_call("secret plans")).await.unwrap();
            assert_eq!(host.elicited.lock().unwrap().len(), 2);
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn refused_sampling_rounds_deny_the_call() {
    let host = EchoHost::new();
    let pool = host.pool(AgentSpec {
        sampling: SamplingPolicy { consent: Consent::Ask, ..SamplingPolicy::default() },
        ..odd_agent("modern-asks")
    });
    let failure = call(&pool, sampling_call("a")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    insta::assert_snapshot!(failure.message);
    pool.close().await;
}

#[tokio::test]
async fn sampling_caps_hold_across_processes() {
    // Each request may use a hundred tokens, plus one or two for its prompt.
    for (max_tokens, max_requests, usage, reason, expected) in [
        (None, Some(7), None, "`sampling.max_requests` is 7", 7..=7),
        (Some(1_030), None, None, "`sampling.max_tokens` is 1030", 10..=10),
        (Some(1_030), None, Some(30), "`sampling.max_tokens` is 1030", 31..=34),
    ] {
        let usage = usage.map(|tokens| Usage { input_tokens: 10, output_tokens: tokens - 10 });
        let host = Arc::new(EchoHost { usage, ..EchoHost::with_answer(Answer::Cancel) });
        let pool = host.pool(agent_with_quota(Consent::Allow, max_tokens, max_requests));
        let tasks: Vec<String> = (0..100).map(|n| format!("t{n}")).collect();
        let outputs = join_all(tasks.iter().map(|task| call(&pool, sampling_call(task)))).await;
        let refused: Vec<Value> = outputs.into_iter().map(|output| output.unwrap()["answer"].clone()).collect();
        let refused: Vec<&Value> = refused.iter().filter(|answer| answer["code"] == -1).collect();
        let count = host.sampled().len();
        assert!(expected.contains(&count), "{count} of {expected:?}");
        assert_eq!(count + refused.len(), 100);
        assert!(refused.iter().all(|error| error["message"].as_str().unwrap().contains(reason)), "{refused:?}");
        pool.close().await;
    }
}
