//! The end of runs: statuses, exit codes, and results.

use serde_json::json;

use crate::support::workspace::Workspace;

const STORE: &str = "agent: archive, tool: store_document, with: { title: t, text: x }";

#[test]
fn each_outcome_has_its_exit_code() {
    let place = Workspace::new();
    place.write_agents(&["fails"]);
    let plan = |tasks: &str| format!("name: x\ntasks:\n{tasks}");
    let odd = "agent: odd-fails, tool: work";
    for (tasks, code, status) in [
        (format!("  - {{ id: a, {STORE} }}\n"), 0, "succeeded"),
        (format!("  - {{ id: a, {odd} }}\n"), 1, "failed"),
        (format!("  - {{ id: a, {odd}, on_failure: continue }}\n  - {{ id: b, needs: [a], {STORE} }}\n"), 3, "partial"),
        (
            format!("  - {{ id: a, {odd}, on_failure: skip_dependents }}\n  - {{ id: b, needs: [a], {STORE} }}\n"),
            3,
            "partial",
        ),
        (format!("  - {{ id: a, approve: really?, {STORE} }}\n"), 4, "paused"),
    ] {
        let ended = place.run_plan(&plan(&tasks), &[]);
        assert_eq!((ended.code, ended.result()["status"].as_str()), (Some(code), Some(status)), "{tasks}{ended:?}");
    }
}

#[test]
fn unavailable_required_agent_has_its_own_exit_code() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let text = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{text}[agents.gone]\ncommand = \"no-such-program\"\nrequired = true\n"));
    let ended = place
        .run_plan(&format!("name: x\ntasks:\n  - {{ id: a, {STORE} }}\n  - {{ id: b, agent: gone, tool: t }}\n"), &[]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stdout.contains("gone"), "{}", ended.stdout);
}

#[test]
fn denied_approval_has_its_own_exit_code() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = format!("name: x\ntasks: [{{ id: a, approve: Store it?, {STORE} }}]\n");
    place.write("no.yaml", "answers: [{ task: a, decline: true }]\n");
    place.write("yes.yaml", "answers: [{ task: a, message: store it, accept: true }]\n");
    let no = place.run_plan(&plan, &["--answers", "no.yaml"]);
    assert_eq!((no.code, no.task("a")), (Some(7), ("failed".into(), Some("denied".into()))), "{no:?}");
    let yes = place.run_plan(&plan, &["--answers", "yes.yaml"]);
    assert_eq!((yes.code, yes.task("a").0.as_str()), (Some(0), "succeeded"), "{yes:?}");
}

#[test]
fn result_contains_skip_reasons_and_item_outputs() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let plan = "name: x\n\
        inputs: { words: { type: array, default: [one, two] } }\n\
        tasks:\n\
        \x20 - id: each\n\
        \x20   foreach: ${{ inputs.words }}\n\
        \x20   as: word\n\
        \x20   agent: odd-good\n\
        \x20   tool: echo\n\
        \x20   with: { text: \"${{ word }}!\" }\n\
        \x20 - { id: never, if: tasks.each.failed > 0, agent: odd-good, tool: work }\n\
        \x20 - { id: after, needs: [never], agent: odd-good, tool: work }\n\
        outputs: { words: \"${{ tasks.each.outputs }}\", count: \"${{ tasks.each.succeeded }}\" }\n";
    let ended = place.run_plan(plan, &[]);
    let mut result = ended.result();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let run = result["run"].take();
    let item = |output: &str| {
        json!({
            "status": "succeeded", "agent": "odd-good", "tool": "echo", "attempts": 1, "output": output,
            "error": null, "skipped_because": null,
        })
    };
    let skipped = |reason: &str| {
        json!({
            "status": "skipped", "agent": null, "tool": null, "attempts": 0, "output": null, "error": null,
            "skipped_because": reason,
        })
    };
    assert_eq!(
        result,
        json!({
            "run": null,
            "status": "succeeded",
            "outputs": { "words": ["one!", "two!"], "count": 2 },
            "spent": {
                "llm_calls": 0, "tool_calls": 2, "input_tokens": 0, "output_tokens": 0, "unreported_replies": 0,
            },
            "tasks": {
                "each": {
                    "status": "succeeded", "agent": null, "tool": null, "attempts": 2, "output": null, "error": null,
                    "skipped_because": null, "items": [item("one!"), item("two!")],
                },
                "never": skipped("its condition `tasks.each.failed > 0` is false"),
                "after": skipped("it needs `never`, which was skipped"),
            },
        }),
        "run {run}"
    );
}

#[test]
fn text_output_prints_titles_and_answers() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write(
        "plan.yaml",
        "name: x\ntasks:\n\
         \x20 - { id: a, title: The first, agent: odd-good, tool: echo, with: { text: one } }\n\
         \x20 - { id: b, agent: odd-good, tool: echo, with: { text: two } }\n",
    );
    let ended = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "## The first\n\none\n\n## b\n\ntwo\n"), "{ended:?}");
}

#[test]
fn reads_a_plan_from_stdin() {
    use std::io::Write;
    use std::process::Stdio;
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let given = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        let plan = b"name: x\ntasks: [{ id: a, agent: odd-good, tool: work }]\n";
        child.stdin.take().expect("piped").write_all(plan).expect("taken");
        crate::support::workspace::CommandOutput::from_output(child.wait_with_output().expect("ends"))
    };
    let ended = given(&["run", "-", "--output", "json"]);
    assert_eq!((ended.code, ended.task("a").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    let valid = given(&["validate", "-", "--output", "json"]);
    assert_eq!(
        (valid.code, valid.result()),
        (Some(0), serde_json::json!({"valid": true, "diagnostics": []})),
        "{valid:?}"
    );
}

#[test]
fn dry_run_connects_to_no_agent() {
    let place = Workspace::new();
    place.write("agents.toml", "[agents.gone]\ncommand = \"no-such-program\"\n");
    let ended = place.run_plan("name: x\ntasks: [{ id: a, agent: gone, tool: t }]\n", &["--dry-run"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "x: 1 task in 1 wave\n1 ─── a\n        gone.t\n"),
        "{ended:?}"
    );
}
