//! The keys of the agents file.

use super::common::{CONCURRENCY, EFFECTS, key};
use crate::config::schema::table::{TableSchema, ValueType};

/// A limit that is larger than any run needs.
const QUOTA: ValueType = ValueType::Integer(1, 1_000_000_000_000);

/// The range that providers accept. For most of them, the default is 1.
const TEMPERATURE: ValueType = ValueType::Number(0.0, 2.0);

/// The agents file.
pub(crate) static AGENTS_FILE: TableSchema = TableSchema {
    title: "an agents file",
    definition: "agents_file",
    description: "The MCP servers that kapell can use, and the language models that plan goals and answer sampling \
                  requests.",
    required: &[],
    keys: &[
        key("agents", ValueType::TableMap(&AGENT), "The agents, by name."),
        key("llm", ValueType::Table(&LLM), "The default language model; its name is `llm`."),
        key("models", ValueType::TableMap(&LLM), "Additional language models, by name."),
        key("planner", ValueType::Table(&PLANNER), "Settings for planning and replanning."),
    ],
};

/// The settings of the planner.
pub(crate) static PLANNER: TableSchema = TableSchema {
    title: "the planner",
    definition: "planner",
    description: "Settings for planning goals and replanning runs.",
    required: &[],
    keys: &[
        key(
            "model",
            ValueType::Text,
            "The model that plans: `llm` or a name under `models`. Default: the first model.",
        ),
        key(
            "max_tokens",
            ValueType::Integer(1, 4_294_967_295),
            "Maximum number of tokens of a reply, including reasoning. Default: 8192, doubled after a truncated \
             reply, up to 32768.",
        ),
        key("temperature", TEMPERATURE, "The temperature. Default: the model's own."),
        key("reasoning_effort", ValueType::Text, "The reasoning effort. Default: the model's own."),
        key("max_tasks", ValueType::Integer(1, 100), "Maximum number of tasks in a generated plan. Default: 16."),
    ],
};

/// An agent.
pub(crate) static AGENT: TableSchema = TableSchema {
    title: "an agent",
    definition: "agent",
    description: "An MCP server: a `command` to start, a `url` to connect to, or both. Strings may contain `${VAR}` \
                  and `${VAR:-default}`; `${KAPELL}` is the path of kapell, and `${PORT}` is a free port if both \
                  `command` and `url` are set.",
    required: &[],
    keys: &[
        key(
            "command",
            ValueType::Text,
            "The program to start. If `url` is set too, the program is the server at that URL.",
        ),
        key("args", ValueType::TextList, "The arguments of the program."),
        key("env", ValueType::TextMap, "Environment variables of the program, in addition to a minimal environment."),
        key(
            "env_vars",
            ValueType::TextList,
            "Names of environment variables that the program inherits from kapell, if set.",
        ),
        key("cwd", ValueType::Text, "The working directory of the program. Default: that of kapell."),
        key("url", ValueType::Text, "The URL of a Streamable HTTP server."),
        key("http_headers", ValueType::TextMap, "Headers to send with every request."),
        key(
            "env_http_headers",
            ValueType::TextMap,
            "Headers whose values are read from the named environment variables.",
        ),
        key("bearer_token_env_var", ValueType::Text, "The environment variable that contains the bearer token."),
        key(
            "protocol",
            ValueType::Choice(&[
                ("auto", "Detect the protocol of the server."),
                ("legacy", "Protocol versions up to 2025-11-25, with an `initialize` handshake."),
                ("modern", "Protocol versions 2026-07-28 and later, without a handshake."),
            ]),
            "The protocol era. Default: `auto`.",
        ),
        key("required", ValueType::Boolean, "Whether a run fails if the agent is unavailable. Default: `false`."),
        key("enabled", ValueType::Boolean, "Whether the agent is used. Default: `true`."),
        key("max_concurrency", CONCURRENCY, "Maximum number of concurrent calls of this agent. Default: 8."),
        key(
            "max_processes",
            CONCURRENCY,
            "Maximum number of processes of a `command` without `url`. Default: 1. Only an agent whose sampling or \
             elicitation requests do not identify their call gets more than one process; each process then handles \
             one call at a time.",
        ),
        key("startup_timeout", ValueType::PositiveDuration, "Maximum duration of connecting. Default: 30s."),
        key("tool_timeout", ValueType::PositiveDuration, "Idle timeout of a call. Default: 5m."),
        key(
            "check_results",
            ValueType::Choice(&[
                ("strict", "The call fails."),
                ("warn", "The result is used unchanged, with a warning."),
                ("off", "The result is not checked."),
            ]),
            "What to do with a result that does not match the tool's `outputSchema`. Default: `strict`.",
        ),
        key("effect", EFFECTS, "The effect of a repeated call of this agent's tools. Tasks override it."),
        key(
            "sampling",
            ValueType::OneOf(
                "`allow`, `ask`, `deny`, or a map with `policy`, `max_tokens`, and `max_requests`",
                &[CONSENT, ValueType::Table(&SAMPLING)],
            ),
            "Whether the agent may use the language model, and how much. A string is short for `policy`.",
        ),
        key("enabled_tools", ValueType::TextList, "The only tools that can be called."),
        key("disabled_tools", ValueType::TextList, "Tools that cannot be called."),
        key(
            "capabilities",
            ValueType::OneOf(
                "a map from capabilities to tools, or a list of capabilities",
                &[ValueType::TextMap, ValueType::TextList],
            ),
            "The agent's capabilities: a map from each capability to the tool that provides it, or a list of \
             capabilities.",
        ),
    ],
};

