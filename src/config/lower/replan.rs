//! Reads how often a run may plan its remainder anew, and for whose failures.
//! Never says when; that is `engine::replan`.

use std::sync::Arc;

use super::{ValidatedPlan, routes::RouteResolver};
use crate::{
    config::{diagnostic_sink::DiagnosticSink, table_schema::CheckedTable},
    model::{Consent, OnFailure, ReplanPolicy, Task},
};

/// Replans of a run whose plan gives no number.
const DEFAULT_MAX_REPLANS: u32 = 1;

impl ValidatedPlan {
    /// The same plan with at most `most` replans, whatever it says of their number; with any at all, the failure of a
    /// task that does not say what it means asks for one.
    #[must_use]
    pub fn with_max_replans(mut self, most: u32) -> Self {
        let policy = ReplanPolicy { most, consent: Consent::Allow };
        self.plan.replan = Some(policy).filter(|_| most > 0 && !self.replannable.is_empty());
        let on_failure = if most > 0 { OnFailure::Replan } else { OnFailure::Fail };
        for index in &self.replannable {
            Arc::make_mut(&mut self.plan.tasks[*index]).on_failure = on_failure;
        }
        self
    }

    /// The same plan, with a person to agree to each new remainder.
    #[must_use]
    pub fn with_approved_replans(mut self) -> Self {
        if let Some(policy) = &mut self.plan.replan {
            policy.consent = Consent::Ask;
        }
        self
    }
}

/// A task, its keys and those of `defaults`.
pub(super) struct TaskDefinition<'r, 'n> {
    pub(super) task: &'r Task,
    pub(super) fields: &'r CheckedTable<'n>,
    pub(super) defaults: Option<&'r CheckedTable<'n>>,
}

impl TaskDefinition<'_, '_> {
    /// Whether its failure asks for a replan, or says nothing of what it means.
    pub(super) fn is_replannable(&self) -> bool {
        self.task.on_failure == OnFailure::Replan || self.on_failure_table().is_none()
    }

    /// The keys that say what its failure means.
    fn on_failure_table(&self) -> Option<&CheckedTable<'_>> {
        [Some(self.fields), self.defaults].into_iter().flatten().find(|fields| fields.has("on_failure"))
    }
}

/// The policy of a plan. Where its failures ask for replans that there cannot be, they count as `fail` from here on.
pub(super) fn read_replan_policy(
    plan: &CheckedTable<'_>,
    asking: Option<&TaskDefinition<'_, '_>>,
    router: &RouteResolver<'_>,
    findings: &mut DiagnosticSink,
) -> Option<ReplanPolicy> {
    let most = plan.integer("replan");
    let Some(asking) = asking else {
        if let Some(at) = plan.key_span("replan") {
            let message = "`replan` has no effect, since no failure asks for a replan";
            findings.warning("useless_key", at, message).help("say `on_failure: replan` on tasks, or under `defaults`");
        }
        return None;
    };
    if most == Some(0) {
        return None;
    }
    if !router.has_model() {
        let at = asking.on_failure_table().and_then(|fields| fields.key_span("on_failure")).unwrap_or(plan.span);
        let message = "a replan needs a language model, and none is configured: the failure counts as `fail`";
        let found = findings.warning("no_model", at, message);
        found.help("add `[llm]` or `[models.NAME]` with `base_url` and `model` to the agents file");
        return None;
    }
    Some(ReplanPolicy { most: most.unwrap_or(DEFAULT_MAX_REPLANS), consent: Consent::Allow })
}
