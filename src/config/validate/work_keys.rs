//! Reports tasks that have keys of more than one kind of work.

use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::schema::keys::TaskKeys;
use crate::config::schema::table::{CheckedTable, Key};

/// Reports the first of the keys in `others` that the task has, except for `own`, the key of its work.
pub(super) fn report_other_work(
    fields: CheckedTable<'_, TaskKeys>,
    own: &str,
    others: impl IntoIterator<Item = &'static Key<TaskKeys>>,
    help: &str,
    sink: &mut DiagnosticSink,
) {
    let mut others = others.into_iter().filter(|key| key.name != own);
    if let Some((key, at)) = others.find_map(|key| Some((key.name, fields.key_span(key)?))) {
        sink.error("two_works", at, format!("a task has `{own}` or `{key}`, not both")).help(help);
    }
}
