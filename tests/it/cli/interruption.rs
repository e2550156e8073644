//! Ctrl-C and similar signals at various moments: the state of the run, and how it continues.

use std::process::Child;

use kapell::mcp::process::guard;

use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

/// A plan with at most two items at a time; every item may be called once.
const PLAN: &str = "
name: steps
defaults: { effect: at_most_once }
tasks:
  - id: each
    foreach: [a, b, c, d]
    as: label
    max_parallel: 1
    agent: steps
    tool: step
    with: { label: '${{ label }}' }
  - { id: after, needs: [each], agent: steps, tool: step, with: { label: after } }
";

/// Returns a workspace with an agent that records every call.
pub(crate) fn workspace() -> Workspace {
    let place = Workspace::new();
    let agent = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/steps.py");
    let (agent, folder) = (agent.display().to_string(), place.path("").display().to_string());
    place.write("agents.toml", format!("[agents.steps]\ncommand = \"python3\"\nargs = [{agent:?}, {folder:?}]\n"));
    place
}

/// Returns the calls that the agent recorded, in order.
pub(crate) fn recorded_calls(place: &Workspace) -> Vec<String> {
    let calls = std::fs::read_to_string(place.path("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

pub(crate) fn wait_for_call(place: &Workspace, label: &str) {
    wait_for(label, || recorded_calls(place).iter().any(|call| call == label).then_some(()));
}

fn release_call(place: &Workspace, label: &str) {
    std::fs::remove_file(place.path(&format!("hold-{label}"))).expect("it was held");
}

/// Starts the plan, whose item `b` is held, and waits until that call is in progress.
fn start_held_run(place: &Workspace, options: &[&str]) -> Child {
    place.write("plan.yaml", PLAN).write("hold-b", "");
    let host = place.start(&[&["run", "plan.yaml", "--no-input"], options].concat());
    wait_for_call(place, "b");
    host
}

fn wait_for_exit(host: Child) -> CommandOutput {
    CommandOutput::from_output(host.wait_with_output().expect("it ends"))
}

/// Returns the status of the only run, from `runs list`.
fn run_status(place: &Workspace) -> String {
    let listed = place.kapell(&["runs", "list", "--output", "json"]).result();
    listed[0]["status"].as_str().expect("a status").to_owned()
}

/// Resumes the run, confirms the interrupted call, and expects one call for each of the other items.
fn resume_to_completion(place: &Workspace) {
    let paused = place.kapell(&["resume", "--no-input"]);
    assert_eq!(paused.code, Some(4), "{paused:?}");
    place.write("answers.yaml", "answers:\n  - { task: 'each[1]', accept: { outcome: done } }\n");
    let ended = place.kapell(&["resume", "--no-input", "--answers", "answers.yaml", "--output", "json"]);
    assert_eq!((ended.code, ended.task("after").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    let made: Vec<_> = recorded_calls(place).into_iter().filter(|call| !call.ends_with(" cancelled")).collect();
    assert_eq!(made, ["a", "b", "c", "d", "after"]);
}

#[test]
fn each_signal_stops_a_resumable_run() {
    for name in ["INT", "TERM", "HUP"] {
        // kapell inherits that from the tests, and respects it.
        if name == "HUP" && guard::ignores_hangup() {
            println!("skipped: SIGHUP is ignored here, as under `nohup`");
            continue;
        }
        let place = workspace();
        let host = start_held_run(&place, &[]);
        send_signal(&host, name);
        let ended = wait_for_exit(host);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{name}: {ended:?}");
        assert_eq!(recorded_calls(&place), ["a", "b", "b cancelled"], "{name}: the agent is asked to stop");
        assert_eq!(run_status(&place), "interrupted", "{name}");
        let listed = place.kapell(&["runs", "list", "--output", "json"]).result();
        let id = listed[0]["run"].as_str().expect("an id");
        let command = format!("`kapell resume {}` resumes the run", &id[id.len() - 8..]);
        assert!(ended.stderr.contains(&command), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("press Ctrl-C again to stop immediately"), "{name}: {}", ended.stderr);
        let about_tasks =
            ended.stderr.lines().filter(|line| line.contains("] after: ") || line.contains("each[2]")).count();
        assert_eq!(about_tasks, 0, "{name}: tasks that never started are omitted: {}", ended.stderr);
        resume_to_completion(&place);
    }
}

#[test]
fn second_signal_exits_immediately() {
    // The second signal comes at once, after the first has been recorded, or after the first has ended the run.
    for gap in ["none", "recorded", "ended"] {
        let place = workspace();
        let host = start_held_run(&place, &[]);
        send_signal(&host, "INT");
        match gap {
            "none" => {}
            "recorded" => wait_for("the event", || {
                place.events(&[]).iter().any(|event| event["type"] == "interrupt_requested").then_some(())
            }),
            _ => wait_for("the end", || (run_status(&place) == "interrupted").then_some(())),
        }
        // The process may have ended already.
        let _ = std::process::Command::new("kill").args(["-INT", &host.id().to_string()]).output().expect("kill");
        let ended = wait_for_exit(host);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{gap}: {ended:?}");
        assert_eq!(run_status(&place), "interrupted", "{gap}");
        resume_to_completion(&place);
    }
}

#[test]
fn interrupted_resume_is_resumable() {
    let place = workspace();
    let host = start_held_run(&place, &[]);
    send_signal(&host, "INT");
    wait_for_exit(host);
    place.write("answers.yaml", "answers:\n  - { task: 'each[1]', accept: { outcome: repeat } }\n");
    let resumed = place.start(&["resume", "--no-input", "--answers", "answers.yaml"]);
    wait_for("the repetition", || {
        (recorded_calls(&place).iter().filter(|call| *call == "b").count() == 2).then_some(())
    });
    send_signal(&resumed, "TERM");
    assert_eq!(wait_for_exit(resumed).code, Some(130));
    assert_eq!(run_status(&place), "interrupted");
    release_call(&place, "b");
    resume_with_repeated_call(&place);
}

fn resume_with_repeated_call(place: &Workspace) {
    place.write("answers.yaml", "answers:\n  - { task: 'each[1]', accept: { outcome: done } }\n");
    let ended = place.kapell(&["resume", "--no-input", "--answers", "answers.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut made: Vec<_> = recorded_calls(place).into_iter().filter(|call| !call.ends_with(" cancelled")).collect();
    made.sort();
    assert_eq!(made, ["a", "after", "b", "b", "c", "d"]);
}

#[test]
fn json_output_reports_interruption() {
    let place = workspace();
    let host = start_held_run(&place, &["--output", "json"]);
    send_signal(&host, "INT");
    let ended = wait_for_exit(host);
    assert_eq!((ended.code, ended.result()["status"].as_str()), (Some(130), Some("interrupted")), "{ended:?}");
    let statuses: Vec<_> = ended.result()["tasks"]["each"]["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["status"].as_str().expect("a status").to_owned())
        .collect();
    assert_eq!(statuses, ["succeeded", "waiting", "waiting", "waiting"]);
}

#[test]
fn interrupted_run_can_be_canceled() {
    let place = workspace();
    let host = start_held_run(&place, &[]);
    send_signal(&host, "INT");
    wait_for_exit(host);
    let cancelled = place.kapell(&["cancel", "last"]);
    assert!(cancelled.code == Some(0) && cancelled.stderr.contains("is cancelled"), "{cancelled:?}");
    assert_eq!(run_status(&place), "cancelled");
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!(resumed.code, Some(2), "{resumed:?}");
    assert_eq!(place.kapell(&["cancel", "last"]).code, Some(2), "it has ended");
}

#[test]
fn killed_run_can_be_canceled() {
    let place = workspace();
    let mut host = start_held_run(&place, &[]);
    host.kill().expect("killed");
    host.wait().expect("ended");
    assert_eq!(place.kapell(&["cancel", "last"]).code, Some(0));
    assert_eq!(run_status(&place), "cancelled");
}

#[test]
fn signal_before_any_call_leaves_the_run_resumable() {
    let place = workspace();
    // The agent starts only when the file is gone.
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("a file");
    let agents =
        agents.replace("command = \"python3\"\nargs = [", "command = \"sh\"\nargs = [\"-c\", WAIT, \"python3\", ");
    let wait =
        format!("while [ -e '{}' ]; do sleep 0.05; done; exec python3 \"$@\"", place.path("hold-start").display());
    place.write("agents.toml", agents.replace("WAIT", &format!("{wait:?}"))).write("plan.yaml", PLAN);
    place.write("hold-start", "");
    let host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for("the connection", || {
        let events = place.kapell(&["logs", "last", "--output", "json"]);
        events.stdout.contains("agent_connecting").then_some(())
    });
    send_signal(&host, "INT");
    let ended = wait_for_exit(host);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{ended:?}");
    assert_eq!(run_status(&place), "interrupted");
    release_call(&place, "start");
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(recorded_calls(&place), ["a", "b", "c", "d", "after"]);
}

#[test]
fn signal_while_a_question_waits_keeps_the_question() {
    let place = workspace();
    let plan = PLAN.replace("{ id: after,", "{ id: after, approve: Go on?,");
    place.write("plan.yaml", plan);
    assert_eq!(place.kapell(&["run", "plan.yaml", "--detach"]).code, Some(0));
    wait_for("the question", || {
        let questions = place.kapell(&["questions", "--output", "json"]);
        questions.stdout.contains("Go on?").then_some(())
    });
    let listed = place.kapell(&["runs", "list", "--output", "json"]).result();
    let process = listed[0]["process"].as_u64().expect("a process").to_string();
    let sent = std::process::Command::new("kill").args(["-INT", &process]).status().expect("kill");
    assert!(sent.success());
    wait_for("the end", || (run_status(&place) == "interrupted").then_some(()));
    place.write("answers.yaml", "answers:\n  - { task: after, accept: true }\n");
    let resumed = place.kapell(&["resume", "--no-input", "--answers", "answers.yaml"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(recorded_calls(&place), ["a", "b", "c", "d", "after"]);
}

#[test]
fn signal_while_a_goal_is_planned_runs_nothing() {
    let place = workspace();
    let endpoint = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("a file");
    let address = endpoint.local_addr().expect("an address");
    place.write("agents.toml", format!("[llm]\nbase_url = \"http://{address}/v1\"\nmodel = \"m\"\n\n{agents}"));
    let host = place.start(&["run", "--goal", "Do all steps", "--yes", "--no-input"]);
    // The endpoint accepts the request, and never replies.
    let _request = endpoint.accept().expect("a request");
    send_signal(&host, "INT");
    let ended = wait_for_exit(host);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(130), ""), "{ended:?}");
    assert!(ended.stderr.contains("nothing ran"), "{ended:?}");
    assert!(recorded_calls(&place).is_empty());
}
