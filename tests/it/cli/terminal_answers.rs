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
    let program: Vec<_> = std::iter::once(kapell.get_program()).chain(kapell.get_args()).collect();
    let mut typist = typist(place, steps, piped);
    typist.args(program);
    CommandOutput::of(&mut typist)
}

/// Runs a shell command on a terminal of this type; `$KAPELL` is the program.
pub(crate) fn shell_at_terminal(place: &Workspace, term: &str, steps: &[(&str, &str)], script: &str) -> CommandOutput {
    let mut typist = typist(place, &json!(steps), None);
    typist.env("TYPIST_TERM", term).env("KAPELL", env!("CARGO_BIN_EXE_kapell")).args(["sh", "-c", script]);
    CommandOutput::of(&mut typist)
}

/// Returns a typist without its command.
fn typist(place: &Workspace, steps: &Value, piped: Option<&str>) -> Command {
    let kapell = place.command([""; 0]);
    let mut typist = Command::new("python3");
    typist
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/typist.py"))
        .args([steps.to_string(), json!(piped).to_string()])
        .current_dir(kapell.get_current_dir().expect("a folder"))
        .stdin(Stdio::null());
    for (name, value) in kapell.get_envs() {
        match value {
            Some(value) => typist.env(name, value),
            None => typist.env_remove(name),
        };
    }
    typist
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
    let ended = run_in_terminal(&place, &[("[y/n/a/e/?]> ", "n\n")], Some("yes\nmore\n"), &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("left in the pipe: yes\nmore\n"), "{}", ended.stderr);
    let answers = recorded_answers(&place);
    assert_eq!((&answers[0]["answer"]["action"], &answers[0]["by"]), (&json!("decline"), &json!("person at terminal")));
}

#[test]
fn questions_use_the_terminal_if_other_outputs_are_redirected() {
    for term in ["dumb", "xterm"] {
        let place = workspace();
        let script = "exec \"$KAPELL\" run plan.yaml > result.txt 2> log.txt";
        let ended = shell_at_terminal(&place, term, &[("[y/n/a/e/?]> ", "y\n")], script);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stderr.contains("task `a` needs approval"), "{}", ended.stderr);
        assert!(ended.stderr.contains("mode of the terminal: as before"), "{}", ended.stderr);
        let [log, result] =
            ["log.txt", "result.txt"].map(|name| std::fs::read_to_string(place.path(name)).expect(name));
        assert!(!log.contains("needs approval") && log.contains("succeeded"), "{log}");
        assert!(!result.is_empty() && !result.contains("needs approval"), "{result}");
    }
}

