//! The events of a run, in the order of the decisions. An event is a fact; it never describes a request.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    AgentId, AgentInfo, Answer, AttemptId, ChatError, ChatMessage, ChatReply, ChatRequest, EndCause, Failure,
    GoalPlanning, HumanDuration, JsonObject, LogMessage, Operation, Origin, Outcome, Plan, PlanPatch, Progress,
    Question, QuestionId, RequestId, RunId, RunSource, RunStatus, SamplingOrigin, StopStatus, TaskId, Timestamp,
    ToolOutput, Watched, is_default,
};

/// An event with its sequence number and time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sequence number: 0 for the first event of the run, then without gaps.
    pub seq: u64,
    /// The time of the decision.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// A decision of the engine. `run == fold(events)` holds for every field of `engine::Run`.
///
/// A later version may add events and fields, but it does not change or remove them within one journal format. So match
/// with a wildcard arm, and match the fields of a variant with `..`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The run started.
    RunStarted {
        /// The plan, as validated.
        plan: Arc<Plan>,
        /// The inputs, with defaults filled in.
        inputs: Arc<Value>,
        /// The seed for jitter.
        seed: u64,
        /// The source files, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Arc<RunSource>>,
        /// The ID of the run, for expressions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<RunId>,
    },
    /// The run repeats a part of an earlier run.
    RunRerun {
        /// The earlier run.
        of: RunId,
        /// The first task to repeat. `None` repeats only tasks without a result.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<TaskId>,
    },
    /// The task has the result from the earlier run.
    TaskReused {
        /// The task.
        task: TaskId,
        /// The agent that returned the result, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// The result.
        output: Arc<ToolOutput>,
    },
    /// Results of single calls that a task keeps from the earlier run: those of its items, and of the tool calls of its
    /// model. A new call with the same request gets the kept result and is not sent.
    ResultsKept {
        /// The task of the plan.
        task: TaskId,
        /// The results.
        results: Vec<KeptResult>,
        /// Calls with unknown outcome. A person is asked before the same call is repeated.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unsettled: Vec<UnsettledCall>,
    },
    /// A later process resumed the run after the earlier one ended or paused it.
    RunResumed {
        /// The time without a driver. It does not count for the budget.
        downtime: HumanDuration,
        /// The attempts in progress that are reattached; all others are interrupted.
        reattached: Vec<AttemptId>,
        /// True if a person accepted that the agents' tools have changed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accepts_changes: bool,
    },
    /// The plan was generated for a goal before the run started. The run is charged for it.
    GoalPlanned(GoalPlanning),
    /// A connection to the agent was requested.
    AgentConnecting {
        /// The agent.
        agent: AgentId,
    },
    /// The agent connected and described itself.
    AgentConnected {
        /// The agent.
        agent: AgentId,
        /// Its protocol, name, and tools.
        info: Arc<AgentInfo>,
    },
    /// The agent cannot be used in this run.
    AgentUnavailable {
        /// The agent.
        agent: AgentId,
        /// The reason.
        failure: Failure,
    },
    /// A `foreach` task was expanded into one task for each item, `TASK[0]` to `TASK[n-1]`.
    TasksAdded {
        /// The `foreach` task.
        parent: TaskId,
        /// The items, in order.
        items: Arc<Vec<Value>>,
    },
    /// A group or a plan that runs as a task started. Its tasks are `TASK.NAME`.
    GroupStarted {
        /// The task, or an item or iteration of it.
        task: TaskId,
        /// The inputs of the plan, with defaults filled in; absent for a group.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inputs: Option<Arc<Value>>,
    },
    /// The next iteration of a `repeat` task was added: `TASK[0]`, then `TASK[1]`, ….
    IterationAdded {
        /// The `repeat` task.
        parent: TaskId,
        /// The time at which it starts, after a pause.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ready_at: Option<Timestamp>,
    },
    /// The task waits for a time.
    TimerStarted {
        /// The task.
        task: TaskId,
        /// The time.
        until: Timestamp,
    },
    /// The task waits for a signal.
    SignalAwaited {
        /// The task.
        task: TaskId,
        /// The name of the signal.
        name: String,
        /// The time at which the wait fails.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// A signal arrived. The first task that waits for it, now or later, consumes it.
    SignalReceived {
        /// The name of the signal.
        name: String,
        /// Its data.
        data: Value,
        /// The sender, by its own account.
        by: String,
    },
    /// The task waits for a change of a file or a resource.
    WatchStarted {
        /// The task.
        task: TaskId,
        /// What it watches.
        watched: Watched,
        /// The time at which the wait fails.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The state from which the task recognizes a change was observed. A later process compares with it, so that changes
    /// in between are noticed.
    WatchBaselineRecorded {
        /// The task.
        task: TaskId,
        /// The fingerprint of the file or the resource.
        fingerprint: String,
    },
    /// A call is about to be sent.
    AttemptStarted {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The agent to call.
        agent: AgentId,
        /// The tool to call.
        tool: Arc<str>,
    },
    /// The agent reported progress.
    AttemptProgressed {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The progress.
        progress: Progress,
    },
    /// The agent requested input (`InputRequiredResult`). The requests follow as separate events, and the call is
    /// repeated with their results.
    InputRequired {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// 1 for the first round.
        round: u32,
        /// The server's opaque state, to be echoed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_state: Option<String>,
        /// The requests, by the server's keys.
        requests: Value,
    },
    /// A prompt's request is about to be sent to the language model; `attempt.number` counts the requests.
    ModelRequested {
        /// The task and the exchange number.
        attempt: AttemptId,
        /// The new messages since the previous request.
        messages: Vec<Arc<ChatMessage>>,
        /// True if this asks for a correction of an answer that broke the prompt's `output_schema`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repair: bool,
        /// The maximum number of tokens that the request may use, including its whole conversation.
        #[serde(default)]
        estimated_tokens: u64,
        /// True if this is a retry of a failed request.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retry: bool,
        /// The deadline of the reply, retries included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The language model replied or failed.
    ModelReplied {
        /// The task and the exchange number.
        attempt: AttemptId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The model called tools. Each call becomes a task: `TASK/1`, `TASK/2`, …, numbered over all exchanges.
    ToolCallsAdded {
        /// The prompt.
        parent: TaskId,
        /// The calls, in the model's order. Calls that are not allowed are answered without a task.
        calls: Vec<PromptCall>,
    },
    /// The call and its task succeeded.
    AttemptSucceeded {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The output of the tool.
        output: Arc<ToolOutput>,
    },
    /// The call failed. The next event about the task states the consequence.
    AttemptFailed {
        /// The task and the attempt number.
        attempt: AttemptId,
        /// The reason.
        failure: Failure,
    },
    /// The task will be tried again.
    RetryScheduled {
        /// The task.
        task: TaskId,
        /// The time at which it becomes ready.
        ready_at: Timestamp,
        /// The agent to call. It is absent for prompts, and if several agents are equivalent: then one is chosen when a
        /// permit is free.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// The reason, for people.
        reason: String,
    },
    /// The answer of a prompt is complete, and is saved in a file of the run before the task ends.
    AnswerAccepted {
        /// The task.
        task: TaskId,
        /// The answer.
        output: Arc<ToolOutput>,
    },
    /// The task ended without a successful attempt.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// The outcome.
        outcome: Outcome,
    },
    /// Tasks failed, and the planner is asked for a patch. Until it replies, no pending task starts.
    ReplanStarted {
        /// The number of the replan within the run, from 1.
        number: u32,
        /// The failed tasks that triggered the replan; none if the planner is asked whether the goal is reached.
        failed: Vec<TaskId>,
    },
    /// The planner returned a patch, and a person is asked to approve it.
    ReplanProposed {
        /// The number of the replan.
        number: u32,
        /// The patch.
        patch: Arc<PlanPatch>,
    },
    /// The replan ended: its patch applies, or the plan is unchanged. Each removed task ends with its own event.
    Replanned {
        /// The number of the replan.
        number: u32,
        /// The patch, or the reason for its absence.
        result: Result<Arc<PlanPatch>, Failure>,
    },
    /// A person is asked.
    QuestionAsked {
        /// The question.
        question: Arc<Question>,
        /// The agent's request that waits for the answer; absent for approvals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<RequestId>,
    },
    /// An agent repeated an unanswered elicitation after a restart of the host.
    QuestionAskedAgain {
        /// The question.
        question: QuestionId,
        /// The agent's request that waits for the answer now.
        request: RequestId,
    },
    /// A person or a rule answered.
    QuestionAnswered {
        /// The question.
        question: QuestionId,
        /// The answer.
        answer: Answer,
        /// The author: `person at terminal`, `command (process 7, user anna, pts/1)`, `answers file`, `no input`, ….
        by: String,
    },
    /// A person approved all further calls of a tool in this run.
    ToolApproved {
        /// The agent.
        agent: AgentId,
        /// The tool.
        tool: Arc<str>,
        /// The author of the approval.
        by: String,
    },
    /// A person approved all further calls of a `foreach` task in this run. Events of calls name their tool instead.
    RestApproved {
        /// The `foreach` task.
        task: TaskId,
        /// The author of the approval.
        by: String,
    },
    /// The question cannot be answered here. The run pauses when no other work remains.
    QuestionDeferred {
        /// The question.
        question: QuestionId,
        /// The reason.
        reason: String,
    },
    /// A sampling request of an agent or the planner is about to be sent to the language model.
    SamplingStarted {
        /// The request.
        request: RequestId,
        /// The origin of the request.
        origin: SamplingOrigin,
        /// The chat request.
        chat: Arc<ChatRequest>,
    },
    /// The language model replied or failed.
    SamplingFinished {
        /// The request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// An agent sent a log message.
    AgentLogged {
        /// The origin.
        origin: Origin,
        /// The message.
        message: LogMessage,
    },
    /// The budget of the run is exhausted. Nothing more starts; completed work is kept.
    BudgetSpent {
        /// The exhausted limit, for people.
        what: String,
    },
    /// The time budget of a plan that runs as a task is exhausted. Its tasks are cancelled.
    PlanTimeSpent {
        /// The task, or an item or iteration of it.
        task: TaskId,
        /// The exhausted limit, for people.
        what: String,
    },
    /// An answer or a cancellation was refused, because its sender must not act for a person.
    RequestRefused {
        /// The question of the answer; absent for a cancellation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<QuestionId>,
        /// The sender, by its own account.
        by: String,
        /// The reason for the refusal.
        reason: String,
    },
    /// A task ended the run early.
    RunStopped {
        /// The task.
        task: TaskId,
        /// The status of the run.
        status: StopStatus,
        /// The reason, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// The outputs of the run, if the task sets them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outputs: Option<IndexMap<String, Value>>,
    },
    /// Nothing but the hooks of the plan remains, and they run now.
    RunFinalizing {
        /// The status that the run has without them.
        status: RunStatus,
    },
    /// A person requested the cancellation of the run.
    CancelRequested {
        /// The author of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A person or the system asked the driving process to stop. A later process can resume the run.
    InterruptRequested,
    /// The run ended.
    RunEnded {
        /// The final status.
        status: RunStatus,
        /// The cause, unless the status is self-explanatory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<EndCause>,
        /// The evaluated `outputs` of the plan; absent if it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outputs: Option<IndexMap<String, Value>>,
        /// Outputs that could not be evaluated, each with the reason.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        output_errors: IndexMap<String, String>,
    },
}

impl Event {
    /// Returns the outputs of tasks that the event holds.
    pub(crate) fn outputs_mut(&mut self) -> impl Iterator<Item = &mut Arc<ToolOutput>> {
        let (one, kept) = match self {
            Self::AttemptSucceeded { output, .. }
            | Self::TaskReused { output, .. }
            | Self::AnswerAccepted { output, .. }
            | Self::TaskEnded { outcome: Outcome::Succeeded(output), .. } => (Some(output), None),
            Self::ResultsKept { results, .. } => (None, Some(results)),
            _ => (None, None),
        };
        one.into_iter().chain(kept.into_iter().flatten().map(|kept| &mut kept.output))
    }
}

/// A result from an earlier run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptResult {
    /// The request, as JSON with sorted keys.
    pub request: String,
    /// The agent that returned it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The result.
    pub output: Arc<ToolOutput>,
}

/// A call of an earlier run with unknown outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnsettledCall {
    /// The request, as JSON with sorted keys.
    pub request: String,
    /// The reason for the unknown outcome.
    pub reason: String,
}

/// A tool call of a model, or the request for the prompt of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptCall {
    /// The model's ID for the call; empty for a prompt of an agent.
    pub id: String,
    /// The agent.
    pub agent: AgentId,
    /// The operation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operation: Operation,
    /// The tool, or the method of another operation.
    pub tool: Arc<str>,
    /// The arguments of the tool, or the parameters of another operation.
    pub arguments: JsonObject,
}
