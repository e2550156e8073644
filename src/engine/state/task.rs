//! The state of a task, an item of a `foreach` task, or a tool call of a prompt.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use crate::model::{
    AgentId, ChatError, ChatMessage, ChatReply, Failure, HumanDuration, JsonObject, NodeIndex, OnFailure, Outcome,
    ReplyStatus, SkipReason, TaskId, Timestamp, ToolOutput, Watched,
};

/// The state of a node.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TaskEntry {
    pub(crate) state: TaskState,
    /// The number of dependencies that have not ended: `needs`, or the items of a `foreach` task.
    pub(crate) pending_dependencies: usize,
    /// The time at which the node became ready, the value of `now()` in its expressions. All attempts have the same.
    pub(crate) ready_at: Timestamp,
    /// The number of attempts on all routes.
    pub(crate) attempts: u32,
    /// The routes by index; empty before the first attempt.
    pub(crate) routes: SmallVec<[RouteState; 2]>,
    /// True if a person approved the task.
    pub(crate) is_approved: bool,
    /// The arguments with which a person approved the call instead of the ones of the plan.
    pub(crate) approved_arguments: Option<Box<JsonObject>>,
    /// The reason why it is unknown whether the same call took effect in an earlier run. Set until the first attempt,
    /// after a person was asked.
    pub(crate) unsettled: Option<Box<str>>,
    /// True if a person approved all calls of this `foreach` task.
    pub(crate) rest_approved: bool,
    /// The agent of the last attempt.
    pub(crate) agent: Option<AgentId>,
    /// The route of the last attempt as an index, since two routes may have the same agent.
    pub(crate) last_route: Option<usize>,
    /// The conversation of a prompt, once the model or the agent of the prompt was asked.
    pub(crate) conversation: Option<Box<Conversation>>,
    /// The failure of the last attempt, until another one starts.
    pub(crate) last_failure: Option<Box<Failure>>,
    /// True if an earlier process started the current attempt.
    pub(crate) is_reattached: bool,
    /// The model's replies to sampling requests of the current attempt, by request key. The agent may not have received
    /// them.
    pub(crate) replies: BTreeMap<String, Result<ChatReply, ChatError>>,
    /// The inputs of a plan that runs as a task, once it started.
    pub(crate) inputs: Option<Arc<Value>>,
    /// The time at which the time budget of a plan that runs as a task ends, once it started.
    pub(crate) plan_deadline: Option<Timestamp>,
    /// True if the time budget of a plan that runs as a task is exhausted.
    pub(crate) is_expired: bool,
    /// The last iteration of a `repeat` task.
    pub(crate) last_iteration: Option<NodeIndex>,
    /// What a task waits for, once it started.
    pub(crate) awaited: Option<Awaited>,
    /// The node indices of the items of a `foreach` task.
    pub(crate) items: std::ops::Range<usize>,
    /// The number of running items of a `foreach` task: calls, or groups.
    pub(crate) running_items: usize,
}

/// What a task waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A time.
    Time(Timestamp),
    /// A signal with this name.
    Signal(String),
    /// A change of a file or a resource, from the fingerprint once it is known.
    Change { watched: Watched, baseline: Option<String> },
}

/// The scheduling state of a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) enum TaskState {
    /// Some dependencies have not ended.
    #[default]
    Blocked,
    /// The node can start when there is capacity.
    Ready,
    /// A person has to answer first: an approval, or a question about the outcome of the last attempt.
    AwaitingAnswer,
    /// The node waits before it is retried, or for a time. From `until` on, it can start like a ready one.
    Delayed { until: Timestamp },
    /// The node waits for a signal.
    AwaitingSignal,
    /// The node waits for a change of a file or a resource.
    AwaitingChange,
    /// An attempt is in progress.
    Running { number: u32, route: usize },
    /// A model request is in progress.
    AskingModel,
    /// The answer of a prompt is being saved in a file.
    Saving(Arc<ToolOutput>),
    /// A task with unfinished items, iterations, or tasks of its group, or a prompt with unfinished tool calls.
    Expanded,
    /// The node has ended.
    Ended(Outcome),
}

