//! Owns the connections to one agent, and opens each on first use. Opens further connections only where calls need a
//! process of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::connect::{self, ConnectRequest};
use super::connect_error::{ConnectError, ConnectErrorKind};
use super::connection::Connection;
use super::server_cache::{Era, ServerCache, ServerFacts};
use crate::mcp::auth::authorizer::Authorizer;
use crate::mcp::auth::required_login::{MAX_LOGINS, RequiredLogin};
use crate::mcp::checkpoint::SessionCheckpoint;
use crate::mcp::host::ClientHost;
use crate::mcp::options::{LoginPolicy, Options, SamplingSupport};
use crate::mcp::process::child::{Child, PipePurpose};
use crate::mcp::process::log::AgentLog;
use crate::mcp::requests::connection_state::{AgentShared, ConnectionState};
use crate::mcp::requests::sampling_quota::SamplingQuota;
use crate::mcp::requests::session_state::Session;
use crate::mcp::scheduler::{ProcessPermit, ProcessScheduler, Sharing};
use crate::mcp::transport::endpoint::HttpEndpoint;
use crate::model::{AgentSpec, Consent, Failure, FailureKind, Origin, ServerQuirk, Transport};

/// The state that all agents of a run share.
pub(crate) struct PoolShared {
    pub(crate) options: Options,
    pub(crate) host: Arc<dyn ClientHost>,
    /// Cancelled when the run is over. Afterwards, no connection can be opened.
    pub(crate) closed: CancellationToken,
    pub(crate) servers: ServerCache,
}

/// One agent of a run, and its connections. Pools that share the connections share everything else too.
pub(crate) struct AgentConnections {
    spec: Arc<AgentSpec>,
    /// What this run or an earlier one learned of the server. Locked only to copy or replace it.
    facts: Arc<Mutex<Option<ServerFacts>>>,
    pool: Arc<PoolShared>,
    pub(crate) shared: Arc<AgentShared>,
    /// The tokens of the agent, unless its agents file has a fixed one.
    authorizer: Option<Arc<Authorizer>>,
    /// Whether the agent's requests identify their calls, if a connection has shown it. Locked only to copy or replace it.
    identifies_calls: Arc<Mutex<Option<bool>>>,
    /// All connections. Calls share the first one; calls that need a process of their own use all.
    slots: Arc<[ConnectionSlot]>,
}

/// A slot for one connection.
#[derive(Default)]
struct ConnectionSlot {
    /// The number of completed connection attempts, successful or not.
    attempts: AtomicU64,
    /// Locked while connecting, so that all callers wait for the same connection.
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    /// The failure of the latest connection attempt.
    failure: Option<Failure>,
    /// The HTTP server of the agent, if the host started it. It outlives a lost session.
    server: Option<Arc<Child>>,
    endpoint: Option<HttpEndpoint>,
    /// The session of an earlier process, until it is resumed or found to be lost.
    saved_session: Option<SessionCheckpoint>,
    log: Option<Arc<AgentLog>>,
}

impl AgentConnections {
    /// Creates an agent of a pool without connections.
    pub(crate) fn new(spec: AgentSpec, pool: Arc<PoolShared>) -> Self {
        let slots = spec.max_processes.max(1);
        let shared = AgentShared {
            max_message_bytes: spec.max_message_bytes,
            log_level: spec.log_level,
            trace: pool.options.trace.clone(),
            sampling: if spec.sampling.consent == Consent::Deny { SamplingSupport::Off } else { pool.options.sampling },
            sampling_quota: SamplingQuota::new(spec.sampling),
            roots: spec.roots.clone(),
            scheduler: ProcessScheduler::new(slots),
            is_suspended: AtomicBool::new(false),
        };
        Self {
            authorizer: Authorizer::new(&spec, &pool.options),
            pool,
            shared: Arc::new(shared),
            facts: Arc::default(),
            identifies_calls: Arc::default(),
            slots: std::iter::repeat_with(ConnectionSlot::default).take(slots).collect(),
            spec: Arc::new(spec),
        }
    }

    /// Restores the session of an earlier process. It is resumed when the agent is connected.
    pub(crate) fn restore_session(&self, session: Option<SessionCheckpoint>) {
        // Nothing connects before.
        if let Some(Ok(mut state)) = self.slots.first().map(|slot| slot.state.try_lock()) {
            state.saved_session = session;
        }
    }

    /// Returns how long a call may be silent.
    pub(crate) fn tool_timeout(&self) -> std::time::Duration {
        self.spec.policy.tool_timeout.0
    }

    /// Returns the host that answers the agent's requests.
    pub(crate) fn host(&self) -> Arc<dyn ClientHost> {
        self.pool.host.clone()
    }

