//! Reads the replan policy of a plan. `engine::replan` decides when to replan.

use super::routes::{NO_MODEL_HELP, RouteResolver};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::schema::keys::{PLAN, PlanKeys};
use crate::config::schema::table::CheckedTable;
use crate::model::{Consent, ReplanPolicy};

/// The default maximum number of replans.
const DEFAULT_MAX_REPLANS: u32 = 1;

/// Returns the replan policy of a plan. `first_replan` is the position of the first `on_failure: replan`.
///
/// Returns `None` with a warning if no language model is configured: the failures
/// then count as `fail`.
pub(super) fn read_replan_policy(
    plan: CheckedTable<'_, PlanKeys>,
    first_replan: Option<SourceSpan>,
    router: &RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<ReplanPolicy> {
    let max_replans = plan.integer(&PLAN.replan);
    let Some(first_replan) = first_replan else {
        if let Some(at) = plan.key_span(&PLAN.replan) {
            let message = "`replan` has no effect: no task has `on_failure: replan`";
            sink.warning("useless_key", at, message).help("set `on_failure: replan` for tasks or in `defaults`");
        }
        return None;
    };
    if max_replans == Some(0) {
        return None;
    }
    if !router.has_model() {
        let message = "`replan` requires a language model, and none is configured: failures count as `fail`";
        sink.warning("no_model", first_replan, message).help(NO_MODEL_HELP);
        return None;
    }
    Some(ReplanPolicy { max_replans: max_replans.unwrap_or(DEFAULT_MAX_REPLANS), consent: Consent::Allow })
}
