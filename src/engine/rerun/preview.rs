//! Decides which tasks a rerun repeats, before anything starts.
//!
//! A task is unchanged if its call or prompt, its condition, and its list are the same, and the inputs that they use. Its
//! other keys (such as `title`, `retry`, `timeout`, `on_failure`, `approve`, and `needs`) do not affect a result that is
//! there already. A further route does not count either, as long as the task still has the route that returned the result.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::engine::state::run::{NewRun, Run};
use crate::engine::state::run_state::State;
use crate::expression;
use crate::model::{
    AgentId, Effect, Foreach, GraphError, Group, NodeIndex, NodeKind, Prompt, PromptSource, RunId, Task, TaskId,
    Template, Timestamp, ToolOutput, Work,
};

/// The parameters of a rerun.
#[derive(Debug)]
pub struct Rerun {
    /// The ID of the earlier run.
    pub earlier_id: RunId,
    /// The earlier run. It has ended.
    pub earlier: Run,
    /// The planned task from which on everything is repeated. Without one, only tasks that have no result or have changed
    /// are repeated, and those after them.
    pub from: Option<TaskId>,
    /// Whether `at_most_once` calls that succeeded may be repeated.
    pub repeats: RepeatPolicy,
    /// The new run. Its plan is the current plan of the earlier run, or a changed one. It plans no goal.
    pub new_run: NewRun,
}

impl Rerun {
    /// Changes the results of the earlier run that the new one may keep.
    pub fn change_outputs(&mut self, mut change: impl FnMut(&mut Arc<ToolOutput>)) {
        self.earlier.change_outputs(&mut change);
    }
}

/// The policy for `at_most_once` calls that succeeded in the earlier run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RepeatPolicy {
    /// A rerun that would repeat one is refused.
    #[default]
    Refuse,
    /// A person accepted that they are repeated.
    Allow,
}

/// What a rerun does with each task, in the order of the new plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RerunPreview {
    /// The tasks of the new plan.
    pub tasks: Vec<(TaskId, RerunDecision)>,
    /// The tasks of the earlier run that the new plan does not have.
    pub removed: Vec<TaskId>,
    /// The tasks with `at_most_once` calls that succeeded and would be repeated.
    pub repeated_effects: Vec<TaskId>,
}

/// What a rerun does with a task, and why.
#[derive(Debug, Clone, PartialEq)]
pub enum RerunDecision {
    /// It keeps its result.
    Reused,
    /// It keeps its result although a task before it is repeated: its call must not be repeated.
    NotRepeated,
    /// It is repeated because it has no result.
    Unfinished,
    /// It is repeated because a person named it.
    Requested,
    /// It is repeated because it has changed.
    Changed(Vec<ChangedPart>),
    /// It is run because the earlier run did not have it.
    New,
    /// It is repeated because it comes after this task.
    After(TaskId),
}

impl RerunDecision {
    /// Returns whether the task is run.
    pub fn is_repeated(&self) -> bool {
        !matches!(self, Self::Reused | Self::NotRepeated)
    }
}

/// A part of a task that determines its result, and has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedPart {
    /// The agent, the tool, or the arguments.
    Call,
    /// The prompt.
    Prompt,
    /// The tasks of a group or a plan, or another step.
    Steps,
    /// The condition.
    Condition,
    /// The list of a `foreach` task.
    Items,
    /// The value of an input that the task uses.
    Input(String),
}

impl fmt::Display for ChangedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call => f.write_str("its call"),
            Self::Prompt => f.write_str("its prompt"),
            Self::Steps => f.write_str("its steps"),
            Self::Condition => f.write_str("`if`"),
            Self::Items => f.write_str("`foreach`"),
            Self::Input(name) => write!(f, "the input `{name}`"),
        }
    }
}

