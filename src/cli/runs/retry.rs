//! `kapell retry`: runs what failed in an earlier run again, or a part of it, as a new run with the other results.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::input_prompt::ask_for_inputs;
use super::resume::{agent_changes, params_change, plan_changes};
use crate::HostError;
use crate::cli::common::args::JsonArg;
use crate::cli::common::detach::{detach, leave_terminal};
use crate::cli::common::execute::{KnownAgents, execute};
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::common::run_context::{RunContext, interruptible, unused_run_id};
use crate::cli::common::run_options::{
    Interaction, PermissionArgs, RunOptions, RunOutputFormat, check_permissions, speaks_for_a_person,
};
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentsFile, InputSources};
use crate::engine::{NewRun, RepeatPolicy, Rerun, RerunError, RerunPreview, Run};
use crate::model::{AgentId, Answer, HOST_AGENT, ParamsFile, Plan, Record, RunId, RunSource, RunStatus, TaskId};
use crate::runtime::{ContentStore, jitter_seed};
use crate::ui::history::rerun_text;
use crate::ui::human::HumanResponse;

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// Rerun the tasks and items that failed, were cancelled, or were skipped, and the tasks after them. This is the
    /// default. A call that succeeded is not repeated if its effect is `at_most_once`
    #[arg(long, conflicts_with = "from")]
    failed: bool,
    /// Rerun this task, the tasks that depend on it, and all tasks and items without a result
    #[arg(long, value_name = "TASK", add = completion::tasks())]
    from: Option<String>,
    /// Also repeat calls that succeeded although their effect is `at_most_once`
    #[arg(long)]
    allow_repeats: bool,
    /// The plan to rerun with, such as a corrected one; unchanged tasks keep their results. Shows the difference, and asks
    /// at a terminal
    #[arg(long, value_name = "FILE", conflicts_with = "accept_changes", add = completion::plans())]
    plan: Option<PathBuf>,
    /// Another value for an input; tasks that use it are rerun. May be repeated
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// Rerun with another plan or with other inputs without asking
    #[arg(short, long)]
    yes: bool,
    /// Rerun with the original plan even if its file has changed
    #[arg(long)]
    accept_changes: bool,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    permissions: PermissionArgs,
    #[command(flatten)]
    json: JsonArg,
    /// Run nothing: print which tasks would run again
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Run in the background: print the run ID once the run has started; `kapell answer` answers its questions
    #[arg(long)]
    detach: bool,
    /// The run ID, in the background process
    #[arg(long, hide = true, requires = "detach")]
    detached_as: Option<String>,
}

pub(crate) async fn retry(args: RetryArgs) -> Result<Exit, CliError> {
    let args = RetryArgs { options: args.options.with_json(args.json), ..args };
    // The parent of a detached process is a kapell process, which was checked.
    if args.detached_as.is_none() {
        args.options.check_speaker()?;
        if args.accept_changes || args.allow_repeats {
            speaks_for_a_person()?;
        }
    }
    let run = match &args.detached_as {
        Some(run) => RunId::from(run.as_str()),
        None => unused_run_id(&args.options.journal)?,
    };
    if args.detach {
        if args.detached_as.is_none() {
            return detach(&files::journal_location(&args.options.journal)?, &run, "retry").await;
        }
        leave_terminal()?;
    }
    let (earlier_id, earlier) = read_earlier(&args, &run)?;
    let mut agents = files::load_agents_for_run(&args.options.agents, &earlier)?;
    args.permissions.extend_permissions(&mut agents);
    let is_changed = args.plan.is_some() || !args.params.is_empty();
    if args.from.is_none() && !is_changed && earlier.status() == RunStatus::Succeeded {
        return Err(nothing_to_retry(&earlier_id));
    }
    let (plan, source) = match &args.plan {
        Some(path) => corrected_start(path, &args, &agents, &earlier)?,
        None => {
            if !args.accept_changes {
                check_plan(&earlier_id, &earlier, &agents, args.from.as_deref())?;
            }
            original_start(&args, &agents, &earlier)
        }
    };
    check_permissions(&agents, &plan)?;
    let interaction = if args.detach { Interaction::Remote } else { Interaction::Terminal };
    let context = match args.dry_run {
        true => None,
        false => Some(RunContext::new(run.clone(), &args.options, interaction)?),
    };
    let inputs = match retry_inputs(context.as_ref(), &plan, &args, &earlier).await? {
        Ok(inputs) => inputs,
        Err(exit) => return Ok(exit),
    };
    let new_run = NewRun { plan, inputs, seed: jitter_seed(&run), planning: None, source, id: None };
    let repeats = if args.allow_repeats { RepeatPolicy::Allow } else { RepeatPolicy::Refuse };
    let from = args.from.as_deref().map(TaskId::from);
    let rerun = Rerun { earlier_id, earlier, from, repeats, new_run };
    // Checked before anything starts, since it is an error of the command line.
    let preview = rerun.preview().map_err(refused)?;
    if args.plan.is_none() && !preview.tasks.iter().any(|(_, decision)| decision.is_repeated()) {
        return Err(nothing_to_retry(&rerun.earlier_id));
    }
    let Some(context) = context else { return print_preview(&preview, args.options.output) };
    for change in agent_changes(&rerun.earlier, &agents).into_iter().chain(params_change(&rerun.earlier)) {
        context.screen.println(format!("changed since run {}: {change}", rerun.earlier_id.short()));
    }
    if is_changed {
        context.screen.println(format!("compared with run {}:", rerun.earlier_id.short()));
        rerun_text(&preview).lines().for_each(|line| context.screen.println(format!("  {line}")));
        let asks = !args.yes && context.human.is_person_here();
        let confirmed = async { Ok(!asks || is_accepted(&context.human.confirm("run these tasks?").await)) };
        if !interruptible(&context.screen, confirmed).await? {
            context.screen.println("nothing was run");
            context.screen.flush();
            return Ok(Exit::Denied);
        }
    }
    execute(context, agents, KnownAgents::default(), rerun.into()).await
}

