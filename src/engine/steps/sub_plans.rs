//! Performs plans that run as tasks: their inputs, and their budgets.

use std::borrow::Cow;

use serde_json::Value;

use crate::engine::scope::expression_failure;
use crate::engine::state::run::{Fold, Run};
use crate::engine::state::run_state::State;
use crate::engine::transition::Transition;
use crate::expression::{self, Scope, json_type_name};
use crate::model::{
    Answer, AttemptId, Budget, Command, Event, Failure, FailureKind, JsonObject, MASKED_SECRET, NodeIndex, Outcome,
    SubPlan, Timestamp,
};

impl State {
    /// Returns the inputs of a plan that runs as a task, with masks for its secrets.
    pub(super) fn sub_plan_inputs(&self, node: NodeIndex, plan: &SubPlan) -> Result<JsonObject, Failure> {
        let given = render_inputs(plan, &self.scope(node))?;
        let mut inputs =
            plan.complete_inputs(&given).map_err(|problem| Failure::new(FailureKind::Expression, problem))?;
        for name in plan.secret_inputs() {
            if let Some(value) = inputs.get_mut(name).filter(|value| !value.is_null()) {
                *value = MASKED_SECRET.into();
            }
        }
        Ok(inputs)
    }

    /// Returns the plan that runs as the task at `node`; `None` if `node` stands for a list of them.
    fn plan_at(&self, node: NodeIndex) -> Option<&SubPlan> {
        let node = &self.graph[node];
        node.task.group().and_then(|group| group.plan.as_deref()).filter(|_| !node.is_list())
    }

    /// Returns the innermost plan that runs as a task and that `node` is a part of, with its node.
    fn enclosing_plan(&self, mut node: NodeIndex) -> Option<(NodeIndex, &SubPlan)> {
        loop {
            node = self.graph[node].parent()?;
            if let Some(plan) = self.plan_at(node) {
                return Some((node, plan));
            }
        }
    }

    /// Returns the names of the secret inputs that expressions of `node` see.
    pub(crate) fn visible_secrets(&self, node: NodeIndex) -> Vec<&str> {
        match self.enclosing_plan(node) {
            Some((_, plan)) => plan.secret_inputs().collect(),
            None => self.plan.secret_inputs().collect(),
        }
    }

    /// Returns the budgets of tasks and of plans that limit `node`, innermost first, each with the node whose spending
    /// counts.
    pub(crate) fn budgets_of(&self, node: NodeIndex) -> impl Iterator<Item = (NodeIndex, Budget)> {
        let chain = std::iter::successors(Some(node), |node| self.graph[*node].parent());
        let budgets = chain.flat_map(|node| {
            let of_plan = self.plan_at(node).map(|plan| plan.budget);
            // The parts of a list share the budget of their task.
            let is_task = self.graph[node].list_parent().is_none();
            let is_call = self.graph[node].is_tool_call();
            let of_task = (is_task && !is_call).then(|| self.graph[node].task.budget);
            of_plan.into_iter().chain(of_task).map(move |budget| (node, budget))
        });
        budgets.filter(|(_, budget)| *budget != Budget::default())
    }

    /// Returns whether a plan that runs as a task, and that `node` is a part of, has exhausted its time budget.
    pub(crate) fn is_in_expired_plan(&self, node: NodeIndex) -> bool {
        let parents = std::iter::successors(self.graph[node].parent(), |node| self.graph[*node].parent());
        parents.into_iter().any(|parent| self.tasks[parent.index()].is_expired)
    }

    /// Returns whether `node` is a part of the group at `group`, and not of one of its hooks.
    fn is_limited_by(&self, node: NodeIndex, group: NodeIndex) -> bool {
        let mut parents = std::iter::successors(self.graph[node].parent(), |node| self.graph[*node].parent());
        parents.any(|parent| parent == group) && !self.is_in_hook(node)
    }

    /// Returns the failure of a plan that has exhausted its time budget.
    pub(super) fn plan_time_failure(&self, node: NodeIndex) -> Failure {
        let message = format!("the budget of the plan is exhausted: {}", self.time_limit_text(node));
        Failure::new(FailureKind::BudgetSpent, message)
    }

    fn time_limit_text(&self, node: NodeIndex) -> String {
        let time = self.plan_at(node).and_then(|plan| plan.budget.time);
        format!("time ({})", time.map(|time| time.to_string()).unwrap_or_default())
    }
}

