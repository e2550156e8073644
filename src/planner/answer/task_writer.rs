//! Converts the tasks of a reply to tasks of a plan file. Does not validate: a value that is missing or has the wrong
//! type is written unchanged, so the validator can report it.

use serde_json::{Value, json};

use super::reference_scope::{ReferenceScope, ReferringTask, Resolution, ResolvedReference};
use super::reply_form::{THINK, THINK_KEYS};
use super::result_shape::ResultShape;
use super::task_reference::{ReferenceStart, Step, TaskReference};
use crate::json_schema::alternatives;
use crate::model::JsonObject;
use crate::planner::selection::tool_selection::ToolOffer;

/// The schema of the answer of a task that thinks of a list.
static LIST_KEY: &str = "items";

/// Returns the schema of the answer of a task that thinks of a list.
pub(super) fn list_schema() -> JsonObject {
    let list = json!({"type": "array", "items": {"type": "string"}});
    let schema = json!({
        "type": "object", "properties": {LIST_KEY: list}, "required": [LIST_KEY], "additionalProperties": false,
    });
    schema.as_object().cloned().unwrap_or_default()
}

/// Returns whether a task asks the language model itself.
pub(super) fn is_think(task: &Value) -> bool {
    task.get("tool").and_then(Value::as_str) == Some(THINK)
}

/// Returns whether a task thinks of a list.
pub(super) fn is_list(task: &Value) -> bool {
    is_think(task) && arguments_of(task).get("list") == Some(&Value::Bool(true))
}

/// Returns the arguments of a task: an object, or one as JSON text.
pub(super) fn arguments_of(task: &Value) -> Value {
    match task.get("args") {
        Some(Value::String(json)) => serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.clone())),
        Some(arguments) if !arguments.is_null() => arguments.clone(),
        _ => json!({}),
    }
}

/// A schema that values of a reply are converted by, and the root of its references.
#[derive(Clone, Copy)]
struct ValueSchema<'s> {
    root: &'s JsonObject,
    schema: &'s Value,
}

impl<'s> ValueSchema<'s> {
    /// Returns the variants of the schema.
    fn variants(self) -> Vec<&'s JsonObject> {
        self.schema.as_object().map(|schema| alternatives(self.root, schema).schemas).unwrap_or_default()
    }

    fn property(self, name: &str) -> Option<Self> {
        let schema = self.variants().into_iter().find_map(|variant| variant.get("properties")?.get(name))?;
        Some(Self { schema, ..self })
    }

    fn items(self) -> Option<Self> {
        let schema = self.variants().into_iter().find_map(|variant| variant.get("items"))?;
        Some(Self { schema, ..self })
    }

    /// Returns whether a value may have only these types.
    fn is_only(self, types: &[&str]) -> bool {
        let Some(schema) = self.schema.as_object() else { return false };
        ResultShape::Schemas { root: self.root, schemas: vec![schema] }.is_always(types)
    }
}

/// A writer of one task.
pub(super) struct TaskWriter<'w, 's> {
    pub(super) scope: &'w ReferenceScope<'s>,
    pub(super) task: ReferringTask<'s>,
    /// The tasks whose results are used.
    used: Vec<String>,
    /// The problems of its references.
    pub(super) problems: Vec<String>,
}

impl<'w, 's> TaskWriter<'w, 's> {
    pub(super) fn new(scope: &'w ReferenceScope<'s>, task: ReferringTask<'s>) -> Self {
        Self { scope, task, used: Vec::new(), problems: Vec::new() }
    }

    /// Converts the task. `offer` is the tool that it calls, if that exists.
    pub(super) fn write(&mut self, task: &Value, offer: Option<&ToolOffer<'_>>) -> Value {
        let Value::Object(fields) = task else { return task.clone() };
        let mut written = JsonObject::new();
        if let Some(task) = self.scope.tasks.get(self.task.index) {
            written.insert("id".to_owned(), task.id.as_str().into());
        }
        if let Some(title) = fields.get("title").filter(|title| !title.is_null()) {
            written.insert("title".to_owned(), title.clone());
        }
        let condition = fields.get("if").filter(|condition| !is_blank(condition)).map(|value| self.condition(value));
        let items = fields.get("each").filter(|items| !is_blank(items)).map(|items| self.items(items));
        let mut work = JsonObject::new();
        if is_think(task) {
            self.write_prompt(&arguments_of(task), &mut work);
        } else {
            write_route(fields.get("tool"), &mut work);
            if let Some(arguments) = self.arguments(arguments_of(task), offer) {
                work.insert("with".to_owned(), arguments);
            }
        }
        if let Some(needs) = fields.get("after").and_then(|after| self.needs(after)) {
            written.insert("needs".to_owned(), needs);
        }
        written.extend(condition.map(|condition| ("if".to_owned(), condition)));
        written.extend(items.map(|items| ("foreach".to_owned(), items)));
        written.extend(work);
        Value::Object(written)
    }

