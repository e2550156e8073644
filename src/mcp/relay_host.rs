//! A host for connections that are made before the run that they are for.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;

use super::host::{ClientHost, NoopHost};
use crate::model::{
    AgentId, Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin,
    Progress,
};

/// A host that passes everything on to another one, once that is known. Until then, it is a [`NoopHost`] that keeps
/// checkpoints.
pub(super) struct RelayHost {
    // Connections share it with the run that attaches its host.
    state: Mutex<RelayState>,
}

struct RelayState {
    host: Arc<dyn ClientHost>,
    /// The checkpoints that the host does not know yet.
    checkpoints: Vec<(CheckpointKey, Value)>,
    is_attached: bool,
}

impl Default for RelayHost {
    fn default() -> Self {
        let state = RelayState { host: Arc::new(NoopHost), checkpoints: Vec::new(), is_attached: false };
        Self { state: Mutex::new(state) }
    }
}

impl RelayHost {
    /// Passes everything on to `host` from now on, and the checkpoints so far.
    pub(super) fn attach(&self, host: Arc<dyn ClientHost>) {
        let mut state = self.state.lock();
        state.is_attached = true;
        state.host = Arc::clone(&host);
        for (key, value) in state.checkpoints.drain(..) {
            // Dropping the future does not remove the checkpoint.
            drop(host.checkpoint(key, value));
        }
    }

    fn host(&self) -> Arc<dyn ClientHost> {
        Arc::clone(&self.state.lock().host)
    }
}

#[async_trait::async_trait]
impl ClientHost for RelayHost {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        let host = self.host();
        host.elicit(origin, elicitation).await
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        let host = self.host();
        host.sample(origin, chat).await
    }

    async fn on_input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        let host = self.host();
        host.on_input_required(attempt, round, request_state, requests).await;
    }

    fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock();
        if !state.is_attached {
            state.checkpoints.retain(|(earlier, _)| *earlier != key);
            state.checkpoints.push((key.clone(), value.clone()));
        }
        let host = Arc::clone(&state.host);
        drop(state);
        host.checkpoint(key, value)
    }

    fn on_progress(&self, attempt: &AttemptId, progress: Progress) {
        self.host().on_progress(attempt, progress);
    }

    fn on_page_completed(&self, agent: &AgentId, id: &str) {
        self.host().on_page_completed(agent, id);
    }

    fn on_log(&self, origin: Origin, message: LogMessage) {
        self.host().on_log(origin, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host that records checkpoints.
    #[derive(Default)]
    struct CheckpointHost(Mutex<Vec<(CheckpointKey, Value)>>);

    #[async_trait::async_trait]
    impl ClientHost for CheckpointHost {
        async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
            NoopHost.elicit(origin, elicitation).await
        }

        async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
            NoopHost.sample(origin, chat).await
        }

        async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

        fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()> {
            self.0.lock().push((key, value));
            Box::pin(std::future::ready(()))
        }

        fn on_progress(&self, _: &AttemptId, _: Progress) {}

        fn on_page_completed(&self, _: &AgentId, _: &str) {}

        fn on_log(&self, _: Origin, _: LogMessage) {}
    }

    #[test]
    fn attached_host_gets_the_last_checkpoints() {
        let relay = RelayHost::default();
        let key = |agent: &str| CheckpointKey::Session(agent.into());
        for (agent, value) in [("a", 1), ("b", 2), ("a", 3)] {
            drop(relay.checkpoint(key(agent), value.into()));
        }
        let host = Arc::new(CheckpointHost::default());
        relay.attach(Arc::clone(&host) as Arc<_>);
        drop(relay.checkpoint(key("c"), 4.into()));
        let expected = [(key("b"), 2.into()), (key("a"), 3.into()), (key("c"), 4.into())];
        assert_eq!(*host.0.lock(), expected);
    }
}
