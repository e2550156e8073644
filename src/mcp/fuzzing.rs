//! Entry points for fuzzing of what agents send; see `crate::fuzzing`.

use serde_json::Value;

use crate::mcp::message::codec::{self, ExpectedResult, SingleRequest};
use crate::mcp::requests::elicitation;
use crate::mcp::transport::sse::EventParser;
use crate::model::Form;

pub(crate) fn message(text: &str) {
    let expected = [
        ExpectedResult::Call,
        ExpectedResult::Initialize,
        ExpectedResult::Discover,
        ExpectedResult::Text,
        ExpectedResult::Other,
    ];
    for expected in expected {
        if let Ok(messages) = codec::read(text, &SingleRequest(1, expected)) {
            assert!(!messages.is_empty(), "a text without a message is an error");
        }
    }
}

pub(crate) fn event_stream(bytes: &[u8]) {
    let read = |size: usize| {
        let mut parser = EventParser::default();
        let events: Vec<_> = bytes.chunks(size).flat_map(|chunk| parser.push(chunk)).collect();
        (events, parser.finish())
    };
    let expected = read(bytes.len().max(1));
    for size in [1, 2, 7] {
        assert_eq!(read(size), expected, "in chunks of {size}");
    }
    for data in expected.0.iter().filter_map(|event| event.data.as_deref()) {
        message(data);
    }
}

/// Returns the form of a question, unless the question is refused.
pub(crate) fn elicitation(params: &Value) -> Option<Form> {
    elicitation::read(params).ok().map(|elicitation| elicitation.form)
}
