//! A scripted chat-completions endpoint.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// An endpoint that streams scripted replies. A reply `call NAME ARGUMENTS` is a tool call, and `cut TEXT` ends at the
/// output limit. A line before it that begins with `think ` is reasoning.
pub(crate) struct ScriptedEndpoint {
    address: String,
    requests: Receiver<Value>,
}

/// A reply of the endpoint, and its number of prompt tokens. Each reply has 3 completion tokens.
pub(crate) struct ScriptedReply {
    pub(crate) text: String,
    pub(crate) tokens: u64,
}

type Script = dyn Fn(&Value) -> ScriptedReply + Send + Sync;

/// A function that returns when the second half of a reply may be sent.
type Pause = dyn Fn() + Send + Sync;

impl ScriptedEndpoint {
    /// Starts an endpoint that returns its replies in order, and repeats the last one. Each has 12 prompt tokens.
    pub(crate) fn with_replies<'r>(replies: impl IntoIterator<Item = &'r str>) -> Self {
        Self::with_script(reply_sequence(replies))
    }

    /// Starts an endpoint that replies to each request with `script`, with any number of concurrent requests.
    pub(crate) fn with_script(script: impl Fn(&Value) -> ScriptedReply + Send + Sync + 'static) -> Self {
        Self::start(script, || ())
    }

    /// Starts such an endpoint with a pause in the middle of each reply.
    pub(crate) fn start(
        script: impl Fn(&Value) -> ScriptedReply + Send + Sync + 'static,
        pause: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let (sender, requests) = mpsc::channel();
        let (script, pause): (Arc<Script>, Arc<Pause>) = (Arc::new(script), Arc::new(pause));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, script, pause) = (sender.clone(), Arc::clone(&script), Arc::clone(&pause));
                std::thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    let _ = sender.send(request.clone());
                    send_reply(stream, &script(&request), &*pause);
                });
            }
        });
        Self { address, requests }
    }

    /// Returns the section of an agents file for this endpoint, with `tiny` as its model.
    pub(crate) fn config_section(&self) -> String {
        format!("[llm]\nbase_url = \"{}\"\nmodel = \"tiny\"\n", self.address)
    }

    /// Returns the next request that was received.
    pub(crate) fn next_request(&self) -> Value {
        self.requests.recv().expect("a request")
    }
}

/// Returns a script that returns the replies in order, and repeats the last one.
pub(crate) fn reply_sequence<'r>(
    replies: impl IntoIterator<Item = &'r str>,
) -> impl Fn(&Value) -> ScriptedReply + Send + Sync + 'static {
    let mut replies: Vec<String> = replies.into_iter().map(str::to_owned).collect();
    replies.reverse();
    let replies = Mutex::new(replies);
    move |_| {
        let mut replies = replies.lock().expect("no panic");
        let text = if replies.len() > 1 { replies.pop() } else { replies.last().cloned() };
        ScriptedReply { text: text.unwrap_or_default(), tokens: 12 }
    }
}

/// Returns the body of the request, or `None` if the connection is closed without one.
fn read_request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    Some(serde_json::from_slice(&body).expect("a request is JSON"))
}

fn send_reply(mut stream: TcpStream, ScriptedReply { text, tokens }: &ScriptedReply, pause: &Pause) {
    let thoughts = text.strip_prefix("think ").and_then(|rest| rest.split_once('\n'));
    let (thoughts, reply) = thoughts.unwrap_or(("", text));
    let is_cut = reply.starts_with("cut ");
    let reply = reply.strip_prefix("cut ").unwrap_or(reply);
    let middle = (0..=reply.len() / 2).rev().find(|at| reply.is_char_boundary(*at)).unwrap_or(0);
    let (first, second) = reply.split_at(middle);
    let called = reply.strip_prefix("call ").and_then(|call| call.split_once(' '));
    let [first, mut second] =
        called.map_or_else(|| text_deltas(first, second), |(name, arguments)| tool_call_deltas(name, arguments));
    if is_cut {
        second["choices"][0]["finish_reason"] = "length".into();
    }
    let usage = json!({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 3}});
    let thought = json!({"choices": [{"index": 0, "delta": {"reasoning_content": thoughts}}]});
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(format!("{head}data: {thought}\n\ndata: {first}\n\n").as_bytes());
    pause();
    let _ = stream.write_all(format!("data: {second}\n\ndata: {usage}\n\ndata: [DONE]\n\n").as_bytes());
}

fn text_deltas(first: &str, second: &str) -> [Value; 2] {
    [
        json!({"model": "tiny-7b", "choices": [{"index": 0, "delta": {"role": "assistant", "content": first}}]}),
        json!({"choices": [{"index": 0, "delta": {"content": second}, "finish_reason": "stop"}]}),
    ]
}

fn tool_call_deltas(name: &str, arguments: &str) -> [Value; 2] {
    let call =
        json!({"index": 0, "id": "call-1", "type": "function", "function": {"name": name, "arguments": arguments}});
    [
        json!({"model": "tiny-7b", "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]
}
