//! Sends HTTP requests, and follows redirects to allowed hosts.

use futures::StreamExt as _;
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Body, RequestBuilder};
use tokio_util::io::ReaderStream;
use tokio_util::sync::CancellationToken;

use super::payload::Payload;
use super::request::HttpRequest;
use super::response::{read_response, send_failure};
use super::tool::{HostTools, denied, stopped};
use crate::mcp::CallGuard;
use crate::model::{Failure, FailureKind, Progress, ToolCall, ToolOutput};
use crate::runtime::content::missing_file_failure;

/// The size of one read of a file that is sent, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The maximum number of redirects, as browsers have one, too.
const MAX_REDIRECTS: usize = 10;

/// Sends a request and returns its response, if its status is expected.
///
/// # Errors
/// Returns a failure whose kind states whether the server handled the request.
pub(super) async fn send_request(
    tools: &HostTools,
    call: &mut ToolCall,
    cancel: CancellationToken,
) -> Result<ToolOutput, Failure> {
    let body = tools.remove_payload(call, "body").await?;
    let mut request = HttpRequest::from_call(call, body)?;
    let mut guard = tools.guard(call, cancel);
    let mut redirects = 0;
    loop {
        tools.settings.check_url(&request.url).map_err(|error| {
            let failure = denied(error);
            match redirects {
                0 => failure,
                _ => Failure { message: format!("{} (the server redirects to it)", failure.message), ..failure },
            }
        })?;
        let client = tools.client(&request.url)?;
        let mut sent = client.request(request.method.clone(), request.url.clone()).headers(request.headers.clone());
        if let Some(body) = &request.body {
            sent = with_body(sent, body, &guard).await?;
        }
        let response = match guard.wait(sent.send(), std::future::pending()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(send_failure(&request, error)),
            Err(stop) => return Err(stopped(&guard, stop)),
        };
        guard.record_activity();
        match request.redirected(&response)? {
            Some(next) if redirects < MAX_REDIRECTS => {
                request = next;
                redirects += 1;
            }
            Some(_) => {
                let message = format!("`{}`: more than {MAX_REDIRECTS} redirects", request.shown_url());
                return Err(Failure::new(FailureKind::Refused, message));
            }
            None => {
                return read_response(tools, call, (&request, response), &mut guard).await;
            }
        }
    }
}

/// Adds the body to a request. A file is read while it is sent.
async fn with_body(request: RequestBuilder, body: &Payload, guard: &CallGuard) -> Result<RequestBuilder, Failure> {
    let (path, bytes) = match body {
        Payload::Text(text) => return Ok(request.body(text.clone())),
        Payload::Json(value) => return Ok(request.body(value.to_string())),
        Payload::File { path, file } => (path, file.bytes),
    };
    let file = tokio::fs::File::open(path).await.map_err(missing_file_failure)?;
    let (state, mut sent) = (guard.call.clone(), 0);
    let pieces = ReaderStream::with_capacity(file, READ_BYTES).inspect(move |piece| {
        sent += piece.as_ref().map_or(0, |piece| piece.len());
        state.report(Progress { progress: sent as f64, total: Some(bytes as f64), message: None });
    });
    Ok(request.header(CONTENT_LENGTH, bytes).body(Body::wrap_stream(pieces)))
}
