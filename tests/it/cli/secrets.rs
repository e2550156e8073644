//! Keys, headers and queries are never shown or stored: not by successful commands, not by failures, and not by panics.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cli::models::{capable_model, start_endpoint, text_response};
use crate::support::workspace::{CommandOutput, Workspace};

/// Returns an agents file whose model has a secret in every place that can hold one.
fn agents_file(address: &str) -> String {
    format!(
        "[llm]\nbase_url = \"{address}?token=canary-in-the-address\"\nmodel = \"m\"\napi_key_env_var = \"KEY\"\n\
         http_headers = {{ x-written = \"canary-written-out\" }}\nenv_http_headers = {{ x-named = \"HEADER\" }}\n\
         query = {{ more = \"canary-in-the-query\" }}\ntools = true\n\
         [agents.research]\ncommand = \"${{KAPELL}}\"\nargs = [\"demo-agent\", \"research\"]\n"
    )
}

/// An agent with a secret in every place that can hold one.
const FAR_AGENT: &str = "[agents.far]\nurl = \"http://me:canary-of-a-user@127.0.0.1:9/mcp?key=canary-of-an-agent\"\n\
                         bearer_token_env_var = \"KEY\"\nhttp_headers = { x-secret = \"canary-of-a-header\" }\n";

/// Runs a command with the secrets in its environment, and asserts that its output contains none of them.
fn assert_prints_no_secret(place: &Workspace, arguments: &[&str], log: &str) -> CommandOutput {
    let mut command = place.command(arguments);
    command.env("KEY", "canary-of-the-key").env("HEADER", "canary-of-the-header").env("KAPELL_LOG", log);
    let ended = CommandOutput::of(command.env("RUST_BACKTRACE", "1"));
    assert!(!ended.stderr.contains("Usage: "), "{arguments:?} is not a command: {}", ended.stderr);
    for (stream, text) in [("stdout", &ended.stdout), ("stderr", &ended.stderr)] {
        let line = text.lines().find(|line| line.contains("canary"));
        assert_eq!(line, None, "{stream} of {arguments:?} with KAPELL_LOG={log}");
    }
    ended
}

/// Asserts that no file of the commands contains a secret: the journal, plans, documents.
fn assert_files_contain_no_secret(place: &Workspace) {
    let mut kept = Vec::new();
    collect_files(&place.path(""), &mut kept);
    let written = ["agents.toml", "broken.toml", "far.toml"].map(|name| place.path(name));
    kept.retain(|path| !written.contains(path));
    assert!(kept.iter().any(|path| path.ends_with("journal.db")), "{kept:?}");
    for path in kept {
        let bytes = std::fs::read(&path).expect("a file");
        assert!(!bytes.windows(6).any(|part| part == b"canary"), "{}", path.display());
    }
}

/// Refuses every request, and repeats all its secrets in the error.
fn echo_request_as_error(head: &str, _: &Value) -> (&'static str, Value) {
    ("401 Unauthorized", json!({"error": {"message": format!("I do not know {head}"), "code": 401}}))
}

/// Collects every file at or below a folder.
fn collect_files(folder: &Path, paths: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect_files(&path, paths) } else { paths.push(path) }
    }
}

#[test]
fn commands_never_show_or_store_secrets() {
    for answer in [echo_request_as_error, capable_model] {
        let place = Workspace::new();
        let (address, heads) = start_endpoint(answer);
        place.write("agents.toml", agents_file(&address));
        place.write(
            "broken.toml",
            "[llm]\nmodel = 5\nbase_url = \"http://x?token=canary-in-the-address\"\napi_key_env_var = \"KEY\"\n",
        );
        place.write("far.toml", FAR_AGENT);
        place.write(
            "plan.yaml",
            "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }]\n",
        );
        let commands: [&[&str]; 32] = [
            &["run", "plan.yaml", "--no-input"],
            &["run", "plan.yaml", "--no-input", "--output", "json"],
            &["run", "plan.yaml", "--no-input", "--output", "stream-json"],
            &["run", "plan.yaml", "--dry-run"],
            &["run", "Learn about Lisbon", "--yes", "--no-input"],
            &["run", "Learn about Lisbon", "--yes", "--no-input", "--output", "json"],
            &["run", "Learn about Lisbon", "--yes", "--no-input", "--output", "stream-json"],
            &["plan", "Learn about Lisbon"],
            &["plan", "Learn about Lisbon", "--output", "trip.yaml"],
            &["validate", "plan.yaml"],
            &["validate", "plan.yaml", "--output", "json"],
            &["graph", "plan.yaml"],
            &["graph", "plan.yaml", "--format", "dot"],
            &["doctor"],
            &["doctor", "--output", "json"],
            &["doctor", "--agents", "broken.toml"],
            &["agents", "list"],
            &["agents", "list", "--output", "json"],
            &["agents", "list", "--agents", "far.toml"],
            &["agents", "list", "--agents", "far.toml", "--output", "json"],
            &["agents", "test"],
            &["agents", "test", "--output", "json"],
            &["agents", "tools"],
            &["agents", "tools", "--output", "json"],
            &["runs", "list"],
            &["runs", "list", "--output", "json"],
            &["runs", "show", "last"],
            &["runs", "show", "last", "--output", "json"],
            &["logs", "last"],
            &["logs", "last", "--output", "json"],
            &["schema", "plan"],
            &["schema", "agents"],
        ];
        for arguments in commands {
            for log in ["off", "trace"] {
                assert_prints_no_secret(&place, arguments, log);
            }
        }
        let requests = heads.try_iter().collect::<Vec<_>>();
        let carried = ["key", "header"].map(|name| format!("canary-of-the-{name}"));
        assert!(!requests.is_empty() && requests.iter().all(|head| carried.iter().all(|secret| head.contains(secret))));
        assert_files_contain_no_secret(&place);
    }
}

