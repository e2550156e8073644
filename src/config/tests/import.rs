//! Tests of the import of other hosts' agents: one file of each host, and random agents.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::config::import::places::OperatingSystem;

/// A part of every secret in the sample files.
const SECRET: &str = "hunter22";
const PROJECT: &str = "/projects/shop";

/// An environment in which every variable has a value.
struct FullEnvironment;

impl Environment for FullEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        // A whole address can be a variable, or a part of one.
        Some(if name == "TENANT" { "acme" } else { "http://value" }.to_owned())
    }
    fn executable(&self) -> Result<String, String> {
        Ok("/opt/kapell".to_owned())
    }
    fn free_port(&self) -> Result<u16, String> {
        Ok(40_123)
    }
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts")
}

fn sample(file: &str) -> String {
    std::fs::read_to_string(samples().join(file)).expect(file)
}

fn context(in_project: bool) -> ImportContext<'static> {
    ImportContext { project: Path::new(PROJECT), in_project }
}

/// Returns the agents file, followed by what people read about each agent.
fn rendered(imported: &ImportedAgents) -> String {
    let mut document = AgentsDocument::default();
    let mut lines = String::new();
    let mut selection = ImportSelection::default();
    for agent in &imported.agents {
        selection.select(&document, &mut agent.clone());
    }
    for agent in selection.agents() {
        document.add(&agent.name, &agent.entry);
        for variable in &agent.variables {
            lines += &format!("{}: set {variable}\n", agent.name);
        }
        for remark in &agent.remarks {
            lines += &format!("{}: {remark}\n", agent.name);
        }
    }
    for skipped in &imported.skipped {
        lines += &format!("{} skipped: {}\n", skipped.name, skipped.reason);
    }
    let text = document.to_string();
    let parsed = parse_agents("agents.toml", &text, &FullEnvironment);
    assert!(parsed.is_ok(), "{}\n{text}", parsed.expect_err("diagnostics"));
    assert!(!text.contains(SECRET) && !lines.contains(SECRET), "{text}\n{lines}");
    format!("{text}---\n{lines}")
}

/// Returns the sample of a host.
fn host_sample(host: &McpHost) -> String {
    let file = ["json", "toml", "yaml"].iter().map(|ending| format!("{}.{ending}", host.name));
    file.into_iter().find(|file| samples().join(file).exists()).expect(host.name)
}

#[test]
fn files_of_all_hosts_are_imported() {
    for host in HOSTS {
        let file = host_sample(host);
        let imported = read_host_file(host, (&file, &sample(&file)), &context(false)).expect(host.name);
        insta::assert_snapshot!(host.name, rendered(&imported));
    }
}

#[test]
fn servers_of_the_registry_and_bundles_are_imported() {
    for file in ["server.json", "server-remote.json"] {
        let imported = read_any_file(Path::new(file), &sample(file), &context(false)).expect(file);
        insta::assert_snapshot!(file.replace(".json", ""), rendered(&imported));
    }
    let directory = |name: &str| Path::new("/data/bundles").join(name);
    let manifest = sample("manifest.json");
    let read = |system| read_bundle_manifest(("manifest.json", &manifest), directory, system).expect("a manifest");
    let (imported, directory) = read(OperatingSystem::Linux);
    assert_eq!(directory, Path::new("/data/bundles/My-Bundle"));
    insta::assert_snapshot!("bundle", rendered(&imported));
    let (imported, _) = read(OperatingSystem::Windows);
    assert_eq!(imported.agents[0].entry.command.as_deref(), Some("node.exe"));
}

#[test]
fn hosts_are_recognized_by_path_and_by_keys() {
    for host in HOSTS {
        let file = host_sample(host);
        let text = sample(&file);
        let direct = read_host_file(host, (&file, &text), &context(true)).expect(host.name);
        for place in config_places(Some(host), &surroundings(OperatingSystem::Linux)) {
            // The file of Visual Studio Code in a project is one of two hosts.
            if place.path.ends_with("*") || place.in_project && host.name == "copilot-cli" {
                continue;
            }
            assert_eq!(read_any_file(&place.path, &text, &context(true)).expect(host.name), direct, "{}", host.name);
        }
        let unnamed = read_any_file(Path::new("pasted"), &text, &context(true)).expect(host.name);
        assert_eq!(unnamed.agents.len(), direct.agents.len(), "{}", host.name);
    }
    let bare = r#"{"time": {"command": "uvx", "args": ["mcp-server-time"]}}"#;
    assert_eq!(read_any_file(Path::new("-"), bare, &context(true)).expect("agents").agents.len(), 1);
    let unknown = read_any_file(Path::new("a.json"), "{\"a\": 1}", &context(true)).expect_err("no agents");
    assert_eq!(unknown.list()[0].code, "import::unknown_format");
}

fn surroundings(system: OperatingSystem) -> Surroundings<'static> {
    Surroundings {
        system,
        home: Path::new("/home/me"),
        project: Path::new(PROJECT),
        variable: &|name| match name {
            "CODEX_HOME" => Some("/codex".to_owned()),
            "APPDATA" => Some("/roaming".to_owned()),
            _ => None,
        },
    }
}

#[test]
fn every_host_has_its_places_on_every_system() {
    let mut lines = String::new();
    for system in [OperatingSystem::Linux, OperatingSystem::Mac, OperatingSystem::Windows] {
        for place in config_places(None, &surroundings(system)) {
            let project = if place.in_project { "  (project)" } else { "" };
            lines += &format!("{system:?}  {}  {}{project}\n", place.host.name, place.path.display());
        }
    }
    insta::assert_snapshot!("places", lines);
}

