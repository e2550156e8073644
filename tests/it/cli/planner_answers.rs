//! Replies of the planner's model that are not plans: truncated, empty, too long, or a tool call.

use serde_json::{Value, json};

use crate::support::{scripted_endpoint::ScriptedEndpoint, workspace::Workspace};

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

#[test]
fn plan_without_tasks_prints_the_analysis() {
    let answer = json!({"analysis": "2+2 is 4;\u{1b}[2J no tool is needed.", "tasks": []}).to_string();
    for command in [&["run", "What is 2 + 2?", "--journal", "journal.db"][..], &["plan", "What is 2 + 2?"]] {
        // A second reply would be a plan, but it must not be requested.
        let (place, _endpoint) = workspace([&*answer, &*plan_json(vec![task_json(1, "numbers")])], "");
        let ended = place.kapell(command);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        let expected = "the model planned no tasks, and says: 2+2 is 4;\\u{1b}[2J no tool is needed.";
        assert!(ended.stderr.contains(expected) && ended.stderr.contains("no plan in 1 request"), "{}", ended.stderr);
        assert!(!place.path("journal.db").exists(), "nothing ran");
    }
}

#[test]
fn task_limit_is_enforced() {
    let many = plan_json((1..=40).map(|number| task_json(number, "Lisbon")).collect());
    let (limited, endpoint) = workspace([&*many, &*plan_json(vec![task_json(1, "Lisbon")])], "");
    let ended = limited.kapell(&["run", GOAL, "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.next_request();
    let repair = endpoint.next_request()["messages"][3]["content"].to_string();
    assert!(repair.contains("the plan has 40 tasks, and at most 16 are allowed"), "{repair}");
    let (allowed, endpoint) = workspace([&*many], "[planner]\nmax_tasks = 40\n");
    assert_eq!(allowed.kapell(&["plan", GOAL]).code, Some(0));
    assert!(endpoint.next_request()["messages"][0]["content"].to_string().contains("at most t40"));
    let (refused, _endpoint) = workspace([&*many], "[planner]\nmax_tasks = 39\n");
    let ended = refused.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for expected in ["plan::too_many_tasks", "40 tasks, and at most 39", "`max_tasks` of `[planner]`"] {
        assert!(ended.stderr.contains(expected), "`{expected}` is missing in:\n{}", ended.stderr);
    }
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
    for expected in ["plan::cut_off", "700 tokens: reasoning used all of them", "raise `max_tokens` of `[planner]`"] {
        assert!(ended.stderr.contains(expected), "`{expected}` is missing in:\n{}", ended.stderr);
    }
}

#[test]
fn literal_opening_is_repaired() {
    let literal = plan_json(vec![task_json(1, "env: ${{ github.sha }}")]);
    let escaped = plan_json(vec![task_json(1, "env: $${{ github.sha }}")]);
    let (place, endpoint) = workspace([&*literal, &*escaped, "Read [t1]."], "");
    let ended = place.kapell(&["run", GOAL, "--no-input", "--journal", "journal.db", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t1").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    endpoint.next_request();
    let repair = endpoint.next_request()["messages"][3]["content"].to_string();
    assert!(repair.contains("a literal `${{` is written `$${{`"), "{repair}");
    assert!(ended.stdout.contains("env: ${{ github.sha }}"), "{}", ended.stdout);
}

#[test]
fn tool_call_instead_of_a_plan_is_repaired() {
    let good = plan_json(vec![task_json(1, "Lisbon")]);
    for (answer, expected) in [
        ("call research_research {}", "a call of the tool `research_research`"),
        ("<tool_call>\n{\"name\": \"research\"}\n</tool_call>", "a tool call as text (`<tool_call>`)"),
    ] {
        let (place, endpoint) = workspace([answer, &*good], "");
        let ended = place.kapell(&["plan", GOAL]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        endpoint.next_request();
        let repair = endpoint.next_request()["messages"][3]["content"].as_str().expect("text").to_owned();
        assert!(repair.contains(expected) && repair.contains("no tool can be called while planning"), "{repair}");
    }
}
