//! Connects to agents only to see what they offer.
//! Never calls a tool.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, join_all};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    mcp::{Host, Options, Pool},
    model::{
        AgentId, AgentInfo, AgentSpec, Answer, AttemptId, ChatError, ChatReply, ChatRequest, Elicitation, Failure,
        LogMessage, NoteKey, Origin, Progress,
    },
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

/// Connects to all `agents` at once, in their order, and closes the connections again.
pub async fn survey(agents: Vec<AgentSpec>, options: Options) -> Vec<Survey> {
    let ids: Vec<AgentId> = agents.iter().map(|agent| agent.id.clone()).collect();
    let pool = Pool::new(agents, options, Arc::new(Nobody));
    let found = join_all(ids.into_iter().map(|agent| async {
        let start = Instant::now();
        let result = pool.connect(&agent).await;
        Survey { agent, result, took: start.elapsed() }
    }))
    .await;
    pool.close().await;
    found
}

/// A host with nobody in it: no call is made, so nothing should be asked.
struct Nobody;

#[async_trait::async_trait]
impl Host for Nobody {
    async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
        Answer::Cancel
    }

    async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
        Err(ChatError::Unsupported { message: "no call is under way".into() })
    }

    async fn input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

    fn note(&self, _: NoteKey, _: Value) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    fn progressed(&self, _: &AttemptId, _: Progress) {}

    fn logged(&self, _: Origin, _: LogMessage) {}
}
