//! `kapell retry`: the calls that it repeats, and the plan that it uses.

use crate::cli::interruption::{recorded_calls, wait_for_call, workspace};
use crate::support::workspace::{CommandOutput, Workspace, send_signal};

const PLAN: &str = "
name: steps
defaults: { effect: at_most_once }
tasks:
  - { id: list, agent: steps, tool: list }
  - id: each
    foreach: ${{ tasks.list.output['items'] }}
    as: label
    agent: steps
    tool: step
    with: { label: '${{ label }}' }
  - { id: after, needs: [each], agent: steps, tool: step, with: { label: after } }
";

/// Runs the plan over four items, where `c` fails, and clears the record of calls.
fn failed_run() -> Workspace {
    let place = workspace();
    place.write("plan.yaml", PLAN).write("items", "a b c d").write("fail-c", "");
    let ended = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut made = recorded_calls(&place);
    made.sort();
    assert_eq!(made, ["a", "b", "c", "d"]);
    clear_calls(&place);
    place
}

fn clear_calls(place: &Workspace) {
    std::fs::remove_file(place.path("calls")).expect("there were calls");
    std::fs::remove_file(place.path("fail-c")).expect("it failed");
}

fn run_retry(place: &Workspace, options: &[&str]) -> CommandOutput {
    place.kapell(&[&["retry", "last", "--no-input", "--output", "json"], options].concat())
}

/// Returns an error without line wrapping.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}

#[test]
fn retry_calls_only_failed_items() {
    for from in ["list", "each", "after"] {
        let place = failed_run();
        let ended = run_retry(&place, &["--from", from, "--allow-repeats"]);
        assert_eq!((ended.code, ended.task("after").0.as_str()), (Some(0), "succeeded"), "--from {from}: {ended:?}");
        assert_eq!(recorded_calls(&place), ["c", "after"], "--from {from}");
    }
}

