//! The keys of the agents file.

use super::common::{CONCURRENCY, EFFECTS, table};
use crate::config::schema::table::ValueType::{
    self, Boolean, Choice, Integer, Number, Object, OneOf, PositiveDuration, Table, TableMap, Text, TextList, TextMap,
    Url, VariableName,
};

/// A limit that is larger than any run needs.
const QUOTA: ValueType = Integer(1, 1_000_000_000_000);

/// The range that providers accept. For most of them, the default is 1.
const TEMPERATURE: ValueType = Number(0.0, 2.0);

table! {
    /// The agents file.
    AGENTS_FILE: AgentsFileKeys = "an agents file", required [],
        "The MCP servers that kapell can use, and the language models that plan goals and answer sampling requests.";
    agents: TableMap(&AGENT.table), "The agents, by name.";
    llm: Table(&LLM.table), "The default language model; its name is `llm`.";
    models: TableMap(&LLM.table), "Additional language models, by name.";
    planner: Table(&PLANNER.table), "Settings for planning and replanning.";
    plans: Table(&PLANS.table), "Settings for the plans that use these agents.";
    shell: Table(&SHELL_SETTINGS.table), "Whether plans may run shell commands.";
    http: Table(&HTTP_SETTINGS.table), "The hosts to which plans may send HTTP requests.";
}

table! {
    /// The settings for plans.
    PLANS: PlansKeys = "`plans`", required [], "Settings for the plans that use these agents.";
    env: TextList,
        "The environment variables that plans can use as `env.NAME`. Their values are in the journal, so they must not be \
         secret.";
}

/// The sizes of outputs and responses that a host can write to files: up to 1 TiB.
const OUTPUT_BYTES: ValueType = Integer(65_536, 1_099_511_627_776);
/// The sizes of values that a host can hold in memory.
const VALUE_BYTES: ValueType = Integer(65_536, 1_073_741_824);

table! {
    /// The settings of shell commands.
    SHELL_SETTINGS: ShellSettingsKeys = "`shell`", required [], "Whether plans may run shell commands.";
    enabled: Boolean, "Whether plans may run shell commands with `shell`. Default: `false`.";
    max_output_bytes: OUTPUT_BYTES, "Maximum size of the standard output of a command. Default: 17179869184 (16 GiB).";
    max_value_bytes: VALUE_BYTES,
        "Size up to which the standard output is a value that expressions can read. A larger one is only in a file of the \
         run, and is passed on by reference. Default: 16777216 (16 MiB).";
}

table! {
    /// The settings of HTTP requests.
    HTTP_SETTINGS: HttpSettingsKeys = "`http`", required [], "The hosts to which plans may send HTTP requests.";
    hosts: TextList,
        "The hosts that `http` in plans may use: names such as `api.example.com`, `*.example.org` for all subdomains, \
         or `*` for all hosts, each with an optional `:PORT`. Default: none.";
    ca_file: Text,
        "A PEM file with certificates of authorities that are trusted in addition to those of the system.";
    proxy: Url, "The proxy for all requests. Default: that of the environment (`HTTPS_PROXY`, `NO_PROXY`).";
    max_response_bytes: OUTPUT_BYTES, "Maximum size of the body of a response. Default: 17179869184 (16 GiB).";
    max_value_bytes: VALUE_BYTES,
        "Size up to which the body is a value that expressions can read. A larger one is only in a file of the run, and is \
         passed on by reference. Default: 16777216 (16 MiB).";
}

