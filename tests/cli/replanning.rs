//! Failures in the middle of a run: the rest is planned anew by a scripted model, shown as a change, and run.

use serde_json::{Value, json};

use crate::{
    endpoint::Endpoint,
    support::{Ended, Place},
    terminal_answers::typing,
};

const GOAL: &str = "Find something to read on Lisbon and note it down";

/// A place with the demo agents, an agent whose `work` fails, and a model that answers so.
fn place<'r>(answers: impl IntoIterator<Item = &'r str>) -> (Place, Endpoint) {
    let endpoint = Endpoint::answering(answers);
    let place = Place::new();
    place.agents(&["fails"]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.section()));
    (place, endpoint)
}

fn task(id: &str, call: Value, bindings: Value) -> Value {
    json!({"id": id, "title": format!("The {id}"), "depends_on": [], "call": call, "bindings": bindings})
}

fn fails(id: &str) -> Value {
    task(id, json!({"tool": "odd-fails.work", "args": {}}), json!([]))
}

fn note(id: &str, text: &str) -> Value {
    let arguments = json!({"title": "Lisbon", "text": text, "format": null, "delay_ms": null});
    task(id, json!({"tool": "archive.store_document", "args": arguments}), json!([]))
}

/// A note, a call that fails, and two notes: on the failed call's result, and on nothing.
fn plan() -> String {
    let mut last = note("t4", "Done.");
    last["depends_on"] = json!(["t1", "t3"]);
    let mut lost = note("t3", "${{ tasks.t2.text }}");
    lost["depends_on"] = json!(["t1"]);
    let mut failing = fails("t2");
    failing["depends_on"] = json!(["t1"]);
    json!({"analysis": "Note, look, note.", "tasks": [note("t1", "First."), failing, lost, last]}).to_string()
}

fn remainder(keep: &[&str], tasks: &[Value]) -> String {
    json!({"analysis": "The library has no such city.", "keep": keep, "tasks": tasks}).to_string()
}

/// Reads about Lisbon elsewhere, and keeps a note on it.
fn research() -> String {
    let reading = json!({"tool": "research.research", "args": {"topic": "Lisbon", "depth": 1, "delay_ms": 1}});
    let noted = note("t6", "After ${{ tasks.t1.output.bytes }}: ${{ tasks.t5.output.findings[0].note }}");
    remainder(&[], &[task("t5", reading, json!([])), noted])
}

/// What was printed, of the talk the lines that begin with one of these, without times and ids.
fn shown(ended: &Ended, subjects: &[&str]) -> String {
    let told = ended.err.lines().filter_map(|line| line.split_once("] ")?.1.into());
    let told: Vec<&str> = told.filter(|line: &&str| subjects.iter().any(|subject| line.starts_with(subject))).collect();
    format!("exit code {:?}\n--- stdout\n{}--- stderr\n{}\n", ended.code, ended.out, told.join("\n"))
}

fn run(place: &Place, arguments: &[&str]) -> Ended {
    let mut all = vec!["run", GOAL, "--no-input", "--journal", "journal.db"];
    all.extend(arguments);
    place.kapell(&all)
}

#[test]
fn a_goal_is_planned_and_planned_anew_by_the_planners_model_and_answered_by_the_default_one() {
    let answer = "There is much to read [t5], and it is noted down [t1, t6]. The task t2 failed.";
    let (place, endpoint) = place([&*plan(), &*research(), answer]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let able = endpoint.section().replace("[llm]", "[models.able]").replace("tiny", "able");
    place.write("agents.toml", format!("{able}\n[planner]\nmodel = \"able\"\n{agents}"));
    let ended = run(&place, &[]);
    let stated = format!("{answer}\n\nNot done: t2 failed: no such city\n");
    assert_eq!((ended.code, ended.out.as_str()), (Some(0), &*stated), "{ended:?}");
    let asked: Vec<_> = std::iter::repeat_with(|| endpoint.request()["model"].clone()).take(3).collect();
    assert_eq!(asked, ["able", "able", "tiny"]);
}

#[test]
fn a_goal_whose_task_fails_is_replanned_to_success() {
    let answer = "There is much to read [t5], and it is noted down [t1, t6]. The task t2 failed.";
    let (place, endpoint) = place([&*plan(), &*research(), answer]);
    let ended = run(&place, &[]);
    insta::assert_snapshot!(shown(&ended, &["replan", "the planner"]));
    endpoint.request();
    let asked = endpoint.request();
    let question = asked["messages"][1]["content"].as_str().expect("text");
    let tasks: Vec<&str> = question.lines().filter(|line| line.starts_with("{\"task\"")).collect();
    let told: Vec<Value> = tasks.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let statuses: Vec<_> = told.iter().map(|task| (task["task"].as_str(), task["status"].as_str())).collect();
    let expected = [("t1", "succeeded"), ("t2", "failed or skipped"), ("t3", "lost"), ("t4", "lost")];
    assert_eq!(statuses, expected.map(|(task, status)| (Some(task), Some(status))));
    let ids = asked.pointer("/response_format/json_schema/schema/properties/tasks/items/properties/id/enum/0");
    assert_eq!(ids, Some(&json!("t5")), "{asked}");

    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db", "--output", "json"]).result();
    let of = |id: &str, key: &str| shown["tasks"][id][key].clone();
    assert_eq!((of("t2", "status"), of("t2", "replanned")), (json!("failed"), json!(1)));
    assert_eq!((of("t3", "status"), of("t6", "status")), (json!("skipped"), json!("succeeded")));
    let shown = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]).out;
    assert!(shown.contains("the rest of the plan was planned anew: replan 1"), "{shown}");
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]).out;
    assert!(logs.contains("replan 1: goes on with another remainder: - t3; - t4; + t5: research.research"), "{logs}");
}