#[test]
fn result_shows_a_run_or_one_of_its_tasks() {
    let place = failed_run();
    let result = |arguments: &[&str]| place.kapell(&[&["result"], arguments].concat());
    let shown = result(&[]);
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(shown.stdout.contains("### each[2]\n\nfailed: "), "{}", shown.stdout);
    let json = result(&["last", "--output", "json"]).result();
    assert_eq!((&json["status"], &json["tasks"]["each"]["items"][0]["output"]), (&"failed".into(), &"a".into()));

    assert_eq!(result(&["last", "each[3]"]).stdout, "d\n");
    assert!(result(&["last", "each"]).stdout.contains("### each[0]\n\na\n"));
    assert_eq!(result(&["last", "each[3]", "--output", "json"]).result()["output"], "d");
    let failed = result(&["last", "each[2]"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{failed:?}");
    assert!(
        failed.stderr.contains("failed: no luck with c") && failed.stderr.contains("kapell runs show"),
        "{failed:?}"
    );
    let skipped = result(&["last", "after", "--output", "json"]);
    assert_eq!((skipped.code, &skipped.result()["status"]), (Some(1), &"skipped".into()), "{skipped:?}");
    let refused = result(&["last", "each[9]"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::unknown_task"), "{refused:?}");
}

#[test]
fn task_is_shown_with_its_calls_and_standard_error() {
    let place = workspace();
    let agent = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/steps.py");
    let folder = place.path("").display().to_string();
    // Each request is also written to standard error.
    let script = format!("tee /dev/stderr | python3 '{}' '{folder}'", agent.display());
    let section = format!(
        "[agents.steps]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\nenv = {{ TOKEN = \"${{STEPS_TOKEN}}\" }}\n"
    );
    place.write("agents.toml", section).write(".env", "STEPS_TOKEN=s3cret-value\n");
    let plan = "name: steps\ntasks:\n  - { id: a, agent: steps, tool: step, retry: { max_attempts: 2 }, with: { label: 's3cret-value' } }\n";
    place.write("plan.yaml", plan).write("fail-s3cret-value", "");
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(1));
    let shown = place.kapell(&["runs", "show", "last", "a"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let json = place.kapell(&["runs", "show", "last", "a", "--output", "json"]).result();
    let calls = json["calls"].as_array().expect("calls");
    assert_eq!(calls.len(), 2, "{json}");
    assert_eq!((&calls[0]["number"], &calls[0]["next"]["agent"]), (&1.into(), &"steps".into()), "{json}");
    assert_eq!(calls[0]["arguments"], serde_json::json!({"label": "***"}));
    let stderr = calls[1]["stderr"].as_array().expect("lines");
    assert!(
        stderr.iter().any(|line| line["text"].as_str().is_some_and(|text| text.contains("\"tools/call\""))),
        "{json}"
    );
    for text in ["attempt 1  steps.step  failed", "next: retried on `steps`", "attempt 2", "no luck with", "stderr\n"] {
        assert!(shown.stdout.contains(text), "{text}: {}", shown.stdout);
    }
    assert!(!(shown.stdout + &json.to_string()).contains("s3cret-value"), "secrets are masked");
    let unknown = place.kapell(&["runs", "show", "last", "nope"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "cli::unknown_task"));
}

#[test]
fn diff_counts_reused_results_as_same() {
    let place = failed_run();
    assert_eq!(run_retry(&place, &[]).code, Some(0));
    let listed = place.kapell(&["runs", "list", "--output", "json"]).result();
    let [second, first] = [0, 1].map(|index| listed[index]["run"].as_str().expect("an ID").to_owned());
    let diff = place.kapell(&["runs", "diff", &first, &second]);
    assert_eq!(diff.code, Some(1), "{diff:?}");
    let line = |task: &str| diff.stdout.lines().find(|line| line.starts_with(task)).expect("a line").to_owned();
    assert!(line("list ").contains("same (reused)") && line("each[0]").contains("same (reused)"), "{diff:?}");
    assert!(line("each[2]").contains("different"), "{diff:?}");
}

#[test]
fn logs_are_selected_by_task_level_and_time() {
    let place = failed_run();
    let events = |options: &[&str]| -> Vec<serde_json::Value> {
        let logs = place.kapell(&[&["logs", "--output", "json"], options].concat());
        assert_eq!(logs.code, Some(0), "{logs:?}");
        logs.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let of_item = events(&["--task", "each[2]"]);
    assert!(!of_item.is_empty() && of_item.iter().all(|event| event.to_string().contains("each[2]")), "{of_item:?}");
    let all = events(&[]);
    assert!(events(&["--task", "each"]).len() > of_item.len());
    let unknown = place.kapell(&["logs", "--task", "eac"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "cli::unknown_task"));
    assert_eq!(events(&["--since", "1h"]), all);
    assert_eq!(events(&["--since", "2200-01-01T00:00:00"]), Vec::<serde_json::Value>::new());
    assert_eq!(events(&["--level", "error"]), all, "no agent of this run logs");
    for invalid in [["--since", "yesterday"], ["--level", "loud"]] {
        let refused = place.kapell(&[&["logs"][..], &invalid].concat());
        assert!(refused.code == Some(2) && refused.stderr.contains("expected"), "{refused:?}");
    }
}

#[test]
fn runs_are_listed_by_plan_and_status() {
    let place = Workspace::new();
    for (arguments, text) in [(&["runs", "list"][..], "no runs yet\n"), (&["questions"], "no open questions\n")] {
        let none = place.kapell(arguments);
        assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(0), "", text), "{arguments:?}");
        let none = place.kapell(&[arguments, &["--output", "json"]].concat());
        assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(0), "[]\n", ""), "{arguments:?}");
    }

    let place = failed_run();
    assert_eq!(run_retry(&place, &[]).code, Some(0));
    let list = |options: &[&str]| {
        let listed = place.kapell(&[&["runs", "list", "--output", "json"], options].concat()).result();
        listed.as_array().expect("a list").clone()
    };
    let all = list(&["--plan", "steps"]);
    let [second, first] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((&first["done"], &first["tasks"], &first["rerun_of"]), (&6.into(), &6.into(), &serde_json::Value::Null));
    assert_eq!((&second["rerun_of"], second.get("cost_usd")), (&first["run"], None));
    for (options, expected) in [
        (&["--status", "failed"][..], vec![first.clone()]),
        (&["--status", "failed", "--status", "succeeded"], all.clone()),
        (&["--limit", "1"], vec![second.clone()]),
        (&["--status", "interrupted"], vec![]),
        (&["--plan", "other"], vec![]),
    ] {
        assert_eq!(list(options), expected, "{options:?}");
    }
    let none = place.kapell(&["runs", "list", "--plan", "other"]);
    assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), (Some(0), "", "no such runs\n"));
    let listed = place.kapell(&["runs", "list"]).stdout;
    let short = |run: &serde_json::Value| run["run"].as_str().expect("an ID")[28..].to_owned();
    assert!(
        listed.lines().nth(1).is_some_and(|line| line.contains(" 6/6 ") && line.ends_with(&short(first))),
        "{listed}"
    );
    let shown = |run: &serde_json::Value| place.kapell(&["runs", "show", &short(run)]).stdout;
    assert!(shown(first).contains(&format!("\nretried as  {}\n", short(second))), "{}", shown(first));
    assert!(shown(second).contains(&format!("\nretry of  {}\n", short(first))), "{}", shown(second));
    // A reused result has no attempts and no time of its own.
    let list = shown(second).lines().find(|line| line.starts_with("list ")).map(|line| line.trim_end().to_owned());
    assert!(list.as_ref().is_some_and(|line| line.ends_with("reused")), "{list:?}");
}

