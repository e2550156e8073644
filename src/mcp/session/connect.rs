//! Connects to one agent: opens the transport, does the handshake of its era, and lists its tools.
#![expect(deprecated, reason = "log levels and roots are deprecated in 2026-07-28, and existing servers use them")]

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rmcp::model::{ProtocolVersion, SetLevelRequestParams};
use rmcp::transport::Transport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransport;
use rmcp::{ClientHandler as _, ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceError};
use tokio::time::{Instant, timeout, timeout_at};

use super::catalog::{Catalog, ConnectionInfo};
use super::connect_error::{self, ConnectError, ConnectErrorKind};
use super::connection::Connection;
use super::handshakes::{Handshake, HandshakeSequence};
use super::server_cache::ServerFacts;
use super::{subscription, validation};
use crate::mcp::auth::authorizer::Authorizer;
use crate::mcp::options::UnreachablePolicy;
use crate::mcp::process::child::{Child, PipePurpose};
use crate::mcp::process::environment;
use crate::mcp::process::log::AgentLog;
use crate::mcp::requests::connection_state::ConnectionState;
use crate::mcp::requests::handler::AgentRequestHandler;
use crate::mcp::transport::call_transport::{CallTransport, Channel, logging_level};
use crate::mcp::transport::endpoint::HttpEndpoint;
use crate::mcp::transport::http::HttpClient;
use crate::mcp::transport::http_channel::HttpChannel;
use crate::mcp::transport::http_response::HttpError;
use crate::mcp::transport::http_sse::HttpSseTransport;
use crate::mcp::transport::request_failure::from_service;
use crate::mcp::transport::service_transport::{IdMappingTransport, MergedTransport};
use crate::mcp::transport::stdio::pipes::{ChildPipes, StdioTransport};
use crate::mcp::transport::stdio::probe::{ProbeFallback, ProbeLimits};
use crate::mcp::transport::stdio::unread_input::UnreadInput;
use crate::model::{AgentSpec, ChildProcess, ConnectionTransport, Failure, FailureKind, HumanDuration, Installation};

/// The longest time that the probe for the modern era waits. It is below rmcp's own limit of ten seconds, after which
/// rmcp treats even our synthetic response as a broken handshake.
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(9);
/// The time for the response to the probe once a child that starts slowly has read it.
const LATE_PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The time for setting the log level; nothing waits for it.
const SET_LEVEL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for the handshake of a child that may have installed a package first, from when it reads its input.
const INSTALLED_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// The time after which a start that may install a package is reported. A start without an installation takes less.
const INSTALLATION_REPORT_DELAY: Duration = Duration::from_secs(2);

/// The parameters of a new connection.
pub(crate) struct ConnectRequest<'a> {
    pub(crate) spec: &'a Arc<AgentSpec>,
    pub(crate) state: Arc<ConnectionState>,
    /// The reaction if no server listens.
    pub(crate) unreachable: UnreachablePolicy,
    /// What is known about the server.
    pub(crate) facts: Option<ServerFacts>,
    /// The tokens of the agent, unless its agents file has a fixed one.
    pub(crate) authorizer: Option<Arc<Authorizer>>,
}

/// Starts `process` for the agent.
///
/// # Errors
/// Returns [`FailureKind::AgentUnavailable`] with the error of the system.
pub(crate) fn start_child(
    spec: &AgentSpec,
    process: &ChildProcess,
    log: &Arc<AgentLog>,
    purpose: PipePurpose,
) -> Result<(Arc<Child>, Option<ChildPipes>), Failure> {
    let (child, pipes) = Child::spawn(process, log.clone(), purpose).map_err(|error| {
        let message = format!("agent `{}`: `{}` cannot be started: {error}", spec.id, process.command);
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => match split_command(&process.command) {
                Some(keys) => format!("`command` is only the program; write {keys}"),
                None => "check that it is installed and in `PATH`, and that `cwd` is right".to_owned(),
            },
            std::io::ErrorKind::PermissionDenied => "check that it is executable".to_owned(),
            _ => "check that it starts in a shell".to_owned(),
        };
        Failure::new(FailureKind::AgentUnavailable, message).with_help(help)
    })?;
    Ok((Arc::new(child), pipes))
}

