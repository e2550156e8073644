//! Replanning with the language model during a run: which tools it is offered, and how its errors become failures.

use super::{Discovery, Freshness, Replanner};
use crate::config::{AgentCatalog, AgentsFile};
use crate::llm::Llm;
use crate::mcp::Options;
use crate::model::{ChatError, Failure, FailureKind, GoalCheck, PlanPatch, ReplanRequest};
use crate::planner::{self, PlanError, PlanningContext, ReplanCause};
use crate::system::clock;

/// A replanner that lets the language model change pending tasks.
pub(super) struct LlmReplanner {
    /// The agents that can be used.
    pub(super) agents: AgentsFile,
    /// The tools that agents offered when the run's goal was planned.
    pub(super) catalog: AgentCatalog,
    /// The options for connecting to the other agents.
    pub(super) options: Options,
}

#[async_trait::async_trait]
impl Replanner for LlmReplanner {
    async fn replan(&self, request: &ReplanRequest, llm: &dyn Llm) -> Result<PlanPatch, Failure> {
        let catalog = self.catalog(request).await;
        let file = format!("replan {}", request.number);
        let local_time = clock::local_time_text();
        let context =
            PlanningContext { llm, agents: &self.agents, catalog: &catalog, file: &file, local_time: &local_time };
        let Some(check) = request.check else {
            return planner::replan(request, ReplanCause::Failure, &context).await.map_err(to_failure);
        };
        let missing = planner::find_missing_part(request, &context).await;
        let missing = missing.map_err(|error| Failure::new(FailureKind::ModelFailed, error.to_string()))?;
        let Some(missing) = missing else { return Ok(PlanPatch::default()) };
        let patch = match check {
            GoalCheck::MayPlan => planner::replan(request, ReplanCause::MissingPart(&missing), &context).await.ok(),
            GoalCheck::ReportOnly => None,
        };
        // A patch without tasks does not reach what is missing.
        Ok(match patch.filter(|patch| !patch.added.is_empty()) {
            Some(patch) => patch,
            None => PlanPatch { missing: Some(missing), ..PlanPatch::default() },
        })
    }
}

impl LlmReplanner {
    /// Returns the tools of each agent: as the run knows them, as of the planning of the goal, or else as offered now.
    async fn catalog(&self, request: &ReplanRequest) -> AgentCatalog {
        let mut known = self.catalog.clone();
        for (agent, info) in &request.agents {
            known.insert(agent.clone(), info.as_ref().map(|info| (**info).clone()).map_err(Clone::clone));
        }
        let unknown = self.agents.agents.values().filter(|agent| !known.contains_key(&agent.id)).cloned().collect();
        let discovery = Discovery::new(self.options.clone(), &self.agents.secrets, Freshness::Current);
        known.extend(discovery.catalog(unknown).await);
        known.sort_by_cached_key(|id, _| self.agents.agents.get_index_of(id));
        known
    }
}

/// Returns the failure for a planning error. A plan that is not valid has one line for each diagnostic.
fn to_failure(error: PlanError) -> Failure {
    match error {
        PlanError::Invalid(rejected) => {
            let mistakes = rejected.mistakes.list().iter().map(|found| match &found.help {
                Some(help) => format!("{} ({help})", found.message),
                None => found.message.clone(),
            });
            let headline = "the model returned no valid plan".to_owned();
            let lines: Vec<String> = std::iter::once(headline).chain(mistakes).collect();
            Failure::new(FailureKind::ModelFailed, lines.join("\n"))
        }
        PlanError::Model {
            source:
                ChatError::Endpoint { message, .. }
                | ChatError::Unavailable { message, .. }
                | ChatError::Unsupported { message },
            ..
        } => Failure::new(FailureKind::ModelFailed, message),
        PlanError::NoTools
        | PlanError::NoTasks { .. }
        | PlanError::Unanswered { .. }
        | PlanError::Impossible { .. }
        | PlanError::Refused { .. } => Failure::new(FailureKind::ModelFailed, error.to_string()),
    }
}