#[test]
fn agents_logs_prints_standard_error() {
    let place = workspace();
    place.write("items", "a");
    let silent = place.kapell(&["agents", "logs", "steps"]);
    assert!(silent.code == Some(0) && silent.stderr.contains("has written nothing"), "{silent:?}");
    place.write("agents.toml", "[agents.loud]\ncommand = \"sh\"\nargs = [\"-c\", \"echo one >&2; echo two >&2; exit 3\"]\nstartup_timeout = \"60s\"\n");
    assert_eq!(place.kapell(&["agents", "test"]).code, Some(1));
    let shown = place.kapell(&["agents", "logs", "loud", "--lines", "1"]);
    assert!(shown.stdout.ends_with("two\n") && shown.stdout.lines().count() == 1, "{shown:?}");
}

#[test]
fn retry_without_a_task_repeats_what_failed() {
    for options in [&["retry"][..], &["retry", "--failed"], &["retry", "last", "--failed"]] {
        let place = failed_run();
        let ended = place.kapell(&[options, &["--no-input", "--output", "json"]].concat());
        assert_eq!((ended.code, ended.task("after").0.as_str()), (Some(0), "succeeded"), "{options:?}: {ended:?}");
        assert_eq!(recorded_calls(&place), ["c", "after"], "{options:?}");
    }
}

