//! Reads the prompts of tasks, and the synthesis of the result.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::read_text;
use crate::config::schema::keys::{PLAN, PlanKeys, RESULT, SYNTHESIS, TASK, TaskKeys};
use crate::config::schema::table::{CheckedTable, Key};
use crate::config::validate::routes::{NO_MODEL_HELP, RouteResolver};
use crate::config::validate::work_keys::report_other_work;
use crate::config::yaml::document::DocumentNode;
use crate::json_schema::{CompiledSchema, FormatValidation, SchemaCheckError, SchemaLimits};
use crate::model::{OnFailure, Prompt, PromptSource, PromptTool, Task, Template, Work};

/// The default maximum number of exchanges: enough for a few rounds of tool calls, and a bound on runaway loops.
const DEFAULT_MAX_REPLIES: u32 = 8;
/// The default maximum tokens of a reply.
const DEFAULT_MAX_TOKENS: u32 = 4_096;

/// The keys that only a call has.
static CALL_ONLY_KEYS: [&Key<TaskKeys>; 6] =
    [&TASK.agent, &TASK.capability, &TASK.tool, &TASK.with, &TASK.awaits, &TASK.fallback];

/// Returns the prompt of a task, if it has one: its own, or that of an agent. Reports keys of a call next to it.
pub(in crate::config::validate) fn read_prompt(
    fields: CheckedTable<'_, TaskKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Prompt> {
    let (prompt, used) = (fields.node(&TASK.prompt), fields.node(&TASK.use_prompt));
    let node = prompt.or(used)?;
    let own_key = if prompt.is_some() { TASK.prompt.name } else { TASK.use_prompt.name };
    report_other_work(fields, own_key, CALL_ONLY_KEYS, "`tools` lists the tools that the model can call", sink);
    if let (Some(_), Some(at)) = (prompt, fields.key_span(&TASK.use_prompt)) {
        let error = sink.error("two_works", at, "a task has `prompt` or `use_prompt`, not both");
        error.help("`system` can add instructions to the prompt of an agent");
    }
    require_model("a prompt", node, router, sink);
    let source = match (prompt, used) {
        (None, Some(used)) => PromptSource::UsePrompt(router.resolve_server_prompt(CheckedTable::new(used), sink)?),
        (prompt, _) => PromptSource::Prompt(Template(prompt.unwrap_or(node).to_json())),
    };
    let tools = fields.text_list(&TASK.tools).into_iter();
    Some(Prompt {
        model: fields.node(&TASK.model).and_then(|node| router.resolve_model(node, sink)),
        system: fields.node(&TASK.system).map(|node| Template(node.to_json())),
        source,
        output_schema: fields.node(&TASK.output_schema).and_then(|node| read_output_schema(node, sink)),
        tools: tools.filter_map(|(name, node)| router.resolve_prompt_tool(name, node, sink)).collect(),
        max_turns: fields.integer(&TASK.max_turns).unwrap_or(DEFAULT_MAX_REPLIES),
        max_tokens: fields.integer(&TASK.max_tokens).unwrap_or(DEFAULT_MAX_TOKENS),
    })
}

/// Reports that `what` needs a language model, if none is configured.
fn require_model(what: &str, node: &DocumentNode<'_>, router: &RouteResolver<'_>, sink: &mut DiagnosticSink) {
    if !router.has_model() {
        let message = format!("{what} requires a language model, and none is configured");
        sink.error("no_model", node.span, message).help(NO_MODEL_HELP);
    }
}

/// The ID of the synthesis task.
const SYNTHESIS_TASK_ID: &str = "answer";

/// Returns the prompt of the synthesis, if the plan sets one.
pub(in crate::config::validate) fn synthesis_node<'n>(
    plan: CheckedTable<'n, PlanKeys>,
) -> Option<&'n DocumentNode<'n>> {
    let result = CheckedTable::new(plan.node(&PLAN.result).filter(|node| node.as_text().is_none())?);
    CheckedTable::new(result.node(&RESULT.synthesize)?).node(&SYNTHESIS.prompt)
}

/// Returns the task that synthesizes one answer from the results of all `others`, if the plan asks for one.
pub(in crate::config::validate) fn synthesis_task(
    plan: CheckedTable<'_, PlanKeys>,
    others: &[Arc<Task>],
    router: &RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Task> {
    let node = plan.node(&PLAN.result)?;
    let section = match node.as_text() {
        Some("synthesize") => None,
        Some(_) => return None,
        None => Some(CheckedTable::new(CheckedTable::new(node).node(&RESULT.synthesize)?)),
    };
    require_model("a synthesis", node, router, sink);
    if others.iter().any(|task| task.id.as_str() == SYNTHESIS_TASK_ID) {
        let error = sink.error("bad_name", node.span, "the ID `answer` is reserved for the synthesis");
        error.help("rename this task");
    }
    let setting = |key| section.and_then(|section| section.node(key));
    let described = || {
        plan.text(&PLAN.description).or_else(|| plan.text(&PLAN.name)).unwrap_or("Summarize the results.").to_owned()
    };
    // A description is plain text and must not be parsed as an expression.
    let request =
        setting(&SYNTHESIS.prompt).map_or_else(|| described().replace("${{", "$${{").into(), DocumentNode::to_json);
    let prompt = Prompt {
        model: setting(&SYNTHESIS.model).and_then(|node| router.resolve_model(node, sink)),
        system: None,
        source: PromptSource::Prompt(Template(request)),
        output_schema: setting(&SYNTHESIS.output_schema).and_then(|node| read_output_schema(node, sink)),
        tools: Vec::new(),
        max_turns: DEFAULT_MAX_REPLIES,
        max_tokens: section.and_then(|section| section.integer(&SYNTHESIS.max_tokens)).unwrap_or(DEFAULT_MAX_TOKENS),
    };
    Some(Task {
        needs: others.iter().filter(|task| task.hook.is_none()).map(|task| task.id.clone()).collect(),
        on_failure: OnFailure::Continue,
        ..Task::new(SYNTHESIS_TASK_ID.into(), Work::Synthesis(Box::new(prompt)))
    })
}

/// Returns the schema that is inline in the plan, or in a file relative to the plan's folder.
fn read_output_schema(node: &DocumentNode<'_>, sink: &mut DiagnosticSink) -> Option<Value> {
    let schema = match node.as_text() {
        None => node.to_json(),
        Some(name) => {
            let folder = Path::new(sink.file()).parent().unwrap_or(Path::new(""));
            let read = read_text(&folder.join(name)).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
                Ok(schema) => schema,
                Err(problem) => {
                    let message = format!("the schema `{name}` cannot be read: {problem}");
                    sink.error("bad_schema", node.span, message);
                    return None;
                }
            }
        }
    };
    match CompiledSchema::compile(schema.clone(), FormatValidation::DraftDefault, &SchemaLimits::INLINE) {
        Ok(_) => Some(schema),
        Err(SchemaCheckError::InvalidSchema(reason)) => {
            sink.error("bad_schema", node.span, format!("`output_schema` is not a valid JSON Schema: {reason}"));
            None
        }
        Err(unchecked) => {
            let warning = sink.warning("bad_schema", node.span, format!("`output_schema`: {unchecked}"));
            warning.help("the model's answers are not validated against it");
            Some(schema)
        }
    }
}

impl PromptTool {
    /// Parses `agent` (all of its tools) or `agent.tool`.
    pub(in crate::config::validate) fn parse(name: &str) -> Self {
        match name.split_once('.') {
            Some((agent, tool)) => Self { agent: agent.into(), tool: Some(tool.into()) },
            None => Self { agent: name.into(), tool: None },
        }
    }
}
