//! Who answers at a terminal, and that nothing else does: neither a pipe nor what was typed for something else.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::support::{Ended, Place};

/// Runs kapell on a terminal, and types each text once what precedes it is shown. `piped` replaces standard input.
pub(crate) fn typing(place: &Place, steps: &[(&str, &str)], piped: Option<&str>, arguments: &[&str]) -> Ended {
    let kapell = place.command(arguments);
    let mut typist = Command::new("python3");
    typist
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/typist.py"))
        .args([json!(steps).to_string(), json!(piped).to_string()])
        .arg(kapell.get_program())
        .args(kapell.get_args())
        .current_dir(kapell.get_current_dir().expect("a folder"))
        .stdin(Stdio::null());
    for (name, value) in kapell.get_envs() {
        match value {
            Some(value) => typist.env(name, value),
            None => typist.env_remove(name),
        };
    }
    Ended::of(typist.output().expect("python3 starts"))
}

const APPROVE: &str = "name: x\ntasks:\n\
    \x20 - { id: a, agent: archive, tool: store_document, with: { title: Notes, text: hello }, approve: Store it? }\n";

fn place() -> Place {
    let place = Place::new();
    place.agents(&[]).write("plan.yaml", APPROVE);
    place
}

fn answers(place: &Place) -> Vec<Value> {
    let logs = place.kapell(&["logs", "last", "--output", "json"]);
    let events = logs.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|event| event["type"] == "question_answered").collect()
}

#[test]
fn a_pipe_never_answers_whatever_it_says() {
    let place = place();
    let mut command = place.command(["run", "plan.yaml"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"y\nyes\n").expect("taken");
    let ended = Ended::of(child.wait_with_output().expect("ends"));
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(answers(&place).is_empty());
}

#[test]
fn beside_a_pipe_the_person_is_asked_on_the_terminal_and_the_pipe_is_left_alone() {
    let place = place();
    let ended = typing(&place, &[("[y/n, :cancel]> ", "n\n")], Some("yes\nmore\n"), &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.err.contains("left in the pipe: yes\nmore\n"), "{}", ended.err);
    let answers = answers(&place);
    assert_eq!((&answers[0]["answer"]["action"], &answers[0]["by"]), (&json!("decline"), &json!("person at terminal")));
}

#[test]
fn an_approval_shows_the_call_and_explains_itself() {
    let place = place();
    let steps = [("[y/n, :cancel]> ", "?\n"), ("[y/n, :cancel]> ", "y\n")];
    let ended = typing(&place, &steps, None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for shown in ["call: archive.store_document (", "title: \"Notes\"", "text: \"hello\"", "`y` says yes"] {
        assert!(ended.err.contains(shown), "{shown} is not in {}", ended.err);
    }
    assert_eq!(answers(&place)[0]["by"], "person at terminal");
}

#[test]
fn an_open_approval_is_listed_with_its_call() {
    let place = place();
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(4));
    let listed = place.kapell(&["questions"]);
    assert!(
        listed.out.contains("call: archive.store_document (") && listed.out.contains("title: \"Notes\""),
        "{listed:?}"
    );
    let listed: Value = serde_json::from_str(&place.kapell(&["questions", "--output", "json"]).out).expect("JSON");
    let call = &listed[0]["call"];
    assert_eq!((&call["agent"], &call["tool"]), (&json!("archive"), &json!("store_document")));
    assert_eq!(call["arguments"], json!({"title": "Notes", "text": "hello"}));
    assert!(call["effect"].is_string(), "{call}");
}

#[test]
fn what_was_typed_for_a_question_reaches_neither_the_next_one_nor_the_shell() {
    let place = place();
    let ended = typing(&place, &[("[y/n, :cancel]> ", "y\nhalf a li")], None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.err.contains("left on the terminal: 0 bytes"), "{}", ended.err);
}

#[test]
fn rules_come_from_a_file_or_from_standard_input_when_that_is_asked_for() {
    let place = place();
    let mut command = place.command(["run", "plan.yaml", "--answers", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"answers: [{ task: a, accept: true }]\n").expect("taken");
    let ended = Ended::of(child.wait_with_output().expect("ends"));
    assert_eq!((ended.code, &answers(&place)[0]["by"]), (Some(0), &json!("answers file")), "{ended:?}");
}
