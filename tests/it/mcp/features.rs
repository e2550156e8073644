//! Features of the protocol that few servers use, over stdio and in both eras.

use std::path::Path;
use std::time::Duration;

use kapell::mcp::{Agents as _, CallContext, Options, Pool, SamplingSupport};
use kapell::model::{AgentSpec, FailureKind, LogLevel, Protocol, RunId, SchemaChecks, TraceContext, Transport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::pools::{RecordingHost, attempt, options, pool, process, spec, wait_until};

const ERAS: [Protocol; 2] = [Protocol::Legacy, Protocol::Modern];

/// Returns the agent of `tests/agents/features.py`. Its ID is that of [`attempt`].
fn agent(protocol: Protocol) -> AgentSpec {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/features.py");
    let era = if protocol == Protocol::Modern { "modern" } else { "legacy" };
    let transport = Transport::Stdio(process("python3", &[script.to_str().unwrap(), era]));
    AgentSpec { protocol, ..spec("odd", transport) }
}

/// Calls a tool and returns its text as JSON.
async fn call(pool: &Pool, tool: &str, arguments: Value) -> Value {
    let output = pool.call(attempt(tool, arguments), CallContext::default()).await.expect("succeeds");
    serde_json::from_str(&output.text()).expect("is JSON")
}

#[tokio::test]
async fn arguments_get_the_defaults_of_required_properties() {
    for protocol in ERAS {
        let pool = pool(vec![agent(protocol)], &RecordingHost::new());
        for (given, sent) in [
            (json!({}), json!({"scale": "css", "type": "png"})),
            (json!({"type": "jpeg", "filename": null}), json!({"scale": "css", "type": "jpeg"})),
            (
                json!({"type": "png", "scale": "device", "fullPage": true}),
                json!({"fullPage": true, "scale": "device", "type": "png"}),
            ),
        ] {
            assert_eq!(call(&pool, "shoot", given).await, sent);
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn invalid_arguments_are_refused_accepted_or_unchecked() {
    for (checks, sent) in [
        (SchemaChecks::Strict, None),
        (SchemaChecks::Warn, Some(json!({"scale": 2, "type": "png"}))),
        (SchemaChecks::Off, Some(json!({"scale": 2}))),
    ] {
        let host = RecordingHost::new();
        let pool = pool(vec![AgentSpec { check_arguments: checks, ..agent(Protocol::Legacy) }], &host);
        let result = pool.call(attempt("shoot", json!({"scale": 2})), CallContext::default()).await;
        match (result, sent) {
            (Ok(output), Some(sent)) => assert_eq!(serde_json::from_str::<Value>(&output.text()).unwrap(), sent),
            (Err(failure), None) => {
                assert_eq!(failure.kind, FailureKind::InvalidArguments);
                assert!(failure.help.unwrap().contains("`check_arguments = \"warn\"` in `[agents.odd]`"));
            }
            (result, _) => panic!("{result:?}"),
        }
        let warnings = host.logged().iter().filter(|(_, message)| message.data.to_string().contains("/scale")).count();
        assert_eq!(warnings, usize::from(checks == SchemaChecks::Warn));
        pool.close().await;
    }
}

#[tokio::test]
async fn instructions_are_read_in_both_eras() {
    for protocol in ERAS {
        let pool = pool(vec![agent(protocol)], &RecordingHost::new());
        let info = pool.connect(&"odd".into()).await.expect("connects");
        assert_eq!(info.instructions.as_deref(), Some("Call `shoot` before `describe`.\nNever call `wipe`."));
        pool.close().await;
    }
}

#[tokio::test]
async fn log_level_is_requested_in_both_eras() {
    let modern_key = "io.modelcontextprotocol/logLevel";
    for protocol in ERAS {
        let spec = AgentSpec { log_level: LogLevel::Warning, ..agent(protocol) };
        let pool = pool(vec![spec], &RecordingHost::new());
        pool.connect(&"odd".into()).await.expect("connects");
        match protocol {
            Protocol::Modern => assert_eq!(call(&pool, "meta", json!({})).await["meta"][modern_key], "warning"),
            // The level is set concurrently with the first calls.
            _ => while call(&pool, "meta", json!({})).await["levels"] != json!(["warning"]) {},
        }
        pool.close().await;
    }
}

#[tokio::test]
async fn requests_carry_the_trace_of_the_run() {
    let trace = TraceContext::of_run(&RunId::from("01a2b3c4-d5e6-7f80-91a2-b3c4d5e6f708"));
    for protocol in ERAS {
        let host = RecordingHost::new();
        let sampling = SamplingSupport::Off;
        let options = Options { sampling, trace: Some(trace.clone()), ..options(host.log_directory()) };
        let pool = Pool::new([agent(protocol)], options, host);
        let mut context = CallContext::default();
        trace.add_to(&mut context.meta, &["t", "1"]);
        let own = context.meta["traceparent"].clone();
        let output = pool.call(attempt("meta", json!({})), context).await.expect("succeeds");
        let seen: Value = serde_json::from_str(&output.text()).expect("is JSON");
        assert_eq!(seen["meta"]["traceparent"], own);
        let listing = seen["listings"][0].as_str().expect("a traceparent");
        assert!(listing.starts_with("00-01a2b3c4d5e67f8091a2b3c4d5e6f708-"), "{listing}");
        assert_ne!(listing, own);
        pool.close().await;
    }
}

#[tokio::test]
async fn messages_are_limited_per_agent() {
    let limit = 100_000;
    for protocol in ERAS {
        let pool = pool(vec![AgentSpec { max_message_bytes: limit, ..agent(protocol) }], &RecordingHost::new());
        let output = pool.call(attempt("large", json!({"bytes": limit - 1_000})), CallContext::default()).await;
        assert_eq!(output.expect("fits").text().len(), limit - 1_000);
        let failure = pool.call(attempt("large", json!({"bytes": limit})), CallContext::default()).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::ResultTooLarge);
        assert!(failure.message.contains("100000 bytes"), "{}", failure.message);
        assert!(failure.help.unwrap().contains("`max_message_bytes` in `[agents.odd]`"));
        pool.close().await;
    }
}

#[tokio::test]
async fn completed_pages_are_reported() {
    let host = RecordingHost::new();
    host.set_delay(Duration::from_secs(1_000));
    let pool = pool(vec![agent(Protocol::Legacy)], &host);
    let cancel = CancellationToken::new();
    let context = CallContext { cancel: cancel.clone(), ..CallContext::default() };
    let reported = async {
        wait_until(|| host.completed_pages().len() >= 2).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(pool.call(attempt("sign_in", json!({})), context), reported);
    assert_eq!(result.unwrap_err().kind, FailureKind::Cancelled);
    assert_eq!(host.completed_pages()[..2], ["other", "e1"]);
    pool.close().await;
}
