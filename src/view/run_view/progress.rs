//! The work of a run, counted in tasks and items, with the time that it has needed so far.

use std::time::Duration;

use super::activity::{RunningCall, WaitingOn};
use crate::model::{IdHashMap, IdMap, Outcome, SkipReason, Task, TaskId, Timestamp};

/// The work of a run so far. The items of a `foreach` task replace the task once they are known.
///
/// A synthesis and the resources that expressions read are not counted, because no task of the plan file stands for them.
#[derive(Debug, Clone, Default)]
pub struct RunProgress {
    /// The tasks without those in `groups`.
    tasks: WorkPool,
    /// The `foreach` tasks whose items are known, in the order of their start.
    groups: IdMap<TaskId, WorkPool>,
    /// The `foreach` tasks whose items are not known yet.
    unexpanded: IdHashMap<TaskId, ()>,
    /// The time during which no process drove the run.
    downtime: Duration,
}

/// Work of one kind: the items of a `foreach` task, or all other tasks.
#[derive(Debug, Clone, Default)]
pub struct WorkPool {
    /// The number of tasks or items.
    pub total: usize,
    /// The number of those that have ended, whatever their outcome.
    pub ended: usize,
    /// The number of those that have failed.
    pub failed: usize,
    /// The number of calls that had started before the first of this pool.
    pub order: u64,
    /// The time when the items became known.
    pub started_at: Timestamp,
    /// Set once the `foreach` task has ended.
    pub has_ended: bool,
    /// The number of tasks or items whose time is known, and its sum.
    timed: u32,
    time: Duration,
    /// The number of calls in progress that do not wait for a person.
    working: u32,
    /// The time when `working` changed.
    changed_at: Timestamp,
    /// The time during which a call was in progress, and the sum of the times of all calls.
    active: Duration,
    busy: Duration,
}

impl WorkPool {
    /// Returns the number of tasks or items that have not ended.
    pub fn remaining(&self) -> usize {
        self.total.saturating_sub(self.ended)
    }

    /// Returns the number of tasks or items whose time is known.
    pub fn timed(&self) -> u32 {
        self.timed
    }

    /// Returns the sum of the known times.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the average number of calls in progress while there was one.
    pub fn concurrency(&self, now: Timestamp) -> f64 {
        let more = now.since(self.changed_at);
        let active = self.active + if self.working > 0 { more } else { Duration::ZERO };
        let busy = self.busy + more * self.working;
        if active.is_zero() { f64::from(self.working) } else { busy.as_secs_f64() / active.as_secs_f64() }
    }

    fn set_working(&mut self, working: u32, at: Timestamp) {
        let more = at.since(self.changed_at);
        if self.working > 0 {
            self.active += more;
            self.busy += more * self.working;
        }
        self.working = working;
        self.changed_at = at;
    }

    fn unit_ended(&mut self, has_failed: bool, time: Option<Duration>) {
        self.ended += 1;
        self.failed += usize::from(has_failed);
        if let Some(time) = time {
            self.timed += 1;
            self.time += time;
        }
    }
}

impl RunProgress {
    /// Returns the number of tasks and items that are known.
    pub fn total(&self) -> usize {
        self.pools().map(|pool| pool.total).sum()
    }

    /// Returns the number of tasks and items that have ended.
    pub fn ended(&self) -> usize {
        self.pools().map(|pool| pool.ended).sum()
    }

    /// Returns the number of tasks and items that have failed.
    pub fn failed(&self) -> usize {
        self.pools().map(|pool| pool.failed).sum()
    }

    /// Returns the `foreach` tasks whose items are known, in the order of their start.
    pub fn groups(&self) -> &IdMap<TaskId, WorkPool> {
        &self.groups
    }

    /// Returns the work that is not an item of a known group.
    pub fn tasks(&self) -> &WorkPool {
        &self.tasks
    }

    /// Returns whether the number of items of a `foreach` task is not known yet.
    pub fn has_unknown_items(&self) -> bool {
        !self.unexpanded.is_empty()
    }

    /// Returns the time during which no process drove the run.
    pub fn downtime(&self) -> Duration {
        self.downtime
    }

