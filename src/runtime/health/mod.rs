//! Checks everything that runs need: the agents file, agents, runtimes, models, the journal, and the terminal.

mod agents;
mod installation;
mod installed_parts;
mod journal;
mod models;
mod runtimes;
mod terminal;

pub use installation::check_installation;
pub use installed_parts::InstalledParts;
