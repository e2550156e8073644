//! The planning of a goal, shared by several commands: asks the agents and the model, and saves the plan.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::known_server::{KnownServer, servers_text};
use super::planning_meter::{MeteredModels, PlanningMeter};
use crate::cli::common::exit::show_diagnostics;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentCatalog, AgentsFile, NO_MODEL_HELP};
use crate::llm::Models;
use crate::mcp::EarlyPool;
use crate::model::{Answer, DiscardedCall, GoalPlanning, Plan, PlannerExchange, RunId};
use crate::planner::{
    self, ClarifyingQuestion, ConstantCall, GeneratedPlan, Goal, PlanError, PlanExample, PlanningContext,
    PlanningOutcome, PlanningProgress, PlanningResult, RejectedPlan, Remark,
};
use crate::runtime::{self, CallPlace, Discovery, Freshness, KeptCalls, UnsettledCalls};
use crate::system::clock;
use crate::system::files::{replace_in_own_directory, write_private};
use crate::ui::human::{Human, HumanResponse};
use crate::ui::terminal::screen::Screen;
use crate::ui::terminal::status_line::show_while;
use crate::view::phrasebook;
use crate::view::text::{count_text, printable, truncated};

/// The default number of replans in a run of a goal.
pub(crate) const DEFAULT_MAX_REPLANS: u32 = 1;

/// The file name of the schema that a plan file names.
pub(crate) const PLAN_SCHEMA: &str = "plan.schema.json";

/// The maximum number of questions that the planner may ask about a goal.
const MAX_QUESTIONS: usize = 3;

/// The choice of an answer that the planner does not list.
const OTHER_CHOICE: &str = "another answer";

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
    /// The person that answers questions about the goal.
    pub(crate) human: &'a dyn Human,
    /// The path for a plan that is not valid.
    pub(crate) saved_path: PathBuf,
    /// The saved plans.
    pub(crate) examples: Vec<PlanExample>,
    /// Returns the servers that are known but not in use.
    pub(crate) known_servers: &'a (dyn Fn() -> Vec<KnownServer> + Sync),
    /// What the connections to agents are for.
    pub(crate) connections: ConnectionUse<'a>,
}

/// What the connections to agents are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionUse<'a> {
    /// Planning alone.
    Planning,
    /// Planning, and the run of the plan, with this ID.
    Run(&'a RunId),
}

/// What was said and spent so far for a goal.
#[derive(Default)]
pub(crate) struct GoalSession {
    /// What the person added to the goal.
    remarks: Vec<Remark>,
    /// The exchanges with the model.
    exchanges: Vec<PlannerExchange>,
    /// The tools that the agents offered, once they were asked.
    catalog: Option<AgentCatalog>,
    /// The connections to the agents, if a run will use them.
    connections: Option<EarlyPool>,
    /// The calls that were made while the model wrote plans.
    early_calls: UnsettledCalls,
    /// The screen, once something was planned.
    screen: Option<Screen>,
}

impl GoalSession {
    /// Returns the connections to the agents, for the run.
    pub(crate) fn remove_connections(&mut self) -> Option<EarlyPool> {
        self.connections.take()
    }

    /// Returns the calls that the tasks of a plan use, and those that none uses. Those are cancelled and named.
    pub(crate) fn settle_early_calls(
        &mut self,
        plan: &Plan,
        agents: &AgentsFile,
        catalog: &AgentCatalog,
    ) -> (KeptCalls, Vec<DiscardedCall>) {
        let (kept, discarded) = std::mem::take(&mut self.early_calls).settle(plan, agents, catalog);
        self.name_discarded(&discarded);
        (kept, discarded)
    }

    fn name_discarded(&self, calls: &[DiscardedCall]) {
        let Some(screen) = self.screen.as_ref().filter(|_| !calls.is_empty()) else { return };
        for call in calls {
            screen.println(format!("discarded early call: {}", phrasebook::discarded_call_text(call)));
        }
        screen.flush();
    }

    /// Cancels and names the early calls that no run uses, and closes the connections.
    pub(crate) async fn close(&mut self) {
        let discarded = std::mem::take(&mut self.early_calls).discard();
        self.name_discarded(&discarded);
        if let Some(connections) = self.connections.take() {
            connections.close().await;
        }
    }

    /// Adds a wish of the person about the plan in a reply.
    pub(crate) fn add_wish(&mut self, reply: &str, wish: String) {
        self.remarks.push(Remark::Wish { reply: reply.to_owned(), wish });
    }
}

