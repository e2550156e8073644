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
    description: "The MCP servers that kapell may use, and the language models that answer their sampling requests.",
    required: &[],
    keys: &[
        key("agents", ValueType::TableMap(&AGENT), "The agents, by name."),
        key(
            "llm",
            ValueType::Table(&LLM),
            "The language model that is asked where nothing else is said; its name is `llm`.",
        ),
        key("models", ValueType::TableMap(&LLM), "Further language models, by name."),
        key("planner", ValueType::Table(&PLANNER), "How goals are planned."),
    ],
};

/// The settings of the planner.
pub(crate) static PLANNER: TableSchema = TableSchema {
    title: "the planner",
    definition: "planner",
    description: "How goals are planned, and anew what is left of a run.",
    required: &[],
    keys: &[
        key("model", ValueType::Text, "The model that plans: `llm`, or a name under `models`; the first where absent."),
        key(
            "max_tokens",
            ValueType::Integer(1, 4_294_967_295),
            "Most tokens of an answer, thoughts included. Where absent, 8192, and twice as many after an answer that was \
             cut off, up to 32768.",
        ),
        key("temperature", TEMPERATURE, "The temperature; the model's own where absent."),
        key("reasoning_effort", ValueType::Text, "How much the model reasons; the model's own where absent."),
        key("max_tasks", ValueType::Integer(1, 100), "Most tasks of a plan that a model writes; 16 where absent."),
    ],
};

/// An agent.
pub(crate) static AGENT: TableSchema = TableSchema {
    title: "an agent",
    definition: "agent",
    description: "An MCP server: a `command` that is started, a `url` that is connected to, or both. Texts may hold \
            `${VAR}` and `${VAR:-default}`; `${KAPELL}` is this program, and `${PORT}` a free port where both \
            `command` and `url` are given.",
    required: &[],
    keys: &[
        key("command", ValueType::Text, "The program to start. With `url` too, it is the server behind that."),
        key("args", ValueType::TextList, "Its arguments."),
        key("env", ValueType::TextMap, "Its environment, on top of a minimal one."),
        key(
            "env_vars",
            ValueType::TextList,
            "Names of variables that it is given from kapell's own environment, if set.",
        ),
        key("cwd", ValueType::Text, "Its working directory; kapell's own where absent."),
        key("url", ValueType::Text, "The address of a Streamable HTTP server."),
        key("http_headers", ValueType::TextMap, "Headers of every request."),
        key("env_http_headers", ValueType::TextMap, "Headers whose values are read from the variables named here."),
        key("bearer_token_env_var", ValueType::Text, "The variable that holds the bearer token."),
        key(
            "protocol",
            ValueType::Choice(&[
                ("auto", "Ask the server."),
                ("legacy", "The `initialize` handshake: 2025-11-25 and before."),
                ("modern", "2026-07-28 and later: no handshake."),
            ]),
            "The protocol era to speak; `auto` where absent.",
        ),
        key(
            "required",
            ValueType::Boolean,
            "Whether a run fails when the agent cannot be reached; `false` where absent.",
        ),
        key("enabled", ValueType::Boolean, "Whether the agent may be used; `true` where absent."),
        key("max_concurrency", CONCURRENCY, "Most calls in flight on this agent at once; 8 where absent."),
        key(
            "max_processes",
            CONCURRENCY,
            "Most processes of a `command` without `url`; 1 where absent. Only an agent that asks back (sampling, \
             elicitation) without saying for which call gets more than one: then each process takes one call at a time.",
        ),
        key("startup_timeout", ValueType::PositiveDuration, "Longest that connecting may take; 30s where absent."),
        key("tool_timeout", ValueType::PositiveDuration, "Longest silence of a call; 5m where absent."),
        key(
            "check_results",
            ValueType::Choice(&[
                ("strict", "The call fails."),
                ("warn", "The result is taken as it is, with a warning."),
                ("off", "The result is not checked."),
            ]),
            "What becomes of a result that breaks the `outputSchema` of its tool; `strict` where absent.",
        ),
        key("effect", EFFECTS, "What a repeated call of this agent's tools does, where no task says so."),
        key(
            "sampling",
            ValueType::OneOf(
                "`allow`, `ask`, `deny`, or a map with `policy`, `max_tokens` and `max_requests`",
                &[CONSENT, ValueType::Table(&SAMPLING)],
            ),
            "Whether and how much the agent may ask the language model. A word is `policy`.",
        ),
        key("enabled_tools", ValueType::TextList, "The only tools that may be called."),
        key("disabled_tools", ValueType::TextList, "Tools that may not be called."),
        key(
            "capabilities",
            ValueType::OneOf(
                "a map from capabilities to tools, or a list of capabilities",
                &[ValueType::TextMap, ValueType::TextList],
            ),
            "What the agent can stand in for: each capability with the tool that serves it, or names alone.",
        ),
    ],
};

const CONSENT: ValueType = ValueType::Choice(&[
    ("allow", "It may."),
    ("ask", "A person is asked before each request; with nobody to ask, it is refused."),
    ("deny", "It may not: the agent is told that there is no language model."),
]);

/// The sampling requests that an agent may make.
pub(crate) static SAMPLING: TableSchema = TableSchema {
    title: "`sampling`",
    definition: "sampling",
    description: "Whether and how much an agent may ask the language model.",
    required: &[],
    keys: &[
        key("policy", CONSENT, "Whether it may ask; `allow` where absent."),
        key("max_tokens", QUOTA, "Most tokens that its requests may use in a run, prompts and replies together."),
        key("max_requests", QUOTA, "Most requests that it may make in a run."),
    ],
};

