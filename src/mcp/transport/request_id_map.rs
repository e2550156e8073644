//! Maps the request IDs of rmcp, which start at 0 on each connection, to those of the session.

use std::collections::HashMap;
use std::sync::Arc;

use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ClientRequest, GetExtensions as _, GetMeta as _, JsonRpcMessage,
    ProgressToken, RequestId, ServerJsonRpcMessage, ServerNotification,
};
use rmcp::service::InboundStreamOrigin;

use crate::mcp::message::request_id::id_number;
use crate::mcp::requests::connection_state::ConnectionState;

/// A map between rmcp's request IDs, which start at 0 on each connection, and those of the session. Layers closer to
/// the wire only use the session's IDs.
pub(crate) struct RequestIdMap {
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
    pub(crate) fn new(state: Arc<ConnectionState>) -> Self {
        Self { state, pending: HashMap::new() }
    }

    /// Maps the IDs of a message from rmcp to those of the session.
    pub(crate) fn outgoing(&mut self, message: &mut ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(outgoing) => {
                let id = self.state.session.next_id();
                let meta = outgoing.request.get_meta_mut();
                // rmcp's progress tokens could collide with those of calls.
                if meta.get_progress_token().is_some() {
                    meta.set_progress_token(ProgressToken(RequestId::Number(id)));
                }
                let local = std::mem::replace(&mut outgoing.id, RequestId::Number(id));
                let is_subscription = matches!(outgoing.request, ClientRequest::SubscriptionsListenRequest(_));
                self.pending.insert(id, LocalRequest { local_id: local, is_subscription });
            }
            JsonRpcMessage::Notification(outgoing) => {
                if let ClientNotification::CancelledNotification(cancelled) = &mut outgoing.notification
                    && let Some(id) = &mut cancelled.params.request_id
                    && let Some((request, _)) = self.pending.iter().find(|(_, request)| request.local_id == *id)
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
    pub(crate) fn incoming(&mut self, message: &mut ServerJsonRpcMessage) {
        match message {
            JsonRpcMessage::Response(response) => self.resolve(&mut response.id),
            JsonRpcMessage::Error(error) => {
                if let Some(id) = &mut error.id {
                    self.resolve(id);
                }
            }
            JsonRpcMessage::Request(incoming) => {
                if let Some(InboundStreamOrigin::OutboundRequest(id)) = incoming.request.extensions_mut().get_mut()
                    && let Some(request) = self.find(id)
                {
                    *id = request.local_id.clone();
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
                if let Some(request) = meta.subscription_id().and_then(|id| self.find(&id)) {
                    meta.set_subscription_id(request.local_id.clone());
                }
            }
        }
    }

    fn find(&self, id: &RequestId) -> Option<&LocalRequest> {
        self.pending.get(&id_number(id)?)
    }

    fn resolve(&mut self, id: &mut RequestId) {
        if let Some(request) = id_number(id).and_then(|id| self.pending.remove(&id)) {
            *id = request.local_id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use rmcp::model::{
        CallToolRequest, CallToolRequestParams, CancelledNotification, CancelledNotificationParam, ErrorData,
        ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerResult, SubscriptionFilter,
        SubscriptionsListenRequest, SubscriptionsListenRequestParams,
    };

    use super::*;
    use crate::mcp::samples;

    /// Returns the ID of a request of rmcp on the wire.
    fn sent(ids: &mut RequestIdMap, local: i64, request: impl Into<ClientRequest>) -> RequestId {
        let mut message = ClientJsonRpcMessage::request(request.into(), RequestId::Number(local));
        ids.outgoing(&mut message);
        let JsonRpcMessage::Request(request) = message else { unreachable!() };
        request.id
    }

    /// Returns the ID of the request that is cancelled on the wire when rmcp cancels `local`.
    fn sent_cancellation(ids: &mut RequestIdMap, local: i64) -> Option<RequestId> {
        let params = CancelledNotificationParam::new(Some(RequestId::Number(local)), None);
        let mut message = ClientJsonRpcMessage::notification(CancelledNotification::new(params).into());
        ids.outgoing(&mut message);
        match message {
            JsonRpcMessage::Notification(sent) => match sent.notification {
                ClientNotification::CancelledNotification(cancelled) => cancelled.params.request_id,
                _ => None,
            },
            _ => None,
        }
    }

    fn received(ids: &mut RequestIdMap, id: RequestId) -> RequestId {
        let mut message = ServerJsonRpcMessage::response(ServerResult::empty(()), id);
        ids.incoming(&mut message);
        let JsonRpcMessage::Response(response) = message else { unreachable!() };
        response.id
    }

    fn id_map(offset: i64) -> RequestIdMap {
        let state = samples::connection_state();
        state.session.next_request.store(offset, Ordering::Relaxed);
        RequestIdMap::new(state)
    }

    #[test]
    fn ids_are_mapped_in_both_directions() {
        let mut ids = id_map(1_003);
        let number = RequestId::Number;
        let tool = || CallToolRequest::new(CallToolRequestParams::new("t"));
        assert_eq!(sent(&mut ids, 3, tool()), number(1_003));
        // A call uses the next ID.
        assert_eq!(ids.state.session.next_id(), 1_004);
        assert_eq!(sent(&mut ids, 4, tool()), number(1_005));
        assert_eq!(sent_cancellation(&mut ids, 4), Some(number(1_005)));
        assert_eq!(received(&mut ids, RequestId::String("1003".into())), number(3));
        assert!(ids.pending.is_empty());
        let listen =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(SubscriptionFilter::default()));
        assert_eq!(sent(&mut ids, 6, listen), number(1_006));
        let params = ResourceUpdatedNotificationParam::new("job://1");
        let mut notification = ServerNotification::from(ResourceUpdatedNotification::new(params));
        notification.get_meta_mut().set_subscription_id(number(1_006));
        let mut notification = ServerJsonRpcMessage::notification(notification);
        ids.incoming(&mut notification);
        let JsonRpcMessage::Notification(notification) = notification else { unreachable!() };
        assert_eq!(notification.notification.get_meta().subscription_id(), Some(number(6)));
        assert_eq!(sent(&mut ids, 5, tool()), number(1_007));
        let mut refused = ServerJsonRpcMessage::error(ErrorData::internal_error("no", None), Some(number(1_007)));
        ids.incoming(&mut refused);
        assert!(matches!(refused, JsonRpcMessage::Error(error) if error.id == Some(number(5))));
    }

    /// Returns the ID of a request that the agent cancels, as rmcp receives it.
    fn received_cancellation(ids: &mut RequestIdMap, id: i64) -> Option<RequestId> {
        let params = CancelledNotificationParam::new(Some(RequestId::Number(id)), None);
        let mut message = ServerJsonRpcMessage::notification(CancelledNotification::new(params).into());
        ids.incoming(&mut message);
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
        let mut ids = id_map(7);
        let listen =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(SubscriptionFilter::default()));
        assert_eq!(sent(&mut ids, 0, CallToolRequest::new(CallToolRequestParams::new("t"))), RequestId::Number(7));
        assert_eq!(sent(&mut ids, 1, listen), RequestId::Number(8));
        let cancelled = [7, 8, 9].map(|id| received_cancellation(&mut ids, id));
        assert_eq!(cancelled, [7, 1, 9].map(|id| Some(RequestId::Number(id))));
    }
}
