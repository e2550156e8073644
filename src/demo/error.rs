//! Errors of serving a demo agent.

use rmcp::service::ServerInitializeError;

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
