//! Sends HTTP requests, and follows redirects to allowed hosts.

use tokio_util::sync::CancellationToken;

use super::request::HttpRequest;
use super::response::{read_response, send_failure};
use super::tool::{HostTools, denied, stopped};
use crate::model::{Failure, FailureKind, ToolCall, ToolOutput};

/// The maximum number of redirects, as browsers have one, too.
const MAX_REDIRECTS: usize = 10;

/// Sends a request and returns its response, if its status is expected.
///
/// # Errors
/// Returns a failure whose kind states whether the server handled the request.
pub(super) async fn send_request(
    tools: &HostTools,
    call: &ToolCall,
    cancel: CancellationToken,
) -> Result<ToolOutput, Failure> {
    let mut request = HttpRequest::from_call(call)?;
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
            sent = sent.body(body.clone());
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
                let max_bytes = tools.settings.http.max_response_bytes;
                return read_response(&request, response, &mut guard, max_bytes).await;
            }
        }
    }
}
