//! `kapell resume`: resumes a run that was interrupted or paused.

use std::path::Path;

use clap::Args;
use serde_json::Value;

use super::input_prompt::provide_secrets;
use crate::cli::common::args::{JournalArg, JsonArg};
use crate::cli::common::detach::{detach, leave_terminal};
use crate::cli::common::execute::{KnownAgents, execute};
use crate::cli::common::files;
use crate::cli::common::run_context::RunContext;
use crate::cli::common::run_options::{
    Interaction, PermissionArgs, RunOptions, check_permissions, speaks_for_a_person,
};
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::config::{self, AgentsFile, InputSources};
use crate::engine::Run;
use crate::model::{Event, ParamsFile, Plan, Record, RunId, RunSource};
use crate::runtime::ResumableRun;

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// The run: its ID, the start or end of its ID, or `last` (the default)
    #[arg(add = completion::runs())]
    run: Option<String>,
    /// The latest run
    #[arg(long, conflicts_with = "run")]
    last: bool,
    /// A secret input of the plan, which the journal does not contain, as NAME=VALUE; may be repeated
    #[arg(short, long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    #[command(flatten)]
    options: RunOptions,
    #[command(flatten)]
    permissions: PermissionArgs,
    #[command(flatten)]
    json: JsonArg,
    /// Resume even if the plan, the agents file, or an agent's tools have changed since the run began
    #[arg(long)]
    accept_changes: bool,
    /// Resume in the background: print the run ID once the run continues; `kapell answer` answers its questions
    #[arg(long)]
    detach: bool,
    /// The run ID, in the background process
    #[arg(long, hide = true, requires = "detach")]
    detached_as: Option<String>,
}

/// The policy for resuming a run if its files or its agents' tools have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangePolicy {
    /// Changes are accepted.
    Accept,
    /// Changes are rejected.
    Reject,
}

pub(crate) async fn resume(args: ResumeArgs) -> Result<Exit, CliError> {
    let name = args.run.as_deref().filter(|_| !args.last).unwrap_or("last");
    let run = files::open_journal(&args.options.journal)?.find_run(name)?;
    let changes = if args.accept_changes { ChangePolicy::Accept } else { ChangePolicy::Reject };
    let options = args.options.with_json(args.json);
    let mut interaction = Interaction::Terminal;
    if args.detach {
        if args.detached_as.is_none() {
            check_person(&options, changes)?;
            return detach(&files::journal_location(&options.journal)?, &run, "resume").await;
        }
        leave_terminal()?;
        interaction = Interaction::Remote;
    }
    resume_run(&run, (&options, &args.permissions), (changes, interaction), &args.params).await
}

/// Refuses what only a person may do, to a process that belongs to an agent.
fn check_person(options: &RunOptions, accepted: ChangePolicy) -> Result<(), CliError> {
    options.check_speaker()?;
    if accepted == ChangePolicy::Accept { speaks_for_a_person() } else { Ok(()) }
}

/// Returns the latest run of the plan file at `plan`, if it has not ended and no process drives it.
///
/// # Errors
/// Fails if the journal cannot be read.
pub(crate) fn latest_unfinished(journal: &JournalArg, plan: &Path) -> Result<Option<RunId>, CliError> {
    let Some(reader) = files::open_journal_if_present(journal)? else { return Ok(None) };
    let plan = files::absolute(plan);
    for summary in reader.runs(usize::MAX)? {
        let started = reader.records(&summary.run, 0).next().transpose()?;
        let Some(Record { event: Event::RunStarted { source: Some(source), .. }, .. }) = started else { continue };
        if source.plan.as_deref() == Some(plan.as_str()) {
            // The lease is checked too: a summary does not show a process that is just resuming a paused run.
            return Ok(
                (summary.status.is_unfinished() && reader.driver(&summary.run)?.is_none()).then_some(summary.run)
            );
        }
    }
    Ok(None)
}

