//! The ledger of a run: what it has spent, and which tokens are reserved, computed from the events. Budgets and reports
//! read the same ledger.
//!
//! Tokens are reserved before a model request and settled after its reply. A reply without a reported usage is charged
//! for its whole reservation, and a failed request for no tokens.

use serde::Serialize;

use crate::model::{
    AgentId, Budget, ChatError, ChatReply, Event, IdHashMap, IdMap, MicroDollars, Origin, RequestId, SamplingOrigin,
    Task, TaskId, Usage,
};

/// The spending of one payer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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
    pub unreported_replies: u64,
    /// US dollars, if the agents file has prices; absent in JSON if it is zero.
    #[serde(skip_serializing_if = "MicroDollars::is_zero")]
    pub cost_usd: MicroDollars,
    /// Tokens that a budget counts for replies without reported usage: the maximum of each.
    #[serde(skip)]
    pub assumed_tokens: u64,
    /// Tokens that are reserved for requests in progress.
    #[serde(skip)]
    pub reserved_tokens: u64,
}

impl SpendingTotals {
    /// Returns the tokens that a budget counts.
    pub fn tokens(&self) -> u64 {
        self.input_tokens + self.output_tokens + self.assumed_tokens
    }

    /// Adds a reply that may have used `max_tokens`.
    fn add_reply(&mut self, usage: Option<Usage>, max_tokens: u64, cost_usd: Option<f64>) {
        match usage {
            Some(usage) => {
                self.input_tokens += usage.input_tokens;
                self.output_tokens += usage.output_tokens;
            }
            None => self.add_unreported_reply(max_tokens),
        }
        self.cost_usd += cost_usd.map(MicroDollars::from_usd).unwrap_or_default();
    }

    /// Adds a reply of unknown usage.
    fn add_unreported_reply(&mut self, max_tokens: u64) {
        self.unreported_replies += 1;
        self.assumed_tokens += max_tokens;
    }
}

/// The payer of a charge.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The spending of a run, and of each task and plan that has a budget. The names of the accounts are those of nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BudgetAccounts {
    pub(crate) run: SpendingTotals,
    pub(crate) tasks: IdMap<TaskId, SpendingTotals>,
}

impl BudgetAccounts {
    /// Opens an account for the node with this ID and everything in it.
    pub(crate) fn open(&mut self, id: &TaskId) {
        self.tasks.entry(id.clone()).or_default();
    }

    /// Opens the account of a planned task if the task has a budget.
    pub(crate) fn open_planned(&mut self, task: &Task) {
        if task.budget != Budget::default() {
            self.open(&task.id);
        }
    }
}

impl SpendingSink for BudgetAccounts {
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut SpendingTotals)) {
        change(&mut self.run);
        if let Payer::Task(task) = payer
            && !self.tasks.is_empty()
        {
            for id in task.enclosing_ids() {
                if let Some(account) = self.tasks.get_mut(id) {
                    change(account);
                }
            }
        }
    }
}

/// A model request without a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OpenRequest {
    payer: Payer,
    /// The tokens that are reserved for it.
    tokens: u64,
    /// True for an exchange of a prompt, which a later process repeats.
    is_repeated: bool,
}

/// Collects the charges of a run in `B`: totals, or totals by payer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ledger<B> {
    spending: B,
    requests: IdHashMap<RequestId, OpenRequest>,
}

impl<B: SpendingSink> Ledger<B> {
    /// Applies the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::GoalPlanned(planning) => {
                // The results of other early calls are those of attempts.
                let discarded = planning.discarded_calls.len() as u64;
                self.spending.charge(&Payer::Planning, |spent| spent.tool_calls += discarded);
                for exchange in &planning.exchanges {
                    self.spending.charge(&Payer::Planning, |spent| {
                        spent.llm_calls += 1;
                        spent.add_reply(exchange.usage, exchange.estimated_tokens, exchange.cost_usd);
                    });
                }
            }
            Event::AttemptStarted { attempt, .. } => {
                self.spending.charge(&Payer::Task(attempt.task.clone()), |spent| spent.tool_calls += 1);
            }
            Event::ModelRequested { attempt, estimated_tokens, .. } => {
                let payer = Payer::Task(attempt.task.clone());
                self.reserve(
                    RequestId::from(attempt.to_string()),
                    OpenRequest { payer, tokens: *estimated_tokens, is_repeated: true },
                );
            }
            Event::SamplingStarted { request, origin, chat } => {
                let payer = Payer::from(origin);
                self.reserve(
                    request.clone(),
                    OpenRequest { payer, tokens: chat.estimate_tokens(), is_repeated: false },
                );
            }
            Event::ModelReplied { attempt, result } => self.settle(&RequestId::from(attempt.to_string()), result),
            Event::SamplingFinished { request, result } => self.settle(request, result),
            Event::RunResumed { .. } => self.write_off_replies(),
            _ => {}
        }
    }

    /// Returns the spending so far.
    pub(crate) fn spending(&self) -> &B {
        &self.spending
    }

    /// Returns the spending so far, to add payers.
    pub(crate) fn spending_mut(&mut self) -> &mut B {
        &mut self.spending
    }

    /// Charges a request to the model and reserves its tokens.
    fn reserve(&mut self, id: RequestId, request: OpenRequest) {
        self.spending.charge(&request.payer, |spent| {
            spent.llm_calls += 1;
            spent.reserved_tokens += request.tokens;
        });
        self.requests.insert(id, request);
    }

    /// Settles a reservation. A request that no model supports does not count as a call.
    fn settle(&mut self, request: &RequestId, result: &Result<ChatReply, ChatError>) {
        let Some(OpenRequest { payer, tokens, .. }) = self.requests.remove(request) else { return };
        self.spending.charge(&payer, |spent| {
            spent.reserved_tokens -= tokens;
            match result {
                Ok(reply) => spent.add_reply(reply.usage, tokens, reply.cost_usd),
                Err(ChatError::Unsupported { .. }) => spent.llm_calls -= 1,
                Err(ChatError::Endpoint { .. } | ChatError::Unavailable { .. }) => {}
            }
        });
    }

    /// Charges the replies that the earlier process waited for, since their usage is unknown. The requests of prompts
    /// are repeated.
    fn write_off_replies(&mut self) {
        for OpenRequest { payer, tokens, is_repeated } in self.requests.values() {
            self.spending.charge(payer, |spent| {
                spent.add_unreported_reply(*tokens);
                match is_repeated {
                    true => spent.llm_calls += 1,
                    false => spent.reserved_tokens -= tokens,
                }
            });
        }
        self.requests.retain(|_, request| request.is_repeated);
    }
}
