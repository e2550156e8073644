//! The commands that start or drive a run, answer its questions, or cancel it.

pub(crate) mod answer;
pub(crate) mod call;
pub(crate) mod cancel;
mod changed_call;
mod input_prompt;
pub(crate) mod questions;
pub(crate) mod read;
pub(crate) mod resume;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod signal;
