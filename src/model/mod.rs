//! Plain, serializable data types: plans, tasks, agents, events, and commands. No IO, no clock, no decisions.

mod agent;
mod checkpoint;
mod command;
mod event;
mod graph;
mod ids;
mod input;
mod llm;
mod money;
mod outcome;
mod plan;
mod question;
mod replan;
pub mod text;
mod time;

pub use agent::{
    AgentInfo, AgentSpec, ChildProcess, Consent, LogMessage, Progress, Protocol, ResultChecks, SamplingPolicy,
    ToolInfo, Transport,
};
pub use checkpoint::{CheckpointKey, Checkpoints};
pub use command::{Command, SentCall, StartAttempt};
pub use event::{
    EndCause, Event, GoalPlanning, KeptResult, ParamsFile, PlannerExchange, PromptCall, Record, RunSource, RunStatus,
    UnsettledCall,
};
pub use graph::{GraphError, Item, Node, NodeKind, TaskGraph, ToolCallNode};
pub use ids::{AgentId, AttemptId, IdHashMap, IdMap, QuestionId, RequestId, RunId, TaskId};
pub use input::Input;
pub use llm::chat::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, ModelPreferences, ReplySchema,
    ReplyStatus, ToolChoice, Usage,
};
pub use llm::reply_text::{ReasoningFilter, json_candidates, split_reasoning, tool_call_markup};
pub use llm::{
    Dialect, ForcedToolChoice, LlmSpec, MaxTokensField, OWN_KEYS, Prices, RequestSettings, Scores, StructuredOutput,
    SystemRole,
};
pub use money::MicroDollars;
pub use outcome::{ContentBlock, Failure, FailureKind, Outcome, SkipReason, ToolOutput};
pub use petgraph::graph::NodeIndex;
pub use plan::{
    AgentPolicy, Await, Backoff, Budget, Call, DefaultAnswer, Effect, Expression, Foreach, InputSpec, InputType,
    JsonObject, OnFailure, Plan, Prompt, PromptTool, QuestionPolicy, Retry, Route, Task, Template, Work,
};
pub use question::{
    AmbiguityResolution, Answer, Asker, Elicitation, Form, ItemPlace, Origin, ProposedCall, Question, QuestionDeadline,
    SamplingOrigin,
};
pub use replan::{PlanPatch, ReplanPolicy, ReplanRequest, TaskProgress, TaskSnapshot};
pub use text::number::has_leading_zero;
pub use text::redact::redact_url;
pub use text::secrets::Secrets;
pub use time::{DURATION_FORMAT, DURATION_PATTERN, HumanDuration, Timestamp};
