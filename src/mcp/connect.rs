//! Makes a connection to one agent: its transport, the handshake of its era, its catalogue.
//! Never keeps more than one, and never makes another by itself.
#![expect(deprecated, reason = "log levels are deprecated in 2026-07-28, and existing servers use them")]

use std::{
    pin::pin,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rmcp::{
    ClientHandler as _, ClientLifecycleMode, ClientServiceExt as _, Peer, RoleClient,
    model::{LoggingLevel, ProtocolVersion, SetLevelRequestParams},
    service::{ClientInitializeError, RunningService},
    transport::{Transport as Carrier, streamable_http_client::StreamableHttpClientTransport},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Options, Unreachable,
    catalog::Catalog,
    child::{Child, Pipes},
    endpoint::Endpoint,
    era::Era,
    failure,
    handler::Handler,
    handshakes::{Handshakes, Reason},
    http::HttpClient,
    http_calls::HttpCalls,
    link::Link,
    lock,
    log::AgentLog,
    stdio::Stdio,
    subscription, validation,
    watched::{Watched, WithAside},
    wire::{Way, Wire},
};
use crate::model::{AgentSpec, ChildProcess, Failure, FailureKind, Protocol, Span};

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
    /// The era that the agent spoke before, if it is known.
    pub(super) era: Option<Era>,
}

/// Why there is no connection.
pub(super) struct NotOpened {
    pub(super) failure: Failure,
    pub(super) reason: Reason,
}

impl From<Failure> for NotOpened {
    fn from(failure: Failure) -> Self {
        Self { failure, reason: Reason::Final }
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
            std::io::ErrorKind::NotFound => match arguments_in(&process.command) {
                Some(keys) => format!("`command` is the program alone; write {keys}"),
                None => "is it installed and in `PATH`, and is `cwd` right?".to_owned(),
            },
            std::io::ErrorKind::PermissionDenied => "is it executable?".to_owned(),
            _ => "does it start by hand?".to_owned(),
        };
        Failure::new(FailureKind::AgentUnavailable, message).with_help(help)
    })?;
    Ok((Arc::new(child), ends))
}

/// Returns how to write a command that holds its arguments.
fn arguments_in(command: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    let program = words.next()?;
    let arguments: Vec<_> = words.map(|word| format!("{word:?}")).collect();
    (!arguments.is_empty()).then(|| format!("`command = {program:?}` and `args = [{}]`", arguments.join(", ")))
}

/// Connects to a child over its pipes. A child that ends or falls silent during the handshake is started again: in the
/// other era, since some legacy servers die of the probe, and a few times in case it was bad luck.
pub(super) async fn over_stdio<'a>(
    opening: impl Fn() -> Opening<'a>,
    process: &ChildProcess,
    log: &Arc<AgentLog>,
) -> Result<Connection, Failure> {
    let first = opening();
    let deadline = Instant::now() + first.spec.startup_timeout;
    let mut handshakes = Handshakes::new(first.spec.protocol, first.era);
    let mut next = first;
    loop {
        let NotOpened { failure, reason } = match once_over_stdio(next, &handshakes, (process, log), deadline).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        match handshakes.next(reason, None) {
            Some(pause) if Instant::now() + pause < deadline => tokio::time::sleep(pause).await,
            Some(_) | None => return Err(failure),
        }
        next = opening();
        tracing::debug!(agent = %next.spec.id, %failure, handshake = ?handshakes.current(), "the agent is started again");
    }
}

/// Starts a child and connects to it, with the current one of `handshakes`.
async fn once_over_stdio(
    opening: Opening<'_>,
    handshakes: &Handshakes,
    (process, log): (&ChildProcess, &Arc<AgentLog>),
    deadline: Instant,
) -> Result<Connection, NotOpened> {
    let spec = opening.spec.clone();
    let (child, ends) = start(&spec, process, log, Pipes::Protocol)?;
    let no_pipes = || Failure::new(FailureKind::AgentUnavailable, format!("`{}` has no pipes", process.command));
    let ends = ends.ok_or_else(no_pipes)?;
    let unread = Unread::of(&ends.0);
    let left = deadline.saturating_duration_since(Instant::now());
    let carrier = Stdio::new(ends, opening.link.clone(), log.clone(), probe_timeout(left));
    let lines = carrier.lines();
    let way = |_: &ProtocolVersion| Way::Pipe(lines);
    let opened = {
        let mut opened =
            pin!(open(opening, handshakes.current(), carrier, way, Some((child.clone(), Pipes::Protocol))));
        // With another handshake left, a part of the time is kept for it.
        match timeout(if handshakes.has_other() { left / 3 * 2 } else { left }, &mut opened).await {
            Ok(opened) => opened,
            // One that has not read yet is still starting, and another start would take as long.
            Err(_) if handshakes.has_other() && !unread.is_any() => {
                Err(NotOpened { failure: silent(&spec, "did not finish the handshake"), reason: Reason::Handshake })
            }
            Err(_) => timeout_at(deadline, opened)
                .await
                .unwrap_or_else(|_| Err(silent(&spec, "did not finish the handshake").into())),
        }
    };
    drop(unread);
    match opened {
        Ok(connection) => Ok(connection),
        Err(mut error) => {
            error.failure.message = format!("{}; {}", error.failure.message, child.obituary().await);
            child.end(Pipes::Protocol).await;
            Err(error)
        }
    }
}

