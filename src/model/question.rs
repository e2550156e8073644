//! What waits for a person, and what the person said.
//! Never asks; that is `human`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AgentId, AttemptId, DefaultAnswer, Effect, JsonObject, QuestionId, TaskId, Timestamp};

/// Who asked the host for something: an agent, and the attempt in which it did so where that is known.
/// A legacy stdio connection does not say which of several calls asked; the host does not guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The agent that asked.
    pub agent: AgentId,
    /// The attempt that caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The agent's own name of its request, unique within the attempt, where it has one that outlives this process:
    /// the agent may make the same request again, to a later process. Absent, it dies with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Who asks the language model while a run goes on, beside its prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SamplingOrigin {
    /// An agent.
    Agent(Origin),
    /// The planner.
    Planner {
        /// Which replan it asks for.
        replan: u32,
    },
}

impl SamplingOrigin {
    /// Returns the attempt that caused it, where it is one and known.
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
    /// The asker.
    pub asker: Asker,
    /// The item of a `foreach` task that an approval is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemPlace>,
    /// The tool whose call asks, or that waits to be approved, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// The call that waits to be approved, as it would be made now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ProposedCall>,
    /// What is asked: text, possibly from an agent, so data.
    pub message: String,
    /// The form of an answer.
    pub form: Form,
    /// When it is answered by default, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<QuestionDeadline>,
}

/// The place of an item among those of its `foreach` task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPlace {
    /// Its number, from 1.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// A call that a person is asked to approve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposedCall {
    /// The agent, the first of those that may get the call.
    pub agent: AgentId,
    /// The tool.
    pub tool: Arc<str>,
    /// The arguments: an object, or the beginning of its text where it is long.
    pub arguments: Value,
    /// What a repetition of the call would do.
    pub effect: Effect,
}

impl ProposedCall {
    /// Limits the text of arguments that a question keeps: more than a person reads, and no burden for the journal.
    pub const MAX_ARGUMENTS_BYTES: usize = 16 * 1024;

    /// Shortens arguments to what a question keeps.
    pub fn truncate_arguments(arguments: Value) -> Value {
        let text = arguments.to_string();
        match text.char_indices().nth(Self::MAX_ARGUMENTS_BYTES) {
            Some((end, _)) => Value::String(format!("{}…", &text[..end])),
            None => arguments,
        }
    }
}

/// When a question is answered by default, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionDeadline {
    /// The moment.
    pub at: Timestamp,
    /// The answer.
    pub default: DefaultAnswer,
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
        /// The number of the replan.
        number: u32,
    },
    /// An agent, through `elicitation/create` or an input-required round.
    Agent(Origin),
    /// The host, about a call that may or may not have taken effect. The answer is a [`AmbiguityResolution`].
    Host {
        /// The call.
        attempt: AttemptId,
    },
}

impl Asker {
    /// Returns the task that the question is about, where that is known.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Plan { task } => Some(task),
            Self::Agent(origin) => origin.attempt.as_ref().map(|attempt| &attempt.task),
            Self::Host { attempt } => Some(&attempt.task),
            Self::Replan { .. } => None,
        }
    }

    /// Returns the agent that asks, if one does.
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Agent(origin) => Some(&origin.agent),
            Self::Plan { .. } | Self::Replan { .. } | Self::Host { .. } => None,
        }
    }
}

/// What a person says of a call that may or may not have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmbiguityResolution {
    /// Make the call again.
    Repeat,
    /// It took effect; go on without its result.
    Done,
    /// Count the task as failed.
    Failed,
}

impl AmbiguityResolution {
    /// The field of the form by which it is given.
    const OUTCOME_FIELD: &'static str = "outcome";

    /// Returns the form that asks for one.
    pub fn form() -> Form {
        let schema = json!({
            "type": "object",
            "properties": {
                Self::OUTCOME_FIELD: {
                    "type": "string",
                    "title": "What now",
                    "oneOf": [
                        {"const": Self::Repeat, "title": "call it again"},
                        {"const": Self::Done, "title": "it took effect: go on without its result"},
                        {"const": Self::Failed, "title": "count the task as failed"},
                    ],
                },
            },
            "required": [Self::OUTCOME_FIELD],
        });
        let Value::Object(schema) = schema else { unreachable!("an object was written above") };
        Form::Fields { schema }
    }

    /// Returns the one that the answer gives; a refusal to answer, or anything else, counts as failed.
    pub fn from_answer(answer: &Answer) -> Self {
        let Answer::Accept { content: Some(content) } = answer else { return Self::Failed };
        content.get(Self::OUTCOME_FIELD).and_then(|value| Self::deserialize(value).ok()).unwrap_or(Self::Failed)
    }
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
