//! Sends the request of a call, and repeats it with the requested input until there is a result.
//! Never stores an answer: the agent receives it with the next request, and the host has recorded it.

use std::time::Duration;

use futures::future::join_all;
use rmcp::model::{ErrorData, InputResponses};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::active_call::ActiveCall;
use super::guard::PROGRESS_INTERVAL;
use crate::mcp::checkpoint::{CallCheckpoint, InputRoundCheckpoint};
use crate::mcp::message::call_request::CallKind;
use crate::mcp::message::call_response::CallResponse;
use crate::mcp::message::failure;
use crate::mcp::requests::elicitation;
use crate::mcp::requests::open_calls::AnswerSource;
use crate::mcp::requests::sampling_quota::USER_REJECTED;
use crate::model::{AgentId, Answer, Failure, FailureKind};

/// The largest number of input rounds of one call.
const MAX_ROUNDS: u32 = 32;
/// The longest delay before a call is repeated for a server that requests no input.
const MAX_ROUND_DELAY: Duration = Duration::from_secs(5);
/// The JSON-RPC error code for a required URL elicitation (MCP 2025-11-25).
const URL_ELICITATION_REQUIRED: i32 = -32042;

impl ActiveCall<'_> {
    /// Sends the request, and repeats it with the requested input until there is a result. Starts with the round `open`
    /// if an earlier process did not answer it.
    pub(crate) async fn request_with_input(
        &mut self,
        open: Option<InputRoundCheckpoint>,
    ) -> Result<CallResponse, Failure> {
        let first = open.as_ref().map_or(1, |round| round.number.saturating_add(1));
        let mut kind = match open {
            Some(round) => Box::pin(self.answer_round(round)).await?,
            None => CallKind::Initial,
        };
        let mut visited = false;
        for number in first..=MAX_ROUNDS {
            match self.exchange(&kind).await? {
                CallResponse::InputRequired { state, requests } => {
                    kind = Box::pin(self.answer_round(InputRoundCheckpoint { number, state, requests })).await?;
                }
                CallResponse::RpcError(error) if error.code.0 == URL_ELICITATION_REQUIRED => {
                    if visited {
                        let failure = failure::from_rpc(&self.request.agent, &error);
                        return Err(failure.with_help("complete the page, then rerun the task"));
                    }
                    Box::pin(self.visit_urls(&error)).await?;
                    visited = true;
                    kind = CallKind::Initial;
                }
                response => return Ok(response),
            }
        }
        let message = format!("agent `{}` requested input {MAX_ROUNDS} times, the maximum", self.request.agent);
        Err(Failure::new(FailureKind::InvalidResult, message))
    }

    /// Returns the request that contains the answers to a round.
    async fn answer_round(&mut self, round: InputRoundCheckpoint) -> Result<CallKind, Failure> {
        let state = round.state.clone();
        let responses = self.collect_answers(round).await?;
        // A later process must not send the answers again: the tool could run twice.
        self.checkpoint(CallCheckpoint::InputGiven).await?;
        Ok(CallKind::WithInput { state, responses })
    }

    /// Answers the requests of a round concurrently. The host stores the round durably before an answer is sent.
    async fn collect_answers(&mut self, round: InputRoundCheckpoint) -> Result<InputResponses, Failure> {
        let connection_state = self.connection.state.clone();
        let call = self.guard.call.clone();
        let work = async move {
            // The idle timeout pauses: the agent waits for the host.
            let _waiting = call.begin_wait(AnswerSource::Host);
            let saved = connection_state.save_call(&call.attempt, &CallCheckpoint::Round(round.clone()));
            let InputRoundCheckpoint { number, state, requests } = round;
            let answering = async {
                let requests_json = Value::Object(requests.clone());
                connection_state.host.on_input_required(call.attempt.clone(), number, state, requests_json).await;
                if requests.is_empty() {
                    let pause = PROGRESS_INTERVAL.saturating_mul(2_u32.saturating_pow(number));
                    tokio::time::sleep(pause.min(MAX_ROUND_DELAY)).await;
                }
                join_all(requests.iter().map(async |(key, request)| {
                    // A server may use a key again in a later round.
                    let scope = connection_state.scope_of_call(
                        &call,
                        Some(format!("round/{number}/{key}")),
                        CancellationToken::new(),
                    );
                    (key.clone(), connection_state.answer_input_request(&scope, request).await)
                }))
                .await
            };
            tokio::join!(saved, answering).1
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

    /// Asks the user to open the pages that the agent names in its error.
    async fn visit_urls(&mut self, error: &ErrorData) -> Result<(), Failure> {
        let pages = elicitation::required_urls(error.data.as_ref());
        if pages.is_empty() {
            return Err(failure::from_rpc(&self.request.agent, error));
        }
        for page in pages {
            let connection_state = self.connection.state.clone();
            let scope = connection_state.scope_of_call(&self.guard.call, None, CancellationToken::new());
            match self.wait(async move { connection_state.elicit(&scope, page).await }).await {
                Ok(Answer::Accept { .. }) => {}
                Ok(Answer::Decline | Answer::Cancel) => {
                    let agent = &self.request.agent;
                    let message = format!("the page that agent `{agent}` requires was not visited: {}", error.message);
                    return Err(Failure::new(FailureKind::Denied, message));
                }
                Err(stop) => return Err(self.stop_failure(stop).await),
            }
        }
        Ok(())
    }
}

/// Returns the failure of a call whose requested input is not available. Such a request accepts nothing but input.
pub(crate) fn missing_input_failure(agent: &AgentId, key: &str, error: &ErrorData) -> Failure {
    let message = failure::agent_message(&error.message);
    let (kind, outcome) = match error.code {
        USER_REJECTED => (FailureKind::Denied, "was not allowed"),
        _ => (FailureKind::ServerError, "failed"),
    };
    Failure::new(kind, format!("agent `{agent}` requested `{key}`, which {outcome}: {message}"))
}
