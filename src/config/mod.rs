//! Reads `agents.toml`, plan files, and answers files into model types, or returns all of their diagnostics at once.

mod agents_file;
mod answers_file;
mod changes;
mod diagnostic;
mod diagnostic_sink;
mod document;
mod environment;
mod fingerprint;
mod inputs;
mod keys;
mod llm_section;
mod lower;
mod map;
mod providers;
mod read;
mod redaction;
mod schema;
mod secret_collector;
mod source;
mod table_schema;
#[cfg(test)]
mod tests;
mod yaml;

pub use agents_file::{AgentsFile, PlannerSettings, agents_path, load_agents, parse_agents};
pub use answers_file::read_answer_rules;
pub use changes::{agent_changes, plan_changes};
pub use diagnostic::{Diagnostic, Diagnostics, MAX_SHOWN_DIAGNOSTICS, Position, Severity};
pub use environment::{Environment, ProcessEnvironment};
pub use fingerprint::fingerprint_of_text as fingerprint_of;
pub use inputs::{InputError, resolve_inputs};
pub use lower::{AgentCatalog, PatchContext, ValidatedPlan, load_plan, load_plan_patch};
pub use read::read_text;
pub use schema::{agents_schema, plan_schema};
pub use yaml::{read_data, write_data};
