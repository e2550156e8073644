//! Calls agents over Streamable HTTP, in both eras, and servers whose answers are not MCP.
#![allow(deprecated, reason = "rmcp deprecates what only legacy agents use")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::routing::any;
use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{AgentRoot, AgentSpec, Failure, FailureKind, OAuthSpec, Protocol, Transport};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
    CreateMessageRequestParams, ElicitRequest, ElicitRequestParams, InputRequest, InputRequests, InputRequiredResult,
    ListRootsRequest, ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, SamplingMessage,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::pools::{answering_host, attempt, object, pool, process, spec, tools_result, wait_until};

/// An agent that speaks both eras.
#[derive(Clone, Default)]
struct Agent {
    /// The calls of `forever` that have begun.
    begun: Arc<AtomicUsize>,
    cancelled: Arc<AtomicUsize>,
}

impl Agent {
    fn question() -> ElicitRequestParams {
        let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}});
        ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: "who?".to_owned(),
            requested_schema: serde_json::from_value(schema).unwrap(),
        }
    }

    fn prompt() -> CreateMessageRequestParams {
        CreateMessageRequestParams::new(vec![SamplingMessage::user_text("sum up")], 100)
    }
}

fn text(text: impl Into<String>) -> Result<CallToolResponse, ErrorData> {
    Ok(CallToolResult::success(vec![ContentBlock::text(text.into())]).into())
}

impl ServerHandler for Agent {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().enable_logging().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(tools_result(&["ask", "roots", "steps", "large", "forever", "endless"]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let modern = context.protocol_version().is_some_and(|version| !version.has_initialize());
        match request.name.as_ref() {
            "ask" if modern => match (request.input_responses, request.request_state) {
                (Some(answers), Some(state)) => {
                    assert_eq!(context.meta.get("key"), Some(&json!("k")));
                    text(format!("{state} {}", serde_json::to_string(&answers).unwrap()))
                }
                _ => {
                    let mut requests = InputRequests::new();
                    let ask = ElicitRequest::new(Self::question());
                    requests.insert("who".to_owned(), InputRequest::Elicitation(ask));
                    let sample = CreateMessageRequest::new(Self::prompt());
                    requests.insert("sum".to_owned(), InputRequest::CreateMessage(sample));
                    Ok(InputRequiredResult::new(Some(requests), Some("state".to_owned())).into())
                }
            },
            "ask" => {
                let internal = |error: rmcp::ServiceError| ErrorData::internal_error(error.to_string(), None);
                let answer = context.peer.create_elicitation(Self::question()).await.map_err(internal)?;
                let reply = context.peer.create_message(Self::prompt()).await.map_err(internal)?;
                text(format!("{} {}", json!(answer), json!(reply)))
            }
            "roots" if modern => match request.input_responses {
                Some(answers) => text(serde_json::to_string(&answers).unwrap()),
                None => {
                    let roots = InputRequest::ListRoots(ListRootsRequest::default());
                    Ok(InputRequiredResult::from_input_requests(InputRequests::from([("roots".to_owned(), roots)]))
                        .into())
                }
            },
            "roots" => {
                let roots = context.peer.list_roots().await;
                text(json!(roots.map_err(|error| ErrorData::internal_error(error.to_string(), None))?).to_string())
            }
            "endless" => Ok(InputRequiredResult::from_input_requests(InputRequests::from([(
                "who".to_owned(),
                InputRequest::Elicitation(ElicitRequest::new(Self::question())),
            )]))
            .into()),
            "steps" => {
                let token = context.meta.get_progress_token().unwrap();
                for step in 1..=3 {
                    let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(3.0);
                    context.peer.notify_progress(progress).await.unwrap();
                }
                text("done")
            }
            "large" => text("x".repeat(20_000_000)),
            _ => {
                self.begun.fetch_add(1, Ordering::SeqCst);
                context.ct.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                text("cancelled")
            }
        }
    }
}

async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/mcp")
}

async fn serve(agent: &Agent, json: bool) -> String {
    let agent = agent.clone();
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(!json).with_json_response(json);
    let service = StreamableHttpService::new(move || Ok(agent.clone()), Arc::<LocalSessionManager>::default(), config);
    listen(Router::new().nest_service("/mcp", service)).await
}

fn http(url: &str, protocol: Protocol) -> AgentSpec {
    let transport = Transport::Http {
        url: url.to_owned(),
        headers: Vec::new(),
        bearer_token: Some("secret".to_owned()),
        oauth: OAuthSpec::default(),
        server: None,
    };
    AgentSpec { protocol, ..spec("odd", transport) }
}

async fn call(pool: &Pool, tool: &str) -> Result<String, Failure> {
    let meta = object(json!({"key": "k"}));
    let output = pool.call(attempt(tool, json!({})), CallContext { meta, ..CallContext::default() }).await?;
    Ok(output.text().into_owned())
}

