//! What a synthesis claims, and what kapell states below it.

use serde_json::{Value, json};

use crate::{
    endpoint::Endpoint,
    support::{Ended, Place},
};

const PLAN: &str = "name: x\nresult: synthesize\ntasks:\n\
    \x20 - { id: museum, agent: odd-good, tool: echo, with: { text: it opens at ten } }\n\
    \x20 - { id: hotel, agent: odd-good, tool: no_such_tool, on_failure: continue }\n\
    \x20 - { id: maybe, if: 'false', agent: odd-good, tool: echo, with: { text: x } }\n";

fn place(endpoint: &Endpoint, plan: &str) -> Place {
    let place = Place::new();
    place.agents(&["good"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}{agents}", endpoint.section()));
    place.write("plan.yaml", plan);
    place
}

fn run(place: &Place, more: &[&str]) -> Ended {
    let mut arguments = vec!["run", "plan.yaml", "--no-input"];
    arguments.extend(more);
    place.kapell(&arguments)
}

#[test]
fn what_is_not_done_is_stated_below_an_answer_that_claims_it() {
    let claim = "The hotel is booked, HTL-991 [hotel]. Breakfast is included [maybe]. It opens at ten [museum].";
    let endpoint = Endpoint::answering([claim]);
    let place = place(&endpoint, PLAN);
    let text = run(&place, &[]);
    assert_eq!(text.code, Some(3), "{text:?}");
    let below = text.out.strip_prefix(&format!("{claim}\n\nNot done: hotel failed: ")).expect(&text.out);
    assert!(below.contains("; maybe was skipped: its condition `false` is false"), "{below}");

    let result = run(&place, &["--output", "json"]).result();
    let stated = |result: &Value| -> Vec<_> {
        let not_done = result["not_done"].as_array().cloned().unwrap_or_default();
        not_done.iter().map(|task| (task["task"].clone(), task["status"].clone())).collect()
    };
    let expected = [(json!("hotel"), json!("failed")), (json!("maybe"), json!("skipped"))];
    assert_eq!(stated(&result), expected);
    assert!(
        result["tasks"]["answer"]["output"].as_str().is_some_and(|answer| answer.contains("Not done: hotel failed"))
    );

    let lines = run(&place, &["--output", "stream-json"]);
    let last = lines.out.lines().last().expect("a line");
    assert_eq!(stated(&serde_json::from_str(last).expect("JSON")), expected);
}

#[test]
fn an_answer_in_json_stays_json_and_the_note_goes_to_stderr() {
    let endpoint = Endpoint::answering([r#"{"hotel": "booked"}"#]);
    let plan = PLAN.replace("result: synthesize", "result: { synthesize: { output_schema: { type: object } } }");
    let place = place(&endpoint, &plan);
    let text = run(&place, &[]);
    assert_eq!(text.result(), json!({"hotel": "booked"}));
    assert!(text.err.contains("Not done: hotel failed: "), "{}", text.err);
}

#[test]
fn a_right_answer_with_other_brackets_takes_one_turn() {
    let plan = "name: x\nresult: synthesize\ntasks:\n\
        \x20 - { id: museum, agent: odd-good, tool: echo, with: { text: it opens at ten } }\n";
    let answer = "- [x] It opens at ten [museum]\n- [ ] Use `rows[0]`, list[str] and [1, 2]; \"open\" [sic], 5 [EUR].";
    let endpoint = Endpoint::answering([answer, "Another answer [museum]."]);
    let place = place(&endpoint, plan);
    let ended = run(&place, &[]);
    assert_eq!((ended.code, ended.out), (Some(0), format!("{answer}\n")));
    let result = run(&place, &["--output", "json"]).result();
    assert_eq!(result.get("not_done"), None);
}
