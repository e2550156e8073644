//! Tests of the JSON Schemas: they equal the committed files, and they agree with the readers.

use serde_json::Value;

use super::*;
use crate::config::agents::providers;
use crate::config::schema::keys;

#[test]
fn committed_schemas_are_up_to_date() {
    for (path, schema) in [("schemas/plan.schema.json", plan_schema()), ("schemas/agents.schema.json", agents_schema())]
    {
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
    let schema = plan_schema();
    for section in
        [&keys::PLAN, &keys::INPUT, &keys::DEFAULTS, &keys::TASK, &keys::FALLBACK, &keys::RETRY, &keys::BACKOFF]
    {
        assert_keys(&schema, section, &keys::PLAN);
    }
    let schema = agents_schema();
    for section in [&keys::AGENTS_FILE, &keys::AGENT, &keys::SAMPLING, &keys::LLM, &keys::PRICES, &keys::SCORES] {
        assert_keys(&schema, section, &keys::AGENTS_FILE);
    }
}

fn assert_keys(
    schema: &Value,
    section: &'static crate::config::schema::table::TableSchema,
    root: &'static crate::config::schema::table::TableSchema,
) {
    let schema = if std::ptr::eq(section, root) { schema } else { &schema["$defs"][section.definition] };
    let listed: Vec<_> =
        schema["properties"].as_object().expect("it has properties").keys().map(String::as_str).collect();
    assert_eq!(listed, section.known_names().collect::<Vec<_>>(), "{}", section.definition);
    for name in section.known_names() {
        assert!(schema["properties"][name]["description"].as_str().is_some_and(|about| !about.is_empty()), "{name}");
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
        Consent, Effect, ForcedToolChoice, InputType, MaxTokensField, OnFailure, Protocol, ResultChecks,
        StructuredOutput, SystemRole,
    };
    fn reads<T: serde::de::DeserializeOwned>(section: &'static crate::config::schema::table::TableSchema, name: &str) {
        let crate::config::schema::table::ValueType::Choice(words) =
            &section.key(name).expect("the key is there").value_type
        else {
            panic!("{name} is not a choice")
        };
        for (word, _) in *words {
            assert!(serde_json::from_value::<T>((*word).into()).is_ok(), "{name}: {word}");
        }
    }
    reads::<Effect>(&keys::TASK, "effect");
    reads::<Effect>(&keys::AGENT, "effect");
    reads::<OnFailure>(&keys::TASK, "on_failure");
    reads::<InputType>(&keys::INPUT, "type");
    reads::<Protocol>(&keys::AGENT, "protocol");
    reads::<Consent>(&keys::SAMPLING, "policy");
    reads::<ResultChecks>(&keys::AGENT, "check_results");
    reads::<MaxTokensField>(&keys::LLM, "max_tokens_field");
    reads::<StructuredOutput>(&keys::LLM, "structured_output");
    reads::<ForcedToolChoice>(&keys::LLM, "tool_choice");
    reads::<SystemRole>(&keys::LLM, "system_role");
    let crate::config::schema::table::ValueType::Choice(words) =
        &keys::LLM.key("provider").expect("the key is there").value_type
    else {
        panic!("no choice")
    };
    let presets = providers::PRESETS.iter().map(|preset| preset.name);
    assert!(words.iter().map(|(word, _)| *word).eq(presets));
}
