//! Reads `agents.toml`, plan files, and answers files into model types, or returns all of their diagnostics at once.

mod agents;
mod answers_file;
mod changes;
mod diagnostics;
mod editing;
mod fingerprint;
mod formatting;
mod import;
mod inputs;
mod schema;
#[cfg(test)]
mod tests;
mod validate;
mod yaml;

pub use agents::agents_file::{AgentsFile, PlannerForm, PlannerSettings};
pub use agents::environment::{Environment, ProcessEnvironment};
pub use agents::file::{load_agents, load_agents_files, parse_agents};
pub use agents::host_section::{HostPermissionError, HostSettings, HttpSettings, ShellSettings};
pub use agents::locations::{AgentsFiles, user_file};
pub use answers_file::read_answer_rules;
pub use changes::{agent_changes, plan_changes};
pub use diagnostics::diagnostic::{Diagnostic, Diagnostics, MAX_SHOWN_DIAGNOSTICS, Severity};
pub use diagnostics::source::Position;
pub use editing::agent_entry::{AgentEntry, OAuthEntry};
pub use editing::agents_document::AgentsDocument;
pub use editing::concealed_entry::ConcealedEntry;
pub use fingerprint::fingerprint_of;
pub use formatting::format::format_plan;
pub use import::bundle::read_bundle_manifest;
pub use import::detect::{project_of_file, read_any_file};
pub use import::host::{HOSTS, McpHost};
pub use import::host_file::read_host_file;
pub use import::imported_agents::{ImportContext, ImportedAgent, ImportedAgents, SkippedAgent};
pub use import::places::{ConfigPlace, OperatingSystem, Surroundings, config_places};
pub use import::selection::{ImportSelection, ImportStatus};
pub use inputs::{InputSources, missing_inputs, resolve_inputs, resolve_inputs_from, resolve_secrets};
pub use schema::export::{agents_schema, answers_schema, plan_schema};
pub(crate) use schema::table::{NAME_RULE, is_name};
pub use validate::{
    AgentCatalog, NO_MODEL_HELP, PatchContext, ValidatedPlan, load_plan, load_plan_patch, load_plan_without_agents,
    read_schedule,
};
pub use yaml::parser::{read_data, write_data};
pub use yaml::read::read_text;
