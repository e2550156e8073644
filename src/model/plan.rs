//! A validated plan: what to do, on which agents, under which policy.
//! Never holds file positions or spellings; `config::load_plan` turns a file into this or into errors.

use std::sync::Arc;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AgentId, HumanDuration, ReplanPolicy, TaskId};

/// A JSON object, keys in the order they were written.
pub type JsonObject = serde_json::Map<String, Value>;

/// A JSON value in which strings may hold `${{ expression }}`; kept as written.
/// A string that is one whole expression takes that expression's JSON type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Value);

/// An expression without its `${{ }}`; kept as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// A plan that can run: every name in it resolves and its graph has no cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's own name.
    pub name: String,
    /// What it is for, in the author's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Inputs by name.
    pub inputs: IndexMap<String, InputSpec>,
    /// Most attempts in flight at once, over the whole run.
    pub max_parallel: usize,
    /// What the run may spend.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    /// How often what is left may be planned anew; never where no task's failure asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<ReplanPolicy>,
    /// Every task, in the order of the file.
    pub tasks: Vec<Arc<Task>>,
    /// What the run returns, by name; without it, the tasks' own answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<IndexMap<String, Template>>,
    /// What the agents file said of each agent that a route names.
    pub agents: IndexMap<AgentId, AgentPolicy>,
}

impl Plan {
    /// Returns the task that writes one answer from the results of all others, if there is one.
    pub fn synthesis(&self) -> Option<&Task> {
        self.tasks.iter().map(AsRef::as_ref).find(|task| matches!(task.work, Work::Synthesis(_)))
    }
}

/// What a run must know of an agent to route to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentPolicy {
    /// True if the run fails when the agent cannot be reached.
    pub required: bool,
    /// Most attempts in flight on this agent at once.
    pub max_concurrency: usize,
    /// The idle timeout of a call where the task names none.
    pub tool_timeout: HumanDuration,
    /// The effect of the agent's tools where neither the task nor the plan names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// A hash of the agent's section, by which a later process sees whether it is still the same; empty where unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
}

/// The type and default of an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The JSON type that a value must have.
    pub kind: InputType,
    /// True if a run must be given a value. Never true together with a default.
    pub required: bool,
    /// The value where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// What the input is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The JSON type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Text.
    String,
    /// A number with or without a fraction.
    Number,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// A map.
    Object,
}

/// One node of the graph: a call of a tool or a prompt to a language model, once or for each item of a list.
/// What is large and rare stands in a box, since plans can have many tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The name by which others refer to it.
    pub id: TaskId,
    /// What a person reads above its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The tasks that must end first: those written under `needs` and those that expressions refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// Whether it runs at all.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Expression>,
    /// Runs once for each item of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreach: Option<Box<Foreach>>,
    /// A question that a person must say yes to before each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Box<Template>>,
    /// How long its questions wait, those of its agents included; for ever where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<QuestionPolicy>,
    /// What it does.
    pub work: Work,
    /// How often and when it is tried again.
    #[serde(default, skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
    /// What a repeated call does, if the task or the plan says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// Longest silence of a call; progress starts it again. The agent's `tool_timeout` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// Longest duration of a call, progress or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<HumanDuration>,
    /// What its failure means for others.
    #[serde(default, skip_serializing_if = "OnFailure::is_default")]
    pub on_failure: OnFailure,
    /// What it may spend, all its items and turns together.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
}

/// What a run or a task may spend; nothing bounds what is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Tokens of the language model, requests and replies together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// US dollars, where the agents file has prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Requests to the language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub llm_calls: Option<u64>,
    /// Attempts of calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<u64>,
    /// Time from the start of the run; never set for a task, which has `deadline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<HumanDuration>,
}

impl Budget {
    fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl Task {
    /// Where it can run, best first; none for a prompt.
    pub fn routes(&self) -> &[Route] {
        match &self.work {
            Work::Call(call) => &call.routes,
            Work::Prompt(_) | Work::Synthesis(_) => &[],
        }
    }

    /// What it asks a language model; none for a call.
    pub fn prompt(&self) -> Option<&Prompt> {
        match &self.work {
            Work::Prompt(prompt) | Work::Synthesis(prompt) => Some(prompt),
            Work::Call(_) => None,
        }
    }

    /// Returns the arguments of its call; none for a prompt.
    pub fn arguments(&self) -> Option<&Template> {
        match &self.work {
            Work::Call(call) => Some(&call.arguments),
            Work::Prompt(_) | Work::Synthesis(_) => None,
        }
    }
}

/// What a task does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// It calls a tool.
    Call(Call),
    /// It asks a language model.
    Prompt(Box<Prompt>),
    /// It has a language model write one answer from the results of all other tasks, however they ended.
    Synthesis(Box<Prompt>),
}

