mod damage;
mod formats;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use futures::executor::block_on;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::journal::sqlite::reader::SqliteReader;
use crate::journal::{JournalReader, samples};
use crate::model::{AttemptId, LogMessage, Origin, Timestamp};

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep").join("journal.db");
    (folder, path)
}

fn record(seq: u64) -> Record {
    Record { seq, at: Timestamp(1_000 + seq), event: Event::CancelRequested { by: None } }
}

fn append_records(journal: &SqliteWriter, run: &RunId, records: Vec<Record>) -> Result<(), JournalError> {
    block_on(journal.append(run, records.into()))
}

fn read_records(path: &Path, run: &RunId) -> Vec<Record> {
    open_reader(path).records(run, 0).collect::<Result<_, _>>().expect("reads")
}

fn open_reader(path: &Path) -> Box<dyn JournalReader> {
    Box::new(SqliteReader::open(path).expect("opens"))
}

#[test]
fn appends_keep_call_order() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    let mut waiting: Vec<_> = (0..100).map(|seq| journal.append(&run, vec![record(seq)].into())).collect();
    // Half of the futures are dropped; their records are kept anyway.
    waiting.truncate(50);
    for append in waiting.into_iter().rev() {
        block_on(append).expect("appends");
    }
    drop(journal);
    assert_eq!(read_records(&path, &run), (0..100).map(record).collect::<Vec<_>>());
}

#[test]
fn queued_appends_share_a_transaction() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Full).expect("opens");
    let run = RunId::from("run");
    append_records(&journal, &run, vec![record(0)]).expect("appends");
    let before = transaction_count(&path);

    // Another writer blocks everything: at most one append is with the writer thread, and the rest is queued.
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let waiting: Vec<_> = (1..200).map(|seq| journal.append(&run, vec![record(seq)].into())).collect();
    other.execute_batch("ROLLBACK").expect("unlocks");
    for append in waiting {
        block_on(append).expect("appends");
    }
    // The writer may have received a first part before the rest was queued, and never needs more than two transactions.
    let after = transaction_count(&path) - before;
    assert!((1..=2).contains(&after), "{after} transactions");
    assert_eq!(read_records(&path, &run).len(), 200);
}

/// Returns the number of transactions in the write-ahead log: the frames that contain the database size after a commit
/// (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn transaction_count(path: &Path) -> usize {
    let log = fs::read(path.with_extension("db-wal")).expect("a write-ahead log");
    let page_size = u32::from_be_bytes(log[8..12].try_into().expect("four bytes")) as usize;
    log[32..].chunks_exact(24 + page_size).filter(|frame| frame[4..8] != [0; 4]).count()
}

#[test]
fn sequence_gap_fails_only_its_append() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let (good, bad) = (RunId::from("good"), RunId::from("bad"));
    // Delayed by a lock, both appends are in one transaction.
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let first = journal.append(&good, vec![record(0)].into());
    let gap = journal.append(&bad, vec![record(0), record(2)].into());
    let second = journal.append(&good, vec![record(1)].into());
    other.execute_batch("ROLLBACK").expect("unlocks");

    block_on(first).expect("appends");
    block_on(second).expect("appends");
    let error = block_on(gap).expect_err("refuses");
    assert!(matches!(error, JournalError::SequenceGap { expected: 1, found: 2, .. }), "{error:?}");
    assert_eq!(read_records(&path, &good), [record(0), record(1)]);
    assert_eq!(read_records(&path, &bad), []);
    append_records(&journal, &bad, vec![record(0), record(1)]).expect("goes on from where it was");
}

#[test]
fn stalled_writer_loses_no_append() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let count = 3 * MAX_BATCHED_APPENDS as u64;
    let waiting: Vec<_> = (0..count).map(|seq| journal.append(&run, vec![record(seq)].into())).collect();
    other.execute_batch("ROLLBACK").expect("unlocks");
    for append in waiting {
        block_on(append).expect("appends");
    }
    assert_eq!(read_records(&path, &run), (0..count).map(record).collect::<Vec<_>>());
}

#[test]
fn pending_checkpoints_are_bounded_by_their_keys() {
    const KEYS: u32 = 200;
    let pending = PendingCheckpoints::new();
    let key = |number| (RunId::from("run"), CheckpointKey::Call(AttemptId { task: "book".into(), number }));
    for update in 0..500 {
        for number in 0..KEYS {
            // A call that has ended drops its future; the checkpoint stays.
            drop(pending.insert(key(number), json!(update)));
        }
    }
    let (waits, _) = pending.insert(key(0), json!(500));
    {
        let checkpoints = pending.0.lock();
        let checkpoints = checkpoints.as_ref().expect("is open");
        assert_eq!(checkpoints.len(), KEYS as usize);
        assert!(checkpoints.values().all(|checkpoint| checkpoint.waiters.len() == 1));
    }
    let mut kept = 0;
    for append in pending.drain() {
        let AppendContent::Checkpoint(CheckpointKey::Call(AttemptId { number, .. }), checkpoint) = &append.content
        else {
            panic!("only calls were saved");
        };
        assert_eq!(*checkpoint, if *number == 0 { json!(500) } else { json!(499) });
        kept += 1;
        append.complete(Ok(()));
    }
    assert_eq!(kept, KEYS);
    block_on(waits).expect("is reported").expect("is durable");
}

