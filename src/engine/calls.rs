//! Computes the arguments of calls from the plan, the earlier events, and the requests of a model. Events do not contain
//! them. Before each call, the fold has the state from which the run made it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::expression::{self, ExpressionError, Scope, UriTemplate, json_type_name};
use crate::model::{
    CacheRequest, Event, Failure, FailureKind, JsonObject, MASKED_SECRET, NodeIndex, NodeKind, Operation, Record,
    SentCall, Template, Work, relative_file_name, value_as_text,
};

use super::scope::expression_failure;
use super::state::run::{FoldError, NewRun, Run};
use super::state::run_state::State;

/// Returns all calls that a run has made, in order.
///
/// # Errors
/// Returns an error if `records` are not the history of one run from its start.
pub fn sent_calls<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<SentCall>, FoldError> {
    let mut calls = Vec::new();
    Run::fold_while(records, |run, event| calls.extend(sent_call(run, event)))?;
    Ok(calls)
}

/// Returns the call that an event starts. `run` is the run before the event.
fn sent_call(run: &Run, event: &Event) -> Option<SentCall> {
    let Event::AttemptStarted { attempt, agent, tool } = event else { return None };
    let node = run.graph.node_index(attempt.task.as_str())?;
    // The arguments could be rendered at the time, or the call would not exist.
    let arguments = Value::Object(run.arguments(node).unwrap_or_default());
    let (attempt, agent, tool) = (attempt.clone(), agent.clone(), Arc::clone(tool));
    Some(SentCall { attempt, agent, tool, arguments })
}

/// Computes the arguments of calls while a run is in progress, event by event.
#[derive(Debug, Default)]
pub struct CallTracker {
    /// The run after the last event; `None` before the start, and after an event that does not fit.
    run: Option<Run>,
}

impl CallTracker {
    /// Applies the next event, and returns the call that it starts.
    pub fn apply(&mut self, record: &Record) -> Option<SentCall> {
        if let Event::RunStarted { plan, inputs, seed, source, id } = &record.event {
            let (plan, inputs, source) = (Arc::clone(plan), Arc::clone(inputs), source.clone());
            let new_run = NewRun { plan, inputs, seed: *seed, planning: None, source, id: id.clone() };
            self.run = Run::new(&new_run, record.at).ok();
            return None;
        }
        let run = self.run.as_mut()?;
        let call = sent_call(run, &record.event);
        if run.apply(&record.event, record.at).is_err() {
            self.run = None;
        }
        call
    }
}

impl State {
    /// Returns the arguments of a call, or the parameters of an operation that is not a tool: those that a person
    /// approved, the rendered template, or the arguments from the model. Empty for a prompt.
    ///
    /// # Errors
    /// Returns a failure if an expression cannot be evaluated, or if its value has the wrong type.
    pub(super) fn arguments(&self, node: NodeIndex) -> Result<JsonObject, Failure> {
        match &self.tasks[node.index()].approved_arguments {
            Some(approved) => Ok(JsonObject::clone(approved)),
            None => self.planned_arguments(node, &self.scope(node)),
        }
    }

    /// Returns the arguments of a call that no person changed.
    fn planned_arguments(&self, node: NodeIndex, scope: &Scope<'_>) -> Result<JsonObject, Failure> {
        let render = |template: &Template| expression::render(template, scope);
        let call = match (&self.graph[node].kind, &self.graph[node].task.work) {
            (NodeKind::ToolCall(call), _) => return Ok(call.arguments.clone()),
            (_, Work::Call(call)) => call,
            _ => return Ok(JsonObject::new()),
        };
        match call.operation {
            Operation::ReadResource => resource_parameters(render(&call.arguments)),
            Operation::CallTool | Operation::GetPrompt => arguments_object(render(&call.arguments)),
            Operation::RunCommand => shell_parameters(&call.arguments, scope),
            Operation::SendRequest => request_parameters(render(&call.arguments)),
        }
    }
}

