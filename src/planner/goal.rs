//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::planning::{GeneratedPlan, Goal, PlanError, PlanningContext, PlanningProgress, PlanningResult};
use super::repair_loop::{AnswerValidator, PlannerLog, PlanningObserver, PlanningPrompt, plan_with_repairs};
use super::{plan_draft, prompt, schema, tool_selection};
use crate::config;
use crate::model::ReplySchema;

/// Plans a goal: one exchange, and at most two more for repairs. Calls `on_progress` before each exchange.
pub async fn plan(
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    on_progress: &mut (dyn FnMut(PlanningProgress) + Send),
) -> PlanningResult {
    let mut log = PlannerLog::default();
    let result = generate_plan(goal, context, PlanningObserver { on_progress, log: &mut log }).await;
    PlanningResult { result, requests: log.requests, exchanges: log.exchanges }
}

async fn generate_plan(
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    observer: PlanningObserver<'_>,
) -> Result<GeneratedPlan, PlanError> {
    let all = tool_selection::tool_offers(context.catalog);
    if all.is_empty() {
        return Err(PlanError::NoTools);
    }
    let tools = all.len();
    let offers = tool_selection::select(all, goal.text);
    (observer.on_progress)(PlanningProgress::Started { shown: offers.len(), tools });
    let max_tasks = context.agents.planner.max_tasks;
    let prompt = PlanningPrompt {
        system: prompt::system_prompt(max_tasks),
        question: prompt::goal_prompt(goal.text, &offers, context.catalog),
        output: ReplySchema { name: "plan".to_owned(), schema: schema::plan_schema(&offers, max_tasks) },
    };
    let validator = AnswerValidator {
        goal: *goal,
        context,
        offers: &offers,
        allows_no_tasks: false,
        draft: &|answer| plan_draft::write_plan(goal, answer, &offers),
        load: &|text| {
            let validated = config::load_plan(context.file, text, context.agents, Some(context.catalog))?;
            let warnings = validated.warnings.clone();
            Ok((GeneratedPlan { text: text.to_owned(), validated }, warnings))
        },
    };
    plan_with_repairs(prompt, &validator, observer).await
}

#[cfg(test)]
mod tests;
