//! A journal that is full or locked by another process in the middle of a run.

use std::process::{Command, Stdio};
use std::time::Duration;

use rusqlite::Connection;

use crate::case::{CrashCase, EXPECTED};
use crate::support::workspace::{CommandOutput, wait_for};

/// The reaction of the system to a process whose file grows beyond the limit.
#[derive(Clone, Copy)]
enum OnSizeLimit {
    /// The write fails.
    FailWrite,
    /// The process is killed.
    KillProcess,
}

/// Runs the next process of a case with a limit of `kibibytes` on the size of each file.
fn run_with_size_limit(case: &CrashCase, kibibytes: u64, on_limit: OnSizeLimit) -> CommandOutput {
    let trap = match on_limit {
        OnSizeLimit::FailWrite => "trap '' XFSZ;",
        OnSizeLimit::KillProcess => "",
    };
    let host = case.place().command(case.next_command());
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &format!("{trap} ulimit -c 0; ulimit -f {kibibytes}; exec \"$0\" \"$@\"")])
        .arg(host.get_program())
        .args(host.get_args())
        .envs(host.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(case.place().path(""))
        .stdin(Stdio::null());
    CommandOutput::from_output(shell.output().expect("bash starts"))
}

#[test]
fn full_disk_stops_the_run_without_loss() {
    let mut case = CrashCase::new("without room");
    let nothing_fits = run_with_size_limit(&case, 8, OnSizeLimit::FailWrite);
    assert!(nothing_fits.code == Some(1) && nothing_fits.stderr.contains("journal.db"), "{nothing_fits:?}");
    assert!(case.effects().is_empty());
    for kibibytes in [100, 180, 260] {
        let ended = run_with_size_limit(&case, kibibytes, OnSizeLimit::FailWrite);
        assert!(ended.code == Some(1) && ended.stderr.contains("its journal cannot"), "{ended:?}");
    }
    assert!(!case.effects().is_empty(), "some of it had room");
    case.finish();
    case.audit(&EXPECTED);
}

#[test]
fn host_killed_by_size_limit_loses_nothing() {
    let mut case = CrashCase::new("ended for its size");
    for kibibytes in [100, 250, 400] {
        let ended = run_with_size_limit(&case, kibibytes, OnSizeLimit::KillProcess);
        assert_eq!(ended.code, None, "{ended:?}");
    }
    case.finish();
    case.audit(&EXPECTED);
}

#[test]
fn locked_journal_stops_the_run_without_loss() {
    let mut case = CrashCase::new("held");
    let mut command = case.place().command(case.next_command());
    let host = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kapell starts");
    wait_for("the first effects", || (!case.effects().is_empty()).then_some(()));
    let holder = Connection::open(case.place().path("journal.db")).expect("a database");
    holder.busy_timeout(Duration::from_secs(60)).expect("set");
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let ended = CommandOutput::from_output(host.wait_with_output().expect("ended"));
    assert!(ended.code == Some(1) && ended.stderr.contains("journal::busy"), "{ended:?}");
    let refused = case.place().kapell(&case.next_command());
    assert!(refused.code == Some(1) && refused.stderr.contains("journal::busy"), "{refused:?}");
    drop(holder);
    case.finish();
    case.audit(&EXPECTED);
}
