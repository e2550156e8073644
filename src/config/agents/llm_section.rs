//! Reads the section of a language model. Keys of the section override the defaults of its provider.

use std::time::Duration;

use super::agents_file::{AgentsFile, PlannerSettings};
use super::providers::find_preset;
use super::section_reader::{SectionReader, parse_url};
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{PRICES, SCORES};
use crate::config::schema::table::{CheckedTable, TableSchema};
use crate::config::yaml::document::DocumentNode;
use crate::expression;
use crate::model::{Dialect, HumanDuration, LlmSpec, OWN_KEYS, Prices, RequestSettings, Scores, StructuredOutput};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2 * 60);

impl SectionReader<'_> {
    /// Reads the model `name`. Returns `None` if its URL or its model name is missing or invalid.
    pub(crate) fn read_model(&self, name: &str, findings: &mut DiagnosticSink) -> Option<LlmSpec> {
        let fields = &self.fields;
        let headers = self.read_headers(findings);
        let api_key = self.read_secret("api_key_env_var", findings);
        let preset = fields.text("provider").and_then(find_preset);
        let base_url = match (fields.node("base_url"), preset.and_then(|preset| preset.base_url)) {
            (Some(node), _) => parse_url(node, "base_url", findings),
            (None, Some(known)) => Some(known.to_owned()),
            (None, None) => {
                if !fields.has("base_url") {
                    let found = findings.error("missing_key", self.span, "the model has no `base_url`");
                    found.help("set `base_url` to the URL of its API, or set a `provider`");
                }
                None
            }
        };
        Some(LlmSpec {
            name: name.to_owned(),
            base_url: base_url?,
            model: fields.text("model")?.to_owned(),
            api_key,
            headers,
            query: fields.text_map("query").map(|(name, _, value)| (name.to_owned(), value.to_owned())).collect(),
            timeout: fields.duration("timeout").map_or(DEFAULT_TIMEOUT, |HumanDuration(duration)| duration),
            deadline: fields.duration("deadline").map(|HumanDuration(duration)| duration),
            dialect: read_dialect(fields, preset.map(|preset| preset.dialect).unwrap_or_default(), findings),
            settings: read_settings(fields, findings),
            scores: read_scores(fields),
            prices: read_prices(fields),
        })
    }
}

/// Reads the settings of the planner, with `model` or the default model.
pub(crate) fn read_planner(fields: &CheckedTable<'_>, model: Option<String>) -> PlannerSettings {
    #[expect(clippy::cast_possible_truncation, reason = "a temperature needs no more digits")]
    let temperature = fields.number("temperature").map(|temperature| temperature as f32);
    PlannerSettings {
        model,
        max_tokens: fields.integer("max_tokens"),
        temperature,
        reasoning_effort: fields.text("reasoning_effort").map(str::to_owned),
        max_tasks: fields.integer("max_tasks").unwrap_or(PlannerSettings::DEFAULT_MAX_TASKS),
    }
}

/// Reports a temperature that requests to the planning model would not contain.
pub(crate) fn check_planner(fields: &CheckedTable<'_>, file: &AgentsFile, findings: &mut DiagnosticSink) {
    let Some(node) = fields.node("temperature") else { return };
    let Some(spec) = file.planner_model().filter(|spec| !spec.dialect.temperature) else { return };
    let message = format!("the model `{}` does not support a temperature", spec.name);
    let help = format!("remove it, or set `temperature = true` in {} if the model supports it", spec.section_name());
    findings.error("temperature", node.span, message).help(help);
}

/// Returns the model that `node` refers to, or reports that `known` does not contain it.
pub(crate) fn resolve_model<'n>(
    node: &DocumentNode<'_>,
    known: impl Iterator<Item = &'n str> + Clone,
    findings: &mut DiagnosticSink,
) -> Option<String> {
    let name = node.as_text()?;
    if known.clone().any(|model| model == name) {
        return Some(name.to_owned());
    }
    let help = findings.did_you_mean(name, known.clone()).unwrap_or_else(|| match known.clone().next() {
        Some(_) => format!("the agents file has {}", expression::format_names(known)),
        None => "the agents file has no models; add one as `[llm]`".to_owned(),
    });
    let message = format!("the model `{name}` is not in the agents file");
    findings.error("unknown_model", node.span, message).help(help);
    None
}