/// The failure of an agent that took longer than its startup timeout.
fn silent(spec: &AgentSpec, what: &str) -> Failure {
    let limit = Span(spec.startup_timeout);
    let message = format!("agent `{}` {what} within {limit}", spec.id);
    let help = format!(
        "raise `startup_timeout` of `[agents.{}]` (now {limit}); a first start that installs something can take minutes",
        spec.id
    );
    Failure::new(FailureKind::AgentUnavailable, message).with_help(help)
}

/// What was written to a child, and whether it has read all of that.
#[cfg(unix)]
struct Unread(Option<std::os::fd::OwnedFd>);

#[cfg(unix)]
impl Unread {
    fn of(input: &tokio::process::ChildStdin) -> Self {
        Self(std::os::fd::AsFd::as_fd(input).try_clone_to_owned().ok())
    }

    /// Says whether something is unread; where the system does not say, nothing is.
    fn is_any(&self) -> bool {
        self.0.as_ref().and_then(|input| rustix::io::ioctl_fionread(input).ok()).is_some_and(|bytes| bytes > 0)
    }
}

#[cfg(not(unix))]
struct Unread;

#[cfg(not(unix))]
impl Unread {
    fn of(_: &tokio::process::ChildStdin) -> Self {
        Self
    }

    fn is_any(&self) -> bool {
        false
    }
}

