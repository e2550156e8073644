//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::answer::plan_draft;
use super::answer::plan_example::{self, ExampleReply};
use super::answer::reply_form::Conclusion;
use super::planning::{
    GeneratedPlan, Goal, PlanError, PlanExample, PlanningContext, PlanningOutcome, PlanningProgress, PlanningResult,
    Remark,
};
use super::prompt::rules;
use super::repair_loop::{
    AnswerValidator, EmptyReply, PlannerLog, PlannerReply, PlanningObserver, PlanningPrompt, PlanningPrompts,
    plan_with_repairs,
};
use super::schema::answer_schema::{self, FormLimits, PlanForm};
use super::selection::tool_selection::{self, ToolOffer, ToolQuery};
use super::selection::{similar_plans, sub_goals};
use super::streamed_call::streamed_call;
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

/// What a person can do if no agent can do what a goal needs.
const IMPOSSIBLE_HELP: &str =
    "`kapell agents tools` lists what the agents offer; `kapell agents add` adds one that can do more";

/// A saved plan, and the reply that it could be made from.
type RecalledPlan<'a> = (&'a PlanExample, ExampleReply);

/// Returns the saved plans for similar goals whose tools exist.
fn find_examples<'a>(goal: &Goal<'a>, offers: &[ToolOffer<'_>]) -> Vec<RecalledPlan<'a>> {
    let similar = similar_plans::similar_plans(goal.text, goal.examples).into_iter();
    let exists = |tool: &String| offers.iter().any(|offer| offer.name() == *tool);
    let examples = similar.filter_map(|example| Some((example, plan_example::example_reply(&example.text)?)));
    examples.filter(|(_, example)| example.tools.iter().all(exists)).collect()
}

/// Writes the examples that a form can express, each with its goal.
fn example_lines(examples: &[RecalledPlan<'_>], form: PlanForm) -> String {
    let is_possible = |(_, example): &&RecalledPlan<'_>| form == PlanForm::Full || example.is_compact();
    let lines = examples.iter().filter(is_possible).map(|(plan, example)| {
        let goal = plan.goal.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("A plan that worked for a similar goal: {goal}\n{}\n\n", example.reply)
    });
    lines.collect()
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
    let examples = find_examples(goal, &all);
    if !examples.is_empty() {
        let plans = examples.iter().map(|(example, _)| example.name.clone()).collect();
        (observer.on_progress)(PlanningProgress::Recalled { plans });
    }
    let max_tools = context.agents.planner.max_tools;
    let mut query = match tools > max_tools {
        true => ask_for_steps(goal, &all, context, &mut observer).await,
        false => ToolQuery::default(),
    };
    query.names.extend(examples.iter().flat_map(|(_, example)| example.tools.iter().cloned()));
    let offers = tool_selection::select(all, &query, max_tools);
    (observer.on_progress)(PlanningProgress::Started { shown: offers.len(), tools });
    let prompt = |limits: FormLimits| PlanningPrompt {
        system: rules::system_prompt(limits.form),
        question: rules::goal_prompt(goal, &offers, (context, limits), &example_lines(&examples, limits.form)),
        output: ReplySchema {
            name: "plan".to_owned(),
            schema: answer_schema::plan_schema(&offers, limits),
            is_described: true,
        },
        limits,
    };
    let validator = AnswerValidator {
        goal: *goal,
        context,
        empty_reply: EmptyReply::Conclusion,
        draft: &|reply| plan_draft::write_plan(goal, reply, &offers),
        early_call: &|task| match context.agents.planner.speculate {
            true => streamed_call(task, goal, context, &offers),
            false => None,
        },
        load: &|text| {
            let validated = config::load_plan(context.file, text, context.agents, Some(context.catalog))?;
            let warnings = validated.warnings.clone();
            Ok(((text.to_owned(), validated), warnings))
        },
    };
    let simplified = |limits: FormLimits| Some(prompt(limits));
    let prompts = PlanningPrompts { first: prompt(FormLimits::of(context.agents)), simplified: &simplified };
    Ok(match plan_with_repairs(prompts, &validator, observer).await? {
        PlannerReply::Valid((text, validated), reply) => {
            PlanningOutcome::Plan(Box::new(GeneratedPlan { text, validated, reply }))
        }
        PlannerReply::Conclusion(Conclusion::Answer(answer)) => PlanningOutcome::Answer(answer),
        PlannerReply::Conclusion(Conclusion::Question(question)) => PlanningOutcome::Question(question),
        PlannerReply::Conclusion(Conclusion::Impossible(missing)) => {
            return Err(PlanError::Impossible { missing, help: IMPOSSIBLE_HELP.to_owned() });
        }
    })
}

#[cfg(test)]
mod tests;
