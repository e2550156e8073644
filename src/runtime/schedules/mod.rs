//! Runs plans by their schedules.

mod drive;
mod plan_folder;
mod scheduler;
#[cfg(test)]
mod tests;

pub use drive::drive;
pub use plan_folder::{ScheduledPlan, ScheduledPlans, read_scheduled_plans};
pub use scheduler::{ScheduleNotice, ScheduledRuns, StartError};
