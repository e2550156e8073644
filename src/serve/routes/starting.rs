//! Starts, resumes, and repeats runs, each in a process of its own.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::plans::{load, plan_path, plans_directory};
use super::request_data::{json_response, query_value, read_json};
use crate::model::{InputType, JsonObject, Plan, RunId};
use crate::serve::documents::{input_fields, inputs_schema};
use crate::serve::page_api_error::PageApiError;
use crate::serve::state::{ServeState, Shared, blocking};
use crate::system::clock;
use crate::ui::forms::form::FormSchema;
use crate::view::text::printable;

/// What to start: a plan with its inputs, or a goal that is planned first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    #[serde(default)]
    plan: Option<String>,
    /// The value of each input, or its typed text.
    #[serde(default)]
    inputs: Map<String, Value>,
    #[serde(default)]
    goal: Option<String>,
}

/// Starts a run of a plan. A goal becomes a plan first, which a person looks at and starts.
pub(super) async fn start(State(state): State<Shared>, request: Request) -> Result<Response<Body>, PageApiError> {
    let body: StartBody = read_json(request.into_body()).await?;
    match (body.plan, body.goal) {
        (Some(plan), None) => start_plan(&state, plan, body.inputs).await,
        (None, Some(goal)) if body.inputs.is_empty() => plan_goal(&state, goal).await,
        _ => Err(PageApiError::bad_request(
            "serve::invalid_body",
            "the body must have either `plan`, with its `inputs`, or `goal`",
            "`/api/openapi.json` describes the body",
        )),
    }
}

async fn start_plan(state: &Shared, file: String, inputs: Map<String, Value>) -> Result<Response<Body>, PageApiError> {
    let (path, parameters) = blocking(state, move |state| {
        let path = plan_path(state, &file)?;
        let plan = load(state, &path)?;
        Ok((path, parameters_file(&plan, inputs)?))
    })
    .await?;
    let mut arguments: Vec<OsString> = vec!["run".into(), path.into(), "--detach".into()];
    if let Some(file) = &parameters {
        arguments.extend(["--params-file".into(), file.path().into()]);
    }
    // The file is read before the run begins, and removed afterwards: it may have secrets.
    let run = state.settings.program.run(&arguments).await?;
    drop(parameters);
    started(&run)
}

/// Returns a private file with the values of the inputs; `None` if none is given.
fn parameters_file(plan: &Plan, inputs: Map<String, Value>) -> Result<Option<NamedTempFile>, PageApiError> {
    if inputs.is_empty() {
        return Ok(None);
    }
    let values = input_values(plan, inputs)?;
    let mut file = tempfile::Builder::new().suffix(".json").tempfile().map_err(PageApiError::internal)?;
    file.write_all(Value::Object(values).to_string().as_bytes()).map_err(PageApiError::internal)?;
    file.flush().map_err(PageApiError::internal)?;
    Ok(Some(file))
}

/// Returns the values of inputs, each given as its typed text or as JSON. Empty optional ones are omitted.
fn input_values(plan: &Plan, inputs: Map<String, Value>) -> Result<JsonObject, PageApiError> {
    let form = FormSchema::parse_schema(&inputs_schema(&plan.inputs));
    let mut values = JsonObject::new();
    for (name, value) in inputs {
        let field = form.fields.iter().find(|field| field.name == name);
        let field = field.ok_or_else(|| invalid_input(&format!("the plan has no input `{name}`")))?;
        let value = match value {
            Value::String(text) if text.is_empty() && !field.required => continue,
            Value::String(text) => {
                field.parse(&text).map_err(|problem| invalid_input(&format!("`{name}`: {problem}")))?
            }
            other => other,
        };
        values.insert(name, value);
    }
    Ok(values)
}

fn invalid_input(problem: &str) -> PageApiError {
    PageApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "serve::invalid_input", printable(problem))
}

/// Plans a goal, and returns the file with the plan. Nothing runs.
async fn plan_goal(state: &Shared, goal: String) -> Result<Response<Body>, PageApiError> {
    let directory = plans_directory(state)?;
    let name = format!("goal-{}.yaml", RunId::from(clock::new_id().to_string()).short());
    let path: PathBuf = directory.join(&name);
    state.settings.program.run_with_text(&["plan".into(), "--output".into(), path.into()], goal).await?;
    json_response(StatusCode::CREATED, &json!({"plan": name}))
}

