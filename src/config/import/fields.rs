//! Interprets the keys of an agent at another host.

use std::time::Duration;

use serde_json::{Map, Value};

use super::file_format::{Field, FileFormat, Unit};
use super::formats::common::FIELDS;
use super::references::{ReferenceConverter, input_variable};
use crate::config::agents::redaction::is_variable_name;
use crate::config::editing::agent_entry::{AgentEntry, OAuthEntry};
use crate::model::HumanDuration;

/// An agent of another host whose keys have been read.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) entry: AgentEntry,
    /// The address of a server over HTTP+SSE.
    pub(super) sse_url: Option<String>,
    /// The transport, or another kind of agent.
    pub(super) kind: Option<String>,
    /// Variables that have to be set.
    pub(super) variables: Vec<String>,
    /// What is different here, and what was not imported.
    pub(super) remarks: Vec<String>,
}

impl Draft {
    /// Records the variables for what the host asks a person for, with their descriptions as comments, and the
    /// references without counterpart.
    pub(super) fn report_references(
        &mut self,
        references: &ReferenceConverter<'_>,
        description: impl Fn(&str) -> Option<String>,
    ) {
        for id in &references.inputs {
            let variable = input_variable(id);
            if let Some(description) = description(id) {
                self.entry.comments.push(format!("{variable}: {description}"));
            }
            if !self.variables.contains(&variable) {
                self.variables.push(variable);
            }
        }
        for unknown in &references.unknown {
            self.remarks.push(format!("`{unknown}` has no counterpart here and stays as it is"));
        }
    }
}

/// A reader of the keys of one agent.
pub(super) struct FieldReader<'a, 'r> {
    pub(super) format: &'static FileFormat,
    pub(super) references: &'r mut ReferenceConverter<'a>,
    pub(super) draft: Draft,
}

