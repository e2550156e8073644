//! What follows from events: orders to a driver, given after the events are durable.
//! Never a fact.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use serde_json::Value;

use super::{
    AgentId, Answer, AttemptId, Await, ChatError, ChatReply, ChatRequest, JsonObject, Question, ReplanRequest,
    RequestId,
};

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SentCall {
    /// Task and number.
    #[serde(flatten)]
    pub attempt: AttemptId,
    /// The agent that was called.
    pub agent: AgentId,
    /// The tool that was called.
    pub tool: Arc<str>,
    /// The arguments, in which configured secrets that agents repeated are masked.
    pub arguments: Value,
}

/// An order.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Connect to the agent and read its catalogue.
    ConnectAgent {
        /// The agent.
        agent: AgentId,
    },
    /// Call a tool.
    StartAttempt(StartAttempt),
    /// Go on with a call that an earlier process began, by the note that it kept. Nothing is asked for again.
    Reattach(StartAttempt),
    /// Ask the language model, in answer to a prompt.
    RequestModel {
        /// Task and turn.
        attempt: AttemptId,
        /// The whole conversation.
        chat: Box<ChatRequest>,
    },
    /// End a call or a turn: tell the agent, and report the attempt as ended.
    CancelAttempt {
        /// Task and number.
        attempt: AttemptId,
    },
    /// Ask the planner for another remainder, and report what it gives.
    Replan(Box<ReplanRequest>),
    /// Stop asking the planner: its answer is no longer waited for.
    CancelReplan,
    /// Ask a person.
    AskPerson {
        /// The question.
        question: Arc<Question>,
    },
    /// Give an agent the answer to its elicitation.
    AnswerElicitation {
        /// The agent's request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// Ask the language model.
    RequestSampling {
        /// The agent's request.
        request: RequestId,
        /// What to ask.
        chat: Arc<ChatRequest>,
    },
    /// Give an agent the reply to its sampling request.
    AnswerSampling {
        /// The agent's request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// Nothing more will follow.
    EndRun,
}

/// A call of a tool, arguments rendered.
#[derive(Debug, Clone, PartialEq)]
pub struct StartAttempt {
    /// Task and number.
    pub attempt: AttemptId,
    /// The agent to call.
    pub agent: AgentId,
    /// The tool to call.
    pub tool: Arc<str>,
    /// Its arguments.
    pub arguments: JsonObject,
    /// Longest silence.
    pub timeout: Duration,
    /// Longest duration, if bounded.
    pub deadline: Option<Duration>,
    /// What to wait for once the tool has ended.
    pub awaits: Option<Await>,
}