table! {
    /// The settings of the planner.
    PLANNER: PlannerKeys = "the planner", required [], "Settings for planning goals and replanning runs.";
    model: Text, "The model that plans: `llm` or a name under `models`. Default: the first model.";
    max_output_tokens: Integer(1, 4_294_967_295),
        "Maximum number of tokens of a reply, including reasoning. Default: 8192, doubled after a truncated reply, up \
         to 32768.";
    temperature: TEMPERATURE, "The temperature. Default: the model's own.";
    reasoning_effort: Text, "The reasoning effort. Default: the model's own.";
    max_tasks: Integer(1, 100), "Maximum number of tasks in a generated plan. Default: 16.";
    max_tools: Integer(1, 200),
        "Maximum number of tools that the planning model is shown. Fewer suit a small context. Default: 30.";
    form: Choice(&[
        ("auto", "The full form; after an answer that repeats itself or is not a plan, the compact one."),
        ("full", "Calls, prompts, lists, and conditions."),
        ("compact", "Calls of tools alone, with a short prompt: for very small models."),
    ]),
        "The form of prompts and plans. Default: `auto`. Only a model with `schema_bounds` is asked for the compact form \
         automatically.";
    speculate: Boolean,
        "Whether calls that change nothing start while the model still writes the plan, if their arguments are complete. \
         Default: `false`.";
}

table! {
    /// An agent.
    AGENT: AgentKeys = "an agent", required [],
        "An MCP server: a `command` to start, a `url` to connect to, or both. Strings may contain `${VAR}` and \
         `${VAR:-default}`; `${KAPELL}` is the path of kapell, and `${PORT}` is a free port if both `command` and \
         `url` are set.";
    command: Text,
        "The program to start. A path with `/` starts at the directory of the file. If `url` is set too, the program is the \
         server at that URL.";
    args: TextList, "The arguments of the program.";
    env: TextMap, "Environment variables of the program, in addition to those that every agent inherits.";
    env_vars: TextList, "Names of environment variables that the program inherits from kapell, if set.";
    cwd: Text, "The working directory of the program. Default: that of kapell.";
    url: Url, "The URL of a server over Streamable HTTP, or over HTTP+SSE of 2024-11-05.";
    http_headers: TextMap, "Headers to send with every request.";
    env_http_headers: TextMap, "Headers whose values are read from the named environment variables.";
    bearer_token_env_var: VariableName, "The environment variable that contains the bearer token.";
    ca_file: Text,
        "A PEM file with certificates of authorities that are trusted for the `url` and its authorization server, in \
         addition to those of the system.";
    client_cert_file: Text,
        "A PEM file with the certificate and the private key that kapell presents at the origin of the `url`, and \
         nowhere else.";
    proxy: Url,
        "The proxy for requests to the `url` and its authorization server. Default: that of the environment \
         (`HTTPS_PROXY`, `NO_PROXY`).";
    roots: TextList,
        "Directories and files that the agent may use, as paths or `file://` URIs. The agent can list them (MCP roots).";
    oauth: Table(&OAUTH.table),
        "How kapell obtains tokens for a server that requires a login. Without it, kapell registers itself, and a \
         person logs in with `kapell agents login`.";
    protocol: Choice(&[
        ("auto", "Detect the protocol of the server."),
        ("legacy", "Protocol versions up to 2025-11-25, with an `initialize` handshake."),
        ("modern", "Protocol versions 2026-07-28 and later, without a handshake."),
    ]),
        "The protocol era. Default: `auto`.";
    required: Boolean, "Whether a run fails if the agent is unavailable. Default: `false`.";
    enabled: Boolean, "Whether the agent is used. Default: `true`.";
    max_concurrency: CONCURRENCY, "Maximum number of concurrent calls of this agent. Default: 8.";
    max_processes: CONCURRENCY,
        "Maximum number of processes of a `command` without `url`. Default: 1. Only an agent whose sampling or \
         elicitation requests do not identify their call gets more than one process; each process then handles one \
         call at a time.";
    startup_timeout: PositiveDuration,
        "Maximum duration of connecting. Default: 30s, and 5m more for commands that may install a package first, such as \
         `npx`.";
    tool_timeout: PositiveDuration, "Idle timeout of a call. Default: 5m.";
    max_message_bytes: Integer(65_536, 1_073_741_824),
        "Maximum size of one message of the agent, such as a result. Default: 67108864 (64 MiB).";
    log_level: Choice(&[
        ("debug", "Details for debugging."),
        ("info", "Normal steps."),
        ("notice", "Significant but normal events."),
        ("warning", "Something may be wrong."),
        ("error", "Something failed."),
        ("critical", "A part of the agent failed."),
        ("alert", "Someone has to act at once."),
        ("emergency", "The agent is unusable."),
    ]),
        "The least severe log messages that the agent is asked to send. Default: `info`.";
    check_arguments: Choice(&[
        ("strict", "The call is not made."),
        ("warn", "The call is made, with a warning."),
        ("off", "The arguments are sent as they are, unchecked."),
    ]),
        "What to do with arguments that do not match the tool's `inputSchema`, even with the defaults of its required \
         properties and without nulls that it does not accept. Default: `strict`.";
    check_results: Choice(&[
        ("strict", "The call fails."),
        ("warn", "The result is used unchanged, with a warning."),
        ("off", "The result is not checked."),
    ]),
        "What to do with a result that does not match the tool's `outputSchema`. Default: `strict`.";
    effect: EFFECTS, "The effect of a repeated call of this agent's tools. Tasks override it.";
    sampling: OneOf(
        "`allow`, `ask`, `deny`, or a map with `policy`, `max_tokens`, and `max_requests`",
        &[CONSENT, Table(&SAMPLING.table)],
    ),
        "Whether the agent may use the language model, and how much. A string is short for `policy`.";
    enabled_tools: TextList, "The only tools that can be called.";
    disabled_tools: TextList, "Tools that cannot be called.";
    capabilities: OneOf("a map from capabilities to tools, or a list of capabilities", &[TextMap, TextList]),
        "The agent's capabilities: a map from each capability to the tool that provides it, or a list of capabilities.";
}

