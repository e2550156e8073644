mod retries;
mod tools;
mod variants;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use async_openai::error::OpenAIError;

use super::*;
use crate::llm::samples::spec;
use crate::model::{ChatMessage, ChatPart, ChatRole, Dialect, MaxTokensField, ModelPreferences, Usage};

fn question() -> ChatRequest {
    ChatRequest {
        system: Some("Be brief.".to_owned()),
        messages: vec![ChatMessage::text(ChatRole::User, "Hello").into()],
        max_tokens: 100,
        temperature: Some(0.7),
        stop: vec!["END".to_owned(), String::new()],
        preferences: ModelPreferences { hints: vec!["huge".to_owned()], ..ModelPreferences::default() },
        ..ChatRequest::default()
    }
}

/// A server that answers successive requests with the given bytes and reports the requests that it received.
struct TestServer {
    base_url: String,
    requests: tokio::sync::mpsc::Receiver<String>,
}

impl TestServer {
    async fn start(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let (sender, requests) = tokio::sync::mpsc::channel(16);
        tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                sender.send(read_request(&mut socket).await).await.expect("a listener");
                socket.write_all(answer.as_bytes()).await.expect("a client that reads");
            }
        });
        Self { base_url, requests }
    }

    fn model(&self) -> OpenAi {
        OpenAi::new(spec(&self.base_url)).expect("a client")
    }
}

/// Returns the head and the body of one request.
async fn read_request(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut part = [0; 4096];
        let read = socket.read(&mut part).await.expect("a request");
        text.push_str(std::str::from_utf8(&part[..read]).expect("text"));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
    }
}

fn response(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn reply(text: &str, model: &str, stop_reason: &str, usage: Option<(u64, u64)>) -> ChatReply {
    ChatReply {
        parts: vec![ChatPart::Text { text: text.to_owned() }],
        cost_usd: None,
        warning: None,
        model: model.to_owned(),
        stop_reason: stop_reason.to_owned(),
        usage: usage.map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens }),
    }
}

/// Returns a model whose endpoint answers every request with exactly these chunks.
fn model_replying(parts: Vec<Bytes>) -> OpenAi {
    model_with_spec(spec("http://endpoint.test"), parts)
}

fn model_with_spec(spec: LlmSpec, parts: Vec<Bytes>) -> OpenAi {
    let endpoint = LlmEndpoint::new(&spec).expect("an endpoint");
    let service = tower::service_fn(move |_request| {
        let parts = futures::stream::iter(parts.clone().into_iter().map(Ok::<_, std::io::Error>));
        let response = http::Response::new(reqwest::Body::wrap_stream(parts)).into();
        async { transport::into_event_stream(response).await.map_err(|refusal| OpenAIError::Boxed(Box::new(refusal))) }
    });
    let client = Client::build(reqwest::Client::new(), endpoint.clone()).with_http_service(service);
    OpenAi { spec, endpoint, client, rate_limiter: Arc::default(), has_warned: AtomicBool::default() }
}

/// Returns the message and the status of a failure, and whether the failure is transient.
fn failure_parts(result: Result<ChatReply, ChatError>) -> (String, Option<u16>, bool) {
    match result {
        Err(ChatError::Endpoint { message, status }) => (message, status, false),
        Err(ChatError::Unavailable { message, status, .. }) => (message, status, true),
        other => panic!("an endpoint's failure, not {other:?}"),
    }
}

async fn chat_with_body(body: &str) -> Result<ChatReply, ChatError> {
    model_replying(vec![Bytes::copy_from_slice(body.as_bytes())]).chat(&question()).await
}

#[tokio::test]
async fn sends_the_request_with_its_key() {
    let answer =
        response("200 OK", "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n");
    let mut server = TestServer::start(vec![answer]).await;
    let result = server.model().chat(&question()).await;
    assert_eq!(result, Ok(reply("Hi", "small", "endTurn", None)));

    let request = server.requests.recv().await.expect("a request");
    let (head, body) = request.split_once("\r\n\r\n").expect("a body");
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1"), "{head}");
    assert!(head.contains("authorization: Bearer sk-long-enough"), "{head}");
    assert_eq!(
        body,
        json!({
            "model": "small",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            "stream": true,
            "stream_options": {"include_usage": true},
            "max_tokens": 100,
            "temperature": 0.7,
            "stop": ["END"],
        })
        .to_string()
    );
}

