//! Reads what plans may have the host itself do: run shell commands, and send HTTP requests.

use url::Url;

use super::section_reader::{SectionReader, absolute_from, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{HTTP_SETTINGS, HttpSettingsKeys, SHELL_SETTINGS, ShellSettingsKeys};
use crate::config::schema::table::CheckedTable;
use crate::model::{HOST_AGENT, HostPattern, NetworkSettings, Operation, Plan};

/// The default limit of the output of a command and of the body of a response, in bytes. It only keeps a command that
/// never ends from filling the disk.
const DEFAULT_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// The default size up to which an output or a body is a value, in bytes.
const DEFAULT_MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;

/// What plans may have the host itself do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostSettings {
    /// The settings of shell commands.
    pub shell: ShellSettings,
    /// The settings of HTTP requests.
    pub http: HttpSettings,
}

/// The settings of shell commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShellSettings {
    /// True if plans may run shell commands.
    pub enabled: bool,
    /// The maximum size of the standard output of a command, in bytes.
    pub max_output_bytes: u64,
    /// The size up to which it is a value that expressions can read, in bytes.
    pub max_value_bytes: usize,
}

impl Default for ShellSettings {
    fn default() -> Self {
        Self { enabled: false, max_output_bytes: DEFAULT_MAX_BYTES, max_value_bytes: DEFAULT_MAX_VALUE_BYTES }
    }
}

/// The settings of HTTP requests.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSettings {
    /// The hosts to which plans may send requests.
    pub hosts: Vec<HostPattern>,
    /// The settings of connections.
    pub network: NetworkSettings,
    /// The maximum size of the body of a response, in bytes.
    pub max_response_bytes: u64,
    /// The size up to which it is a value that expressions can read, in bytes.
    pub max_value_bytes: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            network: NetworkSettings::default(),
            max_response_bytes: DEFAULT_MAX_BYTES,
            max_value_bytes: DEFAULT_MAX_VALUE_BYTES,
        }
    }
}

impl HttpSettings {
    /// Returns whether requests to this URL are allowed.
    pub fn allows(&self, url: &Url) -> bool {
        self.hosts.iter().any(|host| host.allows(url))
    }
}

/// The reason why a plan is not allowed to have the host do something, and how to allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPermissionError {
    /// The end of the code: `shell_disabled` or `http_host`.
    pub code: &'static str,
    /// The problem.
    pub message: String,
    /// The keys and options that allow it.
    pub help: String,
}

impl HostSettings {
    /// Returns settings that allow everything, to check a plan without an agents file.
    pub(crate) fn allow_all() -> Self {
        let mut settings = Self::default();
        settings.shell.enabled = true;
        settings.http.hosts.extend(HostPattern::parse("*"));
        settings
    }

    /// Checks that shell commands are allowed.
    ///
    /// # Errors
    /// Returns an error if they are not.
    pub fn check_shell(&self) -> Result<(), HostPermissionError> {
        if self.shell.enabled {
            return Ok(());
        }
        Err(HostPermissionError {
            code: "shell_disabled",
            message: "shell commands are not allowed".to_owned(),
            help: "set `enabled = true` in `[shell]` of the agents file, or pass `--allow-shell`".to_owned(),
        })
    }

    /// Checks that requests to `url` are allowed.
    ///
    /// # Errors
    /// Returns an error if they are not.
    pub fn check_url(&self, url: &Url) -> Result<(), HostPermissionError> {
        if self.http.allows(url) {
            return Ok(());
        }
        let host = url.host_str().unwrap_or_default();
        Err(HostPermissionError {
            code: "http_host",
            message: format!("HTTP requests to the host `{host}` are not allowed"),
            help: format!("add `\"{host}\"` to `hosts` in `[http]` of the agents file, or pass `--allow-http {host}`"),
        })
    }

    /// Checks that requests to some host are allowed.
    ///
    /// # Errors
    /// Returns an error if none is.
    pub fn check_any_host(&self) -> Result<(), HostPermissionError> {
        if !self.http.hosts.is_empty() {
            return Ok(());
        }
        Err(HostPermissionError {
            code: "http_host",
            message: "HTTP requests are not allowed".to_owned(),
            help: "list the allowed hosts as `hosts` in `[http]` of the agents file, or pass `--allow-http HOST`"
                .to_owned(),
        })
    }

