//! Exports the spans of real runs to a receiver of OTLP over HTTP, and compares their tree.
#![allow(missing_docs)]

#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is shared with `tests/it`, which uses all of it")]
mod support;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use serde_json::Value;
use support::http_server::{HttpServer, Reply};
use support::scripted_endpoint::ScriptedEndpoint;
use support::workspace::{CommandOutput, Workspace};

const PLAN: &str = "\
name: trip
tasks:
  - { id: reading, agent: research, tool: research, with: { topic: Lisbon, depth: 2 } }
  - { id: trip, agent: travel, tool: book_trip, needs: [reading], with: { city: Lisbon } }
  - id: notes
    needs: [trip]
    foreach: ${{ tasks.reading.output.findings }}
    agent: archive
    tool: store_document
    with: { title: \"${{ item.title }}\", text: note }
  - id: dying
    needs: [notes]
    agent: odd-dies
    tool: work
    effect: read_only
    retry: { max_attempts: 2, backoff: { initial: 1ms } }
    on_failure: continue
";

/// A span as the receiver got it.
#[derive(Debug, Clone)]
struct ReceivedSpan {
    trace: String,
    id: String,
    parent: String,
    name: String,
    start: u64,
    attributes: BTreeMap<String, String>,
    has_error: bool,
}

fn receiver() -> HttpServer {
    HttpServer::start(|_, _| Reply::json(&serde_json::json!({})))
}

fn run(place: &Workspace, receiver: &HttpServer, arguments: &[&str]) -> CommandOutput {
    CommandOutput::of(&mut exporting(place, receiver, arguments))
}

fn exporting(place: &Workspace, receiver: &HttpServer, arguments: &[&str]) -> std::process::Command {
    let mut command = place.command(arguments);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url())
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=a%20key")
        .env_remove("TRACEPARENT");
    command
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Returns the spans that the receiver got, each once, in the order of their start.
fn spans(receiver: &HttpServer) -> Vec<ReceivedSpan> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for request in receiver.received() {
        assert_eq!(request.headers.get("x-api-key").map(String::as_str), Some("a key"));
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/traces"));
        let body: Value = serde_json::from_str(&request.body).expect("JSON");
        for resource in list(&body, "resourceSpans") {
            for span in list(&resource, "scopeSpans").iter().flat_map(|scope| list(scope, "spans")) {
                let attributes = list(&span, "attributes").into_iter().map(|attribute| {
                    let value = attribute["value"].as_object().and_then(|value| value.values().next().cloned());
                    (text(&attribute["key"]), text(&value.unwrap_or_default()))
                });
                spans.push(ReceivedSpan {
                    trace: text(&span["traceId"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    name: text(&span["name"]),
                    start: text(&span["startTimeUnixNano"]).parse().expect("a number"),
                    attributes: attributes.collect(),
                    has_error: text(&span["status"]["code"]) == "2",
                });
            }
        }
    }
    let mut known = HashSet::new();
    spans.retain(|span| known.insert(span.id.clone()));
    spans.sort_by_key(|span| span.start);
    spans
}

/// Formats the spans as a tree, without what differs from run to run.
fn tree(spans: &[ReceivedSpan]) -> String {
    fn add(spans: &[ReceivedSpan], parent: &str, depth: usize, text: &mut String) {
        let mut children: Vec<&ReceivedSpan> = spans.iter().filter(|span| span.parent == parent).collect();
        children.sort_by_key(|span| (span.start / 1_000_000, span.name.clone()));
        for span in children {
            let mark = if span.has_error { " (error)" } else { "" };
            let shown =
                ["gen_ai.operation.name", "mcp.method.name", "kapell.agent.name", "error.type", "kapell.run.status"];
            let attributes = shown.iter().filter_map(|name| Some(format!(" {name}={}", span.attributes.get(*name)?)));
            let _ = writeln!(
                text,
                "{:indent$}{}{mark}{}",
                "",
                span.name,
                attributes.collect::<String>(),
                indent = depth * 2
            );
            add(spans, &span.id, depth + 1, text);
        }
    }
    let mut text = String::new();
    add(spans, "", 0, &mut text);
    text
}

#[test]
fn run_with_retry_sampling_and_question_is_one_tree() {
    let (place, receiver) = (Workspace::new(), receiver());
    let endpoint = ScriptedEndpoint::with_replies(["A summary."]);
    place.write_agents(&["dies"]).write("plan.yaml", PLAN);
    let agents = std::fs::read_to_string(place.path("agents.toml")).expect("written");
    place.write("agents.toml", agents + &endpoint.config_section());
    place.write("answers.yaml", "answers: [{ agent: travel, accept: { confirm: true } }]\n");
    let ended = run(&place, &receiver, &["run", "plan.yaml", "--no-input", "--answers", "answers.yaml"]);
    assert_eq!(ended.code, Some(3), "{ended:?}");
    let spans = spans(&receiver);
    insta::assert_snapshot!(tree(&spans));
    let contents = ["gen_ai.tool.call.result", "gen_ai.tool.call.arguments", "gen_ai.input.messages"];
    assert!(spans.iter().all(|span| contents.iter().all(|name| !span.attributes.contains_key(*name))));
}

#[test]
fn resumed_run_continues_its_trace() {
    let (place, receiver) = (Workspace::new(), receiver());
    place.write_agents(&[]).write(
        "plan.yaml",
        "name: long\ntasks:\n  - { id: first, agent: archive, tool: store_document, with: { title: a, text: b } }\n  \
         - { id: second, agent: archive, tool: store_document, needs: [first], effect: idempotent, with: { title: c, text: d, delay_ms: 1500 } }\n",
    );
    let mut driver = exporting(&place, &receiver, &["run", "plan.yaml", "--no-input"]).spawn().expect("starts");
    place.wait_for_attempt("second", &[]);
    driver.kill().expect("running");
    driver.wait().expect("killed");
    let ended = run(&place, &receiver, &["resume", "last"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let spans = spans(&receiver);
    insta::assert_snapshot!(tree(&spans));
    assert_eq!(spans.iter().map(|span| &span.trace).collect::<HashSet<_>>().len(), 1, "{spans:?}");
}

#[test]
fn caller_is_the_parent_and_contents_are_exported_on_request() {
    let (place, receiver) = (Workspace::new(), receiver());
    place.write_agents(&[]).write(
        "plan.yaml",
        "name: one\ntasks:\n  - { id: a, agent: archive, tool: store_document, with: { title: secret-title, text: b } }\n",
    );
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let mut command = exporting(&place, &receiver, &["run", "plan.yaml"]);
    command
        .env("TRACEPARENT", format!("00-{trace}-{caller}-01"))
        .env("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true");
    assert_eq!(CommandOutput::of(&mut command).code, Some(0));
    let spans = spans(&receiver);
    assert!(spans.iter().all(|span| span.trace == trace), "{spans:?}");
    assert_eq!(spans.iter().filter(|span| span.parent == caller).count(), 1, "{spans:?}");
    let arguments = spans.iter().find_map(|span| span.attributes.get("gen_ai.tool.call.arguments")).expect("exported");
    assert!(arguments.contains("secret-title"), "{arguments}");
}

#[test]
fn nothing_is_exported_without_an_endpoint_or_when_it_is_disabled() {
    let (place, receiver) = (Workspace::new(), receiver());
    place.write_agents(&[]).write("plan.yaml", "name: one\ntasks: [{ id: nap, sleep: 1ms }]\n");
    assert_eq!(place.kapell(&["run", "plan.yaml"]).code, Some(0));
    let disabled =
        CommandOutput::of(exporting(&place, &receiver, &["run", "plan.yaml"]).env("OTEL_SDK_DISABLED", "true"));
    assert_eq!((disabled.code, receiver.received().len()), (Some(0), 0));
}

#[test]
fn unreachable_receiver_does_not_fail_the_run() {
    let place = Workspace::new();
    place.write_agents(&[]).write("plan.yaml", "name: one\ntasks: [{ id: nap, sleep: 1ms }]\n");
    let ended = CommandOutput::of(
        place
            .command(["run", "plan.yaml"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
    );
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
