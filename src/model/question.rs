//! What waits for a person, and what the person said.
//! Never asks; that is `human`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentId, AttemptId, JsonObject, QuestionId, TaskId};

/// Who asked the host for something: an agent, and the attempt in which it did so where that is known.
/// A legacy stdio connection does not say which of several calls asked; the host does not guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The agent that asked.
    pub agent: AgentId,
    /// The attempt that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
}

/// Who asks the language model while a run goes on, beside its prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Sampler {
    /// An agent.
    Agent(Origin),
    /// The planner.
    Planner {
        /// Which replan it asks for.
        replan: u32,
    },
}

impl Sampler {
    /// The attempt that caused it, where it is one and known.
    pub fn attempt(&self) -> Option<&AttemptId> {
        match self {
            Self::Agent(origin) => origin.attempt.as_ref(),
            Self::Planner { .. } => None,
        }
    }

    /// What people call it: the agent, or the planner.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(origin) => origin.agent.as_str(),
            Self::Planner { .. } => "the planner",
        }
    }
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Its number within the run.
    pub id: QuestionId,
    /// Who asks.
    pub asker: Asker,
    /// The tool whose call asks, or that waits to be approved, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// What is asked: text, possibly from an agent, so data.
    pub message: String,
    /// The form of an answer.
    pub form: Form,
}

/// Who asks a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asker {
    /// The plan, before it runs a task (`approve`).
    Plan {
        /// The task.
        task: TaskId,
    },
    /// The host, before it goes on with a remainder that was planned anew.
    Replan {
        /// Which replan.
        number: u32,
    },
    /// An agent, through `elicitation/create` or an input-required round.
    Agent(Origin),
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Yes or no.
    Approval,
    /// The fields of an object; MCP's form mode.
    Fields {
        /// The request's JSON Schema: an object of primitive properties.
        schema: JsonObject,
    },
    /// A page to visit; MCP's URL mode.
    Url {
        /// The full address; never opened without asking.
        url: String,
    },
}

/// What a person said; MCP's three actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Answer {
    /// Yes, with the fields that were asked for.
    Accept {
        /// The fields by name, valid by the question's schema; absent for approvals and URLs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Value>,
    },
    /// No.
    Decline,
    /// No answer: dismissed.
    Cancel,
}

/// What a person is asked on behalf of an agent, before it is a numbered question: an elicitation as the agent made it,
/// or the host's own question whether the agent may do something.
#[derive(Debug, Clone, PartialEq)]
pub struct Elicitation {
    /// What is asked.
    pub message: String,
    /// [`Form::Fields`] or [`Form::Url`] of the agent, [`Form::Approval`] of the host.
    pub form: Form,
}
