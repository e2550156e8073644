//! An event in words and as JSON.

use serde_json::{Value, json};

use crate::model::Record;
use crate::view::RunView;
use crate::view::phrasebook::describe;
use crate::view::report_line::Verbosity;

/// Returns an event: `{seq, at, type, text, event}`. `before` is the view of the run before it, on which the words depend.
pub(crate) fn event_json(before: &RunView, record: &Record) -> Value {
    let lines = describe(before, record, Verbosity::EveryEvent);
    let text: Vec<String> = lines.iter().map(|line| format!("{}: {}", line.subject, line.text)).collect();
    let event = serde_json::to_value(&record.event).unwrap_or_default();
    json!({"seq": record.seq, "at": record.at, "type": event["type"], "text": text.join("\n"), "event": event})
}
