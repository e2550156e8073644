//! Reads what an agent sends: answers to calls, progress and questions become what the host works with, and everything
//! else becomes rmcp's messages, in the form that rmcp takes. Never acts on a message.

use std::borrow::Cow;

use rmcp::model::{
    CustomRequest, CustomResult, ErrorCode, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerRequest,
    ServerResult,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, json, value::RawValue};

use super::{
    calls::{Answer, number},
    lenient::{self, Members},
    link::LONGEST_LOG,
    result::{self, ToolResult},
    server_info,
};
use crate::model::{LogMessage, Progress};

/// What tells requests and notifications from answers, and the bytes in which it is looked for.
const METHOD: &[u8] = b"\"method\"";
const HEAD: usize = 64;
/// The code of the error that stands for an answer which cannot be read. No server sends it.
pub(super) const UNREADABLE: ErrorCode = ErrorCode(i32::MIN);

/// A message of an agent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The answer to the request of a call.
    Answer(i64, Answer),
    /// Progress of the request that has the token.
    Progress(RequestId, Progress),
    /// A line of its log.
    Log(LogMessage),
    /// Anything else.
    Message(Box<ServerJsonRpcMessage>),
    /// It answers an open request, and cannot be read.
    BadAnswer(RequestId, String),
    /// It answers a request that is not open.
    NotOpen(RequestId),
}

/// What kind of request waits for an answer, which decides how the answer is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A call of a tool, or the result of a task.
    Call,
    /// `initialize`.
    Initialize,
    /// `server/discover`.
    Discover,
    /// A request whose result is passed on as its JSON: `tools/list`, since the catalog reads each tool on its own.
    Text,
    /// Any other request.
    Other,
}

/// The requests whose answers may come.
pub(super) trait Requests {
    /// What kind of request the id belongs to, if that request is open.
    fn expected(&self, id: i64) -> Option<Expected>;
    /// The only request that is open, to which an answer without an id belongs.
    fn only(&self) -> Option<i64>;
}

/// The request whose response is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Only(pub(super) i64, pub(super) Expected);

impl Requests for Only {
    fn expected(&self, id: i64) -> Option<Expected> {
        (id == self.0).then_some(self.1)
    }

    fn only(&self) -> Option<i64> {
        Some(self.0)
    }
}

/// The members of a message as they came. `null` is absent; of a member that is repeated, the last counts.
#[derive(Default)]
struct Envelope<'a> {
    is_json_rpc: bool,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut envelope = Self::default();
        for (key, value) in Members::deserialize(deserializer)?.0 {
            let value = Some(value).filter(|value| value.get() != "null");
            match &*key {
                "jsonrpc" => envelope.is_json_rpc = true,
                "id" => envelope.id = value,
                "method" => envelope.method = value,
                "params" => envelope.params = value,
                "result" => envelope.result = value,
                "error" => envelope.error = value,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// The answer to a call, if it is no error: most messages are such answers.
#[derive(Deserialize)]
struct PlainAnswer<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    id: RequestId,
    method: Option<IgnoredAny>,
    #[serde(borrow)]
    result: ToolResult<'a>,
    error: Option<IgnoredAny>,
}

/// Reads the messages in a text: one as a rule, several where they came as an array or on one line.
///
/// # Errors
/// What is wrong with the text, if there is no message in it.
pub(super) fn read(text: &str, requests: &impl Requests) -> Result<Vec<Incoming>, String> {
    if let Some(answer) = plain_answer(text, requests) {
        return Ok(vec![answer]);
    }
    let text = lenient::strip_mark(text);
    let error = match serde_json::from_str::<Envelope<'_>>(text) {
        Ok(envelope) => return envelope.read(requests, Place::Alone).map(|message| vec![message]),
        Err(error) => error,
    };
    let read = |text: &str, place: Place| {
        let documents = lenient::documents(text);
        let envelopes = documents.iter().filter_map(|json| serde_json::from_str::<Envelope<'_>>(json.get()).ok());
        envelopes.filter_map(|envelope| envelope.read(requests, place).ok()).collect::<Vec<_>>()
    };
    let is_clean = text.starts_with('{') || serde_json::from_str::<Vec<&RawValue>>(text).is_ok();
    let messages = read(text, if is_clean { Place::Alone } else { Place::AmongText });
    if !messages.is_empty() {
        return Ok(messages);
    }
    if let Some(start) = text.find(['{', '['])
        && let Cow::Owned(repaired) = lenient::repair(&text[start..])
    {
        let messages = read(&repaired, if start == 0 { Place::Alone } else { Place::AmongText });
        if !messages.is_empty() {
            return Ok(messages);
        }
    }
    let why = lenient::not_json(&error);
    match lenient::response_id(text) {
        Some(id) if number(&id).and_then(|id| requests.expected(id)).is_some() => {
            Ok(vec![Incoming::BadAnswer(id, lenient::unreadable(why, text))])
        }
        _ => Err(why),
    }
}

/// Where a message was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing is around it.
    Alone,
    /// Other text is around it, which may be a log that repeats what this host sent.
    AmongText,
}

