//! Reads HTTP requests.

use super::common::{OTHER_WORK_KEYS, expected_codes, warn_not_allowed};
use crate::config::agents::host_section::literal_origin;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::{HTTP, HttpKeys, TASK, TaskKeys};
use crate::config::schema::table::CheckedTable;
use crate::config::validate::routes::RouteResolver;
use crate::config::validate::work_keys::report_other_work;
use crate::config::yaml::document::DocumentNode;
use crate::model::{Call, JsonObject, Operation, Template};

/// Returns the call of a task that sends an HTTP request, if it does.
pub(in crate::config::validate) fn read_request<'n>(
    fields: CheckedTable<'n, TaskKeys>,
    router: &mut RouteResolver<'_>,
    sink: &mut DiagnosticSink,
) -> Option<Call> {
    let node = fields.node(&TASK.http)?;
    report_other_work(fields, TASK.http.name, OTHER_WORK_KEYS, "put it in a task of its own", sink);
    // A text has no keys.
    let http: CheckedTable<'n, HttpKeys> = CheckedTable::new(node);
    let url = if node.as_text().is_some() { Some(node) } else { http.node(&HTTP.url) };
    if let Some(url) = url {
        check_url(url, router, sink);
    }
    for (name, node, value) in http.text_map(&HTTP.headers) {
        if ::http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            sink.error("header", node.span, format!("`{name}` is not a valid header name"));
        }
        if !value.contains("${{") && ::http::HeaderValue::from_str(value).is_err() {
            sink.error("header", node.span, format!("the value of the header `{name}` is not valid"));
        }
    }
    let mut parameters = JsonObject::new();
    parameters.extend(url.map(|url| (HTTP.url.name.to_owned(), url.to_json())));
    for key in [&HTTP.method, &HTTP.query, &HTTP.headers, &HTTP.body] {
        parameters.extend(http.node(key).map(|node| (key.name.to_owned(), node.to_json())));
    }
    let expect = expected_codes(fields, (http, &HTTP.expect), sink);
    parameters.extend(expect.map(|codes| (HTTP.expect.name.to_owned(), codes)));
    let routes = vec![router.host_route(Operation::SendRequest)];
    let arguments = Template(parameters.into());
    Some(Call { operation: Operation::SendRequest, routes, arguments, awaits: None })
}

/// Checks the URL as far as it is known before the run: its scheme, and whether its host is allowed.
fn check_url(node: &DocumentNode<'_>, router: &RouteResolver<'_>, sink: &mut DiagnosticSink) {
    let text = node.as_text().unwrap_or_default();
    let settings = router.host_settings();
    let Some(origin) = literal_origin(text) else {
        if !text.trim_start().starts_with("${{") && !has_http_scheme(text) {
            let error = sink.error("bad_url", node.span, "`url` does not start with `http(s)://`");
            error.help("expected a URL such as `https://api.example.com/v1`");
        }
        return warn_not_allowed(settings.check_any_host(), node.span, sink);
    };
    if !has_http_scheme(text) {
        let error = sink.error("bad_url", node.span, "`url` does not start with `http(s)://`");
        error.help("expected a URL such as `https://api.example.com/v1`");
        return;
    }
    warn_not_allowed(settings.check_url(&origin), node.span, sink);
}

fn has_http_scheme(url: &str) -> bool {
    let scheme = url.split("://").next().unwrap_or_default();
    scheme.len() < url.len() && (scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
}
