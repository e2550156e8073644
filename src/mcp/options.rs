//! Defines the options of all connections of a run.

use std::path::PathBuf;

/// The options of all connections of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for the standard error of each agent, as `AGENT.log`. Created on demand.
    pub log_dir: PathBuf,
    /// The file that caches what was learned of each server: its era, its transport, and its quirks. Without it, each
    /// run detects them again.
    pub server_cache: Option<PathBuf>,
    /// The reaction to an address at which no server listens.
    pub unreachable: UnreachablePolicy,
    /// The sampling capabilities that agents are offered.
    pub sampling: SamplingSupport,
}

/// The reaction when no server listens at the address of an agent that the host does not start itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnreachablePolicy {
    /// Retry until the startup timeout is over.
    #[default]
    Retry,
    /// Fail immediately, for interactive use.
    Fail,
}

/// The sampling requests that agents may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SamplingSupport {
    /// None, without a language model.
    #[default]
    Off,
    /// Messages only.
    Plain,
    /// Messages with tools.
    WithTools,
}
