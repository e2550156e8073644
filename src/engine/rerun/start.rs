//! Starts the new run with the results that it reuses.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::preview::{Rerun, RerunError, keeps_route};
use crate::engine::retry;
use crate::engine::state::run::{Fold, Run};
use crate::engine::state::run_state::State;
use crate::engine::state::task::TaskState;
use crate::engine::transition::{StepOutput, Transition};
use crate::expression;
use crate::model::{
    Effect, Event, KeptResult, NodeIndex, NodeKind, Outcome, Plan, PromptSource, Record, RunId, ServerPrompt, Task,
    TaskId, Template, Timestamp, UnsettledCall, Work,
};

impl Run {
    /// Starts a run that reuses the results of an earlier run.
    ///
    /// The task `from`, tasks without a result, and tasks that have changed are repeated, and so are all tasks after them.
    /// All other tasks keep their results from the earlier run. Without `from`, so do `at_most_once` calls that succeeded
    /// after a failed task.
    ///
    /// Within a repeated task, two kinds of results are reused if the call is the same: results of `foreach` items, and
    /// results of `at_most_once` tool calls of a prompt. Before the run repeats an `at_most_once` call with an unknown
    /// outcome, it asks a person.
    ///
    /// # Errors
    /// Returns an error if the plan does not have the task `from` or is not a valid graph, or if `at_most_once` calls that
    /// succeeded would be repeated and that is not allowed.
    pub fn rerun(rerun: Rerun, now: Timestamp) -> Result<(Self, StepOutput), RerunError> {
        let mut run = Self::new(&rerun.new_run, now)?;
        let preview = rerun.preview_of(&run)?;
        let Rerun { earlier_id: of, ref earlier, from, new_run, .. } = rerun;
        let mut kept = earlier.reusable_results();
        let mut unsettled = earlier.calls_to_settle(&of);
        let mut transition = Transition::new(&mut run, now);
        transition.record(Record { seq: 0, at: now, event: new_run.into_event() });
        transition.emit(Event::RunRerun { of, from });
        for (task, decision) in preview.tasks {
            let Some(before) = earlier.graph.node_index(task.as_str()).filter(|node| earlier.is_planned(*node)) else {
                continue;
            };
            if !decision.is_repeated() {
                transition.reuse_task_result(earlier, before);
                continue;
            }
            let mut results = kept.remove(&before).unwrap_or_default();
            if let Some(now) =
                transition.run.graph.node_index(task.as_str()).map(|node| &transition.run.graph[node].task)
                && matches!(now.work, Work::Call(_))
            {
                let earlier_task = &earlier.graph[before].task;
                results
                    .retain(|result| result.agent.as_ref().is_none_or(|agent| keeps_route(earlier_task, now, agent)));
            }
            let unsettled = unsettled.remove(&before).unwrap_or_default();
            if !results.is_empty() || !unsettled.is_empty() {
                transition.emit(Event::ResultsKept { task, results, unsettled });
            }
        }
        transition.advance();
        let step = transition.into_output();
        Ok((run, step))
    }
}

impl State {
    /// Returns the inputs.
    pub fn inputs(&self) -> &Arc<Value> {
        &self.inputs
    }

