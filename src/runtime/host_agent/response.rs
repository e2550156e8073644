//! Reads HTTP responses of requests of plans, or explains why there is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use super::request::HttpRequest;
use super::tool::{HostTools, stopped, unwritable};
use crate::mcp::{CallGuard, HttpError, is_json, media_type};
use crate::model::text::truncate_bytes;
use crate::model::{ContentBlock, Failure, FailureKind, HumanDuration, JsonObject, Progress, ToolCall, ToolOutput};
use crate::runtime::content::{FileContents, Received, ReferenceKind, Spool, SpoolError, SpoolLimits};
use crate::system::clock;

/// The maximum size of the part of a body that a failure contains, in bytes.
const MAX_EXCERPT_BYTES: usize = 300;
/// The maximum size of the body of an unexpected response that is read, in bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The number of received bytes from which progress is reported.
const MIN_PROGRESS_BYTES: u64 = 256 * 1024;
/// The type of a body that states none and is not text.
const DATA_TYPE: &str = "application/octet-stream";

/// Reads a response whose status is expected.
///
/// # Errors
/// Returns a failure for another status, and for a body that is too large or breaks off.
pub(super) async fn read_response(
    tools: &HostTools,
    call: &ToolCall,
    (request, response): (&HttpRequest, Response),
    guard: &mut CallGuard,
) -> Result<ToolOutput, Failure> {
    let (status, headers) = (response.status(), response.headers().clone());
    if !request.expects(status) {
        let limits = SpoolLimits { max_value_bytes: MAX_ERROR_BYTES, max_bytes: MAX_ERROR_BYTES as u64 };
        let mut body = tools.spool(limits);
        if let Err(failure) = read_body(request, response, guard, (&mut body, limits.max_bytes)).await
            && matches!(failure.kind, FailureKind::Cancelled)
        {
            return Err(failure);
        }
        return Err(status_failure(request, status, &headers, &body.into_buffer()));
    }
    let http = &tools.settings.http;
    let limits = SpoolLimits { max_value_bytes: http.max_value_bytes, max_bytes: http.max_response_bytes };
    let mut body = tools.spool(limits);
    read_body(request, response, guard, (&mut body, limits.max_bytes)).await?;
    guard.report_final_progress();
    let (media_type, is_unicode) = (declared_media_type(&headers), !is_latin1(&headers));
    let describe = move |contents| describe_body(&media_type, is_unicode, contents);
    let received = body.finish(&call.attempt.task, describe).await;
    let received = received.map_err(|error| unwritable(&format!("`{}`: the response", request.shown_url()), &error))?;
    Ok(output(request, status, &headers, received))
}

/// Describes the file of a large body.
fn describe_body(media_type: &str, is_unicode: bool, contents: FileContents) -> (String, ReferenceKind) {
    let is_text = is_unicode
        && match contents {
            FileContents::Text => is_text_type(media_type) || !is_data_type(media_type),
            FileContents::TextWithNull => is_text_type(media_type),
            FileContents::Data => false,
        };
    let (default, kind) = if is_text { ("text/plain", ReferenceKind::Text) } else { (DATA_TYPE, ReferenceKind::Data) };
    (if media_type.is_empty() { default } else { media_type }.to_owned(), kind)
}

