//! The plans in `plans/features`, with the demo agents. Each shows one feature of the language.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace, send_signal, wait_for, wait_for_status};

/// The keys that no plan uses, since they are other names of keys.
const ALIASES: &[&str] = &["args", "depends_on", "signal"];

/// Returns a workspace with the demo agents and the plans. Documents are stored in it.
fn workspace() -> Workspace {
    let place = Workspace::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    place.write("agents.toml", fs::read(root.join("agents.toml")).expect("reads"));
    copy_plans(&root.join("plans/features"), &place, "");
    place
}

fn copy_plans(from: &Path, place: &Workspace, prefix: &str) {
    for entry in fs::read_dir(from).expect("reads") {
        let path = entry.expect("an entry").path();
        let name = format!("{prefix}{}", path.file_name().expect("a name").to_string_lossy());
        if path.is_dir() {
            fs::create_dir_all(place.path(&name)).expect("creates");
            copy_plans(&path, place, &format!("{name}/"));
        } else {
            place.write(&name, fs::read(&path).expect("reads"));
        }
    }
}

/// Adds a model that returns these replies.
fn add_model<'r>(place: &Workspace, replies: impl IntoIterator<Item = &'r str>) -> ScriptedEndpoint {
    let endpoint = ScriptedEndpoint::with_replies(replies);
    let agents = fs::read_to_string(place.path("agents.toml")).expect("was written");
    place.write(
        "agents.toml",
        format!("{}tools = true\nprices = {{ input = 1, output = 1 }}\n{agents}", endpoint.config_section()),
    );
    endpoint
}

fn kapell(place: &Workspace, arguments: &[&str]) -> CommandOutput {
    let mut command = place.command(arguments);
    CommandOutput::of(command.env("KAPELL_DEMO_DIR", place.path("documents")))
}

fn run(place: &Workspace, plan: &str, options: &[&str]) -> CommandOutput {
    kapell(place, &[&["run", plan, "--output", "json", "--no-input"], options].concat())
}

/// Returns the names of the stored documents, without the hash at their end.
fn documents(place: &Workspace) -> Vec<String> {
    let Ok(entries) = fs::read_dir(place.path("documents")) else { return Vec::new() };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        name.rsplit_once('-').map_or(name.clone(), |(title, _)| title.to_owned())
    };
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[test]
fn every_plan_is_valid_and_has_a_graph() {
    let place = workspace();
    let _endpoint = add_model(&place, ["x"]);
    for entry in fs::read_dir(place.path("")).expect("reads") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if !name.ends_with(".yaml") {
            continue;
        }
        let validated = kapell(&place, &["validate", &name, "--offline"]);
        assert_eq!(validated.code, Some(0), "{name}: {validated:?}");
        for format in ["text", "mermaid", "dot", "svg"] {
            let drawn = kapell(&place, &["graph", &name, "--format", format]);
            assert!(drawn.code == Some(0) && !drawn.stdout.is_empty(), "{name}: {drawn:?}");
        }
    }
}

#[test]
fn plans_are_checked_and_drawn_without_their_agents() {
    let place = workspace();
    let names = fs::read_dir(place.path("")).expect("reads").map(|entry| entry.expect("an entry").file_name());
    let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".yaml"));
    let names: Vec<_> = names.collect();
    assert!(names.len() > 20, "{names:?}");
    // The agents file has no model, and then it does not exist.
    for command in [&["graph"][..], &["graph"], &["validate", "--offline"]] {
        for name in &names {
            let ended = kapell(&place, &[command, &[name]].concat());
            assert_eq!(ended.code, Some(0), "{command:?} {name}: {ended:?}");
        }
        let _ = fs::remove_file(place.path("agents.toml"));
    }
}

#[test]
fn plans_use_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = fs::read_to_string(root.join("schemas/plan.schema.json")).expect("reads");
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let mut keys = BTreeSet::new();
    add_keys(&schema, &mut keys);
    let mut used = BTreeSet::new();
    for directory in ["plans", "plans/features", "plans/features/sub-plan"] {
        for entry in fs::read_dir(root.join(directory)).expect("reads") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).expect("reads");
                let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
                used.extend(words.filter_map(|word| word.strip_suffix(':')).map(str::to_owned));
            }
        }
    }
    let unused: Vec<_> = keys.difference(&used).collect();
    // Other spellings of keys that the plans use.
    assert_eq!(unused, ALIASES.iter().collect::<Vec<_>>());
}

