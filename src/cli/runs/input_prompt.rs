//! Asks a person for inputs of a plan that are missing.

use serde_json::{Value, json};

use crate::cli::common::run_context::{RunContext, interruptible};
use crate::cli::{CliError, Exit};
use crate::config::{self, InputSources};
use crate::model::{Answer, InputSpec, InputType, JsonObject, Plan};
use crate::runtime::ResumableRun;
use crate::ui::human::HumanResponse;

/// Returns the given inputs and those that a person typed for required inputs without a value. Returns the exit code if
/// the person dismisses the form.
///
/// # Errors
/// Fails if a signal ends the process.
pub(crate) async fn ask_for_inputs(
    context: &RunContext,
    plan: &Plan,
    (params, earlier): (&[String], Option<&JsonObject>),
    given: Option<Value>,
) -> Result<Result<Option<Value>, Exit>, CliError> {
    let sources = InputSources { parameters: params, given: given.as_ref(), earlier, ..InputSources::default() };
    let missing = config::missing_inputs(plan, &sources);
    if missing.is_empty() || !context.human.is_person_here() {
        return Ok(Ok(given));
    }
    Ok(match ask(context, &format!("inputs of `{}`", plan.name), &missing).await? {
        FormAnswer::Given(values) => {
            let mut all = match given {
                Some(Value::Object(given)) => given,
                _ => JsonObject::new(),
            };
            all.extend(values);
            Ok(Some(Value::Object(all)))
        }
        // The error lists what is missing.
        FormAnswer::Unanswered => Ok(given),
        FormAnswer::Dismissed => Err(Exit::Denied),
    })
}

/// Sets the secret inputs of a run that is resumed: from parameters, the environment, or a person. Returns the exit code
/// if the person dismisses the form.
///
/// # Errors
/// Fails if a parameter is invalid, or if secrets are missing and a person cannot be asked.
pub(crate) async fn provide_secrets(
    context: &RunContext,
    resumable: &mut ResumableRun,
    params: &[String],
) -> Result<Option<Exit>, CliError> {
    let plan = resumable.run().plan().clone();
    let sources = InputSources { parameters: params, ..InputSources::default() };
    resumable.set_secrets(config::resolve_secrets(&plan, &sources)?);
    let missing: Vec<String> = resumable.run().missing_secrets().into_iter().map(str::to_owned).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    if context.human.is_person_here() {
        let specs: Vec<_> = plan.inputs.iter().filter(|(name, _)| missing.contains(name)).collect();
        let fields: Vec<_> = specs.iter().map(|(name, spec)| (name.as_str(), *spec)).collect();
        match ask(context, "secret inputs, which the journal does not contain", &fields).await? {
            FormAnswer::Given(values) => {
                let values = Value::Object(values);
                let typed = InputSources { given: Some(&values), ..InputSources::default() };
                resumable.set_secrets(config::resolve_secrets(&plan, &typed)?);
                return Ok(None);
            }
            FormAnswer::Dismissed => return Ok(Some(Exit::Denied)),
            FormAnswer::Unanswered => {}
        }
    }
    let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let variable = plan.inputs[&missing[0]].from_env.as_ref();
    let variable = variable.map(|variable| format!(", or the environment variable `{variable}`")).unwrap_or_default();
    Err(CliError::usage(
        "cli::missing_secret",
        format!("run `{}` needs its secret inputs again: {}", context.run.short(), names.join(", ")),
        format!("the journal does not contain secrets; set `--param {}=…`{variable}", missing[0]),
    ))
}

/// What a person did with a form.
enum FormAnswer {
    /// The typed values.
    Given(JsonObject),
    /// The person declined.
    Dismissed,
    /// No person answered.
    Unanswered,
}

async fn ask(context: &RunContext, heading: &str, inputs: &[(&str, &InputSpec)]) -> Result<FormAnswer, CliError> {
    let schema = json!({
        "type": "object",
        "properties": inputs.iter().map(|(name, spec)| (*name, property(spec))).collect::<indexmap::IndexMap<_, _>>(),
        "required": inputs.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
    });
    let Value::Object(schema) = schema else { return Ok(FormAnswer::Unanswered) };
    let answered = interruptible(&context.screen, async { Ok(context.human.fill_form(heading, &schema).await) });
    Ok(match answered.await? {
        HumanResponse::Answered { answer: Answer::Accept { content: Some(Value::Object(content)) }, .. } => {
            FormAnswer::Given(content)
        }
        HumanResponse::Answered { .. } | HumanResponse::AllApproved { .. } => {
            message!("nothing ran");
            FormAnswer::Dismissed
        }
        HumanResponse::Deferred { .. } => FormAnswer::Unanswered,
    })
}

/// Returns the schema of one field.
fn property(spec: &InputSpec) -> JsonObject {
    let mut schema = spec.typed_schema();
    if spec.kind == InputType::File && spec.description.is_none() {
        schema.insert("description".to_owned(), "the path of a file".into());
    }
    schema
}
