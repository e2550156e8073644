//! A whole run within this process: the plan, the engine, the dispatcher, the journal, the reporters, and an agent that
//! answers immediately, without MCP.

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kapell::config::{self, ProcessEnvironment};
use kapell::engine::{NewRun, Run};
use kapell::journal::{self, Durability};
use kapell::mcp::{Agents, CallContext, CallFuture, ResourceWatch};
use kapell::model::{AgentId, AgentInfo, ContentBlock, Failure, RunId, Secrets, ToolCall, ToolOutput, TraceContext};
use kapell::runtime::{self, RuntimeHost, Services};
use kapell::ui::answers::policy::NoInput;
use kapell::ui::reporters::ProgressOptions;
use kapell::ui::reporters::Reporters;
use kapell::ui::reporters::plain::PlainReporter;
use kapell::ui::terminal::screen::Screen;
use serde_json::{Value, json};

use crate::BenchResult;
use crate::graph::Digest;

/// Runs the plan at `plan` with a journal at `journal`. Prints the output of `kapell run --output json`.
///
/// # Errors
/// Fails if any part of the run fails.
pub(crate) async fn run(plan: &Path, journal: &Path) -> BenchResult<()> {
    let agents = ["a", "b"].map(|agent| format!("[agents.{agent}]\ncommand = \"nothing\"\nmax_concurrency = 64\n"));
    let agents = config::parse_agents("agents.toml", &agents.concat(), &ProcessEnvironment)?;
    let text = config::read_text(plan).map_err(|error| error.to_string())?;
    let plan = Arc::new(config::load_plan(&plan.display().to_string(), &text, &agents, None)?.plan);
    // The ID is part of every call, so an ID of another length would change the work.
    let run = RunId::from("0199a5c2-0000-7000-8000-000000000000");
    let journal = journal::store(&journal.into()).open_writer(Durability::Normal)?;
    let host = RuntimeHost::new(run.clone(), Arc::clone(&journal), 1);
    let services = Services {
        journal,
        agents: Arc::new(ImmediateAgents),
        llm: None,
        replanner: None,
        human: Arc::new(NoInput),
        secrets: Secrets::default(),
        clock: runtime::RunClock::start(),
        trace: TraceContext::of_run(&run),
        content: None,
        cache: None,
        directory: PathBuf::default(),
    };
    let screen = Screen::stderr()?;
    let mut plain = PlainReporter::new(screen.clone(), jiff::tz::TimeZone::UTC, ProgressOptions::default());
    let mut reporters = Reporters::new(&run, vec![&mut plain]);
    let new_run = NewRun { plan, inputs: Arc::new(json!({})), seed: 0, planning: None, source: None, id: None };
    let begun = Run::start(new_run, services.clock.now())?;
    runtime::run(&run, begun, services, host, &mut reporters).await?;
    let result = reporters.into_result();
    screen.flush();
    println!("{}", serde_json::to_string(&result)?);
    Ok(())
}

/// Both agents, with the tool `mix` of the reference agent.
struct ImmediateAgents;

#[async_trait::async_trait]
impl Agents for ImmediateAgents {
    async fn connect(&self, _: &AgentId) -> Result<Arc<AgentInfo>, Failure> {
        Ok(Arc::new(AgentInfo { protocol: "2026-07-28".into(), ..AgentInfo::default() }))
    }

    fn call(&self, call: ToolCall, _: CallContext) -> CallFuture<'_> {
        let text = call.arguments.get("text").and_then(Value::as_str).unwrap_or_default();
        let content = vec![ContentBlock::Text(Digest::of(text).to_string())];
        Box::pin(ready(Ok(Arc::new(ToolOutput { content, ..ToolOutput::default() }))))
    }

    fn watch_resource(&self, _: ResourceWatch) -> CallFuture<'_> {
        Box::pin(std::future::pending())
    }

    async fn close(&self) {}

    async fn suspend(&self) {}
}
