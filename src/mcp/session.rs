//! Keeps one session of a connection: its id, what the handshake agreed on, which request ids it has used up, and what
//! the agent has asked in it. Only legacy sessions over Streamable HTTP have an id; others keep nothing.
//! Never sends or receives.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
};

use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientNotification, ClientRequest, GetExtensions as _, GetMeta as _, InitializeResult,
        JsonRpcMessage, ProgressToken, RequestId, ServerJsonRpcMessage, ServerNotification,
    },
    service::InboundStreamOrigin,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Host, connection_state::ConnectionState, lock, open_calls::id_number};
use crate::{
    model::{AgentId, CheckpointKey},
    system::clock,
};

/// Request ids are set aside in blocks of this size: a note for each block, rather than for each call.
const ID_BLOCK_SIZE: i64 = 1_000;

/// What a later process needs to go on with a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionCheckpoint {
    /// The id that the server gave it.
    session: String,
    /// The endpoint without what may be secret: a session of another one is of no use.
    url: String,
    /// What the server said in the handshake, its protocol version included.
    initialized: InitializeResult,
    /// The first request id that was certainly never used.
    next_request: i64,
}

impl SessionCheckpoint {
    /// Reads what an earlier process wrote of its session with `agent`; none if this version does not know it.
    pub(super) fn from_value(note: Value, agent: &AgentId) -> Option<Self> {
        let read = serde_json::from_value(note);
        read.inspect_err(|error| tracing::warn!(%agent, %error, "the note of a session cannot be read")).ok()
    }

    /// Whether the session is one with the server at `url`, if there is such a server.
    pub(super) fn is_for_url(&self, url: Option<&str>) -> bool {
        url == Some(&*self.url)
    }
}

/// The session of one connection.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) host: Arc<dyn Host>,
    /// The endpoint, if what is there outlives the host; no other session is noted.
    endpoint_url: Option<String>,
    /// The id of the next request, of a call or of rmcp's.
    next_request: AtomicI64,
    /// What an earlier process left, if the session is its.
    resumed: Option<SessionCheckpoint>,
    /// Set when the handshake has given it one.
    id: OnceLock<String>,
    /// What is noted. Held until a change of it is durable, so that no request overtakes the note that sets its id
    /// aside.
    checkpoint: tokio::sync::Mutex<Option<SessionCheckpoint>>,
    /// The agent's requests that came on the stream of a call, and whether each was answered. An id each, as long as
    /// the session lives: servers repeat old events on new streams. Held for a look-up.
    agent_requests: Mutex<HashMap<RequestId, bool>>,
}

impl Session {
    /// For a connection that has no session, such as one over pipes.
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

    /// For a connection over Streamable HTTP, on which a handshake may make a session. It is noted if the server is
    /// one that outlives the host, at `kept_at`.
    pub(super) fn over_http(agent: AgentId, host: Arc<dyn Host>, kept_at: Option<String>) -> Self {
        // There are servers that repeat events of one session in another, so that ids have to differ. They are below
        // 2^30, since not every server takes more than 32 bits.
        let random = clock::new_id().into_bytes();
        let first = u32::from_be_bytes([random[12], random[13], random[14], random[15]]) >> 2;
        Self { endpoint_url: kept_at, next_request: AtomicI64::new(i64::from(first)), ..Self::without_id(agent, host) }
    }

    /// The session that an earlier process left.
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