#[tokio::test]
async fn elicitation_and_sampling_work_in_both_eras() {
    for (protocol, version) in
        [(Protocol::Auto, "2026-07-28"), (Protocol::Modern, "2026-07-28"), (Protocol::Legacy, "2025-11-25")]
    {
        let url = serve(&Agent::default(), false).await;
        let host = answering_host();
        let pool = pool(vec![http(&url, protocol)], &host);
        assert_eq!(pool.connect(&"odd".into()).await.unwrap().protocol, version);
        let output = call(&pool, "ask").await.unwrap();
        assert!(output.contains("Ada") && output.contains("in short"), "{output}");
        let attempt = Some(attempt("ask", json!({})).attempt);
        assert_eq!(host.elicited()[0].0.attempt, attempt);
        assert_eq!(host.sampled()[0].0.attempt, attempt);
        let rounds = host.rounds();
        if protocol == Protocol::Legacy {
            assert_eq!(rounds, []);
        } else {
            let (number, state, requests) = &rounds[0];
            assert_eq!((rounds.len(), *number, state.as_deref()), (1, 1, Some("state")));
            assert_eq!(requests["who"]["method"], "elicitation/create");
            assert_eq!(requests["sum"]["params"]["maxTokens"], 100);
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn roots_are_listed_in_both_eras() {
    for protocol in [Protocol::Modern, Protocol::Legacy] {
        let url = serve(&Agent::default(), false).await;
        let roots = vec![AgentRoot { uri: "file:///notes".to_owned(), name: "notes".to_owned() }];
        let pool = pool(vec![AgentSpec { roots, ..http(&url, protocol) }], &answering_host());
        let listed = call(&pool, "roots").await.unwrap();
        assert!(listed.contains(r#""uri":"file:///notes""#) && listed.contains(r#""name":"notes""#), "{listed}");
        pool.close().await;
    }
}

#[tokio::test]
async fn endless_input_rounds_fail_the_call() {
    let url = serve(&Agent::default(), false).await;
    let host = answering_host();
    let pool = pool(vec![http(&url, Protocol::Auto)], &host);
    let failure = call(&pool, "endless").await.unwrap_err();
    assert_eq!((failure.kind, host.rounds().len()), (FailureKind::InvalidResult, 32));
    pool.close().await;
}

#[tokio::test]
async fn progress_and_large_results_work_over_sse_and_json() {
    for (protocol, json) in [(Protocol::Auto, false), (Protocol::Legacy, false), (Protocol::Legacy, true)] {
        let url = serve(&Agent::default(), json).await;
        let host = answering_host();
        let pool = pool(vec![http(&url, protocol)], &host);
        assert_eq!(call(&pool, "steps").await, Ok("done".to_owned()));
        if !json {
            assert_eq!(host.progress().last().map(|progress| progress.progress), Some(3.0));
        }
        assert_eq!(call(&pool, "large").await.map(|text| text.len()), Ok(20_000_000));
        pool.close().await;
    }
}

#[tokio::test]
async fn cancellation_reaches_the_server_in_both_eras() {
    for protocol in [Protocol::Modern, Protocol::Legacy] {
        let agent = Agent::default();
        let url = serve(&agent, false).await;
        let pool = pool(vec![http(&url, protocol)], &answering_host());
        pool.connect(&"odd".into()).await.unwrap();
        let cancel = CancellationToken::new();
        let calling =
            pool.call(attempt("forever", json!({})), CallContext { cancel: cancel.clone(), ..CallContext::default() });
        let cancelling = async {
            wait_until(|| agent.begun.load(Ordering::SeqCst) > 0).await;
            cancel.cancel();
        };
        let (result, ()) = tokio::join!(calling, cancelling);
        assert_eq!(result.unwrap_err().kind, FailureKind::Cancelled);
        wait_until(|| agent.cancelled.load(Ordering::SeqCst) > 0).await;
        pool.close().await;
    }
}

#[tokio::test]
async fn concurrent_calls_share_a_connection() {
    let url = serve(&Agent::default(), false).await;
    let mut agent = http(&url, Protocol::Auto);
    agent.policy.max_concurrency = 100;
    let pool = pool(vec![agent], &answering_host());
    let results = futures::future::join_all((0..100).map(|_| call(&pool, "steps"))).await;
    assert!(results.into_iter().all(|result| result == Ok("done".to_owned())));
    pool.close().await;
}

/// Serves the minimum of the legacy era, and answers calls with `answer`.
async fn serve_raw(
    answer: impl Fn(&Value, usize) -> Response<Body> + Clone + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let handler = move |request: Request<Body>| {
        let (answer, counter) = (answer.clone(), counter.clone());
        async move {
            if request.method() != "POST" {
                let n = counter.fetch_add(1, Ordering::SeqCst);
                return answer(&json!({"method": request.method().as_str()}), n);
            }
            let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
            let message: Value = serde_json::from_slice(&body).unwrap();
            let reply = |result: Value| {
                json_body(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
            };
            match message["method"].as_str().unwrap_or_default() {
                "initialize" => {
                    let result = json!({
                        "protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                        "serverInfo": {"name": "raw", "version": "1"},
                    });
                    let mut response = reply(result);
                    response.headers_mut().insert("mcp-session-id", "s".parse().unwrap());
                    response
                }
                "tools/list" => reply(json!({"tools": [{"name": "t", "inputSchema": {"type": "object"}}]})),
                "tools/call" => {
                    let n = counter.fetch_add(1, Ordering::SeqCst);
                    answer(&message, n)
                }
                _ => json_body(StatusCode::ACCEPTED, &json!({})),
            }
        }
    };
    (listen(Router::new().route("/mcp", any(handler))).await, requests)
}

fn json_body(status: StatusCode, body: &Value) -> Response<Body> {
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(Body::from(body.to_string())).unwrap()
}

fn stream(body: &str) -> Response<Body> {
    Response::builder().header("content-type", "text/event-stream").body(Body::from(body.to_owned())).unwrap()
}

#[tokio::test]
async fn http_statuses_map_to_failure_kinds() {
    type ResponseFn = fn(&Value, usize) -> Response<Body>;
    const TOO_LARGE: usize = 65 * 1024 * 1024;
    let cases: [(ResponseFn, FailureKind); 11] = [
        (|_, _| json_body(StatusCode::UNAUTHORIZED, &json!({})), FailureKind::Unauthorized),
        (|_, _| json_body(StatusCode::TOO_MANY_REQUESTS, &json!({})), FailureKind::RateLimited),
        (|_, _| json_body(StatusCode::NOT_FOUND, &json!({})), FailureKind::SessionLost),
        (
            |_, _| {
                let error = json!({"code": -32000, "message": "Bad Request: no valid session"});
                json_body(StatusCode::BAD_REQUEST, &json!({"jsonrpc": "2.0", "id": null, "error": error}))
            },
            FailureKind::SessionLost,
        ),
        (|_, _| json_body(StatusCode::UNPROCESSABLE_ENTITY, &json!({})), FailureKind::Refused),
        (|_, _| json_body(StatusCode::BAD_GATEWAY, &json!({})), FailureKind::ConnectionLost),
        (
            |_, _| {
                let error = json!({"code": -32602, "message": "no"});
                json_body(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": null, "error": error}))
            },
            FailureKind::Refused,
        ),
        (
            |_, _| Response::builder().header("content-type", "text/html").body(Body::from("<html>")).unwrap(),
            FailureKind::InvalidResult,
        ),
        (|_, _| stream(": nothing\n\n"), FailureKind::ConnectionLost),
        (|_, _| json_body(StatusCode::OK, &json!("x".repeat(TOO_LARGE))), FailureKind::ResultTooLarge),
        (|_, _| stream(&format!("data: {}\n\n", "x".repeat(TOO_LARGE))), FailureKind::ResultTooLarge),
    ];
    for (answer, expected) in cases {
        let (url, _) = serve_raw(move |message, n| match message["method"].as_str() {
            Some("tools/call") => answer(message, n),
            _ => json_body(StatusCode::METHOD_NOT_ALLOWED, &json!({})),
        })
        .await;
        let pool = pool(vec![http(&url, Protocol::Auto)], &answering_host());
        let failure = call(&pool, "t").await.unwrap_err();
        assert_eq!(failure.kind, expected, "{}", failure.message);
        assert!(!failure.message.contains("secret") && !failure.help.unwrap_or_default().contains("secret"));
        pool.close().await;
    }
}

#[tokio::test]
async fn lost_sessions_are_reopened_for_the_next_call() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let (url, _) = serve_raw(move |message, _| match message["method"].as_str() {
        Some("tools/call") if counter.fetch_add(1, Ordering::SeqCst) == 0 => {
            json_body(StatusCode::NOT_FOUND, &json!({}))
        }
        Some("tools/call") => {
            let result = json!({"content": [{"type": "text", "text": "again"}]});
            json_body(StatusCode::OK, &json!({"jsonrpc": "2.0", "id": message["id"], "result": result}))
        }
        _ => json_body(StatusCode::METHOD_NOT_ALLOWED, &json!({})),
    })
    .await;
    let pool = pool(vec![http(&url, Protocol::Legacy)], &answering_host());
    pool.connect(&"odd".into()).await.unwrap();
    assert_eq!(call(&pool, "t").await.unwrap_err().kind, FailureKind::SessionLost);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(call(&pool, "t").await, Ok("again".to_owned()));
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    pool.close().await;
}

#[tokio::test]
async fn broken_streams_are_reopened_a_bounded_number_of_times() {
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let (url, requests) = serve_raw(move |message, _| match message["method"].as_str() {
            Some("tools/call") => stream("id: e1\nretry: 10\ndata: \n\n"),
            _ if status == StatusCode::OK => stream(""),
            _ => json_body(status, &json!({})),
        })
        .await;
        let pool = pool(vec![http(&url, Protocol::Legacy)], &answering_host());
        let failure = tokio::time::timeout(Duration::from_secs(40), call(&pool, "t")).await.unwrap().unwrap_err();
        assert_eq!(failure.kind, FailureKind::ConnectionLost, "{}", failure.message);
        assert!(requests.load(Ordering::SeqCst) < 12, "{requests:?}");
        pool.close().await;
    }
}

#[tokio::test]
async fn headers_stay_within_the_origin() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = seen.clone();
    let elsewhere = listen(Router::new().fallback(any(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        async { StatusCode::OK }
    })))
    .await;
    let url = listen(Router::new().fallback(any(move || {
        let to = elsewhere.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [("location", to)]) }
    })))
    .await;
    let pool = pool(vec![http(&url, Protocol::Auto)], &answering_host());
    let failure = pool.connect(&"odd".into()).await.unwrap_err();
    assert_eq!((failure.kind, seen.load(Ordering::SeqCst)), (FailureKind::AgentUnavailable, 0));
    assert!(failure.message.contains("another origin"), "{}", failure.message);
}

/// Returns an address at which nothing listens.
fn unused_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn connecting_retries_until_the_startup_timeout() {
    let url = format!("http://{}/mcp?key=secret", unused_address());
    let agent = AgentSpec { startup_timeout: Duration::from_millis(700), ..http(&url, Protocol::Auto) };
    let pool = pool(vec![agent], &answering_host());
    let failure = pool.connect(&"odd".into()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    for part in ["did not finish connecting within 700ms", "Connection refused"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert!(!failure.message.contains("secret"), "{failure}");
    assert!(
        failure
            .help
            .is_some_and(|help| help.contains("startup_timeout") && help.contains("check that the server is running"))
    );
}

#[tokio::test]
async fn late_servers_are_connected() {
    let address = unused_address();
    let pool = pool(vec![http(&format!("http://{address}/mcp"), Protocol::Auto)], &answering_host());
    let serving = async {
        // The outcome is the same whether or not an attempt comes before this.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let service = StreamableHttpService::new(
            || Ok(Agent::default()),
            Arc::<LocalSessionManager>::default(),
            StreamableHttpServerConfig::default(),
        );
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().nest_service("/mcp", service)).await });
    };
    let id = "odd".into();
    let (connected, ()) = tokio::join!(pool.connect(&id), serving);
    assert_eq!(connected.unwrap().protocol, "2026-07-28");
    pool.close().await;
}

