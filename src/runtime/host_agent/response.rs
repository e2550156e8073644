//! Reads HTTP responses of requests of plans, or explains why there is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::request::HttpRequest;
use super::tool::stopped;
use crate::mcp::{CallGuard, HttpError, is_json, media_type};
use crate::model::text::truncate_bytes;
use crate::model::{ContentBlock, Failure, FailureKind, HumanDuration, JsonObject, Progress, ToolOutput};
use crate::system::clock;

/// The maximum size of the part of a body that a failure contains, in bytes.
const MAX_EXCERPT_BYTES: usize = 300;
/// The maximum size of the body of an unexpected response that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The number of received bytes from which progress is reported.
const MIN_PROGRESS_BYTES: usize = 256 * 1024;

/// Reads a response whose status is expected.
///
/// # Errors
/// Returns a failure for another status, and for a body that is too large or breaks off.
pub(super) async fn read_response(
    request: &HttpRequest,
    response: Response,
    guard: &mut CallGuard,
    max_bytes: usize,
) -> Result<ToolOutput, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    if !request.expects(status) {
        let body = match read_body(request, response, guard, MAX_ERROR_BYTES).await {
            Err(failure) if matches!(failure.kind, FailureKind::Cancelled) => return Err(failure),
            body => body.unwrap_or_default(),
        };
        return Err(status_failure(request, status, &headers, &body));
    }
    let body = read_body(request, response, guard, max_bytes).await?;
    guard.report_final_progress();
    Ok(output(request, status, &headers, body))
}

async fn read_body(
    request: &HttpRequest,
    mut response: Response,
    guard: &mut CallGuard,
    max_bytes: usize,
) -> Result<Vec<u8>, Failure> {
    let too_large = || {
        let message = format!("`{}`: the response is larger than {max_bytes} bytes", request.shown_url());
        let help = "raise `max_response_bytes` in `[http]` of the agents file";
        Failure::new(FailureKind::ResultTooLarge, message).with_help(help)
    };
    let total = response.content_length();
    if total.is_some_and(|total| total > max_bytes as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = match guard.wait(response.chunk(), std::future::pending()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(body),
            Ok(Err(error)) => return Err(send_failure(request, error)),
            Err(stop) => return Err(stopped(guard, stop)),
        };
        guard.record_activity();
        if body.len() + chunk.len() > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
        if body.len() >= MIN_PROGRESS_BYTES {
            let (progress, total) = (body.len() as f64, total.map(|total| total as f64));
            guard.call.report(Progress { progress, total, message: None });
        }
    }
}

/// Returns the failure of a request without a response.
pub(super) fn send_failure(request: &HttpRequest, error: reqwest::Error) -> Failure {
    let error = HttpError::from_send_error(error);
    let kind = match &error {
        HttpError::Connect(_) => FailureKind::NotSent,
        HttpError::Tls(_) => FailureKind::Refused,
        HttpError::Build(_) => FailureKind::InvalidArguments,
        _ => FailureKind::ConnectionLost,
    };
    let failure = Failure::new(kind, format!("`{}`: {error}", request.shown_url()));
    match error {
        HttpError::Tls(_) => failure.with_help(
            "if a private authority signed the certificate, set `ca_file` in `[http]` of the agents file or the \
             environment variable `SSL_CERT_FILE` to a PEM file with the certificate of the authority",
        ),
        _ => failure,
    }
}

/// Returns the failure for a status that is not expected.
fn status_failure(request: &HttpRequest, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let header = |name| headers.get(name)?.to_str().ok();
    let retry_after = header(RETRY_AFTER).and_then(|delay| clock::retry_after(delay, header(DATE)));
    let kind = match status.as_u16() {
        401 | 403 | 407 => FailureKind::Unauthorized,
        // The server did not handle the request.
        408 | 425 | 429 => FailureKind::RateLimited,
        503 if retry_after.is_some() => FailureKind::RateLimited,
        400..=499 => FailureKind::Refused,
        // A gateway does not know whether the server handled the request.
        502 | 504 => FailureKind::ConnectionLost,
        500.. => FailureKind::ServerError,
        _ => FailureKind::InvalidResult,
    };
    let mut excerpt = decode(headers, body).split_whitespace().collect::<Vec<_>>().join(" ");
    truncate_bytes(&mut excerpt, MAX_EXCERPT_BYTES);
    let excerpt = if excerpt.is_empty() { excerpt } else { format!(": {excerpt}") };
    let (method, url, expected) = (&request.method, request.shown_url(), request.expected_text());
    let message = format!("{method} `{url}` returned HTTP {status}, expected {expected}{excerpt}");
    let failure = match kind {
        FailureKind::Unauthorized => Failure::new(kind, message).with_help("check the `headers` of the task"),
        FailureKind::InvalidResult => Failure::new(kind, message).with_help("add the status to `expect` of the task"),
        _ => Failure::new(kind, message),
    };
    match retry_after.map(HumanDuration) {
        None => failure,
        Some(delay) => Failure { retry_after: Some(delay), ..failure }
            .with_additional_help(format!("the server requests a delay of {delay} (`Retry-After`)")),
    }
}

