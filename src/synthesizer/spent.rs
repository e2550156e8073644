//! Adds up what a run has spent, and who spent it, from its events alone.
//! Never decides whether more may be spent; the engine keeps its own accounts, and a test holds the two together.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::Serialize;

use crate::model::{AgentId, ChatError, ChatReply, Event, IdMap, Origin, RequestId, Sampler, TaskId, Usage};

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
    pub cost_usd: f64,
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
        self.cost_usd += cost_usd.unwrap_or(0.0);
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
    pub agents: IndexMap<AgentId, Spent>,
}

/// Who pays.
#[derive(Debug, Clone)]
enum Payer {
    Planning,
    Task(TaskId),
    Agent(AgentId),
}

impl From<&Sampler> for Payer {
    fn from(sampler: &Sampler) -> Self {
        match sampler {
            Sampler::Planner { .. } => Self::Planning,
            Sampler::Agent(Origin { attempt: Some(attempt), .. }) => Self::Task(attempt.task.planned()),
            Sampler::Agent(Origin { agent, attempt: None, .. }) => Self::Agent(agent.clone()),
        }
    }
}

/// The fold behind [`Spending`].
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    spending: Spending,
    /// Who pays for requests to the model that have no reply yet: the turns of prompts, and agents' requests.
    turns: HashMap<RequestId, Payer>,
    sampling: HashMap<RequestId, Payer>,
}

impl Ledger {
    /// Takes the next event.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::GoalPlanned(planning) => {
                self.spending.planning.get_or_insert_default();
                for turn in &planning.turns {
                    self.charge(&Payer::Planning, |spent| {
                        spent.llm_calls += 1;
                        spent.reply(turn.usage, turn.cost_usd);
                    });
                }
            }
            Event::AttemptStarted { attempt, .. } => {
                self.charge(&Payer::Task(attempt.task.planned()), |spent| spent.tool_calls += 1);
            }
            Event::ModelAsked { attempt, .. } => {
                let payer = Payer::Task(attempt.task.planned());
                self.charge(&payer, |spent| spent.llm_calls += 1);
                self.turns.insert(RequestId::from(attempt.to_string()), payer);
            }
            Event::SamplingStarted { request, origin, .. } => {
                let payer = Payer::from(origin);
                self.charge(&payer, |spent| spent.llm_calls += 1);
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
            | Event::BudgetSpent { .. }
            | Event::CancelRequested
            | Event::RunEnded { .. } => {}
        }
    }

    /// What was spent so far.
    pub(super) fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Takes in that the replies which the process before waited for are lost. Turns are asked again.
    fn lose_replies(&mut self) {
        for payer in std::mem::take(&mut self.sampling).into_values() {
            self.charge(&payer, |spent| spent.untold_replies += 1);
        }
        for payer in self.turns.values().cloned().collect::<Vec<_>>() {
            self.charge(&payer, |spent| {
                spent.untold_replies += 1;
                spent.llm_calls += 1;
            });
        }
    }

    fn replied(&mut self, payer: Option<Payer>, result: &Result<ChatReply, ChatError>) {
        let Some(payer) = payer else { return };
        self.charge(&payer, |spent| match result {
            Ok(reply) => spent.reply(reply.usage, reply.cost_usd),
            // No model was asked.
            Err(ChatError::Unsupported { .. }) => spent.llm_calls -= 1,
            Err(ChatError::Endpoint { .. }) => {}
        });
    }

    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut Spent)) {
        let Spending { total, planning, tasks, agents } = &mut self.spending;
        change(total);
        change(match payer {
            Payer::Planning => planning.get_or_insert_default(),
            Payer::Task(task) => tasks.entry(task.clone()).or_default(),
            Payer::Agent(agent) => agents.entry(agent.clone()).or_default(),
        });
    }
}
