//! Starts a run that reuses the results of an earlier run and repeats what failed, or everything from one task on. The
//! earlier run is unchanged.

mod preview;
mod start;

pub use preview::{ChangedPart, RepeatPolicy, Rerun, RerunDecision, RerunError, RerunPreview};
