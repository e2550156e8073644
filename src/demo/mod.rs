//! The demo agents: MCP servers in both protocol eras, on both transports, whose answers are always the same.
//! Never names the rest of the house, and never reaches a network.

use std::path::PathBuf;

use rmcp::service::ServerInitializeError;

mod archive;
mod bindery;
mod call;
mod documents;
mod effects;
mod event_store;
mod fingerprint;
mod http;
mod jobs;
mod library;
mod research;
mod server;
mod sessions;
mod stdio;
#[cfg(test)]
mod tests;
mod travel;

use server::DemoServer;

/// Names the file to which every real effect is appended as one line of JSON.
pub const EFFECTS_VARIABLE: &str = "KAPELL_DEMO_EFFECTS";
/// Names the directory in which the archive keeps its documents, and the bindery its jobs.
pub const DIRECTORY_VARIABLE: &str = "KAPELL_DEMO_DIR";

/// Which agent to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum DemoAgent {
    /// Books trips: progress, and a question to the person before anything is booked.
    Travel,
    /// Finds things to read: progress, log messages, and a request to the host's language model.
    Research,
    /// Keeps documents: resource links, and resources to read.
    Archive,
    /// Works on while nobody waits: jobs that are left behind, and tasks.
    Bindery,
}

impl DemoAgent {
    /// Its name on the command line and in `agents.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Travel => "travel",
            Self::Research => "research",
            Self::Archive => "archive",
            Self::Bindery => "bindery",
        }
    }
}

/// How to be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoTransport {
    /// Over standard input and output, until standard input ends.
    Stdio,
    /// Over Streamable HTTP at `http://127.0.0.1:PORT/mcp`, until the process ends.
    Http {
        /// The port; 0 for any free one, which is then told on standard error.
        port: u16,
    },
}

/// Where an agent leaves its traces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoSettings {
    /// The file to which real effects are appended; none are recorded where absent.
    pub effects: Option<PathBuf>,
    /// The directory of the archive and of the bindery; the platform's directory for application state where absent.
    pub directory: Option<PathBuf>,
}

impl DemoSettings {
    /// Reads [`EFFECTS_VARIABLE`] and [`DIRECTORY_VARIABLE`]; an empty variable counts as unset.
    pub fn from_environment() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { effects: path(EFFECTS_VARIABLE), directory: path(DIRECTORY_VARIABLE) }
    }
}

/// Why a demo agent could not serve.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The port cannot be listened on.
    #[error("cannot listen on `127.0.0.1:{port}`: {source}; choose a free port, or 0 for any")]
    Listen {
        /// The port that was asked for.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// The HTTP server ended.
    #[error("the HTTP server on `{address}` ended")]
    Http {
        /// Where it listened.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What came over standard input was not the beginning of an MCP conversation.
    #[error("standard input is not an MCP conversation: expected `initialize` or a request of 2026-07-28")]
    Conversation(#[source] Box<ServerInitializeError>),
    /// The task that serves standard input panicked.
    #[error("the task that serves standard input ended early")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Serves `agent` until its transport ends. Standard output carries nothing but the protocol.
///
/// # Errors
/// When the port is taken, or when the peer does not speak MCP.
pub async fn serve(agent: DemoAgent, transport: DemoTransport, settings: DemoSettings) -> Result<(), DemoError> {
    let server = DemoServer::new(agent, settings);
    match transport {
        DemoTransport::Stdio => {
            let (input, output) = rmcp::transport::io::stdio_pipes();
            Box::pin(stdio::serve(server, input, output)).await
        }
        DemoTransport::Http { port } => http::serve(server, port).await,
    }
}
