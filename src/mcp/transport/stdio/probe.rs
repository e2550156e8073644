//! Decides what becomes of the probe for the modern era over the pipes of a child.
//!
//! rmcp waits at most ten seconds for the response to `server/discover`, and then sends `initialize`. A child that has
//! not read its input by then is still starting, so its silence does not show its era: `initialize` waits until the child
//! has responded to the probe, or has read it and stays silent. A late modern response replaces that of `initialize`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, ProtocolVersion,
    RequestId, ServerJsonRpcMessage, ServerResult,
};
use tokio::time::{Instant, sleep_until};

use super::unread_input::WeakUnreadInput;
use crate::mcp::message::server_info;
use crate::mcp::requests::connection_state::ConnectionState;

/// The limits on the wait for a response to `server/discover`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProbeLimits {
    /// The time for the response. Some legacy servers ignore all messages before `initialize`.
    pub(crate) timeout: Duration,
    /// The time for the response of a child that reads the probe later than that, and the further time without a
    /// fallback.
    pub(crate) late_timeout: Duration,
    pub(crate) fallback: ProbeFallback,
}

/// What rmcp does if the probe fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProbeFallback {
    /// It sends `initialize`.
    Initialize,
    /// It gives up.
    None,
}

/// The probe of one connection.
pub(super) struct Probe {
    limits: ProbeLimits,
    progress: ProbeProgress,
    state: Arc<ConnectionState>,
    input: WeakUnreadInput,
}

#[derive(Debug)]
enum ProbeProgress {
    /// The probe was not sent, or nothing more depends on it.
    Settled,
    /// Its response may arrive until the deadline. Without a fallback, the deadline is extended once.
    Sent { id: RequestId, deadline: Instant, is_extended: bool },
    /// rmcp received an error in place of the response, while the child had not read the probe.
    Unread { id: RequestId },
    /// `initialize` waits for the child. The deadline is set once the child has read the probe.
    Holding { id: RequestId, initialize: Box<ClientJsonRpcMessage>, deadline: Option<Instant> },
    /// rmcp received the late response as the response to `initialize`, which was never written.
    Replaced,
}

/// What follows a message or a timeout.
#[derive(Debug)]
pub(super) enum ProbeAction {
    /// Nothing.
    Wait,
    /// rmcp receives this message.
    Deliver(Box<ServerJsonRpcMessage>),
    /// The child gets this message.
    Write(Box<ClientJsonRpcMessage>),
}

impl Probe {
    /// Creates the probe of a connection to the child that reads `input`.
    pub(super) fn new(limits: ProbeLimits, state: Arc<ConnectionState>, input: WeakUnreadInput) -> Self {
        Self { limits, progress: ProbeProgress::Settled, state, input }
    }

    /// Observes a message of rmcp before it is written. Returns `None` if it is not written, or not now.
    pub(super) fn intercept_outgoing(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        match (&message, &self.progress) {
            (JsonRpcMessage::Request(request), ProbeProgress::Unread { id })
                if matches!(request.request, ClientRequest::InitializeRequest(_)) =>
            {
                let (id, initialize) = (id.clone(), Box::new(message));
                self.progress = ProbeProgress::Holding { id, initialize, deadline: None };
                None
            }
            (JsonRpcMessage::Request(request), _) if matches!(request.request, ClientRequest::DiscoverRequest(_)) => {
                let deadline = Instant::now() + self.limits.timeout;
                let is_extended = self.limits.fallback == ProbeFallback::Initialize;
                self.progress = ProbeProgress::Sent { id: request.id.clone(), deadline, is_extended };
                Some(message)
            }
            (JsonRpcMessage::Notification(notification), ProbeProgress::Replaced)
                if matches!(notification.notification, ClientNotification::InitializedNotification(_)) =>
            {
                self.progress = ProbeProgress::Settled;
                None
            }
            _ => Some(message),
        }
    }

    /// Observes a message of the child before rmcp receives it.
    pub(super) fn intercept_incoming(&mut self, message: ServerJsonRpcMessage) -> ProbeAction {
        let answered = match &message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
        };
        match std::mem::replace(&mut self.progress, ProbeProgress::Settled) {
            ProbeProgress::Sent { id, .. } if answered == Some(&id) => ProbeAction::Deliver(Box::new(message)),
            ProbeProgress::Holding { id, initialize, .. } if answered == Some(&id) => {
                match late_response(message, &initialize) {
                    Some(response) => {
                        self.progress = ProbeProgress::Replaced;
                        self.state.requests.remove_answered(&response);
                        ProbeAction::Deliver(Box::new(response))
                    }
                    None => ProbeAction::Write(initialize),
                }
            }
            unchanged => {
                self.progress = unchanged;
                ProbeAction::Deliver(Box::new(message))
            }
        }
    }

    /// Waits until the time for the response is over. Never returns if nothing is awaited. Cancel-safe.
    pub(super) async fn wait_for_timeout(&mut self) {
        match &mut self.progress {
            ProbeProgress::Sent { deadline, is_extended, .. } => {
                sleep_until(*deadline).await;
                if !*is_extended {
                    // Nothing else can be tried, and the child may have read the probe only now.
                    self.input.wait_until_read().await;
                    *is_extended = true;
                    *deadline = Instant::now() + self.limits.late_timeout;
                    sleep_until(*deadline).await;
                }
            }
            ProbeProgress::Holding { deadline, .. } => {
                if deadline.is_none() {
                    self.input.wait_until_read().await;
                }
                sleep_until(*deadline.get_or_insert_with(|| Instant::now() + self.limits.late_timeout)).await;
            }
            ProbeProgress::Settled | ProbeProgress::Unread { .. } | ProbeProgress::Replaced => {
                std::future::pending().await
            }
        }
    }

    /// Gives up waiting for the response.
    pub(super) fn time_out(&mut self) -> ProbeAction {
        match std::mem::replace(&mut self.progress, ProbeProgress::Settled) {
            // The response is about to be delivered.
            ProbeProgress::Sent { id, .. } if !self.state.requests.is_open(&id) => ProbeAction::Wait,
            ProbeProgress::Sent { id, .. } => {
                if self.input.has_unread() {
                    self.progress = ProbeProgress::Unread { id: id.clone() };
                } else {
                    self.state.requests.remove(&id);
                }
                let silence = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "`server/discover` was not answered", None);
                ProbeAction::Deliver(Box::new(ServerJsonRpcMessage::error(silence, Some(id))))
            }
            ProbeProgress::Holding { id, initialize, .. } => {
                self.state.requests.remove(&id);
                // A child that starts so slowly may also respond slowly.
                self.state.probe_failed.store(true, Ordering::Relaxed);
                ProbeAction::Write(initialize)
            }
            unchanged => {
                self.progress = unchanged;
                ProbeAction::Wait
            }
        }
    }
}

/// Returns the response to `initialize` with the contents of a late response to the probe, if that is modern.
fn late_response(message: ServerJsonRpcMessage, initialize: &ClientJsonRpcMessage) -> Option<ServerJsonRpcMessage> {
    let (JsonRpcMessage::Response(response), JsonRpcMessage::Request(initialize)) = (message, initialize) else {
        return None;
    };
    match response.result {
        ServerResult::DiscoverResult(result) if result.supported_versions.contains(&ProtocolVersion::V_2026_07_28) => {
            let result = server_info::as_initialize_result(result);
            Some(ServerJsonRpcMessage::response(ServerResult::InitializeResult(result), initialize.id.clone()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
