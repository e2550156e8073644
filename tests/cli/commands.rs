//! The commands that look things up.

use crate::support::Place;

#[test]
fn agents_are_listed_tested_and_their_tools_shown() {
    let place = Place::new();
    place.agents(&["exits"]);
    let listed = place.kapell(&["agents", "list", "--output", "json"]);
    assert_eq!(listed.result().as_array().map(Vec::len), Some(4), "{listed:?}");
    let tested = place.kapell(&["agents", "test", "--output", "json"]);
    let result = tested.result();
    assert_eq!(tested.code, Some(1), "{tested:?}");
    let ok: Vec<(&str, bool)> = result
        .as_array()
        .expect("a list")
        .iter()
        .map(|agent| (agent["agent"].as_str().unwrap_or_default(), agent["ok"].as_bool().unwrap_or_default()))
        .collect();
    assert_eq!(ok, [("travel", true), ("research", true), ("archive", true), ("odd-exits", false)]);
    assert!(tested.out.contains("no licence"), "{}", tested.out);
    let tools = place.kapell(&["agents", "tools", "travel"]);
    assert!(tools.code == Some(0) && tools.out.starts_with("travel.book_trip("), "{tools:?}");
    let unknown = place.kapell(&["agents", "test", "nobody"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("nobody"), "{unknown:?}");
}

#[test]
fn runs_are_listed_shown_and_logged() {
    let place = Place::new();
    place.agents(&["good"]);
    let plan = "name: errand\ntasks: [{ id: a, agent: odd-good, tool: work }]\n";
    let run = place.run(plan, &["--journal", "journal.db"]).result()["run"].as_str().map(str::to_owned).expect("an id");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db"]);
    assert!(listed.out.contains(&run) && listed.out.contains("errand"), "{listed:?}");
    let shown = place.kapell(&["runs", "show", &run[..13], "--journal", "journal.db"]);
    assert!(shown.out.contains("odd-good.work") && shown.out.contains("2025-11-25"), "{shown:?}");
    let logged = place.kapell(&["logs", &run, "--journal", "journal.db"]);
    assert!(logged.out.contains("a: started on odd-good.work") || logged.out.contains("odd-good.work"), "{logged:?}");
    let unknown = place.kapell(&["runs", "show", "zzz", "--journal", "journal.db"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("zzz"), "{unknown:?}");
    let missing = place.kapell(&["runs", "list", "--journal", "nowhere.db"]);
    assert!(missing.code == Some(1) && missing.err.contains("nowhere.db"), "{missing:?}");
}

#[test]
fn a_file_that_is_no_journal_is_left_as_it_is() {
    let place = Place::new();
    place.agents(&["good"]).write("journal.db", "this is a letter to my aunt, not a database".repeat(50));
    let ended = place.run("name: x\ntasks: [{ id: a, agent: odd-good, tool: work }]\n", &["--journal", "journal.db"]);
    assert!(ended.code == Some(1) && ended.err.contains("journal.db"), "{ended:?}");
    assert!(std::fs::read_to_string(place.path("journal.db")).expect("still there").starts_with("this is a letter"));
}

#[test]
fn graphs_are_drawn_in_both_languages() {
    let place = Place::new();
    place.agents(&["good"]).write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: a, agent: odd-good, tool: work }\n  - { id: b, agent: odd-good, tool: work, needs: [a] }\n",
    );
    let mermaid = place.kapell(&["graph", "plan.yaml"]);
    assert!(mermaid.out.starts_with("flowchart") && mermaid.out.contains("-->"), "{mermaid:?}");
    let dot = place.kapell(&["graph", "plan.yaml", "--format", "dot"]);
    assert!(dot.out.starts_with("digraph") && dot.out.contains("->"), "{dot:?}");
}

#[test]
fn schemas_are_printed_as_they_are_committed() {
    let place = Place::new();
    for (format, committed) in [
        ("plan", include_str!("../../schemas/plan.schema.json")),
        ("agents", include_str!("../../schemas/agents.schema.json")),
    ] {
        let printed = place.kapell(&["schema", format]);
        let committed: serde_json::Value = serde_json::from_str(committed).expect("JSON");
        assert_eq!(printed.result(), committed, "write it with `kapell schema {format}`");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let place = Place::new();
    for arguments in [&["frobnicate"][..], &["run"], &["runs", "show"], &["graph", "x", "--format", "png"]] {
        assert_eq!(place.kapell(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn a_tool_that_an_agent_offers_only_where_there_is_a_model_is_seen_where_there_is_one() {
    let place = Place::new();
    place
        .agents(&["wants-model"])
        .write("plan.yaml", "name: x\ntasks: [{ id: a, agent: odd-wants-model, tool: sum_up }]\n");
    let seen = || {
        let tools = place.kapell(&["agents", "tools", "odd-wants-model"]);
        (tools.out.contains(".sum_up("), place.kapell(&["validate", "plan.yaml"]).code)
    };
    assert_eq!(seen(), (false, Some(2)));
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n{agents}"));
    assert_eq!(seen(), (true, Some(0)));
}