/// A server that the host starts, and that needs a moment before it listens.
const SLOW_SERVER: &str = r#"
import http.server, json, sys, time
print("starting", file=sys.stderr, flush=True)
if sys.argv[2] == "exits":
    sys.exit(5)
time.sleep(0.4)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def reply(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply(405)
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "id" not in message:
            return self.reply(202)
        answers = {
            "initialize": {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                           "serverInfo": {"name": "slow", "version": "1"}},
            "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "up"}]},
        }
        result = answers.get(message["method"])
        body = {"jsonrpc": "2.0", "id": message["id"]}
        body.update({"result": result} if result else {"error": {"code": -32601, "message": "no"}})
        self.reply(200, json.dumps(body).encode())
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

fn hosted_server(mode: &str) -> AgentSpec {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let transport = Transport::Http {
        url: format!("http://127.0.0.1:{port}/mcp"),
        headers: Vec::new(),
        bearer_token: None,
        oauth: OAuthSpec::default(),
        server: Some(process("python3", &["-c", SLOW_SERVER, &port.to_string(), mode])),
    };
    spec("odd", transport)
}

#[tokio::test]
async fn hosted_servers_are_started_and_stopped() {
    let agent = hosted_server("serves");
    let Transport::Http { url, .. } = agent.transport.clone() else { unreachable!() };
    let host = answering_host();
    let pool = pool(vec![agent], &host);
    assert_eq!(call(&pool, "t").await, Ok("up".to_owned()));
    pool.close().await;
    assert!(reqwest::get(url).await.is_err());
    assert!(std::fs::read_to_string(host.log_directory().join("odd.log")).unwrap().contains("starting"));
}

#[tokio::test]
async fn exited_hosted_servers_fail_immediately() {
    let pool = pool(vec![hosted_server("exits")], &answering_host());
    let failure = pool.connect(&"odd".into()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    assert!(failure.message.contains("exit status: 5") && failure.message.contains("starting"), "{failure}");
}
