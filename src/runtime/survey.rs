//! Connects to agents only to see what they offer.
//! Never calls a tool.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    mcp::{Nobody, Options, Pool, Unreachable},
    model::{AgentId, AgentInfo, AgentSpec, Failure, Secrets},
};

/// What came of connecting to one agent.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The agent.
    pub agent: AgentId,
    /// What it said of itself.
    pub result: Result<Arc<AgentInfo>, Failure>,
    /// How long that took.
    pub took: Duration,
}

/// Connects to all `agents` at once, in their order, and closes the connections again. What they send is shown without
/// `secrets`.
pub async fn survey(agents: Vec<AgentSpec>, options: Options, secrets: &Secrets) -> Vec<Survey> {
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id.clone()).collect();
    let options = Options { unreachable: Unreachable::Fail, ..options };
    let pool = Pool::new(agents, options, Arc::new(Nobody));
    let found = join_all(ids.into_iter().map(|agent| async {
        let start = Instant::now();
        let mut result = pool.connect(&agent).await;
        match &mut result {
            Ok(info) => secrets.mask_info(info),
            Err(failure) => secrets.mask_failure(failure),
        }
        Survey { agent, result, took: start.elapsed() }
    }))
    .await;
    pool.close().await;
    found
}