/// The reason why a run cannot be repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RerunError {
    /// The plan does not have the task.
    #[error("the plan of run `{of}` has no task `{task}`; it has {}{}", id_list(.tasks), rerun_hint(.task))]
    UnknownTask {
        /// The earlier run.
        of: RunId,
        /// The unknown task.
        task: TaskId,
        /// The tasks of the plan.
        tasks: Vec<TaskId>,
    },
    /// Calls would be repeated that must not be.
    #[error("`at_most_once` calls that succeeded in run `{of}` would be repeated: {}", id_list(.tasks))]
    RepeatsEffects {
        /// The earlier run.
        of: RunId,
        /// The tasks of the calls.
        tasks: Vec<TaskId>,
    },
    /// The tasks of the plan do not form a valid graph.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// Returns a hint to name the planned task instead of an item or a call.
fn rerun_hint(task: &TaskId) -> String {
    if task.is_planned() {
        return String::new();
    }
    format!("; `--from {}` reruns the items that did not succeed", task.planned_task())
}

fn id_list(tasks: &[TaskId]) -> String {
    tasks.iter().map(|task| format!("`{task}`")).collect::<Vec<_>>().join(", ")
}

impl Rerun {
    /// Decides which tasks the rerun repeats. Starts nothing.
    ///
    /// # Errors
    /// Returns an error if the rerun is not possible.
    pub fn preview(&self) -> Result<RerunPreview, RerunError> {
        self.preview_of(&Run::new(&self.new_run, Timestamp::default())?)
    }

    /// Does the same with the new run, which has only its planned tasks so far.
    pub(super) fn preview_of(&self, run: &Run) -> Result<RerunPreview, RerunError> {
        let Self { earlier_id: of, from, repeats, .. } = self;
        if let Some(task) = from.as_ref().filter(|from| run.graph.node_index(from.as_str()).is_none()) {
            let tasks = run.graph.nodes().map(|(_, node)| node.id.clone()).collect();
            return Err(RerunError::UnknownTask { of: of.clone(), task: task.clone(), tasks });
        }
        let preview = run.rerun_preview(&self.earlier, from.as_ref());
        match repeats {
            RepeatPolicy::Refuse if !preview.repeated_effects.is_empty() => {
                Err(RerunError::RepeatsEffects { of: of.clone(), tasks: preview.repeated_effects })
            }
            _ => Ok(preview),
        }
    }
}

impl State {
    /// Decides for each planned task of this run, which has not started, whether it is repeated.
    fn rerun_preview(&self, earlier: &Run, from: Option<&TaskId>) -> RerunPreview {
        let task = |node: NodeIndex| &*self.graph[node].task;
        let earlier_node =
            |node| earlier.graph.node_index(task(node).id.as_str()).filter(|node| earlier.is_planned(*node));
        let reason = |node: NodeIndex| {
            let now = task(node);
            let Some(before) = earlier_node(node) else { return Some(RerunDecision::New) };
            let changes = self.changed_parts(now, (earlier, before));
            if Some(&now.id) == from {
                Some(RerunDecision::Requested)
            } else if !changes.is_empty() {
                Some(RerunDecision::Changed(changes))
            } else {
                (!earlier.has_succeeded(before)).then_some(RerunDecision::Unfinished)
            }
        };
        let mut decisions: Vec<Option<RerunDecision>> = self.graph.nodes().map(|(node, _)| reason(node)).collect();
        // Only a person who names a task chooses to repeat calls after it that succeeded.
        let is_kept = |node: NodeIndex| {
            let before = earlier_node(node);
            from.is_none() && before.is_some_and(|before| self.is_at_most_once_call(node, (earlier, before)))
        };
        let has_reason = |(node, _): &(NodeIndex, _)| decisions[node.index()].is_some();
        let mut queue: VecDeque<NodeIndex> = self.graph.nodes().filter(has_reason).map(|(node, _)| node).collect();
        while let Some(cause) = queue.pop_front() {
            for node in self.graph.dependents(cause) {
                let decision = &mut decisions[node.index()];
                if decision.is_some() {
                    continue;
                }
                let kept = is_kept(node);
                *decision = Some(match kept {
                    true => RerunDecision::NotRepeated,
                    false => RerunDecision::After(task(cause).id.clone()),
                });
                if !kept {
                    queue.push_back(node);
                }
            }
        }
        let decision = |decision: Option<RerunDecision>| decision.unwrap_or(RerunDecision::Reused);
        let decisions: Vec<RerunDecision> = decisions.into_iter().map(decision).collect();
        let is_repeated_effect = |(node, _): &(NodeIndex, _)| {
            let decision = &decisions[node.index()];
            // Items of a list keep their results as long as their calls are the same.
            let has_same_items = task(*node).foreach.is_some()
                && !matches!(decision, RerunDecision::Changed(parts) if parts.contains(&ChangedPart::Call));
            let before = earlier_node(*node).filter(|_| decision.is_repeated() && !has_same_items);
            before.is_some_and(|before| {
                earlier.has_successful_call(before) && self.is_at_most_once_call(*node, (earlier, before))
            })
        };
        let repeated = self.graph.nodes().filter(is_repeated_effect);
        let repeated_effects = repeated.map(|(node, _)| task(node).id.clone()).collect();
        let removed = earlier.planned_tasks().filter(|task| self.graph.node_index(task.id.as_str()).is_none());
        RerunPreview {
            removed: removed.map(|task| task.id.clone()).collect(),
            tasks: self.graph.nodes().map(|(node, _)| task(node).id.clone()).zip(decisions).collect(),
            repeated_effects,
        }
    }

