//! The first commands of a person who has servers of another host: everything works without reading a reference.

use std::fs;

use serde_json::json;

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::workspace::{CommandOutput, Workspace};

const KAPELL: &str = env!("CARGO_BIN_EXE_kapell");

/// Returns an empty home directory with the servers of another host.
fn home() -> Workspace {
    let place = Workspace::new();
    let servers = json!({"mcpServers": {
        "docs": {"command": KAPELL, "args": ["demo-agent", "archive"]},
        "mail": {"command": "mail-server", "env": {"MAIL_API_KEY": "sk-live-0123456789abcdef0123456789"}},
    }});
    place.write(".mcp.json", servers.to_string());
    place
}

#[test]
fn first_hour() {
    let place = home();
    let begun = place.kapell(&["init", "--yes"]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let agents = fs::read_to_string(place.path("agents.toml")).expect("written");
    assert!(!agents.contains("sk-live"), "{agents}");
    insta::assert_snapshot!(place.normalized_output(&begun) + &agents.replace(KAPELL, "/bin/kapell"));

    let tools = place.kapell(&["agents", "tools", "docs", "demo-research"]);
    assert_eq!(tools.code, Some(0), "{tools:?}");
    insta::assert_snapshot!(tools.stdout);
    let called = place.kapell(&["call", "docs.store_document", "title=Notes", "text=hello"]);
    insta::assert_snapshot!("first_call", place.normalized_output(&called));
    assert_eq!(place.kapell(&["validate", "plan.yaml"]).code, Some(0));
    let ran = place.kapell(&["run", "plan.yaml", "--no-input"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    insta::assert_snapshot!(ran.stdout);
    assert_eq!(place.kapell(&["result"]).stdout, ran.stdout);
    let retried = place.kapell(&["retry", "--failed"]);
    assert_eq!(retried.error_code(), "cli::nothing_failed");
    insta::assert_snapshot!("first_retry_of_nothing", place.normalized_output(&retried));

    place
        .write("bad.yaml", "name: bad\ntasks:\n  - { id: a, agent: docs, tool: store_document, with: { title: x } }\n");
    assert_eq!(place.kapell(&["run", "bad.yaml", "--no-input"]).code, Some(1));
    let corrected =
        "name: bad\ntasks:\n  - { id: a, agent: docs, tool: store_document, with: { title: x, text: y } }\n";
    place.write("bad.yaml", corrected);
    let retried = place.kapell(&["retry", "--failed", "--plan", "bad.yaml", "--no-input"]);
    assert_eq!(retried.code, Some(0), "{retried:?}");
    insta::assert_snapshot!("first_retry", place.normalized_output(&retried));
}

#[test]
fn init_overwrites_nothing() {
    let place = home();
    for file in ["agents.toml", "plan.yaml", "plan.schema.json"] {
        place.write(file, "# mine\n");
    }
    let begun = place.kapell(&["init", "--yes"]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    for file in ["agents.toml", "plan.yaml", "plan.schema.json"] {
        assert_eq!(fs::read_to_string(place.path(file)).expect("kept"), "# mine\n", "{file}");
    }
    assert!(place.path("agents.schema.json").exists());
}

/// Returns the output of `kapell init` with these variables and no other keys of providers.
fn init_with(place: &Workspace, options: &[&str], variables: &[(&str, &str)]) -> CommandOutput {
    let mut command = place.command([&["init"], options].concat());
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "DEEPSEEK_API_KEY"] {
        command.env_remove(name);
    }
    command.env_remove("OPENROUTER_API_KEY").envs(variables.iter().copied());
    CommandOutput::of(&mut command)
}

#[test]
fn init_uses_the_first_key_of_a_provider() {
    let place = Workspace::new();
    let begun = init_with(&place, &["--yes"], &[("MISTRAL_API_KEY", "canary-1"), ("ANTHROPIC_API_KEY", "canary-2")]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let agents = fs::read_to_string(place.path("agents.toml")).expect("written");
    assert!(!agents.contains("canary") && !begun.stderr.contains("canary"), "{agents} {begun:?}");
    if !begun.stderr.contains("found the key") {
        eprintln!("skipped: a model server of this machine has precedence");
        return;
    }
    assert!(agents.contains("provider = \"anthropic\"\napi_key_env_var = \"ANTHROPIC_API_KEY\"\n"), "{agents}");
    assert!(begun.stderr.contains("also: mistral (`MISTRAL_API_KEY`)"), "{begun:?}");
    assert!(begun.stderr.contains("to change it, edit `[llm]` in agents.toml"), "{begun:?}");
    let valid = place.command(["agents", "list"]).env("ANTHROPIC_API_KEY", "canary-2").output().expect("runs");
    assert_eq!(valid.status.code(), Some(0));

    // Without a terminal and `--yes`, nothing is used.
    let place = Workspace::new();
    let begun = init_with(&place, &[], &[("MISTRAL_API_KEY", "canary-1")]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    let agents = fs::read_to_string(place.path("agents.toml")).expect("written");
    assert!(!agents.lines().any(|line| line == "[llm]"), "{agents}");
}

#[test]
fn second_init_changes_nothing() {
    let place = home();
    assert_eq!(init_with(&place, &["--yes"], &[]).code, Some(0));
    let files = ["agents.toml", "plan.yaml", "plan.schema.json", "agents.schema.json"];
    let read = || files.map(|file| fs::read_to_string(place.path(file)).expect("written"));
    let before = read();
    let again = init_with(&place, &["--yes"], &[]);
    assert_eq!((again.code, read()), (Some(0), before), "{again:?}");
    assert!(again.stderr.contains("agents.toml exists, and stays as it is"), "{again:?}");
}

#[test]
fn init_with_a_broken_file_of_another_host_reports_it_and_continues() {
    let place = home();
    place.write(".mcp.json", "{\"mcpServers\": {\"docs\": ");
    let begun = init_with(&place, &["--yes"], &[]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    assert!(begun.stderr.contains(".mcp.json:1:"), "{begun:?}");
    assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(0));
}

#[test]
fn init_in_an_unwritable_directory_fails() {
    // Nothing can be created in `/proc`, even by root.
    let elsewhere = std::path::Path::new("/proc");
    if !elsewhere.is_dir() {
        eprintln!("skipped: this system has no /proc");
        return;
    }
    let place = Workspace::new();
    let refused = CommandOutput::of(place.command(["init", "--yes"]).current_dir(elsewhere));
    assert_eq!((refused.code, refused.error_code()), (Some(2), "cli::unwritable"), "{refused:?}");
}

#[test]
fn init_imports_only_with_consent() {
    for (answer, is_imported) in [("n\n", false), ("y\n", true)] {
        let place = home();
        let begun = run_in_terminal(&place, &[("import 2 agents? [y/N]", answer)], None, &["init"]);
        let agents = fs::read_to_string(place.path("agents.toml")).expect("written");
        assert_eq!(agents.contains("[agents.docs]"), is_imported, "{begun:?}");
        assert_eq!(place.kapell(&["run", "plan.yaml", "--no-input"]).code, Some(0), "{agents}");
    }
    // No terminal, no consent.
    let place = home();
    let begun = place.kapell(&["init"]);
    assert!(begun.code == Some(0) && begun.stderr.contains("kapell agents import"), "{begun:?}");
    assert!(!fs::read_to_string(place.path("agents.toml")).expect("written").contains("[agents.docs]"));
}

#[test]
fn commands_without_an_agents_file_name_init() {
    let place = Workspace::new();
    place.write("plan.yaml", "name: x\ntasks:\n  - { id: a, agent: docs, tool: t }\n");
    for command in [&["agents", "tools"][..], &["run", "plan.yaml"], &["call", "a.b"]] {
        let refused = place.kapell(command);
        assert!(refused.code == Some(2) && refused.stderr.contains("`kapell init`"), "{command:?}: {refused:?}");
    }
    let checked = place.kapell(&["doctor"]);
    assert!(checked.code == Some(0) && checked.stdout.contains("`kapell init`"), "{checked:?}");
}
