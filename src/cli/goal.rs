//! What the commands that take a goal have in common: asking the agents and the model, and keeping what came of it.
//! Never runs a plan.

use std::{path::PathBuf, sync::Arc, time::Instant};

use super::{CliError, Exit, exit::show, files};
use crate::{
    config::{AgentsFile, Catalogue},
    llm::Models,
    model::GoalPlanning,
    planner::{self, Context, PlanError, Planned, Planning, Progress, Rejected},
    report::{
        screen::Screen,
        text::{count, elapsed, printable},
    },
    runtime::survey,
    system::files::{create_own_directory, write},
};

/// Replans of a run of a goal, where nobody says how many.
pub(super) const REPLANS: u32 = 1;

/// A goal to be planned.
pub(super) struct Goal<'a> {
    /// What the person asks for.
    pub(super) text: &'a str,
    /// How often a run of its plan may plan anew what has not started.
    pub(super) replans: u32,
    /// Who can help with it.
    pub(super) agents: &'a AgentsFile,
    /// Where it is told how the planning goes.
    pub(super) screen: &'a Screen,
    /// Where the plan is kept when it cannot be used.
    pub(super) saved: PathBuf,
}

/// A plan for a goal, and what making it took.
pub(super) struct ForGoal {
    /// The plan.
    pub(super) planned: Planned,
    /// What a run of it pays for.
    pub(super) planning: GoalPlanning,
    /// What the agents offered for it.
    pub(super) surveyed: Catalogue,
}

impl Goal<'_> {
    /// Plans the goal.
    ///
    /// # Errors
    /// Without a model, or when it gave no valid plan: then its last plan is saved, and its mistakes are shown.
    pub(super) async fn plan(&self) -> Result<ForGoal, CliError> {
        let llm = self.model()?;
        let catalogue = self.ask_agents().await?;
        let file = self.saved.display().to_string();
        let context = Context { llm: &llm, agents: self.agents, catalogue: &catalogue, file: &file };
        let planning = {
            let _view = View::over(self.screen);
            let goal = planner::Goal { text: self.text, replans: self.replans };
            planner::plan(&goal, &context, &mut |progress| self.tell(progress)).await
        };
        let Planning { result, turns, answered } = planning;
        let planning = GoalPlanning { goal: self.text.to_owned(), turns: answered };
        let spent = spent(turns, &planning);
        match result {
            Ok(planned) => {
                let tasks = count(planned.lowered.plan.tasks.len(), "task");
                self.screen.println(format!("planned {tasks} {spent}"));
                Ok(ForGoal { planned, planning, surveyed: catalogue })
            }
            Err(error) => {
                self.screen.println(format!("no plan {spent}"));
                Err(self.explain(error))
            }
        }
    }

    /// Keeps a plan for later, and says where.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save(&self, text: &str) -> Result<(), CliError> {
        let path = self.saved.display();
        let folder = self.saved.parent().map_or(Ok(()), create_own_directory);
        folder
            .and_then(|()| write(&self.saved, text.as_bytes(), true))
            .map_err(|error| CliError::failed(format!("the plan could not be saved to `{path}`"), error))?;
        self.screen.println(format!("plan saved to {path}"));
        Ok(())
    }

    fn model(&self) -> Result<Models, CliError> {
        files::models(self.agents)?.ok_or_else(|| {
            CliError::usage(
                format!("`{}` is a goal, and planning it needs a language model", printable(self.text)),
                "add `[llm]` with `base_url` and `model` to the agents file, for any endpoint that speaks the OpenAI \
                 API, such as\n\n[llm]\nbase_url = \"http://127.0.0.1:11434/v1\"\nmodel = \"qwen3:8b\"\n\nor name a plan \
                 file, which needs no model",
            )
        })
    }

    /// What each agent offers. One that does not answer is left out, and said so.
    async fn ask_agents(&self) -> Result<Catalogue, CliError> {
        let options = files::pool_options(self.agents)?;
        let found = survey(self.agents.agents.values().cloned().collect(), options, &self.agents.secrets).await;
        for survey in &found {
            if let Err(failure) = &survey.result {
                let why = printable(&failure.message);
                self.screen.println(format!("planning without agent `{}`: {why}", survey.agent));
            }
        }
        Ok(files::catalogue(found))
    }

    fn tell(&self, progress: Progress) {
        self.screen.println(match progress {
            Progress::Started { shown, tools } if shown == tools => format!("planning with {}", count(tools, "tool")),
            Progress::Started { shown, tools } => format!("planning with {shown} of {}", count(tools, "tool")),
            Progress::Repairing { mistakes, repair, most } => {
                format!("the plan has {}; repair {repair} of at most {most}", count(mistakes, "mistake"))
            }
            Progress::Warned(warning) => format!("warning: {}", printable(&warning)),
        });
    }

    fn explain(&self, error: PlanError) -> CliError {
        match error {
            PlanError::Invalid(rejected) => match self.keep(&rejected) {
                Ok(()) => CliError::Shown(Exit::Failed),
                Err(error) => error,
            },
            PlanError::Model { source, rejected } => {
                let kept = rejected.map_or(Ok(()), |rejected| self.keep(&rejected));
                kept.err().unwrap_or_else(|| CliError::failed("the goal could not be planned", source))
            }
            PlanError::NoTools | PlanError::NoTasks { .. } => CliError::failed("the goal could not be planned", error),
        }
    }

    /// Shows what is wrong with the last plan, and saves it for a person to mend.
    fn keep(&self, rejected: &Rejected) -> Result<(), CliError> {
        self.screen.flush();
        show(&rejected.mistakes);
        self.save(&rejected.text)
    }
}

/// How often the model was asked, and what it used where its endpoint told.
fn spent(turns: u32, planning: &GoalPlanning) -> String {
    let turns = format!("in {}", count(turns as usize, "turn"));
    match planning.usage().filter(|_| !planning.turns.is_empty()) {
        Some(usage) => format!("{turns}, {} tokens in and {} out", usage.input_tokens, usage.output_tokens),
        None => turns,
    }
}

/// A line on a live screen for as long as the model thinks.
struct View<'a>(&'a Screen);

impl<'a> View<'a> {
    fn over(screen: &'a Screen) -> Self {
        let start = Instant::now();
        screen.show(Arc::new(move |_| vec![format!("planning … {}", elapsed(start.elapsed()))]));
        Self(screen)
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        self.0.hide();
    }
}
