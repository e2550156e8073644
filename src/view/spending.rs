//! Presents the spending of a run by payer, as the engine's ledger records it.

use serde::Serialize;

use crate::engine::{Payer, SpendingSink, SpendingTotals};
use crate::model::{AgentId, IdMap, TaskId};

/// The spending of a run so far. `total` is the sum of the other fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SpendingBreakdown {
    /// The total.
    #[serde(skip)]
    pub total: SpendingTotals,
    /// The spending on planning and replanning; absent if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planning: Option<SpendingTotals>,
    /// The spending by planned task, in the order of first spending. It includes items, the tool calls of a prompt, and
    /// the requests that agents made for the task.
    pub tasks: IdMap<TaskId, SpendingTotals>,
    /// The spending by agent on sampling requests without a known task.
    pub agents: IdMap<AgentId, SpendingTotals>,
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
