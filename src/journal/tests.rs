//! What every store must do, tested with each of them.

use std::path::Path;
use std::sync::Arc;

use futures::executor::block_on;
use serde_json::json;

use super::*;
use crate::model::{
    Answer, AttemptId, CheckpointKey, Checkpoints, EndCause, Event, Record, RunId, RunStatus, Timestamp,
};
use crate::system::process::RequestSender;

/// Calls `check` with an empty store of each kind.
fn for_each_store(check: impl Fn(&dyn Store)) {
    let folder = tempfile::tempdir().expect("a folder");
    check(&*store(&JournalLocation::from(folder.path().join("journal.db"))));
    check(&MemoryJournal::default());
}

fn open_writer(store: &dyn Store) -> Arc<dyn JournalWriter> {
    store.open_writer(Durability::Normal).expect("opens")
}

fn open_reader(store: &dyn Store) -> Box<dyn JournalReader> {
    store.open_reader().expect("opens")
}

fn append(writer: &dyn JournalWriter, run: &str, records: &[Record]) -> Result<(), JournalError> {
    block_on(writer.append(&run.into(), records.into()))
}

fn record(seq: u64) -> Record {
    Record { seq, at: Timestamp(1_000 + seq), event: Event::CancelRequested { by: None } }
}

fn start_of_run(at: u64) -> Record {
    let events = json!([samples::run_started_event(json!([]))]);
    Record { at: Timestamp(at), ..samples::records_from_events(events).swap_remove(0) }
}

fn code(error: &JournalError) -> String {
    miette::Diagnostic::code(error).expect("a code").to_string()
}

#[test]
fn runs_round_trip() {
    for_each_store(|store| {
        let writer = open_writer(store);
        let (run, records) = (samples::sample_run_id(), samples::sample_run());
        for part in records.chunks(7) {
            append(&*writer, run.as_str(), part).expect("appends");
        }
        let reader = open_reader(store);
        let read: Result<Vec<_>, _> = reader.records(&run, 0).collect();
        assert_eq!(read.expect("reads"), records);
        let raw: Vec<_> = reader.raw_records(&run, 3).map(|raw| raw.expect("reads").json).collect();
        let lines: Vec<_> =
            records[3..].iter().map(|record| serde_json::to_string(record).expect("serializes")).collect();
        assert_eq!(raw, lines);
        assert_eq!(reader.records(&"other".into(), 0).count(), 0);
        assert_eq!(store.recovery_scan(), RecoveryScan { intact: vec![run], damaged: Vec::new() });
    });
}

#[test]
fn reader_sees_later_appends() {
    for_each_store(|store| {
        let writer = open_writer(store);
        append(&*writer, "run", &[record(0)]).expect("appends");
        let (reader, run) = (open_reader(store), RunId::from("run"));
        let mut records = reader.records(&run, 0);
        assert_eq!(records.next().expect("one").expect("reads"), record(0));
        assert!(records.next().is_none());
        append(&*writer, "run", &[record(1)]).expect("appends");
        assert_eq!(records.next().expect("one more").expect("reads"), record(1));
    });
}

#[test]
fn sequence_gap_is_rejected() {
    for_each_store(|store| {
        let writer = open_writer(store);
        let error = append(&*writer, "run", &[record(0), record(2)]).expect_err("refuses");
        assert!(matches!(error, JournalError::SequenceGap { expected: 1, found: 2, .. }), "{error:?}");
        assert_eq!(open_reader(store).records(&"run".into(), 0).count(), 0);
        append(&*writer, "run", &[record(0), record(1)]).expect("continues");
        let again = append(&*writer, "run", &[record(1)]).expect_err("refuses");
        assert!(matches!(again, JournalError::SequenceGap { expected: 2, found: 1, .. }), "{again:?}");
    });
}

