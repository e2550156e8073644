//! Failed requests to a language model: the message, the retry hint, and the advice for the user.

use std::time::Duration;

use async_openai::error::{OpenAIError, StreamError};

use super::wire::ApiError;
use crate::model::text::root_cause;
use crate::model::{Dialect, ForcedToolChoice, HumanDuration, LlmSpec, MaxTokensField, StructuredOutput, SystemRole};

/// Indicates if and when a retry may succeed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RetryHint {
    #[default]
    No,
    Backoff,
    After(Duration),
}

/// A failed attempt to get a reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct LlmError {
    /// The predicate of a sentence about the endpoint, such as `answered 404 Not Found: no such model`.
    pub(super) message: String,
    pub(super) status: Option<u16>,
    pub(super) retry: RetryHint,
    /// Set if the endpoint reported a rate limit, so that other requests wait too.
    pub(super) is_limit: bool,
    /// Set if the client must not retry by itself: part of the reply was already passed on, or much time has passed.
    pub(super) is_final: bool,
    /// Set if the request exceeds the context of the model.
    pub(super) is_too_long: bool,
    /// The advice for the user.
    pub(super) hint: Option<Hint>,
}

/// Advice on how to fix a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hint {
    /// Advice that is the same for every model.
    General(&'static str),
    /// Advice that refers to the section of the model in the agents file.
    Configure(&'static str),
    /// The endpoint rejected a request. The key that helps depends on the dialect.
    ChangeDialect(Box<ApiError>),
}

impl LlmError {
    /// Returns an error that a retry cannot fix.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Returns an error that a retry may fix.
    pub(super) fn transient(message: impl Into<String>) -> Self {
        Self { retry: RetryHint::Backoff, ..Self::new(message) }
    }

    /// Returns the error for a response with `status`, which comes from HTTP or from the body of a success.
    pub(super) fn from_response(status: Option<u16>, api_error: ApiError) -> Self {
        let status_text = status.map(|status| {
            let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
            reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
        });
        let head = format!("answered {}", status_text.as_deref().unwrap_or("with an error"));
        let message = if api_error.message.is_empty() { head } else { format!("{head}: {}", api_error.message) };
        // An error without a status occurs within a stream that began successfully.
        let is_transient =
            matches!(status, None | Some(408 | 409 | 425 | 429 | 500..=599)) && !api_error.is_permanent();
        let wait = api_error.retry_after().map_or(RetryHint::Backoff, RetryHint::After);
        let (retry, is_limit) = if is_transient { (wait, api_error.is_limit(status)) } else { (RetryHint::No, false) };
        let is_too_long = api_error.is_too_long();
        Self { status, retry, is_limit, is_too_long, hint: hint_for(status, api_error), ..Self::new(message) }
    }

    /// Returns the delay that the endpoint requested.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self.retry {
            RetryHint::After(wait) => Some(wait),
            RetryHint::No | RetryHint::Backoff => None,
        }
    }

    /// Returns the error for a reply that made no progress for `limit`.
    pub(super) fn idle_timeout(limit: Duration) -> Self {
        Self {
            is_final: true,
            hint: Some(Hint::Configure("raise `timeout`")),
            ..Self::transient(format!("sent no data for {}", HumanDuration(limit)))
        }
    }

    /// Returns the error for a reply that was incomplete at the deadline `limit`, after the transient failure `last`.
    pub(super) fn deadline_exceeded(limit: Duration, last: Option<Self>) -> Self {
        let limit = HumanDuration(limit);
        let earlier = last.as_ref().map(|last| format!("; before that, it {}", last.message)).unwrap_or_default();
        Self {
            status: last.and_then(|last| last.status),
            hint: Some(Hint::Configure("raise `deadline`, in the task or")),
            ..Self::new(format!("did not complete its reply within {limit}{earlier}"))
        }
    }
}

impl Hint {
    /// Returns the advice as text, for the model that received the request.
    pub(super) fn text(&self, spec: &LlmSpec) -> Option<String> {
        let section = spec.section_name();
        match self {
            Self::General(advice) => Some((*advice).to_owned()),
            Self::Configure(advice) => Some(format!("{advice} in {section}")),
            Self::ChangeDialect(api_error) => Some(format!("{} in {section}", suggested_change(api_error, spec)?)),
        }
    }
}

