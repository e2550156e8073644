//! Makes a call's request, and makes it again with the input that the agent asks for, until there is a result.
//! Never keeps an answer: the agent gets it back with the next request, and the host knows it.

use std::time::Duration;

use futures::future::join_all;
use rmcp::model::{ErrorData, InputResponses};
use serde_json::Value;

use super::{
    call::{ActiveCall, CallError},
    call_guard::PROGRESS_INTERVAL,
    call_request::{CallInput, CallKind},
    call_result::{CallResult, InputRound},
    checkpoint::{CallCheckpoint, InputRoundCheckpoint},
    elicitation, failure,
    open_calls::AnswerSource,
    sampling_quota::USER_REJECTED,
};
use crate::model::{AgentId, Answer, CheckpointKey, Failure, FailureKind};

/// Rounds of input that one call may ask for.
const MAX_ROUNDS: u32 = 32;
/// The longest pause before a call is repeated for a server that asks for nothing but patience.
const MAX_ROUND_DELAY: Duration = Duration::from_secs(5);
/// JSON-RPC's code for "a person has to visit a page first" (2025-11-25).
const URL_ELICITATION_REQUIRED: i32 = -32042;

impl ActiveCall<'_> {
    /// Sends the request, and again with the input that it asks for, until there is a result; from `open` on, if an
    /// earlier process left a round unanswered.
    pub(super) async fn request_with_input(
        &mut self,
        open: Option<InputRoundCheckpoint>,
    ) -> Result<CallResult, Failure> {
        let first = open.as_ref().map_or(1, |round| round.number.saturating_add(1));
        let mut ask = match open {
            Some(round) => Box::pin(self.answer_round(round)).await?,
            None => CallKind::Tool,
        };
        let mut visited = false;
        for number in first..=MAX_ROUNDS {
            match self.exchange(&ask).await {
                Ok(CallResult::InputRequired(InputRound { state, requests })) => {
                    ask = Box::pin(self.answer_round(InputRoundCheckpoint { number, state, requests })).await?;
                }
                Ok(answered) => return Ok(answered),
                Err(CallError::Rpc(error)) if error.code.0 == URL_ELICITATION_REQUIRED => {
                    if visited {
                        let failure = failure::from_rpc(&self.request.agent, &error);
                        return Err(failure.with_help("finish what the page asks for, then run the task again"));
                    }
                    Box::pin(self.visit_urls(&error)).await?;
                    visited = true;
                    ask = CallKind::Tool;
                }
                Err(unanswered) => return Err(unanswered.into_failure(&self.request)),
            }
        }
        let message = format!("agent `{}` asked for input {MAX_ROUNDS} times without an end", self.request.agent);
        Err(Failure::new(FailureKind::InvalidResult, message))
    }

    /// Calls the tool as a task, by the experimental protocol of 2025-11-25.
    pub(super) async fn request_as_task(&mut self) -> Result<CallResult, Failure> {
        let answer = self.exchange(&CallKind::ToolAsTask).await;
        answer.map_err(|unanswered| unanswered.into_failure(&self.request))
    }

    /// The request with the answers to a round.
    async fn answer_round(&mut self, round: InputRoundCheckpoint) -> Result<CallKind, Failure> {
        let state = round.state.clone();
        let responses = self.collect_answers(round).await?;
        // A later process that gave the answers again might have the call done twice.
        self.checkpoint(CallCheckpoint::InputGiven).await?;
        Ok(CallKind::ToolWithInput(CallInput { state, responses }))
    }

    /// Answers a round of requests, all at once. The host has made a durable note of it before an answer leaves.
    async fn collect_answers(&mut self, round: InputRoundCheckpoint) -> Result<InputResponses, Failure> {
        let link = self.connection.state.clone();
        let flight = self.guard.call.clone();
        let work = async move {
            // The agent is not silent: it is the host's turn.
            let _waiting = flight.begin_wait(AnswerSource::Host);
            let noted = link.host.checkpoint(
                CheckpointKey::Call(flight.attempt.clone()),
                CallCheckpoint::Round(round.clone()).to_value(),
            );
            let InputRoundCheckpoint { number, state, requests } = round;
            let answered = async {
                let requests_json = Value::Object(requests.clone());
                link.host.on_input_required(flight.attempt.clone(), number, state, requests_json).await;
                if requests.is_empty() {
                    let pause = PROGRESS_INTERVAL.saturating_mul(2_u32.saturating_pow(number));
                    tokio::time::sleep(pause.min(MAX_ROUND_DELAY)).await;
                }
                join_all(requests.iter().map(async |(key, request)| {
                    // A server may use a key again in a later round.
                    let asker = link.scope_of_call(&flight, Some(format!("round/{number}/{key}")));
                    (key.clone(), link.answer_input_request(&asker, request).await)
                }))
                .await
            };
            tokio::join!(noted, answered).1
        };
        let answers = match self.wait(work).await {
            Ok(answers) => answers,
            Err(stop) => return Err(self.stop_failure(stop).await),
        };
        let mut responses = InputResponses::new();
        for (key, answer) in answers {
            let answer = answer.map_err(|error| missing_input_failure(&self.request.agent, &key, &error))?;
            responses.insert(key, answer);
        }
        Ok(responses)
    }

    /// Has a person visit the pages that the agent names in its error.
    async fn visit_urls(&mut self, error: &ErrorData) -> Result<(), Failure> {
        let pages = elicitation::required_urls(error.data.as_ref());
        if pages.is_empty() {
            return Err(failure::from_rpc(&self.request.agent, error));
        }
        for page in pages {
            let link = self.connection.state.clone();
            let asker = link.scope_of_call(&self.guard.call, None);
            match self.wait(async move { link.elicit(&asker, page).await }).await {
                Ok(Answer::Accept { .. }) => {}
                Ok(Answer::Decline | Answer::Cancel) => {
                    let agent = &self.request.agent;
                    let message = format!("nobody visited the page that agent `{agent}` needs: {}", error.message);
                    return Err(Failure::new(FailureKind::Denied, message));
                }
                Err(stop) => return Err(self.stop_failure(stop).await),
            }
        }
        Ok(())
    }
}

/// A call asks for input that it cannot have: there is no other answer to such a request than input.
pub(super) fn missing_input_failure(agent: &AgentId, key: &str, error: &ErrorData) -> Failure {
    let said = failure::agent_message(&error.message);
    let (kind, fate) = match error.code {
        USER_REJECTED => (FailureKind::Denied, "was not allowed"),
        _ => (FailureKind::ServerError, "failed"),
    };
    Failure::new(kind, format!("agent `{agent}` asked for `{key}`, which {fate}: {said}"))
}