table! {
    /// The OAuth settings of an agent.
    OAUTH: OAuthKeys = "`oauth`", required [], "How kapell obtains tokens for a server.";
    grant: Choice(&[
        ("authorization_code", "A person logs in with a browser."),
        ("client_credentials", "kapell authenticates itself with a secret or a key. No person is needed."),
    ]),
        "The way to obtain tokens. Default: `authorization_code`.";
    client_id: Text,
        "The ID of a client that was registered in advance, or the HTTPS URL of a client ID metadata document. \
         Default: kapell registers itself.";
    client_secret_env_var: VariableName, "The environment variable that contains the secret of the client.";
    private_key_file: Text,
        "The PEM file with the RSA or EC key of the client, instead of a secret. Only for `client_credentials`.";
    scopes: TextList, "The scopes to request. Default: those that the server names.";
    resource: Url,
        "The resource that tokens are requested for, with the origin of `url`. Default: the one that the server names, \
         or `url`.";
}

const CONSENT: ValueType = Choice(&[
    ("allow", "Requests are allowed."),
    ("ask", "A person approves each request. Without a person, requests are refused."),
    ("deny", "Requests are refused; the agent sees a host without a language model."),
]);

table! {
    /// The sampling requests that an agent may make.
    SAMPLING: SamplingKeys = "`sampling`", required [], "Whether an agent may use the language model, and how much.";
    policy: CONSENT, "Whether requests are allowed. Default: `allow`.";
    max_tokens: QUOTA, "Maximum number of tokens of its requests in a run, including prompts and replies.";
    max_requests: QUOTA, "Maximum number of its requests in a run.";
}

