//! Goals with their tools and the calls that reach them: NESTFUL, and goals of BFCL that no tool serves.

use kapell::model::{JsonObject, ToolInfo};
use serde_json::{Value, json};

use crate::data::Wheel;
use crate::score::Call;
use crate::{AGENT, BenchResult};

/// The sets of NESTFUL (IBM, Apache-2.0).
const SETS: [(&str, &str); 3] = [
    ("executable", "executable/executable"),
    ("sgd", "non-executable/non-executable-sgd"),
    ("glaive", "non-executable/non-executable-glaive"),
];

/// Goals over the same tools.
pub(crate) struct EvalSet {
    pub(crate) name: &'static str,
    pub(crate) tools: Vec<ToolInfo>,
    pub(crate) goals: Vec<EvalGoal>,
}

impl EvalSet {
    /// Returns the tools that the recorded answer to a goal calls.
    pub(crate) fn needed_tools(&self, goal: &EvalGoal) -> Vec<ToolInfo> {
        let is_needed = |tool: &&ToolInfo| goal.calls.iter().any(|call| call.tool == tool.name);
        self.tools.iter().filter(is_needed).cloned().collect()
    }
}

/// A goal, and the calls that reach it.
pub(crate) struct EvalGoal {
    pub(crate) text: String,
    /// The recorded answer in the form of a reply.
    pub(crate) answer: Value,
    /// The calls of the recorded answer.
    pub(crate) calls: Vec<Call>,
}

pub(crate) fn nestful_sets() -> BenchResult<Vec<EvalSet>> {
    let wheel = Wheel::download("nestful-wrapper", "0.1.7")?;
    let mut sets = Vec::new();
    for (name, path) in SETS {
        let spec = wheel.json(&format!("{path}-spec.json"))?;
        let data = wheel.json(&format!("{path}-data.json"))?;
        let tools = spec.as_array().into_iter().flatten().map(tool).collect();
        let goals = data.as_array().into_iter().flatten().filter_map(goal).collect();
        sets.push(EvalSet { name, tools, goals });
    }
    Ok(sets)
}

/// Returns goals of BFCL (Apache-2.0) that no tool serves, each with its tools.
pub(crate) fn irrelevant_goals() -> BenchResult<Vec<(String, Vec<ToolInfo>)>> {
    let wheel = Wheel::download("bfcl-eval", "2026.3.23")?;
    let text = wheel.text("BFCL_v4_irrelevance.json")?;
    let goals = text.lines().filter_map(|line| {
        let entry: Value = serde_json::from_str(line).ok()?;
        let question = entry.pointer("/question/0/0/content")?.as_str()?.to_owned();
        let functions = entry.get("function")?.as_array()?.iter().map(|function| {
            let schema = function.get("parameters").cloned().unwrap_or_default();
            let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            let properties = properties.map(|(name, schema)| (name.clone(), property(schema))).collect();
            let required = schema.get("required").cloned().unwrap_or_else(|| json!([]));
            tool_info(function, properties, required, None)
        });
        Some((question, functions.collect()))
    });
    Ok(goals.collect())
}

/// Converts a tool of a specification.
fn tool(spec: &Value) -> ToolInfo {
    let (mut properties, mut required) = (JsonObject::new(), Vec::new());
    for key in ["path_parameters", "query_parameters", "parameters", "arguments"] {
        let Some(group) = spec.get(key).and_then(Value::as_object) else { continue };
        let nested = group.get("properties").and_then(Value::as_object).filter(|_| group.contains_key("type"));
        if nested.is_some() {
            required.extend(group.get("required").and_then(Value::as_array).into_iter().flatten().cloned());
        }
        for (name, schema) in nested.unwrap_or(group).iter().filter(|(_, schema)| schema.is_object()) {
            properties.insert(name.clone(), property(schema));
            if schema.get("required") == Some(&Value::Bool(true)) {
                required.push(name.as_str().into());
            }
        }
    }
    let output = spec.get("output_parameters").and_then(Value::as_object).filter(|output| !output.is_empty());
    let output = output.map(|output| {
        let fields = output.get("properties").and_then(Value::as_object).unwrap_or(output);
        let fields = fields.iter().filter(|(_, schema)| schema.is_object());
        let fields: JsonObject = fields.map(|(name, schema)| (name.clone(), property(schema))).collect();
        json!({"type": "object", "properties": fields})
    });
    tool_info(spec, properties, required.into(), output)
}

