//! The research agent: searches its own small library, and lets the host's model summarize the findings.

#![expect(deprecated, reason = "log levels are deprecated since 2026-07-28 and still in use everywhere")]

use rmcp::model::{CallToolResult, CreateMessageRequestParams, LoggingLevel, SamplingMessage, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::library::{self, ReadingItem};
use crate::demo::call::{DemoCall, ToolQuestion, ToolStop, describe_tool, tool_result};
use crate::demo::effects::EffectLog;
use crate::demo::fingerprint::fingerprint;

/// The default delay before each finding.
const STEP_DELAY_MS: u64 = 100;
/// The maximum length of the summary in tokens.
const MAX_SUMMARY_TOKENS: u32 = 100;
/// The logger name of this agent's messages.
const LOGGER: &str = "research";

/// The search of a reading list.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResearchArguments {
    /// What to find things to read about, such as a city.
    #[schemars(length(min = 1))]
    pub(super) topic: String,
    /// How many things to find at most; 3 if absent.
    #[serde(default = "default_depth")]
    #[schemars(range(min = 1, max = 5))]
    pub(super) depth: usize,
    /// The pause before each finding, in milliseconds; 100 if absent.
    #[serde(default)]
    pub(super) delay_ms: Option<u64>,
}

pub(super) fn default_depth() -> usize {
    3
}

/// The findings of a search.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ResearchResult {
    /// The topic of the search.
    topic: String,
    /// The findings, best first.
    findings: Vec<ReadingItem>,
    /// The summary, or a sentence that states why it is missing.
    summary: String,
    /// Whether `summary` contains a summary.
    summarised: bool,
}

/// Returns the tools of the agent.
pub(crate) fn tools() -> Vec<Tool> {
    vec![describe_tool::<ResearchArguments, ResearchResult>(
        "research",
        "Find books",
        "Finds books about a topic in a small built-in demo library, and asks the host's language model to summarize \
         them. Searches nothing else.",
        ToolAnnotations::new().read_only(true).idempotent(true),
    )]
}

/// Executes `research`.
pub(crate) async fn research(call: &DemoCall, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    find(call, effects, &call.arguments()?).await
}

/// Finds things to read, and has them summarized.
pub(super) async fn find(
    call: &DemoCall,
    effects: &EffectLog,
    arguments: &ResearchArguments,
) -> Result<CallToolResult, ToolStop> {
    let topic = arguments.topic.trim();
    if topic.is_empty() {
        return Err(ToolStop::Failed("`topic` is empty: expected a topic".into()));
    }
    if !(1..=5).contains(&arguments.depth) {
        return Err(ToolStop::Failed(format!("`depth` is {}: expected 1 to 5", arguments.depth)));
    }
    let findings = library::find_books(topic, arguments.depth);
    if !call.is_continued() {
        report_reading(call, topic, &findings, arguments.delay_ms.unwrap_or(STEP_DELAY_MS)).await?;
    }

    let listed: Vec<String> =
        findings.iter().map(|finding| format!("- {} ({}): {}", finding.title, finding.source, finding.note)).collect();
    let listed = listed.join("\n");
    let state = format!("{:016x}", fingerprint(&[topic, &listed]));
    let text = format!("Summarize this reading list about {topic}:\n{listed}");
    let mut prompt = CreateMessageRequestParams::new(vec![SamplingMessage::user_text(text)], MAX_SUMMARY_TOKENS);
    prompt.system_prompt =
        Some("You summarize reading lists for travelers in two or three plain sentences.".to_owned());
    prompt.temperature = Some(0.3);
    let (summary, summarised) = match call.sample(ToolQuestion { key: "summary", state: &state }, prompt).await? {
        Ok(summary) => (summary, true),
        Err(reason) => {
            call.log(LoggingLevel::Notice, LOGGER, format!("no summary: {reason}")).await;
            (format!("Not summarized: {reason}."), false)
        }
    };
    effects.record(call).await?;
    call.progress(100.0, if summarised { "summarized" } else { "done, without a summary" }).await;

    let text = format!("From the demo library, on {topic}:\n{listed}\n\n{summary}");
    tool_result(text, &ResearchResult { topic: topic.to_owned(), findings, summary, summarised })
}

/// Reports each finding, slowly enough for a person to read along.
async fn report_reading(call: &DemoCall, topic: &str, findings: &[ReadingItem], delay: u64) -> Result<(), ToolStop> {
    call.log(LoggingLevel::Info, LOGGER, format!("looking up `{topic}` in the demo library")).await;
    for (index, finding) in findings.iter().enumerate() {
        call.pause(delay).await?;
        call.log(LoggingLevel::Debug, LOGGER, format!("read `{}`", finding.title)).await;
        // The last tenth is reserved for the summary.
        let percent = 90.0 * (index + 1) as f64 / findings.len() as f64;
        call.progress(percent.round(), format!("read `{}`", finding.title)).await;
    }
    Ok(())
}