#[test]
fn list_that_a_script_reads_never_answers() {
    let place = workspace();
    place.write("list", "y\nyes\n");
    let script = "while read -r line; do \"$KAPELL\" run plan.yaml > /dev/null; echo \"$line: $?\"; done < list";
    let steps = [("[y/n/a/e/?]> ", "n\n"), ("[y/n/a/e/?]> ", "n\n")];
    let ended = shell_at_terminal(&place, "dumb", &steps, script);
    assert_eq!(ended.stdout, "y: 7\nyes: 7\n", "{ended:?}");
    let mut unattended = place.command([""; 0]);
    let mut shell = Command::new("setsid");
    shell.args(["sh", "-c", script]).env("KAPELL", unattended.get_program()).current_dir(place.path(""));
    shell.envs(unattended.stdin(Stdio::null()).get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ended = CommandOutput::of(&mut shell);
    assert_eq!(ended.stdout, "y: 4\nyes: 4\n", "{ended:?}");
}

#[test]
fn answers_are_edited_with_keys() {
    let place = workspace();
    let steps = [
        ("title> ", "Ntez\u{1b}[D\u{1b}[D\u{1b}[Do\u{5}\u{7f}s\r"),
        ("text> ", "\u{1b}[200~hello\nyou\n\u{1b}[201~\r"),
        ("change]> ", "\u{1b}[Z"),
        ("text [hello you]> ", "\u{1b}[A!\r"),
        ("2) text: hello you!", "\r"),
    ];
    let ended = shell_at_terminal(&place, "xterm", &steps, "exec \"$KAPELL\" call archive.store_document");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let bell = ended.stderr.matches('\u{7}').count();
    assert_eq!((bell, ended.stderr.contains("mode of the terminal: as before")), (1, true), "{}", ended.stderr);
    let shown = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
    assert_eq!(shown["calls"][0]["arguments"], json!({"title": "Notes", "text": "hello you!"}));
}

#[test]
fn mode_of_the_terminal_is_restored() {
    for (keys, end) in [
        ("ye", "kill -TERM $COMMAND"),
        ("ye", "kill -TERM $COMMAND; kill -TERM $COMMAND; kill -INT $COMMAND"),
        ("ye\u{3}", "true"),
    ] {
        let place = workspace();
        let steps = json!([["[y/n/a/e/?]> ", keys, end]]);
        let kapell = place.command(["run", "plan.yaml"]);
        let mut typist = typist(&place, &steps, None);
        typist.env("TYPIST_TERM", "xterm").arg(kapell.get_program()).args(kapell.get_args());
        let ended = CommandOutput::of(&mut typist);
        assert_eq!(ended.code, Some(130), "{end}: {ended:?}");
        assert!(ended.stderr.contains("left on the terminal: 0 bytes"), "{end}: {}", ended.stderr);
        assert!(ended.stderr.contains("mode of the terminal: as before"), "{end}: {}", ended.stderr);
    }
    // No run handles the signal yet. The shell reports it as 128 plus its number.
    let steps = [("title> ", "No\u{3}")];
    let script = "trap : INT; \"$KAPELL\" call archive.store_document; exit $?";
    let ended = shell_at_terminal(&workspace(), "xterm", &steps, script);
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert!(ended.stderr.contains("mode of the terminal: as before"), "{}", ended.stderr);
}

#[test]
fn approval_shows_the_call() {
    let place = workspace();
    let steps = [("[y/n/a/e/?]> ", "?\n"), ("[y/n/a/e/?]> ", "y\n")];
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
    let ended = run_in_terminal(&place, &[("[y/n/a/e/?]> ", "y\nhalf a li")], None, &["run", "plan.yaml"]);
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
        let steps = json!([["[y/n/a/e/?]> ", "ye", end]]);
        let ended = steps_at_terminal(&place, &steps, None, &["run", "plan.yaml"]);
        assert_eq!(ended.code, Some(code), "{end}: {ended:?}");
        assert!(ended.stderr.contains("left on the terminal: 0 bytes"), "{end}: {}", ended.stderr);
    }
    let ended = run_in_terminal(&workspace(), &[("[y/n/a/e/?]> ", "ye\u{3}")], None, &["run", "plan.yaml"]);
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
fn one_yes_can_be_for_all_calls_of_a_tool() {
    let place = workspace();
    place.write("plan.yaml", APPROVE_EACH);
    let steps = [("[y/n/a/e/?]> ", "y\n"), ("[y/n/a/e/?]> ", "a\n")];
    let ended = run_in_terminal(&place, &steps, None, &["run", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for shown in ["task `a[0]` needs approval, 1 of 3", "task `a[1]` needs approval, 2 of 3", "title: \"East\""] {
        assert!(ended.stderr.contains(shown), "{shown} is not in {}", ended.stderr);
    }
    let by: Vec<_> = recorded_answers(&place).iter().map(|answer| answer["by"].clone()).collect();
    let all = "person at terminal, for all of `archive.store_document`";
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
    // A single call can be approved for the calls of its tool that follow.
    place.write("plan.yaml", APPROVE);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(4));
    let single = place.kapell(&["answer", "last", "q1", "--accept", "--all"]);
    assert_eq!(single.code, Some(0), "{single:?}");
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!((resumed.code, recorded_answers(&place).len()), (Some(0), 1), "{resumed:?}");
}

#[test]
fn approved_arguments_can_be_changed_in_an_editor() {
    for term in ["dumb", "xterm"] {
        let place = workspace();
        let script = "VISUAL='sed -i s/hello/changed/' exec \"$KAPELL\" run plan.yaml";
        let steps = [("[y/n/a/e/?]> ", "e\r"), ("text: \"changed\"", ""), ("[y/n/e/?]> ", "y\r")];
        let ended = shell_at_terminal(&place, term, &steps, script);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let changed = json!({"title": "Notes", "text": "changed"});
        let answers = recorded_answers(&place);
        assert_eq!((&answers[0]["answer"]["content"], &answers[0]["by"]), (&changed, &json!("person at terminal")));
        let shown = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
        assert_eq!(shown["calls"][0]["arguments"], changed, "{shown}");
        let logs = place.kapell(&["logs", "last"]);
        assert!(logs.stdout.contains("accepted with changed arguments"), "{}", logs.stdout);
    }
}

#[test]
fn arguments_that_do_not_fit_are_not_called() {
    let place = workspace();
    let script = "VISUAL='sed -i s/title/name/' exec \"$KAPELL\" run -v plan.yaml";
    // The agent describes its tools when it is connected.
    let steps =
        [("connected to", ""), ("[y/n/a/e/?]> ", "e\n"), ("edit again? [Y/n]> ", "n\n"), ("[y/n/a/e/?]> ", "y\n")];
    let ended = shell_at_terminal(&place, "dumb", &steps, script);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("the arguments do not fit"), "{}", ended.stderr);
    assert_eq!(recorded_answers(&place)[0]["answer"], json!({"action": "accept"}));
}

#[test]
fn the_arguments_that_were_sent_are_shown_for_each_call() {
    let place = workspace();
    place.write("plan.yaml", APPROVE_EACH.replace(", approve: 'Store ${{ side }}?'", ""));
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(0));
    let shown = place.kapell(&["runs", "show", "last", "a[1]"]);
    let arguments =
        "    arguments\n        {\n          \"title\": \"East\",\n          \"text\": \"hello\"\n        }\n";
    assert!(shown.stdout.contains("\nattempt 1  archive.store_document  succeeded  "), "{shown:?}");
    assert!(shown.stdout.contains(arguments) && !shown.stdout.contains("North"), "{shown:?}");
    let task = place.kapell(&["runs", "show", "last", "a", "--output", "json"]).result();
    assert_eq!(task["calls"][2]["arguments"], json!({"title": "West", "text": "hello"}));
    let run = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
    let mut calls = task["calls"].as_array().expect("a list").clone();
    for call in &mut calls {
        let call = call.as_object_mut().expect("an object");
        call.retain(|key, _| ["task", "number", "agent", "tool", "arguments"].contains(&key.as_str()));
    }
    assert_eq!(run["calls"], Value::Array(calls));
    let unknown = place.kapell(&["runs", "show", "last", "b"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "cli::unknown_task"));
}