/// Adds the names of all properties in a schema.
fn add_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                keys.extend(properties.keys().cloned());
            }
            object.values().for_each(|value| add_keys(value, keys));
        }
        Value::Array(values) => values.iter().for_each(|value| add_keys(value, keys)),
        _ => {}
    }
}

#[test]
fn people_approve_calls_and_steps() {
    let place = workspace();
    place.write("answers.yaml", "answers:\n- { task: publish, accept: {} }\n");
    let ended = run(&place, "approve.yaml", &["--answers", "answers.yaml"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(documents(&place), ["draft", "published"]);
    assert_eq!((ended.task("send").0, ended.task("sent").0), ("failed".to_owned(), "skipped".to_owned()));
    let refused = run(&place, "approve.yaml", &[]);
    assert_eq!(refused.code, Some(4), "an approval without an answer pauses the run: {refused:?}");
}

#[test]
fn calls_have_capabilities_fallbacks_and_retries() {
    let place = workspace();
    let ended = run(&place, "routes.yaml", &[]);
    let result = ended.result();
    assert_eq!((ended.code, &result["outputs"]["rows"]), (Some(3), &json!(3)), "{ended:?}");
    assert_eq!(
        (&result["tasks"]["books"]["agent"], &result["tasks"]["store"]["agent"]),
        (&json!("research"), &json!("archive"))
    );
    let attempts = result["tasks"]["missing"]["attempts"].clone();
    assert_eq!((ended.task("missing").0.as_str(), attempts), ("failed", json!(3)), "{ended:?}");
}

#[test]
fn prompts_use_tools_and_forms() {
    let place = workspace();
    let endpoint = add_model(
        &place,
        [
            "call research_research {\"topic\": \"Lisbon\", \"depth\": 1}",
            // The research agent has its findings summarized.
            "There is one book.",
            "{\"title\": \"Lisbon\", \"reason\": \"It is short.\"}",
            "A short book.",
            "{\"book\": \"Lisbon\", \"why\": \"It is short.\"}",
        ],
    );
    let ended = run(&place, "prompts.yaml", &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let result = ended.result();
    assert_eq!(result["tasks"]["choose"]["output"]["title"], "Lisbon");
    assert_eq!(result["tasks"]["summary"]["output"], "A short book.", "{result}");
    let request = endpoint.next_request();
    let system = request["messages"][0]["content"].as_str().expect("a system prompt");
    assert!(system.starts_with("You are a librarian who answers briefly."), "{system}");
}

#[test]
fn failed_task_is_planned_again_and_the_goal_is_checked() {
    let place = workspace();
    let store = json!({"title": "Note", "tool": "archive.store_document", "args": {"title": "note", "text": "Lisbon"}});
    let patch = json!({"keep": [], "tasks": [store], "missing": null}).to_string();
    let _endpoint = add_model(&place, [&*patch, "{\"complete\": true, \"missing\": null}", "It is stored."]);
    let ended = run(&place, "replan.yaml", &[]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert_eq!(documents(&place), ["note"]);
    assert!(ended.result().to_string().contains("No agent translates the note."), "{ended:?}");
}

#[test]
fn groups_and_loops_return_their_outputs() {
    let place = workspace();
    let ended = run(&place, "groups.yaml", &[]);
    let books = &ended.result()["outputs"]["books"];
    assert_eq!(books.as_array().map(Vec::len), Some(3), "{ended:?}");
    assert!(books[0]["title"].is_string() && books[0]["bytes"].is_u64(), "{books}");
    let shown = kapell(&place, &["runs", "show", "last", "each[1].put"]);
    assert!(shown.stdout.contains("each[1].put"), "{shown:?}");
    let nested = run(&place, "nested.yaml", &[]);
    assert_eq!(nested.result()["outputs"]["cells"], json!(["a", "b", "c"]), "{nested:?}");
    let nested = &nested.result()["tasks"]["rows"]["items"][0]["tasks"]["cells"]["items"][1]["tasks"]["put"];
    assert_eq!(nested["status"], "succeeded");
    let repeated = run(&place, "repeat.yaml", &[]);
    assert!(repeated.result()["outputs"]["bytes"].as_u64() > Some(40), "{repeated:?}");
    assert_eq!(repeated.result()["tasks"]["grow"]["items"].as_array().map(Vec::len), Some(2));
}

#[test]
fn sub_plan_has_inputs_and_outputs_of_its_own() {
    let place = workspace();
    let ended = run(&place, "sub-plan.yaml", &[]);
    assert_eq!(ended.result()["outputs"]["cities"][1]["nights"], json!(2), "{ended:?}");
    place.write("again.yaml", "tasks: [{ id: a, plan: again.yaml }]\n");
    let again = kapell(&place, &["validate", "again.yaml", "--offline"]);
    assert_eq!((again.code, again.error_code()), (Some(2), "plan::sub_plan"), "{again:?}");
    assert!(again.stderr.contains("runs itself"), "{again:?}");
    place.write("wrong.yaml", "tasks: [{ id: a, plan: sub-plan/city.yaml, with: { town: x } }]\n");
    let wrong = kapell(&place, &["validate", "wrong.yaml", "--offline"]);
    assert_eq!(wrong.error_codes(), ["plan::missing_input", "plan::unknown_input"], "{wrong:?}");
    place.write("broken.yaml", "tasks: [{ id: a, plan: sub-plan/none.yaml }]\n");
    assert_eq!(kapell(&place, &["validate", "broken.yaml", "--offline"]).error_code(), "plan::sub_plan");
}

#[test]
fn sub_plan_has_a_budget_and_secrets_of_its_own() {
    const TOKEN: &str = "swordfish-4711";
    let place = workspace();
    let mut command =
        place.command(["run", "sub-plan-limits.yaml", "--output", "json", "--no-input", "--journal", "j.db"]);
    command.env("KAPELL_DEMO_DIR", place.path("documents")).env("CITY_TOKEN", TOKEN);
    let ended = CommandOutput::of(&mut command);
    assert_eq!(ended.result()["outputs"]["cities"], json!([{"third": "failed"}, {"third": "failed"}]), "{ended:?}");
    let third = &ended.result()["tasks"]["sub"]["items"][1]["tasks"]["third"]["error"];
    assert_eq!(third["kind"], json!("budget_spent"), "{ended:?}");
    assert_eq!(third["message"], json!("the budget of `sub[1]` is exhausted: tool calls (2 of 2)"));
    // The agent got the secret, and nothing else has it.
    let documents = place.path("documents");
    let stored = fs::read_dir(&documents).expect("reads").map(|entry| entry.expect("an entry").path());
    let with_token = stored.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(TOKEN))).count();
    assert_eq!(with_token, 2);
    let shown = kapell(&place, &["runs", "show", "last", "--journal", "j.db"]);
    let log = kapell(&place, &["logs", "last", "--journal", "j.db", "--output", "json"]);
    for printed in [&ended, &shown, &log] {
        assert!(!format!("{printed:?}").contains(TOKEN), "{printed:?}");
    }
    for name in ["j.db", "j.db-wal"] {
        let bytes = fs::read(place.path(name)).unwrap_or_default();
        assert!(!bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()), "{name}");
    }
    for (with, code) in [
        ("{ city: x, token: plain-text-secret }", "plan::secret_use"),
        ("{ city: '${{ inputs.token }}', token: '${{ inputs.token }}' }", "plan::secret_use"),
    ] {
        let plan = format!(
            "inputs: {{ token: {{ type: secret, required: true }} }}\n\
             tasks: [{{ id: a, plan: sub-plan/limited.yaml, with: {with} }}]\n"
        );
        place.write("wrong.yaml", plan);
        let checked = kapell(&place, &["validate", "wrong.yaml", "--offline"]);
        assert_eq!((checked.code, checked.error_code()), (Some(2), code), "{checked:?}");
    }
}

#[test]
fn time_of_a_sub_plan_ends_its_tasks_and_not_the_run() {
    let place = workspace();
    place.write("slow.yaml", "budget: { time: 1s }\ntasks: [{ id: nap, sleep: 1h }]\n");
    place.write(
        "plan.yaml",
        "tasks:\n  - { id: sub, plan: slow.yaml, on_failure: continue }\n  - { id: after, sleep: 1ms, needs: [sub] }\n",
    );
    let ended = run(&place, "plan.yaml", &[]);
    let result = ended.result();
    assert_eq!(result["tasks"]["sub"]["error"]["message"], json!("the budget of the plan is exhausted: time (1s)"));
    assert_eq!(result["tasks"]["sub"]["tasks"]["nap"]["status"], json!("cancelled"), "{ended:?}");
    assert_eq!(result["tasks"]["after"]["status"], json!("succeeded"), "{ended:?}");
}

#[test]
fn anchors_reads_and_limits_run() {
    let place = workspace();
    let anchors = run(&place, "anchors.yaml", &[]);
    let bytes = &anchors.result()["outputs"]["bytes"];
    assert!(bytes[0].is_u64() && bytes[0] == bytes[1], "{anchors:?}");
    let reads = run(&place, "reads.yaml", &[]).result()["outputs"].clone();
    assert!(reads["text"].as_str().is_some_and(|text| text.contains("hello")) && reads["text"] == reads["again"]);
    let limits = run(&place, "limits.yaml", &[]);
    assert_eq!(limits.result()["outputs"]["stored"], json!([2, 2]), "{limits:?}");
    assert_eq!(run(&place, "schedule.yaml", &[]).code, Some(0));
}

#[test]
fn schedules_are_checked() {
    let place = workspace();
    for (schedule, code) in [
        ("'0 25 * * *'", "plan::schedule"),
        ("{ cron: '0 0 30 2 *' }", "plan::schedule"),
        ("{ cron: '@daily', timezone: Europe/Nowhere }", "plan::schedule"),
        ("{ cron: '@daily', missed: never }", "plan::unknown_word"),
        ("{ timezone: UTC }", "plan::missing_key"),
    ] {
        place.write("plan.yaml", format!("schedule: {schedule}\ntasks: [{{ id: a, sleep: 1s }}]\n"));
        let checked = kapell(&place, &["validate", "plan.yaml", "--offline"]);
        assert_eq!((checked.code, checked.error_code()), (Some(2), code), "{schedule}: {checked:?}");
    }
    let plan = "schedule: '@daily'\ninputs: { x: { type: string, required: true } }\ntasks: [{ id: a, sleep: '${{ inputs.x }}' }]\n";
    place.write("plan.yaml", plan);
    let checked = kapell(&place, &["validate", "plan.yaml", "--offline"]);
    assert_eq!(checked.error_code(), "plan::schedule_input", "{checked:?}");
}

#[test]
fn branches_run_the_tasks_of_one_case() {
    let place = workspace();
    for (kind, expected) in [
        ("bug", json!({"fix": "succeeded", "build": "skipped", "ignore": "skipped"})),
        ("feature", json!({"fix": "skipped", "build": "succeeded", "ignore": "skipped"})),
        ("other", json!({"fix": "skipped", "build": "skipped", "ignore": "succeeded"})),
    ] {
        let ended = run(&place, "branches.yaml", &["--param", &format!("kind={kind}")]);
        let outputs = &ended.result()["outputs"];
        assert_eq!(outputs["route"], expected, "{ended:?}");
        let (now, later) = if kind == "bug" { ("succeeded", "skipped") } else { ("skipped", "succeeded") };
        assert_eq!(outputs["urgent"], json!({"now": now, "later": later}), "{ended:?}");
    }
}

#[test]
fn hooks_run_after_failures() {
    let place = workspace();
    let ended = run(&place, "hooks.yaml", &[]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(documents(&place), ["alert", "report", "tidy"]);
    assert_eq!(ended.task("praise").0, "skipped");
}

/// The plan of the tests of hooks whose run is stopped.
const STOPPED: &str = "
    tasks:
      - { id: one, agent: archive, tool: store_document, with: { title: one, text: x } }
      - { id: nap, sleep: 1h, needs: [one] }
      - { id: two, agent: archive, tool: store_document, needs: [nap], with: { title: two, text: x } }
    finally: [{ id: tidy, agent: archive, tool: store_document, with: { title: tidy, text: x } }]
    on_cancel: [{ id: gone, agent: archive, tool: store_document, with: { title: gone, text: x } }]
    on_success: [{ id: praise, agent: archive, tool: store_document, with: { title: praise, text: x } }]
    ";

/// Starts the plan, and waits until it sleeps.
fn start_stopped(place: &Workspace, plan: &str) -> std::process::Child {
    place.write("stopped.yaml", plan);
    let mut command = place.command(["run", "stopped.yaml", "--output", "json", "--no-input", "--journal", "j.db"]);
    command.env("KAPELL_DEMO_DIR", place.path("documents")).stdout(std::process::Stdio::null());
    command.env("KAPELL_DEMO_EFFECTS", place.path("effects")).stderr(std::process::Stdio::null());
    let child = command.spawn().expect("kapell starts");
    wait_for("the timer", || {
        let logs = place.kapell(&["logs", "last", "--output", "json", "--journal", "j.db"]);
        logs.stdout.contains("timer_started").then_some(())
    });
    child
}

#[test]
fn hooks_run_once_after_ctrl_c_and_a_resume() {
    let place = workspace();
    let mut child = start_stopped(&place, &STOPPED.replace("1h", "3s"));
    send_signal(&child, "INT");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(documents(&place), ["gone", "one", "tidy"]);
    let resume = ["resume", "last", "--output", "json", "--no-input", "--journal", "j.db"];
    let mut command = place.command(resume);
    command.env("KAPELL_DEMO_DIR", place.path("documents")).env("KAPELL_DEMO_EFFECTS", place.path("effects"));
    let resumed = CommandOutput::of(&mut command);
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert_eq!(documents(&place), ["gone", "one", "praise", "tidy", "two"]);
    let effects = fs::read_to_string(place.path("effects")).expect("reads");
    for task in ["one", "two", "tidy", "gone", "praise"] {
        assert_eq!(effects.matches(&format!("/{task}/1")).count(), 1, "{task}: {effects}");
    }
}

#[test]
fn hooks_run_after_a_cancellation() {
    let place = workspace();
    let mut child = start_stopped(&place, STOPPED);
    let cancelled = place.kapell(&["cancel", "last", "--journal", "j.db"]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    assert_eq!(child.wait().expect("ends").code(), Some(130));
    assert_eq!(documents(&place), ["gone", "one", "tidy"]);
}

#[test]
fn timer_and_signal_survive_kill_9() {
    let place = workspace();
    let plan = "
        tasks:
          - { id: nap, sleep: 2s }
          - { id: deployed, wait: { webhook: deployed }, needs: [nap] }
        outputs: { build: '${{ tasks.deployed.output.build }}' }
        ";
    let mut child = start_stopped(&place, plan);
    child.kill().expect("is killed");
    child.wait().expect("ends");
    wait_for_status(&place, &["interrupted"]);
    let sent = place.kapell(&["signal", "last", "deployed", "--data", "{\"build\": 7}", "--journal", "j.db"]);
    assert!(sent.code == Some(0) && sent.stderr.contains("kapell resume"), "{sent:?}");
    let resumed = place.kapell(&["resume", "last", "--output", "json", "--no-input", "--journal", "j.db"]);
    assert_eq!(resumed.result()["outputs"], json!({"build": 7}), "{resumed:?}");
    assert_eq!(resumed.code, Some(0));
}

#[test]
fn signal_ends_the_task_that_waits_for_it() {
    let place = workspace();
    let mut child = place.start(&["run", "waits.yaml", "--no-input", "--journal", "j.db"]);
    wait_for("the task", || {
        let logs = place.kapell(&["logs", "last", "--output", "json", "--journal", "j.db"]);
        logs.stdout.contains("signal_awaited").then_some(())
    });
    let sent = place.kapell(&["signal", "last", "deployed", "--data", "{\"build\": 8}", "--journal", "j.db"]);
    assert_eq!(sent.code, Some(0), "{sent:?}");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    let result = place.kapell(&["result", "last", "--journal", "j.db"]);
    assert_eq!(result.stdout, "8\n", "{result:?}");
    let late = place.kapell(&["signal", "last", "deployed", "--journal", "j.db"]);
    assert_eq!(late.code, Some(2), "{late:?}");
}

#[test]
fn question_of_a_task_has_a_default_and_can_be_answered() {
    let place = workspace();
    let ended = run(&place, "ask.yaml", &[]);
    assert_eq!(ended.result()["outputs"], json!({"room": "red"}), "{ended:?}");
    let plan = "
        tasks:
          - { id: who, ask: { message: Which room?, schema: { properties: { room: { type: string } }, required: [room] } } }
          - { id: sure, wait: { question: Sure? }, needs: [who] }
        outputs: { room: '${{ tasks.who.output.room }}' }
        ";
    place.write("plan.yaml", plan);
    let paused = run(&place, "plan.yaml", &["--journal", "j.db"]);
    assert_eq!(paused.code, Some(4), "{paused:?}");
    let answered = place.kapell(&["answer", "last", "q1", "--field", "room=4b", "--journal", "j.db"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let resume = ["resume", "last", "--output", "json", "--no-input", "--journal", "j.db"];
    assert_eq!(place.kapell(&resume).code, Some(4));
    let answered = place.kapell(&["answer", "last", "q2", "--accept", "--journal", "j.db"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    let resumed = place.kapell(&resume);
    assert_eq!(resumed.result()["outputs"], json!({"room": "4b"}), "{resumed:?}");
}

#[test]
fn early_end_has_outputs_of_its_own() {
    let place = workspace();
    let ended = run(&place, "stop.yaml", &[]);
    assert_eq!((ended.code, &ended.result()["outputs"]), (Some(0), &json!({"found": 1})), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["never"]["status"], Value::from("cancelled"));
}