const CONSENT: ValueType = ValueType::Choice(&[
    ("allow", "Requests are allowed."),
    ("ask", "A person approves each request. Without a person, requests are refused."),
    ("deny", "Requests are refused; the agent sees a host without a language model."),
]);

/// The sampling requests that an agent may make.
pub(crate) static SAMPLING: TableSchema = TableSchema {
    title: "`sampling`",
    definition: "sampling",
    description: "Whether an agent may use the language model, and how much.",
    required: &[],
    keys: &[
        key("policy", CONSENT, "Whether requests are allowed. Default: `allow`."),
        key("max_tokens", QUOTA, "Maximum number of tokens of its requests in a run, including prompts and replies."),
        key("max_requests", QUOTA, "Maximum number of its requests in a run."),
    ],
};

/// A language model.
pub(crate) static LLM: TableSchema = TableSchema {
    title: "a language model",
    definition: "llm",
    description: "A model with an OpenAI-compatible endpoint. `provider` sets the defaults of all other keys.",
    required: &["model"],
    keys: &[
        key(
            "provider",
            ValueType::Choice(&PROVIDERS),
            "The provider, which sets the default of `base_url` and of the keys that depend on the endpoint.",
        ),
        key("base_url", ValueType::Text, "The base URL of the API, such as `http://127.0.0.1:11434/v1`."),
        key("model", ValueType::Text, "The name of the model at the endpoint."),
        key(
            "api_key_env_var",
            ValueType::Text,
            "The environment variable that contains the API key. The key is never logged.",
        ),
        key("timeout", ValueType::PositiveDuration, "Idle timeout of a request. Default: 2m."),
        key("deadline", ValueType::PositiveDuration, "Maximum duration of a request, including retries and delays."),
        key("http_headers", ValueType::TextMap, "Additional headers to send with every request."),
        key(
            "env_http_headers",
            ValueType::TextMap,
            "Headers whose values are read from the named environment variables.",
        ),
        key("query", ValueType::TextMap, "Query parameters of every request."),
        key(
            "max_tokens_field",
            ValueType::Choice(&[
                ("max_tokens", "Supported by most endpoints."),
                ("max_completion_tokens", "Required by OpenAI's reasoning models."),
            ]),
            "The name of the output limit in requests. Default: `max_tokens`.",
        ),
        key(
            "max_output_tokens",
            ValueType::Integer(1, 4_294_967_295),
            "Maximum number of tokens of a reply; caps every requested limit.",
        ),
        key(
            "temperature",
            ValueType::OneOf("a number from 0 to 2, `true`, or `false`", &[ValueType::Boolean, TEMPERATURE]),
            "The default temperature of requests, or whether requests may have a temperature. Default: `true`.",
        ),
        key("seed", ValueType::Integer(0, i64::MAX as u64), "The `seed` of every request, for reproducible replies."),
        key(
            "reasoning_effort",
            ValueType::Text,
            "The reasoning effort of every request, as the endpoint defines it, such as `low`.",
        ),
        key(
            "extra_body",
            ValueType::Object,
            "Additional keys of every request body, such as `top_p`. Keys that kapell sets are rejected.",
        ),
        key(
            "stop",
            ValueType::Boolean,
            "Whether requests may have stop sequences. Default: `true`. If `false`, kapell truncates replies there.",
        ),
        key(
            "structured_output",
            ValueType::Choice(&[
                ("json_schema", "The endpoint enforces a JSON Schema."),
                ("json_object", "The endpoint enforces JSON; the prompt contains the schema."),
                ("text", "Only the prompt contains the schema."),
            ]),
            "How structured replies are requested. Default: `json_schema`.",
        ),
        key(
            "schema_in_prompt",
            ValueType::Boolean,
            "Whether the prompt contains the schema of a reply in addition to the request. Default: `true`; `false` \
             for providers that show the schema to the model themselves.",
        ),
        key(
            "tool_choice",
            ValueType::Choice(&[
                ("required", "Supported by most endpoints."),
                ("any", "Mistral's equivalent of `required`."),
                ("auto", "Tool calls cannot be forced; requests that demand one are rejected."),
            ]),
            "How a tool call is forced. Default: `required`.",
        ),
        key(
            "system_role",
            ValueType::Choice(&[("system", "Supported by all endpoints."), ("developer", "The newer name of OpenAI.")]),
            "The role of the system prompt. Default: `system`.",
        ),
        key("stream_usage", ValueType::Boolean, "Whether requests ask for token usage. Default: `true`."),
        key(
            "echo_reasoning",
            ValueType::Boolean,
            "Whether the reasoning before a tool call is sent back to the model. Default: `false`.",
        ),
        key("tools", ValueType::Boolean, "Whether the model supports tools. Default: `false`."),
        key("images", ValueType::Boolean, "Whether the model supports images. Default: `false`."),
        key("audio", ValueType::Boolean, "Whether the model supports audio. Default: `false`."),
        key("prices", ValueType::Table(&PRICES), "The prices of the model."),
        key("scores", ValueType::Table(&SCORES), "Scores for choosing a model if an agent states priorities."),
    ],
};

