//! Owns the agents of a run, and makes their calls.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use indexmap::IndexMap;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::agents::{Agents, CallContext, CallFuture, ResourceWatch};
use super::call::run::run;
use super::call::watch::watch_resource;
use super::checkpoint::SessionCheckpoint;
use super::host::ClientHost;
use super::options::Options;
use super::session::agent_connections::{AgentConnections, PoolShared};
use super::session::server_cache::ServerCache;
use crate::model::{AgentId, AgentInfo, AgentSpec, Completion, CompletionRequest, Failure, FailureKind, ToolCall};

/// The connections of one run. Dropping it kills all child processes; [`Agents::close`] shuts them down.
pub struct Pool {
    pub(super) agents: IndexMap<AgentId, AgentConnections>,
    pub(super) shared: Arc<PoolShared>,
}

impl Pool {
    /// Creates a pool of the agents `specs` without connections.
    pub fn new(specs: impl IntoIterator<Item = AgentSpec>, options: Options, host: Arc<dyn ClientHost>) -> Self {
        let closed = CancellationToken::new();
        let servers = ServerCache::new(options.server_cache.clone());
        let shared = Arc::new(PoolShared { options, host, closed, servers });
        let agents = specs.into_iter().map(|spec| (spec.id.clone(), AgentConnections::new(spec, shared.clone())));
        Self { agents: agents.collect(), shared }
    }

    /// Restores the sessions that an earlier process saved. Sessions that the servers no longer know are replaced.
    pub fn with_sessions(self, sessions: HashMap<AgentId, Value>) -> Self {
        for (id, checkpoint) in sessions {
            if let Some(agent) = self.agents.get(&id) {
                agent.restore_session(SessionCheckpoint::from_value(checkpoint, &id));
            }
        }
        self
    }

    /// Restores the sampling usage of the agents in this run, as requests and tokens.
    pub fn with_sampling_usage(self, spent: impl IntoIterator<Item = (AgentId, u64, u64)>) -> Self {
        for (id, requests, tokens) in spent {
            if let Some(agent) = self.agents.get(&id) {
                agent.shared.sampling_quota.restore_usage(requests, tokens);
            }
        }
        self
    }

    fn agent(&self, id: &AgentId) -> Result<&AgentConnections, Failure> {
        let unknown = || {
            let message = format!("agent `{id}` is not in the agents file");
            Failure::new(FailureKind::AgentUnavailable, message)
                .with_help(format!("add `[agents.{id}]` to the agents file"))
        };
        self.agents.get(id).ok_or_else(unknown)
    }
}

impl Pool {
    /// Connects to the agent if necessary, and returns its description with its resources and prompts. Lists that the
    /// agent refuses are warnings of the description.
    ///
    /// # Errors
    /// As [`Agents::connect`].
    pub async fn describe(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        let connection = self.agent(agent)?.connection().await?;
        let mut info = AgentInfo::clone(&connection.catalog().info);
        let (offers, warnings) = connection.list_offers().await;
        info.offers = Some(Box::new(offers));
        info.warnings.extend(warnings);
        Ok(Arc::new(info))
    }

    /// Returns values that complete an argument of a prompt, or a variable of a resource template.
    ///
    /// # Errors
    /// As [`Agents::connect`]; [`FailureKind::Refused`] if the agent does not support completion or does not know what
    /// to complete.
    pub async fn complete(&self, agent: &AgentId, request: &CompletionRequest) -> Result<Completion, Failure> {
        self.agent(agent)?.connection().await?.complete(request).await
    }
}

#[async_trait::async_trait]
impl Agents for Pool {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Ok(self.agent(agent)?.connection().await?.catalog().info.clone())
    }

    fn call(&self, call: ToolCall, context: CallContext) -> CallFuture<'_> {
        match self.agent(&call.agent) {
            Ok(agent) => Box::pin(run(agent, call, context)),
            Err(failure) => Box::pin(std::future::ready(Err(failure))),
        }
    }

    fn watch_resource(&self, watch: ResourceWatch) -> CallFuture<'_> {
        match self.agent(&watch.agent) {
            Ok(agent) => Box::pin(watch_resource(agent, watch)),
            Err(failure) => Box::pin(std::future::ready(Err(failure))),
        }
    }

    async fn close(&self) {
        self.shared.closed.cancel();
        join_all(self.agents.values().map(AgentConnections::close)).await;
    }

    async fn suspend(&self) {
        for agent in self.agents.values() {
            agent.shared.is_suspended.store(true, Ordering::Relaxed);
        }
        self.close().await;
    }
}