#[test]
fn the_same_failure_is_not_replanned_twice() {
    let (place, _endpoint) = place([&*plan(), &*remainder(&[], &[fails("t5")]), "never asked for a third plan"]);
    let ended = run(&place, &["--replan", "9", "--output", "json"]);
    assert_eq!((ended.code, ended.task("t5").0.as_str()), (Some(1), "failed"), "{ended:?}");
    let help = &ended.result()["tasks"]["t5"]["error"]["help"];
    assert_eq!(help, "`t2` failed in the same way and was replanned, so it is not tried once more");
}

#[test]
fn an_empty_remainder_ends_the_run_with_what_is_done() {
    let (place, _endpoint) = place([&*plan(), &*remainder(&[], &[]), "Noted [t1]; t2 failed."]);
    let ended = run(&place, &[]);
    insta::assert_snapshot!(shown(&ended, &["replan"]));
}

#[test]
fn a_remainder_that_does_not_fit_the_run_is_repaired() {
    let reused = remainder(&["t3", "t1"], &[note("t4", "Again."), note("t5", "${{ tasks.t2.text }}")]);
    let (place, endpoint) = place([&*plan(), &*reused, &*research(), "Read [t5], noted [t1, t6]; t2 failed."]);
    let ended = run(&place, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    endpoint.request();
    endpoint.request();
    insta::assert_snapshot!(endpoint.request()["messages"][3]["content"].as_str().expect("text"));
}

#[test]
fn a_planner_that_never_answers_validly_leaves_the_failure_as_it_is() {
    let (place, _endpoint) = place([
        &*plan(),
        "Hm.",
        &*remainder(&["t9"], &[]),
        &*remainder(&["t3"], &[]),
        "Noted [t1]; t2, t3 and t4 are missing.",
    ]);
    let ended = run(&place, &[]);
    insta::assert_snapshot!(shown(&ended, &["replan"]));
}

#[test]
fn zero_replans_are_none() {
    let (place, _endpoint) = place([&*plan(), "Noted [t1]; t2, t3 and t4 are missing."]);
    let ended = run(&place, &["--replan", "0", "--output", "stream-json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(!ended.out.contains("replan_started"), "{}", ended.out);
}

/// A plan with a task that fails, and one that needs it.
fn written(keys: &str, on_failure: &str) -> String {
    format!(
        "name: notes\n{keys}tasks:\n  - {{ id: look, agent: odd-fails, tool: work{on_failure} }}\n  \
         - {{ id: note, needs: [look], agent: archive, tool: store_document, with: {{ title: t, text: x }} }}\n"
    )
}

#[test]
fn a_written_plan_is_replanned_where_a_task_or_the_command_line_says_so() {
    let rest = remainder(&[], &[note("t1", "Instead.")]);
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
        let (place, _endpoint) = place([&*rest]);
        let ended = place.run(&written(keys, on_failure), &arguments);
        assert_eq!(ended.code, Some(code), "{keys}{on_failure}{arguments:?}: {ended:?}");
        assert_eq!(ended.task("t1").0, if code == 0 { "succeeded" } else { "" });
    }
}

#[test]
fn without_a_model_a_plan_that_could_be_replanned_says_that_it_will_not_be() {
    let place = Place::new();
    place.agents(&["fails"]);
    let ended = place.run(&written("", ", on_failure: replan"), &[]);
    assert_eq!((ended.code, ended.task("note").0.as_str()), (Some(1), "skipped"), "{ended:?}");
    let warning = "a replan needs a language model, and none is configured: the failure counts as `fail`";
    assert!(ended.err.contains(warning), "{}", ended.err);
    let valid = place.kapell(&["validate", "plan.yaml", "--offline"]);
    assert!(valid.code == Some(0) && valid.err.contains(warning), "{valid:?}");
    let flag = place.run(&written("", ""), &["--replan", "1"]);
    assert!(flag.code == Some(2) && flag.err.contains("`--replan` needs a language model"), "{flag:?}");
}

#[test]
fn a_run_that_needs_a_yes_needs_one_for_its_new_remainder_too() {
    let answers = [&*plan(), &*research(), "Read [t5], noted [t1, t6]; t2 failed."];
    let said = |answer: &[&str]| {
        let (place, endpoint) = place(answers);
        let prompts = ["[Y/n, :cancel]> ", "[y/n, :cancel]> "];
        let steps: Vec<_> = prompts.into_iter().zip(answer.iter().copied()).collect();
        let arguments = ["run", GOAL, "--approve", "plan", "--journal", "journal.db"];
        let ended = typing(&place, &steps, None, &arguments);
        drop(endpoint);
        ended
    };
    let yes = said(&["y\n", "y\n"]);
    assert_eq!(yes.code, Some(0), "{yes:?}");
    assert!(yes.err.contains("replan 1: + t5: research.research, The t5"), "{}", yes.err);
    let no = said(&["y\n", "n\n"]);
    assert_eq!(no.code, Some(1), "{no:?}");
    assert!(no.err.contains("nothing changes: not approved"), "{}", no.err);
    let nobody = said(&["y\n", "\u{4}"]);
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
}
