//! Serves a demo agent over one of the transports.

use super::agent::{DemoAgent, DemoSettings};
use super::error::DemoError;
use super::server::DemoServer;
use super::transport::{http, stdio};

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