fn plain_answer(text: &str, requests: &impl Requests) -> Option<Incoming> {
    // What has a method says so early, as a rule; where it does not, reading it takes longer, and no more.
    let head = &text.as_bytes()[..text.len().min(HEAD)];
    if head.windows(METHOD.len()).any(|bytes| bytes == METHOD) {
        return None;
    }
    match serde_json::from_str(text).ok()? {
        PlainAnswer { jsonrpc, id, method: None, result, error: None } if jsonrpc == "2.0" => {
            let call = number(&id).filter(|id| requests.expected(*id) == Some(Expected::Call))?;
            Some(Incoming::Answer(call, Answer::Result(result.answered()?)))
        }
        _ => None,
    }
}

impl Envelope<'_> {
    fn read(self, requests: &impl Requests, place: Place) -> Result<Incoming, String> {
        let id = self.id.map(|id| lenient::value(id.get()).and_then(serde_json::from_value::<RequestId>));
        let id = id.transpose().map_err(|_| "its `id` is neither a number nor a string".to_owned())?;
        let method = self.method.and_then(|method| lenient::value(method.get()).ok());
        match (method, id) {
            (Some(Value::String(method)), id) => self.request(&method, id, place),
            (Some(_), _) => Err("its `method` is not a string".to_owned()),
            (None, Some(id)) => self.answer(id, requests),
            (None, None) if !self.is_json_rpc || (self.result.is_none() && self.error.is_none()) => {
                Err("it is not a JSON-RPC message".to_owned())
            }
            (None, None) => match requests.only() {
                Some(id) => self.answer(RequestId::Number(id), requests),
                None => Err("it does not say which request it answers".to_owned()),
            },
        }
    }

    fn answer(self, id: RequestId, requests: &impl Requests) -> Result<Incoming, String> {
        if self.result.is_none() && self.error.is_none() && !self.is_json_rpc {
            return Err("it is not a JSON-RPC message".to_owned());
        }
        let Some((request, expected)) = number(&id).and_then(|id| Some((id, requests.expected(id)?))) else {
            return Ok(Incoming::NotOpen(id));
        };
        Ok(match (self.result, self.error, expected) {
            (None, Some(error), Expected::Call) => Incoming::Answer(request, Answer::Error(read_error(error.get()))),
            (None, Some(error), _) => message(ServerJsonRpcMessage::error(read_error(error.get()), Some(id))),
            (Some(result), None, Expected::Call) => {
                Incoming::Answer(request, Answer::Result(result::parse(result.get())))
            }
            (Some(result), None, _) => match service_result(result.get(), expected) {
                Ok(result) => message(ServerJsonRpcMessage::response(result, id)),
                Err(reason) => Incoming::BadAnswer(id, lenient::unreadable(reason, result.get())),
            },
            (Some(result), Some(_), _) => {
                let reason = "it has both a `result` and an `error`";
                Incoming::BadAnswer(id, lenient::unreadable(reason, result.get()))
            }
            (None, None, _) => Incoming::BadAnswer(id, "it has neither a `result` nor an `error`".to_owned()),
        })
    }

    fn request(self, method: &str, id: Option<RequestId>, place: Place) -> Result<Incoming, String> {
        if place == Place::AmongText && !is_from_server(method) {
            return Err(format!("a server does not send `{method}`"));
        }
        let params = self.params.and_then(|params| lenient::value(params.get()).ok()).filter(Value::is_object);
        let unread = |params: Option<Value>| {
            // The parameters are optional members, and what is not an object is none.
            let mut message = json!({"jsonrpc": "2.0", "method": method});
            if let Some(id) = &id {
                message["id"] = json!(id);
            }
            if let Some(mut params) = params {
                if let Some(params) = params.as_object_mut() {
                    params.retain(|_, value| !value.is_null());
                }
                message["params"] = params;
            }
            let read = serde_json::from_value::<ServerJsonRpcMessage>(message);
            read.map(|message| Incoming::Message(Box::new(message))).map_err(|_| format!("`{method}` cannot be read"))
        };
        match (method, &id) {
            ("notifications/progress", None) => match params.as_ref().and_then(progress) {
                Some((token, progress)) => Ok(Incoming::Progress(token, progress)),
                None => Err("its progress has no token or no number".to_owned()),
            },
            ("notifications/message", None) => match self.params.map(|params| log(params.get())) {
                Some(message) => Ok(Incoming::Log(message)),
                None => Err("its log message is empty".to_owned()),
            },
            // By rmcp's types, the parameters would be read and written once more, and lose what is not known there.
            ("sampling/createMessage" | "elicitation/create", Some(id)) => {
                let request = ServerRequest::CustomRequest(CustomRequest::new(method, params));
                Ok(message(JsonRpcMessage::request(request, id.clone())))
            }
            _ => unread(params),
        }
    }
}

