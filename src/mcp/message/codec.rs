//! Parses what an agent sends. Responses to calls, progress, and log messages become kapell's types; everything else
//! becomes rmcp's messages.

use std::borrow::Cow;

use rmcp::model::{
    CustomRequest, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerRequest, ServerResult,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call_response::{self, CallResponse, PlainToolResult};
use super::lenient_json::{self, RawMembers};
use super::limits::{MAX_LOG_BYTES, MAX_PARAMS_BYTES};
use super::request_id::id_number;
use super::server_info;
use super::service_result::{UNREADABLE, wrap_text};
use crate::model::text::floor_char_boundary;
use crate::model::{LogMessage, Progress};

/// The key that distinguishes requests and notifications from responses, and the number of leading bytes that are
/// searched for it.
const METHOD_KEY: &[u8] = b"\"method\"";
const METHOD_SEARCH_BYTES: usize = 64;

/// A message of an agent.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// The response to the request of a call.
    CallResponse(i64, CallResponse),
    /// Progress of the request with the token.
    Progress(RequestId, Progress),
    /// A log message.
    Log(LogMessage),
    /// Any other message.
    Message(Box<ServerJsonRpcMessage>),
    /// An unreadable response to an open request, with the reason.
    UnreadableResponse(RequestId, String),
    /// A response to a request that is not open.
    UnknownResponse(RequestId),
}

/// The kind of a pending request, which decides how its response is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedResult {
    /// A tool call, or the result of a task.
    Call,
    /// `initialize`.
    Initialize,
    /// `server/discover`.
    Discover,
    /// A request whose result is passed on as its JSON text. It is used for `tools/list`, since the catalog parses each
    /// tool separately.
    Text,
    Other,
}

/// The requests that wait for a response.
pub(crate) trait PendingRequests {
    /// Returns the kind of the request with the ID, if it is open.
    fn expected_result(&self, id: i64) -> Option<ExpectedResult>;
    /// Returns the only open request. A response without an ID belongs to it.
    fn single_open(&self) -> Option<i64>;
}

/// The single request whose response is parsed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SingleRequest(pub(crate) i64, pub(crate) ExpectedResult);

impl PendingRequests for SingleRequest {
    fn expected_result(&self, id: i64) -> Option<ExpectedResult> {
        (id == self.0).then_some(self.1)
    }

    fn single_open(&self) -> Option<i64> {
        Some(self.0)
    }
}

/// The unparsed members of a message.
#[derive(Deserialize)]
#[serde(transparent)]
struct RawMessage<'a> {
    #[serde(borrow)]
    members: RawMembers<'a>,
}

/// A successful response to a call, the most common message.
#[derive(Deserialize)]
struct PlainCallResponse<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    id: RequestId,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    result: PlainToolResult<'a>,
    error: Option<IgnoredAny>,
}

/// Parses the messages in a text. Usually there is one; an array or a single line may hold several.
///
/// # Errors
/// Returns a description of the problem if the text holds no message.
pub(crate) fn read(text: &str, requests: &impl PendingRequests) -> Result<Vec<Incoming>, String> {
    if let Some(answer) = read_plain_response(text, requests) {
        return Ok(vec![answer]);
    }
    let text = lenient_json::strip_bom(text);
    let error = match serde_json::from_str::<RawMessage<'_>>(text) {
        Ok(envelope) => return envelope.read(requests, MessageFraming::Alone).map(|message| vec![message]),
        Err(error) => error,
    };
    let read = |text: &str, place: MessageFraming| {
        let documents = lenient_json::json_values(text);
        let envelopes = documents.iter().filter_map(|json| serde_json::from_str::<RawMessage<'_>>(json.get()).ok());
        envelopes.filter_map(|envelope| envelope.read(requests, place).ok()).collect::<Vec<_>>()
    };
    let is_clean = text.starts_with('{') || serde_json::from_str::<Vec<&RawValue>>(text).is_ok();
    let messages = read(text, if is_clean { MessageFraming::Alone } else { MessageFraming::WithinText });
    if !messages.is_empty() {
        return Ok(messages);
    }
    if let Some(start) = text.find(['{', '['])
        && let Cow::Owned(repaired) = lenient_json::repair(&text[start..])
    {
        let messages = read(&repaired, if start == 0 { MessageFraming::Alone } else { MessageFraming::WithinText });
        if !messages.is_empty() {
            return Ok(messages);
        }
    }
    let why = lenient_json::describe_invalid_json(&error);
    match lenient_json::response_id(text) {
        Some(id) if id_number(&id).and_then(|id| requests.expected_result(id)).is_some() => {
            Ok(vec![Incoming::UnreadableResponse(id, lenient_json::describe_unreadable(why, text))])
        }
        _ => Err(why),
    }
}

