//! Drives the schedules of all plans in a directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::plan_folder::{ScheduledPlans, read_scheduled_plans};
use super::scheduler::{NextStep, PlanScheduler, ScheduleNotice, ScheduledRuns, StartError};
use crate::journal::{JournalError, Store};
use crate::model::{RunId, Timestamp};
use crate::system::clock;

/// The interval for reading the directory again.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);
/// The interval for looking at a run that another process drives, and at a journal that failed.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The longest sleep, since the wall clock can be set and the machine can be suspended.
const MAX_SLEEP: Duration = Duration::from_secs(20);
/// Limits the failed attempts to start or resume a run, after which it is given up.
const MAX_ATTEMPTS: u32 = 3;

/// Runs the plans in `folder` by their schedules until `stop` is cancelled. Reads the directory again every few seconds.
///
/// Each occurrence leads to one run, also if this process is killed at any moment, and if other processes drive the same
/// schedules with the same journal. At most one run of a schedule is in progress. Occurrences that come meanwhile, or
/// while no process drives the schedule, are missed, and the plan says what becomes of them.
pub async fn drive(store: Arc<dyn Store>, folder: &Path, runs: Arc<dyn ScheduledRuns>, stop: CancellationToken) {
    let now = || Timestamp(u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX));
    drive_with_clock(store, folder, runs, stop, Arc::new(now)).await;
}

/// The wall clock.
pub(super) type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Does what [`drive`] does by another clock.
pub(super) async fn drive_with_clock(
    store: Arc<dyn Store>,
    folder: &Path,
    runs: Arc<dyn ScheduledRuns>,
    stop: CancellationToken,
    now: WallClock,
) {
    let mut driven: BTreeMap<String, (PathBuf, CancellationToken)> = BTreeMap::new();
    let mut unreadable: Vec<(PathBuf, String)> = Vec::new();
    let mut plans: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        let found = read_folder(folder.to_owned()).await;
        for (path, reason) in &found.invalid {
            if !unreadable.iter().any(|known| *known == (path.clone(), reason.clone())) {
                runs.report(ScheduleNotice::Unreadable { path, reason });
            }
        }
        unreadable = found.invalid;
        // A file that is being changed keeps its schedule.
        let is_unreadable = |path: &Path| unreadable.iter().any(|(known, _)| known == path || known == folder);
        let keys: Vec<String> = found.plans.iter().map(|plan| plan.key()).collect();
        driven.retain(|key, (path, stopped)| {
            let remains = keys.contains(key) || is_unreadable(path);
            if !remains {
                stopped.cancel();
                runs.report(ScheduleNotice::Removed { plan: path });
            }
            remains
        });
        for (plan, key) in found.plans.iter().zip(keys) {
            if driven.contains_key(&key) {
                continue;
            }
            if let Some(scheduler) = PlanScheduler::new(plan, &store) {
                let stopped = stop.child_token();
                runs.report(ScheduleNotice::Added { plan: &plan.path, next: scheduler.next_after(now()) });
                driven.insert(key, (plan.path.clone(), stopped.clone()));
                plans.push(Box::pin(drive_plan(scheduler, Arc::clone(&runs), stopped, Arc::clone(&now))));
            }
        }
        let mut reload = std::pin::pin!(tokio::time::sleep(RELOAD_INTERVAL));
        loop {
            tokio::select! {
                Some(()) = plans.next(), if !plans.is_empty() => {}
                () = &mut reload => break,
                () = stop.cancelled() => {
                    // Runs in this process end in their own way.
                    while plans.next().await.is_some() {}
                    return;
                }
            }
        }
    }
}

async fn read_folder(folder: PathBuf) -> ScheduledPlans {
    let reading = tokio::task::spawn_blocking(move || {
        read_scheduled_plans(&folder)
            .unwrap_or_else(|error| ScheduledPlans { plans: Vec::new(), invalid: vec![(folder, error.to_string())] })
    });
    reading.await.unwrap_or_default()
}

/// Drives one schedule until it is stopped. A run that has started in this process ends first.
async fn drive_plan(
    mut scheduler: PlanScheduler,
    runs: Arc<dyn ScheduledRuns>,
    stop: CancellationToken,
    now: WallClock,
) {
    let plan = scheduler.path.clone();
    let mut failures: Option<(RunId, u32)> = None;
    while !stop.is_cancelled() {
        let at = now();
        let (returned, step) = match blocking(scheduler, move |scheduler| scheduler.step(at)).await {
            Some(stepped) => stepped,
            None => return,
        };
        scheduler = returned;
        let pause = match step {
            Ok(NextStep::WaitUntil(next)) => next.since(now()).min(MAX_SLEEP),
            Ok(NextStep::Nothing) => MAX_SLEEP,
            Ok(NextStep::WaitForRun) => POLL_INTERVAL,
            Ok(NextStep::Missed(until)) => {
                runs.report(ScheduleNotice::Missed { plan: &plan, until });
                continue;
            }
            Ok(step @ (NextStep::Start(..) | NextStep::Resume(..))) => {
                let is_resumed = matches!(step, NextStep::Resume(..));
                let (NextStep::Start(run, occurrence) | NextStep::Resume(run, occurrence)) = step else { continue };
                runs.report(ScheduleNotice::Starting { plan: &plan, run: &run, occurrence, is_resumed });
                let started = match is_resumed {
                    true => runs.resume(&run).await,
                    false => runs.start(&plan, &run).await,
                };
                let Err(error) = started else {
                    failures = None;
                    continue;
                };
                let count = failures.filter(|(failed, _)| *failed == run).map_or(1, |(_, count)| count + 1);
                failures = Some((run.clone(), count));
                if count >= MAX_ATTEMPTS {
                    let Some(returned) = give_up(scheduler, (&run, occurrence), error, &*runs).await else { return };
                    scheduler = returned;
                }
                POLL_INTERVAL * count
            }
            Err(error) => {
                runs.report(ScheduleNotice::JournalFailed { error: &error });
                POLL_INTERVAL
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Gives up the run of an occurrence, unless another process has it by now.
async fn give_up(
    scheduler: PlanScheduler,
    (run, occurrence): (&RunId, Timestamp),
    error: StartError,
    runs: &dyn ScheduledRuns,
) -> Option<PlanScheduler> {
    let plan = scheduler.path.clone();
    runs.report(ScheduleNotice::Failed { plan: &plan, run, reason: &error.to_string() });
    let (scheduler, given_up) = blocking(scheduler, move |scheduler| scheduler.give_up(occurrence)).await?;
    if let Err(error) = given_up {
        runs.report(ScheduleNotice::JournalFailed { error: &error });
    }
    Some(scheduler)
}

/// Uses the journal on a thread that may block. Returns `None` after a panic.
async fn blocking<T: Send + 'static>(
    mut scheduler: PlanScheduler,
    work: impl FnOnce(&mut PlanScheduler) -> Result<T, JournalError> + Send + 'static,
) -> Option<(PlanScheduler, Result<T, JournalError>)> {
    let working = tokio::task::spawn_blocking(move || {
        let result = work(&mut scheduler);
        (scheduler, result)
    });
    working.await.inspect_err(|error| tracing::error!(%error, "a schedule stopped (this is a bug in kapell)")).ok()
}
