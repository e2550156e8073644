//! The configuration of a language model: its endpoint, dialect, capabilities, and prices.

use serde::{Deserialize, Serialize};

use crate::model::{JsonObject, Usage};

/// A language model of the agents file.
#[derive(Clone, PartialEq)]
pub struct LlmSpec {
    /// Its name in the agents file: `llm` for `[llm]`, `NAME` for `[models.NAME]`.
    pub name: String,
    /// The base URL of an OpenAI-compatible API, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// The model's name at the endpoint.
    pub model: String,
    /// The API key, from the variable that the file names. Never logged, and sent to `base_url` only.
    pub api_key: Option<String>,
    /// Further headers of each request: never logged.
    pub headers: Vec<(String, String)>,
    /// The query string of each request: never logged.
    pub query: Vec<(String, String)>,
    /// The idle timeout of the endpoint within a request.
    pub timeout: std::time::Duration,
    /// The deadline of a whole request, including retries and waits.
    pub deadline: Option<std::time::Duration>,
    /// The dialect of the endpoint.
    pub dialect: Dialect,
    /// Settings that apply to each request.
    pub settings: RequestSettings,
    /// Scores for the comparison with other models.
    pub scores: Scores,
    /// The prices, if configured.
    pub prices: Option<Prices>,
    /// The environment variables that its section needs and that are not set. With any, no request is sent.
    pub unset_variables: Vec<String>,
}

impl LlmSpec {
    /// The name of the `[llm]` section.
    pub const DEFAULT_NAME: &str = "llm";

    /// Returns the section of the agents file, as written by a person.
    pub fn section_name(&self) -> String {
        match self.name.as_str() {
            Self::DEFAULT_NAME => "[llm]".to_owned(),
            name => format!("[models.{name}]"),
        }
    }
}

impl std::fmt::Debug for LlmSpec {
    /// Omits the key, the headers, and the query, including a query in the base URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("LlmSpec");
        shown
            .field("name", &self.name)
            .field("base_url", &crate::model::redact_url(&self.base_url))
            .field("model", &self.model);
        shown.field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// Settings that apply to each request to a model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestSettings {
    /// The temperature of requests that set none.
    pub temperature: Option<f64>,
    /// The seed of the model's random choices.
    pub seed: Option<u64>,
    /// The reasoning effort, as a value that the provider defines; a request can override it.
    pub reasoning_effort: Option<String>,
    /// Additional keys of the request body, none of them in [`OWN_KEYS`].
    pub extra_body: JsonObject,
}

/// The keys of a request body that the host writes, each with the setting that determines it.
pub const OWN_KEYS: [(&str, &str); 13] = [
    ("model", "`model` of the section names it"),
    ("messages", "prompts and requests of agents give it"),
    ("stream", "replies are always streamed"),
    ("stream_options", "`stream_usage` of the section decides about it"),
    ("max_tokens", "`max_tokens` of a task and `max_output_tokens` of the section set it"),
    ("max_completion_tokens", "`max_tokens` of a task and `max_output_tokens` of the section set it"),
    ("temperature", "`temperature` of the section sets it"),
    ("seed", "`seed` of the section sets it"),
    ("reasoning_effort", "`reasoning_effort` of the section sets it"),
    ("stop", "requests of agents give it"),
    ("tools", "`tools` of a task and requests of agents give it"),
    ("tool_choice", "`tool_choice` of the section decides about it"),
    ("response_format", "`output_schema` of a task and `structured_output` of the section decide about it"),
];

/// The request format of an endpoint and the capabilities of its model. Configured, never guessed from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// The name of the output limit.
    pub max_tokens_field: MaxTokensField,
    /// The maximum number of tokens of a reply, regardless of the request.
    pub max_output_tokens: Option<u32>,
    /// True if a request may set the temperature; otherwise it is omitted.
    pub temperature: bool,
    /// True if a request may set stop sequences; otherwise the host truncates the reply.
    pub stop: bool,
    /// The method of requesting a reply format.
    pub structured_output: StructuredOutput,
    /// True if the prompt also contains the schema of the reply. If the endpoint only constrains decoding, the model
    /// does not see the schema otherwise.
    pub schema_in_prompt: bool,
    /// True if the schema of a reply may have `maxItems`, `maxLength`, and `pattern`, which some endpoints reject.
    pub schema_bounds: bool,
    /// The method of forcing a tool call.
    pub tool_choice: ForcedToolChoice,
    /// The role of the system prompt.
    pub system_role: SystemRole,
    /// True if a request asks for the usage at the end of the stream.
    pub stream_usage: bool,
    /// True if reasoning before tool calls (`reasoning_content`) is sent back with later requests.
    pub echo_reasoning: bool,
    /// True if the model supports tools.
    pub tools: bool,
    /// True if the model accepts images.
    pub images: bool,
    /// True if the model accepts audio.
    pub audio: bool,
}

impl Dialect {
    /// The dialect that most endpoints support: text only.
    pub const TEXT_ONLY: Self = Self {
        max_tokens_field: MaxTokensField::MaxTokens,
        max_output_tokens: None,
        temperature: true,
        stop: true,
        structured_output: StructuredOutput::JsonSchema,
        schema_in_prompt: true,
        schema_bounds: false,
        tool_choice: ForcedToolChoice::Required,
        system_role: SystemRole::System,
        stream_usage: true,
        echo_reasoning: false,
        tools: false,
        images: false,
        audio: false,
    };
}

impl Default for Dialect {
    fn default() -> Self {
        Self::TEXT_ONLY
    }
}

/// The name of the output limit in a chat-completions request; providers differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// The value that most endpoints accept.
    #[default]
    MaxTokens,
    /// The field that OpenAI's reasoning models require.
    MaxCompletionTokens,
}

/// The method of requesting a reply format, from the most to the least demanding for the endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// The endpoint accepts a JSON Schema and enforces it.
    #[default]
    JsonSchema,
    /// The endpoint enforces JSON; the schema is in the prompt.
    JsonObject,
    /// Only the prompt contains the schema.
    Text,
}

/// The value of `tool_choice` that forces a tool call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForcedToolChoice {
    /// The value that most endpoints accept.
    #[default]
    Required,
    /// Mistral's name for the same.
    Any,
    /// The model cannot be forced.
    Auto,
}

/// The role of the system prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// The role that every endpoint accepts.
    #[default]
    System,
    /// OpenAI's newer name.
    Developer,
}

/// Scores of a model for MCP's model preferences, each from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Cheapness.
    pub cost: f32,
    /// Speed.
    pub speed: f32,
    /// Ability.
    pub intelligence: f32,
}

impl Default for Scores {
    /// Returns medium scores.
    fn default() -> Self {
        Self { cost: 0.5, speed: 0.5, intelligence: 0.5 }
    }
}

/// Prices in US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// The price of request tokens.
    pub input: f64,
    /// The price of reply tokens.
    pub output: f64,
}

impl Prices {
    /// Returns the cost of a request in US dollars.
    #[expect(clippy::cast_precision_loss, reason = "no request has so many tokens")]
    pub fn cost(&self, usage: Usage) -> f64 {
        (self.input * usage.input_tokens as f64 + self.output * usage.output_tokens as f64) / 1_000_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_per_million_tokens() {
        let prices = Prices { input: 2.0, output: 10.0 };
        let cost = prices.cost(Usage { input_tokens: 500_000, output_tokens: 100_000 });
        assert!((cost - 2.0).abs() < 1e-12, "{cost}");
    }
}