/// Suggests how to split a `command` that contains its arguments.
fn split_command(command: &str) -> Option<String> {
    let mut parts = command.split_whitespace();
    let program = parts.next()?;
    let arguments: Vec<_> = parts.map(|word| format!("{word:?}")).collect();
    (!arguments.is_empty()).then(|| format!("`command = {program:?}` and `args = [{}]`", arguments.join(", ")))
}

/// Connects to a child over its pipes.
///
/// Restarts a child that exits or stalls during the handshake: first in the other era, since the probe crashes some
/// legacy servers, and then a few times for transient failures.
pub(crate) async fn connect_stdio<'a>(
    request: impl Fn() -> ConnectRequest<'a>,
    process: &ChildProcess,
    log: &Arc<AgentLog>,
) -> Result<Connection, Failure> {
    let mut next = request();
    let deadline = Instant::now() + next.spec.max_startup();
    let known_era = next.facts.as_ref().map(|facts| facts.era);
    let mut handshakes = HandshakeSequence::new(next.spec.protocol, known_era);
    loop {
        let ConnectError { failure, kind } = match try_connect_stdio(next, &handshakes, (process, log), deadline).await
        {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match handshakes.next_delay(kind, None) {
            Some(delay) if Instant::now() + delay < deadline => tokio::time::sleep(delay).await,
            Some(_) | None => return Err(failure),
        }
        next = request();
        tracing::debug!(agent = %next.spec.id, %failure, handshake = ?handshakes.current(), "the agent is restarted");
    }
}

/// Starts a child and connects to it with the current handshake of `handshakes`.
async fn try_connect_stdio(
    request: ConnectRequest<'_>,
    handshakes: &HandshakeSequence,
    (process, log): (&ChildProcess, &Arc<AgentLog>),
    deadline: Instant,
) -> Result<Connection, ConnectError> {
    let spec = request.spec.clone();
    let (child, pipes) = start_child(&spec, process, log, PipePurpose::Protocol)?;
    let no_pipes = || Failure::new(FailureKind::AgentUnavailable, format!("`{}` has no pipes", process.command));
    let pipes = pipes.ok_or_else(no_pipes)?;
    let remaining = deadline.saturating_duration_since(Instant::now());
    let fallback = match handshakes.current() {
        Handshake::Discover => ProbeFallback::None,
        Handshake::Detect | Handshake::Initialize | Handshake::HttpSse => ProbeFallback::Initialize,
    };
    let probe_limits = ProbeLimits { timeout: probe_timeout(remaining), late_timeout: LATE_PROBE_TIMEOUT, fallback };
    let (transport, unread) = StdioTransport::new(pipes, request.state.clone(), log.clone(), probe_limits);
    let input = transport.input();
    let channel = |_: &ProtocolVersion| Channel::Pipe(input);
    let timed_out = || startup_timeout_failure(&spec, "did not finish the handshake", spec.max_startup());
    let started_late =
        || startup_timeout_failure(&spec, "started, but did not finish the handshake", spec.startup_timeout);
    let state = request.state.clone();
    let connected = {
        let handshake = handshakes.current();
        let mut connecting =
            pin!(handshake_and_list_tools(request, handshake, transport, channel, Some(child.clone())));
        let stalled = async {
            match (handshakes.has_alternative(), process.installation()) {
                (false, _) => std::future::pending().await,
                (true, Some(_)) => {
                    unread.wait_until_read().await;
                    tokio::time::sleep(INSTALLED_HANDSHAKE_TIMEOUT).await;
                }
                (true, None) => {
                    // A third of the time is reserved for the alternative.
                    tokio::time::sleep(remaining / 3 * 2).await;
                    if unread.has_unread() {
                        // The child is still starting, and a restart would take as long.
                        std::future::pending::<()>().await;
                    }
                }
            }
        };
        let late = async {
            if spec.installation_timeout > Duration::ZERO {
                unread.wait_until_read().await;
                tokio::time::sleep(spec.startup_timeout).await;
            } else {
                std::future::pending().await
            }
        };
        tokio::select! {
            connected = timeout_at(deadline, &mut connecting) => {
                connected.unwrap_or_else(|_| Err(timed_out().into()))
            }
            () = late => Err(started_late().into()),
            () = stalled => Err(ConnectError { failure: timed_out(), kind: ConnectErrorKind::Handshake }),
            never = report_installation(process, &spec, &state, &unread) => match never {},
        }
    };
    drop(unread);
    match connected {
        Ok(connection) => Ok(connection),
        Err(mut error) => {
            error.failure.message = format!("{}; {}", error.failure.message, child.exit_report().await);
            child.shut_down().await;
            Err(error)
        }
    }
}

/// Reports once that the child may still be installing what it is to run, and never returns.
async fn report_installation(
    process: &ChildProcess,
    spec: &AgentSpec,
    state: &ConnectionState,
    unread: &UnreadInput,
) -> Infallible {
    tokio::time::sleep(INSTALLATION_REPORT_DELAY).await;
    if let Some(Installation { program, package }) = process.installation()
        && unread.has_unread()
    {
        let package = package.map_or_else(|| "what it runs".to_owned(), |package| format!("`{package}`"));
        let limit = HumanDuration(spec.max_startup());
        state.inform(format!("still starting: `{program}` is probably installing {package} (limit: {limit})"));
    }
    std::future::pending().await
}

/// Returns the failure of an agent that exceeded its startup timeout.
fn startup_timeout_failure(spec: &AgentSpec, what: &str, limit: Duration) -> Failure {
    let limit = HumanDuration(limit);
    let message = format!("agent `{}` {what} within {limit}", spec.id);
    let help = format!(
        "raise `startup_timeout` of `[agents.{}]` (now {limit}); a first start that downloads packages can take \
         minutes",
        spec.id
    );
    let failure = Failure::new(FailureKind::AgentUnavailable, message).with_help(help);
    match spec.transport.child_process().and_then(environment::describe_missing) {
        Some(missing) => failure.with_additional_help(missing),
        None => failure,
    }
}

/// Connects over Streamable HTTP, or HTTP+SSE of 2024-11-05.
///
/// Retries a server that does not listen or is not ready, after the delay that it requests, until the startup timeout.
/// A `server` that the host started must also still be running.
pub(crate) async fn connect_http<'a>(
    request: impl Fn() -> ConnectRequest<'a>,
    endpoint: &HttpEndpoint,
    server: Option<Arc<Child>>,
) -> Result<Connection, ConnectError> {
    let first = request();
    let spec = first.spec.clone();
    let fails_at_once = server.is_none() && first.unreachable == UnreachablePolicy::Fail;
    let deadline = Instant::now() + spec.max_startup();
    let mut handshakes = first_http_handshakes(&first, endpoint).with_local_server(server.is_some());
    drop(first);
    let attempts = async {
        let mut latest: Option<ConnectError> = None;
        loop {
            let attempt = try_connect_http(request(), handshakes.current(), endpoint, &server);
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => return Err(startup_timeout_error(&spec, endpoint, latest)),
            };
            if fails_at_once && error.kind == ConnectErrorKind::NotListening {
                return Err(error);
            }
            match handshakes.next_delay(error.kind, error.failure.retry_after.map(|span| span.0)) {
                Some(delay) if Instant::now() + delay < deadline => {
                    tracing::debug!(agent = %spec.id, failure = %error.failure, ?delay, "the connection is retried");
                    latest = Some(error);
                    tokio::time::sleep(delay).await;
                }
                Some(_) if matches!(error.kind, ConnectErrorKind::NotListening | ConnectErrorKind::NotReady) => {
                    return Err(startup_timeout_error(&spec, endpoint, Some(error)));
                }
                Some(_) | None => return Err(error),
            }
        }
    };
    let server_exit = async {
        match &server {
            Some(server) => server.wait_for_exit().await,
            None => std::future::pending().await,
        }
    };
    let unavailable = |what: String| {
        ConnectError::from(Failure::new(FailureKind::AgentUnavailable, format!("agent `{}` {what}", spec.id)))
    };
    let connected = tokio::select! {
        connected = attempts => connected,
        () = server_exit => Err(unavailable("could not be reached: its server ended".to_owned())),
    };
    match (connected, server) {
        (Err(mut error), Some(server)) => {
            error.failure.message = format!("{}; {}", error.failure.message, server.exit_report().await);
            Err(error)
        }
        // The response came from another process: the host's own server has exited.
        (Ok(connection), Some(server)) if server.has_exited() => {
            connection.close().await;
            Err(unavailable(format!("could not be reached; {}", server.exit_report().await)))
        }
        (connected, _) => connected,
    }
}

