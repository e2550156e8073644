//! Reads what a task asks a language model.
//! Never asks it.

use std::{path::Path, sync::Arc};

use serde_json::Value;

use super::routes::Router;
use crate::{
    config::{
        findings::Findings,
        keys::{RESULT, SYNTHESIS},
        read_text,
        shape::Fields,
        tree::Node,
    },
    json_schema::{Formats, Limits, Schema, Unchecked},
    model::{Budget, OnFailure, Prompt, PromptTool, Retry, Task, Template, Work},
};

/// Most replies where the task gives no number: enough for a few rounds of tools, few enough not to run away.
const MAX_TURNS: u32 = 8;
/// Most tokens of a reply where the task gives no number.
const MAX_TOKENS: u32 = 4_096;

/// The keys that only a call has.
const CALL_KEYS: [&str; 6] = ["agent", "capability", "tool", "with", "await", "fallback"];

/// The prompt of a task that has one. Keys of a call beside it are mistakes.
pub(super) fn read(fields: &Fields<'_>, router: &mut Router<'_>, findings: &mut Findings) -> Option<Prompt> {
    let prompt = fields.node("prompt")?;
    if let Some((key, at)) = CALL_KEYS.iter().find_map(|key| Some((key, fields.key_extent(key)?))) {
        let message = format!("a task has `prompt` or `{key}`, not both");
        findings.error("two_works", at, message).help("`tools` lists what the model may call");
    }
    need_model("a prompt", prompt, router, findings);
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

/// Says that `what` cannot be, where no language model is configured.
fn need_model(what: &str, node: &Node<'_>, router: &Router<'_>, findings: &mut Findings) {
    if !router.has_model() {
        let message = format!("{what} needs a language model, and none is configured");
        let found = findings.error("no_model", node.extent, message);
        found.help("add `[llm]` or `[models.NAME]` with `base_url` and `model` to the agents file");
    }
}

/// The id of the task that writes the one answer.
const ANSWER: &str = "answer";

/// What the plan asks of its one answer, where it says so.
pub(super) fn request<'n>(plan: &Fields<'n>) -> Option<&'n Node<'n>> {
    let result = Fields::of(plan.node("result").filter(|node| node.as_text().is_none())?, &RESULT);
    Fields::of(result.node("synthesize")?, &SYNTHESIS).node("prompt")
}

/// The task that writes one answer from what came of all `others`, if the plan asks for one.
pub(super) fn synthesis(
    plan: &Fields<'_>,
    others: &[Arc<Task>],
    router: &Router<'_>,
    findings: &mut Findings,
) -> Option<Task> {
    let node = plan.node("result")?;
    let result = Fields::of(node, &RESULT);
    let section = match node.as_text() {
        Some("synthesize") => None,
        Some(_) => return None,
        None => Some(Fields::of(result.node("synthesize")?, &SYNTHESIS)),
    };
    need_model("a synthesis", node, router, findings);
    if others.iter().any(|task| task.id.as_str() == ANSWER) {
        let found =
            findings.error("bad_name", node.extent, "the synthesis is the task `answer`, and the plan has another");
        found.help("call the other one something else");
    }
    let asked = |name| section.as_ref().and_then(|section| section.node(name));
    let described =
        || plan.text("description").or_else(|| plan.text("name")).unwrap_or("Sum up the results.").to_owned();
    // A description is plain text: what looks like an expression in it is none.
    let request = asked("prompt").map_or_else(|| described().replace("${{", "$${{").into(), Node::to_json);
    let prompt = Prompt {
        model: asked("model").and_then(|node| router.model(node, findings)),
        system: None,
        prompt: Template(request),
        output_schema: asked("output_schema").and_then(|node| schema(node, findings)),
        tools: Vec::new(),
        max_turns: MAX_TURNS,
        max_tokens: section.as_ref().and_then(|section| section.whole("max_tokens")).unwrap_or(MAX_TOKENS),
    };
    Some(Task {
        id: ANSWER.into(),
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

/// A schema that stands in the plan, or in the file that the plan names (relative to the plan's own folder).
fn schema(node: &Node<'_>, findings: &mut Findings) -> Option<Value> {
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
    match Schema::compile(schema.clone(), Formats::AsDraft, &Limits::INLINE) {
        Ok(_) => Some(schema),
        Err(Unchecked::InvalidSchema(reason)) => {
            findings.error("bad_schema", node.extent, format!("`output_schema` is no JSON Schema: {reason}"));
            None
        }
        Err(unchecked) => {
            let found = findings.warning("bad_schema", node.extent, format!("`output_schema`: {unchecked}"));
            found.help("the model's answers are not checked by it");
            Some(schema)
        }
    }
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
