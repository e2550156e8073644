//! Journals that are damaged, locked or in the wrong place: a clear error before any effect.

use crate::support::{Ended, Place};

const WORK: &str = "name: x\ntasks: [{ id: a, agent: odd-good, tool: work }]\n";

fn place() -> Place {
    let place = Place::new();
    place.agents(&["good", "stubborn"]);
    place
}

/// Runs a plan whose agent writes down that it was started.
fn started_nothing(place: &Place, journal: &str) -> Ended {
    let ended = place.run("name: x\ntasks: [{ id: a, agent: odd-stubborn, tool: work }]\n", &["--journal", journal]);
    assert!(!place.path("pids").exists(), "an agent was started: {ended:?}");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{ended:?}");
    ended
}

#[test]
fn a_place_that_takes_no_journal_is_named_before_any_effect() {
    let place = place();
    place.write("file", "");
    std::fs::create_dir(place.path("folder")).expect("made");
    for (journal, says) in [
        ("file/journal.db", "the journal `file/journal.db` cannot be created"),
        // Nobody may write there, whoever it is.
        ("/proc/kapell/journal.db", "the journal `/proc/kapell/journal.db` cannot be created"),
        ("folder", "`folder` is a directory, not a regular file"),
    ] {
        let ended = started_nothing(&place, journal);
        assert!(ended.err.contains(says), "{ended:?}");
    }
    // The leases have their place beside the journal.
    place.run(WORK, &["--journal", "journal.db"]);
    std::fs::remove_dir(place.path("journal.db.leases")).expect("removed");
    place.write("journal.db.leases", "");
    let ended = started_nothing(&place, "journal.db");
    assert!(ended.err.contains("the lease `") && ended.err.contains("cannot be taken"), "{ended:?}");
}

#[test]
fn a_journal_that_another_process_holds_is_named_before_any_effect() {
    let place = place();
    place.run(WORK, &["--journal", "journal.db"]);
    let other = rusqlite::Connection::open(place.path("journal.db")).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let ended = started_nothing(&place, "journal.db");
    assert!(ended.err.contains("the journal `journal.db` is held by another process"), "{ended:?}");
    other.execute_batch("ROLLBACK").expect("unlocks");
    let listed = place.kapell(&["runs", "list", "--journal", "journal.db", "--output", "json"]);
    assert_eq!(listed.result().as_array().map(Vec::len), Some(1), "the run that could not begin is not there");
}

#[test]
fn a_damaged_run_is_named_with_those_that_can_be_read_and_new_ones_go_on() {
    let place = place();
    let run = |word: &str| {
        let plan = format!("name: x\ntasks: [{{ id: a, agent: odd-good, tool: echo, with: {{ text: {word} }} }}]\n");
        place.run(&plan, &["--journal", "journal.db"]).result()["run"].as_str().expect("an id").to_owned()
    };
    let (whole, broken) = (run("first"), run("second"));
    let path = place.path("journal.db");
    let mut bytes = std::fs::read(&path).expect("reads");
    let at = bytes.windows(6).rposition(|text| text == b"second").expect("is there");
    bytes[at] = b'S';
    std::fs::write(&path, bytes).expect("writes");

    for command in [&["runs", "show"][..], &["logs"], &["replay"], &["questions"]] {
        let ended = place.kapell(&[command, &[&broken, "--journal", "journal.db"]].concat());
        if command == ["questions"] {
            // It has ended, so it is not looked at.
            assert_eq!(ended.code, Some(0), "{ended:?}");
            continue;
        }
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains(&format!("of run `{broken}` is gone or not what was written")), "{ended:?}");
        assert!(ended.err.contains(&format!("\n  {whole}\n  {broken}: ")), "{ended:?}");
    }
    let saved = place.kapell(&["logs", &whole, "--output", "json", "--journal", "journal.db"]);
    assert!(saved.code == Some(0) && saved.out.lines().count() > 3, "{saved:?}");
    run("third");
    assert_eq!(place.kapell(&["runs", "show", "last", "--journal", "journal.db"]).code, Some(0));
}
