//! Makes a connection to one agent: its transport, the handshake of its era, its catalogue.
//! Never keeps more than one, and never makes another by itself.
#![expect(deprecated, reason = "log levels are deprecated in 2026-07-28, and existing servers use them")]

use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use backon::{ExponentialBuilder, Retryable as _};
use rmcp::{
    ClientHandler as _, ClientLifecycleMode, ClientServiceExt as _, Peer, RoleClient,
    model::{LoggingLevel, ProtocolVersion, SetLevelRequestParams},
    service::{ClientInitializeError, RunningService},
    transport::{Transport as Carrier, streamable_http_client::StreamableHttpClientTransport},
};

use super::{
    Options,
    catalog::Catalog,
    child::{Child, Pipes},
    endpoint::Endpoint,
    failure,
    handler::Handler,
    http::HttpClient,
    http_calls::HttpCalls,
    link::Link,
    lock,
    log::AgentLog,
    stdio::Stdio,
    watched::{Watched, WithAside},
    wire::{Way, Wire},
};
use crate::model::{AgentSpec, ChildProcess, Failure, FailureKind, Protocol};

/// How long rmcp may take to end a connection: a session is given back, an answer is written.
const CLOSE_GRACE: Duration = Duration::from_millis(1_500);
/// The longest that the probe for the modern era waits: less than rmcp's own limit of ten seconds. After that limit, rmcp
/// takes an answer to the probe, ours included, for a broken handshake.
const LONGEST_PROBE: Duration = Duration::from_secs(9);
/// How long setting the log level may take; nothing waits for it.
const SET_LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// An open connection.
pub(super) struct Connection {
    pub(super) spec: Arc<AgentSpec>,
    pub(super) link: Arc<Link>,
    pub(super) peer: Peer<RoleClient>,
    /// The way of calls.
    pub(super) wire: Wire,
    /// Whether requests carry everything themselves: 2026-07-28 and later.
    pub(super) modern: bool,
    /// Replaced when the agent announces another list; held for a clone.
    catalog: Mutex<Arc<Catalog>>,
    service: tokio::sync::Mutex<RunningService<RoleClient, Handler>>,
    /// The process at the other end, and how it is spoken with.
    child: Option<(Arc<Child>, Pipes)>,
}

/// What a connection is made with.
pub(super) struct Opening<'a> {
    pub(super) spec: &'a Arc<AgentSpec>,
    pub(super) link: Arc<Link>,
    pub(super) options: &'a Options,
}

/// Why there is no connection.
pub(super) struct NotOpened {
    pub(super) failure: Failure,
    pub(super) reason: Reason,
}

/// What to make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody listens at the address, which may change while a server comes up.
    NobodyListens,
    /// The session of an earlier process is gone.
    SessionLost,
    Other,
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self { failure, reason: Reason::Other }
    }
}

/// Starts `process` for the agent.
///
/// # Errors
/// [`FailureKind::AgentUnavailable`] with what the system said.
pub(super) fn start(
    spec: &AgentSpec,
    process: &ChildProcess,
    log: &Arc<AgentLog>,
    pipes: Pipes,
) -> Result<(Arc<Child>, Option<super::stdio::Ends>), Failure> {
    let (child, ends) = Child::spawn(process, log.clone(), pipes).map_err(|error| {
        let message = format!("agent `{}`: `{}` cannot be started: {error}", spec.id, process.command);
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => "is it installed and in `PATH`, and is `cwd` right?",
            std::io::ErrorKind::PermissionDenied => "is it executable?",
            _ => "does it start by hand?",
        };
        Failure::new(FailureKind::AgentUnavailable, message).with_help(help)
    })?;
    Ok((Arc::new(child), ends))
}

/// Connects to a child over its pipes.
pub(super) async fn over_stdio(
    opening: Opening<'_>,
    process: &ChildProcess,
    log: &Arc<AgentLog>,
) -> Result<Connection, Failure> {
    let (child, ends) = start(opening.spec, process, log, Pipes::Protocol)?;
    let no_pipes = || Failure::new(FailureKind::AgentUnavailable, format!("`{}` has no pipes", process.command));
    let probe_timeout = probe_timeout(opening.spec);
    let carrier = Stdio::new(ends.ok_or_else(no_pipes)?, opening.link.clone(), log.clone(), probe_timeout);
    let limit = opening.spec.startup_timeout;
    let id = opening.spec.id.clone();
    let lines = carrier.lines();
    let opened = open(opening, carrier, |_| Way::Pipe(lines), Some((child.clone(), Pipes::Protocol)));
    let opened = match tokio::time::timeout(limit, opened).await {
        Ok(opened) => opened.map_err(|error| error.failure),
        Err(_) => Err(Failure::new(
            FailureKind::AgentUnavailable,
            format!("agent `{id}` did not finish the handshake within {limit:?}"),
        )),
    };
    match opened {
        Ok(connection) => Ok(connection),
        Err(mut failure) => {
            failure.message = format!("{}; {}", failure.message, child.obituary().await);
            Err(failure)
        }
    }
}

