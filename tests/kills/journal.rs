//! The journal finds no room, or is held by somebody else, in the middle of a run.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use rusqlite::Connection;

use crate::{
    case::{Case, EXPECTED},
    support::{Ended, wait_for},
};

/// What the system does with a process whose file grows beyond the limit.
#[derive(Clone, Copy)]
enum Beyond {
    /// It lets the write fail.
    Fails,
    /// It ends the process.
    Kills,
}

/// The next process of a case, none of whose files may grow beyond `kibibytes`.
fn live_within(case: &Case, kibibytes: u64, beyond: Beyond) -> Ended {
    let trap = match beyond {
        Beyond::Fails => "trap '' XFSZ;",
        Beyond::Kills => "",
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
    Ended::of(shell.output().expect("bash starts"))
}

#[test]
fn a_journal_without_room_stops_the_run_and_nothing_is_lost() {
    let mut case = Case::new("without room");
    let nothing_fits = live_within(&case, 8, Beyond::Fails);
    assert!(nothing_fits.code == Some(1) && nothing_fits.err.contains("journal.db"), "{nothing_fits:?}");
    assert!(case.effects().is_empty());
    for kibibytes in [100, 180, 260] {
        let ended = live_within(&case, kibibytes, Beyond::Fails);
        assert!(ended.code == Some(1) && ended.err.contains("its journal cannot"), "{ended:?}");
    }
    assert!(!case.effects().is_empty(), "some of it had room");
    case.finish();
    case.audit(&EXPECTED);
}

#[test]
fn a_host_that_is_ended_for_the_size_of_its_journal_has_lost_nothing() {
    let mut case = Case::new("ended for its size");
    for kibibytes in [100, 250, 400] {
        let ended = live_within(&case, kibibytes, Beyond::Kills);
        assert_eq!(ended.code, None, "{ended:?}");
    }
    case.finish();
    case.audit(&EXPECTED);
}

#[test]
fn a_journal_that_somebody_else_holds_for_too_long_stops_the_run_and_nothing_is_lost() {
    let mut case = Case::new("held");
    let mut command = case.place().command(case.next_command());
    let host = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("kapell starts");
    wait_for("the first effects", || (!case.effects().is_empty()).then_some(()));
    let holder = Connection::open(case.place().path("journal.db")).expect("a database");
    holder.busy_timeout(Duration::from_secs(60)).expect("set");
    holder.execute_batch("BEGIN IMMEDIATE").expect("held");
    let ended = Ended::of(host.wait_with_output().expect("ended"));
    assert!(ended.code == Some(1) && ended.err.contains("is held by another process"), "{ended:?}");
    let refused = case.place().kapell(&case.next_command());
    assert!(refused.code == Some(1) && refused.err.contains("is held by another process"), "{refused:?}");
    drop(holder);
    case.finish();
    case.audit(&EXPECTED);
}
