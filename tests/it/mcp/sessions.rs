//! Ends the host in the middle of calls over legacy Streamable HTTP, and reattaches to them in another host. Also
//! cuts connections in the middle of calls, which must not affect the result.
#![allow(deprecated, reason = "rmcp deprecates what only legacy agents use")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::middleware::{self, Next};
use axum::routing::any;
use kapell::mcp::{Agents as _, Pool};
use kapell::model::{AgentRoot, AgentSpec, AttemptId, Checkpoints, Failure, FailureKind};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequestParams,
    ElicitRequestParams, JsonRpcMessage, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
    SamplingMessage, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::session::{EventStore, EventStoreError, EventStream, ServerSseMessage};
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::support::pools::{RecordingHost, answering_host, attempt, pool, tools_result, wait_until};
use crate::support::restarts::{self, legacy_agent, progress_values, restarted_pool, unresponsive_host};

/// An agent whose calls progress as the test permits.
#[derive(Clone)]
struct Agent {
    steps: Arc<Semaphore>,
    /// Every HTTP request: the method of its message, or else its HTTP method.
    requests: Arc<Mutex<Vec<String>>>,
    /// The IDs of all requests of the client.
    ids: Arc<Mutex<Vec<Value>>>,
    done: Arc<watch::Sender<usize>>,
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            steps: Arc::new(Semaphore::new(0)),
            requests: Arc::default(),
            ids: Arc::default(),
            done: Arc::new(watch::Sender::new(0)),
        }
    }
}

impl Agent {
    fn count(&self, method: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|seen| *seen == method).count()
    }

    /// Waits until that many calls are done.
    async fn until_done(&self, calls: usize) {
        self.done.subscribe().wait_for(|done| *done >= calls).await.unwrap();
    }

    async fn work(&self, tool: &str, context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
        let internal = |error: rmcp::ServiceError| ErrorData::internal_error(error.to_string(), None);
        match tool {
            "ask" => {
                let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
                let question = ElicitRequestParams::FormElicitationParams {
                    meta: None,
                    message: "who?".to_owned(),
                    requested_schema: serde_json::from_value(schema).unwrap(),
                };
                Ok(json!(context.peer.create_elicitation(question).await.map_err(internal)?).to_string())
            }
            "sample" => {
                let prompt = CreateMessageRequestParams::new(vec![SamplingMessage::user_text("sum up")], 100);
                Ok(json!(context.peer.create_message(prompt).await.map_err(internal)?).to_string())
            }
            "quick" => Ok("quick".to_owned()),
            _ => {
                let token = context.meta.get_progress_token().unwrap();
                for step in 1..=3 {
                    self.steps.acquire().await.unwrap().forget();
                    let progress_values =
                        ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(3.0);
                    context.peer.notify_progress(progress_values).await.map_err(internal)?;
                }
                Ok("done".to_owned())
            }
        }
    }
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(tools_result(&["ask", "sample", "steps", "quick"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let output = self.work(&request.name, &context).await?;
        self.done.send_modify(|done| *done += 1);
        Ok(CallToolResult::success(vec![ContentBlock::text(output)]).into())
    }
}

/// An event store with one list for all streams. Replay continues with new events.
#[derive(Clone)]
struct Events(Arc<watch::Sender<Vec<(String, ServerSseMessage)>>>);

#[async_trait::async_trait]
impl EventStore for Events {
    async fn store_event(&self, stream_id: &str, event: &ServerSseMessage) -> Result<String, EventStoreError> {
        let mut id = String::new();
        self.0.send_modify(|events| {
            id = format!("e{}", events.len());
            let mut event = event.clone();
            event.event_id = Some(id.clone());
            events.push((stream_id.to_owned(), event));
        });
        Ok(id)
    }

    async fn replay_events_after(&self, last_event_id: &str) -> Result<EventStream, EventStoreError> {
        let mut events = self.0.subscribe();
        let number = last_event_id.strip_prefix('e').and_then(|number| number.parse::<usize>().ok());
        let number = number.filter(|number| *number < events.borrow().len()).ok_or("unknown event")?;
        let stream = events.borrow()[number].0.clone();
        Ok(Box::pin(async_stream::stream! {
            let mut next = number + 1;
            loop {
                let event = events.borrow_and_update().get(next).cloned();
                match event {
                    None => if events.changed().await.is_err() { return },
                    Some((other, event)) => {
                        next += 1;
                        if other == stream {
                            let is_answer = matches!(
                                event.message.as_deref(),
                                Some(JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_))
                            );
                            yield event;
                            if is_answer {
                                return;
                            }
                        }
                    }
                }
            }
        }))
    }
}

