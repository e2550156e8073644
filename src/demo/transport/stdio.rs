//! Serves one client over a pair of byte streams until the input ends. Does not wait for running calls after that.

use std::pin::Pin;
use std::task::{Context, Poll};

use rmcp::ServiceExt as _;
use rmcp::service::ServerInitializeError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::demo::DemoError;
use crate::demo::server::DemoServer;

/// Serves the client until `input` ends.
///
/// # Errors
/// Returns an error if the client does not start with a valid MCP handshake.
pub(crate) async fn serve<R, W>(server: DemoServer, input: R, output: W) -> Result<(), DemoError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let input = EndOfInput { input, at_end: server.closing.clone() };
    match server.serve((input, output)).await {
        Ok(service) => service.waiting().await.map(drop).map_err(DemoError::Panicked),
        // A client that disconnects before its first message, such as a health check.
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        Err(error) => Err(DemoError::Conversation(Box::new(error))),
    }
}

/// An input that cancels the running calls when it ends, so that serving can stop.
struct EndOfInput<R> {
    input: R,
    at_end: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for EndOfInput<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.input).poll_read(context, buffer);
        if let Poll::Ready(result) = &read
            && (result.is_err() || buffer.filled().len() == before)
        {
            self.at_end.cancel();
        }
        read
    }
}
