//! Decides what a run does next. Has no clock and no IO: times, seeds, and IDs are part of the inputs.
//!
//! A driver observes an input ([`crate::model::Input`]), and [`Run::handle`] computes events and commands from it. The
//! driver makes the events durable and then executes the commands. `Run::fold(events)` reproduces the live run exactly.

mod advance;
mod apply;
mod budget;
mod calls;
mod decide;
mod health;
mod outages;
mod outcome;
mod prompt;
mod question_timeouts;
mod questions;
mod replan;
mod rerun;
mod resume;
pub mod retry;
mod router;
mod run;
mod sampling_usage;
mod synthesis;
mod wait_queues;

pub use calls::sent_calls;
pub use decide::{NewRun, StepOutput};
pub use rerun::{Rerun, RerunError, check_rerun};
pub use resume::ResumeContext;
pub use run::{FoldError, Run};
pub use sampling_usage::{SamplingUsage, sampling_usage};

#[cfg(test)]
mod tests;
