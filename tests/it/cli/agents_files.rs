//! `kapell agents add`, `remove`, and `import`: comments and the order of the agents file stay, and secrets are not written.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::cli::terminal_answers::run_in_terminal;
use crate::support::workspace::{CommandOutput, Workspace};

fn agents_file(place: &Workspace) -> String {
    fs::read_to_string(place.path("agents.toml")).expect("an agents file")
}

#[test]
fn agents_are_added_and_removed() {
    let place = Workspace::new();
    let before = "# The agents of my project.\n\n# Time.\n[agents.time]\ncommand = \"uvx\" # fast\n";
    place.write("agents.toml", before);

    let added = place.kapell(&["agents", "add", "files", "--", "npx", "-y", "files@1.2", "--token", "hunter22"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let section =
        "[agents.files]\ncommand = \"npx\"\nargs = [\"-y\", \"files@1.2\", \"--token\", \"${FILES_TOKEN}\"]\n";
    assert_eq!((added.stdout.as_str(), agents_file(&place)), (section, format!("{before}\n{section}")));
    assert!(added.stderr.contains("set the environment variable `FILES_TOKEN`"), "{added:?}");

    let added = place.kapell(&["agents", "add", "local", "--", "./bin/server"]);
    let program = place.path("bin/server").canonicalize().unwrap_or_else(|_| place.path("bin/server"));
    assert!(added.stdout.contains(&format!("command = \"{}\"", program.display())), "{added:?}");
    assert_eq!(place.kapell(&["agents", "remove", "local"]).code, Some(0));

    let added = place.kapell(&["agents", "add", "wiki", "https://wiki.example/mcp"]);
    assert_eq!((added.code, added.stdout.as_str()), (Some(0), "[agents.wiki]\nurl = \"https://wiki.example/mcp\"\n"));
    let listed = place.command(["agents", "list"]).env("FILES_TOKEN", "x").output().expect("runs");
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "agent  transport  address                   remarks\n\
         time   stdio      uvx\n\
         files  stdio      npx files@1.2\n\
         wiki   http       https://wiki.example/mcp\n"
    );

    for name in ["time", "wiki", "files"] {
        let removed = place.kapell(&["agents", "remove", name]);
        assert_eq!((removed.code, removed.stdout.as_str()), (Some(0), ""), "{removed:?}");
    }
    assert_eq!(agents_file(&place), "# The agents of my project.\n");
}

#[test]
fn the_first_agent_creates_the_agents_file() {
    let place = Workspace::new();
    let added = place.kapell(&["agents", "add", "time", "--", "uvx", "mcp-server-time"]);
    assert_eq!(added.code, Some(0), "{added:?}");
    let created = fs::read_to_string(place.path("config/kapell/agents.toml")).expect("the file of the user");
    assert_eq!(created, "[agents.time]\ncommand = \"uvx\"\nargs = [\"mcp-server-time\"]\n");
}

#[test]
fn invalid_changes_write_nothing() {
    let place = Workspace::new();
    let before = "[agents.time]\ncommand = \"uvx\"\n";
    place.write("agents.toml", before).write("broken.toml", "[agents.a");
    let cases: [(&[&str], &str); 5] = [
        (&["add", "time", "--", "x"], "cli::agent_exists"),
        (&["add", "a b", "--", "x"], "cli::invalid_name"),
        (&["add", "wiki", "wiki.example/mcp"], "cli::no_url"),
        (&["remove", "wiki"], "cli::unknown_agent"),
        (&["add", "wiki", "https://wiki.example", "--agents", "broken.toml"], "agents::syntax"),
    ];
    for (arguments, code) in cases {
        let ended = place.kapell(&[&["agents"], arguments].concat());
        assert_eq!((ended.code, ended.error_code()), (Some(2), code), "{ended:?}");
    }
    assert_eq!(agents_file(&place), before);
}

/// Writes the files of two hosts, with one agent in both and one secret.
fn place_with_hosts() -> Workspace {
    let place = Workspace::new();
    fs::create_dir(place.path(".cursor")).expect("created");
    place
        .write("agents.toml", "# Mine.\n[agents.time]\ncommand = \"uvx\"\n")
        .write(
            ".mcp.json",
            r#"{"mcpServers": {
                "time": {"command": "other"},
                "files": {"command": "npx", "args": ["-y", "files"]},
                "wiki": {"type": "http", "url": "https://wiki.example/mcp", "headers": {"Authorization": "Bearer hunter22"}},
                "socket": {"type": "ws", "url": "ws://wiki.example"}
            }}"#,
        )
        .write(".cursor/mcp.json", r#"{"mcpServers": {"documents": {"command": "npx", "args": ["-y", "files"]}}}"#);
    place
}

