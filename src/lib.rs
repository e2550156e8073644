//! A multi-agent orchestrator host: runs task graphs over MCP agent servers, durably, and merges the results into one
//! answer.
//!
//! The program `kapell` is one user of this library. Another program can put a [`Host`] together in the same way:
//!
//! 1. Read the agents with [`config::load_agents`] and a plan with [`config::load_plan`], or build a [`model::Plan`].
//! 2. Choose the parts with [`Host::builder`]: the journal ([`journal::Store`]), the answers to questions
//!    ([`ui::human::Human`]), the language model ([`llm::Llm`]), and any number of reporters
//!    ([`ui::reporters::Reporter`]).
//! 3. Run the plan. The result is a [`view::RunResult`], and the journal has every event of the run.
//!
//! `examples/` has four complete programs: `run_plan`, `answer_questions`, `custom_reporter`, and `read_journal`.
//!
//! # How a run works
//!
//! The [`engine`] is a pure state machine: an [`model::Input`] yields [`model::Event`]s and [`model::Command`]s. The
//! [`runtime`] appends the events to the [`journal`] and executes the commands once the events are durable: calls of
//! agents over [`mcp`], requests to models over [`llm`], and questions to people. Folding the events of a run reproduces
//! its state, so a run survives the end of its process at any point. `ARCHITECTURE.md` describes the modules, what each
//! may name, and what is guaranteed.
//!
//! # Stability
//!
//! The events are a stored format: fields are added with defaults, and never change their meaning. Enums and structs
//! that may grow are `#[non_exhaustive]`. The command line, the keys of the files, the exit codes, and the JSON output
//! are documented in `docs/`.

// What people read passes one filter: `cli` and `ui::terminal::screen` write it.
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
pub mod serve;
pub mod system;
pub mod ui;
pub mod view;

pub use runtime::{Host, HostBuilder, HostError, RunHandle};
