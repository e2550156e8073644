//! `kapell repl`: an interactive session, in which a person calls tools, runs plans and goals, and looks at runs.

mod command_editor;
mod command_source;
mod command_words;
mod known_tools;
mod line_completer;
mod repl_command;
mod resume_offer;
mod server_completion;
pub(crate) mod session;
mod session_options;
