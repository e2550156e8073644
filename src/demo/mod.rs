//! Provides the demo agents: deterministic MCP servers for both protocol eras and both transports. They never access
//! the network or other modules of kapell.

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

/// The variable with the path of the file to which each effect is appended as one line of JSON.
pub const EFFECTS_VARIABLE: &str = "KAPELL_DEMO_EFFECTS";
/// The variable with the path of the directory for the documents of the archive and the jobs of the bindery.
pub const DIRECTORY_VARIABLE: &str = "KAPELL_DEMO_DIR";

/// The demo agent to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum DemoAgent {
    /// Books trips: progress, and a question to the person before anything is booked.
    Travel,
    /// Finds things to read: progress, log messages, and a request to the host's language model.
    Research,
    /// Keeps documents: resource links, and resources to read.
    Archive,
    /// Works in the background: jobs that continue after the call, and tasks.
    Bindery,
}

impl DemoAgent {
    /// Returns the name of the agent on the command line and in `agents.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Travel => "travel",
            Self::Research => "research",
            Self::Archive => "archive",
            Self::Bindery => "bindery",
        }
    }
}

/// The transport over which an agent serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoTransport {
    /// Standard input and output, until standard input ends.
    Stdio,
    /// Streamable HTTP at `http://127.0.0.1:PORT/mcp`, until the process ends.
    Http {
        /// The port. With 0, a free port is chosen and printed on standard error.
        port: u16,
    },
}

/// The locations where an agent stores its effects and data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DemoSettings {
    /// The file to which effects are appended. Without it, none are recorded.
    pub effects: Option<PathBuf>,
    /// The directory of the archive and the bindery. Defaults to the platform's directory for application state.
    pub directory: Option<PathBuf>,
}

impl DemoSettings {
    /// Reads [`EFFECTS_VARIABLE`] and [`DIRECTORY_VARIABLE`]. An empty variable counts as unset.
    pub fn from_environment() -> Self {
        let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { effects: path(EFFECTS_VARIABLE), directory: path(DIRECTORY_VARIABLE) }
    }
}

/// An error that prevents a demo agent from serving.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The port is not available.
    #[error("cannot listen on `127.0.0.1:{port}`: {source}; choose a free port, or 0 for any")]
    Listen {
        /// The requested port.
        port: u16,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The HTTP server ended.
    #[error("the HTTP server on `{address}` ended")]
    Http {
        /// The address of the server.
        address: std::net::SocketAddr,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// Standard input does not start with a valid MCP message.
    #[error("standard input is not an MCP conversation: expected `initialize` or a request of 2026-07-28")]
    Conversation(#[source] Box<ServerInitializeError>),
    /// The task that serves standard input panicked.
    #[error("the task that serves standard input ended early")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Serves `agent` until its transport ends. Standard output contains only protocol messages.
///
/// # Errors
/// Returns an error if the port is taken or the client does not speak MCP.
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
