//! Detached runs, and commands that act on them from other processes.

use serde_json::{Value, json};

use crate::support::workspace::{CommandOutput, Workspace, wait_for};

const BOOK: &str = "name: trip\ntasks:\n\
    \x20 - { id: book, agent: travel, tool: book_trip, with: { city: Lisbon, delay_ms: 1 } }\n\
    \x20 - { id: keep, approve: Keep it?, needs: [book], agent: archive, tool: store_document, with: { title: t, text: x } }\n";

/// A detached run.
struct DetachedRun<'p> {
    workspace: &'p Workspace,
    run: String,
}

impl<'p> DetachedRun<'p> {
    fn start(place: &'p Workspace, arguments: &[&str]) -> Self {
        let mut all = vec!["run", "--detach", "--journal", "journal.db"];
        all.extend(arguments);
        let started = place.kapell(&all);
        assert_eq!(started.code, Some(0), "{started:?}");
        let run = started.stdout.trim_end().to_owned();
        assert!(started.stderr.contains(&format!("kapell logs -f {}", &run[run.len() - 8..])), "{started:?}");
        Self { workspace: place, run }
    }

    /// Returns the ID as messages show it.
    fn short(&self) -> &str {
        &self.run[self.run.len() - 8..]
    }

    /// Runs a command about this run.
    fn kapell(&self, command: &[&str], arguments: &[&str]) -> CommandOutput {
        self.workspace.kapell(&[command, &[&self.run], arguments, &["--journal", "journal.db"]].concat())
    }

    fn show(&self) -> Value {
        self.kapell(&["runs", "show"], &["--output", "json"]).result()
    }

    /// Waits for `count` open questions, and returns them.
    fn wait_for_questions(&self, count: usize) -> Vec<Value> {
        wait_for("the questions", || {
            let listed = self.kapell(&["questions"], &["--output", "json"]).result();
            let questions = listed.as_array().expect("a list").clone();
            (questions.len() == count).then_some(questions)
        })
    }

    fn kill(&self) {
        if let Some(process) = self.show()["process"].as_u64() {
            let killed = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status();
            assert!(killed.expect("kill").success());
        }
    }
}

impl Drop for DetachedRun<'_> {
    fn drop(&mut self) {
        // A failed test leaves no process behind.
        if std::thread::panicking() {
            self.kill();
        }
    }
}

#[test]
fn another_process_answers_questions_of_a_detached_run() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", BOOK);
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    let questions = run.wait_for_questions(1);
    assert_eq!(
        (&questions[0]["run"], &questions[0]["question"], &questions[0]["asker"]["agent"]["agent"]),
        (&json!(run.run), &json!("q1"), &json!("travel"))
    );
    assert_eq!(questions[0]["fields"][0]["name"], "confirm");
    let shown = place.kapell(&["questions", "--journal", "journal.db"]);
    assert!(shown.stdout.contains(&format!("kapell answer {} q1 --field confirm=…", run.short())), "{shown:?}");

    for (arguments, codes) in [
        (&["q1", "--field", "confirm=perhaps"][..], &["cli::invalid_answer"][..]),
        (&["q1", "--accept"], &["cli::invalid_answer"]),
        (&["q1", "--field", "row=3"], &["cli::invalid_answer"]),
        (&["q9", "--accept"], &["cli::unknown_question"]),
        // Errors of the argument parser have no code.
        (&["q1"], &[]),
        (&["q1", "--accept", "--decline"], &[]),
    ] {
        let refused = run.kapell(&["answer"], arguments);
        assert_eq!((refused.code, refused.error_codes()), (Some(2), codes.to_vec()), "{arguments:?}: {refused:?}");
    }
    assert_eq!(run.wait_for_questions(1).len(), 1);

    let answered = run.kapell(&["answer"], &["q1", "--field", "confirm=yes", "--field", "notes=quiet"]);
    assert_eq!((answered.code, answered.stderr), (Some(0), format!("q1 of run {}: accepted\n", run.short())));
    let again = run.kapell(&["answer"], &["q1", "--decline"]);
    assert_eq!((again.code, again.error_code()), (Some(2), "cli::already_answered"));

    assert_eq!(run.wait_for_questions(1)[0]["question"], "q2");
    assert_eq!(run.kapell(&["answer"], &["q2", "--accept"]).code, Some(0));
    assert_eq!(run.kapell(&["logs", "-f"], &[]).code, Some(0));
    let shown = run.show();
    assert_eq!((&shown["status"], &shown["tasks"]["book"]["output"]["notes"]), (&json!("succeeded"), &json!("quiet")));
    let late = run.kapell(&["answer"], &["q2", "--accept"]);
    assert_eq!((late.code, late.error_code()), (Some(2), "journal::ended"));
    let log = std::fs::read_to_string(place.path(&format!("journal.logs/{}.log", run.run))).expect("a log");
    assert!(log.contains("\"uri\": \"archive:///"), "the answer is in {log}");
}

