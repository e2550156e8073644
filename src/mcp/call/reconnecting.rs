//! Connects for what is pending at an agent.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::guard::CallGuard;
use super::poll_backoff::PollBackoff;
use crate::mcp::checkpoint::interrupted_failure;
use crate::mcp::session::agent_connections::AgentConnections;
use crate::model::{Failure, ToolCall};

/// Connects for a call or a watch that is pending at the agent, with retries until the idle timeout.
///
/// # Errors
/// Returns the failure of the last attempt, or that of the call if it has ended meanwhile.
pub(super) async fn connect_with_retry<T, F: Future<Output = Result<T, Failure>>>(
    agent: &AgentConnections,
    request: &ToolCall,
    cancel: &CancellationToken,
    connect: impl Fn() -> F,
) -> Result<T, Failure> {
    let mut guard = CallGuard::new(request, agent.host(), cancel.clone());
    let mut backoff = PollBackoff::new(Duration::ZERO);
    loop {
        let stop = match guard.wait(connect(), std::future::pending()).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(failure)) if agent.is_closed() => return Err(failure),
            Ok(Err(failure)) => {
                backoff.record_failure(failure);
                match guard.wait(tokio::time::sleep(backoff.delay()), std::future::pending()).await {
                    Ok(()) => continue,
                    Err(stop) => stop,
                }
            }
            Err(stop) => stop,
        };
        return Err(backoff.explain_failure(guard.stop_failure(stop).unwrap_or_else(|| interrupted_failure(request))));
    }
}