/// Resumes `run`, drives it to its end, and prints its result. `params` has its secret inputs.
///
/// # Errors
/// Fails if the run cannot be resumed, or if its files have changed and that is not accepted.
pub(crate) async fn resume_run(
    run: &RunId,
    (options, permissions): (&RunOptions, &PermissionArgs),
    (accepted, interaction): (ChangePolicy, Interaction),
    params: &[String],
) -> Result<Exit, CliError> {
    // The parent of a detached process is a kapell process, which was checked.
    if interaction == Interaction::Terminal {
        check_person(options, accepted)?;
    }
    let store = files::journal_store(&options.journal)?;
    let contents = files::content_root(&files::journal_location(&options.journal)?);
    let mut resumable = ResumableRun::load(&*store, run, Some(&contents), accepted == ChangePolicy::Accept)?;
    let mut agents = files::load_agents_for_run(&options.agents, resumable.run())?;
    permissions.extend_permissions(&mut agents);
    check_permissions(&agents, resumable.run().plan())?;
    let changes = file_changes(resumable.run(), &agents);
    if !changes.is_empty() && accepted == ChangePolicy::Reject {
        return Err(CliError::usage(
            "cli::changed_files",
            format!("files of run `{}` have changed since it began: {}", run.short(), changes.join("; ")),
            format!(
                "`kapell resume {} --accept-changes` resumes it with its original plan and with the current agents file",
                run.short()
            ),
        ));
    }
    let context = RunContext::new(run.clone(), options, interaction)?;
    for change in changes {
        context.screen.println(format!("accepted: {change}"));
    }
    if let Some(change) = params_change(resumable.run()) {
        context.screen.println(format!("changed since the run began: {change}"));
    }
    if let Some(exit) = provide_secrets(&context, &mut resumable, params).await? {
        return Ok(exit);
    }
    execute(context, agents, KnownAgents::default(), resumable.into()).await
}

/// Describes how the plan file and the agents file differ from those that the run began with.
fn file_changes(run: &Run, agents: &AgentsFile) -> Vec<String> {
    let mut changes = agent_changes(run, agents);
    changes.extend(plan_changes(run, agents));
    changes
}

/// Describes how the agents file differs from the one that the run began with.
pub(crate) fn agent_changes(run: &Run, agents: &AgentsFile) -> Vec<String> {
    let policies = run.plan().agents.iter().map(|(id, before)| (id, before, agents.agents.get(id)));
    policies.filter_map(|(id, before, now)| config::agent_changes(id, before, now.map(|spec| &spec.policy))).collect()
}

/// Describes how the plan file differs from the one that the run began with. A plan file that is missing, or a plan
/// from standard input, yields nothing, since the run has the plan.
pub(crate) fn plan_changes(run: &Run, agents: &AgentsFile) -> Vec<String> {
    let Some(RunSource { plan: Some(path), plan_hash, .. }) = run.source() else { return Vec::new() };
    match config::read_text(Path::new(path)) {
        Ok(text) if config::fingerprint_of(&text) != *plan_hash => match config::load_plan(path, &text, agents, None) {
            Ok(now) => config::plan_changes(run.plan(), &now.plan),
            Err(_) => vec![format!("`{path}` is no longer a valid plan")],
        },
        _ => Vec::new(),
    }
}

/// Describes how the parameters file differs from the one that gave the inputs of the run. The run has its inputs, so a
/// file that is missing or has changed does not prevent resuming.
pub(crate) fn params_change(run: &Run) -> Option<String> {
    let ParamsFile { path, hash, overridden } = run.source()?.params.as_ref()?;
    let text = config::read_text(Path::new(path)).ok().filter(|text| config::fingerprint_of(text) != *hash)?;
    let before = run.inputs().as_object()?;
    // The journal does not contain secrets, so they cannot be compared.
    let mut plan = Plan::clone(run.plan());
    let secrets: Vec<String> = plan.secret_inputs().map(str::to_owned).collect();
    plan.inputs.retain(|name, _| !secrets.contains(name));
    let kept = overridden.iter().filter_map(|name| Some((name.clone(), before.get(name)?.clone()))).collect();
    let now = config::read_data(path, &text).ok().and_then(|mut given| {
        given.as_object_mut()?.retain(|name, _| !overridden.contains(name) && !secrets.contains(name));
        let sources = InputSources { given: Some(&given), earlier: Some(&kept), ..InputSources::default() };
        config::resolve_inputs_from(&plan, &sources).ok()
    });
    let Some(now) = now else {
        return Some(format!(
            "`{path}` no longer provides valid inputs of the plan; the run keeps its original inputs"
        ));
    };
    let is_changed = |(name, value): &(&String, &Value)| !secrets.contains(name) && now.get(name) != Some(value);
    let changed: Vec<_> = before.iter().filter(is_changed).collect();
    let names = changed.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    (!changed.is_empty())
        .then(|| format!("`{path}` now has different values for {names}; the run keeps its original inputs"))
}
