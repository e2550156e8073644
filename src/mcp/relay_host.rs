//! A host for connections that are made before the run that they are for.

use std::sync::Arc;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::host::{ClientHost, NoopHost};
use crate::model::{
    AgentId, Answer, AttemptId, ChatError, ChatReply, ChatRequest, CheckpointKey, Elicitation, LogMessage, Origin,
    Progress, ToolCall,
};

/// A host that passes everything on to another one, once that is known. Until then, it is a [`NoopHost`] that keeps
/// checkpoints. Calls from before never reach the other host, which does not know them: what they request ends them.
pub(super) struct RelayHost {
    // Connections share it with the run that attaches its host.
    state: Mutex<RelayState>,
}

struct RelayState {
    host: Arc<dyn ClientHost>,
    /// The checkpoints that the host does not know yet.
    checkpoints: Vec<(CheckpointKey, Value)>,
    is_attached: bool,
    /// The calls from before.
    early_calls: Vec<EarlyCallEntry>,
}

/// A call from before the host was known.
struct EarlyCallEntry {
    attempt: AttemptId,
    agent: AgentId,
    /// Cancelled when its agent requests something.
    asked: CancellationToken,
}

impl RelayState {
    fn early_call(&self, attempt: &AttemptId) -> Option<&EarlyCallEntry> {
        self.early_calls.iter().find(|call| call.attempt == *attempt)
    }
}

impl Default for RelayHost {
    fn default() -> Self {
        let (checkpoints, early_calls) = (Vec::new(), Vec::new());
        let state = RelayState { host: Arc::new(NoopHost), checkpoints, is_attached: false, early_calls };
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

    /// Adds a call that begins now. Returns a token that is cancelled when its agent requests something.
    pub(super) fn add_early_call(&self, call: &ToolCall) -> CancellationToken {
        let asked = CancellationToken::new();
        let (attempt, agent) = (call.attempt.clone(), call.agent.clone());
        self.state.lock().early_calls.push(EarlyCallEntry { attempt, agent, asked: asked.clone() });
        asked
    }

    /// Returns the host that answers a request. A request that is or may be that of an early call ends the call, and has
    /// no host.
    fn host_for(&self, origin: &Origin) -> Option<Arc<dyn ClientHost>> {
        let state = self.state.lock();
        let is_cause = |call: &&EarlyCallEntry| match &origin.attempt {
            Some(attempt) => call.attempt == *attempt,
            // After the approval of the plan, the host may be asked for any call.
            None => !state.is_attached && call.agent == origin.agent,
        };
        let mut causes = state.early_calls.iter().filter(is_cause).peekable();
        if causes.peek().is_none() {
            return Some(Arc::clone(&state.host));
        }
        causes.for_each(|call| call.asked.cancel());
        None
    }

    /// Returns the host that is informed about a call, unless it is an early one.
    fn host_of(&self, attempt: &AttemptId) -> Option<Arc<dyn ClientHost>> {
        let state = self.state.lock();
        state.early_call(attempt).is_none().then(|| Arc::clone(&state.host))
    }

    fn host(&self) -> Arc<dyn ClientHost> {
        Arc::clone(&self.state.lock().host)
    }
}

#[async_trait::async_trait]
impl ClientHost for RelayHost {
    async fn elicit(&self, origin: Origin, elicitation: Elicitation) -> Answer {
        match self.host_for(&origin) {
            Some(host) => host.elicit(origin, elicitation).await,
            None => Answer::Cancel,
        }
    }

    async fn sample(&self, origin: Origin, chat: ChatRequest) -> Result<ChatReply, ChatError> {
        match self.host_for(&origin) {
            Some(host) => host.sample(origin, chat).await,
            None => NoopHost.sample(origin, chat).await,
        }
    }

    async fn on_input_required(&self, attempt: AttemptId, round: u32, request_state: Option<String>, requests: Value) {
        let asked = self.state.lock().early_call(&attempt).map(|call| call.asked.clone());
        match asked {
            Some(asked) => asked.cancel(),
            None => self.host().on_input_required(attempt, round, request_state, requests).await,
        }
    }