    fn pools(&self) -> impl Iterator<Item = &WorkPool> {
        std::iter::once(&self.tasks).chain(self.groups.values())
    }

    /// Returns the group that a task is an item of, or belongs to as a call of such an item.
    pub fn group_of(&self, id: &TaskId) -> Option<(&TaskId, &WorkPool)> {
        if id.is_planned() {
            return None;
        }
        self.groups.get_key_value(TaskId::planned_task_name(id.as_str()))
    }

    fn pool_of(&mut self, id: &TaskId) -> &mut WorkPool {
        if !id.is_planned()
            && let Some(group) = self.groups.get_mut(TaskId::planned_task_name(id.as_str()))
        {
            return group;
        }
        &mut self.tasks
    }

    pub(super) fn add_tasks<'t>(&mut self, tasks: impl IntoIterator<Item = &'t Task>) {
        for task in tasks.into_iter().filter(|task| is_counted(task)) {
            self.tasks.total += 1;
            if task.foreach.is_some() {
                self.unexpanded.insert(task.id.clone(), ());
            }
        }
    }

    /// Replaces a `foreach` task by its items.
    pub(super) fn items_added(&mut self, parent: &TaskId, items: usize, (order, at): (u64, Timestamp)) {
        if self.unexpanded.remove(parent).is_some() {
            self.tasks.total -= 1;
            let group = WorkPool { total: items, order, started_at: at, changed_at: at, ..WorkPool::default() };
            self.groups.insert(parent.clone(), group);
        }
    }

    pub(super) fn call_started(&mut self, task: &TaskId, at: Timestamp) {
        let pool = self.pool_of(task);
        pool.set_working(pool.working + 1, at);
    }

    /// Ends a call that was not waiting for a person.
    pub(super) fn call_ended(&mut self, task: &TaskId, at: Timestamp) {
        let pool = self.pool_of(task);
        pool.set_working(pool.working.saturating_sub(1), at);
    }

    /// Records the end of a task or an item; `call` is its last call, if it was in progress.
    pub(super) fn task_ended(&mut self, id: &TaskId, outcome: &Outcome, call: Option<&RunningCall>, at: Timestamp) {
        let time = call.filter(|call| !call.asked_person).map(|call| at.since(call.started_at));
        let has_failed = matches!(outcome, Outcome::Failed(_));
        if let Some(group) = self.groups.get_mut(id) {
            group.has_ended = true;
            // Items that never started have no event of their own.
            group.ended = group.total;
        } else if id.is_planned() {
            self.unexpanded.remove(id);
            let is_hook_without_cause = matches!(outcome, Outcome::Skipped(SkipReason::NotTriggered));
            if !id.is_resource_read() && !is_hook_without_cause && self.tasks.ended < self.tasks.total {
                self.tasks.unit_ended(has_failed, time);
            }
        } else if id.is_item_of_planned()
            && let Some(group) = self.groups.get_mut(TaskId::planned_task_name(id.as_str()))
        {
            group.unit_ended(has_failed, time);
        }
    }

    /// Restarts the clocks after a pause, with these calls in progress.
    pub(super) fn resumed<'c>(
        &mut self,
        downtime: Duration,
        at: Timestamp,
        calls: impl Iterator<Item = (&'c TaskId, &'c RunningCall)>,
    ) {
        self.downtime += downtime;
        for pool in std::iter::once(&mut self.tasks).chain(self.groups.values_mut()) {
            pool.working = 0;
            pool.changed_at = at;
        }
        for (task, call) in calls {
            if call.waiting_for != WaitingOn::Person {
                self.pool_of(task).working += 1;
            }
        }
    }

    /// Stops the clocks at the end of the run.
    pub(super) fn run_ended(&mut self, at: Timestamp) {
        self.tasks.set_working(0, at);
        self.groups.values_mut().for_each(|group| group.set_working(0, at));
    }
}

/// Returns whether a task counts as work that a person wrote into the plan.
pub(super) fn is_counted(task: &Task) -> bool {
    !task.is_synthesis() && !task.id.is_resource_read() && task.hook.is_none()
}
