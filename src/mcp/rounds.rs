//! Makes a call's request, and makes it again with the input that the agent asks for, until there is a result.
//! Never keeps an answer: the agent gets it back with the next request, and the host knows it.

use std::time::Duration;

use futures::future::join_all;
use rmcp::model::{ErrorData, InputResponses};
use serde_json::Value;

use super::{
    allowance::REJECTED,
    call::{Call, Unanswered},
    calls::Whom,
    elicitation, failure,
    note::{CallNote, RoundNote},
    request::{Ask, Input},
    result::{Answered, Round},
    vigil::PROGRESS_INTERVAL,
};
use crate::model::{AgentId, Answer, Failure, FailureKind, NoteKey};

/// Rounds of input that one call may ask for.
const MOST_ROUNDS: u32 = 32;
/// The longest pause before a call is repeated for a server that asks for nothing but patience.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// JSON-RPC's code for "a person has to visit a page first" (2025-11-25).
const URL_ELICITATION_REQUIRED: i32 = -32042;

impl Call<'_> {
    /// Sends the request, and again with the input that it asks for, until there is a result; from `open` on, if an
    /// earlier process left a round unanswered.
    pub(super) async fn rounds(&mut self, open: Option<RoundNote>) -> Result<Answered, Failure> {
        let first = open.as_ref().map_or(1, |round| round.number.saturating_add(1));
        let mut ask = match open {
            Some(round) => Box::pin(self.with_input(round)).await?,
            None => Ask::Tool,
        };
        let mut visited = false;
        for number in first..=MOST_ROUNDS {
            match self.exchange(&ask).await {
                Ok(Answered::InputRequired(Round { state, requests })) => {
                    ask = Box::pin(self.with_input(RoundNote { number, state, requests })).await?;
                }
                Ok(answered) => return Ok(answered),
                Err(Unanswered::Error(error)) if error.code.0 == URL_ELICITATION_REQUIRED => {
                    if visited {
                        let failure = failure::rpc(&self.request.agent, &error);
                        return Err(failure.with_help("finish what the page asks for, then run the task again"));
                    }
                    Box::pin(self.visit(&error)).await?;
                    visited = true;
                    ask = Ask::Tool;
                }
                Err(unanswered) => return Err(unanswered.into_failure(&self.request)),
            }
        }
        let message = format!("agent `{}` asked for input {MOST_ROUNDS} times without an end", self.request.agent);
        Err(Failure::new(FailureKind::InvalidResult, message))
    }

    /// Calls the tool as a task, by the experimental protocol of 2025-11-25.
    pub(super) async fn as_task(&mut self) -> Result<Answered, Failure> {
        let answer = self.exchange(&Ask::ToolAsTask).await;
        answer.map_err(|unanswered| unanswered.into_failure(&self.request))
    }

    /// The request with the answers to a round.
    async fn with_input(&mut self, round: RoundNote) -> Result<Ask, Failure> {
        let state = round.state.clone();
        let responses = self.answer(round).await?;
        // A later process that gave the answers again might have the call done twice.
        self.note(CallNote::InputGiven).await?;
        Ok(Ask::ToolWith(Input { state, responses }))
    }

    /// Answers a round of requests, all at once. The host has made a durable note of it before an answer leaves.
    async fn answer(&mut self, round: RoundNote) -> Result<InputResponses, Failure> {
        let link = self.connection.link.clone();
        let flight = self.vigil.flight.clone();
        let work = async move {
            // The agent is not silent: it is the host's turn.
            let _waiting = flight.waits_for(Whom::Host);
            let noted = link.host.note(NoteKey::Call(flight.attempt.clone()), CallNote::Round(round.clone()).write());
            let RoundNote { number, state, requests } = round;
            let answered = async {
                let requests_json = Value::Object(requests.clone());
                link.host.input_required(flight.attempt.clone(), number, state, requests_json).await;
                if requests.is_empty() {
                    let pause = PROGRESS_INTERVAL.saturating_mul(2_u32.saturating_pow(number));
                    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
                }
                join_all(requests.iter().map(async |(key, request)| {
                    // A server may use a key again in a later round.
                    let asker = link.asker_of(&flight, Some(format!("round/{number}/{key}")));
                    (key.clone(), link.answer_to(&asker, request).await)
                }))
                .await
            };
            tokio::join!(noted, answered).1
        };
        let answers = match self.wait(work).await {
            Ok(answers) => answers,
            Err(stop) => return Err(self.stopped(stop).await),
        };
        let mut responses = InputResponses::new();
        for (key, answer) in answers {
            let answer = answer.map_err(|error| no_input(&self.request.agent, &key, &error))?;
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
            let asker = link.asker_of(&self.vigil.flight, None);
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
}

/// A call asks for input that it cannot have: there is no other answer to such a request than input.
pub(super) fn no_input(agent: &AgentId, key: &str, error: &ErrorData) -> Failure {
    let said = failure::words(&error.message);
    let (kind, fate) = match error.code {
        REJECTED => (FailureKind::Denied, "was not allowed"),
        _ => (FailureKind::ServerError, "failed"),
    };
    Failure::new(kind, format!("agent `{agent}` asked for `{key}`, which {fate}: {said}"))
}