    /// Checks what the tasks of a plan have the host do, as far as it is known before they run.
    ///
    /// # Errors
    /// Returns the first error, with the ID of its task.
    pub fn check_plan(&self, plan: &Plan) -> Result<(), (String, HostPermissionError)> {
        for task in
            plan.tasks.iter().filter(|task| task.routes().iter().any(|route| route.agent.as_str() == HOST_AGENT))
        {
            let checked = match task.operation() {
                Operation::RunCommand => self.check_shell(),
                Operation::SendRequest => {
                    let url = task.arguments().and_then(|arguments| arguments.0.get("url")?.as_str());
                    match url.and_then(literal_origin) {
                        Some(url) => self.check_url(&url),
                        None => self.check_any_host(),
                    }
                }
                _ => Ok(()),
            };
            checked.map_err(|error| (task.id.to_string(), error))?;
        }
        Ok(())
    }
}

/// Returns the origin of a URL whose template has no expression before the end of the host.
pub(crate) fn literal_origin(template: &str) -> Option<Url> {
    let literal = template.split("${{").next()?;
    let authority = literal.find("://").map(|start| start + "://".len())?;
    let ends = literal[authority..].find(['/', '?', '#']).map(|end| authority + end);
    let end = ends.or_else(|| (literal.len() == template.len()).then_some(literal.len()))?;
    Url::parse(&literal[..end]).ok()
}

/// Reads the settings of shell commands.
pub(super) fn read_shell(fields: CheckedTable<'_, ShellSettingsKeys>) -> ShellSettings {
    let default = ShellSettings::default();
    ShellSettings {
        enabled: fields.boolean(&SHELL_SETTINGS.enabled).unwrap_or(default.enabled),
        max_output_bytes: fields.integer(&SHELL_SETTINGS.max_output_bytes).unwrap_or(default.max_output_bytes),
        max_value_bytes: fields.integer(&SHELL_SETTINGS.max_value_bytes).unwrap_or(default.max_value_bytes),
    }
}

impl SectionReader<'_, HttpSettingsKeys> {
    /// Reads the settings of HTTP requests.
    pub(super) fn read_http(&self, sink: &mut DiagnosticSink) -> HttpSettings {
        let default = HttpSettings::default();
        let mut hosts = Vec::new();
        for (text, node) in self.fields.text_list(&HTTP_SETTINGS.hosts) {
            match HostPattern::parse(text) {
                Ok(host) => hosts.push(host),
                Err(problem) => {
                    let error = sink.error("bad_host", node.span, format!("`{text}` {problem}"));
                    error.help("expected a name such as `api.example.com`, `*.example.org`, or `127.0.0.1:8080`");
                }
            }
        }
        let proxy = self.fields.node(&HTTP_SETTINGS.proxy);
        HttpSettings {
            hosts,
            network: NetworkSettings {
                ca_file: self.fields.text(&HTTP_SETTINGS.ca_file).map(|path| absolute_from(self.base, path)),
                client_cert_file: None,
                proxy: proxy.and_then(|node| parse_url(node, &HTTP_SETTINGS.proxy, sink)),
            },
            max_response_bytes: self
                .fields
                .integer(&HTTP_SETTINGS.max_response_bytes)
                .unwrap_or(default.max_response_bytes),
            max_value_bytes: self.fields.integer(&HTTP_SETTINGS.max_value_bytes).unwrap_or(default.max_value_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_known_if_no_expression_is_part_of_them() {
        let origin = |template| literal_origin(template).map(|url| url.to_string());
        assert_eq!(origin("https://a.example/${{ x }}").as_deref(), Some("https://a.example/"));
        assert_eq!(origin("https://a.example?x=${{ x }}").as_deref(), Some("https://a.example/"));
        assert_eq!(origin("http://a.example:81").as_deref(), Some("http://a.example:81/"));
        for template in ["${{ item.url }}", "https://${{ x }}.example/", "https://a.example${{ x }}", "a.example/x"] {
            assert_eq!(origin(template), None, "{template}");
        }
    }
}
