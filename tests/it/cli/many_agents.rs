//! Many agents at once. Those that are broken, silent, or large delay no other agent.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::support::workspace::{Workspace, wait_for};

const WORKING_AGENTS: usize = 18;

/// Writes an agents file with 20 agents: one that never answers, one that exits, one with 1 000 tools, and 17 others. The
/// plan calls each of them.
fn write_files(place: &Workspace) {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/connecting.py");
    let (script, folder) = (script.display().to_string(), place.path("").display().to_string());
    let (mut agents, mut tasks) = (String::new(), String::new());
    let mut add = |name: &str, mode: &str, tool: &str| {
        let arguments = [&*script, mode, &*folder];
        let _ = writeln!(
            agents,
            "[agents.{name}]\ncommand = \"python3\"\nargs = {arguments:?}\nstartup_timeout = \"1h\"\n"
        );
        let _ = writeln!(tasks, "  - {{ id: {name}, agent: {name}, tool: {tool}, on_failure: continue }}");
    };
    add("silent", "slow", "work");
    add("broken", "fails-to-start", "work");
    add("large", "thousand-tools", "work-999");
    for number in 1..WORKING_AGENTS {
        add(&format!("agent-{number}"), "plain", "work");
    }
    place.write("agents.toml", agents).write("plan.yaml", format!("name: x\ntasks:\n{tasks}"));
}

#[test]
fn agents_that_work_are_not_delayed_by_others() {
    let place = Workspace::new();
    write_files(&place);
    let started = place.kapell(&["run", "plan.yaml", "--detach"]);
    assert_eq!(started.code, Some(0), "{started:?}");
    let ended = |kind: &str| -> BTreeSet<String> {
        let events = place.events(&[]).into_iter().filter(|event| event["type"] == kind);
        events.filter_map(|event| Some(event["attempt"]["task"].as_str()?.to_owned())).collect()
    };
    let succeeded = wait_for("the tasks of the working agents", || {
        let succeeded = ended("attempt_succeeded");
        (succeeded.len() == WORKING_AGENTS).then_some(succeeded)
    });
    assert!(succeeded.contains("large") && !succeeded.contains("silent"));
    let broken = wait_for("the broken agent", || {
        let events = place.events(&[]);
        events.into_iter().find(|event| event["type"] == "agent_unavailable" && event["agent"] == "broken")
    });
    assert!(broken["failure"]["message"].as_str().is_some_and(|text| text.contains("no license")), "{broken}");
    let cancelled = place.kapell(&["cancel", started.stdout.trim()]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    wait_for("the end of the run", || {
        place.events(&[]).into_iter().any(|event| event["type"] == "run_ended").then_some(())
    });
}
