//! Replies of the planner's model that are not plans: truncated, empty, too long, or a tool call.

use serde_json::{Value, json};

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::Workspace;

const GOAL: &str = "Read about Lisbon";

fn task_json(number: usize, topic: &str) -> Value {
    let call = json!({"tool": "research.research", "args": {"topic": topic, "depth": 1, "delay_ms": 1}});
    json!({"id": format!("t{number}"), "title": "Read", "depends_on": [], "call": call, "bindings": []})
}

fn plan_json(tasks: Vec<Value>) -> String {
    json!({"analysis": "Reading is research.", "tasks": tasks}).to_string()
}

/// Returns a workspace with the demo agents, a model with these replies, and more lines of the agents file.
fn workspace<'r>(answers: impl IntoIterator<Item = &'r str>, more: &str) -> (Workspace, ScriptedEndpoint) {
    let endpoint = ScriptedEndpoint::with_replies(answers);
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{more}\n{agents}", endpoint.config_section()));
    (place, endpoint)
}

/// Asserts that the second request asks for a repair: it repeats the reply and reports its errors.
fn assert_repair_requested(endpoint: &ScriptedEndpoint) {
    let roles = |request: Value| {
        let messages = request["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["role"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(roles(endpoint.next_request()), ["system", "user"]);
    assert_eq!(roles(endpoint.next_request()), ["system", "user", "assistant", "user"]);
}

#[test]
fn plan_without_tasks_prints_the_analysis() {
    let answer = json!({"analysis": "2+2 is 4;\u{1b}[2J no tool is needed.", "tasks": []}).to_string();
    for command in [&["run", "What is 2 + 2?", "--journal", "journal.db"][..], &["plan", "What is 2 + 2?"]] {
        // A second reply would be a plan, but it must not be requested.
        let (place, _endpoint) = workspace([&*answer, &*plan_json(vec![task_json(1, "numbers")])], "");
        let ended = place.kapell(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert_eq!(ended.error_code(), "planner::no_tasks");
        assert!(ended.stderr.contains("2+2 is 4;\\u{1b}[2J no tool is needed."), "{}", ended.stderr);
        assert!(!place.path("journal.db").exists(), "nothing ran");
    }
}

#[test]
fn task_limit_is_enforced() {
    let many = plan_json((1..=40).map(|number| task_json(number, "Lisbon")).collect());
    let (limited, endpoint) = workspace([&*many, &*plan_json(vec![task_json(1, "Lisbon")])], "");
    let ended = limited.kapell(&["run", GOAL, "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_repair_requested(&endpoint);
    let (allowed, endpoint) = workspace([&*many], "[planner]\nmax_tasks = 40\n");
    assert_eq!(allowed.kapell(&["plan", GOAL]).code, Some(0));
    let ids = "/response_format/json_schema/schema/properties/tasks/items/properties/id/enum";
    let ids = endpoint.next_request().pointer(ids).and_then(Value::as_array).map(Vec::len);
    assert_eq!(ids, Some(40));
    let (refused, _endpoint) = workspace([&*many], "[planner]\nmax_tasks = 39\n");
    let ended = refused.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.error_code(), "plan::too_many_tasks");
    let message = ended.stderr.split_once("too_many_tasks]: ").and_then(|(_, rest)| rest.split_once("\n1 error"));
    insta::assert_snapshot!(message.expect("a message and its help").0);
}

#[test]
fn truncated_plan_raises_the_token_limit() {
    let good = plan_json(vec![task_json(1, "Lisbon")]);
    let (grown, endpoint) = workspace(["cut {\"analysis\": \"long", &*good], "");
    let ended = grown.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(endpoint.next_request()["max_tokens"], 8_192);
    assert_eq!(endpoint.next_request()["max_tokens"], 16_384);
}

#[test]
fn configured_limit_is_kept_and_named() {
    let (fixed, endpoint) = workspace(["think so much\ncut "], "[planner]\nmax_tokens = 700\n");
    let ended = fixed.kapell(&["plan", GOAL]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    for _ in 0..3 {
        assert_eq!(endpoint.next_request()["max_tokens"], 700);
    }
    assert_eq!(ended.error_code(), "plan::cut_off");
    let message = ended.stderr.split_once("cut_off]: ").and_then(|(_, rest)| rest.split_once("\n1 error"));
    insta::assert_snapshot!(message.expect("a message and its help").0);
}

#[test]
fn literal_opening_is_repaired() {
    let literal = plan_json(vec![task_json(1, "env: ${{ github.sha }}")]);
    let escaped = plan_json(vec![task_json(1, "env: $${{ github.sha }}")]);
    let (place, endpoint) = workspace([&*literal, &*escaped, "Read [t1]."], "");
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t1").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    assert_repair_requested(&endpoint);
    assert!(ended.stdout.contains("env: ${{ github.sha }}"), "{}", ended.stdout);
}

#[test]
fn tool_call_instead_of_a_plan_is_repaired() {
    let good = plan_json(vec![task_json(1, "Lisbon")]);
    for answer in ["call research_research {}", "<tool_call>\n{\"name\": \"research\"}\n</tool_call>"] {
        let (place, endpoint) = workspace([answer, &*good], "");
        let ended = place.kapell(&["plan", GOAL]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_repair_requested(&endpoint);
        let (place, _endpoint) = workspace([answer], "");
        assert_eq!(place.kapell(&["plan", GOAL]).error_code(), "plan::no_plan");
    }
}
