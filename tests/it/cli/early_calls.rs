//! Calls that start while the model still writes their plan (`speculate`).

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::scripted_endpoint::{ScriptedEndpoint, reply_sequence};
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

const GOAL: &str = "Take two steps";
const ANSWER: &str = "Both steps are done [t1] [t2].";
const RUN: [&str; 6] = ["run", GOAL, "--yes", "--no-input", "--journal", "j.db"];

/// Returns a plan of two steps. The first one is complete in the first half of the text.
fn plan(first: &str, second: &str) -> String {
    let task = |title: String, label: &str| json!({"title": title, "tool": "steps.step", "args": {"label": label}});
    let long = format!("The second step, after {}", "a long title ".repeat(8));
    json!({"tasks": [task("The first step".to_owned(), first), task(long, second)]}).to_string()
}

/// Returns a workspace with the agent `steps`, with further keys of its section, and a model with these replies. In the
/// middle of each reply, the model waits for `pause`.
fn workspace(
    (planner, agent): (&str, &str),
    replies: &[&str],
    pause: impl Fn(&Path) + Send + Sync + 'static,
) -> (Workspace, ScriptedEndpoint) {
    let place = Workspace::new();
    let folder = place.path("");
    let endpoint = ScriptedEndpoint::start(reply_sequence(replies.iter().copied()), move || pause(&folder));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/steps.py");
    let section =
        format!("[agents.steps]\ncommand = \"python3\"\nargs = [{script:?}, {:?}]\n{agent}\n", place.path(""));
    place.write("agents.toml", format!("{}\n[planner]\n{planner}\n{section}", endpoint.config_section()));
    (place, endpoint)
}

/// A model that waits until the first step was called.
fn until_called(folder: &Path) {
    wait_for("an early call", || std::fs::read_to_string(folder.join("calls")).ok()?.contains("a\n").then_some(()));
}

/// Returns what the agent saw.
fn calls(place: &Workspace) -> Vec<String> {
    let calls = std::fs::read_to_string(place.path("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

/// Returns whether the results of the tasks `t1` and `t2` are from early calls.
fn early(place: &Workspace) -> Vec<bool> {
    let events = place.logged_events("j.db", "attempt_succeeded");
    let is_early = |task: &str| {
        let event = events.iter().find(|event| event["attempt"]["task"] == task).expect("it succeeded");
        event["output"]["early"] == json!(true)
    };
    ["t1", "t2"].map(is_early).into()
}

fn discarded(place: &Workspace) -> Value {
    place.logged_events("j.db", "goal_planned")[0]["discarded_calls"].clone()
}

fn tool_calls(place: &Workspace) -> Value {
    place.kapell(&["result", "--journal", "j.db", "--json"]).result()["spent"]["tool_calls"].clone()
}

#[test]
fn result_of_an_early_call_is_used() {
    let (place, _endpoint) =
        workspace(("speculate = true", "effect = \"read_only\""), &[&plan("a", "b"), ANSWER], until_called);
    let ended = place.kapell(&RUN);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), ANSWER), "{ended:?}");
    assert!(
        ended.stderr.contains("  calling steps.step {\"label\":\"a\"} while the plan is written\n"),
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains("discarded"), "{}", ended.stderr);
    let mut seen = calls(&place);
    seen.sort();
    assert_eq!((seen, early(&place)[0], tool_calls(&place)), (vec!["a".into(), "b".into()], true, json!(2)));
    let logs = place.kapell(&["logs", "last", "--journal", "j.db"]);
    assert!(logs.stdout.contains("; called while the plan was written"), "{}", logs.stdout);
}

#[test]
fn call_in_progress_is_used_and_survives_a_crash() {
    let start = || {
        let (place, endpoint) =
            workspace(("speculate = true", "effect = \"read_only\""), &[&plan("a", "b"), ANSWER], until_called);
        place.write("hold-a", "");
        let child = place.start(&RUN);
        place.wait_for_attempt("t1", &["--journal", "j.db"]);
        (place, endpoint, child)
    };
    let (place, _endpoint, child) = start();
    std::fs::remove_file(place.path("hold-a")).expect("it was there");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("it ends"));
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), ANSWER), "{ended:?}");
    assert_eq!((calls(&place).iter().filter(|call| *call == "a").count(), early(&place)[0]), (1, true));

    let (place, _endpoint, mut child) = start();
    send_signal(&child, "KILL");
    child.wait().expect("it ends");
    std::fs::remove_file(place.path("hold-a")).expect("it was there");
    let ended = place.kapell(&["resume", "last", "--no-input", "--journal", "j.db"]);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), ANSWER), "{ended:?}");
    assert_eq!((calls(&place).iter().filter(|call| *call == "a").count(), early(&place)[0]), (2, false));
}