async fn read_body(
    request: &HttpRequest,
    mut response: Response,
    guard: &mut CallGuard,
    (body, max_bytes): (&mut Spool, u64),
) -> Result<(), Failure> {
    let too_large = |max_bytes: u64| {
        let message = format!("`{}`: the response is larger than {max_bytes} bytes", request.shown_url());
        let help = "raise `max_response_bytes` in `[http]` of the agents file";
        Failure::new(FailureKind::ResultTooLarge, message).with_help(help)
    };
    let total = response.content_length();
    if total.is_some_and(|total| total > max_bytes) {
        return Err(too_large(max_bytes));
    }
    loop {
        let chunk = match guard.wait(response.chunk(), std::future::pending()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(send_failure(request, error)),
            Err(stop) => return Err(stopped(guard, stop)),
        };
        guard.record_activity();
        match guard.wait(body.push(&chunk), std::future::pending()).await {
            Ok(Ok(())) => {}
            Ok(Err(SpoolError::TooLarge(max_bytes))) => return Err(too_large(max_bytes)),
            Ok(Err(SpoolError::File(error))) => {
                return Err(unwritable(&format!("`{}`: the response", request.shown_url()), &error));
            }
            Err(stop) => return Err(stopped(guard, stop)),
        }
        if body.bytes() >= MIN_PROGRESS_BYTES {
            let (progress, total) = (body.bytes() as f64, total.map(|total| total as f64));
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
fn output(request: &HttpRequest, status: StatusCode, headers: &HeaderMap, body: Received) -> ToolOutput {
    let media_type = declared_media_type(headers);
    let mut values = JsonObject::new();
    for name in headers.keys() {
        let all: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.insert(name.as_str().to_owned(), all.join(", ").into());
    }
    let structured = |body: Value| Some(json!({"status": status.as_u16(), "headers": values, "body": body}));
    let body = match body {
        Received::Value(body) if body.is_empty() => {
            return ToolOutput::new(std::iter::empty::<ContentBlock>(), structured(Value::Null));
        }
        Received::Value(body) if is_text(&media_type, &body) => Ok(body),
        Received::Value(body) => Err(STANDARD.encode(&body)),
        Received::File(file) if file.is_text => {
            let structured = structured(file.reference().into());
            let stated = Some(media_type.as_str()).filter(|media_type| !media_type.is_empty());
            return ToolOutput::new([ContentBlock::text_in_file(file, stated)], structured);
        }
        Received::File(file) => Err(file.reference()),
    };
    let body = match body {
        Ok(body) => body,
        Err(data) => {
            let mime_type = if media_type.is_empty() { DATA_TYPE } else { media_type.as_str() };
            let block = match mime_type.split('/').next() {
                Some(kind @ ("image" | "audio")) => json!({"type": kind, "mimeType": mime_type, "data": data}),
                _ => {
                    let resource = json!({"uri": request.shown_url(), "mimeType": mime_type, "blob": data});
                    json!({"type": "resource", "resource": resource})
                }
            };
            return ToolOutput::new([block], structured(Value::Null));
        }
    };
    let text = decode(headers, &body);
    let parsed = if is_json(&media_type) { serde_json::from_str(&text).ok() } else { None };
    let value = parsed.unwrap_or_else(|| Value::String(text.clone()));
    ToolOutput::new([ContentBlock::Text(text)], structured(value))
}

/// Returns whether a body is text, by its media type, or by its bytes if that is unknown.
fn is_text(media_type: &str, body: &[u8]) -> bool {
    let is_plain = || std::str::from_utf8(body).is_ok_and(|text| !text.contains('\0'));
    is_text_type(media_type) || !is_data_type(media_type) && is_plain()
}

fn is_text_type(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || is_json(media_type)
        || media_type.ends_with("+xml")
        || ["application/xml", "application/javascript", "application/x-www-form-urlencoded"].contains(&media_type)
}

fn is_data_type(media_type: &str) -> bool {
    ["image/", "audio/", "video/", "font/"].iter().any(|kind| media_type.starts_with(kind))
}

fn declared_media_type(headers: &HeaderMap) -> String {
    media_type(headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default())
}

/// Returns whether the header says that each byte is a character.
fn is_latin1(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let charset = content_type.split(';').find_map(|parameter| parameter.trim().strip_prefix("charset="));
    let charset = charset.unwrap_or_default().trim_matches('"').to_ascii_lowercase();
    matches!(charset.as_str(), "iso-8859-1" | "latin1" | "us-ascii")
}

/// Decodes a body by its charset: UTF-8 unless the header says otherwise.
fn decode(headers: &HeaderMap, body: &[u8]) -> String {
    if is_latin1(headers) {
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
