//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::plan_draft::{self, PlanDraft};
use super::planning::{GeneratedPlan, Goal, PlanError, PlanningContext, PlanningProgress, PlanningResult};
use super::repair_loop::{AnswerValidator, PlannerLog, PlanningObserver, PlanningPrompt, plan_with_repairs};
use super::tool_selection::{self, ToolOffer};
use super::{prompt, schema};
use crate::config::{self, Diagnostics};
use crate::model::{JsonObject, ReplySchema};

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
        question: prompt::goal_prompt(goal.text, &offers, tools - offers.len()),
        output: ReplySchema { name: "plan".to_owned(), schema: schema::plan_schema(&offers, max_tasks) },
    };
    plan_with_repairs(prompt, &PlanValidator { goal, context, offers: &offers }, observer).await
}

/// The validator of replies to a goal.
struct PlanValidator<'a> {
    goal: &'a Goal<'a>,
    context: &'a PlanningContext<'a>,
    offers: &'a [ToolOffer<'a>],
}

impl AnswerValidator for PlanValidator<'_> {
    type Accepted = GeneratedPlan;

    fn unreadable_draft(&self, answer: &str) -> PlanDraft {
        plan_draft::write_unreadable(self.goal, answer)
    }

    fn context(&self) -> &PlanningContext<'_> {
        self.context
    }

    fn offers(&self) -> &[ToolOffer<'_>] {
        self.offers
    }

    fn allows_no_tasks(&self) -> bool {
        false
    }

    fn draft(&self, answer: &JsonObject) -> PlanDraft {
        plan_draft::write_plan(self.goal, answer, self.offers)
    }

    fn load(&self, text: &str) -> Result<(GeneratedPlan, Diagnostics), Diagnostics> {
        let PlanningContext { agents, catalog, file, .. } = *self.context;
        let validated = config::load_plan(file, text, agents, Some(catalog))?;
        let warnings = validated.warnings.clone();
        Ok((GeneratedPlan { text: text.to_owned(), validated }, warnings))
    }
}

#[cfg(test)]
mod tests;