/// Connects over Streamable HTTP. With a `server` of the host's own, a refused connection is tried again until the
/// server listens, has ended, or the startup timeout is over.
pub(super) async fn over_http<'a>(
    opening: impl Fn() -> Opening<'a>,
    endpoint: &Endpoint,
    server: Option<Arc<Child>>,
) -> Result<Connection, NotOpened> {
    let (limit, id) = (endpoint.startup_timeout, &endpoint.agent);
    let attempt = || async {
        let opening = opening();
        let client = HttpClient::new(endpoint.client.clone(), opening.link.clone(), probe_timeout(opening.spec));
        let (calls, aside) = HttpCalls::new(client.clone(), opening.link.clone(), endpoint);
        let carrier = StreamableHttpClientTransport::with_client(client, endpoint.config());
        let carrier = WithAside { carrier, aside, link: opening.link.clone() };
        let way = |version: &ProtocolVersion| Way::Http(calls.agreed(version));
        open(opening, carrier, way, server.clone().map(|server| (server, Pipes::Log))).await
    };
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(250))
        .without_max_times();
    let own_server = server.is_some();
    let attempts = attempt.retry(delays).when(|error: &NotOpened| own_server && error.reason == Reason::NobodyListens);
    let gone = async {
        match &server {
            Some(server) => server.ended().await,
            None => std::future::pending().await,
        }
    };
    let unavailable =
        |what: String| NotOpened::from(Failure::new(FailureKind::AgentUnavailable, format!("agent `{id}` {what}")));
    let opened = tokio::select! {
        opened = tokio::time::timeout(limit, attempts) => match opened {
            Ok(opened) => opened,
            Err(_) => Err(unavailable(format!("at `{}` did not finish connecting within {limit:?}", endpoint.shown))),
        },
        () = gone => Err(unavailable("could not be reached: its server ended".to_owned())),
    };
    match (opened, server) {
        (Err(mut error), Some(server)) => {
            error.failure.message = format!("{}; {}", error.failure.message, server.obituary().await);
            Err(error)
        }
        // Whoever answered, it was not the server that has ended.
        (Ok(connection), Some(server)) if server.has_ended() => {
            connection.close().await;
            Err(unavailable(format!("could not be reached; {}", server.obituary().await)))
        }
        (opened, _) => opened,
    }
}

/// Does the handshake and lists the tools; `way` is that of calls, by the version agreed on.
async fn open<T>(
    opening: Opening<'_>,
    carrier: T,
    way: impl FnOnce(&ProtocolVersion) -> Way,
    child: Option<(Arc<Child>, Pipes)>,
) -> Result<Connection, NotOpened>
where
    T: Carrier<RoleClient> + 'static,
{
    let Opening { spec, link, options } = opening;
    let handler = Handler::new(link.clone(), options);
    let is_resumed = link.session.handshake().is_some();
    let carrier = Watched::new(carrier, link.clone());
    // The handshake of a session that is there already is answered by the transport.
    let protocol = if is_resumed { Protocol::Legacy } else { spec.protocol };
    let handshake = Box::pin(handler.serve_with_lifecycle(carrier, lifecycle(protocol)));
    let service = handshake.await.map_err(|error| not_opened(spec, &error))?;
    let peer = service.peer().clone();
    let info = peer.peer_info();
    let version = info.as_ref().map(|info| info.protocol_version.clone()).unwrap_or_default();
    let modern = !version.has_initialize();
    if !modern && !is_resumed && info.is_some_and(|info| info.capabilities.logging.is_some()) {
        let peer = peer.clone();
        tokio::spawn(async move {
            let level = peer.set_level(SetLevelRequestParams::new(LoggingLevel::Info));
            if let Ok(Err(error)) = tokio::time::timeout(SET_LEVEL_TIMEOUT, level).await {
                tracing::debug!(%error, "an agent did not take the log level");
            }
        });
    }
    let catalog = Catalog::list(&peer, spec).await.map_err(|error| {
        let failure = failure::service(&spec.id, &error);
        // A server may refuse a session that it does not know in any words; in a session of its own it may not.
        let is_session_lost = is_resumed
            && failure.as_ref().is_some_and(|failure| {
                matches!(failure.kind, FailureKind::SessionLost | FailureKind::Refused | FailureKind::ServerError)
            });
        let said = failure.map_or_else(|| "the connection was lost".to_owned(), |failure| failure.message);
        let message = format!("agent `{}` did not list its tools: {said}", spec.id);
        let failure = Failure::new(FailureKind::AgentUnavailable, message);
        NotOpened { failure, reason: if is_session_lost { Reason::SessionLost } else { Reason::Other } }
    })?;
    let wire = Wire::new(link.clone(), &service.service().get_info(), &version, way(&version));
    Ok(Connection {
        spec: spec.clone(),
        link,
        peer,
        wire,
        modern,
        catalog: Mutex::new(Arc::new(catalog)),
        service: tokio::sync::Mutex::new(service),
        child,
    })
}

