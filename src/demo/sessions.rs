//! Legacy sessions over Streamable HTTP whose streams can be taken up again without a gap.
//! Never keeps the streams of modern requests: there, closing the stream means cancelling the call.

use std::sync::Arc;

use futures::Stream;
use rmcp::{
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{
        EventStore as _, RestoreOutcome, ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError, SessionError},
    },
};

use super::event_store::EventLog;

/// How long a session may be idle. A person can take this long to answer, while nothing moves.
const SESSION_IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// The id that rmcp gives to the priming event of a session's common stream, before any other.
const PRIMING_ID: &str = "0";

/// rmcp's session manager over [`EventLog`], which differs from it in two things. Its common stream begins with what
/// was sent before the client opened it, such as early log messages. And it keeps its event store to itself
/// (`event_store` stays `None`), because rmcp would use it for modern requests too, which then would go on after
/// their client has hung up.
pub(super) struct ResumableSessions {
    local: LocalSessionManager,
    events: EventLog,
}

impl ResumableSessions {
    pub(super) fn new() -> Self {
        let events = EventLog::new();
        let mut local = LocalSessionManager::default().with_event_store(Arc::new(events.clone()));
        local.session_config.keep_alive = Some(SESSION_IDLE_TIMEOUT);
        Self { local, events }
    }

    /// The name under which rmcp stores what belongs to no request of the session.
    fn common_stream(id: &SessionId) -> String {
        format!("{id}:common")
    }
}

impl SessionManager for ResumableSessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.local.create_session().await
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.local.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        self.local.has_session(id).await
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.events.remove_stream(&Self::common_stream(id));
        self.local.close_session(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.local.create_stream(id, message).await
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Self::Error> {
        self.local.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        Ok(self.events.subscribe(Self::common_stream(id), 0))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        if last_event_id == PRIMING_ID {
            return Ok(self.events.subscribe(Self::common_stream(id), 0));
        }
        let replayed = self.events.replay_events_after(&last_event_id).await;
        replayed.map_err(|error| SessionError::EventStore(error).into())
    }

    async fn restore_session(&self, id: SessionId) -> Result<RestoreOutcome<Self::Transport>, Self::Error> {
        self.local.restore_session(id).await
    }
}
