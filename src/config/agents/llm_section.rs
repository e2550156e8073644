//! Reads the section of a language model. Keys of the section override the defaults of its provider.

use std::time::Duration;

use super::agents_file::{AgentsFile, PlannerSettings};
use super::providers::find_preset;
use super::section_reader::{SectionReader, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{LLM, LlmKeys, PLANNER, PRICES, PlannerKeys, SCORES};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::DocumentNode;
use crate::model::{Dialect, HumanDuration, LlmSpec, OWN_KEYS, Prices, RequestSettings, Scores, StructuredOutput};

/// The base URL of a model whose own one is unknown, because a variable is not set.
const UNKNOWN_BASE_URL: &str = "http://127.0.0.1/";

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60);

impl SectionReader<'_, LlmKeys> {
    /// Reads the model `name`. Returns `None` if its URL or its model name is missing or invalid.
    pub(crate) fn read_model(&self, name: &str, sink: &mut DiagnosticSink) -> Option<LlmSpec> {
        let fields = self.fields;
        let headers = self.read_headers((&LLM.http_headers, &LLM.env_http_headers), sink);
        let api_key = self.read_secret(&LLM.api_key_env_var, sink);
        let preset = fields.text(&LLM.provider).and_then(find_preset);
        let base_url = match (fields.node(&LLM.base_url), preset.and_then(|preset| preset.base_url)) {
            (Some(node), _) => parse_url(node, &LLM.base_url, sink),
            (None, Some(known)) => Some(known.to_owned()),
            (None, None) => {
                if !fields.has(&LLM.base_url) {
                    let error = sink.error("missing_key", self.span, "the model has no `base_url`");
                    error.help("set `base_url` to the URL of its API, or set a `provider`");
                }
                None
            }
        };
        let unset_variables = self.unset.borrow().clone();
        // No request is sent to a model whose variables are not set.
        let unknown = |fallback: &str| (!unset_variables.is_empty()).then(|| fallback.to_owned());
        Some(LlmSpec {
            name: name.to_owned(),
            base_url: base_url.or_else(|| unknown(UNKNOWN_BASE_URL))?,
            model: fields.text(&LLM.model).map(str::to_owned).or_else(|| unknown(name))?,
            api_key,
            headers,
            query: fields.text_map(&LLM.query).map(|(name, _, value)| (name.to_owned(), value.to_owned())).collect(),
            timeout: fields.duration(&LLM.timeout).map_or(DEFAULT_TIMEOUT, |HumanDuration(duration)| duration),
            deadline: fields.duration(&LLM.deadline).map(|HumanDuration(duration)| duration),
            dialect: read_dialect(fields, preset.map(|preset| preset.dialect).unwrap_or_default(), sink),
            settings: read_settings(fields, sink),
            scores: read_scores(fields),
            prices: read_prices(fields),
            unset_variables,
        })
    }
}

/// Reads the settings of the planner, with `model` or the default model.
pub(crate) fn read_planner(fields: CheckedTable<'_, PlannerKeys>, model: Option<String>) -> PlannerSettings {
    #[expect(clippy::cast_possible_truncation, reason = "a temperature needs no more digits")]
    let temperature = fields.number(&PLANNER.temperature).map(|temperature| temperature as f32);
    PlannerSettings {
        model,
        max_output_tokens: fields.integer(&PLANNER.max_output_tokens),
        temperature,
        reasoning_effort: fields.text(&PLANNER.reasoning_effort).map(str::to_owned),
        max_tasks: fields.integer(&PLANNER.max_tasks).unwrap_or(PlannerSettings::DEFAULT_MAX_TASKS),
        max_tools: fields.integer(&PLANNER.max_tools).unwrap_or(PlannerSettings::DEFAULT_MAX_TOOLS),
        form: fields.choice(&PLANNER.form).unwrap_or_default(),
        speculate: fields.boolean(&PLANNER.speculate).unwrap_or_default(),
    }
}

/// Reports a temperature that requests to the planning model would not contain.
pub(crate) fn check_planner(fields: CheckedTable<'_, PlannerKeys>, file: &AgentsFile, sink: &mut DiagnosticSink) {
    let Some(node) = fields.node(&PLANNER.temperature) else { return };
    let Some(spec) = file.planner_model().filter(|spec| !spec.dialect.temperature) else { return };
    let message = format!("the model `{}` does not support a temperature", spec.name);
    let help = format!("remove it, or set `temperature = true` in {} if the model supports it", spec.section_name());
    sink.error("temperature", node.span, message).help(help);
}