fn not_opened(spec: &AgentSpec, error: &ClientInitializeError) -> NotOpened {
    let failure = failure::handshake(&spec.id, error).unwrap_or_else(|| {
        let message = format!("agent `{}` closed the connection during the handshake", spec.id);
        Failure::new(FailureKind::AgentUnavailable, message)
    });
    NotOpened { failure, reason: if failure::nobody_listens(error) { Reason::NobodyListens } else { Reason::Other } }
}

/// How long a server has to answer `server/discover`; the rest of the startup timeout is for `initialize`.
fn probe_timeout(spec: &AgentSpec) -> Duration {
    (spec.startup_timeout / 2).min(LONGEST_PROBE)
}

fn lifecycle(protocol: Protocol) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match protocol {
        Protocol::Auto => ClientLifecycleMode::Auto {
            preferred_versions,
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        },
        Protocol::Legacy => ClientLifecycleMode::Initialize,
        Protocol::Modern => ClientLifecycleMode::Discover { preferred_versions },
    }
}

impl Connection {
    /// Whether another call can go over it.
    pub(super) fn is_usable(&self) -> bool {
        let gone = self.child.as_ref().is_some_and(|(child, _)| child.has_ended());
        let lost = self.link.lost.is_cancelled() || self.peer.is_transport_closed();
        !lost && !gone && !self.link.stale.load(Ordering::Relaxed)
    }

    /// The tools as last listed.
    pub(super) fn catalog(&self) -> Arc<Catalog> {
        lock(&self.catalog).clone()
    }

    /// The tools, unless they have to be listed again: the agent announced a change, or `tool` is not among them, since
    /// announcements get lost.
    pub(super) fn listed(&self, tool: &str) -> Option<Arc<Catalog>> {
        let catalog = self.catalog();
        let is_known = catalog.info.tool(tool).is_some() || !self.spec.allows(tool);
        (is_known && !self.link.tools_changed.load(Ordering::Relaxed)).then_some(catalog)
    }

    /// The tools, listed again unless somebody else has just done so.
    ///
    /// # Errors
    /// When the connection is lost meanwhile; nothing was sent.
    pub(super) async fn list(&self, tool: &str) -> Result<Arc<Catalog>, Failure> {
        if let Some(catalog) = self.listed(tool) {
            return Ok(catalog);
        }
        let catalog = self.catalog();
        let changed = self.link.tools_changed.swap(false, Ordering::Relaxed);
        let listing = tokio::time::timeout(self.spec.startup_timeout, Catalog::list(&self.peer, &self.spec));
        match listing.await {
            Ok(Ok(catalog)) => {
                let catalog = Arc::new(catalog);
                *lock(&self.catalog) = catalog.clone();
                Ok(catalog)
            }
            _ if !self.is_usable() => Err(self.lost(false).await),
            _ => {
                tracing::warn!(agent = %self.spec.id, "the agent's tools could not be listed again");
                self.link.tools_changed.store(changed, Ordering::Relaxed);
                Ok(catalog)
            }
        }
    }

    /// What there is to say of a call whose connection was lost, or whose response ended without an answer; `sent`
    /// says whether the request was being written at least.
    pub(super) async fn lost(&self, sent: bool) -> Failure {
        let id = &self.spec.id;
        if sent && self.is_usable() {
            // Over HTTP, each response has a stream of its own; the others go on.
            let message = format!("agent `{id}` ended its response before it answered");
            return Failure::new(FailureKind::ConnectionLost, message);
        }
        self.link.retire();
        let (kind, when) = match sent {
            true => (FailureKind::ConnectionLost, "before it answered"),
            false => (FailureKind::NotSent, "before the call was written"),
        };
        let message = format!("the connection to agent `{id}` was lost {when}");
        match &self.child {
            Some((child, _)) => Failure::new(kind, format!("{message}: {}", child.obituary().await)),
            None => Failure::new(kind, message),
        }
    }

    /// Ends the connection, and the child at its other end if it is spoken with over its pipes.
    pub(super) async fn close(&self) {
        self.link.retire();
        // Whatever the agent still asks is withdrawn; rmcp would wait for the answers.
        self.link.lost.cancel();
        let mut service = self.service.lock().await;
        if let Err(error) = service.close_with_timeout(CLOSE_GRACE).await {
            tracing::warn!(agent = %self.spec.id, %error, "the connection did not end cleanly");
        }
        if let Some((child, pipes @ Pipes::Protocol)) = &self.child {
            child.end(*pipes).await;
        }
    }
}
