//! What servers of others request from a client, and what they get from it: roots, log levels, pages to open,
//! subscriptions, changes of lists, progress, cancellation, instructions, and trace contexts.

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::support::workspace::{CommandOutput, Workspace, wait_for, wait_for_status};
use crate::{NPM_STAMP, PYTHON_1_STAMP, PYTHON_STAMP, root, trial_with_requirements};

const EVERYTHING: &str = ".interop/npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
const SCRIPT: &str = "tests/interop/servers/protocol.py";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const JOURNAL: [&str; 2] = ["--journal", "j.db"];

/// A transport to a server that kapell starts.
#[derive(Debug, Clone, Copy)]
enum TransportKind {
    Stdio,
    Http,
    HttpSse,
}

impl TransportKind {
    /// Returns the end of the names of its tests.
    fn suffix(self) -> &'static str {
        match self {
            Self::Stdio => "over_stdio",
            Self::Http => "over_http",
            Self::HttpSse => "over_http_sse",
        }
    }
}

/// Returns the trials, by feature, server, and transport.
pub(crate) fn trials() -> Vec<Trial> {
    type Case = fn(TransportKind) -> Result<(), Failed>;
    let of_everything: [(&str, Case); 4] = [
        ("roots_and_log_level_of_everything", roots_and_log_level),
        ("pages_to_open_of_everything", pages_to_open),
        ("subscription_of_everything", subscription_of_everything),
        ("instructions_of_everything", instructions_of_everything),
    ];
    let mut trials = Vec::new();
    for transport in [TransportKind::Stdio, TransportKind::Http, TransportKind::HttpSse] {
        let cases = of_everything.into_iter();
        trials.extend(cases.map(|(name, case)| trial(name, NPM_STAMP, transport, move || case(transport))));
    }
    for transport in [TransportKind::Stdio, TransportKind::Http] {
        for (generation, environment, stamp) in [(1, "python-1", PYTHON_1_STAMP), (2, "python", PYTHON_STAMP)] {
            let name = |feature: &str| format!("{feature}_of_python_mcp_{generation}");
            trials.push(trial(&name("calls"), stamp, transport, move || calls_of_python(environment, transport)));
            let asked = move || question_of_python(environment, transport);
            trials.push(trial(&name("question"), stamp, transport, asked));
            let cancelled = move || cancelled_call_of_python(environment, transport);
            trials.push(trial(&name("cancelled_call"), stamp, transport, cancelled));
            if let TransportKind::Http = transport {
                trials.push(trial(&name("token"), stamp, transport, move || token_of_python(environment)));
            }
        }
        let completed = move || completed_page_of_python(transport);
        trials.push(trial("completed_page_of_python_mcp_1", PYTHON_1_STAMP, transport, completed));
        let subscription = move || subscription_of_python(transport);
        trials.push(trial("subscription_of_python_mcp_2", PYTHON_STAMP, transport, subscription));
    }
    trials
}

fn trial(
    name: &str,
    requirement: &str,
    transport: TransportKind,
    test: impl FnOnce() -> Result<(), Failed> + Send + 'static,
) -> Trial {
    trial_with_requirements(&format!("{name}_{}", transport.suffix()), &[requirement], test)
}

/// Returns a workspace with npm server-everything as the agent `everything`.
fn everything(transport: TransportKind, keys: &str) -> Workspace {
    let script = root().join(EVERYTHING);
    let http = |path: &str| format!("url = \"http://127.0.0.1:${{PORT}}/{path}\"\nenv = {{ PORT = \"${{PORT}}\" }}");
    let (argument, address) = match transport {
        TransportKind::Stdio => ("stdio", String::new()),
        TransportKind::Http => ("streamableHttp", http("mcp")),
        TransportKind::HttpSse => ("sse", http("sse")),
    };
    let place = Workspace::new();
    let agent =
        format!("[agents.everything]\ncommand = \"node\"\nargs = [{script:?}, {argument:?}]\n{address}\n{keys}\n");
    place.write("agents.toml", agent);
    place
}

