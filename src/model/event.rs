//! The facts of a run, in the order in which they were decided.
//! Never an order and never a wish: an event has happened.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AgentId, AgentInfo, Answer, AttemptId, ChatError, ChatMessage, ChatReply, ChatRequest, Failure, HumanDuration,
    JsonObject, LogMessage, Origin, Outcome, Plan, PlanPatch, Progress, Question, QuestionId, RequestId, RunId,
    SamplingOrigin, TaskId, Timestamp, ToolOutput, Usage,
};

/// An event with its place and time in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 0 for the first event of the run, then without a gap.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// The fact.
    #[serde(flatten)]
    pub event: Event,
}

/// A fact. `run == fold(events)` holds for every field of `engine::Run`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run began.
    RunStarted {
        /// The plan, as validated.
        plan: Arc<Plan>,
        /// Its inputs, defaults filled in.
        inputs: Arc<Value>,
        /// The seed of every delay that has jitter.
        seed: u64,
        /// The files that it came from, where it came from files.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<Arc<RunSource>>,
    },
    /// The run does a part of an earlier one again: everything from a task on.
    RunRerun {
        /// The earlier run.
        of: RunId,
        /// The task.
        from: TaskId,
    },
    /// The task has the result that it had in the earlier run.
    TaskReused {
        /// The task.
        task: TaskId,
        /// The agent that gave the result then, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// The result.
        output: Arc<ToolOutput>,
    },
    /// What a task takes over from the earlier run call by call. Results are those of its items, and of the calls that a
    /// model asked for: whatever asks for the same again has the result, and is not called.
    ResultsKept {
        /// The task of the plan.
        task: TaskId,
        /// The results.
        results: Vec<KeptResult>,
        /// Calls of unknown outcome: before the same call is made again, a person is asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unsettled: Vec<UnsettledCall>,
    },
    /// A later process took the run up, after the one before had ended or had paused it.
    RunResumed {
        /// How long nobody drove it: time that does not count for its budget.
        away: HumanDuration,
        /// The attempts under way that are taken up where they are; every other one is interrupted.
        taken_up: Vec<AttemptId>,
        /// Whether a person accepted that agents' tools are not what they were.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        accepts_changes: bool,
    },
    /// The plan was made for a goal, before the run began. The run pays for that.
    GoalPlanned(GoalPlanning),
    /// A connection to the agent was asked for.
    AgentConnecting {
        /// The agent.
        agent: AgentId,
    },
    /// The agent answered, with what a decision may rest on.
    AgentConnected {
        /// The agent.
        agent: AgentId,
        /// Its protocol, name and tools, as seen.
        info: Arc<AgentInfo>,
    },
    /// The agent cannot be used in this run.
    AgentUnavailable {
        /// The agent.
        agent: AgentId,
        /// Why.
        failure: Failure,
    },
    /// A `foreach` task became one task for each item, `TASK[0]` to `TASK[n-1]`.
    TasksAdded {
        /// The `foreach` task.
        parent: TaskId,
        /// The items, in order.
        items: Arc<Vec<Value>>,
    },
    /// A call is about to leave.
    AttemptStarted {
        /// Task and number.
        attempt: AttemptId,
        /// The agent that is called.
        agent: AgentId,
        /// The tool that is called.
        tool: Arc<str>,
    },
    /// The agent reported progress.
    AttemptProgressed {
        /// Task and number.
        attempt: AttemptId,
        /// How far it is.
        progress: Progress,
    },
    /// The agent asked for input before it goes on (`InputRequiredResult`); the requests follow as events of
    /// their own, and the call is repeated with their results.
    InputRequired {
        /// Task and number.
        attempt: AttemptId,
        /// 1 for the first round.
        round: u32,
        /// The server's opaque state, to be echoed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request_state: Option<String>,
        /// The requests as the server made them, by its keys.
        requests: Value,
    },
    /// A language model is about to be asked, in answer to a prompt; `attempt.number` counts the requests.
    ModelAsked {
        /// Task and turn.
        attempt: AttemptId,
        /// What is said to it beyond what was said before.
        messages: Vec<Arc<ChatMessage>>,
        /// Whether this asks it to mend an answer that broke the prompt's `output_schema`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        repair: bool,
        /// The most tokens that the request may use, its whole conversation included.
        #[serde(default)]
        most_tokens: u64,
        /// Whether this repeats a request that failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retry: bool,
        /// When the reply must be complete, its retries included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// The language model replied, or failed.
    ModelReplied {
        /// Task and turn.
        attempt: AttemptId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// The model asked for tools: one task for each call, `TASK/1`, `TASK/2`, … over all turns.
    ToolCallsAdded {
        /// The prompt.
        parent: TaskId,
        /// The calls, in the model's order; those that it may not make are answered without a task.
        calls: Vec<PromptCall>,
    },
    /// The call succeeded, and so did its task.
    AttemptSucceeded {
        /// Task and number.
        attempt: AttemptId,
        /// What the tool returned.
        output: Arc<ToolOutput>,
    },
    /// The call failed; what follows for the task is the next event about it.
    AttemptFailed {
        /// Task and number.
        attempt: AttemptId,
        /// Why.
        failure: Failure,
    },
    /// The task will be tried again.
    RetryScheduled {
        /// The task.
        task: TaskId,
        /// When it becomes ready.
        ready_at: Timestamp,
        /// The agent that will be called; absent for a prompt, and where several are equal, since one is chosen when there
        /// is room.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentId>,
        /// Why, for people.
        reason: String,
    },
    /// The task ended other than by a successful attempt.
    TaskEnded {
        /// The task.
        task: TaskId,
        /// How.
        outcome: Outcome,
    },
    /// Tasks failed, and the planner is asked for another remainder. Until it has answered, nothing starts that has
    /// not started.
    ReplanStarted {
        /// Which replan of the run it is, from 1.
        number: u32,
        /// The tasks whose failures it is to get around.
        failed: Vec<TaskId>,
    },
    /// The planner gave another remainder, and a person is asked whether it may be taken.
    ReplanProposed {
        /// Which replan.
        number: u32,
        /// The remainder.
        remainder: Arc<PlanPatch>,
    },
    /// The replan is over: the new remainder is the run's, or everything stays as it was. Each task that it removes
    /// ends with an event of its own.
    Replanned {
        /// Which replan.
        number: u32,
        /// The remainder, or why there is none.
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
    /// An agent asked again, after a restart of the host, what it had asked before and what is not yet answered.
    QuestionAskedAgain {
        /// The question.
        question: QuestionId,
        /// The agent's request that now waits for the answer.
        request: RequestId,
    },
    /// A person answered, or the rules did.
    QuestionAnswered {
        /// The question.
        question: QuestionId,
        /// What was said.
        answer: Answer,
        /// Who said it: `person at terminal`, `command (process 7, user anna, pts/1)`, `answers file`, `no input`, ….
        by: String,
    },
    /// A person approved every further call of a `foreach` task in this run.
    RestApproved {
        /// The `foreach` task.
        task: TaskId,
        /// Who did.
        by: String,
    },
    /// Nobody here can answer the question; the run pauses when nothing else is left to do.
    QuestionLeftOpen {
        /// The question.
        question: QuestionId,
        /// Why.
        reason: String,
    },
    /// A request of an agent or of the planner is about to go to the language model.
    SamplingStarted {
        /// The request.
        request: RequestId,
        /// Who asked.
        origin: SamplingOrigin,
        /// What was asked.
        chat: Arc<ChatRequest>,
    },
    /// The language model replied, or failed.
    SamplingFinished {
        /// The request.
        request: RequestId,
        /// The reply.
        result: Result<ChatReply, ChatError>,
    },
    /// An agent sent a log message.
    AgentLogged {
        /// Who.
        origin: Origin,
        /// What.
        message: LogMessage,
    },
    /// The run's budget is spent: nothing more is started, and what was done is kept.
    BudgetSpent {
        /// What there is no more of, for people.
        what: String,
    },
    /// An answer or a cancellation was refused: it came from a process that must not speak for a person.
    RequestRefused {
        /// The question that it answers; absent for a cancellation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        question: Option<QuestionId>,
        /// Which process sent it, as it says.
        by: String,
        /// Why it is refused.
        reason: String,
    },
    /// A person asked for the run to end.
    CancelRequested {
        /// Who asked; older journals do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A person, or the system, asked the process that drives the run to stop. A later process can continue it.
    InterruptRequested,
    /// The run ended.
    RunEnded {
        /// How.
        status: RunStatus,
        /// Why, where the status alone does not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cause: Option<EndCause>,
        /// The plan's `outputs`, evaluated; absent when the plan has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        outputs: Option<IndexMap<String, Value>>,
        /// Outputs that could not be evaluated, each with the reason.
        #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
        output_errors: IndexMap<String, String>,
    },
}

/// The files that a run came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSource {
    /// The absolute path of the plan file; absent for a plan from standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// A hash of the plan's text.
    pub plan_hash: String,
    /// The absolute path of the agents file.
    pub agents: String,
    /// The file that gave inputs; absent where none did, or where they came from standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<ParamsFile>,
}

/// A file that gave inputs of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamsFile {
    /// Its absolute path.
    pub path: String,
    /// A hash of its text.
    pub hash: String,
    /// The inputs that the command line gave in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<String>,
}

/// How a plan was made for a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoalPlanning {
    /// What the person asked for.
    pub goal: String,
    /// The planner's turns, in order; the last one gave the plan.
    pub turns: Vec<PlannerExchange>,
}