    /// Returns the tasks that must end first, without those whose results are used.
    fn needs(&self, after: &Value) -> Option<Value> {
        let named = match after {
            Value::Array(named) => named.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let ids = named.into_iter().map(|name| {
            let text = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            self.scope.task_id(&text).map_or(name, |id| id.into())
        });
        let mut needs: Vec<Value> = Vec::new();
        for id in ids.filter(|id| !self.used.iter().any(|used| id == used)) {
            if !needs.contains(&id) {
                needs.push(id);
            }
        }
        (!needs.is_empty()).then(|| needs.into())
    }

    /// Writes a task that asks the language model itself.
    fn write_prompt(&mut self, arguments: &Value, written: &mut JsonObject) {
        let prompt = arguments.get("prompt").cloned().unwrap_or_default();
        if prompt.as_str().is_none_or(|prompt| prompt.trim().is_empty()) {
            self.problems.push(format!("`{THINK}` requires `args` with a text as `prompt`"));
        }
        let prompt = self.convert(&prompt, None);
        written.insert("prompt".to_owned(), prompt);
        if let Some(tools) = arguments.get("tools").filter(|tools| !is_blank(tools)) {
            written.insert("tools".to_owned(), tools.clone());
        }
        match arguments.get("list") {
            Some(Value::Bool(true)) => {
                written.insert("output_schema".to_owned(), list_schema().into());
            }
            None | Some(Value::Null | Value::Bool(false)) => {}
            Some(other) => self.problems.push(format!("`list` of `{THINK}` is `true` or `false`, not {other}")),
        }
        for (key, value) in arguments.as_object().into_iter().flatten() {
            if !THINK_KEYS.contains(&key.as_str()) && !value.is_null() {
                self.problems.push(format!("`{THINK}` has no argument `{key}`"));
            }
        }
    }

    /// Returns the arguments with expressions for their references, or `None` if there are no arguments.
    fn arguments(&mut self, arguments: Value, offer: Option<&ToolOffer<'_>>) -> Option<Value> {
        let Value::Object(mut arguments) = arguments else { return Some(arguments) };
        arguments.retain(|_, value| !value.is_null());
        let root = offer.map(|offer| &offer.tool.input_schema);
        let properties = root.and_then(|root| root.get("properties"));
        for (name, value) in &mut arguments {
            let schema = root.zip(properties.and_then(|known| known.get(name)));
            let schema = schema.map(|(root, schema)| ValueSchema { root, schema });
            if let Some(ValueSchema { root, schema }) = schema {
                prune_nulls(value, root, schema);
            }
            *value = self.convert(value, schema);
        }
        (!arguments.is_empty()).then_some(Value::Object(arguments))
    }

    /// Converts a value: references become expressions, and a number in quotation marks becomes one where only numbers
    /// fit, because the schema of the reply allows text for references.
    fn convert(&mut self, value: &Value, schema: Option<ValueSchema<'_>>) -> Value {
        match value {
            Value::String(text) => self.convert_text(text, schema),
            Value::Array(items) => {
                let schema = schema.and_then(ValueSchema::items);
                items.iter().map(|item| self.convert(item, schema)).collect()
            }
            Value::Object(fields) => {
                let converted = fields.iter().map(|(name, value)| {
                    let schema = schema.and_then(|schema| schema.property(name));
                    (name.clone(), self.convert(value, schema))
                });
                Value::Object(converted.collect())
            }
            other => other.clone(),
        }
    }

    fn convert_text(&mut self, text: &str, schema: Option<ValueSchema<'_>>) -> Value {
        if let Some(reference) = whole_reference(text) {
            match self.resolve(&reference, text.trim()) {
                Some(found) => {
                    let needs_text = schema.is_some_and(|schema| schema.is_only(&["string", "null"]));
                    return format!("${{{{ {} }}}}", if needs_text { as_text(&found) } else { found.expression })
                        .into();
                }
                None => return literal(text).into(),
            }
        }
        let fits = |kind: &[&str]| schema.is_some_and(|schema| schema.is_only(kind));
        if fits(&["number", "integer", "boolean", "null"])
            && let Ok(value @ (Value::Number(_) | Value::Bool(_))) = serde_json::from_str(text.trim())
        {
            return value;
        }
        self.embedded_text(text).into()
    }

    /// Returns a text with expressions for the references in it: `{$1.a}`, and `$1.a` if it has a path.
    fn embedded_text(&mut self, text: &str) -> String {
        let mut written = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let before = &rest[..at];
            let here = &rest[at..];
            if let Some(escaped) = here.strip_prefix("$$").filter(|_| TaskReference::parse_prefix(&here[1..]).is_some())
            {
                written.push_str(&literal(before));
                written.push('$');
                rest = escaped;
                continue;
            }
            let found = TaskReference::parse_prefix(here).and_then(|(reference, length)| {
                let is_braced = before.ends_with('{') && here[length..].starts_with('}');
                let is_meant =
                    is_braced || !reference.path.is_empty() || reference.start == ReferenceStart::Name("item");
                let found = is_meant.then(|| self.resolve_quietly(&reference, is_braced, &here[..length]))??;
                Some((found, length, usize::from(is_braced)))
            });
            match found {
                Some((found, length, brace)) => {
                    written.push_str(&literal(&before[..before.len() - brace]));
                    let expression = found.text_expression.unwrap_or(found.expression);
                    written.push_str(&format!("${{{{ {expression} }}}}"));
                    rest = &here[length + brace..];
                }
                None => {
                    // A literal `${{` is recognized as a whole.
                    let next = here.char_indices().nth(1).map_or(here.len(), |(at, _)| at);
                    let end = if here.starts_with("${{") { 3 } else { next };
                    written.push_str(&literal(before));
                    written.push_str(&literal(&here[..end]));
                    rest = &here[end..];
                }
            }
        }
        written + &literal(rest)
    }

