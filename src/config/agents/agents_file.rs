//! The contents of an agents file.

use indexmap::IndexMap;
use serde::Deserialize;

use super::host_section::{HostSettings, HttpSettings, ShellSettings};
use crate::model::{AgentId, AgentSpec, LlmSpec, Secrets};

/// The contents of an agents file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AgentsFile {
    /// The enabled agents, in the order of the file.
    pub agents: IndexMap<AgentId, AgentSpec>,
    /// The agents with `enabled = false`.
    pub disabled: Vec<AgentId>,
    /// The language models, the default first: the one of `[llm]`, or else the first of `[models]`.
    pub models: Vec<LlmSpec>,
    /// The settings of the planner.
    pub planner: PlannerSettings,
    /// The environment variables that plans can use, with their values if they are set.
    pub plan_env: IndexMap<String, Option<String>>,
    /// What plans may have the host itself do.
    pub host: HostSettings,
    /// The values of keys, tokens, headers, and other secrets from variables. They are masked in what agents send.
    pub secrets: Secrets,
}

impl AgentsFile {
    /// Adds the agents, models, and settings of another file that this one does not have.
    #[must_use]
    pub fn with_defaults(mut self, other: Self) -> Self {
        let is_new = |id: &AgentId| !self.agents.contains_key(id) && !self.disabled.contains(id);
        let disabled: Vec<AgentId> = other.disabled.into_iter().filter(is_new).collect();
        let agents: Vec<_> = other.agents.into_iter().filter(|(id, _)| is_new(id)).collect();
        self.agents.extend(agents);
        self.disabled.extend(disabled);
        let is_known = |model: &LlmSpec| self.models.iter().any(|known| known.name == model.name);
        let models: Vec<LlmSpec> = other.models.into_iter().filter(|model| !is_known(model)).collect();
        self.models.extend(models);
        // The default model is the first.
        self.models.sort_by_key(|model| model.name != LlmSpec::DEFAULT_NAME);
        if self.planner == PlannerSettings::default() {
            self.planner = other.planner;
        }
        for (name, value) in other.plan_env {
            self.plan_env.entry(name).or_insert(value);
        }
        if self.host.shell == ShellSettings::default() {
            self.host.shell = other.host.shell;
        }
        if self.host.http == HttpSettings::default() {
            self.host.http = other.host.http;
        }
        self.secrets.add_all(&other.secrets);
        self
    }

    /// Returns the model that plans goals.
    pub fn planner_model(&self) -> Option<&LlmSpec> {
        match &self.planner.model {
            Some(name) => self.models.iter().find(|spec| spec.name == *name),
            None => self.models.first(),
        }
    }
}

/// The settings of the planner.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannerSettings {
    /// The name of the planning model. The default model is used if it is absent.
    pub model: Option<String>,
    /// The maximum tokens of a reply. If it is absent, the limit grows after a reply that was cut off.
    pub max_output_tokens: Option<u32>,
    /// The temperature. The model's own default is used if it is absent.
    pub temperature: Option<f32>,
    /// The reasoning effort. The model's own default is used if it is absent.
    pub reasoning_effort: Option<String>,
    /// The maximum number of tasks in a plan.
    pub max_tasks: usize,
    /// The maximum number of tools that a prompt shows.
    pub max_tools: usize,
    /// The form of replies.
    pub form: PlannerForm,
    /// Whether calls that change nothing start while the model still writes the plan.
    pub speculate: bool,
}

/// The form of the planner's prompts and replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlannerForm {
    /// The full form, and the compact one after a reply that repeats itself or is not a plan.
    #[default]
    Auto,
    /// Everything that a plan can say.
    Full,
    /// Calls of tools alone, for very small models.
    Compact,
}

impl PlannerSettings {
    /// More tasks than a goal in one sentence needs.
    pub const DEFAULT_MAX_TASKS: usize = 16;
    /// Models choose worse from many more tools: in RAG-MCP (Gan and Sun, 2025), retrieval raised the accuracy of tool
    /// selection from 14% to 43%.
    pub const DEFAULT_MAX_TOOLS: usize = 30;
}

impl Default for PlannerSettings {
    fn default() -> Self {
        Self {
            model: None,
            max_output_tokens: None,
            temperature: None,
            reasoning_effort: None,
            max_tasks: Self::DEFAULT_MAX_TASKS,
            max_tools: Self::DEFAULT_MAX_TOOLS,
            form: PlannerForm::Auto,
            speculate: false,
        }
    }
}
