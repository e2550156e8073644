//! Checks which secrets a plan passes to a plan that runs as one of its tasks.

use indexmap::IndexMap;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::NodeValue;
use crate::expression;
use crate::model::{InputSpec, InputType, Plan, Template};

/// Checks that secrets of this plan and of the plan that runs as the task are the same. So each is masked in all data
/// of the run.
pub(in crate::config::validate) fn check_secret_arguments(
    fields: CheckedTable<'_, TaskKeys>,
    inputs: &IndexMap<String, InputSpec>,
    (name, plan): (&str, &Plan),
    sink: &mut DiagnosticSink,
) {
    let own: Vec<&str> = secret_names(inputs).collect();
    let secrets: Vec<&str> = plan.secret_inputs().collect();
    for (input, entry) in fields.entries(&TASK.with) {
        let template = Template(entry.node.to_json());
        let text = entry.node.as_text().unwrap_or_default().trim();
        let bare = text.strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
        let is_secret = |bare: &str| bare.strip_prefix("inputs.").is_some_and(|input| own.contains(&input));
        let passes_secret = bare.is_some_and(is_secret);
        let is_null = matches!(entry.node.value, NodeValue::Null);
        if secrets.contains(&input) {
            if !passes_secret && !is_null {
                let message = format!("`{input}` is a secret input of the plan `{name}`, and this value is not secret");
                let error = sink.error("secret_use", entry.node.span, message);
                error.help(format!("pass a secret input of this plan: `{input}: ${{{{ inputs.NAME }}}}`"));
            }
        } else if let Some(used) = own.iter().find(|input| expression::template_uses_input(&template, input)) {
            let message = format!("the secret input `{used}` cannot be the value of `{input}`, which is stored");
            let error = sink.error("secret_use", entry.node.span, message);
            error.help(format!("declare `{input}` of the plan `{name}` as `type: secret`"));
        }
    }
}

/// Returns the names of the secret inputs.
fn secret_names(inputs: &IndexMap<String, InputSpec>) -> impl Iterator<Item = &str> {
    inputs.iter().filter(|(_, spec)| spec.kind == InputType::Secret).map(|(name, _)| name.as_str())
}