/// Returns the advice for a response with `status`.
fn hint_for(status: Option<u16>, api_error: ApiError) -> Option<Hint> {
    if api_error.is_out_of_credit() {
        return Some(Hint::General("the account is out of credit"));
    }
    if api_error.is_too_long() {
        return Some(Hint::General("shorten the prompt, lower `max_tokens`, or use a model with a larger context"));
    }
    match status? {
        400 | 422 | 500 => Some(Hint::ChangeDialect(Box::new(api_error))),
        401 | 403 => Some(Hint::Configure("check `api_key_env_var`")),
        402 => Some(Hint::General("the account is out of credit")),
        404 => Some(Hint::Configure("check `base_url` and `model`")),
        429 => Some(Hint::General("the endpoint limits the rate of requests; try again later")),
        _ => None,
    }
}

/// Returns the change to the dialect or the settings that the error suggests.
///
/// Ignores parameters that were not sent, because the error then means something else.
fn suggested_change(api_error: &ApiError, spec: &LlmSpec) -> Option<String> {
    let names = |name: &str| {
        api_error.param.as_deref() == Some(name)
            || ["`", "'", "\""].iter().any(|quote| api_error.message.contains(&format!("{quote}{name}{quote}")))
    };
    let mentions = |word: &str| names(word) || api_error.message.contains(word);
    let (dialect, settings) = (&spec.dialect, &spec.settings);
    let Dialect { max_tokens_field, structured_output, tool_choice, system_role, .. } = dialect;
    let suggestions = [
        (
            *max_tokens_field == MaxTokensField::MaxTokens && mentions("max_completion_tokens"),
            "max_tokens_field = \"max_completion_tokens\"",
        ),
        (
            *max_tokens_field == MaxTokensField::MaxCompletionTokens && mentions("max_completion_tokens"),
            "max_tokens_field = \"max_tokens\"",
        ),
        (dialect.stream_usage && mentions("stream_options"), "stream_usage = false"),
        (*tool_choice == ForcedToolChoice::Required && mentions("tool_choice"), "tool_choice = \"auto\""),
        (*tool_choice == ForcedToolChoice::Any && mentions("tool_choice"), "tool_choice = \"required\""),
        (
            *structured_output == StructuredOutput::JsonSchema
                && (mentions("response_format") || mentions("json_schema")),
            "structured_output = \"json_object\"",
        ),
        (
            *structured_output == StructuredOutput::JsonObject
                && (mentions("response_format") || mentions("json_object")),
            "structured_output = \"text\"",
        ),
        (dialect.temperature && mentions("temperature"), "temperature = false"),
        (dialect.stop && names("stop"), "stop = false"),
        (*system_role == SystemRole::Developer && mentions("developer"), "system_role = \"system\""),
        (dialect.images && mentions("image input"), "images = false"),
        (dialect.audio && mentions("audio input"), "audio = false"),
    ];
    if let Some((_, setting)) = suggestions.into_iter().find(|(fits, _)| *fits) {
        return Some(format!("set `{setting}`"));
    }
    if mentions("reasoning_effort") && settings.reasoning_effort.is_some() {
        return Some("change or remove `reasoning_effort`".to_owned());
    }
    if names("seed") && settings.seed.is_some() {
        return Some("remove `seed`".to_owned());
    }
    let extra = settings.extra_body.keys().find(|key| names(key))?;
    Some(format!("check `{extra}` of `extra_body`"))
}