    /// Resolves a reference in a text. Without braces, text that merely looks like one is not an error.
    fn resolve_quietly(
        &mut self,
        reference: &TaskReference<'_>,
        is_braced: bool,
        shown: &str,
    ) -> Option<ResolvedReference<'s>> {
        let problems = self.problems.len();
        let found = self.resolve(reference, shown);
        let is_known = match reference.start {
            ReferenceStart::Number(number) => self.scope.task_id(&number.to_string()).is_some(),
            ReferenceStart::Name(_) => true,
        };
        if !is_braced && !is_known {
            self.problems.truncate(problems);
        }
        found
    }

    /// Resolves a reference, and records the task or the problem. Returns `None` for a literal.
    fn resolve(&mut self, reference: &TaskReference<'_>, shown: &str) -> Option<ResolvedReference<'s>> {
        match self.scope.resolve(reference, &self.task) {
            Ok(Resolution::Literal) => None,
            Ok(Resolution::Value(found)) => {
                self.used.extend(found.task.clone());
                Some(found)
            }
            Err(reason) => {
                self.problems.push(format!(
                    "`{shown}` cannot be resolved: {reason} (a literal `{shown}` is written `{}`)",
                    shown.replacen('$', "$$", 1)
                ));
                None
            }
        }
    }

    /// Returns the list that the task runs for.
    fn items(&mut self, items: &Value) -> Value {
        let Some(reference) = items.as_str().and_then(whole_reference) else {
            if items.is_array() {
                return self.convert(items, None);
            }
            self.problems.push(format!("`each` is a list, or a reference to one such as \"$1.items\", not {items}"));
            return items.clone();
        };
        let shown = items.as_str().unwrap_or_default();
        let Some(found) = self.resolve(&reference, shown) else { return items.clone() };
        if found.shape.is_never_list() {
            self.problems.push(format!("`each` is `{shown}`, which is not a list"));
        }
        format!("${{{{ {} }}}}", found.expression).into()
    }

    /// Returns the condition, with expressions for its references.
    fn condition(&mut self, condition: &Value) -> Value {
        let Some(text) = condition.as_str() else { return condition.clone() };
        let text = text.trim();
        let text = text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}")).unwrap_or(text).trim();
        // A model must not read what only a person passes on.
        if mentions_environment(text) {
            self.problems.push("`if` refers to results, and not to the environment (`env`)".to_owned());
        }
        let mut written = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            let (before, here) = rest.split_at(at);
            let parsed = TaskReference::parse_prefix(here);
            let is_braced =
                parsed.as_ref().is_some_and(|(_, length)| before.ends_with('{') && here[*length..].starts_with('}'));
            let found =
                parsed.and_then(|(reference, length)| Some((self.resolve(&reference, &here[..length])?, length)));
            match found {
                Some((found, length)) => {
                    let brace = usize::from(is_braced);
                    written.push_str(&before[..before.len() - brace]);
                    let expression = found.expression;
                    written.push_str(&if expression.contains(" | ") { format!("({expression})") } else { expression });
                    rest = &here[length + brace..];
                }
                None => {
                    written.push_str(before);
                    written.push('$');
                    rest = &here[1..];
                }
            }
        }
        (written + rest).into()
    }
}

