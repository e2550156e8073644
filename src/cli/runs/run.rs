//! `kapell run`: runs a plan, or plans a goal and runs that, and prints the result. Stdout carries only the result.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::input_prompt::ask_for_inputs;
use super::resume::{self, ChangePolicy};
use crate::cli::common::args::JsonArg;
use crate::cli::common::command_target::CommandTarget;
use crate::cli::common::detach::{detach, leave_terminal};
use crate::cli::common::execute::{KnownAgents, execute, start_guard};
use crate::cli::common::exit::{print, print_json, show_diagnostics};
use crate::cli::common::files;
use crate::cli::common::goal::{
    ConnectionUse, DEFAULT_MAX_REPLANS, GoalOutcome, GoalPlan, GoalRequest, GoalSession, KnownServer, SavedPlans,
    work_history,
};
use crate::cli::common::run_context::{RunContext, interruptible, unused_run_id};
use crate::cli::common::run_options::{Interaction, PermissionArgs, RunOptions, RunOutputFormat};
use crate::cli::completion;
use crate::cli::import::known_servers::known_servers;
use crate::cli::plans::plan::show_plan;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentCatalog, AgentsFile, ValidatedPlan};
use crate::engine::NewRun;
use crate::model::{Effect, GoalPlanning, Plan, Route, RunId, RunSource, RunStatus, Task};
use crate::runtime::{Freshness, jitter_seed};
use crate::ui::forms::form_prompt;
use crate::ui::human::{PlanReview, PlanValidity, PlanWishes, ReviewDecision};
use crate::view::text::{count_text, printable_lines, work_text};
use crate::view::{PlanEstimate, task_tree};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The plan: a YAML file, or - for standard input; or a goal in a sentence, which is planned first
    #[arg(value_name = "PLAN|GOAL", required_unless_present = "goal", add = completion::plans())]
    plan: Option<String>,
    /// The goal; any text, even one that looks like a file name
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["plan", "resume_last"])]
    goal: Option<String>,
    /// An input of the plan, as NAME=VALUE; may be repeated
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Inputs of the plan, as a YAML or JSON map
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    permissions: PermissionArgs,
    #[command(flatten)]
    json: JsonArg,
    /// Show something first, and continue only after approval; without a person to ask, stop
    #[arg(long, value_name = "WHAT")]
    approve: Option<ApprovalTarget>,
    /// Run the plan of a goal without approval; by default, a person at the terminal is asked first, and without a
    /// terminal nothing runs
    #[arg(short, long, conflicts_with = "approve")]
    yes: bool,
    /// Maximum number of replans of pending tasks after a task has failed; 0 disables replanning [default: 1 for a goal;
    /// for a plan, its `replan` key]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    replan: Option<u32>,
    /// Resume the latest run of this plan file if it was interrupted or paused; otherwise, start a new one
    #[arg(long, conflicts_with_all = ["detach", "dry_run", "approve", "params", "params_file", "replan"])]
    resume_last: bool,
    /// Run nothing: check a plan and print its tasks without connecting to agents; print the plan of a goal
    #[arg(long)]
    dry_run: bool,
    /// Run in the background: print the run ID once the run has started; `kapell answer` answers its questions
    #[arg(long, conflicts_with_all = ["approve", "dry_run"])]
    detach: bool,
    /// The run ID, in the background process
    #[arg(long, hide = true, requires = "detach")]
    detached_as: Option<String>,
}

/// A part of the run that a person can approve first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ApprovalTarget {
    /// The plan
    Plan,
}

/// The part of a plan that a person sees and approves before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Review {
    /// Nothing.
    None,
    /// The outline: what each task does.
    Outline,
    /// The plan file.
    File,
}

impl Review {
    fn of(args: &RunArgs, target: &CommandTarget<'_>) -> Self {
        match (args.approve, target) {
            (Some(ApprovalTarget::Plan), _) => Self::File,
            (None, CommandTarget::Goal(_)) if !args.yes => Self::Outline,
            (None, _) => Self::None,
        }
    }
}

pub(crate) async fn run(args: RunArgs) -> Result<Exit, CliError> {
    let mut session = GoalSession::default();
    let ended = Box::pin(run_in_session(args, &mut session)).await;
    session.close().await;
    ended
}

