//! Failures in the middle of a run: a scripted model replans the pending tasks, and the change is shown and run.

use serde_json::{Value, json};

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace};

const GOAL: &str = "Find something to read on Lisbon and note it down";

/// Returns a workspace with the demo agents, an agent whose `work` fails, and a model with these replies.
fn workspace<'r>(answers: impl IntoIterator<Item = &'r str>) -> (Workspace, ScriptedEndpoint) {
    let endpoint = ScriptedEndpoint::with_replies(answers);
    let place = Workspace::new();
    place.write_agents(&["fails"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.config_section()));
    (place, endpoint)
}

fn task_json(id: &str, tool: &str, arguments: Value) -> Value {
    json!({"title": format!("The {id}"), "tool": tool, "args": arguments})
}

fn failing_task(id: &str) -> Value {
    task_json(id, "odd-fails.work", json!({}))
}

fn store_task(id: &str, text: &str) -> Value {
    let arguments = json!({"title": "Lisbon", "text": text, "format": null, "delay_ms": null});
    task_json(id, "archive.store_document", arguments)
}

/// Returns a plan of a document, a call that fails, and two documents: of the failed call's result, and of nothing.
fn plan_json() -> String {
    let mut last = store_task("t4", "Done.");
    last["after"] = json!([1, 3]);
    let mut lost = store_task("t3", "$2");
    lost["after"] = json!([1]);
    let mut failing = failing_task("t2");
    failing["after"] = json!([1]);
    json!({"tasks": [store_task("t1", "First."), failing, lost, last]}).to_string()
}

fn patch_json(keep: &[&str], tasks: &[Value]) -> String {
    json!({"keep": keep, "tasks": tasks, "missing": null}).to_string()
}

/// Returns a patch that reads about Lisbon elsewhere, and stores a document about it.
fn research_patch() -> String {
    let reading = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
    let store = store_task("t6", "After {$1.bytes}: {$5.findings[0].note}");
    patch_json(&[], &[task_json("t5", "research.research", reading), store])
}

/// Returns the output, with only the progress lines that begin with one of `subjects`, without times and IDs.
fn normalized_output(ended: &CommandOutput, subjects: &[&str]) -> String {
    let lines = ended.stderr.lines().filter_map(|line| Some(line.split_once("] ")?.1));
    let lines: Vec<&str> = lines.filter(|line| subjects.iter().any(|subject| line.starts_with(subject))).collect();
    format!("exit code {:?}\n--- stdout\n{}--- stderr\n{}\n", ended.code, ended.stdout, lines.join("\n"))
}

fn run_goal(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    let mut all = vec!["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"];
    all.extend(arguments);
    place.kapell(&all)
}

#[test]
fn planner_model_replans_and_default_model_answers() {
    let answer = "There is much to read [t5], and it is noted down [t1, t6]. The task t2 failed.";
    let (place, endpoint) = workspace([&*plan_json(), &*research_patch(), answer]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let able = endpoint.config_section().replace("[llm]", "[models.able]").replace("tiny", "able");
    place.write("agents.toml", format!("{able}\n[planner]\nmodel = \"able\"\n{agents}"));
    let ended = run_goal(&place, &[]);
    let stated = format!("{answer}\n\nNot done: t2 failed: no such city\n");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), &*stated), "{ended:?}");
    let models: Vec<_> = std::iter::repeat_with(|| endpoint.next_request()["model"].clone()).take(3).collect();
    assert_eq!(models, ["able", "able", "tiny"]);
}

#[test]
fn failed_task_is_replanned() {
    let answer = "There is much to read [t5], and it is noted down [t1, t6]. The task t2 failed.";
    let (place, endpoint) = workspace([&*plan_json(), &*research_patch(), answer]);
    let ended = run_goal(&place, &[]);
    insta::assert_snapshot!(normalized_output(&ended, &["replan", "the planner"]));
    endpoint.next_request();
    let request = endpoint.next_request();
    let prompt = request["messages"][1]["content"].as_str().expect("text");
    let lines = prompt.lines().filter(|line| line.starts_with("{\"task\""));
    let tasks: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let statuses: Vec<_> = tasks.iter().map(|task| (task["task"].as_str(), task["status"].as_str())).collect();
    let expected = [("t1", "succeeded"), ("t2", "failed or skipped"), ("t3", "unreachable"), ("t4", "unreachable")];
    assert_eq!(statuses, expected.map(|(task, status)| (Some(task), Some(status))));
    assert!(prompt.contains("which are numbered 5, 6, and so on"), "{prompt}");

    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db", "--output", "json"]).result();
    let of = |id: &str, key: &str| shown["tasks"][id][key].clone();
    assert_eq!((of("t2", "status"), of("t2", "replanned")), (json!("failed"), json!(1)));
    assert_eq!((of("t3", "status"), of("t6", "status")), (json!("skipped"), json!("succeeded")));
    let replans = place.logged_events("journal.db", "replanned");
    let patch = &replans[0]["result"]["Ok"];
    // The second one is the check of the goal.
    assert_eq!((replans.len(), &patch["removed"]), (2, &json!(["t3", "t4"])), "{replans:?}");
    let added: Vec<_> = patch["added"].as_array().into_iter().flatten().map(|task| task["id"].as_str()).collect();
    assert_eq!(added, [Some("t5"), Some("t6")], "{replans:?}");
}

