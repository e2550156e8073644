//! `kapell run`: runs a plan, or plans a goal and runs that, and prints what came of it.
//! Never prints anything but the result on stdout.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, ValueEnum};

use super::{
    AgentsArg, CliError, Exit, JournalArg,
    desk::{Desk, new_run},
    detach::detach,
    execute::{Work, execute},
    exit::{print, show},
    files,
    goal::{ForGoal, Goal, REPLANS},
    plan::show_plan,
    resume::{self, Changes},
    talk::{DriveArgs, Otherwise},
    target::Target,
};
use crate::{
    config::{self, AgentsFile, Catalogue, Diagnostics, Lowered},
    human::{Reply, sheet},
    mcp::guard,
    model::{Answer, Effect, GoalPlanning, Plan, Route, RunId, Source, Task},
    report::text::{count, printable_lines},
};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The plan: a YAML file, or - for standard input; or a goal in a sentence, which is planned first
    #[arg(value_name = "PLAN|GOAL", required_unless_present = "goal")]
    plan: Option<String>,
    /// A goal, whatever its text looks like
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with_all = ["plan", "resume_last"])]
    goal: Option<String>,
    #[command(flatten)]
    agents: AgentsArg,
    #[command(flatten)]
    journal: JournalArg,
    /// An input of the plan, as NAME=VALUE; may be repeated
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Inputs of the plan, as a YAML or JSON map
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
    #[command(flatten)]
    drive: DriveArgs,
    /// Show something first, and go on only after a yes; without anybody to ask, stop there
    #[arg(long, value_name = "WHAT")]
    approve: Option<Approval>,
    /// Run the plan of a goal without asking; otherwise, a person at the terminal is asked first
    #[arg(long, conflicts_with = "approve")]
    yes: bool,
    /// How often to plan anew what has not started when a task has failed for good; 0 for never [default: 1 for a
    /// goal, and what a plan says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100))]
    replan: Option<u32>,
    /// Go on with the latest run of this plan file if it was interrupted or paused; begin one otherwise
    #[arg(long, conflicts_with_all = ["detach", "dry_run", "approve", "params", "params_file", "replan"])]
    resume_last: bool,
    /// Run nothing: check a plan and say what it would do, without connecting to an agent; show the plan of a goal
    #[arg(long)]
    dry_run: bool,
    /// Run in a process of its own: print the run's id once it has begun, and leave its questions to `kapell answer`
    #[arg(long, conflicts_with_all = ["approve", "dry_run"])]
    detach: bool,
    /// In the process of its own: the run's id
    #[arg(long, hide = true, requires = "detach")]
    detached_as: Option<String>,
}

/// What a person can want to see first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Approval {
    /// The plan
    Plan,
}

/// What a person sees of a plan, and is asked about, before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Review {
    /// Nothing.
    None,
    /// What each task does.
    Outline,
    /// The plan file.
    Whole,
}

impl Review {
    fn of(args: &RunArgs, target: &Target<'_>, person_is_here: bool) -> Self {
        match (args.approve, target) {
            (Some(Approval::Plan), _) => Self::Whole,
            (None, Target::Goal(_)) if person_is_here && !args.yes => Self::Outline,
            (None, _) => Self::None,
        }
    }
}

pub(super) async fn run(args: RunArgs) -> Result<Exit, CliError> {
    // The parent of a detached process is a kapell process, which was checked.
    if args.detached_as.is_none() {
        args.drive.check_speaker()?;
    }
    if args.resume_last
        && let Some(plan) = &args.plan
    {
        let journal = files::journal(&args.journal)?;
        if let Some(run) = resume::unfinished(&journal, Path::new(plan))? {
            return resume::go_on(&run, &journal, &args.agents, &args.drive, Changes::Refused).await;
        }
    }
    let target = Target::of("run", args.plan.as_deref(), args.goal.as_deref())?;
    if args.detach {
        if target == Target::Plan("-") {
            return Err(CliError::usage("a plan from standard input cannot be detached", "name a plan file"));
        }
        if args.detached_as.is_none() {
            return detach(&files::journal(&args.journal)?, &new_run()).await;
        }
        guard::leave_terminal().map_err(|error| CliError::failed("the terminal could not be left", error))?;
    }
    let agents = files::agents(&args.agents)?;
    if agents.agents.values().any(|agent| agent.transport.child().is_some()) {
        // Forked before there is a plan in memory, which the guard would hold on to.
        guard::start()
            .map_err(|error| CliError::failed("the guard of the agents' processes cannot be started", error))?;
    }
    let desk = desk(&args)?;
    let Ready { lowered, text, file, planning, surveyed } = match target {
        Target::Goal(goal) => planned(goal, &args, &agents, &desk).await?,
        Target::Plan(plan) => written(plan, &args, &agents)?,
    };
    let review = Review::of(&args, &target, desk.human.is_person_here());
    let lowered = if review == Review::None { lowered } else { lowered.with_approved_replans() };
    desk.screen.flush();
    if !lowered.warnings.is_empty() {
        show(&lowered.warnings);
    }
    let (given, params) = match &args.params_file {
        Some(path) => files::params(path, &args.params).map(|(given, params)| (Some(given), params))?,
        None => (None, None),
    };
    let inputs = config::resolve_inputs(&lowered.plan, &args.params, given.as_ref()).map_err(Diagnostics::from)?;
    let plan = Arc::new(lowered.plan);
    if args.dry_run {
        match target {
            Target::Goal(_) => show_plan(&text)?,
            Target::Plan(_) => print(&outline(&plan, &surveyed))?,
        }
        return Ok(Exit::Done);
    }
    let shown = match review {
        Review::None => None,
        Review::Outline => Some(outline(&plan, &surveyed)),
        Review::Whole => Some(text.clone()),
    };
    if let Some(shown) = shown
        && let Some(exit) = refusal(&desk, &shown, &file).await
    {
        return Ok(exit);
    }
    let source = Arc::new(Source {
        plan: (target != Target::Plan("-")).then(|| files::absolute(Path::new(&file))),
        plan_hash: config::fingerprint_of(&text),
        agents: files::absolute(&config::agents_path(args.agents.agents.as_deref())),
        params,
    });
    // A run can be long, and a plan's text large.
    drop((text, lowered.warnings));
    let work = Work::New { plan, inputs: Arc::new(inputs), planning, surveyed, source };
    args.drive.print(execute(desk, &agents, work).await?)
}

