//! Finds the plans of a directory that have schedules.

use std::io;
use std::path::{Path, PathBuf};

use crate::config;
use crate::model::Schedule;

/// A plan that runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledPlan {
    /// The absolute path of the plan file.
    pub path: PathBuf,
    /// When it runs.
    pub schedule: Schedule,
}

/// The plans of a directory that have schedules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScheduledPlans {
    /// The plans, in the order of their paths.
    pub plans: Vec<ScheduledPlan>,
    /// The files whose schedules cannot be read, each with the reason.
    pub invalid: Vec<(PathBuf, String)>,
}

impl ScheduledPlan {
    /// Returns the key of its position in the journal. A changed schedule has a position of its own, so that a change
    /// leads to no missed occurrences.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.path.display(), self.schedule)
    }
}

/// Reads the plan files in `folder`: those whose names end in `.yaml` or `.yml`. Folders in it are not read.
///
/// # Errors
/// Returns an error if the directory cannot be read.
pub fn read_scheduled_plans(folder: &Path) -> io::Result<ScheduledPlans> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_yaml && path.is_file() {
            // The same plan has the same position, however the directory was named.
            paths.push(path.canonicalize()?);
        }
    }
    paths.sort();
    paths.dedup();
    let mut found = ScheduledPlans::default();
    for path in paths {
        match read_plan_schedule(&path) {
            Ok(Some(schedule)) => found.plans.push(ScheduledPlan { path, schedule }),
            Ok(None) => {}
            Err(reason) => found.invalid.push((path, reason)),
        }
    }
    Ok(found)
}

fn read_plan_schedule(path: &Path) -> Result<Option<Schedule>, String> {
    let text = config::read_text(path).map_err(|error| error.to_string())?;
    // Directories of plans have other files too, such as answers.
    if !text.contains("schedule") {
        return Ok(None);
    }
    config::read_schedule(&path.display().to_string(), &text).map_err(|diagnostics| diagnostics.to_string())
}
