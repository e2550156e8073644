//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::answer::plan_draft;
use super::answer::reply_form::Conclusion;
use super::planning::{
    GeneratedPlan, Goal, PlanError, PlanningContext, PlanningOutcome, PlanningProgress, PlanningResult, Remark,
};
use super::prompt::rules;
use super::repair_loop::{
    AnswerValidator, EmptyReply, PlannerLog, PlannerReply, PlanningObserver, PlanningPrompt, plan_with_repairs,
};
use super::schema::answer_schema::{self, FormLimits};
use super::selection::sub_goals;
use super::selection::tool_selection::{self, ToolOffer, ToolQuery};
use super::token_limit::TokenLimit;
use crate::config;
use crate::model::{ChatMessage, ChatRequest, ChatRole, PlannerExchange, ReplySchema};

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

/// Asks the model for the steps to the goal, which tools are selected for. Without a reply, they are selected for the
/// goal alone.
async fn ask_for_steps(
    goal: &Goal<'_>,
    offers: &[ToolOffer<'_>],
    context: &PlanningContext<'_>,
    observer: &mut PlanningObserver<'_>,
) -> ToolQuery {
    (observer.on_progress)(PlanningProgress::ChoosingTools { tools: offers.len() });
    let PlanningContext { llm, agents, .. } = *context;
    let limits = FormLimits::of(agents);
    let remarks = goal.remarks.iter().map(|remark| match remark {
        Remark::Answer { answer, .. } => answer.as_str(),
        Remark::Wish { wish, .. } => wish.as_str(),
    });
    let text = std::iter::once(goal.text).chain(remarks).collect::<Vec<_>>().join("\n");
    let request = ChatRequest {
        model: agents.planner.model.clone(),
        system: Some(sub_goals::SYSTEM.to_owned()),
        messages: vec![ChatMessage::text(ChatRole::User, sub_goals::prompt(&text, offers)).into()],
        max_tokens: TokenLimit::from_agents(agents).current(),
        temperature: agents.planner.temperature,
        reasoning_effort: agents.planner.reasoning_effort.clone(),
        output: Some(sub_goals::schema(limits.has_bounds)),
        ..ChatRequest::default()
    };
    observer.log.requests += 1;
    match llm.chat(&request).await {
        Ok(reply) => {
            observer.log.exchanges.push(PlannerExchange::from_reply(&request, &reply));
            sub_goals::query(&reply.text(), &text)
        }
        Err(error) => {
            let warning = format!("tools are chosen by the words of the goal alone: {error}");
            (observer.on_progress)(PlanningProgress::Warned(warning));
            sub_goals::query("", &text)
        }
    }
}

async fn generate_plan(
    goal: &Goal<'_>,
    context: &PlanningContext<'_>,
    observer: PlanningObserver<'_>,
) -> Result<PlanningOutcome, PlanError> {
    let all = tool_selection::tool_offers(context.catalog);
    if all.is_empty() {
        return Err(PlanError::NoTools);
    }
    let tools = all.len();
    let mut observer = observer;
    let query = match tools > tool_selection::MAX_TOOLS {
        true => ask_for_steps(goal, &all, context, &mut observer).await,
        false => ToolQuery::default(),
    };
    let offers = tool_selection::select(all, &query);
    (observer.on_progress)(PlanningProgress::Started { shown: offers.len(), tools });
    let schema = answer_schema::plan_schema(&offers, FormLimits::of(context.agents));
    let prompt = PlanningPrompt {
        system: rules::SYSTEM.to_owned(),
        question: rules::goal_prompt(goal, &offers, context),
        output: ReplySchema { name: "plan".to_owned(), schema, is_described: true },
    };
    let validator = AnswerValidator {
        goal: *goal,
        context,
        empty_reply: EmptyReply::Conclusion,
        draft: &|reply| plan_draft::write_plan(goal, reply, &offers),
        load: &|text| {
            let validated = config::load_plan(context.file, text, context.agents, Some(context.catalog))?;
            let warnings = validated.warnings.clone();
            Ok(((text.to_owned(), validated), warnings))
        },
    };
    Ok(match plan_with_repairs(prompt, &validator, observer).await? {
        PlannerReply::Valid((text, validated), reply) => {
            PlanningOutcome::Plan(Box::new(GeneratedPlan { text, validated, reply }))
        }
        PlannerReply::Conclusion(Conclusion::Answer(answer)) => PlanningOutcome::Answer(answer),
        PlannerReply::Conclusion(Conclusion::Question(question)) => PlanningOutcome::Question(question),
        PlannerReply::Conclusion(Conclusion::Impossible(missing)) => return Err(PlanError::Impossible { missing }),
    })
}

#[cfg(test)]
mod tests;