/// What the planner made of a goal.
pub(crate) enum GoalOutcome {
    /// A plan.
    Plan(Box<GoalPlan>),
    /// The answer to a goal that needs no plan.
    Answer(String),
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
    /// Plans the goal, and asks the person what the planner needs to know.
    ///
    /// # Errors
    /// Fails without a model, without an answer, or if its plan is not valid. In that case the last plan is saved and its
    /// diagnostics are shown.
    pub(crate) async fn plan(&self, session: &mut GoalSession) -> Result<GoalOutcome, CliError> {
        session.screen = Some(self.screen.clone());
        let llm = self.load_models()?;
        let catalog = match session.catalog.take() {
            Some(catalog) => catalog,
            None => self.discover_catalog(session).await?,
        };
        let outcome = self.plan_with(&llm, &catalog, session).await;
        session.catalog = Some(catalog.clone());
        Ok(match outcome? {
            PlanningOutcome::Plan(generated) => {
                let (goal, exchanges) = (self.text.to_owned(), session.exchanges.clone());
                let planning = GoalPlanning { goal, exchanges, discarded_calls: Vec::new() };
                GoalOutcome::Plan(Box::new(GoalPlan { generated: *generated, planning, catalog }))
            }
            PlanningOutcome::Question(question) => return Err(Box::new(unanswered(&question)).into()),
            PlanningOutcome::Answer(answer) => GoalOutcome::Answer(answer),
        })
    }

    async fn plan_with(
        &self,
        llm: &Models,
        catalog: &AgentCatalog,
        session: &mut GoalSession,
    ) -> Result<PlanningOutcome, CliError> {
        let file = self.saved_path.display().to_string();
        let local_time = clock::local_time_text();
        let meter = Arc::new(PlanningMeter::default());
        let llm = &MeteredModels { models: llm, meter: Arc::clone(&meter) };
        let context = PlanningContext { llm, agents: self.agents, catalog, file: &file, local_time: &local_time };
        let mut questions = 0;
        loop {
            let GoalSession { remarks, connections, early_calls, .. } = &mut *session;
            let examples = &self.examples;
            let goal = Goal { text: self.text, max_replans: self.max_replans, remarks, examples };
            let mut report = |progress| match (progress, connections.as_ref()) {
                (PlanningProgress::CallReady(call), Some(connections)) => {
                    self.call_early(*call, connections, early_calls);
                }
                (progress, _) => self.report_progress(progress),
            };
            let planning = planner::plan(&goal, &context, &mut report);
            let PlanningResult { result, requests, exchanges } =
                meter.show_while(self.screen, self.model_name(), planning).await;
            session.exchanges.extend(exchanges.iter().cloned());
            let planned = GoalPlanning { goal: String::new(), exchanges, discarded_calls: Vec::new() };
            let usage = usage_text(requests, &planned);
            match result {
                Ok(PlanningOutcome::Plan(generated)) => {
                    let tasks = count_text(generated.validated.plan.written_tasks().count(), "task");
                    self.screen.println(format!("planned {tasks} {usage}"));
                    if let Some(missing) = &generated.validated.plan.missing {
                        self.screen.println(format!("not planned: {}", printable(missing)));
                    }
                    return Ok(PlanningOutcome::Plan(generated));
                }
                Ok(PlanningOutcome::Question(question)) if questions < MAX_QUESTIONS => {
                    questions += 1;
                    let answer = self.ask(&question).await.ok_or_else(|| Box::new(unanswered(&question)))?;
                    session.remarks.push(Remark::Answer { question: question.text, answer });
                }
                Ok(other) => return Ok(other),
                Err(error) => {
                    self.screen.println(format!("no plan {usage}"));
                    return Err(self.to_cli_error(error));
                }
            }
        }
    }

    /// Makes a call while the model still writes the plan, if a run will use the result.
    fn call_early(&self, call: ConstantCall, connections: &EarlyPool, calls: &mut UnsettledCalls) {
        let ConnectionUse::Run(run) = self.connections else { return };
        let name = printable(&format!("{}.{}", call.agent, call.tool)).to_string();
        let arguments = truncated(&Value::Object(call.arguments.clone()).to_string());
        if calls.start(call, CallPlace { run, connections, agents: self.agents }) {
            self.screen.println(format!("  calling {name} {arguments} while the plan is written"));
        }
    }

