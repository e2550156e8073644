//! Schemas of agents that are short but expensive to check: reported, not checked, and without effect on other tasks.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::support::workspace::{Workspace, send_signal};

const SCHEMAS: [&str; 7] = ["doubling", "unevaluated", "patterns", "repetition", "options", "oversized", "loop"];

/// Returns a workspace with an agent for each schema, and a task for each agent.
fn workspace(position: &str) -> (Workspace, String) {
    let place = Workspace::new();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/schema_bombs.py");
    let mut agents = String::new();
    let mut plan = "name: schemas\ndefaults: { on_failure: continue, effect: read_only }\ntasks:\n".to_owned();
    for name in SCHEMAS.iter().chain(&["plain"]) {
        let _ =
            writeln!(agents, "[agents.{name}]\ncommand = \"python3\"\nargs = [{program:?}, {name:?}, {position:?}]");
        let _ = writeln!(plan, "  - {{ id: {name}, agent: {name}, tool: go, with: {{ s: aaaa }} }}");
    }
    place.write("agents.toml", agents);
    (place, plan)
}

fn assert_reported(text: &str, subject: &str) {
    for (name, limit) in [
        ("doubling", "checking it takes too much work: more than"),
        ("unevaluated", "the schema is too large to check: its `unevaluated…` keywords unfold to more than"),
        ("patterns", "the schema is too large to check: its patterns have more than"),
        ("repetition", "the schema is too large to check: its patterns have more than"),
        ("options", "the schema is too large to check: more than"),
        ("loop", "checking it takes too much work: more than"),
    ] {
        let named = text.lines().any(|line| line.contains(name) && line.contains(subject) && line.contains(limit));
        assert!(named, "{name}: {limit}\n{text}");
    }
    let oversized = "tool `go`: its definition is larger than 1024 KiB, and its `";
    let named = text.lines().any(|line| line.contains("oversized") && line.contains(oversized));
    assert!(named, "{text}");
    assert!(!text.lines().any(|line| line.contains("plain") && line.contains("not checked")), "{text}");
}

#[test]
fn unchecked_arguments_are_sent_with_a_warning() {
    let (place, plan) = workspace("input");
    let ended = place.run_plan(&plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_reported(&ended.stderr, "the arguments of `go` are not checked:");
}

#[test]
fn unchecked_results_are_accepted_with_a_warning() {
    let (place, plan) = workspace("output");
    let ended = place.run_plan(&plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_reported(&ended.stderr, "the result of `go` is not checked:");
}

#[test]
fn forms_are_declined_without_input() {
    let (place, plan) = workspace("form");
    let ended = place.run_plan(&plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn validation_skips_arguments_of_expensive_schemas() {
    let (place, plan) = workspace("input");
    place.write("plan.yaml", plan);
    let ended = place.kapell(&["validate", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in ["is too large to check", "takes too much work", "are not checked before the run"] {
        assert!(ended.stderr.contains(part) || ended.stdout.contains(part), "{part}: {ended:?}");
    }
}

#[test]
fn schemas_that_are_not_checked_are_named_when_tools_are_listed_or_agents_tested() {
    for (position, subject) in
        [("input", "the arguments of `go` are not checked:"), ("output", "the results of `go` are not checked:")]
    {
        let (place, _) = workspace(position);
        let listed = place.kapell(&["agents", "tools"]);
        assert_eq!(listed.code, Some(0), "{listed:?}");
        assert_reported(&listed.stderr, subject);
        let tested = place.kapell(&["agents", "test"]);
        assert_eq!(tested.code, Some(0), "{tested:?}");
        assert_eq!(tested.stdout.matches(subject).count(), 6, "{tested:?}");
    }
}

#[test]
fn deadlines_and_signals_are_served_while_costly_checks_run() {
    let place = Workspace::new();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/schema_bombs.py");
    let agent = |name: &str, schema: &str| {
        format!("[agents.{name}]\ncommand = \"python3\"\nargs = [{program:?}, {schema:?}, \"input\"]\n")
    };
    place.write("agents.toml", agent("costly", "costly") + &agent("other", "plain"));
    place.write(
        "plan.yaml",
        "name: checks\ndefaults: { on_failure: continue, effect: read_only }\ntasks:\n  \
         - { id: bad, foreach: '${{ range(10000) }}', as: n, agent: costly, tool: go, with: { n: '${{ n }}' } }\n  \
         - { id: hang, agent: other, tool: hang, deadline: 1s }\n",
    );
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    let mut lines = BufReader::new(host.stderr.take().expect("a pipe")).lines();
    // The queue holds more checks than fit before the deadline, each close to the limit of steps of one check.
    let late = lines.by_ref().map_while(Result::ok).find(|line| line.contains("hang: failed"));
    assert!(late.is_some_and(|line| line.contains("took longer than 1s")));
    send_signal(&host, "TERM");
    let rest: Vec<_> = lines.map_while(Result::ok).collect();
    assert_eq!(host.wait().expect("ends").code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("interrupted: ")), "{rest:?}");
}
