//! A validated plan. It has no file positions; `config::load_plan` turns a file into a plan or into diagnostics.

use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    AgentId, AgentPolicy, Ask, Budget, Effect, Expression, Hook, HumanDuration, InputSpec, InputType, JsonObject,
    MASKED_SECRET, OnFailure, QuestionPolicy, Repeat, ReplanPolicy, Retry, Schedule, Stop, TaskId, Template, Wait,
    is_default,
};

/// A valid plan: all names resolve and the graph has no cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// The name of the plan.
    pub name: String,
    /// The author's description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The part of the goal that the tasks do not reach. A run with it is partial at best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// True if a language model checks at the end whether the goal is reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_goal: bool,
    /// When the plan runs by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Inputs by name.
    pub inputs: IndexMap<String, InputSpec>,
    /// The environment variables that expressions use, with their values when the plan was validated.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub env: IndexMap<String, String>,
    /// The maximum number of concurrent attempts in the whole run.
    pub max_parallel: usize,
    /// The budget of the run.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Budget,
    /// The replan settings; absent if no failure of a task triggers a replan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replan: Option<ReplanPolicy>,
    /// All tasks, in the order of the file.
    pub tasks: Vec<Arc<Task>>,
    /// The outputs of the run, by name. If absent, the run returns the tasks' own answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<IndexMap<String, Template>>,
    /// The agents file's settings for each agent that a route names.
    pub agents: IndexMap<AgentId, AgentPolicy>,
}

impl Plan {
    /// Returns the tasks that the plan file has: all but a synthesis and the resources that expressions read.
    pub fn written_tasks(&self) -> impl Iterator<Item = &Task> {
        let tasks = self.tasks.iter().map(AsRef::as_ref);
        tasks.filter(|task: &&Task| !task.is_synthesis() && !task.id.is_resource_read())
    }

    /// Returns the names of the secret inputs.
    pub fn secret_inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().filter(|(_, spec)| spec.kind == InputType::Secret).map(|(name, _)| name.as_str())
    }

    /// Returns the inputs with a mask for each secret that has a value. Journals have only these.
    pub fn masked_inputs(&self, inputs: &Arc<Value>) -> Arc<Value> {
        let is_open = |name: &&str| inputs.get(name).is_some_and(|value| !value.is_null() && value != MASKED_SECRET);
        let secrets: Vec<&str> = self.secret_inputs().filter(is_open).collect();
        if secrets.is_empty() {
            return Arc::clone(inputs);
        }
        let mut masked = Value::clone(inputs);
        for name in secrets {
            masked[name] = MASKED_SECRET.into();
        }
        Arc::new(masked)
    }

    /// Returns all tasks, each followed by those of its group.
    pub fn all_tasks(&self) -> impl Iterator<Item = &Task> {
        let mut open: Vec<&Task> = self.tasks.iter().rev().map(AsRef::as_ref).collect();
        std::iter::from_fn(move || {
            let task = open.pop()?;
            open.extend(task.members().iter().rev().map(AsRef::as_ref));
            Some(task)
        })
    }

    /// Returns the task that synthesizes one answer from all other results, if any.
    pub fn synthesis(&self) -> Option<&Task> {
        self.tasks.iter().map(AsRef::as_ref).find(|task| task.is_synthesis())
    }
}

/// A node of the graph: a call or a prompt, executed once or for each item of a list. Large, rarely used fields
/// are boxed to keep `Task` small.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Task {
    /// The ID by which other tasks refer to it.
    pub id: TaskId,
    /// The heading of its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The dependencies: tasks listed in `needs` and tasks that expressions refer to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<TaskId>,
    /// The condition of the task. A false condition skips it.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Expression>,
    /// The list to repeat the task over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreach: Option<Box<Foreach>>,
    /// The repetition of the task until a condition is true. Never set together with `foreach`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat: Option<Box<Repeat>>,
    /// The end after which the task runs, if it is a hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<Box<Hook>>,
    /// A question that a person must approve before each call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approve: Option<Box<Template>>,
    /// The timeout of its questions, including those of its agents; unlimited if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<QuestionPolicy>,
    /// The work.
    pub work: Work,
    /// The retry policy.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retry: Retry,
    /// The effect of a repeated call, if the task or the plan sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
    /// The idle timeout of a call, reset by progress; the agent's `tool_timeout` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HumanDuration>,
    /// The deadline of a call, with or without progress, or of a wait for a signal or a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<HumanDuration>,
    /// The consequence of a failure for other tasks.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_failure: OnFailure,
    /// The budget of the task, including all items, exchanges, and tasks in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Budget,
    /// How long results of its calls are reused by later calls, also in other runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Box<CachePolicy>>,
    /// The name of the file that gets the output, within the files of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<Box<Template>>,
}

/// How long the result of a call is reused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CachePolicy {
    /// What identifies equal calls of a tool; the arguments if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Template>,
    /// The age at which a result expires.
    pub ttl: HumanDuration,
}

