//! `kapell answer` changes the arguments of a call that awaits approval.

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "name: x\ntasks:\n\
    \x20 - { id: keep, agent: archive, tool: store_document, with: { title: Notes, text: hello }, approve: Store it? }\n";

/// Returns a workspace with a run that is paused at the approval of `plan`.
fn paused(plan: &str) -> Workspace {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", plan);
    let ended = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    place
}

fn answer(place: &Workspace, options: &[&str]) -> CommandOutput {
    place.kapell(&[&["answer", "last", "q1"], options].concat())
}

/// Returns the arguments that the agent received.
fn sent_arguments(place: &Workspace) -> Value {
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    let shown = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
    shown["calls"][0]["arguments"].clone()
}

#[test]
fn one_argument_or_all_are_changed() {
    for (options, sent) in [
        (&["--field", "title=Other"][..], json!({"title": "Other", "text": "hello"})),
        (&["--field", "delay_ms=1", "--accept"], json!({"title": "Notes", "text": "hello", "delay_ms": 1})),
        (&["--arguments", r#"{"title": "A", "text": "b"}"#], json!({"title": "A", "text": "b"})),
        (&["--arguments", r#"{"title": "A", "text": "b"}"#, "--field", "title=C"], json!({"title": "C", "text": "b"})),
    ] {
        let place = paused(PLAN);
        let answered = answer(&place, options);
        assert_eq!(answered.code, Some(0), "{options:?}: {answered:?}");
        assert_eq!(sent_arguments(&place), sent, "{options:?}");
        let logs = place.kapell(&["logs", "last"]);
        assert!(logs.stdout.contains("accepted with changed arguments {\"title\":"), "{logs:?}");
    }
}

#[test]
fn arguments_that_do_not_fit_the_tool_are_refused() {
    let place = paused(PLAN);
    for (options, code, reason) in [
        (&["--arguments", r#"{"title": 3}"#][..], "cli::invalid_answer", "`/title` does not fit: 3 is not of type"),
        (&["--arguments", r#"{"title": "A"}"#], "cli::invalid_answer", "\"text\" is a required property"),
        (&["--field", "titel=A"], "cli::invalid_argument", "did you mean `title`?"),
        (&["--field", "delay_ms=soon"], "cli::invalid_argument", "`soon` does not fit: expected a whole number"),
    ] {
        let refused = answer(&place, options);
        assert_eq!((refused.code, refused.error_code()), (Some(2), code), "{options:?}: {refused:?}");
        assert!(refused.stderr.contains(reason), "{options:?}: {refused:?}");
    }
    for options in [&["--arguments", "[1]"][..], &["--arguments", "{}", "--decline"], &["--arguments", "{}", "--all"]] {
        assert_eq!(answer(&place, options).code, Some(2), "{options:?}");
    }
    // Nothing was answered.
    let questions = place.kapell(&["questions", "last", "--json"]).result();
    assert_eq!((&questions[0]["question"], &questions[0]["answer_waits"]), (&json!("q1"), &json!(false)));
}

#[test]
fn arguments_belong_to_approvals_of_calls() {
    let place = paused("name: x\ntasks:\n  - { id: keep, ask: { message: Continue? } }\n");
    let refused = answer(&place, &["--arguments", "{}"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::no_call"), "{refused:?}");
}

#[test]
fn long_arguments_are_replaced_as_a_whole() {
    let text = "x".repeat(20_000);
    let place = paused(&PLAN.replace("hello", &text));
    let refused = answer(&place, &["--field", "title=Other"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::invalid_answer"), "{refused:?}");
    assert!(refused.stderr.contains("set all of them with `--arguments`"), "{refused:?}");
    assert_eq!(answer(&place, &["--arguments", r#"{"title": "A", "text": "b"}"#]).code, Some(0));
    assert_eq!(sent_arguments(&place), json!({"title": "A", "text": "b"}));
}
