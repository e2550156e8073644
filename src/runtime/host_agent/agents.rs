//! The agents of a run: those of the agents file, and the host itself.

use std::sync::Arc;

use super::command::run_command;
use super::sending::send_request;
use super::tool::HostTools;
use crate::mcp::{Agents, CallContext, CallFuture, ResourceWatch};
use crate::model::{AgentId, AgentInfo, Failure, FailureKind, HOST_AGENT, Operation, ToolCall};

/// The agents of a run, including the host itself.
pub(in crate::runtime) struct RunAgents {
    agents: Arc<dyn Agents>,
    host: HostTools,
}

impl RunAgents {
    /// Adds the host to the agents of the agents file.
    pub(in crate::runtime) fn new(agents: Arc<dyn Agents>, host: HostTools) -> Self {
        Self { agents, host }
    }
}

#[async_trait::async_trait]
impl Agents for RunAgents {
    async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        match agent.as_str() {
            HOST_AGENT => Ok(Arc::default()),
            _ => self.agents.connect(agent).await,
        }
    }

    fn call(&self, mut call: ToolCall, context: CallContext) -> CallFuture<'_> {
        if call.agent.as_str() != HOST_AGENT {
            return self.agents.call(call, context);
        }
        match call.operation {
            // Neither leaves a checkpoint, so the call of an earlier process ended with it.
            _ if context.checkpoint.is_some() => Box::pin(std::future::ready(Err(unknown_operation(&call)))),
            Operation::RunCommand => {
                Box::pin(async move { run_command(&self.host, &mut call, context.cancel).await.map(Arc::new) })
            }
            Operation::SendRequest => {
                Box::pin(async move { send_request(&self.host, &mut call, context.cancel).await.map(Arc::new) })
            }
            _ => Box::pin(std::future::ready(Err(unknown_operation(&call)))),
        }
    }

    fn watch_resource(&self, watch: ResourceWatch) -> CallFuture<'_> {
        self.agents.watch_resource(watch)
    }

    async fn close(&self) {
        self.agents.close().await;
    }

    async fn suspend(&self) {
        self.agents.suspend().await;
    }
}

fn unknown_operation(call: &ToolCall) -> Failure {
    Failure::new(FailureKind::UnknownTool, format!("the host cannot do `{}`", call.tool))
}