#[test]
fn retry_keeps_calls_that_succeeded_after_a_failure() {
    let place = workspace();
    let plan = PLAN.replace("label }}' }\n", "label }}' }\n    on_failure: continue\n");
    place.write("plan.yaml", plan).write("items", "a b c d").write("fail-c", "");
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(3));
    clear_calls(&place);
    let ended = run_retry(&place, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(recorded_calls(&place), ["c"]);
    let refused = run_retry(&place, &["--from", "after"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::repeats_effects"), "{refused:?}");
    assert!(unwrapped(&refused.stderr).contains("`after`"), "{}", refused.stderr);
    assert_eq!(run_retry(&place, &["--from", "after", "--allow-repeats"]).code, Some(0));
    assert_eq!(recorded_calls(&place), ["c", "after"]);

    let refused = run_retry(&place, &[]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::nothing_failed"), "{refused:?}");
    let refused = run_retry(&place, &["--failed", "--from", "after"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[test]
fn retry_from_an_item_is_rejected() {
    let place = failed_run();
    let ended = run_retry(&place, &["--from", "each[2]"]);
    assert_eq!((ended.code, ended.error_code()), (Some(2), "cli::unknown_task"));
    assert!(unwrapped(&ended.stderr).contains("`--from each`"), "{}", ended.stderr);
}

/// Returns the lines about what a retry with another plan does.
fn difference(ended: &CommandOutput) -> String {
    let lines = ended.stderr.lines().skip_while(|line| !line.starts_with("compared with run ")).skip(1);
    lines.take_while(|line| line.starts_with("  ")).map(|line| format!("{}\n", line.trim_start())).collect()
}

#[test]
fn changed_plan_is_reported_and_can_be_used() {
    let place = failed_run();
    let corrected = PLAN.replace("label: after", "label: corrected");
    place.write("plan.yaml", &corrected);
    let refused = run_retry(&place, &["--from", "each"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::changed_files"));
    assert!(unwrapped(&refused.stderr).contains("task `after`"), "{}", refused.stderr);
    assert!(!place.path("calls").exists(), "nothing was called");

    let ended = run_retry(&place, &["--from", "each", "--plan", "plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(recorded_calls(&place), ["c", "corrected"]);
    insta::assert_snapshot!(difference(&ended), @r"
    reused   `list`
    again    `each`: as requested
    changed  `after`: its call changed
    ");
    // The new run has the corrected file as its source, so the plan has not changed.
    std::fs::remove_file(place.path("calls")).expect("there were calls");
    assert_eq!(run_retry(&place, &["--from", "after", "--allow-repeats"]).code, Some(0));
    assert_eq!(recorded_calls(&place), ["corrected"]);
}

#[test]
fn corrected_plan_repeats_what_has_changed() {
    let place = failed_run();
    let corrected = PLAN
        .replace("name: steps", "name: steps\ninputs: { last: { type: string, default: end } }")
        .replace(
            "    agent: steps\n    tool: step\n    with",
            "    title: Each\n    timeout: 30s\n    agent: steps\n    tool: step\n    with",
        )
        .replace("id: after,", "id: last,")
        .replace("label: after", "label: '${{ inputs.last }}'");
    place.write("corrected.yaml", corrected);
    let ended = run_retry(&place, &["--plan", "corrected.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(recorded_calls(&place), ["c", "end"]);
    insta::assert_snapshot!(difference(&ended), @r"
    reused   `list`
    again    `each`: it has no result
    new      `last`
    removed  `after`
    ");

    // Another value of an input repeats the tasks that use it.
    let refused = run_retry(&place, &["--param", "last=again"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::repeats_effects"), "{refused:?}");
    let ended = run_retry(&place, &["--param", "last=again", "--allow-repeats"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(recorded_calls(&place), ["c", "end", "again"]);
    insta::assert_snapshot!(difference(&ended), @r"
    reused   `list`, `each`
    changed  `last`: the input `last` changed
    ");

    place.write("corrected.yaml", "name: steps\ntasks: [{ id: list, agent: nope, tool: list }]\n");
    let refused = run_retry(&place, &["--plan", "corrected.yaml"]);
    assert!(refused.code == Some(2) && refused.stderr.contains("corrected.yaml:2:"), "{refused:?}");
}

#[test]
fn retry_of_a_running_run_names_its_process() {
    let place = workspace();
    place.write("plan.yaml", PLAN).write("items", "a").write("hold-a", "");
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for_call(&place, "a");
    let refused = run_retry(&place, &[]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::run_not_ended"), "{refused:?}");
    let text = unwrapped(&refused.stderr);
    assert!(text.contains(&format!("process {}", host.id())) && text.contains("kapell cancel"), "{text}");
    assert!(!text.contains("kapell resume"), "{text}");
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
}

#[test]
fn changed_plan_can_be_ignored() {
    let place = failed_run();
    place.write("plan.yaml", PLAN.replace("label: after", "label: corrected"));
    assert_eq!(run_retry(&place, &["--from", "each", "--accept-changes"]).code, Some(0));
    assert_eq!(recorded_calls(&place), ["c", "after"]);
}

#[test]
fn missing_agent_is_reported_before_any_call() {
    let place = failed_run();
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("an agents file");
    place.write("agents.toml", agents.replace("agents.steps", "agents.other"));
    let refused = run_retry(&place, &["--from", "each"]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::unknown_agent"));
}

/// Runs the plan over three items, and sends a signal while the second is running.
fn stopped(name: &str) -> Workspace {
    let place = workspace();
    place
        .write("plan.yaml", PLAN.replace("as: label", "as: label\n    max_parallel: 1"))
        .write("items", "a b c")
        .write("hold-b", "");
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for_call(&place, "b");
    send_signal(&host, name);
    host.wait().expect("it ends");
    std::fs::remove_file(place.path("hold-b")).expect("it was held");
    std::fs::remove_file(place.path("calls")).expect("there were calls");
    place
}

#[test]
fn retry_rejects_an_unfinished_run_and_asks_about_unknown_outcomes() {
    for (name, decision) in [("INT", "done"), ("KILL", "repeat")] {
        let place = stopped(name);
        let refused = run_retry(&place, &["--from", "each"]);
        assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::run_not_ended"), "{name}");
        let cancelled = place.kapell(&["cancel", "last"]);
        assert_eq!(cancelled.code, Some(0), "{name}: {cancelled:?}");

        // The outcome of `b` is unknown, so the retry asks as a resumed run would.
        let paused = run_retry(&place, &["--from", "each"]);
        assert_eq!(paused.code, Some(4), "{name}: {paused:?}");
        let questions = place.kapell(&["questions", "--output", "json"]).result();
        assert_eq!(questions[0]["asker"]["host"]["attempt"]["task"], "each[1]", "{name}: {questions}");
        assert_eq!(recorded_calls(&place), ["c"], "{name}: what is known to be open is called");
        place
            .write("answers.yaml", format!("answers:\n  - {{ task: 'each[1]', accept: {{ outcome: {decision} }} }}\n"));
        let ended = place.kapell(&["resume", "--answers", "answers.yaml", "--output", "json"]);
        assert_eq!((ended.code, ended.task("after").0.as_str()), (Some(0), "succeeded"), "{name}: {ended:?}");
        let expected: &[&str] = if decision == "done" { &["c", "after"] } else { &["c", "b", "after"] };
        assert_eq!(recorded_calls(&place), expected, "{name}");
    }
}

#[test]
fn changed_params_file_is_reported_and_inputs_stay_the_same() {
    let place = workspace();
    let plan = "
name: steps
inputs: { label: { type: string }, other: { type: string, default: x }, given: { type: string } }
tasks:
  - { id: first, agent: steps, tool: step, with: { label: '${{ inputs.label }}' } }
";
    place.write("plan.yaml", plan).write("params.yaml", "label: before\ngiven: file\n");
    let run = ["run", "plan.yaml", "--params-file", "params.yaml", "--param", "given=line", "--no-input"];
    assert_eq!(place.kapell(&run).code, Some(0));
    let change = |params: &str| {
        place.write("params.yaml", params);
        let ended = run_retry(&place, &["--from", "first", "--allow-repeats"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let lines = ended.stderr.lines().find(|line| line.starts_with("changed since"));
        lines.map(|line| line.split("params.yaml").nth(1).expect("the file").to_owned())
    };
    let same = "{ given: another, label: before } # the same, but for what the command line gave";
    assert_eq!(change(same), None);
    let other_values = change("label: after\nother: y\n").expect("a change");
    assert!(other_values.contains("`label`, `other`"), "{other_values}");
    for params in ["label: [", "label: 3", "[]", "unknown: x"] {
        assert!(change(params).is_some_and(|change| !change.contains("`label`")), "{params}");
    }
    assert!(recorded_calls(&place).iter().all(|label| label == "before"));
    std::fs::remove_file(place.path("params.yaml")).expect("it is there");
    assert_eq!(run_retry(&place, &["--from", "first", "--allow-repeats"]).code, Some(0), "the run has its inputs");
}