/// Runs a plan or a goal. The session keeps connections that the run did not take over.
async fn run_in_session(args: RunArgs, session: &mut GoalSession) -> Result<Exit, CliError> {
    let args = RunArgs { options: args.options.with_json(args.json), ..args };
    // The parent of a detached process is a kapell process, which was checked.
    if args.detached_as.is_none() {
        args.options.check_speaker()?;
    }
    if args.resume_last
        && let Some(plan) = &args.plan
        && let Some(run) = resume::latest_unfinished(&args.options.journal, Path::new(plan))?
    {
        let mode = (ChangePolicy::Reject, Interaction::Terminal);
        return resume::resume_run(&run, (&args.options, &args.permissions), mode, &[]).await;
    }
    let target = CommandTarget::from_args("run", args.plan.as_deref(), args.goal.as_deref())?;
    if args.detach {
        if target == CommandTarget::Plan("-") {
            return Err(CliError::usage(
                "cli::detached_stdin",
                "a plan from standard input cannot run in the background",
                "pass a plan file",
            ));
        }
        if matches!(target, CommandTarget::Goal(_)) && !args.yes {
            return Err(CliError::usage(
                "cli::detached_goal",
                "the plan of a goal cannot be approved in the background",
                "add `--yes` to run it without approval, or plan it with `kapell plan` and run the file",
            ));
        }
        if args.detached_as.is_none() {
            let run = unused_run_id(&args.options.journal)?;
            return detach(&files::journal_location(&args.options.journal)?, &run, "run").await;
        }
        leave_terminal()?;
    }
    let agents_files = args.options.agents.files(match target {
        CommandTarget::Plan(plan) => files::plan_path(plan),
        CommandTarget::Goal(_) => None,
    });
    let agents = args.permissions.read_agents(&agents_files)?;
    if agents.host.shell.enabled || agents.agents.values().any(|agent| agent.transport.child_process().is_some()) {
        // Forked before a plan is in memory, since the guard would keep that memory.
        start_guard()?;
    }
    let run = match &args.detached_as {
        Some(run) => RunId::from(run.as_str()),
        None => unused_run_id(&args.options.journal)?,
    };
    let interaction = if args.detach { Interaction::Remote } else { Interaction::Terminal };
    let context = RunContext::new(run, &args.options, interaction)?;
    let known_servers = || known_servers(&agents);
    let goal = match target {
        CommandTarget::Goal(text) => Some(goal_request(text, &args, (&agents, &known_servers), &context)?),
        CommandTarget::Plan(_) => None,
    };
    let mut loaded = match (&goal, target) {
        (Some(goal), _) => match interruptible(&context.screen, plan_goal(goal, session)).await? {
            PlannedGoal::Plan(loaded) => *loaded,
            PlannedGoal::Answer(answer) => return print_answer(&answer, context.output),
        },
        (None, CommandTarget::Plan(plan) | CommandTarget::Goal(plan)) => load_written_plan(plan, &args, &agents)?,
    };
    context.screen.flush();
    if !loaded.validated.warnings.is_empty() {
        show_diagnostics(&loaded.validated.warnings);
    }
    let (mut given, params) = match &args.params_file {
        Some(path) => files::params(path, &args.params).map(|(given, params)| (Some(given), params))?,
        None => (None, None),
    };
    if !args.dry_run {
        given = match ask_for_inputs(&context, &loaded.validated.plan, (&args.params, None), given).await? {
            Ok(given) => given,
            Err(exit) => return Ok(exit),
        };
    }
    let mut inputs = config::resolve_inputs(&loaded.validated.plan, &args.params, given.as_ref())?;
    if args.dry_run {
        match target {
            CommandTarget::Goal(_) => show_plan(&loaded.text)?,
            CommandTarget::Plan(_) => print(&task_tree(&loaded.validated.plan))?,
        }
        return Ok(Exit::Success);
    }
    let review = Review::of(&args, &target);
    if review != Review::None {
        let goal = goal.as_ref().map(|goal| (goal, &mut *session));
        let reviewed = review_plan((&context, &agents), review, goal, &mut loaded);
        if let Some(exit) = interruptible(&context.screen, reviewed).await? {
            return Ok(exit);
        }
        loaded.validated = loaded.validated.with_approved_replans();
        inputs = config::resolve_inputs(&loaded.validated.plan, &args.params, given.as_ref())?;
    }
    let LoadedPlan { validated, text, file, planned, catalog, .. } = loaded;
    drop(goal);
    let (early_calls, discarded_calls) = session.settle_early_calls(&validated.plan, &agents, &catalog);
    let planning = planned.map(|(_, planning)| GoalPlanning { discarded_calls, ..planning });
    let plan = Arc::new(validated.plan);
    let (agents_path, user_agents) = files::agents_source(&agents_files);
    let source = Arc::new(RunSource {
        plan: (target != CommandTarget::Plan("-")).then(|| files::absolute(Path::new(&file))),
        plan_hash: config::fingerprint_of(&text),
        agents: agents_path,
        user_agents,
        params,
    });
    // A run can take long, and a plan's text can be large.
    drop((text, validated.warnings));
    let seed = jitter_seed(&context.run);
    let new_run = NewRun { plan, inputs: Arc::new(inputs), seed, planning, source: Some(source), id: None };
    let known = KnownAgents { catalog, connections: session.remove_connections(), early_calls };
    execute(context, agents, known, new_run.into()).await
}

