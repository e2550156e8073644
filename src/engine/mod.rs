//! Decides what a run does next.
//! Never reads a clock, a file or a socket; time, seeds and ids come in as data.
//!
//! A driver observes something ([`crate::model::Input`]), [`Run::handle`] turns it into events and commands, the driver
//! makes the events durable and then carries the commands out. `Run::fold(events)` gives the same run again.

mod advance;
mod apply;
mod budget;
mod calls;
mod deadline;
mod decide;
mod end;
mod health;
mod outages;
mod prompt;
mod questions;
mod recover;
mod replan;
mod rerun;
pub mod retry;
mod router;
mod run;
mod sampled;
mod synthesis;
mod waiting;

pub use calls::sent_calls;
pub use decide::{Beginning, Step};
pub use recover::Recovery;
pub use rerun::{Rerun, RerunError, check_rerun};
pub use run::{FoldError, Run};
pub use sampled::{Sampled, sampled};

#[cfg(test)]
mod tests;
