//! The concierge: one server with the tools of several agents, and one that works for a long time.

use rmcp::model::{CallToolResult, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::research::{self, ResearchArguments, ResearchResult};
use super::travel::{self, BookTripArguments, Booking, default_nights};
use crate::demo::call::{DemoCall, ToolStop, describe_tool, tool_result};
use crate::demo::effects::EffectLog;

/// The default number of steps of `long_running_agent`.
const STEPS: u32 = 10;
/// The default duration of a step.
const STEP_DELAY_MS: u64 = 1_000;

/// The arguments of `travel_agent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TravelAgentArguments {
    /// The city to travel to.
    #[schemars(length(min = 1))]
    destination: String,
    /// The number of nights, from 1 to 30. Defaults to 3.
    #[serde(default = "default_nights")]
    #[schemars(range(min = 1, max = 30))]
    nights: u32,
    /// The delay before each progress step, in milliseconds. Defaults to 150.
    #[serde(default)]
    delay_ms: Option<u64>,
}

/// The arguments of `research_agent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResearchAgentArguments {
    /// What to find things to read about, such as a city.
    #[schemars(length(min = 1))]
    topic: String,
    /// The delay before each finding, in milliseconds. Defaults to 100.
    #[serde(default)]
    delay_ms: Option<u64>,
}

/// The arguments of `long_running_agent`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LongRunningArguments {
    /// The number of steps, from 1 to 1000. Defaults to 10.
    #[serde(default = "default_steps")]
    #[schemars(range(min = 1, max = 1000))]
    steps: u32,
    /// The duration of a step, in milliseconds. Defaults to 1000.
    #[serde(default)]
    delay_ms: Option<u64>,
}

fn default_steps() -> u32 {
    STEPS
}

/// The result of `long_running_agent`.
#[derive(Debug, Serialize, JsonSchema)]
struct WorkResult {
    /// The number of steps that were done.
    steps: u32,
}

/// Returns the tools of the agent.
pub(crate) fn tools() -> Vec<Tool> {
    let effects = || ToolAnnotations::new().read_only(false).destructive(false).idempotent(false);
    vec![
        describe_tool::<TravelAgentArguments, Booking>(
            "travel_agent",
            "Travel agent",
            "Estimates a trip, asks the person to confirm the price, and books it. Nothing leaves this machine.",
            effects(),
        ),
        describe_tool::<ResearchAgentArguments, ResearchResult>(
            "research_agent",
            "Research agent",
            "Finds books about a topic in a small built-in demo library, and asks the host's language model to \
             summarize them.",
            effects(),
        ),
        describe_tool::<LongRunningArguments, WorkResult>(
            "long_running_agent",
            "Long-running agent",
            "Works through a number of steps and reports its progress. It continues while the host is away, over \
             Streamable HTTP.",
            effects(),
        ),
    ]
}

/// Executes `travel_agent`.
pub(crate) async fn travel(call: &DemoCall, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    let TravelAgentArguments { destination, nights, delay_ms } = call.arguments()?;
    let trip = BookTripArguments { city: destination, nights, from: None, budget: None, delay_ms };
    travel::book(call, effects, &trip).await
}

/// Executes `research_agent`.
pub(crate) async fn research(call: &DemoCall, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    let ResearchAgentArguments { topic, delay_ms } = call.arguments()?;
    let search = ResearchArguments { topic, depth: research::default_depth(), delay_ms };
    research::find(call, effects, &search).await
}

/// Executes `long_running_agent`.
pub(crate) async fn work(call: &DemoCall, effects: &EffectLog) -> Result<CallToolResult, ToolStop> {
    let LongRunningArguments { steps, delay_ms } = call.arguments()?;
    if !(1..=1_000).contains(&steps) {
        return Err(ToolStop::Failed(format!("`steps` is {steps}: expected 1 to 1000")));
    }
    for step in 1..=steps {
        call.pause(delay_ms.unwrap_or(STEP_DELAY_MS)).await?;
        let percent = 100.0 * f64::from(step) / f64::from(steps);
        call.progress(percent.round(), format!("step {step} of {steps}")).await;
    }
    effects.record(call).await?;
    tool_result(format!("Did {steps} steps."), &WorkResult { steps })
}