#[tokio::test]
async fn omits_a_missing_key_and_uses_the_max_tokens_field() {
    let answer = response("200 OK", r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"length"}]}"#);
    let mut server = TestServer::start(vec![answer]).await;
    let dialect = Dialect { max_tokens_field: MaxTokensField::MaxCompletionTokens, ..Dialect::default() };
    let spec = LlmSpec { api_key: None, dialect, ..spec(&server.base_url) };
    let result = OpenAi::new(spec).expect("a client").chat(&question()).await;
    assert_eq!(result, Ok(reply("Hi", "small", "maxTokens", None)));
    let request = server.requests.recv().await.expect("a request");
    assert!(!request.contains("authorization") && request.contains(r#""max_completion_tokens":100"#), "{request}");
}

#[tokio::test]
async fn reads_all_reply_forms() {
    let usage = Some((3, 2));
    for (body, expected) in [
        // Comments, a separate role chunk, usage in a chunk without choices, and an end marker.
        (
            ": PROCESSING\n\ndata: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1.5,\"model\":\"small-2\",\
             \"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Grüß \"}}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Gott\"},\"finish_reason\":null}]}\n\n\
             data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
             data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n",
            reply("Grüß Gott", "small-2", "endTurn", usage),
        ),
        // No index, content parts, no end marker, CRLF line breaks, and an event name.
        (
            "event: message\r\ndata: {\"choices\":[{\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"Hi\"}]},\
             \"finish_reason\":\"length\"}]}\r\n\r\n",
            reply("Hi", "small", "maxTokens", None),
        ),
        // A stop sequence that was requested, and a token number that is not a stop sequence.
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\",\"stop_reason\":\"END\"}]}\n\n",
            reply("Hi", "small", "stopSequence", None),
        ),
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\",\"stop_reason\":2}]}\n\n",
            reply("Hi", "small", "endTurn", None),
        ),
        // A finish reason that is specific to the provider.
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"H\"},\"finish_reason\":\"content_filter\"}]}\n\n",
            reply("H", "small", "content_filter", None),
        ),
        // A refusal, and a second choice that was not requested.
        (
            "data: {\"choices\":[{\"delta\":{\"content\":null,\"refusal\":\"I can't\"}},{\"index\":1,\"delta\":\
             {\"content\":\"Sure\"}}]}\n\ndata: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
            reply("I can't", "small", "refusal", None),
        ),
        // Plain JSON over several lines.
        (
            "\n{\n  \"model\": \"small-3\",\r\n  \"choices\": [{\"message\": {\"content\": \"a\\nb\"}, \
             \"finish_reason\": \"stop\"}],\n  \"usage\": {\"prompt_tokens\": 3.0, \"completion_tokens\": 2}\n}\n",
            reply("a\nb", "small-3", "endTurn", usage),
        ),
        ("{\"choices\":[{\"message\":{\"content\":\"\"}}]}", reply("", "small", "unknown", None)),
    ] {
        assert_eq!(chat_with_body(body).await, Ok(expected), "{body}");
    }
}

#[tokio::test]
async fn reply_does_not_depend_on_chunk_boundaries() {
    let body = "data: {\"choices\":[{\"delta\":{\"content\":\"Grüße, 世界 🦀\"}}]}\r\n\r\n: still here\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"é\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let body = Bytes::from_static(body.as_bytes());
    let expected = Ok(reply("Grüße, 世界 🦀é", "small", "endTurn", None));
    for at in 0..=body.len() {
        assert_eq!(
            model_replying(vec![body.slice(..at), body.slice(at..)]).chat(&question()).await,
            expected,
            "cut at {at}"
        );
    }
    let bytes = (0..body.len()).map(|at| body.slice(at..=at)).collect();
    assert_eq!(model_replying(bytes).chat(&question()).await, expected);

    let plain = Bytes::from_static(
        "{\"choices\":\n[{\"message\":{\"content\":\"世界\"},\"finish_reason\":\"stop\"}]}".as_bytes(),
    );
    let bytes = (0..plain.len()).map(|at| plain.slice(at..=at)).collect();
    assert_eq!(model_replying(bytes).chat(&question()).await, Ok(reply("世界", "small", "endTurn", None)));
}

#[tokio::test(start_paused = true)]
async fn invalid_responses_are_described() {
    let mut report = String::new();
    for (body, status, is_transient) in [
        ("", None, true),
        ("data: [DONE]\n\n", None, true),
        ("data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\n", None, true),
        (
            "data: {\"choices\":[{\"delta\":{\"content\":\"half\"}}]}\n\ndata: {\"error\":{\"message\":\"gone\",\"code\":502}}\n\n",
            Some(502),
            true,
        ),
        ("{\"error\":{\"message\":\"no credit\",\"code\":402}}", Some(402), false),
        ("[{\"error\":{\"message\":\"odd\"}}]", None, true),
        ("data: {\"error\":\"overloaded\"}\n\n", None, true),
        ("data: <oops>\n\n", None, true),
        ("{\"choices\":[", None, true),
        ("<!doctype html><title>Sign in</title>", Some(200), false),
    ] {
        let (message, found_status, found_transient) = failure_parts(chat_with_body(body).await);
        assert_eq!((found_status, found_transient), (status, is_transient), "{body}");
        report += &format!("{}\n", message.replace("http://endpoint.test", "URL"));
    }
    insta::assert_snapshot!(report);
}

