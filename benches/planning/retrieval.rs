//! The recall of tools: how many of those that a task needs are shown to the planner, among the 527 of LiveMCPBench
//! (Apache-2.0). The annotated steps of the tasks stand in for those that a model would write.

use std::path::Path;
use std::sync::Mutex;

use kapell::config::AgentCatalog;
use kapell::llm::{Llm, OnDelta};
use kapell::model::{AgentInfo, ChatError, ChatReply, ChatRequest, ToolInfo};
use kapell::planner::{self, Goal, PlanningContext};
use serde_json::{Value, json};

use crate::{BenchResult, agents_file, models};

/// The steps that a task is annotated with, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    Annotated,
    None,
}

/// Measures the recall with and without the annotated steps.
pub(crate) async fn measure(folder: &Path) -> BenchResult<()> {
    let read =
        |path: &str| -> BenchResult<Value> { Ok(serde_json::from_str(&std::fs::read_to_string(folder.join(path))?)?) };
    let catalog = catalog(&read("tools/LiveMCPTool/tools.json")?);
    let tasks = read("annotated_data/all_annotations.json")?;
    let tools = catalog.values().flatten().map(|info| info.tools.len()).sum::<usize>();
    println!("{:24} {:>6} {:>8} {:>10}", format!("recall of {tools} tools"), "tasks", "recall", "all shown");
    for steps in [Steps::None, Steps::Annotated] {
        let (mut needed, mut shown, mut complete, mut counted) = (0, 0, 0, 0);
        for task in tasks.as_array().into_iter().flatten() {
            let names = numbered(&task["Annotator Metadata"]["Tools"]);
            let known = |name: &&String| catalog.values().flatten().any(|info| info.tool(name).is_some());
            let names: Vec<&String> = names.iter().filter(known).collect();
            if names.is_empty() {
                continue;
            }
            let prompt = prompt_for(&catalog, task, steps).await?;
            let is_shown = |name: &&&String| prompt.lines().any(|line| is_signature(line, name));
            let hits = names.iter().filter(is_shown).count();
            (needed, shown, counted) = (needed + names.len(), shown + hits, counted + 1);
            complete += usize::from(hits == names.len());
        }
        let recall = f64::from(u32::try_from(shown)?) / f64::from(u32::try_from(needed)?);
        let name = if steps == Steps::None { "by the goal alone" } else { "by annotated steps" };
        println!("{name:24} {counted:>6} {recall:>8.3} {complete:>10}");
    }
    Ok(())
}

/// Returns whether a line of a prompt is the signature of a tool: `AGENT.TOOL(`.
fn is_signature(line: &str, name: &str) -> bool {
    line.split_once('(').is_some_and(|(called, _)| called.split_once('.').is_some_and(|(_, tool)| tool == name))
}

/// Returns the entries of a numbered list in a text.
fn numbered(text: &Value) -> Vec<String> {
    let lines = text.as_str().unwrap_or_default().lines();
    let entries = lines.map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim().to_owned());
    entries.filter(|entry| !entry.is_empty()).collect()
}

/// Returns the prompt that asks for a plan of a task.
async fn prompt_for(catalog: &AgentCatalog, task: &Value, steps: Steps) -> BenchResult<String> {
    let annotated = match steps {
        Steps::Annotated => numbered(&task["Annotator Metadata"]["Steps"]),
        Steps::None => Vec::new(),
    };
    let model = StepsModel { steps: annotated, prompt: Mutex::default() };
    let agents = agents_file(None)?;
    let context = PlanningContext { llm: &model, agents: &agents, catalog, file: "plan.yaml", local_time: "" };
    let goal = Goal { text: task["Question"].as_str().unwrap_or_default(), ..Goal::default() };
    let _ = planner::plan(&goal, &context, &mut |_| {}).await;
    Ok(model.prompt.into_inner()?)
}

/// A model that knows the steps, and plans nothing.
struct StepsModel {
    steps: Vec<String>,
    prompt: Mutex<String>,
}

#[async_trait::async_trait]
impl Llm for StepsModel {
    async fn chat_stream(&self, request: &ChatRequest, _: OnDelta<'_>) -> Result<ChatReply, ChatError> {
        if request.output.as_ref().is_some_and(|output| output.name == "steps") {
            return Ok(models::reply(json!({"steps": self.steps, "tools": []}).to_string()));
        }
        *self.prompt.lock().expect("no panic") = request.messages[0].text_content();
        Ok(models::reply(json!({"tasks": [], "missing": "nothing is planned"}).to_string()))
    }
}

/// Returns the tools of all servers.
fn catalog(servers: &Value) -> AgentCatalog {
    let mut catalog = AgentCatalog::new();
    let servers = servers.as_array().into_iter().flatten();
    for (name, server) in servers.filter_map(|server| server["tools"].as_object()).flatten() {
        let tools = server["tools"].as_array().into_iter().flatten().map(|tool| ToolInfo {
            name: tool["name"].as_str().unwrap_or_default().to_owned(),
            title: None,
            description: tool["description"].as_str().map(str::to_owned),
            input_schema: tool["inputSchema"].as_object().cloned().unwrap_or_default(),
            output_schema: None,
            effect: None,
        });
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        catalog.insert(name.as_str().into(), Ok(AgentInfo { tools: tools.collect(), ..AgentInfo::default() }));
    }
    catalog
}