/// Returns a workspace with `protocol.py` as the agent `protocol`, on the Python SDK in `environment` below `.interop`.
fn protocol(environment: &str, transport: TransportKind, keys: &str) -> Workspace {
    let python = root().join(".interop").join(environment).join("bin/python");
    let script = root().join(SCRIPT);
    let arguments = match transport {
        TransportKind::Stdio => format!("args = [{script:?}, \".\"]"),
        TransportKind::Http | TransportKind::HttpSse => {
            format!("args = [{script:?}, \".\", \"${{PORT}}\"]\nurl = \"http://127.0.0.1:${{PORT}}/mcp\"")
        }
    };
    let place = Workspace::new();
    place.write("agents.toml", format!("[agents.protocol]\ncommand = {python:?}\n{arguments}\n{keys}\n"));
    place
}

fn run(place: &Workspace, plan: &str) -> CommandOutput {
    place.run_plan(plan, &[&JOURNAL[..], &["--verbose", "--answers", "answers.yaml"]].concat())
}

fn output(ended: &CommandOutput, task: &str) -> String {
    ended.result()["tasks"][task]["output"].to_string()
}

/// Checks that the server gets the roots, and the log level, by which it sends a message about the roots or does not.
fn roots_and_log_level(transport: TransportKind) -> Result<(), Failed> {
    let logs_roots = |level: &str| {
        let place = everything(transport, &format!("roots = [\"file:///srv/notes\"]\nlog_level = {level:?}"));
        place.write("answers.yaml", "answers: []\n");
        let ended = run(&place, "name: x\ntasks: [{ id: roots, agent: everything, tool: get-roots-list }]\n");
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(output(&ended, "roots").contains("file:///srv/notes"), "{ended:?}");
        ended.stderr.contains("Roots updated: 1 root(s)")
    };
    assert!(!logs_roots("error"));
    // The message can arrive after the result, when the run has ended.
    wait_for("the message", || logs_roots("info").then_some(()));
    Ok(())
}

/// Checks that a person is asked to open pages: by a request, and by an error (-32042) after which the call is repeated.
fn pages_to_open(transport: TransportKind) -> Result<(), Failed> {
    let place = everything(transport, "");
    place.write("answers.yaml", "answers: [{ agent: everything, accept: true }]\n");
    let plan = "name: x\ntasks:\n\
        \x20 - { id: page, agent: everything, tool: trigger-url-elicitation, with: { url: \"https://example.org/a\" } }\n\
        \x20 - id: needed\n\
        \x20   needs: [page]\n\
        \x20   agent: everything\n\
        \x20   tool: trigger-url-elicitation\n\
        \x20   with: { url: \"https://example.org/b\", errorPath: true }\n";
    let ended = run(&place, plan);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for task in ["page", "needed"] {
        assert!(output(&ended, task).contains("User completed the URL elicitation flow"), "{ended:?}");
    }
    let asked = place.logged_events("j.db", "question_asked");
    assert_eq!(asked.len(), 3, "{asked:?}");
    Ok(())
}