/// The surroundings of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageFraming {
    /// The message is the whole text.
    Alone,
    /// The message is within other text, which may be a log that repeats messages of this host.
    WithinText,
}

fn read_plain_response(text: &str, requests: &impl PendingRequests) -> Option<Incoming> {
    // Messages with a method usually have it near the start. Otherwise, parsing only takes longer.
    let head = &text.as_bytes()[..text.len().min(METHOD_SEARCH_BYTES)];
    if head.windows(METHOD_KEY.len()).any(|bytes| bytes == METHOD_KEY) {
        return None;
    }
    match serde_json::from_str(text).ok()? {
        PlainCallResponse { jsonrpc, id, method: None, result, error: None } if jsonrpc == "2.0" => {
            let call = id_number(&id).filter(|id| requests.expected_result(*id) == Some(ExpectedResult::Call))?;
            Some(Incoming::CallResponse(call, result.into_call_response()?))
        }
        _ => None,
    }
}

impl RawMessage<'_> {
    fn read(self, requests: &impl PendingRequests, place: MessageFraming) -> Result<Incoming, String> {
        let id = self
            .members
            .get("id")
            .map(|id| lenient_json::parse_value(id).and_then(serde_json::from_value::<RequestId>));
        let id = id.transpose().map_err(|_| "its `id` is neither a number nor a string".to_owned())?;
        let method = self.members.get("method").and_then(|method| lenient_json::parse_value(method).ok());
        match (method, id) {
            (Some(Value::String(method)), id) => self.into_request(&method, id, place),
            (Some(_), _) => Err("its `method` is not a string".to_owned()),
            (None, Some(id)) => self.into_response(id, requests),
            (None, None) if !self.is_json_rpc() || !self.has_outcome() => {
                Err("it is not a JSON-RPC message".to_owned())
            }
            (None, None) => match requests.single_open() {
                Some(id) => self.into_response(RequestId::Number(id), requests),
                None => Err("it has no `id` of a request".to_owned()),
            },
        }
    }

    fn is_json_rpc(&self) -> bool {
        self.members.0.contains_key("jsonrpc")
    }

    fn has_outcome(&self) -> bool {
        self.members.get("result").or(self.members.get("error")).is_some()
    }

    fn into_response(self, id: RequestId, requests: &impl PendingRequests) -> Result<Incoming, String> {
        if !self.has_outcome() && !self.is_json_rpc() {
            return Err("it is not a JSON-RPC message".to_owned());
        }
        let Some((request, expected)) = id_number(&id).and_then(|id| Some((id, requests.expected_result(id)?))) else {
            return Ok(Incoming::UnknownResponse(id));
        };
        Ok(match (self.members.get("result"), self.members.get("error"), expected) {
            (None, Some(error), ExpectedResult::Call) => {
                Incoming::CallResponse(request, CallResponse::RpcError(read_error(error)))
            }
            (None, Some(error), _) => message(ServerJsonRpcMessage::error(read_error(error), Some(id))),
            (Some(result), None, ExpectedResult::Call) => Incoming::CallResponse(request, call_response::parse(result)),
            (Some(result), None, _) => match service_result(result, expected) {
                Ok(result) => message(ServerJsonRpcMessage::response(result, id)),
                Err(reason) => Incoming::UnreadableResponse(id, lenient_json::describe_unreadable(reason, result)),
            },
            (Some(result), Some(_), _) => {
                let reason = "it has both a `result` and an `error`";
                Incoming::UnreadableResponse(id, lenient_json::describe_unreadable(reason, result))
            }
            (None, None, _) => Incoming::UnreadableResponse(id, "it has neither a `result` nor an `error`".to_owned()),
        })
    }

    fn into_request(self, method: &str, id: Option<RequestId>, place: MessageFraming) -> Result<Incoming, String> {
        if place == MessageFraming::WithinText && !is_from_server(method) {
            return Err(format!("a server does not send `{method}`"));
        }
        let text = self.members.get("params");
        let params = match (text, method) {
            (_, "notifications/message") => None,
            (Some(text), "elicitation/create") if text.len() > MAX_PARAMS_BYTES => {
                // The size stands for parameters that are too large to be parsed.
                Some(text.len().into())
            }
            // Images and audio make these large, and not costly.
            (Some(text), method) if text.len() <= MAX_PARAMS_BYTES || method == "sampling/createMessage" => {
                lenient_json::parse_value(text).ok().filter(Value::is_object)
            }
            _ => None,
        };
        match (method, &id) {
            ("notifications/progress", None) => match params.as_ref().and_then(read_progress) {
                Some((token, progress)) => Ok(Incoming::Progress(token, progress)),
                None => Err("its progress has no token or no number".to_owned()),
            },
            ("notifications/message", None) => match text.map(read_log) {
                Some(message) => Ok(Incoming::Log(message)),
                None => Err("its log message is empty".to_owned()),
            },
            // rmcp's types would parse and serialize the parameters once more, and lose unknown members.
            ("sampling/createMessage" | "elicitation/create", Some(id)) => {
                let request = ServerRequest::CustomRequest(CustomRequest::new(method, params));
                Ok(message(JsonRpcMessage::request(request, id.clone())))
            }
            _ => {
                // The parameters are optional members. Anything but an object counts as absent.
                let mut message = json!({"jsonrpc": "2.0", "method": method});
                if let Some(id) = &id {
                    message["id"] = json!(id);
                }
                if let Some(Value::Object(mut params)) = params {
                    params.retain(|_, value| !value.is_null());
                    message["params"] = params.into();
                }
                let message = serde_json::from_value::<ServerJsonRpcMessage>(message);
                message
                    .map(|message| Incoming::Message(Box::new(message)))
                    .map_err(|_| format!("the parameters of `{method}` are invalid"))
            }
        }
    }
}

