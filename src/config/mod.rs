//! Turns `agents.toml` and plan files into model types, or into all their mistakes at once.
//! Never connects to anything.

mod agents_file;
mod answers_file;
mod changes;
mod diagnostic;
mod environment;
mod findings;
mod fingerprint;
mod inputs;
mod keys;
mod lower;
mod map;
mod model;
mod plan_file;
mod providers;
mod read;
mod schema;
mod secret_values;
mod secrets;
mod shape;
mod source;
#[cfg(test)]
mod tests;
mod tree;

pub use agents_file::{AgentsFile, PlannerSettings, agents_path, load_agents, parse_agents};
pub use answers_file::read_answers;
pub use changes::{agent_changes, changes};
pub use diagnostic::{Diagnostic, Diagnostics, MAX_SHOWN, Position, Severity};
pub use environment::{Environment, ProcessEnvironment};
pub use fingerprint::of_text as fingerprint_of;
pub use inputs::{InputError, resolve_inputs};
pub use lower::{Catalogue, Ground, Lowered, load_plan, load_remainder};
pub use plan_file::{read_data, write_data};
pub use read::read_text;
pub use schema::{agents_schema, plan_schema};
