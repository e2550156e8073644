//! Adds up what a run has spent, and who spent it, from its events alone.
//! Never decides whether more may be spent; the engine keeps its own accounts, and a test holds the two together.

use serde::Serialize;

use crate::model::{
    AgentId, ChatError, ChatReply, Event, IdHashMap, IdMap, MicroDollars, Origin, RequestId, Sampler, TaskId, Usage,
};

/// What was spent by somebody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Spent {
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

impl Spent {
    fn reply(&mut self, usage: Option<Usage>, cost_usd: Option<f64>) {
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
pub struct Spending {
    /// All of it.
    #[serde(skip)]
    pub total: Spent,
    /// What planning took, of the run's goal and of what was left of it; absent where nothing was planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<Spent>,
    /// By task of the plan, in the order in which they first spent something: what it, its items, the calls of its
    /// prompt and the requests that its agents made for it have used.
    pub tasks: IdMap<TaskId, Spent>,
    /// By agent: its requests to the language model that no task is known to have caused.
    pub agents: IdMap<AgentId, Spent>,
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

impl From<&Sampler> for Payer {
    fn from(sampler: &Sampler) -> Self {
        match sampler {
            Sampler::Planner { .. } => Self::Planning,
            Sampler::Agent(Origin { attempt: Some(attempt), .. }) => Self::Task(attempt.task.clone()),
            Sampler::Agent(Origin { agent, attempt: None, .. }) => Self::Agent(agent.clone()),
        }
    }
}

/// Where charges are written down.
pub(crate) trait Book: Default {
    /// Writes down what `payer` has spent.
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut Spent));
}

/// The sum of all, whoever pays.
impl Book for Spent {
    fn charge(&mut self, _: &Payer, change: impl Fn(&mut Spent)) {
        change(self);
    }
}

impl Book for Spending {
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut Spent)) {
        change(&mut self.total);
        change(match payer {
            Payer::Planning => self.planning.get_or_insert_default(),
            Payer::Task(task) => self.tasks.entry(task.planned()).or_default(),
            Payer::Agent(agent) => self.agents.entry(agent.clone()).or_default(),
        });
    }
}

/// The fold behind [`Spending`], or behind its total alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger<B> {
    book: B,
    /// Who pays for requests to the model that have no reply yet: the turns of prompts, and agents' requests.
    turns: IdHashMap<RequestId, Payer>,
    sampling: IdHashMap<RequestId, Payer>,
}

impl<B: Book> Ledger<B> {
    /// Takes the next event.
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::GoalPlanned(planning) => {
                self.book.charge(&Payer::Planning, |_| {});
                for turn in &planning.turns {
                    self.book.charge(&Payer::Planning, |spent| {
                        spent.llm_calls += 1;
                        spent.reply(turn.usage, turn.cost_usd);
                    });
                }
            }
            Event::AttemptStarted { attempt, .. } => {
                self.book.charge(&Payer::Task(attempt.task.clone()), |spent| spent.tool_calls += 1);
            }
            Event::ModelAsked { attempt, .. } => {
                let payer = Payer::Task(attempt.task.clone());
                self.book.charge(&payer, |spent| spent.llm_calls += 1);
                self.turns.insert(RequestId::from(attempt.to_string()), payer);
            }
            Event::SamplingStarted { request, origin, .. } => {
                let payer = Payer::from(origin);
                self.book.charge(&payer, |spent| spent.llm_calls += 1);
                self.sampling.insert(request.clone(), payer);
            }
            Event::ModelReplied { attempt, result } => {
                let payer = self.turns.remove(&RequestId::from(attempt.to_string()));
                self.replied(payer, result);
            }
            Event::SamplingFinished { request, result } => {
                let payer = self.sampling.remove(request);
                self.replied(payer, result);
            }
            Event::RunResumed { .. } => self.lose_replies(),
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
    pub(crate) fn book(&self) -> &B {
        &self.book
    }

    /// Takes in that the replies which the process before waited for are lost. Turns are asked again.
    fn lose_replies(&mut self) {
        for payer in std::mem::take(&mut self.sampling).into_values() {
            self.book.charge(&payer, |spent| spent.untold_replies += 1);
        }
        for payer in self.turns.values().cloned().collect::<Vec<_>>() {
            self.book.charge(&payer, |spent| {
                spent.untold_replies += 1;
                spent.llm_calls += 1;
            });
        }
    }

    fn replied(&mut self, payer: Option<Payer>, result: &Result<ChatReply, ChatError>) {
        let Some(payer) = payer else { return };
        self.book.charge(&payer, |spent| match result {
            Ok(reply) => spent.reply(reply.usage, reply.cost_usd),
            // No model was asked.
            Err(ChatError::Unsupported { .. }) => spent.llm_calls -= 1,
            Err(ChatError::Endpoint { .. } | ChatError::Unavailable { .. }) => {}
        });
    }
}
