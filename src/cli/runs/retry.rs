//! `kapell retry`: runs what failed in an earlier run again, or a part of it, as a new run with the other results.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::resume::{agent_changes, params_change, plan_changes};
use crate::HostError;
use crate::cli::common::args::JsonArg;
use crate::cli::common::execute::execute;
use crate::cli::common::files;
use crate::cli::common::run_context::{RunContext, unused_run_id};
use crate::cli::common::run_options::{Interaction, RunOptions, speaks_for_a_person};
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentCatalog, AgentsFile};
use crate::engine::{self, NewRun, Rerun, Run};
use crate::model::{Plan, Record, RunId, RunSource, RunStatus, TaskId};
use crate::runtime::jitter_seed;

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
    /// The plan to rerun with, such as a corrected one; unchanged tasks keep their results
    #[arg(long, value_name = "FILE", conflicts_with = "accept_changes")]
    plan: Option<PathBuf>,
    /// Rerun with the original plan even if its file has changed
    #[arg(long)]
    accept_changes: bool,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    json: JsonArg,
}

pub(crate) async fn retry(args: RetryArgs) -> Result<Exit, CliError> {
    let args = RetryArgs { options: args.options.with_json(args.json), ..args };
    args.options.check_speaker()?;
    if args.accept_changes {
        speaks_for_a_person()?;
    }
    let reader = files::open_journal(&args.options.journal)?;
    let earlier_id = reader.find_run(&args.run)?;
    let mut records: Vec<Record> = reader.records(&earlier_id, 0).collect::<Result<_, _>>()?;
    let contents = files::contents_of(&args.options.journal, &earlier_id)?;
    let restored = records.iter_mut().try_for_each(|record| contents.restore_results(record));
    restored.map_err(|source| HostError::Contents { run: earlier_id.clone(), source })?;
    let earlier = Run::fold(&records).map_err(|error| {
        CliError::failed("cli::invalid_run", format!("cannot read run `{}`", earlier_id.short()), error)
    })?;
    if earlier.status().is_unfinished() {
        return Err(CliError::usage(
            "cli::run_not_ended",
            format!("run `{}` has not ended, so it cannot be rerun", earlier_id.short()),
            format!("`kapell resume {0}` resumes it; `kapell cancel {0}` cancels it", earlier_id.short()),
        ));
    }
    let agents = files::load_agents_for_run(&args.options.agents, &earlier)?;
    let agents_source = files::agents_source(&args.options.agents.files(args.plan.as_deref()));
    let from = args.from.as_deref().map(TaskId::from);
    if from.is_none() && args.plan.is_none() && earlier.status() == RunStatus::Succeeded {
        return Err(CliError::usage(
            "cli::nothing_failed",
            format!("no task of run `{}` failed, so there is nothing to retry", earlier_id.short()),
            format!("`kapell retry {} --from TASK` reruns a part of it", earlier_id.short()),
        ));
    }
    let (plan, inputs, source) = match &args.plan {
        Some(path) => corrected_start(path, &agents, agents_source, &earlier)?,
        None => {
            if !args.accept_changes {
                check_plan(&earlier_id, &earlier, &agents, from.as_ref())?;
            }
            let source = earlier.source().cloned().map(Arc::new);
            (original_plan(&earlier, &agents), Arc::clone(earlier.inputs()), source)
        }
    };
    // Checked before anything starts, since it is an error of the command line.
    if let Some(from) = &from {
        let checked = engine::check_rerun(&plan, &earlier_id, from);
        checked.map_err(|error| CliError::Usage {
            code: "cli::unknown_task",
            message: error.to_string(),
            help: None,
        })?;
    }
    let context = RunContext::new(unused_run_id(&args.options.journal)?, &args.options, Interaction::Terminal)?;
    for change in agent_changes(&earlier, &agents).into_iter().chain(params_change(&earlier)) {
        context.screen.println(format!("changed since run {}: {change}", earlier_id.short()));
    }
    let new_run = NewRun { plan, inputs, seed: jitter_seed(&context.run), planning: None, source };
    let rerun = Rerun { earlier_id, earlier, from, new_run };
    execute(context, agents, AgentCatalog::default(), rerun.into()).await
}

/// Refuses to retry a plan if its file has changed, or if one of its agents is no longer in the agents file.
fn check_plan(earlier_id: &RunId, earlier: &Run, agents: &AgentsFile, from: Option<&TaskId>) -> Result<(), CliError> {
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
    let removed = earlier.plan().agents.keys().find(|id| !agents.agents.contains_key(*id));
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

/// The plan, inputs and files that a retry begins with.
type RetryStart = (Arc<Plan>, Arc<Value>, Option<Arc<RunSource>>);

/// Returns the start of a retry with another plan. Inputs keep their values.
fn corrected_start(
    path: &std::path::Path,
    agents: &AgentsFile,
    (agents_path, user_agents): (String, Option<String>),
    earlier: &Run,
) -> Result<RetryStart, CliError> {
    let name = path.display().to_string();
    let (name, text) = files::read_plan_text(&name)?;
    let plan = config::load_plan(name, &text, agents, None)?.plan;
    let mut given = earlier.inputs().as_object().cloned().unwrap_or_default();
    given.retain(|name, value| plan.inputs.contains_key(name.as_str()) && !value.is_null());
    let inputs = config::resolve_inputs(&plan, &[], Some(&Value::Object(given)))?;
    let plan_path = (name != "-").then(|| files::absolute(path));
    let params = earlier.source().and_then(|source| source.params.clone());
    let plan_hash = config::fingerprint_of(&text);
    let source = RunSource { plan: plan_path, plan_hash, agents: agents_path, user_agents, params };
    Ok((Arc::new(plan), Arc::new(inputs), Some(Arc::new(source))))
}
