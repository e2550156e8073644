//! The help of each command: its examples are executed, and options of other programs are recognized.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::cli::logins::OAuthServer;
use crate::support::scripted_endpoint::ScriptedEndpoint;
use crate::support::workspace::{CommandOutput, Workspace, wait_for};

/// The number of examples that are executed at once.
const WORKERS: usize = 3;
/// The beginning of the ID of an earlier run, in examples.
const EXAMPLE_RUN: &str = "3f2a91bc";
/// The variables with keys of providers, which would change what `kapell init` writes.
const PROVIDER_KEYS: [&str; 6] = [
    "OPENAI_API_KEY",
    "ANTHROPIC_API_KEY",
    "GEMINI_API_KEY",
    "MISTRAL_API_KEY",
    "DEEPSEEK_API_KEY",
    "OPENROUTER_API_KEY",
];

/// Returns the examples of a command and its subcommands, each with the name of its command.
fn examples_of(command: &clap::Command, path: &str) -> Vec<(String, String)> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1).map_while(|line| line.strip_prefix("  "));
    let mut examples: Vec<(String, String)> = lines.map(|line| (path.to_owned(), line.to_owned())).collect();
    assert!(command.is_hide_set() || !examples.is_empty(), "`kapell {path}` has no example");
    for below in command.get_subcommands() {
        examples.extend(examples_of(below, format!("{path} {}", below.get_name()).trim_start()));
    }
    examples
}

/// A workspace after `kapell init`, in the state in which a person uses a command.
struct Prepared {
    place: Workspace,
    /// The short ID of the first run.
    first_run: Option<String>,
    /// What serves the agents and the models of the workspace.
    _servers: (Option<ScriptedEndpoint>, Option<OAuthServer>),
}

impl Prepared {
    fn for_command(command: &str) -> Self {
        let place = Workspace::new();
        let servers = json!({"mcpServers": {"docs": {"command": "kapell", "args": ["demo-agent", "archive"]}}});
        place.write(".mcp.json", servers.to_string());
        let mut servers = (None, None);
        if command != "init" {
            shell(&place, "kapell init 2>&1 && kapell call demo-archive.store_document title=lisbon text=x");
        }
        let first_run = match command {
            "init" | "agents" | "doctor" | "schema" | "demo-agent" | "completions" => None,
            "run" | "plan" => {
                servers.0 = Some(add_model(&place));
                None
            }
            "plans show" | "plans remove" => {
                shell(&place, "kapell plans save weekend plan.yaml");
                None
            }
            "agents login" | "agents logout" => {
                servers.1 = Some(add_protected_agent(&place, command == "agents logout"));
                None
            }
            "resume" => {
                pause(&place);
                shell(&place, "kapell answer last q1 --accept");
                None
            }
            "cancel" | "questions" | "signal" => {
                pause(&place);
                None
            }
            "answer" => {
                ask(&place);
                None
            }
            "retry" => {
                fail(&place);
                None
            }
            _ if command.starts_with("agents ") => None,
            _ => {
                shell(&place, "kapell run plan.yaml");
                let run = last_run(&place);
                shell(&place, "kapell run plan.yaml");
                Some(run)
            }
        };
        Self { place, first_run, _servers: servers }
    }
}

