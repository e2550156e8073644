//! `kapell runs prune`: removes old runs, and expired results of the cache. A run that a process drives is kept.

use std::{fs, io};

use clap::{ArgGroup, Args};

use crate::cli::common::args::{JournalArg, OutputFormat};
use crate::cli::common::exit::{output_width, print, print_json};
use crate::cli::common::files;
use crate::cli::{CliError, Exit};
use crate::journal::{self, JournalError, JournalLocation, RunSummary};
use crate::model::{HumanDuration, RunId, Timestamp};
use crate::runtime::CallCache;
use crate::ui::history::{self, ListedRun};
use crate::view::text::count_text;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["older_than", "keep"])))]
pub(crate) struct PruneArgs {
    /// Delete runs that ended longer ago than this, such as 30d
    #[arg(long, value_name = "TIME", value_parser = HumanDuration::parse)]
    older_than: Option<HumanDuration>,
    /// Keep this number of the latest runs, regardless of their age
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Also delete interrupted and paused runs, which could be resumed
    #[arg(long)]
    force: bool,
    /// Only list the runs that would be deleted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    output: OutputFormat,
}

pub(crate) fn prune(args: &PruneArgs) -> Result<Exit, CliError> {
    let journal = files::journal_location(&args.journal)?;
    let store = journal::store(&journal);
    let context = files::display_context();
    let mut runs = match store.open_reader() {
        Err(JournalError::Missing { .. }) => Vec::new(),
        reader => reader?.runs(usize::MAX)?,
    };
    runs = runs_to_prune(args, runs, context.now);
    if !args.dry_run {
        let mut pruned = Vec::new();
        for run in runs {
            match store.prune(&run.run) {
                Ok(()) => pruned.push(run),
                // Another process has resumed it since it was listed.
                Err(JournalError::Driven { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            let run = &pruned[pruned.len() - 1].run;
            remove_files(&journal, run).map_err(|error| {
                CliError::failed("cli::unwritable", format!("cannot delete a file of run `{}`", run.short()), error)
            })?;
        }
        runs = pruned;
    }
    let runs: Vec<ListedRun> = runs.into_iter().map(ListedRun::from).collect();
    match args.output {
        OutputFormat::Json => print_json(&history::runs_json(&runs))?,
        OutputFormat::Text if runs.is_empty() => {}
        OutputFormat::Text => print(&history::runs_text(&runs, &context, output_width()))?,
    }
    if !args.dry_run {
        let cache = files::cache_root(&journal);
        let removed = CallCache::prune(&cache).map_err(|error| {
            CliError::failed("cli::unwritable", format!("cannot delete results in `{}`", cache.display()), error)
        })?;
        if removed > 0 {
            message!("{} deleted from the cache", count_text(removed, "expired result"));
        }
    }
    let action = if args.dry_run { "would be deleted" } else { "deleted" };
    message!("{} {action}", count_text(runs.len(), "run"));
    Ok(Exit::Success)
}

/// Returns the runs to remove, from all runs, latest first.
fn runs_to_prune(args: &PruneArgs, runs: Vec<RunSummary>, now: Timestamp) -> Vec<RunSummary> {
    let is_old = |run: &RunSummary| {
        let since = now.since(run.ended.unwrap_or(run.last_event));
        args.older_than.is_none_or(|age| since > age.0)
    };
    let is_deletable = |run: &RunSummary| run.driver.is_none() && (args.force || !run.status.is_unfinished());
    runs.into_iter().skip(args.keep.unwrap_or(0)).filter(|run| is_deletable(run) && is_old(run)).collect()
}

/// Removes the files that a run has beside the journal.
fn remove_files(journal: &JournalLocation, run: &RunId) -> io::Result<()> {
    for file in [files::saved_plan_path(journal, run), files::detached_log_path(journal, run)] {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match fs::remove_dir_all(files::content_root(journal).join(run.as_str())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
