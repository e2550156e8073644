//! Reports replans: tasks that are removed, kept, and added. Titles and reasons are always escaped.

use std::{collections::HashMap, sync::Arc};

use super::{LineKind, ReportLine, RunView, apply::line};
use crate::{
    model::{Failure, PlanPatch, Task, TaskId},
    view::text::{describe_task, truncated},
};

impl RunView {
    pub(super) fn replan_started(&mut self, number: u32, failed: &[TaskId]) -> Vec<ReportLine> {
        self.replanning = Some(number);
        let failed: Vec<_> = failed.iter().map(|id| format!("`{id}`")).collect();
        let text = format!("the rest is planned anew, without {}", failed.join(", "));
        vec![line(LineKind::Info, &subject(number), text)]
    }

    /// Returns the lines for a change that awaits approval.
    pub(super) fn replan_proposed(&mut self, number: u32, remainder: &PlanPatch) -> Vec<ReportLine> {
        self.replanning = None;
        self.change_lines(number, remainder)
    }

    pub(super) fn replanned(&mut self, number: u32, result: &Result<Arc<PlanPatch>, Failure>) -> Vec<ReportLine> {
        // A proposed change was already reported.
        let is_new = self.replanning.take().is_some();
        match result {
            Ok(remainder) => {
                let change = if is_new { self.change_lines(number, remainder) } else { Vec::new() };
                self.added_tasks.extend(remainder.added.iter().cloned());
                change
            }
            Err(failure) => {
                let mut reasons = failure.message.lines();
                let first = format!("nothing changes: {}", truncated(reasons.next().unwrap_or_default()));
                let mut lines = vec![line(LineKind::Failed, &subject(number), first)];
                lines.extend(reasons.map(|reason| line(LineKind::Info, &subject(number), truncated(reason))));
                if let Some(last) = lines.last_mut() {
                    last.help = failure.help.as_deref().map(truncated);
                }
                lines
            }
        }
    }

    /// Returns a line for each task that had not started, and for each added task.
    fn change_lines(&self, number: u32, remainder: &PlanPatch) -> Vec<ReportLine> {
        let planned: HashMap<_, _> = self.planned_tasks().map(|task| (&task.id, task)).collect();
        let known = |id: &TaskId| planned.get(id).map_or_else(|| id.to_string(), |task| describe_task(task));
        let removed = remainder.removed.iter().map(|id| format!("- {}", known(id)));
        let kept = remainder.kept.iter().map(|id| format!("  {}", known(id)));
        let added = remainder.added.iter().map(|task: &Arc<Task>| format!("+ {}", describe_task(task)));
        let mut texts: Vec<String> = removed.chain(kept).chain(added).collect();
        if remainder.kept.is_empty() && remainder.added.is_empty() {
            texts.push("nothing is left to do".to_owned());
        }
        texts.into_iter().map(|text| line(LineKind::Info, &subject(number), text)).collect()
    }
}

fn subject(number: u32) -> String {
    format!("replan {number}")
}
