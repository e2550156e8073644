//! Tests of the JSON Schemas: they equal the committed files, and they agree with the readers.

use serde_json::Value;

use super::*;
use crate::config::agents::providers;
use crate::config::schema::keys;
use crate::config::schema::table::{KeySchema, TableSchema, ValueType};

#[test]
fn committed_schemas_are_up_to_date() {
    for (path, schema) in [
        ("schemas/plan.schema.json", plan_schema()),
        ("schemas/agents.schema.json", agents_schema()),
        ("schemas/answers.schema.json", answers_schema()),
    ] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).expect("the schema is written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{} is out of date: run the tests with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn schemas_have_the_same_keys_as_the_tables() {
    for (schema, root) in [
        (plan_schema(), &keys::PLAN.table),
        (agents_schema(), &keys::AGENTS_FILE.table),
        (answers_schema(), &keys::ANSWERS.table),
    ] {
        let mut tables = vec![root];
        let mut checked = 0;
        while let Some(table) = tables.get(checked).copied() {
            checked += 1;
            assert_keys(
                if std::ptr::eq(table, root) { &schema } else { &schema["$defs"][table.name.to_lowercase()] },
                table,
            );
            for key in table.keys {
                add_tables(&key.value_type, &mut tables);
            }
        }
        assert_eq!(checked - 1, schema["$defs"].as_object().expect("it has definitions").len());
    }
}

/// Adds the tables that a value can consist of, each once.
fn add_tables(value_type: &'static ValueType, tables: &mut Vec<&'static TableSchema>) {
    match value_type {
        ValueType::Table(table) | ValueType::TableList(table) | ValueType::TableMap(table)
            if !tables.iter().any(|known| std::ptr::eq(*known, *table)) =>
        {
            tables.push(table);
        }
        ValueType::OneOf(_, variants) => variants.iter().for_each(|variant| add_tables(variant, tables)),
        _ => {}
    }
}

fn assert_keys(schema: &Value, table: &'static TableSchema) {
    let properties = schema["properties"].as_object().expect("it has properties");
    let listed: Vec<_> = properties.keys().map(String::as_str).collect();
    assert_eq!(listed, table.known_names().collect::<Vec<_>>(), "{}", table.name);
    for (name, property) in properties {
        assert!(property["description"].as_str().is_some_and(|about| !about.is_empty()), "{name}");
    }
}

#[test]
fn schema_accepts_valid_plans_and_rejects_typos() {
    let valid = |text: &str| {
        let plan: Value = serde_yaml::from_str(text).expect("it is YAML");
        let schema = jsonschema::validator_for(&plan_schema()).expect("the schema is one");
        schema.is_valid(&plan)
    };
    let plan = "inputs: { q: { type: string } }\ntasks: [{ name: a, agent: travel, tool: x, retry: 3, if: true, \
                foreach: [1], \
                needs: b, timeout: 1h30m }, { id: b, capability: booking, tool: y, retry: { backoff: { jitter: 0 } } \
                }]";
    assert!(valid(plan));
    assert!(load_test_plan(&plan.replace("needs: b, ", "")).is_ok() && valid(&plan.replace("needs: b, ", "")));
    assert!(!valid(&plan.replace("agent:", "agnet:")));
    assert!(!valid(&plan.replace("1h30m", "soon")));
    assert!(!valid(&plan.replace("{ name: a, ", "{ ")));
}

#[test]
fn choices_match_the_model_types() {
    use crate::model::{
        Consent, Effect, ForcedToolChoice, InputType, LogLevel, MaxTokensField, OnFailure, Protocol, SchemaChecks,
        StructuredOutput, SystemRole,
    };
    fn reads<T: serde::de::DeserializeOwned>(key: &KeySchema) {
        for word in words(key) {
            assert!(serde_json::from_value::<T>(word.into()).is_ok(), "{}: {word}", key.name);
        }
    }
    fn words(key: &KeySchema) -> Vec<&'static str> {
        let words = match key.value_type {
            ValueType::Choice(words) => words,
            ValueType::OneOf(_, [ValueType::Choice(words), ..]) => *words,
            _ => panic!("{} is not a choice", key.name),
        };
        words.iter().map(|(word, _)| *word).collect()
    }
    reads::<Effect>(&keys::TASK.effect);
    reads::<Effect>(&keys::AGENT.effect);
    reads::<OnFailure>(&keys::TASK.on_failure);
    reads::<InputType>(&keys::INPUT.kind);
    reads::<Protocol>(&keys::AGENT.protocol);
    reads::<Consent>(&keys::SAMPLING.policy);
    reads::<LogLevel>(&keys::AGENT.log_level);
    reads::<SchemaChecks>(&keys::AGENT.check_arguments);
    reads::<SchemaChecks>(&keys::AGENT.check_results);
    reads::<MaxTokensField>(&keys::LLM.max_tokens_field);
    reads::<StructuredOutput>(&keys::LLM.structured_output);
    reads::<crate::config::PlannerForm>(&keys::PLANNER.form);
    reads::<ForcedToolChoice>(&keys::LLM.tool_choice);
    reads::<SystemRole>(&keys::LLM.system_role);
    assert_eq!(words(&keys::LLM.provider), providers::PRESETS.each_ref().map(|preset| preset.name));
}
