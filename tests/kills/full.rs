//! The journal finds no more room in the middle of a run.

use std::process::{Command, Stdio};

use crate::{
    audit::Outputs,
    case::Case,
    support::{Ended, Place},
};

/// The same command, whose files may not grow beyond `kibibytes`. Writing further fails if `trap` says so; otherwise the
/// system ends the process.
fn limited(command: &Command, kibibytes: u64, trap: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("{trap} ulimit -c 0; ulimit -f {kibibytes}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell.stdin(Stdio::null());
    shell
}

fn run(place: &Place, arguments: &[&str], kibibytes: u64, trap: &str) -> Ended {
    Ended::of(limited(&place.command(arguments), kibibytes, trap).output().expect("bash starts"))
}

/// Makes room little by little, as a person does who does not look closely.
fn grow(case: &mut Case, trap: &str, code: Option<i32>) -> usize {
    let mut failures = 0;
    for kibibytes in (40..).step_by(60) {
        let ended = run(case.place(), &case.next_command(), kibibytes, trap);
        match ended.code {
            Some(0) => return failures,
            Some(4) => case.settle(),
            found => {
                assert_eq!(found, code, "{kibibytes} KiB: {ended:?}");
                failures += 1;
            }
        }
        case.write_answers();
    }
    unreachable!("it ends when there is room")
}

fn expected() -> Outputs {
    Case::new(0).uninterrupted()
}

#[test]
fn a_journal_without_room_stops_the_run_and_nothing_is_lost() {
    let mut case = Case::new(0);
    case.write_answers();
    let failures = grow(&mut case, "trap '' XFSZ;", Some(1));
    assert!(failures > 2, "{failures}");
    case.audit(&expected());
}
