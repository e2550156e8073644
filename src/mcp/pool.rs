//! Keeps at most one connection to each agent of a run, and makes it when it is first needed.
//! Never decides which agent is called.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::future::join_all;
use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::{
    Host, Options, call,
    child::{Child, Pipes},
    connect::{self, Connection, Opening},
    endpoint::Endpoint,
    link::Link,
    log::AgentLog,
};
use crate::model::{
    AgentId, AgentInfo, AgentSpec, Failure, FailureKind, JsonObject, StartAttempt, ToolOutput, Transport,
};

/// The connections of one run. Dropping it kills every child at once; [`Pool::close`] lets them end.
pub struct Pool {
    agents: IndexMap<AgentId, Agent>,
    options: Options,
    host: Arc<dyn Host>,
    closed: CancellationToken,
}

struct Agent {
    spec: Arc<AgentSpec>,
    /// How often connecting has come to an end, well or not.
    tries: AtomicU64,
    /// Held while connecting, so that everybody waits for the same connection.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    /// Why the latest try failed.
    failure: Option<Failure>,
    /// The agent's own HTTP server; it outlives a lost session.
    server: Option<Arc<Child>>,
    endpoint: Option<Endpoint>,
    log: Option<Arc<AgentLog>>,
}

impl Pool {
    /// A pool that knows how to reach `specs`, and has reached none.
    pub fn new(specs: impl IntoIterator<Item = AgentSpec>, options: Options, host: Arc<dyn Host>) -> Self {
        let agents = specs.into_iter().map(|spec| {
            let agent = Agent { spec: Arc::new(spec), tries: AtomicU64::new(0), state: tokio::sync::Mutex::default() };
            (agent.spec.id.clone(), agent)
        });
        Self { agents: agents.collect(), options, host, closed: CancellationToken::new() }
    }

    /// Connects to the agent, unless that was done, and returns what it says of itself: its tools as the agents file
    /// allows them. Callers that come meanwhile share the outcome.
    ///
    /// # Errors
    /// [`FailureKind::AgentUnavailable`], or [`FailureKind::Unauthorized`] and [`FailureKind::RateLimited`] where the
    /// server said so.
    pub async fn connect(&self, agent: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Ok(self.connection(agent).await?.catalog().info.clone())
    }

    /// Calls a tool, once: connects again if the connection was lost since, checks the arguments, answers what the
    /// agent asks in between, and checks the result. `meta` goes into the request's `_meta`. When `cancel` is
    /// cancelled, the agent is told, and the call ends whether it listens or not. Dropping the future tells it nothing.
    ///
    /// # Errors
    /// A failure whose kind says what is known of the request: whether it left, and whether an answer came.
    pub async fn call(
        &self,
        call: StartAttempt,
        meta: JsonObject,
        cancel: CancellationToken,
    ) -> Result<Arc<ToolOutput>, Failure> {
        let connection = tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(Failure::new(FailureKind::Cancelled, format!("the call of `{}` was cancelled", call.tool)));
            }
            connection = self.connection(&call.agent) => connection?,
        };
        Box::pin(call::run(&connection, call, meta, cancel)).await
    }

    /// Ends every connection and every child, all at once, each within a bounded time. Afterwards nothing connects.
    pub async fn close(&self) {
        self.closed.cancel();
        join_all(self.agents.values().map(|agent| async {
            let mut state = agent.state.lock().await;
            if let Some(connection) = state.connection.take() {
                connection.close().await;
            }
            if let Some(server) = state.server.take() {
                server.end(Pipes::Log).await;
            }
        }))
        .await;
    }

    async fn connection(&self, id: &AgentId) -> Result<Arc<Connection>, Failure> {
        let unavailable = |what: String| Failure::new(FailureKind::AgentUnavailable, what);
        let agent = self.agents.get(id).ok_or_else(|| unavailable(format!("there is no agent `{id}`")))?;
        let closed = || unavailable(format!("agent `{id}` is no longer connected: the run is over"));
        let tries = agent.tries.load(Ordering::Relaxed);
        let mut state = agent.state.lock().await;
        if self.closed.is_cancelled() {
            return Err(closed());
        }
        if let Some(connection) = &state.connection
            && connection.is_usable()
        {
            return Ok(connection.clone());
        }
        if let Some(failure) = &state.failure
            && agent.tries.load(Ordering::Relaxed) != tries
        {
            return Err(failure.clone());
        }
        let result = tokio::select! {
            result = Box::pin(self.open(&agent.spec, &mut state)) => result,
            () = self.closed.cancelled() => Err(closed()),
        };
        agent.tries.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(connection) => {
                let connection = Arc::new(connection);
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

    async fn open(&self, spec: &Arc<AgentSpec>, state: &mut State) -> Result<Connection, Failure> {
        let old = state.connection.take();
        let log = state.log.get_or_insert_with(|| AgentLog::new(&self.options.log_dir, &spec.id));
        let opening = || Opening {
            spec,
            link: Link::new(spec.id.clone(), self.host.clone(), self.options.sampling),
            options: &self.options,
        };
        match &spec.transport {
            Transport::Stdio(process) => {
                if let Some(old) = old {
                    old.close().await;
                }
                connect::over_stdio(opening(), process, log).await
            }
            Transport::Http { url, headers, bearer_token, server } => {
                if state.endpoint.is_none() {
                    state.endpoint = Some(Endpoint::new(spec, url, headers, bearer_token.as_deref())?);
                }
                if let Some(process) = server
                    && state.server.as_ref().is_none_or(|server| server.has_ended())
                {
                    state.server = Some(connect::start(spec, process, log, Pipes::Log)?.0);
                }
                // Calls that still wait on the old connection end with it when they are done.
                drop(old);
                let endpoint = state.endpoint.as_ref().ok_or_else(|| {
                    Failure::new(FailureKind::AgentUnavailable, format!("agent `{}` has no endpoint", spec.id))
                })?;
                connect::over_http(opening, endpoint, state.server.clone()).await
            }
        }
    }
}
