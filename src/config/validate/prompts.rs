//! Reads the prompts of tasks, and the synthesis of the result.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::routes::RouteResolver;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::read_text;
use crate::config::schema::keys::{RESULT, SYNTHESIS};
use crate::config::schema::table::CheckedTable;
use crate::config::yaml::document::DocumentNode;
use crate::json_schema::{CompiledSchema, FormatValidation, SchemaCheckError, SchemaLimits};
use crate::model::{Budget, OnFailure, Prompt, PromptTool, Retry, Task, Template, Work};

/// The default maximum number of exchanges: enough for a few rounds of tool calls, and a bound on runaway loops.
const DEFAULT_MAX_REPLIES: u32 = 8;
/// The default maximum tokens of a reply.
const DEFAULT_MAX_TOKENS: u32 = 4_096;

/// The keys that only a call has.
const CALL_ONLY_KEYS: [&str; 6] = ["agent", "capability", "tool", "with", "await", "fallback"];

/// Returns the prompt of a task, if it has one. Reports keys of a call next to it.
pub(super) fn read_prompt(
    fields: &CheckedTable<'_>,
    router: &mut RouteResolver<'_>,
    findings: &mut DiagnosticSink,
) -> Option<Prompt> {
    let prompt = fields.node("prompt")?;
    if let Some((key, at)) = CALL_ONLY_KEYS.iter().find_map(|key| Some((key, fields.key_span(key)?))) {
        let message = format!("a task has `prompt` or `{key}`, not both");
        findings.error("two_works", at, message).help("`tools` lists the tools that the model can call");
    }
    require_model("a prompt", prompt, router, findings);
    let tools = fields.text_list("tools").into_iter();
    Some(Prompt {
        model: fields.node("model").and_then(|node| router.resolve_model(node, findings)),
        system: fields.node("system").map(|node| Template(node.to_json())),
        prompt: Template(prompt.to_json()),
        output_schema: fields.node("output_schema").and_then(|node| read_output_schema(node, findings)),
        tools: tools.filter_map(|(name, node)| router.resolve_prompt_tool(name, node, findings)).collect(),
        max_turns: fields.integer("max_turns").unwrap_or(DEFAULT_MAX_REPLIES),
        max_tokens: fields.integer("max_tokens").unwrap_or(DEFAULT_MAX_TOKENS),
    })
}

/// Reports that `what` needs a language model, if none is configured.
fn require_model(what: &str, node: &DocumentNode<'_>, router: &RouteResolver<'_>, findings: &mut DiagnosticSink) {
    if !router.has_model() {
        let message = format!("{what} requires a language model, and none is configured");
        let found = findings.error("no_model", node.span, message);
        found.help("add `[llm]` or `[models.NAME]` with `base_url` and `model` to the agents file");
    }
}

/// The ID of the synthesis task.
const SYNTHESIS_TASK_ID: &str = "answer";

/// Returns the prompt of the synthesis, if the plan sets one.
pub(super) fn synthesis_node<'n>(plan: &CheckedTable<'n>) -> Option<&'n DocumentNode<'n>> {
    let result = CheckedTable::new(plan.node("result").filter(|node| node.as_text().is_none())?, &RESULT);
    CheckedTable::new(result.node("synthesize")?, &SYNTHESIS).node("prompt")
}

/// Returns the task that synthesizes one answer from the results of all `others`, if the plan asks for one.
pub(super) fn synthesis_task(
    plan: &CheckedTable<'_>,
    others: &[Arc<Task>],
    router: &RouteResolver<'_>,
    findings: &mut DiagnosticSink,
) -> Option<Task> {
    let node = plan.node("result")?;
    let result = CheckedTable::new(node, &RESULT);
    let section = match node.as_text() {
        Some("synthesize") => None,
        Some(_) => return None,
        None => Some(CheckedTable::new(result.node("synthesize")?, &SYNTHESIS)),
    };
    require_model("a synthesis", node, router, findings);
    if others.iter().any(|task| task.id.as_str() == SYNTHESIS_TASK_ID) {
        let found = findings.error("bad_name", node.span, "the ID `answer` is reserved for the synthesis");
        found.help("rename this task");
    }
    let asked = |name| section.as_ref().and_then(|section| section.node(name));
    let described =
        || plan.text("description").or_else(|| plan.text("name")).unwrap_or("Summarize the results.").to_owned();
    // A description is plain text and must not be parsed as an expression.
    let request = asked("prompt").map_or_else(|| described().replace("${{", "$${{").into(), DocumentNode::to_json);
    let prompt = Prompt {
        model: asked("model").and_then(|node| router.resolve_model(node, findings)),
        system: None,
        prompt: Template(request),
        output_schema: asked("output_schema").and_then(|node| read_output_schema(node, findings)),
        tools: Vec::new(),
        max_turns: DEFAULT_MAX_REPLIES,
        max_tokens: section.as_ref().and_then(|section| section.integer("max_tokens")).unwrap_or(DEFAULT_MAX_TOKENS),
    };
    Some(Task {
        id: SYNTHESIS_TASK_ID.into(),
        title: None,
        needs: others.iter().map(|task| task.id.clone()).collect(),
        condition: None,
        foreach: None,
        approve: None,
        questions: None,
        work: Work::Synthesis(Box::new(prompt)),
        retry: Retry::default(),
        effect: None,
        timeout: None,
        deadline: None,
        on_failure: OnFailure::Continue,
        budget: Budget::default(),
    })
}

/// Returns the schema that is inline in the plan, or in a file relative to the plan's folder.
fn read_output_schema(node: &DocumentNode<'_>, findings: &mut DiagnosticSink) -> Option<Value> {
    let schema = match node.as_text() {
        None => node.to_json(),
        Some(name) => {
            let folder = Path::new(findings.file()).parent().unwrap_or(Path::new(""));
            let read = read_text(&folder.join(name)).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
                Ok(schema) => schema,
                Err(problem) => {
                    let message = format!("the schema `{name}` cannot be read: {problem}");
                    findings.error("bad_schema", node.span, message);
                    return None;
                }
            }
        }
    };
    match CompiledSchema::compile(schema.clone(), FormatValidation::DraftDefault, &SchemaLimits::INLINE) {
        Ok(_) => Some(schema),
        Err(SchemaCheckError::InvalidSchema(reason)) => {
            findings.error("bad_schema", node.span, format!("`output_schema` is not a valid JSON Schema: {reason}"));
            None
        }
        Err(unchecked) => {
            let found = findings.warning("bad_schema", node.span, format!("`output_schema`: {unchecked}"));
            found.help("the model's answers are not validated against it");
            Some(schema)
        }
    }
}

impl PromptTool {
    /// Parses `agent` (all of its tools) or `agent.tool`.
    pub(super) fn parse(name: &str) -> Self {
        match name.split_once('.') {
            Some((agent, tool)) => Self { agent: agent.into(), tool: Some(tool.into()) },
            None => Self { agent: name.into(), tool: None },
        }
    }
}
