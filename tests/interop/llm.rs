//! The `llm` module with a real engine: replies, errors, and cancelled requests.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kapell::llm::{Llm, Models};
use kapell::model::{
    ChatError, ChatMessage, ChatPart, ChatReply, ChatRequest, ChatRole, ChatTool, Dialect, JsonObject, LlmSpec,
    ReplySchema, RequestSettings, Scores, StructuredOutput, ToolChoice,
};
use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::engine::LlmEngine;
use crate::recording_proxy::RecordingProxy;

/// Returns the engine's model, with all capabilities enabled.
fn llm_spec(engine: &LlmEngine) -> LlmSpec {
    LlmSpec {
        name: LlmSpec::DEFAULT_NAME.to_owned(),
        base_url: format!("{}/v1", engine.url()),
        model: LlmEngine::MODEL.to_owned(),
        api_key: None,
        headers: Vec::new(),
        query: Vec::new(),
        timeout: Duration::from_secs(60),
        deadline: None,
        dialect: Dialect { tools: true, images: true, audio: true, ..Dialect::default() },
        settings: RequestSettings::default(),
        scores: Scores::default(),
        prices: None,
        unset_variables: Vec::new(),
    }
}

fn user_request(text: &str) -> ChatRequest {
    ChatRequest {
        messages: vec![ChatMessage::text(ChatRole::User, text).into()],
        max_tokens: 200,
        ..ChatRequest::default()
    }
}

/// Runs `work` on a new runtime.
fn block_on<T>(work: impl Future<Output = Result<T, Failed>>) -> Result<T, Failed> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn models(spec: LlmSpec) -> Result<Models, Failed> {
    Ok(Models::new([spec])?.ok_or("there is a model")?)
}

fn request_reply(spec: LlmSpec, request: &ChatRequest) -> Result<Result<ChatReply, ChatError>, Failed> {
    let models = models(spec)?;
    block_on(async { Ok(models.chat(request).await) })
}

/// Returns the status and the message of a failure.
fn error_of(reply: Result<ChatReply, ChatError>) -> Result<(Option<u16>, String), Failed> {
    match reply {
        Err(ChatError::Endpoint { message, status }) => Ok((status, message)),
        other => Err(format!("expected a failure of the endpoint, not {other:?}").into()),
    }
}

pub(crate) fn doctor_check() -> Result<(), Failed> {
    let engine = LlmEngine::start_with_key("a-key-of-tests")?;
    let small = LlmEngine::start_with_context(4_096)?;
    let place = tempfile::tempdir()?;
    let agents = place.path().join("agents.toml");
    std::fs::write(
        &agents,
        format!(
            "[llm]\nprovider = \"llama.cpp\"\nbase_url = \"{0}/v1\"\nmodel = \"{1}\"\napi_key_env_var = \"LLM_KEY\"\ntools = true\n\
             [models.locked]\nprovider = \"llama.cpp\"\nbase_url = \"{0}/v1\"\nmodel = \"{1}\"\n\
             [models.small]\nprovider = \"llama.cpp\"\nbase_url = \"{2}/v1\"\nmodel = \"{1}\"\ntools = true\n",
            engine.url(),
            LlmEngine::MODEL,
            small.url()
        ),
    )?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_kapell"));
    let command = command.args(["doctor", "--output", "json", "--agents"]).arg(&agents);
    let output = command.env("LLM_KEY", "a-key-of-tests").output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    // The checks of a model, after the line with its address.
    let checks = |model: &str| -> Vec<(&str, &str)> {
        let checks = report["checks"].as_array().into_iter().flatten();
        let prefix = format!("{model}: ");
        let named = checks.filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with(&prefix)));
        named.filter_map(|check| Some((check["status"].as_str()?, check["message"].as_str()?))).collect()
    };
    let statuses = |model: &str| checks(model).into_iter().map(|(status, _)| status).collect::<Vec<_>>();
    assert_eq!(output.status.code(), Some(1), "{report:#}");
    assert_eq!((statuses("llm"), statuses("locked")), (vec!["ok"; 5], vec!["failed"]), "{report:#}");
    assert_eq!(statuses("small"), ["ok", "ok", "ok", "ok", "failed"], "{report:#}");
    // The message of the engine, and the key to check.
    let message = checks("small")[4].1;
    assert!(message.contains("exceeds the available context size"), "{message}");
    let message = checks("locked")[0].1;
    assert!(message.contains("answered 401") && message.contains("`api_key_env_var`"), "{message}");
    Ok(())
}

fn find_tool() -> ChatTool {
    let schema = json!({"type": "object", "properties": {"city": {"enum": ["Porto", "Lisbon"]}}, "required": ["city"]});
    let input_schema = schema.as_object().cloned().unwrap_or_default();
    ChatTool { name: "geo.find".to_owned(), description: Some("Finds a city.".to_owned()), input_schema }
}