impl Run {
    /// Returns the arguments of a call as they are sent, with the values of secret inputs.
    ///
    /// # Errors
    /// Returns a failure if [`State::arguments`] does, or if this process does not know a secret that they contain.
    pub(super) fn sent_arguments(&self, node: NodeIndex) -> Result<JsonObject, Failure> {
        let masked = self.arguments(node)?;
        let template = self.graph[node].task.arguments();
        let is_used = |name: &&str| template.is_some_and(|template| expression::template_uses_input(template, name));
        let secrets: Vec<&str> = self.visible_secrets(node).into_iter().filter(is_used).collect();
        if secrets.is_empty() {
            return Ok(masked);
        }
        let inputs = self.open_inputs(node)?;
        let is_unknown = |name: &&&str| inputs.get(**name).is_some_and(|value| value == MASKED_SECRET);
        if let Some(name) = secrets.iter().find(is_unknown) {
            let message =
                format!("the value of the secret input `{name}` is not known: journals do not contain secrets");
            let missing = self.missing_secrets().first().map_or((*name).to_owned(), |name| (*name).to_owned());
            let help = format!("`kapell resume RUN --param {missing}=…` provides it");
            return Err(Failure::new(FailureKind::Expression, message).with_help(help));
        }
        let scope = self.scope(node);
        let unchanged = self.planned_arguments(node, &scope)?;
        let open = self.planned_arguments(node, &Scope { inputs: &inputs, ..scope })?;
        let mut arguments = Value::Object(masked);
        restore_secrets(&mut arguments, &Value::Object(unchanged), Value::Object(open));
        Ok(match arguments {
            Value::Object(arguments) => arguments,
            _ => JsonObject::new(),
        })
    }
}

/// Replaces each part of `approved` that is as in `masked` by the same part of `open`.
fn restore_secrets(approved: &mut Value, masked: &Value, open: Value) {
    if approved == masked {
        *approved = open;
        return;
    }
    match (approved, masked, open) {
        (Value::Object(approved), Value::Object(masked), Value::Object(mut open)) => {
            for (key, value) in approved {
                if let (Some(masked), Some(open)) = (masked.get(key), open.shift_remove(key)) {
                    restore_secrets(value, masked, open);
                }
            }
        }
        (Value::Array(approved), Value::Array(masked), Value::Array(open)) => {
            for ((value, masked), open) in approved.iter_mut().zip(masked).zip(open) {
                restore_secrets(value, masked, open);
            }
        }
        _ => {}
    }
}

/// Returns the arguments of a tool.
fn arguments_object(rendered: Result<Value, ExpressionError>) -> Result<JsonObject, Failure> {
    match rendered {
        Ok(Value::Object(arguments)) => Ok(arguments),
        Ok(Value::Null) => Ok(JsonObject::new()),
        Ok(other) => {
            let message = format!("`with` expects a map of arguments, but is {}", json_type_name(&other));
            Err(Failure::new(FailureKind::Expression, message))
        }
        Err(error) => Err(expression_failure("with", &error)),
    }
}

/// Returns the parameters of a shell command. The values in the command become quoted words.
fn shell_parameters(template: &Template, scope: &Scope<'_>) -> Result<JsonObject, Failure> {
    let Value::Object(template) = &template.0 else { return Ok(JsonObject::new()) };
    let parameter = |(key, value): (&String, &Value)| {
        let rendered = match (key.as_str(), value) {
            ("command", Value::String(command)) => expression::render_shell_command(command, scope).map(Value::String),
            (_, value) => expression::render(&Template(value.clone()), scope),
        };
        Ok((key.clone(), rendered.map_err(|error| expression_failure("shell", &error))?))
    };
    let mut parameters: JsonObject = template.iter().map(parameter).collect::<Result<_, Failure>>()?;
    // A variable is text, and null means that it is not set.
    if let Some(Value::Object(env)) = parameters.get_mut("env") {
        env.retain(|_, value| !value.is_null());
        env.values_mut().for_each(|value| *value = value_as_text(value).into());
    }
    match parameters.get("cwd") {
        None | Some(Value::String(_)) => Ok(parameters),
        Some(other) => Err(expects("`cwd` of `shell` expects a path", other)),
    }
}