impl GoalPlanning {
    /// The tokens of all turns, if the endpoint told those of each.
    pub fn usage(&self) -> Option<Usage> {
        self.turns.iter().try_fold(Usage::default(), |sum, turn| {
            let Usage { input_tokens, output_tokens } = turn.usage?;
            Some(Usage {
                input_tokens: sum.input_tokens + input_tokens,
                output_tokens: sum.output_tokens + output_tokens,
            })
        })
    }
}

/// A turn in which a model answered the planner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannerExchange {
    /// The model that answered, as the endpoint reported it.
    pub model: String,
    /// MCP's `stopReason`, as in [`ChatReply`].
    pub stop_reason: String,
    /// Tokens used, if the endpoint said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The most tokens that the turn may have used, which counts where `usage` is absent.
    pub most_tokens: u64,
    /// What it cost in US dollars, as in [`ChatReply`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

impl PlannerExchange {
    /// The turn in which `request` got `reply`.
    pub fn from_reply(request: &ChatRequest, reply: &ChatReply) -> Self {
        Self {
            model: reply.model.clone(),
            stop_reason: reply.stop_reason.clone(),
            usage: reply.usage,
            most_tokens: request.estimate_tokens(),
            cost_usd: reply.cost_usd,
        }
    }
}

/// A result that an earlier run had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeptResult {
    /// What was asked for, as JSON with sorted keys.
    pub request: String,
    /// The agent that gave it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentId>,
    /// The result.
    pub output: Arc<ToolOutput>,
}

