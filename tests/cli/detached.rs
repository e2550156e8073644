//! Runs in processes of their own, and people who deal with them from elsewhere.

use serde_json::{Value, json};

use crate::support::{Ended, Place, wait_for};

const BOOK: &str = "name: trip\ntasks:\n\
    \x20 - { id: book, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }\n\
    \x20 - { id: keep, approve: Keep it?, needs: [book], agent: archive, tool: store_document, with: { title: t, text: x } }\n";

/// A run in a process of its own.
struct Detached<'p> {
    place: &'p Place,
    run: String,
}

impl<'p> Detached<'p> {
    fn start(place: &'p Place, arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--detach", "--journal", "journal.db"];
        all.extend(arguments);
        let started = place.kapell(&all);
        assert_eq!(started.code, Some(0), "{started:?}");
        let run = started.out.trim_end().to_owned();
        assert!(started.err.contains(&format!("kapell logs -f {run}")), "{started:?}");
        Self { place, run }
    }

    /// Runs a command about it.
    fn kapell(&self, command: &[&str], arguments: &[&str]) -> Ended {
        self.place.kapell(&[command, &[&self.run], arguments, &["--journal", "journal.db"]].concat())
    }

    fn shown(&self) -> Value {
        self.kapell(&["runs", "show"], &["--output", "json"]).result()
    }

    /// The open questions, once `count` are.
    fn questions(&self, count: usize) -> Vec<Value> {
        wait_for("the questions", || {
            let listed = self.kapell(&["questions"], &["--output", "json"]).result();
            let questions = listed.as_array().expect("a list").clone();
            (questions.len() == count).then_some(questions)
        })
    }

    fn kill(&self) {
        if let Some(process) = self.shown()["process"].as_u64() {
            let killed = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status();
            assert!(killed.expect("kill").success());
        }
    }
}

impl Drop for Detached<'_> {
    fn drop(&mut self) {
        // A test that fails leaves no process behind.
        if std::thread::panicking() {
            self.kill();
        }
    }
}

#[test]
fn questions_of_a_detached_run_are_answered_from_elsewhere() {
    let place = Place::new();
    place.agents(&[]).write("plan.yaml", BOOK);
    let run = Detached::start(&place, &["plan.yaml"]);
    let asked = run.questions(1);
    assert_eq!(
        (&asked[0]["run"], &asked[0]["question"], &asked[0]["asker"]["agent"]["agent"]),
        (&json!(run.run), &json!("q1"), &json!("travel"))
    );
    assert_eq!(asked[0]["fields"][0]["name"], "confirm");
    let shown = place.kapell(&["questions", "--journal", "journal.db"]);
    assert!(shown.out.contains(&format!("kapell answer {} q1 --field confirm=…", run.run)), "{shown:?}");

    for (arguments, says) in [
        (&["q1", "--field", "confirm=perhaps"][..], "`confirm`: `perhaps` does not fit: expected yes or no"),
        (&["q1", "--accept"], "`confirm` is required"),
        (&["q1", "--field", "row=3"], "`row` is no field of the form; it has `confirm`, `notes`"),
        (&["q9", "--accept"], "the run has no question `q9`"),
        (&["q1"], "required arguments"),
        (&["q1", "--accept", "--decline"], "cannot be used with"),
    ] {
        let refused = run.kapell(&["answer"], arguments);
        assert!(refused.code == Some(2) && refused.err.contains(says), "{arguments:?}: {refused:?}");
    }
    assert_eq!(run.questions(1).len(), 1);

    let answered = run.kapell(&["answer"], &["q1", "--field", "confirm=yes", "--field", "notes=quiet"]);
    assert_eq!((answered.code, answered.err), (Some(0), format!("q1 of run {}: accepted\n", run.run)));
    let again = run.kapell(&["answer"], &["q1", "--decline"]);
    assert!(again.code == Some(2) && again.err.contains("accepted by command (process "), "{again:?}");

    assert_eq!(run.questions(1)[0]["question"], "q2");
    assert_eq!(run.kapell(&["answer"], &["q2", "--accept"]).code, Some(0));
    assert_eq!(run.kapell(&["logs", "-f"], &[]).code, Some(0));
    let shown = run.shown();
    assert_eq!((&shown["status"], &shown["tasks"]["book"]["output"]["notes"]), (&json!("succeeded"), &json!("quiet")));
    let late = run.kapell(&["answer"], &["q2", "--accept"]);
    assert!(late.code == Some(2) && late.err.contains("has ended: succeeded"), "{late:?}");
    let said = std::fs::read_to_string(place.path(&format!("journal.logs/{}.log", run.run))).expect("a log");
    assert!(said.contains("(by command (process ") && said.contains("\"status\": \"booked\""), "{said}");
}