    /// Asks the person a question of the planner. Returns `None` without an answer.
    async fn ask(&self, question: &ClarifyingQuestion) -> Option<String> {
        let heading = format!("the planner asks: {}", question.text);
        if !question.choices.is_empty() {
            let other = std::iter::once(OTHER_CHOICE.to_owned());
            let choices: Vec<String> = question.choices.iter().cloned().chain(other).collect();
            let choice = self.ask_for(&heading, json!({"type": "string", "title": "answer", "enum": choices})).await?;
            if choice != OTHER_CHOICE {
                return Some(choice);
            }
        }
        self.ask_for(&heading, json!({"type": "string", "title": "answer", "minLength": 1})).await
    }

    /// Asks the person for one value.
    async fn ask_for(&self, heading: &str, schema: Value) -> Option<String> {
        let schema = json!({"type": "object", "properties": {"answer": schema}, "required": ["answer"]});
        match self.human.fill_form(heading, schema.as_object()?).await {
            HumanResponse::Answered { answer: Answer::Accept { content: Some(content) }, .. } => {
                Some(content.get("answer")?.as_str()?.to_owned())
            }
            _ => None,
        }
    }

    /// Returns the name of the planning model.
    fn model_name(&self) -> String {
        self.agents.planner_model().map_or_else(|| "the model".to_owned(), |model| printable(&model.model).to_string())
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
    async fn discover_catalog(&self, session: &mut GoalSession) -> Result<AgentCatalog, CliError> {
        let options = runtime::connect_options(self.agents, None)?;
        let discovery = Discovery::new(options, &self.agents.secrets, self.freshness);
        let agents = self.agents.agents.values().cloned().collect();
        let discovered = async {
            match self.connections {
                ConnectionUse::Planning => (discovery.catalog(agents).await, None),
                ConnectionUse::Run(_) => {
                    let (catalog, connections) = discovery.catalog_and_connections(agents).await;
                    (catalog, Some(connections))
                }
            }
        };
        let (catalog, connections) = show_while(self.screen, "connecting to agents", discovered).await;
        session.connections = connections;
        for (agent, info) in &catalog {
            if let Err(reason) = info {
                self.screen.println(format!("planning without agent `{agent}`: {}", printable(reason)));
            }
        }
        Ok(catalog)
    }

    fn report_progress(&self, progress: PlanningProgress) {
        self.screen.println(match progress {
            // Without a run, no call is made.
            PlanningProgress::CallReady(_) => return,
            // Elsewhere, the outline of the plan suffices.
            PlanningProgress::TaskWritten { .. } if !self.screen.capabilities().live => return,
            PlanningProgress::TaskWritten { number, title, tool } => {
                format!("  {number}. {} ({})", printable(&title), printable(&tool))
            }
            PlanningProgress::Recalled { plans } => {
                format!("similar saved plans: {} (`kapell plans show NAME` prints one)", printable(&plans.join(", ")))
            }
            PlanningProgress::Simplified => {
                "the answer does not contain a plan; asking for calls of tools alone".to_owned()
            }
            PlanningProgress::ChoosingTools { tools } => {
                format!("choosing among {} with {}", count_text(tools, "tool"), self.model_name())
            }
            PlanningProgress::Started { shown, tools } if shown == tools => {
                format!("planning with {} and {}", self.model_name(), count_text(tools, "tool"))
            }
            PlanningProgress::Started { shown, tools } => {
                format!("planning with {} and {shown} of {}", self.model_name(), count_text(tools, "tool"))
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
            PlanError::Impossible { missing, help } => {
                let known = servers_text(&missing, self.text, &(self.known_servers)());
                let help = known.map_or_else(|| help.clone(), |known| format!("{known}; {help}"));
                Box::new(PlanError::Impossible { missing, help }).into()
            }
            PlanError::NoTools
            | PlanError::NoTasks { .. }
            | PlanError::Unanswered { .. }
            | PlanError::Refused { .. } => Box::new(error).into(),
        }
    }

    /// Shows the diagnostics of the last plan, and saves it so that a person can fix it.
    fn save_rejected(&self, rejected: &RejectedPlan) -> Result<(), CliError> {
        self.screen.flush();
        show_diagnostics(&rejected.mistakes);
        self.save(&rejected.text)
    }
}

/// Returns the error about a question that was not answered.
fn unanswered(question: &ClarifyingQuestion) -> PlanError {
    let choices = match question.choices.as_slice() {
        [] => String::new(),
        choices => format!(" ({})", choices.join(", ")),
    };
    PlanError::Unanswered { question: format!("{}{choices}", question.text) }
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
