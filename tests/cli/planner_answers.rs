//! Answers of the planner's model that are no plan: cut off, empty, too long, or a call of a tool.

use serde_json::{Value, json};

use crate::{endpoint::Endpoint, support::Place};

const GOAL: &str = "Read about Lisbon";

fn task(number: usize, topic: &str) -> Value {
    let call = json!({"tool": "research.research", "args": {"topic": topic, "depth": 1, "delay_ms": 1}});
    json!({"id": format!("t{number}"), "title": "Read", "depends_on": [], "call": call, "bindings": []})
}

fn plan(tasks: Vec<Value>) -> String {
    json!({"analysis": "Reading is research.", "tasks": tasks}).to_string()
}

/// Returns a place with the demo agents, a model that answers so, and more lines of the agents file.
fn place<'r>(answers: impl IntoIterator<Item = &'r str>, more: &str) -> (Place, Endpoint) {
    let endpoint = Endpoint::answering(answers);
    let place = Place::new();
    place.agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{more}\n{agents}", endpoint.section()));
    (place, endpoint)
}

#[test]
fn a_goal_that_needs_no_tool_ends_in_the_words_of_the_model() {
    let answer = json!({"analysis": "2+2 is 4;\u{1b}[2J no tool is needed.", "tasks": []}).to_string();
    for command in [&["run", "What is 2 + 2?", "--journal", "journal.db"][..], &["plan", "What is 2 + 2?"]] {
        // A second answer would be a plan; it must not be asked for.
        let (place, _endpoint) = place([&*answer, &*plan(vec![task(1, "numbers")])], "");
        let ended = place.kapell(command);
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
        let expected = "the model planned no tasks, and says: 2+2 is 4;\\u{1b}[2J no tool is needed.";
        assert!(ended.err.contains(expected) && ended.err.contains("no plan in 1 turn"), "{}", ended.err);
        assert!(!place.path("journal.db").exists(), "nothing ran");
    }
}

#[test]
fn a_plan_has_no_more_tasks_than_the_limit() {
    let many = plan((1..=40).map(|number| task(number, "Lisbon")).collect());
    let (limited, endpoint) = place([&*many, &*plan(vec![task(1, "Lisbon")])], "");
    let ended = limited.kapell(&["run", GOAL, "--dry-run"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.request();
    let repair = endpoint.request()["messages"][3]["content"].to_string();
    assert!(repair.contains("the plan has 40 tasks, and at most 16 are allowed"), "{repair}");
    let (allowed, endpoint) = place([&*many], "[planner]\nmax_tasks = 40\n");
    assert_eq!(allowed.kapell(&["plan", GOAL]).code, Some(0));
    assert!(endpoint.request()["messages"][0]["content"].to_string().contains("at most t40"));
    let (refused, _endpoint) = place([&*many], "[planner]\nmax_tasks = 39\n");
    let ended = refused.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for expected in ["plan::too_many_tasks", "40 tasks, and at most 39", "`max_tasks` of `[planner]`"] {
        assert!(ended.err.contains(expected), "`{expected}` is missing in:\n{}", ended.err);
    }
}

#[test]
fn a_plan_that_is_cut_off_gets_more_room() {
    let good = plan(vec![task(1, "Lisbon")]);
    let (grown, endpoint) = place(["cut {\"analysis\": \"long", &*good], "");
    let ended = grown.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(endpoint.request()["max_tokens"], 8_192);
    assert_eq!(endpoint.request()["max_tokens"], 16_384);
}

#[test]
fn a_limit_that_is_set_is_kept_and_named_when_reasoning_uses_it_up() {
    let (fixed, endpoint) = place(["think so much\ncut "], "[planner]\nmax_tokens = 700\n");
    let ended = fixed.kapell(&["plan", GOAL]);
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    for _ in 0..3 {
        assert_eq!(endpoint.request()["max_tokens"], 700);
    }
    for expected in ["plan::cut_off", "700 tokens: reasoning used all of them", "raise `max_tokens` of `[planner]`"] {
        assert!(ended.err.contains(expected), "`{expected}` is missing in:\n{}", ended.err);
    }
}

#[test]
fn a_literal_opening_of_an_expression_is_repaired_with_its_spelling() {
    let literal = plan(vec![task(1, "env: ${{ github.sha }}")]);
    let escaped = plan(vec![task(1, "env: $${{ github.sha }}")]);
    let (place, endpoint) = place([&*literal, &*escaped, "Read [t1]."], "");
    let ended = place.kapell(&["run", GOAL, "--no-input", "--journal", "journal.db", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t1").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    endpoint.request();
    let repair = endpoint.request()["messages"][3]["content"].to_string();
    assert!(repair.contains("a literal `${{` is written `$${{`"), "{repair}");
    assert!(ended.out.contains("env: ${{ github.sha }}"), "{}", ended.out);
}

#[test]
fn a_tool_call_instead_of_a_plan_is_asked_for_again() {
    let good = plan(vec![task(1, "Lisbon")]);
    for (answer, expected) in [
        ("call research_research {}", "a call of the tool `research_research`"),
        ("<tool_call>\n{\"name\": \"research\"}\n</tool_call>", "a tool call as text (`<tool_call>`)"),
    ] {
        let (place, endpoint) = place([answer, &*good], "");
        let ended = place.kapell(&["plan", GOAL]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        endpoint.request();
        let repair = endpoint.request()["messages"][3]["content"].as_str().expect("text").to_owned();
        assert!(repair.contains(expected) && repair.contains("no tool can be called while planning"), "{repair}");
    }
}