#[test]
fn another_process_cancels_a_detached_run() {
    let place = Workspace::new();
    place.write_agents(&["silent"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, agent: odd-silent, tool: work }, { id: b, approve: Now?, agent: odd-silent, tool: work }]\n");
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    run.wait_for_questions(1);
    let cancelled = run.kapell(&["cancel"], &[]);
    assert_eq!((cancelled.code, cancelled.stderr), (Some(0), format!("run {} is cancelled\n", run.short())));
    assert_eq!(run.show()["status"], "cancelled");
    let again = run.kapell(&["cancel"], &[]);
    assert_eq!((again.code, again.error_code()), (Some(2), "journal::ended"));
}

#[test]
fn requests_to_a_stopped_run_wait_for_the_next_process() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    run.wait_for_questions(1);
    run.kill();
    wait_for("the process to be gone", || (run.show()["status"] == "interrupted").then_some(()));
    let answered = run.kapell(&["answer"], &["q1", "--accept"]);
    assert_eq!(answered.code, Some(0), "{answered:?}");
    assert_eq!(run.wait_for_questions(1)[0]["answer_waits"], true);
    let again = run.kapell(&["answer"], &["q1", "--decline"]);
    assert_eq!((again.code, again.error_code()), (Some(2), "journal::answer_waits"));
    let resumed = run.kapell(&["resume"], &["--no-input", "--output", "json"]);
    assert_eq!((resumed.code, resumed.task("a").0.as_str()), (Some(0), "succeeded"), "{resumed:?}");
    let events = run.kapell(&["logs"], &["--output", "json"]).stdout;
    assert!(!events.contains("question_deferred"), "the answer was used at once: {events}");
}

#[test]
fn stopped_run_is_canceled_immediately() {
    let place = Workspace::new();
    place.write_agents(&["silent"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-silent, tool: work }, { id: b, agent: odd-silent, tool: work }]\n");
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    place.wait_for_attempt("b", &["--journal", "journal.db"]);
    run.wait_for_questions(1);
    run.kill();
    wait_for("the process to be gone", || (run.show()["status"] == "interrupted").then_some(()));
    let cancelled = run.kapell(&["cancel"], &[]);
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    assert_eq!(run.show()["status"], "cancelled");
    let resumed = run.kapell(&["resume"], &["--no-input"]);
    assert_eq!((resumed.code, resumed.error_code()), (Some(2), "cli::nothing_to_resume"));
    assert_eq!(run.kapell(&["logs"], &[]).stdout.matches(": started on ").count(), 1, "nothing is called again");
}

#[test]
fn only_one_process_drives_a_run() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    let process = run.show()["process"].to_string();
    let refused = run.kapell(&["resume"], &[]);
    assert_eq!((refused.code, refused.error_code()), (Some(1), "journal::driven"));
    assert!(refused.stderr.contains(&format!("process {process}")), "{refused:?}");
    assert_eq!(run.kapell(&["cancel"], &[]).code, Some(0));
}

#[test]
fn startup_failure_is_reported_before_detaching() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: x\ntasks: [{ id: a, agent: unknown, tool: work }]\n");
    for (plan, code) in [
        ("plan.yaml", "plan::unknown_agent"),
        ("missing.yaml", "cli::unknown_plan"),
        ("-", "cli::detached_stdin"),
        ("plan a trip", "cli::detached_goal"),
    ] {
        let ended = place.kapell(&["run", "--detach", plan]);
        assert_eq!((ended.code, ended.error_code(), ended.stdout.as_str()), (Some(2), code, ""), "{plan}");
    }
    place.write("taken", "").write("plan.yaml", BOOK);
    let ended = place.kapell(&["run", "--detach", "plan.yaml", "--journal", "taken/journal.db"]);
    assert_eq!((ended.code, ended.error_code()), (Some(1), "cli::detach"));
    let logs = std::fs::read_dir(place.path("state/kapell/journal.logs")).expect("a folder").count();
    assert_eq!(logs, 0, "a run that never began keeps no log");
}

#[test]
fn detached_run_outlives_its_session() {
    let place = Workspace::new();
    place.write_agents(&["good"]);
    place.write("plan.yaml", "name: x\ntasks: [{ id: a, approve: Now?, agent: odd-good, tool: work }]\n");
    let run = DetachedRun::start(&place, &["plan.yaml"]);
    let process = run.show()["process"].as_u64().expect("driven").to_string();
    let listed = std::process::Command::new("ps").args(["-o", "sid=,tty=", "-p", &process]).output().expect("ps");
    let listed = String::from_utf8_lossy(&listed.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(listed, [process.as_str(), "?"], "a session of its own, and no terminal");
    assert_eq!(run.kapell(&["cancel"], &[]).code, Some(0));
}
