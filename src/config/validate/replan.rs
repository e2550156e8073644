//! Reads the replan policy of a plan. `engine::replan` decides when to replan.

use super::routes::RouteResolver;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::table::CheckedTable;
use crate::model::{Consent, OnFailure, ReplanPolicy, Task};

/// The default maximum number of replans.
const DEFAULT_MAX_REPLANS: u32 = 1;

/// A task with its own keys and those of `defaults`.
pub(super) struct TaskDefinition<'r, 'n> {
    pub(super) task: &'r Task,
    pub(super) fields: &'r CheckedTable<'n>,
    pub(super) defaults: Option<&'r CheckedTable<'n>>,
}

impl TaskDefinition<'_, '_> {
    /// Returns whether `on_failure` of the task is `replan` or not set.
    pub(super) fn is_replannable(&self) -> bool {
        self.task.on_failure == OnFailure::Replan || self.on_failure_table().is_none()
    }

    /// Returns the table that sets `on_failure` for the task, if any.
    fn on_failure_table(&self) -> Option<&CheckedTable<'_>> {
        [Some(self.fields), self.defaults].into_iter().flatten().find(|fields| fields.has("on_failure"))
    }
}

/// Returns the replan policy of a plan. Returns `None` with a warning if no language model is configured: the failures
/// then count as `fail`.
pub(super) fn read_replan_policy(
    plan: &CheckedTable<'_>,
    asking: Option<&TaskDefinition<'_, '_>>,
    router: &RouteResolver<'_>,
    findings: &mut DiagnosticSink,
) -> Option<ReplanPolicy> {
    let most = plan.integer("replan");
    let Some(asking) = asking else {
        if let Some(at) = plan.key_span("replan") {
            let message = "`replan` has no effect: no task has `on_failure: replan`";
            findings.warning("useless_key", at, message).help("set `on_failure: replan` for tasks or in `defaults`");
        }
        return None;
    };
    if most == Some(0) {
        return None;
    }
    if !router.has_model() {
        let at = asking.on_failure_table().and_then(|fields| fields.key_span("on_failure")).unwrap_or(plan.span);
        let message = "`replan` requires a language model, and none is configured: failures count as `fail`";
        let found = findings.warning("no_model", at, message);
        found.help("add `[llm]` or `[models.NAME]` with `base_url` and `model` to the agents file");
        return None;
    }
    Some(ReplanPolicy { max_replans: most.unwrap_or(DEFAULT_MAX_REPLANS), consent: Consent::Allow })
}
