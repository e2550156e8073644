//! Accounts for the spending of a run, and enforces its budgets.

pub(crate) mod limits;
pub(crate) mod sampling_usage;