#[test]
fn agents_of_all_hosts_are_listed_and_added_only_with_consent() {
    let place = place_with_hosts();
    let before = agents_file(&place);
    let listed = place.kapell(&["agents", "import"]);
    assert_eq!((listed.code, agents_file(&place)), (Some(0), before.clone()), "{listed:?}");
    assert!(listed.stderr.contains("`kapell agents import --yes`"), "{listed:?}");
    insta::assert_snapshot!("import", place.normalized_output(&listed));

    let imported = place.kapell(&["agents", "import", "--yes"]);
    assert_eq!((imported.code, &imported.stdout), (Some(0), &listed.stdout), "{imported:?}");
    let sections = listed.stdout.split_once("\n\n").expect("sections").1;
    assert_eq!(agents_file(&place), format!("{before}\n{sections}"));
    assert!(imported.stderr.contains("`WIKI_TOKEN` for agent `wiki`") && !agents_file(&place).contains("hunter22"));

    let again = place.kapell(&["agents", "import", "--yes", "--output", "json"]);
    let result = again.result();
    assert_eq!(result["written"], false);
    let statuses = result["files"].as_array().expect("files").iter().flat_map(|file| file["agents"].as_array());
    let statuses: Vec<&Value> = statuses.flatten().map(|agent| &agent["status"]).collect();
    assert_eq!(statuses, ["exists", "exists", "exists", "duplicate"]);
}

#[test]
fn one_file_or_host_is_imported() {
    let place = place_with_hosts();
    let imported = place.kapell(&["agents", "import", "--from", "cursor", "--output", "json"]);
    let agents = json!([{
        "name": "documents",
        "status": "new",
        "entry": {"command": "npx", "args": ["-y", "files"]},
        "variables": [],
        "remarks": [],
    }]);
    assert_eq!(imported.result()["files"][0]["agents"], agents, "{imported:?}");

    let imported = place.kapell(&["agents", "import", ".cursor/mcp.json", "--yes"]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert!(agents_file(&place).ends_with("\n[agents.documents]\ncommand = \"npx\"\nargs = [\"-y\", \"files\"]\n"));

    place.write("other.json", "{\"a\": 1}");
    let unknown = place.kapell(&["agents", "import", "other.json"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "import::unknown_format"));
}

#[test]
fn broken_files_do_not_prevent_the_import_of_others() {
    let place = place_with_hosts();
    place.write(".cursor/mcp.json", "{\n  \"mcpServers\": hunter22\n}");
    let imported = place.kapell(&["agents", "import", "--yes"]);
    assert_eq!((imported.code, imported.error_code()), (Some(2), "import::syntax"), "{imported:?}");
    assert!(imported.stderr.contains(".cursor/mcp.json:2:17: error") && !imported.stderr.contains("hunter22"));
    assert!(agents_file(&place).contains("[agents.files]"));
}

#[test]
fn bundles_are_unpacked_and_run() {
    let place = Workspace::new();
    let folder = place.path("").display().to_string();
    let manifest = json!({
        "manifest_version": "0.3", "name": "my server", "version": "1.0.0",
        "server": {"type": "python", "mcp_config": {"command": "python3", "args": ["${__dirname}/server.py", folder]}},
    });
    let mut bundle = zip::ZipWriter::new(fs::File::create(place.path("server.mcpb")).expect("created"));
    let agent = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agents/steps.py")).expect("an agent");
    for (name, contents) in [("manifest.json", manifest.to_string().into_bytes()), ("server.py", agent)] {
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        bundle.start_file(name, stored).expect("started");
        bundle.write_all(&contents).expect("written");
    }
    bundle.finish().expect("finished");
    place.write("agents.toml", "");

    let import = |arguments: &[&str]| {
        let mut command = place.command([&["agents", "import", "server.mcpb"], arguments].concat());
        CommandOutput::of(command.env("XDG_DATA_HOME", place.path("data")))
    };
    assert_eq!(import(&[]).code, Some(0));
    assert!(!place.path("data").exists());
    let imported = import(&["--yes"]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    let tested = place.kapell(&["agents", "test"]);
    assert!(tested.code == Some(0) && tested.stdout.contains("\nmy-server  ok "), "{tested:?}");
}

#[test]
fn a_person_is_asked_on_the_terminal() {
    for (answer, exists) in [("y\n", true), ("\n", false), ("no\n", false)] {
        let place = place_with_hosts();
        let ended = run_in_terminal(&place, &[("[y/N]", answer)], None, &["agents", "import"]);
        assert_eq!((ended.code, agents_file(&place).contains("[agents.files]")), (Some(0), exists), "{ended:?}");
    }
}
