//! The values of plans: constrained inputs, files, secrets, the environment, matrices, and conditions of retries.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::terminal::{run_at_terminal, run_at_terminal_like, step};
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

const SECRET: &str = "made-up-token-0123456789";

/// Runs a plan of `plans/features` with the agents file of the repository.
fn run_feature(place: &Workspace, name: &str, arguments: &[&str]) -> CommandOutput {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (plan, agents) = (root.join("plans/features").join(name), root.join("agents.toml"));
    let mut command = place.command(["run", "--output", "json", "--no-input"]);
    command.arg(plan).arg("--agents").arg(agents).args(arguments);
    CommandOutput::of(command.env("KAPELL_DEMO_DIR", place.path("documents")).env("LANG", "pt_PT.UTF-8"))
}

/// Returns whether any file of the journal contains a text.
fn journal_contains(place: &Workspace, text: &str) -> bool {
    let state = place.path("state");
    let found = Command::new("grep").args(["-r", "-a", "-l", text]).arg(&state).output().expect("grep runs");
    !found.stdout.is_empty()
}

#[test]
fn feature_of_inputs_runs_and_keeps_its_secret() {
    let place = Workspace::new();
    place.write("letter.md", "Dear Lisbon");
    let missing = run_feature(&place, "inputs.yaml", &["--param", "letter=letter.md"]);
    assert_eq!((missing.code, missing.error_code()), (Some(2), "input::missing"), "{missing:?}");
    let token = format!("token={SECRET}");
    let ended = run_feature(&place, "inputs.yaml", &["--param", "letter=letter.md", "--param", &token]);
    let outputs = &ended.result()["outputs"];
    assert_eq!((&outputs["books"], &outputs["token"]), (&json!(2), &json!(SECRET.len())), "{ended:?}");
    assert!(!journal_contains(&place, SECRET) && journal_contains(&place, "Dear Lisbon"));
    let shown = place.kapell(&["runs", "show", "last", "token"]);
    assert!(shown.stdout.contains("***") && !shown.stdout.contains(SECRET), "{shown:?}");
    let wrong = run_feature(&place, "inputs.yaml", &["--param", "city=Rome", "--param", "depth=9", "--param", &token]);
    assert_eq!(wrong.error_codes(), ["input::invalid_value", "input::invalid_value", "input::missing"], "{wrong:?}");
}

#[test]
fn feature_of_env_runs() {
    let place = Workspace::new();
    let ended = run_feature(&place, "env.yaml", &[]);
    let expected = json!({"plan": "env", "language": "pt_PT.UTF-8", "week": 7 * 24 * 60 * 60});
    assert_eq!(ended.result()["outputs"], expected, "{ended:?}");
    let shown = place.kapell(&["runs", "show", "last", "note"]);
    assert!(shown.stdout.contains("Language: pt_PT.UTF-8"), "{shown:?}");
}

#[test]
fn feature_of_matrix_runs() {
    let ended = run_feature(&Workspace::new(), "matrix.yaml", &["--param", "depths=[1, 3]"]);
    let expected = json!({"searches": ["Lisbon", "Lisbon", "Kyoto", "Kyoto"], "books": [1, 3, 1, 3]});
    assert_eq!(ended.result()["outputs"], expected, "{ended:?}");
}

#[test]
fn feature_of_retry_when_runs() {
    let place = Workspace::new();
    let ended = run_feature(&place, "retry-when.yaml", &[]);
    assert_eq!(ended.result()["outputs"]["books"], 1, "{ended:?}");
    let attempts = place.events(&[]).iter().filter(|event| event["type"] == "attempt_started").count();
    assert_eq!(attempts, 2, "neither task was retried");
    let shown = place.kapell(&["runs", "show", "last", "wrong"]);
    assert!(shown.stdout.contains("`retry.when` is false"), "{shown:?}");
}

/// A plan with a secret whose call waits for an approval.
const SECRET_PLAN: &str = "
    name: sealed
    inputs: { token: { type: secret, required: true, from_env: SEALED_TOKEN } }
    tasks:
      - { id: a, approve: Send it?, agent: odd-good, tool: echo, with: { text: 'Bearer ${{ inputs.token }}' } }
    outputs: { text: '${{ tasks.a.text }}' }
    ";

#[test]
fn resumed_run_asks_for_its_secret_again() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write("plan.yaml", SECRET_PLAN);
    let token = format!("token={SECRET}");
    let paused = place.kapell(&["run", "plan.yaml", "--no-input", "--param", &token]);
    assert_eq!(paused.code, Some(4), "{paused:?}");
    assert_eq!(place.kapell(&["answer", "last", "q1", "--accept"]).code, Some(0));
    let resumed = place.kapell(&["resume", "--no-input"]);
    assert_eq!((resumed.code, resumed.error_code()), (Some(2), "cli::missing_secret"), "{resumed:?}");
    let wrong = place.kapell(&["resume", "--no-input", "--param", "tokne=x"]);
    assert_eq!(wrong.error_code(), "input::unknown", "{wrong:?}");
    let mut command = place.command(["resume", "--no-input", "--output", "json"]);
    let ended = CommandOutput::of(command.env("SEALED_TOKEN", SECRET));
    // The agent returns the secret, which is masked like any other.
    assert_eq!(ended.result()["outputs"]["text"], "Bearer ***", "{ended:?}");
    assert!(!journal_contains(&place, SECRET));
}

