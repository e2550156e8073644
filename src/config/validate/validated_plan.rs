//! A valid plan, and its settings that the command line can change.

use std::sync::Arc;

use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::model::{Consent, OnFailure, Plan, ReplanPolicy};

/// A valid plan and its warnings.
#[derive(Debug, Clone)]
pub struct ValidatedPlan {
    /// The plan.
    pub plan: Plan,
    /// The warnings, in the order of the file.
    pub warnings: Diagnostics,
    /// The indices of the tasks whose `on_failure` is `replan` or not set.
    pub(super) replannable: Vec<usize>,
}

impl ValidatedPlan {
    /// Returns the plan with at most `max_replans` replans, regardless of its own limit. If it is not zero, failures of
    /// tasks without `on_failure` trigger a replan.
    #[must_use]
    pub fn with_max_replans(mut self, max_replans: u32) -> Self {
        let policy = ReplanPolicy { max_replans, consent: Consent::Allow };
        self.plan.replan = Some(policy).filter(|_| max_replans > 0 && !self.replannable.is_empty());
        let on_failure = if max_replans > 0 { OnFailure::Replan } else { OnFailure::Fail };
        for index in &self.replannable {
            Arc::make_mut(&mut self.plan.tasks[*index]).on_failure = on_failure;
        }
        self
    }

    /// Returns the plan with an approval before each replan.
    #[must_use]
    pub fn with_approved_replans(mut self) -> Self {
        if let Some(policy) = &mut self.plan.replan {
            policy.consent = Consent::Ask;
        }
        self
    }
}