impl Task {
    /// Creates a task without dependencies, with the defaults of all settings.
    pub fn new(id: TaskId, work: Work) -> Self {
        Self {
            id,
            title: None,
            needs: Vec::new(),
            condition: None,
            foreach: None,
            repeat: None,
            hook: None,
            approve: None,
            questions: None,
            work,
            retry: Retry::default(),
            effect: None,
            timeout: None,
            deadline: None,
            on_failure: OnFailure::default(),
            budget: Budget::default(),
            cache: None,
            save: None,
        }
    }

    /// Returns the routes, best first; empty unless it calls an agent.
    pub fn routes(&self) -> &[Route] {
        self.call().map_or(&[], |call| &call.routes)
    }

    /// Returns the call of an agent; `None` for any other work.
    pub fn call(&self) -> Option<&Call> {
        match &self.work {
            Work::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Returns the prompt; `None` for any other work.
    pub fn prompt(&self) -> Option<&Prompt> {
        match &self.work {
            Work::Prompt(prompt) | Work::Synthesis(prompt) => Some(prompt),
            _ => None,
        }
    }

    /// Returns the group; `None` for any other work.
    pub fn group(&self) -> Option<&Group> {
        match &self.work {
            Work::Group(group) => Some(group),
            _ => None,
        }
    }

    /// Returns the tasks of its group; empty for any other work.
    pub fn members(&self) -> &[Arc<Self>] {
        self.group().map_or(&[], |group| &group.tasks)
    }

    /// Returns whether it runs after the end of the plan, and not after that of a task.
    pub fn is_plan_hook(&self) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.of.is_none())
    }

    /// Returns whether it synthesizes one answer from all other results.
    pub fn is_synthesis(&self) -> bool {
        matches!(self.work, Work::Synthesis(_))
    }

    /// Returns the agents of its routes and of its prompt, and the agent whose resource it waits for.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        let routes = self.routes().iter().map(|route| &route.agent);
        routes.chain(self.prompt().into_iter().flat_map(Prompt::agents)).chain(self.watched_agent())
    }

    /// Returns the agent whose resource it waits for.
    pub fn watched_agent(&self) -> Option<&AgentId> {
        match &self.work {
            Work::Wait(Wait::Resource(wait)) => Some(&wait.agent),
            _ => None,
        }
    }

    /// Returns the operation of its calls.
    pub fn operation(&self) -> Operation {
        self.call().map_or(Operation::CallTool, |call| call.operation)
    }

    /// Returns the arguments of the call; `None` for any other work.
    pub fn arguments(&self) -> Option<&Template> {
        self.call().map(|call| &call.arguments)
    }
}

/// The work of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Work {
    /// A call of an agent.
    Call(Call),
    /// A request to a language model.
    Prompt(Box<Prompt>),
    /// A request to a language model for one answer from all other results, whatever their outcome.
    Synthesis(Box<Prompt>),
    /// Tasks with a scope of their own, or another plan.
    Group(Box<Group>),
    /// A question to a person, whose answer is the output.
    Ask(Box<Ask>),
    /// A time, a signal, a file, or a resource to wait for.
    Wait(Wait),
    /// An early end of the run.
    Stop(Box<Stop>),
}

/// A request that a call makes of its agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// `tools/call`: executes a tool.
    // Journals omit the default, so it must never change.
    #[default]
    CallTool,
    /// `resources/read`: returns the contents of a resource.
    ReadResource,
    /// `prompts/get`: returns the messages of a prompt.
    GetPrompt,
    /// Runs a shell command. The host does it itself, as the agent [`HOST_AGENT`].
    RunCommand,
    /// Sends an HTTP request. The host does it itself, as the agent [`HOST_AGENT`].
    SendRequest,
}

/// The reserved name of the host as an agent: it runs shell commands, and sends HTTP requests. It is always connected.
pub const HOST_AGENT: &str = "host";

impl Operation {
    /// Returns the MCP method, or the name of what the host does itself.
    pub fn method(self) -> &'static str {
        match self {
            Self::CallTool => "tools/call",
            Self::ReadResource => "resources/read",
            Self::GetPrompt => "prompts/get",
            Self::RunCommand => "shell",
            Self::SendRequest => "http",
        }
    }

    /// Returns the effect that the protocol itself guarantees. A tool, a command, and a request can have any effect.
    pub fn guaranteed_effect(self) -> Option<Effect> {
        match self {
            Self::CallTool | Self::RunCommand | Self::SendRequest => None,
            Self::ReadResource | Self::GetPrompt => Some(Effect::ReadOnly),
        }
    }
}

/// A call of one operation on one of several routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The operation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub operation: Operation,
    /// The routes, best first; never empty.
    pub routes: Vec<Route>,
    /// An object: the arguments of the tool, or the parameters of another operation. A resource has a `uri`, or a
    /// `template` with the values of its variables under `with`.
    #[serde(rename = "with")]
    pub arguments: Template,
    /// The resource to wait for after the tool has returned.
    #[serde(default, rename = "await", skip_serializing_if = "Option::is_none")]
    pub awaits: Option<Box<Await>>,
}

