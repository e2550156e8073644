//! Saved plans, and what a goal has from them; connections of planning in the run; and servers that could help.

use serde_json::{Value, json};

use crate::support::scripted_endpoint::{ScriptedEndpoint, ScriptedReply};
use crate::support::workspace::Workspace;

const GOAL: &str = "Read about the sights of Lisbon";

/// Returns an endpoint that plans one task for each goal, and answers.
fn endpoint() -> ScriptedEndpoint {
    ScriptedEndpoint::with_script(|request| {
        let arguments = json!({"topic": "Lisbon", "depth": 1, "delay_ms": 1});
        let task = json!({"title": "Sights", "tool": "research.research", "args": arguments});
        let text = match request["messages"][0]["content"].as_str() {
            Some(rules) if rules.starts_with("You plan") => json!({"tasks": [task]}).to_string(),
            Some(rules) if rules.starts_with("You check") => json!({"complete": true, "missing": null}).to_string(),
            _ => "There is much to see [t1].".to_owned(),
        };
        ScriptedReply { text, tokens: 12 }
    })
}

/// Returns a workspace with the demo agents and a model.
fn workspace(endpoint: &ScriptedEndpoint) -> Workspace {
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("{}\n{agents}", endpoint.config_section()));
    place
}

#[test]
fn saved_plan_is_an_example_for_similar_goals() {
    let endpoint = endpoint();
    let place = workspace(&endpoint);
    let kapell = |arguments: &[&str]| place.kapell(&[arguments, &["--journal", "journal.db"]].concat());
    assert_eq!(kapell(&["run", GOAL, "--yes", "--no-input"]).code, Some(0));
    let saved = kapell(&["plans", "save", "sights"]);
    assert_eq!(saved.code, Some(0), "{saved:?}");
    let again = kapell(&["plans", "save", "sights"]);
    assert_eq!((again.code, again.error_code()), (Some(2), "cli::file_exists"), "{again:?}");
    let listed: Value = kapell(&["plans", "list", "--json"]).result();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["goal"], &listed[0]["tasks"]),
        (&json!("sights"), &json!(GOAL), &json!(1))
    );
    let shown = kapell(&["plans", "show", "sights"]);
    assert!(shown.stdout.contains("tool: research"), "{shown:?}");

    let planned = kapell(&["run", "Read about the sights of Porto", "--yes", "--no-input", "--dry-run"]);
    assert!(planned.stderr.contains("similar saved plans: sights"), "{planned:?}");
    let mut prompts = std::iter::from_fn(|| Some(endpoint.next_request()["messages"][1]["content"].to_string()));
    let prompt = prompts.find(|prompt| prompt.contains("Porto")).expect("a prompt");
    assert!(prompt.contains(&format!("A plan that worked for a similar goal: {GOAL}")), "{prompt}");

    assert_eq!(kapell(&["plans", "remove", "sights"]).code, Some(0));
    let gone = kapell(&["plans", "show", "sights"]);
    assert_eq!((gone.code, gone.error_code()), (Some(2), "cli::unknown_saved_plan"), "{gone:?}");
    let name = kapell(&["plans", "save", "../x"]);
    assert_eq!((name.code, name.error_code()), (Some(2), "cli::plan_name"), "{name:?}");
}

#[test]
fn agents_of_planning_stay_connected_for_the_run() {
    let endpoint = endpoint();
    let place = Workspace::new();
    let start = "echo start >> starts; exec \"$0\" demo-agent \"$1\"";
    let agent = |name: &str| {
        format!("[agents.{name}]\ncommand = \"sh\"\nargs = [\"-c\", {start:?}, \"${{KAPELL}}\", {name:?}]\n")
    };
    place.write("agents.toml", format!("{}{}{}", endpoint.config_section(), agent("research"), agent("travel")));
    let ended = place.kapell(&["run", GOAL, "--yes", "--no-input", "--journal", "journal.db"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let starts = std::fs::read_to_string(place.path("starts")).expect("agents started");
    assert_eq!(starts.lines().count(), 2, "each agent starts once");
    assert_eq!(place.logged_events("journal.db", "agent_connected").len(), 1, "only one is used");
}

#[test]
fn review_has_an_estimate() {
    let endpoint = endpoint();
    let place = workspace(&endpoint);
    let run = |arguments: &[&str]| place.kapell(&[&["run", GOAL, "--journal", "journal.db"], arguments].concat());
    let unknown = run(&[]);
    assert_eq!(unknown.code, Some(4), "{unknown:?}");
    let line = "estimated: tokens unknown, cost unknown, time unknown";
    assert!(unknown.stderr.contains(line), "{unknown:?}");
    assert_eq!(run(&["--yes", "--no-input"]).code, Some(0));
    let known = run(&[]);
    assert!(known.stderr.contains("estimated: tokens about 15, cost unknown, time about "), "{known:?}");
}

#[test]
fn impossible_goal_names_servers_that_are_not_in_use() {
    let answer = json!({"tasks": [], "missing": "No tool sends mail."}).to_string();
    let endpoint = ScriptedEndpoint::with_replies([&*answer]);
    let place = workspace(&endpoint);
    let servers = json!({"mcpServers": {"gmail": {"command": "npx", "args": ["-y", "gmail-server"]}}});
    place.write(".mcp.json", servers.to_string());
    let ended = place.kapell(&["run", "Write to Ada", "--yes"]);
    assert_eq!((ended.code, ended.error_code()), (Some(1), "planner::impossible"), "{ended:?}");
    assert!(ended.stderr.contains("known servers that may do it: `gmail`"), "{ended:?}");
}
