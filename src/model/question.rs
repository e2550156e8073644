//! Questions to a person, and answers.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AgentId, AttemptId, DefaultAnswer, Effect, JsonObject, QuestionId, TaskId, Timestamp};

/// The origin of a request: an agent, and the attempt if known. A legacy stdio connection does not identify the call,
/// and the host does not guess.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The agent.
    pub agent: AgentId,
    /// The attempt that caused the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<AttemptId>,
    /// The agent's own key of its request, unique within the attempt. With a key, the agent may repeat the request to a
    /// later process. Without one, the request ends with its connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// The origin of a sampling request in a run, other than its prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SamplingOrigin {
    /// An agent.
    Agent(Origin),
    /// The planner.
    Planner {
        /// The number of the replan.
        replan: u32,
    },
}

impl SamplingOrigin {
    /// Returns the attempt that caused the request, if known.
    pub fn attempt(&self) -> Option<&AttemptId> {
        match self {
            Self::Agent(origin) => origin.attempt.as_ref(),
            Self::Planner { .. } => None,
        }
    }

    /// Returns a display name: the agent, or the planner.
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(origin) => origin.agent.as_str(),
            Self::Planner { .. } => "the planner",
        }
    }
}

/// A question to a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Question {
    /// Its ID within the run.
    pub id: QuestionId,
    /// The asker.
    pub asker: Asker,
    /// The item of a `foreach` task that an approval is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemPlace>,
    /// The tool whose call asks or waits for approval, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
    /// The call that waits for approval, as it would be made now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<ProposedCall>,
    /// The text of the question. It may come from an agent, so it is untrusted data.
    pub message: String,
    /// The form of an answer.
    pub form: Form,
    /// The deadline and the default answer, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<QuestionDeadline>,
}

/// The position of an item in its `foreach` task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemPlace {
    /// Its number, from 1.
    pub number: usize,
    /// The number of items.
    pub of: usize,
}

/// A call that a person is asked to approve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposedCall {
    /// The agent: the first of those that may get the call.
    pub agent: AgentId,
    /// The tool.
    pub tool: Arc<str>,
    /// The arguments: an object, or the beginning of its text if it is long.
    pub arguments: Value,
    /// The effect of a repeated call.
    pub effect: Effect,
    /// The schema of the arguments, once the agent has described the tool. It is not part of the journal.
    #[serde(skip)]
    pub input_schema: InputSchema,
}

/// The schema of the arguments of a proposed call, which can become known while a person is asked. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct InputSchema(Arc<OnceLock<JsonObject>>);

impl InputSchema {
    /// Returns the schema, if it is known.
    pub fn get(&self) -> Option<&JsonObject> {
        self.0.get()
    }

    /// Sets the schema, unless it is known.
    pub fn set(&self, schema: &JsonObject) {
        self.0.get_or_init(|| schema.clone());
    }
}

/// Calls are equal whether or not their schemas are known yet.
impl PartialEq for InputSchema {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl ProposedCall {
    /// The maximum size of arguments in a question: more than a person reads, but small enough for the journal.
    pub const MAX_ARGUMENTS_BYTES: usize = 16 * 1024;

    /// Truncates arguments to the maximum size in a question.
    pub fn truncate_arguments(arguments: Value) -> Value {
        let text = arguments.to_string();
        match text.char_indices().nth(Self::MAX_ARGUMENTS_BYTES) {
            Some((end, _)) => Value::String(format!("{}…", &text[..end])),
            None => arguments,
        }
    }
}

/// The deadline of a question and its default answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionDeadline {
    /// The deadline.
    pub at: Timestamp,
    /// The answer.
    pub default: DefaultAnswer,
}

/// The asker of a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Asker {
    /// The plan, before it runs a task (`approve`).
    Plan {
        /// The task.
        task: TaskId,
    },
    /// The host, before it applies a patch.
    Replan {
        /// The number of the replan.
        number: u32,
    },
    /// An agent, through `elicitation/create` or an input-required round.
    Agent(Origin),
    /// The host, about a call with unknown outcome. The answer is an [`AmbiguityResolution`].
    Host {
        /// The call.
        attempt: AttemptId,
    },
}

impl Asker {
    /// Returns the task that the question is about, if known.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::Plan { task } => Some(task),
            Self::Agent(origin) => origin.attempt.as_ref().map(|attempt| &attempt.task),
            Self::Host { attempt } => Some(&attempt.task),
            Self::Replan { .. } => None,
        }
    }

    /// Returns the agent that asks, if any.
    pub fn agent(&self) -> Option<&AgentId> {
        match self {
            Self::Agent(origin) => Some(&origin.agent),
            Self::Plan { .. } | Self::Replan { .. } | Self::Host { .. } => None,
        }
    }
}

/// A person's decision about a call with unknown outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AmbiguityResolution {
    /// Repeat the call.
    Repeat,
    /// It took effect; continue without its result.
    Done,
    /// Count the task as failed.
    Failed,
}

impl AmbiguityResolution {
    /// The field of the form that holds the decision.
    const OUTCOME_FIELD: &'static str = "outcome";

    /// Returns the form for the decision.
    pub fn form() -> Form {
        let schema = json!({
            "type": "object",
            "properties": {
                Self::OUTCOME_FIELD: {
                    "type": "string",
                    "title": "What to do",
                    "oneOf": [
                        {"const": Self::Repeat, "title": "repeat the call"},
                        {"const": Self::Done, "title": "it took effect: continue without its result"},
                        {"const": Self::Failed, "title": "fail the task"},
                    ],
                },
            },
            "required": [Self::OUTCOME_FIELD],
        });
        let Value::Object(schema) = schema else { unreachable!("an object was written above") };
        Form::Fields { schema }
    }

    /// Parses the decision from an answer. A refusal or an invalid answer counts as failed.
    pub fn from_answer(answer: &Answer) -> Self {
        let Answer::Accept { content: Some(content) } = answer else { return Self::Failed };
        content.get(Self::OUTCOME_FIELD).and_then(|value| Self::deserialize(value).ok()).unwrap_or(Self::Failed)
    }
}

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
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
        /// The agent's ID of the elicitation, under which it reports that the page was completed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
}

/// An answer, as one of MCP's three actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Answer {
    /// Yes, with the requested fields.
    Accept {
        /// The fields by name, valid according to the question's schema; absent for URLs. For an approval of a call, the
        /// arguments that the person changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<Value>,
    },
    /// No.
    Decline,
    /// No answer: dismissed.
    Cancel,
}

/// A question that has no number yet: an elicitation of an agent, or the host's own question whether the agent may do
/// something.
#[derive(Debug, Clone, PartialEq)]
pub struct Elicitation {
    /// The text of the question.
    pub message: String,
    /// [`Form::Fields`] or [`Form::Url`] from an agent, [`Form::Approval`] from the host.
    pub form: Form,
}