/// Returns whether an expression contains `env` as a word.
fn mentions_environment(expression: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    expression.split(|c| !is_word(c)).any(|word| word == "env")
}

/// Returns the shape of the elements of the list that a task runs for, or `None` if it runs once.
pub(super) fn item_shape<'s>(task: &Value, index: usize, scope: &ReferenceScope<'s>) -> Option<ResultShape<'s>> {
    let items = task.get("each").filter(|items| !is_blank(items))?;
    let by = ReferringTask { index, item: None };
    let reference = items.as_str().and_then(whole_reference);
    let found = reference.and_then(|reference| match scope.resolve(&reference, &by) {
        Ok(Resolution::Value(found)) => found.shape.part(&[Step::Index(0)]).ok(),
        _ => None,
    });
    Some(found.unwrap_or(ResultShape::Unknown))
}

/// Returns whether a value says nothing.
pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Parses a text that consists of one reference, with or without braces.
fn whole_reference(text: &str) -> Option<TaskReference<'_>> {
    let text = text.trim();
    let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    TaskReference::parse(inside)
}

/// Returns the expression for a value where only text fits.
fn as_text(found: &ResolvedReference<'_>) -> String {
    match &found.text_expression {
        Some(text) => text.clone(),
        None if found.shape.is_always(&["object", "array"]) => format!("{} | tojson", found.expression),
        None => found.expression.clone(),
    }
}

/// Returns a text that no expression is found in.
fn literal(text: &str) -> String {
    text.replace("${{", "$${{")
}

/// Writes the `agent` and `tool` keys of a call.
fn write_route(tool: Option<&Value>, written: &mut JsonObject) {
    match tool {
        Some(Value::String(name)) => {
            let (agent, tool) = name.split_once('.').map_or((None, name.as_str()), |(agent, tool)| (Some(agent), tool));
            written.extend(agent.map(|agent| ("agent".to_owned(), agent.into())));
            written.insert("tool".to_owned(), tool.into());
        }
        Some(other) => {
            written.insert("tool".to_owned(), other.clone());
        }
        None => {}
    }
}

/// Removes nulls that the model wrote only because strict schemas do not have optional properties. The depth is that of
/// the value, which the parser bounds.
fn prune_nulls(value: &mut Value, root: &JsonObject, schema: &Value) {
    let Some(schema) = schema.as_object() else { return };
    let variants = alternatives(root, schema).schemas;
    match value {
        Value::Object(fields) => {
            let known = |name: &str| {
                variants.iter().find_map(|variant| Some((*variant, variant.get("properties")?.get(name)?)))
            };
            let is_required = |variant: &JsonObject, name: &str| {
                let required = variant.get("required").and_then(Value::as_array);
                required.is_some_and(|names| names.iter().any(|required| required == name))
            };
            fields.retain(|name, value| {
                !value.is_null() || known(name).is_none_or(|(variant, _)| is_required(variant, name))
            });
            for (name, value) in fields {
                if let Some((_, schema)) = known(name) {
                    prune_nulls(value, root, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = variants.iter().find_map(|variant| variant.get("items")) {
                items.iter_mut().for_each(|item| prune_nulls(item, root, schema));
            }
        }
        _ => {}
    }
}
