//! The spending of a run and its tasks, and the tokens reserved for requests in progress.

use std::collections::BTreeMap;

use crate::model::{MicroDollars, NodeIndex, RequestId};

/// The spending of a run or a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Account {
    /// Tokens that were used.
    pub(crate) tokens: u64,
    /// Tokens reserved for requests in progress.
    pub(crate) reserved: u64,
    pub(crate) cost: MicroDollars,
    pub(crate) llm_calls: u64,
    pub(crate) tool_calls: u64,
}

/// The tokens reserved for a request in progress, and the task that pays for them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenReservation {
    pub(crate) tokens: u64,
    pub(crate) payer: Option<NodeIndex>,
}

/// The accounts of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Accounts {
    /// The account of the whole run.
    pub(crate) run: Account,
    /// The accounts of tasks that have a budget.
    pub(crate) tasks: BTreeMap<NodeIndex, Account>,
    /// The reservations by request.
    pub(crate) reservations: BTreeMap<RequestId, TokenReservation>,
}