table! {
    /// A language model.
    LLM: LlmKeys = "a language model", required [model],
        "A model with an OpenAI-compatible endpoint. `provider` sets the defaults of all other keys.";
    provider: Choice(&PROVIDERS),
        "The provider, which sets the default of `base_url` and of the keys that depend on the endpoint.";
    base_url: Url, "The base URL of the API, such as `http://127.0.0.1:11434/v1`.";
    model: Text, "The name of the model at the endpoint.";
    api_key_env_var: VariableName, "The environment variable that contains the API key. The key is never logged.";
    timeout: PositiveDuration, "Idle timeout of a request. Default: 2m.";
    deadline: PositiveDuration, "Maximum duration of a request, including retries and delays.";
    http_headers: TextMap, "Additional headers to send with every request.";
    env_http_headers: TextMap, "Headers whose values are read from the named environment variables.";
    query: TextMap, "Query parameters of every request.";
    max_tokens_field: Choice(&[
        ("max_tokens", "Supported by most endpoints."),
        ("max_completion_tokens", "Required by OpenAI's reasoning models."),
    ]),
        "The name of the output limit in requests. Default: `max_tokens`.";
    max_output_tokens: Integer(1, 4_294_967_295), "Maximum number of tokens of a reply; caps every requested limit.";
    temperature: OneOf("a number from 0 to 2, `true`, or `false`", &[Boolean, TEMPERATURE]),
        "The default temperature of requests, or whether requests may have a temperature. Default: `true`.";
    seed: Integer(0, i64::MAX as u64), "The `seed` of every request, for reproducible replies.";
    reasoning_effort: Text, "The reasoning effort of every request, as the endpoint defines it, such as `low`.";
    extra_body: Object, "Additional keys of every request body, such as `top_p`. Keys that kapell sets are rejected.";
    stop: Boolean,
        "Whether requests may have stop sequences. Default: `true`. If `false`, kapell truncates replies there.";
    structured_output: Choice(&[
        ("json_schema", "The endpoint enforces a JSON Schema."),
        ("json_object", "The endpoint enforces JSON; the prompt contains the schema."),
        ("text", "Only the prompt contains the schema."),
    ]),
        "How structured replies are requested. Default: `json_schema`.";
    schema_in_prompt: Boolean,
        "Whether the prompt contains the schema of a reply in addition to the request. Default: `true`; `false` for \
         providers that show the schema to the model themselves.";
    schema_bounds: Boolean,
        "Whether the schema of a reply may have `maxItems`, `maxLength`, and `pattern`, which keep a weak model from \
         repeating itself. Default: `true` for `ollama`, `llama.cpp`, and `vllm`; otherwise `false`, since some endpoints \
         reject them.";
    tool_choice: Choice(&[
        ("required", "Supported by most endpoints."),
        ("any", "Mistral's equivalent of `required`."),
        ("auto", "Tool calls cannot be forced; requests that demand one are rejected."),
    ]),
        "How a tool call is forced. Default: `required`.";
    system_role: Choice(&[("system", "Supported by all endpoints."), ("developer", "The newer name of OpenAI.")]),
        "The role of the system prompt. Default: `system`.";
    stream_usage: Boolean, "Whether requests ask for token usage. Default: `true`.";
    echo_reasoning: Boolean, "Whether the reasoning before a tool call is sent back to the model. Default: `false`.";
    tools: Boolean, "Whether the model supports tools. Default: `false`.";
    images: Boolean, "Whether the model supports images. Default: `false`.";
    audio: Boolean, "Whether the model supports audio. Default: `false`.";
    prices: Table(&PRICES.table), "The prices of the model.";
    scores: Table(&SCORES.table), "Scores for choosing a model if an agent states priorities.";
}

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

table! {
    /// The prices of a model.
    PRICES: PricesKeys = "`prices`", required [input, output], "US dollars per million tokens.";
    input: Number(0.0, f64::MAX), "Price of input tokens.";
    output: Number(0.0, f64::MAX), "Price of output tokens.";
}

table! {
    /// The scores of a model relative to others.
    SCORES: ScoresKeys = "`scores`", required [], "Scores from 0 to 1. Default: 0.5.";
    cost: Number(0.0, 1.0), "Low cost.";
    speed: Number(0.0, 1.0), "Speed.";
    intelligence: Number(0.0, 1.0), "Intelligence.";
}