/// Returns the parameters of an HTTP request.
fn request_parameters(rendered: Result<Value, ExpressionError>) -> Result<JsonObject, Failure> {
    let parameters = match rendered.map_err(|error| expression_failure("http", &error))? {
        Value::Object(parameters) => parameters,
        other => return Err(expects("`http` expects a map", &other)),
    };
    match parameters.get("url") {
        Some(Value::String(_)) => {}
        other => return Err(expects("`url` of `http` expects text", other.unwrap_or(&Value::Null))),
    }
    for key in ["headers", "query"] {
        match parameters.get(key) {
            None | Some(Value::Object(_)) => {}
            Some(other) => return Err(expects(&format!("`{key}` of `http` expects a map"), other)),
        }
    }
    Ok(parameters)
}

fn expects(expected: &str, found: &Value) -> Failure {
    Failure::new(FailureKind::Expression, format!("{expected}, but is {}", json_type_name(found)))
}

impl State {
    /// Returns the request to use the cache for a call, if its task uses it.
    ///
    /// # Errors
    /// Returns a failure if the key cannot be evaluated.
    pub(super) fn cache_request(
        &self,
        node: NodeIndex,
        arguments: &JsonObject,
    ) -> Result<Option<CacheRequest>, Failure> {
        // A call of a model uses no cache, since the plan does not know it.
        let is_planned = !matches!(self.graph[node].kind, NodeKind::ToolCall(_));
        let Some(policy) = self.graph[node].task.cache.as_deref().filter(|_| is_planned) else { return Ok(None) };
        let key = match &policy.key {
            Some(key) => {
                expression::render(key, &self.scope(node)).map_err(|error| expression_failure("cache", &error))?
            }
            None => Value::Object(arguments.clone()),
        };
        Ok(Some(CacheRequest { key, ttl: policy.ttl.0 }))
    }

    /// Returns the name of the file that gets the output of a task, if it saves one.
    ///
    /// # Errors
    /// Returns a failure if the name cannot be evaluated, or could be outside of the files of the run.
    pub(super) fn save_name(&self, node: NodeIndex) -> Result<Option<String>, Failure> {
        let is_planned = !matches!(self.graph[node].kind, NodeKind::ToolCall(_));
        let Some(template) = self.graph[node].task.save.as_deref().filter(|_| is_planned) else { return Ok(None) };
        let rendered = expression::render(template, &self.scope(node));
        let name = value_as_text(&rendered.map_err(|error| expression_failure("save", &error))?);
        relative_file_name(&name).map(Some).map_err(|problem| {
            let message = format!("`save`: the file name `{name}` {problem}");
            let help = "expected a name such as `report.md` or `pages/1.html`";
            Failure::new(FailureKind::Expression, message).with_help(help)
        })
    }
}

/// Returns the parameters of `resources/read`, with the URI that a template stands for.
fn resource_parameters(rendered: Result<Value, ExpressionError>) -> Result<JsonObject, Failure> {
    let rendered = rendered.map_err(|error| expression_failure("read", &error))?;
    let failure = |message: String| Failure::new(FailureKind::Expression, message);
    let text = |key: &str| match rendered.get(key) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str())),
        Some(Value::String(_)) => Err(failure(format!("`{key}` of `read` is empty: expected the URI of a resource"))),
        Some(other) => Err(failure(format!("`{key}` of `read` expects text, but is {}", json_type_name(other)))),
    };
    let uri = match (text("uri")?, text("template")?) {
        (_, Some(template)) => {
            let parsed = UriTemplate::parse(template);
            let parsed = parsed.map_err(|problem| failure(format!("invalid URI template `{template}`: {problem}")))?;
            let values = match rendered.get("with") {
                Some(Value::Object(values)) => values.clone(),
                _ => JsonObject::new(),
            };
            parsed.expand(&values).map_err(|problem| failure(format!("`with` of `read`: {problem}")))?
        }
        (uri, None) => uri.unwrap_or_default().to_owned(),
    };
    Ok(JsonObject::from_iter([("uri".to_owned(), json!(uri))]))
}
