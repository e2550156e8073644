//! Waits for the resource that a tool left behind: reads it again and again, and whenever the agent says that it has
//! changed, until it is what the plan waits for.
//! Never calls the tool again: the resource may outlive the connection, the agent's process and the host's.

use std::{sync::Arc, time::Duration};

use rmcp::{
    ServiceError,
    model::{ErrorCode, ServerResult, SubscriptionFilter},
    service::Subscription as Listening,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    call::{CANCEL_GRACE, Call, Unanswered, custom},
    codec::UNREADABLE,
    connect::Connection,
    failure, lenient,
    note::{CallNote, ResourceNote},
    repeat::Repeat,
};
use crate::{
    expression,
    model::{Await, Block, Expression, Failure, FailureKind, ToolOutput},
};

/// The pause before the contents are read again: at first and after each change, and the longest. An agent that says
/// when they change is asked all the same: what it says can get lost.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the agent may take to agree to say when the contents change.
const SUBSCRIBE_GRACE: Duration = Duration::from_secs(5);

/// What the resource held when it was read.
#[derive(Debug, PartialEq)]
struct Contents {
    /// As text; base64 where they are binary.
    text: String,
    /// As JSON: the text as such where it is none.
    json: Value,
}

/// How the host learns that the resource has changed.
struct Subscription {
    /// The connection over which it was asked for.
    connection: Option<Arc<Connection>>,
    news: News,
}

enum News {
    /// There are none.
    None,
    /// `notifications/resources/updated` of a legacy connection.
    Legacy(watch::Receiver<()>),
    /// The stream of `subscriptions/listen`.
    Modern(Box<Listening>),
}