/// The conversation of a prompt with the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Conversation {
    /// The number of the current exchange, from 1.
    pub(crate) exchange: u32,
    /// All messages, oldest first.
    pub(crate) messages: Vec<Arc<ChatMessage>>,
    /// The calls that the model requested in this exchange, or the request for the prompt of an agent before the first
    /// one: the model's ID of each call, and its node.
    pub(crate) calls: Vec<(String, NodeIndex)>,
    /// The number of calls in all exchanges.
    pub(crate) total_calls: usize,
    /// True if the model was asked to correct its answer.
    pub(crate) is_repair_requested: bool,
    /// The status of the last reply.
    pub(crate) reply_status: ReplyStatus,
    /// The output tokens of the last reply, if the endpoint reported them.
    pub(crate) output_tokens: Option<u64>,
    /// The number of consecutive failures of the current exchange.
    pub(crate) failures: u32,
    /// The minimum delay before the failed request is retried; `None` if a retry is useless.
    pub(crate) retry_after: Option<HumanDuration>,
    /// The time by which the reply must be complete.
    pub(crate) deadline: Option<Timestamp>,
}

impl Conversation {
    /// Returns whether the model was asked. A prompt of an agent is requested before that.
    pub(crate) fn has_started(&self) -> bool {
        self.exchange > 0
    }
}

/// The state of one route of a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RouteState {
    pub(crate) tries: u32,
    pub(crate) is_used_up: bool,
}

impl TaskEntry {
    pub(crate) fn new(state: TaskState, pending_dependencies: usize) -> Self {
        Self { state, pending_dependencies, ..Self::default() }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, TaskState::Ended(_))
    }

    /// Returns the output, if the node succeeded.
    pub(crate) fn output(&self) -> Option<&Arc<ToolOutput>> {
        match &self.state {
            TaskState::Ended(Outcome::Succeeded(output)) => Some(output),
            _ => None,
        }
    }

    /// Returns the failure, if the node failed.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.state {
            TaskState::Ended(Outcome::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Returns whether a next attempt may start at `now`.
    pub(crate) fn can_start(&self, now: Timestamp) -> bool {
        match self.state {
            TaskState::Ready => true,
            TaskState::Delayed { until } => until <= now,
            _ => false,
        }
    }

    /// Returns the number of the attempt or model request in progress.
    pub(crate) fn in_flight(&self) -> Option<u32> {
        match (&self.state, &self.conversation) {
            (TaskState::Running { number, .. }, _) => Some(*number),
            (TaskState::AskingModel, Some(_)) => Some(self.attempts),
            _ => None,
        }
    }

    /// Returns whether the node has not ended and has no attempt, model request, or items in progress.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.state {
            TaskState::Running { .. } | TaskState::AskingModel | TaskState::Saving(_) | TaskState::Ended(_) => false,
            // A `foreach` task ends after its items.
            TaskState::Expanded => self.pending_dependencies == 0,
            TaskState::Blocked
            | TaskState::Ready
            | TaskState::AwaitingAnswer
            | TaskState::AwaitingSignal
            | TaskState::AwaitingChange
            | TaskState::Delayed { .. } => true,
        }
    }

    /// Returns the reason why a dependent of this node is skipped, if it is.
    pub(crate) fn blocking_reason(&self, id: &TaskId, on_failure: OnFailure) -> Option<SkipReason> {
        let TaskState::Ended(outcome) = &self.state else { return None };
        match outcome {
            Outcome::Succeeded(_) => None,
            Outcome::Failed(_) if on_failure == OnFailure::Continue => None,
            Outcome::Failed(_) => Some(SkipReason::NeedFailed { task: id.clone() }),
            Outcome::Skipped(_) | Outcome::Cancelled => Some(SkipReason::NeedSkipped { task: id.clone() }),
        }
    }
}
