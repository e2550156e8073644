//! Reads what a task asks a language model.
//! Never asks it.

use std::path::Path;

use serde_json::Value;

use super::routes::Router;
use crate::{
    config::{findings::Findings, read_text, shape::Fields, tree::Node},
    model::{Prompt, PromptTool, Template},
};

/// Most replies where the task gives no number: enough for a few rounds of tools, few enough not to run away.
const MAX_TURNS: u32 = 8;
/// Most tokens of a reply where the task gives no number.
const MAX_TOKENS: u32 = 4_096;

/// The keys that only a call has.
const CALL_KEYS: [&str; 5] = ["agent", "capability", "tool", "with", "fallback"];

/// The prompt of a task that has one. Keys of a call beside it are mistakes.
pub(super) fn read(fields: &Fields<'_>, router: &mut Router<'_>, findings: &mut Findings) -> Option<Prompt> {
    let prompt = fields.node("prompt")?;
    if let Some((key, at)) = CALL_KEYS.iter().find_map(|key| Some((key, fields.key_extent(key)?))) {
        let message = format!("a task has `prompt` or `{key}`, not both");
        findings.error("two_works", at, message).help("`tools` lists what the model may call");
    }
    if !router.has_model() {
        let found =
            findings.error("no_model", prompt.extent, "a prompt needs a language model, and none is configured");
        found.help("add `[llm]` or `[models.NAME]` with `base_url` and `model` to the agents file");
    }
    let tools = fields.texts("tools").into_iter();
    Some(Prompt {
        model: fields.node("model").and_then(|node| router.model(node, findings)),
        system: fields.node("system").map(|node| Template(node.to_json())),
        prompt: Template(prompt.to_json()),
        output_schema: fields.node("output_schema").and_then(|node| schema(node, findings)),
        tools: tools.filter_map(|(name, node)| router.prompt_tool(name, node, findings)).collect(),
        max_turns: fields.whole("max_turns").unwrap_or(MAX_TURNS),
        max_tokens: fields.whole("max_tokens").unwrap_or(MAX_TOKENS),
    })
}

/// A schema that stands in the plan, or in the file that the plan names (relative to the plan's own folder).
fn schema(node: &Node, findings: &mut Findings) -> Option<Value> {
    let schema = match node.as_text() {
        None => node.to_json(),
        Some(name) => {
            let folder = Path::new(findings.file()).parent().unwrap_or(Path::new(""));
            let read = read_text(&folder.join(name)).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
                Ok(schema) => schema,
                Err(problem) => {
                    let message = format!("the schema `{name}` cannot be read: {problem}");
                    findings.error("bad_schema", node.extent, message);
                    return None;
                }
            }
        }
    };
    if let Err(error) = jsonschema::validator_for(&schema) {
        findings.error("bad_schema", node.extent, format!("`output_schema` is no JSON Schema: {error}"));
        return None;
    }
    Some(schema)
}

impl PromptTool {
    /// Reads `agent` (all of its tools) or `agent.tool`.
    pub(super) fn parse(name: &str) -> Self {
        match name.split_once('.') {
            Some((agent, tool)) => Self { agent: agent.into(), tool: Some(tool.into()) },
            None => Self { agent: name.into(), tool: None },
        }
    }
}
