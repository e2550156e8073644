//! The results of tasks and items, which are the part of the view that a run returns.

use std::sync::Arc;

use crate::engine::synthesis::unfinished::UnfinishedTask;
use crate::model::{AgentId, IdHashMap, Outcome, Plan, RunStatus, Task, TaskId, ToolOutput};
use crate::view::run_result::{RunResult, TaskResult, TaskStatus};

/// The results of the tasks of a run. Results share the outputs of events and do not copy them.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskResults {
    pub(super) result: RunResult,
    /// Items and iterations by ID, each with its task and its index.
    items: IdHashMap<TaskId, (TaskId, usize)>,
    /// The tasks of groups by ID, each with its group and its ID within the group.
    members: IdHashMap<TaskId, (TaskId, TaskId)>,
    /// The calls of prompts by ID. Empty unless the history is recorded.
    pub(super) calls: IdHashMap<TaskId, TaskResult>,
    /// The number of calls of each prompt.
    call_counts: IdHashMap<TaskId, usize>,
    /// The failures that triggered the last replan.
    pub(super) replan_causes: Vec<TaskId>,
}

impl TaskResults {
    pub(super) fn run_started(&mut self, plan: &Plan) {
        self.result.tasks = unstarted_results(&plan.tasks).collect();
        self.mark_needed(&plan.tasks);
        self.result.synthesis = plan.synthesis().map(|task| task.id.clone());
        self.result.missing.clone_from(&plan.missing);
    }

    pub(super) fn run_resumed(&mut self) {
        self.result.status = RunStatus::Running;
        self.result.cause = None;
        self.result.outputs.clear();
        self.result.not_done.clear();
        self.result.verified = None;
        self.result.problems.clear();
        self.result.output_errors.clear();
    }

    /// Sets whether the synthesized answer agrees with the results.
    pub(super) fn run_ended(&mut self) {
        let result = &mut self.result;
        let answer = result.synthesis.as_ref().and_then(|id| result.tasks.get(id)?.output.as_ref());
        let Some(answer) = answer else { return };
        result.verified = Some(answer.unverified.is_none());
        result.problems = answer.unverified.as_deref().unwrap_or_default().to_vec();
    }

    /// Counts an attempt of a task, and of the `foreach` task that it is an item of.
    pub(super) fn attempt_started(&mut self, task: &TaskId, number: u32, route: Option<(&AgentId, &Arc<str>)>) {
        let Some(result) = self.task_mut(task) else { return };
        let more = number.saturating_sub(result.attempts);
        result.status = TaskStatus::Running;
        result.attempts += more;
        if let Some((agent, tool)) = route {
            result.agent = Some(agent.clone());
            result.tool = Some(Arc::clone(tool));
        }
        let mut part = task.clone();
        while let Some(parent) = self.parent_id(&part) {
            if let Some(parent) = self.task_mut(&parent) {
                parent.attempts += more;
            }
            part = parent;
        }
    }

    /// Marks a task that waits for an event as running.
    pub(super) fn started(&mut self, task: &TaskId) {
        if let Some(result) = self.task_mut(task) {
            result.status = TaskStatus::Running;
        }
    }

    /// Adds the tasks of a group.
    pub(super) fn group_started(&mut self, task: &TaskId, members: &[Arc<Task>]) {
        let Some(result) = self.task_mut(task) else { return };
        result.status = TaskStatus::Running;
        result.tasks = Some(unstarted_results(members).collect());
        self.members.extend(members.iter().map(|member| (task.member(&member.id), (task.clone(), member.id.clone()))));
    }

    /// Adds the next iteration of a `repeat` task, and returns its ID.
    pub(super) fn iteration_added(&mut self, parent: &TaskId) -> Option<TaskId> {
        let result = self.task_mut(parent)?;
        result.status = TaskStatus::Running;
        let iterations = result.items.get_or_insert_default();
        iterations.push(TaskResult::default());
        let index = iterations.len() - 1;
        let id = parent.item(index);
        self.items.insert(id.clone(), (parent.clone(), index));
        Some(id)
    }

    pub(super) fn attempt_succeeded(&mut self, task: &TaskId, output: &Arc<ToolOutput>) {
        let Some(result) = self.task_mut(task) else { return };
        result.status = TaskStatus::Succeeded;
        result.warning.clone_from(&output.warning);
        result.output = Some(Arc::clone(output));
    }

    pub(super) fn reused(&mut self, task: &TaskId, agent: Option<&AgentId>, output: &Arc<ToolOutput>) {
        let Some(result) = self.task_mut(task) else { return };
        result.agent = agent.cloned();
        result.reused = true;
        set_outcome(result, &Outcome::Succeeded(Arc::clone(output)));
    }

    pub(super) fn ended(&mut self, task: &TaskId, outcome: &Outcome) {
        if let Some(result) = self.task_mut(task) {
            set_outcome(result, outcome);
        }
    }

