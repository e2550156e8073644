//! The planning of a goal, shared by several commands: asks the agents and the model, and saves the plan.

use std::io;
use std::path::{Path, PathBuf};

use super::exit::show_diagnostics;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentCatalog, AgentsFile, NO_MODEL_HELP};
use crate::llm::Models;
use crate::model::GoalPlanning;
use crate::planner::{self, GeneratedPlan, PlanError, PlanningContext, PlanningProgress, PlanningResult, RejectedPlan};
use crate::runtime::{self, Discovery, Freshness};
use crate::system::files::{replace_in_own_directory, write_private};
use crate::ui::terminal::screen::Screen;
use crate::ui::terminal::status_line::show_while;
use crate::view::text::{count_text, printable};

/// The default number of replans in a run of a goal.
pub(crate) const DEFAULT_MAX_REPLANS: u32 = 1;

/// The file name of the schema that a plan file names.
pub(crate) const PLAN_SCHEMA: &str = "plan.schema.json";

/// A goal to be planned.
pub(crate) struct GoalRequest<'a> {
    /// The text of the goal.
    pub(crate) text: &'a str,
    /// The number of replans that a run of its plan may make.
    pub(crate) max_replans: u32,
    /// The agents that can be used.
    pub(crate) agents: &'a AgentsFile,
    /// Whether the agents are asked again what they offer.
    pub(crate) freshness: Freshness,
    /// The screen for the progress of planning.
    pub(crate) screen: &'a Screen,
    /// The path for a plan that is not valid.
    pub(crate) saved_path: PathBuf,
}

/// A plan for a goal, and the usage of planning it.
pub(crate) struct GoalPlan {
    /// The plan.
    pub(crate) generated: GeneratedPlan,
    /// The goal and the exchanges that planned it, which count towards the budget of the run.
    pub(crate) planning: GoalPlanning,
    /// The tools that the agents offered.
    pub(crate) catalog: AgentCatalog,
}

impl GoalRequest<'_> {
    /// Plans the goal.
    ///
    /// # Errors
    /// Fails without a model, or if its plan is not valid. In that case the last plan is saved and its diagnostics are
    /// shown.
    pub(crate) async fn plan(&self) -> Result<GoalPlan, CliError> {
        let llm = self.load_models()?;
        let catalog = self.discover_catalog().await?;
        let file = self.saved_path.display().to_string();
        let context = PlanningContext { llm: &llm, agents: self.agents, catalog: &catalog, file: &file };
        let goal = planner::Goal { text: self.text, max_replans: self.max_replans };
        let mut report = |progress| self.report_progress(progress);
        let planning = show_while(self.screen, "planning", planner::plan(&goal, &context, &mut report)).await;
        let PlanningResult { result, requests, exchanges } = planning;
        let planning = GoalPlanning { goal: self.text.to_owned(), exchanges };
        let usage = usage_text(requests, &planning);
        match result {
            Ok(generated) => {
                let tasks = count_text(generated.validated.plan.written_tasks().count(), "task");
                self.screen.println(format!("planned {tasks} {usage}"));
                Ok(GoalPlan { generated, planning, catalog })
            }
            Err(error) => {
                self.screen.println(format!("no plan {usage}"));
                Err(self.to_cli_error(error))
            }
        }
    }

    /// Saves a plan and prints the path.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn save(&self, text: &str) -> Result<(), CliError> {
        let path = self.saved_path.display();
        replace_in_own_directory(&self.saved_path, text.as_bytes())
            .map_err(|error| CliError::failed("cli::unwritable", format!("cannot save the plan to `{path}`"), error))?;
        self.screen.println(format!("plan saved to {path}"));
        // The plan is complete without its schema.
        if let Err(error) = write_plan_schema(&self.saved_path, true) {
            self.screen.println(format!("cannot write {PLAN_SCHEMA} beside it: {error}"));
        }
        Ok(())
    }

    fn load_models(&self) -> Result<Models, CliError> {
        Models::new(self.agents.models.iter().cloned())?.ok_or_else(|| {
            CliError::usage(
                "cli::no_model",
                format!(
                    "planning the goal `{}` requires a language model, and none is configured",
                    printable(self.text)
                ),
                format!(
                    "{NO_MODEL_HELP}, such as\n\n[llm]\nprovider = \"ollama\"\nmodel = \"qwen3:8b\"\n\nor run a plan \
                     file, which requires no model"
                ),
            )
        })
    }

    /// Returns the tools of each agent. An agent that does not answer is reported and omitted.
    async fn discover_catalog(&self) -> Result<AgentCatalog, CliError> {
        let options = runtime::connect_options(self.agents, None)?;
        let discovery = Discovery::new(options, &self.agents.secrets, self.freshness);
        let agents = self.agents.agents.values().cloned().collect();
        let catalog = show_while(self.screen, "connecting to agents", discovery.catalog(agents)).await;
        for (agent, info) in &catalog {
            if let Err(reason) = info {
                self.screen.println(format!("planning without agent `{agent}`: {}", printable(reason)));
            }
        }
        Ok(catalog)
    }

    fn report_progress(&self, progress: PlanningProgress) {
        self.screen.println(match progress {
            PlanningProgress::Started { shown, tools } if shown == tools => {
                format!("planning with {}", count_text(tools, "tool"))
            }
            PlanningProgress::Started { shown, tools } => {
                format!("planning with {shown} of {}", count_text(tools, "tool"))
            }
            PlanningProgress::Repairing { mistakes, repair, max } => {
                format!("the plan has {}; repair attempt {repair} of {max}", count_text(mistakes, "error"))
            }
            PlanningProgress::Warned(warning) => format!("warning: {}", printable(&warning)),
        });
    }

    fn to_cli_error(&self, error: PlanError) -> CliError {
        match error {
            PlanError::Invalid(rejected) => match self.save_rejected(&rejected) {
                Ok(()) => CliError::Shown(Exit::Failed),
                Err(error) => error,
            },
            PlanError::Model { source, rejected } => {
                let saved = rejected.map_or(Ok(()), |rejected| self.save_rejected(&rejected));
                saved.err().unwrap_or_else(|| Box::new(PlanError::Model { source, rejected: None }).into())
            }
            PlanError::NoTools | PlanError::NoTasks { .. } => Box::new(error).into(),
        }
    }

    /// Shows the diagnostics of the last plan, and saves it so that a person can fix it.
    fn save_rejected(&self, rejected: &RejectedPlan) -> Result<(), CliError> {
        self.screen.flush();
        show_diagnostics(&rejected.mistakes);
        self.save(&rejected.text)
    }
}

/// Writes the schema that a plan file names, beside it. Returns its path.
///
/// # Errors
/// Returns the error of the system, and [`io::ErrorKind::AlreadyExists`] if the file exists and `replaces` is false.
pub(crate) fn write_plan_schema(plan: &Path, replaces: bool) -> io::Result<PathBuf> {
    let path = plan.with_file_name(PLAN_SCHEMA);
    let text = serde_json::to_string_pretty(&config::plan_schema())? + "\n";
    write_private(&path, text.as_bytes(), replaces)?;
    Ok(path)
}

/// Describes the number of model requests, and the tokens where the endpoint reported them.
fn usage_text(requests: u32, planning: &GoalPlanning) -> String {
    let requests = format!("in {}", count_text(requests as usize, "request"));
    match planning.usage().filter(|_| !planning.exchanges.is_empty()) {
        Some(usage) => format!("{requests}, {} tokens in and {} out", usage.input_tokens, usage.output_tokens),
        None => requests,
    }
}
