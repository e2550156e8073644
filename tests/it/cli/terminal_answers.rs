//! Answers at a terminal come only from the person: not from a pipe, and not from text that was typed before.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace};

/// Runs kapell on a terminal, and types each text once the text before it is shown. `piped` replaces standard input.
pub(crate) fn run_in_terminal(
    place: &Workspace,
    steps: &[(&str, &str)],
    piped: Option<&str>,
    arguments: &[&str],
) -> CommandOutput {
    steps_at_terminal(place, &json!(steps), piped, arguments)
}

fn steps_at_terminal(place: &Workspace, steps: &Value, piped: Option<&str>, arguments: &[&str]) -> CommandOutput {
    let kapell = place.command(arguments);
    let mut typist = Command::new("python3");
    typist
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/typist.py"))
        .args([steps.to_string(), json!(piped).to_string()])
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
    CommandOutput::of(&mut typist)
}

const APPROVE: &str = "name: x\ntasks:\n\
    \x20 - { id: a, agent: archive, tool: store_document, with: { title: Notes, text: hello }, approve: Store it? }\n";

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", APPROVE);
    place
}

fn recorded_answers(place: &Workspace) -> Vec<Value> {
    let logs = place.kapell(&["logs", "last", "--output", "json"]);
    let events = logs.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|event| event["type"] == "question_answered").collect()
}

#[test]
fn piped_input_never_answers() {
    let place = workspace();
    let mut command = place.command(["run", "plan.yaml"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"y\nyes\n").expect("taken");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("ends"));
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(recorded_answers(&place).is_empty());
}

#[test]
fn questions_use_the_terminal_if_stdin_is_a_pipe() {
    let place = workspace();
    let ended = run_in_terminal(&place, &[("[y/n, :cancel]> ", "n\n")], Some("yes\nmore\n"), &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("left in the pipe: yes\nmore\n"), "{}", ended.stderr);
    let answers = recorded_answers(&place);
    assert_eq!((&answers[0]["answer"]["action"], &answers[0]["by"]), (&json!("decline"), &json!("person at terminal")));
}