impl Call<'_> {
    /// Waits for the resource to which the output of a tool links.
    pub(super) async fn linked(&mut self, awaits: &Await, output: &ToolOutput) -> Result<ToolOutput, Failure> {
        let is_link = |block: &&Value| block.get("type").is_some_and(|kind| kind == "resource_link");
        let link = output.content.iter().filter_map(Block::other).find(is_link);
        let Some((link, uri)) = link.and_then(|link| Some((link, link.get("uri")?.as_str()?))) else {
            let (agent, tool) = (&self.request.agent, &self.request.tool);
            let message = format!("the result of `{tool}` of agent `{agent}` links to no resource to wait for");
            return Err(Failure::new(FailureKind::InvalidResult, message).with_help("leave out the task's `await`"));
        };
        let note = ResourceNote { uri: uri.to_owned(), link: link.clone() };
        self.note(CallNote::Resource(note.clone())).await?;
        self.resource(awaits, note).await
    }

    /// Waits for a resource until it is what the plan waits for.
    pub(super) async fn resource(&mut self, awaits: &Await, note: ResourceNote) -> Result<ToolOutput, Failure> {
        let mut subscription = Subscription { connection: None, news: News::None };
        let outcome = self.until_final(awaits, &note, &mut subscription).await;
        self.unsubscribe(subscription.news, &note.uri).await;
        outcome
    }

    async fn until_final(
        &mut self,
        awaits: &Await,
        note: &ResourceNote,
        subscription: &mut Subscription,
    ) -> Result<ToolOutput, Failure> {
        let mut repeat = Repeat::every(FIRST_PAUSE);
        let mut seen = None;
        loop {
            match self.contents(&note.uri, subscription).await {
                Ok(None) => {
                    let agent = &self.request.agent;
                    let message = format!("agent `{agent}` answered `resources/read` without any contents");
                    repeat.failed(Failure::new(FailureKind::InvalidResult, message));
                }
                Ok(Some(contents)) => {
                    repeat.answered();
                    self.vigil.heard();
                    if seen.as_ref() == Some(&contents) {
                        repeat.pause = (repeat.pause * 2).min(LONGEST_PAUSE);
                    } else {
                        if self.is_final(awaits, &contents, &note.uri)? {
                            return Ok(contents.into_output(note));
                        }
                        repeat.pause = FIRST_PAUSE;
                        seen = Some(contents);
                    }
                }
                Err(Unanswered::Stopped(failure)) => return Err(failure),
                Err(Unanswered::Error(error)) if error.code == ErrorCode::METHOD_NOT_FOUND => {
                    let (agent, uri) = (&self.request.agent, &note.uri);
                    let message = format!("agent `{agent}` links to the resource `{uri}`, but has none to read");
                    return Err(Failure::new(FailureKind::InvalidResult, message));
                }
                Err(Unanswered::Error(error)) if error.code == UNREADABLE => {
                    return Err(failure::rpc(&self.request.agent, &error));
                }
                Err(Unanswered::Failed(failure)) if failure.kind == FailureKind::InvalidResult => return Err(failure),
                // Not even the lack of the resource is final: the agent may be starting again.
                Err(unanswered) => repeat.failed(unanswered.into_failure(&self.request)),
            }
            self.rest(&repeat, subscription.changed()).await?;
        }
    }

    /// Reads the resource, over a connection on which the agent was asked to say when it changes.
    async fn contents(&mut self, uri: &str, subscription: &mut Subscription) -> Result<Option<Contents>, Unanswered> {
        // The tool has ended, and others want to be called.
        self.reconnect_without_turn().await?;
        if !subscription.connection.as_ref().is_some_and(|other| Arc::ptr_eq(other, &self.connection)) {
            // Asked before the first reading, so that no change is between the two.
            subscription.news = self.subscribe(uri).await?;
            subscription.connection = Some(self.connection.clone());
        }
        let answer = self.ask(custom("resources/read", json!({"uri": uri}))).await?;
        Ok(Contents::read(answer))
    }

    /// Asks the agent to say when the resource changes, if it offers to. That it does not in the end is no failure.
    async fn subscribe(&mut self, uri: &str) -> Result<News, Unanswered> {
        let info = self.connection.peer.peer_info();
        let resources = info.as_ref().and_then(|info| info.capabilities.resources.as_ref());
        if resources.is_none_or(|resources| resources.subscribe != Some(true)) {
            return Ok(News::None);
        }
        let peer = self.connection.peer.clone();
        let news = self.connection.link.resources_changed.subscribe();
        let modern = self.connection.modern;
        let uri = uri.to_owned();
        let asking = tokio::time::timeout(SUBSCRIBE_GRACE, async move {
            if modern {
                let filter = SubscriptionFilter::builder().resource_subscription(uri).build();
                return Ok(News::Modern(Box::new(peer.listen(filter).await?)));
            }
            peer.send_request(custom("resources/subscribe", json!({"uri": uri}))).await?;
            Ok::<_, ServiceError>(News::Legacy(news))
        });
        match self.wait(asking).await {
            Ok(Ok(Ok(news))) => Ok(news),
            Ok(Ok(Err(error))) => {
                tracing::debug!(agent = %self.request.agent, %error, "an agent did not take a subscription");
                Ok(News::None)
            }
            Ok(Err(_)) => Ok(News::None),
            Err(stop) => Err(self.unanswered(stop).await),
        }
    }

    async fn unsubscribe(&mut self, news: News, uri: &str) {
        let peer = self.connection.peer.clone();
        let ending = async move {
            match news {
                News::None => {}
                News::Legacy(_) => {
                    let _ = peer.send_request(custom("resources/unsubscribe", json!({"uri": uri}))).await;
                }
                News::Modern(mut listening) => {
                    let _ = listening.cancel().await;
                }
            }
        };
        // It is a courtesy: an agent that goes on saying so is not listened to.
        let _ = tokio::time::timeout(CANCEL_GRACE, ending).await;
    }

    /// Whether the contents are the output; reports them as progress if not.
    fn is_final(&self, awaits: &Await, contents: &Contents, uri: &str) -> Result<bool, Failure> {
        let holds = |condition: &Expression| expression::document_condition(condition, &contents.json);
        let agent = &self.request.agent;
        let ended = awaits.failed.as_ref().map(holds);
        if matches!(ended, Some(Ok(true))) {
            let said = failure::words(&contents.text);
            let message = format!("the resource `{uri}` of agent `{agent}` says that it failed: {said}");
            return Err(Failure::new(FailureKind::ToolError, message));
        }
        let finished = holds(&awaits.resource);
        if matches!(finished, Ok(true)) {
            return Ok(true);
        }
        match finished.err().or_else(|| ended?.err()) {
            Some(error) => self.vigil.flight.say(&format!("`await`: {error}; {}", contents.text)),
            None => self.vigil.flight.say(&contents.text),
        }
        Ok(false)
    }
}

