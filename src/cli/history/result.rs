//! `kapell result`: prints the result of a run, or of one of its tasks.

use std::path::PathBuf;

use clap::Args;

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::execute::{cannot_save, print_result, report_saved};
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::model::{RunId, TaskId};
use crate::runtime::ContentStore;
use crate::view::{self, RunView, TaskResult, TaskStatus};

#[derive(Debug, Args)]
pub(crate) struct ResultArgs {
    /// The run: its ID, the start or end of its ID, or `last`
    #[arg(default_value = "last", add = completion::runs())]
    run: String,
    /// Only the result of this task or item, such as `read` or `read[2]`
    #[arg(add = completion::tasks())]
    task: Option<String>,
    /// Also save a copy of each image, audio, or other binary content in this directory
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) fn result(args: &ResultArgs) -> Result<Exit, CliError> {
    let reader = files::open_journal(&args.journal)?;
    let run = reader.find_run(&args.run)?;
    let mut view = RunView::new(&run);
    for record in files::shown_records(&*reader, &args.journal, &run)? {
        view.apply(&record?);
    }
    let mut result = view.into_result();
    if result.status.is_unfinished() {
        message!("run {} has not ended; this is its result so far", run.short());
    }
    let content = files::contents_of(&args.journal, &run)?;
    content.complete_result(&mut result);
    let Some(id) = &args.task else {
        save_files(args, &content, result.tasks.iter_mut())?;
        print_result(args.output, &result)?;
        return Ok(Exit::Success);
    };
    let id = TaskId::from(id.as_str());
    let mut task = result.task(&id).cloned().ok_or_else(|| unknown_task(&run, &id))?;
    save_files(args, &content, [(&id, &mut task)])?;
    match args.output {
        OutputFormat::Text if task.output.is_some() || task.items.is_some() => print(&view::task_text(&id, &task))?,
        OutputFormat::Text => {}
        OutputFormat::Json => print_json(&task)?,
    }
    match missing_result(&task) {
        None => Ok(Exit::Success),
        Some(reason) => {
            let short = run.short();
            message!("task `{id}` of run {short} {reason}; `kapell runs show {short} '{id}'` shows its calls");
            Ok(Exit::Failed)
        }
    }
}

/// Describes why a task has no result, if it has none.
fn missing_result(task: &TaskResult) -> Option<String> {
    Some(match (task.status, &task.error, &task.skipped_because) {
        (TaskStatus::Succeeded, ..) => return None,
        (_, Some(failure), _) => format!("failed: {failure}"),
        (.., Some(reason)) => format!("was skipped: {reason}"),
        (status, ..) => format!("has no result: it is {status}"),
    })
}

/// Copies the files of the tasks to the directory of `--save`.
fn save_files<'t>(
    args: &ResultArgs,
    content: &ContentStore,
    tasks: impl IntoIterator<Item = (&'t TaskId, &'t mut TaskResult)>,
) -> Result<(), CliError> {
    let Some(directory) = &args.save else { return Ok(()) };
    for (id, task) in tasks {
        content.copy_files(id, task, directory).map_err(|error| cannot_save(directory, error))?;
        report_saved(task);
    }
    Ok(())
}

/// Returns the error for a task that a run does not have.
pub(super) fn unknown_task(run: &RunId, task: &TaskId) -> CliError {
    let help = format!("`kapell runs show {}` lists its tasks", run.short());
    CliError::usage("cli::unknown_task", format!("run `{}` has no task `{task}`", run.short()), help)
}
