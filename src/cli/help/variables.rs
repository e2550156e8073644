//! The environment variables that commands read.

/// An environment variable that some commands read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variable {
    /// The name.
    pub(super) name: &'static str,
    /// The meaning.
    pub(super) meaning: &'static str,
}

const fn variable(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, meaning }
}

/// The variables that every command reads.
pub(super) const ALWAYS: &[Variable] = &[
    variable("KAPELL_LOG", "the level of diagnostics on stderr, such as `debug` or `kapell=trace`"),
    variable("NO_COLOR", "if not empty, nothing is colored, unless `--color` says otherwise"),
    variable("CLICOLOR_FORCE", "if not `0`, pipes get colors too, unless `--color` says otherwise"),
];

/// The variables of commands that read the agents file.
pub(super) const AGENTS: &[Variable] = &[
    variable("KAPELL_AGENTS", "the agents file, unless `--agents` names one"),
    variable("XDG_CONFIG_HOME", "the directory of the user's `kapell/agents.toml` [default: ~/.config]"),
];

/// The variables of commands that connect to agents or models.
pub(super) const CONNECTIONS: &[Variable] =
    &[variable("HTTPS_PROXY", "the proxy of connections; also `HTTP_PROXY`, `ALL_PROXY`, and `NO_PROXY`")];

/// The variables of commands that read or write the journal.
pub(super) const JOURNAL: &[Variable] = &[
    variable("KAPELL_JOURNAL", "the journal, unless `--journal` names one"),
    variable("XDG_STATE_HOME", "the directory of `kapell/journal.db` [default: ~/.local/state]"),
];

/// The variables of commands that show times.
pub(super) const TIMES: &[Variable] = &[variable("TZ", "the time zone of the times that are shown")];

/// The variables of commands with a live view.
pub(super) const LIVE_VIEW: &[Variable] = &[variable("TERM", "`dumb` turns off the live view")];

/// The variables of commands that open a web page.
pub(super) const BROWSER: &[Variable] = &[variable("BROWSER", "the browser that opens the login page")];

/// The variables of commands that find language models.
pub(super) const PROVIDER_KEYS: &[Variable] =
    &[variable("OPENAI_API_KEY", "the key of a provider; also `ANTHROPIC_API_KEY`, `GEMINI_API_KEY`, and others")];

/// The variables of the demo agents.
pub(super) const DEMO: &[Variable] = &[
    variable("KAPELL_DEMO_DIR", "the directory of documents and jobs [default: in the state directory]"),
    variable("KAPELL_DEMO_EFFECTS", "a file to which each effect is appended as a line of JSON"),
];
