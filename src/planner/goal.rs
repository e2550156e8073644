//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::{
    bindings,
    plan_draft::{self, PlanDraft},
    planning::{GeneratedPlan, Goal, PlanError, PlanningContext, PlanningProgress, PlanningResult},
    prompt,
    repair_loop::{AnswerValidator, PlannerLog, PlanningObserver, UNREACHABLE_AGENT, plan_with_repairs},
    schema,
    token_limit::TokenLimit,
    tool_selection::{self, ToolOffer},
};
use crate::{
    config::{self, AgentsFile, Diagnostics},
    model::{ChatMessage, ChatRequest, ChatRole, JsonObject, ReplySchema},
};

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
    let question = ChatMessage::text(ChatRole::User, prompt::goal_prompt(goal.text, &offers, tools - offers.len()));
    let request = ChatRequest {
        model: context.agents.planner.model.clone(),
        system: Some(prompt::system_prompt(max_tasks)),
        messages: vec![question.into()],
        max_tokens: TokenLimit::from_agents(context.agents).current(),
        temperature: context.agents.planner.temperature,
        reasoning_effort: context.agents.planner.reasoning_effort.clone(),
        output: Some(ReplySchema { name: "plan".to_owned(), schema: schema::plan_schema(&offers, max_tasks) }),
        ..ChatRequest::default()
    };
    plan_with_repairs(context.llm, request, &PlanValidator { goal, context, offers: &offers }, observer).await
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

    fn file_name(&self) -> &str {
        self.context.file
    }

    fn agents(&self) -> &AgentsFile {
        self.context.agents
    }

    fn allows_no_tasks(&self) -> bool {
        false
    }

    fn draft(&self, answer: &JsonObject) -> PlanDraft {
        plan_draft::write_plan(self.goal, answer, self.offers)
    }

    fn validate(&self, answer: &JsonObject) -> Result<GeneratedPlan, (PlanDraft, Diagnostics)> {
        let draft = self.draft(answer);
        let invalid_bindings = bindings::invalid_bindings(answer, self.offers);
        let PlanningContext { agents, catalog, file, .. } = *self.context;
        let mistakes = match config::load_plan(file, &draft.text, agents, Some(catalog)) {
            // A person may plan for an agent that is currently unreachable, but a model has not seen its tools.
            Ok(lowered) if lowered.warnings.list().iter().any(|found| found.code == UNREACHABLE_AGENT) => {
                lowered.warnings
            }
            Ok(lowered) if draft.unknown_keys.is_empty() && invalid_bindings.is_empty() => {
                return Ok(GeneratedPlan { text: draft.text, validated: lowered });
            }
            Ok(lowered) => lowered.warnings,
            Err(mistakes) => mistakes,
        };
        Err((draft, bindings::add_to_diagnostics(invalid_bindings, mistakes)))
    }
}

#[cfg(test)]
mod tests;
