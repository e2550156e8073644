//! Commands that look things up.

use crate::support::terminal::run_at_terminal_like;
use crate::support::workspace::Workspace;

#[test]
fn lists_and_tests_agents_and_their_tools() {
    let place = Workspace::new();
    place.write_agents(&["exits"]);
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
    let failed = &result.as_array().expect("a list")[3]["error"];
    assert!(failed["message"].as_str().is_some_and(|message| message.contains("no license")), "{failed}");
    let tools = place.kapell(&["agents", "tools", "travel"]);
    assert!(tools.code == Some(0) && tools.stdout.starts_with("travel.book_trip("), "{tools:?}");
    let unknown = place.kapell(&["agents", "test", "unknown"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "cli::unknown_agent"));
}

#[test]
fn lists_and_shows_runs_and_their_logs() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let plan = "name: errand\ntasks: [{ id: a, agent: odd-good, tool: work }]\n";
    let run =
        place.run_plan(plan, &["--journal", "journal.db"]).result()["run"].as_str().map(str::to_owned).expect("an id");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db"]);
    assert!(
        listed.stdout.contains(&run[28..]) && !listed.stdout.contains(&run) && listed.stdout.contains("errand"),
        "{listed:?}"
    );
    let shown = place.kapell(&["runs", "show", &run[..13], "--journal", "journal.db"]);
    assert!(shown.stdout.contains("odd-good.work") && shown.stdout.contains("2025-11-25"), "{shown:?}");
    let logged = place.kapell(&["logs", &run, "--journal", "journal.db"]);
    assert!(logged.stdout.contains("odd-good.work"), "{logged:?}");
    let unknown = place.kapell(&["runs", "show", "zzz", "--journal", "journal.db"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "journal::unknown_run"));
    let missing = place.kapell(&["runs", "list", "--journal", "nowhere.db"]);
    assert_eq!((missing.code, missing.stderr.as_str()), (Some(0), "no runs yet\n"));
    let missing = place.kapell(&["runs", "show", "--journal", "nowhere.db"]);
    assert_eq!((missing.code, missing.error_code()), (Some(1), "journal::missing"));
}

#[test]
fn file_that_is_not_a_journal_is_unchanged() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write("journal.db", "this is a letter to my aunt, not a database".repeat(50));
    let ended =
        place.run_plan("name: x\ntasks: [{ id: a, agent: odd-good, tool: work }]\n", &["--journal", "journal.db"]);
    assert_eq!((ended.code, ended.error_code()), (Some(1), "journal::foreign"));
    assert!(std::fs::read_to_string(place.path("journal.db")).expect("still there").starts_with("this is a letter"));
}

#[test]
fn draws_graphs_of_plans_and_runs() {
    let place = Workspace::new();
    place.write_agents(&["good"]).write(
        "plan.yaml",
        "name: x\ntasks:\n  - { id: a, agent: odd-good, tool: work }\n  - { id: b, agent: odd-good, tool: work, needs: [a] }\n",
    );
    let mermaid = place.kapell(&["graph", "plan.yaml"]);
    assert!(mermaid.stdout.starts_with("flowchart") && mermaid.stdout.contains("-->"), "{mermaid:?}");
    let dot = place.kapell(&["graph", "plan.yaml", "--format", "dot"]);
    assert!(dot.stdout.starts_with("digraph") && dot.stdout.contains("->"), "{dot:?}");
    let boxes = place.kapell(&["graph", "plan.yaml", "--format", "text"]);
    assert!(boxes.stdout.starts_with("x: 2 tasks\n") && boxes.stdout.contains("odd-good.work"), "{boxes:?}");
    let tree = place.kapell(&["graph", "plan.yaml", "--format", "list"]);
    assert!(tree.stdout.starts_with("x: 2 tasks in 2 waves\n") && tree.stdout.contains("after a\n"), "{tree:?}");
    assert_eq!(place.kapell(&["run", "plan.yaml", "--dry-run"]).stdout, tree.stdout);
    let svg = place.kapell(&["graph", "plan.yaml", "--format", "svg"]);
    assert!(svg.stdout.starts_with("<svg") && !svg.stdout.contains("waiting"), "{svg:?}");

    assert_eq!(place.kapell(&["run", "plan.yaml"]).code, Some(0));
    let svg = place.kapell(&["graph", "last", "--format", "svg"]);
    assert_eq!(svg.stdout.matches("succeeded ·").count(), 2, "{svg:?}");
    assert_eq!(place.kapell(&["graph", "last"]).stdout, mermaid.stdout);
    let boxes = place.kapell(&["graph", "last", "--format", "text"]);
    assert_eq!(boxes.stdout.matches("succeeded").count(), 2, "{boxes:?}");
    let many = (0..41).map(|index| format!("  - {{ id: t{index}, agent: odd-good, tool: work }}\n"));
    place.write("many.yaml", format!("name: many\ntasks:\n{}", many.collect::<String>()));
    let list = place.kapell(&["graph", "many.yaml", "--format", "text"]);
    assert!(list.stdout.starts_with("many: 41 tasks in 1 wave\n") && list.stderr.contains("a list"), "{list:?}");
    place.write(
        "lacking.yaml",
        "name: x\ntasks:\n  - { id: a, agent: other, tool: work }\n  - { id: b, prompt: Why? }\n",
    );
    let lacking = place.kapell(&["graph", "lacking.yaml"]);
    assert!(lacking.stdout.contains("other · work") && lacking.stderr.contains("`agents.toml` lacks"), "{lacking:?}");
    place.write("invalid.yaml", "name: x\ntasks:\n  - { id: a, agent: other, tool: work, needs: [c] }\n");
    let invalid = place.kapell(&["graph", "invalid.yaml"]);
    assert_eq!(invalid.error_codes(), ["plan::unknown_agent", "plan::unknown_task"]);
    let unknown = place.kapell(&["graph", "plan"]);
    assert!(unknown.stderr.contains("did you mean `plan.yaml`"), "{unknown:?}");
}