#[tokio::test(start_paused = true)]
async fn invalid_utf8_is_an_error() {
    let result = model_replying(vec![Bytes::from_static(b"data: \xff\xfe\n\n")]).chat(&question()).await;
    let (_, status, is_transient) = failure_parts(result);
    assert_eq!((status, is_transient), (None, true));
}

#[tokio::test]
async fn errors_keep_their_status_and_have_help() {
    let mut report = String::new();
    for (head, body, status) in [
        ("401 Unauthorized", r#"{"error":{"message":"Incorrect key sk-long-enough","code":"invalid_api_key"}}"#, 401),
        ("404 Not Found", r#"{"error":{"message":"no model","code":404}}"#, 404),
        ("400 Bad Request", r#"{"error":{"message":"use 'max_completion_tokens' instead"}}"#, 400),
        (
            "429 Too Many Requests",
            r#"{"error":{"message":"pay first","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            429,
        ),
        ("400 Bad Request", r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#, 400),
        ("503 Service Unavailable\r\nretry-after: 3600", "<html><title>Back soon</title></html>", 503),
        ("418 Odd", "", 418),
    ] {
        let server = TestServer::start(vec![response(head, body)]).await;
        let (message, found_status, is_transient) = failure_parts(server.model().chat(&question()).await);
        assert_eq!((found_status, is_transient), (Some(status), status == 503), "{head}");
        report += &format!("{}\n", message.replace(&server.base_url, "URL"));
    }
    insta::assert_snapshot!(report);
}

#[tokio::test]
async fn retries_when_the_endpoint_is_busy() {
    let good = response("200 OK", r#"{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]}"#);
    for head in ["408 Request Timeout", "409 Conflict", "429 Too Many Requests", "500 Oh", "529 Overloaded"] {
        let busy = response(&format!("{head}\r\nretry-after-ms: 1"), "<html>");
        let server = TestServer::start(vec![busy.clone(), busy, good.clone()]).await;
        assert_eq!(server.model().chat(&question()).await, Ok(reply("Hi", "small", "endTurn", None)), "{head}");
    }
}

/// Returns the pieces of a reply that are passed on, and its result.
async fn streamed_reply(model: OpenAi) -> (Vec<String>, Result<ChatReply, ChatError>) {
    let pieces = std::sync::Mutex::<Vec<String>>::default();
    let result = model.chat_stream(&question(), &|piece| pieces.lock().expect("no panic").push(piece.to_owned())).await;
    (pieces.into_inner().expect("no panic"), result)
}

#[tokio::test]
async fn reasoning_tags_are_removed() {
    let chunk = |text: &str| format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}));
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    for (deltas, streamed) in [
        (&["<thi", "nk>\nHm.</th", "ink>\n", "\nHel", "lo"][..], &["Hel", "lo"][..]),
        (&["Hm.\n</think>\n", "Hello"], &["Hm.\n</think>\n", "Hello"]),
    ] {
        let body = deltas.iter().map(|delta| chunk(delta)).collect::<String>() + end;
        let (pieces, result) = streamed_reply(model_replying(vec![Bytes::from(body)])).await;
        assert_eq!(
            (pieces, result),
            (streamed.iter().map(ToString::to_string).collect(), Ok(reply("Hello", "small", "endTurn", None)))
        );
    }
}

#[tokio::test]
async fn streams_only_text() {
    let chunk = |choice: serde_json::Value| format!("data: {}\n\n", json!({"choices": [choice]}));
    let body = [
        chunk(json!({"delta": {"role": "assistant", "content": "", "reasoning_content": "Hm."}})),
        chunk(json!({"delta": {"content": "He"}})),
        chunk(json!({"index": 1, "delta": {"content": "another"}})),
        chunk(json!({"delta": {"content": [{"type": "text", "text": "llo"}]}})),
        chunk(json!({"delta": {}, "finish_reason": "stop"})),
    ];
    let (pieces, result) = streamed_reply(model_replying(vec![Bytes::from(body.concat())])).await;
    assert_eq!(
        (pieces, result),
        (vec!["He".to_owned(), "llo".to_owned()], Ok(reply("Hello", "small", "endTurn", None)))
    );
    let body = json!({"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}).to_string();
    assert_eq!(streamed_reply(model_replying(vec![Bytes::from(body)])).await.0, ["Hello"]);
}

#[tokio::test]
async fn retries_only_before_the_first_delta() {
    let busy = response("503 Busy\r\nretry-after-ms: 1", "");
    let before = response("200 OK", "data: {\"error\":{\"message\":\"busy\",\"code\":503}}\n\n");
    let good =
        response("200 OK", "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"},\"finish_reason\":\"stop\"}]}\n\n");
    let server = TestServer::start(vec![busy, before, good.clone()]).await;
    assert_eq!(
        streamed_reply(server.model()).await,
        (vec!["Hi".to_owned()], Ok(reply("Hi", "small", "endTurn", None)))
    );

    let half = "data: {\"choices\":[{\"delta\":{\"content\":\"Hal\"}}]}\n\n";
    let after = response("200 OK", &format!("{half}data: {{\"error\":{{\"message\":\"busy\",\"code\":503}}}}\n\n"));
    let server = TestServer::start(vec![after, good]).await;
    let message = format!("model `small` at `{}` answered 503 Service Unavailable: busy", server.base_url);
    let (pieces, result) = streamed_reply(server.model()).await;
    assert_eq!((pieces, failure_parts(result)), (vec!["Hal".to_owned()], (message, Some(503), true)));
}

#[tokio::test]
async fn truncated_prompt_is_reported_once() {
    let question = |word_count: usize| ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, "word ".repeat(word_count)).into()],
        max_tokens: 10,
        ..ChatRequest::default()
    };
    let model = |usage: serde_json::Value| {
        let choices = json!([{"message": {"content": "Hi"}, "finish_reason": "stop"}]);
        model_replying(vec![Bytes::from(json!({"choices": choices, "usage": usage}).to_string())])
    };
    let used = |tokens: u64| json!({"prompt_tokens": tokens, "completion_tokens": 1});
    let cached =
        json!({"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4_990}});
    for (word_count, usage) in
        [(5_000, used(2_500)), (1_999, used(100)), (5_000, used(0)), (5_000, json!(null)), (5_000, cached)]
    {
        let result = model(usage.clone()).chat(&question(word_count)).await;
        assert_eq!(result.map(|reply| reply.warning), Ok(None), "{word_count} words, {usage}");
    }
    let model = model(used(2_048));
    let warning = model.chat(&question(5_000)).await.expect("a reply").warning.expect("a warning");
    insta::assert_snapshot!(warning);
    assert_eq!(model.chat(&question(5_000)).await.map(|reply| reply.warning), Ok(None), "the warning is given once");
}

#[tokio::test]
async fn redirects_are_rejected() {
    let mut target = TestServer::start(vec![response("200 OK", "{}")]).await;
    let moved = response(&format!("307 Temporary Redirect\r\nlocation: {}", target.base_url), "");
    let server = TestServer::start(vec![moved]).await;
    let message = format!(
        "model `small` at `{}` answered 307 with a redirect to `{}`, which is not followed; \
         correct `base_url` in [llm]",
        server.base_url, target.base_url
    );
    let result = server.model().chat(&question()).await;
    assert_eq!(result, Err(ChatError::Endpoint { message, status: Some(307) }));
    assert!(target.requests.try_recv().is_err());
}

#[tokio::test]
async fn connection_errors_differ_from_error_responses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    drop(listener);
    let spec = spec(&base_url);
    let request = ChatRequest { single_try: true, ..question() };
    let (message, status, is_transient) = failure_parts(OpenAi::new(spec).expect("a client").chat(&request).await);
    assert_eq!((status, is_transient), (None, true));
    assert!(message.contains(&base_url), "{message}");
}

#[tokio::test]
async fn dropping_a_request_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let base_url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        read_request(&mut socket).await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
        socket.write_all(format!("{head}{chunk}").as_bytes()).await.expect("a client");
        began.send(()).expect("a test");
        socket.read(&mut [0; 16]).await.unwrap_or(0)
    });
    let model = OpenAi::new(spec(&base_url)).expect("a client");
    let chatting = tokio::spawn(async move { model.chat(&question()).await });
    has_begun.await.expect("a beginning");
    chatting.abort();
    assert_eq!(server.await.expect("a server"), 0);
}

#[tokio::test]
async fn too_many_stop_sequences_are_rejected() {
    let stop = (0..5).map(|n| format!("stop {n}")).collect();
    let result = model_replying(Vec::new()).chat(&ChatRequest { stop, ..question() }).await;
    assert!(matches!(result, Err(ChatError::Unsupported { .. })), "{result:?}");
}
