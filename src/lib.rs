//! kapell: runs task graphs over MCP agent servers, durably, and merges the results into one answer.
//! The rooms and what each may name are described in `ARCHITECTURE.md`.

// What people read passes one filter: `cli::exit_code` and `crate::ui::terminal::screen` write it.
#![warn(clippy::print_stdout, clippy::print_stderr)]

#[cfg(not(unix))]
compile_error!("kapell runs on Linux and macOS: it needs the process groups, signals, and file locks of Unix");

pub mod cli;
pub mod config;
pub mod demo;
pub mod engine;
pub mod expression;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
mod json_schema;
pub mod llm;
pub mod mcp;
pub mod model;
pub mod planner;
pub mod runtime;
pub mod system;
pub mod ui;
pub mod view;