#[test]
fn runs_are_listed_in_the_order_of_their_start() {
    for_each_store(|store| {
        let writer = open_writer(store);
        let (status, cause) = (RunStatus::Failed, Some(EndCause::Denied));
        let event = Event::RunEnded { status, cause, outputs: None, output_errors: indexmap::IndexMap::new() };
        let ended = Record { seq: 1, at: Timestamp(900), event };
        append(&*writer, "aa-old-1", &[start_of_run(300), ended]).expect("appends");
        append(&*writer, "ab-mid-2", &[start_of_run(200), record(1)]).expect("appends");
        // The clock was set back before the latest two started, and further before the last.
        append(&*writer, "ab-new-22", &[start_of_run(100)]).expect("appends");

        let reader = open_reader(store);
        let summary = |run: &str, started, last_event| RunSummary {
            run: run.into(),
            name: "lisbon".into(),
            started: Timestamp(started),
            ended: None,
            status: RunStatus::Running,
            last_event: Timestamp(last_event),
            driver: None,
        };
        let all = [
            summary("ab-new-22", 100, 100),
            summary("ab-mid-2", 200, 1_001),
            RunSummary { ended: Some(Timestamp(900)), status: RunStatus::Failed, ..summary("aa-old-1", 300, 900) },
        ];
        assert_eq!(reader.runs(usize::MAX).expect("lists"), all);
        assert_eq!(reader.run(&"aa-old-1".into()).expect("is there"), all[2]);
        assert_eq!(code(&reader.run(&"aa-old".into()).expect_err("is not there")), "journal::unknown_run");
        assert_eq!(reader.runs(1).expect("lists"), all[..1]);
        assert_eq!(reader.unfinished_runs().expect("lists"), all[..2]);

        let lease = store.acquire_lease(&"ab-mid-2".into()).expect("acquires");
        let driver = Some(Holder { pid: Some(std::process::id()) });
        let driven = [all[0].clone(), RunSummary { driver, ..all[1].clone() }, all[2].clone()];
        assert_eq!(reader.runs(usize::MAX).expect("lists"), driven);
        drop(lease);

        for (name, run) in [("last", "ab-new-22"), ("AA", "aa-old-1"), ("-22", "ab-new-22"), ("ab-mid-2", "ab-mid-2")] {
            assert_eq!(reader.find_run(name).expect(name).as_str(), run);
        }
        let ids = |ids: &[&str]| ids.iter().map(|&id| RunId::from(id)).collect::<Vec<_>>();
        match reader.find_run("ab") {
            Err(JournalError::AmbiguousRun { name, candidates }) => {
                assert_eq!((name.as_str(), candidates), ("ab", ids(&["ab-new-22", "ab-mid-2"])));
            }
            other => panic!("{other:?}"),
        }
        for name in ["%", ""] {
            match reader.find_run(name) {
                Err(JournalError::UnknownRun { name: unknown, known }) => {
                    assert_eq!((unknown.as_str(), known), (name, ids(&["ab-new-22", "ab-mid-2", "aa-old-1"])));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn run_has_one_driver_at_a_time() {
    for_each_store(|store| {
        drop(open_writer(store));
        let (reader, run) = (open_reader(store), RunId::from("run"));
        assert_eq!(reader.driver(&run).expect("looks"), None);
        let lease = store.acquire_lease(&run).expect("acquires");
        let holder = Holder { pid: Some(std::process::id()) };
        assert_eq!(reader.driver(&run).expect("looks"), Some(holder));
        match store.acquire_lease(&run) {
            Err(JournalError::Driven { run: driven, holder: by }) => assert_eq!((driven, by), (run.clone(), holder)),
            other => panic!("{other:?}"),
        }
        let other = store.acquire_lease(&"other".into()).expect("another run is free");
        drop((lease, other));
        assert_eq!(reader.driver(&run).expect("looks"), None);
        drop(store.acquire_lease(&run).expect("acquires"));
    });
}

#[test]
fn each_occurrence_is_claimed_once() {
    for_each_store(|store| {
        let (mut log, mut other) = (store.schedule_log(), store.schedule_log());
        let at = |handled, claimed: Option<u64>| SchedulePosition {
            handled: Timestamp(handled),
            claimed: claimed.map(Timestamp),
        };
        assert_eq!(log.position("daily", Timestamp(5)).expect("reads"), at(5, None));
        // Only a new schedule begins now.
        assert_eq!(other.position("daily", Timestamp(9)).expect("reads"), at(5, None));
        assert!(log.advance("daily", at(5, None), at(5, Some(7))).expect("claims"));
        assert!(!other.advance("daily", at(5, None), at(5, Some(7))).expect("comes too late"));
        assert_eq!(other.position("daily", Timestamp(9)).expect("reads"), at(5, Some(7)));
        assert!(other.advance("daily", at(5, Some(7)), at(7, None)).expect("completes"));
        assert!(!log.advance("daily", at(5, Some(7)), at(7, None)).expect("was completed"));
        assert!(!log.advance("unknown", at(5, None), at(7, None)).expect("has no position"));
        assert_eq!(log.position("hourly", Timestamp(9)).expect("reads"), at(9, None));
    });
}

#[test]
fn checkpoints_last_until_the_run_ends() {
    for_each_store(|store| {
        let (writer, run) = (open_writer(store), RunId::from("run"));
        append(&*writer, "run", &[start_of_run(1)]).expect("appends");
        for number in [1, 2] {
            let key = CheckpointKey::Session("travel".into());
            block_on(writer.save_checkpoint(&run, key, json!(number))).expect("saves");
        }
        let reader = open_reader(store);
        assert_eq!(reader.checkpoints(&run).expect("reads").sessions, [("travel".into(), json!(2))].into());
        let end = |seq, status| Record {
            event: Event::RunEnded { status, cause: None, outputs: None, output_errors: indexmap::IndexMap::new() },
            ..record(seq)
        };
        append(&*writer, "run", &[end(1, RunStatus::Paused)]).expect("appends");
        assert_eq!(reader.checkpoints(&run).expect("reads").sessions.len(), 1);
        append(&*writer, "run", &[end(2, RunStatus::Succeeded)]).expect("appends");
        assert_eq!(reader.checkpoints(&run).expect("reads").sessions.len(), 0);
    });
}

fn answer_request(question: &str) -> ControlRequest {
    let answer = Answer::Accept { content: Some(json!({"confirm": true})) };
    ControlRequest::Answer { question: question.into(), answer, all: false }
}

/// Starts a run with the open questions `q1` and `q2`. Returns a function that appends events to it.
fn start_run_with_questions(store: &dyn Store) -> impl FnMut(serde_json::Value) + use<> {
    let writer = open_writer(store);
    let mut events = vec![samples::run_started_event(json!([]))];
    let mut written = 0;
    let mut append_event = move |event: serde_json::Value| {
        events.push(event);
        let records: Vec<Record> = samples::records_from_events(json!(events));
        append(&*writer, samples::sample_run_id().as_str(), &records[written..]).expect("appends");
        written = records.len();
    };
    for id in ["q1", "q2"] {
        append_event(json!({"type": "question_asked", "question": {
            "id": id, "asker": {"plan": {"task": "post"}}, "message": "Post it?", "form": "approval",
        }}));
    }
    append_event
}

fn queue(store: &dyn Store) -> Box<dyn ControlQueue> {
    store.control_queue(&samples::sample_run_id())
}

fn send(queue: &mut dyn ControlQueue, request: &ControlRequest) -> Result<(), JournalError> {
    queue.send(request, &RequestSender::current())
}

/// Returns the new requests, and asserts that this process sent all of them.
fn read_requests(queue: &mut dyn ControlQueue) -> Vec<ControlRequest> {
    let sent = queue.read_new().expect("reads");
    assert!(sent.iter().all(|sent| sent.sender == Some(RequestSender::current())), "{sent:?}");
    sent.into_iter().map(|sent| sent.request).collect()
}

#[test]
fn request_is_read_once_per_process() {
    for_each_store(|store| {
        let mut append = start_run_with_questions(store);
        let (mut sender, mut driver) = (queue(store), queue(store));
        assert_eq!(read_requests(&mut *driver), []);
        send(&mut *sender, &answer_request("q2")).expect("sends");
        send(&mut *sender, &ControlRequest::Cancel).expect("sends");
        assert_eq!(read_requests(&mut *driver), [answer_request("q2"), ControlRequest::Cancel]);
        assert_eq!(read_requests(&mut *driver), []);
        assert_eq!(read_requests(&mut *queue(store)), [answer_request("q2"), ControlRequest::Cancel]);

        append(json!({"type": "question_answered", "question": "q2", "by": "x", "answer": {"action": "decline"}}));
        assert_eq!(read_requests(&mut *queue(store)), [ControlRequest::Cancel]);
        append(json!({"type": "cancel_requested"}));
        assert_eq!(read_requests(&mut *queue(store)), []);
        send(&mut *sender, &answer_request("q1")).expect("sends");
        assert_eq!(read_requests(&mut *driver), [answer_request("q1")], "an ID was given twice");
    });
}

#[test]
fn question_accepts_one_answer() {
    for_each_store(|store| {
        let mut append = start_run_with_questions(store);
        let run = samples::sample_run_id();
        let mut sender = queue(store);
        send(&mut *sender, &answer_request("q1")).expect("sends");
        match send(&mut *sender, &answer_request("q1")) {
            Err(JournalError::AlreadyAnswered { run: of, question }) => {
                assert_eq!((of, question.as_str()), (run.clone(), "q1"));
            }
            other => panic!("{other:?}"),
        }
        append(json!({"type": "run_ended", "status": "paused"}));
        send(&mut *sender, &answer_request("q2")).expect("a paused run can be resumed");
        let reader = open_reader(store);
        assert_eq!(reader.pending_answers(&run).expect("reads"), ["q1".into(), "q2".into()]);

        append(json!({"type": "run_resumed", "downtime": "1s", "reattached": []}));
        append(json!({"type": "run_ended", "status": "failed"}));
        assert_eq!(reader.pending_answers(&run).expect("reads"), []);
        let error = send(&mut *sender, &ControlRequest::Cancel).expect_err("refuses");
        assert!(matches!(error, JournalError::RunEnded { status: RunStatus::Failed, .. }), "{error:?}");
        let error = send(&mut *store.control_queue(&"other".into()), &ControlRequest::Cancel).expect_err("refuses");
        assert_eq!(code(&error), "journal::unknown_run");
    });
}

#[test]
fn removed_request_can_be_replaced() {
    for_each_store(|store| {
        let _append = start_run_with_questions(store);
        let (mut sender, mut driver) = (queue(store), queue(store));
        send(&mut *sender, &answer_request("q1")).expect("sends");
        let sent = driver.read_new().expect("reads");
        driver.remove(sent[0].id).expect("removes");
        assert_eq!(read_requests(&mut *queue(store)), []);
        send(&mut *sender, &answer_request("q1")).expect("sends");
        assert_eq!(read_requests(&mut *driver), [answer_request("q1")]);
    });
}

#[test]
fn pruning_removes_one_run_only() {
    for_each_store(|store| {
        let writer = open_writer(store);
        let runs = ["one", "two"].map(RunId::from);
        for run in &runs {
            append(&*writer, run.as_str(), &samples::sample_run()[..7]).expect("appends");
            block_on(writer.save_checkpoint(run, CheckpointKey::Session("travel".into()), 1.into())).expect("saves");
            send(&mut *store.control_queue(run), &ControlRequest::Cancel).expect("sends");
        }
        let lease = store.acquire_lease(&runs[0]).expect("acquires");
        assert!(matches!(store.prune(&runs[0]), Err(JournalError::Driven { .. })));
        drop(lease);
        store.prune(&runs[0]).expect("prunes");

        let reader = open_reader(store);
        let remaining: Vec<_> = reader.runs(9).expect("lists").into_iter().map(|summary| summary.run).collect();
        assert_eq!(remaining, [runs[1].clone()]);
        let sessions = |run| reader.checkpoints(run).expect("reads").sessions.len();
        let requests = |run| store.control_queue(run).read_new().expect("reads").len();
        let content = runs.each_ref().map(|run| (reader.records(run, 0).count(), sessions(run), requests(run)));
        assert_eq!(content, [(0, 0, 0), (7, 1, 1)]);
    });
}

#[test]
fn reading_creates_no_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = JournalLocation::from(folder.path().join("journal.db"));
    let store = store(&location);
    let _queue = store.control_queue(&"run".into());
    let error = store.open_reader().expect_err("is missing");
    assert!(matches!(&error, JournalError::Missing { journal } if *journal == location), "{error:?}");
    assert_eq!(store.recovery_scan(), RecoveryScan::default());
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0);
}

#[test]
fn companion_directories_are_next_to_the_journal() {
    let location = JournalLocation::from(Path::new("state/journal.db"));
    assert_eq!(location.companion_directory("plans"), Path::new("state/journal.plans"));
}

#[test]
fn checkpoints_of_a_run_without_a_driver_can_be_deleted() {
    for_each_store(|store| {
        let writer = open_writer(store);
        let runs = ["one", "two"].map(RunId::from);
        let keys = [
            CheckpointKey::Session("travel".into()),
            CheckpointKey::Call(AttemptId { task: "trip".into(), number: 1 }),
        ];
        for run in &runs {
            append(&*writer, run.as_str(), &samples::sample_run()[..7]).expect("appends");
            for key in &keys {
                block_on(writer.save_checkpoint(run, key.clone(), 1.into())).expect("saves");
            }
        }
        let lease = store.acquire_lease(&runs[0]).expect("acquires");
        assert!(matches!(store.delete_checkpoints(&runs[0]), Err(JournalError::Driven { .. })));
        drop(lease);
        let deleted = store.delete_checkpoints(&runs[0]).expect("deletes");
        assert!(deleted.len() == 2 && keys.iter().all(|key| deleted.contains(key)), "{deleted:?}");
        assert_eq!(store.delete_checkpoints(&runs[0]).expect("deletes"), []);

        let reader = open_reader(store);
        assert_eq!(reader.checkpoints(&runs[0]).expect("reads"), Checkpoints::default());
        assert_eq!(reader.checkpoints(&runs[1]).expect("reads").calls.len(), 1);
        assert_eq!(reader.records(&runs[0], 0).count(), 7);
    });
}