/// A plan that can run.
struct Ready {
    lowered: Lowered,
    text: String,
    /// Where it is, as a person would name it.
    file: String,
    /// How it was made, for a goal.
    planning: Option<GoalPlanning>,
    /// What the agents offered then.
    surveyed: Catalogue,
}

fn written(plan: &str, args: &RunArgs, agents: &AgentsFile) -> Result<Ready, CliError> {
    let (name, text) = files::plan_text(plan)?;
    let mut lowered = config::load_plan(name, &text, agents, None)?;
    if let Some(replans) = args.replan {
        if replans > 0 && agents.models.is_empty() {
            return Err(CliError::usage(
                "`--replan` needs a language model, and none is configured",
                "add `[llm]` with `base_url` and `model` to the agents file",
            ));
        }
        lowered = lowered.with_replans(replans);
    }
    Ok(Ready { lowered, text, file: name.to_owned(), planning: None, surveyed: Catalogue::new() })
}

/// Plans the goal, and saves the plan whatever becomes of it.
async fn planned(text: &str, args: &RunArgs, agents: &AgentsFile, desk: &Desk) -> Result<Ready, CliError> {
    if !args.params.is_empty() || args.params_file.is_some() {
        return Err(CliError::usage(
            format!("`{text}` is a goal, and only a plan has inputs"),
            "say it in the goal, or name a plan file",
        ));
    }
    let saved = files::saved_plan(&desk.journal, &desk.run);
    let file = saved.display().to_string();
    let replans = args.replan.unwrap_or(REPLANS);
    let goal = Goal { text, replans, agents, screen: &desk.screen, saved };
    let ForGoal { planned, planning, surveyed } = goal.plan().await?;
    goal.save(&planned.text)?;
    Ok(Ready { lowered: planned.lowered, text: planned.text, file, planning: Some(planning), surveyed })
}

/// Shows the plan and asks for a yes; gives the exit of the command where there is none.
async fn refusal(desk: &Desk, text: &str, file: &str) -> Option<Exit> {
    for line in printable_lines(text) {
        desk.screen.println(line);
    }
    match desk.human.confirm("run this plan?").await {
        Reply::Answered { answer: Answer::Accept { .. }, .. } | Reply::AllApproved { .. } => None,
        Reply::Answered { .. } => {
            desk.screen.println("the plan was not approved, so nothing ran");
            Some(Exit::Denied)
        }
        Reply::LeftOpen { reason } => {
            desk.screen.println(format!("the plan needs a yes, and {reason}; `kapell run {file}` runs it"));
            Some(Exit::Paused)
        }
    }
}

/// What a plan would do, a task a line. `offered` is what agents say of their tools, where that is known.
fn outline(plan: &Plan, offered: &Catalogue) -> String {
    let mut text = format!("{}: {}\n", plan.name, count(plan.tasks.len(), "task"));
    for task in &plan.tasks {
        let routes: Vec<String> = task.routes().iter().map(|route| format!("{}.{}", route.agent, route.tool)).collect();
        let work = match task.routes().first() {
            None => "asks the language model".to_owned(),
            Some(first) => format!("{}{}", routes.join(" or "), effect(plan, task, first, offered)),
        };
        let needs: Vec<&str> = task.needs.iter().map(|id| id.as_str()).collect();
        text += &format!("  {}: {}", task.id, work);
        if !needs.is_empty() {
            text += &format!(", after {}", needs.join(", "));
        }
        text.push('\n');
    }
    text
}

/// What repeating a call would do, in parentheses, where the agents could be asked.
fn effect(plan: &Plan, task: &Task, route: &Route, offered: &Catalogue) -> String {
    if offered.is_empty() {
        return String::new();
    }
    let claimed = || offered.get(&route.agent)?.as_ref().ok()?.tool(&route.tool)?.effect;
    let configured = plan.agents.get(&route.agent).and_then(|agent| agent.effect);
    let effect = task.effect.or(configured).or_else(claimed).unwrap_or(Effect::AtMostOnce);
    format!(" ({})", sheet::effect_in_words(effect))
}

fn desk(args: &RunArgs) -> Result<Desk, CliError> {
    let run = args.detached_as.as_deref().map_or_else(new_run, RunId::from);
    let otherwise = match args {
        RunArgs { detach: true, .. } => Otherwise::Elsewhere,
        _ => Otherwise::Terminal,
    };
    Desk::new(run, files::journal(&args.journal)?, &args.drive, otherwise)
}