    /// Returns the parts of a task that have changed since the earlier run.
    fn changed_parts(&self, now: &Task, (earlier, node): (&Run, NodeIndex)) -> Vec<ChangedPart> {
        let before = &*earlier.graph[node].task;
        let mut parts = Vec::new();
        let list = |task: &Task| {
            task.foreach.as_deref().map(|Foreach { items, binding, .. }| (items.clone(), binding.clone()))
        };
        if before.condition != now.condition {
            parts.push(ChangedPart::Condition);
        }
        if list(before) != list(now) {
            parts.push(ChangedPart::Items);
        }
        if before.repeat != now.repeat {
            parts.push(ChangedPart::Steps);
        }
        match (&before.work, &now.work) {
            (Work::Call(before_call), Work::Call(call)) => {
                let is_same = before_call.operation == call.operation
                    && before_call.arguments == call.arguments
                    && before_call.awaits == call.awaits
                    && earlier.agents_with_results(node).all(|agent| keeps_route(before, now, agent));
                if !is_same {
                    parts.push(ChangedPart::Call);
                }
            }
            (Work::Prompt(before), Work::Prompt(prompt)) | (Work::Synthesis(before), Work::Synthesis(prompt)) => {
                if !is_same_prompt(before, prompt) {
                    parts.push(ChangedPart::Prompt);
                }
            }
            (before, now) if before == now => {}
            (_, Work::Group(_) | Work::Ask(_) | Work::Wait(_) | Work::Stop(_)) => parts.push(ChangedPart::Steps),
            (_, Work::Call(_)) => parts.push(ChangedPart::Call),
            (_, Work::Prompt(_) | Work::Synthesis(_)) => parts.push(ChangedPart::Prompt),
        }
        let changed_inputs = changed_names(&earlier.inputs, &self.inputs);
        let used = changed_inputs.into_iter().filter(|name| uses_input(now, name));
        parts.extend(used.map(|name| ChangedPart::Input(name.to_owned())));
        parts
    }

    /// Returns the agents whose results a task of this run has.
    fn agents_with_results(&self, node: NodeIndex) -> impl Iterator<Item = &AgentId> {
        self.calls_of(node).filter_map(|node| {
            let entry = &self.tasks[node.index()];
            entry.output().and(entry.agent.as_ref())
        })
    }

    /// Returns whether a task of this run, or one of its items, has a result.
    fn has_successful_call(&self, node: NodeIndex) -> bool {
        self.calls_of(node).any(|node| self.has_succeeded(node))
    }

    /// Returns the items of a `foreach` task, or the task itself.
    fn calls_of(&self, node: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        let items = self.tasks[node.index()].items.clone();
        let itself = self.graph[node].task.foreach.is_none().then_some(node);
        items.map(NodeIndex::new).chain(itself)
    }

