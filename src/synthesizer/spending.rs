//! Adds up what a run has spent, and who spent it, from its events alone.
//! Never decides whether more may be spent; the engine keeps its own accounts, and a test holds the two together.

use serde::Serialize;

use crate::model::{
    AgentId, ChatError, ChatReply, Event, IdHashMap, IdMap, MicroDollars, Origin, RequestId, SamplingOrigin, TaskId,
    Usage,
};

/// What was spent by somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SpendingTotals {
    /// Calls of the language model, failed ones included.
    pub llm_calls: u64,
    /// Attempts of calls of tools.
    pub tool_calls: u64,
    /// Tokens of requests, so far as endpoints told.
    pub input_tokens: u64,
    /// Tokens of replies, so far as endpoints told.
    pub output_tokens: u64,
    /// Replies whose endpoint did not tell their tokens: a budget counts the most that each may have used.
    pub untold_replies: u64,
    /// US dollars, where the agents file has prices.
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

/// What a run has spent so far. Everything in `total` is in one of the others too.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpendingBreakdown {
    /// All of it.
    #[serde(skip)]
    pub total: SpendingTotals,
    /// What planning took, of the run's goal and of what was left of it; absent where nothing was planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<SpendingTotals>,
    /// By task of the plan, in the order in which they first spent something: what it, its items, the calls of its
    /// prompt and the requests that its agents made for it have used.
    pub tasks: IdMap<TaskId, SpendingTotals>,
    /// By agent: its requests to the language model that no task is known to have caused.
    pub agents: IdMap<AgentId, SpendingTotals>,
}

/// Who pays.
#[derive(Debug, Clone)]
pub(crate) enum Payer {
    /// The planning of the run's goal, or of what was left of it.
    Planning,
    /// The task of the plan that this one is or belongs to.
    Task(TaskId),
    /// An agent, where no task is known to have caused its request.
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

/// Where charges are written down.
pub(crate) trait SpendingSink: Default {
    /// Writes down what `payer` has spent.
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut SpendingTotals));
}

/// The sum of all, whoever pays.
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

/// The fold behind [`SpendingBreakdown`], or behind its total alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger<B> {
    spending: B,
    /// Who pays for requests to the model that have no reply yet: the turns of prompts, and agents' requests.
    prompt_payers: IdHashMap<RequestId, Payer>,
    sampling_payers: IdHashMap<RequestId, Payer>,
}

impl<B: SpendingSink> Ledger<B> {
    /// Takes the next event.
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

    /// What was spent so far.
    pub(crate) fn spending(&self) -> &B {
        &self.spending
    }

    /// Takes in that the replies which the process before waited for are lost. Turns are asked again.
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
