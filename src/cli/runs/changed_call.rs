//! The call that awaits an approval, with the description of its tool, for an answer that changes its arguments.

use serde_json::Value;

use super::call::parse_arguments;
use crate::cli::CliError;
use crate::cli::common::files;
use crate::cli::common::run_context::open_screen;
use crate::config::AgentsFiles;
use crate::journal::JournalReader;
use crate::model::{Event, JsonObject, ProposedCall, Record, RunId, RunSource, ToolInfo};
use crate::runtime::{self, Discovery, Freshness};
use crate::ui::forms::changed_arguments::check_arguments;
use crate::ui::forms::form::FormSchema;
use crate::ui::forms::form_prompt::parse_fields;
use crate::ui::terminal::status_line::show_while;
use crate::view::RunView;
use crate::view::run_view::AgentConnection;
use crate::view::text::printable;

/// A call that awaits approval, with the schema of its arguments if the agent can be asked for it.
pub(super) struct DescribedCall {
    call: ProposedCall,
    tool: Option<ToolInfo>,
}

impl DescribedCall {
    /// Finds the schema of the arguments: in the run, in what the agent offered when it was last asked, or by asking the
    /// agent. Without it, the arguments are checked only before the call.
    ///
    /// # Errors
    /// Fails if the run cannot be read.
    pub(super) async fn find(
        reader: &dyn JournalReader,
        run: &RunId,
        view: &RunView,
        call: &ProposedCall,
    ) -> Result<Self, CliError> {
        let known = match view.agents().get(&call.agent) {
            Some(AgentConnection::Connected(info)) => info.tool(&call.tool).cloned(),
            _ => None,
        };
        let tool = match known {
            Some(tool) => Some(tool),
            None => match reader.records(run, 0).next().transpose()? {
                Some(Record { event: Event::RunStarted { source: Some(source), .. }, .. }) => {
                    describe_tool(&source, call).await
                }
                _ => None,
            },
        };
        match &tool {
            Some(tool) => call.input_schema.set(&tool.input_schema),
            None => message!("agent `{}` cannot be asked for its tools, so the run checks the arguments", call.agent),
        }
        Ok(Self { call: call.clone(), tool })
    }

    /// Returns the arguments that a person sets: `arguments`, or else those of the call, with `fields` as `NAME=VALUE`.
    ///
    /// # Errors
    /// Describes what does not fit the tool.
    pub(super) fn changed(&self, arguments: Option<JsonObject>, fields: &[String]) -> Result<Value, CliError> {
        let target = format!("{}.{}", self.call.agent, self.call.tool);
        let invalid = |problem: String| {
            let help = format!("`kapell agents tools {target}` describes the arguments");
            CliError::usage("cli::invalid_answer", format!("invalid arguments of `{target}`: {problem}"), help)
        };
        let mut arguments = match (arguments, &self.call.arguments) {
            (Some(arguments), _) => arguments,
            (None, Value::Object(arguments)) => arguments.clone(),
            (None, _) => {
                let problem = "the journal has only the beginning of them; set all of them with `--arguments`";
                return Err(invalid(problem.to_owned()));
            }
        };
        arguments.extend(match &self.tool {
            Some(tool) => parse_arguments(&target, tool, fields)?,
            None => parse_fields(&FormSchema::parse_schema(&JsonObject::new()), fields).map_err(invalid)?,
        });
        let checked = check_arguments(&self.call, arguments);
        checked.map(Value::Object).map_err(|problems| invalid(printable(&problems.join("; ")).into_owned()))
    }
}

/// Returns the tool as the agent describes it, or `None` if it cannot be asked.
async fn describe_tool(source: &RunSource, call: &ProposedCall) -> Option<ToolInfo> {
    let mut agents_files = AgentsFiles::named(source.agents.clone().into());
    agents_files.user = source.user_agents.as_ref().map(Into::into);
    let file = files::read_agents(&agents_files).ok()?;
    let agent = file.agents.get(&call.agent)?.clone();
    let discovery = Discovery::new(runtime::connect_options(&file, None).ok()?, &file.secrets, Freshness::Cached);
    let asked = Box::pin(discovery.probe_one(agent));
    let probe = show_while(&open_screen().ok()?, format!("connecting to agent `{}`", call.agent), asked).await;
    probe.result.ok()?.tool(&call.tool).cloned()
}