/// Returns the handshakes for a server at `endpoint`. HTTP+SSE is tried first where the server spoke it before, or where
/// its address is the usual one of that transport.
fn first_http_handshakes(request: &ConnectRequest<'_>, endpoint: &HttpEndpoint) -> HandshakeSequence {
    let known_era = request.facts.as_ref().map(|facts| facts.era);
    let handshakes = HandshakeSequence::new(request.spec.protocol, known_era);
    let expects_http_sse = match &request.facts {
        Some(facts) => facts.transport == ConnectionTransport::HttpSse,
        None => endpoint.url.path().trim_end_matches('/').ends_with("/sse"),
    };
    // Only Streamable HTTP has sessions that can be resumed.
    let is_resumed = request.state.session.resumed_handshake().is_some();
    if expects_http_sse && !is_resumed { handshakes.with_http_sse_first() } else { handshakes }
}

async fn try_connect_http(
    request: ConnectRequest<'_>,
    handshake: Handshake,
    endpoint: &HttpEndpoint,
    server: &Option<Arc<Child>>,
) -> Result<Connection, ConnectError> {
    let state = request.state.clone();
    let limit = probe_timeout(request.spec.startup_timeout);
    let client = HttpClient::new(endpoint.client.clone(), state.clone(), limit)
        .with_authorizer(request.authorizer.clone())
        .with_protocol(request.spec.protocol);
    if handshake == Handshake::HttpSse {
        let opened = timeout(limit, HttpSseTransport::open(client, endpoint)).await;
        let opened = opened.unwrap_or_else(|_| Err(HttpError::NotMcp("no `endpoint` event arrived".to_owned())));
        let transport = opened.map_err(|error| ConnectError::from_http(request.spec, &error))?;
        let sender = transport.sender();
        let channel = |_: &ProtocolVersion| Channel::HttpSse(sender);
        return handshake_and_list_tools(request, handshake, transport, channel, server.clone()).await;
    }
    let (channel, side_messages) = HttpChannel::new(client.clone(), endpoint);
    let inner = StreamableHttpClientTransport::with_client(client, endpoint.transport_config());
    let transport = MergedTransport { inner, side_messages, state };
    let channel = |version: &ProtocolVersion| Channel::Http(channel.with_version(version));
    handshake_and_list_tools(request, handshake, transport, channel, server.clone()).await
}

