//! Reads when a plan runs by itself.

use std::sync::Arc;

use indexmap::IndexMap;

use crate::config::diagnostics::diagnostic::Diagnostics;
use crate::config::diagnostics::sink::DiagnosticSink;
use crate::config::diagnostics::source::SourceFile;
use crate::config::schema::keys::{PLAN, PlanKeys, SCHEDULE};
use crate::config::schema::table::{self, CheckedTable, ValueType};
use crate::config::yaml::parser;
use crate::model::{InputSpec, Schedule, ScheduleError};

/// Returns when the plan in the text of a plan file runs by itself. Checks nothing else but the form of the file.
///
/// # Errors
/// Returns the errors of the file.
pub fn read_schedule(name: &str, text: &str) -> Result<Option<Schedule>, Diagnostics> {
    let source = Arc::new(SourceFile::new(name, parser::normalize(text).into_owned()));
    let mut sink = DiagnosticSink::new("plan", Arc::clone(&source));
    let Some(root) = parser::read_tree(&source.text, &mut sink) else { return Err(sink.finish()) };
    table::check_value(&root, &ValueType::Table(&PLAN.table), &"the file", &mut sink);
    let schedule = read(CheckedTable::new(&root), &IndexMap::new(), &mut sink);
    if sink.has_errors() { Err(sink.finish()) } else { Ok(schedule) }
}

/// Reads the schedule of a plan with these inputs.
pub(super) fn read(
    plan: CheckedTable<'_, PlanKeys>,
    inputs: &IndexMap<String, InputSpec>,
    sink: &mut DiagnosticSink,
) -> Option<Schedule> {
    let node = plan.node(&PLAN.schedule)?;
    let fields = CheckedTable::new(node);
    let (cron, cron_node) = match node.as_text() {
        Some(text) => (text, node),
        None => (fields.text(&SCHEDULE.cron)?, fields.node(&SCHEDULE.cron)?),
    };
    let is_text = node.as_text().is_some();
    let timezone = fields.node(&SCHEDULE.timezone).filter(|_| !is_text);
    let schedule = Schedule {
        cron: cron.to_owned(),
        timezone: timezone.and_then(|node| node.as_text()).map(str::to_owned),
        missed: fields.choice(&SCHEDULE.missed).filter(|_| !is_text).unwrap_or_default(),
    };
    if let Err(error) = schedule.occurrences() {
        let (at, help) = match &error {
            ScheduleError::Cron { .. } => (cron_node, "write it like `0 7 * * 1-5`: minute, hour, day, month, weekday"),
            ScheduleError::Never(_) => (cron_node, "check the day and the month"),
            ScheduleError::TimeZone(_) => {
                (timezone.unwrap_or(node), "use a name of the IANA database, such as `Europe/Berlin`")
            }
        };
        sink.error("schedule", at.span, error.to_string()).help(help);
    }
    let unset = inputs.iter().find(|(_, spec)| spec.required && spec.from_env.is_none());
    if let Some((name, _)) = unset {
        let message = format!("a plan with a `schedule` runs without a person, and its input `{name}` is required");
        sink.error("schedule_input", node.span, message).help(format!("set a `default` of `{name}`"));
    }
    Some(schedule)
}