impl Subscription {
    /// Waits for news of the resource, or for ever.
    async fn changed(&mut self) {
        let more = match &mut self.news {
            News::None => false,
            News::Legacy(news) => news.changed().await.is_ok(),
            News::Modern(listening) => matches!(Box::pin(listening.next()).await, Ok(Some(_))),
        };
        if !more {
            self.news = News::None;
            std::future::pending::<()>().await;
        }
    }
}

impl Contents {
    /// Reads the result of `resources/read`: the first part of it that holds anything.
    fn read(answer: ServerResult) -> Option<Self> {
        let mut answer = serde_json::to_value(answer).ok()?;
        let text = |part: &mut Value| {
            let mut text = |key| match part.get_mut(key).map(Value::take) {
                Some(Value::String(text)) => Some(text),
                _ => None,
            };
            text("text").or_else(|| text("blob"))
        };
        let mut parts = lenient::elements(answer.get_mut("contents")?.take())?;
        let text = parts.iter_mut().find_map(text)?;
        let json = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.clone()));
        Some(Self { text, json })
    }

    /// The link and the text, and the contents as structured content where they are JSON.
    fn into_output(self, note: &ResourceNote) -> ToolOutput {
        let structured = Some(self.json).filter(|json| *json != Value::String(self.text.clone()));
        ToolOutput { content: vec![note.link.clone().into(), Block::Text(self.text)], structured, warning: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(result: Value) -> Option<Contents> {
        Contents::read(serde_json::from_value(result).unwrap())
    }

    #[test]
    fn reads_the_first_part_as_json_or_as_text() {
        let part =
            |text: &str| json!({"contents": [{"uri": "job://1", "text": text}, {"uri": "job://2", "text": "x"}]});
        let text = r#"{"status":"done"}"#;
        assert_eq!(read(part(text)), Some(Contents { text: text.to_owned(), json: json!({"status": "done"}) }));
        let plain = Contents { text: "not yet".to_owned(), json: json!("not yet") };
        assert_eq!(read(part("not yet")), Some(plain));
        let nulls =
            json!({"contents": [null, {"uri": "job://1", "text": null, "blob": null}, {"text": null, "blob": "AAA="}]});
        assert_eq!(read(nulls), Some(Contents { text: "AAA=".to_owned(), json: json!("AAA=") }));
        let binary = json!({"contents": [{"uri": "job://1", "blob": "AAA="}]});
        assert_eq!(read(binary), Some(Contents { text: "AAA=".to_owned(), json: json!("AAA=") }));
        for none in [json!({"contents": []}), json!({"content": []}), json!({})] {
            assert_eq!(read(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn the_output_is_structured_where_the_contents_are_json() {
        let link = json!({"type": "resource_link", "uri": "job://1", "name": "job"});
        let note = ResourceNote { uri: "job://1".to_owned(), link: link.clone() };
        let output = |text: &str, json: Value| Contents { text: text.to_owned(), json }.into_output(&note);
        let text = |text: &str| json!({"type": "text", "text": text});
        assert_eq!(output("[1]", json!([1])), ToolOutput::new([link.clone(), text("[1]")], Some(json!([1]))));
        assert_eq!(output("done", json!("done")), ToolOutput::new([link, text("done")], None));
    }
}
