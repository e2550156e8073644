//! Asks agents what they offer.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;

use crate::config::AgentCatalog;
use crate::mcp::{Agents as _, ClientHost, EarlyPool, LoginPolicy, NoopHost, Options, Pool, UnreachablePolicy};
use crate::model::{AgentId, AgentInfo, AgentSpec, Completion, CompletionRequest, Failure, Secrets, Timestamp};

use super::offers_cache::OffersCache;

/// The result of asking one agent what it offers.
#[derive(Debug, Clone)]
pub struct AgentProbe {
    /// The agent.
    pub agent: AgentId,
    /// The agent's self-description.
    pub result: Result<Arc<AgentInfo>, Failure>,
    /// The time that connecting took; zero for an earlier connection.
    pub duration: Duration,
    /// The time of the earlier connection that the description is from, if it is not from a new one.
    pub cached_at: Option<Timestamp>,
}

/// Whether agents are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// A description of an earlier connection is used, if there is one.
    Cached,
    /// Every agent is connected.
    Current,
}

/// Finds out what agents offer.
pub struct Discovery<'d> {
    options: Options,
    secrets: &'d Secrets,
    cache: OffersCache,
    freshness: Freshness,
}

impl<'d> Discovery<'d> {
    /// Returns a discovery that masks `secrets`.
    pub fn new(options: Options, secrets: &'d Secrets, freshness: Freshness) -> Self {
        let cache = OffersCache::new(&options);
        let options = Options { unreachable: UnreachablePolicy::Fail, login: LoginPolicy::Fail, ..options };
        Self { options, secrets, cache, freshness }
    }

    /// Returns the tools, resources, and prompts of each agent, or the reason why connecting failed.
    pub async fn catalog(self, agents: Vec<AgentSpec>) -> AgentCatalog {
        let probes = self.probe(agents, Arc::new(NoopHost)).await.into_iter();
        probes
            .map(|probe| (probe.agent, probe.result.map(Arc::unwrap_or_clone).map_err(|failure| failure.message)))
            .collect()
    }

    /// Returns what [`Self::catalog`] does, and the connections, for a run. An earlier description is never used.
    pub async fn catalog_and_connections(self, agents: Vec<AgentSpec>) -> (AgentCatalog, EarlyPool) {
        let early = EarlyPool::new(agents.iter().cloned(), self.options.clone());
        let probes = join_all(agents.iter().map(|agent| self.connect(early.pool(), agent))).await;
        let catalog = probes
            .into_iter()
            .map(|probe| (probe.agent, probe.result.map(Arc::unwrap_or_clone).map_err(|failure| failure.message)))
            .collect();
        (catalog, early)
    }

    /// Asks one agent.
    pub async fn probe_one(self, agent: AgentSpec) -> AgentProbe {
        if let Some(probe) = self.cached(&agent) {
            return probe;
        }
        let pool = Pool::new([agent.clone()], self.options.clone(), Arc::new(NoopHost));
        let probe = self.connect(&pool, &agent).await;
        pool.close().await;
        probe
    }

    /// Asks all agents concurrently, and closes the connections again. Returns the results in order. `host` receives what
    /// happens meanwhile.
    pub async fn probe(self, agents: Vec<AgentSpec>, host: Arc<dyn ClientHost>) -> Vec<AgentProbe> {
        let cached: Vec<Option<AgentProbe>> = agents.iter().map(|agent| self.cached(agent)).collect();
        let unknown = agents.iter().zip(&cached).filter(|(_, cached)| cached.is_none());
        let pool = Pool::new(unknown.map(|(agent, _)| agent.clone()), self.options.clone(), host);
        let probes = agents.iter().zip(cached).map(async |(agent, cached)| match cached {
            Some(probe) => probe,
            None => self.connect(&pool, agent).await,
        });
        let probes = join_all(probes).await;
        pool.close().await;
        probes
    }

    fn cached(&self, agent: &AgentSpec) -> Option<AgentProbe> {
        if self.freshness == Freshness::Current {
            return None;
        }
        let (info, at) = self.cache.get(agent)?;
        let id = agent.id.clone();
        Some(AgentProbe { agent: id, result: Ok(Arc::new(info)), duration: Duration::ZERO, cached_at: Some(at) })
    }

    async fn connect(&self, pool: &Pool, agent: &AgentSpec) -> AgentProbe {
        let start = Instant::now();
        let mut result = pool.describe(&agent.id).await;
        match &mut result {
            Ok(info) => {
                self.secrets.mask_info(info);
                self.cache.put(agent, info);
            }
            Err(failure) => self.secrets.mask_failure(failure),
        }
        AgentProbe { agent: agent.id.clone(), result, duration: start.elapsed(), cached_at: None }
    }
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