/// Returns a response as an output: its body as text or as data, and the status, the headers, and the body as values.
fn output(request: &HttpRequest, status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> ToolOutput {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type(content_type);
    let mut values = JsonObject::new();
    for name in headers.keys() {
        let all: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.insert(name.as_str().to_owned(), all.join(", ").into());
    }
    let structured = |body: Value| Some(json!({"status": status.as_u16(), "headers": values, "body": body}));
    if body.is_empty() {
        return ToolOutput::new(std::iter::empty::<ContentBlock>(), structured(Value::Null));
    }
    if !is_text(&media_type, &body) {
        let data = STANDARD.encode(&body);
        let mime_type = if media_type.is_empty() { "application/octet-stream" } else { media_type.as_str() };
        let block = match mime_type.split('/').next() {
            Some(kind @ ("image" | "audio")) => json!({"type": kind, "mimeType": mime_type, "data": data}),
            _ => {
                let resource = json!({"uri": request.shown_url(), "mimeType": mime_type, "blob": data});
                json!({"type": "resource", "resource": resource})
            }
        };
        return ToolOutput::new([block], structured(Value::Null));
    }
    let text = decode(headers, &body);
    let parsed = if is_json(&media_type) { serde_json::from_str(&text).ok() } else { None };
    let value = parsed.unwrap_or_else(|| Value::String(text.clone()));
    ToolOutput::new([ContentBlock::Text(text)], structured(value))
}

/// Returns whether a body is text, by its media type, or by its bytes if that is unknown.
fn is_text(media_type: &str, body: &[u8]) -> bool {
    let is_named = media_type.starts_with("text/")
        || is_json(media_type)
        || media_type.ends_with("+xml")
        || ["application/xml", "application/javascript", "application/x-www-form-urlencoded"].contains(&media_type);
    let is_data = ["image/", "audio/", "video/", "font/"].iter().any(|kind| media_type.starts_with(kind));
    is_named || !is_data && std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'))
}

/// Decodes a body by its charset: UTF-8 unless the header says otherwise.
fn decode(headers: &HeaderMap, body: &[u8]) -> String {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let charset = content_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    let charset = charset.unwrap_or_default().trim_matches('"').to_ascii_lowercase();
    if matches!(charset.as_str(), "iso-8859-1" | "latin1" | "us-ascii") {
        return body.iter().map(|byte| char::from(*byte)).collect();
    }
    let text = String::from_utf8_lossy(body);
    text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_or_data() {
        for (media_type, body, expected) in [
            ("text/html", &b"\xff"[..], true),
            ("application/problem+json", b"{}", true),
            ("image/svg+xml", b"<svg/>", true),
            ("image/png", b"abc", false),
            ("application/octet-stream", b"abc", true),
            ("", b"abc", true),
            ("application/pdf", b"%PDF-\xff", false),
            ("", b"a\0b", false),
        ] {
            assert_eq!(is_text(media_type, body), expected, "{media_type}");
        }
    }

    #[test]
    fn texts_are_decoded_by_their_charset() {
        let headers = |content_type: &str| HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().expect("valid"))]);
        assert_eq!(decode(&headers("text/plain; charset=ISO-8859-1"), b"caf\xe9"), "caf\u{e9}");
        assert_eq!(decode(&headers("text/plain; charset=\"utf-8\""), "\u{feff}caf\u{e9}".as_bytes()), "caf\u{e9}");
        assert_eq!(decode(&HeaderMap::new(), b"a\xff"), "a\u{fffd}");
    }
}
