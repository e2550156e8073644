//! Ends the host in the middle of calls over legacy Streamable HTTP, and takes them up in another life. Cuts connections
//! in the middle of calls, which nobody is to notice.
#![allow(clippy::unwrap_used, deprecated, missing_docs)]

mod support;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, StatusCode},
    middleware::{self, Next},
    routing::any,
};
use kapell::{
    mcp::Pool,
    model::{AttemptId, Failure, FailureKind, Notes},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequestParams,
        ElicitRequestParams, JsonRpcMessage, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam,
        SamplingMessage, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService,
        session::{EventStore, EventStoreError, EventStream, ServerSseMessage, local::LocalSessionManager},
    },
};
use serde_json::{Value, json};
use support::{
    Recorder, attempt, helpful,
    lives::{self, busy, legacy, progress, risen},
    offer, pool, until,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

/// An agent whose work goes on as the test lets it.
#[derive(Clone)]
struct Agent {
    steps: Arc<Semaphore>,
    /// Every HTTP request, as the method of its message, or else its own.
    requests: Arc<Mutex<Vec<String>>>,
    /// The ids of all requests of the client.
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
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(3.0);
                    context.peer.notify_progress(progress).await.map_err(internal)?;
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
        Ok(offer(&["ask", "sample", "steps", "quick"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let said = self.work(&request.name, &context).await?;
        self.done.send_modify(|done| *done += 1);
        Ok(CallToolResult::success(vec![ContentBlock::text(said)]).into())
    }
}

/// Keeps all events in one list, and goes on with those that come.
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

/// Serves the agent at that address until the result is aborted.
async fn serve_at(agent: &Agent, listener: TcpListener) -> tokio::task::JoinHandle<()> {
    let (served, seen) = (agent.clone(), agent.clone());
    let events = Events(Arc::new(watch::Sender::new(Vec::new())));
    let service = StreamableHttpService::new(
        move || Ok(served.clone()),
        Arc::new(LocalSessionManager::default().with_event_store(Arc::new(events))),
        StreamableHttpServerConfig::default(),
    );
    let note = move |request: Request, next: Next| {
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
    let router = Router::new().nest_service("/mcp", service).layer(middleware::from_fn(note));
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

/// Carries out a call of that tool.
async fn call(pool: &Pool, tool: &str) -> Result<String, Failure> {
    lives::call(pool, attempt(tool, json!({}))).await
}

/// Takes up the call of that tool.
async fn take_up(pool: &Pool, tool: &str, notes: &Notes) -> Result<String, Failure> {
    lives::take_up(pool, attempt(tool, json!({})), notes).await
}

/// Ends the host in the middle of a call of that tool.
async fn killed(
    url: &str,
    tool: &str,
    host: &Arc<Recorder>,
    is_time: impl Fn(&Recorder) -> bool + Send + 'static,
) -> Notes {
    lives::killed(url, attempt(tool, json!({})), host, is_time).await
}

fn is_noted(host: &Recorder) -> bool {
    !host.left().calls.is_empty()
}

fn is_asked(host: &Recorder) -> bool {
    !host.elicited().is_empty()
}

#[tokio::test]
async fn a_call_that_is_still_running_goes_on_in_the_next_life() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    agent.steps.add_permits(1);
    let first = helpful();
    let notes = killed(&url, "steps", &first, |host| !host.progress().is_empty()).await;
    let second = helpful();
    let pool = risen(&url, &second, &notes);
    agent.steps.add_permits(2);
    assert_eq!(take_up(&pool, "steps", &notes).await, Ok("done".to_owned()));
    assert_eq!(progress(&first), [1.0]);
    assert_eq!(progress(&second).last(), Some(&3.0));
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
async fn a_call_that_ended_meanwhile_has_its_result_in_the_next_life() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    let first = helpful();
    let notes = killed(&url, "steps", &first, is_noted).await;
    agent.steps.add_permits(3);
    agent.until_done(1).await;
    let second = helpful();
    let pool = risen(&url, &second, &notes);
    assert_eq!(take_up(&pool, "steps", &notes).await, Ok("done".to_owned()));
    assert_eq!(progress(&second).last(), Some(&3.0));
    assert_eq!(agent.count("tools/call"), 1);
    pool.close().await;
}

#[tokio::test]
async fn what_the_agent_had_asked_is_asked_again_in_the_next_life_by_the_same_name() {
    for tool in ["ask", "sample"] {
        let agent = Agent::default();
        let url = serve(&agent).await;
        let asked = move |host: &Recorder| match tool {
            "ask" => host.elicited().into_iter().map(|(origin, _)| origin).collect::<Vec<_>>(),
            _ => host.sampled().into_iter().map(|(origin, _)| origin).collect(),
        };
        let first = busy();
        let notes = killed(&url, tool, &first, move |host| !asked(host).is_empty()).await;
        let second = helpful();
        let pool = risen(&url, &second, &notes);
        let said = take_up(&pool, tool, &notes).await.unwrap();
        assert!(said.contains(if tool == "ask" { "Ada" } else { "in short" }), "{said}");
        assert_eq!(asked(&second), asked(&first));
        let [origin] = &asked(&second)[..] else { panic!("{:?}", asked(&second)) };
        assert_eq!((&origin.attempt, origin.key.is_some()), (&Some(attempt(tool, json!({})).attempt), true));
        assert_eq!([agent.count("tools/call"), agent.count("reply")], [1, 1]);
        pool.close().await;
    }
}

#[tokio::test]
async fn a_host_that_leaves_says_no_more_than_one_that_is_killed() {
    let agent = Agent::default();
    let url = serve(&agent).await;
    let first = busy();
    let pool = pool(vec![legacy(&url)], &first);
    let ((), result) = tokio::join!(
        async {
            until(|| !first.elicited().is_empty()).await;
            pool.leave().await;
        },
        call(&pool, "ask"),
    );
    assert_eq!(result.unwrap_err().kind, FailureKind::ConnectionLost);
    let notes = first.left();
    let pool = risen(&url, &helpful(), &notes);
    let said = take_up(&pool, "ask", &notes).await.unwrap();
    assert!(said.contains("Ada"), "{said}");
    let counted = ["tools/call", "reply", "DELETE", "notifications/cancelled"].map(|method| agent.count(method));
    assert_eq!(counted, [1, 1, 0, 0]);
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_was_restarted_no_longer_has_the_call() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}/mcp");
    let server = serve_at(&agent, listener).await;
    let first = helpful();
    let notes = killed(&url, "steps", &first, is_noted).await;
    server.abort();
    let _ = server.await;
    let listener = TcpListener::bind(address).await.unwrap();
    serve_at(&agent, listener).await;
    let pool = risen(&url, &helpful(), &notes);
    assert_eq!(take_up(&pool, "steps", &notes).await.unwrap_err().kind, FailureKind::Interrupted);
    assert_eq!(call(&pool, "quick").await, Ok("quick".to_owned()));
    assert_eq!(agent.count("initialize"), 2);
    pool.close().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_leaves_the_call_unknown() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server = serve_at(&agent, listener).await;
    let first = helpful();
    let notes = killed(&url, "steps", &first, is_noted).await;
    server.abort();
    let _ = server.await;
    let pool = risen(&url, &helpful(), &notes);
    let failure = take_up(&pool, "steps", &notes).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted, "{failure}");
}

/// Passes bytes on, until it is told to cut all connections.
async fn proxy(to: SocketAddr) -> (String, Arc<watch::Sender<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let cut = Arc::new(watch::Sender::new(()));
    let cutting = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut cut = cutting.subscribe();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    (url, cut)
}

#[tokio::test]
async fn a_connection_that_is_cut_in_the_middle_of_a_call_goes_unnoticed() {
    let agent = Agent::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    serve_at(&agent, listener).await;
    let (url, cut) = proxy(address).await;
    let host = helpful();
    host.think_for(Duration::from_millis(300));
    let pool = pool(vec![legacy(&url)], &host);
    let cutting = async {
        until(|| !host.left().calls.is_empty()).await;
        for step in 1..=3 {
            cut.send_replace(());
            agent.steps.add_permits(1);
            until(|| progress(&host).last() == Some(&f64::from(step))).await;
        }
    };
    let (result, ()) = tokio::join!(call(&pool, "steps"), cutting);
    assert_eq!(result, Ok("done".to_owned()));
    let cutting = async {
        until(|| !host.elicited().is_empty()).await;
        cut.send_replace(());
    };
    let (result, ()) = tokio::join!(call(&pool, "ask"), cutting);
    assert!(result.as_ref().is_ok_and(|said| said.contains("Ada")), "{result:?}");
    assert_eq!((agent.count("tools/call"), host.elicited().len()), (2, 1));
    pool.close().await;
}

type Answering = Arc<dyn Fn(&Value, usize) -> Response<Body> + Send + Sync>;

/// As [`raw_with_common`], without a stream for what belongs to no call.
async fn raw(answer: impl Fn(&Value, usize) -> Response<Body> + Send + Sync + 'static) -> String {
    raw_with_common(move |message, n| match message.is_null() {
        true => empty(StatusCode::METHOD_NOT_ALLOWED),
        false => answer(message, n),
    })
    .await
}

/// Speaks just enough of the legacy era; calls and streams are answered as `answer` says, which is given the message, the
/// last event of a call's stream, or null for the stream of what belongs to no call, and how many of that kind came
/// before.
async fn raw_with_common(answer: impl Fn(&Value, usize) -> Response<Body> + Send + Sync + 'static) -> String {
    let answer: Answering = Arc::new(answer);
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

/// A stream that ends after `events`.
fn stream(events: &str) -> Response<Body> {
    Response::builder().header("content-type", "text/event-stream").body(Body::from(events.to_owned())).unwrap()
}

/// A stream that goes silent after `events`.
fn silent(events: &str) -> Response<Body> {
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

/// Remembers the id of the call, as a server does.
#[derive(Clone, Default)]
struct Called(Arc<Mutex<Value>>);

impl Called {
    fn by(&self, message: &Value) -> bool {
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

/// Calls `t`, ends the host once the call is noted, and takes it up.
async fn taken_up(url: &str) -> Result<String, Failure> {
    let first = helpful();
    let notes = killed(url, "t", &first, is_noted).await;
    let pool = risen(url, &helpful(), &notes);
    let result = tokio::time::timeout(Duration::from_secs(40), take_up(&pool, "t", &notes)).await.unwrap();
    pool.close().await;
    result
}

#[tokio::test]
async fn a_stream_on_which_nothing_comes_any_more_is_opened_again() {
    let called = Called::default();
    let url = raw(move |message, n| match (called.by(message), n) {
        (true, _) => silent(PRIMED),
        // Old events come, new ones do not: they come to those who ask again.
        (false, 0) => silent(&event("e1", &json!({"jsonrpc": "2.0", "method": "notifications/x"}))),
        (false, 1) => empty(StatusCode::CONFLICT),
        (false, _) => {
            assert_eq!(message["last_event"], "e1");
            stream(&event("e2", &result(called.id(), "at last")))
        }
    })
    .await;
    assert_eq!(taken_up(&url).await, Ok("at last".to_owned()));
}

#[tokio::test]
async fn answers_to_others_on_the_stream_are_not_taken_for_the_calls_own() {
    let called = Called::default();
    let url = raw(move |message, _| match called.by(message) {
        true => silent(PRIMED),
        false => {
            let own = called.id();
            let other = own.as_i64().unwrap() - 1;
            stream(&[event("e1", &result(other, "another's")), event("e2", &result(own, "its own"))].concat())
        }
    })
    .await;
    assert_eq!(taken_up(&url).await, Ok("its own".to_owned()));
}

#[tokio::test]
async fn a_question_that_a_server_repeats_is_asked_once() {
    let called = Called::default();
    let url = raw(move |message, n| {
        let question = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {
            "message": "who?", "requestedSchema": {"type": "object", "properties": {}}}});
        match (called.by(message), n) {
            (true, _) => stream(&[PRIMED, &event("e1", &question)].concat()),
            (false, 0) => stream(&event("e1", &question)),
            (false, _) => stream(&event("e2", &result(called.id(), "thanks"))),
        }
    })
    .await;
    let host = helpful();
    let pool = pool(vec![legacy(&url)], &host);
    assert_eq!(call(&pool, "t").await, Ok("thanks".to_owned()));
    assert_eq!(host.elicited().len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn the_note_of_a_call_stays_before_a_question_without_an_answer() {
    let called = Called::default();
    let url = raw(move |message, n| match (called.by(message), n) {
        (true, _) => {
            let question = json!({"jsonrpc": "2.0", "id": 7, "method": "elicitation/create", "params": {
                "message": "who?", "requestedSchema": {"type": "object", "properties": {}}}});
            let logged = json!({"jsonrpc": "2.0", "method": "notifications/x"});
            silent(&[PRIMED, &event("e1", &question), &event("e2", &logged)].concat())
        }
        _ => unreachable!(),
    })
    .await;
    let first = busy();
    let notes = killed(&url, "t", &first, is_asked).await;
    let note = &notes.calls[&AttemptId { task: "t".into(), number: 1 }];
    assert_eq!((&note["kind"], &note["session"], &note["last_event"]), (&json!("stream"), &json!("s"), &json!("e0")));
}

#[tokio::test]
async fn a_stream_that_an_earlier_life_still_has_is_asked_for_again() {
    let url = raw_with_common(|message, n| match (message.is_null(), n) {
        (true, 0 | 1) => empty(StatusCode::CONFLICT),
        _ => {
            let logged = json!({"level": "info", "data": "at last"});
            silent(&event("c1", &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": logged})))
        }
    })
    .await;
    let host = helpful();
    let pool = pool(vec![legacy(&url)], &host);
    pool.connect(&"odd".into()).await.unwrap();
    until(|| !host.logged().is_empty()).await;
    pool.close().await;
}

#[tokio::test]
async fn a_call_whose_events_have_no_ids_has_no_note() {
    let url = raw(|message, _| {
        let logged = json!({"jsonrpc": "2.0", "method": "notifications/x"});
        stream(&format!("data: {logged}\n\ndata: {}\n\n", result(message["id"].clone(), "done")))
    })
    .await;
    let host = helpful();
    let pool = pool(vec![legacy(&url)], &host);
    assert_eq!(call(&pool, "t").await, Ok("done".to_owned()));
    assert_eq!((host.left().sessions.len(), host.left().calls.len()), (1, 0));
    pool.close().await;
}

#[tokio::test]
async fn a_stream_that_is_gone_or_gives_nothing_ends_the_call() {
    let refusals = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST, StatusCode::OK, StatusCode::BAD_GATEWAY];
    let results = futures::future::join_all(refusals.map(async |status| {
        let url = raw(move |message, _| match message["id"].is_number() {
            true => silent(PRIMED),
            false if status == StatusCode::OK => stream(""),
            false => empty(status),
        })
        .await;
        taken_up(&url).await.unwrap_err().kind
    }))
    .await;
    assert_eq!(results, [FailureKind::Interrupted; 4]);
}

#[tokio::test]
async fn a_session_behind_a_redirect_is_taken_over() {
    let agent = Agent::default();
    let url = serve(&agent).await.replace("/mcp", "/moved");
    let first = busy();
    let notes = killed(&url, "ask", &first, is_asked).await;
    let pool = risen(&url, &helpful(), &notes);
    let said = take_up(&pool, "ask", &notes).await.unwrap();
    assert!(said.contains("Ada"), "{said}");
    assert_eq!((agent.count("initialize"), agent.count("tools/call")), (1, 1));
    pool.close().await;
}
