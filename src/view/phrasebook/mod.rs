//! Says in words what an event changes, for the live view, for plain lines, and for `kapell logs`. Text of agents is
//! always escaped.

mod describe;
mod unstarted;
mod words;

pub use describe::describe;
pub use unstarted::sum_unstarted;
pub use words::{call_arguments, discarded_call_text, end_cause_text};
pub(crate) use words::{log_text, progress_text};
