//! Signals, and the cleanup of the host's children after it ends for any reason.

use std::collections::HashSet;
use std::process::Child;

use serde_json::{Value, json};

use crate::support::pools::is_running;
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

/// Returns the process IDs that the agent recorded: its own, and two of its children that are never awaited.
fn recorded_pids(place: &Workspace) -> Vec<u32> {
    wait_for("the agent to write down its processes", || {
        let text = std::fs::read_to_string(place.path("pids")).ok()?;
        let pids: Vec<u32> = text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        (pids.len() == 3).then_some(pids)
    })
}

/// Returns the process groups of live processes. Zombies only wait for init, so they do not count.
fn live_groups() -> HashSet<u32> {
    let listed = std::process::Command::new("ps").args(["-eo", "pgid=,stat="]).output().expect("ps");
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .filter(|(_, state)| !state.trim().starts_with('Z'))
        .filter_map(|(group, _)| group.parse().ok())
        .collect()
}

fn assert_no_processes_remain(place: &Workspace) {
    let group = recorded_pids(place)[0];
    wait_for("every process of the agent's group to end", || (!live_groups().contains(&group)).then_some(()));
}

fn start_running(place: &Workspace, mode: &str, tool: &str) -> Child {
    place.write_agents(&[mode]).write(
        "plan.yaml",
        format!("name: x\ntasks: [{{ id: a, agent: odd-{mode}, tool: {tool} }}, {{ id: b, agent: travel, tool: book_trip, with: {{ city: Lisbon, delay_ms: 60000 }} }}]\n"),
    );
    place.start(&["run", "plan.yaml", "--output", "json", "--no-input", "--journal", "journal.db"])
}

#[test]
fn no_processes_remain_after_kill() {
    let place = Workspace::new();
    let mut child = start_running(&place, "stubborn", "work");
    let group = recorded_pids(&place)[0];
    assert!(live_groups().contains(&group));
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert_no_processes_remain(&place);
}

/// The guard of the children survives the host. It must hold neither an entry of a child that never ran nor the output
/// of the host.
#[test]
fn killed_hosts_leave_no_children() {
    let place = Workspace::new();
    place.write_agents(&["stubborn"]);
    let mut agents = std::fs::read_to_string(place.path("agents.toml")).unwrap();
    agents += "[agents.missing]\ncommand = \"/no/such/program\"\n";
    let plan = "
name: x
tasks:
  - { id: a, agent: missing, tool: work, fallback: [{ agent: odd-stubborn, tool: work }] }
  - { id: b, depends_on: [a], agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 60000 } }
";
    place.write("agents.toml", agents).write("plan.yaml", plan);
    let mut host = place.start(&["run", "plan.yaml", "--output", "json", "--no-input", "--journal", "journal.db"]);
    let pids = recorded_pids(&place);
    assert!(pids.iter().all(|pid| is_running(*pid)), "{pids:?}");
    host.kill().unwrap();
    host.wait().unwrap();
    wait_for("every process to end", || (!pids.iter().any(|pid| is_running(*pid))).then_some(()));
    let output = std::thread::spawn(move || host.wait_with_output());
    wait_for("the end of the output", || output.is_finished().then_some(()));
}

#[test]
fn no_processes_remain_after_exit() {
    let place = Workspace::new();
    place.write_agents(&["stubborn"]);
    let ended = place.run_plan("name: x\ntasks: [{ id: a, agent: odd-stubborn, tool: work }]\n", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let group = recorded_pids(&place)[0];
    assert!(!live_groups().contains(&group), "it was ended before kapell was");
}

#[test]
fn interrupt_cancels_calls_and_is_recorded() {
    let place = Workspace::new();
    let child = start_running(&place, "silent", "work");
    let log = place.path("state/kapell/agents/odd-silent.log");
    wait_for("the call to be in the journal", || {
        (place.logged_events("journal.db", "attempt_started").len() == 2).then_some(())
    });
    send_signal(&child, "INT");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("ended"));
    assert_eq!((ended.code, ended.result()["status"].as_str()), (Some(130), Some("interrupted")), "{ended:?}");
    assert_eq!(ended.task("a").0, "waiting");
    let log = std::fs::read_to_string(&log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    assert!(log.contains("cancelled: "), "{log}");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db", "--output", "json"]).result();
    assert_eq!(listed[0]["status"], "interrupted");
}

#[test]
fn two_interrupts_exit_immediately() {
    let place = Workspace::new();
    let child = start_running(&place, "stubborn", "work");
    recorded_pids(&place);
    wait_for("the run to be in the journal", || {
        let runs = place.kapell(&["runs", "list", "--journal", "journal.db", "--output", "json"]);
        (serde_json::from_str::<Value>(&runs.stdout).ok()?[0]["status"] == "running").then_some(())
    });
    send_signal(&child, "INT");
    send_signal(&child, "INT");
    let ended = CommandOutput::from_output(child.wait_with_output().expect("ended"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    assert_no_processes_remain(&place);
}

#[test]
fn killed_run_stays_in_the_journal() {
    let place = Workspace::new();
    let mut child = start_running(&place, "silent", "work");
    wait_for("both calls to be in the journal", || {
        (place.logged_events("journal.db", "attempt_started").len() == 2).then_some(())
    });
    let shown = || place.kapell(&["runs", "show", "last", "--journal", "journal.db", "--output", "json"]).result();
    assert_eq!((&shown()["status"], &shown()["process"]), (&json!("running"), &json!(child.id())));
    child.kill().expect("killed");
    child.wait().expect("ended");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db"]);
    assert!(listed.stdout.contains("interrupted") && listed.stdout.contains("kapell resume"), "{listed:?}");
    let watched = place.kapell(&["logs", "-f", "last", "--journal", "journal.db"]);
    assert!(watched.code == Some(0) && watched.stderr.contains("was interrupted"), "{watched:?}");
    let shown = shown();
    assert_eq!((&shown["status"], &shown["process"]), (&json!("interrupted"), &json!(null)), "{shown}");
    assert_eq!(shown["tasks"]["a"]["attempts"], 1);
}

#[test]
fn agent_gets_only_its_configured_environment() {
    let place = Workspace::new();
    place
        .write_agents(&["environment"])
        .write("plan.yaml", "name: x\ntasks: [{ id: a, agent: odd-environment, tool: work }]\n");
    let mut command = place.command(["run", "plan.yaml", "--output", "json", "--no-input"]);
    let ended = CommandOutput::of(command.env("SECRET_OF_THE_HOST", "x"));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("PATH") && !ended.stdout.contains("SECRET_OF_THE_HOST"), "{}", ended.stdout);
}