pub(crate) fn tool_calls() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let request =
        ChatRequest { tools: vec![find_tool()], tool_choice: ToolChoice::Required, ..user_request("Where is it?") };
    let reply = request_reply(llm_spec(&engine), &request)??;
    assert_eq!(reply.stop_reason, "toolUse");
    let mut results = Vec::new();
    for part in &reply.parts {
        if let ChatPart::ToolUse { id, name, input } = part {
            assert_eq!(name, "geo.find");
            assert!(["Porto", "Lisbon"].contains(&input["city"].as_str().unwrap_or_default()), "{input:?}");
            results.push(ChatPart::ToolResult { id: id.clone(), text: "41.1 N".to_owned(), is_error: false });
        }
    }
    let mut messages = request.messages.clone();
    messages.push(ChatMessage { role: ChatRole::Assistant, parts: reply.parts.clone() }.into());
    messages.push(ChatMessage { role: ChatRole::User, parts: results }.into());
    let request = ChatRequest { messages, tool_choice: ToolChoice::None, ..request };
    let reply = request_reply(llm_spec(&engine), &request)??;
    assert!(matches!(reply.parts.as_slice(), [ChatPart::Text { .. }]), "{reply:?}");
    assert!(reply.usage.is_some_and(|usage| usage.input_tokens > 0), "{reply:?}");
    Ok(())
}

pub(crate) fn structured_reply() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object", "properties": {"city": {"type": "string", "enum": ["Porto", "Lisbon"]}},
        "required": ["city"], "additionalProperties": false,
    });
    let request = ChatRequest {
        output: Some(ReplySchema { name: "city".to_owned(), schema, is_described: false }),
        max_tokens: 2_000,
        ..user_request("Which city?")
    };
    let with = |structured_output| {
        let spec = llm_spec(&engine);
        let dialect = Dialect { structured_output, ..spec.dialect };
        request_reply(LlmSpec { dialect, ..spec }, &request)
    };
    let object: JsonObject = serde_json::from_str(&with(StructuredOutput::JsonSchema)??.text())?;
    assert!(["Porto", "Lisbon"].contains(&object["city"].as_str().unwrap_or_default()), "{object:?}");
    // The replies of this model are random, so the lower levels are only checked to be accepted.
    for mode in [StructuredOutput::JsonObject, StructuredOutput::Text] {
        let reply = with(mode)??;
        assert!(["endTurn", "maxTokens"].contains(&reply.stop_reason.as_str()), "{mode:?}: {reply:?}");
    }
    Ok(())
}

pub(crate) fn wrong_key() -> Result<(), Failed> {
    let engine = LlmEngine::start_with_key("a-key-of-tests")?;
    let with = |key: Option<&str>| LlmSpec { api_key: key.map(str::to_owned), ..llm_spec(&engine) };
    assert!(request_reply(with(Some("a-key-of-tests")), &user_request("Hello"))?.is_ok());
    for key in [None, Some("another-key-of-tests")] {
        let (status, message) = error_of(request_reply(with(key), &user_request("Hello"))?)?;
        assert_eq!(status, Some(401), "{message}");
        assert!(message.contains("`api_key_env_var`") && !message.contains("of-tests"), "{message}");
    }
    Ok(())
}

pub(crate) fn rejected_request() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let image = ChatPart::Image { mime_type: "image/png".to_owned(), data: "aGk=".to_owned() };
    let with_image = ChatRequest {
        messages: vec![ChatMessage { role: ChatRole::User, parts: vec![image] }.into()],
        ..user_request("")
    };
    let with_schema = ChatRequest {
        output: Some(ReplySchema { name: "odd".to_owned(), schema: json!({"type": "nonsense"}), is_described: false }),
        ..user_request("Hello")
    };
    let address = engine.url().trim_start_matches("http://").parse()?;
    for (request, expected, part) in
        [(with_image, 500, "set `images = false` in [llm]"), (with_schema, 400, "nonsense")]
    {
        block_on(async {
            let proxy = RecordingProxy::start(address).await?;
            let spec = LlmSpec { base_url: format!("http://{}/v1", proxy.address), ..llm_spec(&engine) };
            let (status, message) = error_of(models(spec)?.chat(&request).await)?;
            assert_eq!(status, Some(expected), "{message}");
            assert!(message.contains(part), "{message}");
            assert_eq!(proxy.count_sent("POST "), 1, "{message}");
            Ok(())
        })?;
    }
    Ok(())
}

pub(crate) fn oversized_conversation() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let (status, message) = error_of(request_reply(llm_spec(&engine), &user_request(&"word ".repeat(40_000)))?)?;
    assert_eq!(status, Some(400), "{message}");
    assert!(message.contains("exceeds the available context size"), "{message}");
    Ok(())
}

/// Waits until `expected` slots are busy.
async fn wait_for_busy_slots(engine: &LlmEngine, expected: usize) -> Result<(), Failed> {
    let start = Instant::now();
    loop {
        let slots: Value = serde_json::from_str(&reqwest::get(format!("{}/slots", engine.url())).await?.text().await?)?;
        let busy = slots.as_array().into_iter().flatten().filter(|slot| slot["is_processing"] == true).count();
        if busy == expected {
            return Ok(());
        }
        if start.elapsed() > Duration::from_secs(30) {
            return Err(format!("{busy} slots are busy instead of {expected}: {slots}").into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn cancelled_request() -> Result<(), Failed> {
    let engine = LlmEngine::start()?;
    let models = Arc::new(models(llm_spec(&engine))?);
    block_on(async {
        // At this temperature the model does not end by itself for minutes.
        let request = ChatRequest { max_tokens: 16_000, temperature: Some(0.0), ..user_request("Go on and on") };
        let asking = tokio::spawn(async move { models.chat(&request).await });
        wait_for_busy_slots(&engine, 1).await?;
        asking.abort();
        wait_for_busy_slots(&engine, 0).await?;
        assert!(asking.await.is_err_and(|error| error.is_cancelled()), "the reply came before it was cancelled");
        Ok(())
    })
}
