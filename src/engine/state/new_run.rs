//! The parameters of a new run.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{Event, GoalPlanning, Plan, RunSource};

/// The parameters of a new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The plan.
    pub plan: Arc<Plan>,
    /// The inputs with defaults filled in: a JSON object.
    pub inputs: Arc<Value>,
    /// The seed of all delays with jitter.
    pub seed: u64,
    /// The planning calls, if the plan was made for a goal of this run.
    pub planning: Option<GoalPlanning>,
    /// The files that the plan comes from, if there are any.
    pub source: Option<Arc<RunSource>>,
}

impl NewRun {
    /// Returns the first event of the run.
    pub(crate) fn into_event(self) -> Event {
        let Self { plan, inputs, seed, source, .. } = self;
        Event::RunStarted { plan, inputs, seed, source }
    }
}
