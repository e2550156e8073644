//! `kapell doctor`: what it reports about each part of an installation.

use std::fs;

use serde_json::Value;

use crate::support::workspace::{CommandOutput, Workspace};

/// Returns the statuses, messages, and fixes of the checks with this section and name.
fn checks(ended: &CommandOutput, section: &str, name: &str) -> Vec<(String, String, Option<String>)> {
    let report = ended.result();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let fits = |check: &&Value| check["section"] == section && check["name"] == name;
    let checks = report["checks"].as_array().expect("a list").iter().filter(fits);
    checks
        .map(|check| (text(&check["status"]), text(&check["message"]), check["fix"].as_str().map(str::to_owned)))
        .collect()
}

/// Returns the only such check, whose status is this one.
fn check(ended: &CommandOutput, section: &str, name: &str, status: &str) -> (String, String) {
    match &checks(ended, section, name)[..] {
        [(found, message, fix)] if found == status => (message.clone(), fix.clone().unwrap_or_default()),
        other => panic!("{section}, {name}: {other:?}: {ended:?}"),
    }
}

#[test]
fn doctor_works_without_any_file() {
    let place = Workspace::new();
    let ended = place.kapell(&["doctor", "--json"]);
    assert_eq!((ended.code, ended.result()["ok"].clone()), (Some(0), Value::Bool(true)), "{ended:?}");
    let (message, fix) = check(&ended, "agents_file", "project", "warning");
    assert!(message.contains("agents.toml") && fix.contains("`kapell init`"), "{message} {fix}");
    let (message, _) = check(&ended, "journal", "file", "ok");
    assert!(message.ends_with("which the first run creates"), "{message}");
    check(&ended, "terminal", "stderr", "absent");
    assert!(!place.path("state").exists(), "a check creates nothing");
}

#[test]
fn doctor_reports_working_agents_runtimes_and_runs() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    let approve = "name: x\ntasks: [{ id: a, agent: odd-good, tool: work, approve: Do it? }]\n";
    assert_eq!(place.run_plan(approve, &[]).code, Some(4));
    let ended = place.kapell(&["doctor", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for agent in ["travel", "research", "archive", "odd-good"] {
        check(&ended, "agents", agent, "ok");
    }
    let (version, _) = check(&ended, "runtimes", "python3", "ok");
    assert!(version.contains('3') && version.ends_with("used by `odd-good`"), "{version}");
    check(&ended, "models", "llm", "absent");
    check(&ended, "journal", "format", "ok");
    let (message, fix) = check(&ended, "journal", "runs", "warning");
    assert!(message.contains("waits for answers") && fix.contains("`kapell questions`"), "{message} {fix}");
    let text = place.kapell(&["doctor"]).stdout;
    assert!(text.starts_with("agents file\n  ok ") && text.contains("\njournal\n"), "{text}");
}

#[test]
fn doctor_names_the_fix_of_each_failure() {
    let place = Workspace::new();
    place.write_agents(&["exits"]);
    let agents = fs::read_to_string(place.path("agents.toml")).expect("just written");
    let broken = "[agents.files]\ncommand = \"/nowhere/npx\"\nargs = [\"-y\", \"server\"]\n\
                  [agents.wiki]\nurl = \"http://127.0.0.1:9/mcp\"\nstartup_timeout = \"1s\"\n\
                  [agents.mail]\nurl = \"http://127.0.0.1:9/mcp\"\nbearer_token_env_var = \"MAIL_TOKEN_OF_TESTS\"\n\
                  [llm]\nbase_url = \"http://127.0.0.1:9/v1\"\nmodel = \"m\"\n";
    place.write("agents.toml", agents + broken).write("journal.db", "this is a letter to my aunt, not a database");
    let ended = place.kapell(&["doctor", "--json", "--journal", "journal.db"]);
    assert_eq!((ended.code, ended.result()["ok"].clone()), (Some(1), Value::Bool(false)), "{ended:?}");
    for (section, name, expected) in [
        ("agents_file", "agents.mail", "`.env`"),
        ("agents", "odd-exits", ""),
        ("agents", "files", ""),
        ("agents", "wiki", ""),
        ("runtimes", "/nowhere/npx", "https://nodejs.org"),
        ("journal", "file", "another path"),
    ] {
        let failed = checks(&ended, section, name).into_iter().find(|(status, ..)| status == "failed");
        let (_, message, fix) = failed.unwrap_or_else(|| panic!("{section}, {name}: {ended:?}"));
        assert!(fix.as_ref().is_some_and(|fix| !fix.is_empty() && fix.contains(expected)), "{name}: {message} {fix:?}");
    }
    let (message, _) = check(&ended, "models", "llm: reply", "failed");
    assert!(message.contains("127.0.0.1:9"), "{message}");
    assert!(checks(&ended, "agents", "mail").is_empty(), "an agent without its variables is not connected");

    place.write("agents.toml", "[agents.x]\ncomand = \"y\"\n");
    let ended = place.kapell(&["doctor", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let found = checks(&ended, "agents_file", "contents");
    assert!(found.iter().any(|(status, _, fix)| status == "failed" && fix.is_some()), "{found:?}");
    let ended = place.kapell(&["doctor", "--json", "--agents", "missing.toml"]);
    assert!(ended.code == Some(1) && checks(&ended, "agents_file", "contents").len() == 1, "{ended:?}");
}

#[test]
fn doctor_reports_a_journal_that_cannot_be_written() {
    let place = Workspace::new();
    // What is below a file can be written by none, not even by root.
    place.write("file", "");
    let ended = place.kapell(&["doctor", "--json", "--journal", "file/journal.db"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let found = checks(&ended, "journal", "file");
    let (_, message, fix) = &found[0];
    assert!(message.contains("cannot be written"), "{found:?}");
    assert!(fix.as_ref().is_some_and(|fix| fix.contains("`--journal`")), "{found:?}");
}
