//! The JSON of chat completions as real endpoints send it: every field may be absent, null, or of another type.
//! A chunk is never rejected for a field that is not needed.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::model::Usage;
use crate::model::text::truncate_chars;

/// One event of the stream, or the complete response of an endpoint that does not stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatChunk {
    pub(super) model: Lenient<Option<String>>,
    pub(super) choices: Lenient<Vec<ChatChoice>>,
    pub(super) usage: Lenient<Option<TokenCounts>>,
    /// An error instead of a response; see [`ApiError::from_value`].
    pub(super) error: Option<Value>,
    /// A marker that the transport inserted.
    #[serde(rename = "kapell")]
    pub(super) marker: Lenient<Option<StreamMarker>>,
}

impl ChatChunk {
    /// Reads what it can. Of an array, which one provider wraps around errors, it reads the first element.
    pub(super) fn from_value(value: Value) -> Self {
        let value = match value {
            Value::Array(items) => items.into_iter().next().unwrap_or_default(),
            value => value,
        };
        let mut chunk: Self = serde_json::from_value(value).unwrap_or_default();
        chunk.error = chunk.error.filter(|error| !matches!(error, Value::Null | Value::Bool(false)) && error != "");
        chunk
    }
}

/// A marker that the transport inserts into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamMarker {
    /// A part of a response arrived that can only be parsed when it is complete.
    Progress,
    /// The endpoint marked the end of the stream.
    Done,
}

/// One of the choices; only the first is requested.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatChoice {
    pub(super) index: Lenient<Option<u64>>,
    /// A part of the message, in a stream.
    pub(super) delta: Lenient<Option<MessagePart>>,
    /// The complete message.
    pub(super) message: Lenient<Option<MessagePart>>,
    pub(super) finish_reason: Lenient<Option<String>>,
    /// The stop sequence that ended the reply, if the endpoint reports it. Some endpoints send a token number.
    pub(super) stop_reason: Value,
}

/// A message or a part of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MessagePart {
    content: Value,
    /// The reasoning of the model, if the endpoint sends it.
    reasoning_content: Lenient<Option<String>>,
    /// The same field under the name that other endpoints use.
    reasoning: Lenient<Option<String>>,
    pub(super) refusal: Lenient<Option<String>>,
    pub(super) tool_calls: Lenient<Vec<ToolCallDelta>>,
}

impl MessagePart {
    /// Returns the text: a string, or the joined texts of content parts.
    pub(super) fn text(&self) -> String {
        match &self.content {
            Value::String(text) => text.clone(),
            Value::Array(parts) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
            _ => String::new(),
        }
    }

    /// Returns the reasoning of the model.
    pub(super) fn reasoning(&self) -> &str {
        self.reasoning_content.0.as_deref().or(self.reasoning.0.as_deref()).unwrap_or_default()
    }
}

/// A tool call or a part of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ToolCallDelta {
    /// The index of the call within the reply; some endpoints omit it.
    pub(super) index: Lenient<Option<u64>>,
    /// Only in the first part; some endpoints omit it or leave it empty.
    pub(super) id: Lenient<Option<String>>,
    pub(super) function: Lenient<FunctionDelta>,
}

/// The function that a [`ToolCallDelta`] calls.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FunctionDelta {
    /// Only in the first part.
    pub(super) name: Lenient<Option<String>>,
    /// A piece of JSON text or, from some endpoints, the arguments themselves.
    pub(super) arguments: Value,
}

/// Token counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenCounts {
    prompt_tokens: Value,
    completion_tokens: Value,
    prompt_tokens_details: Value,
    cache_read_input_tokens: Value,
    prompt_cache_hit_tokens: Value,
}

impl TokenCounts {
    /// Returns the usage, if both counts are present.
    pub(super) fn usage(&self) -> Option<Usage> {
        Some(Usage { input_tokens: tokens(&self.prompt_tokens)?, output_tokens: tokens(&self.completion_tokens)? })
    }

    /// Returns the minimum number of prompt tokens that were read.
    ///
    /// Some endpoints exclude cached tokens from their count, so the larger count is used.
    pub(super) fn tokens_read(&self) -> Option<u64> {
        let details = self.prompt_tokens_details.get("cached_tokens").unwrap_or(&Value::Null);
        let counts = [&self.prompt_tokens, details, &self.cache_read_input_tokens, &self.prompt_cache_hit_tokens];
        counts.into_iter().filter_map(tokens).max()
    }
}

/// Returns a token count, which some endpoints write as a float.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, and a count is whole")]
fn tokens(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().map(|count| count as u64))
}

