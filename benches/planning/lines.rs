//! A prompt in the manner of compilers of function calls: numbered lines of calls, where `$1` is the result of line 1.

use std::time::Instant;

use kapell::llm::Llm;
use kapell::model::{ChatMessage, ChatRequest, ChatRole, JsonObject, ToolInfo};
use serde_json::Value;

use crate::goals::EvalGoal;
use crate::models::CountingModel;
use crate::score::{Call, Score};

const SYSTEM: &str = "Make a plan for the request as numbered calls of the listed functions, one a line, such as \
`1. name(argument=\"value\")`. Calls run in parallel where possible. A later call can use the result of an earlier one as \
`$1` or `$1.field`. Use only these functions and no others, explain nothing, and end with `join()`.";

pub(crate) async fn plan_goal(model: &CountingModel<'_>, tools: &[ToolInfo], goal: &EvalGoal) -> Score {
    let start = Instant::now();
    let functions: String = tools
        .iter()
        .enumerate()
        .map(|(index, tool)| {
            let about = tool.description.as_deref().unwrap_or_default();
            let schema = Value::Object(tool.input_schema.clone());
            format!("{}. {}: {about} Arguments: {schema}\n", index + 1, tool.name)
        })
        .collect();
    let request = ChatRequest {
        system: Some(SYSTEM.to_owned()),
        messages: vec![
            ChatMessage::text(ChatRole::User, format!("Functions:\n{functions}\nRequest: {}", goal.text)).into(),
        ],
        max_tokens: crate::MAX_TOKENS,
        ..ChatRequest::default()
    };
    let reply = model.chat(&request).await.map(|reply| reply.text()).unwrap_or_default();
    let calls: Vec<Call> = reply.lines().filter_map(parse_line).filter(|call| call.tool != "join").collect();
    let known = |call: &Call| tools.iter().any(|tool| tool.name == call.tool);
    match !calls.is_empty() && calls.iter().all(known) {
        true => Score::of_plan(&calls, goal, true),
        false => Score::of_nothing(goal),
    }
    .with_cost(model.usage(), start.elapsed())
}

/// Parses `1. name(argument="value", other=$1.field)`.
fn parse_line(line: &str) -> Option<Call> {
    let (number, call) = line.trim().split_once(". ")?;
    let number: usize = number.parse().ok()?;
    let (tool, arguments) = call.split_once('(')?;
    let mut rest = arguments.trim_end().strip_suffix(')')?;
    let mut parsed = JsonObject::new();
    while let Some((name, value)) = rest.split_once('=') {
        let value = value.trim_start();
        let mut values = serde_json::Deserializer::from_str(value).into_iter::<Value>();
        let (value, length) = match values.next() {
            Some(Ok(found)) => (found, values.byte_offset()),
            _ => {
                let end = value.find(',').unwrap_or(value.len());
                (Value::from(value[..end].trim().trim_matches('\'')), end)
            }
        };
        parsed.insert(name.trim().to_owned(), value);
        let consumed = rest.len() - rest.split_once('=').map_or(0, |(_, value)| value.trim_start().len()) + length;
        rest = rest.get(consumed..).unwrap_or_default().trim_start().trim_start_matches(',').trim_start();
    }
    Some(Call { id: format!("t{number}"), tool: tool.trim().to_owned(), arguments: parsed.into() })
}
