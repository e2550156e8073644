//! Connections and calls that are made before the run that they are for.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::agents::{Agents as _, CallContext};
use super::options::Options;
use super::pool::Pool;
use super::relay_host::RelayHost;
use super::session::agent_connections::AgentConnections;
use crate::model::{AgentSpec, Failure, FailureKind, JsonObject, ToolCall, ToolOutput, TraceContext};

/// Connections that are made before the run that they are for.
pub struct EarlyPool {
    pool: Arc<Pool>,
    host: Arc<RelayHost>,
}

impl EarlyPool {
    /// Creates a pool of the agents `specs` without connections.
    pub fn new(specs: impl IntoIterator<Item = AgentSpec>, options: Options) -> Self {
        let host = Arc::new(RelayHost::default());
        Self { pool: Arc::new(Pool::new(specs, options, Arc::clone(&host) as Arc<_>)), host }
    }

    /// Returns the connections.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Returns the trace that the host belongs to, if it is set.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.pool.shared.options.trace.as_ref()
    }

    /// Starts a call. The run does not know its attempt. If the agent requests something during the call, the call ends,
    /// since neither a person nor a model may be asked before the run. `meta` is added to its requests.
    pub fn call(&self, call: ToolCall, meta: JsonObject) -> EarlyCall {
        let asked = self.host.add_early_call(&call);
        let cancel = asked.child_token();
        let context = CallContext { meta, cancel: cancel.clone(), checkpoint: None };
        let pool = Arc::clone(&self.pool);
        let ended = tokio::spawn(async move {
            let result = pool.call(call, context).await;
            match (asked.is_cancelled(), result) {
                (true, _) => EarlyCallEnd::Asked,
                (false, Ok(output)) => EarlyCallEnd::Succeeded(output),
                (false, Err(failure)) => EarlyCallEnd::Failed(failure),
            }
        });
        EarlyCall { cancel, call: ended, ended: None }
    }

    /// Closes the connections.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

impl Pool {
    /// Adopts the connections of an earlier pool, and closes those to agents that this one does not have. Calls of the
    /// earlier pool continue.
    pub async fn adopt(mut self, earlier: EarlyPool) -> Self {
        let EarlyPool { pool, host } = earlier;
        host.attach(Arc::clone(&self.shared.host));
        let mut unused = Vec::new();
        for (id, connections) in &pool.agents {
            match self.agents.get_mut(id) {
                Some(own) if connections.is_connected().await => {
                    *own = connections.share_with(Arc::clone(&self.shared))
                }
                _ => unused.push(connections),
            }
        }
        join_all(unused.into_iter().map(AgentConnections::close)).await;
        self
    }
}

/// A call that was made before the run that it is for. Dropping it cancels the call.
#[derive(Debug)]
pub struct EarlyCall {
    cancel: CancellationToken,
    call: JoinHandle<EarlyCallEnd>,
    /// Its end, once that was looked at.
    ended: Option<EarlyCallEnd>,
}

/// The end of an early call.
#[derive(Debug, Clone, PartialEq)]
pub enum EarlyCallEnd {
    /// It has an output.
    Succeeded(Arc<ToolOutput>),
    /// It failed.
    Failed(Failure),
    /// It was ended, because the agent requested something of the host.
    Asked,
}

impl EarlyCall {
    /// Returns the end of the call, if it has ended.
    pub fn try_end(&mut self) -> Option<&EarlyCallEnd> {
        if self.ended.is_none() {
            self.ended = (&mut self.call).now_or_never().map(end_of);
        }
        self.ended.as_ref()
    }

    /// Waits for the end of the call, or until `cancel` cancels it. Then it ends soon.
    pub async fn end(mut self, cancel: &CancellationToken) -> EarlyCallEnd {
        if let Some(ended) = self.ended.take() {
            return ended;
        }
        tokio::select! {
            biased;
            ended = &mut self.call => end_of(ended),
            () = cancel.cancelled() => {
                self.cancel.cancel();
                end_of((&mut self.call).await)
            }
        }
    }
}

/// Returns the end of a call that can have panicked.
fn end_of(ended: Result<EarlyCallEnd, JoinError>) -> EarlyCallEnd {
    ended.unwrap_or_else(|error| {
        let message = format!("internal error: an early call did not end ({error}; this is a bug in kapell)");
        EarlyCallEnd::Failed(Failure::new(FailureKind::ConnectionLost, message))
    })
}

impl Drop for EarlyCall {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