/// A plan that is ready to run.
struct LoadedPlan {
    validated: ValidatedPlan,
    text: String,
    /// The name of the plan file, for messages.
    file: String,
    /// The reply of the planner, and the goal with the exchanges that planned it, if there is a goal.
    planned: Option<(String, GoalPlanning)>,
    /// The tools that the agents offered.
    catalog: AgentCatalog,
    /// The number of replans that the command line sets for a plan file.
    replans: Option<u32>,
}

fn load_written_plan(plan: &str, args: &RunArgs, agents: &AgentsFile) -> Result<LoadedPlan, CliError> {
    let (name, text) = files::read_plan_text(plan)?;
    let mut validated = config::load_plan(name, &text, agents, None)?;
    if !args.dry_run {
        validated = validated.require_permissions()?;
    }
    if let Some(replans) = args.replan {
        if replans > 0 && agents.models.is_empty() {
            return Err(CliError::usage(
                "cli::no_model",
                "`--replan` requires a language model, and none is configured",
                config::NO_MODEL_HELP,
            ));
        }
        validated = validated.with_max_replans(replans);
    }
    Ok(LoadedPlan {
        validated,
        text,
        file: name.to_owned(),
        planned: None,
        catalog: AgentCatalog::new(),
        replans: args.replan,
    })
}

/// What came of planning a goal.
enum PlannedGoal {
    Plan(Box<LoadedPlan>),
    Answer(String),
}

/// Returns the goal to plan.
///
/// # Errors
/// Fails if inputs are given: only a plan has them.
fn goal_request<'a>(
    text: &'a str,
    args: &RunArgs,
    (agents, known_servers): (&'a AgentsFile, &'a (dyn Fn() -> Vec<KnownServer> + Sync)),
    context: &'a RunContext,
) -> Result<GoalRequest<'a>, CliError> {
    if !args.params.is_empty() || args.params_file.is_some() {
        return Err(CliError::usage(
            "cli::goal_inputs",
            format!("`{text}` is a goal, and only a plan has inputs"),
            "state the values in the goal, or run a plan file",
        ));
    }
    Ok(GoalRequest {
        text,
        max_replans: args.replan.unwrap_or(DEFAULT_MAX_REPLANS),
        agents,
        freshness: Freshness::Current,
        screen: &context.screen,
        human: &*context.human,
        saved_path: files::saved_plan_path(&context.journal, &context.run),
        examples: SavedPlans::of(&context.journal).examples(),
        known_servers,
        connections: if args.dry_run { ConnectionUse::Planning } else { ConnectionUse::Run(&context.run) },
    })
}

/// Plans the goal, and saves the plan in any case.
async fn plan_goal(goal: &GoalRequest<'_>, session: &mut GoalSession) -> Result<PlannedGoal, CliError> {
    let GoalPlan { generated, planning, catalog } = match goal.plan(session).await? {
        GoalOutcome::Plan(plan) => *plan,
        GoalOutcome::Answer(answer) => return Ok(PlannedGoal::Answer(answer)),
    };
    goal.save(&generated.text)?;
    Ok(PlannedGoal::Plan(Box::new(LoadedPlan {
        validated: generated.validated,
        text: generated.text,
        file: goal.saved_path.display().to_string(),
        planned: Some((generated.reply, planning)),
        catalog,
        replans: None,
    })))
}

/// Prints the answer to a goal that needs no plan.
fn print_answer(answer: &str, output: RunOutputFormat) -> Result<Exit, CliError> {
    match output {
        RunOutputFormat::Text => print(&format!("{}\n", answer.trim_end()))?,
        RunOutputFormat::Json | RunOutputFormat::StreamJson => {
            let result = json!({"status": RunStatus::Succeeded, "answer": answer});
            print_json(&result)?;
        }
    }
    Ok(Exit::Success)
}

