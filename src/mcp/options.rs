//! Defines the options of all connections of a run.

use std::path::PathBuf;

use crate::model::{Secrets, TraceContext};

/// The options of all connections of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The directory for the standard error of each agent, as `AGENT.log`. Created on demand.
    pub log_dir: PathBuf,
    /// The file that caches what was learned of each server: its era, its transport, and its quirks. Without it, each
    /// run detects them again.
    pub server_cache: Option<PathBuf>,
    /// The directory for the logins of agents. Without it, a login lasts as long as the process.
    pub login_dir: Option<PathBuf>,
    /// The directory that caches what agents offer, for commands that only show or check it.
    pub offers_dir: Option<PathBuf>,
    /// The reaction to a server that requires a login.
    pub login: LoginPolicy,
    /// The tokens that are obtained are masked with these.
    pub secrets: Secrets,
    /// The reaction to an address at which no server listens.
    pub unreachable: UnreachablePolicy,
    /// The sampling capabilities that agents are offered.
    pub sampling: SamplingSupport,
    /// The trace that requests outside of calls belong to; the `_meta` of a call contains its own.
    pub trace: Option<TraceContext>,
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

/// The reaction when a server requires a login that only a person can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoginPolicy {
    /// Ask the host's person, and wait.
    #[default]
    Ask,
    /// Fail immediately.
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
