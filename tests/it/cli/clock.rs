//! Clocks that are set back between two processes. They neither delay nor reorder anything.

use kapell::journal::{self, Durability, JournalLocation, JournalReader};
use kapell::model::{Record, RunId};
use serde_json::Value;

use crate::cli::interruption::{recorded_calls, wait_for_call, workspace};
use crate::support::workspace::{Workspace, send_signal, wait_for};

/// A plan in which the first attempt at `b` fails, and the second is held.
const PLAN: &str = "
name: steps
defaults: { effect: idempotent, retry: { max_attempts: 3, backoff: { initial: 10ms, jitter: 0 } } }
tasks:
  - { id: a, agent: steps, tool: step, with: { label: a } }
  - { id: b, needs: [a], agent: steps, tool: step, with: { label: b } }
";

fn location(place: &Workspace, file: &str) -> JournalLocation {
    place.path(file).into()
}

fn open_journal(place: &Workspace, file: &str) -> Box<dyn JournalReader> {
    journal::store(&location(place, file)).open_reader().expect("a journal")
}

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// Copies the only run into a new journal, as if its process had a clock that is a day ahead.
fn a_day_ahead(place: &Workspace, until: &str) -> RunId {
    let reader = open_journal(place, "state/kapell/journal.db");
    let run = reader.find_run("last").expect("a run");
    let mut later = Vec::new();
    for record in reader.raw_records(&run, 0) {
        let mut record: Value = serde_json::from_str(&record.expect("reads").json).expect("JSON");
        for key in ["at", "ready_at"] {
            if let Some(at) = record[key].as_u64() {
                record[key] = (at + DAY).into();
            }
        }
        let is_last = record["type"] == until;
        later.push(serde_json::from_value::<Record>(record).expect("a record"));
        if is_last {
            break;
        }
    }
    let journal = journal::store(&location(place, "ahead.db")).open_writer(Durability::Full).expect("opens");
    futures::executor::block_on(journal.append(&run, later.into())).expect("appends");
    run
}

#[test]
fn clock_that_is_set_back_delays_no_retry() {
    let place = workspace();
    place.write("plan.yaml", PLAN).write("fail-b", "");
    let mut host = place.start(&["run", "plan.yaml", "--no-input"]);
    wait_for("a retry", || place.events(&[]).iter().any(|event| event["type"] == "retry_scheduled").then_some(()));
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
    std::fs::remove_file(place.path("fail-b")).expect("it failed");
    let run = a_day_ahead(&place, "retry_scheduled");

    // By the correct clock, the retry is due in a day.
    let ended = place.kapell(&["resume", "--journal", "ahead.db", "--no-input", "--output", "json"]);
    assert_eq!((ended.code, ended.task("b").0.as_str()), (Some(0), "succeeded"), "{ended:?}");
    let reader = open_journal(&place, "ahead.db");
    let moments: Vec<_> = reader.records(&run, 0).map(|record| record.expect("reads").at).collect();
    assert!(moments.is_sorted(), "{moments:?}");

    // A new run has an earlier time than the ended one, but it is the latest nevertheless.
    place.write("hold-a", "");
    let mut host = place.start(&["run", "plan.yaml", "--no-input", "--journal", "ahead.db"]);
    wait_for_call(&place, "a");
    let latest = wait_for("the run", || {
        let runs = reader.runs(9).expect("lists");
        (runs.len() == 2).then(|| runs[0].clone())
    });
    assert_ne!(latest.run, run);
    assert_eq!(reader.find_run("last").expect("a run"), latest.run);
    let listed = place.kapell(&["runs", "list", "--journal", "ahead.db", "--output", "json"]).result();
    assert_eq!(listed[0]["run"], latest.run.as_str());
    let kept = place.kapell(&["runs", "prune", "--journal", "ahead.db", "--keep", "1", "--output", "json"]).result();
    assert_eq!(kept[0]["run"], run.as_str(), "the one that began first is forgotten");
    send_signal(&host, "KILL");
    host.wait().expect("it ends");
    // It is resumed as the latest run of its plan.
    std::fs::remove_file(place.path("hold-a")).expect("it was held");
    let before = recorded_calls(&place).len();
    let ended =
        place.kapell(&["run", "plan.yaml", "--resume-last", "--no-input", "--journal", "ahead.db", "--output", "json"]);
    assert_eq!((ended.code, ended.result()["run"].as_str()), (Some(0), Some(latest.run.as_str())), "{ended:?}");
    assert_eq!(recorded_calls(&place)[before..], ["a", "b"]);
}
