//! Tests of schedules with virtual time: runs that end by themselves, killed schedulers, and several schedulers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::drive::{WallClock, drive_with_clock};
use super::{ScheduleNotice, ScheduledRuns, StartError, read_scheduled_plans};
use crate::journal::{Durability, MemoryJournal, Store, samples};
use crate::model::{Event, Record, RunId, RunStatus, Timestamp};

/// The start of the virtual time: 2026-01-01, 00:00 UTC.
const START: u64 = 1_767_225_600_000;

/// Runs that take some time, and whose processes can be killed.
struct TestRuns {
    store: Arc<dyn Store>,
    /// How long a run takes.
    duration: Duration,
    /// The occurrences for which runs were started, with the number of starts.
    started: Mutex<BTreeMap<u64, u32>>,
    resumed: Mutex<u32>,
    notices: Mutex<Vec<String>>,
}

impl TestRuns {
    fn new(store: &Arc<dyn Store>, duration: Duration) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store),
            duration,
            started: Mutex::default(),
            resumed: Mutex::default(),
            notices: Mutex::default(),
        })
    }

    /// Appends the last event of a run, whose lease the caller holds.
    async fn end(&self, run: &RunId) -> Result<(), StartError> {
        tokio::time::sleep(self.duration).await;
        let outputs = indexmap::IndexMap::new();
        let event =
            Event::RunEnded { status: RunStatus::Succeeded, cause: None, outputs: None, output_errors: outputs };
        let record = Record { seq: 1, at: Timestamp(START), event };
        Ok(self.store.open_writer(Durability::Normal)?.append(run, [record].into()).await?)
    }

    fn occurrences(&self) -> Vec<u64> {
        self.started.lock().keys().copied().collect()
    }
}

/// Returns the time in the ID of a run.
fn occurrence_of(run: &RunId) -> u64 {
    let digits: String = run.as_str().chars().filter(|digit| *digit != '-').take(12).collect();
    u64::from_str_radix(&digits, 16).expect("the time of a UUID")
}

#[async_trait]
impl ScheduledRuns for TestRuns {
    async fn start(&self, _: &Path, run: &RunId) -> Result<(), StartError> {
        let _lease = self.store.acquire_lease(run)?;
        let events = serde_json::json!([samples::run_started_event(serde_json::json!([]))]);
        let first = samples::records_from_events(events).swap_remove(0);
        // The process may die before and after the run is in the journal.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.store.open_writer(Durability::Normal)?.append(run, [first].into()).await?;
        *self.started.lock().entry(occurrence_of(run)).or_default() += 1;
        self.end(run).await
    }

    async fn resume(&self, run: &RunId) -> Result<(), StartError> {
        let _lease = self.store.acquire_lease(run)?;
        *self.resumed.lock() += 1;
        self.end(run).await
    }

    fn report(&self, notice: ScheduleNotice<'_>) {
        let text = match notice {
            ScheduleNotice::Starting { .. } => return,
            ScheduleNotice::Missed { until, .. } => format!("missed until {}", (until.0 - START) / 1_000),
            ScheduleNotice::Added { .. } => "added".to_owned(),
            ScheduleNotice::Removed { .. } => "removed".to_owned(),
            ScheduleNotice::Unreadable { .. } => "unreadable".to_owned(),
            ScheduleNotice::Failed { reason, .. } => format!("failed: {reason}"),
            ScheduleNotice::JournalFailed { error } => format!("the journal failed: {error}"),
        };
        self.notices.lock().push(text);
    }
}

/// A directory with one plan, and a journal.
struct TestFolder {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    clock: WallClock,
}

impl TestFolder {
    fn new(schedule: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Virtual time would pass while a journal on disk writes.
        let store: Arc<dyn Store> = Arc::new(MemoryJournal::default());
        let start = tokio::time::Instant::now();
        let clock = Arc::new(move || Timestamp(START).after(start.elapsed()));
        let folder = Self { directory, store, clock };
        folder.write_plan(schedule);
        folder
    }

    fn write_plan(&self, schedule: &str) {
        let text = format!("schedule: {schedule}\ntasks:\n  - {{ id: nap, sleep: 1s }}\n");
        // The file is replaced as a whole, since the directory may be read at the same time.
        let new = self.directory.path().join("plan.new");
        std::fs::write(&new, text).expect("writes");
        std::fs::rename(new, self.directory.path().join("plan.yaml")).expect("renames");
    }

    /// Drives the schedule for a time, and then stops or kills the scheduler.
    async fn drive(&self, runs: &Arc<TestRuns>, time: Duration, is_killed: bool) {
        let stop = CancellationToken::new();
        let runs = Arc::clone(runs) as Arc<dyn ScheduledRuns>;
        let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
        let mut driving = Box::pin(drive_with_clock(store, self.directory.path(), runs, stop.clone(), clock));
        tokio::select! {
            () = &mut driving => {}
            () = tokio::time::sleep(time) => {}
        }
        if !is_killed {
            stop.cancel();
            driving.await;
        }
    }
}

/// Returns the seconds after the start of the virtual time.
fn seconds(times: &[u64]) -> Vec<u64> {
    times.iter().map(|time| (time - START) / 1_000).collect()
}

