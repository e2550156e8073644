//! The plans that a person has saved by name, in a directory beside the journal. Similar goals are planned after them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::CliError;
use crate::config;
use crate::expression::closest_match;
use crate::journal::JournalLocation;
use crate::planner::PlanExample;
use crate::system::files::replace_in_own_directory;

/// The maximum number of saved plans that are read.
const MAX_PLANS: usize = 1_000;
/// The maximum length of a name.
const MAX_NAME_CHARS: usize = 64;
/// The ending of the files.
const ENDING: &str = "yaml";

/// The directory of the saved plans.
pub(crate) struct SavedPlans {
    directory: PathBuf,
}

/// A saved plan.
pub(crate) struct SavedPlan {
    /// The name that it was saved with.
    pub(crate) name: String,
    /// The goal that it was made for, or what it says about itself.
    pub(crate) goal: String,
    /// The number of its tasks.
    pub(crate) tasks: usize,
    /// The path of the file.
    pub(crate) path: PathBuf,
    /// The text of the file.
    pub(crate) text: String,
}

impl SavedPlans {
    /// Returns the saved plans of a journal.
    pub(crate) fn of(journal: &JournalLocation) -> Self {
        Self { directory: journal.companion_directory("saved") }
    }

    /// Returns all plans by name. Files that are no plans are skipped.
    pub(crate) fn all(&self) -> Vec<SavedPlan> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        let mut paths: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)).take(MAX_PLANS).collect();
        paths.sort();
        paths.iter().filter_map(|path| read(path)).collect()
    }

    /// Returns the plan with this name.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(crate) fn find(&self, name: &str) -> Result<SavedPlan, CliError> {
        let path = self.path(name)?;
        read(&path).ok_or_else(|| {
            let all = self.all();
            let names: Vec<&str> = all.iter().map(|plan| plan.name.as_str()).collect();
            let help = match closest_match(name, names.iter().copied()) {
                Some(similar) => format!("did you mean `{similar}`?"),
                None if names.is_empty() => "`kapell plans save NAME` saves the plan of the latest run".to_owned(),
                None => format!("the saved plans are {}", names.join(", ")),
            };
            CliError::usage("cli::unknown_saved_plan", format!("no plan is saved as `{name}`"), help)
        })
    }

    /// Saves a plan. Returns the path of the file.
    ///
    /// # Errors
    /// Fails if the name is not usable, if there is a plan with it that must not be replaced, or if it cannot be written.
    pub(crate) fn save(&self, name: &str, text: &str, replaces: bool) -> Result<PathBuf, CliError> {
        let path = self.path(name)?;
        if path.exists() && !replaces {
            return Err(CliError::usage(
                "cli::file_exists",
                format!("a plan is saved as `{name}` already"),
                "`--force` replaces it",
            ));
        }
        let message = format!("cannot write `{}`", path.display());
        replace_in_own_directory(&path, text.as_bytes())
            .map_err(|error| CliError::failed("cli::unwritable", message, error))?;
        Ok(path)
    }

    /// Removes a plan.
    ///
    /// # Errors
    /// Fails if there is none, or if it cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> Result<(), CliError> {
        let SavedPlan { path, .. } = self.find(name)?;
        let message = format!("cannot remove `{}`", path.display());
        fs::remove_file(&path).map_err(|error| CliError::failed("cli::unwritable", message, error))
    }

    /// Returns the plans as examples for the planner.
    pub(crate) fn examples(&self) -> Vec<PlanExample> {
        let example = |SavedPlan { name, goal, text, .. }| PlanExample { name, goal, text };
        self.all().into_iter().map(example).collect()
    }

    fn path(&self, name: &str) -> Result<PathBuf, CliError> {
        let is_allowed = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        let is_usable = name.chars().count() <= MAX_NAME_CHARS
            && name.starts_with(char::is_alphanumeric)
            && name.chars().all(is_allowed);
        if !is_usable {
            return Err(CliError::usage(
                "cli::plan_name",
                format!("`{name}` cannot be the name of a saved plan"),
                "a name has at most 64 letters, digits, dots, hyphens, and underscores, and starts with a letter or a digit",
            ));
        }
        Ok(self.directory.join(format!("{name}.{ENDING}")))
    }
}

fn read(path: &Path) -> Option<SavedPlan> {
    let text = config::read_text(path).ok()?;
    let plan = config::read_data(&path.display().to_string(), &text).ok()?;
    let text_of = |key: &str| plan.get(key).and_then(Value::as_str).map(str::to_owned);
    Some(SavedPlan {
        name: path.file_stem()?.to_str()?.to_owned(),
        goal: text_of("description").or_else(|| text_of("name")).unwrap_or_default(),
        tasks: plan.get("tasks").and_then(Value::as_array).map_or(0, Vec::len),
        path: path.to_owned(),
        text,
    })
}
