//! Tests that load whole files and compare whole plans or reports.

mod agents;
mod changes;
mod formatting;
mod hostile;
mod import;
mod inputs;
mod literals;
mod models;
mod plan_patch;
mod plans;
mod resources;
mod schemas;
mod values;

use std::collections::HashMap;

use indexmap::IndexMap;
use serde_json::json;

use super::*;
use crate::model::{AgentId, AgentInfo, Effect, ToolInfo};

/// An environment with fixed variables.
struct TestEnvironment(HashMap<&'static str, &'static str>);

impl TestEnvironment {
    fn of(variables: &[(&'static str, &'static str)]) -> Self {
        Self(variables.iter().copied().collect())
    }
}

impl Environment for TestEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).map(|&value| value.to_owned())
    }
    fn executable(&self) -> Result<String, String> {
        Ok("/opt/kapell".to_owned())
    }
    fn free_port(&self) -> Result<u16, String> {
        Ok(40_123)
    }
}

const AGENTS: &str = r#"
    [agents.travel]
    command = "travel"
    capabilities = ["booking"]
    [agents.research]
    url = "http://127.0.0.1:8006/mcp"
    effect = "read_only"
    enabled_tools = ["search", "fetch"]
    capabilities = { web-search = "search" }
    [agents.archive]
    command = "archive"
    capabilities = { web-search = "find", booking = "reserve" }
    [agents.old]
    command = "old"
    enabled = false
"#;

fn agents() -> AgentsFile {
    parse_agents("agents.toml", AGENTS, &TestEnvironment::of(&[])).expect("the agents file is right")
}

fn tool(name: &str, schema: serde_json::Value) -> ToolInfo {
    let input_schema = schema.as_object().expect("a schema is an object").clone();
    ToolInfo {
        name: name.to_owned(),
        title: None,
        description: None,
        input_schema,
        output_schema: None,
        effect: Some(Effect::ReadOnly),
    }
}

fn catalog() -> AgentCatalog {
    let search = tool(
        "search",
        json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "what to look for"},
                "limit": {"type": "integer", "minimum": 1, "maximum": 50},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
            },
            "required": ["query"],
            "additionalProperties": false,
        }),
    );
    let info = |tools| AgentInfo { protocol: "2025-11-25".to_owned(), tools, ..AgentInfo::default() };
    [
        ("research", Ok(info(vec![search, tool("fetch", json!({"type": "object", "required": ["url"]}))]))),
        ("travel", Err("it exited immediately".to_owned())),
        ("archive", Ok(info(vec![tool("find", json!({"type": "nonsense"})), tool("reserve", json!({}))]))),
    ]
    .into_iter()
    .map(|(id, info)| (AgentId::from(id), info))
    .collect()
}

fn load_test_plan(text: &str) -> Result<ValidatedPlan, Diagnostics> {
    load_plan("plans/test.yaml", text, &agents(), Some(&catalog()))
}

/// Renders a report as a person sees it, without color.
fn rendered(diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor())
        .with_width(110)
        .render_report(&mut text, &diagnostics.report())
        .expect("a String takes every write");
    text
}

/// Returns the codes of all diagnostics with their lines.
fn diagnostic_codes(text: &str) -> Vec<(String, usize)> {
    let diagnostics = match load_test_plan(text) {
        Ok(validated) => validated.warnings,
        Err(diagnostics) => diagnostics,
    };
    let line = |diagnostic: &Diagnostic| diagnostic.position.map_or(0, |position| position.line);
    diagnostics.list().iter().map(|diagnostic| (diagnostic.code.clone(), line(diagnostic))).collect()
}