/// Checks that `await` subscribes to the resource, and that the subscription ends.
fn subscription_of_everything(transport: TransportKind) -> Result<(), Failed> {
    let place = everything(transport, "");
    place.write("answers.yaml", "answers: []\n");
    let task =
        "{ id: a, agent: everything, tool: get-resource-links, with: { count: 1 }, await: { resource: resource } }";
    let ended = run(&place, &format!("name: x\ntasks: [{task}]\n"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("Received Subscribe Resource request"), "{ended:?}");
    Ok(())
}

/// Checks that `await` opens a subscription of 2026-07-28, without which the resource never changes.
fn subscription_of_python(transport: TransportKind) -> Result<(), Failed> {
    let place = protocol("python", transport, "");
    place.write("answers.yaml", "answers: []\n");
    let ended = run(&place, "name: x\ntasks: [{ id: a, agent: protocol, tool: start, await: { resource: done } }]\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["a"]["output"]["done"], true, "{ended:?}");
    Ok(())
}

/// Checks progress, pages and a change of the list of tools, the trace context, the log level in `_meta`, images, and
/// sound.
fn calls_of_python(environment: &str, transport: TransportKind) -> Result<(), Failed> {
    let place = protocol(environment, transport, "log_level = \"error\"");
    let plan = "name: x\ntasks:\n\
        \x20 - { id: meta, agent: protocol, tool: meta }\n\
        \x20 - { id: chat, agent: protocol, tool: chat }\n\
        \x20 - { id: media, agent: protocol, tool: media }\n\
        \x20 - { id: count, agent: protocol, tool: count }\n\
        \x20 - { id: grow, agent: protocol, tool: grow }\n\
        \x20 - { id: grown, needs: [grow], agent: protocol, tool: grown }\n";
    place.write("plan.yaml", plan);
    let mut command = place.command(["run", "-v", "plan.yaml", "--output", "json", "--no-input", "--journal", "j.db"]);
    command.env("TRACEPARENT", format!("00-{TRACE_ID}-00f067aa0ba902b7-01"));
    let ended = CommandOutput::of(&mut command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(output(&ended, "meta").contains(&format!("00-{TRACE_ID}-")), "{ended:?}");
    assert!(output(&ended, "grown").contains("new"), "{ended:?}");
    assert!(ended.stderr.contains("count: 100%, step 3") && ended.stderr.contains("error: an error"), "{ended:?}");
    let files = ended.result()["tasks"]["media"]["files"].clone();
    assert_eq!((&files[0]["mime_type"], &files[1]["mime_type"]), (&"image/png".into(), &"audio/wav".into()), "{files}");
    // Servers on the first generation of the SDK have no log level.
    assert_eq!(ended.stderr.contains("a detail"), environment == "python-1", "{ended:?}");
    Ok(())
}

/// Checks a question during a call. The second generation of the SDK refuses it on modern connections, so that the call is
/// repeated in the legacy era.
fn question_of_python(environment: &str, transport: TransportKind) -> Result<(), Failed> {
    let place = protocol(environment, transport, "");
    place.write("answers.yaml", "answers: [{ agent: protocol, accept: { name: Ada } }]\n");
    let ended = run(&place, "name: x\ntasks: [{ id: a, agent: protocol, tool: greet, effect: idempotent }]\n");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(output(&ended, "a").contains("hello Ada"), "{ended:?}");
    let attempts = if environment == "python" { 2 } else { 1 };
    assert_eq!(ended.result()["tasks"]["a"]["attempts"], attempts, "{ended:?}");
    Ok(())
}

/// Checks that a call that is given up is cancelled at the server.
fn cancelled_call_of_python(environment: &str, transport: TransportKind) -> Result<(), Failed> {
    let place = protocol(environment, transport, "");
    place.write("answers.yaml", "answers: []\n");
    let ended = run(
        &place,
        "name: x\ntasks: [{ id: a, agent: protocol, tool: wait, timeout: 1s, retry: { max_attempts: 1 } }]\n",
    );
    assert_eq!(ended.task("a").1.as_deref(), Some("idle_timeout"), "{ended:?}");
    wait_for("the cancellation", || place.path("cancelled").exists().then_some(()));
    Ok(())
}

/// Checks that a page that the server reports as completed is an answer.
fn completed_page_of_python(transport: TransportKind) -> Result<(), Failed> {
    let place = protocol("python-1", transport, "");
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: protocol, tool: sign_in }]\n");
    let started = place.kapell(&[&["run", "plan.yaml", "--detach"], &JOURNAL[..]].concat());
    assert_eq!(started.code, Some(0), "{started:?}");
    wait_for_status(&place, &["succeeded"]);
    let answered = place.logged_events("j.db", "question_answered");
    assert_eq!(answered[0]["by"], "agent `protocol`, which reports the page as completed", "{answered:?}");
    Ok(())
}

/// Checks that a server that requires a fixed token gets it.
fn token_of_python(environment: &str) -> Result<(), Failed> {
    let keys = "bearer_token_env_var = \"SECRET\"\nenv = { TOKEN = \"open sesame\" }";
    let place = protocol(environment, TransportKind::Http, keys);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: protocol, tool: count }]\n");
    let run = |token: &str| {
        let mut command = place.command(["run", "plan.yaml", "--output", "json", "--no-input", "--journal", "j.db"]);
        CommandOutput::of(command.env("SECRET", token))
    };
    let ended = run("open sesame");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let refused = run("wrong");
    assert!(refused.code == Some(1) && refused.stderr.contains("HTTP 401"), "{refused:?}");
    Ok(())
}

/// Checks that the instructions of the server are kept.
fn instructions_of_everything(transport: TransportKind) -> Result<(), Failed> {
    let tested: Value = everything(transport, "").kapell(&["agents", "test", "--output", "json"]).result();
    assert!(tested[0]["instructions"].as_str().is_some_and(|text| text.starts_with("# Everything Server")), "{tested}");
    Ok(())
}
