//! What planning needs, reports, and returns.

use crate::config::{AgentCatalog, AgentsFile, Diagnostics, ValidatedPlan};
use crate::llm::Llm;
use crate::model::{ChatError, PlannerExchange};

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