fn message(message: ServerJsonRpcMessage) -> Incoming {
    Incoming::Message(Box::new(message))
}

/// Whether only a server sends the method, so that it cannot be an echo of what this host sent.
fn is_from_server(method: &str) -> bool {
    matches!(
        method,
        "ping"
            | "roots/list"
            | "sampling/createMessage"
            | "elicitation/create"
            | "notifications/progress"
            | "notifications/message"
            | "notifications/tools/list_changed"
            | "notifications/resources/updated"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed"
    )
}

/// The result of a request of the service.
fn service_result(result: &str, expected: Expected) -> Result<ServerResult, String> {
    if expected == Expected::Text {
        return Ok(as_text(result));
    }
    let result = lenient::value(result).map_err(|error| lenient::not_json(&error))?;
    match expected {
        Expected::Initialize => server_info::initialize(result).map(ServerResult::InitializeResult),
        Expected::Discover => server_info::discover(result).map(ServerResult::DiscoverResult),
        Expected::Call | Expected::Text | Expected::Other => {
            serde_json::from_value(result).map_err(|_| "its result is of an unknown form".to_owned())
        }
    }
}

/// Stands for the answer to the request `id` of the service, which cannot be read.
pub(super) fn unreadable(id: RequestId, reason: String) -> ServerJsonRpcMessage {
    ServerJsonRpcMessage::error(ErrorData::new(UNREADABLE, reason, None), Some(id))
}

/// Wraps the JSON of a result, so that rmcp passes it on unread.
pub(super) fn as_text(result: &str) -> ServerResult {
    ServerResult::CustomResult(CustomResult(Value::String(result.to_owned())))
}

/// Returns the JSON that [`as_text`] wrapped.
pub(super) fn text_of(result: ServerResult) -> Result<String, Box<ServerResult>> {
    match result {
        ServerResult::CustomResult(CustomResult(Value::String(text))) => Ok(text),
        other => Err(Box::new(other)),
    }
}

/// Reads a JSON-RPC error; a bare string is its message.
pub(super) fn read_error(error: &str) -> ErrorData {
    match lenient::value(error) {
        Ok(error) => error_of(error),
        Err(_) => ErrorData::new(ErrorCode::INTERNAL_ERROR, error.to_owned(), None),
    }
}

/// Reads a JSON-RPC error from its JSON. A missing code is that of an internal error.
pub(super) fn error_of(mut error: Value) -> ErrorData {
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
    let said = text(&error).or_else(|| text(error.get("message")?)).or_else(|| text(error.get("error")?));
    let said = said.or_else(|| data.as_ref().and_then(text));
    let said = said.unwrap_or_else(|| lenient::unreadable("an error without a `message`", &error.to_string()));
    ErrorData::new(code, said, data)
}

fn progress(params: &Value) -> Option<(RequestId, Progress)> {
    let number = |key: &str| match params.get(key)? {
        Value::String(text) => text.trim().parse::<f64>().ok().filter(|number| number.is_finite()),
        value => value.as_f64(),
    };
    let token = serde_json::from_value(params.get("progressToken")?.clone()).ok()?;
    let message = params.get("message").and_then(Value::as_str).map(str::to_owned);
    Some((token, Progress { progress: number("progress")?, total: number("total"), message }))
}

