//! A run as one HTML file that opens without a server: the page, and the responses of the API that it would request.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::assets::{SCRIPT, STYLE};
use super::documents::{escaped_html, event_json, run_table, snapshot_json, task_json};
use super::live::{OpenPage, RunRecord};
use super::serve_error::ServeError;
use super::settings::AgentsSource;
use crate::journal::Store;
use crate::model::{RunId, TaskId, Timestamp};
use crate::view::RunView;
use crate::view::page::{RowState, RunPage, TaskRow};

/// The size of a report up to which tasks in full and events are added. A report is sent by mail, and opens on a phone.
const MAX_REPORT_BYTES: usize = 2_900_000;
/// The part of the remaining size that events may take.
const EVENTS_SHARE: usize = 3;
/// The number of tasks that do not fit, one after another, from which no further ones are tried.
const MAX_MISSES: usize = 50;

/// The characters that the page does not encode in a path.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'(')
    .remove(b')');

/// Returns a run as HTML.
///
/// # Errors
/// Returns an error if the run cannot be read.
pub fn report_html(
    (store, content_root): (&dyn Store, &Path),
    agents: &dyn AgentsSource,
    run: &RunId,
    now: Timestamp,
) -> Result<String, ServeError> {
    let mut open = OpenPage::open(store, run, content_root)?;
    open.update()?;
    let mut record = RunRecord::open((store, content_root), run)?;
    record.update(agents)?;
    let written = record.agent_output(|_| true);
    let path = format!("/api/runs/{run}");
    let snapshot = without_actions(snapshot_json(&open, now));
    let table = run_table(&record.page, &snapshot["run"]);
    let used = SCRIPT.len() + STYLE.len() + table.len() + embedded_size(&snapshot);
    let mut remaining = MAX_REPORT_BYTES.saturating_sub(used);
    let events = events(run, &record, remaining / EVENTS_SHARE);
    remaining = remaining.saturating_sub(embedded_size(&events));
    let mut responses = Map::new();
    responses.insert(path.clone(), snapshot);
    responses.insert(format!("{path}/events"), json!({"events": events}));
    let mut misses = 0;
    for row in rows_by_weight(&record.page) {
        // Describing a task takes as long as the run has events.
        if misses > MAX_MISSES {
            break;
        }
        let task = without_links(task_json(row, &record, &written));
        let path = format!("{path}/tasks/{}", encoded(&row.id));
        let size = path.len() + embedded_size(&task);
        if size > remaining {
            misses += 1;
            continue;
        }
        (remaining, misses) = (remaining - size, 0);
        responses.insert(path, task);
    }
    let title = format!("{} · {}", record.page.view().plan_name(), run.short());
    Ok(document(&title, &table, &json!({"run": run, "responses": responses})))
}

/// Returns the size of a value in the document, with its commas.
fn embedded_size(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(0, |text| embedded(&text).len() + 4)
}

/// Returns JSON so that it cannot end the element that it is in.
fn embedded(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// Returns the rows, those first that a reader looks for: what failed, then the tasks of the plan.
fn rows_by_weight(page: &RunPage) -> Vec<&TaskRow> {
    let mut rows: Vec<&TaskRow> = page.rows().collect();
    rows.sort_by_key(|row| (row.state != RowState::Failed, row.parent.is_some()));
    rows
}

/// Returns the first events, in at most `remaining` bytes.
fn events(run: &RunId, sources: &RunRecord, mut remaining: usize) -> Vec<Value> {
    let (mut view, mut events) = (RunView::new(run), Vec::new());
    for record in &sources.records {
        // Without its plan and its results, which are elsewhere in the report.
        let mut event = event_json(&view, record);
        event["event"] = json!({"type": event["type"]});
        view.apply(record);
        let size = embedded_size(&event);
        if size > remaining {
            break;
        }
        remaining -= size;
        events.push(event);
    }
    events
}

/// Nothing can be done in a report.
fn without_actions(mut snapshot: Value) -> Value {
    snapshot["run"]["can"] = json!({"cancel": false, "resume": false, "retry": false});
    snapshot
}

/// Removes addresses of files, which only a server has.
fn without_links(mut task: Value) -> Value {
    let Some(output) = task.get_mut("output") else { return task };
    if let Some(images) = output["images"].as_array_mut() {
        images.retain(|image| image["url"].as_str().is_some_and(|url| url.starts_with("data:")));
    }
    for file in output["files"].as_array_mut().into_iter().flatten() {
        if let Some(members) = file.as_object_mut() {
            members.shift_remove("url");
        }
    }
    task
}

fn encoded(id: &TaskId) -> String {
    // The quotation mark that the page leaves as it is.
    utf8_percent_encode(id.as_str(), PATH_SEGMENT).to_string().replace("%27", "'")
}

fn document(title: &str, table: &str, data: &Value) -> String {
    // The end of a script cannot be in one. In a string or a pattern, the two are the same.
    let script = SCRIPT.replace("</script", "<\\/script").replace("<!--", "<\\!--");
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data: blob:; base-uri 'none'; form-action 'none'",
        hash(&script),
        hash(STYLE)
    );
    let data = embedded(&data.to_string());
    let title = escaped_html(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<div id=\"app\"></div>\n\
         <noscript>\n{table}</noscript>\n\
         <script type=\"application/json\" id=\"kapell-report\">{data}</script>\n\
         <script type=\"module\">{script}</script>\n</body>\n</html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_its_element() {
        let html = document(
            "</title><script>alert(1)</script>",
            "",
            &json!({"a": "</script><script>alert(1)</script>\u{2028}"}),
        );
        let ends = html.matches("</script").count();
        assert_eq!((ends, html.matches("<script").count()), (2, 2));
        assert!(!html.contains("<script>alert"));
    }

    #[test]
    fn paths_are_encoded_as_the_page_encodes_them() {
        assert_eq!(encoded(&"each[2].ask/1".into()), "each%5B2%5D.ask%2F1");
        assert_eq!(encoded(&"a'b(c)!*~".into()), "a'b(c)!*~");
    }
}
