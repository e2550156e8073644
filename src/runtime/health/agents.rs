//! Checks the agents files, and connects to the agents.

use std::path::Path;

use super::installed_parts::InstalledParts;
use crate::config::{AgentsFile, Diagnostic, Diagnostics, Severity, user_file};
use crate::mcp::NoopHost;
use crate::model::{AgentSpec, describe_unset};
use crate::runtime::builder::connect_options;
use crate::runtime::discovery::{AgentProbe, Discovery, Freshness};
use crate::view::text::count_text;
use crate::view::{HealthCheck, HealthSection, HealthStatus};

/// Checks the agents files: where they are, what they contain, and which variables they lack.
pub(super) fn check_files(parts: &InstalledParts) -> Vec<HealthCheck> {
    let check = |name: &str, status, message| HealthCheck::new(HealthSection::AgentsFile, name, status, message);
    let file = match &parts.agents {
        None => {
            let missing = check("project", HealthStatus::Warning, parts.files.missing_message());
            return vec![missing.with_fix("`kapell init` creates one, with the agents of other hosts")];
        }
        Some(Err(diagnostics)) => return invalid_file(diagnostics),
        Some(Ok(file)) => file,
    };
    let project = parts.files.project.as_deref().map(|path| ("project", path));
    let user = parts.files.user.as_deref().map(|path| ("user", path));
    let found = project.into_iter().chain(user);
    let mut checks: Vec<HealthCheck> =
        found.map(|(name, path)| check(name, HealthStatus::Ok, shown_path(path))).collect();
    if parts.files.user.is_none() && parts.files.searched.len() > 1 {
        let place = user_file().map(|path| format!(": {} would add agents to every project", path.display()));
        checks.push(check("user", HealthStatus::Absent, format!("no agents file{}", place.unwrap_or_default())));
    }
    let disabled: Vec<String> = file.disabled.iter().map(|agent| format!("`{agent}`")).collect();
    let disabled = if disabled.is_empty() { String::new() } else { format!("; disabled: {}", disabled.join(", ")) };
    let (agents, models) = (count_text(file.agents.len(), "agent"), count_text(file.models.len(), "model"));
    checks.push(check("contents", HealthStatus::Ok, format!("{agents}, {models}{disabled}")));
    let agents = file.agents.values().map(|agent| (format!("agents.{}", agent.id), &agent.unset_variables));
    let models = file.models.iter().map(|model| (model.section_name(), &model.unset_variables));
    for (section, variables) in agents.chain(models) {
        if let Some(unset) = describe_unset(variables) {
            let fix = "set it in the environment or in `.env` beside the agents file";
            checks.push(check(&section, HealthStatus::Failed, unset).with_fix(fix));
        }
    }
    checks
}

fn shown_path(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Returns a failed check for each error of an agents file.
fn invalid_file(diagnostics: &Diagnostics) -> Vec<HealthCheck> {
    let check = |diagnostic: &Diagnostic| {
        let position = diagnostic.position.map(|position| format!(":{}:{}", position.line, position.column));
        let place = format!("{}{}", diagnostic.file, position.unwrap_or_default());
        let message = format!("{place}: {}", diagnostic.message);
        let mut check = HealthCheck::new(HealthSection::AgentsFile, "contents", HealthStatus::Failed, message);
        check.fix = diagnostic.help.clone();
        check
    };
    diagnostics.list().iter().filter(|diagnostic| diagnostic.severity == Severity::Error).map(check).collect()
}

/// Connects to all agents at once.
pub(super) async fn check_agents(file: &AgentsFile) -> Vec<HealthCheck> {
    let check = |name: &str, status, message| HealthCheck::new(HealthSection::Agents, name, status, message);
    // Their variables are reported with the agents file.
    let usable = file.agents.values().filter(|agent| agent.unset_variables.is_empty());
    let usable: Vec<AgentSpec> = usable.cloned().collect();
    if file.agents.is_empty() {
        let none = check("agents", HealthStatus::Warning, "the agents file has no agents".to_owned());
        return vec![none.with_fix("`kapell agents import` adds those of other hosts, and `kapell agents add` one")];
    }
    let options = match connect_options(file, None) {
        Ok(options) => options,
        Err(error) => {
            let fix = "make the state directory writable, or set `XDG_STATE_HOME`";
            return vec![check("agents", HealthStatus::Failed, error.to_string()).with_fix(fix)];
        }
    };
    let discovery = Discovery::new(options, &file.secrets, Freshness::Current);
    let probes = discovery.probe(usable, std::sync::Arc::new(NoopHost)).await;
    probes.iter().flat_map(check_probe).collect()
}

/// Returns the check of one agent, and those of its warnings.
fn check_probe(probe: &AgentProbe) -> Vec<HealthCheck> {
    let AgentProbe { agent, result, duration, .. } = probe;
    let check = |status, message| HealthCheck::new(HealthSection::Agents, agent.as_str(), status, message);
    match result {
        Ok(info) => {
            let server = info.server.as_deref().unwrap_or("unnamed server");
            let tools = count_text(info.tools.len(), "tool");
            let line = format!("{server}, MCP {}, {tools}, {} ms", info.protocol, duration.as_millis());
            let warnings = info.warnings.iter().map(|warning| check(HealthStatus::Warning, warning.clone()));
            std::iter::once(check(HealthStatus::Ok, line)).chain(warnings).collect()
        }
        Err(failure) => {
            let mut failed = check(HealthStatus::Failed, failure.message.clone());
            let fix = || format!("`kapell agents logs {agent}` prints what it wrote to standard error");
            failed.fix = Some(failure.help.clone().unwrap_or_else(fix));
            vec![failed]
        }
    }
}