/// An error of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ApiError {
    /// The message of the endpoint, shortened.
    pub(super) message: String,
    /// The `code` or `type`, if it is a string.
    pub(super) code: Option<String>,
    /// The parameter that was rejected, if the endpoint names one.
    pub(super) param: Option<String>,
    /// The HTTP status, if `code` is numeric.
    pub(super) status: Option<u16>,
}

/// The maximum length of an endpoint's message that is kept, in characters.
const MAX_MESSAGE_CHARS: usize = 600;

impl ApiError {
    /// Parses an error body of any form: `{"error": {…}}` with a numeric or a textual code, `{"error": "text"}`, an
    /// array of either, `{"message"}`, `{"detail"}`, a web page, or plain text.
    pub(super) fn from_body(body: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Array(items)) => Self::from_value(&items.into_iter().next().unwrap_or_default()),
            Ok(value) => Self::from_value(&value),
            Err(_) => Self { message: plain_text(body), ..Self::default() },
        }
    }

    /// Parses the JSON of an error.
    pub(super) fn from_value(value: &Value) -> Self {
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let message = match error {
            Value::String(text) => text.clone(),
            error => {
                ["message", "detail"].iter().find_map(|key| error.get(key).or_else(|| value.get(key))).map_or_else(
                    || error.to_string(),
                    |text| text.as_str().map_or_else(|| text.to_string(), str::to_owned),
                )
            }
        };
        let word = |key: &str| error.get(key).and_then(Value::as_str).filter(|word| !word.is_empty());
        let number = error.get("code").and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()));
        Self {
            message: truncate_chars(&message, MAX_MESSAGE_CHARS).into_owned(),
            code: word("code").or_else(|| word("type")).or_else(|| word("status")).map(str::to_owned),
            param: word("param").map(str::to_owned),
            status: number.and_then(|code| u16::try_from(code).ok()).filter(|code| (400..600).contains(code)),
        }
    }

    /// Returns whether a retry would fail in the same way. Some endpoints answer 500 to requests that they never
    /// support.
    pub(super) fn is_permanent(&self) -> bool {
        let code = self.code.as_deref();
        code.is_some_and(|code| PERMANENT_CODES.contains(&code))
            || self.mentions(&["not supported", "request too large", "flagged", "content policy", "invalid api key"])
            || self.is_out_of_credit()
            || self.is_too_long()
    }

    /// Returns whether the request exceeds the context of the model.
    pub(super) fn is_too_long(&self) -> bool {
        self.code.as_deref() == Some("context_length_exceeded") || self.mentions(&CONTEXT_PHRASES)
    }

    /// Returns whether the error is a rate limit.
    pub(super) fn is_limit(&self, status: Option<u16>) -> bool {
        let code = self.code.as_deref().unwrap_or_default();
        matches!(status.or(self.status), Some(429 | 529))
            || ["rate_limit", "overloaded", "too_many_requests"].iter().any(|word| code.contains(word))
            || self.mentions(&["rate limit", "overloaded", "too many requests"])
    }

    /// Returns whether the message contains one of the phrases, in any case.
    fn mentions(&self, phrases: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        phrases.iter().any(|phrase| message.contains(phrase))
    }

    /// Returns the delay that the message names, as in `try again in 1m30.5s`.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let message = self.message.to_lowercase();
        let (_, rest) = ["again in ", "retry in ", "retry after ", "wait for "]
            .iter()
            .find_map(|phrases| message.split_once(phrases))?;
        parse_wait(rest)
    }

    /// Returns whether the account is out of credit, so that waiting does not help.
    pub(super) fn is_out_of_credit(&self) -> bool {
        self.code.as_deref() == Some("insufficient_quota")
    }
}

/// The phrases in errors about prompts that exceed the context of the model.
const CONTEXT_PHRASES: [&str; 5] =
    ["context length", "context window", "context size", "maximum context", "prompt is too long"];

/// The codes of errors that a retry cannot fix.
const PERMANENT_CODES: [&str; 7] = [
    "context_length_exceeded",
    "invalid_request_error",
    "invalid_api_key",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "content_policy_violation",
];

/// Parses the duration at the start of a text: `20ms`, `1.2s`, `1m30s`, `7 seconds`.
fn parse_wait(text: &str) -> Option<Duration> {
    let mut seconds = None;
    let mut rest = text.trim_start();
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..end].trim_end_matches('.').parse::<f64>() else { break };
        let after = rest[end..].trim_start();
        let unit_end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let factor = match &after[..unit_end] {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3_600.0,
            _ => break,
        };
        seconds = Some(seconds.unwrap_or(0.0) + number * factor);
        rest = after[unit_end..].trim_start();
    }
    Duration::try_from_secs_f64(seconds?).ok()
}