    /// Adds the tasks of a patch; a synthesis stays last.
    pub(super) fn replanned(&mut self, number: u32, added: &[Arc<Task>]) {
        let RunResult { tasks, synthesis, .. } = &mut self.result;
        tasks.extend(unstarted_results(added));
        if let Some(index) = synthesis.as_ref().and_then(|id| tasks.get_index_of(id)) {
            tasks.move_index(index, tasks.len() - 1);
        }
        self.mark_needed(added);
        for id in std::mem::take(&mut self.replan_causes) {
            if let Some(task) = self.result.tasks.get_mut(&id) {
                task.replanned = Some(number);
            }
        }
    }

    pub(super) fn items_added(&mut self, parent: &TaskId, count: usize) {
        if let Some(task) = self.task_mut(parent) {
            task.status = TaskStatus::Running;
            task.items = Some(vec![TaskResult::default(); count]);
            self.items.extend((0..count).map(|index| (parent.item(index), (parent.clone(), index))));
        }
    }

    /// Adds calls that a prompt makes.
    pub(super) fn calls_added(&mut self, parent: &TaskId, count: usize) {
        let known = self.call_counts.entry(parent.clone()).or_default();
        let added = (*known + 1..).take(count).map(|number| (parent.tool_call(number), TaskResult::default()));
        self.calls.extend(added);
        *known += count;
    }

    /// Marks the tasks whose results these tasks use.
    fn mark_needed(&mut self, tasks: &[Arc<Task>]) {
        for need in tasks.iter().filter(|task| !task.is_synthesis()).flat_map(|task| &task.needs) {
            if let Some(needed) = self.result.tasks.get_mut(need) {
                needed.is_needed = true;
            }
        }
    }

    /// Returns the tasks that a synthesis must not claim to be done.
    pub(super) fn unfinished_tasks(&self) -> Vec<UnfinishedTask> {
        let Some(synthesis) = &self.result.synthesis else { return Vec::new() };
        let others = self.result.tasks.iter().filter(|(id, _)| *id != synthesis);
        others
            .filter_map(|(id, task)| match (&task.error, &task.skipped_because) {
                _ if task.status == TaskStatus::Succeeded => None,
                (Some(failure), _) => Some(UnfinishedTask::failed(id, failure)),
                (_, Some(reason)) => UnfinishedTask::skipped(id, reason),
                _ => Some(UnfinishedTask::cancelled(id)),
            })
            .collect()
    }

    /// Returns a task, an item, or a call of a prompt; `None` for an unknown ID.
    pub(super) fn task_mut(&mut self, id: &TaskId) -> Option<&mut TaskResult> {
        if let Some((parent, index)) = self.items.get(id).cloned() {
            return self.task_mut(&parent)?.items.as_mut()?.get_mut(index);
        }
        if let Some((group, name)) = self.members.get(id).cloned() {
            return self.task_mut(&group)?.tasks.as_mut()?.get_mut(&name);
        }
        if let Some(call) = self.calls.get_mut(id) {
            return Some(call);
        }
        self.result.tasks.get_mut(id)
    }

    /// Returns the task that an item, an iteration, or a task of a group belongs to.
    fn parent_id(&self, id: &TaskId) -> Option<TaskId> {
        let of_list = self.items.get(id).map(|(parent, _)| parent);
        of_list.or_else(|| self.members.get(id).map(|(group, _)| group)).cloned()
    }
}

/// Returns the results of tasks that have not started.
fn unstarted_results(tasks: &[Arc<Task>]) -> impl Iterator<Item = (TaskId, TaskResult)> {
    let unstarted = |title: &Option<String>, foreach: bool| TaskResult {
        title: title.clone(),
        items: foreach.then(Vec::new),
        ..TaskResult::default()
    };
    tasks.iter().map(move |task| {
        let is_list = task.foreach.is_some() || task.repeat.is_some();
        (task.id.clone(), unstarted(&task.title, is_list))
    })
}

fn set_outcome(task: &mut TaskResult, outcome: &Outcome) {
    match outcome {
        Outcome::Succeeded(output) => {
            task.status = TaskStatus::Succeeded;
            // The answers of a `foreach` task are those of its items.
            let has_own = task.items.is_none() || **output != ToolOutput::default();
            task.output = has_own.then(|| Arc::clone(output));
            task.warning.clone_from(&output.warning);
        }
        Outcome::Failed(failure) => {
            task.status = TaskStatus::Failed;
            task.error = Some(Box::new(failure.clone()));
        }
        Outcome::Skipped(reason) => {
            task.status = TaskStatus::Skipped;
            task.skipped_because = Some(reason.clone());
        }
        Outcome::Cancelled => task.status = TaskStatus::Cancelled,
    }
}
