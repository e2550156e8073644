//! Whole commands, as a person runs them: the real binary, real agent processes, a journal on disk.

mod bad_agents;
mod bad_files;
mod commands;
mod endpoint;
mod ends;
mod fan_out;
mod models;
mod planning;
mod processes;
mod prompts;
mod replanning;
mod secrets;
mod streaming;
mod support;
mod talking;
