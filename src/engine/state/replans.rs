//! The state of the replans of a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{NodeIndex, PlanPatch, TaskId};

/// The state of the replans of a run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ReplanState {
    /// The number of replans started.
    pub(crate) started_count: u32,
    /// The stage of the last replan.
    pub(crate) stage: ReplanStage,
    /// Tasks with a final failure that asks for a replan, until a replan is started for them or refused.
    pub(crate) failed: Vec<NodeIndex>,
    /// Tasks whose failure started a replan.
    pub(crate) attempted: BTreeSet<NodeIndex>,
    /// Tasks whose failure led to a patch. The run tolerates these failures if it has any result.
    pub(crate) superseded: BTreeSet<NodeIndex>,
    /// Tasks removed by a patch.
    pub(crate) removed: BTreeSet<NodeIndex>,
}

/// The stage of the last replan.
#[derive(Debug, Default, PartialEq)]
pub(crate) enum ReplanStage {
    /// No replan is in progress.
    #[default]
    Idle,
    /// The planner works on a patch because these tasks failed.
    Planning(Vec<TaskId>),
    /// A person has to approve the patch that was made because these tasks failed.
    Proposed(Vec<TaskId>, Arc<PlanPatch>),
}