#[test]
fn agents_are_listed_in_a_table_with_those_that_are_disabled() {
    let place = Workspace::new();
    place.write(
        "agents.toml",
        "[agents.files]\ncommand = \"npx\"\nargs = [\"-y\", \"@acme/files\", \"/notes\"]\n\
         [agents.secret]\ncommand = \"npx\"\nargs = [\"--token\", \"sk-canary\"]\n\
         [agents.wiki]\nurl = \"https://wiki.example.com/mcp?key=canary\"\nrequired = true\nprotocol = \"legacy\"\n\
         [agents.old]\ncommand = \"old-server\"\nenabled = false\n",
    );
    insta::assert_snapshot!(place.kapell(&["agents", "list"]).stdout);
    place.write("agents.toml", "");
    for command in ["list", "test", "tools"] {
        let ended = place.kapell(&["agents", command]);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
        assert!(ended.stderr.contains("no agents in `agents.toml`"), "{ended:?}");
    }
}

#[test]
fn missing_files_suggest_similar_ones() {
    let place = Workspace::new();
    std::fs::create_dir(place.path("plans")).expect("a folder");
    place.write_agents(&[]).write("plans/lisbon.yaml", "name: x\ntasks: []\n").write("answers.yaml", "answers: []\n");
    for (command, similar) in [
        (&["validate", "plans/lisbn.yaml"][..], "plans/lisbon.yaml"),
        (&["graph", "plans/lisbn.yaml"], "plans/lisbon.yaml"),
        (&["run", "plans/lisbn.yaml"], "plans/lisbon.yaml"),
        (&["run", "plans/lisbon.yaml", "--answers", "answer.yaml"], "answers.yaml"),
        (&["agents", "list", "--agents", "agent.toml"], "agents.toml"),
    ] {
        let refused = place.kapell(command);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let expected = format!("did you mean `{similar}`?");
        assert!(refused.stderr.contains("does not exist") && refused.stderr.contains(&expected), "{refused:?}");
    }
}

#[test]
fn printed_schemas_match_the_committed_files() {
    let place = Workspace::new();
    for (format, committed) in [
        ("plan", include_str!("../../../schemas/plan.schema.json")),
        ("agents", include_str!("../../../schemas/agents.schema.json")),
        ("answers", include_str!("../../../schemas/answers.schema.json")),
    ] {
        let printed = place.kapell(&["schema", format]);
        let committed: serde_json::Value = serde_json::from_str(committed).expect("JSON");
        assert_eq!(printed.result(), committed, "write it with `kapell schema {format}`");
    }
}

