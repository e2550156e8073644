//! Decides what a run does next. Has no clock and no IO: times, seeds, and IDs are part of the inputs.
//!
//! A driver observes an input ([`crate::model::Input`]), and [`Run::handle`] computes events and commands from it. The
//! driver makes the events durable and then executes the commands. `Run::fold(events)` reproduces the live run exactly.

mod apply;
mod budget;
mod calls;
mod decide;
mod hooks;
mod ledger;
mod outcome;
mod prompt;
mod questions;
mod replan;
mod rerun;
mod resume;
pub mod retry;
mod routing;
mod schedule;
mod scope;
mod state;
mod steps;
pub mod synthesis;
mod transition;

pub use budget::sampling_usage::{SamplingUsage, sampling_usage};
pub use calls::{CallTracker, sent_calls};
pub use ledger::SpendingTotals;
pub(crate) use ledger::{Ledger, Payer, SpendingSink};
pub use rerun::{ChangedPart, RepeatPolicy, Rerun, RerunDecision, RerunError, RerunPreview};
pub use resume::Resumption;
pub use state::run::{FoldError, NewRun, Run};
pub use transition::StepOutput;

#[cfg(test)]
mod tests;