#[test]
fn a_detached_run_is_cancelled_from_elsewhere() {
    let place = Place::new();
    place.agents(&["silent"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: odd-silent, tool: work }, { id: b, approve: Now?, agent: odd-silent, tool: work }]\n");
    let run = Detached::start(&place, &["plan.yaml"]);
    run.questions(1);
    let cancelled = run.kapell(&["cancel"], &[]);
    assert_eq!((cancelled.code, cancelled.err), (Some(0), format!("run {} is cancelled\n", run.run)));
    assert_eq!(run.shown()["status"], "cancelled");
    let again = run.kapell(&["cancel"], &[]);
    assert!(again.code == Some(2) && again.err.contains("has ended: cancelled"), "{again:?}");
}

#[test]
fn what_is_sent_to_a_run_that_nobody_drives_waits_for_the_next_process() {
    let place = Place::new();
    place.agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = Detached::start(&place, &["plan.yaml"]);
    run.questions(1);
    run.kill();
    wait_for("the process to be gone", || (run.shown()["status"] == "interrupted").then_some(()));
    let answered = run.kapell(&["answer"], &["q1", "--accept"]);
    assert!(answered.code == Some(0) && answered.err.contains("kapell resume"), "{answered:?}");
    assert_eq!(run.questions(1)[0]["answer_waits"], true);
    let again = run.kapell(&["answer"], &["q1", "--decline"]);
    assert!(again.code == Some(2) && again.err.contains("has an answer that waits"), "{again:?}");
    let resumed = run.kapell(&["resume"], &["--no-input", "--output", "json"]);
    assert_eq!((resumed.code, resumed.task("a").0.as_str()), (Some(0), "succeeded"), "{resumed:?}");
    assert!(!resumed.err.contains("left open"), "{resumed:?}");
}

#[test]
fn a_run_that_no_process_drives_is_cancelled_at_once() {
    let place = Place::new();
    place.agents(&["silent"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-silent, tool: work }, { id: b, agent: odd-silent, tool: work }]\n");
    let run = Detached::start(&place, &["plan.yaml"]);
    wait_for("the call", || run.kapell(&["logs"], &[]).out.contains("b#1: calls").then_some(()));
    run.questions(1);
    run.kill();
    wait_for("the process to be gone", || (run.shown()["status"] == "interrupted").then_some(()));
    let cancelled = run.kapell(&["cancel"], &[]);
    assert!(cancelled.code == Some(0) && cancelled.err.ends_with("is cancelled\n"), "{cancelled:?}");
    assert_eq!(run.shown()["status"], "cancelled");
    let resumed = run.kapell(&["resume"], &["--no-input"]);
    assert!(resumed.code == Some(2) && resumed.err.contains("has ended (cancelled)"), "{resumed:?}");
    assert_eq!(run.kapell(&["logs"], &[]).out.matches(": calls ").count(), 1, "nothing is called again");
}

#[test]
fn two_processes_never_drive_one_run() {
    let place = Place::new();
    place.agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = Detached::start(&place, &["plan.yaml"]);
    let process = run.shown()["process"].to_string();
    let refused = run.kapell(&["resume"], &[]);
    let says = format!("is being driven by process {process}");
    assert!(refused.code == Some(1) && refused.err.contains(&says), "{refused:?}");
    assert_eq!(run.kapell(&["cancel"], &[]).code, Some(0));
}

#[test]
fn a_run_that_cannot_begin_says_so_before_anything_is_left_to_itself() {
    let place = Place::new();
    place.agents(&[]).write("plan.yaml", "name: x\ntasks: [{ id: a, agent: nobody, tool: work }]\n");
    for (plan, code, says) in [
        ("plan.yaml", 2, "nobody"),
        ("missing.yaml", 2, "missing.yaml"),
        ("-", 2, "a plan from standard input cannot be detached"),
        ("plan a trip", 2, "needs a language model"),
    ] {
        let ended = place.kapell(&["run", "--detach", plan]);
        assert!(ended.code == Some(code) && ended.err.contains(says) && ended.out.is_empty(), "{plan}: {ended:?}");
    }
    place.write("taken", "").write("plan.yaml", BOOK);
    let ended = place.kapell(&["run", "--detach", "plan.yaml", "--journal", "taken/journal.db"]);
    assert!(ended.code == Some(1) && ended.err.contains("could not be started"), "{ended:?}");
    let left = std::fs::read_dir(place.path("state/kapell/journal.logs")).expect("a folder").count();
    assert_eq!(left, 0, "a run that never began keeps no log");
}

#[test]
fn a_detached_run_outlives_the_session_of_who_started_it() {
    let place = Place::new();
    place.agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = Detached::start(&place, &["plan.yaml"]);
    let process = run.shown()["process"].as_u64().expect("driven").to_string();
    let listed = std::process::Command::new("ps").args(["-o", "sid=,tty=", "-p", &process]).output().expect("ps");
    let listed = String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(listed, [process.as_str(), "?"], "a session of its own, and no terminal");
    assert_eq!(run.kapell(&["cancel"], &[]).code, Some(0));
}
