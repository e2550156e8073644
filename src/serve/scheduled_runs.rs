//! Starts the runs of schedules as processes of their own, like the runs that the page starts.

use std::ffi::OsString;
use std::path::Path;

use async_trait::async_trait;

use super::driver_program::DriverProgram;
use crate::model::RunId;
use crate::runtime::schedules::{ScheduleNotice, ScheduledRuns, StartError};

/// Starts the runs of schedules with the program of the server.
pub struct ScheduledProcesses<F> {
    program: DriverProgram,
    /// Reports what happened, for people.
    report: F,
}

impl<F: Fn(&ScheduleNotice<'_>) + Send + Sync> ScheduledProcesses<F> {
    /// Returns what starts runs with `program`, and passes notices to `report`.
    pub fn new(program: DriverProgram, report: F) -> Self {
        Self { program, report }
    }

    /// Runs a command to its end. The program also fails if its run does, so the journal decides what happened.
    async fn execute(&self, arguments: &[OsString]) -> Result<(), StartError> {
        match self.program.run(arguments).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string().into()),
        }
    }
}

#[async_trait]
impl<F: Fn(&ScheduleNotice<'_>) + Send + Sync> ScheduledRuns for ScheduledProcesses<F> {
    async fn start(&self, plan: &Path, run: &RunId) -> Result<(), StartError> {
        let run = run.as_str();
        self.execute(&["run".into(), plan.into(), "--detach".into(), "--detached-as".into(), run.into()]).await
    }

    async fn resume(&self, run: &RunId) -> Result<(), StartError> {
        self.execute(&["resume".into(), run.as_str().into(), "--detach".into()]).await
    }

    fn report(&self, notice: ScheduleNotice<'_>) {
        (self.report)(&notice);
    }
}
