//! The pages about the keys of files, from the JSON Schemas that the readers share their tables with.

use std::fmt::Write as _;

use kapell::config;
use serde_json::{Map, Value};

use super::page::{check_page, table};

#[test]
fn keys_of_plans_are_up_to_date() {
    check_page("plan-file.md", &page("Plan file", "plan", &config::plan_schema()));
}

#[test]
fn keys_of_agents_files_are_up_to_date() {
    check_page("agents-file.md", &page("Agents file", "agents", &config::agents_schema()));
}

#[test]
fn keys_of_answers_files_are_up_to_date() {
    check_page("answers-file.md", &page("Answers file", "answers", &config::answers_schema()));
}

fn page(title: &str, format: &str, schema: &Value) -> String {
    let mut text = format!("# {title}\n\n{}\n\n", string(&schema["description"]));
    let _ = writeln!(
        text,
        "`kapell schema {format}` prints the JSON Schema of this file, for editors. A *duration* is {}.\n",
        duration_format(&config::plan_schema()).expect("a key of a plan is a duration")
    );
    text += &keys_table(schema);
    for name in definitions_in_order(schema) {
        let definition = &schema["$defs"][&name];
        let _ = writeln!(text, "\n## {name}\n\n{}\n", string(&definition["description"]));
        text += &keys_table(definition);
    }
    text
}

/// Returns the names of the definitions, in the order of the first reference to each.
fn definitions_in_order(schema: &Value) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut next = 0;
    references(&schema["properties"], &mut names);
    while let Some(name) = names.get(next).cloned() {
        references(&schema["$defs"][&name], &mut names);
        next += 1;
    }
    let all = schema["$defs"].as_object().map_or(0, Map::len);
    assert_eq!(names.len(), all, "each definition is referred to");
    names
}

fn references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) = members.get("$ref").map(referenced)
                && !names.contains(&name)
            {
                names.push(name);
            }
            members.values().for_each(|member| references(member, names));
        }
        Value::Array(elements) => elements.iter().for_each(|element| references(element, names)),
        _ => {}
    }
}

fn referenced(reference: &Value) -> String {
    string(reference).trim_start_matches("#/$defs/").to_owned()
}

fn keys_table(schema: &Value) -> String {
    let properties = schema["properties"].as_object().expect("keys");
    let is_required = |name: &str| {
        let is_listed = |list: &Value| list.as_array().is_some_and(|names| names.iter().any(|one| one == name));
        let variants = schema["oneOf"].as_array();
        is_listed(&schema["required"]) || variants.is_some_and(|all| all.iter().any(|one| is_listed(&one["required"])))
    };
    let aliases = |name: &str| {
        let marker = format!("Alias of `{name}`. ");
        let found = properties.iter().filter(|(_, key)| string(&key["description"]).starts_with(&marker));
        found.map(|(alias, _)| format!(" Alias: `{alias}`.")).collect::<String>()
    };
    let own = properties.iter().filter(|(_, key)| !string(&key["description"]).starts_with("Alias of `"));
    let rows = own.map(|(name, key)| {
        let (meaning, default) = without_default(string(&key["description"]));
        let default = if is_required(name) { "(required)".to_owned() } else { default };
        let meaning = format!("{meaning}{}{}", aliases(name), choices(key));
        vec![format!("`{name}`"), type_of(key), default, meaning]
    });
    table(&["key", "type", "default", "meaning"], rows.collect::<Vec<_>>())
}

/// Separates the default from a description: `Maximum number. Default: 8.`
fn without_default(description: &str) -> (String, String) {
    let Some((before, rest)) = description.split_once("Default: ") else {
        return (description.to_owned(), String::new());
    };
    let (default, after) = rest.split_once(". ").unwrap_or((rest.trim_end_matches('.'), ""));
    ([before.trim_end(), after].join(" ").trim().to_owned(), default.to_owned())
}

/// Describes each word that a key accepts, one a line.
fn choices(schema: &Value) -> String {
    let mut lines = String::new();
    let variants = schema["anyOf"].as_array().map_or_else(|| vec![schema], |all| all.iter().collect());
    for word in variants.iter().filter_map(|variant| variant["oneOf"].as_array()).flatten() {
        let _ = write!(lines, "\n`{}`: {}", string(&word["const"]), string(&word["description"]));
    }
    lines
}

fn type_of(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref") {
        let name = referenced(reference);
        return format!("[{name}](#{name})");
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        return variants.iter().map(type_of).collect::<Vec<_>>().join(", or ");
    }
    if schema.get("oneOf").is_some() {
        return "one of the words".to_owned();
    }
    if duration_format(schema).is_some() {
        return "duration".to_owned();
    }
    let range = || match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(min), Some(max)) if max < 1e18 => format!(", {min} to {max}"),
        (Some(min), _) => format!(", at least {min}"),
        (None, _) => String::new(),
    };
    match &schema["type"] {
        Value::String(kind) => match kind.as_str() {
            "string" if schema["pattern"].is_string() => "name".to_owned(),
            "string" => "text".to_owned(),
            "array" => format!("list of {}", plural(&type_of(&schema["items"]))),
            "object" => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => format!("map of {}", plural(&type_of(values))),
                _ => "map".to_owned(),
            },
            "integer" => format!("integer{}", range()),
            "number" => format!("number{}", range()),
            other => other.to_owned(),
        },
        Value::Array(kinds) if kinds.iter().any(|kind| kind == "array") => "list, or an expression".to_owned(),
        Value::Array(_) => "expression".to_owned(),
        _ => "any value".to_owned(),
    }
}

fn plural(name: &str) -> String {
    if name == "text" { "texts".to_owned() } else { name.to_owned() }
}

/// Returns the description of the format of durations, if a part of the schema is one.
fn duration_format(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(members) => match members.get("examples") {
            Some(examples) => examples[0].as_str(),
            None if members.contains_key("properties") || members.contains_key("$defs") => {
                members.values().find_map(duration_format)
            }
            None => members.values().filter(|member| member.is_object()).find_map(duration_format),
        },
        _ => None,
    }
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