/// Returns the error for an agent whose startup timeout ends before the next attempt may start.
fn startup_timeout_error(spec: &AgentSpec, endpoint: &HttpEndpoint, latest: Option<ConnectError>) -> ConnectError {
    let limit = spec.max_startup();
    let what = format!("at `{}` did not finish connecting", endpoint.display_url);
    let mut late = startup_timeout_failure(spec, &what, limit);
    let Some(ConnectError { failure, kind }) = latest else { return late.into() };
    // The agent is already named in the outer message.
    let prefix = format!("agent `{}`: ", spec.id);
    let reason = failure.message.strip_prefix(&prefix).unwrap_or(&failure.message);
    late.message = format!("{}: {reason}", late.message);
    if let (Some(help), Some(more)) = (&failure.help, late.help.take()) {
        late.help = Some(format!("{help}; {more}"));
    }
    ConnectError { failure: Failure { kind: failure.kind, retry_after: failure.retry_after, ..late }, kind }
}

/// Does the handshake and lists the tools. `channel` returns the channel for calls in the negotiated version.
async fn handshake_and_list_tools<T>(
    request: ConnectRequest<'_>,
    handshake: Handshake,
    transport: T,
    channel: impl FnOnce(&ProtocolVersion) -> Channel,
    child: Option<Arc<Child>>,
) -> Result<Connection, ConnectError>
where
    T: Transport<RoleClient> + 'static,
{
    let ConnectRequest { spec, state, facts, .. } = request;
    validation::warm_up();
    let handler = AgentRequestHandler::new(state.clone());
    let is_resumed = state.session.resumed_handshake().is_some();
    let transport = IdMappingTransport::new(transport, state.clone());
    // The transport answers the handshake of a resumed session itself.
    let handshake = if is_resumed { Handshake::Initialize } else { handshake };
    let handshaking = Box::pin(handler.serve_with_lifecycle(transport, lifecycle(handshake)));
    let service = handshaking.await.map_err(|error| ConnectError::from_handshake(spec, &error))?;
    let peer = service.peer().clone();
    let info = peer.peer_info();
    let version = info.as_ref().map(|info| info.protocol_version.clone()).unwrap_or_default();
    let modern = !version.has_initialize();
    if !modern && !is_resumed && info.is_some_and(|info| info.capabilities.logging.is_some()) {
        let peer = peer.clone();
        let level = logging_level(state.log_level());
        tokio::spawn(async move {
            let level = peer.set_level(SetLevelRequestParams::new(level));
            if let Ok(Err(error)) = tokio::time::timeout(SET_LEVEL_TIMEOUT, level).await {
                tracing::debug!(%error, "an agent rejected the log level");
            }
        });
    }
    if is_resumed && !spec.roots.is_empty() {
        // The agents file may have other roots than when the session began.
        let peer = peer.clone();
        tokio::spawn(async move {
            if let Err(error) = peer.notify_roots_list_changed().await {
                tracing::debug!(%error, "an agent could not be notified of its roots");
            }
        });
    }
    let announces_changes =
        peer.peer_info().and_then(|info| info.capabilities.tools.as_ref()?.list_changed) == Some(true);
    if modern && announces_changes {
        // Subscribes before listing, so that no change is missed between the two.
        tokio::spawn(subscription::watch_tools(peer.clone(), state.clone()));
    }
    let client = service.service().get_info();
    let transport = CallTransport::new(state.clone(), &client, &version, channel(&version));
    let quirks = facts.filter(|_| !modern).map(|facts| facts.quirks).unwrap_or_default();
    let about = ConnectionInfo { transport: transport.kind(), quirks };
    let listed = Catalog::list(&peer, spec, &about).await.and_then(|catalog| match &catalog.refusal {
        Some(error) if is_resumed => Err(ServiceError::McpError(error.clone())),
        _ => Ok(catalog),
    });
    let catalog = listed.map_err(|error| {
        let failure = from_service(&spec.id, &error);
        // Servers reject unknown sessions with arbitrary error messages. In a new session, the same error would be
        // final.
        let is_session_lost = is_resumed
            && failure.as_ref().is_some_and(|failure| {
                matches!(failure.kind, FailureKind::SessionLost | FailureKind::Refused | FailureKind::ServerError)
            });
        let kind =
            if is_session_lost { ConnectErrorKind::SessionLost } else { connect_error::service_error_kind(&error) };
        let lost = || Failure::new(FailureKind::ConnectionLost, "the connection was lost");
        let mut failure = failure.unwrap_or_else(lost);
        failure.message = format!("agent `{}` did not list its tools: {}", spec.id, failure.message);
        ConnectError { failure: Failure { kind: FailureKind::AgentUnavailable, ..failure }, kind }
    })?;
    Ok(Connection {
        spec: spec.clone(),
        state,
        peer,
        transport,
        modern,
        about,
        catalog: Mutex::new(Arc::new(catalog)),
        service: tokio::sync::Mutex::new(service),
        child,
    })
}

/// Returns the timeout for `server/discover`; the rest of `remaining` is for `initialize`.
fn probe_timeout(remaining: Duration) -> Duration {
    (remaining / 2).min(MAX_PROBE_TIMEOUT)
}

fn lifecycle(handshake: Handshake) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match handshake {
        Handshake::Detect => ClientLifecycleMode::Auto {
            preferred_versions,
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        },
        Handshake::Initialize | Handshake::HttpSse => ClientLifecycleMode::Initialize,
        Handshake::Discover => ClientLifecycleMode::Discover { preferred_versions },
    }
}
