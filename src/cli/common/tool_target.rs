//! A tool that a command line names as `AGENT.TOOL`.

use std::sync::Arc;

use super::args::AgentsArg;
use super::files;
use super::run_context::open_screen;
use crate::cli::{CliError, Exit};
use crate::config::AgentsFile;
use crate::expression::closest_match;
use crate::model::{AgentInfo, AgentSpec, Failure, Timestamp, ToolInfo};
use crate::runtime::{self, AgentProbe, Discovery, Freshness};
use crate::ui::terminal::status_line::show_while;
use crate::view::text::printable;

/// A tool of an agent of the agents file.
pub(crate) struct ToolTarget {
    /// The agent.
    pub(crate) agent: AgentSpec,
    /// The agents file.
    pub(crate) file: AgentsFile,
    /// The name of the tool.
    tool: String,
}

impl ToolTarget {
    /// Parses `AGENT.TOOL`, and loads the agents file.
    ///
    /// # Errors
    /// Fails if the text has another form, the agents file is invalid, or it does not have the agent.
    pub(crate) fn load(arg: &AgentsArg, text: &str) -> Result<Self, CliError> {
        let (agent, tool) = text.split_once('.').ok_or_else(|| {
            CliError::usage(
                "cli::invalid_target",
                format!("`{text}` is not of the form AGENT.TOOL"),
                "`kapell agents tools` lists the tools of all agents",
            )
        })?;
        let file = files::load_agents(arg)?;
        let agent = file.agents.get(agent).cloned().ok_or_else(|| files::unknown_agent(agent, &file))?;
        Ok(Self { agent, file, tool: tool.to_owned() })
    }

    /// Returns the tool as the agent describes it.
    ///
    /// # Errors
    /// Fails if the agent cannot be connected or does not have the tool.
    pub(crate) async fn find_tool(&self, freshness: Freshness) -> Result<ToolInfo, CliError> {
        let id = &self.agent.id;
        let (mut info, cached_at) = self.describe(freshness).await?;
        if cached_at.is_some() && info.tool(&self.tool).is_none() {
            // The agent may have got the tool since it was asked.
            (info, _) = self.describe(Freshness::Current).await?;
        }
        if let Some(tool) = info.tool(&self.tool) {
            return Ok(tool.clone());
        }
        if let Some(reason) = info.unusable_tools.get(&self.tool) {
            return Err(self.unusable(reason));
        }
        let help = match closest_match(&self.tool, info.tools.iter().map(|tool| tool.name.as_str())) {
            Some(similar) => format!("did you mean `{id}.{similar}`?"),
            None => format!("`kapell agents tools {id}` lists its tools"),
        };
        Err(CliError::usage("cli::unknown_tool", format!("agent `{id}` has no tool `{}`", self.tool), help))
    }

    /// Returns the description of the agent, and the time of the earlier connection that it is from, if any.
    async fn describe(&self, freshness: Freshness) -> Result<(Arc<AgentInfo>, Option<Timestamp>), CliError> {
        let id = &self.agent.id;
        let options = runtime::connect_options(&self.file, None)?;
        let discovery = Discovery::new(options, &self.file.secrets, freshness);
        let asked = Box::pin(discovery.probe_one(self.agent.clone()));
        let AgentProbe { result, cached_at, .. } =
            show_while(&open_screen()?, format!("connecting to agent `{id}`"), asked).await;
        match result {
            Ok(info) => Ok((info, cached_at)),
            Err(failure) => {
                message!("{}", failure_text(id.as_str(), &failure));
                Err(CliError::Shown(Exit::AgentUnavailable))
            }
        }
    }

    fn unusable(&self, reason: &str) -> CliError {
        CliError::Usage {
            code: "cli::unusable_tool",
            message: format!("tool `{}` of agent `{}` cannot be used: {}", self.tool, self.agent.id, printable(reason)),
            help: None,
        }
    }
}

/// Describes the failure of an agent.
pub(crate) fn failure_text(agent: &str, failure: &Failure) -> String {
    let help = failure.help.iter().map(|help| format!("\n    help: {}", printable(help)));
    format!("{agent}  failed  {}{}", printable(&failure.message), help.collect::<String>())
}
