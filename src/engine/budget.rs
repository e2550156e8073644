//! What a run and its tasks have spent, and whether they may spend more.
//! Never spends; a call is charged when its event says that it was made.
//!
//! Tokens are reserved before the model is asked and settled when it has replied. A request for which reservations leave no
//! room waits until some are settled, and only spent tokens end a run. Requests that run side by side thus cannot spend
//! the same tokens twice: a budget is exceeded by less than one request's reservation.

use std::collections::BTreeMap;

use crate::model::{Budget, ChatError, ChatReply, GoalPlanning, MicroDollars, NodeIndex, NodeKind, RequestId};

use super::{apply::Fold, run::State};

/// What was spent by somebody.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Account {
    /// Tokens that were used.
    tokens: u64,
    /// Tokens that calls under way may use.
    reserved: u64,
    cost: MicroDollars,
    llm_calls: u64,
    tool_calls: u64,
}

/// Tokens that a call under way may use, and the task that pays for them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TokenReservation {
    tokens: u64,
    payer: Option<NodeIndex>,
}

/// The accounts of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Accounts {
    /// The run's own.
    run: Account,
    /// Of tasks that have a budget.
    tasks: BTreeMap<NodeIndex, Account>,
    /// By the request that they are for.
    reservations: BTreeMap<RequestId, TokenReservation>,
}

/// What a call costs before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CostKind {
    ToolCall,
    ModelCall,
}

/// What there is not enough of, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BudgetExceeded {
    Run(String),
    Task(String),
}

/// Whether there is room for the tokens that a request may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TokenAvailability {
    Available,
    /// Requests under way have reserved it: those of this task, or else of the run.
    Reserved(Option<NodeIndex>),
    /// There never is: the request may use more than the whole budget.
    Exceeds(String),
}

/// A prompt whose next request waits for room.
#[derive(Debug)]
pub(super) struct WaitingPrompt {
    pub(super) node: NodeIndex,
    /// The most tokens that its request may use.
    pub(super) tokens: u64,
}

impl Account {
    /// What of the budget is used up, as far as it bears on `expense`.
    fn exceeded_limit(&self, budget: &Budget, cost: CostKind) -> Option<String> {
        let used_up = |limit: Option<u64>, used: u64, what: &str| {
            limit.filter(|limit| used >= *limit).map(|limit| format!("{what} ({used} of {limit})"))
        };
        match cost {
            CostKind::ToolCall => used_up(budget.tool_calls, self.tool_calls, "tool calls"),
            CostKind::ModelCall => used_up(budget.llm_calls, self.llm_calls, "calls of the language model")
                .or_else(|| used_up(budget.tokens, self.tokens, "tokens"))
                .or_else(|| {
                    let limit = budget.cost_usd.filter(|limit| self.cost >= MicroDollars::from_usd(*limit))?;
                    Some(format!("cost ({} of {limit} US dollars)", self.cost.usd()))
                }),
        }
    }
}

impl State {
    /// The task of the plan that pays for what `node` does: its `foreach` task, its prompt, or itself.
    pub(super) fn payer(&self, mut node: NodeIndex) -> NodeIndex {
        loop {
            node = match &self.graph[node].kind {
                NodeKind::Planned => return node,
                NodeKind::Item(item) => item.parent,
                NodeKind::ToolCall(call) => call.parent,
            };
        }
    }

    /// Whether `payer`, and the run, may spend more.
    pub(super) fn exceeded_budget(&self, payer: Option<NodeIndex>, expense: CostKind) -> Option<BudgetExceeded> {
        let of_run = self.accounts.run.exceeded_limit(&self.plan.budget, expense).map(BudgetExceeded::Run);
        of_run.or_else(|| {
            let payer = payer?;
            let account = self.accounts.tasks.get(&payer)?;
            account.exceeded_limit(&self.graph[payer].task.budget, expense).map(BudgetExceeded::Task)
        })
    }

