//! Calls an agent over HTTP+SSE of 2024-11-05.

use std::path::Path;
use std::sync::Arc;

use kapell::mcp::{Agents as _, CallContext, Pool};
use kapell::model::{
    AgentRoot, AgentSpec, ConnectionTransport, Failure, FailureKind, OAuthSpec, Origin, Protocol, Transport,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::pools::{RecordingHost, answering_host, attempt, pool, process, spec, wait_until};

/// An agent over HTTP+SSE, and the folder with its records.
struct SseAgent {
    spec: AgentSpec,
    folder: TempDir,
}

impl SseAgent {
    /// Returns an agent that behaves as `mode` says, at an address with this path.
    fn new(mode: &str, path: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        drop(listener);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/http_sse.py");
        let arguments = [script.to_str().unwrap(), mode, folder.path().to_str().unwrap(), &port];
        let transport = Transport::Http {
            url: format!("http://127.0.0.1:{port}{path}"),
            headers: Vec::new(),
            bearer_token: None,
            oauth: OAuthSpec::default(),
            server: Some(process("python3", &arguments)),
        };
        Self { spec: spec("odd", transport), folder }
    }

    fn pool(&self, host: &Arc<RecordingHost>) -> Pool {
        pool(vec![self.spec.clone()], host)
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

async fn call(pool: &Pool, tool: &str, arguments: Value) -> Result<String, Failure> {
    let output = pool.call(attempt(tool, arguments), CallContext::default()).await?;
    Ok(output.text().into_owned())
}

#[tokio::test]
async fn the_transport_is_detected() {
    for (path, protocol) in
        [("/sse", Protocol::Auto), ("/sse-stream", Protocol::Auto), ("/sse-stream", Protocol::Legacy)]
    {
        let mut agent = SseAgent::new("plain", path);
        agent.spec.protocol = protocol;
        let pool = agent.pool(&answering_host());
        let info = pool.connect(&"odd".into()).await.unwrap();
        assert_eq!(info.transport, Some(ConnectionTransport::HttpSse));
        assert_eq!((info.protocol.as_str(), info.server.as_deref()), ("2024-11-05", Some("sse 1")));
        assert_eq!(call(&pool, "echo", json!({"text": "hi"})).await, Ok("hi".to_owned()));
        pool.close().await;
        assert_eq!(agent.lines("methods").first().map(String::as_str), Some("initialize"));
    }
}

#[tokio::test]
async fn streamable_http_is_used_at_an_address_of_http_sse() {
    let agent = SseAgent::new("streamable", "/sse");
    let pool = agent.pool(&answering_host());
    let info = pool.connect(&"odd".into()).await.unwrap();
    assert_eq!(info.transport, Some(ConnectionTransport::StreamableHttp));
    assert_eq!(call(&pool, "echo", json!({"text": "hi"})).await, Ok("hi".to_owned()));
    pool.close().await;
}

#[tokio::test]
async fn requests_of_the_agent_are_answered() {
    let mut agent = SseAgent::new("plain", "/sse");
    agent.spec.roots = vec![AgentRoot { uri: "file:///notes".to_owned(), name: "notes".to_owned() }];
    let host = answering_host();
    let pool = agent.pool(&host);
    let answer: Value = serde_json::from_str(&call(&pool, "ask", json!({})).await.unwrap()).unwrap();
    assert_eq!(answer["action"], "accept");
    let reply: Value = serde_json::from_str(&call(&pool, "think", json!({})).await.unwrap()).unwrap();
    assert_eq!(reply["role"], "assistant");
    let origin = Origin { agent: "odd".into(), attempt: Some(attempt("ask", json!({})).attempt), key: None };
    assert_eq!((&host.elicited()[0].0, &host.sampled()[0].0), (&origin, &origin));
    let roots: Value = serde_json::from_str(&call(&pool, "roots", json!({})).await.unwrap()).unwrap();
    assert_eq!(roots, json!([{"uri": "file:///notes", "name": "notes"}]));
    pool.close().await;
}

#[tokio::test]
async fn agents_that_ask_get_one_call_at_a_time() {
    let agent = SseAgent::new("plain", "/sse");
    let host = answering_host();
    let pool = agent.pool(&host);
    let tasks = ["one", "two", "three"];
    let calls = tasks.map(|task| {
        let mut call = attempt("ask", json!({}));
        call.attempt.task = task.into();
        pool.call(call, CallContext::default())
    });
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    let asking = host.elicited().into_iter().map(|(origin, _)| origin.attempt.expect("a call").task);
    assert_eq!(asking.collect::<Vec<_>>(), tasks.map(Into::into));
    assert_eq!(agent.lines("streams").len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn progress_is_reported() {
    let agent = SseAgent::new("plain", "/sse");
    let host = answering_host();
    let pool = agent.pool(&host);
    assert_eq!(call(&pool, "steps", json!({})).await, Ok("done".to_owned()));
    assert_eq!(host.progress().last().map(|progress| progress.progress), Some(3.0));
    pool.close().await;
}

#[tokio::test]
async fn cancelled_calls_notify_the_agent_and_keep_the_connection() {
    let agent = SseAgent::new("plain", "/sse");
    let pool = agent.pool(&answering_host());
    pool.connect(&"odd".into()).await.unwrap();
    let cancel = CancellationToken::new();
    let context = CallContext { cancel: cancel.clone(), ..CallContext::default() };
    let calling = pool.call(attempt("forever", json!({})), context);
    let cancelling = async {
        wait_until(|| agent.lines("calls") == ["forever"]).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(calling, cancelling);
    assert_eq!(result.unwrap_err().kind, FailureKind::Cancelled);
    wait_until(|| agent.lines("calls") == ["forever", "cancelled"]).await;
    assert_eq!(call(&pool, "echo", json!({"text": "still here"})).await, Ok("still here".to_owned()));
    assert_eq!(agent.lines("streams").len(), 1);
    pool.close().await;
}

#[tokio::test]
async fn results_are_limited() {
    let agent = SseAgent::new("plain", "/sse");
    let pool = agent.pool(&answering_host());
    assert_eq!(call(&pool, "large", json!({})).await.map(|text| text.len()), Ok(20_000_000));
    assert_eq!(call(&pool, "huge", json!({})).await.unwrap_err().kind, FailureKind::ResultTooLarge);
    assert_eq!(call(&pool, "echo", json!({"text": "next"})).await, Ok("next".to_owned()));
    pool.close().await;
}

#[tokio::test]
async fn an_ended_stream_loses_the_call_and_is_replaced() {
    let agent = SseAgent::new("plain", "/sse");
    let pool = agent.pool(&answering_host());
    assert_eq!(call(&pool, "end-once", json!({})).await.unwrap_err().kind, FailureKind::ConnectionLost);
    assert_eq!(call(&pool, "end-once", json!({})).await, Ok("the stream is a new one".to_owned()));
    assert_eq!(agent.lines("streams").len(), 2);
    pool.close().await;
}

#[tokio::test]
async fn messages_are_not_sent_to_another_origin() {
    let agent = SseAgent::new("other-origin", "/sse");
    let failure = agent.pool(&answering_host()).connect(&"odd".into()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::AgentUnavailable);
    assert!(failure.message.contains("another origin"), "{failure}");
    assert_eq!(agent.lines("methods"), [] as [&str; 0]);
}

#[tokio::test]
async fn bearer_tokens_are_sent_with_every_request() {
    let mut agent = SseAgent::new("needs-token", "/sse");
    let failure = agent.pool(&answering_host()).connect(&"odd".into()).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Unauthorized, "{failure}");
    let Transport::Http { bearer_token, .. } = &mut agent.spec.transport else { unreachable!() };
    *bearer_token = Some("secret-token".to_owned());
    let pool = agent.pool(&answering_host());
    assert_eq!(call(&pool, "echo", json!({"text": "hi"})).await, Ok("hi".to_owned()));
    pool.close().await;
}
