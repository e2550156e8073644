//! Servers that deviate from the message format. What can be understood is accepted over each transport without a
//! setting, and the rest fails at once.

use std::fmt::Write as _;

use serde_json::json;

use crate::support::workspace::{CommandOutput, Workspace};

/// A transport of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AgentTransport {
    Stdio,
    Http,
}

/// Returns a workspace with the agent `odd`, which writes messages in the form `mode`.
fn workspace(mode: &str, over: AgentTransport) -> Workspace {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/formats.py");
    let (port, url) = match over {
        AgentTransport::Stdio => ("", ""),
        AgentTransport::Http => (", \"${PORT}\"", "url = \"http://127.0.0.1:${PORT}/mcp\"\n"),
    };
    let place = Workspace::new();
    // No call may end by a timeout.
    place.write(
        "agents.toml",
        format!(
            "[agents.odd]\ncommand = \"python3\"\nargs = [{script:?}, {mode:?}{port}]\n{url}startup_timeout = \"1h\"\n"
        ),
    );
    place
}

/// Runs the tools, each as a task with the same name.
fn run_tools(mode: &str, over: AgentTransport, tools: &[(&str, &str)]) -> CommandOutput {
    run_in(&workspace(mode, over), tools)
}

fn run_in(place: &Workspace, tools: &[(&str, &str)]) -> CommandOutput {
    let mut plan = "name: x\ndefaults: { timeout: 1h }\ntasks:\n".to_owned();
    for (tool, with) in tools {
        let _ = writeln!(
            plan,
            "  - {{ id: {tool:?}, agent: odd, tool: {tool:?}, with: {{ {with} }}, on_failure: continue }}"
        );
    }
    let ended = place.run_plan(&plan, &["--journal", "j.db"]);
    let text = format!("{}{}", ended.stdout, ended.stderr);
    for debug in ["Some(", "CustomResult", "Object {", "ErrorData", "untagged"] {
        assert!(!text.contains(debug), "`{debug}` in {text}");
    }
    ended
}

fn task_error(ended: &CommandOutput, task: &str) -> String {
    ended.result()["tasks"][task]["error"].to_string()
}

fn success() -> (String, Option<String>) {
    ("succeeded".to_owned(), None)
}

fn failure(kind: &str) -> (String, Option<String>) {
    ("failed".to_owned(), Some(kind.to_owned()))
}

#[test]
fn accepts_empty_objects_written_as_lists() {
    for over in [AgentTransport::Stdio, AgentTransport::Http] {
        let ended = run_tools("php", over, &[("now", ""), ("greet", "who: a")]);
        assert_eq!([ended.task("now"), ended.task("greet")], [success(), success()], "{ended:?}");
        assert_eq!(ended.result()["tasks"]["greet"]["output"]["ok"], true, "{ended:?}");
    }
    // The schema applies nevertheless.
    let ended = run_tools("php", AgentTransport::Stdio, &[("greet", "who: c")]);
    assert_eq!(ended.task("greet"), failure("invalid_arguments"), "{ended:?}");
}

#[test]
fn accepts_null_for_optional_members() {
    for over in [AgentTransport::Stdio, AgentTransport::Http] {
        let ended = run_tools("pydantic", over, &[("book", "room: double"), ("fail", "")]);
        assert_eq!([ended.task("book"), ended.task("fail")], [success(), failure("server_error")], "{ended:?}");
        assert!(task_error(&ended, "fail").contains("disk quota exceeded"), "{ended:?}");
    }
}

