//! The commands that show or delete what the journal has of runs.

mod prune;

pub(crate) mod clean_tokens;
pub(crate) mod logs;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod result;
pub(crate) mod runs;
