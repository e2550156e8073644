//! Whole commands, as a person runs them: the real binary, real agent processes, a journal on disk.

mod bad_agents;
mod bad_files;
mod commands;
mod connecting;
mod damage;
mod detached;
mod endpoint;
mod ends;
mod fan_out;
mod goal_targets;
mod history;
mod models;
mod planner_answers;
mod planning;
mod private_files;
mod processes;
mod prompts;
mod replanning;
mod resuming;
mod secrets;
mod slow_readers;
mod stalled_output;
mod streaming;
mod support;
mod talking;
mod terminal_safety;