#[test]
fn person_types_the_secret_of_a_resumed_run_unseen() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write("plan.yaml", SECRET_PLAN);
    let token = format!("token={SECRET}");
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input", "--param", &token]).code, Some(4));
    assert_eq!(place.kapell(&["answer", "last", "q1", "--accept"]).code, Some(0));
    let typed = format!("{SECRET}\r");
    let ended = run_at_terminal(&place, &["resume"], &[step("token>", &typed)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("Bearer ***") && !ended.stdout.contains(SECRET), "{ended:?}");
    assert!(!journal_contains(&place, SECRET));
}

#[test]
fn person_types_the_secret_of_a_retry_unseen() {
    let plan = SECRET_PLAN.replace("approve: Send it?, ", "").replace("from_env: SEALED_TOKEN", "description: The key");
    let failing = plan.replace("tool: echo", "tool: echo_typo");
    for term in ["xterm", "dumb"] {
        let place = Workspace::new();
        place.write_agents(&["good"]).write("plan.yaml", &failing);
        let token = format!("token={SECRET}");
        assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input", "--param", &token]).code, Some(1));
        let refused = place.kapell(&["retry", "--no-input"]);
        assert_eq!((refused.code, refused.error_code()), (Some(2), "input::missing"), "{refused:?}");
        place.write("plan.yaml", &plan);
        let typed = format!("{SECRET}\r");
        let arguments = ["retry", "--plan", "plan.yaml", "--yes"];
        let ended = run_at_terminal_like(term, 100, &place, (&arguments, &[step("token>", &typed)]));
        assert_eq!(ended.code, Some(0), "{term}: {ended:?}");
        assert!(ended.stdout.contains("Bearer ***") && !ended.stdout.contains(SECRET), "{term}: {ended:?}");
        assert!(!journal_contains(&place, SECRET), "{term}");
    }
}

#[test]
fn person_is_asked_for_missing_inputs() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write(
        "plan.yaml",
        "
        name: asks
        inputs:
          mode: { type: string, enum: [fast, slow], required: true, description: How to travel }
          token: { type: secret, required: true }
        tasks:
          - { id: a, agent: odd-good, tool: echo, with: { text: '${{ inputs.mode }} ${{ inputs.token }}' } }
        outputs: { text: '${{ tasks.a.text }}' }
        ",
    );
    let typed = format!("{SECRET}\r");
    let steps = [step("mode", "slow\r"), step("token>", &typed), step("send?", "\r")];
    let ended = run_at_terminal(&place, &["run", "plan.yaml"], &steps);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("How to travel") && ended.stdout.contains("slow ***"), "{ended:?}");
    assert!(!ended.stdout.contains(SECRET), "{ended:?}");
    assert!(!journal_contains(&place, SECRET));
}

#[test]
fn fmt_formats_plans_and_checks_them() {
    let place = Workspace::new();
    let ugly = "tasks:   # all of them\n- tool: echo\n  agent: a\n  id: x\n  with: {text:  hi}\nname: ugly\n";
    let formatted =
        "name: ugly\n\ntasks:   # all of them\n  - id: x\n    agent: a\n    tool: echo\n    with: { text: hi }\n";
    place.write("plan.yaml", ugly).write("broken.yaml", "tasks: [\n");
    let checked = place.kapell(&["fmt", "--check", "plan.yaml"]);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert_eq!(std::fs::read_to_string(place.path("plan.yaml")).expect("read"), ugly);
    assert_eq!(place.kapell(&["fmt", "plan.yaml"]).code, Some(0));
    assert_eq!(std::fs::read_to_string(place.path("plan.yaml")).expect("read"), formatted);
    assert_eq!(place.kapell(&["fmt", "--check", "plan.yaml"]).code, Some(0));
    let broken = place.kapell(&["fmt", "broken.yaml", "plan.yaml"]);
    assert_eq!((broken.code, broken.error_code()), (Some(2), "yaml::syntax"), "{broken:?}");
}

#[test]
fn validate_watches_the_files() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: x\ntasks: [{ id: a, agent: archive, tool: x }]\n");
    let output = place.path("watch.log");
    let log = std::fs::File::create(&output).expect("a file");
    let mut command = place.command(["validate", "plan.yaml", "--watch", "--offline"]);
    let child = command.stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("kapell starts");
    let shown = |text: &str| std::fs::read_to_string(&output).is_ok_and(|log| log.contains(text)).then_some(());
    wait_for("the first check", || shown("plan.yaml is valid"));
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: archvie, tool: x }]\n");
    wait_for("the check of the changed plan", || shown("did you mean `archive`?"));
    place.write("agents.toml", "[agents.archvie]\ncommand = \"x\"\n");
    wait_for("the check of the changed agents", || {
        let log = std::fs::read_to_string(&output).ok()?;
        (log.matches("plan.yaml is valid").count() == 2).then_some(())
    });
    send_signal(&child, "INT");
    assert_eq!(CommandOutput::from_output(child.wait_with_output().expect("it ends")).code, Some(0));
}
