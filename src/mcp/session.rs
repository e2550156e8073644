//! Owns one session of a connection: its ID, the result of the handshake, the used request IDs, and the requests of the
//! agent. Only legacy sessions over Streamable HTTP have an ID; others save no checkpoint.

pub(crate) mod catalog;
pub(crate) mod connect;
pub(crate) mod connection_state;
pub(crate) mod era;
pub(crate) mod handshakes;
pub(crate) mod subscription;
pub(crate) mod validation;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::Mutex;
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientNotification, ClientRequest, GetExtensions as _, GetMeta as _, InitializeResult,
        JsonRpcMessage, ProgressToken, RequestId, ServerJsonRpcMessage, ServerNotification,
    },
    service::InboundStreamOrigin,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Host, transport::open_calls::id_number};
use crate::{
    model::{AgentId, CheckpointKey},
    system::clock,
};
use connection_state::ConnectionState;

/// The size of the blocks in which request IDs are reserved. Each block needs one checkpoint, instead of one for each
/// call.
const ID_BLOCK_SIZE: i64 = 1_000;

/// The checkpoint from which a later process resumes a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionCheckpoint {
    /// The session ID that the server assigned.
    session: String,
    /// The endpoint URL without secrets. A session is valid at this endpoint only.
    url: String,
    /// The result of the handshake, including the protocol version.
    initialized: InitializeResult,
    /// The first request ID that was certainly never used.
    next_request: i64,
}

impl SessionCheckpoint {
    /// Parses the session checkpoint of an earlier process. Returns `None` if this version cannot read it.
    pub(super) fn from_value(note: Value, agent: &AgentId) -> Option<Self> {
        let read = serde_json::from_value(note);
        read.inspect_err(|error| tracing::warn!(%agent, %error, "the note of a session cannot be read")).ok()
    }

    /// Returns whether the session belongs to the server at `url`.
    pub(super) fn is_for_url(&self, url: Option<&str>) -> bool {
        url == Some(&*self.url)
    }
}

