//! Damaged journals: reading returns either the written records or an error.

use std::fs;
use std::path::PathBuf;

use futures::executor::block_on;
use tempfile::TempDir;

use super::*;
use crate::journal::sqlite::schema;
use crate::journal::sqlite::writer::SqliteWriter;
use crate::journal::{Durability, JournalError, JournalWriter, samples};
use crate::model::{Record, RunId};

const RUNS: [&str; 3] = ["run-1", "run-2", "run-3"];

/// Returns a journal of three runs after a clean close, so that all data is in one file.
fn journal() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    for run in RUNS {
        block_on(journal.append(&run.into(), samples::sample_run().into())).expect("appends");
    }
    drop(journal);
    assert!(!schema::with_suffix(&path, "-wal").exists(), "the log was not folded in");
    (folder, path)
}

fn open_reader(path: &Path) -> Result<Box<dyn JournalReader>, JournalError> {
    Ok(Box::new(SqliteReader::open(path)?))
}

fn read_records(path: &Path, run: &str) -> Result<Vec<Record>, JournalError> {
    open_reader(path)?.records(&run.into(), 0).collect()
}

/// Returns the runs that are read completely. A run that is read differently fails the test.
fn readable_runs(path: &Path) -> Vec<&'static str> {
    let read = RUNS.into_iter().filter(|run| match read_records(path, run) {
        Ok(records) => {
            assert!(records == samples::sample_run(), "{run} was misread: {} events", records.len());
            true
        }
        Err(_) => false,
    });
    read.collect()
}

#[test]
fn flipped_bits_are_detected() {
    let (folder, path) = journal();
    let whole = fs::read(&path).expect("reads");
    let (mut harmless, mut noticed) = (0, 0);
    for (at, bit) in (0..whole.len()).step_by(61).zip((0..8).cycle()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << bit;
        let copy = folder.path().join("copy.db");
        fs::write(&copy, bytes).expect("writes");
        match readable_runs(&copy).len() {
            3 => harmless += 1,
            _ => noticed += 1,
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(schema::with_suffix(&copy, suffix));
        }
    }
    // The rest of the file is free space.
    assert!(noticed > harmless / 4, "{noticed} of {} were noticed", noticed + harmless);
}

#[test]
fn truncated_files_are_detected() {
    let (folder, path) = journal();
    let whole = fs::read(&path).expect("reads");
    // The end of the last page is free space.
    let used = whole.iter().rposition(|byte| *byte != 0).expect("there is something in it");
    for length in (0..used).step_by(509) {
        let copy = folder.path().join(format!("{length}.db"));
        fs::write(&copy, &whole[..length]).expect("writes");
        assert!(readable_runs(&copy).len() < 3, "{length} bytes of {} seem to be all", whole.len());
    }
}

#[test]
fn scan_separates_intact_from_damaged_runs() {
    let (_folder, path) = journal();
    let whole = |runs: &[&str]| runs.iter().map(|&run| RunId::from(run)).collect::<Vec<_>>();
    assert_eq!(recovery_scan(&path), RecoveryScan { intact: whole(&["run-3", "run-2", "run-1"]), damaged: Vec::new() });

    // Changes a text in SQLite's file, in the second run: its third event contains `travel 1.0`.
    let mut bytes = fs::read(&path).expect("reads");
    let found: Vec<_> = bytes.windows(10).enumerate().filter(|(_, text)| text == b"travel 1.0").collect();
    let at = found[1].0;
    bytes[at + 7] = b'2';
    fs::write(&path, bytes).expect("writes");
    let expected = RecoveryScan { intact: whole(&["run-3", "run-1"]), damaged: vec![("run-2".into(), 0)] };
    assert_eq!(recovery_scan(&path), expected);
    let error = read_records(&path, "run-2").expect_err("is noticed");
    assert!(
        matches!(&error, JournalError::RecordCorrupted { run, seq: 2, .. } if run.as_str() == "run-2"),
        "{error:?}"
    );
    assert_eq!(error.damaged_journal(), Some(&path.as_path().into()));

    fs::write(&path, "no journal at all, not any more".repeat(200)).expect("writes");
    assert_eq!(recovery_scan(&path), RecoveryScan::default());
}

#[test]
fn invalid_text_is_reported_as_damage() {
    let (_folder, path) = journal();
    let mut bytes = fs::read(&path).expect("reads");
    let at = bytes.windows(10).position(|text| text == b"travel 1.0").expect("is there");
    // No text in UTF-8 contains this byte.
    bytes[at] = 0xff;
    fs::write(&path, bytes).expect("writes");
    // The place of the runs in the file is SQLite's choice.
    let errors: Vec<_> = RUNS.into_iter().filter_map(|run| read_records(&path, run).err()).collect();
    assert!(matches!(&errors[..], [JournalError::RecordCorrupted { .. }]), "{errors:?}");
}

#[test]
fn orphaned_log_is_kept() {
    let (_folder, path) = journal();
    let journal = SqliteWriter::open(&path, Durability::Full).expect("opens");
    block_on(journal.append(&"run-4".into(), samples::sample_run().into())).expect("appends");
    let log = schema::with_suffix(&path, "-wal");
    let (events, latest) = (fs::read(&path).expect("reads"), fs::read(&log).expect("reads"));
    drop(journal);
    fs::write(&log, &latest).expect("writes");
    for gone in [true, false] {
        if gone {
            fs::remove_file(&path).expect("removes");
        } else {
            fs::write(&path, "").expect("writes");
        }
        let is_orphaned = |error: JournalError| {
            matches!(error, JournalError::OrphanedLog { journal, log: found }
                if journal == path.as_path().into() && found == log)
        };
        assert!(is_orphaned(SqliteReader::open(&path).expect_err("refuses")));
        assert!(is_orphaned(SqliteWriter::open(&path, Durability::Full).expect_err("refuses")));
    }
    assert_eq!(fs::read(&log).expect("reads"), latest);
    fs::write(&path, events).expect("writes");
    assert_eq!(read_records(&path, "run-4").expect("reads"), samples::sample_run());
}

#[test]
fn missing_log_loses_only_its_records() {
    let (folder, path) = journal();
    let journal = SqliteWriter::open(&path, Durability::Full).expect("opens");
    block_on(journal.append(&"run-4".into(), samples::sample_run().into())).expect("appends");
    let copy = folder.path().join("copy.db");
    fs::copy(&path, &copy).expect("copies");
    assert_eq!(readable_runs(&copy), RUNS);
    assert_eq!(read_records(&copy, "run-4").expect("reads"), []);
    let journal = SqliteWriter::open(&copy, Durability::Full).expect("opens");
    block_on(journal.append(&"run-4".into(), samples::sample_run().into())).expect("goes on");
    assert_eq!(read_records(&copy, "run-4").expect("reads"), samples::sample_run());
}
