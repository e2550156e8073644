//! What a driver observed. The engine turns it into events, or into nothing when it is late or repeated.
//! Never a decision.

use std::sync::Arc;

use serde_json::Value;

use super::{
    AgentId, AgentInfo, Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, Failure, LogMessage, Origin,
    PlanPatch, Progress, QuestionId, RequestId, SamplingOrigin, ToolOutput,
};

/// An observation.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Connecting succeeded.
    AgentConnected {
        /// The agent.
        agent: AgentId,
        /// What it said of itself.
        info: Arc<AgentInfo>,
    },
    /// Connecting failed for good.
    AgentUnavailable {
        /// The agent.
        agent: AgentId,
        /// Why.
        failure: Failure,
    },
    /// A call ended.
    AttemptEnded {
        /// Task and number.
        attempt: AttemptId,
        /// How.
        result: Result<Arc<ToolOutput>, Failure>,
    },
    /// A call reported progress.
    AttemptProgressed {
        /// Task and number.
        attempt: AttemptId,
        /// How far it is.
        progress: Progress,
    },
    /// A call came back with requests for input.
    InputRequired {
        /// Task and number.
        attempt: AttemptId,
        /// 1 for the first round.
        round: u32,
        /// The server's opaque state.
        request_state: Option<String>,
        /// The requests by the server's keys.
        requests: Value,
    },
    /// An agent asks a person.
    ElicitationRequested {
        /// The agent's request.
        request: RequestId,
        /// Who asks.
        origin: Origin,
        /// What.
        elicitation: Elicitation,
    },
    /// An agent or the planner asks the language model.
    SamplingRequested {
        /// Its request.
        request: RequestId,
        /// Who asks.
        origin: SamplingOrigin,
        /// What.
        chat: Arc<ChatRequest>,
    },
    /// The language model replied, or failed.
    SamplingFinished {
        /// The agent's request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The language model replied to a prompt, or failed.
    ModelReplied {
        /// Task and turn.
        attempt: AttemptId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The planner gave another remainder, or none that can be used.
    Replanned {
        /// Which replan.
        number: u32,
        /// The remainder.
        result: Result<Arc<PlanPatch>, Failure>,
    },
    /// A person answered, or the rules did.
    QuestionAnswered {
        /// The question.
        question: QuestionId,
        /// What was said.
        answer: Answer,
        /// Who said it.
        by: String,
    },
    /// A person said yes to a call, and to every further call of its task.
    RestApproved {
        /// The question about the call.
        question: QuestionId,
        /// Who said it.
        by: String,
    },
    /// Nobody here can answer.
    QuestionDeferred {
        /// The question.
        question: QuestionId,
        /// Why.
        reason: String,
    },
    /// An agent sent a log message.
    AgentLogged {
        /// Who.
        origin: Origin,
        /// What.
        message: LogMessage,
    },
    /// An answer or a cancellation came from a process that must not speak for a person.
    RequestRefused {
        /// The question that it answers; absent for a cancellation.
        question: Option<QuestionId>,
        /// Which process sent it, as it says.
        by: String,
        /// Why it is refused.
        reason: String,
    },
    /// A person asked for the run to end.
    CancelRequested {
        /// Who asked: `command (process 7, user anna, pts/1)`.
        by: String,
    },
    /// The process was asked to stop. The run stays resumable.
    InterruptRequested,
    /// A moment that [`crate::engine::Run::next_wakeup`] named has come.
    TimeReached,
}
