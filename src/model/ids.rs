//! Identifiers of the parts of a run. They contain no index or pointer and stay valid after a restart.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::fnv::{FNV_OFFSET, fnv1a};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the ID as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

id!(
    /// A task of a plan (`find`) or an item of a `foreach` task (`read[3]`).
    TaskId
);
id!(
    /// An agent: the name of its section in `agents.toml`.
    AgentId
);
id!(
    /// One execution of a plan: a UUID of version 7, so that IDs sort by start time.
    RunId
);
id!(
    /// A question to a person, numbered within its run: `q1`, `q2`, ….
    QuestionId
);
id!(
    /// A request that an agent made of the host (an elicitation or a sampling request),
    /// unique within the run.
    RequestId
);

/// A map by ID in insertion order. It uses a fast hash, since a run looks up tasks many times for each event.
pub type IdMap<K, V> = IndexMap<K, V, foldhash::fast::RandomState>;

/// An unordered map by ID with the same fast hash.
pub type IdHashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

impl RunId {
    /// The number of characters of a short ID.
    const SHORT_LENGTH: usize = 8;

    /// Returns the end of the ID, which commands accept as an abbreviation. Its beginning is a time, which runs share.
    pub fn short(&self) -> &str {
        let start = self.0.char_indices().nth_back(Self::SHORT_LENGTH - 1).map_or(0, |(at, _)| at);
        &self.0[start..]
    }
}

/// The beginning of the IDs of tasks that read resources for expressions. IDs of other tasks have no colon.
const RESOURCE_READ_PREFIX: &str = "resource:";

impl TaskId {
    /// Returns the ID of item `index` of the `foreach` task `self`.
    pub fn item(&self, index: usize) -> Self {
        Self::from(format!("{self}[{index}]"))
    }

    /// Returns the ID of tool call `number` (from 1) of the prompt `self`.
    pub fn tool_call(&self, number: usize) -> Self {
        Self::from(format!("{self}/{number}"))
    }

    /// Returns the ID of the task `name` in the group `self`.
    pub fn member(&self, name: &Self) -> Self {
        Self::from(format!("{self}.{name}"))
    }

    /// Returns the ID of the task that reads a resource for `resource(AGENT, URI)` in expressions. Equal calls have equal
    /// IDs, so each resource is read once. `uri` is the expression of the URI.
    pub fn resource_read(agent: &str, uri: &str) -> Self {
        let bytes = agent.bytes().chain([0]).chain(uri.trim().bytes());
        Self::from(format!("{RESOURCE_READ_PREFIX}{:016x}", fnv1a(FNV_OFFSET, bytes)))
    }

    /// Returns whether this is the task that reads a resource for `resource()` in expressions.
    pub fn is_resource_read(&self) -> bool {
        self.0.starts_with(RESOURCE_READ_PREFIX)
    }

    /// Returns the planned task: itself, or the task that the item, the task of a group, or the tool call belongs to.
    pub fn planned_task(&self) -> Self {
        if self.is_planned() { self.clone() } else { Self::from(Self::planned_task_name(&self.0)) }
    }

    /// Returns the IDs of everything that it is a part of, outermost first, and its own.
    pub fn enclosing_ids(&self) -> impl Iterator<Item = &str> {
        let ends = self.0.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'[' | b'/' | b'.'));
        ends.map(|(end, _)| &self.0[..end]).chain([&*self.0])
    }

    /// Returns whether this is a planned task, rather than an item, a task of a group, or a tool call.
    pub fn is_planned(&self) -> bool {
        !self.0.bytes().any(|byte| matches!(byte, b'[' | b'/' | b'.'))
    }

    /// Returns whether this is an item of a planned task, rather than a part of one.
    pub fn is_item_of_planned(&self) -> bool {
        let rest = &self.0[Self::planned_task_name(&self.0).len()..];
        rest.starts_with('[') && rest.find(']') == Some(rest.len() - 1)
    }

    /// Returns the part of an ID that names a planned task. Names of planned tasks contain none of `[`, `/`, and `.`.
    pub fn planned_task_name(id: &str) -> &str {
        id.split(['[', '/', '.']).next().unwrap_or(id)
    }
}

/// One try of a task. The number fences off late and repeated messages.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The task.
    pub task: TaskId,
    /// The number of the attempt, from 1, over all agents.
    pub number: u32,
}

impl AttemptId {
    /// Returns the key that identifies the attempt among all runs: `RUN/TASK/NUMBER`.
    pub fn key(&self, run: &RunId) -> String {
        [run.as_str(), self.task.as_str(), &self.number.to_string()].join("/")
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.number)
    }
}
