//! Names that other programs use for the keys of an agents file, each with the way to write it.

/// A key of a table: the name of the table's static, the names that other programs use, and the help.
type MisnamedKeys = (&'static str, &'static [&'static str], &'static str);

const MISNAMED_KEYS: &[MisnamedKeys] = &[
    (
        "AGENTS_FILE",
        &["mcpServers", "mcp_servers", "mcp-servers", "servers", "context_servers", "extensions", "mcp", "agent"],
        "write `[agents.NAME]`; `kapell agents import FILE` converts the files of other hosts",
    ),
    (
        "AGENT",
        &["type", "transport", "transportType"],
        "remove it: `command` starts a program, and `url` is an address over Streamable HTTP or HTTP+SSE",
    ),
    ("AGENT", &["headers"], "write `http_headers`, or `env_http_headers` for values from environment variables"),
    (
        "AGENT",
        &["timeout", "timeout_ms", "timeoutMs"],
        "write `tool_timeout` (of a call) or `startup_timeout` (of connecting), such as `\"30s\"`",
    ),
    ("AGENT", &["startup_timeout_sec", "startup_timeout_ms"], "write `startup_timeout`, such as `\"30s\"`"),
    ("AGENT", &["tool_timeout_sec"], "write `tool_timeout`, such as `\"30s\"`"),
    (
        "AGENT",
        &["api_key", "apiKey", "bearer_token", "token", "authorization"],
        "secrets are not written to the file: set an environment variable, and write its name as \
         `bearer_token_env_var = \"NAME\"`, or in `env_http_headers`",
    ),
    ("AGENT", &["serverUrl", "httpUrl", "uri", "endpoint", "base_url"], "write `url`"),
    ("AGENT", &["cmd"], "write `command`"),
    ("AGENT", &["environment", "envs"], "write `env`"),
    ("AGENT", &["envFile", "env_file"], "write the names of the variables as `env_vars = [\"NAME\"]`, and set them"),
    ("AGENT", &["disabled"], "write `enabled = false`"),
    ("AGENT", &["includeTools", "available_tools", "allowed_tools", "tools"], "write `enabled_tools`"),
    ("AGENT", &["excludeTools", "disabledTools", "excluded_tools"], "write `disabled_tools`"),
    (
        "AGENT",
        &["alwaysAllow", "autoApprove", "trust"],
        "remove it: the `approve` key of a task decides about approvals",
    ),
    (
        "LLM",
        &["api_key", "apiKey", "key", "token"],
        "secrets are not written to the file: set an environment variable, and write its name as \
         `api_key_env_var = \"NAME\"`",
    ),
    ("LLM", &["url", "api_base", "apiBase", "baseUrl", "endpoint"], "write `base_url`"),
    ("LLM", &["headers"], "write `http_headers`, or `env_http_headers` for values from environment variables"),
    ("LLM", &["type"], "write `provider`"),
    ("LLM", &["name"], "write `model`"),
    ("LLM", &["max_tokens"], "write `max_output_tokens`"),
    ("PLANNER", &["max_tokens", "max_completion_tokens"], "write `max_output_tokens`"),
];

/// Returns the way to write a key of a table that another program calls `name`.
pub(crate) fn correct_key(table: &str, name: &str) -> Option<&'static str> {
    let mut keys = MISNAMED_KEYS.iter();
    keys.find(|(known, names, _)| *known == table && names.contains(&name)).map(|(_, _, help)| *help)
}

/// Values of another type than a key has: the key, the kind of the value, and the help.
const MISTYPED_VALUES: [(&str, &str, &str); 1] =
    [("approve", "a boolean", "write the question that a person answers, such as `approve: Post the report?`")];

/// Returns the way to write the value of a key whose value has the wrong type `kind`.
pub(crate) fn correct_value(key: &str, kind: &str) -> Option<&'static str> {
    MISTYPED_VALUES.into_iter().find_map(|(name, wrong, help)| (name == key && wrong == kind).then_some(help))
}

/// Words that other languages use for the words of a choice.
const MISNAMED_WORDS: [(&str, &[&str]); 6] = [
    ("string", &["str", "text", "varchar"]),
    ("integer", &["int", "i64", "long"]),
    ("number", &["float", "double", "decimal"]),
    ("boolean", &["bool"]),
    ("array", &["list", "vec", "tuple"]),
    ("object", &["dict", "map", "hash", "struct"]),
];

/// Returns the word for a choice that another language calls `word`.
pub(crate) fn correct_word(word: &str) -> Option<&'static str> {
    MISNAMED_WORDS.into_iter().find_map(|(right, wrong)| wrong.contains(&word).then_some(right))
}
