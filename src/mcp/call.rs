//! Carries out one call of a tool, from its request or from where an earlier process left it, to its output.
//! Never tries twice, except where the agent says that it has not begun.

use std::{pin::pin, sync::Arc, time::Duration};

use rmcp::{
    ServiceError,
    model::{ClientRequest, CustomRequest, ErrorData, ServerResult},
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    calls::Answer,
    catalog::Catalog,
    connect::Connection,
    failure,
    note::{self, CallNote, StreamNote},
    pool::{Pool, Route},
    repeat::Repeat,
    request::{Ask, Request},
    result::{self, Answered},
    turns::Turn,
    vigil::{Stop, Vigil, cancelled},
    wire::Pending,
};
use crate::model::{AgentId, Failure, FailureKind, JsonObject, NoteKey, ResultChecks, StartAttempt, ToolOutput};

/// How long telling the agent about a cancellation may hold up the answer to the caller.
pub(super) const CANCEL_GRACE: Duration = Duration::from_millis(250);

/// A call on its way.
pub(super) struct Call<'p> {
    pub(super) route: Route<'p>,
    pub(super) connection: Arc<Connection>,
    /// Kept as long as the agent may ask on the call's behalf.
    turn: Option<Turn<'p>>,
    pub(super) request: StartAttempt,
    meta: JsonObject,
    pub(super) vigil: Vigil,
    /// The response that an earlier process was reading, until it is read on.
    left: Option<StreamNote>,
}

/// What is to be done, and for how long.
pub(super) struct Order {
    pub(super) request: StartAttempt,
    /// Goes into the request's `_meta`.
    pub(super) meta: JsonObject,
    /// When it is cancelled, the agent is told.
    pub(super) cancel: CancellationToken,
}

/// Where a call begins.
pub(super) enum Beginning {
    /// With its request.
    Afresh,
    /// Where an earlier process left it.
    From(CallNote),
}

/// Why a request has no result.
pub(super) enum Unanswered {
    /// It was answered with a JSON-RPC error.
    Error(ErrorData),
    /// No answer came, or none that can be read.
    Failed(Failure),
    /// The call ended first.
    Stopped(Failure),
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.vigil.flight.ended.cancel();
    }
}

/// Calls a tool on an agent of `pool`, or takes up a call.
///
/// # Errors
/// A failure whose kind says what is known of the request; [`FailureKind::Interrupted`] for a call that the agent no
/// longer has.
pub(super) async fn run(pool: &Pool, order: Order, beginning: Beginning) -> Result<Arc<ToolOutput>, Failure> {
    let Order { request, meta, cancel } = order;
    let route = pool.route(&request.agent)?;
    let (connection, turn) = match &beginning {
        Beginning::From(CallNote::RemoteTask(_) | CallNote::Resource(_)) => {
            Box::pin(reach(route, &request, &cancel)).await?
        }
        Beginning::Afresh | Beginning::From(_) => tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(cancelled(&request.tool)),
            ready = route.turn() => ready?,
        },
    };
    let vigil = Vigil::new(&request, connection.link.host.clone(), cancel);
    let mut call = Call { route, connection, turn, request, meta, vigil, left: None };
    let output = call.output(beginning).await;
    call.vigil.report_last();
    output.map(Arc::new)
}

/// Connects for a call that waits at the agent, again and again for as long as the agent may be silent.
async fn reach<'p>(
    route: Route<'p>,
    request: &StartAttempt,
    cancel: &CancellationToken,
) -> Result<(Arc<Connection>, Option<Turn<'p>>), Failure> {
    let mut vigil = Vigil::new(request, route.host(), cancel.clone());
    let mut repeat = Repeat::every(Duration::ZERO);
    loop {
        let stop = match vigil.wait(route.turn(), std::future::pending()).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(failure)) if route.is_closed() => return Err(failure),
            Ok(Err(failure)) => {
                repeat.failed(failure);
                match vigil.wait(tokio::time::sleep(repeat.next()), std::future::pending()).await {
                    Ok(()) => continue,
                    Err(stop) => stop,
                }
            }
            Err(stop) => stop,
        };
        return Err(repeat.explain(vigil.stopped(stop).unwrap_or_else(|| note::interrupted(request))));
    }
}

impl<'p> Call<'p> {
    /// What the call is for: what its tool returned, or the resource to which that links.
    async fn output(&mut self, beginning: Beginning) -> Result<ToolOutput, Failure> {
        let awaits = self.request.awaits.clone();
        let beginning = match (beginning, &awaits) {
            (Beginning::From(CallNote::Resource(note)), Some(awaits)) => {
                return Box::pin(self.resource(awaits, note)).await;
            }
            (beginning, _) => beginning,
        };
        let answered = self.answered(beginning).await?;
        let (agent, name) = (&self.request.agent, &self.request.tool);
        let mut output = result::output(agent, name, answered)?;
        Box::pin(self.check_result(&mut output)).await?;
        match awaits {
            Some(awaits) => Box::pin(self.linked(&awaits, &output)).await,
            None => Ok(output),
        }
    }

