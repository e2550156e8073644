//! The accounts that budgets limit.

use crate::engine::ledger::{Payer, SpendingSink, SpendingTotals};
use crate::model::{Budget, IdMap, Task, TaskId};

/// The spending of a run, and of each planned task that has a budget.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BudgetAccounts {
    pub(crate) run: SpendingTotals,
    pub(crate) tasks: IdMap<TaskId, SpendingTotals>,
}

impl BudgetAccounts {
    /// Opens the account of a planned task if the task has a budget.
    pub(crate) fn open(&mut self, task: &Task) {
        if task.budget != Budget::default() {
            self.tasks.entry(task.id.clone()).or_default();
        }
    }
}

impl SpendingSink for BudgetAccounts {
    fn charge(&mut self, payer: &Payer, change: impl Fn(&mut SpendingTotals)) {
        change(&mut self.run);
        if let Payer::Task(task) = payer
            && !self.tasks.is_empty()
            && let Some(account) = self.tasks.get_mut(&task.planned_task())
        {
            change(account);
        }
    }
}
