//! Waits for the resource that a tool result links to. Reads it repeatedly, and after each change notification, until
//! it fulfills the condition of the plan.
//! Never calls the tool again, because the resource can outlive the connection, the agent's process, and the host.

use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceError;
use rmcp::model::{ErrorCode, ServerResult, SubscriptionFilter};
use rmcp::service::Subscription as Listening;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::active_call::{ActiveCall, CANCEL_TIMEOUT, CallError};
use super::poll_backoff::PollBackoff;
use crate::expression;
use crate::mcp::checkpoint::{CallCheckpoint, ResourceCheckpoint};
use crate::mcp::message::service_request::custom_request;
use crate::mcp::message::service_result::UNREADABLE;
use crate::mcp::message::{failure, lenient_json};
use crate::mcp::session::connection::Connection;
use crate::model::{Await, ContentBlock, Expression, Failure, FailureKind, ToolOutput};

/// The delay between reads: initially and after each change, and at most. Agents that notify of changes are polled too,
/// since notifications can get lost.
pub(super) const MIN_READ_DELAY: Duration = Duration::from_millis(250);
pub(super) const MAX_READ_DELAY: Duration = Duration::from_secs(10);
/// The timeout for subscribing to changes of the resource.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(5);

/// The contents of the resource at one time.
#[derive(Debug, PartialEq)]
struct ResourceSnapshot {
    /// The text, or base64 for binary contents.
    text: String,
    /// The parsed JSON, or the text as a JSON string if it is not valid JSON.
    json: Value,
}

/// A subscription to changes of the resource.
#[derive(Default)]
pub(super) struct ResourceSubscription {
    /// The connection on which the subscription was requested.
    connection: Option<Arc<Connection>>,
    source: ChangeSource,
}

#[derive(Default)]
enum ChangeSource {
    /// No notifications.
    #[default]
    None,
    /// The `notifications/resources/updated` notifications of a legacy connection.
    Legacy(watch::Receiver<()>),
    /// The stream of `subscriptions/listen`.
    Modern(Box<Listening>),
}

