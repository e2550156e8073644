//! Claims of a synthesis, and the corrections that kapell prints below it.

use serde_json::{Value, json};

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "name: x\nresult: synthesize\ntasks:\n\
    \x20 - { id: museum, agent: odd-good, tool: echo, with: { text: it opens at ten } }\n\
    \x20 - { id: hotel, agent: odd-good, tool: no_such_tool, on_failure: continue }\n\
    \x20 - { id: maybe, if: 'false', agent: odd-good, tool: echo, with: { text: x } }\n";

fn workspace(endpoint: &ScriptedEndpoint, plan: &str) -> Workspace {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}{agents}", endpoint.config_section()));
    place.write("plan.yaml", plan);
    place
}

fn run_plan(place: &Workspace, more: &[&str]) -> CommandOutput {
    let mut arguments = vec!["run", "plan.yaml", "--no-input"];
    arguments.extend(more);
    place.kapell(&arguments)
}

#[test]
fn unfinished_tasks_are_listed_below_the_answer() {
    let claim = "The hotel is booked, HTL-991 [hotel]. Breakfast is included [maybe]. It opens at ten [museum].";
    let endpoint = ScriptedEndpoint::with_replies([claim]);
    let place = workspace(&endpoint, PLAN);
    let text = run_plan(&place, &[]);
    assert_eq!(text.code, Some(3), "{text:?}");
    let notice = text.stdout.strip_prefix(&format!("{claim}\n\n")).expect(&text.stdout);
    insta::assert_snapshot!(notice);

    let result = run_plan(&place, &["--output", "json"]).result();
    let unfinished = |result: &Value| -> Vec<_> {
        let not_done = result["not_done"].as_array().cloned().unwrap_or_default();
        not_done.iter().map(|task| (task["task"].clone(), task["status"].clone())).collect()
    };
    let expected = [(json!("hotel"), json!("failed")), (json!("maybe"), json!("skipped"))];
    assert_eq!(unfinished(&result), expected);
    assert!(result["tasks"]["answer"]["output"].as_str().is_some_and(|answer| answer.contains(notice.trim_end())));

    let lines = run_plan(&place, &["--output", "stream-json"]);
    let last = lines.stdout.lines().last().expect("a line");
    assert_eq!(unfinished(&serde_json::from_str(last).expect("JSON")), expected);
}

#[test]
fn json_answer_stays_json_and_warnings_go_to_stderr() {
    let endpoint = ScriptedEndpoint::with_replies([r#"{"hotel": "booked"}"#]);
    let plan = PLAN.replace("result: synthesize", "result: { synthesize: { output_schema: { type: object } } }");
    let place = workspace(&endpoint, &plan);
    let text = run_plan(&place, &[]);
    assert_eq!(text.result(), json!({"hotel": "booked"}));
    assert!(text.stderr.contains("hotel") && text.stderr.contains("maybe"), "{}", text.stderr);
}

#[test]
fn valid_answer_with_other_brackets_needs_one_request() {
    let plan = "name: x\nresult: synthesize\ntasks:\n\
        \x20 - { id: museum, agent: odd-good, tool: echo, with: { text: it opens at ten } }\n";
    let answer = "- [x] It opens at ten [museum]\n- [ ] Use `rows[0]`, list[str] and [1, 2]; \"open\" [sic], 5 [EUR].";
    let endpoint = ScriptedEndpoint::with_replies([answer, "Another answer [museum]."]);
    let place = workspace(&endpoint, plan);
    let ended = run_plan(&place, &[]);
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("{answer}\n")));
    let result = run_plan(&place, &["--output", "json"]).result();
    assert_eq!(result.get("not_done"), None);
}
