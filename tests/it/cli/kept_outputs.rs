//! Results that later calls reuse, and outputs that are saved as files of the run.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace};

fn feature_plan(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plans/features").join(name).display().to_string()
}

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.write("agents.toml", "[shell]\nenabled = true\n");
    place
}

/// Runs a plan with a journal in the workspace.
fn run(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    let options = ["--output", "json", "--no-input", "--journal", "j.db"];
    place.kapell(&[&["run"], arguments, &options].concat())
}

fn saved_folder(place: &Workspace, result: &Value) -> PathBuf {
    place.path("j.files").join(result["run"].as_str().expect("an ID")).join("saved")
}

#[test]
fn later_runs_reuse_results_until_they_expire() {
    let place = workspace();
    let plan = feature_plan("cache.yaml");
    let outputs = |ended: &CommandOutput| {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.result()["outputs"].clone()
    };
    let first = outputs(&run(&place, &[&plan]));
    let second = run(&place, &[&plan]);
    assert_eq!(outputs(&second), first);
    let events = place.logged_events("j.db", "attempt_succeeded");
    assert!(events.iter().all(|event| event["output"]["cached"] == json!(true)), "{events:?}");
    let logs = place.kapell(&["logs", "last", "--journal", "j.db"]);
    assert!(
        logs.stdout.contains("the result comes from the cache") && logs.stdout.contains("from the cache"),
        "{logs:?}"
    );
    let other = outputs(&run(&place, &[&plan, "-p", "topic=porto"]));
    assert!(other["id"] != first["id"] && other["keyed"] != first["keyed"]);

    let entries = || fs::read_dir(place.path("j.cache")).expect("exists").map(|entry| entry.expect("reads").path());
    assert_eq!(entries().count(), 4);
    for entry in entries() {
        assert_eq!(fs::metadata(&entry).expect("exists").permissions().mode() & 0o777, 0o600);
        // As if it had been stored long ago.
        let text = fs::read_to_string(&entry).expect("reads");
        let (_, output) = text.split_once('\n').expect("two lines");
        fs::write(&entry, format!("{{\"stored_at\":1000,\"ttl\":3600000}}\n{output}")).expect("writes");
    }
    let third = outputs(&run(&place, &[&plan]));
    assert!(third["id"] != first["id"] && third["keyed"] != first["keyed"], "{third} {first}");
    let pruned = place.kapell(&["runs", "prune", "--keep", "9", "--journal", "j.db"]);
    assert!(pruned.stderr.contains("2 expired results deleted from the cache"), "{pruned:?}");
    assert_eq!(entries().count(), 2);
}

#[test]
fn large_results_are_reused_and_failures_are_not() {
    let place = workspace();
    let large = "name: x\ntasks:\n  - { id: x, shell: 'head -c 3000000 /dev/urandom | base64', effect: read_only, cache: 1h }\n";
    place.write("plan.yaml", large);
    let (first, second) = (run(&place, &["plan.yaml"]).result(), run(&place, &["plan.yaml"]).result());
    assert!(first["tasks"]["x"]["output"] == second["tasks"]["x"]["output"], "the same large result");
    assert_ne!(
        first["tasks"]["x"]["files"][0]["path"], second["tasks"]["x"]["files"][0]["path"],
        "it is a file of each run"
    );

    let failing = "name: x\ntasks:\n  - { id: x, shell: 'test -e ready', effect: read_only, cache: { ttl: 1h } }\n";
    place.write("plan.yaml", failing);
    assert_eq!(run(&place, &["plan.yaml"]).code, Some(1));
    place.write("ready", "");
    assert_eq!(run(&place, &["plan.yaml"]).code, Some(0));
}

#[test]
fn tools_and_resources_use_the_cache_of_their_section() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = fs::read_to_string(place.path("agents.toml")).expect("written");
    let plan = "name: x\ntasks:\n  - { id: x, agent: research, tool: research, with: { topic: Lisbon }, effect: read_only, cache: 1h }\n";
    place.write("plan.yaml", plan);
    let cached = |ended: &CommandOutput| {
        assert_eq!(ended.code, Some(0), "{ended:?}");
        place.logged_events("j.db", "attempt_succeeded")[0]["output"]["cached"] == json!(true)
    };
    assert!(!cached(&run(&place, &["plan.yaml"])));
    assert!(cached(&run(&place, &["plan.yaml"])));
    // Another server of that name is another agent.
    place.write(
        "agents.toml",
        agents.replace("[\"demo-agent\", \"research\"]", "[\"demo-agent\", \"research\"]\nmax_concurrency = 2"),
    );
    assert!(!cached(&run(&place, &["plan.yaml"])));
}

