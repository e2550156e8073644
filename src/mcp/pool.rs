//! Owns the connections to the agents of a run, and opens each on first use. Opens further connections to an agent only
//! where calls need a process of their own.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::future::join_all;
use indexmap::IndexMap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Host, Options, SamplingSupport,
    call::{self, CallOrigin, ToolCall, checkpoint::CallCheckpoint},
    process::{
        child::{Child, PipePurpose},
        log::AgentLog,
    },
    requests::sampling_quota::SamplingQuota,
    scheduler::{ProcessPermit, ProcessScheduler, Sharing},
    session::{
        Session, SessionCheckpoint,
        connect::{self, ConnectError, ConnectRequest, Connection},
        connection_state::{AgentShared, ConnectionState},
        era::{Era, EraCache},
        handshakes::ConnectErrorKind,
    },
    transport::endpoint::HttpEndpoint,
};
use crate::model::{
    AgentId, AgentInfo, AgentSpec, Consent, Failure, FailureKind, JsonObject, Protocol, StartAttempt, ToolOutput,
    Transport,
};

/// The connections of one run. Dropping it kills all child processes; [`Pool::close`] shuts them down.
pub struct Pool {
    agents: IndexMap<AgentId, PooledAgent>,
    options: Options,
    host: Arc<dyn Host>,
    closed: CancellationToken,
    eras: EraCache,
}

struct PooledAgent {
    spec: Arc<AgentSpec>,
    /// The protocol era that the agent used in this run or in an earlier one. Locked only to copy or replace it.
    era: Mutex<Option<Era>>,
    shared: Arc<AgentShared>,
    /// Whether the agent's requests identify their calls. Unset until a connection shows it.
    identifies_calls: OnceLock<bool>,
    /// All connections. Calls share the first one; calls that need a process of their own use all.
    slots: Vec<ConnectionSlot>,
}

/// A handle for connecting to one agent.
#[derive(Clone, Copy)]
pub(super) struct AgentRoute<'p> {
    pool: &'p Pool,
    agent: &'p PooledAgent,
}

impl<'p> AgentRoute<'p> {
    /// Returns a connection for one call, and the permit that the call holds, if the agent needs permits.
    ///
    /// # Errors
    /// Returns a failure if connecting fails. Nothing was sent in this case.
    pub(super) async fn acquire(self) -> Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure> {
        self.pool.acquire(self.agent).await
    }

    /// Returns a connection without a permit, for requests that do not cause requests of the agent.
    ///
    /// # Errors
    /// Returns a failure if connecting fails. Nothing was sent in this case.
    pub(super) async fn connection(self) -> Result<Arc<Connection>, Failure> {
        self.pool.connection(self.agent, 0).await
    }

    /// Returns the host that answers the agent's requests.
    pub(super) fn host(self) -> Arc<dyn Host> {
        self.pool.host.clone()
    }

    /// Returns whether the pool is closed, because the run is over.
    pub(super) fn is_closed(self) -> bool {
        self.pool.closed.is_cancelled()
    }
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

impl Pool {
    /// Creates a pool of the agents `specs` without connections.
    pub fn new(specs: impl IntoIterator<Item = AgentSpec>, options: Options, host: Arc<dyn Host>) -> Self {
        let agents = specs.into_iter().map(|spec| (spec.id.clone(), PooledAgent::new(spec, &options)));
        let eras = EraCache::new(options.era_cache.clone());
        Self { agents: agents.collect(), options, host, closed: CancellationToken::new(), eras }
    }

    /// Restores the sessions that an earlier process saved. Sessions that the servers no longer know are replaced.
    pub fn with_sessions(mut self, sessions: HashMap<AgentId, Value>) -> Self {
        for (id, note) in sessions {
            if let Some(slot) = self.agents.get_mut(&id).and_then(|agent| agent.slots.first_mut()) {
                slot.state.get_mut().saved_session = SessionCheckpoint::from_value(note, &id);
            }
        }
        self
    }

    /// Restores the sampling usage of the agents in this run, as requests and tokens.
    pub fn with_sampling_usage(self, spent: impl IntoIterator<Item = (AgentId, u64, u64)>) -> Self {
        for (id, requests, tokens) in spent {
            if let Some(agent) = self.agents.get(&id) {
                agent.shared.sampling_quota.restore_usage(requests, tokens);
            }
        }
        self
    }

    /// Connects to the agent if necessary, and returns its description with the tools that the agents file allows.
    /// Concurrent callers share the outcome.
    ///
    /// # Errors
    /// Returns [`FailureKind::AgentUnavailable`], or [`FailureKind::Unauthorized`] and [`FailureKind::RateLimited`] if
    /// the server reported that.
    pub async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Ok(self.connection(self.agent(agent)?, 0).await?.catalog().info.clone())
    }