    /// What the call came back with, in the end.
    async fn answered(&mut self, beginning: Beginning) -> Result<Answered, Failure> {
        let answered = match beginning {
            Beginning::Afresh => {
                self.check().await?;
                match self.connection.catalog().needs_task(&self.request.tool) && !self.connection.modern {
                    true => Box::pin(self.as_task()).await?,
                    false => self.rounds(None).await?,
                }
            }
            Beginning::From(CallNote::Round(round)) => Box::pin(self.rounds(Some(round))).await?,
            Beginning::From(CallNote::RemoteTask(task)) => return Box::pin(self.take_up(task)).await,
            Beginning::From(CallNote::Stream(stream)) => Box::pin(self.read_on(stream)).await?,
            // The answers have left, or the plan no longer waits for the resource.
            Beginning::From(CallNote::InputGiven | CallNote::Resource(_)) => {
                return Err(note::interrupted(&self.request));
            }
        };
        match answered {
            Answered::Task(task) => Box::pin(self.follow(task)).await,
            answered => Ok(answered),
        }
    }

    /// Reads on where an earlier process left the response, in the session in which it asked for it.
    async fn read_on(&mut self, stream: StreamNote) -> Result<Answered, Failure> {
        if self.connection.link.session.id() != Some(&*stream.session) {
            return Err(note::interrupted(&self.request));
        }
        let task = stream.task.clone();
        self.left = Some(stream);
        match task {
            Some(task) => Box::pin(self.take_up(task)).await,
            None => Box::pin(self.rounds(None)).await,
        }
    }

    /// Checks the tool and the arguments before anything is sent. Nothing is refused by a list that is out of date.
    async fn check(&mut self) -> Result<(), Failure> {
        let (connection, tool) = (self.connection.clone(), self.request.tool.clone());
        let mut arguments = Value::Object(std::mem::take(&mut self.request.arguments));
        let mut known = connection.catalog();
        if connection.listed(&tool).is_none() {
            known = Box::pin(self.listed_again(&known)).await?;
        }
        if let Err(failure) = Box::pin(self.check_arguments(&known, &mut arguments)).await {
            let by_list = matches!(failure.kind, FailureKind::UnknownTool | FailureKind::InvalidArguments);
            if !by_list || !known.is_stale() {
                return Err(failure);
            }
            let latest = Box::pin(self.listed_again(&known)).await?;
            Box::pin(self.check_arguments(&latest, &mut arguments)).await?;
        }
        if let Value::Object(arguments) = arguments {
            self.request.arguments = arguments;
        }
        Ok(())
    }

    /// Checks the tool and its arguments against `catalog`.
    async fn check_arguments(&mut self, catalog: &Catalog, arguments: &mut Value) -> Result<(), Failure> {
        let (connection, name) = (self.connection.clone(), self.request.tool.clone());
        let tool = catalog.info.tool(&name).ok_or_else(|| catalog.unknown(&connection.spec, &name))?;
        let checking = catalog.check_arguments(&connection.spec.id, tool, arguments);
        match self.vigil.wait(checking, std::future::pending()).await {
            Ok(checked) => checked?.into_iter().for_each(|warning| connection.link.warn(warning)),
            Err(stop) => return Err(self.stopped(stop).await),
        }
        Ok(())
    }

    /// Checks what came back as the agents file has it.
    async fn check_result(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let checks = self.connection.spec.check_results;
        if checks == ResultChecks::Off {
            return Ok(());
        }
        match self.check_result_by_schema(output).await {
            Err(failure) if failure.kind == FailureKind::InvalidResult => match checks {
                ResultChecks::Warn => output.warning = Some(failure.message.into()),
                _ => return Err(with_text(failure, output, &self.request.agent)),
            },
            checked => checked?,
        }
        Ok(())
    }

    /// Checks what came back against the tool's schema, the latest one where the known one is out of date.
    async fn check_result_by_schema(&mut self, output: &mut ToolOutput) -> Result<(), Failure> {
        let known = self.connection.catalog();
        let Err(failure) = self.check_result_by(&known, output).await else { return Ok(()) };
        if failure.kind != FailureKind::InvalidResult || !known.is_stale() || !self.connection.is_usable() {
            return Err(failure);
        }
        // The answer is there, whatever becomes of the list.
        let Ok(latest) = Box::pin(self.listed_again(&known)).await else { return Err(failure) };
        self.check_result_by(&latest, output).await
    }

