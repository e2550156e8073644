//! A scripted chat-completions endpoint.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, Sender},
    },
};

use serde_json::{Value, json};

/// An endpoint that streams its replies. A reply of the form `call NAME ARGUMENTS` asks for a tool instead of saying
/// that.
pub(crate) struct Endpoint {
    address: String,
    requests: Receiver<Value>,
}

/// What an endpoint replies, and the tokens that this takes in; it takes 3 out.
pub(crate) struct Reply {
    pub(crate) text: String,
    pub(crate) tokens: u64,
}

type Script = dyn Fn(&Value) -> Reply + Send + Sync;

impl Endpoint {
    /// One that gives its replies in turn, and the last one for ever. Each takes 12 tokens in.
    pub(crate) fn answering<'r>(replies: impl IntoIterator<Item = &'r str>) -> Self {
        let mut replies: Vec<String> = replies.into_iter().map(str::to_owned).collect();
        replies.reverse();
        let replies = Mutex::new(replies);
        Self::replying(move |_| {
            let mut replies = replies.lock().expect("no panic");
            let text = if replies.len() > 1 { replies.pop() } else { replies.last().cloned() };
            Reply { text: text.unwrap_or_default(), tokens: 12 }
        })
    }

    /// One that replies to each request as `script` says, to any number of them at once.
    pub(crate) fn replying(script: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/v1", listener.local_addr().expect("bound"));
        let (sender, requests) = mpsc::channel();
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (sender, script) = (sender.clone(), Arc::clone(&script));
                std::thread::spawn(move || answer(stream, &sender, &*script));
            }
        });
        Self { address, requests }
    }

    /// The section of an agents file that names it, and `tiny` as its model.
    pub(crate) fn section(&self) -> String {
        format!("[llm]\nbase_url = \"{}\"\nmodel = \"tiny\"\n", self.address)
    }

    /// The next request that it was sent.
    pub(crate) fn request(&self) -> Value {
        self.requests.recv().expect("a request")
    }
}

fn answer(mut stream: TcpStream, sender: &Sender<Value>, script: &Script) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
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
    let request: Value = serde_json::from_slice(&body).expect("a request is JSON");
    let _ = sender.send(request.clone());
    let Reply { text: reply, tokens } = script(&request);
    let middle = (0..=reply.len() / 2).rev().find(|at| reply.is_char_boundary(*at)).unwrap_or(0);
    let (first, second) = reply.split_at(middle);
    let called = reply.strip_prefix("call ").and_then(|call| call.split_once(' '));
    let said = called.map_or_else(|| said(first, second), |(name, arguments)| asked_for(name, arguments));
    let usage = json!({"choices": [], "usage": {"prompt_tokens": tokens, "completion_tokens": 3}});
    let text: String = said.iter().chain([&usage]).map(|chunk| format!("data: {chunk}\n\n")).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let _ = stream.write_all(format!("{head}{text}data: [DONE]\n\n").as_bytes());
}

fn said(first: &str, second: &str) -> [Value; 2] {
    [
        json!({"model": "tiny-7b", "choices": [{"index": 0, "delta": {"role": "assistant", "content": first}}]}),
        json!({"choices": [{"index": 0, "delta": {"content": second}, "finish_reason": "stop"}]}),
    ]
}

fn asked_for(name: &str, arguments: &str) -> [Value; 2] {
    let call =
        json!({"index": 0, "id": "call-1", "type": "function", "function": {"name": name, "arguments": arguments}});
    [
        json!({"model": "tiny-7b", "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]}),
        json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
    ]
}
