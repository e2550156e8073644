//! `kapell result`: prints the result of a run, or of one of its tasks.

use std::path::PathBuf;

use clap::Args;

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::execute::print_result;
use crate::cli::common::exit::{print, print_json};
use crate::cli::common::files;
use crate::cli::completion;
use crate::cli::{CliError, Exit};
use crate::model::{RunId, TaskId};
use crate::runtime::ContentStore;
use crate::view::{self, RunView, TaskResult};

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
    match &args.task {
        Some(id) => {
            let id = TaskId::from(id.as_str());
            let mut task = result.task(&id).cloned().ok_or_else(|| unknown_task(&run, &id))?;
            save_files(args, &content, [&mut task])?;
            match args.output {
                OutputFormat::Text => print(&view::task_text(&id, &task))?,
                OutputFormat::Json => print_json(&task)?,
            }
        }
        None => {
            save_files(args, &content, result.tasks.values_mut())?;
            print_result(args.output, &result)?;
        }
    }
    Ok(Exit::Success)
}

/// Copies the files of the tasks to the directory of `--save`.
fn save_files<'t>(
    args: &ResultArgs,
    content: &ContentStore,
    tasks: impl IntoIterator<Item = &'t mut TaskResult>,
) -> Result<(), CliError> {
    let Some(directory) = &args.save else { return Ok(()) };
    tasks.into_iter().try_for_each(|task| content.copy_files(task, directory)).map_err(|error| {
        CliError::failed("cli::unwritable", format!("cannot save files to `{}`", directory.display()), error)
    })
}

/// Returns the error for a task that a run does not have.
pub(super) fn unknown_task(run: &RunId, task: &TaskId) -> CliError {
    let help = format!("`kapell runs show {}` lists its tasks", run.short());
    CliError::usage("cli::unknown_task", format!("run `{}` has no task `{task}`", run.short()), help)
}