/// Serves the agent with `listener` until the returned task is aborted.
async fn serve_at(agent: &Agent, listener: TcpListener) -> tokio::task::JoinHandle<()> {
    let (served, seen) = (agent.clone(), agent.clone());
    let events = Events(Arc::new(watch::Sender::new(Vec::new())));
    let service = StreamableHttpService::new(
        move || Ok(served.clone()),
        Arc::new(LocalSessionManager::default().with_event_store(Arc::new(events))),
        StreamableHttpServerConfig::default(),
    );
    let record = move |request: Request, next: Next| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let message: Value = serde_json::from_slice(&body).unwrap_or_default();
            let method =
                message["method"].as_str().unwrap_or(if message.is_object() { "reply" } else { parts.method.as_str() });
            seen.requests.lock().unwrap().push(method.to_owned());
            if message["method"].is_string() && !message["id"].is_null() {
                seen.ids.lock().unwrap().push(message["id"].clone());
            }
            next.run(Request::from_parts(parts, Body::from(body))).await
        }
    };
    let router = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(record));
    let moved = any(async || (StatusCode::TEMPORARY_REDIRECT, [("location", "/mcp")]));
    let router = router.route("/moved", moved);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn serve(agent: &Agent) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    serve_at(agent, listener).await;
    url
}

async fn listen(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Calls the tool.
async fn call(pool: &Pool, tool: &str) -> Result<String, Failure> {
    restarts::call(pool, attempt(tool, json!({}))).await
}

/// Reattaches to the call of the tool.
async fn reattach(pool: &Pool, tool: &str, checkpoints: &Checkpoints) -> Result<String, Failure> {
    restarts::reattach(pool, attempt(tool, json!({})), checkpoints).await
}

/// Ends the host in the middle of a call of the tool.
async fn run_until_killed(
    url: &str,
    tool: &str,
    host: &Arc<RecordingHost>,
    is_time: impl Fn(&RecordingHost) -> bool + Send + 'static,
) -> Checkpoints {
    restarts::run_until_killed(url, attempt(tool, json!({})), host, is_time).await
}

fn has_checkpoint(host: &RecordingHost) -> bool {
    !host.saved_checkpoints().calls.is_empty()
}

fn has_question(host: &RecordingHost) -> bool {
    !host.elicited().is_empty()
}

#[tokio::test]
async fn running_calls_continue_after_a_restart() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    agent.steps.add_permits(1);
    let first = answering_host();
    let checkpoints = run_until_killed(&url, "steps", &first, |host| !host.progress().is_empty()).await;
    let second = answering_host();
    let pool = restarted_pool(&url, &second, &checkpoints);
    agent.steps.add_permits(2);
    assert_eq!(reattach(&pool, "steps", &checkpoints).await, Ok("done".to_owned()));
    assert_eq!(progress_values(&first), [1.0]);
    assert_eq!(progress_values(&second).last(), Some(&3.0));
    assert_eq!(call(&pool, "quick").await, Ok("quick".to_owned()));
    pool.close().await;
    assert_eq!([agent.count("tools/call"), agent.count("initialize"), agent.count("DELETE")], [2, 1, 1]);
    assert_eq!(agent.count("notifications/cancelled"), 0);
    let mut ids: Vec<_> = agent.ids.lock().unwrap().iter().map(Value::to_string).collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[tokio::test]
async fn finished_calls_return_their_result_after_a_restart() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    let first = answering_host();
    let checkpoints = run_until_killed(&url, "steps", &first, has_checkpoint).await;
    agent.steps.add_permits(3);
    agent.until_done(1).await;
    let second = answering_host();
    let pool = restarted_pool(&url, &second, &checkpoints);
    assert_eq!(reattach(&pool, "steps", &checkpoints).await, Ok("done".to_owned()));
    assert_eq!(progress_values(&second).last(), Some(&3.0));
    assert_eq!(agent.count("tools/call"), 1);
    pool.close().await;
}