    /// Calls a tool once: acquires a permit, reconnects if necessary, checks the arguments, answers the agent's
    /// requests, and checks the result. The timeouts of the call start when it has its permit. `meta` is added to the
    /// request's `_meta`. Cancelling `cancel` notifies the agent and ends the call, even if the agent does not react.
    /// Dropping the future does not notify the agent.
    ///
    /// # Errors
    /// Returns a failure whose kind states whether the request was sent and whether a response arrived.
    pub fn call(
        &self,
        call: StartAttempt,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Arc<ToolOutput>, Failure>> + Send {
        call::run(self, ToolCall { request: call, meta, cancel }, CallOrigin::New)
    }

    /// Reattaches to a call of an earlier process by its checkpoint. Otherwise works like [`Pool::call`].
    ///
    /// # Errors
    /// Returns the failures of [`Pool::call`], and [`FailureKind::Interrupted`] if the agent no longer has the call.
    /// Failing to reattach does not mean that the call failed; `engine::retry` takes this into account.
    pub async fn reattach(
        &self,
        call: StartAttempt,
        checkpoint: Value,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure> {
        let note = CallCheckpoint::from_value(checkpoint, &call)?;
        call::run(self, ToolCall { request: call, meta, cancel }, CallOrigin::Resumed(note)).await
    }

    /// Closes the pool without cancelling the calls that a later process can reattach to. Afterwards, no connection can
    /// be opened.
    pub async fn suspend(&self) {
        for agent in self.agents.values() {
            agent.shared.is_suspended.store(true, Ordering::Relaxed);
        }
        self.close().await;
    }

    /// Closes all connections and child processes concurrently, each within a bounded time. Afterwards, no connection
    /// can be opened.
    pub async fn close(&self) {
        self.closed.cancel();
        join_all(self.agents.values().flat_map(|agent| &agent.slots).map(|slot| async {
            let mut state = slot.state.lock().await;
            if let Some(connection) = state.connection.take() {
                connection.close().await;
            }
            if let Some(server) = state.server.take() {
                server.shut_down(PipePurpose::Log).await;
            }
        }))
        .await;
    }

    /// Returns the route to an agent.
    ///
    /// # Errors
    /// Returns a failure if the agent is unknown.
    pub(super) fn route(&self, agent: &AgentId) -> Result<AgentRoute<'_>, Failure> {
        Ok(AgentRoute { pool: self, agent: self.agent(agent)? })
    }

    fn agent(&self, id: &AgentId) -> Result<&PooledAgent, Failure> {
        let unknown = || {
            let message = format!("there is no agent `{id}` in the agents file");
            Failure::new(FailureKind::AgentUnavailable, message).with_help(format!("add `[agents.{id}]` to it"))
        };
        self.agents.get(id).ok_or_else(unknown)
    }

    /// Returns a connection for one call, and the permit that the call holds, if the agent needs permits.
    async fn acquire<'p>(
        &self,
        agent: &'p PooledAgent,
    ) -> Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure> {
        if agent.identifies_calls.get().is_none() {
            self.connection(agent, 0).await?;
        }
        if agent.identifies_calls.get() == Some(&true) {
            return Ok((self.connection(agent, 0).await?, None));
        }
        loop {
            let turn = tokio::select! {
                turn = agent.shared.scheduler.acquire() => turn,
                () = self.closed.cancelled() => return Err(agent.run_over_failure()),
            };
            if turn.sharing == Sharing::Exclusive {
                agent.slots[turn.process].mark_stale_if_abandoned().await;
            }
            match self.connection(agent, turn.process).await {
                Ok(connection) => return Ok((connection, Some(turn))),
                Err(failure) if turn.process > 0 && !self.closed.is_cancelled() => {
                    let agent = &agent.spec.id;
                    tracing::warn!(%agent, %failure, "a further process of the agent did not start; the run does without");
                    turn.disable_process();
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn connection(&self, agent: &PooledAgent, slot: usize) -> Result<Arc<Connection>, Failure> {
        let number = slot;
        let slot = &agent.slots[number];
        let tries = slot.attempts.load(Ordering::Relaxed);
        let mut state = slot.state.lock().await;
        if self.closed.is_cancelled() {
            return Err(agent.run_over_failure());
        }
        if let Some(connection) = &state.connection
            && connection.is_usable()
        {
            return Ok(connection.clone());
        }
        if let Some(failure) = &state.failure
            && slot.attempts.load(Ordering::Relaxed) != tries
        {
            return Err(failure.clone());
        }
        let result = tokio::select! {
            result = Box::pin(self.open_connection(agent, number, &mut state)) => result,
            () = self.closed.cancelled() => Err(agent.run_over_failure()),
        };
        slot.attempts.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(connection) => {
                let connection = Arc::new(connection);
                agent.identifies_calls.get_or_init(|| connection.modern);
                self.remember_era(agent, &connection);
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

    /// Returns the era that the agent used earlier, in this run or a previous one.
    fn known_era(&self, agent: &PooledAgent) -> Option<Era> {
        if agent.spec.protocol != Protocol::Auto {
            return None;
        }
        let mut era = agent.era.lock();
        *era = era.or_else(|| self.eras.get(&agent.spec));
        *era
    }

    fn remember_era(&self, agent: &PooledAgent, connection: &Connection) {
        if let (Protocol::Auto, Some(era)) = (agent.spec.protocol, connection.era()) {
            let before = agent.era.lock().replace(era);
            if before != Some(era) {
                self.eras.put(&agent.spec, era);
            }
        }
    }

    async fn open_connection(
        &self,
        agent: &PooledAgent,
        slot: usize,
        state: &mut SlotState,
    ) -> Result<Connection, Failure> {
        let spec = &agent.spec;
        let era = self.known_era(agent);
        let old = state.connection.take();
        let log = state.log.get_or_insert_with(|| AgentLog::new(&self.options.log_dir, &spec.id, slot));
        let (id, host) = (&spec.id, &self.host);
        let opening = |session| ConnectRequest {
            spec,
            state: ConnectionState::new(session, agent.shared.clone()),
            options: &self.options,
            era,
        };
        match &spec.transport {
            Transport::Stdio(process) => {
                if let Some(old) = old {
                    old.close().await;
                }
                let begun = || opening(Session::without_id(id.clone(), host.clone()));
                connect::connect_stdio(begun, process, log).await
            }
            Transport::Http { url, headers, bearer_token, server } => {
                if state.endpoint.is_none() {
                    state.endpoint = Some(HttpEndpoint::new(spec, url, headers, bearer_token.as_deref())?);
                }
                if let Some(process) = server
                    && state.server.as_ref().is_none_or(|server| server.has_exited())
                {
                    state.server = Some(connect::start_child(spec, process, log, PipePurpose::Log)?.0);
                }
                // Calls that still use the old connection keep it until they are done.
                drop(old);
                let endpoint = state.endpoint.as_ref().ok_or_else(|| {
                    Failure::new(FailureKind::AgentUnavailable, format!("agent `{}` has no endpoint", spec.id))
                })?;
                // A server that the host started ends with the host, and its sessions end with it.
                let kept_at = server.is_none().then(|| endpoint.display_url.clone());
                if let Some(note) = state.saved_session.clone().filter(|note| note.is_for_url(kept_at.as_deref())) {
                    let resumed = || opening(Session::resumed(id.clone(), host.clone(), note.clone()));
                    match connect::connect_http(resumed, endpoint, None).await {
                        Err(ConnectError { kind: ConnectErrorKind::SessionLost, .. }) => state.saved_session = None,
                        Err(ConnectError { failure, .. }) => return Err(failure),
                        Ok(connection) => {
                            state.saved_session = None;
                            return Ok(connection);
                        }
                    }
                }
                let begun = || opening(Session::over_http(id.clone(), host.clone(), kept_at.clone()));
                let opened = connect::connect_http(begun, endpoint, state.server.clone()).await;
                opened.map_err(|error| error.failure)
            }
        }
    }
}

impl PooledAgent {
    fn new(spec: AgentSpec, options: &Options) -> Self {
        // Over HTTP, each call has its own stream. In the modern era, requests arrive in the call's own result.
        let (tells_who_asks, slots) = match (&spec.transport, spec.protocol) {
            (Transport::Http { .. }, _) => (OnceLock::from(true), 1),
            (Transport::Stdio(_), Protocol::Modern) => (OnceLock::from(true), 1),
            (Transport::Stdio(_), Protocol::Auto | Protocol::Legacy) => (OnceLock::new(), spec.max_processes.max(1)),
        };
        let common = AgentShared {
            sampling: if spec.sampling.consent == Consent::Deny { SamplingSupport::Off } else { options.sampling },
            sampling_quota: SamplingQuota::new(spec.sampling),
            scheduler: ProcessScheduler::new(slots),
            is_suspended: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(common),
            era: Mutex::default(),
            identifies_calls: tells_who_asks,
            slots: std::iter::repeat_with(ConnectionSlot::default).take(slots).collect(),
            spec: Arc::new(spec),
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
