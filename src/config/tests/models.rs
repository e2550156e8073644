//! Tests of the language models and the planner settings of agents files.

use super::*;
use crate::config::agents::providers;
use crate::model::{Dialect, LlmSpec, MaxTokensField, StructuredOutput};

/// Returns the models of a file, or its diagnostics as text.
fn parse_models(text: &str) -> Result<Vec<LlmSpec>, String> {
    let environment = TestEnvironment::of(&[("KEY", "hunter2")]);
    parse_agents("agents.toml", text, &environment).map(|file| file.models).map_err(|errors| errors.to_string())
}

#[test]
fn provider_sets_defaults() {
    let with = |section: &str| {
        let models =
            parse_models(&format!("[llm]\nmodel = \"m\"\n{section}")).unwrap_or_else(|errors| panic!("{errors}"));
        (models[0].base_url.clone(), models[0].dialect)
    };
    for preset in &providers::PRESETS {
        let known = preset.base_url.unwrap_or("https://mine.example/v1");
        let section = format!("provider = \"{}\"\nbase_url = \"{known}\"", preset.name);
        assert_eq!(with(&section), (known.to_owned(), preset.dialect));
        if preset.base_url.is_some() {
            assert_eq!(with(&format!("provider = \"{}\"", preset.name)), (known.to_owned(), preset.dialect));
        }
    }
    let openai = providers::find_preset("openai").expect("a preset").dialect;
    let own = "provider = \"openai\"\nbase_url = \"http://127.0.0.1:1/v1\"\ntemperature = true\nimages = false\n\
               max_tokens_field = \"max_tokens\"\nstructured_output = \"text\"";
    let dialect = Dialect {
        temperature: true,
        images: false,
        max_tokens_field: MaxTokensField::MaxTokens,
        structured_output: StructuredOutput::Text,
        ..openai
    };
    assert_eq!(with(own), ("http://127.0.0.1:1/v1".to_owned(), dialect));
    assert_eq!(with("base_url = \"http://x/v1\"").1, Dialect::default());
}

#[test]
fn temperature_enables_the_parameter() {
    let with = |section: &str| {
        let models =
            parse_models(&format!("[llm]\nmodel = \"m\"\n{section}")).unwrap_or_else(|errors| panic!("{errors}"));
        (models[0].dialect.temperature, models[0].settings.temperature)
    };
    assert_eq!(with("provider = \"openai\""), (false, None));
    assert_eq!(with("provider = \"openai\"\ntemperature = true"), (true, None));
    assert_eq!(with("provider = \"openai\"\ntemperature = 0.2"), (true, Some(0.2)));
    assert_eq!(with("provider = \"ollama\"\ntemperature = 1"), (true, Some(1.0)));
    assert_eq!(with("provider = \"ollama\"\ntemperature = false"), (false, None));
}

#[test]
fn default_model_comes_first() {
    let text = "[models.fast]\nprovider = \"ollama\"\nmodel = \"a\"\n[models.able]\nprovider = \"openai\"\nmodel = \
                \"b\"\n\
                api_key_env_var = \"KEY\"\n";
    let shown = |text: &str| {
        let models = parse_models(text).unwrap_or_else(|errors| panic!("{errors}"));
        models.into_iter().map(|model| (model.section_name(), model.model, model.api_key)).collect::<Vec<_>>()
    };
    let of =
        |section: &str, model: &str, key: Option<&str>| (section.to_owned(), model.to_owned(), key.map(str::to_owned));
    let further = [of("[models.fast]", "a", None), of("[models.able]", "b", Some("hunter2"))];
    assert_eq!(shown(text), further);
    let with_default = format!("{text}[llm]\nbase_url = \"http://x\"\nmodel = \"c\"");
    assert_eq!(shown(&with_default), [&[of("[llm]", "c", None)], &further[..]].concat());
}

#[test]
fn planner_limits_do_not_need_a_model() {
    let planner = |text: &str| parse_agents("agents.toml", text, &TestEnvironment::of(&[])).expect("valid").planner;
    assert_eq!(planner(""), PlannerSettings::default());
    let text = "[planner]\nmax_output_tokens = 32000\nmax_tasks = 40\ntemperature = 0.5\nreasoning_effort = \"high\"\n\
                max_tools = 8\nform = \"compact\"\nspeculate = true";
    let expected = PlannerSettings {
        model: None,
        max_output_tokens: Some(32_000),
        temperature: Some(0.5),
        reasoning_effort: Some("high".to_owned()),
        max_tasks: 40,
        max_tools: 8,
        form: PlannerForm::Compact,
        speculate: true,
    };
    assert_eq!(planner(text), expected);
}

#[test]
fn unusable_models_are_rejected() {
    for (text, message) in [
        ("[llm]\nmodel = \"m\"", "the model has no `base_url`"),
        ("[models.a]\nmodel = \"m\"\nprovider = \"azure\"", "the model has no `base_url`"),
        ("[models.a]\nprovider = \"ollama\"", "a language model must have `model`"),
        ("[models.llm]\nprovider = \"ollama\"\nmodel = \"m\"", "the name `llm` is already used by `[llm]`"),
        ("[llm]\nmodel = \"m\"\nprovider = \"olama\"", "did you mean `ollama`?"),
        ("[llm]\nmodel = \"m\"\nprovider = \"ollama\"\nprices = { input = 1 }", "`prices` must have `output`"),
        ("[llm]\nmodel = \"m\"\nprovider = \"ollama\"\nscores = { speed = 2 }", "`speed` must be a number from 0 to 1"),
        ("[models.able]\nmodel = \"m\"\nprovider = \"ollama\"\n[planner]\nmodel = \"abel\"", "did you mean `able`?"),
        ("[planner]\nmodel = \"llm\"", "the agents file has no models; add one as `[llm]`"),
        (
            "[llm]\nmodel = \"m\"\nprovider = \"ollama\"\ntemperature = 2.5",
            "`temperature` must be a number from 0 to 2",
        ),
        (
            "[llm]\nmodel = \"m\"\nprovider = \"ollama\"\ntemperature = \"hot\"",
            "`temperature` must be a number from 0 to 2, `true`, or `false`, not text",
        ),
        ("[llm]\nmodel = \"m\"\nprovider = \"ollama\"\nseed = -1", "`seed` must be an integer from 0 to"),
        (
            "[llm]\nmodel = \"m\"\nprovider = \"ollama\"\nextra_body = { top_k = 1, messages = [] }",
            "`extra_body` must not contain `messages`: kapell sets it",
        ),
        (
            "[llm]\nmodel = \"m\"\nprovider = \"deepseek\"\nschema_in_prompt = false",
            "with `schema_in_prompt = false`, the model does not receive the schema",
        ),
        (
            "[llm]\nmodel = \"m\"\nprovider = \"openai\"\n[planner]\ntemperature = 0",
            "the model `llm` does not support a temperature",
        ),
        ("[planner]\nmax_output_tokens = 0", "`max_output_tokens` must be an integer from 1 to 4294967295"),
        ("[planner]\nmax_tokens = 700", "write `max_output_tokens`"),
        ("[planner]\nmax_tasks = 101", "`max_tasks` must be an integer from 1 to 100"),
    ] {
        let errors = parse_models(text).expect_err(text);
        assert!(errors.contains(message), "{errors}");
    }
}
