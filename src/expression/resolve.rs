//! Resolves a path to its value, or reports the missing part. Copies only the resulting value.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;

use super::error::{ExpressionError, ExpressionErrorKind};
use super::names::{did_you_mean, format_names, list_names};
use super::scan::{ExpressionPath, PathSegment, PathStep};
use super::scope::{
    EvalContext, ForeachItems, ITEMS_FIELD, RESOURCE_NAME, RUN_OBJECTS, TASK_FIELDS, TIME_FUNCTION, TaskView,
};
use crate::model::{ContentBlock, TaskId, ToolOutput};

/// Resolves `path` in the expression `text`.
pub(super) fn resolve<'v>(
    path: &ExpressionPath<'_>,
    text: &str,
    context: &EvalContext<'v>,
) -> Result<ResolvedValue<'v>, ExpressionError> {
    let resolver = PathResolver { path, text };
    let scope = match context {
        EvalContext::Run(scope) => scope,
        EvalContext::Document(document) => {
            return resolver.resolve_segments(ResolvedValue::Borrowed(resolver.root_value(document)?), 0);
        }
    };
    if let Some(resource) = &path.resource {
        let id = TaskId::resource_read(resource.agent, resource.uri);
        let Some(view) = scope.task(id.as_str()) else {
            let message = format!("the resource of agent `{}` was not read", resource.agent);
            return Err(ExpressionError::new(ExpressionErrorKind::UnknownTask, message, path.range.clone()));
        };
        return resolver.resolve_segments(resolver.resource_contents(view)?, 0);
    }
    match path.root {
        "inputs" => resolver.resolve_segments(ResolvedValue::Borrowed(scope.inputs), 0),
        "tasks" => {
            let id = path.segments[0].text();
            let Some(view) = scope.task(&id) else {
                let message = format!("task `{id}` has not ended, or is not in the plan");
                return Err(ExpressionError::new(ExpressionErrorKind::UnknownTask, message, resolver.prefix_range(1)));
            };
            resolver.resolve_segments(ResolvedValue::Task(view), 1)
        }
        TIME_FUNCTION => resolver.resolve_segments(ResolvedValue::Text(scope.run.time.to_rfc3339().into()), 0),
        root => match scope.binding(root) {
            Some(Cow::Borrowed(value)) => resolver.resolve_segments(ResolvedValue::Borrowed(value), 0),
            Some(Cow::Owned(value)) => resolver.resolve_segments(ResolvedValue::Owned(value), 0),
            None => match scope.run.object(root) {
                Some(object) => resolver.run_object(object),
                None => {
                    let bound = scope.bindings.iter().map(|binding| binding.name);
                    let error = unknown_name(root, bound, resolver.prefix_range(0));
                    Err(error.with_help_if_known(hyphenated_key_help(text, path.range.start)))
                }
            },
        },
    }
}

/// Returns the spelling of the key at byte `at` of `text`, if it contains a hyphen that is parsed as a minus sign.
pub(crate) fn hyphenated_key_help(text: &str, at: usize) -> Option<String> {
    let is_name_byte = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let (before, after) = text.as_bytes().split_at_checked(at)?;
    let start = at - before.iter().rev().take_while(is_name_byte).count();
    let key = text.get(start..at + after.iter().take_while(is_name_byte).count())?;
    let is_key = text[..start].ends_with('.') && key.contains('-') && !key.starts_with('-') && !key.ends_with('-');
    is_key.then(|| format!("`-` is a minus sign here; a key with a hyphen is written `['{key}']`"))
}

/// Returns the error for an unknown name.
pub(super) fn unknown_name<'n>(
    name: &str,
    bound: impl Iterator<Item = &'n str> + Clone,
    range: std::ops::Range<usize>,
) -> ExpressionError {
    let known = bound.chain(["inputs", "tasks"]).chain(RUN_OBJECTS);
    let error = ExpressionError::new(ExpressionErrorKind::UnknownName, format!("unknown name `{name}`"), range);
    error.with_help(
        did_you_mean(name, known.clone())
            .unwrap_or_else(|| format!("known names: {}; text must be quoted", format_names(known))),
    )
}