fn read_dialect(fields: &CheckedTable<'_>, preset: Dialect, findings: &mut DiagnosticSink) -> Dialect {
    let flag = |name, preset| fields.boolean(name).unwrap_or(preset);
    let structured_output = fields.choice("structured_output").unwrap_or(preset.structured_output);
    let hides_form = fields.node("schema_in_prompt").filter(|_| fields.boolean("schema_in_prompt") == Some(false));
    if let Some(node) = hides_form.filter(|_| structured_output != StructuredOutput::JsonSchema) {
        let message = "with `schema_in_prompt = false`, the model does not receive the schema".to_owned();
        let found = findings.error("unseen_schema", node.span, message);
        found.help("remove it, or set `structured_output = \"json_schema\"` if the endpoint supports schemas");
    }
    Dialect {
        max_tokens_field: fields.choice("max_tokens_field").unwrap_or(preset.max_tokens_field),
        max_output_tokens: fields.integer("max_output_tokens").or(preset.max_output_tokens),
        temperature: fields.number("temperature").is_some() || flag("temperature", preset.temperature),
        stop: flag("stop", preset.stop),
        structured_output,
        schema_in_prompt: flag("schema_in_prompt", preset.schema_in_prompt),
        tool_choice: fields.choice("tool_choice").unwrap_or(preset.tool_choice),
        system_role: fields.choice("system_role").unwrap_or(preset.system_role),
        stream_usage: flag("stream_usage", preset.stream_usage),
        echo_reasoning: flag("echo_reasoning", preset.echo_reasoning),
        tools: flag("tools", preset.tools),
        images: flag("images", preset.images),
        audio: flag("audio", preset.audio),
    }
}

fn read_settings(fields: &CheckedTable<'_>, findings: &mut DiagnosticSink) -> RequestSettings {
    let extra_body = fields.node("extra_body");
    for (name, entry) in extra_body.and_then(DocumentNode::as_map).into_iter().flatten() {
        if let Some((_, setting)) = OWN_KEYS.iter().find(|(key, _)| key == name) {
            let message = format!("`extra_body` must not contain `{name}`: kapell sets it");
            findings.error("reserved_key", entry.key_span, message).help(format!("remove it: {setting}"));
        }
    }
    let extra_body = extra_body.map(DocumentNode::to_json).and_then(|extra_body| extra_body.as_object().cloned());
    RequestSettings {
        temperature: fields.number("temperature"),
        seed: fields.integer("seed"),
        reasoning_effort: fields.text("reasoning_effort").map(str::to_owned),
        extra_body: extra_body.unwrap_or_default(),
    }
}

fn read_scores(fields: &CheckedTable<'_>) -> Scores {
    let middle = Scores::default();
    let Some(given) = subtable(fields, "scores", &SCORES) else { return middle };
    #[expect(clippy::cast_possible_truncation, reason = "a score needs no more digits")]
    let score = |name, middle| given.number(name).map_or(middle, |score| score as f32);
    Scores {
        cost: score("cost", middle.cost),
        speed: score("speed", middle.speed),
        intelligence: score("intelligence", middle.intelligence),
    }
}

fn read_prices(fields: &CheckedTable<'_>) -> Option<Prices> {
    let given = subtable(fields, "prices", &PRICES)?;
    Some(Prices { input: given.number("input")?, output: given.number("output")? })
}

fn subtable<'n>(fields: &CheckedTable<'n>, name: &str, section: &'static TableSchema) -> Option<CheckedTable<'n>> {
    Some(CheckedTable::new(fields.node(name)?, section))
}
