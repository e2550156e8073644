//! Expands `${…}` in the agents file: environment variables, the path of this program, and a free port. Diagnostics
//! never contain an expanded value.

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceSpan;
use crate::config::yaml::document::{DocumentNode, NodeValue};
use crate::system;

/// The environment that the agents file can refer to.
pub trait Environment {
    /// Returns the value of a variable, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
    /// Returns the path of this executable, the value of `${KAPELL}`.
    ///
    /// # Errors
    /// The reason why the path is unknown.
    fn executable(&self) -> Result<String, String>;
    /// Returns an unused loopback port, the value of `${PORT}`.
    ///
    /// # Errors
    /// The reason why no port is available.
    fn free_port(&self) -> Result<u16, String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        system::environment::variable(name)?.into_string().ok()
    }

    fn executable(&self) -> Result<String, String> {
        let path = std::env::current_exe().map_err(|error| error.to_string())?;
        path.into_os_string().into_string().map_err(|_| "its path is not UTF-8".to_owned())
    }

    fn free_port(&self) -> Result<u16, String> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
        listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
    }
}

/// An expander of the `${…}` in all texts below a node.
pub(crate) struct Expander<'e> {
    environment: &'e dyn Environment,
    /// The state of `${PORT}`.
    port: PortPlaceholder,
    /// The variables that are not set.
    unset: Vec<String>,
}

/// The meaning of `${PORT}` in a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortPlaceholder {
    /// Undefined: the host does not start a server for the section.
    Unavailable,
    /// A free port that is allocated at the first use.
    Unassigned,
    /// The allocated port.
    Assigned(u16),
}

impl<'e> Expander<'e> {
    pub(crate) fn new(environment: &'e dyn Environment, port: PortPlaceholder) -> Self {
        Self { environment, port, unset: Vec::new() }
    }

    /// Returns the variables that are not set. The texts that refer to them have become null.
    pub(crate) fn into_unset(self) -> Vec<String> {
        self.unset
    }

    /// Expands all texts below `node`. A text that cannot be expanded becomes null. It is reported, unless it only refers
    /// to variables that are not set.
    pub(crate) fn expand(&mut self, node: &mut DocumentNode<'_>, sink: &mut DiagnosticSink) {
        let span = node.span;
        match &mut node.value {
            NodeValue::Text(text) if text.contains('$') => {
                let expanded = self.expand_text(text, span, sink);
                node.is_secret = text.contains("${");
                node.value = expanded.map_or(NodeValue::Null, |text| NodeValue::Text(text.into()));
            }
            NodeValue::List(nodes) => nodes.iter_mut().for_each(|node| self.expand(node, sink)),
            NodeValue::Map(map) => map.values_mut().for_each(|entry| self.expand(&mut entry.node, sink)),
            NodeValue::Null | NodeValue::Bool(_) | NodeValue::Number(_) | NodeValue::Text(_) => {}
        }
    }

    /// Replaces each `${…}` in the text. Returns `None` if one of them has no value.
    fn expand_text(&mut self, text: &str, at: SourceSpan, sink: &mut DiagnosticSink) -> Option<String> {
        let (mut expanded, mut is_complete, mut rest) = (String::with_capacity(text.len()), true, text);
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('{') {
                let Some(close) = after.find('}') else {
                    sink.error("variable", at, "`${` has no closing `}`").help("a literal `$` is written `$$`");
                    return None;
                };
                match self.resolve_variable(&after[..close]) {
                    Ok(Some(value)) => expanded.push_str(&value),
                    Ok(None) => is_complete = false,
                    Err((message, help)) => {
                        sink.error("variable", at, message).help(help);
                        is_complete = false;
                    }
                }
                rest = &after[close + 1..];
            } else {
                expanded.push('$');
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        expanded.push_str(rest);
        is_complete.then_some(expanded)
    }

    /// Returns the value of `NAME` or `NAME:-default`. Records a variable that is not set, and returns `None`.
    ///
    /// # Errors
    /// The message and the help of a diagnostic.
    fn resolve_variable(&mut self, inside: &str) -> Result<Option<String>, (String, String)> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let help = "write `${NAME}` or `${NAME:-default}`; a literal `$` is written `$$`".to_owned();
            return Err((format!("`{name}` is not a valid variable name"), help));
        }
        match (name, self.port) {
            ("KAPELL", _) => self.environment.executable().map(Some).map_err(|why| {
                (format!("the path of this program is unknown: {why}"), "write the path instead".to_owned())
            }),
            ("PORT", PortPlaceholder::Assigned(port)) => Ok(Some(port.to_string())),
            ("PORT", PortPlaceholder::Unassigned) => {
                let port = self
                    .environment
                    .free_port()
                    .map_err(|why| (format!("no free port is available: {why}"), "write a fixed port".to_owned()))?;
                self.port = PortPlaceholder::Assigned(port);
                Ok(Some(port.to_string()))
            }
            ("PORT", PortPlaceholder::Unavailable) => Err((
                "`${PORT}` is not available here".to_owned(),
                "it is a free port for a server that kapell starts: set both `command` and `url`".to_owned(),
            )),
            _ => match (self.environment.variable(name), default) {
                (Some(value), None) => Ok(Some(value)),
                (Some(value), Some(_)) if !value.is_empty() => Ok(Some(value)),
                (_, Some(default)) => Ok(Some(default.to_owned())),
                (None, None) => {
                    add_unset(&mut self.unset, name);
                    Ok(None)
                }
            },
        }
    }
}

/// Adds a variable that is not set to a list of them.
pub(crate) fn add_unset(unset: &mut Vec<String>, name: &str) {
    if !unset.iter().any(|known| known == name) {
        unset.push(name.to_owned());
    }
}
