//! The streamed text of a synthesis: as JSON lines, on a terminal, and not at all elsewhere.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use serde_json::{Value, json};

use crate::support::scripted_endpoint::{ScriptedEndpoint, reply_sequence};
use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "name: x\nresult: synthesize\ntasks:\n\
    \x20 - { id: a, agent: odd-good, tool: echo, with: { text: it is green } }\n\
    \x20 - { id: b, agent: odd-good, tool: echo, with: { text: it is new } }\n";

/// Starts an endpoint that sends the second half of each reply only when the sender is used or dropped.
fn pausing_endpoint<'r>(replies: impl IntoIterator<Item = &'r str>) -> (ScriptedEndpoint, Sender<()>) {
    let (go_on, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let pause = move || {
        let _ = gate.lock().expect("no panic").recv();
    };
    (ScriptedEndpoint::start(reply_sequence(replies), pause), go_on)
}

fn workspace(endpoint: &ScriptedEndpoint) -> Workspace {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}{agents}", endpoint.config_section()));
    place.write("plan.yaml", PLAN);
    place
}

#[test]
fn stream_json_contains_deltas_and_the_journal_does_not() {
    let (endpoint, go_on) = pausing_endpoint(["It is green, surely.", "It is green [a]."]);
    let place = workspace(&endpoint);
    let mut child = place.start(&["run", "plan.yaml", "--no-input", "--output", "stream-json", "--journal", "j.db"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut events = Vec::new();
    let mut read_until = |kind: &str, events: &mut Vec<Value>| {
        for line in lines.by_ref() {
            let line = line.expect("a line");
            let event: Value = serde_json::from_str(&line).expect(&line);
            let is_last = event["type"] == kind;
            events.push(event);
            if is_last {
                return;
            }
        }
        panic!("no {kind} in {events:?}");
    };
    // Each half is read before the endpoint sends the next.
    for _ in 0..2 {
        read_until("answer_delta", &mut events);
        go_on.send(()).expect("a reply that waits");
        read_until("answer_delta", &mut events);
    }
    read_until("result", &mut events);
    assert!(child.wait().expect("ends").success());

    let of_answer = |event: &&Value| event["type"] == "answer_delta" || event["attempt"]["task"] == "answer";
    let lines: Vec<Value> = events
        .iter()
        .filter(of_answer)
        .map(|event| json!([event["type"], event["attempt"]["number"], event["text"], event["repair"]]))
        .collect();
    assert_eq!(
        lines,
        [
            json!(["model_requested", 1, null, null]),
            json!(["answer_delta", 1, "It is gree", null]),
            json!(["answer_delta", 1, "n, surely.", null]),
            json!(["model_replied", 1, null, null]),
            json!(["model_requested", 2, null, true]),
            json!(["answer_delta", 2, "It is gr", null]),
            json!(["answer_delta", 2, "een [a].", null]),
            json!(["model_replied", 2, null, null]),
        ],
        "{events:?}"
    );
    let delta = events.iter().find(|event| event["type"] == "answer_delta").expect("there are four");
    let expected = json!({"type": "answer_delta", "attempt": {"task": "answer", "number": 1}, "text": "It is gree"});
    assert_eq!(*delta, expected);
    let journal = place.kapell(&["logs", "last", "--journal", "j.db", "--output", "json"]);
    let events: Vec<_> = events.iter().filter(|event| event["type"] != "answer_delta").map(Value::to_string).collect();
    assert_eq!(journal.stdout.lines().collect::<Vec<_>>(), events[..events.len() - 1]);
}

#[test]
fn without_a_terminal_only_the_final_answer_is_printed() {
    let endpoint = ScriptedEndpoint::with_replies(["It is green, surely.", "It is green [a]."]);
    let ended = workspace(&endpoint).kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "It is green [a].\n"), "{ended:?}");
    let endpoint = ScriptedEndpoint::with_replies(["It is green, surely."]);
    let ended = workspace(&endpoint).kapell(&["run", "plan.yaml", "--no-input"]);
    let expected = "It is green, surely.\n\n\n(Not verified: it cites no task.)\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected), "{ended:?}");
}

/// Starts kapell on a separate terminal, with a pipe for the output of that terminal.
fn start_on_terminal(place: &Workspace, term: &str) -> Child {
    const SPAWN: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let kapell = place.command(["run", "plan.yaml", "--no-input"]);
    let mut command = Command::new("python3");
    command.args(["-c", SPAWN]).arg(kapell.get_program()).args(kapell.get_args());
    command.current_dir(kapell.get_current_dir().expect("set"));
    command.envs(kapell.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("TERM", term);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("python3 starts")
}

/// Reads until the output ends with `ending`.
fn read_until(output: &mut impl Read, ending: &str) -> String {
    let mut read = Vec::new();
    let mut part = [0];
    while !String::from_utf8_lossy(&read).ends_with(ending) {
        assert_eq!(output.read(&mut part).expect("readable"), 1, "no {ending:?} in {read:?}");
        read.push(part[0]);
    }
    String::from_utf8(read).expect("UTF-8")
}

/// Returns the rest of the terminal output, with line breaks as they were written.
fn read_to_end(child: Child, output: impl Read) -> String {
    let mut all = Vec::new();
    BufReader::new(output).read_to_end(&mut all).expect("readable");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("ends"));
    assert_eq!(ended.code, Some(0));
    String::from_utf8(all).expect("UTF-8").replace("\r\n", "\n")
}

#[test]
fn terminal_streams_the_answer_and_reports_withdrawal() {
    for term in ["xterm", "dumb"] {
        let (endpoint, go_on) = pausing_endpoint(["It is\u{1b}[31m red.", "It is green [a]."]);
        let place = workspace(&endpoint);
        let mut child = start_on_terminal(&place, term);
        let mut output = child.stdout.take().expect("piped");
        // Each half arrives before the endpoint sends the next, with its escape sequence made harmless.
        read_until(&mut output, "\r\nIt is\\u{1b}[");
        go_on.send(()).expect("a reply that waits");
        let first = read_until(&mut output, "(the answer is rewritten: it cites no task)\r\n");
        assert_eq!(first, "31m red.\r\n\r\n(the answer is rewritten: it cites no task)\r\n", "{term}");
        read_until(&mut output, "\r\nIt is gr");
        go_on.send(()).expect("a reply that waits");
        let last = read_to_end(child, output);
        let (answer, messages) = last.split_once("\n\n").expect("messages");
        assert_eq!(answer, "een [a].", "{term}");
        assert!(messages.contains("2 succeeded") && !messages.contains("green"), "{term}: {messages}");
    }
}

#[test]
fn terminal_shows_citation_mismatches() {
    let endpoint = ScriptedEndpoint::with_replies(["It is green."]);
    let place = workspace(&endpoint);
    let mut child = start_on_terminal(&place, "dumb");
    let mut output = child.stdout.take().expect("piped");
    read_until(&mut output, "(the answer is rewritten: it cites no task)\r\n");
    read_until(&mut output, "\r\nIt is green.\r\n\r\n\r\n(Not verified: it cites no task.)\r\n\r\n");
    let messages = read_to_end(child, output);
    assert!(!messages.contains("green") && !messages.contains("verified"), "{messages}");
}