#[test]
fn pending_checkpoints_coalesce_by_key() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    let call = |number| AttemptId { task: "book".into(), number };
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locks");
    let count = 3 * u32::try_from(MAX_BATCHED_APPENDS).expect("a small queue");
    let mut waiting = Vec::new();
    for number in 0..count {
        waiting.push(journal.save_checkpoint(&run, CheckpointKey::Call(call(number)), json!(number)));
        waiting.push(journal.save_checkpoint(&run, CheckpointKey::Session("travel".into()), json!(number)));
        // The future of a checkpoint may be dropped.
        drop(journal.save_checkpoint(&run, CheckpointKey::Session("research".into()), json!(number)));
        if number % 6 == 0 {
            waiting.push(journal.append(&run, vec![record(u64::from(number / 6))].into()));
        }
    }
    other.execute_batch("ROLLBACK").expect("unlocks");
    for written in waiting {
        block_on(written).expect("is durable");
    }

    drop(journal);
    assert_eq!(read_records(&path, &run), (0..u64::from(count / 6)).map(record).collect::<Vec<_>>());
    let checkpoints = open_reader(&path).checkpoints(&run).expect("reads");
    assert_eq!(checkpoints.calls, (0..count).map(|number| (call(number), json!(number))).collect());
    let last = json!(count - 1);
    assert_eq!(checkpoints.sessions, [("travel".into(), last.clone()), ("research".into(), last)].into());
}

#[test]
fn pending_checkpoints_end_with_the_writer() {
    let pending = PendingCheckpoints::new();
    let key = |agent: &str| (RunId::from("run"), CheckpointKey::Session(agent.into()));
    let (first, wakes) = pending.insert(key("travel"), json!(1));
    assert!(wakes);
    let (second, wakes) = pending.insert(key("research"), json!(2));
    assert!(!wakes);
    pending.close();
    let (late, wakes) = pending.insert(key("travel"), json!(3));
    assert!(!wakes);
    for written in [first, second, late] {
        assert!(block_on(written).is_err());
    }
    assert!(pending.drain().is_empty());
}

#[test]
fn large_and_nested_payloads_round_trip() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    let deep = (0..200).fold(json!("bottom"), |inner, _| json!([inner]));
    let log = |seq, data| Record {
        seq,
        at: Timestamp(0),
        event: Event::AgentLogged {
            origin: Origin { agent: "research".into(), attempt: None, key: None },
            message: LogMessage { level: "info".into(), logger: None, data },
        },
    };
    let records = vec![log(0, json!("é\u{1b}\u{0}\n".repeat(4 << 20))), log(1, deep), record(2)];
    append_records(&journal, &run, records.clone()).expect("appends");
    assert_eq!(read_records(&path, &run), records);
}

#[test]
fn joint_appends_share_rows() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    append_records(&journal, &run, (0..100).map(record).collect()).expect("appends");
    let long = |seq| Record {
        event: Event::AgentLogged {
            origin: Origin { agent: "research".into(), attempt: None, key: None },
            message: LogMessage { level: "info".into(), logger: None, data: json!("x\n".repeat(TARGET_ROW_BYTES / 8)) },
        },
        ..record(seq)
    };
    // With escaped line breaks, each is more than a third of a row.
    append_records(&journal, &run, (100..107).map(long).collect()).expect("appends");
    let rows = Connection::open(&path).expect("opens");
    let mut rows = rows.prepare("SELECT first_seq FROM events ORDER BY first_seq").expect("prepares");
    let rows: Vec<u64> =
        rows.query_map([], |row| row.get(0)).expect("queries").map(|row| row.expect("reads")).collect();
    assert_eq!(rows, [0, 100, 103, 106]);

    let all: Vec<_> = (0..100).map(record).chain((100..107).map(long)).collect();
    let reader = open_reader(&path);
    for from in [0, 1, 99, 100, 101, 102, 103, 106, 107, 1_000] {
        let read: Vec<_> = reader.records(&run, from).collect::<Result<_, _>>().expect("reads");
        assert_eq!(read, all[all.len().min(usize::try_from(from).expect("small"))..], "from {from}");
    }
}