/// Prints which tasks would run again, and which keep their results.
fn print_preview(preview: &RerunPreview, output: RunOutputFormat) -> Result<Exit, CliError> {
    match output {
        RunOutputFormat::Text => print(&rerun_text(preview))?,
        RunOutputFormat::Json | RunOutputFormat::StreamJson => {
            let ids = |is_repeated: bool| -> Vec<&TaskId> {
                let tasks = preview.tasks.iter().filter(|(_, decision)| decision.is_repeated() == is_repeated);
                tasks.map(|(id, _)| id).collect()
            };
            print_json(&json!({"again": ids(true), "kept": ids(false), "removed": preview.removed}))?;
        }
    }
    Ok(Exit::Success)
}

/// Returns the earlier run with the large contents of its results. Saved outputs become files of the new run.
///
/// # Errors
/// Fails if it has not ended, or cannot be read.
fn read_earlier(args: &RetryArgs, new_run: &RunId) -> Result<(RunId, Run), CliError> {
    let reader = files::open_journal(&args.options.journal)?;
    let run = reader.find_run(&args.run)?;
    let mut records: Vec<Record> = reader.records(&run, 0).collect::<Result<_, _>>()?;
    let contents = files::contents_of(&args.options.journal, &run)?;
    let restored = records.iter_mut().try_for_each(|record| contents.restore_results(record));
    restored.map_err(|source| HostError::Contents { run: run.clone(), source })?;
    let root = files::content_root(&files::journal_location(&args.options.journal)?);
    records.iter_mut().for_each(|record| ContentStore::move_saved_outputs(&root, record, new_run));
    let earlier = Run::fold(&records)
        .map_err(|error| CliError::failed("cli::invalid_run", format!("cannot read run `{}`", run.short()), error))?;
    if !earlier.status().is_unfinished() {
        return Ok((run, earlier));
    }
    let short = run.short();
    let (message, help) = match reader.driver(&run)? {
        Some(driver) => (
            format!("run `{short}` is still running, driven by {driver}"),
            format!("`kapell logs -f {short}` waits for its end; `kapell cancel {short}` ends it"),
        ),
        None => (
            format!("run `{short}` has not ended, so it cannot be retried"),
            format!("`kapell resume {short}` resumes it; `kapell cancel {short}` ends it"),
        ),
    };
    Err(CliError::usage("cli::run_not_ended", message, help))
}

fn nothing_to_retry(run: &RunId) -> CliError {
    CliError::usage(
        "cli::nothing_failed",
        format!("no task of run `{}` failed, so there is nothing to retry", run.short()),
        format!("`kapell retry {} --from TASK` reruns a part of it", run.short()),
    )
}

/// Returns the error for a rerun that is not possible.
fn refused(error: RerunError) -> CliError {
    let message = error.to_string();
    match error {
        RerunError::RepeatsEffects { .. } => CliError::usage(
            "cli::repeats_effects",
            message,
            "`--allow-repeats` repeats them; if that is harmless, give the tasks `effect: idempotent` and pass the plan with \
             `--plan FILE`",
        ),
        _ => CliError::Usage { code: "cli::unknown_task", message, help: None },
    }
}

fn is_accepted(response: &HumanResponse) -> bool {
    matches!(response, HumanResponse::Answered { answer: Answer::Accept { .. }, .. })
}

