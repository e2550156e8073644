//! Runs that are interrupted and resumed, and partial reruns.

use serde_json::{Value, json};

use crate::support::workspace::{Workspace, send_signal, wait_for};

/// A plan of three sequential tasks. The second takes long enough to be killed.
const PLAN: &str = "
name: books
defaults: { effect: at_most_once }
tasks:
  - id: first
    agent: archive
    tool: store_document
    with: { title: one, text: a }
  - id: second
    needs: [first]
    agent: archive
    tool: store_document
    with: { title: two, text: b, delay_ms: 5000 }
  - id: third
    needs: [second]
    agent: archive
    tool: store_document
    with: { title: three, text: c }
";

/// Returns a workspace whose agents record their effects.
fn workspace() -> Workspace {
    let place = Workspace::new();
    let (folder, effects) = (place.path("documents"), place.path("effects"));
    place.write(
        "agents.toml",
        format!(
            "[agents.archive]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"archive\"]\n\
             env = {{ KAPELL_DEMO_DIR = {:?}, KAPELL_DEMO_EFFECTS = {:?} }}\n",
            folder.display().to_string(),
            effects.display().to_string()
        ),
    );
    place
}

/// Runs the plan and kills the host while the second task is running.
fn run_and_kill(place: &Workspace, plan: &str) {
    run_and_kill_with(place, plan, &[]);
}

/// Runs the plan with further options, and kills the host in the same way.
fn run_and_kill_with(place: &Workspace, plan: &str, options: &[&str]) {
    place.write("plan.yaml", plan);
    let mut host = place.start(&[&["run", "plan.yaml", "--no-input"], options].concat());
    place.wait_for_attempt("second", &[]);
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
}

#[test]
fn normal_durability_survives_a_kill() {
    let place = workspace();
    let plan = PLAN.replace("delay_ms: 5000", "delay_ms: 1500").replace("at_most_once", "idempotent");
    run_and_kill_with(&place, &plan, &["--durability", "normal"]);
    let ended = place.kapell(&["resume", "--no-input", "--output", "json", "--durability", "normal"]);
    assert_eq!(ended.task("third"), ("succeeded".to_owned(), None), "{ended:?}");
    assert_eq!(stored_titles(&place), ["one", "two", "three"]);
    let again = [
        "retry",
        "last",
        "--from",
        "third",
        "--allow-repeats",
        "--no-input",
        "--output",
        "json",
        "--durability",
        "normal",
    ];
    let ended = place.kapell(&again);
    assert_eq!(ended.task("third"), ("succeeded".to_owned(), None), "{ended:?}");
}

/// Returns the titles of the documents that were actually stored, in order.
fn stored_titles(place: &Workspace) -> Vec<String> {
    let effects = std::fs::read_to_string(place.path("effects")).unwrap_or_default();
    let title = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        line["arguments"]["title"].as_str().expect("a title").to_owned()
    };
    effects.lines().map(title).collect()
}

/// Returns an error without line wrapping.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn resume_keeps_completed_work() {
    let place = workspace();
    run_and_kill(&place, &PLAN.replace("delay_ms: 5000", "delay_ms: 1500").replace("at_most_once", "idempotent"));
    let ended = place.kapell(&["resume", "--no-input", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.task("third"), ("succeeded".to_owned(), None));
    let attempts: Vec<_> = ["first", "second", "third"]
        .map(|task| ended.result()["tasks"][task]["attempts"].as_u64().expect("a number"))
        .to_vec();
    assert_eq!(attempts, [1, 2, 1]);
    assert_eq!(stored_titles(&place), ["one", "two", "three"]);
    let again = place.kapell(&["resume", "--no-input"]);
    assert_eq!((again.code, again.error_code()), (Some(2), "cli::nothing_to_resume"));
}

