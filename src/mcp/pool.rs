//! Keeps the connections to the agents of a run, and makes each when it is first needed: one to an agent, and further
//! ones only where calls need a process of their own.
//! Never decides which agent is called.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures::future::join_all;
use indexmap::IndexMap;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Host, Options, SamplingSupport,
    call::{self, CallOrigin, ToolCall},
    checkpoint::CallCheckpoint,
    child::{Child, PipePurpose},
    connect::{self, ConnectError, ConnectRequest, Connection},
    connection_state::{AgentShared, ConnectionState},
    endpoint::HttpEndpoint,
    era::{Era, EraCache},
    handshakes::ConnectErrorKind,
    lock,
    log::AgentLog,
    process_scheduler::{ProcessPermit, ProcessScheduler, Sharing},
    sampling_quota::SamplingQuota,
    session::{Session, SessionCheckpoint},
};
use crate::model::{
    AgentId, AgentInfo, AgentSpec, Consent, Failure, FailureKind, JsonObject, Protocol, StartAttempt, ToolOutput,
    Transport,
};

/// The connections of one run. Dropping it kills every child at once; [`Pool::close`] lets them end.
pub struct Pool {
    agents: IndexMap<AgentId, PooledAgent>,
    options: Options,
    host: Arc<dyn Host>,
    closed: CancellationToken,
    eras: EraCache,
}

struct PooledAgent {
    spec: Arc<AgentSpec>,
    /// The protocol era that it spoke in this run, or in an earlier one. Held to copy or to replace it.
    era: Mutex<Option<Era>>,
    shared: Arc<AgentShared>,
    /// Whether its requests say which call they are for. Unset until a connection shows it.
    identifies_calls: OnceLock<bool>,
    /// The first is everybody's; calls that need a process of their own take all.
    slots: Vec<ConnectionSlot>,
}

/// The way to one agent.
#[derive(Clone, Copy)]
pub(super) struct AgentRoute<'p> {
    pool: &'p Pool,
    agent: &'p PooledAgent,
}

impl<'p> AgentRoute<'p> {
    /// A connection for one call, and the turn that it has to keep while it lasts, where calls take turns.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    pub(super) async fn acquire(self) -> Result<(Arc<Connection>, Option<ProcessPermit<'p>>), Failure> {
        self.pool.acquire(self.agent).await
    }

    /// A connection without a turn, for what does not make the agent ask back.
    ///
    /// # Errors
    /// Why there is none; nothing was sent.
    pub(super) async fn connection(self) -> Result<Arc<Connection>, Failure> {
        self.pool.connection(self.agent, 0).await
    }

    /// Who answers what the agent asks.
    pub(super) fn host(self) -> Arc<dyn Host> {
        self.pool.host.clone()
    }

    /// Whether nothing connects any more: the run is over.
    pub(super) fn is_closed(self) -> bool {
        self.pool.closed.is_cancelled()
    }
}

/// Room for a connection.
#[derive(Default)]
struct ConnectionSlot {
    /// How often connecting has come to an end, well or not.
    attempts: AtomicU64,
    /// Held while connecting, so that everybody waits for the same connection.
    state: tokio::sync::Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    connection: Option<Arc<Connection>>,
    /// Why the latest try failed.
    failure: Option<Failure>,
    /// The agent's own HTTP server; it outlives a lost session.
    server: Option<Arc<Child>>,
    endpoint: Option<HttpEndpoint>,
    /// The session that an earlier process left, until it is taken over or turns out to be gone.
    saved_session: Option<SessionCheckpoint>,
    log: Option<Arc<AgentLog>>,
}

impl Pool {
    /// A pool that knows how to reach `specs`, and has reached none.
    pub fn new(specs: impl IntoIterator<Item = AgentSpec>, options: Options, host: Arc<dyn Host>) -> Self {
        let agents = specs.into_iter().map(|spec| (spec.id.clone(), PooledAgent::new(spec, &options)));
        let eras = EraCache::new(options.era_cache.clone());
        Self { agents: agents.collect(), options, host, closed: CancellationToken::new(), eras }
    }