impl Run {
    /// Returns the inputs that expressions of `node` see, with the values of the secrets that this process knows.
    ///
    /// # Errors
    /// Returns a failure if the inputs of a plan that runs as a task cannot be evaluated.
    pub(crate) fn open_inputs(&self, node: NodeIndex) -> Result<Cow<'_, Value>, Failure> {
        let Some((plan_node, plan)) = self.enclosing_plan(node) else { return Ok(Cow::Borrowed(&self.known_inputs)) };
        let masked = self.tasks[plan_node.index()].inputs.as_deref().unwrap_or(&Value::Null);
        let is_masked = |name: &&str| masked.get(name).is_some_and(|value| value == MASKED_SECRET);
        let secrets: Vec<&str> = plan.secret_inputs().filter(is_masked).collect();
        if secrets.is_empty() {
            return Ok(Cow::Borrowed(masked));
        }
        let outer = self.open_inputs(plan_node)?;
        let mut given = render_inputs(plan, &Scope { inputs: &outer, ..self.scope(plan_node) })?;
        let mut open = masked.clone();
        for name in secrets {
            if let Some(value) = given.remove(name) {
                open[name] = value;
            }
        }
        Ok(Cow::Owned(open))
    }
}

impl Transition<'_> {
    /// Ends the plans that run as tasks and have exhausted their time budgets.
    pub(crate) fn end_overdue_plans(&mut self) {
        while let Some(&(at, node)) = self.run.queues.plan_deadlines.first() {
            if at > self.now {
                break;
            }
            self.run.queues.plan_deadlines.pop_first();
            let is_over = self.run.tasks[node.index()].has_ended() || self.run.is_in_expired_plan(node);
            if !is_over && !self.run.stops(node) && !self.run.is_in_hook(node) {
                self.end_overdue_plan(node);
            }
        }
    }

    /// Cancels everything in a plan that runs as a task, except its hooks.
    fn end_overdue_plan(&mut self, plan: NodeIndex) {
        let (task, what) = (self.run.graph[plan].id.clone(), self.run.time_limit_text(plan));
        let by = format!("the budget of `{task}`");
        self.emit(Event::PlanTimeSpent { task, what });
        let nodes = (0..self.run.tasks.len()).map(NodeIndex::new);
        let parts: Vec<NodeIndex> = nodes.filter(|node| self.run.is_limited_by(*node, plan)).collect();
        for node in parts {
            let entry = &self.run.tasks[node.index()];
            if let Some(number) = entry.in_flight() {
                let attempt = AttemptId { task: self.run.graph[node].id.clone(), number };
                self.push_command(Command::CancelAttempt { attempt });
            } else if entry.is_idle() {
                self.end_task(node, Outcome::Cancelled);
            }
        }
        let open = self.run.questions.entries().filter(|entry| !entry.is_answered());
        let of_part = |task: &crate::model::TaskId| {
            let node = self.run.graph.node_index(task.as_str());
            node.is_some_and(|node| self.run.is_limited_by(node, plan))
        };
        let open = open.filter(|entry| entry.question.asker.task().is_some_and(of_part));
        for question in open.map(|entry| entry.question.id.clone()).collect::<Vec<_>>() {
            self.on_question_answered(question, Answer::Cancel, by.clone());
        }
    }
}

impl Fold<'_> {
    /// Opens the accounts of the plan at `group` and of its tasks, as far as they have budgets.
    pub(super) fn open_accounts(&mut self, group: NodeIndex, members: &[NodeIndex]) {
        for node in members.iter().chain([&group]) {
            if self.state.budgets_of(*node).next().is_some_and(|(owner, _)| owner == *node) {
                let id = self.state.graph[*node].id.clone();
                self.state.ledger.spending_mut().open(&id);
            }
        }
    }

    /// Starts the time budget of a plan that runs as a task.
    pub(super) fn start_plan_timer(&mut self, node: NodeIndex, at: Timestamp) {
        if let Some(time) = self.state.plan_at(node).and_then(|plan| plan.budget.time) {
            let deadline = at.after(time.0);
            self.state.tasks[node.index()].plan_deadline = Some(deadline);
            self.queues.plan_deadlines.insert((deadline, node));
        }
    }

    /// Moves the ends of time budgets by a time without a process.
    pub(crate) fn extend_plan_deadlines(&mut self, downtime: std::time::Duration) {
        self.queues.plan_deadlines.clear();
        for (index, entry) in self.state.tasks.iter_mut().enumerate() {
            let Some(deadline) = entry.plan_deadline.map(|deadline| deadline.after(downtime)) else { continue };
            entry.plan_deadline = Some(deadline);
            if !entry.has_ended() && !entry.is_expired {
                self.queues.plan_deadlines.insert((deadline, NodeIndex::new(index)));
            }
        }
    }
}

/// Renders the inputs of a plan that runs as a task.
fn render_inputs(plan: &SubPlan, scope: &Scope<'_>) -> Result<JsonObject, Failure> {
    let rendered = expression::render(&plan.arguments, scope);
    match rendered.map_err(|error| expression_failure("with", &error))? {
        Value::Object(given) => Ok(given),
        Value::Null => Ok(JsonObject::new()),
        other => {
            let message = format!("`with` expects a map of inputs, but is {}", json_type_name(&other));
            Err(Failure::new(FailureKind::Expression, message))
        }
    }
}