    /// An id for a request, which no other has.
    pub(super) fn next_id(&self) -> i64 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    /// The id that the server gave it; none before the handshake, and none where there are no sessions.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.get().map(String::as_str)
    }

    /// The session's id and handshake, if an earlier process has made them.
    pub(super) fn resumed_handshake(&self) -> Option<(String, InitializeResult)> {
        self.resumed.as_ref().map(|note| (note.session.clone(), note.initialized.clone()))
    }

    /// Its id, if a later process can go on with it.
    pub(super) fn resumable_id(&self) -> Option<&str> {
        self.endpoint_url.as_ref().and(self.id())
    }

    /// The handshake made the session. Ends when that is durable, if it is kept.
    pub(super) async fn begin(&self, id: String, initialized: InitializeResult) {
        let mut note = self.checkpoint.lock().await;
        if let Some(url) = &self.endpoint_url {
            let (session, url) = (id.clone(), url.clone());
            let next_request = self.next_request.load(Ordering::Relaxed) + ID_BLOCK_SIZE;
            let begun = SessionCheckpoint { session, url, initialized, next_request };
            self.save(&begun).await;
            *note = Some(begun);
        }
        // A second handshake on one connection does not happen: rmcp is told not to make one.
        let _ = self.id.set(id);
    }

    /// Sets the request id aside: ends when it is durable that a later process must not use it.
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

    /// The agent made a request on the stream of a call. Whether that is news: servers repeat themselves.
    pub(super) fn register_request(&self, request: &RequestId) -> bool {
        let mut asked = lock(&self.agent_requests);
        let known = asked.contains_key(request);
        if !known {
            asked.insert(request.clone(), false);
        }
        !known
    }

    /// The agent has the answer to its request.
    pub(super) fn mark_answered(&self, request: &RequestId) {
        if let Some(answered) = lock(&self.agent_requests).get_mut(request) {
            *answered = true;
        }
    }

    /// Whether the agent has the answer to its request.
    pub(super) fn is_answered(&self, request: &RequestId) -> bool {
        lock(&self.agent_requests).get(request).copied().unwrap_or_default()
    }
}

/// Translates between rmcp's request ids, which begin at 0 on every connection, and those of the session, which calls
/// have too. What is nearer to the wire knows the session's only.
pub(super) struct RequestIdMap {
    state: Arc<ConnectionState>,
    /// rmcp's requests that wait for an answer, by the session's ids.
    pending: HashMap<i64, LocalRequest>,
}

/// A request of rmcp's.
struct LocalRequest {
    /// Its id by rmcp.
    local_id: RequestId,
    /// Whether it listens for news until one side ends it.
    is_subscription: bool,
}

impl RequestIdMap {
    pub(super) fn new(link: Arc<ConnectionState>) -> Self {
        Self { state: link, pending: HashMap::new() }
    }

    /// From rmcp to the session.
    pub(super) fn outgoing(&mut self, message: &mut ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(outgoing) => {
                let id = self.state.session.next_id();
                let meta = outgoing.request.get_meta_mut();
                // rmcp's tokens could be those of calls.
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
            // These bear the agent's own ids.
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {}
        }
    }

    /// From the session to rmcp.
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
                // The agent can end what listens; any other id that it cancels is one of its own.
                if let ServerNotification::CancelledNotification(cancelled) = &mut incoming.notification
                    && let Some(id) = &mut cancelled.params.request_id
                    && let Some(LocalRequest { local_id: local, is_subscription: true }) = self.find(id)
                {
                    *id = local.clone();
                }
                // A subscription is known by the id of the request that made it.
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

    /// A host that takes its time to keep notes.
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
                lock(&notes).insert(key, note);
            })
        }

        fn on_progress(&self, _: &AttemptId, _: Progress) {}

        fn on_log(&self, _: Origin, _: LogMessage) {}
    }

    fn saved_checkpoint(notes: &Mutex<Checkpoints>) -> SessionCheckpoint {
        SessionCheckpoint::from_value(lock(notes).sessions["a"].clone(), &"a".into()).unwrap()
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

    /// The id of a request of rmcp's as it goes over the wire.
    fn sent(numbering: &mut RequestIdMap, local: i64, request: impl Into<ClientRequest>) -> RequestId {
        let mut message = ClientJsonRpcMessage::request(request.into(), RequestId::Number(local));
        numbering.outgoing(&mut message);
        let JsonRpcMessage::Request(request) = message else { unreachable!() };
        request.id
    }

    /// The request that is cancelled on the wire when rmcp cancels `local`.
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
        // A call comes in between.
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

    /// The id of what the agent cancels, as rmcp sees it.
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