/// The purpose of a request in the run of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Planning,
    Repair,
    Sampling,
    Prompt,
    Synthesis,
}

fn request_stage(body: &Value) -> Stage {
    let content = |index: usize| body["messages"][index]["content"].as_str().unwrap_or_default();
    match body.pointer("/response_format/json_schema/name") {
        Some(_) if body["messages"].as_array().is_some_and(|messages| messages.len() > 2) => Stage::Repair,
        Some(_) => Stage::Planning,
        None if content(0).starts_with("You write one answer") => Stage::Synthesis,
        None if content(0).starts_with("You summarize") => Stage::Sampling,
        None => Stage::Prompt,
    }
}

/// Replies correctly, with an invalid plan before the repair; fails at `broken` like [`echo_request_as_error`].
fn answer_except(broken: Option<Stage>, head: &str, body: &Value) -> (&'static str, Value) {
    let stage = request_stage(body);
    if Some(stage) == broken {
        return echo_request_as_error(head, body);
    }
    let plan = |tool: &str| {
        let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
        let task = json!({"title": "Reading", "tool": tool, "args": arguments});
        text_response(&json!({"tasks": [task]}).to_string())
    };
    match stage {
        Stage::Planning => plan("research.serch"),
        Stage::Repair => plan("research.research"),
        Stage::Sampling | Stage::Prompt => text_response("Read one book."),
        Stage::Synthesis => text_response("Read one book [t1]."),
    }
}

#[test]
fn goals_never_show_or_store_secrets() {
    let well: fn(&str, &Value) -> _ = |head, body| answer_except(None, head, body);
    let no_plan: fn(&str, &Value) -> _ = |head, body| answer_except(Some(Stage::Planning), head, body);
    let no_repair: fn(&str, &Value) -> _ = |head, body| answer_except(Some(Stage::Repair), head, body);
    let no_sampling: fn(&str, &Value) -> _ = |head, body| answer_except(Some(Stage::Sampling), head, body);
    let no_prompt: fn(&str, &Value) -> _ = |head, body| answer_except(Some(Stage::Prompt), head, body);
    let no_synthesis: fn(&str, &Value) -> _ = |head, body| answer_except(Some(Stage::Synthesis), head, body);
    let goal = "Learn about Lisbon";
    // The exit codes of the goal, and of a plan with a prompt.
    for (answer, exits) in [
        (well, [0, 0]),
        (no_plan, [1, 0]),
        (no_repair, [1, 0]),
        (no_sampling, [1, 0]),
        (no_prompt, [0, 1]),
        (no_synthesis, [3, 0]),
    ] {
        let place = Workspace::new();
        let (address, heads) = start_endpoint(answer);
        place.write("agents.toml", agents_file(&address));
        place.write("plan.yaml", "name: x\ntasks: [{ id: a, prompt: What to read?, tools: [research.research] }]\n");
        for (arguments, exit) in [(["run", goal], exits[0]), (["run", "plan.yaml"], exits[1])] {
            for output in ["text", "json", "stream-json"] {
                let arguments = [&arguments[..], &["--yes", "--no-input", "--output", output]].concat();
                let ended = assert_prints_no_secret(&place, &arguments, "trace");
                assert_eq!(ended.code, Some(exit), "{arguments:?}: {ended:?}");
            }
            for shown in [["runs", "show"], ["logs", "last"]] {
                for output in ["text", "json"] {
                    let run = if shown[0] == "runs" { vec!["last"] } else { vec![] };
                    if place.path("state").exists() {
                        assert_prints_no_secret(&place, &[&shown[..], &run, &["--output", output]].concat(), "trace");
                    }
                }
            }
        }
        let requests = heads.try_iter().collect::<Vec<_>>();
        assert!(requests.len() >= 4 && requests.iter().all(|head| head.contains("canary-of-the-key")), "{requests:?}");
        assert_files_contain_no_secret(&place);
    }
}

/// The variable that makes the child process of the test below panic.
const PANIC_VARIABLE: &str = "KAPELL_TEST_PANICS";

/// Panics can print the values of the host, as an error or in one. The worst case is its whole configuration and its
/// client. The product has no way to trigger a panic, so the test's own process panics with its types.
#[test]
fn panic_shows_no_secret() {
    if let Some(which) = std::env::var_os(PANIC_VARIABLE) {
        let text = agents_file("http://127.0.0.1:9/v1") + "env = { TOKEN = \"canary-of-a-child\" }\n" + FAR_AGENT;
        let file = kapell::config::parse_agents("agents.toml", &text, &kapell::config::ProcessEnvironment);
        let file = file.unwrap_or_else(|mistakes| panic!("{mistakes}"));
        match which.to_str() {
            Some("models") => panic!("the models: {:?}", kapell::llm::Models::new(file.models)),
            _ => panic!("an agents file: {file:?}"),
        }
    }
    for which in ["file", "models"] {
        let name = "cli::secrets::panic_shows_no_secret";
        let mut command = Command::new(std::env::current_exe().expect("a test"));
        command.args(["--exact", name, "--nocapture"]).env(PANIC_VARIABLE, which).env("RUST_BACKTRACE", "full");
        command.env("KEY", "canary-of-the-key").env("HEADER", "canary-of-the-header");
        let ended = CommandOutput::of(&mut command);
        assert!(ended.code != Some(0) && ended.stderr.contains("127.0.0.1:9"), "{ended:?}");
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("canary"), "{ended:?}");
    }
}
