//! Reads what an agent sends: answers to calls, progress and questions at once into what the house works with, and
//! everything else as rmcp's messages, whose types are tried one after the other.
//! Never acts on it.

use std::borrow::Cow;

use rmcp::model::{CustomRequest, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage, ServerRequest};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::{Value, value::RawValue};

use super::{
    calls::{Answer, number},
    handler::log_message,
    raw,
    result::{self, ToolResult},
};
use crate::model::{LogMessage, Progress};

/// What tells requests and notifications from answers, and the bytes in which it is looked for.
const METHOD: &[u8] = b"\"method\"";
const HEAD: usize = 64;

/// A message of an agent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// What came of the request of a call.
    Answer(i64, Answer),
    /// Progress of the request that has the token.
    Progress(RequestId, Progress),
    /// A line of its log.
    Log(LogMessage),
    /// Anything else.
    Message(Box<ServerJsonRpcMessage>),
    /// It answers a request, but not as JSON-RPC wants it.
    BadAnswer(RequestId, String),
}

/// A message, with its parts as they came.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Cow<'a, str>,
    id: Option<RequestId>,
    /// Empty where there is none.
    #[serde(borrow, default)]
    method: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "given")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    error: Option<&'a RawValue>,
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

/// What is there, `null` included.
fn given<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProgressParams {
    progress_token: RequestId,
    progress: f64,
    total: Option<f64>,
    message: Option<String>,
}

/// Reads a message; `is_call` says whether an id is that of a request of a call that waits for its answer.
///
/// # Errors
/// What is wrong with it, if it is no message.
pub(super) fn read(text: &str, is_call: impl Fn(i64) -> bool) -> Result<Incoming, serde_json::Error> {
    if let Some(answer) = plain_answer(text, &is_call) {
        return Ok(answer);
    }
    let envelope = serde_json::from_str::<Envelope<'_>>(text).ok().filter(|envelope| envelope.jsonrpc == "2.0");
    if let Some(read) = envelope.and_then(|envelope| at_once(envelope, &is_call)) {
        return Ok(read);
    }
    let error = match serde_json::from_slice::<ServerJsonRpcMessage>(&raw::save(text.as_bytes())) {
        Ok(message) => return Ok(Incoming::Message(Box::new(message))),
        Err(error) => error,
    };
    if let Ok(Value::Object(object)) = serde_json::from_str(text)
        && !object.contains_key("method")
        && (object.contains_key("result") || object.contains_key("error"))
        && let Some(Ok(id)) = object.get("id").map(|id| serde_json::from_value(id.clone()))
    {
        return Ok(Incoming::BadAnswer(id, error.to_string()));
    }
    Err(error)
}

fn plain_answer(text: &str, is_call: impl Fn(i64) -> bool) -> Option<Incoming> {
    // What has a method says so early, as a rule; where it does not, reading it takes longer, and no more.
    let head = &text.as_bytes()[..text.len().min(HEAD)];
    if head.windows(METHOD.len()).any(|bytes| bytes == METHOD) {
        return None;
    }
    match serde_json::from_str(text).ok()? {
        PlainAnswer { jsonrpc, id, method: None, result, error: None } if jsonrpc == "2.0" => {
            let call = number(&id).filter(|id| is_call(*id))?;
            Some(Incoming::Answer(call, Answer::Result(result.answered()?)))
        }
        _ => None,
    }
}

fn at_once(envelope: Envelope<'_>, is_call: impl Fn(i64) -> bool) -> Option<Incoming> {
    let Envelope { id, method, params, result, error, .. } = envelope;
    match (&*method, id) {
        ("", Some(id)) => {
            let call = number(&id).filter(|id| is_call(*id))?;
            match (result, error) {
                (Some(result), None) => Some(Incoming::Answer(call, Answer::Result(result::parse(result.get())))),
                (None, Some(error)) => Some(match serde_json::from_str::<ErrorData>(error.get()) {
                    Ok(error) => Incoming::Answer(call, Answer::Error(error)),
                    Err(error) => Incoming::BadAnswer(id, error.to_string()),
                }),
                _ => Some(Incoming::BadAnswer(id, "it needs either a `result` or an `error`".to_owned())),
            }
        }
        ("notifications/progress", None) => {
            let ProgressParams { progress_token, progress, total, message } =
                serde_json::from_str(params?.get()).ok()?;
            Some(Incoming::Progress(progress_token, Progress { progress, total, message }))
        }
        ("notifications/message", None) => {
            serde_json::from_str(params?.get()).ok().map(|params| Incoming::Log(log_message(params)))
        }
        // By rmcp's types, the parameters would be read and written once more, and lose what is not known there.
        ("sampling/createMessage" | "elicitation/create", Some(id)) => {
            let params = params.map(|params| serde_json::from_str(params.get())).transpose().ok()?;
            let request = ServerRequest::CustomRequest(CustomRequest::new(method, params));
            Some(Incoming::Message(Box::new(JsonRpcMessage::request(request, id))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        mcp::result::Answered,
        model::{Block, ToolOutput},
    };

    fn read_of_call(message: &Value) -> Incoming {
        read(&message.to_string(), |id| id == 7).unwrap()
    }

    #[test]
    fn an_answer_to_a_call_is_read_at_once_whatever_its_id_is_written_as() {
        for id in [json!(7), json!("7")] {
            let result = json!({"content": [{"type": "text", "text": "hi"}], "x-more": 1.0});
            let output = ToolOutput { content: vec![Block::Text("hi".into())], structured: None };
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
    fn an_answer_to_a_call_that_is_none_is_said_to_be_bad() {
        for message in [
            json!({"jsonrpc": "2.0", "id": 7}),
            json!({"jsonrpc": "2.0", "id": 7, "result": {}, "error": {"code": 1, "message": "m"}}),
            json!({"jsonrpc": "2.0", "id": 7, "error": "no"}),
            json!({"id": 7, "result": {}}),
            json!({"jsonrpc": "1.0", "id": 7, "result": {"content": []}}),
        ] {
            assert!(matches!(read_of_call(&message), Incoming::BadAnswer(RequestId::Number(7), _)), "{message}");
        }
        let nothing = read_of_call(&json!({"jsonrpc": "2.0", "id": 7, "result": null}));
        assert!(matches!(nothing, Incoming::Answer(7, Answer::Result(Answered::Other(_)))));
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
    fn reads_the_log_and_leaves_what_it_does_not_know_to_the_library() {
        let log = |level: &str| {
            let params = json!({"level": level, "logger": "l", "data": {"a": 1.0}});
            read_of_call(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params}))
        };
        match log("warning") {
            Incoming::Log(message) => {
                let (level, logger) = ("warning".to_owned(), Some("l".to_owned()));
                assert_eq!(message, LogMessage { level, logger, data: json!({"a": 1.0}) });
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(log("loud"), Incoming::Message(_)));
        let other = read_of_call(&json!({"jsonrpc": "2.0", "id": 8, "result": {"content": []}}));
        assert!(matches!(other, Incoming::Message(message) if matches!(*message, JsonRpcMessage::Response(_))));
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
