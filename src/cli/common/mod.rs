//! What several commands share.

pub(crate) mod args;
pub(crate) mod command_agents;
pub(crate) mod command_target;
pub(crate) mod confirm;
pub(crate) mod detach;
pub(crate) mod execute;
pub(crate) mod exit;
pub(crate) mod files;
pub(crate) mod goal;
pub(crate) mod offers_watcher;
pub(crate) mod output;
pub(crate) mod remote_run;
pub(crate) mod run_context;
pub(crate) mod run_options;
pub(crate) mod tool_target;
