//! The fields of a form, of a question or of the inputs of a plan.

use serde_json::{Value, json};

use crate::model::{InputSpec, JsonObject};
use crate::ui::forms::form::{FormField, FormSchema, Kind};
use crate::view::text::printable;

/// Returns the fields of a form with this schema.
pub(crate) fn schema_fields(schema: &JsonObject) -> Vec<Value> {
    FormSchema::parse_schema(schema).fields.iter().map(field_json).collect()
}

/// Returns the fields of a form for the inputs of a plan.
pub(crate) fn input_fields<'i>(inputs: impl IntoIterator<Item = (&'i String, &'i InputSpec)>) -> Vec<Value> {
    FormSchema::parse_schema(&inputs_schema(inputs)).fields.iter().map(field_json).collect()
}

/// Returns the schema of a form for the inputs of a plan.
pub(crate) fn inputs_schema<'i>(inputs: impl IntoIterator<Item = (&'i String, &'i InputSpec)>) -> JsonObject {
    let (mut properties, mut required) = (JsonObject::new(), Vec::new());
    for (name, spec) in inputs {
        properties.insert(name.clone(), Value::Object(spec.typed_schema()));
        if spec.required && spec.from_env.is_none() {
            required.push(name.clone());
        }
    }
    let schema = json!({"type": "object", "properties": properties, "required": required});
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

fn field_json(field: &FormField) -> Value {
    let kind = match &field.kind {
        Kind::Text | Kind::Json => "string",
        Kind::Number => "number",
        Kind::Integer => "integer",
        Kind::Boolean => "boolean",
        Kind::Select(_) => "enum",
        Kind::MultiSelect(_) => "multi",
    };
    let mut object = json!({"name": field.name, "type": kind, "required": field.required && !field.nullable});
    let limits = field.limits();
    let text = |text: &Option<String>| text.as_deref().map(|text| Value::from(printable(text)));
    let optional = [
        ("title", text(&field.title)),
        ("description", text(&field.description)),
        ("default", field.default.clone().filter(|_| !field.secret)),
        ("min", limits.minimum.clone().map(Value::Number)),
        ("max", limits.maximum.clone().map(Value::Number)),
        ("pattern", limits.pattern.clone().map(Value::from)),
        (
            "format",
            limits.format.clone().or_else(|| (field.kind == Kind::Json).then(|| "json".to_owned())).map(Value::from),
        ),
        ("secret", field.secret.then_some(Value::Bool(true))),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            object[name] = value;
        }
    }
    let options: Vec<Value> = field
        .choices()
        .map(|(_, choice)| {
            let value = choice.value.as_str().map_or_else(|| choice.value.to_string(), str::to_owned);
            json!({"value": value, "label": printable(&choice.title)})
        })
        .collect();
    if !options.is_empty() {
        object["options"] = options.into();
    }
    object
}
