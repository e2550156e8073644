//! Language models: the findings of `kapell doctor`, and the destination of each key.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace};

/// Starts an endpoint that answers each request with `answer`: from its head and body to a status line and a body.
/// Returns its base URL and the heads of all requests.
pub(crate) fn start_endpoint(answer: fn(&str, &Value) -> (&'static str, Value)) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let sender = sender.clone();
            std::thread::spawn(move || {
                let Some((head, body)) = read_request(&stream) else { return };
                let (status, reply) = answer(&head, &body);
                let _ = sender.send(head);
                let reply = reply.to_string();
                let length = reply.len();
                let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
                let _ = stream.write_all(format!("{head}{reply}").as_bytes());
            });
        }
    });
    (address, heads)
}

fn read_request(stream: &TcpStream) -> Option<(String, Value)> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let start = head.len();
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if let Some(value) = head[start..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((head, serde_json::from_slice(&body).ok()?))
}

fn message_response(message: Value) -> (&'static str, Value) {
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    ("200 OK", json!({"model": "m-1", "choices": choices, "usage": {"prompt_tokens": 30, "completion_tokens": 10}}))
}

pub(crate) fn text_response(content: &str) -> (&'static str, Value) {
    message_response(json!({"role": "assistant", "content": content}))
}

/// Returns the number of words in the last message.
fn words(body: &Value) -> usize {
    let messages = body["messages"].as_array().into_iter().flatten();
    messages.last().and_then(|message| message["content"].as_str()).map_or(0, |text| text.split_whitespace().count())
}