const PROVIDERS: [(&str, &str); 12] = [
    ("openai", "OpenAI."),
    ("azure", "Azure OpenAI; `base_url` is the URL of your resource."),
    ("anthropic", "Anthropic."),
    ("gemini", "Google's Gemini API."),
    ("openrouter", "OpenRouter."),
    ("groq", "Groq."),
    ("deepseek", "DeepSeek."),
    ("mistral", "Mistral."),
    ("xai", "xAI."),
    ("ollama", "Ollama on this machine."),
    ("llama.cpp", "llama.cpp's server on this machine."),
    ("vllm", "vLLM on this machine."),
];

/// The prices of a model.
pub(crate) static PRICES: TableSchema = TableSchema {
    title: "`prices`",
    definition: "prices",
    description: "US dollars per million tokens.",
    required: &["input", "output"],
    keys: &[
        key("input", ValueType::Number(0.0, f64::MAX), "Price of input tokens."),
        key("output", ValueType::Number(0.0, f64::MAX), "Price of output tokens."),
    ],
};

/// The scores of a model relative to others.
pub(crate) static SCORES: TableSchema = TableSchema {
    title: "`scores`",
    definition: "scores",
    description: "Scores from 0 to 1. Default: 0.5.",
    required: &[],
    keys: &[
        key("cost", ValueType::Number(0.0, 1.0), "Low cost."),
        key("speed", ValueType::Number(0.0, 1.0), "Speed."),
        key("intelligence", ValueType::Number(0.0, 1.0), "Intelligence."),
    ],
};