impl From<OpenAIError> for LlmError {
    fn from(error: OpenAIError) -> Self {
        match error {
            // The transport reports its own errors in this form.
            OpenAIError::Boxed(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(other) => Self::new(format!("could not be called: {}", root_cause(&*other))),
            },
            OpenAIError::JSONDeserialize(_, content) => {
                Self::transient(format!("sent invalid JSON: {}", ApiError::from_body(content.as_bytes()).message))
            }
            OpenAIError::StreamError(error) => Self::transient(match *error {
                StreamError::EventStream(message) => format!("interrupted its reply: {message}"),
                other => format!("interrupted its reply: {other}"),
            }),
            other => Self::new(format!("could not be called: {}", root_cause(&other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::samples::spec;
    use crate::model::RequestSettings;

    fn hint_text(status: u16, api_error: ApiError, dialect: Dialect) -> Option<String> {
        let spec = LlmSpec { name: "a".to_owned(), dialect, ..spec("http://endpoint.test") };
        LlmError::from_response(Some(status), api_error).hint?.text(&spec)
    }

    #[test]
    fn rejected_parameters_name_the_setting() {
        let usual = Dialect { images: true, audio: true, ..Dialect::default() };
        let openai = Dialect {
            max_tokens_field: MaxTokensField::MaxCompletionTokens,
            system_role: SystemRole::Developer,
            tool_choice: ForcedToolChoice::Any,
            structured_output: StructuredOutput::JsonObject,
            ..usual
        };
        for (dialect, message, setting) in [
            (usual, "Use 'max_completion_tokens' instead.", "max_tokens_field = \"max_completion_tokens\""),
            (openai, "extra_forbidden: max_completion_tokens", "max_tokens_field = \"max_tokens\""),
            (usual, "stream_options is not permitted", "stream_usage = false"),
            (usual, "tool_choice `required` is not possible", "tool_choice = \"auto\""),
            (openai, "unknown tool_choice: any", "tool_choice = \"required\""),
            (usual, "This response_format type is unavailable now", "structured_output = \"json_object\""),
            (openai, "response_format is unavailable", "structured_output = \"text\""),
            (usual, "temperature must be 1", "temperature = false"),
            (usual, "Unsupported parameter: 'stop'", "stop = false"),
            (openai, "unknown role developer", "system_role = \"system\""),
            (usual, "image input is not in this model", "images = false"),
            (usual, "audio input is not in this model", "audio = false"),
        ] {
            let api_error = ApiError { message: message.to_owned(), ..ApiError::default() };
            assert_eq!(hint_text(400, api_error, dialect), Some(format!("set `{setting}` in [models.a]")), "{message}");
        }
        let by_name = ApiError { param: Some("temperature".to_owned()), ..ApiError::default() };
        assert_eq!(hint_text(422, by_name.clone(), usual), Some("set `temperature = false` in [models.a]".to_owned()));
        assert_eq!(hint_text(400, by_name, Dialect { temperature: false, ..usual }), None);
        let other = ApiError { message: "stop it, there are too many tokens".to_owned(), ..ApiError::default() };
        assert_eq!(hint_text(400, other, usual), None);
    }

    #[test]
    fn rejected_settings_are_named() {
        let settings = RequestSettings {
            seed: Some(1),
            reasoning_effort: Some("high".to_owned()),
            extra_body: [("top_k".to_owned(), 5.into())].into_iter().collect(),
            ..RequestSettings::default()
        };
        let plain = spec("http://endpoint.test");
        let with_settings = LlmSpec { settings, ..plain.clone() };
        for (message, advice) in [
            ("reasoning_effort must be low", "change or remove `reasoning_effort` in [llm]"),
            ("extra inputs: [\"body\", \"seed\"]", "remove `seed` in [llm]"),
            ("Unrecognized request argument supplied: 'top_k'", "check `top_k` of `extra_body` in [llm]"),
        ] {
            let hint = |spec: &LlmSpec| {
                let api_error = ApiError { message: message.to_owned(), ..ApiError::default() };
                LlmError::from_response(Some(400), api_error).hint?.text(spec)
            };
            assert_eq!((hint(&with_settings).as_deref(), hint(&plain)), (Some(advice), None), "{message}");
        }
    }

    #[test]
    fn permanent_errors_are_not_retried() {
        let hint_after = |message: &str, code: Option<&str>| {
            let code = code.map(str::to_owned);
            LlmError::from_response(Some(500), ApiError { message: message.to_owned(), code, ..ApiError::default() })
                .retry
        };
        assert_eq!(hint_after("image input is not supported", None), RetryHint::No);
        assert_eq!(hint_after("pay first", Some("insufficient_quota")), RetryHint::No);
        assert_eq!(hint_after("out of luck", None), RetryHint::Backoff);
    }
}
