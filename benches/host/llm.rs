//! The language model: an OpenAI-compatible endpoint that answers with the digest of the prompt after a delay, without
//! streaming.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

use crate::graph::Digest;
use crate::{BenchResult, agent};

/// The delay of an answer.
const LATENCY: Duration = Duration::from_millis(20);

#[derive(Default)]
struct RequestLoad {
    in_flight: AtomicUsize,
    max_in_flight: AtomicUsize,
}

/// Prints the base address and serves until standard input ends. Then prints the maximum of concurrent requests.
///
/// # Errors
/// Fails if no port is available or the address cannot be printed.
pub(crate) async fn serve() -> BenchResult<()> {
    let load = Arc::new(RequestLoad::default());
    let router = Router::new().route("/v1/chat/completions", post(chat)).with_state(load.clone());
    agent::serve_http(router, "/v1").await?;
    println!("{}", load.max_in_flight.load(Ordering::Relaxed));
    Ok(())
}

async fn chat(State(load): State<Arc<RequestLoad>>, body: String) -> Response {
    let Ok(request) = serde_json::from_str::<Value>(&body) else {
        return (StatusCode::BAD_REQUEST, "invalid JSON").into_response();
    };
    let now = load.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
    load.max_in_flight.fetch_max(now, Ordering::Relaxed);
    tokio::time::sleep(LATENCY).await;
    load.in_flight.fetch_sub(1, Ordering::Relaxed);
    let content = request["messages"].as_array().and_then(|messages| messages.last()).map(|last| &last["content"]);
    let asked = content.and_then(|content| content.as_str().or_else(|| content[0]["text"].as_str()));
    let answer = format!("A:{}", Digest::of(asked.unwrap_or_default()));
    let reply = json!({
        "id": "c", "object": "chat.completion", "created": 0, "model": request["model"],
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": answer }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
    });
    ([(header::CONTENT_TYPE, "application/json")], reply.to_string()).into_response()
}
