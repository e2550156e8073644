//! Checks the arguments that a person sets for a call that awaits approval.

use serde_json::Value;

use crate::json_schema::{CompiledSchema, FormatValidation, SchemaLimits, bounded_message};
use crate::model::{JsonObject, ProposedCall};

/// The maximum length of the description of a violation, in bytes.
const MAX_VIOLATION_BYTES: usize = 400;

/// The maximum number of violations that are shown.
const MAX_VIOLATIONS: usize = 5;

/// Parses changed arguments.
///
/// # Errors
/// Returns what is wrong with them.
pub(crate) fn parse_arguments(call: &ProposedCall, text: &str) -> Result<JsonObject, Vec<String>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(arguments)) => check_arguments(call, arguments),
        Ok(_) => Err(vec!["the arguments do not fit: expected a JSON object".to_owned()]),
        Err(error) => Err(vec![format!("invalid JSON: {error}")]),
    }
}

/// Checks changed arguments against the schema of the tool, if it is known.
///
/// # Errors
/// Returns what is wrong with them.
pub(crate) fn check_arguments(call: &ProposedCall, arguments: JsonObject) -> Result<JsonObject, Vec<String>> {
    let Some(schema) = call.input_schema.get() else { return Ok(arguments) };
    // A schema that cannot be checked here is checked again before the call.
    let compiled =
        CompiledSchema::compile(Value::Object(schema.clone()), FormatValidation::Always, &SchemaLimits::INLINE);
    let Ok(compiled) = compiled else { return Ok(arguments) };
    let value = Value::Object(arguments);
    let problems: Vec<String> = match compiled.violations(&value, &SchemaLimits::INLINE) {
        Ok(violations) => violations
            .iter()
            .take(MAX_VIOLATIONS)
            .map(|error| {
                let text = bounded_message(error, MAX_VIOLATION_BYTES);
                match error.instance_path().to_string().as_str() {
                    "" => format!("the arguments do not fit: {text}"),
                    path => format!("`{path}` does not fit: {text}"),
                }
            })
            .collect(),
        Err(_) => Vec::new(),
    };
    match value {
        Value::Object(arguments) if problems.is_empty() => Ok(arguments),
        _ => Err(problems),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Effect, InputSchema};

    #[test]
    fn changed_arguments_fit_the_tool() {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let call = ProposedCall {
            agent: "a".into(),
            tool: "t".into(),
            arguments: json!({"n": 1}),
            effect: Effect::ReadOnly,
            input_schema: InputSchema::default(),
        };
        call.input_schema.set(schema.as_object().expect("an object"));
        assert_eq!(parse_arguments(&call, "{\"n\": 2}").map(Value::Object), Ok(json!({"n": 2})));
        for wrong in ["{\"n\": \"x\"}", "{}", "[1]", "{"] {
            assert!(parse_arguments(&call, wrong).is_err(), "{wrong}");
        }
    }
}
