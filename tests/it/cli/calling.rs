//! `kapell call`: arguments typed by the schema of the tool, questions for missing ones, and a run like any other.

use serde_json::{Value, json};

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::workspace::{CommandOutput, Workspace};

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.write_agents(&[]);
    place
}

fn call(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    place.kapell(&[&["call"], arguments].concat())
}

/// Returns the arguments of the latest call.
fn sent_arguments(place: &Workspace) -> Value {
    let shown = place.kapell(&["runs", "show", "last", "--output", "json"]).result();
    shown["calls"][0]["arguments"].clone()
}

#[test]
fn arguments_are_typed_by_the_schema_and_the_call_is_a_run() {
    let place = workspace();
    let called = call(&place, &["archive.store_document", "title=1.0", "text=${{ inputs }} 007"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert!(called.stdout.contains("archive:///"), "{called:?}");
    assert!(!called.stdout.starts_with('#'), "{called:?}");
    // Text that looks like a number or an expression stays text.
    assert_eq!(sent_arguments(&place), json!({"title": "1.0", "text": "${{ inputs }} 007"}));

    let listed = place.kapell(&["runs", "list"]);
    assert!(listed.stdout.contains("archive.store_document") && listed.stdout.contains("succeeded"), "{listed:?}");
    assert_eq!(place.kapell(&["result"]).stdout, called.stdout);
}

#[test]
fn json_gives_arguments_and_pairs_replace_them() {
    let place = workspace();
    let given = r#"{"title": "from JSON", "text": "kept"}"#;
    let called = call(&place, &["archive.store_document", "--json", given, "title=from pair", "--output", "json"]);
    assert_eq!(called.code, Some(0), "{called:?}");
    assert_eq!(called.result()["tasks"]["store_document"]["status"], "succeeded");
    assert_eq!(sent_arguments(&place), json!({"title": "from pair", "text": "kept"}));
}

#[test]
fn wrong_calls_are_explained_and_nothing_runs() {
    let place = workspace();
    let store = "archive.store_document";
    for (arguments, code, reason) in [
        (&[store, "title=x"][..], "cli::missing_argument", "requires `text`"),
        (&[store, "title=x", "txet=y"], "cli::invalid_argument", "did you mean `text`?"),
        (&[store, "title"], "cli::invalid_argument", "NAME=VALUE"),
        (&["archive.store_documnt"], "cli::unknown_tool", "did you mean `archive.store_document`?"),
        (&["archve.store_document"], "cli::unknown_agent", "archive"),
        (&["archive"], "cli::invalid_target", "AGENT.TOOL"),
    ] {
        let refused = call(&place, arguments);
        assert_eq!((refused.code, refused.error_code()), (Some(2), code), "{refused:?}");
        assert!(refused.stderr.contains(reason), "{refused:?}");
    }
    let refused = call(&place, &[store, "--json", "[1]"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("expected a JSON object"), "{refused:?}");
    assert!(!place.path("state/kapell/journal.db").exists());

    place.write("agents.toml", "[agents.gone]\ncommand = \"./missing\"\n");
    let failed = call(&place, &["gone.tool"]);
    assert!(failed.code == Some(6) && failed.stderr.contains("/missing` cannot be started"), "{failed:?}");
}

#[test]
fn missing_arguments_are_asked_for_at_a_terminal() {
    let place = workspace();
    let steps = [("title> ", "Notes\n"), ("text> ", "hello\n"), ("change]> ", "\n")];
    let called = run_in_terminal(&place, &steps, None, &["call", "archive.store_document"]);
    assert!(called.stdout.contains("archive:///"), "{called:?}");
    assert_eq!(sent_arguments(&place), json!({"title": "Notes", "text": "hello"}));

    let steps = [("title> ", ":cancel\n")];
    let cancelled = run_in_terminal(&place, &steps, None, &["call", "archive.store_document"]);
    assert_eq!(cancelled.stdout, "", "{cancelled:?}");
}

#[test]
fn commands_that_show_offers_start_an_agent_once() {
    let place = Workspace::new();
    let script = "echo x >> starts; exec \"$1\" demo-agent archive\n";
    place.write("start.sh", script);
    place.write("agents.toml", "[agents.box]\ncommand = \"sh\"\nargs = [\"start.sh\", \"${KAPELL}\"]\n");
    place.write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: a, agent: box, tool: store_document, with: { title: a, text: b } }\n",
    );
    let starts = || std::fs::read(place.path("starts")).map_or(0, |starts| starts.len() / 2);

    let first = place.kapell(&["agents", "tools", "--output", "json"]);
    assert_eq!((first.code, starts()), (Some(0), 1), "{first:?}");
    for command in [&["agents", "tools", "--output", "json"][..], &["validate", "plan.yaml"], &["agents", "prompts"]] {
        assert_eq!(place.kapell(command).code, Some(0), "{command:?}");
    }
    assert_eq!(starts(), 1);
    let again = place.kapell(&["agents", "tools", "--output", "json", "--refresh"]);
    assert_eq!((&again.stdout, starts()), (&first.stdout, 2));

    // A run always asks, and so does a test.
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(0));
    assert_eq!(place.kapell(&["agents", "test"]).code, Some(0));
    assert_eq!(starts(), 4);
    // The program has changed since.
    place.write("start.sh", format!("{script}\n"));
    assert_eq!(place.kapell(&["agents", "tools"]).code, Some(0));
    assert_eq!(starts(), 5);
}

