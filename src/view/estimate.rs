//! Estimates how long a run still takes, from the tasks and items that it has finished.

use std::time::Duration;

use super::RunView;
use super::run_view::{RunningCall, WaitingOn, WorkPool};
use crate::model::{TaskId, Timestamp};

/// The minimum number of finished tasks or items that an estimate is based on.
const MIN_TIMED: u32 = 3;

/// The part of the work that must be finished before an estimate: one twentieth.
const MIN_FINISHED_PART: usize = 20;

/// The part of the remaining work that may be of an unknown kind: one tenth.
const MAX_UNKNOWN_PART: usize = 10;

/// Returns the estimated time until the run ends, or `None` if too little is known: few tasks or items have finished, the
/// number of items is unknown, or nothing is in progress.
pub fn remaining_time(view: &RunView, now: Timestamp) -> Option<Duration> {
    let progress = view.progress();
    if progress.has_unknown_items() {
        return None;
    }
    let groups = progress.groups().iter().map(|(id, pool)| (Some(id), pool));
    let pools: Vec<_> = std::iter::once((None, progress.tasks())).chain(groups).collect();
    let remaining: usize = pools.iter().map(|(_, pool)| pool.remaining()).sum();
    let timed: u32 = pools.iter().map(|(_, pool)| pool.timed()).sum();
    if timed < MIN_TIMED || remaining == 0 {
        return None;
    }
    let overall = pools.iter().map(|(_, pool)| pool.time()).sum::<Duration>() / timed;
    let calls: Vec<_> = view.running();
    let (mut parallel, mut sequential) = (Duration::ZERO, Duration::ZERO);
    let mut is_working = false;
    for (group, pool) in pools.into_iter().filter(|(_, pool)| pool.remaining() > 0) {
        let mean = mean_time(pool, remaining, overall)?;
        let working: Vec<_> = calls.iter().filter(|(id, call)| belongs(view, id, call, group)).collect();
        let elapsed = working.iter().map(|(_, call)| now.since(call.started_at));
        let ahead: Vec<Duration> = elapsed.map(|elapsed| mean.saturating_sub(elapsed)).collect();
        let pending = u32::try_from(pool.remaining().saturating_sub(working.len())).unwrap_or(u32::MAX);
        let work = mean.saturating_mul(pending) + ahead.iter().sum::<Duration>();
        let needed = work.div_f64(pool.concurrency(now).max(1.0)).max(ahead.into_iter().max().unwrap_or_default());
        if working.is_empty() {
            sequential += needed;
        } else {
            is_working = true;
            parallel = parallel.max(needed);
        }
    }
    is_working.then_some(parallel + sequential)
}

/// Returns the average time of a task or item of the pool, or `None` if it is unknown.
fn mean_time(pool: &WorkPool, remaining: usize, overall: Duration) -> Option<Duration> {
    let is_small = pool.remaining() * MAX_UNKNOWN_PART <= remaining;
    let is_known = pool.timed() >= MIN_TIMED && pool.ended * MIN_FINISHED_PART >= pool.total;
    match pool.timed() {
        0 => is_small.then_some(overall),
        timed => (is_known || is_small).then(|| pool.time() / timed),
    }
}

/// Returns whether a call works for this group, or for no group.
fn belongs(view: &RunView, id: &TaskId, call: &RunningCall, group: Option<&TaskId>) -> bool {
    call.waiting_for != WaitingOn::Person && view.progress().group_of(id).map(|(group, _)| group) == group
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{self, SimulatedTask};

    /// Returns the estimate after each event of a run, with the time that it still took, in milliseconds.
    fn estimates(tasks: &[SimulatedTask], parallel: usize) -> Vec<(u64, u64)> {
        let records = samples::simulated_run(tasks, parallel);
        let end = records.last().expect("an end").at;
        let mut view = RunView::new(&"0190".into());
        let mut all = Vec::new();
        for record in &records {
            view.apply(record);
            if let Some(estimate) = remaining_time(&view, record.at) {
                all.push((u64::try_from(estimate.as_millis()).expect("small"), end.0 - record.at.0));
            }
        }
        all
    }

    /// Asserts that each estimate is within a factor of the truth, give or take a task.
    fn assert_close(estimates: &[(u64, u64)], factor: u64, tolerance: u64) {
        assert!(!estimates.is_empty());
        for (estimate, actual) in estimates {
            assert!(*estimate <= actual * factor + tolerance, "{estimate} is too much for {actual}: {estimates:?}");
            assert!(estimate * factor + tolerance >= *actual, "{estimate} is too little for {actual}: {estimates:?}");
        }
    }

    #[test]
    fn equal_tasks_are_estimated_from_the_first_finished_ones() {
        let all = estimates(&[SimulatedTask { millis: 1_000, items: None }; 64], 8);
        assert_close(&all, 1, 1_000);
        assert_eq!(all.first(), Some(&(7_000, 7_000)));
    }

    #[test]
    fn items_are_estimated_apart_from_other_tasks() {
        let plan = [
            SimulatedTask { millis: 5_000, items: None },
            SimulatedTask { millis: 200, items: Some(100) },
            SimulatedTask { millis: 1_000, items: None },
        ];
        assert_close(&estimates(&plan, 10), 2, 6_000);
        let read = estimates(&plan[..2], 10);
        assert_close(&read, 1, 200);
    }

    #[test]
    fn estimates_do_not_jump() {
        let uneven: Vec<_> =
            (0..60_u64).map(|n| SimulatedTask { millis: 500 + n * 7 % 13 * 100, items: None }).collect();
        let all = estimates(&uneven, 6);
        assert_close(&all, 2, 2_000);
        for pair in all.windows(2) {
            let (before, after) = (pair[0].0, pair[1].0);
            assert!(after <= before + before / 2 + 1_000, "{before} before {after}: {all:?}");
        }
    }

    #[test]
    fn nothing_is_estimated_without_enough_finished_work() {
        for run in [samples::many_started_tasks(50), samples::whole_run()] {
            let mut view = RunView::new(&"0190".into());
            for record in &run {
                view.apply(record);
                assert_eq!(remaining_time(&view, record.at.after(Duration::from_secs(60))), None);
            }
        }
    }
}