#[tokio::test]
async fn open_questions_keep_their_key_after_a_restart() {
    for tool in ["ask", "sample"] {
        let agent = Agent::default();
        let url = serve(&agent).await;
        let questions = move |host: &RecordingHost| match tool {
            "ask" => host.elicited().into_iter().map(|(origin, _)| origin).collect::<Vec<_>>(),
            _ => host.sampled().into_iter().map(|(origin, _)| origin).collect(),
        };
        let first = unresponsive_host();
        let checkpoints = run_until_killed(&url, tool, &first, move |host| !questions(host).is_empty()).await;
        let second = answering_host();
        let pool = restarted_pool(&url, &second, &checkpoints);
        let output = reattach(&pool, tool, &checkpoints).await.unwrap();
        assert!(output.contains(if tool == "ask" { "Ada" } else { "in short" }), "{output}");
        assert_eq!(questions(&second), questions(&first));
        let [origin] = &questions(&second)[..] else { panic!("{:?}", questions(&second)) };
        assert_eq!((&origin.attempt, origin.key.is_some()), (&Some(attempt(tool, json!({})).attempt), true));
        assert_eq!([agent.count("tools/call"), agent.count("reply")], [1, 1]);
        pool.close().await;
    }
}

#[tokio::test]
async fn suspended_hosts_send_nothing() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    let first = unresponsive_host();
    let pool = pool(vec![legacy_agent(&url)], &first);
    let ((), result) = tokio::join!(
        async {
            wait_until(|| !first.elicited().is_empty()).await;
            pool.suspend().await;
        },
        call(&pool, "ask"),
    );
    assert_eq!(result.unwrap_err().kind, FailureKind::ConnectionLost);
    let checkpoints = first.saved_checkpoints();
    let pool = restarted_pool(&url, &answering_host(), &checkpoints);
    let output = reattach(&pool, "ask", &checkpoints).await.unwrap();
    assert!(output.contains("Ada"), "{output}");
    let counted = ["tools/call", "reply", "DELETE", "notifications/cancelled"].map(|method| agent.count(method));
    assert_eq!(counted, [1, 1, 0, 0]);
    pool.close().await;
}

#[tokio::test]
async fn restarted_servers_interrupt_the_call() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/mcp");
    let server = serve_at(&agent, listener).await;
    let first = answering_host();
    let checkpoints = run_until_killed(&url, "steps", &first, has_checkpoint).await;
    server.abort();
    let _ = server.await;
    let listener = TcpListener::bind(address).await.unwrap();
    serve_at(&agent, listener).await;
    let pool = restarted_pool(&url, &answering_host(), &checkpoints);
    assert_eq!(reattach(&pool, "steps", &checkpoints).await.unwrap_err().kind, FailureKind::Interrupted);
    assert_eq!(call(&pool, "quick").await, Ok("quick".to_owned()));
    assert_eq!(agent.count("initialize"), 2);
    pool.close().await;
}

#[tokio::test]
async fn unreachable_servers_interrupt_the_call() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server = serve_at(&agent, listener).await;
    let first = answering_host();
    let checkpoints = run_until_killed(&url, "steps", &first, has_checkpoint).await;
    server.abort();
    let _ = server.await;
    let pool = restarted_pool(&url, &answering_host(), &checkpoints);
    let failure = reattach(&pool, "steps", &checkpoints).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted, "{failure}");
}