#[test]
fn tools_are_shown_with_their_types() {
    let place = workspace();
    let listed = place.kapell(&["agents", "tools", "archive"]);
    assert!(listed.stdout.contains("archive.store_document(title: string, text: string"), "{listed:?}");
    let shown = place.kapell(&["agents", "tools", "archive.store_document"]);
    assert!(shown.stdout.contains("\narguments\n    title: string\n"), "{shown:?}");
    let json = place.kapell(&["agents", "tools", "archive.store_document", "--output", "json"]).result();
    assert_eq!((&json["name"], &json["input_schema"]["type"]), (&json!("store_document"), &json!("object")));
}

#[test]
fn shells_complete_runs_agents_tools_and_arguments() {
    let place = workspace();
    let complete = |words: &[&str]| -> Vec<String> {
        let mut command = place.command([&["--", "kapell"], words].concat());
        let completed = CommandOutput::of(command.env("COMPLETE", "fish"));
        assert_eq!(completed.code, Some(0), "{completed:?}");
        completed.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(complete(&["agents", "test", "re"]), ["research"]);
    // No agent was asked yet, and completion starts none.
    assert_eq!(complete(&["call", "archive."]), Vec::<String>::new());
    assert_eq!(call(&place, &["archive.store_document", "title=a", "text=b"]).code, Some(0));
    assert_eq!(complete(&["call", "archive.st"]), ["archive.store_document"]);
    assert_eq!(complete(&["call", "archive.store_document", "ti"]), ["title="]);
    assert_eq!(complete(&["runs", "show", "la"]), ["last"]);
    assert_eq!(complete(&["result", "last", "st"]), ["store_document"]);
    // Plans are files, and directories lead to them.
    std::fs::create_dir(place.path("trips")).expect("a folder");
    place.write("trip.yaml", "").write("trip.toml", "").write("trips/oslo.yml", "");
    for command in ["run", "validate", "graph", "fmt"] {
        assert_eq!(complete(&[command, "tri"]), ["trip.yaml", "trips/"], "{command}");
    }
    assert_eq!(complete(&["run", "trips/"]), ["trips/oslo.yml"]);
    // Questions and tasks are those of the run on the line.
    let first = call(&place, &["archive.store_document", "title=a", "text=c", "--output", "json"]).result();
    let first = first["run"].as_str().expect("an ID").to_owned();
    let plan = "name: x\ntasks: [{ id: keep, agent: archive, tool: store_document, with: { title: t, text: x }, approve: Store? }]\n";
    assert_eq!(place.run_plan(plan, &[]).code, Some(4));
    assert_eq!(complete(&["answer", "last", "q"]), ["q1"]);
    assert_eq!(complete(&["answer", &first, "q"]), Vec::<String>::new());
    assert_eq!(complete(&["logs", "last", "--task", ""]), ["keep"]);
    assert_eq!(complete(&["logs", &first, "--task", ""]), ["store_document"]);
    let script = place.kapell(&["completions", "bash"]);
    assert!(script.code == Some(0) && script.stdout.contains("COMPLETE"), "{script:?}");
}