    /// Returns whether a task calls a tool whose repetition may have another effect. What the plan says now counts, and what
    /// the agent said in the earlier run.
    fn is_at_most_once_call(&self, node: NodeIndex, (earlier, before): (&Run, NodeIndex)) -> bool {
        let task = &self.graph[node].task;
        if !matches!(task.work, Work::Call(_)) || task.operation().guaranteed_effect().is_some() {
            return false;
        }
        let agent = earlier.agents_with_results(before).next();
        let used = task.routes().iter().find(|route| agent == Some(&route.agent));
        let Some(route) = used.or(task.routes().first()) else { return false };
        let policy = self.agents.get(&route.agent).and_then(|agent| agent.policy.effect);
        let claimed = || earlier.agents.get(&route.agent)?.last_info.as_ref()?.tool(&route.tool)?.effect;
        task.effect.or(policy).or_else(claimed).unwrap_or(Effect::AtMostOnce) == Effect::AtMostOnce
    }

    pub(super) fn has_succeeded(&self, node: NodeIndex) -> bool {
        self.tasks[node.index()].output().is_some()
    }

    pub(super) fn is_planned(&self, node: NodeIndex) -> bool {
        self.graph[node].kind == NodeKind::Planned && !self.replans.removed.contains(&node)
    }
}

/// Returns whether a task still has a route to this agent and the same tool.
pub(super) fn keeps_route(before: &Task, now: &Task, agent: &AgentId) -> bool {
    let mut used = before.routes().iter().filter(|route| route.agent == *agent);
    used.any(|used| now.routes().iter().any(|route| route.agent == used.agent && route.tool == used.tool))
}

/// Returns whether two prompts differ only in their limits.
fn is_same_prompt(before: &Prompt, now: &Prompt) -> bool {
    let Prompt { max_turns, max_tokens, .. } = *before;
    *before == Prompt { max_turns, max_tokens, ..now.clone() }
}

/// Returns the names whose values differ.
fn changed_names<'v>(before: &'v Value, now: &'v Value) -> Vec<&'v str> {
    let names = |value: &'v Value| value.as_object().into_iter().flat_map(|members| members.keys().map(String::as_str));
    let value = |values: &'v Value, name: &str| values.get(name).filter(|value| !value.is_null());
    let added = names(now).filter(|name| before.get(*name).is_none());
    names(before).chain(added).filter(|name| value(before, name) != value(now, name)).collect()
}

/// Returns whether the call, the prompt, the condition, or the list of a task uses an input.
fn uses_input(task: &Task, name: &str) -> bool {
    let mut templates: Vec<&Template> = task.foreach.iter().map(|list| &list.items).chain(task.arguments()).collect();
    match &task.work {
        Work::Group(group) => {
            let Group { tasks, outputs, plan } = &**group;
            match plan {
                // The tasks of another plan see its own inputs.
                Some(plan) => templates.push(&plan.arguments),
                None if tasks.iter().any(|task| uses_input(task, name)) => return true,
                None => templates.extend(outputs.iter().flat_map(|outputs| outputs.values())),
            }
        }
        Work::Ask(ask) => templates.push(&ask.message),
        Work::Wait(wait) => templates.push(wait.template()),
        Work::Stop(stop) => {
            templates.extend(stop.message.iter().chain(stop.outputs.iter().flat_map(|outputs| outputs.values())));
        }
        Work::Call(_) | Work::Prompt(_) | Work::Synthesis(_) => {}
    }
    if let Some(Prompt { system, source, .. }) = task.prompt() {
        templates.extend(system);
        templates.push(match source {
            PromptSource::Prompt(question) => question,
            PromptSource::UsePrompt(prompt) => &prompt.arguments,
        });
    }
    let conditions = task.condition.iter().chain(task.repeat.as_ref().map(|repeat| &repeat.until));
    conditions.into_iter().any(|condition| expression::uses_input(&condition.0, name))
        || templates.into_iter().any(|template| expression::template_uses_input(template, name))
}