/// Forwards bytes, until it is signaled to cut all connections.
async fn proxy(to: SocketAddr) -> (String, Arc<watch::Sender<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let cut = Arc::new(watch::Sender::new(()));
    let cutting = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cutting.subscribe();
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut upstream) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    (url, cut)
}

#[tokio::test]
async fn cut_connections_are_resumed_during_a_call() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_at(&agent, listener).await;
    let (url, cut) = proxy(address).await;
    let host = answering_host();
    host.set_delay(Duration::from_millis(300));
    let pool = pool(vec![legacy_agent(&url)], &host);
    let cutting = async {
        wait_until(|| !host.saved_checkpoints().calls.is_empty()).await;
        for step in 1..=3 {
            cut.send_replace(());
            agent.steps.add_permits(1);
            wait_until(|| progress_values(&host).last() == Some(&f64::from(step))).await;
        }
    };
    let (result, ()) = tokio::join!(call(&pool, "steps"), cutting);
    assert_eq!(result, Ok("done".to_owned()));
    let cutting = async {
        wait_until(|| !host.elicited().is_empty()).await;
        cut.send_replace(());
    };
    let (result, ()) = tokio::join!(call(&pool, "ask"), cutting);
    assert!(result.as_ref().is_ok_and(|output| output.contains("Ada")), "{result:?}");
    assert_eq!((agent.count("tools/call"), host.elicited().len()), (2, 1));
    pool.close().await;
}

type ResponseFn = Arc<dyn Fn(&Value, usize) -> Response<Body> + Send + Sync>;

/// Works like [`serve_raw_with_common_stream`], without the stream for messages that belong to no call.
async fn serve_raw(answer: impl Fn(&Value, usize) -> Response<Body> + Send + Sync + 'static) -> String {
    serve_raw_with_common_stream(move |message, n| match message.is_null() {
        true => empty(StatusCode::METHOD_NOT_ALLOWED),
        false => answer(message, n),
    })
    .await
}

/// Serves the minimum of the legacy era, and responds to calls and streams with `answer`. It gets the message, the last
/// event of a call's stream, or null for the stream of messages that belong to no call. Its second argument is the
/// number of earlier requests of that kind.
async fn serve_raw_with_common_stream(
    answer: impl Fn(&Value, usize) -> Response<Body> + Send + Sync + 'static,
) -> String {
    let answer: ResponseFn = Arc::new(answer);
    let counts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let handler = move |request: Request| {
        let (answer, counts) = (answer.clone(), counts.clone());
        async move {
            let next = |kind: &str| {
                let mut counts = counts.lock().unwrap();
                let count = counts.entry(kind.to_owned()).or_default();
                *count += 1;
                *count - 1
            };
            if request.method() != "POST" {
                let Some(last) = request.headers().get("last-event-id") else {
                    return answer(&Value::Null, next("COMMON"));
                };
                return answer(&json!({"last_event": last.to_str().unwrap()}), next("GET"));
            }
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let message: Value = serde_json::from_slice(&body).unwrap();
            let result = match message["method"].as_str().unwrap_or_default() {
                "initialize" => json!({
                    "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                    "serverInfo": {"name": "raw", "version": "1"},
                }),
                "tools/list" => json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}),
                "tools/call" => return answer(&message, next("POST")),
                _ => return empty(StatusCode::ACCEPTED),
            };
            let body = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
            let response = Response::builder().header("content-type", "application/json").header("mcp-session-id", "s");
            response.body(Body::from(body)).unwrap()
        }
    };
    listen(Router::new().route("/mcp", any(handler))).await
}