    /// Returns the tasks of the plan, including tasks added by replans and without tasks removed by them.
    pub(super) fn planned_tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.graph.nodes().filter(|(node, _)| self.is_planned(*node)).map(|(_, planned)| &planned.task)
    }

    /// Returns the plan with the changes of all replans.
    pub fn current_plan(&self) -> Plan {
        let mut plan = (*self.plan).clone();
        plan.agents = self.agents.iter().map(|(id, agent)| (id.clone(), agent.policy.clone())).collect();
        plan.tasks = self.planned_tasks().cloned().collect();
        let others: Vec<TaskId> =
            plan.tasks.iter().filter(|task| !task.is_synthesis()).map(|task| task.id.clone()).collect();
        for task in &mut plan.tasks {
            if task.is_synthesis() {
                Arc::make_mut(task).needs.clone_from(&others);
            }
        }
        plan
    }

    /// Collects results that a later run reuses when it makes the same call, by planned task. These are results of
    /// items, and of `at_most_once` calls that a model requested.
    fn reusable_results(&self) -> HashMap<NodeIndex, Vec<KeptResult>> {
        let mut results: HashMap<NodeIndex, Vec<KeptResult>> = HashMap::new();
        for (index, node) in self.graph.nodes() {
            let is_kept = match &node.kind {
                NodeKind::Planned => false,
                NodeKind::Item(_) | NodeKind::Member(_) => true,
                // An iteration that only reads may have read something that changes.
                NodeKind::Iteration(_) => {
                    !node.task.routes().is_empty() && self.repetition_effect(index, 0) == Effect::AtMostOnce
                }
                // A prompt item that has a result does not request its calls again.
                NodeKind::ToolCall(call) => {
                    let of_item = self.graph[call.parent].item().is_some();
                    self.repetition_effect(index, 0) == Effect::AtMostOnce
                        && !(of_item && self.has_succeeded(call.parent))
                }
            };
            if is_kept && let Some(result) = self.kept_result(index) {
                results.entry(self.payer(index)).or_default().push(result);
            }
        }
        // Results that this run kept from an earlier one and did not use.
        for (node, kept) in &self.kept_results {
            results.entry(*node).or_default().extend(kept.values().flatten().cloned());
        }
        results.retain(|_, results| !results.is_empty());
        results
    }

    /// Collects the calls with an unknown effect, by planned task.
    fn calls_to_settle(&self, of: &RunId) -> HashMap<NodeIndex, Vec<UnsettledCall>> {
        let mut unsettled: HashMap<NodeIndex, Vec<UnsettledCall>> = HashMap::new();
        for (node, _) in self.graph.nodes() {
            if let Some(UnsettledCall { request, reason }) = self.unsettled_attempt(node) {
                let reason = format!("in run `{of}`, {reason}");
                unsettled.entry(self.payer(node)).or_default().push(UnsettledCall { request, reason });
            }
        }
        // Ambiguous calls that this run has from an earlier one and did not settle.
        for (index, entry) in self.tasks.iter().enumerate() {
            let node = NodeIndex::new(index);
            if let (Some(reason), false) = (&entry.unsettled, self.has_succeeded(node))
                && let Some(request) = self.call_request(node)
            {
                let call = UnsettledCall { request, reason: reason.to_string() };
                unsettled.entry(self.payer(node)).or_default().push(call);
            }
        }
        for (node, calls) in &self.unsettled {
            for (request, reasons) in calls {
                let calls =
                    reasons.iter().map(|reason| UnsettledCall { request: request.clone(), reason: reason.clone() });
                unsettled.entry(*node).or_default().extend(calls);
            }
        }
        unsettled
    }

    /// Returns the result of a node for reuse by an equal request, if the node succeeded.
    pub(in crate::engine) fn kept_result(&self, node: NodeIndex) -> Option<KeptResult> {
        let entry = &self.tasks[node.index()];
        let output = Arc::clone(entry.output()?);
        Some(KeptResult { request: self.call_request(node)?, agent: entry.agent.clone(), output })
    }

    /// Returns the call of a node if it is unknown whether its last attempt took effect.
    pub(in crate::engine) fn unsettled_attempt(&self, node: NodeIndex) -> Option<UnsettledCall> {
        let entry = &self.tasks[node.index()];
        let failure = entry.last_failure.as_deref().filter(|_| !self.has_succeeded(node))?;
        if entry.last_route.is_none() || !retry::may_have_had_effect(failure.kind) {
            return None;
        }
        Some(UnsettledCall { request: self.call_request(node)?, reason: failure.to_string() })
    }

    /// Returns the canonical JSON of the request of a node. Equal requests have equal texts.
    fn call_request(&self, node: NodeIndex) -> Option<String> {
        let task = &self.graph[node].task;
        let render = |template: &Template| expression::render(template, &self.scope(node)).ok();
        let mut request = match (&self.graph[node].kind, &task.work) {
            (NodeKind::ToolCall(call), _) => {
                let route = task.routes().first()?;
                json!({"asked_of": route.agent, "tool": route.tool, "arguments": call.arguments})
            }
            (_, Work::Call(call)) => {
                json!({"tool": call.routes.first()?.tool, "with": render(&call.arguments)?})
            }
            (_, Work::Prompt(prompt) | Work::Synthesis(prompt)) => {
                let system = prompt.system.as_ref().map(render);
                match &prompt.source {
                    PromptSource::Prompt(question) => json!({"prompt": render(question)?, "system": system}),
                    PromptSource::UsePrompt(ServerPrompt { agent, name, arguments }) => {
                        json!({"asked_of": agent, "use_prompt": name, "with": render(arguments)?, "system": system})
                    }
                }
            }
            (_, Work::Ask(ask)) => json!({"ask": render(&ask.message)?, "schema": ask.schema}),
            (_, Work::Group(_) | Work::Wait(_) | Work::Stop(_)) => return None,
        };
        request.sort_all_objects();
        Some(request.to_string())
    }

    /// Returns the reason to ask a person before the first attempt of `node` on `route`, if there is one.
    pub(in crate::engine) fn unsettled_call(&self, node: NodeIndex, route: usize) -> Option<String> {
        let calls = self.unsettled.get(&self.payer(node))?;
        let entry = &self.tasks[node.index()];
        if entry.attempts > 0 || entry.unsettled.is_some() || self.repetition_effect(node, route) != Effect::AtMostOnce
        {
            return None;
        }
        calls.get(&self.call_request(node)?)?.front().cloned()
    }
}

