//! Accounts for the spending of a run and its tasks, and enforces their budgets. A call is charged when its event is
//! applied.
//!
//! Tokens are reserved before a model request and settled after its reply. A request that does not fit beside the
//! reservations waits until some are settled; only spent tokens end a run. Concurrent requests cannot spend the same
//! tokens twice, so a budget is exceeded by less than one reservation.

use crate::{
    engine::state::{
        accounts::{Account, TokenReservation},
        fold::Fold,
        run_state::State,
    },
    model::{Budget, ChatError, ChatReply, GoalPlanning, MicroDollars, NodeIndex, NodeKind, RequestId},
};

/// The kind of a call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CostKind {
    ToolCall,
    ModelCall,
}

/// The exceeded limit, in the budget of the run or of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    Run(String),
    Task(String),
}

/// The availability of tokens for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenAvailability {
    Available,
    /// Requests in progress have reserved the tokens: in the budget of this task, or of the run if there is none.
    Reserved(Option<NodeIndex>),
    /// The request may use more than the whole budget.
    Exceeds(String),
}

impl Account {
    /// Returns the limit that is used up, among the limits that apply to this kind of call.
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
    /// Returns the planned task that pays for `node`: its `foreach` task, its prompt, or itself.
    pub(crate) fn payer(&self, mut node: NodeIndex) -> NodeIndex {
        loop {
            node = match &self.graph[node].kind {
                NodeKind::Planned => return node,
                NodeKind::Item(item) => item.parent,
                NodeKind::ToolCall(call) => call.parent,
            };
        }
    }

    /// Returns the exceeded budget of the run or of `payer`, if there is one.
    pub(crate) fn exceeded_budget(&self, payer: Option<NodeIndex>, expense: CostKind) -> Option<BudgetExceeded> {
        let of_run = self.accounts.run.exceeded_limit(&self.plan.budget, expense).map(BudgetExceeded::Run);
        of_run.or_else(|| {
            let payer = payer?;
            let account = self.accounts.tasks.get(&payer)?;
            account.exceeded_limit(&self.graph[payer].task.budget, expense).map(BudgetExceeded::Task)
        })
    }

    /// Returns whether a request that may use `tokens` can be sent now. A request that runs alone can be sent while its
    /// budget is not spent, since its real usage is often far lower.
    pub(crate) fn token_availability(&self, payer: Option<NodeIndex>, tokens: u64) -> TokenAvailability {
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

    /// Returns the run's model calls, tool calls, tokens, and US dollars. Reservations are not included.
    #[cfg(test)]
    pub(crate) fn spent_totals(&self) -> (u64, u64, u64, MicroDollars) {
        let Account { tokens, cost, llm_calls, tool_calls, .. } = self.accounts.run;
        (llm_calls, tool_calls, tokens, cost)
    }
}

impl Fold<'_> {
    /// Charges a tool call.
    pub(crate) fn charge_tool_call(&mut self, node: NodeIndex) {
        let payer = self.payer(node);
        self.charge(Some(payer), |account| account.tool_calls += 1);
    }

    /// Charges a model call and reserves its tokens.
    pub(crate) fn reserve(&mut self, request: RequestId, payer: Option<NodeIndex>, tokens: u64) {
        self.charge(payer, |account| {
            account.llm_calls += 1;
            account.reserved += tokens;
        });
        self.state.accounts.reservations.insert(request, TokenReservation { tokens, payer });
    }

    /// Charges the planning of the run's goal to the run.
    pub(crate) fn charge_planning(&mut self, planning: &GoalPlanning) {
        for turn in &planning.turns {
            let account = &mut self.state.accounts.run;
            account.llm_calls += 1;
            account.tokens += turn.usage.map_or(turn.most_tokens, |usage| usage.input_tokens + usage.output_tokens);
            account.cost += cost(turn.cost_usd);
        }
    }

    /// Settles a reservation. A reply without a reported usage is charged for the whole reservation, and a failed
    /// request for no tokens. A request that no model supports does not count as a call.
    pub(crate) fn settle(&mut self, request: &RequestId, result: &Result<ChatReply, ChatError>) {
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

    /// Charges the whole reservation of a request whose reply is lost, since its usage is unknown.
    pub(crate) fn write_off(&mut self, request: &RequestId) {
        let Some(TokenReservation { tokens, payer }) = self.state.accounts.reservations.remove(request) else { return };
        self.charge(payer, |account| {
            account.reserved -= tokens;
            account.tokens += tokens;
        });
    }

    /// Charges a request that is repeated because its reply is lost.
    pub(crate) fn charge_repeated_request(&mut self, request: &RequestId) {
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

/// Returns the cost of a reply, or zero if its model has no prices.
fn cost(usd: Option<f64>) -> MicroDollars {
    usd.map(MicroDollars::from_usd).unwrap_or_default()
}
