//! The words of the house as plain, serialisable data: plans, tasks, agents, events, commands.
//! Never waits, reads, writes or decides.

mod address;
mod agent;
mod chat;
mod command;
mod event;
mod graph;
mod ids;
mod input;
mod llm;
mod money;
mod note;
mod number;
mod outcome;
mod plan;
mod question;
mod replan;
mod reply_text;
mod secrets;
pub mod text;
mod time;
mod tokens;

pub use address::shown_address;
pub use agent::{
    AgentInfo, AgentSpec, ChildProcess, Consent, LogMessage, Progress, Protocol, ResultChecks, SamplingPolicy,
    ToolInfo, Transport,
};
pub use chat::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, Ending, ModelPreferences, OutputForm,
    ToolChoice, Usage,
};
pub use command::{Command, SentCall, StartAttempt};
pub use event::{
    EndCause, Event, GoalPlanning, KeptResult, ParamsFile, PlannerTurn, PromptCall, Record, RunStatus, Source,
    UnsettledCall,
};
pub use graph::{GraphError, Item, Node, Part, TaskGraph, ToolCall};
pub use ids::{AgentId, AttemptId, IdHashMap, IdMap, QuestionId, RequestId, RunId, TaskId};
pub use input::Input;
pub use llm::{
    Dialect, ForcedToolChoice, LlmSpec, MaxTokensField, OWN_KEYS, Prices, RequestSettings, Scores, StructuredOutput,
    SystemRole,
};
pub use money::MicroDollars;
pub use note::{NoteKey, Notes};
pub use number::has_leading_zero;
pub use outcome::{Block, Failure, FailureKind, Outcome, SkipReason, ToolOutput};
pub use petgraph::graph::NodeIndex;
pub use plan::{
    AgentPolicy, Await, Backoff, Budget, Call, DefaultAnswer, Effect, Expression, Foreach, InputSpec, InputType,
    JsonObject, OnFailure, Plan, Prompt, PromptTool, QuestionPolicy, Retry, Route, Task, Template, Work,
};
pub use question::{
    Answer, Asker, Elicitation, Form, ItemPlace, Origin, ProposedCall, Question, QuestionDeadline, Sampler, Settlement,
};
pub use replan::{Remainder, ReplanPolicy, ReplanRequest, Standing, TaskSoFar};
pub use reply_text::{ReasoningFilter, json_candidates, split_reasoning, tool_call_markup};
pub use secrets::Secrets;
pub use time::{SPAN_FORM, Span, Timestamp};