impl FieldReader<'_, '_> {
    /// Reads all keys.
    pub(super) fn read(mut self, keys: &Map<String, Value>) -> Draft {
        for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
            let fields = self.format.fields.iter().chain(FIELDS);
            match fields.into_iter().find(|(name, _)| name == key) {
                Some((_, field)) => {
                    if self.read_field(*field, key, value).is_none() {
                        self.remark(format!("`{key}` has an unknown form and was not imported"));
                    }
                }
                None => self.remark(format!("`{key}` is unknown and was not imported")),
            }
        }
        self.draft
    }

    fn remark(&mut self, remark: String) {
        self.draft.remarks.push(remark);
    }

    /// Reads one key. Returns `None` if its value has the wrong type.
    fn read_field(&mut self, field: Field, key: &str, value: &Value) -> Option<()> {
        match field {
            Field::Command => self.read_command(value)?,
            Field::Args => self.draft.entry.args = self.texts(value)?,
            Field::Cwd => self.draft.entry.cwd = Some(self.text(value)?),
            Field::Env => {
                for (name, value) in value.as_object()?.iter().filter(|(_, value)| !value.is_null()) {
                    let value = self.text(value)?;
                    self.draft.entry.env.insert(name.clone(), value);
                }
            }
            Field::EnvNames => value.as_array()?.iter().try_for_each(|name| self.read_inherited(name))?,
            Field::KeyringNames => {
                for name in value.as_array()? {
                    let name = name.as_str()?.to_owned();
                    self.remark(format!("the value of `{name}` is in the keyring of the host and was not copied"));
                    self.draft.variables.push(name.clone());
                    self.draft.entry.env_vars.push(name);
                }
            }
            Field::EnvFile => self.remark(format!("`{key}` was not read: set the variables of that file")),
            Field::Url => self.draft.entry.url = Some(self.text(value)?),
            Field::SseUrl => self.draft.sse_url = Some(self.text(value)?),
            Field::Kind => self.draft.kind = Some(value.as_str()?.to_ascii_lowercase()),
            Field::Headers => {
                for (name, value) in value.as_object()? {
                    let value = self.text(value)?;
                    self.draft.entry.http_headers.insert(name.clone(), value);
                }
            }
            Field::EnvHeaders => {
                for (name, variable) in value.as_object()? {
                    let variable = Some(variable.as_str()?).filter(|name| is_variable_name(name))?;
                    self.draft.entry.env_http_headers.insert(name.clone(), variable.to_owned());
                }
            }
            Field::BearerVariable => {
                let variable = Some(value.as_str()?).filter(|name| is_variable_name(name))?;
                self.draft.entry.bearer_token_env_var = Some(variable.to_owned());
            }
            Field::BearerToken => {
                let token = self.text(value)?;
                self.draft.entry.http_headers.insert("Authorization".to_owned(), format!("Bearer {token}"));
            }
            Field::Disabled => self.draft.entry.enabled = value.as_bool()?.then_some(false),
            Field::Enabled => self.draft.entry.enabled = (!value.as_bool()?).then_some(false),
            Field::ToolTimeout(unit) => self.draft.entry.tool_timeout = Some(duration(value, unit)?),
            Field::StartupTimeout(unit) => self.draft.entry.startup_timeout = Some(duration(value, unit)?),
            Field::EnabledTools => {
                let tools = self.texts(value)?;
                let is_all = tools.is_empty() || tools.iter().any(|tool| tool == "*");
                self.draft.entry.enabled_tools = (!is_all).then_some(tools);
            }
            Field::DisabledTools => self.draft.entry.disabled_tools = self.texts(value)?,
            Field::Required => self.draft.entry.required = value.as_bool()?.then_some(true),
            Field::Parallel => {
                if !value.as_bool()? {
                    self.draft.entry.max_concurrency = Some(1);
                    self.remark("its calls run one at a time, as they do at the host".to_owned());
                }
            }
            Field::OAuth => self.read_oauth(value)?,
            Field::Scopes => self.oauth().scopes = scopes(value)?,
            Field::Resource => {
                let resource = self.text(value)?;
                self.oauth().resource = Some(resource);
            }
            Field::Permission => {
                if !is_empty(value) {
                    self.remark(format!("`{key}` was not imported: plans decide about approvals"));
                }
            }
            Field::Restriction => self.remark(format!("`{key}` was not imported: kapell has no counterpart")),
            Field::Ignored => {}
        }
        Some(())
    }

    fn read_command(&mut self, value: &Value) -> Option<()> {
        match value {
            Value::Array(_) => {
                let mut words = self.texts(value)?.into_iter();
                self.draft.entry.command = words.next();
                self.draft.entry.args = words.collect();
            }
            Value::Object(map) => {
                for (key, field) in [("path", Field::Command), ("args", Field::Args), ("env", Field::Env)] {
                    if let Some(value) = map.get(key).filter(|value| !value.is_null()) {
                        self.read_field(field, key, value)?;
                    }
                }
            }
            _ => self.draft.entry.command = Some(self.text(value)?),
        }
        Some(())
    }

    /// Reads the name of an inherited variable, or a map with its source.
    fn read_inherited(&mut self, value: &Value) -> Option<()> {
        let name = value.as_str().or_else(|| value.get("name")?.as_str())?.to_owned();
        match value.get("source").and_then(Value::as_str) {
            Some("remote") => {
                self.remark(format!("the variable `{name}` was not imported: it is one of a remote machine"));
            }
            _ => self.draft.entry.env_vars.push(name),
        }
        Some(())
    }

    fn oauth(&mut self) -> &mut OAuthEntry {
        self.draft.entry.oauth.get_or_insert_default()
    }

    fn read_oauth(&mut self, value: &Value) -> Option<()> {
        if value.is_boolean() {
            return Some(());
        }
        let map = value.as_object()?;
        let find = |names: &[&str]| names.iter().find_map(|name| map.get(*name)).filter(|value| !is_empty(value));
        if let Some(id) = find(&["clientId", "client_id", "CLIENT_ID"]) {
            let id = self.text(id)?;
            self.oauth().client_id = Some(id);
        }
        if let Some(secret) = find(&["clientSecret", "client_secret", "CLIENT_SECRET"]) {
            let secret = self.text(secret)?;
            self.oauth().client_secret_env_var = Some(secret);
        }
        if let Some(value) = find(&["scopes", "scope"]) {
            self.oauth().scopes = scopes(value)?;
        }
        Some(())
    }

    /// Returns a text, number, or boolean as a text with converted references.
    fn text(&mut self, value: &Value) -> Option<String> {
        match value {
            Value::String(text) => Some(self.references.convert(text)),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }

    fn texts(&mut self, value: &Value) -> Option<Vec<String>> {
        value.as_array()?.iter().map(|value| self.text(value)).collect()
    }
}

/// Returns scopes from a list, or from a text with blanks between them.
fn scopes(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        _ => value.as_array()?.iter().map(|scope| scope.as_str().map(str::to_owned)).collect(),
    }
}

/// Returns a positive duration.
fn duration(value: &Value, unit: Unit) -> Option<HumanDuration> {
    let seconds = match unit {
        Unit::Seconds => value.as_f64()?,
        Unit::Milliseconds => value.as_f64()? / 1_000.0,
    };
    let milliseconds = Duration::try_from_secs_f64(seconds).ok()?.as_millis();
    let duration = Duration::from_millis(u64::try_from(milliseconds).ok()?);
    (!duration.is_zero()).then_some(HumanDuration(duration))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