#[test]
fn new_journal_can_be_opened_concurrently() {
    for _ in 0..10 {
        let (_folder, path) = folder();
        let start = std::sync::Barrier::new(8);
        thread::scope(|scope| {
            for number in 0..8 {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let journal = SqliteWriter::open(path, Durability::Normal).expect("opens");
                    append_records(&journal, &format!("run {number}").into(), vec![record(0)]).expect("appends");
                });
            }
        });
        for number in 0..8 {
            assert_eq!(read_records(&path, &format!("run {number}").into()), [record(0)]);
        }
    }
}

#[test]
fn creating_a_journal_is_never_mistaken_for_losing_one() {
    for _ in 0..100 {
        let (_folder, path) = folder();
        let created = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
                append_records(&journal, &"run".into(), vec![record(0)]).expect("appends");
                created.store(true, std::sync::atomic::Ordering::Relaxed);
            });
            while !created.load(std::sync::atomic::Ordering::Relaxed) {
                schema::check_write_ahead_log(&path).expect("no log without a journal");
            }
        });
    }
}

#[test]
fn writer_panic_ends_all_waiting_appends() {
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    let run = RunId::from("run");
    append_records(&journal, &run, vec![record(0)]).expect("appends");
    journal.queue.as_ref().expect("is open").send(WriterMessage::Panic).expect("a writer");
    // Appends that the writer holds, that are queued, or that came too late for the queue.
    let appended: Vec<_> = (1..50).map(|seq| journal.append(&run, vec![record(seq)].into())).collect();
    let saved = journal.save_checkpoint(&run, CheckpointKey::Session("a".into()), json!(1));
    for append in appended {
        let ended = block_on(append);
        assert!(matches!(ended, Ok(()) | Err(JournalError::Closed)), "{ended:?}");
    }
    assert!(matches!(block_on(saved), Ok(()) | Err(JournalError::Closed)));
    assert!(matches!(append_records(&journal, &run, vec![record(50)]), Err(JournalError::Closed)));
    let late = journal.save_checkpoint(&run, CheckpointKey::Session("a".into()), json!(2));
    assert!(matches!(block_on(late), Err(JournalError::Closed)));
}

#[test]
fn journal_files_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    let journal = SqliteWriter::open(&path, Durability::Normal).expect("opens");
    append_records(&journal, &"run".into(), vec![record(0)]).expect("appends");
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().expect("a folder")), 0o700);
    assert_eq!([mode(&path), mode(&path.with_extension("db-wal"))], [0o600, 0o600]);
}

const CHILD_JOURNAL: &str = "KAPELL_TEST_JOURNAL";
const CHILD_RUN: &str = "KAPELL_TEST_RUN";
const CHILD_APPEND_COUNT: &str = "KAPELL_TEST_APPENDS";

/// Helper process: other tests start this program again with the variables set, and then it appends.
#[test]
fn child_process_appends() {
    let Some(path) = std::env::var_os(CHILD_JOURNAL) else { return };
    let run = RunId::from(std::env::var(CHILD_RUN).expect("a run"));
    let appends: u64 = std::env::var(CHILD_APPEND_COUNT).expect("a number").parse().expect("a number");
    let journal = SqliteWriter::open(Path::new(&path), Durability::Full).expect("opens");
    for seq in 0..appends {
        append_records(&journal, &run, vec![record(2 * seq), record(2 * seq + 1)]).expect("appends");
        println!("\ndurable {}", 2 * seq + 1);
    }
}

fn spawn_appender(path: &Path, run: &str, appends: u64) -> Child {
    Command::new(std::env::current_exe().expect("a program"))
        .args(["--exact", "journal::sqlite::writer::tests::child_process_appends", "--nocapture"])
        .envs([
            (CHILD_JOURNAL, path.as_os_str()),
            (CHILD_RUN, run.as_ref()),
            (CHILD_APPEND_COUNT, appends.to_string().as_ref()),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts")
}

#[test]
fn confirmed_appends_survive_sigkill() {
    let (_folder, path) = folder();
    let mut child = spawn_appender(&path, "run", u64::MAX);
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let confirmed =
        lines.map(|line| line.expect("reads")).filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
    let confirmed: u64 = confirmed.take(200).last().expect("confirms");
    child.kill().expect("kills");
    child.wait().expect("ends");

    let run = RunId::from("run");
    let records = read_records(&path, &run);
    assert!(records.len() as u64 > confirmed);
    assert_eq!(records.len() % 2, 0, "half of an append is there");
    assert_eq!(records, (0..records.len() as u64).map(record).collect::<Vec<_>>());
    let journal = SqliteWriter::open(&path, Durability::Full).expect("opens");
    append_records(&journal, &run, vec![record(records.len() as u64)]).expect("goes on");
}

#[test]
fn processes_append_concurrently() {
    let (_folder, path) = folder();
    let children = ["one", "two"].map(|run| spawn_appender(&path, run, 300));
    for child in children {
        let output = child.wait_with_output().expect("ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    for run in ["one", "two"] {
        assert_eq!(read_records(&path, &run.into()), (0..600).map(record).collect::<Vec<_>>());
    }
}