/// A language model.
pub(crate) static LLM: TableSchema = TableSchema {
    title: "a language model",
    definition: "llm",
    description: "A model behind an OpenAI-compatible endpoint. Where `provider` is given, it says what absent keys mean.",
    required: &["model"],
    keys: &[
        key("provider", ValueType::Choice(&PROVIDERS), "Sets `base_url` and how the endpoint wants to be asked."),
        key("base_url", ValueType::Text, "The base of the API, such as `http://127.0.0.1:11434/v1`."),
        key("model", ValueType::Text, "The model, as the endpoint calls it."),
        key(
            "api_key_env_var",
            ValueType::Text,
            "The variable that holds the key; read from nowhere else, never logged.",
        ),
        key(
            "timeout",
            ValueType::PositiveDuration,
            "Limits the silence of the endpoint within a request; 2m where absent.",
        ),
        key("deadline", ValueType::PositiveDuration, "Limits a whole request, its tries and waits included."),
        key("http_headers", ValueType::TextMap, "Further headers of every request."),
        key("env_http_headers", ValueType::TextMap, "Headers whose values are read from the variables named here."),
        key("query", ValueType::TextMap, "What follows `?` in the address of every request."),
        key(
            "max_tokens_field",
            ValueType::Choice(&[
                ("max_tokens", "What most endpoints take."),
                ("max_completion_tokens", "What OpenAI's reasoning models insist on."),
            ]),
            "What the endpoint calls the output limit; `max_tokens` where absent.",
        ),
        key(
            "max_output_tokens",
            ValueType::Integer(1, 4_294_967_295),
            "Most tokens of a reply, whatever is asked for.",
        ),
        key(
            "temperature",
            ValueType::OneOf("a number from 0 to 2, `true` or `false`", &[ValueType::Boolean, TEMPERATURE]),
            "The temperature of requests that name none; or whether a request may have one at all, `true` where absent.",
        ),
        key(
            "seed",
            ValueType::Integer(0, i64::MAX as u64),
            "The `seed` of every request, for replies that can be repeated.",
        ),
        key(
            "reasoning_effort",
            ValueType::Text,
            "How much the model reasons, in the endpoint's words, such as `low`; goes with every request.",
        ),
        key(
            "extra_body",
            ValueType::Object,
            "Further keys of every request's body, such as `top_p`. Keys that kapell writes itself are refused.",
        ),
        key(
            "stop",
            ValueType::Boolean,
            "Whether a request may name stop sequences; `true` where absent. Where not, replies are cut there.",
        ),
        key(
            "structured_output",
            ValueType::Choice(&[
                ("json_schema", "The endpoint holds the model to a JSON Schema."),
                ("json_object", "The endpoint holds the model to JSON; the schema is in the prompt."),
                ("text", "The schema is in the prompt, and nothing else asks for it."),
            ]),
            "How the form of a reply is asked for; `json_schema` where absent.",
        ),
        key(
            "schema_in_prompt",
            ValueType::Boolean,
            "Whether the prompt holds the schema of a reply, although the endpoint gets it too; `true` where absent, \
             `false` for providers that show it to the model themselves.",
        ),
        key(
            "tool_choice",
            ValueType::Choice(&[
                ("required", "What most endpoints take."),
                ("any", "Mistral's word for the same."),
                ("auto", "The model cannot be made to; a request that demands it is refused."),
            ]),
            "How a model is made to ask for a tool; `required` where absent.",
        ),
        key(
            "system_role",
            ValueType::Choice(&[("system", "What every endpoint takes."), ("developer", "OpenAI's newer word.")]),
            "The role of the system prompt; `system` where absent.",
        ),
        key("stream_usage", ValueType::Boolean, "Whether requests ask for their usage; `true` where absent."),
        key(
            "echo_reasoning",
            ValueType::Boolean,
            "Whether what the model thought before it asked for tools is sent back to it; `false` where absent.",
        ),
        key("tools", ValueType::Boolean, "Whether the model can be given tools; `false` where absent."),
        key("images", ValueType::Boolean, "Whether the model takes images; `false` where absent."),
        key("audio", ValueType::Boolean, "Whether the model takes sound; `false` where absent."),
        key("prices", ValueType::Table(&PRICES), "What it costs."),
        key("scores", ValueType::Table(&SCORES), "How it compares with the others, where an agent has priorities."),
    ],
};

const PROVIDERS: [(&str, &str); 12] = [
    ("openai", "OpenAI."),
    ("azure", "Azure OpenAI; `base_url` is your resource's."),
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
    description: "US dollars for a million tokens.",
    required: &["input", "output"],
    keys: &[
        key("input", ValueType::Number(0.0, f64::MAX), "Of the request."),
        key("output", ValueType::Number(0.0, f64::MAX), "Of the reply."),
    ],
};

/// The scores of a model relative to others.
pub(crate) static SCORES: TableSchema = TableSchema {
    title: "`scores`",
    definition: "scores",
    description: "From 0 to 1; 0.5 where absent.",
    required: &[],
    keys: &[
        key("cost", ValueType::Number(0.0, 1.0), "How cheap it is."),
        key("speed", ValueType::Number(0.0, 1.0), "How fast it is."),
        key("intelligence", ValueType::Number(0.0, 1.0), "How able it is."),
    ],
};
