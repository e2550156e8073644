//! Observations of a driver. The engine turns them into events, and ignores late or repeated ones.

use std::sync::Arc;

use serde_json::Value;

use crate::model::{
    AgentId, AgentInfo, Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, Failure, LogMessage, Origin,
    PlanPatch, Progress, QuestionId, RequestId, SamplingOrigin, TaskId, ToolOutput,
};

/// An observation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Input {
    /// Connecting succeeded.
    AgentConnected {
        /// The agent.
        agent: AgentId,
        /// The agent's self-description.
        info: Arc<AgentInfo>,
    },
    /// Connecting failed permanently.
    AgentUnavailable {
        /// The agent.
        agent: AgentId,
        /// The reason.
        failure: Failure,
    },
    /// A call ended.
    AttemptEnded {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The outcome.
        result: Result<Arc<ToolOutput>, Failure>,
    },
    /// A call reported progress.
    AttemptProgressed {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The progress.
        progress: Progress,
    },
    /// A call returned with requests for input.
    InputRequired {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The number of the round, from 1.
        round: u32,
        /// The server's opaque state.
        request_state: Option<String>,
        /// The requests, by the server's keys.
        requests: Value,
    },
    /// The answer of a prompt was saved in a file, or could not be saved.
    AnswerSaved {
        /// The task.
        task: TaskId,
        /// The answer with its file.
        result: Result<Arc<ToolOutput>, Failure>,
    },
    /// An agent asks a person.
    ElicitationRequested {
        /// The agent's request.
        request: RequestId,
        /// The asker.
        origin: Origin,
        /// The elicitation.
        elicitation: Elicitation,
    },
    /// An agent reports that a person has completed the page of its elicitation.
    PageCompleted {
        /// The agent.
        agent: AgentId,
        /// The agent's ID of the elicitation.
        id: String,
    },
    /// An agent or the planner asks the language model.
    SamplingRequested {
        /// The ID of the request.
        request: RequestId,
        /// The asker.
        origin: SamplingOrigin,
        /// The chat request.
        chat: Arc<ChatRequest>,
    },
    /// The language model replied or failed.
    SamplingFinished {
        /// The agent's request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The language model replied to a prompt or failed.
    ModelReplied {
        /// The task and the exchange number.
        attempt: AttemptId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The planner returned a patch or failed.
    Replanned {
        /// The number of the replan.
        number: u32,
        /// The patch.
        result: Result<Arc<PlanPatch>, Failure>,
    },
    /// A person or a rule answered.
    QuestionAnswered {
        /// The question.
        question: QuestionId,
        /// The answer.
        answer: Answer,
        /// The author of the answer.
        by: String,
    },
    /// A person approved a call and all further calls of its tool in this run.
    RestApproved {
        /// The question about the call.
        question: QuestionId,
        /// The author of the approval.
        by: String,
    },
    /// The question cannot be answered here.
    QuestionDeferred {
        /// The question.
        question: QuestionId,
        /// The reason.
        reason: String,
    },
    /// Another process sent a signal.
    SignalReceived {
        /// The name of the signal.
        name: String,
        /// Its data.
        data: Value,
        /// The sender.
        by: String,
    },
    /// The state of what a task watches was observed for the first time.
    WatchBaselineObserved {
        /// The task.
        task: TaskId,
        /// The fingerprint of the file or the resource.
        fingerprint: String,
    },
    /// What a task watches is there or has changed, or cannot be watched.
    WatchEnded {
        /// The task.
        task: TaskId,
        /// The output of the task.
        result: Result<Arc<ToolOutput>, Failure>,
    },
    /// An agent sent a log message.
    AgentLogged {
        /// The origin.
        origin: Origin,
        /// The message.
        message: LogMessage,
    },
    /// An answer or a cancellation came from a process that must not act for a person.
    RequestRefused {
        /// The question of the answer; absent for a cancellation.
        question: Option<QuestionId>,
        /// The sender, by its own account.
        by: String,
        /// The reason for the refusal.
        reason: String,
    },
    /// A person requested the cancellation of the run.
    CancelRequested {
        /// The author of the request: `command (process 7, user anna, pts/1)`.
        by: String,
    },
    /// The process was asked to stop. The run remains resumable.
    InterruptRequested,
    /// The time of [`crate::engine::Run::next_wakeup`] has come.
    TimeReached,
}
