//! Connects to agents to discover their capabilities, without calling a tool.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::config::AgentCatalog;
use crate::mcp::{Agents as _, ClientHost, LoginPolicy, NoopHost, Options, Pool, UnreachablePolicy};
use crate::model::{AgentId, AgentInfo, AgentSpec, Completion, CompletionRequest, Failure, Secrets};

/// The result of connecting to one agent.
#[derive(Debug, Clone)]
pub struct AgentProbe {
    /// The agent.
    pub agent: AgentId,
    /// The agent's self-description.
    pub result: Result<Arc<AgentInfo>, Failure>,
    /// The time that it took.
    pub duration: Duration,
}

/// Returns the tools, resources, and prompts of each agent, or the reason why connecting failed, with `secrets` masked.
pub async fn discover(agents: Vec<AgentSpec>, options: Options, secrets: &Secrets) -> AgentCatalog {
    let probes = probe_agents(agents, options, secrets, Arc::new(NoopHost)).await.into_iter();
    probes
        .map(|probe| (probe.agent, probe.result.map(Arc::unwrap_or_clone).map_err(|failure| failure.message)))
        .collect()
}

/// Connects to all `agents` concurrently and closes the connections again. Returns the results in order, with `secrets`
/// masked. `host` receives what happens meanwhile.
pub async fn probe_agents(
    agents: Vec<AgentSpec>,
    options: Options,
    secrets: &Secrets,
    host: Arc<dyn ClientHost>,
) -> Vec<AgentProbe> {
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id.clone()).collect();
    let options = Options { unreachable: UnreachablePolicy::Fail, login: LoginPolicy::Fail, ..options };
    let pool = Pool::new(agents, options, host);
    let probes = join_all(ids.into_iter().map(|agent| async {
        let start = Instant::now();
        let mut result = pool.describe(&agent).await;
        match &mut result {
            Ok(info) => secrets.mask_info(info),
            Err(failure) => secrets.mask_failure(failure),
        }
        AgentProbe { agent, result, duration: start.elapsed() }
    }))
    .await;
    pool.close().await;
    probes
}

/// Connects to `agent`, and returns values that complete an argument, with `secrets` masked in a failure.
///
/// # Errors
/// As [`Pool::complete`].
pub async fn complete(
    agent: AgentSpec,
    request: &CompletionRequest,
    options: Options,
    secrets: &Secrets,
) -> Result<Completion, Failure> {
    let id = agent.id.clone();
    let options = Options { unreachable: UnreachablePolicy::Fail, login: LoginPolicy::Fail, ..options };
    let pool = Pool::new([agent], options, Arc::new(NoopHost));
    let mut result = pool.complete(&id, request).await;
    pool.close().await;
    if let Err(failure) = &mut result {
        secrets.mask_failure(failure);
    }
    result
}
