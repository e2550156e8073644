//! Files that are not journals, damaged journals, and full disks.

use super::*;

#[test]
fn foreign_file_is_rejected_unchanged() {
    let (folder, _) = folder();
    let text = folder.path().join("notes.txt");
    fs::write(&text, "shopping: bread, milk, and everything else for the whole of the week".repeat(40))
        .expect("writes");
    let database = folder.path().join("other.db");
    Connection::open(&database).expect("opens").execute_batch("CREATE TABLE t (x)").expect("creates");
    for path in [&text, &database] {
        let before = fs::read(path).expect("reads");
        let is_foreign =
            |error| matches!(error, JournalError::NotAJournal { journal } if journal == path.as_path().into());
        assert!(is_foreign(SqliteWriter::open(path, Durability::Full).expect_err("refuses")));
        assert!(is_foreign(SqliteReader::open(path).expect_err("refuses")));
        assert_eq!(&fs::read(path).expect("reads"), &before);
    }
}

#[test]
fn unusable_paths_are_reported() {
    let (folder, missing) = folder();
    assert!(
        matches!(SqliteReader::open(&missing), Err(JournalError::Missing { journal }) if journal == missing.as_path().into())
    );
    let file = folder.path().join("file");
    fs::write(&file, "").expect("writes");
    let below = file.join("journal.db");
    assert!(
        matches!(SqliteWriter::open(&below, Durability::Full), Err(JournalError::Create { journal, .. }) if journal == below.as_path().into())
    );
    let error = SqliteWriter::open(folder.path(), Durability::Full).expect_err("refuses a directory");
    let cause = match error {
        JournalError::Create { journal, source } if journal == folder.path().into() => source.to_string(),
        error => panic!("{error:?}"),
    };
    assert_eq!(cause, format!("`{}` is a directory, not a regular file", folder.path().display()));
}

#[test]
fn damaged_journal_is_reported() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = samples::sample_run_id();
    append_records(&journal, &run, samples::sample_run()).expect("appends");
    drop(journal);
    let mut bytes = fs::read(&path).expect("reads");
    // Everything after the page with the header and the schema is lost.
    bytes[4096..].fill(0xa5);
    fs::write(&path, bytes).expect("writes");

    let journal = SqliteWriter::open(&path, Durability::Normal).expect("the schema is whole");
    let error = append_records(&journal, &run, vec![record(0)]).expect_err("refuses");
    assert!(matches!(&error, JournalError::Damaged { journal, .. } if *journal == path.as_path().into()), "{error:?}");
    let error = open_reader(&path).records(&run, 0).next().expect("an error").expect_err("refuses");
    assert!(matches!(&error, JournalError::Damaged { journal, .. } if *journal == path.as_path().into()), "{error:?}");
}

#[test]
fn append_fails_on_full_disk_and_recovers() {
    let (_folder, path) = folder();
    let connection = schema::open_for_writing(&path).expect("opens");
    // SQLite's own limit returns the same error as a full disk.
    connection.pragma_update(None, "max_page_count", 40).expect("limits");
    let journal = SqliteWriter::start_writer(connection, &path, Durability::Full).expect("starts");
    let run = RunId::from("run");
    append_records(&journal, &run, vec![record(0)]).expect("appends");
    let text = "x".repeat(1 << 20);
    let large = samples::records_from_events(json!([
        {"type": "cancel_requested"},
        {"type": "agent_logged", "origin": {"agent": "research"}, "message": {"level": "info", "data": text}},
    ]));
    let error = append_records(&journal, &run, large[1..].to_vec()).expect_err("fails");
    assert!(matches!(&error, JournalError::DiskFull { journal, .. } if *journal == path.as_path().into()), "{error:?}");
    append_records(&journal, &run, vec![record(1)]).expect("appends");
    assert_eq!(read_records(&path, &run), [record(0), record(1)]);
}

#[test]
fn torn_log_loses_only_torn_records() {
    let (folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Full).expect("opens");
    let run = RunId::from("run");
    for seq in 0..20 {
        append_records(&journal, &run, vec![record(seq)]).expect("appends");
    }
    // The files after a power failure: the journal is open, and the log ends in the middle of a page.
    let log = fs::read(path.with_extension("db-wal")).expect("reads");
    for (name, log) in [("cut", log[..log.len() - 100].to_vec()), ("garbled", corrupt_log(&log))] {
        let copy = folder.path().join(format!("{name}.db"));
        fs::copy(&path, &copy).expect("copies");
        fs::write(copy.with_extension("db-wal"), log).expect("writes");
        assert_eq!(read_records(&copy, &run), (0..19).map(record).collect::<Vec<_>>(), "{name}");
        let journal = SqliteWriter::open(&copy, Durability::Full).expect("opens");
        append_records(&journal, &run, vec![record(19), record(20)]).expect("goes on");
        assert_eq!(read_records(&copy, &run), (0..21).map(record).collect::<Vec<_>>(), "{name}");
    }
}

fn corrupt_log(log: &[u8]) -> Vec<u8> {
    let mut log = log.to_vec();
    let last = log.len() - 1;
    log[last] ^= 1;
    log
}
