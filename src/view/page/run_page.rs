//! The rows of a run, and what each event changes in them.

use std::sync::Arc;

use super::critical_path::critical_path;
use super::row_tree::{NewRow, RowEntry, RowStep, RowTree};
use super::segments::{SegmentKind, SegmentOutcome};
use super::task_row::{RowCounts, RowKind, RowProgress, RowState, TaskRow, only_route};
use crate::model::{
    AgentId, Effect, Event, IdHashMap, Outcome, PromptCall, QuestionId, Record, RequestId, RunId, Task, TaskId,
    Timestamp,
};
use crate::view::drawing::PlanDrawing;
use crate::view::run_view::{AgentConnection, AskedQuestion, RunView, WaitingOn};
use crate::view::text::truncated;

/// The rows of a run, its graph, and its view with the history.
#[derive(Debug, Clone)]
pub struct RunPage {
    view: RunView,
    /// The last event.
    seq: Option<u64>,
    rows: RowTree,
    /// The rows for which agents requested sampling.
    sampled: IdHashMap<RequestId, usize>,
    /// The event that changed the graph last.
    graph_changed: u64,
    questions_changed: IdHashMap<QuestionId, u64>,
    agents_changed: IdHashMap<AgentId, u64>,
}

/// What has changed since an event.
#[derive(Debug)]
pub struct PageChanges<'p> {
    /// The last event.
    pub seq: u64,
    /// The changed and the added rows, in the order in which they were added. An added row is shown after the other parts
    /// of its parent; one without a parent is shown after all others, but before a synthesis.
    pub rows: Vec<&'p TaskRow>,
    /// Set if the graph has changed.
    pub has_new_graph: bool,
    /// The changed questions.
    pub questions: Vec<&'p AskedQuestion>,
    /// The changed agents.
    pub agents: Vec<(&'p AgentId, &'p AgentConnection)>,
}

impl RunPage {
    /// Creates the page of a run without events.
    pub fn new(run: &RunId) -> Self {
        Self {
            view: RunView::with_history(run),
            seq: None,
            rows: RowTree::default(),
            sampled: IdHashMap::default(),
            graph_changed: 0,
            questions_changed: IdHashMap::default(),
            agents_changed: IdHashMap::default(),
        }
    }

    /// Returns the view of the run.
    pub fn view(&self) -> &RunView {
        &self.view
    }

    /// Returns the number of the last event, if there is one.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Returns the number of tasks and items by state, apart from synthesis, hooks, and the calls of prompts.
    pub fn counts(&self) -> RowCounts {
        self.rows.counts
    }

    /// Returns the rows in the order in which they are shown: each before its parts.
    pub fn rows(&self) -> impl Iterator<Item = &TaskRow> {
        self.rows.shown_order().into_iter().map(|index| &self.rows.entry(index).row)
    }

    /// Returns a row by its ID.
    pub fn row(&self, id: &TaskId) -> Option<&TaskRow> {
        self.rows.index(id).map(|index| &self.rows.entry(index).row)
    }

    /// Returns the graph of the planned tasks. It depends on the plan and its replans only.
    pub fn graph(&self) -> PlanDrawing {
        PlanDrawing::new(self.view.planned_tasks())
    }