/// A call of one tool, on one of several routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Where it can run, best first; never empty.
    pub routes: Vec<Route>,
    /// The tool's arguments: an object.
    #[serde(rename = "with")]
    pub arguments: Template,
    /// What it waits for once the tool has ended.
    #[serde(default, rename = "await", skip_serializing_if = "Option::is_none")]
    pub awaits: Option<Box<Await>>,
}

/// What a call waits for once its tool has ended: the resource to which the tool's result links. The expressions are
/// over its contents: where they are a JSON object, its keys are names, and `resource` is all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Await {
    /// Holds once the contents are the call's output.
    pub resource: Expression,
    /// Holds once they will never be, which fails the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Expression>,
}

/// A question to a language model, which may call tools before it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The model, by its name in the agents file; the default one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the model is told before the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Template>,
    /// The question.
    pub prompt: Template,
    /// The JSON Schema of the answer; free text where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// The only tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<PromptTool>,
    /// Most replies of the model, its answer included; at least 1. In the last one it may not call tools.
    pub max_turns: u32,
    /// Most tokens of one reply.
    pub max_tokens: u32,
}

/// A tool that a prompt allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTool {
    /// Whose it is.
    pub agent: AgentId,
    /// Its name; all of the agent's tools where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
}

/// The list that a `foreach` task runs over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foreach {
    /// Gives the list.
    pub items: Template,
    /// The name of the current item in the task's expressions.
    #[serde(rename = "as")]
    pub binding: String,
    /// Most items in flight at once; the plan's `max_parallel` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<usize>,
}

/// One place where a task can run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The agent to call.
    pub agent: AgentId,
    /// Its tool's name.
    pub tool: Arc<str>,
    /// Routes of the same rank are equivalent (members of one capability), and the least busy is taken;
    /// a higher rank is a fallback that is taken only when all lower ones are used up.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rank: u32,
}

fn is_zero(rank: &u32) -> bool {
    *rank == 0
}

/// What a repeated call does, from safest to least safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It changes nothing.
    ReadOnly,
    /// It changes something, but a second call adds nothing to the first.
    Idempotent,
    /// A second call may do the thing twice. The assumption where nothing is known.
    AtMostOnce,
}

/// How long a question of a task waits for a person, and what answers it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionPolicy {
    /// How long it waits from the moment that it is asked.
    pub timeout: HumanDuration,
    /// The answer that it gets then.
    pub default: DefaultAnswer,
}

/// The answer to a question that nobody answered in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultAnswer {
    /// Yes, with the defaults of the form's fields; no, where a required field has none.
    Accept,
    /// No.
    #[default]
    Decline,
    /// Dismissed.
    Cancel,
}

/// What a task's failure means for others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The run fails and dependents are skipped; tasks that do not depend on it go on.
    #[default]
    Fail,
    /// Dependents run without its output; the run ends as partly done.
    Continue,
    /// Dependents are skipped; the run ends as partly done.
    SkipDependents,
    /// What has not started is planned anew; where it cannot be, the same as [`Self::Fail`].
    Replan,
}

impl OnFailure {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How often and when a task is tried again on the same route.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Most tries on one route, the first included; at least 1.
    pub max_attempts: u32,
    /// The pause between them.
    pub backoff: Backoff,
}

impl Retry {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

// What journals leave out of the plan, so it can never be another.
impl Default for Retry {
    fn default() -> Self {
        Self { max_attempts: 1, backoff: Backoff::default() }
    }
}

/// The pause before try n+1: `min(max, initial × factor^(n-1))`, of which `jitter` is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// The first pause.
    pub initial: HumanDuration,
    /// What each further pause is multiplied by; 1 for a fixed pause.
    pub factor: f64,
    /// The longest pause.
    pub max: HumanDuration,
    /// The part of the pause that is drawn at random, from 0 (none) to 1 (all of it).
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        let seconds = |n| HumanDuration(std::time::Duration::from_secs(n));
        Self { initial: seconds(1), factor: 2.0, max: seconds(30), jitter: 0.5 }
    }
}
