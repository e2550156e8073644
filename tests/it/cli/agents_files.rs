//! `kapell agents add` and `remove`: comments and the order of the agents file stay, and secrets are not written.

use std::fs;

use crate::support::workspace::Workspace;

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

    let added = place.kapell(&["agents", "add", "wiki", "https://wiki.example/mcp"]);
    assert_eq!((added.code, added.stdout.as_str()), (Some(0), "[agents.wiki]\nurl = \"https://wiki.example/mcp\"\n"));
    let listed = place.command(["agents", "list"]).env("FILES_TOKEN", "x").output().expect("runs");
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout),
        "time  stdio  uvx\nfiles  stdio  npx\nwiki  http  https://wiki.example/mcp\n"
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
