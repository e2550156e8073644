//! Language models: what `kapell doctor` finds, where each key goes, and that none is ever shown.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::mpsc::{Receiver, channel},
};

use serde_json::{Value, json};

use crate::support::{Ended, Place};

/// An endpoint that answers each request, given its head and its body, as `answer` says: a status line and a body.
/// Gives its base URL and the heads of all requests.
fn endpoint(answer: fn(&str, &Value) -> (&'static str, Value)) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let sender = sender.clone();
            std::thread::spawn(move || {
                let Some((head, body)) = request(&stream) else { return };
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

fn request(stream: &TcpStream) -> Option<(String, Value)> {
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

fn message(message: Value) -> (&'static str, Value) {
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    ("200 OK", json!({"model": "m-1", "choices": choices, "usage": {"prompt_tokens": 30, "completion_tokens": 10}}))
}

fn text(content: &str) -> (&'static str, Value) {
    message(json!({"role": "assistant", "content": content}))
}

/// Keeps to every form and asks for every tool.
fn able(_: &str, body: &Value) -> (&'static str, Value) {
    match body.pointer("/tools/0/function/name") {
        Some(name) => {
            message(json!({"tool_calls": [{"id": "1", "function": {"name": name, "arguments": {"ready": true}}}]}))
        }
        None => text("{\"ready\": true, \"colour\": \"green\"}"),
    }
}

/// Talks, whatever it is asked for.
fn chatty(_: &str, _: &Value) -> (&'static str, Value) {
    let (status, mut body) = text("I am ready, and I like green.");
    body["usage"] = Value::Null;
    (status, body)
}

/// Insists on another name for the output limit.
fn picky(_: &str, body: &Value) -> (&'static str, Value) {
    match body.get("max_tokens") {
        Some(_) => {
            let said = "Unsupported parameter: use 'max_completion_tokens' instead.";
            (
                "400 Bad Request",
                json!({"error": {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}}),
            )
        }
        None => text("```json\n{\"ready\": false, \"colour\": \"red\"}\n```"),
    }
}

/// The checks of one model in a report, without its times.
fn checks(ended: &Ended) -> Vec<Value> {
    let mut report = ended.result();
    for model in report.as_array_mut().expect("a list") {
        assert!(model.as_object_mut().expect("an object").shift_remove("milliseconds").is_some_and(|n| n.is_u64()));
    }
    report.as_array().cloned().unwrap_or_default()
}

#[test]
fn the_doctor_says_what_works_and_which_key_to_set() {
    let place = Place::new();
    let [(good, _), (chat, _), (odd, _)] = [endpoint(able), endpoint(chatty), endpoint(picky)];
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"{good}\"\nmodel = \"m\"\ntools = true\nprices = {{ input = 1, output = 2 }}\n\
             [models.chatty]\nbase_url = \"{chat}\"\nmodel = \"c\"\ntools = true\n\
             [models.picky]\nbase_url = \"{odd}\"\nmodel = \"p\"\n"
        ),
    );
    let ended = place.kapell(&["doctor", "--output", "json"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(1), ""));
    let check =
        |name: &str, outcome: &str, message: &str| json!({"check": name, "outcome": outcome, "message": message});
    let undeclared = |section: &str| format!("not declared; if the model takes tools, set `tools = true` in {section}");
    let expected = [
        json!({"name": "llm", "model": "m", "base_url": good, "ok": true, "checks": [
            check("reply", "works", "from `m-1`"),
            check("structured output", "works", "the reply keeps to its schema"),
            check("usage", "works", "30 tokens in, 10 out, $0.000050"),
            check("tools", "works", "it asks for a tool when told to"),
        ]}),
        json!({"name": "chatty", "model": "c", "base_url": chat, "ok": false, "checks": [
            check("reply", "works", "from `m-1`"),
            check("structured output", "fails", "the reply does not keep to its schema (expected value at line 1 column 1); \
                set `structured_output = \"json_object\"` in [models.chatty]"),
            check("usage", "absent", "not told by this endpoint"),
            check("tools", "fails", "it did not ask for a tool that it had to ask for; set `tool_choice = \"auto\"` or \
                `tools = false` in [models.chatty]"),
        ]}),
        json!({"name": "picky", "model": "p", "base_url": odd, "ok": false, "checks": [
            check("reply", "fails", &format!("model `p` at `{odd}` answered 400 Bad Request: Unsupported parameter: use \
                'max_completion_tokens' instead.; set `max_tokens_field = \"max_completion_tokens\"` in [models.picky]")),
        ]}),
    ];
    assert_eq!(checks(&ended), expected);

    // What it says to do is what helps.
    let fixed = format!(
        "[llm]\nbase_url = \"{odd}\"\nmodel = \"p\"\nmax_tokens_field = \"max_completion_tokens\"\n\
         structured_output = \"text\"\n"
    );
    place.write("fixed.toml", fixed);
    let ended = place.kapell(&["doctor", "--agents", "fixed.toml"]);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let mut lines = ended.out.lines();
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with(&format!("llm  p at {odd}  ")) && first.ends_with(" ms"), "{first}");
    let rest = lines.collect::<Vec<_>>().join("\n");
    let tools = undeclared("[llm]");
    let expected = format!(
        "    reply             works  from `m-1`\n    \
         structured output works  the reply keeps to its schema\n    \
         usage             works  30 tokens in, 10 out\n    \
         tools             -      {tools}"
    );
    assert_eq!(rest, expected);
}

#[test]
fn without_a_model_the_doctor_says_what_to_configure() {
    let place = Place::new();
    place.write("agents.toml", "");
    let ended = place.kapell(&["doctor"]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""));
    assert!(ended.err.contains("no language model is configured") && ended.err.contains("[llm]"), "{}", ended.err);
}

#[test]
fn a_key_goes_only_to_the_endpoint_that_it_is_configured_for() {
    let place = Place::new();
    let [(first, first_heads), (second, second_heads)] = [endpoint(able), endpoint(able)];
    place.write(
        "agents.toml",
        format!(
            "[llm]\nbase_url = \"{first}\"\nmodel = \"m\"\napi_key_env_var = \"FIRST\"\nquery = {{ v = \"1\" }}\n\
             [models.other]\nbase_url = \"{second}?w=2\"\nmodel = \"m\"\nenv_http_headers = {{ x-key = \"SECOND\" }}\n"
        ),
    );
    let mut command = place.command(["doctor"]);
    command.env("FIRST", "first-canary").env("SECOND", "second-canary").env("OPENAI_API_KEY", "third-canary");
    let ended = Ended::of(command.output().expect("kapell starts"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (first, second) = (first_heads.recv().expect("a request"), second_heads.recv().expect("a request"));
    assert!(first.starts_with("POST /v1/chat/completions?v=1 "), "{first}");
    assert!(first.contains("authorization: Bearer first-canary"), "{first}");
    assert!(!first.contains("second-canary") && !first.contains("third-canary"), "{first}");
    assert!(second.starts_with("POST /v1/chat/completions?w=2 "), "{second}");
    assert!(second.contains("x-key: second-canary"), "{second}");
    assert!(!second.contains("authorization") && !second.contains("first-"), "{second}");
}

/// Refuses every request, and repeats in its error whatever secret came with it.
fn indiscreet(head: &str, _: &Value) -> (&'static str, Value) {
    ("401 Unauthorized", json!({"error": {"message": format!("I do not know {head}"), "code": 401}}))
}

/// Every file at or below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn no_secret_is_ever_shown_or_kept() {
    for answer in [indiscreet, able] {
        let place = Place::new();
        let (address, heads) = endpoint(answer);
        place.write(
            "agents.toml",
            format!(
                "[llm]\nbase_url = \"{address}?token=canary-in-the-address\"\nmodel = \"m\"\napi_key_env_var = \"KEY\"\n\
                 http_headers = {{ x-written = \"canary-written-out\" }}\nenv_http_headers = {{ x-named = \"HEADER\" }}\n\
                 query = {{ more = \"canary-in-the-query\" }}\ntools = true\n\
                 [agents.research]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\"]\n"
            ),
        );
        place.write(
            "broken.toml",
            "[llm]\nmodel = 5\nbase_url = \"http://x?token=canary-in-the-address\"\napi_key_env_var = \"KEY\"\n",
        );
        place.write(
            "plan.yaml",
            "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }]\n",
        );
        let commands: [&[&str]; 30] = [
            &["run", "plan.yaml", "--no-input"],
            &["run", "plan.yaml", "--no-input", "--output", "json"],
            &["run", "plan.yaml", "--no-input", "--output", "stream-json"],
            &["run", "plan.yaml", "--dry-run"],
            &["run", "Learn about Lisbon", "--no-input"],
            &["run", "Learn about Lisbon", "--no-input", "--output", "json"],
            &["run", "Learn about Lisbon", "--no-input", "--output", "stream-json"],
            &["plan", "Learn about Lisbon"],
            &["plan", "Learn about Lisbon", "--output", "trip.yaml"],
            &["validate", "plan.yaml"],
            &["validate", "plan.yaml", "--output", "json"],
            &["graph", "plan.yaml"],
            &["graph", "plan.yaml", "--format", "dot"],
            &["doctor"],
            &["doctor", "--output", "json"],
            &["doctor", "--agents", "broken.toml"],
            &["agents", "list"],
            &["agents", "list", "--output", "json"],
            &["agents", "test"],
            &["agents", "test", "--output", "json"],
            &["agents", "tools"],
            &["agents", "tools", "--output", "json"],
            &["runs", "list"],
            &["runs", "list", "--output", "json"],
            &["runs", "show", "last"],
            &["runs", "show", "last", "--output", "json"],
            &["logs", "last"],
            &["logs", "last", "--output", "json"],
            &["schema", "plan"],
            &["schema", "agents"],
        ];
        for arguments in commands {
            for log in ["off", "trace"] {
                let mut command = place.command(arguments);
                command.env("KEY", "canary-of-the-key").env("HEADER", "canary-of-the-header").env("KAPELL_LOG", log);
                let output = command.env("RUST_BACKTRACE", "1").output().expect("kapell starts");
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(!told.contains("Usage: "), "{arguments:?} is no command: {told}");
                for (stream, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
                    let text = String::from_utf8_lossy(bytes);
                    let line = text.lines().find(|line| line.contains("canary"));
                    assert_eq!(line, None, "{stream} of {arguments:?} with KAPELL_LOG={log}");
                }
            }
        }
        let asked = heads.try_iter().collect::<Vec<_>>();
        let carried = ["key", "header"].map(|name| format!("canary-of-the-{name}"));
        assert!(!asked.is_empty() && asked.iter().all(|head| carried.iter().all(|secret| head.contains(secret))));
        let mut kept = Vec::new();
        files(&place.path(""), &mut kept);
        let written = ["agents.toml", "broken.toml"].map(|name| place.path(name));
        let kept: Vec<_> = kept.into_iter().filter(|path| !written.contains(path)).collect();
        assert!(kept.iter().any(|path| path.ends_with("journal.db")), "{kept:?}");
        for path in kept {
            let bytes = std::fs::read(&path).expect("a file");
            assert!(!bytes.windows(6).any(|part| part == b"canary"), "{}", path.display());
        }
    }
}
