//! Watches a resource until its contents change: by notifications where the agent sends them, and by reading it again.

use std::sync::Arc;

use rmcp::model::{ErrorCode, ErrorData, ServerResult};
use serde_json::json;
use tokio::sync::oneshot;

use super::active_call::{ActiveCall, CallError};
use super::guard::CallGuard;
use super::poll_backoff::PollBackoff;
use super::reconnecting::connect_with_retry;
use super::resource::{MAX_READ_DELAY, MIN_READ_DELAY, ResourceSubscription};
use crate::mcp::agents::ResourceWatch;
use crate::mcp::message::data_result;
use crate::mcp::message::failure::{self, RESOURCE_NOT_FOUND};
use crate::mcp::message::service_result::UNREADABLE;
use crate::mcp::session::agent_connections::AgentConnections;
use crate::model::{AttemptId, Failure, FailureKind, JsonObject, Operation, ToolCall, ToolOutput};
use crate::system::hash::short_hash;

/// The fingerprint of a resource that the agent does not have.
const MISSING: &str = "missing";

/// Watches a resource of `agent`; see [`Agents::watch_resource`](crate::mcp::Agents::watch_resource).
pub(crate) async fn watch_resource(agent: &AgentConnections, watch: ResourceWatch) -> Result<Arc<ToolOutput>, Failure> {
    let ResourceWatch { task, agent: id, uri, baseline, observed, cancel } = watch;
    let request = ToolCall {
        // A watch is not an attempt.
        attempt: AttemptId { task, number: 0 },
        agent: id,
        operation: Operation::ReadResource,
        tool: Operation::ReadResource.method().into(),
        arguments: JsonObject::from_iter([("uri".to_owned(), json!(uri))]),
        timeout: agent.tool_timeout(),
        deadline: None,
        awaits: None,
        cache: None,
        save: None,
    };
    let connection = connect_with_retry(agent, &request, &cancel, || agent.connection()).await?;
    let guard = CallGuard::new(&request, agent.host(), cancel);
    let meta = JsonObject::new();
    let mut call = ActiveCall { agent, connection, permit: None, request, meta, guard, resume_from: None };
    let mut subscription = ResourceSubscription::default();
    let output = call.read_until_changed(&uri, (baseline, observed), &mut subscription).await;
    call.unsubscribe(subscription, &uri).await;
    output.map(Arc::new)
}

impl ActiveCall<'_> {
    /// Reads the resource until its fingerprint differs from `baseline`, or from the first one, which `observed` gets.
    async fn read_until_changed(
        &mut self,
        uri: &str,
        (mut baseline, observed): (Option<String>, oneshot::Sender<String>),
        subscription: &mut ResourceSubscription,
    ) -> Result<ToolOutput, Failure> {
        let mut observed = Some(observed);
        let mut backoff = PollBackoff::new(MIN_READ_DELAY);
        loop {
            let contents = match self.read_resource(uri, subscription).await {
                Ok(answer) => parse_contents(answer).map(Some).map_err(|problem| {
                    let agent = &self.request.agent;
                    let message =
                        format!("agent `{agent}` answered `resources/read` with an invalid result: {problem}");
                    CallError::Failed(Failure::new(FailureKind::ServerError, message))
                }),
                Err(CallError::Rpc(error)) if is_missing(&error) => Ok(None),
                Err(error) => Err(error),
            };
            match contents {
                Ok(contents) => {
                    backoff.reset();
                    self.guard.record_activity();
                    let fingerprint = contents.as_ref().map_or_else(|| MISSING.to_owned(), fingerprint);
                    match (&baseline, contents) {
                        (None, _) => {
                            if let Some(observed) = observed.take() {
                                // Without a receiver, the task has ended.
                                let _ = observed.send(fingerprint.clone());
                            }
                            baseline = Some(fingerprint);
                        }
                        (Some(before), Some(contents)) if *before != fingerprint => return Ok(contents),
                        // A resource that was there and is missing now changes once more when it is there again.
                        (Some(_), _) => backoff.interval = (backoff.interval * 2).min(MAX_READ_DELAY),
                    }
                }
                Err(CallError::Stopped(failure)) => return Err(failure),
                Err(CallError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                    let agent = &self.request.agent;
                    let message = format!("agent `{agent}` does not support resources, so `{uri}` cannot be watched");
                    return Err(Failure::new(FailureKind::Refused, message));
                }
                Err(CallError::Rpc(error)) if error.code == UNREADABLE => {
                    return Err(failure::from_rpc(&self.request.agent, &error));
                }
                // All other errors are transient: the agent may be restarting.
                Err(error) => backoff.record_failure(error.into_failure(&self.request.agent)),
            }
            if self.pause_polling(&backoff, subscription.changed()).await?.is_some() {
                backoff.interval = MIN_READ_DELAY;
            }
        }
    }
}

/// Returns whether an error means that the resource does not exist.
fn is_missing(error: &ErrorData) -> bool {
    error.code.0 == RESOURCE_NOT_FOUND || error.code == ErrorCode::INVALID_PARAMS
}

/// Parses the result of `resources/read`.
fn parse_contents(answer: ServerResult) -> Result<ToolOutput, String> {
    let mut answer = serde_json::to_value(answer).map_err(|error| error.to_string())?;
    match answer.get_mut("contents") {
        Some(contents) => data_result::read_contents(contents.take()),
        None => Err("it has no `contents`".to_owned()),
    }
}

/// Returns a text that differs for different contents.
fn fingerprint(contents: &ToolOutput) -> String {
    let parts: Vec<String> = contents.content.iter().map(|block| block.to_json().to_string()).collect();
    short_hash(parts.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_depend_on_texts_and_data() {
        let contents = |contents: serde_json::Value| {
            let answer: ServerResult = serde_json::from_value(json!({"contents": contents})).unwrap();
            fingerprint(&parse_contents(answer).unwrap())
        };
        let text = contents(json!([{"uri": "a:1", "text": "one"}]));
        assert_eq!(contents(json!([{"uri": "a:1", "text": "one"}])), text);
        let others = [
            json!([]),
            json!([{"uri": "a:1", "text": "two"}]),
            json!([{"uri": "a:1", "blob": "AAA="}]),
            json!([{"uri": "a:1", "text": "one"}, {"uri": "a:2", "text": ""}]),
        ];
        for other in others {
            assert_ne!(contents(other.clone()), text, "{other}");
        }
    }
}
