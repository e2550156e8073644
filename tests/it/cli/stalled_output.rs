//! Terminals and pipes that accept nothing or are closed: the run, its limits and Ctrl-C still work.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::cli::many_calls;
use crate::support::workspace::{Workspace, send_signal, wait_for, wait_for_status};

fn workspace_with_many_calls() -> Workspace {
    many_calls::place(&["good", "silent"], 100)
}

fn start(place: &Workspace, log: Option<&str>, arguments: &[&str]) -> Child {
    let mut command = many_calls::command(place, arguments);
    if let Some(log) = log {
        command.env("KAPELL_LOG", log);
    }
    command.stderr(Stdio::piped()).spawn().expect("kapell starts")
}

#[test]
fn stalled_output_does_not_block_the_run_or_exit() {
    for (log, arguments) in
        [(None, &[][..]), (Some("trace"), &[]), (None, &["--output", "json"]), (None, &["--output", "stream-json"])]
    {
        let place = workspace_with_many_calls();
        // Neither pipe is read.
        let mut host = start(&place, log, arguments);
        wait_for_status(&place, &["succeeded"]);
        // The result exceeds the capacity of the pipe too, so the process still waits.
        assert!(host.try_wait().expect("known").is_none(), "{arguments:?}");
        // A signal before the host has seen the end of its run only requests a cancellation. The next one ends the
        // process.
        let code = wait_for("the end of the process", || {
            send_signal(&host, "INT");
            host.try_wait().expect("known")
        });
        assert_eq!(code.code(), Some(130), "{log:?} {arguments:?}");
    }
}

#[test]
fn stalled_output_does_not_block_ctrl_c() {
    let place = workspace_with_many_calls();
    let plan = std::fs::read_to_string(place.path("plan.yaml")).expect("written");
    place.write(
        "plan.yaml",
        plan.trim_end().to_owned() + "\n          - { id: wait, needs: [all], agent: odd-silent, tool: work }\n",
    );
    let mut host = start(&place, Some("trace"), &[]);
    place.wait_for_attempt("wait", &["--journal", "j.db"]);
    send_signal(&host, "INT");
    wait_for_status(&place, &["cancelled", "interrupted"]);
    send_signal(&host, "INT");
    let code = wait_for("the end of the process", || host.try_wait().expect("known")).code();
    assert_eq!(code, Some(130));
}

#[test]
fn closed_output_does_not_end_the_run() {
    for log in [None, Some("debug")] {
        let place = workspace_with_many_calls();
        let mut host = start(&place, log, &[]);
        // Closes stdout now, and stderr after six lines, as `2>&1 >/dev/null | head -6` does.
        drop(host.stdout.take());
        let stderr = BufReader::new(host.stderr.take().expect("piped"));
        assert_eq!(stderr.lines().take(6).filter_map(Result::ok).count(), 6);
        let code = wait_for("the end of the process", || host.try_wait().expect("known")).code();
        assert_eq!(code, Some(0), "{log:?}");
        wait_for_status(&place, &["succeeded"]);
    }
}
