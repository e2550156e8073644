//! Runs in the journal: replayed, compared, and pruned.

use serde_json::json;

use crate::support::workspace::{Workspace, send_signal, wait_for};

const ECHO: &str = "name: echo\ninputs: { word: { type: string, default: one } }\n\
    tasks: [{ id: say, agent: odd-good, tool: echo, with: { text: \"${{ inputs.word }}\" } }]\n";

fn workspace() -> Workspace {
    let place = Workspace::new();
    place.write_agents(&["good", "silent"]);
    place
}

/// Runs the echo and returns the run ID.
fn run_echo(place: &Workspace, arguments: &[&str]) -> String {
    place.run_plan(ECHO, arguments).result()["run"].as_str().expect("an id").to_owned()
}

#[test]
fn replay_shows_the_original_output() {
    let place = workspace();
    let ran = place.run_plan(ECHO, &[]);
    let replayed = place.kapell(&["replay", "last", "--speed", "max", "--output", "json"]);
    assert_eq!((replayed.code, replayed.result(), &replayed.stderr), (Some(0), ran.result(), &ran.stderr));
    let text = place.kapell(&["replay", "last", "--speed", "1000"]);
    assert_eq!((text.stdout.as_str(), &text.stderr), ("one\n", &ran.stderr));
    let wrong = place.kapell(&["replay", "last", "--speed", "fast"]);
    assert_eq!((wrong.code, wrong.stdout.as_str()), (Some(2), ""), "{wrong:?}");
}

#[test]
fn compares_two_runs_by_task() {
    let place = workspace();
    let (first, second, third) =
        (run_echo(&place, &[]), run_echo(&place, &[]), run_echo(&place, &["--param", "word=two"]));
    let same = place.kapell(&["runs", "diff", &first, &second, "--output", "json"]);
    assert_eq!((same.code, &same.result()["same"]), (Some(0), &json!(true)), "{same:?}");
    let different = place.kapell(&["runs", "diff", &first, &third, "--output", "json"]);
    assert_eq!((different.code, &different.result()["same"]), (Some(1), &json!(false)), "{different:?}");
    let unknown = place.kapell(&["runs", "diff", &first, "zzz"]);
    assert_eq!((unknown.code, unknown.error_code()), (Some(2), "journal::unknown_run"));
}

#[test]
fn prune_removes_old_runs_and_keeps_resumable_ones() {
    let place = workspace();
    let ended: Vec<String> = (0..3).map(|_| run_echo(&place, &[])).collect();
    place.write("silent.yaml", "name: x\ntasks: [{ id: a, agent: odd-silent, tool: work }]\n");
    let started = |count: usize| {
        let child = place.start(&["run", "silent.yaml", "--no-input"]);
        wait_for("the run to be in the journal", || {
            let listed = place.kapell(&["runs", "list", "--output", "json"]).result();
            (listed.as_array().map(Vec::len) == Some(count)).then_some(())
        });
        child
    };
    let mut killed = started(4);
    send_signal(&killed, "KILL");
    killed.wait().expect("ends");
    let mut driven = started(5);
    let ids = |arguments: &[&str]| {
        let pruned = place.kapell(&[&["runs", "prune", "--output", "json"], arguments].concat());
        assert_eq!(pruned.code, Some(0), "{pruned:?}");
        let list = pruned.result();
        let id = |run: &serde_json::Value| run["run"].as_str().expect("an id").to_owned();
        list.as_array().expect("a list").iter().map(id).collect::<Vec<_>>()
    };

    std::fs::create_dir_all(place.path("state/kapell/journal.logs")).expect("made");
    let log = place.path(&format!("state/kapell/journal.logs/{}.log", ended[0]));
    std::fs::write(&log, "the output of a detached run").expect("written");
    assert_eq!(ids(&["--older-than", "1h"]), [""; 0]);
    assert_eq!(ids(&["--keep", "4", "--dry-run"]), [ended[0].as_str()]);
    assert_eq!(ids(&["--keep", "4"]), [ended[0].as_str()]);
    assert!(!log.exists());
    assert_eq!(ids(&["--older-than", "0s"]), [ended[2].as_str(), &ended[1]]);
    assert_eq!(ids(&["--older-than", "0s", "--force"]).len(), 1, "the one that was killed");
    let rest = place.kapell(&["runs", "list", "--output", "json"]).result();
    assert_eq!((rest.as_array().map(Vec::len), &rest[0]["process"]), (Some(1), &json!(driven.id())));
    send_signal(&driven, "KILL");
    driven.wait().expect("ends");

    let nothing = place.kapell(&["runs", "prune"]);
    assert!(nothing.code == Some(2) && nothing.stderr.contains("--older-than"), "{nothing:?}");
    let wrong = place.kapell(&["runs", "prune", "--older-than", "soon"]);
    assert!(wrong.code == Some(2) && wrong.stderr.contains("--older-than"), "{wrong:?}");
}