    /// Returns what has changed since the event `since`.
    pub fn changes_since(&self, since: u64) -> PageChanges<'_> {
        let questions = self.view.questions();
        let has_changed = |asked: &&AskedQuestion| {
            self.questions_changed.get(&asked.question.id).is_some_and(|changed| *changed > since)
        };
        let agents = self.view.agents().iter();
        PageChanges {
            seq: self.seq.unwrap_or_default(),
            rows: self.rows.entries().filter(|entry| entry.changed > since).map(|entry| &entry.row).collect(),
            has_new_graph: self.graph_changed > since,
            questions: questions.filter(has_changed).collect(),
            agents: agents.filter(|(id, _)| self.agents_changed.get(*id).is_some_and(|at| *at > since)).collect(),
        }
    }

    /// Returns whether a question was asked, answered, or withdrawn since the event `since`.
    pub fn has_changed_questions(&self, since: u64) -> bool {
        self.questions_changed.values().any(|changed| *changed > since)
    }

    /// Applies the next event.
    pub fn apply(&mut self, record: &Record) {
        let before = self.view.last_event_at();
        self.view.apply(record);
        self.seq = Some(record.seq);
        let mut step = RowStep { seq: record.seq, at: record.at, before, touched: Vec::new() };
        self.apply_to_rows(&record.event, &mut step);
        for index in step.touched {
            self.refresh(index, record.seq);
        }
    }

    fn apply_to_rows(&mut self, event: &Event, step: &mut RowStep) {
        let at = step.at;
        match event {
            Event::RunStarted { plan, .. } => self.add_tasks(&plan.tasks, None, step),
            Event::Replanned { result: Ok(patch), .. } => self.add_tasks(&patch.added, None, step),
            Event::RunResumed { reattached, .. } => {
                let open = self.view.open_questions().map(|asked| (asked.question.id.clone(), step.seq));
                self.questions_changed.extend(open);
                let reattached: Vec<&TaskId> = reattached.iter().map(|attempt| &attempt.task).collect();
                (0..self.rows.len()).for_each(|index| self.resume(index, &reattached, step));
            }
            Event::RunEnded { status, .. } => {
                // They can no longer be answered, unless the run is resumed.
                let open = self.view.open_questions().map(|asked| (asked.question.id.clone(), step.seq));
                self.questions_changed.extend(open);
                for index in 0..self.rows.len() {
                    self.rows.entry_mut(index).segments.end(at, None);
                    step.touch(index);
                }
                if !status.is_unfinished() {
                    for index in critical_path(&self.rows) {
                        self.rows.entry_mut(index).row.is_critical = true;
                        self.rows.entry_mut(index).changed = step.seq;
                    }
                }
            }
            Event::TasksAdded { parent, items } => self.add_items(parent, items.len(), step),
            Event::IterationAdded { parent, ready_at } => self.add_iteration(parent, *ready_at, step),
            Event::GroupStarted { task, .. } => {
                let Some(index) = self.rows.index(task) else { return };
                self.begin(task, SegmentKind::Running, step);
                if let Some(definition) = self.rows.entry(index).definition.clone() {
                    self.add_tasks(definition.members(), Some(index), step);
                }
            }
            Event::ToolCallsAdded { parent, calls } => self.add_calls(parent, calls, step),
            Event::TimerStarted { task, .. } | Event::SignalAwaited { task, .. } => {
                self.begin(task, SegmentKind::Running, step);
            }
            Event::AttemptStarted { attempt, agent, .. } => {
                self.change(&attempt.task, step, |entry| {
                    entry.segments.begin(SegmentKind::Running, at, (attempt.number, Some(agent.clone())));
                });
            }
            Event::ModelRequested { attempt, .. } => {
                self.change(&attempt.task, step, |entry| {
                    entry.segments.begin(SegmentKind::Model, at, (attempt.number, None));
                });
            }
            Event::ModelReplied { attempt, result } => {
                let outcome = result.as_ref().err().map(|_| SegmentOutcome::Failed);
                self.change(&attempt.task, step, |entry| entry.segments.end(at, outcome));
            }
            Event::AttemptFailed { attempt, .. } => {
                self.change(&attempt.task, step, |entry| entry.segments.end(at, Some(SegmentOutcome::Failed)));
            }
            Event::AttemptSucceeded { attempt, .. } => {
                self.end(&attempt.task, Some(SegmentOutcome::Succeeded), step);
            }
            Event::TaskReused { task, .. } => self.end(task, None, step),
            Event::TaskEnded { task, outcome } => {
                let outcome = match outcome {
                    Outcome::Succeeded(_) => Some(SegmentOutcome::Succeeded),
                    Outcome::Failed(_) => Some(SegmentOutcome::Failed),
                    Outcome::Skipped(_) | Outcome::Cancelled => None,
                };
                self.end(task, outcome, step);
            }
            Event::RetryScheduled { task, .. } => {
                self.change(task, step, |entry| entry.segments.switch(SegmentKind::Pause, at));
            }
            Event::AttemptProgressed { attempt, .. } => self.change(&attempt.task, step, |_| {}),
            Event::QuestionAsked { question, .. } => {
                self.questions_changed.insert(question.id.clone(), step.seq);
                if let Some(task) = question.asker.task() {
                    self.change(task, step, |entry| {
                        entry.open_questions.push(question.id.clone());
                        entry.segments.switch(SegmentKind::Person, at);
                    });
                }
            }
            Event::QuestionAskedAgain { question, .. } => {
                self.question_changed(question, step, |entry| entry.segments.switch(SegmentKind::Person, at));
            }
            Event::QuestionDeferred { question, .. } => self.question_changed(question, step, |_| {}),
            Event::QuestionAnswered { question, .. } => self.question_answered(question, step),
            Event::SamplingStarted { request, origin, .. } => {
                let Some(attempt) = origin.attempt() else { return };
                if let Some(index) = self.rows.index(&attempt.task) {
                    self.sampled.insert(request.clone(), index);
                }
                self.begin(&attempt.task, SegmentKind::Model, step);
            }
            Event::SamplingFinished { request, .. } => {
                let Some(index) = self.sampled.remove(request) else { return };
                let task = self.rows.entry(index).row.id.clone();
                self.begin(&task, SegmentKind::Running, step);
            }
            Event::AgentConnecting { agent }
            | Event::AgentConnected { agent, .. }
            | Event::AgentUnavailable { agent, .. } => {
                self.agents_changed.insert(agent.clone(), step.seq);
            }
            // They change no row. What they say about the run is in its header.
            _ => {}
        }
    }

    /// Adds the tasks of the plan, of a patch, or of a group.
    fn add_tasks(&mut self, tasks: &[Arc<Task>], parent: Option<usize>, step: &mut RowStep) {
        step.touched.reserve(tasks.len());
        let scope = parent.map(|parent| self.rows.entry(parent).row.id.clone());
        let full_id = |id: &TaskId| scope.as_ref().map_or_else(|| id.clone(), |scope| scope.member(id));
        let added: Vec<usize> = tasks
            .iter()
            .map(|task| {
                let new = NewRow {
                    id: full_id(&task.id),
                    name: truncated(task.title.as_deref().unwrap_or(task.id.as_str())),
                    kind: RowKind::of_task(task),
                    definition: Some(Arc::clone(task)),
                    route: only_route(task),
                };
                self.rows.add(new, parent)
            })
            .collect();
        for (index, task) in added.iter().zip(tasks) {
            self.rows.connect(*index, task.needs.iter().map(full_id).collect());
        }
        for index in added {
            self.begin_if_ready(index, step.at);
            step.touch(index);
        }
        if parent.is_none() {
            self.graph_changed = step.seq;
        }
    }

    fn add_items(&mut self, parent: &TaskId, count: usize, step: &mut RowStep) {
        let Some(index) = self.rows.index(parent) else { return };
        self.begin(parent, SegmentKind::Running, step);
        for number in 0..count {
            let item = self.add_item(index, number);
            self.begin_if_ready(item, step.at);
            step.touch(item);
        }
    }

    fn add_iteration(&mut self, parent: &TaskId, ready_at: Option<Timestamp>, step: &mut RowStep) {
        let Some(index) = self.rows.index(parent) else { return };
        self.begin(parent, SegmentKind::Running, step);
        let item = self.add_item(index, self.rows.entry(index).children.len());
        let kind = if ready_at.is_some() { SegmentKind::Pause } else { SegmentKind::Queued };
        self.rows.entry_mut(item).segments.switch(kind, step.at);
        step.touch(item);
    }

    /// Adds the item or iteration `number` of a row.
    fn add_item(&mut self, parent: usize, number: usize) -> usize {
        let entry = self.rows.entry(parent);
        let new = NewRow {
            id: entry.row.id.item(number),
            name: truncated(&format!("{} [{number}]", entry.row.name)),
            kind: entry.definition.as_deref().map_or(RowKind::Call, RowKind::of_work),
            definition: entry.definition.clone(),
            route: entry.route.clone(),
        };
        self.rows.add(new, Some(parent))
    }

    fn add_calls(&mut self, parent: &TaskId, calls: &[PromptCall], step: &mut RowStep) {
        let Some(index) = self.rows.index(parent) else { return };
        self.begin(parent, SegmentKind::Running, step);
        let known = self.rows.entry(index).children.len();
        for (number, call) in (known + 1..).zip(calls) {
            let new = NewRow {
                id: parent.tool_call(number),
                name: truncated(&format!("{}.{}", call.agent, call.tool)),
                kind: RowKind::of_operation(call.operation),
                definition: None,
                route: Some((call.agent.clone(), Arc::clone(&call.tool))),
            };
            let added = self.rows.add(new, Some(index));
            self.begin_if_ready(added, step.at);
            step.touch(added);
        }
    }

    /// Begins to wait for a place, if nothing else remains that a row waits for.
    fn begin_if_ready(&mut self, index: usize, at: Timestamp) {
        let entry = self.rows.entry_mut(index);
        let is_ready = entry.unmet_needs == 0 && !entry.has_ended && entry.starts_by_itself();
        if is_ready && entry.segments.current().is_none() {
            entry.segments.switch(SegmentKind::Queued, at);
        }
    }

    fn begin(&mut self, task: &TaskId, kind: SegmentKind, step: &mut RowStep) {
        let at = step.at;
        self.change(task, step, |entry| {
            if !entry.has_ended {
                entry.segments.switch(kind, at);
            }
        });
    }

    /// Changes a row, which is refreshed at the end of the step.
    fn change(&mut self, task: &TaskId, step: &mut RowStep, change: impl FnOnce(&mut RowEntry)) {
        let Some(index) = self.rows.index(task) else { return };
        change(self.rows.entry_mut(index));
        step.touch(index);
    }

    /// Ends a row, so that others no longer wait for it.
    fn end(&mut self, task: &TaskId, outcome: Option<SegmentOutcome>, step: &mut RowStep) {
        let Some(index) = self.rows.index(task) else { return };
        let entry = self.rows.entry_mut(index);
        entry.segments.end(step.at, outcome);
        step.touch(index);
        if std::mem::replace(&mut entry.has_ended, true) {
            return;
        }
        for dependent in entry.dependents.clone() {
            self.rows.entry_mut(dependent).unmet_needs -= 1;
            if self.rows.entry(dependent).unmet_needs == 0 {
                self.begin_if_ready(dependent, step.at);
                step.touch(dependent);
            }
        }
    }

    fn question_changed(&mut self, id: &QuestionId, step: &mut RowStep, change: impl FnOnce(&mut RowEntry)) {
        self.questions_changed.insert(id.clone(), step.seq);
        let question = self.view.question(id.as_str()).map(|asked| Arc::clone(&asked.question));
        if let Some(task) = question.as_ref().and_then(|question| question.asker.task()) {
            self.change(task, step, change);
        }
    }

    fn question_answered(&mut self, id: &QuestionId, step: &mut RowStep) {
        let at = step.at;
        let question = self.view.question(id.as_str()).map(|asked| Arc::clone(&asked.question));
        let task = question.as_ref().and_then(|question| question.asker.task());
        let is_running = task.is_some_and(|task| self.view.running.contains_key(task));
        self.question_changed(id, step, |entry| {
            entry.open_questions.retain(|open| open != id);
            if entry.open_questions.is_empty() && !entry.has_ended {
                let kind = if is_running { SegmentKind::Running } else { SegmentKind::Queued };
                entry.segments.switch(kind, at);
            }
        });
    }

    /// Continues with a row after a time without a process. What lasted then ended with the last event before.
    fn resume(&mut self, index: usize, reattached: &[&TaskId], step: &mut RowStep) {
        step.touch(index);
        let entry = self.rows.entry_mut(index);
        entry.segments.end(step.before, None);
        if entry.has_ended {
            return;
        }
        let has_started_parts = !entry.children.is_empty();
        if !entry.open_questions.is_empty() {
            entry.segments.switch(SegmentKind::Person, step.at);
        } else if has_started_parts || reattached.contains(&&entry.row.id) {
            entry.segments.switch(SegmentKind::Running, step.at);
        } else if self.view.retrying().contains_key(&entry.row.id) {
            entry.segments.switch(SegmentKind::Pause, step.at);
        } else if !self.view.running.contains_key(&entry.row.id) {
            self.begin_if_ready(index, step.at);
        }
        // A resumed run has another end, and so another critical path.
        if self.rows.entry(index).row.is_critical {
            self.rows.entry_mut(index).row.is_critical = false;
            self.rows.entry_mut(index).changed = step.seq;
        }
    }

    /// Updates a row and those that it is a part of.
    fn refresh(&mut self, index: usize, seq: u64) {
        let mut next = Some(index);
        while let Some(index) = next {
            let row = self.row_of(self.rows.entry(index));
            if !self.rows.replace(index, row, seq) {
                return;
            }
            next = self.rows.entry(index).parent;
        }
    }

    /// Returns the current contents of a row.
    fn row_of(&self, entry: &RowEntry) -> TaskRow {
        let (id, history) = (&entry.row.id, self.view.history());
        let result = self.view.task_result(id);
        let state = self.state_of(entry);
        let call = self.view.running.get(id);
        let used = |part: Option<&(AgentId, Arc<str>)>| part.cloned().unzip();
        let (only_agent, only_tool) = used(entry.route.as_ref());
        let agent = result.and_then(|result| result.agent.clone()).or(only_agent);
        let tool = result.and_then(|result| result.tool.clone()).or(only_tool);
        let times = history.times.get(id).copied().unwrap_or_default();
        let spending = history.spending().tasks.get(id).filter(|_| id.is_planned());
        let retry = self.view.retrying().get(id).map(|retry| retry.at);
        let skipped = result.and_then(|result| result.skipped_because.as_ref()).map(ToString::to_string);
        let retried = || Some(history.latest_attempt(id)?.next.as_ref()?.reason.clone());
        TaskRow {
            state,
            attempts: result.map_or(0, |result| result.attempts),
            started: times.started,
            ended: times.ended,
            retry_at: retry.or_else(|| self.view.timers().get(id).copied()).filter(|_| !state.has_ended()),
            segments: entry.segments.as_slice().to_vec(),
            progress: call.and_then(|call| call.progress.as_ref()).map(|progress| RowProgress {
                value: progress.progress,
                total: progress.total,
                message: progress.message.as_deref().map(truncated),
            }),
            error: result.and_then(|result| result.error.as_ref()).map(|failure| truncated(&failure.message)),
            reason: skipped.or_else(|| retry.and_then(|_| retried())).as_deref().map(truncated),
            children: (entry.child_counts.total > 0).then_some(entry.child_counts),
            is_reused: result.is_some_and(|result| result.reused),
            cost_usd: spending.map(|spent| spent.cost_usd).filter(|cost| !cost.is_zero()),
            tokens: spending.map(|spent| spent.input_tokens + spent.output_tokens).filter(|tokens| *tokens > 0),
            question: entry.open_questions.first().filter(|_| !state.has_ended()).cloned(),
            effect: self.effect_of(entry, agent.as_ref(), tool.as_deref()),
            agent,
            tool,
            ..entry.row.clone()
        }
    }

    fn state_of(&self, entry: &RowEntry) -> RowState {
        let id = &entry.row.id;
        let status = self.view.task_result(id).map_or(RowState::Waiting, |result| result.status.into());
        if status.has_ended() {
            return status;
        }
        if !entry.open_questions.is_empty() {
            return RowState::Asking;
        }
        if let Some(call) = self.view.running.get(id) {
            return match (call.waiting_for, &call.route) {
                (WaitingOn::Person, _) => RowState::Asking,
                (WaitingOn::Model, _) | (_, None) => RowState::Model,
                (WaitingOn::Agent, Some(_)) => RowState::Running,
            };
        }
        if self.view.retrying().contains_key(id) {
            return RowState::Retrying;
        }
        match (status, entry.segments.current().map(|segment| segment.kind)) {
            (RowState::Waiting, Some(SegmentKind::Queued)) => RowState::Queued,
            (RowState::Waiting, Some(SegmentKind::Pause)) => RowState::Retrying,
            _ => status,
        }
    }

    /// Returns the effect of a repeated call: what the plan says, or the agents file, or else the agent.
    fn effect_of(&self, entry: &RowEntry, agent: Option<&AgentId>, tool: Option<&str>) -> Option<Effect> {
        let definition = entry.definition.as_deref();
        let is_call = matches!(entry.row.kind, RowKind::Call | RowKind::Resource | RowKind::Shell | RowKind::Http)
            || definition.is_some_and(|task| task.call().is_some());
        if !is_call {
            return None;
        }
        let policy = || self.view.start()?.0.agents.get(agent?)?.effect;
        let claimed = || match self.view.agents().get(agent?)? {
            AgentConnection::Connected(info) => info.tool(tool?)?.effect,
            AgentConnection::Connecting | AgentConnection::Unavailable(_) => None,
        };
        let guaranteed = definition.and_then(|task| task.operation().guaranteed_effect());
        let stated = definition.and_then(|task| task.effect);
        guaranteed.or(stated).or_else(policy).or_else(claimed)
    }
}
