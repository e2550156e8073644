//! Owns one session of a connection: its ID, the result of the handshake, the used request IDs, and the requests of the
//! agent. Only legacy sessions over Streamable HTTP have an ID; others save no checkpoint.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rmcp::model::{InitializeResult, RequestId};

use crate::mcp::checkpoint::SessionCheckpoint;
use crate::mcp::host::ClientHost;
use crate::model::{AgentId, CheckpointKey};
use crate::system::clock;

/// The size of the blocks in which request IDs are reserved. Each block needs one checkpoint, instead of one for each
/// call.
const ID_BLOCK_SIZE: i64 = 1_000;

/// The session of one connection.
pub(crate) struct Session {
    pub(crate) agent: AgentId,
    pub(crate) host: Arc<dyn ClientHost>,
    /// The endpoint if its server outlives the host. Other sessions are not saved.
    endpoint_url: Option<String>,
    /// The ID of the next request, for calls and for rmcp.
    pub(crate) next_request: AtomicI64,
    /// The checkpoint of an earlier process, if the session is resumed.
    resumed: Option<SessionCheckpoint>,
    /// The session ID, set by the handshake.
    id: OnceLock<String>,
    /// The saved checkpoint. Locked until a change is durable, so that no request is sent before its ID is reserved.
    checkpoint: tokio::sync::Mutex<Option<SessionCheckpoint>>,
    /// The IDs of the agent's requests on the streams of calls, and whether each was answered. Kept for the whole
    /// session, since servers repeat old events on new streams. Locked only for a lookup.
    agent_requests: Mutex<HashMap<RequestId, bool>>,
}

impl Session {
    /// Creates a session without an ID, for connections over stdio.
    pub(crate) fn without_id(agent: AgentId, host: Arc<dyn ClientHost>) -> Self {
        Self {
            agent,
            host,
            endpoint_url: None,
            next_request: AtomicI64::new(0),
            resumed: None,
            id: OnceLock::new(),
            checkpoint: tokio::sync::Mutex::default(),
            agent_requests: Mutex::default(),
        }
    }

    /// Creates a session over Streamable HTTP, whose ID the handshake may set. The session is saved if `saved_at` is the
    /// URL of a server that outlives the host.
    pub(crate) fn over_http(agent: AgentId, host: Arc<dyn ClientHost>, saved_at: Option<String>) -> Self {
        // Some servers repeat the events of one session in another, so the IDs must differ between sessions. They stay
        // below 2^30 because some servers only support 32 bits.
        let random = clock::new_id().into_bytes();
        let first = u32::from_be_bytes([random[12], random[13], random[14], random[15]]) >> 2;
        Self { endpoint_url: saved_at, next_request: AtomicI64::new(i64::from(first)), ..Self::without_id(agent, host) }
    }

    /// Creates a session from the checkpoint of an earlier process.
    pub(crate) fn resumed(agent: AgentId, host: Arc<dyn ClientHost>, checkpoint: SessionCheckpoint) -> Self {
        Self {
            endpoint_url: Some(checkpoint.url.clone()),
            next_request: AtomicI64::new(checkpoint.next_request),
            id: OnceLock::from(checkpoint.session.clone()),
            checkpoint: tokio::sync::Mutex::new(Some(checkpoint.clone())),
            resumed: Some(checkpoint),
            ..Self::without_id(agent, host)
        }
    }

    /// Returns an unused request ID.
    pub(crate) fn next_id(&self) -> i64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the session ID. `None` before the handshake and on connections without sessions.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// Returns the session ID and the handshake result of an earlier process.
    pub(crate) fn resumed_handshake(&self) -> Option<(String, InitializeResult)> {
        self.resumed.as_ref().map(|saved| (saved.session.clone(), saved.initialized.clone()))
    }

    /// Returns the session ID if a later process can resume the session.
    pub(crate) fn resumable_id(&self) -> Option<&str> {
        self.endpoint_url.as_ref().and(self.id())
    }

    /// Records the session that the handshake created. Completes when the checkpoint is durable, if the session is
    /// saved.
    pub(crate) async fn begin(&self, id: String, initialized: InitializeResult) {
        let mut saved = self.checkpoint.lock().await;
        if let Some(url) = &self.endpoint_url {
            let (session, url) = (id.clone(), url.clone());
            let next_request = self.next_request.load(Ordering::Relaxed) + ID_BLOCK_SIZE;
            let checkpoint = SessionCheckpoint { session, url, initialized, next_request };
            self.save(&checkpoint).await;
            *saved = Some(checkpoint);
        }
        // The ID is set only once: rmcp is configured not to repeat the handshake.
        let _ = self.id.set(id);
    }

    /// Reserves a request ID. Completes when it is durable that later processes must not use the ID.
    pub(crate) async fn reserve(&self, id: i64) {
        let mut saved = self.checkpoint.lock().await;
        if let Some(saved) = saved.as_mut()
            && id >= saved.next_request
        {
            saved.next_request = id + ID_BLOCK_SIZE;
            self.save(saved).await;
        }
    }