impl ActiveCall<'_> {
    /// Waits for the resource that the output of a tool links to.
    pub(crate) async fn wait_for_linked_resource(
        &mut self,
        awaits: &Await,
        output: &ToolOutput,
    ) -> Result<ToolOutput, Failure> {
        let is_link = |block: &&Value| block.get("type").is_some_and(|kind| kind == "resource_link");
        let link = output.content.iter().filter_map(ContentBlock::as_non_text).find(is_link);
        let Some((link, uri)) = link.and_then(|link| Some((link, link.get("uri")?.as_str()?))) else {
            let (agent, tool) = (&self.request.agent, &self.request.tool);
            let message = format!("the result of `{tool}` of agent `{agent}` has no link to a resource to wait for");
            return Err(Failure::new(FailureKind::InvalidResult, message).with_help("remove the task's `await`"));
        };
        let checkpoint = ResourceCheckpoint { uri: uri.to_owned(), link: link.clone() };
        self.checkpoint(CallCheckpoint::Resource(checkpoint.clone())).await?;
        self.wait_for_resource(awaits, checkpoint).await
    }

    /// Waits for a resource until it fulfills the condition of the plan.
    pub(crate) async fn wait_for_resource(
        &mut self,
        awaits: &Await,
        checkpoint: ResourceCheckpoint,
    ) -> Result<ToolOutput, Failure> {
        let mut subscription = ResourceSubscription::default();
        let outcome = self.read_until_final(awaits, &checkpoint, &mut subscription).await;
        self.unsubscribe(subscription, &checkpoint.uri).await;
        outcome
    }

    async fn read_until_final(
        &mut self,
        awaits: &Await,
        checkpoint: &ResourceCheckpoint,
        subscription: &mut ResourceSubscription,
    ) -> Result<ToolOutput, Failure> {
        let mut backoff = PollBackoff::new(MIN_READ_DELAY);
        let mut previous = None;
        loop {
            match self.read_resource(&checkpoint.uri, subscription).await.map(ResourceSnapshot::read) {
                Ok(None) => {
                    let agent = &self.request.agent;
                    let message = format!("agent `{agent}` answered `resources/read` without any contents");
                    backoff.record_failure(Failure::new(FailureKind::InvalidResult, message));
                }
                Ok(Some(contents)) => {
                    backoff.reset();
                    self.guard.record_activity();
                    if previous.as_ref() == Some(&contents) {
                        backoff.interval = (backoff.interval * 2).min(MAX_READ_DELAY);
                    } else {
                        if self.is_final(awaits, &contents, &checkpoint.uri)? {
                            return Ok(contents.into_output(checkpoint));
                        }
                        backoff.interval = MIN_READ_DELAY;
                        previous = Some(contents);
                    }
                }
                Err(CallError::Stopped(failure)) => return Err(failure),
                Err(CallError::Rpc(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                    let (agent, uri) = (&self.request.agent, &checkpoint.uri);
                    let message =
                        format!("agent `{agent}` links to the resource `{uri}`, but does not support resources");
                    return Err(Failure::new(FailureKind::InvalidResult, message));
                }
                Err(CallError::Rpc(error)) if error.code == UNREADABLE => {
                    return Err(failure::from_rpc(&self.request.agent, &error));
                }
                Err(CallError::Failed(failure)) if failure.kind == FailureKind::InvalidResult => return Err(failure),
                // All other errors are transient, even a missing resource: the agent may be restarting.
                Err(error) => backoff.record_failure(error.into_failure(&self.request.agent)),
            }
            self.pause_polling(&backoff, subscription.changed()).await?;
        }
    }

    /// Reads the resource, and subscribes to its changes on each new connection.
    pub(super) async fn read_resource(
        &mut self,
        uri: &str,
        subscription: &mut ResourceSubscription,
    ) -> Result<ServerResult, CallError> {
        // No permit is held, because the tool has ended and other calls may need the process.
        self.reconnect_without_permit().await?;
        if !subscription.connection.as_ref().is_some_and(|other| Arc::ptr_eq(other, &self.connection)) {
            // Subscribing before the first read ensures that no change is missed between them.
            subscription.source = self.subscribe(uri).await?;
            subscription.connection = Some(self.connection.clone());
        }
        self.service_request(custom_request("resources/read", json!({"uri": uri}))).await
    }

    /// Subscribes to changes of the resource if the agent supports it. A rejected subscription is not a failure.
    async fn subscribe(&mut self, uri: &str) -> Result<ChangeSource, CallError> {
        let info = self.connection.peer.peer_info();
        let resources = info.as_ref().and_then(|info| info.capabilities.resources.as_ref());
        if resources.is_none_or(|resources| resources.subscribe != Some(true)) {
            return Ok(ChangeSource::None);
        }
        let peer = self.connection.peer.clone();
        let changes = self.connection.state.resources_changed.subscribe();
        let modern = self.connection.modern;
        let uri = uri.to_owned();
        let subscribing = tokio::time::timeout(SUBSCRIBE_TIMEOUT, async move {
            if modern {
                let filter = SubscriptionFilter::builder().resource_subscription(uri).build();
                return Ok(ChangeSource::Modern(Box::new(peer.listen(filter).await?)));
            }
            peer.send_request(custom_request("resources/subscribe", json!({"uri": uri}))).await?;
            Ok::<_, ServiceError>(ChangeSource::Legacy(changes))
        });
        match self.wait(subscribing).await {
            Ok(Ok(Ok(changes))) => Ok(changes),
            Ok(Ok(Err(error))) => {
                tracing::debug!(agent = %self.request.agent, %error, "an agent rejected a subscription");
                Ok(ChangeSource::None)
            }
            Ok(Err(_)) => Ok(ChangeSource::None),
            Err(stop) => Err(self.stop_error(stop).await),
        }
    }

    /// Ends the subscription.
    pub(super) async fn unsubscribe(&mut self, subscription: ResourceSubscription, uri: &str) {
        let peer = self.connection.peer.clone();
        let unsubscribing = async move {
            match subscription.source {
                ChangeSource::None => {}
                ChangeSource::Legacy(_) => {
                    let _ = peer.send_request(custom_request("resources/unsubscribe", json!({"uri": uri}))).await;
                }
                ChangeSource::Modern(mut listening) => {
                    let _ = listening.cancel().await;
                }
            }
        };
        // Best effort: later notifications are ignored anyway.
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, unsubscribing).await;
    }

    /// Returns whether the contents are final. Reports other contents as progress.
    fn is_final(&self, awaits: &Await, contents: &ResourceSnapshot, uri: &str) -> Result<bool, Failure> {
        let holds = |condition: &Expression| expression::evaluate_document_condition(condition, &contents.json);
        let agent = &self.request.agent;
        let ended = awaits.failed.as_ref().map(holds);
        if matches!(ended, Some(Ok(true))) {
            let text = failure::agent_message(&contents.text);
            let message = format!("the resource `{uri}` of agent `{agent}` reports a failure: {text}");
            return Err(Failure::new(FailureKind::ToolError, message));
        }
        let finished = holds(&awaits.resource);
        if matches!(finished, Ok(true)) {
            return Ok(true);
        }
        match finished.err().or_else(|| ended?.err()) {
            Some(error) => self.guard.call.report_message(&format!("`await`: {error}; {}", contents.text)),
            None => self.guard.call.report_message(&contents.text),
        }
        Ok(false)
    }
}

