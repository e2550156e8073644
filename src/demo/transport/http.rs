//! Serves any number of clients over Streamable HTTP at `/mcp` on the loopback interface. Never writes to standard
//! output.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;

use super::sessions::ResumableSessions;
use crate::demo::DemoError;
use crate::demo::server::DemoServer;

/// Serves on `port` until the process ends, and prints the address on standard error.
///
/// # Errors
/// Returns an error if the port is not available.
pub(crate) async fn serve(server: DemoServer, port: u16) -> Result<(), DemoError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(|source| DemoError::Listen { port, source })?;
    let address = listener.local_addr().map_err(|source| DemoError::Listen { port, source })?;
    // A closed standard error must not stop the server.
    let _ = writeln!(std::io::stderr(), "demo agent `{}` listens on http://{address}/mcp", server.agent.name());
    serve_on(server, listener).await.map_err(|source| DemoError::Http { address, source })
}

/// Serves on `listener` until the process ends.
///
/// # Errors
/// Returns an error if the listener fails permanently.
pub(crate) async fn serve_on(server: DemoServer, listener: TcpListener) -> std::io::Result<()> {
    let service = StreamableHttpService::new(
        move || Ok(server.for_new_session()),
        Arc::new(ResumableSessions::new()),
        // Web pages must not access the server.
        StreamableHttpServerConfig::default().enforce_origin_validation(),
    );
    let router = axum::Router::new().nest_service("/mcp", service);
    // Without this, each small message would wait for the acknowledgement of the previous one.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    axum::serve(listener, router).await
}
