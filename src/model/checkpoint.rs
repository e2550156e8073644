//! Checkpoints of sessions and calls in progress, with which a later process resumes them. Their content is opaque:
//! only the adapter that wrote a checkpoint can read it.

use std::collections::HashMap;
use std::fmt;

use serde_json::Value;

use super::{AgentId, AttemptId};

/// The subject of a checkpoint. A later checkpoint with the same key replaces the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckpointKey {
    /// The session with an agent.
    Session(AgentId),
    /// A call in progress.
    Call(AttemptId),
}

impl fmt::Display for CheckpointKey {
    /// Writes `session/AGENT` or `call/NUMBER/TASK`; [`CheckpointKey::parse`] is the inverse.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session(agent) => write!(f, "session/{agent}"),
            Self::Call(AttemptId { task, number }) => write!(f, "call/{number}/{task}"),
        }
    }
}

impl CheckpointKey {
    /// Parses the output of `Display`; returns `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/')? {
            ("session", agent) => Some(Self::Session(agent.into())),
            ("call", rest) => {
                let (number, task) = rest.split_once('/')?;
                Some(Self::Call(AttemptId { task: task.into(), number: number.parse().ok()? }))
            }
            _ => None,
        }
    }
}

/// The checkpoints of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoints {
    /// The sessions by agent.
    pub sessions: HashMap<AgentId, Value>,
    /// The calls by attempt. Entries of ended attempts are ignored.
    pub calls: HashMap<AttemptId, Value>,
}

impl Checkpoints {
    /// Adds a checkpoint.
    pub fn insert(&mut self, key: CheckpointKey, checkpoint: Value) {
        match key {
            CheckpointKey::Session(agent) => self.sessions.insert(agent, checkpoint),
            CheckpointKey::Call(attempt) => self.calls.insert(attempt, checkpoint),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_key_round_trips() {
        let keys = [
            CheckpointKey::Session("a/b".into()),
            CheckpointKey::Call(AttemptId { task: "read[3]".into(), number: 2 }),
            CheckpointKey::Call(AttemptId { task: "ask/1".into(), number: 10 }),
        ];
        for key in keys {
            assert_eq!(CheckpointKey::parse(&key.to_string()), Some(key));
        }
        for other in ["", "call/x/t", "call/1", "other/1/t"] {
            assert_eq!(CheckpointKey::parse(other), None, "{other}");
        }
    }
}