fn empty(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

/// Returns a stream that ends after `events`.
fn stream(events: &str) -> Response<Body> {
    Response::builder().header("content-type", "text/event-stream").body(Body::from(events.to_owned())).unwrap()
}

/// Returns a stream that stays open silently after `events`.
fn silent_stream(events: &str) -> Response<Body> {
    let events = events.to_owned();
    let body = async_stream::stream! {
        yield Ok::<_, std::convert::Infallible>(events);
        std::future::pending::<()>().await;
    };
    Response::builder().header("content-type", "text/event-stream").body(Body::from_stream(body)).unwrap()
}

fn event(id: &str, data: &Value) -> String {
    format!("id: {id}\ndata: {data}\n\n")
}

fn result(id: impl Into<Value>, text: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "result": {"content": [{"type": "text", "text": text}]}})
}

/// The ID of the call, as a server records it.
#[derive(Clone, Default)]
struct RecordedCallId(Arc<Mutex<Value>>);

impl RecordedCallId {
    fn record(&self, message: &Value) -> bool {
        let is_call = message["id"].is_number();
        if is_call {
            *self.0.lock().unwrap() = message["id"].clone();
        }
        is_call
    }

    fn id(&self) -> Value {
        self.0.lock().unwrap().clone()
    }
}

const PRIMED: &str = "id: e0\ndata: \n\n";

/// Calls `t`, ends the host once the call has a checkpoint, and reattaches to it.
async fn kill_and_reattach(url: &str) -> Result<String, Failure> {
    let first = answering_host();
    let checkpoints = run_until_killed(url, "t", &first, has_checkpoint).await;
    let pool = restarted_pool(url, &answering_host(), &checkpoints);
    let result = tokio::time::timeout(Duration::from_secs(40), reattach(&pool, "t", &checkpoints)).await.unwrap();
    pool.close().await;
    result
}

#[tokio::test]
async fn silent_streams_are_reopened() {
    let called = RecordedCallId::default();
    let url = serve_raw(move |message, n| match (called.record(message), n) {
        (true, _) => silent_stream(PRIMED),
        // Old events are replayed, but new ones come only to clients that request the stream again.
        (false, 0) => silent_stream(&event("e1", &json!({"jsonrpc": "2.0", "method": "notifications/x"}))),
        (false, 1) => empty(StatusCode::CONFLICT),
        (false, _) => {
            assert_eq!(message["last_event"], "e1");
            stream(&event("e2", &result(called.id(), "at last")))
        }
    })
    .await;
    assert_eq!(kill_and_reattach(&url).await, Ok("at last".to_owned()));
}

#[tokio::test]
async fn responses_to_other_requests_are_ignored() {
    let called = RecordedCallId::default();
    let url = serve_raw(move |message, _| match called.record(message) {
        true => silent_stream(PRIMED),
        false => {
            let request_id = called.id();
            let other = request_id.as_i64().unwrap() - 1;
            stream(&[event("e1", &result(other, "another's")), event("e2", &result(request_id, "its own"))].concat())
        }
    })
    .await;
    assert_eq!(kill_and_reattach(&url).await, Ok("its own".to_owned()));
}

#[tokio::test]
async fn repeated_questions_reach_the_host_once() {
    let called = RecordedCallId::default();
    let url = serve_raw(move |message, n| {
        let question = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {
            "message": "who?", "requestedSchema": {"type": "object", "properties": {}}}});
        match (called.record(message), n) {
            (true, _) => stream(&[PRIMED, &event("e1", &question)].concat()),
            (false, 0) => stream(&event("e1", &question)),
            (false, _) => stream(&event("e2", &result(called.id(), "thanks"))),
        }
    })
    .await;
    let host = answering_host();
    let pool = pool(vec![legacy_agent(&url)], &host);
    assert_eq!(call(&pool, "t").await, Ok("thanks".to_owned()));
    assert_eq!(host.elicited().len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn checkpoint_stays_before_an_unanswered_question() {
    let called = RecordedCallId::default();
    let url = serve_raw(move |message, n| match (called.record(message), n) {
        (true, _) => {
            let question = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {
                "message": "who?", "requestedSchema": {"type": "object", "properties": {}}}});
            let logged = json!({"jsonrpc": "2.0", "method": "notifications/x"});
            silent_stream(&[PRIMED, &event("e1", &question), &event("e2", &logged)].concat())
        }
        _ => unreachable!(),
    })
    .await;
    let first = unresponsive_host();
    let checkpoints = run_until_killed(&url, "t", &first, has_question).await;
    let checkpoint = &checkpoints.calls[&AttemptId { task: "t".into(), number: 1 }];
    assert_eq!(
        (&checkpoint["kind"], &checkpoint["session"], &checkpoint["last_event"]),
        (&json!("stream"), &json!("s"), &json!("e0"))
    );
}