/// Refuses to retry a plan if its file has changed, or if one of its agents is no longer in the agents file.
fn check_plan(earlier_id: &RunId, earlier: &Run, agents: &AgentsFile, from: Option<&str>) -> Result<(), CliError> {
    let short = earlier_id.short();
    let part = from.map(|task| format!(" --from {task}")).unwrap_or_default();
    let changes = plan_changes(earlier, agents);
    if let (false, Some(RunSource { plan: Some(path), .. })) = (changes.is_empty(), earlier.source()) {
        return Err(CliError::usage(
            "cli::changed_files",
            format!("the plan of run `{short}` has changed since it ran: {}", changes.join("; ")),
            format!(
                "`kapell retry {short}{part} --plan {path}` reruns with the current plan and keeps the results of \
                 unchanged tasks; `--accept-changes` reruns with the original plan; `kapell run {path}` starts over"
            ),
        ));
    }
    let is_known = |id: &AgentId| id.as_str() == HOST_AGENT || agents.agents.contains_key(id);
    let removed = earlier.plan().agents.keys().find(|id| !is_known(id));
    match removed {
        Some(agent) => Err(CliError::usage(
            "cli::unknown_agent",
            format!("agent `{agent}` of run `{short}` is no longer in the agents file"),
            "pass another agents file with `--agents FILE`, or a plan that uses other agents with `--plan FILE`; with \
             `--accept-changes`, tasks that need the agent fail",
        )),
        None => Ok(()),
    }
}

/// Returns the plan of the earlier run, with the policies of the agents as they are now.
fn original_plan(earlier: &Run, agents: &AgentsFile) -> Arc<Plan> {
    let mut plan = earlier.current_plan();
    for (id, policy) in &mut plan.agents {
        if let Some(spec) = agents.agents.get(id) {
            *policy = spec.policy.clone();
        }
    }
    Arc::new(plan)
}

/// The plan and the files that a retry begins with.
type RetryStart = (Arc<Plan>, Option<Arc<RunSource>>);

/// Returns the start of a retry with the original plan.
fn original_start(args: &RetryArgs, agents: &AgentsFile, earlier: &Run) -> RetryStart {
    let source = earlier.source().map(|source| {
        let params = overridden_params(source, args);
        Arc::new(RunSource { params, ..source.clone() })
    });
    (original_plan(earlier, agents), source)
}

/// Returns the start of a retry with another plan.
fn corrected_start(path: &Path, args: &RetryArgs, agents: &AgentsFile, earlier: &Run) -> Result<RetryStart, CliError> {
    let name = path.display().to_string();
    let (name, text) = files::read_plan_text(&name)?;
    let plan = config::load_plan(name, &text, agents, None)?.plan;
    let plan_path = (name != "-").then(|| files::absolute(path));
    let (agents, user_agents) = files::agents_source(&args.options.agents.files(args.plan.as_deref()));
    let params = earlier.source().and_then(|source| overridden_params(source, args));
    let source = RunSource { plan: plan_path, plan_hash: config::fingerprint_of(&text), agents, user_agents, params };
    Ok((Arc::new(plan), Some(Arc::new(source))))
}

/// Returns the inputs of a retry: those of the earlier run that the plan still has, with the values of `--param`. A person
/// is asked in `context` for those that are missing, such as secrets, which the journal does not contain. Returns the exit
/// code if the person dismisses the form.
async fn retry_inputs(
    context: Option<&RunContext>,
    plan: &Plan,
    args: &RetryArgs,
    earlier: &Run,
) -> Result<Result<Arc<Value>, Exit>, CliError> {
    if args.plan.is_none() && args.params.is_empty() && plan.secret_inputs().next().is_none() {
        return Ok(Ok(Arc::clone(earlier.inputs())));
    }
    let mut kept = earlier.inputs().as_object().cloned().unwrap_or_default();
    kept.retain(|name, value| plan.inputs.contains_key(name.as_str()) && !value.is_null());
    let typed = match context {
        Some(context) => match ask_for_inputs(context, plan, (&args.params, Some(&kept)), None).await? {
            Ok(typed) => typed,
            Err(exit) => return Ok(Err(exit)),
        },
        None => None,
    };
    let sources = InputSources {
        parameters: &args.params,
        given: typed.as_ref(),
        earlier: Some(&kept),
        ..InputSources::default()
    };
    Ok(Ok(Arc::new(config::resolve_inputs_from(plan, &sources)?)))
}

/// Returns the parameters file of the earlier run, with the inputs that the command line overrides now.
fn overridden_params(source: &RunSource, args: &RetryArgs) -> Option<ParamsFile> {
    let mut params = source.params.clone()?;
    let names = args.params.iter().filter_map(|param| param.split_once('=')).map(|(name, _)| name.to_owned());
    params.overridden.extend(names);
    params.overridden.sort_unstable();
    params.overridden.dedup();
    Some(params)
}