    async fn save(&self, checkpoint: &SessionCheckpoint) {
        match serde_json::to_value(checkpoint) {
            Ok(saved) => self.host.checkpoint(CheckpointKey::Session(self.agent.clone()), saved).await,
            Err(error) => tracing::warn!(agent = %self.agent, %error, "the checkpoint of a session cannot be written"),
        }
    }

    /// Records a request of the agent on the stream of a call. Returns whether it is new, since servers repeat events.
    pub(crate) fn register_request(&self, request: &RequestId) -> bool {
        let mut requests = self.agent_requests.lock();
        let is_known = requests.contains_key(request);
        if !is_known {
            requests.insert(request.clone(), false);
        }
        !is_known
    }

    /// Records that the agent received the answer to its request.
    pub(crate) fn mark_answered(&self, request: &RequestId) {
        if let Some(answered) = self.agent_requests.lock().get_mut(request) {
            *answered = true;
        }
    }

    /// Returns whether the agent received the answer to its request.
    pub(crate) fn is_answered(&self, request: &RequestId) -> bool {
        self.agent_requests.lock().get(request).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::{
        Answer, AttemptId, ChatError, ChatReply, ChatRequest, Checkpoints, Elicitation, LogMessage, Origin, Progress,
    };

    /// A host that stores checkpoints slowly.
    #[derive(Default)]
    struct SlowHost(Arc<Mutex<Checkpoints>>);

    #[async_trait::async_trait]
    impl ClientHost for SlowHost {
        async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
            Answer::Cancel
        }

        async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
            std::future::pending().await
        }

        async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

        fn checkpoint(&self, key: CheckpointKey, saved: Value) -> futures::future::BoxFuture<'static, ()> {
            let checkpoints = self.0.clone();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                checkpoints.lock().insert(key, saved);
            })
        }

        fn on_progress(&self, _: &AttemptId, _: Progress) {}

        fn on_page_completed(&self, _: &AgentId, _: &str) {}

        fn on_log(&self, _: Origin, _: LogMessage) {}
    }

    fn saved_checkpoint(checkpoints: &Mutex<Checkpoints>) -> SessionCheckpoint {
        SessionCheckpoint::from_value(checkpoints.lock().sessions["a"].clone(), &"a".into()).unwrap()
    }

    fn initialize_result() -> InitializeResult {
        let result =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
        serde_json::from_value(result).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn resumed_sessions_do_not_reuse_ids() {
        let host = Arc::new(SlowHost::default());
        let checkpoints = host.0.clone();
        let first = Session::over_http("a".into(), host.clone(), Some("http://x/mcp".to_owned()));
        assert_eq!(first.id(), None);
        first.begin("s".to_owned(), initialize_result()).await;
        assert_eq!(first.resumable_id(), Some("s"));
        let offset = first.next_id();
        for local in [1, ID_BLOCK_SIZE - 1] {
            first.reserve(offset + local).await;
            assert_eq!(saved_checkpoint(&checkpoints).next_request, offset + ID_BLOCK_SIZE);
        }
        first.reserve(offset + ID_BLOCK_SIZE).await;
        let saved = saved_checkpoint(&checkpoints);
        assert_eq!((saved.next_request, saved.url.as_str()), (offset + 2 * ID_BLOCK_SIZE, "http://x/mcp"));
        let second = Session::resumed("a".into(), host, saved.clone());
        let offset = second.next_id();
        assert_eq!(
            (offset, second.resumed_handshake()),
            (saved.next_request, Some(("s".to_owned(), initialize_result())))
        );
        second.reserve(offset + 1).await;
        assert!(saved_checkpoint(&checkpoints).next_request > offset + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_their_id_block_to_be_durable() {
        let host = Arc::new(SlowHost::default());
        let checkpoints = host.0.clone();
        let session = Session::over_http("a".into(), host, Some("http://x/mcp".to_owned()));
        session.begin("s".to_owned(), initialize_result()).await;
        let offset = session.next_id();
        let ids = [0, 1, 2].map(|more| offset + ID_BLOCK_SIZE + more);
        futures::future::join_all(ids.map(async |id| {
            session.reserve(id).await;
            assert_eq!(saved_checkpoint(&checkpoints).next_request, offset + 2 * ID_BLOCK_SIZE);
        }))
        .await;
    }

    #[test]
    fn answered_requests_are_remembered() {
        let session = Session::without_id("a".into(), Arc::new(SlowHost::default()));
        let [request, other] = [7, 8].map(RequestId::Number);
        assert_eq!([session.register_request(&request), session.register_request(&request)], [true, false]);
        session.mark_answered(&other);
        assert_eq!([&request, &other].map(|id| session.is_answered(id)), [false, false]);
        session.mark_answered(&request);
        assert!(session.is_answered(&request) && session.register_request(&other));
    }
}