/// Returns the response with this number of prompt tokens if the prompt is long, and `reply` unchanged otherwise.
fn having_read(tokens: usize, body: &Value, reply: (&'static str, Value)) -> (&'static str, Value) {
    let (status, mut reply) = reply;
    if words(body) > 1_000 {
        reply["usage"]["prompt_tokens"] = json!(tokens);
    }
    (status, reply)
}

/// Answers in every format and calls every tool.
pub(crate) fn capable_model(_: &str, body: &Value) -> (&'static str, Value) {
    let reply = match body.pointer("/tools/0/function/name") {
        Some(name) => message_response(
            json!({"tool_calls": [{"id": "1", "function": {"name": name, "arguments": {"ready": true}}}]}),
        ),
        None => text_response("{\"ready\": true, \"color\": \"green\"}"),
    };
    having_read(words(body) + 12, body, reply)
}

/// Truncates prompts to its context silently.
fn truncating_model(_: &str, body: &Value) -> (&'static str, Value) {
    having_read(4_096, body, text_response("{\"ready\": true, \"color\": \"green\"}"))
}

/// Rejects prompts that exceed its context.
fn small_model(_: &str, body: &Value) -> (&'static str, Value) {
    match words(body) {
        0..=2_000 => text_response("{\"ready\": true, \"color\": \"green\"}"),
        _ => {
            let message = "request (6100 tokens) exceeds the available context size (2048 tokens)";
            ("400 Bad Request", json!({"error": {"message": message, "type": "exceed_context_size_error"}}))
        }
    }
}

/// Answers in prose, whatever the requested format.
fn text_only_model(_: &str, _: &Value) -> (&'static str, Value) {
    let (status, mut body) = text_response("I am ready, and I like green.");
    body["usage"] = Value::Null;
    (status, body)
}

/// Requires another name for the output limit.
fn strict_model(_: &str, body: &Value) -> (&'static str, Value) {
    match body.get("max_tokens") {
        Some(_) => {
            let message = "Unsupported parameter: use 'max_completion_tokens' instead.";
            (
                "400 Bad Request",
                json!({"error": {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}}),
            )
        }
        None => having_read(6_100, body, text_response("```json\n{\"ready\": false, \"color\": \"red\"}\n```")),
    }
}

/// Returns the checks of the models in a report, each as its name, status, and message.
fn model_checks(ended: &CommandOutput) -> Vec<[String; 3]> {
    let report = ended.result();
    let checks = report["checks"].as_array().expect("a list").iter().filter(|check| check["section"] == "models");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    checks.map(|check| [&check["name"], &check["status"], &check["message"]].map(text)).collect()
}

#[test]
fn doctor_reports_checks_and_settings() {
    let place = Workspace::new();
    let [(good, _), (chat, _), (odd, _)] =
        [start_endpoint(capable_model), start_endpoint(text_only_model), start_endpoint(strict_model)];
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"{good}\"\nmodel = \"m\"\ntools = true\nprices = {{ input = 1, output = 2 }}\n\
             [models.chatty]\nbase_url = \"{chat}\"\nmodel = \"c\"\ntools = true\n\
             [models.picky]\nbase_url = \"{odd}\"\nmodel = \"p\"\n"
        ),
    );
    let ended = place.kapell(&["doctor", "--output", "json"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
    let lines: Vec<String> = model_checks(&ended).iter().map(|check| check.join(" | ")).collect();
    let report = lines.join("\n");
    let urls = [(&good, "GOOD"), (&chat, "CHATTY"), (&odd, "PICKY")];
    insta::assert_snapshot!("report", urls.iter().fold(report, |report, (url, name)| report.replace(*url, name)));

    // The suggested fix works.
    let fixed = format!(
        "[llm]\nbase_url = \"{odd}\"\nmodel = \"p\"\nmax_tokens_field = \"max_completion_tokens\"\n\
         structured_output = \"text\"\n"
    );
    place.write("fixed.toml", fixed);
    let ended = place.kapell(&["doctor", "--agents", "fixed.toml"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let models = ended.stdout.split("models\n").nth(1).and_then(|text| text.split("journal\n").next()).expect("models");
    insta::assert_snapshot!("checks", models.replace(&odd, "PICKY"));
}

#[test]
fn doctor_finds_contexts_that_are_too_small() {
    let place = Workspace::new();
    let [(truncating, _), (small, _)] = [start_endpoint(truncating_model), start_endpoint(small_model)];
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"{truncating}\"\nmodel = \"f\"\n[models.small]\nbase_url = \"{small}\"\nmodel = \"s\"\n"
        ),
    );
    let ended = place.kapell(&["doctor", "--output", "json"]);
    let checks = model_checks(&ended);
    let context = |name: &str| {
        let check = checks.iter().find(|[found, ..]| found == name).expect("a check");
        assert_eq!(check[1], "failed");
        check[2].clone()
    };
    let contexts = ["llm: context", "small: context"].map(context);
    assert_eq!(ended.code, Some(1));
    insta::assert_snapshot!(contexts.join("\n").replace(&small, "SMALL"));
}

#[test]
fn key_is_sent_only_to_its_endpoint() {
    let place = Workspace::new();
    let [(first, first_heads), (second, second_heads)] = [start_endpoint(capable_model), start_endpoint(capable_model)];
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"{first}\"\nmodel = \"m\"\napi_key_env_var = \"FIRST\"\nquery = {{ v = \"1\" }}\n\
             [models.other]\nbase_url = \"{second}?w=2\"\nmodel = \"m\"\nenv_http_headers = {{ x-key = \"SECOND\" }}\n"
        ),
    );
    let mut command = place.command(["doctor"]);
    command.env("FIRST", "first-canary").env("SECOND", "second-canary").env("OPENAI_API_KEY", "third-canary");
    let ended = CommandOutput::of(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (first, second) = (first_heads.recv().expect("a request"), second_heads.recv().expect("a request"));
    assert!(first.starts_with("POST /v1/chat/completions?v=1 "), "{first}");
    assert!(first.contains("authorization: Bearer first-canary"), "{first}");
    assert!(!first.contains("second-canary") && !first.contains("third-canary"), "{first}");
    assert!(second.starts_with("POST /v1/chat/completions?w=2 "), "{second}");
    assert!(second.contains("x-key: second-canary"), "{second}");
    assert!(!second.contains("authorization") && !second.contains("first-"), "{second}");
}