#[tokio::test]
async fn conflicting_streams_are_reopened() {
    let url = serve_raw_with_common_stream(|message, n| match (message.is_null(), n) {
        (true, 0 | 1) => empty(StatusCode::CONFLICT),
        _ => {
            let logged = json!({"level": "info", "data": "at last"});
            silent_stream(&event("c1", &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": logged})))
        }
    })
    .await;
    let host = answering_host();
    let pool = pool(vec![legacy_agent(&url)], &host);
    pool.connect(&"odd".into()).await.unwrap();
    wait_until(|| !host.logged().is_empty()).await;
    pool.close().await;
}

#[tokio::test]
async fn events_without_ids_leave_no_checkpoint() {
    let url = serve_raw(|message, _| {
        let logged = json!({"jsonrpc": "2.0", "method": "notifications/x"});
        stream(&format!("data: {logged}\n\ndata: {}\n\n", result(message["id"].clone(), "done")))
    })
    .await;
    let host = answering_host();
    let pool = pool(vec![legacy_agent(&url)], &host);
    assert_eq!(call(&pool, "t").await, Ok("done".to_owned()));
    assert_eq!((host.saved_checkpoints().sessions.len(), host.saved_checkpoints().calls.len()), (1, 0));
    pool.close().await;
}

#[tokio::test]
async fn lost_or_empty_streams_interrupt_the_call() {
    let refusals = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::OK, StatusCode::BAD_GATEWAY];
    let results = futures::future::join_all(refusals.map(async |status| {
        let url = serve_raw(move |message, _| match message["id"].is_number() {
            true => silent_stream(PRIMED),
            false if status == StatusCode::OK => stream(""),
            false => empty(status),
        })
        .await;
        kill_and_reattach(&url).await.unwrap_err().kind
    }))
    .await;
    assert_eq!(results, [FailureKind::Interrupted; 4]);
}

#[tokio::test]
async fn redirected_sessions_are_resumed() {
    let agent = Agent::default();
    let url = serve(&agent).await.replace("/mcp", "/moved");
    let first = unresponsive_host();
    let checkpoints = run_until_killed(&url, "ask", &first, has_question).await;
    let pool = restarted_pool(&url, &answering_host(), &checkpoints);
    let output = reattach(&pool, "ask", &checkpoints).await.unwrap();
    assert!(output.contains("Ada"), "{output}");
    assert_eq!((agent.count("initialize"), agent.count("tools/call")), (1, 1));
    pool.close().await;
}

#[tokio::test]
async fn resumed_sessions_are_notified_of_their_roots() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    let first = unresponsive_host();
    let checkpoints = run_until_killed(&url, "ask", &first, has_question).await;
    let roots = vec![AgentRoot { uri: "file:///notes".to_owned(), name: "notes".to_owned() }];
    let spec = AgentSpec { roots, ..legacy_agent(&url) };
    let pool = pool(vec![spec], &answering_host()).with_sessions(checkpoints.sessions.clone());
    reattach(&pool, "ask", &checkpoints).await.unwrap();
    wait_until(|| agent.count("notifications/roots/list_changed") == 1).await;
    assert_eq!(agent.count("initialize"), 1);
    pool.close().await;
}