    fn checkpoint(&self, key: CheckpointKey, value: Value) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock();
        // A later process repeats the call, which changes nothing.
        if matches!(&key, CheckpointKey::Call(attempt) if state.early_call(attempt).is_some()) {
            return NoopHost.checkpoint(key, value);
        }
        if !state.is_attached {
            state.checkpoints.retain(|(earlier, _)| *earlier != key);
            state.checkpoints.push((key.clone(), value.clone()));
        }
        let host = Arc::clone(&state.host);
        drop(state);
        host.checkpoint(key, value)
    }

    fn on_progress(&self, attempt: &AttemptId, progress: Progress) {
        if let Some(host) = self.host_of(attempt) {
            host.on_progress(attempt, progress);
        }
    }

    fn on_page_completed(&self, agent: &AgentId, id: &str) {
        self.host().on_page_completed(agent, id);
    }

    fn on_log(&self, origin: Origin, message: LogMessage) {
        let attempt = origin.attempt.clone().filter(|attempt| self.host_of(attempt).is_some());
        self.host().on_log(Origin { attempt, ..origin }, message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Form, JsonObject, Operation};

    /// A host that records checkpoints, and declines questions.
    #[derive(Default)]
    struct CheckpointHost(Mutex<Vec<(CheckpointKey, Value)>>);

    #[async_trait::async_trait]
    impl ClientHost for CheckpointHost {
        async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
            Answer::Decline
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

    fn call(agent: &str, number: u32) -> ToolCall {
        ToolCall {
            attempt: AttemptId { task: "early:".into(), number },
            agent: agent.into(),
            operation: Operation::CallTool,
            tool: "read".into(),
            arguments: JsonObject::new(),
            timeout: std::time::Duration::MAX,
            deadline: None,
            awaits: None,
            cache: None,
            save: None,
        }
    }

    /// Asks a question of a call, or of none.
    async fn ask(relay: &RelayHost, agent: &str, number: Option<u32>) -> Answer {
        let attempt = number.map(|number| call(agent, number).attempt);
        let elicitation = Elicitation { message: "which?".into(), form: Form::Fields { schema: JsonObject::new() } };
        relay.elicit(Origin { agent: agent.into(), attempt, key: None }, elicitation).await
    }

    #[tokio::test]
    async fn questions_end_early_calls_and_never_reach_the_host() {
        let relay = RelayHost::default();
        let asked: Vec<_> =
            [("a", 1), ("a", 2), ("b", 3)].map(|(agent, number)| relay.add_early_call(&call(agent, number))).into();
        let ended = || asked.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        assert_eq!((ask(&relay, "a", Some(2)).await, ended()), (Answer::Cancel, vec![false, true, false]));
        // Any call of the agent may be the cause.
        assert_eq!((ask(&relay, "a", None).await, ended()), (Answer::Cancel, vec![true, true, false]));
        relay.attach(Arc::new(CheckpointHost::default()));
        assert_eq!((ask(&relay, "b", None).await, ended()), (Answer::Decline, vec![true, true, false]));
        assert_eq!((ask(&relay, "b", Some(3)).await, ended()), (Answer::Cancel, vec![true, true, true]));
        assert_eq!(ask(&relay, "b", Some(4)).await, Answer::Decline);
    }

    #[test]
    fn checkpoints_of_early_calls_are_not_kept() {
        let relay = RelayHost::default();
        relay.add_early_call(&call("a", 1));
        drop(relay.checkpoint(CheckpointKey::Call(call("a", 1).attempt), 1.into()));
        let host = Arc::new(CheckpointHost::default());
        relay.attach(Arc::clone(&host) as Arc<_>);
        drop(relay.checkpoint(CheckpointKey::Call(call("a", 1).attempt), 2.into()));
        drop(relay.checkpoint(CheckpointKey::Call(call("a", 2).attempt), 3.into()));
        assert_eq!(*host.0.lock(), [(CheckpointKey::Call(call("a", 2).attempt), 3.into())]);
    }
}
