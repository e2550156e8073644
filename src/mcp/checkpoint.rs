//! Says what is written down of a call under way, so that a later process can take it up where this one left it.
//! Never decides when: each way to outlive the host writes its own notes.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Failure, FailureKind, JsonObject, StartAttempt};

/// Where a call is. A later note of the same call replaces an earlier one: a call that was read from a stream may go on
/// as a task of the agent, and then as a resource that is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum CallCheckpoint {
    /// Its response is a stream of events that can be read again, in a legacy session over Streamable HTTP.
    Stream(StreamCheckpoint),
    /// The agent works on it as a task, which is asked for its state.
    RemoteTask(RemoteTaskCheckpoint),
    /// The agent wants input before it goes on, and holds nothing itself.
    Round(InputRoundCheckpoint),
    /// The agent was given the input that it wanted. Only the agent knows whether it took it, so neither is it given
    /// again nor is the call gone on with.
    InputGiven,
    /// The tool has ended, and left a resource that is waited for.
    Resource(ResourceCheckpoint),
}

/// A response that can be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StreamCheckpoint {
    /// The session in which the request was made.
    pub(super) session: String,
    /// The request's id on the wire, which is its progress token too.
    pub(super) request: i64,
    /// The last event whose content needs not come again.
    pub(super) last_event: String,
    /// The task whose result is waited for, if the request is that for a task's result rather than the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) task: Option<RemoteTaskCheckpoint>,
}

/// A task of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemoteTaskCheckpoint {
    /// Its id, by the agent.
    pub(super) id: String,
    /// How the agent is asked for it.
    pub(super) dialect: TaskProtocol,
    /// Milliseconds between two looks, as the agent asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) poll_interval_ms: Option<u64>,
    /// Milliseconds for which the agent keeps it; unbounded where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ttl_ms: Option<u64>,
}

/// The two protocols of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TaskProtocol {
    /// `io.modelcontextprotocol/tasks`, for 2026-07-28.
    Extension,
    /// The experimental tasks of 2025-11-25.
    Experimental,
}

/// A round of requests for input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct InputRoundCheckpoint {
    /// 1 for the first round.
    pub(super) number: u32,
    /// The server's opaque state, to be given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<String>,
    /// The requests by the server's keys, each with `method` and `params`.
    pub(super) requests: JsonObject,
}

/// A resource that is waited for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ResourceCheckpoint {
    /// Its address, by the agent.
    pub(super) uri: String,
    /// The link to it, as it was in the tool's result.
    pub(super) link: Value,
}

impl CallCheckpoint {
    /// Reads what an earlier process wrote of `call`.
    ///
    /// # Errors
    /// [`FailureKind::Interrupted`] for what this version does not know.
    pub(super) fn from_value(note: Value, call: &StartAttempt) -> Result<Self, Failure> {
        serde_json::from_value(note).map_err(|error| {
            tracing::warn!(agent = %call.agent, %error, "the note of a call cannot be read");
            interrupted_failure(call)
        })
    }

    /// What the host keeps.
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("keys are text and no part of a note refuses")
    }
}

/// The call cannot be taken up: what became of it is not known.
pub(super) fn interrupted_failure(call: &StartAttempt) -> Failure {
    let StartAttempt { agent, tool, .. } = call;
    let message = format!(
        "the host stopped while `{tool}` of agent `{agent}` was under way, and the agent no longer has the call"
    );
    Failure::new(FailureKind::Interrupted, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::AttemptId;

    fn call() -> StartAttempt {
        StartAttempt {
            attempt: AttemptId { task: "t".into(), number: 1 },
            agent: "a".into(),
            tool: "work".into(),
            arguments: JsonObject::new(),
            timeout: Duration::ZERO,
            deadline: None,
            awaits: None,
        }
    }

    #[test]
    fn checkpoints_round_trip() {
        let requests = json!({"who": {"method": "elicitation/create", "params": {"message": "?"}}});
        let task = RemoteTaskCheckpoint {
            id: "r".into(),
            dialect: TaskProtocol::Experimental,
            poll_interval_ms: Some(500),
            ttl_ms: None,
        };
        let notes = [
            CallCheckpoint::Stream(StreamCheckpoint {
                session: "s".into(),
                request: 7,
                last_event: "e".into(),
                task: Some(task.clone()),
            }),
            CallCheckpoint::RemoteTask(task),
            CallCheckpoint::Round(InputRoundCheckpoint {
                number: 2,
                state: Some("s".into()),
                requests: requests.as_object().cloned().unwrap(),
            }),
            CallCheckpoint::InputGiven,
            CallCheckpoint::Resource(ResourceCheckpoint { uri: "job://1".into(), link: json!({"uri": "job://1"}) }),
        ];
        for note in notes {
            assert_eq!(CallCheckpoint::from_value(note.to_value(), &call()), Ok(note));
        }
    }

    #[test]
    fn unknown_checkpoints_interrupt_the_call() {
        for note in [json!(null), json!({"kind": "dream"}), json!({"kind": "remote_task"})] {
            assert_eq!(CallCheckpoint::from_value(note, &call()), Err(interrupted_failure(&call())));
        }
    }
}
