//! What is known of a language model: where it is, how it wants to be asked, what it takes and costs.
//! Never holds a connection, and never shows a key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JsonObject, Usage};

/// A language model of the agents file.
#[derive(Clone, PartialEq)]
pub struct LlmSpec {
    /// Its name in the agents file: `llm` for `[llm]`, `NAME` for `[models.NAME]`.
    pub name: String,
    /// The base URL of an OpenAI-compatible API, such as `http://127.0.0.1:11434/v1`.
    pub base_url: String,
    /// The model's name as the endpoint knows it.
    pub model: String,
    /// The key, read from the variable that the file names: never logged, sent to `base_url` alone.
    pub api_key: Option<String>,
    /// Further headers of each request: never logged.
    pub headers: Vec<(String, String)>,
    /// What follows `?` in the address of each request: never logged.
    pub query: Vec<(String, String)>,
    /// Limits the silence of the endpoint within a request.
    pub timeout: std::time::Duration,
    /// Limits a whole request, its tries and waits included.
    pub deadline: Option<std::time::Duration>,
    /// How it wants to be asked.
    pub dialect: Dialect,
    /// What goes with each request.
    pub settings: RequestSettings,
    /// How it compares with the others.
    pub scores: Scores,
    /// What it costs, if the file says so.
    pub prices: Option<Prices>,
}

impl LlmSpec {
    /// The name of `[llm]`.
    pub const DEFAULT_NAME: &str = "llm";

    /// The section of the agents file that describes it, as a person writes it.
    pub fn section_name(&self) -> String {
        match self.name.as_str() {
            Self::DEFAULT_NAME => "[llm]".to_owned(),
            name => format!("[models.{name}]"),
        }
    }
}

impl std::fmt::Debug for LlmSpec {
    /// Leaves out the key, the headers and the query, also one within the base URL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("LlmSpec");
        shown
            .field("name", &self.name)
            .field("base_url", &super::redact_url(&self.base_url))
            .field("model", &self.model);
        shown.field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

/// What goes with each request to a model, besides what the request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestSettings {
    /// The temperature of requests that name none.
    pub temperature: Option<f64>,
    /// The seed of the model's random choices.
    pub seed: Option<u64>,
    /// How much the model reasons, in its provider's words; a request's own word counts more.
    pub reasoning_effort: Option<String>,
    /// Further keys of the request's body, none of them in [`OWN_KEYS`].
    pub extra_body: JsonObject,
}

/// The keys of a request's body that the host writes itself, each with the setting that decides about it.
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

/// How an endpoint wants to be asked, and what its model takes. Configured, never guessed from an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// How the endpoint calls the output limit.
    pub max_tokens_field: MaxTokensField,
    /// Most tokens of a reply, whatever a request asks for.
    pub max_output_tokens: Option<u32>,
    /// Whether a request may set the temperature; where not, it is left out.
    pub temperature: bool,
    /// Whether a request may name stop sequences; where not, the host cuts the reply there.
    pub stop: bool,
    /// How the form of a reply is asked for.
    pub structured_output: StructuredOutput,
    /// Whether the prompt holds the schema of a reply although the endpoint gets it too. Where a schema only restricts
    /// which words the model can choose, the model does not see it otherwise.
    pub schema_in_prompt: bool,
    /// How a model is made to ask for a tool.
    pub tool_choice: ForcedToolChoice,
    /// Whose words the system prompt is.
    pub system_role: SystemRole,
    /// Whether a request asks for the usage at the end of the stream.
    pub stream_usage: bool,
    /// Whether what a model thought before it asked for tools (`reasoning_content`) is sent back with its requests.
    pub echo_reasoning: bool,
    /// Whether the model can be given tools.
    pub tools: bool,
    /// Whether it takes images.
    pub images: bool,
    /// Whether it takes sound.
    pub audio: bool,
}

impl Default for Dialect {
    /// What most endpoints take: text alone.
    fn default() -> Self {
        Self {
            max_tokens_field: MaxTokensField::default(),
            max_output_tokens: None,
            temperature: true,
            stop: true,
            structured_output: StructuredOutput::default(),
            schema_in_prompt: true,
            tool_choice: ForcedToolChoice::default(),
            system_role: SystemRole::default(),
            stream_usage: true,
            echo_reasoning: false,
            tools: false,
            images: false,
            audio: false,
        }
    }
}

/// The name of the output limit in a chat-completions request; providers differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensField {
    /// What most endpoints take.
    #[default]
    MaxTokens,
    /// What OpenAI's reasoning models insist on.
    MaxCompletionTokens,
}

/// How the form of a reply is asked for; each rung needs less of the endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// The endpoint takes a JSON Schema and holds the model to it.
    #[default]
    JsonSchema,
    /// The endpoint holds the model to JSON; the schema is in the prompt.
    JsonObject,
    /// The schema is in the prompt, and nothing else asks for it.
    Text,
}

/// The word by which an endpoint makes a model ask for a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForcedToolChoice {
    /// What most endpoints take.
    #[default]
    Required,
    /// Mistral's word for the same.
    Any,
    /// The model cannot be made to.
    Auto,
}

/// The role of the system prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// What every endpoint takes.
    #[default]
    System,
    /// OpenAI's newer word.
    Developer,
}

/// How a model compares with others, each from 0 to 1; for MCP's model preferences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// How cheap it is.
    pub cost: f32,
    /// How fast it is.
    pub speed: f32,
    /// How able it is.
    pub intelligence: f32,
}

impl Default for Scores {
    /// In the middle of everything.
    fn default() -> Self {
        Self { cost: 0.5, speed: 0.5, intelligence: 0.5 }
    }
}

/// US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Of the request.
    pub input: f64,
    /// Of the reply.
    pub output: f64,
}

impl Prices {
    /// What a request cost, in US dollars.
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