/// Returns the title of a web page, or the text unchanged.
fn plain_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if !text.starts_with('<') {
        return truncate_chars(text, MAX_MESSAGE_CHARS).into_owned();
    }
    let title = text.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>"));
    match title {
        Some((title, _)) => format!("a web page titled `{}`", truncate_chars(title.trim(), MAX_MESSAGE_CHARS)),
        None => "a web page".to_owned(),
    }
}

/// A value of the expected type, or its default if it is null or of another type.
#[derive(Debug, Default)]
pub(super) struct Lenient<T>(pub(super) T);

impl<'de, T: DeserializeOwned + Default> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(serde_json::from_value(Value::deserialize(deserializer)?).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_errors_of_all_providers() {
        let read = |body: &str| ApiError::from_body(body.as_bytes());
        let error = |message: &str, code: Option<&str>, status| ApiError {
            message: message.to_owned(),
            code: code.map(str::to_owned),
            param: None,
            status,
        };
        assert_eq!(
            read(r#"{"error":{"message":"no","type":"invalid_request_error","param":null,"code":null}}"#),
            error("no", Some("invalid_request_error"), None)
        );
        assert_eq!(
            read(r#"{"error":{"message":"slow down","code":429,"metadata":{}}}"#),
            error("slow down", None, Some(429))
        );
        assert_eq!(
            read(r#"[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]"#),
            error("bad", Some("INVALID_ARGUMENT"), Some(400))
        );
        assert_eq!(read(r#"{"error":"model not found"}"#), error("model not found", None, None));
        assert_eq!(read(r#"{"detail":[{"msg":"extra"}]}"#), error(r#"[{"msg":"extra"}]"#, None, None));
        assert_eq!(read(r#"{"message":{"detail":"x"}}"#), error(r#"{"detail":"x"}"#, None, None));
        assert_eq!(
            read("<html><head><title>502 Bad Gateway</title></head>"),
            error("a web page titled `502 Bad Gateway`", None, None)
        );
        assert_eq!(read(" upstream gone\n"), error("upstream gone", None, None));
        assert_eq!(read(""), error("", None, None));
    }

    #[test]
    fn reads_the_wait_from_a_message() {
        let wait = |message: &str| ApiError { message: message.to_owned(), ..ApiError::default() }.retry_after();
        for (message, millis) in [
            ("Rate limit reached. Please try again in 1.2s.", 1_200),
            ("Please try again in 20ms. Visit https://example.test", 20),
            ("try again in 6m0s", 360_000),
            ("Please try again in 1h2m3.5s", 3_723_500),
            ("Please retry after 7 seconds.", 7_000),
            ("Please retry in 34.07s.", 34_070),
        ] {
            assert_eq!(wait(message), Some(Duration::from_millis(millis)), "{message}");
        }
        for message in ["", "try again in a while", "try again in 5 parsecs", "wait for it"] {
            assert_eq!(wait(message), None, "{message}");
        }
    }

    #[test]
    fn accepts_chunks_with_missing_or_mistyped_fields() {
        for odd in [
            json!({}),
            json!(null),
            json!(5),
            json!([]),
            json!({"choices": null, "usage": null, "error": null, "model": null}),
            json!({"choices": "none", "model": 5, "usage": "many", "error": ""}),
        ] {
            let chunk = ChatChunk::from_value(odd);
            assert!(chunk.choices.0.is_empty() && chunk.error.is_none() && chunk.model.0.is_none());
        }
        let chunk = ChatChunk::from_value(json!({
            "created": 1.5, "service_tier": "on_demand",
            "choices": [{"index": null, "delta": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}],
            "usage": {"prompt_tokens": 3.0, "completion_tokens": 4},
        }));
        assert_eq!(chunk.choices.0[0].delta.0.as_ref().map(MessagePart::text).as_deref(), Some("ab"));
        assert_eq!(chunk.usage.0.and_then(|tokens| tokens.usage()), Some(Usage { input_tokens: 3, output_tokens: 4 }));
    }

    #[test]
    fn tokens_that_were_cached_count_as_read() {
        let read = |usage: Value| {
            ChatChunk::from_value(json!({"usage": usage})).usage.0.and_then(|tokens| tokens.tokens_read())
        };
        assert_eq!(read(json!({"prompt_tokens": 3.0, "prompt_tokens_details": {"cached_tokens": 90}})), Some(90));
        assert_eq!(read(json!({"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 90}})), Some(100));
        assert_eq!(read(json!({"prompt_tokens": 3, "cache_read_input_tokens": 7})), Some(7));
        assert_eq!(read(json!({"prompt_tokens": 3, "prompt_cache_hit_tokens": 2})), Some(3));
        assert_eq!(read(json!({"prompt_tokens": 3, "prompt_tokens_details": null})), Some(3));
        assert_eq!(read(json!({"completion_tokens": 3})), None);
    }
}