fn message(message: ServerJsonRpcMessage) -> Incoming {
    Incoming::Message(Box::new(message))
}

/// Returns whether only servers send the method, so that it cannot be an echo of this host's message.
fn is_from_server(method: &str) -> bool {
    matches!(
        method,
        "ping"
            | "roots/list"
            | "sampling/createMessage"
            | "elicitation/create"
            | "notifications/elicitation/complete"
            | "notifications/progress"
            | "notifications/message"
            | "notifications/tools/list_changed"
            | "notifications/resources/updated"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed"
    )
}

/// Parses the result of a request of rmcp's service.
fn service_result(result: &str, expected: ExpectedResult) -> Result<ServerResult, String> {
    if expected == ExpectedResult::Text {
        return Ok(wrap_text(result));
    }
    let result = lenient_json::parse_value(result).map_err(|error| lenient_json::describe_invalid_json(&error))?;
    match expected {
        ExpectedResult::Initialize => server_info::read_initialize_result(result).map(ServerResult::InitializeResult),
        ExpectedResult::Discover => server_info::read_discover_result(result).map(ServerResult::DiscoverResult),
        ExpectedResult::Call | ExpectedResult::Text | ExpectedResult::Other => {
            serde_json::from_value(result).map_err(|_| "its result has an unknown format".to_owned())
        }
    }
}

/// Parses a JSON-RPC error. A bare string becomes its message.
pub(crate) fn read_error(error: &str) -> ErrorData {
    match lenient_json::parse_value(error) {
        Ok(error) => error_from_json(error),
        Err(_) => ErrorData::new(ErrorCode::INTERNAL_ERROR, error.to_owned(), None),
    }
}

/// Converts a JSON-RPC error from its JSON value. A missing code becomes that of an internal error.
pub(crate) fn error_from_json(mut error: Value) -> ErrorData {
    let code = match error.get("code") {
        Some(Value::String(code)) => code.trim().parse::<f64>().ok(),
        Some(code) => code.as_f64(),
        None => None,
    };
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and codes are small")]
    let code = code.map_or(ErrorCode::INTERNAL_ERROR, |code| ErrorCode(code as i32));
    let code = if code == UNREADABLE { ErrorCode::INTERNAL_ERROR } else { code };
    let data = error.get_mut("data").map(Value::take).filter(|data| !data.is_null());
    let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
    let message_text = text(&error).or_else(|| text(error.get("message")?)).or_else(|| text(error.get("error")?));
    let message_text = message_text.or_else(|| data.as_ref().and_then(text));
    let message_text = message_text
        .unwrap_or_else(|| lenient_json::describe_unreadable("an error without a `message`", &error.to_string()));
    ErrorData::new(code, message_text, data)
}