/// Shows the plan and asks for approval, again after each change of the plan. Returns the exit code if it is not approved.
async fn review_plan(
    (context, agents): (&RunContext, &AgentsFile),
    review: Review,
    mut goal: Option<(&GoalRequest<'_>, &mut GoalSession)>,
    loaded: &mut LoadedPlan,
) -> Result<Option<Exit>, CliError> {
    // A plan from standard input has no file that can be changed.
    let path = PathBuf::from(&loaded.file);
    let mut mistakes = None::<String>;
    let history = work_history(&context.journal);
    loop {
        let estimate = history.estimate(&loaded.validated.plan);
        let file = path.is_file().then_some(path.as_path());
        let text = match (&mistakes, review) {
            (Some(mistakes), _) => mistakes.clone(),
            (None, Review::File) => format!("{}\n# {}: {}\n", loaded.text, estimate.work_text(), estimate.cost_text()),
            (None, _) => plan_outline(&loaded.validated.plan, &loaded.catalog, &estimate),
        };
        let validity = if mistakes.is_none() { PlanValidity::Valid } else { PlanValidity::Invalid };
        let wishes = if goal.is_some() { PlanWishes::Possible } else { PlanWishes::Impossible };
        match context.human.review_plan(&PlanReview { text: &text, file, validity, wishes }).await {
            ReviewDecision::Approved => return Ok(None),
            ReviewDecision::Rejected => {
                context
                    .screen
                    .println(format!("the plan was not approved; nothing ran; `kapell run {}` runs it", loaded.file));
                return Ok(Some(Exit::Denied));
            }
            ReviewDecision::Deferred { reason } => {
                for line in printable_lines(&text) {
                    context.screen.println(line);
                }
                let file = &loaded.file;
                let message = format!("the plan requires approval, and {reason}; `kapell run {file}` runs it");
                context.screen.println(message);
                return Ok(Some(Exit::Paused));
            }
            ReviewDecision::Edited => {
                let text = config::read_text(&path)?;
                let catalog = (!loaded.catalog.is_empty()).then_some(&loaded.catalog);
                let edited = config::load_plan(&loaded.file, &text, agents, catalog);
                match edited.and_then(ValidatedPlan::require_permissions) {
                    Ok(validated) => {
                        loaded.validated = match loaded.replans {
                            Some(replans) => validated.with_max_replans(replans),
                            None => validated,
                        };
                        loaded.text = text;
                        mistakes = None;
                    }
                    Err(diagnostics) => mistakes = Some(diagnostics.to_string()),
                }
            }
            ReviewDecision::Wished(wish) => {
                let Some((goal, session)) = &mut goal else { continue };
                if let Some((reply, _)) = &loaded.planned {
                    session.add_wish(reply, wish);
                }
                match plan_goal(goal, session).await? {
                    PlannedGoal::Plan(planned) => *loaded = *planned,
                    PlannedGoal::Answer(answer) => {
                        print_answer(&answer, context.output)?;
                        return Ok(Some(Exit::Success));
                    }
                }
                mistakes = None;
            }
        }
    }
}

/// Returns the outline of a plan, one task a line. `catalog` holds the tools of the agents, where they are known.
fn plan_outline(plan: &Plan, catalog: &AgentCatalog, estimate: &PlanEstimate) -> String {
    let tasks = count_text(plan.written_tasks().count(), "task");
    let mut text = format!("{}: {tasks}, {}\n", plan.name, estimate.work_text());
    for task in &plan.tasks {
        let effect = task.routes().first().map(|first| effect(plan, task, first, catalog)).unwrap_or_default();
        let work = format!("{}{effect}", work_text(task));
        let needs: Vec<&str> = task.needs.iter().map(|id| id.as_str()).collect();
        let title = task.title.as_ref().map(|title| format!(" ({title})")).unwrap_or_default();
        text += &format!("  {}{title}: {work}", task.id);
        if let Some(foreach) = &task.foreach {
            text += &format!(", for each of `{}`", foreach.items.text());
        }
        if !needs.is_empty() {
            text += &format!(", after {}", needs.join(", "));
        }
        text.push('\n');
    }
    text + &format!("estimated: {}\n", estimate.cost_text())
}

/// Describes in parentheses the effect of repeating a call, where the agent's tools are known.
fn effect(plan: &Plan, task: &Task, route: &Route, catalog: &AgentCatalog) -> String {
    if catalog.is_empty() {
        return String::new();
    }
    if let Some(effect) = task.operation().guaranteed_effect() {
        return format!(" ({})", form_prompt::effect_in_words(effect));
    }
    let claimed = || catalog.get(&route.agent)?.as_ref().ok()?.tool(&route.tool)?.effect;
    let configured = plan.agents.get(&route.agent).and_then(|agent| agent.effect);
    let effect = task.effect.or(configured).or_else(claimed).unwrap_or(Effect::AtMostOnce);
    format!(" ({})", form_prompt::effect_in_words(effect))
}
