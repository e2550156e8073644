//! The vocabulary of the configuration files of other hosts.

/// The format of a host's configuration file: data, which one reader interprets.
#[derive(Debug)]
pub(crate) struct FileFormat {
    /// The syntax of the file.
    pub(super) syntax: Syntax,
    /// The places of the agents in the file, as paths of keys. All of them are read.
    pub(super) sections: &'static [&'static [&'static str]],
    /// A key with a map from directories to further sections, for the agents of single projects.
    pub(super) projects: Option<&'static str>,
    /// The keys of an agent that differ from [`super::formats::common::FIELDS`].
    pub(super) fields: &'static [(&'static str, Field)],
    /// The forms of references to variables besides `${NAME}`, `${env:NAME}`, and `${input:ID}`.
    pub(super) references: ReferenceForms,
    /// The directory in which the host starts a program.
    pub(super) start: StartDirectory,
}

/// The syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    /// JSON, with comments and trailing commas.
    Json,
    /// YAML.
    Yaml,
    /// TOML.
    Toml,
}

/// The forms of references to variables that only some hosts know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReferenceForms {
    /// None.
    Common,
    /// `$NAME`.
    BareDollar,
    /// `{env:NAME}`.
    Braces,
    /// `${{ secrets.NAME }}`.
    Secrets,
}

/// The directory in which a host starts a program without `cwd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StartDirectory {
    /// The directory of the project, or that of the user for the file of a user.
    Project,
    /// The home directory.
    Home,
}

/// The meaning of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field {
    /// The program; a list has its arguments too, and a map has the keys `path`, `args`, and `env`.
    Command,
    /// The arguments.
    Args,
    /// The working directory.
    Cwd,
    /// Variables and their values.
    Env,
    /// The names of variables that the program inherits.
    EnvNames,
    /// The names of variables whose values are in the keyring of the host.
    KeyringNames,
    /// A file with variables.
    EnvFile,
    /// The address of a server.
    Url,
    /// The address of a server over HTTP+SSE.
    SseUrl,
    /// The transport, or another kind of agent.
    Kind,
    /// Headers and their values.
    Headers,
    /// Headers and the variables with their values.
    EnvHeaders,
    /// The variable with the bearer token.
    BearerVariable,
    /// A bearer token.
    BearerToken,
    /// A switch that excludes the agent.
    Disabled,
    /// A switch that includes the agent.
    Enabled,
    /// The idle timeout of a call, as a number of units.
    ToolTimeout(Unit),
    /// The timeout for connecting, as a number of units.
    StartupTimeout(Unit),
    /// The only tools that can be called.
    EnabledTools,
    /// Tools that cannot be called.
    DisabledTools,
    /// Whether the host needs the agent.
    Required,
    /// Whether calls can run at the same time.
    Parallel,
    /// OAuth settings.
    OAuth,
    /// The OAuth scopes.
    Scopes,
    /// The OAuth resource.
    Resource,
    /// A permission, which does not carry over.
    Permission,
    /// A restriction that kapell does not have.
    Restriction,
    /// A key that needs no counterpart.
    Ignored,
}

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}