#[test]
fn invalid_command_line_is_a_usage_error() {
    let place = Workspace::new();
    for arguments in [&["frobnicate"][..], &["run"], &["runs", "diff"], &["graph", "x", "--format", "png"]] {
        assert_eq!(place.kapell(arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn sampling_tools_are_listed_when_a_model_is_configured() {
    let place = Workspace::new();
    place
        .write_agents(&["wants-model"])
        .write("plan.yaml", "name: x\ntasks: [{ id: a, agent: odd-wants-model, tool: sum_up }]\n");
    let seen = || {
        let tools = place.kapell(&["agents", "tools", "odd-wants-model"]);
        (tools.stdout.contains(".sum_up("), place.kapell(&["validate", "plan.yaml"]).code)
    };
    assert_eq!(seen(), (false, Some(2)));
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    place.write("agents.toml", format!("[llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n{agents}"));
    assert_eq!(seen(), (true, Some(0)));
}

#[test]
fn long_lines_are_wrapped_at_words_on_a_terminal() {
    let place = Workspace::new();
    place.write_agents(&[]);
    for command in [&["agents", "tools"][..], &["agents", "tools", "archive.store_document"]] {
        // The offers are known then, so nothing but the result is shown.
        let whole = place.kapell(command).stdout;
        let shown = run_at_terminal_like("xterm", 60, &place, (command, &[])).stdout;
        // The hint on stderr is not a part of the result.
        let shown = shown.split("as offered within").next().unwrap_or_default();
        assert!(shown.lines().all(|line| line.chars().count() <= 60), "{shown}");
        // Each word is in one piece.
        let words = |text: &str| {
            let longer =
                text.split_whitespace().filter(|word| word.len() > 3 && !word.chars().any(|c| c.is_ascii_digit()));
            longer.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
        };
        let missing: Vec<String> = words(&whole).difference(&words(shown)).cloned().collect();
        assert!(missing.is_empty(), "{missing:?} in {shown}");
    }
}

#[test]
fn names_that_almost_fit_are_suggested() {
    let place = Workspace::new();
    place.write("lisbon.yaml", "name: x\ntasks: [{ id: a, agent: docs, tool: t }]\n");
    let missing = place.kapell(&["run", "lisbon.yaml"]);
    assert_eq!(missing.stderr.matches("agents.toml`").count(), 2, "each place is named once: {missing:?}");
    place.write_agents(&[]);
    for (command, code, help) in [
        (&["validate", "lisbon"][..], "file::unreadable", "did you mean `lisbon.yaml`?"),
        (&["graph", "lisbn.yaml"], "file::unreadable", "did you mean `lisbon.yaml`?"),
        (&["agents", "tools", "reserch"], "cli::unknown_agent", "did you mean `research`?"),
        (&["call", "reserch.research"], "cli::unknown_agent", "did you mean `research`?"),
        (
            &["agents", "tools", "nothing-like-it"],
            "cli::unknown_agent",
            "the agents file has travel, research, archive",
        ),
    ] {
        let refused = place.kapell(command);
        assert!(refused.stderr.contains(&format!("error[{code}]")), "{command:?}: {refused:?}");
        assert!(refused.stderr.contains(help), "{command:?}: {refused:?}");
    }
    place.write("agents.toml", "");
    assert!(place.kapell(&["call", "a.b"]).stderr.contains("`kapell agents add` adds one"));
    let unknown = place.kapell(&["ps"]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("did you mean `kapell runs list`?"), "{unknown:?}");
}

#[test]
fn runs_that_have_ended_name_the_command_that_continues() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let plan = "name: x\ntasks: [{ id: keep, agent: archive, tool: store_document, with: { title: t, text: x }, approve: Store? }]\n";
    assert_eq!(place.run_plan(plan, &[]).code, Some(4));
    assert_eq!(place.kapell(&["cancel", "last"]).code, Some(0));
    let listed = place.kapell(&["runs", "list", "--json"]).result();
    assert_eq!(
        (&listed[0]["status"], &listed[0]["done"], &listed[0]["tasks"]),
        (&"cancelled".into(), &0.into(), &1.into())
    );
    let refused = place.kapell(&["resume"]);
    assert_eq!(refused.error_code(), "cli::nothing_to_resume");
    assert!(refused.stderr.contains("` reruns what did not succeed"), "{refused:?}");
    assert_eq!(place.kapell(&["call", "archive.store_document", "title=t", "text=x"]).code, Some(0));
    assert!(place.kapell(&["resume"]).stderr.contains("--from TASK` reruns a part of it"));
}

#[test]
fn model_without_its_key_is_not_offered_to_agents() {
    let place = Workspace::new();
    place.write_agents(&[]);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("just written");
    let model = "[llm]\nprovider = \"openai\"\nmodel = \"m\"\napi_key_env_var = \"KAPELL_TEST_UNSET_KEY\"\n";
    place.write("agents.toml", format!("{model}\n{agents}"));
    let plan = "name: x\ntasks: [{ id: a, agent: research, tool: research, with: { topic: Lisbon, delay_ms: 1 } }]\n";
    let ended = place.run_plan(plan, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.result()["tasks"]["a"]["output"]["summarised"], false);
    let notice = "no language model is used: the environment variable `KAPELL_TEST_UNSET_KEY` is not set";
    assert!(ended.stderr.contains(notice), "{ended:?}");
}
