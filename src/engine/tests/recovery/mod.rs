//! Tests of what a later process, a replan, or a rerun makes of earlier calls.

mod interrupts;
mod replan;
pub(super) mod rerun;
mod resume;
mod unsettled;
