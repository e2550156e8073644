//! Carries out one call of a tool: sends it, answers what it asks, waits as long as it may take, reads the result.
//! Never tries twice, except where the agent says that it has not begun.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use rmcp::{
    ServiceError,
    model::{CallToolRequest, CallToolRequestParams, ClientRequest, ErrorData, InputResponses, RequestMetaObject},
    service::PeerRequestOptions,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    allowance::REJECTED,
    calls::{InFlight, Whom},
    connect::Connection,
    elicitation, failure,
    note::{self, CallNote, RoundNote, StreamNote},
    patience::{Expired, Patience},
    result::{self, Answered, Round},
};
use crate::model::{Answer, Failure, FailureKind, JsonObject, NoteKey, Progress, StartAttempt, ToolOutput};

/// Rounds of input that one call may ask for.
const MOST_ROUNDS: u32 = 32;
/// Progress reaches the host at most this often, and once more before the result.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long telling the agent about a cancellation may hold up the answer to the caller.
const CANCEL_GRACE: Duration = Duration::from_millis(250);
/// The longest pause before a call is repeated for a server that asks for nothing but patience.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// JSON-RPC's code for "a person has to visit a page first" (2025-11-25).
const URL_ELICITATION_REQUIRED: i32 = -32042;

/// A call on its way.
pub(super) struct Call<'a> {
    connection: &'a Connection,
    request: StartAttempt,
    meta: JsonObject,
    cancel: CancellationToken,
    flight: Arc<InFlight>,
    patience: Patience,
    progress: Reported,
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

/// What the host has been told of the progress.
struct Reported {
    pending: Option<Progress>,
    latest: Option<Progress>,
    /// The next report is not before this.
    next: Instant,
}

/// Why a call stops before there is an answer.
enum Stop {
    Cancelled,
    Expired(Expired),
    Lost,
    Condemned(Failure),
}

/// What woke a waiting call.
enum Woken<T> {
    Done(T),
    Cancelled,
    Lost,
    Stirred,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.connection.link.calls.give_up(&self.flight);
        self.flight.ended.cancel();
    }
}

/// Calls a tool over `connection`, or takes up a call.
///
/// # Errors
/// A failure whose kind says what is known of the request; [`FailureKind::Interrupted`] for a call that the agent no
/// longer has.
pub(super) async fn run(
    connection: &Connection,
    order: Order,
    beginning: Beginning,
) -> Result<Arc<ToolOutput>, Failure> {
    let Order { mut request, meta, cancel } = order;
    let catalog = tokio::select! {
        catalog = connection.catalog_for(&request.tool) => catalog?,
        () = cancel.cancelled() => return Err(cancelled(&request)),
    };
    let agent = request.agent.clone();
    let tool = catalog.info.tool(&request.tool).ok_or_else(|| catalog.unknown(&connection.spec, &request.tool))?;
    if matches!(beginning, Beginning::Afresh) {
        let arguments = Value::Object(std::mem::take(&mut request.arguments));
        catalog.check_arguments(&agent, tool, &arguments)?;
        if let Value::Object(arguments) = arguments {
            request.arguments = arguments;
        }
    }
    let patience = Patience::new(request.timeout, request.deadline, Instant::now());
    let flight = InFlight::new(request.attempt.clone());
    let progress = Reported { pending: None, latest: None, next: Instant::now() };
    let mut call = Call { connection, request, meta, cancel, flight, patience, progress, left: None };
    let answered = match beginning {
        Beginning::Afresh => call.rounds(None).await,
        Beginning::From(CallNote::Round(round)) => call.rounds(Some(round)).await,
        Beginning::From(CallNote::Stream(stream)) => call.follow(stream).await,
        Beginning::From(CallNote::RemoteTask(_) | CallNote::Resource(_)) => Err(note::interrupted(&call.request)),
    };
    call.report_last().await;
    let output = result::output(&agent, &tool.name, answered?)?;
    catalog.check_result(&agent, tool, output.structured.as_ref())?;
    Ok(Arc::new(output))
}

