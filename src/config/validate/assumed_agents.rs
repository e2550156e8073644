//! The agents file that a plan needs, for commands that check or draw a plan without one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::plan::load_plan;
use super::validated_plan::ValidatedPlan;
use crate::config::agents::agents_file::AgentsFile;
use crate::config::agents::environment::ProcessEnvironment;
use crate::config::agents::file::parse_agents;
use crate::config::agents::host_section::HostSettings;
use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::schema::table::is_name;
use crate::config::yaml::parser::read_data;
use crate::config::yaml::read::read_text;
use crate::model::LlmSpec;

/// Parses the text of a plan file as [`load_plan`] does, and assumes that each agent, capability, and model exists.
///
/// # Errors
/// Returns all errors and warnings of the plan.
pub fn load_plan_without_agents(name: &str, text: &str) -> Result<ValidatedPlan, Diagnostics> {
    // An invalid file has no names, and `load_plan` reports why.
    let plan = read_data(name, text).unwrap_or_default();
    load_plan(name, text, &assumed_agents(&plan, Path::new(name)), None)
}

/// The names that a plan, and the plans that run as its tasks, may use. Names that they do not use do no harm.
#[derive(Default)]
struct AssumedNames {
    agents: BTreeSet<String>,
    capabilities: BTreeSet<String>,
    models: BTreeSet<String>,
    variables: BTreeSet<String>,
    /// The plans that run as tasks, by their paths.
    plans: BTreeSet<PathBuf>,
}

impl AssumedNames {
    /// Adds the names in a part of the plan file `file`.
    fn collect(&mut self, value: &Value, file: &Path) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("agent", Value::String(name)) => drop(self.agents.insert(name.clone())),
                        ("capability", Value::String(name)) => drop(self.capabilities.insert(name.clone())),
                        ("model", Value::String(name)) => drop(self.models.insert(name.clone())),
                        ("tools", Value::String(tool)) => self.add_agent_of_tool(tool),
                        ("tools", Value::Array(tools)) => {
                            tools.iter().filter_map(Value::as_str).for_each(|tool| self.add_agent_of_tool(tool));
                        }
                        ("plan", Value::String(name)) => {
                            self.collect_plan(&file.parent().unwrap_or(Path::new("")).join(name));
                        }
                        _ => {}
                    }
                    self.collect(value, file);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.collect(value, file)),
            Value::String(text) => {
                // The first argument of `resource` is an agent.
                let calls = text.split("resource(").skip(1).map(str::trim_start);
                let quoted = calls.filter_map(|call| call.strip_prefix(['"', '\'']));
                self.agents.extend(quoted.filter_map(|name| name.split(['"', '\'']).next()).map(str::to_owned));
                let names = ["env.", "env['", "env[\""].into_iter().flat_map(|prefix| text.split(prefix).skip(1));
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let names = names.map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default());
                self.variables.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds the agent in `agent.tool`, or in `agent` for all of its tools.
    fn add_agent_of_tool(&mut self, tool: &str) {
        self.agents.extend(tool.split('.').next().map(str::to_owned));
    }

    /// Adds the names in a plan that runs as a task. `load_plan` reports a file that is not valid.
    fn collect_plan(&mut self, path: &Path) {
        let unique = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        if self.plans.insert(unique)
            && let Ok(text) = read_text(path)
            && let Ok(plan) = read_data(&path.display().to_string(), &text)
        {
            self.collect(&plan, path);
        }
    }
}

/// Returns an agents file with all names that the plan in `file` may use. Invalid names are missing, so they are reported.
fn assumed_agents(plan: &Value, file: &Path) -> AgentsFile {
    let mut names = AssumedNames::default();
    names.collect(plan, file);
    names.models.insert(LlmSpec::DEFAULT_NAME.to_owned());
    let mut text = String::new();
    for name in names.agents.iter().filter(|name| is_name(name)) {
        let _ = writeln!(text, "[agents.{name}]\ncommand = \"{name}\"");
        if names.capabilities.contains(name) {
            let _ = writeln!(text, "capabilities = {{ {name} = \"{name}\" }}");
        }
    }
    for name in names.capabilities.iter().filter(|name| is_name(name) && !names.agents.contains(*name)) {
        let _ = writeln!(text, "[agents.{name}]\ncommand = \"{name}\"\ncapabilities = {{ {name} = \"{name}\" }}");
    }
    for name in names.models.iter().filter(|name| is_name(name)) {
        let table = if name == LlmSpec::DEFAULT_NAME { name.clone() } else { format!("models.{name}") };
        let _ = writeln!(text, "[{table}]\nbase_url = \"http://127.0.0.1/v1\"\nmodel = \"{name}\"");
    }
    let mut agents = parse_agents("agents.toml", &text, &ProcessEnvironment).unwrap_or_default();
    // Their values are irrelevant: the plan does not run.
    agents.plan_env = names.variables.into_iter().map(|name| (name, Some(String::new()))).collect();
    agents.host = HostSettings::allow_all();
    agents
}