/// Reads a message of the agent's log. Its data is for people, and cut where it is long.
fn log(params: &str) -> LogMessage {
    #[derive(Default)]
    struct Params<'a> {
        level: Option<&'a RawValue>,
        logger: Option<&'a RawValue>,
        data: Option<&'a RawValue>,
    }

    let members = serde_json::from_str::<Members<'_>>(params).map(|members| members.0).unwrap_or_default();
    let mut read = Params::default();
    for (key, value) in members {
        match &*key {
            "level" => read.level = Some(value),
            "logger" => read.logger = Some(value),
            "data" => read.data = Some(value),
            _ => {}
        }
    }
    let text = |value: Option<&RawValue>| match lenient::value(value?.get()) {
        Ok(Value::String(text)) => Some(text),
        _ => None,
    };
    let data = match read.data.map(RawValue::get) {
        None => Value::Null,
        Some(data) if data.len() > LONGEST_LOG && !data.starts_with('"') => {
            // Long data is kept as the beginning of its JSON, which need not be parsed.
            let mut beginning = data.chars().take(LONGEST_LOG).collect();
            super::truncate(&mut beginning, LONGEST_LOG);
            Value::String(beginning)
        }
        Some(data) => lenient::value(data).unwrap_or(Value::Null),
    };
    LogMessage { level: level(text(read.level).as_deref()), logger: text(read.logger), data }
}

