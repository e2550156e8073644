//! Decides what a run does next.
//! Never reads a clock, a file or a socket; time, seeds and ids come in as data.
//!
//! A driver observes something ([`crate::model::Input`]), [`Run::handle`] turns it into events and commands, the driver
//! makes the events durable and then carries the commands out. `Run::fold(events)` gives the same run again.

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
