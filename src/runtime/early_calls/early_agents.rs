//! The agents of a run some of whose calls began before it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::kept_calls::KeptCalls;
use crate::mcp::{Agents, CallContext, CallFuture, ClientHost, EarlyCallEnd, ResourceWatch};
use crate::model::{AgentId, AgentInfo, Failure, LogMessage, Origin, ToolCall, ToolOutput};

/// The agents of a run. A call that began before the run is not made again if it succeeds.
pub(in crate::runtime) struct EarlyAgents {
    agents: Arc<dyn Agents>,
    host: Arc<dyn ClientHost>,
    // Calls start concurrently.
    kept: Mutex<KeptCalls>,
}

impl EarlyAgents {
    /// Adds early calls to the agents. `host` gets messages about them.
    pub(in crate::runtime) fn new(agents: Arc<dyn Agents>, host: Arc<dyn ClientHost>, kept: KeptCalls) -> Self {
        Self { agents, host, kept: Mutex::new(kept) }
    }
}

#[async_trait::async_trait]
impl Agents for EarlyAgents {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        self.agents.connect(agent).await
    }

    fn call(&self, call: ToolCall, context: CallContext) -> CallFuture<'_> {
        // A call that is resumed began in an earlier process.
        let early = if context.checkpoint.is_none() { self.kept.lock().remove(&call) } else { None };
        let Some(early) = early else { return self.agents.call(call, context) };
        Box::pin(async move {
            let reason = match early.end(&context.cancel).await {
                EarlyCallEnd::Succeeded(output) => {
                    let output = Arc::unwrap_or_clone(output);
                    return Ok(Arc::new(ToolOutput { early: true, ..output }));
                }
                EarlyCallEnd::Failed(failure) => failure.message,
                EarlyCallEnd::Asked => "the agent asked for input before the run".to_owned(),
            };
            if !context.cancel.is_cancelled() {
                let text = format!("the call from the time of planning has no result, so it is made again: {reason}");
                let origin = Origin { agent: call.agent.clone(), attempt: Some(call.attempt.clone()), key: None };
                self.host.on_log(origin, LogMessage::from_host("info", text));
            }
            // A call that is cancelled ends at once.
            self.agents.call(call, context).await
        })
    }

    fn watch_resource(&self, watch: ResourceWatch) -> CallFuture<'_> {
        self.agents.watch_resource(watch)
    }

    async fn close(&self) {
        std::mem::take(&mut *self.kept.lock());
        self.agents.close().await;
    }

    async fn suspend(&self) {
        std::mem::take(&mut *self.kept.lock());
        self.agents.suspend().await;
    }
}