    /// Whether a request that may use `tokens` can be made now. One that nothing runs beside can, where its budget is not
    /// spent: what it really uses is often far less.
    pub(super) fn token_availability(&self, payer: Option<NodeIndex>, tokens: u64) -> TokenAvailability {
        let of_run = (None, self.plan.budget.tokens, Some(&self.accounts.run));
        let of_task =
            payer.map(|payer| (Some(payer), self.graph[payer].task.budget.tokens, self.accounts.tasks.get(&payer)));
        let budgets = || [of_run].into_iter().chain(of_task);
        let too_small = budgets().find_map(|(payer, limit, _)| {
            let limit = limit.filter(|limit| tokens > *limit)?;
            let whose = if payer.is_some() { "task" } else { "run" };
            Some(format!("a request may use up to {tokens} tokens, more than the {whose}'s whole budget of {limit}"))
        });
        if let Some(why) = too_small {
            return TokenAvailability::Exceeds(why);
        }
        let reserved = budgets().find(|(_, limit, account)| {
            let Some((limit, account)) = limit.zip(*account) else { return false };
            account.reserved > 0 && account.tokens.saturating_add(account.reserved).saturating_add(tokens) > limit
        });
        match reserved {
            Some((payer, ..)) => TokenAvailability::Reserved(payer),
            None => TokenAvailability::Available,
        }
    }

    /// What the run has spent, with nothing under way: calls of the model and of tools, tokens, and US dollars.
    #[cfg(test)]
    pub(super) fn spent_totals(&self) -> (u64, u64, u64, MicroDollars) {
        let Account { tokens, cost, llm_calls, tool_calls, .. } = self.accounts.run;
        (llm_calls, tool_calls, tokens, cost)
    }
}

impl Fold<'_> {
    /// Charges a call of a tool.
    pub(super) fn charge_tool_call(&mut self, node: NodeIndex) {
        let payer = self.payer(node);
        self.charge(Some(payer), |account| account.tool_calls += 1);
    }

    /// Charges a call of the model, and reserves what it may use.
    pub(super) fn reserve(&mut self, request: RequestId, payer: Option<NodeIndex>, tokens: u64) {
        self.charge(payer, |account| {
            account.llm_calls += 1;
            account.reserved += tokens;
        });
        self.state.accounts.reservations.insert(request, TokenReservation { tokens, payer });
    }

    /// Charges what planning the run's goal took, to the run alone.
    pub(super) fn charge_planning(&mut self, planning: &GoalPlanning) {
        for turn in &planning.turns {
            let account = &mut self.state.accounts.run;
            account.llm_calls += 1;
            account.tokens += turn.usage.map_or(turn.most_tokens, |usage| usage.input_tokens + usage.output_tokens);
            account.cost += cost(turn.cost_usd);
        }
    }

    /// Turns a reservation into what was used. A reply that does not tell its usage has used all of it; a call that
    /// failed, nothing that anybody knows of; and one that no model takes was not made.
    pub(super) fn settle(&mut self, request: &RequestId, result: &Result<ChatReply, ChatError>) {
        let Some(TokenReservation { tokens: reserved, payer }) = self.state.accounts.reservations.remove(request)
        else {
            return;
        };
        let (used, spent) = match result {
            Ok(reply) => {
                let used = reply.usage.map_or(reserved, |usage| usage.input_tokens + usage.output_tokens);
                (used, cost(reply.cost_usd))
            }
            Err(_) => (0, MicroDollars::default()),
        };
        let unmade = u64::from(matches!(result, Err(ChatError::Unsupported { .. })));
        self.charge(payer, |account| {
            account.llm_calls -= unmade;
            account.reserved -= reserved;
            account.tokens += used;
            account.cost += spent;
        });
    }

    /// Turns the reservation of a request whose reply is lost into what was used: nobody knows better.
    pub(super) fn write_off(&mut self, request: &RequestId) {
        let Some(TokenReservation { tokens, payer }) = self.state.accounts.reservations.remove(request) else { return };
        self.charge(payer, |account| {
            account.reserved -= tokens;
            account.tokens += tokens;
        });
    }

    /// Charges a request that is made again because its reply is lost.
    pub(super) fn charge_repeated_request(&mut self, request: &RequestId) {
        let Some(TokenReservation { tokens, payer }) = self.state.accounts.reservations.get(request).cloned() else {
            return;
        };
        self.write_off(request);
        self.reserve(request.clone(), payer, tokens);
    }

    fn charge(&mut self, payer: Option<NodeIndex>, mut change: impl FnMut(&mut Account)) {
        change(&mut self.state.accounts.run);
        if let Some(payer) = payer.filter(|payer| self.state.graph[*payer].task.budget != Budget::default()) {
            change(self.state.accounts.tasks.entry(payer).or_default());
        }
    }
}

/// Returns what a reply cost; nothing where its model has no prices.
fn cost(usd: Option<f64>) -> MicroDollars {
    usd.map(MicroDollars::from_usd).unwrap_or_default()
}