#[test]
fn lenient_responses_are_read_on_every_transport() {
    let read = [
        ("latin", "caf\u{FFFD}"),
        ("surrogate", "a\u{FFFD}b"),
        ("control", "a\tb\u{1b}"),
        ("batch", "fine"),
        ("mark", "fine"),
        ("colored", "fine"),
        ("bare", "fine"),
    ];
    for (mode, over) in
        [("answers", AgentTransport::Stdio), ("answers", AgentTransport::Http), ("sse", AgentTransport::Http)]
    {
        let tools: Vec<_> = read.iter().map(|(tool, _)| (*tool, "")).chain([("nan", "")]).collect();
        // Without a content type, text before the JSON obscures the format of the body.
        let tools: Vec<_> = tools
            .into_iter()
            .filter(|(tool, _)| (mode, over, *tool) != ("answers", AgentTransport::Http, "colored"))
            .collect();
        let ended = run_tools(mode, over, &tools);
        for (tool, _) in &tools {
            assert_eq!(ended.task(tool), success(), "{mode} {tool}: {ended:?}");
        }
        let result = ended.result();
        for (tool, text) in read.iter().filter(|(tool, _)| tools.contains(&(tool, ""))) {
            assert_eq!(result["tasks"][tool]["output"], *text, "{mode} {tool}: {ended:?}");
        }
        let numbers = &result["tasks"]["nan"]["output"]["n"];
        assert_eq!(numbers, &serde_json::json!([null, null, 1]), "{mode}: {ended:?}");
    }
}

#[test]
fn malformed_errors_fail_their_call() {
    for (mode, over) in
        [("answers", AgentTransport::Stdio), ("answers", AgentTransport::Http), ("sse", AgentTransport::Http)]
    {
        for (tool, kind, reason) in [
            ("no-id", "server_error", "disk quota exceeded"),
            ("word", "server_error", "disk quota exceeded"),
            ("mute", "tool_error", "`mute` of agent `odd` failed without a message"),
        ] {
            let ended = run_tools(mode, over, &[(tool, "")]);
            assert_eq!(ended.task(tool), failure(kind), "{mode} {ended:?}");
            assert!(task_error(&ended, tool).contains(reason), "{mode} {ended:?}");
        }
    }
}

#[test]
fn unreadable_response_fails_its_call() {
    for (mode, over) in
        [("answers", AgentTransport::Stdio), ("answers", AgentTransport::Http), ("sse", AgentTransport::Http)]
    {
        let ended = run_tools(mode, over, &["cut", "quotes", "both", "neither"].map(|tool| (tool, "")));
        for (tool, reason) in [
            ("cut", "it starts with `{\\\"jsonrpc\\\":\\\"2.0\\\""),
            ("quotes", "invalid JSON: "),
            ("both", "it has both a `result` and an `error`"),
            ("neither", "it has neither a `result` nor an `error`"),
        ] {
            assert_eq!(ended.task(tool), failure("invalid_result"), "{mode} {ended:?}");
            let error = task_error(&ended, tool);
            assert!(error.contains(reason) && error.contains("agent `odd`"), "{mode} {error}");
            assert!(!error.contains("the call took effect"), "{mode} {error}");
        }
    }
}

#[test]
fn schema_error_shows_the_result_text() {
    let ended = run_tools("answers", AgentTransport::Stdio, &[("typed", "")]);
    assert_eq!(ended.task("typed"), failure("invalid_result"), "{ended:?}");
    let error = task_error(&ended, "typed");
    assert!(error.contains("; text of the result: no notes") && error.contains("`outputSchema`"), "{error}");
}

