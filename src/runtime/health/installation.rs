//! Runs all checks, concurrently where they wait.

use futures::future::join3;

use super::installed_parts::InstalledParts;
use super::{agents, journal, models, runtimes, terminal};
use crate::view::HealthCheck;

/// Checks all parts. Connects to the agents and sends the models small requests; calls no tool and creates no file.
pub async fn check_installation(parts: &InstalledParts) -> Vec<HealthCheck> {
    let mut checks = agents::check_files(parts);
    if let Some(Ok(file)) = &parts.agents {
        let (agents, runtimes, models) = join3(
            agents::check_agents(file),
            runtimes::check_runtimes(file.agents.values()),
            models::check_models(&file.models),
        )
        .await;
        checks.extend(agents.into_iter().chain(runtimes).chain(models));
    }
    checks.extend(journal::check_journal(&parts.journal));
    checks.extend(terminal::check_terminal(&terminal::TerminalFacts::current()));
    checks
}
