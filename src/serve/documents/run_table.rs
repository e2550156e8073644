//! A run as a table in HTML, for readers without scripts.

use std::fmt::Write as _;

use serde_json::Value;

use super::markdown::escaped;
use crate::view::page::{RowState, RunPage, TaskRow};
use crate::view::text::{format_elapsed, printable};

/// The maximum number of rows. More of them are hard to read without the page.
const MAX_ROWS: usize = 2_500;

/// Returns the run with its tasks. `header` is the header of its page.
pub(crate) fn run_table(page: &RunPage, header: &Value) -> String {
    let view = page.view();
    let mut html = format!("<main class=\"page prose\">\n<h1>{}</h1>\n", shown(view.plan_name()));
    let counts = page.counts();
    let end = view.ended_at().unwrap_or(view.last_event_at());
    let elapsed = view.started_at().map(|start| format_elapsed(end.since(start))).unwrap_or_default();
    let facts = [
        format!("Run {}: {}", view.run(), header["status"].as_str().unwrap_or_default()),
        format!("{} of {} tasks succeeded, {} failed", counts.succeeded, counts.total, counts.failed),
        elapsed,
    ];
    push(&mut html, format_args!("<p>{}</p>\n", shown(&facts.join(" · "))));
    if let Some(cause) = header["cause"].as_str() {
        push(&mut html, format_args!("<p>{}</p>\n", shown(cause)));
    }
    for problem in header["problems"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        push(&mut html, format_args!("<p>{}</p>\n", shown(problem)));
    }
    // It was cleaned where it was made.
    if let Some(answer) = header["answer_markdown_html"].as_str() {
        push(&mut html, format_args!("<section aria-label=\"Answer\">\n{answer}</section>\n"));
    }
    html.push_str("<table>\n<thead><tr><th>Task</th><th>State</th><th>Call</th><th>Duration</th><th>Remark</th></tr></thead>\n<tbody>\n");
    // What failed comes first if not everything fits.
    let total = page.rows().count();
    let fits = |row: &TaskRow| total <= MAX_ROWS || row.state == RowState::Failed || row.parent.is_none();
    let rows: Vec<&TaskRow> = page.rows().filter(|row| fits(row)).take(MAX_ROWS).collect();
    rows.iter().for_each(|row| push_row(&mut html, row));
    html.push_str("</tbody>\n</table>\n");
    if rows.len() < total {
        push(&mut html, format_args!("<p>The other {} tasks are on the page with scripts.</p>\n", total - rows.len()));
    }
    html.push_str("</main>\n");
    html
}

fn push_row(html: &mut String, row: &TaskRow) {
    let call: Vec<&str> = row.agent.iter().map(|agent| agent.as_str()).chain(row.tool.as_deref()).collect();
    let duration = row.started.zip(row.ended).map(|(start, end)| format_elapsed(end.since(start)));
    let remark = row.error.as_deref().or(row.reason.as_deref()).unwrap_or_default();
    let state = serde_json::to_value(row.state).unwrap_or_default();
    let name = if row.name == row.id.as_str() { row.name.clone() } else { format!("{} ({})", row.name, row.id) };
    push(
        html,
        format_args!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
            shown(&name),
            state.as_str().unwrap_or_default(),
            shown(&call.join(".")),
            duration.unwrap_or_default(),
            shown(remark)
        ),
    );
}

fn shown(text: &str) -> String {
    escaped(&printable(text))
}

fn push(html: &mut String, arguments: std::fmt::Arguments<'_>) {
    html.write_fmt(arguments).expect("a String takes every write");
}
