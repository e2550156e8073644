//! Plain, serializable data types: plans, tasks, agents, events, and commands. No IO, no clock, no decisions.

mod agent;
mod checkpoint;
mod events;
mod fnv;
mod ids;
mod llm;
mod money;
mod oauth;
mod offers;
mod outcome;
mod plans;
mod question;
mod replan;
#[cfg(test)]
pub(crate) mod samples;
mod saved_file;
mod secrets;
pub mod text;
mod time;
mod trace;

pub use agent::{
    AgentInfo, AgentRoot, AgentSpec, ChildProcess, ConnectionTransport, Installation, LogLevel, LogMessage,
    NetworkSettings, Progress, Protocol, SamplingPolicy, SchemaChecks, ServerQuirk, ToolInfo, Transport,
    describe_unset,
};
pub use checkpoint::{CheckpointKey, Checkpoints};
pub use events::command::{CacheRequest, Command, SentCall, ToolCall, Watch};
pub use events::event::{Event, KeptResult, PromptCall, Record, UnsettledCall};
pub use events::input::Input;
pub use events::run_info::{
    DiscardReason, DiscardedCall, EndCause, GoalPlanning, ParamsFile, PlannerExchange, RunSource, RunStatus,
};
pub(crate) use fnv::{FNV_OFFSET, fnv1a};
pub use ids::{AgentId, AttemptId, IdHashMap, IdMap, QuestionId, RequestId, RunId, TaskId};
pub use llm::chat::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, ModelPreferences, ReplySchema,
    ReplyStatus, ToolChoice, Usage,
};
pub use llm::llm_spec::{
    Dialect, ForcedToolChoice, LlmSpec, MaxTokensField, OWN_KEYS, Prices, RequestSettings, Scores, StructuredOutput,
    SystemRole,
};
pub use llm::reply_text::{ReasoningFilter, json_candidates, split_reasoning, tool_call_markup};
pub use money::MicroDollars;
pub use oauth::{LoginInfo, OAuthGrant, OAuthSpec};
pub use offers::{
    AgentOffers, Completion, CompletionRequest, CompletionTarget, PromptArgument, PromptInfo, ResourceDetails,
    ResourceInfo, ResourceTemplateInfo,
};
pub use outcome::{ContentBlock, Failure, FailureKind, Outcome, SavedText, SkipReason, ToolOutput};
pub use petgraph::graph::NodeIndex;
pub use plans::graph::{GraphError, Item, Iteration, Node, NodeKind, TaskGraph, ToolCallNode};
pub use plans::host_pattern::HostPattern;
pub use plans::inputs::{InputConstraints, InputSpec, InputType, MASKED_SECRET};
pub use plans::plan::{
    Await, CachePolicy, Call, Foreach, Group, HOST_AGENT, Operation, Plan, Prompt, PromptSource, PromptTool, Route,
    ServerPrompt, SubPlan, Task, Work,
};
pub(crate) use plans::policy::is_default;
pub use plans::policy::{
    AgentPolicy, Backoff, Budget, Consent, DefaultAnswer, Effect, OnFailure, QuestionPolicy, ReplanPolicy, Retry,
};
pub use plans::schedule::{DueOccurrence, MissedOccurrences, Occurrences, Schedule, ScheduleError};
pub use plans::steps::{Ask, FileWait, Hook, HookTrigger, Repeat, ResourceWait, Stop, StopStatus, Wait, Watched};
pub use plans::template::{Expression, JsonObject, Template, value_as_text};
pub use question::{
    AmbiguityResolution, Answer, Asker, Elicitation, Form, InputSchema, ItemPlace, Origin, ProposedCall, Question,
    QuestionDeadline, SamplingOrigin,
};
pub use replan::{GoalCheck, PlanPatch, ReplanRequest, TaskProgress, TaskSnapshot};
pub use saved_file::{SavedFile, SavedOutput, relative_file_name};
pub use secrets::Secrets;
pub use text::number::has_leading_zero;
pub use text::redact::redact_url;
pub use time::{DURATION_FORMAT, DURATION_PATTERN, HumanDuration, Timestamp};
pub use trace::TraceContext;
