//! Enforces the budgets of a run and its tasks.
//!
//! A request that does not fit beside the reservations waits until some are settled; only spent tokens end a run.
//! Concurrent requests cannot spend the same tokens twice, so a budget is exceeded by less than one reservation.

use smallvec::SmallVec;

use crate::engine::ledger::SpendingTotals;
use crate::engine::state::run_state::State;
use crate::model::{Budget, MicroDollars, NodeIndex};

/// The kind of a call that is about to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CostKind {
    ToolCall,
    ModelCall,
}

/// The exceeded limit, in the budget of the run, or of a task or plan that a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BudgetExceeded {
    Run(String),
    Task { owner: NodeIndex, what: String },
}

/// The availability of tokens for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenAvailability {
    Available,
    /// Requests in progress have reserved the tokens: in the budget of this node, or of the run if there is none.
    Reserved(Option<NodeIndex>),
    /// The request may use more than the whole budget.
    Exceeds(String),
}

impl SpendingTotals {
    /// Returns the limit that is used up, among the limits that apply to this kind of call.
    fn exceeded_limit(&self, budget: &Budget, cost: CostKind) -> Option<String> {
        let used_up = |limit: Option<u64>, used: u64, what: &str| {
            limit.filter(|limit| used >= *limit).map(|limit| format!("{what} ({used} of {limit})"))
        };
        match cost {
            CostKind::ToolCall => used_up(budget.tool_calls, self.tool_calls, "tool calls"),
            CostKind::ModelCall => used_up(budget.llm_calls, self.llm_calls, "language model requests")
                .or_else(|| used_up(budget.tokens, self.tokens(), "tokens"))
                .or_else(|| {
                    let limit = budget.cost_usd.filter(|limit| self.cost_usd >= MicroDollars::from_usd(*limit))?;
                    Some(format!("cost ({} of {limit} US dollars)", self.cost_usd.usd()))
                }),
        }
    }
}

impl State {
    /// Returns the planned task that pays for `node`: the one that it belongs to, or itself.
    pub(crate) fn payer(&self, node: NodeIndex) -> NodeIndex {
        std::iter::successors(Some(node), |node| self.graph[*node].parent()).last().unwrap_or(node)
    }

    /// Returns the exceeded budget of the run, or of a task or plan that `node` belongs to, if there is one.
    pub(crate) fn exceeded_budget(&self, node: Option<NodeIndex>, expense: CostKind) -> Option<BudgetExceeded> {
        let of_run = self.ledger.spending().run.exceeded_limit(&self.plan.budget, expense).map(BudgetExceeded::Run);
        of_run.or_else(|| {
            self.budgets_of(node?).find_map(|(owner, budget)| {
                let account = self.ledger.spending().tasks.get(&self.graph[owner].id)?;
                let what = account.exceeded_limit(&budget, expense)?;
                Some(BudgetExceeded::Task { owner, what })
            })
        })
    }

    /// Returns whether a request of `node` that may use `tokens` can be sent now. A request that runs alone can be sent
    /// while its budget is not spent, since its real usage is often far lower.
    pub(crate) fn token_availability(&self, node: Option<NodeIndex>, tokens: u64) -> TokenAvailability {
        let of_run = (None, self.plan.budget.tokens, Some(&self.ledger.spending().run));
        let of_tasks = node.into_iter().flat_map(|node| self.budgets_of(node)).map(|(owner, budget)| {
            (Some(owner), budget.tokens, self.ledger.spending().tasks.get(&self.graph[owner].id))
        });
        let budgets: SmallVec<[_; 2]> = [of_run].into_iter().chain(of_tasks).collect();
        let too_small = budgets.iter().find_map(|(owner, limit, _)| {
            let limit = limit.filter(|limit| tokens > *limit)?;
            let owner = match owner {
                None => "the run's budget".to_owned(),
                Some(owner) if self.graph[*owner].parent().is_none() => "the task's budget".to_owned(),
                Some(owner) => format!("the budget of `{}`", self.graph[*owner].id),
            };
            Some(format!("a request can use up to {tokens} tokens, more than {owner} of {limit}"))
        });
        if let Some(reason) = too_small {
            return TokenAvailability::Exceeds(reason);
        }
        let reserved = budgets.iter().find(|(_, limit, account)| {
            let Some((limit, account)) = limit.zip(*account) else { return false };
            account.reserved_tokens > 0
                && account.tokens().saturating_add(account.reserved_tokens).saturating_add(tokens) > limit
        });
        match reserved {
            Some((owner, ..)) => TokenAvailability::Reserved(*owner),
            None => TokenAvailability::Available,
        }
    }
}