#[test]
fn call_that_the_plan_lacks_is_cancelled_and_named() {
    let invalid = plan("a", "b").replace("\"label\":\"b\"", "\"label\":7");
    let (place, _endpoint) = workspace(
        ("speculate = true", "effect = \"read_only\""),
        &[&invalid, &plan("c", "d"), "Both are done [t1] [t2]."],
        until_called,
    );
    place.write("hold-a", "");
    let ended = place.kapell(&RUN);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let name = "discarded early call: steps.step {\"label\":\"a\"} (no task uses its result)\n";
    assert!(ended.stderr.contains(name), "{}", ended.stderr);
    let expected = json!([{"agent": "steps", "tool": "step", "arguments": {"label": "a"}, "reason": "unused"}]);
    assert_eq!((discarded(&place), tool_calls(&place)), (expected, json!(3)));
    let seen = calls(&place);
    assert!(seen.contains(&"a cancelled".to_owned()) && seen.contains(&"c".to_owned()), "{seen:?}");
    let logs = place.kapell(&["logs", "last", "--journal", "j.db"]);
    assert!(
        logs.stdout.contains("; discarded early calls: steps.step {\"label\":\"a\"} (no task uses its result)"),
        "{logs:?}"
    );
}

#[test]
fn early_calls_are_opt_in_and_change_nothing() {
    for settings in [
        ("speculate = true", ""),
        ("speculate = true", "effect = \"idempotent\""),
        ("speculate = false", "effect = \"read_only\""),
        ("", "effect = \"read_only\""),
    ] {
        let (place, _endpoint) = workspace(settings, &[&plan("a", "b"), ANSWER], |_| ());
        let ended = place.kapell(&RUN);
        assert_eq!((ended.code, early(&place)), (Some(0), vec![false, false]), "{settings:?}: {ended:?}");
        assert!(!ended.stderr.contains("while the plan is written"), "{settings:?}: {}", ended.stderr);
        assert_eq!(calls(&place).len(), 2, "{settings:?}");
    }
    // A plan that is not run needs no results.
    let (place, _endpoint) = workspace(("speculate = true", "effect = \"read_only\""), &[&plan("a", "b")], |_| ());
    for arguments in [&["plan", GOAL][..], &["run", GOAL, "--dry-run"]] {
        assert_eq!((place.kapell(arguments).code, calls(&place)), (Some(0), Vec::new()), "{arguments:?}");
    }
}

#[test]
fn early_calls_of_a_rejected_plan_are_named() {
    let (place, _endpoint) =
        workspace(("speculate = true", "effect = \"read_only\""), &[&plan("a", "b"), ANSWER], until_called);
    place.write("hold-a", "");
    let steps = [("what to change> ", "n\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", GOAL, "--journal", "j.db"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(
        ended.stderr.contains("discarded early call: steps.step {\"label\":\"a\"} (no task uses its result)"),
        "{ended:?}"
    );
    assert!(!place.path("j.db").exists(), "nothing ran");
}

#[test]
fn failed_early_call_is_made_again() {
    let pause = |folder: &Path| {
        until_called(folder);
        if folder.join("fail-a").exists() {
            wait_for("the failure", || folder.join("failed-a").exists().then_some(()));
            std::fs::remove_file(folder.join("fail-a")).expect("it was there");
        }
    };
    let (place, _endpoint) =
        workspace(("speculate = true", "effect = \"read_only\""), &[&plan("a", "b"), ANSWER], pause);
    place.write("fail-a", "");
    let ended = place.kapell(&RUN);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), ANSWER), "{ended:?}");
    assert_eq!((calls(&place).iter().filter(|call| *call == "a").count(), early(&place)[0]), (2, false));
    let started = place.logged_events("j.db", "attempt_started");
    assert_eq!(started.iter().filter(|event| event["attempt"]["task"] == "t1").count(), 1, "{started:?}");
}

#[test]
fn early_call_that_asks_for_something_is_made_in_the_run() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
    let plan = json!({"tasks": [{"title": "Read", "tool": "research.research", "args": arguments}]}).to_string();
    let endpoint = ScriptedEndpoint::with_replies([&*plan, "Much to read [t1]."]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let settings = format!("{}\n[planner]\nspeculate = true\n", endpoint.config_section());
    place.write("agents.toml", format!("{settings}\n{agents}"));
    let ended = place.kapell(&RUN);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "Much to read [t1].\n"), "{ended:?}");
    assert!(ended.stderr.contains("  calling research.research {\"topic\":\"Lisbon\""), "{}", ended.stderr);
    let output = place.logged_events("j.db", "attempt_succeeded")[0]["output"].clone();
    assert_eq!((&output["early"], &output["structured"]["summarised"]), (&Value::Null, &json!(true)), "{output}");
    // The agent's request is one of the run: after the plan, and before the check of the goal.
    let requests: Vec<Value> = (0..4).map(|_| endpoint.next_request()).collect();
    let is_summary = |request: &Value| request.to_string().contains("Summarize this reading list");
    assert_eq!(requests.iter().map(is_summary).collect::<Vec<_>>(), [false, true, false, false]);
}