#[test]
fn files_of_projects_belong_to_their_directory() {
    for (path, project, in_project) in [
        ("/projects/shop/.mcp.json", "/projects/shop", true),
        ("/projects/shop/.vscode/mcp.json", "/projects/shop", true),
        ("/projects/shop/.continue/mcpServers/a.yaml", "/projects/shop", true),
        ("/projects/shop/agents.json", "/projects/shop", true),
        ("/home/me/.claude.json", "/home/me", false),
    ] {
        assert_eq!(project_of_file(Path::new(path)), (PathBuf::from(project), in_project), "{path}");
    }
}

#[test]
fn relative_paths_keep_their_meaning() {
    let start = |host: &str, in_project, keys: &str| {
        let text = format!("{{\"mcpServers\": {{\"a\": {keys}}}}}");
        let host = McpHost::find(host).expect("a host");
        let imported = read_host_file(host, ("a.json", &text), &context(in_project)).expect("agents");
        imported.agents[0].entry.clone()
    };
    let directory = |host: &str, in_project, keys: &str| start(host, in_project, keys).cwd;
    for command in ["./bin/server", "bin/server"] {
        let entry = start("claude", true, &format!("{{\"command\": \"{command}\"}}"));
        assert_eq!(entry.command.as_deref(), Some("/projects/shop/bin/server"));
        assert_eq!(entry.cwd.as_deref(), Some(PROJECT));
    }
    let script = r#"{"command": "node", "args": ["server.js"]}"#;
    assert_eq!(directory("claude", true, script).as_deref(), Some(PROJECT));
    assert_eq!(directory("claude-desktop", false, script).as_deref(), Some("${HOME}"));
    assert_eq!(
        directory("claude", true, r#"{"command": "x", "cwd": "tools"}"#).as_deref(),
        Some("/projects/shop/tools")
    );
    assert_eq!(directory("claude", true, r#"{"command": "x", "cwd": "/a"}"#).as_deref(), Some("/a"));
    assert_eq!(directory("claude", true, r#"{"command": "npx", "args": ["-y", "@a/b"]}"#), None);
}

#[test]
fn broken_files_are_reported_with_position_and_without_their_contents() {
    for (host, text, position) in [
        ("claude", "{\n  \"mcpServers\": { \"a\": hunter22 }\n}", (2, 24)),
        ("codex", "[mcp_servers.a]\nbearer_token = hunter22\n", (2, 16)),
    ] {
        let host = McpHost::find(host).expect("a host");
        let diagnostics = read_host_file(host, ("file", text), &context(true)).expect_err("a syntax error");
        let found = diagnostics.list()[0].position.expect("a position");
        assert_eq!(((found.line, found.column), diagnostics.errors()), (position, 1));
        assert!(!super::rendered(&diagnostics).contains(SECRET));
    }
}

/// Returns any JSON value, often one that agents have.
fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-zA-Z0-9_./:$@{} -]{0,12}",
        Just("${KEY}".to_owned()),
        Just("${input:a b}".to_owned()),
        Just("https://example.com/mcp?key=a".to_owned()),
        Just("Bearer abc".to_owned()),
        Just("${PORT}".to_owned()),
        any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let map = prop::collection::vec(("[A-Za-z_ -]{0,8}", inner.clone()), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            map.prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// Returns the settings of an agent with keys of all hosts.
fn agent() -> impl Strategy<Value = Value> {
    const KEYS: [&str; 30] = [
        "args",
        "available_tools",
        "bearer_token",
        "bearer_token_env_var",
        "cmd",
        "command",
        "cwd",
        "disabled",
        "enabled",
        "enabled_tools",
        "env",
        "env_http_headers",
        "env_keys",
        "env_vars",
        "headers",
        "httpUrl",
        "http_headers",
        "oauth",
        "oauth_resource",
        "scopes",
        "serverUrl",
        "startup_timeout_sec",
        "supports_parallel_tool_calls",
        "timeout",
        "tools",
        "transport",
        "type",
        "uri",
        "url",
        "disabledTools",
    ];
    let entries = prop::collection::vec((prop::sample::select(&KEYS[..]), value()), 0..8);
    let base = prop_oneof![
        Just(serde_json::json!({})),
        Just(serde_json::json!({"command": "npx", "args": ["-y", "--token", "x"]})),
        Just(serde_json::json!({"url": "https://example.com/mcp"})),
    ];
    (base, entries).prop_map(|(base, entries)| {
        let mut keys: Map<String, Value> = entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        keys.extend(base.as_object().cloned().unwrap_or_default());
        Value::Object(keys)
    })
}

proptest! {
    #[test]
    fn every_import_is_a_valid_agents_file(
        host in prop::sample::select(HOSTS.iter().collect::<Vec<_>>()),
        agents in prop::collection::vec((any::<String>(), agent()), 1..4),
    ) {
        let agents: Map<String, Value> = agents.into_iter().collect();
        let mut root = Map::new();
        for section in ["mcpServers", "servers", "mcp_servers", "mcp", "extensions", "context_servers"] {
            root.insert(section.to_owned(), Value::Object(agents.clone()));
        }
        // JSON is YAML too, and TOML has no null.
        if host.name != "codex" && let Ok(imported) = read_host_file(host, ("file", &Value::Object(root).to_string()), &context(true)) {
            let mut document = AgentsDocument::default();
            let mut selection = ImportSelection::default();
            for mut agent in imported.agents {
                selection.select(&document, &mut agent);
            }
            for agent in selection.agents() {
                document.add(&agent.name, &agent.entry);
            }
            let text = document.to_string();
            let parsed = parse_agents("agents.toml", &text, &FullEnvironment);
            prop_assert!(parsed.is_ok(), "{}\n{text}", parsed.expect_err("diagnostics"));
        }
    }
}