    async fn check_result_by(&mut self, catalog: &Catalog, output: &mut ToolOutput) -> Result<(), Failure> {
        // A tool that is no longer listed has no schema to break.
        let Some(tool) = catalog.info.tool(&self.request.tool) else { return Ok(()) };
        let connection = self.connection.clone();
        let checking = catalog.check_result(&connection.spec.id, tool, output.structured.as_mut());
        match self.vigil.wait(checking, std::future::pending()).await {
            Ok(checked) => checked?.into_iter().for_each(|warning| connection.link.warn(warning)),
            Err(stop) => return Err(self.stopped(stop).await),
        }
        Ok(())
    }

    /// The tools, listed again unless that was done since they were as in `known`.
    async fn listed_again(&mut self, known: &Arc<Catalog>) -> Result<Arc<Catalog>, Failure> {
        let connection = self.connection.clone();
        match self.vigil.wait(connection.list(known), std::future::pending()).await {
            Ok(catalog) => catalog,
            Err(stop) => Err(self.stopped(stop).await),
        }
    }

    /// Sends a request of the call itself, on whose behalf the agent may ask back, and waits for its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn exchange(&mut self, ask: &Ask) -> Result<Answered, Unanswered> {
        let mut pending = self.send(ask).await?;
        let answer = self.wait(pin!(pending.answer())).await;
        match answer {
            Ok(answer) => self.read_answer(answer).await,
            Err(stop) => Box::pin(self.withdraw(pending, stop)).await,
        }
    }

    /// Sends a request of the call itself.
    pub(super) async fn send(&mut self, ask: &Ask) -> Result<Pending, Unanswered> {
        let (connection, left) = (self.connection.clone(), self.left.take());
        let catalog = connection.catalog();
        let schema = catalog.info.tool(&self.request.tool).map(|tool| &tool.input_schema);
        let request = Request { ask, call: &self.request, meta: &self.meta, schema };
        let flight = self.vigil.flight.clone();
        let sending = connection.wire.send(request, &flight, left);
        let sent = self.vigil.wait(pin!(sending), connection.link.lost.cancelled()).await;
        match sent {
            Ok(Some(pending)) => Ok(pending),
            Ok(None) => Err(Unanswered::Failed(Box::pin(self.unexplained()).await)),
            Err(stop) => Err(Box::pin(self.unanswered(stop)).await),
        }
    }

    /// What an answer, if it came, says.
    pub(super) async fn read_answer(&mut self, answer: Option<Answer>) -> Result<Answered, Unanswered> {
        match answer {
            Some(Answer::Result(answered)) => Ok(answered),
            Some(Answer::Error(error)) => Err(Unanswered::Error(error)),
            Some(Answer::None(failure)) => Err(Unanswered::Failed(self.explained(failure))),
            None => Err(Unanswered::Failed(Box::pin(self.unexplained()).await)),
        }
    }

    /// Gives up a request, and tells the agent so if there is anybody to tell.
    async fn withdraw(&mut self, pending: Pending, stop: Stop) -> Result<Answered, Unanswered> {
        match &stop {
            // Nothing more comes.
            Stop::Lost => pending.settle(),
            Stop::Cancelled | Stop::Expired(_) | Stop::Condemned(_) => {
                if let Stop::Condemned(_) = stop {
                    // What came of it was no answer.
                    pending.settle();
                }
                // A child that does not read must not hold up the caller; the message stays queued.
                let telling = self.connection.wire.cancel(pending, stop.reason());
                let _ = tokio::time::timeout(CANCEL_GRACE, telling).await;
            }
        }
        Err(self.unanswered(stop).await)
    }

    /// Sends a request about the call, with which the agent does nothing but answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn ask(&mut self, request: ClientRequest) -> Result<ServerResult, Unanswered> {
        let peer = self.connection.peer.clone();
        let work = Box::pin(async move {
            let handle = peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
            handle.rx.await.unwrap_or(Err(ServiceError::TransportClosed))
        });
        match self.wait(work).await {
            Ok(answer) => self.read(answer).await,
            Err(stop) => Err(Box::pin(self.unanswered(stop)).await),
        }
    }

    async fn read(&mut self, answer: Result<ServerResult, ServiceError>) -> Result<ServerResult, Unanswered> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(ServiceError::McpError(error)) => Err(Unanswered::Error(error)),
            Err(error) => Err(Unanswered::Failed(Box::pin(self.failed(&error)).await)),
        }
    }

    /// Waits for `work` as long as the call may take and the connection is there.
    pub(super) async fn wait<F: Future>(&mut self, work: F) -> Result<F::Output, Stop> {
        let connection = self.connection.clone();
        self.vigil.wait(work, connection.link.lost.cancelled()).await
    }

    /// Makes a durable note of where the call is.
    pub(super) async fn note(&mut self, note: CallNote) -> Result<(), Failure> {
        let kept = self.connection.link.host.note(NoteKey::Call(self.request.attempt.clone()), note.write());
        // What the agent does meanwhile does not matter, and a lost connection will be seen later.
        match self.vigil.wait(kept, std::future::pending()).await {
            Ok(()) => Ok(()),
            Err(stop) => Err(self.stopped(stop).await),
        }
    }

    /// Connects again if the connection is no longer good.
    ///
    /// # Errors
    /// [`Unanswered::Stopped`] when the call has ended meanwhile, or the run is over; [`Unanswered::Failed`] when there
    /// is no connection now.
    pub(super) async fn reconnect(&mut self) -> Result<(), Unanswered> {
        if self.connection.is_usable() {
            return Ok(());
        }
        // Waiting for another turn with this one in hand could take for ever.
        self.turn = None;
        let route = self.route;
        self.connect(route.turn()).await
    }

    /// As [`Call::reconnect`], and lets others have the call's turn: nothing more makes the agent ask on its behalf.
    ///
    /// # Errors
    /// As [`Call::reconnect`].
    pub(super) async fn reconnect_without_turn(&mut self) -> Result<(), Unanswered> {
        self.turn = None;
        if self.connection.is_usable() {
            return Ok(());
        }
        let route = self.route;
        self.connect(async move { Ok((route.connection().await?, None)) }).await
    }

    async fn connect(
        &mut self,
        connecting: impl Future<Output = Result<(Arc<Connection>, Option<Turn<'p>>), Failure>>,
    ) -> Result<(), Unanswered> {
        let route = self.route;
        let (connection, turn) = match self.vigil.wait(connecting, std::future::pending()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(failure)) if route.is_closed() => return Err(Unanswered::Stopped(failure)),
            Ok(Err(failure)) => return Err(Unanswered::Failed(failure)),
            Err(stop) => return Err(self.unanswered(stop).await),
        };
        (self.connection, self.turn) = (connection, turn);
        Ok(())
    }

    /// Says why the call ended without an answer.
    pub(super) async fn stopped(&mut self, stop: Stop) -> Failure {
        match self.vigil.stopped(stop) {
            Some(failure) => failure,
            None => self.connection.lost(self.vigil.flight.was_sent()).await,
        }
    }

    pub(super) async fn unanswered(&mut self, stop: Stop) -> Unanswered {
        match self.vigil.stopped(stop) {
            Some(failure) => Unanswered::Stopped(failure),
            None => Unanswered::Failed(self.connection.lost(self.vigil.flight.was_sent()).await),
        }
    }

    /// Says why a request of the service has no answer.
    async fn failed(&mut self, error: &ServiceError) -> Failure {
        match failure::service(&self.request.agent, error) {
            Some(failure) => self.explained(failure),
            None => self.unexplained().await,
        }
    }

    /// A failure of which the transport says why.
    fn explained(&self, failure: Failure) -> Failure {
        if let Some(verdict) = self.vigil.flight.verdict() {
            return verdict.clone();
        }
        if matches!(failure.kind, FailureKind::SessionLost | FailureKind::NotSent) {
            self.connection.link.retire();
        }
        failure
    }

    /// A failure of which nobody has said why.
    async fn unexplained(&self) -> Failure {
        match self.vigil.flight.verdict() {
            Some(verdict) => verdict.clone(),
            None => self.connection.lost(self.vigil.flight.was_sent()).await,
        }
    }
}

impl Unanswered {
    /// What it means where no more can come of the request.
    pub(super) fn into_failure(self, request: &StartAttempt) -> Failure {
        match self {
            Self::Error(error) => failure::rpc(&request.agent, &error),
            Self::Failed(failure) | Self::Stopped(failure) => failure,
        }
    }
}

/// Shows the text of a result that breaks its schema: it may be all that a person needs.
fn with_text(failure: Failure, output: &ToolOutput, agent: &AgentId) -> Failure {
    let help = format!(
        "the server has to correct the tool's `outputSchema`, or what the tool returns; `check_results = \"warn\"` in \
         `[agents.{agent}]` takes such results as they are"
    );
    let text = failure::words(&output.text());
    let message = if text.is_empty() { failure.message } else { format!("{}; its text: {text}", failure.message) };
    Failure { message, ..failure }.with_more_help(help)
}

/// A request by its method.
pub(super) fn custom(method: &str, params: Value) -> ClientRequest {
    ClientRequest::CustomRequest(CustomRequest::new(method, Some(params)))
}