impl Fold<'_> {
    /// Stores results and ambiguous calls of an earlier run for reuse.
    pub(in crate::engine) fn keep_results(
        &mut self,
        node: NodeIndex,
        results: &[KeptResult],
        unsettled: &[UnsettledCall],
    ) {
        for result in results {
            let kept = self.state.kept_results.entry(node).or_default();
            kept.entry(result.request.clone()).or_default().push_back(result.clone());
        }
        for call in unsettled {
            let calls = self.state.unsettled.entry(node).or_default();
            calls.entry(call.request.clone()).or_default().push_back(call.reason.clone());
        }
    }

    /// Assigns an ambiguous call of an earlier run to the node that makes the same call, before its first attempt.
    pub(in crate::engine) fn claim_unsettled_call(&mut self, node: NodeIndex) {
        if self.state.tasks[node.index()].attempts == 0
            && let payer = self.payer(node)
            && self.state.unsettled.contains_key(&payer)
            && let Some(request) = self.call_request(node)
        {
            let calls = self.state.unsettled.get_mut(&payer).and_then(|calls| calls.get_mut(&request));
            let reason = calls.and_then(VecDeque::pop_front);
            self.state.tasks[node.index()].unsettled = reason.map(String::into_boxed_str);
        }
    }

    /// Removes the kept result that `node` uses, if there is one.
    pub(in crate::engine) fn consume_kept_result(&mut self, node: NodeIndex) {
        let payer = self.payer(node);
        if self.kept_results.contains_key(&payer)
            && let Some(request) = self.call_request(node)
            && let Some(results) = self.state.kept_results.get_mut(&payer).and_then(|kept| kept.get_mut(&request))
        {
            results.pop_front();
        }
    }
}

impl Transition<'_> {
    /// Reuses the results of equal calls in an earlier run for new items of a `foreach` task or calls of a prompt.
    pub(in crate::engine) fn reuse_results(&mut self, nodes: Vec<NodeIndex>) {
        for node in nodes {
            let Some(kept) = self.run.kept_results.get(&self.run.payer(node)) else { return };
            let result = self.run.call_request(node).and_then(|request| kept.get(&request)?.front().cloned());
            if let Some(KeptResult { agent, output, .. }) = result {
                self.emit(Event::TaskReused { task: self.run.graph[node].id.clone(), agent, output });
            }
        }
    }

    /// Reuses the result of an equal call in an earlier run, if there is one. Returns whether it did.
    pub(in crate::engine) fn reuse_result(&mut self, node: NodeIndex) -> bool {
        self.reuse_results(vec![node]);
        self.run.tasks[node.index()].has_ended()
    }

    /// Reuses the result of a planned task and the results of its items.
    fn reuse_task_result(&mut self, earlier: &Run, node: NodeIndex) {
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