impl ResourceSubscription {
    /// Waits for a change notification. Never completes without a subscription.
    pub(super) async fn changed(&mut self) {
        let is_active = match &mut self.source {
            ChangeSource::None => false,
            ChangeSource::Legacy(changes) => changes.changed().await.is_ok(),
            ChangeSource::Modern(listening) => matches!(Box::pin(listening.next()).await, Ok(Some(_))),
        };
        if !is_active {
            self.source = ChangeSource::None;
            std::future::pending::<()>().await;
        }
    }
}

impl ResourceSnapshot {
    /// Reads the result of `resources/read`, and returns its first part with contents.
    fn read(answer: ServerResult) -> Option<Self> {
        let mut answer = serde_json::to_value(answer).ok()?;
        let text = |part: &mut Value| {
            let mut text = |key| match part.get_mut(key).map(Value::take) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            text("text").or_else(|| text("blob"))
        };
        let mut parts = lenient_json::list_elements(answer.get_mut("contents")?.take())?;
        let text = parts.iter_mut().find_map(text)?;
        let json = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        Some(Self { text, json })
    }

    /// Returns the link and the text as content, and JSON contents as structured content.
    fn into_output(self, checkpoint: &ResourceCheckpoint) -> ToolOutput {
        let structured = Some(self.json).filter(|json| *json != Value::String(self.text.clone()));
        ToolOutput::new([checkpoint.link.clone().into(), ContentBlock::Text(self.text)], structured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(result: Value) -> Option<ResourceSnapshot> {
        ResourceSnapshot::read(serde_json::from_value(result).unwrap())
    }

    #[test]
    fn first_part_is_read_as_json_or_text() {
        let part =
            |text: &str| json!({"contents": [{"uri": "job://1", "text": text}, {"uri": "job://2", "text": "x"}]});
        let text = r#"{"status":"done"}"#;
        assert_eq!(read(part(text)), Some(ResourceSnapshot { text: text.to_owned(), json: json!({"status": "done"}) }));
        let plain = ResourceSnapshot { text: "not yet".to_owned(), json: json!("not yet") };
        assert_eq!(read(part("not yet")), Some(plain));
        let nulls =
            json!({"contents": [null, {"uri": "job://1", "text": null, "blob": null}, {"text": null, "blob": "AAA="}]});
        assert_eq!(read(nulls), Some(ResourceSnapshot { text: "AAA=".to_owned(), json: json!("AAA=") }));
        let binary = json!({"contents": [{"uri": "job://1", "blob": "AAA="}]});
        assert_eq!(read(binary), Some(ResourceSnapshot { text: "AAA=".to_owned(), json: json!("AAA=") }));
        for none in [json!({"contents": []}), json!({"content": []}), json!({})] {
            assert_eq!(read(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn json_contents_become_structured_output() {
        let link = json!({"type": "resource_link", "uri": "job://1", "name": "job"});
        let checkpoint = ResourceCheckpoint { uri: "job://1".to_owned(), link: link.clone() };
        let output =
            |text: &str, json: Value| ResourceSnapshot { text: text.to_owned(), json }.into_output(&checkpoint);
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(output("[1]", json!([1])), ToolOutput::new([link.clone(), text("[1]")], Some(json!([1]))));
        assert_eq!(output("done", json!("done")), ToolOutput::new([link, text("done")], None));
    }
}