/// The level of a log message, in MCP's words.
fn level(given: Option<&str>) -> String {
    let given = given.unwrap_or_default().trim().to_ascii_lowercase();
    match given.as_str() {
        "debug" | "info" | "notice" | "warning" | "error" | "critical" | "alert" | "emergency" => given,
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
    use crate::{
        mcp::result::Answered,
        model::{Block, ToolOutput},
    };

    /// Call 7 and requests of the service are open.
    struct Open;

    impl Requests for Open {
        fn expected(&self, id: i64) -> Option<Expected> {
            let open = [
                (7, Expected::Call),
                (1, Expected::Initialize),
                (2, Expected::Discover),
                (3, Expected::Text),
                (4, Expected::Other),
            ];
            open.into_iter().find(|(open, _)| *open == id).map(|(_, expected)| expected)
        }

        fn only(&self) -> Option<i64> {
            None
        }
    }

    fn one(text: &str) -> Incoming {
        let mut messages = read(text, &Open).unwrap();
        assert_eq!(messages.len(), 1, "{messages:?}");
        messages.remove(0)
    }

    fn read_of_call(message: &Value) -> Incoming {
        one(&message.to_string())
    }

    #[test]
    fn an_answer_to_a_call_is_read_at_once_whatever_its_id_is_written_as() {
        for id in [json!(7), json!("7")] {
            let result = json!({"content": [{"type": "text", "text": "hi"}], "x-more": 1.0});
            let output = ToolOutput { content: vec![Block::Text("hi".into())], structured: None, warning: None };
            match read_of_call(&json!({"result": result, "jsonrpc": "2.0", "id": id})) {
                Incoming::Answer(7, answer) => assert_eq!(answer, Answer::Result(Answered::Output(output))),
                other => panic!("{other:?}"),
            }
            let error = json!({"code": -32000, "message": "no", "data": {"a": 1}});
            match read_of_call(&json!({"jsonrpc": "2.0", "id": id, "error": error})) {
                Incoming::Answer(7, answer) => {
                    let error = ErrorData::new(rmcp::model::ErrorCode(-32000), "no", Some(json!({"a": 1})));
                    assert_eq!(answer, Answer::Error(error));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_named_with_its_id() {
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
            match one(text) {
                Incoming::BadAnswer(RequestId::Number(_), reason) => assert!(!reason.is_empty()),
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
            assert!(read(noise, &Open).is_err(), "{noise}");
        }
        let late = read_of_call(&json!({"jsonrpc": "2.0", "id": 9, "result": {}}));
        assert!(matches!(late, Incoming::NotOpen(RequestId::Number(9))));
    }

    #[test]
    fn a_result_and_an_error_where_one_is_null_is_the_other() {
        let result = json!({"jsonrpc": null, "id": 7, "result": {"content": []}, "error": null, "method": null});
        assert!(matches!(read_of_call(&result), Incoming::Answer(7, Answer::Result(Answered::Output(_)))));
        let error = |error: Value| {
            let message = json!({"jsonrpc": "2.0", "id": 7, "result": null, "error": error});
            match read_of_call(&message) {
                Incoming::Answer(7, Answer::Error(error)) => (error.code.0, error.message.into_owned()),
                other => panic!("{other:?}"),
            }
        };
        let said = |code: i32, message: &str| (code, message.to_owned());
        assert_eq!(error(json!({"code": -1, "message": "disk full", "data": null})), said(-1, "disk full"));
        assert_eq!(error(json!({"code": "-1", "message": "disk full"})), said(-1, "disk full"));
        assert_eq!(error(json!({"code": null, "message": "disk full"})), said(-32603, "disk full"));
        assert_eq!(error(json!("disk full")), said(-32603, "disk full"));
        assert_eq!(error(json!({"code": -2, "message": null, "data": "disk full"})), said(-2, "disk full"));
        assert_eq!(error(json!({"code": i32::MIN, "message": "m"})), said(-32603, "m"));
        assert!(error(json!({"code": -2})).1.contains("an error without a `message`"));
    }

    #[test]
    fn an_answer_without_an_id_belongs_to_the_only_request() {
        for text in [
            r#"{"jsonrpc": "2.0", "id": null, "error": {"code": -5, "message": "m"}}"#,
            r#"{"jsonrpc": "2.0", "error": {"code": -5, "message": "m"}, "result": null}"#,
        ] {
            match read(text, &Only(7, Expected::Call)).unwrap().as_slice() {
                [Incoming::Answer(7, Answer::Error(error))] => assert_eq!(error.code.0, -5),
                other => panic!("{other:?}"),
            }
        }
        assert!(read(r#"{"error": "no"}"#, &Only(7, Expected::Call)).is_err());
    }

    #[test]
    fn reads_answers_whose_defects_have_a_plain_meaning() {
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"hi"}]}}"#;
        let output = || ToolOutput { content: vec![Block::Text("hi".into())], structured: None, warning: None };
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
            match one(&text) {
                Incoming::Answer(7, Answer::Result(read)) => assert_eq!(read, Answered::Output(output()), "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for (written, expected) in [("a\tb", "a\tb"), (r"\ud800!", "\u{FFFD}!"), (r"\ud83d\ude00", "😀")] {
            match one(&answer.replace("hi", written)) {
                Incoming::Answer(7, Answer::Result(Answered::Output(output))) => assert_eq!(output.text(), expected),
                other => panic!("{other:?}"),
            }
        }
        let batch = format!(r#"[{{"jsonrpc":"2.0","method":"notifications/x","params":[]}},{answer}]"#);
        let messages = read(&batch, &Open).unwrap();
        assert!(matches!(messages.as_slice(), [Incoming::Message(_), Incoming::Answer(7, _)]), "{messages:?}");
    }

    #[test]
    fn a_log_beside_messages_is_not_taken_for_messages() {
        for noise in [
            r#"received {"jsonrpc":"2.0","id":7,"method":"tools/call","params":{}}"#,
            r#"{"level":"debug","sent":{"jsonrpc":"2.0","id":7,"result":{"content":[]}}}"#,
        ] {
            assert!(read(noise, &Open).is_err(), "{noise}");
        }
    }

    #[test]
    fn optional_members_of_requests_and_notifications_decide_nothing() {
        for params in [json!(null), json!([]), json!({}), json!({"_meta": null})] {
            let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": params});
            match read_of_call(&ping) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Request(request) => {
                        assert!(matches!(request.request, ServerRequest::PingRequest(_)), "{params}");
                    }
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
            let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params});
            match read_of_call(&changed) {
                Incoming::Message(message) => match *message {
                    JsonRpcMessage::Notification(news) => assert!(
                        matches!(news.notification, ServerNotification::ToolListChangedNotification(_)),
                        "{params}"
                    ),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            }
        }
        let params = json!({"progressToken": 7, "progress": "0.5", "total": null, "message": 7, "_meta": null});
        match read_of_call(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})) {
            Incoming::Progress(_, progress) => {
                assert_eq!(progress, Progress { progress: 0.5, total: None, message: None });
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_progress_with_any_token() {
        let progress = |token: &Value| {
            let params = json!({"progressToken": token, "progress": 1, "total": 2.5, "message": "m"});
            read_of_call(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
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
    fn reads_the_log_at_any_level() {
        let log = |params: Value| match read_of_call(
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
        let long = log(json!({"level": "info", "data": {"text": "é".repeat(LONGEST_LOG)}}));
        match long.data {
            Value::String(text) => {
                assert!(text.starts_with("{\"text\":\"éé") && text.len() <= LONGEST_LOG + '…'.len_utf8());
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_list_of_tools_is_passed_on_as_it_came() {
        match read_of_call(
            &json!({"jsonrpc": "2.0", "id": 3, "result": {"tools": [{"name": 1.0}], "nextCursor": null}}),
        ) {
            Incoming::Message(message) => match *message {
                JsonRpcMessage::Response(response) => {
                    let text = text_of(response.result).unwrap();
                    assert_eq!(text, r#"{"tools":[{"name":1.0}],"nextCursor":null}"#);
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_question_keeps_its_parameters_as_they_came() {
        let params = json!({"messages": [], "x-more": {"a": 1.0}, "_meta": {"k": 1}});
        let message = json!({"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": params});
        match read_of_call(&message) {
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
