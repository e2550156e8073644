//! The documents of the API: JSON made from the events of runs.

mod comparison;
mod event;
mod exchanges;
mod form;
mod header;
mod markdown;
mod metrics;
mod plan_document;
mod question;
mod run_document;
mod run_table;
mod task_document;
mod task_output;
mod trace;

pub(super) use comparison::comparison_json;
pub(super) use event::event_json;
pub(super) use form::{input_fields, inputs_schema};
pub(super) use markdown::escaped as escaped_html;
pub(super) use metrics::metrics_text;
pub(super) use plan_document::plan_json;
pub(super) use run_document::{patch_json, snapshot_json};
pub(super) use run_table::run_table;
pub(super) use task_document::task_json;
pub(super) use task_output::is_inline_image;
