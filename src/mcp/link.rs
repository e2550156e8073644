//! Holds what one connection shares between its transport, its handler and its calls, and asks the host on the
//! agent's behalf.
//! Never decides what an answer means.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::model::{ErrorCode, ErrorData, RequestId};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Host, Sampling,
    calls::{Calls, InFlight, Waiting, Whom},
    elicitation, failure, lock, sampling,
};
use crate::model::{AgentId, Answer, ChatReply, Elicitation, LogMessage, Origin};

/// Log messages of one agent that reach the host within a second: as many as a person can follow, and more.
const LOGS_A_SECOND: u32 = 50;
/// Bytes of a log message's text that are kept.
const LONGEST_LOG: usize = 8 * 1024;

/// What belongs to one connection.
pub(super) struct Link {
    /// The agent at the other end.
    pub(super) agent: AgentId,
    /// Who answers what the agent asks.
    pub(super) host: Arc<dyn Host>,
    /// The calls in flight.
    pub(super) calls: Calls,
    /// Cancelled when nothing more can come over the connection.
    pub(super) lost: CancellationToken,
    /// What was declared of sampling.
    pub(super) sampling: Sampling,
    /// Set when the agent announced another list of tools.
    pub(super) tools_changed: AtomicBool,
    /// Set when the connection is not good for another call.
    pub(super) stale: AtomicBool,
    /// Counts log messages; held for a comparison.
    logs: Mutex<LogGate>,
}

#[derive(Debug)]
struct LogGate {
    since: Instant,
    passed: u32,
    dropped: u64,
}

/// On whose behalf an agent asks.
pub(super) struct Asker {
    origin: Origin,
    calls: Vec<Arc<InFlight>>,
    /// Cancelled when the agent takes its request back.
    withdrawn: CancellationToken,
}

impl Link {
    /// A link to an agent, before anything is sent over it.
    pub(super) fn new(agent: AgentId, host: Arc<dyn Host>, sampling: Sampling) -> Arc<Self> {
        Arc::new(Self {
            agent,
            host,
            calls: Calls::default(),
            lost: CancellationToken::new(),
            sampling,
            tools_changed: AtomicBool::new(false),
            stale: AtomicBool::new(false),
            logs: Mutex::new(LogGate { since: Instant::now(), passed: 0, dropped: 0 }),
        })
    }

    /// A message was larger than what is read. With one call in flight, it was that call's.
    pub(super) fn overflowed(&self) {
        tracing::warn!(agent = %self.agent, "the agent sent a message that is too large");
        if let [call] = self.calls.candidates(None).as_slice() {
            call.condemn(failure::too_large(&self.agent));
        }
    }

    /// Who asks in a request that arrived on the stream of `stream`, if the transport has streams. Without that, an
    /// only call is the one that asks, and of several none is: the host does not guess.
    pub(super) fn asker(&self, stream: Option<&RequestId>, withdrawn: CancellationToken) -> Asker {
        let calls = self.calls.candidates(stream);
        let attempt = match calls.as_slice() {
            [call] => Some(call.attempt.clone()),
            _ => None,
        };
        Asker { origin: Origin { agent: self.agent.clone(), attempt }, calls, withdrawn }
    }

    /// Who asks in an input-required round.
    pub(super) fn asker_of(&self, call: &Arc<InFlight>) -> Asker {
        let origin = Origin { agent: self.agent.clone(), attempt: Some(call.attempt.clone()) };
        Asker { origin, calls: vec![call.clone()], withdrawn: CancellationToken::new() }
    }

    /// Answers a request of the agent: JSON in, JSON out.
    ///
    /// # Errors
    /// A JSON-RPC error for the agent.
    pub(super) async fn answer(&self, asker: &Asker, method: &str, params: &Value) -> Result<Value, ErrorData> {
        let json = |value: serde_json::Result<Value>| value.map_err(|e| ErrorData::internal_error(e.to_string(), None));
        match method {
            "elicitation/create" => {
                let answer = self.elicit(asker, elicitation::read(params)?).await;
                json(serde_json::to_value(elicitation::write(answer)))
            }
            "sampling/createMessage" => json(serde_json::to_value(sampling::write(self.sample(asker, params).await?))),
            "roots/list" => Ok(serde_json::json!({"roots": []})),
            other => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.to_owned(), None)),
        }
    }

    /// Asks a person; a question that nobody waits for any more is taken back.
    pub(super) async fn elicit(&self, asker: &Asker, elicitation: Elicitation) -> Answer {
        let _waiting = asker.waits_for(Whom::Person);
        tokio::select! {
            answer = self.host.elicit(asker.origin.clone(), elicitation) => answer,
            () = self.moot(asker) => Answer::Cancel,
        }
    }

    /// Asks the model.
    ///
    /// # Errors
    /// A JSON-RPC error for the agent.
    pub(super) async fn sample(&self, asker: &Asker, params: &Value) -> Result<ChatReply, ErrorData> {
        if self.sampling == Sampling::Off {
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "this host has no language model", None));
        }
        let chat = sampling::read(params, self.sampling)?;
        let _waiting = asker.waits_for(Whom::Host);
        tokio::select! {
            reply = self.host.sample(asker.origin.clone(), chat) => reply.map_err(sampling::error),
            () = self.moot(asker) => Err(ErrorData::internal_error("nobody waits for the reply any more", None)),
        }
    }

    /// Waits until the answer to `asker` would reach nobody.
    async fn moot(&self, asker: &Asker) {
        let calls_ended = async {
            if asker.calls.is_empty() {
                std::future::pending::<()>().await;
            }
            for call in &asker.calls {
                call.ended.cancelled().await;
            }
        };
        tokio::select! {
            () = asker.withdrawn.cancelled() => {}
            () = self.lost.cancelled() => {}
            () = calls_ended => {}
        }
    }

    /// Passes a log message on, unless the agent floods; then a count of what was dropped follows.
    pub(super) fn logged(self: &Arc<Self>, mut message: LogMessage) {
        if let Value::String(text) = &mut message.data {
            super::truncate(text, LONGEST_LOG);
        }
        let now = Instant::now();
        let mut gate = lock(&self.logs);
        if now.duration_since(gate.since) >= Duration::from_secs(1) && gate.dropped == 0 {
            (gate.since, gate.passed) = (now, 0);
        }
        if gate.passed < LOGS_A_SECOND {
            gate.passed += 1;
            drop(gate);
            return self.pass_on(message);
        }
        gate.dropped += 1;
        let (first, ends) = (gate.dropped == 1, gate.since + Duration::from_secs(1));
        drop(gate);
        if first {
            let link = self.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep_until(ends) => {}
                    () = link.lost.cancelled() => {}
                }
                link.report_dropped_logs();
            });
        }
    }

    fn report_dropped_logs(&self) {
        let mut gate = lock(&self.logs);
        let dropped = std::mem::take(&mut gate.dropped);
        (gate.since, gate.passed) = (Instant::now(), 0);
        drop(gate);
        let data = Value::String(format!("{dropped} log messages dropped: more than {LOGS_A_SECOND} a second"));
        self.pass_on(LogMessage { level: "warning".to_owned(), logger: Some("kapell".to_owned()), data });
    }

    fn pass_on(&self, message: LogMessage) {
        let asker = self.asker(None, CancellationToken::new());
        self.host.logged(asker.origin, message);
    }

    /// Marks the connection as not good for another call.
    pub(super) fn retire(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }
}

impl Asker {
    fn waits_for(&self, whom: Whom) -> Vec<Waiting> {
        self.calls.iter().map(|call| call.waits_for(whom)).collect()
    }
}