#[test]
fn result_checks_can_warn_or_be_disabled() {
    for over in [AgentTransport::Stdio, AgentTransport::Http] {
        let checked = |how: &str| {
            let place = workspace("answers", over);
            let agents = std::fs::read_to_string(place.path("agents.toml")).expect("written");
            place.write("agents.toml", format!("{agents}check_results = {how:?}\n"));
            let ended = run_in(&place, &[("typed", ""), ("empty", ""), ("cut", "")]);
            // An unreadable response is not accepted as a result.
            assert_eq!(ended.task("cut"), failure("invalid_result"), "{ended:?}");
            (place, ended)
        };
        let (_, strict) = checked("strict");
        assert_eq!(
            [strict.task("typed"), strict.task("empty")],
            [failure("invalid_result"), failure("invalid_result")]
        );
        assert!(
            task_error(&strict, "empty").contains("`check_results = \\\"warn\\\"` in `[agents.odd]`"),
            "{strict:?}"
        );

        let (place, warned) = checked("warn");
        assert_eq!([warned.task("typed"), warned.task("empty")], [success(), success()], "{warned:?}");
        let tasks = &warned.result()["tasks"];
        assert_eq!(
            (&tasks["typed"]["output"], &tasks["empty"]["output"]),
            (&"no notes".into(), &json!({"note": null}))
        );
        let warning =
            "the result of `empty` of agent `odd` does not match its output schema: `/note`: null is not of type";
        assert!(tasks["empty"]["warning"].as_str().is_some_and(|text| text.starts_with(warning)), "{tasks}");
        for shown in [
            warned.stderr,
            place.kapell(&["runs", "show", "last", "--journal", "j.db"]).stdout,
            place.kapell(&["logs", "last", "--journal", "j.db"]).stdout,
        ] {
            assert!(shown.contains(&format!("warning: {warning}")), "{shown}");
        }

        let (_, unchecked) = checked("off");
        assert_eq!([unchecked.task("typed"), unchecked.task("empty")], [success(), success()], "{unchecked:?}");
        assert!(unchecked.result()["tasks"]["empty"].get("warning").is_none(), "{unchecked:?}");
    }
}

#[test]
fn unreadable_handshake_or_list_fails() {
    for over in [AgentTransport::Stdio, AgentTransport::Http] {
        for (mode, reason) in [
            ("cut-handshake", "invalid JSON"),
            ("text-handshake", "the result of `initialize` is not an object"),
            ("cut-list", "invalid JSON"),
            ("text-list", "the result of `tools/list` is not an object"),
        ] {
            let ended = run_tools(mode, over, &[("t", "")]);
            assert_eq!(ended.task("t"), failure("agent_unavailable"), "{mode} {ended:?}");
            assert!(task_error(&ended, "t").contains(reason), "{mode} {ended:?}");
        }
        let ended = run_tools("bare-handshake", over, &[("t", "")]);
        assert_eq!(ended.task("t"), success(), "{ended:?}");
    }
}

#[test]
fn defective_tool_is_excluded_and_reported() {
    let ended =
        run_tools("tools", AgentTransport::Stdio, &["good", "deep", "missing", "null", "huge"].map(|tool| (tool, "")));
    for tool in ["good", "deep", "missing", "null", "huge"] {
        assert_eq!(ended.task(tool), success(), "{tool}: {ended:?}");
    }
    let warnings = [
        "tool `text` is ignored: its `inputSchema` is not an object",
        "tool `deep`: its `inputSchema` is nested deeper than 128 levels",
        "tool `huge`: its definition is larger than 1024 KiB, and its `inputSchema` is not used",
        "it has no `name`",
    ];
    let place = workspace("tools", AgentTransport::Stdio);
    let listed = place.kapell(&["agents", "tools"]);
    let tested = place.kapell(&["agents", "test"]);
    let plan = "name: x\ntasks:\n  - { id: good, agent: odd, tool: good }\n";
    place.write("plan.yaml", plan);
    let validated = place.kapell(&["validate", "plan.yaml"]);
    for (what, shown) in [("run", &ended), ("tools", &listed), ("test", &tested), ("validate", &validated)] {
        let text = format!("{}{}", shown.stdout, shown.stderr);
        for warning in warnings {
            assert!(text.contains(warning), "{what}: `{warning}` is missing in {text}");
        }
    }
    assert_eq!([listed.code, tested.code, validated.code], [Some(0); 3], "{listed:?} {tested:?} {validated:?}");
    let json = place.kapell(&["agents", "tools", "--output", "json"]).result();
    assert!(json[0]["warnings"].to_string().contains("`text` is ignored"), "{json}");
}

#[test]
fn excluded_tool_is_named_in_the_error() {
    let ended = run_tools("tools", AgentTransport::Stdio, &[("text", "")]);
    let text = format!("{}{}", ended.stdout, ended.stderr);
    let reason = "tool `text` of agent `odd` is not usable: its `inputSchema` is not an object";
    assert!(text.contains(reason), "{text}");
}
