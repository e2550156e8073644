//! Begins a run that takes over the results of an earlier one and does again what comes after a task.
//! Never changes the earlier run.

use std::{collections::VecDeque, sync::Arc};

use crate::model::{Event, GraphError, NodeIndex, Outcome, Part, Plan, Record, RunId, Task, TaskId, Timestamp, Work};

use super::{
    decide::{Decision, Step},
    run::{Run, TaskState},
};

/// Which run is begun again, and where.
#[derive(Debug, Clone, Copy)]
pub struct Rerun<'a> {
    /// The earlier run's id.
    pub of: &'a RunId,
    /// The earlier run.
    pub earlier: &'a Run,
    /// The task of its plan from which on everything is done again.
    pub from: &'a TaskId,
    /// The seed of the new run's delays.
    pub seed: u64,
}

/// Why a run cannot be begun again from a task.
#[derive(Debug, thiserror::Error)]
pub enum RerunError {
    /// The plan has no such task.
    #[error("the plan of run `{of}` has no task `{task}`; it has {}", list(.tasks))]
    UnknownTask {
        /// The earlier run.
        of: RunId,
        /// What was named.
        task: TaskId,
        /// The tasks that it has.
        tasks: Vec<TaskId>,
    },
    /// The plan is no graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

fn list(tasks: &[TaskId]) -> String {
    tasks.iter().map(|task| format!("`{task}`")).collect::<Vec<_>>().join(", ")
}

impl Run {
    /// Begins a run of the same plan with the same inputs. Tasks that succeeded and that neither are `from` nor come
    /// after it, or after a task without a result, have their results from the earlier run; all others are done.
    ///
    /// # Errors
    /// When the plan has no task `from`.
    pub fn rerun(rerun: Rerun<'_>, now: Timestamp) -> Result<(Self, Step), RerunError> {
        let Rerun { of, earlier, from, seed } = rerun;
        let again = earlier.what_is_done_again(earlier.planned(of, from)?);
        let plan = Arc::new(earlier.plan_as_it_became());
        let mut run = Self::new(&plan, &earlier.inputs, seed, now)?;
        run.source.clone_from(&earlier.source);
        let (inputs, source) = (Arc::clone(&earlier.inputs), earlier.source.clone());
        let mut decision = Decision::new(&mut run, now);
        let started = Event::RunStarted { plan, inputs, seed, source };
        decision.record(Record { seq: 0, at: now, event: started });
        decision.emit(Event::RunRerun { of: of.clone(), from: from.clone() });
        for (node, _) in earlier.graph.nodes() {
            if earlier.is_planned(node) && !again[node.index()] {
                decision.take_over(earlier, node);
            }
        }
        decision.advance();
        let step = decision.into_step();
        Ok((run, step))
    }

    /// Whether the run, whose id is `of`, can be begun again from the task `from`.
    ///
    /// # Errors
    /// When the plan has no such task.
    pub fn check_rerun(&self, of: &RunId, from: &TaskId) -> Result<(), RerunError> {
        self.planned(of, from).map(drop)
    }

    /// The node of a task of the plan.
    fn planned(&self, of: &RunId, task: &TaskId) -> Result<NodeIndex, RerunError> {
        let node = self.graph.find(task.as_str()).filter(|node| self.is_planned(*node));
        node.ok_or_else(|| RerunError::UnknownTask {
            of: of.clone(),
            task: task.clone(),
            tasks: self.planned_tasks().map(|task| task.id.clone()).collect(),
        })
    }

    /// The tasks of the plan, with those that a replan has added and without those that it has removed.
    fn planned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.graph.nodes().filter(|(node, _)| self.is_planned(*node)).map(|(_, planned)| &planned.task)
    }

    fn is_planned(&self, node: NodeIndex) -> bool {
        self.graph[node].part == Part::Planned && !self.replans.removed.contains(&node)
    }

    /// The plan with what replans have made of it.
    fn plan_as_it_became(&self) -> Plan {
        let mut plan = (*self.plan).clone();
        plan.agents = self.agents.iter().map(|(id, agent)| (id.clone(), agent.policy.clone())).collect();
        plan.tasks = self.planned_tasks().cloned().collect();
        let others: Vec<TaskId> = plan
            .tasks
            .iter()
            .filter(|task| !matches!(task.work, Work::Synthesis(_)))
            .map(|task| task.id.clone())
            .collect();
        for task in &mut plan.tasks {
            if matches!(task.work, Work::Synthesis(_)) {
                Arc::make_mut(task).needs.clone_from(&others);
            }
        }
        plan
    }

    /// By node index: whether the node is done again.
    fn what_is_done_again(&self, start: NodeIndex) -> Vec<bool> {
        let mut again = vec![false; self.graph.len()];
        let has_no_result = |node: &NodeIndex| {
            !matches!(self.tasks[node.index()].state, TaskState::Ended(Outcome::Succeeded(_))) && self.is_planned(*node)
        };
        let mut queue: VecDeque<NodeIndex> = self.graph.nodes().map(|(node, _)| node).filter(has_no_result).collect();
        queue.push_back(start);
        while let Some(node) = queue.pop_front() {
            if !std::mem::replace(&mut again[node.index()], true) {
                queue.extend(self.graph.dependents(node));
            }
        }
        again
    }
}

impl Decision<'_> {
    /// Takes over the result of a planned task, and those of its items.
    fn take_over(&mut self, earlier: &Run, node: NodeIndex) {
        let entry = &earlier.tasks[node.index()];
        let id = &earlier.graph[node].id;
        let items = entry.items.clone().map(NodeIndex::new);
        if earlier.graph[node].task.foreach.is_some() {
            let values = items.clone().next().and_then(|item| Some(Arc::clone(&earlier.graph[item].item()?.values)));
            self.emit(Event::TasksAdded { parent: id.clone(), items: values.unwrap_or_default() });
        }
        for node in items.chain([node]) {
            let entry = &earlier.tasks[node.index()];
            let task = earlier.graph[node].id.clone();
            match &entry.state {
                TaskState::Ended(Outcome::Succeeded(output)) => {
                    let (agent, output) = (entry.agent.clone(), Arc::clone(output));
                    self.emit(Event::TaskReused { task, agent, output });
                }
                TaskState::Ended(outcome) => self.emit(Event::TaskEnded { task, outcome: outcome.clone() }),
                _ => {}
            }
        }
    }
}
