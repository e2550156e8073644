//! What planning needs, reports, and returns.

use super::constant_call::ConstantCall;
use crate::config::{AgentCatalog, AgentsFile, Diagnostics, ValidatedPlan};
use crate::llm::Llm;
use crate::model::{ChatError, PlannerExchange};

/// A goal to plan for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Goal<'a> {
    /// The goal in the user's words.
    pub text: &'a str,
    /// The maximum number of replans in a run of the plan.
    pub max_replans: u32,
    /// What the user added to the goal since, in order.
    pub remarks: &'a [Remark],
    /// The saved plans, which those of similar goals are examples of.
    pub examples: &'a [PlanExample],
}

/// A saved plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanExample {
    /// The name that it is saved with.
    pub name: String,
    /// The goal that it is for.
    pub goal: String,
    /// The text of the plan file.
    pub text: String,
}

/// What a user added to a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The answer to a question of the model.
    Answer {
        /// The question.
        question: String,
        /// The answer.
        answer: String,
    },
    /// A wish about a plan that the user has seen.
    Wish {
        /// The reply with the plan.
        reply: String,
        /// The wish.
        wish: String,
    },
}

/// A question of the model about a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClarifyingQuestion {
    /// The question.
    pub text: String,
    /// The answers to choose from; none if any answer is possible.
    pub choices: Vec<String>,
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
    /// The local date, time, and time zone, as text for the model.
    pub local_time: &'a str,
}

/// The outcome of planning.
#[derive(Debug)]
pub struct PlanningResult {
    /// A valid plan or another reply, or the reason why there is none.
    pub result: Result<PlanningOutcome, PlanError>,
    /// The number of requests to the model.
    pub requests: u32,
    /// The completed exchanges, in order.
    pub exchanges: Vec<PlannerExchange>,
}

/// What a model replied to a goal.
#[derive(Debug)]
#[non_exhaustive]
pub enum PlanningOutcome {
    /// A plan.
    Plan(Box<GeneratedPlan>),
    /// The answer: the goal needs no tool.
    Answer(String),
    /// A question that the user has to answer first.
    Question(ClarifyingQuestion),
}

/// A plan for a goal. It is valid by the same rules as a plan that a person wrote.
#[derive(Debug)]
pub struct GeneratedPlan {
    /// The text of the plan file, for people to edit.
    pub text: String,
    /// The parsed plan and its warnings.
    pub validated: ValidatedPlan,
    /// The reply of the model that the plan is made from.
    pub reply: String,
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
    /// The goal needs no tool, and the model answered it.
    #[error("the goal needs no plan: {answer}")]
    #[diagnostic(code(planner::no_tasks))]
    NoTasks {
        /// The answer.
        answer: String,
    },
    /// The model asked a question that was not answered.
    #[error("the planner asks: {question}")]
    #[diagnostic(code(planner::question), help("answer it at a terminal, or state the answer in the goal"))]
    Unanswered {
        /// The question, with its choices.
        question: String,
    },
    /// The agents cannot do anything of the goal.
    #[error("no agent can do this: {missing}")]
    #[diagnostic(code(planner::impossible))]
    Impossible {
        /// What is missing, in the model's words.
        missing: String,
        /// What a person can do about it.
        #[help]
        help: String,
    },
    /// The model refused to plan the goal, or its endpoint filtered the reply.
    #[error("{reason}")]
    #[diagnostic(code(planner::refused), help("rephrase the goal, or choose another model"))]
    Refused {
        /// The reason.
        reason: String,
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
    /// The model is asked for the steps to the goal, which tools are selected for.
    ChoosingTools {
        /// The number of tools of all agents.
        tools: usize,
    },
    /// The model is shown these saved plans, because their goals are similar.
    Recalled {
        /// The names of the plans.
        plans: Vec<String>,
    },
    /// The model is asked for a plan.
    Started {
        /// The number of tools in the request.
        shown: usize,
        /// The number of tools of all agents.
        tools: usize,
    },
    /// The model has written a task. Another reply can replace it.
    TaskWritten {
        /// The number of the task, from 1.
        number: usize,
        /// The title.
        title: String,
        /// The tool that it calls.
        tool: String,
    },
    /// The task that the model has just written can start before the plan is complete. Only with `speculate`.
    CallReady(Box<ConstantCall>),
    /// The reply has no plan or repeats itself, and the model is asked for a plan in the compact form.
    Simplified,
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
