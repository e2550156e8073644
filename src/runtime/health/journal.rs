//! Checks the journal: its file, its format, its runs, and the space on its disk.

use std::error::Error;

use miette::Diagnostic as _;

use crate::journal::{self, JournalDisk, JournalError, JournalLocation, RunSummary, format_version, journal_disk};
use crate::model::RunStatus;
use crate::view::text::{bytes_text, count_text};
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// Less free space than this is a warning.
const LOW_SPACE: u64 = 1024 * 1024 * 1024;
/// Less free space than this is a failure: a few runs fill it.
const NO_SPACE: u64 = 16 * 1024 * 1024;

/// Checks the journal without creating it.
pub(super) fn check_journal(location: &Result<JournalLocation, JournalError>) -> Vec<HealthCheck> {
    let location = match location {
        Ok(location) => location,
        Err(error) => return vec![failure(error)],
    };
    let mut checks = Vec::new();
    match journal_disk(location) {
        Ok(disk) => checks.extend(check_disk(location, disk)),
        Err(error) => {
            let message = format!("the directory of `{location}` cannot be inspected: {error}");
            checks.push(check("file", HealthStatus::Failed, message).with_fix(OTHER_PATH));
        }
    }
    match journal::store(location).open_reader() {
        Ok(reader) => {
            checks.push(check("format", HealthStatus::Ok, format!("version {}", format_version())));
            match reader.unfinished_runs() {
                Ok(runs) => checks.extend(check_runs(&runs)),
                Err(error) => checks.push(failure(&error)),
            }
        }
        // The first run creates it.
        Err(JournalError::Missing { .. }) => {}
        Err(error) => checks.push(failure(&error)),
    }
    checks
}

const OTHER_PATH: &str = "make its directory writable, or name another file with `--journal` or `KAPELL_JOURNAL`";

fn check(name: &str, status: HealthStatus, message: impl Into<String>) -> HealthCheck {
    HealthCheck::new(HealthSection::Journal, name, status, message)
}

/// Returns the failed check for an error of the journal, with its causes and its help.
fn failure(error: &JournalError) -> HealthCheck {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    let causes: String = causes.map(|cause| format!(": {cause}")).collect();
    let mut failed = check("file", HealthStatus::Failed, format!("{error}{causes}"));
    failed.fix = error.help().map(|help| help.to_string());
    failed
}

/// Checks the file and the space on its disk.
fn check_disk(location: &JournalLocation, disk: JournalDisk) -> [HealthCheck; 2] {
    let file = match (disk.is_writable, disk.size) {
        (true, Some(size)) => check("file", HealthStatus::Ok, format!("{location}, {}", bytes_text(size))),
        (true, None) => check("file", HealthStatus::Ok, format!("{location}, which the first run creates")),
        (false, _) => {
            check("file", HealthStatus::Failed, format!("`{location}` cannot be written")).with_fix(OTHER_PATH)
        }
    };
    let free = format!("{} free", bytes_text(disk.free));
    let fix = "free space on the disk; `kapell runs prune --older-than 30d` deletes old runs";
    let space = match disk.free {
        0..NO_SPACE => check("disk", HealthStatus::Failed, free).with_fix(fix),
        NO_SPACE..LOW_SPACE => check("disk", HealthStatus::Warning, free).with_fix(fix),
        _ => check("disk", HealthStatus::Ok, free),
    };
    [file, space]
}

/// Checks the runs that have not ended: those without a process can be resumed.
fn check_runs(runs: &[RunSummary]) -> Vec<HealthCheck> {
    let stopped: Vec<&RunSummary> = runs.iter().filter(|run| run.driver.is_none()).collect();
    let (paused, interrupted): (Vec<&RunSummary>, Vec<&RunSummary>) =
        stopped.into_iter().partition(|run| run.status == RunStatus::Paused);
    let mut checks = Vec::new();
    if let [latest, ..] = &interrupted[..] {
        let message = format!("{} can be resumed", count_text(interrupted.len(), "interrupted run"));
        let id = latest.run.short();
        let fix = format!("`kapell resume {id}` resumes the latest, and `kapell cancel {id}` gives it up");
        checks.push(check("runs", HealthStatus::Warning, message).with_fix(fix));
    }
    if let [_, ..] = &paused[..] {
        let message = format!(
            "{} for answers",
            match paused.len() {
                1 => "1 paused run waits".to_owned(),
                number => format!("{number} paused runs wait"),
            }
        );
        checks.push(check("runs", HealthStatus::Warning, message).with_fix("`kapell questions` lists them"));
    }
    if checks.is_empty() {
        let running = runs.len();
        let message = if running == 0 { "none is unfinished".to_owned() } else { format!("{running} running") };
        checks.push(check("runs", HealthStatus::Ok, message));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RunId, Timestamp};

    fn statuses(checks: &[HealthCheck]) -> Vec<(&str, HealthStatus)> {
        checks.iter().map(|check| (check.name.as_str(), check.status)).collect()
    }

    #[test]
    fn disks_are_full_or_read_only() {
        let location = JournalLocation::from(std::path::Path::new("/state/journal.db"));
        let status = |size, free, is_writable| {
            check_disk(&location, JournalDisk { size, free, is_writable }).map(|check| check.status)
        };
        assert_eq!(status(None, LOW_SPACE, true), [HealthStatus::Ok; 2]);
        assert_eq!(status(Some(1), LOW_SPACE - 1, true), [HealthStatus::Ok, HealthStatus::Warning]);
        assert_eq!(status(Some(1), NO_SPACE - 1, false), [HealthStatus::Failed; 2]);
    }

    #[test]
    fn unfinished_runs_without_a_process_are_named() {
        let run = |status| RunSummary {
            run: RunId::from("0190f0c2-0000-7000-8000-00003f2a91bc"),
            name: "trip".to_owned(),
            started: Timestamp::default(),
            ended: None,
            status,
            last_event: Timestamp::default(),
            driver: None,
        };
        assert_eq!(statuses(&check_runs(&[])), [("runs", HealthStatus::Ok)]);
        let checks = check_runs(&[run(RunStatus::Running), run(RunStatus::Paused)]);
        assert_eq!(statuses(&checks), [("runs", HealthStatus::Warning); 2]);
        assert!(checks[0].fix.as_deref().is_some_and(|fix| fix.contains("`kapell resume 3f2a91bc`")), "{checks:?}");
    }

    #[test]
    fn other_files_are_failures() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        std::fs::write(&path, "a letter").expect("written");
        let checks = check_journal(&Ok(JournalLocation::from(path)));
        assert_eq!(checks.last().map(|check| check.status), Some(HealthStatus::Failed), "{checks:?}");
        assert!(checks.iter().all(|check| check.status == HealthStatus::Ok || check.fix.is_some()), "{checks:?}");
        let nowhere = check_journal(&Err(JournalError::NoDataDirectory));
        assert_eq!(statuses(&nowhere), [("file", HealthStatus::Failed)]);
    }
}