/// The value of a path or of its beginning.
pub(super) enum ResolvedValue<'v> {
    Borrowed(&'v Value),
    Owned(Value),
    Text(Cow<'v, str>),
    Task(TaskView<'v>),
    /// The outputs of a `foreach` task.
    Outputs(Vec<&'v ToolOutput>),
    /// The items of a `foreach` task.
    Items(ForeachItems<'v>),
    /// Content blocks.
    Blocks(Vec<&'v ContentBlock>),
}

impl ResolvedValue<'_> {
    pub(super) fn into_value(self) -> Value {
        match self {
            Self::Borrowed(value) => value.clone(),
            Self::Owned(value) => value,
            Self::Text(text) => Value::String(text.into_owned()),
            Self::Task(view) => task_summary(&view),
            Self::Outputs(outputs) => outputs.into_iter().map(|output| output.value().into_owned()).collect(),
            Self::Items(items) => items.iter().map(|item| task_summary(&item)).collect(),
            Self::Blocks(blocks) => blocks.into_iter().map(|block| block.to_json().into_owned()).collect(),
        }
    }

    /// Appends the value to a text: a text unchanged, anything else as JSON.
    pub(super) fn write_to(self, text: &mut String) {
        match self {
            Self::Borrowed(Value::String(part)) => text.push_str(part),
            Self::Text(part) => text.push_str(&part),
            Self::Borrowed(value) => write!(text, "{value}").expect("writing to a `String` never fails"),
            other => match other.into_value() {
                Value::String(part) => text.push_str(&part),
                value => write!(text, "{value}").expect("writing to a `String` never fails"),
            },
        }
    }
}

/// Returns a task or item as an object.
fn task_summary(view: &TaskView<'_>) -> Value {
    serde_json::json!({
        "status": view.status,
        "output": view.output.map(|output| output.value().into_owned()),
        "text": view.output.map(ToolOutput::text),
        "error": view.error,
        "agent": view.agent,
    })
}

struct PathResolver<'p, 'e> {
    path: &'p ExpressionPath<'e>,
    text: &'p str,
}

impl PathResolver<'_, '_> {
    /// Returns the value of the path's root in a document.
    fn root_value<'v>(&self, document: &'v Value) -> Result<&'v Value, ExpressionError> {
        let name = self.path.root;
        if name == RESOURCE_NAME {
            return Ok(document);
        }
        let fields = document.as_object();
        match fields.and_then(|fields| fields.get(name)) {
            Some(value) => Ok(value),
            // A document may be incomplete: a missing key is null, unless the path continues or is optional.
            None if self.path.segments.is_empty() && !self.path.is_optional => Ok(&Value::Null),
            None => {
                let known =
                    fields.into_iter().flat_map(|fields| fields.keys().map(String::as_str)).chain([RESOURCE_NAME]);
                let message = format!("the resource has no key `{name}`");
                let error = ExpressionError::new(ExpressionErrorKind::UnknownKey, message, self.prefix_range(0));
                Err(error.with_help(format!("known names: {}", format_names(known))))
            }
        }
    }

    /// Returns the contents that a task read for `resource()`.
    fn resource_contents<'v>(&self, view: TaskView<'v>) -> Result<ResolvedValue<'v>, ExpressionError> {
        match view.output {
            Some(output) => Ok(output_value(output)),
            None => {
                let message = format!("the resource has no contents: reading it {}", outcome_text(&view));
                let error = ExpressionError::new(ExpressionErrorKind::NoOutput, message, self.path.range.clone());
                Err(error.with_help("`| default(…)` sets a default value"))
            }
        }
    }

    /// Resolves a path that begins with `run`, `plan`, or `env`.
    fn run_object<'v>(&self, object: Value) -> Result<ResolvedValue<'v>, ExpressionError> {
        let variable = self.path.segments.first().filter(|_| self.path.root == "env").map(PathSegment::text);
        if let Some(name) = variable.filter(|name| object.get(&**name).is_none()) {
            let message = format!("the environment variable `{name}` is not set");
            let error = ExpressionError::new(ExpressionErrorKind::UnknownKey, message, self.prefix_range(1));
            return Err(error.with_help("set it before the run starts, or write `| default(…)`"));
        }
        self.resolve_segments(ResolvedValue::Owned(object), 0)
    }

    fn resolve_segments<'v>(
        &self,
        start: ResolvedValue<'v>,
        from: usize,
    ) -> Result<ResolvedValue<'v>, ExpressionError> {
        let mut value = start;
        for (index, segment) in self.path.segments.iter().enumerate().skip(from) {
            value = self.resolve_segment(value, segment, index)?;
        }
        Ok(value)
    }

    fn resolve_segment<'v>(
        &self,
        value: ResolvedValue<'v>,
        segment: &PathSegment<'_>,
        index: usize,
    ) -> Result<ResolvedValue<'v>, ExpressionError> {
        match value {
            ResolvedValue::Borrowed(value) => self.json_member(value, segment, index).map(ResolvedValue::Borrowed),
            // Owned values are created only at leaves, from texts and booleans, and have no members.
            ResolvedValue::Owned(value) => {
                self.json_member(&value, segment, index).map(|inside| ResolvedValue::Owned(inside.clone()))
            }
            ResolvedValue::Text(text) => self.resolve_segment(ResolvedValue::Owned(text.into()), segment, index),
            ResolvedValue::Task(view) => self.task_field(view, segment, index),
            ResolvedValue::Outputs(outputs) => {
                self.list_element(&outputs, segment, index).map(|output| output_value(output))
            }
            ResolvedValue::Items(items) => {
                let count = items.indices.len();
                let at = self.element_index(count, segment, index)?;
                items.get(at).map(ResolvedValue::Task).ok_or_else(|| self.index_out_of_range(count, at as i64, index))
            }
            ResolvedValue::Blocks(blocks) => {
                self.list_element(&blocks, segment, index).map(|block| match block.to_json() {
                    Cow::Borrowed(json) => ResolvedValue::Borrowed(json),
                    Cow::Owned(json) => ResolvedValue::Owned(json),
                })
            }
        }
    }

    /// Returns a member of a JSON value.
    fn json_member<'v>(
        &self,
        value: &'v Value,
        segment: &PathSegment<'_>,
        index: usize,
    ) -> Result<&'v Value, ExpressionError> {
        match value {
            Value::Object(fields) => {
                let key = segment.text();
                fields.get(&*key).ok_or_else(|| {
                    if self.path.root == "inputs" && index == 0 {
                        return self.unknown_input(&key, fields);
                    }
                    let has = list_names(fields.keys().map(String::as_str), ("it has", "it is empty"));
                    let error = self.unknown_key(index, &format!("has no key `{key}`; {has}"));
                    if let Some(help) = hyphenated_key_help(self.text, segment.end) {
                        return error.with_help(help);
                    }
                    with_suggestion(error, &key, fields.keys().map(String::as_str))
                })
            }
            Value::Array(items) => self.list_element(items, segment, index),
            _ => {
                let key = segment.text();
                let kind = json_type_name(value);
                let error = self.unknown_key(index, &format!("is {kind} and has no key `{key}`"));
                Err(if value.is_string() && index > 1 && self.path.root == "tasks" {
                    error.with_help("the tool returned text; `| fromjson` parses JSON")
                } else {
                    error
                })
            }
        }
    }

    /// Returns an element of a list.
    fn list_element<'l, T>(
        &self,
        list: &'l [T],
        segment: &PathSegment<'_>,
        index: usize,
    ) -> Result<&'l T, ExpressionError> {
        self.element_index(list.len(), segment, index).map(|at| &list[at])
    }

    /// Returns the index that a segment selects among `count` elements.
    fn element_index(&self, count: usize, segment: &PathSegment<'_>, index: usize) -> Result<usize, ExpressionError> {
        let position = match segment.step {
            PathStep::Index(position) => Some(position),
            PathStep::Name(name) => name.parse().ok(),
        };
        let Some(position) = position else {
            let key = segment.text();
            let error = self.unknown_key(index, &format!("is a list and has no key `{key}`"));
            return Err(error.with_help("`[0]` is the first element; use `foreach` to process all of them"));
        };
        let from_start = if position < 0 { position + count as i64 } else { position };
        let at = usize::try_from(from_start).ok().filter(|at| *at < count);
        at.ok_or_else(|| self.index_out_of_range(count, position, index))
    }

    fn index_out_of_range(&self, count: usize, position: i64, index: usize) -> ExpressionError {
        let elements = if count == 1 { "element" } else { "elements" };
        let problem = format!("has {count} {elements}, so `[{position}]` is out of range");
        self.error_at(index, ExpressionErrorKind::IndexOutOfRange, &problem)
    }

    /// Returns a field of a task or of an item.
    fn task_field<'v>(
        &self,
        view: TaskView<'v>,
        segment: &PathSegment<'_>,
        index: usize,
    ) -> Result<ResolvedValue<'v>, ExpressionError> {
        let name = segment.text();
        let output = || {
            view.output.ok_or_else(|| {
                let reason =
                    if view.status == "succeeded" { "returned nothing".to_owned() } else { outcome_text(&view) };
                let problem = format!("has no `{name}`: it {reason}");
                let error = self.error_at(index, ExpressionErrorKind::NoOutput, &problem);
                error.with_help("`| default(…)` sets a default value")
            })
        };
        let text = |text: Option<&'v str>| {
            text.map_or(ResolvedValue::Owned(Value::Null), |text| ResolvedValue::Text(text.into()))
        };
        Ok(match (&*name, &view.items) {
            ("status", _) => text(Some(view.status)),
            ("agent", _) => text(view.agent),
            ("error", _) => text(view.error),
            ("succeeded" | "failed" | "skipped", None) => ResolvedValue::Owned((view.status == name).into()),
            ("succeeded" | "failed" | "skipped", Some(items)) => {
                ResolvedValue::Owned(items.iter().filter(|item| item.status == name).count().into())
            }
            ("output" | "outputs", Some(items)) => ResolvedValue::Outputs(
                items.iter().filter(|item| item.status == "succeeded").filter_map(|item| item.output).collect(),
            ),
            (ITEMS_FIELD, Some(items)) => ResolvedValue::Items(items.clone()),
            ("text" | "content" | "resources" | "saved", Some(_)) => {
                let error = self.unknown_key(index, &format!("is a `foreach` task and has no `{name}` itself"));
                return Err(
                    error.with_help(format!("use `items[0].{name}` for one item, or `outputs` for all outputs"))
                );
            }
            ("output", None) => output_value(output()?),
            ("text", None) => ResolvedValue::Text(output()?.text()),
            ("content", None) => ResolvedValue::Blocks(output()?.content.iter().collect()),
            ("resources", None) => ResolvedValue::Blocks(output()?.resources().collect()),
            ("saved", None) => text(output()?.saved.as_ref().map(|saved| saved.path.as_str())),
            ("outputs" | ITEMS_FIELD, None) => {
                let error = self.unknown_key(index, &format!("is not a `foreach` task and has no `{name}`"));
                return Err(error.with_help("use `output`"));
            }
            _ => {
                let fields = TASK_FIELDS.into_iter().filter(|field| *field != "outputs");
                let error =
                    self.unknown_key(index, &format!("has no `{name}`; it has {}", format_names(fields.clone())));
                return Err(with_suggestion(error, &name, fields));
            }
        })
    }

    fn unknown_input(&self, name: &str, fields: &serde_json::Map<String, Value>) -> ExpressionError {
        let has = list_names(fields.keys().map(String::as_str), ("the plan has", "the plan has no inputs"));
        let message = format!("unknown input `{name}`; {has}");
        let error = ExpressionError::new(ExpressionErrorKind::UnknownInput, message, self.prefix_range(1));
        match name.split_once('-') {
            Some((first, _)) if fields.contains_key(first) => {
                error.with_help("names of inputs can contain hyphens; put spaces around a minus sign")
            }
            _ => with_suggestion(error, name, fields.keys().map(String::as_str)),
        }
    }

    /// Returns an error about the part of the path before segment `index`.
    fn error_at(&self, index: usize, kind: ExpressionErrorKind, problem: &str) -> ExpressionError {
        let before = &self.text[self.prefix_range(index)];
        ExpressionError::new(kind, format!("`{before}` {problem}"), self.prefix_range(index + 1))
    }

    fn unknown_key(&self, index: usize, problem: &str) -> ExpressionError {
        self.error_at(index, ExpressionErrorKind::UnknownKey, problem)
    }

    /// Returns the range of the path up to and excluding segment `count`.
    fn prefix_range(&self, count: usize) -> std::ops::Range<usize> {
        let start = self.path.range.start;
        let end = count.checked_sub(1).map_or(start + self.path.root.len(), |last| self.path.segments[last].end);
        start..end
    }
}

fn output_value(output: &ToolOutput) -> ResolvedValue<'_> {
    match &output.structured {
        Some(value) => ResolvedValue::Borrowed(value),
        None => ResolvedValue::Text(output.text()),
    }
}

fn outcome_text(view: &TaskView<'_>) -> String {
    match view.status {
        "skipped" | "cancelled" => format!("was {}", view.status),
        status => status.to_owned(),
    }
}

fn with_suggestion<'n>(
    error: ExpressionError,
    name: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> ExpressionError {
    error.with_help_if_known(did_you_mean(name, names))
}

/// Returns the JSON type of a value, with its article.
pub(crate) fn json_type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
