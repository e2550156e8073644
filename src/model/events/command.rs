//! Commands to a driver. They result from events and are issued after the events are durable.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::model::{
    AgentId, Answer, AttemptId, Await, ChatError, ChatReply, ChatRequest, JsonObject, Operation, Question,
    ReplanRequest, RequestId, TaskId, ToolOutput, Watched,
};

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentCall {
    /// The task and the attempt number.
    #[serde(flatten)]
    pub attempt: AttemptId,
    /// The agent that was called.
    pub agent: AgentId,
    /// The tool that was called, or the method of another operation.
    pub tool: Arc<str>,
    /// The arguments or parameters, with configured secrets masked.
    pub arguments: Value,
}

/// An action that the driver must perform.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// Connect to the agent and read its catalog.
    ConnectAgent {
        /// The agent.
        agent: AgentId,
    },
    /// Make a call.
    StartAttempt(ToolCall),
    /// Reattach to a call of an earlier process. The call is not sent again.
    Reattach {
        /// The call.
        call: Box<ToolCall>,
        /// The checkpoint that the earlier process kept of the call.
        checkpoint: Value,
    },
    /// Request a reply to a prompt from the language model.
    RequestModel {
        /// The task and the exchange number.
        attempt: AttemptId,
        /// The whole conversation.
        chat: Box<ChatRequest>,
    },
    /// End a call or an exchange: notify the agent, and report the attempt as ended.
    CancelAttempt {
        /// The task and the attempt number.
        attempt: AttemptId,
    },
    /// Request a patch from the planner, and report it.
    Replan(Box<ReplanRequest>),
    /// Stop waiting for the planner.
    CancelReplan,
    /// Ask a person a question.
    AskPerson {
        /// The question.
        question: Arc<Question>,
    },
    /// Send an agent the answer to its elicitation.
    AnswerElicitation {
        /// The agent's request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Send a sampling request to the language model.
    RequestSampling {
        /// The agent's request.
        request: RequestId,
        /// The request.
        chat: Arc<ChatRequest>,
    },
    /// Send an agent the reply to its sampling request.
    AnswerSampling {
        /// The agent's request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// Save the answer of a prompt in a file of the run.
    SaveAnswer {
        /// The task.
        task: TaskId,
        /// The answer.
        output: Arc<ToolOutput>,
        /// The name of the file.
        name: String,
    },
    /// Watch a file or a resource until the task ends.
    Watch(Box<Watch>),
    /// End the run. No command follows.
    EndRun,
}

/// A watch of a file or a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// The task that waits.
    pub task: TaskId,
    /// What it watches.
    pub watched: Watched,
    /// The fingerprint from which a change is recognized; absent before the first observation.
    pub baseline: Option<String>,
}

/// A call with rendered arguments, as the engine orders it and the agents of a run make it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The task and the attempt number.
    pub attempt: AttemptId,
    /// The agent to call.
    pub agent: AgentId,
    /// The operation.
    pub operation: Operation,
    /// The tool to call, or the method of another operation.
    pub tool: Arc<str>,
    /// The arguments of the tool, or the parameters of another operation.
    pub arguments: JsonObject,
    /// The idle timeout.
    pub timeout: Duration,
    /// The deadline, if any.
    pub deadline: Option<Duration>,
    /// The resource to wait for after the tool has returned.
    pub awaits: Option<Await>,
    /// The earlier results that can take the place of the call.
    pub cache: Option<CacheRequest>,
    /// The name of the file that gets the output, within the files of the run.
    pub save: Option<String>,
}

/// A request to use an earlier result instead of a call, or to keep the result of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheRequest {
    /// What identifies equal calls of the tool: the key of the plan, or the arguments.
    pub key: Value,
    /// The age at which a result expires.
    pub ttl: Duration,
}