/// The session of one connection.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) host: Arc<dyn Host>,
    /// The endpoint if its server outlives the host. Other sessions are not saved.
    endpoint_url: Option<String>,
    /// The ID of the next request, for calls and for rmcp.
    next_request: AtomicI64,
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
    pub(super) fn without_id(agent: AgentId, host: Arc<dyn Host>) -> Self {
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

    /// Creates a session over Streamable HTTP, whose ID the handshake may set. The session is saved if `kept_at` is the
    /// URL of a server that outlives the host.
    pub(super) fn over_http(agent: AgentId, host: Arc<dyn Host>, kept_at: Option<String>) -> Self {
        // Some servers repeat the events of one session in another, so the IDs must differ between sessions. They stay
        // below 2^30 because some servers only support 32 bits.
        let random = clock::new_id().into_bytes();
        let first = u32::from_be_bytes([random[12], random[13], random[14], random[15]]) >> 2;
        Self { endpoint_url: kept_at, next_request: AtomicI64::new(i64::from(first)), ..Self::without_id(agent, host) }
    }

    /// Creates a session from the checkpoint of an earlier process.
    pub(super) fn resumed(agent: AgentId, host: Arc<dyn Host>, checkpoint: SessionCheckpoint) -> Self {
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
    pub(super) fn next_id(&self) -> i64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns the session ID. `None` before the handshake and on connections without sessions.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// Returns the session ID and the handshake result of an earlier process.
    pub(super) fn resumed_handshake(&self) -> Option<(String, InitializeResult)> {
        self.resumed.as_ref().map(|note| (note.session.clone(), note.initialized.clone()))
    }

    /// Returns the session ID if a later process can resume the session.
    pub(super) fn resumable_id(&self) -> Option<&str> {
        self.endpoint_url.as_ref().and(self.id())
    }

    /// Records the session that the handshake created. Completes when the checkpoint is durable, if the session is
    /// saved.
    pub(super) async fn begin(&self, id: String, initialized: InitializeResult) {
        let mut note = self.checkpoint.lock().await;
        if let Some(url) = &self.endpoint_url {
            let (session, url) = (id.clone(), url.clone());
            let next_request = self.next_request.load(Ordering::Relaxed) + ID_BLOCK_SIZE;
            let begun = SessionCheckpoint { session, url, initialized, next_request };
            self.save(&begun).await;
            *note = Some(begun);
        }
        // The ID is set only once: rmcp is configured not to repeat the handshake.
        let _ = self.id.set(id);
    }

    /// Reserves a request ID. Completes when it is durable that later processes must not use the ID.
    pub(super) async fn reserve(&self, id: i64) {
        let mut note = self.checkpoint.lock().await;
        if let Some(note) = note.as_mut()
            && id >= note.next_request
        {
            note.next_request = id + ID_BLOCK_SIZE;
            self.save(note).await;
        }
    }

    async fn save(&self, checkpoint: &SessionCheckpoint) {
        match serde_json::to_value(checkpoint) {
            Ok(note) => self.host.checkpoint(CheckpointKey::Session(self.agent.clone()), note).await,
            Err(error) => tracing::warn!(agent = %self.agent, %error, "the note of a session cannot be written"),
        }
    }

    /// Records a request of the agent on the stream of a call. Returns whether it is new, since servers repeat events.
    pub(super) fn register_request(&self, request: &RequestId) -> bool {
        let mut asked = self.agent_requests.lock();
        let known = asked.contains_key(request);
        if !known {
            asked.insert(request.clone(), false);
        }
        !known
    }

    /// Records that the agent received the answer to its request.
    pub(super) fn mark_answered(&self, request: &RequestId) {
        if let Some(answered) = self.agent_requests.lock().get_mut(request) {
            *answered = true;
        }
    }

    /// Returns whether the agent received the answer to its request.
    pub(super) fn is_answered(&self, request: &RequestId) -> bool {
        self.agent_requests.lock().get(request).copied().unwrap_or_default()
    }
}

/// A map between rmcp's request IDs, which start at 0 on each connection, and those of the session. Layers closer to
/// the wire only use the session's IDs.
pub(super) struct RequestIdMap {
    state: Arc<ConnectionState>,
    /// The pending requests of rmcp by their session IDs.
    pending: HashMap<i64, LocalRequest>,
}

/// A request of rmcp.
struct LocalRequest {
    /// The ID that rmcp assigned.
    local_id: RequestId,
    /// Whether the request is a subscription, which stays open until one side ends it.
    is_subscription: bool,
}

impl RequestIdMap {
    pub(super) fn new(link: Arc<ConnectionState>) -> Self {
        Self { state: link, pending: HashMap::new() }
    }

    /// Maps the IDs of a message from rmcp to those of the session.
    pub(super) fn outgoing(&mut self, message: &mut ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(outgoing) => {
                let id = self.state.session.next_id();
                let meta = outgoing.request.get_meta_mut();
                // rmcp's progress tokens could collide with those of calls.
                if meta.get_progress_token().is_some() {
                    meta.set_progress_token(ProgressToken(RequestId::Number(id)));
                }
                let local = std::mem::replace(&mut outgoing.id, RequestId::Number(id));
                let listens = matches!(outgoing.request, ClientRequest::SubscriptionsListenRequest(_));
                self.pending.insert(id, LocalRequest { local_id: local, is_subscription: listens });
            }
            JsonRpcMessage::Notification(outgoing) => {
                if let ClientNotification::CancelledNotification(cancelled) = &mut outgoing.notification
                    && let Some(id) = &mut cancelled.params.request_id
                    && let Some((request, _)) = self.pending.iter().find(|(_, waiting)| waiting.local_id == *id)
                {
                    let request = *request;
                    self.pending.remove(&request);
                    *id = RequestId::Number(request);
                }
            }
            // Responses have the IDs of the agent's requests.
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    /// Maps the IDs of a message from the agent to those of rmcp.
    pub(super) fn incoming(&mut self, message: &mut ServerJsonRpcMessage) {
        match message {
            JsonRpcMessage::Response(response) => self.resolve(&mut response.id),
            JsonRpcMessage::Error(error) => {
                if let Some(id) = &mut error.id {
                    self.resolve(id);
                }
            }
            JsonRpcMessage::Request(incoming) => {
                if let Some(InboundStreamOrigin::OutboundRequest(id)) = incoming.request.extensions_mut().get_mut()
                    && let Some(waiting) = self.find(id)
                {
                    *id = waiting.local_id.clone();
                }
            }
            JsonRpcMessage::Notification(incoming) => {
                // The agent can cancel a subscription. All other IDs that it cancels are its own.
                if let ServerNotification::CancelledNotification(cancelled) = &mut incoming.notification
                    && let Some(id) = &mut cancelled.params.request_id
                    && let Some(LocalRequest { local_id: local, is_subscription: true }) = self.find(id)
                {
                    *id = local.clone();
                }
                // A subscription is identified by the ID of its request.
                let meta = incoming.notification.get_meta_mut();
                if let Some(waiting) = meta.subscription_id().and_then(|id| self.find(&id)) {
                    meta.set_subscription_id(waiting.local_id.clone());
                }
            }
        }
    }

    fn find(&self, id: &RequestId) -> Option<&LocalRequest> {
        self.pending.get(&id_number(id)?)
    }

    fn resolve(&mut self, id: &mut RequestId) {
        if let Some(waiting) = id_number(id).and_then(|id| self.pending.remove(&id)) {
            *id = waiting.local_id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rmcp::model::{
        CallToolRequest, CallToolRequestParams, CancelledNotification, CancelledNotificationParam, ErrorData,
        ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerResult, SubscriptionFilter,
        SubscriptionsListenRequest, SubscriptionsListenRequestParams,
    };
    use serde_json::json;

    use super::*;
    use crate::{
        mcp::samples,
        model::{
            Answer, AttemptId, ChatError, ChatReply, ChatRequest, Checkpoints, Elicitation, LogMessage, Origin,
            Progress,
        },
    };

    /// A host that stores checkpoints slowly.
    #[derive(Default)]
    struct SlowHost(Arc<Mutex<Checkpoints>>);

    #[async_trait::async_trait]
    impl Host for SlowHost {
        async fn elicit(&self, _: Origin, _: Elicitation) -> Answer {
            Answer::Cancel
        }

        async fn sample(&self, _: Origin, _: ChatRequest) -> Result<ChatReply, ChatError> {
            std::future::pending().await
        }

        async fn on_input_required(&self, _: AttemptId, _: u32, _: Option<String>, _: Value) {}

        fn checkpoint(&self, key: CheckpointKey, note: Value) -> futures::future::BoxFuture<'static, ()> {
            let notes = self.0.clone();
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                notes.lock().insert(key, note);
            })
        }

        fn on_progress(&self, _: &AttemptId, _: Progress) {}

        fn on_log(&self, _: Origin, _: LogMessage) {}
    }

    fn saved_checkpoint(notes: &Mutex<Checkpoints>) -> SessionCheckpoint {
        SessionCheckpoint::from_value(notes.lock().sessions["a"].clone(), &"a".into()).unwrap()
    }

    fn initialize_result() -> InitializeResult {
        let result =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
        serde_json::from_value(result).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn resumed_sessions_do_not_reuse_ids() {
        let host = Arc::new(SlowHost::default());
        let notes = host.0.clone();
        let first = Session::over_http("a".into(), host.clone(), Some("http://x/mcp".to_owned()));
        assert_eq!(first.id(), None);
        first.begin("s".to_owned(), initialize_result()).await;
        assert_eq!(first.resumable_id(), Some("s"));
        let offset = first.next_id();
        for local in [1, ID_BLOCK_SIZE - 1] {
            first.reserve(offset + local).await;
            assert_eq!(saved_checkpoint(&notes).next_request, offset + ID_BLOCK_SIZE);
        }
        first.reserve(offset + ID_BLOCK_SIZE).await;
        let note = saved_checkpoint(&notes);
        assert_eq!(note.next_request, offset + 2 * ID_BLOCK_SIZE);
        assert!(
            note.is_for_url(Some("http://x/mcp")) && !note.is_for_url(Some("http://y/mcp")) && !note.is_for_url(None)
        );
        let second = Session::resumed("a".into(), host, note.clone());
        let offset = second.next_id();
        assert_eq!(
            (offset, second.resumed_handshake()),
            (note.next_request, Some(("s".to_owned(), initialize_result())))
        );
        second.reserve(offset + 1).await;
        assert!(saved_checkpoint(&notes).next_request > offset + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_their_id_block_to_be_durable() {
        let host = Arc::new(SlowHost::default());
        let notes = host.0.clone();
        let session = Session::over_http("a".into(), host, Some("http://x/mcp".to_owned()));
        session.begin("s".to_owned(), initialize_result()).await;
        let offset = session.next_id();
        let ids = [0, 1, 2].map(|more| offset + ID_BLOCK_SIZE + more);
        futures::future::join_all(ids.map(async |id| {
            session.reserve(id).await;
            assert_eq!(saved_checkpoint(&notes).next_request, offset + 2 * ID_BLOCK_SIZE);
        }))
        .await;
    }

    #[test]
    fn answered_requests_are_remembered() {
        let session = Session::without_id("a".into(), Arc::new(SlowHost::default()));
        let [asked, other] = [7, 8].map(RequestId::Number);
        assert_eq!([session.register_request(&asked), session.register_request(&asked)], [true, false]);
        session.mark_answered(&other);
        assert_eq!([&asked, &other].map(|id| session.is_answered(id)), [false, false]);
        session.mark_answered(&asked);
        assert!(session.is_answered(&asked) && session.register_request(&other));
    }

    /// Returns the ID of a request of rmcp on the wire.
    fn sent(numbering: &mut RequestIdMap, local: i64, request: impl Into<ClientRequest>) -> RequestId {
        let mut message = ClientJsonRpcMessage::request(request.into(), RequestId::Number(local));
        numbering.outgoing(&mut message);
        let JsonRpcMessage::Request(request) = message else { unreachable!() };
        request.id
    }

    /// Returns the ID of the request that is cancelled on the wire when rmcp cancels `local`.
    fn sent_cancellation(numbering: &mut RequestIdMap, local: i64) -> Option<RequestId> {
        let params = CancelledNotificationParam::new(Some(RequestId::Number(local)), None);
        let mut message = ClientJsonRpcMessage::notification(CancelledNotification::new(params).into());
        numbering.outgoing(&mut message);
        match message {
            JsonRpcMessage::Notification(sent) => match sent.notification {
                ClientNotification::CancelledNotification(cancelled) => cancelled.params.request_id,
                _ => None,
            },
            _ => None,
        }
    }

    fn received(numbering: &mut RequestIdMap, id: RequestId) -> RequestId {
        let mut message = ServerJsonRpcMessage::response(ServerResult::empty(()), id);
        numbering.incoming(&mut message);
        let JsonRpcMessage::Response(response) = message else { unreachable!() };
        response.id
    }

    fn id_map(offset: i64) -> RequestIdMap {
        let link = samples::connection_state();
        link.session.next_request.store(offset, Ordering::Relaxed);
        RequestIdMap::new(link)
    }

    #[test]
    fn ids_are_mapped_in_both_directions() {
        let mut numbering = id_map(1_003);
        let number = RequestId::Number;
        let tool = || CallToolRequest::new(CallToolRequestParams::new("t"));
        assert_eq!(sent(&mut numbering, 3, tool()), number(1_003));
        // A call uses the next ID.
        assert_eq!(numbering.state.session.next_id(), 1_004);
        assert_eq!(sent(&mut numbering, 4, tool()), number(1_005));
        assert_eq!(sent_cancellation(&mut numbering, 4), Some(number(1_005)));
        assert_eq!(received(&mut numbering, RequestId::String("1003".into())), number(3));
        assert!(numbering.pending.is_empty());
        let listen =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(SubscriptionFilter::default()));
        assert_eq!(sent(&mut numbering, 6, listen), number(1_006));
        let params = ResourceUpdatedNotificationParam::new("job://1");
        let mut news = ServerNotification::from(ResourceUpdatedNotification::new(params));
        news.get_meta_mut().set_subscription_id(number(1_006));
        let mut news = ServerJsonRpcMessage::notification(news);
        numbering.incoming(&mut news);
        let JsonRpcMessage::Notification(news) = news else { unreachable!() };
        assert_eq!(news.notification.get_meta().subscription_id(), Some(number(6)));
        assert_eq!(sent(&mut numbering, 5, tool()), number(1_007));
        let mut refused = ServerJsonRpcMessage::error(ErrorData::internal_error("no", None), Some(number(1_007)));
        numbering.incoming(&mut refused);
        assert!(matches!(refused, JsonRpcMessage::Error(error) if error.id == Some(number(5))));
    }

    /// Returns the ID of a request that the agent cancels, as rmcp receives it.
    fn received_cancellation(numbering: &mut RequestIdMap, id: i64) -> Option<RequestId> {
        let params = CancelledNotificationParam::new(Some(RequestId::Number(id)), None);
        let mut message = ServerJsonRpcMessage::notification(CancelledNotification::new(params).into());
        numbering.incoming(&mut message);
        match message {
            JsonRpcMessage::Notification(received) => match received.notification {
                ServerNotification::CancelledNotification(cancelled) => cancelled.params.request_id,
                _ => None,
            },
            _ => None,
        }
    }

    #[test]
    fn agents_cancel_own_requests_and_subscriptions() {
        let mut numbering = id_map(7);
        let listen =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(SubscriptionFilter::default()));
        assert_eq!(
            sent(&mut numbering, 0, CallToolRequest::new(CallToolRequestParams::new("t"))),
            RequestId::Number(7)
        );
        assert_eq!(sent(&mut numbering, 1, listen), RequestId::Number(8));
        let taken_back = [7, 8, 9].map(|id| received_cancellation(&mut numbering, id));
        assert_eq!(taken_back, [7, 1, 9].map(|id| Some(RequestId::Number(id))));
    }
}
