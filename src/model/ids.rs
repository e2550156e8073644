//! The names by which a run's parts are known.
//! Never holds an index or a pointer: an id means the same after a restart.

use std::{borrow::Borrow, fmt, sync::Arc};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as text.
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
    /// One execution of a plan: a UUID of version 7, so that ids sort by start.
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

/// A map by ids, in the order in which they came. It hashes fast: a run looks its tasks up many times for each event.
pub type IdMap<K, V> = IndexMap<K, V, foldhash::fast::RandomState>;

/// A map by ids without an order, which hashes as fast.
pub type IdHashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

impl RunId {
    /// How many characters of an id name a run among others.
    const SHORT_LENGTH: usize = 8;

    /// The end of the id, which commands accept in place of all of it. Its beginning is a time, so runs share that.
    pub fn short(&self) -> &str {
        let start = self.0.char_indices().nth_back(Self::SHORT_LENGTH - 1).map_or(0, |(at, _)| at);
        &self.0[start..]
    }
}

impl TaskId {
    /// The id of item `index` of the `foreach` task `self`.
    pub fn item(&self, index: usize) -> Self {
        Self::from(format!("{self}[{index}]"))
    }

    /// The id of call `number` (from 1) that the model asked for in answer to the prompt `self`.
    pub fn tool_call(&self, number: usize) -> Self {
        Self::from(format!("{self}/{number}"))
    }

    /// The task of the plan that it is, or belongs to as an item or a call of its prompt.
    pub fn planned_task(&self) -> Self {
        if self.is_planned() { self.clone() } else { Self::from(Self::planned_task_name(&self.0)) }
    }

    /// Whether it is a task of the plan, and not an item or a call.
    pub fn is_planned(&self) -> bool {
        Self::planned_task_name(&self.0).len() == self.0.len()
    }

    /// The part of an id that names a task of the plan: names of tasks hold neither `[` nor `/`.
    pub fn planned_task_name(id: &str) -> &str {
        id.split(['[', '/']).next().unwrap_or(id)
    }
}

/// One try of a task: the fence that makes late or repeated messages harmless.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// The task that is tried.
    pub task: TaskId,
    /// 1 for the first try; counts over all agents.
    pub number: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.number)
    }
}