#[test]
fn failure_is_replanned_once() {
    let (place, _endpoint) = workspace([&*plan_json(), &*patch_json(&[], &[failing_task("t5")]), "not requested"]);
    let ended = run_goal(&place, &["--replan", "9", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t5").0.as_str()), (Some(1), "failed"), "{ended:?}");
    let replanned = |id: &str| ended.result()["tasks"][id].get("replanned").cloned();
    assert_eq!((replanned("t2"), replanned("t5")), (Some(json!(1)), None), "{ended:?}");
    assert_eq!(place.logged_events("journal.db", "replanned").len(), 1);
}

#[test]
fn empty_patch_ends_the_run() {
    let (place, _endpoint) = workspace([&*plan_json(), &*patch_json(&[], &[]), "Noted [t1]; t2 failed."]);
    let ended = run_goal(&place, &[]);
    insta::assert_snapshot!(normalized_output(&ended, &["replan"]));
}

#[test]
fn invalid_patch_is_repaired() {
    let reused = patch_json(&["t3", "t1"], &[store_task("t4", "Again."), store_task("t5", "$2")]);
    let (place, endpoint) =
        workspace([&*plan_json(), &*reused, &*research_patch(), "Read [t5], noted [t1, t6]; t2 failed."]);
    let ended = run_goal(&place, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.next_request();
    endpoint.next_request();
    insta::assert_snapshot!(endpoint.next_request()["messages"][3]["content"].as_str().expect("text"));
}

#[test]
fn failed_replan_keeps_the_failure() {
    let (place, _endpoint) = workspace([
        &*plan_json(),
        "Hm.",
        &*patch_json(&["t9"], &[]),
        &*patch_json(&["t3"], &[]),
        "Noted [t1]; t2, t3 and t4 are missing.",
    ]);
    let ended = run_goal(&place, &[]);
    insta::assert_snapshot!(normalized_output(&ended, &["replan"]));
}

#[test]
fn zero_replans_disable_replanning() {
    let (place, _endpoint) = workspace([&*plan_json(), "Noted [t1]; t2, t3 and t4 are missing."]);
    let ended = run_goal(&place, &["--replan", "0", "--output", "stream-json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.stdout.contains("replan_started"), "{}", ended.stdout);
}

/// Returns a plan with a task that fails, and one that needs it.
fn failing_plan(keys: &str, on_failure: &str) -> String {
    format!(
        "name: notes\n{keys}tasks:\n  - {{ id: look, agent: odd-fails, tool: work{on_failure} }}\n  \
         - {{ id: note, needs: [look], agent: archive, tool: store_document, with: {{ title: t, text: x }} }}\n"
    )
}

#[test]
fn written_plan_is_replanned_by_key_or_flag() {
    let rest = patch_json(&[], &[store_task("t1", "Instead.")]);
    for (keys, on_failure, arguments, code) in [
        ("", ", on_failure: replan", vec![], 0),
        ("defaults: { on_failure: replan }\nreplan: 2\n", "", vec![], 0),
        ("", "", vec!["--replan", "1"], 0),
        ("replan: 0\n", ", on_failure: replan", vec!["--replan", "1"], 0),
        ("replan: 0\n", ", on_failure: replan", vec![], 1),
        ("", "", vec![], 1),
        ("", ", on_failure: replan", vec!["--replan", "0"], 1),
        ("", ", on_failure: fail", vec!["--replan", "1"], 1),
    ] {
        let (place, _endpoint) = workspace([&*rest]);
        let ended = place.run_plan(&failing_plan(keys, on_failure), &arguments);
        assert_eq!(ended.code, Some(code), "{keys}{on_failure}{arguments:?}: {ended:?}");
        assert_eq!(ended.task("t1").0, if code == 0 { "succeeded" } else { "" });
    }
}

#[test]
fn replan_without_a_model_is_a_warning() {
    let place = Workspace::new();
    place.write_agents(&["fails"]);
    let ended = place.run_plan(&failing_plan("", ", on_failure: replan"), &[]);
    assert_eq!((ended.code, ended.task("note").0.as_str()), (Some(1), "skipped"), "{ended:?}");
    let warning = "warning[plan::no_model]: ";
    assert!(ended.stderr.contains(warning), "{}", ended.stderr);
    let valid = place.kapell(&["validate", "plan.yaml", "--offline"]);
    assert!(valid.code == Some(0) && valid.stderr.contains(warning), "{valid:?}");
    let flag = place.run_plan(&failing_plan("", ""), &["--replan", "1"]);
    assert_eq!((flag.code, flag.error_code()), (Some(2), "cli::no_model"), "{flag:?}");
}

#[test]
fn approved_run_asks_before_replanning() {
    let answers = [&*plan_json(), &*research_patch(), "Read [t5], noted [t1, t6]; t2 failed."];
    let run = |replies: &[&str]| {
        let (place, _endpoint) = workspace(answers);
        let prompts = ["what to change> ", "[y/n/?]> "];
        let steps: Vec<_> = prompts.into_iter().zip(replies.iter().copied()).collect();
        let arguments = ["run", GOAL, "--approve", "plan", "--journal", "journal.db"];
        let ended = run_in_terminal(&place, &steps, None, &arguments);
        let added = ["t5", "t6"].iter().all(|id| ended.stderr.contains(&format!("+ {id}: ")));
        let started = place.logged_events("journal.db", "attempt_started");
        let has_started = started.iter().any(|event| event["attempt"]["task"] == "t5");
        (ended.code, added, has_started)
    };
    assert_eq!(run(&["y\n", "y\n"]), (Some(0), true, true), "approved");
    assert_eq!(run(&["y\n", "n\n"]), (Some(1), true, false), "declined");
    assert_eq!(run(&["y\n", "\u{4}"]), (Some(4), true, false), "unanswered");
}