/// A call of an earlier run that may or may not have taken effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnsettledCall {
    /// What was asked for, as JSON with sorted keys.
    pub request: String,
    /// Why its outcome is unknown.
    pub reason: String,
}

/// A call that a model asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptCall {
    /// The model's name for the call.
    pub id: String,
    /// The agent.
    pub agent: AgentId,
    /// The tool.
    pub tool: Arc<str>,
    /// The arguments.
    pub arguments: JsonObject,
}

/// How a run stands, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Not ended. A run whose process is gone still says this.
    Running,
    /// Every task succeeded or was skipped by its own condition.
    Succeeded,
    /// Some tasks failed, and the plan said to go on without them.
    Partial,
    /// A task failed whose failure fails the run, or a required agent is unavailable.
    Failed,
    /// Only questions that nobody here can answer are left.
    Paused,
    /// The process that drove it was asked to stop.
    Interrupted,
    /// A person ended it.
    Cancelled,
}

impl RunStatus {
    /// The word for it, the same in text, in JSON and in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Paused => "paused",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the run can go on: it is driven, was interrupted, or is paused.
    pub fn is_unfinished(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Interrupted => true,
            Self::Succeeded | Self::Partial | Self::Failed | Self::Cancelled => false,
        }
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a run ended as it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// A required agent is unavailable.
    RequiredAgentUnavailable {
        /// The agent.
        agent: AgentId,
    },
    /// The only failures are approvals that a person declined.
    Denied,
    /// The run's budget is spent.
    BudgetSpent {
        /// What there is no more of, for people.
        what: String,
    },
    /// An agent is not what it was before the run was interrupted, and nobody accepted that; the run is paused.
    AgentChanged {
        /// The agent.
        agent: AgentId,
        /// The tools whose schemas are others than before, or which are gone.
        tools: Vec<String>,
    },
}