#[test]
fn saved_outputs_are_files_for_later_tasks_and_people() {
    let place = workspace();
    let ended = run(&place, &[&feature_plan("save.yaml"), "--save", "copies"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    // The last line of an output has no line break.
    assert_eq!(result["outputs"]["lines"], json!(2000));
    let folder = saved_folder(&place, &result);
    let page = fs::read_to_string(folder.join("pages/2-middle.txt")).expect("saved");
    assert!(page.starts_with("# middle\n1\n2\n") && page.ends_with("\n1000"), "{page}");
    assert_eq!(fs::metadata(folder.join("count.txt")).expect("exists").permissions().mode() & 0o777, 0o600);
    assert_eq!(result["outputs"]["report"], json!(folder.join("count.txt").display().to_string()));
    assert_eq!(fs::read(place.path("copies/count.txt")).expect("copied"), b"2000");

    let shown = place.kapell(&["runs", "show", "last", "--journal", "j.db"]);
    assert!(shown.stdout.contains("count.txt"), "{shown:?}");
    let saved = place.kapell(&["result", "last", "--save", "later", "--journal", "j.db"]);
    assert!(
        saved.stderr.contains("later/pages/3-end.txt") || saved.stdout.contains("later/pages/3-end.txt"),
        "{saved:?}"
    );
    assert_eq!(fs::read_to_string(place.path("later/pages/2-middle.txt")).expect("copied"), page);

    // A new run of a part has the files of the other tasks.
    let retried =
        place.kapell(&["retry", "last", "--from", "count", "--output", "json", "--no-input", "--journal", "j.db"]);
    assert_eq!(retried.code, Some(0), "{retried:?}");
    let result = retried.result();
    let path = result["tasks"]["pages"]["items"][0]["files"][0]["path"].as_str().expect("a path").to_owned();
    assert!(path.contains(result["run"].as_str().expect("an ID")) && Path::new(&path).exists(), "{path}");
    let pruned = place.kapell(&["runs", "prune", "--keep", "1", "--journal", "j.db"]);
    assert_eq!(pruned.code, Some(0), "{pruned:?}");
    assert!(!folder.exists() && Path::new(&path).exists());
}

#[test]
fn file_names_from_data_stay_in_the_run() {
    let place = workspace();
    let plan = "name: x\ntasks:\n  - { id: x, foreach: [ok.txt, ../bad, /bad, ok.txt], as: name, shell: 'echo ${{ name }} >> calls', save: '${{ name }}', max_parallel: 1 }\n";
    place.write("plan.yaml", plan);
    let ended = run(&place, &["plan.yaml"]);
    let items = ended.result()["tasks"]["x"]["items"].clone();
    let messages: Vec<_> =
        items.as_array().expect("items").iter().map(|item| item["error"]["message"].as_str().unwrap_or("")).collect();
    assert_eq!(messages[0], "", "{ended:?}");
    assert!(messages[1].contains("contains `..`") && messages[2].contains("starts with `/`"), "{messages:?}");
    assert!(messages[3].contains("already saved as `ok.txt`"), "{messages:?}");
    assert_eq!(fs::read_to_string(place.path("calls")).expect("written"), "ok.txt\n", "other commands do not run");
}

#[test]
fn answers_of_prompts_are_saved_before_dependents_start() {
    let endpoint = ScriptedEndpoint::with_replies(["# Lisbon\n\nGo by tram."]);
    let place = Workspace::new();
    place.write("agents.toml", endpoint.config_section() + "[shell]\nenabled = true\n");
    let plan = "name: x\ntasks:\n  - { id: write, prompt: write, save: 'report.md' }\n  - { id: read, shell: 'cat ${{ tasks.write.saved }}', effect: read_only }\n";
    place.write("plan.yaml", plan);
    let ended = run(&place, &["plan.yaml"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["tasks"]["read"]["output"]["stdout"], json!("# Lisbon\n\nGo by tram."));
    assert_eq!(result["tasks"]["write"]["files"][0]["saved_as"], json!("report.md"));
    let shown = place.kapell(&["runs", "show", "last", "write", "--journal", "j.db"]);
    assert!(shown.stdout.contains("report.md"), "{shown:?}");
}
