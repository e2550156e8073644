//! Shell commands as tasks: their output, their environment, their limits, and their end.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for};

/// Runs a plan with one task `x`, the given keys, and permission to run commands.
fn run_task(place: &Workspace, keys: &str) -> CommandOutput {
    place.write("agents.toml", "[shell]\nenabled = true\n");
    place.run_plan(&format!("name: x\ntasks:\n  - {{ id: x, {keys} }}\n"), &[])
}

/// Returns the output of the task `x`, and its text.
fn output(ended: &CommandOutput) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.result()["tasks"]["x"]["output"].clone()
}

/// Returns the message of the failure of task `x`.
fn failure(ended: &CommandOutput) -> (String, String) {
    let error = ended.result()["tasks"]["x"]["error"].clone();
    let text = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no failure: {ended:?}")).to_owned();
    (text("kind"), text("message"))
}

#[test]
fn feature_plan_runs_and_requires_permission() {
    let plan = Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/features/shell.yaml").display().to_string();
    let place = Workspace::new();
    place.write("agents.toml", "");
    let refused = place.kapell(&["run", &plan, "--no-input"]);
    assert_eq!((refused.code, refused.error_codes()), (Some(2), vec!["plan::shell_disabled"; 3]), "{refused:?}");
    assert!(refused.stderr.contains("`enabled = true` in `[shell]`"), "{refused:?}");
    assert!(refused.stderr.contains("`--allow-shell`"), "{refused:?}");

    let checked = place.kapell(&["validate", &plan, "--offline"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("plan::shell_disabled"), "a warning: {checked:?}");
    let drawn = place.kapell(&["run", &plan, "--dry-run"]);
    assert!(drawn.stdout.contains("host.shell") && drawn.stdout.contains("wc -w"), "{drawn:?}");

    let ended = place.kapell(&["run", &plan, "--allow-shell", "--output", "json", "--no-input"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["outputs"], json!({"words": 7, "found": false, "longest": 11}));

    // A plan that needs no agents needs no agents file.
    std::fs::remove_file(place.path("agents.toml")).expect("was written");
    let ended = place.kapell(&["run", &plan, "--allow-shell", "--no-input"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn output_has_the_exit_code_and_both_streams() {
    let place = Workspace::new();
    let ended = run_task(&place, "shell: 'echo out; echo err >&2; exit 3', expect: [0, 3]");
    assert_eq!(output(&ended), json!({"exit_code": 3, "stdout": "out\n", "stderr": "err\n"}));
    let plan = "name: x\ntasks:\n  - { id: x, shell: 'echo a; echo b' }\noutputs: { text: '${{ tasks.x.text }}' }\n";
    assert_eq!(place.run_plan(plan, &[]).result()["outputs"]["text"], json!("a\nb"));
    let shown = place.kapell(&["runs", "show", "last", "x"]);
    assert!(shown.stdout.contains("host.shell") && shown.stdout.contains("echo a; echo b"), "{shown:?}");
    let listed = place.kapell(&["agents", "list"]);
    assert!(!listed.stdout.contains("host"), "{listed:?}");
}

#[test]
fn unexpected_exit_codes_fail_with_the_last_lines() {
    let place = Workspace::new();
    let (kind, message) = failure(&run_task(&place, "shell: 'echo first >&2; echo last >&2; exit 7'"));
    assert_eq!(kind, "tool_error");
    assert_eq!(message, "the command exited with code 7; standard error: first | last");
    let (_, message) = failure(&run_task(&place, "shell: 'kill -9 $$'"));
    assert_eq!(message, "the command was ended by signal 9");
    // Retries apply as to a tool.
    let plan =
        "shell: 'test -e ready || { touch ready; exit 1; }', retry: { max_attempts: 2, backoff: { initial: 1ms } }";
    let ended = run_task(&place, plan);
    assert_eq!((ended.code, &ended.result()["tasks"]["x"]["attempts"]), (Some(0), &json!(2)), "{ended:?}");
}

#[test]
fn values_are_words_and_never_commands() {
    let place = Workspace::new();
    let odd = "a'; touch hacked; echo '$(touch hacked)`touch hacked`\n\"$HOME\"";
    place.write("agents.toml", "[shell]\nenabled = true\n");
    place.write("params.json", json!({"odd": odd}).to_string());
    let plan = "name: x\ninputs: { odd: { type: string } }\ntasks:\n  - { id: x, shell: \"printf '<%s>' --a=${{ inputs.odd }} end\" }\n";
    let ended = place.run_plan(plan, &["--params-file", "params.json"]);
    assert_eq!(output(&ended)["stdout"], json!(format!("<--a={odd}><end>")));
    assert!(!place.path("hacked").exists());

    let refused = place.run_plan(&plan.replace("--a=${{ inputs.odd }}", "'${{ inputs.odd }}'"), &[]);
    assert_eq!((refused.code, refused.error_code()), (Some(2), "plan::unquoted_value"), "{refused:?}");
    assert!(refused.stderr.contains("inside quotes"), "{refused:?}");
}

#[test]
fn environment_is_minimal_and_the_directory_is_that_of_the_plan() {
    let place = Workspace::new();
    std::fs::create_dir_all(place.path("plans/sub")).expect("created");
    place.write("agents.toml", "[shell]\nenabled = true\n");
    let plan = "name: x\ntasks:\n  - id: x\n    shell:\n      command: pwd; echo \"$SECRET_TOKEN,$GIVEN,$KAPELL_AGENT\"; tty; cat\n      cwd: sub\n      env: { GIVEN: '${{ 1 + 1 }}' }\n    expect: [0, 1]\n";
    place.write("plans/p.yaml", plan);
    let mut command = place.command(["run", "plans/p.yaml", "--output", "json", "--no-input"]);
    let ended = CommandOutput::of(command.env("SECRET_TOKEN", "hunter22"));
    let stdout = output(&ended)["stdout"].as_str().expect("text").to_owned();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].ends_with("/plans/sub"), "{stdout}");
    assert!(lines[1].starts_with(",2,"), "{stdout}");
    assert_eq!(lines[2..], ["not a tty"], "there is neither a terminal nor input");
}

#[test]
fn silent_and_long_commands_are_killed_with_their_children() {
    let place = Workspace::new();
    let (kind, message) =
        failure(&run_task(&place, "shell: 'sleep 1000 & echo $! > pid; echo $$ >> pid; sleep 1001', timeout: 500ms"));
    assert_eq!(kind, "idle_timeout", "{message}");
    for pid in std::fs::read_to_string(place.path("pid")).expect("written").lines() {
        wait_for("the end of the group", || (!is_running(pid)).then_some(()));
    }
    let ended = run_task(&place, "shell: 'for i in 1 2 3 4; do echo $i; sleep 0.3; done', timeout: 900ms");
    assert_eq!(output(&ended)["stdout"], json!("1\n2\n3\n4\n"), "output resets the timeout");
    let ended = run_task(&place, "shell: 'while true; do echo x; sleep 0.1; done', timeout: 5s, deadline: 800ms");
    assert_eq!(failure(&ended).0, "deadline_exceeded", "{ended:?}");
    // Whatever a command leaves in the background ends with it.
    let ended = run_task(&place, "shell: 'sleep 1000 & echo done'");
    assert_eq!(output(&ended)["stdout"], json!("done\n"));
}

#[test]
fn output_is_limited_and_large_output_is_a_file() {
    let place = Workspace::new();
    place.write("agents.toml", "[shell]\nenabled = true\nmax_output_bytes = 65536\n");
    let plan = "name: x\ntasks:\n  - { id: x, shell: 'head -c 70000 /dev/zero | tr \"\\\\0\" a', effect: read_only }\n";
    let ended = place.run_plan(plan, &[]);
    assert_eq!(failure(&ended).0, "result_too_large", "{ended:?}");

    let ended = run_task(&place, "shell: 'head -c 3000000 /dev/zero | tr \"\\\\0\" a', effect: read_only");
    assert_eq!(output(&ended)["stdout"].as_str().map(str::len), Some(3_000_000));
    let files = &ended.result()["tasks"]["x"]["files"];
    assert_eq!(files[0]["bytes"], json!(3_000_000), "{files}");
    // Data that is not text is a file, too.
    let ended = run_task(&place, "shell: 'printf \"\\\\377\\\\000\"'");
    let result = ended.result();
    assert_eq!(result["tasks"]["x"]["output"]["stdout"], Value::Null, "{result}");
    assert_eq!(result["tasks"]["x"]["files"][0]["bytes"], json!(2));
}

/// The plan of a command that reports its start and then takes long.
fn long_plan(effect: &str) -> String {
    format!(
        "name: x\ntasks:\n  - {{ id: x, shell: 'echo $$ >> pids; if test -e fast; then echo ok; else sleep 600; fi', effect: {effect} }}\n"
    )
}

fn started_pids(place: &Workspace) -> Vec<String> {
    let pids = std::fs::read_to_string(place.path("pids")).unwrap_or_default();
    pids.lines().map(str::to_owned).collect()
}

/// Starts the plan and waits until its command runs.
fn start_long_run(place: &Workspace, effect: &str) -> std::process::Child {
    place.write("agents.toml", "").write("plan.yaml", long_plan(effect));
    let host = place.start(&["run", "plan.yaml", "--no-input", "--allow-shell"]);
    wait_for("the command", || (!started_pids(place).is_empty()).then_some(()));
    host
}

fn wait_for_end_of_command(place: &Workspace) {
    let pid = started_pids(place).remove(0);
    wait_for("the end of the command", || (!is_running(&pid)).then_some(()));
}

/// Returns whether a process runs; one that has ended may still wait for its parent.
fn is_running(pid: &str) -> bool {
    let shown = std::process::Command::new("ps").args(["-o", "stat=", "-p", pid]).output().expect("ps runs");
    let state = String::from_utf8_lossy(&shown.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

#[test]
fn killed_host_kills_commands_and_the_effect_decides() {
    for (effect, code) in [("read_only", 0), ("at_most_once", 4)] {
        let place = Workspace::new();
        let mut host = start_long_run(&place, effect);
        send_signal(&host, "KILL");
        host.wait().expect("it ends");
        wait_for_end_of_command(&place);
        place.write("fast", "");
        let refused = place.kapell(&["resume", "--no-input"]);
        assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::shell_disabled"), "{refused:?}");
        let ended = place.kapell(&["resume", "--no-input", "--allow-shell"]);
        assert_eq!(ended.code, Some(code), "{effect}: {ended:?}");
        assert_eq!(started_pids(&place).len(), if code == 0 { 2 } else { 1 }, "{effect}");
    }
}

#[test]
fn interrupted_and_cancelled_runs_end_their_commands() {
    let place = Workspace::new();
    let host = start_long_run(&place, "at_most_once");
    send_signal(&host, "INT");
    let ended = CommandOutput::from_output(host.wait_with_output().expect("it ends"));
    assert_eq!(ended.code, Some(130), "{ended:?}");
    wait_for_end_of_command(&place);

    let place = Workspace::new();
    let host = start_long_run(&place, "at_most_once");
    let cancelled = place.kapell(&["cancel", "last"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    let ended = CommandOutput::from_output(host.wait_with_output().expect("it ends"));
    assert_ne!(ended.code, Some(0), "{ended:?}");
    wait_for_end_of_command(&place);
}

#[test]
fn mistakes_are_reported_with_their_positions() {
    let place = Workspace::new();
    place.write("agents.toml", "[shell]\nenabled = true\n[http]\nhosts = [\"*\"]\n");
    for (task, code) in [
        ("shell: x, agent: y", "plan::two_works"),
        ("shell: x, prompt: y", "plan::two_works"),
        ("shell: x, http: 'http://a.example'", "plan::two_works"),
        ("shell: { cwd: x }", "plan::missing_key"),
        ("shell: { command: x, env: { 'a=b': c } }", "plan::bad_name"),
        ("shell: { command: x, expect: 1 }, expect: 2", "plan::duplicate_key"),
        ("shell: x, expect: [1, many]", "plan::wrong_type"),
        ("shell: x, expect: 1000", "plan::out_of_range"),
        ("shell: x, cache: 1h", "plan::cache_effect"),
        ("prompt: x, cache: 1h", "plan::no_model,plan::useless_key"),
        ("shell: x, save: ../x", "plan::bad_file_name"),
        ("shell: x, save: x, foreach: [1, 2]", "plan::duplicate_file"),
        ("http: ftp://a.example/x", "plan::bad_url"),
        ("http: { url: 'http://a.example', method: get }", "plan::unknown_word"),
        ("http: { url: 'http://a.example', headers: { 'a b': c } }", "plan::header"),
    ] {
        place.write("plan.yaml", format!("tasks:\n  - {{ id: x, {task} }}\n"));
        let ended = place.kapell(&["validate", "plan.yaml", "--offline"]);
        assert_eq!(ended.error_codes().join(","), code, "{task}: {}", ended.stderr);
    }
    place.write("agents.toml", "[agents.host]\ncommand = \"x\"\n[http]\nhosts = [\"http://x\"]\n");
    let ended = place.kapell(&["validate", "plan.yaml", "--offline"]);
    assert_eq!(ended.error_codes(), ["agents::reserved_name", "agents::bad_host"], "{ended:?}");
    place.write("agents.toml", "");
    let added = place.kapell(&["agents", "add", "host", "--", "server"]);
    assert_eq!(added.error_code(), "cli::invalid_name", "{added:?}");
    place.write("other.json", r#"{"mcpServers": {"host": {"command": "server"}}}"#);
    let imported = place.kapell(&["agents", "import", "other.json", "--yes"]);
    assert!(imported.code == Some(0) && imported.stdout.contains("[agents.agent-host]"), "{imported:?}");
}