#[test]
fn ambiguous_call_waits_for_a_person() {
    let place = workspace();
    run_and_kill(&place, PLAN);
    let paused = place.kapell(&["resume", "--no-input", "--output", "json"]);
    assert_eq!(paused.code, Some(4), "{paused:?}");
    let questions = place.kapell(&["questions", "--output", "json"]).result();
    assert_eq!(questions[0]["asker"], json!({"host": {"attempt": {"task": "second", "number": 1}}}));
    assert_eq!(stored_titles(&place), ["one"], "nothing was called without an answer");

    place.write("answers.yaml", "answers:\n  - { task: second, accept: { outcome: done } }\n");
    let ended = place.kapell(&["resume", "--no-input", "--answers", "answers.yaml", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.task("second"), ("succeeded".to_owned(), None));
    assert_eq!(stored_titles(&place), ["one", "three"], "a person said that the second had been done");
}

#[test]
fn retry_reuses_earlier_results() {
    let place = workspace();
    let ended = place.run_plan(&PLAN.replace(", delay_ms: 5000", ""), &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let again =
        place.kapell(&["retry", "last", "--from", "second", "--allow-repeats", "--no-input", "--output", "json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(stored_titles(&place), ["one", "two", "three", "two", "three"]);
    let first = &again.result()["tasks"]["first"];
    assert_eq!((&first["reused"], &first["attempts"]), (&json!(true), &json!(0)));
    assert_eq!(first["output"], ended.result()["tasks"]["first"]["output"]);
    assert_ne!(again.result()["run"], ended.result()["run"]);

    let wrong = place.kapell(&["retry", "last", "--from", "fourth", "--no-input"]);
    assert_eq!((wrong.code, wrong.error_code()), (Some(2), "cli::unknown_task"));
}

#[test]
fn active_run_cannot_be_resumed_or_retried() {
    let place = workspace();
    place.write("plan.yaml", PLAN);
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    place.wait_for_attempt("second", &[]);
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!((resumed.code, resumed.error_code()), (Some(1), "journal::driven"));
    assert!(unwrapped(&resumed.stderr).contains(&format!("process {}", host.id())), "{}", resumed.stderr);
    let retried = place.kapell(&["retry", "last", "--from", "second", "--allow-repeats", "--no-input"]);
    assert_eq!((retried.code, retried.error_code()), (Some(2), "cli::run_not_ended"));
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
}

#[test]
fn changed_files_must_be_accepted() {
    let place = workspace();
    let plan = PLAN.replace("at_most_once", "idempotent").replace("delay_ms: 5000", "delay_ms: 1500");
    run_and_kill(&place, &plan);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", format!("{agents}max_concurrency = 3\n"));
    place.write("plan.yaml", plan.replace("title: three", "title: four"));
    let refused = place.kapell(&["resume", "--no-input"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::changed_files"));
    let message = unwrapped(&refused.stderr);
    assert!(message.contains("`max_concurrency`") && message.contains("`third`"), "{message}");
    assert_eq!(stored_titles(&place), ["one"]);

    let resumed = place.kapell(&["resume", "--no-input", "--accept-changes"]);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(stored_titles(&place), ["one", "two", "three"], "the plan of a run never changes under it");
}

#[test]
fn resume_last_continues_or_starts_a_run() {
    let place = workspace();
    run_and_kill(&place, &PLAN.replace("at_most_once", "idempotent").replace("delay_ms: 5000", "delay_ms: 1500"));
    let run = |place: &Workspace| {
        let ended = place.kapell(&["run", "plan.yaml", "--resume-last", "--no-input", "--output", "json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.result()["run"].as_str().expect("an id").to_owned()
    };
    let first = run(&place);
    assert_eq!(stored_titles(&place), ["one", "two", "three"]);
    assert_ne!(run(&place), first);
    assert_eq!(stored_titles(&place).len(), 6);
}

#[test]
fn resumed_run_waits_for_an_agent_resource() {
    let place = workspace();
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", agents.replace("archive", "bindery"));
    place.write(
        "plan.yaml",
        "
name: volume
defaults: { effect: at_most_once }
tasks:
  - id: bind
    agent: bindery
    tool: bind_documents
    with: { title: all, delay_ms: 4000 }
    await: { resource: status == 'completed', failed: status == 'failed' }
outputs: { done: '${{ tasks.bind.output.done }}' }
",
    );
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for("the job", || {
        let logs = place.kapell(&["logs", "last"]);
        logs.stdout.contains("\"status\":\"working\"").then_some(())
    });
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
    let ended = place.kapell(&["resume", "--no-input", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["outputs"], json!({"done": 4}));
    assert_eq!(ended.result()["tasks"]["bind"]["attempts"], 1);
    assert_eq!(stored_titles(&place), ["all"]);
}

/// A demo agent in a separate process, which is not a child of the host.
struct StandaloneAgent(std::process::Child);

impl Drop for StandaloneAgent {
    fn drop(&mut self) {
        // Both fail only if the agent has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn resumed_run_polls_a_remote_task() {
    let place = workspace();
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let mut agent = place.command(["demo-agent", "bindery", "--http", &port.to_string()]);
    agent.env("KAPELL_DEMO_DIR", place.path("documents")).env("KAPELL_DEMO_EFFECTS", place.path("effects"));
    let _agent = StandaloneAgent(agent.stderr(std::process::Stdio::null()).spawn().expect("kapell starts"));
    wait_for("the agent", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    place.write("agents.toml", format!("[agents.bindery]\nurl = \"http://127.0.0.1:{port}/mcp\"\n"));
    let plan = "name: count\ntasks:\n  - id: count\n    agent: bindery\n    tool: count_documents\n    \
                effect: at_most_once\n    with: { delay_ms: 800 }\n";
    place.write("plan.yaml", plan);
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for("the task", || place.kapell(&["logs", "last"]).stdout.contains("the lower shelf").then_some(()));
    send_signal(&host, "KILL");
    host.wait().expect("it ends");

    let ended = place.kapell(&["resume", "--last", "--no-input", "--output", "json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let task = &ended.result()["tasks"]["count"];
    assert_eq!((&task["attempts"], &task["output"]), (&json!(1), &json!({"documents": 0, "bytes": 0})));
    let effects = std::fs::read_to_string(place.path("effects")).expect("a record");
    assert_eq!(effects.lines().count(), 1, "{effects}");
}

#[test]
fn task_fails_if_its_agent_is_no_longer_in_the_agents_file() {
    let place = workspace();
    run_and_kill(&place, &PLAN.replace("at_most_once", "idempotent"));
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", agents.replace("agents.archive", "agents.other"));
    let refused = place.kapell(&["resume", "--no-input"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::changed_files"));
    let ended = place.kapell(&["resume", "--no-input", "--accept-changes", "--output", "json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.task("second"), ("failed".to_owned(), Some("agent_unavailable".to_owned())));
}
