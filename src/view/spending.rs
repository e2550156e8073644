//! Computes the spending of a run, and its payers, from the events only. The engine has its own accounts, and a test
//! compares the two.

use serde::Serialize;

use crate::model::{
    AgentId, ChatError, ChatReply, Event, IdHashMap, IdMap, MicroDollars, Origin, RequestId, SamplingOrigin, TaskId,
    Usage,
};

/// The spending of one payer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SpendingTotals {
    /// Requests to the language model, including failed ones.
    pub llm_calls: u64,
    /// Attempts of tool calls.
    pub tool_calls: u64,
    /// Tokens of requests, as far as reported.
    pub input_tokens: u64,
    /// Tokens of replies, as far as reported.
    pub output_tokens: u64,
    /// Replies without reported usage. A budget counts the maximum for each.
    pub untold_replies: u64,
    /// US dollars, if the agents file has prices.
    pub cost_usd: MicroDollars,
}

impl SpendingTotals {
    fn add_reply(&mut self, usage: Option<Usage>, cost_usd: Option<f64>) {
        match usage {
            Some(usage) => {
                self.input_tokens += usage.input_tokens;
                self.output_tokens += usage.output_tokens;
            }
            None => self.untold_replies += 1,
        }
        self.cost_usd += cost_usd.map(MicroDollars::from_usd).unwrap_or_default();
    }
}

/// The spending of a run so far. `total` is the sum of the other fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpendingBreakdown {
    /// The total.
    #[serde(skip)]
    pub total: SpendingTotals,
    /// The spending on planning and replanning; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<SpendingTotals>,
    /// The spending by planned task, in the order of first spending. It includes items, the tool calls of a prompt, and
    /// the requests that agents made for the task.
    pub tasks: IdMap<TaskId, SpendingTotals>,
    /// The spending by agent on sampling requests without a known task.
    pub agents: IdMap<AgentId, SpendingTotals>,
}

/// The payer of a charge.
#[derive(Debug, Clone)]
pub(crate) enum Payer {
    /// The planner, for the run's goal or for replans.
    Planning,
    /// The planned task that this task is or belongs to.
    Task(TaskId),
    /// An agent, if the task of its request is unknown.
    Agent(AgentId),
}

impl From<&SamplingOrigin> for Payer {
    fn from(sampler: &SamplingOrigin) -> Self {
        match sampler {
            SamplingOrigin::Planner { .. } => Self::Planning,
            SamplingOrigin::Agent(Origin { attempt: Some(attempt), .. }) => Self::Task(attempt.task.clone()),
            SamplingOrigin::Agent(Origin { agent, attempt: None, .. }) => Self::Agent(agent.clone()),
        }
    }
}

/// A collector of charges.
pub(crate) trait SpendingSink: Default {
    /// Adds a charge of `payer`.
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut SpendingTotals));
}

/// The sum of all payers.
impl SpendingSink for SpendingTotals {
    fn charge(&mut self, _: &Payer, change: impl Fn(&mut SpendingTotals)) {
        change(self);
    }
}

impl SpendingSink for SpendingBreakdown {
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut SpendingTotals)) {
        change(&mut self.total);
        change(match payer {
            Payer::Planning => self.planning.get_or_insert_default(),
            Payer::Task(task) => self.tasks.entry(task.planned_task()).or_default(),
            Payer::Agent(agent) => self.agents.entry(agent.clone()).or_default(),
        });
    }
}

/// The fold behind [`SpendingBreakdown`], or behind its total only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger<B> {
    spending: B,
    /// The payers of model requests without a reply: those of prompts, and those of agents.
    prompt_payers: IdHashMap<RequestId, Payer>,
    sampling_payers: IdHashMap<RequestId, Payer>,
}

impl<B: SpendingSink> Ledger<B> {
    /// Applies the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::GoalPlanned(planning) => {
                self.spending.charge(&Payer::Planning, |_| {});
                for turn in &planning.turns {
                    self.spending.charge(&Payer::Planning, |spent| {
                        spent.llm_calls += 1;
                        spent.add_reply(turn.usage, turn.cost_usd);
                    });
                }
            }
            Event::AttemptStarted { attempt, .. } => {
                self.spending.charge(&Payer::Task(attempt.task.clone()), |spent| spent.tool_calls += 1);
            }
            Event::ModelAsked { attempt, .. } => {
                let payer = Payer::Task(attempt.task.clone());
                self.spending.charge(&payer, |spent| spent.llm_calls += 1);
                self.prompt_payers.insert(RequestId::from(attempt.to_string()), payer);
            }
            Event::SamplingStarted { request, origin, .. } => {
                let payer = Payer::from(origin);
                self.spending.charge(&payer, |spent| spent.llm_calls += 1);
                self.sampling_payers.insert(request.clone(), payer);
            }
            Event::ModelReplied { attempt, result } => {
                let payer = self.prompt_payers.remove(&RequestId::from(attempt.to_string()));
                self.on_reply(payer, result);
            }
            Event::SamplingFinished { request, result } => {
                let payer = self.sampling_payers.remove(request);
                self.on_reply(payer, result);
            }
            Event::RunResumed { .. } => self.write_off_replies(),
            Event::RunStarted { .. }
            | Event::RunRerun { .. }
            | Event::TaskReused { .. }
            | Event::QuestionAskedAgain { .. }
            | Event::AgentConnecting { .. }
            | Event::AgentConnected { .. }
            | Event::AgentUnavailable { .. }
            | Event::TasksAdded { .. }
            | Event::AttemptProgressed { .. }
            | Event::InputRequired { .. }
            | Event::ToolCallsAdded { .. }
            | Event::AttemptSucceeded { .. }
            | Event::AttemptFailed { .. }
            | Event::RetryScheduled { .. }
            | Event::TaskEnded { .. }
            | Event::ReplanStarted { .. }
            | Event::ReplanProposed { .. }
            | Event::Replanned { .. }
            | Event::QuestionAsked { .. }
            | Event::QuestionAnswered { .. }
            | Event::QuestionLeftOpen { .. }
            | Event::AgentLogged { .. }
            | Event::RequestRefused { .. }
            | Event::BudgetSpent { .. }
            | Event::ResultsKept { .. }
            | Event::RestApproved { .. }
            | Event::CancelRequested { .. }
            | Event::InterruptRequested
            | Event::RunEnded { .. } => {}
        }
    }

    /// Returns the spending so far.
    pub(crate) fn spending(&self) -> &B {
        &self.spending
    }

    /// Writes off the replies that the earlier process waited for. The requests of prompts are repeated.
    fn write_off_replies(&mut self) {
        for payer in std::mem::take(&mut self.sampling_payers).into_values() {
            self.spending.charge(&payer, |spent| spent.untold_replies += 1);
        }
        for payer in self.prompt_payers.values().cloned().collect::<Vec<_>>() {
            self.spending.charge(&payer, |spent| {
                spent.untold_replies += 1;
                spent.llm_calls += 1;
            });
        }
    }

    fn on_reply(&mut self, payer: Option<Payer>, result: &Result<ChatReply, ChatError>) {
        let Some(payer) = payer else { return };
        self.spending.charge(&payer, |spent| match result {
            Ok(reply) => spent.add_reply(reply.usage, reply.cost_usd),
            // No model was asked.
            Err(ChatError::Unsupported { .. }) => spent.llm_calls -= 1,
            Err(ChatError::Endpoint { .. } | ChatError::Unavailable { .. }) => {}
        });
    }
}
