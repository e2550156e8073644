//! Journals of other formats: rejected or migrated.

use super::*;

#[test]
fn unsupported_formats_are_rejected_unchanged() {
    let (_folder, path) = folder();
    drop(SqliteJournal::open(&path, Durability::Normal).expect("opens"));
    for found in [1, schema::FORMAT_VERSION + 1] {
        Connection::open(&path).expect("opens").pragma_update(None, "user_version", found).expect("updates");
        let before = fs::read(&path).expect("reads");
        let message = format!(
            "the journal `{}` has format {found}, and this kapell works with format {}",
            path.display(),
            schema::FORMAT_VERSION
        );
        assert_eq!(SqliteJournal::open(&path, Durability::Full).expect_err("refuses").to_string(), message);
        assert_eq!(JournalReader::open(&path).expect_err("refuses").to_string(), message);
        assert_eq!(fs::read(&path).expect("reads"), before);
    }
}

#[test]
fn older_formats_are_migrated_on_open() {
    let body = r#"{"seq":0,"at":1000,"type":"cancel_requested"}"#;
    // The checksum that a version with format 3 wrote.
    let sum = 5_004_363_300_856_770_576_i64;
    let second = format!(
        "INSERT INTO runs VALUES ('run', 'lisbon', 5, 'running', NULL);
        INSERT INTO events VALUES ('run', 0, 1000, '{body}');"
    );
    let third = format!(
        "INSERT INTO runs VALUES ('run', 'lisbon', 5, 'running', NULL, 1);
        INSERT INTO events VALUES ('run', 0, 1000, '{body}', {sum});"
    );
    let run = RunId::from("run");
    for (format, content) in [(2, second), (3, third.clone()), (4, third)] {
        for reader_first in [true, false] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("journal.db");
            schema::tests::create_journal_of_format(&path, format, &content);
            if reader_first {
                assert_eq!(
                    JournalReader::open(&path).expect("opens").checkpoints(&run).expect("reads"),
                    Checkpoints::default()
                );
            }
            let journal = SqliteJournal::open(&path, Durability::Full).expect("opens");
            block_on(journal.save_checkpoint(&run, CheckpointKey::Session("travel".into()), json!(1))).expect("keeps");
            append_records(&journal, &run, vec![record(1), record(2)]).expect("appends");
            append_records(&journal, &run, vec![record(3)]).expect("appends");
            assert_eq!(read_records(&path, &run), (0..4).map(record).collect::<Vec<_>>());
            let sessions = JournalReader::open(&path).expect("opens").checkpoints(&run).expect("reads").sessions;
            assert_eq!(sessions, [("travel".into(), json!(1))].into());
        }
    }
}

#[test]
fn driver_continues_during_migration() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    schema::tests::create_journal_of_format(&path, 3, "");
    let driver = Connection::open(&path).expect("opens");
    // The statement of a version with format 3.
    let mut insert = driver
        .prepare("INSERT INTO events (run, seq, at, body, sum) VALUES ('run', ?1, 0, ?2, NULL)")
        .expect("prepares");
    for seq in 0..4 {
        let body = serde_json::to_string(&record(seq)).expect("serialises");
        insert.execute((seq, body)).expect("inserts");
        if seq == 1 {
            drop(SqliteJournal::open(&path, Durability::Full).expect("opens"));
        }
    }
    assert_eq!(read_records(&path, &"run".into()), (0..4).map(record).collect::<Vec<_>>());
}

#[test]
fn runs_of_an_older_format_keep_their_order_and_those_of_its_driver_come_after_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    // The clock was set back before `b` started. Format 4 knew this only from the order of the events.
    let content = "
        INSERT INTO runs VALUES ('a', 'lisbon', 9, 'succeeded', 10, 1), ('b', 'lisbon', 5, 'running', NULL, 1);
        INSERT INTO events VALUES ('a', 0, 9, '{}', NULL), ('b', 0, 5, '{}', NULL);";
    schema::tests::create_journal_of_format(&path, 4, content);
    let driver = Connection::open(&path).expect("opens");
    let mut insert = driver
        .prepare("INSERT INTO runs (run, name, started, status) VALUES ('c', 'lisbon', 1, 'running')")
        .expect("prepares");
    let reader = JournalReader::open(&path).expect("brings it up to date");
    insert.execute([]).expect("inserts");
    driver.execute("INSERT INTO events VALUES ('c', 0, 1, '{}', NULL)", []).expect("inserts");
    let runs: Vec<_> = reader.runs(9).expect("lists").into_iter().map(|run| run.run.to_string()).collect();
    assert_eq!(runs, ["c", "b", "a"]);
}