/// Resumes a run.
pub(super) async fn resume(
    State(state): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response<Body>, PageApiError> {
    let run = blocking(&state, move |state| state.find_run(&name)).await?;
    state.settings.program.run(&["resume".into(), run.as_str().into(), "--detach".into()]).await?;
    json_response(StatusCode::OK, &json!({"message": format!("run {} continues", run.short())}))
}

/// The part of a run to repeat.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RetryBody {
    /// The task from which on everything is repeated.
    #[serde(default)]
    task: Option<String>,
    /// Set to repeat what failed, which is the default.
    #[serde(default)]
    failed: bool,
    /// Other values for inputs, or their typed texts.
    #[serde(default)]
    inputs: Map<String, Value>,
    /// Set to return what would be repeated. Nothing runs.
    #[serde(default)]
    dry_run: bool,
}

impl RetryBody {
    fn arguments(self, state: &ServeState, run: &RunId) -> Result<Vec<OsString>, PageApiError> {
        let changed = self.changed_inputs(state, run)?;
        let mut arguments: Vec<OsString> = vec!["retry".into(), run.as_str().into()];
        match (self.task, self.failed) {
            (Some(_), true) => {
                return Err(PageApiError::bad_request(
                    "serve::invalid_body",
                    "`task` and `failed` exclude each other",
                    "remove one of them",
                ));
            }
            (Some(task), false) => {
                let mut from = OsString::from("--from=");
                from.push(task);
                arguments.push(from);
            }
            (None, _) => arguments.push("--failed".into()),
        }
        if !changed.is_empty() {
            // The page has shown what runs again.
            arguments.push("--yes".into());
        }
        for (name, value) in changed {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            arguments.push(format!("--param={name}={text}").into());
        }
        Ok(arguments)
    }

    /// Returns the inputs with other values than those of the run.
    fn changed_inputs(&self, state: &ServeState, run: &RunId) -> Result<JsonObject, PageApiError> {
        if self.inputs.is_empty() {
            return Ok(JsonObject::new());
        }
        let page = state.pages.open(run)?;
        let page = page.lock();
        let Some((plan, earlier)) = page.page().view().start() else { return Ok(JsonObject::new()) };
        let mut values = input_values(plan, self.inputs.clone())?;
        values.retain(|name, value| earlier.get(name) != Some(value));
        // The arguments of a process are visible to others.
        match plan.secret_inputs().find(|name| values.contains_key(*name)) {
            Some(name) => Err(invalid_input(&format!("`{name}` is secret, so it cannot be changed in a retry"))),
            None => Ok(values),
        }
    }
}

/// Returns what a retry would repeat, and the fields of a form for other inputs. Nothing runs.
pub(super) async fn preview_retry(
    State(state): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let part = RetryBody { task: query_value(request.uri(), "task"), ..RetryBody::default() };
    let (arguments, fields) = blocking(&state, move |state| {
        let (run, page) = state.open(&name)?;
        let fields = match page.lock().page().view().start() {
            Some((plan, _)) => input_fields(plan.inputs.iter().filter(|(_, input)| input.kind != InputType::Secret)),
            None => Vec::new(),
        };
        Ok((part.arguments(state, &run)?, fields))
    })
    .await?;
    let mut preview = retry_preview(&state, arguments).await?;
    if !fields.is_empty() {
        preview["fields"] = fields.into();
    }
    json_response(StatusCode::OK, &preview)
}

/// Returns what a retry with these arguments would repeat.
async fn retry_preview(state: &Shared, mut arguments: Vec<OsString>) -> Result<Value, PageApiError> {
    arguments.extend(["--dry-run".into(), "--output".into(), "json".into()]);
    match state.settings.program.run(&arguments).await {
        Ok(printed) => serde_json::from_str(&printed).map_err(PageApiError::internal),
        Err(refused) if refused.is_refusal() => Ok(json!({"again": [], "kept": [], "refused": refused.to_string()})),
        Err(error) => Err(error),
    }
}

/// Repeats a part of a run, as a new run, or returns what would be repeated.
pub(super) async fn retry(
    State(state): State<Shared>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, PageApiError> {
    let part: RetryBody = read_json(request.into_body()).await?;
    let is_preview = part.dry_run;
    let mut arguments = blocking(&state, move |state| part.arguments(state, &state.find_run(&name)?)).await?;
    if is_preview {
        return json_response(StatusCode::OK, &retry_preview(&state, arguments).await?);
    }
    arguments.push("--detach".into());
    started(&state.settings.program.run(&arguments).await?)
}

fn started(printed: &str) -> Result<Response<Body>, PageApiError> {
    json_response(StatusCode::CREATED, &json!({"run": printed.trim()}))
}
