//! Sends the requests of calls and routes their answers, past rmcp's service: the service would try every result as all
//! that it knows, and hold each request in several shapes.
//! Never decides what an answer means.
#![expect(deprecated, reason = "log levels are deprecated in 2026-07-28, and existing servers use them")]

use std::sync::Arc;

use rmcp::model::{ClientConfig, LoggingLevel, ProtocolVersion, RequestMetaObject};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use super::{
    calls::{Answer, InFlight},
    http_calls::HttpCalls,
    link::Link,
    note::StreamNote,
    request::{Preamble, Request},
    writer::Lines,
};

/// The way of calls to an agent, over one connection.
pub(super) struct Wire {
    link: Arc<Link>,
    preamble: Preamble,
    way: Way,
}

/// What a message goes over.
pub(super) enum Way {
    Pipe(Lines),
    Http(Arc<HttpCalls>),
}

/// A request that waits for its answer. Dropped before that has come, nobody waits for it any more.
pub(super) struct Pending {
    link: Arc<Link>,
    request: i64,
    answer: oneshot::Receiver<Answer>,
    /// Over HTTP, what sends the request and reads the response.
    exchange: Option<AbortOnDropHandle<()>>,
}

#[derive(Serialize)]
struct Cancelled<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: CancelledParams<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CancelledParams<'a> {
    request_id: i64,
    reason: &'a str,
}

impl Wire {
    /// The way of calls over a connection of `client` whose handshake has agreed on `version`.
    pub(super) fn new(link: Arc<Link>, client: &ClientConfig, version: &ProtocolVersion, way: Way) -> Self {
        let preamble = match version.has_initialize() {
            true => Preamble::default(),
            // Without a handshake, every request says who asks, and for which log messages.
            false => {
                let (info, capabilities) = (client.client_info.clone(), client.capabilities.clone());
                let mut meta = RequestMetaObject::with_client_context(version.clone(), info, capabilities);
                meta.set_log_level(LoggingLevel::Info);
                Preamble::new(&meta)
            }
        };
        Self { link, preamble, way }
    }

    /// Sends a request of `call`, or takes up the response that an earlier process was reading. Ends when there is room
    /// for the request. `None`: nothing more can be sent over the connection.
    pub(super) async fn send(
        &self,
        request: Request<'_>,
        call: &Arc<InFlight>,
        left: Option<StreamNote>,
    ) -> Option<Pending> {
        let link = self.link.clone();
        let id = left.as_ref().map_or_else(|| link.session.number(), |left| left.request);
        let answer = link.calls.open(id, call);
        let mut pending = Pending { link, request: id, answer, exchange: None };
        call.prepare();
        match (&self.way, left) {
            (Way::Pipe(lines), _) => {
                let text = request.write(id, &self.preamble);
                lines.call(text, call.clone(), id).await.ok()?;
            }
            (Way::Http(calls), None) => {
                let text = request.write(id, &self.preamble);
                pending.exchange = Some(calls.send(id, text, &request, call.clone()));
            }
            (Way::Http(calls), Some(note)) => pending.exchange = Some(calls.take_up(note, call.clone())),
        }
        Some(pending)
    }

    /// Gives up a request and tells the agent. Ends when that is written, or will be.
    pub(super) async fn cancel(&self, pending: Pending, reason: &str) {
        let request_id = pending.request;
        self.link.calls.give_up(request_id);
        let cancelled = Cancelled {
            jsonrpc: "2.0",
            method: "notifications/cancelled",
            params: CancelledParams { request_id, reason },
        };
        let text = serde_json::to_vec(&cancelled).expect("numbers and text do not refuse");
        match &self.way {
            // A child that has closed its input is not told.
            Way::Pipe(lines) => {
                let _ = lines.tell(text).await;
            }
            Way::Http(calls) => {
                let calls = calls.clone();
                // The response stays open meanwhile, since there are legacy servers that say over it how it went. Whoever
                // does not wait for this does not end it either.
                let telling = tokio::spawn(async move {
                    calls.cancel(text).await;
                    drop(pending);
                });
                let _ = telling.await;
            }
        }
    }
}

impl Pending {
    /// Waits for the answer. `None`: no more can come of the request, and nobody knows why.
    pub(super) async fn answer(&mut self) -> Option<Answer> {
        let answer = (&mut self.answer).await.ok()?;
        if let Some(exchange) = self.exchange.take() {
            // What it still reads leaves the connection fit for another request.
            exchange.detach();
        }
        Some(answer)
    }

    /// No answer can come any more.
    pub(super) fn settle(&self) {
        self.link.calls.settle(self.request);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.link.calls.give_up(self.request);
    }
}
