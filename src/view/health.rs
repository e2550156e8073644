//! The results of `kapell doctor`: one for each thing that runs need.

use serde::Serialize;
use strum::IntoStaticStr;

/// A part of the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
pub enum HealthSection {
    /// The agents files.
    #[strum(serialize = "agents file")]
    AgentsFile,
    /// The agents.
    #[strum(serialize = "agents")]
    Agents,
    /// The programs that start agents.
    #[strum(serialize = "runtimes")]
    Runtimes,
    /// The language models.
    #[strum(serialize = "models")]
    Models,
    /// The journal.
    #[strum(serialize = "journal")]
    Journal,
    /// The terminal.
    #[strum(serialize = "terminal")]
    Terminal,
}

/// The status of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum HealthStatus {
    /// It works.
    Ok,
    /// It is absent, which is not a problem.
    #[strum(serialize = "-")]
    Absent,
    /// It works with a restriction.
    Warning,
    /// It does not work.
    Failed,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthCheck {
    /// The part of the installation.
    pub section: HealthSection,
    /// The name of what was checked.
    pub name: String,
    /// The status.
    pub status: HealthStatus,
    /// The observation. It may contain text of agents.
    pub message: String,
    /// The way to improve it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl HealthCheck {
    /// Returns the result of a check without a fix.
    pub fn new(
        section: HealthSection,
        name: impl Into<String>,
        status: HealthStatus,
        message: impl Into<String>,
    ) -> Self {
        Self { section, name: name.into(), status, message: message.into(), fix: None }
    }

    /// Sets the way to improve it.
    #[must_use]
    pub fn with_fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}
