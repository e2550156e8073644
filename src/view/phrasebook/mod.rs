//! Says in words what an event changes, for the live view, for plain lines, and for `kapell logs`. Text of agents is
//! always escaped.

mod describe;
mod words;

pub use describe::{Verbosity, describe};
pub(crate) use words::progress_text;