/// Returns the command of a shell line, with this program as `kapell`, and a browser that visits each page.
fn shell_command(place: &Workspace, line: &str) -> std::process::Command {
    let directory = Path::new(env!("CARGO_BIN_EXE_kapell")).parent().expect("a folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [place.path("bin").into_os_string(), directory.as_os_str().to_owned(), path].join(&OsString::from(":"));
    let command = place.command(["-c", line]);
    let mut shell = std::process::Command::new("bash");
    shell.args(command.get_args()).current_dir(place.path("")).stdin(std::process::Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    for name in PROVIDER_KEYS {
        shell.env_remove(name);
    }
    shell.env("PATH", path);
    shell
}

/// Executes a line that prepares a workspace.
fn shell(place: &Workspace, line: &str) -> CommandOutput {
    let ended = CommandOutput::of(&mut shell_command(place, line));
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    ended
}

fn read(place: &Workspace, file: &str) -> String {
    std::fs::read_to_string(place.path(file)).expect("reads")
}

fn last_run(place: &Workspace) -> String {
    let runs: Value = serde_json::from_str(&shell(place, "kapell runs list --json").stdout).expect("JSON");
    let id = runs[0]["run"].as_str().expect("an id");
    id[id.len() - 8..].to_owned()
}

/// Adds a model that plans one task.
fn add_model(place: &Workspace) -> ScriptedEndpoint {
    let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
    let task = json!({"title": "Read", "tool": "demo-research.research", "args": arguments});
    let endpoint = ScriptedEndpoint::with_replies([&*json!({"tasks": [task]}).to_string()]);
    place.write("agents.toml", format!("{}\n{}", endpoint.config_section(), read(place, "agents.toml")));
    endpoint
}

/// Adds an agent that requires a login, and a browser in which a person agrees at once.
fn add_protected_agent(place: &Workspace, is_logged_in: bool) -> OAuthServer {
    let server = OAuthServer::start(&[]);
    let section = format!("[agents.wiki]\nurl = \"{}/mcp\"\nprotocol = \"legacy\"\n", server.address());
    place.write("agents.toml", read(place, "agents.toml") + &section);
    std::fs::create_dir(place.path("bin")).expect("a folder");
    let visit = "#!/usr/bin/env python3\nimport sys, urllib.request\nurllib.request.urlopen(sys.argv[1]).read()\n";
    for name in ["xdg-open", "open"] {
        place.write(&format!("bin/{name}"), visit);
        shell(place, &format!("chmod +x bin/{name}"));
    }
    if is_logged_in {
        shell(place, "kapell agents login wiki");
    }
    server
}

/// Leaves a run that is paused at an approval.
fn pause(place: &Workspace) {
    let plan = read(place, "plan.yaml").replace("tool: store_document", "tool: store_document\n    approve: Store it?");
    place.write("plan.yaml", plan);
    shell(place, "kapell run plan.yaml --no-input; test $? = 4");
}

/// Leaves a run in the background with an open question.
fn ask(place: &Workspace) {
    let travel = "[agents.travel]\ncommand = \"${KAPELL}\"\nargs = [\"demo-agent\", \"travel\"]\n";
    place.write("agents.toml", read(place, "agents.toml") + travel);
    let plan = "name: trip\ntasks: [{ id: trip, agent: travel, tool: book_trip, with: { city: Lisbon } }]\n";
    place.write("plan.yaml", plan);
    shell(place, "kapell run plan.yaml --detach");
    wait_for("the question", || {
        let questions: Value = serde_json::from_str(&shell(place, "kapell questions --json").stdout).expect("JSON");
        (!questions.as_array().expect("a list").is_empty()).then_some(())
    });
}

/// Leaves a failed run whose plan succeeds the next time.
fn fail(place: &Workspace) {
    let gate = place.path("ready");
    let script = format!("test -e {} && exec kapell demo-agent archive", gate.display());
    let agents = read(place, "agents.toml").replace("[agents.demo-archive]", "[agents.unused]");
    let gated = format!("[agents.demo-archive]\ncommand = \"sh\"\nargs = [\"-c\", {script:?}]\n");
    place.write("agents.toml", agents + &gated);
    shell(place, "kapell run plan.yaml --no-input; test $? = 1");
    place.write("ready", "");
}

#[test]
fn examples_of_all_commands_succeed() {
    let examples = examples_of(&kapell::cli::command(), "");
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((command, line)) = examples.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // This example answers an approval, the others a form.
                    let state = if line.contains(" --arguments ") { "questions" } else { command };
                    let prepared = Prepared::for_command(state);
                    // A server ends by a signal.
                    let line = match command.as_str() {
                        "serve" => format!(
                            "mkdir -p plans; {line} > address & until grep -q http address; do sleep 0.1; done; kill -INT $!; wait $!"
                        ),
                        _ => line.clone(),
                    };
                    let line = line.replace(EXAMPLE_RUN, prepared.first_run.as_deref().unwrap_or(EXAMPLE_RUN));
                    let ended = CommandOutput::of(&mut shell_command(&prepared.place, &line));
                    if ended.code != Some(0) {
                        failures.lock().expect("no panic").push(format!("{command}: {line}: {ended:?}"));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn options_of_other_programs_suggest_the_right_one() {
    let place = Workspace::new();
    for (wrong, right) in [("--var", "--param"), ("--input", "--param"), ("--config", "--agents")] {
        let refused = place.kapell(&["run", "plan.yaml", wrong, "x=1"]);
        assert!(refused.code == Some(2) && refused.stderr.contains(&format!("'{right}'")), "{refused:?}");
    }
}

#[test]
fn short_options_and_json_are_those_of_the_long_ones() {
    let place = Workspace::new();
    place.write_agents(&[]);
    std::fs::rename(place.path("agents.toml"), place.path("a.toml")).expect("renamed");
    place.write(
        "plan.yaml",
        "name: x\ninputs: { topic: { type: string, required: true } }\n\
         tasks: [{ id: a, agent: research, tool: research, with: { topic: '${{ inputs.topic }}', delay_ms: 1 } }]\n",
    );
    let ran = place.kapell(&["run", "plan.yaml", "-a", "a.toml", "-j", "j.db", "-p", "topic=Lisbon", "--json"]);
    assert_eq!((ran.code, ran.task("a").0.as_str()), (Some(0), "succeeded"), "{ran:?}");
    let [short, long] = [&["--json"][..], &["--output", "json"]]
        .map(|format| place.kapell(&[&["runs", "show", "last", "-j", "j.db"], format].concat()));
    assert_eq!(short.result(), long.result());
    assert_eq!(place.kapell(&["runs", "list", "-j", "j.db", "--json", "--output", "text"]).code, Some(2));
}