fn tool_info(spec: &Value, properties: JsonObject, required: Value, output: Option<Value>) -> ToolInfo {
    let text = |key: &str| spec.get(key).and_then(Value::as_str).map(str::to_owned);
    let input = json!({"type": "object", "properties": properties, "required": required});
    ToolInfo {
        name: text("name").unwrap_or_default(),
        title: None,
        description: text("description"),
        input_schema: input.as_object().cloned().unwrap_or_default(),
        output_schema: output.and_then(|output| output.as_object().cloned()),
        effect: None,
    }
}

/// Converts a property, whose type has many spellings.
fn property(spec: &Value) -> Value {
    let kind = |value: &Value| {
        let name = value.get("type").and_then(Value::as_str).unwrap_or_default().to_lowercase();
        Some(match name.as_str() {
            "string" | "str" => "string",
            "number" | "float" => "number",
            "integer" | "int" => "integer",
            "boolean" | "bool" => "boolean",
            "array" | "list" => "array",
            "object" | "dict" => "object",
            _ => return None,
        })
    };
    let mut schema = json!({});
    if let Some(kind) = kind(spec) {
        schema["type"] = kind.into();
    }
    match kind(spec) {
        Some("array") => {
            let items = spec.get("items").and_then(kind).unwrap_or("string");
            schema["items"] = json!({"type": items});
        }
        Some("object") => {
            if let Some(fields) = spec.get("properties").and_then(Value::as_object) {
                let fields: JsonObject = fields.iter().map(|(name, spec)| (name.clone(), property(spec))).collect();
                schema["properties"] = fields.into();
            }
        }
        _ => {}
    }
    for key in ["description", "enum"] {
        let value = spec.get(key).filter(|value| value.as_array().is_none_or(|values| !values.is_empty()));
        if let Some(value) = value {
            schema[key] = value.clone();
        }
    }
    schema
}

/// Converts a goal. Its last call collects the results, which a synthesis does here.
fn goal(entry: &Value) -> Option<EvalGoal> {
    let output = match entry.get("output")? {
        Value::String(text) => serde_json::from_str(text).ok()?,
        output => output.clone(),
    };
    let recorded: Vec<&Value> = output.as_array()?.iter().filter(|call| call["name"] != "var_result").collect();
    let label =
        |call: &Value| call.get("label").and_then(Value::as_str).unwrap_or_default().trim_matches('$').to_owned();
    let labels: Vec<String> = recorded.iter().map(|call| label(call)).collect();
    let (mut tasks, mut calls) = (Vec::new(), Vec::new());
    for (index, call) in recorded.iter().enumerate() {
        let name = call.get("name")?.as_str()?;
        let arguments = call.get("arguments").cloned().filter(|arguments| !arguments.is_null());
        let arguments = with_references(&arguments.unwrap_or_else(|| json!({})), &labels);
        tasks.push(json!({"title": name, "tool": format!("{AGENT}.{name}"), "args": arguments}));
        calls.push(Call { id: format!("t{}", index + 1), tool: name.to_owned(), arguments });
    }
    Some(EvalGoal { text: entry.get("input")?.as_str()?.to_owned(), answer: json!({ "tasks": tasks }), calls })
}

/// Rewrites `$var1.a$` as `$1.a`, and inside a longer text as `{$1.a}`.
fn with_references(value: &Value, labels: &[String]) -> Value {
    match value {
        Value::String(text) => {
            let parts: Vec<&str> = text.split('$').collect();
            let reference = |part: &str| {
                let end = part.find(['.', '[']).unwrap_or(part.len());
                let number = labels.iter().position(|label| *label == part[..end])? + 1;
                Some(format!("${number}{}", &part[end..]))
            };
            if let ["", part, ""] = parts.as_slice()
                && let Some(whole) = reference(part)
            {
                return whole.into();
            }
            let (mut written, mut is_literal) = (parts[0].to_owned(), true);
            for part in &parts[1..] {
                match reference(part).filter(|_| is_literal) {
                    Some(found) => {
                        written.push_str(&format!("{{{found}}}"));
                        is_literal = false;
                    }
                    // The `$` after a reference closes it.
                    None => {
                        written.push_str(if is_literal { "$" } else { "" });
                        written.push_str(part);
                        is_literal = true;
                    }
                }
            }
            written.into()
        }
        Value::Array(items) => items.iter().map(|item| with_references(item, labels)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (name.clone(), with_references(value, labels))).collect())
        }
        other => other.clone(),
    }
}
