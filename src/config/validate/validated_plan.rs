//! A valid plan, and its settings that the command line can change.

use std::sync::Arc;

use crate::config::diagnostics::diagnostic::{Diagnostic, Diagnostics, OverflowCounts, Severity};
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

/// The codes of warnings that are errors of a run.
const PERMISSION_CODES: [&str; 2] = ["plan::shell_disabled", "plan::http_host"];

impl ValidatedPlan {
    /// Returns the plan if the agents file allows what its tasks have the host itself do.
    ///
    /// # Errors
    /// Returns what is not allowed.
    pub fn require_permissions(self) -> Result<Self, Diagnostics> {
        let is_permission = |warning: &&Diagnostic| PERMISSION_CODES.contains(&warning.code.as_str());
        let refused = self.warnings.list.iter().filter(is_permission).cloned();
        let list: Vec<_> = refused.map(|warning| Diagnostic { severity: Severity::Error, ..warning }).collect();
        if list.is_empty() {
            return Ok(self);
        }
        Err(Diagnostics { source: self.warnings.source, list, overflow: OverflowCounts::default() })
    }

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
