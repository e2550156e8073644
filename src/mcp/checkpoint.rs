//! Defines the checkpoints of sessions and calls, from which a later process can resume them.

use rmcp::model::InitializeResult;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{AgentId, Failure, FailureKind, JsonObject, ToolCall};

/// A checkpoint of a call. A later checkpoint of the same call replaces an earlier one. For example, a call with a
/// response stream may continue as a remote task, and then wait for a resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum CallCheckpoint {
    /// A response stream whose events can be read again, in a legacy session over Streamable HTTP.
    Stream(StreamCheckpoint),
    /// A task at the agent, which is polled for its state.
    RemoteTask(RemoteTaskCheckpoint),
    /// A request for input. The agent keeps no state of the call meanwhile.
    Round(InputRoundCheckpoint),
    /// Input that was already sent. Only the agent knows whether it received the input, so it is not sent again and the
    /// call is not resumed.
    InputGiven,
    /// A resource that the host waits for after the tool has returned.
    Resource(ResourceCheckpoint),
}

/// A response stream that can be read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamCheckpoint {
    /// The ID of the session in which the request was made.
    pub(crate) session: String,
    /// The ID of the request on the wire, which is also its progress token.
    pub(crate) request: i64,
    /// The last event whose content need not be read again.
    pub(crate) last_event: String,
    /// The task whose result is requested. None for a request of the call itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<RemoteTaskCheckpoint>,
}

/// A task at the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RemoteTaskCheckpoint {
    /// The ID that the agent assigned.
    pub(crate) id: String,
    /// The protocol for requests about the task.
    pub(crate) dialect: TaskProtocol,
    /// The polling interval in milliseconds that the agent requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) poll_interval_ms: Option<u64>,
    /// The time in milliseconds for which the agent keeps the task; unbounded if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ttl_ms: Option<u64>,
}

/// The two protocols of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TaskProtocol {
    /// `io.modelcontextprotocol/tasks`, for 2026-07-28.
    Extension,
    /// The experimental tasks of 2025-11-25.
    Experimental,
}

/// A round of input requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct InputRoundCheckpoint {
    /// The number of the round, starting at 1.
    pub(crate) number: u32,
    /// The opaque state of the server, to be returned unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<String>,
    /// The requests, by the keys of the server, each with `method` and `params`.
    pub(crate) requests: JsonObject,
}

/// A resource that the host waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResourceCheckpoint {
    /// The URI that the agent assigned.
    pub(crate) uri: String,
    /// The resource link from the result of the tool.
    pub(crate) link: Value,
}

impl CallCheckpoint {
    /// Parses the checkpoint that an earlier process wrote for `call`.
    ///
    /// # Errors
    /// Returns [`FailureKind::Interrupted`] for a checkpoint that this version does not know.
    pub(crate) fn from_value(json: Value, call: &ToolCall) -> Result<Self, Failure> {
        serde_json::from_value(json).map_err(|error| {
            tracing::warn!(agent = %call.agent, %error, "the checkpoint of a call cannot be read");
            interrupted_failure(call)
        })
    }

    /// Serializes the checkpoint for the journal.
    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("keys are strings, and all parts can be serialized")
    }
}

/// The checkpoint from which a later process resumes a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionCheckpoint {
    /// The session ID that the server assigned.
    pub(crate) session: String,
    /// The endpoint URL without secrets. A session is valid at this endpoint only.
    pub(crate) url: String,
    /// The result of the handshake, including the protocol version.
    pub(crate) initialized: InitializeResult,
    /// The first request ID that was certainly never used.
    pub(crate) next_request: i64,
}

impl SessionCheckpoint {
    /// Parses the session checkpoint of an earlier process. Returns `None` if this version cannot read it.
    pub(crate) fn from_value(json: Value, agent: &AgentId) -> Option<Self> {
        let read = serde_json::from_value(json);
        read.inspect_err(|error| tracing::warn!(%agent, %error, "the checkpoint of a session cannot be read")).ok()
    }
}

/// Returns the failure of a call that cannot be resumed, so that its effect is unknown.
pub(crate) fn interrupted_failure(call: &ToolCall) -> Failure {
    let ToolCall { agent, tool, .. } = call;
    let message = format!("the host stopped during the call of `{tool}`, and agent `{agent}` no longer has the call");
    Failure::new(FailureKind::Interrupted, message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::{AttemptId, Operation};

    fn call() -> ToolCall {
        ToolCall {
            attempt: AttemptId { task: "t".into(), number: 1 },
            agent: "a".into(),
            operation: Operation::CallTool,
            tool: "work".into(),
            arguments: JsonObject::new(),
            timeout: Duration::ZERO,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
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
        let checkpoints = [
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
        for checkpoint in checkpoints {
            assert_eq!(CallCheckpoint::from_value(checkpoint.to_value(), &call()), Ok(checkpoint));
        }
    }

    #[test]
    fn unknown_checkpoints_interrupt_the_call() {
        for json in [json!(null), json!({"kind": "dream"}), json!({"kind": "remote_task"})] {
            assert_eq!(CallCheckpoint::from_value(json, &call()), Err(interrupted_failure(&call())));
        }
    }
}