#[tokio::test(start_paused = true)]
async fn each_occurrence_has_one_run() {
    let folder = TestFolder::new("'*/10 * * * *'");
    let runs = TestRuns::new(&folder.store, Duration::from_secs(60));
    folder.drive(&runs, Duration::from_secs(3_630), false).await;
    assert_eq!(seconds(&runs.occurrences()), [600, 1_200, 1_800, 2_400, 3_000, 3_600]);
    assert!(runs.started.lock().values().all(|starts| *starts == 1));
    assert_eq!(*runs.notices.lock(), ["added"]);
}

#[tokio::test(start_paused = true)]
async fn missed_occurrences_are_skipped_run_once_or_all() {
    for (missed, expected) in
        [("skip", &[600, 2_400][..]), ("once", &[600, 1_800, 2_400]), ("all", &[600, 1_200, 1_800, 2_400])]
    {
        let folder = TestFolder::new(&format!("{{ cron: '*/10 * * * *', timezone: UTC, missed: {missed} }}"));
        let runs = TestRuns::new(&folder.store, Duration::from_secs(5));
        folder.drive(&runs, Duration::from_secs(700), false).await;
        tokio::time::sleep(Duration::from_secs(1_400)).await;
        folder.drive(&runs, Duration::from_secs(400), false).await;
        assert_eq!(seconds(&runs.occurrences()), expected, "{missed}");
        assert_eq!(runs.notices.lock().contains(&"missed until 1800".to_owned()), missed == "skip");
    }
}

#[tokio::test(start_paused = true)]
async fn run_longer_than_its_interval_is_alone() {
    let folder = TestFolder::new("'*/10 * * * *'");
    let runs = TestRuns::new(&folder.store, Duration::from_secs(1_500));
    folder.drive(&runs, Duration::from_secs(3_000), false).await;
    // Those at 1200 and 1800 come while the first run is in progress.
    assert_eq!(seconds(&runs.occurrences())[..2], [600, 1_800]);
}

#[tokio::test(start_paused = true)]
async fn killed_and_concurrent_schedulers_run_each_occurrence_once() {
    for seed in 0..8_u64 {
        let folder = TestFolder::new("{ cron: '* * * * *', missed: all }");
        let runs = TestRuns::new(&folder.store, Duration::from_secs(20));
        for round in 0..40_u64 {
            let time = |salt: u64| {
                let mixed = (seed + 1).wrapping_mul(round * 2 + salt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                Duration::from_millis(mixed % 100_000)
            };
            tokio::join!(folder.drive(&runs, time(0), true), folder.drive(&runs, time(1), round % 3 > 0));
        }
        folder.drive(&runs, Duration::from_secs(7_200), false).await;
        let started = runs.started.lock().clone();
        let twice: Vec<_> = started.iter().filter(|(_, starts)| **starts != 1).collect();
        assert!(twice.is_empty(), "seed {seed}: {twice:?}");
        let minutes: Vec<u64> = seconds(&runs.occurrences()).iter().map(|second| second / 60).collect();
        let first = *minutes.first().expect("a run");
        assert_eq!(minutes, (first..first + minutes.len() as u64).collect::<Vec<_>>(), "seed {seed}");
        assert!(minutes.len() > 60 && *runs.resumed.lock() > 0, "seed {seed}: {} runs", minutes.len());
        let reader = folder.store.open_reader().expect("opens");
        let ended = |run: &crate::journal::RunSummary| run.status == RunStatus::Succeeded;
        assert!(reader.runs(10_000).expect("reads").iter().skip(1).all(ended), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn changed_and_invalid_schedules_are_noticed() {
    let folder = TestFolder::new("'0 * * * *'");
    let runs = TestRuns::new(&folder.store, Duration::from_secs(5));
    let changing = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        folder.write_plan("'0 25 * * *'");
        tokio::time::sleep(Duration::from_secs(30)).await;
        folder.write_plan("'*/5 * * * *'");
    };
    tokio::join!(folder.drive(&runs, Duration::from_secs(700), false), changing);
    assert_eq!(seconds(&runs.occurrences()), [300, 600]);
    assert_eq!(*runs.notices.lock(), ["added", "unreadable", "removed", "added"]);
    let found = read_scheduled_plans(folder.directory.path()).expect("reads");
    assert_eq!((found.plans.len(), found.invalid.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn run_that_cannot_start_is_given_up() {
    /// Starts nothing.
    struct Refuses(Mutex<Vec<String>>);

    #[async_trait]
    impl ScheduledRuns for Refuses {
        async fn start(&self, _: &Path, _: &RunId) -> Result<(), StartError> {
            Err("no such agent".into())
        }

        async fn resume(&self, _: &RunId) -> Result<(), StartError> {
            Err("nothing to resume".into())
        }

        fn report(&self, notice: ScheduleNotice<'_>) {
            if let ScheduleNotice::Failed { reason, .. } = notice {
                self.0.lock().push(reason.to_owned());
            }
        }
    }

    let folder = TestFolder::new("'*/10 * * * *'");
    let (runs, stop) = (Arc::new(Refuses(Mutex::default())), CancellationToken::new());
    let (store, clock) = (Arc::clone(&folder.store), Arc::clone(&folder.clock));
    let driving = drive_with_clock(store, folder.directory.path(), Arc::clone(&runs) as Arc<_>, stop.clone(), clock);
    tokio::join!(driving, async {
        tokio::time::sleep(Duration::from_secs(1_300)).await;
        stop.cancel();
    });
    assert_eq!(*runs.0.lock(), ["no such agent", "no such agent"]);
}
