//! Two runs side by side, task by task.

use indexmap::IndexSet;
use serde_json::{Value, json};

use super::header::{header_json, millis};
use crate::model::text::truncate_chars;
use crate::model::{TaskId, Timestamp};
use crate::serve::live::OpenPage;
use crate::ui::history::{RunDetails, RunsDiff};
use crate::view::page::TaskRow;
use crate::view::text::{printable, printable_text};

/// The maximum length of a value in the comparison, in characters.
const MAX_VALUE_CHARS: usize = 2_000;

/// Compares two runs as `kapell runs diff` does, which `details` are for.
pub(crate) fn comparison_json(pages: [&OpenPage; 2], details: [&RunDetails; 2], now: Timestamp) -> Value {
    let diff = serde_json::to_value(RunsDiff::new(details)).unwrap_or_default();
    let tasks: Vec<Value> = diff["tasks"].as_array().into_iter().flatten().map(|task| task_json(pages, task)).collect();
    let values = |of: fn(&OpenPage) -> Value| values_json(pages.map(of));
    json!({
        "a": header_json(pages[0], now),
        "b": header_json(pages[1], now),
        "same": diff["same"],
        "tasks": tasks,
        "inputs": values(|open| open.page().view().start().map_or(Value::Null, |(_, inputs)| inputs.clone())),
        "outputs": values(|open| json!(open.page().view().result().outputs)),
    })
}

fn task_json(pages: [&OpenPage; 2], diff: &Value) -> Value {
    let id = TaskId::from(diff["task"].as_str().unwrap_or_default());
    let rows = pages.map(|open| open.page().row(&id));
    let side = |index: usize| {
        let row: &TaskRow = rows[index]?;
        let result = pages[index].page().view().task_result(&id);
        let output = result.and_then(|result| result.output.as_ref()).map(|output| output.value().into_owned());
        let text = row.error.clone().or_else(|| row.reason.clone()).or_else(|| output.as_ref().map(value_text));
        let elapsed = row.started.zip(row.ended).map(|(start, end)| millis(end.since(start)));
        Some(json!({"status": row.state, "agent": row.agent, "ms": elapsed, "text": text.unwrap_or_default()}))
    };
    let name = rows.iter().flatten().next().map_or_else(|| printable(id.as_str()).into_owned(), |row| row.name.clone());
    let mut object = json!({"id": id, "name": name, "a": side(0), "b": side(1), "same": diff["same"]});
    if diff["reused"] == true {
        object["reused"] = true.into();
    }
    object
}

/// Compares the members of two objects.
fn values_json(values: [Value; 2]) -> Value {
    let names: IndexSet<&String> =
        values.iter().filter_map(Value::as_object).flat_map(|members| members.keys()).collect();
    let compare = |name: &String| {
        let [a, b] = values.each_ref().map(|values| values.get(name));
        json!({"name": printable(name), "a": a.map(value_text), "b": b.map(value_text), "same": a == b})
    };
    names.into_iter().map(compare).collect()
}

fn value_text(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| serde_json::to_string_pretty(value).unwrap_or_default(), str::to_owned);
    printable_text(&truncate_chars(&text, MAX_VALUE_CHARS)).into_owned()
}
