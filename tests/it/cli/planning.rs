//! Goals that a scripted model plans over the demo agents: shown, saved and run.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::terminal_answers::{run_in_terminal, shell_at_terminal};
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace};

const GOAL: &str = "Plan a weekend in Lisbon and suggest what to read first";

/// Returns a workspace with the demo agents and a model with these replies.
fn workspace<'r>(answers: impl IntoIterator<Item = &'r str>) -> (Workspace, ScriptedEndpoint) {
    let endpoint = ScriptedEndpoint::with_replies(answers);
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.config_section()));
    (place, endpoint)
}

/// Returns a plan that researches Lisbon and stores a document about the first finding.
fn valid_plan() -> Value {
    json!({
        "tasks": [
            {
                "title": "What to read", "tool": "research.research",
                "args": {"topic": "Lisbon", "depth": 1, "delay_ms": 1}, "after": null, "each": null, "if": null,
            },
            {
                "title": "A note", "tool": "archive.store_document",
                "args": {
                    "title": "$1.findings[0].title", "text": "Read this first:\n\n{$1.findings[0].note}", "format": null,
                    "delay_ms": null,
                },
                "after": null, "each": null, "if": null,
            },
        ],
    })
}

/// Returns the same plan with a tool that the agent does not have.
fn plan_with_unknown_tool() -> String {
    valid_plan().to_string().replace("store_document", "store_documents")
}

/// Returns the command and its output, without what differs from run to run. The progress lines are removed, since they
/// come in the order in which agents answer.
fn normalized_output(place: &Workspace, ended: &CommandOutput) -> String {
    let err = ended.stderr.lines().filter(|line| !line.starts_with('[')).map(|line| format!("{line}\n")).collect();
    place.normalized_output(&CommandOutput { code: ended.code, stdout: ended.stdout.clone(), stderr: err })
}

/// Returns the path of a plan that was saved in a folder.
fn saved_plan(place: &Workspace, folder: &str) -> PathBuf {
    let entries = std::fs::read_dir(place.path(folder)).expect("saved").map(|entry| entry.expect("an entry").path());
    let is_plan = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    entries.into_iter().find(is_plan).expect("a plan")
}

#[test]
fn plan_command_writes_an_editable_plan() {
    let (place, endpoint) = workspace([&*valid_plan().to_string()]);
    let ended = place.kapell(&["plan", GOAL, "-o", "plan.yaml"]);
    insta::assert_snapshot!(normalized_output(&place, &ended));
    insta::assert_snapshot!("plan", std::fs::read_to_string(place.path("plan.yaml")).expect("written"));
    let request = endpoint.next_request();
    assert_eq!((&request["model"], request["messages"].as_array().map(Vec::len)), (&json!("tiny"), Some(2)));
    let prompt = request["messages"][1]["content"].as_str().expect("text");
    assert!(prompt.contains(GOAL) && prompt.contains("travel.book_trip"), "{prompt}");
    assert_eq!(place.kapell(&["validate", "plan.yaml"]).code, Some(0));
    let printed = place.kapell(&["plan", GOAL]);
    assert_eq!(printed.stdout, std::fs::read_to_string(place.path("plan.yaml")).expect("written"));
}

