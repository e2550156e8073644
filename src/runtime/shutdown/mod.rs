//! Stops runs in an orderly way when the process is asked to end.

mod run_signals;
mod session_signals;
mod termination_signals;

pub use run_signals::INTERRUPTED_EXIT_CODE;
pub(super) use run_signals::listen_for_signals;
pub use session_signals::{RunStateAtExit, SessionSignals};
pub use termination_signals::interrupted;