    /// Returns whether the pool is closed, because the run is over.
    pub(crate) fn is_closed(&self) -> bool {
        self.pool.closed.is_cancelled()
    }

    /// Closes all connections and child processes concurrently, each within a bounded time.
    pub(crate) async fn close(&self) {
        join_all(self.slots.iter().map(|slot| async {
            let mut state = slot.state.lock().await;
            if let Some(connection) = state.connection.take() {
                connection.close().await;
            }
            if let Some(server) = state.server.take() {
                server.shut_down().await;
            }
        }))
        .await;
    }

    /// Returns a connection for one call, and the permit that the call holds, if the agent needs permits.
    ///
    /// # Errors
    /// Returns a failure if connecting fails. Nothing was sent in this case.
    pub(crate) async fn acquire(&self) -> Result<(Arc<Connection>, Option<ProcessPermit<'_>>), Failure> {
        if self.known_to_identify_calls() != Some(false) {
            let connection = self.connection().await?;
            if connection.identifies_calls() {
                return Ok((connection, None));
            }
        }
        loop {
            let permit = self.pool.closed.run_until_cancelled(self.shared.scheduler.acquire()).await;
            let permit = permit.ok_or_else(|| self.run_over_failure())?;
            if permit.sharing == Sharing::Exclusive {
                self.slots[permit.process].mark_stale_if_abandoned().await;
            }
            match self.slot_connection(permit.process).await {
                Ok(connection) => return Ok((connection, Some(permit))),
                Err(failure) if permit.process > 0 && !self.pool.closed.is_cancelled() => {
                    let agent = &self.spec.id;
                    tracing::warn!(%agent, %failure, "another process of the agent did not start; the run continues \
                                                      without it");
                    permit.disable_process();
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Returns whether there is a connection that can be used.
    pub(crate) async fn is_connected(&self) -> bool {
        let state = self.slots[0].state.lock().await;
        state.connection.as_ref().is_some_and(|connection| connection.is_usable())
    }

    /// Returns the agent for another pool, which makes further connections.
    pub(crate) fn share_with(&self, pool: Arc<PoolShared>) -> Self {
        Self {
            spec: Arc::clone(&self.spec),
            facts: Arc::clone(&self.facts),
            pool,
            shared: Arc::clone(&self.shared),
            authorizer: self.authorizer.clone(),
            identifies_calls: Arc::clone(&self.identifies_calls),
            slots: Arc::clone(&self.slots),
        }
    }

    /// Returns a connection without a permit, for requests that do not cause requests of the agent.
    ///
    /// # Errors
    /// Returns a failure if connecting fails. Nothing was sent in this case.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        self.slot_connection(0).await
    }

    async fn slot_connection(&self, number: usize) -> Result<Arc<Connection>, Failure> {
        let slot = &self.slots[number];
        let attempts = slot.attempts.load(Ordering::Relaxed);
        let mut state = slot.state.lock().await;
        if self.pool.closed.is_cancelled() {
            return Err(self.run_over_failure());
        }
        if let Some(connection) = &state.connection
            && connection.is_usable()
        {
            return Ok(connection.clone());
        }
        if let Some(failure) = &state.failure
            && slot.attempts.load(Ordering::Relaxed) != attempts
        {
            return Err(failure.clone());
        }
        let opened = self.pool.closed.run_until_cancelled(Box::pin(self.open_connection(number, &mut state))).await;
        let result = opened.unwrap_or_else(|| Err(self.run_over_failure()));
        slot.attempts.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *self.identifies_calls.lock() = Some(connection.identifies_calls());
                self.remember(&connection);
                state.failure = None;
                state.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                state.failure = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// Connects in the legacy era from now on, because the server refuses its own requests on the modern `connection`.
    pub(crate) fn switch_to_legacy(&self, connection: &Connection) {
        let facts = ServerFacts::new(Era::Legacy, connection.about.transport);
        self.replace_facts(ServerFacts { quirks: vec![ServerQuirk::RefusesModernRequests], ..facts });
        *self.identifies_calls.lock() = None;
        connection.state.mark_stale();
    }

    fn known_to_identify_calls(&self) -> Option<bool> {
        *self.identifies_calls.lock()
    }

    /// Returns what this run or an earlier one learned of the server.
    fn known_facts(&self) -> Option<ServerFacts> {
        let mut facts = self.facts.lock();
        if facts.is_none() {
            *facts = self.pool.servers.get(&self.spec);
        }
        facts.clone()
    }

    /// Stores what a new connection shows about the server.
    fn remember(&self, connection: &Connection) {
        if let Some(facts) = connection.facts() {
            self.replace_facts(facts);
        }
    }

    fn replace_facts(&self, facts: ServerFacts) {
        let earlier = self.facts.lock().replace(facts.clone());
        if earlier.as_ref() != Some(&facts) {
            self.pool.servers.put(&self.spec, &facts);
        }
    }

    async fn open_connection(&self, slot: usize, state: &mut SlotState) -> Result<Connection, Failure> {
        if let Some(failure) = self.spec.unset_variables_failure() {
            return Err(failure);
        }
        let spec = &self.spec;
        let facts = self.known_facts();
        let old = state.connection.take();
        let log = state.log.get_or_insert_with(|| AgentLog::new(&self.pool.options.log_dir, &spec.id, slot));
        let (id, host) = (&spec.id, &self.pool.host);
        let request = |session| ConnectRequest {
            spec,
            state: ConnectionState::new(session, self.shared.clone()),
            unreachable: self.pool.options.unreachable,
            facts: facts.clone(),
            authorizer: self.authorizer.clone(),
        };
        match &spec.transport {
            Transport::Stdio(process) => {
                match old {
                    // Its calls continue after a change of the era.
                    Some(old) if old.has_calls() => {
                        tokio::spawn(old.close_when_unused());
                    }
                    Some(old) => old.close().await,
                    None => {}
                }
                let fresh = || request(Session::without_id(id.clone(), host.clone()));
                connect::connect_stdio(fresh, process, log).await
            }
            Transport::Http { url, headers, bearer_token, server, .. } => {
                let endpoint = match &mut state.endpoint {
                    Some(endpoint) => endpoint,
                    empty => empty.insert(HttpEndpoint::new(spec, url, headers, bearer_token.as_deref())?),
                };
                if let Some(process) = server
                    && state.server.as_ref().is_none_or(|server| server.has_exited())
                {
                    state.server = Some(connect::start_child(spec, process, log, PipePurpose::Log)?.0);
                }
                // Calls that still use the old connection keep it until they are done.
                drop(old);
                // A server that the host started ends with the host, and its sessions end with it.
                let saved_at = server.is_none().then(|| endpoint.display_url.clone());
                if let Some(checkpoint) =
                    state.saved_session.clone().filter(|checkpoint| saved_at.as_ref() == Some(&checkpoint.url))
                {
                    let resumed = || request(Session::resumed(id.clone(), host.clone(), checkpoint.clone()));
                    match self.connect_with_login(resumed, endpoint, None).await {
                        Err(ConnectError { kind: ConnectErrorKind::SessionLost, .. }) => state.saved_session = None,
                        Err(ConnectError { failure, .. }) => return Err(failure),
                        Ok(connection) => {
                            state.saved_session = None;
                            return Ok(connection);
                        }
                    }
                }
                let fresh = || request(Session::over_http(id.clone(), host.clone(), saved_at.clone()));
                let opened = self.connect_with_login(fresh, endpoint, state.server.clone()).await;
                opened.map_err(|error| error.failure)
            }
        }
    }

    /// Connects over HTTP, and asks a person to log in if the server requires that.
    async fn connect_with_login<'a>(
        &self,
        request: impl Fn() -> ConnectRequest<'a>,
        endpoint: &HttpEndpoint,
        server: Option<Arc<Child>>,
    ) -> Result<Connection, ConnectError> {
        let mut logins = 0;
        loop {
            match connect::connect_http(&request, endpoint, server.clone()).await {
                Err(ConnectError { kind: ConnectErrorKind::LoginRequired, failure }) if logins < MAX_LOGINS => {
                    let Some(login) = self.required_login() else { return Err(failure.into()) };
                    let origin = Origin { agent: self.spec.id.clone(), attempt: None, key: None };
                    login.ask(failure, async |question| self.pool.host.elicit(origin, question).await).await?;
                    logins += 1;
                }
                connected => return connected,
            }
        }
    }

    /// Returns the login that a refused request requires, if a person can be asked to do it.
    pub(crate) fn required_login(&self) -> Option<RequiredLogin> {
        match self.pool.options.login {
            LoginPolicy::Ask => RequiredLogin::of(self.authorizer.as_ref()?),
            LoginPolicy::Fail => None,
        }
    }

    fn run_over_failure(&self) -> Failure {
        let message = format!("agent `{}` is no longer connected: the run is over", self.spec.id);
        Failure::new(FailureKind::AgentUnavailable, message)
    }
}

impl ConnectionSlot {
    /// Marks a connection as stale if its agent may still process an abandoned call: later requests of the agent would
    /// be attributed to the next call. The caller has exclusive use of the connection.
    async fn mark_stale_if_abandoned(&self) {
        if let Some(connection) = &self.state.lock().await.connection
            && connection.state.calls.has_abandoned()
        {
            connection.state.mark_stale();
        }
    }
}