#[test]
fn goal_is_planned_and_run() {
    let (place, _endpoint) = workspace([&*valid_plan().to_string(), "Read the first one [t1]; it is noted down [t2]."]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    insta::assert_snapshot!(normalized_output(&place, &ended));
}

#[test]
fn spending_of_a_goal_includes_planning() {
    let (place, _endpoint) =
        workspace([&*plan_with_unknown_tool(), &*valid_plan().to_string(), "Read the first one [t1]; noted [t2]."]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--output", "json", "--journal", "journal.db"]);
    let calls = |llm: u64, tool: u64| {
        json!({
            "llm_calls": llm, "tool_calls": tool, "input_tokens": 12 * llm, "output_tokens": 3 * llm,
            "unreported_replies": 0,
        })
    };
    assert_eq!(ended.result()["spent"], calls(5, 2), "{ended:?}");
    let json = place.kapell(&["runs", "show", "last", "--output", "json", "--journal", "journal.db"]).result();
    let tasks = json!({"t1": calls(1, 1), "t2": calls(0, 1), "answer": calls(1, 0)});
    assert_eq!(json["spending"], json!({"planning": calls(3, 0), "tasks": tasks, "agents": {}}));
    let exchange = json["planning"]["exchanges"][1].clone();
    let usage = json!({"input_tokens": 12, "output_tokens": 3});
    assert_eq!((&exchange["model"], &exchange["usage"]), (&json!("tiny-7b"), &usage));
    assert_eq!(json["planning"]["goal"], GOAL);
    let text = place.kapell(&["runs", "show", "last", "--journal", "journal.db"]);
    let (head, spent) = text.stdout.split_once("\nspent\n").expect("a section");
    assert!(head.contains(GOAL), "{head}");
    insta::assert_snapshot!("spent", spent);
    let logs = place.kapell(&["logs", "last", "--journal", "journal.db"]);
    let planned = logs.stdout.lines().nth(1).and_then(|line| Some(&line[line.find("planned in ")?..]));
    insta::assert_snapshot!("planned_log", planned.expect("a second line"));
}

#[test]
fn unknown_tool_is_repaired() {
    let prose = format!("Here you are:\n```json\n{}\n```\nEnjoy!", valid_plan());
    let (place, endpoint) = workspace([&*plan_with_unknown_tool(), &*prose]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--dry-run"]);
    insta::assert_snapshot!(normalized_output(&place, &ended));
    endpoint.next_request();
    let messages = endpoint.next_request()["messages"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(4), "{messages}");
    assert_eq!(messages[2], json!({"role": "assistant", "content": plan_with_unknown_tool()}));
    insta::assert_snapshot!("repair", messages[3]["content"].as_str().expect("text"));
}

#[test]
fn invalid_plan_is_saved_with_diagnostics() {
    let nonsense = json!({"tasks": [
        {"title": "x", "after": [9], "tool": "missing.nothing", "args": {}},
        {"title": "y", "tool": "travel.book_trip", "args": "{city", "extra": true},
        {"title": "z", "tool": "research.research", "args": {"depth": 9, "topic": "$1.summary and {$7}"}},
    ]});
    let (place, endpoint) = workspace(["I cannot do that.", &*plan_with_unknown_tool(), &*nonsense.to_string()]);
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    insta::assert_snapshot!(normalized_output(&place, &ended));
    endpoint.next_request();
    let messages = endpoint.next_request()["messages"].clone();
    assert_eq!(messages[2]["content"], "I cannot do that.");
    let saved = saved_plan(&place, "journal.plans");
    let again = place.kapell(&["validate", saved.to_str().expect("UTF-8")]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert!(!place.path("journal.db").exists(), "nothing ran");
}

#[test]
fn unreadable_answer_is_saved() {
    let (place, _endpoint) = workspace(["I cannot do that.\nReally not."]);
    let ended = place.kapell(&["plan", GOAL, "-o", "plan.yaml"]);
    insta::assert_snapshot!(normalized_output(&place, &ended));
    assert!(!place.path("plan.yaml").exists());
    let saved = saved_plan(&place, "state/kapell/journal.plans");
    insta::assert_snapshot!("no_plan", std::fs::read_to_string(saved).expect("reads"));
}

#[test]
fn documented_models_plan_and_answer_a_goal() {
    let sections =
        include_str!("../../../docs/models.md").split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let models: Vec<&str> = sections.filter(|section| section.contains("\nprovider = ")).collect();
    assert_eq!(models.len(), 3, "OpenAI, Ollama and llama.cpp");
    for model in models {
        let (place, endpoint) =
            workspace([&*valid_plan().to_string(), "Read the first one [t1]; it is noted down [t2]."]);
        let demo = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
        let (_, agents) = demo.split_once("\n[agents").expect("the demo agents");
        let base_url = endpoint.config_section().lines().nth(1).map(str::to_owned).expect("an address");
        // As on the page, but with another address.
        place.write("agents.toml", format!("{model}{base_url}\n\n[agents{agents}"));
        let mut command = place.command(["run", GOAL, "--yes", "--no-input"]);
        let ended = CommandOutput::of(command.env("OPENAI_API_KEY", "key"));
        assert_eq!(ended.code, Some(0), "{model}\n{ended:?}");
        assert_eq!(ended.stdout, "Read the first one [t1]; it is noted down [t2].\n", "{model}");
        let requested = endpoint.next_request()["model"].clone();
        assert!(requested.as_str().is_some_and(|name| model.contains(name)), "{requested}");
    }
}

#[test]
fn goal_without_a_model_explains_the_configuration() {
    let place = Workspace::new();
    place.write_agents(&[]);
    for arguments in [vec!["run", GOAL], vec!["plan", GOAL]] {
        let ended = place.kapell(&arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{ended:?}");
        assert_eq!(ended.error_code(), "cli::no_model");
        insta::assert_snapshot!("no_model", ended.stderr);
    }
    let missing = place.kapell(&["run", "plans/lisbon.yml"]);
    assert_eq!((missing.code, missing.error_code()), (Some(2), "cli::unknown_plan"), "{missing:?}");
}

#[test]
fn approved_plan_runs_only_after_yes() {
    let (place, _endpoint) = workspace([&*valid_plan().to_string()]);
    let arguments = ["run", GOAL, "--approve", "plan", "--journal", "journal.db", "--output", "json"];
    let unapproved = place.kapell(&arguments);
    insta::assert_snapshot!(normalized_output(&place, &unapproved));
    assert!(!place.path("journal.db").exists(), "nothing ran");
    let run = |answer: &str| run_in_terminal(&place, &[("what to change> ", answer)], None, &arguments);
    let no = run("n\n");
    assert_eq!((no.code, no.stdout.as_str()), (Some(7), ""), "{no:?}");
    let yes = run("y\n");
    assert_eq!((yes.code, yes.task("t2").0.as_str()), (Some(0), "succeeded"), "{yes:?}");
    let saved = saved_plan(&place, "journal.plans");
    let written = place.kapell(&["run", saved.to_str().expect("UTF-8"), "--approve", "plan", "--no-input"]);
    assert_eq!((written.code, written.stdout.as_str()), (Some(4), ""), "{written:?}");
}

#[test]
fn terminal_shows_the_plan_of_a_goal_before_it_runs() {
    let (place, _endpoint) = workspace([&*valid_plan().to_string()]);
    let run = |steps: &[(&str, &str)], further: &[&str]| {
        let arguments = [&["run", GOAL, "--journal", "journal.db", "--output", "json"], further].concat();
        run_in_terminal(&place, steps, None, &arguments)
    };
    let no = run(&[("what to change> ", "n\n")], &[]);
    assert_eq!((no.code, no.stdout.as_str()), (Some(7), ""), "{no:?}");
    for task in ["t1 (What to read): research.research", "t2 (A note): archive.store_document"] {
        assert!(no.stderr.contains(task), "`{task}` is missing in:\n{}", no.stderr);
    }
    assert!(!place.path("journal.db").exists(), "nothing ran");
    let enter = run(&[("what to change> ", "\n")], &[]);
    assert_eq!((enter.code, enter.task("t2").0.as_str()), (Some(0), "succeeded"), "{enter:?}");
    for further in [&["--yes"][..], &["--yes", "--no-input"]] {
        let unattended = run(&[], further);
        assert_eq!((unattended.code, unattended.stderr.contains("what to change")), (Some(0), false), "{unattended:?}");
    }
}

#[test]
fn plan_of_a_goal_does_not_run_without_a_person_or_yes() {
    let (place, _endpoint) = workspace([&*valid_plan().to_string()]);
    let planned = place.kapell(&["run", GOAL, "--journal", "journal.db"]);
    assert_eq!((planned.code, planned.stdout.as_str()), (Some(4), ""), "{planned:?}");
    assert!(!place.path("journal.db").exists(), "nothing ran");
    let saved = saved_plan(&place, "journal.plans");
    assert!(
        planned.stderr.contains(&format!("`kapell run {}` runs it", saved.display()))
            || planned.stderr.contains("kapell run journal.plans/"),
        "{planned:?}"
    );
    let detached = place.kapell(&["run", GOAL, "--detach", "--journal", "journal.db"]);
    assert_eq!((detached.code, detached.error_code()), (Some(2), "cli::detached_goal"));
}

#[test]
fn plan_of_a_goal_can_be_changed_before_it_runs() {
    let (place, _endpoint) = workspace([&*valid_plan().to_string()]);
    // The first change makes a mistake, and the second one corrects it.
    place.write(
        "edit.sh",
        "if grep -q 'agent: research' \"$1\"; then sed -i 's/agent: research/agent: nowhere/' \"$1\"; \
        else sed -i 's/agent: nowhere/agent: research/; s/^name: .*/name: changed/' \"$1\"; fi\n",
    );
    let script = format!("VISUAL='sh edit.sh' exec \"$KAPELL\" run {GOAL:?} --journal journal.db --output json");
    let steps = [
        ("what to change> ", "e\n"),
        ("nowhere", ""),
        ("what to change> ", "e\n"),
        ("[Y]es / [e]dit / [n]o / what to change> ", "\n"),
    ];
    let ended = shell_at_terminal(&place, "dumb", &steps, &script);
    assert_eq!((ended.code, ended.task("t2").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    let runs = place.kapell(&["runs", "list", "--journal", "journal.db"]);
    assert!(runs.stdout.contains("changed"), "{runs:?}");
    let none = format!("unset VISUAL EDITOR; exec \"$KAPELL\" run {GOAL:?} --journal journal.db");
    let ended = shell_at_terminal(&place, "dumb", &[("what to change> ", "e\n"), ("what to change> ", "n\n")], &none);
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.stderr.contains("set `VISUAL` or `EDITOR`"), "{}", ended.stderr);
}

#[test]
fn planning_excludes_unavailable_agents() {
    let with_missing_agent = valid_plan().to_string().replace("archive.store_document", "gone.store_document");
    let (place, endpoint) = workspace([&*with_missing_agent, &*valid_plan().to_string()]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{agents}[agents.gone]\ncommand = \"no-such-program\"\n"));
    let ended = place.kapell(&["plan", GOAL]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("agent `gone`"), "{}", ended.stderr);
    let prompt = endpoint.next_request()["messages"][1]["content"].to_string();
    assert!(prompt.contains("archive.store_document") && !prompt.contains("gone."), "{prompt}");
    let repair = endpoint.next_request()["messages"].clone();
    assert_eq!(repair.as_array().map(Vec::len), Some(4), "{repair}");
}

#[test]
fn endpoint_failure_and_invalid_options_are_reported() {
    let (place, _endpoint) = workspace(["not requested"]);
    let inputs = place.kapell(&["run", GOAL, "--param", "city=Lisbon"]);
    assert_eq!((inputs.code, inputs.error_code()), (Some(2), "cli::goal_inputs"), "{inputs:?}");
    let folder = place.kapell(&["plan", GOAL, "-o", "nowhere/plan.yaml"]);
    assert_eq!((folder.code, folder.error_code()), (Some(2), "cli::no_directory"), "{folder:?}");
    let agents = "[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\ntimeout = \"1s\"\n";
    place.write("agents.toml", agents);
    let nothing = place.kapell(&["plan", GOAL]);
    assert_eq!((nothing.code, nothing.error_code()), (Some(1), "planner::no_tools"), "{nothing:?}");
    place.write_agents(&[]);
    let demo = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{agents}{demo}"));
    let unreachable = place.kapell(&["plan", GOAL]);
    assert_eq!((unreachable.code, unreachable.error_code()), (Some(1), "planner::model_failed"), "{unreachable:?}");
    assert!(unreachable.stderr.contains("http://127.0.0.1:9/v1"), "{unreachable:?}");
}