/// Connects over Streamable HTTP. A server that does not listen or is not ready is asked again, not before it wants to be
/// and until the startup timeout is over; a `server` of the host's own, for as long as it runs.
pub(super) async fn over_http<'a>(
    opening: impl Fn() -> Opening<'a>,
    endpoint: &Endpoint,
    server: Option<Arc<Child>>,
) -> Result<Connection, NotOpened> {
    let first = opening();
    let spec = first.spec.clone();
    let fails_at_once = server.is_none() && first.options.unreachable == Unreachable::Fail;
    let deadline = Instant::now() + endpoint.startup_timeout;
    let mut handshakes = Handshakes::new(spec.protocol, first.era).with_local_server(server.is_some());
    drop(first);
    let attempts = async {
        let mut latest: Option<NotOpened> = None;
        loop {
            let attempt = once_over_http(opening(), handshakes.current(), endpoint, &server);
            let error = match timeout_at(deadline, attempt).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error,
                Err(_) => return Err(too_late(&spec, endpoint, latest)),
            };
            if fails_at_once && error.reason == Reason::NotListening {
                return Err(error);
            }
            match handshakes.next(error.reason, error.failure.retry_after.map(|span| span.0)) {
                Some(pause) if Instant::now() + pause < deadline => {
                    tracing::debug!(agent = %spec.id, failure = %error.failure, ?pause, "the server is asked again");
                    latest = Some(error);
                    tokio::time::sleep(pause).await;
                }
                Some(_) if matches!(error.reason, Reason::NotListening | Reason::NotReady) => {
                    return Err(too_late(&spec, endpoint, Some(error)));
                }
                Some(_) | None => return Err(error),
            }
        }
    };
    let gone = async {
        match &server {
            Some(server) => server.ended().await,
            None => std::future::pending().await,
        }
    };
    let unavailable = |what: String| {
        NotOpened::from(Failure::new(FailureKind::AgentUnavailable, format!("agent `{}` {what}", spec.id)))
    };
    let opened = tokio::select! {
        opened = attempts => opened,
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

async fn once_over_http(
    opening: Opening<'_>,
    handshake: Protocol,
    endpoint: &Endpoint,
    server: &Option<Arc<Child>>,
) -> Result<Connection, NotOpened> {
    let link = opening.link.clone();
    let client = HttpClient::new(endpoint.client.clone(), link.clone(), probe_timeout(endpoint.startup_timeout));
    let (calls, aside) = HttpCalls::new(client.clone(), link.clone(), endpoint);
    let carrier = StreamableHttpClientTransport::with_client(client, endpoint.config());
    let carrier = WithAside { carrier, aside, link };
    let way = |version: &ProtocolVersion| Way::Http(calls.agreed(version));
    open(opening, handshake, carrier, way, server.clone().map(|server| (server, Pipes::Log))).await
}

/// The failure of an agent whose startup timeout is over, or will be before it may be asked again.
fn too_late(spec: &AgentSpec, endpoint: &Endpoint, latest: Option<NotOpened>) -> NotOpened {
    let mut late = silent(spec, &format!("at `{}` did not finish connecting", endpoint.shown));
    let Some(NotOpened { failure, reason }) = latest else { return late.into() };
    // Its own message names the agent, too.
    let own = format!("agent `{}`: ", spec.id);
    let why = failure.message.strip_prefix(&own).unwrap_or(&failure.message);
    late.message = format!("{}: {why}", late.message);
    if let (Some(help), Some(more)) = (&failure.help, late.help.take()) {
        late.help = Some(format!("{help}; {more}"));
    }
    NotOpened { failure: Failure { kind: failure.kind, retry_after: failure.retry_after, ..late }, reason }
}

/// Does the handshake and lists the tools; `way` is that of calls, by the version agreed on.
async fn open<T>(
    opening: Opening<'_>,
    handshake: Protocol,
    carrier: T,
    way: impl FnOnce(&ProtocolVersion) -> Way,
    child: Option<(Arc<Child>, Pipes)>,
) -> Result<Connection, NotOpened>
where
    T: Carrier<RoleClient> + 'static,
{
    let Opening { spec, link, options, .. } = opening;
    validation::prepare();
    let handler = Handler::new(link.clone(), options);
    let is_resumed = link.session.handshake().is_some();
    let carrier = Watched::new(carrier, link.clone());
    // The handshake of a session that is there already is answered by the transport.
    let protocol = if is_resumed { Protocol::Legacy } else { handshake };
    let handshaking = Box::pin(handler.serve_with_lifecycle(carrier, lifecycle(protocol)));
    let service = handshaking.await.map_err(|error| not_opened(spec, &error))?;
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
    let announces = peer.peer_info().and_then(|info| info.capabilities.tools.as_ref()?.list_changed) == Some(true);
    if modern && announces {
        // Before the list, so that no change falls between the two.
        tokio::spawn(subscription::watch_tools(peer.clone(), link.clone()));
    }
    let catalog = Catalog::list(&peer, spec).await.map_err(|error| {
        let failure = failure::service(&spec.id, &error);
        // A server may refuse a session that it does not know in any words; in a session of its own it may not.
        let is_session_lost = is_resumed
            && failure.as_ref().is_some_and(|failure| {
                matches!(failure.kind, FailureKind::SessionLost | FailureKind::Refused | FailureKind::ServerError)
            });
        let reason = if is_session_lost { Reason::SessionLost } else { failure::reason_in_service(&error) };
        let lost = || Failure::new(FailureKind::ConnectionLost, "the connection was lost");
        let mut failure = failure.unwrap_or_else(lost);
        failure.message = format!("agent `{}` did not list its tools: {}", spec.id, failure.message);
        NotOpened { failure: Failure { kind: FailureKind::AgentUnavailable, ..failure }, reason }
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
    let failure = failure::handshake(spec, error).unwrap_or_else(|| {
        let message = format!("agent `{}` closed the connection during the handshake", spec.id);
        Failure::new(FailureKind::AgentUnavailable, message)
    });
    NotOpened { failure, reason: failure::reason(error) }
}

/// How long a server has to answer `server/discover`; the rest of what is `left` is for `initialize`.
fn probe_timeout(left: Duration) -> Duration {
    (left / 2).min(LONGEST_PROBE)
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
    /// Returns the era that the agent speaks. None where it did not say so clearly enough to be remembered.
    pub(super) fn era(&self) -> Option<Era> {
        match (self.modern, self.link.probe_failed.load(Ordering::Relaxed)) {
            (true, _) => Some(Era::Modern),
            (false, false) => Some(Era::Legacy),
            (false, true) => None,
        }
    }

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

    /// The tools, listed again unless that was done since they were as in `known`.
    ///
    /// # Errors
    /// When the connection is lost meanwhile; nothing was sent.
    pub(super) async fn list(&self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let catalog = self.catalog();
        if !Arc::ptr_eq(&catalog, known) && !self.link.tools_changed.load(Ordering::Relaxed) {
            return Ok(catalog);
        }
        let changed = self.link.tools_changed.swap(false, Ordering::Relaxed);
        let listing = tokio::time::timeout(self.spec.startup_timeout, Catalog::list(&self.peer, &self.spec));
        match listing.await {
            Ok(Ok(catalog)) => {
                let catalog = Arc::new(catalog);
                let earlier = std::mem::replace(&mut *lock(&self.catalog), catalog.clone());
                for warning in catalog.info.warnings.iter().filter(|new| !earlier.info.warnings.contains(new)) {
                    self.link.note_to_people(warning);
                }
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