/// Returns the model that `node` refers to, or reports that `known` does not contain it.
pub(crate) fn resolve_model<'n>(
    node: &DocumentNode<'_>,
    known: impl Iterator<Item = &'n str> + Clone,
    sink: &mut DiagnosticSink,
) -> Option<String> {
    let name = node.as_text()?;
    if known.clone().any(|model| model == name) {
        return Some(name.to_owned());
    }
    let empty = "the agents file has no models; add one as `[llm]`";
    let help = sink.suggest(name, known, ("the agents file has", empty));
    let message = format!("the model `{name}` is not in the agents file");
    sink.error("unknown_model", node.span, message).help(help);
    None
}

fn read_dialect(fields: CheckedTable<'_, LlmKeys>, preset: Dialect, sink: &mut DiagnosticSink) -> Dialect {
    let flag = |key, preset| fields.boolean(key).unwrap_or(preset);
    let structured_output = fields.choice(&LLM.structured_output).unwrap_or(preset.structured_output);
    let hidden_schema =
        fields.node(&LLM.schema_in_prompt).filter(|_| fields.boolean(&LLM.schema_in_prompt) == Some(false));
    if let Some(node) = hidden_schema.filter(|_| structured_output != StructuredOutput::JsonSchema) {
        let message = "with `schema_in_prompt = false`, the model does not receive the schema".to_owned();
        let error = sink.error("unseen_schema", node.span, message);
        error.help("remove it, or set `structured_output = \"json_schema\"` if the endpoint supports schemas");
    }
    Dialect {
        max_tokens_field: fields.choice(&LLM.max_tokens_field).unwrap_or(preset.max_tokens_field),
        max_output_tokens: fields.integer(&LLM.max_output_tokens).or(preset.max_output_tokens),
        temperature: fields.number(&LLM.temperature).is_some() || flag(&LLM.temperature, preset.temperature),
        stop: flag(&LLM.stop, preset.stop),
        structured_output,
        schema_in_prompt: flag(&LLM.schema_in_prompt, preset.schema_in_prompt),
        schema_bounds: flag(&LLM.schema_bounds, preset.schema_bounds),
        tool_choice: fields.choice(&LLM.tool_choice).unwrap_or(preset.tool_choice),
        system_role: fields.choice(&LLM.system_role).unwrap_or(preset.system_role),
        stream_usage: flag(&LLM.stream_usage, preset.stream_usage),
        echo_reasoning: flag(&LLM.echo_reasoning, preset.echo_reasoning),
        tools: flag(&LLM.tools, preset.tools),
        images: flag(&LLM.images, preset.images),
        audio: flag(&LLM.audio, preset.audio),
    }
}

fn read_settings(fields: CheckedTable<'_, LlmKeys>, sink: &mut DiagnosticSink) -> RequestSettings {
    for (name, entry) in fields.entries(&LLM.extra_body) {
        if let Some((_, setting)) = OWN_KEYS.iter().find(|(key, _)| *key == name) {
            let message = format!("`extra_body` must not contain `{name}`: kapell sets it");
            sink.error("reserved_key", entry.key_span, message).help(format!("remove it: {setting}"));
        }
    }
    RequestSettings {
        temperature: fields.number(&LLM.temperature),
        seed: fields.integer(&LLM.seed),
        reasoning_effort: fields.text(&LLM.reasoning_effort).map(str::to_owned),
        extra_body: fields
            .entries(&LLM.extra_body)
            .map(|(name, entry)| (name.to_owned(), entry.node.to_json()))
            .collect(),
    }
}

fn read_scores(fields: CheckedTable<'_, LlmKeys>) -> Scores {
    let default = Scores::default();
    let Some(scores) = fields.node(&LLM.scores).map(CheckedTable::new) else { return default };
    #[expect(clippy::cast_possible_truncation, reason = "a score needs no more digits")]
    let score = |key, default| scores.number(key).map_or(default, |score| score as f32);
    Scores {
        cost: score(&SCORES.cost, default.cost),
        speed: score(&SCORES.speed, default.speed),
        intelligence: score(&SCORES.intelligence, default.intelligence),
    }
}

fn read_prices(fields: CheckedTable<'_, LlmKeys>) -> Option<Prices> {
    let prices = CheckedTable::new(fields.node(&LLM.prices)?);
    Some(Prices { input: prices.number(&PRICES.input)?, output: prices.number(&PRICES.output)? })
}
