//! Work without an agent: questions, timers, signals, and early ends; and how tasks repeat and hook into the ends of
//! others.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::model::{AgentId, Expression, HumanDuration, JsonObject, Outcome, TaskId, Template, is_default};

/// A question that a task asks a person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The question.
    pub message: Template,
    /// The JSON Schema of the form; yes or no if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<JsonObject>,
}

/// What a task waits for. All of these survive a restart of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wait {
    /// A duration such as `10m`, from the moment when the task starts.
    Sleep(Template),
    /// A time in RFC 3339, or in seconds since 1970.
    Until(Template),
    /// A signal with this name, which `kapell signal` sends.
    Signal(Template),
    /// A file that is there, or that has changed.
    File(FileWait),
    /// A resource of an agent that has changed.
    Resource(ResourceWait),
}

impl Wait {
    /// Returns the template of what it waits for.
    pub fn template(&self) -> &Template {
        match self {
            Self::Sleep(template) | Self::Until(template) | Self::Signal(template) => template,
            Self::File(file) => &file.path,
            Self::Resource(resource) => &resource.uri,
        }
    }
}

/// A file that a task waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileWait {
    /// The path, relative to the directory of the plan.
    pub path: Template,
    /// True if the file must differ from what it was when the wait began. Otherwise, it only has to be there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub changed: bool,
}

/// A resource that a task waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceWait {
    /// The agent that offers the resource.
    pub agent: AgentId,
    /// The URI of the resource.
    pub uri: Template,
}

/// What a task watches, with rendered templates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Watched {
    /// A file.
    File {
        /// The path, relative to the directory of the plan.
        path: String,
        /// True if the file must differ from what it was when the wait began.
        #[serde(default, skip_serializing_if = "is_default")]
        changed: bool,
    },
    /// A resource of an agent.
    Resource {
        /// The agent.
        agent: AgentId,
        /// The URI.
        uri: String,
    },
}

/// An early end of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    /// The status of the run.
    pub status: StopStatus,
    /// The reason, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Template>,
    /// The outputs of the run, instead of those of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<IndexMap<String, Template>>,
}

/// The status of a run that a task ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopStatus {
    /// The run succeeded.
    #[default]
    Succeeded,
    /// The run failed.
    Failed,
}

/// The repetition of a task until a condition is true. Iterations run one after another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeat {
    /// The condition over the iteration that has just ended.
    pub until: Expression,
    /// The maximum number of iterations; at least 1.
    pub max: u32,
    /// The pause between iterations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<HumanDuration>,
}

/// The end of a task, or of the whole plan, after which a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The task, in the same scope; the plan if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<TaskId>,
    /// The ends after which it runs.
    pub on: HookTrigger,
}

/// The ends after which a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookTrigger {
    /// Success.
    Success,
    /// Failure.
    Failure,
    /// Cancellation, and an interruption of the process.
    Cancel,
    /// Any end.
    Always,
}

impl HookTrigger {
    /// Returns the key of the plan file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Success => "on_success",
            Self::Failure => "on_failure",
            Self::Cancel => "on_cancel",
            Self::Always => "finally",
        }
    }

    /// Returns whether a hook of a task runs after this outcome of the task.
    pub fn matches(self, outcome: &Outcome) -> bool {
        match self {
            Self::Success => matches!(outcome, Outcome::Succeeded(_)),
            Self::Failure => matches!(outcome, Outcome::Failed(_)),
            Self::Cancel => matches!(outcome, Outcome::Cancelled),
            Self::Always => !matches!(outcome, Outcome::Skipped(_)),
        }
    }
}
