//! Asks a model for a plan and requests a bounded number of repairs. Each repair request lists all diagnostics. A plan
//! that fails validation is never returned as valid, and never changed so that it passes.

use super::{
    bindings,
    plan_draft::{self, PlanDraft},
    prompt,
    repair_loop::{AnswerValidator, PlannerLog, PlanningObserver, UNREACHABLE_AGENT, plan_with_repairs},
    schema,
    token_limit::TokenLimit,
    tool_selection::{self, ToolOffer},
};
use crate::{
    config::{self, AgentCatalog, AgentsFile, Diagnostics, ValidatedPlan},
    llm::Llm,
    model::{ChatError, ChatMessage, ChatRequest, ChatRole, JsonObject, PlannerExchange, ReplySchema},
};

/// A goal to plan for.
#[derive(Debug, Clone, Copy)]
pub struct Goal<'a> {
    /// The goal in the user's words.
    pub text: &'a str,
    /// The maximum number of replans in a run of the plan, each after a task has failed.
    pub max_replans: u32,
}

/// The model, the agents, and the file name that a plan is generated with.
#[derive(Clone, Copy)]
pub struct PlanningContext<'a> {
    /// The planning model.
    pub llm: &'a dyn Llm,
    /// The configured agents.
    pub agents: &'a AgentsFile,
    /// The tools of each agent, or the reason why it did not answer.
    pub catalog: &'a AgentCatalog,
    /// The name of the plan file in diagnostics.
    pub file: &'a str,
}

/// The outcome of planning.
#[derive(Debug)]
pub struct PlanningResult {
    /// A valid plan, or the reason why there is none.
    pub result: Result<GeneratedPlan, PlanError>,
    /// The number of requests to the model.
    pub requests: u32,
    /// The completed exchanges, in order.
    pub exchanges: Vec<PlannerExchange>,
}

/// A plan for a goal. It is valid by the same rules as a plan that a person wrote.
#[derive(Debug)]
pub struct GeneratedPlan {
    /// The text of the plan file, for people to edit.
    pub text: String,
    /// The parsed plan and its warnings.
    pub validated: ValidatedPlan,
}

/// A plan that is not valid.
#[derive(Debug, Clone)]
pub struct RejectedPlan {
    /// The text of the plan file.
    pub text: String,
    /// All diagnostics of the plan.
    pub mistakes: Diagnostics,
}

/// An error of planning.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum PlanError {
    /// No agent offers a tool.
    #[error("no agent offers a tool that a plan could call")]
    #[diagnostic(code(planner::no_tools), help("`kapell agents test` shows the response of each agent"))]
    NoTools,
    /// The model planned no tasks. It gave a reason, or the answer itself.
    #[error("the model planned no tasks: {analysis}")]
    #[diagnostic(code(planner::no_tasks))]
    NoTasks {
        /// The model's explanation.
        analysis: String,
    },
    /// The request to the model failed.
    #[error("the model returned no plan")]
    #[diagnostic(code(planner::model_failed))]
    Model {
        /// The error of the request.
        #[source]
        source: ChatError,
        /// The rejected plan, if the request asked for a repair.
        rejected: Option<Box<RejectedPlan>>,
    },
    /// The model's last plan is not valid either.
    #[error("the model returned no valid plan")]
    #[diagnostic(code(planner::invalid_plan))]
    Invalid(Box<RejectedPlan>),
}

/// A step of planning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanningProgress {
    /// The model is asked for a plan.
    Started {
        /// The number of tools in the request.
        shown: usize,
        /// The number of tools of all agents.
        tools: usize,
    },
    /// The plan is not valid, and the model is asked for a repair.
    Repairing {
        /// The number of diagnostics of the plan.
        mistakes: usize,
        /// The number of this repair, from 1.
        repair: u32,
        /// The maximum number of repairs.
        max: u32,
    },
    /// The model's endpoint replied with a warning.
    Warned(String),
}

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
