//! Manages legacy sessions over Streamable HTTP with resumable streams. Streams of modern requests are not stored:
//! closing such a stream cancels the call.

use std::sync::Arc;

use futures::Stream;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionError,
};
use rmcp::transport::streamable_http_server::session::{EventStore as _, ServerSseMessage, SessionId, SessionManager};

use super::event_store::EventLog;

/// The idle timeout of a session. Long enough for a person to answer a question.
const SESSION_IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(24 * 3_600);

/// The ID that rmcp assigns to the priming event of a session's common stream.
const PRIMING_ID: &str = "0";

/// A wrapper of rmcp's session manager with an [`EventLog`]. The common stream starts with the messages that were sent
/// before the client opened it, such as early log messages. The event store is not shared with rmcp (`event_store`
/// stays `None`), because rmcp would also use it for modern requests. Those would then continue after their client
/// disconnects.
pub(crate) struct ResumableSessions {
    local: LocalSessionManager,
    events: EventLog,
}

impl ResumableSessions {
    pub(crate) fn new() -> Self {
        let events = EventLog::new();
        let mut local = LocalSessionManager::default().with_event_store(Arc::new(events.clone()));
        local.session_config.keep_alive = Some(SESSION_IDLE_TIMEOUT);
        Self { local, events }
    }

    /// Returns the stream ID under which rmcp stores messages that belong to no request of the session.
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
}