/// The run wants the call no more.
pub(super) fn cancelled(request: &StartAttempt) -> Failure {
    Failure::new(FailureKind::Cancelled, format!("the call of `{}` was cancelled", request.tool))
}

impl Call<'_> {
    /// Reads on where an earlier process left the response, in the session in which it asked for it.
    async fn follow(&mut self, stream: StreamNote) -> Result<Answered, Failure> {
        if self.connection.link.session.id() != Some(&*stream.session) {
            return Err(note::interrupted(&self.request));
        }
        self.left = Some(stream);
        self.rounds(None).await
    }

    /// Sends the request, and again with the input that it asks for, until there is a result; from `open` on, if an
    /// earlier process left a round unanswered.
    async fn rounds(&mut self, open: Option<RoundNote>) -> Result<Answered, Failure> {
        let first = open.as_ref().map_or(1, |round| round.number.saturating_add(1));
        let mut params = match open {
            Some(round) => self.retry(round).await?,
            None => self.params(),
        };
        let mut visited = false;
        for number in first..=MOST_ROUNDS {
            match self.exchange(params).await {
                Ok(Answered::InputRequired(Round { state, requests })) => {
                    params = self.retry(RoundNote { number, state, requests }).await?;
                }
                Ok(answered) => return Ok(answered),
                Err(Refusal::Pages(error)) if !visited => {
                    self.visit(&error).await?;
                    visited = true;
                    params = self.params();
                }
                Err(Refusal::Pages(error)) => {
                    let failure = failure::rpc(&self.request.agent, &error);
                    return Err(failure.with_help("finish what the page asks for, then run the task again"));
                }
                Err(Refusal::Failed(failure)) => return Err(failure),
            }
        }
        let message = format!("agent `{}` asked for input {MOST_ROUNDS} times without an end", self.request.agent);
        Err(Failure::new(FailureKind::InvalidResult, message))
    }

    fn params(&self) -> CallToolRequestParams {
        CallToolRequestParams::new(self.request.tool.to_string()).with_arguments(self.request.arguments.clone())
    }

    /// The request with the answers to a round.
    async fn retry(&mut self, round: RoundNote) -> Result<CallToolRequestParams, Failure> {
        let mut params = self.params();
        params.request_state.clone_from(&round.state);
        params.input_responses = Some(self.answer(round).await?);
        Ok(params)
    }

    /// Sends one request and waits for its answer.
    async fn exchange(&mut self, params: CallToolRequestParams) -> Result<Answered, Refusal> {
        let mut meta = RequestMetaObject::from(self.meta.clone());
        if self.connection.modern {
            self.connection.ask_for_logs(&mut meta);
        }
        let mut options = PeerRequestOptions::no_options();
        options.meta = Some(meta);
        let mut request = CallToolRequest::new(params);
        request.extensions.insert(self.flight.clone());
        if let Some(stream) = self.left.take() {
            request.extensions.insert(stream);
        }
        self.flight.prepare();
        let peer = self.connection.peer.clone();
        let send = async move { peer.send_cancellable_request(ClientRequest::CallToolRequest(request), options).await };
        let mut handle = match self.wait(send).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => {
                self.connection.link.calls.settled(&self.flight);
                return Err(self.failed(&error).await.into());
            }
            Err(stop) => {
                self.give_up(&stop);
                return Err(self.stopped(stop).await.into());
            }
        };
        let answer = self.wait(&mut handle.rx).await;
        match &answer {
            Ok(_) => self.connection.link.calls.settled(&self.flight),
            Err(stop) => self.give_up(stop),
        }
        match answer {
            Ok(Ok(Ok(answer))) => Ok(result::read(answer)),
            Ok(Ok(Err(ServiceError::McpError(error)))) if error.code.0 == URL_ELICITATION_REQUIRED => {
                Err(Refusal::Pages(error))
            }
            Ok(Ok(Err(error))) => Err(self.failed(&error).await.into()),
            Ok(Err(_)) => Err(self.failed(&ServiceError::TransportClosed).await.into()),
            Err(stop) => {
                if !matches!(stop, Stop::Lost) {
                    let reason = Some(stop.reason().to_owned());
                    // A child that does not read must not hold up the caller; the message stays queued.
                    let _ = tokio::time::timeout(CANCEL_GRACE, handle.cancel(reason)).await;
                }
                Err(self.stopped(stop).await.into())
            }
        }
    }

    /// Takes the request from those that are waited for.
    fn give_up(&self, stop: &Stop) {
        let calls = &self.connection.link.calls;
        match stop {
            Stop::Cancelled | Stop::Expired(_) => calls.give_up(&self.flight),
            // Nothing more comes, or it has come and was no answer.
            Stop::Lost | Stop::Condemned(_) => calls.settled(&self.flight),
        }
    }

    /// Answers a round of requests, all at once, after the host has made a durable note of it.
    async fn answer(&mut self, round: RoundNote) -> Result<InputResponses, Failure> {
        let link = self.connection.link.clone();
        let flight = self.flight.clone();
        let work = async move {
            // The agent is not silent: it is the host's turn.
            let _waiting = flight.waits_for(Whom::Host);
            let noted = link.host.note(NoteKey::Call(flight.attempt.clone()), CallNote::Round(round.clone()).write());
            let RoundNote { number, state, requests } = round;
            let reported =
                link.host.input_required(flight.attempt.clone(), number, state, Value::Object(requests.clone()));
            tokio::join!(noted, reported);
            if requests.is_empty() {
                let pause = PROGRESS_INTERVAL.saturating_mul(2_u32.saturating_pow(number));
                tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
            }
            join_all(requests.iter().map(async |(key, request)| {
                // A server may use a key again in a later round.
                let asker = link.asker_of(&flight, Some(format!("round/{number}/{key}")));
                let method = request.get("method").and_then(Value::as_str).unwrap_or_default();
                let params = request.get("params").unwrap_or(&Value::Null);
                (key.clone(), link.answer(&asker, method, params).await)
            }))
            .await
        };
        let answers = match self.wait(work).await {
            Ok(answers) => answers,
            Err(stop) => return Err(self.stopped(stop).await),
        };
        let mut responses = InputResponses::new();
        for (key, answer) in answers {
            let answer = answer.map_err(|error| {
                let said = failure::words(&error.message);
                let (kind, fate) = match error.code {
                    REJECTED => (FailureKind::Denied, "was not allowed"),
                    _ => (FailureKind::ServerError, "failed"),
                };
                let message = format!("agent `{}` asked for `{key}`, which {fate}: {said}", self.request.agent);
                Failure::new(kind, message)
            })?;
            responses.insert(key, answer);
        }
        Ok(responses)
    }

    /// Has a person visit the pages that the agent names in its error.
    async fn visit(&mut self, error: &ErrorData) -> Result<(), Failure> {
        let pages = elicitation::required_pages(error.data.as_ref());
        if pages.is_empty() {
            return Err(failure::rpc(&self.request.agent, error));
        }
        for page in pages {
            let link = self.connection.link.clone();
            let asker = link.asker_of(&self.flight, None);
            match self.wait(async move { link.elicit(&asker, page).await }).await {
                Ok(Answer::Accept { .. }) => {}
                Ok(Answer::Decline | Answer::Cancel) => {
                    let agent = &self.request.agent;
                    let message = format!("nobody visited the page that agent `{agent}` needs: {}", error.message);
                    return Err(Failure::new(FailureKind::Denied, message));
                }
                Err(stop) => return Err(self.stopped(stop).await),
            }
        }
        Ok(())
    }

    /// Waits for `work` as long as the call may take, and reports progress meanwhile.
    async fn wait<F: Future>(&mut self, work: F) -> Result<F::Output, Stop> {
        let mut work = std::pin::pin!(work);
        loop {
            let look_again = self.patience.ends().into_iter().chain(self.progress.due()).min();
            let woken = tokio::select! {
                biased;
                done = work.as_mut() => Woken::Done(done),
                () = self.cancel.cancelled() => Woken::Cancelled,
                () = self.connection.link.lost.cancelled() => Woken::Lost,
                () = self.flight.stirred() => Woken::Stirred,
                () = until(look_again) => Woken::Stirred,
            };
            match woken {
                Woken::Done(done) => return Ok(done),
                Woken::Cancelled => return Err(Stop::Cancelled),
                Woken::Lost => {
                    let verdict = self.flight.verdict().cloned();
                    return Err(verdict.map_or(Stop::Lost, Stop::Condemned));
                }
                Woken::Stirred => {}
            }
            if let Some(failure) = self.flight.verdict() {
                return Err(Stop::Condemned(failure.clone()));
            }
            let now = Instant::now();
            if let Some(progress) = self.flight.news() {
                self.patience.heard(now);
                self.progress.pending = Some(progress);
            }
            self.patience.asked(self.flight.asking(), now);
            if self.progress.due().is_some_and(|due| due <= now) {
                self.report(now);
            }
            if let Some(expired) = self.patience.expired(now) {
                return Err(Stop::Expired(expired));
            }
        }
    }

    fn report(&mut self, now: Instant) {
        if let Some(progress) = self.progress.pending.take() {
            if self.progress.latest.as_ref() != Some(&progress) {
                self.connection.link.host.progressed(&self.request.attempt, progress.clone());
            }
            self.progress.latest = Some(progress);
            self.progress.next = now + PROGRESS_INTERVAL;
        }
    }

    /// Reports the furthest progress before the result follows. Each notification is handled in a task of its own, and
    /// those that came before the response have only to get their turn.
    async fn report_last(&mut self) {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if let Some(progress) = self.flight.news() {
            self.progress.pending = Some(progress);
        }
        self.report(Instant::now());
    }

    /// Says why the call ended without an answer.
    async fn stopped(&mut self, stop: Stop) -> Failure {
        let (agent, tool) = (&self.request.agent, &self.request.tool);
        let latest = self.progress.pending.as_ref().or(self.progress.latest.as_ref());
        let seen = match latest {
            Some(Progress { progress, total, message }) => {
                let total = total.map(|total| format!(" of {total}")).unwrap_or_default();
                let message = message.as_ref().map(|text| format!(" (`{text}`)")).unwrap_or_default();
                format!("its last progress was {progress}{total}{message}")
            }
            None => "it reported no progress".to_owned(),
        };
        match stop {
            Stop::Cancelled => cancelled(&self.request),
            Stop::Condemned(failure) => failure,
            Stop::Lost => self.connection.lost(self.flight.was_sent()).await,
            Stop::Expired(Expired::Silence(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` was silent for {limit:?}; {seen}");
                Failure::new(FailureKind::IdleTimeout, message)
                    .with_help("raise the task's `timeout` if it needs longer")
            }
            Stop::Expired(Expired::Whole(limit)) => {
                let message = format!("`{tool}` of agent `{agent}` took longer than {limit:?}; {seen}");
                let help = "raise the task's `deadline` if it needs longer";
                Failure::new(FailureKind::DeadlineExceeded, message).with_help(help)
            }
        }
    }

    /// Says why the request has no answer.
    async fn failed(&mut self, error: &ServiceError) -> Failure {
        if let Some(verdict) = self.flight.verdict() {
            return verdict.clone();
        }
        let Some(failure) = failure::service(&self.request.agent, error) else {
            return self.connection.lost(self.flight.was_sent()).await;
        };
        if matches!(failure.kind, FailureKind::SessionLost | FailureKind::NotSent) {
            self.connection.link.retire();
        }
        failure
    }
}

impl Reported {
    /// When the pending progress is to be reported.
    fn due(&self) -> Option<Instant> {
        self.pending.is_some().then_some(self.next)
    }
}

impl Stop {
    /// What the agent is told.
    fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => "the run was cancelled",
            Self::Expired(Expired::Silence(_)) => "the call was silent for too long",
            Self::Expired(Expired::Whole(_)) => "the call took too long",
            Self::Lost | Self::Condemned(_) => "the call failed",
        }
    }
}

/// Why a request has no result.
enum Refusal {
    /// A person has to visit pages first.
    Pages(ErrorData),
    Failed(Failure),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
