//! Journals that are damaged, locked or at an invalid path: a clear error before any effect.

use crate::support::workspace::{CommandOutput, Workspace};

const WORK: &str = "name: x\ntasks: [{ id: a, agent: odd-good, tool: work }]\n";

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.write_agents(&["good", "stubborn"]);
    place
}

/// Runs a plan whose agent would record its start, and asserts that it was not started.
fn assert_nothing_started(place: &Workspace, journal: &str) -> CommandOutput {
    let ended =
        place.run_plan("name: x\ntasks: [{ id: a, agent: odd-stubborn, tool: work }]\n", &["--journal", journal]);
    assert!(!place.path("pids").exists(), "an agent was started: {ended:?}");
    assert_eq!((ended.code, &ended.result()["error"]["exit_code"]), (Some(1), &1.into()), "{ended:?}");
    ended
}

#[test]
fn unwritable_journal_is_reported_before_any_effect() {
    let place = workspace();
    place.write("file", "");
    std::fs::create_dir(place.path("folder")).expect("made");
    // No user can create files below /proc, not even root.
    for journal in ["file/journal.db", "/proc/kapell/journal.db", "folder"] {
        let ended = assert_nothing_started(&place, journal);
        assert_eq!(ended.error_code(), "journal::create", "{journal}");
    }
    // The leases are beside the journal.
    place.run_plan(WORK, &["--journal", "journal.db"]);
    std::fs::remove_dir(place.path("journal.db.leases")).expect("removed");
    place.write("journal.db.leases", "");
    let ended = assert_nothing_started(&place, "journal.db");
    assert_eq!(ended.error_code(), "journal::lease");
}

#[test]
fn locked_journal_is_reported_before_any_effect() {
    let place = workspace();
    place.run_plan(WORK, &["--journal", "journal.db"]);
    let other = rusqlite::Connection::open(place.path("journal.db")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let ended = assert_nothing_started(&place, "journal.db");
    assert_eq!(ended.error_code(), "journal::busy");
    other.execute_batch("ROLLBACK").expect("unlocks");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db", "--output", "json"]);
    assert_eq!(listed.result().as_array().map(Vec::len), Some(1), "the run that could not begin is not there");
}

#[test]
fn damaged_run_is_reported_and_other_runs_stay_usable() {
    let place = workspace();
    let run = |word: &str| {
        let plan = format!("name: x\ntasks: [{{ id: a, agent: odd-good, tool: echo, with: {{ text: {word} }} }}]\n");
        place.run_plan(&plan, &["--journal", "journal.db"]).result()["run"].as_str().expect("an id").to_owned()
    };
    let (whole, broken) = (run("first"), run("second"));
    let path = place.path("journal.db");
    let mut bytes = std::fs::read(&path).expect("reads");
    let at = bytes.windows(6).rposition(|text| text == b"second").expect("is there");
    bytes[at] = b'S';
    std::fs::write(&path, bytes).expect("writes");

    let short = |run: &str| run[run.len() - 8..].to_owned();
    for command in [&["runs", "show"][..], &["logs"], &["replay"], &["questions"]] {
        let ended = place.kapell(&[command, &[&broken, "--journal", "journal.db"]].concat());
        if command == ["questions"] {
            // This command does not read runs that have ended.
            assert_eq!(ended.code, Some(0), "{ended:?}");
            continue;
        }
        assert_eq!((ended.code, ended.error_code()), (Some(1), "journal::altered"));
        assert!(ended.stderr.contains(&format!("\n  {}\n  {}: ", short(&whole), short(&broken))), "{ended:?}");
    }
    let saved = place.kapell(&["logs", &whole, "--output", "json", "--journal", "journal.db"]);
    assert!(saved.code == Some(0) && saved.stdout.lines().count() > 3, "{saved:?}");
    run("third");
    assert_eq!(place.kapell(&["runs", "show", "last", "--journal", "journal.db"]).code, Some(0));
}