    /// Goes on with the sessions that an earlier process noted, as far as the servers still have them.
    pub fn with_sessions(mut self, sessions: HashMap<AgentId, Value>) -> Self {
        for (id, note) in sessions {
            if let Some(slot) = self.agents.get_mut(&id).and_then(|agent| agent.slots.first_mut()) {
                slot.state.get_mut().saved_session = SessionCheckpoint::from_value(note, &id);
            }
        }
        self
    }

    /// Charges agents with what they have asked of the model in the run before, by requests and tokens.
    pub fn with_sampling_usage(self, spent: impl IntoIterator<Item = (AgentId, u64, u64)>) -> Self {
        for (id, requests, tokens) in spent {
            if let Some(agent) = self.agents.get(&id) {
                agent.shared.sampling_quota.restore_usage(requests, tokens);
            }
        }
        self
    }

    /// Connects to the agent, unless that was done, and returns what it says of itself: its tools as the agents file
    /// allows them. Callers that come meanwhile share the outcome.
    ///
    /// # Errors
    /// [`FailureKind::AgentUnavailable`], or [`FailureKind::Unauthorized`] and [`FailureKind::RateLimited`] where the
    /// server said so.
    pub async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Ok(self.connection(self.agent(agent)?, 0).await?.catalog().info.clone())
    }

    /// Calls a tool, once: waits for its turn, connects again if the connection was lost since, checks the arguments,
    /// answers what the agent asks in between, and checks the result. The call's limits of time do not run before its
    /// turn has come. `meta` goes into the request's `_meta`. When `cancel` is cancelled, the agent is told, and the call
    /// ends whether it listens or not. Dropping the future tells it nothing.
    ///
    /// # Errors
    /// A failure whose kind says what is known of the request: whether it left, and whether an answer came.
    pub fn call(
        &self,
        call: StartAttempt,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> impl Future<Output = Result<Arc<ToolOutput>, Failure>> + Send {
        call::run(self, ToolCall { request: call, meta, cancel }, CallOrigin::New)
    }

    /// Takes up a call that an earlier process left behind, by the note that it kept; otherwise as [`Pool::call`].
    ///
    /// # Errors
    /// Those of [`Pool::call`], and [`FailureKind::Interrupted`] when the agent no longer has the call. What keeps the call
    /// from being continued says nothing about the call itself; `engine::retry` knows that.
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

    /// Ends what dies with the host anyway and leaves the rest as it is: calls that a later process can take up are not
    /// cancelled at their agents. Afterwards nothing connects.
    pub async fn suspend(&self) {
        for agent in self.agents.values() {
            agent.shared.is_suspended.store(true, Ordering::Relaxed);
        }
        self.close().await;
    }

    /// Ends every connection and every child, all at once, each within a bounded time. Afterwards nothing connects.
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

    /// The way to an agent.
    ///
    /// # Errors
    /// When there is no such agent.
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

    /// A connection for one call, and the turn that it has to keep while it lasts, where calls take turns.
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

    /// Returns the era that the agent spoke before, in this run or in an earlier one.
    fn known_era(&self, agent: &PooledAgent) -> Option<Era> {
        if agent.spec.protocol != Protocol::Auto {
            return None;
        }
        let mut era = lock(&agent.era);
        *era = era.or_else(|| self.eras.get(&agent.spec));
        *era
    }

    fn remember_era(&self, agent: &PooledAgent, connection: &Connection) {
        if let (Protocol::Auto, Some(era)) = (agent.spec.protocol, connection.era()) {
            let before = lock(&agent.era).replace(era);
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
                // Calls that still wait on the old connection end with it when they are done.
                drop(old);
                let endpoint = state.endpoint.as_ref().ok_or_else(|| {
                    Failure::new(FailureKind::AgentUnavailable, format!("agent `{}` has no endpoint", spec.id))
                })?;
                // A server of the host's own ends with the host, and its sessions with it.
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
        // Over HTTP, each call has a stream of its own; in the modern era, the call's own result asks.
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
    /// Gives up a connection whose agent may still work on a call that nobody waits for: what it then asks would be
    /// taken for the next call's. The caller has the connection to itself.
    async fn mark_stale_if_abandoned(&self) {
        if let Some(connection) = &self.state.lock().await.connection
            && connection.state.calls.has_abandoned()
        {
            connection.state.mark_stale();
        }
    }
}