#[test]
fn approval_shows_the_call() {
    let place = workspace();
    let steps = [("[y/n, :cancel]> ", "?\n"), ("[y/n, :cancel]> ", "y\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for shown in ["call: archive.store_document (", "title: \"Notes\"", "text: \"hello\"", "`y` approves"] {
        assert!(ended.stderr.contains(shown), "{shown} is not in {}", ended.stderr);
    }
    assert_eq!(recorded_answers(&place)[0]["by"], "person at terminal");
}

#[test]
fn open_approval_is_listed_with_its_call() {
    let place = workspace();
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(4));
    let listed = place.kapell(&["questions"]);
    assert!(
        listed.stdout.contains("call: archive.store_document (") && listed.stdout.contains("title: \"Notes\""),
        "{listed:?}"
    );
    let listed: Value = serde_json::from_str(&place.kapell(&["questions", "--output", "json"]).stdout).expect("JSON");
    let call = &listed[0]["call"];
    assert_eq!((&call["agent"], &call["tool"]), (&json!("archive"), &json!("store_document")));
    assert_eq!(call["arguments"], json!({"title": "Notes", "text": "hello"}));
    assert!(call["effect"].is_string(), "{call}");
}

#[test]
fn pending_input_is_discarded_after_a_question() {
    let place = workspace();
    let ended = run_in_terminal(&place, &[("[y/n, :cancel]> ", "y\nhalf a li")], None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("left on the terminal: 0 bytes"), "{}", ended.stderr);
}

#[test]
fn partial_line_never_reaches_the_shell() {
    let kapell = env!("CARGO_BIN_EXE_kapell");
    for (end, code) in [
        (format!("{kapell} answer last q1 --accept"), 0),
        ("kill -TERM $COMMAND".to_owned(), 130),
        ("kill -TERM $COMMAND; kill -TERM $COMMAND; kill -INT $COMMAND".to_owned(), 130),
    ] {
        let place = workspace();
        let steps = json!([["[y/n, :cancel]> ", "ye", end]]);
        let ended = steps_at_terminal(&place, &steps, None, &["run", "plan.yaml"]);
        assert_eq!(ended.code, Some(code), "{end}: {ended:?}");
        assert!(ended.stderr.contains("left on the terminal: 0 bytes"), "{end}: {}", ended.stderr);
    }
    let ended = run_in_terminal(&workspace(), &[("[y/n, :cancel]> ", "ye\u{3}")], None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("left on the terminal: 0 bytes"), "{}", ended.stderr);
}

#[test]
fn answer_rules_are_read_from_a_file_or_stdin() {
    let place = workspace();
    let mut command = place.command(["run", "plan.yaml", "--answers", "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    child.stdin.take().expect("piped").write_all(b"answers: [{ task: a, accept: true }]\n").expect("taken");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("ends"));
    assert_eq!((ended.code, &recorded_answers(&place)[0]["by"]), (Some(0), &json!("answers file")), "{ended:?}");
}

const APPROVE_EACH: &str = "name: x\ntasks:\n\
    \x20 - { id: a, foreach: [North, East, West], as: side, agent: archive, tool: store_document, \
    with: { title: '${{ side }}', text: hello }, approve: 'Store ${{ side }}?' }\n";

#[test]
fn one_yes_can_be_for_all_calls_of_a_task() {
    let place = workspace();
    place.write("plan.yaml", APPROVE_EACH);
    let steps = [("[y/n/a, :cancel]> ", "y\n"), ("[y/n/a, :cancel]> ", "a\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for shown in ["task `a[0]` needs approval, 1 of 3", "task `a[1]` needs approval, 2 of 3", "title: \"East\""] {
        assert!(ended.stderr.contains(shown), "{shown} is not in {}", ended.stderr);
    }
    let by: Vec<_> = recorded_answers(&place).iter().map(|answer| answer["by"].clone()).collect();
    let all = "person at terminal, for all of `a`";
    assert_eq!(by, ["person at terminal", "person at terminal", all]);
}

#[test]
fn answer_all_accepts_every_item_even_after_resume() {
    let place = workspace();
    place.write("plan.yaml", APPROVE_EACH);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(4));
    let listed: Value = serde_json::from_str(&place.kapell(&["questions", "--output", "json"]).stdout).expect("JSON");
    assert_eq!(listed[1]["item"], json!({"number": 2, "of": 3}));
    for wrong in [&["--all"][..], &["--all", "--decline"]] {
        assert_eq!(place.kapell(&[&["answer", "last", "q2"], wrong].concat()).code, Some(2));
    }
    let answered = place.kapell(&["answer", "last", "q2", "--accept", "--all"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!((resumed.code, recorded_answers(&place).len()), (Some(0), 3), "{resumed:?}");
    // A question about a single call has no "all further calls" option.
    place.write("plan.yaml", APPROVE);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(4));
    let single = place.kapell(&["answer", "last", "q1", "--accept", "--all"]);
    assert_eq!((single.code, single.error_code()), (Some(2), "cli::not_an_item"));
}

#[test]
fn the_arguments_that_were_sent_are_shown_for_each_call() {
    let place = workspace();
    place.write("plan.yaml", APPROVE_EACH.replace(", approve: 'Store ${{ side }}?'", ""));
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(0));
    let shown = place.kapell(&["runs", "show", "last", "a[1]"]);
    let call = "a[1]#1  archive.store_document\n    {\n      \"title\": \"East\",\n      \"text\": \"hello\"\n    }\n";
    assert!(shown.stdout.contains(call) && !shown.stdout.contains("North"), "{shown:?}");
    let task = place.kapell(&["runs", "show", "last", "a", "--output", "json"]).result();
    assert_eq!(task["calls"][2]["arguments"], json!({"title": "West", "text": "hello"}));
    let run = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
    assert_eq!(
        run["calls"],
        task["calls"]
            .as_array()
            .map(|calls| calls
                .iter()
                .map(|call| {
                    let mut call = call.clone();
                    call.as_object_mut().expect("an object").remove("error");
                    call
                })
                .collect::<Value>())
            .expect("a list")
    );
    let unknown = place.kapell(&["runs", "show", "last", "b"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "cli::unknown_task"));
}