/// The resource that a call waits for: the one that the tool's result links to. The expressions are evaluated over its
/// contents. If these are a JSON object, its keys are names; `resource` is the whole value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Await {
    /// A condition under which the contents become the output of the call.
    pub resource: Expression,
    /// A condition under which the call fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Expression>,
}

/// A question to a language model, which may call tools before it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// The name of the model in the agents file; the default model if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The system prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<Template>,
    /// The question.
    #[serde(flatten)]
    pub source: PromptSource,
    /// The JSON Schema of the answer; free text if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// The only tools that the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<PromptTool>,
    /// The maximum number of replies, including the answer; at least 1. The last reply must not call tools.
    pub max_turns: u32,
    /// The maximum number of tokens of one reply.
    pub max_tokens: u32,
}

impl Prompt {
    /// Returns the agents whose prompt is used, or whose tools the model may call.
    pub fn agents(&self) -> impl Iterator<Item = &AgentId> {
        let source = match &self.source {
            PromptSource::Prompt(_) => None,
            PromptSource::UsePrompt(prompt) => Some(&prompt.agent),
        };
        source.into_iter().chain(self.tools.iter().map(|tool| &tool.agent))
    }
}

/// The question of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PromptSource {
    /// A text of the plan.
    Prompt(Template),
    /// The messages of a prompt that an agent offers.
    UsePrompt(ServerPrompt),
}

impl PromptSource {
    /// Returns the text of the plan, or the name of the agent's prompt, as it is written.
    pub fn text(&self) -> String {
        match self {
            Self::Prompt(template) => template.text(),
            Self::UsePrompt(prompt) => format!("{}.{}", prompt.agent, prompt.name),
        }
    }
}

/// A prompt that an agent offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerPrompt {
    /// The agent.
    pub agent: AgentId,
    /// The name of the prompt.
    pub name: String,
    /// The arguments: an object of texts.
    #[serde(rename = "with")]
    pub arguments: Template,
}

/// A tool that a prompt allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTool {
    /// The agent.
    pub agent: AgentId,
    /// The name of the tool; all tools of the agent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Arc<str>>,
}

/// The list of a `foreach` task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Foreach {
    /// The template of the list; for a matrix, of an object of lists.
    pub items: Template,
    /// True if the items are the combinations of the elements of several lists.
    #[serde(default, rename = "matrix", skip_serializing_if = "is_default")]
    pub is_matrix: bool,
    /// The name of the current item in the task's expressions.
    #[serde(rename = "as")]
    pub binding: String,
    /// The maximum number of concurrent items; the plan's `max_parallel` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<usize>,
}

/// An agent that can do a task, and the tool or operation that does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The agent to call.
    pub agent: AgentId,
    /// The name of the tool, or the method of another operation.
    pub tool: Arc<str>,
    /// The rank. Routes of the same rank are equivalent (members of one capability), and the least busy one is chosen.
    /// A higher rank is a fallback for when all lower ranks are exhausted.
    // Journals omit the default, so it must never change.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rank: u32,
}

/// Tasks with a scope of their own, which run as one task. With `foreach`, they run once for each item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The tasks, with IDs that are unique within the group.
    pub tasks: Vec<Arc<Task>>,
    /// The output of the group: a template for each key. Absent if it has no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<IndexMap<String, Template>>,
    /// The plan that the tasks come from. Its expressions see its own inputs and tasks only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<SubPlan>>,
}

/// The inputs of a plan that runs as a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubPlan {
    /// The name of the plan.
    pub name: String,
    /// The declared inputs.
    pub inputs: IndexMap<String, InputSpec>,
    /// The values of the inputs: a map, rendered in the scope of the task.
    #[serde(rename = "with")]
    pub arguments: Template,
    /// The budget of each run of the plan.
    #[serde(default, skip_serializing_if = "is_default")]
    pub budget: Budget,
}

impl SubPlan {
    /// Returns the names of the secret inputs.
    pub fn secret_inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().filter(|(_, spec)| spec.kind == InputType::Secret).map(|(name, _)| name.as_str())
    }

    /// Returns the values of all inputs, with defaults filled in.
    ///
    /// # Errors
    /// Describes the input that is unknown, missing, or of the wrong type.
    pub fn complete_inputs(&self, given: &JsonObject) -> Result<JsonObject, String> {
        if let Some(unknown) = given.keys().find(|name| !self.inputs.contains_key(*name)) {
            return Err(format!("the plan `{}` has no input `{unknown}`", self.name));
        }
        let mut values = JsonObject::new();
        for (name, spec) in &self.inputs {
            let value = given.get(name).filter(|value| !value.is_null()).or(spec.default.as_ref());
            match value {
                Some(value) if !spec.kind.accepts(value) => {
                    return Err(format!("the input `{name}` of the plan `{}` has the wrong type: {value}", self.name));
                }
                None if spec.required => {
                    return Err(format!("the plan `{}` requires the input `{name}`", self.name));
                }
                value => drop(values.insert(name.clone(), value.cloned().unwrap_or(Value::Null))),
            }
        }
        Ok(values)
    }
}
