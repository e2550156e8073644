//! Waits for files and for resources of agents: what ends them, and what changes while no process runs.

use std::fs;
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, wait_for, wait_for_status};

const JOURNAL: [&str; 2] = ["--journal", "j.db"];

/// Returns the text of a plan in `plans/features`.
fn feature(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/features").join(name)).expect("reads")
}

/// Starts the plan in the background of the test.
fn start(place: &Workspace, options: &[&str]) -> Child {
    place.start(&[&["run", "plan.yaml", "--no-input"], options, &JOURNAL].concat())
}

/// Waits until as many events of a kind are in the journal.
fn wait_for_events(place: &Workspace, kind: &str, count: usize) {
    wait_for(kind, || {
        let logs = place.kapell(&[&["logs", "last", "--output", "json"][..], &JOURNAL].concat());
        (logs.stdout.matches(&format!("\"{kind}\"")).count() >= count).then_some(())
    });
}

fn kill(place: &Workspace, child: &mut Child) {
    child.kill().expect("is killed");
    child.wait().expect("ends");
    wait_for_status(place, &["interrupted"]);
}

fn resume(place: &Workspace) -> CommandOutput {
    place.kapell(&[&["resume", "last", "--output", "json", "--no-input"][..], &JOURNAL].concat())
}

#[test]
fn file_ends_wait_when_it_is_there_and_when_it_changes() {
    let place = Workspace::new();
    place.write("agents.toml", "").write("plan.yaml", feature("wait-file.yaml"));
    fs::create_dir(place.path("wait-file")).expect("creates");
    let mut child = start(&place, &[]);
    wait_for_events(&place, "watch_started", 1);
    kill(&place, &mut child);

    let mut resumed = place.start(&["resume", "last", "--no-input", "--journal", "j.db"]);
    place.write("wait-file/report.txt", "one");
    wait_for_events(&place, "watch_baseline_recorded", 1);
    kill(&place, &mut resumed);
    // No process runs.
    place.write("wait-file/report.txt", "longer");
    let ended = resume(&place);
    assert_eq!((ended.code, &ended.result()["outputs"]), (Some(0), &json!({"first": 3, "second": 6})), "{ended:?}");
    let log = place.kapell(&["logs", "last", "--journal", "j.db"]);
    assert!(log.stdout.contains("waits for the file `wait-file/report.txt`"), "{log:?}");
    assert!(log.stdout.contains("waits for a change of the file"), "{log:?}");
}

/// Returns a workspace whose agent `archive` offers the contents of `state.json`.
fn watched(mode: &str) -> Workspace {
    let place = Workspace::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/watched.py");
    let (state, methods) = (place.path("state.json"), place.path("methods"));
    let agents =
        format!("[agents.archive]\ncommand = \"python3\"\nargs = [{script:?}, {state:?}, {methods:?}, {mode:?}]\n");
    place.write("agents.toml", agents).write("plan.yaml", feature("wait-resource.yaml"));
    place
}

#[test]
fn changed_resource_ends_wait() {
    for mode in ["subscribe", "poll"] {
        let place = watched(mode);
        place.write("state.json", "{\"n\": 1}");
        let mut child = start(&place, &["--param", "uri=state://1"]);
        wait_for_events(&place, "watch_baseline_recorded", 1);
        place.write("state.json", "{\"n\": 2}");
        assert_eq!(child.wait().expect("ends").code(), Some(0), "{mode}");
        let result = place.kapell(&["result", "last", "updated", "--output", "json", "--journal", "j.db"]);
        assert_eq!(result.result()["output"], json!({"n": 2}), "{mode}: {result:?}");
        let methods = fs::read_to_string(place.path("methods")).expect("reads");
        assert_eq!(methods.contains("resources/subscribe"), mode == "subscribe", "{methods}");
    }
}

#[test]
fn resource_that_changed_while_no_process_ran_ends_wait() {
    // A missing resource changes when it is there.
    for (before, after) in [(Some("{\"n\": 1}"), "{\"n\": 2}"), (None, "{\"n\": 3}")] {
        let place = watched("subscribe");
        if let Some(before) = before {
            place.write("state.json", before);
        }
        let mut child = start(&place, &["--param", "uri=state://1"]);
        wait_for_events(&place, "watch_baseline_recorded", 1);
        kill(&place, &mut child);
        place.write("state.json", after);
        let ended = resume(&place);
        let expected: Value = serde_json::from_str(after).expect("JSON");
        assert_eq!((ended.code, &ended.result()["outputs"]["contents"]), (Some(0), &expected), "{ended:?}");
    }
}

#[test]
fn cancelled_wait_ends_at_once() {
    let place = watched("subscribe");
    place.write("state.json", "{}");
    let mut child = start(&place, &["--param", "uri=state://1"]);
    wait_for_events(&place, "watch_baseline_recorded", 1);
    let cancelled = place.kapell(&["cancel", "last", "--journal", "j.db"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
}

#[test]
fn mistakes_in_waits_have_positions() {
    let place = Workspace::new();
    place.write("agents.toml", "");
    for (wait, code) in [
        ("{}", "plan::missing_key"),
        ("{ file: a, webhook: b }", "plan::two_works"),
        ("{ webhook: b, changed: true }", "plan::useless_key"),
        ("{ resource: 'a:1' }", "plan::missing_key"),
        ("{ resource: 'a:1', agent: unknown_one }", "plan::unknown_agent"),
    ] {
        place.write("plan.yaml", format!("tasks: [{{ id: a, wait: {wait} }}]\n"));
        let checked = place.kapell(&["validate", "plan.yaml"]);
        assert_eq!((checked.code, checked.error_code()), (Some(2), code), "{wait}: {checked:?}");
        assert!(checked.stderr.contains("plan.yaml:1:"), "{wait}: {checked:?}");
    }
}

#[test]
fn deadline_ends_waits() {
    let place = Workspace::new();
    place.write("agents.toml", "").write(
        "plan.yaml",
        "name: x\ndefaults: { deadline: 1ms }\ntasks:\n\
         \x20 - { id: file, wait: { file: a.txt }, deadline: 300ms, on_failure: continue }\n\
         \x20 - { id: signal, wait: { webhook: go }, deadline: 300ms, on_failure: continue }\n\
         \x20 - { id: nap, sleep: 400ms, needs: [signal] }\n\
         \x20 - { id: unlimited, wait: { webhook: later } }\n",
    );
    let mut child = start(&place, &[]);
    wait_for_events(&place, "task_ended", 3);
    kill(&place, &mut child);
    let signalled = place.kapell(&["signal", "last", "later", "--journal", "j.db"]);
    assert_eq!(signalled.code, Some(0), "{signalled:?}");
    let ended = resume(&place);
    let tasks = ended.result()["tasks"].clone();
    for (task, message) in [
        ("file", "the file `a.txt` was not there within 300ms"),
        ("signal", "the signal `go` did not arrive within 300ms"),
    ] {
        let error = &tasks[task]["error"];
        assert_eq!((&error["kind"], &error["message"]), (&json!("deadline_exceeded"), &json!(message)), "{ended:?}");
    }
    assert_eq!((&tasks["nap"]["status"], &tasks["unlimited"]["status"]), (&json!("succeeded"), &json!("succeeded")));
    let refused =
        place.write("plan.yaml", "tasks:\n  - { id: x, sleep: 1s, deadline: 1s }\n").kapell(&["validate", "plan.yaml"]);
    assert!(refused.stderr.contains("plan::useless_key"), "{refused:?}");
}