fn read_progress(params: &Value) -> Option<(RequestId, Progress)> {
    let number = |key: &str| match params.get(key)? {
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
        value => value.as_f64(),
    };
    let token = serde_json::from_value(params.get("progressToken")?.clone()).ok()?;
    let message = params.get("message").and_then(Value::as_str).map(str::to_owned);
    Some((token, Progress { progress: number("progress")?, total: number("total"), message }))
}

/// Parses a log message of the agent. Its data is for people, so long data is truncated.
fn read_log(params: &str) -> LogMessage {
    let members = serde_json::from_str::<RawMembers<'_>>(params).unwrap_or_default();
    let text = |key: &str| match lenient_json::parse_value(members.get(key)?) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    };
    let data = match members.get("data") {
        None => Value::Null,
        Some(data) if data.len() > MAX_LOG_BYTES && !data.starts_with('"') => {
            // Only the start of long data is kept, so it need not be parsed.
            Value::String(format!("{}…", &data[..floor_char_boundary(data, MAX_LOG_BYTES)]))
        }
        Some(data) => lenient_json::parse_value(data).unwrap_or(Value::Null),
    };
    LogMessage { level: log_level(text("level").as_deref()), logger: text("logger"), data }
}

/// Returns the log level as MCP spells it.
fn log_level(level: Option<&str>) -> String {
    let level = level.unwrap_or_default().trim().to_ascii_lowercase();
    match level.as_str() {
        "debug" | "info" | "notice" | "warning" | "error" | "critical" | "alert" | "emergency" => level,
        "trace" | "verbose" => "debug".to_owned(),
        "warn" => "warning".to_owned(),
        "err" => "error".to_owned(),
        "fatal" | "panic" => "critical".to_owned(),
        _ => "info".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ServerNotification;
    use serde_json::json;

    use super::*;
    use crate::mcp::message::call_response::CallResponse;
    use crate::mcp::message::service_result::unwrap_text;
    use crate::mcp::requests::elicitation;
    use crate::model::{ContentBlock, ToolOutput};

    /// A table of open requests: call 7, and requests 1 to 4 of the service.
    struct FakeRequests;

    impl PendingRequests for FakeRequests {
        fn expected_result(&self, id: i64) -> Option<ExpectedResult> {
            let open = [
                (7, ExpectedResult::Call),
                (1, ExpectedResult::Initialize),
                (2, ExpectedResult::Discover),
                (3, ExpectedResult::Text),
                (4, ExpectedResult::Other),
            ];
            open.into_iter().find(|(open, _)| *open == id).map(|(_, expected)| expected)
        }

        fn single_open(&self) -> Option<i64> {
            None
        }
    }

    fn read_one(text: &str) -> Incoming {
        let mut messages = read(text, &FakeRequests).unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    fn read_message(message: &Value) -> Incoming {
        read_one(&message.to_string())
    }

    #[test]
    fn call_responses_accept_numeric_and_text_ids() {
        for id in [json!(7), json!("7")] {
            let result = json!({"content": [{"type": "text", "text": "hi"}], "x-more": 1.0});
            let output = ToolOutput { content: vec![ContentBlock::Text("hi".into())], ..ToolOutput::default() };
            match read_message(&json!({"result": result, "jsonrpc": "2.0", "id": id})) {
                Incoming::CallResponse(7, answer) => {
                    assert_eq!(answer, CallResponse::Output(output))
                }
                other => panic!("{other:?}"),
            }
            let error = json!({"code": -32000, "message": "no", "data": {"a": 1}});
            match read_message(&json!({"jsonrpc": "2.0", "id": id, "error": error})) {
                Incoming::CallResponse(7, answer) => {
                    let error = ErrorData::new(rmcp::model::ErrorCode(-32000), "no", Some(json!({"a": 1})));
                    assert_eq!(answer, CallResponse::RpcError(error));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn unreadable_responses_keep_their_id() {
        for text in [
            r#"{"jsonrpc": "2.0", "id": 7}"#,
            r#"{"jsonrpc": "2.0", "id": 7, "result": null, "error": null}"#,
            r#"{"jsonrpc": "2.0", "id": 7, "result": {}, "error": {"code": 1, "message": "m"}}"#,
            r#"{"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "te"#,
            r#"{"jsonrpc": "2.0", "id": 7, "result": {"text": "a "quoted" word"}}"#,
            r#"{"jsonrpc": "2.0", "id": 3, "result": {oops}}"#,
            r#"{"jsonrpc": "2.0", "id": 1, "result": "hello"}"#,
            r#"{"jsonrpc": "2.0", "id": 2, "result": {"supportedVersions": null}}"#,
        ] {
            match read_one(text) {
                Incoming::UnreadableResponse(RequestId::Number(_), reason) => assert!(!reason.is_empty()),
                other => panic!("{text}: {other:?}"),
            }
        }
        for noise in [
            "",
            "Server listening",
            "{\"level\": \"info\"}",
            "{}",
            "[1, 2]",
            r#"{"jsonrpc": "2.0", "id": 9, "result": {oops}}"#,
            r#"{"jsonrpc": "2.0", "id": null, "error": {"code": 1, "message": "m"}}"#,
        ] {
            assert!(read(noise, &FakeRequests).is_err(), "{noise}");
        }
        let late = read_message(&json!({"jsonrpc": "2.0", "id": 9, "result": {}}));
        assert!(matches!(late, Incoming::UnknownResponse(RequestId::Number(9))));
    }

    #[test]
    fn null_members_count_as_absent() {
        let result = json!({"jsonrpc": null, "id": 7, "result": {"content": []}, "error": null, "method": null});
        assert!(matches!(read_message(&result), Incoming::CallResponse(7, CallResponse::Output(_))));
        let error = |error: Value| {
            let message = json!({"jsonrpc": "2.0", "id": 7, "result": null, "error": error});
            match read_message(&message) {
                Incoming::CallResponse(7, CallResponse::RpcError(error)) => (error.code.0, error.message.into_owned()),
                other => panic!("{other:?}"),
            }
        };
        let expected = |code: i32, message: &str| (code, message.to_owned());
        assert_eq!(error(json!({"code": -1, "message": "disk full", "data": null})), expected(-1, "disk full"));
        assert_eq!(error(json!({"code": "-1", "message": "disk full"})), expected(-1, "disk full"));
        assert_eq!(error(json!({"code": null, "message": "disk full"})), expected(-32603, "disk full"));
        assert_eq!(error(json!("disk full")), expected(-32603, "disk full"));
        assert_eq!(error(json!({"code": -2, "message": null, "data": "disk full"})), expected(-2, "disk full"));
        assert_eq!(error(json!({"code": i32::MIN, "message": "m"})), expected(-32603, "m"));
        assert!(error(json!({"code": -2})).1.contains("an error without a `message`"));
    }

    #[test]
    fn response_without_id_belongs_to_the_single_request() {
        for text in [
            r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -5, "message": "m"}}"#,
            r#"{"jsonrpc": "2.0", "error": {"code": -5, "message": "m"}, "result": null}"#,
        ] {
            match read(text, &SingleRequest(7, ExpectedResult::Call)).unwrap().as_slice() {
                [Incoming::CallResponse(7, CallResponse::RpcError(error))] => assert_eq!(error.code.0, -5),
                other => panic!("{other:?}"),
            }
        }
        assert!(read(r#"{"error": "no"}"#, &SingleRequest(7, ExpectedResult::Call)).is_err());
    }

    #[test]
    fn repairable_responses_are_read() {
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"hi"}]}}"#;
        let output = || ToolOutput { content: vec![ContentBlock::Text("hi".into())], ..ToolOutput::default() };
        for text in [
            answer.to_owned(),
            format!("\u{FEFF}{answer}"),
            format!("\u{1b}[2K\u{1b}[32mdone\u{1b}[0m {answer}\u{1b}[0m"),
            format!("[=====>   ] 50% {answer}"),
            format!("{{\"level\": \"info\"}} {answer}"),
            format!("[{answer}]"),
            answer.replace("\"jsonrpc\":\"2.0\",", ""),
            answer.replace("\"id\":7", "\"id\":\"7\",\"id\":7"),
            answer.replace("\"id\":7", "\"id\":7.0,\"x\":NaN"),
        ] {
            match read_one(&text) {
                Incoming::CallResponse(7, read) => {
                    assert_eq!(read, CallResponse::Output(output()), "{text}")
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        for (written, expected) in [("a\tb", "a\tb"), (r"\ud800!", "\u{FFFD}!"), (r"\ud83d\ude00", "😀")] {
            match read_one(&answer.replace("hi", written)) {
                Incoming::CallResponse(7, CallResponse::Output(output)) => {
                    assert_eq!(output.text(), expected)
                }
                other => panic!("{other:?}"),
            }
        }
        let batch = format!(r#"[{{"jsonrpc":"2.0","method":"notifications/x","params":[]}},{answer}]"#);
        let messages = read(&batch, &FakeRequests).unwrap();
        assert!(matches!(messages.as_slice(), [Incoming::Message(_), Incoming::CallResponse(7, _)]), "{messages:?}");
    }

    #[test]
    fn logged_messages_are_not_read_as_messages() {
        for noise in [
            r#"received {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#,
            r#"{"level":"debug","sent":{"jsonrpc":"2.0","id":7,"result":{"content":[]}}}"#,
        ] {
            assert!(read(noise, &FakeRequests).is_err(), "{noise}");
        }
    }

    #[test]
    fn optional_members_may_be_malformed() {
        for params in [json!(null), json!([]), json!({}), json!({"_meta": null})] {
            let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params});
            match read_message(&ping) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Request(request) => {
                        assert!(matches!(request.request, ServerRequest::PingRequest(_)), "{params}");
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
            let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params});
            match read_message(&changed) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Notification(message) => assert!(
                        matches!(message.notification, ServerNotification::ToolListChangedNotification(_)),
                        "{params}"
                    ),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        let params = json!({"progressToken": 7, "progress": "0.5", "total": null, "message": 7, "_meta": null});
        match read_message(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})) {
            Incoming::Progress(_, progress) => {
                assert_eq!(progress, Progress { progress: 0.5, total: None, message: None });
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn progress_tokens_may_be_numbers_or_text() {
        let progress = |token: &Value| {
            let params = json!({"progressToken": token, "progress": 1, "total": 2.5, "message": "m"});
            read_message(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
        };
        for (written, token) in [(json!(3), RequestId::Number(3)), (json!("t"), RequestId::String("t".into()))] {
            match progress(&written) {
                Incoming::Progress(read, progress) => {
                    let expected = Progress { progress: 1.0, total: Some(2.5), message: Some("m".to_owned()) };
                    assert_eq!((read, progress), (token, expected));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn log_levels_are_normalized() {
        let log = |params: Value| match read_message(
            &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}),
        ) {
            Incoming::Log(message) => message,
            other => panic!("{other:?}"),
        };
        let message = |level: &str, logger: Option<&str>, data: Value| LogMessage {
            level: level.to_owned(),
            logger: logger.map(str::to_owned),
            data,
        };
        let data = json!({"a": 1.0});
        assert_eq!(
            log(json!({"level": "warning", "logger": "l", "data": data})),
            message("warning", Some("l"), data.clone())
        );
        for (given, level) in [(json!("WARN"), "warning"), (json!("loud"), "info"), (json!(null), "info")] {
            assert_eq!(log(json!({"level": given, "logger": null, "data": data})), message(level, None, data.clone()));
        }
        let long = log(json!({"level": "info", "data": {"text": "é".repeat(MAX_LOG_BYTES)}}));
        match long.data {
            Value::String(text) => {
                assert!(text.starts_with("{\"text\":\"éé") && text.len() <= MAX_LOG_BYTES + '…'.len_utf8());
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn tool_lists_are_passed_through_unchanged() {
        match read_message(
            &json!({"jsonrpc": "2.0", "id": 3, "result": {"tools": [{"name": 1.0}], "nextCursor": null}}),
        ) {
            Incoming::Message(message) => match *message {
                JsonRpcMessage::Response(response) => {
                    let text = unwrap_text(response.result).unwrap();
                    assert_eq!(text, r#"{"tools":[{"name":1.0}],"nextCursor":null}"#);
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn large_parameters_are_not_parsed() {
        let custom_params = |method: &str| {
            let params = json!({"message": "m", "requestedSchema": {"enum": vec!["x".repeat(1024); 5 * 1024]}});
            let message = json!({"jsonrpc": "2.0", "id": "q", "method": method, "params": params});
            match read_message(&message) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Request(request) => match request.request {
                        ServerRequest::CustomRequest(custom) => custom.params,
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        };
        let error = elicitation::read(&custom_params("elicitation/create").expect("a size")).expect_err("too large");
        assert!(error.message.ends_with(" bytes of parameters: at most 4194304"), "{error:?}");
        assert!(custom_params("sampling/createMessage").is_some_and(|params| params.is_object()));
        assert_eq!(custom_params("x/unknown"), None);
    }

    #[test]
    fn sampling_requests_keep_their_parameters() {
        let params = json!({"messages": [], "x-more": {"a": 1.0}, "_meta": {"k": 1}});
        let message = json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": params});
        match read_message(&message) {
            Incoming::Message(message) => match *message {
                JsonRpcMessage::Request(request) => match request.request {
                    ServerRequest::CustomRequest(custom) => {
                        assert_eq!((&*custom.method, custom.params), ("sampling/createMessage", Some(params)));
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}
