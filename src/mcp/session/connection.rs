//! Owns one open connection to an agent, and its catalog.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::service::RunningService;
use rmcp::{Peer, RoleClient};

use super::catalog::{Catalog, ConnectionInfo};
use super::server_cache::{Era, ServerFacts};
use crate::mcp::process::child::{Child, PipePurpose};
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::handler::AgentRequestHandler;
use crate::mcp::transport::call_transport::CallTransport;
use crate::model::{AgentSpec, ConnectionTransport, Failure, FailureKind, Protocol};

/// The time for rmcp to close a connection: end the session and write pending responses.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The interval at which a replaced connection checks whether its calls have ended.
const UNUSED_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// An open connection.
pub(crate) struct Connection {
    pub(crate) spec: Arc<AgentSpec>,
    pub(crate) state: Arc<ConnectionState>,
    pub(crate) peer: Peer<RoleClient>,
    /// The transport of calls.
    pub(crate) transport: CallTransport,
    /// True if the agent speaks 2026-07-28 or later, whose requests are self-contained.
    pub(crate) modern: bool,
    pub(super) about: ConnectionInfo,
    /// The latest catalog, replaced after each listing. Locked only for a clone or a replacement.
    pub(super) catalog: Mutex<Arc<Catalog>>,
    pub(super) service: tokio::sync::Mutex<RunningService<RoleClient, AgentRequestHandler>>,
    /// The process at the other end.
    pub(super) child: Option<Arc<Child>>,
}

impl Connection {
    /// Returns what the connection shows about the server, if that can be relied on later.
    pub(crate) fn facts(&self) -> Option<ServerFacts> {
        let transport = self.about.transport;
        let era = match (self.spec.protocol, self.modern) {
            // The era was configured, but not the transport.
            (Protocol::Legacy | Protocol::Modern, _) if transport != ConnectionTransport::HttpSse => return None,
            (_, true) => Era::Modern,
            // The probe failed for a reason unrelated to eras.
            (_, false) if self.state.probe_failed.load(Ordering::Relaxed) => return None,
            (_, false) => Era::Legacy,
        };
        Some(ServerFacts { quirks: self.about.quirks.clone(), ..ServerFacts::new(era, transport) })
    }

    /// Returns whether the requests of the agent identify their calls.
    pub(crate) fn identifies_calls(&self) -> bool {
        // In the modern era, requests arrive in the call's own result. Over Streamable HTTP, each call has its own
        // stream.
        self.modern || self.about.transport == ConnectionTransport::StreamableHttp
    }

    /// Returns whether another call can use the connection.
    pub(crate) fn is_usable(&self) -> bool {
        let has_exited = self.child.as_ref().is_some_and(|child| child.has_exited());
        let is_lost = self.state.lost.is_cancelled() || self.peer.is_transport_closed();
        !is_lost && !has_exited && !self.state.is_stale.load(Ordering::Relaxed)
    }

    /// Returns the tools as last listed.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.lock().clone()
    }

    /// Returns the tools, or `None` if they must be listed again: after an announced change, or if `tool` is missing.
    /// Announcements can get lost.
    pub(crate) fn catalog_with(&self, tool: &str) -> Option<Arc<Catalog>> {
        let catalog = self.catalog();
        let is_known = catalog.info.tool(tool).is_some() || !self.spec.is_tool_allowed(tool);
        (is_known && !self.state.tools_changed.load(Ordering::Relaxed)).then_some(catalog)
    }

    /// Returns the tools, listed again unless they have changed since `known`.
    ///
    /// # Errors
    /// Returns an error if the connection is lost meanwhile; no call was sent.
    pub(crate) async fn refresh_catalog(&self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let catalog = self.catalog();
        if !Arc::ptr_eq(&catalog, known) && !self.state.tools_changed.load(Ordering::Relaxed) {
            return Ok(catalog);
        }
        let changed = self.state.tools_changed.swap(false, Ordering::Relaxed);
        let listing =
            tokio::time::timeout(self.spec.startup_timeout, Catalog::list(&self.peer, &self.spec, &self.about));
        match listing.await {
            Ok(Ok(catalog)) => {
                let catalog = Arc::new(catalog);
                let earlier = std::mem::replace(&mut *self.catalog.lock(), catalog.clone());
                for warning in catalog.info.warnings.iter().filter(|new| !earlier.info.warnings.contains(new)) {
                    self.state.warn_rate_limited(warning);
                }
                Ok(catalog)
            }
            _ if !self.is_usable() => Err(self.lost_failure(false).await),
            _ => {
                tracing::warn!(agent = %self.spec.id, "the agent's tools could not be refreshed");
                self.state.tools_changed.store(changed, Ordering::Relaxed);
                Ok(catalog)
            }
        }
    }

    /// Returns the failure of a call whose connection was lost, or whose response stream ended early. `sent` states
    /// whether writing the request had begun.
    pub(crate) async fn lost_failure(&self, sent: bool) -> Failure {
        let id = &self.spec.id;
        if sent && self.is_usable() {
            // Over HTTP, each response has a stream of its own; other calls continue.
            let message = format!("agent `{id}` ended its response without a result");
            return Failure::new(FailureKind::ConnectionLost, message);
        }
        self.state.mark_stale();
        let (kind, when) = match sent {
            true => (FailureKind::ConnectionLost, "before the response"),
            false => (FailureKind::NotSent, "before the call was written"),
        };
        let message = format!("the connection to agent `{id}` was lost {when}");
        match &self.child {
            Some(child) => Failure::new(kind, format!("{message}: {}", child.exit_report().await)),
            None => Failure::new(kind, message),
        }
    }

    /// Returns whether calls still wait for responses over the connection.
    pub(super) fn has_calls(&self) -> bool {
        let can_continue =
            !self.state.lost.is_cancelled() && !self.child.as_ref().is_some_and(|child| child.has_exited());
        can_continue && self.state.calls.first_open()[0].is_some()
    }

    /// Closes a replaced connection when its calls have ended.
    pub(super) async fn close_when_unused(self: Arc<Self>) {
        while self.has_calls() {
            tokio::time::sleep(UNUSED_POLL_INTERVAL).await;
        }
        self.close().await;
    }

    /// Closes the connection. Also shuts down a child that is connected over its pipes.
    pub(crate) async fn close(&self) {
        self.state.mark_stale();
        // Pending requests of the agent are withdrawn; otherwise rmcp would wait for their answers.
        self.state.lost.cancel();
        let mut service = self.service.lock().await;
        if let Err(error) = service.close_with_timeout(CLOSE_TIMEOUT).await {
            tracing::warn!(agent = %self.spec.id, %error, "the connection did not end cleanly");
        }
        if let Some(child) = self.child.as_ref().filter(|child| child.pipes == PipePurpose::Protocol) {
            child.shut_down().await;
        }
    }
}
